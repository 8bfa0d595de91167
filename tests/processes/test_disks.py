"""Real recordings on disks that are full, failing, read-only or stalled: no loss without name."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.container.names import open_path
from engine.container.payload import offset_of_chunk
from engine.container.reader import read_public_header
from engine.container.recovery import recover
from engine.keys import secret_from
from engine.reading.verify import VerifyReport, verify
from ipc.messages import Event, OpenCamera, StartRecording, StopRecording
from tests.processes.disks import Disk, SlowDisk, needs_disks, small_memory_disk
from tests.processes.serving import Serving, serving, wait_until
from workers.fragments import FRAGMENT_S

pytestmark = needs_disks

FPS = 30
STALL_S = 20.0
DURABLE_WITHIN_S = 2.0
TOLD_WITHIN_S = 1.0
FIRST_LIMIT_MIN = 5.0


@pytest.fixture
def engine(tmp_path: Path, key_file: Path) -> Iterator[Serving]:
    """A running `sealrec serve`."""
    with serving(tmp_path, key_file) as running:
        yield running


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of its own; mounted before the engine starts, unmounted after it has left."""
    with Disk(tmp_path) as mounted:
        yield mounted


def balanced(result: dict[str, Any]) -> bool:
    """Whether every frame that was offered is in exactly one class."""
    lost = sum(result["lost"].values())
    return bool(result["balanced"] and result["frames_written"] + lost == result["frames_offered"])


def verified(path: Path, key_file: Path) -> VerifyReport:
    """The recording's own account of itself, every picture decoded."""
    return verify(path, secret_from(key_file=key_file), decode=True)


def no_false_light(engine: Serving) -> None:
    """Every status that said "recording" had bytes that became durable within two seconds."""
    for _, status in engine.statuses:
        if status.get("state") == "recording":
            assert status["durable_age_s"] <= DURABLE_WITHIN_S, status
            assert status["write_queue"]["stall_s"] <= DURABLE_WITHIN_S, status


def ended_by_the_disk(engine: Serving) -> tuple[Event, dict[str, Any]]:
    """Wait for the end of a recording whose disk takes no more: the telling, and the sheet."""
    failed = engine.wait_event("disk_failed")
    result = engine.wait_event("recording_stopped").details
    assert balanced(result), result
    assert set(result["lost"]) <= {"camera_gap", "write_error"}
    assert result["problem"]["code"] == "disk"
    told_in_time(engine, failed)
    return failed, result


def told_in_time(engine: Serving, failed: Event) -> None:
    """No status counted lost frames more than a second before the event came, and none was green.

    A status gives the time of its making by the recording's own clock; the event gives the host's.
    """
    began_ns = engine.wait_event("recording_started").host_ns
    told_s = (failed.host_ns - began_ns) / 1e9
    for _, status in engine.statuses:
        if status.get("frames", {}).get("write_error"):
            assert status["elapsed_s"] >= told_s - TOLD_WITHIN_S, status
            assert status["state"] != "recording", status


def test_a_full_disk_is_foretold_and_the_part_sealed(
    engine: Serving, tmp_path: Path, key_file: Path
) -> None:
    """The reserve gives room for the fragment in hand and the seal; later frames are named."""
    with small_memory_disk(tmp_path, 8 << 20) as folder:
        path = engine.start(str(folder / "x.mp4.enc"))
        engine.wait_written(FPS)
        with (folder / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, room(folder) - (400 << 10))
        low = engine.wait_event("disk_low")
        assert low.details["minutes_left"] <= FIRST_LIMIT_MIN
        failed, result = ended_by_the_disk(engine)
        assert low.host_ns < failed.host_ns
        assert result["state"] == "sealed"
        assert not list(folder.glob("*.reserve"))
        report = verified(path, key_file)
        assert (report.state, report.balanced, report.problems) == ("sealed", True, ())
        assert report.frames == result["frames_written"]
        engine.wait_status(lambda s: s["state"] == "idle")
        no_false_light(engine)


def test_a_full_disk_ends_a_recording_and_not_the_open_camera(
    engine: Serving, tmp_path: Path, key_file: Path
) -> None:
    """The part is sealed, later frames are named, and the next recording goes elsewhere."""
    camera = {"source": "synthetic", "width": 320, "height": 240, "fps": float(FPS)}
    assert engine.answer(engine.call(OpenCamera, config=camera)).ok
    keys = [{"kind": "key_file", "value": str(key_file)}]
    with small_memory_disk(tmp_path, 8 << 20) as folder:
        config = {"output": str(folder / "x.mp4.enc"), "keys": keys}
        assert engine.answer(engine.call(StartRecording, config=config)).ok
        engine.wait_written(FPS)
        with (folder / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, room(folder) - (400 << 10))
        _, result = ended_by_the_disk(engine)
        assert result["state"] == "sealed"
        report = verified(folder / "x.mp4.enc", key_file)
        assert (report.frames, report.balanced) == (result["frames_written"], True)
    engine.wait_status(lambda s: s["state"] == "ready")
    config = {"output": str(tmp_path / "y.mp4.enc"), "keys": keys}
    assert engine.answer(engine.call(StartRecording, config=config)).ok
    engine.wait_written(FPS)
    result = engine.stop()
    assert balanced(result), result
    assert (result["state"], result["lost"]) == ("sealed", {})
    assert verified(tmp_path / "y.mp4.enc", key_file).frames == result["frames_written"]


def room(folder: Path) -> int:
    """Free bytes."""
    stat = os.statvfs(folder)
    return stat.f_bavail * stat.f_frsize


