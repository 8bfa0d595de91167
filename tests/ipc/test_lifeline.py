"""A worker's tie to its supervisor: what it inherits, what it hears, how it learns of the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from ipc import lifeline
from ipc.channel import HEAD, Channel, encode
from ipc.lifeline import LIFELINE_LOST, Lifeline, SelfMeasure, WorkerArguments, worker_command
from ipc.messages import (
    BeginStream,
    EndStream,
    Failure,
    FromCapture,
    Hello,
    StreamEnded,
    ToCapture,
)
from ipc.ring import RingHandles

AWAIT_S = 20


@pytest.fixture
def ends() -> Iterator[tuple[Channel[Any], Lifeline]]:
    """A supervisor's channel and a worker's lifeline, joined by pipes in this process."""
    down_read, down_write = os.pipe()
    up_read, up_write = os.pipe()
    supervisor = Channel[Any](up_read, down_write, FromCapture)
    supervisor.greet("engine", "")
    worker = Lifeline(WorkerArguments(down_read, up_write, None), role="capture", accepts=ToCapture)
    assert supervisor.receive_hello().role == "capture"
    yield supervisor, worker
    supervisor.close()
    assert worker.lost.wait(AWAIT_S)
    worker.channel.close()
    worker.channel.close_read()
    supervisor.close_read()


def test_orders_arrive_in_order(ends: tuple[Channel[Any], Lifeline]) -> None:
    """The inbox holds what was sent, and waiting for nothing ends."""
    supervisor, worker = ends
    supervisor.send(BeginStream(max_frames=3))
    supervisor.send(EndStream())
    assert worker.next(AWAIT_S) == BeginStream(max_frames=3)
    assert worker.next(AWAIT_S) == EndStream()
    assert worker.next(0) is None
    assert worker.next(0.01) is None


def test_the_pipes_end_is_the_last_thing_heard(ends: tuple[Channel[Any], Lifeline]) -> None:
    """Everything said before arrives first; then the lifeline is lost, once."""
    supervisor, worker = ends
    supervisor.send(BeginStream())
    supervisor.close()
    assert worker.next(AWAIT_S) == BeginStream()
    assert worker.next(AWAIT_S) is LIFELINE_LOST
    assert worker.lost.is_set()
    assert worker.next(0) is None


def test_an_order_that_makes_no_sense_is_answered(ends: tuple[Channel[Any], Lifeline]) -> None:
    """The supervisor hears what was wrong; the worker goes on."""
    supervisor, worker = ends
    supervisor.send(StreamEnded(reason="this way round"))
    supervisor.send(EndStream())
    failure = supervisor.receive()
    assert isinstance(failure, Failure)
    assert failure.code == "protocol"
    assert worker.next(AWAIT_S) == EndStream()


def test_a_stream_that_cannot_be_framed_is_the_end() -> None:
    """Nothing after it can be understood, so the worker must not go on by itself."""
    read, write = os.pipe()
    worker = Lifeline(WorkerArguments(read, os.dup(2), None), role="capture", accepts=ToCapture)
    os.write(write, encode(Hello(major=1)) + HEAD.pack(2**32 - 1) + b"x" * 100)
    assert worker.next(AWAIT_S) is LIFELINE_LOST
    worker.channel.close()
    worker.channel.close_read()
    os.close(write)


@pytest.mark.parametrize("ring", [None, RingHandles(7, 8, 9)])
def test_arguments_survive_the_command_line(ring: RingHandles | None) -> None:
    """What the engine writes, the worker reads: numbers of descriptors and nothing else."""
    arguments = WorkerArguments(5, 6, ring)
    python, isolated, *module, first, second, third, fourth = worker_command("m", arguments)[:8]
    assert (python, isolated, module) == (sys.executable, "-P", ["-m", "m"])
    assert (first, second, third, fourth) == ("--read", "5", "--write", "6")
    assert WorkerArguments.parse(worker_command("m", arguments)[4:]) == arguments


def test_a_worker_measures_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are this process's own; its memory is walked once a minute, not at each heartbeat."""
    walks: list[bool] = []
    measured, now = lifeline.osdep.own_memory, 1000.0

    def own(known: lifeline.osdep.OwnMemory | None = None) -> lifeline.osdep.OwnMemory:
        walks.append(known is None)
        return measured(known)

    monkeypatch.setattr(lifeline.osdep, "own_memory", own)
    monkeypatch.setattr(lifeline.time, "monotonic", lambda: now)
    measure = SelfMeasure()
    first = measure.status({"published": 3})
    assert first.detail == {"published": 3}
    assert first.threads == threading.active_count()
    assert first.pss_bytes > first.private_bytes > 1 << 20
    assert first.descriptors >= 3
    assert measure.status({}).cpu_s >= first.cpu_s
    assert walks == [True]
    for later in range(72):
        now = 1000.5 + later
        measure.status({})
    assert walks == [True, True, *[False] * 10, True]


SUPERVISOR = """
import os, subprocess, sys, time
from ipc.lifeline import WorkerArguments, worker_command
down, up = os.pipe(), os.pipe()
worker = [sys.executable, "-P", "-c", sys.argv[1], "--read", str(down[0]), "--write", str(up[1])]
subprocess.Popen(worker, pass_fds=[down[0], up[1]])
time.sleep(600)
"""
WORKER = """
import os, sys
from ipc.lifeline import LIFELINE_LOST, Lifeline, WorkerArguments
from ipc.messages import ToCapture
line = Lifeline(WorkerArguments.parse(sys.argv[1:]), role="capture", accepts=ToCapture)
os.write(1, b"tied\\n")
assert line.next(None) is LIFELINE_LOST
os.write(1, b"lost\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="pass_fds and SIGKILL")
def test_a_killed_supervisor_is_noticed() -> None:
    """Nobody has to say anything: SIGKILL of the supervisor closes the pipe."""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", SUPERVISOR, WORKER], stdout=subprocess.PIPE, text=True
    )
    assert supervisor.stdout is not None
    assert supervisor.stdout.readline() == "tied\n"
    supervisor.send_signal(signal.SIGKILL)
    assert supervisor.stdout.read() == "lost\n"
    supervisor.stdout.close()
    supervisor.wait()
