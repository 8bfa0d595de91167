"""The recordings that can be reviewed, from their public headers: no key is needed for the list.

A recording is addressed by a random id that is made here. No path ever comes from the browser, so
none can lead out of the folder. What a header says is not authenticated: states without a key are
what the file claims, compared with its size.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import msgspec

from engine.container import names
from engine.container.core import MAGIC
from engine.container.header import State
from engine.container.payload import TAG, offset_of_chunk
from engine.container.reader import PublicInfo, read_public_header
from engine.reading.verify import VerifyReport
from ipc.errors import ConfigError, SealrecError

__all__ = ["Library", "ListedRecording", "SessionFacts", "Sessions", "Witnessed", "size_problem"]

MAX_RECORDINGS: Final = 10_000
_WORST_LAST: Final = ("sealed", "recovered", "incomplete", "corrupt")


class SessionFacts(msgspec.Struct, frozen=True):
    """What a catalog knows about a recording and its public header does not say."""

    session_id: str = ""
    subject: str = ""
    operator: str = ""
    duration_s: float | None = None
    frames: int | None = None
    lost: int | None = None


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What a catalog says about a verified recording.

    Attributes:
        differs: It is not the one that was sealed.
        sentences: In words.
    """

    differs: bool
    sentences: tuple[str, ...]


class Sessions(Protocol):
    """Where more about recordings is known: a catalog."""

    def paths(self) -> list[Path]:
        """The recordings that it knows."""
        ...

    def facts(self) -> dict[str, SessionFacts]:
        """By recording id in hex."""
        ...

    def exported(self, base: Path, to: str) -> None:
        """Put on record that something of a recording is about to leave it unencrypted.

        Raises:
            SealrecError: it could not be; then nothing may leave.
        """
        ...

    def witnessed(self, report: VerifyReport) -> Witnessed:
        """Compare a verified recording with what was sealed, and put that on record."""
        ...


class ListedRecording(msgspec.Struct, frozen=True):
    """One row of the list.

    Attributes:
        id: By which the browser calls it.
        name: File name of part 0, below the folder.
        created_ms: UTC, Unix milliseconds; None if no header can be read.
        state: What the files claim: ``sealed``, ``recovered``, ``incomplete`` or ``corrupt``.
        problem: In words, if something can be seen without a key.
        parts: Files.
        size_bytes: Of all.
        keys: Kinds of its key slots: ``password``, ``key_file``, ``public_key``.
        facts: From the catalog; None without one.
    """

    id: str
    name: str
    created_ms: int | None
    state: str
    problem: str
    parts: int
    size_bytes: int
    keys: tuple[str, ...]
    facts: SessionFacts | None = None


@dataclass(slots=True)
class _Looked:
    """What the public headers of one recording show."""

    state: str = "sealed"
    problems: list[str] = field(default_factory=list)
    created_ms: int | None = None
    recording_id: str = ""
    size_bytes: int = 0
    keys: set[str] = field(default_factory=set)

    def worsen(self, state: str, problem: str = "") -> None:
        self.state = max(self.state, state, key=_WORST_LAST.index)
        if problem:
            self.problems.append(problem)


