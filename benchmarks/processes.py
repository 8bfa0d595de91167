"""Processes of a fault round: found by whose children they are, hit by descriptor, awaited. Linux.

This process adopts what its descendants leave behind, so an orphan is one of its own children and
cannot be overlooked. A signal goes through a pidfd: a number that was reused is never hit.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = [
    "Victim",
    "adopt_orphans",
    "command_of",
    "descendants",
    "end_all",
    "family",
    "wait_gone",
]

PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
POLL_S = 0.01
PROC = Path("/proc")
WORKERS = {"workers.capture": "capture", "workers.encoder": "encoder"}


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "orphans cannot be adopted")


class Victim:
    """One process, held by a descriptor.

    Args:
        role: What it is.
        pid: Must be a live child, or a child's child, at this moment.

    Raises:
        ProcessLookupError: it is gone.
    """

    def __init__(self, role: str, pid: int) -> None:
        self.role, self.pid = role, pid
        self._fd = os.pidfd_open(pid)

    def hit(self, number: signal.Signals) -> bool:
        """Send a signal; False if it had ended before."""
        if _state(self.pid) in ("", "Z", "X"):
            return False
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def family(controller: int, at_work: Mapping[str, int] | None = None) -> dict[str, int]:
    """Process ids by role: the controller, its engine, and the engine's workers.

    Args:
        controller: Its process id.
        at_work: Workers that the engine said are at work; where they live they are meant, however
            many others wait beside them. Else the newest is.
    """
    meant = at_work or {}
    found = {"controller": controller}
    for engine in _children(controller):
        if b"engine\0serve" not in command_of(engine):
            continue
        found["supervisor"] = engine
        for worker in sorted(_children(engine)):
            command = command_of(worker)
            for module, role in WORKERS.items():
                if module.encode() not in command or _state(worker) in ("Z", "X"):
                    continue
                if found.get(role) is None or found[role] != meant.get(role):
                    found[role] = worker
    return found


def wait_gone(controller: subprocess.Popen[bytes], timeout_s: float) -> list[str]:
    """Wait until no descendant is left; returns what is still there, one description each."""
    deadline = time.monotonic() + timeout_s
    while left := _living(controller):
        if time.monotonic() > deadline:
            return [_describe(pid) for pid in left]
        time.sleep(POLL_S)
    return []


def end_all(controller: subprocess.Popen[bytes]) -> None:
    """Kill what is left of a round; everything below this process was started by it."""
    for _ in range(100):
        left = _living(controller)
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(POLL_S)


def _living(controller: subprocess.Popen[bytes]) -> list[int]:
    """All descendants that are not reaped yet; what can be reaped here is.

    A dead process whose other threads are still on their way out is a zombie too, and still holds
    its files and locks: only one that is reaped is gone.
    """
    controller.poll()
    for pid in _children(os.getpid()):
        if pid != controller.pid and _state(pid) == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
    return list(descendants(os.getpid()))


def descendants(pid: int) -> Iterator[int]:
    """Its children, theirs, and so on."""
    for child in _children(pid):
        yield child
        yield from descendants(child)


def _children(pid: int) -> list[int]:
    """Children of any of its threads."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in (PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def command_of(pid: int) -> bytes:
    """Its command line, zero bytes between the words; empty if it is gone."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "cmdline").read_bytes()
    return b""


def _state(pid: int) -> str:
    """R, S, T, Z, ...; empty if there is no such process."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    return ""


def _describe(pid: int) -> str:
    command = command_of(pid).replace(b"\0", b" ").decode(errors="replace").strip()
    return f"{pid} {_state(pid)} {command}"
