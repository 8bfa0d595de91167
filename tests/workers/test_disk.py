"""The writer thread: what it reports is durable, what no file can hold is named; on real files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.container.names import open_path, part_path, reserve_path
from engine.container.part import PartReader
from engine.container.recovery import recover_part
from engine.container.tables import FragmentTable, SealTable, SessionTable
from engine.container.writer import Checkpoint
from engine.ledger import Ledger, WrittenRun, written_runs
from ipc.errors import DiskError, SealrecError, WorkerFailed
from ipc.frame import Loss, LossClass
from tests.engine import media
from tests.engine.media import FRAMES, Keys
from workers import disk
from workers.disk import Covers, DiskThread, PartPlan, Piece, SealedPart

AWAIT_S = 30.0
GAP = Loss(LossClass.CAMERA_GAP, 0, 500, 503, 1, 2)


@dataclass(frozen=True, slots=True)
class Created:
    """The part is there."""

    index: int
    commitment: bytes


@dataclass(frozen=True, slots=True)
class Durable:
    """A fragment is durable."""

    index: int
    piece: Piece
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class Sealed:
    """A part is sealed."""

    index: int
    part: SealedPart


@dataclass(frozen=True, slots=True)
class Failed:
    """A part takes no more."""

    index: int
    error: SealrecError
    sealed: bool


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames that are in no file."""

    index: int
    losses: tuple[Loss, ...]


class Account:
    """Listens as the encoder's reports do, and keeps the ledger as the supervisor does."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.ledger = Ledger()
        self.gate = threading.Event()
        self.gate.set()

    def part_created(self, plan: PartPlan, commitment: bytes) -> None:
        self.told.append(Created(plan.index, commitment))

    def piece_durable(self, plan: PartPlan, piece: Piece, checkpoint: Checkpoint) -> None:
        assert self.gate.wait(AWAIT_S)
        for run in written_runs(piece.table.frames):
            self.ledger.add_written(run)
        self._lose(piece.table.lost)
        self.told.append(Durable(plan.index, piece, checkpoint))

    def part_sealed(self, plan: PartPlan, sealed: SealedPart) -> None:
        self._lose(sealed.lost)
        self.told.append(Sealed(plan.index, sealed))

    def part_failed(self, plan: PartPlan, error: SealrecError, *, sealed: bool) -> None:
        self.told.append(Failed(plan.index, error, sealed))

    def pieces_lost(self, plan: PartPlan, losses: Sequence[Loss]) -> None:
        self._lose(losses)
        self.told.append(Lost(plan.index, tuple(losses)))

    def _lose(self, losses: Sequence[Loss]) -> None:
        for loss in losses:
            self.ledger.add_lost(loss)

    def all(self, kind: type) -> list:  # type: ignore[type-arg]
        """What was told of one kind."""
        return [one for one in list(self.told) if isinstance(one, kind)]


@contextmanager
def writing() -> Iterator[tuple[DiskThread, Account]]:
    """A thread and its listener; it leaves at the end."""
    account = Account()
    thread = DiskThread(account)
    try:
        yield thread, account
    finally:
        account.gate.set()
        thread.leave(AWAIT_S)
        assert not thread._thread.is_alive()


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fails if it never comes."""
    deadline = time.monotonic() + AWAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def plan(base: Path, keys: Keys, index: int = 0, previous: Ledger | None = None) -> PartPlan:
    """A part to be created."""
    return PartPlan(
        index=index,
        path=part_path(base, index),
        header=keys.header(index, bytes([index]) * 32),
        dek=keys.dek,
        init_segment=media.made_up_init(),
        encoder="made up",
        hardware=False,
        settings={},
        session=SessionTable(software="test"),
        previous=previous or Ledger(),
    )


