"""Recovery: whatever moment the power fails, the last durable fragment is kept, and only once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from engine.container import recovery
from engine.container.boxes import EventMessage, pack_event
from engine.container.header import HEADER_BYTES, Header, State, updated
from engine.container.names import open_path, part_path, reserve_path
from engine.container.payload import CHUNK, PAYLOAD_OFFSET, STORED_CHUNK, offset_of_chunk
from engine.container.reader import PartReader
from engine.container.recipients import DataKeySecret
from engine.container.recovery import PartReport, recover, recover_part
from engine.container.tables import (
    SEAL_SCHEME,
    FragmentTable,
    IndexRow,
    SealTable,
    SessionTable,
    pack_seal,
)
from engine.container.writer import PartWriter
from ipc import osdep
from ipc.errors import ConfigError, Corrupt, DiskError, InUse, WrongKey
from tests.engine import media
from tests.engine.media import FRAMES, PERIOD, Keys

FIRST_CHUNK = offset_of_chunk(0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "op.mp4.enc"


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


def unfinished(base: Path, keys: Keys, fragments: int = 3, size_bytes: int = 30_000) -> Path:
    """A part whose writer is gone; returns its name."""
    media.write_part(base, keys, [media.made_up(i, size_bytes) for i in range(fragments)])
    return open_path(base)


def headers_of(raw: bytes) -> list[Header]:
    return [Header.parse(raw[at : at + HEADER_BYTES]) for at in (0, HEADER_BYTES)]


def sequence_numbers(path: Path, keys: Keys) -> list[int]:
    with PartReader.open(path, keys.secret) as part:
        part.check_all()
        return [row.seq for fragment in part.fragments() for row in fragment.table.frames]


# --- what is kept ---------------------------------------------------------------------------------


def test_a_part_without_its_end_is_closed_as_recovered(base: Path, keys: Keys) -> None:
    """Every whole fragment is kept, both headers say so, and the name is final."""
    path = unfinished(base, keys)
    reserve_path(base).write_bytes(bytes(100))
    payload = path.read_bytes()[PAYLOAD_OFFSET:]
    report = recover_part(path, keys.secret)
    assert report.path == base
    assert (report.state, report.part_index, report.fragment_count) == ("recovered", 0, 3)
    assert (report.frames, report.kept_pts) == (3 * FRAMES, 3 * FRAMES * PERIOD)
    assert (report.lost_bytes, report.lost_pts, report.error) == (0, 0, None)
    raw = base.read_bytes()
    assert raw[PAYLOAD_OFFSET:] == payload
    assert {header.state for header in headers_of(raw)} == {State.RECOVERED}
    assert report.header == max(headers_of(raw), key=lambda header: header.generation)
    assert [p.name for p in base.parent.iterdir()] == [base.name]
    assert sequence_numbers(base, keys) == list(range(3 * FRAMES))
    assert [table.frames[0].seq for table in report.fragments()] == [0, FRAMES, 2 * FRAMES]


def test_a_fragment_that_was_cut_is_named_by_its_table(base: Path, keys: Keys) -> None:
    """Chunks that were never counted are kept if whole; the cut fragment's duration is told."""
    longer = base.with_name("longer.mp4.enc")
    with PartWriter.create(longer, dek=keys.dek, header=keys.header()) as writer:
        writer.write_init(media.made_up_init(), SessionTable())
        for number in range(3):
            piece = media.made_up(number, 60_000)
            before = open_path(longer).read_bytes()
            writer.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)
        after = open_path(longer).read_bytes()
    # The header as it was before the third fragment, with two of that fragment's four chunks.
    cut = before[:PAYLOAD_OFFSET] + after[PAYLOAD_OFFSET : len(before) + 2 * STORED_CHUNK + 99]
    open_path(longer).write_bytes(cut)
    report = recover_part(open_path(longer), keys.secret)
    assert (report.fragment_count, report.kept_pts) == (2, 2 * FRAMES * PERIOD)
    assert report.lost_bytes == 2 * STORED_CHUNK + 99
    assert report.lost_pts == FRAMES * PERIOD
    # The same header, but the whole fragment: it is kept although nobody counted it.
    longer.unlink()
    open_path(longer).write_bytes(before[:PAYLOAD_OFFSET] + after[PAYLOAD_OFFSET:])
    assert recover_part(open_path(longer), keys.secret).fragment_count == 3


