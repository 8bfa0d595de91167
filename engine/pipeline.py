"""Source, ring and encoder as they run: carries out what `lifecycle` decides.

Owns the ring and the two workers, as long as the camera is open: for one recording, or for several
one after another. Everything here runs on the supervisor's thread. It decides nothing about races
(that is `lifecycle`), keeps no account of frames (that is `recording`) and shows nothing to anyone
(that is `supervisor`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.camera_control import CameraCalls
from engine.config import SourceConfig
from engine.lifecycle import DRAIN_S, Lifecycle, Phase
from engine.opening import OpenedSource
from engine.parts import PartRecovered
from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from engine.recording import Recording, Tell
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
from engine.steps import Event as Step
from ipc import messages
from ipc.camera_control import CameraChanges
from ipc.errors import CameraError, ConfigError, MemoryRefused, SealrecError, WrongState
from ipc.messages import EncoderStatus, SourceOpened, WorkerStatus
from ipc.ring import Ring, RingStatistics

__all__ = ["Pipeline"]

SILENT_S = 5.0
# A set duration is so many frames; of a camera that loses time, so many seconds and a bit.
LATE_S = 1.0
# Announcements that the file keeps as well.
NOTED = (
    *("camera_lost", "camera_back", "camera_changed"),
    *("worker_hung", "worker_restarted", "disk_low"),
)
SILENT_AT_START_S = 30.0
LEAVE_S = 3.0
NO_RING = RingStatistics(
    slots=0,
    slot_bytes=0,
    published=0,
    released=0,
    committed=0,
    high_water=0,
    offered=0,
    lost={},
    losses_logged=0,
    losses_waiting=0,
    epoch=0,
    ended=False,
    last_host_ns=None,
    crash_cover_frames=0,
)


@dataclass(slots=True)
class _Seen:
    """What the workers last said of themselves."""

    status: dict[str, WorkerStatus] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    encoder: EncoderStatus | None = None


@dataclass(frozen=True, slots=True)
class _StartFailed:
    """The system gave no process; the shell's code for it."""

    role: Role
    exit_code: int = 127


