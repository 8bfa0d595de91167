"""The supervisor's parts: a chain of names and headers, and the ends of dead encoders' parts."""

from __future__ import annotations

import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine import parts as module
from engine.config import parse_config
from engine.container.header import open_header
from engine.container.names import open_path, reserve_path
from engine.container.part import PartReader
from engine.container.recipients import DataKeySecret
from engine.container.tables import SessionTable
from engine.container.writer import PartWriter
from engine.keys import new_key_file, secret_from
from engine.parts import Part, PartRecovered, Parts
from ipc.errors import ConfigError, KeyFileError
from ipc.frame import Loss, LossClass
from tests.engine import media
from tests.engine.media import FRAMES

AWAIT_S = 20
GAP = Loss(LossClass.CAMERA_GAP, 0, 500, 503, 1, 2)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key file."""
    path = tmp_path / "a.key"
    new_key_file(path)
    return path


def parts_of(folder: Path, key_file: Path, **changes: Any) -> Parts:
    """Parts of a recording that may begin."""
    keys = [{"kind": "key_file", "value": str(key_file)}]
    fields = {"output": str(folder / "x.mp4.enc"), "keys": keys, **changes}
    return Parts(parse_config(fields))


@pytest.fixture
def parts(tmp_path: Path, key_file: Path) -> Parts:
    """Parts of a recording that may begin."""
    return parts_of(tmp_path, key_file)


def encode(parts: Parts, part: Part, header: bytes, *, first: int, fragments: int) -> PartWriter:
    """What an encoder does: open the part, write fragments, say so."""
    writer = PartWriter.create(part.path, dek=parts.dek, header=header)
    parts.opened("made up", hardware=False)
    writer.write_init(media.made_up_init(), SessionTable())
    for number in range(first, first + fragments):
        made = media.made_up(number)
        table = replace(made.table, lost=(GAP,)) if number == first else made.table
        writer.append(table, made.media, pts=made.pts, duration=made.duration)
    return writer


def retired(parts: Parts) -> PartRecovered | None:
    """Retire the current part and wait for the outcome; None if there is nothing to wait for."""
    posted: queue.Queue[PartRecovered] = queue.Queue()
    parts.retire(posted.put)
    if not parts.recovering:
        return None
    item = posted.get(timeout=AWAIT_S)
    parts.recovered(item)
    return item


def test_headers_are_chained_and_open_with_the_key(parts: Parts, key_file: Path) -> None:
    """Each part names the one before by its commitment, under one data key and recording id."""
    commitments = [bytes(32)]
    for index in range(3):
        part, header = parts.begin()
        opened = open_header(header, header, secret_from(key_file=key_file))
        core = opened.header.core
        assert (part.index, core.part_index) == (index, index)
        assert core.recording_id == parts.recording_id
        assert core.previous_part == commitments[-1]
        assert opened.dek == parts.dek
        with encode(parts, part, header, first=index, fragments=1) as writer:
            commitments.append(writer.commitment)
            writer.seal(media.seal_table(index + 1))
        part.state = "sealed"
        part.path.rename(part.path.with_suffix(".moved"))  # whatever becomes of the file
    assert len(set(commitments)) == 4


def test_a_dead_part_is_closed_and_counted_from_its_own_tables(parts: Parts) -> None:
    """Whatever its encoder could still say, the file tells what it holds."""
    part, header = parts.begin()
    encode(parts, part, header, first=0, fragments=3).abandon()
    item = retired(parts)
    assert item is not None
    assert (item.state, item.error, part.state) == ("recovered", "", "recovered")
    totals = item.ledger.totals()
    assert (totals["written"], totals["camera_gap"]) == (3 * FRAMES, 4)
    assert part.end_pts == 3 * FRAMES * media.PERIOD
    assert part.file_bytes == part.path.stat().st_size
    assert parts.recovering == 0
    assert parts.existing_paths() == [part.path]
    successor, header = parts.begin()
    assert successor.index == 1
    core = open_header(header, header, DataKeySecret(parts.dek)).header.core
    assert core.previous_part == part.commitment != bytes(32)


def test_a_part_that_died_before_its_preamble_is_forgotten(parts: Parts) -> None:
    """Its index is used again, and no file of it stays."""
    part, header = parts.begin()
    open_path(part.path).write_bytes(header + header)
    reserve_path(part.path).write_bytes(b"")
    assert retired(parts) is None
    assert len(parts) == 0
    assert not open_path(part.path).exists()
    assert not reserve_path(part.path).exists()
    again, _ = parts.begin()
    assert (again.index, again.path) == (0, part.path)


def test_a_part_whose_encoder_never_came_is_forgotten(parts: Parts) -> None:
    """There is no file at all."""
    parts.begin()
    assert retired(parts) is None
    assert parts.current is None
    assert retired(parts) is None


def test_a_part_that_died_before_its_first_unit(parts: Parts) -> None:
    """The preamble makes it a part; it is closed and holds nothing."""
    part, header = parts.begin()
    PartWriter.create(part.path, dek=parts.dek, header=header).abandon()
    item = retired(parts)
    assert item is not None
    assert (item.state, item.error) == ("recovered", "")
    assert sum(item.ledger.totals().values()) == 0
    assert parts.begin()[0].index == 1


def test_a_part_sealed_by_an_encoder_that_died_then_is_counted(parts: Parts) -> None:
    """Its last words may be missing: the tables are read, those of the seal too."""
    part, header = parts.begin()
    assert not parts.was_sealed()
    writer = encode(parts, part, header, first=0, fragments=2)
    assert not parts.was_sealed()
    late = replace(GAP, first_id=700, last_id=700)
    writer.seal(replace(media.seal_table(), lost=(late,)))
    assert parts.was_sealed()
    assert part.state == "sealed"
    assert not parts.was_sealed()  # known by now
    posted: queue.Queue[PartRecovered] = queue.Queue()
    parts.recount(posted.put)
    item = posted.get(timeout=AWAIT_S)
    parts.recovered(item)
    assert (item.state, part.state) == ("sealed", "sealed")
    totals = item.ledger.totals()
    assert (totals["written"], totals["camera_gap"]) == (2 * FRAMES, 5)
    assert retired(parts) is None  # nothing is left to close
    assert parts.existing_paths() == [part.path]


def test_a_seal_without_its_name_is_finished(parts: Parts) -> None:
    """Killed between the seal and the rename: it is sealed, and its seal's losses are counted."""
    part, header = parts.begin()
    writer = encode(parts, part, header, first=0, fragments=1)
    writer.seal(replace(media.seal_table(), lost=(replace(GAP, first_id=700, last_id=700),)))
    part.path.rename(open_path(part.path))
    item = retired(parts)
    assert item is not None
    assert (item.state, part.state) == ("sealed", "sealed")
    assert item.ledger.totals()["camera_gap"] == 5
    assert part.path.exists()


