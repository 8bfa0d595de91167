"""The life of a recording: each path and race as a list comparison, and what holds for all."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
)

from engine.lifecycle import CAMERA_RETRY_S, DRAIN_S, START_S, STOP_S, Phase, RestartLimits
from engine.lifecycle import Lifecycle as Machine
from engine.steps import (
    Action,
    AllocateRing,
    Announce,
    BeginStream,
    CancelTimer,
    Conclude,
    EndStream,
    Event,
    FinishRecording,
    Kill,
    OpenPart,
    OpenSource,
    PartEnded,
    PartGone,
    PartReady,
    Problem,
    RetirePart,
    RingReady,
    RingRefused,
    Role,
    SetTimer,
    SourceHeard,
    SourceReady,
    SourceSilent,
    StartRequested,
    StartWorker,
    StopRequested,
    StreamOver,
    TimerFired,
    WorkerGone,
    WorkerRefused,
    WorkerSilent,
)

FULL = Problem("disk", "The disk is full.")
NO_CODEC = Problem("encoder", "No such codec.")
NO_CAMERA = Problem("camera", "There is no camera.")

START = [
    StartWorker("capture"),
    OpenSource(),
    StartWorker("encoder"),
    SetTimer("start", START_S),
]
DRAIN = [
    CancelTimer("stop"),
    CancelTimer("duration"),
    CancelTimer("camera_return"),
    CancelTimer("camera_retry"),
    FinishRecording(),
    SetTimer("drain", DRAIN_S),
]
STOP = [EndStream(), SetTimer("stop", STOP_S)]
SEALED = [Announce("part_sealed"), Conclude(started=True, problem=None)]
BACK = [CancelTimer("camera_return"), CancelTimer("camera_retry"), Announce("camera_back")]
RESTART_CAPTURE = [
    Announce("worker_restarted", "capture ended with code -9"),
    StartWorker("capture"),
    OpenSource(),
    SetTimer("forgive:capture", 60.0),
]
RESTART_ENCODER = [
    Announce("worker_restarted", "encoder ended with code -9"),
    RetirePart(),
    StartWorker("encoder"),
    SetTimer("forgive:encoder", 60.0),
    OpenPart(),
]


def run(machine: Machine, *events: Event) -> list[list[Action]]:
    """The actions for each of some events."""
    return [machine.handle(event) for event in events]


def started(**settings_: object) -> Machine:
    """A machine whose workers are starting."""
    machine = Machine(**settings_)  # type: ignore[arg-type]
    machine.handle(StartRequested())
    return machine


def recording(**settings_: object) -> Machine:
    """A machine that records."""
    machine = started(**settings_)
    run(machine, SourceReady(), RingReady(), PartReady())
    assert machine.phase is Phase.RECORDING
    return machine


def stopping() -> Machine:
    """A machine whose source was told to stop."""
    machine = recording()
    machine.handle(StopRequested())
    assert machine.phase is Phase.STOPPING
    return machine


def draining(**settings_: object) -> Machine:
    """A machine whose encoder was told to finish."""
    machine = recording(**settings_)
    run(machine, StopRequested(), StreamOver("stopped"), WorkerGone("capture", 0))
    assert machine.phase is Phase.DRAINING
    return machine


# --- the usual path ---------------------------------------------------------------------------


def test_from_start_to_seal() -> None:
    """Both workers start at once, the ring follows the source, the stream follows the part."""
    machine = Machine()
    assert run(
        machine,
        StartRequested(),
        SourceReady(),
        RingReady(),
        PartReady(),
        StopRequested(),
        StreamOver("stopped"),
        WorkerGone("capture", 0),
        PartEnded(last=True),
    ) == [
        START,
        [AllocateRing()],
        [OpenPart()],
        [CancelTimer("start"), Announce("recording_started"), BeginStream()],
        STOP,
        DRAIN,
        [],
        SEALED,
    ]
    assert machine.phase is Phase.DONE


def test_the_sources_own_end() -> None:
    """A limit or the end of a file drains at once: there is nothing to stop."""
    machine = recording()
    assert run(machine, StreamOver("limit"), WorkerGone("capture", 0), PartEnded(last=True)) == [
        DRAIN,
        [],
        SEALED,
    ]


def test_a_set_duration_stops_as_a_request_does() -> None:
    """The timer is set when the recording begins, not while it starts."""
    machine = started(duration_s=5.0)
    *_, begun = run(machine, SourceReady(), RingReady(), PartReady())
    assert begun[-1] == SetTimer("duration", 5.0)
    assert machine.handle(TimerFired("duration")) == STOP


def test_a_second_stop_changes_nothing() -> None:
    """Stop is idempotent in every phase after it."""
    machine = stopping()
    assert machine.handle(StopRequested()) == []
    machine.handle(StreamOver("stopped"))
    assert machine.handle(StopRequested()) == []
    machine.handle(PartEnded(last=True))
    assert machine.handle(StopRequested()) == []


def test_frames_of_another_size_open_the_next_part() -> None:
    """A part that ends before the last is followed by another, and the stream goes on."""
    machine = recording()
    assert run(machine, PartEnded(last=False), PartReady()) == [
        [Announce("part_sealed"), OpenPart()],
        [Announce("part_opened")],
    ]
    assert machine.phase is Phase.RECORDING


def test_after_the_end_nothing_happens() -> None:
    """Whatever still comes in after the conclusion is nobody's business."""
    machine = draining()
    machine.handle(PartEnded(last=True))
    late: list[Event] = [
        StopRequested(),
        SourceReady(),
        PartReady(),
        PartGone(FULL),
        WorkerGone("encoder", -9),
        WorkerGone("capture", -9),
        TimerFired("drain"),
        RingRefused(FULL),
    ]
    assert run(machine, *late) == [[]] * len(late)


