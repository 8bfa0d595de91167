"""Looks sessions up: who was treated when, by whom, and where the video is."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, select

from engine.catalog import tables
from engine.catalog.tables import STATUSES
from ipc.errors import ConfigError

__all__ = ["SessionFilter", "SessionRow", "find_sessions"]


class SessionRow(msgspec.Struct, frozen=True):
    """One session; columns as in CATALOG.md."""

    session_id: str
    subject: str
    operator: str
    start: str
    end: str | None
    status: str
    video_path: str
    video_size_bytes: int | None
    video_duration_s: float | None


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions are meant; None leaves a column open.

    Attributes:
        subject: Exactly this one.
        operator: Exactly this one.
        status: One of ``in_progress``, ``paused``, ``completed``, ``aborted``.
        since: Begun on this day (UTC) or later, or at this time or later.
        until: Begun on this day or earlier, or before this time.
    """

    subject: str | None = None
    operator: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None


def find_sessions(connection: Connection, wanted: SessionFilter) -> list[SessionRow]:
    """The sessions that fit, in the order in which they began.

    Raises:
        ConfigError: no such status, or no date.
    """
    table = tables.sessions
    if wanted.status is not None and wanted.status not in STATUSES:
        raise ConfigError(
            f"There is no status {wanted.status!r}.", hint=f"It is one of {', '.join(STATUSES)}."
        )
    query = select(table).order_by(table.c.start, table.c.session_id)
    for name in ("subject", "operator", "status"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(table.c[name] == value)
    if wanted.since is not None:
        query = query.where(table.c.start >= _moment(wanted.since, end_of_day=False))
    if wanted.until is not None:
        query = query.where(table.c.start < _moment(wanted.until, end_of_day=True))
    return [SessionRow(*row) for row in connection.execute(query)]


def _moment(text: str, *, end_of_day: bool) -> str:
    """A time as the catalog writes it, from a date or a time in ISO 8601; UTC unless it says."""
    try:
        if len(text) == len("2026-11-26"):
            day = datetime.date.fromisoformat(text)
            day += datetime.timedelta(days=1 if end_of_day else 0)
            return day.isoformat()
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise ConfigError(
            f"{text!r} is no date.", hint="Write 2026-11-26 or 2026-11-26T09:30 (UTC)."
        ) from None
    return moment.isoformat(timespec="microseconds") + "Z"
