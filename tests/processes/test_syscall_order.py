"""Power may fail between any two system calls; this is their order on real commands.

FORMAT.md, "Rules of writing" 1 to 5, "Recovery" and "Decisions": what is durable when the next
thing is written. A model of the page cache replays what strace saw of the part's file: a write
makes a region dirty, and only a sync that returns makes clean what was written before it began.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from engine.container.header import open_header, updated
from engine.container.recipients import DataKeySecret
from tests.contracts.independent_reader import Key, Part, open_part, read_part
from tests.processes.commands import sealrec
from tests.processes.tracing import Step, needs_strace, traced, tracing_prefix

pytestmark = needs_strace

KEK = bytes(range(32))
COPY = 4096
PAYLOAD = 8192
FIRST_CHUNK = 8248
CHUNK = 16_400
SYNCS = ("fsync", "fdatasync")
SIZE = ("--size", "160x120", "--fps", "30", "--frames", "75", "--hardware", "off")
# Opened for writing by every program that runs on Python or FFmpeg, and no place to leave anything.
HARMLESS = ("/dev/", "/proc/", "/sys/")


def region(step: Step) -> str:
    """What a write of the part's file changes: a header copy, both, or the payload."""
    offset, size = step.place
    if offset >= PAYLOAD:
        return "payload"
    assert offset + size <= PAYLOAD, "one write over a header and the payload"
    return {(0, COPY): "A", (COPY, COPY): "B", (0, 2 * COPY): "AB"}[offset, size]


@dataclass
class PageCache:
    """What would be lost if the power failed now, and the order of what happened.

    Attributes:
        dirty: Regions written and not durable.
        order: Every write, sync, cut and rename of the part's file, and syncs of its directory; a
            sync by the time it returned.
        both_dirty: Steps at which both header copies were dirty.
        early: Headers written while payload was dirty.
    """

    dirty: set[str] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    both_dirty: list[Step] = field(default_factory=list)
    early: list[Step] = field(default_factory=list)
    _pending: dict[int, set[str]] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        """Replay one step of the part's file."""
        if step.name == "pwrite64" and step.begins:
            written = region(step)
            if written != "payload" and "payload" in self.dirty:
                self.early.append(step)
            self.dirty.update(written if written != "payload" else {written})
            self.order.append(written)
            if {"A", "B"} <= self.dirty:
                self.both_dirty.append(step)
        elif step.name in SYNCS and step.begins:
            self._pending[step.pid] = set(self.dirty)
        elif step.name in SYNCS:
            assert step.code == 0
            self.dirty -= self._pending.pop(step.pid)
            self.order.append("sync")
        elif step.name == "ftruncate" and step.begins:
            self.dirty.add("size")
            self.order.append("cut")


