"""The encoder's writer thread: encoded bytes go to the disk behind a bounded queue.

A slow or stalled disk fills this queue, tens of seconds of video, before it holds up the encoder.
The thread owns the part it writes; what it reports is durable: written, synced, and noted in the
header (FORMAT.md, "Rules of writing"). When the disk takes no more, everything still queued is
handed back as lost and nothing more is encrypted.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from engine.container import names
from engine.container.payload import CHUNK, STORED_CHUNK, offset_of_chunk
from engine.container.tables import FragmentTable, SealTable, SessionTable
from engine.container.writer import Checkpoint, PartWriter, SealResult
from engine.ledger import Ledger, written_runs
from ipc import logs
from ipc.errors import DiskError, SealrecError, WorkerFailed
from ipc.frame import Loss, LossClass, merge_losses

__all__ = [
    "QUEUE_BYTES",
    "Covers",
    "DiskEvents",
    "DiskStatistics",
    "DiskThread",
    "PartPlan",
    "Piece",
    "SealedPart",
]

# At 6.7 Mbit/s this is about a minute of video.
QUEUE_BYTES = 48 << 20


@dataclass(frozen=True, slots=True)
class PartPlan:
    """A part to be created: where, with which key, and what its first unit holds.

    Attributes:
        index: Part index.
        path: Final name.
        header: 4096 bytes built by the engine.
        dek: Data key, 32 bytes.
        init_segment: ftyp and moov.
        encoder, hardware, settings: What was opened.
        session: Session table.
        previous: Ledger of the parts before this one.
    """

    index: int
    path: Path
    header: bytes = field(repr=False)
    dek: bytes = field(repr=False)
    init_segment: bytes = field(repr=False)
    encoder: str
    hardware: bool
    settings: dict[str, str]
    session: SessionTable = field(repr=False)
    previous: Ledger = field(repr=False)


@dataclass(frozen=True, slots=True)
class Piece:
    """One fragment on its way to the disk.

    Attributes:
        table: Its rows; no frames in a table-only fragment.
        media: moof and mdat, or nothing.
        pts: Of its first frame, 90 kHz.
        duration: Ticks.
        committed: Ring cursor: everything below is accounted for once this is durable.
        loss_cursor: The same for the ring's loss log.
        notes: Highest serial of its marks and events.
    """

    table: FragmentTable
    media: bytes = field(repr=False)
    pts: int
    duration: int
    committed: int
    loss_cursor: int
    notes: int = 0


@dataclass(frozen=True, slots=True)
class Covers:
    """What is accounted for once a seal is durable.

    Attributes:
        committed: Ring cursor: all frames below.
        loss_cursor: The same for the ring's loss log.
        notes: The same for marks and events, by their serial.
    """

    committed: int = 0
    loss_cursor: int = 0
    notes: int = 0


@dataclass(frozen=True, slots=True)
class _Seal:
    table: SealTable
    previous: Ledger | None = None
    covers: Covers = Covers()


@dataclass(frozen=True, slots=True)
class SealedPart:
    """A part that is sealed.

    Attributes:
        result: What the container wrote.
        totals: Frames per class in the recording so far.
        end_pts: Where its last fragment ends, 90 kHz.
        last: No other part follows.
        lost: Losses that only the seal's own table holds.
        covers: What is accounted for with it.
    """

    result: SealResult
    totals: dict[str, int]
    end_pts: int
    last: bool
    lost: tuple[Loss, ...]
    covers: Covers


@dataclass(frozen=True, slots=True)
class DiskStatistics:
    """Backlog of the writer thread.

    Attributes:
        queue_bytes: Encoded bytes not yet durable.
        queue_pieces: Fragments not yet durable.
        stall_s: How long the operation in hand has been running.
    """

    queue_bytes: int
    queue_pieces: int
    stall_s: float


class DiskEvents(Protocol):
    """What the thread reports, from the thread itself."""

    def part_created(self, plan: PartPlan, commitment: bytes) -> None:
        """The part's header, preamble and first unit are durable."""

    def piece_durable(self, plan: PartPlan, piece: Piece, checkpoint: Checkpoint) -> None:
        """One fragment is durable."""

    def part_sealed(self, plan: PartPlan, sealed: SealedPart) -> None:
        """The part is sealed under its final name."""

    def part_failed(self, plan: PartPlan, error: SealrecError, *, sealed: bool) -> None:
        """The disk takes no more of this part."""

    def pieces_lost(self, plan: PartPlan, losses: Sequence[Loss]) -> None:
        """Frames that no file holds, named."""


