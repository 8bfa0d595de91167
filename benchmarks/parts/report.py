"""What a run found, as a table, a picture and a value for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.parts.rounds import Contest

__all__ = ["as_value", "draw", "show"]

OURS, THEIRS = "tab:blue", "silver"
COLUMNS = 3
PANEL_INCHES = (4.2, 1.7)


def show(contests: Sequence[Contest], console: Console) -> None:
    """Print a row per contender: its median, and how many times as good the first one is."""
    table = Table("part", "measured", "contender", "median", "unit", "ratio")
    for contest in contests:
        for number, name in enumerate(contest.values):
            first = number == 0
            table.add_row(
                contest.part if first else "",
                contest.question if first else "",
                name,
                _short(contest.median(name)),
                contest.unit if first else "",
                "" if first else f"{contest.times(name):.2f} x",
                end_section=number == len(contest.values) - 1,
            )
    console.print(table)
    missing = {name: why for contest in contests for name, why in contest.missing.items()}
    for name, why in missing.items():
        console.print(f"not measured: {name}, {why}", markup=False)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_value(contest: Contest) -> dict[str, Any]:
    """All rounds, medians and ratios."""
    names = list(contest.values)
    return {
        "part": contest.part,
        "measured": contest.question,
        "unit": contest.unit,
        "rounds": {name: list(contest.values[name]) for name in names},
        "median": {name: contest.median(name) for name in names},
        "times_as_good": {name: contest.times(name) for name in names[1:]},
        "not_measured": dict(contest.missing),
    }


def draw(contests: Sequence[Contest], path: Path) -> None:
    """One panel a contest: medians as bars, each round as a dot.

    Args:
        contests: What to show; those without another contender are left out.
        path: PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    shown = [contest for contest in contests if len(contest.values) > 1]
    rows = -(-len(shown) // COLUMNS)
    size = (COLUMNS * PANEL_INCHES[0], rows * PANEL_INCHES[1])
    with plt.rc_context({"font.size": 7.5, "axes.titlesize": 8.5}):
        figure, grid = plt.subplots(
            rows, COLUMNS, figsize=size, layout="constrained", squeeze=False
        )
        for axes in grid.flat[len(shown) :]:
            axes.axis("off")
        for contest, axes in zip(shown, grid.flat, strict=False):
            _panel(axes, contest)
        figure.savefig(path, dpi=120)
        plt.close(figure)


def _panel(axes: Any, contest: Contest) -> None:
    names = list(contest.values)
    places = range(len(names))
    medians = [contest.median(name) for name in names]
    axes.barh(places, medians, color=[OURS, *[THEIRS] * (len(names) - 1)], height=0.7)
    for place, name in zip(places, names, strict=True):
        values = contest.values[name]
        axes.plot(values, [place] * len(values), "k.", markersize=2.5)
        axes.annotate(
            f" {_short(contest.median(name))}",
            (max(values), place),
            va="center",
            annotation_clip=False,
        )
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlim(left=0)
    direction = "more" if contest.unit == "MB/s" else "less"
    axes.set_title(f"{contest.part}: {contest.question}", loc="left")
    axes.set_xlabel(f"{contest.unit}, {direction} is better", labelpad=1)
