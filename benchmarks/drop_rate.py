"""How many frames are lost, at which rate, size and codec, and what a frame costs?

Each contender records the synthetic camera in real time at each offered rate, alone on the machine,
one after the other in rounds, so that a machine that drifts drifts for all. Prints a table, writes
JSON and a PNG plot.

    python -m benchmarks.drop_rate --rates 30,60,90 --seconds 5 --peers
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine, python, run, write_json
from benchmarks.peers import PEERS, available


@dataclass(frozen=True, slots=True)
class Row:
    """One contender at one offered rate and size, in one round."""

    contender: str
    size: str
    fps: float
    round: int
    offered: int
    delivered: int
    lost: dict[str, int]
    accounted: bool
    cpu_ms_per_frame: float
    latency_p50_s: float | None
    latency_p99_s: float | None
    size_bytes: int


def record_ours(codec: str, size: str, fps: float, seconds: float) -> dict[str, Any]:
    """One recording by sealrec, encrypted; the cost covers all its processes."""
    with tempfile.TemporaryDirectory() as folder:
        key = Path(folder) / "key"
        made = run(python("engine", "keys", "new", str(key)))
        if made.exit_code:
            raise SystemExit("The key could not be made.")
        out = str(Path(folder) / "run.mp4.enc")
        options = ["--size", size, "--fps", str(fps), "--seconds", str(seconds), "--codec", codec]
        command = ["record", out, *options, "--key-file", str(key), "--json"]
        cost = run(python("engine", *command))
        if cost.exit_code:
            raise SystemExit(f"sealrec record ended with {cost.exit_code}: {cost.stdout}")
    return {**json.loads(cost.stdout), "cpu_s": cost.cpu_s}


def record_peer(peer: str, size: str, fps: float, seconds: float) -> dict[str, Any]:
    """One recording by a peer."""
    options = ["--size", size, "--fps", str(fps), "--seconds", str(seconds)]
    cost = run(python("benchmarks.peers", peer, *options))
    if cost.exit_code:
        raise SystemExit(f"{peer} ended with {cost.exit_code}.")
    return {**json.loads(cost.stdout), "cpu_s": cost.cpu_s}


def measure(contender: str, size: str, fps: float, round_: int, seconds: float) -> Row:
    """One recording as a row."""
    kind, _, name = contender.partition(" ")
    found = (record_ours if kind == "sealrec" else record_peer)(name, size, fps, seconds)
    delivered = found["frames_written"]
    latency = found.get("latency_s") or {}
    return Row(
        contender=contender,
        size=size,
        fps=fps,
        round=round_,
        offered=found["frames_offered"],
        delivered=delivered,
        lost=found.get("lost", {}),
        accounted=bool(found.get("balanced", False)),
        cpu_ms_per_frame=round(1e3 * found["cpu_s"] / max(1, delivered), 2),
        latency_p50_s=latency.get("p50"),
        latency_p99_s=latency.get("p99"),
        size_bytes=found["size_bytes"],
    )


def show(rows: list[Row], console: Console) -> None:
    """Medians over the rounds, as a table."""
    columns = ["contender", "size", "offered fps", "delivered", "lost by class", "CPU ms/frame"]
    table = Table(*columns, "latency p50 / p99 s")
    for (contender, size, fps), group in grouped(rows).items():
        newest = group[-1]
        delivered = median(r.delivered / r.offered for r in group)
        lost = ", ".join(f"{k} {v}" for k, v in newest.lost.items())
        unknown = newest.offered - newest.delivered
        lost = lost or (f"{unknown}, unnamed" if unknown else "-")
        cpu = median(r.cpu_ms_per_frame for r in group)
        latency = "-"
        if newest.latency_p50_s is not None:
            latency = f"{newest.latency_p50_s:.2f} / {newest.latency_p99_s:.2f}"
        table.add_row(contender, size, f"{fps:g}", f"{delivered:.1%}", lost, f"{cpu:.1f}", latency)
    console.print(table)


def grouped(rows: list[Row]) -> dict[tuple[str, str, float], list[Row]]:
    """Rows by contender, size and rate, rounds in order."""
    groups: dict[tuple[str, str, float], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.contender, row.size, row.fps), []).append(row)
    return groups


def plot(rows: list[Row], path: Path) -> None:
    """Delivered share over offered rate, one line per contender and size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    lines: dict[str, list[tuple[float, float, float]]] = {}
    for (contender, size, fps), group in grouped(rows).items():
        share = median(r.delivered / r.offered for r in group)
        cpu = median(r.cpu_ms_per_frame for r in group)
        lines.setdefault(f"{contender} {size}", []).append((fps, 100 * share, cpu))
    for label, points in lines.items():
        points.sort()
        style = "-" if label.startswith("sealrec") else "--"
        left.plot([p[0] for p in points], [p[1] for p in points], style, marker="o", label=label)
        right.plot([p[0] for p in points], [p[2] for p in points], style, marker="o", label=label)
    left.set(xlabel="offered frames/s", ylabel="delivered %", ylim=(0, 105))
    right.set(xlabel="offered frames/s", ylabel="CPU ms per delivered frame", ylim=(0, None))
    left.legend(fontsize=8)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def main() -> int:
    """Run the whole comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rates", default="30,60,90", help="offered frames per second")
    parser.add_argument("--sizes", default="1920x1200")
    parser.add_argument("--codecs", default="h264", help="h264, hevc, av1, mpeg4")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--peers", action="store_true", help="what a user would pick instead")
    parser.add_argument("--out", type=Path, help="directory for JSON and PNG")
    wish = parser.parse_args()
    console = Console()
    contenders = [f"sealrec {codec}" for codec in wish.codecs.split(",")]
    if wish.peers:
        contenders += [f"peer {peer}" for peer in PEERS if available(peer)]
        missing = [peer for peer in PEERS if not available(peer)]
        if missing:
            console.print(f"not on this machine: {', '.join(missing)}")
    rows: list[Row] = []
    rates = [float(rate) for rate in wish.rates.split(",")]
    plan = itertools.product(range(wish.rounds), wish.sizes.split(","), rates, contenders)
    for round_, size, fps, contender in plan:
        with console.status(f"{contender}, {size}, {fps:g} fps, round {round_ + 1}"):
            rows.append(measure(contender, size, fps, round_, wish.seconds))
    show(rows, console)
    value = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    path = write_json("drop_rate", value, wish.out)
    plot(rows, path.with_suffix(".png"))
    console.print(f"{path}\n{path.with_suffix('.png')}")
    unaccounted = [r for r in rows if r.contender.startswith("sealrec") and not r.accounted]
    return 6 if unaccounted else 0


if __name__ == "__main__":
    sys.exit(main())
