"""What a round of the fault benchmark has left in its folder, read back with the key.

Recovery runs twice, then `verify` with decoding, and the tables are read once more for what no
report says: when the last frame came, and how long the gaps are.
"""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.container.names import parts_of
from engine.container.part import PartReader
from engine.container.reader import read_public_header
from engine.container.recipients import Secret
from engine.container.recovery import recover
from engine.reading.verify import VerifyReport, verify
from ipc.errors import SealrecError
from ipc.frame import Loss

__all__ = ["Evidence", "read_evidence"]

OURS = ("config.json", "engine.log", "course.json")


@dataclass(slots=True)
class Evidence:
    """What is there.

    Attributes:
        report: Of `verify`; None if there is no recording at all.
        unreadable: What could not be closed, opened, or read as far as it was durable.
        leftovers: Files that belong to no recording.
        not_closed: Parts that were still ``.open`` once all processes were gone.
        first_host_ns: Arrival of the first frame in the file; None without one.
        last_host_ns: Arrival of the last one.
        gaps_ns: First and last time of each gap without known ids.
    """

    report: VerifyReport | None = None
    unreadable: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    not_closed: list[str] = field(default_factory=list)
    first_host_ns: int | None = None
    last_host_ns: int | None = None
    gaps_ns: list[tuple[int, int]] = field(default_factory=list)

    @property
    def frames(self) -> int:
        """Frames in the file."""
        return self.report.frames if self.report else 0


def read_evidence(base: Path, secret: Secret) -> Evidence:
    """Recover, verify and read a recording.

    Args:
        base: Name of its first part.
        secret: What opens it.
    """
    found = Evidence()
    durable = _durable_chunks(base)
    for report in recover(base.parent, secret):
        found.not_closed.append(report.path.name.removesuffix(".open"))
        if report.error is not None:
            found.unreadable.append(f"{report.path.name} not closed: {report.error}")
    again = [r.path.name for r in recover(base.parent, secret)]
    if again and not found.unreadable:
        found.unreadable.append(f"a second recovery found work on {', '.join(again)}")
    parts = parts_of(base)
    if parts:
        found.report = verify(parts[0], secret, decode=True)
        try:
            for path in parts:
                _read_part(path, secret, found)
        except SealrecError as error:
            found.unreadable.append(str(error))
    for path in parts:
        if _chunks(path) < durable.get(path.name, 0):
            found.unreadable.append(f"{path.name} lost chunks that were durable")
    known = {path.name for path in parts} | set(OURS)
    found.leftovers = sorted(p.name for p in base.parent.iterdir() if p.name not in known)
    return found


def _read_part(path: Path, secret: Secret, found: Evidence) -> None:
    with closing(PartReader.open(path, secret)) as part:
        lost: list[Loss] = []
        for fragment in part.fragments():
            lost += fragment.table.lost
            for row in fragment.table.frames:
                if found.first_host_ns is None:
                    found.first_host_ns = row.host_ns
                found.last_host_ns = max(found.last_host_ns or 0, row.host_ns)
        if part.seal is not None:
            lost += part.seal.lost
    for loss in lost:
        span = (loss.first_host_ns, loss.last_host_ns)
        if loss.first_id is None and span not in found.gaps_ns:
            found.gaps_ns.append(span)


def _durable_chunks(base: Path) -> dict[str, int]:
    """Chunks that each part's header calls durable, by final name."""
    return {p.name.removesuffix(".open"): _chunks(p) for p in parts_of(base)}


def _chunks(path: Path) -> int:
    with suppress(SealrecError):
        return read_public_header(path).header.chunk_count
    return 0
