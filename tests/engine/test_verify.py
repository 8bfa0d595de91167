"""Verify: what is good passes, and everything else is named with its own exit code."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container import recovery
from engine.container.header import HEADER_BYTES
from engine.container.names import open_path
from engine.container.payload import CHUNK, PAYLOAD_OFFSET, PREAMBLE, STORED_CHUNK, offset_of_chunk
from engine.container.recipients import KeyFileSecret
from engine.container.tables import FragmentTable, SealTable
from engine.reading.verify import verify
from ipc.errors import ConfigError
from ipc.frame import FrameFlags, LossClass
from tests.engine import media
from tests.engine.recordings import FIRST_ID, GOP, NOISY, PERIOD, Studio, flip, gap


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "day.mp4.enc")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A good recording that no test changes."""
    studio = Studio(tmp_path_factory.mktemp("good") / "day.mp4.enc")
    studio.part(0, [*range(10), *range(13, 27)], lost=[gap(10, 12)])
    return studio


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A good recording with more chunks than verify needs to read for the tables alone."""
    studio = Studio(tmp_path_factory.mktemp("noisy") / "day.mp4.enc")
    studio.part(0, range(16), size=NOISY)
    assert studio.base.stat().st_size > offset_of_chunk(20)
    return studio


def test_good_recording(good: Studio) -> None:
    """A sealed recording with named losses is good: sealed, balanced, complete, exit code 0."""
    report = verify(good.base, good.secret)
    assert report.as_dict() == {
        "state": "sealed",
        "frames": 24,
        "duration_s": 0.9,
        "lost": {"camera_gap": 3},
        "balanced": True,
        "complete": True,
        "parts": [{"path": str(good.base), "index": 0, "state": "sealed", "frames": 24}],
        "problems": [],
        "notes": [],
    }
    assert report.exit_code == 0


def test_decode_looks_at_every_picture(good: Studio) -> None:
    """With decode every frame is decoded and its barcode is that of its row."""
    report = verify(good.base, good.secret, decode=True)
    assert report.as_dict()["decoded"] == 24
    assert report.as_dict()["barcodes"] == {"checked": 24, "right": 24}
    assert report.exit_code == 0


@pytest.mark.parametrize("decode", [False, True])
def test_progress_grows_to_one(studio: Studio, decode: bool) -> None:
    """Progress never goes back and ends at 1, over all parts."""
    studio.part(0, range(16), last=False)
    studio.part(1, range(16, 40))
    shares: list[float] = []
    verify(studio.base, studio.secret, decode=decode, progress=shares.append)
    assert shares == sorted(shares)
    assert len(set(shares)) >= 2
    assert shares[-1] == pytest.approx(1.0)


def test_other_sources_have_no_barcodes(tmp_path: Path) -> None:
    """Pictures of a camera are decoded, and no barcode is looked for."""
    studio = Studio(tmp_path / "day.mp4.enc", source="vimba:DEV_1")
    studio.part(0, range(GOP))
    report = verify(studio.base, studio.secret, decode=True)
    assert (report.decoded, report.barcodes, report.exit_code) == (GOP, None, 0)


def test_frame_in_two_parts_counts_once(studio: Studio) -> None:
    """What a dead encoder's part and its successor's both hold is written and decoded once."""
    studio.part(0, range(16), sealed=False)
    recovery.recover(studio.base, studio.secret)
    studio.part(1, range(12, 28))
    report = verify(studio.base, studio.secret, decode=True)
    assert (report.state, report.frames, report.decoded) == ("recovered", 28, 28)
    assert report.barcodes is not None
    assert report.barcodes.right == 28
    assert [(p.index, p.state, p.frames) for p in report.parts] == [
        (0, "recovered", 16),
        (1, "sealed", 16),
    ]
    assert (report.balanced, report.complete, report.exit_code) == (True, True, 0)


def test_any_part_names_the_recording(studio: Studio) -> None:
    """A later part's name verifies all parts; a part alone is verified on request."""
    studio.part(0, range(8), last=False)
    second = studio.part(1, range(8, 24))
    assert verify(second, studio.secret).frames == 24
    alone = verify(studio.base, studio.secret, part=1)
    assert (alone.frames, alone.balanced, alone.complete, alone.exit_code) == (16, True, True, 0)


