"""What does `import engine.client` cost a controller beyond its interpreter?

Each import is in a fresh interpreter that has loaded nothing yet, not even `site`, so no module is
there for free. The fastest of several counts: all others also measure what else the machine did.

    python -m benchmarks.client_import
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from benchmarks.budgets import judge, load
from benchmarks.measure import ROOT, machine, write_json

PROCESS = "controller"
LOOK = """
import json, sys, time
sys.path[:0] = sys.argv[1:3]
before = len(sys.modules)
began, cpu = time.perf_counter(), time.process_time()
import {module}
took, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps([took * 1000, cpu * 1000, len(sys.modules) - before]))
"""


@dataclass(frozen=True, slots=True)
class Import:
    """The cheapest of several imports: wall and CPU time, and how many modules came with it."""

    module: str
    import_ms: float
    import_cpu_ms: float
    modules: int


def measure(module: str, runs: int) -> Import:
    """Import a module in so many fresh interpreters."""
    command = [sys.executable, "-I", "-S", "-c", LOOK.format(module=module)]
    command += [str(ROOT), sysconfig.get_path("purelib")]
    found = []
    for _ in range(runs):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    wall, cpu, modules = zip(*found, strict=True)
    return Import(module, round(min(wall), 2), round(min(cpu), 2), modules[0])


def main() -> int:
    """Measure, show, judge; exit code 1 if it is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--out", type=Path, help="folder for the result; default: results")
    asked = parser.parse_args()
    # For comparison: most of it is the standard library, and what the engine itself would load.
    beside = ("dataclasses, pathlib, subprocess, threading, typing", "asyncio", "engine.server")
    client, *others = [measure(module, asked.runs) for module in ("engine.client", *beside)]
    for one in (client, *others):
        print(
            f"{one.import_ms:8.1f} ms {one.import_cpu_ms:8.1f} ms CPU {one.modules:5}  {one.module}"
        )
    figures = {PROCESS: {"import_ms": client.import_ms, "import_cpu_ms": client.import_cpu_ms}}
    findings = judge(figures, load("client_import"))
    for finding in findings:
        print(f"{finding}: {finding.verdict}")
    rows = {
        one.module: [one.import_ms, one.import_cpu_ms, one.modules] for one in (client, *others)
    }
    write_json("client_import", {"machine": machine(), "imports": rows}, asked.out)
    return int(any(finding.failed for finding in findings))


if __name__ == "__main__":
    sys.exit(main())
