"""Disks that fail on demand, for tests that run as root: real file systems on loop devices.

    Disk      ext4 in an image file; its device can be made shorter than the file system (EIO), the
              file system can be told of an error (read-only), and frozen (a write that hangs)
    SlowDisk  a Disk whose image lies on another one that is frozen: writes go on into the page
              cache, syncs hang

Everything is given back by `close`, also after a failed test. Before it nothing may be frozen: no
process that waits for a frozen disk can be killed, and a test that ended there would never end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

import pytest

__all__ = ["Disk", "SlowDisk", "needs_disks", "small_memory_disk"]

TOOLS = ("mkfs.ext4", "e2fsck", "losetup", "mount", "umount", "fsfreeze")
DISK_BYTES = 48 << 20
OUTER_BYTES = 96 << 20
SOUND_BYTES = 4 << 20


def _why_not() -> str | None:
    if sys.platform != "linux":
        return "needs Linux loop devices"
    if os.geteuid() != 0:
        return "needs root to mount a disk that fails"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)}: install e2fsprogs, util-linux and mount"
    if subprocess.run(["losetup", "-f"], capture_output=True, check=False).returncode != 0:
        return "there are no loop devices here"
    return None


_REASON = _why_not()
needs_disks = pytest.mark.skipif(_REASON is not None, reason=str(_REASON))


def run(*command: str | Path) -> str:
    """Run one tool; returns what it printed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


class Disk:
    """A small disk with ext4 on it.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, folder: Path, *, size_bytes: int = DISK_BYTES) -> None:
        self._kept: bytes | None = None
        self._image, self.path = folder / "disk.img", folder / "disk"
        self._device: str | None = None
        self.path.mkdir()
        self._image.touch()
        os.truncate(self._image, size_bytes)
        # Without a journal a failed block is a failed file, and nothing else; with few inodes, and
        # a filler in front, the file system's own tables lie where blocks never fail.
        options = "^has_journal,^resize_inode"
        run("mkfs.ext4", "-q", "-b", "4096", "-N", "64", "-O", options, self._image)
        self._attach()
        with (self.path / "filler").open("wb") as filler:
            os.posix_fallocate(filler.fileno(), 0, SOUND_BYTES)
            os.fsync(filler.fileno())

    def _attach(self) -> None:
        self._device = run("losetup", "-f", "--show", self._image)
        run("mount", "-o", "errors=continue", self._device, self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Every write hangs meanwhile."""
        run("fsfreeze", "-f", self.path)
        try:
            yield
        finally:
            run("fsfreeze", "-u", self.path)

    def break_blocks(self) -> None:
        """Every block of new files fails from now on: EIO. What they hold comes back."""
        assert self._device is not None
        with self.frozen():  # so that nothing is under way between the copy and the cut
            with self._image.open("rb") as image:
                image.seek(SOUND_BYTES)
                self._kept = image.read()
            os.truncate(self._image, SOUND_BYTES)
            run("losetup", "-c", self._device)

    def make_read_only(self) -> None:
        """What the kernel does after an error in the file system itself: EROFS from now on."""
        assert self._device is not None
        run("mount", "-o", "remount,errors=remount-ro", self.path)
        trigger = Path("/sys/fs/ext4", Path(self._device).name, "trigger_fs_error")
        trigger.write_text("a test\n")

    def heal(self) -> None:
        """The blocks answer again; what failed meanwhile is still in memory only."""
        assert self._device is not None
        self._restore()
        run("losetup", "-c", self._device)

    def _restore(self) -> None:
        if self._kept is not None:
            with self._image.open("r+b") as image:
                image.seek(SOUND_BYTES)
                image.write(self._kept)
            self._kept = None

    def repair(self) -> None:
        """Another boot on a repaired disk: what no disk has seen is gone."""
        self._detach()
        self._restore()
        subprocess.run(["e2fsck", "-fy", str(self._image)], capture_output=True, check=False)
        self._attach()

    def _detach(self) -> None:
        if self._device is not None:
            run("umount", self.path)
            run("losetup", "-d", self._device)
            self._device = None

    def close(self) -> None:
        """Give everything back."""
        self._detach()


class SlowDisk:
    """A disk that keeps what is written in memory while its own disk does not answer.

    Attributes:
        path: Where it is mounted.
    """

    def __init__(self, folder: Path) -> None:
        self._outer = Disk(folder, size_bytes=OUTER_BYTES)
        try:
            self._inner = Disk(self._outer.path)
        except BaseException:
            self._outer.close()
            raise
        self.path = self._inner.path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def frozen(self) -> AbstractContextManager[None]:
        """Every sync hangs meanwhile."""
        return self._outer.frozen()

    def close(self) -> None:
        """Give everything back."""
        self._inner.close()
        self._outer.close()


@contextmanager
def small_memory_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of so many bytes."""
    path = folder / "memory"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "sealrec-test", path)
    try:
        yield path
    finally:
        run("umount", "-l", path)  # a failed test may leave files open
