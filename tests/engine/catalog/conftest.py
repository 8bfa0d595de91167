"""A catalog on each of the two databases; the bodies of the tests are the same."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.catalog.place import CatalogPlace, place_of
from tests.engine.catalog import postgres


@pytest.fixture(scope="session", autouse=True)
def _server() -> Iterator[postgres.Server | None]:
    # Before the first test rather than within it, which would be said to leave it behind.
    programs = postgres.programs()
    if programs is None:
        yield None
        return
    server = postgres.Server(programs)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgresql(_server: postgres.Server | None) -> postgres.Server:
    """The server of this run of the tests."""
    if _server is None and os.environ.get("CI") == "true":
        pytest.fail(postgres.HOW_TO_GET)
    if _server is None:
        pytest.skip(postgres.HOW_TO_GET)
    return _server


@dataclass(frozen=True)
class Site:
    """A place for a catalog, and a way past the product into its database.

    Attributes:
        place: The place.
        options: The command line's options for it.
        kind: sqlite or postgresql.
        sql: Runs statements with every trigger off, as somebody does who owns the database.
        ask: Runs a query.
    """

    place: CatalogPlace
    options: tuple[str, ...]
    kind: str
    sql: Callable[..., None]
    ask: Callable[[str], list[tuple[Any, ...]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """Where a catalog can be made."""
    if request.param == "sqlite":
        return sqlite_site(tmp_path / "sites" / "catalog.sqlite")
    server: postgres.Server = request.getfixturevalue("postgresql")
    return postgresql_site(server, tmp_path / "audit.key")


@pytest.fixture
def site(empty_site: Site) -> Site:
    """A catalog that was just made."""
    from engine.catalog.schema import initialize

    initialize(empty_site.place)
    return empty_site


def sqlite_site(path: Path) -> Site:
    """A place on SQLite."""
    place = place_of(str(path))
    assert place is not None

    def sql(*statements: str, guarded: bool = False) -> None:
        connection = sqlite3.connect(path, isolation_level=None)
        names = _triggers(connection) if not guarded else []
        try:
            for name, _ in names:
                connection.execute(f"DROP TRIGGER {name}")
            for statement in statements:
                connection.execute(statement)
            for _, made in names:
                connection.execute(made)
        finally:
            connection.close()

    def ask(query: str) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(path)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    return Site(place, ("--catalog", str(path)), "sqlite", sql, ask)


def _triggers(connection: sqlite3.Connection) -> Sequence[tuple[str, str]]:
    return connection.execute("SELECT name, sql FROM sqlite_master WHERE type='trigger'").fetchall()


def postgresql_site(server: postgres.Server, audit_key: Path) -> Site:
    """A place in a new database of a server."""
    import psycopg

    database = server.new_database()
    url = server.url(database)
    place = place_of(url, audit_key=str(audit_key))
    assert place is not None

    def sql(*statements: str, guarded: bool = False) -> None:
        role = () if guarded else ("SET session_replication_role = replica",)
        server.run_sql(database, *role, *statements)

    def ask(query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(server.dsn(database)) as connection:
            return connection.execute(query).fetchall()  # type: ignore[arg-type]

    options = ("--catalog", url, "--audit-key", str(audit_key))
    return Site(place, options, "postgresql", sql, ask)
