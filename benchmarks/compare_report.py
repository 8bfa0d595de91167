"""The arithmetic of `benchmarks.compare`, its table and its picture. Nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rich.table import Table

from benchmarks.contenders import SEALREC, Row

__all__ = ["SIZE_TOLERANCE", "Outcome", "figures", "outcomes", "plot", "ratios", "table"]

SIZE_TOLERANCE = 0.05
BGR, BAYER, MPEG4 = "clip bgr8 h264", "clip bayer_rg8 h264", "clip bgr8 mpeg4"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Medians of one contender in one cell over all rounds.

    Attributes:
        rate_hz: Frames a second.
        rate_share: Interquartile range of the rate, over its median: how restless the machine was.
        cpu_ms: CPU for each frame, all processes.
        cpu_by_process: The same by process.
        pss_mb: All processes; None: not known.
        size_bytes: Of the file.
        size_ratio: Over that of the engine's in the same cell.
        overhead: Share of the file that is no encoded picture; None: not known.
        ssim: None: not known.
        rate_ratio: Engine's rate over this one's, median of the rounds; None: no round has both.
        cpu_ratio: Engine's CPU over this one's, likewise.
    """

    cell: str
    contender: str
    rate_hz: float
    rate_share: float
    cpu_ms: float
    cpu_by_process: dict[str, float]
    pss_mb: float | None
    size_bytes: int
    size_ratio: float
    overhead: float | None
    ssim: float | None
    rate_ratio: float | None
    cpu_ratio: float | None


