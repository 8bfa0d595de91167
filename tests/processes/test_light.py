"""The light of real recordings: "recording" is said of frames that come and become durable only.

A disk that hangs is in test_disks.py.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.processes.serving import Serving, serving

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")

FPS = 30
GREEN_FOR_S = 2.0


@pytest.fixture
def engine(tmp_path: Path, key_file: Path) -> Iterator[Serving]:
    """A running `sealrec serve`."""
    with serving(tmp_path, key_file) as running:
        yield running


def assert_true_light(engine: Serving) -> None:
    """By the engine's own clock: green ends 2 s after the last durable byte and the last frame."""
    came_at: dict[int, float] = {}
    for _, status in engine.statuses:
        if "frames" not in status:
            continue
        first_s = came_at.setdefault(status["frames"]["offered"], status["elapsed_s"])
        if status["state"] == "recording":
            assert status["durable_age_s"] <= GREEN_FOR_S, status
            assert status["elapsed_s"] - first_s <= GREEN_FOR_S, status


def held(engine: Serving, role: str) -> dict[str, Any]:
    """Stop a worker until the light is off, then let it go on; returns the first other status."""
    engine.wait_status(lambda s: s["state"] == "recording")
    pid = engine.signal(role, signal.SIGSTOP)
    try:
        wrong = engine.wait_status(lambda s: s["state"] != "recording")
        engine.wait_status(lambda s: s["state"] == f"{role}_silent")
    finally:
        os.kill(pid, signal.SIGCONT)
    engine.wait_status(lambda s: s["state"] == "recording")
    return wrong


def test_a_frozen_encoder_or_a_silent_camera_turns_the_light_off(engine: Serving) -> None:
    """Processes are alive, and nothing becomes durable; or everything works, and no frame comes."""
    engine.start()
    engine.wait_written(FPS)
    assert held(engine, "encoder")["state"] in ("encoder_silent", "not_durable")
    assert held(engine, "capture")["state"] in ("capture_silent", "no_frames")
    assert engine.stop()["balanced"]
    assert_true_light(engine)


def test_a_full_ring_turns_the_light_off(engine: Serving) -> None:
    """Bytes become durable all the time, and so many frames do not."""
    engine.start(
        width=640, height=400, preset="ultrafast", threads=1, realtime=False, ring_seconds=0.5
    )
    engine.wait_status(lambda s: s["state"] == "ring_full")
    status = engine.wait_status(lambda s: s["frames"]["ring_full"] > 0)
    seen = len(engine.statuses)
    engine.wait_written(status["frames"]["written"] + 2 * FPS)
    states = {s["state"] for _, s in engine.statuses[seen:]}
    assert "ring_full" in states
    # Other work on the machine may hold a worker up for seconds, in which nothing is refused.
    if not states & {"capture_silent", "encoder_silent", "disk_stalled"}:
        assert states == {"ring_full"}
    result = engine.stop()
    assert result["balanced"]
    assert result["lost"]["ring_full"] > 0
    assert_true_light(engine)
