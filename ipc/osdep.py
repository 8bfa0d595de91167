"""What differs between Linux and Windows: one function per fact, both systems beside each other.

Processes (priority, core dumps, own memory), files (locks, durability, access) and, from
memory_lock.py and shared_memory.py, keys pinned in memory, memory without a name and the events
that wake a waiting process. Nothing here decides anything. The Windows branches are type-checked;
they were never run.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from ipc.memory_lock import lock_in_memory
from ipc.shared_memory import Mapping, SharedMemory
from ipc.wake_event import WakeEvent, memory_fence

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import threading

    from ipc import winapi
else:
    import ctypes
    import fcntl
    import pwd
    import resource

__all__ = [
    "RENAMES_OPEN_FILES",
    "Mapping",
    "OwnMemory",
    "SharedMemory",
    "WakeEvent",
    "allocate",
    "create_private",
    "forbid_core_dumps",
    "forget_cached",
    "is_private",
    "keep_heap_whole",
    "lock_file",
    "lock_in_memory",
    "memory_fence",
    "own_memory",
    "read_at",
    "rename_new",
    "set_low_priority",
    "sync_data",
    "sync_directory",
    "trim_heap",
    "user_name",
    "write_at",
]

LOW_PRIORITY_NICE = 5
LOWEST_NICE = 19
PR_SET_DUMPABLE = 4  # prctl(2)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # mallopt(3)
RENAME_NOREPLACE = 1  # renameat2(2)
AT_FDCWD = -100
RENAMES_OPEN_FILES = sys.platform != "win32"
"""Whether a file may get another name while it is open."""

if sys.platform == "win32":
    BELOW_NORMAL_PRIORITY_CLASS = 0x4000
    SEM_FAILCRITICALERRORS, SEM_NOGPFAULTERRORBOX = 0x1, 0x2
    WER_FAULT_REPORTING_FLAG_NOHEAP = 0x1
    LOCKFILE_FAIL_IMMEDIATELY, LOCKFILE_EXCLUSIVE_LOCK = 0x1, 0x2
    ERROR_FILE_EXISTS, ERROR_LOCK_VIOLATION = 80, 33
    GENERIC_READ, GENERIC_WRITE = 0x80000000, 0x40000000
    SHARE_ALL, CREATE_NEW = 0x7, 1
    SE_FILE_OBJECT = 1
    OWNER_AND_DACL = 0x1 | 0x4
    LOCK_HIGH_OFFSET = 0x4000_0000  # the locked byte lies at 2**62, where no file reaches
    # Windows has no positioned read or write for descriptors: seek and transfer must not be
    # separated by another thread of this process.
    _position_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class OwnMemory:
    """Memory and descriptors of the calling process.

    Attributes:
        pss_bytes: Resident memory, each shared page divided by its users (Windows: working set).
        private_bytes: Resident memory that nobody shares and no file backs (Windows: private
            commit).
        descriptors: Open descriptors (Windows: handles).
        shared_bytes: The part of ``pss_bytes`` that is shared memory, such as the frame ring
            (Windows: not told apart, 0).
    """

    pss_bytes: int
    private_bytes: int
    descriptors: int
    shared_bytes: int = 0


def set_low_priority(pid: int) -> None:
    """Let other processes win over a child that was just started: 5 nicer than this process.

    Linux applies it to the child's first thread and those it starts later. A child that runs lower
    already stays there; one that is gone again is left to whoever watches it. On Windows the class
    is given when the process is created (engine/processes.py) and nothing is done here.
    """
    if sys.platform != "win32":
        with contextlib.suppress(ProcessLookupError):
            # Relative, as capture has this process's: an engine may be started at any priority.
            wanted = min(LOWEST_NICE, os.getpriority(os.PRIO_PROCESS, 0) + LOW_PRIORITY_NICE)
            if os.getpriority(os.PRIO_PROCESS, pid) < wanted:
                os.setpriority(os.PRIO_PROCESS, pid, wanted)


def forbid_core_dumps() -> None:
    """Keep this process's memory out of core dumps, error reports and debuggers of others.

    Raises:
        OSError: The system refused it.
    """
    if sys.platform == "win32":
        winapi.kernel32.SetErrorMode(SEM_FAILCRITICALERRORS | SEM_NOGPFAULTERRORBOX)
        winapi.kernel32.WerSetFlags(WER_FAULT_REPORTING_FLAG_NOHEAP)
    else:
        # The limit alone is not enough: a core_pattern that pipes to a program ignores it.
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def keep_heap_whole() -> None:
    """Take blocks of 256 KiB and more from the system, and give them back, one by one: glibc.

    Otherwise it takes them from the heap once the first was freed, and a process that makes blocks
    of ever another size all day, such as fragments, grows by a hole now and then.
    """
    if sys.platform != "win32":
        option = getattr(ctypes.CDLL(None), "mallopt", None)
        if option is not None:
            option(M_MMAP_THRESHOLD, 256 << 10)
            option(M_TRIM_THRESHOLD, 8 << 20)  # which the first one would leave at as little


def trim_heap() -> None:
    """Give freed memory back to the system, where the C library keeps it: glibc, in 1 to 2 ms."""
    if sys.platform != "win32":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(ctypes.c_size_t(0))


def own_memory(known: OwnMemory | None = None) -> OwnMemory:
    """Measure the calling process (only itself: a non-dumpable one shows nothing to others).

    Args:
        known: Measured before. What Linux finds only by walking all pages is taken from it: up to
            30 ms of work with a frame ring of 1 GiB, and 0.2 ms without.
    """
    if sys.platform == "win32":
        counters = winapi.ProcessMemoryCountersEx()
        counters.length = ctypes.sizeof(counters)
        process = winapi.kernel32.GetCurrentProcess()
        if not winapi.psapi.GetProcessMemoryInfo(
            process, ctypes.byref(counters), ctypes.sizeof(counters)
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        handles = ctypes.c_ulong()
        winapi.kernel32.GetProcessHandleCount(process, ctypes.byref(handles))
        return OwnMemory(int(counters.working_set), int(counters.private), handles.value)
    private = _proc_bytes("/proc/self/status", "RssAnon")["RssAnon"]
    # The directory's own descriptor is in the list while it is read.
    descriptors = len(os.listdir("/proc/self/fd")) - 1
    if known is not None:
        return OwnMemory(known.pss_bytes, private, descriptors, known.shared_bytes)
    sizes = _proc_bytes("/proc/self/smaps_rollup", "Pss", "Pss_Shmem")
    return OwnMemory(sizes["Pss"], private, descriptors, sizes["Pss_Shmem"])


def _proc_bytes(path: str, *names: str) -> dict[str, int]:
    """Some of a file's lines like ``Pss:  12 kB``, in bytes; 0 where a name is not there."""
    sizes = dict.fromkeys(names, 0)
    for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in sizes:
            sizes[name] = int(value.split()[0]) * 1024
    return sizes


