"""The synthetic camera: its picture, its pace, its clock, and the frames it loses when late."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import barcode
from ipc.errors import ConfigError
from ipc.frame import PixelFormat
from tests.workers.memory_sink import MemorySink, play
from workers.sources import picture
from workers.sources.source import SourceSpec, frame_buffers, open_source
from workers.sources.synthetic import SyntheticSource

SMALL = SourceSpec("synthetic", width=256, height=160, rate_hz=200.0, frames=12, realtime=False)
BAYER = sorted(picture.MOSAIC)


def luma_of(pixels: Any, pixel_format: PixelFormat) -> Any:
    """Luma plane of a frame, full range."""
    if pixel_format is PixelFormat.BGR8:
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)
    if pixel_format is PixelFormat.RGB8:
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return pixels[..., 1] if pixel_format is PixelFormat.YUV422 else pixels


# --- the picture


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_every_frame_carries_its_id(pixel_format: PixelFormat) -> None:
    """The barcode of each frame is its id, in every pixel format."""
    sink, _, _ = play(replace(SMALL, pixel_format=pixel_format))
    read = [barcode.read(luma_of(frame.pixels, pixel_format)) for frame in sink.frames]
    assert read == list(range(12))


@pytest.mark.parametrize(
    "pixel_format", [PixelFormat.MONO8, PixelFormat.BAYER_GB8, PixelFormat.RGB8]
)
def test_odd_sizes_are_whole_frames(pixel_format: PixelFormat) -> None:
    """1457x1089 as some cameras have: the last row and column are picture, not left-overs."""
    spec = SourceSpec(
        "synthetic", width=1457, height=1089, pixel_format=pixel_format, frames=2, realtime=False
    )
    sink, reason, _ = play(spec)
    assert reason == "limit"
    for frame in sink.frames:
        assert frame.pixels.shape == pixel_format.shape(1457, 1089)
        assert frame.pixels[-1].std() > 0.5  # the sink's slots are filled with one value
        assert frame.pixels[:, -1].std() > 0.5


def test_same_seed_same_frames() -> None:
    """Pictures and clock origin follow from the seed alone."""

    def frames_of(seed: int) -> list[tuple[int, bytes]]:
        source = SyntheticSource(SMALL, seed=seed)
        source.open()
        sink = MemorySink()
        source.run(sink, threading.Event())
        return [(frame.camera_ns, frame.pixels.tobytes()) for frame in sink.frames]

    first, again, other = frames_of(5), frames_of(5), frames_of(6)
    assert first == again
    assert first[0][0] != other[0][0]
    assert first[0][1] != other[0][1]


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BAYER_RG8, "bgr8"])
def test_noise_is_that_of_a_sensor(pixel_format: PixelFormat) -> None:
    """Sigma 2 to 3.5 levels, more in the light than in the dark, new in every canvas."""
    scenery = picture.render_scenery(640, 480, PixelFormat(pixel_format), seed=2)
    first, second, third = (canvas.astype(np.float64) for canvas in scenery.canvases[:3])
    noise, other = (first - second) / np.sqrt(2), (second - third) / np.sqrt(2)
    assert 2.0 < noise.std() < 3.5
    # Two differences that share one exposure correlate by -0.5 if the exposures are independent.
    assert np.corrcoef(noise.ravel(), other.ravel())[0, 1] == pytest.approx(-0.5, abs=0.03)
    light = (first + second + third) / 3
    dark, bright = np.quantile(light, 0.2), np.quantile(light, 0.8)
    assert noise[light > bright].std() > 1.1 * noise[light < dark].std()


def test_canvases_are_used_in_turn() -> None:
    """A canvas comes back only when all others were used: its noise never repeats at once."""
    scenery = picture.render_scenery(128, 96, PixelFormat.MONO8, seed=2)
    assert len(scenery.canvases) >= picture.MIN_CANVASES
    frame = np.empty((96, 128), np.uint8)
    drawn = []
    for number in range(len(scenery.canvases)):
        scenery.draw(frame, number)
        drawn.append(frame.astype(np.float64))
    for first, second in pairwise(drawn):
        assert (first - second).std() > 2.0


def test_the_picture_moves() -> None:
    """Window and object move: frames some way apart show another picture, not only new noise."""
    scenery = picture.render_scenery(256, 160, PixelFormat.MONO8, seed=2)
    frame = np.empty((160, 256), np.uint8)
    drawn = []
    for number in (0, 8, 96):  # the same canvas each time
        scenery.draw(frame, number)
        drawn.append(frame.astype(np.float64))
    assert (drawn[0] - drawn[1]).std() > 0  # slowly
    assert (drawn[0] - drawn[2]).std() > 10


@pytest.mark.parametrize("pixel_format", BAYER)
def test_the_mosaic_keeps_its_phase(pixel_format: PixelFormat) -> None:
    """Wherever the window stands, each site of the 2x2 mosaic shows the colour of its filter."""
    scenery = picture.render_scenery(160, 120, pixel_format, seed=2)
    # The scene is reddish as tissue is; that makes the sites' order visible.
    frame = np.empty((120, 160), np.uint8)
    layout = picture.MOSAIC[pixel_format]
    for number in range(0, 500, 7):
        scenery.draw(frame, number)
        mean = {"R": 0.0, "G": 0.0, "B": 0.0}
        for place, colour in enumerate(layout):
            row, column = divmod(place, 2)
            mean[colour] += frame[40 + row :: 2, column::2].mean() / layout.count(colour)
        assert mean["R"] > mean["G"] > mean["B"]


def test_memory_is_bounded() -> None:
    """Canvases of a large frame are fewer, so that all stay within the budget, but at least 4."""
    one = PixelFormat.BGR8.size_bytes(256 + 64, 160 + 64)
    scenery = picture.render_scenery(256, 160, PixelFormat.BGR8, seed=1)
    assert scenery.size_bytes < 8.5 * one
    large = picture.render_scenery(2600, 1700, PixelFormat.BGR8, seed=1)
    assert len(large.canvases) == 7
    assert large.size_bytes < 1.05 * picture.CANVAS_BYTES


# --- the chart


@pytest.mark.parametrize("size_px", [(640, 480), (1457, 1089), (128, 64)])
def test_chart_patches_have_their_colours(size_px: tuple[int, int]) -> None:
    """Each patch of a delivered BGR frame has exactly the colour that `chart_patches` tells."""
    width, height = size_px
    spec = SourceSpec("synthetic:chart", width=width, height=height, frames=2, realtime=False)
    sink, _, _ = play(spec)
    for frame in sink.frames:
        for patch in picture.chart_patches(width, height):
            inner = frame.pixels[patch.rows, patch.columns]
            assert inner.size > 0
            assert (inner == patch.bgr).all()
    assert barcode.read(luma_of(sink.frames[1].pixels, PixelFormat.BGR8)) == 1


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_chart_has_the_same_colours_in_every_format(pixel_format: PixelFormat) -> None:
    """Converted back by OpenCV, every format shows the patches' colours (mono their luma)."""
    chart = picture.render_chart(640, 480, pixel_format)
    back = {
        PixelFormat.MONO8: cv2.COLOR_GRAY2BGR,
        PixelFormat.BAYER_RG8: cv2.COLOR_BayerRGGB2BGR,
        PixelFormat.BAYER_GR8: cv2.COLOR_BayerGRBG2BGR,
        PixelFormat.BAYER_GB8: cv2.COLOR_BayerGBRG2BGR,
        PixelFormat.BAYER_BG8: cv2.COLOR_BayerBGGR2BGR,
        PixelFormat.RGB8: cv2.COLOR_RGB2BGR,
        PixelFormat.YUV422: cv2.COLOR_YUV2BGR_UYVY,
    }.get(pixel_format)
    bgr = chart if back is None else cv2.cvtColor(chart, back)
    for patch in picture.chart_patches(640, 480):
        blue, green, red = patch.bgr
        luma = 0.114 * blue + 0.587 * green + 0.299 * red
        expected = (luma,) * 3 if pixel_format is PixelFormat.MONO8 else patch.bgr
        seen = bgr[patch.rows, patch.columns].reshape(-1, 3)
        assert np.abs(seen - np.array(expected)).max() <= 3


