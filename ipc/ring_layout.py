"""Where everything lies in the ring's memory, and how its records are packed.

Pure arithmetic and struct formats: RING.md, "Layout", in code. Nothing here maps, waits or decides.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import Final

from ipc.errors import ConfigError, ProtocolError, UnknownVersion
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat
from ipc.shared_memory import MAP_GRANULARITY

__all__ = [
    "CAPTURE_CLASSES",
    "COMMITTED",
    "ENDED",
    "EPOCH",
    "FORMAT_OF_CODE",
    "HEADER_PAGE",
    "HIGH_WATER",
    "LOSSES_COMMITTED",
    "LOSSES_LOGGED",
    "PUBLISHED",
    "REASON",
    "REASON_BYTES",
    "REASON_SIZE",
    "RELEASED",
    "Geometry",
    "LoggedLoss",
    "pack_loss",
    "pack_slot",
    "pack_table_entry",
    "unpack_loss",
    "unpack_slot",
    "unpack_table_entry",
]

MAGIC: Final = int.from_bytes(b"SEALRING", "little")
VERSION: Final = 1
PAGE: Final = 4096
HEADER_PAGE: Final = 4096

# 8-byte words of the header page. Each process stores to its own 64-byte lines only.
GEOMETRY: Final = 0  # ten words: see Geometry._values
PUBLISHED: Final = 16  # written by the capture process
EPOCH: Final = 17
HIGH_WATER: Final = 18
ENDED: Final = 19
REASON_SIZE: Final = 20
LOSSES_LOGGED: Final = 24
RELEASED: Final = 32  # written by the encoder process
COMMITTED: Final = 33
LOSSES_COMMITTED: Final = 34
REASON: Final = 512  # bytes: offset and size of the text in the header page
REASON_BYTES: Final = 256

SLOT_HEADER: Final = PAGE  # the pixels begin on a page of their own
SLOT_RECORD: Final = struct.Struct("@8q")  # after the begin number
TABLE_RECORD: Final = struct.Struct("@8q")
LOSS_RECORD: Final = struct.Struct("@16q")

MAX_SLOT_BYTES: Final = 1 << 31
MAX_ENTRIES: Final = 1 << 20
DEFAULT_ENTRIES: Final = 65_536

FORMAT_OF_CODE: Final = {
    1: PixelFormat.MONO8,
    2: PixelFormat.BAYER_RG8,
    3: PixelFormat.BAYER_GR8,
    4: PixelFormat.BAYER_GB8,
    5: PixelFormat.BAYER_BG8,
    6: PixelFormat.BGR8,
    7: PixelFormat.RGB8,
    8: PixelFormat.YUV422,
}
CODE_OF_FORMAT: Final = {pixel_format: code for code, pixel_format in FORMAT_OF_CODE.items()}
CLASS_OF_CODE: Final = {int(loss_class): loss_class for loss_class in LossClass}

# Frames that never entered the ring. All other classes are for frames that did, so that
# offered = published + logged counts each frame once.
CAPTURE_CLASSES: Final = (LossClass.CAMERA_GAP, LossClass.INCOMPLETE, LossClass.RING_FULL)


def _round_up(size: int, step: int) -> int:
    return -(-size // step) * step


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes of a ring, all else follows from them.

    Attributes:
        slots: Frames the ring holds, 2 or more, fewer than ``table_entries``.
        slot_bytes: Largest frame.
        table_entries: Sequence numbers whose ids and times are kept.
        loss_entries: Losses that can wait for the encoder to make them durable.
    """

    slots: int
    slot_bytes: int
    table_entries: int = DEFAULT_ENTRIES
    loss_entries: int = DEFAULT_ENTRIES

    def __post_init__(self) -> None:
        """Refuse sizes that no ring has, whoever names them."""
        if not 2 <= self.slots < self.table_entries <= MAX_ENTRIES:
            raise ConfigError(
                f"A frame ring cannot have {self.slots} slots.",
                hint=f"Take 2 to {min(self.table_entries, MAX_ENTRIES) - 1}.",
            )
        if not 1 <= self.slot_bytes <= MAX_SLOT_BYTES:
            raise ConfigError(
                f"A frame of {self.slot_bytes} bytes does not fit any ring.",
                hint=f"The largest frame has {MAX_SLOT_BYTES} bytes.",
            )
        if not 1 <= self.loss_entries <= MAX_ENTRIES:
            raise ConfigError(f"A loss log cannot have {self.loss_entries} entries.")

    @property
    def stride(self) -> int:
        """Bytes from slot to slot: header page, pixels, end number, in whole pages."""
        return SLOT_HEADER + _round_up(self.slot_bytes + 8, PAGE)

    @property
    def table_offset(self) -> int:
        """Where the table of ids and times begins."""
        return HEADER_PAGE

    @property
    def loss_offset(self) -> int:
        """Where the loss log begins."""
        return self.table_offset + self.table_entries * TABLE_RECORD.size

    @property
    def data_offset(self) -> int:
        """Where the slots begin; everything before is "the header"."""
        end = self.loss_offset + self.loss_entries * LOSS_RECORD.size
        return _round_up(end, MAP_GRANULARITY)

    @property
    def data_bytes(self) -> int:
        """Bytes of all slots."""
        return self.slots * self.stride

    @property
    def total_bytes(self) -> int:
        """Bytes of the whole ring."""
        return self.data_offset + self.data_bytes

    def store(self, words: memoryview) -> None:
        """Write the geometry into an empty header; the magic last, it makes the rest valid."""
        values = self._values()
        for index in range(1, len(values)):
            words[GEOMETRY + index] = values[index]
        words[GEOMETRY] = values[0]

    @classmethod
    def load(cls, words: memoryview, size_bytes: int) -> Geometry:
        """Read and check the geometry of a ring that another process made.

        Args:
            words: At least the header page, as 8-byte words.
            size_bytes: Size of the memory behind it.

        Raises:
            UnknownVersion: A ring of another version of this program.
            ProtocolError: No ring, or one whose sizes contradict each other.
        """
        if words[GEOMETRY] != MAGIC:
            raise ProtocolError("The shared memory handed over is no frame ring.")
        if words[GEOMETRY + 1] != VERSION:
            raise UnknownVersion(
                f"The frame ring has layout version {words[GEOMETRY + 1]}, this program "
                f"knows {VERSION}.",
                hint="Start all processes from the same installation.",
            )
        found = tuple(words[GEOMETRY : GEOMETRY + 10])
        try:
            geometry = cls(found[2], found[3], table_entries=found[4], loss_entries=found[5])
        except ConfigError as error:
            raise ProtocolError(f"The frame ring's header is damaged. {error.message}") from error
        if geometry._values() != found or geometry.total_bytes != size_bytes:
            raise ProtocolError(
                f"The frame ring's header asks for {geometry.total_bytes} bytes, the memory has "
                f"{size_bytes}: it is damaged or cut."
            )
        return geometry

    def _values(self) -> tuple[int, ...]:
        values = (
            *(MAGIC, VERSION, self.slots, self.slot_bytes, self.table_entries, self.loss_entries),
            *(self.stride, self.data_offset, self.total_bytes),
        )
        return (*values, zlib.crc32(struct.pack("<9q", *values)))

    def begin_word(self, seq: int) -> int:
        """Index of a slot's begin number among the 8-byte words of all slots."""
        return seq % self.slots * (self.stride // 8)

    def end_word(self, seq: int) -> int:
        """Index of a slot's end number, the slot's last word."""
        return (seq % self.slots + 1) * (self.stride // 8) - 1

    def slot_record(self, seq: int) -> int:
        """Offset of a slot's record among the bytes of all slots."""
        return seq % self.slots * self.stride + 8

    def table_record(self, seq: int) -> int:
        """Offset of the table entry of a sequence number in the header."""
        return self.table_offset + seq % self.table_entries * TABLE_RECORD.size

    def loss_record(self, index: int) -> int:
        """Offset of a loss log entry in the header."""
        return self.loss_offset + index % self.loss_entries * LOSS_RECORD.size


def pack_slot(
    data: memoryview, offset: int, stamp: FrameStamp, shape: tuple[int, int, PixelFormat]
) -> None:
    """Write a slot's record: stamp, (width_px, height_px, pixel format)."""
    width_px, height_px, pixel_format = shape
    SLOT_RECORD.pack_into(
        data,
        offset,
        stamp.epoch,
        stamp.frame_id,
        stamp.camera_ns,
        stamp.host_ns,
        stamp.flags,
        width_px,
        height_px,
        CODE_OF_FORMAT[pixel_format],
    )


def unpack_slot(
    data: memoryview, offset: int, slot_bytes: int
) -> tuple[FrameStamp, tuple[int, int, PixelFormat]] | None:
    """Read a slot's record; None when it describes no frame that fits the slot."""
    *stamp, width_px, height_px, code = SLOT_RECORD.unpack_from(data, offset)
    pixel_format = FORMAT_OF_CODE.get(code)
    if pixel_format is None or width_px < 1 or height_px < 1:
        return None
    if pixel_format.size_bytes(width_px, height_px) > slot_bytes:
        return None
    return FrameStamp(*stamp), (width_px, height_px, pixel_format)


def pack_table_entry(data: memoryview, offset: int, number: int, stamp: FrameStamp) -> None:
    """Write ids and times of the frame with sequence number ``number - 1``."""
    TABLE_RECORD.pack_into(
        data,
        offset,
        number,
        stamp.epoch,
        stamp.frame_id,
        stamp.camera_ns,
        stamp.host_ns,
        stamp.flags,
        0,
        0,
    )


def unpack_table_entry(data: memoryview, offset: int, number: int) -> FrameStamp | None:
    """Read a table entry; None when it belongs to another sequence number."""
    found, *stamp, _, _ = TABLE_RECORD.unpack_from(data, offset)
    return FrameStamp(*stamp) if found == number else None


@dataclass(frozen=True, slots=True)
class LoggedLoss:
    """One entry of the loss log.

    Attributes:
        loss: What was lost.
        totals: Frames lost so far including this entry, indexed by class; index 0: all classes.
    """

    loss: Loss
    totals: tuple[int, ...]


def pack_loss(data: memoryview, offset: int, number: int, entry: LoggedLoss) -> None:
    """Write the ``number``-th entry of the loss log (the first is 1)."""
    loss = entry.loss
    known = loss.first_id is not None and loss.last_id is not None
    LOSS_RECORD.pack_into(
        data,
        offset,
        number,
        loss.loss_class,
        loss.epoch,
        known,
        loss.first_id if known else 0,
        loss.last_id if known else 0,
        loss.first_host_ns,
        loss.last_host_ns,
        *entry.totals,
    )


def unpack_loss(data: memoryview, offset: int, number: int) -> LoggedLoss:
    """Read the ``number``-th entry of the loss log.

    Raises:
        ProtocolError: It is not there, or holds what no writer writes.
    """
    found, code, epoch, known, first, last, first_ns, last_ns, *totals = LOSS_RECORD.unpack_from(
        data, offset
    )
    loss_class = CLASS_OF_CODE.get(code)
    valid = found == number and known in (0, 1) and first <= last and min(totals) >= 0
    if loss_class is None or not valid:
        raise ProtocolError(f"Entry {number} of the frame ring's loss log is damaged.")
    first_id, last_id = (first, last) if known else (None, None)
    loss = Loss(loss_class, epoch, first_id, last_id, first_ns, last_ns)
    return LoggedLoss(loss, tuple(totals))
