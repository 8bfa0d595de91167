"""The reader: every frame of every part comes out, and nothing that was not written does."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container.boxes import EventMessage, iterate_boxes, pack_event, padding_after
from engine.container.header import HEADER_BYTES, Header, State, updated
from engine.container.names import open_path, part_path
from engine.container.payload import CHUNK, STORED_CHUNK, PayloadWriter, offset_of_chunk
from engine.container.reader import PartReader, RecordingReader, read_public_header
from engine.container.recipients import (
    DataKeySecret,
    KeyFileSecret,
    PasswordSecret,
    PrivateKeySecret,
    Secret,
)
from engine.container.slots import SlotKind
from engine.container.tables import (
    FRAGMENT_SCHEME,
    SEAL_SCHEME,
    SESSION_SCHEME,
    IndexRow,
    SealTable,
    SessionTable,
    pack_fragment,
    pack_seal,
    pack_session,
)
from engine.container.writer import PartWriter
from ipc import osdep
from ipc.errors import ConfigError, Corrupt, DiskError, SealrecError, Truncated, WrongKey
from tests.engine import media
from tests.engine.media import FRAMES, PERIOD, Keys
from tests.vectors.file_vectors import FILE_VECTORS, RECOVERED_VECTORS, Golden, load_golden
from tests.vectors.header_vectors import HEADER_VECTORS

Luma = tuple[int, int]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return tmp_path / "op.mp4.enc"


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest.fixture(scope="module")
def golden() -> Golden:
    return load_golden()


@pytest.fixture(scope="module")
def movie(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Path:
    """A real recording of two parts with three fragments each."""
    base = tmp_path_factory.mktemp("movie") / "op.mp4.enc"
    init = media.real_init()
    first = media.write_part(
        base, keys, media.real(0, 3), init=init, seal=media.seal_table(1, last=False)
    )
    media.write_part(
        base, keys, media.real(3, 3), index=1, previous=first, init=init, seal=media.seal_table(2)
    )
    return base


def decoded(stream: io.RawIOBase | io.BytesIO) -> list[Luma]:
    """(pts, luma) of every frame that PyAV decodes."""
    with av.open(stream) as container:
        return [
            (int(frame.pts or 0), int(frame.to_ndarray()[0, 0]))
            for frame in container.decode(video=0)
        ]


def frames(first: int, count: int) -> list[Luma]:
    return [(i * PERIOD, 16 + 5 * (i % 40)) for i in range(first, first + count)]


# --- playing --------------------------------------------------------------------------------------


def test_all_frames_of_all_parts_decode_at_their_times(movie: Path, keys: Keys) -> None:
    """PyAV reads the joined stream straight from the encrypted files; no plaintext file exists."""
    before = sorted(movie.parent.iterdir())
    for name in (movie, part_path(movie, 1)):
        with RecordingReader.open(name, keys.secret) as recording:
            assert recording.complete
            assert recording.uniform
            assert decoded(recording) == frames(0, 6 * FRAMES)
            assert recording.end_pts == 6 * FRAMES * PERIOD
    assert sorted(movie.parent.iterdir()) == before


def test_a_single_part_decodes_at_absolute_times(movie: Path, keys: Keys) -> None:
    """Times are not zeroed per part."""
    with PartReader.open(part_path(movie, 1), keys.secret) as part:
        assert decoded(part) == frames(3 * FRAMES, 3 * FRAMES)


def test_one_fragment_decodes_by_itself(movie: Path, keys: Keys) -> None:
    """Decoding one frame needs its fragment and the init segment, no scan."""
    with RecordingReader.open(movie, keys.secret) as recording:
        for number in range(6):
            stream = io.BytesIO(recording.fragment_stream(number))
            assert decoded(stream) == frames(number * FRAMES, FRAMES)
        for number in (-1, 6):
            with pytest.raises(IndexError):
                recording.fragment_stream(number)


def test_the_joined_stream_is_standard_boxes(movie: Path, keys: Keys) -> None:
    """One ftyp and moov at the start, sessions and seals in between, fragments in order."""
    with RecordingReader.open(movie, keys.secret) as recording:
        kinds = [box.kind for box in iterate_boxes(recording.read())]
    fragment = [b"emsg", b"moof", b"mdat", b"free"]
    part = [b"emsg", b"free", *fragment * 3, b"emsg"]
    assert kinds == [b"ftyp", b"moov", *part, *part]


def test_a_player_can_seek(movie: Path, keys: Keys) -> None:
    """PyAV finds a time in the second part through the reader."""
    with RecordingReader.open(movie, keys.secret) as recording, av.open(recording) as container:
        stream = container.streams.video[0]
        for _ in container.demux(stream):
            pass  # a fragmented file is known to a player once it has been through it
        container.seek(4 * FRAMES * PERIOD, stream=stream)
        assert next(container.decode(stream)).pts == 4 * FRAMES * PERIOD


def test_a_time_leads_to_its_fragment(base: Path, keys: Keys) -> None:
    """The last fragment with pictures at or before it; table-only ones have none to show."""
    pieces = [
        media.made_up(0, frames=0),
        media.made_up(1),
        media.made_up(2, frames=0),
        media.made_up(3),
    ]
    media.write_part(base, keys, pieces, seal=media.seal_table())
    length = FRAMES * PERIOD
    with PartReader.open(base, keys.secret) as part:
        found = [
            part.fragment_at(pts) for pts in (0, length, 2 * length, 3 * length - 1, 3 * length)
        ]
        assert found == [1, 1, 1, 1, 3]
    only_tables = base.with_name("tables.mp4.enc")
    media.write_part(only_tables, keys, pieces[:1], seal=media.seal_table())
    with PartReader.open(only_tables, keys.secret) as part:
        assert part.fragment_at(0) is None


# --- reading --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(
    tmp_path_factory: pytest.TempPathFactory, keys: Keys
) -> Iterator[tuple[PartReader, bytes]]:
    base = tmp_path_factory.mktemp("large") / "op.mp4.enc"
    pieces = [media.made_up(i, 150_000 * (i % 3) + 500) for i in range(7)]
    media.write_part(base, keys, pieces, seal=media.seal_table())
    with PartReader.open(base, keys.secret) as part:
        yield part, part.read()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 960_000), st.integers(-1, 200_000)), max_size=8))
def test_any_place_can_be_read(
    large: tuple[PartReader, bytes], reads: list[tuple[int, int]]
) -> None:
    """Seek, read and tell behave as on a file of the plaintext, also behind its end."""
    part, whole = large
    model = io.BytesIO(whole)
    for offset, size in reads:
        assert part.seek(offset) == model.seek(offset)
        assert part.read(size) == model.read(size)
        assert part.tell() == model.tell()
    assert part.seek(-5, os.SEEK_END) == model.seek(-5, os.SEEK_END)
    assert part.seek(2, os.SEEK_CUR) == model.seek(2, os.SEEK_CUR)
    assert part.readall() == model.read()


def test_places_before_the_start_are_refused(large: tuple[PartReader, bytes]) -> None:
    """As of any file."""
    with pytest.raises(ValueError, match="no place"):
        large[0].seek(-1)


def test_every_payload_length_around_a_chunk_edge_comes_back(base: Path, keys: Keys) -> None:
    """Lengths k*16384 - 1, + 0 and + 1, with the final chunk empty at + 0."""
    lengths = set()
    for extra in range(CHUNK - 700, CHUNK - 100):
        path = base.with_name(f"{extra}.mp4.enc")
        seal = SealTable(parts=1, last=True, audit_head="a" * extra)
        size = len(pack_event(EventMessage(SEAL_SCHEME, 0, 0, 0, pack_seal(seal))))
        if size % CHUNK not in (CHUNK - 1, 0, 1):
            continue
        media.write_part(path, keys, [], seal=seal)
        with PartReader.open(path, keys.secret) as part:
            part.check_all()
            assert part.seal == seal
            assert len(part.read()) == part.size
            lengths.add(part.size % CHUNK)
    assert lengths == {CHUNK - 1, 0, 1}


def test_opening_a_sealed_part_reads_no_more_than_its_ends(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers, final chunk, seal: the index needs no scan, however long the part is."""
    pieces = [media.made_up(i, 200_000) for i in range(20)]
    media.write_part(base, keys, pieces, seal=media.seal_table())
    real, read = osdep.read_at, []

    def read_at(fd: int, size_bytes: int, offset: int) -> bytes:
        read.append(size_bytes)
        return real(fd, size_bytes, offset)

    monkeypatch.setattr(osdep, "read_at", read_at)
    with PartReader.open(base, keys.secret) as part:
        assert [row.pts for row in part.index] == [piece.pts for piece in pieces]
        assert sum(read) < 6 * STORED_CHUNK
        read.clear()
        assert part.fragment(17).table == pieces[17].table
        assert sum(read) < 40 * STORED_CHUNK


