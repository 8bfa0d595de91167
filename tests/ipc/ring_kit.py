"""What the ring's tests share: small rings, frames that show where they come from, exact moments.

A frame's bytes all have the value ``shade(seq)``, so that a picture made of two frames shows.
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np

from ipc import ring_layout, ring_memory, ring_reader, ring_writer
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat
from ipc.ring import Ring, RingFrame, RingReader, RingWriter

WIDTH_PX, HEIGHT_PX = 16, 4
FRAME_BYTES = WIDTH_PX * HEIGHT_PX
SHAPE: dict[str, Any] = {
    "width_px": WIDTH_PX,
    "height_px": HEIGHT_PX,
    "pixel_format": PixelFormat.MONO8,
}


@contextmanager
def small_ring(slots: int = 4, *, table: int = 64, losses: int = 64) -> Iterator[Ring]:
    """A ring of a few small slots, closed at the end."""
    ring = Ring.reserve()
    try:
        ring.allocate(slots=slots, slot_bytes=FRAME_BYTES, table_entries=table, loss_entries=losses)
        yield ring
    finally:
        ring.close()


def shade(seq: int) -> int:
    """The value of every byte of a frame."""
    return (seq * 37 + 11) % 256


def stamp_of(seq: int, epoch: int = 1) -> FrameStamp:
    """A stamp from which the sequence number can be told: camera ids begin at 1000."""
    return FrameStamp(epoch, 1000 + seq, 7_000_000 + seq, 9_000_000 + seq)


def publish(writer: RingWriter, seq: int, epoch: int = 1) -> bool:
    """Publish the frame that belongs to a sequence number; False when the ring is full."""
    slot = writer.acquire(stamp_of(seq, epoch), **SHAPE)
    if slot is None:
        return False
    slot[:] = shade(seq)
    assert writer.publish() == seq
    return True


def check_frame(frame: RingFrame) -> None:
    """Assert that pixels, stamp and sequence number belong together."""
    assert frame.stamp.frame_id == 1000 + frame.seq
    assert np.all(frame.pixels == shade(frame.seq)), f"frame {frame.seq} is torn"


def drain(reader: RingReader) -> list[int]:
    """Read, check and release all that is there; the sequence numbers read."""
    seqs = []
    while (frame := reader.read()) is not None:
        check_frame(frame)
        seqs.append(frame.seq)
        reader.release(frame.seq)
    return seqs


def seqs_of(losses: list[Loss]) -> list[int]:
    """Sequence numbers of the frames that rows of class encoder_lost name."""
    seqs = []
    for loss in losses:
        if loss.loss_class is LossClass.ENCODER_LOST:
            assert loss.first_id is not None
            assert loss.last_id is not None
            seqs += [frame_id - 1000 for frame_id in range(loss.first_id, loss.last_id + 1)]
    return seqs


RING_FILES = {module.__file__ for module in (ring_layout, ring_memory, ring_reader, ring_writer)}

# Shared memory is touched by subscripts and by calls (struct, numpy, system). What happens between
# two of them is private to a process, so these are all the moments that differ.
SUBSCRIPTS = {"BINARY_SUBSCR", "STORE_SUBSCR", "BINARY_SLICE", "STORE_SLICE"}
CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}
TOUCHING = {
    dis.opmap[name]
    for name in (SUBSCRIPTS | CALLS if "BINARY_SUBSCR" in dis.opmap else CALLS | {"BINARY_OP"})
    if name in dis.opmap
}


@contextmanager
def on_instruction(action: Callable[[int], None]) -> Iterator[None]:
    """Call ``action`` before each instruction of the ring that may touch shared memory.

    Its argument counts them from 1. What ``action`` itself runs is not counted; an exception from
    it ends the ring's call there, as a SIGKILL would.
    """
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if event == "call":
            if frame.f_code.co_filename not in RING_FILES:
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode" and frame.f_code.co_code[frame.f_lasti] in TOUCHING:
            count += 1
            action(count)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class Killed(BaseException):
    """Ends a call at an instruction; nothing in the ring may catch it."""


def kill_at(count: int) -> Callable[[int], None]:
    """An action for ``on_instruction`` that ends the call before the ``count``-th instruction."""

    def action(executed: int) -> None:
        if executed == count:
            raise Killed

    return action


def interleave(first: Callable[[], None], second: Callable[[], None], turns: list[int]) -> None:
    """Run two lives in two threads, only one at a time.

    Args:
        first: Begins.
        second: Goes on when the first has had its turn.
        turns: Instructions of each turn, the first's and the second's alternating; after the last
            turn, or when one has ended, the other runs to its end.
    """
    lives = (first, second)
    go = [threading.Semaphore(1), threading.Semaphore(0)]
    ended = [False, False]
    limits = iter(turns)
    left = [next(limits, -1)]

    def live(side: int) -> None:
        other = 1 - side

        def action(_: int) -> None:
            if left[0] == 0 and not ended[other]:
                left[0] = next(limits, -1)
                go[other].release()
                go[side].acquire()
            left[0] -= 1

        go[side].acquire()
        try:
            with on_instruction(action):
                lives[side]()
        finally:
            ended[side] = True
            go[other].release()

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(live, side) for side in (0, 1)]:
            done.result()
