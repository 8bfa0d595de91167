"""Name and version of this software, as files and protocols carry it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

__all__ = ["NAME_AND_VERSION", "VERSION"]

try:
    VERSION = version("sealrec")
except PackageNotFoundError:  # a source tree that was never installed
    VERSION = "0"

NAME_AND_VERSION = f"sealrec {VERSION}"
