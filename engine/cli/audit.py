"""`sealrec audit`: show the catalog's audit, and check that nobody has changed it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from engine.cli.catalog_options import AuditKey, CatalogFile, CatalogName, required_catalog
from engine.cli.output import AsJson, print_json
from engine.cli.read import show_line
from ipc.errors import ConfigError, Corrupt

if TYPE_CHECKING:
    from engine.catalog.audit import AuditRow, Head

__all__ = ["register"]

Verify = Annotated[
    bool, typer.Option("--verify", help="Check the chain of all rows; exit code 4 if it is broken.")
]
SeenHead = Annotated[
    str | None,
    typer.Option(
        "--head", help="A head noted earlier: the chain must still go through it.", metavar="N:MAC"
    ),
]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(audit)


def audit(  # noqa: PLR0913, PLR0917 - one parameter per option
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    verify: Verify = False,
    head: SeenHead = None,
    last: Annotated[int, typer.Option(min=0, help="Show so many of the last rows.")] = 20,
    as_json: AsJson = False,
) -> int:
    """Show what was done when and by whom; with --verify, that no row was changed since.

    The head that --verify prints, kept elsewhere, shows later that no row was taken off the end.
    """
    place = required_catalog(catalog, catalog_file, audit_key)
    from engine.catalog.audit import check, latest, read_key
    from engine.catalog.store import Catalog

    seen = None if head is None else _head(head)
    report = None
    key = read_key(place) if verify or seen is not None else b""
    with Catalog(place).reading() as connection:
        shown = latest(connection, last)
        if key:
            report = check(connection, key, seen=seen)
    result: dict[str, Any] = {"rows": [msgspec.structs.asdict(row) for row in shown]}
    if report is not None:
        result["verified"] = {
            "holds": report.holds,
            "rows": report.rows,
            "head": str(report.head),
            "first_bad": report.first_bad,
            "problem": report.problem,
        }
    if as_json:
        print_json(result)
    else:
        for row in shown:
            show_line(_line(row))
        if report is not None:
            whole = f"the chain of {report.rows} rows holds; head {report.head}"
            show_line(whole if report.holds else f"THE CHAIN IS BROKEN: {report.problem}")
    return 0 if report is None or report.holds else Corrupt.exit_code


def _head(text: str) -> Head:
    from engine.catalog.audit import Head

    head = Head.read(text)
    if head is None:
        raise ConfigError("--head takes N:MAC, as `sealrec audit --verify` prints it.")
    return head


def _line(row: AuditRow) -> str:
    about = [f"recording {row.recording_id}"] if row.recording_id else []
    about += [f"part {row.part}"] if row.part is not None else []
    about += [f"generation {row.generation}"] if row.generation is not None else []
    who = f"{row.who} ({row.operator})" if row.operator else row.who
    detail = "" if row.detail == "{}" else row.detail
    return " ".join((f"{row.seq} {row.at} {row.kind} by {who}:", *about, detail)).rstrip(": ")
