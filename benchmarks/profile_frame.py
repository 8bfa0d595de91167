"""Where does a frame's time go, from the camera's buffer to the disk?

A recording in real time, 1920x1200 BGR8 at 30 frames a second by default, of pictures that lie in
memory; clocks stand around every step in the real workers (`benchmarks.probes`), and the time of
the processor is read of every thread, so that nothing is left out: what no clock stands around is
`rest`, counted as supervision. Only the benchmark's own is not counted: its clocks, and what stands
in for the camera. Medians of some rounds.

Clocks around everything slow everything: a cold one costs more than it knows. So the share of all
that is not encoding is taken from rounds of their own, whose encoder has clocks around conversion
and encoding alone.

Then the engine with an open camera that records nothing, against the same camera with nobody: what
waiting costs.

    python -m benchmarks.profile_frame --seconds 20 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.budgets import judge, load
from benchmarks.contenders import Bench, Cell, bench_for
from benchmarks.feed import memory_folder
from benchmarks.measure import machine, python, write_json
from benchmarks.probes import CAMERA, CLOCKS
from benchmarks.processes import descendants
from benchmarks.watch import RunFailed, cpu_s, pace, watch
from engine.client import Recorder

CELL = Cell("clip bgr8", "clip", "bgr8", "h264")
RATE_HZ = 30.0
FIRST = 90
SETTLE_S = 4.0
WORK = ("convert", "encode")
STEPS = ("copy", "ring", *WORK, "mux", "seal", "write", "supervise")

Steps = Mapping[str, Mapping[str, Sequence[float]]]
"""(CPU ms, ms by the clock) for each frame, by thread and step; see `benchmarks.probes`."""


def grouped(capture: Steps, encoder: Steps, supervisor_ms: float) -> dict[str, float]:
    """CPU milliseconds a frame of the steps that a reader knows; together all but the benchmark's.

    Args:
        capture: Of the capture process.
        encoder: Of the encoder process; its threads of no name are the codec's.
        supervisor_ms: Of the supervisor.
    """
    named = {"sync": "write", "wait": "ring", "rest": "supervise"}
    found = dict.fromkeys(STEPS, 0.0)
    for process in (capture, encoder):
        for thread, steps in process.items():
            for step, (cpu_ms, _) in steps.items():
                if step in (CAMERA, CLOCKS):
                    continue
                native = process is encoder and thread == "native"
                found["encode" if native else named.get(step, step)] += cpu_ms
    found["supervise"] += supervisor_ms
    return found


def rest_share(steps: Mapping[str, float]) -> float:
    """Share of everything but conversion and encoding."""
    return 1 - sum(steps[name] for name in WORK) / sum(steps.values())


def profile(bench: Bench, seconds: float, *, fine: bool) -> dict[str, Any]:
    """One recording: CPU by step, and the time by the clock of the threads that frames pass.

    Args:
        bench: Pictures and places.
        seconds: How long.
        fine: With clocks around every step, not only around conversion and encoding.
    """
    feed, saved = bench.feed(CELL, total=round(seconds * RATE_HZ))
    order: dict[str, Any] = {"folder": str(bench.disk), "fine": fine}
    order |= {"first": FIRST, "last": feed.total - round(RATE_HZ)}
    with tempfile.TemporaryDirectory(dir=bench.disk) as folder:
        out = Path(folder) / "profile.mp4.enc"
        command = bench.engine(CELL, saved, out, fps=RATE_HZ, policy="drop", realtime=True)
        seen = watch([*command, "--probes", json.dumps(order)], feed)
    if seen.exit_code:
        raise RunFailed(f"The recording ended with {seen.exit_code}.")
    result = json.loads(seen.stdout)
    if result["lost"]:
        raise RunFailed(f"The machine is too busy: frames were lost, {result['lost']}.")
    capture, encoder = (
        json.loads((bench.disk / f"{name}.json").read_text()) for name in ("capture", "encoder")
    )
    supervisor = pace(feed.times(), seen.looks, FIRST).cpu_ms["supervisor"]
    return {
        "cpu_ms": grouped(capture, encoder, supervisor),
        "clock_ms": {
            "source": {name: times[1] for name, times in capture["source"].items()},
            "encoder": {name: times[1] for name, times in encoder["MainThread"].items()},
            "disk": {name: times[1] for name, times in encoder["disk"].items()},
        },
        "pss_mb": seen.pss_mb,
        "threads": {"capture": capture, "encoder": encoder},
    }


def idle(size: str, seconds: float) -> tuple[float, float]:
    """Share of a core that the camera takes with nobody, and with the engine that only waits."""
    options = ["--size", size, "--fps", str(RATE_HZ)]
    length = str(2 * SETTLE_S + seconds)
    alone = subprocess.Popen(
        python("benchmarks.peers", "none", *options, "--seconds", length), stdout=subprocess.DEVNULL
    )
    nobody = _share([alone.pid], seconds)
    alone.wait()
    width, height = (int(side) for side in size.split("x"))
    with Recorder() as recorder:
        recorder.open_camera(source="synthetic", width=width, height=height, fps=RATE_HZ)
        return nobody, _share(None, seconds)


def _share(pids: list[int] | None, seconds: float) -> float:
    """Share of a core over a while; None: of all processes that this one has started."""
    time.sleep(SETTLE_S)
    moments = []
    for wait_s in (seconds, 0.0):
        used = sum(cpu_s(pid) for pid in pids or list(descendants(os.getpid())))
        moments.append((time.monotonic(), used))
        time.sleep(wait_s)
    (began, before), (ended, after) = moments
    return (after - before) / (ended - began)


def plot(steps: Mapping[str, float], lanes: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """One bar of CPU by step; and what each thread that frames pass does in a frame's period."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(
        2, 1, figsize=(10, 4.6), layout="constrained", height_ratios=(1, 2)
    )
    palette = plt.get_cmap("tab10")
    colours: dict[str, Any] = {name: palette(place) for place, name in enumerate(STEPS)}
    colours |= {"sync": "#555555", "wait": "#eeeeee", "rest": "#eeeeee"}
    whole, at = sum(steps.values()), 0.0
    for name in STEPS:
        value = steps[name]
        label = f"{name} {value:.2f} ms, {value / whole:.1%}"
        above.barh(0, value, left=at, color=colours[name], label=label)
        at += value
    above.set(xlim=(0, whole), yticks=[], xlabel=f"CPU ms a frame, all processes: {whole:.1f}")
    above.legend(fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    period_ms = 1e3 / RATE_HZ
    for place, times in enumerate(lanes.values()):
        at = 0.0
        for name in (*STEPS, "sync", "wait", "rest"):
            below.barh(place, times.get(name, 0.0), left=at, color=colours[name])
            at += times.get(name, 0.0)
    below.set(xlim=(0, period_ms), xlabel=f"ms by the clock of the {period_ms:.1f} of a frame")
    below.set_yticks(range(len(lanes)), [f"thread {lane}" for lane in lanes])
    below.invert_yaxis()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> int:
    """Measure, show, judge; exit code 1 if a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--out", type=Path, help="folder for JSON and PNG; default: results")
    wish = parser.parse_args()
    console = Console()
    fine, coarse, idles = _rounds(wish, console)
    if not fine or not coarse:
        console.print("No round was good: nothing can be said.")
        return 1
    steps = medians([run["cpu_ms"] for run in fine])
    lanes = {lane: medians([run["clock_ms"][lane] for run in fine]) for lane in fine[0]["clock_ms"]}
    rest = median(rest_share(run["cpu_ms"]) for run in coarse)
    nobody, waiting = (median(share) for share in zip(*idles, strict=True))
    shown = Table("step", "CPU ms a frame", "share")
    for name, value in steps.items():
        shown.add_row(name, f"{value:.3f}", f"{value / sum(steps.values()):.1%}")
    console.print(shown)
    console.print(f"all but {' and '.join(WORK)}, without the clocks between them: {rest:.1%}")
    console.print(f"waiting: {waiting:.3f} of a core, the camera with nobody: {nobody:.3f}")
    figures = {"engine": {"rest_share": rest, "idle_share": waiting - nobody}}
    summary = {
        "machine": machine(),
        "size": wish.size,
        "cpu_ms": steps,
        "clock_ms": lanes,
        "figures": figures["engine"],
        "idle": {"waiting": waiting, "nobody": nobody},
        "rounds": fine,
        "coarse_rounds": coarse,
    }
    path = write_json("profile_frame", rounded(summary), wish.out)
    plot(steps, lanes, path.with_suffix(".png"))
    console.print(f"{path}\n{path.with_suffix('.png')}")
    findings = judge(figures, load("profile_frame"))
    for finding in findings:
        console.print(f"{finding.figure}: {finding.verdict} ({finding})")
    return int(any(finding.failed for finding in findings))


def _rounds(
    wish: argparse.Namespace, console: Console
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[tuple[float, float]]]:
    """Good recordings with all clocks and with few, in turn, and what waiting took beside each."""
    runs: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    idles = []
    with memory_folder() as memory, tempfile.TemporaryDirectory() as folder:
        with console.status("drawing the pictures"):
            bench = bench_for(memory, Path(folder), (CELL,), wish.size, frames=0)
        for number in range(1, wish.rounds + 1):
            with console.status(f"round {number} of {wish.rounds}"):
                for fine, good in runs.items():
                    try:
                        good.append(profile(bench, wish.seconds, fine=fine))
                    except RunFailed as failure:
                        console.print(f"round {number}: {failure}")
                idles.append(idle(wish.size, wish.seconds / 2))
    return runs[True], runs[False], idles


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each value over all runs."""
    return {name: median(run.get(name, 0.0) for run in runs) for name in runs[0]}


def rounded(value: object) -> object:
    """The same with four digits behind the point."""
    if isinstance(value, Mapping):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
