"""A camera for the live view's tests: ``python -m tests.engine.ring_camera HANDLES FORMAT W H``.

Owns nothing: it publishes barcoded frames into a ring as fast as it can and lets go of them at
once, until it is killed. Below the barcode every byte of a frame is `shade` of its id.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

from engine import barcode
from ipc.frame import FrameStamp, PixelFormat
from ipc.ring import RingHandles, RingReader, RingWriter

ROOT = Path(__file__).resolve().parents[2]


def shade(frame_id: int) -> int:
    """The value of every byte under a frame's barcode."""
    return (frame_id * 37 + 11) % 256


def start(
    handles: RingHandles, pixel_format: PixelFormat, size: tuple[int, int]
) -> subprocess.Popen[bytes]:
    """Run it in a process that inherits the ring."""
    values = dataclasses.asdict(handles)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.engine.ring_camera", json.dumps(values)),
            *(pixel_format.value, str(size[0]), str(size[1])),
        ],
        cwd=ROOT,
        pass_fds=tuple(values.values()),
    )


def publish(
    writer: RingWriter, frame_id: int, pixel_format: PixelFormat, size: tuple[int, int]
) -> bool:
    """Publish one frame; False when the ring is full."""
    stamp = FrameStamp(1, frame_id, 1000 * frame_id, time.perf_counter_ns())
    slot = writer.acquire(
        stamp, width_px=size[0], height_px=size[1], pixel_format=pixel_format, timeout_s=0
    )
    if slot is None:
        return False
    slot[:] = shade(frame_id)
    barcode.stamp(slot, frame_id, pixel_format)
    writer.publish()
    return True


def churn(handles: RingHandles, pixel_format: PixelFormat, size: tuple[int, int]) -> None:
    """Publish and release for ever."""
    writer, reader = RingWriter.attach(handles), RingReader.attach(handles)
    reader.resume()
    writer.begin_epoch()
    frame_id = 0
    while True:
        publish(writer, frame_id, pixel_format, size)
        while (frame := reader.read()) is not None:
            reader.release(frame.seq)
            reader.commit(frame.seq)
        frame_id += 1


if __name__ == "__main__":
    churn(
        RingHandles(**json.loads(sys.argv[1])),
        PixelFormat(sys.argv[2]),
        (int(sys.argv[3]), int(sys.argv[4])),
    )