def test_fragments_are_what_was_appended(base: Path, keys: Keys) -> None:
    """Tables, times, places and media of each fragment, in every state of a part."""
    pieces = [media.made_up(0), media.made_up(1, 100_000), media.made_up(2, frames=0)]
    media.write_part(base, keys, pieces, seal=media.seal_table())
    other = base.with_name("open.mp4.enc")
    media.write_part(other, keys, pieces)
    for path, state in ((base, "sealed"), (open_path(other), "incomplete")):
        with PartReader.open(path, keys.secret) as part:
            assert part.state == state
            found = list(part.fragments())
            assert [fragment.table for fragment in found] == [piece.table for piece in pieces]
            assert [fragment.number for fragment in found] == [0, 1, 2]
            assert part.end_pts == pieces[-1].pts + pieces[-1].duration
            assert part.session == SessionTable(software="test")
            for fragment, piece in zip(found, pieces, strict=True):
                assert (fragment.pts, fragment.duration) == (piece.pts, piece.duration)
                assert part.read_at(fragment.media_size, fragment.media_offset) == piece.media
                assert len(part.fragment_bytes(fragment.number)) == fragment.size
                assert fragment.offset == fragment.first_chunk * CHUNK


def test_a_closed_reader_says_so(base: Path, keys: Keys) -> None:
    """Reading after close is the caller's error, not the descriptor's next owner's data."""
    media.write_part(base, keys, [], seal=media.seal_table())
    part = PartReader.open(base, keys.secret)
    part.close()
    part.close()
    with pytest.raises(ValueError, match="closed"):
        part.read(1)