def piece(number: int, size_bytes: int = 400, lost: tuple[Loss, ...] = ()) -> Piece:
    """A fragment of eight frames: sequence numbers and ids follow the number."""
    made = media.made_up(number, size_bytes)
    table = replace(made.table, lost=lost)
    committed = (number + 1) * FRAMES
    return Piece(table, made.media, made.pts, made.duration, committed, loss_cursor=number)


def seal(*lost: Loss, last: bool = True) -> SealTable:
    """A seal table."""
    return SealTable(parts=1, last=last, lost=tuple(lost))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Where the recording goes."""
    return tmp_path / "x.mp4.enc"


@pytest.fixture
def keys() -> Keys:
    """The keys of one recording."""
    return Keys()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system of 4 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.decode().strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


# --- when all is well -------------------------------------------------------------------------


def test_jobs_are_done_and_told_in_order(base: Path, keys: Keys) -> None:
    """Created, each fragment, sealed; and the file holds just that."""
    pieces = [piece(0, lost=(GAP,)), piece(1), piece(2, 50_000)]
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        for one in pieces:
            thread.write(one)
        thread.seal(seal(), covers=Covers(5, 7, 3))
        wait_until(lambda: account.all(Sealed))
    assert [type(one) for one in account.told] == [Created, Durable, Durable, Durable, Sealed]
    assert [one.piece for one in account.all(Durable)] == pieces
    [sealed] = account.all(Sealed)
    assert sealed.part.result.path == base
    assert (sealed.part.last, sealed.part.covers) == (True, Covers(5, 7, 3))
    assert sealed.part.end_pts == pieces[-1].pts + pieces[-1].duration
    with PartReader.open(base, keys.secret) as reader:
        reader.check_all()
        assert reader.commitment == account.all(Created)[0].commitment
        assert [f.table for f in reader.fragments()] == [p.table for p in pieces]


def test_what_is_told_durable_is_in_the_file(base: Path, keys: Keys) -> None:
    """At the moment of the report a reader finds the fragment behind an intact checkpoint."""
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        for number in range(3):
            thread.write(piece(number))
            wait_until(lambda expected=number + 1: len(account.all(Durable)) == expected)
            with PartReader.open(open_path(base), keys.secret) as reader:
                assert len(list(reader.fragments())) == number + 1
                assert reader.header.chunk_count == account.all(Durable)[-1].checkpoint.chunks


def test_the_seal_counts_all_parts(base: Path, keys: Keys) -> None:
    """Totals of the part are its own; those of the recording include the parts before, once."""
    before = Ledger()
    before.add_written(WrittenRun(0, 2 * FRAMES - 1, 0, 1000))  # the second half is written again
    before.add_lost(replace(GAP, first_id=800, last_id=801))
    with writing() as (thread, account):
        thread.create(plan(base, keys, previous=before))
        thread.write(piece(1))
        thread.seal(seal(GAP))
        wait_until(lambda: account.all(Sealed))
    with PartReader.open(base, keys.secret) as reader:
        table = reader.seal
    assert table is not None
    assert (table.part["written"], table.part["camera_gap"]) == (FRAMES, 4)
    assert (table.recording["written"], table.recording["camera_gap"]) == (2 * FRAMES, 6)
    assert account.all(Sealed)[0].part.totals == table.recording
    assert table.lost == (GAP,)


def test_the_seal_takes_the_newer_account_of_earlier_parts(base: Path, keys: Keys) -> None:
    """What recovery found in a dead part meanwhile counts, not what was known at its death."""
    found = Ledger()
    found.add_written(WrittenRun(0, FRAMES - 1, 0, 1000))
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        thread.write(piece(1))
        thread.seal(seal(), previous=found)
        wait_until(lambda: account.all(Sealed))
    assert account.all(Sealed)[0].part.totals["written"] == 2 * FRAMES


def test_parts_follow_each_other(base: Path, keys: Keys) -> None:
    """After a seal the next part is created; its totals start anew."""
    with writing() as (thread, account):
        for index in range(3):
            thread.create(plan(base, keys, index))
            thread.write(piece(index))
            thread.seal(seal(last=index == 2))
        wait_until(lambda: len(account.all(Sealed)) == 3)
    assert [one.part.last for one in account.all(Sealed)] == [False, False, True]
    for index in range(3):
        with PartReader.open(part_path(base, index), keys.secret) as reader:
            assert reader.seal is not None
            assert reader.seal.part["written"] == FRAMES
            assert reader.seal.parts == index + 1


def test_leaving_finishes_what_is_queued(base: Path, keys: Keys) -> None:
    """A supervisor that is gone is no reason to lose what was encoded."""
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        for number in range(5):
            thread.write(piece(number))
        thread.seal(seal())
    assert len(account.all(Durable)) == 5
    assert account.all(Sealed)
    assert base.exists()


def test_leaving_an_open_part_lets_go_of_it(base: Path, keys: Keys) -> None:
    """It stays open, without its reserve, and recovery can have it at once."""
    with writing() as (thread, _):
        thread.create(plan(base, keys))
        thread.write(piece(0))
    assert not reserve_path(base).exists()
    assert recover_part(open_path(base), keys.secret).frames == FRAMES


def test_a_stalled_disk_holds_nobody_up(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls return, the backlog shows, the bound is told; then all is written."""
    monkeypatch.setattr(disk, "QUEUE_BYTES", 100_000)
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        wait_until(lambda: account.all(Created))
        account.gate.clear()  # the disk stalls: nothing is reported from now on
        number = 0
        while thread.has_room():
            thread.write(piece(number, 10_000))
            number += 1
        assert number == 10
        wait_until(lambda: thread.statistics().stall_s > 0.01)
        stalled = thread.statistics()
        assert stalled.queue_bytes >= 100_000
        assert stalled.queue_pieces == number
        account.gate.set()
        wait_until(lambda: thread.statistics().queue_pieces == 0)
        assert thread.statistics().queue_bytes == 0
        assert thread.statistics().stall_s == 0.0
        assert thread.has_room()
    assert [one.piece.pts for one in account.all(Durable)] == [piece(n).pts for n in range(number)]


