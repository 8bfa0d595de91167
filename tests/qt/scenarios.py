"""What a person does with the camera widget, each in a process of its own, under one Qt binding.

Run as ``python -m tests.qt.scenarios NAME FOLDER KEY_FILE``; the answer is JSON on stdout. It waits
for conditions while Qt's event loop runs, and judges nothing: the test that starts it does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy import API_NAME
from qtpy.QtCore import QEventLoop, Qt, QTimer
from qtpy.QtWidgets import QApplication, QDialog

from engine.qt import CameraController
from tests.gentl.simulator import SimulatedCameras
from tests.qt.widget import SIGNALS, CameraWidget

AWAIT_S = 60.0
SYNTHETIC = {"width": 640, "height": 400, "fps": 30.0, "ring_seconds": 10.0}


class Stage:
    """A widget on a camera, and a person who waits."""

    def __init__(self, folder: Path, **arguments: Any) -> None:
        self.folder = folder
        self.application = QApplication.instance() or QApplication([])
        self.camera = CameraController(
            **{
                "source": "synthetic",
                "folder": folder,
                "camera_options": SYNTHETIC,
                **arguments,
            }
        )
        self.widget = CameraWidget(self.camera)
        for name in (*SIGNALS, "frame_ready", "pixmap_ready"):
            # A direct connection runs where the signal was emitted, not where its receiver lives.
            getattr(self.camera, name).connect(
                lambda *_, name=name: self.widget.note_thread(name),
                type=Qt.ConnectionType.DirectConnection,
            )

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Let Qt work until a condition holds."""
        deadline = time.monotonic() + AWAIT_S
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited for {what}; heard {self.widget.heard}")
            self.application.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
            time.sleep(0.002)

    def wait_heard(self, name: str, value: Any = ...) -> None:
        """Wait for a signal."""

        def found() -> bool:
            return any(
                heard == name and (value is ... or given == value)
                for heard, given in self.widget.heard
            )

        self.wait(found, f"{name} {value}")

    def frames(self, count: int) -> None:
        """Wait for so many more pictures."""
        wanted = len(self.widget.pixmaps) + count
        self.wait(lambda: len(self.widget.pixmaps) >= wanted, "pictures")

    def told(self, **more: Any) -> dict[str, Any]:
        """What the widget was told, in plain values."""
        widget, result = self.widget, self.camera.last_result
        return {
            "api": API_NAME,
            "heard": [[name, value] for name, value in widget.heard if name != "fps_update"],
            "fps": [value for name, value in widget.heard if name == "fps_update"],
            "frames": sorted(set(widget.frames)),
            "pixmaps": sorted(set(widget.pixmaps)),
            "astray": widget.astray,
            "result": None
            if result is None
            else [result.frames_written, result.frames_offered, dict(result.lost), result.balanced],
            **more,
        }


def day(folder: Path, key_file: Path) -> dict[str, Any]:
    """Connect, look, record, a still, stop, leave: by the widget's buttons."""
    return _day(Stage(folder, key_file=key_file))


def camera_day(folder: Path, key_file: Path) -> dict[str, Any]:
    """The same with a simulated camera behind the real SDK, with its settings."""
    options = {"camera_sdk_settings": os.environ["SEALREC_TEST_SDK_SETTINGS"], "fps": 30.0}
    stage = Stage(folder, key_file=key_file, source="vimba:DEV_SIM000", camera_options=options)
    return _day(stage, settings=_settings)


def _day(stage: Stage, settings: Callable[[Stage], Any] | None = None) -> dict[str, Any]:
    widget, camera = stage.widget, stage.camera
    widget.connect_button.click()
    stage.frames(40)
    stage.wait_heard("fps_update")
    found: dict[str, Any] = {"connected": [camera.is_connected, camera.is_streaming]}
    if settings is not None:
        found["settings"] = settings(stage)
    widget.exposure.setValue(4000)
    widget.exposure.sliderReleased.emit()
    widget.record_button.click()
    found["just_started"] = [camera.is_recording, widget.light.text()]
    stage.wait_heard("recording_status_changed", True)
    found["light"] = widget.light.text()
    widget.still_button.click()
    found["still"] = str(widget.still)
    stage.frames(10)
    found["status"] = camera.get_status()
    widget.record_button.click()
    found["just_stopped"] = [camera.is_recording, widget.light.text()]
    stage.frames(5)
    widget.connect_button.click()
    found["left"] = [camera.is_connected, camera.is_streaming, camera.is_recording]
    return stage.told(**found)


def _settings(stage: Stage) -> dict[str, Any]:
    camera = stage.camera
    found = {
        "exposure_range": camera.get_exposure_range(),
        "gain_range": camera.get_gain_range(),
        "gain": [camera.set_gain(999.0), camera.get_gain()],
        "auto": [
            *(camera.set_auto_exposure(True), camera.set_auto_gain(True)),
            *(camera.set_auto_white_balance(True), camera.set_auto_exposure(False)),
            camera.set_auto_gain(False),
        ],
        "rate": [
            camera.set_acquisition_frame_rate(25.0),
            camera.get_acquisition_frame_rate_info(),
        ],
        "binning": [camera.set_binning(2), camera.get_binning()],
    }
    stage.frames(5)
    return found


