"""Encoders that cannot keep up: lightened before a frame is lost, and back afterwards."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.container.reader import RecordingReader
from engine.container.tables import Note
from engine.keys import secret_from
from engine.reading.verify import verify
from ipc.frame import LossClass
from tests.processes.serving import Serving, serving, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGSTOP")

# One thread takes more than twice as long for a picture of this size at this preset, and the ring
# holds 2.5 s: enough for a second look at the load, 1.6 s after the start, before it is full.
TOO_MUCH = {"width": 1920, "height": 1200, "preset": "faster", "threads": 1, "fps": 150.0}
TOO_MUCH |= {"pixel_format": "mono8", "ring_seconds": 2.5}


@pytest.fixture
def engine(tmp_path: Path, key_file: Path) -> Iterator[Serving]:
    """A running `sealrec serve`."""
    with serving(tmp_path, key_file) as running:
        yield running


def balanced(result: dict[str, Any]) -> bool:
    """Whether every frame that was offered is in exactly one class."""
    lost = sum(result["lost"].values())
    return bool(result["balanced"] and result["frames_written"] + lost == result["frames_offered"])


def events_in(path: Path, key_file: Path) -> tuple[list[Note], list[int]]:
    """The file's own events, and when frames were refused by a full ring."""
    notes: list[Note] = []
    refused: list[int] = []
    with RecordingReader.open(path, secret_from(key_file=key_file)) as recording:
        for fragment in recording.fragments():
            notes += fragment.table.events
            refused += [
                loss.first_host_ns
                for loss in fragment.table.lost
                if loss.loss_class is LossClass.RING_FULL
            ]
    return notes, refused


def test_overload_is_told_and_lightened_before_a_frame_is_lost(
    engine: Serving, key_file: Path
) -> None:
    """A rate that the preset cannot hold: steps in one file, in its events and in the status."""
    path = engine.start(**TOO_MUCH)
    over = engine.wait_event("overload")
    step = engine.wait_event("speed_step")
    engine.wait_status(lambda s: s["overload"] and s["speed"] != "faster")
    engine.wait_written(engine.status["frames"]["written"] + 1)
    result = engine.stop()
    assert balanced(result), result
    assert set(result["lost"]) <= {"camera_gap", "ring_full"}
    assert result["state"] == "sealed"
    assert len(result["parts"]) == 1
    report = verify(path, secret_from(key_file=key_file), decode=True)
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)
    assert report.problems == ()
    assert report.decoded == report.frames == result["frames_written"]
    assert report.barcodes is not None
    assert report.barcodes.right == report.barcodes.checked == report.frames
    notes, refused = events_in(path, key_file)
    assert [n.kind for n in notes][:2] == ["overload", "speed_step"]
    assert notes[1].text.startswith("faster to veryfast")
    assert notes[0].host_ns <= over.host_ns <= step.host_ns
    assert all(notes[1].host_ns < host_ns for host_ns in refused)


def test_back_to_the_asked_speed_when_there_is_room(engine: Serving, key_file: Path) -> None:
    """An encoder held up for a moment goes faster, loses nothing, and is back after a while."""
    path = engine.start(preset="superfast", ring_seconds=20.0)
    engine.wait_written(30)
    pid = engine.signal("encoder", signal.SIGSTOP)
    stopped_at = time.monotonic()
    wait_until(lambda: time.monotonic() - stopped_at > 1.5)
    os.kill(pid, signal.SIGCONT)
    engine.wait_event("overload")
    engine.wait_event("overload_over")
    engine.wait_event("speed_step", 2)
    engine.wait_status(lambda s: s["speed"] == "superfast" and not s["overload"])
    result = engine.stop()
    assert balanced(result), result
    assert set(result["lost"]) <= {"camera_gap"}
    steps = [
        note.text.partition(":")[0]
        for note in events_in(path, key_file)[0]
        if note.kind == "speed_step"
    ]
    assert steps[:2] == ["superfast to ultrafast", "ultrafast to superfast"]
    report = verify(path, secret_from(key_file=key_file), decode=True)
    assert (report.state, report.balanced, report.problems) == ("sealed", True, ())


def test_a_source_that_waits_is_no_overload(engine: Serving) -> None:
    """Under policy `block` the ring is always full: the quality stays."""
    engine.start(policy="block", realtime=False, preset="superfast", frames=1000, ring_seconds=1.0)
    result = engine.wait_event("recording_stopped").details
    assert result["frames_written"] == result["frames_offered"] == 1000
    assert not engine.events("overload")
    assert not engine.events("speed_step")
    assert any(s.get("ring", {}).get("high_water") == 30 for _, s in engine.statuses)
