"""The next picture is converted while the encoder works on this one.

The encoder's threads wait for each other at the end of each picture, and the conversion has one
thread: side by side they leave less of the machine idle. Only a frame that is in the ring already
can be converted ahead, so it costs a recording that keeps up nothing, not even the thread.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor

import av
import numpy as np
from numpy.typing import NDArray

from workers.codecs.convert import Converter

__all__ = ["AheadConverter"]

Pixels = NDArray[np.uint8]


class AheadConverter:
    """A converter with a thread of its own; one thread at a time may use it.

    Args:
        converter: Used by nobody else from now on.

    Attributes:
        convert_s: Duration of the last conversion that was asked for.
    """

    def __init__(self, converter: Converter) -> None:
        self._converter = converter
        self._thread = ThreadPoolExecutor(1, "convert")
        self._begun: tuple[Pixels, Future[tuple[av.VideoFrame, float]]] | None = None
        self.convert_s = 0.0

    def begin(self, pixels: Pixels) -> None:
        """Begin with the picture that will be asked for next; nothing if it is begun already.

        Args:
            pixels: See `Converter.convert`; valid until it is asked for, or another one.
        """
        if self._begun is None or self._begun[0] is not pixels:
            self._forget()
            self._begun = pixels, self._thread.submit(self._timed, pixels)

    def convert(self, pixels: Pixels) -> av.VideoFrame:
        """The converted picture: waited for if it was begun, made now if not.

        Raises:
            FormatChanged: see `Converter.convert`.
        """
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] is pixels:
            picture, self.convert_s = begun[1].result()
        else:
            self._begun = begun
            self._forget()
            picture, self.convert_s = self._timed(pixels)
        return picture

    def close(self) -> None:
        """Wait for what was begun; the pixels are in use no more."""
        self._forget()
        self._thread.shutdown()

    def _forget(self) -> None:
        if self._begun is not None:
            self._begun[1].exception()  # waits: the converter works on one picture at a time
            self._begun = None

    def _timed(self, pixels: Pixels) -> tuple[av.VideoFrame, float]:
        began = time.perf_counter()
        picture = self._converter.convert(pixels)
        return picture, time.perf_counter() - began
