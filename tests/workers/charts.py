"""Test pictures: a colour chart in every pixel format, moving noise, and how far two are apart."""

from __future__ import annotations

import functools

import cv2
import numpy as np
from numpy.typing import NDArray

from ipc.frame import PixelFormat

Pixels = NDArray[np.uint8]

# Blue, green, red. Saturated, pale and grey.
BARS = (
    (0, 0, 255),
    (0, 255, 0),
    (255, 0, 0),
    (255, 255, 255),
    (0, 0, 0),
    (0, 200, 200),
    (200, 40, 120),
    (90, 90, 90),
)

_PATTERNS = {
    PixelFormat.BAYER_RG8: "RGGB",
    PixelFormat.BAYER_GR8: "GRBG",
    PixelFormat.BAYER_GB8: "GBRG",
    PixelFormat.BAYER_BG8: "BGGR",
}


def chart(width_px: int, height_px: int) -> Pixels:
    """Eight vertical colour bars, BGR."""
    columns = np.arange(width_px) * len(BARS) // width_px
    return np.repeat(np.array(BARS, np.uint8)[columns][None], height_px, axis=0)


def bar_centres(width_px: int) -> list[int]:
    """The column in the middle of each bar."""
    return [(2 * bar + 1) * width_px // (2 * len(BARS)) for bar in range(len(BARS))]


def as_format(bgr: Pixels, pixel_format: PixelFormat) -> Pixels:
    """What a camera of that pixel format delivers of `bgr`."""
    if pixel_format is PixelFormat.BGR8:
        return bgr
    if pixel_format is PixelFormat.RGB8:
        return np.ascontiguousarray(bgr[..., ::-1])
    if pixel_format is PixelFormat.MONO8:
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY))
    if pixel_format is PixelFormat.YUV422:
        return _uyvy(bgr)
    mosaic = np.empty(bgr.shape[:2], np.uint8)
    for place, colour in enumerate(_PATTERNS[pixel_format]):
        row, column = divmod(place, 2)
        mosaic[row::2, column::2] = bgr[row::2, column::2, "BGR".index(colour)]
    return mosaic


def yuv(bgr: Pixels) -> NDArray[np.float64]:
    """BT.601, limited range, from the standard's luma weights: (height, width, 3) floats."""
    b, g, r = (bgr[..., channel].astype(np.float64) / 255 for channel in range(3))
    y = 0.299 * r + 0.587 * g + 0.114 * b
    cb, cr = (b - y) / 1.772, (r - y) / 1.402
    return np.stack((16 + 219 * y, 128 + 224 * cb, 128 + 224 * cr), axis=-1)


def _uyvy(bgr: Pixels) -> Pixels:
    planes = np.rint(yuv(bgr)).astype(np.uint8)
    out = np.empty((*bgr.shape[:2], 2), np.uint8)
    out[..., 1] = planes[..., 0]
    out[:, 0::2, 0] = planes[:, 0::2, 1]
    out[:, 1::2, 0] = planes[:, 0::2, 2]
    return out


@functools.cache
def moving_noise(frames: int, width_px: int, height_px: int, *, sigma: float) -> list[Pixels]:
    """A panned soft texture under sensor noise of `sigma`, BGR; only to be read."""
    random = np.random.default_rng(7)
    coarse = random.integers(0, 256, (height_px // 16 + 8, width_px // 16 + 8, 3), np.uint8)
    wide = cv2.resize(coarse, (width_px + 64, height_px + 64), interpolation=cv2.INTER_CUBIC)
    pictures = []
    for number in range(frames):
        x, y = number * 3 % 64, number % 64
        part = wide[y : y + height_px, x : x + width_px].astype(np.float32)
        noise = random.standard_normal((height_px, width_px, 3), np.float32) * sigma
        pictures.append(np.clip(part + noise, 0, 255).astype(np.uint8))
    return pictures


def psnr_db(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    """Peak signal to noise ratio of two 8-bit pictures."""
    error = np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
