"""What happened when, read from the tables of a recording."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.container.payload import offset_of_chunk
from engine.review.timeline import MAX_POINTS, Timeline, TimelineView
from tests.engine.recordings import FIRST_ID, PERIOD, Studio, flip
from tests.review.treatment import FRAMES, GAP, MARKS, record


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """The recording of the page's tests."""
    return record(tmp_path_factory.mktemp("timeline") / "x.mp4.enc")


def read(base: Path, studio: Studio) -> TimelineView:
    """All of it."""
    timeline, done = Timeline(base, studio.secret, salvage=False), threading.Event()
    assert timeline.view().frames == 0  # before anything was read
    timeline.start(then=done.set)
    assert done.wait(60)
    timeline.stop()
    return timeline.view()


def test_everything_has_its_time(studio: Studio) -> None:
    """Marks at their frames, the gap between its neighbours, the loss within it."""
    view = read(studio.base, studio)
    assert view.done == 1.0
    assert view.end_pts == FRAMES * PERIOD
    assert view.frames == FRAMES - len(GAP)
    assert view.lost == {"camera_gap": len(GAP)}
    marks = [(row.pts, row.kind, row.text) for row in view.rows if row.sort == "mark"]
    assert marks == [(at * PERIOD, kind, text) for at, kind, text in MARKS]
    [gap] = view.gaps
    assert (gap.start_pts, gap.end_pts) == ((GAP.start - 1) * PERIOD, GAP.stop * PERIOD)
    assert gap.kinds == ("camera_gap",)
    [loss] = [row for row in view.rows if row.sort == "loss"]
    assert abs(loss.pts - GAP.start * PERIOD) <= 1
    assert abs(loss.end_pts - (GAP.stop - 1) * PERIOD) <= 1
    assert loss.text == f"frames {FIRST_ID + GAP.start} to {FIRST_ID + GAP.stop - 1}"
    assert not view.problems


def test_intervals_are_a_plot(studio: Studio) -> None:
    """A column for each stretch with pictures, none in the gap, the gap's length behind it."""
    found = read(studio.base, studio).intervals
    assert found.usual_ms == pytest.approx(33.33)
    assert len(found.longest_ms) <= MAX_POINTS + 1
    middle = (GAP.start + GAP.stop) // 2 * PERIOD // found.step_pts
    assert found.longest_ms[middle] == 0
    behind = found.longest_ms[GAP.stop * PERIOD // found.step_pts + 1]
    assert behind == pytest.approx((len(GAP) + 1) * 1000 / 30, abs=0.1)
    for number in range(8, GAP.start - 8):
        assert found.longest_ms[number * PERIOD // found.step_pts] > 0


def test_what_cannot_be_read_is_named(studio: Studio, tmp_path: Path) -> None:
    """A damaged fragment is passed over; those behind it count."""
    for part in ("x.mp4.enc", "x.001.mp4.enc"):
        (tmp_path / part).write_bytes((studio.base.parent / part).read_bytes())
    flip(tmp_path / "x.mp4.enc", offset_of_chunk(4) + 100)
    view = read(tmp_path / "x.mp4.enc", studio)
    assert view.frames == FRAMES - len(GAP) - 8
    assert len(view.problems) == 1
    assert "is not what was written" in view.problems[0]
