"""The life of one recording as a pure machine: ``handle(event) -> [action]``.

    idle --> starting --> recording --> stopping --> draining --> done
                 |            |  ^          (source)    (encoder)
                 `-> failed   `--' a worker died, a part ended, the camera is away

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
from ipc.errors import CameraError

__all__ = ["Lifecycle", "Phase", "RestartLimits"]


class Phase(StrEnum):
    """Where the recording is."""

    IDLE = "idle"
    STARTING = "starting"
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
    """One recording.

    Attributes:
        limits: When to give up on a worker that keeps dying.
        camera_return_s: How long an unplugged camera may stay away.
        duration_s: End after so long; None: when stopped, or by the source's own limit.
        source_restarts: False for a file, which would begin again at its first frame.
        phase: Where it is.
        camera_away: No frames come that should; it is waited for, or opened again.
    """

    limits: RestartLimits = field(default_factory=RestartLimits)
    camera_return_s: float = 30.0
    duration_s: float | None = None
    source_restarts: bool = True
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
    _stop_wanted: bool = False

    def handle(self, event: Event) -> list[Action]:  # noqa: PLR0911, PLR0912 - one case per event
        """Take one event; returns what is to be done, in order."""
        if self.phase is Phase.DONE:
            return []
        match event:
            case StartRequested() if self.phase is Phase.IDLE:
                return self._start()
            case StopRequested():
                return self._stop()
            case SourceReady():
                return self._source_ready()
            case RingReady() if self.phase is Phase.STARTING:
                self._ring_ready = True
                return [OpenPart()]
            case RingRefused(problem):
                return self._conclude(problem)
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

    def _stop(self) -> list[Action]:
        if self.phase is Phase.STARTING:
            self._stop_wanted = True
            return []
        if self.phase is not Phase.RECORDING:
            return []
        return self._end_stream()

    def _end_stream(self) -> list[Action]:
        """Stop the source if there is one; the encoder then drains what the ring holds."""
        if self._stream_over or (self.camera_away and not self._streaming):
            return self._drain()
        self.phase = Phase.STOPPING
        return [EndStream(), SetTimer("stop", STOP_S)]

    def _drain(self) -> list[Action]:
        self.phase = Phase.DRAINING
        timers: list[Action] = [
            CancelTimer(name) for name in ("stop", "duration", "camera_return", "camera_retry")
        ]
        return [*timers, FinishRecording(), SetTimer("drain", DRAIN_S)]

    def _source_ready(self) -> list[Action]:
        self._source_open = True
        if self.phase is Phase.STARTING:
            return [] if self._ring_ready else [AllocateRing()]
        if self.phase is not Phase.RECORDING:
            return [EndStream()]
        return [self._begin_stream()]

    def _begin_stream(self) -> Action:
        self._streaming = True
        return BeginStream()

    def _part_ready(self) -> list[Action]:
        if self.phase is not Phase.STARTING:
            return [Announce("part_opened")]
        self.phase = Phase.RECORDING
        actions: list[Action] = [CancelTimer("start"), Announce("recording_started")]
        if self._source_open:
            actions.append(self._begin_stream())
        if self.duration_s is not None:
            actions.append(SetTimer("duration", self.duration_s))
        if self._stop_wanted or self._stream_over:
            actions += self._end_stream()
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
        announce = Announce("disk_failed", problem.message)
        if self.phase is Phase.RECORDING:
            return [announce, *self._end_stream()]
        return [announce]

    def _over(self, reason: str) -> list[Action]:
        kind, _, text = reason.partition(": ")
        self._streaming = False
        if kind == "camera_lost" and self.phase is Phase.RECORDING:
            return self._camera_lost(text)  # its process leaves; that leads to the first try
        self._stream_over = True
        if kind == "source_error" and self._problem is None:
            self._problem = Problem(CameraError.code, f"The source failed: {text}.")
        if self.phase in (Phase.RECORDING, Phase.STOPPING):
            return self._drain()
        return []

    def _camera_lost(self, reason: str = "") -> list[Action]:
        self._away_because = reason or self._away_because
        if self.camera_away:
            return []
        self.camera_away = True
        return [Announce("camera_lost", reason), SetTimer("camera_return", self.camera_return_s)]

    def _heard(self) -> list[Action]:
        if not self.camera_away:
            return []
        self.camera_away, self._away_because = False, ""
        return [CancelTimer("camera_return"), CancelTimer("camera_retry"), Announce("camera_back")]

    def _refused(self, role: Role, problem: Problem) -> list[Action]:
        if self.phase is Phase.STARTING:
            return self._conclude(problem)
        if role == "capture" and self.camera_away:
            self._away_because = problem.message
            return []  # not back yet: its exit leads to the next try
        announce = Announce("error", problem.message)
        if role == "capture" and problem.code == CameraError.code and self._streaming_wanted:
            return [announce, *self._camera_lost()]  # a restarted capture cannot open it yet
        return [announce]

    @property
    def _streaming_wanted(self) -> bool:
        return self.phase is Phase.RECORDING and not self._stream_over

    def _capture_gone(self, code: int) -> list[Action]:
        self._running.discard("capture")
        self._source_open = self._streaming = False
        if self._stream_over or self.phase is Phase.DRAINING:
            return []
        if self.phase is Phase.STOPPING:
            self._stream_over = True
            return self._drain()
        if self.camera_away:
            return [SetTimer("camera_retry", CAMERA_RETRY_S)]
        if not self.source_restarts or not self._may_restart("capture"):
            self._stream_over = True
            died = Problem("worker", f"The capture process died (exit code {code}).")
            self._problem = self._problem or died
            starting = self.phase is Phase.STARTING
            end = self._conclude(self._problem) if starting else self._drain()
            return [Announce("error", died.message), *end]
        return [
            Announce("worker_restarted", f"capture ended with code {code}"),
            *self._launch_capture(),
            SetTimer("forgive:capture", self.limits.window_s),
        ]

    def _encoder_gone(self, code: int, *, sealed: bool) -> list[Action]:
        self._running.discard("encoder")
        if self._part_failed:
            return [RetirePart(), *self._conclude(self._problem)]
        if sealed and self.phase is Phase.DRAINING:
            return self._part_ended(last=True)  # it died before it could say so
        if not self._may_restart("encoder"):
            died = Problem("worker", f"The encoder process kept dying (exit code {code}).")
            self._problem = self._problem or died
            announce = Announce("error", died.message)
            return [announce, RetirePart(), *self._conclude(self._problem)]
        actions: list[Action] = [
            Announce("worker_restarted", f"encoder ended with code {code}"),
            RetirePart(),
            self._launch("encoder"),
            SetTimer("forgive:encoder", self.limits.window_s),
        ]
        if self._ring_ready:
            actions.append(OpenPart())
        if self.phase is Phase.DRAINING:
            actions += [FinishRecording(), SetTimer("drain", DRAIN_S)]
        return actions

    def _may_restart(self, role: Role) -> bool:
        self._deaths[role] = self._deaths.get(role, 0) + 1
        return self._deaths[role] <= self.limits.max_restarts

    def _timer(self, name: str) -> list[Action]:  # noqa: PLR0911 - one return per timer
        if name.startswith("forgive:"):
            self._deaths.pop(name.partition(":")[2], None)
            return []
        if name == "duration":
            return self._stop()
        if name == "start" and self.phase is Phase.STARTING:
            return self._conclude(Problem("worker", "The engine was not ready in time."))
        if name == "stop" and self.phase is Phase.STOPPING:
            return [Announce("worker_hung", "capture did not stop"), Kill("capture")]
        if name == "drain" and self.phase is Phase.DRAINING:
            return [Announce("worker_hung", "encoder did not seal"), Kill("encoder")]
        if not (self.camera_away and self.phase is Phase.RECORDING):
            return []
        if name == "camera_retry" and "capture" not in self._running:
            return self._launch_capture()
        if name == "camera_return":
            return self._give_up_camera()
        return []

    def _give_up_camera(self) -> list[Action]:
        away = f"The camera did not come back within {self.camera_return_s:g} s"
        away += f": {self._away_because.rstrip('.')}." if self._away_because else "."
        self._problem = Problem(CameraError.code, away, "What was recorded is sealed.")
        end = self._end_stream() if self._streaming else [Kill("capture"), *self._drain()]
        return [Announce("error", away), *end]

    def _conclude(self, problem: Problem | None) -> list[Action]:
        started = self.phase is not Phase.STARTING
        self.phase = Phase.DONE
        return [Conclude(started=started, problem=problem)]
