"""Reads one part: plaintext anywhere in it, its tables, its fragments.

States and their order are "Rules of reading" of FORMAT.md. Opening a sealed part reads the headers,
the final chunk and the seal; an open or recovered one has no index, so its boxes are walked when
the index is first asked for. Opening does not decrypt what is not asked for: ``check_all`` does.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.container.examine import PartState, examine, seal_of
from engine.container.header import HEADER_BYTES, Header, OpenedHeader, State, open_header
from engine.container.payload import CHUNK, PAYLOAD_OFFSET, PREAMBLE, commitment_of
from engine.container.plaintext import Plaintext, Progress
from engine.container.recipients import DataKeySecret, Secret
from engine.container.stream import PlacedStream
from engine.container.tables import (
    FragmentTable,
    IndexRow,
    SealTable,
    SessionTable,
    parse_session,
)
from engine.container.units import CutUnit, Unit, read_unit
from ipc import osdep
from ipc.errors import ConfigError, Corrupt, DiskError, Truncated

if TYPE_CHECKING:
    pass

__all__ = ["Fragment", "PartReader", "PartState"]

_OPEN_FLAGS: Final = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@dataclass(frozen=True, slots=True)
class Fragment:
    """One fragment of a part.

    Attributes:
        part: Index of the part.
        number: Its number in the part, from 0.
        first_chunk: The chunk it starts in.
        offset: First byte in the part's plaintext.
        size: Bytes, padding included.
        pts: Of its first sample, 90 kHz.
        duration: 90 kHz.
        table: What it accounts for.
        media_offset: First byte of ``moof``.
        media_size: Bytes of ``moof`` and ``mdat``; 0 for a table-only fragment.
    """

    part: int
    number: int
    first_chunk: int
    offset: int
    size: int
    pts: int
    duration: int
    table: FragmentTable
    media_offset: int
    media_size: int


class PartReader(PlacedStream):
    """The plaintext of one part as a seekable, read-only file, and what is known about it.

    Not thread-safe.

    Attributes:
        path: The file.
        header: Its header, authenticated.
        copies_valid: Whether header copies (A, B) are authentic; one is enough.
        commitment: 32 bytes: what the next part names as ``previous_part``; empty if there is no
            payload yet.
        state: "sealed", "recovered" or "incomplete"; "corrupt" only with ``salvage``.
        error: For a "corrupt" part, the first thing that is wrong.
    """

    def __init__(self, path: Path, fd: int, opened: OpenedHeader, *, salvage: bool) -> None:
        """Use ``open``."""
        super().__init__()
        self.path = path
        self.header: Header = opened.header
        self.copies_valid = opened.valid
        self._opened = opened
        self._fd = -1
        self._index: tuple[IndexRow, ...] | None = None
        self._init: Unit | None = None
        preamble = osdep.read_at(fd, PREAMBLE, PAYLOAD_OFFSET)
        self.commitment = commitment_of(preamble) if len(preamble) == PREAMBLE else b""
        self._found = examine(fd, opened, preamble, salvage=salvage)
        self.state: PartState = self._found.state
        self.error = self._found.error
        self._seal_table = None if self._found.seal is None else seal_of(self._found.seal)
        if self._seal_table is not None:
            self._index = self._seal_table.index
        self._fd = fd  # from here on close() closes it

    @classmethod
    def open(
        cls, path: Path, secret: Secret, *, allow_incomplete: bool = True, salvage: bool = False
    ) -> PartReader:
        """Open a part.

        Args:
            path: The file, ``.open`` or not.
            secret: What opens it.
            allow_incomplete: Read the whole fragments of a part without its end.
            salvage: Read the intact prefix of a corrupt part; decrypts all of it once.

        Raises:
            WrongKey: the secret does not open it.
            Corrupt: it is not what was written.
            Truncated: it has no end, and ``allow_incomplete`` is off.
            ConfigError: there is no such file, or it cannot be opened.
            DiskError: it cannot be read.

        Source: FORMAT.md, "Rules of reading".
        """
        try:
            fd = os.open(path, _OPEN_FLAGS)
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be opened ({os.strerror(error.errno or 0)})."
            ) from error
        try:
            copies = [osdep.read_at(fd, HEADER_BYTES, at) for at in (0, HEADER_BYTES)]
            opened = open_header(copies[0], copies[1], secret)
            if opened.header.state is State.OPEN and not allow_incomplete:
                raise Truncated(f"{path} has no end.", hint="Run `sealrec recover` on it.")
            return cls(path, fd, opened, salvage=salvage)
        except OSError as error:
            os.close(fd)
            raise DiskError(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error
        except BaseException:
            os.close(fd)
            raise

    # --- as a file ----------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Plaintext bytes: up to the end of the last whole unit."""
        return self._found.size_bytes

    def readall(self) -> bytes:
        """Everything from here on."""
        data = self.read_at(self.size - self._position, self._position)
        self._position += len(data)
        return data

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill a buffer from a place on, wherever the next ``read`` starts."""
        text = self._text_from(offset)
        return 0 if text is None else text.read_into(view[: self.size - offset], offset)

    def read_at(self, size_bytes: int, offset: int) -> bytes:
        """Bytes at a place; fewer where the part ends."""
        text = self._text_from(offset)
        return b"" if text is None else text.read(min(size_bytes, self.size - offset), offset)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()

    # --- what is in it ------------------------------------------------------------------------

    @property
    def part_index(self) -> int:
        """Which part of the recording this is, from 0."""
        return self.header.core.part_index

    @property
    def seal(self) -> SealTable | None:
        """The seal table of a sealed part (or of one that lacks only its last header write)."""
        return self._seal_table

    @property
    def seal_offset(self) -> int | None:
        """Where the seal starts in the plaintext."""
        return None if self._found.seal is None else self._found.seal.offset

    @property
    def cut(self) -> CutUnit | None:
        """What follows the last whole fragment of an incomplete part."""
        return self._found.cut

    @property
    def init_segment(self) -> bytes:
        """``ftyp`` and ``moov``; empty if the part holds nothing."""
        unit = self._init_unit()
        return b"" if unit is None else self.read_at(unit.media_end, 0)

    @property
    def session(self) -> SessionTable | None:
        """What was recorded with what; None if the part holds nothing."""
        unit = self._init_unit()
        return None if unit is None else parse_session(unit.event.data)

    @property
    def index(self) -> tuple[IndexRow, ...]:
        """One row per fragment: from the seal, or by walking the boxes once.

        Raises:
            Corrupt: on the walk, a chunk or a box is not what was written.
        """
        if self._index is None:
            self._index = tuple(self._walk_index())
        return self._index

    @property
    def end_pts(self) -> int:
        """Where the last fragment ends, 90 kHz; 0 without one."""
        if self._found.seal is not None:
            return self._found.seal.event.pts
        return max((f.pts + f.duration for f in self._last_fragments()), default=0)

    def fragments(self) -> Iterator[Fragment]:
        """All fragments in order; each is read when it is asked for.

        Raises:
            Corrupt: a fragment is not what was written, or not what the index says.
        """
        self._init_unit()  # also makes sure that the index begins with the first fragment
        for number in range(len(self.index)):
            yield self.fragment(number)

    def fragment(self, number: int) -> Fragment:
        """One fragment with its table.

        Raises:
            IndexError: there is no such fragment.
            Corrupt: it is not what was written, or not what the index says.
        """
        if number < 0:
            raise IndexError(number)
        row = self.index[number]
        start, end = row.first_chunk * CHUNK, self._end_of(number)
        unit = self._unit_at(start)
        if (
            not isinstance(unit, Unit)
            or unit.table is None
            or unit.end != end
            or (unit.event.pts, len(unit.table.frames)) != (row.pts, row.samples)
        ):
            raise Corrupt(f"Fragment {number} of {self.path} is not what the index says.")
        return Fragment(
            part=self.part_index,
            number=number,
            first_chunk=row.first_chunk,
            offset=start,
            size=end - start,
            pts=row.pts,
            duration=unit.event.duration or 0,
            table=unit.table,
            media_offset=unit.media_offset,
            media_size=unit.media_end - unit.media_offset,
        )

    def fragment_at(self, pts: int) -> int | None:
        """Number of the last fragment with pictures that starts at or before a time (90 kHz).

        Returns:
            The first one with pictures for an earlier time; None if there is none at all.
        """
        pictured = [number for number, row in enumerate(self.index) if row.samples]
        if not pictured:
            return None
        at = bisect_right(pictured, pts, key=lambda number: self.index[number].pts)
        return pictured[max(0, at - 1)]

    def fragment_bytes(self, number: int) -> bytes:
        """All boxes of one fragment: ``emsg``, ``moof``, ``mdat``, ``free``."""
        if number < 0:
            raise IndexError(number)
        start = self.index[number].first_chunk * CHUNK
        return self.read_at(self._end_of(number) - start, start)

    def fragment_stream(self, number: int) -> bytes:
        """A playable stream of one fragment: ``ftyp``, ``moov``, ``moof``, ``mdat``."""
        found = self.fragment(number)
        return self.init_segment + self.read_at(found.media_size, found.media_offset)

    def check_all(self, progress: Progress | None = None) -> None:
        """Decrypt every chunk of the part.

        Args:
            progress: Told how far it is.

        Raises:
            Corrupt: with the place of the first chunk that is not what was written.
        """
        text = self._found.text
        bad = None if text is None else text.first_bad_chunk(progress=progress)
        if bad is not None:
            raise bad[1]

    def data_key(self) -> DataKeySecret:
        """A secret that opens this part again, for the same process, without its slots."""
        return DataKeySecret(self._opened.dek)

    # --- within -------------------------------------------------------------------------------

    def _text_from(self, offset: int) -> Plaintext | None:
        """The plaintext; None if nothing of it lies behind a place."""
        if self.closed:
            raise ValueError("the part is closed")
        return self._found.text if offset < self.size else None

    def _content_end(self) -> int:
        """Where fragments end: at the seal, or at the end of the last whole unit."""
        return self.size if self._found.seal is None else self._found.seal.offset

    def _end_of(self, number: int) -> int:
        """Where a fragment ends, by the index; -1 stands for the init segment."""
        later = self.index[number + 1 : number + 2]
        return later[0].first_chunk * CHUNK if later else self._content_end()

    def _unit_at(self, offset: int) -> Unit | CutUnit:
        if self._found.text is None:
            return CutUnit(offset, None)
        return read_unit(self._found.text, offset, self._content_end())

    def _init_unit(self) -> Unit | None:
        if self._init is None and self._content_end() > 0:
            unit = self._unit_at(0)
            if not isinstance(unit, Unit) or unit.kind != "init":
                raise Corrupt(f"{self.path} does not begin with an init segment.")
            if self._index is not None and unit.end != self._end_of(-1):
                raise Corrupt(f"The index of {self.path} leaves something out.")
            self._init = unit
        return self._init

    def _walk_index(self) -> Iterator[IndexRow]:
        init = self._init_unit()
        offset = 0 if init is None else init.end
        while offset < self._content_end():
            unit = self._unit_at(offset)
            if not isinstance(unit, Unit) or unit.table is None:
                raise Corrupt(f"{self.path} has something else than a fragment at byte {offset}.")
            yield IndexRow(offset // CHUNK, unit.event.pts, len(unit.table.frames))
            offset = unit.end

    def _last_fragments(self) -> Iterator[Fragment]:
        for number in range(max(0, len(self.index) - 1), len(self.index)):
            yield self.fragment(number)
