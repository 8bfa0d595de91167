"""From a source's frames to the ring: epochs, gaps and every frame that does not get there, named.

The one place where epochs begin and gaps between ids are found, whatever the source. It is not the
ledger: it names losses in the ring's loss log and counts nothing. No thread of its own: the source
calls it.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from ipc.frame import FrameFlags, FrameStamp, Loss, LossClass, PixelFormat
from ipc.ring import RingWriter
from workers.sources.source import SourceInfo

__all__ = ["RingSink"]

BLOCK_SLICE_S = 0.1


class RingSink:
    """Puts a source's frames into the ring and names every one that does not get there.

    Args:
        ring: The ring's writer.
        info: Nominal frame rate, to tell a gap of time from a frame period, and how long a silence
            is a gap of its own.
        policy: ``drop`` refuses a frame when the ring is full, ``block`` waits for room.
        stop: Ends a wait for room; set here once ``max_frames`` have been offered.
        max_frames: End after so many frames, lost ones counted; None: no limit.

    Attributes:
        limit_reached: ``max_frames`` have been offered.
        signs: Grows with every sign of the source's life: a frame, or its wait for room.
    """

    def __init__(
        self,
        ring: RingWriter,
        info: SourceInfo,
        *,
        policy: str,
        stop: threading.Event,
        max_frames: int | None = None,
    ) -> None:
        self._ring = ring
        self._expect(info)
        self._block = policy == "block"
        self._stop = stop
        self._left = max_frames
        self.limit_reached = False
        self.signs = 0
        self._epoch: int | None = None
        self._last_id = -1
        self._last_camera_ns = -1
        self._last_host_ns = 0
        self._changes = self._changes_told = self._changes_in_hand = 0

    def settings_changed(self, info: SourceInfo) -> None:
        """The camera was given other settings: the next frame in the ring says so.

        Args:
            info: What it delivers from now on.
        """
        self._expect(info)
        self._changes += 1

    def _expect(self, info: SourceInfo) -> None:
        self._period_ns = int(1e9 / info.rate_hz)
        limit_s = info.silence_limit_s
        self._silence_ns = None if limit_s is None else int(limit_s * 1e9)

    def acquire(
        self,
        frame_id: int,
        camera_ns: int,
        *,
        width_px: int,
        height_px: int,
        pixel_format: PixelFormat,
    ) -> npt.NDArray[Any] | None:
        """See `workers.sources.source.FrameSink.acquire`."""
        if self.limit_reached:
            return None
        stamp = self._arrive(frame_id, camera_ns)
        self._changes_in_hand = self._changes
        if self._changes_in_hand != self._changes_told:
            stamp = replace(stamp, flags=stamp.flags | FrameFlags.SETTINGS_CHANGED)
        view = None
        while view is None:
            view = self._ring.acquire(
                stamp,
                width_px=width_px,
                height_px=height_px,
                pixel_format=pixel_format,
                timeout_s=BLOCK_SLICE_S if self._block else 0,
            )
            self.signs += 1
            if view is None and (not self._block or self._stop.is_set()):
                self._lose(LossClass.RING_FULL, stamp)
                self._offered(1)
                return None
        return view

    def publish(self) -> None:
        """See `workers.sources.source.FrameSink.publish`."""
        self._ring.publish()
        self._changes_told = self._changes_in_hand
        self._offered(1)

    def incomplete(self, frame_id: int, camera_ns: int) -> None:
        """See `workers.sources.source.FrameSink.incomplete`."""
        if not self.limit_reached:
            self._lose(LossClass.INCOMPLETE, self._arrive(frame_id, camera_ns))
            self._offered(1)

    def missed(self, first_id: int, last_id: int) -> None:
        """See `workers.sources.source.FrameSink.missed`."""
        now = time.perf_counter_ns()
        if self._epoch is None:
            self._begin_epoch(now, self._last_camera_ns)
        self._gap(first_id, last_id, self._last_host_ns or now, now)
        self._last_id, self._last_host_ns = last_id, now

    def _arrive(self, frame_id: int, camera_ns: int) -> FrameStamp:
        """Begin an epoch where ids or clock step back, and name what was skipped before."""
        now = time.perf_counter_ns()
        self.signs += 1
        if self._epoch is None or frame_id <= self._last_id:
            self._begin_epoch(now, camera_ns)
        elif camera_ns <= self._last_camera_ns:
            self._epoch = self._ring.begin_epoch()  # the ids go on, so a gap in them is still known
        elif self._was_silent(frame_id, camera_ns):
            self._gap_of_time(self._last_host_ns, now)
        if 0 <= self._last_id < frame_id - 1:
            self._gap(self._last_id + 1, frame_id - 1, self._last_host_ns, now)
        self._last_id, self._last_camera_ns, self._last_host_ns = frame_id, camera_ns, now
        assert self._epoch is not None
        return FrameStamp(self._epoch, frame_id, camera_ns, now)

    def _was_silent(self, frame_id: int, camera_ns: int) -> bool:
        """Whether the camera took no frame for too long; skipped ids tell that by themselves.

        Its own clock decides: frames that only arrive late are no gap.
        """
        if self._silence_ns is None or frame_id != self._last_id + 1:
            return False
        return camera_ns - self._last_camera_ns > self._silence_ns

    def _begin_epoch(self, now: int, camera_ns: int) -> None:
        """Begin an epoch with new ids; what passed since the last frame is a gap of unknown ids."""
        last = self._ring.last_stamp
        clock_goes_on = self._epoch is not None and camera_ns > self._last_camera_ns
        self._epoch = self._ring.begin_epoch()
        if last is not None:
            # A frame may arrive late; only a clock that began anew cannot tell when it was taken.
            passed = camera_ns - self._last_camera_ns if clock_goes_on else now - last.host_ns
            if passed > 2 * self._period_ns:
                self._gap_of_time(last.host_ns, now)
        self._last_id = self._last_camera_ns = -1

    def _gap_of_time(self, since_ns: int, now: int) -> None:
        assert self._epoch is not None
        self._ring.record_loss(Loss(LossClass.CAMERA_GAP, self._epoch, None, None, since_ns, now))

    def _gap(self, first_id: int, last_id: int, since_ns: int, now: int) -> None:
        assert self._epoch is not None
        self._ring.record_loss(
            Loss(LossClass.CAMERA_GAP, self._epoch, first_id, last_id, since_ns, now)
        )
        self._offered(last_id - first_id + 1)

    def _lose(self, loss_class: LossClass, stamp: FrameStamp) -> None:
        self._ring.record_loss(Loss.of(stamp, loss_class))

    def _offered(self, frames: int) -> None:
        if self._left is not None:
            self._left -= frames
            if self._left <= 0:
                self.limit_reached = True
                self._stop.set()
