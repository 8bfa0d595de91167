"""Makes a catalog, brings an older one up to date, and gives its audit a key and a first row.

Running it again changes nothing. Alembic runs on our own connection and transaction; there is no
alembic.ini, and the steps travel in the package.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from engine.catalog import audit
from engine.catalog.place import CatalogPlace
from engine.catalog.store import Catalog, schema_version
from engine.catalog.tables import SCHEMA
from engine.key_files import new_key_file
from ipc.errors import CatalogError, KeyFileError
from ipc.osdep import create_private

__all__ = ["Initialized", "initialize", "upgrade"]

MIGRATIONS: Final = Path(__file__).parent / "migrations"


@dataclass(frozen=True, slots=True)
class Initialized:
    """What ``initialize`` did.

    Attributes:
        created: The tables are new.
        upgraded: An older catalog was brought up to date.
        key_created: The audit's key is new.
    """

    created: bool
    upgraded: bool
    key_created: bool


def initialize(place: CatalogPlace) -> Initialized:
    """Make a catalog and the key of its audit, or bring an older one up to date.

    Raises:
        CatalogError: it cannot be made or changed, or its audit has rows and its key is missing.
        KeyFileError: the key file cannot be made or read.
    """
    if place.path is not None:
        _make_file(place.path)
    catalog = Catalog(place)
    with catalog.changing_schema() as connection:
        before = schema_version(connection)
        key_created = _provide_key(connection, place, has_tables=before is not None)
        if before != SCHEMA:
            upgrade(connection)
        audit.begin_chain(connection, audit.read_key(place))
    if place.path is not None:
        _write_ahead(place.path)  # only now: it might have been another program's
    return Initialized(before is None, before not in (None, SCHEMA), key_created)


def upgrade(connection: Connection) -> None:
    """Run the steps that are missing, inside the caller's transaction.

    Raises:
        CatalogError: the catalog is of a newer sealrec, or its texts are not UTF-8.
    """
    if connection.dialect.name == "postgresql":
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise CatalogError(
                f"The database's texts are {encoding}, which cannot hold every name.",
                hint="Make it with: createdb --encoding=UTF8 --template=template0 NAME",
            )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    from alembic.util import CommandError

    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise CatalogError(
            "The catalog was made by a newer sealrec; nothing was changed.", hint="Update sealrec."
        ) from error


def _make_file(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = create_private(path)
        os.close(fd)
    except FileExistsError:
        pass  # perhaps of an init that was killed in this moment
    except OSError as error:
        raise CatalogError(f"{path} cannot be created: {error.strerror}.") from None


def _write_ahead(path: Path) -> None:
    """Let readers and writers not hold each other up; the file remembers it."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA journal_mode=WAL").close()
    except sqlite3.Error as error:
        raise CatalogError(f"{path} cannot be a catalog: {error}.") from None
    finally:
        connection.close()


def _provide_key(connection: Connection, place: CatalogPlace, *, has_tables: bool) -> bool:
    """Make the audit's key if it is not there; True if it is new."""
    if place.audit_key.exists():
        return False
    if has_tables and audit.has_rows(connection):
        raise CatalogError(
            f"The key of the catalog's audit, {place.audit_key}, is missing.",
            hint="Bring it back from where you keep its copy: without it the audit proves nothing.",
        )
    try:
        place.audit_key.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise KeyFileError(f"{place.audit_key} cannot be created: {error.strerror}.") from None
    new_key_file(place.audit_key)
    return True
