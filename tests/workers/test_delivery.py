"""From a camera's frame callback to the sink: ids, times, damaged frames, buffers that go back."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ipc.errors import CameraError
from ipc.frame import PixelFormat
from tests.workers.memory_sink import MemorySink
from workers.sources.delivery import FrameHandler
from workers.sources.source import SourceInfo

INFO = SourceInfo(width_px=32, height_px=16, pixel_format=PixelFormat.MONO8, rate_hz=100.0)


class CameraGone(Exception):
    """Stands for what the SDK raises."""


@dataclass
class Frame:
    """A frame with the methods that the handler uses of vmbpy's."""

    frame_id: int | None
    ticks: int | None = 0
    status: str = "Complete"
    pixel_format: str = "Mono8"
    size: tuple[int | None, int | None] = (None, None)

    def get_id(self) -> int | None:
        return self.frame_id

    def get_timestamp(self) -> int | None:
        return self.ticks

    def get_status(self) -> Any:
        return SimpleNamespace(name=self.status)

    def get_pixel_format(self) -> Any:
        return SimpleNamespace(name=self.pixel_format)

    def get_width(self) -> int | None:
        return self.size[0]

    def get_height(self) -> int | None:
        return self.size[1]

    def pixels(self) -> Any:
        width, height = self.size[0] or 32, self.size[1] or 16
        channels = {"Bgr8": 3, "Rgb8": 3, "Yuv422": 2}.get(self.pixel_format, 1)
        count = width * height * channels
        return (np.arange(count) % 251).astype(np.uint8).reshape(height, width, channels)

    def as_numpy_ndarray(self) -> Any:
        assert self.pixel_format != "Yuv422", "vmbpy makes no array of it"
        return self.pixels()

    def get_buffer(self) -> Any:
        return self.pixels().tobytes() + b"chunk data behind the picture"


@dataclass
class Stream:
    """Takes buffers back, or is gone."""

    gone: bool = False
    queued: list[Frame] = field(default_factory=list)

    def queue_frame(self, frame: Frame) -> None:
        self.queued.append(frame)
        if self.gone:
            raise CameraGone


def deliver(
    frames: list[Frame], sink: MemorySink, *, limit: int | None = None, stream: Stream | None = None
) -> FrameHandler:
    """Call a handler with each frame, as the SDK would."""
    handler = FrameHandler(sink, threading.Event(), INFO, (CameraGone,))
    handler.limit, handler.ticks_hz = limit, 1_000_000
    stream = stream or Stream()
    for frame in frames:
        handler.on_frame(None, stream, frame)
    assert stream.queued == frames  # every buffer went back, each once
    return handler


def test_ids_times_and_pixels_are_the_cameras() -> None:
    """The camera's own ids, its ticks as nanoseconds, and a copy of its picture."""
    sink = MemorySink()
    handler = deliver([Frame(7, ticks=100), Frame(8, ticks=110), Frame(10, ticks=130)], sink)
    assert sink.ids == [7, 8, 10]
    assert sink.gaps == [9]
    assert [frame.camera_ns for frame in sink.frames] == [100_000, 110_000, 130_000]
    assert (sink.frames[0].pixels == Frame(7).pixels()[..., 0]).all()
    assert handler.statistics().published == 3
    assert handler.statistics().missed == 1


@pytest.mark.parametrize(
    ("name", "pixel_format"),
    [
        ("Mono8", PixelFormat.MONO8),
        ("BayerGB8", PixelFormat.BAYER_GB8),
        ("Bgr8", PixelFormat.BGR8),
        ("Rgb8", PixelFormat.RGB8),
        ("Yuv422", PixelFormat.YUV422),
    ],
)
def test_the_frame_tells_its_own_size_and_format(name: str, pixel_format: PixelFormat) -> None:
    """A frame that differs from what was opened is delivered as what it is."""
    sink = MemorySink()
    frame = Frame(0, pixel_format=name, size=(40, 20))
    assert deliver([frame], sink).failure is None
    assert sink.frames[0].pixels.shape == pixel_format.shape(40, 20)
    assert sink.frames[0].pixels.tobytes() == frame.pixels().tobytes()