# --- starts that fail -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        (WorkerRefused("encoder", NO_CODEC), NO_CODEC),
        (WorkerRefused("capture", NO_CAMERA), NO_CAMERA),
        (RingRefused(FULL), FULL),
        (PartGone(FULL), FULL),
    ],
)
def test_a_refused_start_concludes_unstarted(event: Event, problem: Problem) -> None:
    """What cannot begin says so and leaves nothing."""
    machine = started()
    machine.handle(SourceReady())
    assert machine.handle(event) == [Conclude(started=False, problem=problem)]


def test_a_start_that_takes_too_long_is_given_up() -> None:
    """The start timer ends it; once recording, the same timer means nothing."""
    [conclude] = started().handle(TimerFired("start"))
    assert isinstance(conclude, Conclude)
    assert not conclude.started
    assert recording().handle(TimerFired("start")) == []


def test_stop_during_start_gives_a_short_recording() -> None:
    """The stop is kept until there is something to stop, so a file comes of it."""
    machine = started()
    assert run(machine, StopRequested(), SourceReady(), RingReady(), PartReady()) == [
        [],
        [AllocateRing()],
        [OpenPart()],
        [CancelTimer("start"), Announce("recording_started"), BeginStream(), *STOP],
    ]


def test_an_encoder_that_dies_while_starting_is_started_again() -> None:
    """Before the ring has its memory there is no part to open yet."""
    machine = started()
    *without_part, open_part = RESTART_ENCODER
    assert machine.handle(WorkerGone("encoder", -9)) == without_part
    assert run(machine, SourceReady(), RingReady()) == [[AllocateRing()], [open_part]]
    assert machine.handle(WorkerGone("encoder", -9)) == RESTART_ENCODER


def test_a_capture_that_dies_while_starting_is_started_again() -> None:
    """The ring is not allocated twice, and the stream begins once the source is open again."""
    machine = started()
    assert run(
        machine,
        SourceReady(),
        RingReady(),
        WorkerGone("capture", -9),
        PartReady(),
        SourceReady(),
    ) == [
        [AllocateRing()],
        [OpenPart()],
        RESTART_CAPTURE,
        [CancelTimer("start"), Announce("recording_started")],
        [BeginStream()],
    ]


