"""The simulated cameras, seen through vmbpy and the real VmbC, against the producer's ledger.

On a busy machine a frame may find no buffer queued: no test counts on that never happening, each
compares with the ledger, where such a frame is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from tests.gentl.build import sanitizer_environment
from tests.gentl.simulator import CameraSetup, SimulatedCameras

FORMATS = ("Mono8", "BayerRG8", "RGB8", "BGR8", "YUV422_8_UYVY")
PERIOD_NS = 10_000_000  # the scenarios stream at 100 fps
PROJECT = Path(__file__).parents[2]
ABORT, INVALID_HANDLE, NOT_INITIALIZED = -1012, -1006, -1002


def start(
    module: str, name: str, *arguments: str, environment: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    """A scenario in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.gentl.{module}", name, *arguments],
        cwd=PROJECT,
        env=os.environ | sanitizer_environment() | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer_of(process: subprocess.Popen[str]) -> Any:
    """What the scenario printed."""
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    return json.loads(output.splitlines()[-1])


def begin(cameras: SimulatedCameras, name: str, **arguments: Any) -> subprocess.Popen[str]:
    """Start a scenario of scenarios.py on these cameras."""
    where = (str(cameras.directory), str(cameras.producer))
    return start("scenarios", name, *where, json.dumps(arguments))


def run(cameras: SimulatedCameras, name: str, **arguments: Any) -> Any:
    """Run a scenario of scenarios.py to its end."""
    return answer_of(begin(cameras, name, **arguments))


def exposed(cameras: SimulatedCameras) -> dict[int, int]:
    """Time of every frame camera 0 exposed, by id, also of those that did not arrive."""
    rows = cameras.ledger("delivered", "incomplete", "skipped", "no_buffer", camera=0)
    return {row.frame_id: row.timestamp_ns for row in rows}  # type: ignore[misc]


def assert_as_in_ledger(cameras: SimulatedCameras, frames: list[dict[str, Any]]) -> None:
    """The handler saw what the producer delivered, in order, with its times, and nothing else."""
    rows = cameras.ledger("delivered", "incomplete", camera=0)
    delivered = [(row.frame_id, row.timestamp_ns) for row in rows]
    seen = [(frame["id"], frame["timestamp_ns"]) for frame in frames]
    assert seen == delivered[: len(seen)]
    assert len(seen) > 20


# --- a camera that works ---


def test_cameras_are_listed_with_id_model_and_serial(simulated_cameras: SimulatedCameras) -> None:
    """VmbC lists both cameras as they were set up."""
    assert run(simulated_cameras, "listing") == [
        ["DEV_SIM000", "Sim 1800 U-158c", "SIM158000"],
        ["DEV_SIM001", "Sim 1800 U-230c", "SIM230001"],
    ]


def test_as_many_cameras_as_were_set_up(gentl_producer: Path, tmp_path: Path) -> None:
    """The number of cameras and who they are is the script's."""
    setups = [CameraSetup(f"DEV_{n}", f"S{n}", "230c") for n in range(8)]
    listed = run(SimulatedCameras(tmp_path, gentl_producer, cameras=setups), "listing")
    assert listed == [[f"DEV_{n}", "Sim 1800 U-230c", f"S{n}"] for n in range(8)]


def test_environment_alone_is_enough_for_the_makers_name(
    gentl_producer: Path, tmp_path: Path
) -> None:
    """With Allied Vision as vendor VmbC needs no settings file: any program finds the cameras."""
    cameras = SimulatedCameras(tmp_path, gentl_producer, vendor="Allied Vision")
    assert run(cameras, "listing_by_environment") == ["DEV_SIM000", "DEV_SIM001"]


def test_features_depend_on_each_other_as_a_cameras_do(simulated_cameras: SimulatedCameras) -> None:
    """All features are readable; exposure bounds the rate, pixel format and binning the payload."""
    answer = run(simulated_cameras, "features")
    assert answer["values"]["DeviceFirmwareVersion"] == "1.0.0"
    assert answer["values"]["StatFrameUnderrun"] == "0"
    assert (answer["free_writeable"], answer["writeable"]) == (False, True)
    assert answer["range"][1] > 150 > answer["range_20_ms"][1]
    assert answer["clamped"] == pytest.approx(answer["range_20_ms"][1])
    assert "60.0 is not within" in answer["refused"]
    assert answer["set_again"] == 60
    assert answer["range_bgr8"][1] < answer["range"][1]
    assert answer["payload_bgr8"] == 1456 * 1088 * 3
    assert answer["binned"] == [728, 544, 728, 544, 728 * 544 * 3]
    assert answer["offset_range"] == [0, 728 - 320]
    assert 1000e9 < answer["latched_ns"] < 1100e9
    assert answer["auto_exposure_writeable"] is False


