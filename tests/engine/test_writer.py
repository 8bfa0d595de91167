"""The writer: what it has returned for is durable, readable by others, and never plaintext."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container import partfile, writer
from engine.container.boxes import iterate_boxes, parse_event
from engine.container.header import HEADER_BYTES, Header, State
from engine.container.names import open_path, reserve_path
from engine.container.payload import CHUNK, PAYLOAD_OFFSET, offset_of_chunk
from engine.container.reader import PartReader
from engine.container.tables import (
    FragmentTable,
    IndexRow,
    SealTable,
    SessionTable,
    parse_fragment,
    parse_seal,
    parse_session,
)
from engine.container.writer import PartWriter
from ipc import osdep
from ipc.errors import ConfigError, DiskError, WrongState
from tests.engine import media
from tests.engine.media import Keys, Piece


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "op.mp4.enc"


@pytest.fixture
def keys() -> Keys:
    return Keys()


def begin(base: Path, keys: Keys) -> PartWriter:
    part = PartWriter.create(base, dek=keys.dek, header=keys.header())
    part.write_init(media.made_up_init(), SessionTable(software="test"))
    return part


def put(part: PartWriter, piece: Piece) -> writer.Checkpoint:
    return part.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)


def put_all(part: PartWriter, pieces: list[Piece]) -> None:
    for piece in pieces:
        put(part, piece)


def plaintext_of(path: Path, keys: Keys) -> bytes:
    """The payload, opened by the library that FORMAT.md names, not by our reader."""
    raw = path.read_bytes()
    decryptor = Cobblestone256Decryptor(keys.dek, raw[:128])
    return bytes(decryptor.update(raw[PAYLOAD_OFFSET:]) + decryptor.finalize())


def headers_of(path: Path) -> list[Header]:
    raw = path.read_bytes()
    return [Header.parse(raw[at : at + HEADER_BYTES]) for at in (0, HEADER_BYTES)]


# --- what the file is -----------------------------------------------------------------------------


def test_a_sealed_payload_opens_with_the_library_and_is_whole_boxes(base: Path, keys: Keys) -> None:
    """Ftyp, moov, session, then emsg, moof, mdat, free per fragment, and the seal at the end."""
    pieces = [media.made_up(0), media.made_up(1, 40_000), media.made_up(2, frames=0)]
    part = begin(base, keys)
    for piece in pieces:
        put(part, piece)
    part.seal(SealTable(parts=1, last=True))
    plain = plaintext_of(base, keys)
    boxes = list(iterate_boxes(plain))
    assert [box.kind for box in boxes] == [
        *(b"ftyp", b"moov", b"emsg", b"free"),
        *(b"emsg", b"moof", b"mdat", b"free"),
        *(b"emsg", b"moof", b"mdat", b"free"),
        *(b"emsg", b"free"),
        b"emsg",
    ]
    events = [parse_event(plain[b.offset : b.end]) for b in boxes if b.kind == b"emsg"]
    assert parse_session(events[0].data).software == "test"
    for number, (piece, event) in enumerate(zip(pieces, events[1:-1], strict=True)):
        assert parse_fragment(event.data) == piece.table
        assert (event.number, event.pts, event.duration) == (number, piece.pts, piece.duration)
    assert events[-1].pts == pieces[-1].pts + pieces[-1].duration
    assert parse_seal(events[-1].data).index == tuple(
        IndexRow(k, piece.pts, len(piece.table.frames))
        for k, piece in zip((1, 2, 5), pieces, strict=True)
    )


@settings(deadline=None, max_examples=15)
@given(st.lists(st.integers(0, 40) | st.integers(CHUNK - 12, CHUNK + 12), min_size=1, max_size=4))
def test_every_fragment_starts_and_ends_at_a_chunk_edge(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    """Whatever is missing to the edge, also 1 to 7 bytes, a free box fills it."""
    keys, base = Keys(), tmp_path_factory.mktemp("p") / "op.mp4.enc"
    part = begin(base, keys)
    for number, size in enumerate(sizes):
        piece = media.made_up(number)
        table = len(writer.pack_fragment(piece.table)) + len(piece.media) + 59
        media_bytes = piece.media[:100] + media.box(b"mdat", 8 + (size - table) % CHUNK)
        checkpoint = part.append(piece.table, media_bytes, pts=piece.pts, duration=1)
        assert checkpoint.payload_bytes == checkpoint.chunks * CHUNK
        assert checkpoint.file_bytes == open_path(base).stat().st_size
    part.seal(SealTable(parts=1, last=True))
    plain = plaintext_of(base, keys)
    starts = [b.offset for b in iterate_boxes(plain) if b.kind == b"emsg"][1:]
    assert [start % CHUNK for start in starts] == [0] * (len(sizes) + 1)


def test_no_plaintext_reaches_the_file(base: Path, keys: Keys) -> None:
    """Neither media nor tables nor box names are in the file, open or sealed."""
    part = begin(base, keys)
    piece = media.made_up(0, 100_000)
    put(part, piece)
    opened = open_path(base).read_bytes()
    part.seal(SealTable(parts=1, last=True))
    for raw in (opened, base.read_bytes()):
        for at in range(100, len(piece.media) - 16, 5000):
            assert piece.media[at : at + 16] not in raw
        for known in (b"ftyp", b"moof", b"emsg", b"urn:sealrec", keys.dek, keys.kek):
            assert known not in raw


def test_two_parts_of_the_same_content_share_no_bytes(base: Path, keys: Keys) -> None:
    """Each part has a salt of its own, though the data key is the same."""
    piece, init = media.made_up(0), media.made_up_init()
    first = media.write_part(base, keys, [piece], init=init)
    media.write_part(base, keys, [piece], index=1, previous=first, init=init)
    raws = [
        open_path(p).read_bytes()[PAYLOAD_OFFSET:] for p in (base, base.with_name("op.001.mp4.enc"))
    ]
    assert len(raws[0]) == len(raws[1])
    assert not any(raws[0][at : at + 16] in raws[1] for at in range(0, len(raws[0]) - 16, 16))


# --- checkpoints ----------------------------------------------------------------------------------


def test_each_checkpoint_is_in_the_older_header_copy(base: Path, keys: Keys) -> None:
    """After every append one copy, alternating, counts what is durable, one generation on."""
    part = begin(base, keys)
    before = headers_of(open_path(base))
    for number in range(5):
        checkpoint = put(part, media.made_up(number, 20_000 * number + 100))
        after = headers_of(open_path(base))
        changed = [i for i in (0, 1) if after[i] != before[i]]
        assert changed == [min((0, 1), key=lambda i: before[i].generation)]
        newest = after[changed[0]]
        assert newest.generation == max(h.generation for h in before) + 1
        assert (newest.chunk_count, newest.payload_bytes) == (
            checkpoint.chunks,
            checkpoint.payload_bytes,
        )
        assert newest.state is State.OPEN
        assert checkpoint.fragments == number + 1
        before = after
    part.abandon()


def test_the_seal_is_in_both_copies_and_in_its_result(base: Path, keys: Keys) -> None:
    """Counts, seal chunk, generation and MAC are those of the file."""
    part = begin(base, keys)
    put(part, media.made_up(0))
    result = part.seal(SealTable(parts=1, last=True))
    headers = headers_of(base)
    newest = max(headers, key=lambda h: h.generation)
    assert result.path == base
    assert result.size_bytes == base.stat().st_size
    assert (result.generation, result.header_mac) == (newest.generation, newest.mac)
    assert sorted(h.generation for h in headers) == [result.generation - 1, result.generation]
    plain = plaintext_of(base, keys)
    for header in headers:
        assert header.state is State.SEALED
        assert (header.chunk_count, header.payload_bytes) == (result.chunk_count, len(plain))
        assert plain[header.seal_chunk * CHUNK :][4:8] == b"emsg"


def test_only_synced_bytes_are_counted_and_one_header_is_always_clean(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Payload, sync, older header, sync: a header is touched only when nothing else is dirty."""
    dirty: list[int] = []
    headers: list[bool] = []
    real_write, real_sync, real_sync_all = (
        osdep.write_at,
        osdep.sync_data,
        partfile.PartFile.sync_all,
    )

    def write_at(fd: int, data: bytes, offset: int) -> None:
        if headers:  # the first write makes both copies, when there is nothing to lose yet
            assert offset < PAYLOAD_OFFSET or not any(at < PAYLOAD_OFFSET for at in dirty)
            assert offset >= PAYLOAD_OFFSET or not dirty
        headers.append(offset < PAYLOAD_OFFSET)
        dirty.append(offset)
        real_write(fd, data, offset)

    def sync(call: Callable[..., None]) -> Callable[..., None]:
        def synced(target: object) -> None:
            call(target)
            dirty.clear()

        return synced

    def sync_directory(path: Path) -> None:
        assert not dirty
        names.append(path)
        real_sync_directory(path)

    names: list[Path] = []
    real_sync_directory = osdep.sync_directory
    monkeypatch.setattr(osdep, "sync_directory", sync_directory)
    monkeypatch.setattr(osdep, "write_at", write_at)
    monkeypatch.setattr(osdep, "sync_data", sync(real_sync))
    monkeypatch.setattr(partfile.PartFile, "sync_all", sync(real_sync_all))
    part = PartWriter.create(base, dek=keys.dek, header=keys.header(), reserve=False)
    assert names == [base.parent]
    assert not dirty  # also the preamble: the next part may name its commitment from now on
    part.write_init(media.made_up_init(), SessionTable())
    put(part, media.made_up(0))
    assert not dirty
    part.seal(SealTable(parts=1, last=True))
    assert not dirty
    assert headers == [True, False, False, True, False, True, False, True, True]
    assert names == [base.parent] * 2


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", ".open"])
def test_a_taken_name_is_refused(base: Path, keys: Keys, suffix: str) -> None:
    """Neither the final name nor .open of it is ever overwritten."""
    taken = base.with_name(base.name + suffix)
    taken.write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match="exists already"):
        PartWriter.create(base, dek=keys.dek, header=keys.header())
    assert taken.read_bytes() == b"somebody's"
    assert sorted(p.name for p in base.parent.iterdir()) == [taken.name]


