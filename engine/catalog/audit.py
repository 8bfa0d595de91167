"""The audit: rows that only grow, each bound to the one before by an HMAC under a key of its own.

A changed, removed, inserted or swapped row breaks the chain at its place; that the last rows are
missing shows by the stored head. What it cannot show is in CATALOG.md, "What the audit proves",
which also fixes every byte that is authenticated here.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import re
import secrets
import struct
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select, update

from engine.catalog import tables
from engine.catalog.columns import storable
from engine.catalog.place import CatalogPlace
from engine.catalog.store import Catalog
from engine.key_files import read_key_file
from ipc.errors import CatalogError
from ipc.osdep import user_name

__all__ = [
    "AuditRow",
    "ChainReport",
    "Entry",
    "Head",
    "append",
    "begin_chain",
    "canonical",
    "check",
    "goes_through",
    "has_rows",
    "latest",
    "note",
    "read_key",
    "ready",
    "rows",
    "utc_text",
]

GENESIS: Final = "init"

_ROW: Final = b"sealrec audit row 1\0"
_HEAD: Final = b"sealrec audit head 1\0"
_MAC_BYTES: Final = 32
_NULL: Final = 0xFFFF_FFFF
_LENGTH: Final = struct.Struct(">I")
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something to be put on record.

    Attributes:
        kind: ``start``, ``pause``, ``resume``, ``stop``, ``seal``, ``recovery``, ``found``,
            ``verify``, ``export``, ``key_change``.
        recording_id: 16 bytes; None if it is about no recording.
        part: Its index, for what is about one part; the next four belong to it.
        generation: Of its header.
        chunk_count: Of its header.
        commitment: Key commitment of its payload, 32 bytes.
        header_mac: Of its header in force, 32 bytes.
        detail: What else there is to say.
        operator: Who is named as operating; the system's user is added by itself.
        at_ns: When, ``time.time_ns()``; None is now.
    """

    kind: str
    recording_id: bytes | None = None
    part: int | None = None
    generation: int | None = None
    chunk_count: int | None = None
    commitment: bytes | None = None
    header_mac: bytes | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    operator: str = ""
    at_ns: int | None = None


