"""Between recordings: the encoder reads the ring, keeps its newest frames there, records nothing.

So a recording can begin with the frames that arrived before it was asked for. Frames and losses
that are let go belong to no recording; they are committed, so that no successor names them
(RING.md, "Writer"). Not the encoder's loop: that calls `turn`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ipc.frame import Loss
from ipc.messages import StandBy
from ipc.ring import RingFrame, RingReader

__all__ = ["Beginning", "Standby"]


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where in the ring a recording begins, and what of it is there already.

    Attributes:
        frames: Frames already read, in order; not released.
        losses: Losses since then.
        first_seq: Sequence number of its first frame, there or to come.
        lost_before: Frames in all losses of the ring before those.
    """

    frames: deque[RingFrame]
    losses: list[Loss]
    first_seq: int
    lost_before: int


class Standby:
    """The newest frames and losses of a ring, held.

    Args:
        ring: Resumed.
        order: How long, and how many.
        frames: Read already, and in no recording.
    """

    def __init__(self, ring: RingReader, order: StandBy, frames: Iterable[RingFrame] = ()) -> None:
        self._ring = ring
        self._hold_ns = round(order.hold_s * 1e9)
        self._hold_frames = order.hold_frames
        self._frames = deque(frames)
        self._losses: deque[Loss] = deque()  # the newest of the log, up to its cursor

    def turn(self, *, may_let_go: bool) -> bool:
        """Read what is there and let go of what is too old; True if anything was read.

        Args:
            may_let_go: Nothing before these frames waits to become durable: a commit covers all
                frames below.
        """
        read = self._read()
        if may_let_go:
            self._let_go(time.perf_counter_ns() - self._hold_ns)
            if not self._frames:
                self._give_back(self._ring.position - 1)  # also frames found overwritten
        return read

    def begin(self, since_ns: int) -> Beginning:
        """End standing by: give out what arrived at ``since_ns`` or later."""
        self._read()
        self._hold_frames = len(self._frames)
        self._let_go(since_ns)
        ring, frames = self._ring, self._frames
        first_seq = frames[0].seq if frames else ring.position
        cursor = ring.loss_cursor - len(self._losses)
        return Beginning(frames, list(self._losses), first_seq, ring.lost_through(cursor))

    def _read(self) -> bool:
        found = False
        while (frame := self._ring.read()) is not None:
            self._frames.append(frame)
            found = True
        before = self._ring.loss_cursor
        losses = self._ring.read_losses(self._ring.losses_before(self._ring.position))
        # Frames found overwritten come first; they are in no log and in no recording.
        logged = self._ring.loss_cursor - before
        self._losses += losses[len(losses) - logged :]
        return found

    def _let_go(self, before_ns: int) -> None:
        frames, released = self._frames, -1
        while frames and (frames[0].stamp.host_ns < before_ns or len(frames) > self._hold_frames):
            frame = frames.popleft()
            released = frame.seq
            before_ns = max(before_ns, frame.stamp.host_ns + 1)  # with what was lost before it
        self._give_back(released)
        losses = self._losses
        while losses and losses[0].last_host_ns < before_ns:
            losses.popleft()
        self._ring.commit_losses(self._ring.loss_cursor - len(losses))

    def _give_back(self, through_seq: int) -> None:
        if through_seq >= 0:
            self._ring.release(through_seq)
            self._ring.commit(through_seq)
