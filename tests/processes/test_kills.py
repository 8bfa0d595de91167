"""Real recordings whose processes are killed or stopped: what is lost is named, the rest kept."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.container.names import open_path
from engine.container.recovery import recover
from engine.keys import secret_from
from engine.reading.verify import VerifyReport, verify
from ipc.messages import StartRecording, StopRecording
from tests.processes.serving import Serving, alive, serving, wait_until
from tests.processes.tracing import killing_at, needs_attaching

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and SIGSTOP")

FPS = 30
SOME = 10  # frames that take less than a fragment
TICKS_PER_S = 90_000
if sys.platform != "win32":
    KILL, STOP, CONTINUE = signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One `sealrec serve` for all recordings that it survives."""
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, folder / "none") as running:
        yield running


@pytest.fixture
def engine(shared: Serving, tmp_path: Path, key_file: Path) -> Iterator[Serving]:
    """A running `sealrec serve`, in a folder of its own."""
    shared.begin(tmp_path, key_file)
    yield shared
    shared.rest()


@pytest.fixture
def mortal(tmp_path: Path, key_file: Path) -> Iterator[Serving]:
    """A `sealrec serve` of one's own, to be killed."""
    with serving(tmp_path, key_file) as running:
        yield running


def balanced(result: dict[str, Any]) -> bool:
    """Whether every frame that was offered is in exactly one class."""
    lost = sum(result["lost"].values())
    return bool(result["balanced"] and result["frames_written"] + lost == result["frames_offered"])


def lost_by_us(result: dict[str, Any]) -> dict[str, int]:
    """Losses but the deadlines that the synthetic camera missed on a busy machine."""
    return {name: n for name, n in result["lost"].items() if name != "camera_gap"}


def verified(path: Path, key_file: Path) -> VerifyReport:
    """The recording's own account of itself."""
    return verify(path, secret_from(key_file=key_file))


def restarted(engine: Serving, count: int = 1) -> None:
    """Wait until a dead encoder's successor has its part open."""
    engine.wait_event("part_opened", count)


# --- the encoder ------------------------------------------------------------------------------


def test_a_killed_encoder_costs_no_frame(engine: Serving, key_file: Path) -> None:
    """Its successor writes a second part; what was not durable is still in the ring."""
    path = engine.start()
    engine.wait_written(SOME)
    engine.signal("encoder", KILL)
    restarted(engine)
    engine.wait_written(engine.status["frames"]["written"] + SOME)
    result = engine.stop()
    assert balanced(result), result
    assert not lost_by_us(result)
    assert result["gaps"] == 0
    assert result["state"] == "recovered"
    assert [Path(p).name for p in result["parts"]] == ["x.mp4.enc", "x.001.mp4.enc"]
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.complete) == ("recovered", True, True)
    assert report.frames == result["frames_written"]
    assert report.problems == ()


def test_an_encoder_killed_again_and_again(engine: Serving, key_file: Path) -> None:
    """At whatever moment: before its part is open, in mid fragment, and while sealing."""
    path = engine.start()
    for count in range(1, 4):
        engine.wait_status(lambda s: s["frames"]["in_flight"] >= 3)
        engine.signal("encoder", KILL)
        engine.wait_event("worker_restarted", count)
        if count != 2:  # the second successor dies before it could open its part
            restarted(engine, len(engine.events("part_opened")) + 1)
    call = engine.call(StopRecording)
    engine.wait_status(lambda s: s.get("phase") in ("draining", "idle"))
    pid = engine.status.get("workers", {}).get("encoder", {}).get("pid")
    if pid is not None and alive(pid):
        os.kill(pid, KILL)
    result = engine.answer(call).result
    assert result is not None
    assert balanced(result), result
    assert not lost_by_us(result)
    report = verified(path, key_file)
    assert (report.balanced, report.complete) == (True, True), report.problems
    assert report.frames == result["frames_written"]


