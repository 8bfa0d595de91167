"""Recordings for the review page: two parts that overlap, a camera gap, marks, a real clock."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec

from engine.container.tables import ClockPair, FragmentTable, Note
from ipc.frame import Loss, LossClass
from tests.engine.recordings import FIRST_ID, PERIOD, Studio

__all__ = ["FRAMES", "GAP", "MARKS", "OVERLAP", "START_NS", "UTC_NS", "host_ns", "record"]

SIZE = (256, 160)
FRAMES = 600
GAP = range(104, 160)
"""Frames that the camera skipped: 1.9 s."""
OVERLAP = range(404, 408)
"""Frames that both parts hold: the second half of the first part's last fragment."""
START_NS = 5_000_000_000
UTC_NS = 1_795_000_000_000_000_000
MARKS = (
    (40, "laser_on", "step 1, 12 mJ"),
    (200, "laser_off", ""),
    (300, "emergency_stop", "by M."),
)
"""(at frame, kind, text)."""


def host_ns(number: int) -> int:
    """Arrival of a frame on the host's clock: 30 frames a second."""
    return START_NS + number * 100_000_000 // 3


def record(base: Path, *, password: str = "") -> Studio:
    """Write the recording."""
    from engine.keys import password_recipient

    recipients = [password_recipient(password)] if password else []
    studio = Studio(base, recipients=recipients)
    first = [n for n in range(OVERLAP.stop) if n not in GAP]
    skipped = (FIRST_ID + GAP.start, FIRST_ID + GAP.stop - 1)
    times = (host_ns(GAP.start), host_ns(GAP.stop - 1))
    lost = Loss(LossClass.CAMERA_GAP, 0, *skipped, *times)
    studio.part(0, first, lost=[lost], last=False, size=SIZE, table=_as_recorded)
    studio.part(1, range(OVERLAP.start, FRAMES), size=SIZE, table=_as_recorded)
    return studio


def _as_recorded(table: FragmentTable) -> FragmentTable:
    """Times of a real clock, and the marks and events of this stretch."""
    numbers = [row.seq for row in table.frames]
    rows = tuple(
        msgspec.structs.replace(row, host_ns=host_ns(row.seq), camera_ns=2 * host_ns(row.seq))
        for row in table.frames
    )
    marks = [Note(host_ns(at), kind, text) for at, kind, text in MARKS if at in numbers]
    events = [Note(host_ns(numbers[0]), "overload", "2 steps faster")] if 240 in numbers else []
    end_ns = rows[-1].host_ns
    return dataclasses.replace(
        table,
        frames=rows,
        marks=tuple(marks),
        events=tuple(events),
        clock=ClockPair(end_ns, UTC_NS + end_ns - START_NS),
    )


assert PERIOD == 3000  # 30 frames a second in 90 kHz
