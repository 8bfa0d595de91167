"""Between the engine and the process that lists cameras (workers/cameras.py)."""

from __future__ import annotations

import msgspec

from ipc.messages.common import Failure, Hello, Message, Shutdown, Text

__all__ = ["CameraRow", "CamerasListed", "FromCameras", "ListCameras", "ToCameras"]


class ListCameras(Message, frozen=True, tag="list_cameras"):
    """Look for cameras and answer with ``CamerasListed`` or ``Failure``.

    Attributes:
        sdk_settings: File with which the camera SDK starts; empty: its own.
    """

    sdk_settings: str = ""


class CameraRow(msgspec.Struct, frozen=True):
    """One camera that was found.

    Attributes:
        id: What ``vimba:ID`` takes.
        model: Model name.
        serial: Serial number.
        access: Permitted ways to open it; empty while another program has it.
        formats: Pixel formats it offers, in its own spelling; empty if it cannot be opened.
        rate_range_hz: Slowest and fastest frame rate at its present settings, if it tells.
    """

    id: Text
    model: Text
    serial: Text
    access: list[str] = []
    formats: list[str] = []
    rate_range_hz: tuple[float, float] | None = None


class CamerasListed(Message, frozen=True, tag="cameras_listed"):
    """All cameras that the SDK finds."""

    cameras: list[CameraRow]


ToCameras = Hello | ListCameras | Shutdown
FromCameras = Hello | Failure | CamerasListed
