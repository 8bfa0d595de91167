"""How fast is each part of the engine, against what a user would pick for it instead?

Contenders take turns in one run, five rounds by default; figures are medians, ratios those of the
same round. Nothing else may run on the machine: where a plain pipe wakes its reader late, the
wake-up is shown and not judged.

    python -m benchmarks.parts                                 # ten minutes, 10 GB of disk
    python -m benchmarks.parts --out benchmarks/results        # JSON and a picture as well
    python -m benchmarks.parts --parts ring convert seal       # some of them
    python -m benchmarks.parts --quick                         # does it run? The figures say little

Exit code 1: over its budget, or a recording is not whole.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.budgets import Finding, judge, load
from benchmarks.measure import machine, write_json
from benchmarks.parts import conversion, reading, ring, sealing, stopping
from benchmarks.parts.report import as_value, draw, show
from benchmarks.parts.rounds import Contest
from ipc.frame import PixelFormat

BUSY_US = 500.0  # a pipe alone wakes its reader in a tenth of it


@dataclass(slots=True)
class Found:
    """What a run found.

    Attributes:
        contests: In order of the table.
        figures: For the budgets, by part.
        notes: A sentence for each figure that no contest has.
        more: For the JSON.
        sound: Every recording on the way was whole.
        busy: The machine was, so wake-ups say nothing.
    """

    contests: list[Contest] = field(default_factory=list)
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    sound: bool = True
    busy: bool = False


@dataclass(frozen=True, slots=True)
class Wish:
    """What to measure; ``--quick`` makes all of it small."""

    size: str
    rounds: int
    folder: Path
    frames: int
    wake_ups: int
    megabytes: int
    minutes: tuple[float, float]
    seeks: int
    stop_s: tuple[float, float]

    @classmethod
    def of(cls, asked: argparse.Namespace, folder: Path) -> Wish:
        """From the command line."""
        if asked.quick:
            return cls("640x400", 2, folder, 20, 20, 20, (0.5, 1.0), 10, (1.0, 2.0))
        minutes = (min(5.0, asked.minutes), asked.minutes)
        rounds, size = asked.rounds, asked.size
        return cls(size, rounds, folder, 200, 400, 400, minutes, 40, (1.0, 10.0))

    @property
    def pixels(self) -> tuple[int, int]:
        """Width and height."""
        width, height = (int(side) for side in self.size.split("x"))
        return width, height


def of_ring(wish: Wish, found: Found) -> None:
    """Bytes moved and wake-ups."""
    size_bytes = PixelFormat.BGR8.size_bytes(*wish.pixels)
    moved, median, slowest = ring.measure(size_bytes, wish.frames, wish.wake_ups, wish.rounds)
    found.contests += [moved, median, slowest]
    found.busy = slowest.median(ring.PIPE) > BUSY_US
    found.figures["ring"] = {
        "times_memcpy": 1 / moved.times(ring.MEMCPY),
        "wake_p99_ms": slowest.median(slowest.ours) / 1e3,
    }


def of_conversion(wish: Wish, found: Found) -> None:
    """Each pixel format."""
    found.contests += conversion.measure(wish.pixels, wish.rounds)


def of_sealing(wish: Wish, found: Found) -> None:
    """Chunks and keys."""
    contests = sealing.measure(wish.megabytes, wish.rounds)
    found.contests += contests
    found.figures["seal"] = {"s_per_gb": _s_per_gb(contests[0])}


def of_reading(wish: Wish, found: Found) -> None:
    """Open, seek, verify, export."""
    opened, sought = reading.measure_access(
        wish.folder, wish.size, wish.minutes[1], wish.seeks, wish.rounds
    )
    (verified, exported), sizes = reading.measure_whole(
        wish.folder, wish.size, wish.minutes, wish.rounds
    )
    found.contests += [opened, sought, verified, exported]
    found.figures["read"] = {
        "open_p95_ms": opened.median(opened.ours),
        "seek_p95_ms": sought.median(sought.ours),
    }
    short, long = wish.minutes
    for contest, name in ((verified, "verify"), (exported, "export")):
        small, large = sizes[name]
        growth_mb = large.peak_mb - small.peak_mb
        found.figures[name] = {"s_per_gb": _s_per_gb(contest), "growth_mb": growth_mb}
        found.notes.append(
            f"{name}: peak memory {small.peak_mb:.1f} MB for {short:g} min, {large.peak_mb:.1f} MB "
            f"for {long:g} min, which ran at {large.mb_s:.0f} MB/s"
        )
    found.more["whole_files"] = {
        name: {
            f"{minutes:g} min": asdict(work)
            for minutes, work in zip(wish.minutes, both, strict=True)
        }
        for name, both in sizes.items()
    }


def of_stopping(wish: Wish, found: Found) -> None:
    """Start and stop of the engine, and what the length of a recording adds."""
    seal = stopping.measure_seal(wish.folder, (10.0, 3600.0), wish.rounds)
    found.contests.append(seal)
    rounds = stopping.measure_engine(wish.size, list(wish.stop_s), wish.rounds)
    found.sound = all(one.whole for one in rounds)
    for name in ("start_ms", "first_frame_ms", "stop_ms"):
        values = {
            f"{length:g} s": tuple(getattr(r, name) for r in rounds if r.seconds == length)
            for length in sorted(wish.stop_s, reverse=True)
        }
        question = name.removesuffix("_ms").replace("_", " ")
        found.contests.append(Contest("engine", f"{question}, recording of", "ms", values))
    stop_ms = found.contests[-1].median(found.contests[-1].ours)
    hour, seconds = (seal.median(name) for name in seal.values)
    found.figures["stop"] = {
        "stop_ms": max(one.stop_ms for one in rounds),
        "times_ten_seconds": (stop_ms + hour - seconds) / stop_ms,
    }


def _s_per_gb(contest: Contest) -> float:
    return 1e3 / contest.median(contest.ours)


PARTS: dict[str, Callable[[Wish, Found], None]] = {
    "ring": of_ring,
    "convert": of_conversion,
    "seal": of_sealing,
    "read": of_reading,
    "stop": of_stopping,
}


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the long recording")
    parser.add_argument("--quick", action="store_true", help="all of it small: does it run?")
    parser.add_argument("--folder", type=Path, help="keeps the recordings for next time")
    parser.add_argument("--out", type=Path, help="folder for the JSON and the PNG")
    asked = parser.parse_args()
    found = Found()
    with tempfile.TemporaryDirectory() as name:
        folder = asked.folder or Path(name)
        folder.mkdir(exist_ok=True)
        wish = Wish.of(asked, folder)
        for part in asked.parts:
            PARTS[part](wish, found)
    show(found.contests, Console())
    print(*found.notes, sep="\n")
    findings = _judge(found, quick=asked.quick)
    if asked.out is not None:
        contests = [as_value(contest) for contest in found.contests]
        value = {"machine": machine(), "contests": contests, "figures": found.figures, **found.more}
        write_json("parts", value, asked.out)
        draw(found.contests, asked.out / "parts.png")
    return int(any(finding.failed for finding in findings) or not found.sound)


def _judge(found: Found, *, quick: bool) -> list[Finding]:
    """Against the budgets of the parts that were measured; a quick run is judged in nothing."""
    if found.busy:
        print("This machine is busy: a plain pipe wakes its reader late as well.")
    budgets = {name: limits for name, limits in load("parts").items() if name in found.figures}
    not_judged = {"wake_p99_ms"} if found.busy else set()
    if quick:
        not_judged = {figure for limits in budgets.values() for figure in limits}
    findings = judge(found.figures, budgets, not_judged=not_judged)
    for finding in findings:
        print(f"{finding}: {finding.verdict}")
    return findings


if __name__ == "__main__":
    sys.exit(main())
