"""Cameras, from the sensor to the sealed file: real processes, the real VmbC, a simulated camera.

Each test compares the file with the camera's own log (tests/gentl). On a busy machine a frame may
find no buffer: then it is lost by the camera's account, and must be by the file's.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.keys import secret_from
from engine.reading.verify import verify
from ipc.frame import LossClass
from ipc.messages import Trigger
from tests.gentl.simulator import SimulatedCameras
from tests.processes.camera_recordings import (
    Recorded,
    assert_as_produced,
    read_recording,
)
from tests.processes.commands import Ran, command_line, sealrec
from tests.processes.serving import Serving, serving, wait_until
from workers.sources.camera_settings import parse_settings

FIRST, SECOND = "vimba:DEV_SIM000", "vimba:DEV_SIM001"
EARLY = 7
USAGE = 2
MS = 1_000_000
SLACK_BYTES = 4 << 20  # what an interpreter may hold more for no reason of ours
LOST_AND_BACK = ["camera_lost", "camera_back"]

SETTINGS = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<ModuleSettings>
    <SettingsStruct>
        <PersistType Description="" Value="0" />
        <MaxIterations Description="" Value="5" />
        <LoggingLevel Description="" Value="0" />
    </SettingsStruct>
    <CameraInfo Id="DEV_SIM000" Model="Sim 1800 U-158c">
        <LocalDevice></LocalDevice>
        <RemoteDevice>
            <Feature Name="ExposureTime" Value="1234" Type="Float" />
            <Feature Name="Gain" Value="6.5" Type="Float" />
            <Feature Name="Height" Value="200" Type="Int" />
            <Feature Name="PixelFormat" Value="BGR8" Type="Enum" />
            <Feature Name="Width" Value="321" Type="Int" />
        </RemoteDevice>
    </CameraInfo>
</ModuleSettings>
"""


@pytest.fixture
def cameras(
    simulated_cameras: SimulatedCameras, monkeypatch: pytest.MonkeyPatch
) -> SimulatedCameras:
    """Two cameras that every process started from here finds."""
    for name, value in simulated_cameras.environment.items():
        monkeypatch.setenv(name, value)
    return simulated_cameras


@pytest.fixture
def engine(cameras: SimulatedCameras, tmp_path: Path, key_file: Path) -> Iterator[Serving]:
    """A running `sealrec serve` that finds the cameras."""
    with serving(tmp_path, key_file) as running:
        yield running


def record(cameras: SimulatedCameras, out: Path, key_file: Path, *options: str) -> Ran:
    """`sealrec record` from the first camera, small frames unless the options say otherwise."""
    given = ["--source", FIRST, "--size", "320x200", "--fps", "100", "--codec", "libx264"]
    sdk = ["--camera-sdk-settings", str(cameras.settings_path), "--key-file", str(key_file)]
    return sealrec("record", out, *given, *sdk, *options, "--json")


def start(engine: Serving, cameras: SimulatedCameras, **changes: Any) -> Path:
    """Start recording the first camera with small frames."""
    options = {"source": FIRST, "fps": 100.0, "height": 200}
    sdk = {"camera_sdk_settings": str(cameras.settings_path)}
    return engine.start(**{**options, **sdk, **changes})


def balanced(result: dict[str, Any], out: Path, key_file: Path) -> Recorded:
    """The recording, sealed in one file, with the same account in the result and in the file."""
    recorded = read_recording(out, key_file)
    report = verify(out, secret_from(key_file=key_file))
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)
    assert report.problems == ()
    assert (result["state"], result["balanced"]) == ("sealed", True)
    assert result["lost"] == report.lost
    assert result["frames_written"] == report.frames == len(recorded.frames)
    assert result["frames_offered"] == report.frames + sum(report.lost.values())
    assert result["gaps"] == len(recorded.gaps)
    assert recorded.parts == 1
    return recorded


def recorded_by(ran: Ran, out: Path, key_file: Path) -> Recorded:
    """The recording of a command that ended well."""
    assert ran.code == 0, (ran.out, ran.err)
    return balanced(ran.json, out, key_file)