def user_name() -> str:
    """The account that this process runs under, as the system says; never from the environment."""
    return _user_name()


def lock_file(fd: int) -> bool:
    """Take the exclusive lock of an open file without waiting; it goes when the file is closed.

    Returns:
        False when another holder has it.
    """
    return _try_lock(fd)


def sync_data(fd: int) -> None:
    """Return when the file's data is durable (fdatasync; Windows: FlushFileBuffers)."""
    if sys.platform == "win32":
        os.fsync(fd)
    else:
        os.fdatasync(fd)


def forget_cached(fd: int) -> None:
    """Drop what the system remembers of a synced file, so that it is read from the disk again.

    Linux keeps pages whose write failed, as if they were good (ext4: until they are evicted).
    Windows has no such call.
    """
    if sys.platform == "linux":
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Make names created, renamed or removed in a directory durable; Windows has no such call."""
    if sys.platform != "win32":
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def write_at(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        OSError: The file takes no more; part of the data may have been written.
    """
    rest = memoryview(data).cast("B")
    while rest:
        written = _write_some(fd, rest, offset)
        if written == 0:
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
        rest = rest[written:]
        offset += written


def read_at(fd: int, size_bytes: int, offset: int) -> bytes:
    """Read ``size_bytes`` at ``offset``; fewer come back only where the file ends."""
    parts: list[bytes] = []
    while size_bytes > 0:
        part = _read_some(fd, size_bytes, offset)
        if not part:
            break
        parts.append(part)
        size_bytes -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def create_private(path: str | os.PathLike[str], flags: int = os.O_RDWR) -> int:
    """Create a file that only its owner may open (0600; Windows: an owner-only ACL).

    Args:
        path: A name that must not exist yet.
        flags: ``os.O_RDWR`` or ``os.O_WRONLY``, and others of ``os.open``; creation is implied.

    Returns:
        A descriptor that children do not inherit.

    Raises:
        FileExistsError: The name is taken.
        OSError: It cannot be created there.
    """
    if sys.platform == "win32":
        return _create_private_windows(os.fspath(path), flags)
    return os.open(path, flags | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def is_private(path: str | os.PathLike[str]) -> bool:
    """Tell whether nobody but this user and the system's administrator can open a file.

    Raises:
        OSError: The file does not exist or cannot be looked at.
    """
    if sys.platform == "win32":
        return _is_private_windows(os.fspath(path))
    status = os.stat(path)
    return status.st_mode & 0o077 == 0 and status.st_uid in (0, os.geteuid())


if sys.platform == "win32":

    def _try_lock(fd: int) -> bool:
        place = winapi.Overlapped()
        place.offset_high = LOCK_HIGH_OFFSET
        flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY
        handle = msvcrt.get_osfhandle(fd)
        if winapi.kernel32.LockFileEx(handle, flags, 0, 1, 0, ctypes.byref(place)):
            return True
        code = ctypes.get_last_error()
        if code == ERROR_LOCK_VIOLATION:
            return False
        raise ctypes.WinError(code)

    def _user_name() -> str:
        return os.getlogin()

    def _write_some(fd: int, data: memoryview, offset: int) -> int:
        with _position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.write(fd, data)

    def _read_some(fd: int, size_bytes: int, offset: int) -> bytes:
        with _position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size_bytes)

    def _create_private_windows(path: str, flags: int) -> int:
        sid = winapi.user_sid()
        descriptor = ctypes.c_void_p()
        # Owner and the only two who may do anything: the user and the system itself; no heritage.
        if not winapi.advapi32.ConvertStringSecurityDescriptorToSecurityDescriptorW(
            f"O:{sid}D:P(A;;FA;;;{sid})(A;;FA;;;SY)", 1, ctypes.byref(descriptor), None
        ):
            raise ctypes.WinError(ctypes.get_last_error())
        try:
            security = winapi.SecurityAttributes()
            security.length = ctypes.sizeof(security)
            security.descriptor = descriptor
            access = GENERIC_WRITE if flags & os.O_WRONLY else GENERIC_READ | GENERIC_WRITE
            handle = winapi.kernel32.CreateFileW(
                path, access, SHARE_ALL, ctypes.byref(security), CREATE_NEW, 0, None
            )
            code = ctypes.get_last_error()
        finally:
            winapi.kernel32.LocalFree(descriptor)
        if handle is None or handle == winapi.INVALID_HANDLE:
            if code == ERROR_FILE_EXISTS:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            raise ctypes.WinError(code)
        return msvcrt.open_osfhandle(handle, flags | os.O_BINARY | os.O_NOINHERIT)

    def _is_private_windows(path: str) -> bool:
        os.stat(path)
        descriptor = ctypes.c_void_p()
        code = winapi.advapi32.GetNamedSecurityInfoW(
            path, SE_FILE_OBJECT, OWNER_AND_DACL, None, None, None, None, ctypes.byref(descriptor)
        )
        if code != 0:
            raise ctypes.WinError(code)
        text = ctypes.c_wchar_p()
        try:
            if not winapi.advapi32.ConvertSecurityDescriptorToStringSecurityDescriptorW(
                descriptor, 1, OWNER_AND_DACL, ctypes.byref(text), None
            ):
                raise ctypes.WinError(ctypes.get_last_error())
            return _grants_only(text.value or "", winapi.user_sid())
        finally:
            with contextlib.suppress(OSError):
                winapi.kernel32.LocalFree(text)
            winapi.kernel32.LocalFree(descriptor)