class AuditRow(msgspec.Struct, frozen=True):
    """One row as it is stored, in the order in which it is authenticated."""

    seq: int
    at: str
    kind: str
    who: str
    operator: str
    recording_id: str | None
    part: int | None
    generation: int | None
    chunk_count: int | None
    commitment: str | None
    header_mac: str | None
    detail: str
    mac: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends: its last row's number and MAC."""

    seq: int
    mac: str

    def __str__(self) -> str:
        return f"{self.seq}:{self.mac}"

    @classmethod
    def read(cls, text: str) -> Head | None:
        """The head that ``str`` wrote; None if it is none."""
        match = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", text)
        return None if match is None else cls(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What checking the chain found.

    Attributes:
        rows: How many there are.
        head: The last good row.
        first_bad: Number of the first row that is not what was written, or is missing; None if the
            chain holds.
        problem: What is wrong with it, in a sentence.
    """

    rows: int
    head: Head
    first_bad: int | None = None
    problem: str = ""

    @property
    def holds(self) -> bool:
        """Whether everything is as it was written, as far as can be seen."""
        return self.first_bad is None


def utc_text(at_ns: int) -> str:
    """A time of day as the catalog writes it: ``2026-11-26T16:00:00.123456Z``.

    Args:
        at_ns: Since 1970, UTC; what no calendar has becomes its end or beginning.
    """
    zero = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    try:
        moment = zero + datetime.timedelta(microseconds=at_ns // 1000)
    except OverflowError:
        moment = datetime.datetime.max if at_ns > 0 else datetime.datetime.min
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def read_key(place: CatalogPlace) -> bytes:
    """The audit's key, 32 bytes.

    Raises:
        KeyFileError: the file is missing, readable by others, or no key file.
    """
    return read_key_file(place.audit_key)


def canonical(row: AuditRow) -> bytes:
    """The bytes of a row that its MAC covers.

    Raises:
        ValueError: a value that no row of ours has.

    Source: CATALOG.md, "A row's bytes".
    """
    encoded = bytearray()
    for name in AuditRow.__struct_fields__[:-1]:
        value = getattr(row, name)
        if value is None:
            encoded += _LENGTH.pack(_NULL)
            continue
        if type(value) not in (str, int):
            raise ValueError(name)
        data = str(value).encode("utf-8")
        encoded += _LENGTH.pack(len(data)) + data
    return bytes(encoded)


def mac_of(key: bytes, row: AuditRow, previous: bytes) -> bytes:
    """The MAC of a row behind the row whose MAC is ``previous`` (zeros for the first)."""
    return hmac.digest(key, _ROW + previous + canonical(row), hashlib.sha256)


def head_mac_of(key: bytes, head: Head) -> str:
    """The MAC of a head."""
    body = _HEAD + struct.pack(">Q", head.seq) + bytes.fromhex(head.mac)
    return hmac.digest(key, body, hashlib.sha256).hex()


def note(place: CatalogPlace, *entries: Entry) -> None:
    """Put entries on record, now and durably, for a command that does one thing.

    Raises:
        CatalogError: they could not be written; none was.
        KeyFileError: the audit's key cannot be read.
    """
    key = read_key(place)
    with Catalog(place).writing() as connection:
        append(connection, key, entries)


def ready(place: CatalogPlace) -> None:
    """Make sure that ``note`` will do, before something is done that belongs on record.

    Raises:
        CatalogError: the catalog cannot be written, or its head is not authentic under the key.
        KeyFileError: the audit's key cannot be read.
    """
    key = read_key(place)
    with Catalog(place).writing() as connection:
        _head(connection, key)


def append(connection: Connection, key: bytes, entries: Sequence[Entry]) -> Head | None:
    """Append rows within the caller's writing transaction; the new head, None without entries.

    Raises:
        CatalogError: the head is not authentic under this key: it is another catalog's, or
            somebody has changed it. Nothing is appended to a chain that is not ours.
    """
    if not entries:
        return None
    head = _head(connection, key)
    rows = list(_rows_behind(head, key, entries))
    connection.execute(insert(tables.audit), [msgspec.structs.asdict(row) for row in rows])
    # One step at a time, as the trigger has it: the head only grows, row by row.
    for row in rows:
        head = Head(row.seq, row.mac)
        _move_head(connection, key, head)
    return head


def goes_through(connection: Connection, head: Head) -> bool:
    """Whether the audit has this very row; its chain is checked elsewhere."""
    table = tables.audit
    mac = connection.execute(select(table.c.mac).where(table.c.seq == head.seq)).scalar()
    return mac is not None and _same(str(mac), head.mac)


def begin_chain(connection: Connection, key: bytes) -> None:
    """Write the first row of a new catalog's audit; nothing if it has one."""
    if has_rows(connection):
        _head(connection, key)  # says so if the key is another one
        return
    first = Entry(kind=GENESIS, detail={"catalog": secrets.token_hex(16)})
    (row,) = _rows_behind(Head(0, bytes(_MAC_BYTES).hex()), key, [first])
    connection.execute(insert(tables.audit), [msgspec.structs.asdict(row)])
    head = Head(row.seq, row.mac)
    connection.execute(
        insert(tables.audit_head),
        [{"id": 1, "seq": head.seq, "mac": head.mac, "head_mac": head_mac_of(key, head)}],
    )


def has_rows(connection: Connection) -> bool:
    """Whether the audit has begun."""
    return connection.execute(select(tables.audit.c.seq).limit(1)).first() is not None


def rows(connection: Connection, *, after: int = 0) -> Iterator[AuditRow]:
    """The rows in order, unchecked.

    Args:
        connection: Reads.
        after: Only rows with greater numbers.
    """
    table = tables.audit
    while True:
        query = select(table).where(table.c.seq > after).order_by(table.c.seq).limit(_BATCH)
        found = [AuditRow(*row) for row in connection.execute(query)]
        yield from found
        if len(found) < _BATCH:
            return
        after = found[-1].seq


def latest(connection: Connection, count: int) -> list[AuditRow]:
    """The last ``count`` rows in order, unchecked."""
    table = tables.audit
    query = select(table).order_by(table.c.seq.desc()).limit(count)
    return [AuditRow(*row) for row in connection.execute(query)][::-1]


def check(
    connection: Connection,
    key: bytes,
    *,
    seen: Head | None = None,
    good: list[AuditRow] | None = None,
    about: bytes | None = None,
) -> ChainReport:
    """Follow the chain from its first row to its head.

    Args:
        connection: Reads.
        key: The audit's.
        seen: A head that was noted before, elsewhere: the chain must still go through it.
        good: Gets the rows that are as they were written, up to the first bad one.
        about: Only those of this recording.
    """
    previous, head, counted = bytes(_MAC_BYTES), Head(0, bytes(_MAC_BYTES).hex()), 0
    wanted = None if about is None else about.hex()
    for row in rows(connection):
        counted += 1
        problem = _wrong(row, head.seq + 1, key, previous)
        if problem:
            return ChainReport(counted, head, head.seq + 1, problem)
        if seen is not None and seen.seq == row.seq and not _same(seen.mac, row.mac):
            return ChainReport(counted, head, row.seq, f"Row {row.seq} is not the one seen before.")
        if good is not None and (wanted is None or row.recording_id == wanted):
            good.append(row)
        previous, head = bytes.fromhex(row.mac), Head(row.seq, row.mac)
    problem = _wrong_end(connection, key, head, seen)
    return ChainReport(counted, head, head.seq + 1 if problem else None, problem)


def _wrong(row: AuditRow, expected: int, key: bytes, previous: bytes) -> str:
    """What is wrong with a row at its place; empty if nothing."""
    if row.seq != expected:
        return f"Row {expected} is missing."
    try:
        mac = mac_of(key, row, previous).hex()
        good = _same(mac, row.mac)
    except (ValueError, TypeError):
        good = False
    return "" if good else f"Row {expected} is not what was written there."


def _wrong_end(connection: Connection, key: bytes, last: Head, seen: Head | None) -> str:
    if last.seq == 0:
        return "Row 1 is missing: the audit has no rows."
    stored = _stored_head(connection, key)
    if stored is None:
        return f"The stored head, behind row {last.seq}, is missing or not what was written."
    if stored != last:
        return f"Row {last.seq + 1} is missing: the audit had {stored.seq} rows."
    if seen is not None and seen.seq > last.seq:
        return f"Row {last.seq + 1} is missing: {seen.seq} rows were seen before."
    return ""


def _same(one: str, two: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), two.encode("utf-8", "replace"))


