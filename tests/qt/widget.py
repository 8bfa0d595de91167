"""A camera widget as a treatment controller has one, written from its API list alone.

It knows no engine, no key and no ring: only the signals and methods of a camera controller, and
what it was told by them. ``python -m tests.qt.widget KEY_FILE [SOURCE]`` shows it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from qtpy.QtCore import QObject, Qt, QThread
from qtpy.QtWidgets import (
    QApplication,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSlider,
    QVBoxLayout,
    QWidget,
)

SIGNALS = (
    *("connection_changed", "error_occurred", "recording_status_changed", "recording_started"),
    *("recording_stopped", "exposure_changed", "gain_changed", "fps_update"),
)


class CameraWidget(QWidget):  # type: ignore[misc]
    """Picture, light and buttons.

    Args:
        camera: The camera controller.

    Attributes:
        heard: Name and argument of each signal, in order, but those of pictures.
        frames: Shapes of the pictures that came.
        pixmaps: Sizes of the pixmaps that came.
        astray: Signals that came in another thread than Qt's.
    """

    def __init__(self, camera: QObject) -> None:
        super().__init__()
        self.camera: Any = camera
        self.heard: list[tuple[str, Any]] = []
        self.frames: list[tuple[int, ...]] = []
        self.pixmaps: list[tuple[int, int]] = []
        self.astray: list[str] = []
        self.picture, self.light, self.message = QLabel(), QLabel("off"), QLabel()
        self.connect_button, self.record_button = QPushButton("Connect"), QPushButton("Record")
        self.still_button, self.exposure = QPushButton("Still"), QSlider(Qt.Orientation.Horizontal)
        self._lay_out()
        self.connect_button.clicked.connect(self.toggle_connection)
        self.record_button.clicked.connect(self.toggle_recording)
        self.still_button.clicked.connect(self.save_still)
        self.exposure.sliderReleased.connect(self.set_exposure)
        for name in SIGNALS:
            getattr(camera, name).connect(lambda *given, name=name: self.hear(name, *given))
        self.camera.frame_ready.connect(self.count_frame)
        self.camera.pixmap_ready.connect(self.show_pixmap)
        self.camera.recording_status_changed.connect(self.show_light)
        self.camera.error_occurred.connect(self.message.setText)

    def _lay_out(self) -> None:
        buttons, whole = QHBoxLayout(), QVBoxLayout(self)
        for one in (self.connect_button, self.record_button, self.still_button, self.light):
            buttons.addWidget(one)
        whole.addWidget(self.picture)
        whole.addLayout(buttons)
        whole.addWidget(self.exposure)
        whole.addWidget(self.message)

    # --- what the camera says -----------------------------------------------------------------

    def hear(self, name: str, *given: Any) -> None:
        """Any signal."""
        self.note_thread(name)
        self.heard.append((name, given[0] if given else None))

    def count_frame(self, frame: Any) -> None:
        """A picture as an array."""
        self.note_thread("frame_ready")
        self.frames.append(frame.shape)

    def show_pixmap(self, pixmap: Any) -> None:
        """A picture to be shown."""
        self.note_thread("pixmap_ready")
        self.pixmaps.append((pixmap.width(), pixmap.height()))
        self.picture.setPixmap(pixmap)

    def show_light(self, recording: bool) -> None:
        """The green light."""
        self.light.setText("REC" if recording else "off")

    def note_thread(self, name: str) -> None:
        """Every signal has to come in the thread that draws."""
        if QThread.currentThread() != QApplication.instance().thread():
            self.astray.append(name)

    # --- what a person does -------------------------------------------------------------------

    def toggle_connection(self) -> None:
        """The connect button."""
        if self.camera.is_connected:
            self.camera.disconnect()
        elif self.camera.connect():
            low, high = self.camera.get_exposure_range()
            self.exposure.setRange(int(low), int(min(high, 100_000)))
            self.camera.set_display_scale(0.5)
            self.camera.start_streaming()

    def toggle_recording(self) -> None:
        """The record button."""
        if self.camera.is_recording:
            self.camera.stop_recording()
        else:
            self.camera.start_recording("session.mp4", fps=30.0, codec="mp4v")

    def save_still(self) -> None:
        """The still button."""
        self.still: Path | None = self.camera.capture_image("still")

    def set_exposure(self) -> None:
        """The slider."""
        self.camera.set_exposure(float(self.exposure.value()))


def main() -> int:
    """Show the widget; returns the exit code."""
    from engine.qt import CameraController

    application = QApplication(sys.argv[:1])
    source = sys.argv[2] if len(sys.argv) > 2 else "synthetic"
    widget = CameraWidget(CameraController(key_file=sys.argv[1], source=source))
    widget.show()
    return int(application.exec())


if __name__ == "__main__":
    sys.exit(main())
