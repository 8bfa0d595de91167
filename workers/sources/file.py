"""A video file as a camera: its frames, its own times, ids 0, 1, 2, ...

Colour: a clip's matrix and range tags are honoured; an untagged clip is taken as BT.601, limited
range, whatever its size, as FFmpeg does. Recordings are BT.601 limited too, so the yuv420p samples
of an untagged clip come through the recording unchanged but for coding loss, and its RGB as FFmpeg
shows it. (A player that guesses BT.709 for untagged HD shows the clip itself differently.)
Times: exactly the clip's, counted from its first frame; a rate asked for is not applied to them.
Rotation tags are ignored; the frame is what was coded. Only the first video stream is used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

from ipc.errors import ConfigError, WrongState
from ipc.frame import PixelFormat
from workers.sources.picture import from_bgr
from workers.sources.source import (
    FrameSink,
    Pixels,
    SourceInfo,
    SourceSpec,
    SourceStatistics,
    refuse_odd_width,
    wait_until,
)

__all__ = ["FileSource"]

NS = 1_000_000_000
DEFAULT_RATE_HZ = Fraction(25)  # a raw stream without times
# A clip that ends this much before its declared length is broken, not finished.
SHORTFALL_S = 1.0
# AVColorSpace: unspecified, BT.470BG and SMPTE 170M, that is BT.601; AVColorRange: full.
BT601_SPACES = (2, 5, 6)
FULL_RANGE = 2


class FileSource:
    """Plays a video file once, paced by its own times or as fast as the sink takes it.

    Args:
        spec: ``file:PATH``; size (default the clip's; one side alone keeps the aspect), pixel
            format (bgr8), limit, pace.
    """

    def __init__(self, spec: SourceSpec) -> None:
        self._spec = spec
        self._path = Path(spec.target)
        self._container: InputContainer | None = None
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._info: SourceInfo | None = None
        self._rate = DEFAULT_RATE_HZ
        self._declared_s: float | None = None
        self._first_pts = 0
        self._scaler = VideoReformatter()
        self._published = self._refused = self._incomplete = self._max_late_ns = 0

    def open(self) -> SourceInfo:
        """Open the clip and decode its first frame.

        Raises:
            ConfigError: There is no such file, it holds no video that can be decoded, or the size
                does not fit the pixel format.
        """
        self.close()
        if not self._path.is_file():
            raise ConfigError(f"There is no video file {self._path}.")
        try:
            self._container = av.open(str(self._path.resolve()), metadata_errors="replace")
            stream = self._first_video_stream(self._container)
            decoded = self._container.decode(stream)
            first = next(decoded)
        except (av.FFmpegError, StopIteration, OSError, ValueError) as error:
            self.close()
            why = getattr(error, "strerror", None) or str(error) or "no frame can be decoded"
            why = " ".join(why.split())
            raise ConfigError(
                f"{self._path.name} is no video that can be read: {why}.",
                hint="Nothing was recorded; check the file with a player.",
            ) from error
        self._frames = chain([first], decoded)
        self._rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE_HZ
        self._declared_s = _declared_length_s(self._container, stream)
        self._first_pts = first.pts or 0
        self._published = self._refused = self._incomplete = self._max_late_ns = 0
        self._info = self._describe(first, stream)
        return self._info

    def run(self, sink: FrameSink, stop: threading.Event) -> str:
        """Deliver the clip until its end, the limit or the stop.

        Returns:
            ``end``, ``limit``, ``stopped``, or ``source_error: ...`` for a clip that breaks off.

        Raises:
            WrongState: The source is not open.
        """
        if self._info is None:
            raise WrongState("The file source is not open.")
        start_ns = time.perf_counter_ns()
        frame_id = camera_ns = 0
        try:
            for frame in self._frames:
                if stop.is_set():
                    return "stopped"
                camera_ns = self._camera_ns(frame, frame_id)
                if self._spec.realtime and not self._wait(start_ns + camera_ns, stop):
                    return "stopped"
                self._deliver(sink, frame, frame_id, camera_ns)
                frame_id += 1
                if frame_id == self._spec.frames:
                    return "limit"
        except av.FFmpegError as error:
            return f"source_error: {self._path.name} breaks off after {frame_id} frames: {error}"
        return self._end_reason(camera_ns / NS)

    def statistics(self) -> SourceStatistics:
        """Counts since the source was opened."""
        return SourceStatistics(
            published=self._published,
            refused=self._refused,
            incomplete=self._incomplete,
            max_late_ns=self._max_late_ns,
        )

    def close(self) -> None:
        """Close the file."""
        self._frames = iter(())
        self._info = None
        if self._container is not None:
            self._container.close()
            self._container = None

    def _first_video_stream(self, container: InputContainer) -> VideoStream:
        if not container.streams.video:
            raise ValueError("it has no video stream")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        return stream

    def _describe(self, first: av.VideoFrame, stream: VideoStream) -> SourceInfo:
        width, height = self._spec.width, self._spec.height
        if width is None:
            width = max(1, round(first.width * height / first.height)) if height else first.width
        if height is None:
            height = max(1, round(first.height * width / first.width))
        pixel_format = self._spec.pixel_format or PixelFormat.BGR8
        refuse_odd_width(width, pixel_format)
        untagged = first.colorspace == BT601_SPACES[0]
        return SourceInfo(
            width_px=width,
            height_px=height,
            pixel_format=pixel_format,
            rate_hz=float(self._rate),
            camera={
                "model": "file",
                "file": self._path.name,
                "codec": stream.codec_context.name,
                "coded_size": f"{first.width}x{first.height}",
                "coded_format": first.format.name,
                "colour": "untagged, taken as BT.601" if untagged else "as tagged",
            },
            clock="the file's own times, ns from its first frame",
        )

    def _end_reason(self, length_s: float) -> str:
        declared_s = self._declared_s
        if declared_s is None or length_s >= declared_s - SHORTFALL_S:
            return "end"
        return f"source_error: {self._path.name} ends at {length_s:.1f} s of {declared_s:.1f} s"

    def _camera_ns(self, frame: av.VideoFrame, frame_id: int) -> int:
        if frame.pts is None or frame.time_base is None:  # a raw stream has no times of its own
            return round(frame_id * NS / self._rate)
        return max(0, round((frame.pts - self._first_pts) * frame.time_base * NS))

    def _wait(self, due_ns: int, stop: threading.Event) -> bool:
        in_time = wait_until(due_ns, stop)
        self._max_late_ns = max(self._max_late_ns, time.perf_counter_ns() - due_ns)
        return in_time

    def _deliver(
        self, sink: FrameSink, frame: av.VideoFrame, frame_id: int, camera_ns: int
    ) -> None:
        info = self._info
        assert info is not None  # checked by run
        if frame.is_corrupt:
            self._incomplete += 1
            sink.incomplete(frame_id, camera_ns)
            return
        bgr = self._to_bgr(frame, (info.width_px, info.height_px))
        view = sink.acquire(
            frame_id,
            camera_ns,
            width_px=info.width_px,
            height_px=info.height_px,
            pixel_format=info.pixel_format,
        )
        if view is None:
            self._refused += 1
            return
        from_bgr(bgr, info.pixel_format, view)
        sink.publish()
        self._published += 1

    def _to_bgr(self, frame: av.VideoFrame, size_px: tuple[int, int]) -> Pixels:
        """Convert to BGR, then scale if the size differs (a clip may change it on its way)."""
        plain = frame.format.name == "yuv420p" and not (frame.width % 2 or frame.height % 2)
        if plain and frame.colorspace in BT601_SPACES and frame.color_range != FULL_RANGE:
            # The exact inverse of the recording's own conversion, and 5 times as fast.
            planes = frame.to_ndarray(format="yuv420p")
            bgr = np.asarray(cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420), np.uint8)
        else:
            bgr = self._by_swscale(frame)
        if size_px == (frame.width, frame.height):
            return bgr
        smaller = size_px[0] * size_px[1] < frame.width * frame.height
        method = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
        return np.asarray(cv2.resize(bgr, size_px, interpolation=method), np.uint8)

    def _by_swscale(self, frame: av.VideoFrame) -> Pixels:
        # Without these flags swscale's result is 1 to 1.5 levels too dark on average.
        exact = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        picture = self._scaler.reformat(frame, format="bgr24", interpolation=exact)
        return np.asarray(picture.to_ndarray(), np.uint8)


def _declared_length_s(container: InputContainer, stream: VideoStream) -> float | None:
    """Length by the file's own word; None where it says nothing about this stream."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / av.time_base
    return None
