"""What the files of a recording say for the catalog: read from the sealed parts, believed as such.

Opening reads headers and seals; ``read_all`` walks the tables of every fragment as well, and keeps
runs rather than rows. Nothing is changed and nothing is locked but a part that nobody has written
for a while.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from engine.catalog.rows import MAX_LOSSES, MAX_MARKS
from engine.container import names
from engine.container.boxes import TIMESCALE_HZ
from engine.container.core import MAGIC
from engine.container.header import HEADER_BYTES
from engine.container.part import PartReader
from engine.container.partfile import PartFile
from engine.container.recipients import Secret
from engine.container.tables import ClockPair, FragmentTable, Note, SealTable
from engine.ledger import Ledger, written_runs
from engine.reading.selection import reading
from ipc.errors import ConfigError, InUse
from ipc.frame import Loss, merge_losses

__all__ = ["Contents", "Mark", "RecordingOnDisk", "find_recordings", "open_recording"]

# A new part is written to at least every second; one that is younger is left alone, for its writer
# may be about to lock it.
QUIET_S: Final = 10.0
STILL_CODEC: Final = "png"
_MERGE_EVERY: Final = 50_000


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark with its time of day, as far as the file has a clock for it."""

    host_ns: int
    utc_ns: int | None
    kind: str
    text: str


@dataclass(slots=True)
class Contents:
    """What the tables of all parts say.

    Attributes:
        ledger: The account.
        losses: In order, neighbours joined, at most so many as a catalog takes. What two parts
            hold, because a dead encoder's successor wrote it again, is in them once; so are marks.
        left_out: How many more there were.
        marks: In order.
        clock: The last pair of host clock and time of day.
    """

    ledger: Ledger = field(default_factory=Ledger)
    losses: list[Loss] = field(default_factory=list)
    left_out: int = 0
    marks: list[Mark] = field(default_factory=list)
    clock: ClockPair | None = None
    _noted: set[Note] = field(default_factory=set)

    def take(self, table: FragmentTable | SealTable) -> None:
        """Add a table."""
        for loss in table.lost:
            gaps = self.ledger.gaps
            if self.ledger.add_lost(loss) or self.ledger.gaps > gaps:
                self.losses.append(loss)
        if len(self.losses) > _MERGE_EVERY:
            self.finish()
        self.clock = table.clock or self.clock
        for note in table.marks:
            if note not in self._noted and len(self.marks) < MAX_MARKS:
                self._noted.add(note)
                self.marks.append(_mark(note, self.clock))

    def finish(self) -> None:
        """Join what belongs together and keep what a catalog takes."""
        merged = merge_losses(self.losses)
        self.left_out += len(merged[MAX_LOSSES:])
        self.losses = list(merged[:MAX_LOSSES])


@dataclass(frozen=True, slots=True)
class RecordingOnDisk:
    """An opened recording: its parts that open, in order.

    Attributes:
        base: Name of part 0.
        recording_id: 16 bytes.
        parts: At least one.
    """

    base: Path
    recording_id: bytes
    parts: tuple[PartReader, ...]

    @property
    def fingerprint(self) -> str:
        """Changes whenever a header of one of the parts does."""
        macs = b"".join(bytes([p.part_index % 256]) + p.header.mac for p in self.parts)
        return hashlib.sha256(macs).hexdigest()

    @property
    def is_whole(self) -> bool:
        """The last part says that it is the last."""
        seal = self.parts[-1].seal
        return seal is not None and seal.last

    @property
    def duration_s(self) -> float:
        """End of the last frame."""
        return round(max(part.end_pts for part in self.parts) / TIMESCALE_HZ, 6)

    def session(self) -> dict[str, str]:
        """What the controller said about it; empty where no part says."""
        for part in self.parts:
            if part.session is not None:
                return part.session.session
        return {}

    def source(self) -> str:
        """The source as it was asked for."""
        for part in self.parts:
            if part.session is not None:
                return part.session.camera.get("source", "")
        return ""

    def is_still(self) -> bool:
        """It is a single picture rather than a video (workers/still.py)."""
        return any(
            part.session is not None and part.session.codec.get("encoder") == STILL_CODEC
            for part in self.parts
        )

    def read_all(self) -> Contents:
        """Walk all tables.

        Raises:
            Corrupt: a fragment is not what was written.
        """
        contents = Contents()
        for part in self.parts:
            with reading(part.path):
                for fragment in part.fragments():
                    for run in written_runs(fragment.table.frames):
                        contents.ledger.add_written(run)
                    contents.take(fragment.table)
                if part.seal is not None:
                    contents.take(part.seal)
        contents.finish()
        return contents


def find_recordings(directory: Path) -> Iterator[Path]:
    """Name of part 0 of every recording below a directory, in order; links are not followed.

    Raises:
        ConfigError: there is no such directory.
    """
    if not directory.is_dir():
        raise ConfigError(f"There is no directory {directory}.")
    for folder, folders, files in os.walk(directory.absolute()):
        folders.sort()
        found = {Path(folder, name) for name in files if _is_part(Path(folder, name))}
        yield from sorted({names.base_of(path) for path in found})


@contextmanager
def open_recording(base: Path, secret: Secret) -> Iterator[RecordingOnDisk]:
    """Open all parts of a recording.

    Raises:
        InUse: a part is being written.
        WrongKey, Corrupt, ConfigError, DiskError: of any part; see ``PartReader.open``.
    """
    paths = names.parts_of(base)
    if not paths:
        raise ConfigError(f"There is no recording {base}.")
    for path in paths:
        _refuse_in_use(path)
    with ExitStack() as stack:
        parts = [stack.enter_context(PartReader.open(path, secret)) for path in paths]
        first = parts[0].header.core.recording_id
        own = [part for part in parts if part.header.core.recording_id == first]
        yield RecordingOnDisk(base, first, tuple(own))


def _refuse_in_use(path: Path) -> None:
    if names.final_path(path) == path:
        return
    try:
        if time.time() - path.stat().st_mtime < QUIET_S:
            raise InUse(f"{path} is being written.")
        PartFile.take(path).close()
    except FileNotFoundError:
        raise InUse(f"{path} got its end in this moment.") from None
    except OSError:
        return  # it cannot be locked, so nobody has; opening it will tell


def _is_part(path: Path) -> bool:
    """Whether a file begins as a part does."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            copies = file.read(2 * HEADER_BYTES)
    except OSError:
        return False
    return any(copies[at : at + len(MAGIC)] == MAGIC for at in (0, HEADER_BYTES))


def _mark(note: Note, clock: ClockPair | None) -> Mark:
    utc_ns = None if clock is None else clock.utc_ns + note.host_ns - clock.host_ns
    return Mark(note.host_ns, utc_ns, note.kind, note.text)
