"""ISO base media boxes, as far as a recording needs them: headers, ``free`` padding, ``emsg``.

What is inside ``moov``, ``moof`` and ``mdat`` is the encoder's; here they are only measured and
skipped. Every length is checked against a bound before anything of that length is read or made.

Source: FORMAT.md, "Inside the payload: fragmented MP4"; ISO/IEC 14496-12 (boxes), ISO/IEC 23009-1
5.10.3.3 (``emsg``).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.container.payload import CHUNK
from ipc.errors import Corrupt

__all__ = [
    "BOX_HEADER_BYTES",
    "MAX_EVENT_BYTES",
    "MAX_UNIT_BYTES",
    "TIMESCALE_HZ",
    "Box",
    "EventMessage",
    "free_box",
    "iterate_boxes",
    "pack_event",
    "padding_after",
    "parse_box",
    "parse_event",
    "require_boxes",
]

TIMESCALE_HZ: Final = 90_000
BOX_HEADER_BYTES: Final = 16
"""Longest header of a box; this many bytes are enough for ``parse_box``."""
MAX_UNIT_BYTES: Final = 1 << 28
"""Longest box, and longest fragment with all its boxes."""
MAX_EVENT_BYTES: Final = 1 << 25
"""Longest ``emsg``; the seal of a part of many days is the longest there is."""

_COMPACT: Final = struct.Struct(">I4s")
_LARGE: Final = struct.Struct(">I4sQ")
_LARGE_MARK: Final = 1
_SMALLEST_BOX: Final = 8
_EVENT: Final = struct.Struct(">IIQII")  # version and flags, timescale, time, duration, id
_VERSION_1: Final = 1 << 24
_UNKNOWN_DURATION: Final = (1 << 32) - 1
_MAX_SCHEME_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class Box:
    """Where a box lies in the plaintext.

    Attributes:
        kind: Four characters, e.g. ``b"moof"``.
        offset: First byte of its header.
        header_bytes: 8 or 16.
        size_bytes: Header and content.
    """

    kind: bytes
    offset: int
    header_bytes: int
    size_bytes: int

    @property
    def end(self) -> int:
        """The byte after its last."""
        return self.offset + self.size_bytes


@dataclass(frozen=True, slots=True)
class EventMessage:
    """An ``emsg`` box of version 1 with an empty value.

    Attributes:
        scheme: ``urn:sealrec:...``.
        pts: Presentation time, 90 kHz from the recording's first frame.
        duration: 90 kHz; None if it was too long for the field.
        number: The box's id: the fragment's number in its part.
        data: The message, a msgpack map.
    """

    scheme: str
    pts: int
    duration: int | None
    number: int
    data: bytes


def parse_box(header: bytes | memoryview, offset: int) -> Box:
    """Read the header of a box.

    Args:
        header: Its first 16 bytes; fewer are enough where the box is smaller.
        offset: Its place in the plaintext, for the result and for messages.

    Raises:
        Corrupt: shorter than a header, a size no box can have, one that reaches to the end of the
            file (size 0), or one beyond ``MAX_UNIT_BYTES``.
    """
    if len(header) < _COMPACT.size:
        raise Corrupt(f"The stream ends inside the header of a box, at byte {offset}.")
    size, kind = _COMPACT.unpack_from(header)
    header_bytes = _COMPACT.size
    if size == _LARGE_MARK:
        if len(header) < _LARGE.size:
            raise Corrupt(f"The stream ends inside the header of a box, at byte {offset}.")
        size, header_bytes = _LARGE.unpack_from(header)[2], _LARGE.size
    if not header_bytes <= size <= MAX_UNIT_BYTES:
        raise Corrupt(f"The box at byte {offset} says it is {size} bytes long.")
    return Box(bytes(kind), offset, header_bytes, size)


def iterate_boxes(data: bytes | memoryview, offset: int = 0) -> Iterator[Box]:
    """The top-level boxes of ``data``, which holds whole boxes and nothing else.

    Args:
        data: The bytes.
        offset: Place of its first byte in the plaintext; the boxes' offsets count from there.

    Raises:
        Corrupt: the last box runs past the end, or ``parse_box`` refuses one.
    """
    view, position = memoryview(data), 0
    while position < len(view):
        box = parse_box(view[position : position + BOX_HEADER_BYTES], offset + position)
        if box.size_bytes > len(view) - position:
            raise Corrupt(f"The box at byte {box.offset} runs past the end.")
        yield box
        position += box.size_bytes


def require_boxes(data: bytes, kinds: list[bytes]) -> None:
    """Check what a caller hands in.

    Raises:
        ValueError: ``data`` is not exactly one box of each of these kinds, in this order.
    """
    try:
        found = [box.kind for box in iterate_boxes(data)]
    except Corrupt as error:
        raise ValueError(error.message) from error
    if found != kinds:
        raise ValueError(f"boxes {found} where {kinds} belong")


def free_box(size_bytes: int) -> bytes:
    """A ``free`` box of exactly ``size_bytes`` (8 or more), filled with zeros."""
    if not _SMALLEST_BOX <= size_bytes <= MAX_UNIT_BYTES:
        raise ValueError(f"no free box has {size_bytes} bytes")
    return _COMPACT.pack(size_bytes, b"free") + bytes(size_bytes - _SMALLEST_BOX)


def padding_after(position: int) -> bytes:
    """The ``free`` box that takes a plaintext of ``position`` bytes to a chunk edge.

    Empty at an edge. One to seven missing bytes hold no box, so it then reaches one chunk further.

    Source: FORMAT.md, "Rules of writing" 3.
    """
    missing = -position % CHUNK
    if missing == 0:
        return b""
    return free_box(missing + CHUNK if missing < _SMALLEST_BOX else missing)


def pack_event(event: EventMessage) -> bytes:
    """The ``emsg`` box of a message.

    Raises:
        ValueError: a time out of its field's range, or a message longer than ``MAX_EVENT_BYTES``.
    """
    duration = _UNKNOWN_DURATION if event.duration is None else event.duration
    duration = min(duration, _UNKNOWN_DURATION)
    if not (0 <= event.pts < 1 << 64 and duration >= 0 and 0 <= event.number < 1 << 32):
        raise ValueError(f"times of an emsg out of range: {event.pts}, {event.duration}")
    fields = _EVENT.pack(_VERSION_1, TIMESCALE_HZ, event.pts, duration, event.number)
    content = b"".join((fields, event.scheme.encode("ascii"), b"\0\0", event.data))
    size = _COMPACT.size + len(content)
    if size > MAX_EVENT_BYTES:
        raise ValueError(f"a table of {size} bytes is longer than a reader takes")
    return _COMPACT.pack(size, b"emsg") + content


def parse_event(raw: bytes | memoryview, offset: int = 0) -> EventMessage:
    """Read a whole ``emsg`` box, header included.

    Args:
        raw: The box, nothing before or behind it.
        offset: Its place, for messages.

    Raises:
        Corrupt: not a version 1 ``emsg`` in 90 kHz with a scheme and an empty value.
    """
    box = parse_box(raw[:BOX_HEADER_BYTES], offset)
    content = bytes(raw[box.header_bytes :])
    if box.kind != b"emsg" or box.size_bytes != len(raw) or len(content) < _EVENT.size:
        raise Corrupt(f"There is no emsg box at byte {offset}.")
    version, timescale, pts, duration, number = _EVENT.unpack_from(content)
    end = content.find(b"\0\0", _EVENT.size, _EVENT.size + _MAX_SCHEME_BYTES)
    if version != _VERSION_1 or timescale != TIMESCALE_HZ or end < 0:
        raise Corrupt(f"The emsg box at byte {offset} is not one of a recording.")
    scheme = content[_EVENT.size : end]
    if b"\0" in scheme or not scheme.isascii():
        raise Corrupt(f"The emsg box at byte {offset} has no readable scheme.")
    known = None if duration == _UNKNOWN_DURATION else duration
    return EventMessage(scheme.decode("ascii"), pts, known, number, content[end + 2 :])