def test_each_pixel_format_streams_with_ids_times_and_barcodes(
    simulated_cameras: SimulatedCameras,
) -> None:
    """60 frames at 100 fps: ids from 0, exact periods, the id in the picture, sizes locked."""
    answer = run(simulated_cameras, "stream_each_format")
    assert tuple(answer) == FORMATS
    delivered = simulated_cameras.ledger("delivered")
    for number, name in enumerate(FORMATS, 1):
        frames = answer[name]["frames"]
        rows = [(row.frame_id, row.timestamp_ns) for row in delivered if row.acquisition == number]
        assert [(f["id"], f["timestamp_ns"]) for f in frames] == rows[: len(frames)]
        assert [f["seen"] for f in frames] == [f["id"] for f in frames], name
        origin_ns = frames[0]["timestamp_ns"] - frames[0]["id"] * PERIOD_NS
        assert {f["timestamp_ns"] - f["id"] * PERIOD_NS for f in frames} == {origin_ns}
        assert all(frame["complete"] for frame in frames)
        assert answer[name]["locked"]


def test_first_id_and_clock_drift_are_the_cameras_own(gentl_producer: Path, tmp_path: Path) -> None:
    """Ids may begin at 1, and a clock 1% too fast shows periods 1% too long."""
    setup = CameraSetup("DEV_SIM000", "S", first_id=1, drift_ppm=10_000)
    cameras = SimulatedCameras(tmp_path, gentl_producer, cameras=[setup])
    run(cameras, "stream_until", count=30)
    stamps = exposed(cameras)
    assert min(stamps) == 1
    assert stamps[30] - stamps[1] == pytest.approx(29 * PERIOD_NS * 1.01, abs=1000)


def test_buffers_may_be_the_producers(simulated_cameras: SimulatedCameras) -> None:
    """AllocAndAnnounceFrame works as well: the producer's memory carries the picture."""
    frames = run(simulated_cameras, "allocated_by_producer")
    assert [frame["seen"] for frame in frames] == [frame["id"] for frame in frames]


def test_frames_come_on_software_and_hardware_triggers(simulated_cameras: SimulatedCameras) -> None:
    """With TriggerMode On a frame comes for each TriggerSoftware or pulse, and none besides."""
    answer = run(simulated_cameras, "triggered")
    assert answer == {"ids": [0, 1, 2, 0, 1, 2, 3], "single": 320}


# --- faults of frames ---


def test_skipped_ids_never_come(simulated_cameras: SimulatedCameras) -> None:
    """Ids 20 to 24 are lost on the way; the others keep their times."""
    simulated_cameras.skip(0, count=5, at_frame=20)
    frames = run(simulated_cameras, "stream_until")
    assert simulated_cameras.frame_ids("skipped") == list(range(20, 25))
    assert not {frame["id"] for frame in frames} & set(range(20, 25))
    assert exposed(simulated_cameras)[25] - exposed(simulated_cameras)[19] == 6 * PERIOD_NS
    assert_as_in_ledger(simulated_cameras, frames)


def test_skipping_for_a_time_loses_what_falls_into_it(simulated_cameras: SimulatedCameras) -> None:
    """0.3 s at 100 fps are 30 ids."""
    simulated_cameras.skip(0, for_s=0.3, at_frame=10)
    frames = run(simulated_cameras, "stream_until")
    assert simulated_cameras.frame_ids("skipped") == list(range(10, 40))
    assert_as_in_ledger(simulated_cameras, frames)