def ids_of(recorded: Recorded, epoch: int) -> list[int]:
    return [row.frame_id for row in recorded.frames if row.epoch == epoch]


# --- a camera that works ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("camera", "size", "pixel_format", "fps"),
    [
        (0, "1456x1088", "bgr8", 30),
        (0, "1456x1088", "bgr8", 40),
        (1, "1920x1200", "bayer_rg8", 30),
    ],
)
def test_every_frame_is_recorded(
    cameras: SimulatedCameras,
    tmp_path: Path,
    key_file: Path,
    request: pytest.FixtureRequest,
    *,
    camera: int,
    size: str,
    pixel_format: str,
    fps: int,
) -> None:
    """Ids, camera times and pictures are the camera's, the duration true to its clock to 1 ms."""
    frames = round(request.config.getoption("--camera-seconds") * fps)
    out = tmp_path / "x.mp4.enc"
    options = ("--source", (FIRST, SECOND)[camera], "--size", size, "--fps", str(fps))
    more = ("--pixel-format", pixel_format, "--frames", str(frames))
    ran = record(cameras, out, key_file, *options, *more)
    recorded = recorded_by(ran, out, key_file)
    assert recorded.lost == []
    assert_as_produced(recorded, cameras, camera)
    assert [row.frame_id for row in recorded.frames] == list(range(frames))
    pictures = read_recording(out, key_file, barcodes=True).barcodes
    assert pictures == list(range(frames))
    first, last = recorded.frames[0], recorded.frames[-1]
    duration_ns = last.camera_ns - first.camera_ns + 1e9 / fps
    assert ran.json["duration_s"] * 1e9 == pytest.approx(duration_ns, abs=MS)
    assert recorded.camera["size"] == size
    assert recorded.camera["rate_hz"] == str(fps)
    assert "not_as_asked" not in recorded.camera


