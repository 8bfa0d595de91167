"""What the encoder process tells the supervisor: durable fragments, parts, losses, heartbeats.

Turns the disk thread's events into messages and ring cursors. The order matters: a fragment is
durable before the ring's cursor says so, so whatever is killed in between, nothing is forgotten;
at worst a frame is in two parts and counted once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from engine.container.writer import Checkpoint
from engine.ledger import written_runs
from ipc.channel import Channel
from ipc.errors import SealrecError
from ipc.frame import Loss
from ipc.lifeline import SelfMeasure
from ipc.messages import (
    EncoderStatus,
    FragmentDurable,
    FramesLost,
    LossRow,
    Message,
    PartFailed,
    PartOpened,
    PartSealed,
)
from ipc.ring import RingReader
from workers.disk import DiskThread, PartPlan, Piece, SealedPart

__all__ = ["HEARTBEAT_S", "DiskReports", "Heartbeat"]

HEARTBEAT_S = 0.2
FPS_WINDOW_S = 1.0


class DiskReports:
    """`workers.disk.DiskEvents` as messages; called from the disk thread."""

    def __init__(self, channel: Channel[Message], ring: RingReader) -> None:
        self._channel = channel
        self._ring = ring

    def part_created(self, plan: PartPlan, commitment: bytes) -> None:
        """See `workers.disk.DiskEvents`."""
        self._channel.send_quietly(
            PartOpened(
                index=plan.index,
                path=str(plan.path),
                encoder=plan.encoder,
                hardware=plan.hardware,
                settings=plan.settings,
            )
        )

    def piece_durable(self, plan: PartPlan, piece: Piece, checkpoint: Checkpoint) -> None:
        """See `workers.disk.DiskEvents`."""
        rows = piece.table.frames
        self._ring.commit_losses(piece.loss_cursor)
        if piece.committed:
            self._ring.commit(piece.committed - 1)
        self._channel.send_quietly(
            FragmentDurable(
                part=plan.index,
                committed=piece.committed,
                rows=[(r.first_seq, r.last_seq, r.epoch, r.first_id) for r in written_runs(rows)],
                lost=[LossRow.of(loss) for loss in piece.table.lost],
                pts_end=piece.pts + piece.duration,
                file_bytes=checkpoint.file_bytes,
                write_s=checkpoint.write_s,
                sync_s=checkpoint.sync_s,
                first_host_ns=rows[0].host_ns if rows else None,
                last_host_ns=rows[-1].host_ns if rows else None,
                durable_ns=time.perf_counter_ns(),
                notes=piece.notes,
            )
        )

    def part_sealed(self, plan: PartPlan, sealed: SealedPart) -> None:
        """See `workers.disk.DiskEvents`."""
        result = sealed.result
        self._ring.commit_losses(sealed.covers.loss_cursor)
        if sealed.covers.committed:
            self._ring.commit(sealed.covers.committed - 1)
        self._channel.send_quietly(
            PartSealed(
                index=plan.index,
                path=str(result.path),
                size_bytes=result.size_bytes,
                chunk_count=result.chunk_count,
                generation=result.generation,
                header_mac=result.header_mac,
                end_pts=sealed.end_pts,
                last=sealed.last,
                lost=[LossRow.of(loss) for loss in sealed.lost],
                totals=sealed.totals,
                notes=sealed.covers.notes,
            )
        )

    def part_failed(self, plan: PartPlan, error: SealrecError, *, sealed: bool) -> None:
        """See `workers.disk.DiskEvents`."""
        self._channel.send_quietly(
            PartFailed(
                index=plan.index,
                code=error.code,
                message=error.message,
                hint=error.hint,
                sealed=sealed,
            )
        )

    def pieces_lost(self, plan: PartPlan, losses: Sequence[Loss]) -> None:
        """See `workers.disk.DiskEvents`."""
        self._channel.send_quietly(
            FramesLost(part=plan.index, lost=[LossRow.of(loss) for loss in losses])
        )


class Heartbeat:
    """The encoder's live figures, sent from its main thread so that they stop when it does."""

    def __init__(self, channel: Channel[Message], disk: DiskThread) -> None:
        self._channel = channel
        self._disk = disk
        self._measure = SelfMeasure()
        self._next = 0.0
        self._encoded = 0
        self._encode_s = self._convert_s = 0.0
        self._speed, self._overloaded = "", False
        self._window_frames = 0
        self._window_began = time.perf_counter()

    def count(self, *, convert_s: float, encode_s: float) -> None:
        """Count one encoded frame and what it took."""
        self._encoded += 1
        self._window_frames += 1
        self._convert_s += convert_s
        self._encode_s += encode_s

    def show_load(self, speed: str, *, overloaded: bool) -> None:
        """Note the encoder's speed and whether it falls behind, for the next beat."""
        self._speed, self._overloaded = speed, overloaded

    def beat(self, *, now_or_never: bool = False) -> None:
        """Send the figures if it is time, or because there will be no other time."""
        now = time.perf_counter()
        if now < self._next and not now_or_never:
            return
        self._next = now + HEARTBEAT_S
        disk = self._disk.statistics()
        frames = max(1, self._encoded)
        self._channel.send_quietly(
            EncoderStatus(
                fps=self._window_frames / max(1e-6, now - self._window_began),
                encoded=self._encoded,
                queue_bytes=disk.queue_bytes,
                queue_items=disk.queue_pieces,
                stall_s=disk.stall_s,
                encode_ms=1e3 * self._encode_s / frames,
                convert_ms=1e3 * self._convert_s / frames,
                speed=self._speed,
                overload=self._overloaded,
            )
        )
        if now - self._window_began > FPS_WINDOW_S:
            self._window_began, self._window_frames = now, 0
        self._channel.send_quietly(self._measure.status({}))
