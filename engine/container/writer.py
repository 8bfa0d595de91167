"""Writes one part: header, encrypted fragments, checkpoints, seal. Rules 1 to 6 and 8 of FORMAT.md.

    create -> write_init -> append ... append -> seal -> <name>
                              |-- disk full: reserve given up, fragment completed --> seal only
                              `-- any other error --> dead: abandon only, the part stays .open

Not thread-safe: one thread owns a writer. Nothing is encrypted twice and no plaintext reaches a
file. What ``append`` has returned for is durable: a power cut cannot take it away.
"""

from __future__ import annotations

import os
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from engine.container.boxes import (
    MAX_UNIT_BYTES,
    EventMessage,
    pack_event,
    padding_after,
    require_boxes,
)
from engine.container.header import CORE_BYTES, HEADER_BYTES, State, open_header
from engine.container.partfile import HeaderCopies, PartFile
from engine.container.payload import (
    CHUNK,
    PAYLOAD_OFFSET,
    STORED_CHUNK,
    PayloadWriter,
    offset_of_chunk,
)
from engine.container.recipients import DataKeySecret
from engine.container.reserve import Reserve
from engine.container.tables import (
    FRAGMENT_SCHEME,
    SEAL_SCHEME,
    SESSION_SCHEME,
    FragmentTable,
    IndexRow,
    SealTable,
    SessionTable,
    pack_fragment,
    pack_seal,
    pack_session,
)
from ipc import osdep
from ipc.errors import ConfigError, DiskError, WrongState

__all__ = ["Checkpoint", "PartWriter", "SealResult"]