class Library:
    """The recordings of a file, a folder or a catalog. May be used from any thread.

    Args:
        place: A recording, or a folder for all below it; None for those of the catalog alone.
        sessions: A catalog, if there is one.

    Attributes:
        sessions: See above.

    Raises:
        ConfigError: there is nothing at that place.
    """

    def __init__(self, place: Path | None, sessions: Sessions | None = None) -> None:
        if place is not None and not place.is_dir() and not names.parts_of(place):
            raise ConfigError(f"There is no recording {place}.", hint="Check the name.")
        self._place = place
        self.sessions = sessions
        self._lock = threading.Lock()
        self._ids: dict[Path, str] = {}
        self._bases: dict[str, Path] = {}

    @property
    def title(self) -> str:
        """What the list is of."""
        return "" if self._place is None else self._place.absolute().name

    def recordings(self) -> list[ListedRecording]:
        """All recordings, newest first; what cannot be read is listed with the reason."""
        facts = {} if self.sessions is None else self.sessions.facts()
        rows = [self._listed(base, facts) for base in self._find()]
        return sorted(rows, key=lambda row: row.created_ms or 0, reverse=True)

    def path(self, recording: str) -> Path:
        """Name of part 0 of a listed recording.

        Raises:
            ConfigError: no such id was ever given out.
        """
        with self._lock:
            base = self._bases.get(recording)
        if base is None:
            raise ConfigError("There is no such recording in this list.")
        return base

    def name(self, base: Path) -> str:
        """How a recording is called in the list."""
        place = self._place
        if place is not None and place.is_dir() and base.is_relative_to(place):
            return base.relative_to(place).as_posix()
        return base.name

    def _find(self) -> list[Path]:
        bases: dict[Path, None] = {}
        if self._place is not None:
            for path in _candidates(self._place):
                bases[names.base_of(path)] = None
                if len(bases) >= MAX_RECORDINGS:
                    break
        if self.sessions is not None and self._place is None:
            bases |= dict.fromkeys(names.base_of(path) for path in self.sessions.paths())
        return [base for base in bases if names.parts_of(base)]

    def _id_of(self, base: Path) -> str:
        with self._lock:
            if base not in self._ids:
                self._ids[base] = secrets.token_urlsafe(16)
                self._bases[self._ids[base]] = base
            return self._ids[base]

    def _listed(self, base: Path, facts: dict[str, SessionFacts]) -> ListedRecording:
        paths = names.parts_of(base)
        looked = _Looked()
        for path in paths:
            _look_at(path, looked)
        present = {names.index_of(path) for path in paths}
        for index in range(max(present, default=0)):
            if index not in present:
                looked.worsen("incomplete", f"Part {index} is missing.")
        return ListedRecording(
            id=self._id_of(base),
            name=self.name(base),
            created_ms=looked.created_ms,
            state=looked.state,
            problem=" ".join(looked.problems),
            parts=len(paths),
            size_bytes=looked.size_bytes,
            keys=tuple(sorted(looked.keys)),
            facts=facts.get(looked.recording_id),
        )


def _candidates(place: Path) -> Iterator[Path]:
    """Files that begin as a recording does."""
    if not place.is_dir():
        yield place
        return
    for folder, folders, files in os.walk(place):  # follows no links
        folders.sort()
        for name in sorted(files):
            path = Path(folder, name)
            if _is_sealed_video(path):
                yield path


def _is_sealed_video(path: Path) -> bool:
    if not path.is_file() or path.is_symlink():
        return False
    if path.name.removesuffix(".open").endswith(".mp4.enc"):
        return True  # also one whose header is destroyed: it is listed as damaged
    try:
        with path.open("rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def _look_at(path: Path, looked: _Looked) -> None:
    try:
        info = read_public_header(path)
    except SealrecError as error:
        looked.worsen("corrupt", error.message.replace(str(path), path.name))
        return
    core = info.header.core
    looked.size_bytes += info.size_bytes
    looked.keys.update(slot.kind.name.lower() for slot in info.header.slots)
    if looked.created_ms is None:
        looked.created_ms, looked.recording_id = core.created_unix_ms, core.recording_id.hex()
    if info.header.state is State.OPEN:
        looked.worsen("incomplete", f"{path.name} was not closed.")
    elif problem := size_problem(info):
        looked.worsen("corrupt", problem)
    elif info.header.state is State.RECOVERED:
        looked.worsen("recovered")


def size_problem(info: PublicInfo) -> str:
    """What is wrong with a closed part's size, in words; empty if nothing is, or it is open."""
    header, name = info.header, info.path.name
    closed_bytes = offset_of_chunk(0) + header.payload_bytes + header.chunk_count * TAG
    if header.state is State.OPEN or info.size_bytes == closed_bytes:
        return ""
    if info.size_bytes < closed_bytes:
        return f"{name} ends too early: {info.size_bytes:,} of {closed_bytes:,} bytes are here."
    return f"{name} was closed with {closed_bytes:,} bytes and has {info.size_bytes:,}."
