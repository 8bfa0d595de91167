"""Between the engine and the capture process (workers/capture.py)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from ipc.camera_control import CameraChanges, CameraState
from ipc.messages.common import Count, Event, Failure, Hello, Message, Shutdown, Text, WorkerStatus

__all__ = [
    "AskCamera",
    "BeginStream",
    "CameraRefused",
    "CameraTold",
    "EndStream",
    "FireTrigger",
    "FromCapture",
    "OpenSource",
    "SourceHeard",
    "SourceOpened",
    "SourceSilent",
    "StreamEnded",
    "ToCapture",
]


class OpenSource(Message, frozen=True, tag="open_source"):
    """Open the source named in ``spec`` (workers/sources/source.py)."""

    spec: dict[str, Any]
    policy: Literal["drop", "block"]


class BeginStream(Message, frozen=True, tag="begin_stream"):
    """The ring is allocated and the file is open: deliver frames from now on."""

    max_frames: Count | None = None


class EndStream(Message, frozen=True, tag="end_stream"):
    """Stop the source; everything published stays in the ring."""


class FireTrigger(Message, frozen=True, tag="fire_trigger"):
    """Give the source one software trigger; nothing happens if it takes none."""


class AskCamera(Message, frozen=True, tag="ask_camera"):
    """Change the camera's settings, if any are given, and tell what they are."""

    call: Count
    changes: CameraChanges | None = None


class SourceOpened(Message, frozen=True, tag="source_opened"):
    """The source is open and says what it will deliver.

    Attributes:
        width_px: Frame width.
        height_px: Frame height.
        pixel_format: `ipc.frame.PixelFormat`.
        rate_hz: Nominal frame rate.
        camera: Model, serial number and settings as read back.
        triggered: Frames come when something outside says so: their absence is no fault.
        settings: All of the camera's settings as text, to be given back when it is opened again.
    """

    width_px: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    height_px: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    pixel_format: Text
    rate_hz: Annotated[float, msgspec.Meta(gt=0, le=100_000)]
    camera: dict[str, str] = {}
    triggered: bool = False
    settings: str = ""


class SourceSilent(Message, frozen=True, tag="source_silent"):
    """The source should deliver frames and does not; ``SourceHeard`` or ``StreamEnded`` follows."""

    reason: Text


class SourceHeard(Message, frozen=True, tag="source_heard"):
    """Frames come: the first of a stream, or the first after a silence."""


class CameraTold(Message, frozen=True, tag="camera_told"):
    """What is set now; ``rate_hz`` is the rate at which frames are to be expected."""

    call: Count
    state: CameraState
    rate_hz: Annotated[float, msgspec.Meta(gt=0, le=100_000)]


class CameraRefused(Message, frozen=True, tag="camera_refused"):
    """The camera cannot do what was asked."""

    call: Count
    code: Text
    message: Text
    hint: Text = ""


class StreamEnded(Message, frozen=True, tag="stream_ended"):
    """No more frames from this source; the ring's cursors say how many there were."""

    reason: Text


ToCapture = Hello | OpenSource | BeginStream | FireTrigger | AskCamera | EndStream | Shutdown
FromCapture = (
    Hello
    | Failure
    | SourceOpened
    | SourceSilent
    | SourceHeard
    | CameraTold
    | CameraRefused
    | StreamEnded
    | WorkerStatus
    | Event
)
