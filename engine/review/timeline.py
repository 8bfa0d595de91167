"""What happened when: gaps, losses, marks, events and frame intervals, from every fragment's table.

Read once in the background, so that an hour opens at once and the page fills as it comes. What is
kept is bounded: rows up to a number, one interval per fragment, two points per fragment that tie
the host's clock to the recording's time. A fragment that cannot be read is named and passed over.
"""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from engine.container.boxes import TIMESCALE_HZ
from engine.container.part import Fragment, PartReader
from engine.container.reader import RecordingReader
from engine.container.recipients import Secret
from engine.container.tables import ClockPair, FragmentTable, Note, SealTable
from engine.ledger import WRITTEN, Ledger, written_runs
from engine.reading.host_time import HostTimes
from engine.review.fragments import utc_ms
from ipc.errors import Corrupt, SealrecError
from ipc.frame import Loss, merge_losses

__all__ = ["Gap", "Happened", "Intervals", "Timeline", "TimelineView"]

GAP_PTS: Final = TIMESCALE_HZ // 4
"""Longer without a picture is a gap: then the encoder closes a fragment (FORMAT.md)."""
FRAGMENT_PTS: Final = TIMESCALE_HZ * 8 // 10
"""A fragment is this long, unless it was closed before."""
MAX_ROWS: Final = 5_000
MAX_POINTS: Final = 1_200
_YIELD_S: Final = 0.001


class Happened(msgspec.Struct, frozen=True):
    """A loss, a mark or an event.

    Attributes:
        pts: When, 90 kHz; of what came before the first frame 0.
        end_pts: Of a loss, until when.
        sort: ``loss``, ``mark`` or ``event``.
        kind: Class of a loss, kind of a note.
        text: For a person.
        utc_ms: Time of day; None if the file has no clock for it.
        frames: Frames lost; 0 for a gap without known ids.
    """

    pts: int
    end_pts: int
    sort: str
    kind: str
    text: str
    utc_ms: float | None
    frames: int = 0


class Gap(msgspec.Struct, frozen=True, array_like=True):
    """A stretch without a picture, 90 kHz, and which losses lie in it."""

    start_pts: int
    end_pts: int
    kinds: tuple[str, ...]


class Intervals(msgspec.Struct, frozen=True):
    """Time between frames, for a plot of at most ``MAX_POINTS`` columns.

    Attributes:
        step_pts: Width of a column, 90 kHz.
        usual_ms: Median.
        longest_ms: Per column; 0 where there is none.
    """

    step_pts: int
    usual_ms: float
    longest_ms: tuple[float, ...]


class TimelineView(msgspec.Struct, frozen=True):
    """What is known so far.

    Attributes:
        done: Share of the fragments that were read, 0 to 1.
        end_pts: Of the recording, 90 kHz.
        frames: Frames written, each counted once.
        lost: Frames per class.
        gaps: In order.
        rows: Losses, marks and events in order.
        left_out: Rows beyond those that are kept.
        intervals: For a plot.
        problems: What cannot be read.
    """

    done: float
    end_pts: int
    frames: int
    lost: dict[str, int]
    gaps: tuple[Gap, ...]
    rows: tuple[Happened, ...]
    left_out: int
    intervals: Intervals
    problems: tuple[str, ...]


