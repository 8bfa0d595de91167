"""Reading a finished recording: open, seek to a frame, verify, export; time and memory.

Whole files are read by processes of their own, so that their peak of memory is theirs alone. The
limits beside them: SHA-256 of the same file, which is what tells damage of a plain one, and a plain
copy that is synced as an export is. Files are in the page cache for all of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
from av.container import InputContainer

from benchmarks.long_recording import KEY, make_long
from benchmarks.measure import python, run
from benchmarks.parts.rounds import Contest, interleave, percentile, rate_mb_s
from engine.container.reader import RecordingReader
from engine.container.recipients import Secret
from engine.keys import secret_from
from engine.reading.export import export
from engine.reading.seeking import PictureFinder
from engine.reading.verify import verify

__all__ = ["Work", "measure_access", "measure_whole"]

MODULE = "benchmarks.parts.reading"


@dataclass(frozen=True, slots=True)
class Work:
    """What one process did with a whole file: how fast, and its peak of resident memory."""

    mb_s: float
    peak_mb: float


def measure_access(
    folder: Path, size: str, minutes: float, times: int, rounds: int
) -> list[Contest]:
    """Opening, and one frame at a random time: milliseconds, p95 of each round.

    The plain file is the export of the same recording, opened and sought by PyAV.
    """
    sealed = make_long(folder, size, minutes)
    secret, plain = secret_from(key_file=folder / KEY), folder / "plain.mp4"
    export(sealed, plain, secret, force=True)
    chance = random.Random(7)
    with RecordingReader.open(sealed, secret) as reader:
        end_pts = reader.end_pts

    def at_random(decode: Callable[[int], int]) -> float:
        took = []
        for _ in range(times):
            pts = chance.randrange(end_pts - 6000)
            began = time.perf_counter()
            shown = decode(pts)
            took.append(1e3 * (time.perf_counter() - began))
            if not 0 <= pts - shown < 6000:
                raise SystemExit(f"The frame at {shown} came instead of that at {pts}.")
        return percentile(took, 95)

    opened = interleave(
        {
            "sealrec": partial(_repeat, partial(_open_sealed, sealed, secret), times),
            "PyAV, plain MP4": partial(_repeat, partial(_open_plain, plain), times),
        },
        rounds,
    )
    with (
        RecordingReader.open(sealed, secret) as reader,
        PictureFinder(reader) as finder,
        av.open(str(plain), "r") as container,
    ):
        container.streams.video[0].thread_type = "AUTO"
        sought = interleave(
            {
                "sealrec": partial(at_random, partial(_frame_sealed, finder)),
                "PyAV, plain MP4": partial(at_random, partial(_frame_plain, container)),
            },
            rounds,
        )
    plain.unlink()
    length = f"{minutes:g} min"
    return [
        Contest("read", f"open {length}, p95", "ms", opened),
        Contest("read", f"seek and decode in {length}, p95", "ms", sought),
    ]


def measure_whole(
    folder: Path, size: str, minutes: tuple[float, float], rounds: int
) -> tuple[list[Contest], dict[str, tuple[Work, Work]]]:
    """Verify and export of a short recording in turns, then once of a long one.

    Returns:
        Throughput in MB/s, and by name of the work what it took with the short one (the last
        round) and with the long one.
    """
    short, long = (make_long(folder, size, length) for length in minutes)
    works: dict[str, tuple[Work, ...]] = interleave(
        {name: partial(_process, name, short) for name in WORKS}, rounds
    )
    rates = {name: tuple(work.mb_s for work in found) for name, found in works.items()}
    sizes = {name: (works[name][-1], _process(name, long)) for name in ("verify", "export")}
    contests = [
        Contest("read", ours, "MB/s", {"sealrec": rates[ours], limit: rates[limit]})
        for ours, limit in (("verify", "SHA-256"), ("export", "copy"))
    ]
    return contests, sizes


def _repeat(work: Callable[[], None], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(1e3 * (time.perf_counter() - began))
    return percentile(took, 95)


def _open_sealed(path: Path, secret: Secret) -> None:
    with RecordingReader.open(path, secret) as reader:
        part = reader.parts[0]
        if part.session is None or not part.index:
            raise SystemExit(f"{path} holds nothing.")


def _open_plain(path: Path) -> None:
    with av.open(str(path)) as container:
        if not container.streams.video[0].frames:
            raise SystemExit(f"{path} holds nothing.")


def _frame_sealed(finder: PictureFinder, pts: int) -> int:
    shown = finder.picture_at(pts).pts
    return -1 if shown is None else shown


def _frame_plain(container: InputContainer, pts: int) -> int:
    container.seek(pts, stream=container.streams.video[0])
    return _shown_at(container, pts)


def _shown_at(container: InputContainer, pts: int) -> int:
    """Time of the last frame that begins at a time or before it; decodes up to it."""
    last = -1
    for frame in container.decode(video=0):
        if frame.pts is None or frame.pts > pts:
            break
        last = frame.pts
        if frame.pts + (frame.duration or 0) > pts:
            break
    return last


# --- a process that reads one whole file ------------------------------------------------------


def _verify(path: Path, _out: Path, secret: Secret) -> None:
    report = verify(path, secret)
    if report.exit_code:
        raise SystemExit("; ".join(report.problems))


def _export(path: Path, out: Path, secret: Secret) -> None:
    export(path, out, secret, force=True)


def _hash(path: Path, _out: Path, _secret: Secret) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def _copy(path: Path, out: Path, _secret: Secret) -> None:
    shutil.copyfile(path, out)
    with out.open("rb") as file:
        os.fsync(file.fileno())


WORKS = {"verify": _verify, "SHA-256": _hash, "export": _export, "copy": _copy}


def _process(name: str, path: Path) -> Work:
    done = run(python(MODULE, name, str(path)))
    if done.exit_code:
        raise SystemExit(f"{name} of {path.name} ended with {done.exit_code}.")
    return Work(**json.loads(done.stdout))


def _peak_mb() -> float:
    # Not ru_maxrss: across an exec that keeps the parent's.
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


def main() -> None:
    """Do one work with one file and say what it took."""
    parser = argparse.ArgumentParser(description="Reads one file; started by the benchmark.")
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("path", type=Path)
    asked = parser.parse_args()
    secret = secret_from(key_file=asked.path.parent / KEY)
    out = asked.path.with_name("copy.mp4")
    began = time.perf_counter()
    WORKS[asked.work](asked.path, out, secret)
    took_s = time.perf_counter() - began
    out.unlink(missing_ok=True)
    found = {"mb_s": rate_mb_s(asked.path.stat().st_size, took_s), "peak_mb": _peak_mb()}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
