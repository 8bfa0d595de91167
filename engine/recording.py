"""One recording as it runs: carries out what `lifecycle` decides and keeps the account.

Owns the ring, the two workers, the data key, the list of parts and the live ledger. Everything here
runs on the supervisor's thread; only the recovery of a dead part runs beside it. It decides nothing
about races (that is `lifecycle`) and shows nothing to anyone (that is `supervisor`).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine import software
from engine.config import RecordingConfig
from engine.latency import Latencies
from engine.ledger import Ledger, WrittenRun
from engine.leftovers import leftovers
from engine.lifecycle import DRAIN_S, Lifecycle, Phase
from engine.parts import Part, PartRecovered, Parts
from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from engine.steps import (
    Action,
    AllocateRing,
    Announce,
    BeginStream,
    CancelTimer,
    Conclude,
    EndStream,
    FinishRecording,
    Kill,
    OpenPart,
    OpenSource,
    PartEnded,
    PartGone,
    PartReady,
    Problem,
    RetirePart,
    RingReady,
    RingRefused,
    Role,
    SetTimer,
    SourceHeard,
    SourceReady,
    SourceSilent,
    StartRequested,
    StartWorker,
    StopRequested,
    StreamOver,
    TimerFired,
    WorkerGone,
    WorkerRefused,
    WorkerSilent,
)
from engine.steps import Event as Step
from ipc import messages
from ipc.errors import ConfigError, MemoryRefused, SealrecError, WrongState
from ipc.frame import Loss, LossClass, PixelFormat
from ipc.messages import (
    EncoderStatus,
    EpochMapped,
    Failure,
    FragmentDurable,
    FramesLost,
    LossRow,
    PartFailed,
    PartNeeded,
    PartOpened,
    PartSealed,
    SourceOpened,
    StreamEnded,
    WorkerStatus,
)
from ipc.ring import Ring, RingStatistics

__all__ = ["Recording"]

SILENT_S = 5.0
# A set duration is so many frames; of a camera that loses time, so many seconds and a bit.
LATE_S = 1.0
# A camera that is opened again may be missing for a while; then another process tries.
REOPEN_WAIT_S = 10.0
# Announcements that the file keeps as well.
NOTED = ("camera_lost", "camera_back", "worker_hung", "worker_restarted", "disk_low")
SILENT_AT_START_S = 30.0
LEAVE_S = 3.0
NO_RING = RingStatistics(
    slots=0,
    slot_bytes=0,
    published=0,
    released=0,
    committed=0,
    high_water=0,
    offered=0,
    lost={},
    losses_waiting=0,
    epoch=0,
    ended=False,
    last_host_ns=None,
    crash_cover_frames=0,
)


@dataclass(slots=True)
class _Seen:
    """What the workers last said of themselves."""

    status: dict[str, WorkerStatus] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    encoder: EncoderStatus | None = None
    durable_at: float | None = None
    write_s: float = 0.0
    sync_s: float = 0.0
    latencies: Latencies = field(default_factory=Latencies)


@dataclass(frozen=True, slots=True)
class _StartFailed:
    """The system gave no process; the shell's code for it."""

    role: Role
    exit_code: int = 127


