"""The plaintext of one part as bytes at a place: chunks decrypted on demand, a few of them kept.

A bad chunk is reported when it is touched, never skipped. Nothing larger than asked for, or than
a small read-ahead, is held in memory. Source: FORMAT.md, "Why this payload".
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from engine.container.payload import CHUNK, STORED_CHUNK, TAG, PayloadOpener, offset_of_chunk
from ipc import osdep
from ipc.errors import Corrupt, DiskError

__all__ = ["Plaintext", "Progress"]

Progress = Callable[[int, int], None]
"""Called with (chunks done, chunks in all)."""

_KEPT_CHUNKS: Final = 32
_BATCH_CHUNKS: Final = 64
_AHEAD_CHUNKS: Final = 8


class Plaintext:
    """Random access to the plaintext of one payload. Not thread-safe.

    Args:
        fd: The part file.
        opener: Opens its chunks.
        full_chunks: Full chunks to read.
        final_bytes: Plaintext bytes of the final chunk behind them; None if there is none.

    Attributes:
        full_chunks: See above.
        size_bytes: All of it.
    """

    def __init__(
        self, fd: int, opener: PayloadOpener, full_chunks: int, final_bytes: int | None
    ) -> None:
        self.full_chunks = full_chunks
        self.size_bytes = full_chunks * CHUNK + (final_bytes or 0)
        self.chunk_count = full_chunks + (final_bytes is not None)
        self._fd = fd
        self._opener = opener
        self._final_bytes = final_bytes
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._next = 0
        self._in_a_row = 0

    def read(self, size_bytes: int, offset: int) -> bytes:
        """Bytes at a place; fewer where the plaintext ends.

        Raises:
            Corrupt: a chunk on the way is not what was written, with its place.
            DiskError: the disk does not give it back.
        """
        size_bytes = max(0, min(size_bytes, self.size_bytes - offset))
        k, within = divmod(offset, CHUNK)
        if 0 < size_bytes <= CHUNK - within:  # what tables and box headers are read by
            return self._chunk(k)[within : within + size_bytes]
        data = bytearray(size_bytes)
        self.read_into(memoryview(data), offset)
        return bytes(data)

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill a buffer from a place on; returns how many bytes there were.

        Raises:
            Corrupt: a chunk on the way is not what was written, with its place.
            DiskError: the disk does not give it back.
        """
        wanted = max(0, min(len(view), self.size_bytes - offset))
        done = 0
        while done < wanted:
            k, within = divmod(offset + done, CHUNK)
            if k not in self._kept and within == 0 and wanted - done >= CHUNK:
                done += self._read_whole_chunks(k, view[done:wanted])
                continue
            part = self._chunk(k)[within : within + wanted - done]
            view[done : done + len(part)] = part
            done += len(part)
        return done

    def first_bad_chunk(
        self, start: int = 0, progress: Progress | None = None
    ) -> tuple[int, Corrupt] | None:
        """Decrypt every chunk from ``start`` on.

        Returns:
            The first that is not what was written, and its error; None if all are.
        """
        k = start
        while k < self.chunk_count:
            stored, batch = self._load(k, _BATCH_CHUNKS)
            for i in range(batch):
                try:
                    self._open(stored, i, k + i)
                except Corrupt as error:
                    return k + i, error
            k += batch
            if progress is not None:
                progress(k, self.chunk_count)
        return None

    def _read_whole_chunks(self, k: int, view: memoryview) -> int:
        """Decrypt full chunks straight into a caller's buffer, without keeping them."""
        batch = min(len(view) // CHUNK, self.full_chunks - k, _BATCH_CHUNKS)
        stored, batch = self._load(k, batch)
        for i in range(batch):
            view[i * CHUNK : (i + 1) * CHUNK] = self._open(stored, i, k + i)
        self._next = k + batch
        return batch * CHUNK

    def _chunk(self, k: int) -> bytes:
        kept = self._kept.get(k)
        if kept is not None:
            self._kept.move_to_end(k)
            return kept
        # Two in a row: the first chunk of a fragment often follows the last one that was looked at
        # of the fragment before, and only its first chunk is wanted.
        self._in_a_row = self._in_a_row + 1 if k == self._next else 0
        stored, batch = self._load(k, _AHEAD_CHUNKS if self._in_a_row > 1 else 1)
        for i in range(batch):
            try:
                self._kept[k + i] = self._open(stored, i, k + i)
            except Corrupt:
                if i == 0:
                    raise
                break  # read ahead only: whoever needs that chunk will be told
            self._next = k + i + 1
        while len(self._kept) > _KEPT_CHUNKS:
            self._kept.popitem(last=False)
        return self._kept[k]

    def _load(self, k: int, count: int) -> tuple[memoryview, int]:
        """Stored bytes of up to ``count`` chunks from ``k`` on, and how many chunks they are."""
        batch = min(count, self.chunk_count - k)
        size_bytes = batch * STORED_CHUNK
        if self._final_bytes is not None and k + batch == self.chunk_count:
            size_bytes += self._final_bytes + TAG - STORED_CHUNK
        try:
            return memoryview(osdep.read_at(self._fd, size_bytes, offset_of_chunk(k))), batch
        except OSError as error:
            raise DiskError(
                f"Chunks {k} to {k + batch - 1} (file offset {offset_of_chunk(k)}) cannot be read "
                f"({os.strerror(error.errno or 0)}).",
                hint="The disk fails: copy what can be read.",
            ) from error

    def _open(self, stored: memoryview, i: int, k: int) -> bytes:
        raw = stored[i * STORED_CHUNK : (i + 1) * STORED_CHUNK]
        return self._opener.open_chunk(k, raw, final=k == self.full_chunks)
