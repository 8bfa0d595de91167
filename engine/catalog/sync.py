"""Brings the catalog up to date from the files: they are the truth, whatever its rows say.

Finds what is sealed, recovered, incomplete or missing below a directory. Running it again changes
nothing. It never overrules the audit: what nobody saw sealed is put on record as ``found``, and
what differs from its seal is a problem, not a new row.

Source: CATALOG.md, "Sync".
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from engine.catalog import audit, rows, tables
from engine.catalog.audit import Entry, utc_text
from engine.catalog.columns import storable
from engine.catalog.on_disk import Contents, RecordingOnDisk, find_recordings, open_recording
from engine.catalog.place import CatalogPlace
from engine.catalog.store import Catalog
from engine.catalog.witness import Baselines, difference
from engine.container.names import open_path
from engine.container.part import PartReader
from engine.container.recipients import Secret
from engine.reading.verify import Fingerprint
from ipc.errors import InUse, SealrecError, WrongKey

__all__ = ["SyncReport", "sync"]

_WORST_LAST: Final = ("sealed", "recovered", "incomplete", "corrupt", "missing")
_OVER: Final = ("completed", "aborted")
_CLOSED: Final = ("sealed", "recovered")


@dataclass(slots=True)
class SyncReport:
    """What a sync found and did.

    Attributes:
        recordings: How many were read.
        changed: Recordings whose rows were not what their files say, by path.
        missing: Files that the catalog knows and that are not there.
        in_use: Recordings that are being written; they were left alone.
        unopened: Recordings that the key does not open.
        problems: A sentence for whatever is wrong with a file, or between it and the audit.
    """

    recordings: int = 0
    changed: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    in_use: list[str] = field(default_factory=list)
    unopened: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def sync(
    place: CatalogPlace,
    directory: Path,
    secret: Secret,
    *,
    progress: Callable[[float], None] = lambda _share: None,
) -> SyncReport:
    """Bring the catalog up to date with all recordings below a directory.

    Args:
        place: The catalog.
        directory: Where to look.
        secret: What opens the recordings.
        progress: Told the share that is done.

    Raises:
        CatalogError: it cannot be written; recordings before that were.
        KeyFileError: the audit's key cannot be read.
        ConfigError: there is no such directory.
    """
    run = _Run(place, secret)
    found = list(find_recordings(directory))
    for number, base in enumerate(found):
        progress(number / len(found))
        run.take(base)
    run.miss(directory.absolute())
    progress(1.0)
    return run.report


class _Run:
    """One sync."""

    def __init__(self, place: CatalogPlace, secret: Secret) -> None:
        self._catalog, self._secret = Catalog(place), secret
        self._key = audit.read_key(place)
        self._seen: dict[bytes, Path] = {}
        self.report = SyncReport()

    def take(self, base: Path) -> None:
        """Bring one recording's rows up to date."""
        report = self.report
        try:
            with open_recording(base, self._secret) as recording:
                if self._is_copy(recording):
                    return
                report.recordings += 1
                self._write(recording)
        except InUse:
            report.in_use.append(str(base))
        except WrongKey:
            report.unopened.append(str(base))
        except SealrecError as error:
            if error.code == "catalog":
                raise
            report.problems.append(f"{base}: {error.message}")

    def _is_copy(self, recording: RecordingOnDisk) -> bool:
        """Whether the same recording was seen under another name; the first one counts."""
        first = self._seen.setdefault(recording.recording_id, recording.base)
        if first == recording.base:
            return False
        self.report.problems.append(f"{recording.base} is a copy of {first}; it is left out.")
        return True

    def _write(self, recording: RecordingOnDisk) -> None:
        with self._catalog.reading() as connection:
            known = _is_known(connection, recording)
        contents = None if known else recording.read_all()  # outside of any transaction: it is long
        with self._catalog.writing() as connection:
            writer = _Writer(connection, recording)
            changed = writer.write(contents)
            entries, problems = writer.on_record()
            audit.append(connection, self._key, entries)
        if changed or entries:
            self.report.changed.append(str(recording.base))
        self.report.problems += problems
        self.report.missing += writer.missing

    def miss(self, directory: Path) -> None:
        """Mark recordings that the catalog knows below a directory and that are not there."""
        below = storable(str(directory)) + os.sep
        with self._catalog.writing() as connection:
            for row in connection.execute(select(tables.parts)).all():
                seen = bytes.fromhex(row.recording_id) in self._seen
                if not seen and row.path.startswith(below) and _is_gone(row.path):
                    self.report.missing.append(row.path)
                    if _mark_missing(connection, row.recording_id, row.part_index):
                        self.report.changed.append(row.path)