def _stored_head(connection: Connection, key: bytes) -> Head | None:
    """The stored head; None if it is not authentic under this key."""
    table = tables.audit_head
    found = connection.execute(select(table.c.seq, table.c.mac, table.c.head_mac)).first()
    if found is None:
        return None
    with contextlib.suppress(ValueError, TypeError, struct.error):
        head = Head(found.seq, found.mac)
        if _same(head_mac_of(key, head), found.head_mac):
            return head
    return None


def _head(connection: Connection, key: bytes) -> Head:
    head = _stored_head(connection, key)
    if head is None:
        raise CatalogError(
            "The audit's head is not authentic under its key; nothing was appended.",
            hint="Is it this catalog's key? `sealrec audit --verify` says what is wrong.",
        )
    return head


def _move_head(connection: Connection, key: bytes, head: Head) -> None:
    values = {"seq": head.seq, "mac": head.mac, "head_mac": head_mac_of(key, head)}
    connection.execute(update(tables.audit_head).values(**values))


def _rows_behind(head: Head, key: bytes, entries: Iterable[Entry]) -> Iterator[AuditRow]:
    """The rows of entries, chained behind a head."""
    previous, seq, who = bytes.fromhex(head.mac), head.seq, storable(user_name())
    for entry in entries:
        seq += 1
        row = _row(entry, seq, who)
        previous = mac_of(key, row, previous)
        yield msgspec.structs.replace(row, mac=previous.hex())


def _row(entry: Entry, seq: int, who: str) -> AuditRow:
    detail = json.dumps(entry.detail, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return AuditRow(
        seq=seq,
        at=utc_text(time.time_ns() if entry.at_ns is None else entry.at_ns),
        kind=storable(entry.kind),
        who=who,
        operator=storable(entry.operator),
        recording_id=_hex(entry.recording_id),
        part=entry.part,
        generation=entry.generation,
        chunk_count=entry.chunk_count,
        commitment=_hex(entry.commitment),
        header_mac=_hex(entry.header_mac),
        detail=storable(detail),
        mac="",
    )


def _hex(data: bytes | None) -> str | None:
    return data.hex() if data else None
