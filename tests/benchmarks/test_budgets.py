"""Budgets: what is allowed, what fails, and that no process runs without one."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from benchmarks.budgets import allowed, judge, load
from engine.steps import Role


def verdicts(figures: dict[str, dict[str, float]], **options: list[str]) -> dict[str, str]:
    """Verdict by figure, against a budget of two figures for one process."""
    budgets = {"encoder": {"cpu": 0.5, "pss_mb": 100.0}}
    return {f.figure: f.verdict for f in judge(figures, budgets, **options)}


def test_cpu_may_be_over_its_budget_by_a_factor_or_by_points() -> None:
    """A busy process by 1.8 times, an idle one by five points; memory by nothing."""
    assert allowed("cpu", 1.0) == pytest.approx(1.8)
    assert allowed("cpu", 0.02) == pytest.approx(0.07)
    assert allowed("pss_mb", 100) == 100


def test_within_and_over_budget() -> None:
    """Up to the limit is good, beyond it is over; what has no budget is not judged."""
    good = {"encoder": {"cpu": 0.89, "pss_mb": 100.0, "threads": 999.0}}
    assert verdicts(good) == {"cpu": "good", "pss_mb": "good"}
    over = {"encoder": {"cpu": 0.91, "pss_mb": 100.1}}
    assert verdicts(over) == {"cpu": "over", "pss_mb": "over"}
    assert verdicts({"encoder": {"cpu": float("nan"), "pss_mb": 1.0}})["cpu"] == "over"


def test_a_process_without_a_budget_fails() -> None:
    """A new process cannot join unbudgeted."""
    figures = {"encoder": {"cpu": 0.1, "pss_mb": 1.0}, "uploader": {"cpu": 0.0}}
    failed = [f for f in judge(figures, {"encoder": {"cpu": 0.5}}) if f.failed]
    assert [f.process for f in failed] == ["uploader"]
    assert "no budget" in str(failed[0])


def test_what_was_not_measured_fails() -> None:
    """A benchmark cannot pass by measuring nothing."""
    assert verdicts({"encoder": {"cpu": 0.1}}) == {"cpu": "good", "pss_mb": "missing"}
    assert verdicts({}) == {"cpu": "missing", "pss_mb": "missing"}


def test_what_a_run_says_nothing_about_is_not_judged() -> None:
    """The slopes of a short run are shown and decide nothing."""
    figures = {"encoder": {"cpu": 9.9, "pss_mb": 1.0}}
    assert verdicts(figures, not_judged=["cpu"]) == {"cpu": "not judged", "pss_mb": "good"}


def test_a_limit_is_a_number(tmp_path: Path) -> None:
    """A budget in quotes would allow everything, so it is refused."""
    path = tmp_path / "budgets.toml"
    path.write_text('[soak.encoder]\ncpu = "0.5"\n')
    with pytest.raises(ValueError, match=r"soak\.encoder\.cpu"):
        load("soak", path)
    assert load("nothing", path) == {}


def test_every_process_of_a_recording_has_a_budget() -> None:
    """Each has its CPU, its memory and both slopes."""
    budgets = load("soak")
    assert set(budgets) == {"supervisor", *get_args(Role)}
    for limits in budgets.values():
        assert set(limits) == {"cpu", "pss_mb", "private_mb_per_hour", "descriptors_per_hour"}