def test_blocks_that_fail_cost_what_no_disk_has_seen(
    disk: Disk, engine: Serving, key_file: Path
) -> None:
    """EIO: after a failed sync the file reads well from memory, and no later sync tells of it.

    Recovery keeps what is on the disk all the same: a power cut afterwards changes nothing.
    """
    path = engine.start(str(disk.path / "x.mp4.enc"))
    engine.wait_written(2 * FPS)
    disk.break_blocks()
    broken_ns = time.perf_counter_ns()
    failed, result = ended_by_the_disk(engine)
    # A fragment is written every 0.8 s, and the first write that fails is told.
    assert (failed.host_ns - broken_ns) / 1e9 <= FRAGMENT_S + TOLD_WITHIN_S
    assert result["lost"]["write_error"] > 0
    assert engine.leave() == 0
    disk.heal()
    [closed] = recover(path, secret_from(key_file=key_file))
    assert closed.state == "recovered", closed.error
    disk.repair()  # a power cut
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.problems) == ("recovered", True, ())
    assert report.frames == closed.frames == result["frames_written"]
    no_false_light(engine)


def test_a_disk_that_turns_read_only(disk: Disk, engine: Serving, key_file: Path) -> None:
    """EROFS: nothing is encrypted again, the part is closed once the disk can be written."""
    path = engine.start(str(disk.path / "x.mp4.enc"))
    engine.wait_written(2 * FPS)
    disk.make_read_only()
    _, result = ended_by_the_disk(engine)
    assert result["lost"]["write_error"] > 0
    assert result["state"] == "incomplete"
    assert engine.wait_event("recovery_failed").details["path"] == str(path)
    assert engine.leave() == 0
    disk.repair()
    [closed] = recover(path, secret_from(key_file=key_file))
    assert closed.state == "recovered", closed.error
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.problems) == ("recovered", True, ())
    assert report.frames == result["frames_written"]
    no_false_light(engine)


def written_but_not_synced(path: Path) -> bool:
    """Whether the file holds more than its last checkpoint says."""
    part = open_path(path)
    kept = read_public_header(part).header.chunk_count
    return part.stat().st_size > offset_of_chunk(kept)


def stalled(engine: Serving, disk: Disk | SlowDisk, path: Path) -> None:
    """Let the disk hang; the light goes off and says so, and comes back by itself."""
    engine.wait_status(lambda s: s["state"] == "recording")
    with disk.frozen():
        began = time.monotonic()
        wrong = engine.wait_status(lambda s: s["state"] != "recording")
        assert wrong["state"] in ("disk_stalled", "not_durable")
        engine.wait_status(lambda s: s["state"] == "disk_stalled")
        wait_until(lambda: time.monotonic() - began > STALL_S)
        assert engine.status["state"] == "disk_stalled"
        assert written_but_not_synced(path) == isinstance(disk, SlowDisk)
    engine.wait_status(lambda s: s["state"] == "recording")


def nothing_lost(engine: Serving, path: Path, key_file: Path) -> None:
    """Sealed, whole, and every frame in it that the camera delivered."""
    result = engine.stop()
    assert balanced(result), result
    assert set(result["lost"]) <= {"camera_gap"}
    assert (result["state"], len(result["parts"])) == ("sealed", 1)
    assert not engine.events("worker_restarted")
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.problems) == ("sealed", True, ())
    assert report.frames == result["frames_written"]
    no_false_light(engine)


def test_a_write_that_hangs_costs_no_frame(disk: Disk, engine: Serving, key_file: Path) -> None:
    """What is encoded meanwhile waits in the queue."""
    path = engine.start(str(disk.path / "x.mp4.enc"), ring_seconds=1.0)
    engine.wait_written(FPS)
    stalled(engine, disk, path)
    assert engine.wait_status(lambda s: s["write_queue"]["fragments"] <= 1)
    nothing_lost(engine, path, key_file)


def test_a_sync_that_hangs_costs_no_frame(tmp_path: Path, key_file: Path) -> None:
    """Writes went on into memory, which is not durable: the light says so all the time."""
    with SlowDisk(tmp_path) as slow, serving(tmp_path, key_file) as engine:
        path = engine.start(str(slow.path / "x.mp4.enc"), ring_seconds=1.0)
        engine.wait_written(FPS)
        stalled(engine, slow, path)
        nothing_lost(engine, path, key_file)


def test_a_stop_while_the_disk_hangs_waits_for_it(
    disk: Disk, engine: Serving, key_file: Path
) -> None:
    """A disk that is slow is no encoder that is dead: what waits is written, and then sealed."""
    path = engine.start(str(disk.path / "x.mp4.enc"), ring_seconds=1.0)
    engine.wait_written(FPS)
    with disk.frozen():
        began = time.monotonic()
        engine.wait_status(lambda s: s["write_queue"]["fragments"] >= 2)
        call = engine.call(StopRecording)
        draining = engine.wait_status(lambda s: s["phase"] == "draining")
        wait_until(lambda: time.monotonic() - began > STALL_S)
        assert draining["frames"]["written"] == engine.status["frames"]["written"]
        assert engine.status["state"] == "draining"
    result = engine.answer(call).result
    assert result is not None
    assert balanced(result), result
    assert set(result["lost"]) <= {"camera_gap"}
    assert (result["state"], len(result["parts"])) == ("sealed", 1)
    assert not engine.events("worker_hung")
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.problems) == ("sealed", True, ())