# --- parts missing, wrong, foreign ------------------------------------------------------------


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_missing_part(studio: Studio, missing: int) -> None:
    """A missing first, middle or last part is named, and the exit code is 6."""
    parts = [studio.part(i, range(i * 8, i * 8 + 8), last=i == 2) for i in range(3)]
    parts[missing].unlink()
    report = verify(parts[0], studio.secret)
    assert (report.state, report.complete, report.exit_code) == ("sealed", False, 6)
    assert any(f"Part {missing} is missing" in problem for problem in report.problems)


def test_part_of_another_recording(studio: Studio, tmp_path: Path) -> None:
    """A part of another recording in the place of one is named and its frames do not count."""
    studio.part(0, range(8), last=False)
    other = Studio(tmp_path / "other.mp4.enc", kek=studio.kek)
    other.part(0, range(8), last=False)
    os.rename(other.part(1, range(8, 16)), tmp_path / "day.001.mp4.enc")
    report = verify(studio.base, studio.secret)
    assert (report.frames, report.complete, report.exit_code) == (8, False, 6)
    assert any("another recording" in problem for problem in report.problems)


def test_part_that_does_not_follow(studio: Studio) -> None:
    """A part that names another predecessor than the one before it is not in the chain."""
    studio.part(0, range(8), last=False)
    studio.commitment = os.urandom(32)
    studio.part(1, range(8, 16))
    report = verify(studio.base, studio.secret)
    assert (report.balanced, report.complete, report.exit_code) == (True, False, 6)
    assert any("does not follow" in problem for problem in report.problems)


def test_copy_of_a_part_under_the_next_name(studio: Studio, tmp_path: Path) -> None:
    """A part that is there twice is counted once and named."""
    studio.part(0, range(8), last=False)
    studio.part(1, range(8, 16))
    (tmp_path / "day.002.mp4.enc").write_bytes((tmp_path / "day.001.mp4.enc").read_bytes())
    report = verify(studio.base, studio.secret)
    assert (report.frames, report.balanced) == (16, True)
    assert any("part 1 once more" in problem for problem in report.problems)
    assert (report.complete, report.exit_code) == (False, 6)


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (lambda s: replace(s, last=True), lambda s: s, "says that it is the last part"),
        (lambda s: s, lambda s: replace(s, last=False), "Part 2 is missing"),
        (lambda s: s, lambda s: replace(s, parts=3), "its seal counts 3"),
    ],
)
def test_last_and_number_of_parts(
    studio: Studio,
    first: Callable[[SealTable], SealTable],
    second: Callable[[SealTable], SealTable],
    told: str,
) -> None:
    """Seals that disagree with the parts that are there make the recording incomplete."""
    studio.part(0, range(8), last=False, seal=first)
    studio.part(1, range(8, 16), seal=second)
    report = verify(studio.base, studio.secret)
    assert (report.complete, report.exit_code) == (False, 6)
    assert any(told in problem for problem in report.problems)


# --- damage and keys --------------------------------------------------------------------------


def test_corrupt_byte(studio: Studio) -> None:
    """A changed byte is corrupt with its place; the frames before it are still counted."""
    studio.part(0, range(24))
    flip(studio.base, offset_of_chunk(3) + 100)
    report = verify(studio.base, studio.secret)
    assert (report.state, report.exit_code) == ("corrupt", 4)
    assert (report.balanced, report.complete) == (False, False)
    assert 0 < report.frames < 24
    assert any("Chunk 3" in problem for problem in report.problems)


def test_damaged_header_copy_is_a_note(studio: Studio) -> None:
    """One damaged header copy harms nothing and is said."""
    studio.part(0, range(8))
    flip(studio.base, HEADER_BYTES + 200)
    report = verify(studio.base, studio.secret)
    assert (report.state, report.problems, report.exit_code) == ("sealed", (), 0)
    assert "header" in report.notes[0]


