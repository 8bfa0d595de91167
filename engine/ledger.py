"""Every frame in exactly one class: the balance sheet of a recording (design: Ledger).

A ledger takes rows of frames and rows of losses in any order, also twice (a fragment that became
durable just before its encoder died is encoded again into the next part), and counts each frame
once: written frames by their sequence number, lost ones by epoch and id. It keeps runs, not rows,
so an hour costs as much memory as a minute.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from engine.container.tables import FrameRow
from ipc.frame import Loss, LossClass

__all__ = [
    "CLASSES",
    "WRITTEN",
    "Balance",
    "Ledger",
    "Runs",
    "WrittenRun",
    "written_runs",
]

WRITTEN = "written"
CLASSES = (WRITTEN, *(c.label for c in LossClass))
# What an encoder said before it died, or of a disk that failed under it, may be overtaken: the
# frame is in a file all the same, or an earlier word names it. Capture's classes never are.
OVERTAKEN = (
    LossClass.PAUSED,  # a pause that a dead encoder had not heard of yet, and its successor has
    *(LossClass.ENCODE_ERROR, LossClass.WRITE_ERROR, LossClass.ENCODER_LOST),
)


class Runs:
    """A set of integers kept as sorted, disjoint, inclusive runs."""

    __slots__ = ("_first", "_last")

    def __init__(self, runs: Iterable[tuple[int, int]] = ()) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        for first, last in runs:
            self.add(first, last)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(zip(self._first, self._last, strict=True))

    @property
    def count(self) -> int:
        """How many integers are in the set.

        Not ``len()``: that is no larger than an index, and ``list()`` would allocate by it.
        """
        return sum(self._last) - sum(self._first) + len(self._first)

    def __contains__(self, value: int) -> bool:
        at = bisect_right(self._first, value) - 1
        return at >= 0 and value <= self._last[at]

    def add(self, first: int, last: int) -> int:
        """Add all integers from first to last; returns how many were new."""
        if last < first:
            return 0
        if not self._first or first > self._last[-1] + 1:  # the usual case: it grows at its end
            self._first.append(first)
            self._last.append(last)
            return last - first + 1
        low = bisect_right(self._last, first - 2)  # the first run that touches or follows `first`
        high = bisect_right(self._first, last + 1)  # one past the last run that is touched
        known = sum(
            max(0, min(self._last[i], last) - max(self._first[i], first) + 1)
            for i in range(low, high)
        )
        merged = (first, last)
        if low < high:
            merged = (min(first, self._first[low]), max(last, self._last[high - 1]))
        self._first[low:high], self._last[low:high] = [merged[0]], [merged[1]]
        return last - first + 1 - known


@dataclass(frozen=True, slots=True)
class WrittenRun:
    """A run of written frames: consecutive sequence numbers with consecutive ids of one epoch."""

    first_seq: int
    last_seq: int
    epoch: int
    first_id: int


@dataclass(frozen=True, slots=True)
class Balance:
    """What `Ledger.balance` found.

    Attributes:
        offered: Frames that the source delivered or is known to have skipped.
        totals: Frames per class; every class is present.
        problems: One sentence for each id that is in no class, or in two; empty if balanced.
    """

    offered: int
    totals: dict[str, int]
    problems: tuple[str, ...]

    @property
    def balanced(self) -> bool:
        """True if every id from first to last, in every epoch, is in exactly one class."""
        return not self.problems and self.offered == sum(self.totals.values())


@dataclass(slots=True)
class _Epoch:
    written: Runs = field(default_factory=Runs)
    lost: dict[LossClass, Runs] = field(default_factory=dict)

    def lost_frames(self) -> dict[LossClass, int]:
        """Frames per class; one that is written, or in two of an encoder's classes, counts once."""
        counts = {name: runs.count for name, runs in self.lost.items() if name not in OVERTAKEN}
        if len(counts) < len(self.lost):
            known = Runs(self.written)
            for name in OVERTAKEN:
                counts[name] = sum(known.add(*run) for run in self.lost.get(name, ()))
        return counts


