"""Conversion to yuv420p: right colours, exact sizes, no surprise about buffers."""

from __future__ import annotations

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import ConfigError, FormatChanged
from ipc.frame import PixelFormat
from tests.workers.charts import Pixels, as_format, bar_centres, chart, yuv
from workers.codecs.convert import Converter

# Even, odd, and a height that is even but no multiple of four (PyAV's numpy wrapper cuts it).
SIZES = [(192, 128), (161, 91), (194, 98)]


def planes(picture: av.VideoFrame) -> list[Pixels]:
    """The three planes as FFmpeg sees them, without padding."""
    out = []
    for plane in picture.planes:
        flat = np.frombuffer(plane, np.uint8)[: plane.height * plane.line_size]
        out.append(flat.reshape(plane.height, plane.line_size)[:, : plane.width].copy())
    return out


def allowed(size: tuple[int, int], pixel_format: PixelFormat) -> bool:
    return pixel_format is not PixelFormat.YUV422 or size[0] % 2 == 0


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_colours_of_a_chart(size: tuple[int, int], pixel_format: PixelFormat) -> None:
    """Every pixel format gives BT.601 limited-range planes of the chart's colours."""
    width_px, height_px = size
    if not allowed(size, pixel_format):
        width_px += 1
    bars = chart(width_px, height_px)
    pixels = as_format(bars, pixel_format)
    pixels.setflags(write=False)
    picture = Converter(width_px, height_px, pixel_format).convert(pixels)
    assert (picture.width, picture.height) == (width_px + width_px % 2, height_px + height_px % 2)
    if pixel_format is PixelFormat.MONO8:
        bars = np.repeat(pixels[..., None], 3, axis=-1)
    wanted = yuv(bars)
    y, u, v = planes(picture)
    for row in (0, height_px // 2, height_px - 1):
        for column in bar_centres(width_px):
            got = (y[row, column], u[row // 2, column // 2], v[row // 2, column // 2])
            assert np.abs(np.array(got, float) - wanted[row, column]).max() <= 2, (row, column)


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_odd_sizes_repeat_the_last_column_and_row(pixel_format: PixelFormat) -> None:
    """An odd picture converts as the one whose last column and row are repeated."""
    width_px, height_px = (160 if pixel_format is PixelFormat.YUV422 else 161), 91
    random = np.random.default_rng(3)
    pixels = random.integers(0, 256, pixel_format.shape(width_px, height_px), np.uint8)
    y, u, v = planes(Converter(width_px, height_px, pixel_format).convert(pixels))
    assert y.shape == (92, width_px + width_px % 2)
    assert np.array_equal(y[91], y[90])
    assert np.array_equal(y[:, width_px:], y[:, width_px - 1 : width_px][:, : width_px % 2])
    if pixel_format in (PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8, PixelFormat.YUV422):
        border = [(0, 1), (0, width_px % 2)] + [(0, 0)] * (pixels.ndim - 2)
        padded = np.pad(pixels, border, mode="edge")
        whole = planes(Converter(width_px + width_px % 2, 92, pixel_format).convert(padded))
        for got, wanted in zip((y, u, v), whole, strict=True):
            assert np.array_equal(got, wanted)


def test_chroma_of_yuv422_is_the_mean_of_two_rows() -> None:
    """A vertical colour edge between two rows gives the colour half-way."""
    pixels = np.full((4, 4, 2), 100, np.uint8)
    pixels[0, :, 0] = 60
    y, u, v = planes(Converter(4, 4, PixelFormat.YUV422).convert(pixels))
    assert u.tolist() == [[80, 80], [100, 100]]
    assert v.tolist() == u.tolist()
    assert (y == 100).all()


@settings(deadline=None, max_examples=30)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    seed=st.integers(0, 2**16),
    bgr=st.booleans(),
)
def test_luma_of_any_picture(width: int, height: int, seed: int, bgr: bool) -> None:
    """Luma of any BGR or RGB picture of any size is within one step of the standard's formula."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    pixel_format = PixelFormat.BGR8 if bgr else PixelFormat.RGB8
    y, _, _ = planes(Converter(width, height, pixel_format).convert(pixels))
    wanted = yuv(pixels if bgr else pixels[..., ::-1])[..., 0]
    assert np.abs(y[:height, :width] - wanted).max() <= 1


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_two_pictures_stay_valid_while_the_next_is_made(pixel_format: PixelFormat) -> None:
    """A picture is not touched by the next two conversions (an encoder may still read it)."""
    converter = Converter(64, 48, pixel_format)
    random = np.random.default_rng(5)
    frames = [random.integers(0, 256, pixel_format.shape(64, 48), np.uint8) for _ in range(7)]
    alone = [planes(Converter(64, 48, pixel_format).convert(frame)) for frame in frames]
    pictures = [converter.convert(frame) for frame in frames[:2]]
    for number, frame in enumerate(frames[2:], start=2):
        pictures.append(converter.convert(frame))
        for back in (number, number - 1, number - 2):
            for got, wanted in zip(planes(pictures[back]), alone[back], strict=True):
                assert np.array_equal(got, wanted)


def test_another_shape_is_refused() -> None:
    """A frame of another size or type is never converted silently."""
    converter = Converter(64, 48, PixelFormat.BGR8)
    for pixels in (
        np.zeros((48, 66, 3), np.uint8),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 3), np.uint16),
    ):
        with pytest.raises(FormatChanged):
            converter.convert(pixels)  # type: ignore[arg-type]


def test_yuv422_of_odd_width_is_refused() -> None:
    """Half a colour pair cannot be converted; the reader is told which size is wrong."""
    with pytest.raises(ConfigError, match="161"):
        Converter(161, 90, PixelFormat.YUV422)
