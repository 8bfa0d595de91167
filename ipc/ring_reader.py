"""The lossless reading end of the frame ring: the encoder process. RING.md, "Reader".

One thread of one process at a time; the two commits may come from another thread of it. A successor
that attaches after the process was killed at any instruction reads again what was not yet durable,
and names what the writer has overwritten since.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ipc.errors import ProtocolError, WrongState
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat
from ipc.ring_layout import COMMITTED, LOSSES_COMMITTED, RELEASED, unpack_slot
from ipc.ring_memory import Access, RingHandles, RingMemory, RingStatistics, coalesce
from ipc.wake_event import WakeEvent, memory_fence, order_memory

if TYPE_CHECKING:
    from ipc.ring_memory import Pixels

__all__ = ["RingFrame", "RingReader"]

# A wake-up can be lost with the process that was to give it: look again this often.
WAIT_SLICE_S = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class RingFrame:
    """One frame in the ring.

    Attributes:
        seq: Sequence number: unique in a ring, no gaps.
        stamp: Identity and times.
        pixels: (height, width[, channels]) uint8, read-only, valid until the frame is released.
        pixel_format: Layout of a pixel.
    """

    seq: int
    stamp: FrameStamp
    pixels: Pixels
    pixel_format: PixelFormat


class RingReader:
    """Reads every frame once, and every logged loss once, in order."""

    def __init__(self, memory: RingMemory, data_ready: WakeEvent, space_ready: WakeEvent) -> None:
        self._attached: RingMemory | None = memory
        self._data_ready = data_ready
        self._space_ready = space_ready
        self._committed, self._released, _ = memory.cursors()
        self._losses_committed, _ = memory.losses_logged()
        self._next_loss = self._losses_committed
        self._next = -1  # resume() sets it
        self._doubtful = -1  # the one frame that the writer may be overwriting after resume()
        self._woken = False
        self._committing = threading.Lock()  # the encoder commits from its disk thread
        self._lapped: list[Loss] = []
        self._shape: tuple[int, int, PixelFormat] | None = None
        self._views: list[Pixels] = []

    @classmethod
    def attach(cls, handles: RingHandles) -> Self:
        """Become the ring's lossless reader; the given handles stay open. Then ``resume()``.

        Raises:
            ProtocolError: No ring, or a damaged one.
            UnknownVersion: A ring of another version of this program.
            MemoryRefused: It cannot be mapped.
        """
        with ExitStack() as undo:
            access = Access(header=True, slots=False)
            memory = undo.enter_context(closing(RingMemory.attach(handles.memory, access)))
            data_ready = undo.enter_context(closing(WakeEvent.attach(handles.data_ready)))
            space_ready = undo.enter_context(closing(WakeEvent.attach(handles.space_ready)))
            reader = cls(memory, data_ready, space_ready)
            undo.pop_all()
        return reader

    def skip_before(self, host_ns: int) -> int:
        """Leave out all frames that arrived before this time; only before ``resume()``.

        They belong to no recording, so nobody has to name them.

        Args:
            host_ns: ``time.perf_counter_ns()``.

        Returns:
            Sequence number of the first frame that is not left out.

        Raises:
            WrongState: This reader has resumed already.
            ProtocolError: The ring is damaged.
        """
        memory = self._memory
        if self._next >= 0:
            raise WrongState("This reader of the frame ring has resumed already.")
        committed, _, published = memory.cursors()
        first = committed
        while first < published and self._named(memory, first).host_ns < host_ns:
            first += 1
        # Never above released: the cursors' order must hold; resume() moves it if need be.
        memory.words[RELEASED] = max(first, self._released)
        self._released = int(memory.words[RELEASED])
        self._committed = memory.words[COMMITTED] = first
        return first

    def resume(self) -> list[Loss]:
        """Go back to the oldest frame that is not durable and still in the ring.

        Returns:
            One ``encoder_lost`` row for each run of ids that a killed predecessor had not made
            durable and the writer has overwritten. Write them and ``commit()``: a reader that dies
            before will be followed by one that returns them again.

        Raises:
            WrongState: This reader has resumed already.
            ProtocolError: The ring is damaged.

        Source: RING.md, "A successor's start".
        """
        memory = self._memory
        if self._next >= 0:
            raise WrongState("This reader of the frame ring has resumed already.")
        slots = memory.geometry.slots
        committed, _, published = memory.cursors()
        while True:
            start = max(committed, published - slots)
            self._released = memory.words[RELEASED] = start
            # Either the writer's next acquire sees this store, or the next load sees the publish
            # that went before that acquire.
            memory_fence()
            _, _, now_published = memory.cursors()
            if now_published - slots <= start:
                break
            published = now_published
        # Only the slot acquired before the store can still be written to: that of the next frame.
        self._doubtful = now_published - slots
        self._next = start
        self._space_ready.set()
        return coalesce(
            LossClass.ENCODER_LOST, [self._named(memory, seq) for seq in range(committed, start)]
        )

    @property
    def published(self) -> int:
        """The writer's next sequence number."""
        return self._load_published(self._memory)

    @property
    def position(self) -> int:
        """Sequence number of the next frame to read: all below were read, or found overwritten."""
        return self._next

    @property
    def ended(self) -> str | None:
        """Reason why no more frames will come; None while they may. Some may wait to be read."""
        return self._memory.ended

    def wait(self, timeout_s: float) -> bool:
        """Wait for a frame to read.

        Returns:
            True when there is one; False when the time is over, the stream has just ended, or
            ``wake()`` was called.

        Raises:
            WrongState: ``resume()`` was not called.
        """
        memory = self._resumed()
        deadline = time.perf_counter() + timeout_s
        ended = memory.ended is not None
        while self._next >= self._load_published(memory):
            remaining = deadline - time.perf_counter()
            if self._woken or remaining <= 0 or (not ended and memory.ended is not None):
                self._woken = False
                return False
            self._data_ready.wait(min(remaining, WAIT_SLICE_S))
        return True

    def wake(self) -> None:
        """End a ``wait()``, or the next one, for something else than a frame; from any thread.

        Of a closed ring nobody waits.
        """
        if self._attached is not None:
            self._woken = True
            self._data_ready.set()

    def read(self) -> RingFrame | None:
        """Take the next frame, without waiting.

        A frame that the writer was overwriting when this reader started is left out and named by
        the next ``read_losses()``.

        Returns:
            The frame, valid until released; None when there is nothing new.

        Raises:
            WrongState: ``resume()`` was not called.
            ProtocolError: The ring is damaged.

        Source: RING.md, "Reader".
        """
        memory = self._resumed()
        while self._next < self._load_published(memory):
            seq = self._next
            order_memory()
            frame = self._take(memory, seq)
            self._next = seq + 1
            if frame is not None:
                return frame
            self._lapped += coalesce(LossClass.ENCODER_LOST, [self._named(memory, seq)])
        return None

    def release(self, through_seq: int) -> None:
        """Give back all slots up to this sequence number; their pixels are valid no more.

        Raises:
            WrongState: The frame was not read yet.
        """
        memory = self._memory
        if through_seq >= self._next:
            raise WrongState(f"Frame {through_seq} was not read yet and cannot be released.")
        if through_seq >= self._released:
            order_memory()
            self._released = memory.words[RELEASED] = through_seq + 1
            self._space_ready.set()

    def commit(self, through_seq: int) -> None:
        """Declare all frames up to this sequence number durable, or durably named as lost.

        Raises:
            WrongState: The frame was not released yet.
        """
        memory = self._memory
        if through_seq >= self._released:
            raise WrongState(f"Frame {through_seq} was not released yet and cannot be committed.")
        with self._committing:
            if through_seq >= self._committed:
                self._committed = memory.words[COMMITTED] = through_seq + 1

    @property
    def loss_cursor(self) -> int:
        """Place in the loss log after the last entry read, for ``commit_losses``."""
        return self._next_loss

    def read_losses(self, through: int | None = None) -> list[Loss]:
        """Take the losses logged since the last call; a new reader starts at the committed ones.

        Frames that ``read()`` found overwritten come first; they take no place in the log and are
        covered by ``commit()``.

        Args:
            through: Take none from this place of the log on; None: all that are there.

        Raises:
            ProtocolError: The log is damaged.
        """
        memory = self._memory
        losses, self._lapped = self._lapped, []
        _, logged = memory.losses_logged()
        if logged - self._losses_committed > memory.geometry.loss_entries:
            raise ProtocolError(
                f"The frame ring's loss log is damaged: {logged} logged, "
                f"{self._losses_committed} durable."
            )
        order_memory()
        end = logged if through is None else min(logged, through)
        losses += [memory.loss(index).loss for index in range(self._next_loss, end)]
        self._next_loss = max(self._next_loss, end)
        return losses

    def losses_before(self, seq: int) -> int:
        """Where in the loss log the losses end that go with the frames below ``seq``.

        Whoever takes them with those frames never names one beyond a frame that is not taken yet.

        Args:
            seq: A frame that is not committed, or that is not there yet.

        Returns:
            For ``read_losses`` and ``lost_through``; what was read already is never given back.

        Raises:
            ProtocolError: The ring is damaged.

        Source: RING.md, "Loss log".
        """
        memory = self._memory
        _, logged = memory.losses_logged()
        order_memory()
        if seq >= self._load_published(memory):
            return max(logged, self._next_loss)  # no frame follows, so none of them is beyond one
        host_ns = self._named(memory, seq).host_ns
        cursor = self._next_loss
        while cursor < logged and memory.loss(cursor).loss.last_host_ns <= host_ns:
            cursor += 1
        return cursor

    def lost_through(self, cursor: int) -> int:
        """Frames in all losses below this place of the log, since the ring was made.

        Raises:
            ProtocolError: It is longer ago than the log reaches back.
        """
        return self._memory.totals(cursor)[0]

    def commit_losses(self, cursor: int) -> None:
        """Declare all losses before this place of the log durable; their entries may be reused.

        Raises:
            WrongState: They were not read yet.
        """
        memory = self._memory
        if cursor > self._next_loss:
            raise WrongState(f"Entry {cursor} of the loss log was not read yet.")
        with self._committing:
            if cursor > self._losses_committed:
                self._losses_committed = memory.words[LOSSES_COMMITTED] = cursor

    def statistics(self) -> RingStatistics:
        """Read all figures of the ring.

        Raises:
            ProtocolError: The ring is damaged.
        """
        return self._memory.statistics()

    def close(self) -> None:
        """Let go of the ring; never fails, may be called again. Cursors stay where they are."""
        memory, self._attached = self._attached, None
        self._views = []
        if memory is not None:
            memory.close()
        self._data_ready.close()
        self._space_ready.close()

    @property
    def _memory(self) -> RingMemory:
        if self._attached is None:
            raise WrongState("This reader of the frame ring is closed.")
        return self._attached

    def _resumed(self) -> RingMemory:
        if self._next < 0:
            raise WrongState("The frame ring's reader must resume() before its first read.")
        return self._memory

    def _load_published(self, memory: RingMemory) -> int:
        _, _, published = memory.cursors()
        # One above the slots: acquired before a successor's start, published after it.
        if published - self._released > memory.geometry.slots + 1:
            raise ProtocolError(
                f"The frame ring is damaged: published {published}, released {self._released}."
            )
        return published

    def _take(self, memory: RingMemory, seq: int) -> RingFrame | None:
        """Check a slot's numbers and view it; None when the writer has begun to reuse it."""
        words, geometry = memory.slot_words, memory.geometry
        begin, end = geometry.begin_word(seq), geometry.end_word(seq)
        if words[end] != seq + 1:
            return None
        order_memory()
        described = unpack_slot(memory.slots, geometry.slot_record(seq), geometry.slot_bytes)
        if described is None:
            # A record half overwritten; if the slot is not being reused, the ring is damaged.
            if words[begin] == seq + 1:
                raise ProtocolError(f"The record of frame {seq} in the frame ring is damaged.")
            return None
        stamp, shape = described
        if shape != self._shape:
            self._views = memory.pixel_views(*shape)
            self._shape = shape
        pixels = self._views[seq % geometry.slots]
        if seq == self._doubtful:
            pixels = pixels.copy()
            pixels.flags.writeable = False
            order_memory()
        if words[begin] != seq + 1:
            return None
        return RingFrame(seq, stamp, pixels, shape[2])

    def _named(self, memory: RingMemory, seq: int) -> FrameStamp:
        stamp = memory.stamp_of(seq)
        if stamp is None:
            raise ProtocolError(f"The frame ring's table does not name frame {seq}.")
        return stamp
