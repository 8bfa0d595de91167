"""The capture worker with one camera more: a feed (`benchmarks.feed`) under ``file:FEED.json``.

Everything else is `workers.capture` as it is: its sink, its ring, its thread. A frame is copied
from memory into the ring, as it is from a camera SDK's buffer. Paced in real time it behaves as a
camera does: frames wait for a late host in as many buffers as an SDK has, and then are missed.
"""

from __future__ import annotations

import threading
import time
from fractions import Fraction
from pathlib import Path

import workers.capture
from benchmarks.feed import Feed, Player
from ipc.frame import PixelFormat
from ipc.worker import leave
from workers.sources.source import (
    FrameSink,
    Pixels,
    SourceInfo,
    SourceSpec,
    SourceStatistics,
    frame_buffers,
    wait_until,
)

__all__ = ["FeedCamera"]

NS = 1_000_000_000


class FeedCamera:
    """Delivers a feed once, as fast as the sink takes it or in real time."""

    def __init__(self, spec: SourceSpec) -> None:
        self._realtime = spec.realtime
        self._rate = Fraction(spec.rate_hz or 30.0).limit_denominator(10_000)
        self._player = Player(Feed.load(Path(spec.target)))
        self._published = self._refused = self._missed = 0

    def open(self) -> SourceInfo:
        """Touch every picture once, so that no page is new to this process while it is measured."""
        feed = self._player.feed
        for number in range(feed.pictures):
            self._player.frame(number).max()
        return SourceInfo(
            feed.width_px,
            feed.height_px,
            PixelFormat(feed.pixel_format),
            float(self._rate),
            camera={"model": "feed"},
            clock="nominal exposure times, ns",
        )

    def run(self, sink: FrameSink, stop: threading.Event) -> str:
        """See `workers.sources.source.Source.run`."""
        feed = self._player.feed
        start_ns = time.perf_counter_ns()
        number = 0
        while number < feed.total:
            if stop.is_set():
                return "stopped"
            if self._realtime:
                if not wait_until(start_ns + self._due_ns(number), stop):
                    return "stopped"
                first = self._first_in_time(start_ns, number)
                self._missed += first - number
                number = first
            self._deliver(sink, min(number, feed.total - 1))
            number += 1
        return "limit"

    def copy(self, view: Pixels, number: int) -> None:
        """From the feed into the ring, as from a camera SDK's buffer."""
        view[:] = self._player.frame(number)

    def statistics(self) -> SourceStatistics:
        """See `workers.sources.source.Source.statistics`."""
        return SourceStatistics(self._published, self._refused, self._missed)

    def close(self) -> None:
        """See `workers.sources.source.Source.close`; the pictures belong to the benchmark."""

    def _due_ns(self, number: int) -> int:
        return number * NS * self._rate.denominator // self._rate.numerator

    def _first_in_time(self, start_ns: int, number: int) -> int:
        """The first frame that the buffers of an SDK would still hold."""
        late_ns = time.perf_counter_ns() - start_ns - self._due_ns(number)
        period_ns = self._due_ns(1)
        beyond_ns = late_ns - frame_buffers(float(self._rate)) * period_ns
        return number + max(0, -(-beyond_ns // period_ns))

    def _deliver(self, sink: FrameSink, number: int) -> None:
        feed = self._player.feed
        view = sink.acquire(
            number,
            self._due_ns(number) + 1,
            width_px=feed.width_px,
            height_px=feed.height_px,
            pixel_format=PixelFormat(feed.pixel_format),
        )
        if view is None:
            self._refused += 1
            return
        self.copy(view, number)
        sink.publish()
        self._player.mark(number)
        self._published += 1


if __name__ == "__main__":
    workers.capture.open_source = FeedCamera  # type: ignore[attr-defined]
    code = workers.capture.main()
    leave(code)
