"""How long frames take from their arrival to the disk, in memory that does not grow with the hours.

Every frame counts into a bin of a logarithmic scale; the newest fragments are kept as they are.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping
from itertools import accumulate

__all__ = ["Latencies"]

BIN = math.log(1.005)  # so that a percentile is within half a per cent
SHORTEST_S = 1e-4
NEWEST_FRAGMENTS = 12


class Latencies:
    """Latencies of one recording."""

    def __init__(self) -> None:
        self._whole: Counter[int] = Counter()
        self._newest: deque[Counter[int]] = deque(maxlen=NEWEST_FRAGMENTS)
        self._shown: dict[str, float] | None = None  # of the newest; a status asks more often
        self._shown_of = -1
        self._fragments = 0

    def add(self, frames: int, *, first_host_ns: int, last_host_ns: int, durable_ns: int) -> None:
        """Count one durable fragment; its frames are taken as evenly spaced.

        Args:
            frames: In it; 0 counts nothing.
            first_host_ns: Arrival of the first one, ``time.perf_counter_ns()``.
            last_host_ns: Arrival of the last one.
            durable_ns: When the fragment was durable.
        """
        if frames < 1:
            return
        step_ns = (last_host_ns - first_host_ns) / max(1, frames - 1)
        fragment = Counter(
            _bin((durable_ns - first_host_ns - number * step_ns) / 1e9) for number in range(frames)
        )
        self._whole.update(fragment)
        self._newest.append(fragment)
        self._fragments += 1

    def percentiles(self) -> dict[str, float] | None:
        """p50 and p99 in seconds over the whole recording; None before the first fragment."""
        return _percentiles(self._whole)

    def newest(self) -> dict[str, float] | None:
        """The same over the newest fragments, about ten seconds."""
        if self._shown_of != self._fragments:
            bins = Counter[int]()
            for fragment in self._newest:
                bins.update(fragment)
            self._shown, self._shown_of = _percentiles(bins), self._fragments
        return self._shown


def _bin(latency_s: float) -> int:
    return round(math.log(max(latency_s, SHORTEST_S)) / BIN)


def _percentiles(bins: Mapping[int, int]) -> dict[str, float] | None:
    if not bins:
        return None
    order = sorted(bins)
    counts = list(accumulate(bins[at] for at in order))
    return {name: _at(share, order, counts) for name, share in (("p50", 0.5), ("p99", 0.99))}


def _at(share: float, order: list[int], counts: list[int]) -> float:
    """The latency that this share of the frames does not exceed."""
    rank = math.ceil(share * counts[-1])
    found = next(at for at, count in zip(order, counts, strict=True) if count >= rank)
    return round(math.exp(found * BIN), 4)
