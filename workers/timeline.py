"""From the camera's clock to the file's: one offset per epoch (design: Time). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ipc.frame import FrameStamp

__all__ = ["TICKS_PER_S", "Timeline", "ticks"]

TICKS_PER_S = 90_000
TICK_NS = 11_112  # a whole tick, rounded up


def ticks(nanoseconds: int) -> int:
    """Nanoseconds as 90 kHz ticks, rounded to the nearest."""
    return (nanoseconds * 9 + 50_000) // 100_000


class Timeline:
    """Gives each frame its PTS, counted from the recording's first frame.

    Within an epoch the distance of two frames is what the camera's clock says; between epochs it
    is what the host's clock says. A successor of a dead encoder continues with the same origin
    and offsets, so a frame that both encode gets the same PTS.

    Args:
        host_origin_ns: Arrival of the recording's first frame; None before there is one.
        offsets: ``(epoch, offset_ns)``: media time = camera time + offset.
    """

    def __init__(
        self,
        host_origin_ns: int | None = None,
        offsets: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.host_origin_ns = host_origin_ns
        self._offsets = dict(offsets)
        self._last_pts = -1
        self._last_media_ns = -1

    @property
    def last_pts(self) -> int:
        """PTS of the last frame, -1 before the first."""
        return self._last_pts

    def offset_ns(self, epoch: int) -> int | None:
        """The epoch's offset, None if no frame of it was seen."""
        return self._offsets.get(epoch)

    def pts(self, stamp: FrameStamp) -> int:
        """PTS of a frame in 90 kHz; grows strictly from call to call."""
        offset = self._offsets.get(stamp.epoch)
        if offset is None:
            offset = self._offsets[stamp.epoch] = self._place(stamp)
        media_ns = stamp.camera_ns + offset
        # Two frames within one tick (11 us) cannot share a PTS; a camera never is that fast.
        self._last_pts = max(ticks(media_ns), self._last_pts + 1)
        self._last_media_ns = max(media_ns, self._last_media_ns)
        return self._last_pts

    def _place(self, stamp: FrameStamp) -> int:
        if self.host_origin_ns is None:
            self.host_origin_ns = stamp.host_ns
            return -stamp.camera_ns
        # A whole tick apart: a PTS moved on to grow would be off against the rest of its epoch.
        elapsed_ns = stamp.host_ns - self.host_origin_ns
        return max(elapsed_ns, self._last_media_ns + TICK_NS) - stamp.camera_ns
