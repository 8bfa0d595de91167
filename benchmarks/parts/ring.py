"""The frame ring: bytes moved between processes, and how soon a waiting reader runs.

``memcpy`` is the limit: the same frames copied into as many buffers of one process, nobody told.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.parts.rounds import Contest, interleave, percentile, rate_mb_s
from benchmarks.parts.transports import SLOTS, SPAWN, Bytes, Receiver, Sender, available

__all__ = ["MEMCPY", "PIPE", "measure"]

MEMCPY = "memcpy"
PIPE = "pipe"
MESSAGE_BYTES = 4096
PERIOD_S = 0.005
WARM_UP = 2 * SLOTS  # the first round faults the pages in
HEAD_BYTES = 16
START_S = 60.0


def measure(frame_bytes: int, frames: int, wake_ups: int, rounds: int) -> list[Contest]:
    """Throughput in MB/s, wake-up in microseconds: median and 99th percentile of each round."""
    senders, missing = available()
    moving: dict[str, Callable[[], float]] = {
        name: partial(_move, sender, frame_bytes, frames) for name, sender in senders.items()
    }
    moving[MEMCPY] = partial(_copy, frame_bytes, frames)
    waking = {name: partial(_wake, sender, wake_ups) for name, sender in senders.items()}
    moved = interleave(moving, rounds)
    woken = interleave(waking, rounds)
    halves = {n: tuple(percentile(times, 50) for times in got) for n, got in woken.items()}
    slowest = {n: tuple(percentile(times, 99) for times in got) for n, got in woken.items()}
    size = f"{frame_bytes / 1e6:.1f} MB frames"
    return [
        Contest("ring", f"bytes moved, {size}", "MB/s", moved, missing),
        Contest("ring", "wake-up, median", "us", halves, missing),
        Contest("ring", "wake-up, p99", "us", slowest, missing),
    ]


def _move(sender: Callable[[int], Sender], frame_bytes: int, frames: int) -> float:
    """MB/s of frames sent one after the other, from the first until the last was received."""
    took_s, _ = _exchange(sender, frame_bytes, frames, period_s=0.0)
    return rate_mb_s(frames * frame_bytes, took_s)


def _wake(sender: Callable[[int], Sender], wake_ups: int) -> list[float]:
    """Microseconds from before a small message's sending until its receiver has it."""
    _, times_ns = _exchange(sender, MESSAGE_BYTES, wake_ups, period_s=PERIOD_S)
    return [ns / 1e3 for ns in times_ns]


def _copy(frame_bytes: int, frames: int) -> float:
    source = np.ones(frame_bytes, np.uint8)
    targets = [np.ones(frame_bytes, np.uint8) for _ in range(SLOTS)]
    began = time.perf_counter()
    for number in range(frames):
        targets[number % SLOTS][:] = source
    return rate_mb_s(frames * frame_bytes, time.perf_counter() - began)


def _exchange(
    kind: Callable[[int], Sender], frame_bytes: int, frames: int, *, period_s: float
) -> tuple[float, list[int]]:
    """Send frames to another process; returns how long it took and each one's time on the way."""
    sender = kind(frame_bytes)
    here, there = SPAWN.Pipe()
    process = SPAWN.Process(target=_receive, args=(sender.receiver(), WARM_UP + frames, there))
    try:
        process.start()
        _expect(here)
        frame = np.ones(frame_bytes, np.uint8)
        for number in range(WARM_UP):
            _send(sender, frame, number)
        _expect(here)
        began = time.perf_counter()
        for number in range(WARM_UP, WARM_UP + frames):
            if period_s:
                time.sleep(period_s)
            _send(sender, frame, number)
        times_ns: list[int] = _expect(here)
        took_s = time.perf_counter() - began
        process.join()
    finally:
        if process.is_alive():
            process.kill()
            process.join()
        here.close()
        there.close()
        sender.close()
    return took_s, times_ns


def _send(sender: Sender, frame: Bytes, number: int) -> None:
    frame[:HEAD_BYTES].view(np.int64)[:] = (number, time.perf_counter_ns())
    sender.send(frame)


def _receive(receiver: Receiver, frames: int, told: Connection) -> None:
    """Of the other process: receive frames, see that none is missing."""
    receiver.open()
    told.send("ready")
    times_ns = []
    for expected in range(frames):
        data = receiver.receive()
        now_ns = time.perf_counter_ns()
        number, sent_ns = np.frombuffer(data, np.int64, 2)
        if number != expected:
            raise SystemExit(f"frame {number} came instead of {expected}")
        times_ns.append(now_ns - int(sent_ns))
        if expected == WARM_UP - 1:
            told.send("warm")
    told.send(times_ns[WARM_UP:])
    receiver.close()


def _expect(told: Connection) -> list[int]:
    if not told.poll(START_S):
        raise SystemExit("A receiver does not answer.")
    answer: list[int] = told.recv()
    return answer
