"""Between a controller and the engine: calls and their replies, status and events."""

from __future__ import annotations

from typing import Any, ClassVar

from ipc.messages.common import Count, Delivery, Event, Failure, Hello, Message, Shutdown, Text

__all__ = [
    "CloseCamera",
    "FromController",
    "GetCamera",
    "GetStatus",
    "Mark",
    "ObserveRing",
    "OpenCamera",
    "Pause",
    "Reply",
    "Resume",
    "SaveStill",
    "SetCamera",
    "StartRecording",
    "Status",
    "StopRecording",
    "ToController",
    "Trigger",
]


class StartRecording(Message, frozen=True, tag="start"):
    """Start a recording; answered when frames can be recorded."""

    call: Count
    config: dict[str, Any]

    def __repr__(self) -> str:
        # The configuration may carry a password.
        return f"StartRecording(call={self.call})"


class StopRecording(Message, frozen=True, tag="stop"):
    """Stop and seal; answered with the balance sheet when the file is sealed."""

    call: Count


class OpenCamera(Message, frozen=True, tag="open"):
    """Open the camera and stream, without recording; answered when frames can be recorded."""

    call: Count
    config: dict[str, Any] = {}


class CloseCamera(Message, frozen=True, tag="close"):
    """Seal what is being recorded and close the camera; answered when its process has left."""

    call: Count


class Pause(Message, frozen=True, tag="pause"):
    """Write no frames until ``resume``; each is named as ``paused``."""

    call: Count


class Resume(Message, frozen=True, tag="resume"):
    """Write frames again."""

    call: Count


class Mark(Message, frozen=True, tag="mark"):
    """Write something that happened (laser on, a protocol's step) into the file, with its time."""

    call: Count
    kind: Text
    text: Text = ""


class Trigger(Message, frozen=True, tag="trigger"):
    """Let a camera that waits for software triggers take one frame; answered when it was asked."""

    call: Count


class GetCamera(Message, frozen=True, tag="get_camera"):
    """Ask for the settings of the open camera, as read back."""

    call: Count


class SetCamera(Message, frozen=True, tag="set_camera"):
    """Change settings of the open camera (camera_control.py); answered with what is set then."""

    call: Count
    changes: dict[str, Any]


class ObserveRing(Message, frozen=True, tag="observe"):
    """Ask for the frame ring's memory, to look at (handover.py)."""

    call: Count


class SaveStill(Message, frozen=True, tag="save_still"):
    """Seal the newest frame as a recording of its own; answered when it is durable."""

    call: Count
    config: dict[str, Any]

    def __repr__(self) -> str:
        # The configuration may carry a password.
        return f"SaveStill(call={self.call})"


class GetStatus(Message, frozen=True, tag="get_status"):
    """Ask for the present status."""

    call: Count


class Reply(Message, frozen=True, tag="reply"):
    """The answer to one call: a result, or an error."""

    call: Count
    ok: bool
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None


class Status(Message, frozen=True, tag="status"):
    """The engine's state, five times a second; only the newest is kept for a slow reader."""

    delivery: ClassVar[Delivery] = "newest"
    status: dict[str, Any]


FromController = (
    Hello
    | OpenCamera
    | CloseCamera
    | StartRecording
    | StopRecording
    | Pause
    | Resume
    | Mark
    | GetStatus
    | Trigger
    | GetCamera
    | SetCamera
    | ObserveRing
    | SaveStill
    | Shutdown
)
ToController = Hello | Failure | Reply | Status | Event
