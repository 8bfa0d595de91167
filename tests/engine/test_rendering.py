"""RGB pictures for a screen: the right colours in the right places, at every scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engine.rendering import CELL, render, rendered_size
from ipc.errors import ConfigError
from ipc.frame import PixelFormat

Picture = npt.NDArray[np.uint8]

COLOUR = (200, 100, 50)
UYVY_OF_COLOUR = (91, 123, 175)  # U, Y, V of BT.601, limited range
SIZES = [(64, 48), (65, 49)]
SCALES = [1.0, 0.75, 0.5, 0.4, 0.25, 0.01]


def plain(pixel_format: PixelFormat, width_px: int, height_px: int) -> Picture:
    """A picture of one colour, as a camera of that format would deliver it."""
    picture = np.zeros(pixel_format.shape(width_px, height_px), np.uint8)
    if pixel_format in CELL:
        values = (COLOUR[0], COLOUR[1], COLOUR[1], COLOUR[2])
        for place, value in zip(CELL[pixel_format], values, strict=True):
            picture[place // 2 :: 2, place % 2 :: 2] = value
    elif pixel_format is PixelFormat.YUV422:
        blue, luma, red = UYVY_OF_COLOUR
        picture[..., 1] = luma
        picture[:, 0::2, 0] = blue
        picture[:, 1::2, 0] = red
    elif pixel_format is PixelFormat.MONO8:
        picture[:] = COLOUR[1]
    else:
        picture[:] = COLOUR if pixel_format is PixelFormat.RGB8 else COLOUR[::-1]
    picture.flags.writeable = False
    return picture


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("size", SIZES)
def test_a_plain_colour_stays_that_colour(
    pixel_format: PixelFormat, size: tuple[int, int], scale: float
) -> None:
    """At all scales, sizes and formats, red first: a Bayer pattern that was cut would show."""
    width_px, height_px = size
    if pixel_format is PixelFormat.YUV422:
        width_px &= ~1  # the camera refuses others
    picture = render(plain(pixel_format, width_px, height_px), pixel_format, scale=scale)
    wide, high = rendered_size(width_px, height_px, scale)
    assert picture.shape == (high, wide, 3)
    expected = (COLOUR[1],) * 3 if pixel_format is PixelFormat.MONO8 else COLOUR
    difference = np.abs(picture.astype(int) - expected).max()
    assert difference <= (3 if pixel_format is PixelFormat.YUV422 else 1)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3])
@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_what_is_left_stays_left_and_what_is_above_stays_above(
    pixel_format: PixelFormat, scale: float
) -> None:
    """A bright quarter keeps its place: nothing is mirrored, shifted or turned."""
    picture = plain(pixel_format, 80, 60).copy()
    bright = plain(PixelFormat.MONO8, 40, 30) * 0 + 255
    quarter = picture[:30, :40]
    if pixel_format is PixelFormat.YUV422:
        picture[..., 0], picture[..., 1] = 128, 16
        quarter[..., 1] = 235
    else:
        picture[:] = 0
        quarter[:] = bright if quarter.ndim == 2 else bright[..., None]
    found = render(picture, pixel_format, scale=scale)
    edge, (high, wide) = 2, (found.shape[0] // 2, found.shape[1] // 2)
    assert found[edge : high - edge, edge : wide - edge].min() >= 250
    assert found[high + edge :, :].max() <= 5
    assert found[:, wide + edge :].max() <= 5


def test_it_is_written_into_a_given_array_if_that_fits() -> None:
    """Then nothing is allocated; any other array is left alone."""
    pixels = plain(PixelFormat.BAYER_RG8, 64, 48)
    out = np.zeros((24, 32, 3), np.uint8)
    assert render(pixels, PixelFormat.BAYER_RG8, scale=0.5, out=out) is out
    assert out.any()
    other = np.zeros((48, 64, 3), np.uint8)
    assert render(pixels, PixelFormat.BAYER_RG8, scale=0.5, out=other) is not other
    assert not other.any()


@pytest.mark.parametrize("scale", [0.0, -0.5, 1.01, float("nan")])
def test_other_scales_are_refused(scale: float) -> None:
    """A live view makes nothing bigger."""
    with pytest.raises(ConfigError, match="scale"):
        rendered_size(64, 48, scale)