class Timeline:
    """Reads all tables of a recording in a thread of its own.

    Args:
        base: Name of part 0.
        secret: What opens it.
        salvage: It is damaged; read what is intact.
    """

    def __init__(self, base: Path, secret: Secret, *, salvage: bool) -> None:
        self._base, self._secret, self._salvage = base, secret, salvage
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._seen = _Seen()

    def start(self, then: Callable[[], None]) -> None:
        """Begin.

        Args:
            then: Called at the end, unless it was stopped.
        """
        self._thread = threading.Thread(target=self._run, args=(then,), name="timeline")
        self._thread.start()

    def stop(self) -> None:
        """End it, finished or not, and let go of the secret."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
        with suppress(AttributeError):
            del self._secret

    def view(self) -> TimelineView:
        """What is known so far."""
        with self._lock:
            return self._seen.view()

    def _run(self, then: Callable[[], None]) -> None:
        try:
            recording = RecordingReader.open(self._base, self._secret, salvage=self._salvage)
        except SealrecError as error:
            with self._lock:
                self._seen.fail(error)
            return
        try:
            total = max(1, sum(len(part.index) for part in recording.parts))
            for part in recording.parts:
                self._read(part, total)
        finally:
            recording.close()
        with self._lock:
            self._seen.finish()
        if not self._stopped.is_set():
            then()

    def _read(self, part: PartReader, total: int) -> None:
        session = part.session
        if session is not None and session.clock is not None:
            self._seen.clock = session.clock
        for number in range(len(part.index)):
            # Players ask meanwhile, and they come first.
            if self._stopped.wait(_YIELD_S):
                return
            try:
                fragment = part.fragment(number)
            except (Corrupt, OSError) as error:
                with self._lock:
                    self._seen.fail(error)
                continue
            with self._lock:
                self._seen.take(fragment, 1 / total)
        if part.seal is not None:
            with self._lock:
                self._seen.take_table(part.seal)


class _Seen:
    """What was read so far; not safe to share."""

    def __init__(self) -> None:
        self.clock: ClockPair | None = None
        self._done = 0.0
        self._ledger = Ledger()
        self._losses: dict[Loss, ClockPair | None] = {}
        self._notes: list[tuple[str, Note, ClockPair | None]] = []
        self._left_out = 0
        self._gaps: list[tuple[int, int]] = []
        self._problems: list[str] = []
        self._times = HostTimes()
        self._fragment_pts, self._longest_ms = array("q"), array("f")
        self._last_pts = -1
        self._end_pts = 0

    def take(self, fragment: Fragment, share: float) -> None:
        self._done = min(1.0, self._done + share)
        self.take_table(fragment.table)
        rows = fragment.table.frames
        self._end_pts = max(self._end_pts, fragment.pts + fragment.duration)
        if not rows:
            return
        for run in written_runs(rows):
            self._ledger.add_written(run)
        self._take_times([row.pts for row in rows if row.pts > self._last_pts])
        self._times.add(rows)

    def take_table(self, table: FragmentTable | SealTable) -> None:
        self.clock = table.clock or self.clock
        for loss in table.lost:
            self._ledger.add_lost(loss)
            self._losses.setdefault(loss, self.clock)
        for sort, notes in (("mark", table.marks), ("event", table.events)):
            self._notes += [(sort, note, self.clock) for note in notes]
        if len(self._losses) > 2 * MAX_ROWS:
            self._bound()

    def fail(self, error: Exception) -> None:
        if len(self._problems) < 100:
            self._problems.append(error.message if isinstance(error, SealrecError) else str(error))

    def finish(self) -> None:
        self._done = 1.0
        self._bound()

    def view(self) -> TimelineView:
        losses = [self._loss(loss, clock) for loss, clock in self._merged()]
        notes = [self._note(*note) for note in self._notes[:MAX_ROWS]]
        rows = sorted([*losses[:MAX_ROWS], *notes], key=lambda row: row.pts)
        totals = self._ledger.totals()
        beyond = max(0, len(losses) - MAX_ROWS) + max(0, len(self._notes) - MAX_ROWS)
        return TimelineView(
            done=round(self._done, 4),
            end_pts=self._end_pts,
            frames=self._ledger.written,
            lost={name: n for name, n in totals.items() if n and name != WRITTEN},
            gaps=tuple(Gap(start, end, _within(start, end, losses)) for start, end in self._gaps),
            rows=tuple(rows),
            left_out=self._left_out + beyond,
            intervals=self._intervals(),
            problems=tuple(self._problems),
        )

    def _take_times(self, times: list[int]) -> None:
        longest = 0
        for pts in times:
            interval = 0 if self._last_pts < 0 else pts - self._last_pts
            if interval > GAP_PTS and len(self._gaps) < MAX_ROWS:
                self._gaps.append((self._last_pts, pts))
            longest = max(longest, interval)
            self._last_pts = pts
        if times:
            self._fragment_pts.append(times[0])
            self._longest_ms.append(longest * 1000 / TIMESCALE_HZ)

    def _bound(self) -> None:
        merged = self._merged()
        self._left_out += len(merged[MAX_ROWS:])
        self._losses = dict(merged[:MAX_ROWS])

    def _merged(self) -> list[tuple[Loss, ClockPair | None]]:
        clocks = {loss.first_host_ns: clock for loss, clock in self._losses.items()}
        return [(loss, clocks.get(loss.first_host_ns)) for loss in merge_losses(self._losses)]

    def _time_of(self, host_ns: int) -> int:
        """Time in the recording of a moment on the host's clock."""
        return self._times.pts_of(host_ns, self._end_pts)

    def _loss(self, loss: Loss, clock: ClockPair | None) -> Happened:
        start, end = self._time_of(loss.first_host_ns), self._time_of(loss.last_host_ns)
        return Happened(
            pts=start,
            end_pts=max(start, end),
            sort="loss",
            kind=loss.loss_class.label,
            text=_ids(loss),
            utc_ms=utc_ms(loss.first_host_ns, clock),
            frames=loss.frames,
        )

    def _note(self, sort: str, note: Note, clock: ClockPair | None) -> Happened:
        pts = self._time_of(note.host_ns)
        return Happened(pts, pts, sort, note.kind, note.text, utc_ms(note.host_ns, clock))

    def _intervals(self) -> Intervals:
        usual = sorted(self._longest_ms)[len(self._longest_ms) // 2] if self._longest_ms else 0.0
        step = max(1, -(-max(1, self._end_pts) // MAX_POINTS))
        columns = [0.0] * (max(0, self._end_pts) // step + 1)
        ends = (*self._fragment_pts[1:], self._end_pts)
        for pts, end, longest in zip(self._fragment_pts, ends, self._longest_ms, strict=False):
            first = min(pts // step, len(columns) - 1)
            last = min(end, pts + FRAGMENT_PTS) // step
            for at in range(first, max(first + 1, min(last, len(columns)))):
                columns[at] = max(columns[at], round(longest, 2))
        return Intervals(step, round(usual, 2), tuple(columns))


def _ids(loss: Loss) -> str:
    if loss.first_id is None or loss.last_id is None:
        return "no frame ids known"
    if loss.first_id == loss.last_id:
        return f"frame {loss.first_id}"
    return f"frames {loss.first_id} to {loss.last_id}"


def _within(start_pts: int, end_pts: int, losses: Iterable[Happened]) -> tuple[str, ...]:
    found = {x.kind for x in losses if x.pts <= end_pts and x.end_pts >= start_pts}
    return tuple(sorted(found))
