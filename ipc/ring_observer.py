"""A lossy reading end of the frame ring: previews. RING.md, "Observer".

Any number of them, in any process; they store nothing, so the writer and the encoder never notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ipc.errors import WrongState
from ipc.frame import FrameStamp, PixelFormat
from ipc.ring_layout import unpack_slot
from ipc.ring_memory import Access, RingHandles, RingMemory, RingStatistics
from ipc.wake_event import order_memory

if TYPE_CHECKING:
    from ipc.ring_memory import Pixels

__all__ = ["ObservedFrame", "ObservedView", "RingObserver"]

ATTEMPTS = 8  # each takes the then newest frame; a lap within one copy is rare


@dataclass(frozen=True, slots=True, eq=False)
class ObservedFrame:
    """A copy of the newest frame.

    Attributes:
        seq: Sequence number.
        stamp: Identity and times.
        pixels: (height, width[, channels]) uint8, the observer's own.
        pixel_format: Layout of a pixel.
    """

    seq: int
    stamp: FrameStamp
    pixels: Pixels
    pixel_format: PixelFormat


@dataclass(frozen=True, slots=True, eq=False)
class ObservedView:
    """A frame where it lies in the ring: good for as long as the writer has not come round.

    Attributes:
        seq: Sequence number.
        stamp: Identity and times.
        pixels: (height, width[, channels]) uint8, read-only; keeps the ring's memory mapped.
        pixel_format: Layout of a pixel.
    """

    seq: int
    stamp: FrameStamp
    pixels: Pixels
    pixel_format: PixelFormat
    _begin: memoryview

    @property
    def valid(self) -> bool:
        """Whether all that was read from ``pixels`` until now is of this frame.

        Look after reading, not before: False is final.
        """
        order_memory()
        return bool(self._begin[0] == self.seq + 1)


class RingObserver:
    """Shows the newest frame, or nothing; never a frame of which parts are of another."""

    def __init__(self, memory: RingMemory) -> None:
        self._attached: RingMemory | None = memory
        self._shape: tuple[int, int, PixelFormat] | None = None
        self._views: list[Pixels] = []

    @classmethod
    def attach(cls, handles: RingHandles) -> Self:
        """Look at a ring through its memory handle alone; the handle stays open.

        Raises:
            ProtocolError: No ring, or a damaged one.
            UnknownVersion: A ring of another version of this program.
            MemoryRefused: It cannot be mapped.
        """
        return cls.of_memory(handles.memory)

    @classmethod
    def of_memory(cls, handle: int) -> Self:
        """The same with a handle of the memory, which need not be writable (handover.py)."""
        return cls(RingMemory.attach(handle, Access(header=False, slots=False)))

    @property
    def published(self) -> int:
        """Frames ever published: the newest one's sequence number, and one more.

        Raises:
            ProtocolError: The ring is damaged.
        """
        return self._memory.cursors()[2]

    def latest(self, out: Pixels | None = None, *, after_seq: int = -1) -> ObservedFrame | None:
        """Copy the newest published frame.

        Args:
            out: Where to copy to, if it has the frame's shape; otherwise a new array is made.
            after_seq: Only a frame newer than this one; -1: whatever is newest.

        Returns:
            The frame; None when there is none (newer), or when each of several copies was
            overtaken by the writer: ask again later.

        Raises:
            ProtocolError: The ring is damaged.

        Source: RING.md, "Observer".
        """
        for _ in range(ATTEMPTS):
            view = self.peek(after_seq=after_seq)
            if view is None:
                return None
            frame = _copy(view, out)
            if frame is not None:
                return frame
        return None

    def peek(self, *, after_seq: int = -1) -> ObservedView | None:
        """Show the newest published frame where it lies; ``valid`` tells whether it still does.

        Args:
            after_seq: Only a frame newer than this one; -1: whatever is newest.

        Returns:
            The frame; None when there is none (newer).

        Raises:
            ProtocolError: The ring is damaged.

        Source: RING.md, "Observer".
        """
        memory = self._memory
        for _ in range(ATTEMPTS):
            _, _, published = memory.cursors()
            if published - 1 <= after_seq:
                return None
            view = self._look(memory, published - 1)
            if view is not None:
                return view
        return None

    def copy(self, seq: int) -> ObservedFrame | None:
        """Copy one certain frame; None when it is not there, not yet or not any more."""
        memory = self._memory
        view = self._look(memory, seq) if 0 <= seq < memory.cursors()[2] else None
        return None if view is None else _copy(view, None)

    def statistics(self) -> RingStatistics:
        """Read all figures of the ring.

        Raises:
            ProtocolError: The ring is damaged.
        """
        return self._memory.statistics()

    def close(self) -> None:
        """Let go of the ring; never fails, may be called again."""
        memory, self._attached = self._attached, None
        self._views = []
        if memory is not None:
            memory.close()

    @property
    def _memory(self) -> RingMemory:
        if self._attached is None:
            raise WrongState("This observer of the frame ring is closed.")
        return self._attached

    def _look(self, memory: RingMemory, seq: int) -> ObservedView | None:
        """One slot; None when its numbers show that it is another frame's by now."""
        words, geometry = memory.slot_words, memory.geometry
        order_memory()
        if words[geometry.end_word(seq)] != seq + 1:
            return None
        order_memory()
        described = unpack_slot(memory.slots, geometry.slot_record(seq), geometry.slot_bytes)
        if described is None:
            return None
        stamp, shape = described
        order_memory()
        begin = geometry.begin_word(seq)
        if words[begin] != seq + 1:  # then the record may be of two frames
            return None
        if shape != self._shape:
            self._views = memory.pixel_views(*shape)
            self._shape = shape
        pixels = self._views[seq % geometry.slots]
        return ObservedView(seq, stamp, pixels, shape[2], words[begin : begin + 1])


def _copy(view: ObservedView, out: Pixels | None) -> ObservedFrame | None:
    """Copy a frame; None when the writer came round meanwhile."""
    import numpy as np

    source = view.pixels
    fits = out is not None and out.shape == source.shape and out.dtype == source.dtype
    pixels = out if out is not None and fits else np.empty_like(source)
    np.copyto(pixels, source)
    if not view.valid:
        return None
    return ObservedFrame(view.seq, view.stamp, pixels, view.pixel_format)
