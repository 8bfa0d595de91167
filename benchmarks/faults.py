"""What does a recording lose when its processes are killed, at any moment, in any combination?

Real recordings at 640x400, a few seconds each: SIGKILL, SIGSTOP and SIGKILL, or a segfault of
capture, encoder, supervisor, controller, any pair, or all at once; in start, recording and stop.
After each round: no process and no shared memory is left, every part opens to its last durable
chunk, the ledger balances, and what is lost is within what the README promises. Linux only.

    python -m benchmarks.faults --rounds 500
    python -m benchmarks.faults --rounds 1 --seed 4711      # the round of that seed again
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.fault_evidence import read_evidence
from benchmarks.fault_plan import KINDS, Plan, plan, seeds
from benchmarks.fault_round import run_round
from benchmarks.fault_verdict import Outcome, judge
from benchmarks.measure import machine, write_json
from benchmarks.processes import adopt_orphans
from engine.keys import new_key_file, secret_from

SHARED_MEMORY = Path("/dev/shm")
COLUMNS = ("seed", "kind", "manner", "phase", "moment_s", "hit", "loss_s", "bound_s", "late_frames")


@dataclass(frozen=True, slots=True)
class Row:
    """One round and what came of it; without an outcome the round itself broke down."""

    plan: Plan
    outcome: Outcome | None
    problems: tuple[str, ...]
    shared_memory: tuple[str, ...] = ()
    took_s: float = 0.0


def run_one(wish: Plan, work: Path, key_file: Path) -> Row:
    """Run and judge one round; what it left is deleted unless something is wrong with it."""
    folder = work / f"round-{wish.seed}"
    folder.mkdir()
    before, began = _shared_memory(), time.monotonic()
    try:
        course = run_round(wish, folder, key_file)
        evidence = read_evidence(folder / "x.mp4.enc", secret_from(key_file=str(key_file)))
        outcome = judge(wish, course, evidence)
    except Exception:  # noqa: BLE001 - hours of rounds must not end with one of them
        problems = (f"the round broke down: {traceback.format_exc()}",)
        return Row(wish, None, problems, took_s=time.monotonic() - began)
    shared = tuple(sorted(_shared_memory() - before))
    problems = outcome.problems + tuple(f"{name} in /dev/shm" for name in shared)
    if problems:
        course.write(folder / "course.json")
    else:
        shutil.rmtree(folder)
    return Row(wish, outcome, problems, shared, time.monotonic() - began)


def _shared_memory() -> frozenset[str]:
    return frozenset(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else frozenset()


def summary(rows: Iterable[Row]) -> dict[str, dict[str, Any]]:
    """One entry per kind, in the order of `KINDS`, and one for all rounds."""
    rows = list(rows)
    groups = {kind: [row for row in rows if row.plan.kind == kind] for kind in KINDS}
    return {kind: _counts(group) for kind, group in {**groups, "total": rows}.items() if group}


def _counts(rows: list[Row]) -> dict[str, Any]:
    found = [row.outcome for row in rows if row.outcome is not None]
    losses = [outcome.loss_s for outcome in found] or [0.0]
    frames = [outcome.loss_frames for outcome in found] or [0]
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
    }


def show(rows: list[Row], console: Console) -> None:
    """The table, and what failed."""
    table = Table("hit", "rounds", "alive", "unread.", "unbal.", "orphans", "over", "failed")
    for which in ("max", "median"):
        table.add_column(f"{which} loss", no_wrap=True)
    for kind, counts in summary(rows).items():
        names = ("rounds", "hit", "unreadable", "unbalanced", "orphans", "over_bound", "failed")
        cells = [str(counts[name]) for name in names]
        losses = [
            f"{counts[f'loss_frames_{which}']:g} ({counts[f'loss_s_{which}']:.2f} s)"
            for which in ("max", "median")
        ]
        table.add_row(kind, *cells, *losses)
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
        cells += [int(outcome.hit), outcome.loss_s, outcome.bound_s, outcome.late_frames]
    return " ".join("-" if cell is None else str(cell) for cell in cells)


def main() -> int:
    """Run the rounds; 1 if any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of the first round; without it a new one")
    parser.add_argument("--kinds", default=",".join(KINDS), help="who is hit, comma-separated")
    parser.add_argument("--work", type=Path, help="where to record; failed rounds stay there")
    parser.add_argument("--out", type=Path, help="directory for the JSON record")
    wish = parser.parse_args()
    adopt_orphans()
    # The controller's segfault is on purpose; the engine's processes forbid their dumps themselves.
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    first = wish.seed if wish.seed is not None else int(time.time()) % 1_000_000 * 1000
    console = Console()
    if wish.work is not None:
        wish.work.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="faults-", dir=wish.work))
    key_file = work / "key"
    new_key_file(key_file)
    rows = run_rounds(seeds(first, wish.rounds, wish.kinds.split(",")), work, key_file, console)
    show(rows, console)
    if not any(row.problems for row in rows):
        shutil.rmtree(work)
    else:
        console.print(f"what the failed rounds left: {work}", soft_wrap=True)
    console.print(write_json("faults", record(rows, first), wish.out), soft_wrap=True)
    return 1 if any(row.problems for row in rows) else 0


def run_rounds(chosen: list[int], work: Path, key_file: Path, console: Console) -> list[Row]:
    """Run all rounds, showing failures as they come; Ctrl-C ends after those that are done."""
    rows: list[Row] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(chosen))
        for seed in chosen:
            failed = sum(bool(row.problems) for row in rows)
            progress.update(task, description=f"{failed} failed; {plan(seed)}")
            try:
                rows.append(run_one(plan(seed), work, key_file))
            except KeyboardInterrupt:
                break
            if rows[-1].problems:
                progress.console.print(describe(rows[-1]), markup=False, highlight=False)
            progress.advance(task)
    return rows


if __name__ == "__main__":
    sys.exit(main())
