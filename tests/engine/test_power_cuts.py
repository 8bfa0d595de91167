"""Power cuts: from every state that one may leave, all that was durable comes back.

Recording, recovery and new keys run on a `SimulatedDisk`; thousands of the states that it can be in
when the power fails are sampled, and recovered. tests/processes/test_syscall_order.py holds the
same order of system calls on the real thing.
"""

from __future__ import annotations

import errno
import hashlib
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.container.names import part_path
from engine.container.payload import PAYLOAD_OFFSET
from engine.container.reader import PartReader
from engine.container.recipients import KeyFileRecipient, KeyFileSecret
from engine.container.recovery import PartReport, recover
from engine.container.rewrap import rotate
from engine.container.tables import SealTable, SessionTable
from engine.container.writer import PartWriter
from ipc import osdep
from ipc.errors import Corrupt, WrongKey
from tests.engine import media
from tests.engine.media import FRAMES, Keys
from tests.engine.simulated_disk import Files, SimulatedDisk, free_syncs

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="records POSIX calls")

NAME = "op.mp4.enc"
FRAGMENTS = 3
NEW = bytes(range(32))


@dataclass
class Tape:
    """Something that was done on a simulated disk.

    Attributes:
        disk: What it was asked.
        promises: By step: how many frames of which part were durable from then on.
    """

    disk: SimulatedDisk
    promises: list[tuple[int, Path, int]] = field(default_factory=list)

    def promise(self, path: Path, frames: int) -> None:
        """From now on these frames must come back."""
        self.promises.append((len(self.disk.steps), path, frames))

    def promised(self, moment: int) -> dict[str, int]:
        """Frames that must come back after a power cut, by name of the part."""
        return {path.name: frames for step, path, frames in self.promises if step <= moment}

    def states(self, seed: int, count: int) -> Iterator[tuple[int, Files]]:
        """Different states of all moments."""
        chance, seen = random.Random(seed), set()
        for moment in range(len(self.disk.steps) + 1):
            for files in self.disk.crashes(moment, chance, count):
                digest = _digest(files, str(self.promised(moment)))
                if digest not in seen:
                    seen.add(digest)
                    yield moment, files


def _digest(files: Files, more: str) -> bytes:
    found = hashlib.blake2b(more.encode())
    for name, (node, content) in sorted(files.items()):
        found.update(f"{name} {node} {len(content)} ".encode() + content)
    return found.digest()


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For one state after the other, where syncs cost nothing."""
    path = tmp_path / "after"
    path.mkdir()
    with free_syncs():
        yield path


def placed(folder: Path, files: Files) -> Path:
    """The folder with these files and no others."""
    for old in folder.iterdir():
        old.unlink()
    first: dict[int, Path] = {}
    for name, (node, content) in files.items():
        path = folder / name
        if node in first:
            path.hardlink_to(first[node])
            continue
        first[node] = path
        with path.open("wb") as file:
            if content.count(0) == len(content):  # a reserve
                file.truncate(len(content))
            else:
                file.write(content)
    return folder


Parts = dict[str, tuple[str, int]]
"""State and frames of each part, by name."""


def part_of(path: Path, keys: Keys) -> tuple[str, int]:
    """A part's state and frames; it is whole, in order, and both its headers are good."""
    with PartReader.open(path, keys.secret) as part:
        part.check_all()
        assert part.copies_valid == (True, True)
        numbers = [row.seq for fragment in part.fragments() for row in fragment.table.frames]
        assert numbers == list(range(len(numbers)))
        return part.state, len(numbers)


def check_recovered(folder: Path, keys: Keys, promised: dict[str, int]) -> Parts:
    """Recover; returns all parts, with the frames that were promised at least."""
    for report in recover(folder, keys.secret):
        assert report.error is None, report
        assert report.state != "deleted" or not promised.get(named(report), 0)
    assert recover(folder, keys.secret) == []
    left = sorted(folder.iterdir())
    assert all(path.name.endswith(".mp4.enc") for path in left), left
    found = {path.name: part_of(path, keys) for path in left}
    for name, frames in promised.items():
        assert name in found, f"{name} is gone"
        assert found[name][1] >= frames, f"{name} has {found[name][1]} of {frames} frames"
    return found


def named(report: PartReport) -> str:
    """The final name of the part that it is about."""
    return report.path.name.removesuffix(".open")


def record(tape: Tape, keys: Keys, base: Path, *, parts: int = 1, reserve: bool = True) -> None:
    """A short recording; what is returned for is promised."""
    previous = bytes(32)
    for index in range(parts):
        path = part_path(base, index)
        header = keys.header(index, previous)
        part = PartWriter.create(path, dek=keys.dek, header=header, reserve=reserve)
        tape.promise(path, 0)  # the next part may name its commitment
        previous = part.commitment
        part.write_init(media.made_up_init(), SessionTable())
        for number in range(FRAGMENTS):
            piece = media.made_up(number, 20_000 + 17_000 * number)
            part.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)
            tape.promise(path, (number + 1) * FRAMES)
        part.seal(SealTable(parts=index + 1, last=index == parts - 1))


def made(folder: Path) -> Path:
    """A new folder."""
    folder.mkdir()
    return folder


