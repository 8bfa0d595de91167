"""From the ring's pixels to yuv420p pictures, in buffers that PyAV wraps without a copy.

Colour: BT.601 matrix, limited range, as `cv2.cvtColor` computes it; encoders.py tags the stream so.
OpenCV was the faster way for every format (1920x1200, one thread, ms per picture, swscale in
brackets): bgr8 1.5 (4.8), rgb8 1.5 (6.4), mono8 0.5 (1.7), Bayer 2.5 (13), yuv422 0.8 (1.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ipc.errors import ConfigError, FormatChanged
from ipc.frame import PixelFormat
from workers.codecs.spec import even

__all__ = ["Converter"]

Plane = NDArray[np.uint8]

# An encoder may hold the picture before the one in hand, and the caller one more.
_BUFFERS = 3

# One thread: two save 0.3 ms of 1.5 and take the core on which capture runs.
_THREADS = 1

_LUMA_SCALE, _LUMA_OFFSET, _NEUTRAL = 219 / 255, 16, 128

# GenICam names a Bayer pattern by its first row's first two pixels, as OpenCV's four-letter names
# do (RG8 = RGGB); its two-letter names are those of the second row and look inverted.
_DEMOSAIC = {
    PixelFormat.BAYER_RG8: cv2.COLOR_BayerRGGB2BGR,
    PixelFormat.BAYER_GR8: cv2.COLOR_BayerGRBG2BGR,
    PixelFormat.BAYER_GB8: cv2.COLOR_BayerGBRG2BGR,
    PixelFormat.BAYER_BG8: cv2.COLOR_BayerBGGR2BGR,
}


class Converter:
    """Converts pictures of one size and pixel format; one thread at a time.

    Odd sizes are made even by repeating the last column and row.
    """

    def __init__(self, width_px: int, height_px: int, pixel_format: PixelFormat) -> None:
        """Reserve the buffers.

        Raises:
            ConfigError: yuv422 of odd width, whose last pixel has half a colour.
        """
        if pixel_format is PixelFormat.YUV422 and width_px % 2:
            raise ConfigError(
                f"yuv422 pictures have an even width, not {width_px}.", hint="Change the width."
            )
        cv2.setNumThreads(_THREADS)
        self.width_px = width_px
        self.height_px = height_px
        self.pixel_format = pixel_format
        self._shape = pixel_format.shape(width_px, height_px)
        self._ring = [_Picture.blank(even(width_px), even(height_px)) for _ in range(_BUFFERS)]
        self._next = 0
        self._fill = self._choose()

    def convert(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """Convert one picture.

        Args:
            pixels: uint8, `pixel_format.shape(width_px, height_px)`, rows contiguous; only read.

        Returns:
            yuv420p of even size; its planes are written again by the third call after this one.

        Raises:
            FormatChanged: the array has another shape or type.
        """
        if pixels.shape != self._shape or pixels.dtype != np.uint8:
            raise FormatChanged(
                f"A frame of shape {pixels.shape} {pixels.dtype} came instead of {self._shape}"
                f" {self.pixel_format}; it was not converted.",
                hint="Close this part and open the next.",
            )
        picture = self._ring[self._next]
        self._next = (self._next + 1) % _BUFFERS
        self._fill(pixels, picture)
        return picture.frame

    def _choose(self) -> Callable[[Plane, _Picture], None]:
        """The conversion for the format, with its intermediate buffers."""
        wide, high = even(self.width_px), even(self.height_px)
        if self.pixel_format is PixelFormat.MONO8:
            return _fill_from_mono
        if self.pixel_format is PixelFormat.YUV422:
            return _FromUyvy(
                np.empty((high, wide), np.uint8), np.empty((high // 2, wide), np.uint8)
            )
        staging = np.empty((high, wide, 3), np.uint8)
        if self.pixel_format in _DEMOSAIC:
            return _FromBayer(_DEMOSAIC[self.pixel_format], staging)
        is_bgr = self.pixel_format is PixelFormat.BGR8
        return _FromRgb(cv2.COLOR_BGR2YUV_I420 if is_bgr else cv2.COLOR_RGB2YUV_I420, staging)


@dataclass(frozen=True, slots=True)
class _Picture:
    """One buffer as OpenCV wants it, (height * 3 / 2, width), its planes and a frame over them."""

    i420: Plane
    y: Plane
    u: Plane
    v: Plane
    frame: av.VideoFrame

    @classmethod
    def blank(cls, width_px: int, height_px: int) -> _Picture:
        i420 = np.full((height_px * 3 // 2, width_px), _NEUTRAL, np.uint8)
        flat, luma, chroma = i420.reshape(-1), width_px * height_px, width_px * height_px // 4
        half = (height_px // 2, width_px // 2)
        u = flat[luma : luma + chroma].reshape(half)
        v = flat[luma + chroma :].reshape(half)
        y = i420[:height_px]
        # Not from_numpy_buffer: PyAV 18.1 cuts heights there that are no multiple of four.
        return cls(i420, y, u, v, av.VideoFrame.from_dlpack((y, u, v), format="yuv420p"))


def _fill_from_mono(pixels: Plane, picture: _Picture) -> None:
    """Grey to limited-range luma; the chroma planes stay neutral."""
    high, wide = pixels.shape
    target = picture.y[:high, :wide]
    cv2.convertScaleAbs(pixels, dst=target, alpha=_LUMA_SCALE, beta=_LUMA_OFFSET)
    _repeat_edges(picture.y, high, wide)


@dataclass(frozen=True, slots=True)
class _FromRgb:
    """BGR or RGB; an odd size goes through `staging`."""

    code: int
    staging: Plane

    def __call__(self, pixels: Plane, picture: _Picture) -> None:
        if pixels.shape != self.staging.shape:
            high, wide = pixels.shape[:2]
            self.staging[:high, :wide] = pixels
            _repeat_edges(self.staging, high, wide)
            pixels = self.staging
        cv2.cvtColor(pixels, self.code, dst=picture.i420)


@dataclass(frozen=True, slots=True)
class _FromBayer:
    """Bilinear demosaic into `staging` (BGR), then as BGR."""

    code: int
    staging: Plane

    def __call__(self, pixels: Plane, picture: _Picture) -> None:
        high, wide = pixels.shape
        cv2.cvtColor(pixels, self.code, dst=self.staging[:high, :wide])
        _repeat_edges(self.staging, high, wide)
        cv2.cvtColor(self.staging, cv2.COLOR_BGR2YUV_I420, dst=picture.i420)


@dataclass(frozen=True, slots=True)
class _FromUyvy:
    """UYVY, taken as BT.601 limited range; chroma is averaged over two rows.

    `chroma` holds U and V alternating for every row, `mean` for every second one.
    """

    chroma: Plane
    mean: Plane

    def __call__(self, pixels: Plane, picture: _Picture) -> None:
        high, wide = pixels.shape[:2]
        cv2.split(pixels, [self.chroma[:high], picture.y[:high]])
        _repeat_edges(picture.y, high, wide)
        _repeat_edges(self.chroma, high, wide)
        cv2.addWeighted(self.chroma[0::2], 0.5, self.chroma[1::2], 0.5, 0, dst=self.mean)
        cv2.split(self.mean.reshape(*picture.u.shape, 2), [picture.u, picture.v])


def _repeat_edges(plane: Plane, high: int, wide: int) -> None:
    """Fill what lies beyond `high` rows and `wide` columns from the last ones; often nothing."""
    if wide < plane.shape[1]:
        plane[:high, wide:] = plane[:high, wide - 1 : wide]
    if high < plane.shape[0]:
        plane[high:] = plane[high - 1]
