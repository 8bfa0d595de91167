"""What the engine tells the catalog: one frozen value for each thing that happened.

They hold what is known at that moment and nothing that is secret. ``rows`` turns them into rows,
``feed`` carries them there without ever holding a recording up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ipc.frame import Loss

__all__ = [
    "Began",
    "Fact",
    "FramesLost",
    "Marked",
    "PartClosed",
    "PartOpened",
    "Paused",
    "Resumed",
    "Stopped",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fact:
    """What all have in common.

    Attributes:
        recording_id: 16 bytes.
        at_ns: When, ``time.time_ns()``.
    """

    recording_id: bytes
    at_ns: int = field(default_factory=time.time_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Began(_Fact):
    """Frames are recorded from now on.

    Attributes:
        path: Of part 0.
        source: As it was asked for.
        session: What the controller says about it (session_id, subject, operator, ...).
        still: It is a single frame.
    """

    path: Path
    source: str
    session: Mapping[str, str] = field(default_factory=dict)
    still: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOpened(_Fact):
    """A further part is being written."""

    part: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PartClosed(_Fact):
    """A part got its end: sealed by its encoder, or recovered.

    Attributes:
        part: Its index.
        path: Final name.
        state: ``sealed`` or ``recovered``.
        generation: Of its header in force; so are the next two.
        chunk_count: See FORMAT.md.
        header_mac: 32 bytes.
        commitment: Key commitment of its payload, 32 bytes.
        size_bytes: Of the file.
        payload_bytes: Plaintext in it; None if that is not known here.
        earlier: It was left open by an earlier run of the engine.
    """

    part: int
    path: Path
    state: str
    generation: int
    chunk_count: int
    header_mac: bytes
    commitment: bytes
    size_bytes: int | None = None
    payload_bytes: int | None = None
    earlier: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FramesLost(_Fact):
    """Frames that are in no file, and gaps."""

    losses: tuple[Loss, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Marked(_Fact):
    """A mark of the controller.

    Attributes:
        host_ns: ``time.perf_counter_ns()``.
        kind: A short word.
        text: For a person.
    """

    host_ns: int
    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(_Fact):
    """The recording pauses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(_Fact):
    """The recording goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(_Fact):
    """It is over, and this is the balance sheet.

    Attributes:
        state: The worst of the parts.
        frames_offered: See PROTOCOL.md, "Balance sheet"; so are the rest.
        frames_written: Durable.
        gaps: Of unknown length.
        balanced: Every frame is in exactly one class.
        duration_s: End of the last frame.
        size_bytes: Of all files.
        parts: Number of parts.
        problem: Code of what ended it before it was asked to; empty if nothing did.
    """

    state: str
    frames_offered: int
    frames_written: int
    gaps: int
    balanced: bool
    duration_s: float
    size_bytes: int
    parts: int
    problem: str = ""

    @property
    def completed(self) -> bool:
        """It was asked to stop, and every part is closed."""
        return not self.problem and self.state in ("sealed", "recovered")


Fact = Began | PartOpened | PartClosed | FramesLost | Marked | Paused | Resumed | Stopped
