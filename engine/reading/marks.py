"""The marks of a recording, and as what they go beside a video: WebVTT, JSON, chapters.

A mark is what the controller said happened (laser on, a protocol's step), at its time in the video.
One that two parts hold, because a dead encoder's successor was told it again, counts once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from engine.container.boxes import TIMESCALE_HZ
from engine.container.part import PartReader
from engine.container.tables import ClockPair, Note
from engine.reading.host_time import HostTimes, utc_ns
from engine.reading.selection import reading

if TYPE_CHECKING:
    from av.container.core import Chapter

__all__ = ["Mark", "as_chapters", "as_json", "as_webvtt", "read_marks"]

SHOWN_PTS = 2 * TIMESCALE_HZ
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened.

    Attributes:
        pts: When in the video, 90 kHz.
        kind: A short word.
        text: For a person.
        utc_ns: Time of day, ns since 1970; None if the file has no clock for it.
    """

    pts: int
    kind: str
    text: str
    utc_ns: int | None = None

    @property
    def title(self) -> str:
        """Kind and text in a line, never empty."""
        said = [" ".join(part.split()) for part in (self.kind, self.text)]
        return ": ".join(part for part in said if part) or "mark"


def read_marks(parts: Iterable[PartReader]) -> list[Mark]:
    """All marks of these parts in order of time; what cannot be read has none.

    Raises:
        Corrupt: a fragment that the index names cannot be read.
    """
    times, end_pts = HostTimes(), 0
    notes: dict[Note, ClockPair | None] = {}
    for part in parts:
        clock = part.session.clock if part.session is not None else None
        for number in range(len(part.index)):
            with reading(part.path):
                fragment = part.fragment(number)
            times.add(fragment.table.frames)
            end_pts = max(end_pts, fragment.pts + fragment.duration)
            clock = fragment.table.clock or clock
            for note in fragment.table.marks:
                notes.setdefault(note, clock)
        for note in part.seal.marks if part.seal is not None else ():
            notes.setdefault(note, clock)
    found = [
        Mark(times.pts_of(n.host_ns, end_pts), n.kind, n.text, utc_ns(n.host_ns, clock))
        for n, clock in notes.items()
    ]
    return sorted(found, key=lambda mark: mark.pts)


def as_webvtt(marks: Sequence[Mark]) -> str:
    """A WebVTT file with one cue a mark, shown for two seconds or until the next one.

    Source: W3C WebVTT, "WebVTT cue text".
    """
    cues = ["WEBVTT"]
    for number, mark in enumerate(marks):
        later = [other.pts for other in marks[number + 1 :] if other.pts > mark.pts]
        end = min([mark.pts + SHOWN_PTS, *later[:1]])
        cues.append(f"{number + 1}\n{_clock(mark.pts)} --> {_clock(end)}\n{_escaped(mark.title)}")
    return "\n\n".join(cues) + "\n"


def as_json(marks: Sequence[Mark]) -> str:
    """A JSON list of maps: ``time_s``, ``kind``, ``text``, ``utc``."""
    rows: list[dict[str, Any]] = [
        {
            "time_s": round(mark.pts / TIMESCALE_HZ, 6),
            "kind": mark.kind,
            "text": mark.text,
            "utc": None if mark.utc_ns is None else _utc(mark.utc_ns),
        }
        for mark in marks
    ]
    return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"


def as_chapters(marks: Sequence[Mark], end_pts: int) -> list[Chapter]:
    """Chapters as PyAV takes them: each from its mark to the next; empty without marks.

    What comes before the first mark is a chapter too: FFmpeg would let the first one begin at 0.
    """
    firsts = {0: "Start"} if marks else {}
    firsts |= {mark.pts: mark.title for mark in reversed(marks)}  # of several at once the first
    starts = sorted(firsts)
    ends = [*starts[1:], max(end_pts, starts[-1] + 1)] if starts else []
    return [
        {
            "id": i,
            "start": start,
            "end": end,
            "time_base": Fraction(1, TIMESCALE_HZ),
            "metadata": {"title": firsts[start]},
        }
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]


def _clock(pts: int) -> str:
    ms = round(pts * 1000 / TIMESCALE_HZ)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _utc(ns: int) -> str:
    return (_EPOCH + timedelta(microseconds=ns // 1000)).isoformat()