@pytest.mark.parametrize("status", ["Incomplete", "TooSmall", "Invalid"])
def test_damaged_frames_are_reported_never_published(status: str) -> None:
    """Their time stamps, perhaps damaged too, never step back nor push the next frame's back."""
    sink = MemorySink()
    times: list[int] = []
    keep = sink.incomplete
    sink.incomplete = lambda frame_id, ns: (times.append(ns), keep(frame_id, ns))[1]  # type: ignore[method-assign]
    frames = [
        Frame(0, ticks=100),
        Frame(1, ticks=0, status=status),
        Frame(2, ticks=10**9, status=status),
        Frame(3, ticks=130),
    ]
    handler = deliver(frames, sink)
    assert sink.ids == [0, 3]
    assert sink.damaged == [1, 2]
    assert 100_000 < times[0] < times[1] < 130_000
    assert handler.statistics().incomplete == 2


@pytest.mark.parametrize("gap", [0, 2, 50])
def test_the_limit_counts_ids_and_is_exact(gap: int) -> None:
    """Ten ids are offered, whether or not the camera skipped some on the way or at the end."""
    sink = MemorySink()
    frames = [Frame(n if n < 105 else n + gap, ticks=n) for n in range(100, 170)]
    handler = deliver(frames, sink, limit=10)
    assert handler.reason == "limit"
    assert handler.wait_finished(0)
    assert sink.offered_ids == list(range(100, 110))
    assert handler.statistics().missed == len(sink.gaps) + len(sink.reported) == min(gap, 5)


def test_a_refused_frame_goes_back_as_well() -> None:
    """No room in the sink: the buffer is given back and the next frame is taken."""
    sink = MemorySink(refuse=frozenset({1}))
    handler = deliver([Frame(n, ticks=n + 1) for n in range(3)], sink)
    assert sink.ids == [0, 2]
    assert handler.statistics().refused == 1


def test_an_error_in_the_sink_is_kept_and_nothing_is_raised_into_the_sdk() -> None:
    """The buffer goes back, no more is taken, and the error waits for the run to raise it."""

    def fail(frame_id: int) -> None:
        if frame_id == 1:
            raise ValueError("no room for such a frame")

    sink = MemorySink(on_acquire=fail)
    handler = deliver([Frame(n, ticks=n + 1) for n in range(4)], sink)
    assert isinstance(handler.failure, ValueError)
    assert handler.wait_finished(0)
    assert sink.ids == [0]


def test_a_format_that_cannot_be_recorded_is_an_error() -> None:
    """The message names it."""
    handler = deliver([Frame(0, pixel_format="Mono12")], MemorySink())
    assert isinstance(handler.failure, CameraError)
    assert "Mono12" in str(handler.failure)


def test_a_camera_that_is_gone_does_not_get_its_buffers_back() -> None:
    """What the SDK raises at a buffer given back is no failure of the frame."""
    sink = MemorySink()
    handler = deliver([Frame(0, ticks=1)], sink, stream=Stream(gone=True))
    assert handler.failure is None
    assert sink.ids == [0]


def test_a_clock_that_begins_again_at_zero_is_a_time() -> None:
    """Zero is the time of the first frame after, not the lack of one."""
    sink = MemorySink()
    deliver([Frame(0, ticks=500), Frame(1, ticks=0), Frame(2, ticks=10)], sink)
    assert [frame.camera_ns for frame in sink.frames] == [500_000, 0, 10_000]


@pytest.mark.parametrize("ticks", [None, 0])
def test_without_ids_or_time_stamps_it_counts_itself(ticks: int | None) -> None:
    """A camera that sends neither gets ids from 0 and the host's growing time."""
    sink = MemorySink()
    deliver([Frame(None, ticks=ticks) for _ in range(3)], sink)
    assert sink.ids == [0, 1, 2]
    times = [frame.camera_ns for frame in sink.frames]
    assert 0 < times[0] < times[1] < times[2]


def test_after_the_end_nothing_is_taken() -> None:
    """Frames that arrive while the stream is being stopped only go back."""
    sink = MemorySink()
    handler = FrameHandler(sink, threading.Event(), INFO, (CameraGone,))
    stream = Stream()
    handler.on_frame(None, stream, Frame(0, ticks=1))
    handler.end()
    handler.on_frame(None, stream, Frame(1, ticks=2))
    assert sink.ids == [0]
    assert len(stream.queued) == 2