# --- pace, clock and lost frames


@settings(deadline=None, max_examples=20)
@given(
    rate_hz=st.sampled_from([24, 25, 29.97, 30, 59.94, 143.3, 0.5, 1000]), frames=st.integers(2, 40)
)
def test_camera_times_are_exact_multiples_of_the_period(rate_hz: float, frames: int) -> None:
    """Frame k has the time origin + k / rate to the nanosecond: nothing adds up, nothing drifts."""
    spec = replace(SMALL, width=128, height=16, rate_hz=rate_hz, frames=frames)
    sink, _, _ = play(spec)
    origin_ns = sink.frames[0].camera_ns
    rate = Fraction(str(rate_hz))
    assert origin_ns >= 10**12  # not the host's zero
    for frame in sink.frames:
        exact = frame.frame_id * 1_000_000_000 / rate
        assert 0 <= exact - (frame.camera_ns - origin_ns) < 1


def test_no_frame_comes_before_its_deadline() -> None:
    """In real time frame k is offered at start + k / rate or later, never earlier."""
    before_ns = time.perf_counter_ns()
    sink, reason, source = play(replace(SMALL, realtime=True, frames=30))
    assert reason == "limit"
    for frame in sink.frames:
        assert frame.host_ns >= before_ns + frame.frame_id * 5_000_000
    assert sink.offered_ids == list(range(30))
    assert source.statistics().published == len(sink.frames)