@pytest.mark.parametrize("locked", [True, False])
def test_a_recovery_that_finds_the_file_first_does_no_harm(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, locked: bool
) -> None:
    """It deletes the empty file before the writer has locked it: the writer starts over."""
    real, calls = osdep.lock_file, []

    def lock_file(fd: int) -> bool:
        calls.append(fd)
        if len(calls) == 1:
            open_path(base).unlink()
            return real(fd) and not locked
        return real(fd)

    monkeypatch.setattr(osdep, "lock_file", lock_file)
    part = begin(base, keys)
    assert len(calls) == 2
    put(part, media.made_up(0))
    assert part.seal(SealTable(parts=1, last=True)).path == base


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("renameat2", [True, False])
def test_the_final_rename_replaces_nothing(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, renameat2: bool, links: bool
) -> None:
    """A file that took the name meanwhile stays; the part is sealed and keeps its .open."""
    if not renameat2:
        monkeypatch.setattr(osdep, "_rename_no_replace", lambda *_: errno.EINVAL)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    part = begin(base, keys)
    base.write_bytes(b"somebody's")
    result = part.seal(SealTable(parts=1, last=True))
    assert base.read_bytes() == b"somebody's"
    assert result.path == open_path(base)
    with PartReader.open(result.path, keys.secret) as reader:
        assert reader.state == "sealed"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_system_without_renameat2_is_sealed_on(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """By link and unlink, or without links by a check and a rename."""
    monkeypatch.setattr(osdep, "_rename_no_replace", lambda *_: errno.EINVAL)
    if not links:
        monkeypatch.setattr(os, "link", _no_links)
    assert begin(base, keys).seal(SealTable(parts=1, last=True)).path == base
    assert [p.name for p in base.parent.iterdir()] == [base.name]


def _no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "no links here")


