"""The synthetic camera: moving, noisy, numbered pictures at an exact pace, and lost frames if late.

It behaves as a camera does: its clock has an origin of its own, its ids go on whether or not the
host keeps up, and a frame whose deadline passed by more than one period never comes. Every frame
carries its id as a barcode (engine/barcode.py), so that a recording can be checked frame by frame.
"""

from __future__ import annotations

import random
import threading
import time
from fractions import Fraction

from engine import barcode
from ipc.errors import ConfigError, WrongState
from ipc.frame import PixelFormat
from workers.sources import picture
from workers.sources.source import (
    FrameSink,
    Pixels,
    SourceInfo,
    SourceSpec,
    SourceStatistics,
    refuse_odd_width,
    wait_until,
)

__all__ = ["SyntheticSource"]

DEFAULT_SIZE_PX = (1920, 1200)
DEFAULT_RATE_HZ = 30.0
RATES_HZ = (0.01, 10_000.0)
PATTERNS = ("scene", "chart")
NS = 1_000_000_000


class SyntheticSource:
    """A camera that exists in software only.

    Args:
        spec: Size (default 1920x1200), rate (30), pixel format (bgr8), limit, pace.
        pattern: ``scene`` moves and is noisy; ``chart`` shows the still patches of
            `picture.chart_patches`.
        seed: The same seed gives the same pictures and the same clock origin.
    """

    def __init__(self, spec: SourceSpec, *, pattern: str = "scene", seed: int = 1) -> None:
        if pattern not in PATTERNS:
            raise ConfigError(
                f"The synthetic camera has no pattern {pattern!r}.",
                hint="Use synthetic or synthetic:chart.",
            )
        self._spec = spec
        self._pattern = pattern
        self._seed = seed
        self._rate = Fraction(spec.rate_hz or DEFAULT_RATE_HZ).limit_denominator(10_000)
        # A camera counts from its power-up, never from the host's zero.
        self._origin_ns = random.Random(seed).randrange(10**12, 10**15)
        self._scenery: picture.Scenery | None = None
        self._chart: Pixels | None = None
        self._info: SourceInfo | None = None
        self._published = self._refused = self._missed = self._max_late_ns = 0

    def open(self) -> SourceInfo:
        """Render the picture (under a second at 1920x1200).

        Raises:
            ConfigError: A size that cannot hold the barcode, an odd width in yuv422, or a rate
                out of range.
        """
        width = self._spec.width or DEFAULT_SIZE_PX[0]
        height = self._spec.height or DEFAULT_SIZE_PX[1]
        pixel_format = self._spec.pixel_format or PixelFormat.BGR8
        barcode.cell_side_px(width, height)
        refuse_odd_width(width, pixel_format)
        if not RATES_HZ[0] <= (self._spec.rate_hz or DEFAULT_RATE_HZ) <= RATES_HZ[1]:
            raise ConfigError(f"The rate must lie between {RATES_HZ[0]} and {RATES_HZ[1]} Hz.")
        if self._pattern == "chart":
            self._chart = picture.render_chart(width, height, pixel_format)
        else:
            self._scenery = picture.render_scenery(width, height, pixel_format, self._seed)
        self._published = self._refused = self._missed = self._max_late_ns = 0
        camera = {"model": "synthetic", "serial": f"seed-{self._seed}", "pattern": self._pattern}
        self._info = SourceInfo(
            width_px=width,
            height_px=height,
            pixel_format=pixel_format,
            rate_hz=float(self._rate),
            camera=camera,
            clock="nominal exposure times, ns from the synthetic camera's power-up",
        )
        return self._info

    def run(self, sink: FrameSink, stop: threading.Event) -> str:
        """Deliver ids from 0 on until the limit (``limit``) or the stop (``stopped``).

        Raises:
            WrongState: The source is not open.
        """
        if self._info is None:
            raise WrongState("The synthetic camera is not open.")
        limit = self._spec.frames
        start_ns = time.perf_counter_ns()
        frame_id = 0
        while not stop.is_set():
            if limit is not None and frame_id >= limit:
                return "limit"
            if self._spec.realtime:
                if not wait_until(start_ns + self._offset_ns(frame_id), stop):
                    break
                first = frame_id
                frame_id = self._first_in_time(start_ns, first)
                if limit is not None and frame_id >= limit:
                    self._missed += limit - first
                    sink.missed(first, limit - 1)
                    return "limit"
                self._missed += frame_id - first  # the sink sees the gap at the next id
            self._deliver(sink, frame_id)
            frame_id += 1
        return "stopped"

    def statistics(self) -> SourceStatistics:
        """Counts since the source was opened."""
        return SourceStatistics(
            published=self._published,
            refused=self._refused,
            missed=self._missed,
            max_late_ns=self._max_late_ns,
        )

    def close(self) -> None:
        """Free the canvases."""
        self._scenery = self._chart = self._info = None

    def _offset_ns(self, frame_id: int) -> int:
        """Deadline of a frame, counted from the first one; whole numbers do not drift."""
        return frame_id * NS * self._rate.denominator // self._rate.numerator

    def _first_in_time(self, start_ns: int, frame_id: int) -> int:
        """The first id from ``frame_id`` on that is not more than one period late."""
        late_ns = time.perf_counter_ns() - start_ns - self._offset_ns(frame_id)
        self._max_late_ns = max(self._max_late_ns, late_ns)
        period_ns = self._offset_ns(1)
        return frame_id + max(0, -(-(late_ns - period_ns) // period_ns))

    def _deliver(self, sink: FrameSink, frame_id: int) -> None:
        info = self._info
        assert info is not None  # checked by run
        view = sink.acquire(
            frame_id,
            self._origin_ns + self._offset_ns(frame_id),
            width_px=info.width_px,
            height_px=info.height_px,
            pixel_format=info.pixel_format,
        )
        if view is None:
            self._refused += 1
            return
        if self._scenery is not None:
            self._scenery.draw(view, frame_id)
        elif self._chart is not None:
            view[:] = self._chart
        barcode.stamp(view, frame_id, info.pixel_format)
        sink.publish()
        self._published += 1
