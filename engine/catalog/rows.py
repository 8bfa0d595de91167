"""Turns facts into rows, within one writing transaction of the catalog.

Each function may be run again with the same fact after a transaction that failed. Rows of a
recording that nobody has told of are made as far as they are known; a sync fills in the rest.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, func, insert, select, update

from engine.catalog import audit, tables
from engine.catalog.audit import Entry, utc_text
from engine.catalog.columns import Words, storable
from engine.catalog.facts import (
    Began,
    Fact,
    FramesLost,
    Marked,
    PartClosed,
    PartOpened,
    Paused,
    Resumed,
    Stopped,
)
from engine.container.reader import read_public_header
from ipc.errors import SealrecError
from ipc.frame import Loss, merge_losses

__all__ = ["MAX_LOSSES", "MAX_MARKS", "loss_rows", "put", "refresh_session", "store"]

MAX_LOSSES: Final = 10_000
MAX_MARKS: Final = 10_000
_I64: Final = 2**63 - 1
_KINDS: Final[dict[type, str]] = {
    Began: "start",
    Paused: "pause",
    Resumed: "resume",
    Stopped: "stop",
}


def store(
    connection: Connection, key: bytes, facts: Iterable[Fact], *, operator: str = ""
) -> audit.Head | None:
    """Write facts, and what of them belongs into the audit.

    Args:
        connection: Writes.
        key: The audit's.
        facts: In order.
        operator: Who is named in the audit; by default who the session names.

    Returns:
        Where the audit ends now; None if nothing of the facts belongs into it.
    """
    entries: list[Entry] = []
    for fact in facts:
        _apply(connection, fact)
        entry = _entry(connection, fact)
        if entry is not None:
            entries.append(replace(entry, operator=operator) if operator else entry)
    return audit.append(connection, key, entries)


def put(
    connection: Connection, table: Table, keys: Mapping[str, Any], values: Mapping[str, Any]
) -> bool:
    """Make a row, or change it where it says something else.

    Args:
        connection: Writes.
        table: Which.
        keys: The row's primary key.
        values: Columns that shall have these values.

    Returns:
        Whether anything was changed.
    """
    chosen = [table.c[name] == value for name, value in keys.items()]
    columns = [table.c[name] for name in values] or list(table.primary_key.columns)
    found = connection.execute(select(*columns).where(*chosen)).first()
    if found is None:
        connection.execute(insert(table).values(**keys, **values))
        return True
    stored = {name: _as_stored(table, name, value) for name, value in values.items()}
    if tuple(found) == tuple(stored.values()) or not values:
        return False
    connection.execute(update(table).where(*chosen).values(**values))
    return True


def _as_stored(table: Table, name: str, value: Any) -> Any:
    if isinstance(table.c[name].type, Words) and value is not None:
        return storable(value)
    return value


# --- one function per fact --------------------------------------------------------------------


def _apply(connection: Connection, fact: Fact) -> None:
    if isinstance(fact, Began):
        _began(connection, fact)
        return
    _ensure_recording(connection, fact)
    match fact:
        case PartOpened():
            _part_opened(connection, fact)
        case PartClosed():
            _part_closed(connection, fact)
        case FramesLost():
            _lost(connection, fact)
        case Marked():
            _marked(connection, fact)
        case Paused():
            _status(connection, fact, "paused")
        case Resumed():
            _status(connection, fact, "in_progress")
        case Stopped():
            _stopped(connection, fact)


def _began(connection: Connection, fact: Began) -> None:
    recording_id = fact.recording_id.hex()
    session_id = fact.session.get("session_id") or recording_id
    _session(connection, session_id, fact)
    values = {
        "session_id": session_id,
        "path": str(fact.path),
        "source": fact.source,
        "still": fact.still,
        "status": "in_progress",
        "state": "open",
        "started": utc_text(fact.at_ns),
        "problem": "",
        "losses_left_out": 0,
    }
    put(connection, tables.recordings, {"recording_id": recording_id}, values)
    part = {"recording_id": recording_id, "part_index": 0}
    put(connection, tables.parts, part, {"path": str(fact.path), "state": "open"})
    refresh_session(connection, session_id)


def _session(connection: Connection, session_id: str, fact: Began) -> None:
    values: dict[str, Any] = {
        name: fact.session[name] for name in ("subject", "operator") if fact.session.get(name)
    }
    table = tables.sessions
    known = connection.execute(select(table.c.status).where(table.c.session_id == session_id))
    if known.first() is None:
        empty = {"subject": "", "operator": "", "video_path": str(fact.path)}
        values = empty | values | {"start": utc_text(fact.at_ns), "status": "in_progress"}
    put(connection, table, {"session_id": session_id}, values)


def _ensure_recording(connection: Connection, fact: Fact) -> None:
    """Make the rows of a recording whose beginning was not told."""
    table = tables.recordings
    chosen = table.c.recording_id == fact.recording_id.hex()
    if connection.execute(select(table.c.status).where(chosen)).first() is None:
        path = getattr(fact, "path", None)
        if path is None:
            path = Path()
        unknown = Began(recording_id=fact.recording_id, at_ns=fact.at_ns, path=path, source="")
        _began(connection, unknown)


def _part_opened(connection: Connection, fact: PartOpened) -> None:
    part = {"recording_id": fact.recording_id.hex(), "part_index": fact.part}
    put(connection, tables.parts, part, {"path": str(fact.path), "state": "open"})


def _part_closed(connection: Connection, fact: PartClosed) -> None:
    recording_id = fact.recording_id.hex()
    size_bytes, payload_bytes = _sizes(fact)
    values = {
        "path": str(fact.path),
        "state": fact.state,
        "generation": fact.generation,
        "chunk_count": fact.chunk_count,
        "payload_bytes": payload_bytes,
        "commitment": fact.commitment.hex(),
        "header_mac": fact.header_mac.hex(),
        "size_bytes": size_bytes,
    }
    put(connection, tables.parts, {"recording_id": recording_id, "part_index": fact.part}, values)
    if fact.earlier:
        _end_of_earlier(connection, recording_id, fact)


def _sizes(fact: PartClosed) -> tuple[int | None, int | None]:
    """Size of the file and of its payload, from the file where they were not told."""
    if fact.size_bytes is not None and fact.payload_bytes is not None:
        return fact.size_bytes, fact.payload_bytes
    with contextlib.suppress(SealrecError):  # gone again: the next sync finds it
        found = read_public_header(fact.path)
        if found.header.mac == fact.header_mac:
            return found.size_bytes, found.header.payload_bytes
    return fact.size_bytes, fact.payload_bytes


def _end_of_earlier(connection: Connection, recording_id: str, fact: PartClosed) -> None:
    """Nobody writes a recording of an earlier run any more, whatever its row says."""
    table = tables.recordings
    chosen = table.c.recording_id == recording_id
    running = table.c.status.in_(("in_progress", "paused"))
    values = {"status": "aborted", "state": fact.state, "ended": utc_text(fact.at_ns)}
    connection.execute(update(table).where(chosen, running).values(**values))
    _refresh(connection, fact)


def _lost(connection: Connection, fact: FramesLost) -> None:
    recording_id = fact.recording_id.hex()
    table = tables.losses
    chosen = table.c.recording_id == recording_id
    known = connection.execute(select(func.count()).select_from(table).where(chosen)).scalar() or 0
    rows = merge_losses(fact.losses)
    kept = rows[: max(0, MAX_LOSSES - known)]
    if kept:
        connection.execute(insert(table), loss_rows(recording_id, kept, known))
    if len(kept) < len(rows):
        recordings = tables.recordings
        left_out = recordings.c.losses_left_out + (len(rows) - len(kept))
        change = update(recordings).where(recordings.c.recording_id == recording_id)
        connection.execute(change.values(losses_left_out=left_out))


def loss_rows(recording_id: str, losses: Iterable[Loss], first: int = 0) -> list[dict[str, Any]]:
    """Rows of losses, numbered from ``first``."""
    return [
        {
            "recording_id": recording_id,
            "number": number,
            "class": loss.loss_class.label,
            "epoch": loss.epoch,
            "first_id": loss.first_id,
            "last_id": loss.last_id,
            "first_host_ns": loss.first_host_ns,
            "last_host_ns": loss.last_host_ns,
        }
        for number, loss in enumerate(losses, first)
    ]


def _marked(connection: Connection, fact: Marked) -> None:
    table = tables.marks
    recording_id = fact.recording_id.hex()
    chosen = table.c.recording_id == recording_id
    number = connection.execute(select(func.count()).select_from(table).where(chosen)).scalar() or 0
    if number < MAX_MARKS:
        values = {
            "recording_id": recording_id,
            "number": number,
            "host_ns": fact.host_ns,
            "at": utc_text(fact.at_ns),
            "kind": fact.kind,
            "text": fact.text,
        }
        connection.execute(insert(table).values(**values))


def _status(connection: Connection, fact: Fact, status: str) -> None:
    table = tables.recordings
    chosen = table.c.recording_id == fact.recording_id.hex()
    running = table.c.status.in_(("in_progress", "paused"))
    connection.execute(update(table).where(chosen, running).values(status=status))
    _refresh(connection, fact)


def _stopped(connection: Connection, fact: Stopped) -> None:
    values = {
        "status": "completed" if fact.completed else "aborted",
        "state": fact.state,
        "frames_offered": fact.frames_offered,
        "frames_written": fact.frames_written,
        "gaps": fact.gaps,
        "balanced": fact.balanced,
        "duration_s": fact.duration_s,
        "size_bytes": min(fact.size_bytes, _I64),
        "ended": utc_text(fact.at_ns),
        "problem": fact.problem,
    }
    put(connection, tables.recordings, {"recording_id": fact.recording_id.hex()}, values)
    _refresh(connection, fact)


def _refresh(connection: Connection, fact: Fact) -> None:
    table = tables.recordings
    chosen = table.c.recording_id == fact.recording_id.hex()
    session_id = connection.execute(select(table.c.session_id).where(chosen)).scalar()
    if session_id is not None:
        refresh_session(connection, session_id)


def refresh_session(connection: Connection, session_id: str) -> bool:
    """Work a session's row out from its recordings; True if it said something else."""
    table = tables.recordings
    query = (
        select(table.c.path, table.c.status, table.c.size_bytes, table.c.duration_s,
               table.c.started, table.c.ended)
        .where(table.c.session_id == session_id)
        .order_by(table.c.started, table.c.recording_id)
    )  # fmt: skip
    found = connection.execute(query.where(~table.c.still)).all()
    has_video = bool(found)
    found = found or connection.execute(query).all()  # nothing but stills
    if not found:
        return False
    running = any(row.ended is None for row in found)
    sizes = [row.size_bytes for row in found if row.size_bytes is not None]
    durations = [row.duration_s for row in found if row.duration_s is not None]
    values = {
        "start": found[0].started,
        "end": None if running else max(row.ended for row in found),
        "status": found[-1].status,
        "video_path": found[0].path if has_video else "",
        "video_size_bytes": min(sum(sizes), _I64) if sizes and has_video else None,
        "video_duration_s": round(sum(durations), 6) if durations and has_video else None,
    }
    return put(connection, tables.sessions, {"session_id": session_id}, values)