class Ledger:
    """The balance sheet of one recording, or of one part of it."""

    def __init__(self) -> None:
        self._seqs = Runs()
        self._epochs: dict[int, _Epoch] = {}
        self._gaps: set[tuple[int, int, int, int]] = set()
        self._problems: list[str] = []

    def add_written(self, run: WrittenRun) -> int:
        """Count a run of written frames; returns how many were not known yet."""
        count = run.last_seq - run.first_seq + 1
        new = self._seqs.add(run.first_seq, run.last_seq)
        added = self._epoch(run.epoch).written.add(run.first_id, run.first_id + count - 1)
        if added != new:
            self._problems.append(
                f"epoch {run.epoch}: ids {run.first_id} to {run.first_id + count - 1} "
                f"were written {count - added} times under other sequence numbers"
            )
        return new

    def add_lost(self, loss: Loss) -> int:
        """Count a loss row; returns how many frames it names that were not known yet."""
        if loss.first_id is None or loss.last_id is None:
            self._gaps.add((loss.loss_class, loss.epoch, loss.first_host_ns, loss.last_host_ns))
            return 0
        runs = self._epoch(loss.epoch).lost.setdefault(loss.loss_class, Runs())
        return runs.add(loss.first_id, loss.last_id)

    def _epoch(self, number: int) -> _Epoch:
        return self._epochs.setdefault(number, _Epoch())

    @property
    def written(self) -> int:
        """Frames written, each counted once however many parts hold it."""
        return self._seqs.count

    @property
    def gaps(self) -> int:
        """Gaps whose ids nobody knows (an unplugged camera, a capture process that died)."""
        return len(self._gaps)

    def totals(self) -> dict[str, int]:
        """Frames per class.

        A frame that a dead encoder had made durable but not yet committed may also be named
        ``encoder_lost`` by its successor, and one whose sync failed ``write_error``: if a file
        holds it, it counts as written.
        """
        totals = dict.fromkeys(CLASSES, 0)
        totals[WRITTEN] = self.written
        for epoch in self._epochs.values():
            for loss_class, frames in epoch.lost_frames().items():
                totals[loss_class.label] += frames
        return totals

    def balance(self) -> Balance:
        """Check that each epoch's ids, first to last, are in exactly one class each."""
        problems = list(self._problems)
        offered = 0
        for number, epoch in sorted(self._epochs.items()):
            named = epoch.written.count + sum(epoch.lost_frames().values())
            # In order, so that each run is appended: every second frame may be lost for hours.
            kinds = (epoch.written, *epoch.lost.values())
            everything = Runs(sorted(run for runs in kinds for run in runs))
            offered += everything.count
            twice = named - everything.count
            if twice:
                problems.append(f"epoch {number}: {twice} ids are in two classes")
            spans = list(everything)
            problems += [
                f"epoch {number}: ids {a[1] + 1} to {b[0] - 1} are in no class"
                for a, b in pairwise(spans)
            ]
        return Balance(offered, self.totals(), tuple(problems))

    def merge(self, other: Ledger) -> None:
        """Count everything that the other ledger holds as well."""
        self.add_snapshot(other.snapshot())

    def ranges(self) -> tuple[tuple[str, int, int, int], ...]:
        """Every id that has one, as ``(class, epoch, first_id, last_id)``, in order.

        A frame that is written may be named by an encoder's class as well; it counts as written.
        """
        found = [
            (number, first, last, loss_class.label if loss_class is not None else WRITTEN)
            for number, epoch in self._epochs.items()
            for loss_class, runs in [(None, epoch.written), *epoch.lost.items()]
            for first, last in runs
        ]
        return tuple((name, number, first, last) for number, first, last, name in sorted(found))

    def snapshot(self) -> dict[str, Any]:
        """The whole ledger as plain lists, for a message."""
        epochs = [
            [number, int(loss_class or 0), first, last]
            for number, epoch in self._epochs.items()
            for loss_class, runs in [(None, epoch.written), *epoch.lost.items()]
            for first, last in runs
        ]
        return {
            "seqs": [list(run) for run in self._seqs],
            "epochs": epochs,
            "gaps": [list(gap) for gap in sorted(self._gaps)],
            "problems": list(self._problems),
        }

    def add_snapshot(self, snapshot: dict[str, Any]) -> None:
        """Count everything in a snapshot; an empty one changes nothing."""
        for first, last in snapshot.get("seqs", ()):
            self._seqs.add(first, last)
        for number, loss_class, first, last in snapshot.get("epochs", ()):
            epoch = self._epoch(number)
            if loss_class:
                epoch.lost.setdefault(LossClass(loss_class), Runs()).add(first, last)
            else:
                epoch.written.add(first, last)
        self._gaps.update(tuple(gap) for gap in snapshot.get("gaps", ()))
        self._problems += snapshot.get("problems", ())


def written_runs(rows: Sequence[FrameRow]) -> list[WrittenRun]:
    """Fold rows of consecutive sequence numbers and ids into runs."""
    runs: list[WrittenRun] = []
    for row in rows:
        last = runs[-1] if runs else None
        if (
            last is not None
            and last.epoch == row.epoch
            and last.last_seq == row.seq - 1
            and last.first_id + (row.seq - last.first_seq) == row.frame_id
        ):
            runs[-1] = WrittenRun(last.first_seq, row.seq, row.epoch, last.first_id)
        else:
            runs.append(WrittenRun(row.seq, row.seq, row.epoch, row.frame_id))
    return runs
