"""Budgets of the benchmarks: what each process may cost (budgets.toml), and the judgement.

A figure without a budget is no failure, a process without one is: a new process must not run
unbudgeted. Nothing is measured here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PATH", "Finding", "allowed", "judge", "load"]

PATH = Path(__file__).with_name("budgets.toml")
CPU = "cpu"
CPU_FACTOR, CPU_POINTS = 1.8, 0.05

Figures = Mapping[str, Mapping[str, float]]
"""Value by process and by name of the figure."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure against its budget.

    Attributes:
        process: Whose.
        figure: Its name in budgets.toml; empty for a process that has no table there.
        measured: None if it was not measured.
        limit: What is allowed, tolerance included; None without a budget.
        verdict: ``good``, ``over``, ``missing`` (not measured, or no table) or ``not judged``.
    """

    process: str
    figure: str
    measured: float | None
    limit: float | None
    verdict: str

    @property
    def failed(self) -> bool:
        """Whether this fails the benchmark."""
        return self.verdict in ("over", "missing")

    def __str__(self) -> str:
        if not self.figure:
            return f"{self.process} has no budget: give it a table in {PATH.name}"
        if self.measured is None:
            return f"{self.process} {self.figure} was not measured"
        return f"{self.process} {self.figure} {self.measured:.3g} of {self.limit:.3g} allowed"


def load(benchmark: str, path: Path = PATH) -> dict[str, dict[str, float]]:
    """Limits by process and figure; empty for a benchmark that has none.

    Raises:
        ValueError: a limit that is no number.
    """
    tables = tomllib.loads(path.read_text()).get(benchmark, {})
    for process, limits in tables.items():
        for figure, limit in limits.items():
            if isinstance(limit, bool) or not isinstance(limit, int | float):
                raise ValueError(f"{path.name}: {benchmark}.{process}.{figure} is no number")
    return {process: dict(limits) for process, limits in tables.items()}


def allowed(figure: str, budget: float) -> float:
    """What a budget allows: CPU varies between runs and machines, memory and leaks do not."""
    return max(CPU_FACTOR * budget, budget + CPU_POINTS) if figure == CPU else budget


def judge(figures: Figures, budgets: Figures, *, not_judged: Collection[str] = ()) -> list[Finding]:
    """Compare what was measured with what is allowed.

    Args:
        figures: What was measured.
        budgets: From `load`.
        not_judged: Names of figures that this run says nothing about, such as the slopes of a
            short one.
    """
    findings: list[Finding] = []
    for process in sorted({*figures, *budgets}):
        if process not in budgets:
            findings.append(Finding(process, "", None, None, "missing"))
            continue
        for figure, budget in budgets[process].items():
            measured = figures.get(process, {}).get(figure)
            limit = allowed(figure, budget)
            verdict = "good"
            if figure in not_judged:
                verdict = "not judged"
            elif measured is None:
                verdict = "missing"
            elif not measured <= limit:
                verdict = "over"
            findings.append(Finding(process, figure, measured, limit, verdict))
    return findings
