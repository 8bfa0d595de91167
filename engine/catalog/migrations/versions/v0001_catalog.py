"""The first catalog: sessions, recordings, parts, losses, marks and the append-only audit.

Types are spelled out here rather than taken from ``tables``: a step must not change when they do.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_APPEND_ONLY = "the audit is append-only"
_IN_ORDER = "audit rows are numbered 1, 2, 3, ..."
_GROWS = "the head of the audit only grows"
_STATUS = "status IN ('in_progress', 'paused', 'completed', 'aborted')"


def upgrade() -> None:
    """Make the tables and the triggers that hold the audit together."""
    _sessions()
    _recordings()
    _rows_of_recordings()
    _audit()
    if op.get_bind().dialect.name == "sqlite":
        _triggers_of_sqlite()
    else:
        _triggers_of_postgresql()


def downgrade() -> None:
    """There is no way back: it would throw the audit away."""
    raise NotImplementedError("the catalog's first step cannot be undone")


def _wide() -> Any:
    return sa.Numeric(20, 0).with_variant(sa.Text(), "sqlite")


def _big_key() -> Any:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("start", sa.Text(), nullable=False),
        sa.Column("end", sa.Text()),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("video_path", sa.Text(), nullable=False),
        sa.Column("video_size_bytes", sa.BigInteger()),
        sa.Column("video_duration_s", sa.Double()),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
        sa.CheckConstraint(_STATUS, name="ck_sessions_status"),
    )
    op.create_index("ix_sessions_start", "sessions", ["start"])


def _recordings() -> None:
    op.create_table(
        "recordings",
        sa.Column("recording_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("still", sa.Boolean(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("frames_offered", _wide()),
        sa.Column("frames_written", _wide()),
        sa.Column("gaps", sa.BigInteger()),
        sa.Column("balanced", sa.Boolean()),
        sa.Column("duration_s", sa.Double()),
        sa.Column("size_bytes", sa.BigInteger()),
        sa.Column("started", sa.Text(), nullable=False),
        sa.Column("ended", sa.Text()),
        sa.Column("problem", sa.Text(), nullable=False),
        sa.Column("losses_left_out", sa.BigInteger(), nullable=False),
        sa.Column("synced", sa.Text()),
        sa.PrimaryKeyConstraint("recording_id", name="pk_recordings"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.session_id"], name="fk_recordings_session_id"
        ),
        sa.CheckConstraint(_STATUS, name="ck_recordings_status"),
    )
    op.create_index("ix_recordings_session_id", "recordings", ["session_id"])


def _rows_of_recordings() -> None:
    _of_recording(
        "parts",
        "part_index",
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger()),
        sa.Column("chunk_count", _wide()),
        sa.Column("payload_bytes", _wide()),
        sa.Column("commitment", sa.Text()),
        sa.Column("header_mac", sa.Text()),
        sa.Column("size_bytes", sa.BigInteger()),
    )
    _of_recording(
        "losses",
        "number",
        sa.Column("class", sa.Text(), nullable=False),
        sa.Column("epoch", _wide(), nullable=False),
        sa.Column("first_id", _wide()),
        sa.Column("last_id", _wide()),
        sa.Column("first_host_ns", _wide(), nullable=False),
        sa.Column("last_host_ns", _wide(), nullable=False),
    )
    _of_recording(
        "marks",
        "number",
        sa.Column("host_ns", _wide(), nullable=False),
        sa.Column("at", sa.Text()),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
    )


def _of_recording(table: str, number: str, *columns: sa.Column[Any]) -> None:
    op.create_table(
        table,
        sa.Column("recording_id", sa.Text(), nullable=False),
        sa.Column(number, sa.BigInteger(), nullable=False, autoincrement=False),
        *columns,
        sa.PrimaryKeyConstraint("recording_id", number, name=f"pk_{table}"),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.recording_id"], name=f"fk_{table}_recording_id"
        ),
    )


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", _big_key(), nullable=False, autoincrement=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("operator", sa.Text(), nullable=False),
        sa.Column("recording_id", sa.Text()),
        sa.Column("part", sa.BigInteger()),
        sa.Column("generation", sa.BigInteger()),
        sa.Column("chunk_count", _wide()),
        sa.Column("commitment", sa.Text()),
        sa.Column("header_mac", sa.Text()),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("mac", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_recording_id", "audit", ["recording_id"])
    op.create_table(
        "audit_head",
        sa.Column("id", _big_key(), nullable=False, autoincrement=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("mac", sa.Text(), nullable=False),
        sa.Column("head_mac", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
        sa.CheckConstraint("id = 1", name="ck_audit_head_one"),
    )


def _triggers_of_sqlite() -> None:
    # INSERT OR REPLACE deletes without a delete trigger; the one on insert comes before it.
    for name, moment, condition, message in (
        ("audit_no_update", "UPDATE ON audit", "1", _APPEND_ONLY),
        ("audit_no_delete", "DELETE ON audit", "1", _APPEND_ONLY),
        (
            "audit_in_order",
            "INSERT ON audit",
            "NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM audit)",
            _IN_ORDER,
        ),
        ("audit_head_stays", "DELETE ON audit_head", "1", _GROWS),
        ("audit_head_once", "INSERT ON audit_head", "EXISTS (SELECT 1 FROM audit_head)", _GROWS),
        ("audit_head_grows", "UPDATE ON audit_head", "NEW.seq IS NOT OLD.seq + 1", _GROWS),
    ):
        op.execute(
            f"CREATE TRIGGER {name} BEFORE {moment} WHEN {condition} "
            f"BEGIN SELECT RAISE(ABORT, '{message}'); END"
        )


def _triggers_of_postgresql() -> None:
    op.execute(
        f"""
        CREATE FUNCTION sealrec_audit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                RAISE EXCEPTION '{_APPEND_ONLY}';
            END IF;
            IF NEW.seq IS DISTINCT FROM (SELECT coalesce(max(seq), 0) + 1 FROM audit) THEN
                RAISE EXCEPTION '{_IN_ORDER}';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    op.execute(
        f"""
        CREATE FUNCTION sealrec_audit_head_guard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF TG_OP = 'INSERT' OR (TG_OP = 'UPDATE' AND NEW.seq = OLD.seq + 1) THEN
                RETURN NEW;
            END IF;
            RAISE EXCEPTION '{_GROWS}';
        END $$
        """
    )
    for table, guard in (
        ("audit", "sealrec_audit_guard"),
        ("audit_head", "sealrec_audit_head_guard"),
    ):
        op.execute(
            f"CREATE TRIGGER {table}_rows BEFORE INSERT OR UPDATE OR DELETE ON {table} "
            f"FOR EACH ROW EXECUTE FUNCTION {guard}()"
        )
        op.execute(
            f"CREATE TRIGGER {table}_whole BEFORE TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {guard}()"
        )
