"""Reads a recording: all its parts joined to one playable stream, with what is missing named.

The joined stream is part 0 as it is, then every later part without its ``ftyp`` and ``moov``;
sample times count through, so ``av.open(RecordingReader.open(path, secret))`` plays the whole.
``PartReader`` (part.py) reads a single part, ``read_public_header`` what needs no key.

Source: FORMAT.md, "Inside the payload" and "Rules of reading".
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.container.header import HEADER_BYTES, Header
from engine.container.names import base_of, index_of, parts_of
from engine.container.part import Fragment, PartReader, PartState
from engine.container.recipients import Secret
from engine.container.stream import PlacedStream
from ipc.errors import ConfigError, Corrupt, SealrecError

if TYPE_CHECKING:
    pass

__all__ = [
    "Fragment",
    "PartReader",
    "PartState",
    "PublicInfo",
    "RecordingReader",
    "read_public_header",
]


@dataclass(frozen=True, slots=True)
class PublicInfo:
    """What a part shows without a key. Nothing of it is authenticated.

    Attributes:
        path: The file.
        size_bytes: Its size.
        header: The well-formed header copy of the highest generation.
        well_formed: Whether copies (A, B) are well formed.
    """

    path: Path
    size_bytes: int
    header: Header
    well_formed: tuple[bool, bool]


def read_public_header(path: Path) -> PublicInfo:
    """Read what needs no key.

    Raises:
        Corrupt: no header copy is well formed.
        ConfigError: there is no such file, or it cannot be read.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(2 * HEADER_BYTES)
            size_bytes = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({os.strerror(error.errno or 0)}).") from error
    copies = [_parse_or_none(raw[at : at + HEADER_BYTES]) for at in (0, HEADER_BYTES)]
    known = [header for header in copies if header is not None]
    if not known:
        raise Corrupt(f"{path} is not a sealed recording, or both of its headers are damaged.")
    newest = max(known, key=lambda header: header.generation)
    return PublicInfo(path, size_bytes, newest, (copies[0] is not None, copies[1] is not None))


@dataclass(frozen=True, slots=True)
class _Piece:
    """A stretch of the joined stream: ``size_bytes`` of a part's plaintext from ``offset`` on."""

    start: int
    part: PartReader
    offset: int
    size_bytes: int


