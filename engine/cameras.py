"""Which cameras there are: asked of a process of its own, which loads the camera SDK.

Nothing is opened for longer than a question, and nothing is streamed (that is `doctor`'s).
"""

from __future__ import annotations

import queue
import time

from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from ipc.errors import CameraError, from_code
from ipc.messages import CameraRow, CamerasListed, Failure, ListCameras

__all__ = ["list_cameras"]

ANSWER_S = 30.0
LEAVE_S = 5.0


def list_cameras(sdk_settings: str = "", *, timeout_s: float = ANSWER_S) -> list[CameraRow]:
    """All cameras that the SDK finds.

    Args:
        sdk_settings: File with which the SDK starts; empty: its own.
        timeout_s: How long it may take.

    Raises:
        CameraError: vmbpy or a transport layer is missing, or the SDK does not answer.
        ConfigError: There is no such file.
    """
    inbox: queue.SimpleQueue[WorkerMessage | WorkerExit] = queue.SimpleQueue()
    worker = WorkerProcess("cameras", None, inbox.put)
    try:
        worker.send(ListCameras(sdk_settings=sdk_settings))
        return _answer(inbox, timeout_s)
    finally:
        if not worker.wait(LEAVE_S):
            worker.kill()
            worker.wait(LEAVE_S)


def _answer(
    inbox: queue.SimpleQueue[WorkerMessage | WorkerExit], timeout_s: float
) -> list[CameraRow]:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            item = inbox.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            raise CameraError(
                f"The camera SDK did not answer within {timeout_s:g} s.",
                hint="Unplug the cameras and plug them in again.",
            ) from None
        if isinstance(item, WorkerExit):
            raise CameraError(
                f"Looking for cameras failed (exit code {item.exit_code}); the log says why."
            )
        if isinstance(item.message, CamerasListed):
            return item.message.cameras
        if isinstance(item.message, Failure):
            raise from_code(item.message.code, item.message.message, item.message.hint)
