"""What a catalog's audit says of a recording, for the package: its rows, and whether they hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from engine.catalog.place import CatalogPlace
    from engine.catalog.witness import CatalogVerdict
    from engine.reading.verify import VerifyReport

__all__ = ["AuditExtract", "as_dict", "put_on_record"]

NONE = "No catalog was given, so nothing is said here of who did what to the recording."


@dataclass(frozen=True, slots=True)
class AuditExtract:
    """The audit's rows about one recording.

    Attributes:
        holds: Whether the whole chain holds, up to ``head``.
        count: Rows of the whole audit.
        head: Its last row.
        problem: What is wrong with the chain.
        verdict: Whether the recording is the one that was sealed.
        problems: What speaks against that.
        rows: In order; of a chain that does not hold, those before the break.
    """

    holds: bool
    count: int
    head: str
    problem: str
    verdict: str
    problems: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]


def as_dict(extract: AuditExtract | None) -> dict[str, Any]:
    """For JSON."""
    if extract is None:
        return {"catalog": False, "note": NONE}
    chain = {
        "holds": extract.holds,
        "rows": extract.count,
        "head": extract.head,
        "problem": extract.problem,
    }
    return {
        "catalog": True,
        "chain": chain,
        "verdict": extract.verdict,
        "problems": list(extract.problems),
        "rows": list(extract.rows),
    }


def put_on_record(
    place: CatalogPlace, report: VerifyReport, to: str, operator: str
) -> tuple[CatalogVerdict, AuditExtract]:
    """Put on record that a recording leaves its sealed file, then take its rows out.

    Args:
        place: The catalog.
        report: What verifying the recording found.
        to: The package's name.
        operator: Who is named as operating.

    Raises:
        CatalogError, KeyFileError: it could not be put on record; then nothing may leave.
    """
    from engine.catalog import audit
    from engine.catalog.commands import exported
    from engine.catalog.store import Catalog
    from engine.catalog.witness import witness

    verdict = witness(place, report, operator=operator)
    exported(place, report.parts[0].path, to, operator=operator)
    rows: list[audit.AuditRow] = []
    with Catalog(place).reading() as connection:
        chain = audit.check(connection, audit.read_key(place), good=rows, about=report.recording_id)
    return verdict, AuditExtract(
        holds=chain.holds,
        count=chain.rows,
        head=str(chain.head),
        problem=chain.problem,
        verdict=verdict.verdict,
        problems=verdict.problems,
        rows=tuple(msgspec.structs.asdict(row) for row in rows),
    )
