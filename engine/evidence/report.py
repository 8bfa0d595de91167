"""The report of a package as a page says it, whatever draws it: sections of texts, tables, plots.

Texts that come from outside (a subject, an operator, a mark, an event) pass through ``plain``: what
would turn a line around or hide in it is written out. Everything here is about the package's own
data files; the report judges nothing that they do not hold.

Source: EVIDENCE.md, "The report".
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from engine.container.boxes import TIMESCALE_HZ
from engine.evidence.drawing import Drawing, interval_plot, timeline_plot
from engine.evidence.source import Evidence
from engine.evidence.statements import AUTHENTIC, FILES, REASONS, RESTS, STATES, VERDICTS
from engine.evidence.tables import utc_text
from engine.ledger import WRITTEN
from engine.reading.words import in_words
from ipc.frame import LossClass

__all__ = ["SHOWN_ROWS", "Block", "Headline", "Report", "Section", "Table", "Text", "plain", "tell"]

SHOWN_ROWS: Final = 200
_TEXT: Final = 400
_INVISIBLE: Final = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@dataclass(frozen=True, slots=True)
class Headline:
    """The one thing to know. ``level`` is ``good``, ``limited`` or ``bad``."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table. Without ``columns`` it is a list of facts: a name and a value each."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Headline | Text | Table | Drawing


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """A title and sections."""

    title: str
    sections: tuple[Section, ...]


def plain(text: str) -> str:
    """A text from outside as one visible line of bounded length."""
    shown = "".join(_visible(character) for character in text[: _TEXT + 1])
    return shown if len(shown) <= _TEXT else shown[:_TEXT] + " …"


def _visible(character: str) -> str:
    if unicodedata.category(character) in _INVISIBLE:
        return f"\\u{{{ord(character):x}}}"
    return character


def tell(evidence: Evidence) -> Report:
    """The report of a recording."""
    return Report(
        title=f"Recording {plain(evidence.name)}",
        sections=(
            Section("Result", tuple(_result(evidence))),
            Section("What was recorded", tuple(_recorded(evidence))),
            Section("What is missing, and why", tuple(_missing(evidence))),
            Section("What happened when", tuple(_happened(evidence))),
            Section("How it was checked", tuple(_checked(evidence))),
            Section("What rests on what", (Table(("statement", "what it rests on"), RESTS),)),
            Section("Files of this package", (Table(("file", "what it is"), FILES),)),
            Section("Made with", tuple(_made(evidence))),
        ),
    )


# --- result -----------------------------------------------------------------------------------


def _result(evidence: Evidence) -> Iterable[Block]:
    words = in_words(evidence.verified)
    audit = evidence.audit
    if audit is not None and (not audit.holds or audit.verdict == "differs"):
        yield Headline("bad", "Not what was sealed")
    else:
        yield Headline(words.level, words.headline)
    for sentence in words.sentences:
        yield Text(plain(sentence))
    if not evidence.verified.whole:
        yield Text(
            f"This is about part {evidence.parts[0].index} of the recording alone; of other parts "
            "nothing is said."
        )
    if evidence.clip is not None:
        begin = evidence.video.first_pts
        end = begin + round(evidence.video.duration_s * TIMESCALE_HZ)
        yield Text(
            f"video.mp4, frames.csv and the marks show a clip, from {_clock(begin)} to "
            f"{_clock(end)} of the recording. Everything else here is about the whole recording."
        )


# --- what was recorded ------------------------------------------------------------------------


def _recorded(evidence: Evidence) -> Iterable[Block]:
    facts, session = evidence.facts, evidence.session
    said = [
        (f"{what}: {key}", value)
        for what in ("session", "camera", "codec")
        for key, value in getattr(session, what).items()
    ]
    rows = [
        ("recording", evidence.recording_id),
        ("began", _day(facts.begin_utc_ns)),
        ("duration", _clock(facts.end_pts)),
        ("frames written", f"{evidence.verified.frames:,}"),
        ("frames in video.mp4", f"{evidence.video.frames:,}"),
        ("parts", f"{len(evidence.parts)}"),
        ("recorded with", session.software),
        *said[:SHOWN_ROWS],
    ]
    yield Table((), tuple((plain(key), plain(value)) for key, value in rows))
    yield from _more(len(said), "recording.json")
    yield Text("What stands after “session:” was typed in by whoever recorded; nothing checks it.")


# --- what is missing --------------------------------------------------------------------------


def _missing(evidence: Evidence) -> Iterable[Block]:
    facts, verified = evidence.facts, evidence.verified
    totals = facts.balance.totals
    rows = [(WRITTEN, f"{totals[WRITTEN]:,}", "They are in the recording.")]
    rows += [(c.label, f"{totals[c.label]:,}", REASONS[c]) for c in LossClass if totals[c.label]]
    rows += [("offered", f"{facts.balance.offered:,}", "The sum: every frame in one class.")]
    yield Table(("class", "frames", "meaning"), tuple(rows))
    if not _all_was_read(evidence):
        yield Text("This counts what can be read of the recording, and that is not all of it.")
    if not facts.lost:
        yield Text("No frame is named as lost.")
    else:
        yield Table(
            ("class", "frames", "ids", "from", "to", "time of day"),
            tuple(
                (
                    row.loss.loss_class.label,
                    f"{row.loss.frames:,}" if row.loss.first_id is not None else "not known",
                    _ids(row.loss.first_id, row.loss.last_id),
                    _clock(row.from_pts),
                    _clock(row.to_pts),
                    _day(row.utc_ns),
                )
                for row in islice(facts.lost, SHOWN_ROWS)
            ),
        )
        yield from _more(len(facts.lost), "losses.csv")
    for sentence in dict.fromkeys((*verified.problems, *evidence.video.problems)):
        yield Text(plain(sentence))
    yield from _gaps(evidence)