# --- when the disk takes no more --------------------------------------------------------------


def fill(directory: Path, leave_bytes: int) -> None:
    """Let somebody else use up the disk."""
    free = os.statvfs(directory)
    (directory / "somebody").write_bytes(bytes(max(0, free.f_bavail * free.f_bsize - leave_bytes)))


@pytest.mark.parametrize("leave_bytes", [0, 20_000, 60_000, 200_000])
def test_a_full_disk_seals_and_names_the_rest(
    small_disk: Path, keys: Keys, leave_bytes: int
) -> None:
    """Every frame is in the file or named, by the file and by the reports alike."""
    base = small_disk / "x.mp4.enc"
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        for number in range(4):
            thread.write(piece(number, 30_000))
        wait_until(lambda: len(account.all(Durable)) == 4)
        fill(small_disk, leave_bytes)
        with thread._state:  # so that all of it is queued when the disk is found full
            for number in range(4, 40):
                thread.write(piece(number, 30_000))
            thread.seal(seal(GAP), covers=Covers(loss_cursor=1))
        wait_until(lambda: account.all(Failed))
        thread.write(piece(40))
    told = [type(one) for one in account.told]
    assert told.count(Failed) == told.count(Sealed) == 1
    assert told.index(Failed) < told.index(Sealed)  # the reason comes first
    [failed] = account.all(Failed)
    assert failed.sealed
    assert failed.error.code == "disk"
    totals = account.ledger.totals()
    assert totals["written"] + totals["write_error"] == 41 * FRAMES
    assert totals["camera_gap"] == 4
    assert not any("two classes" in problem for problem in account.ledger.balance().problems)
    with PartReader.open(base, keys.secret) as reader:
        assert reader.state == "sealed"
        reader.check_all()
        written = sum(len(fragment.table.frames) for fragment in reader.fragments())
        assert written == totals["written"]
        assert reader.seal is not None
        assert reader.seal.part["written"] == written
        assert reader.seal.part["written"] + reader.seal.part["write_error"] == 40 * FRAMES
        assert GAP in reader.seal.lost
    assert not reserve_path(base).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_a_file_that_takes_no_more_is_left_to_recovery(base: Path, keys: Keys) -> None:
    """RLIMIT_FSIZE: nothing is sealed, the part stays open; recovery agrees with the reports."""
    import resource

    with writing() as (thread, account):
        thread.create(plan(base, keys))
        thread.write(piece(0))
        wait_until(lambda: account.all(Durable))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (open_path(base).stat().st_size + 20_000, hard))
        try:
            for number in range(1, 4):
                thread.write(piece(number, 100_000, lost=(GAP,) if number == 2 else ()))
            thread.seal(seal(replace(GAP, first_id=900, last_id=900)))
            wait_until(lambda: thread.statistics().queue_pieces == 0 and account.all(Failed))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    [failed] = account.all(Failed)
    assert not failed.sealed
    assert account.all(Sealed) == []
    totals = account.ledger.totals()
    assert (totals["written"], totals["write_error"]) == (FRAMES, 3 * FRAMES)
    assert totals["camera_gap"] == 5  # of a fragment and of the seal, which were not written
    report = recover_part(open_path(base), keys.secret)
    assert report.state == "recovered"
    assert report.frames == FRAMES


