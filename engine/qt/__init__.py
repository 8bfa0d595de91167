"""`CameraController`: the engine as a Qt object, for a treatment controller's camera widget.

    camera = CameraController(key_file="treatment.key")
    camera.pixmap_ready.connect(label.setPixmap)
    camera.connect() and camera.start_streaming()
    camera.start_recording("session.mp4")       # session.mp4.enc: never in the clear

Needs qtpy and PyQt6 or PySide6 (extra ``qt``); nothing else in the package imports them.
"""

from __future__ import annotations

from engine.qt.controller import CameraController

__all__ = ["CameraController"]
