"""A command under observation while it runs a feed: CPU and memory of all its processes. Linux.

Everything is told between two moments of the run, when the first frames are through and when the
last is taken, so that neither start nor end count: what goes on for an hour is what is compared.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.feed import Feed
from benchmarks.measure import ROOT
from benchmarks.processes import command_of, descendants

__all__ = ["Look", "Pace", "RunFailed", "Watched", "cpu_s", "pace", "pss_bytes", "role_of", "watch"]

EVERY_S = 0.1
MEMORY_AT = 0.6  # of the frames: everything is allocated by then
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
RING = "memfd:sealrec-ring"
ROLES = {
    "capture": "capture",
    "encoder": "encoder",
    "feed_camera": "capture",
    "feed_engine": "supervisor",
    "peers": "python",
}

LIMIT_S = 300.0

Times = npt.NDArray[np.int64]


class RunFailed(Exception):
    """A run that says nothing; the others still do."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look: when, and the CPU seconds so far of each process, those it waited for included."""

    at_ns: int
    cpu_s: dict[str, float]


@dataclass(slots=True)
class Watched:
    """What was seen of a command that has ended.

    Attributes:
        exit_code: Of the command.
        stdout: What it printed.
        looks: In order.
        pss_mb: Memory by process, MB (10^6 bytes), without the ring and without the feed.
    """

    exit_code: int = 0
    stdout: str = ""
    looks: list[Look] = field(default_factory=list)
    pss_mb: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast frames were taken, and what each cost.

    Attributes:
        rate_hz: Frames a second that it keeps up.
        cpu_ms: Milliseconds of CPU for each frame, by process.
    """

    rate_hz: float
    cpu_ms: dict[str, float]


def watch(command: list[str], feed: Feed) -> Watched:
    """Run a command that takes a feed, to its end.

    Raises:
        RunFailed: it hangs; it was ended.
    """
    found = Watched()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
    )
    try:
        _follow(process, feed, found)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # the engine's workers seal and leave by themselves
        process.communicate()
        raise
    assert process.stdout is not None
    found.stdout = process.stdout.read()
    process.stdout.close()
    found.exit_code = process.returncode
    return found


def _follow(process: subprocess.Popen[str], feed: Feed, found: Watched) -> None:
    until = time.monotonic() + LIMIT_S
    while process.poll() is None:
        found.looks.append(_look(process.pid))
        due = not found.pss_mb and len(found.looks) % 5 == 0
        if due and np.count_nonzero(feed.times()) > MEMORY_AT * feed.total:
            found.pss_mb = _memory(process.pid, (RING, feed.frames))
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(EVERY_S)
        if time.monotonic() > until:
            raise RunFailed(f"It did not end in {LIMIT_S:g} s, and was ended.")


def pace(times: Times, looks: list[Look], warm_up: int) -> Pace:
    """Rate and cost after the first frames, which may go into buffers faster than they are encoded.

    Args:
        times: When each frame was taken, in order.
        looks: At the processes, during the run.
        warm_up: Frames to leave out.

    Raises:
        RunFailed: Frames that were never taken, or a run too short for two looks.
    """
    if not len(times) > warm_up + 1 or not times.all():
        raise RunFailed(f"{np.count_nonzero(times)} of {len(times)} frames were taken.")
    rate_hz = 1e9 * (len(times) - 1 - warm_up) / float(times[-1] - times[warm_up])
    settled = [look for look in looks if times[warm_up] <= look.at_ns <= times[-1]]
    if len(settled) < 2:
        raise RunFailed("The run is too short to see what it costs; ask for more --frames.")
    first, last = settled[0], settled[-1]
    numbers = np.arange(len(times), dtype=float)
    frames = np.interp(last.at_ns, times, numbers) - np.interp(first.at_ns, times, numbers)
    cpu = {
        role: 1e3 * (seconds - first.cpu_s.get(role, 0.0)) / float(frames)
        for role, seconds in last.cpu_s.items()
    }
    return Pace(rate_hz, cpu)


def role_of(pid: int) -> str:
    """What a process is: the worker's name, ffmpeg, or what else was started."""
    words = [word.decode(errors="replace") for word in command_of(pid).split(b"\0")]
    if words[0].endswith("ffmpeg"):
        return "ffmpeg"
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    last = module.rpartition(".")[2].removeprefix("probed_")
    return ROLES.get(last, "other")


def cpu_s(pid: int) -> float:
    """CPU seconds of a process and of the children that it has waited for; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) * TICK_S


def pss_bytes(pid: int, leave_out: tuple[str, ...]) -> int:
    """Proportional memory of a process without mappings whose names hold one of these texts.

    Raises:
        OSError: it is gone; or, as the engine's workers keep their memory to themselves, whoever
            asks is not root.
    """
    total, counted = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        word = line.split(None, 1)[0]
        if not word.endswith(":"):  # a mapping's first line
            counted = not any(name in line for name in leave_out)
        elif counted and word == "Pss:":
            total += int(line.split()[1]) << 10
    return total


def _look(pid: int) -> Look:
    seen: dict[str, float] = {}
    for one in (pid, *descendants(pid)):
        role = role_of(one)
        seen[role] = seen.get(role, 0.0) + cpu_s(one)
    return Look(time.perf_counter_ns(), seen)


def _memory(pid: int, leave_out: tuple[str, ...]) -> dict[str, float]:
    """By process; nothing at all if not every process may be looked into."""
    found: dict[str, float] = {}
    with contextlib.suppress(OSError):
        for one in (pid, *descendants(pid)):
            role = role_of(one)
            found[role] = found.get(role, 0.0) + pss_bytes(one, leave_out) / 1e6
        return found
    return {}
