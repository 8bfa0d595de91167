"""Ways of a frame from one process to another: the ring, and what a user would pick instead.

A sender lives in the benchmark's process, a receiver goes to a process of its own by pickling.
Each keeps at most ``SLOTS`` frames, loses none and gives the receiver bytes that it can look at.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import reduction
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ipc.frame import FrameStamp, PixelFormat
from ipc.ring import Ring, RingHandles, RingReader, RingWriter

__all__ = ["SLOTS", "SPAWN", "TIMEOUT_S", "Bytes", "Receiver", "Sender", "available"]

SLOTS = 8
TIMEOUT_S = 30
PIPE_BYTES = 1 << 20  # as much as a user may ask for by default
SPAWN = multiprocessing.get_context("spawn")

Bytes = NDArray[np.uint8]


class Receiver(Protocol):
    """The receiving end, once ``open`` was called in its process."""

    def open(self) -> None:
        """Attach to what was inherited."""

    def receive(self) -> Any:
        """Wait for the next frame; its bytes stay valid until the next call."""

    def close(self) -> None:
        """Let go of it."""


class Sender(Protocol):
    """The sending end."""

    def __init__(self, size_bytes: int) -> None: ...

    def receiver(self) -> Receiver:
        """The other end, to be given to one process while it is started."""

    def send(self, frame: Bytes) -> None:
        """Send one frame; its array may be changed afterwards."""

    def close(self) -> None:
        """Let go of it."""


class RingSender:
    """Through the engine's ring, as capture does it."""

    def __init__(self, size_bytes: int) -> None:
        self._ring = Ring.reserve()
        self._ring.allocate(slots=SLOTS, slot_bytes=size_bytes)
        self._writer = RingWriter.attach(self._ring.handles)
        self._epoch = self._writer.begin_epoch()
        self._size_bytes, self._number = size_bytes, 0

    def receiver(self) -> Receiver:
        """See `Sender`."""
        return RingReceiver(self._ring.handles)

    def send(self, frame: Bytes) -> None:
        """See `Sender`."""
        now_ns = time.perf_counter_ns()
        slot = self._writer.acquire(
            FrameStamp(self._epoch, self._number, now_ns, now_ns, 0),
            width_px=self._size_bytes,
            height_px=1,
            pixel_format=PixelFormat.MONO8,
            timeout_s=TIMEOUT_S,
        )
        if slot is None:
            raise TimeoutError("The ring stayed full.")
        slot[0] = frame
        self._writer.publish()
        self._number += 1

    def close(self) -> None:
        """See `Sender`."""
        self._writer.close()
        self._ring.close()


class RingReceiver:
    """Reads in place; a slot goes back when the next frame is asked for."""

    def __init__(self, handles: RingHandles) -> None:
        self._handles = handles
        self._last = -1

    def __reduce__(self) -> tuple[Any, ...]:
        """Have the process that is being started inherit the handles, under the same numbers."""
        for handle in dataclasses.astuple(self._handles):
            reduction.DupFd(handle)
        return RingReceiver, (self._handles,)

    def open(self) -> None:
        """See `Receiver`."""
        self._reader = RingReader.attach(self._handles)
        self._reader.resume()

    def receive(self) -> Any:
        """See `Receiver`."""
        reader = self._reader
        if self._last >= 0:
            reader.release(self._last)
            reader.commit(self._last)
        if not reader.wait(TIMEOUT_S) or (frame := reader.read()) is None:
            raise TimeoutError("The ring stayed empty.")
        self._last = frame.seq
        return frame.pixels

    def close(self) -> None:
        """See `Receiver`."""
        self._reader.close()


class QueueSender:
    """``multiprocessing.Queue``: a copy, for the frame's buffer goes back to the camera."""

    def __init__(self, size_bytes: int) -> None:
        self._queue: Any = SPAWN.Queue(SLOTS)

    def receiver(self) -> Receiver:
        """See `Sender`."""
        return QueueReceiver(self._queue)

    def send(self, frame: Bytes) -> None:
        """See `Sender`."""
        self._queue.put(frame.copy(), timeout=TIMEOUT_S)

    def close(self) -> None:
        """See `Sender`."""
        self._queue.close()
        self._queue.join_thread()


@dataclasses.dataclass
class QueueReceiver:
    """The other end of the queue."""

    queue: Any

    def open(self) -> None:
        """See `Receiver`."""

    def receive(self) -> Any:
        """See `Receiver`."""
        return self.queue.get(timeout=TIMEOUT_S)

    def close(self) -> None:
        """See `Receiver`."""
        self.queue.close()


class PipeSender:
    """A pipe of the largest size, raw: no pickling, no message framing."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._reading, self._writing = SPAWN.Pipe(duplex=False)
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.fcntl(self._writing.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)

    def receiver(self) -> Receiver:
        """See `Sender`."""
        return PipeReceiver(self._reading, self._size_bytes)

    def send(self, frame: Bytes) -> None:
        """See `Sender`."""
        left, fd = frame.data, self._writing.fileno()
        while left:
            left = left[os.write(fd, left) :]

    def close(self) -> None:
        """See `Sender`."""
        self._reading.close()
        self._writing.close()


@dataclasses.dataclass
class PipeReceiver:
    """Reads into one buffer, again and again."""

    reading: Any
    size_bytes: int

    def open(self) -> None:
        """See `Receiver`."""
        self._buffer = memoryview(bytearray(self.size_bytes))

    def receive(self) -> Any:
        """See `Receiver`."""
        left, fd = self._buffer, self.reading.fileno()
        while left:
            left = left[os.readv(fd, [left]) :]
        return self._buffer

    def close(self) -> None:
        """See `Receiver`."""
        self.reading.close()


def available() -> tuple[dict[str, Callable[[int], Sender]], dict[str, str]]:
    """The contenders that this machine has, and why others are missing."""
    senders: dict[str, Callable[[int], Sender]] = {
        "sealrec": RingSender,
        "multiprocessing.Queue": QueueSender,
        "pipe": PipeSender,
    }
    try:
        from benchmarks.parts.iceoryx import IceoryxSender
    except ImportError as error:
        return senders, {"iceoryx2": f"{error}; pip install iceoryx2"}
    return {**senders, "iceoryx2": IceoryxSender}, {}
