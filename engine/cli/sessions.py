"""`sealrec sessions`: the sessions that a catalog knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from engine.cli.catalog_options import AuditKey, CatalogFile, CatalogName, required_catalog
from engine.cli.output import AsJson, human_bytes, human_time, print_json
from engine.cli.read import show_line

if TYPE_CHECKING:
    from engine.catalog.sessions import SessionRow

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(sessions)


def sessions(  # noqa: PLR0913, PLR0917 - one parameter per option
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    subject: Annotated[str | None, typer.Option(help="Of this subject.")] = None,
    operator: Annotated[str | None, typer.Option(help="Of this operator.")] = None,
    status: Annotated[
        str | None, typer.Option(help="in_progress, paused, completed or aborted.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Begun on this day (UTC) or later.", metavar="2026-11-26")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Begun on this day or earlier.", metavar="2026-11-26")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """List sessions: subject, operator, when, how they ended, and where the video is."""
    place = required_catalog(catalog, catalog_file, audit_key)
    from engine.catalog.sessions import SessionFilter, find_sessions
    from engine.catalog.store import Catalog

    wanted = SessionFilter(subject, operator, status, since, until)
    with Catalog(place).reading() as connection:
        found = find_sessions(connection, wanted)
    if as_json:
        print_json([msgspec.structs.asdict(row) for row in found])
        return 0
    for row in found:
        show_line(_line(row))
    if not found:
        show_line("No session.")
    return 0


def _line(row: SessionRow) -> str:
    length = "" if row.video_duration_s is None else f", {human_time(row.video_duration_s)}"
    size = "" if row.video_size_bytes is None else f", {human_bytes(row.video_size_bytes)}"
    people = ", ".join(text for text in (row.subject, row.operator) if text)
    shown = f" ({people})" if people else ""
    return f"{row.start[:19]}Z {row.status} {row.session_id}{shown}{length}{size}, {row.video_path}"
