"""Says whether a verified recording is the one that was sealed, from the audit's rows about it.

A file proves its own integrity, not that it is the newest or all of it: an old header copy with a
payload cut to match, an earlier state of its keys, or a missing last part verify well by
themselves. The audit has what the engine sealed, so the two are compared here.

Source: CATALOG.md, "Is it the one that was sealed".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection

from engine.catalog import audit
from engine.catalog.audit import AuditRow, ChainReport, Entry
from engine.catalog.place import CatalogPlace
from engine.catalog.store import Catalog
from engine.reading.verify import Fingerprint, PartResult, VerifyReport
from ipc.errors import CatalogError, Corrupt, SealrecError, Unbalanced

__all__ = ["Baselines", "CatalogVerdict", "compare", "difference", "witness"]

# From the best to the worst.
VERDICTS: Final = (
    "as-sealed",
    "found",
    "changed",
    "unknown",
    "missing",
    "other-audit",
    "unavailable",
    "differs",
)
_EXIT_CODES: Final = {
    "changed": Unbalanced.exit_code,
    "unknown": Unbalanced.exit_code,
    "missing": Unbalanced.exit_code,
    "other-audit": Unbalanced.exit_code,
    "unavailable": CatalogError.exit_code,
    "differs": Corrupt.exit_code,
}


@dataclass(frozen=True, slots=True)
class CatalogVerdict:
    """What the audit says of a recording.

    Attributes:
        verdict: ``as-sealed``; ``found`` (as a sync first found it: nobody saw it sealed);
            ``changed`` (same payload, newer header than the audit knows); ``unknown`` (the audit
            has nothing about a part); ``missing`` (it knows of a part that is not here);
            ``other-audit`` (the file was sealed when the audit had a row that this one lacks);
            ``unavailable`` (the catalog cannot be read); ``differs`` (not what was sealed, or the
            audit itself was changed). The worst of the parts.
        parts: The verdict of each part.
        problems: A sentence for each thing that is wrong.
    """

    verdict: str
    parts: dict[int, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def exit_code(self, of_files: int) -> int:
        """The exit code of both: ``differs`` before what the files say, that before the rest."""
        own = _EXIT_CODES.get(self.verdict, 0)
        return own if self.verdict == "differs" or not of_files else of_files

    def as_dict(self) -> dict[str, Any]:
        """The JSON of the README."""
        return {
            "verdict": self.verdict,
            "parts": [{"index": i, "verdict": found} for i, found in sorted(self.parts.items())],
            "problems": list(self.problems),
        }


class Baselines:
    """What each part of one recording was when it was last put on record.

    Args:
        rows: The audit's rows about the recording, in order, their chain checked.

    Attributes:
        parts: The row in force of each part.
        problems: Rows that contradict earlier ones: a part that was sealed is not recovered or
            sealed again, and changing keys leaves its payload as it is.
    """

    def __init__(self, rows: Iterable[AuditRow]) -> None:
        self.parts: dict[int, AuditRow] = {}
        self.problems: list[str] = []
        self.expected = 0
        for row in rows:
            if row.part is not None and row.generation is not None:
                self._take(row.part, row)
            elif row.kind == "stop":
                self.expected = max(self.expected, _parts_in(row))

    def _take(self, part: int, row: AuditRow) -> None:
        before = self.parts.get(part)
        if before is None or _replaces(before, row):
            self.parts[part] = row
        elif row.kind != "found" and not _same(before, row):
            self.problems.append(
                f"Part {part}: row {row.seq} of the audit ({row.kind}) contradicts row "
                f"{before.seq} ({before.kind}), which stands."
            )


def witness(place: CatalogPlace, report: VerifyReport, *, operator: str = "") -> CatalogVerdict:
    """Compare a verified recording with the audit, and put the result on record.

    Args:
        place: The catalog.
        report: What ``verify`` found.
        operator: Who is named as operating.

    Returns:
        The verdict; ``unavailable`` rather than an error where the catalog cannot be used.
    """
    rows: list[AuditRow] = []
    try:
        key = audit.read_key(place)
        catalog = Catalog(place)
        with catalog.reading() as connection:
            chain = audit.check(connection, key, good=rows, about=report.recording_id)
            strangers = list(_of_another_audit(connection, report))
        verdict = _worse(compare(rows, report, chain), strangers)
        with catalog.writing() as connection:
            audit.append(connection, key, [_entry(report, verdict, operator)])
    except SealrecError as error:
        return CatalogVerdict("unavailable", problems=(str(error),))
    return verdict


def _of_another_audit(connection: Connection, report: VerifyReport) -> Iterator[str]:
    """Parts that say of the audit what it does not have."""
    for part in report.parts:
        head = audit.Head.read(part.audit_head)
        if head is not None and not audit.goes_through(connection, head):
            yield (
                f"{part.path.name} was sealed when row {head.seq} of the audit was another one or "
                "there: this is an older copy of the catalog, or another catalog."
            )


def _worse(verdict: CatalogVerdict, strangers: list[str]) -> CatalogVerdict:
    if not strangers:
        return verdict
    worst = max(verdict.verdict, "other-audit", key=VERDICTS.index)
    return CatalogVerdict(worst, verdict.parts, (*verdict.problems, *strangers))


def compare(
    rows: Sequence[AuditRow], report: VerifyReport, chain: ChainReport | None = None
) -> CatalogVerdict:
    """Compare a verified recording with the audit's rows about it.

    Args:
        rows: In order, as far as their chain holds.
        report: What ``verify`` found.
        chain: What checking the chain found, if that is to count.
    """
    baselines = Baselines(rows)
    found = {part.index: part for part in report.parts}
    verdicts, problems = {}, list(baselines.problems)
    for index, part in found.items():
        verdicts[index], problem = _of_part(baselines.parts.get(index), part)
        problems += [problem] if problem else []
    if report.whole:
        for index in sorted({*baselines.parts, *range(baselines.expected)} - set(found)):
            verdicts[index] = "missing"
            problems.append(f"Part {index} is missing: the audit knows of it.")
    worst = max(verdicts.values(), key=VERDICTS.index, default="unknown")
    if baselines.problems:
        worst = "differs"
    if chain is not None and not chain.holds:
        worst = "differs"
        problems.append(f"The audit was changed: {chain.problem} Nothing behind it counts.")
    return CatalogVerdict(worst, verdicts, tuple(problems))


def _of_part(row: AuditRow | None, part: PartResult) -> tuple[str, str]:
    """The verdict of one part, and what is wrong."""
    name = part.path.name
    if part.fingerprint is None:
        return "unknown", f"{name} does not open, so it cannot be compared with the audit."
    if row is None:
        return "unknown", f"{name}: the audit has no row about it."
    verdict, what = difference(row, part.fingerprint)
    by = f"row {row.seq} of the audit ({row.kind})"
    return verdict, f"{name} {what.format(by=by)}" if what else ""


def difference(row: AuditRow, found: Fingerprint) -> tuple[str, str]:
    """The verdict of a part against its row in force, and what is wrong, with ``{by}`` in it."""
    sealed = row.generation
    assert sealed is not None
    if row.commitment != found.commitment.hex():
        return "differs", "has another payload than {by} has."
    if row.chunk_count != found.chunk_count:
        counts = f"has {found.chunk_count} chunks of payload, not {row.chunk_count}"
        return "differs", counts + " as {by} has."
    if found.generation < sealed:
        generations = f"is of generation {found.generation}, not {sealed}"
        return "differs", "is an earlier state: it " + generations + " as {by} has."
    if found.generation > sealed:
        return "changed", (
            "had its header changed since {by}. Were its keys changed without --catalog?"
        )
    if row.header_mac != found.header_mac.hex():
        return "differs", "has another header than {by} has."
    return ("found" if row.kind == "found" else "as-sealed"), ""


def _replaces(before: AuditRow, row: AuditRow) -> bool:
    if row.kind == "seal":
        return before.kind == "found"
    return row.kind == "key_change" and _follows(before, row)


def _follows(before: AuditRow, row: AuditRow) -> bool:
    """Whether a row is about the same payload under a newer header."""
    one, two = before.generation or 0, row.generation or 0
    same = (before.commitment, before.chunk_count) == (row.commitment, row.chunk_count)
    return same and two >= one


def _same(one: AuditRow, two: AuditRow) -> bool:
    fields = ("generation", "chunk_count", "commitment", "header_mac")
    return all(getattr(one, name) == getattr(two, name) for name in fields)


def _parts_in(row: AuditRow) -> int:
    """How many parts a ``stop`` says there are; 0 if it does not."""
    try:
        detail = msgspec.json.decode(row.detail, type=_Stop)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return 0
    return min(detail.parts, 1000)


class _Stop(msgspec.Struct):
    parts: int = 0


def _entry(report: VerifyReport, verdict: CatalogVerdict, operator: str) -> Entry:
    paths = [str(part.path) for part in report.parts[:1]]
    return Entry(
        kind="verify",
        recording_id=report.recording_id,
        detail={"path": paths[0] if paths else "", "state": report.state, "is": verdict.verdict},
        operator=operator,
    )
