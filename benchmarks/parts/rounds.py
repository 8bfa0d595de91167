"""Contenders taking turns, and what came of it: medians, and ratios of one interleaved run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TypeVar

__all__ = ["Contest", "interleave", "percentile", "rate_mb_s"]

Measured = TypeVar("Measured")

RATE = "MB/s"


@dataclass(frozen=True, slots=True)
class Contest:
    """One question, its contenders and what each reached in every round.

    Attributes:
        part: Part of the engine.
        question: What was measured.
        unit: Of the values. Of ``MB/s`` more is better, of everything else less.
        values: By contender, in order of the rounds; the engine's own comes first.
        missing: Contenders that are not on this machine, and why.
    """

    part: str
    question: str
    unit: str
    values: Mapping[str, tuple[float, ...]]
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """Name of the engine's own contender."""
        return next(iter(self.values))

    def median(self, contender: str) -> float:
        """Over all rounds."""
        return median(self.values[contender])

    def times(self, contender: str) -> float:
        """How many times as good as this contender the engine is.

        The median of the rounds' ratios: each is of two measurements of the same round, so that a
        drifting machine drifts for both.
        """
        pairs = zip(self.values[self.ours], self.values[contender], strict=True)
        return median(a / b if self.unit == RATE else b / a for a, b in pairs)


def interleave(
    contenders: Mapping[str, Callable[[], Measured]], rounds: int
) -> dict[str, tuple[Measured, ...]]:
    """Let contenders take turns (A B C A B C ...), so that none has the quieter minute."""
    values: dict[str, list[Measured]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, attempt in contenders.items():
            values[name].append(attempt())
    return {name: tuple(found) for name, found in values.items()}


def percentile(values: Sequence[float], rank: int) -> float:
    """The 1st to 99th percentile of two values or more."""
    return quantiles(values, n=100, method="inclusive")[rank - 1]


def rate_mb_s(size_bytes: int, seconds: float) -> float:
    """Bytes in a time as 10^6 bytes a second."""
    return size_bytes / seconds / 1e6
