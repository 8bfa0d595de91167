"""What does a recording lose when its processes are killed, at any moment, in any combination?

Real recordings at 640x400, a few seconds each: SIGKILL, SIGSTOP and SIGKILL, or a segfault of
capture, encoder, supervisor, controller, any pair, or all at once; in start, recording and stop.
After each round: no process and no shared memory is left, every part opens to its last durable
chunk, the ledger balances, and what is lost is within what the README promises. Linux only.

    python -m benchmarks.faults --rounds 500
    python -m benchmarks.faults --rounds 1 --seed 4711      # the round of that seed again
    python -m benchmarks.faults --table                     # the table of the last run, in Markdown
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.fault_evidence import read_evidence
from benchmarks.fault_plan import KINDS, Plan, plan, seeds
from benchmarks.fault_round import run_round
from benchmarks.fault_table import Row, describe, markdown, record, show
from benchmarks.fault_verdict import judge
from benchmarks.measure import RESULTS, write_json
from benchmarks.processes import adopt_orphans
from engine.keys import new_key_file, secret_from

SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_S = 5.0
LINE_EVERY = 25


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
    shared = _left_since(before)
    problems = outcome.problems + tuple(f"{name} in /dev/shm" for name in shared)
    if problems:
        course.write(folder / "course.json")
    else:
        shutil.rmtree(folder)
    return Row(wish, outcome, problems, shared, time.monotonic() - began)


def _left_since(before: frozenset[str]) -> tuple[str, ...]:
    """New shared memory that stays; another program's may come and go meanwhile."""
    deadline = time.monotonic() + SHARED_MEMORY_S
    while (new := _shared_memory() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
    return tuple(sorted(new))


def _shared_memory() -> frozenset[str]:
    return frozenset(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else frozenset()


def main() -> int:
    """Run the rounds; 1 if any of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of the first round; without it a new one")
    parser.add_argument("--kinds", default=",".join(KINDS), help="who is hit, comma-separated")
    parser.add_argument("--work", type=Path, help="where to record; failed rounds stay there")
    parser.add_argument("--out", type=Path, help="directory of the JSON record")
    parser.add_argument("--table", action="store_true", help="show the record as Markdown only")
    wish = parser.parse_args()
    if wish.table:
        print(markdown(json.loads(((wish.out or RESULTS) / "faults.json").read_text())))
        return 0
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
            if not console.is_terminal and len(rows) % LINE_EVERY == 0:
                failed = sum(bool(row.problems) for row in rows)
                progress.console.print(f"{len(rows)} of {len(chosen)} rounds, {failed} failed")
    return rows


if __name__ == "__main__":
    sys.exit(main())
