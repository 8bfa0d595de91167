"""A catalog beside the review page: what it knows of each recording, and what is put on record."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import select

from engine.catalog import commands, tables
from engine.catalog.place import CatalogPlace
from engine.catalog.store import Catalog
from engine.catalog.witness import witness
from engine.reading.verify import VerifyReport
from engine.review.library import SessionFacts, Witnessed

__all__ = ["CataloguedSessions"]

_SAID: Final = {
    "as-sealed": "The catalog's audit has it as it was sealed.",
    "found": "The catalog came to know it from the file, so it cannot vouch for its origin.",
    "unknown": "The catalog's audit has no row about it.",
    "unavailable": "The catalog cannot be asked.",
}


class CataloguedSessions:
    """See ``library.Sessions``.

    Args:
        place: The catalog; it must be possible to write its audit.
        operator: Who is named as operating.
    """

    def __init__(self, place: CatalogPlace, operator: str) -> None:
        self._place, self._operator = place, operator

    def paths(self) -> list[Path]:
        """The recordings that it knows, newest first."""
        table = tables.recordings
        query = select(table.c.path).order_by(table.c.started.desc())
        with Catalog(self._place).reading() as connection:
            return [Path(path) for (path,) in connection.execute(query)]

    def facts(self) -> dict[str, SessionFacts]:
        """By recording id in hex."""
        one, two = tables.recordings, tables.sessions
        query = select(
            one.c.recording_id,
            one.c.session_id,
            two.c.subject,
            two.c.operator,
            one.c.duration_s,
            one.c.frames_written,
            one.c.frames_offered,
        ).join_from(one, two)
        with Catalog(self._place).reading() as connection:
            return {row[0]: _facts(*row[1:]) for row in connection.execute(query)}

    def exported(self, base: Path, to: str) -> None:
        """Put on record that something is about to leave the sealed file."""
        commands.exported(self._place, base, to, operator=self._operator)

    def witnessed(self, report: VerifyReport) -> Witnessed:
        """Compare with what was sealed, and put that on record."""
        verdict = witness(self._place, report, operator=self._operator)
        said = _SAID.get(verdict.verdict)
        sentences = (*([said] if said else []), *verdict.problems)
        return Witnessed(verdict.verdict in ("differs", "missing"), sentences)


def _facts(  # noqa: PLR0913, PLR0917 - one per column
    session_id: str,
    subject: str,
    operator: str,
    duration_s: float | None,
    written: int | None,
    offered: int | None,
) -> SessionFacts:
    lost = None if written is None or offered is None else offered - written
    return SessionFacts(session_id, subject, operator, duration_s, written, lost)
