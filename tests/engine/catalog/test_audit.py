"""The audit's chain: what it shows, what its bytes are, and that writers cannot fork it."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from engine.catalog import audit
from engine.catalog.audit import ChainReport, Entry, Head, note
from engine.catalog.store import Catalog
from engine.key_files import new_key_file
from ipc.errors import CatalogError
from ipc.osdep import user_name
from tests.engine.catalog.conftest import Site

COLUMNS = (
    "at, kind, who, operator, recording_id, part, generation, chunk_count, commitment, "
    "header_mac, detail, mac"
)


@pytest.fixture
def written(site: Site) -> Site:
    """An audit of nine rows."""
    for number in range(8):
        seal = Entry(
            kind="seal",
            recording_id=bytes([number]) * 16,
            part=number,
            generation=number + 2,
            chunk_count=2**64 - 1 - number,
            commitment=bytes([1]) * 32,
            header_mac=bytes([2]) * 32,
            detail={"text": f"Zeile {number} ☃"},
            operator="M. Curie",
        )
        note(site.place, seal)
    return site


def check(site: Site, seen: Head | None = None) -> ChainReport:
    with Catalog(site.place).reading() as connection:
        return audit.check(connection, audit.read_key(site.place), seen=seen)


def test_an_untouched_chain_holds(written: Site) -> None:
    """Nine rows, and the head is the last."""
    report = check(written)
    assert report.holds
    assert (report.rows, report.head.seq) == (9, 9)


def test_every_row_says_who_and_when(written: Site) -> None:
    """The system's user, whoever is named as operator, and the time in UTC."""
    rows = written.ask("SELECT who, operator, at, kind FROM audit WHERE seq > 1")
    assert {(row[0], row[1], row[3]) for row in rows} == {(user_name(), "M. Curie", "seal")}
    times = [row[2] for row in rows]
    assert times == sorted(times)
    assert all(len(time) == 27 and time.endswith("Z") for time in times)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("at", "'2026-01-01T00:00:00.000000Z'"),
        ("kind", "'verify'"),
        ("who", "'somebody'"),
        ("operator", "''"),
        ("recording_id", "NULL"),
        ("part", "0"),
        ("part", "NULL"),
        ("generation", "9"),
        ("chunk_count", "'1'"),
        ("commitment", "NULL"),
        ("header_mac", "'00'"),
        ("detail", "'{}'"),
        ("mac", "'00'"),
        ("mac", "'ß'"),
    ],
)
def test_a_changed_row_is_found(written: Site, column: str, value: str) -> None:
    """Whatever column is changed, the first bad row is named."""
    value = value.strip("'") if column == "chunk_count" and written.kind != "sqlite" else value
    written.sql(f"UPDATE audit SET {column} = {value} WHERE seq = 5")
    assert check(written).first_bad == 5


@pytest.mark.parametrize("seq", [1, 5, 9])
def test_a_removed_row_is_found(written: Site, seq: int) -> None:
    """The first, one in the middle, and the last one, by the stored head."""
    written.sql(f"DELETE FROM audit WHERE seq = {seq}")
    report = check(written)
    assert report.first_bad == seq
    assert "missing" in report.problem


def test_removed_and_renumbered_rows_are_found(written: Site) -> None:
    """Closing the gap in the numbers does not help."""
    written.sql("DELETE FROM audit WHERE seq = 5")
    for seq in range(6, 10):
        written.sql(f"UPDATE audit SET seq = {seq - 1} WHERE seq = {seq}")
    assert check(written).first_bad == 5


def test_removed_last_rows_are_found_though_the_head_is_set_back(written: Site) -> None:
    """A head needs the key: neither the old row's number nor its MAC makes one."""
    written.sql(
        "DELETE FROM audit WHERE seq > 7",
        "UPDATE audit_head SET seq = 7, mac = (SELECT mac FROM audit WHERE seq = 7)",
    )
    assert check(written).first_bad == 8
    written.sql("DELETE FROM audit_head")
    assert check(written).first_bad == 8


def test_an_emptied_audit_is_found(written: Site) -> None:
    """No rows and no head is no audit."""
    written.sql("DELETE FROM audit", "DELETE FROM audit_head")
    assert check(written).first_bad == 1


def test_an_older_copy_of_the_catalog_shows_by_a_head_noted_elsewhere(written: Site) -> None:
    """Rows and head of an earlier time agree with each other; what was noted then does not."""
    head = written.ask("SELECT seq, mac, head_mac FROM audit_head")[0]
    noted = check(written).head
    note(written.place, Entry(kind="verify"))
    later = check(written).head
    written.sql(
        "DELETE FROM audit WHERE seq > 9",
        f"UPDATE audit_head SET seq = {head[0]}, mac = '{head[1]}', head_mac = '{head[2]}'",
    )
    assert check(written).holds  # this is what the catalog alone cannot show
    assert check(written, noted).holds
    assert check(written, later).first_bad == 10
    assert check(written, Head(7, later.mac)).first_bad == 7


