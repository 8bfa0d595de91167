"""The report's plots as shapes, for HTML and PDF alike. Points, y downwards, no colours: tones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from engine.container.boxes import TIMESCALE_HZ
from engine.evidence.facts import Facts

__all__ = ["Drawing", "Label", "Rectangle", "Shape", "interval_plot", "timeline_plot"]

WIDTH: Final = 500
_LEFT, _RIGHT = 62, 474
_COLUMNS: Final = 400


@dataclass(frozen=True, slots=True)
class Rectangle:
    """A filled box. ``tone`` is ``good``, ``bad``, ``mark``, ``plot`` or ``axis``."""

    x: float
    y: float
    width: float
    height: float
    tone: str


@dataclass(frozen=True, slots=True)
class Label:
    """A text. ``anchor`` is ``start``, ``middle`` or ``end``."""

    x: float
    y: float
    text: str
    anchor: str = "start"


Shape = Rectangle | Label


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plot of ``WIDTH`` points.

    Attributes:
        title: What it shows.
        height: Points.
        shapes: In the order in which they are drawn.
    """

    title: str
    height: float
    shapes: tuple[Shape, ...]


def timeline_plot(facts: Facts, marks: Sequence[int]) -> Drawing:
    """Where there are pictures, losses, marks and events.

    Args:
        facts: Of the recording.
        marks: Their times in the recording, 90 kHz.
    """
    end = max(1, facts.end_pts)
    shapes: list[Shape] = []
    for row, name in enumerate(("pictures", "losses", "marks", "events")):
        shapes += [
            Label(_LEFT - 6, 20 + 20 * row, name, "end"),
            Rectangle(_LEFT, 24 + 20 * row, _RIGHT - _LEFT, 0.5, "axis"),
        ]
    edges = [0, *(edge for gap in facts.gaps for edge in (gap.from_pts, gap.to_pts)), end]
    shapes += _spans(list(zip(edges[::2], edges[1::2], strict=True)), end, 10, "good")
    shapes += _spans([(row.from_pts, row.to_pts) for row in facts.lost], end, 30, "bad")
    shapes += _spans([(pts, pts) for pts in marks], end, 50, "mark")
    shapes += _spans([(event.pts, event.pts) for event in facts.events], end, 70, "plot")
    title = "Pictures, losses, marks and events over the time of the recording"
    return Drawing(title, 110, (*shapes, *_time_axis(end, 92)))


def interval_plot(facts: Facts) -> Drawing:
    """The longest time between two frames, over the time of the recording."""
    end = max(1, facts.end_pts)
    columns = [0] * _COLUMNS
    for interval in facts.intervals:
        for at in _columns(interval.from_pts, interval.to_pts, end):
            columns[at] = max(columns[at], interval.longest_pts)
    usual = sorted(i.longest_pts for i in facts.intervals)[len(facts.intervals) // 2 :][:1]
    # What is usual fills a third; a gap of minutes would leave nothing to be seen of it.
    top = max(1, 3 * (usual[0] if usual and usual[0] else max(columns)))
    for gap in facts.gaps:
        for at in _columns(gap.from_pts, gap.to_pts, end):
            columns[at] = top + 1
    shapes: list[Shape] = list(_bars(columns, top))
    shapes += [
        Label(_LEFT - 6, 14, f"{top * 1000 / TIMESCALE_HZ:.0f} ms", "end"),
        Label(_LEFT - 6, 93, "0", "end"),
        Rectangle(_LEFT, 90, _RIGHT - _LEFT, 0.5, "axis"),
    ]
    title = "Longest time between two frames; full columns are gaps, or thrice the usual and more"
    return Drawing(title, 120, (*shapes, *_time_axis(end, 102)))


def _columns(from_pts: int, to_pts: int, end: int) -> range:
    """The columns of a stretch of time, one at least."""
    first, last = (min(_COLUMNS - 1, max(0, pts) * _COLUMNS // end) for pts in (from_pts, to_pts))
    return range(first, last + 1)


def _bars(columns: Sequence[int], top: int) -> Iterator[Shape]:
    """Columns from the axis up, those of one height side by side as one."""
    width, at = (_RIGHT - _LEFT) / len(columns), 0
    for value, run in groupby(columns):
        count = len(list(run))
        height = 80 * min(value, top) / top
        if height:
            tone = "bad" if value > top else "plot"
            yield Rectangle(_LEFT + at * width, 90 - height, count * width, height, tone)
        at += count


def _spans(spans: Sequence[tuple[int, int]], end: int, y: float, tone: str) -> Iterator[Shape]:
    """Boxes for stretches of time, each wide enough to be seen; at most one a point and place."""
    scale, drawn = (_RIGHT - _LEFT) / end, set()
    for begin, until in spans:
        x = _LEFT + min(max(0, begin), end) * scale
        width = max(1.0, (min(until, end) - begin) * scale)
        key = (round(x), round(width))
        if key not in drawn:
            drawn.add(key)
            yield Rectangle(x, y, min(width, _RIGHT + 1 - x), 12, tone)


def _time_axis(end: int, y: float) -> Iterator[Shape]:
    for part in range(5):
        pts = end * part // 4
        x = _LEFT + (_RIGHT - _LEFT) * part / 4
        yield Rectangle(x, y - 4, 0.5, 4, "axis")
        seconds = pts / TIMESCALE_HZ
        clock = f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{seconds % 60:04.1f}"
        yield Label(x, y + 10, clock, "middle")
