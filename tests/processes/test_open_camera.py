"""A camera that stays open: pre-roll, pauses, marks, one recording after another, and deaths."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import (
    CameraClosed,
    FramesLost,
    Options,
    Recorder,
    Result,
    Status,
    WorkerRestarted,
)
from engine.container.reader import RecordingReader
from engine.container.tables import FrameRow, Note
from engine.keys import secret_from
from engine.reading.pictures import decode
from engine.reading.verify import verify
from ipc.errors import ConfigError, EncoderError, KeyFileError, WrongState
from ipc.frame import FrameFlags, LossClass
from tests.processes.serving import wait_until

FPS = 30.0
PRE_ROLL_S = 1.0
AWAIT_S = 60.0


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    """An engine whose camera streams, with a second of pre-roll."""
    with Recorder() as made:
        made.open_camera(source="synthetic", width=320, height=240, fps=FPS, pre_roll_s=PRE_ROLL_S)
        made.wait_status(lambda s: s.state == "ready" and s.ring.fill > FPS * PRE_ROLL_S, AWAIT_S)
        yield made


@pytest.fixture
def options(tmp_path: Path, key_file: Path) -> Options:
    """What a recording needs."""
    return {"output": tmp_path / "x.mp4.enc", "key_file": key_file, "codec": "libx264"}


def tables(result: Result, key_file: Path) -> tuple[list[FrameRow], list[Note], list[Note]]:
    """Frame rows, marks and events of a recording that verifies, pictures included."""
    assert result.path is not None
    secret = secret_from(key_file=key_file)
    report = verify(result.path, secret)
    assert (report.balanced, report.complete, report.problems) == (True, True, ())
    assert (report.frames, report.lost) == (result.frames_written, dict(result.lost))
    frames: dict[int, FrameRow] = {}
    marks: list[Note] = []
    events: list[Note] = []
    with RecordingReader.open(result.path, secret) as reader:
        for part in reader.parts:
            found = [fragment.table for fragment in part.fragments()]
            for table in (*found, *([part.seal] if part.seal else [])):
                marks += table.marks
                events += table.events
            rows = [row for table in found for row in table.frames]
            numbers = [picture.number for picture in decode(part, barcodes=True)]
            assert numbers == [row.frame_id for row in rows]
            frames |= {row.seq: row for row in rows}
    return [frames[seq] for seq in sorted(frames)], marks, events


def pid_of(recorder: Recorder, role: str) -> int:
    """Of a running worker."""

    def known(status: Status) -> bool:
        return bool(status.raw.get("workers", {}).get(role, {}).get("pid"))

    return int(recorder.wait_status(known, AWAIT_S).raw["workers"][role]["pid"])


def kill(recorder: Recorder, role: str) -> None:
    """SIGKILL a worker and wait until its successor runs."""
    with recorder.events(WorkerRestarted) as restarts:
        os.kill(pid_of(recorder, role), signal.SIGKILL)
        restarts.read(AWAIT_S)


def test_a_recording_begins_before_its_button(
    recorder: Recorder, options: Options, key_file: Path
) -> None:
    """The frames of the second before the call are in it, flagged, and none is missing after."""
    called_ns = time.perf_counter_ns()
    recorder.start(**options)
    recorder.wait_written(60, AWAIT_S)
    result = recorder.stop()
    rows, _, _ = tables(result, key_file)
    before = [row for row in rows if row.flags & FrameFlags.PRE_ROLL]
    assert rows[: len(before)] == before
    assert len(before) == pytest.approx(PRE_ROLL_S * FPS, abs=2)
    assert before[0].host_ns >= called_ns - PRE_ROLL_S * 1e9
    assert rows[0].pts == 0
    ids = [row.frame_id for row in rows]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert result.lost == {}
    assert result.latency_s is not None
    assert result.latency_s.p99 < PRE_ROLL_S + 1  # the wait for the button is none of the disk's


def test_recordings_follow_each_other(
    recorder: Recorder, options: Options, tmp_path: Path, key_file: Path
) -> None:
    """Each has its own file, account and time line; the camera is opened once."""
    capture = pid_of(recorder, "capture")
    seen: set[int] = set()
    for number in range(3):
        options["output"] = tmp_path / f"{number}.mp4.enc"
        options["pre_roll_s"] = 0.0
        recorder.start(**options)
        recorder.wait_written(20, AWAIT_S)
        result = recorder.stop()
        rows, _, _ = tables(result, key_file)
        assert rows[0].pts == 0
        assert not any(row.flags & FrameFlags.PRE_ROLL for row in rows)
        assert result.duration_s == pytest.approx(len(rows) / FPS, abs=0.001)
        assert not seen & {row.frame_id for row in rows}
        seen |= {row.frame_id for row in rows}
    assert pid_of(recorder, "capture") == capture
    recorder.close_camera()
    recorder.close_camera()
    assert recorder.get_status().state == "idle"


def test_a_pause_is_named_and_takes_its_time(
    recorder: Recorder, options: Options, key_file: Path
) -> None:
    """Its frames are in one range of their own class, and the file's time goes on."""
    lost: list[FramesLost] = []
    recorder.subscribe(lost.append, FramesLost)
    options["pre_roll_s"] = 0.0
    recorder.start(**options)
    recorder.wait_written(20, AWAIT_S)
    recorder.pause()
    with pytest.raises(WrongState):
        recorder.pause()
    recorder.wait_status(lambda s: s.state == "paused" and s.frames.lost["paused"] > 20, AWAIT_S)
    recorder.resume()
    recorder.wait_recording(AWAIT_S)
    written = recorder.get_status().frames.written
    recorder.wait_written(written + 20, AWAIT_S)
    result = recorder.stop()
    assert set(result.lost) == {LossClass.PAUSED.label}
    rows, _, _ = tables(result, key_file)
    missing = set(range(rows[0].frame_id, rows[-1].frame_id)) - {row.frame_id for row in rows}
    assert missing == set(range(min(missing), max(missing) + 1))
    assert len(missing) == result.lost["paused"]
    in_all = len(rows) + len(missing)
    assert result.duration_s == pytest.approx(in_all / FPS, abs=0.001)
    assert lost == []


