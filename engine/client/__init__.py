"""The engine for a controller in Python: starts it, commands it, tells what happens in it.

    with Recorder() as recorder:
        recorder.start(output="session.mp4.enc", source="vimba", key_file="treatment.key")
        ...
        print(recorder.stop().frames_written)

`Recorder` blocks for as long as a call takes and no longer than its deadline; `AsyncRecorder` has
the same calls for asyncio. Nothing here encodes, encrypts or touches a frame, and importing it
loads none of the libraries that do (benchmarks/client_import.py): a controller pays nothing for
them. The protocol beneath is PROTOCOL.md, for controllers in any other language.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.client.camera import Camera
from engine.client.events import (
    CameraBack,
    CameraChanged,
    CameraClosed,
    CameraLost,
    CameraOpened,
    CatalogBack,
    CatalogBehind,
    DiskFailed,
    DiskLow,
    EngineGone,
    ErrorReported,
    Event,
    EventsDropped,
    FailureReported,
    FramesLost,
    Overload,
    OverloadOver,
    PartOpened,
    PartRecovered,
    PartSealed,
    RecordingPaused,
    RecordingResumed,
    RecordingStarted,
    RecordingStopped,
    RecoveryFailed,
    SpeedStep,
    StatusReceived,
    WorkerHung,
    WorkerRestarted,
)
from engine.client.mailbox import EventStream
from engine.client.options import CameraOptions, CatalogOptions, Options
from engine.client.recorder import Recorder
from engine.client.values import Result, Source, Started, Status
from ipc.errors import EngineDied, EngineTimeout, SealrecError

if TYPE_CHECKING:
    from engine.client.asynchronous import AsyncRecorder

__all__ = [
    "AsyncRecorder",
    "Camera",
    "CameraBack",
    "CameraChanged",
    "CameraClosed",
    "CameraLost",
    "CameraOpened",
    "CameraOptions",
    "CatalogBack",
    "CatalogBehind",
    "CatalogOptions",
    "DiskFailed",
    "DiskLow",
    "EngineDied",
    "EngineGone",
    "EngineTimeout",
    "ErrorReported",
    "Event",
    "EventStream",
    "EventsDropped",
    "FailureReported",
    "FramesLost",
    "Options",
    "Overload",
    "OverloadOver",
    "PartOpened",
    "PartRecovered",
    "PartSealed",
    "Recorder",
    "RecordingPaused",
    "RecordingResumed",
    "RecordingStarted",
    "RecordingStopped",
    "RecoveryFailed",
    "Result",
    "SealrecError",
    "Source",
    "SpeedStep",
    "Started",
    "Status",
    "StatusReceived",
    "WorkerHung",
    "WorkerRestarted",
]


def __getattr__(name: str) -> Any:
    # asyncio is most of what such an import costs, and few controllers use it.
    if name == "AsyncRecorder":
        from engine.client.asynchronous import AsyncRecorder

        return AsyncRecorder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
