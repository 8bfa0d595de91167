"""`sealrec catalog`: make a catalog of recordings, and bring it up to date from the files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from engine.cli.catalog_options import AuditKey, CatalogFile, CatalogName, required_catalog
from engine.cli.key_options import KeyFile, PasswordFile, PrivateKey, read_secret
from engine.cli.output import AsJson, print_json, progress
from engine.cli.read import show_line
from ipc.errors import Unbalanced

if TYPE_CHECKING:
    from engine.catalog.sync import SyncReport

__all__ = ["app"]

KEEP_THE_KEY = (
    "The audit is only as good as its key: keep a copy on another disk. Whoever holds the key and "
    "the catalog can write the audit anew."
)

app = typer.Typer(help="A catalog of sessions and recordings.", no_args_is_help=True)


@app.command("init")
def init(
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    as_json: AsJson = False,
) -> int:
    """Make a catalog and the key of its audit, or bring an older one up to date.

    Default: data/catalog.sqlite. Running it again changes nothing.
    """
    place = required_catalog(catalog, catalog_file, audit_key)
    from engine.catalog.schema import initialize

    done = initialize(place)
    if as_json:
        print_json(
            {
                "catalog": place.shown,
                "audit_key": str(place.audit_key),
                "created": done.created,
                "upgraded": done.upgraded,
                "key_created": done.key_created,
            }
        )
        return 0
    state = "made" if done.created else "brought up to date" if done.upgraded else "as it was"
    show_line(f"{place.shown}: {state}")
    show_line(f"{place.audit_key}: {'made' if done.key_created else 'as it was'}")
    if done.key_created:
        show_line(KEEP_THE_KEY)
    return 0


@app.command("sync")
def sync(  # noqa: PLR0913, PLR0917 - one parameter per option
    directory: Annotated[
        Path, typer.Argument(help="Where the recordings are.", metavar="DIR", show_default=False)
    ],
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    as_json: AsJson = False,
) -> int:
    """Bring the catalog up to date from all recordings below a directory.

    The files are the truth; running it again changes nothing. Exit code 6 if a file is missing, or
    is not what the audit has on record.
    """
    place = required_catalog(catalog, catalog_file, audit_key)
    from engine.catalog.sync import sync as run

    secret = read_secret(key_file, password_file, private_key)
    with progress("reading", shown=not as_json) as tell:
        report = run(place, directory, secret, progress=tell)
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        _show(report)
    return Unbalanced.exit_code if report.missing or report.problems else 0


def _show(report: SyncReport) -> None:
    show_line(f"{report.recordings} recordings, {len(report.changed)} brought up to date")
    for what, paths in (
        ("brought up to date", report.changed),
        ("MISSING", report.missing),
        ("in use, left alone", report.in_use),
        ("not opened by this key", report.unopened),
    ):
        for path in paths:
            show_line(f"  {what}: {path}")
    for sentence in report.problems:
        show_line(f"  {sentence}")