def test_a_zero_filled_tail_is_cut_off(base: Path, keys: Keys) -> None:
    """A file system may bring back a length whose data never came."""
    path = unfinished(base, keys)
    path.write_bytes(path.read_bytes() + bytes(5 * STORED_CHUNK + 1234))
    report = recover_part(path, keys.secret)
    assert (report.state, report.fragment_count) == ("recovered", 3)
    assert report.lost_bytes == 5 * STORED_CHUNK + 1234
    assert sequence_numbers(base, keys) == list(range(3 * FRAMES))


def test_a_part_with_a_preamble_and_nothing_else_is_kept_empty(base: Path, keys: Keys) -> None:
    """The next part may name its commitment, so it stays, with no frames."""
    with PartWriter.create(base, dek=keys.dek, header=keys.header()) as writer:
        commitment = writer.commitment
    report = recover_part(open_path(base), keys.secret)
    assert (report.state, report.chunks, report.frames, report.kept_pts) == ("recovered", 0, 0, 0)
    with PartReader.open(base, keys.secret) as part:
        assert (part.state, part.size, part.commitment) == ("recovered", 0, commitment)
        assert list(part.fragments()) == []


def test_a_recovery_that_was_killed_is_run_again(base: Path, keys: Keys) -> None:
    """State 2 and more behind it: the rest is cut off, the headers agree, the name is given."""
    path = unfinished(base, keys)
    recover_part(path, keys.secret)
    done = base.read_bytes()
    older = min((0, 1), key=lambda i: headers_of(done)[i].generation)
    stale = bytearray(done)
    stale[older * HEADER_BYTES : (older + 1) * HEADER_BYTES] = keys.header()
    base.unlink()
    for raw in (done + bytes(STORED_CHUNK), done, bytes(stale) + b"x"):
        path.write_bytes(raw)
        if len(raw) >= len(done) + STORED_CHUNK:
            with pytest.raises(Corrupt, match="run `sealrec recover` again"):
                PartReader.open(path, keys.secret)
        report = recover_part(path, keys.secret)
        assert (report.state, report.fragment_count) == ("recovered", 3)
        assert report.lost_bytes == len(raw) - len(done)
        assert {h.state for h in headers_of(base.read_bytes())} == {State.RECOVERED}
        assert base.read_bytes()[PAYLOAD_OFFSET:] == done[PAYLOAD_OFFSET:]
        base.unlink()
    path.write_bytes(bytes(stale)[:-STORED_CHUNK])
    before = snapshot(base.parent)
    with pytest.raises(Corrupt, match="shorter"):
        recover_part(path, keys.secret)
    assert snapshot(base.parent) == before


def test_a_seal_without_its_final_chunk_is_not_finished(base: Path, keys: Keys) -> None:
    """A seal that fills its chunks exactly is whole, but nothing says that the part ends there."""
    for extra in range(CHUNK - 300, CHUNK):
        seal = SealTable(parts=1, last=True, audit_head="a" * extra)
        event = EventMessage(SEAL_SCHEME, FRAMES * PERIOD, 0, 1, pack_seal(with_index(seal)))
        if len(pack_event(event)) == CHUNK:
            break
    media.write_part(base, keys, [media.made_up(0)], seal=seal)
    raw, path = base.read_bytes(), open_path(base)
    assert len(raw) == offset_of_chunk(3) + 16
    base.unlink()
    opened = Header.parse(keys.header())
    counted = updated(opened, keys.dek, chunk_count=2, payload_bytes=2 * CHUNK)
    # The core is the same for all parts 0 of these keys, so this header fits the payload.
    for cut, state in ((0, "sealed"), (16, "recovered")):
        path.write_bytes(counted * 2 + raw[PAYLOAD_OFFSET : len(raw) - cut])
        report = recover_part(path, keys.secret)
        assert (report.state, report.fragment_count) == (state, 1)
        assert report.lost_bytes == (0 if state == "sealed" else STORED_CHUNK)
        assert sequence_numbers(base, keys) == list(range(FRAMES))
        base.unlink()


def with_index(seal: SealTable) -> SealTable:
    return replace(seal, index=(IndexRow(1, 0, FRAMES),))