def test_a_file_source_that_dies_while_starting_ends_the_start() -> None:
    """It would begin again at its first frame, so it is not started again."""
    *_, conclude = started(source_restarts=False).handle(WorkerGone("capture", 70))
    assert isinstance(conclude, Conclude)
    assert not conclude.started
    assert conclude.problem is not None


# --- capture dies -----------------------------------------------------------------------------


def test_a_dead_capture_is_started_again() -> None:
    """The stream goes on into the same part."""
    machine = recording()
    assert run(machine, WorkerGone("capture", -9), SourceReady()) == [
        RESTART_CAPTURE,
        [BeginStream()],
    ]


def test_capture_dies_while_stopping() -> None:
    """There is nothing to stop any more: the encoder drains what was published."""
    machine = stopping()
    assert machine.handle(WorkerGone("capture", -9)) == DRAIN


def test_stop_while_capture_is_being_started_again() -> None:
    """The new one is told to end; whichever comes first, its end or its source, drains."""
    machine = recording()
    machine.handle(WorkerGone("capture", -9))
    assert run(machine, StopRequested(), SourceReady(), StreamOver("stopped")) == [
        STOP,
        [EndStream()],
        DRAIN,
    ]


def test_a_capture_that_does_not_stop_is_killed() -> None:
    """Its death then drains."""
    machine = stopping()
    assert run(machine, TimerFired("stop"), WorkerGone("capture", -9)) == [
        [Announce("worker_hung", "capture did not stop"), Kill("capture")],
        DRAIN,
    ]


def test_capture_gone_for_good_drains_and_names_the_reason() -> None:
    """After the last restart the recording is sealed, not dropped, and says why it ended."""
    machine = recording(limits=RestartLimits(max_restarts=1, window_s=60.0))
    assert machine.handle(WorkerGone("capture", -9)) == RESTART_CAPTURE
    died = Problem("worker", "The capture process died (exit code -9).")
    assert run(machine, WorkerGone("capture", -9), PartEnded(last=True)) == [
        [Announce("error", died.message), *DRAIN],
        [Announce("part_sealed"), Conclude(started=True, problem=died)],
    ]


def test_capture_gone_for_good_while_the_encoder_restarts() -> None:
    """No part is open just then: the next encoder is told to drain all the same."""
    machine = recording(source_restarts=False)
    died = "The capture process died (exit code -9)."
    assert run(machine, WorkerGone("encoder", -9), WorkerGone("capture", -9)) == [
        RESTART_ENCODER,
        [Announce("error", died), *DRAIN],
    ]


def test_a_quiet_window_forgives_deaths() -> None:
    """Deaths far apart do not add up."""
    machine = recording(limits=RestartLimits(max_restarts=1, window_s=60.0))
    for _ in range(5):
        assert machine.handle(WorkerGone("capture", -9)) == RESTART_CAPTURE
        assert machine.handle(TimerFired("forgive:capture")) == []


def test_a_silent_worker_is_killed() -> None:
    """Its exit then leads on as any other death."""
    machine = recording()
    assert machine.handle(WorkerSilent("encoder")) == [
        Announce("worker_hung", "encoder does not answer"),
        Kill("encoder"),
    ]


# --- the encoder dies -------------------------------------------------------------------------


def test_a_dead_encoder_is_followed_by_one_with_a_new_part() -> None:
    """The dead part is retired, the stream is not touched."""
    machine = recording()
    assert run(machine, WorkerGone("encoder", -9), PartReady()) == [
        RESTART_ENCODER,
        [Announce("part_opened")],
    ]


def test_the_encoder_dies_while_stopping() -> None:
    """Its successor finishes."""
    machine = stopping()
    assert run(
        machine,
        WorkerGone("encoder", -9),
        StreamOver("stopped"),
        PartReady(),
        PartEnded(last=True),
    ) == [RESTART_ENCODER, DRAIN, [Announce("part_opened")], SEALED]