def test_truncated_sealed_part(studio: Studio) -> None:
    """A sealed part that was cut is corrupt, and its intact fragments are counted."""
    studio.part(0, range(24))
    os.truncate(studio.base, offset_of_chunk(3))
    report = verify(studio.base, studio.secret)
    assert (report.state, report.exit_code) == ("corrupt", 4)
    assert 0 < report.frames < 24


def test_open_part_is_incomplete(studio: Studio) -> None:
    """A part without its end is incomplete: exit code 3, and its whole fragments count."""
    studio.part(0, range(24), sealed=False)
    report = verify(studio.base, studio.secret)
    assert (report.state, report.frames, report.exit_code) == ("incomplete", 24, 3)
    assert (report.balanced, report.complete) == (True, False)


def test_open_part_without_anything(studio: Studio) -> None:
    """A part that died before its first fragment is incomplete and holds no frame."""
    studio.part(0, [], sealed=False)
    os.truncate(open_path(studio.base), PAYLOAD_OFFSET + PREAMBLE)
    os.truncate(open_path(studio.base), PAYLOAD_OFFSET + PREAMBLE + 3 * STORED_CHUNK)
    assert verify(studio.base, studio.secret).exit_code == 4  # zeros are not what was written
    fresh = Studio(studio.base.with_name("fresh.mp4.enc"))
    fresh.part(0, [], sealed=False)
    report = verify(fresh.base, fresh.secret, decode=True)
    assert (report.state, report.frames, report.exit_code) == ("incomplete", 0, 3)


def test_whole_part_with_an_open_name(studio: Studio) -> None:
    """A sealed part that lacks only its rename is sealed; a note says what to do."""
    path = studio.part(0, range(8))
    os.rename(path, open_path(path))
    report = verify(path, studio.secret)
    assert (report.state, report.exit_code) == ("sealed", 0)
    assert "recover" in report.notes[0]


def test_wrong_key(good: Studio) -> None:
    """Another key is exit code 5 and tells nothing of the content."""
    report = verify(good.base, KeyFileSecret(os.urandom(32)))
    assert (report.state, report.frames, report.exit_code) == ("wrong-key", 0, 5)
    assert (report.balanced, report.complete) == (False, False)


def test_wrong_key_for_one_part_is_the_worst(studio: Studio) -> None:
    """A key that opens only some parts is a wrong key; the others are verified all the same."""
    studio.part(0, range(8), last=False)
    first = studio.kek
    studio.kek = os.urandom(32)
    studio.part(1, range(8, 16))
    report = verify(studio.base, KeyFileSecret(first))
    assert (report.state, report.frames, report.exit_code) == ("wrong-key", 8, 5)


@pytest.mark.parametrize("content", [b"", b"x", bytes(9000), b"\x89SRV\r\n\x1a\n"])
def test_garbage_is_corrupt(tmp_path: Path, content: bytes) -> None:
    """A file that is no recording is corrupt, not an error."""
    path = tmp_path / "garbage.mp4.enc"
    path.write_bytes(content)
    assert verify(path, KeyFileSecret(bytes(32))).exit_code == 4


