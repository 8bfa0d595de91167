"""What the commands put on record: one function for each thing that is done to a recording.

Each is called once the thing is done, except an export: that is put on record before anything
leaves the sealed file. ``audit.ready`` says beforehand whether the catalog will take it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine.catalog import audit, rows
from engine.catalog.audit import Entry
from engine.catalog.place import CatalogPlace
from engine.catalog.store import Catalog
from engine.chronicle import earlier_part
from engine.container.reader import read_public_header
from engine.container.recovery import PartReport
from engine.container.rewrap import RewrappedPart

__all__ = ["exported", "keys_changed", "recovered"]


def exported(place: CatalogPlace, source: Path, to: str, *, operator: str = "") -> None:
    """Put on record that a recording is about to be written unencrypted.

    Args:
        place: The catalog.
        source: Any part of the recording.
        to: The file that will be written, or ``stdout``.
        operator: Who is named as operating.

    Raises:
        CatalogError, KeyFileError: it could not be put on record; nothing shall be exported.
        Corrupt, ConfigError: the source is no recording.
    """
    recording_id = read_public_header(source).header.core.recording_id
    detail = {"path": str(source.absolute()), "to": to}
    entry = Entry(kind="export", recording_id=recording_id, detail=detail, operator=operator)
    audit.note(place, entry)


def keys_changed(
    place: CatalogPlace, parts: Iterable[RewrappedPart], what: str, *, operator: str = ""
) -> None:
    """Put on record that keys were added, removed or replaced.

    Args:
        place: The catalog.
        parts: All parts of the recording, as they are now.
        what: In a word, with the key's id.
        operator: Who is named as operating.

    Raises:
        CatalogError, KeyFileError: it could not be put on record.
    """
    entries = [
        Entry(
            kind="key_change",
            recording_id=part.header.core.recording_id,
            part=part.header.core.part_index,
            generation=part.header.generation,
            chunk_count=part.header.chunk_count,
            commitment=part.commitment,
            header_mac=part.header.mac,
            detail={"path": str(part.path.absolute()), "what": what},
            operator=operator,
        )
        for part in parts
        if part.changed
    ]
    if entries:
        audit.note(place, *entries)


def recovered(place: CatalogPlace, reports: Iterable[PartReport], *, operator: str = "") -> None:
    """Put on record that parts were closed by recovery, and bring their rows up to date.

    Raises:
        CatalogError, KeyFileError: it could not be put on record.
    """
    facts = [
        fact
        for report in reports
        if (
            fact := earlier_part(
                report.path.absolute(), report.header, report.commitment, report.state
            )
        )
    ]
    if facts:
        key = audit.read_key(place)
        with Catalog(place).writing() as connection:
            rows.store(connection, key, facts, operator=operator)
