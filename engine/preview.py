"""The live view: the newest frame from the ring, for a screen, at any rate.

    with recorder.live_view() as view:
        frame = view.wait_frame(1.0, scale=0.5)
        if frame is not None:
            show(frame.pixels)          # (height, width, 3) uint8, red first

It looks at the ring's memory and stores nothing there, so neither capture nor encoder can notice
it, however slow it is (RING.md, "Observer"). It shows what was published: while a full ring
refuses frames the picture stands still, and the status says ``ring_full``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from ipc.errors import WrongState
from ipc.frame import FrameStamp, PixelFormat
from ipc.ring_observer import ATTEMPTS, ObservedView, RingObserver

if TYPE_CHECKING:
    from types import TracebackType

    from ipc.ring_memory import Pixels

__all__ = ["LiveFrame", "LiveStatistics", "LiveView", "OneRing", "Rings"]

# Nothing wakes an observer: an event that it took would be missing to the encoder.
POLL_S = 0.004
RATE_OVER_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class LiveFrame:
    """A copy of one frame.

    Attributes:
        seq: Its sequence number in the ring.
        stamp: Epoch, frame id, camera and host time, flags.
        pixels: (height, width, 3) uint8, red first; or the camera's own layout.
        pixel_format: ``rgb8``, or the camera's own.
    """

    seq: int
    stamp: FrameStamp
    pixels: Pixels
    pixel_format: PixelFormat

    @property
    def frame_id(self) -> int:
        """The camera's own id."""
        return self.stamp.frame_id

    @property
    def camera_ns(self) -> int:
        """Start of exposure on the camera's clock."""
        return self.stamp.camera_ns

    @property
    def host_ns(self) -> int:
        """``time.perf_counter_ns()`` at arrival."""
        return self.stamp.host_ns

    @property
    def age_s(self) -> float:
        """Time since it arrived."""
        return (time.perf_counter_ns() - self.stamp.host_ns) / 1e9


@dataclass(frozen=True, slots=True)
class LiveStatistics:
    """What a view has shown so far.

    Attributes:
        frames_seen: Different frames given out.
        frames_passed: Published between two of them and not shown, as it is meant.
        lapped: Copies thrown away because the writer came round meanwhile.
        rings: Rings it has looked at; each camera size is another one.
        fps: Frames given out in the last second.
    """

    frames_seen: int = 0
    frames_passed: int = 0
    lapped: int = 0
    rings: int = 0
    fps: float = 0.0


class Rings(Protocol):
    """Where a view gets its ring from."""

    def using(self) -> AbstractContextManager[RingObserver | None]:
        """The ring of now, which stays open within; None when there is none."""

    @property
    def state(self) -> str:
        """``live``, or why there is no ring."""

    def raise_if_over(self) -> None:
        """Raise what says that no frame will ever come."""

    def close(self) -> None:
        """Let go; never fails, may be called again."""


class OneRing:
    """One ring, of whose memory this process was given a handle; the handle stays open.

    Raises:
        ProtocolError, UnknownVersion, MemoryRefused: see `RingObserver.of_memory`.
    """

    def __init__(self, handle: int) -> None:
        self._observer: RingObserver | None = RingObserver.of_memory(handle)

    def using(self) -> AbstractContextManager[RingObserver | None]:
        """It."""
        return nullcontext(self._observer)

    @property
    def state(self) -> str:
        """``live`` until it is closed."""
        return "live" if self._observer is not None else "closed"

    def raise_if_over(self) -> None:
        """Nothing tells that a ring's writer will not come back."""

    def close(self) -> None:
        """Let go; never fails, may be called again."""
        observer, self._observer = self._observer, None
        if observer is not None:
            observer.close()


