"""A disk that remembers what it was asked, and shows what a power cut could have left of it.

While it records, everything that this process asks of the system about the files of one folder is
done for real, and noted: contents, lengths, names, syncs of files and of the folder. Nothing is
durable that was not synced. Of what was written to a file since its last sync any bytes may be
there or not, in any order; its length may come without its data; a name that was made, changed or
removed may be there or not until the folder is synced, whatever became of the file's content.

That is more than any file system does to a program, so what survives here survives everywhere.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ipc import osdep

__all__ = ["Files", "SimulatedDisk", "free_syncs"]

Files = dict[str, tuple[int, bytes]]
"""What a folder holds: which file, and its content, by name. Two names may be one file."""

Pieces = Callable[[bytes], list[tuple[int, int]]]
"""Which pieces of a write reached the disk: (from, to)."""

SECTOR, PAGE = 512, 4096
MANY = 5
CONTENT = ("write", "grow", "cut")


@dataclass(frozen=True, slots=True)
class Step:
    """One request that was granted.

    Attributes:
        kind: ``write``, ``grow``, ``cut`` or ``sync`` of a file; ``link``, ``unlink``, ``rename``
            or ``names`` (a sync) of the folder.
        node: Which file, whatever it is called.
        at: Place of a write; the new length of a cut or growth.
        data: What was written.
        name: What is linked, unlinked or renamed.
        new: Its new name.
    """

    kind: str
    node: int = -1
    at: int = 0
    data: bytes = b""
    name: str = ""
    new: str = ""


@dataclass
class _Node:
    """A file: what is durable of it, and what was asked since."""

    image: bytes = b""
    pending: list[Step] = field(default_factory=list)


class SimulatedDisk:
    """Records what is done in one folder.

    Args:
        folder: What lies in it at first is durable.

    Attributes:
        steps: All requests, in order.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps: list[Step] = []
        here = sorted(folder.iterdir())
        inodes = list(dict.fromkeys(path.stat().st_ino for path in here))
        self._named = {path.name: inodes.index(path.stat().st_ino) for path in here}
        self._start = {self._named[path.name]: path.read_bytes() for path in here}
        self._names = dict(self._named)
        self._count = len(inodes)
        self._files: dict[int, int] = {}
        self._folders: set[int] = set()

    # --- recording --------------------------------------------------------------------------------

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Note everything until the end of the block."""
        notes: dict[str, Callable[..., None]] = {
            "open": self._opened,
            "close": self._closed,
            "pwrite": self._wrote,
            "ftruncate": self._cut,
            "posix_fallocate": self._grew,
            "fsync": self._synced,
            "fdatasync": self._synced,
            "link": self._linked,
            "unlink": self._unlinked,
            "rename": self._renamed,
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, note in notes.items():
                patch.setattr(os, name, _noting(getattr(os, name), note))
            exclusive = _noting(osdep._rename_no_replace, self._renamed_exclusively)
            patch.setattr(osdep, "_rename_no_replace", exclusive)
            yield

    def _name(self, path: Any) -> str | None:
        found = Path(os.fsdecode(path))
        return found.name if found.parent == self.folder else None

    def _opened(self, fd: int, path: Any, flags: int, *_: Any, **__: Any) -> None:
        if Path(os.fsdecode(path)) == self.folder:
            self._folders.add(fd)
        elif (name := self._name(path)) is not None:
            if name not in self._named:
                assert flags & os.O_CREAT
                self._named[name] = self._count
                self._count += 1
                self._note("link", node=self._named[name], name=name)
            self._files[fd] = self._named[name]

    def _closed(self, _: None, fd: int) -> None:
        self._files.pop(fd, None)
        self._folders.discard(fd)

    def _wrote(self, size: int, fd: int, data: Any, offset: int) -> None:
        if fd in self._files:
            self._note("write", node=self._files[fd], at=offset, data=bytes(data[:size]))

    def _cut(self, _: None, fd: int, size: int) -> None:
        if fd in self._files:
            self._note("cut", node=self._files[fd], at=size)

    def _grew(self, _: None, fd: int, offset: int, size: int) -> None:
        if fd in self._files:
            self._note("grow", node=self._files[fd], at=offset + size)

    def _synced(self, _: None, fd: int) -> None:
        if fd in self._folders:
            self._note("names")
        elif fd in self._files:
            self._note("sync", node=self._files[fd])

    def _linked(self, _: None, old: Any, new: Any, **__: Any) -> None:
        if (name := self._name(new)) is not None:
            node = self._named[name] = self._named[str(self._name(old))]
            self._note("link", node=node, name=name)

    def _unlinked(self, _: None, path: Any) -> None:
        if (name := self._name(path)) is not None:
            self._note("unlink", node=self._named.pop(name), name=name)

    def _renamed(self, _: None, old: Any, new: Any) -> None:
        if (name := self._name(old)) is not None:
            node, now = self._named.pop(name), str(self._name(new))
            self._named[now] = node
            self._note("rename", node=node, name=name, new=now)

    def _renamed_exclusively(self, code: int, old: bytes, new: bytes) -> None:
        if code == 0:
            self._renamed(None, old, new)

    def _note(self, kind: str, **fields: Any) -> None:
        self.steps.append(Step(kind, **fields))

    # --- power cuts -------------------------------------------------------------------------------

    def crashes(self, moment: int, chance: random.Random, count: int) -> Iterator[Files]:
        """What a power cut after so many steps can leave.

        Each selection of the names' changes with nothing and everything of the contents, then
        ``count`` mixtures. Without anything to lose there is one state.
        """
        nodes, names, changes = self._durable(moment)
        nodes = {n: nodes[n] for n in {*names.values(), *(step.node for step in changes)}}
        pending = any(node.pending for node in nodes.values())
        assert len(changes) <= MANY, "too many names at once for this model"
        for chosen in itertools.product((False, True), repeat=len(changes)):
            some = _renamed_all(names, list(itertools.compress(changes, chosen)))
            yield _state(nodes, some, _nothing)
            if pending:
                yield _state(nodes, some, _everything)
        if not pending:
            return
        for _ in range(count):
            some = [change for change in changes if chance.random() < 0.5]
            torn = chance.choice((_torn_at_a_byte, _by_sectors, _by_pages, _length_alone))
            yield _state(nodes, _renamed_all(names, some), torn(chance), chance)

    def _durable(self, moment: int) -> tuple[dict[int, _Node], dict[str, int], list[Step]]:
        """Files as they are durable with what is pending, durable names, and pending changes."""
        nodes = {node: _Node(image) for node, image in self._start.items()}
        names = dict(self._names)
        changes: list[Step] = []
        for step in self.steps[:moment]:
            node = nodes.setdefault(step.node, _Node())
            if step.kind in CONTENT:
                node.pending.append(step)
            elif step.kind == "sync":
                node.image, node.pending = _after(node, _everything), []
            elif step.kind == "names":
                names, changes = _renamed_all(names, changes), []
            else:
                changes.append(step)
        return nodes, names, changes


def _noting(call: Callable[..., Any], note: Callable[..., None]) -> Callable[..., Any]:
    def noted(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        note(result, *arguments, **options)
        return result

    return noted


def _state(
    nodes: dict[int, _Node],
    names: dict[str, int],
    pieces: Pieces,
    chance: random.Random | None = None,
) -> Files:
    content = {node: _after(nodes[node], pieces, chance) for node in sorted({*names.values()})}
    return {name: (node, content[node]) for name, node in names.items()}


def _renamed_all(names: dict[str, int], changes: list[Step]) -> dict[str, int]:
    """The names after some of the changes; one that has nothing to work on does nothing."""
    found = dict(names)
    for step in changes:
        if step.kind == "link":
            found[step.name] = step.node
        elif step.kind == "unlink":
            found.pop(step.name, None)
        else:
            found.pop(step.name, None)
            found[step.new] = step.node
    return found


def _after(node: _Node, pieces: Pieces, chance: random.Random | None = None) -> bytes:
    """A file's content when of each pending write these pieces have reached the disk."""
    content = bytearray(node.image)
    for step in node.pending:
        if step.kind == "write":
            for first, end in pieces(step.data):
                content.extend(bytes(max(0, step.at + end - len(content))))
                content[step.at + first : step.at + end] = step.data[first:end]
            continue
        if (chance is not None and chance.random() < 0.5) or pieces is _nothing:
            continue
        if step.kind == "cut":
            del content[step.at :]
        content.extend(bytes(max(0, step.at - len(content))))
    return bytes(content)


