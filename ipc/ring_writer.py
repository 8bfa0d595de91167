"""The writing end of the frame ring: the capture process. RING.md, "Writer" and "Loss log".

One thread of one process at a time. A successor that attaches after the process was killed at any
instruction finds a consistent ring and goes on with the next sequence number.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Self

from ipc.errors import ConfigError, WrongState
from ipc.frame import FrameStamp, Loss, PixelFormat
from ipc.ring_layout import (
    CAPTURE_CLASSES,
    ENDED,
    EPOCH,
    HIGH_WATER,
    LOSSES_LOGGED,
    PUBLISHED,
    REASON,
    REASON_BYTES,
    REASON_SIZE,
    LoggedLoss,
    pack_loss,
    pack_slot,
    pack_table_entry,
)
from ipc.ring_memory import Access, RingHandles, RingMemory, RingStatistics
from ipc.wake_event import WakeEvent, order_memory

if TYPE_CHECKING:
    from ipc.ring_memory import Pixels

__all__ = ["RingWriter"]

# A wake-up can be lost with the process that was to give it: look again this often.
WAIT_SLICE_S = 0.1


class RingWriter:
    """Publishes frames in order and logs those that never came; never blocks without a time-out."""

    def __init__(self, memory: RingMemory, data_ready: WakeEvent, space_ready: WakeEvent) -> None:
        self._attached: RingMemory | None = memory
        self._data_ready = data_ready
        self._space_ready = space_ready
        _, _, self._published = memory.cursors()
        _, self._logged = memory.losses_logged()
        self._totals = memory.totals(self._logged)
        self._high_water = memory.words[HIGH_WATER]
        self._last = memory.stamp_of(self._published - 1)
        self._acquired: FrameStamp | None = None
        self._pending: deque[Loss] = deque()
        self._shape: tuple[int, int, PixelFormat] | None = None
        self._views: list[Pixels] = []

    @classmethod
    def attach(cls, handles: RingHandles) -> Self:
        """Become the ring's writer; the given handles stay open.

        Raises:
            ProtocolError: No ring, or a damaged one.
            UnknownVersion: A ring of another version of this program.
            MemoryRefused: It cannot be mapped.
        """
        with ExitStack() as undo:
            access = Access(header=True, slots=True)
            memory = undo.enter_context(closing(RingMemory.attach(handles.memory, access)))
            data_ready = undo.enter_context(closing(WakeEvent.attach(handles.data_ready)))
            space_ready = undo.enter_context(closing(WakeEvent.attach(handles.space_ready)))
            writer = cls(memory, data_ready, space_ready)
            undo.pop_all()
        return writer

    @property
    def last_stamp(self) -> FrameStamp | None:
        """The last published frame, also one of a killed predecessor; None before the first."""
        return self._last

    @property
    def pending_losses(self) -> int:
        """Losses that wait in this process's memory because the log is full."""
        return len(self._pending)

    def begin_epoch(self) -> int:
        """Start the next epoch and take back an earlier ``end_stream``.

        Returns:
            Its number: 1 for the first of a ring, over all writers.
        """
        words = self._memory.words
        words[ENDED] = 0
        words[EPOCH] += 1
        return int(words[EPOCH])

    def acquire(
        self,
        stamp: FrameStamp,
        *,
        width_px: int,
        height_px: int,
        pixel_format: PixelFormat,
        timeout_s: float = 0.0,
    ) -> Pixels | None:
        """Give the next slot to be filled; a slot acquired before and not published is dropped.

        Args:
            stamp: Identity and times; each value fits 64 bits, signed.
            width_px: Pixels in a line.
            height_px: Lines.
            pixel_format: Layout of a pixel.
            timeout_s: How long to wait for the encoder when the ring is full.

        Returns:
            The slot's (height, width[, channels]) uint8 pixels, to be filled and not kept after
            ``publish()``; None when the ring is full: the frame was not taken.

        Raises:
            ConfigError: The frame does not fit the slots, or a value of the stamp 64 bits.

        Source: RING.md, "Writer".
        """
        memory = self._memory
        if self._pending:
            self.flush_losses()
        shape = (width_px, height_px, pixel_format)
        if shape != self._shape:
            self._take_shape(memory, shape)
        self._acquired = None
        seq = self._published
        # The last publish comes before the look at released: see RING.md, "A successor's start".
        order_memory()
        if not self._has_room(memory) and not self._wait_for_room(memory, timeout_s):
            return None
        geometry = memory.geometry
        memory.slot_words[geometry.begin_word(seq)] = seq + 1
        order_memory()
        try:
            pack_slot(memory.slots, geometry.slot_record(seq), stamp, shape)
        except struct.error as error:
            raise ConfigError(f"{stamp} does not fit the frame ring: {error}.") from error
        self._acquired = stamp
        return self._views[seq % geometry.slots]

    def publish(self) -> int:
        """Make the acquired slot visible to all readers.

        Returns:
            Sequence number: starts at 0, no gaps.

        Raises:
            WrongState: No slot was acquired.

        Source: RING.md, "Writer".
        """
        memory, stamp = self._memory, self._acquired
        if stamp is None:
            raise WrongState("No slot of the frame ring was acquired before publish().")
        if self._pending:
            self.flush_losses()
        self._acquired = None
        seq = self._published
        words, geometry = memory.words, memory.geometry
        order_memory()
        memory.slot_words[geometry.end_word(seq)] = seq + 1
        pack_table_entry(memory.header, geometry.table_record(seq), seq + 1, stamp)
        _, released, _ = memory.cursors()
        # A successor's start may have moved released back under a slot that was acquired already.
        occupied = min(seq + 1 - released, geometry.slots)
        if occupied > self._high_water:
            self._high_water = words[HIGH_WATER] = occupied
        order_memory()
        words[PUBLISHED] = seq + 1
        self._published = seq + 1
        self._last = stamp
        self._data_ready.set()
        return seq

    def record_loss(self, loss: Loss) -> None:
        """Log frames that do not enter the ring; the entry outlives this process.

        A full log (65,536 entries that the encoder could not make durable) keeps the loss in this
        process's memory, joined to its neighbour, and tries again at every later call.

        Raises:
            ConfigError: A class that is not capture's to record, ids in disorder, or a value beyond
                64 bits; nothing was logged.
        """
        if loss.loss_class not in CAPTURE_CLASSES:
            names = ", ".join(loss_class.label for loss_class in CAPTURE_CLASSES)
            raise ConfigError(
                f"The loss log takes no {loss.loss_class.label}: such frames entered the ring.",
                hint=f"It takes {names}.",
            )
        if (loss.first_id is None) != (loss.last_id is None) or loss.frames < 0:
            raise ConfigError(f"{loss} names its ids in disorder.")
        waiting = self._pending[-1].joined(loss) if self._pending else None
        if waiting is None:
            self._pending.append(loss)
        else:
            self._pending[-1] = waiting
        self.flush_losses()

    def flush_losses(self) -> bool:
        """Log what waits for room in the log; True when nothing waits any more."""
        memory = self._memory
        while self._pending:
            durable, _ = memory.losses_logged()
            if self._logged - durable >= memory.geometry.loss_entries:
                return False
            self._log(memory, self._pending.popleft())
        return True

    def end_stream(self, reason: str) -> None:
        """Tell the readers that no more frames will come.

        Args:
            reason: A few words; cut to 256 bytes of UTF-8.
        """
        memory = self._memory
        self.flush_losses()
        text = reason.encode("utf-8")[:REASON_BYTES].decode("utf-8", errors="ignore").encode()
        memory.words[ENDED] = 0
        memory.header[REASON : REASON + len(text)] = text
        memory.words[REASON_SIZE] = len(text)
        order_memory()
        memory.words[ENDED] = 1
        self._data_ready.set()

    def statistics(self) -> RingStatistics:
        """Read all figures of the ring.

        Raises:
            ProtocolError: The ring is damaged.
        """
        return self._memory.statistics()

    def close(self) -> None:
        """Let go of the ring; never fails, may be called again. The frames in it stay."""
        memory, self._attached = self._attached, None
        self._views = []
        self._acquired = None
        if memory is not None:
            memory.close()
        self._data_ready.close()
        self._space_ready.close()

    @property
    def _memory(self) -> RingMemory:
        if self._attached is None:
            raise WrongState("This writer of the frame ring is closed.")
        return self._attached

    def _take_shape(self, memory: RingMemory, shape: tuple[int, int, PixelFormat]) -> None:
        width_px, height_px, pixel_format = shape
        size_bytes = pixel_format.size_bytes(width_px, height_px)
        if width_px < 1 or height_px < 1 or size_bytes > memory.geometry.slot_bytes:
            raise ConfigError(
                f"A {width_px}x{height_px} {pixel_format} frame ({size_bytes} bytes) does not fit "
                f"the frame ring's slots of {memory.geometry.slot_bytes} bytes.",
                hint="Make the ring for the camera's largest frame.",
            )
        self._views = memory.pixel_views(width_px, height_px, pixel_format)
        self._shape = shape

    def _has_room(self, memory: RingMemory) -> bool:
        committed, released, published = memory.cursors()
        # The second limit keeps every frame that is not durable yet in the table of ids.
        return (
            published - released < memory.geometry.slots
            and published - committed < memory.geometry.table_entries
        )

    def _wait_for_room(self, memory: RingMemory, timeout_s: float) -> bool:
        deadline = time.perf_counter() + timeout_s
        while (remaining := deadline - time.perf_counter()) > 0:
            self._space_ready.wait(min(remaining, WAIT_SLICE_S))
            self.flush_losses()
            if self._has_room(memory):
                return True
        return False

    def _log(self, memory: RingMemory, loss: Loss) -> None:
        totals = list(self._totals)
        totals[0] += loss.frames
        totals[loss.loss_class] += loss.frames
        entry = LoggedLoss(loss, tuple(totals))
        offset = memory.geometry.loss_record(self._logged)
        try:
            pack_loss(memory.header, offset, self._logged + 1, entry)
        except struct.error as error:
            raise ConfigError(f"{loss} does not fit the loss log: {error}.") from error
        order_memory()
        memory.words[LOSSES_LOGGED] = self._logged + 1
        self._logged += 1
        self._totals = entry.totals