def unplugged(folder: Path, key_file: Path) -> dict[str, Any]:
    """The camera goes away in the middle of a recording, and comes back."""
    options = {"camera_sdk_settings": os.environ["SEALREC_TEST_SDK_SETTINGS"], "fps": 30.0}
    stage = Stage(folder, key_file=key_file, source="vimba:DEV_SIM000", camera_options=options)
    cameras = SimulatedCameras(folder / "cameras", Path(os.environ["SEALREC_TEST_PRODUCER"]))
    stage.widget.connect_button.click()
    stage.widget.record_button.click()
    stage.wait_heard("recording_status_changed", True)
    cameras.remove(0, for_s=0.5)
    stage.wait_heard("connection_changed", False)
    away = [stage.camera.connect(), stage.camera.is_recording, stage.widget.light.text()]
    heard = len(stage.widget.heard)
    stage.wait(lambda: stage.camera.is_connected, "the camera")
    stage.wait(
        lambda: ("recording_status_changed", True) in stage.widget.heard[heard:], "the light"
    )
    stage.frames(5)
    stage.widget.record_button.click()
    stage.widget.connect_button.click()
    return stage.told(away=away)


def no_key(folder: Path, _: Path) -> dict[str, Any]:
    """A controller that was given no key records nothing, and says so."""
    stage = Stage(folder)
    stage.camera.connect()
    stage.camera.start_streaming()
    stage.frames(2)
    asked = [stage.camera.start_recording("session.mp4"), stage.camera.capture_image("still")]
    stage.camera.disconnect()
    return stage.told(asked=asked)


def no_camera(folder: Path, key_file: Path) -> dict[str, Any]:
    """Nothing to connect to, and every call before that."""
    stage = Stage(folder, key_file=key_file, source="file:/nowhere/x.mp4")
    camera = stage.camera
    asked = [
        camera.connect(),
        camera.start_streaming(),
        camera.start_recording("x"),
        camera.capture_image("x"),
        camera.set_exposure(1.0),
        camera.get_exposure(),
        camera.get_exposure_range(),
        camera.get_binning(),
        camera.get_acquisition_frame_rate_info(),
        camera.is_connected,
        camera.is_streaming,
        camera.is_recording,
    ]
    camera.stop_recording()
    camera.stop_streaming()
    camera.disconnect()
    camera.set_display_scale(0.0)
    return stage.told(asked=asked, status=camera.get_status())


def engine_killed(folder: Path, key_file: Path) -> dict[str, Any]:
    """In the middle of a recording; and then a person connects again."""
    stage = Stage(folder, key_file=key_file)
    camera = stage.camera
    stage.widget.connect_button.click()
    stage.widget.record_button.click()
    stage.wait_heard("recording_status_changed", True)
    stage.frames(5)
    os.kill(camera._recorder.pid, signal.SIGKILL)
    stage.wait_heard("connection_changed", False)
    stage.wait_heard("recording_stopped")
    found: dict[str, Any] = {
        "left": [camera.is_connected, camera.is_streaming, camera.is_recording]
    }
    found["light"] = stage.widget.light.text()
    found["refused"] = camera.start_recording("y.mp4")
    heard = len(stage.widget.heard)
    stage.widget.connect_button.click()
    stage.frames(5)
    found["again"] = [camera.is_connected, stage.widget.heard[heard:][0]]
    camera.disconnect()
    return stage.told(**found)


def frozen(folder: Path, key_file: Path) -> dict[str, Any]:
    """The widget's thread stands still for seconds, then a modal dialog is open."""
    stage = Stage(folder, key_file=key_file)
    stage.widget.connect_button.click()
    stage.widget.record_button.click()
    stage.wait_heard("recording_status_changed", True)
    before = stage.camera._recorder.status.frames.written
    time.sleep(4.0)
    dialog = QDialog(stage.widget)
    QTimer.singleShot(1000, dialog.accept)
    dialog.exec()
    after = stage.camera._recorder.get_status(AWAIT_S).frames.written
    stage.frames(5)
    stage.widget.record_button.click()
    stage.widget.connect_button.click()
    return stage.told(gained=after - before)


def png(folder: Path, key_file: Path) -> dict[str, Any]:
    """Plain stills, asked for on purpose; and a name that is there already."""
    stage = Stage(folder, key_file=key_file, still_format="png")
    stage.camera.connect()
    path = stage.camera.capture_image("a.png", folder / "pictures")
    stage.camera.disconnect()
    return stage.told(path=str(path))


def renamed(folder: Path, key_file: Path) -> dict[str, Any]:
    """Two recordings under one name, started and stopped before Qt has a turn."""
    stage = Stage(folder, key_file=key_file, password=lambda: "secret")
    camera = stage.camera
    camera.connect()
    asked = []
    for _ in range(2):
        asked.append(camera.start_recording(base_filename="session.avi"))
        deadline = time.monotonic() + AWAIT_S
        while not camera._recorder.status.frames.written and time.monotonic() < deadline:
            time.sleep(0.01)
        camera.stop_recording()
    stage.wait(lambda: len(stage.widget.heard) >= 5, "signals")
    for _ in range(20):
        stage.application.processEvents()
        time.sleep(0.02)
    asked.append(camera.is_recording)
    camera.disconnect()
    return stage.told(asked=asked)


def destroyed(folder: Path, key_file: Path) -> dict[str, Any]:
    """The program ends without a word: no crash, no hang, and the recording is sealed."""
    stage = Stage(folder, key_file=key_file)
    stage.widget.connect_button.click()
    stage.widget.record_button.click()
    stage.wait_heard("recording_status_changed", True)
    QTimer.singleShot(200, stage.application.quit)
    stage.application.exec()
    return stage.told()


def main() -> None:
    """Run one scenario."""
    scenarios = (
        *(day, camera_day, unplugged, no_key, no_camera, engine_killed, frozen),
        *(png, renamed, destroyed),
    )
    names = {scenario.__name__: scenario for scenario in scenarios}
    found = names[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(json.dumps(found) + "\n")
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()


if __name__ == "__main__":
    main()