def test_nothing_there(good: Studio, tmp_path: Path) -> None:
    """No file, a directory, a pipe and a part that is not there are errors of use."""
    paths = [tmp_path / "none.mp4.enc", tmp_path, good.base / "x", tmp_path / ("n" * 300)]
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        paths.append(tmp_path / "pipe")
    for path in paths:
        with pytest.raises(ConfigError):
            verify(path, good.secret)
    with pytest.raises(ConfigError):
        verify(good.base, good.secret, part=7)


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_no_changed_byte_passes(
    noisy: Studio, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever single bit is flipped, verify says so: a note for a header copy, else corrupt."""
    content = bytearray(noisy.base.read_bytes())
    offset = data.draw(st.integers(0, len(content) - 1))
    content[offset] ^= 1 << data.draw(st.integers(0, 7))
    path = tmp_path_factory.getbasetemp() / "flipped.mp4.enc"
    path.write_bytes(content)
    report = verify(path, noisy.secret)
    if offset < PAYLOAD_OFFSET:
        assert report.exit_code == 0
        assert report.notes
    else:
        assert report.exit_code == 4


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_no_cut_passes(
    good: Studio, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A sealed recording cut at any length is corrupt."""
    content = good.base.read_bytes()
    path = tmp_path_factory.getbasetemp() / "cut.mp4.enc"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert verify(path, good.secret).exit_code == 4


# --- the account ------------------------------------------------------------------------------


def _without_row(table: FragmentTable) -> FragmentTable:
    return replace(table, frames=table.frames[:2] + table.frames[3:])


def _first_row(**fields: int) -> Callable[[FragmentTable], FragmentTable]:
    def change(table: FragmentTable) -> FragmentTable:
        row = msgspec.structs.replace(table.frames[0], **fields)
        return replace(table, frames=(row, *table.frames[1:]))

    return change


def _last_row(**fields: int) -> Callable[[FragmentTable], FragmentTable]:
    def change(table: FragmentTable) -> FragmentTable:
        row = msgspec.structs.replace(table.frames[-1], **fields)
        return replace(table, frames=(*table.frames[:-1], row))

    return change


def _with_row(table: FragmentTable) -> FragmentTable:
    last = table.frames[-1]
    row = msgspec.structs.replace(
        last, seq=last.seq + 1, frame_id=last.frame_id + 1, pts=last.pts + PERIOD
    )
    return replace(table, frames=(*table.frames, row))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without_row, "rows"),
        (_first_row(pts=1), "is not at the time"),
        (_last_row(pts=7 * PERIOD + 1), "time or key flag"),
        (_with_row, "8 samples and 9 rows"),
        (_first_row(flags=0), "key flag"),
        (_first_row(frame_id=FIRST_ID + 5), "written"),
        (_first_row(seq=3), "does not come after"),
        (lambda t: replace(t, lost=(gap(2, 3),)), "two classes"),
        (lambda t: replace(t, lost=(gap(20, 21),)), "in no class"),
        (lambda t: replace(t, frames=t.frames[::-1]), "does not come after"),
    ],
)
def test_tables_that_do_not_fit(
    studio: Studio, change: Callable[[FragmentTable], FragmentTable], told: str
) -> None:
    """A table that disagrees with its samples, or names a frame twice or never, is unbalanced."""
    studio.part(0, range(8), table=change)
    report = verify(studio.base, studio.secret)
    assert (report.state, report.balanced, report.exit_code) == ("sealed", False, 6)
    assert any(told in problem for problem in report.problems)


def test_missing_fragment_unbalances(studio: Studio) -> None:
    """Frames that no table names are in no class, even if the seal counts without them too."""
    studio.part(0, [*range(8), *range(16, 24)])
    report = verify(studio.base, studio.secret)
    assert (report.balanced, report.complete, report.exit_code) == (False, True, 6)
    assert any("ids 1008 to 1015 are in no class" in problem for problem in report.problems)


@pytest.mark.parametrize("which", ["part", "recording"])
def test_seal_that_counts_otherwise(studio: Studio, which: str) -> None:
    """Totals in a seal that the tables do not bear out are named and unbalance the recording."""
    studio.part(0, range(8), seal=lambda s: replace(s, **{which: {"written": 9}}))
    report = verify(studio.base, studio.secret)
    assert (report.balanced, report.exit_code) == (False, 6)
    assert any("counts 9 frames written" in problem for problem in report.problems)