def test_marks_are_in_the_file_at_their_time(
    recorder: Recorder, options: Options, key_file: Path
) -> None:
    """Kind, text and time as given; nothing is marked that is not recorded."""
    with pytest.raises(WrongState):
        recorder.mark("laser_on")
    recorder.start(**options)
    given = [(recorder.mark("laser_on", f"{n} mJ"), "laser_on", f"{n} mJ") for n in range(5)]
    recorder.wait_written(30, AWAIT_S)
    given.append((recorder.mark("emergency_stop"), "emergency_stop", ""))
    result = recorder.stop()
    _, marks, _ = tables(result, key_file)
    assert [(note.host_ns, note.kind, note.text) for note in marks] == given


def test_marks_survive_the_encoder(recorder: Recorder, options: Options, key_file: Path) -> None:
    """One that was not durable yet is told to the successor; none is lost, no frame either."""
    recorder.start(**options)
    recorder.wait_written(30, AWAIT_S)
    given = {recorder.mark("step", str(number)) for number in range(3)}
    kill(recorder, "encoder")
    written = recorder.get_status().frames.written
    given.add(recorder.mark("step", "after"))
    recorder.wait_written(written + 60, AWAIT_S)
    result = recorder.stop()
    assert len(result.parts) == 2
    assert result.lost == {}
    rows, marks, events = tables(result, key_file)
    assert len(rows) == result.frames_written
    assert {note.host_ns for note in marks} == given
    assert "worker_restarted" in {note.kind for note in events}


