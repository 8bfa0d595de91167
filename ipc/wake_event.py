"""Events that wake a waiting process, and the order of stores between processes.

Linux: eventfd. Windows: an auto-reset event. Like the ring's memory they have no name and end with
their last handle. See RING.md, "Wake-up" and "Order".
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import platform
import sys
from typing import Final

from ipc.errors import MemoryRefused, ProtocolError

if sys.platform == "win32":
    import ctypes

    from ipc import winapi
else:
    import select

__all__ = ["WakeEvent", "memory_fence", "order_memory"]

# x86-64 keeps a processor's stores in order, and its loads in order, for every observer.
KEEPS_ORDER: Final = platform.machine().lower() in ("x86_64", "amd64")


class WakeEvent:
    """Wakes one waiting thread of one process; a wake-up that nobody waits for is kept."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        if sys.platform != "win32":
            self._poll = select.poll()
            self._poll.register(handle, select.POLLIN)

    @classmethod
    def create(cls) -> WakeEvent:
        """Create an event that is not set.

        Raises:
            MemoryRefused: The system gives no handle.
        """
        try:
            return cls(_create_event())
        except OSError as error:
            raise MemoryRefused(
                f"A wake-up event cannot be created: {error}.",
                hint="Close other programs or raise the limit of open files.",
            ) from error

    @classmethod
    def attach(cls, handle: int) -> WakeEvent:
        """Use a duplicate of an inherited handle.

        Raises:
            ProtocolError: No such handle.
        """
        try:
            return cls(_duplicate_handle(handle))
        except OSError as error:
            raise ProtocolError(
                f"Handle {handle} is no wake-up event: {error}.",
                hint="It must be inherited from the process that made the ring.",
            ) from error

    @property
    def handle(self) -> int:
        """Descriptor (Linux) or handle (Windows), valid in children that inherit it."""
        return self._handle

    if sys.platform == "win32":

        def set(self) -> None:
            """Wake the waiting thread, or the next one to wait; never blocks."""
            winapi.kernel32.SetEvent(self._handle)

        def wait(self, timeout_s: float) -> bool:
            """Wait until set, and reset; False when the time is over."""
            milliseconds = max(0, math.ceil(timeout_s * 1000))
            return bool(winapi.kernel32.WaitForSingleObject(self._handle, milliseconds) == 0)

    else:

        def set(self) -> None:
            """Wake the waiting thread, or the next one to wait; never blocks."""
            # A full counter (2**64 - 2 unread wake-ups) is as good as one more.
            with contextlib.suppress(BlockingIOError):
                os.eventfd_write(self._handle, 1)

        def wait(self, timeout_s: float) -> bool:
            """Wait until set, and reset; False when the time is over."""
            if not self._poll.poll(max(0, math.ceil(timeout_s * 1000))):
                return False
            try:
                os.eventfd_read(self._handle)
            except BlockingIOError:  # another waiter was quicker
                return False
            return True

    def close(self) -> None:
        """Give the handle back; may be called again."""
        handle, self._handle = self._handle, -1
        if handle != -1:
            _close_handle(handle)


def order_memory() -> None:
    """Keep stores before this call before stores after it, and loads before loads.

    Nothing to do on x86-64; a full fence elsewhere. See RING.md, "Order".
    """
    if not KEEPS_ORDER:
        memory_fence()


if sys.platform == "win32":

    def memory_fence() -> None:
        """Make all earlier loads and stores of this thread precede all later ones."""
        winapi.kernel32.FlushProcessWriteBuffers()

    def _create_event() -> int:
        handle = winapi.kernel32.CreateEventW(None, False, False, None)
        if not handle:
            raise ctypes.WinError(ctypes.get_last_error())
        return int(handle)

    def _duplicate_handle(handle: int) -> int:
        return winapi.duplicate_handle(handle)

    def _close_handle(handle: int) -> None:
        winapi.close_handle(handle)

else:

    def memory_fence() -> None:
        """Make all earlier loads and stores of this thread precede all later ones.

        Both calls take and give back the event's lock in the kernel; see RING.md, "Order".
        """
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            os.eventfd_write(fd, 1)
            os.eventfd_read(fd)
        finally:
            os.close(fd)

    def _create_event() -> int:
        return os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def _duplicate_handle(handle: int) -> int:
        kind = os.readlink(f"/proc/self/fd/{handle}")
        if kind != "anon_inode:[eventfd]":
            raise OSError(errno.EINVAL, f"it is {kind}")
        return os.dup(handle)

    def _close_handle(handle: int) -> None:
        os.close(handle)