@dataclass(frozen=True)
class Trace:
    """A traced command that has ended.

    Attributes:
        steps: All of them.
        path: The part's final name.
    """

    steps: list[Step]
    path: Path

    def of_part(self) -> Iterator[Step]:
        """Steps about the part's file, under either name."""
        names = {str(self.path), f"{self.path}.open"}
        yield from (step for step in self.steps if step.path in names)

    def cache(self) -> PageCache:
        """The page cache at the end of it."""
        cache = PageCache()
        for step in self.of_part():
            cache.take(step)
        return cache

    def index(self, condition: Callable[[Step], bool]) -> int:
        """Where the first such step is."""
        return next(at for at, step in enumerate(self.steps) if condition(step))


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key file whose key is known here."""
    path = tmp_path_factory.mktemp("keys") / "key"
    path.write_text(KEK.hex() + "\n")
    path.chmod(0o600)
    return path


def run(path: Path, log: Path, *arguments: str | Path) -> Trace:
    """Run a command under strace."""
    # A cache of bytecode is no file of ours.
    environment = {"PYTHONDONTWRITEBYTECODE": "1"}
    done = sealrec(*arguments, prefix=tracing_prefix(log), env=environment)
    assert done.code == 0, done.err
    return Trace(list(traced(log)), path)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, key_file: Path) -> Trace:
    """A real recording, traced with all its processes."""
    folder = tmp_path_factory.mktemp("recorded")
    path, log = folder / "out" / "x.mp4.enc", folder / "trace"
    return run(path, log, "record", path, "--json", "--key-file", key_file, *SIZE)


@pytest.fixture(scope="module")
def part(recorded: Trace) -> Part:
    """What the recording holds."""
    return read_part(recorded.path.read_bytes(), Key(2, KEK))


def is_write(step: Step) -> bool:
    """The beginning of a write at a place."""
    return step.name == "pwrite64" and step.begins


# --- recording --------------------------------------------------------------------------------


def test_a_part_is_created_for_its_owner_and_locked_before_anything_is_written(
    recorded: Trace,
) -> None:
    """O_CREAT with O_EXCL and mode 0600 under the name ``.open``, then the lock, then the bytes."""
    name = f"{recorded.path}.open"
    created = recorded.index(lambda s: name in s.paths and "O_CREAT" in s.arguments)
    assert "O_EXCL" in recorded.steps[created].arguments
    assert recorded.steps[created].arguments.endswith("0600")
    locked = recorded.index(lambda s: s.name == "flock" and s.path == name and s.code == 0)
    assert "LOCK_EX" in recorded.steps[locked].arguments
    written = recorded.index(lambda s: is_write(s) and s.path == name)
    assert created < locked < written
    assert recorded.path.stat().st_mode & 0o777 == 0o600


def test_the_headers_and_the_name_are_durable_before_the_payload(recorded: Trace) -> None:
    """Both headers, fsync of file and directory, then the preamble, durable before any chunk."""
    part_steps = [s for s in recorded.of_part() if s.name in ("pwrite64", *SYNCS)]
    assert region(part_steps[0]) == "AB"
    assert recorded.cache().order[:4] == ["AB", "sync", "payload", "sync"]
    assert [s.name for s in part_steps if not s.begins][1] == "fsync"
    preamble = recorded.index(lambda s: is_write(s) and s in part_steps and s.place[0] == PAYLOAD)
    assert recorded.steps[preamble].place == (PAYLOAD, FIRST_CHUNK - PAYLOAD)
    folder = recorded.index(
        lambda s: s.name == "fsync" and s.path == str(recorded.path.parent) and s.code == 0
    )
    assert folder < preamble


def test_a_checkpoint_follows_each_fragment(recorded: Trace, part: Part) -> None:
    """Per fragment: its chunks, a sync, one header copy in turn, a sync; nothing else between."""
    order = _without_repeats(recorded.cache().order[4:])
    units = len(part.fragments) + 1  # the init segment comes first
    assert len(part.fragments) >= 3
    expected = [s for n in range(units) for s in ("payload", "sync", "BA"[n % 2], "sync")]
    assert order[: len(expected)] == expected


def test_the_seal_is_written_copy_by_copy(recorded: Trace) -> None:
    """Final chunk, sync; one copy, sync; the other, sync: and those are the last writes."""
    assert recorded.cache().order[-6:] in (
        ["payload", "sync", "A", "sync", "B", "sync"],
        ["payload", "sync", "B", "sync", "A", "sync"],
    )


def test_never_are_both_headers_dirty(recorded: Trace) -> None:
    """After the first write, in which there is nothing to lose, one copy is always durable."""
    cache = recorded.cache()
    assert [region(step) for step in cache.both_dirty] == ["AB"]
    assert cache.dirty == set()


def test_a_header_never_counts_what_is_not_durable(recorded: Trace) -> None:
    """No header copy is written while payload is dirty."""
    assert recorded.cache().early == []


def test_no_payload_byte_is_written_twice(recorded: Trace) -> None:
    """The payload grows at its end alone, in whole chunks until the last one."""
    end = PAYLOAD
    writes = [s.place for s in recorded.of_part() if is_write(s) and region(s) == "payload"]
    for offset, size in writes:
        assert offset == end
        end += size
    assert end == recorded.path.stat().st_size
    assert writes[0] == (PAYLOAD, FIRST_CHUNK - PAYLOAD)
    assert all(size % CHUNK == 0 for _, size in writes[1:-1])


def test_the_name_comes_last(recorded: Trace) -> None:
    """A rename that replaces nothing, then the directory's fsync; no write follows."""
    renamed = recorded.index(
        lambda s: s.name.startswith("rename") and str(recorded.path) in s.paths
    )
    assert recorded.steps[renamed].paths == [f"{recorded.path}.open", str(recorded.path)]
    assert "RENAME_NOREPLACE" in recorded.steps[renamed].arguments
    later = recorded.steps[renamed + 1 :]
    names = {str(recorded.path), f"{recorded.path}.open"}
    assert not any(is_write(step) and step.path in names for step in later)
    assert any(s.name == "fsync" and s.path == str(recorded.path.parent) for s in later)