class LiveView:
    """The newest frame of an engine; any number of views, of which each is used by one thread.

    Args:
        rings: Where its ring comes from; `Recorder.live_view` makes a view that follows an engine.

    Colours are OpenCV's work, with as many threads as ``cv2.setNumThreads`` says: one is cheapest.
    """

    def __init__(self, rings: Rings) -> None:
        self._rings = rings
        self._ring: RingObserver | None = None
        self._closed = False
        self._seq = -1
        self._counts = LiveStatistics()
        self._shown: list[float] = []

    def __enter__(self) -> LiveView:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def state(self) -> str:
        """``live``; or why there is no picture: ``no_camera``, ``no_engine``, ``closed``."""
        return "closed" if self._closed else self._rings.state

    def latest(
        self, out: Pixels | None = None, *, scale: float = 1.0, rgb: bool = True
    ) -> LiveFrame | None:
        """Copy the newest frame; never waits.

        Args:
            out: Where to write the picture to, if it has its shape; otherwise an array is made.
            scale: Of width and height, above 0 and at most 1.
            rgb: False gives the camera's own pixels, at scale 1.

        Returns:
            It, also if it was given before; None when there is none, and `state` says why.

        Raises:
            ConfigError: no such scale.
            ProtocolError: the ring is damaged.
            WrongState: the view is closed.
        """
        return self._newest(out, scale if rgb else None)

    def wait_frame(
        self,
        timeout_s: float,
        out: Pixels | None = None,
        *,
        scale: float = 1.0,
        rgb: bool = True,
    ) -> LiveFrame | None:
        """Wait for a frame that is newer than any given before; arguments as of `latest`.

        Returns:
            The newest one; None when none came in time.

        Raises:
            EngineDied, ChannelClosed: the engine is gone, and none will come.
            ConfigError, ProtocolError, WrongState: as of `latest`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            frame = self._newest(out, scale if rgb else None, newer=True)
            if frame is not None:
                return frame
            self._rings.raise_if_over()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(POLL_S, left))

    @contextmanager
    def peek(self) -> Iterator[ObservedView | None]:
        """Look at the newest frame where it lies, without a copy; None when there is none.

        Its ``pixels`` are read-only and the camera's own; after using them ``valid`` tells whether
        they still were this frame's. Usually the writer comes round after seconds.
        """
        with self._using() as observer:
            view = None if observer is None else observer.peek()
        yield view

    def statistics(self) -> LiveStatistics:
        """What was shown so far."""
        self._forget_old(time.monotonic())
        return replace(self._counts, fps=len(self._shown) / RATE_OVER_S)

    def close(self) -> None:
        """Let go of the ring; never fails, may be called again. Peeked pixels stay readable."""
        self._closed, self._ring = True, None
        self._rings.close()

    @contextmanager
    def _using(self) -> Iterator[RingObserver | None]:
        if self._closed:
            raise WrongState("This live view is closed.")
        with self._rings.using() as observer:
            if observer is not self._ring:
                self._ring, self._seq = observer, -1
                if observer is not None:
                    self._counts = replace(self._counts, rings=self._counts.rings + 1)
            yield observer

    def _newest(
        self, out: Pixels | None, scale: float | None, *, newer: bool = False
    ) -> LiveFrame | None:
        """Copy or render the newest frame; ``scale`` None: the camera's own pixels."""
        with self._using() as observer:
            if observer is None:
                return None
            for _ in range(ATTEMPTS):
                # Another ring counts from 0, and so does `_seq` then.
                view = observer.peek(after_seq=self._seq if newer else -1)
                if view is None:
                    return None
                frame = _taken(view, out, scale)
                if view.valid:
                    self._count(view.seq)
                    return frame
                self._counts = replace(self._counts, lapped=self._counts.lapped + 1)
        return None

    def _count(self, seq: int) -> None:
        passed = seq - self._seq - 1
        if passed < 0:
            return  # the same again
        if self._seq < 0:
            passed = 0
        self._seq = seq
        now = time.monotonic()
        self._shown.append(now)
        self._forget_old(now)
        seen, gone = self._counts.frames_seen + 1, self._counts.frames_passed + passed
        self._counts = replace(self._counts, frames_seen=seen, frames_passed=gone)

    def _forget_old(self, now: float) -> None:
        while self._shown and self._shown[0] < now - RATE_OVER_S:
            self._shown.pop(0)


def _taken(view: ObservedView, out: Pixels | None, scale: float | None) -> LiveFrame:
    if scale is None:
        import numpy as np

        fits = out is not None and out.shape == view.pixels.shape and out.dtype == np.uint8
        pixels = out if out is not None and fits else np.empty_like(view.pixels)
        np.copyto(pixels, view.pixels)
        return LiveFrame(view.seq, view.stamp, pixels, view.pixel_format)
    from engine.rendering import render

    pixels = render(view.pixels, view.pixel_format, scale=scale, out=out)
    return LiveFrame(view.seq, view.stamp, pixels, PixelFormat.RGB8)
