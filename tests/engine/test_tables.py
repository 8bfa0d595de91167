"""Tables: the msgpack of FORMAT.md exactly, and nothing that a forged one could blow up."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container.tables import (
    ClockPair,
    FragmentTable,
    FrameRow,
    IndexRow,
    Note,
    SealTable,
    SessionTable,
    pack_fragment,
    pack_seal,
    pack_session,
    parse_fragment,
    parse_seal,
    parse_session,
)
from ipc.errors import Corrupt
from ipc.frame import Loss, LossClass

U64 = st.integers(0, 2**64 - 1)
I64 = st.integers(-(2**63), 2**64 - 1)
TEXT = st.text(max_size=20)
ROWS = st.lists(st.builds(FrameRow, U64, U64, U64, I64, I64, I64, U64), max_size=5).map(tuple)
NOTES = st.lists(st.builds(Note, I64, TEXT, TEXT), max_size=3).map(tuple)
CLOCK = st.none() | st.builds(ClockPair, I64, I64)
RANGES = st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)).map(sorted).map(tuple)
LOSSES = st.lists(
    st.builds(
        lambda kind, epoch, ids, first, last: Loss(kind, epoch, ids[0], ids[1], first, last),
        st.sampled_from(LossClass),
        U64,
        RANGES | st.just((None, None)),
        I64,
        I64,
    ),
    max_size=4,
).map(tuple)
COUNTS = st.dictionaries(TEXT, U64, max_size=4)
TEXTS = st.dictionaries(TEXT, TEXT, max_size=4)
FRAGMENTS = st.builds(
    FragmentTable, frames=ROWS, lost=LOSSES, marks=NOTES, events=NOTES, clock=CLOCK
)
SEALS = st.builds(
    SealTable,
    part=COUNTS,
    recording=COUNTS,
    parts=U64,
    last=st.booleans(),
    lost=LOSSES,
    marks=NOTES,
    events=NOTES,
    clock=CLOCK,
    index=st.lists(st.builds(IndexRow, U64, U64, U64), max_size=4).map(tuple),
    audit_head=TEXT,
)
SESSIONS = st.builds(
    SessionTable,
    session=TEXTS,
    camera=TEXTS,
    codec=TEXTS,
    colour=TEXTS,
    software=TEXT,
    clock=CLOCK,
)


@settings(deadline=None, max_examples=30)
@given(FRAGMENTS, SEALS, SESSIONS)
def test_tables_come_back(fragment: FragmentTable, seal: SealTable, session: SessionTable) -> None:
    """What is packed is read as the same table."""
    assert parse_fragment(pack_fragment(fragment)) == fragment
    assert parse_seal(pack_seal(seal)) == seal
    assert parse_session(pack_session(session)) == session


def test_a_fragment_table_is_what_the_format_says() -> None:
    """Another msgpack library finds the keys, the order of columns and the class names."""
    table = FragmentTable(
        frames=(FrameRow(1, 2, 3, 4, 5, 6, 7),),
        lost=(
            Loss(LossClass.RING_FULL, 0, 10, 12, 100, 200),
            Loss(LossClass.CAMERA_GAP, 0, None, None, 1, 2),
        ),
        marks=(Note(8, "mark", "here"),),
        events=(Note(9, "stall", "disk"),),
        clock=ClockPair(11, 12),
    )
    assert msgpack.unpackb(pack_fragment(table)) == {
        "frames": [[1, 2, 3, 4, 5, 6, 7]],
        "lost": [["ring_full", 0, 10, 12, 100, 200], ["camera_gap", 0, None, None, 1, 2]],
        "marks": [[8, "mark", "here"]],
        "events": [[9, "stall", "disk"]],
        "clock": [11, 12],
    }


def test_a_seal_table_is_what_the_format_says() -> None:
    """Another msgpack library finds the keys of the seal."""
    table = SealTable(
        part={"written": 3},
        recording={"written": 5},
        parts=2,
        last=True,
        index=(IndexRow(1, 0, 8),),
        audit_head="abc",
    )
    raw = msgpack.unpackb(pack_seal(table))
    assert raw["part"] == {"written": 3}
    assert raw["recording"] == {"written": 5}
    assert (raw["parts"], raw["last"], raw["audit_head"]) == (2, True, "abc")
    assert raw["index"] == [[1, 0, 8]]


def test_unknown_keys_and_later_columns_are_ignored() -> None:
    """A later version may add keys to a map and columns to a row."""
    raw = msgpack.packb({"frames": [[1, 2, 3, 4, 5, 6, 7, 8]], "later": {"x": [1]}})
    assert parse_fragment(raw) == FragmentTable(frames=(FrameRow(1, 2, 3, 4, 5, 6, 7),))


@pytest.mark.parametrize("flags", [True, 1.5, "1", None, 2**64, object()])
def test_a_table_that_no_reader_would_take_is_not_written(flags: Any) -> None:
    """A value of the wrong type is the writer's error, found before it is sealed in."""
    with pytest.raises(ValueError, match="no reader"):
        pack_fragment(FragmentTable(frames=(FrameRow(1, 2, 3, 4, 5, 6, flags),)))


def _fragment(**changes: Any) -> bytes:
    return bytes(msgpack.packb(changes))


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"frames": 1}),
        _fragment(frames=[[1, 2, 3, 4, 5, 6]]),
        _fragment(frames=[[1, 2, 3, 4, 5, 6, "7"]]),
        _fragment(marks=[[1, b"\xff", ""]]),
        b"\x81\xa5marks\x91\x93\x01\xa1\xff\xa0",
        _fragment(lost=[["ring_full", 0, 1, None, 0, 0]]),
        _fragment(lost=[["ring_full", 0, 5, 4, 0, 0]]),
        _fragment(lost=[["no_such_class", 0, 1, 2, 0, 0]]),
        pack_fragment(FragmentTable()) + b"\0",
        pack_fragment(FragmentTable())[:-1],
        b"\x81\xa1x" + b"\x91" * 100_000,
    ],
    ids=[
        "empty",
        "no-msgpack",
        "no-map",
        "no-rows",
        "short-row",
        "text-flag",
        "binary-kind",
        "bad-utf8",
        "half-range",
        "backward-range",
        "class",
        "longer",
        "cut",
        "nested",
    ],
)
def test_what_is_no_fragment_table_is_refused(raw: bytes) -> None:
    """Other types, missing columns, impossible ranges and rubbish are Corrupt, nothing else."""
    with pytest.raises(Corrupt):
        parse_fragment(raw)


def test_a_seal_without_its_claims_is_refused() -> None:
    """``parts`` and ``last`` are what completeness is judged by: they cannot be left out."""
    for key in ("parts", "last"):
        raw = msgpack.unpackb(pack_seal(SealTable(parts=1, last=True)))
        del raw[key]
        with pytest.raises(Corrupt):
            parse_seal(msgpack.packb(raw))


@pytest.mark.parametrize(
    "claim",
    [
        b"\x81\xa6frames\xdd\xff\xff\xff\xff",
        b"\x81\xa6frames\x91\xdd\xff\xff\xff\xff",
        b"\x81\xa5later\xdd\xff\xff\xff\xff" * 3,
        b"\x81\xdb\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
    ],
    ids=["rows", "columns", "unknown", "key", "map"],
)
def test_a_claimed_length_costs_no_memory(claim: bytes) -> None:
    """Four thousand million rows that are not there are refused without room being made."""
    tracemalloc.start()
    try:
        with pytest.raises(Corrupt):
            parse_fragment(claim)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
