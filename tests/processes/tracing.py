"""What real processes ask of the system, in order: strace's log as typed values.

A call is two steps, its beginning and its return, because another thread's may lie between.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.processes.serving import AWAIT_S, wait_until

__all__ = ["Step", "killing_at", "needs_attaching", "needs_strace", "traced", "tracing_prefix"]

CALLS = (
    *("openat", "creat", "pwrite64", "pwritev", "write", "writev", "ftruncate", "fallocate"),
    *("fsync", "fdatasync", "sync_file_range", "flock", "fchmod", "chmod"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat"),
)
BEGUN = re.compile(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>")
RESUMED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>.*\) += (-?\d+)(.*)")
WHOLE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+)(.*)")


@dataclass(frozen=True, slots=True)
class Step:
    """The beginning or the return of a system call.

    Attributes:
        pid: The thread.
        name: Of the call.
        arguments: As strace prints them, descriptors with their paths, other data cut to nothing.
        code: What it returned; None at its beginning.
    """

    pid: int
    name: str
    arguments: str
    code: int | None = None

    @property
    def begins(self) -> bool:
        """It begins here."""
        return self.code is None

    @property
    def path(self) -> str:
        """Of the descriptor that it is about, or the first path that it names."""
        found = re.match(r"\d+<([^>]*)>", self.arguments) or re.search(r'"(.+?)"', self.arguments)
        return found[1] if found else ""

    @property
    def paths(self) -> list[str]:
        """All paths that it names."""
        return re.findall(r'"(.+?)"', self.arguments)

    @property
    def place(self) -> tuple[int, int]:
        """Offset and size of a pwrite64."""
        size, offset = map(int, self.arguments.split(", ")[-2:])
        return offset, size


def _works() -> bool:
    if sys.platform != "linux" or shutil.which("strace") is None:
        return False
    tried = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


needs_strace = pytest.mark.skipif(not _works(), reason="there is no strace, or it may not trace")


needs_attaching = pytest.mark.skipif(
    not _works() or os.geteuid() != 0,
    reason="needs strace and root: workers let no other user look at them",
)


def tracing_prefix(log: Path) -> list[str]:
    """Puts a command and all its processes under strace."""
    options = ["-f", "--seccomp-bpf", "-y", "-qq", "-s", "0", "-o", str(log)]
    return ["strace", *options, "-e", "trace=" + ",".join(CALLS)]


@contextmanager
def killing_at(call: str, pid: int) -> Iterator[None]:
    """Kill a process when any of its threads begins a system call, which then does nothing."""
    inject = f"inject={call}:error=EIO:signal=KILL"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    with subprocess.Popen([*command, "-p", str(pid)], stderr=subprocess.PIPE) as tracer:
        status = Path(f"/proc/{pid}/status")
        wait_until(lambda: f"TracerPid:\t{tracer.pid}\n" in status.read_text(), "is traced")
        yield
        tracer.wait(AWAIT_S)


def traced(log: Path) -> Iterator[Step]:
    """The steps of a log, in the order in which they were seen."""
    waiting: dict[int, Step] = {}
    for line in log.read_text(errors="replace").splitlines():
        if found := BEGUN.fullmatch(line):
            step = waiting[int(found[1])] = Step(int(found[1]), found[2], found[3])
            yield step
        elif found := RESUMED.fullmatch(line):
            begun = waiting.pop(int(found[1]))
            yield Step(begun.pid, begun.name, begun.arguments, int(found[2]))
        elif found := WHOLE.fullmatch(line):
            yield Step(int(found[1]), found[2], found[3])
            yield Step(int(found[1]), found[2], found[3], int(found[4]))
