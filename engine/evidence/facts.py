"""What the tables of a recording say happened, for its report: one pass, nothing judged.

Times are in the recording, 90 kHz from its first frame, and of the day where the file has a clock.
Frames pass by; losses, events and gaps are kept, one row each.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from engine.container.boxes import TIMESCALE_HZ
from engine.container.part import Fragment, PartReader
from engine.container.tables import ClockPair, FragmentTable, FrameRow, Note, SealTable
from engine.ledger import Balance, Ledger, written_runs
from engine.reading.host_time import HostTimes
from engine.reading.selection import reading
from ipc.frame import Loss, merge_losses

__all__ = ["GAP_PTS", "Clocks", "Event", "Facts", "Gap", "Interval", "LostFrames", "read_facts"]

GAP_PTS = TIMESCALE_HZ // 4
"""Longer without a picture is a gap: then the encoder closes a fragment (FORMAT.md)."""


@dataclass(frozen=True, slots=True)
class LostFrames:
    """Frames that are in no file, by one reason.

    Attributes:
        loss: Class, epoch, ids and times of the host's clock.
        from_pts: When in the recording.
        to_pts: Until when.
        utc_ns: Time of day of its begin; None without a clock.
    """

    loss: Loss
    from_pts: int
    to_pts: int
    utc_ns: int | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the engine noted: overload, a speed step, the camera lost or back."""

    pts: int
    kind: str
    text: str
    utc_ns: int | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch without a picture."""

    from_pts: int
    to_pts: int


@dataclass(frozen=True, slots=True)
class Interval:
    """The longest time between two frames of a fragment and the one before, gaps left out."""

    from_pts: int
    to_pts: int
    longest_pts: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What the tables say.

    Attributes:
        balance: Every frame in its class.
        ranges: ``[class, epoch, first_id, last_id]`` of every id, in order.
        lost: In order of time.
        events: In order of time.
        gaps: In order of time.
        intervals: One a fragment with pictures.
        clocks: For the time of day.
        begin_utc_ns: Time of day of the first frame; None without a clock.
        end_pts: Where the recording ends.
    """

    balance: Balance
    ranges: tuple[tuple[str, int, int, int], ...]
    lost: tuple[LostFrames, ...]
    events: tuple[Event, ...]
    gaps: tuple[Gap, ...]
    intervals: tuple[Interval, ...]
    clocks: Clocks
    begin_utc_ns: int | None
    end_pts: int

    def reasons(self, gap: Gap) -> tuple[str, ...]:
        """Classes of the losses that lie in a gap."""
        within = (row for row in self.lost if row.from_pts <= gap.to_pts)
        return tuple(sorted({r.loss.loss_class.label for r in within if r.to_pts >= gap.from_pts}))


class Clocks:
    """Pairs of the host's clock and the time of day, in order."""

    def __init__(self) -> None:
        self._host_ns, self._utc_ns = array("q"), array("q")

    def add(self, clock: ClockPair | None) -> None:
        """Take a pair; one that is not later than the last is left out."""
        if clock is not None and (not self._host_ns or clock.host_ns > self._host_ns[-1]):
            self._host_ns.append(clock.host_ns)
            self._utc_ns.append(clock.utc_ns)

    def utc_ns(self, host_ns: int) -> int | None:
        """Time of day of a moment, ns since 1970, by the next pair or else the last."""
        if not self._host_ns:
            return None
        at = min(bisect_left(self._host_ns, host_ns), len(self._host_ns) - 1)
        return self._utc_ns[at] + host_ns - self._host_ns[at]


def read_facts(parts: Iterable[PartReader]) -> Facts:
    """Read all tables of these parts.

    Raises:
        Corrupt: a fragment that the index names cannot be read.
    """
    seen = _Seen()
    for part in parts:
        with reading(part.path):
            seen.clocks.add(part.session.clock if part.session is not None else None)
            for fragment in part.fragments():
                seen.take(fragment)
        if part.seal is not None:
            seen.take_table(part.seal)
    return seen.facts()


class _Seen:
    """What was read so far."""

    def __init__(self) -> None:
        self.clocks = Clocks()
        self._ledger, self._times = Ledger(), HostTimes()
        self._losses: dict[Loss, None] = {}
        self._events: dict[Note, None] = {}
        self._gaps: list[Gap] = []
        self._intervals: list[Interval] = []
        self._first: FrameRow | None = None
        self._last_pts, self._end_pts = -1, 0

    def take(self, fragment: Fragment) -> None:
        rows = fragment.table.frames
        self._end_pts = max(self._end_pts, fragment.pts + fragment.duration)
        self.take_table(fragment.table)
        for run in written_runs(rows):
            self._ledger.add_written(run)
        self._times.add(rows)
        self._first = self._first or (rows[0] if rows else None)
        self._take_times([row.pts for row in rows if row.pts > self._last_pts])

    def take_table(self, table: FragmentTable | SealTable) -> None:
        self.clocks.add(table.clock)
        for loss in table.lost:
            self._ledger.add_lost(loss)
        self._losses |= dict.fromkeys(table.lost)
        self._events |= dict.fromkeys(table.events)

    def _take_times(self, times: list[int]) -> None:
        longest, begin = 0, times[0] if times else 0
        for pts in times:
            interval = 0 if self._last_pts < 0 else pts - self._last_pts
            if interval > GAP_PTS:
                self._gaps.append(Gap(self._last_pts, pts))
            else:
                longest = max(longest, interval)
            self._last_pts = pts
        if times:
            self._intervals.append(Interval(begin, times[-1] + longest, longest))

    def facts(self) -> Facts:
        lost = [self._lost(loss) for loss in merge_losses(self._losses)]
        first = self._first
        return Facts(
            balance=self._ledger.balance(),
            ranges=self._ledger.ranges(),
            lost=tuple(sorted(lost, key=lambda row: row.from_pts)),
            events=tuple(sorted((self._event(e) for e in self._events), key=lambda e: e.pts)),
            gaps=tuple(self._gaps),
            intervals=tuple(self._intervals),
            clocks=self.clocks,
            begin_utc_ns=None if first is None else self.clocks.utc_ns(first.host_ns),
            end_pts=self._end_pts,
        )

    def _lost(self, loss: Loss) -> LostFrames:
        begin = self._times.pts_of(loss.first_host_ns, self._end_pts)
        end = self._times.pts_of(loss.last_host_ns, self._end_pts)
        return LostFrames(loss, begin, max(begin, end), self.clocks.utc_ns(loss.first_host_ns))

    def _event(self, note: Note) -> Event:
        pts = self._times.pts_of(note.host_ns, self._end_pts)
        return Event(pts, note.kind, note.text, self.clocks.utc_ns(note.host_ns))