def _is_gone(path: str) -> bool:
    return not any(os.path.lexists(name) for name in (path, open_path(Path(path))))


def _mark_missing(connection: Connection, recording_id: str, part_index: int) -> bool:
    part = {"recording_id": recording_id, "part_index": part_index}
    recording = {"recording_id": recording_id}
    changed = rows.put(connection, tables.parts, part, {"state": "missing"})
    return rows.put(connection, tables.recordings, recording, {"state": "missing"}) or changed


def _is_known(connection: Connection, recording: RecordingOnDisk) -> bool:
    """Whether the tables of these files are in the catalog already."""
    table = tables.recordings
    query = select(table.c.synced).where(table.c.recording_id == recording.recording_id.hex())
    return connection.execute(query).scalar() == recording.fingerprint


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the rows of one recording."""

    connection: Connection
    recording: RecordingOnDisk
    missing: list[str] = field(default_factory=list)

    @property
    def recording_id(self) -> str:
        return self.recording.recording_id.hex()

    def write(self, contents: Contents | None) -> bool:
        """Bring all rows up to date; True if any said something else.

        Args:
            contents: What the tables say; None if that is in the catalog already.
        """
        before = self._before()
        session = self.recording.session()
        session_id = storable(session.get("session_id") or self.recording_id)
        values = self._values(before) | {"session_id": session_id}
        if contents is not None:
            values |= self._totals(contents)
        if before is None or before.ended is None:
            values["ended"] = self._ended(values["started"], contents)
        changed = self._session(session_id, session, values)
        keys = {"recording_id": self.recording_id}
        changed |= rows.put(self.connection, tables.recordings, keys, values)
        for part in self.recording.parts:
            changed |= self._part(part)
        if contents is not None:
            changed |= self._replace(
                tables.losses, rows.loss_rows(self.recording_id, contents.losses)
            )
            changed |= self._replace(tables.marks, list(self._marks(contents)))
        for index, path in self._absent():
            self.missing.append(path)
            changed |= _mark_missing(self.connection, self.recording_id, index)
        changed |= rows.refresh_session(self.connection, session_id)
        if before is not None and before.session_id != session_id:
            _drop_empty_session(self.connection, before.session_id)
        return changed

    def _before(self) -> Any:
        table = tables.recordings
        query = select(table).where(table.c.recording_id == self.recording_id)
        return self.connection.execute(query).first()

    def _values(self, before: Any) -> dict[str, Any]:
        """The recording's row, as far as headers and seals tell."""
        parts = self.recording.parts
        started = utc_text(parts[0].header.core.created_unix_ms * 1_000_000)
        values: dict[str, Any] = {
            "path": str(self.recording.base),
            "source": self.recording.source(),
            "still": self.recording.is_still(),
            "state": "missing" if self._absent() else _worst(part.state for part in parts),
            "duration_s": self.recording.duration_s,
            "size_bytes": sum(part.path.stat().st_size for part in parts),
            "started": started if before is None else before.started,
        }
        if before is None or before.status not in _OVER:
            closed = all(part.state in _CLOSED for part in parts)
            values["status"] = "completed" if closed and self.recording.is_whole else "aborted"
        if before is None:
            values |= {"problem": "", "losses_left_out": 0}
        return values

    def _absent(self) -> list[tuple[int, str]]:
        """Parts that the catalog knows and that are not there: index and path."""
        table = tables.parts
        here = {part.part_index for part in self.recording.parts}
        query = select(table.c.part_index, table.c.path).where(
            table.c.recording_id == self.recording_id
        )
        known = [(row.part_index, row.path) for row in self.connection.execute(query)]
        return [(index, path) for index, path in known if index not in here and _is_gone(path)]

    def _totals(self, contents: Contents) -> dict[str, Any]:
        balance = contents.ledger.balance()
        return {
            "frames_offered": balance.offered,
            "frames_written": contents.ledger.written,
            "gaps": contents.ledger.gaps,
            "balanced": balance.balanced,
            "losses_left_out": contents.left_out,
            "synced": self.recording.fingerprint,
        }

    def _ended(self, started: str, contents: Contents | None) -> str:
        """When the last fragment was closed by the file's own clock."""
        clock = None if contents is None else contents.clock
        if clock is not None:
            return utc_text(clock.utc_ns)
        created_ns = self.recording.parts[0].header.core.created_unix_ms * 1_000_000
        return max(started, utc_text(created_ns + round(self.recording.duration_s * 1e9)))

    def _session(self, session_id: str, session: dict[str, str], values: dict[str, Any]) -> bool:
        table = tables.sessions
        query = select(table).where(table.c.session_id == session_id)
        known = self.connection.execute(query).first()
        said = {name: session.get(name, "") for name in ("subject", "operator")}
        if known is None:
            rest = {"start": values["started"], "status": "completed", "video_path": ""}
            return rows.put(self.connection, table, {"session_id": session_id}, said | rest)
        missing = {name: text for name, text in said.items() if text and not getattr(known, name)}
        if not missing:
            return False
        return rows.put(self.connection, table, {"session_id": session_id}, missing)

    def _part(self, part: PartReader) -> bool:
        header = part.header
        keys = {"recording_id": self.recording_id, "part_index": part.part_index}
        values = {
            "path": str(part.path).removesuffix(".open"),
            "state": part.state,
            "generation": header.generation,
            "chunk_count": header.chunk_count,
            "payload_bytes": header.payload_bytes,
            "commitment": part.commitment.hex(),
            "header_mac": header.mac.hex(),
            "size_bytes": part.path.stat().st_size,
        }
        return rows.put(self.connection, tables.parts, keys, values)

    def _marks(self, contents: Contents) -> Iterator[dict[str, Any]]:
        for number, mark in enumerate(contents.marks):
            yield {
                "recording_id": self.recording_id,
                "number": number,
                "host_ns": mark.host_ns,
                "at": None if mark.utc_ns is None else utc_text(mark.utc_ns),
                "kind": storable(mark.kind),
                "text": storable(mark.text),
            }

    def _replace(self, table: Any, wanted: Sequence[dict[str, Any]]) -> bool:
        """Let the recording have these rows in a table, and no others."""
        chosen = table.c.recording_id == self.recording_id
        query = select(table).where(chosen).order_by(table.c.number)
        found = [dict(row._mapping) for row in self.connection.execute(query)]
        if found == list(wanted):
            return False
        self.connection.execute(delete(table).where(chosen))
        if wanted:
            self.connection.execute(insert(table), list(wanted))
        return True

    def on_record(self) -> tuple[list[Entry], list[str]]:
        """What the audit shall get, and where it and the files differ."""
        table = tables.audit
        query = select(table).where(table.c.recording_id == self.recording_id)
        known = [
            audit.AuditRow(*row) for row in self.connection.execute(query.order_by(table.c.seq))
        ]
        baselines = Baselines(known).parts
        entries, problems = [], []
        for part in self.recording.parts:
            row = baselines.get(part.part_index)
            found = Fingerprint.of(part)
            if row is not None:
                _, what = difference(row, found)
                name = f"row {row.seq} of the audit ({row.kind})"
                problems += [f"{part.path} {what.format(by=name)}"] if what else []
            elif part.state in _CLOSED:
                entries.append(_found(part, found))
        return entries, problems


def _worst(states: Iterable[str]) -> str:
    return max(states, key=_WORST_LAST.index)


def _found(part: PartReader, found: Fingerprint) -> Entry:
    return Entry(
        kind="found",
        recording_id=part.header.core.recording_id,
        part=part.part_index,
        generation=found.generation,
        chunk_count=found.chunk_count,
        commitment=found.commitment,
        header_mac=found.header_mac,
        detail={"path": str(part.path), "state": part.state},
    )


def _drop_empty_session(connection: Connection, session_id: str) -> None:
    """Remove a session that was made for a recording whose beginning nobody told."""
    if not rows.refresh_session(connection, session_id):
        table = tables.recordings
        query = select(table.c.recording_id).where(table.c.session_id == session_id).limit(1)
        if connection.execute(query).first() is None:
            connection.execute(
                delete(tables.sessions).where(tables.sessions.c.session_id == session_id)
            )