def test_the_encoder_dies_while_draining() -> None:
    """Its successor is told again to finish, with the time for it."""
    machine = draining()
    assert run(machine, WorkerGone("encoder", -9), PartEnded(last=True)) == [
        [*RESTART_ENCODER, FinishRecording(), SetTimer("drain", DRAIN_S)],
        SEALED,
    ]


def test_the_encoder_dies_after_the_seal_but_before_its_word() -> None:
    """A sealed file is a sealed file; nobody is started again for it."""
    assert draining().handle(WorkerGone("encoder", -9, sealed=True)) == SEALED


def test_a_part_sealed_in_mid_recording_by_an_encoder_that_then_died() -> None:
    """The seal of a part that is not the last ends nothing."""
    assert recording().handle(WorkerGone("encoder", -9, sealed=True)) == RESTART_ENCODER


def test_an_encoder_that_does_not_seal_is_killed() -> None:
    """Its death leads to a successor."""
    machine = draining()
    assert machine.handle(TimerFired("drain")) == [
        Announce("worker_hung", "encoder did not seal"),
        Kill("encoder"),
    ]


@pytest.mark.parametrize("make", [recording, draining])
def test_an_encoder_that_keeps_dying_concludes(make: type[Machine]) -> None:
    """Nobody is left to seal, so there is nothing to wait for."""
    machine = make(limits=RestartLimits(max_restarts=0))  # type: ignore[call-arg]
    died = Problem("worker", "The encoder process kept dying (exit code -9).")
    assert machine.handle(WorkerGone("encoder", -9)) == [
        Announce("error", died.message),
        RetirePart(),
        Conclude(started=True, problem=died),
    ]


# --- the disk ---------------------------------------------------------------------------------


def test_a_failing_disk_ends_the_recording() -> None:
    """The source is stopped, the encoder names what is lost and leaves; then it is over."""
    machine = recording()
    assert run(
        machine,
        PartGone(FULL),
        StreamOver("stopped"),
        WorkerGone("capture", 0),
        WorkerGone("encoder", 0),
    ) == [
        [Announce("disk_failed", FULL.message), *STOP],
        DRAIN,
        [],
        [RetirePart(), Conclude(started=True, problem=FULL)],
    ]


def test_a_full_disk_whose_part_was_sealed_early() -> None:
    """The early seal does not cut off the naming of what is lost, nor hide the reason."""
    machine = recording()
    assert run(
        machine,
        PartGone(FULL),
        PartEnded(last=True),
        StreamOver("stopped"),
        WorkerGone("encoder", 0),
    ) == [
        [Announce("disk_failed", FULL.message), *STOP],
        [Announce("part_sealed")],
        DRAIN,
        [RetirePart(), Conclude(started=True, problem=FULL)],
    ]


def test_a_failed_disk_and_an_encoder_that_dies_after_its_early_seal() -> None:
    """Its exit concludes, sealed or not: nobody else will."""
    machine = recording()
    run(machine, PartGone(FULL), StreamOver("stopped"))
    assert machine.handle(WorkerGone("encoder", 0, sealed=True)) == [
        RetirePart(),
        Conclude(started=True, problem=FULL),
    ]


def test_the_disk_fails_while_draining() -> None:
    """The encoder leaves by itself; its exit concludes."""
    machine = draining()
    assert run(machine, PartGone(FULL), WorkerGone("encoder", 0)) == [
        [Announce("disk_failed", FULL.message)],
        [RetirePart(), Conclude(started=True, problem=FULL)],
    ]


def test_the_first_problem_is_the_one_that_is_told() -> None:
    """What follows from a failed disk does not replace it."""
    machine = recording(source_restarts=False)
    run(machine, PartGone(FULL), StreamOver("source_error: unplugged"))
    assert machine.handle(WorkerGone("encoder", 0))[-1] == Conclude(started=True, problem=FULL)


# --- the camera -------------------------------------------------------------------------------