class Pipeline:
    """One open source, its ring and its workers.

    Args:
        config: The source, checked already.
        post: Puts an item into the supervisor's inbox, from any thread.
        tell: Tells the controller of an event: kind, text, details.
        recording: What the source is opened for; None: it stays open, and recordings follow.

    Attributes:
        source: As asked for, and what it delivers.
        recording: The one that runs.
        left_because: Why a source that should stay open is closed.
        camera: Calls about its settings.
        serial: Number of this ring, for those who look at it.
    """

    def __init__(
        self,
        config: SourceConfig,
        post: Callable[[object], None],
        tell: Tell,
        recording: Recording | None = None,
    ) -> None:
        self._post, self._tell = post, tell
        self.recording = recording
        self.ring = Ring.reserve()
        self.lifecycle = Lifecycle(
            source_restarts=config.source_kind != "file", keep_open=recording is None
        )
        self.source = OpenedSource(config)
        if recording is not None:
            self.source.limits = recording.config.limits
            self._limit(recording)
        self.camera = CameraCalls(lambda order: self._send("capture", order), post)
        self.serial = 0
        self.workers: dict[str, WorkerProcess] = {}
        self.seen = _Seen()
        self.opened_at = time.monotonic()
        self.left_because: Problem | None = None
        self._left = False
        self._timers: dict[str, float] = {}
        self._opening: set[str] = set()
        self._leave_by: float | None = None

    # --- what is asked ------------------------------------------------------------------------

    def start(self) -> None:
        """Open the source; if that is for a recording, begin it."""
        self._feed(StartRequested())

    def begin(self, recording: Recording) -> None:
        """Begin a recording of the open source.

        Raises:
            CameraError: the camera is away just now.
        """
        if self.lifecycle.camera_away:
            raise CameraError(
                "The camera is away; nothing was started.", hint="Wait for camera_back."
            )
        self._limit(recording)
        recording.begin_in(self.statistics)
        self.recording = recording
        self._feed(RecordingRequested())

    def ask_camera(self, call: int, changes: CameraChanges | None) -> None:
        """Change the camera's settings, if any are given, and ask for them; a `CameraAnswer` comes.

        Raises:
            CameraError: there is no camera to ask just now.
        """
        if "capture" not in self.workers or self.lifecycle.camera_away:
            raise CameraError("The camera is away; nothing was changed.", hint="Try again later.")
        self.camera.ask(call, changes)

    def _limit(self, recording: Recording) -> None:
        config, lifecycle = recording.config, self.lifecycle
        lifecycle.camera_return_s = config.camera_return_s
        timed = config.source_kind == "vimba" or lifecycle.keep_open
        lifecycle.duration_s = config.seconds if timed else None

    def stop(self) -> None:
        """End the recording, drain, seal; a second call changes nothing."""
        self._feed(StopRequested())

    def close(self) -> None:
        """End everything: what is being recorded is sealed, then the source is closed."""
        self._feed(CloseRequested() if self.lifecycle.keep_open else StopRequested())

    def running(self) -> Recording:
        """The recording whose frames are being written.

        Raises:
            WrongState: there is none.
        """
        recording = self.recording
        if recording is None or self.lifecycle.phase is not Phase.RECORDING:
            raise WrongState("Nothing is being recorded.", hint="Start a recording first.")
        return recording

    def pause(self, *, paused: bool) -> int:
        """Write no frames, or write them again; returns since when, on the host's clock.

        Raises:
            WrongState: nothing is being recorded, or it is paused (or not) already.
        """
        recording = self.running()
        if recording.paused is paused:
            raise WrongState(f"The recording is {'' if paused else 'not '}paused already.")
        order = recording.pause(paused=paused)
        self._send("encoder", order)
        if paused:
            self.announce("recording_paused", "", {})
        else:
            self.announce("recording_resumed", "", {})
        return order.host_ns

    def mark(self, kind: str, text: str) -> int:
        """Keep something that happened in the file; returns its time on the host's clock.

        Raises:
            WrongState: nothing is being recorded.
        """
        note = self.running().note(kind, text, mark=True)
        self._send("encoder", note)
        return note.host_ns

    def trigger(self) -> bool:
        """Let the camera take one frame; False if none waits for that."""
        source, lifecycle = self.source.said, self.lifecycle
        waits = source is not None and source.triggered and "capture" in self.workers
        streams = lifecycle.phase in (Phase.RECORDING, Phase.READY, Phase.OPENING)
        if waits and streams and not lifecycle.camera_away:
            self._send("capture", messages.FireTrigger())
            return True
        return False

    # --- what comes in ------------------------------------------------------------------------

    def take(self, item: object) -> None:
        """Take one item from the inbox."""
        if isinstance(item, WorkerMessage):
            if self.workers.get(item.worker.role) is item.worker:
                self.seen.heard[item.worker.role] = time.monotonic()
            self._message(item.worker.role, item.message)
        elif isinstance(item, WorkerExit):
            self._exited(item)
        elif isinstance(item, _StartFailed) and not self._left:
            self._feed(WorkerGone(item.role, item.exit_code))
        elif isinstance(item, PartRecovered) and self.recording is not None:
            self.recording.recovered(item)
            if self.recording.finish_waits and not self.recording.parts.recovering:
                self._finish()

    def tick(self, *, stalled: bool) -> None:
        """Fire what is due; ``stalled`` says that the supervisor itself was held up just now."""
        now = time.monotonic()
        due = [name for name, at in self._timers.items() if at <= now]
        for name in due:
            if self._timers.pop(name, None) is not None:
                self._feed(TimerFired(name))
        starting = self.lifecycle.phase is Phase.STARTING
        for role, heard in list(self.seen.heard.items()):
            # Imports, a camera and an encoder take their time, also in the middle of a recording.
            limit = SILENT_AT_START_S if starting or role in self._opening else SILENT_S
            if stalled:
                self.seen.heard[role] = now  # their heartbeats wait in the pipe
            elif now - heard > limit and role in self.workers:
                self.seen.heard[role] = now
                self._feed(WorkerSilent(role))  # type: ignore[arg-type]
        if self._leave_by is not None and now > self._leave_by:
            for worker in self.workers.values():
                worker.kill()

    @property
    def next_timer(self) -> float | None:
        """Monotonic time of the next timer."""
        return min(self._timers.values(), default=None)

    @property
    def finished(self) -> bool:
        """Closed, and all workers gone."""
        return self._left and not self.workers

    def _feed(self, event: Step) -> None:
        for action in self.lifecycle.handle(event):
            self._do(action)

    def _message(self, role: str, message: messages.Message) -> None:  # noqa: PLR0912 - one case each
        match message:
            case WorkerStatus():
                self.seen.status[role] = message
            case EncoderStatus():
                self.seen.encoder = message
            case SourceOpened():
                self._opened(message)
            case messages.SourceSilent():
                self._feed(SourceSilent(message.reason))
            case messages.SourceHeard():
                self._feed(SourceHeard())
            case messages.CameraTold():
                self._camera_told(message)
            case messages.CameraRefused():
                self.camera.refused(message)
            case messages.StreamEnded():
                self._feed(StreamOver(message.reason))
            case messages.StandingBy():
                self._opening.discard(role)
                self._feed(EncoderReady())
            case messages.PartNeeded():
                self.source.frame |= {
                    "width_px": message.width_px,
                    "height_px": message.height_px,
                    "pixel_format": message.pixel_format,
                }
            case messages.Failure():
                problem = Problem(message.code, message.message, message.hint)
                self._feed(WorkerRefused(role, problem))  # type: ignore[arg-type]
            case messages.Event():
                self._tell(message.kind, message.text, message.details)
            case _ if self.recording is not None:
                self._of_recording(self.recording, message)

    def _of_recording(self, recording: Recording, message: messages.Message) -> None:
        recording.take(message)
        match message:
            case messages.FragmentDurable() if "drain" in self._timers:
                self._timers["drain"] = time.monotonic() + DRAIN_S  # slow is not hung
            case messages.FramesLost():
                recording.count_lost(message.lost)
            case messages.PartOpened():
                self._opening.discard("encoder")
                self._feed(PartReady())
            case messages.PartSealed():
                self._feed(PartEnded(message.last))
            case messages.PartFailed():
                recording.part.state = "sealed" if message.sealed else "failed"
                self._feed(PartGone(Problem(message.code, message.message, message.hint)))

    def _opened(self, source: SourceOpened) -> None:
        self.source.opened(source)
        self._opening.discard("capture")
        self._feed(SourceReady())

    def _camera_told(self, message: messages.CameraTold) -> None:
        changes = self.camera.told(message)
        if changes is not None:
            self.source.changed(changes, message.rate_hz)
            text = changes.as_set(message.state)
            self.announce("camera_changed", text, msgspec.to_builtins(message.state))

    def _exited(self, exit_: WorkerExit) -> None:
        role = exit_.worker.role
        if self.workers.get(role) is not exit_.worker:
            return
        del self.workers[role]
        if role == "capture":
            self.camera.capture_is_gone()
        self.seen.heard.pop(role, None)
        if self._left:
            return
        recording, whole = self.recording, False
        if role == "encoder" and recording is not None and recording.parts.was_sealed():
            recording.parts.recount(self._post)  # its last words may have died with it
            whole = recording.is_whole(self.statistics)
        self._feed(WorkerGone(role, exit_.exit_code, whole))  # type: ignore[arg-type]

    # --- what is done -------------------------------------------------------------------------

    def _do(self, action: Action) -> None:  # noqa: PLR0912 - one case per action
        match action:
            case StartWorker(role):
                self._start_worker(role)
            case Kill(role):
                if role in self.workers:
                    self.workers[role].kill()
            case OpenSource():
                spec, policy = self.source.spec(self._offered), self.source.config.policy
                self._send("capture", messages.OpenSource(spec=spec, policy=policy))
            case BeginStream():
                left = self.source.frames_left(self._offered)
                self._send("capture", messages.BeginStream(max_frames=left))
            case EndStream():
                self._send("capture", messages.EndStream())
            case AllocateRing():
                self._allocate()
            case StandBy():
                self._send("encoder", self.source.stand_by(self.statistics.slots))
            case OpenPart():
                self._open_part()
            case RetirePart():
                if self.recording is not None:
                    self.recording.parts.retire(self._post)
            case FinishRecording():
                self._finish()
            case SetTimer(name, seconds):
                if name == "duration" and self.source.frames_left(0) is not None:
                    seconds += LATE_S
                self._timers[name] = time.monotonic() + seconds
            case CancelTimer(name):
                self._timers.pop(name, None)
            case Announce(kind, text):
                self._announce_step(kind, text)
            case Conclude():
                assert self.recording is not None
                self.recording.concluded = action
                if self.lifecycle.phase is Phase.DONE:
                    self._leave()
            case Leave(problem):
                self.left_because = problem
                self._leave()

    def _leave(self) -> None:
        self._left = True
        self._timers.clear()
        self._leave_by = time.monotonic() + LEAVE_S
        for worker in self.workers.values():
            worker.send(messages.Shutdown())

    def _announce_step(self, kind: str, text: str) -> None:
        details: dict[str, Any] = {}
        if kind == "camera_opened":
            details = {"source": self.source.details()}
        elif kind == "recording_started" and self.recording is not None:
            recording = self.recording
            recording.began_at = time.monotonic()
            recording.chronicle.began(recording.parts.base, recording.config)
            details = {
                "path": str(recording.parts.base),
                "recording_id": recording.parts.recording_id.hex(),
                "source": self.source.details(),
            }
        elif kind in ("part_opened", "part_sealed") and self.recording is not None:
            part = self.recording.part
            details = {"path": str(part.path), "index": part.index}
        self.announce(kind, text, details)

    def announce(self, kind: str, text: str, details: dict[str, Any]) -> None:
        """Tell the controller of an event, and the file if it is one to be kept."""
        if kind in NOTED and self.recording is not None:
            self._send("encoder", self.recording.note(kind, text))
        self._tell(kind, text, details)

    def _start_worker(self, role: Role) -> None:
        try:
            self.workers[role] = WorkerProcess(role, self.ring.handles, self._post)
        except OSError as error:
            self._tell("error", f"{role} cannot be started: {error.strerror}", {})
            self._post(_StartFailed(role))  # after this list of actions
            return
        self.seen.heard[role] = time.monotonic()
        self._opening.add(role)
        if role == "encoder":
            self.seen.encoder = None  # a dead one's stall is not this one's

    def _send(self, role: str, message: messages.Message) -> None:
        if role in self.workers:
            self.workers[role].send(message)

    # --- the source and its ring --------------------------------------------------------------

    def _allocate(self) -> None:
        try:
            slots, slot_bytes = self.source.ring_size()
            self.ring.allocate(slots=slots, slot_bytes=slot_bytes)
        except (MemoryRefused, ConfigError, ValueError) as error:
            code = getattr(error, "code", "config")
            hint = getattr(error, "hint", "")
            text = getattr(error, "message", str(error))
            self._feed(RingRefused(Problem(code, text, hint)))
            return
        self._feed(RingReady())

    @property
    def statistics(self) -> RingStatistics:
        """The ring's cursors; zeros before it has its memory."""
        try:
            return self.ring.statistics()
        except WrongState:
            return NO_RING

    @property
    def _offered(self) -> int:
        return self.statistics.offered

    # --- the encoder's orders -----------------------------------------------------------------

    def _open_part(self) -> None:
        recording, source = self.recording, self.source
        assert recording is not None
        keep_open = self.lifecycle.keep_open
        stand_by = source.stand_by(self.statistics.slots) if keep_open else None
        try:
            order = recording.open_part(source, stand_by)
        except SealrecError as error:
            self._feed(PartGone(Problem(error.code, error.message, error.hint)))
            return
        self._send("encoder", order)
        for note in recording.notes:
            self._send("encoder", note)

    def _finish(self) -> None:
        assert self.recording is not None
        order = self.recording.finish(self.statistics, camera_away=self.lifecycle.camera_away)
        if order is not None:
            self._send("encoder", order)

    # --- the end ------------------------------------------------------------------------------

    def settle_recording(self) -> dict[str, Any]:
        """Close the books of a recording that is over: the balance sheet.

        One whose encoders are gone for good leaves its frames in the ring: they are named.
        """
        recording = self.recording
        assert recording is not None
        ring = self.statistics
        started = recording.concluded is not None and recording.concluded.started
        if self._left and started:
            recording.name_leftovers(ring, self.ring.handles)
        recording.settle()
        result = recording.result(ring)
        result["source"] = self.source.details()
        result["encoder"] = self._encoder_figures(recording)
        recording.chronicle.stopped(result)
        self.recording = None
        return result

    def _encoder_figures(self, recording: Recording) -> dict[str, Any]:
        part, seen = recording.parts.current, self.seen.encoder
        return {
            "name": part.encoder if part else "",
            "hardware": part.hardware if part else False,
            "encode_ms": round(seen.encode_ms, 3) if seen else None,
            "convert_ms": round(seen.convert_ms, 3) if seen else None,
        }

    def release(self) -> None:
        """Give back the ring, once `finished`."""
        self.ring.close()
