"""What holds for every test: it leaves no process, no thread, no descriptor and no shared memory.

Orphans count too: this process adopts what its descendants leave behind (Linux: child subreaper),
so a worker that outlives its supervisor shows as a child here.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

# How long what is on its way out may take: a dead worker's pipe, a thread that is being joined.
LEAVE_S = 5.0
POLL_S = 0.01
TESTS = Path(__file__).parent
REALTIME = (
    *("processes/", "gentl/", "benchmarks/", "qt/", "review/"),
    *("engine/test_client", "engine/test_readme", "engine/catalog/test_engine"),
    *("contracts/test_hostile_controller", "contracts/test_sources", "workers/test_encoder"),
)
PR_SET_CHILD_SUBREAPER = 36  # prctl(2)
SHARED_MEMORY = Path("/dev/shm")
DESCRIPTORS = Path("/proc/self/fd")


def pytest_addoption(parser: pytest.Parser) -> None:
    """What can be longer than a usual run needs."""
    parser.addoption(
        "--camera-seconds",
        type=float,
        default=3.0,
        help="length of the recordings of simulated cameras; 20 for acceptance",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Adopt orphans, and name the one exception."""
    config.addinivalue_line(
        "markers",
        "keeps_descriptors: the test loads a library that keeps descriptors until the process ends",
    )
    config.addinivalue_line("markers", "slow: takes more than ten seconds")
    config.addinivalue_line("markers", "realtime: records as time goes by; set by folder and file")
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits for real recordings: .ci/run lets everything else run beside it."""
    for item in items:
        if item.path.relative_to(TESTS).as_posix().startswith(REALTIME):
            item.add_marker("realtime")


@dataclass(frozen=True, slots=True)
class Holdings:
    """What this process holds at one moment."""

    children: frozenset[int]
    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[str, str]]
    shared_memory: frozenset[str]

    @classmethod
    def now(cls) -> Holdings:
        """Look."""
        return cls(_children(), _threads(), _descriptors(), _shared_memory())

    def beyond(self, before: Holdings, *, descriptors: bool) -> list[str]:
        """What is here and was not before, one sentence each."""
        found = [f"process {_describe(pid)}" for pid in self.children - before.children]
        found += [f"thread {thread.name}" for thread in self.threads - before.threads]
        found += [f"{name} in /dev/shm" for name in self.shared_memory - before.shared_memory]
        if descriptors:
            new = self.descriptors - before.descriptors
            found += [f"descriptor {number} ({target})" for number, target in new]
        return found


@pytest.fixture(autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process, a non-daemon thread, a descriptor or shared memory."""
    before = Holdings.now()
    yield
    check = request.node.get_closest_marker("keeps_descriptors") is None
    deadline = time.monotonic() + LEAVE_S
    left = Holdings.now().beyond(before, descriptors=check)
    if left:
        gc.collect()  # a descriptor may hang on a cycle; that is no leak
    while (left := Holdings.now().beyond(before, descriptors=check)) and (
        time.monotonic() < deadline
    ):
        time.sleep(POLL_S)
    if left:
        pytest.fail("left behind: " + ", ".join(sorted(left)), pytrace=False)


def _children() -> frozenset[int]:
    """Live children; dead ones that nobody waited for are reaped."""
    if sys.platform != "linux":
        return frozenset(child.pid for child in psutil.Process().children())
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(int(pid) for pid in (task / "children").read_text().split())
        except OSError:
            continue  # the thread ended in this moment
    return frozenset(pid for pid in found if not _reaped(pid))


def _reaped(pid: int) -> bool:
    try:
        if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            return False
        os.waitpid(pid, os.WNOHANG)
    except (psutil.Error, ChildProcessError):
        pass
    return True


def _threads() -> frozenset[threading.Thread]:
    return frozenset(thread for thread in threading.enumerate() if not thread.daemon)


def _descriptors() -> frozenset[tuple[str, str]]:
    if not DESCRIPTORS.is_dir():
        return frozenset()
    found = set()
    for number in os.listdir(DESCRIPTORS):
        try:
            found.add((number, os.readlink(DESCRIPTORS / number)))
        except OSError:
            continue  # the directory's own
    return frozenset(found)


def _shared_memory() -> frozenset[str]:
    return frozenset(os.listdir(SHARED_MEMORY)) if SHARED_MEMORY.is_dir() else frozenset()


def _describe(pid: int) -> str:
    try:
        return f"{pid} ({' '.join(psutil.Process(pid).cmdline())})"
    except psutil.Error:
        return str(pid)