def _grants_only(descriptor: str, user_sid: str) -> bool:
    """Tell whether a security descriptor (SDDL text) lets in only the user and the system.

    ``O:<owner>...D:<flags>(type;flags;rights;;;trustee)...``: a missing DACL lets everybody in, and
    any entry that allows another trustee than the user, SYSTEM or Administrators lets that one in.
    """
    trusted = {user_sid, "SY", "BA", "S-1-5-18", "S-1-5-32-544"}
    owner, dacl, rest = descriptor.partition("D:")
    owner_sid = owner.partition("O:")[2].partition("G:")[0]
    if not dacl or rest.startswith("NO_ACCESS_CONTROL") or owner_sid not in trusted:
        return False
    for entry in rest.partition("S:")[0].split("(")[1:]:
        fields = entry.rstrip(")").split(";")
        if len(fields) < 6:
            return False
        allows = fields[0] not in ("D", "OD", "XD")
        if allows and fields[5] not in trusted | {"OW"}:
            return False
    return True


if sys.platform != "win32":

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _user_name() -> str:
        try:
            return pwd.getpwuid(os.getuid()).pw_name
        except KeyError:  # a container's user without an entry
            return f"uid {os.getuid()}"

    def _write_some(fd: int, data: memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def _read_some(fd: int, size_bytes: int, offset: int) -> bytes:
        return os.pread(fd, size_bytes, offset)


def allocate(fd: int, size_bytes: int) -> None:
    """Give a file blocks up to ``size_bytes`` and that length, without writing data.

    Linux: posix_fallocate; Windows: the end of file is moved, and NTFS allocates what is before it.

    Raises:
        OSError: The disk has no such room, or the file system no such call.
    """
    if sys.platform == "win32":
        os.ftruncate(fd, size_bytes)
    else:
        os.posix_fallocate(fd, 0, size_bytes)


def rename_new(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename a file, never replacing another one.

    Linux: renameat2 with RENAME_NOREPLACE; on a file system without it, link and unlink; on one
    without links, a check and a rename (another process may take the name between the two).
    Windows: a rename replaces nothing.

    Raises:
        FileExistsError: The target is there; both files are as they were.
        OSError: The rename failed.
    """
    if sys.platform == "win32":
        os.rename(source, target)
    else:
        _rename_new_linux(source, target)


if sys.platform != "win32":

    def _rename_new_linux(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        code = _rename_no_replace(os.fsencode(source), os.fsencode(target))
        if code in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            _link_and_unlink(source, target)
        elif code != 0:
            raise OSError(code, os.strerror(code), os.fspath(source), None, os.fspath(target))

    def _rename_no_replace(source: bytes, target: bytes) -> int:
        """The error number of renameat2, 0 for success; ENOSYS where the C library lacks it."""
        libc = ctypes.CDLL(None, use_errno=True)
        call = getattr(libc, "renameat2", None)
        if call is None:
            return errno.ENOSYS
        if call(AT_FDCWD, source, AT_FDCWD, target, RENAME_NOREPLACE) == 0:
            return 0
        return ctypes.get_errno()

    def _link_and_unlink(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
            os.rename(source, target)
        else:
            # Durable in this order: nothing but the new name holds the file once the old one goes.
            sync_directory(os.path.dirname(os.path.abspath(target)))
            os.unlink(source)
