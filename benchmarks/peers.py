"""What a user would pick instead, on the same frames and in plaintext, with the engine's settings.

    cv2          cv2.VideoWriter mp4v, as the controller of today does it; takes no settings
    pyav         PyAV in the camera's callback
    ffmpeg       the ffmpeg program, raw frames through a pipe from Python
    ffmpeg_file  the ffmpeg program, raw frames from a file in RAM: no Python and no pipe at all
    none         nobody: what the camera costs by itself

Run as a module it records once with one peer and prints JSON: the synthetic camera in real time,
where a callback that takes longer than a frame period makes the camera skip frames, or with
``--feed`` a feed (`benchmarks.feed`) as fast as it goes. Programs that are not on this machine are
left out (`available`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks.feed import Feed, Player
from ipc.frame import PixelFormat
from workers.codecs.spec import EncoderSpec
from workers.codecs.tuning import Tuning, candidates
from workers.fragments import FRAGMENT_S
from workers.sources.source import SourceSpec, open_source

PEERS = ("cv2", "pyav", "ffmpeg")
FFMPEG_FORMATS = {"bgr8": "bgr24", "bayer_rg8": "bayer_rggb8", "mono8": "gray"}


@dataclass(frozen=True, slots=True)
class Encoding:
    """What a peer is to make: the engine's own settings for a codec, picture and rate.

    Attributes:
        width_px, height_px: Size of the picture.
        fps: Nominal rate.
        pixel_format: Of the frames that come.
        tuning: As the engine opens its encoder.
    """

    width_px: int
    height_px: int
    fps: float
    pixel_format: str
    tuning: Tuning

    @classmethod
    def of(
        cls, codec: str, size_px: tuple[int, int], fps: float, pixel_format: str, mbit_s: float = 0
    ) -> Encoding:
        """As the engine would: 0 Mbit/s is its own default."""
        cap = round(mbit_s * 1e6)
        spec = EncoderSpec(codec, *size_px, fps, hardware="off", max_bits_per_s=cap)
        return cls(*size_px, fps, pixel_format, candidates(spec)[0])

    @property
    def gop(self) -> int:
        """Frames from key frame to key frame, as the engine's fragments have them."""
        return max(1, round(FRAGMENT_S * self.fps))


class Writer(Protocol):
    """A peer: takes frames, ends with a file."""

    def write(self, frame: np.ndarray) -> None:
        """Encode one uint8 frame of the encoding's format."""

    def close(self) -> None:
        """Finish the file."""


class Cv2Writer:
    """cv2.VideoWriter, mp4v; a mosaic is made BGR before, as it must be."""

    def __init__(self, path: Path, made: Encoding) -> None:
        import cv2

        self._cv2 = cv2
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        colour = made.pixel_format != "mono8"
        size_px = (made.width_px, made.height_px)
        self._writer = cv2.VideoWriter(str(path), fourcc, made.fps, size_px, isColor=colour)
        self._mosaic = made.pixel_format == "bayer_rg8"

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        if self._mosaic:
            frame = self._cv2.cvtColor(frame, self._cv2.COLOR_BayerRGGB2BGR)
        self._writer.write(frame)

    def close(self) -> None:
        """Finish the file."""
        self._writer.release()


class PyavWriter:
    """PyAV, inline."""

    def __init__(self, path: Path, made: Encoding) -> None:
        import av

        tuning = made.tuning
        self._av, self._format = av, FFMPEG_FORMATS[made.pixel_format]
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(
            tuning.encoder, rate=round(made.fps), options=tuning.options, bit_rate=tuning.bit_rate
        )
        self._stream.width, self._stream.height = made.width_px, made.height_px
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = tuning.threads
        self._stream.codec_context.gop_size = made.gop
        self._stream.codec_context.max_b_frames = 0

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        picture = self._av.VideoFrame.from_ndarray(frame, format=self._format)
        self._container.mux(self._stream.encode(picture))

    def close(self) -> None:
        """Finish the file."""
        self._container.mux(self._stream.encode(None))
        self._container.close()


class FfmpegWriter:
    """The ffmpeg program behind a pipe."""

    def __init__(self, path: Path, made: Encoding) -> None:
        command = ffmpeg_command(made, ["-i", "-"], path)
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE)

    def write(self, frame: np.ndarray) -> None:
        """Encode one frame."""
        assert self._process.stdin is not None
        self._process.stdin.write(frame.data)

    def close(self) -> None:
        """Finish the file."""
        self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"ffmpeg ended with {self._process.returncode}.")