def test_nothing_else_is_written(recorded: Trace) -> None:
    """No process opens any other file for writing, wherever: no log, no cache, no temporary."""
    opened = [
        step.path
        for step in recorded.steps
        if step.name in ("openat", "creat") and step.begins and _writes(step.arguments)
    ]
    allowed = (f"{recorded.path}.open", f"{recorded.path}.reserve", f"{recorded.path.parent}/.")
    others = [path for path in opened if not path.startswith((*HARMLESS, *allowed))]
    assert others == []
    assert f"{recorded.path}.open" in opened
    assert sorted(p.name for p in recorded.path.parent.iterdir()) == [recorded.path.name]


def _writes(arguments: str) -> bool:
    return any(flag in arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TMPFILE"))


def _without_repeats(order: Sequence[str]) -> list[str]:
    """Several writes of one fragment's chunks count as one."""
    kept = [order[0]]
    kept += [now for before, now in pairwise(order) if now != before]
    return kept


# --- recovery and keys ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recovered(tmp_path_factory: pytest.TempPathFactory, recorded: Trace, key_file: Path) -> Trace:
    """The recovery of a part whose encoder died: its seal is missing, and a fragment is cut."""
    folder = tmp_path_factory.mktemp("recovered")
    raw = recorded.path.read_bytes()
    dek = open_part(raw, Key(2, KEK)).dek
    opened = open_header(raw[:COPY], raw[COPY : 2 * COPY], DataKeySecret(dek))
    chunks = opened.header.seal_chunk
    copy = updated(opened.header, dek, state=0, chunk_count=1, payload_bytes=16_384, seal_chunk=0)
    path = folder / "x.mp4.enc"
    cut = raw[2 * COPY : FIRST_CHUNK + chunks * CHUNK - 100]
    path.with_name("x.mp4.enc.open").write_bytes(copy + copy + cut)
    return run(path, folder / "trace", "recover", folder, "--key-file", key_file)


def test_recovery_makes_durable_what_it_will_count(recovered: Trace) -> None:
    """Sync; one copy, sync; the other, sync; only then the cut, and at last the name."""
    cache = recovered.cache()
    assert cache.order[0] == "sync"
    assert cache.order[1:5] in (["A", "sync", "B", "sync"], ["B", "sync", "A", "sync"])
    assert cache.order[5:] == ["cut", "sync"]
    assert cache.both_dirty == []
    assert cache.dirty == set()
    renamed = recovered.index(lambda s: s.name.startswith("rename"))
    cut = recovered.index(lambda s: s.name == "ftruncate")
    assert cut < renamed
    assert recovered.steps[renamed].paths[-1] == str(recovered.path)
    assert read_part(recovered.path.read_bytes(), Key(2, KEK)).state == "recovered"


def test_new_keys_are_written_copy_by_copy(tmp_path: Path, recorded: Trace, key_file: Path) -> None:
    """One header copy, durable, before the other is touched; the payload is not."""
    path, other = tmp_path / "x.mp4.enc", tmp_path / "other.key"
    path.write_bytes(recorded.path.read_bytes())
    other.write_text("ab" * 32 + "\n")
    other.chmod(0o600)
    keys = ("--key-file", key_file, "--new-key-file", other)
    cache = run(path, tmp_path / "trace", "keys", "rotate", path, *keys).cache()
    assert cache.order in (["A", "sync", "B", "sync"], ["B", "sync", "A", "sync"])
    assert cache.both_dirty == []
    assert cache.dirty == set()
    assert open_part(path.read_bytes(), Key(2, b"\xab" * 32)).state == "sealed"
