"""Which catalog is meant, and that no password of a database is where others can see it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.catalog.place import place_of
from engine.cli.app import run
from ipc.errors import ConfigError, KeyFileError

SECRET = "geheim"


def private(path: Path, text: str) -> str:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(fd, text.encode())
    os.close(fd)
    return str(path)


def test_a_path_is_an_sqlite_file(tmp_path: Path) -> None:
    """Its audit key lies beside it, unless another place is named."""
    name = str(tmp_path / "a b?#%.sqlite")
    for given in (name, f"sqlite:///{tmp_path}/c.sqlite"):
        place = place_of(given)
        assert place is not None
        assert place.path is not None
        assert str(place.audit_key) == f"{place.path}.audit.key"
    other = place_of(name, audit_key="/media/stick/k")
    assert other is not None
    assert other.audit_key == Path("/media/stick/k")


def test_names_that_urls_would_read_otherwise(tmp_path: Path) -> None:
    """An SQLite file may be called anything."""
    from engine.catalog.schema import initialize
    from engine.catalog.store import Catalog

    for name in ("a b", "50%?x#y", "日本", "file:x", "'quoted'\""):
        place = place_of(str(tmp_path / name))
        assert place is not None
        initialize(place)
        assert place.path is not None
        assert place.path.exists()
        with Catalog(place).reading():
            pass


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{SECRET}@host/db",
        f"postgresql://host/db?password={SECRET}",
        f"postgresql://host/db?sslpassword={SECRET}",
        f"mysql://u:{SECRET}@host/db",
        f"host=h password={SECRET} dbname=d",
    ],
)
def test_a_password_on_the_command_line_is_refused(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the ways that are open, and does not repeat the password."""
    assert run(["audit", "--catalog", url, "--audit-key", "/k"]) == 2
    said = "".join(capsys.readouterr())
    assert ".pgpass" in said
    assert "PGPASSFILE" in said
    assert "--catalog-file" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "url", [f"postgresql://u:{SECRET}@h:port/db", f"://u:{SECRET}@h", f"x y://u:{SECRET}@h/d"]
)
def test_a_url_that_cannot_be_read_is_not_repeated(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may hold a password as well."""
    assert run(["audit", "--catalog", url, "--audit-key", "/k"]) == 2
    assert SECRET not in "".join(capsys.readouterr())


def test_a_password_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker would inherit it."""
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with pytest.raises(ConfigError, match="PGPASSWORD") as error:
        place_of("postgresql://h/d", audit_key="/k")
    assert SECRET not in str(error.value)


def test_a_catalog_file_may_hold_a_password(tmp_path: Path) -> None:
    """Its audit key lies beside it; nothing that is shown has the password."""
    name = private(tmp_path / "catalog.url", f"postgresql://u:{SECRET}@host/db\nmore\n")
    place = place_of(catalog_file=name)
    assert place is not None
    assert place.url is not None
    assert place.url.password == SECRET
    assert place.audit_key == tmp_path / "catalog.url.audit.key"
    assert SECRET not in f"{place!r} {place.shown}"
    os.chmod(name, 0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        place_of(catalog_file=name)


def test_a_catalog_by_descriptor(tmp_path: Path) -> None:
    """A parent may hand the URL over on a pipe; then the key needs a name."""
    for key in (None, "/k"):
        read, write = os.pipe()
        os.write(write, b"postgresql://u:p@h/d\n")
        os.close(write)
        try:
            if key is None:
                with pytest.raises(ConfigError, match="--audit-key"):
                    place_of(catalog_file=f"fd:{read}")
            else:
                assert place_of(catalog_file=f"fd:{read}", audit_key=key) is not None
        finally:
            os.close(read)


@pytest.mark.parametrize("name", ["", ":memory:", "/tmp", "a\0b", "oracle://h/d", "sqlite://"])
def test_what_cannot_be_a_catalog(name: str) -> None:
    """Each is refused before anything is opened."""
    with pytest.raises(ConfigError):
        place_of(name)


def test_not_two_and_not_a_key_alone() -> None:
    """Options that contradict each other, or mean nothing."""
    with pytest.raises(ConfigError, match="not both"):
        place_of("a", "b")
    with pytest.raises(ConfigError, match="--catalog as well"):
        place_of(audit_key="/k")
    assert place_of() is None


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install, not which module is missing."""
    import importlib.util

    from ipc.errors import CatalogError

    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(CatalogError, match=r"sealrec\[catalog\]"):
        place_of("data/catalog.sqlite")
