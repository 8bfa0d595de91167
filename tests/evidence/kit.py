"""A short recording of all that a package tells of: parts that overlap, a loss, marks, events.

Words come from outside, and these are what an attacker would type.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec

from engine.container import recovery
from engine.container.tables import ClockPair, FragmentTable, Note, SessionTable
from engine.evidence.package import Order, PackageReport, make
from engine.key_files import new_sign_key, read_sign_key
from engine.reading.export import Clip
from ipc.frame import Loss, LossClass
from tests.engine.recordings import FIRST_ID, Studio

__all__ = ["FRAMES", "GAP", "MARKS", "UTC_NS", "Desk", "Treatment", "host_ns"]

FRAMES = 40
GAP = range(6, 16)
"""Frames that the camera skipped: 0.33 s."""
START_NS, UTC_NS = 5_000_000_000, 1_795_000_000_000_000_000
MARKS = (
    (3, "laser_on", "<script>alert(1)</script>"),
    (20, "=cmd|' /C calc'!A0", "Müller \u202e gnp.exe"),
)
SESSION = {
    "subject": "<img src=x onerror=alert(1)>",
    "operator": "=HYPERLINK(1)",
    "session_id": "Ω-17 \N{CJK UNIFIED IDEOGRAPH-6CD5}",
}


def host_ns(number: int) -> int:
    """Arrival of a frame on the host's clock: 30 frames a second."""
    return START_NS + number * 100_000_000 // 3


class Treatment(Studio):
    """A studio whose recordings have a session and a clock."""

    def _session(self) -> SessionTable:
        return SessionTable(
            session=SESSION, camera={"source": "synthetic"}, software="sealrec test"
        )

    def record(self) -> None:
        """Two parts; the second begins with four frames that the first one has as well."""
        numbers = [n for n in range(28) if n not in GAP]
        ids = (FIRST_ID + GAP.start, FIRST_ID + GAP.stop - 1)
        times = (host_ns(GAP.start), host_ns(GAP.stop - 1))
        lost = [Loss(LossClass.CAMERA_GAP, 0, *ids, *times)]
        self.part(0, numbers, lost=lost, sealed=False, table=as_recorded)
        recovery.recover(self.base, self.secret)
        self.part(1, range(24, FRAMES), table=as_recorded)


def as_recorded(table: FragmentTable) -> FragmentTable:
    """Times of a real clock, and the marks and events of this stretch."""
    numbers = [row.seq for row in table.frames]
    rows = tuple(
        msgspec.structs.replace(row, host_ns=host_ns(row.seq), camera_ns=2 * host_ns(row.seq))
        for row in table.frames
    )
    marks = tuple(Note(host_ns(at), kind, text) for at, kind, text in MARKS if at in numbers)
    events = (Note(host_ns(32), "overload", "2 <b>steps</b>"),) if 32 in numbers else ()
    clock = ClockPair(rows[-1].host_ns, UTC_NS + rows[-1].host_ns - START_NS)
    return dataclasses.replace(table, frames=rows, marks=marks, events=events, clock=clock)


@dataclasses.dataclass
class Desk:
    """Where a recording is handed over.

    Attributes:
        studio: The recording.
        out: The package to be.
    """

    studio: Treatment
    out: Path

    @property
    def folder(self) -> Path:
        """Where the package will be, and nothing else is."""
        return self.out.parent

    @property
    def sign_key(self) -> Path:
        """A key of the desk's own, made at the first use; its public half is beside it."""
        path = self.studio.base.parent / "sign.pem"
        if not path.exists():
            new_sign_key(path, self.public_key)
        return path

    @property
    def public_key(self) -> Path:
        """The signer's."""
        return self.studio.base.parent / "sign.pem.pub"

    def order(self, **asked: object) -> Order:
        """An order with the desk's key."""
        return Order(key=read_sign_key(self.sign_key), **asked)  # type: ignore[arg-type]

    def hand_over(self, clip: Clip | None = None, **asked: object) -> PackageReport:
        """Make the package."""
        order = self.order(clip=clip, **asked)
        return make(self.studio.base, self.out, self.studio.secret, order)
