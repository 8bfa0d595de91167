"""The soak's report: one page that shows whether an hour of work was good work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["draw"]

COLOURS = {"supervisor": "tab:green", "capture": "tab:blue", "encoder": "tab:orange"}
PAGE_INCHES = (8.27, 11.69)
DPI = 120
TEXT_PT = 7.5

Series = dict[str, list[float | None]]


def draw(found: dict[str, Any], path: Path) -> None:
    """Draw the page.

    Args:
        found: The soak's record.
        path: PNG to write.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style = {"font.size": TEXT_PT, "axes.titlesize": 8.5, "axes.titleweight": "bold"}
    with plt.rc_context({**style, "lines.linewidth": 1.0}):
        figure = plt.figure(figsize=PAGE_INCHES, layout="constrained")
        rows = figure.add_gridspec(6, 2, height_ratios=(0.95, 1, 1, 1, 1, 1.15))
        _text(figure.add_subplot(rows[0, :]), _headline(found), _balance(found))
        columns = found["series"]
        panels = (_rates, _losses, _ring, _latency, _disk, _cpu, _memory, _growth)
        if columns:
            for number, panel in enumerate(panels):
                axes = figure.add_subplot(rows[1 + number // 2, number % 2])
                panel(axes, columns, found)
                axes.grid(alpha=0.3)
                axes.set_xlabel("minutes", labelpad=1)
                axes.margins(x=0.01)
        _text(figure.add_subplot(rows[5, :]), "Budgets", _judgement(found))
        figure.savefig(path, dpi=DPI)
        plt.close(figure)


def _headline(found: dict[str, Any]) -> str:
    wish, failed = found["wish"], _failed(found)
    verdict = "good" if not failed and not found["unsound"] else "NOT GOOD"
    return f"Soak: {wish['minutes']:g} min of {wish['size']} at {wish['fps']:g} fps: {verdict}"


def _failed(found: dict[str, Any]) -> list[str]:
    return [f["text"] for f in found["findings"] if f["verdict"] in ("over", "missing")]


def _balance(found: dict[str, Any]) -> str:
    result = found["result"]
    if result is None:
        return "There is no balance sheet."
    account, facts = _account(result, found), _facts(result, found)
    width = max(map(len, account)) + 4
    lines = [left.ljust(width) + right for left, right in zip(account, facts, strict=True)]
    return "\n".join(lines + found["unsound"])


def _account(result: dict[str, Any], found: dict[str, Any]) -> list[str]:
    lost = ", ".join(f"{name} {count}" for name, count in result["lost"].items()) or "none"
    unaccounted = result["frames_offered"] - result["frames_written"] - sum(result["lost"].values())
    return [
        f"offered     {result['frames_offered']:>8}",
        f"written     {result['frames_written']:>8}",
        f"lost        {lost:>8}",
        f"unaccounted {unaccounted:>8}",
        f"light off   {found['light_off_s']:>6} s",
        f"status gap  {found['status_gap_s']:>6.2f} s",
    ]


def _facts(result: dict[str, Any], found: dict[str, Any]) -> list[str]:
    verified, about, encoder = found["verify"], found["machine"], result["encoder"]
    latency = result["latency_s"] or {"p50": 0, "p99": 0}
    return [
        f"encoder  {encoder['name']}, {encoder['encode_ms']} ms a frame, "
        f"conversion {encoder['convert_ms']} ms",
        f"durable  {latency['p50']:.2f} s after arrival (median), {latency['p99']:.2f} s (p99)",
        f"file     {result['size_bytes'] / 1e6:.1f} MB, {result['duration_s']:.1f} s, "
        f"{result['state']}, {result['gaps']} gaps without ids",
        f"verify   {verified.get('state')}, {verified.get('frames')} frames, "
        f"balanced: {verified.get('balanced')}, took {verified['took_s']} s",
        f"engine   {len(found['events'])} events",
        f"machine  {about['cpu']}, {about['cores']} cores, {about['system']}, "
        f"Python {about['python']}, {about['date']}",
    ]


def _judgement(found: dict[str, Any]) -> str:
    head = f"{'process':<12}{'figure':<24}{'measured':>10}{'allowed':>10}   verdict"
    lines = [head]
    for finding in found["findings"]:
        cells = [
            "-" if value is None else f"{value:.3f}"
            for value in (finding["measured"], finding["limit"])
        ]
        name = finding["figure"] or "no table in budgets.toml"
        lines.append(
            f"{finding['process']:<12}{name:<24}{cells[0]:>10}{cells[1]:>10}   {finding['verdict']}"
        )
    lines.append(f"Figures are those after the first {found['warm_up_s']:.0f} s.")
    return "\n".join(lines)


def _text(axes: Any, title: str, body: str) -> None:
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    axes.text(0, 0.97, body, va="top", family="monospace", fontsize=7, transform=axes.transAxes)


def _minutes(columns: Series) -> list[float]:
    return [(t or 0.0) / 60 for t in columns["t_s"]]


def _line(axes: Any, columns: Series, name: str, label: str, **options: Any) -> None:
    scale = options.pop("scale", 1.0)
    values = [None if v is None else v * scale for v in columns.get(name, [])]
    if values:
        shown = [float("nan") if v is None else v for v in values]
        axes.plot(_minutes(columns), shown, label=label, **options)


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=6.5, loc="best", framealpha=0.7)


def _processes(found: dict[str, Any]) -> list[str]:
    return list(found["processes"])


def _rates(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("frames per second")
    _line(axes, columns, "fps_in", "in")
    _line(axes, columns, "fps_encoded", "encoded", alpha=0.7)
    axes.set_ylim(0, 1.25 * found["wish"]["fps"])
    _legend(axes)


def _losses(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("frames lost, and the light")
    names = [name for name in columns if name.startswith("lost.")]
    for name in names:
        _line(axes, columns, name, name.partition(".")[2])
    if not names:
        _line(axes, columns, "lost", "none lost", color="tab:green")
    light = [1.0 if v else 0.0 for v in columns["light"]]
    axes.fill_between(
        _minutes(columns),
        0,
        1,
        where=[not v for v in light],
        transform=axes.get_xaxis_transform(),
        color="tab:red",
        alpha=0.25,
        label="light off",
    )
    axes.set_ylim(bottom=0)
    _legend(axes)


def _ring(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("ring, frames")
    _line(axes, columns, "not_durable", "not yet durable", color="tab:gray")
    _line(axes, columns, "ring_high_water", "high water", color="tab:red", linestyle="--")
    _line(axes, columns, "ring_fill", "waiting for the encoder", color="tab:blue")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _latency(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("from arrival to durable, s")
    _line(axes, columns, "latency_p50_s", "median of 10 s")
    _line(axes, columns, "latency_p99_s", "p99 of 10 s")
    axes.set_ylim(bottom=0)
    _legend(axes)


def _disk(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("slowest write and sync, ms")
    _line(axes, columns, "sync_s", "sync", scale=1e3)
    _line(axes, columns, "write_s", "write", scale=1e3)
    axes.set_yscale("log")
    _legend(axes)


def _cpu(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("CPU, share of one core")
    for process in _processes(found):
        mean = found["processes"][process]["cpu"]
        label = f"{process} {mean:.1%}"
        _line(axes, columns, f"cpu.{process}", label, color=COLOURS.get(process))
    axes.set_ylim(bottom=0)
    _legend(axes)


def _memory(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("PSS without the ring, MB (descriptors, threads)")
    for process in _processes(found):
        figures = found["processes"][process]
        counts = f"({figures['descriptors']:.0f}, {figures['threads']:.0f})"
        _line(axes, columns, f"pss_mb.{process}", f"{process} {counts}", color=COLOURS.get(process))
    axes.set_ylim(bottom=0)
    _legend(axes)


def _growth(axes: Any, columns: Series, found: dict[str, Any]) -> None:
    axes.set_title("private memory against the end of the warm-up, MB")
    minutes, warm_up = _minutes(columns), found["warm_up_s"] / 60
    for process in _processes(found):
        values = columns.get(f"private_mb.{process}", [])
        settled = [
            v for t, v in zip(minutes, values, strict=True) if t >= warm_up and v is not None
        ]
        if not settled:
            continue
        shown = [float("nan") if v is None else v - settled[0] for v in values]
        slope = found["processes"][process]["private_mb_per_hour"]
        label = f"{process} {slope:+.2f} MB/h"
        axes.plot(minutes, shown, label=label, color=COLOURS.get(process))
    axes.axvline(warm_up, color="tab:gray", linestyle=":", linewidth=0.8)
    axes.set_ylim(-5, 5)
    _legend(axes)
