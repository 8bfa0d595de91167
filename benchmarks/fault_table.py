"""The record of the fault benchmark: one line per kind, as figures, on a terminal and in Markdown.

Made of `Row`s; the Markdown is made of the record alone, so the README's table can be compared
with the file it was taken from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.fault_plan import KINDS, Plan
from benchmarks.fault_verdict import Outcome
from benchmarks.measure import machine

__all__ = ["Row", "describe", "markdown", "record", "show", "summary"]

COLUMNS = (
    *("seed", "kind", "manner", "phase", "moment_s", "hit", "loss_s", "charged_s", "bound_s"),
    *("late_frames", "excused_frames"),
)
WORDS = {"all": "all at once", "total": "**total**"}


@dataclass(frozen=True, slots=True)
class Row:
    """One round and what came of it; without an outcome the round itself broke down."""

    plan: Plan
    outcome: Outcome | None
    problems: tuple[str, ...]
    shared_memory: tuple[str, ...] = ()
    took_s: float = 0.0


def summary(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """One entry per kind, in the order of `KINDS`, and one for all rounds."""
    rows = list(rows)
    groups = {kind: [row for row in rows if row.plan.kind == kind] for kind in KINDS}
    return {kind: _counts(group) for kind, group in {**groups, "total": rows}.items() if group}


def _counts(rows: list[Row]) -> dict[str, Any]:
    found = [row.outcome for row in rows if row.outcome is not None]
    losses = [outcome.loss_s for outcome in found] or [0.0]
    frames = [outcome.loss_frames for outcome in found] or [0]
    shares = [outcome.charged_s / outcome.bound_s for outcome in found if outcome.bound_s]
    return {
        "rounds": len(rows),
        "hit": sum(outcome.hit for outcome in found),
        "unreadable": sum(bool(outcome.unreadable) for outcome in found),
        "unbalanced": sum(bool(outcome.unbalanced) for outcome in found),
        "orphans": sum(len(outcome.orphans) for outcome in found),
        "shared_memory": sum(len(row.shared_memory) for row in rows),
        "over_bound": sum(bool(outcome.over_bound) for outcome in found),
        "failed": sum(bool(row.problems) for row in rows),
        "loss_frames_max": max(frames),
        "loss_frames_median": median(frames),
        "loss_s_max": round(max(losses), 2),
        "loss_s_median": round(median(losses), 2),
        "bound_used_max": round(max(shares), 2) if shares else None,
        "late_frames": sum(outcome.late_frames for outcome in found),
        "excused_frames": sum(outcome.excused_frames for outcome in found),
    }


def show(rows: list[Row], console: Console) -> None:
    """The table, and what failed."""
    table = Table(box=None, padding=(0, 1), collapse_padding=True)
    heads = ("hit", "rounds", "alive", "unread", "unbal", "orph", "over", "failed", "max", "median")
    for head in heads:
        table.add_column(head, no_wrap=True, justify="left" if head == "hit" else "right")
    for kind, counts in summary(rows).items():
        names = ("rounds", "hit", "unreadable", "unbalanced", "orphans", "over_bound", "failed")
        losses = [f"{counts[f'loss_s_{which}']:.2f} s" for which in ("max", "median")]
        table.add_row(kind, *(str(counts[name]) for name in names), *losses)
    console.print(table)
    for row in rows:
        if row.problems:
            console.print(describe(row), markup=False, highlight=False)


def describe(row: Row) -> str:
    """A failed round: what it was, what is wrong, how to run it again."""
    problems = "\n".join(f"    {text}" for text in row.problems)
    again = f"python -m benchmarks.faults --rounds 1 --seed {row.plan.seed}"
    return f"seed {row.plan.seed} ({row.plan}):\n{problems}\n    again: {again}"


def record(rows: list[Row], first_seed: int) -> dict[str, Any]:
    """The JSON record: the table, every round in a line, every failure in full."""
    return {
        "machine": machine(),
        "first_seed": first_seed,
        "table": summary(rows),
        "failures": [
            {"seed": row.plan.seed, "round": str(row.plan), "problems": list(row.problems)}
            for row in rows
            if row.problems
        ],
        "columns": COLUMNS,
        "rounds": [_line(row) for row in rows],
    }


def _line(row: Row) -> str:
    wish, outcome = row.plan, row.outcome
    cells = [wish.seed, wish.kind, wish.manner, wish.phase, round(wish.moment_s, 2)]
    if outcome is not None:
        cells += [int(outcome.hit), outcome.loss_s, outcome.charged_s, outcome.bound_s]
        cells += [outcome.late_frames, outcome.excused_frames]
    return " ".join("-" if cell is None else str(cell) for cell in cells)


def markdown(found: dict[str, Any]) -> str:
    """The table of a record, for the README."""
    lines = [
        "| killed | rounds | alive when hit | unreadable | unbalanced | orphans "
        "| beyond the bound | max. loss | median loss |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, counts in found["table"].items():
        names = ("rounds", "hit", "unreadable", "unbalanced", "orphans", "over_bound")
        cells = [str(counts[name]) for name in names]
        cells += [
            f"{counts[f'loss_frames_{which}']:g} ({counts[f'loss_s_{which}']:.2f} s)"
            for which in ("max", "median")
        ]
        lines.append(f"| {WORDS.get(kind, kind.replace('+', ' and '))} | {' | '.join(cells)} |")
    return "\n".join(lines)