# --- the audit's rows -------------------------------------------------------------------------


def _entry(connection: Connection, fact: Fact) -> Entry | None:
    """What of a fact belongs into the audit."""
    if isinstance(fact, PartClosed):
        return Entry(
            kind="seal" if fact.state == "sealed" and not fact.earlier else "recovery",
            recording_id=fact.recording_id,
            part=fact.part,
            generation=fact.generation,
            chunk_count=fact.chunk_count,
            commitment=fact.commitment,
            header_mac=fact.header_mac,
            detail={"path": str(fact.path), "state": fact.state},
            operator=_operator(connection, fact),
            at_ns=fact.at_ns,
        )
    kind = _KINDS.get(type(fact))
    if kind is None:
        return None
    return Entry(
        kind=kind,
        recording_id=fact.recording_id,
        detail=_detail(fact),
        operator=_operator(connection, fact),
        at_ns=fact.at_ns,
    )


def _detail(fact: Fact) -> dict[str, Any]:
    if isinstance(fact, Began):
        session = {name: fact.session[name] for name in ("session_id", "subject") if
                   name in fact.session}  # fmt: skip
        return {"path": str(fact.path), "source": fact.source, **session}
    if isinstance(fact, Stopped):
        return {
            "state": fact.state,
            "parts": fact.parts,
            "frames_offered": fact.frames_offered,
            "frames_written": fact.frames_written,
            "balanced": fact.balanced,
            "problem": fact.problem,
        }
    return {}


def _operator(connection: Connection, fact: Fact) -> str:
    if isinstance(fact, Began):
        return fact.session.get("operator", "")
    recordings, sessions = tables.recordings, tables.sessions
    query = (
        select(sessions.c.operator)
        .join(recordings, recordings.c.session_id == sessions.c.session_id)
        .where(recordings.c.recording_id == fact.recording_id.hex())
    )
    return connection.execute(query).scalar() or ""
