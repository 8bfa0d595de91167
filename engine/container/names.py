"""File names of the parts of a recording.

Part 0 has the recording's own name; part n > 0 of ``stem.mp4.enc`` is ``stem.NNN.mp4.enc``, of any
other name ``name.NNN``, with n in three digits (so at most 1,000 parts). While a part is being
written it is called ``<name>.open``, and ``<name>.reserve`` beside it holds disk space for its end.

A recording of its own may well be called ``day.001.mp4.enc``. ``check_free`` never lets such a name
and ``day.mp4.enc`` be recordings at the same time, and ``base_of`` looks into the public header.

Source: FORMAT.md, "Rules of writing" 8.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from engine.container.header import CORE_BYTES, Core
from ipc.errors import ConfigError, Corrupt

__all__ = [
    "MAX_PARTS",
    "base_of",
    "check_free",
    "final_path",
    "index_of",
    "next_free",
    "open_path",
    "part_path",
    "parts_of",
    "reserve_path",
]

MAX_PARTS: Final = 1000

_SUFFIX: Final = ".mp4.enc"
_OPEN: Final = ".open"
_RESERVE: Final = ".reserve"
_NUMBER: Final = re.compile(r"\.([0-9]{3})")


def part_path(base: Path, index: int) -> Path:
    """Final name of a part.

    Args:
        base: Name of part 0, e.g. ``x/recording.mp4.enc``.
        index: 0..999.

    Raises:
        ConfigError: a recording of more than ``MAX_PARTS`` parts.
    """
    if not 0 <= index < MAX_PARTS:
        raise ConfigError(f"A recording has at most {MAX_PARTS} parts.", hint="Start a new one.")
    if index == 0:
        return base
    stem, suffix = _split(base.name)
    return base.with_name(f"{stem}.{index:03d}{suffix}")


def open_path(path: Path) -> Path:
    """Name of a part while it is being written."""
    return path.with_name(path.name + _OPEN)


def reserve_path(path: Path) -> Path:
    """Name of the file that holds disk space for the end of a part."""
    return path.with_name(path.name + _RESERVE)


def final_path(path: Path) -> Path:
    """A part's name without ``.open``."""
    return path.with_name(path.name.removesuffix(_OPEN))


def index_of(path: Path) -> int:
    """Which part of ``base_of(path)`` this is."""
    final = final_path(path)
    return 0 if base_of(path) == final else _numbered(final)[1]


def base_of(path: Path) -> Path:
    """Name of part 0 of the recording that a part belongs to.

    Args:
        path: Any part, with or without ``.open``; it need not exist.

    A numbered name is its own base if the file's header says that it is part 0.
    """
    final = final_path(path)
    base, index = _numbered(final)
    if index and any(_is_part_0(candidate) for candidate in (final, open_path(final))):
        return final
    return base


def parts_of(path: Path) -> list[Path]:
    """The existing parts of a recording, in order.

    Args:
        path: Any part, with or without ``.open``; it need not exist.

    Returns:
        One path per part that exists, the final name before ``.open`` where both exist. Missing
        parts are not in it: see ``index_of``.
    """
    return _parts_named_after(base_of(path))


def check_free(base: Path) -> None:
    """Refuse a name under which anything of a recording exists already.

    Raises:
        ConfigError: ``base``, its ``.open`` or any of its part names exists, or ``base`` is itself
            the name of a part of a recording that exists.
    """
    taken = _taken_by(base)
    if taken is not None:
        raise ConfigError(
            f"{taken} exists already; nothing was written.", hint="Choose another name."
        )


def next_free(base: Path) -> Path:
    """The first of ``stem.mp4.enc``, ``stem-2.mp4.enc``, ``stem-3.mp4.enc``, ... that is free."""
    stem, suffix = _split(base.name)
    candidate, number = base, 1
    while _taken_by(candidate) is not None:
        number += 1
        candidate = base.with_name(f"{stem}-{number}{suffix}")
    return candidate


def _taken_by(base: Path) -> Path | None:
    """What stands in the way of a new recording called ``base``."""
    for other in {base, _numbered(base)[0]}:
        for taken in (other, open_path(other)):
            if os.path.lexists(taken):
                return taken
    return next(iter(_parts_named_after(base)), None)


def _parts_named_after(base: Path) -> list[Path]:
    try:
        names = set(os.listdir(base.parent))
    except FileNotFoundError:
        return []
    found = []
    for name in {name.removesuffix(_OPEN) for name in names}:
        final = base.with_name(name)
        index = 0 if final == base else _numbered(final)[1]
        if final == base or (index and _numbered(final)[0] == base):
            found.append((index, final if name in names else open_path(final)))
    return [existing for _, existing in sorted(found)]


def _split(name: str) -> tuple[str, str]:
    if name.endswith(_SUFFIX) and name != _SUFFIX:
        return name.removesuffix(_SUFFIX), _SUFFIX
    return name, ""


def _numbered(final: Path) -> tuple[Path, int]:
    """Base and number that a name spells; the name itself and 0 if it spells none."""
    stem, suffix = _split(final.name)
    match = _NUMBER.fullmatch(stem[-4:])
    if match is None or int(match[1]) == 0 or len(stem) == len(match[0]):
        return final, 0
    base, index = final.with_name(stem[:-4] + suffix), int(match[1])
    # ``x.mp4.enc.001`` spells a number, but part 1 of ``x.mp4.enc`` is called ``x.001.mp4.enc``.
    return (base, index) if part_path(base, index) == final else (final, 0)


def _is_part_0(path: Path) -> bool:
    """Whether a file's header says so; False for no file, no header, or another part."""
    try:
        with path.open("rb") as file:
            return Core.parse(file.read(CORE_BYTES)).part_index == 0
    except (OSError, Corrupt):
        return False
