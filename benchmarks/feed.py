"""Pictures in memory, the same for all contenders, and a clock that notes when each was taken.

A feed is a folder in RAM: the pictures as raw bytes, one behind the other (what `ffmpeg -f
rawvideo` reads as well), and one time for each frame of a run, which the process that hands a frame
over writes. The pictures are drawn once, before anything is measured, and repeat.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.measure import ROOT
from ipc.frame import PixelFormat
from workers.sources.picture import from_bgr
from workers.sources.source import Pixels, SourceSpec, open_source

__all__ = ["PICTURES", "Feed", "Player", "build", "frames_path", "memory_folder"]

PICTURES = {
    "clip": f"file:{ROOT / 'tests' / 'data' / 'bigbuckbunny.mp4'}",
    "synthetic": "synthetic",
}
SPARE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Feed:
    """One picture source in one format, and one run of it.

    Attributes:
        frames: File of the pictures.
        clock: File of the times: int64 for each frame of the run, zero before it was taken.
        width_px, height_px: Size.
        pixel_format: Of all pictures.
        pictures: How many there are before they repeat.
        total: Frames of the run.
    """

    frames: str
    clock: str
    width_px: int
    height_px: int
    pixel_format: str
    pictures: int
    total: int

    def save(self, path: Path) -> Path:
        """Write it down for another process, with a new clock; returns where."""
        np.zeros(self.total, np.int64).tofile(self.clock)
        path.write_text(json.dumps(asdict(self)))
        return path

    @classmethod
    def load(cls, path: Path) -> Feed:
        """Read what `save` wrote."""
        return cls(**json.loads(path.read_text()))

    def times(self) -> npt.NDArray[np.int64]:
        """When each frame was taken, `time.perf_counter_ns`; zero: not yet."""
        return np.fromfile(self.clock, np.int64)


class Player:
    """A feed opened by the process that hands its frames over."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        shape = PixelFormat(feed.pixel_format).shape(feed.width_px, feed.height_px)
        self._pictures = np.memmap(feed.frames, np.uint8, "r", shape=(feed.pictures, *shape))
        self._clock = np.memmap(feed.clock, np.int64, "r+")

    def frame(self, number: int) -> Pixels:
        """One frame, read-only and without a copy."""
        return self._pictures[number % self.feed.pictures]

    def mark(self, number: int) -> None:
        """Note that a frame was taken just now."""
        self._clock[number] = time.perf_counter_ns()

    def mark_through(self, first: int, count: int, since_ns: int) -> None:
        """Note frames that were taken evenly between a time and now."""
        now = time.perf_counter_ns()
        self._clock[first : first + count] = np.linspace(since_ns, now, count + 1)[1:]


class _Keep:
    """A sink that keeps what it is given as BGR pictures."""

    def __init__(self, pictures: Pixels) -> None:
        self._pictures = pictures
        self.count = 0

    def acquire(self, frame_id: int, camera_ns: int, **_shape: Any) -> Pixels:
        """See `workers.sources.source.FrameSink`."""
        return self._pictures[self.count]

    def publish(self) -> None:
        """See `workers.sources.source.FrameSink`."""
        self.count += 1

    def incomplete(self, frame_id: int, camera_ns: int) -> None:
        """Not of these sources."""

    def missed(self, first_id: int, last_id: int) -> None:
        """Not of these sources, which are not paced here."""


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in RAM where the system has one, removed afterwards, SIGTERM included."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="sealrec-bench-", dir=shared if shared.is_dir() else None
    ) as folder:
        yield Path(folder)


def build(
    folder: Path, picture: str, pixel_formats: set[str], size_px: tuple[int, int], count: int
) -> int:
    """Draw the pictures of one source in all formats wanted, BGR among them in any case.

    Returns:
        How many there are: a clip may be shorter than `count`.

    Raises:
        SystemExit: they do not fit into the RAM that is free.
    """
    width_px, height_px = size_px
    formats = [PixelFormat(name) for name in sorted({*pixel_formats, "bgr8"})]
    needed = count * sum(f.size_bytes(width_px, height_px) for f in formats)
    if shutil.disk_usage(folder).free < needed + SPARE_BYTES:
        raise SystemExit(
            f"The pictures need {needed >> 20} MiB in {folder}; free some or ask less."
        )
    paths = {f: frames_path(folder, picture, f.value) for f in formats}
    stacks = {
        f: np.memmap(path, np.uint8, "w+", shape=(count, *f.shape(width_px, height_px)))
        for f, path in paths.items()
    }
    bgr = stacks[PixelFormat.BGR8]
    spec = SourceSpec(
        PICTURES[picture],
        width_px,
        height_px,
        pixel_format=PixelFormat.BGR8,
        frames=count,
        realtime=False,
    )
    source = open_source(spec)
    source.open()
    keep = _Keep(bgr)
    source.run(keep, threading.Event())
    source.close()
    for pixel_format, stack in stacks.items():
        if pixel_format is not PixelFormat.BGR8:
            for number in range(keep.count):
                from_bgr(bgr[number], pixel_format, stack[number])
        size_bytes = keep.count * pixel_format.size_bytes(width_px, height_px)
        with paths[pixel_format].open("r+b") as file:
            file.truncate(size_bytes)
    return keep.count


def frames_path(folder: Path, picture: str, pixel_format: str) -> Path:
    """Where `build` puts the pictures of one format."""
    return folder / f"{picture}-{pixel_format}.raw"
