"""What does a live view cost, and does a recording notice it?

The synthetic camera is recorded twice for the same time: alone, and with viewers in processes of
their own, one at full size and one at half. Each viewer's processor time is its own measure; of the
recording the lost frames count, and what its workers used more.

    python -m benchmarks.preview
    python -m benchmarks.preview --size 640x400 --seconds 3

Exit code 1: over its budget, or a recording is not balanced.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.budgets import judge, load
from benchmarks.measure import ROOT, machine, python, write_json
from engine.client import Recorder, Result
from engine.keys import new_key_file
from engine.preview import LiveView, OneRing

SCALES = {"viewer_full": 1.0, "viewer_half": 0.5}
START_S = 60.0
WORKERS = ("capture", "encoder")


@dataclass(frozen=True, slots=True)
class View:
    """One viewer: share of a core, and what it showed.

    Attributes:
        cpu: Processor time by time.
        fps: Frames shown per second.
        lapped: Copies thrown away.
        age_ms: Median from a frame's arrival to its picture.
    """

    cpu: float
    fps: float
    lapped: int
    age_ms: float


def look(handle: int, scale: float, rate_hz: float, seconds: float) -> View:
    """Show frames at a rate, for a while; in a process that does nothing else."""
    ages = []
    with LiveView(OneRing(handle)) as view:
        frame = view.wait_frame(START_S, scale=scale)
        assert frame is not None
        out = frame.pixels
        began, cpu = time.monotonic(), time.process_time()
        due = began
        while time.monotonic() < began + seconds:
            frame = view.wait_frame(1.0, out, scale=scale)
            if frame is not None:
                ages.append(frame.age_s * 1000)
            due += 1 / rate_hz
            time.sleep(max(0.0, due - time.monotonic()))
        took, used = time.monotonic() - began, time.process_time() - cpu
        seen = view.statistics()
    return View(used / took, len(ages) / took, seen.lapped, statistics.median(ages))


def start_viewer(handle: int, scale: float, options: argparse.Namespace) -> subprocess.Popen[str]:
    """One in a process of its own."""
    wish = ["--view", str(handle), "--scale", str(scale), "--fps", str(options.fps)]
    return subprocess.Popen(
        python("benchmarks.preview", *wish, "--seconds", str(options.seconds)),
        cwd=ROOT,
        pass_fds=[handle],
        stdout=subprocess.PIPE,
        text=True,
    )


def record(
    recorder: Recorder, folder: Path, options: argparse.Namespace, *, viewed: bool
) -> tuple[Result, dict[str, float], dict[str, View]]:
    """One recording: its balance sheet, its workers' shares of a core, and the viewers."""
    name = "viewed" if viewed else "alone"
    recorder.start(output=folder / f"{name}.mp4.enc", key_file=folder / "key")
    recorder.wait_recording(START_S)
    handles = [recorder._core.observe().result(START_S).handle for _ in SCALES if viewed]
    viewers = {
        name: start_viewer(handle, scale, options)
        for handle, (name, scale) in zip(handles, SCALES.items(), strict=False)
    }
    for handle in handles:
        os.close(handle)
    views = {name: View(**json.loads(one.communicate()[0])) for name, one in viewers.items()}
    if not viewed:
        time.sleep(options.seconds)
    workers: dict[str, Any] = recorder.get_status().raw["workers"]
    cpu = {role: float(workers[role]["cpu"]) for role in WORKERS}
    return recorder.stop(), cpu, views


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Both recordings."""
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as name, Recorder() as recorder:
        folder = Path(name)
        new_key_file(folder / "key")
        recorder.open_camera(
            source="synthetic",
            width=width,
            height=height,
            fps=options.fps,
            pixel_format=options.pixel_format,
        )
        recorder.wait_status(lambda s: s.state == "ready" and s.fps_in > 1, START_S)
        alone, alone_cpu, _ = record(recorder, folder, options, viewed=False)
        viewed, viewed_cpu, views = record(recorder, folder, options, viewed=True)
    lost = {"alone": alone.frames_lost, "viewed": viewed.frames_lost}
    return {
        "views": {name: asdict(view) for name, view in views.items()},
        "recording": {
            "lost_more": max(0, lost["viewed"] - lost["alone"]),
            **{f"{role}_cpu_more": viewed_cpu[role] - alone_cpu[role] for role in WORKERS},
        },
        "lost": lost,
        "balanced": alone.balanced and viewed.balanced,
    }


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--pixel-format", default="bgr8")
    parser.add_argument("--out", type=Path, help="folder for the result; default: results")
    parser.add_argument("--view", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.view is not None:
        view = look(options.view, options.scale, options.fps, options.seconds)
        print(json.dumps(asdict(view)))
        return 0
    found = measure(options)
    for name, view in found["views"].items():
        print(
            f"{name}: {view['cpu']:.3f} of a core, {view['fps']:.1f} frames/s, "
            f"{view['age_ms']:.1f} ms old, {view['lapped']} lapped"
        )
    print(f"lost: {found['lost']}; {found['recording']}")
    figures = {**found["views"], "recording": found["recording"]}
    findings = judge(figures, load("preview"))
    for finding in findings:
        print(f"{finding}: {finding.verdict}")
    write_json("preview", {"machine": machine(), **found}, options.out)
    return int(any(finding.failed for finding in findings) or not found["balanced"])


if __name__ == "__main__":
    sys.exit(main())
