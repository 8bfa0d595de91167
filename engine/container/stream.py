"""A read-only file that is read by place: what `io` wants of one, around a single method."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["PlacedStream"]


class PlacedStream(io.RawIOBase):
    """A seekable stream whose bytes come from ``read_into``. Not thread-safe."""

    def __init__(self) -> None:
        super().__init__()
        self._position = 0

    @property
    def size(self) -> int:
        """Bytes of the whole stream."""
        raise NotImplementedError

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill a buffer from a place on, wherever the next ``read`` starts.

        Returns:
            How many bytes: all of the buffer's, or up to the stream's end.
        """
        raise NotImplementedError

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Where the next read starts."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; see ``io.RawIOBase.seek``."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        if base + offset < 0:
            raise ValueError(f"there is no place {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read; see ``io.RawIOBase.readinto``.

        Raises:
            Corrupt: a chunk on the way is not what was written, with its place.
        """
        done = self.read_into(memoryview(buffer).cast("B"), self._position)
        self._position += done
        return done
