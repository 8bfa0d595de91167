"""Options of the commands that use a catalog: which one, and the key of its audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from engine.catalog.place import CatalogPlace

__all__ = [
    "AuditKey",
    "CatalogFile",
    "CatalogName",
    "Operator",
    "read_catalog",
    "ready_catalog",
    "required_catalog",
]

CatalogName = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        help="The catalog: an SQLite file, or a PostgreSQL URL without a password.",
        metavar="PATH|URL",
    ),
]
CatalogFile = Annotated[
    str | None,
    typer.Option(
        "--catalog-file",
        help="A file of mode 0600 whose first line is the catalog's path or URL, or fd:N.",
        metavar="F",
    ),
]
AuditKey = Annotated[
    str | None,
    typer.Option(
        "--audit-key",
        help="Key file of the catalog's audit. Default: beside it, with .audit.key behind.",
        metavar="F",
    ),
]

Operator = Annotated[
    str, typer.Option("--operator", help="Who is named in the catalog's audit.", metavar="NAME")
]


def read_catalog(
    catalog: str | None, catalog_file: str | None, audit_key: str | None
) -> CatalogPlace | None:
    """The catalog that the three options name; None if they name none.

    Raises:
        ConfigError, KeyFileError, CatalogError: see ``place_of``.
    """
    if catalog is None and catalog_file is None and audit_key is None:
        return None
    from engine.catalog.place import place_of

    return place_of(catalog, catalog_file, audit_key)


def ready_catalog(
    catalog: str | None, catalog_file: str | None, audit_key: str | None
) -> CatalogPlace | None:
    """The same, of a command that puts on record what it does: it must be possible before.

    Raises:
        ConfigError, KeyFileError, CatalogError: see ``place_of`` and ``audit.ready``.
    """
    place = read_catalog(catalog, catalog_file, audit_key)
    if place is not None:
        from engine.catalog.audit import ready

        ready(place)
    return place


def required_catalog(
    catalog: str | None, catalog_file: str | None, audit_key: str | None
) -> CatalogPlace:
    """The catalog that the three options name, or else ``data/catalog.sqlite``.

    Raises:
        ConfigError, KeyFileError, CatalogError: see ``place_of``.
    """
    from engine.catalog.place import DEFAULT, place_of

    if catalog is None and catalog_file is None:
        catalog = DEFAULT
    place = place_of(catalog, catalog_file, audit_key)
    assert place is not None
    return place
