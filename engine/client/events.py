"""Everything a controller is told, as types.

Those of PROTOCOL.md ("Events") and the client's own: a status that came, a failure that belongs to
no call, the engine's end. A kind that this version does not know arrives as a plain `Event`. What
an event says beside its text is in its ``details``, which the types' properties read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from engine.client.camera import Camera
from engine.client.values import Result, Source, Status

__all__ = [
    "CameraBack",
    "CameraChanged",
    "CameraClosed",
    "CameraLost",
    "CameraOpened",
    "CatalogBack",
    "CatalogBehind",
    "DiskFailed",
    "DiskLow",
    "EngineGone",
    "ErrorReported",
    "Event",
    "EventsDropped",
    "FailureReported",
    "FramesLost",
    "Overload",
    "OverloadOver",
    "PartOpened",
    "PartRecovered",
    "PartSealed",
    "RecordingPaused",
    "RecordingResumed",
    "RecordingStarted",
    "RecordingStopped",
    "RecoveryFailed",
    "SpeedStep",
    "StatusReceived",
    "WorkerHung",
    "WorkerRestarted",
    "read_event",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, once.

    Attributes:
        kind: Its name on the wire, or the client's own.
        text: For a person; may be empty.
        host_ns: When, on ``time.perf_counter_ns()``, which all processes of a machine share.
        details: By kind, as they came.
        needs: Details without which an event is not of this type.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    kind: str
    text: str = ""
    host_ns: int = field(default_factory=time.perf_counter_ns)
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)


class CameraOpened(Event):
    """The camera streams; a recording can begin."""

    __slots__ = ()

    @property
    def source(self) -> Source | None:
        """What it delivers."""
        return Source.read(self.details.get("source"))


class CameraClosed(Event):
    """A camera that was to stay open is closed; the text says why if nobody asked for it."""

    __slots__ = ()

    @property
    def expected(self) -> bool:
        """It was asked for."""
        return "code" not in self.details

    @property
    def code(self) -> str:
        """Of ``ipc.errors``; empty if it was asked for."""
        return str(self.details.get("code", ""))

    @property
    def hint(self) -> str:
        """What can be done."""
        return str(self.details.get("hint", ""))


class RecordingPaused(Event):
    """Frames are named as paused from now on."""

    __slots__ = ()


class RecordingResumed(Event):
    """Frames are written again."""

    __slots__ = ()


class RecordingStarted(Event):
    """Frames are recorded from now on."""

    __slots__ = ()
    needs = ("path", "recording_id")

    @property
    def path(self) -> Path:
        """Of the first part."""
        return Path(self.details["path"])

    @property
    def recording_id(self) -> str:
        """Hex, also in the file's header."""
        return str(self.details["recording_id"])

    @property
    def source(self) -> Source | None:
        """What is recorded."""
        return Source.read(self.details.get("source"))


class RecordingStopped(Event):
    """A recording is over, asked for or not, and sealed as far as the disk allowed."""

    __slots__ = ()

    @property
    def result(self) -> Result:
        """Its balance sheet."""
        return Result.read(self.details)


class _PartEvent(Event):
    __slots__ = ()
    needs = ("path",)

    @property
    def path(self) -> Path:
        """Of the part."""
        return Path(self.details["path"])

    @property
    def index(self) -> int | None:
        """Of the part; None where it is not told."""
        return self.details.get("index")


class PartOpened(_PartEvent):
    """A further part was begun: an encoder died, or frames changed their size or format."""

    __slots__ = ()


class PartSealed(_PartEvent):
    """A part is sealed."""

    __slots__ = ()


class PartRecovered(_PartEvent):
    """A part was closed: of a dead encoder, or one that an earlier run left open.

    What it holds is told for that of an earlier run only; its own counts in the balance sheet.
    """

    __slots__ = ()

    @property
    def state(self) -> str | None:
        """``sealed`` or ``recovered``."""
        return self.details.get("state")

    @property
    def frames(self) -> int | None:
        """Frames that it holds."""
        return self.details.get("frames")

    @property
    def lost_bytes(self) -> int | None:
        """Bytes behind its last whole fragment."""
        return self.details.get("lost_bytes")


class RecoveryFailed(_PartEvent):
    """A part that was left open could not be closed yet; `sealrec recover` can do it later."""

    __slots__ = ()


class FramesLost(Event):
    """Frames that are in no file."""

    __slots__ = ()
    needs = ("class", "frames", "ids")

    @property
    def loss_class(self) -> str:
        """Why, as in the balance sheet."""
        return str(self.details["class"])

    @property
    def frames(self) -> int:
        """How many."""
        return int(self.details["frames"])

    @property
    def ids(self) -> tuple[tuple[int | None, int | None], ...]:
        """First and last id of each run; at most 100 of them."""
        return tuple((first, last) for first, last in self.details["ids"])