@needs_attaching
def test_an_encoder_killed_between_its_seal_and_the_name(engine: Serving, key_file: Path) -> None:
    """The seal says that it is the last part's: no other part follows it."""
    path = engine.start()
    engine.wait_written(SOME)
    with killing_at("renameat2", engine.status["workers"]["encoder"]["pid"]):
        result = engine.stop()
    assert balanced(result), result
    assert (result["state"], result["parts"]) == ("sealed", [str(path)])
    report = verified(path, key_file)
    assert (report.state, report.complete, report.problems) == ("sealed", True, ())
    assert report.frames == result["frames_written"]


def test_a_ring_too_small_for_a_dead_encoder_names_what_is_lapped(
    engine: Serving, key_file: Path
) -> None:
    """With a ring of a fifth of a second, frames that no successor could read are named."""
    path = engine.start(ring_seconds=0.2)
    engine.wait_written(SOME)
    engine.signal("encoder", KILL)
    restarted(engine)
    engine.wait_written(engine.status["frames"]["written"] + SOME)
    result = engine.stop()
    assert balanced(result), result
    assert set(lost_by_us(result)) <= {"encoder_lost", "ring_full"}
    assert lost_by_us(result)
    report = verified(path, key_file)
    assert (report.balanced, report.complete) == (True, True), report.problems
    assert report.lost == result["lost"]


def test_a_stopped_encoder_shows_at_once_and_costs_nothing(engine: Serving) -> None:
    """The status leaves "recording" while nothing becomes durable, and comes back by itself."""
    engine.start()
    engine.wait_written(SOME)
    engine.wait_status(lambda s: s["state"] == "recording")
    pid = engine.signal("encoder", STOP)
    stopped_at = time.monotonic()
    wrong = engine.wait_status(lambda s: s["state"] != "recording")
    assert wrong["state"] in ("encoder_silent", "not_durable")
    wait_until(lambda: time.monotonic() - stopped_at > 2.0)
    os.kill(pid, CONTINUE)
    engine.wait_status(lambda s: s["state"] == "recording")
    result = engine.stop()
    assert balanced(result), result
    assert not lost_by_us(result)
    assert len(result["parts"]) == 1
    assert not engine.events("worker_hung")


def test_workers_that_hang_are_replaced(engine: Serving, key_file: Path) -> None:
    """Stopped for good, each is told as hung, killed, and followed: one part more, and one gap."""
    path = engine.start()
    engine.wait_written(SOME)
    for count, role in enumerate(("encoder", "capture"), 1):
        engine.signal(role, STOP)
        assert engine.wait_event("worker_hung", count).text.startswith(role)
        engine.wait_event("worker_restarted", count)
        engine.wait_status(lambda s: s["state"] == "recording")
        engine.wait_written(engine.status["frames"]["offered"] + SOME)
    result = engine.stop()
    assert balanced(result), result
    assert not lost_by_us(result)
    assert (result["gaps"], len(result["parts"])) == (1, 2)
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.complete) == ("recovered", True, True)
    assert report.frames == result["frames_written"]


# --- capture ----------------------------------------------------------------------------------


def test_a_killed_capture_costs_one_counted_gap(engine: Serving, key_file: Path) -> None:
    """The file goes on, on the same timeline: what is missing is missing in time, too."""
    path = engine.start()
    engine.wait_written(SOME)
    began = time.monotonic()
    before = engine.status["frames"]["offered"]
    engine.signal("capture", KILL)
    engine.wait_event("worker_restarted")
    engine.wait_status(lambda s: s["frames"]["offered"] > before + FPS)
    result = engine.stop()
    elapsed_s = time.monotonic() - began
    assert balanced(result), result
    assert not lost_by_us(result)
    assert result["gaps"] == 1
    assert result["state"] == "sealed"
    assert len(result["parts"]) == 1
    in_frames_s = result["frames_written"] / FPS
    assert result["duration_s"] > in_frames_s + 0.1  # the gap: a new process takes longer
    assert result["duration_s"] < in_frames_s + elapsed_s
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)


