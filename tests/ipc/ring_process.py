"""The other processes of the ring's tests: ``python -m tests.ipc.ring_process MODE HANDLES ...``.

HANDLES is the JSON of ``RingHandles``; frames are as big as a slot.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from ipc.frame import Loss, LossClass, PixelFormat
from ipc.ring import Ring, RingHandles, RingReader, RingWriter
from ipc.shared_memory import SharedMemory
from tests.ipc.ring_kit import on_instruction, shade, stamp_of

ROOT = Path(__file__).resolve().parents[2]
GAP_EVERY = 10


def start(mode: str, handles: RingHandles, *arguments: object) -> subprocess.Popen[str]:
    """Start one of the modes below in a process that inherits the ring."""
    values = dataclasses.asdict(handles)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.ipc.ring_process", mode, json.dumps(values)),
            *(str(argument) for argument in arguments),
        ],
        cwd=ROOT,
        pass_fds=tuple(values.values()),
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def put(writer: RingWriter, seq: int, timeout_s: float = 0.0) -> bool:
    """Publish a frame that fills its slot; every tenth is preceded by a gap of one id."""
    shape = {"width_px": slot_bytes(writer), "height_px": 1, "pixel_format": PixelFormat.MONO8}
    slot = writer.acquire(stamp_of(seq), **shape, timeout_s=timeout_s)
    if slot is None:
        return False
    slot[:] = shade(seq)
    writer.publish()
    return True


def slot_bytes(end: RingWriter) -> int:
    """Size of the ring's slots."""
    return end.statistics().slot_bytes


def write(handles: RingHandles, frames: str) -> None:
    """Publish up to so many frames in all, then end the stream."""
    writer = RingWriter.attach(handles)
    writer.begin_epoch()
    seq = writer.statistics().published
    while seq < int(frames):
        if put(writer, seq, timeout_s=0.1):
            seq += 1
            if seq % GAP_EVERY == 0:
                writer.record_loss(Loss(LossClass.CAMERA_GAP, 1, seq, seq, 1, 2))
    writer.end_stream("limit")


def read(handles: RingHandles, path: str) -> None:
    """Append each frame, read or lost, to a file before it is committed, until the end."""
    reader = RingReader.attach(handles)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"start {reader.statistics().committed}\n".encode())

    def note(losses: list[Loss]) -> None:
        for loss in losses:
            if loss.loss_class is LossClass.ENCODER_LOST:
                assert loss.first_id is not None
                assert loss.last_id is not None
                for frame_id in range(loss.first_id, loss.last_id + 1):
                    os.write(fd, f"lost {frame_id - 1000}\n".encode())

    note(reader.resume())
    while reader.ended is None or reader.published > reader.statistics().released:
        reader.wait(0.05)
        frame = reader.read()
        note(reader.read_losses())
        if frame is None:
            continue
        whole = np.all(frame.pixels == shade(frame.seq))
        os.write(fd, f"{'read' if whole else 'torn'} {frame.seq}\n".encode())
        reader.release(frame.seq)
        if frame.seq % 5 == 4:
            reader.commit(frame.seq)
            reader.commit_losses(reader.loss_cursor)


def churn(handles: RingHandles) -> None:
    """Publish and release as fast as possible until killed."""
    writer, reader = RingWriter.attach(handles), RingReader.attach(handles)
    reader.resume()
    seq = 0
    while True:
        put(writer, seq)
        reader.read()
        reader.release(seq)
        reader.commit(seq)
        seq += 1


def die_everywhere(handles: RingHandles) -> None:
    """Let one writer after the other be killed, each some instructions later in its life.

    The last one lives; then say how many died.
    """
    for deaths, moment in enumerate(itertools.count(1, 3)):
        pid = os.fork()
        if pid == 0:
            live_until(handles, moment)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            say(str(deaths))
            return


def live_until(handles: RingHandles, moment: int) -> None:
    """Publish a frame, log a loss, end; SIGKILL oneself before the chosen instruction."""
    writer = RingWriter.attach(handles)
    seq = writer.statistics().published

    def action(count: int) -> None:
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    with on_instruction(action):
        put(writer, seq)
        writer.record_loss(Loss(LossClass.CAMERA_GAP, 1, 1, 3, 1, 2))
        writer.end_stream("limit")


def say(line: str) -> None:
    """Tell the test something."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def flip(handles: RingHandles, word: str) -> None:
    """Store all zeros and all ones to one word until killed."""
    memory = SharedMemory.attach(handles.memory)
    words = memory.map(0, 4096, writable=True).view().cast("q")
    index = int(word)
    say("flipping")
    while True:
        words[index] = -1
        words[index] = 0


def own(_: RingHandles, path: str) -> None:
    """Own a ring, start its writer and its reader, name all processes, and wait."""
    ring = Ring.reserve()
    ring.allocate(slots=4, slot_bytes=1 << 16)
    children = [start("write", ring.handles, 10**9), start("read", ring.handles, path)]
    say(json.dumps([os.getpid(), *(child.pid for child in children)]))
    signal.pause()


if __name__ == "__main__":
    modes = {
        function.__name__: function for function in (write, read, churn, die_everywhere, flip, own)
    }
    modes[sys.argv[1]](RingHandles(**json.loads(sys.argv[2])), *sys.argv[3:])
