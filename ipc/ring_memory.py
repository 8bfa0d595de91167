"""The ring's memory as one process sees it: checked cursors, table, loss log and slots.

Shared by the writer, the reader, the observers and the owner; holds no policy. RING.md says who may
store what.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ipc.errors import ProtocolError, WrongState
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat, merge_losses
from ipc.ring_layout import (
    CAPTURE_CLASSES,
    COMMITTED,
    ENDED,
    EPOCH,
    HEADER_PAGE,
    HIGH_WATER,
    LOSSES_COMMITTED,
    LOSSES_LOGGED,
    PUBLISHED,
    REASON,
    REASON_BYTES,
    REASON_SIZE,
    RELEASED,
    SLOT_HEADER,
    Geometry,
    LoggedLoss,
    unpack_loss,
    unpack_table_entry,
)
from ipc.shared_memory import Mapping, SharedMemory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

__all__ = ["Access", "RingHandles", "RingMemory", "RingStatistics", "coalesce"]


@dataclass(frozen=True, slots=True)
class RingHandles:
    """What a process inherits to take part in a ring: descriptors (Windows: handles)."""

    memory: int
    data_ready: int
    space_ready: int


@dataclass(frozen=True, slots=True)
class RingStatistics:
    """State of a ring at one moment; the figures are read one after another while others move.

    Attributes:
        slots: Frames the ring holds.
        slot_bytes: Largest frame.
        published: Frames ever published; the next sequence number.
        released: The encoder is done with all below.
        committed: All below are durable, or named as lost.
        high_water: Most slots ever occupied (published - released).
        offered: Frames the source offered: published + all logged losses.
        lost: Frames lost before the ring, by class, since the ring was made.
        losses_logged: Entries ever written to the loss log.
        losses_waiting: Those of them that are not durable yet.
        epoch: Number of the last epoch begun, 0 before the first.
        ended: No more frames will come.
        last_host_ns: Arrival of the last published frame, ``time.perf_counter_ns()``; None before.
        crash_cover_frames: How many further frames the death of the encoder can cost nothing.
    """

    slots: int
    slot_bytes: int
    published: int
    released: int
    committed: int
    high_water: int
    offered: int
    lost: dict[LossClass, int]
    losses_logged: int
    losses_waiting: int
    epoch: int
    ended: bool
    last_host_ns: int | None
    crash_cover_frames: int


@dataclass(frozen=True, slots=True)
class Access:
    """What a process may do with the ring's memory.

    Attributes:
        header: May store to cursors, table and log.
        slots: May store to slots; None: the slots are not mapped at all.
    """

    header: bool
    slots: bool | None


class RingMemory:
    """The mapped ring: every number that comes out of it is checked first."""

    def __init__(self, geometry: Geometry, header: Mapping, slots: Mapping | None) -> None:
        self.geometry = geometry
        self._header = header
        self._slots = slots
        self.header = header.view()
        self.words = self.header.cast("q")
        empty = memoryview(b"")
        self.slots = slots.view() if slots else empty
        self.slot_words = self.slots.cast("q") if slots else empty

    @classmethod
    def attach(cls, handle: int, access: Access) -> Self:
        """Map a ring that another process made.

        Raises:
            ProtocolError: No ring, a ring without its memory, or a damaged header.
            UnknownVersion: A ring of another version.
            MemoryRefused: It cannot be mapped.
        """
        memory = SharedMemory.attach(handle)
        size_bytes = memory.size_bytes()
        if size_bytes == 0:
            raise ProtocolError(
                "The frame ring has no memory yet.",
                hint="The supervisor must allocate it before a worker attaches.",
            )
        first = memory.map(0, HEADER_PAGE, writable=False)
        with first.view() as data, data.cast("q") as words:
            geometry = Geometry.load(words, size_bytes)
        first.close()
        header = memory.map(0, geometry.data_offset, writable=access.header)
        if access.slots is None:
            return cls(geometry, header, None)
        slots = memory.map(
            geometry.data_offset,
            geometry.data_bytes,
            writable=access.slots,
            # The writer and the reader touch every slot; an observer only a few.
            populate=access.header,
        )
        return cls(geometry, header, slots)

    def cursors(self) -> tuple[int, int, int]:
        """Load committed, released and published, in this order: then each is <= the next.

        ``committed`` never passes ``released``, not even a later one, nor that ``published``.

        Raises:
            ProtocolError: The cursors contradict each other.
        """
        words = self.words
        committed = words[COMMITTED]
        released = words[RELEASED]
        published = words[PUBLISHED]
        if not 0 <= committed <= released <= published:
            raise ProtocolError(
                f"The frame ring is damaged: committed {committed}, released {released}, "
                f"published {published}."
            )
        return committed, released, published

    def losses_logged(self) -> tuple[int, int]:
        """Load the counts of durable and of logged entries of the loss log.

        Raises:
            ProtocolError: The counts contradict each other.
        """
        durable = self.words[LOSSES_COMMITTED]
        logged = self.words[LOSSES_LOGGED]
        if not 0 <= durable <= logged:
            raise ProtocolError(
                f"The frame ring's loss log is damaged: {logged} logged, {durable} durable."
            )
        return durable, logged

    def loss(self, index: int) -> LoggedLoss:
        """Entry ``index`` of the loss log, counted from 0 since the ring was made."""
        return unpack_loss(self.header, self.geometry.loss_record(index), index + 1)

    def totals(self, logged: int) -> tuple[int, ...]:
        """Frames lost in the first ``logged`` entries: [all, class 1, class 2, ...]."""
        return self.loss(logged - 1).totals if logged else (0,) * (len(LossClass) + 1)

    def stamp_of(self, seq: int) -> FrameStamp | None:
        """Ids and times of a published frame, from the table; None when it is too long ago."""
        if seq < 0:
            return None
        return unpack_table_entry(self.header, self.geometry.table_record(seq), seq + 1)

    @property
    def ended(self) -> str | None:
        """Reason given by ``end_stream``; None while frames may come."""
        if self.words[ENDED] != 1:
            return None
        size = max(0, min(REASON_BYTES, self.words[REASON_SIZE]))
        return bytes(self.header[REASON : REASON + size]).decode("utf-8", errors="replace")

    def pixel_views(self, width_px: int, height_px: int, pixel_format: PixelFormat) -> list[Pixels]:
        """One array per slot, shaped for a frame that fits it; nothing is copied.

        The arrays keep the memory mapped as long as one of them is held, also after ``close()``.
        """
        import numpy as np

        if self._slots is None:
            raise WrongState("The frame ring's slots are not mapped by this process.")
        geometry = self.geometry
        shape = pixel_format.shape(width_px, height_px)
        used = pixel_format.size_bytes(width_px, height_px)
        data = np.frombuffer(self._slots.view(), dtype=np.uint8)
        rows = data.reshape(geometry.slots, geometry.stride)
        return [row[SLOT_HEADER : SLOT_HEADER + used].reshape(shape) for row in rows]

    def statistics(self) -> RingStatistics:
        """Read all figures.

        Raises:
            ProtocolError: They contradict each other.
        """
        committed, released, published = self.cursors()
        durable, logged = self.losses_logged()
        totals = self.totals(logged)
        last = self.stamp_of(published - 1)
        return RingStatistics(
            slots=self.geometry.slots,
            slot_bytes=self.geometry.slot_bytes,
            published=published,
            released=released,
            committed=committed,
            high_water=max(0, min(self.words[HIGH_WATER], self.geometry.slots)),
            offered=published + totals[0],
            lost={loss_class: totals[loss_class] for loss_class in CAPTURE_CLASSES},
            losses_logged=logged,
            losses_waiting=logged - durable,
            epoch=self.words[EPOCH],
            ended=self.ended is not None,
            last_host_ns=last.host_ns if last else None,
            crash_cover_frames=max(0, self.geometry.slots - (published - committed)),
        )

    def close(self) -> None:
        """Let go of the memory; never fails, may be called again."""
        for view in (self.words, self.slot_words, self.header, self.slots):
            view.release()
        self._header.close()
        if self._slots is not None:
            self._slots.close()


def coalesce(loss_class: LossClass, stamps: Iterable[FrameStamp]) -> list[Loss]:
    """Name frames as rows, one for each run of consecutive ids within an epoch.

    Args:
        loss_class: Why they are lost.
        stamps: The frames in the order of their sequence numbers.
    """
    return list(merge_losses(Loss.of(stamp, loss_class) for stamp in stamps))
