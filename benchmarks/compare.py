"""Is this engine faster and leaner than what a user would pick instead?

The engine, encrypting and accounting as always, against cv2.VideoWriter, PyAV in the callback and
the ffmpeg program, in plaintext, each with the engine's own codec settings on the very same frames,
which lie in memory (`benchmarks.feed`). All in one run, in rounds of one after the other, so that a
machine that drifts drifts for all; figures are medians, and only their ratios mean anything.

What is measured. *Rate*: the source hands over a frame whenever the contender takes one, nothing is
dropped, and the rate is that of the hand-overs after the first frames: it is what the contender
keeps up for ever without a drop. (ffmpeg that reads the file itself: of its reports of progress.)
One run in real time at 97 % of the engine's rate confirms that nothing is lost then. *CPU*: user
and system time of all processes between the same moments, over the frames between them; the
engine's includes the copy of each frame into its ring. *Memory*: Pss without the ring and the feed.
*Size* and *SSIM*: of the whole file, and of some frames against the original picture. A contender
whose file is more than 5 % larger or smaller than the engine's is marked: it is not the same work.
(Where the engine keeps up less than the nominal rate, the age of a fragment makes key frames that
the others do not make; such a machine is too slow or too busy for this.)

    python -m benchmarks.compare                # about ten minutes on a quiet machine
    python -m benchmarks.compare --rounds 9 --cells h264
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from benchmarks.budgets import judge, load
from benchmarks.compare_report import (
    SIZE_TOLERANCE,
    Outcome,
    figures,
    outcomes,
    plot,
    ratios,
    table,
)
from benchmarks.contenders import CELLS, Bench, Cell, Row, bench_for, present
from benchmarks.feed import memory_folder
from benchmarks.measure import machine, write_json
from benchmarks.watch import RunFailed

WIDTH = 130
FRAMES = 212  # with those left out thirteen whole fragments
CONFIRMED = ("clip bgr8 h264", "clip bgr8 mpeg4")


def rounds(bench: Bench, cells: tuple[Cell, ...], count: int, console: Console) -> list[Row]:
    """All contenders of all cells, one after the other, so many times; who fails is told."""
    rows: list[Row] = []
    looked: set[tuple[str, str]] = set()
    for round_ in range(count):
        for cell in cells:
            for contender in cell.contenders:
                with console.status(f"round {round_ + 1} of {count}: {cell.name}, {contender}"):
                    try:
                        look = (cell.name, contender) not in looked
                        rows.append(bench.measure(cell, contender, round_, look=look))
                        looked.add((cell.name, contender))
                    except RunFailed as failure:
                        console.print(f"round {round_ + 1}: {failure}")
    return rows


def main() -> int:
    """Measure, show, judge; exit code 1 if a budget is exceeded or a frame was lost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=FRAMES, help="of each run that count")
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--cells", default="", help="only cells whose names hold this text")
    parser.add_argument("--confirm-seconds", type=float, default=10.0)
    parser.add_argument("--out", type=Path, help="folder for JSON and PNG; default: results")
    wish = parser.parse_args()
    console = Console()
    console = console if console.is_terminal else Console(width=WIDTH)
    cells, missing = present(tuple(cell for cell in CELLS if wish.cells in cell.name))
    if not cells:
        parser.error(f"no cell has {wish.cells!r} in its name")
    if missing:
        console.print(f"Not on this machine, and left out: {', '.join(missing)}.")
    with memory_folder() as memory, tempfile.TemporaryDirectory() as folder:
        with console.status("drawing the pictures"):
            bench = bench_for(memory, Path(folder), cells, wish.size, wish.frames)
        rows = rounds(bench, cells, wish.rounds, console)
        found = outcomes(rows)
        confirmed = []
        for cell in cells:
            engine = found.get((cell.name, "sealrec"))
            if cell.name in CONFIRMED and engine is not None and wish.confirm_seconds > 0:
                with console.status(f"in real time: {cell.name}"):
                    try:
                        one = bench.confirm(cell, engine.rate_hz, wish.confirm_seconds)
                        confirmed.append(one)
                    except RunFailed as failure:
                        console.print(str(failure))
    return report(rows, found, confirmed, wish, console)


def report(
    rows: list[Row],
    found: dict[tuple[str, str], Outcome],
    confirmed: list[dict[str, object]],
    wish: argparse.Namespace,
    console: Console,
) -> int:
    """Show and write everything; returns the exit code."""
    console.print(table(found))
    for one in confirmed:
        console.print(
            f"in real time, {one['cell']} at {one['fps']} fps: {one['written']} of "
            f"{one['offered']} written, {one['speed_steps']} speed steps"
        )
    for name, value in ratios(found).items():
        console.print(f"{name}: {value:.2f}")
    summary = {
        "machine": machine(),
        "size": wish.size,
        "rounds": wish.rounds,
        "medians": [asdict(outcome) for outcome in found.values()],
        "ratios": {name: round(ratio, 3) for name, ratio in ratios(found).items()},
        "in_real_time": confirmed,
        "rows": [asdict(row) for row in rows],
    }
    path = write_json("compare", summary, wish.out)
    plot(found, path.with_suffix(".png"))
    console.print(f"{path}\n{path.with_suffix('.png')}")
    unequal = [o for o in found.values() if abs(o.size_ratio - 1) > SIZE_TOLERANCE]
    for outcome in unequal:
        console.print(f"{outcome.cell}, {outcome.contender}: its file is not of the same size.")
    measured = figures(found)
    budgets = load("compare")
    absent = {n for limits in budgets.values() for n in limits} - set(measured["engine"])
    findings = judge(measured, budgets, not_judged=absent)
    for finding in findings:
        console.print(f"{finding.figure}: {finding.verdict} ({finding})")
    lost = any(one["written"] != one["offered"] for one in confirmed)
    failed = len(rows) < wish.rounds * len(found)
    return int(lost or failed or any(finding.failed for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
