"""Which frames make up a fragment, and when it closes (design: Encoder). No clock, no I/O.

A fragment begins with a key frame. It closes when it holds a whole GOP, spans 0.8 s of media time
or is 0.8 s old; the caller closes it too when no frame came for 0.25 s. An encoder may hold one
frame back, so frames wait here until their sample comes out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from engine.container.tables import FrameRow
from ipc.errors import EncoderError
from ipc.frame import FrameFlags, FrameStamp
from workers.codecs.spec import Sample
from workers.timeline import TICKS_PER_S

__all__ = ["FRAGMENT_S", "IDLE_CLOSE_S", "Assembly", "FragmentAssembler"]

FRAGMENT_S = 0.8
IDLE_CLOSE_S = 0.25
FRAGMENT_TICKS = round(FRAGMENT_S * TICKS_PER_S)
FRAGMENT_NS = round(FRAGMENT_S * 1e9)


@dataclass(frozen=True, slots=True)
class Assembly:
    """The frames of one closed fragment, in order, and their samples."""

    rows: tuple[FrameRow, ...]
    samples: tuple[Sample, ...]


class FragmentAssembler:
    """Collects samples until a fragment is complete.

    Args:
        gop_frames: Frames of a whole GOP.
    """

    def __init__(self, gop_frames: int) -> None:
        self._gop_frames = gop_frames
        self._waiting: deque[tuple[int, FrameStamp, int]] = deque()
        self._rows: list[FrameRow] = []
        self._samples: list[Sample] = []
        self._closed: deque[Assembly] = deque()
        self._fed = 0
        self._first_pts = 0
        self._began_ns = 0

    @property
    def empty(self) -> bool:
        """No frame is waiting for its fragment to close."""
        return not self._rows and not self._waiting

    @property
    def frames(self) -> int:
        """Frames in the open fragment, including one that the encoder holds back."""
        return len(self._rows) + len(self._waiting)

    def wants_key(self) -> bool:
        """Whether the next frame begins a fragment, so it must be a key frame."""
        return self._fed == 0

    def add(self, seq: int, stamp: FrameStamp, pts: int, now_ns: int) -> None:
        """Note a frame that was given to the encoder."""
        if self._fed == 0:
            self._first_pts, self._began_ns = pts, now_ns
        self._fed += 1
        self._waiting.append((seq, stamp, pts))

    def drop_last(self) -> None:
        """Forget the frame added last: the encoder refused it."""
        self._waiting.pop()
        self._fed -= 1

    def take(self, samples: Iterable[Sample]) -> None:
        """Match samples that came out with the frames that went in, in order.

        Raises:
            EncoderError: a sample that belongs to no frame, or a fragment without a key frame.
        """
        for sample in samples:
            if not self._waiting or self._waiting[0][2] != sample.pts:
                raise EncoderError(f"The encoder gave a sample of pts {sample.pts} out of order.")
            if sample.key and self._rows:
                self._close_open()
            if not sample.key and not self._rows:
                raise EncoderError("The encoder began a fragment without a key frame.")
            self._put(sample)

    def _put(self, sample: Sample) -> None:
        seq, stamp, pts = self._waiting.popleft()
        flags = stamp.flags | (FrameFlags.KEY_FRAME if sample.key else 0)
        self._rows.append(
            FrameRow(
                seq, stamp.epoch, stamp.frame_id, stamp.camera_ns, stamp.host_ns, pts, int(flags)
            )
        )
        self._samples.append(sample)

    def complete(self, pts: int, now_ns: int) -> bool:
        """Whether the fragment should take no frame after the one of ``pts``."""
        if self._fed == 0:
            return False
        return (
            self._fed >= self._gop_frames
            or pts - self._first_pts >= FRAGMENT_TICKS
            or now_ns - self._began_ns >= FRAGMENT_NS
        )

    def close(self) -> None:
        """End the fragment: the next frame begins a new one, with a key frame."""
        self._fed = 0
        if not self._waiting:
            self._close_open()

    def _close_open(self) -> None:
        if self._rows:
            self._closed.append(Assembly(tuple(self._rows), tuple(self._samples)))
            self._rows, self._samples = [], []

    def next_closed(self) -> Assembly | None:
        """The oldest closed fragment, or None."""
        return self._closed.popleft() if self._closed else None

    def give_up_waiting(self) -> list[FrameStamp]:
        """Give up the frames whose samples will not come; returns their stamps."""
        given_up = [stamp for _, stamp, _ in self._waiting]
        self._waiting.clear()
        return given_up

    def abandon(self) -> list[FrameStamp]:
        """Give up everything not yet handed out; returns the stamps of those frames."""
        given_up = [_stamp(row) for closed in self._closed for row in closed.rows]
        given_up += [_stamp(row) for row in self._rows]
        given_up += [stamp for _, stamp, _ in self._waiting]
        self.__init__(self._gop_frames)  # type: ignore[misc]
        return given_up


def _stamp(row: FrameRow) -> FrameStamp:
    return FrameStamp(row.epoch, row.frame_id, row.camera_ns, row.host_ns)
