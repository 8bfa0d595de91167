"""Everything a controller is told, as types.

Those of PROTOCOL.md ("Events") and the client's own: a status that came, a failure that belongs to
no call, the engine's end. A kind that this version does not know arrives as a plain `Event`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.client.values import Result, Source, Status

__all__ = [
    "CameraBack",
    "CameraLost",
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
    """

    kind: str
    text: str = ""
    host_ns: int = field(default_factory=time.perf_counter_ns)
    details: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStarted(Event):
    """Frames are recorded from now on."""

    path: Path
    recording_id: str
    source: Source | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStopped(Event):
    """A recording is over, asked for or not, and sealed as far as the disk allowed."""

    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReceived(Event):
    """A status came, five times a second, or none did for 2 s (state ``engine_silent``)."""

    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class _PartEvent(Event):
    path: Path
    index: int | None = None


class PartOpened(_PartEvent):
    """A further part was begun: an encoder died, or frames changed their size or format."""

    __slots__ = ()


class PartSealed(_PartEvent):
    """A part is sealed."""

    __slots__ = ()


class PartRecovered(_PartEvent):
    """A dead encoder's part was closed."""

    __slots__ = ()


class RecoveryFailed(_PartEvent):
    """A dead encoder's part could not be closed yet; `sealrec recover` can do it later."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesLost(Event):
    """Frames that are in no file.

    Attributes:
        loss_class: Why, as in the balance sheet.
        frames: How many.
        ids: First and last id of each run; at most 100 of them.
    """

    loss_class: str
    frames: int
    ids: tuple[tuple[int | None, int | None], ...]


class CameraLost(Event):
    """The camera is gone and looked for; the file stays open."""

    __slots__ = ()


class CameraBack(Event):
    """The camera delivers again."""

    __slots__ = ()


class WorkerRestarted(Event):
    """A process died and was started again."""

    __slots__ = ()


class WorkerHung(Event):
    """A process does not answer and is killed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload(Event):
    """The encoder cannot keep up: it goes faster if it can, and frames are lost if not.

    Attributes:
        waiting: Frames in the ring.
    """

    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverloadOver(Event):
    """The encoder keeps up again."""

    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedStep(Event):
    """The encoder goes on with another preset.

    Attributes:
        speed: Its name.
    """

    speed: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskLow(Event):
    """The disk will be full soon, at the measured bit rate; once for each limit set.

    Attributes:
        minutes_left: Until then.
        free_bytes: Now.
    """

    minutes_left: float
    free_bytes: int


class DiskFailed(Event):
    """The disk takes no more: the recording ends."""

    __slots__ = ()


class ErrorReported(Event):
    """Something else that a person should know."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureReported(Event):
    """A failure that belongs to no call.

    Attributes:
        code: As in PROTOCOL.md, "Error codes".
    """

    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsDropped(Event):
    """So many events were not read in time, by this process or by one of its readers."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineGone(Event):
    """The engine's process is gone; always the last event of an engine.

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


def _ids(details: Mapping[str, Any]) -> tuple[tuple[int | None, int | None], ...]:
    return tuple((first, last) for first, last in details["ids"])


# Kind on the wire: the type, and its own fields by the details.
_KINDS: dict[str, tuple[type[Event], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "recording_started": (
        RecordingStarted,
        lambda d: {
            "path": Path(d["path"]),
            "recording_id": d["recording_id"],
            "source": Source.read(d.get("source")),
        },
    ),
    "recording_stopped": (RecordingStopped, lambda d: {"result": Result.read(d)}),
    "part_opened": (PartOpened, lambda d: {"path": Path(d["path"]), "index": d["index"]}),
    "part_sealed": (PartSealed, lambda d: {"path": Path(d["path"]), "index": d["index"]}),
    "part_recovered": (PartRecovered, lambda d: {"path": Path(d["path"])}),
    "recovery_failed": (RecoveryFailed, lambda d: {"path": Path(d["path"])}),
    "frames_lost": (
        FramesLost,
        lambda d: {"loss_class": d["class"], "frames": d["frames"], "ids": _ids(d)},
    ),
    "overload": (Overload, lambda d: {"waiting": d["waiting"]}),
    "overload_over": (OverloadOver, lambda d: {"waiting": d["waiting"]}),
    "speed_step": (SpeedStep, lambda d: {"speed": d["speed"]}),
    "disk_low": (
        DiskLow,
        lambda d: {"minutes_left": d["minutes_left"], "free_bytes": d["free_bytes"]},
    ),
    "worker_restarted": (WorkerRestarted, lambda _: {}),
    "worker_hung": (WorkerHung, lambda _: {}),
    "camera_lost": (CameraLost, lambda _: {}),
    "camera_back": (CameraBack, lambda _: {}),
    "disk_failed": (DiskFailed, lambda _: {}),
    "error": (ErrorReported, lambda _: {}),
    "events_dropped": (EventsDropped, lambda d: {"count": d["count"]}),
}


def read_event(kind: str, text: str, host_ns: int, details: Mapping[str, Any]) -> Event:
    """The event of a message; plain if its kind or its details are not known here."""
    plain: dict[str, Any] = {"kind": kind, "text": text, "host_ns": host_ns, "details": details}
    if kind not in _KINDS:
        return Event(**plain)
    found, own = _KINDS[kind]
    try:
        return found(**plain, **own(details))
    except (KeyError, TypeError, ValueError):
        return Event(**plain)