class Hold:
    """An on_acquire that keeps the source for some time at the first id from ``frame_id`` on."""

    def __init__(self, frame_id: int, seconds: float) -> None:
        self.held_at: int | None = None
        self._frame_id = frame_id
        self._seconds = seconds

    def __call__(self, arrived: int) -> None:
        if self.held_at is None and arrived >= self._frame_id:
            self.held_at = arrived
            time.sleep(self._seconds)  # the sink's slowness is what is tested


def test_a_late_source_skips_ids_as_a_camera_does() -> None:
    """Held for longer than its buffers last, it goes on later; every id is in one place."""
    hold, held_periods = Hold(5, 0.8), 80
    sink = MemorySink(on_acquire=hold)
    sink, reason, source = play(replace(SMALL, realtime=True, rate_hz=100.0, frames=120), sink)
    assert reason == "limit"
    assert hold.held_at is not None
    missing = {*sink.gaps, *sink.reported}
    # The frame that was held was perhaps late itself.
    lost = held_periods - frame_buffers(100.0)
    assert missing >= set(range(hold.held_at + 1, hold.held_at + lost - 1))
    assert sink.offered_ids == list(range(120))
    assert sorted([*sink.ids, *missing]) == list(range(120))
    assert source.statistics().missed == len(missing)
    assert source.statistics().max_late_ns > 780_000_000
    origin_ns = sink.frames[0].camera_ns
    for frame in sink.frames:  # each has the time of its own deadline
        assert frame.camera_ns - origin_ns == frame.frame_id * 10_000_000


def test_what_the_buffers_hold_is_not_lost() -> None:
    """Held for a fifth of a second, it delivers every frame, late and with its own time."""
    hold = Hold(5, 0.2)
    sink = MemorySink(on_acquire=hold)
    sink, reason, source = play(replace(SMALL, realtime=True, rate_hz=100.0, frames=60), sink)
    assert (reason, hold.held_at is not None) == ("limit", True)
    assert sink.ids == list(range(60))
    assert source.statistics().missed == 0
    assert source.statistics().max_late_ns > 180_000_000


def test_ids_missed_at_the_very_end_are_reported() -> None:
    """Held beyond the last deadline, the source names the ids that no later frame will reveal."""
    hold = Hold(3, 0.9)
    sink = MemorySink(on_acquire=hold)
    sink, reason, source = play(replace(SMALL, realtime=True, rate_hz=50.0, frames=12), sink)
    assert reason == "limit"
    assert hold.held_at is not None
    assert sink.reported == list(range(hold.held_at + 1, 12))
    assert sink.offered_ids == list(range(12))
    assert source.statistics().missed == len(sink.gaps) + len(sink.reported)


def test_without_real_time_no_id_is_skipped() -> None:
    """As fast as the sink takes them: a slow sink gets every id, with nominal times."""
    sink = MemorySink(on_acquire=Hold(3, 0.05))
    sink, reason, _ = play(SMALL, sink)
    assert reason == "limit"
    assert sink.ids == list(range(12))
    assert sink.gaps == sink.reported == []


# --- what it refuses


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pixel_format": PixelFormat.YUV422, "width": 1457}, "even width"),
        ({"width": 100}, "cannot hold the frame barcode"),
        ({"height": 3}, "cannot hold the frame barcode"),
        ({"rate_hz": 20_000.0}, "rate must lie between"),
        ({"rate_hz": -1.0}, "rate must be greater than zero"),
        ({"rate_hz": float("nan")}, "rate must be greater than zero"),
        ({"frames": 0}, "number of frames must be greater than zero"),
        ({"url": "synthetic:stripes"}, "no pattern 'stripes'"),
    ],
)
def test_refuses_what_it_cannot_do(change: dict[str, Any], message: str) -> None:
    """A wish that cannot be met is one ConfigError that names it."""
    with pytest.raises(ConfigError, match=message):
        open_source(replace(SMALL, **change)).open()


@pytest.mark.parametrize("url", ["", "camera", "Synthetic", "files:/x", "http://x/y.mp4"])
def test_refuses_an_unknown_address(url: str) -> None:
    """The error says which addresses there are."""
    with pytest.raises(ConfigError, match="Use synthetic, file:PATH or vimba"):
        open_source(SourceSpec(url))
