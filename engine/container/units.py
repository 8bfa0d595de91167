"""Units of a payload: the init segment with its session, each fragment, the seal.

A unit starts at a chunk edge, and all but the seal end at one, so a file that was cut anywhere
shows which units are whole. Source: FORMAT.md, "Inside the payload" and "Decisions".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from engine.container.boxes import (
    BOX_HEADER_BYTES,
    MAX_EVENT_BYTES,
    MAX_UNIT_BYTES,
    Box,
    EventMessage,
    parse_box,
    parse_event,
)
from engine.container.payload import CHUNK
from engine.container.plaintext import Plaintext
from engine.container.tables import (
    FRAGMENT_SCHEME,
    SEAL_SCHEME,
    SESSION_SCHEME,
    FragmentTable,
    parse_fragment,
)
from ipc.errors import Corrupt

__all__ = ["MAX_INIT_BYTES", "CutUnit", "Unit", "read_unit"]

MAX_INIT_BYTES: Final = 1 << 24
"""Longest ``ftyp`` and ``moov`` together."""

UnitKind = Literal["init", "fragment", "seal"]
_KINDS: Final[dict[str, UnitKind]] = {
    SESSION_SCHEME: "init",
    FRAGMENT_SCHEME: "fragment",
    SEAL_SCHEME: "seal",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """One whole unit.

    Attributes:
        kind: What it is.
        offset: First byte in the plaintext.
        end: The byte after its last, padding included.
        event: Its ``emsg``.
        table: The table of a fragment; None otherwise.
        media_offset: First byte of ``ftyp`` and ``moov``, or of ``moof`` and ``mdat``.
        media_end: The byte after them; equal to ``media_offset`` without media.
    """

    kind: UnitKind
    offset: int
    end: int
    event: EventMessage
    table: FragmentTable | None
    media_offset: int
    media_end: int


@dataclass(frozen=True, slots=True)
class CutUnit:
    """A unit that the plaintext ends in.

    Attributes:
        offset: First byte in the plaintext.
        event: Its ``emsg``, if that is whole.
    """

    offset: int
    event: EventMessage | None


def read_unit(text: Plaintext, offset: int, limit: int) -> Unit | CutUnit:
    """Read the unit that starts at a place.

    Args:
        text: The plaintext.
        offset: Where it starts: 0 or the end of the unit before.
        limit: Read no further than this.

    Raises:
        Corrupt: the boxes there are no unit, or a chunk is not what was written.
    """
    boxes: list[Box] = []
    event: EventMessage | None = None
    table: FragmentTable | None = None
    position = offset
    while True:
        box = _box_at(text, position, limit)
        if box is None:
            return CutUnit(offset, event)
        if box.end - offset > MAX_UNIT_BYTES:
            raise _no_unit(offset)
        boxes.append(box)
        if box.kind == b"emsg":
            event = _event_at(text, box)
            if event.scheme == FRAGMENT_SCHEME:
                table = parse_fragment(event.data)
        position = box.end
        if _is_whole(boxes, event, table):
            return _unit(boxes, event, table)


def _box_at(text: Plaintext, position: int, limit: int) -> Box | None:
    """The box at a place; None if it does not end before the limit."""
    header = text.read(min(BOX_HEADER_BYTES, limit - position), position)
    if len(header) < BOX_HEADER_BYTES // 2:
        return None
    if len(header) < BOX_HEADER_BYTES and header[:4] == b"\0\0\0\1":
        return None  # a long size that is cut
    box = parse_box(header, position)
    return box if box.end <= limit else None


def _event_at(text: Plaintext, box: Box) -> EventMessage:
    if box.size_bytes > MAX_EVENT_BYTES:
        raise Corrupt(f"The emsg box at byte {box.offset} is {box.size_bytes} bytes long.")
    return parse_event(text.read(box.size_bytes, box.offset), box.offset)


def _is_whole(boxes: list[Box], event: EventMessage | None, table: FragmentTable | None) -> bool:
    """Whether these boxes are a unit with nothing missing.

    Raises:
        Corrupt: they cannot become one.
    """
    kinds = [box.kind for box in boxes]
    padded = kinds[-1] == b"free"
    if padded:
        kinds.pop()
    kind = None if event is None else _KINDS.get(event.scheme)
    expected = {
        None: [b"ftyp", b"moov"],
        "init": [b"ftyp", b"moov", b"emsg"],
        "fragment": [b"emsg", b"moof", b"mdat"] if table and table.frames else [b"emsg"],
        "seal": [b"emsg"],
    }[kind]
    if kinds != expected[: len(kinds)] or (event is not None and kind is None):
        raise _no_unit(boxes[0].offset)
    complete = len(kinds) == len(expected) and kind is not None
    if kind == "seal":
        return True
    at_edge = boxes[-1].end % CHUNK == 0
    if padded and not (complete and at_edge):
        raise _no_unit(boxes[0].offset)
    return complete and at_edge


def _unit(boxes: list[Box], event: EventMessage | None, table: FragmentTable | None) -> Unit:
    assert event is not None
    offset, kind = boxes[0].offset, _KINDS[event.scheme]
    media = [box for box in boxes if box.kind not in (b"emsg", b"free")]
    media_offset = media[0].offset if media else boxes[0].end
    media_end = media[-1].end if media else media_offset
    if kind == "init" and media_end - media_offset > MAX_INIT_BYTES:
        raise _no_unit(offset)
    return Unit(kind, offset, boxes[-1].end, event, table, media_offset, media_end)


def _no_unit(offset: int) -> Corrupt:
    return Corrupt(f"The boxes from byte {offset} on are none that a recording has.")
