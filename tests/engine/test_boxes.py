"""Boxes: lengths are believed only within bounds, padding always ends at a chunk edge."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container import boxes
from engine.container.boxes import (
    EventMessage,
    free_box,
    iterate_boxes,
    pack_event,
    padding_after,
    parse_box,
    parse_event,
    require_boxes,
)
from engine.container.payload import CHUNK
from ipc.errors import Corrupt

EVENTS = st.builds(
    EventMessage,
    scheme=st.text("abcdefghij:", min_size=1, max_size=40),
    pts=st.integers(0, 2**64 - 1),
    duration=st.none() | st.integers(0, 2**32 - 2),
    number=st.integers(0, 2**32 - 1),
    data=st.binary(max_size=200),
)


@pytest.mark.parametrize("edge", [0, 5 * CHUNK])
def test_padding_ends_at_a_chunk_edge_for_every_remainder(edge: int) -> None:
    """Missing bytes r are filled by one free box of r, or of r + 16384 if 1 to 7 are missing."""
    for missing in [*range(40), *range(40, CHUNK, 97), CHUNK - 1]:
        position = edge + CHUNK - missing if missing else edge
        padding = padding_after(position)
        expected = 0 if missing == 0 else missing + CHUNK * (missing < 8)
        assert len(padding) == expected
        if padding:
            assert [box.kind for box in iterate_boxes(padding)] == [b"free"]
            assert not any(padding[8:])


@pytest.mark.parametrize("size_bytes", [0, 7, boxes.MAX_UNIT_BYTES + 1])
def test_a_free_box_of_an_impossible_size_is_refused(size_bytes: int) -> None:
    """No box is shorter than its header or longer than a reader takes."""
    with pytest.raises(ValueError, match=r"no free box"):
        free_box(size_bytes)


@settings(deadline=None)
@given(EVENTS)
def test_an_event_message_comes_back(event: EventMessage) -> None:
    """What is packed as emsg is read as the same message."""
    raw = pack_event(event)
    assert parse_event(raw) == event
    assert parse_box(raw, 0).size_bytes == len(raw)


def test_an_event_message_is_laid_out_as_the_standard_has_it() -> None:
    """Version 1: timescale, time, duration, id, scheme, empty value, data (ISO 23009-1)."""
    raw = pack_event(EventMessage("urn:x", 7, 8, 9, b"data"))
    assert raw == struct.pack(">I4sIIQII", len(raw), b"emsg", 1 << 24, 90_000, 7, 8, 9) + (
        b"urn:x\0\0data"
    )


def test_a_duration_too_long_for_its_field_is_written_as_unknown() -> None:
    """2^32 - 1 means unknown in the standard; a longer duration must not wrap around."""
    raw = pack_event(EventMessage("urn:x", 0, 2**40, 0, b""))
    assert parse_event(raw).duration is None


@pytest.mark.parametrize(
    "event",
    [
        EventMessage("urn:x", -1, 0, 0, b""),
        EventMessage("urn:x", 2**64, 0, 0, b""),
        EventMessage("urn:x", 0, -1, 0, b""),
        EventMessage("urn:x", 0, 0, 2**32, b""),
        EventMessage("urn:x", 0, 0, 0, bytes(boxes.MAX_EVENT_BYTES)),
    ],
    ids=["early", "late", "backwards", "number", "long"],
)
def test_an_event_message_out_of_range_is_not_written(event: EventMessage) -> None:
    """A time or length that its field cannot hold is refused before anything is written."""
    with pytest.raises(ValueError, match=r"emsg|table"):
        pack_event(event)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"\0\0\0\x08fre",
        struct.pack(">I4s", 0, b"mdat"),
        struct.pack(">I4s", 7, b"free"),
        struct.pack(">I4s", 1, b"mdat"),
        struct.pack(">I4sQ", 1, b"mdat", 15),
        struct.pack(">I4sQ", 1, b"mdat", 2**63),
        struct.pack(">I4s", boxes.MAX_UNIT_BYTES + 1, b"mdat"),
    ],
    ids=["empty", "cut", "to-the-end", "short", "cut-long", "short-long", "huge", "too-long"],
)
def test_a_box_that_cannot_be_is_refused(header: bytes) -> None:
    """Every length is checked before anything of that length is read."""
    with pytest.raises(Corrupt):
        parse_box(header, 0)


def test_a_box_with_a_long_size_is_read() -> None:
    """The 64-bit form is legal also where it is not needed."""
    box = parse_box(struct.pack(">I4sQ", 1, b"mdat", 100), 40)
    assert (box.kind, box.header_bytes, box.size_bytes, box.end) == (b"mdat", 16, 100, 140)


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(st.binary(max_size=20)).map(
        lambda parts: b"".join(struct.pack(">I4s", len(p) + 8, b"free") + p for p in parts)
    )
)
def test_boxes_tile_the_bytes_or_are_refused(data: bytes) -> None:
    """Whatever the bytes: either the boxes cover them without a gap, or Corrupt is raised."""
    position = 0
    try:
        for box in iterate_boxes(data):
            assert box.offset == position
            position = box.end
    except Corrupt:
        return
    assert position == len(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:4] + b"free" + raw[8:],
        lambda raw: raw[:8] + b"\0" + raw[9:],
        lambda raw: raw[:12] + struct.pack(">I", 1000) + raw[16:],
        lambda raw: raw.replace(b"\0\0msg", b"\0v\0msg"),
        lambda raw: raw.replace(b"urn", b"u\xfcn"),
        lambda raw: raw + b"\0",
        lambda raw: struct.pack(">I", 20) + raw[4:20],
        lambda raw: struct.pack(">I", 36) + raw[4:36],
    ],
    ids=["kind", "version", "timescale", "value", "ascii", "longer", "short", "no-scheme"],
)
def test_an_event_message_of_another_kind_is_refused(change: object) -> None:
    """Only version 1, 90 kHz, a plain scheme and an empty value are a recording's."""
    assert callable(change)
    raw = pack_event(EventMessage("urn:x", 0, 0, 0, b"msg"))
    with pytest.raises(Corrupt):
        parse_event(change(raw))


def test_a_box_that_runs_past_the_end_is_refused() -> None:
    """After the whole ones before it; no byte beyond the data is taken for content."""
    whole = struct.pack(">I4s", 12, b"free") + bytes(4)
    found = iterate_boxes(whole + struct.pack(">I4s", 13, b"mdat") + bytes(4))
    assert next(found).kind == b"free"
    with pytest.raises(Corrupt, match="at byte 12 runs past the end"):
        next(found)


def test_what_a_caller_hands_in_is_checked() -> None:
    """Boxes of other kinds, more of them, or cut ones are a caller's error."""
    free = free_box(8)
    require_boxes(free, [b"free"])
    for data in (b"", free + free, free[:-1], free + b"x"):
        with pytest.raises(ValueError, match=r"box|stream"):
            require_boxes(data, [b"free"])