# --- what may reach the disk of one write -------------------------------------------------------


def _nothing(data: bytes) -> list[tuple[int, int]]:
    return []


def _everything(data: bytes) -> list[tuple[int, int]]:
    return [(0, len(data))]


def _torn_at_a_byte(chance: random.Random) -> Pieces:
    """Up to any byte, or from it on; some writes whole and some not at all."""

    def pieces(data: bytes) -> list[tuple[int, int]]:
        # A header is zeros for the most part; a place among them would be the same as any other.
        at = chance.choice([at for at, byte in enumerate(data) if byte] or [0])
        return [chance.choice(((0, at), (at, len(data)), (0, len(data)), (0, 0)))]

    return pieces


def _in_blocks(chance: random.Random, size: int) -> Pieces:
    def pieces(data: bytes) -> list[tuple[int, int]]:
        starts = range(0, len(data), size)
        return [(at, min(at + size, len(data))) for at in starts if chance.random() < 0.5]

    return pieces


def _by_sectors(chance: random.Random) -> Pieces:
    return _in_blocks(chance, SECTOR)


def _by_pages(chance: random.Random) -> Pieces:
    return _in_blocks(chance, PAGE)


def _length_alone(chance: random.Random) -> Pieces:
    """The last byte and little before it: what is missing reads as zeros."""

    def pieces(data: bytes) -> list[tuple[int, int]]:
        at = chance.randint(0, len(data))
        return [(0, at), (len(data) - 1, len(data))] if chance.random() < 0.7 else []

    return pieces


@contextmanager
def free_syncs() -> Iterator[None]:
    """Let syncs return at once: for thousands of states that nobody needs to be durable."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fsync", "fdatasync"):
            patch.setattr(os, name, lambda fd: None)
        yield
