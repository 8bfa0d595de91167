"""A worker's tie to its supervisor: inherited pipes that are its inbox and its lifeline.

The pipe's end of file is the only sign needed that the supervisor is gone, whether it left, was
killed or crashed; the worker then drains, seals and leaves by itself (design: Durability). Not
here: what a worker does about it.
"""

from __future__ import annotations

import argparse
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ipc import osdep
from ipc.channel import MAX_WORKER_MESSAGE_BYTES, Channel
from ipc.errors import ChannelError, FrameTooLarge, PeerDied, ProtocolError
from ipc.messages import Failure, Message, WorkerStatus
from ipc.ring import RingHandles

__all__ = ["LIFELINE_LOST", "Lifeline", "SelfMeasure", "WorkerArguments", "worker_command"]

LIFELINE_LOST = object()
MEMORY_EVERY_S = 5.0
PAGES_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class WorkerArguments:
    """What a worker inherits: two pipe ends and, if it works on frames, the ring's handles."""

    read: int
    write: int
    ring: RingHandles | None

    @classmethod
    def parse(cls, argv: Sequence[str]) -> WorkerArguments:
        """Read the numbers that `worker_command` wrote; no secret is ever among them."""
        parser = argparse.ArgumentParser(description="A sealrec worker; started by the engine.")
        parser.add_argument("--read", type=int, required=True)
        parser.add_argument("--write", type=int, required=True)
        parser.add_argument("--ring", type=int, nargs=3)
        found = parser.parse_args(argv)
        return cls(found.read, found.write, RingHandles(*found.ring) if found.ring else None)


def worker_command(module: str, arguments: WorkerArguments) -> list[str]:
    """Command line that starts a worker module in a fresh interpreter.

    ``-P`` keeps the working directory out of ``sys.path``: a controller may have packages of the
    same names beside it.
    """
    command = [sys.executable, "-P", "-m", module]
    command += ["--read", str(arguments.read), "--write", str(arguments.write)]
    if arguments.ring is not None:
        ring = arguments.ring
        command += ["--ring", str(ring.memory), str(ring.data_ready), str(ring.space_ready)]
    return command


class Lifeline:
    """The worker's side: an inbox fed by a reader thread, and an outbox that never blocks.

    Attributes:
        inbox: Messages in order; `LIFELINE_LOST` is the last item ever put in.
        arrived: Called from another thread after each item, for a main thread that does not wait at
            the inbox.
        lost: Set once the supervisor is gone.
        channel: For sending.
    """

    def __init__(self, arguments: WorkerArguments, *, role: str, accepts: Any) -> None:
        read, write = _descriptor(arguments.read, 0), _descriptor(arguments.write, 1)
        self.channel: Channel[Message] = Channel(
            read, write, accepts, limit_bytes=MAX_WORKER_MESSAGE_BYTES
        )
        self.inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.arrived: Callable[[], object] = _nobody
        self.lost = threading.Event()
        self.channel.greet(role, "")
        threading.Thread(target=self._read, name="lifeline", daemon=True).start()

    def next(self, timeout_s: float | None) -> Any:
        """Next item, or None after ``timeout_s`` (0: at once; None: wait for ever) or `wake`."""
        if timeout_s == 0 and self.inbox.empty():
            return None  # asked before every frame: an exception would cost more than the look
        try:
            return self.inbox.get(timeout_s != 0, timeout_s or None)
        except queue.Empty:
            return None

    def wake(self) -> None:
        """End a wait in `next`, with None; from any thread."""
        self.inbox.put(None)

    def _put(self, item: Any) -> None:
        self.inbox.put(item)
        self.arrived()

    def _read(self) -> None:
        try:
            self.channel.receive_hello()
            while True:
                try:
                    self._put(self.channel.receive())
                except (PeerDied, FrameTooLarge):
                    raise
                except ProtocolError as error:
                    self.channel.send_quietly(
                        Failure(code=error.code, message=error.message, hint=error.hint)
                    )
        except ChannelError:
            pass  # whatever ended the stream, the supervisor cannot be heard any more
        self.lost.set()
        self._put(LIFELINE_LOST)


class SelfMeasure:
    """A process's own figures; nobody else may read them: every process is non-dumpable."""

    def __init__(self) -> None:
        self._memory = osdep.own_memory()
        self._measured = time.monotonic()
        self._walked = self._measured - PAGES_EVERY_S  # a process that has just begun is small

    def status(self, detail: dict[str, Any]) -> WorkerStatus:
        """Figures for a heartbeat; memory every 5 s, its shares, which take a walk, every 60 s."""
        now = time.monotonic()
        if now - self._measured > MEMORY_EVERY_S:
            walk = now - self._walked > PAGES_EVERY_S
            self._memory = osdep.own_memory(None if walk else self._memory)
            self._measured = now
            self._walked = now if walk else self._walked
        times = os.times()
        return WorkerStatus(
            cpu_s=times.user + times.system,
            pss_bytes=self._memory.pss_bytes,
            private_bytes=self._memory.private_bytes,
            descriptors=self._memory.descriptors,
            threads=threading.active_count(),
            detail=detail,
            shared_bytes=self._memory.shared_bytes,
        )


def _nobody() -> None:
    """Nobody waits elsewhere."""


def _descriptor(number: int, flags: int) -> int:
    if sys.platform == "win32":
        import msvcrt

        return msvcrt.open_osfhandle(number, flags)
    return number
