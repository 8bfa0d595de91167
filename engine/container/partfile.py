"""One part file on disk under its lock: creating, writing, header copies, the final name.

What the writer and recovery have in common. A ``PartFile`` knows bytes and places, not what they
mean; ``HeaderCopies`` holds rule 4: at no time are both header copies dirty.

Source: FORMAT.md, "Rules of writing" 1, 2, 4, 5 and 8.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from pathlib import Path
from typing import Final

from engine.container.header import HEADER_BYTES, Header, OpenedHeader, State, updated
from engine.container.names import final_path, open_path, reserve_path
from engine.container.reserve import Reserve
from ipc import osdep
from ipc.errors import ConfigError, InUse

__all__ = ["HeaderCopies", "PartFile"]

FULL_ERRNOS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

_OPEN_FLAGS: Final = os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_TRIES_S: Final = 2.0
_PAUSE_S: Final = 0.02


class PartFile:
    """A ``.open`` file, locked for as long as this object lives.

    Attributes:
        path: The final name.
        open_path: The name it has now.
        reserve: Disk space set aside; None once it has been given up.
        full: The disk was full and the reserve was given up for it.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.open_path = open_path(path)
        self.reserve: Reserve | None = None
        self.full = False
        self._fd = fd

    @classmethod
    def create(cls, path: Path) -> PartFile:
        """Make ``<path>.open`` and lock it.

        Args:
            path: Final name of the part.

        Raises:
            ConfigError: the name, or ``.open`` of it, is taken.
            InUse: somebody keeps locking the new file.
            OSError: it cannot be made there.
        """
        if os.path.lexists(path):
            raise _taken(path)
        deadline = time.monotonic() + _TRIES_S
        while True:
            try:
                fd = osdep.create_private(open_path(path))
            except FileExistsError as error:
                raise _taken(open_path(path)) from error
            # A recovery may find the new, empty file before it is locked, and delete it. Then the
            # name is free again and this starts over.
            if osdep.lock_file(fd) and _is_named(fd, open_path(path)):
                return cls(path, fd)
            os.close(fd)
            _wait_until_gone(open_path(path), deadline)

    @classmethod
    def take(cls, path: Path) -> PartFile:
        """Lock an ``.open`` file that nobody writes any more.

        Args:
            path: Its name, with ``.open``.

        Raises:
            InUse: a running engine writes it; nothing was touched.
            FileNotFoundError: it is gone, or got its final name in this moment.
            OSError: it cannot be opened for writing.
        """
        fd = os.open(path, _OPEN_FLAGS | getattr(os, "O_NOFOLLOW", 0))
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise ConfigError(f"{path} is not a file.")
            if not osdep.lock_file(fd):
                raise InUse(f"{path} is being written; nothing was touched.")
            if not _is_named(fd, path):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        except BaseException:
            os.close(fd)
            raise
        return cls(final_path(path), fd)

    @property
    def size_bytes(self) -> int:
        """Its length on disk."""
        return os.fstat(self._fd).st_size

    def read(self, size_bytes: int, offset: int) -> bytes:
        """Bytes at a place; fewer where the file ends."""
        return osdep.read_at(self._fd, size_bytes, offset)

    def write(self, data: bytes, offset: int) -> None:
        """Write all of ``data``; if the disk is full, with the room of the reserve.

        What is written again then are the same bytes at the same place (FORMAT.md, rule 6).

        Raises:
            OSError: the file takes no more.
        """
        try:
            osdep.write_at(self._fd, data, offset)
        except OSError as error:
            if error.errno not in FULL_ERRNOS or self.reserve is None:
                raise
            self.give_up_reserve()
            self._write_into_freed_room(data, offset)

    def _write_into_freed_room(self, data: bytes, offset: int) -> None:
        # Some file systems give freed blocks out again only a moment later.
        deadline = time.monotonic() + _TRIES_S
        while True:
            try:
                osdep.write_at(self._fd, data, offset)
            except OSError as error:
                if error.errno not in FULL_ERRNOS or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)
            else:
                return

    def give_up_reserve(self) -> None:
        """Free the reserve's room because the disk is full."""
        self.full = True
        if self.reserve is not None:
            self.reserve.release()
            self.reserve = None

    def drop_reserve(self) -> None:
        """Remove the reserve, or one that a killed writer left; an error leaves it there."""
        if self.reserve is not None:
            self.reserve.release()
            self.reserve = None
        else:
            Reserve.remove(reserve_path(self.path))

    def sync(self) -> None:
        """Return when everything written is durable (fdatasync)."""
        osdep.sync_data(self._fd)

    def sync_all(self) -> None:
        """Return when everything written, and what the system notes about it, is durable."""
        os.fsync(self._fd)

    def settle(self) -> None:
        """Make what was written durable, and let what is read from now on come from the disk."""
        self.sync()
        osdep.forget_cached(self._fd)

    def truncate(self, size_bytes: int) -> None:
        """Cut the file and make that durable."""
        os.ftruncate(self._fd, size_bytes)
        self.sync_all()

    def publish(self) -> Path:
        """Give the file its final name, never replacing one, and close it.

        Returns:
            The name it has now: still ``.open`` if the final one is taken or cannot be had (on
            Windows: while another process has the file open). It is whole; recovery renames it.
        """
        if not osdep.RENAMES_OPEN_FILES:
            self.close()
        try:
            self._rename()
            # Should this fail, a power cut may bring the old name back, and recovery renames it.
            with contextlib.suppress(OSError):
                osdep.sync_directory(self.path.parent)
        except OSError:
            return self.open_path
        finally:
            self.close()
        return self.path

    def _rename(self) -> None:
        deadline = time.monotonic() + _TRIES_S
        while True:
            try:
                return osdep.rename_new(self.open_path, self.path)
            except FileExistsError:
                # Both names of one file are what a rename by link and unlink leaves when killed.
                if not os.path.samefile(self.open_path, self.path):
                    raise
                osdep.sync_directory(self.path.parent)  # the other name may not be durable yet
                return os.unlink(self.open_path)
            except PermissionError:
                # Windows: a virus scanner or a reader still has it open. Elsewhere this is final.
                if osdep.RENAMES_OPEN_FILES or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE_S)

    def delete(self) -> None:
        """Remove the file; only for one whose payload never began."""
        if not osdep.RENAMES_OPEN_FILES:
            self.close()
        os.unlink(self.open_path)
        osdep.sync_directory(self.path.parent)
        self.close()

    def close(self) -> None:
        """Let go of the file and its lock; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class HeaderCopies:
    """Both header copies of a part, written by rule 4.

    Args:
        file: The part.
        opened: The authenticated header, as found or as first written.

    Attributes:
        header: The header now in force.
    """

    def __init__(self, file: PartFile, opened: OpenedHeader) -> None:
        self._file = file
        self._dek = opened.dek
        self._newest = opened.copy
        self.header = opened.header

    def write_older(self, *, chunk_count: int, payload_bytes: int) -> None:
        """A checkpoint: the next generation over the older copy, durable when this returns.

        The chunks that it counts must be durable before.

        Raises:
            OSError: the copy may be damaged now; the other one is whole and in force.
        """
        raw = updated(self.header, self._dek, chunk_count=chunk_count, payload_bytes=payload_bytes)
        self._replace_older(raw)
        self._file.sync()

    def write_both(
        self, *, state: State, chunk_count: int, payload_bytes: int, seal_chunk: int
    ) -> None:
        """A new state: one copy, then the other, a generation each, durable one by one.

        Raises:
            OSError: one copy may be damaged now; the other one is whole and in force.
        """
        for _ in range(2):
            raw = updated(
                self.header,
                self._dek,
                state=state,
                chunk_count=chunk_count,
                payload_bytes=payload_bytes,
                seal_chunk=seal_chunk,
            )
            self._replace_older(raw)
            self._file.sync_all()

    def write_again(self) -> None:
        """The header in force once more, over the other copy, which is damaged or out of date.

        Raises:
            OSError: see ``write_both``.
        """
        self._replace_older(updated(self.header, self._dek))
        self._file.sync_all()

    def _replace_older(self, raw: bytes) -> None:
        older = 1 - self._newest
        self._file.write(raw, older * HEADER_BYTES)
        self.header, self._newest = Header.parse(raw), older


def _taken(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists already; nothing was written.", hint="Choose another name.")


def _is_named(fd: int, path: Path) -> bool:
    """Whether ``path`` is still the name of this very file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _wait_until_gone(path: Path, deadline: float) -> None:
    while os.path.lexists(path):
        if time.monotonic() > deadline:
            raise InUse(f"{path} was locked by another process as soon as it was made.")
        time.sleep(_PAUSE_S)