def test_a_lost_camera_is_looked_for_until_it_is_back() -> None:
    """Each exit of a capture that finds nothing sets the next try; its first frame ends it."""
    machine = recording()
    retry = [SetTimer("camera_retry", CAMERA_RETRY_S)]
    again = [StartWorker("capture"), OpenSource()]
    assert run(
        machine,
        StreamOver("camera_lost: it is gone"),
        WorkerGone("capture", 0),
        TimerFired("camera_retry"),
        WorkerRefused("capture", NO_CAMERA),
        WorkerGone("capture", 7),
        TimerFired("camera_retry"),
        SourceReady(),
        SourceHeard(),
        SourceHeard(),
    ) == [
        [Announce("camera_lost", "it is gone"), SetTimer("camera_return", 30.0)],
        retry,
        again,
        [],
        retry,
        again,
        [BeginStream()],
        BACK,
        [],
    ]
    assert not machine.camera_away


def test_a_silent_camera_is_lost_and_back_without_a_restart() -> None:
    """Its stream stays; a second report of the same silence changes nothing."""
    machine = recording()
    silent = SourceSilent("no frame for 1.0 s")
    lost = [Announce("camera_lost", silent.reason), SetTimer("camera_return", 30.0)]
    assert run(machine, silent, silent, SourceHeard(), SourceHeard(), silent) == [
        lost,
        [],
        BACK,
        [],
        lost,
    ]


def test_a_silence_that_lasts_leads_to_another_capture() -> None:
    """The controller hears of it once, and the time for its return runs from there."""
    machine = recording()
    assert run(
        machine,
        SourceSilent("no frame for 1.0 s"),
        StreamOver("camera_lost: no frame for 4.0 s"),
        WorkerGone("capture", 0),
        TimerFired("camera_retry"),
    ) == [
        [Announce("camera_lost", "no frame for 1.0 s"), SetTimer("camera_return", 30.0)],
        [],
        [SetTimer("camera_retry", CAMERA_RETRY_S)],
        [StartWorker("capture"), OpenSource()],
    ]


@pytest.mark.parametrize("event", [StopRequested(), TimerFired("camera_return")])
def test_a_silent_camera_that_streams_is_stopped_first(event: Event) -> None:
    """What it may still publish is recorded before the encoder drains."""
    machine = recording()
    machine.handle(SourceSilent("no frame for 1.0 s"))
    assert machine.handle(event)[-2:] == STOP
    assert machine.handle(StreamOver("stopped")) == DRAIN


def test_a_source_that_falls_silent_while_it_is_stopped_does_not_matter() -> None:
    """Nor does one that is heard."""
    assert run(stopping(), SourceSilent("no frame"), SourceHeard()) == [[], []]


def test_a_camera_that_does_not_come_back_ends_the_recording() -> None:
    """What was recorded is sealed, and the reason is given."""
    machine = recording(camera_return_s=3.0)
    run(machine, StreamOver("camera_lost"), WorkerGone("capture", 0))
    away = "The camera did not come back within 3 s."
    assert machine.handle(TimerFired("camera_return")) == [
        Announce("error", away),
        Kill("capture"),
        *DRAIN,
    ]
    *_, conclude = machine.handle(PartEnded(last=True))
    assert isinstance(conclude, Conclude)
    assert conclude.problem == Problem("camera", away, "What was recorded is sealed.")


def test_no_second_capture_while_the_first_still_leaves() -> None:
    """A capture that hangs on its way out is not joined by another."""
    machine = recording()
    machine.handle(StreamOver("camera_lost"))
    assert machine.handle(TimerFired("camera_retry")) == []
    machine.handle(WorkerGone("capture", -9))
    assert machine.handle(TimerFired("camera_retry")) == [StartWorker("capture"), OpenSource()]


def test_stop_while_the_camera_is_away() -> None:
    """There is no stream to end; a capture that finds the camera meanwhile is sent home."""
    machine = recording()
    run(machine, StreamOver("camera_lost"), WorkerGone("capture", 0), TimerFired("camera_retry"))
    assert run(machine, StopRequested(), SourceReady(), PartEnded(last=True)) == [
        DRAIN,
        [EndStream()],
        SEALED,
    ]


