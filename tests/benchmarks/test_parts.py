"""The benchmark of the parts: its turns and ratios with known numbers, its transports for real."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.budgets import load
from benchmarks.measure import python, run
from benchmarks.parts.report import as_value, show
from benchmarks.parts.rounds import Contest, interleave, percentile, rate_mb_s

TIMES = Contest("read", "open", "ms", {"ours": (1.0, 8.0, 3.0), "theirs": (2.0, 8.0, 9.0)})
RATES = Contest(
    "ring", "moved", "MB/s", {"ours": (40.0, 10.0), "theirs": (10.0, 10.0)}, {"other": "no wheel"}
)


def test_contenders_take_turns() -> None:
    """A B A B, never A A B B: a machine that drifts drifts for both."""
    order: list[str] = []

    def attempt(name: str) -> int:
        order.append(name)
        return len(order)

    found = interleave({"a": lambda: attempt("a"), "b": lambda: attempt("b")}, 3)
    assert order == ["a", "b"] * 3
    assert found == {"a": (1, 3, 5), "b": (2, 4, 6)}


def test_a_ratio_is_of_the_same_round() -> None:
    """Not of two medians, which may come from different minutes."""
    assert TIMES.times("theirs") == 2.0  # of 2, 1 and 3
    assert TIMES.median("theirs") / TIMES.median("ours") != 2.0


def test_more_is_better_for_a_rate_only() -> None:
    """Above one is better than the other, whatever the unit."""
    assert RATES.times("theirs") == 2.5  # of 4 and 1
    assert RATES.ours == "ours"
    assert rate_mb_s(3_000_000, 1.5) == 2.0
    assert percentile([float(value) for value in range(101)], 95) == 95.0


def test_the_report_names_everything() -> None:
    """Each contender with its median, and what was not measured and why."""
    console = Console(record=True, width=120)
    show([TIMES, RATES], console)
    text = console.export_text()
    for word in ("open", "theirs", "2.50 x", "not measured: other, no wheel"):
        assert word in text
    value = as_value(RATES)
    assert value["median"] == {"ours": 25.0, "theirs": 10.0}
    assert value["times_as_good"] == {"theirs": 2.5}


def test_every_bar_has_a_budget() -> None:
    """What a run is judged by."""
    assert {name: set(limits) for name, limits in load("parts").items()} == {
        "ring": {"times_memcpy", "wake_p99_ms"},
        "seal": {"s_per_gb"},
        "read": {"open_p95_ms", "seek_p95_ms"},
        "verify": {"s_per_gb", "growth_mb"},
        "export": {"s_per_gb", "growth_mb"},
        "stop": {"stop_ms", "times_ten_seconds"},
    }


@pytest.mark.skipif(sys.platform != "linux", reason="the pipe is read by its descriptor")
def test_a_quick_run_measures_every_transport(tmp_path: Path) -> None:
    """In processes of their own, which end with an error where a frame is missing or twice."""
    done = run(python("benchmarks.parts", "--quick", "--parts", "ring", "--out", str(tmp_path)))
    assert done.exit_code == 0
    assert "not judged" in done.stdout
    found = json.loads((tmp_path / "parts.json").read_text())
    assert [contest["unit"] for contest in found["contests"]] == ["MB/s", "us", "us"]
    for contest in found["contests"]:
        assert {"sealrec", "multiprocessing.Queue", "pipe"} <= contest["median"].keys()
        assert all(value > 0 for value in contest["median"].values())
    assert (tmp_path / "parts.png").read_bytes()[:4] == b"\x89PNG"
