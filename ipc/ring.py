"""The frame ring: shared memory between capture, encoder and previews. Specification: RING.md.

This module holds the owner's part (the supervisor, which maps no pixels) and is where all names of
the ring are imported from.
"""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Self

from ipc.errors import WrongState
from ipc.ring_layout import DEFAULT_ENTRIES, HEADER_PAGE, Geometry
from ipc.ring_memory import Access, RingHandles, RingMemory, RingStatistics
from ipc.ring_observer import ObservedFrame, ObservedView, RingObserver
from ipc.ring_reader import RingFrame, RingReader
from ipc.ring_writer import RingWriter
from ipc.shared_memory import SharedMemory
from ipc.wake_event import WakeEvent

__all__ = [
    "ObservedFrame",
    "ObservedView",
    "Ring",
    "RingFrame",
    "RingHandles",
    "RingObserver",
    "RingReader",
    "RingStatistics",
    "RingWriter",
]


class Ring:
    """Owns the memory and the wake-up events; lives in the supervisor."""

    def __init__(self, memory: SharedMemory, data_ready: WakeEvent, space_ready: WakeEvent) -> None:
        self._shared = memory
        self._data_ready = data_ready
        self._space_ready = space_ready
        self._memory: RingMemory | None = None
        self._handles = RingHandles(memory.handle, data_ready.handle, space_ready.handle)

    @classmethod
    def reserve(cls) -> Self:
        """Create the handles, so that workers can inherit them before the size is known.

        Raises:
            MemoryRefused: The system gives no handles.
        """
        with ExitStack() as undo:
            memory = undo.enter_context(closing(SharedMemory.create()))
            data_ready = undo.enter_context(closing(WakeEvent.create()))
            ring = cls(memory, data_ready, WakeEvent.create())
            undo.pop_all()
        return ring

    @property
    def handles(self) -> RingHandles:
        """What workers inherit and attach to."""
        return self._handles

    def read_only_handle(self) -> int:
        """A handle of the memory for an observer; the caller's. See `SharedMemory`.

        Raises:
            WrongState: The ring has no memory, or no longer.
            MemoryRefused: The system gives no handle.
        """
        if self._memory is None:
            raise WrongState("The frame ring has no memory yet.")
        return self._shared.read_only_handle()

    def allocate(
        self,
        *,
        slots: int,
        slot_bytes: int,
        table_entries: int = DEFAULT_ENTRIES,
        loss_entries: int = DEFAULT_ENTRIES,
    ) -> None:
        """Reserve all memory of the ring now; the size is final.

        Args:
            slots: Frames it holds, 2 or more.
            slot_bytes: Largest frame.
            table_entries: Sequence numbers whose ids and times are kept.
            loss_entries: Losses that can wait for the encoder.

        Raises:
            MemoryRefused: It is not there; names what is needed and what can be had.
            ConfigError: Sizes that no ring has.
            WrongState: The ring has its memory already.
        """
        geometry = Geometry(slots, slot_bytes, table_entries, loss_entries)
        self._shared.allocate(geometry.total_bytes)
        header = self._shared.map(0, HEADER_PAGE, writable=True)
        with header.view() as data, data.cast("q") as words:
            geometry.store(words)
        header.close()
        access = Access(header=False, slots=None)
        self._memory = RingMemory.attach(self._shared.handle, access)

    def statistics(self) -> RingStatistics:
        """Read all figures of the ring.

        Raises:
            WrongState: The ring has no memory, or no longer.
            ProtocolError: The ring is damaged.
        """
        if self._memory is None:
            raise WrongState("The frame ring has no memory yet.")
        return self._memory.statistics()

    def close(self) -> None:
        """Let go of the ring; never fails, may be called again.

        The memory itself ends with the last process that has it mapped or holds a handle.
        """
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()
        self._shared.close()
        self._data_ready.close()
        self._space_ready.close()
