"""What state a part is in and how far it reaches: rules 4 to 7 of "Rules of reading" (FORMAT.md).

Rules 1 to 3, which need only the header, are ``header.open_header``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from engine.container.header import Header, OpenedHeader, State
from engine.container.payload import (
    CHUNK,
    PREAMBLE,
    TAG,
    PayloadOpener,
    chunks_in_file,
    offset_of_chunk,
)
from engine.container.plaintext import Plaintext
from engine.container.tables import SealTable, parse_seal
from engine.container.units import CutUnit, Unit, read_unit
from ipc.errors import Corrupt

__all__ = ["Found", "PartState", "examine", "seal_of"]

PartState = Literal["sealed", "recovered", "incomplete", "corrupt"]


@dataclass(frozen=True, slots=True)
class Found:
    """What a part holds.

    Attributes:
        state: By "Rules of reading".
        text: Its plaintext; None if the payload never began.
        size_bytes: Plaintext up to the end of its last whole unit.
        seal: The seal, if it is whole and the last thing in the part.
        cut: What follows the last whole unit, if anything.
        error: Why a part is "corrupt".
    """

    state: PartState
    text: Plaintext | None
    size_bytes: int
    seal: Unit | None = None
    cut: CutUnit | None = None
    error: Corrupt | None = field(default=None, repr=False)


def examine(fd: int, opened: OpenedHeader, preamble: bytes, *, salvage: bool) -> Found:
    """State and extent of a part, by the rules of reading 4 to 7."""
    header = opened.header
    # After the header: a part that is being written may only have grown since.
    size_bytes = os.fstat(fd).st_size
    if header.state is State.OPEN and header.chunk_count == 0 and len(preamble) < PREAMBLE:
        return Found("incomplete", None, 0)
    opener = PayloadOpener(opened.dek, header.core.pack(), preamble)
    full_chunks, rest = chunks_in_file(size_bytes)
    text = Plaintext(fd, opener, full_chunks, rest - TAG if rest >= TAG else None)
    try:
        if salvage:
            _check_known(text, header)
        if header.state is State.SEALED:
            return _examine_sealed(text, header)
        if header.state is State.RECOVERED:
            return _examine_recovered(text, header, rest)
        return _examine_open(fd, opener, text, header)
    except Corrupt as error:
        if not salvage:
            raise
        prefix = _intact_prefix(fd, opener, text, 0)
        found = _walk(prefix, 0)
        return Found("corrupt", prefix, found.size_bytes, None, found.cut, error)


def _check_known(text: Plaintext, header: Header) -> None:
    """Decrypt what must be intact: in an open part only the chunks known to be durable."""
    bad = text.first_bad_chunk()
    if bad is not None and (header.state is not State.OPEN or bad[0] < header.chunk_count):
        raise bad[1]


def _examine_sealed(text: Plaintext, header: Header) -> Found:
    if text.chunk_count != text.full_chunks + 1 or (header.chunk_count, header.payload_bytes) != (
        text.chunk_count,
        text.size_bytes,
    ):
        raise Corrupt(
            f"The part was sealed with {header.chunk_count} chunks and {header.payload_bytes} "
            f"bytes; the file holds {text.chunk_count} and {text.size_bytes}."
        )
    bad = text.first_bad_chunk(text.full_chunks)
    if bad is not None:
        raise bad[1]
    seal = read_unit(text, header.seal_chunk * CHUNK, text.size_bytes)
    if not isinstance(seal, Unit) or seal.kind != "seal" or seal.end != text.size_bytes:
        raise Corrupt("The seal is not where the header says.")
    return Found("sealed", text, text.size_bytes, seal)


def _examine_recovered(text: Plaintext, header: Header, rest: int) -> Found:
    if text.full_chunks > header.chunk_count:
        raise Corrupt(
            "The part was recovered, and more follows its end.",
            hint="If it is still called .open, run `sealrec recover` again.",
        )
    if (text.full_chunks, text.full_chunks * CHUNK, rest) != (
        header.chunk_count,
        header.payload_bytes,
        0,
    ):
        raise Corrupt(
            f"The part was recovered with {header.chunk_count} chunks; "
            f"the file holds {text.full_chunks} and {rest} bytes."
        )
    return Found("recovered", text, text.size_bytes)


def _examine_open(fd: int, opener: PayloadOpener, text: Plaintext, header: Header) -> Found:
    if text.full_chunks < header.chunk_count:
        raise Corrupt(
            f"The file ends within chunk {text.full_chunks} "
            f"(file offset {offset_of_chunk(text.full_chunks)}); "
            f"{header.chunk_count} were known to be durable."
        )
    if header.payload_bytes != header.chunk_count * CHUNK:
        raise Corrupt("The header's counts do not fit each other.")
    prefix = _intact_prefix(fd, opener, text, header.chunk_count)
    return _walk(prefix, header.chunk_count * CHUNK)


def _intact_prefix(fd: int, opener: PayloadOpener, text: Plaintext, start: int) -> Plaintext:
    """The plaintext up to the first bad chunk from ``start`` on."""
    bad = text.first_bad_chunk(start)
    return text if bad is None else Plaintext(fd, opener, bad[0], None)


def _walk(text: Plaintext, offset: int) -> Found:
    """Whole units from an edge on; what is behind the last one is cut."""
    while offset < text.size_bytes:
        unit = read_unit(text, offset, text.size_bytes)
        if isinstance(unit, CutUnit):
            return Found("incomplete", text, offset, None, unit)
        if unit.kind == "seal":
            if text.chunk_count > text.full_chunks and unit.end == text.size_bytes:
                return Found("incomplete", text, unit.end, unit)
            return Found("incomplete", text, offset, None, CutUnit(offset, unit.event))
        offset = unit.end
    return Found("incomplete", text, offset)


def seal_of(unit: Unit) -> SealTable:
    """The table of a seal, its index checked against its own place.

    Raises:
        Corrupt: no seal table, or an index that cannot be.
    """
    table = parse_seal(unit.event.data)
    edges = [0, *(row.first_chunk for row in table.index)]
    growing = all(a < b for a, b in pairwise(edges))
    if not growing or (table.index and edges[-1] * CHUNK >= unit.offset):
        raise Corrupt("The index in the seal does not fit the part.")
    return table
