"""One run of one contender on one feed: the engine, encrypted, or a peer, in plaintext."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmarks.feed import Feed, build, frames_path
from benchmarks.measure import python, run
from benchmarks.peers import available
from benchmarks.quality import Light, events_of, luma, overhead, ssim_of_file
from benchmarks.watch import RunFailed, pace, watch
from engine.config import RING_S

__all__ = ["CELLS", "Bench", "Cell", "Row", "bench_for", "peer", "present"]

NOMINAL_HZ = 30.0
PICTURES = 120  # five fragments: the pictures repeat at a key frame
MARGIN = 10
SEALREC = "sealrec"
X264 = (SEALREC, "ffmpeg_file", "ffmpeg", "pyav")
# cv2.VideoWriter asks for so many bits that its quantiser stays at its floor of 3, which is the
# engine's floor for mpeg4 as well, and makes every twelfth picture a key frame, as the engine does
# at 15 frames a second: with as many bits allowed and at that nominal rate both do the same work.
CV2_MBIT_S = 300.0
CV2_HZ = 15.0
CONFIRM_SHARE = 0.97
LOOKED_AT = (20, 45, 70, 95)


@dataclass(frozen=True, slots=True)
class Cell:
    """What is compared with each other: the same frames at the same settings.

    Attributes:
        name: In tables.
        picture: Of `feed.PICTURES`.
        pixel_format: Of the frames.
        codec: Of the engine.
        contenders: `sealrec`, or a peer.
        mbit_s: Cap of the bit rate; 0: the engine's default.
        fps: Nominal rate: of the fragments, the bit rate and the ring; nothing is paced by it.
    """

    name: str
    picture: str
    pixel_format: str
    codec: str
    contenders: tuple[str, ...] = X264
    mbit_s: float = 0.0
    fps: float = NOMINAL_HZ


CELLS = (
    Cell("clip bgr8 h264", "clip", "bgr8", "h264"),
    Cell("clip bayer_rg8 h264", "clip", "bayer_rg8", "h264"),
    Cell("clip mono8 h264", "clip", "mono8", "h264"),
    Cell("synthetic bgr8 h264", "synthetic", "bgr8", "h264"),
    Cell("clip bgr8 mpeg4", "clip", "bgr8", "mpeg4", (SEALREC, "cv2"), CV2_MBIT_S, CV2_HZ),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one round of one cell.

    Attributes:
        rate_hz: Frames a second that it keeps up, every frame written.
        cpu_ms: CPU for each frame, by process.
        pss_mb: Memory by process, without the ring and the feed; empty: it was not to be had.
        size_bytes: Of the file.
        overhead: Share of it that is no encoded picture; None: not looked at in this round.
        ssim: Mean over some frames; None likewise.
    """

    cell: str
    contender: str
    round: int
    rate_hz: float
    cpu_ms: dict[str, float]
    pss_mb: dict[str, float]
    size_bytes: int
    overhead: float | None = None
    ssim: float | None = None


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the feeds are, and how long each run is.

    Attributes:
        memory: Folder of the feeds.
        disk: Folder for the files that are recorded.
        key: Key file.
        size_px: Width and height.
        pictures: How many each feed has, by picture.
        frames: Of a run, those left out included.
        warm_up: Frames that are left out: more than the ring holds.
        reference: Luma of a picture by its name and number.
    """

    memory: Path
    disk: Path
    key: Path
    size_px: tuple[int, int]
    pictures: dict[str, int]
    frames: int
    warm_up: int
    reference: Callable[[str, int], Light] = field(repr=False)

    def feed(self, cell: Cell, total: int | None = None) -> tuple[Feed, Path]:
        """A new feed of a cell, and where it is written down."""
        feed = Feed(
            str(frames_path(self.memory, cell.picture, cell.pixel_format)),
            str(self.memory / "clock"),
            *self.size_px,
            cell.pixel_format,
            self.pictures[cell.picture],
            total or self.frames,
        )
        return feed, feed.save(self.memory / "feed.json")

    def measure(self, cell: Cell, contender: str, round_: int, *, look: bool) -> Row:
        """Run it once, and look into its file if wished.

        Raises:
            RunFailed: it failed, it left a frame out, or it was too short.
        """
        feed, saved = self.feed(cell)
        with tempfile.TemporaryDirectory(dir=self.disk) as folder:
            out = Path(folder) / "run.mp4"
            if contender == SEALREC:
                command = self.engine(cell, saved, out)
            else:
                command = peer(cell, contender, saved, out)
            seen = watch(command, feed)
            if seen.exit_code:
                raise RunFailed(f"{contender} ended with {seen.exit_code} on {cell.name}.")
            written = json.loads(seen.stdout)["frames_written"]
            if written != feed.total:
                raise RunFailed(f"{contender} wrote {written} of {feed.total} of {cell.name}.")
            went = pace(feed.times(), seen.looks, self.warm_up)
            size = out.stat().st_size
            row = Row(cell.name, contender, round_, went.rate_hz, went.cpu_ms, seen.pss_mb, size)
            return self._look_into(row, cell, out) if look else row

    def engine(self, cell: Cell, feed: Path, out: Path, **more: object) -> list[str]:
        """Command line of an encrypted recording whose source waits for room in the ring."""
        config = {
            "output": str(out),
            "source": f"file:{feed}",
            "keys": [{"kind": "key_file", "value": str(self.key)}],
            "fps": cell.fps,
            "codec": cell.codec,
            "hardware": "off",
            "policy": "block",
            "realtime": False,
            **({"max_mbit_s": cell.mbit_s} if cell.mbit_s else {}),
            **more,
        }
        path = self.disk / "config.json"
        path.write_text(json.dumps(config))
        return python("benchmarks.feed_engine", str(path))

    def confirm(self, cell: Cell, rate_hz: float, seconds: float) -> dict[str, object]:
        """A camera in real time at a little less than what was measured: is anything lost?

        Its nominal rate is the real one, so the bit rate, the fragments and the ring are those of
        a camera of that rate, and the engine may lighten its work: that would be said here.
        """
        fps = round(CONFIRM_SHARE * rate_hz, 2)
        feed, saved = self.feed(cell, total=round(seconds * fps))
        with tempfile.TemporaryDirectory(dir=self.disk) as folder:
            out = Path(folder) / "confirm.mp4.enc"
            done = run(self.engine(cell, saved, out, fps=fps, policy="drop", realtime=True))
            if done.exit_code:
                raise RunFailed(f"The run in real time ended with {done.exit_code} on {cell.name}.")
            result = json.loads(done.stdout)
            kinds = events_of(out, self.key)
        return {
            "cell": cell.name,
            "fps": fps,
            "offered": feed.total,
            "written": result["frames_written"],
            "lost": result["lost"],
            "speed_steps": kinds.count("speed_step"),
            "overloads": kinds.count("overload"),
        }

    def _look_into(self, row: Row, cell: Cell, out: Path) -> Row:
        key = self.key if row.contender == SEALREC else None
        seen = tuple(number for number in LOOKED_AT if number < self.frames)
        count = self.pictures[cell.picture]
        like = ssim_of_file(out, key, lambda n: self.reference(cell.picture, n % count), seen)
        return replace(row, overhead=round(overhead(out, key), 5), ssim=round(like, 5))


def bench_for(memory: Path, disk: Path, cells: tuple[Cell, ...], size: str, frames: int) -> Bench:
    """Draw the pictures of some cells and make a key.

    Args:
        memory: Folder for the pictures.
        disk: Folder for the recordings.
        cells: Whose pictures are needed.
        size: Such as ``1920x1200``.
        frames: Of each run that count.
    """
    width, height = (int(side) for side in size.split("x"))
    pictures = {}
    for name in dict.fromkeys(cell.picture for cell in cells):
        wanted = {cell.pixel_format for cell in cells if cell.picture == name}
        pictures[name] = build(memory, name, wanted, (width, height), PICTURES)
    key = disk / "key"
    if run(python("engine", "keys", "new", str(key))).exit_code:
        raise SystemExit("The key could not be made.")

    def reference(name: str, number: int) -> Light:
        shape = (pictures[name], height, width, 3)
        return luma(
            np.memmap(frames_path(memory, name, "bgr8"), np.uint8, "r", shape=shape)[number]
        )

    warm_up = round(RING_S * NOMINAL_HZ) + MARGIN
    return Bench(memory, disk, key, (width, height), pictures, warm_up + frames, warm_up, reference)


def peer(cell: Cell, contender: str, feed: Path, out: Path) -> list[str]:
    """Command line of a peer."""
    options = ["--codec", cell.codec, "--feed", str(feed), "--out", str(out)]
    options += ["--fps", str(cell.fps), "--mbit-s", str(cell.mbit_s)]
    return python("benchmarks.peers", contender, *options)


def present(cells: tuple[Cell, ...]) -> tuple[tuple[Cell, ...], list[str]]:
    """The cells with what this machine has, and what it has not."""
    missing = sorted({c for cell in cells for c in cell.contenders if not available(c)})
    left = tuple(
        replace(cell, contenders=tuple(c for c in cell.contenders if c not in missing))
        for cell in cells
    )
    return left, missing
