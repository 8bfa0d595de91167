"""What the encoder hands to its disk thread: fragments with their tables, heartbeats, the seal.

Keeps the losses, marks and events that no table holds yet, so that each goes into exactly one. It
encodes nothing and reads no frames: that is the encoder's loop.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from engine.container.tables import ClockPair, FragmentTable, FrameRow, SealTable
from engine.ledger import Ledger
from ipc.channel import Channel
from ipc.frame import FrameStamp, Loss, LossClass, merge_losses
from ipc.messages import FramesLost, LossRow, Message
from ipc.ring import RingReader
from workers.codecs.encoders import VideoEncoder
from workers.disk import Covers, DiskThread, Piece
from workers.fragments import Assembly
from workers.notes import Notes

__all__ = ["Pieces", "clock_pair"]

TABLE_EVERY_S = 1.0


class Pieces:
    """Everything of a recording that is on its way to the disk.

    Attributes:
        notes: Marks and events for the next table.
        losses_through: Place of the ring's loss log at which the recording ends; None: where its
            frames end.
        audit_head: For the seal: the last row of the catalog's audit that is known.
    """

    def __init__(self, ring: RingReader, disk: DiskThread, channel: Channel[Message]) -> None:
        self._ring, self._disk, self._channel = ring, disk, channel
        self.notes = Notes()
        self.losses_through: int | None = None
        self.audit_head = ""
        self._losses: list[Loss] = []
        self._end_pts = 0
        self._last_at = time.perf_counter()

    def begin_recording(self, losses: Iterable[Loss]) -> None:
        """Another recording begins, with losses of its own."""
        self.notes, self.losses_through = Notes(), None
        self._losses, self._end_pts = list(losses), 0

    # --- losses -------------------------------------------------------------------------------

    def add_losses(self, losses: Iterable[Loss]) -> None:
        """Losses for the next table."""
        self._losses += losses

    def lose(self, stamp: FrameStamp, loss_class: LossClass) -> None:
        """A frame that is in no fragment."""
        self._losses.append(Loss.of(stamp, loss_class))

    def end_losses(self, consumed: int) -> tuple[int, int]:
        """Take no losses after those before the frame ``consumed``.

        Returns:
            That place of the loss log, and the ring's count of frames lost up to there.
        """
        self._losses = list(self._take_losses(consumed))
        self.losses_through = self._ring.loss_cursor
        return self.losses_through, self._ring.lost_through(self.losses_through)

    def _take_losses(self, consumed: int) -> tuple[Loss, ...]:
        """Take those that go with the frames below ``consumed``, and none beyond.

        The recording may end there, or the encoder die, and nobody would name what lies between.
        """
        through = self._ring.losses_before(consumed)
        if self.losses_through is not None:
            through = min(through, self.losses_through)
        lost = (*self._losses, *self._ring.read_losses(through))
        self._losses = []
        return merge_losses(lost)

    def report_unwritable(self, consumed: int) -> None:
        """Tell the supervisor what no file can hold; nothing else will ever know.

        Args:
            consumed: Ring cursor: all frames below are named.
        """
        lost = self._take_losses(consumed)
        if lost:
            self._channel.send_quietly(FramesLost(part=0, lost=[LossRow.of(loss) for loss in lost]))
        if consumed:
            self._ring.commit(consumed - 1)
        self._ring.commit_losses(self._ring.loss_cursor)

    # --- pieces -------------------------------------------------------------------------------

    def write(
        self,
        encoder: VideoEncoder,
        assembly: Assembly,
        *,
        number: int,
        end_pts: int,
        committed: int,
    ) -> None:
        """Write a closed fragment.

        Args:
            encoder: Its muxer.
            assembly: Rows and samples.
            number: Of the fragment in its part.
            end_pts: Where it ends, 90 kHz.
            committed: Ring cursor: all frames below are accounted for once it is durable.
        """
        media = encoder.fragment(assembly.samples, number)
        first_pts, self._end_pts = assembly.rows[0].pts, end_pts
        self._put(
            self._table(committed, assembly.rows), media, first_pts, end_pts - first_pts, committed
        )

    def write_table(self, committed: int, *, after_s: float = TABLE_EVERY_S) -> None:
        """Write a table without frames if nothing was written for so long.

        It stands where the video ends: the time that passes is in the table's clock.
        """
        if time.perf_counter() - self._last_at > after_s:
            self._put(self._table(committed), b"", self._end_pts, 0, committed)

    def seal(self, *, last: bool, parts: int, previous: Ledger | None, committed: int) -> None:
        """Seal the open part with all that no fragment holds."""
        lost, (marks, events) = self._take_losses(committed), self.notes.give()
        table = SealTable(
            parts=parts,
            last=last,
            lost=lost,
            marks=marks,
            events=events,
            clock=clock_pair(),
            audit_head=self.audit_head,
        )
        self.audit_head = ""
        covers = Covers(committed, self._ring.loss_cursor, self.notes.serial)
        self._disk.seal(table, previous=previous, covers=covers)

    def _table(self, committed: int, rows: tuple[FrameRow, ...] = ()) -> FragmentTable:
        lost, (marks, events) = self._take_losses(committed), self.notes.give()
        return FragmentTable(frames=rows, lost=lost, marks=marks, events=events, clock=clock_pair())

    def _put(
        self, table: FragmentTable, media: bytes, pts: int, duration: int, committed: int
    ) -> None:
        self._last_at = time.perf_counter()
        cursor, notes = self._ring.loss_cursor, self.notes.serial
        self._disk.write(Piece(table, media, pts, duration, committed, cursor, notes))


def clock_pair() -> ClockPair:
    """The host's clock and the time of day, now."""
    return ClockPair(time.perf_counter_ns(), time.time_ns())