def test_a_camera_lost_while_stopping_just_ends() -> None:
    """Nobody looks for it any more."""
    assert stopping().handle(StreamOver("camera_lost")) == DRAIN


def test_a_camera_that_a_restarted_capture_cannot_open_counts_as_lost() -> None:
    """After a killed capture the device may need a moment; that is no reason to give up."""
    machine = recording()
    assert run(
        machine,
        WorkerGone("capture", -9),
        WorkerRefused("capture", NO_CAMERA),
        WorkerGone("capture", 7),
    ) == [
        RESTART_CAPTURE,
        [
            Announce("error", NO_CAMERA.message),
            Announce("camera_lost"),
            SetTimer("camera_return", 30.0),
        ],
        [SetTimer("camera_retry", CAMERA_RETRY_S)],
    ]


def test_a_source_error_is_the_problem() -> None:
    """The recording is sealed and names the source's own words."""
    machine = recording()
    assert run(machine, StreamOver("source_error: bad cable"), PartEnded(last=True)) == [
        DRAIN,
        [
            Announce("part_sealed"),
            Conclude(started=True, problem=Problem("camera", "The source failed: bad cable.")),
        ],
    ]


# --- what holds on every path -----------------------------------------------------------------

EXITS = st.sampled_from([0, 7, 70, -9, -15])
REASONS = st.sampled_from(
    ["limit", "end", "stopped", "camera_lost", "camera_lost: x", "hung: x", "source_error: x"]
)
ROLES: list[Role] = ["capture", "encoder"]


