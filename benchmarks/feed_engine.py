"""The engine as it is, with the camera of `benchmarks.feed_camera`: one recording of a feed.

    python -m benchmarks.feed_engine CONFIG.json [--probes ORDER]

The configuration is that of `start` (PROTOCOL.md), its source ``file:FEED.json``. With ``--probes``
the workers note what each step takes (`benchmarks.probes`). Prints the balance sheet as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from benchmarks.measure import ROOT
from benchmarks.probes import PROBES
from engine.cli.record import record_once
from engine.processes import MODULES


def main() -> int:
    """Record once; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--probes", help="JSON: folder, first and last frame")
    wish = parser.parse_args()
    # Workers have no current folder among their modules, and these are not installed.
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([before] if before else [])])
    MODULES["capture"] = ("benchmarks.feed_camera", MODULES["capture"][1])
    if wish.probes is not None:
        os.environ[PROBES] = wish.probes
        MODULES["capture"] = ("benchmarks.probed_capture", MODULES["capture"][1])
        MODULES["encoder"] = ("benchmarks.probed_encoder", MODULES["encoder"][1])
    result = record_once(json.loads(wish.config.read_text()), show=False)
    json.dump(result, sys.stdout)
    return 0 if result["balanced"] else 6


if __name__ == "__main__":
    sys.exit(main())
