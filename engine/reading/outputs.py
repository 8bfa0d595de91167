"""Plain files that leave a recording: nobody sees one before it is whole.

On Linux such a file has no name while it grows, so that nothing of it is left however the process
ends (one that replaces another has a hidden name for a moment, when it is whole); where a file
system cannot do that, it has a hidden name beside the output and is deleted on the way out. It is
readable by its owner alone, and durable before it gets its name.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from engine.container.core import MAGIC
from ipc.errors import ConfigError, DiskError, SealrecError
from ipc.osdep import create_private, rename_new, sync_directory

__all__ = ["Output", "check_target", "new_output", "unnamed_file", "write_beside", "writing"]


class Output:
    """A file that is being made.

    Attributes:
        path: Opens it, any number of times, while it is being made.
    """

    def __init__(self, out: Path, path: Path, *, force: bool, named: bool) -> None:
        """Use ``new_output``."""
        self.path = path
        self._out, self._force, self._named = out, force, named

    def publish(self) -> None:
        """Make it durable and give it its name.

        Raises:
            ConfigError: another file has taken the name meanwhile.
            OSError: it cannot be.
        """
        with self.path.open("r+b") as file:
            os.fsync(file.fileno())
        if self._named or self._force:
            self._rename()
        else:
            try:
                _link(self.path, self._out)
            except FileExistsError:
                raise _taken(self._out) from None
        sync_directory(self._out.absolute().parent)

    def _rename(self) -> None:
        path = self.path
        if not self._named:  # a link replaces nothing, so it takes a name on the way
            path = _hidden_name(self._out)
            _link(self.path, path)
        try:
            if self._force:
                os.replace(path, self._out)
            else:
                rename_new(path, self._out)
        except FileExistsError:
            raise _taken(self._out) from None
        finally:
            if not self._named:
                path.unlink(missing_ok=True)


@contextmanager
def new_output(out: Path, *, force: bool) -> Iterator[Output]:
    """A file that becomes ``out`` when it is published, and else never was.

    Args:
        out: Its name to be.
        force: Replace a file of that name.

    Raises:
        DiskError: it cannot be made there.
    """
    with unnamed_file(out) as (path, named):
        yield Output(out, path, force=force, named=named)


@contextmanager
def unnamed_file(beside: Path) -> Iterator[tuple[Path, bool]]:
    """An empty file of the owner's on the same file system, gone at the end.

    Yields:
        What opens it, and whether that is a name that others see.
    """
    fd = -1
    with writing(beside):
        fd = _without_name(beside.absolute().parent)
    if fd >= 0:
        try:
            yield Path(f"/proc/self/fd/{fd}"), False
        finally:
            os.close(fd)
        return
    path = _hidden_name(beside)
    with writing(beside):
        os.close(create_private(path))
    try:
        yield path, True
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def write_beside(path: Path, text: str, *, force: bool) -> Path:
    """Write a small file whole or not at all, readable by its owner alone."""
    with new_output(path, force=force) as output:
        output.path.write_text(text, encoding="utf-8")
        output.publish()
    return path


def check_target(out: Path, *, force: bool) -> None:
    """Refuse what cannot become an output, before anything is done.

    Raises:
        ConfigError: no directory, not a file, taken, or a sealed recording.
        DiskError: it cannot be looked at.
    """
    with writing(out):
        if not out.parent.is_dir():
            raise ConfigError(f"There is no directory {out.parent}.")
        if not os.path.lexists(out):
            return
        if not out.is_file():
            raise ConfigError(f"{out} exists and is not a file.", hint="Choose another name.")
        if not force:
            raise _taken(out)
        with out.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                raise ConfigError(f"{out} is a sealed recording; it is not replaced.")


@contextmanager
def writing(out: Path, *also: type[Exception]) -> Iterator[None]:
    """Say of a failed write which file it was, and what to do.

    Args:
        out: The file.
        also: What else a library raises when it cannot write.

    Raises:
        DiskError: in place of an OSError.
    """
    kinds: tuple[type[Exception], ...] = (OSError, *also)
    try:
        yield
    except SealrecError:
        raise
    except kinds as error:
        why = getattr(error, "strerror", None) or str(error)
        raise DiskError(
            f"{out} cannot be written ({why}).", hint="Check the folder, its rights and its space."
        ) from error


def _without_name(folder: Path) -> int:
    """A descriptor of a file without a name; -1 where there is no such thing."""
    if sys.platform != "linux":
        return -1
    with contextlib.suppress(OSError):  # the file system cannot, or the named way will say why
        fd = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if os.path.exists(f"/proc/self/fd/{fd}"):
            return fd
        os.close(fd)
    return -1


def _link(unnamed: Path, out: Path) -> None:
    # The descriptor is not looked at, for the path is absolute; it makes Python follow the link.
    os.link(unnamed, out.absolute(), src_dir_fd=0, follow_symlinks=True)


def _hidden_name(beside: Path) -> Path:
    return beside.absolute().with_name(f".sealrec-export-{secrets.token_hex(8)}.mp4")


def _taken(out: Path) -> ConfigError:
    return ConfigError(
        f"{out} exists already; nothing was written.", hint="Choose another name, or add --force."
    )