def test_no_descriptor_is_left_open(base: Path, keys: Keys) -> None:
    """Neither by a reader that was closed nor by one that could not be opened."""
    media.write_part(base, keys, [], seal=media.seal_table())
    raw = base.read_bytes()
    before = len(os.listdir("/proc/self/fd"))
    PartReader.open(base, keys.secret).close()
    RecordingReader.open(base, keys.secret).close()
    for data, secret in ((raw, Keys().secret), (raw[:-1], keys.secret), (b"", keys.secret)):
        base.write_bytes(data)
        with pytest.raises(SealrecError):
            PartReader.open(base, secret)
        with pytest.raises(SealrecError):
            RecordingReader.open(base, secret)
    assert len(os.listdir("/proc/self/fd")) == before


# --- states ---------------------------------------------------------------------------------------


def test_an_open_part_reads_up_to_its_last_whole_fragment(base: Path, keys: Keys) -> None:
    """State incomplete; what is cut off behind is named; a caller that wants an end is told."""
    pieces = [media.made_up(i, 60_000) for i in range(3)]
    media.write_part(base, keys, pieces)
    path = open_path(base)
    raw = path.read_bytes()
    for surplus in (0, 1, 7000, 2 * STORED_CHUNK):
        path.write_bytes(
            raw[: len(raw) - surplus] if surplus < STORED_CHUNK else raw + bytes(surplus)
        )
        if 0 < surplus < STORED_CHUNK:
            with pytest.raises(Corrupt, match="known to be durable"):
                PartReader.open(path, keys.secret)
            continue
        with PartReader.open(path, keys.secret) as part:
            assert part.state == "incomplete"
            assert len(part.index) == 3
            assert part.size % CHUNK == 0
        with pytest.raises(Truncated):
            PartReader.open(path, keys.secret, allow_incomplete=False)


def test_a_part_that_is_being_written_can_be_read(base: Path, keys: Keys) -> None:
    """Each time it is opened it shows what is durable by then."""
    with PartWriter.create(base, dek=keys.dek, header=keys.header()) as writer:
        with PartReader.open(open_path(base), keys.secret) as part:
            assert (part.state, part.size, part.init_segment, part.session) == (
                *("incomplete", 0, b""),
                None,
            )
            assert list(part.fragments()) == []
        writer.write_init(media.made_up_init(), SessionTable())
        for number in range(3):
            piece = media.made_up(number)
            writer.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)
            with PartReader.open(open_path(base), keys.secret) as part:
                assert len(list(part.fragments())) == number + 1


def test_one_damaged_header_copy_still_opens(base: Path, keys: Keys) -> None:
    """The other copy is enough, and the reader says which one is damaged."""
    media.write_part(base, keys, [media.made_up(0)], seal=media.seal_table())
    raw = base.read_bytes()
    for copy in (0, 1):
        at = copy * HEADER_BYTES
        base.write_bytes(raw[:at] + bytes(HEADER_BYTES) + raw[at + HEADER_BYTES :])
        with PartReader.open(base, keys.secret) as part:
            assert part.state == "sealed"
            assert part.copies_valid == (copy == 1, copy == 0)
            part.check_all()