def test_incomplete_frames_keep_old_pixels(simulated_cameras: SimulatedCameras) -> None:
    """The status says incomplete; the rows behind the filled part are the buffer's old ones."""
    simulated_cameras.tear(0, count=3, filled=0.25, at_frame=20)
    answer = run(simulated_cameras, "torn")
    bad = [frame for frame in answer["frames"] if not frame["complete"]]
    assert len(bad) == 3
    assert [frame["id"] for frame in bad] == simulated_cameras.frame_ids("incomplete")
    for frame in bad:
        assert frame["seen"] == {"barcode": frame["id"], "old_rows": list(range(50, 200))}
    assert all(f["seen"]["old_rows"] == [] for f in answer["frames"] if f["complete"])
    assert answer["dropped"] == 3
    assert_as_in_ledger(simulated_cameras, answer["frames"])


def test_frames_without_a_queued_buffer_are_lost_and_counted(
    simulated_cameras: SimulatedCameras,
) -> None:
    """While the handler is stuck ids are used up; ledger, counter and the handler's gap agree."""
    answer = run(simulated_cameras, "starved")
    lost = simulated_cameras.frame_ids("no_buffer")
    ids = [frame["id"] for frame in answer["frames"]]
    assert len(lost) >= 8
    assert [id_ for id_ in lost if id_ < max(ids)] == sorted(set(range(max(ids))) - set(ids))
    assert 8 <= answer["underrun"] <= len(lost)


def test_ids_restart(simulated_cameras: SimulatedCameras) -> None:
    """After id 29 comes id 0, with the clock going on."""
    simulated_cameras.restart_ids(0, at_frame=30)
    frames = run(simulated_cameras, "stream_until")
    rows = simulated_cameras.ledger("delivered", "no_buffer")
    assert [row.frame_id for row in rows][28:32] == [28, 29, 0, 1]
    assert (rows[30].timestamp_ns or 0) - (rows[29].timestamp_ns or 0) == PERIOD_NS
    assert_as_in_ledger(simulated_cameras, frames)


# --- faults that last ---


def test_stall_makes_a_gap_in_time_but_not_in_ids(simulated_cameras: SimulatedCameras) -> None:
    """Nothing comes for 0.5 s, then the next id."""
    simulated_cameras.stall(0, for_s=0.5, at_frame=20)
    frames = run(simulated_cameras, "stream_until")
    stamps = exposed(simulated_cameras)
    assert list(stamps) == list(range(len(stamps)))
    assert stamps[20] - stamps[19] == 500_000_000 + PERIOD_NS
    assert_as_in_ledger(simulated_cameras, frames)


def test_held_frames_come_in_a_burst_with_their_true_times(
    simulated_cameras: SimulatedCameras,
) -> None:
    """16 buffers at most fill up on time and come at once; what did not fit is lost."""
    simulated_cameras.hold(0, for_s=0.4, at_frame=20)
    frames = run(simulated_cameras, "stream_until")
    arrived = {frame["id"]: frame["host_ns"] for frame in frames}
    filled = {row.frame_id: row.host_ns for row in simulated_cameras.ledger("delivered")}
    first = min(id_ for id_ in arrived if id_ >= 20)
    burst = [id_ for id_ in arrived if first <= id_ and filled[id_] < arrived[first]]
    assert 5 <= len(burst) <= 16
    assert set(simulated_cameras.frame_ids("no_buffer")) >= set(range(37, 59))
    assert exposed(simulated_cameras)[40] - exposed(simulated_cameras)[20] == 20 * PERIOD_NS
    assert_as_in_ledger(simulated_cameras, frames)


def test_clock_restarts_at_zero(simulated_cameras: SimulatedCameras) -> None:
    """The frame named is at 0 of the new clock; ids go on."""
    simulated_cameras.restart_clock(0, at_frame=30)
    frames = run(simulated_cameras, "stream_until")
    stamps = exposed(simulated_cameras)
    assert stamps[29] > 1000e9
    assert (stamps[30], stamps[31]) == (0, PERIOD_NS)
    assert_as_in_ledger(simulated_cameras, frames)


