"""The Qt adapter: a camera widget works on it unchanged, under PyQt6 and under PySide6.

Each scenario is a process of its own (scenarios.py), since a process can load one binding only.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest

from engine import barcode
from engine.keys import new_key_file, secret_from
from engine.reading.verify import VerifyReport, verify
from tests.gentl.fixture import gentl_producer, simulated_cameras
from tests.gentl.simulator import SimulatedCameras
from tests.processes.serving import wait_until

__all__ = ["gentl_producer", "simulated_cameras"]

BINDINGS = {"pyqt6": "PyQt6", "pyside6": "PySide6"}
LIBRARIES = "libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0"
AWAIT_S = 180
pytestmark = pytest.mark.slow


@functools.cache
def what_is_missing(api: str) -> str:
    """Why this binding cannot be used here; empty if it can."""
    if importlib.util.find_spec("qtpy") is None or importlib.util.find_spec(BINDINGS[api]) is None:
        return f"{BINDINGS[api]} is not installed: pip install qtpy {BINDINGS[api]}"
    program = "from qtpy.QtWidgets import QApplication; QApplication([])"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(api),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip().splitlines() or ["no word"])[-1]
    return f"Qt does not start ({said}): on Debian, apt-get install {LIBRARIES}"


def environment(api: str, **more: str) -> dict[str, str]:
    """For a process that draws nowhere."""
    return {**os.environ, "QT_API": api, "QT_QPA_PLATFORM": "offscreen", **more}


@pytest.fixture(params=list(BINDINGS))
def api(request: pytest.FixtureRequest) -> str:
    """Each binding; one that cannot be used skips, but not in CI."""
    name: str = request.param
    missing = what_is_missing(name)
    if missing and os.environ.get("CI"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    return name


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key."""
    path = tmp_path / "treatment.key"
    new_key_file(path)
    return path


