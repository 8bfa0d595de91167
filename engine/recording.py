"""One recording as the supervisor keeps it: its parts, its keys, its ledger, its place in the ring.

It runs no process and decides nothing: `pipeline` tells it what the workers said, and asks it for
the encoder's orders. One pipeline makes one recording, or one after another.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine import chronicle, software
from engine.config import RecordingConfig
from engine.latency import Latencies
from engine.ledger import Ledger, WrittenRun
from engine.leftovers import leftovers
from engine.opening import OpenedSource
from engine.parts import Part, PartRecovered, Parts
from engine.steps import Conclude
from ipc import messages
from ipc.errors import SealrecError
from ipc.frame import Loss, LossClass
from ipc.messages import (
    EpochMapped,
    FragmentDurable,
    LossRow,
    NoteEvent,
    PartOpened,
    PartSealed,
    PausePlaced,
    RecordingBegan,
    RecordingEnded,
    SourceOpened,
)
from ipc.ring import RingHandles, RingStatistics

__all__ = ["Durable", "Recording", "Tell"]

Tell = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class Durable:
    """When something last became durable, and how long it took."""

    at: float | None = None
    write_s: float = 0.0
    sync_s: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)


@dataclass(slots=True)
class _Span:
    """Where in the ring a recording lies; one that has the ring for itself is all of it.

    Attributes:
        since_ns: Its first frame arrived then or later; None once it is known, or for all frames.
        live_ns: Frames that arrived before are its pre-roll.
        first_seq, lost_before: The ring's cursor and count of lost frames at its begin.
        end: The same at its end, once the encoder has said so.
    """

    since_ns: int | None = None
    live_ns: int = 0
    first_seq: int = 0
    lost_before: int = 0
    end: RecordingEnded | None = None

    def offered(self, ring: RingStatistics) -> int:
        """Frames of the recording that the source offered."""
        if self.since_ns is not None:
            return 0  # the encoder has not begun
        through, lost = ring.published, ring.offered - ring.published
        if self.end is not None:
            through, lost = self.end.through, self.end.lost
        return max(0, through - self.first_seq + lost - self.lost_before)


class Recording:
    """One recording, from its configuration to its balance sheet.

    Args:
        config: Checked already.
        tell: Tells the controller of an event: kind, text, details.
        put: Takes what the catalog shall know.

    Attributes:
        config: Without its keys.
        chronicle: Tells the catalog.
        audit_head: Gives the last row of the catalog's audit, for the seal; empty without one.
        called_ns: When it was asked for, ``time.perf_counter_ns()``.
        concluded: Set once it is over.
        began_at: Monotonic time.

    Raises:
        ConfigError, KeyFileError, DiskError: nothing was started and nothing was written.
    """

    def __init__(
        self, config: RecordingConfig, tell: Tell, put: chronicle.Put = chronicle.nobody
    ) -> None:
        self.called_ns = time.perf_counter_ns()
        self.parts = Parts(config)
        self.chronicle = chronicle.Chronicle(put, self.parts.recording_id)
        # Keys are derived by now; a password must not stay here as long as the recording runs.
        self.config = msgspec.structs.replace(config, keys=[])
        self.ledger = Ledger()
        self.durable = Durable()
        self.began_at = time.monotonic()
        self.concluded: Conclude | None = None
        self.finish_waits = False
        self.audit_head: Callable[[], str] = str
        self._tell = tell
        self._span = _Span()
        self._origin_ns: int | None = None
        self._offsets: dict[int, int] = {}
        self._end_gap: LossRow | None = None
        self._pauses: list[tuple[int, bool, int]] = []
        self._notes: deque[NoteEvent] = deque()
        self._serial = 0

    def begin_in(self, ring: RingStatistics) -> None:
        """Take a part of a ring that others use too: from the call on, and the pre-roll before."""
        pre_roll_ns = round((self.config.pre_roll_s or 0) * 1e9)
        self._span = _Span(since_ns=self.called_ns - pre_roll_ns, live_ns=self.called_ns)
        self._span.first_seq = ring.published

    # --- what the encoder says ----------------------------------------------------------------

    def take(self, message: messages.Message) -> None:
        """Take a message of the encoder's that says something of this recording's files."""
        match message:
            case RecordingBegan(first_seq, lost_before):
                self._span = _Span(None, self._span.live_ns, first_seq, lost_before)
            case PausePlaced(host_ns, since_seq):
                self._pauses = [
                    (at_ns, paused, since_seq if at_ns == host_ns else seq)
                    for at_ns, paused, seq in self._pauses
                ]
            case RecordingEnded():
                self._span.end = message
            case FragmentDurable():
                self._durable(message)
            case EpochMapped():
                self._origin_ns = message.host_origin_ns
                self._offsets[message.epoch] = message.offset_ns
            case PartOpened():
                self.parts.opened(message.encoder, hardware=message.hardware)
                self.chronicle.part_opened(self.part)
            case PartSealed():
                self._sealed(message)

    def _durable(self, fragment: FragmentDurable) -> None:
        for first_seq, last_seq, epoch, first_id in fragment.rows:
            self.ledger.add_written(WrittenRun(first_seq, last_seq, epoch, first_id))
        self.count_lost(fragment.lost)
        self._forget_notes(fragment.notes)
        durable, part = self.durable, self.part
        durable.at = time.monotonic()
        durable.write_s, durable.sync_s = fragment.write_s, fragment.sync_s
        part.file_bytes = fragment.file_bytes
        part.end_pts = max(part.end_pts, fragment.pts_end)
        first_ns, last_ns = fragment.first_host_ns, fragment.last_host_ns
        # A pre-roll waited for the call, not for the disk.
        if first_ns is not None and last_ns is not None and first_ns >= self._span.live_ns:
            frames = sum(last - first + 1 for first, last, *_ in fragment.rows)
            durable.latencies.add(
                frames, first_host_ns=first_ns, last_host_ns=last_ns, durable_ns=fragment.durable_ns
            )

    def count_lost(self, rows: list[LossRow]) -> None:
        """Count rows of losses, and tell of those that are new."""
        counted: dict[str, int] = {}
        told: list[Loss] = []
        for row in rows:
            with contextlib.suppress(KeyError):
                loss, gaps = row.loss(), self.ledger.gaps
                new = self.ledger.add_lost(loss)
                counted[row.label] = counted.get(row.label, 0) + new
                if new or self.ledger.gaps > gaps:
                    told.append(loss)
        self.chronicle.lost(told)
        for label, frames in counted.items():
            # Frames of a pause are not lost by a fault; their count is in every status.
            if frames and label != LossClass.PAUSED.label:
                ids = [(row.first_id, row.last_id) for row in rows if row.label == label]
                self._tell(
                    "frames_lost",
                    f"{frames} frames lost: {label}",
                    {"class": label, "frames": frames, "ids": ids[:100]},
                )

    def _sealed(self, message: PartSealed) -> None:
        part = self.part
        part.state, part.path = "sealed", Path(message.path)
        part.file_bytes = message.size_bytes
        part.end_pts = max(part.end_pts, message.end_pts)
        self.count_lost(message.lost)
        self._forget_notes(message.notes)
        self.chronicle.part_sealed(part, message)

    def recovered(self, item: PartRecovered) -> None:
        """A part of a dead encoder was closed and counted."""
        self.parts.recovered(item)
        # What it had made durable and died before it could say is told now.
        self.count_lost([LossRow.of(loss) for loss in item.losses])
        self.ledger.merge(item.ledger)
        kind = "recovery_failed" if item.error else "part_recovered"
        self._tell(kind, item.error, {"path": str(item.part.path)})
        self.chronicle.part_recovered(item)

    # --- marks, events and pauses -------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """Frames are named as paused."""
        return bool(self._pauses) and self._pauses[-1][1]

    def pause(self, *, paused: bool) -> messages.SetPaused:
        """Note a pause or its end; the order for the encoder."""
        self._pauses.append((time.perf_counter_ns(), paused, 0))
        self.chronicle.paused(paused=paused)
        return messages.SetPaused(host_ns=self._pauses[-1][0], paused=paused)

    def note(self, kind: str, text: str, *, mark: bool = False) -> NoteEvent:
        """Something to be kept in the file, now; kept here until it is durable."""
        self._serial += 1
        note = NoteEvent(
            host_ns=time.perf_counter_ns(), kind=kind, text=text, serial=self._serial, mark=mark
        )
        self._notes.append(note)
        if mark:
            self.chronicle.marked(note)
        return note

    @property
    def notes(self) -> tuple[NoteEvent, ...]:
        """Notes that are not durable yet: a successor of a dead encoder is told them again."""
        return tuple(self._notes)

    def _forget_notes(self, through: int) -> None:
        while self._notes and self._notes[0].serial <= through:
            self._notes.popleft()

    # --- orders for the encoder ---------------------------------------------------------------

    @property
    def part(self) -> Part:
        """The newest part; only once one was begun."""
        part = self.parts.current
        assert part is not None
        return part

    def open_part(
        self, source: OpenedSource, stand_by: messages.StandBy | None
    ) -> messages.OpenPart:
        """The order to open the next part.

        Raises:
            ConfigError: a recording can have no more parts.
        """
        part, header = self.parts.begin()
        return messages.OpenPart(
            index=part.index,
            path=str(part.path),
            header=header,
            dek=self.parts.dek,
            video=self.config.video(),
            frame=source.frame,
            session=self._session(source.said),
            host_origin_ns=self._origin_ns,
            epoch_offsets=list(self._offsets.items()),
            previous=self.ledger.snapshot() if part.index else {},
            may_lighten=self.config.policy != "block",
            stand_by=stand_by,
            since_ns=self._span.since_ns,
            live_ns=self._span.live_ns,
            pauses=self._pauses,
        )

    def _session(self, source: SourceOpened | None) -> dict[str, Any]:
        camera = {**(source.camera if source else {}), "source": self.config.source}
        if source and source.settings:
            camera["settings"] = source.settings
        return {
            "session": self.config.session,
            "camera": camera,
            "software": software.NAME_AND_VERSION,
        }

    def finish(self, ring: RingStatistics, *, camera_away: bool) -> messages.FinishRecording | None:
        """The order to drain and seal; None while a part is being recovered.

        The seal holds the totals of all parts, so their recovery comes first: ask again.
        """
        self.finish_waits = bool(self.parts.recovering)
        if self.finish_waits:
            return None
        through, losses_through = ring.published, ring.losses_logged
        if self._span.end is not None:  # an encoder that died has said so before
            through, losses_through = self._span.end.through, self._span.end.losses_through
        last_ns = ring.last_host_ns
        if camera_away and self._end_gap is None and last_ns is not None:
            # Once: an encoder that dies is told the same again, and the ledger counts it once.
            times = (last_ns, time.perf_counter_ns())
            gap = Loss(LossClass.CAMERA_GAP, ring.epoch, None, None, *times)
            self._end_gap = LossRow.of(gap)
        return messages.FinishRecording(
            through=through,
            previous=self.ledger.snapshot() if len(self.parts) > 1 else {},
            gap=self._end_gap,
            losses_through=losses_through,
            audit_head=self.audit_head(),
        )

    # --- the end ------------------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Concluded, and all recoveries done."""
        return self.concluded is not None and not self.parts.recovering

    def is_whole(self, ring: RingStatistics) -> bool:
        """Whether all its frames are durable, or durably named."""
        end = self._span.end
        return ring.committed >= (ring.published if end is None else end.through)

    def settle(self) -> None:
        """Close the books once `over`: one that never began leaves no file; the keys are let go."""
        if self.concluded is not None and not self.concluded.started:
            self.parts.discard()
        self.parts.forget_keys()

    def name_leftovers(self, ring: RingStatistics, handles: RingHandles) -> None:
        """Name what a ring still holds whose encoders are gone for good."""
        if ring.committed < ring.published or ring.losses_waiting:
            with contextlib.suppress(SealrecError):  # then the balance sheet says what is missing
                self.count_lost([LossRow.of(loss) for loss in leftovers(handles)])

    def offered(self, ring: RingStatistics) -> int:
        """Frames that the source delivered or is known to have skipped."""
        return self._span.offered(ring)

    def result(self, ring: RingStatistics) -> dict[str, Any]:
        """The balance sheet (PROTOCOL.md), without the source's and the encoder's figures."""
        balance = self.ledger.balance()
        offered = self.offered(ring)
        problem = self.concluded.problem if self.concluded is not None else None
        lost = {name: n for name, n in balance.totals.items() if n and name != "written"}
        result = {
            "parts": [str(path) for path in self.parts.existing_paths()],
            "recording_id": self.parts.recording_id.hex(),
            "frames_offered": offered,
            "frames_written": balance.totals["written"],
            "lost": lost,
            "gaps": self.ledger.gaps,
            "balanced": balance.balanced and balance.offered == offered,
            "duration_s": round(self.parts.end_pts / 90_000, 6),
            "size_bytes": self.parts.size_bytes,
            "state": _worst({part.state for part in self.parts}),
            "latency_s": self.durable.latencies.percentiles(),
        }
        if balance.problems:
            result["problems"] = list(balance.problems[:20])
        if problem is not None:
            result["problem"] = {
                "code": problem.code,
                "message": problem.message,
                "hint": problem.hint,
            }
        return result


def _worst(states: set[str]) -> str:
    for state in ("open", "failed", "recovering", "incomplete", "recovered"):
        if state in states:
            return "recovered" if state == "recovered" else "incomplete"
    return "sealed" if states else "failed"