def test_unplugged_camera_is_missing_and_comes_back_as_a_new_one(
    simulated_cameras: SimulatedCameras,
) -> None:
    """Reads fail at once, Missing follows; after Detected a new Camera streams from defaults.

    The other camera streams on through all of it.
    """
    answer = run(simulated_cameras, "removal")
    assert answer["events"] == [["DEV_SIM000", "Missing"], ["DEV_SIM000", "Detected"]]
    assert answer["errors"][0].startswith("VmbFeatureError")
    assert answer["errors"][1] == ""  # stop_streaming() after Missing: nothing, silently
    assert answer["listed_after_missing"] == ["DEV_SIM001"]
    assert answer["same_object"] is False
    assert answer["width_after"] == 1456
    assert answer["new_frames"][0]["id"] == 0
    assert 0 < answer["new_frames"][0]["timestamp_ns"] < 60e9  # it had lost its power: a new clock
    gone, back = simulated_cameras.wait_for("unplug"), simulated_cameras.wait_for("replug")
    assert max(frame["host_ns"] for frame in answer["frames"]) < back.host_ns
    others = answer["other_frames"]
    rows = simulated_cameras.ledger("delivered", camera=1)
    assert [frame["id"] for frame in others] == [row.frame_id for row in rows][: len(others)]
    assert others[0]["host_ns"] < gone.host_ns < back.host_ns < others[-1]["host_ns"]


def test_removal_at_a_frame_is_seen_by_every_process(simulated_cameras: SimulatedCameras) -> None:
    """Unplugged before frame 25, frame 24 is the last; a second process does not list it."""
    simulated_cameras.remove(0, at_frame=25)
    process = begin(simulated_cameras, "hold_camera")
    simulated_cameras.wait_for("unplug")
    simulated_cameras.wait_for("stop")
    assert list(exposed(simulated_cameras)) == list(range(25))
    assert run(simulated_cameras, "listing") == [["DEV_SIM001", "Sim 1800 U-230c", "SIM230001"]]
    process.kill()
    process.communicate()


def test_stopping_before_vmbc_noticed_raises_a_bare_error(
    simulated_cameras: SimulatedCameras,
) -> None:
    """Between the unplugging and Missing stop_streaming() raises VmbCError, then all ends well."""
    answer = run(simulated_cameras, "removal_stopped_before_missing")
    assert answer["stop"].startswith("VmbCError")
    assert answer["streaming"] is False


def test_a_short_removal_goes_unnoticed_by_vmbc(simulated_cameras: SimulatedCameras) -> None:
    """Shorter than the polling: no event, is_streaming() stays true, only reads tell.

    Closed and opened again, the same Camera object streams.
    """
    answer = run(simulated_cameras, "replugged_unnoticed")
    assert answer["events"] == []
    assert answer["streaming"] is True
    assert answer["read"].startswith("VmbFeatureError")
    assert answer["stop"].startswith("VmbCError")
    assert answer["new_ids"] == [0, 1, 2]


def test_busy_camera_refuses_and_is_reachable_again(simulated_cameras: SimulatedCameras) -> None:
    """Opening fails with VmbCameraError; VmbC says Unreachable, later Reachable."""
    answer = run(simulated_cameras, "busy")
    assert answer["refused"].startswith("VmbCameraError")
    assert answer["events"] == ["Unreachable", "Reachable"]
    assert answer["width"] == 1456


def test_hanging_registers_hold_up_the_stop(simulated_cameras: SimulatedCameras) -> None:
    """stop_streaming() does not return while the camera's registers hang; then it does."""
    answer = run(simulated_cameras, "hung")
    assert answer["hung"]
    delivered = simulated_cameras.frame_ids()
    assert [frame["id"] for frame in answer["frames"]] == delivered[: len(answer["frames"])]


# --- several processes ---


def test_camera_in_use_by_another_process_is_free_once_that_is_killed(
    simulated_cameras: SimulatedCameras,
) -> None:
    """SIGKILL: the ledger has every row, the camera is free, and its clock went on."""
    process = begin(simulated_cameras, "hold_camera")
    simulated_cameras.wait_for("delivered", count=20)
    second = begin(simulated_cameras, "stream_until")
    _, errors = second.communicate(timeout=90)
    assert "already in use" in errors
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = simulated_cameras.ledger("delivered", "no_buffer")
    assert [row.frame_id for row in before] == list(range(len(before)))
    run(simulated_cameras, "stream_until", count=10)
    rows = simulated_cameras.ledger("delivered", "no_buffer")
    last, first = rows[len(before) - 1], rows[len(before)]
    assert first.frame_id == 0
    # Never later than its row was written: a frame's time on the one clock both processes share.
    origin_ns = (before[0].timestamp_ns or 0) - before[0].host_ns
    assert (last.timestamp_ns or 0) < (first.timestamp_ns or 0) <= first.host_ns + origin_ns + 10**9


