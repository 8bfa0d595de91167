"""What the engine says, as typed values: what was started, the status, the balance sheet.

Each is read from a map of PROTOCOL.md ("Status", "Balance sheet"). What an engine of another minor
version leaves out has its default; what it adds is in ``raw``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

__all__ = [
    "Disk",
    "FrameCounts",
    "Latency",
    "Problem",
    "Result",
    "RingFigures",
    "Source",
    "Started",
    "Status",
    "WriteQueue",
]

T = TypeVar("T")

NO_LOSS: Mapping[str, int] = {}
LOST_CLASSES_BESIDE = ("offered", "written", "in_flight")


def _known(kind: type[T], raw: Mapping[str, Any] | None, /, **given: Any) -> T:
    """A value from those keys of a map that are its plain fields, and from what is given."""
    found = {
        one.name: raw[one.name]
        for one in fields(kind)  # type: ignore[arg-type]
        if raw and one.name in raw and one.default is not MISSING
    }
    return kind(**(found | given))


@dataclass(frozen=True, slots=True)
class Source:
    """What the camera, or whatever stands for it, delivers.

    Attributes:
        width_px, height_px, pixel_format: Of its frames.
        rate_hz: Nominal.
        triggered: It waits for a trigger before each frame.
        camera: Model, serial, settings as read back.
    """

    width_px: int = 0
    height_px: int = 0
    pixel_format: str = ""
    rate_hz: float = 0.0
    triggered: bool = False
    camera: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, raw: Mapping[str, Any] | None) -> Source | None:
        """From ``source``; None for one that was never opened."""
        return _known(cls, raw, camera=raw.get("camera") or {}) if raw else None


@dataclass(frozen=True, slots=True)
class Started:
    """A recording that has begun.

    Attributes:
        path: Of its first part; the next free name where the one asked for was taken.
        recording_id: Hex, also in the file's header.
        source: What is recorded.
    """

    path: Path
    recording_id: str
    source: Source | None = None

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Started:
        """From the result of ``start``."""
        source = Source.read(raw.get("source"))
        return cls(Path(raw["path"]), raw["recording_id"], source)


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a recording ended before it was asked to; codes are those of ``ipc.errors``."""

    code: str = ""
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Latency:
    """From a frame's arrival to its being durable, in seconds."""

    p50: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """Frames of a running recording: ``offered`` is the sum of all others.

    Attributes:
        offered: Delivered by the source, or known to have been skipped.
        written: Durable.
        in_flight: On their way.
        lost: By loss class; classes without any are 0.
    """

    offered: int = 0
    written: int = 0
    in_flight: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def lost_in_all(self) -> int:
        """Frames that are in no file."""
        return sum(self.lost.values())

    @classmethod
    def read(cls, raw: Mapping[str, int]) -> FrameCounts:
        """From ``frames`` of a status."""
        lost = {name: n for name, n in raw.items() if name not in LOST_CLASSES_BESIDE}
        return _known(cls, raw, lost=lost)


@dataclass(frozen=True, slots=True)
class RingFigures:
    """The frames between capture and disk.

    Attributes:
        slots: Frames that the ring can hold; 0 before it has its memory.
        fill: Not yet encoded.
        high_water: Most that ever were.
        not_durable: Not yet on the disk.
        crash_cover_s: How much longer the encoder's death would cost nothing.
        serial: Grows with each opening of a camera, whose ring is another one; 0 without one.
    """

    slots: int = 0
    fill: int = 0
    high_water: int = 0
    not_durable: int = 0
    crash_cover_s: float = 0.0
    serial: int = 0


