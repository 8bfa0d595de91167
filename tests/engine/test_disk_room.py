"""The forecast of the disk, and the warnings before it is full."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.disk_room import DiskRoom, LowWater, minutes_left

TICKS_PER_S = 90_000
minutes = st.floats(0, 1000)


def test_the_forecast_is_room_over_bit_rate() -> None:
    """A gigabyte at 10 MB a minute lasts 100 minutes; a second of video is the least to go by."""
    assert minutes_left(1_000_000_000, 20_000_000, 120 * TICKS_PER_S) == 100.0
    assert minutes_left(1_000_000_000, 1_000_000, TICKS_PER_S - 1) is None
    assert minutes_left(1_000_000_000, 0, 10 * TICKS_PER_S) is None
    assert minutes_left(0, 20_000_000, 120 * TICKS_PER_S) == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 100), max_size=5, unique=True), st.lists(minutes, max_size=40))
def test_each_limit_is_told_once_on_the_way_down(limits: list[float], course: list[float]) -> None:
    """However the disk empties: what is told was crossed, lower each time, and never late."""
    low, told = LowWater(limits), []
    for left in sorted(course, reverse=True):
        limit = low.crossed(left)
        below = [one for one in limits if left <= one]
        if limit is not None:
            assert limit == min(below)
            told.append(limit)
        assert bool(told) == bool(below)
        assert not told or told[-1] == min(below)
    assert all(later < before for before, later in pairwise(told))


def test_room_that_comes_back_arms_the_warning_again() -> None:
    """A little more is no room: a forecast that swings about its limit is told once."""
    low = LowWater([5.0, 1.0])
    course = [9.0, 4.9, 5.1, 4.8, None, 0.9, 1.2, 0.8, 30.0, 4.0]
    assert [low.crossed(left) for left in course] == [
        *(None, 5.0, None, None, None, 1.0, None, None, None, 5.0)
    ]


def test_a_real_disk_is_looked_at_once_a_second(tmp_path: Path) -> None:
    """Its room is what the system says; the warning is given out once."""
    room = DiskRoom(tmp_path, [1e9])
    room.look(size_bytes=1000, recorded_pts=10 * TICKS_PER_S, now_s=1.0)
    assert abs(room.free_bytes - shutil.disk_usage(tmp_path).free) < 1 << 30
    assert room.minutes is not None
    before = room.minutes
    room.look(size_bytes=10**12, recorded_pts=10 * TICKS_PER_S, now_s=1.5)
    assert room.minutes == before
    assert room.take_warning() == 1e9
    assert room.take_warning() is None
    gone = DiskRoom(tmp_path / "not there", [5.0])
    gone.look(size_bytes=1000, recorded_pts=10 * TICKS_PER_S, now_s=0.0)
    assert (gone.free_bytes, gone.take_warning()) == (0, 5.0)
