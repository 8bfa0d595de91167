"""The synthetic camera: moving, noisy, numbered pictures at an exact pace, and lost frames if late.

It behaves as a camera does: its clock has an origin of its own, its ids go on whether or not the
host keeps up, frames wait for a late host in as many buffers as an SDK would be given, and a frame
that finds no buffer never comes. Every frame carries its id as a barcode (engine/barcode.py), so
that a recording can be checked frame by frame.
Its frame rate can really be changed; exposure, gain and the automatics are numbers that it keeps
and shows, and that do nothing to the picture.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction

import msgspec

from engine import barcode
from ipc.camera_control import CameraChanges, CameraState
from ipc.errors import ConfigError, WrongState
from ipc.frame import PixelFormat
from workers.sources import picture
from workers.sources.source import (
    FrameSink,
    Pixels,
    SourceInfo,
    SourceSpec,
    SourceStatistics,
    frame_buffers,
    refuse_odd_width,
    wait_until,
)

__all__ = ["SyntheticSource"]

DEFAULT_SIZE_PX = (1920, 1200)
DEFAULT_RATE_HZ = 30.0
RATES_HZ = (0.01, 10_000.0)
PATTERNS = ("scene", "chart")
NS = 1_000_000_000
EXPOSURES_US, GAINS_DB, BINNINGS = (20.0, 1e7), (0.0, 24.0), (1, 4)
AT_POWER_UP = CameraState(
    exposure_us=5000.0,
    gain_db=0.0,
    auto_exposure=False,
    auto_gain=False,
    auto_white_balance=False,
    binning=1,
    exposure_range_us=EXPOSURES_US,
    gain_range_db=GAINS_DB,
    frame_rate_range_hz=RATES_HZ,
    binning_range=BINNINGS,
)


@dataclass(frozen=True, slots=True)
class _Pace:
    """The rate since a frame, and when that was due."""

    rate: Fraction
    first_id: int = 0
    first_ns: int = 0

    def offset_ns(self, frame_id: int) -> int:
        """When a frame is due, counted from the very first; whole numbers do not drift."""
        since = frame_id - self.first_id
        return self.first_ns + since * NS * self.rate.denominator // self.rate.numerator

    def at(self, rate: Fraction, frame_id: int) -> _Pace:
        """Another rate from a frame on."""
        return _Pace(rate, frame_id, self.offset_ns(frame_id))


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
        self._rate = _fraction(spec.rate_hz or DEFAULT_RATE_HZ)
        self._pace = _Pace(self._rate)
        self._state = AT_POWER_UP
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
        binning = (self._spec.changes and self._spec.changes.binning) or 1
        if not BINNINGS[0] <= binning <= BINNINGS[1]:
            raise ConfigError(f"The synthetic camera does not join {binning} pixels.")
        width = self._spec.width or DEFAULT_SIZE_PX[0] // binning
        height = self._spec.height or DEFAULT_SIZE_PX[1] // binning
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
        self._pace = _Pace(self._rate)
        self._state = msgspec.structs.replace(
            AT_POWER_UP, frame_rate_hz=float(self._rate), binning=binning
        )
        if self._spec.changes is not None:
            self.adjust(self._spec.changes)
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
            if self._rate != self._pace.rate:
                self._pace = self._pace.at(self._rate, frame_id)
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

    @property
    def info(self) -> SourceInfo | None:
        """What it delivers since the last change; None while it is not open."""
        return self._info

    def camera_state(self) -> CameraState:
        """What it shows as its settings."""
        if self._info is None:
            raise WrongState("The synthetic camera is not open.")
        return self._state

    def adjust(self, changes: CameraChanges) -> CameraState:
        """Keep the numbers; the frame rate holds from the next frame on."""
        state, info = self.camera_state(), self._info
        assert info is not None  # else it would have no state
        if changes.exposure_us is not None:
            exposure = _within(changes.exposure_us, EXPOSURES_US)
            state = msgspec.structs.replace(state, exposure_us=exposure, auto_exposure=False)
        if changes.gain_db is not None:
            gain = _within(changes.gain_db, GAINS_DB)
            state = msgspec.structs.replace(state, gain_db=gain, auto_gain=False)
        for name in ("auto_exposure", "auto_gain", "auto_white_balance"):
            wish = getattr(changes, name)
            if wish is not None:
                state = msgspec.structs.replace(state, **{name: wish})
        if changes.frame_rate_hz is not None:
            self._rate = _fraction(_within(changes.frame_rate_hz, RATES_HZ))
            state = msgspec.structs.replace(state, frame_rate_hz=float(self._rate))
            self._info = replace(info, rate_hz=float(self._rate))
        self._state = state
        return state

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
        """Deadline of a frame, counted from the first one."""
        return self._pace.offset_ns(frame_id)

    def _first_in_time(self, start_ns: int, frame_id: int) -> int:
        """The first id from ``frame_id`` on that the buffers still hold."""
        late_ns = time.perf_counter_ns() - start_ns - self._offset_ns(frame_id)
        self._max_late_ns = max(self._max_late_ns, late_ns)
        period_ns = NS * self._pace.rate.denominator // self._pace.rate.numerator
        lasting_ns = frame_buffers(float(self._pace.rate)) * period_ns
        return frame_id + max(0, -(-(late_ns - lasting_ns) // period_ns))

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


def _fraction(rate_hz: float) -> Fraction:
    return Fraction(rate_hz).limit_denominator(10_000)


def _within(value: float, limits: tuple[float, float]) -> float:
    return min(max(value, limits[0]), limits[1])