def test_the_first_free_camera_and_a_set_time(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """``vimba`` takes the first; what it cannot do is moved into its ranges and reported."""
    out = tmp_path / "x.mp4.enc"
    options = ("--source", "vimba", "--size", "5000x200", "--fps", "5000", "--seconds", "1")
    ran = record(cameras, out, key_file, *options)
    recorded = recorded_by(ran, out, key_file)
    assert recorded.camera["id"] == "DEV_SIM000"
    assert recorded.camera["size"] == "1456x200"
    moved = recorded.camera["not_as_asked"]
    assert moved.startswith("width 1456 instead of 5000, rate_hz ")
    assert moved.endswith("instead of 5000")
    assert ran.json["source"]["camera"]["not_as_asked"] == moved
    assert_as_produced(recorded, cameras)
    assert len(recorded.frames) == round(float(recorded.camera["rate_hz"]))


# --- faults of frames -------------------------------------------------------------------------


def test_skipped_ids_are_a_gap_with_their_range(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """The ids that never came are named, with the times of the frames around them."""
    cameras.skip(0, count=7, at_frame=40)
    cameras.skip(0, count=1, at_frame=90)
    out = tmp_path / "x.mp4.enc"
    recorded = recorded_by(record(cameras, out, key_file, "--frames", "150"), out, key_file)
    assert_as_produced(recorded, cameras)
    assert set(range(40, 47)) | {90} <= set(recorded.lost_ids(LossClass.CAMERA_GAP))
    by_id = {row.frame_id: row.host_ns for row in recorded.frames}
    [gap] = [loss for loss in recorded.lost if loss.first_id == 40]
    assert (gap.first_host_ns, gap.last_host_ns) == (by_id[39], by_id[47])
    assert recorded.gaps == []


def test_incomplete_frames_are_counted_and_never_encoded(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """Old pixels of another frame are no picture of this one."""
    cameras.tear(0, count=3, at_frame=40, filled=0.9)
    cameras.tear(0, count=1, at_frame=80, filled=0.0)
    out = tmp_path / "x.mp4.enc"
    recorded = recorded_by(record(cameras, out, key_file, "--frames", "150"), out, key_file)
    assert_as_produced(recorded, cameras)
    assert recorded.lost_ids(LossClass.INCOMPLETE) == [40, 41, 42, 80]
    assert not {row.frame_id for row in recorded.frames} & {40, 41, 42, 80}


def test_an_id_restart_is_a_new_epoch(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """The same ids again are other frames; the camera's clock went on, so nothing is missing."""
    cameras.restart_ids(0, at_frame=60)
    out = tmp_path / "x.mp4.enc"
    recorded = recorded_by(record(cameras, out, key_file, "--frames", "150"), out, key_file)
    assert_as_produced(recorded, cameras)
    assert recorded.epochs == [1, 2]
    assert recorded.gaps == []
    assert max(ids_of(recorded, 1)) == 59
    assert min(ids_of(recorded, 2)) == 0


def test_a_clock_restart_is_a_new_epoch(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """The clock begins at zero, the ids go on; the video goes on as well."""
    cameras.restart_clock(0, at_frame=60)
    out = tmp_path / "x.mp4.enc"
    recorded = recorded_by(record(cameras, out, key_file, "--frames", "150"), out, key_file)
    assert_as_produced(recorded, cameras)
    assert recorded.epochs == [1, 2]
    assert recorded.gaps == []
    first = next(row for row in recorded.frames if row.epoch == 2)
    assert (first.frame_id, first.camera_ns) == (60, 0)
    assert all(b.pts > a.pts for a, b in pairwise(recorded.frames))


def test_late_frames_keep_their_times_and_the_rest_is_named(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """Held back beyond all buffers: what was buffered is recorded as if nothing had been."""
    cameras.hold(0, for_s=1.5, at_frame=20)
    out = tmp_path / "x.mp4.enc"
    ran = record(cameras, out, key_file, "--fps", "30", "--frames", "90")
    recorded = recorded_by(ran, out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.lost_ids(LossClass.CAMERA_GAP)) > 10
    assert recorded.gaps == []
    assert recorded.kinds(*LOST_AND_BACK) == LOST_AND_BACK


# --- faults that last -------------------------------------------------------------------------


def test_a_stall_is_one_gap_with_its_time(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """No frame for longer than a second: lost, back, one gap, no id missing, time preserved."""
    cameras.stall(0, for_s=1.8, at_frame=50)
    out = tmp_path / "x.mp4.enc"
    recorded = recorded_by(record(cameras, out, key_file, "--frames", "150"), out, key_file)
    assert_as_produced(recorded, cameras)
    assert recorded.epochs == [1]
    [gap] = recorded.gaps
    before, after = (
        next(row for row in recorded.frames if row.frame_id == id_) for id_ in (49, 50)
    )
    assert (gap.first_host_ns, gap.last_host_ns) == (before.host_ns, after.host_ns)
    passed_ns = after.camera_ns - before.camera_ns
    assert passed_ns > 1.8e9
    assert (after.pts - before.pts) / 90_000 == pytest.approx(passed_ns / 1e9, abs=1e-4)
    assert recorded.kinds(*LOST_AND_BACK) == LOST_AND_BACK
    lost, back = (note.host_ns for note in recorded.events if note.kind in LOST_AND_BACK)
    assert before.host_ns < lost < after.host_ns < back


def test_a_stall_that_lasts_is_ended_by_opening_the_camera_again(
    engine: Serving, cameras: SimulatedCameras, key_file: Path
) -> None:
    """Waiting does not help for ever: another process opens it, which is the same gap."""
    out = start(engine, cameras)
    engine.wait_written(50)
    cameras.stall(0, for_s=600)
    engine.wait_event("camera_lost")
    cameras.wait_for("close", camera=0)
    cameras.wait_for("start", camera=0, count=2)
    assert engine.status["state"] == "camera_lost"
    cameras.end(0, "stall")
    engine.wait_event("camera_back")
    engine.wait_status(lambda s: s["state"] == "recording")
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.gaps) == 1
    assert recorded.epochs == [1, 2]
    assert recorded.kinds(*LOST_AND_BACK) == LOST_AND_BACK


def test_an_unplugged_camera_comes_back_into_the_same_file(
    engine: Serving, cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """Told while it is away; back with the settings it had, it alone knew; one gap, one file."""
    path = tmp_path / "camera.xml"
    path.write_text(SETTINGS.replace("321", "320"))
    out = start(engine, cameras, width=None, height=None, camera_settings=str(path))
    path.unlink()
    engine.wait_written(50)
    cameras.remove(0)
    lost = engine.wait_event("camera_lost")
    assert "DEV_SIM000" in lost.text
    engine.wait_status(lambda s: s["state"] == "camera_lost")
    cameras.end(0, "remove")
    engine.wait_event("camera_back")
    written = engine.wait_status(lambda s: s["state"] == "recording")["frames"]["written"]
    engine.wait_written(written + 50)
    recorded = balanced(engine.stop(), out, key_file)
    ends = assert_as_produced(recorded, cameras)
    discarded = cameras.frame_ids("discarded", camera=0)
    assert [row.frame_id for row in ends[0] if row.what == "delivered"] == discarded
    starts = [row.detail for row in cameras.ledger("start", camera=0)]
    assert starts == ["320x200 0x02180015"] * 2
    [gap] = recorded.gaps
    unplugged, back = (cameras.wait_for(what, camera=0).host_ns for what in ("unplug", "replug"))
    assert gap.first_host_ns < unplugged < back < gap.last_host_ns
    assert recorded.epochs == [1, 2]
    assert recorded.kinds(*LOST_AND_BACK) == LOST_AND_BACK
    first, second = (
        [row for row in recorded.frames if row.epoch == epoch] for epoch in recorded.epochs
    )
    passed_s = (second[0].host_ns - first[0].host_ns) / 1e9
    assert (second[0].pts - first[0].pts) / 90_000 == pytest.approx(passed_s, abs=1e-3)


def test_a_camera_that_stays_away_ends_the_recording(
    engine: Serving, cameras: SimulatedCameras, key_file: Path
) -> None:
    """After the set time the file is sealed and says why."""
    out = start(engine, cameras, camera_return_s=1.0)
    engine.wait_written(50)
    cameras.remove(0)
    stopped = engine.wait_event("recording_stopped").details
    assert stopped["problem"]["code"] == "camera"
    assert "did not come back within 1 s" in stopped["problem"]["message"]
    recorded = balanced(stopped, out, key_file)
    assert_as_produced(recorded, cameras)
    assert recorded.kinds() == ["camera_lost"]
    [gap] = recorded.gaps
    assert gap.first_host_ns == recorded.frames[-1].host_ns
    assert gap.last_host_ns - gap.first_host_ns > 1e9
    assert stopped["duration_s"] * 90_000 == pytest.approx(recorded.frames[-1].pts + 900, abs=1)


def test_record_ends_with_its_own_code_when_the_camera_stays_away(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """`sealrec record` seals what there is, says why, and its exit code is that of an early end."""
    cameras.remove(0, at_frame=60)
    out = tmp_path / "x.mp4.enc"
    ran = record(cameras, out, key_file, "--camera-return", "1")
    assert ran.code == EARLY
    assert ran.json["problem"]["code"] == "camera"
    assert "Traceback" not in ran.err
    recorded = balanced(ran.json, out, key_file)
    assert_as_produced(recorded, cameras)


def test_a_busy_camera_is_refused_at_the_start(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """Another program has it: one line says so, nothing is left behind."""
    cameras.occupy(0)
    ran = record(cameras, tmp_path / "x.mp4.enc", key_file)
    assert ran.code == EARLY
    assert ran.json["error"]["code"] == "camera"
    assert "already in use" in ran.err
    assert len(ran.err.strip().splitlines()) == 1, ran.err
    assert not list(tmp_path.glob("x.mp4*"))


def test_a_camera_that_comes_back_busy_is_waited_for(
    engine: Serving, cameras: SimulatedCameras, key_file: Path
) -> None:
    """Another program was faster: the recording goes on when that lets go."""
    out = start(engine, cameras)
    engine.wait_written(50)
    cameras.occupy(0)
    cameras.remove(0, for_s=0.3)
    engine.wait_event("camera_lost")
    cameras.wait_for("open_refused", camera=0)
    cameras.end(0, "busy")
    engine.wait_event("camera_back")
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.gaps) == 1


def test_a_stop_that_hangs_in_the_sdk_still_seals(
    engine: Serving, cameras: SimulatedCameras, key_file: Path
) -> None:
    """The SDK does not come back: the recording is sealed and the process leaves all the same."""
    out = start(engine, cameras)
    engine.wait_written(50)
    cameras.hang(0)
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert recorded.gaps == []


def test_a_capture_that_hangs_inside_the_sdk_is_replaced(
    engine: Serving, cameras: SimulatedCameras, key_file: Path
) -> None:
    """No frame and no answer: it is given up, its successor waits until the camera answers."""
    out = start(engine, cameras)
    engine.wait_written(50)
    pid = engine.pid("capture")
    cameras.stall(0, for_s=600)
    cameras.hang(0)
    engine.wait_event("camera_lost")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of capture")
    cameras.end(0, "stall")
    cameras.end(0, "hang")
    engine.wait_event("camera_back")
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.gaps) == 1
    assert recorded.kinds(*LOST_AND_BACK) == LOST_AND_BACK


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_capture_that_dies_or_stops_is_replaced(
    engine: Serving, cameras: SimulatedCameras, key_file: Path, how: signal.Signals
) -> None:
    """Killed, or silent until it is killed: one gap until its successor has the camera."""
    out = start(engine, cameras)
    engine.wait_written(50)
    engine.signal("capture", how)
    cameras.wait_for("start", camera=0, count=2, timeout_s=60)
    written = engine.status["frames"]["written"]
    engine.wait_written(written + 50)
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.gaps) == 1
    assert recorded.epochs == [1, 2]


def holds(worker: dict[str, Any]) -> dict[str, int]:
    """Descriptors now, for the status looks at them every few seconds only, and its memory."""
    descriptors = psutil.Process(worker["pid"]).num_fds()
    return {"descriptors": descriptors, "private_bytes": worker["private_bytes"]}


@pytest.mark.slow
def test_ten_unplug_replug_cycles_in_one_recording(
    engine: Serving, cameras: SimulatedCameras, key_file: Path
) -> None:
    """One sealed file, ten gaps; memory and descriptors of no process grow."""
    out = start(engine, cameras)
    held = []
    for cycle in range(1, 11):
        written = engine.wait_status(lambda s: s["state"] == "recording")["frames"]["written"]
        status = engine.wait_written(written + 20)
        held.append({role: holds(one) for role, one in status["workers"].items()})
        cameras.remove(0)
        engine.wait_event("camera_lost", cycle)
        cameras.end(0, "remove")
        engine.wait_event("camera_back", cycle)
    engine.wait_status(lambda s: s["state"] == "recording")
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.gaps) == 10
    assert recorded.kinds(*LOST_AND_BACK) == LOST_AND_BACK * 10
    assert recorded.epochs == list(range(1, 12))
    for role in ("supervisor", "encoder", "capture"):
        for what, more in (("descriptors", 0), ("private_bytes", SLACK_BYTES)):
            counts = [one[role][what] for one in held]
            assert max(counts[5:]) <= max(counts[:5]) + more, (role, what, counts)


# --- triggers and settings --------------------------------------------------------------------


def test_software_triggers(engine: Serving, cameras: SimulatedCameras, key_file: Path) -> None:
    """A camera that waits is no fault; each trigger gives one frame."""
    out = start(engine, cameras, trigger="software")
    engine.wait_status(lambda s: s["state"] == "waiting")
    for frame in range(1, 4):
        assert engine.answer(engine.call(Trigger)).ok
        engine.wait_written(frame)
    engine.wait_status(lambda s: s["state"] == "waiting")
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.frames) == 3
    assert (recorded.gaps, recorded.kinds()) == ([], [])
    assert recorded.camera["TriggerMode"] == "On"
    refused = engine.answer(engine.call(Trigger))
    assert refused.error is not None
    assert refused.error["code"] == "wrong-state"


def test_triggers_from_the_terminal(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """`record --trigger software` takes a frame for each line on stdin."""
    out = tmp_path / "x.mp4.enc"
    options = ["--source", FIRST, "--size", "320x200", "--codec", "libx264", "--frames", "3"]
    sdk = ["--camera-sdk-settings", str(cameras.settings_path), "--key-file", str(key_file)]
    running = subprocess.Popen(
        command_line("record", out, *options, *sdk, "--trigger", "software", "--json"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    cameras.wait_for("start", camera=0)
    assert running.stdin is not None
    for frame in range(1, 4):
        running.stdin.write("\n")
        running.stdin.flush()
        cameras.wait_for("delivered", camera=0, count=frame)
    printed, _ = running.communicate(timeout=60)
    recorded = recorded_by(Ran(running.returncode, printed, ""), out, key_file)
    assert [row.frame_id for row in recorded.frames] == [0, 1, 2]


def test_hardware_triggers(engine: Serving, cameras: SimulatedCameras, key_file: Path) -> None:
    """Pulses on the camera's line; after a replug it waits for them again."""
    out = start(engine, cameras, trigger="hardware")
    cameras.wait_for("start", camera=0)
    cameras.pulse(0, count=5)
    engine.wait_written(5)
    cameras.remove(0, for_s=0.3)
    engine.wait_event("camera_lost")
    engine.wait_event("camera_back")
    cameras.pulse(0, count=4)
    engine.wait_written(9)
    recorded = balanced(engine.stop(), out, key_file)
    assert_as_produced(recorded, cameras)
    assert len(recorded.frames) == 9
    assert len(recorded.gaps) == 1


def test_settings_are_loaded_compared_and_kept(
    cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """A settings file holds; what the camera makes otherwise of it is reported."""
    path = tmp_path / "camera.xml"
    path.write_text(SETTINGS)
    out = tmp_path / "x.mp4.enc"
    sdk = ("--camera-sdk-settings", cameras.settings_path, "--camera-settings", path)
    options = ("--source", FIRST, "--frames", "20", "--codec", "libx264")
    ran = sealrec("record", out, *options, *sdk, "--key-file", key_file, "--json")
    recorded = recorded_by(ran, out, key_file)
    names = ("ExposureTime", "Gain", "pixel_format", "size")
    assert {name: recorded.camera[name] for name in names} == {
        "ExposureTime": "1234.0",
        "Gain": "6.5",
        "pixel_format": "BGR8",
        "size": "1456x200",
    }
    assert recorded.camera["not_as_asked"] == "Width 1456 instead of 321"
    assert 'Name="ExposureTime" Value="1234"' in recorded.camera["settings"]
    assert parse_settings(recorded.camera["settings"].encode(), "x").model == "Sim 1800 U-158c"


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("Sim 1800 U-158c", "1800 U-999", "of a '1800 U-999', the camera is a 'Sim 1800 U-158c'"),
        ("<Feature", "<Nothing", "holds no camera settings"),
        ('Value="1234"', 'Value="x"', "does not take"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    cameras: SimulatedCameras,
    tmp_path: Path,
    key_file: Path,
    *,
    before: str,
    after: str,
    says: str,
) -> None:
    """One clear line, and nothing is recorded."""
    path = tmp_path / "camera.xml"
    path.write_text(SETTINGS.replace(before, after))
    options = ("--camera-settings", str(path), "--frames", "2")
    ran = record(cameras, tmp_path / "x.mp4.enc", key_file, *options)
    assert ran.code == USAGE
    assert says in ran.err
    assert len(ran.err.strip().splitlines()) == 1, ran.err
    assert not list(tmp_path.glob("x.mp4*"))


# --- looking for cameras ----------------------------------------------------------------------


def test_cameras_are_listed(cameras: SimulatedCameras) -> None:
    """Id, model, serial number, access, formats and rates; one in use says so."""
    cameras.occupy(1)
    listed = sealrec("cameras", "--camera-sdk-settings", cameras.settings_path, "--json")
    assert listed.code == 0, listed.err
    first, second = listed.json
    assert (first["id"], first["model"], first["serial"]) == (
        "DEV_SIM000",
        "Sim 1800 U-158c",
        "SIM158000",
    )
    assert "Full" in first["access"]
    assert "BayerRG8" in first["formats"]
    assert first["rate_range_hz"] == [pytest.approx(0.1), pytest.approx(198, abs=1)]
    assert (second["id"], second["formats"], second["rate_range_hz"]) == ("DEV_SIM001", [], None)
    shown = sealrec("cameras", "--camera-sdk-settings", cameras.settings_path)
    assert shown.code == 0
    assert "DEV_SIM000" in shown.err


def doctor(cameras: SimulatedCameras, folder: Path, *options: str) -> Any:
    """What `sealrec doctor` finds with the first camera at 30 fps."""
    given = ("--source", FIRST, "--size", "320x200", "--fps", "30", "--allow-swap")
    sdk = ("--camera-sdk-settings", cameras.settings_path)
    return sealrec("doctor", folder, *given, *sdk, *options, "--json").json["checks"]


def test_doctor_judges_a_camera_by_a_second_of_it(
    cameras: SimulatedCameras, tmp_path: Path
) -> None:
    """Rate, gaps, damaged frames and temperature, measured; nothing is left behind."""
    before = set(tmp_path.iterdir())
    good = doctor(cameras, tmp_path)["camera"]
    assert good["verdict"] == "ok", good
    assert (good["id"], good["size"]) == ("DEV_SIM000", "320x200")
    assert good["rate_hz"] == pytest.approx(30, abs=0.1)
    assert (good["gaps"], good["incomplete"], good["temperature_c"]) == (0, 0, 41.5)
    cameras.heat(0, 88)
    cameras.skip(0, count=2, at_frame=2)
    cameras.tear(0, count=3, at_frame=5)
    bad = doctor(cameras, tmp_path)["camera"]
    assert bad["verdict"] == "fail"
    assert (bad["gaps"], bad["incomplete"], bad["temperature_c"]) == (2, 3, 88.0)
    cameras.remove(0)
    cameras.wait_for("close", camera=0, count=2)
    gone = doctor(cameras, tmp_path)["camera"]
    assert gone["verdict"] == "fail"
    assert "no camera 'DEV_SIM000'" in gone["text"]
    assert set(tmp_path.iterdir()) == before


@pytest.fixture
def no_vmbpy(tmp_path: Path) -> dict[str, str]:
    """An environment in which vmbpy cannot be imported."""
    folder = tmp_path / "hidden"
    folder.mkdir()
    (folder / "vmbpy.py").write_text("raise ModuleNotFoundError('No module named vmbpy')\n")
    before = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": str(folder) + (os.pathsep + before if before else "")}


def commands(tmp_path: Path, key_file: Path) -> list[list[str | Path]]:
    out = tmp_path / "x.mp4.enc"
    return [["cameras"], ["record", out, "--source", "vimba", "--key-file", key_file]]


@pytest.mark.parametrize("command", [0, 1])
def test_without_vmbpy_one_line_says_what_to_install(
    no_vmbpy: dict[str, str], tmp_path: Path, key_file: Path, command: int
) -> None:
    """No traceback, and a code of its own."""
    ran = sealrec(*commands(tmp_path, key_file)[command], env=no_vmbpy)
    assert ran.code == EARLY
    assert ran.err.strip() == (
        "sealrec: The camera SDK's Python package vmbpy is not installed. "
        "Install it with: pip install 'sealrec[camera]'"
    )
    assert not list(tmp_path.glob("x.mp4*"))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for .cti files as Linux does")
@pytest.mark.parametrize("command", [0, 1])
def test_without_a_transport_layer_one_line_says_what_to_install(
    tmp_path: Path, key_file: Path, command: int
) -> None:
    """VmbC is there and finds nothing to talk to cameras with."""
    pytest.importorskip("vmbpy", reason="vmbpy is not installed")
    nowhere = {"GENICAM_GENTL64_PATH": str(tmp_path)}
    ran = sealrec(*commands(tmp_path, key_file)[command], env=nowhere)
    assert ran.code == EARLY
    [line] = ran.err.strip().splitlines()
    assert line.startswith("sealrec: The camera SDK finds no transport layer. Install Vimba X")
    assert not list(tmp_path.glob("x.mp4*"))
