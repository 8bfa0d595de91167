"""The engine's worker processes: started by name, watched by a thread each.

A worker is a fresh interpreter running one module of `workers`; it inherits two pipe ends and the
ring's handles and nothing else. What to do when one dies is `lifecycle`'s decision, not made here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ipc import osdep
from ipc.channel import MAX_WORKER_MESSAGE_BYTES, Channel
from ipc.errors import ChannelError, FrameTooLarge, PeerDied, ProtocolError, SealrecError
from ipc.lifeline import WorkerArguments, worker_command
from ipc.messages import FromCameras, FromCapture, FromEncoder, FromStill, Message
from ipc.ring import RingHandles

__all__ = ["MODULES", "WorkerExit", "WorkerMessage", "WorkerProcess"]

MODULES: dict[str, tuple[str, Any]] = {
    "capture": ("workers.capture", FromCapture),
    "encoder": ("workers.encoder", FromEncoder),
    "cameras": ("workers.cameras", FromCameras),
    "still": ("workers.still", FromStill),
}


@dataclass(frozen=True, slots=True)
class WorkerMessage:
    """A message from a worker; ``worker`` tells a dead instance's last words from a new one's."""

    worker: WorkerProcess
    message: Message


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """A worker is gone, all it had said was delivered before. Negative codes are signals."""

    worker: WorkerProcess
    exit_code: int


class WorkerProcess:
    """One running worker.

    Args:
        role: ``capture``, ``encoder``, ``still`` or ``cameras``.
        ring: Handles to inherit; None for one that works on no frames.
        deliver: Called from the watching thread with WorkerMessage and, last, WorkerExit.
    """

    def __init__(
        self,
        role: str,
        ring: RingHandles | None,
        deliver: Callable[[WorkerMessage | WorkerExit], None],
    ) -> None:
        self.role = role
        module, accepts = MODULES[role]
        self._deliver = deliver
        child_read, write = os.pipe()
        read, child_write = os.pipe()
        try:
            arguments = WorkerArguments(child_read, child_write, ring)
            self._process = _spawn(module, arguments, low_priority=role in ("encoder", "still"))
        except OSError:
            os.close(read)
            os.close(write)
            raise
        finally:
            os.close(child_read)
            os.close(child_write)
        self.channel: Channel[Message] = Channel(
            read, write, accepts, limit_bytes=MAX_WORKER_MESSAGE_BYTES
        )
        self.channel.greet("engine", "")
        self._watch = threading.Thread(target=self._run, name=f"watch-{role}", daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def send(self, message: Message) -> None:
        """Send a message; to a dead worker it is dropped, its exit is on its way."""
        self.channel.send_quietly(message)

    def kill(self) -> None:
        """End the process at once; WorkerExit follows."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the exit to have been delivered."""
        self._watch.join(timeout_s)
        return not self._watch.is_alive()

    def _run(self) -> None:
        try:
            self.channel.receive_hello()
            while True:
                try:
                    self._deliver(WorkerMessage(self, self.channel.receive()))
                except (PeerDied, FrameTooLarge):
                    break
                except ProtocolError:
                    continue  # a malformed message of our own worker: its heartbeat decides
        except ChannelError:
            pass
        code = self._process.wait()
        self.channel.close(0)
        self.channel.close_read()
        self._deliver(WorkerExit(self, code))


def _spawn(
    module: str, arguments: WorkerArguments, *, low_priority: bool
) -> subprocess.Popen[bytes]:
    """Start a worker that inherits exactly the named handles.

    It gets a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone, which
    then stops in order; fd 0 is null and fd 1 is stderr (design: Durability). A low priority holds
    from its first instruction: a successor's imports must not take the processor from capture.
    """
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP
        if low_priority:
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS
        return _spawn_windows(module, arguments, flags)
    process = subprocess.Popen(
        worker_command(module, arguments),
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=[arguments.read, arguments.write, *_ring_handles(arguments)],
        start_new_session=True,
    )
    if low_priority:
        osdep.set_low_priority(process.pid)
    return process


def _ring_handles(arguments: WorkerArguments) -> list[int]:
    ring = arguments.ring
    return [] if ring is None else [ring.memory, ring.data_ready, ring.space_ready]


def _spawn_windows(module: str, arguments: WorkerArguments, flags: int) -> subprocess.Popen[bytes]:
    if sys.platform != "win32":
        raise SealrecError("Only Windows starts processes this way.")
    import msvcrt

    pipes = [msvcrt.get_osfhandle(arguments.read), msvcrt.get_osfhandle(arguments.write)]
    handles = [*pipes, *_ring_handles(arguments)]
    for handle in handles:
        os.set_handle_inheritable(handle, True)
    startup = subprocess.STARTUPINFO(lpAttributeList={"handle_list": handles})
    return subprocess.Popen(
        worker_command(module, WorkerArguments(pipes[0], pipes[1], arguments.ring)),
        stdin=subprocess.DEVNULL,
        stdout=2,
        startupinfo=startup,
        creationflags=flags,
    )