def play(name: str, api: str, folder: Path, key_file: Path, **more: str) -> dict[str, Any]:
    """Run a scenario; what it told."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.qt.scenarios", name, str(folder), str(key_file)],
        env=environment(api, **more),
        capture_output=True,
        text=True,
        timeout=AWAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["api"] == BINDINGS[api]
    assert found["astray"] == [], "signals came in another thread than Qt's"
    return found


def verified(path: Path, key_file: Path) -> VerifyReport:
    """The report of a file that has to be good."""
    report = verify(path, secret_from(key_file=key_file), decode=True)
    assert (report.exit_code, report.state) == (0, "sealed"), report
    return report


def named(found: dict[str, Any], *names: str) -> list[Any]:
    """The signals of these names, in order."""
    return [one for one in found["heard"] if one[0] in names]


def check_day(found: dict[str, Any], folder: Path, key_file: Path) -> VerifyReport:
    """What every day is like, whatever the camera."""
    path = folder / "session.mp4.enc"
    recording = ("recording_started", "recording_status_changed", "recording_stopped")
    assert named(found, "connection_changed", *recording) == [
        ["connection_changed", True],
        ["recording_started", str(path)],
        ["recording_status_changed", True],
        ["recording_status_changed", False],
        ["recording_stopped", None],
        ["connection_changed", False],
    ]
    assert not named(found, "error_occurred")
    assert found["connected"] == [True, True]
    assert found["just_started"] == [True, "off"], "no green light before frames are durable"
    assert found["light"] == "REC"
    assert found["just_stopped"] == [False, "off"]
    assert found["left"] == [False, False, False]
    assert found["status"]["green_light"] is True
    assert found["status"]["state"] == "recording"
    assert ["exposure_changed", 4000] in found["heard"]
    written, offered, lost, balanced = found["result"]
    assert balanced
    assert offered == written + sum(lost.values())
    assert "ring_full" not in lost
    report = verified(path, key_file)
    assert report.frames == written
    assert verified(Path(found["still"]), key_file).frames == 1
    assert {p.suffix for p in folder.iterdir() if p.is_file()} <= {".enc", ".key"}
    return report


def test_a_day_with_the_widget(api: str, tmp_path: Path, key_file: Path) -> None:
    """Connect, look, record, a still, stop, leave: the signals in their order, and sealed files."""
    found = play("day", api, tmp_path, key_file)
    report = check_day(found, tmp_path, key_file)
    assert report.barcodes is not None
    assert report.barcodes.right == report.frames
    assert found["frames"] == [[200, 320, 3]]
    assert found["pixmaps"] == [[320, 200]]
    assert all(10 < fps < 40 for fps in found["fps"])


def test_a_day_with_a_camera_behind_its_sdk(
    api: str,
    simulated_cameras: SimulatedCameras,
    tmp_path: Path,
    key_file: Path,
) -> None:
    """The same, and everything that the widget may set: exposure, gain, rate, binning."""
    cameras = simulated_cameras
    sdk = {"SEALREC_TEST_SDK_SETTINGS": str(cameras.settings_path), **cameras.environment}
    found = play("camera_day", api, tmp_path, key_file, **sdk)
    check_day(found, tmp_path, key_file)
    settings = found["settings"]
    assert settings["exposure_range"] == [20, 10_000_000]
    assert settings["gain_range"] == [0, 24]
    assert settings["gain"] == [True, 24]
    assert settings["auto"] == [True] * 5
    assert settings["rate"][0] is True
    assert settings["rate"][1]["current_fps"] == pytest.approx(25)
    assert settings["rate"][1]["min_fps"] < 25 < settings["rate"][1]["max_fps"]
    assert settings["binning"] == [True, 2]
    assert found["frames"] == [[272, 364, 3], [544, 728, 3]]
    assert ["gain_changed", 24] in found["heard"]


def test_an_unplugged_camera_comes_back_into_the_same_file(
    api: str,
    simulated_cameras: SimulatedCameras,
    tmp_path: Path,
    key_file: Path,
) -> None:
    """The widget is told both; a widget that connects by itself meanwhile does no harm."""
    cameras = simulated_cameras
    more = {
        "SEALREC_TEST_SDK_SETTINGS": str(cameras.settings_path),
        "SEALREC_TEST_PRODUCER": str(cameras.producer),
        **cameras.environment,
    }
    found = play("unplugged", api, tmp_path, key_file, **more)
    assert found["away"] == [False, True, "off"]
    assert named(found, "connection_changed") == [
        ["connection_changed", connected] for connected in (True, False, True, False)
    ]
    assert len(named(found, "recording_started", "recording_stopped")) == 2
    verified(tmp_path / "session.mp4.enc", key_file)


def test_nothing_is_recorded_without_a_key(api: str, tmp_path: Path, key_file: Path) -> None:
    """Refused with a sentence, and nothing is written: never in the clear."""
    before = set(tmp_path.iterdir())
    found = play("no_key", api, tmp_path, key_file)
    assert found["asked"] == [False, None]
    errors = named(found, "error_occurred")
    assert len(errors) == 2
    assert all("key" in text for _, text in errors)
    assert not named(found, "recording_started", "recording_status_changed")
    assert set(tmp_path.iterdir()) == before


def test_without_a_camera_every_call_says_so(api: str, tmp_path: Path, key_file: Path) -> None:
    """None raises, each that fails is told, and none claims anything."""
    found = play("no_camera", api, tmp_path, key_file)
    assert found["asked"] == [
        *(False, False, False, None, False),
        *(0.0, [0.0, 0.0], 1, {"min_fps": 0.0, "max_fps": 0.0, "current_fps": 0.0}),
        *(False, False, False),
    ]
    assert len(named(found, "error_occurred")) == 6
    assert not named(found, "connection_changed", "recording_stopped")
    assert found["status"]["state"] == "no_engine"


def test_a_killed_engine_is_told_at_once(api: str, tmp_path: Path, key_file: Path) -> None:
    """The light is off, the camera is gone, nothing hangs; a person connects again and goes on."""
    found = play("engine_killed", api, tmp_path, key_file)
    assert found["left"] == [False, False, False]
    assert (found["light"], found["refused"]) == ("off", False)
    assert found["again"] == [True, ["connection_changed", True]]
    assert named(found, "recording_status_changed", "recording_stopped")[-2:] == [
        ["recording_status_changed", False],
        ["recording_stopped", None],
    ]
    assert any("engine" in text for _, text in named(found, "error_occurred"))
    path = tmp_path / "session.mp4.enc"
    wait_until(path.exists, "the seal by the workers")
    verified(path, key_file)


def test_a_frozen_widget_costs_the_recording_nothing(
    api: str, tmp_path: Path, key_file: Path
) -> None:
    """Its thread stands still for four seconds and a dialog is open: frames are recorded on."""
    found = play("frozen", api, tmp_path, key_file)
    assert found["gained"] > 90
    written, offered, lost, balanced = found["result"]
    assert (written, lost, balanced) == (offered, {}, True)
    assert named(found, "recording_status_changed") == [
        ["recording_status_changed", True],
        ["recording_status_changed", False],
    ]


def test_a_plain_still_is_made_on_purpose_only(api: str, tmp_path: Path, key_file: Path) -> None:
    """``still_format="png"``: the picture, whole, in a folder that is made for it."""
    found = play("png", api, tmp_path, key_file)
    path = Path(found["path"])
    assert (path.parent, path.suffix) == (tmp_path / "pictures", ".png")
    picture = cv2.imread(str(path))
    assert picture is not None
    assert picture.shape == (400, 640, 3)
    assert barcode.read(picture[..., 1].copy()) is not None


def test_a_name_is_never_written_over(api: str, tmp_path: Path, key_file: Path) -> None:
    """Signals of recordings that are over by the time Qt hears of them start nothing anew."""
    found = play("renamed", api, tmp_path, key_file)
    assert found["asked"] == [True, True, False]
    names = [Path(path).name for _, path in named(found, "recording_started")]
    assert names == ["session.mp4.enc", "session-2.mp4.enc"]
    assert len(named(found, "recording_stopped")) == 2
    for name in names:
        verified(tmp_path / name, key_file)
        assert verify(tmp_path / name, secret_from(password_file=_file(tmp_path))).exit_code == 0


def _file(folder: Path) -> Path:
    path = folder / "password.txt"
    path.touch(mode=0o600)
    path.write_text("secret\n")
    return path


def test_a_program_that_just_ends_leaves_a_sealed_file(
    api: str, tmp_path: Path, key_file: Path
) -> None:
    """Closing the window during a recording loses nothing."""
    found = play("destroyed", api, tmp_path, key_file)
    assert named(found, "recording_stopped")
    wait_until((tmp_path / "session.mp4.enc").exists, "the seal")
    verified(tmp_path / "session.mp4.enc", key_file)