def test_a_pause_survives_the_encoder(recorder: Recorder, options: Options, key_file: Path) -> None:
    """A successor names the frames of the pause as its predecessor did."""
    recorder.start(**options)
    recorder.wait_written(30, AWAIT_S)
    since_ns = recorder.pause()
    kill(recorder, "encoder")
    recorder.wait_status(lambda s: s.state == "paused" and s.frames.lost["paused"] > 30, AWAIT_S)
    until_ns = recorder.resume()
    written = recorder.get_status().frames.written
    recorder.wait_written(written + 20, AWAIT_S)
    result = recorder.stop()
    assert set(result.lost) == {"paused"}
    rows, _, _ = tables(result, key_file)
    assert not [row for row in rows if since_ns + 5e7 < row.host_ns < until_ns]


@pytest.mark.parametrize("role", ["encoder", "capture"])
def test_workers_that_die_between_recordings_are_replaced(
    recorder: Recorder, options: Options, key_file: Path, role: str
) -> None:
    """The next recording is whole and holds nothing of the time before its own."""
    kill(recorder, role)
    recorder.wait_status(lambda s: s.state == "ready" and s.ring.fill > 0, AWAIT_S)
    options["pre_roll_s"] = 0.0
    called_ns = time.perf_counter_ns()
    recorder.start(**options)
    recorder.wait_written(20, AWAIT_S)
    result = recorder.stop()
    assert result.lost == {}
    rows, _, _ = tables(result, key_file)
    assert rows[0].host_ns >= called_ns


def test_a_recording_survives_its_capture_process(
    recorder: Recorder, options: Options, key_file: Path
) -> None:
    """One gap; and the camera is open still once it is sealed."""
    recorder.start(**options)
    recorder.wait_written(30, AWAIT_S)
    kill(recorder, "capture")
    written = recorder.get_status().frames.written
    recorder.wait_written(written + 40, AWAIT_S)
    result = recorder.stop()
    assert (result.gaps, result.lost) == (1, {})
    tables(result, key_file)
    assert recorder.wait_status(lambda s: s.state == "ready", AWAIT_S).state == "ready"


def test_a_recording_that_cannot_begin_leaves_the_camera_open(
    recorder: Recorder, options: Options, key_file: Path, tmp_path: Path
) -> None:
    """Refused with its reason and without a file; the next one begins."""
    refused: list[dict[str, Any]] = [
        {"frames": 10},
        {"width": 640},
        {"pre_roll_s": PRE_ROLL_S + 1},
        {"key_file": tmp_path / "none"},
    ]
    for change in refused:
        with pytest.raises((ConfigError, KeyFileError)) as said:
            recorder.start(**{**options, **change})  # type: ignore[typeddict-item]
        assert not list(tmp_path.glob("x.mp4*")), said.value
    with pytest.raises(EncoderError):
        recorder.start(**{**options, "codec": "no-such-codec"})  # type: ignore[typeddict-item]
    assert not list(tmp_path.glob("x.mp4*"))
    recorder.wait_status(lambda s: s.state == "ready", AWAIT_S)
    with pytest.raises(WrongState):
        recorder.open_camera(source="synthetic")
    recorder.start(**options)
    recorder.wait_written(10, AWAIT_S)
    tables(recorder.stop(), key_file)


def test_closing_the_camera_seals(recorder: Recorder, options: Options, key_file: Path) -> None:
    """What is being recorded is whole, and both calls know it."""
    recorder.start(**options)
    recorder.wait_written(20, AWAIT_S)
    closed: list[CameraClosed] = []
    recorder.subscribe(closed.append, CameraClosed)
    recorder.close_camera()
    result = recorder.wait_stopped(AWAIT_S)
    tables(result, key_file)
    wait_until(lambda: bool(closed))
    assert closed[0].expected


def test_a_set_time_ends_a_recording_and_not_the_camera(
    recorder: Recorder, options: Options, key_file: Path
) -> None:
    """Two recordings of a second, without a stop."""
    options["pre_roll_s"] = 0.0
    for _ in range(2):
        recorder.start(**options, seconds=1.0, next_free_name=True)
        result = recorder.wait_stopped(AWAIT_S)
        tables(result, key_file)
        assert result.duration_s == pytest.approx(1.0, abs=0.5)
        assert result.problem is None
