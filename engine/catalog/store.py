"""Opens a catalog and gives transactions on it, the same on SQLite and PostgreSQL.

Each transaction has a connection of its own, so that nothing is left over when a server restarts.
Writers come one after another on both: SQLite begins with its write lock, PostgreSQL with an
advisory lock, for the audit's chain must never fork. No statement waits without end.

Source: CATALOG.md, "Transactions".
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from engine.catalog.place import CatalogPlace
from engine.catalog.tables import SCHEMA
from ipc import osdep
from ipc.errors import CatalogError

__all__ = ["Catalog"]

PATIENCE_S: Final = 5.0
CONNECT_S: Final = 5
# Any number that is ours: "sealrec" in letters of a telephone.
ADVISORY_LOCK: Final = 7325732
INIT_HINT: Final = "`sealrec catalog init` makes one, or brings an older one up to date."

_WRITES: Final = "sealrec_writes"


class Catalog:
    """One catalog; holds no connection between transactions. May be used from any thread.

    Args:
        place: Which.
        patience_s: How long a statement may wait for a lock, or take.
    """

    def __init__(self, place: CatalogPlace, *, patience_s: float = PATIENCE_S) -> None:
        self.place = place
        self._engine = _engine(place, patience_s)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction that reads.

        Raises:
            CatalogError: the catalog is missing, of another version, locked or down.
        """
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction that writes; no other writer is in one at the same time.

        Raises:
            CatalogError: see ``reading``; nothing was written.
        """
        with self._transaction(writes=True) as connection:
            yield connection

    @contextmanager
    def changing_schema(self) -> Iterator[Connection]:
        """A transaction that writes, of a catalog of any version or none yet.

        Raises:
            CatalogError: it cannot be opened, is locked, or what was done in it failed.
        """
        with self._transaction(writes=True, any_version=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, writes: bool, any_version: bool = False) -> Iterator[Connection]:
        if self.place.path is not None:
            _check_file(self.place.path)
        try:
            connected = self._engine.connect().execution_options(**{_WRITES: writes})
            with connected as connection, connection.begin():
                if not any_version:
                    self._check_version(connection)
                yield connection
        except SQLAlchemyError as error:
            raise CatalogError(
                f"The catalog {self.place.shown} cannot be used: {_reason(error)}."
            ) from error

    def _check_version(self, connection: Connection) -> None:
        found = schema_version(connection)
        if found is None:
            raise CatalogError(f"There is no catalog in {self.place.shown} yet.", hint=INIT_HINT)
        if found != SCHEMA:
            raise CatalogError(
                f"The catalog {self.place.shown} has version {found}; this is for {SCHEMA}.",
                hint=INIT_HINT,
            )


def schema_version(connection: Connection) -> str | None:
    """Which migration a catalog has come to; None if it is none."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _check_file(path: Path) -> None:
    try:
        private = osdep.is_private(path)
    except OSError:
        raise CatalogError(f"There is no catalog {path}.", hint=INIT_HINT) from None
    if not private:
        raise CatalogError(
            f"{path} can be opened by others than its owner.", hint=f"Run: chmod 600 {path}"
        )


def _engine(place: CatalogPlace, patience_s: float) -> Engine:
    # No parameters in messages: they are names of patients, and messages go into logs.
    kept = {"poolclass": NullPool, "hide_parameters": True}
    if place.path is not None:
        path = place.path
        engine = create_engine("sqlite://", creator=lambda: _connect(path, patience_s), **kept)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    assert place.url is not None
    arguments = {
        "connect_timeout": CONNECT_S,
        "client_encoding": "utf8",
        "application_name": "sealrec",
        "tcp_user_timeout": round(patience_s * 1000),
    }
    try:
        engine = create_engine(place.url, connect_args=arguments, **kept)
    except ImportError:
        raise CatalogError(
            "The library for PostgreSQL is not installed.",
            hint="pip install 'sealrec[postgresql]'.",
        ) from None
    event.listen(engine, "begin", lambda connection: _begin_postgresql(connection, patience_s))
    return engine


def _connect(path: Path, patience_s: float) -> sqlite3.Connection:
    # By URI, since the plain call would make a file that is missing.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw",
        uri=True,
        timeout=patience_s,
        isolation_level=None,
        check_same_thread=False,
    )
    # What somebody else put there may be no UTF-8; it is to be found, not to end the search.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for pragma in ("foreign_keys=ON", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}").close()
    return connection


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _begin_postgresql(connection: Connection, patience_s: float) -> None:
    options: Any = connection.get_execution_options()
    limit_ms = round(patience_s * 1000)
    for name in ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout"):
        scale = 1 if name == "lock_timeout" else 6
        connection.exec_driver_sql(f"SET LOCAL {name} = {limit_ms * scale}")
    if options.get(_WRITES, False):
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")


def _reason(error: SQLAlchemyError) -> str:
    """What the database said, in one line."""
    said = str(error.orig if isinstance(error, DBAPIError) else error)
    line = " ".join(said.split())
    return line[:300].rstrip(".")