def test_the_file_is_private_and_the_descriptor_closed(base: Path, keys: Keys) -> None:
    """0600 from the first byte on; nothing is left open after seal or abandon."""
    before = len(os.listdir("/proc/self/fd"))
    part = begin(base, keys)
    for path in (open_path(base), reserve_path(base)):
        assert path.stat().st_mode & 0o777 == 0o600
    part.seal(SealTable(parts=1, last=True))
    part.abandon()
    other = begin(base.with_name("other.mp4.enc"), keys)
    other.abandon()
    other.abandon()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_takes_no_file_is_reported(tmp_path: Path, keys: Keys) -> None:
    """No such directory: a DiskError with the path, and nothing is left behind."""
    with pytest.raises(DiskError, match="cannot be created"):
        PartWriter.create(tmp_path / "none" / "op.mp4.enc", dek=keys.dek, header=keys.header())
    assert not list(tmp_path.iterdir())


# --- order of calls and what is handed in ---------------------------------------------------------


def test_calls_out_of_order_are_refused(base: Path, keys: Keys) -> None:
    """No fragment or seal before the init segment, no second one, nothing after the end."""
    part = PartWriter.create(base, dek=keys.dek, header=keys.header())
    assert not part.can_seal
    with pytest.raises(WrongState):
        put(part, media.made_up(0))
    with pytest.raises(WrongState):
        part.seal(SealTable(parts=1, last=True))
    part.write_init(media.made_up_init(), SessionTable())
    with pytest.raises(WrongState):
        part.write_init(media.made_up_init(), SessionTable())
    part.seal(SealTable(parts=1, last=True))
    for call in (
        lambda: put(part, media.made_up(0)),
        lambda: part.seal(SealTable(parts=1, last=True)),
    ):
        with pytest.raises(WrongState):
            call()


