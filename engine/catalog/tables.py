"""The catalog's tables, as the newest migration leaves them (CATALOG.md, "Tables").

``migrations`` creates them; a test compares the two on both databases. Times of day are texts, UTC,
ISO 8601 with microseconds: they sort as they are and are the same bytes everywhere. Ids, keys and
MACs are hex.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    MetaData,
    Table,
    Text,
)

from engine.catalog.columns import BigKey, WideInteger, Words

__all__ = [
    "SCHEMA",
    "STATUSES",
    "audit",
    "audit_head",
    "losses",
    "marks",
    "metadata",
    "parts",
    "recordings",
    "sessions",
]

SCHEMA: Final = "0001"
"""The migration that makes these tables."""

STATUSES: Final = ("in_progress", "paused", "completed", "aborted")

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _known_status() -> CheckConstraint:
    listed = ", ".join(f"'{status}'" for status in STATUSES)
    return CheckConstraint(f"status IN ({listed})", name="status")


sessions = Table(
    "sessions",
    metadata,
    Column("session_id", Words, primary_key=True),
    Column("subject", Words, nullable=False),
    Column("operator", Words, nullable=False),
    Column("start", Text, nullable=False),
    Column("end", Text),
    Column("status", Text, nullable=False),
    Column("video_path", Words, nullable=False),
    Column("video_size_bytes", BigInteger),
    Column("video_duration_s", Double),
    _known_status(),
    Index("ix_sessions_start", "start"),
)

recordings = Table(
    "recordings",
    metadata,
    Column("recording_id", Text, primary_key=True),
    Column("session_id", Words, ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("path", Words, nullable=False),
    Column("source", Words, nullable=False),
    Column("still", Boolean, nullable=False),
    Column("status", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("frames_offered", WideInteger),
    Column("frames_written", WideInteger),
    Column("gaps", BigInteger),
    Column("balanced", Boolean),
    Column("duration_s", Double),
    Column("size_bytes", BigInteger),
    Column("started", Text, nullable=False),
    Column("ended", Text),
    Column("problem", Words, nullable=False),
    Column("losses_left_out", BigInteger, nullable=False),
    Column("synced", Text),
    _known_status(),
)

parts = Table(
    "parts",
    metadata,
    Column("recording_id", Text, ForeignKey("recordings.recording_id"), primary_key=True),
    Column("part_index", BigInteger, primary_key=True, autoincrement=False),
    Column("path", Words, nullable=False),
    Column("state", Text, nullable=False),
    Column("generation", BigInteger),
    Column("chunk_count", WideInteger),
    Column("payload_bytes", WideInteger),
    Column("commitment", Text),
    Column("header_mac", Text),
    Column("size_bytes", BigInteger),
)

losses = Table(
    "losses",
    metadata,
    Column("recording_id", Text, ForeignKey("recordings.recording_id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("class", Text, nullable=False),
    Column("epoch", WideInteger, nullable=False),
    Column("first_id", WideInteger),
    Column("last_id", WideInteger),
    Column("first_host_ns", WideInteger, nullable=False),
    Column("last_host_ns", WideInteger, nullable=False),
)

marks = Table(
    "marks",
    metadata,
    Column("recording_id", Text, ForeignKey("recordings.recording_id"), primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("host_ns", WideInteger, nullable=False),
    Column("at", Text),
    Column("kind", Words, nullable=False),
    Column("text", Words, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("seq", BigKey, primary_key=True, autoincrement=False),
    Column("at", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("who", Words, nullable=False),
    Column("operator", Words, nullable=False),
    Column("recording_id", Text),
    Column("part", BigInteger),
    Column("generation", BigInteger),
    Column("chunk_count", WideInteger),
    Column("commitment", Text),
    Column("header_mac", Text),
    Column("detail", Words, nullable=False),
    Column("mac", Text, nullable=False),
    Index("ix_audit_recording_id", "recording_id"),
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", BigKey, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("mac", Text, nullable=False),
    Column("head_mac", Text, nullable=False),
    CheckConstraint("id = 1", name="one"),
)
