"""Where a catalog is and which key its audit has, from what a person or a controller gives.

A path is an SQLite file, a URL is SQLite or PostgreSQL. A database password is taken from a file
that its owner alone can read, never from the command line or the environment, and shown to nobody.
Nothing is opened here but such a file: that is ``store``.

Source: CATALOG.md, "Where it is".
"""

from __future__ import annotations

import importlib.util
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.key_files import read_line
from ipc.errors import CatalogError, ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL

__all__ = ["DEFAULT", "CatalogPlace", "place_of"]

DEFAULT: Final = "data/catalog.sqlite"

_KEY_SUFFIX: Final = ".audit.key"
_DRIVER: Final = "postgresql+psycopg"
_DRIVERS: Final = ("postgresql", "postgres", _DRIVER)
_DESCRIPTOR: Final = re.compile(r"fd:\d+")
_PASSWORD_HINT: Final = (
    "Put it into ~/.pgpass (or the file that PGPASSFILE names), or the whole URL into a file of "
    "mode 0600 and give that with --catalog-file."
)


@dataclass(frozen=True, slots=True)
class CatalogPlace:
    """One catalog.

    Attributes:
        shown: How logs and messages call it; never with a password.
        audit_key: The file with the audit's key.
        path: The SQLite file; None for PostgreSQL.
        url: The PostgreSQL server and database; None for SQLite.
    """

    shown: str
    audit_key: Path
    path: Path | None = None
    url: URL | None = field(default=None, repr=False)


def place_of(
    catalog: str | None = None, catalog_file: str | None = None, audit_key: str | None = None
) -> CatalogPlace | None:
    """The catalog that is meant, if one is.

    Args:
        catalog: Path of an SQLite file, or a URL (``sqlite:///PATH``, ``postgresql://...``) without
            a password.
        catalog_file: A file whose first line is such a path or URL, a password in it allowed,
            readable by its owner alone; or ``fd:N``.
        audit_key: The audit's key file. By default it is called after the SQLite file or the
            catalog file, with ``.audit.key`` behind.

    Returns:
        None if neither a catalog nor a file is given.

    Raises:
        ConfigError: both are given, it is no catalog that can be, or it holds a password where
            others can see it. Messages never repeat a URL.
        KeyFileError: the catalog file is missing, or others may read it.
        CatalogError: the libraries for it are not installed.
    """
    if catalog is not None and catalog_file is not None:
        raise ConfigError("Give --catalog or --catalog-file, not both.")
    text, beside = catalog, None
    if catalog_file is not None:
        text = _first_line(catalog_file)
        beside = None if _DESCRIPTOR.fullmatch(catalog_file) else Path(catalog_file)
    if text is None:
        if audit_key is not None:
            raise ConfigError("--audit-key is of a catalog.", hint="Give --catalog as well.")
        return None
    _require_libraries()
    if "\0" in text or not text:
        raise ConfigError("That is no name of a catalog.", hint="Give a path or a URL.")
    key = None if audit_key is None else Path(audit_key).absolute()
    if "://" not in text:
        return _sqlite(text, key, is_secret=catalog_file is not None)
    return _from_url(text, key, beside, is_secret=catalog_file is not None)


def _require_libraries() -> None:
    names = ("sqlalchemy", "alembic")
    if any(importlib.util.find_spec(name) is None for name in names):
        raise CatalogError(
            "The catalog's libraries are not installed.",
            hint="pip install 'sealrec[catalog]', for PostgreSQL 'sealrec[postgresql]'.",
        )


def _first_line(source: str) -> str:
    line = read_line(source)
    try:
        return line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        pass  # not as a cause: the error carries the bytes
    raise ConfigError(f"The first line of {source} is not UTF-8.")


def _sqlite(text: str, key: Path | None, *, is_secret: bool) -> CatalogPlace:
    if not is_secret and re.search(r"\bpassword\s*=", text, re.IGNORECASE):
        raise ConfigError("A password on the command line is seen by others.", hint=_PASSWORD_HINT)
    path = Path(text).absolute()
    if text.startswith(":memory:") or path.is_dir():
        raise ConfigError(f"{text} cannot be a catalog.", hint="Give the path of a file.")
    return CatalogPlace(str(path), key or path.with_name(path.name + _KEY_SUFFIX), path=path)


def _from_url(text: str, key: Path | None, beside: Path | None, *, is_secret: bool) -> CatalogPlace:
    url = _parse(text)
    if url is None:
        raise ConfigError(
            "The catalog's URL cannot be read.",
            hint="It looks like postgresql://user@host/database or sqlite:///PATH.",
        )
    if not is_secret and _has_password(url):
        raise ConfigError(
            "A password in a URL on the command line is seen by others; nothing was opened.",
            hint=_PASSWORD_HINT,
        )
    if url.drivername == "sqlite" and url.database and not url.query and not url.host:
        return _sqlite(url.database, key, is_secret=is_secret)
    if url.drivername not in _DRIVERS:
        raise ConfigError(
            "A catalog is an SQLite file or a PostgreSQL database.",
            hint="Give a path, sqlite:///PATH or postgresql://user@host/database.",
        )
    if "PGPASSWORD" in os.environ:
        raise ConfigError(
            "PGPASSWORD is set, and every process that is started inherits it.",
            hint=_PASSWORD_HINT,
        )
    if key is None and beside is not None:
        key = beside.absolute().with_name(beside.name + _KEY_SUFFIX)
    if key is None:
        raise ConfigError(
            "A PostgreSQL catalog needs to know where the key of its audit is.",
            hint="Give --audit-key FILE.",
        )
    shown = f"postgresql://{url.host or url.query.get('host', '')}/{url.database or ''}"
    return CatalogPlace(shown, key, url=url.set(drivername=_DRIVER))


def _parse(text: str) -> URL | None:
    # None instead of the error: its text is the URL, perhaps with a password.
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(text)
    except (ArgumentError, ValueError):
        return None


def _has_password(url: URL) -> bool:
    return url.password is not None or any("password" in name.lower() for name in url.query)
