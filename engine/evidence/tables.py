"""The package's data files: CSV tables and JSON, as EVIDENCE.md, "The files", has them.

No cell of a CSV begins as a formula does, whatever text it comes from: programs that open such
tables run them.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TextIO

from engine.container.boxes import TIMESCALE_HZ
from engine.evidence.facts import Clocks, Facts, LostFrames
from engine.evidence.source import Evidence, SealedPart
from engine.reading.tracks import Shown

__all__ = [
    "FRAME_COLUMNS",
    "LOSS_COLUMNS",
    "FrameTable",
    "as_json",
    "events",
    "ledger",
    "recording",
    "seconds",
    "utc_text",
    "write_losses",
]

FRAME_COLUMNS: Final = (
    *("time_in_video_s", "time_in_recording_s", "part", "epoch", "frame_id", "camera_ns"),
    *("host_ns", "utc", "seq", "pts_90khz", "flags"),
)
LOSS_COLUMNS: Final = (
    *("class", "frames", "epoch", "first_id", "last_id", "from_s", "to_s", "utc"),
    *("first_host_ns", "last_host_ns"),
)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def as_json(value: Any) -> bytes:
    """A JSON file: UTF-8, one fact a line."""
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode("utf-8", "replace")


def seconds(pts: int) -> float:
    """A time in 90 kHz in seconds."""
    return round(pts / TIMESCALE_HZ, 6)


def utc_text(utc_ns: int | None) -> str:
    """A time of day, ISO 8601 with microseconds; empty if it is not known or no calendar has it."""
    try:
        moment = None if utc_ns is None else _EPOCH + timedelta(microseconds=utc_ns // 1000)
    except OverflowError:
        return ""
    return "" if moment is None else moment.isoformat(timespec="microseconds")


def cell(value: object) -> str:
    """A cell of a CSV: a text that begins as a formula does gets a quote before it."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    return f"'{value}" if value.startswith(_FORMULA) else value


class FrameTable:
    """Writes ``frames.csv``: one row for each picture of the video, in order.

    Args:
        file: Where to.
        clocks: For the time of day.
    """

    def __init__(self, file: TextIO, clocks: Clocks) -> None:
        self._writer, self._clocks = csv.writer(file, lineterminator="\n"), clocks
        self._writer.writerow(FRAME_COLUMNS)

    def add(self, shown: Shown) -> None:
        """Write the row of a picture."""
        row = shown.row
        times = (seconds(shown.pts), seconds(row.pts), shown.part, row.epoch, row.frame_id)
        rest = (utc_text(self._clocks.utc_ns(row.host_ns)), row.seq, row.pts, row.flags)
        self._writer.writerow([cell(v) for v in (*times, row.camera_ns, row.host_ns, *rest)])


def write_losses(file: TextIO, lost: Iterable[LostFrames]) -> None:
    """Write ``losses.csv``: one row for each run of ids that is in no file, and each gap."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(LOSS_COLUMNS)
    for row in lost:
        loss = row.loss
        ids = (loss.loss_class.label, loss.frames, loss.epoch, loss.first_id, loss.last_id)
        times = (seconds(row.from_pts), seconds(row.to_pts), utc_text(row.utc_ns))
        host = (loss.first_host_ns, loss.last_host_ns)
        writer.writerow([cell(value) for value in (*ids, *times, *host)])


def ledger(facts: Facts) -> dict[str, Any]:
    """``ledger.json``: every id in its class."""
    balance = facts.balance
    return {
        "offered": balance.offered,
        "balanced": balance.balanced,
        "totals": balance.totals,
        "problems": list(balance.problems),
        "ranges": [
            {"class": name, "epoch": epoch, "first_id": first, "last_id": last}
            for name, epoch, first, last in facts.ranges
        ],
    }


def events(facts: Facts) -> list[dict[str, Any]]:
    """``events.json``: what the engine noted, and stretches without a picture."""
    noted = [
        (event.pts, event.pts, event.kind, event.text, utc_text(event.utc_ns) or None)
        for event in facts.events
    ]
    gaps = [(gap.from_pts, gap.to_pts, "no_picture", "", None) for gap in facts.gaps]
    return [
        {"from_s": seconds(begin), "to_s": seconds(end), "kind": kind, "text": text, "utc": utc}
        for begin, end, kind, text, utc in sorted(
            [*noted, *gaps], key=lambda row: (row[0], row[1], row[2])
        )
    ]


def recording(evidence: Evidence) -> dict[str, Any]:
    """``recording.json``: what was recorded with what, and its sealed files."""
    clip = evidence.clip
    return {
        "recording_id": evidence.recording_id,
        "name": evidence.name,
        "began": utc_text(evidence.facts.begin_utc_ns) or None,
        "duration_s": seconds(evidence.facts.end_pts),
        "video": {
            "frames": evidence.video.frames,
            "duration_s": evidence.video.duration_s,
            "begins_at_s": seconds(evidence.video.first_pts),
            "clip": clip is not None,
        },
        "parts": [_part(part) for part in evidence.parts],
    }


def _part(part: SealedPart) -> dict[str, Any]:
    found: dict[str, Any] = {
        "index": part.index,
        "file": part.name,
        "size_bytes": part.size_bytes,
        "sha256": part.sha256,
        "state": part.state,
        "frames": part.frames,
    }
    if part.header is None:
        return found
    header, session = part.header, part.session
    found |= {
        "generation": header.generation,
        "chunk_count": header.chunk_count,
        "payload_bytes": header.payload_bytes,
        "commitment": part.commitment,
        "header_mac": header.mac.hex(),
        "created_unix_ms": header.core.created_unix_ms,
        "keys": [{"kind": s.kind.name.lower(), "key_id": s.key_id.hex()} for s in header.slots],
    }
    if session is not None:
        found |= {
            "session": session.session,
            "camera": session.camera,
            "codec": session.codec,
            "colour": session.colour,
            "software": session.software,
        }
    return found
