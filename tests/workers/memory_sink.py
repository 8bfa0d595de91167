"""A frame sink in memory that promises what the capture worker's does, and remembers it all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ipc.frame import PixelFormat
from workers.sources.source import Pixels, Source, SourceSpec, open_source


@dataclass(frozen=True, slots=True)
class Taken:
    """One frame as it was published."""

    frame_id: int
    camera_ns: int
    host_ns: int
    pixels: Pixels


class MemorySink:
    """Keeps every frame; refuses, stalls and stops where it is told to.

    Args:
        refuse: Ids for which there is no room.
        on_acquire: Called with each id before room is given; may take its time.
        keep: Keep copies of the pixels.
    """

    def __init__(
        self,
        *,
        refuse: frozenset[int] = frozenset(),
        on_acquire: Callable[[int], None] = lambda frame_id: None,
        keep: bool = True,
    ) -> None:
        self.frames: list[Taken] = []
        self.refused: list[int] = []
        self.damaged: list[int] = []
        self.gaps: list[int] = []  # ids found to be skipped, as the capture worker finds them
        self.reported: list[int] = []  # ids that the source reported itself
        self.offered_ids: list[int] = []
        self._refuse = refuse
        self._on_acquire = on_acquire
        self._keep = keep
        self._slot: Pixels | None = None
        self._pending: tuple[int, int, int] | None = None

    def acquire(
        self,
        frame_id: int,
        camera_ns: int,
        *,
        width_px: int,
        height_px: int,
        pixel_format: PixelFormat,
    ) -> Pixels | None:
        host_ns = time.perf_counter_ns()
        assert self._pending is None, "two frames acquired at once"
        self._on_acquire(frame_id)
        self._arrive(frame_id)
        if frame_id in self._refuse:
            self.refused.append(frame_id)
            return None
        shape = pixel_format.shape(width_px, height_px)
        if self._slot is None or self._slot.shape != shape:
            self._slot = np.full(shape, 77, np.uint8)
        self._pending = (frame_id, camera_ns, host_ns)
        return self._slot

    def publish(self) -> None:
        assert self._pending is not None, "published without a frame"
        assert self._slot is not None
        pixels = self._slot.copy() if self._keep else self._slot
        self.frames.append(Taken(*self._pending, pixels))
        self._pending = None

    def incomplete(self, frame_id: int, camera_ns: int) -> None:
        self._arrive(frame_id)
        self.damaged.append(frame_id)

    def missed(self, first_id: int, last_id: int) -> None:
        assert first_id <= last_id
        self.reported.extend(range(first_id, last_id + 1))
        self.offered_ids.extend(range(first_id, last_id + 1))

    @property
    def ids(self) -> list[int]:
        """Ids of the published frames."""
        return [frame.frame_id for frame in self.frames]

    def _arrive(self, frame_id: int) -> None:
        if self.offered_ids:
            skipped = range(self.offered_ids[-1] + 1, frame_id)
            self.gaps.extend(skipped)
            self.offered_ids.extend(skipped)
        self.offered_ids.append(frame_id)


class StopWhileWaiting(threading.Event):
    """A stop that comes when a run has asked for it several times: it is waiting by then."""

    def __init__(self, asked: int = 6) -> None:
        super().__init__()
        self._left = asked

    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


def play(spec: SourceSpec, sink: MemorySink | None = None) -> tuple[MemorySink, str, Source]:
    """Open, run to its own end and close one source."""
    sink = sink or MemorySink()
    source = open_source(spec)
    source.open()
    try:
        reason = source.run(sink, threading.Event())
    finally:
        source.close()
    return sink, reason, source
