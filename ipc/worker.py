"""How every worker process begins and ends, whatever it does in between."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ipc import logs, osdep
from ipc.errors import SealrecError
from ipc.lifeline import Lifeline, WorkerArguments
from ipc.messages import Failure

__all__ = ["CRASHED", "leave", "run"]

CRASHED = 70
TELL_S = 1.0
LOG_S = 0.5


def run(
    role: str,
    accepts: Any,
    work: Callable[[Lifeline, WorkerArguments], int],
    argv: Sequence[str] | None = None,
) -> int:
    """Secure this process, tie it to its supervisor, and work.

    Args:
        role: What it is called in the log and in its Hello.
        accepts: Union of the messages that may arrive.
        work: Returns the exit code.
        argv: What `ipc.lifeline.worker_command` wrote; None: this process's own.

    Returns:
        The exit code: that of the work, or of the error that ended it, which the supervisor is
        told first; 70 after a crash, which is in the log.
    """
    arguments = WorkerArguments.parse(sys.argv[1:] if argv is None else argv)
    logs.secure_standard_streams()
    logs.configure(role)
    osdep.forbid_core_dumps()
    lifeline = Lifeline(arguments, role=role, accepts=accepts)
    try:
        return work(lifeline, arguments)
    except SealrecError as error:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        lifeline.channel.send_quietly(failure)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the one place that catches all
        logs.logger.exception(f"{role} crashed")
        return CRASHED
    finally:
        lifeline.channel.flush(TELL_S)


def leave(code: int) -> NoReturn:
    """End the process, and do not wait for threads: those of a camera's SDK may never end."""
    logs.flush(LOG_S)
    os._exit(code)