def test_media_that_do_not_fit_their_table_change_nothing(base: Path, keys: Keys) -> None:
    """Boxes of another kind, media without rows, rows without media: refused, nothing written."""
    part = begin(base, keys)
    size = open_path(base).stat().st_size
    good, table_only = media.made_up(0), media.made_up(0, frames=0)
    for table, data in (
        (good.table, b""),
        (good.table, good.media + good.media),
        (good.table, good.media[:-1]),
        (good.table, media.made_up_init()),
        (table_only.table, good.media),
    ):
        with pytest.raises(ValueError, match=r"box|stream"):
            part.append(table, data, pts=0, duration=1)
    with pytest.raises(ValueError, match="range"):
        part.append(good.table, good.media, pts=-1, duration=1)
    assert open_path(base).stat().st_size == size
    assert put(part, good).fragments == 1
    part.abandon()


def test_only_the_header_of_an_empty_part_begins_one(base: Path, keys: Keys) -> None:
    """A header that already counts chunks would vouch for bytes that are not there."""
    media.write_part(base, keys, [media.made_up(0)])
    used = open_path(base).read_bytes()[:HEADER_BYTES]
    with pytest.raises(ConfigError, match="empty"):
        PartWriter.create(base.with_name("x.mp4.enc"), dek=keys.dek, header=used)


# --- the reserve ----------------------------------------------------------------------------------


def test_the_reserve_follows_the_largest_fragment_and_goes_with_the_part(
    base: Path, keys: Keys
) -> None:
    """Its blocks are really allocated, for twice the fragment and the seal; none is left over."""
    part = begin(base, keys)
    reserve = reserve_path(base)
    first = reserve.stat()
    assert first.st_blocks * 512 >= first.st_size >= 1 << 20
    put(part, media.made_up(0, 2_000_000))
    grown = reserve.stat()
    assert grown.st_blocks * 512 >= grown.st_size > 4_000_000
    put(part, media.made_up(1))
    assert reserve.stat().st_size == grown.st_size
    part.seal(SealTable(parts=1, last=True))
    assert not reserve.exists()
    other = begin(base.with_name("other.mp4.enc"), keys)
    other.abandon()
    assert not reserve_path(base.with_name("other.mp4.enc")).exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def fill(directory: Path, leave_bytes: int = 0) -> None:
    """Let somebody else use up the disk."""
    free = os.statvfs(directory)
    (directory / "somebody").write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - leave_bytes)))


def assert_sealed(path: Path, keys: Keys, tables: list[FragmentTable]) -> None:
    with PartReader.open(path, keys.secret) as reader:
        assert reader.state == "sealed"
        reader.check_all()
        assert [fragment.table for fragment in reader.fragments()] == tables


def test_a_full_disk_ends_in_a_sealed_part(small_disk: Path, keys: Keys) -> None:
    """The fragment in hand is completed in the reserve's room and counted; then the part seals."""
    base = small_disk / "op.mp4.enc"
    part, pieces = begin(base, keys), [media.made_up(i, 150_000) for i in range(40)]
    with pytest.raises(DiskError) as caught:
        put_all(part, pieces)
    assert (caught.value.can_seal, caught.value.kept) == (True, True)
    del pieces[part.fragments :]
    assert 10 < len(pieces) < 40
    assert not reserve_path(base).exists()
    with pytest.raises(DiskError) as again:
        put(part, media.made_up(len(pieces)))
    assert (again.value.can_seal, again.value.kept) == (True, False)
    assert part.seal(SealTable(parts=1, last=True)).path == base
    assert_sealed(base, keys, [piece.table for piece in pieces])


def test_a_fragment_that_no_reserve_can_follow_is_not_begun(small_disk: Path, keys: Keys) -> None:
    """Too large for what is left: it is not encrypted, and everything before it seals."""
    base = small_disk / "op.mp4.enc"
    part, piece = begin(base, keys), media.made_up(0)
    put(part, piece)
    fill(small_disk, leave_bytes=100_000)
    with pytest.raises(DiskError) as caught:
        put(part, media.made_up(1, 1_500_000))
    assert (caught.value.can_seal, caught.value.kept) == (True, False)
    part.seal(SealTable(parts=1, last=True))
    assert_sealed(base, keys, [piece.table])


def test_a_disk_that_fills_before_the_seal_is_sealed(small_disk: Path, keys: Keys) -> None:
    """The reserve also makes room for the seal itself."""
    base = small_disk / "op.mp4.enc"
    part, piece = begin(base, keys), media.made_up(0)
    put(part, piece)
    fill(small_disk)
    part.seal(SealTable(parts=1, last=True))
    assert_sealed(base, keys, [piece.table])