def test_losses_in_the_seal_count(studio: Studio) -> None:
    """Losses that were still pending at the seal belong to the account."""
    ring_full = gap(8, 9, LossClass.RING_FULL)
    studio.part(
        0,
        range(8),
        seal=lambda s: replace(
            s,
            lost=(ring_full,),
            part={"written": 8, "ring_full": 2},
            recording={"written": 8, "ring_full": 2},
        ),
    )
    report = verify(studio.base, studio.secret)
    assert (report.lost, report.exit_code) == ({"ring_full": 2}, 0)


def test_new_frames_behind_those_of_the_part_before(studio: Studio) -> None:
    """A second part whose new frames lie before the end of the first is not one timeline."""

    def earlier(table: FragmentTable) -> FragmentTable:
        rows = [msgspec.structs.replace(r, seq=r.seq + 20) for r in table.frames]
        return replace(table, frames=tuple(rows))

    studio.part(0, range(8, 16), last=False)
    studio.part(1, range(8), table=earlier)
    report = verify(studio.base, studio.secret)
    assert report.exit_code == 6
    assert any("does not come after" in problem for problem in report.problems)


def test_table_at_another_time(studio: Studio) -> None:
    """A fragment whose table is not at the time of its first frame is named."""
    studio.part(0, range(8), late=1)
    report = verify(studio.base, studio.secret)
    assert report.exit_code == 6
    assert report.problems == ("day.mp4.enc: Fragment 0 is not at the time of its first frame.",)


def test_row_without_a_picture(studio: Studio) -> None:
    """With decode, a row to which no picture decodes is named, and the others are compared."""
    studio.part(0, range(8), table=_with_row)
    report = verify(studio.base, studio.secret, decode=True)
    assert (report.decoded, report.exit_code) == (8, 6)
    assert any("1 frames do not decode, the first is 1008" in text for text in report.problems)


