"""Which files a command means: all parts of a recording, or one of them.

Any part names its recording, as in ``info``, ``verify``, ``export`` and ``keys``. What is not a
regular file is refused here, before anybody waits on a pipe or reads a device. Names are
``container.names``; nothing of a part is read but what that needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.container.names import index_of, open_path, parts_of
from ipc.errors import ConfigError, Corrupt

__all__ = ["named_part", "reading", "select_parts"]


def select_parts(path: Path, part: int | None = None) -> list[Path]:
    """The parts of the recording that ``path`` belongs to.

    Args:
        path: Any part of it, with or without ``.open``; it need not exist itself.
        part: Only this one, by its index.

    Returns:
        At least one regular file, in order of the parts.

    Raises:
        ConfigError: a directory, a pipe or a device, no such recording, or no such part.
    """
    with _readable(path):
        _refuse_others_than_files(path)
        found = parts_of(path)
        if not found:
            raise ConfigError(f"There is no recording {path}.", hint="Check the name.")
        for existing in found:
            _refuse_others_than_files(existing)
        if part is None:
            return found
        chosen = [existing for existing in found if index_of(existing) == part]
    if not chosen:
        raise ConfigError(
            f"The recording {path} has no part {part}.", hint="`sealrec info FILE` lists its parts."
        )
    return chosen


def named_part(path: Path, part: int | None = None) -> Path:
    """The one part that ``path`` itself names, or another of its recording by index.

    Raises:
        ConfigError: see ``select_parts``.
    """
    if part is not None:
        return select_parts(path, part)[0]
    with _readable(path):
        for candidate in (path, open_path(path)):
            _refuse_others_than_files(candidate)
            if candidate.exists():
                return candidate
    raise ConfigError(f"There is no file {path}.", hint="Check the name.")


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Read a part that is open: bytes that the disk does not give are damage like any other.

    Raises:
        Corrupt: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise Corrupt(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error


def _refuse_others_than_files(path: Path) -> None:
    if path.is_dir():
        raise ConfigError(f"{path} is a directory.", hint="Name a part of a recording in it.")
    if os.path.lexists(path) and not path.is_file():
        raise ConfigError(f"{path} is not a file.", hint="Name a part of a recording.")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error