def test_a_disk_without_room_for_the_reserve_begins_no_part(small_disk: Path, keys: Keys) -> None:
    """A recording that could not be ended well is not started; nothing is left behind."""
    fill(small_disk, leave_bytes=200_000)
    with pytest.raises(DiskError, match="cannot be created"):
        PartWriter.create(small_disk / "op.mp4.enc", dek=keys.dek, header=keys.header())
    assert [p.name for p in small_disk.iterdir()] == ["somebody"]


def test_without_a_reserve_a_full_disk_leaves_the_last_checkpoint(
    small_disk: Path, keys: Keys
) -> None:
    """Nothing can complete the fragment, so the part is dead and good to its last checkpoint."""
    base = small_disk / "op.mp4.enc"
    part = PartWriter.create(base, dek=keys.dek, header=keys.header(), reserve=False)
    part.write_init(media.made_up_init(), SessionTable())
    put(part, media.made_up(0))
    fill(small_disk, leave_bytes=50_000)
    with pytest.raises(DiskError) as caught:
        put(part, media.made_up(1, 200_000))
    assert not caught.value.can_seal
    part.abandon()
    with PartReader.open(open_path(base), keys.secret) as reader:
        assert (reader.state, len(reader.index)) == ("incomplete", 1)


# --- a disk that fails ----------------------------------------------------------------------------


def assert_dead(part: PartWriter, base: Path, keys: Keys, kept: int) -> None:
    """Nothing is written any more, and what was durable is all there."""
    raw = open_path(base).read_bytes()
    assert not part.can_seal
    for call in (
        lambda: put(part, media.made_up(9)),
        lambda: part.seal(SealTable(parts=1, last=True)),
    ):
        with pytest.raises(DiskError) as caught:
            call()
        assert not caught.value.can_seal
    part.abandon()
    assert open_path(base).read_bytes() == raw
    with PartReader.open(open_path(base), keys.secret) as reader:
        assert reader.state == "incomplete"
        assert len(reader.index) >= kept
        reader.read()


@pytest.mark.parametrize("code", [errno.EIO, errno.EROFS])
@pytest.mark.parametrize("place", ["payload", "header"])
def test_a_write_error_ends_the_part(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, code: int, place: str
) -> None:
    """Half of the bytes written, then an error: nothing is encrypted again under this salt."""
    part = begin(base, keys)
    put(part, media.made_up(0))
    real = osdep.write_at

    def fail(fd: int, data: bytes, offset: int) -> None:
        if (offset >= PAYLOAD_OFFSET) == (place == "payload"):
            real(fd, data[: len(data) // 2], offset)
            raise OSError(code, os.strerror(code))
        real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(osdep, "write_at", fail)
        with pytest.raises(DiskError) as caught:
            put(part, media.made_up(1))
    assert not caught.value.kept
    assert_dead(part, base, keys, 1)


@pytest.mark.parametrize("call", [1, 2])
def test_a_failed_sync_ends_the_part(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    """After a failed fdatasync nobody knows what the disk holds, and asking again would lie."""
    part = begin(base, keys)
    put(part, media.made_up(0))
    calls = iter(range(1, 99))
    real = osdep.sync_data

    def fail(fd: int) -> None:
        if next(calls) == call:
            raise OSError(errno.EIO, "lost")
        real(fd)

    with monkeypatch.context() as patch:
        patch.setattr(osdep, "sync_data", fail)
        with pytest.raises(DiskError):
            put(part, media.made_up(1))
    assert_dead(part, base, keys, 1)


def test_a_file_size_limit_ends_the_part(base: Path, keys: Keys) -> None:
    """RLIMIT_FSIZE, really set: the file takes no more and no reserve can help."""
    part = begin(base, keys)
    put(part, media.made_up(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (offset_of_chunk(4), hard))
    try:
        with pytest.raises(DiskError) as caught:
            put(part, media.made_up(1, 100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not caught.value.can_seal
    assert_dead(part, base, keys, 1)


def test_an_error_while_sealing_leaves_an_open_part(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seal did not reach the disk, so the part is not called sealed."""
    part = begin(base, keys)
    put(part, media.made_up(0))

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "lost")

    with monkeypatch.context() as patch:
        patch.setattr(osdep, "sync_data", fail)
        with pytest.raises(DiskError):
            part.seal(SealTable(parts=1, last=True))
    assert_dead(part, base, keys, 1)
    assert not base.exists()