def _patched(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(boxes: bytes) -> bytes:
        assert boxes.count(old) == 1
        return boxes.replace(old, new)

    return change


KEY, NO_KEY = bytes.fromhex("02000000"), bytes.fromhex("01010000")


def test_fragment_that_begins_without_a_key_frame(studio: Studio) -> None:
    """A fragment cannot be played alone if it does not begin with a key frame: it is named."""
    studio.part(0, range(8), table=_first_row(flags=0), media=_patched(KEY, NO_KEY))
    report = verify(studio.base, studio.secret)
    assert (report.state, report.exit_code) == ("sealed", 6)
    assert report.problems == ("day.mp4.enc: Fragment 0 does not begin with a key frame.",)


def test_track_in_another_timescale(studio: Studio) -> None:
    """A track that does not count in 90 kHz is not one of a recording."""
    hertz = struct.Struct(">I")
    studio.part(0, range(8), init=lambda init: init.replace(hertz.pack(90_000), hertz.pack(45_000)))
    report = verify(studio.base, studio.secret)
    assert report.exit_code == 6
    assert any("45000 Hz" in problem for problem in report.problems)


def _run_of(count: int, offset: int) -> Callable[[bytes], bytes]:
    """Replace the sample run by one of ``count`` samples that all have the default size."""

    def change(boxes: bytes) -> bytes:
        at = boxes.index(b"trun") - 4
        size = int.from_bytes(boxes[at : at + 4], "big")
        run = struct.pack(">I4sIII", 20, b"trun", 1, count, offset)
        filler = struct.pack(">I4s", size - 20, b"free") + bytes(size - 28)
        return boxes[:at] + run + filler + boxes[at + size :]

    return change


@pytest.mark.parametrize(
    ("count", "offset", "told"),
    [(2**32 - 1, 200, "and its table 8 rows"), (8, 0, "cannot be read"), (8, 10**9, "be read")],
)
def test_forged_sample_runs(studio: Studio, count: int, offset: int, told: str) -> None:
    """A run of absurd length or place is named, and costs no memory of that length."""
    studio.part(0, range(8), media=_run_of(count, offset))
    report = verify(studio.base, studio.secret)
    assert (report.state, report.exit_code) == ("sealed", 6)
    assert any(told in problem for problem in report.problems)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_change_of_the_media_boxes_is_survived(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a moof says, verify ends with a report: good, or with a problem."""
    studio = Studio(tmp_path_factory.mktemp("moof") / "day.mp4.enc")

    def change(boxes: bytes) -> bytes:
        changed = bytearray(boxes)
        for _ in range(data.draw(st.integers(1, 3))):
            inside = st.integers(8, int.from_bytes(boxes[:4], "big") - 1)
            changed[data.draw(inside)] = data.draw(st.integers(0, 255))
        return bytes(changed)

    studio.part(0, range(8), media=change)
    assert verify(studio.base, studio.secret).exit_code in (0, 6)


def test_media_that_no_player_takes(tmp_path: Path) -> None:
    """Media boxes that cannot be read are a problem, not an end of the verification."""
    keys, base = media.Keys(), tmp_path / "day.mp4.enc"
    seal = SealTable(parts=1, last=True, part={"written": 16}, recording={"written": 16})
    pieces = [media.made_up(0), media.made_up(1)]
    media.write_part(base, keys, pieces, init=media.real_init(), seal=seal)
    report = verify(base, keys.secret, decode=True)
    assert (report.state, report.frames, report.exit_code) == ("sealed", 16, 6)
    assert report.decoded == 0


def test_wrong_barcode(studio: Studio) -> None:
    """A picture that shows another frame than its row says is named."""

    def shifted(table: FragmentTable) -> FragmentTable:
        rows = [msgspec.structs.replace(r, frame_id=r.frame_id + 1) for r in table.frames]
        return replace(table, frames=tuple(rows))

    studio.part(0, range(8), table=shifted)
    assert verify(studio.base, studio.secret).exit_code == 0  # the tables alone are in order
    report = verify(studio.base, studio.secret, decode=True)
    assert report.barcodes is not None
    assert (report.barcodes.checked, report.barcodes.right) == (8, 0)
    assert report.exit_code == 6
    assert any("shows frame 1000" in problem for problem in report.problems)


def test_key_flags_are_those_of_the_samples(studio: Studio) -> None:
    """A row that calls a sample a key frame which is none is named."""

    def all_keys(table: FragmentTable) -> FragmentTable:
        rows = [msgspec.structs.replace(r, flags=int(FrameFlags.KEY_FRAME)) for r in table.frames]
        return replace(table, frames=tuple(rows))

    studio.part(0, range(8), table=all_keys)
    report = verify(studio.base, studio.secret)
    assert report.exit_code == 6
    assert any("6 others" in problem for problem in report.problems)


def test_sentences_are_bounded(studio: Studio) -> None:
    """However much is wrong, the report stays short."""
    studio.part(
        0, range(8), table=lambda t: replace(t, lost=tuple(gap(i, i) for i in range(0, 900, 2)))
    )
    report = verify(studio.base, studio.secret)
    assert report.exit_code == 6
    assert len(report.problems) == 101


def test_fragments_without_frames(studio: Studio) -> None:
    """Table-only fragments count what they name, and disturb neither account nor decoder."""
    pause = FragmentTable(lost=(gap(8, 20, LossClass.PAUSED),))
    beyond = FragmentTable(lost=(gap(29, 30),))
    studio.part(0, [*range(8), *range(21, 29)], idle=[pause, FragmentTable(), beyond])
    report = verify(studio.base, studio.secret, decode=True)
    assert report.lost == {"camera_gap": 2, "paused": 13}
    assert (report.decoded, report.balanced, report.exit_code) == (16, True, 0)


def test_duration_counts_gaps(studio: Studio) -> None:
    """The duration is that of the timeline, gaps included."""
    studio.part(0, [*range(8), *range(300, 308)], lost=[gap(8, 299)])
    report = verify(studio.base, studio.secret)
    assert report.duration_s == pytest.approx(308 * PERIOD / 90_000)
    assert report.exit_code == 0


def test_chunk_is_where_the_tests_think() -> None:
    """The place that the damage tests change lies inside the payload's chunks."""
    assert offset_of_chunk(1) - offset_of_chunk(0) == CHUNK + 16