def test_a_part_that_cannot_be_created_names_everything(base: Path, keys: Keys) -> None:
    """The frames meant for it are losses, and the thread serves the next part."""
    base.write_bytes(b"somebody's")
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        thread.write(piece(0))
        thread.seal(seal(GAP))
        thread.create(plan(base.with_name("y.mp4.enc"), keys))
        thread.write(piece(1))
        thread.seal(seal())
        wait_until(lambda: account.all(Sealed))
        assert not thread.failed
    [failed] = account.all(Failed)
    assert not failed.sealed
    totals = account.ledger.totals()
    assert (totals["written"], totals["write_error"], totals["camera_gap"]) == (FRAMES, FRAMES, 4)
    assert base.read_bytes() == b"somebody's"


def test_a_seal_that_fails_names_its_losses(
    base: Path, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were in no fragment, so nothing else would ever tell of them."""

    def refuse(*_: object, **__: object) -> None:
        raise DiskError("The disk takes no more.")

    with writing() as (thread, account):
        thread.create(plan(base, keys))
        thread.write(piece(0))
        wait_until(lambda: account.all(Durable))
        assert thread._writer is not None
        monkeypatch.setattr(thread._writer, "seal", refuse)
        thread.seal(seal(GAP))
        wait_until(lambda: account.all(Failed))
    assert account.all(Sealed) == []
    assert account.all(Lost) == [Lost(0, (GAP,))]
    assert open_path(base).exists()


def test_a_thread_that_dies_of_its_own_fault_is_told(base: Path, keys: Keys) -> None:
    """The encoder must not go on for a writer that is no more: a successor can do better."""
    with writing() as (thread, account):
        thread.create(plan(base, keys))
        wait_until(lambda: account.all(Created))
        thread.write(replace(piece(0), media=b"no boxes"))
        wait_until(lambda: not thread._thread.is_alive())
        with pytest.raises(WorkerFailed):
            thread.has_room()
        assert thread._writer is not None
        thread._writer.abandon()


def test_lost_pieces_keep_the_losses_they_carried() -> None:
    """A fragment that is not written takes its own table's losses with it, in one list."""
    table = FragmentTable(frames=piece(0).table.frames, lost=(GAP,))
    found = disk.as_lost(replace(piece(0), table=table))
    assert found[0] == GAP
    [frames] = found[1:]
    assert (frames.loss_class, frames.first_id, frames.last_id) == (
        LossClass.WRITE_ERROR,
        1000,
        1000 + FRAMES - 1,
    )
