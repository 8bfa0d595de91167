"""Sealed stills: a process that stands by once the first was asked for, and the calls it works on.

Each still is a recording of its own, of one frame, under keys of its own (workers/still.py writes
it). Runs on the supervisor's thread; never waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine import chronicle, software
from engine.config import RecordingConfig
from engine.parts import Parts
from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from ipc import messages
from ipc.errors import SealrecError, WorkerFailed, from_code
from ipc.messages import SealStill, StillRefused, StillSealed
from ipc.ring import Ring

__all__ = ["ROLE", "StillAnswer", "StillSource", "Stills"]

ROLE = "still"


@dataclass(frozen=True, slots=True)
class StillSource:
    """Where a still comes from.

    Attributes:
        ring: Of the open camera.
        rate_hz: Its nominal rate.
        camera: What it says of itself, for the session table.
    """

    ring: Ring
    rate_hz: float
    camera: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StillAnswer:
    """The outcome of one call: its result, or else the error."""

    call: int
    result: dict[str, Any] | None
    error: SealrecError | None = None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A still that is being sealed: by whom, its file and keys, and what the catalog shall know."""

    worker: WorkerProcess
    parts: Parts
    session: dict[str, str]
    source: str


class Stills:
    """The still process of one ring.

    Args:
        post: Gets the process's messages and its exit, from another thread.
        answer: Gets each outcome.
        put: Takes what the catalog shall know.
    """

    def __init__(
        self,
        post: Callable[[object], None],
        answer: Callable[[StillAnswer], None],
        put: chronicle.Put = chronicle.nobody,
    ) -> None:
        self._post, self._answer, self._put = post, answer, put
        self._worker: WorkerProcess | None = None
        self._ring: Ring | None = None
        self._waiting: dict[int, _Waiting] = {}

    def save(self, call: int, config: RecordingConfig, source: StillSource) -> None:
        """Have the newest frame sealed; the answer comes when it is durable.

        Raises:
            ConfigError, KeyFileError, WrongState: refused; nothing was written.
            WorkerFailed: the system gives no process.
        """
        newest = source.ring.statistics().published - 1
        parts = Parts(config)
        try:
            part, header = parts.begin()
            worker = self._running(source.ring)
        except (OSError, SealrecError) as error:
            parts.discard()
            parts.forget_keys()
            if isinstance(error, SealrecError):
                raise
            raise WorkerFailed(f"The still process cannot be started: {error}.") from error
        camera = source.camera
        self._waiting[call] = _Waiting(worker, parts, config.session, camera.get("source", ""))
        worker.send(
            SealStill(
                call=call,
                path=str(part.path),
                header=header,
                dek=parts.dek,
                seq=max(0, newest),
                rate_hz=source.rate_hz,
                session=config.session,
                camera=camera,
                software=software.NAME_AND_VERSION,
            )
        )

    def take(self, item: WorkerMessage | WorkerExit) -> None:
        """Take what the process says, or its exit."""
        if isinstance(item, WorkerExit):
            self._exited(item)
        elif isinstance(item.message, StillSealed | StillRefused):
            self._settle(item.message)

    def close(self) -> None:
        """The ring is about to be closed: what is in hand is sealed, then the process leaves."""
        worker, self._worker, self._ring = self._worker, None, None
        if worker is not None:
            worker.send(messages.Shutdown())

    @property
    def busy(self) -> bool:
        """A still is being sealed."""
        return bool(self._waiting)

    def _running(self, ring: Ring) -> WorkerProcess:
        if self._worker is None or self._ring is not ring:
            self.close()
            self._worker, self._ring = WorkerProcess(ROLE, ring.handles, self._post), ring
        return self._worker

    def _settle(self, message: StillSealed | StillRefused) -> None:
        waiting = self._waiting.pop(message.call, None)
        if waiting is None:
            return
        parts = waiting.parts
        if isinstance(message, StillRefused):
            parts.discard()
            error = from_code(message.code, message.message, message.hint)
            self._answer(StillAnswer(message.call, None, error))
        else:
            result = {
                "path": message.path,
                "size_bytes": message.size_bytes,
                "recording_id": parts.recording_id.hex(),
                "frame_id": message.frame_id,
                "camera_ns": message.camera_ns,
            }
            self._answer(StillAnswer(message.call, result))
            chronicle.still_sealed(
                self._put, parts.recording_id, message, waiting.session, waiting.source
            )
        parts.forget_keys()

    def _exited(self, item: WorkerExit) -> None:
        if item.worker is self._worker:
            self._worker = self._ring = None
        left = [call for call, one in self._waiting.items() if one.worker is item.worker]
        for call in left:
            still = self._waiting.pop(call)
            still.parts.forget_keys()
            error = WorkerFailed(
                f"The still process ended with {item.exit_code}.",
                hint="`sealrec recover` closes what it may have left.",
            )
            self._answer(StillAnswer(call, None, error))