class NoWriter:
    """Nothing: what the camera costs by itself."""

    def __init__(self, path: Path, made: Encoding) -> None:
        path.touch()

    def write(self, frame: np.ndarray) -> None:
        """Let it go."""

    def close(self) -> None:
        """Nothing to finish."""


WRITERS: dict[str, Callable[[Path, Encoding], Writer]] = {
    "cv2": Cv2Writer,
    "pyav": PyavWriter,
    "ffmpeg": FfmpegWriter,
    "none": NoWriter,
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
    return not peer.startswith("ffmpeg") or shutil.which("ffmpeg") is not None


def ffmpeg_command(made: Encoding, source: list[str], path: Path, *before: str) -> list[str]:
    """Command line of ffmpeg for raw frames; `before` stands ahead of its output."""
    tuning = made.tuning
    command = ["ffmpeg", "-y", "-nostdin", "-loglevel", "error", "-f", "rawvideo"]
    command += ["-pix_fmt", FFMPEG_FORMATS[made.pixel_format]]
    command += ["-s", f"{made.width_px}x{made.height_px}", "-r", str(made.fps), *source, *before]
    command += ["-c:v", tuning.encoder, "-pix_fmt", "yuv420p", "-g", str(made.gop), "-bf", "0"]
    command += ["-threads", str(tuning.threads)]
    if tuning.bit_rate:
        command += ["-b:v", str(tuning.bit_rate)]
    for name, value in tuning.options.items():
        command += [f"-{name.replace('profile', 'profile:v')}", value]
    return [*command, str(path)]


def record_camera(peer: str, path: Path, made: Encoding, frames: int) -> int:
    """The synthetic camera in real time; returns how many frames were written."""
    size_px = (made.width_px, made.height_px)
    source = open_source(SourceSpec("synthetic", *size_px, made.fps, PixelFormat.BGR8, frames))
    source.open()
    writer = WRITERS[peer](path, made)
    sink = CallbackSink(writer, (made.height_px, made.width_px, 3))
    source.run(sink, threading.Event())
    writer.close()
    source.close()
    return sink.written


def record_feed(peer: str, path: Path, made: Encoding, feed: Feed) -> int:
    """A feed as fast as it goes; returns how many frames were written."""
    player = Player(feed)
    if peer == "ffmpeg_file":
        return read_file(player, path, made)
    writer = WRITERS[peer](path, made)
    for number in range(feed.total):
        writer.write(player.frame(number))
        player.mark(number)
    writer.close()
    return feed.total


def read_file(player: Player, path: Path, made: Encoding) -> int:
    """Let ffmpeg read the pictures itself; its reports of progress tell when it took them."""
    feed = player.feed
    source = ["-stream_loop", "-1", "-i", feed.frames]
    progress = ["-frames:v", str(feed.total), "-stats_period", "0.1", "-progress", "pipe:1"]
    command = ffmpeg_command(made, source, path, *progress)
    began = time.perf_counter_ns()
    taken = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            name, _, value = line.partition("=")
            if name == "frame" and int(value) > taken:
                player.mark_through(taken, int(value) - taken, began)
                taken, began = int(value), time.perf_counter_ns()
    if process.returncode:
        raise SystemExit(f"ffmpeg ended with {process.returncode}.")
    return taken


def main() -> int:
    """Record once; prints offered, written and the file's size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("peer", choices=(*WRITERS, "ffmpeg_file"))
    parser.add_argument("--codec", help="default: mpeg4 for cv2, h264 for the others")
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--feed", type=Path, help="record this feed instead of the camera")
    parser.add_argument("--mbit-s", type=float, default=0.0, help="cap of the bit rate")
    parser.add_argument("--out", type=Path, help="keep the file here")
    wish = parser.parse_args()
    if wish.feed is None and wish.peer not in WRITERS:
        parser.error(f"{wish.peer} takes frames from a --feed only")
    codec = wish.codec or ("mpeg4" if wish.peer == "cv2" else "h264")
    with tempfile.TemporaryDirectory() as folder:
        path = wish.out or Path(folder) / "peer.mp4"
        if wish.feed is None:
            width, height = (int(side) for side in wish.size.split("x"))
            made = Encoding.of(codec, (width, height), wish.fps, "bgr8", wish.mbit_s)
            frames = round(wish.fps * wish.seconds)
            written = record_camera(wish.peer, path, made, frames)
        else:
            feed = Feed.load(wish.feed)
            frames, size_px = feed.total, (feed.width_px, feed.height_px)
            made = Encoding.of(codec, size_px, wish.fps, feed.pixel_format, wish.mbit_s)
            written = record_feed(wish.peer, path, made, feed)
        size = path.stat().st_size
    json.dump({"frames_offered": frames, "frames_written": written, "size_bytes": size}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
