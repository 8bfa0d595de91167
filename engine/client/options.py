"""The options of a recording as keywords, and the configuration they make.

They are the fields of PROTOCOL.md, "Configuration", with a short form for the usual single key. The
engine checks them, here they are only named; a password is not looked at and not kept.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict

__all__ = ["Options", "configuration"]

FilePath = str | os.PathLike[str]
KEY_KINDS = ("key_file", "password_file", "public_key", "password")


class Options(TypedDict, total=False):
    """Keyword options of ``start``.

    ``key_file``, ``password_file``, ``public_key`` (paths) and ``password`` add one key each to
    ``keys``, whose maps have a ``kind``, a ``value`` and, if wanted, a ``label``.
    """

    key_file: FilePath
    password_file: FilePath
    public_key: FilePath
    password: str
    keys: Sequence[Mapping[str, str]]
    output: FilePath
    source: str
    width: int | None
    height: int | None
    fps: float | None
    pixel_format: str | None
    codec: str
    hardware: Literal["auto", "off", "only"]
    preset: str | None
    max_mbit_s: float | None
    threads: int
    seconds: float | None
    frames: int | None
    policy: Literal["drop", "block"]
    realtime: bool
    ring_seconds: float | None
    next_free_name: bool
    camera_return_s: float
    camera_settings: FilePath | None
    camera_sdk_settings: FilePath | None
    trigger: Literal["off", "software", "hardware"] | None
    disk_low_minutes: Sequence[float]
    session: Mapping[str, str]


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
