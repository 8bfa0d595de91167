"""The tables inside a part: session, fragment and seal, typed, and their msgpack form.

A table is the message of an ``emsg`` box. Unknown keys are ignored, so that a later version may add
some; a known key of another type, or a row with too few fields, is refused. Decoding is typed all
the way down and a table's length is bounded before, so a forged one costs memory in proportion to
its own length and no more.

Source: FORMAT.md, "Inside the payload: fragmented MP4".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from ipc.errors import Corrupt
from ipc.frame import Loss, LossClass

__all__ = [
    "FRAGMENT_SCHEME",
    "SEAL_SCHEME",
    "SESSION_SCHEME",
    "ClockPair",
    "FragmentTable",
    "FrameRow",
    "IndexRow",
    "Note",
    "SealTable",
    "SessionTable",
    "pack_fragment",
    "pack_seal",
    "pack_session",
    "parse_fragment",
    "parse_seal",
    "parse_session",
]

SESSION_SCHEME: Final = "urn:sealrec:session:1"
FRAGMENT_SCHEME: Final = "urn:sealrec:fragment:1"
SEAL_SCHEME: Final = "urn:sealrec:seal:1"

_CLASSES: Final = {loss_class.label: loss_class for loss_class in LossClass}
_T = TypeVar("_T")


class FrameRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One written frame, in the order of the samples.

    Attributes:
        seq: The ring's sequence number: the key for counting a frame once.
        epoch: +1 at each opening of the source and at each step back of its ids or clock.
        frame_id: The camera's own id.
        camera_ns: Start of exposure on the camera's clock.
        host_ns: ``time.perf_counter_ns()`` at arrival.
        pts: 90 kHz from the recording's first frame.
        flags: ``ipc.frame.FrameFlags``.
    """

    seq: int
    epoch: int
    frame_id: int
    camera_ns: int
    host_ns: int
    pts: int
    flags: int