def test_an_inserted_row_is_found(written: Site) -> None:
    """A copy behind the last row, and a made-up one in place of a moved one."""
    written.sql(f"INSERT INTO audit SELECT 10, {COLUMNS} FROM audit WHERE seq = 9")
    assert check(written).first_bad == 10
    written.sql(
        "DELETE FROM audit WHERE seq = 10",
        *[f"UPDATE audit SET seq = {n + 1} WHERE seq = {n}" for n in range(9, 4, -1)],
        f"INSERT INTO audit SELECT 5, {COLUMNS} FROM audit WHERE seq = 4",
    )
    assert check(written).first_bad == 5


def test_swapped_rows_are_found(written: Site) -> None:
    """Two rows that change places, with everything they hold."""
    written.sql(
        "UPDATE audit SET seq = 100 WHERE seq = 4",
        "UPDATE audit SET seq = 4 WHERE seq = 6",
        "UPDATE audit SET seq = 6 WHERE seq = 100",
    )
    assert check(written).first_bad == 4


def test_another_key_fits_nothing(written: Site, tmp_path: Path) -> None:
    """The chain is the key's: with another one nothing holds and nothing is appended."""
    written.place.audit_key.unlink()
    new_key_file(written.place.audit_key)
    assert check(written).first_bad == 1
    with pytest.raises(CatalogError, match="not authentic"):
        note(written.place, Entry(kind="verify"))
    assert written.ask("SELECT count(*) FROM audit") == [(9,)]


def test_nothing_is_appended_to_a_head_that_was_changed(written: Site) -> None:
    """Who changes the head stops the audit, loudly, rather than bending it."""
    written.sql("UPDATE audit_head SET mac = (SELECT mac FROM audit WHERE seq = 3), seq = 3")
    with pytest.raises(CatalogError, match="not authentic"):
        note(written.place, Entry(kind="verify"))


def test_values_that_no_column_of_ours_holds_are_found(written: Site) -> None:
    """Blobs, broken UTF-8, infinite numbers: a bad row, not an error."""
    if written.kind == "sqlite":
        ways = ["operator = x'4d'", "detail = CAST(x'ff' AS TEXT)", "chunk_count = 'x'", "part=1.5"]
    else:
        ways = ["chunk_count = 'NaN'"]
    for way in ways:
        written.sql(f"UPDATE audit SET {way} WHERE seq = 6")
        assert check(written).first_bad == 6, way


def test_the_bytes_of_a_row_are_those_of_the_specification(written: Site) -> None:
    """CATALOG.md, "A row's bytes", followed by hand."""
    key = bytes.fromhex(written.place.audit_key.read_text())
    previous = bytes(32)
    for row in written.ask(f"SELECT seq, {COLUMNS} FROM audit ORDER BY seq"):
        body = b""
        for value in row[:-1]:
            data = None if value is None else str(value).encode()
            body += struct.pack(">I", 2**32 - 1 if data is None else len(data)) + (data or b"")
        message = b"sealrec audit row 1\0" + previous + body
        previous = hmac.digest(key, message, hashlib.sha256)
        assert row[-1] == previous.hex()
    ((seq, mac, head_mac),) = written.ask("SELECT seq, mac, head_mac FROM audit_head")
    message = b"sealrec audit head 1\0" + struct.pack(">Q", seq) + bytes.fromhex(mac)
    assert head_mac == hmac.digest(key, message, hashlib.sha256).hex()


def test_texts_that_a_database_refuses_are_kept_another_way(site: Site) -> None:
    """Zero characters, names that are no UTF-8, and texts without end still make a good row."""
    hostile = "a\0b\udcff" + "🙂" * 5000
    note(site.place, Entry(kind="export", operator=hostile, detail={"path": hostile}))
    assert check(site).holds
    ((operator, detail),) = site.ask("SELECT operator, detail FROM audit WHERE seq = 2")
    assert operator.startswith("a␀b\\udcff🙂")
    assert operator.endswith("…")
    assert len(operator) == len(detail) == 4096


def test_processes_that_append_at_once_do_not_fork_the_chain(site: Site) -> None:
    """Three processes, 40 rows each: one chain of 121 rows, in which each is whole and in order."""
    names, count = ("a", "b", "c"), 40
    command = [sys.executable, "-m", "tests.engine.catalog.appender"]
    target = site.options[1] if site.kind == "postgresql" else str(site.place.path)
    crowd = [
        subprocess.Popen(
            [*command, target, str(site.place.audit_key), name, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for name in names
    ]
    for process in crowd:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.stdout.close()
    for process in crowd:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.close()
    assert [process.wait(300) for process in crowd] == [0, 0, 0]
    report = check(site)
    assert report.holds
    assert report.rows == 1 + len(names) * count
    rows = [json.loads(row[0]) for row in site.ask("SELECT detail FROM audit ORDER BY seq")][1:]
    for name in names:
        assert [row["number"] for row in rows if row["by"] == name] == list(range(count))
    changes = sum(one["by"] != two["by"] for one, two in pairwise(rows))
    assert changes > len(names)  # they did write at the same time


def test_a_row_is_written_whole_or_not_at_all(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Broken off between the row and the head, the chain is as before."""
    monkeypatch.setattr(audit, "head_mac_of", lambda *_: 1 / 0)
    with pytest.raises(Exception):  # noqa: B017 - whatever it was
        note(site.place, Entry(kind="verify"))
    monkeypatch.undo()
    report = check(site)
    assert (report.holds, report.rows) == (True, 1)
