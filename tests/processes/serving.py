"""A controller for tests: runs `sealrec serve`, speaks PROTOCOL.md to it, and waits for conditions.

Not a client library: it keeps everything it was told and asserts that what it waits for comes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from ipc.channel import Channel
from ipc.errors import PeerDied
from ipc.messages import (
    Event,
    Reply,
    Shutdown,
    StartRecording,
    Status,
    StopRecording,
    ToController,
)
from tests.processes.commands import command_line

__all__ = ["Serving", "alive", "serving", "wait_until"]

AWAIT_S = 60.0
POLL_S = 0.005


def wait_until(condition: Callable[[], bool], what: str = "it") -> None:
    """Wait for a condition; fails if it never comes."""
    deadline = time.monotonic() + AWAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """Whether a process, with all its threads, is still there; an adopted dead one is reaped.

    A process of several threads is a zombie before its last thread has let go of its files.
    """
    try:
        return os.waitpid(pid, os.WNOHANG) == (0, 0)
    except ChildProcessError:  # not ours, or reaped by its parent
        return psutil.pid_exists(pid)


class Serving:
    """One `sealrec serve` and all it said."""

    def __init__(self, folder: Path, key_file: Path) -> None:
        self.folder, self._key_file = folder, key_file
        self.log = folder / "serve.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command_line("serve"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._channel = Channel[Any](
            os.dup(self.process.stdout.fileno()), os.dup(self.process.stdin.fileno()), ToController
        )
        self.process.stdin.close()
        self.process.stdout.close()
        self.heard: list[Any] = []
        self.statuses: list[tuple[float, dict[str, Any]]] = []
        self._calls = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._channel.greet("controller", "tests")

    def _read(self) -> None:
        try:
            while True:
                message = self._channel.receive()
                if isinstance(message, Status):
                    self.statuses.append((time.monotonic(), message.status))
                else:
                    self.heard.append(message)
        except PeerDied:
            self._channel.close_read()

    def begin(self, folder: Path, key_file: Path) -> None:
        """Begin anew in another folder: what was heard before is forgotten."""
        self.folder, self._key_file = folder, key_file
        self.heard.clear()
        self.statuses.clear()

    def rest(self) -> None:
        """End a recording that a test has left, and wait until nothing is recorded."""
        if self._reader.is_alive():
            self.call(StopRecording)
            self.wait_status(lambda status: status["state"] == "idle")

    # --- asking -------------------------------------------------------------------------------

    def call(self, message: type[Any], **fields: Any) -> int:
        """Send a request; returns its call number."""
        self._calls += 1
        self._channel.send(message(call=self._calls, **fields))
        return self._calls

    def answer(self, call: int) -> Reply:
        """Wait for the reply to a call."""
        replies = self.wait_heard(Reply, lambda reply: reply.call == call)
        return replies[0]

    def config(self, name: str = "x.mp4.enc", **changes: Any) -> dict[str, Any]:
        """A small, fast recording."""
        return {
            "output": str(self.folder / name),
            "source": "synthetic",
            "keys": [{"kind": "key_file", "value": str(self._key_file)}],
            "width": 320,
            "height": 240,
            "fps": 30.0,
            "codec": "libx264",
            "ring_seconds": 30.0,
            **changes,
        }

    def start(self, name: str = "x.mp4.enc", **changes: Any) -> Path:
        """Start a recording; returns its path."""
        call = self.call(StartRecording, config=self.config(name, **changes))
        reply = self.answer(call)
        assert reply.ok, reply.error
        assert reply.result is not None
        return Path(reply.result["path"])

    def stop(self) -> dict[str, Any]:
        """Stop; returns the balance sheet."""
        reply = self.answer(self.call(StopRecording))
        assert reply.ok, reply.error
        assert reply.result is not None
        return reply.result

    # --- waiting ------------------------------------------------------------------------------

    def wait_heard(self, kind: type[Any], condition: Callable[[Any], bool]) -> list[Any]:
        """Wait until such a message was heard; returns all of them."""

        def found() -> list[Any]:
            return [m for m in list(self.heard) if isinstance(m, kind) and condition(m)]

        self._wait(lambda: bool(found()), f"{kind.__name__} in {self.heard}")
        return found()

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        def over() -> bool:
            return condition() or not self._reader.is_alive()

        wait_until(over, what)
        assert condition(), f"the engine left before {what}: {self.log.read_text()[-4000:]}"

    def wait_event(self, kind: str, count: int = 1) -> Event:
        """Wait for the count-th event of a kind."""
        self._wait(lambda: len(self.events(kind)) >= count, f"event {kind} in {self.heard}")
        return self.events(kind)[count - 1]

    def events(self, kind: str) -> list[Event]:
        """All events of a kind so far."""
        return [m for m in list(self.heard) if isinstance(m, Event) and m.kind == kind]

    @property
    def status(self) -> dict[str, Any]:
        """The newest status."""
        return self.statuses[-1][1] if self.statuses else {}

    def wait_status(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a status from now on fulfils a condition; returns that one."""
        seen = len(self.statuses)
        found: list[dict[str, Any]] = []

        def look() -> bool:
            nonlocal seen
            new, seen = self.statuses[seen:], len(self.statuses)
            found.extend(status for _, status in new if condition(status))
            return bool(found)

        self._wait(look, f"that status (last: {self.status})")
        return found[0]

    def wait_written(self, frames: int) -> dict[str, Any]:
        """Wait until so many frames are durable."""
        return self.wait_status(
            lambda s: bool(s.get("frames")) and s["frames"]["written"] >= frames
        )

    def pid(self, role: str) -> int:
        """Process id of a running worker."""

        def known(status: dict[str, Any]) -> bool:
            return status.get("workers", {}).get(role, {}).get("pid") is not None

        return int(self.wait_status(known)["workers"][role]["pid"])

    def signal(self, role: str, number: signal.Signals) -> int:
        """Send a signal to a worker; returns its pid."""
        pid = self.pid(role)
        os.kill(pid, number)
        return pid

    # --- the end ------------------------------------------------------------------------------

    def leave(self) -> int:
        """Ask the engine to leave; returns its exit code."""
        self._channel.send_quietly(Shutdown())
        code = self.process.wait(AWAIT_S)
        self._reader.join(AWAIT_S)
        self._channel.close()
        return code

    def hang_up(self) -> int:
        """Close the pipe without a word, as a dying controller does; returns the exit code."""
        self._channel.close()
        code = self.process.wait(AWAIT_S)
        self._reader.join(AWAIT_S)
        return code


@contextmanager
def serving(folder: Path, key_file: Path) -> Iterator[Serving]:
    """A running engine, asked to leave at the end."""
    engine = Serving(folder, key_file)
    try:
        yield engine
    finally:
        engine.leave()
