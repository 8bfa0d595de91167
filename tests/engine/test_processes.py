"""Worker processes: what they inherit, how they are told apart, and how their ends are heard."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from engine import processes
from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from ipc.messages import OpenSource, Shutdown, SourceOpened, WorkerStatus
from ipc.ring import Ring

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="looks at POSIX processes")

AWAIT_S = 30.0
Inbox = queue.SimpleQueue  # of WorkerMessage and WorkerExit


@contextmanager
def started(role: str, ring: Ring) -> Iterator[tuple[WorkerProcess, Inbox[object]]]:
    """A worker that has been heard once, and is gone at the end."""
    inbox: Inbox[object] = Inbox()
    worker = WorkerProcess(role, ring.handles, inbox.put)
    try:
        inbox.get(timeout=AWAIT_S)
        yield worker, inbox
    finally:
        worker.kill()
        assert worker.wait(AWAIT_S)


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A ring without memory."""
    made = Ring.reserve()
    yield made
    made.close()


def last(inbox: Inbox[object]) -> WorkerExit:
    """The exit; everything before it is dropped."""
    while not isinstance(item := inbox.get(timeout=AWAIT_S), WorkerExit):
        pass
    return item


def test_a_pipe_reaches_its_own_worker_alone(ring: Ring) -> None:
    """Were an end of it open in a worker started later, its end of file would never come."""
    with started("encoder", ring) as (first, heard), started("capture", ring) as (second, _):
        first.channel.close()
        assert last(heard) == WorkerExit(first, 0)
        assert psutil.pid_exists(second.pid)
        assert second.channel.send_quietly(OpenSource(spec={"url": "synthetic"}, policy="drop"))


def test_a_worker_inherits_its_pipes_and_the_ring(ring: Ring) -> None:
    """And null for stdin, the log for stdout; nothing else of this process."""
    secret, other = os.pipe()
    os.set_inheritable(secret, True)  # as a careless library would
    with started("capture", ring) as (worker, _):
        folder = f"/proc/{worker.pid}/fd"
        targets = {number: os.readlink(f"{folder}/{number}") for number in os.listdir(folder)}
        mine = os.readlink(f"/proc/self/fd/{secret}")
    os.close(secret)
    os.close(other)
    assert targets["0"] == "/dev/null"
    assert targets["1"] == targets["2"]
    assert mine not in targets.values()
    assert sum("sealrec-ring" in target for target in targets.values()) == 1


def test_the_exit_is_heard_once_and_last(ring: Ring) -> None:
    """A killed worker's last words come before its end; the code is the signal's."""
    with started("capture", ring) as (worker, inbox):
        worker.kill()
        assert worker.wait(AWAIT_S)
        items = []
        while not inbox.empty():
            items.append(inbox.get())
        assert items[-1] == WorkerExit(worker, -signal.SIGKILL)
        assert all(isinstance(item, WorkerMessage) for item in items[:-1])
        worker.send(Shutdown())  # to nobody: no error
        worker.kill()


def test_a_worker_told_to_leave_leaves(ring: Ring) -> None:
    """With exit code 0, whatever it was doing."""
    with started("capture", ring) as (worker, inbox):
        spec = {"url": "synthetic", "width": 128, "height": 64}
        worker.send(OpenSource(spec=spec, policy="drop"))
        while not (
            isinstance(item := inbox.get(timeout=AWAIT_S), WorkerMessage)
            and isinstance(item.message, SourceOpened)
        ):
            pass
        worker.send(Shutdown())
        assert last(inbox).exit_code == 0


def test_capture_wins_over_the_encoder(ring: Ring) -> None:
    """The encoder is nicer, from its first instruction on; capture never is."""
    own = os.nice(0)
    encoder = WorkerProcess("encoder", ring.handles, lambda _: None)
    capture = WorkerProcess("capture", ring.handles, lambda _: None)
    try:
        assert psutil.Process(encoder.pid).nice() == min(own + 5, 19)
        assert psutil.Process(capture.pid).nice() == own
    finally:
        for worker in (encoder, capture):
            worker.kill()
            worker.wait(AWAIT_S)


def test_a_worker_has_a_session_of_its_own(ring: Ring) -> None:
    """Ctrl-C in a terminal reaches the supervisor alone, which stops in order."""
    with started("capture", ring) as (worker, _):
        assert os.getsid(worker.pid) == worker.pid != os.getsid(0)


def test_a_worker_measures_itself_and_nobody_else_can_debug_it(ring: Ring) -> None:
    """It sends heartbeats with its figures; its memory is not for others to dump."""
    with started("capture", ring) as (worker, inbox):
        item = inbox.get(timeout=AWAIT_S)
        assert isinstance(item, WorkerMessage)
        assert isinstance(item.message, WorkerStatus)
        assert item.message.pss_bytes > 1 << 20
        limits = psutil.Process(worker.pid).rlimit(psutil.RLIMIT_CORE)
        assert limits == (0, 0)


def test_a_process_that_cannot_be_had_leaves_nothing(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error passes on, and every pipe is closed again (tests/conftest.py)."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(processes.subprocess, "Popen", refuse)
    with pytest.raises(OSError, match="temporarily"):
        WorkerProcess("capture", ring.handles, lambda _: None)
    assert processes.subprocess is subprocess
