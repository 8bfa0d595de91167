"""What a frame and a lost frame are, for every process: pixel formats, stamps, loss rows.

Nothing here moves or stores anything; RING.md and FORMAT.md say how these values are laid out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum

__all__ = ["FrameFlags", "FrameStamp", "Loss", "LossClass", "PixelFormat", "merge_losses"]


class PixelFormat(StrEnum):
    """Camera-native pixel formats that the ring carries, 8 bits a sample."""

    MONO8 = "mono8"
    BAYER_RG8 = "bayer_rg8"
    BAYER_GR8 = "bayer_gr8"
    BAYER_GB8 = "bayer_gb8"
    BAYER_BG8 = "bayer_bg8"
    BGR8 = "bgr8"
    RGB8 = "rgb8"
    YUV422 = "yuv422"  # UYVY, as GenICam's YUV422_8_UYVY

    @property
    def channels(self) -> int:
        """Bytes per pixel: 1 (mono, Bayer), 2 (UYVY) or 3 (BGR, RGB)."""
        if self in (PixelFormat.BGR8, PixelFormat.RGB8):
            return 3
        return 2 if self is PixelFormat.YUV422 else 1

    def shape(self, width_px: int, height_px: int) -> tuple[int, ...]:
        """Array shape of a frame: (height, width), or (height, width, channels)."""
        plane = (height_px, width_px)
        return plane if self.channels == 1 else (*plane, self.channels)

    def size_bytes(self, width_px: int, height_px: int) -> int:
        """Bytes of one frame."""
        return width_px * height_px * self.channels


class FrameFlags(IntFlag):
    """Flags of a written frame's row (FORMAT.md, fragment table)."""

    NONE = 0
    KEY_FRAME = 1
    PRE_ROLL = 2
    SETTINGS_CHANGED = 4


class LossClass(IntEnum):
    """Why a frame is not in the file; the names are those of the ledger (design: Ledger)."""

    CAMERA_GAP = 1
    INCOMPLETE = 2
    RING_FULL = 3
    ENCODER_LOST = 4
    ENCODE_ERROR = 5
    WRITE_ERROR = 6
    PAUSED = 7

    @property
    def label(self) -> str:
        """The class as written in tables and JSON, e.g. ``camera_gap``."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class FrameStamp:
    """Identity and times of one frame as the camera gave them.

    Attributes:
        epoch: +1 at each opening of the source and each step back of its ids or clock.
        frame_id: The camera's own id.
        camera_ns: Start of exposure on the camera's clock.
        host_ns: ``time.perf_counter_ns()`` at arrival.
        flags: ``FrameFlags``.
    """

    epoch: int
    frame_id: int
    camera_ns: int
    host_ns: int
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """Frames that did not reach the file, ids inclusive.

    Ids are None for a gap whose ids nobody knows (an unplugged camera); it counts no frames.
    """

    loss_class: LossClass
    epoch: int
    first_id: int | None
    last_id: int | None
    first_host_ns: int
    last_host_ns: int

    @classmethod
    def of(cls, stamp: FrameStamp, loss_class: LossClass) -> Loss:
        """The loss of one frame."""
        return cls(
            loss_class,
            stamp.epoch,
            stamp.frame_id,
            stamp.frame_id,
            stamp.host_ns,
            stamp.host_ns,
        )

    @property
    def frames(self) -> int:
        """Number of frames named by this row."""
        if self.first_id is None or self.last_id is None:
            return 0
        return self.last_id - self.first_id + 1

    def joined(self, other: Loss) -> Loss | None:
        """Both as one row; None unless the other's ids follow on this one's, in class and epoch."""
        same = self.loss_class is other.loss_class and self.epoch == other.epoch
        if not same or self.last_id is None or other.first_id != self.last_id + 1:
            return None
        ids = (self.first_id, other.last_id)
        return Loss(self.loss_class, self.epoch, *ids, self.first_host_ns, other.last_host_ns)


def merge_losses(losses: Iterable[Loss]) -> tuple[Loss, ...]:
    """Join rows whose ids follow each other, keeping their order."""
    merged: list[Loss] = []
    for loss in losses:
        joined = merged[-1].joined(loss) if merged else None
        if joined is None:
            merged.append(loss)
        else:
            merged[-1] = joined
    return tuple(merged)
