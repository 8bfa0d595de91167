"""What a user would pick instead, on the same frames: each in the camera callback, in plaintext.

Run as a module it records the synthetic camera once with one peer and prints JSON. A callback that
takes longer than a frame period makes the camera skip frames; that is how they lose them.

    cv2      cv2.VideoWriter mp4v, as the controller of today does it
    pyav     PyAV with libx264, same settings as ours, in the callback
    ffmpeg   the ffmpeg program, rgb frames through a pipe (needs ffmpeg on the PATH)
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ipc.frame import PixelFormat
from workers.sources.source import SourceSpec, open_source

PEERS = ("cv2", "pyav", "ffmpeg")
X264 = {"preset": "superfast", "crf": "23", "tune": "zerolatency"}


class Writer(Protocol):
    """A peer: takes BGR frames, ends with a file."""

    def write(self, frame: np.ndarray) -> None:
        """Encode one (height, width, 3) uint8 BGR frame."""

    def close(self) -> None:
        """Finish the file."""


class Cv2Writer:
    """cv2.VideoWriter, mp4v."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        import cv2

        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), fourcc, fps, (width, height))

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()


class PyavWriter:
    """PyAV, libx264, inline."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        import av

        self._av = av
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream("libx264", rate=round(fps), options=X264)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        picture = self._av.VideoFrame.from_ndarray(frame, format="bgr24")
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


class FfmpegWriter:
    """The ffmpeg program behind a pipe."""

    def __init__(self, path: Path, width: int, height: int, fps: float) -> None:
        x264 = [item for name, value in X264.items() for item in (f"-{name}", value)]
        command = ["ffmpeg", "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "bgr24"]
        command += ["-s", f"{width}x{height}", "-r", str(fps), "-i", "-", "-c:v", "libx264"]
        command += ["-pix_fmt", "yuv420p", *x264, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        assert self._process.stdin is not None
        self._process.stdin.write(frame.data)

    def close(self) -> None:
        """Finish the file."""
        self._process.communicate()


WRITERS: dict[str, Callable[[Path, int, int, float], Writer]] = {
    "cv2": Cv2Writer,
    "pyav": PyavWriter,
    "ffmpeg": FfmpegWriter,
}


class CallbackSink:
    """The camera callback: writes each frame before it returns."""

    def __init__(self, writer: Writer, shape: tuple[int, ...]) -> None:
        self._writer = writer
        self._frame = np.empty(shape, np.uint8)
        self.written = 0

    def acquire(self, frame_id: int, camera_ns: int, **_shape: Any) -> np.ndarray:
        """One buffer serves: the callback is done with it before the next frame."""
        return self._frame

    def publish(self) -> None:
        """The callback itself."""
        self._writer.write(self._frame)
        self.written += 1

    def incomplete(self, frame_id: int, camera_ns: int) -> None:
        """Never with the synthetic camera."""

    def missed(self, first_id: int, last_id: int) -> None:
        """Nobody hears of it: that is the point."""


def available(peer: str) -> bool:
    """Whether a peer can run here."""
    return peer != "ffmpeg" or shutil.which("ffmpeg") is not None


def main() -> int:
    """Record once; prints offered, written and the file's size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    wish = parser.parse_args()
    width, height = (int(side) for side in wish.size.split("x"))
    frames = round(wish.fps * wish.seconds)
    spec = SourceSpec("synthetic", width, height, wish.fps, PixelFormat.BGR8, frames)
    source = open_source(spec)
    source.open()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peer.mp4"
        sink = CallbackSink(WRITERS[wish.peer](path, width, height, wish.fps), (height, width, 3))
        source.run(sink, threading.Event())
        sink._writer.close()
        size = path.stat().st_size
    source.close()
    json.dump(
        {"frames_offered": frames, "frames_written": sink.written, "size_bytes": size}, sys.stdout
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
