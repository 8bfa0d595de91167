"""A live view in a process of its own: ``python -m tests.processes.viewer HANDLE SCALE RATE_HZ``.

Checks each picture's barcode against its stamp and prints, once stdin ends, how many frames it saw
and how many were wrong. Its first line says that it has seen one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from engine import barcode
from engine.preview import LiveFrame, LiveView, OneRing

ROOT = Path(__file__).resolve().parents[2]


def start(handle: int, scale: float, rate_hz: float) -> subprocess.Popen[str]:
    """Start one that inherits the ring's memory; returns once it has seen a frame."""
    command = [sys.executable, "-m", "tests.processes.viewer"]
    viewer = subprocess.Popen(
        [*command, str(handle), str(scale), str(rate_hz)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[handle],
        text=True,
    )
    assert viewer.stdout is not None
    assert viewer.stdout.readline() == "seen\n"
    return viewer


def ask(viewer: subprocess.Popen[str]) -> tuple[int, int]:
    """End it; how many frames it saw, and how many of them were not what their stamp says."""
    out, _ = viewer.communicate()
    seen, wrong = json.loads(out)
    return seen, wrong


def is_right(frame: LiveFrame) -> bool:
    """Whether the picture is that of the frame's id."""
    luma = np.ascontiguousarray(frame.pixels[..., 1])
    return barcode.read(luma) == frame.frame_id & barcode.ID_MASK


def main() -> None:
    """Look until told to stop."""
    handle, scale, rate_hz = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    wrong = 0
    with LiveView(OneRing(handle)) as view:
        while not stop.is_set():
            frame = view.wait_frame(0.1, scale=scale)
            if frame is None:
                continue
            wrong += not is_right(frame)
            if view.statistics().frames_seen == 1:
                sys.stdout.write("seen\n")
                sys.stdout.flush()
            stop.wait(1 / rate_hz)
        seen = view.statistics().frames_seen
    sys.stdout.write(json.dumps([seen, wrong]))


if __name__ == "__main__":
    main()
