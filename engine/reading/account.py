"""Reads the account of one part: its tables, compared with its media boxes and its seal.

Each fragment is looked at once and forgotten; what stays are ledgers, which keep runs. The balance
over all parts is ``verify``.
"""

from __future__ import annotations

from engine.container.part import Fragment, PartReader
from engine.container.tables import FrameRow
from engine.ledger import Ledger, written_runs
from engine.reading.samples import StoredSample, TrackDefaults, read_samples, track_defaults
from ipc.errors import Corrupt
from ipc.frame import FrameFlags, Loss

__all__ = ["PartAccount"]

_SENTENCES = 100
_KEY_FRAME = int(FrameFlags.KEY_FRAME)  # plain: a flag's own operators cost 20 times as much


class PartAccount:
    """The account of one part, added to that of the recording.

    Args:
        part: The part.
        recording: Ledger of all parts before; this part's rows are added to it.
        before: The last frame of the parts before.

    Attributes:
        frames: Rows of frames in this part.
        last: The last frame of this part, or of those before.
        problems: A sentence for each thing that does not fit, up to 100.
    """

    def __init__(self, part: PartReader, recording: Ledger, before: FrameRow | None) -> None:
        self.frames = 0
        self.last = before
        self.problems: list[str] = []
        self._part, self._recording, self._before = part, recording, before
        self._own = Ledger()
        self._own_last: FrameRow | None = None

    def read(self) -> None:
        """Count all fragments and the seal's pending losses.

        Raises:
            Corrupt: something in the part cannot be read; what came before it is counted.
        """
        part = self._part
        defaults = self._track_defaults()
        for fragment in part.fragments():
            rows = fragment.table.frames
            for run in written_runs(rows):
                self._own.add_written(run)
                self._recording.add_written(run)
            self._lose(fragment.table.lost)
            self.frames += len(rows)
            if rows:
                self._check_times(rows)
                if defaults is not None:
                    self._compare_media(fragment, defaults)
        if part.seal is not None:
            self._lose(part.seal.lost)

    def compare_seal(self, *, whole: bool) -> None:
        """Compare the totals in the seal with what the tables say.

        Args:
            whole: Every part before this one was read, so the recording's totals can be compared.
        """
        seal = self._part.seal
        if seal is None:
            return
        self._compare_totals("this part", seal.part, self._own.totals())
        # Totals of the recording in earlier seals may lack what a dead encoder left behind.
        if whole and seal.last:
            self._compare_totals("the recording", seal.recording, self._recording.totals())

    def _lose(self, losses: tuple[Loss, ...]) -> None:
        for loss in losses:
            self._own.add_lost(loss)
            self._recording.add_lost(loss)

    def _track_defaults(self) -> TrackDefaults | None:
        """What the init segment says of all samples; None if nothing can be compared with it."""
        init_segment = self._part.init_segment
        if not init_segment:
            return None  # the part died before it held anything
        try:
            return track_defaults(init_segment)
        except Corrupt as error:  # its bytes are what was written, so the tables still count
            self._say(error.message)
            return None

    def _compare_media(self, fragment: Fragment, defaults: TrackDefaults) -> None:
        rows = fragment.table.frames
        if fragment.pts != rows[0].pts:
            self._say(f"Fragment {fragment.number} is not at the time of its first frame.")
        try:
            samples = read_samples(self._part, fragment, defaults)
        except Corrupt as error:
            self._say(error.message)
            return
        if not samples[0].key:
            self._say(f"Fragment {fragment.number} does not begin with a key frame.")
        wrong = [row.frame_id for row, s in zip(rows, samples, strict=True) if not _fits(row, s)]
        if wrong:
            self._say(
                f"Fragment {fragment.number}: time or key flag of frame {wrong[0]} "
                f"and {len(wrong) - 1} others is not that of its sample."
            )

    def _check_times(self, rows: tuple[FrameRow, ...]) -> None:
        for row in rows:
            # Frames that a dead encoder's part holds as well come first in its successor's; what
            # is new must lie behind both.
            is_new = self._before is not None and row.seq > self._before.seq
            for last in (self._own_last, self._before if is_new else None):
                if last is not None and (row.pts <= last.pts or row.seq <= last.seq):
                    self._say(f"Frame {row.frame_id} does not come after frame {last.frame_id}.")
            self._own_last = row
            if self.last is None or row.seq > self.last.seq:
                self.last = row

    def _compare_totals(self, of: str, sealed: dict[str, int], counted: dict[str, int]) -> None:
        for name in sorted({*sealed, *counted}):
            said, found = sealed.get(name, 0), counted.get(name, 0)
            if said != found:
                self._say(f"The seal counts {said} frames {name} in {of}, the tables {found}.")

    def _say(self, problem: str) -> None:
        if len(self.problems) < _SENTENCES:
            self.problems.append(problem)


def _fits(row: FrameRow, sample: StoredSample) -> bool:
    return row.pts == sample.pts and bool(row.flags & _KEY_FRAME) == sample.key
