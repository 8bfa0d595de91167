"""The engine as a process: started without a fork of this one, its stderr drained, its exit known.

It gets three pipes and nothing else: no secret is in its command line or its environment. A session
(Windows: a process group) of its own keeps a terminal's Ctrl-C from it, since the controller is to
stop in order.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import IO

from ipc.errors import EngineDied
from ipc.handover import OfferedRings

__all__ = ["EngineProcess", "ending"]

KEPT_LINES = 50
LINE_BYTES = 4096


class EngineProcess:
    """One running engine.

    Args:
        command: Its command line.

    Attributes:
        pid: Its process id.
        rings: What it hands out on request.

    Raises:
        EngineDied: it cannot be started.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.rings = OfferedRings()
        try:
            self._process = _spawn(command, self.rings.engines_end)
        except OSError as error:
            self.rings.close()
            raise EngineDied(
                f"The engine cannot be started: {error.strerror or error}.",
                hint=f"The command was {command[0]!r}.",
            ) from error
        self.rings.engine_started()
        self.pid = self._process.pid
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        assert self._process.stderr is not None
        self._drain = threading.Thread(
            target=self._read_lines, args=(self._process.stderr,), name="engine-log", daemon=True
        )
        self._drain.start()

    def take_pipes(self) -> tuple[int, int]:
        """Descriptors to read from and to write to; the caller's from now on. Once only."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        read, write = os.dup(stdout.fileno()), os.dup(stdin.fileno())
        stdout.close()
        stdin.close()
        return read, write

    def wait(self, timeout_s: float | None) -> int | None:
        """Wait for its exit; returns the exit code, or None if it is still there."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End it at once; for one that records nothing."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def last_lines(self, settle_s: float = 0.0) -> tuple[str, ...]:
        """What it wrote to stderr last, at most 50 lines.

        Args:
            settle_s: Wait so long for the end of its stderr, which workers may keep open.
        """
        self._drain.join(settle_s)
        return tuple(self._lines)

    def _read_lines(self, stream: IO[bytes]) -> None:
        with stream:
            while line := stream.readline(LINE_BYTES):
                self._lines.append(line.decode(errors="replace").rstrip())


def _spawn(command: Sequence[str], observer_fd: int | None) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        # No console window for a controller without one; its workers inherit that.
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            creationflags=flags,
        )
    handed = [] if observer_fd is None or "serve" not in command else [observer_fd]
    return subprocess.Popen(
        [*command, *(f"--observer-fd={number}" for number in handed)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=handed,
        start_new_session=True,
    )


def ending(code: int | None) -> str:
    """What an exit code says, behind "the engine"; negative codes are signals."""
    if code is None:
        return "does not answer any more"
    if code < 0:
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"
    return f"ended with exit code {code}"
