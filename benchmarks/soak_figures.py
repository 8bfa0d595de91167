"""The arithmetic of the soak: from statuses to seconds, from seconds to figures. Pure.

A sample is one second; its values have flat names, those of a process ``<value>.<process>``. Memory
is in MB (10^6 bytes), times in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

__all__ = [
    "MB",
    "Sample",
    "condense",
    "figures",
    "light_off_s",
    "processes_of",
    "sample",
    "series",
    "slope_per_hour",
    "slopes_count",
    "warm_up_s",
]

MB = 1e6
WARM_UP_S = 300.0
SHORT_S = 900.0
# A slope over less than this says more of allocators than of a leak. Video that is recorded faster
# than it plays gives fewer points of time to an hour.
JUDGED_S, JUDGED_FAST_S = 600.0, 2400.0

WORST = ("status_gap_s", "write_s", "sync_s", "stall_s", "durable_age_s", "latency_p99_s")
WORST += ("ring_fill", "ring_high_water", "not_durable", "queue_bytes")
NEWEST = ("offered", "written", "lost", "file_bytes")
TIME = "t_s"
LIGHT = "light"

Sample = dict[str, float]
Status = Mapping[str, Any]


def sample(heard: Sequence[tuple[float, Status]], before_s: float) -> Sample | None:
    """One second from the statuses heard in it; when it was, ``t_s``, is the caller's to add.

    Args:
        heard: When each status came, and the status.
        before_s: When the last one before them came.

    Returns:
        None if no status of a recording was heard.
    """
    recording = [(when, status) for when, status in heard if "frames" in status]
    if not recording:
        return None
    statuses = [status for _, status in recording]
    times = [before_s, *(when for when, _ in recording)]
    last = statuses[-1]
    found: Sample = {
        LIGHT: float(all(status["state"] == "recording" for status in statuses)),
        "status_gap_s": max(b - a for a, b in pairwise(times)),
        "write_s": max(status["write_queue"]["write_s"] for status in statuses),
        "sync_s": max(status["write_queue"]["sync_s"] for status in statuses),
        "stall_s": max(status["write_queue"]["stall_s"] for status in statuses),
        "durable_age_s": max(status["durable_age_s"] or 0.0 for status in statuses),
        "ring_fill": max(status["ring"]["fill"] for status in statuses),
        "not_durable": max(status["ring"]["not_durable"] for status in statuses),
        "queue_bytes": max(status["write_queue"]["bytes"] for status in statuses),
        "ring_high_water": last["ring"]["high_water"],
        "file_bytes": last["durable_bytes"],
    }
    for name in ("fps_in", "fps_encoded", "encode_ms", "convert_ms"):
        found[name] = last[name]
    for which, value in (last["latency_s"] or {}).items():
        found[f"latency_{which}_s"] = value
    return found | _frames(last["frames"]) | _processes(last["workers"])


def _frames(frames: Mapping[str, int]) -> Sample:
    classes = {k: n for k, n in frames.items() if k not in ("offered", "written", "in_flight")}
    lost = {f"lost.{name}": float(count) for name, count in classes.items() if count}
    whole = {"offered": float(frames["offered"]), "written": float(frames["written"])}
    return {**whole, "lost": float(sum(classes.values())), **lost}


def _processes(workers: Mapping[str, Mapping[str, Any]]) -> Sample:
    found: Sample = {}
    for process, figures_ in workers.items():
        found[f"cpu.{process}"] = figures_["cpu"]
        found[f"private_mb.{process}"] = figures_["private_bytes"] / MB
        without_ring = figures_["pss_bytes"] - figures_["shared_bytes"]
        found[f"pss_mb.{process}"] = without_ring / MB
        found[f"descriptors.{process}"] = float(figures_["descriptors"])
        found[f"threads.{process}"] = float(figures_["threads"])
    return found


def series(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    """Columns of a table of samples; None where a sample lacks a value."""
    names = list(dict.fromkeys(name for one in samples for name in one))
    return {name: [one.get(name) for one in samples] for name in names}


def condense(samples: Sequence[Sample], points: int = 240) -> list[Sample]:
    """At most so many samples: means, worst values, newest counts of equal spans."""
    span = -(-len(samples) // points) if samples else 1
    return [_merge(samples[at : at + span]) for at in range(0, len(samples), span)]


def _merge(samples: Sequence[Sample]) -> Sample:
    merged: Sample = {}
    for name, values in series(samples).items():
        known = [value for value in values if value is not None]
        if name in NEWEST or name == TIME or name.startswith("lost."):
            merged[name] = known[-1]
        elif name == LIGHT:
            merged[name] = min(known)
        elif name in WORST:
            merged[name] = max(known)
        else:
            merged[name] = sum(known) / len(known)
    return {name: float(f"{value:.6g}") for name, value in merged.items()}


def light_off_s(samples: Sequence[Sample]) -> int:
    """Seconds in which the status said something else than "recording", once it had said so."""
    lights = [bool(one[LIGHT]) for one in samples]
    return lights[lights.index(True) :].count(False) if True in lights else len(lights)


def warm_up_s(duration_s: float, *, fast: bool = False) -> float:
    """How much of the beginning is left out: allocators and caches fill then."""
    return WARM_UP_S if duration_s >= SHORT_S and not fast else duration_s / 3


def slopes_count(duration_s: float, *, fast: bool = False) -> bool:
    """Whether a run is long enough for its slopes to be judged."""
    judged_s = duration_s - warm_up_s(duration_s, fast=fast)
    return judged_s >= 0.999 * (JUDGED_FAST_S if fast else JUDGED_S)


def slope_per_hour(times_s: Sequence[float], values: Sequence[float]) -> float:
    """Slope of the line through the points, by least squares; 0 for fewer than two."""
    if len(times_s) < 2:
        return 0.0
    slope, _ = np.polyfit(np.asarray(times_s) / 3600, np.asarray(values), 1)
    return float(slope)


def processes_of(samples: Sequence[Sample]) -> list[str]:
    """All processes that reported, in order of appearance."""
    names = (name.partition(".") for one in samples for name in one)
    return list(dict.fromkeys(process for figure, _, process in names if figure == "cpu"))


def figures(samples: Sequence[Sample], after_s: float) -> dict[str, dict[str, float]]:
    """What each process cost after the warm-up, by the names of budgets.toml."""
    settled = [one for one in samples if one[TIME] >= after_s]
    found: dict[str, dict[str, float]] = {}
    for process in processes_of(settled):
        columns: dict[str, tuple[list[float], list[float]]] = {}
        for figure in ("cpu", "pss_mb", "private_mb", "descriptors", "threads"):
            points = [
                (one[TIME], one[f"{figure}.{process}"])
                for one in settled
                if f"{figure}.{process}" in one
            ]
            columns[figure] = ([t for t, _ in points], [v for _, v in points])
        found[process] = {
            "cpu": float(np.mean(columns["cpu"][1])),
            "pss_mb": max(columns["pss_mb"][1]),
            "private_mb": float(np.median(columns["private_mb"][1])),
            "private_mb_per_hour": slope_per_hour(*columns["private_mb"]),
            "descriptors": max(columns["descriptors"][1]),
            "descriptors_per_hour": slope_per_hour(*columns["descriptors"]),
            "threads": max(columns["threads"][1]),
        }
        found[process] = {name: round(value, 4) for name, value in found[process].items()}
    return found