@dataclass(frozen=True, slots=True)
class WriteQueue:
    """What is encoded and not yet durable, and how the last fragment fared."""

    bytes: int = 0
    fragments: int = 0
    stall_s: float = 0.0
    write_s: float = 0.0
    sync_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Disk:
    """Room on the recording's disk; ``minutes_left`` is None before it can be told."""

    free_bytes: int = 0
    minutes_left: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The engine's state, at most 0.2 s old.

    Attributes:
        state: As in PROTOCOL.md, or the client's own word where there is none of the engine's:
            ``no_engine`` (not opened, closed, or dead), ``launching`` (nothing was said yet),
            ``engine_silent`` (nothing was said for 2 s; all figures are the last known ones).
            Show green for ``recording`` and nothing else.
        raw: The map as it came, with the workers' figures.

    The other fields are those of PROTOCOL.md; sizes in bytes, times in seconds or, where the name
    says so, milliseconds.
    """

    state: str = "no_engine"
    phase: str = "idle"
    recording_id: str = ""
    path: Path | None = None
    part: int = 0
    elapsed_s: float = 0.0
    paused: bool = False
    frames: FrameCounts = FrameCounts()
    fps_in: float = 0.0
    fps_encoded: float = 0.0
    encode_ms: float = 0.0
    convert_ms: float = 0.0
    encoder: str = ""
    hardware: bool = False
    speed: str = ""
    overload: bool = False
    ring: RingFigures = RingFigures()
    write_queue: WriteQueue = WriteQueue()
    durable_bytes: int = 0
    durable_age_s: float | None = None
    latency_s: Latency | None = None
    disk: Disk = Disk()
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_recording(self) -> bool:
        """Frames come and become durable: the green light."""
        return self.state == "recording"

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Status:
        """From a status, or the result of ``get_status``."""
        return _known(
            cls,
            raw,
            path=Path(raw["path"]) if raw.get("path") else None,
            frames=FrameCounts.read(raw.get("frames") or {}),
            ring=_known(RingFigures, raw.get("ring")),
            write_queue=_known(WriteQueue, raw.get("write_queue")),
            latency_s=_latency(raw),
            disk=_known(Disk, raw.get("disk")),
            raw=raw,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The balance sheet of a recording that is over.

    Attributes:
        parts: All its files in order; empty if nothing was begun.
        recording_id: Hex.
        frames_offered: Delivered by the source, or known to have been skipped.
        frames_written: Durable, each counted once.
        lost: Frames by loss class, classes without any left out.
        gaps: Gaps of unknown length; they count no frames.
        balanced: Every frame is in exactly one class.
        duration_s: End of the last frame.
        size_bytes: Of all files.
        state: The worst of the parts: ``sealed``, ``recovered``, ``incomplete``; ``failed`` if
            there is none.
        latency_s: From arrival to durable; None without frames.
        source: What was recorded; None if it was never opened.
        encoder: Its name.
        problems: Sentences; only if unbalanced.
        problem: Only if it ended before it was asked to.
        raw: The map as it came.
    """

    parts: tuple[Path, ...] = ()
    recording_id: str = ""
    frames_offered: int = 0
    frames_written: int = 0
    lost: Mapping[str, int] = field(default_factory=dict)
    gaps: int = 0
    balanced: bool = False
    duration_s: float = 0.0
    size_bytes: int = 0
    state: str = "failed"
    latency_s: Latency | None = None
    source: Source | None = None
    encoder: str = ""
    problems: tuple[str, ...] = ()
    problem: Problem | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def path(self) -> Path | None:
        """The first part, by which every reader finds the others; None if nothing was begun."""
        return self.parts[0] if self.parts else None

    @property
    def frames_lost(self) -> int:
        """Frames that are in no file, all named in the files' tables."""
        return sum(self.lost.values())

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Result:
        """From the result of ``stop``, or the details of ``recording_stopped``."""
        problem = raw.get("problem")
        return _known(
            cls,
            raw,
            parts=tuple(Path(path) for path in raw.get("parts", ())),
            lost=raw.get("lost", NO_LOSS),
            latency_s=_latency(raw),
            source=Source.read(raw.get("source")),
            encoder=(raw.get("encoder") or {}).get("name", ""),
            problems=tuple(raw.get("problems", ())),
            problem=_known(Problem, problem) if problem else None,
            raw=raw,
        )


def _latency(raw: Mapping[str, Any]) -> Latency | None:
    found = raw.get("latency_s")
    return _known(Latency, found) if found else None
