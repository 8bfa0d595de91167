"""From a camera's own pixels to an RGB picture for a screen, smaller on request.

Not for recording (that is workers/codecs/convert.py): where it is cheaper, pixels are left out
before colours are made. Bayer of half the size or less takes each 2x2 cell of the pattern as one
pixel, with the mean of its two greens, so that the pattern is never cut. One thread's milliseconds
at 1920x1200, full size and half: bgr8 0.2 and 0.6, Bayer 1.3 and 0.9, mono8 0.3 and 0.2,
yuv422 1.2 and 1.5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ipc.errors import ConfigError
from ipc.frame import PixelFormat

if TYPE_CHECKING:
    from ipc.ring_memory import Pixels

__all__ = ["render", "rendered_size"]

# GenICam names a pattern by its first row's first two pixels, as these names of OpenCV do.
DEMOSAIC = {
    PixelFormat.BAYER_RG8: cv2.COLOR_BayerRGGB2RGB,
    PixelFormat.BAYER_GR8: cv2.COLOR_BayerGRBG2RGB,
    PixelFormat.BAYER_GB8: cv2.COLOR_BayerGBRG2RGB,
    PixelFormat.BAYER_BG8: cv2.COLOR_BayerBGGR2RGB,
}
# Where red, both greens and blue lie in a cell, whose pixels are numbered row by row.
CELL = {
    PixelFormat.BAYER_RG8: (0, 1, 2, 3),
    PixelFormat.BAYER_GR8: (1, 0, 3, 2),
    PixelFormat.BAYER_GB8: (2, 0, 3, 1),
    PixelFormat.BAYER_BG8: (3, 1, 2, 0),
}


def rendered_size(width_px: int, height_px: int, scale: float) -> tuple[int, int]:
    """Width and height of a picture at a scale, at least one pixel each.

    Raises:
        ConfigError: the scale is not above 0 and at most 1.
    """
    if not 0 < scale <= 1:
        raise ConfigError(
            f"A picture cannot be shown at scale {scale:g}.", hint="Take more than 0, at most 1."
        )
    return max(1, round(width_px * scale)), max(1, round(height_px * scale))


def render(
    pixels: Pixels, pixel_format: PixelFormat, *, scale: float = 1.0, out: Pixels | None = None
) -> Pixels:
    """Make an RGB picture.

    Args:
        pixels: uint8 of shape ``pixel_format.shape(width, height)``, contiguous; only read.
        pixel_format: What they are.
        scale: Of width and height, above 0 and at most 1.
        out: Where to write to, if it has the shape of the result; otherwise an array is made.

    Returns:
        (height, width, 3) uint8, red first, of `rendered_size`.

    Raises:
        ConfigError: no such scale.
    """
    height_px, width_px = pixels.shape[:2]
    size = rendered_size(width_px, height_px, scale)
    shape = (size[1], size[0], 3)
    if out is None or out.shape != shape or out.dtype != np.uint8 or not out.flags.c_contiguous:
        out = np.empty(shape, np.uint8)
    if pixel_format in DEMOSAIC:
        _bayer(pixels, pixel_format, size, out)
    elif pixel_format is PixelFormat.YUV422:
        _resize(cv2.cvtColor(pixels, cv2.COLOR_YUV2RGB_UYVY), size, out)
    elif pixel_format is PixelFormat.RGB8:
        _resize(pixels, size, out)
    else:
        code = cv2.COLOR_GRAY2RGB if pixel_format is PixelFormat.MONO8 else cv2.COLOR_BGR2RGB
        cv2.cvtColor(_resize(pixels, size), code, dst=out)
    return out


def _bayer(pixels: Pixels, pixel_format: PixelFormat, size: tuple[int, int], out: Pixels) -> None:
    height_px, width_px = pixels.shape
    if 2 * size[0] > width_px or 2 * size[1] > height_px:
        _resize(cv2.cvtColor(pixels, DEMOSAIC[pixel_format]), size, out)
        return
    _resize(_cells(pixels, CELL[pixel_format]), size, out)


def _cells(pixels: Pixels, places: tuple[int, int, int, int]) -> Pixels:
    """One RGB pixel of each whole cell: half the width and height."""
    rows, columns = pixels.shape[0] // 2, pixels.shape[1] // 2
    whole = pixels[: 2 * rows, : 2 * columns]
    # A row's pairs as two channels, without a copy: 0 and 1 of the upper row, 2 and 3 of the lower.
    upper, lower = (whole[row::2].reshape(rows, columns, 2) for row in (0, 1))
    red, green, other, blue = places
    pairs = (upper, lower)
    greens = [cv2.extractChannel(pairs[place // 2], place % 2) for place in (green, other)]
    mean = cv2.addWeighted(greens[0], 0.5, greens[1], 0.5, 0)
    picture = np.empty((rows, columns, 3), np.uint8)
    cv2.mixChannels([upper, lower, mean], [picture], [red, 0, 4, 1, blue, 2])
    return picture


def _resize(pixels: Pixels, size: tuple[int, int], out: Pixels | None = None) -> Pixels:
    """Make a picture smaller: means of whole blocks first, then between neighbours."""
    height_px, width_px = pixels.shape[:2]
    block = min(width_px // size[0], height_px // size[1])
    if block > 1:
        # Areas of whole pixels are ten times as fast as others.
        fits = (width_px // block, height_px // block)
        pixels = cv2.resize(
            pixels[: fits[1] * block, : fits[0] * block], fits, interpolation=cv2.INTER_AREA
        )
    if (pixels.shape[1], pixels.shape[0]) != size:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    if out is None:
        return pixels
    np.copyto(out, pixels)
    return out
