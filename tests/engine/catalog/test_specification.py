"""CATALOG.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from engine.catalog import feed, tables
from engine.catalog.audit import AuditRow
from engine.catalog.columns import MAX_WORDS
from engine.catalog.on_disk import QUIET_S
from engine.catalog.rows import MAX_LOSSES
from engine.catalog.store import ADVISORY_LOCK, PATIENCE_S
from engine.catalog.witness import _EXIT_CODES, VERDICTS

TEXT = (Path(__file__).parents[3] / "engine/catalog/CATALOG.md").read_text()


def test_tables() -> None:
    """Every table has its row, with all columns in order."""
    rows = dict(re.findall(r"^\| (\w+) \| [^|]*\| ([^|;]+)", TEXT, re.MULTILINE))
    for table in tables.metadata.sorted_tables:
        if table.name in ("audit", "audit_head"):
            continue
        listed = [name.strip() for name in rows[table.name].split(",")]
        assert listed == [column.name for column in table.columns]
    assert [c.name for c in tables.audit.columns] == list(AuditRow.__struct_fields__)


def test_figures() -> None:
    """Verdicts, exit codes and numbers."""
    codes = dict(re.findall(r"^\| ([a-z-]+) \| [^|]* \| (\d) \|$", TEXT, re.MULTILINE))
    assert {name: int(code) for name, code in codes.items()} == {
        name: _EXIT_CODES.get(name, 0) for name in VERDICTS
    }
    assert str(ADVISORY_LOCK) in TEXT
    assert f"{MAX_WORDS:,} characters" in TEXT
    assert f"queue of {feed.CAPACITY:,} facts" in TEXT
    assert f"from {feed.CROWDED:,} on" in TEXT
    assert f"up to {feed.BATCH} facts" in TEXT
    assert f"{MAX_LOSSES:,} losses a recording" in TEXT
    assert f"{PATIENCE_S:g} s ({feed.PATIENCE_S:g} s in the engine)" in TEXT
    assert f"after {feed.FIRST_PAUSE_S:g} s, 1 s, ... {feed.LONGEST_PAUSE_S:g} s" in TEXT
    assert f"a slow one after {feed.BEHIND_S:g} s" in TEXT
    assert f"younger than {QUIET_S:g} s" in TEXT
