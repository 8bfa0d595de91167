"""Memory without a name, shared by inheritance, with all its pages reserved before the first use.

Linux: a memfd. Windows: a page-file section. The last handle and mapping end it, so nothing is
left behind when every process is killed. See RING.md, "Memory".
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Final

from ipc.errors import MemoryRefused, ProtocolError, WrongState
from ipc.memory_limits import memory_budget

if sys.platform == "win32":
    import ctypes
    import weakref

    from ipc import winapi
else:
    import fcntl
    import mmap

__all__ = [
    "MAP_GRANULARITY",
    "Mapping",
    "SharedMemory",
]

MAP_GRANULARITY: Final = 65536  # a mapping may begin at its multiples (Windows; Linux: a page)

REDUCE_HINT = (
    "Take fewer seconds (--ring-seconds), a smaller --size or a one-byte pixel format, or end "
    "other programs."
)


class Mapping:
    """A range of shared memory mapped into this process.

    Array views of it may outlive ``close()``: the range is unmapped when the last one goes, so a
    view never points at memory that is not there, and closing never fails.
    """

    if sys.platform == "win32":

        def __init__(self, buffer: ctypes.Array[ctypes.c_ubyte]) -> None:
            self._buffer: ctypes.Array[ctypes.c_ubyte] | None = buffer

    else:

        def __init__(self, buffer: mmap.mmap) -> None:
            self._buffer: mmap.mmap | None = buffer

    def view(self) -> memoryview:
        """A new view of all bytes; read-only when the mapping is.

        Raises:
            WrongState: The mapping is closed.
        """
        if self._buffer is None:
            raise WrongState("This mapping of the frame ring is closed.")
        return memoryview(self._buffer).cast("B")

    def close(self) -> None:
        """Let go of the range; may be called again."""
        buffer, self._buffer = self._buffer, None
        if sys.platform != "win32" and buffer is not None:
            # BufferError: somebody still holds a view; its end unmaps the range.
            with contextlib.suppress(BufferError):
                buffer.close()


class SharedMemory:
    """Memory that children inherit by handle: created without a size, sized once.

    The handle can be handed to a child before the size is known.
    """

    def __init__(self, handle: int, *, owner: bool) -> None:
        self._handle = handle
        self._owner = owner

    @classmethod
    def create(cls) -> SharedMemory:
        """Create memory of no size yet, with a handle that is not inherited unless passed.

        Raises:
            MemoryRefused: The system gives no handle.
        """
        try:
            return cls(_create_memory(), owner=True)
        except OSError as error:
            raise MemoryRefused(
                f"Shared memory cannot be created: {error}.",
                hint="Close other programs or raise the limit of open files.",
            ) from error

    @classmethod
    def attach(cls, handle: int) -> SharedMemory:
        """Use a handle that this process inherited; it stays open when this object is closed."""
        return cls(handle, owner=False)

    @property
    def handle(self) -> int:
        """Descriptor (Linux) or handle (Windows), valid in children that inherit it."""
        return self._handle

    def read_only_handle(self) -> int:
        """Another handle of the same memory, which cannot be written through; the caller's.

        It keeps a program from storing by mistake. One of the same user that means harm can get
        around it, as it could end this process.

        Raises:
            MemoryRefused: The system gives no handle.
        """
        try:
            return _read_only_handle(self._handle)
        except OSError as error:
            raise MemoryRefused(
                f"The frame ring cannot be opened for reading: {error}.",
                hint="Close other programs or raise the limit of open files.",
            ) from error

    def size_bytes(self) -> int:
        """Size given by ``allocate``, 0 before it.

        Raises:
            ProtocolError: The handle is no memory.
        """
        try:
            return _memory_size(self._handle)
        except OSError as error:
            raise ProtocolError(
                f"Handle {self._handle} is no shared memory: {error}.",
                hint="It must be inherited from the process that made the ring.",
            ) from error

    def allocate(self, size_bytes: int) -> None:
        """Reserve every page now; the size is final.

        Raises:
            MemoryRefused: The memory is not there; nothing was reserved.
            WrongState: The memory has a size already.
        """
        if self.size_bytes() != 0:
            raise WrongState("The frame ring has its memory already.")
        budget = memory_budget()
        if size_bytes > budget.available_bytes:
            raise MemoryRefused(
                f"The frame ring needs {_mib(size_bytes)}, but only "
                f"{_mib(budget.available_bytes)} can be had (limit: {budget.limit}).",
                hint=REDUCE_HINT,
            )
        try:
            _reserve_pages(self._handle, size_bytes)
        except OSError as error:
            raise MemoryRefused(
                f"The frame ring needs {_mib(size_bytes)} and the system refused it, though "
                f"{_mib(budget.available_bytes)} seemed free: {error}.",
                hint=_refusal_hint(error),
            ) from error

    def map(
        self, offset: int, size_bytes: int, *, writable: bool, populate: bool = False
    ) -> Mapping:
        """Map a range.

        Args:
            offset: Multiple of ``MAP_GRANULARITY``.
            size_bytes: Length, > 0; the range must lie within the memory.
            writable: False maps it so that a store ends in a fault.
            populate: Fill the page tables now, so that no first touch costs a fault later.

        Raises:
            ProtocolError: The memory is shorter than that.
            MemoryRefused: The system does not map it.
        """
        if size_bytes <= 0 or offset < 0 or offset + size_bytes > self.size_bytes():
            raise ProtocolError(
                f"The shared memory has {self.size_bytes()} bytes; {offset + size_bytes} are "
                "needed: it is no frame ring, or not the whole of it.",
            )
        try:
            return _map_memory(self._handle, offset, size_bytes, (writable, populate))
        except OSError as error:
            raise MemoryRefused(
                f"{_mib(size_bytes)} of the frame ring cannot be mapped: {error}.",
                hint="Raise the limit of address space (ulimit -v) or take a smaller ring.",
            ) from error

    def close(self) -> None:
        """Give the handle back if this object made it; mappings stay valid."""
        handle, self._handle = self._handle, -1
        if self._owner and handle != -1:
            _close_handle(handle)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes} bytes ({size_bytes / (1 << 20):.1f} MiB)"


def _refusal_hint(error: OSError) -> str:
    if error.errno == errno.EFBIG:
        return "The limit of file sizes (ulimit -f) counts for shared memory too: raise it."
    return REDUCE_HINT


if sys.platform == "win32":

    def _create_memory() -> int:
        # A reserved section needs its largest size now but takes memory only when committed.
        status = winapi.MemoryStatusEx()
        status.length = ctypes.sizeof(status)
        if not winapi.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise ctypes.WinError(ctypes.get_last_error())
        largest = int(status.total_physical)
        handle = winapi.kernel32.CreateFileMappingW(
            winapi.INVALID_HANDLE,
            None,
            winapi.PAGE_READWRITE | winapi.SEC_RESERVE,
            *(largest >> 32, largest & 0xFFFFFFFF, None),
        )
        if not handle:
            raise ctypes.WinError(ctypes.get_last_error())
        return int(handle)

    def _read_only_handle(handle: int) -> int:
        return winapi.duplicate_handle(handle, access=winapi.FILE_MAP_READ)

    def _memory_size(handle: int) -> int:
        """Committed bytes: the first region of a view of the whole section."""
        address = winapi.kernel32.MapViewOfFile(handle, winapi.FILE_MAP_READ, 0, 0, 0)
        if not address:
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            region = winapi.MemoryBasicInformation()
            if not winapi.kernel32.VirtualQuery(
                address, ctypes.byref(region), ctypes.sizeof(region)
            ):
                raise ctypes.WinError(ctypes.get_last_error())
            return int(region.region_size) if region.state == winapi.MEM_COMMIT else 0
        finally:
            winapi.kernel32.UnmapViewOfFile(address)

    def _reserve_pages(handle: int, size_bytes: int) -> None:
        address = winapi.kernel32.MapViewOfFile(handle, winapi.FILE_MAP_WRITE, 0, 0, size_bytes)
        if not address:
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            if not winapi.kernel32.VirtualAlloc(
                address, size_bytes, winapi.MEM_COMMIT, winapi.PAGE_READWRITE
            ):
                raise ctypes.WinError(ctypes.get_last_error())
        finally:
            winapi.kernel32.UnmapViewOfFile(address)

    def _map_memory(handle: int, offset: int, size_bytes: int, mode: tuple[bool, bool]) -> Mapping:
        writable, _ = mode
        access = winapi.FILE_MAP_WRITE if writable else winapi.FILE_MAP_READ
        address = winapi.kernel32.MapViewOfFile(
            handle, access, offset >> 32, offset & 0xFFFFFFFF, size_bytes
        )
        if not address:
            raise ctypes.WinError(ctypes.get_last_error())
        # A subclass, because plain ctypes arrays cannot be watched: the view ends with the array,
        # and that with the last array view of it.
        kind: type[ctypes.Array[ctypes.c_ubyte]]
        kind = type("Region", (ctypes.c_ubyte * size_bytes,), {})
        region = kind.from_address(address)
        weakref.finalize(region, winapi.kernel32.UnmapViewOfFile, address).atexit = False
        return Mapping(region)

    def _close_handle(handle: int) -> None:
        winapi.close_handle(handle)

else:

    def _create_memory() -> int:
        handle = os.memfd_create("sealrec-ring", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        # Whoever holds a read-only descriptor could open a writable one through /proc.
        os.fchmod(handle, 0o400)
        return handle

    def _read_only_handle(handle: int) -> int:
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)

    def _memory_size(handle: int) -> int:
        return os.fstat(handle).st_size

    def _reserve_pages(handle: int, size_bytes: int) -> None:
        os.posix_fallocate(handle, 0, size_bytes)
        # Nobody can cut it any more: a mapped page that went away would end in SIGBUS.
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(handle, fcntl.F_ADD_SEALS, seals)

    def _map_memory(handle: int, offset: int, size_bytes: int, mode: tuple[bool, bool]) -> Mapping:
        writable, populate = mode
        protection = mmap.PROT_READ | mmap.PROT_WRITE if writable else mmap.PROT_READ
        flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
        memory = mmap.mmap(handle, size_bytes, flags=flags, prot=protection, offset=offset)
        memory.madvise(mmap.MADV_DONTDUMP)  # pictures do not belong into a core dump
        return Mapping(memory)

    def _close_handle(handle: int) -> None:
        os.close(handle)