class Note(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A mark of the operator or an event of the engine.

    Attributes:
        host_ns: When, by ``time.perf_counter_ns()``.
        kind: A short word, e.g. ``mark`` or ``overload``.
        text: For a person.
    """

    host_ns: int
    kind: str
    text: str


class ClockPair(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The host clock and the time of day, read together.

    Attributes:
        host_ns: ``time.perf_counter_ns()``.
        utc_ns: ``time.time_ns()``.
    """

    host_ns: int
    utc_ns: int


class IndexRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a fragment is.

    Attributes:
        first_chunk: The chunk at whose first byte its ``emsg`` starts.
        pts: Presentation time of the fragment, 90 kHz.
        samples: Frames in it; 0 for a table-only fragment.
    """

    first_chunk: int
    pts: int
    samples: int


class SessionTable(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded with what: the first table of every part.

    Attributes:
        session: What the controller says about it (id, subject, operator, ...).
        camera: Model, serial number and settings of the source.
        codec: Encoder, picture size, rate and settings.
        colour: Matrix and range that the conversion really used.
        software: Name and version of the writer.
        clock: Host clock and time of day at the start of the part.
    """

    session: dict[str, str] = {}
    camera: dict[str, str] = {}
    codec: dict[str, str] = {}
    colour: dict[str, str] = {}
    software: str = ""
    clock: ClockPair | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FragmentTable:
    """What a fragment accounts for.

    Attributes:
        frames: One row per sample, in order; empty for a table-only fragment.
        lost: Frames that are in no file, and gaps.
        marks: The operator's marks.
        events: The engine's events (overload, speed step, camera lost or back, stall).
        clock: Host clock and time of day when the fragment was closed.
    """

    frames: tuple[FrameRow, ...] = ()
    lost: tuple[Loss, ...] = ()
    marks: tuple[Note, ...] = ()
    events: tuple[Note, ...] = ()
    clock: ClockPair | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealTable:
    """The last table of a sealed part.

    Attributes:
        part: Frames per class in this part.
        recording: Frames per class in all parts so far.
        parts: Parts so far, this one included.
        last: No other part follows.
        lost: Still pending since the last fragment; so are marks, events and clock.
        marks: See ``FragmentTable``.
        events: See ``FragmentTable``.
        clock: See ``FragmentTable``.
        index: One row per fragment; filled in by the writer.
        audit_head: Head of the catalog's audit chain; empty without a catalog.
    """

    part: dict[str, int] = field(default_factory=dict)
    recording: dict[str, int] = field(default_factory=dict)
    parts: int
    last: bool
    lost: tuple[Loss, ...] = ()
    marks: tuple[Note, ...] = ()
    events: tuple[Note, ...] = ()
    clock: ClockPair | None = None
    index: tuple[IndexRow, ...] = ()
    audit_head: str = ""


class _LossRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    label: str
    epoch: int
    first_id: int | None
    last_id: int | None
    first_host_ns: int
    last_host_ns: int


class _FragmentMap(msgspec.Struct, kw_only=True):
    frames: tuple[FrameRow, ...] = ()
    lost: tuple[_LossRow, ...] = ()
    marks: tuple[Note, ...] = ()
    events: tuple[Note, ...] = ()
    clock: ClockPair | None = None


class _SealMap(msgspec.Struct, kw_only=True):
    part: dict[str, int] = {}
    recording: dict[str, int] = {}
    parts: int
    last: bool
    lost: tuple[_LossRow, ...] = ()
    marks: tuple[Note, ...] = ()
    events: tuple[Note, ...] = ()
    clock: ClockPair | None = None
    index: tuple[IndexRow, ...] = ()
    audit_head: str = ""


_ENCODER: Final = msgspec.msgpack.Encoder()
_SESSION: Final = msgspec.msgpack.Decoder(SessionTable)
_FRAGMENT: Final = msgspec.msgpack.Decoder(_FragmentMap)
_SEAL: Final = msgspec.msgpack.Decoder(_SealMap)


def pack_session(table: SessionTable) -> bytes:
    """The msgpack map of a session table.

    Raises:
        ValueError: a value of another type than its field's, which no reader would take.
    """
    return _encode(_SESSION, table)


def pack_fragment(table: FragmentTable) -> bytes:
    """The msgpack map of a fragment table.

    Raises:
        ValueError: a value of another type than its field's, which no reader would take.
    """
    return _encode(
        _FRAGMENT,
        _FragmentMap(
            frames=table.frames,
            lost=_loss_rows(table.lost),
            marks=table.marks,
            events=table.events,
            clock=table.clock,
        ),
    )


def pack_seal(table: SealTable) -> bytes:
    """The msgpack map of a seal table.

    Raises:
        ValueError: a value of another type than its field's, which no reader would take.
    """
    return _encode(
        _SEAL,
        _SealMap(
            part=table.part,
            recording=table.recording,
            parts=table.parts,
            last=table.last,
            lost=_loss_rows(table.lost),
            marks=table.marks,
            events=table.events,
            clock=table.clock,
            index=table.index,
            audit_head=table.audit_head,
        ),
    )


def parse_session(data: bytes) -> SessionTable:
    """Read a session table.

    Raises:
        Corrupt: not a msgpack map of these keys and types.
    """
    return _decode(_SESSION, data, "session")


def parse_fragment(data: bytes) -> FragmentTable:
    """Read a fragment table.

    Raises:
        Corrupt: not a msgpack map of these keys and types, or a loss row that cannot be.
    """
    raw = _decode(_FRAGMENT, data, "fragment")
    return FragmentTable(
        frames=raw.frames,
        lost=_losses(raw.lost),
        marks=raw.marks,
        events=raw.events,
        clock=raw.clock,
    )


def parse_seal(data: bytes) -> SealTable:
    """Read a seal table.

    Raises:
        Corrupt: not a msgpack map of these keys and types, or a loss row that cannot be.
    """
    raw = _decode(_SEAL, data, "seal")
    return SealTable(
        part=raw.part,
        recording=raw.recording,
        parts=raw.parts,
        last=raw.last,
        lost=_losses(raw.lost),
        marks=raw.marks,
        events=raw.events,
        clock=raw.clock,
        index=raw.index,
        audit_head=raw.audit_head,
    )


def _encode(decoder: msgspec.msgpack.Decoder[_T], table: _T) -> bytes:
    """Encode, and make sure that it can be read: types are not checked at construction."""
    try:
        data = _ENCODER.encode(table)
        decoder.decode(data)
    except (msgspec.DecodeError, TypeError, OverflowError) as error:
        raise ValueError(f"a table that no reader would take: {error}") from error
    return data


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes, name: str) -> _T:
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Corrupt(f"The {name} table cannot be read.") from error


def _loss_rows(losses: tuple[Loss, ...]) -> tuple[_LossRow, ...]:
    return tuple(
        _LossRow(
            loss.loss_class.label,
            loss.epoch,
            loss.first_id,
            loss.last_id,
            loss.first_host_ns,
            loss.last_host_ns,
        )
        for loss in losses
    )


def _losses(rows: tuple[_LossRow, ...]) -> tuple[Loss, ...]:
    return tuple(_loss(row) for row in rows)


def _loss(row: _LossRow) -> Loss:
    loss_class = _CLASSES.get(row.label)
    known = row.first_id is not None and row.last_id is not None
    if loss_class is None or (row.first_id is None) != (row.last_id is None):
        raise Corrupt("A table names lost frames in a way that format version 1 does not know.")
    if known and row.last_id < row.first_id:  # type: ignore[operator]  # both are known here
        raise Corrupt("A table names a range of lost frames that ends before it starts.")
    return Loss(
        loss_class, row.epoch, row.first_id, row.last_id, row.first_host_ns, row.last_host_ns
    )