def test_capture_killed_while_stopping(engine: Serving, key_file: Path) -> None:
    """What it had published is drained and sealed."""
    path = engine.start()
    engine.wait_written(SOME)
    pid = engine.signal("capture", STOP)  # so that it cannot answer the stop
    call = engine.call(StopRecording)
    engine.wait_status(lambda s: s["phase"] == "stopping")
    os.kill(pid, KILL)
    result = engine.answer(call).result
    assert result is not None
    assert balanced(result), result
    assert result["state"] == "sealed"
    assert "problem" not in result
    assert verified(path, key_file).balanced


def test_losses_at_the_very_end_are_counted(engine: Serving, key_file: Path) -> None:
    """Frames that a stalled camera missed last are in the seal, and in the balance sheet."""
    path = engine.start(frames=3 * FPS)
    engine.wait_written(SOME)
    pid = engine.signal("capture", STOP)
    offered = engine.status["frames"]["offered"]
    engine.wait_status(lambda s: s["state"] == "capture_silent")
    began = time.monotonic()
    left_s = (3 * FPS - offered) / FPS
    wait_until(lambda: time.monotonic() - began > left_s)
    os.kill(pid, CONTINUE)
    result = engine.wait_event("recording_stopped").details
    assert balanced(result), result
    assert result["frames_offered"] == 3 * FPS
    assert result["lost"]["camera_gap"] > 0
    report = verified(path, key_file)
    assert report.balanced
    assert report.lost == result["lost"]


# --- the supervisor and the controller --------------------------------------------------------


def test_a_killed_supervisor_leaves_a_sealed_file(mortal: Serving, key_file: Path) -> None:
    """Both workers notice, drain, seal and leave: no orphan, no shared memory, no lost frame."""
    path = mortal.start()
    mortal.wait_written(SOME)
    pids = [mortal.pid(role) for role in ("capture", "encoder")]
    mortal.process.kill()
    mortal.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "the workers' end")
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)
    assert report.frames >= SOME
    assert not list(path.parent.glob("*.reserve"))


def test_a_controller_that_dies_leaves_a_sealed_file(mortal: Serving, key_file: Path) -> None:
    """The engine sees the end of the pipe, stops, seals, and leaves with good conscience."""
    path = mortal.start()
    mortal.wait_written(SOME)
    assert mortal.hang_up() == 0
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)


def test_everything_killed_at_once_costs_a_second(mortal: Serving, key_file: Path) -> None:
    """Recovery keeps all but the last second; a second recovery finds nothing to do."""
    path = mortal.start()
    mortal.wait_written(2 * FPS)
    pids = [mortal.pid(role) for role in ("capture", "encoder")]
    status = mortal.wait_status(lambda s: s["frames"]["in_flight"] > 0)
    for pid in (mortal.process.pid, *pids):
        os.kill(pid, KILL)
    mortal.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), "the workers' end")
    assert not path.exists()
    secret = secret_from(key_file=key_file)
    [closed] = recover(path, secret)
    assert closed.state == "recovered", closed.error
    assert recover(path, secret) == []
    report = verified(path, key_file)
    assert (report.state, report.balanced, report.complete) == ("recovered", True, True)
    assert report.frames >= status["frames"]["written"]
    backlog = status["ring"]["not_durable"] - status["frames"]["in_flight"]
    assert report.frames >= status["frames"]["offered"] - FPS - backlog
    assert not list(path.parent.glob("*.open"))


# --- starts and ends --------------------------------------------------------------------------


def test_stop_during_start(engine: Serving, key_file: Path) -> None:
    """Both calls are answered, and what comes of it is whole."""
    start = engine.call(StartRecording, config=engine.config())
    stop = engine.call(StopRecording)
    begun, ended = engine.answer(start), engine.answer(stop)
    assert begun.ok
    assert ended.ok
    assert ended.result is not None
    assert balanced(ended.result), ended.result
    assert ended.result["state"] == "sealed"
    assert verified(Path(ended.result["parts"][0]), key_file).balanced


