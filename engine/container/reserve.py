"""Disk space set aside so that a full disk can still be given a whole fragment and a seal.

``<name>.reserve`` holds allocated blocks and no data. When the disk is full it is deleted, and what
was in hand goes into the room it leaves. It follows the largest fragment, because a fragment that
was begun must be completed with the same bytes (FORMAT.md, rule 6), and cannot be cut out again.

Source: FORMAT.md, "Decisions", "A full disk".
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from engine.container.names import reserve_path
from ipc import osdep

__all__ = ["SEAL_ALLOWANCE_BYTES", "Reserve", "reserve_needed"]

SEAL_ALLOWANCE_BYTES: Final = 256 << 10
"""For the seal's tables, its final chunk and what the file system adds."""
_INDEX_ROW_BYTES: Final = 32
_SMALLEST_BYTES: Final = 1 << 20
_STEP_BYTES: Final = 256 << 10


def reserve_needed(fragment_bytes: int, fragments: int) -> int:
    """Room that completes a fragment of this stored size and seals a part of so many fragments."""
    return fragment_bytes + SEAL_ALLOWANCE_BYTES + fragments * _INDEX_ROW_BYTES


class Reserve:
    """The reserve of one part.

    Attributes:
        path: Its file.
        size_bytes: What it holds.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.size_bytes = 0
        self._fd = fd

    @classmethod
    def create(cls, part: Path) -> Reserve:
        """Set aside the smallest reserve for a part.

        Args:
            part: Final name of the part, whose lock the caller holds.

        Raises:
            OSError: the room cannot be had; nothing is left behind.
        """
        path = reserve_path(part)
        cls.remove(path)  # of a writer that was killed: the lock says that nobody uses it
        reserve = cls(path, osdep.create_private(path))
        try:
            osdep.allocate(reserve._fd, _SMALLEST_BYTES)
        except OSError:
            reserve.release()
            raise
        reserve.size_bytes = _SMALLEST_BYTES
        return reserve

    def ensure(self, fragment_bytes: int, fragments: int) -> bool:
        """Grow before a fragment is encrypted: to twice its size if that can be had.

        Args:
            fragment_bytes: Stored size of the coming fragment.
            fragments: Fragments of the part, the coming one included.

        Returns:
            Whether the reserve is enough for this fragment and the seal.
        """
        needed = reserve_needed(fragment_bytes, fragments)
        wanted = reserve_needed(2 * fragment_bytes, fragments)
        if self.size_bytes < wanted and not self._grow(wanted) and self.size_bytes < needed:
            return self._grow(needed)
        return True

    def _grow(self, size_bytes: int) -> bool:
        rounded = -(-size_bytes // _STEP_BYTES) * _STEP_BYTES
        try:
            osdep.allocate(self._fd, rounded)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size_bytes)  # a failed attempt may keep some blocks
            return False
        self.size_bytes = rounded
        return True

    def release(self) -> None:
        """Delete it and give its room back; an error leaves it there, for recovery to remove."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1
        self.remove(self.path)
        self.size_bytes = 0

    @staticmethod
    def remove(path: Path) -> None:
        """Remove a reserve file if there is one."""
        with contextlib.suppress(OSError):
            os.unlink(path)
            osdep.sync_directory(path.parent)  # some file systems free blocks only with the journal
