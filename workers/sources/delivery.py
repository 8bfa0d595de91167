"""From a camera SDK's frame callback to the sink: ids, times, damaged frames, one copy.

It works on vmbpy's frames but imports no SDK, so that it can be tried with any object that has
their methods. It runs in the SDK's thread; `end` makes sure that none of it is still running.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from ipc.errors import CameraError
from ipc.frame import PixelFormat
from workers.sources.source import FrameSink, Pixels, SourceInfo, SourceStatistics

__all__ = ["FrameHandler"]

NS = 1_000_000_000

# Pixel formats as a delivered frame names them (members of vmbpy.PixelFormat).
FRAME_FORMATS = {
    "Mono8": PixelFormat.MONO8,
    "BayerRG8": PixelFormat.BAYER_RG8,
    "BayerGR8": PixelFormat.BAYER_GR8,
    "BayerGB8": PixelFormat.BAYER_GB8,
    "BayerBG8": PixelFormat.BAYER_BG8,
    "Bgr8": PixelFormat.BGR8,
    "Rgb8": PixelFormat.RGB8,
    "Yuv422": PixelFormat.YUV422,
    "YCbCr422_8_CbYCrY": PixelFormat.YUV422,
}


class FrameHandler:
    """Takes frames from the SDK's thread; after `finish` it takes no more.

    Args:
        sink: Where the frames go.
        stop: Set from outside: take no more.
        info: Size that holds where a frame does not tell its own.
        errors: What the SDK raises when a buffer can no longer be given back.

    Attributes:
        limit: Finish after this many ids; None: never.
        ticks_hz: Ticks of the camera's time stamps in a second.
        reason: Why it finished.
        failure: What went wrong inside the SDK's call, for `VimbaSource.run` to raise.
    """

    def __init__(
        self,
        sink: FrameSink,
        stop: threading.Event,
        info: SourceInfo,
        errors: tuple[type[Exception], ...],
    ) -> None:
        self.limit: int | None = None
        self.ticks_hz = NS
        self.reason = ""
        self.failure: Exception | None = None
        self._errors = errors
        self._sink = sink
        self._stop = stop
        self._info = info
        self._finished = threading.Event()
        self._delivery = threading.Lock()
        self._first_id: int | None = None
        self._last_id = -1
        self._last_ns = -1
        self._has_times = False
        self._heard = time.perf_counter()
        self._queue_frame: Callable[[Any, Any], None] | None = None
        self._published = self._refused = self._missed = self._incomplete = 0

    def on_frame(self, camera: Any, stream: Any, frame: Any) -> None:
        """Take one frame, in the SDK's thread.

        The buffer goes back whatever happens: a stream starves after as many losses as buffers.
        """
        try:
            with self._delivery:
                if not self._finished.is_set() and not self._stop.is_set():
                    self._take(frame)
        except Exception as error:  # noqa: BLE001 - nothing may unwind into C; run raises it
            self.failure = error
            self.finish("source_error")
        finally:
            with suppress(*self._errors):  # the camera is gone or the stream is being stopped
                self._queue(stream, frame)

    def _queue(self, stream: Any, frame: Any) -> None:
        """Give the buffer back, without the checks of its arguments' types.

        vmbpy wraps the method in them; they take 0.22 ms of every frame, the call itself 0.1 ms.
        """
        if self._queue_frame is None:
            self._queue_frame = inspect.unwrap(type(stream).queue_frame)
        self._queue_frame(stream, frame)

    def finish(self, reason: str) -> None:
        """Take no more frames; the first reason counts."""
        self.reason = self.reason or reason
        self._finished.set()

    def end(self) -> None:
        """Return when no frame is being delivered and none will be."""
        self._finished.set()
        with self._delivery:
            pass

    def wait_finished(self, timeout_s: float) -> bool:
        """Wait for `finish`."""
        return self._finished.wait(timeout_s)

    def silent_s(self) -> float:
        """Seconds since the last frame; 0 while one is being taken, however long that lasts."""
        return 0.0 if self._delivery.locked() else time.perf_counter() - self._heard

    def statistics(self) -> SourceStatistics:
        """Counts so far."""
        return SourceStatistics(
            published=self._published,
            refused=self._refused,
            missed=self._missed,
            incomplete=self._incomplete,
        )

    def _take(self, frame: Any) -> None:
        self._heard = time.perf_counter()
        frame_id = frame.get_id()
        if frame_id is None:
            frame_id = self._last_id + 1
        if self._first_id is None:
            self._first_id = frame_id
        elif frame_id > self._last_id + 1:
            self._skip(frame_id)
        if self._finished.is_set():
            return
        if frame.get_status().name == "Complete":
            self._last_ns = self._camera_ns(frame)
            self._publish(frame, frame_id, self._last_ns)
        else:  # its time stamp may be as damaged as its picture, and must not step back
            self._last_ns = self._camera_ns(frame) if self._last_ns < 0 else self._last_ns + 1
            self._incomplete += 1
            self._sink.incomplete(frame_id, self._last_ns)
        self._last_id = frame_id
        if self.limit is not None and frame_id - self._first_id + 1 >= self.limit:
            self.finish("limit")

    def _skip(self, frame_id: int) -> None:
        """The camera skipped ids; those beyond the limit were not asked for."""
        assert self._first_id is not None  # set by _take
        last_missed = frame_id - 1
        if self.limit is not None and frame_id >= self._first_id + self.limit:
            last_missed = self._first_id + self.limit - 1
            self._sink.missed(self._last_id + 1, last_missed)
            self.finish("limit")
        self._missed += last_missed - self._last_id

    def _publish(self, frame: Any, frame_id: int, camera_ns: int) -> None:
        info = self._info
        width_px = frame.get_width() or info.width_px
        height_px = frame.get_height() or info.height_px
        name = frame.get_pixel_format().name
        pixel_format = FRAME_FORMATS.get(name)
        if pixel_format is None:
            raise CameraError(f"The camera sends {name}, which cannot be recorded.")
        view = self._sink.acquire(
            frame_id,
            camera_ns,
            width_px=width_px,
            height_px=height_px,
            pixel_format=pixel_format,
        )
        if view is None:
            self._refused += 1
            return
        view[:] = _image(frame, pixel_format, view.size).reshape(view.shape)
        self._sink.publish()
        self._published += 1

    def _camera_ns(self, frame: Any) -> int:
        ticks = frame.get_timestamp()
        # Zero is what a camera without a clock sends, and what a restarted clock begins with.
        if ticks is None or not (ticks or self._has_times):
            return time.perf_counter_ns()
        self._has_times = True
        return int(ticks) * NS // self.ticks_hz


def _image(frame: Any, pixel_format: PixelFormat, size_bytes: int) -> Pixels:
    """The frame's pixels without a copy, valid until the frame is queued again."""
    if pixel_format is PixelFormat.YUV422:  # vmbpy makes no array of it
        return np.frombuffer(frame.get_buffer(), np.uint8, size_bytes)
    return np.asarray(frame.as_numpy_ndarray(), np.uint8)