_ROW: Final = 3  # first chunk, pts, samples
_INIT_BOXES: Final = [b"ftyp", b"moov"]
_MEDIA_BOXES: Final = [b"moof", b"mdat"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is durable after a write.

    Attributes:
        fragments: Fragments of this part.
        chunks: Full chunks.
        payload_bytes: Plaintext in them.
        file_bytes: Size of the file.
        write_s: Time the bytes took into the file.
        sync_s: Time until they and the header were durable.
    """

    fragments: int
    chunks: int
    payload_bytes: int
    file_bytes: int
    write_s: float
    sync_s: float


@dataclass(frozen=True, slots=True)
class SealResult:
    """A sealed part.

    Attributes:
        path: Its name; with ``.open`` if the final name could not be had (recovery renames it).
        chunk_count: Chunks, the final one included.
        payload_bytes: Plaintext in them.
        size_bytes: Size of the file.
        generation: Of the newer header copy.
        header_mac: Of the newer header copy, 32 bytes.
    """

    path: Path
    chunk_count: int
    payload_bytes: int
    size_bytes: int
    generation: int
    header_mac: bytes


class _Condition(StrEnum):
    NEW = "created"
    OPEN = "open"
    FULL = "full"
    DEAD = "dead"
    CLOSED = "closed"


class PartWriter:
    """The one writer of a part.

    Attributes:
        path: The final name.
        commitment: 32 bytes: what the next part's core names as ``previous_part``. Durable.
    """

    def __init__(self, file: PartFile, payload: PayloadWriter, copies: HeaderCopies) -> None:
        """Use ``create``."""
        self.path = file.path
        self.commitment = payload.commitment
        self._file = file
        self._payload = payload
        self._copies = copies
        # Packed: a day has more than 100,000 rows, and this process must not grow.
        self._index = array("q")
        self._end_pts = 0
        self._condition = _Condition.NEW

    @classmethod
    def create(cls, path: Path, *, dek: bytes, header: bytes, reserve: bool = True) -> PartWriter:
        """Begin a part.

        Args:
            path: Its final name; ``.open`` is added until it is sealed.
            dek: The recording's data key, 32 bytes.
            header: 4096 bytes from ``header.new_header``.
            reserve: Set disk space aside for the end (FORMAT.md, "Decisions").

        Raises:
            ConfigError: the name is taken, or the header is not one of an empty part.
            DiskError: the part cannot be created; nothing is left behind.

        Source: FORMAT.md, "Rules of writing" 1 and 2.
        """
        opened = open_header(header, header, DataKeySecret(dek))
        if opened.header.state is not State.OPEN or opened.header.chunk_count:
            raise ConfigError("A part begins with the header of an empty, open part.")
        try:
            file = PartFile.create(path)
        except OSError as error:
            raise _cannot_create(path, error) from error
        try:
            payload = PayloadWriter(dek, header[:CORE_BYTES])
            _write_beginning(file, header, payload.preamble)
            if reserve:
                file.reserve = Reserve.create(path)
        except BaseException as error:
            file.drop_reserve()
            with suppress(OSError):  # recovery deletes it: it has no payload
                file.delete()
            file.close()
            if isinstance(error, OSError):
                raise _cannot_create(path, error) from error
            raise
        copies = HeaderCopies(file, opened)
        return cls(file, payload, copies)

    @property
    def can_seal(self) -> bool:
        """Whether ``seal`` may be called: the part has its init segment and is not dead."""
        return self._condition in (_Condition.OPEN, _Condition.FULL)

    @property
    def fragments(self) -> int:
        """Durable fragments."""
        return len(self._index) // _ROW

    def write_init(self, init_segment: bytes, session: SessionTable) -> Checkpoint:
        """Write ``ftyp``, ``moov`` and the session table: once, before anything else.

        Args:
            init_segment: The two boxes.
            session: What is recorded with what.

        Raises:
            ValueError: other boxes than these two.
            WrongState: the part has one already.
            DiskError: see ``append``.
        """
        if self._condition is not _Condition.NEW:
            raise self._refusal("An init segment comes once, before the first fragment.")
        require_boxes(init_segment, _INIT_BOXES)
        event = pack_event(EventMessage(SESSION_SCHEME, 0, 0, 0, pack_session(session)))
        checkpoint = self._write_unit([init_segment, event])
        self._condition = _Condition.OPEN
        self._stop_if_full()
        return checkpoint

    def append(
        self, fragment: FragmentTable, media: bytes, *, pts: int, duration: int
    ) -> Checkpoint:
        """Write one fragment; when this returns it is durable.

        Args:
            fragment: Its table.
            media: One ``moof`` and one ``mdat`` with a sample per frame row; empty without frames.
            pts: Of its first sample, 90 kHz from the recording's first frame.
            duration: 90 kHz.

        Raises:
            ValueError: media that do not fit the table; nothing was written.
            WrongState: no init segment yet, sealed or abandoned.
            DiskError: the disk takes no more. With ``kept`` this fragment is durable nevertheless;
                with ``can_seal`` only ``seal`` is possible from now on, otherwise only
                ``abandon``, and the part stays ``.open``, good up to its last checkpoint.

        Source: FORMAT.md, "Rules of writing" 3, 4 and 6.
        """
        if self._condition is not _Condition.OPEN:
            raise self._refusal("A fragment needs an open part with an init segment.")
        require_boxes(media, _MEDIA_BOXES if fragment.frames else [])
        number, first_chunk = self.fragments, self._payload.chunk_count
        table = pack_fragment(fragment)
        event = pack_event(EventMessage(FRAGMENT_SCHEME, pts, duration, number, table))
        row = IndexRow(first_chunk, pts, len(fragment.frames))
        checkpoint = self._write_unit([event, media], row)
        self._end_pts = max(self._end_pts, pts + duration)
        self._stop_if_full()
        return checkpoint

    def seal(self, seal: SealTable) -> SealResult:
        """End the part and give it its final name.

        Args:
            seal: The last table; its index is filled in here.

        Raises:
            WrongState: no init segment, or sealed or abandoned already.
            DiskError: the disk takes no more; only ``abandon`` is possible.

        Source: FORMAT.md, "Rules of writing" 5.
        """
        if not self.can_seal:
            raise self._refusal("A seal needs an open part with an init segment.")
        seal_chunk = self._payload.chunk_count
        values = iter(self._index)
        index = tuple(IndexRow(*row) for row in zip(values, values, values, strict=True))
        table = pack_seal(replace(seal, index=index))
        number = self.fragments
        event = pack_event(EventMessage(SEAL_SCHEME, self._end_pts, 0, number, table))
        with self._last_word():
            stored = self._payload.update(event) + self._payload.finalize()
            self._file.write(stored, offset_of_chunk(seal_chunk))
            self._file.sync()
            self._copies.write_both(
                state=State.SEALED,
                chunk_count=self._payload.chunk_count,
                payload_bytes=self._payload.payload_bytes,
                seal_chunk=seal_chunk,
            )
        size_bytes = self._file.size_bytes
        self._file.drop_reserve()
        self._condition = _Condition.CLOSED
        header = self._copies.header
        return SealResult(
            path=self._file.publish(),
            chunk_count=header.chunk_count,
            payload_bytes=header.payload_bytes,
            size_bytes=size_bytes,
            generation=header.generation,
            header_mac=header.mac,
        )

    def abandon(self) -> None:
        """Let go of the part: it stays ``.open``, good to its last checkpoint. Safe to repeat."""
        if self._condition is not _Condition.CLOSED:
            self._condition = _Condition.CLOSED
            self._file.drop_reserve()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abandon()

    def _write_unit(self, boxes: list[bytes], row: IndexRow | None = None) -> Checkpoint:
        """Pad to a chunk edge, encrypt, write, sync, checkpoint; ``row`` joins the index then."""
        content = b"".join(
            [*boxes, padding_after(sum(map(len, boxes)))]
        )  # a unit starts at an edge
        first_chunk = self._payload.chunk_count
        if len(content) > MAX_UNIT_BYTES:
            raise ValueError(f"a fragment of {len(content)} bytes is longer than a reader takes")
        self._make_room(len(content) // CHUNK * STORED_CHUNK)
        with self._last_word():
            stored = self._payload.update(content)
            began = time.perf_counter()
            self._file.write(stored, offset_of_chunk(first_chunk))
            written = time.perf_counter()
            self._file.sync()
            self._copies.write_older(
                chunk_count=self._payload.chunk_count, payload_bytes=self._payload.payload_bytes
            )
            durable = time.perf_counter()
        if row is not None:
            self._index.extend((row.first_chunk, row.pts, row.samples))
        return Checkpoint(
            fragments=self.fragments,
            chunks=self._payload.chunk_count,
            payload_bytes=self._payload.payload_bytes,
            file_bytes=offset_of_chunk(self._payload.chunk_count),
            write_s=written - began,
            sync_s=durable - written,
        )

    def _make_room(self, stored_bytes: int) -> None:
        """Let the reserve follow the fragment's size while nothing of it is encrypted yet."""
        reserve = self._file.reserve
        if reserve is None or reserve.ensure(stored_bytes, self.fragments + 1):
            return
        self._file.give_up_reserve()
        if self._condition is _Condition.NEW:
            self._condition = _Condition.DEAD
        else:
            self._condition = _Condition.FULL
        raise DiskError(
            f"The disk is full: the last fragment does not fit any more into {self.path}.",
            hint="What was written before is safe. Free some space and start a new recording.",
            can_seal=self.can_seal,
        )

    def _stop_if_full(self) -> None:
        if self._file.full:
            self._condition = _Condition.FULL
            raise DiskError(
                f"The disk is full. {self.path} holds everything up to now and can be sealed.",
                hint="Free some space and start a new recording.",
                can_seal=True,
                kept=True,
            )

    @contextmanager
    def _last_word(self) -> Iterator[None]:
        """Any error in here ends the part: nothing is encrypted under its salt again."""
        try:
            yield
        except WrongState:
            raise  # the payload has all the chunks it may have, and took nothing
        except OSError as error:
            self._condition = _Condition.DEAD
            raise DiskError(
                f"The disk takes no more of {self.path} ({os.strerror(error.errno or 0)}).",
                hint="The part is good up to its last checkpoint: run `sealrec recover` on it.",
            ) from error
        except BaseException:
            self._condition = _Condition.DEAD
            raise

    def _refusal(self, why: str) -> WrongState | DiskError:
        if self._condition in (_Condition.FULL, _Condition.DEAD):
            return DiskError(
                f"The disk takes no more of {self.path}.", can_seal=self.can_seal, kept=False
            )
        return WrongState(f"{why} This one is {self._condition}.")


def _write_beginning(file: PartFile, header: bytes, preamble: bytes) -> None:
    """Both headers, durable with the file's name; then the preamble, durable as well.

    The next part names this one by its commitment, so that must survive a power cut.
    """
    file.write(header + header, 0)
    file.sync_all()
    osdep.sync_directory(file.path.parent)
    file.write(preamble, PAYLOAD_OFFSET)
    file.sync()


def _cannot_create(path: Path, error: OSError) -> DiskError:
    return DiskError(
        f"{path} cannot be created ({os.strerror(error.errno or 0)}).",
        hint="Check the folder, its rights and the free space.",
    )


assert PAYLOAD_OFFSET == 2 * HEADER_BYTES