@pytest.fixture(scope="module", params=["rename", "link"])
def recorded(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, keys: Keys
) -> Tape:
    """A recording of two parts, on a file system with renameat2 or without."""
    base = tmp_path_factory.mktemp("recorded") / NAME
    tape = Tape(SimulatedDisk(base.parent))
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "link":
            patch.setattr(osdep, "_rename_no_replace", lambda *_: errno.ENOSYS)
        with tape.disk.recording():
            record(tape, keys, base, parts=2)
    kinds = {step.kind for step in tape.disk.steps}
    assert kinds >= {"write", "grow", "cut", "sync", "names", "link", "unlink"}
    assert ("rename" in kinds) == (request.param == "rename")
    # The disk remembers what really happened.
    [everything] = tape.disk.crashes(len(tape.disk.steps), random.Random(0), 1)
    assert contents_of(everything) == {
        path.name: path.read_bytes() for path in base.parent.iterdir()
    }
    return tape


def test_a_power_cut_while_recording_keeps_every_durable_fragment(
    folder: Path, keys: Keys, recorded: Tape
) -> None:
    """At each of its requests, whatever of the unsynced ones the disk has taken, torn anywhere."""
    count, ends = 0, set()
    mixtures = 150 if any(step.kind == "rename" for step in recorded.disk.steps) else 20
    for moment, files in recorded.states(seed=1, count=mixtures):
        found = check_recovered(placed(folder, files), keys, recorded.promised(moment))
        ends |= {(name, frames) for name, (_, frames) in found.items()}
        count += 1
    assert count > 8 * mixtures
    # Nothing, a part without a frame, each number of fragments, both parts whole.
    second = part_path(Path(NAME), 1).name
    assert {(n, k * FRAMES) for n in (NAME, second) for k in range(FRAGMENTS + 1)} <= ends


def test_a_power_cut_while_recovering_keeps_the_same(
    tmp_path: Path, folder: Path, keys: Keys, recorded: Tape
) -> None:
    """Recovery of many a state, cut off at each of its own requests and run again."""
    chance = random.Random(2)
    states = list(recorded.states(seed=3, count=3))
    count = 0
    for number, (moment, files) in enumerate(chance.sample(states, 60)):
        here = placed(made(tmp_path / str(number)), files)
        tape = Tape(SimulatedDisk(here))
        with tape.disk.recording():
            whole = check_recovered(here, keys, recorded.promised(moment))
        frames = {name: kept for name, (_, kept) in whole.items()}
        for _, crashed in tape.states(seed=number, count=8):
            assert check_recovered(placed(folder, crashed), keys, frames) == whole
            count += 1
    assert count > 400


def test_a_power_cut_while_keys_change_leaves_parts_that_open(
    tmp_path: Path, folder: Path, keys: Keys
) -> None:
    """By the old or the new key, never by none; the same again completes it; no frame is lost."""
    here = made(tmp_path / "keys")
    record(Tape(SimulatedDisk(here)), keys, here / NAME, parts=3, reserve=False)
    paths = sorted(here.iterdir())
    parts = check_recovered(here, keys, {})
    tape = Tape(SimulatedDisk(here))
    with tape.disk.recording():
        rotate(paths, keys.secret, KeyFileRecipient(NEW, "new"))
    secrets = {"old": keys.secret, "new": KeyFileSecret(NEW)}
    count, seen = 0, set()
    for _, files in tape.states(seed=4, count=400):
        placed(folder, files)
        now = [folder / path.name for path in paths]
        able = [[key for key, secret in secrets.items() if opens(path, secret)] for path in now]
        assert all(len(found) == 1 for found in able)  # a key that was taken off is off
        seen.add("".join(key for [key] in able))
        again = secrets["old" if ["old"] in able else "new"]
        before = [path.read_bytes()[PAYLOAD_OFFSET:] for path in now]
        rotate(now, again, KeyFileRecipient(NEW, "new"))
        assert [path.read_bytes()[PAYLOAD_OFFSET:] for path in now] == before
        assert not any(opens(path, secrets["old"]) for path in now)
        assert check_recovered(folder, Keys(keys.dek, NEW, keys.recording_id), {}) == parts
        count += 1
    assert seen == {"oldoldold", "newoldold", "newnewold", "newnewnew"}
    assert count > 200


def opens(path: Path, secret: KeyFileSecret) -> bool:
    """Whether a key opens a part; Corrupt if a torn copy says that it will, see FORMAT.md."""
    try:
        PartReader.open(path, secret).close()
    except (WrongKey, Corrupt):
        return False
    return True


# --- the disk itself ------------------------------------------------------------------------------


def test_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    """A fault layer that loses too little would prove nothing: each kind of loss happens."""
    disk = SimulatedDisk(tmp_path)
    with disk.recording():
        fd = osdep.create_private(tmp_path / "a")
        osdep.write_at(fd, b"old" * 3000, 0)
        osdep.sync_data(fd)
        osdep.sync_directory(tmp_path)
        durable = len(disk.steps)
        osdep.write_at(fd, b"new" * 3000, 0)
        osdep.write_at(fd, b"more", 20_000)
        osdep.rename_new(tmp_path / "a", tmp_path / "b")
        os.close(fd)
    [durable_only] = disk.crashes(durable, random.Random(1), 5)
    assert contents_of(durable_only) == {"a": b"old" * 3000}
    assert next(disk.crashes(0, random.Random(1), 5)) == {}
    states = [contents_of(files) for files in disk.crashes(len(disk.steps), random.Random(1), 200)]
    contents = [content for files in states for content in files.values()]
    assert {name for files in states for name in files} == {"a", "b"}
    assert {"b": b"old" * 3000} in states  # the rename before the data
    assert any(c.startswith(b"old") and c.endswith(b"more") for c in contents)  # reordered
    assert any(c.startswith(b"newnew") and b"old" in c for c in contents)  # torn
    assert any(c.endswith(bytes(5) + b"e") for c in contents)  # a length without its data


def contents_of(files: Files) -> dict[str, bytes]:
    """Content by name."""
    return {name: content for name, (_, content) in files.items()}