class RecordingReader(PlacedStream):
    """All parts of a recording as one seekable, read-only fragmented MP4.

    Not thread-safe.

    Attributes:
        parts: The readable parts, in order.
        problems: One sentence for everything that is missing or does not belong.
        uniform: Every part has the same ``moov``. Where not (the picture's size changed), the
            joined stream declares the first part's; ``fragment_stream`` uses each part's own.
    """

    def __init__(self, parts: Sequence[PartReader], problems: Sequence[str]) -> None:
        """Use ``open``."""
        super().__init__()
        self.parts = tuple(parts)
        self.problems = tuple(problems)
        self._pieces = _join(self.parts)
        self._starts = [piece.start for piece in self._pieces]
        inits = {part.init_segment for part in self.parts if part.size}
        self.uniform = len(inits) <= 1

    @classmethod
    def open(
        cls, path: Path, secret: Secret, *, allow_incomplete: bool = True, salvage: bool = False
    ) -> RecordingReader:
        """Open the recording that a part belongs to.

        Args:
            path: Any of its parts.
            secret: What opens it.
            allow_incomplete: Take parts without their end, up to their last whole fragment.
            salvage: Take the intact prefix of corrupt parts, and leave out (naming them in
                ``problems``) parts that do not open at all.

        Raises:
            WrongKey, Corrupt, Truncated: of any part; see ``PartReader.open``.
            ConfigError: there is no such recording.
        """
        paths = parts_of(path)
        if not paths:
            raise ConfigError(f"There is no recording {base_of(path)}.")
        parts: list[PartReader] = []
        problems: list[str] = []
        try:
            for part_path in paths:
                try:
                    part = PartReader.open(
                        part_path, secret, allow_incomplete=allow_incomplete, salvage=salvage
                    )
                except SealrecError as error:
                    if not salvage:
                        raise
                    problems.append(f"{part_path.name} does not open: {error.message}")
                    continue
                _admit(part, parts, problems)
            problems += _missing(parts)
            return cls(parts, problems)
        except BaseException:
            for part in parts:
                part.close()
            raise

    @property
    def complete(self) -> bool:
        """No part is missing or foreign, as far as the files can tell.

        That parts are missing behind a recovered or incomplete last one, no file can tell.
        """
        return not self.problems

    @property
    def end_pts(self) -> int:
        """Where the recording ends, 90 kHz."""
        return max((part.end_pts for part in self.parts), default=0)

    def fragments(self) -> Iterator[Fragment]:
        """The fragments of all parts in order; ``Fragment.part`` says of which."""
        for part in self.parts:
            yield from part.fragments()

    def fragment_stream(self, number: int) -> bytes:
        """A playable stream of one fragment, counted from 0 over all parts.

        Raises:
            IndexError: there is no such fragment.
        """
        if number < 0:
            raise IndexError(number)
        for part in self.parts:
            if number < len(part.index):
                return part.fragment_stream(number)
            number -= len(part.index)
        raise IndexError(number)

    # --- as a file ----------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of the joined stream."""
        last = self._pieces[-1] if self._pieces else None
        return 0 if last is None else last.start + last.size_bytes

    def read_into(self, view: memoryview, offset: int) -> int:
        """Fill a buffer from a place on, wherever the next ``read`` starts."""
        done = 0
        while done < len(view) and offset + done < self.size:
            piece = self._pieces[bisect_right(self._starts, offset + done) - 1]
            within = offset + done - piece.start
            room = min(len(view) - done, piece.size_bytes - within)
            done += piece.part.read_into(view[done : done + room], piece.offset + within)
        return done

    def readall(self) -> bytes:
        """Everything from here on."""
        data = bytearray(max(0, self.size - self._position))
        return bytes(data[: self.readinto(data)])

    def close(self) -> None:
        """Close every part; safe to call twice."""
        for part in self.parts:
            part.close()
        super().close()


def _parse_or_none(raw: bytes) -> Header | None:
    try:
        return Header.parse(raw)
    except Corrupt:
        return None


def _admit(part: PartReader, parts: list[PartReader], problems: list[str]) -> None:
    """Take a part into the recording, or name why it does not belong."""
    core, name = part.header.core, part.path.name
    if core.part_index != index_of(part.path):
        problems.append(f"{name} says that it is part {core.part_index}; it is left out.")
    elif parts and core.recording_id != parts[0].header.core.recording_id:
        problems.append(f"{name} belongs to another recording; it is left out.")
    else:
        previous = parts[-1] if parts else None
        chained = previous is None or core.previous_part == previous.commitment
        if previous is not None and core.part_index == previous.part_index + 1 and not chained:
            problems.append(f"{name} does not follow {previous.path.name}.")
        parts.append(part)
        return
    part.close()


def _missing(parts: Sequence[PartReader]) -> list[str]:
    """Parts that the others show to be missing."""
    if not parts:
        return ["No part of the recording is here."]
    present = {part.part_index for part in parts}
    last = parts[-1]
    problems = [
        f"Part {index} is missing." for index in range(last.part_index) if index not in present
    ]
    seal = last.seal
    if seal is not None and not seal.last:
        problems.append(f"Part {last.part_index + 1} is missing: {last.path.name} is not the last.")
    elif seal is not None and seal.parts != last.part_index + 1:
        problems.append(f"The seal counts {seal.parts} parts; {len(parts)} are here.")
    return problems


def _join(parts: Sequence[PartReader]) -> list[_Piece]:
    pieces: list[_Piece] = []
    start = 0
    for part in parts:
        skipped = len(part.init_segment) if pieces else 0
        if part.size > skipped:
            pieces.append(_Piece(start, part, skipped, part.size - skipped))
            start += part.size - skipped
    return pieces
