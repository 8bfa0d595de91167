"""The options of a recording as keywords, and the configuration they make.

They are the fields of PROTOCOL.md, "Configuration", with a short form for the usual single key. The
engine checks them, here they are only named; a password is not looked at and not kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

from ipc.errors import ConfigError

__all__ = [
    "CameraOptions",
    "CatalogOptions",
    "KeyOptions",
    "Options",
    "catalog_arguments",
    "configuration",
]

FilePath = str | os.PathLike[str]
KEY_KINDS = ("key_file", "password_file", "public_key", "password")


class CameraOptions(TypedDict, total=False):
    """Keyword options of ``open_camera``; ``start`` takes them where the camera is not open."""

    source: str
    width: int | None
    height: int | None
    fps: float | None
    pixel_format: str | None
    policy: Literal["drop", "block"]
    realtime: bool
    ring_seconds: float | None
    pre_roll_s: float | None
    camera_settings: FilePath | None
    camera_sdk_settings: FilePath | None
    trigger: Literal["off", "software", "hardware"] | None


class KeyOptions(TypedDict, total=False):
    """Keyword options of ``save_still``, and the first of those of ``start``.

    ``key_file``, ``password_file``, ``public_key`` (paths) and ``password`` add one key each to
    ``keys``, whose maps have a ``kind``, a ``value`` and, if wanted, a ``label``.
    """

    key_file: FilePath
    password_file: FilePath
    public_key: FilePath
    password: str
    keys: Sequence[Mapping[str, str]]
    session: Mapping[str, str]


class Options(CameraOptions, KeyOptions, total=False):
    """Keyword options of ``start``."""

    output: FilePath
    codec: str
    hardware: Literal["auto", "off", "only"]
    preset: str | None
    max_mbit_s: float | None
    threads: int
    seconds: float | None
    frames: int | None
    next_free_name: bool
    camera_return_s: float
    disk_low_minutes: Sequence[float]


class CatalogOptions(TypedDict, total=False):
    """Keyword options of a recorder: the catalog that its engine tells what happens.

    ``catalog`` is the path of an SQLite file, or a PostgreSQL URL without a password;
    ``catalog_file`` names a file of mode 0600 whose first line is such a path or URL, with a
    password in it if need be; ``audit_key`` is the key file of its audit, by default beside it.
    """

    catalog: FilePath
    catalog_file: FilePath
    audit_key: FilePath


def catalog_arguments(options: CatalogOptions) -> list[str]:
    """The engine's command line for a catalog.

    Raises:
        ConfigError: a URL with a password: every user of the machine sees command lines.
    """
    catalog = options.get("catalog")
    if isinstance(catalog, str) and "://" in catalog:
        user = catalog.partition("://")[2].rpartition("@")[0]
        if ":" in user or "password" in catalog.lower():
            raise ConfigError(
                "A password in the catalog's URL would be on the engine's command line.",
                hint="Use ~/.pgpass or PGPASSFILE, or a file of mode 0600 as catalog_file.",
            )
    arguments = []
    for option, given in (
        ("--catalog", catalog),
        ("--catalog-file", options.get("catalog_file")),
        ("--audit-key", options.get("audit_key")),
    ):
        if given is not None:
            text = os.fspath(given)
            arguments += [option, text if "://" in text else os.path.abspath(text)]
    return arguments


def configuration(config: Mapping[str, Any] | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """The ``config`` of ``start``: a map in the protocol's form, and options that go before it.

    Paths count from this process's working directory, wherever the engine was started.
    """
    wanted = {name: _plain(value) for name, value in {**(config or {}), **options}.items()}
    keys = [dict(key) for key in wanted.get("keys") or ()]
    keys += [{"kind": kind, "value": wanted.pop(kind)} for kind in KEY_KINDS if kind in wanted]
    if keys:
        wanted["keys"] = [_absolute_key(key) for key in keys]
    if wanted.get("output"):
        wanted["output"] = os.path.abspath(wanted["output"])
    return wanted


def _plain(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _absolute_key(key: dict[str, Any]) -> dict[str, Any]:
    value = _plain(key.get("value"))
    if key.get("kind") != "password" and isinstance(value, str) and value:
        value = os.path.abspath(value)
    return key | {"value": value}