class Recording:
    """One recording, from its configuration to its balance sheet.

    Args:
        config: Checked already.
        post: Puts an item into the supervisor's inbox, from any thread.
        announce: Tells the controller of an event: kind, text, details.

    Raises:
        ConfigError, KeyFileError, DiskError: nothing was started and nothing was written.
    """

    def __init__(
        self,
        config: RecordingConfig,
        post: Callable[[object], None],
        announce: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._post, self._announce = post, announce
        self.parts = Parts(config)
        # Keys are derived by now; a password must not stay here as long as the recording runs.
        self.config = msgspec.structs.replace(config, keys=[])
        self.ring = Ring.reserve()
        self.lifecycle = Lifecycle(
            camera_return_s=config.camera_return_s,
            duration_s=config.seconds if config.source_kind == "vimba" else None,
            source_restarts=config.source_kind != "file",
        )
        self.ledger = Ledger()
        self.workers: dict[str, WorkerProcess] = {}
        self.seen = _Seen()
        self.source: SourceOpened | None = None
        self.began_at = time.monotonic()
        self.concluded: Conclude | None = None
        self._frame: dict[str, Any] = {}
        self._settings = ""
        self._end_gap: messages.LossRow | None = None
        self._origin_ns: int | None = None
        self._offsets: dict[int, int] = {}
        self._timers: dict[str, float] = {}
        self._opening: set[str] = set()
        self._finish_waits = False
        self._part_needed = False
        self._leave_by: float | None = None

    # --- what comes in ------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._feed(StartRequested())

    def stop(self) -> None:
        """Stop the source, drain, seal; a second call changes nothing."""
        self._feed(StopRequested())

    def trigger(self) -> bool:
        """Let the camera take one frame; False if none waits for that."""
        source = self.source
        waits = source is not None and source.triggered and "capture" in self.workers
        lifecycle = self.lifecycle
        if waits and lifecycle.phase is Phase.RECORDING and not lifecycle.camera_away:
            self._send("capture", messages.FireTrigger())
            return True
        return False

    def take(self, item: object) -> None:
        """Take one item from the inbox."""
        if isinstance(item, WorkerMessage):
            if self.workers.get(item.worker.role) is item.worker:
                self.seen.heard[item.worker.role] = time.monotonic()
            self._message(item.worker.role, item.message)
        elif isinstance(item, WorkerExit):
            self._exited(item)
        elif isinstance(item, _StartFailed) and self.concluded is None:
            self._feed(WorkerGone(item.role, item.exit_code))
        elif isinstance(item, PartRecovered):
            self._recovered(item)

    def tick(self, *, stalled: bool) -> None:
        """Fire what is due; ``stalled`` says that the supervisor itself was held up just now."""
        now = time.monotonic()
        due = [name for name, at in self._timers.items() if at <= now]
        for name in due:
            if self._timers.pop(name, None) is not None:
                self._feed(TimerFired(name))
        starting = self.lifecycle.phase is Phase.STARTING
        for role, heard in list(self.seen.heard.items()):
            # Imports, a camera and an encoder take their time, also in the middle of a recording.
            limit = SILENT_AT_START_S if starting or role in self._opening else SILENT_S
            if stalled:
                self.seen.heard[role] = now  # their heartbeats wait in the pipe
            elif now - heard > limit and role in self.workers:
                self.seen.heard[role] = now
                self._feed(WorkerSilent(role))  # type: ignore[arg-type]
        if self._leave_by is not None and now > self._leave_by:
            for worker in self.workers.values():
                worker.kill()

    @property
    def next_timer(self) -> float | None:
        """Monotonic time of the next timer."""
        return min(self._timers.values(), default=None)

    @property
    def finished(self) -> bool:
        """Concluded, all workers gone, all recoveries done."""
        return self.concluded is not None and not self.workers and not self.parts.recovering

    def _feed(self, event: Step) -> None:
        for action in self.lifecycle.handle(event):
            self._do(action)

    def _message(self, role: str, message: messages.Message) -> None:  # noqa: PLR0912 - one case each
        match message:
            case WorkerStatus():
                self.seen.status[role] = message
            case EncoderStatus():
                self.seen.encoder = message
            case FragmentDurable():
                self._durable(message)
            case FramesLost():
                self._count_lost(message.lost)
            case EpochMapped():
                self._origin_ns = message.host_origin_ns
                self._offsets[message.epoch] = message.offset_ns
            case SourceOpened():
                self._opened(message)
            case messages.SourceSilent():
                self._feed(SourceSilent(message.reason))
            case messages.SourceHeard():
                self._feed(SourceHeard())
            case StreamEnded():
                self._feed(StreamOver(message.reason))
            case PartOpened():
                self._opening.discard(role)
                self.parts.opened(message.encoder, hardware=message.hardware)
                self._feed(PartReady())
            case PartNeeded():
                self._frame |= {
                    "width_px": message.width_px,
                    "height_px": message.height_px,
                    "pixel_format": message.pixel_format,
                }
            case PartSealed():
                self._sealed(message)
            case PartFailed():
                self._part.state = "sealed" if message.sealed else "failed"
                self._feed(PartGone(Problem(message.code, message.message, message.hint)))
            case Failure():
                problem = Problem(message.code, message.message, message.hint)
                self._feed(WorkerRefused(role, problem))  # type: ignore[arg-type]
            case messages.Event():
                self._announce(message.kind, message.text, message.details)

    def _opened(self, source: SourceOpened) -> None:
        self.source = source
        self._settings = self._settings or source.settings
        self._opening.discard("capture")
        if not self._frame:
            self._frame = {
                "width_px": source.width_px,
                "height_px": source.height_px,
                "pixel_format": source.pixel_format,
                "rate_hz": source.rate_hz,
            }
        self._feed(SourceReady())

    def _durable(self, fragment: FragmentDurable) -> None:
        for first_seq, last_seq, epoch, first_id in fragment.rows:
            self.ledger.add_written(WrittenRun(first_seq, last_seq, epoch, first_id))
        self._count_lost(fragment.lost)
        seen, part = self.seen, self._part
        seen.durable_at = time.monotonic()
        if "drain" in self._timers:  # slow is not hung
            self._timers["drain"] = seen.durable_at + DRAIN_S
        seen.write_s, seen.sync_s = fragment.write_s, fragment.sync_s
        part.file_bytes = fragment.file_bytes
        part.end_pts = max(part.end_pts, fragment.pts_end)
        if fragment.first_host_ns is not None and fragment.last_host_ns is not None:
            frames = sum(last - first + 1 for first, last, *_ in fragment.rows)
            seen.latencies.add(
                frames,
                first_host_ns=fragment.first_host_ns,
                last_host_ns=fragment.last_host_ns,
                durable_ns=fragment.durable_ns,
            )

    def _count_lost(self, rows: list[messages.LossRow]) -> None:
        counted: dict[str, int] = {}
        for row in rows:
            with contextlib.suppress(KeyError):
                new = self.ledger.add_lost(row.loss())
                counted[row.label] = counted.get(row.label, 0) + new
        for label, frames in counted.items():
            if frames:
                ids = [(row.first_id, row.last_id) for row in rows if row.label == label]
                self._announce(
                    "frames_lost",
                    f"{frames} frames lost: {label}",
                    {"class": label, "frames": frames, "ids": ids[:100]},
                )

    def _sealed(self, message: PartSealed) -> None:
        part = self._part
        part.state, part.path = "sealed", Path(message.path)
        part.file_bytes = message.size_bytes
        part.end_pts = max(part.end_pts, message.end_pts)
        self._count_lost(message.lost)
        self._feed(PartEnded(message.last))

    def _exited(self, exit_: WorkerExit) -> None:
        role = exit_.worker.role
        if self.workers.get(role) is not exit_.worker:
            return
        del self.workers[role]
        self.seen.heard.pop(role, None)
        if self.concluded is None:
            sealed = role == "encoder" and self.parts.was_sealed()
            if sealed:
                self.parts.recount(self._post)  # its last words may have died with it
            ring = self.statistics
            whole = sealed and ring.committed >= ring.published
            self._feed(WorkerGone(role, exit_.exit_code, whole))  # type: ignore[arg-type]

    # --- what is done -------------------------------------------------------------------------

    def _do(self, action: Action) -> None:  # noqa: PLR0912 - one case per action
        match action:
            case StartWorker(role):
                self._start_worker(role)
            case Kill(role):
                if role in self.workers:
                    self.workers[role].kill()
            case OpenSource():
                spec = self._spec_for_rest()
                self._send("capture", messages.OpenSource(spec=spec, policy=self.config.policy))
            case BeginStream():
                self._send("capture", messages.BeginStream(max_frames=self._frames_left()))
            case EndStream():
                self._send("capture", messages.EndStream())
            case AllocateRing():
                self._allocate()
            case OpenPart():
                self._open_part()
            case RetirePart():
                self.parts.retire(self._post)
            case FinishRecording():
                self._finish()
            case SetTimer(name, seconds):
                if name == "duration" and self._frames_left() is not None:
                    seconds += LATE_S
                self._timers[name] = time.monotonic() + seconds
            case CancelTimer(name):
                self._timers.pop(name, None)
            case Announce(kind, text):
                if kind == "recording_started":
                    self.began_at = time.monotonic()
                self.announce(kind, text, self._details(kind))
            case Conclude():
                self._conclude(action)

    def announce(self, kind: str, text: str, details: dict[str, Any]) -> None:
        """Tell the controller of an event, and the file if it is one to be kept."""
        if kind in NOTED:
            now = time.perf_counter_ns()
            self._send("encoder", messages.NoteEvent(host_ns=now, kind=kind, text=text))
        self._announce(kind, text, details)

    def _start_worker(self, role: Role) -> None:
        try:
            self.workers[role] = WorkerProcess(role, self.ring.handles, self._post)
        except OSError as error:
            self._announce("error", f"{role} cannot be started: {error.strerror}", {})
            self._post(_StartFailed(role))  # after this list of actions
            return
        self.seen.heard[role] = time.monotonic()
        self._opening.add(role)
        if role == "encoder":
            self.seen.encoder = None  # a dead one's stall is not this one's

    def _send(self, role: str, message: messages.Message) -> None:
        if role in self.workers:
            self.workers[role].send(message)

    def _details(self, kind: str) -> dict[str, Any]:
        if kind == "recording_started":
            path, recording_id = self.parts.base, self.parts.recording_id
            return {
                "path": str(path),
                "recording_id": recording_id.hex(),
                "source": self._source_details(),
            }
        if kind in ("part_opened", "part_sealed"):
            return {"path": str(self._part.path), "index": self._part.index}
        return {}

    def _source_details(self) -> dict[str, Any]:
        source = self.source
        if source is None:
            return {}
        return {
            "width_px": source.width_px,
            "height_px": source.height_px,
            "pixel_format": source.pixel_format,
            "rate_hz": source.rate_hz,
            "triggered": source.triggered,
            "camera": source.camera,
        }

    def _spec_for_rest(self) -> dict[str, Any]:
        """The source's specification; after a restart with the frames that are still to come.

        A camera is opened again as itself, with the settings that it had: one that was unplugged
        has forgotten them.
        """
        spec = self.config.source_spec()
        if self.config.source_kind == "vimba" and self.source is not None:
            spec["url"] = f"vimba:{self.source.camera.get('id', '')}"
            spec["restore"] = self._settings
            spec["wait_s"] = REOPEN_WAIT_S
        if spec["frames"] is not None and self.source is not None:
            spec["frames"] = max(1, spec["frames"] - self.statistics.offered)
        return spec

    def _frames_left(self) -> int | None:
        """Limit for sources that do not keep one themselves."""
        config, source = self.config, self.source
        limit = config.frames
        if config.source_kind == "synthetic" or source is None:
            return None
        if config.seconds is not None and not source.triggered:
            by_time = max(1, round(config.seconds * source.rate_hz))
            limit = by_time if limit is None else min(limit, by_time)
        return None if limit is None else max(1, limit - self.statistics.offered)

    def _allocate(self) -> None:
        source = self.source
        assert source is not None
        try:
            pixel_format = PixelFormat(source.pixel_format)
            slot_bytes = pixel_format.size_bytes(source.width_px, source.height_px)
            slots = self.config.ring_slots(slot_bytes, source.rate_hz)
            self.ring.allocate(slots=slots, slot_bytes=slot_bytes)
        except (MemoryRefused, ConfigError, ValueError) as error:
            code = getattr(error, "code", "config")
            hint = getattr(error, "hint", "")
            text = getattr(error, "message", str(error))
            self._feed(RingRefused(Problem(code, text, hint)))
            return
        self._feed(RingReady())

    @property
    def _part(self) -> Part:
        part = self.parts.current
        assert part is not None
        return part

    def _open_part(self) -> None:
        try:
            part, header = self.parts.begin()
        except SealrecError as error:
            self._feed(PartGone(Problem(error.code, error.message, error.hint)))
            return
        self._send(
            "encoder",
            messages.OpenPart(
                index=part.index,
                path=str(part.path),
                header=header,
                dek=self.parts.dek,
                video=self.config.video(),
                frame=self._frame,
                session=self._session(),
                host_origin_ns=self._origin_ns,
                epoch_offsets=list(self._offsets.items()),
                previous=self.ledger.snapshot() if part.index else {},
                may_lighten=self.config.policy != "block",
            ),
        )

    def _session(self) -> dict[str, Any]:
        camera = dict(self.source.camera) if self.source is not None else {}
        camera |= {"source": self.config.source}
        if self._settings:
            camera["settings"] = self._settings
        return {
            "session": self.config.session,
            "camera": camera,
            "software": software.NAME_AND_VERSION,
        }

    def _recovered(self, item: PartRecovered) -> None:
        self.parts.recovered(item)
        self.ledger.merge(item.ledger)
        kind = "recovery_failed" if item.error else "part_recovered"
        self._announce(kind, item.error, {"path": str(item.part.path)})
        if self._finish_waits and not self.parts.recovering:
            self._finish()

    def _finish(self) -> None:
        # The seal holds the totals of all parts, so a part that is being recovered comes first.
        if self.parts.recovering:
            self._finish_waits = True
            return
        self._finish_waits = False
        previous = self.ledger.snapshot() if len(self.parts) > 1 else {}
        ring = self.statistics
        if self.lifecycle.camera_away and self._end_gap is None and ring.last_host_ns is not None:
            # Once: an encoder that dies is told the same again, and the ledger counts it once.
            times = (ring.last_host_ns, time.perf_counter_ns())
            gap = Loss(LossClass.CAMERA_GAP, ring.epoch, None, None, *times)
            self._end_gap = messages.LossRow.of(gap)
        order = messages.FinishRecording(
            through=ring.published, previous=previous, gap=self._end_gap
        )
        self._send("encoder", order)

    def _conclude(self, conclusion: Conclude) -> None:
        self.concluded = conclusion
        self._timers.clear()
        self._leave_by = time.monotonic() + LEAVE_S
        for worker in self.workers.values():
            worker.send(messages.Shutdown())

    # --- the end ------------------------------------------------------------------------------

    def settle(self) -> dict[str, Any]:
        """Close the books once `finished`: the balance sheet. Gives back the ring and the keys.

        A recording that never began leaves no file behind.
        """
        if self.concluded is not None and not self.concluded.started:
            self.parts.discard()
        else:
            self._name_leftovers()
        result = self.result()
        self.ring.close()
        self.parts.forget_keys()
        return result

    def _name_leftovers(self) -> None:
        ring = self.statistics
        if ring.committed < ring.published or ring.losses_waiting:
            with contextlib.suppress(SealrecError):  # then the balance sheet says what is missing
                self._count_lost([LossRow.of(loss) for loss in leftovers(self.ring.handles)])

    @property
    def statistics(self) -> RingStatistics:
        """The ring's cursors; zeros before it has its memory."""
        try:
            return self.ring.statistics()
        except WrongState:
            return NO_RING

    def _encoder_figures(self) -> dict[str, Any]:
        part, seen = self.parts.current, self.seen.encoder
        return {
            "name": part.encoder if part else "",
            "hardware": part.hardware if part else False,
            "encode_ms": round(seen.encode_ms, 3) if seen else None,
            "convert_ms": round(seen.convert_ms, 3) if seen else None,
        }

    def result(self) -> dict[str, Any]:
        """The balance sheet, as `record` prints it (README)."""
        balance = self.ledger.balance()
        ring = self.statistics
        problem = self.concluded.problem if self.concluded is not None else None
        lost = {name: n for name, n in balance.totals.items() if n and name != "written"}
        states = {part.state for part in self.parts}
        result = {
            "parts": [str(path) for path in self.parts.existing_paths()],
            "recording_id": self.parts.recording_id.hex(),
            "frames_offered": ring.offered,
            "frames_written": balance.totals["written"],
            "lost": lost,
            "gaps": self.ledger.gaps,
            "balanced": balance.balanced and balance.offered == ring.offered,
            "duration_s": round(self.parts.end_pts / 90_000, 6),
            "size_bytes": self.parts.size_bytes,
            "state": _worst(states),
            "latency_s": self.seen.latencies.percentiles(),
            "source": self._source_details(),
            "encoder": self._encoder_figures(),
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