def test_a_sealed_part_that_lacks_its_name_gets_it(base: Path, keys: Keys) -> None:
    """State 1 under .open: nothing is changed but the name."""
    media.write_part(base, keys, [media.made_up(0)], seal=media.seal_table())
    raw = base.read_bytes()
    base.rename(open_path(base))
    report = recover_part(open_path(base), keys.secret)
    assert (report.state, report.path, report.lost_bytes) == ("sealed", base, 0)
    assert base.read_bytes() == raw


def test_a_rename_by_link_that_was_killed_is_finished(base: Path, keys: Keys) -> None:
    """Both names are one file: the .open one goes."""
    media.write_part(base, keys, [media.made_up(0)], seal=media.seal_table())
    os.link(base, open_path(base))
    assert recover_part(open_path(base), keys.secret).path == base
    assert [p.name for p in base.parent.iterdir()] == [base.name]


# --- what is not touched --------------------------------------------------------------------------


def snapshot(directory: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in directory.rglob("*") if p.is_file()
    }


def test_a_second_run_changes_nothing(base: Path, keys: Keys) -> None:
    """Not a byte, not a time."""
    unfinished(base, keys)
    assert len(recover(base.parent, keys.secret)) == 1
    before = snapshot(base.parent)
    assert recover(base.parent, keys.secret) == []
    assert recover(base, keys.secret) == []
    assert snapshot(base.parent) == before


def test_a_sealed_part_is_never_recovered(base: Path, keys: Keys) -> None:
    """Cut under its .open name, it is Corrupt and stays as it is."""
    media.write_part(base, keys, [media.made_up(0)], seal=media.seal_table())
    open_path(base).write_bytes(base.read_bytes()[:-1])
    base.unlink()
    before = snapshot(base.parent)
    with pytest.raises(Corrupt):
        recover_part(open_path(base), keys.secret)
    assert snapshot(base.parent) == before
    with pytest.raises(ConfigError):
        recover_part(base, keys.secret)


@pytest.mark.parametrize("chunk", [1, 4])
def test_damage_to_what_was_durable_is_reported_and_left(
    base: Path, keys: Keys, chunk: int
) -> None:
    """A bad chunk in a fragment's table, or a file shorter than its count: nothing is touched."""
    path = unfinished(base, keys)
    raw = bytearray(path.read_bytes())
    if chunk == 1:
        raw[offset_of_chunk(1) + 9] ^= 1
    else:
        del raw[offset_of_chunk(4) + 9 :]
    path.write_bytes(raw)
    before = snapshot(base.parent)
    report = recover(base.parent, keys.secret)[0]
    assert (report.path, report.state) == (path, "failed")
    assert isinstance(report.error, Corrupt)
    assert snapshot(base.parent) == before


def test_a_wrong_key_touches_nothing(base: Path, keys: Keys) -> None:
    """The part waits, listed, for the right one."""
    path = unfinished(base, keys)
    before = snapshot(base.parent)
    with pytest.raises(WrongKey):
        recover_part(path, Keys().secret)
    report = recover(base.parent, Keys().secret)[0]
    assert isinstance(report.error, WrongKey)
    assert snapshot(base.parent) == before


def test_a_taken_final_name_is_not_replaced(base: Path, keys: Keys) -> None:
    """The part is closed and keeps its .open; the report says why."""
    path = unfinished(base, keys)
    base.write_bytes(b"somebody's")
    report = recover_part(path, keys.secret)
    assert base.read_bytes() == b"somebody's"
    assert (report.path, report.state) == (path, "recovered")
    assert isinstance(report.error, ConfigError)
    base.unlink()
    assert recover_part(path, keys.secret).path == base


@pytest.mark.parametrize(
    "content",
    [
        b"doors: open",
        b"x" * 20_000,
        b"\x89SRV\r\n\x1a\nbut longer than a header".ljust(9000, b"."),
        b"\x89SRV\r\n\x1a\n".ljust(8192, b"."),
    ],
    ids=["text", "long", "magic", "headers"],
)
def test_a_file_of_somebody_else_is_left_alone(base: Path, keys: Keys, content: bytes) -> None:
    """Not everything that is called .open is a part of ours."""
    other = base.with_name("front-door.open")
    other.write_bytes(content)
    report = recover(base.parent, keys.secret)[0]
    assert isinstance(report.error, Corrupt)
    assert other.read_bytes() == content