def test_a_part_that_cannot_be_closed_stays_and_says_why(parts: Parts) -> None:
    """Something damaged what was durable: nothing is touched, the name stays ``.open``."""
    part, header = parts.begin()
    encode(parts, part, header, first=0, fragments=2).abandon()
    path = open_path(part.path)
    data = bytearray(path.read_bytes())
    data[8192 + 56 + 100] ^= 1
    path.write_bytes(data)
    item = retired(parts)
    assert item is not None
    assert item.state == part.state == "incomplete"
    assert item.error
    assert path.read_bytes() == data
    assert parts.existing_paths() == [path]


def test_a_part_that_stays_locked_is_in_use(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that lives after all keeps its part."""
    monkeypatch.setattr(module, "IN_USE_S", 0.1)
    part, header = parts.begin()
    with encode(parts, part, header, first=0, fragments=1):
        item = retired(parts)
        assert item is not None
        assert item.state == "incomplete"
        assert "is being written" in item.error


def test_a_recording_that_never_began_leaves_nothing(parts: Parts, tmp_path: Path) -> None:
    """Open parts and reserves go; other files stay."""
    before = set(tmp_path.iterdir())
    part, header = parts.begin()
    encode(parts, part, header, first=0, fragments=1).abandon()
    parts.discard()
    assert set(tmp_path.iterdir()) == before
    assert parts.existing_paths() == []


def test_keys_are_forgotten(parts: Parts) -> None:
    """After the end nothing here opens the recording."""
    dek = parts.dek
    parts.forget_keys()
    shown = {name: value for name, value in vars(parts).items() if name != "base"}
    assert dek not in shown.values()
    assert not parts._recipients


@pytest.mark.parametrize("next_free_name", [False, True])
def test_a_taken_name(tmp_path: Path, key_file: Path, next_free_name: bool) -> None:
    """Refused, or passed over for the next free one."""
    (tmp_path / "x.mp4.enc").write_bytes(b"somebody's")
    if not next_free_name:
        with pytest.raises(ConfigError):
            parts_of(tmp_path, key_file)
        return
    parts = parts_of(tmp_path, key_file, next_free_name=True)
    assert parts.base == tmp_path / "x-2.mp4.enc"


@pytest.mark.parametrize(
    "output",
    ["a.key/x.mp4.enc", "/dev/null/x/y.mp4.enc", "z" * 250 + ".mp4.enc", "/proc/x.mp4.enc"],
)
def test_a_place_that_cannot_be_written(tmp_path: Path, key_file: Path, output: str) -> None:
    """Refused before anything is started, whatever the system says of it."""
    with pytest.raises(ConfigError):
        parts_of(tmp_path, key_file, output=str(tmp_path / output))
    assert [path.name for path in tmp_path.iterdir()] == ["a.key"]


def test_a_missing_directory_is_made_for_its_owner_alone(tmp_path: Path, key_file: Path) -> None:
    """What a treatment is about concerns its owner."""
    parts = parts_of(tmp_path, key_file, output=str(tmp_path / "new" / "x.mp4.enc"))
    assert parts.base.parent.stat().st_mode & 0o077 == 0
    assert list(parts.base.parent.iterdir()) == []


def test_keys_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """Before a directory is made for a recording that cannot be."""
    with pytest.raises(KeyFileError):
        parts_of(tmp_path / "new", tmp_path / "missing.key")
    assert not (tmp_path / "new").exists()


def test_too_many_parts_are_an_error_and_not_the_end(parts: Parts) -> None:
    """The thousand-and-first part is refused; the list is as it was."""
    part, header = parts.begin()
    encode(parts, part, header, first=0, fragments=1).abandon()
    retired(parts)
    part.index = 999
    with pytest.raises(ConfigError):
        parts.begin()
    assert len(parts) == 1
    with PartReader.open(part.path, DataKeySecret(parts.dek)) as reader:
        assert reader.state == "recovered"