def _all_was_read(evidence: Evidence) -> bool:
    verified = evidence.verified
    return verified.complete and verified.whole and verified.state in ("sealed", "recovered")


def _gaps(evidence: Evidence) -> Iterable[Block]:
    gaps = evidence.facts.gaps
    if not gaps:
        yield Text("There is no stretch of more than a quarter of a second without a picture.")
        return
    yield Table(
        ("without a picture", "from", "to", "losses in it"),
        tuple(
            (
                f"{(gap.to_pts - gap.from_pts) / TIMESCALE_HZ:.3f} s",
                _clock(gap.from_pts),
                _clock(gap.to_pts),
                ", ".join(evidence.facts.reasons(gap)) or "none: no frame came",
            )
            for gap in gaps[:SHOWN_ROWS]
        ),
    )
    yield from _more(len(gaps), "events.json")


def _ids(first: int | None, last: int | None) -> str:
    if first is None or last is None:
        return "not known"
    return f"{first}" if first == last else f"{first} to {last}"


# --- what happened ----------------------------------------------------------------------------


def _happened(evidence: Evidence) -> Iterable[Block]:
    facts, marks = evidence.facts, evidence.marks
    begin = evidence.video.first_pts if evidence.clip is not None else 0
    marked = [mark.pts + begin for mark in marks]
    yield timeline_plot(facts, marked)
    yield interval_plot(facts)
    if marks:
        yield Table(
            ("mark", "time in video", "time of day", "text"),
            tuple(
                (plain(m.kind), _clock(m.pts), _day(m.utc_ns), plain(m.text))
                for m in marks[:SHOWN_ROWS]
            ),
        )
        yield from _more(len(marks), "marks.json")
    else:
        yield Text("No mark was set.")
    if facts.events:
        yield Table(
            ("event", "time in recording", "time of day", "text"),
            tuple(
                (plain(e.kind), _clock(e.pts), _day(e.utc_ns), plain(e.text))
                for e in facts.events[:SHOWN_ROWS]
            ),
        )
        yield from _more(len(facts.events), "events.json")
    else:
        yield Text("The recorder noted no event: no overload, no change of speed, no camera lost.")


# --- how it was checked -----------------------------------------------------------------------


def _checked(evidence: Evidence) -> Iterable[Block]:
    verified = evidence.verified
    yield Table(
        ("check", "result"),
        (
            (
                "every chunk of every part decrypted and authenticated (AES-256-GCM), every "
                "header by its MAC",
                AUTHENTIC[verified.state],
            ),
            (
                "every id from the first to the last in exactly one class, and tables, seals and "
                "pictures say the same",
                "holds" if verified.balanced else "DOES NOT HOLD",
            ),
            (
                "every part is here, follows the one before and is closed",
                "holds" if verified.complete else "DOES NOT HOLD",
            ),
            ("the catalog's audit", _audit(evidence)),
        ),
    )
    for sentence in verified.notes:
        yield Text(plain(sentence))
    if evidence.audit is not None:
        for sentence in evidence.audit.problems:
            yield Text(plain(sentence))
    yield Table(
        ("part", "file", "state", "frames", "bytes", "SHA-256 of the sealed file"),
        tuple(
            (
                f"{p.index}",
                plain(p.name),
                STATES[p.state],
                f"{p.frames:,}",
                f"{p.size_bytes:,}",
                p.sha256,
            )
            for p in evidence.parts[:SHOWN_ROWS]
        ),
    )
    yield from _more(len(evidence.parts), "recording.json")
    yield from _audited(evidence)


def _audit(evidence: Evidence) -> str:
    audit = evidence.audit
    if audit is None:
        return "no catalog was given"
    if not audit.holds:
        return plain(f"THE AUDIT WAS CHANGED: {audit.problem}")
    return f"holds; {VERDICTS.get(audit.verdict, audit.verdict)}"


def _audited(evidence: Evidence) -> Iterable[Block]:
    """Who did what, by the catalog."""
    if evidence.audit is None or not evidence.audit.rows:
        return
    rows = evidence.audit.rows
    yield Table(
        ("row", "when", "what", "account", "operator"),
        tuple(
            (
                f"{row['seq']}",
                plain(row["at"]),
                plain(row["kind"]),
                plain(row["who"]),
                plain(row["operator"]),
            )
            for row in rows[:SHOWN_ROWS]
        ),
    )
    yield from _more(len(rows), "audit.json")


def _made(evidence: Evidence) -> Iterable[Block]:
    rows = (
        ("made", evidence.created),
        ("signed with the key", evidence.signer),
        *evidence.software.items(),
    )
    yield Table((), tuple((name, plain(value)) for name, value in rows))


def _more(count: int, where: str) -> Sequence[Block]:
    left = count - SHOWN_ROWS
    return () if left <= 0 else (Text(f"{left:,} more rows are in {where}."),)


def _clock(pts: int) -> str:
    ms = round(pts * 1000 / TIMESCALE_HZ)
    return f"{ms // 3_600_000}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"


def _day(utc_ns: int | None) -> str:
    text = utc_text(utc_ns)
    return "not known" if not text else text[:23].replace("T", " ") + " UTC"