def test_links_and_directories_are_no_parts(base: Path, keys: Keys, tmp_path: Path) -> None:
    """Recovery follows no link out of the directory it was given."""
    outside = tmp_path / "outside"
    outside.mkdir()
    real = unfinished(outside / "op.mp4.enc", keys)
    inside = tmp_path / "inside"
    (inside / "a.open").mkdir(parents=True)
    (inside / "link.mp4.enc.open").symlink_to(real)
    before = snapshot(outside)
    assert recover(inside, keys.secret) == []
    with pytest.raises(DiskError):
        recover_part(inside / "link.mp4.enc.open", keys.secret)
    assert snapshot(outside) == before


def test_a_part_that_is_gone_is_not_there(base: Path, keys: Keys) -> None:
    """Its writer has sealed and renamed it in this moment, or there never was one."""
    with pytest.raises(FileNotFoundError):
        recover_part(open_path(base), keys.secret)
    with pytest.raises(ConfigError):
        recover(base, keys.secret)


# --- parts that never began -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "cut",
    [
        0,
        1,
        8,
        100,
        150,
        HEADER_BYTES,
        HEADER_BYTES + 1,
        PAYLOAD_OFFSET,
        PAYLOAD_OFFSET + 1,
        FIRST_CHUNK - 1,
    ],
)
@pytest.mark.parametrize("tail", ["missing", "zeros"])
def test_a_part_that_died_before_its_preamble_is_deleted(
    base: Path, keys: Keys, cut: int, tail: str
) -> None:
    """Whatever of the first 8,248 bytes had reached the disk: its index is free again."""
    with PartWriter.create(base, dek=keys.dek, header=keys.header(), reserve=False):
        pass
    path = open_path(base)
    raw = path.read_bytes()
    assert len(raw) == FIRST_CHUNK
    path.write_bytes(raw[:cut].ljust(FIRST_CHUNK if tail == "zeros" else 0, b"\0"))
    reserve_path(base).write_bytes(bytes(10))
    report = recover(base.parent, keys.secret)[0]
    assert (report.state, report.error) == ("deleted", None)
    assert not list(base.parent.iterdir())


def test_headers_torn_by_sectors_are_deleted(base: Path, keys: Keys) -> None:
    """A disk writes sectors in any order: what remains of one header twice never was a part."""
    for lost in (slice(0, 512), slice(3584, 4096), slice(100, 512), slice(4080, 4096)):
        header = bytearray(keys.header())
        header[lost] = bytes(lost.stop - lost.start)
        path = open_path(base)
        path.write_bytes(bytes(header) * 2)
        assert recover_part(path, keys.secret).state == "deleted"
        assert not path.exists()


def test_a_header_that_is_damaged_otherwise_is_not_deleted(base: Path, keys: Keys) -> None:
    """Copies that contradict each other, or that count chunks, are damage: somebody must look."""
    header = keys.header()
    counted = updated(Header.parse(header), keys.dek, chunk_count=1, payload_bytes=CHUNK)
    broken, other = bytearray(header), bytearray(header)
    broken[4070] ^= 1
    other[4090] ^= 2
    for raw in (broken + other, (counted[:-1] + b"\0") * 2, counted[:4090].ljust(8192, b"\0")):
        open_path(base).write_bytes(raw)
        with pytest.raises(Corrupt):
            recover_part(open_path(base), keys.secret)
        assert open_path(base).read_bytes() == raw


def test_a_payload_that_vanished_is_not_deleted(base: Path, keys: Keys) -> None:
    """The header counts chunks, so this is damage that somebody must look at."""
    path = unfinished(base, keys)
    raw = path.read_bytes()
    for size in (PAYLOAD_OFFSET, FIRST_CHUNK - 1, FIRST_CHUNK):
        path.write_bytes(raw[:size])
        with pytest.raises(Corrupt):
            recover_part(path, keys.secret)
        assert path.read_bytes() == raw[:size]


def test_a_payload_whose_headers_vanished_is_not_deleted(base: Path, keys: Keys) -> None:
    """Zeros where the headers were, and chunks behind them: evidence, not a part that never was."""
    path = unfinished(base, keys)
    path.write_bytes(bytes(PAYLOAD_OFFSET) + path.read_bytes()[PAYLOAD_OFFSET:])
    with pytest.raises(Corrupt):
        recover_part(path, keys.secret)
    assert path.exists()


def test_a_damaged_preamble_before_a_payload_is_not_deleted(base: Path, keys: Keys) -> None:
    """The preamble was durable before the first chunk was written."""
    path = unfinished(base, keys)
    raw = bytearray(path.read_bytes())
    raw[PAYLOAD_OFFSET] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Corrupt):
        recover_part(path, keys.secret)
    assert path.exists()