def test_faults_are_commanded_while_another_process_streams(
    simulated_cameras: SimulatedCameras,
) -> None:
    """A command with no moment concerns the next frame, once."""
    process = begin(simulated_cameras, "hold_camera")
    simulated_cameras.wait_for("delivered", count=10)
    simulated_cameras.skip(0, count=3)
    simulated_cameras.wait_for("skipped", count=3)
    last = simulated_cameras.ledger("skipped")[-1].frame_id or 0
    simulated_cameras.wait_for("delivered", "no_buffer", count=last + 10)
    process.kill()
    process.communicate()
    skipped = simulated_cameras.frame_ids("skipped")
    assert skipped == list(range(skipped[0], skipped[0] + 3))
    assert skipped[0] >= 10
    assert "#kip 0 count=3\n" in simulated_cameras.script_path.read_text()


def test_command_that_is_not_understood_is_reported(gentl_producer: Path, tmp_path: Path) -> None:
    """A mistyped command is a row of the ledger, not silence."""
    cameras = SimulatedCameras(tmp_path, gentl_producer)
    cameras.command("remove", 0, quickly=1)
    cameras.command("explode", 0)
    cameras.command("stall", 9, **{"for": 1})
    run(cameras, "listing")
    details = [row.detail for row in cameras.ledger("bad_command")]
    assert details == ["remove 0 quickly=1", "explode 0", "stall 9 for=1"]


# --- robustness ---


def test_twenty_openings_through_vmbc_leave_nothing_behind(
    simulated_cameras: SimulatedCameras,
) -> None:
    """Threads and descriptors are as many after the last shutdown as after the first."""
    counts = run(simulated_cameras, "cycles")
    assert len(simulated_cameras.ledger("close")) == 20
    assert counts == [counts[0]] * 4


def test_twenty_library_cycles_leave_nothing_behind(gentl_producer: Path) -> None:
    """GCCloseLib while everything streams: threads, descriptors and memory are given back."""
    counts = answer_of(start("direct", "cycles", str(gentl_producer)))
    assert len(counts) == 20
    for count in counts:
        assert count["errors"] == [0, 0, 0]
        assert count["threads"] == counts[0]["threads"]
        assert count["descriptors"] == counts[0]["descriptors"]
    # Four buffers of 64,000 bytes that stayed would be 4.8 MB by now.
    assert abs(counts[-1]["bytes"] - counts[0]["bytes"]) < 256_000


def test_closing_a_stream_revokes_its_buffers_and_ends_waits(gentl_producer: Path) -> None:
    """DSClose aborts EventGetData and makes every handle stale; a new stream has no buffers."""
    assert answer_of(start("direct", "close_revokes", str(gentl_producer))) == {
        "waiting": [ABORT],
        "stale": [INVALID_HANDLE] * 5,
        "announced": 0,
        "late": NOT_INITIALIZED,
    }


def test_any_order_of_calls_is_survived(simulated_cameras: SimulatedCameras) -> None:
    """Four threads call 48,000 times at random while faults are commanded; frames did flow."""
    producer, environment = str(simulated_cameras.producer), simulated_cameras.environment
    process = start("direct", "fuzz", producer, environment=environment)
    faults = (
        lambda: simulated_cameras.stall(0, for_s=0.02),
        lambda: simulated_cameras.hold(0, for_s=0.02),
        lambda: simulated_cameras.remove(0, for_s=0.02),
        lambda: simulated_cameras.occupy(0, for_s=0.02),
        lambda: simulated_cameras.tear(0),
        lambda: simulated_cameras.skip(0),
    )
    for command in islice(cycle(faults), 300):
        command()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.02)
            break
    succeeded = answer_of(process)
    assert succeeded["GCInitLib"] > 0
    assert succeeded["DSStartAcquisition"] > 0
    assert simulated_cameras.ledger("delivered", "incomplete", "no_buffer")
    assert simulated_cameras.ledger("unplug")