def outcomes(rows: Sequence[Row]) -> dict[tuple[str, str], Outcome]:
    """One for each cell and contender, in order of appearance; ratios are taken round by round."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.cell, row.contender), []).append(row)
    return {
        key: _outcome(group, groups.get((key[0], SEALREC), [])) for key, group in groups.items()
    }


def _outcome(group: Sequence[Row], engine: Sequence[Row]) -> Outcome:
    rates = sorted(row.rate_hz for row in group)
    looked = next((row for row in group if row.overhead is not None), None)
    size = round(median(row.size_bytes for row in group))
    memory = [sum(row.pss_mb.values()) for row in group if row.pss_mb]
    names = dict.fromkeys(name for row in group for name in row.cpu_ms)
    by_round = {row.round: row for row in engine}
    pairs = [(by_round[row.round], row) for row in group if row.round in by_round]
    return Outcome(
        cell=group[0].cell,
        contender=group[0].contender,
        rate_hz=round(median(rates), 2),
        rate_share=round((_quartile(rates, 3) - _quartile(rates, 1)) / median(rates), 4),
        cpu_ms=round(median(cpu(row) for row in group), 2),
        cpu_by_process={
            name: round(median(row.cpu_ms.get(name, 0.0) for row in group), 3) for name in names
        },
        pss_mb=round(median(memory), 1) if memory else None,
        size_bytes=size,
        size_ratio=round(size / median(row.size_bytes for row in engine or group), 4),
        overhead=None if looked is None else looked.overhead,
        ssim=None if looked is None else looked.ssim,
        rate_ratio=median(a.rate_hz / b.rate_hz for a, b in pairs) if pairs else None,
        cpu_ratio=median(cpu(a) / cpu(b) for a, b in pairs) if pairs else None,
    )


def cpu(row: Row) -> float:
    """Milliseconds for each frame, all processes."""
    return sum(row.cpu_ms.values())


def _quartile(ordered: Sequence[float], which: int) -> float:
    place = which / 4 * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def ratios(found: Mapping[tuple[str, str], Outcome]) -> dict[str, float]:
    """How many times the engine is as fast, and costs as much, as each other; formats likewise."""
    named: dict[str, float] = {}
    for (cell, contender), outcome in found.items():
        if contender != SEALREC and outcome.rate_ratio and outcome.cpu_ratio:
            named[f"{cell}: rate over {contender}"] = outcome.rate_ratio
            named[f"{cell}: CPU over {contender}"] = outcome.cpu_ratio
    bayer, bgr = found.get((BAYER, SEALREC)), found.get((BGR, SEALREC))
    if bayer and bgr:
        named["h264: rate of bayer_rg8 over bgr8"] = bayer.rate_hz / bgr.rate_hz
    return named


def figures(found: Mapping[tuple[str, str], Outcome]) -> dict[str, dict[str, float]]:
    """What budgets.toml limits. A rate has a floor, so its inverse is limited: time for a frame."""
    engine: dict[str, float] = {}
    wanted = {
        "h264_time_over_file": (BGR, "ffmpeg_file"),
        "h264_time_over_pipe": (BGR, "ffmpeg"),
        "mpeg4_time_over_cv2": (MPEG4, "cv2"),
    }
    for name, key in wanted.items():
        if (outcome := found.get(key)) and outcome.rate_ratio:
            engine[name] = 1 / outcome.rate_ratio
    if (cv2 := found.get((MPEG4, "cv2"))) and cv2.cpu_ratio:
        engine["mpeg4_cpu_over_cv2"] = cv2.cpu_ratio
    bgr, bayer = found.get((BGR, SEALREC)), found.get((BAYER, SEALREC))
    if bgr and bayer:
        engine["bayer_time_over_bgr"] = bgr.rate_hz / bayer.rate_hz
    if bgr and bgr.pss_mb is not None:
        engine["pss_mb"] = bgr.pss_mb
    if bgr and bgr.overhead is not None:
        engine["overhead"] = bgr.overhead
    return {"engine": engine}


def table(found: Mapping[tuple[str, str], Outcome]) -> Table:
    """Medians, and how the engine compares."""
    shown = Table("frames", "contender", "fps", "±", "CPU ms", "MB", "file MB", "SSIM")
    for name in ("other bytes", "engine's rate", "engine's CPU"):
        shown.add_column(name)
    for outcome in found.values():
        unequal = abs(outcome.size_ratio - 1) > SIZE_TOLERANCE
        ours = outcome.contender == SEALREC
        compared = (outcome.rate_ratio, outcome.cpu_ratio)
        shown.add_row(
            outcome.cell if ours else "",
            outcome.contender,
            f"{outcome.rate_hz:.1f}",
            f"{outcome.rate_share:.0%}",
            f"{outcome.cpu_ms:.1f}",
            "-" if outcome.pss_mb is None else f"{outcome.pss_mb:.0f}",
            f"{outcome.size_bytes / 1e6:.2f}" + (f" ({outcome.size_ratio:.0%})" if unequal else ""),
            "-" if outcome.ssim is None else f"{outcome.ssim:.4f}",
            "-" if outcome.overhead is None else f"{outcome.overhead:.1%}",
            *("" if ours or not one else f"{one:.2f} x" for one in compared),
        )
    return shown


def plot(found: Mapping[tuple[str, str], Outcome], path: Path) -> None:
    """Rate, CPU and memory as bars, one group for each cell."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    cells = list(dict.fromkeys(cell for cell, _ in found))
    contenders = list(dict.fromkeys(contender for _, contender in found))
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    titles = ("frames/s kept up without a drop", "CPU ms a frame, all processes", "memory, MB")
    for axes, title, name in zip(panels, titles, ("rate_hz", "cpu_ms", "pss_mb"), strict=True):
        for place, contender in enumerate(contenders):
            wide = 0.8 / len(contenders)
            at, heights = [], []
            for number, cell in enumerate(cells):
                if (cell, contender) in found:
                    at.append(number + (place - (len(contenders) - 1) / 2) * wide)
                    heights.append(getattr(found[cell, contender], name) or 0.0)
            axes.bar(at, heights, 0.9 * wide, label=contender)
        axes.set_xticks(range(len(cells)), [cell.replace(" ", "\n") for cell in cells], fontsize=8)
        axes.set_title(title, fontsize=10)
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
