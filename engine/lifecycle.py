"""The life of a recording, or of an open camera and its recordings: ``handle(event) -> [action]``.

    idle --> starting --> recording --> stopping --> draining --> done
                 |            |  ^          (source)    (encoder)
                 `-> failed   `--' a worker died, a part ended, the camera is away

With a camera that stays open, recordings begin and end while it streams:

    idle --> starting --> ready --> opening --> recording --> draining --> ready ...
                            `--> stopping --> done              (encoder)

No clock, no I/O and no process here, so every race is a list comparison (tests/engine). The
supervisor turns messages, exits and timers into events and carries the actions out in order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

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
    SourceHeard,
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
    WorkerSilent,
)
from ipc.errors import CameraError

__all__ = ["Lifecycle", "Phase", "RestartLimits"]


class Phase(StrEnum):
    """Where the recording is."""

    IDLE = "idle"
    STARTING = "starting"
    READY = "ready"
    OPENING = "opening"
    RECORDING = "recording"
    STOPPING = "stopping"
    DRAINING = "draining"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class RestartLimits:
    """How often a worker may be started again before the recording is ended and sealed.

    Attributes:
        max_restarts: Within the window.
        window_s: After this long without another death the count starts anew.
    """

    max_restarts: int = 5
    window_s: float = 60.0


START_S = 60.0
STOP_S = 5.0
DRAIN_S = 60.0
CAMERA_RETRY_S = 0.5


@dataclass(slots=True)
class Lifecycle:
    """One recording, or one open camera and its recordings, one after another.

    Attributes:
        limits: When to give up on a worker that keeps dying.
        camera_return_s: How long an unplugged camera may stay away from a recording.
        duration_s: End a recording after so long; None: when stopped, or by the source's own limit.
        source_restarts: False for a file, which would begin again at its first frame.
        keep_open: The camera streams between recordings, until it is closed.
        phase: Where it is.
        camera_away: No frames come that should; it is waited for, or opened again.
    """

    limits: RestartLimits = field(default_factory=RestartLimits)
    camera_return_s: float = 30.0
    duration_s: float | None = None
    source_restarts: bool = True
    keep_open: bool = False
    phase: Phase = Phase.IDLE
    camera_away: bool = False
    _problem: Problem | None = None
    _deaths: dict[str, int] = field(default_factory=dict)
    _away_because: str = ""
    _source_open: bool = False
    _streaming: bool = False
    _ring_ready: bool = False
    _stream_over: bool = False
    _running: set[Role] = field(default_factory=set)
    _part_failed: bool = False
    _never_began: bool = False
    _stop_wanted: bool = False
    _closing: bool = False
    _broken: bool = False

    def handle(self, event: Event) -> list[Action]:  # noqa: PLR0911, PLR0912 - one case per event
        """Take one event; returns what is to be done, in order."""
        if self.phase is Phase.DONE:
            return []
        match event:
            case StartRequested() if self.phase is Phase.IDLE:
                return self._start()
            case RecordingRequested() if self.phase is Phase.READY:
                return self._begin_recording()
            case StopRequested():
                return self._stop()
            case CloseRequested() if self.keep_open:
                return self._close()
            case SourceReady():
                return self._source_ready()
            case RingReady() if self.phase is Phase.STARTING:
                self._ring_ready = True
                return [StandBy()] if self.keep_open else [OpenPart()]
            case RingRefused(problem):
                return self._conclude(problem)
            case EncoderReady():
                return self._encoder_ready()
            case PartReady():
                return self._part_ready()
            case PartEnded(last):
                return self._part_ended(last=last)
            case PartGone(problem):
                return self._part_gone(problem)
            case SourceSilent(reason):
                return self._camera_lost(reason) if self._streaming_wanted else []
            case SourceHeard():
                return self._heard()
            case StreamOver(reason):
                return self._over(reason)
            case WorkerRefused(role, problem):
                return self._refused(role, problem)
            case WorkerGone("capture", code):
                return self._capture_gone(code)
            case WorkerGone("encoder", code, sealed):
                return self._encoder_gone(code, sealed=sealed)
            case WorkerSilent(role):
                return [Announce("worker_hung", f"{role} does not answer"), Kill(role)]
            case TimerFired(name):
                return self._timer(name)
            case _:
                return []

    # --- begin and end ------------------------------------------------------------------------

    def _start(self) -> list[Action]:
        self.phase = Phase.STARTING
        # Both at once: most of a start is two interpreters importing their libraries.
        workers = [*self._launch_capture(), self._launch("encoder")]
        return [*workers, SetTimer("start", START_S)]

    def _launch(self, role: Role) -> Action:
        self._running.add(role)
        return StartWorker(role)

    def _launch_capture(self) -> list[Action]:
        return [self._launch("capture"), OpenSource()]

    def _encoder_ready(self) -> list[Action]:
        if self.phase is Phase.DRAINING and self._part_failed:
            return self._conclude(self._problem)  # it has named what the disk did not take
        if self.phase is not Phase.STARTING:
            return []
        self.phase = Phase.READY
        actions: list[Action] = [CancelTimer("start"), Announce("camera_opened")]
        if self._source_open:
            actions.append(self._begin_stream())
        return actions

    def _begin_recording(self) -> list[Action]:
        self.phase = Phase.OPENING
        self._problem = None
        self._part_failed = self._never_began = self._stop_wanted = False
        return [OpenPart(), SetTimer("start", START_S)]

    def _stop(self) -> list[Action]:
        if self.phase in (Phase.STARTING, Phase.OPENING):
            self._stop_wanted = True
            return []
        if self.phase is not Phase.RECORDING:
            return []
        return self._end_recording()

    def _close(self) -> list[Action]:
        self._closing = True
        if self.phase is Phase.STARTING:
            return self._leave(None)
        return self._end_source() if self.phase is Phase.READY else self._stop()

    def _end_source(self) -> list[Action]:
        if not self._streaming:
            return self._leave(None)
        self.phase = Phase.STOPPING
        return [EndStream(), SetTimer("stop", STOP_S)]

    def _end_recording(self) -> list[Action]:
        """Stop a source that was opened for it; the encoder drains what the ring holds."""
        over = self._stream_over or (self.camera_away and not self._streaming)
        if self.keep_open or over:
            return self._drain()
        self.phase = Phase.STOPPING
        return [EndStream(), SetTimer("stop", STOP_S)]

    def _drain(self) -> list[Action]:
        self.phase = Phase.DRAINING
        names = ["stop", "duration", "camera_return"]
        if not self.keep_open:
            names.append("camera_retry")
        timers: list[Action] = [CancelTimer(name) for name in names]
        return [*timers, FinishRecording(), SetTimer("drain", DRAIN_S)]

    def _conclude(self, problem: Problem | None) -> list[Action]:
        """The recording is over; without one that could begin, the camera was asked for alone."""
        if self.keep_open and self.phase in (Phase.STARTING, Phase.READY):
            return self._leave(problem)
        started = self.phase not in (Phase.STARTING, Phase.OPENING) and not self._never_began
        conclusion = Conclude(started=started, problem=problem)
        if not self.keep_open or self._broken:
            self.phase = Phase.DONE
            return [conclusion]
        self.phase = Phase.READY
        actions: list[Action] = [CancelTimer("start"), CancelTimer("drain"), conclusion]
        if self._stream_over:
            return [*actions, *self._leave(None)]
        return [*actions, *self._end_source()] if self._closing else actions

    def _leave(self, problem: Problem | None) -> list[Action]:
        self.phase = Phase.DONE
        return [Leave(problem)]

    # --- the source ---------------------------------------------------------------------------

    @property
    def _streaming_wanted(self) -> bool:
        wanted = [Phase.RECORDING]
        if self.keep_open:
            wanted += [Phase.READY, Phase.OPENING, Phase.DRAINING]
        return self.phase in wanted and not self._stream_over

    def _source_ready(self) -> list[Action]:
        self._source_open = True
        if self.phase is Phase.STARTING:
            return [] if self._ring_ready else [AllocateRing()]
        return [self._begin_stream()] if self._streaming_wanted else [EndStream()]

    def _begin_stream(self) -> Action:
        self._streaming = True
        return BeginStream()

    def _over(self, reason: str) -> list[Action]:
        kind, _, text = reason.partition(": ")
        self._streaming = False
        if kind == "camera_lost" and self._streaming_wanted:
            return self._camera_lost(text)  # its process leaves; that leads to the first try
        self._stream_over = True
        if kind == "source_error" and self._problem is None:
            self._problem = Problem(CameraError.code, f"The source failed: {text}.")
        return self._after_stream()

    def _after_stream(self) -> list[Action]:
        """The source gives no more: seal what is recorded, or leave if nothing is."""
        if self.phase is Phase.READY:
            return self._leave(self._problem)
        if self.phase is Phase.STOPPING and self.keep_open:
            return self._leave(None)
        return self._drain() if self.phase in (Phase.RECORDING, Phase.STOPPING) else []

    def _camera_lost(self, reason: str = "") -> list[Action]:
        self._away_because = reason or self._away_because
        if self.camera_away:
            return []
        self.camera_away = True
        return [Announce("camera_lost", reason), *self._limit_absence()]

    def _limit_absence(self) -> list[Action]:
        """Only a recording ends when the camera stays away; an open camera is waited for."""
        wanted = self.phase is Phase.RECORDING and self.camera_away
        return [SetTimer("camera_return", self.camera_return_s)] if wanted else []

    def _heard(self) -> list[Action]:
        if not self.camera_away:
            return []
        self.camera_away, self._away_because = False, ""
        return [CancelTimer("camera_return"), CancelTimer("camera_retry"), Announce("camera_back")]

    def _capture_gone(self, code: int) -> list[Action]:
        self._running.discard("capture")
        self._source_open = self._streaming = False
        if self._stream_over or (self.phase is Phase.DRAINING and not self.keep_open):
            return []
        if self.phase is Phase.STOPPING:
            self._stream_over = True
            return self._after_stream()
        if self.camera_away:
            return [SetTimer("camera_retry", CAMERA_RETRY_S)]
        if not self.source_restarts or not self._may_restart("capture"):
            self._stream_over = True
            died = Problem("worker", f"The capture process died (exit code {code}).")
            self._problem = self._problem or died
            starting = self.phase is Phase.STARTING
            end = self._conclude(self._problem) if starting else self._after_stream()
            return [Announce("error", died.message), *end]
        return [
            Announce("worker_restarted", f"capture ended with code {code}"),
            *self._launch_capture(),
            SetTimer("forgive:capture", self.limits.window_s),
        ]

    def _give_up_camera(self) -> list[Action]:
        away = f"The camera did not come back within {self.camera_return_s:g} s"
        away += f": {self._away_because.rstrip('.')}." if self._away_because else "."
        self._problem = Problem(CameraError.code, away, "What was recorded is sealed.")
        if self.keep_open:
            end = self._drain()  # it is waited for on
        elif self._streaming:
            end = self._end_recording()
        else:
            end = [Kill("capture"), *self._drain()]
        return [Announce("error", away), *end]

    # --- parts and their encoder --------------------------------------------------------------

    def _part_ready(self) -> list[Action]:
        if self.phase not in (Phase.STARTING, Phase.OPENING):
            return [Announce("part_opened")]
        cold = self.phase is Phase.STARTING
        self.phase = Phase.RECORDING
        actions: list[Action] = [CancelTimer("start"), Announce("recording_started")]
        if self._source_open and cold:
            actions.append(self._begin_stream())
        actions += self._limit_absence()
        if self.duration_s is not None:
            actions.append(SetTimer("duration", self.duration_s))
        if self._stop_wanted or self._stream_over:
            actions += self._end_recording()
        return actions

    def _part_ended(self, *, last: bool) -> list[Action]:
        if self._part_failed:
            return [Announce("part_sealed")]  # a full disk; its encoder still names what is lost
        if not last:
            return [Announce("part_sealed"), OpenPart()]
        return [Announce("part_sealed"), *self._conclude(self._problem)]

    def _part_gone(self, problem: Problem) -> list[Action]:
        self._part_failed = True
        if self.phase is Phase.STARTING:
            return self._conclude(problem)
        self._problem = self._problem or problem
        if self.phase is Phase.OPENING:
            self._never_began = True
            return self._drain()  # it goes back to standing by
        announce = Announce("disk_failed", problem.message)
        if self.phase is Phase.RECORDING:
            return [announce, *self._end_recording()]
        return [announce]

    def _refused(self, role: Role, problem: Problem) -> list[Action]:
        if self.phase is Phase.STARTING:
            return self._conclude(problem)
        if role == "encoder" and self.phase is Phase.OPENING:
            # Its exit follows, and is nobody's fault: another one stands by.
            self._deaths["encoder"] = self._deaths.get("encoder", 0) - 1
            return self._conclude(problem)
        if role == "capture" and self.camera_away:
            self._away_because = problem.message
            return []  # not back yet: its exit leads to the next try
        announce = Announce("error", problem.message)
        if role == "capture" and problem.code == CameraError.code and self._streaming_wanted:
            return [announce, *self._camera_lost()]  # a restarted capture cannot open it yet
        return [announce]

    def _encoder_gone(self, code: int, *, sealed: bool) -> list[Action]:
        self._running.discard("encoder")
        if self._part_failed and self.phase is not Phase.READY:
            return [RetirePart(), *self._stand_by_again(), *self._conclude(self._problem)]
        if sealed and self.phase is Phase.DRAINING:
            # It died before it could say so.
            return [*self._stand_by_again(), *self._part_ended(last=True)]
        if self.phase is Phase.STOPPING and self.keep_open:
            return []
        if not self._may_restart("encoder"):
            return self._give_up_encoder(code)
        restarted = Announce("worker_restarted", f"encoder ended with code {code}")
        forgive = SetTimer("forgive:encoder", self.limits.window_s)
        if self.keep_open and self.phase in (Phase.STARTING, Phase.READY):
            return [restarted, *self._stand_by_again(), forgive]
        actions: list[Action] = [restarted, RetirePart(), self._launch("encoder"), forgive]
        if self._ring_ready:
            actions.append(OpenPart())
        if self.phase is Phase.DRAINING:
            actions += [FinishRecording(), SetTimer("drain", DRAIN_S)]
        return actions

    def _stand_by_again(self) -> list[Action]:
        """A new encoder for a camera that stays open."""
        if not self.keep_open:
            return []
        return [self._launch("encoder"), *([StandBy()] if self._ring_ready else [])]

    def _give_up_encoder(self, code: int) -> list[Action]:
        died = Problem("worker", f"The encoder process kept dying (exit code {code}).")
        self._problem, self._broken = self._problem or died, True
        announce = Announce("error", died.message)
        if self.keep_open and self.phase in (Phase.STARTING, Phase.READY):
            return [announce, *self._leave(self._problem)]
        return [announce, RetirePart(), *self._conclude(self._problem)]

    def _may_restart(self, role: Role) -> bool:
        self._deaths[role] = self._deaths.get(role, 0) + 1
        return self._deaths[role] <= self.limits.max_restarts

    # --- timers -------------------------------------------------------------------------------

    def _timer(self, name: str) -> list[Action]:  # noqa: PLR0911 - one return per timer
        if name.startswith("forgive:"):
            self._deaths.pop(name.partition(":")[2], None)
            return []
        if name == "duration":
            return self._stop()
        if name == "start":
            return self._start_is_late()
        if name == "stop" and self.phase is Phase.STOPPING:
            return [Announce("worker_hung", "capture did not stop"), Kill("capture")]
        if name == "drain" and self.phase is Phase.DRAINING:
            return [Announce("worker_hung", "encoder did not seal"), Kill("encoder")]
        if not (self.camera_away and self._streaming_wanted):
            return []
        if name == "camera_retry" and "capture" not in self._running:
            return self._launch_capture()
        if name == "camera_return" and self.phase is Phase.RECORDING:
            return self._give_up_camera()
        return []

    def _start_is_late(self) -> list[Action]:
        late = Problem("worker", "The engine was not ready in time.")
        if self.phase is Phase.STARTING:
            return self._conclude(late)
        # An encoder that does not open its part hangs; another one stands by after it.
        return [*self._conclude(late), Kill("encoder")] if self.phase is Phase.OPENING else []