class AnyOrder(RuleBasedStateMachine):
    """Workers, timers and a controller that do what they may, in any order.

    It keeps its own, much simpler picture of what runs, and checks every action against it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.running: set[Role] = set()
        self.timers: set[str] = set()
        self.starts: dict[Role, int] = {}
        self.source_open = self.streaming = self.begun = self.concluded = False
        self.max_restarts = 0

    @initialize(
        max_restarts=st.integers(0, 3),
        source_restarts=st.booleans(),
        duration=st.sampled_from([None, 1.0]),
        past_start=st.booleans(),
    )
    def start(
        self, max_restarts: int, source_restarts: bool, duration: float | None, past_start: bool
    ) -> None:
        """Begin a recording; half of the runs are past its start, which most deaths end."""
        self.max_restarts = max_restarts
        self.machine = Machine(
            limits=RestartLimits(max_restarts=max_restarts),
            source_restarts=source_restarts,
            duration_s=duration,
        )
        self.feed(StartRequested())
        if past_start:
            self.source_opens(False)
            self.feed(PartReady())

    def feed(self, event: Event) -> None:
        """Hand in an event and carry the actions out on the picture."""
        if isinstance(event, TimerFired):
            self.timers.discard(event.name)
            if event.name.startswith("forgive:"):
                self.starts["capture" if "capture" in event.name else "encoder"] = 0
        away = self.machine.camera_away
        actions = self.machine.handle(event)
        assert not (self.concluded and actions), f"{actions} after the conclusion"
        for action in actions:
            assert not self.concluded, f"{action} after the conclusion"
            self.do(action, away=away)

    def do(self, action: Action, *, away: bool) -> None:
        """One action on the picture."""
        match action:
            case StartWorker(role):
                assert role not in self.running, f"a second {role}"
                self.running.add(role)
                if not (role == "capture" and away):
                    self.starts[role] = self.starts.get(role, 0) + 1
                assert self.starts.get(role, 0) <= self.max_restarts + 1, f"{role} too often"
                if role == "capture":
                    self.source_open = self.streaming = False
            case OpenSource():
                assert "capture" in self.running
            case OpenPart():
                assert "encoder" in self.running
            case BeginStream():
                assert self.source_open, "a stream before its source"
                assert not self.streaming, "a stream begun twice"
                self.streaming = True
            case FinishRecording():
                assert self.begun, "finished before it began"
                assert not self.streaming, "finished while the stream goes on"
            case Announce("recording_started"):
                assert not self.begun
                self.begun = True
            case AllocateRing():
                assert not self.begun
            case SetTimer(name):
                self.timers.add(name)
            case CancelTimer(name):
                self.timers.discard(name)
            case Conclude(was_started):
                assert was_started == self.begun
                self.concluded = True

    @rule()
    def stop(self) -> None:
        """The controller stops."""
        self.feed(StopRequested())

    @precondition(lambda self: "capture" in self.running and not self.source_open)
    @rule(refused=st.booleans())
    def source_opens(self, refused: bool) -> None:
        """The source opens, and the ring gets its memory or not."""
        self.source_open = True
        wanted = self.machine.phase is Phase.STARTING and not self.machine._ring_ready
        self.feed(SourceReady())
        if wanted:
            self.feed(RingRefused(FULL) if refused else RingReady())

    @precondition(lambda self: self.streaming)
    @rule(reason=REASONS)
    def stream_ends(self, reason: str) -> None:
        """The source ends."""
        self.streaming = False
        self.feed(StreamOver(reason))

    @precondition(lambda self: "capture" in self.running)
    @rule(event=st.sampled_from([SourceSilent("no frame"), SourceHeard()]))
    def source_is_watched(self, event: Event) -> None:
        """The source is silent, or heard again."""
        self.feed(event)

    @precondition(lambda self: "capture" in self.running and not self.source_open)
    @rule(problem=st.sampled_from([NO_CAMERA, FULL]))
    def source_is_refused(self, problem: Problem) -> None:
        """The source cannot be opened; the process leaves."""
        self.feed(WorkerRefused("capture", problem))
        self.exits("capture", 7, False)

    @precondition(lambda self: "encoder" in self.running and self.machine._ring_ready)
    @rule(event=st.sampled_from([PartReady(), PartEnded(last=False), PartGone(FULL)]))
    def encoder_says(self, event: Event) -> None:
        """A part opens, ends or fails."""
        self.feed(event)

    @precondition(lambda self: self.machine.phase is Phase.DRAINING and "encoder" in self.running)
    @rule()
    def encoder_seals(self) -> None:
        """The last part is sealed."""
        self.feed(PartEnded(last=True))

    @precondition(lambda self: "encoder" in self.running)
    @rule()
    def encoder_is_refused(self) -> None:
        """The encoder cannot be opened; the process leaves."""
        self.feed(WorkerRefused("encoder", NO_CODEC))
        self.exits("encoder", 2, False)

    @precondition(lambda self: self.running)
    @rule(role=st.sampled_from(ROLES), code=EXITS, sealed=st.booleans())
    def exits(self, role: Role, code: int, sealed: bool) -> None:
        """A process ends."""
        if role in self.running:
            self.running.discard(role)
            if role == "capture":
                self.source_open = self.streaming = False
            self.feed(WorkerGone(role, code, sealed and role == "encoder"))

    @precondition(lambda self: self.running)
    @rule(role=st.sampled_from(ROLES))
    def falls_silent(self, role: Role) -> None:
        """A process hangs."""
        if role in self.running:
            self.feed(WorkerSilent(role))

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def timer_fires(self, data: st.DataObject) -> None:
        """A timer is due."""
        self.feed(TimerFired(data.draw(st.sampled_from(sorted(self.timers)))))

    def teardown(self) -> None:
        """From wherever it is: a stop, dying workers and due timers lead to the end."""
        if not hasattr(self, "machine"):
            return
        self.feed(StopRequested())
        for _ in range(2 * self.max_restarts + 20):
            for role in ROLES:
                self.exits(role, -9, False)
            for name in sorted(self.timers):
                if not name.startswith("forgive:"):
                    self.feed(TimerFired(name))
        assert self.concluded, f"it hangs in {self.machine.phase}"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
