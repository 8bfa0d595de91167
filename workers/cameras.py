"""The process that looks for cameras: asked once, answers, leaves.

A camera SDK is loaded in no process that does anything else: it may hang or crash. It streams
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipc.lifeline import Lifeline, WorkerArguments
from ipc.messages import CamerasListed, ListCameras, ToCameras
from ipc.worker import leave, run
from workers.sources.vimba_sdk import list_cameras

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Answer one question; returns the exit code."""
    return run("cameras", ToCameras, _answer, argv)


def _answer(lifeline: Lifeline, _: WorkerArguments) -> int:
    order = lifeline.next(None)
    if isinstance(order, ListCameras):
        found = list_cameras(order.sdk_settings or None)
        lifeline.channel.send_quietly(CamerasListed(cameras=found))
    return 0


if __name__ == "__main__":
    leave(main())
