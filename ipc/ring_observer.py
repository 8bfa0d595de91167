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

__all__ = ["ObservedFrame", "RingObserver"]

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


class RingObserver:
    """Copies the newest frame, or nothing; never a frame of which parts are of another."""

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
        return cls(RingMemory.attach(handles.memory, Access(header=False, slots=False)))

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
        memory = self._memory
        for _ in range(ATTEMPTS):
            _, _, published = memory.cursors()
            if published - 1 <= after_seq:
                return None
            frame = self._copy(memory, published - 1, out)
            if frame is not None:
                return frame
        return None

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

    def _copy(self, memory: RingMemory, seq: int, out: Pixels | None) -> ObservedFrame | None:
        """Copy one slot; None when its numbers show that it was not this frame all the time."""
        import numpy as np

        words, geometry = memory.slot_words, memory.geometry
        order_memory()
        if words[geometry.end_word(seq)] != seq + 1:
            return None
        order_memory()
        described = unpack_slot(memory.slots, geometry.slot_record(seq), geometry.slot_bytes)
        if described is None:
            return None
        stamp, shape = described
        if shape != self._shape:
            self._views = memory.pixel_views(*shape)
            self._shape = shape
        source = self._views[seq % geometry.slots]
        fits = out is not None and out.shape == source.shape and out.dtype == source.dtype
        pixels = out if out is not None and fits else np.empty_like(source)
        np.copyto(pixels, source)
        order_memory()
        if words[geometry.begin_word(seq)] != seq + 1:
            return None
        return ObservedFrame(seq, stamp, pixels, shape[2])