# --- directories and several parts ----------------------------------------------------------------


def test_everything_below_a_directory_is_recovered(tmp_path: Path, keys: Keys) -> None:
    """Each part has its report, in order of names, one failure does not stop the others."""
    for name in ("a/op.mp4.enc", "b/c/op.mp4.enc", "b/d.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        unfinished(tmp_path / name, keys, 1)
    unfinished(tmp_path / "b/other.mp4.enc", Keys(), 1)
    reports = recover(tmp_path, keys.secret)
    assert [(r.path.relative_to(tmp_path).as_posix(), r.state) for r in reports] == [
        ("a/op.mp4.enc", "recovered"),
        ("b/c/op.mp4.enc", "recovered"),
        ("b/d.bin", "recovered"),
        ("b/other.mp4.enc.open", "failed"),
    ]


def test_one_name_recovers_all_parts_of_its_recording(base: Path, keys: Keys) -> None:
    """And no other recording beside it."""
    first = media.write_part(base, keys, [media.made_up(0)])
    media.write_part(base, keys, [media.made_up(1)], index=1, previous=first)
    unfinished(base.with_name("other.mp4.enc"), keys)
    reports = recover(part_path(base, 1), keys.secret)
    assert [report.path for report in reports] == [base, part_path(base, 1)]
    assert open_path(base.with_name("other.mp4.enc")).exists()


# --- a writer that lives --------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from engine.container.writer import PartWriter
path, dek, header = Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
part = PartWriter.create(path, dek=dek, header=header)
print("writing", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def living_writer(base: Path, keys: Keys) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(base), keys.dek.hex(), keys.header().hex()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "writing\n"
            yield process
        finally:
            process.kill()


def test_a_part_that_is_being_written_is_in_use(
    base: Path, keys: Keys, living_writer: subprocess.Popen[str]
) -> None:
    """While its process lives nothing is touched; when it was killed, its lock is gone."""
    before = snapshot(base.parent)
    with pytest.raises(InUse):
        recover_part(open_path(base), keys.secret)
    report = recover(base.parent, keys.secret)[0]
    assert isinstance(report.error, InUse)
    assert snapshot(base.parent) == before
    living_writer.kill()
    living_writer.wait()
    assert recover_part(open_path(base), keys.secret).state == "recovered"
    assert [p.name for p in base.parent.iterdir()] == [base.name]


def test_a_writer_in_this_process_is_in_use(base: Path, keys: Keys) -> None:
    """The lock belongs to the open file, so a thread of the same engine is kept out as well."""
    with (
        PartWriter.create(base, dek=keys.dek, header=keys.header()),
        pytest.raises(InUse),
    ):
        recover_part(open_path(base), keys.secret)


# --- errors and costs -----------------------------------------------------------------------------


def test_a_write_error_during_recovery_can_be_repeated(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run says what happened; the second one finishes."""
    path = unfinished(base, keys)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(osdep, "sync_data", fail)
        with pytest.raises(DiskError, match="could not be closed"):
            recover_part(path, keys.secret)
    assert recover_part(path, keys.secret).fragment_count == 3


def test_the_supervisor_recovers_with_the_data_key_alone(base: Path, keys: Keys) -> None:
    """It holds no password; the report still leads to the tables."""
    path = unfinished(base, keys)
    report = recover_part(path, DataKeySecret(keys.dek))
    tables: list[FragmentTable] = list(report.fragments())
    assert sum(len(table.frames) for table in tables) == report.frames == 3 * FRAMES
    assert keys.dek.hex() not in repr(report)
    assert repr(keys.dek) not in repr(report)
    assert list(PartReport(path, "failed").fragments()) == []


def test_recovery_is_no_slower_than_its_tables(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Media before the last checkpoint are not read: only tables and box headers are."""
    path = unfinished(base, keys, 6, 500_000)
    read: list[int] = []
    real = osdep.read_at

    def read_at(fd: int, size_bytes: int, offset: int) -> bytes:
        read.append(size_bytes)
        return real(fd, size_bytes, offset)

    monkeypatch.setattr(osdep, "read_at", read_at)
    recovery.recover_part(path, keys.secret)
    assert sum(read) < base.stat().st_size / 3
    assert base.stat().st_size > 6 * 30 * CHUNK