def test_workers_killed_while_starting(engine: Serving, key_file: Path) -> None:
    """The start goes on with their successors."""
    call = engine.call(StartRecording, config=engine.config())
    for role in ("encoder", "capture"):
        engine.signal(role, KILL)
    reply = engine.answer(call)
    assert reply.ok, reply.error
    engine.wait_written(FPS // 2)
    result = engine.stop()
    assert balanced(result), result
    assert verified(Path(result["parts"][0]), key_file).balanced


def test_a_start_that_is_refused_leaves_nothing_and_the_next_one_works(
    engine: Serving, tmp_path: Path
) -> None:
    """An encoder that cannot open is an answer with a code, not the end of the engine."""
    before = sorted(path.name for path in tmp_path.iterdir())
    reply = engine.answer(engine.call(StartRecording, config=engine.config(codec="nonsense")))
    assert not reply.ok
    assert reply.error is not None
    assert reply.error["code"] in ("encoder", "config")
    stopped = engine.wait_event("recording_stopped")
    assert stopped.details["parts"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    engine.start(frames=10)
    assert engine.wait_event("recording_stopped", 2).details["frames_written"] == 10


def test_recordings_one_after_the_other_cost_the_engine_nothing(engine: Serving) -> None:
    """No descriptor and no thread is left of a recording in the process that goes on."""
    supervisor = psutil.Process(engine.process.pid)
    held: list[tuple[int, int]] = []
    for count in range(1, 4):
        engine.start(f"{count}.mp4.enc", frames=5)
        engine.wait_event("recording_stopped", count)
        engine.wait_status(lambda s: s["state"] == "idle")
        wait_until(lambda: not supervisor.children(), "the workers' end")
        held.append((supervisor.num_fds(), supervisor.num_threads()))
    assert held[1] == held[2], held


# --- the disk ---------------------------------------------------------------------------------


def limit_its_file(engine: Serving, path: Path, more_bytes: int) -> None:
    """Let the encoder's file take so many bytes more and then no other (RLIMIT_FSIZE)."""
    import resource  # not on Windows

    size = open_path(path).stat().st_size + more_bytes
    resource.prlimit(engine.pid("encoder"), resource.RLIMIT_FSIZE, (size, size))


def test_a_file_that_takes_no_more(engine: Serving, key_file: Path) -> None:
    """A limit that hits in mid recording: what was durable is kept, every other frame is named."""
    path = engine.start()
    engine.wait_written(SOME)
    limit_its_file(engine, path, 40_000)
    engine.wait_event("disk_failed")
    result = engine.wait_event("recording_stopped").details
    assert balanced(result), result
    assert result["lost"]["write_error"] > 0
    assert result["problem"]["code"] == "disk"
    assert result["state"] == "recovered"
    report = verified(path, key_file)
    assert (report.state, report.balanced) == ("recovered", True)
    assert report.frames == result["frames_written"]


def test_frames_that_come_after_a_failure_are_named(engine: Serving, key_file: Path) -> None:
    """Nobody stops the camera for a while, because the supervisor is held: each frame is named."""
    path = engine.start()
    engine.wait_written(SOME)
    offered = engine.status["frames"]["offered"]
    limit_its_file(engine, path, 1)
    os.kill(engine.process.pid, STOP)
    stopped_at = time.monotonic()
    wait_until(lambda: time.monotonic() - stopped_at > 3.0)
    os.kill(engine.process.pid, CONTINUE)
    engine.wait_event("disk_failed")
    result = engine.wait_event("recording_stopped").details
    assert balanced(result), result
    assert result["frames_offered"] >= offered + 2 * FPS
    assert set(result["lost"]) <= {"write_error", "camera_gap"}
    assert result["lost"]["write_error"] >= FPS
    report = verified(path, key_file)
    assert (report.state, report.balanced) == ("recovered", True)
    assert report.frames == result["frames_written"]
