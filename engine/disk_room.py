"""How much room the recording's disk has left, for how long, and when that is worth a warning.

It looks and tells; what happens when the disk is full is the writer's (container/writer.py).
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

__all__ = ["DiskRoom", "LowWater", "minutes_left"]

LOOK_EVERY_S = 1.0
TICKS_PER_S = 90_000  # of a PTS
REARM = 1.5


def minutes_left(free_bytes: int, size_bytes: int, recorded_pts: int) -> float | None:
    """Forecast from what was recorded so far; None while that is too little to tell.

    Args:
        free_bytes: Room on the disk.
        size_bytes: Of the recording's files.
        recorded_pts: Where the recording ends, 90 kHz.
    """
    if size_bytes <= 0 or recorded_pts < TICKS_PER_S:
        return None
    return round(free_bytes * recorded_pts / size_bytes / TICKS_PER_S / 60, 1)


class LowWater:
    """Which limits the time left has fallen below; each is told once, until there is room again.

    Args:
        limits_min: Minutes.
    """

    def __init__(self, limits_min: Sequence[float]) -> None:
        self._limits = sorted(limits_min)
        self._told: float | None = None

    def crossed(self, minutes: float | None) -> float | None:
        """The lowest limit that ``minutes`` is at or below, if it was not told; otherwise None."""
        if minutes is None:
            return None
        if self._told is not None and minutes > self._told * REARM:
            self._told = None
        limit = next((limit for limit in self._limits if minutes <= limit), None)
        if limit is None or (self._told is not None and limit >= self._told):
            return None
        self._told = limit
        return limit


class DiskRoom:
    """Room on the disk of one recording.

    Args:
        directory: Where its files lie.
        limits_min: Warn when no more than so many minutes are left.

    Attributes:
        free_bytes: As last seen; 0 if the disk does not say.
        minutes: Until it is full, at the recording's own bit rate; None while that is unknown.
    """

    def __init__(self, directory: Path, limits_min: Sequence[float]) -> None:
        self.free_bytes = 0
        self.minutes: float | None = None
        self._directory = directory
        self._low = LowWater(limits_min)
        self._looked_at: float | None = None
        self._warning: float | None = None

    def look(self, *, size_bytes: int, recorded_pts: int, now_s: float) -> None:
        """Look at the disk, at most once a second."""
        if self._looked_at is not None and now_s - self._looked_at < LOOK_EVERY_S:
            return
        self._looked_at = now_s
        try:
            self.free_bytes = shutil.disk_usage(self._directory).free
        except OSError:
            self.free_bytes = 0
        self.minutes = minutes_left(self.free_bytes, size_bytes, recorded_pts)
        limit = self._low.crossed(self.minutes)
        if limit is not None:
            self._warning = limit

    def take_warning(self) -> float | None:
        """The limit that was crossed since the last call, minutes."""
        warning, self._warning = self._warning, None
        return warning