class DiskThread:
    """Writes one part after the other; every public method returns at once."""

    def __init__(self, events: DiskEvents) -> None:
        self._events = events
        self._jobs: deque[PartPlan | Piece | _Seal] = deque()
        self._state = threading.Condition()
        self._bytes = 0
        self._began: float | None = None
        self._leaving = False
        self._plan: PartPlan | None = None
        self._writer: PartWriter | None = None
        self._ledger = Ledger()
        self._end_pts = 0
        self.failed = False
        self._crashed = False
        self._thread = threading.Thread(target=self._run, name="disk", daemon=True)
        self._thread.start()

    def statistics(self) -> DiskStatistics:
        """The backlog now."""
        with self._state:
            began = self._began
            pieces = sum(isinstance(job, Piece) for job in self._jobs)
            stall_s = time.perf_counter() - began if began is not None else 0.0
            return DiskStatistics(self._bytes, pieces + (began is not None), stall_s)

    @property
    def idle(self) -> bool:
        """Nothing is queued or in hand."""
        with self._state:
            return not self._jobs and self._began is None

    def has_room(self) -> bool:
        """Whether another fragment may be queued without exceeding the bound.

        Raises:
            WorkerFailed: the thread is no more, by a fault of its own.
        """
        if self._crashed:
            raise WorkerFailed("The writer thread died.", hint="The log says why.")
        return self._bytes < QUEUE_BYTES

    def create(self, plan: PartPlan) -> None:
        """Queue the creation of a part; the disk is tried anew."""
        self.failed = False
        self._put(plan)

    def write(self, piece: Piece) -> None:
        """Queue a fragment; ask `has_room` before."""
        with self._state:
            self._put(piece)

    def seal(
        self,
        table: SealTable,
        *,
        previous: Ledger | None = None,
        covers: Covers = Covers(),
    ) -> None:
        """Queue the seal; totals and parts are filled in from what is durable by then.

        Args:
            table: Losses that no fragment carries any more, and whether it is the last part.
            previous: Ledger of the parts before this one, if more is known than at its creation.
            covers: What is in the table or before it.
        """
        self._put(_Seal(table, previous, covers))

    def leave(self, timeout_s: float) -> None:
        """Finish what is queued and end the thread."""
        with self._state:
            self._leaving = True
            self._state.notify_all()
        self._thread.join(timeout_s)

    def _put(self, job: PartPlan | Piece | _Seal) -> None:
        with self._state:
            self._jobs.append(job)
            if isinstance(job, Piece):
                self._bytes += len(job.media)
            self._state.notify_all()

    def _run(self) -> None:
        try:
            self._serve()
        except Exception:  # noqa: BLE001 - a thread of its own: the main one then ends the process
            logs.logger.exception("writer thread crashed")
            self._crashed = True

    def _serve(self) -> None:
        while True:
            with self._state:
                while not self._jobs and not self._leaving:
                    self._state.wait()
                if not self._jobs:
                    break
                job = self._jobs.popleft()
                self._began = time.perf_counter()
            self._do(job)
            with self._state:
                self._began = None
                if isinstance(job, Piece):
                    self._bytes -= len(job.media)
        if self._writer is not None:
            self._writer.abandon()

    def _do(self, job: PartPlan | Piece | _Seal) -> None:
        if isinstance(job, PartPlan):
            self._plan, self._ledger, self.failed = job, Ledger(), False
            if job.index == 0:
                self._end_pts = 0
        plan = self._plan
        assert plan is not None
        if self.failed:
            self._lose(plan, _losses_of(job))
            return
        try:
            if isinstance(job, PartPlan):
                self._create(job)
            elif isinstance(job, Piece):
                self._write(plan, job)
            else:
                self._seal(plan, job)
        except (SealrecError, OSError) as error:
            self._fail(plan, job, error)

    def _create(self, plan: PartPlan) -> None:
        self._writer = PartWriter.create(plan.path, dek=plan.dek, header=plan.header)
        self._writer.write_init(plan.init_segment, plan.session)
        self._events.part_created(plan, self._writer.commitment)

    def _write(self, plan: PartPlan, piece: Piece) -> None:
        assert self._writer is not None
        checkpoint = self._writer.append(
            piece.table, piece.media, pts=piece.pts, duration=piece.duration
        )
        self._durable(plan, piece, checkpoint)

    def _durable(self, plan: PartPlan, piece: Piece, checkpoint: Checkpoint) -> None:
        self._end_pts = max(self._end_pts, piece.pts + piece.duration)
        for run in written_runs(piece.table.frames):
            self._ledger.add_written(run)
        for loss in piece.table.lost:
            self._ledger.add_lost(loss)
        self._events.piece_durable(plan, piece, checkpoint)

    def _lose(self, plan: PartPlan, losses: Sequence[Loss]) -> None:
        if losses:
            self._events.pieces_lost(plan, losses)

    def _seal(self, plan: PartPlan, job: _Seal) -> None:
        self._events.part_sealed(plan, self._write_seal(plan, job))

    def _write_seal(self, plan: PartPlan, job: _Seal) -> SealedPart:
        assert self._writer is not None
        for loss in job.table.lost:
            self._ledger.add_lost(loss)
        recording = Ledger()
        recording.merge(job.previous or plan.previous)
        recording.merge(self._ledger)
        totals = recording.totals()
        result = self._writer.seal(
            replace(job.table, part=self._ledger.totals(), recording=totals, parts=plan.index + 1)
        )
        self._writer = None
        return SealedPart(
            result=result,
            totals=totals,
            end_pts=self._end_pts,
            last=job.table.last,
            lost=job.table.lost,
            covers=job.covers,
        )

    def _fail(
        self, plan: PartPlan, job: PartPlan | Piece | _Seal, error: SealrecError | OSError
    ) -> None:
        """Name what cannot be written; seal the part if its reserve allows it."""
        self.failed = True
        if isinstance(error, OSError):
            error = DiskError(f"{plan.path}: {error.strerror}.", hint="Check the disk.")
        disk = error if isinstance(error, DiskError) else DiskError("")
        in_hand = _losses_of(job)
        if isinstance(job, Piece) and disk.kept:  # completed with the reserve's room
            self._durable(plan, job, self._after_reserve(plan))
            in_hand = []
        sealed = self._seal_early(plan, in_hand) if disk.can_seal else None
        if self._writer is not None:
            self._writer.abandon()
            self._writer = None
        self._lose(plan, in_hand)
        # Before the seal's own report, which alone would look like an end that was asked for.
        self._events.part_failed(plan, error, sealed=sealed is not None)
        if sealed is not None:
            self._events.part_sealed(plan, sealed)

    def _seal_early(self, plan: PartPlan, in_hand: list[Loss]) -> SealedPart | None:
        """Seal what the reserve still holds room for; None if it did not work."""
        with self._state:
            queued = list(self._jobs)
        pending = [*in_hand, *(loss for job in queued for loss in _losses_of(job))]
        table = SealTable(parts=plan.index + 1, last=True, lost=tuple(pending))
        try:
            return self._write_seal(plan, _Seal(table))
        except (SealrecError, OSError):
            return None

    def _after_reserve(self, plan: PartPlan) -> Checkpoint:
        """The checkpoint of a fragment that was completed with the reserve's room."""
        assert self._writer is not None
        size = names.open_path(plan.path).stat().st_size
        chunks = max(0, size - offset_of_chunk(0)) // STORED_CHUNK
        return Checkpoint(
            fragments=self._writer.fragments,
            chunks=chunks,
            payload_bytes=chunks * CHUNK,
            file_bytes=size,
            write_s=0.0,
            sync_s=0.0,
        )


def _losses_of(job: PartPlan | Piece | _Seal) -> list[Loss]:
    """What is lost if a job is not done."""
    if isinstance(job, Piece):
        return as_lost(job)
    return list(job.table.lost) if isinstance(job, _Seal) else []


def as_lost(piece: Piece) -> list[Loss]:
    """A fragment's frames as `write_error` rows, with the losses it would have carried."""
    frames = [
        Loss(LossClass.WRITE_ERROR, r.epoch, r.frame_id, r.frame_id, r.host_ns, r.host_ns)
        for r in piece.table.frames
    ]
    return [*piece.table.lost, *merge_losses(frames)]
