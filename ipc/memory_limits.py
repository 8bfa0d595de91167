"""How much memory this process may still take: the system's own figure and the cgroup's limit.

Reading only. A ring that does not fit is refused before the first page is touched, because the
kernel answers a late touch with SIGBUS or the out-of-memory killer, not with an error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MemoryBudget", "memory_budget"]

HEADROOM_BYTES = 256 << 20
HEADROOM_SHARE = 10  # a tenth
NO_LIMIT = 1 << 60  # cgroup v1 writes "no limit" as a number near 2**63


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """Memory that can be taken without starving the rest of the machine.

    Attributes:
        available_bytes: What is free or can be freed, less a headroom of a tenth of it, at most
            256 MiB, that stays for the workers themselves.
        limit: Who sets it: "free memory of the machine" or the cgroup's file.
    """

    available_bytes: int
    limit: str


def memory_budget(proc: Path = Path("/proc")) -> MemoryBudget:
    """Find the tightest limit that holds for this process.

    Args:
        proc: Where the system describes itself; another place only in tests.
    """
    limits = [MemoryBudget(_system_available(proc), "free memory of the machine")]
    limits += _cgroup_limits(proc)
    tightest = min(limits, key=lambda budget: budget.available_bytes)
    headroom = min(tightest.available_bytes // HEADROOM_SHARE, HEADROOM_BYTES)
    return MemoryBudget(tightest.available_bytes - headroom, tightest.limit)


if sys.platform == "win32":
    import ctypes

    from ipc import winapi

    def _system_available(proc: Path) -> int:
        status = winapi.MemoryStatusEx()
        status.length = ctypes.sizeof(status)
        if not winapi.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
            raise ctypes.WinError(ctypes.get_last_error())
        # A committed page needs a place in memory or page file; live video must not be paged.
        return int(min(status.free_physical, status.free_commit))

    def _cgroup_limits(proc: Path) -> list[MemoryBudget]:
        return []

else:

    def _system_available(proc: Path) -> int:
        for line in (proc / "meminfo").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
        return 0

    def _cgroup_limits(proc: Path) -> list[MemoryBudget]:
        """Limits of this process's cgroup and its ancestors, versions 1 and 2."""
        found = []
        for version, directory in _memory_cgroups(proc):
            usage_file, limit_files = {
                1: ("memory.usage_in_bytes", ("memory.limit_in_bytes",)),
                # Above memory.high the kernel slows the group down until it no longer records.
                2: ("memory.current", ("memory.max", "memory.high")),
            }[version]
            usage = _number(directory / usage_file)
            for name in limit_files:
                limit = _number(directory / name)
                if usage is not None and limit is not None and limit < NO_LIMIT:
                    free = limit - usage + _reclaimable(directory / "memory.stat")
                    found.append(MemoryBudget(max(0, free), str(directory / name)))
        return found


def _memory_cgroups(proc: Path) -> Iterator[tuple[int, Path]]:
    """Directories of the memory controller from this process's group up to the mounted root."""
    try:
        membership = (proc / "self/cgroup").read_text(encoding="utf-8")
        mounts = (proc / "self/mountinfo").read_text(encoding="utf-8")
    except OSError:
        return
    groups: dict[int, str] = {}
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            groups[2] = path
        elif "memory" in controllers.split(","):
            groups[1] = path
    for version, root, point in _memory_mounts(mounts):
        if version in groups:
            # In a container the mount shows a subtree; the group's path may still be the full one.
            relative = groups[version].removeprefix(root if root != "/" else "").strip("/")
            directory = point / relative
            if ".." in Path(relative).parts or not directory.is_dir():
                directory = point
            while True:
                yield version, directory
                if directory == point:
                    break
                directory = directory.parent


def _memory_mounts(mounts: str) -> Iterator[tuple[int, str, Path]]:
    """Cgroup mounts of ``mountinfo`` text that carry the memory controller: version, root, point.

    Source: proc(5): "36 35 98:0 /root /point options - type source super-options".
    """
    for line in mounts.splitlines():
        fields = line.split()
        if "-" not in fields:
            continue
        kind, *rest = fields[fields.index("-") + 1 :]
        if kind == "cgroup2":
            yield 2, fields[3], Path(fields[4])
        elif kind == "cgroup" and "memory" in rest[-1].split(","):
            yield 1, fields[3], Path(fields[4])


def _number(path: Path) -> int | None:
    """Value of a one-number file; None when it is missing or says "max"."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _reclaimable(path: Path) -> int:
    """File cache that the kernel drops before it calls a group full."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    values = dict(line.split(None, 1) for line in lines if " " in line)
    name = "total_inactive_file" if "total_inactive_file" in values else "inactive_file"
    return int(values.get(name, "0"))
