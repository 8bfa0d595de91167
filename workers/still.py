"""The still process: the newest frame of a ring as a sealed recording of one frame, without loss.

    waiting -- SealStill --> waiting -- Shutdown, lifeline lost --> left

It looks at the ring as a live view does (RING.md, "Observer"), so a recording that runs meanwhile
never notices. The picture is a PNG inside the part's MP4 (FORMAT.md knows no other media): every
reader opens it, and its one sample is the PNG file. Nothing is ever in the clear.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av
import numpy as np

from engine.container.tables import ClockPair, FragmentTable, FrameRow, SealTable, SessionTable
from engine.container.writer import PartWriter, SealResult
from engine.ledger import Ledger, WrittenRun
from engine.rendering import render
from ipc import logs
from ipc.errors import DiskError, EncoderError, SealrecError, WrongState
from ipc.frame import FrameFlags, PixelFormat
from ipc.lifeline import LIFELINE_LOST, Lifeline, SelfMeasure, WorkerArguments
from ipc.messages import SealStill, Shutdown, StillRefused, StillSealed, ToStill
from ipc.ring import ObservedFrame, RingObserver
from ipc.worker import leave, run
from workers.codecs.mux import TIME_BASE, init_segment, mux_fragment, open_container
from workers.codecs.spec import TIMESCALE_HZ, Sample

if TYPE_CHECKING:
    from av.video.stream import VideoStream

__all__ = ["main"]

HEARTBEAT_S = 1.0
# The fastest that is still half as long as without: a treatment waits for the next one.
COMPRESSION = "1"
CODEC = "png"
COLOUR = {"matrix": "rgb", "range": "full"}


class _Picture:
    """A frame as PNG samples in a muxer of one fragment."""

    def __init__(self, frame: ObservedFrame, rate_hz: float) -> None:
        self._end_pts = max(1, round(TIMESCALE_HZ / rate_hz))
        container, memory = open_container(1)
        try:
            stream, picture = _begin(container, frame, rate_hz)
            container.start_encoding()
            self.init = init_segment(memory)
            packets = [*stream.encode(picture), *stream.encode(None)]
            samples = [Sample(0, bytes(packet), True) for packet in packets]
            if len(samples) != 1:
                raise EncoderError(f"A picture became {len(samples)} samples.")
            self.media = mux_fragment(stream, samples, number=1, end_pts=self._end_pts)
        except (av.FFmpegError, ValueError) as error:
            raise EncoderError(f"The picture cannot be made a PNG: {error}.") from error
        finally:
            container.close()

    @property
    def duration(self) -> int:
        """One period of the camera, 90 kHz."""
        return self._end_pts


def _begin(
    container: av.container.OutputContainer, frame: ObservedFrame, rate_hz: float
) -> tuple[VideoStream, av.VideoFrame]:
    height_px, width_px = frame.pixels.shape[:2]
    if frame.pixel_format is PixelFormat.MONO8:
        layout, pixels = "gray", frame.pixels
    else:
        layout, pixels = "rgb24", render(frame.pixels, frame.pixel_format)
    stream: VideoStream = container.add_stream(  # type: ignore[assignment]
        CODEC,
        rate=Fraction(rate_hz).limit_denominator(1001),
        options={"compression_level": COMPRESSION},
        width=width_px,
        height=height_px,
        time_base=TIME_BASE,
        pix_fmt=layout,
    )
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=layout)
    picture.pts, picture.time_base = 0, TIME_BASE
    return stream, picture


def _frame_of(observer: RingObserver, seq: int) -> ObservedFrame:
    """The frame that was asked for; the newest one where the writer has come round meanwhile.

    Raises:
        WrongState: there is none.
    """
    frame = observer.copy(seq) or observer.latest()
    if frame is None:
        raise WrongState("There is no picture to save.", hint="Look that the camera delivers.")
    return frame


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A sealed still.

    Attributes:
        result: What the container wrote.
        commitment: Key commitment of its payload.
        end_pts: Its duration, 90 kHz.
    """

    result: SealResult
    commitment: bytes
    end_pts: int


def _seal(order: SealStill, frame: ObservedFrame) -> _Sealed:
    """Write the part.

    Raises:
        DiskError, ConfigError: it cannot be written; nothing is left behind but perhaps a part
            that `sealrec recover` closes.
        EncoderError: there is no picture to be made of the frame.
    """
    picture = _Picture(frame, order.rate_hz)
    stamp, clock = frame.stamp, ClockPair(time.perf_counter_ns(), time.time_ns())
    row = FrameRow(
        *(frame.seq, stamp.epoch, stamp.frame_id, stamp.camera_ns, stamp.host_ns, 0),
        int(stamp.flags | FrameFlags.KEY_FRAME),
    )
    height_px, width_px = frame.pixels.shape[:2]
    codec = {"encoder": CODEC, "coded_size": f"{width_px}x{height_px}", "lossless": "yes"}
    table = SessionTable(
        session=order.session,
        camera=order.camera,
        codec={**codec, "pixel_format": frame.pixel_format.value},
        colour=COLOUR,
        software=order.software,
        clock=clock,
    )
    ledger = Ledger()
    ledger.add_written(WrittenRun(frame.seq, frame.seq, stamp.epoch, stamp.frame_id))
    totals = ledger.totals()
    path = Path(order.path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DiskError(f"{path.parent} cannot be made: {error.strerror}.") from error
    with PartWriter.create(path, dek=order.dek, header=order.header, reserve=False) as writer:
        writer.write_init(picture.init, table)
        writer.append(
            FragmentTable(frames=(row,), clock=clock),
            picture.media,
            pts=0,
            duration=picture.duration,
        )
        sealed = writer.seal(SealTable(part=totals, recording=totals, parts=1, last=True))
        return _Sealed(sealed, writer.commitment, picture.duration)


def _serve(lifeline: Lifeline, observer: RingObserver) -> None:
    """Seal what is asked for until there is nobody to ask."""
    measure = SelfMeasure()
    while True:
        item = lifeline.next(HEARTBEAT_S)
        if isinstance(item, Shutdown) or item is LIFELINE_LOST:
            return
        if isinstance(item, SealStill):
            lifeline.channel.send_quietly(_answer(item, observer))
        del item  # it carries a key
        lifeline.channel.send_quietly(measure.status({}))


def _answer(order: SealStill, observer: RingObserver) -> StillSealed | StillRefused:
    try:
        frame = _frame_of(observer, order.seq)
        sealed = _seal(order, frame)
    except SealrecError as error:
        return StillRefused(order.call, error.code, error.message, error.hint)
    result = sealed.result
    return StillSealed(
        call=order.call,
        path=str(result.path),
        size_bytes=result.size_bytes,
        frame_id=frame.stamp.frame_id,
        camera_ns=frame.stamp.camera_ns,
        chunk_count=result.chunk_count,
        generation=result.generation,
        header_mac=result.header_mac,
        commitment=sealed.commitment,
        end_pts=sealed.end_pts,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the still worker; returns its exit code."""
    return run("still", ToStill, _work, argv)


def _work(lifeline: Lifeline, arguments: WorkerArguments) -> int:
    assert arguments.ring is not None
    try:
        observer = RingObserver.attach(arguments.ring)
    except SealrecError as error:
        logs.logger.error("still failed", error=str(error))  # a controller is pointed to the log
        raise
    _serve(lifeline, observer)
    return 0


if __name__ == "__main__":
    leave(main())
