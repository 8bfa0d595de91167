"""What is in a video file: how near its pictures are to the camera's, how much of it is video.

SSIM (Wang, Bovik, Sheikh, Simoncelli 2004) of the luma: Gaussian window of 11 pixels, sigma 1.5.
The reference is the BGR picture before it was made a mosaic or grey, as BT.601 limited-range luma
in floating point, so that no contender's own conversion is the measure of the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import IO, Any, cast

import av
import cv2
import numpy as np
import numpy.typing as npt

from engine.container.payload import CHUNK, STORED_CHUNK
from engine.container.reader import RecordingReader
from engine.keys import secret_from
from workers.sources.source import Pixels

__all__ = ["events_of", "luma", "opened", "overhead", "ssim", "ssim_of_file"]

Light = npt.NDArray[np.float32]

WINDOW_PX, SIGMA_PX = (11, 11), 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
WEIGHTS = np.array([24.966, 128.553, 65.481], np.float32) / 255  # of B, G, R


def luma(bgr: Pixels) -> Light:
    """BT.601, limited range, not rounded."""
    return np.asarray(bgr.astype(np.float32) @ WEIGHTS + 16, np.float32)


def ssim(first: Light, second: Light) -> float:
    """Mean structural similarity of two pictures of the same size: 1 for equal ones."""
    mean_a, mean_b = _blur(first), _blur(second)
    variance_a = _blur(first * first) - mean_a * mean_a
    variance_b = _blur(second * second) - mean_b * mean_b
    covariance = _blur(first * second) - mean_a * mean_b
    above = (2 * mean_a * mean_b + C1) * (2 * covariance + C2)
    below = (mean_a**2 + mean_b**2 + C1) * (variance_a + variance_b + C2)
    return float(np.mean(above / below))


def opened(path: Path, key_file: Path | None) -> IO[bytes]:
    """A plain file, or a sealed recording as if it were one."""
    if key_file is None:
        return path.open("rb")
    return cast(IO[bytes], RecordingReader.open(path, secret_from(key_file=key_file)))


def ssim_of_file(
    path: Path,
    key_file: Path | None,
    reference: Callable[[int], Light],
    numbers: tuple[int, ...],
) -> float:
    """Mean SSIM of some frames, which are decoded from the first on."""
    found: list[float] = []
    with opened(path, key_file) as file, av.open(cast(Any, file)) as container:
        container.streams.video[0].thread_type = "AUTO"
        for number, frame in enumerate(container.decode(video=0)):
            if number in numbers:
                plane = frame.reformat(format="yuv420p").to_ndarray()[: frame.height]
                found.append(ssim(plane.astype(np.float32), reference(number)))
            if number >= max(numbers):
                break
    if len(found) != len(numbers):
        raise SystemExit(f"{path.name} holds fewer frames than were looked for.")
    return fmean(found)


def overhead(path: Path, key_file: Path | None) -> float:
    """Share of a file that is no encoded picture.

    Of a sealed recording its fragments count, with tables, padding and tags: what is there once,
    header, first unit and seal, is the less the longer it is.
    """
    with opened(path, key_file) as file, av.open(cast(Any, file)) as container:
        pictures = sum(packet.size for packet in container.demux(video=0))
    if key_file is None:
        return 1 - pictures / path.stat().st_size
    with RecordingReader.open(path, secret_from(key_file=key_file)) as video:
        plain = sum(fragment.size for fragment in video.fragments())
    return 1 - pictures / (plain * STORED_CHUNK / CHUNK)


def events_of(path: Path, key_file: Path) -> list[str]:
    """Kinds of the events in a sealed recording's fragments."""
    with RecordingReader.open(path, secret_from(key_file=key_file)) as video:
        tables = [fragment.table for fragment in video.fragments()]
    return [event.kind for table in tables for event in table.events]


def _blur(picture: Light) -> Light:
    return np.asarray(cv2.GaussianBlur(picture, WINDOW_PX, SIGMA_PX), np.float32)
