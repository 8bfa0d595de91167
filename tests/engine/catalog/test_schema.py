"""A catalog is made, brought up to date and guarded, on both databases."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from engine.catalog import schema, tables
from engine.catalog.schema import Initialized, initialize
from engine.catalog.store import Catalog
from ipc.errors import CatalogError
from tests.engine.catalog.conftest import Site


def test_a_catalog_is_made_once(empty_site: Site) -> None:
    """The first init makes tables and key, the second changes nothing."""
    assert initialize(empty_site.place) == Initialized(True, False, True)
    key = empty_site.place.audit_key.read_bytes()
    assert initialize(empty_site.place) == Initialized(False, False, False)
    assert empty_site.place.audit_key.read_bytes() == key
    assert empty_site.ask("SELECT seq, kind FROM audit") == [(1, "init")]


def test_models_and_migrations_agree(site: Site) -> None:
    """The tables that the steps leave are those of the models, on both databases."""
    with Catalog(site.place).reading() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        assert schema.schema_version(connection) == tables.SCHEMA


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Catalog, write-ahead log and key have mode 0600, and a looser catalog is refused."""
    from tests.engine.catalog.conftest import sqlite_site

    os.umask(umask := os.umask(0o022))
    assert umask is not None
    place = sqlite_site(tmp_path / "c.sqlite").place
    initialize(place)
    assert place.path is not None
    with Catalog(place).reading():
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    place.path.chmod(0o640)
    with pytest.raises(CatalogError, match="by others"), Catalog(place).reading():
        pass


def test_sqlite_runs_with_a_write_ahead_log_and_foreign_keys(tmp_path: Path) -> None:
    """A reader never waits for a writer, rows never lose their recording, commits are synced."""
    from tests.engine.catalog.conftest import sqlite_site

    place = sqlite_site(tmp_path / "c.sqlite").place
    initialize(place)
    with Catalog(place, patience_s=1.5).reading() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        }
    assert found == {
        "journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 1500
    }  # fmt: skip


def test_no_catalog_is_an_error_that_says_what_to_do(empty_site: Site) -> None:
    """Reading what is not there makes nothing, and names the command that would."""
    with pytest.raises(CatalogError, match="catalog init"), Catalog(empty_site.place).reading():
        pass
    assert empty_site.place.path is None or not empty_site.place.path.exists()


def test_a_newer_catalog_is_left_alone(site: Site) -> None:
    """What a later version made is neither read nor changed."""
    site.sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(CatalogError, match="version 9999"), Catalog(site.place).reading():
        pass
    with pytest.raises(CatalogError, match="newer sealrec"):
        initialize(site.place)
    assert site.ask("SELECT version_num FROM alembic_version") == [("9999",)]


def test_a_lost_key_is_not_replaced(site: Site) -> None:
    """Where the audit has rows, a new key would only hide that the old one is gone."""
    site.place.audit_key.unlink()
    with pytest.raises(CatalogError, match="is missing"):
        initialize(site.place)
    assert not site.place.audit_key.exists()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET kind = 'other'",
        "DELETE FROM audit",
        "INSERT INTO audit SELECT 9, at, kind, who, operator, recording_id, part, generation,"
        " chunk_count, commitment, header_mac, detail, mac FROM audit WHERE seq = 1",
        "UPDATE audit_head SET seq = 0",
        "DELETE FROM audit_head",
    ],
)
def test_the_audit_is_append_only(site: Site, statement: str) -> None:
    """The database itself refuses to change or remove rows of the audit."""
    before = site.ask("SELECT * FROM audit")
    with pytest.raises(Exception, match=r"append-only|numbered|only grows"):
        site.sql(statement, guarded=True)
    assert site.ask("SELECT * FROM audit") == before


def test_the_audit_is_not_replaced_or_emptied(site: Site) -> None:
    """Neither of the two ways round the usual statements is open."""
    way = "TRUNCATE audit"
    if site.kind == "sqlite":
        way = (
            "INSERT OR REPLACE INTO audit SELECT seq, at, 'x', who, operator, recording_id, part,"
            " generation, chunk_count, commitment, header_mac, detail, mac FROM audit"
        )
    with pytest.raises(Exception, match=r"append-only|numbered"):
        site.sql(way, guarded=True)
    assert site.ask("SELECT kind FROM audit") == [("init",)]


def test_a_file_that_is_something_else(tmp_path: Path) -> None:
    """Neither another program's database nor any other file is touched."""
    import sqlite3

    from tests.engine.catalog.conftest import sqlite_site

    theirs, text, empty = (tmp_path / name for name in ("theirs.sqlite", "text", "empty"))
    with sqlite3.connect(theirs) as connection:
        connection.execute("CREATE TABLE sessions (id)")
    connection.close()
    before = theirs.read_bytes()
    text.write_bytes(b"these are notes, and not a few of them" * 100)
    empty.touch()  # what an init leaves that is killed in its first moment
    for path in (theirs, text, empty):
        path.chmod(0o600)
    for path in (theirs, text):
        with pytest.raises(CatalogError):
            initialize(sqlite_site(path).place)
    assert text.read_bytes().startswith(b"these are notes")
    assert theirs.read_bytes() == before
    with sqlite3.connect(theirs) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("sessions",)]
    connection.close()
    assert initialize(sqlite_site(empty).place).created
    with Catalog(sqlite_site(empty).place).reading() as connected:
        assert connected.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_a_failed_step_leaves_nothing(empty_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that breaks off is undone as a whole, and init can be run again."""
    from engine.catalog import audit

    def break_off(*_: object) -> None:
        raise CatalogError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr(audit, "begin_chain", break_off)
        with pytest.raises(CatalogError, match="broken off"):
            initialize(empty_site.place)
    with pytest.raises(CatalogError, match="catalog init"), Catalog(empty_site.place).reading():
        pass
    assert initialize(empty_site.place).created
