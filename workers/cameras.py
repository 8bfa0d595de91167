"""The process that looks for cameras: asked once, answers, leaves.

A camera SDK is loaded in no process that does anything else: it may hang or crash. It streams
nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from ipc import logs, osdep
from ipc.errors import SealrecError
from ipc.lifeline import Lifeline, WorkerArguments
from ipc.messages import CamerasListed, Failure, ListCameras, ToCameras
from workers.sources.vimba_sdk import list_cameras

__all__ = ["main"]

CRASHED = 70


def main(argv: Sequence[str] | None = None) -> int:
    """Answer one question; returns the exit code."""
    arguments = WorkerArguments.parse(sys.argv[1:] if argv is None else argv)
    logs.secure_standard_streams()
    logs.configure("cameras")
    osdep.forbid_core_dumps()
    lifeline = Lifeline(arguments, role="cameras", accepts=ToCameras)
    try:
        order = lifeline.next(None)
        if isinstance(order, ListCameras):
            found = list_cameras(order.sdk_settings or None)
            lifeline.channel.send_quietly(CamerasListed(cameras=found))
    except SealrecError as error:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        lifeline.channel.send_quietly(failure)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the one place that catches all
        logs.logger.exception("looking for cameras crashed")
        return CRASHED
    finally:
        lifeline.channel.flush(1.0)
    return 0


if __name__ == "__main__":
    # Threads of a camera SDK may outlive it; the exit code must not wait for them.
    code = main()
    logs.flush(0.5)
    os._exit(code)
