"""From the ring's pixels to yuv420p pictures, in buffers that PyAV wraps without a copy.

Colour: BT.601 matrix, limited range, as `cv2.cvtColor` computes it; encoders.py tags the stream so.
"""

from __future__ import annotations

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from ipc.errors import ConfigError, FormatChanged
from ipc.frame import PixelFormat
from workers.codecs.spec import even

__all__ = ["Converter"]

# The encoder may still refer to the picture before the one in hand.
_BUFFERS = 3


class Converter:
    """Converts pictures of one size and pixel format."""

    def __init__(self, width_px: int, height_px: int, pixel_format: PixelFormat) -> None:
        if pixel_format is not PixelFormat.BGR8:
            raise ConfigError(f"No conversion from {pixel_format} yet.")
        self.width_px = width_px
        self.height_px = height_px
        self.pixel_format = pixel_format
        shape = (even(height_px) * 3 // 2, even(width_px))
        self._planes = [np.empty(shape, np.uint8) for _ in range(_BUFFERS)]
        self._pictures = [av.VideoFrame.from_numpy_buffer(p, "yuv420p") for p in self._planes]
        self._next = 0

    def convert(self, pixels: NDArray[np.uint8]) -> av.VideoFrame:
        """Convert one picture; the result is valid until the third call after this one.

        Args:
            pixels: uint8, `pixel_format.shape(width_px, height_px)`.

        Raises:
            FormatChanged: the array has another shape.
        """
        if pixels.shape != self.pixel_format.shape(self.width_px, self.height_px):
            raise FormatChanged(f"A frame of shape {pixels.shape} came; the part must be closed.")
        index = self._next
        self._next = (index + 1) % _BUFFERS
        cv2.cvtColor(pixels, cv2.COLOR_BGR2YUV_I420, dst=self._planes[index])
        return self._pictures[index]
