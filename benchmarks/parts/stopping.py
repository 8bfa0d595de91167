"""From stop to sealed: of a recording's two lengths, the file alone and the whole engine.

What grows with a recording is the index in its seal. So the seal of an hour is measured by itself,
and start and stop of the engine with seconds of recording between; for an hour in real time there
is ``python -m benchmarks.start_stop --seconds 10 3600 --rounds 1``.
"""

from __future__ import annotations

import argparse
import itertools
import time
from functools import partial
from pathlib import Path

from benchmarks import start_stop
from benchmarks.long_recording import KEY, make_seed, unsealed
from benchmarks.parts.rounds import Contest, interleave
from engine.keys import read_key_file

__all__ = ["measure_engine", "measure_seal"]

SEED_SIZE, SEED_FRAMES = "128x64", 48  # the index is as long with small pictures


def measure_seal(folder: Path, seconds: tuple[float, float], rounds: int) -> Contest:
    """The seal of a short and of a long recording, in milliseconds: all is on disk but the seal."""
    seed = make_seed(folder, SEED_SIZE, SEED_FRAMES)
    kek, number = read_key_file(folder / KEY), itertools.count()

    def seal(length_s: float) -> float:
        out = folder / f"stopped-{next(number)}.mp4.enc"
        with unsealed(seed, out, kek, length_s) as (writer, table):
            began = time.perf_counter()
            writer.seal(table)
            took_ms = 1e3 * (time.perf_counter() - began)
        out.unlink()
        return took_ms

    short, long = seconds
    contenders = {f"{long / 60:g} min": partial(seal, long), f"{short:g} s": partial(seal, short)}
    return Contest("stop", "seal of", "ms", interleave(contenders, rounds))


def measure_engine(size: str, seconds: list[float], rounds: int) -> list[start_stop.Round]:
    """See ``benchmarks.start_stop``."""
    wish = argparse.Namespace(size=size, fps=30.0, pre_roll=0.0, rounds=rounds, seconds=seconds)
    return start_stop.measure(wish)
