"""How long from the button to the first frame, and from stop to a sealed file?

A camera stays open; recordings follow each other. Each start is measured to its reply and to the
arrival of the first frame that is not pre-roll; each stop to its reply, once the file has its final
name. Recordings of two lengths show whether a stop grows with them.

    python -m benchmarks.start_stop
    python -m benchmarks.start_stop --size 640x400 --rounds 3 --seconds 1 3

Exit code 1: over its budget, or a recording is not whole.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.budgets import judge, load
from benchmarks.measure import machine, write_json
from engine.client import Recorder
from engine.container.reader import RecordingReader
from engine.keys import new_key_file, secret_from
from ipc.frame import FrameFlags

PROCESS = "engine"
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Round:
    """One recording: milliseconds, and whether every frame is in it."""

    seconds: float
    start_ms: float
    first_frame_ms: float
    stop_ms: float
    whole: bool


def record(recorder: Recorder, folder: Path, seconds: float) -> Round:
    """Record once and look at the file."""
    path, key = folder / "x.mp4.enc", folder / "key"
    called_ns = time.perf_counter_ns()
    recorder.start(output=path, key_file=key)
    started_ns = time.perf_counter_ns()
    time.sleep(seconds)
    stopping_ns = time.perf_counter_ns()
    result = recorder.stop()
    sealed_ns = time.perf_counter_ns()
    assert path.exists()
    with RecordingReader.open(path, secret_from(key_file=key)) as reader:
        first = next(
            row.host_ns
            for fragment in reader.parts[0].fragments()
            for row in fragment.table.frames
            if not row.flags & FrameFlags.PRE_ROLL
        )
    path.unlink()
    return Round(
        seconds,
        (started_ns - called_ns) / 1e6,
        (first - called_ns) / 1e6,
        (sealed_ns - stopping_ns) / 1e6,
        result.balanced and not result.lost,
    )


def measure(options: argparse.Namespace) -> list[Round]:
    """All rounds, the lengths interleaved."""
    width, height = (int(side) for side in options.size.split("x"))
    rounds = []
    with tempfile.TemporaryDirectory() as name, Recorder() as recorder:
        folder = Path(name)
        new_key_file(folder / "key")
        recorder.open_camera(
            source="synthetic",
            width=width,
            height=height,
            fps=options.fps,
            pre_roll_s=options.pre_roll,
        )
        recorder.wait_status(lambda s: s.state == "ready" and s.fps_in > 1, START_S)
        for _ in range(options.rounds):
            rounds += [record(recorder, folder, seconds) for seconds in options.seconds]
    return rounds


def show(rounds: list[Round], lengths: list[float]) -> dict[str, float]:
    """Print medians by length; returns the worst of each figure."""
    for seconds in lengths:
        of = [one for one in rounds if one.seconds == seconds]
        shown = [
            f"{name} {statistics.median(getattr(one, f'{name}_ms') for one in of):.0f} ms"
            for name in ("start", "first_frame", "stop")
        ]
        print(f"{seconds:g} s: {', '.join(shown)} (medians of {len(of)})")
    names = ("start_ms", "first_frame_ms", "stop_ms")
    return {name: max(getattr(one, name) for one in rounds) for name in names}


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 10.0])
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--pre-roll", type=float, default=0.0)
    parser.add_argument("--out", type=Path, help="folder for the result; default: results")
    options = parser.parse_args()
    rounds = measure(options)
    worst = show(rounds, options.seconds)
    findings = judge({PROCESS: worst}, load("start_stop"))
    for finding in findings:
        print(f"{finding}: {finding.verdict}")
    rows = [[r.seconds, r.start_ms, r.first_frame_ms, r.stop_ms, r.whole] for r in rounds]
    write_json("start_stop", {"machine": machine(), "rounds": rows}, options.out)
    return int(any(finding.failed for finding in findings) or not all(r.whole for r in rounds))


if __name__ == "__main__":
    sys.exit(main())
