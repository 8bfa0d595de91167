"""Where a moment on the host's clock lies in a recording's time. Pure.

Marks, events and losses have times of the host; pictures have those of the camera. Each fragment's
first and last frame have both, and tie them together.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence

from engine.container.boxes import TIMESCALE_HZ
from engine.container.tables import ClockPair, FrameRow

__all__ = ["HostTimes", "utc_ns"]

_NS_PER_TICK = 1_000_000_000 / TIMESCALE_HZ


class HostTimes:
    """Two points a fragment; between them time passes evenly, also over a gap."""

    def __init__(self) -> None:
        self._host_ns, self._pts = array("q"), array("q")

    def add(self, rows: Sequence[FrameRow]) -> None:
        """Take the frames of a fragment; they come in order, a repeated one changes nothing."""
        for row in (rows[0], rows[-1]) if rows else ():
            if not self._host_ns or (row.host_ns > self._host_ns[-1] and row.pts > self._pts[-1]):
                self._host_ns.append(row.host_ns)
                self._pts.append(row.pts)

    def pts_of(self, host_ns: int, end_pts: int) -> int:
        """Time in the recording, 90 kHz.

        Args:
            host_ns: ``time.perf_counter_ns()`` of the recording engine.
            end_pts: Where the recording ends; what came later is there. What came before is at 0.
        """
        at = bisect_right(self._host_ns, host_ns) - 1
        if at < 0:
            return 0
        ns, pts = self._host_ns[at], self._pts[at]
        if at + 1 < len(self._host_ns):
            width_ns, width = self._host_ns[at + 1] - ns, self._pts[at + 1] - pts
            return pts + round((host_ns - ns) * width / width_ns)
        return min(pts + round((host_ns - ns) / _NS_PER_TICK), max(end_pts, pts))


def utc_ns(host_ns: int, clock: ClockPair | None) -> int | None:
    """Time of day of a moment on the host's clock, ns since 1970; None without a clock pair."""
    return None if clock is None else clock.utc_ns + host_ns - clock.host_ns
