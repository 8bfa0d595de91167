"""From each pixel format to yuv420p: the encoder's converter against swscale, one thread each."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from statistics import median

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from benchmarks.parts.rounds import Contest, interleave
from ipc.frame import PixelFormat
from workers.codecs.convert import Converter

__all__ = ["measure"]

FORMATS = {
    PixelFormat.BGR8: "bgr24",
    PixelFormat.RGB8: "rgb24",
    PixelFormat.MONO8: "gray",
    PixelFormat.BAYER_RG8: "bayer_rggb8",
    PixelFormat.YUV422: "uyvy422",
}
PICTURES = 20


def measure(size: tuple[int, int], rounds: int) -> list[Contest]:
    """One contest per pixel format, in milliseconds a picture."""
    contests = []
    for pixel_format, name in FORMATS.items():
        pixels = np.random.default_rng(7).integers(0, 256, pixel_format.shape(*size), np.uint8)
        ours = partial(Converter(*size, pixel_format).convert, pixels)
        frame = _frame(pixels, name, size)
        theirs = partial(VideoReformatter().reformat, frame, format="yuv420p", threads=1)
        contenders = {"sealrec": partial(_time, ours), "swscale": partial(_time, theirs)}
        question = f"{pixel_format} to yuv420p"
        contests.append(Contest("convert", question, "ms", interleave(contenders, rounds)))
    return contests


def _frame(pixels: np.ndarray, name: str, size: tuple[int, int]) -> av.VideoFrame:
    frame = av.VideoFrame(*size, name)
    line = frame.planes[0].line_size
    rows = np.zeros((size[1], line), np.uint8)
    packed = pixels.reshape(size[1], -1)
    rows[:, : packed.shape[1]] = packed
    frame.planes[0].update(rows.tobytes())
    return frame


def _time(convert: Callable[[], object]) -> float:
    convert()
    times = []
    for _ in range(PICTURES):
        began = time.perf_counter()
        convert()
        times.append(time.perf_counter() - began)
    return 1e3 * median(times)
