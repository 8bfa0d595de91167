"""Closes parts whose writer is gone: ``.open`` files that nobody locks any more.

What is kept is every whole fragment; the payload is never changed except by cutting off what is
behind them. Every step can be interrupted: running recovery again takes it up where it was, and a
finished one has nothing left to do.

    no preamble yet         -> deleted, its part index is free again
    state 0, whole seal     -> both headers say sealed, renamed
    state 0                 -> both headers say recovered, cut, renamed
    state 2, longer file    -> a recovery that was killed: cut, renamed
    state 1                 -> renamed; a second header copy that the seal did not reach is written

Source: FORMAT.md, "Recovery" and "Decisions".
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from engine.container.header import (
    HEADER_BYTES,
    MAGIC,
    Header,
    OpenedHeader,
    State,
    open_header,
)
from engine.container.names import parts_of
from engine.container.part import PartReader
from engine.container.partfile import HeaderCopies, PartFile
from engine.container.payload import (
    CHUNK,
    PAYLOAD_OFFSET,
    PREAMBLE,
    PayloadOpener,
    chunks_in_file,
    offset_of_chunk,
)
from engine.container.recipients import DataKeySecret, Secret
from engine.container.tables import FragmentTable
from ipc.errors import ConfigError, Corrupt, DiskError, SealrecError, WrongKey

__all__ = ["PartReport", "recover", "recover_part"]

_OPEN_SUFFIX: Final = ".open"
_COUNTS: Final = slice(4040, 4064)
_MAC: Final = slice(4064, HEADER_BYTES)
"""State, seal chunk and counts of a header, and what is written last; FORMAT.md, "Header"."""
_FIRST_CHUNK_AT: Final = PAYLOAD_OFFSET + PREAMBLE

ReportState = Literal["sealed", "recovered", "deleted", "failed"]


@dataclass(frozen=True, slots=True)
class PartReport:
    """What recovery did with one part.

    Attributes:
        path: The file as it is called now; the old name of a deleted one.
        state: What it is now. "failed": see ``error``; nothing was changed, or everything that
            was durable still is.
        part_index: Which part; None if its header was never written or does not open.
        chunks: Chunks kept, the final one of a sealed part included.
        payload_bytes: Plaintext in them.
        seal_chunk: Chunk in which the seal starts; 0 without one.
        fragment_count: Fragments kept.
        frames: Frames in them.
        kept_pts: Where the last one ends, 90 kHz.
        lost_bytes: Bytes cut off the file.
        lost_pts: Duration of the fragment that was cut off, 90 kHz, as far as its own table
            reached the disk; 0 if it did not.
        header: The header now in force, for the audit row; None like ``part_index``.
        commitment: Key commitment of its payload, for the same; empty without one.
        error: Why nothing could be done (in use, wrong key, corrupt, disk), or why a closed part is
            still called ``.open``.
    """

    path: Path
    state: ReportState
    part_index: int | None = None
    chunks: int = 0
    payload_bytes: int = 0
    seal_chunk: int = 0
    fragment_count: int = 0
    frames: int = 0
    kept_pts: int = 0
    lost_bytes: int = 0
    lost_pts: int = 0
    header: Header | None = None
    commitment: bytes = b""
    error: SealrecError | None = None
    _secret: DataKeySecret | None = field(default=None, repr=False)

    def fragments(self) -> Iterator[FragmentTable]:
        """The tables of all fragments kept, in order, read one by one from the file.

        Raises:
            Corrupt: a fragment is not what was written.
        """
        if self._secret is not None:
            with PartReader.open(self.path, self._secret) as part:
                for fragment in part.fragments():
                    yield fragment.table


def recover(path: Path, secret: Secret) -> list[PartReport]:
    """Close every part that has no writer any more.

    Args:
        path: A part, for all ``.open`` parts of its recording; or a directory, for all below it.
        secret: What opens them. A part that it does not open is reported, not touched.

    Returns:
        One report per ``.open`` file, in order of names; none if there is nothing to do.

    Raises:
        ConfigError: there is no such file or directory.
    """
    if path.is_dir():
        found = sorted(p for p in path.rglob(f"*{_OPEN_SUFFIX}") if _is_candidate(p))
    else:
        parts = parts_of(path)
        if not parts:
            raise ConfigError(f"There is no recording {path}.")
        found = [p for p in parts if p.name.endswith(_OPEN_SUFFIX)]
        if path.name.endswith(_OPEN_SUFFIX) and path not in found and _is_candidate(path):
            found.append(path)
    reports = []
    for part in found:
        try:
            reports.append(recover_part(part, secret))
        except FileNotFoundError:
            continue  # its writer has sealed and renamed it in this moment
        except SealrecError as error:
            reports.append(PartReport(part, "failed", error=error))
    return reports


def recover_part(path: Path, secret: Secret) -> PartReport:
    """Close one part.

    Args:
        path: Its name, with ``.open``.
        secret: What opens it.

    Raises:
        InUse: a running engine writes it; nothing was touched.
        WrongKey: the secret does not open it; nothing was touched.
        Corrupt: something that was durable is not what was written; nothing was touched.
        DiskError: a write failed; run it again.
        FileNotFoundError: it is gone, or got its final name in this moment.
        ConfigError: it is not an ``.open`` file.

    Source: FORMAT.md, "Recovery".
    """
    if not path.name.endswith(_OPEN_SUFFIX):
        raise ConfigError(f"{path} is not a part that lacks its end.")
    try:
        file = PartFile.take(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _disk_error(path, error) from error
    try:
        return _recover_locked(file, secret)
    except OSError as error:
        raise _disk_error(path, error) from error
    finally:
        file.close()


def _recover_locked(file: PartFile, secret: Secret) -> PartReport:
    # What reads back may be in memory alone: a killed encoder leaves pages that no disk has seen
    # yet, a disk that failed leaves some that it never will see, and no later sync says so.
    file.settle()
    copies = [file.read(HEADER_BYTES, at) for at in (0, HEADER_BYTES)]
    try:
        opened = open_header(copies[0], copies[1], secret)
    except (Corrupt, WrongKey) as error:
        complete = any(any(raw[_MAC]) for raw in copies)
        if not _never_began(file, copies) or (isinstance(error, WrongKey) and complete):
            raise
        return _delete(file, None)
    header = opened.header
    if header.state is State.OPEN and _lacks_preamble(file, opened):
        return _delete(file, header)
    match header.state:
        case State.OPEN:
            report = _close_open(file, opened)
        case State.RECOVERED:
            report = _finish_recovery(file, opened)
        case State.SEALED:
            report = _finish_seal(file, opened)
    file.drop_reserve()
    path = file.publish()
    taken = ConfigError(f"{file.path} exists; {path.name} is whole and waits for that name.")
    return replace(report, path=path, error=None if path == file.path else taken)


def _close_open(file: PartFile, opened: OpenedHeader) -> PartReport:
    """State 0: finish the seal, or keep the whole fragments and cut the rest off."""
    report = _summary(file, opened)
    copies = HeaderCopies(file, opened)
    copies.write_both(
        state=State.SEALED if report.state == "sealed" else State.RECOVERED,
        chunk_count=report.chunks,
        payload_bytes=report.payload_bytes,
        seal_chunk=report.seal_chunk,
    )
    lost_bytes = 0 if report.state == "sealed" else _cut(file, report.chunks)
    return replace(report, header=copies.header, lost_bytes=lost_bytes)


def _finish_seal(file: PartFile, opened: OpenedHeader) -> PartReport:
    """State 1: the seal stands. The power may have failed before its second header copy did."""
    report = _summary(file, opened)
    return replace(report, header=_completed(file, opened, State.SEALED))


def _finish_recovery(file: PartFile, opened: OpenedHeader) -> PartReport:
    """State 2: do what a killed recovery left to do."""
    header = opened.header
    if chunks_in_file(file.size_bytes)[0] < header.chunk_count:
        raise Corrupt(f"{file.open_path} is shorter than it was when it was recovered.")
    newest = _completed(file, opened, State.RECOVERED)
    lost_bytes = _cut(file, header.chunk_count)
    return replace(_summary(file, opened), header=newest, lost_bytes=lost_bytes)


def _completed(file: PartFile, opened: OpenedHeader, state: State) -> Header:
    """Let the other copy say the same if it is damaged or out of date; the header then in force."""
    copies = HeaderCopies(file, opened)
    other = _other_copy(file, opened)
    if other is None or other.state is not state:
        copies.write_again()
    return copies.header


def _summary(file: PartFile, opened: OpenedHeader) -> PartReport:
    """What a part holds, or will hold once it is closed.

    Raises:
        Corrupt: it is not what was written, as far as its tables show.
    """
    secret = DataKeySecret(opened.dek)
    with PartReader.open(file.open_path, secret) as part:
        sealed = part.seal_offset is not None
        cut = None if part.cut is None else part.cut.event
        return PartReport(
            path=file.open_path,
            state="sealed" if sealed else "recovered",
            part_index=part.part_index,
            chunks=part.size // CHUNK + sealed,
            payload_bytes=part.size,
            seal_chunk=(part.seal_offset or 0) // CHUNK,
            fragment_count=len(part.index),
            frames=sum(row.samples for row in part.index),
            kept_pts=part.end_pts,
            lost_pts=0 if cut is None else cut.duration or 0,
            header=part.header,
            commitment=part.commitment,
            _secret=secret,
        )


def _other_copy(file: PartFile, opened: OpenedHeader) -> Header | None:
    """The header copy that is not in force, if it is authentic."""
    raw = file.read(HEADER_BYTES, (1 - opened.copy) * HEADER_BYTES)
    try:
        return open_header(raw, raw, DataKeySecret(opened.dek)).header
    except SealrecError:
        return None


def _cut(file: PartFile, chunks: int) -> int:
    surplus = file.size_bytes - offset_of_chunk(chunks)
    if surplus > 0:
        file.truncate(offset_of_chunk(chunks))
    return max(0, surplus)


def _lacks_preamble(file: PartFile, opened: OpenedHeader) -> bool:
    """Whether the part died before its payload could begin.

    The preamble is made durable before anything follows it, so a damaged one in a longer file is
    something else: Corrupt.
    """
    if opened.header.chunk_count > 0 or file.size_bytes > _FIRST_CHUNK_AT:
        return False
    try:
        core = opened.header.core.pack()
        PayloadOpener(opened.dek, core, file.read(PREAMBLE, PAYLOAD_OFFSET))
    except Corrupt:
        return True
    return False


def _never_began(file: PartFile, copies: list[bytes]) -> bool:
    """Whether a file without a header that opens is what a writer leaves in its first moments.

    Such a file ends before its first chunk, and what there is of its header copies are bytes of one
    and the same header, which counts nothing yet; bytes that did not reach the disk are zeros.
    Everything else is somebody's file, or damage that is to be looked at.
    """
    if file.size_bytes > _FIRST_CHUNK_AT:
        return False
    one, other = (raw.ljust(HEADER_BYTES, b"\0") for raw in copies)
    return (
        _remains_of(one, other)
        and _remains_of(one[: len(MAGIC)], MAGIC)
        and _remains_of(other[: len(MAGIC)], MAGIC)
        and not any(one[_COUNTS] + other[_COUNTS])
    )


def _remains_of(torn: bytes, whole: bytes) -> bool:
    """Whether two pieces differ only where one of them is zero."""
    return all(a == b or not a or not b for a, b in zip(torn, whole, strict=True))


def _delete(file: PartFile, header: Header | None) -> PartReport:
    file.drop_reserve()
    lost_bytes = file.size_bytes
    file.delete()
    index = None if header is None else header.core.part_index
    return PartReport(file.open_path, "deleted", index, lost_bytes=lost_bytes)


def _is_candidate(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _disk_error(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path} could not be closed ({os.strerror(error.errno or 0)}).",
        hint="What was durable still is. Run `sealrec recover` again.",
    )