def test_a_bad_chunk_is_named_with_its_place(base: Path, keys: Keys) -> None:
    """Opening does not look at it; reading it, and checking all, say where it is."""
    media.write_part(
        base, keys, [media.made_up(i, 60_000) for i in range(3)], seal=media.seal_table()
    )
    raw = bytearray(base.read_bytes())
    raw[offset_of_chunk(6) + 10] ^= 1
    base.write_bytes(raw)
    with PartReader.open(base, keys.secret) as part:
        assert part.state == "sealed"
        assert part.read_at(100, 0)
        with pytest.raises(Corrupt, match=rf"Chunk 6 .*{offset_of_chunk(6)}"):
            part.read()
        with pytest.raises(Corrupt, match="Chunk 6 "):
            part.check_all()


def test_a_disk_that_does_not_give_it_back_is_named(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable sector is not a forged chunk: DiskError with the place."""
    media.write_part(base, keys, [media.made_up(0, 60_000)], seal=media.seal_table())

    def fail(*_: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with PartReader.open(base, keys.secret) as part, monkeypatch.context() as patch:
        patch.setattr(osdep, "read_at", fail)
        for read in (part.read, part.check_all):
            with pytest.raises(DiskError, match=rf"offset {offset_of_chunk(0)}"):
                read()
    with monkeypatch.context() as patch:
        patch.setattr(osdep, "read_at", fail)
        with pytest.raises(DiskError):
            PartReader.open(base, keys.secret)


def test_checking_all_reports_its_progress(base: Path, keys: Keys) -> None:
    """The last report is (all, all), and they only grow."""
    media.write_part(base, keys, [media.made_up(0, 3_000_000)], seal=media.seal_table())
    seen: list[tuple[int, int]] = []
    with PartReader.open(base, keys.secret) as part:
        part.check_all(lambda done, count: seen.append((done, count)))
        assert seen[-1] == (part.header.chunk_count, part.header.chunk_count)
    assert len(seen) > 2
    assert seen == sorted(seen)


def test_the_intact_prefix_of_a_corrupt_part_reads_on_request(base: Path, keys: Keys) -> None:
    """Whole fragments before the first bad chunk, from a flipped, a cut and an open part."""
    pieces = [media.made_up(i, 60_000) for i in range(4)]
    media.write_part(base, keys, pieces, seal=media.seal_table())
    sealed = base.read_bytes()
    flipped = bytearray(sealed)
    flipped[offset_of_chunk(9) + 5] ^= 1  # fragment 2 is chunks 9 to 12
    other = base.with_name("open.mp4.enc")
    media.write_part(other, keys, pieces)
    early = bytearray(open_path(other).read_bytes())
    early[offset_of_chunk(9) + 5] ^= 1
    for raw in (bytes(flipped), sealed[: offset_of_chunk(10) + 77], bytes(early)):
        base.write_bytes(raw)
        with PartReader.open(base, keys.secret, salvage=True) as part:
            assert part.state == "corrupt"
            assert part.error is not None
            assert [f.table for f in part.fragments()] == [p.table for p in pieces[:2]]
            assert part.end_pts == pieces[1].pts + pieces[1].duration
            part.check_all()
    base.write_bytes(sealed)
    with PartReader.open(base, keys.secret, salvage=True) as part:
        assert (part.state, part.error) == ("sealed", None)


def test_an_incomplete_part_is_not_corrupt_to_a_salvager(base: Path, keys: Keys) -> None:
    """A bad chunk behind the durable ones is how an open part ends."""
    media.write_part(base, keys, [media.made_up(0)])
    path = open_path(base)
    path.write_bytes(path.read_bytes() + bytes(STORED_CHUNK))
    with PartReader.open(path, keys.secret, salvage=True) as part:
        assert (part.state, len(part.index)) == ("incomplete", 1)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path, keys: Keys) -> None:
    """No such part, no such recording, a directory: exit code 2, not 4."""
    for call in (PartReader.open, RecordingReader.open):
        with pytest.raises(ConfigError):
            call(tmp_path / "none.mp4.enc", keys.secret)
    with pytest.raises(SealrecError):
        PartReader.open(tmp_path, keys.secret)
    with pytest.raises(ConfigError):
        read_public_header(tmp_path / "none.mp4.enc")


def test_the_public_header_needs_no_key(base: Path, keys: Keys) -> None:
    """Identity, state, counts and who can open it; damage to one copy is seen."""
    media.write_part(base, keys, [media.made_up(0)], seal=media.seal_table())
    info = read_public_header(base)
    assert info.header.core.recording_id == keys.recording_id
    assert info.header.state is State.SEALED
    assert [(slot.kind, slot.label) for slot in info.header.slots] == [(SlotKind.KEY_FILE, "test")]
    assert (info.size_bytes, info.well_formed) == (base.stat().st_size, (True, True))
    base.write_bytes(bytes(HEADER_BYTES) + base.read_bytes()[HEADER_BYTES:])
    assert read_public_header(base).well_formed == (False, True)
    base.write_bytes(b"no recording")
    with pytest.raises(Corrupt):
        read_public_header(base)


# --- parts that are missing or do not belong ------------------------------------------------------


def three_parts(base: Path, keys: Keys, *, last: bool = True) -> list[Path]:
    previous = bytes(32)
    for index in range(3):
        previous = media.write_part(
            base,
            keys,
            [media.made_up(index)],
            index=index,
            previous=previous,
            seal=media.seal_table(index + 1, last=last and index == 2),
        )
    return [part_path(base, index) for index in range(3)]


@pytest.mark.parametrize(("missing", "problem"), [(0, "Part 0"), (1, "Part 1"), (2, "Part 2")])
def test_a_missing_part_is_named(base: Path, keys: Keys, missing: int, problem: str) -> None:
    """First, middle or last: the others are read, and the recording is not complete."""
    parts = three_parts(base, keys)
    with RecordingReader.open(base, keys.secret) as recording:
        assert (recording.complete, recording.problems) == (True, ())
    parts.pop(missing).unlink()
    with RecordingReader.open(parts[0], keys.secret) as recording:
        assert not recording.complete
        assert problem in recording.problems[0]
        assert "missing" in recording.problems[0]
        assert [part.path for part in recording.parts] == parts
        assert len(list(recording.fragments())) == 2
        assert [box.kind for box in iterate_boxes(recording.read())].count(b"moov") == 1


def test_a_last_part_that_is_not_the_last_is_named(base: Path, keys: Keys) -> None:
    """Its seal says that another one follows."""
    three_parts(base, keys, last=False)
    with RecordingReader.open(base, keys.secret) as recording:
        assert recording.problems == ("Part 3 is missing: op.002.mp4.enc is not the last.",)


def test_a_seal_that_counts_other_parts_is_named(base: Path, keys: Keys) -> None:
    """The last part says how many there are."""
    media.write_part(base, keys, [], seal=media.seal_table(4))
    with RecordingReader.open(base, keys.secret) as recording:
        assert recording.problems == ("The seal counts 4 parts; 1 are here.",)


def test_a_part_of_another_recording_is_left_out(base: Path, keys: Keys) -> None:
    """The same key opens it, but it has another id: its pictures must not appear here."""
    parts = three_parts(base, keys)
    other = Keys(kek=keys.kek)
    three_parts(base.with_name("other.mp4.enc"), other)
    parts[1].write_bytes(base.with_name("other.001.mp4.enc").read_bytes())
    with RecordingReader.open(base, keys.secret) as recording:
        assert [part.part_index for part in recording.parts] == [0, 2]
        assert "another recording" in recording.problems[0]
        assert "Part 1 is missing." in recording.problems


def test_a_part_under_the_wrong_number_is_left_out(base: Path, keys: Keys) -> None:
    """Renaming parts does not reorder a recording."""
    parts = three_parts(base, keys)
    parts[2].write_bytes(parts[1].read_bytes())
    with RecordingReader.open(base, keys.secret) as recording:
        assert [part.part_index for part in recording.parts] == [0, 1]
        assert "says that it is part 1" in recording.problems[0]


def test_a_part_that_does_not_follow_its_predecessor_is_named(base: Path, keys: Keys) -> None:
    """A part made again for the same recording breaks the chain of commitments."""
    parts = three_parts(base, keys)
    parts[0].unlink()
    media.write_part(base, keys, [media.made_up(0)], seal=media.seal_table(1, last=False))
    with RecordingReader.open(base, keys.secret) as recording:
        assert recording.problems == ("op.001.mp4.enc does not follow op.mp4.enc.",)


def test_a_salvager_gets_the_parts_that_open(base: Path, keys: Keys) -> None:
    """One part's header is gone: an error, or on request the other parts and a problem."""
    parts = three_parts(base, keys)
    parts[1].write_bytes(bytes(20_000))
    with pytest.raises(Corrupt):
        RecordingReader.open(base, keys.secret)
    with RecordingReader.open(base, keys.secret, salvage=True) as recording:
        assert [part.part_index for part in recording.parts] == [0, 2]
        assert "op.001.mp4.enc does not open" in recording.problems[0]


def test_parts_with_another_picture_are_announced(base: Path, keys: Keys) -> None:
    """Their own init segment goes with their own fragments; the joined stream says it is mixed."""
    inits = [media.made_up_init(200), media.made_up_init(300)]
    first = media.write_part(
        base, keys, [media.made_up(0)], init=inits[0], seal=media.seal_table(1, last=False)
    )
    media.write_part(
        base,
        keys,
        [media.made_up(1)],
        index=1,
        previous=first,
        init=inits[1],
        seal=media.seal_table(2),
    )
    with RecordingReader.open(base, keys.secret) as recording:
        assert not recording.uniform
        assert recording.complete
        for number in (0, 1):
            assert recording.fragment_stream(number).startswith(inits[number])


def test_an_empty_part_between_others_does_no_harm(base: Path, keys: Keys) -> None:
    """An encoder that died before its first fragment leaves a part with nothing in it."""
    header = keys.header()
    with PartWriter.create(base, dek=keys.dek, header=header) as writer:
        first = writer.commitment
    media.write_part(
        base,
        keys,
        media.real(0, 2),
        index=1,
        previous=first,
        init=media.real_init(),
        seal=media.seal_table(2),
    )
    with RecordingReader.open(base, keys.secret) as recording:
        assert recording.complete
        assert [part.state for part in recording.parts] == ["incomplete", "sealed"]
        assert decoded(recording) == frames(0, 2 * FRAMES)


# --- what must be refused -------------------------------------------------------------------------


def read_through(path: Path, secret: Secret) -> None:
    with PartReader.open(path, secret) as part:
        part.check_all()


def read_all_tables(path: Path, secret: Secret) -> None:
    with PartReader.open(path, secret) as part:
        part.check_all()
        assert len(list(part.fragments())) == len(part.index)


def golden_secrets(golden: Golden) -> dict[SlotKind, Secret]:
    return {
        SlotKind.PASSWORD: PasswordSecret(golden.facts["password"]),
        SlotKind.KEY_FILE: KeyFileSecret(bytes.fromhex(golden.facts["key_file"])),
        SlotKind.PUBLIC_KEY: PrivateKeySecret(bytes.fromhex(golden.facts["private_key"])),
    }


@pytest.mark.parametrize("name", ["first", "second", "recovered", "other"])
def test_golden_files_are_read_for_ever(base: Path, golden: Golden, name: str) -> None:
    """Files written by the first version open with each kind of key and hold what they held."""
    base.write_bytes(getattr(golden, name))
    for secret in (
        *golden_secrets(golden).values(),
        DataKeySecret(bytes.fromhex(golden.facts[f"{name}_data_key"])),
    ):
        with PartReader.open(base, secret) as part:
            part.check_all()
            assert part.state == ("recovered" if name == "recovered" else "sealed")
            assert part.session is not None
            assert part.session.session == {"id": "golden"}
            digest = hashlib.sha256(part.read()).hexdigest()
            assert digest == golden.facts[f"{name}_plaintext_sha256"]


def test_golden_parts_are_one_recording(base: Path, golden: Golden) -> None:
    """Three parts chained by their commitments; behind a recovered last one no file can look."""
    for index, raw in enumerate((golden.first, golden.second, golden.recovered)):
        part_path(base, index).write_bytes(raw)
    secret = golden_secrets(golden)[SlotKind.KEY_FILE]
    with RecordingReader.open(base, secret) as recording:
        assert recording.problems == ()
        assert sum(len(f.table.frames) for f in recording.fragments()) == 2 * 9 + 8
        assert [loss.frames for f in recording.fragments() for loss in f.table.lost] == [2, 2]


@pytest.mark.parametrize("name", [*FILE_VECTORS, *RECOVERED_VECTORS])
def test_a_changed_file_is_refused(base: Path, golden: Golden, name: str) -> None:
    """Every case of the format's last section is Corrupt, and never read as another recording."""
    change = {**FILE_VECTORS, **RECOVERED_VECTORS}[name]
    raw = change(golden)
    assert raw not in (golden.first, golden.recovered)
    base.write_bytes(raw)
    with pytest.raises(Corrupt):
        read_through(base, golden_secrets(golden)[SlotKind.KEY_FILE])


@pytest.mark.parametrize("name", list(HEADER_VECTORS))
def test_a_changed_header_is_refused_in_a_whole_file(base: Path, golden: Golden, name: str) -> None:
    """In both copies it is refused for the key file as for a bare header; in one it opens."""
    vector, secret = HEADER_VECTORS[name], golden_secrets(golden)[SlotKind.KEY_FILE]
    base.write_bytes(
        vector.mutate(golden.first[: 2 * HEADER_BYTES]) + golden.first[2 * HEADER_BYTES :]
    )
    with pytest.raises(vector.expected[SlotKind.KEY_FILE]):
        read_through(base, secret)
    one = vector.mutate(golden.first[: 2 * HEADER_BYTES], (0,)) + golden.first[2 * HEADER_BYTES :]
    base.write_bytes(one)
    read_through(base, secret)


def test_a_wrong_key_or_password_is_refused(base: Path, golden: Golden) -> None:
    """WrongKey, whatever kind it is."""
    base.write_bytes(golden.first)
    for secret in (
        PasswordSecret("correct horse battery stapler"),
        KeyFileSecret(bytes(32)),
        PrivateKeySecret(bytes(range(32))),
    ):
        with pytest.raises(WrongKey):
            PartReader.open(base, secret)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_flipped_byte_is_found(
    tmp_path_factory: pytest.TempPathFactory, golden: Golden, data: st.DataObject
) -> None:
    """It is Corrupt or, within one header copy, harmless; it never changes what is read."""
    raw = bytearray(golden.first)
    at = data.draw(st.integers(0, len(raw) - 1) | st.integers(2 * HEADER_BYTES, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("f") / "op.mp4.enc"
    path.write_bytes(raw)
    try:
        with PartReader.open(path, golden_secrets(golden)[SlotKind.KEY_FILE]) as part:
            digest = hashlib.sha256(part.read()).hexdigest()
    except Corrupt:
        assert at >= 2 * HEADER_BYTES
    else:
        assert at < 2 * HEADER_BYTES
        assert digest == golden.facts["first_plaintext_sha256"]


# --- what a forger with the public key could make -------------------------------------------------


def forge(path: Path, keys: Keys, plain: bytes, *, seal_chunk: int) -> None:
    """A part of any plaintext under valid encryption and headers."""
    raw = keys.header()
    payload = PayloadWriter(keys.dek, raw[:128])
    stored = payload.update(plain) + payload.finalize()
    header = updated(
        Header.parse(raw),
        keys.dek,
        state=State.SEALED,
        chunk_count=payload.chunk_count,
        payload_bytes=len(plain),
        seal_chunk=seal_chunk,
    )
    path.write_bytes(header + header + payload.preamble + stored)


def padded(unit: bytes) -> bytes:
    return unit + padding_after(len(unit))


def event(scheme: str, data: bytes, pts: int = 0) -> bytes:
    return pack_event(EventMessage(scheme, pts, 0, 0, data))


INIT = padded(media.made_up_init() + event(SESSION_SCHEME, pack_session(SessionTable())))
PIECE = media.made_up(0)
FRAGMENT = padded(event(FRAGMENT_SCHEME, pack_fragment(PIECE.table)) + PIECE.media)
SEAL = SealTable(parts=1, last=True, index=(IndexRow(1, 0, FRAMES),))


def sealed_by(seal: SealTable, content: bytes = INIT + FRAGMENT) -> tuple[bytes, int]:
    return content + event(SEAL_SCHEME, pack_seal(seal)), len(content) // CHUNK


def huge(kind: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, kind, 2**62)


FORGED: dict[str, Callable[[], tuple[bytes, int]]] = {
    "seal-elsewhere": lambda: (sealed_by(SEAL)[0], 1),
    "seal-behind-the-end": lambda: (sealed_by(SEAL)[0], 2**32 - 1),
    "seal-not-at-the-end": lambda: (sealed_by(SEAL)[0] + b"\0\0\0\x08free", 2),
    "no-seal": lambda: (INIT + FRAGMENT + PIECE.media, 2),
    "nothing": lambda: (b"", 0),
    "index-backwards": lambda: sealed_by(
        replace(SEAL, index=(IndexRow(1, 0, 8), IndexRow(1, 0, 8)))
    ),
    "index-at-chunk-0": lambda: sealed_by(replace(SEAL, index=(IndexRow(0, 0, 8),))),
    "index-behind-the-seal": lambda: sealed_by(replace(SEAL, index=(IndexRow(2, 0, 8),))),
    "index-beyond-all": lambda: sealed_by(replace(SEAL, index=(IndexRow(2**63, 0, 8),))),
    "index-other-pts": lambda: sealed_by(replace(SEAL, index=(IndexRow(1, 1, 8),))),
    "index-other-samples": lambda: sealed_by(replace(SEAL, index=(IndexRow(1, 0, 7),))),
    "index-too-short": lambda: sealed_by(replace(SEAL, index=())),
    "index-skips-a-fragment": lambda: sealed_by(SEAL, INIT + FRAGMENT + FRAGMENT),
    "fragment-is-huge": lambda: sealed_by(SEAL, INIT + huge(b"emsg").ljust(CHUNK, b"\0")),
    "mdat-is-huge": lambda: sealed_by(
        SEAL,
        INIT
        + (event(FRAGMENT_SCHEME, pack_fragment(PIECE.table)) + huge(b"mdat")).ljust(CHUNK, b"\0"),
    ),
    "fragment-is-no-table": lambda: sealed_by(SEAL, INIT + padded(event(FRAGMENT_SCHEME, b"\xc1"))),
    "fragment-without-media": lambda: sealed_by(
        SEAL, INIT + padded(event(FRAGMENT_SCHEME, pack_fragment(PIECE.table)))
    ),
    "fragment-of-another-scheme": lambda: sealed_by(SEAL, INIT + padded(event("urn:other", b""))),
    "two-tables": lambda: sealed_by(SEAL, INIT + padded(event(FRAGMENT_SCHEME, b"\x80") * 2)),
    "no-init": lambda: sealed_by(SEAL, FRAGMENT + FRAGMENT),
    "padding-short-of-the-edge": lambda: sealed_by(
        SEAL,
        INIT + (event(FRAGMENT_SCHEME, b"\x80") + b"\0\0\0\x08free").ljust(CHUNK, b"\0"),
    ),
    "zeros": lambda: sealed_by(SEAL, INIT + bytes(CHUNK)),
}


@pytest.mark.parametrize("name", list(FORGED))
def test_a_forged_content_is_refused(base: Path, keys: Keys, name: str) -> None:
    """Whoever holds the public key can encrypt anything: it is still bounded and still Corrupt."""
    plain, seal_chunk = FORGED[name]()
    forge(base, keys, plain, seal_chunk=seal_chunk)
    with pytest.raises(Corrupt):
        read_all_tables(base, keys.secret)


@pytest.mark.parametrize(
    "name", ["index-backwards", "index-at-chunk-0", "index-behind-the-seal", "index-beyond-all"]
)
def test_an_index_that_cannot_be_is_refused_at_once(base: Path, keys: Keys, name: str) -> None:
    """Nobody needs to read a fragment to find out."""
    plain, seal_chunk = FORGED[name]()
    forge(base, keys, plain, seal_chunk=seal_chunk)
    with pytest.raises(Corrupt, match="index in the seal"):
        PartReader.open(base, keys.secret)


def test_a_seal_that_ends_at_an_edge_still_needs_its_final_chunk(base: Path, keys: Keys) -> None:
    """The final chunk is empty then: flipped or left out, the part is refused when it is opened."""
    short = sealed_by(SEAL)[0]
    missing = -len(short) % CHUNK - 2  # a longer text has a longer length field: 3 bytes, not 1
    plain, seal_chunk = sealed_by(replace(SEAL, audit_head="a" * missing))
    assert len(plain) % CHUNK == 0
    forge(base, keys, plain, seal_chunk=seal_chunk)
    raw = base.read_bytes()
    read_all_tables(base, keys.secret)
    base.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(Corrupt):
        PartReader.open(base, keys.secret)
    header = updated(Header.parse(raw[:HEADER_BYTES]), keys.dek, chunk_count=len(plain) // CHUNK)
    base.write_bytes(header + header + raw[2 * HEADER_BYTES : -16])
    with pytest.raises(Corrupt):
        PartReader.open(base, keys.secret)


def test_what_is_forged_here_is_else_well_made(base: Path, keys: Keys) -> None:
    """The same forger without a forgery is read: the cases above fail for their own reason."""
    plain, seal_chunk = sealed_by(SEAL)
    forge(base, keys, plain, seal_chunk=seal_chunk)
    with PartReader.open(base, keys.secret) as part:
        assert [fragment.table for fragment in part.fragments()] == [PIECE.table]
