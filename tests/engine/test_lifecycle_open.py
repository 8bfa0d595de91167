"""The life of a camera that stays open: recordings begin and end while it streams."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from engine.lifecycle import CAMERA_RETRY_S, DRAIN_S, START_S, STOP_S, Phase, RestartLimits
from engine.lifecycle import Lifecycle as Machine
from engine.steps import (
    Action,
    AllocateRing,
    Announce,
    BeginStream,
    CancelTimer,
    CloseRequested,
    Conclude,
    EncoderReady,
    EndStream,
    Event,
    FinishRecording,
    Kill,
    Leave,
    OpenPart,
    OpenSource,
    PartEnded,
    PartGone,
    PartReady,
    Problem,
    RecordingRequested,
    RetirePart,
    RingReady,
    RingRefused,
    Role,
    SetTimer,
    SourceReady,
    SourceSilent,
    StandBy,
    StartRequested,
    StartWorker,
    StopRequested,
    StreamOver,
    TimerFired,
    WorkerGone,
    WorkerRefused,
)

FULL = Problem("disk", "The disk is full.")
NO_CODEC = Problem("encoder", "No such codec.")
NO_CAMERA = Problem("camera", "There is no camera.")
BEGIN = [OpenPart(), SetTimer("start", START_S)]
BEGUN = [CancelTimer("start"), Announce("recording_started")]
DRAIN = [
    CancelTimer("stop"),
    CancelTimer("duration"),
    CancelTimer("camera_return"),
    FinishRecording(),
    SetTimer("drain", DRAIN_S),
]
AGAIN = [CancelTimer("start"), CancelTimer("drain")]
OVER = [*AGAIN, Conclude(started=True, problem=None)]
NEW_ENCODER = [StartWorker("encoder"), StandBy()]
FORGIVE = SetTimer("forgive:encoder", 60.0)
CLOSING = [EndStream(), SetTimer("stop", STOP_S)]


def run(machine: Machine, *events: Event) -> list[list[Action]]:
    """The actions of each event."""
    return [machine.handle(event) for event in events]


def ready(**options: object) -> Machine:
    """A camera that streams, and no recording."""
    machine = Machine(keep_open=True, **options)  # type: ignore[arg-type]
    run(machine, StartRequested(), SourceReady(), RingReady(), EncoderReady())
    assert machine.phase is Phase.READY
    return machine


def recording(**options: object) -> Machine:
    """The same, and it is recorded."""
    machine = ready(**options)
    run(machine, RecordingRequested(), PartReady())
    assert machine.phase is Phase.RECORDING
    return machine


def test_two_recordings_of_one_opening() -> None:
    """The stream begins once, and no recording touches it."""
    machine = Machine(keep_open=True)
    machine.handle(StartRequested())
    assert run(machine, SourceReady(), RingReady(), EncoderReady()) == [
        [AllocateRing()],
        [StandBy()],
        [CancelTimer("start"), Announce("camera_opened"), BeginStream()],
    ]
    for _ in range(2):
        assert run(
            machine, RecordingRequested(), PartReady(), StopRequested(), PartEnded(last=True)
        ) == [BEGIN, BEGUN, DRAIN, [Announce("part_sealed"), *OVER]]
    assert run(machine, CloseRequested(), StreamOver("stopped")) == [CLOSING, [Leave(None)]]
    assert machine.phase is Phase.DONE


def test_a_stop_before_the_file_is_open_is_kept() -> None:
    """The file is short, and the camera is open as before."""
    machine = ready()
    assert run(machine, RecordingRequested(), StopRequested(), PartReady()) == [
        BEGIN,
        [],
        [*BEGUN, *DRAIN],
    ]


def test_closing_during_a_recording_seals_first() -> None:
    """Then the source is ended, then the workers go."""
    machine = recording()
    assert run(
        machine, CloseRequested(), PartEnded(last=True), EncoderReady(), StreamOver("stopped")
    ) == [DRAIN, [Announce("part_sealed"), *OVER, *CLOSING], [], [Leave(None)]]


def test_closing_while_it_opens_gives_up() -> None:
    """Nothing is recorded that could be lost."""
    machine = Machine(keep_open=True)
    assert run(machine, StartRequested(), CloseRequested())[1] == [Leave(None)]


def test_a_camera_that_cannot_be_opened_is_the_answer() -> None:
    """There is no recording to conclude."""
    machine = Machine(keep_open=True)
    assert run(machine, StartRequested(), WorkerRefused("capture", NO_CAMERA))[1] == [
        Leave(NO_CAMERA)
    ]


def test_a_camera_lost_between_recordings_is_waited_for_without_end() -> None:
    """No time limit runs; a recording has one again."""
    machine = ready()
    assert run(
        machine,
        StreamOver("camera_lost: gone"),
        WorkerGone("capture", 0),
        TimerFired("camera_return"),
        TimerFired("camera_retry"),
        SourceReady(),
    ) == [
        [Announce("camera_lost", "gone")],
        [SetTimer("camera_retry", CAMERA_RETRY_S)],
        [],
        [StartWorker("capture"), OpenSource()],
        [BeginStream()],
    ]


def test_a_camera_that_stays_away_ends_the_recording_and_not_the_search() -> None:
    """The file is sealed with the reason; the camera may come back later."""
    machine = recording(camera_return_s=3.0)
    run(machine, StreamOver("camera_lost"), WorkerGone("capture", 0))
    away = "The camera did not come back within 3 s."
    problem = Problem("camera", away, "What was recorded is sealed.")
    assert run(
        machine, TimerFired("camera_return"), PartEnded(last=True), TimerFired("camera_retry")
    ) == [
        [Announce("error", away), *DRAIN],
        [Announce("part_sealed"), *AGAIN, Conclude(started=True, problem=problem)],
        [StartWorker("capture"), OpenSource()],
    ]


def test_a_full_disk_ends_the_recording_and_not_the_camera() -> None:
    """The encoder names what is lost and stands by; the next recording may go elsewhere."""
    machine = recording()
    assert run(machine, PartGone(FULL), PartEnded(last=True), EncoderReady()) == [
        [Announce("disk_failed", FULL.message), *DRAIN],
        [Announce("part_sealed")],
        [*AGAIN, Conclude(started=True, problem=FULL)],
    ]
    assert run(machine, RecordingRequested(), PartReady()) == [BEGIN, BEGUN]


def test_a_file_that_cannot_be_begun_is_a_refused_start() -> None:
    """The encoder goes back to standing by."""
    machine = ready()
    assert run(machine, RecordingRequested(), PartGone(FULL), EncoderReady()) == [
        BEGIN,
        DRAIN,
        [*AGAIN, Conclude(started=False, problem=FULL)],
    ]


def test_an_encoder_that_cannot_be_opened_is_replaced() -> None:
    """However often it is asked for: that is not dying."""
    machine = ready(limits=RestartLimits(max_restarts=1))
    for _ in range(5):
        assert run(
            machine,
            RecordingRequested(),
            WorkerRefused("encoder", NO_CODEC),
            WorkerGone("encoder", 2),
        ) == [
            BEGIN,
            [*AGAIN, Conclude(started=False, problem=NO_CODEC)],
            [
                Announce("worker_restarted", "encoder ended with code 2"),
                *NEW_ENCODER,
                FORGIVE,
            ],
        ]


def test_an_encoder_that_hangs_at_a_start_is_killed() -> None:
    """The start is refused; another encoder stands by after it."""
    machine = ready()
    late = Problem("worker", "The engine was not ready in time.")
    assert run(machine, RecordingRequested(), TimerFired("start")) == [
        BEGIN,
        [*AGAIN, Conclude(started=False, problem=late), Kill("encoder")],
    ]


def test_an_encoder_that_dies_while_recording_is_followed() -> None:
    """By one that opens the next part, as ever."""
    assert recording().handle(WorkerGone("encoder", -9)) == [
        Announce("worker_restarted", "encoder ended with code -9"),
        RetirePart(),
        StartWorker("encoder"),
        FORGIVE,
        OpenPart(),
    ]


def test_an_encoder_that_dies_after_its_seal_is_followed_by_one_that_stands_by() -> None:
    """The recording is over; the camera has an encoder again."""
    machine = recording()
    assert run(machine, StopRequested(), WorkerGone("encoder", -9, True)) == [
        DRAIN,
        [*NEW_ENCODER, Announce("part_sealed"), *OVER],
    ]


def test_encoders_that_keep_dying_end_everything() -> None:
    """The recording is concluded with its reason, or the camera closed with it."""
    died = Problem("worker", "The encoder process kept dying (exit code -9).")
    machine = recording(limits=RestartLimits(max_restarts=0))
    assert machine.handle(WorkerGone("encoder", -9)) == [
        Announce("error", died.message),
        RetirePart(),
        Conclude(started=True, problem=died),
    ]
    machine = ready(limits=RestartLimits(max_restarts=0))
    assert machine.handle(WorkerGone("encoder", -9)) == [
        Announce("error", died.message),
        Leave(died),
    ]


def test_a_source_that_ends_by_itself_closes_the_camera() -> None:
    """A file, for one; what is recorded of it is sealed before."""
    assert ready().handle(StreamOver("end")) == [Leave(None)]
    machine = recording()
    assert run(machine, StreamOver("end"), PartEnded(last=True)) == [
        DRAIN,
        [Announce("part_sealed"), *OVER, Leave(None)],
    ]


# --- what holds on every path -----------------------------------------------------------------

REASONS = st.sampled_from(["end", "stopped", "camera_lost: x", "hung: x", "source_error: x"])
ROLES: list[Role] = ["capture", "encoder"]


class AnyOrder(RuleBasedStateMachine):
    """Workers, timers and a controller in any order, against a much simpler picture."""

    def __init__(self) -> None:
        super().__init__()
        self.running: set[Role] = set()
        self.timers: set[str] = set()
        self.source_open = self.streaming = self.asked = self.begun = self.left = False

    @initialize(max_restarts=st.integers(0, 3), past_start=st.booleans())
    def start(self, max_restarts: int, past_start: bool) -> None:
        """Open; half of the runs are past that."""
        self.max_restarts = max_restarts
        self.machine = Machine(keep_open=True, limits=RestartLimits(max_restarts=max_restarts))
        self.feed(StartRequested())
        if past_start:
            self.source_opens(False)
            self.feed(EncoderReady())

    def feed(self, event: Event) -> None:
        """Hand in an event and carry the actions out on the picture."""
        if isinstance(event, TimerFired):
            self.timers.discard(event.name)
        for action in self.machine.handle(event):
            assert not self.left, f"{action} after the end"
            self.do(action)
        self.left = self.machine.phase is Phase.DONE
        if self.machine.phase in (Phase.READY, Phase.DONE):
            assert not self.asked, "ready with a recording that is not concluded"

    def do(self, action: Action) -> None:
        """One action on the picture."""
        match action:
            case StartWorker(role):
                assert role not in self.running, f"a second {role}"
                self.running.add(role)
                if role == "capture":
                    self.source_open = self.streaming = False
            case StandBy() | OpenPart():
                assert "encoder" in self.running
            case BeginStream():
                assert self.source_open, "a stream before its source"
                assert not self.streaming, "a stream begun twice"
                self.streaming = True
            case Announce("recording_started"):
                assert self.asked
                assert not self.begun
                self.begun = True
            case FinishRecording():
                assert self.asked, "finished without a recording"
            case SetTimer(name):
                self.timers.add(name)
            case CancelTimer(name):
                self.timers.discard(name)
            case Conclude(started):
                assert self.asked, "concluded twice, or without a recording"
                assert started == self.begun
                self.asked = self.begun = False
            case Leave():
                assert not self.asked, "left with a recording"

    @precondition(lambda self: self.machine.phase is Phase.READY)
    @rule()
    def record(self) -> None:
        """The controller wants a recording; the pipeline refuses one while the camera is away."""
        if not self.machine.camera_away:
            self.asked = True
            self.feed(RecordingRequested())

    @rule(event=st.sampled_from([StopRequested(), CloseRequested()]))
    def ends(self, event: Event) -> None:
        """The controller stops, or closes."""
        self.feed(event)

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

    @precondition(lambda self: self.streaming)
    @rule()
    def falls_silent(self) -> None:
        """No frame comes."""
        self.feed(SourceSilent("no frame"))

    @precondition(lambda self: "capture" in self.running and not self.source_open)
    @rule()
    def source_is_refused(self) -> None:
        """The source cannot be opened; the process leaves."""
        self.feed(WorkerRefused("capture", NO_CAMERA))
        self.exits("capture", False)

    @precondition(lambda self: "encoder" in self.running and self.machine._ring_ready)
    @rule(event=st.sampled_from([EncoderReady(), PartReady(), PartEnded(False), PartGone(FULL)]))
    def encoder_says(self, event: Event) -> None:
        """It stands by, or a part opens, ends or fails, if one was ordered."""
        if isinstance(event, EncoderReady) or self.asked:
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
        self.exits("encoder", False)

    @precondition(lambda self: self.running)
    @rule(role=st.sampled_from(ROLES), sealed=st.booleans())
    def exits(self, role: Role, sealed: bool) -> None:
        """A process ends."""
        if role in self.running:
            self.running.discard(role)
            if role == "capture":
                self.source_open = self.streaming = False
            self.feed(WorkerGone(role, -9, sealed and role == "encoder" and self.asked))

    @precondition(lambda self: self.timers)
    @rule(data=st.data())
    def timer_fires(self, data: st.DataObject) -> None:
        """A timer is due."""
        self.feed(TimerFired(data.draw(st.sampled_from(sorted(self.timers)))))

    def teardown(self) -> None:
        """From wherever it is: closing, dying workers and due timers lead to the end."""
        if not hasattr(self, "machine"):
            return
        self.feed(CloseRequested())
        for _ in range(2 * self.max_restarts + 20):
            for role in ROLES:
                self.exits(role, False)
            for name in sorted(self.timers):
                if not name.startswith("forgive:"):
                    self.feed(TimerFired(name))
        assert self.left, f"it hangs in {self.machine.phase}"


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(deadline=None, max_examples=150, stateful_step_count=40)
