"""What the benchmarks share: running a command to its end and what it cost, the machine, output."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cost", "machine", "python", "run", "write_json"]

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True, slots=True)
class Cost:
    """One finished command.

    Attributes:
        exit_code: Of the command.
        stdout: What it printed.
        wall_s: From start to exit.
        cpu_s: User and system time of it and of all its children that it waited for.
    """

    exit_code: int
    stdout: str
    wall_s: float
    cpu_s: float


def run(command: list[str], *, cwd: Path = ROOT) -> Cost:
    """Run a command to its end, alone; its stderr is shown if it failed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.stderr.write(done.stderr)
    cpu = (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime)
    return Cost(done.returncode, done.stdout, wall, cpu)


def python(module: str, *arguments: str) -> list[str]:
    """Command line of a module of this project, to be run in its root."""
    return [sys.executable, "-m", module, *arguments]


def machine() -> dict[str, Any]:
    """What the figures were measured on; no host name."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = lines[0].partition(":")[2].strip() if lines else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def write_json(name: str, value: Any, folder: Path | None = None) -> Path:
    """Write a result beside the others; returns where."""
    folder = folder or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(value, indent=1) + "\n")
    return path
