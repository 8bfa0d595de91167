"""What verifying found, in words for a person: the review page and evidence packages say this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.reading.verify import VerifyReport

__all__ = ["BAD", "GOOD", "LIMITED", "Words", "in_words"]

GOOD: Final = "good"
LIMITED: Final = "limited"
BAD: Final = "bad"


@dataclass(frozen=True, slots=True)
class Words:
    """What a report means.

    Attributes:
        level: ``good``, ``limited`` (authentic, and something is missing) or ``bad``.
        headline: In a few words.
        sentences: What was found.
    """

    level: str
    headline: str
    sentences: tuple[str, ...] = ()


def in_words(report: VerifyReport) -> Words:
    """What a report means, for a person."""
    level, headline, why = _meaning(report)
    counted = _counted(report)
    if report.state == "corrupt":
        return Words(level, headline, (*report.problems, why + counted, *report.notes))
    said = (why, counted) if why else (counted,)
    return Words(level, headline, (*said, *report.problems, *report.notes))


def _meaning(report: VerifyReport) -> tuple[str, str, str]:
    """Level, headline and a sentence; the first that fits."""
    cases = (
        (
            report.state == "corrupt",
            (BAD, "Changed or damaged", "What is intact still counts: "),
        ),
        (report.state == "wrong-key", (BAD, "A part does not open with this key", "")),
        (not report.balanced, (BAD, "The account does not add up", "")),
        (
            report.state == "incomplete",
            (
                LIMITED,
                "Intact, without its end",
                "It was never closed: it is being recorded, or the recording was interrupted.",
            ),
        ),
        (
            not report.complete or bool(report.problems),
            (LIMITED, "Intact, but not all of it is here", ""),
        ),
        (
            report.state == "recovered",
            (
                GOOD,
                "Intact, closed by recovery",
                "The recording was interrupted; all that had reached the disk was kept.",
            ),
        ),
    )
    sealed = "Every byte is what was sealed, and every frame is accounted for."
    return next((found for fits, found in cases if fits), (GOOD, "Intact and complete", sealed))


def _counted(report: VerifyReport) -> str:
    lost = sum(report.lost.values())
    counted = f"{report.frames:,} frames are recorded"
    if not lost:
        return counted + " and none is lost."
    classes = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in report.lost.items())
    return f"{counted}, {lost:,} are not, each named with its reason ({classes})."