class _LoadEvent(Event):
    __slots__ = ()
    needs = ("waiting",)

    @property
    def waiting(self) -> int:
        """Frames in the ring."""
        return int(self.details["waiting"])


class Overload(_LoadEvent):
    """The encoder cannot keep up: it goes faster if it can, and frames are lost if not."""

    __slots__ = ()


class OverloadOver(_LoadEvent):
    """The encoder keeps up again."""

    __slots__ = ()


class SpeedStep(Event):
    """The encoder goes on with another preset."""

    __slots__ = ()
    needs = ("speed",)

    @property
    def speed(self) -> str:
        """Its name."""
        return str(self.details["speed"])


class WorkerRestarted(Event):
    """A process died and was started again."""

    __slots__ = ()


class WorkerHung(Event):
    """A process does not answer and is killed."""

    __slots__ = ()


class CameraLost(Event):
    """The camera is gone, or silent, and looked for; the file stays open."""

    __slots__ = ()


class CameraChanged(Event):
    """Settings of the camera were changed; the text says which, and what they are now."""

    __slots__ = ()

    @property
    def camera(self) -> Camera:
        """All of its settings."""
        return Camera.read(self.details)


class CameraBack(Event):
    """The camera delivers again."""

    __slots__ = ()


class CatalogBehind(Event):
    """The catalog is missing, locked, slow or down; rows wait for it, the recording does not."""

    __slots__ = ()
    needs = ("waiting",)

    @property
    def waiting(self) -> int:
        """Rows that wait."""
        return int(self.details["waiting"])


class CatalogBack(Event):
    """The catalog has everything that waited for it."""

    __slots__ = ()
    needs = ("missed",)

    @property
    def missed(self) -> int:
        """Rows that could not be kept; `sealrec catalog sync` brings them in."""
        return int(self.details["missed"])


class DiskLow(Event):
    """The disk will be full soon, at the measured bit rate; once for each limit set."""

    __slots__ = ()
    needs = ("minutes_left", "free_bytes")

    @property
    def minutes_left(self) -> float:
        """Until it is full."""
        return float(self.details["minutes_left"])

    @property
    def free_bytes(self) -> int:
        """Room that it has."""
        return int(self.details["free_bytes"])


class DiskFailed(Event):
    """The disk takes no more: the recording ends."""

    __slots__ = ()


class ErrorReported(Event):
    """Something else that a person should know."""

    __slots__ = ()


class EventsDropped(Event):
    """Some events were not read in time, by this process or by one of its readers."""

    __slots__ = ()
    needs = ("count",)

    @property
    def count(self) -> int:
        """How many."""
        return int(self.details["count"])


class FailureReported(Event):
    """A failure that belongs to no call. The client's own."""

    __slots__ = ()

    @property
    def code(self) -> str:
        """As in PROTOCOL.md, "Error codes"."""
        return str(self.details["code"])


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReceived(Event):
    """A status came, five times a second, or none did for 2 s (state ``engine_silent``)."""

    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineGone(Event):
    """The engine's process is gone; always the last event of an engine. The client's own.

    Attributes:
        pid: Its process id.
        exit_code: Negative codes are signals; None if it only closed its side.
        expected: It was closed, and left in order.
        last_lines: What it wrote to stderr last.
    """

    pid: int
    exit_code: int | None
    expected: bool
    last_lines: tuple[str, ...] = field(default=(), repr=False)


_KINDS: dict[str, type[Event]] = {
    "camera_opened": CameraOpened,
    "camera_closed": CameraClosed,
    "recording_paused": RecordingPaused,
    "recording_resumed": RecordingResumed,
    "recording_started": RecordingStarted,
    "recording_stopped": RecordingStopped,
    "part_opened": PartOpened,
    "part_sealed": PartSealed,
    "part_recovered": PartRecovered,
    "recovery_failed": RecoveryFailed,
    "frames_lost": FramesLost,
    "overload": Overload,
    "overload_over": OverloadOver,
    "speed_step": SpeedStep,
    "worker_restarted": WorkerRestarted,
    "worker_hung": WorkerHung,
    "camera_lost": CameraLost,
    "camera_back": CameraBack,
    "camera_changed": CameraChanged,
    "catalog_behind": CatalogBehind,
    "catalog_back": CatalogBack,
    "disk_low": DiskLow,
    "disk_failed": DiskFailed,
    "error": ErrorReported,
    "events_dropped": EventsDropped,
}


def read_event(kind: str, text: str, host_ns: int, details: Mapping[str, Any]) -> Event:
    """The event of a message; plain if its kind is not known here or its details are not whole."""
    found = _KINDS.get(kind, Event)
    if not all(name in details for name in found.needs):
        found = Event
    return found(kind=kind, text=text, host_ns=host_ns, details=details)
