"""The capture process: one source, one ring, and the account of what never reached the ring.

    opening -> open -> streaming -> ended
         `-- any --> ended on EndStream, on the source's own end, or when the lifeline is lost

The sink here is the only place where epochs begin and gaps between ids are found, whatever the
source. It is not the ledger: it names losses in the ring's loss log and counts nothing.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy.typing as npt

from ipc import logs, osdep
from ipc.errors import SealrecError
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat
from ipc.lifeline import LIFELINE_LOST, Lifeline, SelfMeasure, WorkerArguments
from ipc.messages import (
    BeginStream,
    EndStream,
    Failure,
    OpenSource,
    Shutdown,
    SourceOpened,
    StreamEnded,
    ToCapture,
    WorkerStatus,
)
from ipc.ring import RingWriter
from workers.sources.source import Source, SourceInfo, SourceSpec, open_source

__all__ = ["RingSink", "main"]

HEARTBEAT_S = 0.2
STOP_WAIT_S = 3.0
BLOCK_SLICE_S = 0.1
CRASHED = 70


class RingSink:
    """Puts a source's frames into the ring and names every one that does not get there.

    Args:
        ring: The ring's writer.
        rate_hz: Nominal frame rate, to tell a gap of time from a frame period.
        policy: ``drop`` refuses a frame when the ring is full, ``block`` waits for room.
        stop: Ends a wait for room; set here once ``max_frames`` have been offered.
        max_frames: End after so many frames, lost ones counted; None: no limit.
    """

    def __init__(
        self,
        ring: RingWriter,
        *,
        rate_hz: float,
        policy: str,
        stop: threading.Event,
        max_frames: int | None = None,
    ) -> None:
        self._ring = ring
        self._period_ns = int(1e9 / rate_hz)
        self._block = policy == "block"
        self._stop = stop
        self._left = max_frames
        self.limit_reached = False
        self._epoch: int | None = None
        self._last_id = -1
        self._last_camera_ns = -1
        self._last_host_ns = 0

    def acquire(
        self,
        frame_id: int,
        camera_ns: int,
        *,
        width_px: int,
        height_px: int,
        pixel_format: PixelFormat,
    ) -> npt.NDArray[Any] | None:
        """See `workers.sources.source.FrameSink.acquire`."""
        if self.limit_reached:
            return None
        stamp = self._arrive(frame_id, camera_ns)
        view = None
        while view is None:
            view = self._ring.acquire(
                stamp,
                width_px=width_px,
                height_px=height_px,
                pixel_format=pixel_format,
                timeout_s=BLOCK_SLICE_S if self._block else 0,
            )
            if view is None and (not self._block or self._stop.is_set()):
                self._lose(LossClass.RING_FULL, stamp)
                self._offered(1)
                return None
        return view

    def publish(self) -> None:
        """See `workers.sources.source.FrameSink.publish`."""
        self._ring.publish()
        self._offered(1)

    def incomplete(self, frame_id: int, camera_ns: int) -> None:
        """See `workers.sources.source.FrameSink.incomplete`."""
        if not self.limit_reached:
            self._lose(LossClass.INCOMPLETE, self._arrive(frame_id, camera_ns))
            self._offered(1)

    def missed(self, first_id: int, last_id: int) -> None:
        """See `workers.sources.source.FrameSink.missed`."""
        now = time.perf_counter_ns()
        if self._epoch is None:
            self._begin_epoch(now)
        self._gap(first_id, last_id, self._last_host_ns or now, now)
        self._last_id, self._last_host_ns = last_id, now

    def _arrive(self, frame_id: int, camera_ns: int) -> FrameStamp:
        """Begin an epoch where ids or clock step back, and name the ids that were skipped."""
        now = time.perf_counter_ns()
        if self._epoch is None or frame_id <= self._last_id:
            self._begin_epoch(now)
        elif camera_ns <= self._last_camera_ns:
            self._epoch = self._ring.begin_epoch()  # the ids go on, so a gap in them is still known
        if 0 <= self._last_id < frame_id - 1:
            self._gap(self._last_id + 1, frame_id - 1, self._last_host_ns, now)
        self._last_id, self._last_camera_ns, self._last_host_ns = frame_id, camera_ns, now
        assert self._epoch is not None
        return FrameStamp(self._epoch, frame_id, camera_ns, now)

    def _begin_epoch(self, now: int) -> None:
        """Begin an epoch with new ids; what passed since the last frame is a gap of unknown ids."""
        last = self._ring.last_stamp
        self._epoch = self._ring.begin_epoch()
        if last is not None and now - last.host_ns > 2 * self._period_ns:
            self._ring.record_loss(
                Loss(LossClass.CAMERA_GAP, self._epoch, None, None, last.host_ns, now)
            )
        self._last_id = self._last_camera_ns = -1

    def _gap(self, first_id: int, last_id: int, since_ns: int, now: int) -> None:
        assert self._epoch is not None
        self._ring.record_loss(
            Loss(LossClass.CAMERA_GAP, self._epoch, first_id, last_id, since_ns, now)
        )
        self._offered(last_id - first_id + 1)

    def _lose(self, loss_class: LossClass, stamp: FrameStamp) -> None:
        self._ring.record_loss(Loss.of(stamp, loss_class))

    def _offered(self, frames: int) -> None:
        if self._left is not None:
            self._left -= frames
            if self._left <= 0:
                self.limit_reached = True
                self._stop.set()


class _Capture:
    """One run of the process: what the supervisor asked for, and the thread that streams."""

    def __init__(self, lifeline: Lifeline, arguments: WorkerArguments) -> None:
        self._lifeline = lifeline
        self._ring: RingWriter | None = None
        self._arguments = arguments
        self._source: Source | None = None
        self._info: SourceInfo | None = None
        self._policy = "drop"
        self._stop = threading.Event()
        self._streaming: threading.Thread | None = None
        self._reason = "stopped"
        self._measure = SelfMeasure()

    def run(self) -> int:
        """Serve the supervisor until the stream has ended or the lifeline is lost."""
        while True:
            item = self._lifeline.next(HEARTBEAT_S)
            if isinstance(item, OpenSource):
                self._open(item)
            elif isinstance(item, BeginStream):
                self._begin(item)
            elif isinstance(item, EndStream | Shutdown) or item is LIFELINE_LOST:
                self._end()
                return 0
            if self._streaming is not None and not self._streaming.is_alive():
                self._end()
                return 0
            self._lifeline.channel.send_quietly(self._status())

    def _open(self, order: OpenSource) -> None:
        spec = msgspec.convert(order.spec, SourceSpec)
        self._policy = order.policy
        self._source = open_source(spec)
        info = self._info = self._source.open()
        self._lifeline.channel.send(
            SourceOpened(
                width_px=info.width_px,
                height_px=info.height_px,
                pixel_format=info.pixel_format.value,
                rate_hz=info.rate_hz,
                camera={**info.camera, "clock": info.clock},
            )
        )

    def _begin(self, order: BeginStream) -> None:
        assert self._source is not None
        assert self._info is not None
        assert self._arguments.ring is not None
        self._ring = RingWriter.attach(self._arguments.ring)
        sink = RingSink(
            self._ring,
            rate_hz=self._info.rate_hz,
            policy=self._policy,
            stop=self._stop,
            max_frames=order.max_frames,
        )
        self._streaming = threading.Thread(
            target=self._stream, args=(self._source, sink), name="source", daemon=True
        )
        self._streaming.start()

    def _stream(self, source: Source, sink: RingSink) -> None:
        try:
            self._reason = source.run(sink, self._stop)
            if sink.limit_reached:
                self._reason = "limit"
        except SealrecError as error:
            self._reason = f"source_error: {error}"
        except Exception:  # noqa: BLE001 - of a thread: its end is reported, not lost
            logs.logger.exception("source failed")
            self._reason = "source_error: the source failed; see the log"

    def _end(self) -> None:
        """Stop the source, mark the stream's end in the ring, and say so."""
        self._stop.set()
        if self._streaming is not None:
            self._streaming.join(STOP_WAIT_S)
            if self._streaming.is_alive():
                self._reason = "hung: the source did not stop"
        if self._ring is not None:
            self._ring.end_stream(self._reason)
        self._lifeline.channel.send_quietly(StreamEnded(reason=self._reason))
        self._lifeline.channel.flush(1.0)
        if self._source is not None and self._reason[:4] != "hung":
            self._source.close()

    def _status(self) -> WorkerStatus:
        detail: dict[str, Any] = {}
        if self._source is not None:
            detail = msgspec.to_builtins(self._source.statistics())
        return self._measure.status(detail)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the capture worker; returns its exit code."""
    arguments = WorkerArguments.parse(sys.argv[1:] if argv is None else argv)
    logs.secure_standard_streams()
    logs.configure("capture")
    osdep.forbid_core_dumps()
    lifeline = Lifeline(arguments, role="capture", accepts=ToCapture)
    try:
        return _Capture(lifeline, arguments).run()
    except SealrecError as error:
        failure = Failure(code=error.code, message=error.message, hint=error.hint)
        lifeline.channel.send_quietly(failure)
        lifeline.channel.flush(1.0)
        return error.exit_code
    except Exception:  # noqa: BLE001 - the one place that catches all
        logs.logger.exception("capture crashed")
        return CRASHED


if __name__ == "__main__":
    # Threads of a camera SDK may outlive it; the exit code must not wait for them.
    code = main()
    logs.flush(0.5)
    os._exit(code)
