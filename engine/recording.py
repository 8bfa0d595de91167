"""One recording as it runs: carries out what `lifecycle` decides and keeps the account.

Owns the ring, the two workers, the data key, the list of parts and the live ledger. Everything here
runs on the supervisor's thread; only the recovery of a dead part runs beside it. It decides nothing
about races (that is `lifecycle`) and shows nothing to anyone (that is `supervisor`).
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine import keys, software
from engine.config import RecordingConfig
from engine.container import names, recovery
from engine.container.header import new_core, new_header
from engine.container.payload import PAYLOAD_OFFSET, PREAMBLE
from engine.container.recipients import DataKeySecret, Recipient
from engine.ledger import Ledger, WrittenRun, written_runs
from engine.lifecycle import (
    Action,
    AllocateRing,
    Announce,
    BeginStream,
    CancelTimer,
    Conclude,
    EndStream,
    FinishRecording,
    Kill,
    Lifecycle,
    OpenPart,
    OpenSource,
    PartEnded,
    PartGone,
    PartReady,
    Phase,
    Problem,
    RetirePart,
    RingReady,
    RingRefused,
    SetTimer,
    SourceReady,
    StartRequested,
    StartWorker,
    StopRequested,
    StreamOver,
    TimerFired,
    WorkerGone,
    WorkerRefused,
    WorkerSilent,
)
from engine.lifecycle import Event as LifecycleEvent
from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from ipc import messages
from ipc.errors import ConfigError, DiskError, MemoryRefused, SealrecError, WrongState
from ipc.frame import PixelFormat
from ipc.messages import (
    EncoderStatus,
    EpochMapped,
    Failure,
    FragmentDurable,
    FramesLost,
    PartFailed,
    PartNeeded,
    PartOpened,
    PartSealed,
    SourceOpened,
    StreamEnded,
    WorkerStatus,
)
from ipc.ring import Ring, RingStatistics

__all__ = ["Part", "PartRecovered", "Recording"]

SILENT_S = 5.0
SILENT_AT_START_S = 30.0
LEAVE_S = 10.0
MIN_SLOTS = 4
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
COMMITMENT = slice(PREAMBLE - 32, PREAMBLE)


@dataclass(slots=True)
class Part:
    """One part of the recording, as the supervisor knows it."""

    index: int
    path: Path
    state: str = "open"
    file_bytes: int = 0
    end_pts: int = 0
    commitment: bytes = bytes(32)
    encoder: str = ""
    hardware: bool = False


@dataclass(frozen=True, slots=True)
class PartRecovered:
    """A dead part was closed by recovery, or could not be."""

    part: Part
    report: recovery.PartReport | None
    error: str = ""


@dataclass(slots=True)
class Latency:
    """Arrival of one fragment's frames and the moment they were durable, for the benchmark."""

    frames: int
    first_host_ns: int
    last_host_ns: int
    durable_ns: int


@dataclass(slots=True)
class _Seen:
    """What the workers last said of themselves."""

    status: dict[str, WorkerStatus] = field(default_factory=dict)
    heard: dict[str, float] = field(default_factory=dict)
    encoder: EncoderStatus | None = None
    durable_at: float | None = None
    write_s: float = 0.0
    sync_s: float = 0.0
    latencies: list[Latency] = field(default_factory=list)


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
        self.config = config
        self._post, self._announce = post, announce
        self.recording_id = secrets.token_bytes(16)
        self._dek = secrets.token_bytes(32)
        self._recipients = _recipients(config)
        self.base = _claim(config)
        self.ring = Ring.reserve()
        self.lifecycle = Lifecycle(
            camera_return_s=config.camera_return_s,
            duration_s=config.seconds if config.source_kind == "vimba" else None,
            source_restarts=config.source_kind != "file",
        )
        self.ledger = Ledger()
        self.parts: list[Part] = []
        self.workers: dict[str, WorkerProcess] = {}
        self.seen = _Seen()
        self.source: SourceOpened | None = None
        self.began_at = time.monotonic()
        self.concluded: Conclude | None = None
        self._frame: dict[str, Any] = {}
        self._origin_ns: int | None = None
        self._offsets: dict[int, int] = {}
        self._timers: dict[str, float] = {}
        self._recovering = 0
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

    def take(self, item: object) -> None:
        """Take one item from the inbox."""
        if isinstance(item, WorkerMessage):
            if self.workers.get(item.worker.role) is item.worker:
                self.seen.heard[item.worker.role] = time.monotonic()
            self._message(item.worker.role, item.message)
        elif isinstance(item, WorkerExit):
            self._exited(item)
        elif isinstance(item, PartRecovered):
            self._recovered(item)

    def tick(self, *, stalled: bool) -> None:
        """Fire what is due; ``stalled`` says that the supervisor itself was held up just now."""
        now = time.monotonic()
        due = [name for name, at in self._timers.items() if at <= now]
        for name in due:
            if self._timers.pop(name, None) is not None:
                self._feed(TimerFired(name))
        limit = SILENT_AT_START_S if self.lifecycle.phase is Phase.STARTING else SILENT_S
        for role, heard in list(self.seen.heard.items()):
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
        return self.concluded is not None and not self.workers and not self._recovering

    def _feed(self, event: LifecycleEvent) -> None:
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
            case StreamEnded():
                self._feed(StreamOver(message.reason))
            case PartOpened():
                part = self.parts[-1]
                part.encoder, part.hardware = message.encoder, message.hardware
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
                self.parts[-1].state = "sealed" if message.sealed else "failed"
                self._feed(PartGone(Problem(message.code, message.message, message.hint)))
            case Failure():
                problem = Problem(message.code, message.message, message.hint)
                self._feed(WorkerRefused(role, problem))  # type: ignore[arg-type]
            case messages.Event():
                self._announce(message.kind, message.text, message.details)

    def _opened(self, source: SourceOpened) -> None:
        self.source = source
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
        seen, part = self.seen, self.parts[-1]
        seen.durable_at = time.monotonic()
        seen.write_s, seen.sync_s = fragment.write_s, fragment.sync_s
        part.file_bytes = fragment.file_bytes
        part.end_pts = max(part.end_pts, fragment.pts_end)
        if fragment.first_host_ns is not None and fragment.last_host_ns is not None:
            frames = sum(last - first + 1 for first, last, *_ in fragment.rows)
            seen.latencies.append(
                Latency(frames, fragment.first_host_ns, fragment.last_host_ns, fragment.durable_ns)
            )
            del seen.latencies[:-10_000]  # an hour and more; a day must not grow

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
        part = self.parts[-1]
        part.state, part.path = "sealed", Path(message.path)
        part.file_bytes = message.size_bytes
        part.end_pts = max(part.end_pts, message.end_pts)
        self._feed(PartEnded(message.last))

    def _exited(self, exit_: WorkerExit) -> None:
        role = exit_.worker.role
        if self.workers.get(role) is not exit_.worker:
            return
        del self.workers[role]
        self.seen.heard.pop(role, None)
        if self.concluded is None:
            sealed = False
            if role == "encoder" and self.parts and self.parts[-1].state == "open":
                sealed = self.parts[-1].path.exists()
                if sealed:
                    self.parts[-1].state = "sealed"
                    self.parts[-1].file_bytes = self.parts[-1].path.stat().st_size
            self._feed(WorkerGone(role, exit_.exit_code, sealed))  # type: ignore[arg-type]

    # --- what is done -------------------------------------------------------------------------

    def _do(self, action: Action) -> None:  # noqa: PLR0912 - one case per action
        match action:
            case StartWorker(role):
                worker = WorkerProcess(role, self.ring.handles, self._post)
                self.workers[role] = worker
                self.seen.heard[role] = time.monotonic()
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
                self._retire_part()
            case FinishRecording():
                self._finish()
            case SetTimer(name, seconds):
                self._timers[name] = time.monotonic() + seconds
            case CancelTimer(name):
                self._timers.pop(name, None)
            case Announce(kind, text):
                self._announce(kind, text, self._details(kind))
            case Conclude():
                self._conclude(action)

    def _send(self, role: str, message: messages.Message) -> None:
        if role in self.workers:
            self.workers[role].send(message)

    def _details(self, kind: str) -> dict[str, Any]:
        if kind == "recording_started":
            return {"path": str(self.base), "recording_id": self.recording_id.hex()}
        if kind in ("part_opened", "part_sealed") and self.parts:
            return {"path": str(self.parts[-1].path), "index": self.parts[-1].index}
        return {}

    def _spec_for_rest(self) -> dict[str, Any]:
        """The source's specification; after a restart with the frames that are still to come."""
        spec = self.config.source_spec()
        if spec["frames"] is not None and self.source is not None:
            spec["frames"] = max(1, spec["frames"] - self.statistics.offered)
        return spec

    def _frames_left(self) -> int | None:
        """Limit for sources that do not keep one themselves."""
        config, source = self.config, self.source
        limit = config.frames
        if config.source_kind == "synthetic" or source is None:
            return None
        if config.seconds is not None and config.source_kind == "file":
            by_time = max(1, round(config.seconds * source.rate_hz))
            limit = by_time if limit is None else min(limit, by_time)
        return None if limit is None else max(1, limit - self.statistics.offered)

    def _allocate(self) -> None:
        source = self.source
        assert source is not None
        try:
            pixel_format = PixelFormat(source.pixel_format)
            slots = max(MIN_SLOTS, round(self.config.ring_seconds * source.rate_hz))
            slot_bytes = pixel_format.size_bytes(source.width_px, source.height_px)
            self.ring.allocate(slots=slots, slot_bytes=slot_bytes)
        except (MemoryRefused, ConfigError, ValueError) as error:
            code = getattr(error, "code", "config")
            hint = getattr(error, "hint", "")
            text = getattr(error, "message", str(error))
            self._feed(RingRefused(Problem(code, text, hint)))
            return
        self._feed(RingReady())

    def _open_part(self) -> None:
        index = self.parts[-1].index + 1 if self.parts else 0
        previous = self.parts[-1].commitment if self.parts else bytes(32)
        if self.parts and not any(previous):
            previous = self.parts[-1].commitment = _commitment(self.parts[-1].path)
        path = names.part_path(self.base, index)
        core = new_core(
            recording_id=self.recording_id,
            part_index=index,
            created_unix_ms=time.time_ns() // 1_000_000,
            previous_part=previous,
        )
        self.parts.append(Part(index, path))
        self._send(
            "encoder",
            messages.OpenPart(
                index=index,
                path=str(path),
                header=new_header(core, self._dek, self._recipients),
                dek=self._dek,
                video=self.config.video(),
                frame=self._frame,
                session=self._session(),
                host_origin_ns=self._origin_ns,
                epoch_offsets=list(self._offsets.items()),
                previous=self.ledger.snapshot() if index else {},
            ),
        )

    def _session(self) -> dict[str, Any]:
        camera = dict(self.source.camera) if self.source is not None else {}
        camera |= {"source": self.config.source}
        return {
            "session": self.config.session,
            "camera": camera,
            "software": software.NAME_AND_VERSION,
        }

    def _retire_part(self) -> None:
        """Close the dead encoder's part in the background, or forget it if it holds nothing."""
        if not self.parts or self.parts[-1].state == "sealed":
            return
        part = self.parts[-1]
        try:
            part.commitment = _commitment(names.open_path(part.path))
        except DiskError:
            with contextlib.suppress(OSError):
                names.open_path(part.path).unlink()
                names.reserve_path(part.path).unlink()
            self.parts.pop()  # it died before its preamble: its index is used again
            return
        part.state = "recovering"
        self._recovering += 1
        threading.Thread(target=self._recover, args=(part,), name="recovery", daemon=True).start()

    def _recover(self, part: Part) -> None:
        try:
            report = recovery.recover_part(names.open_path(part.path), DataKeySecret(self._dek))
            self._post(PartRecovered(part, report))
        except (SealrecError, OSError) as error:
            self._post(PartRecovered(part, None, str(error)))

    def _recovered(self, item: PartRecovered) -> None:
        self._recovering -= 1
        part, report = item.part, item.report
        if report is None:
            part.state = "incomplete"
            self._announce("recovery_failed", f"{part.path}: {item.error}", {})
        else:
            part.state = report.state
            for fragment in report.fragments():
                for run in written_runs(fragment.frames):
                    self.ledger.add_written(run)
                for loss in fragment.lost:
                    self.ledger.add_lost(loss)
            with contextlib.suppress(OSError):
                part.file_bytes = part.path.stat().st_size
            self._announce(
                "part_recovered", f"{part.path} was closed", {"path": str(part.path)}
            )
        if self._finish_waits and not self._recovering:
            self._finish()

    def _finish(self) -> None:
        # The seal holds the totals of all parts, so a part that is being recovered comes first.
        if self._recovering:
            self._finish_waits = True
            return
        self._finish_waits = False
        previous = self.ledger.snapshot() if len(self.parts) > 1 else {}
        self._send(
            "encoder",
            messages.FinishRecording(
                through=self.statistics.published, previous=previous
            ),
        )

    def _conclude(self, conclusion: Conclude) -> None:
        self.concluded = conclusion
        self._timers.clear()
        self._leave_by = time.monotonic() + LEAVE_S
        for worker in self.workers.values():
            worker.send(messages.Shutdown())
        if not self.workers and self.parts and self.parts[-1].state == "open":
            self._retire_part()

    # --- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back the ring and forget the keys; a recording that never began leaves nothing."""
        if self.concluded is not None and not self.concluded.started:
            for part in self.parts:
                for path in (names.open_path(part.path), names.reserve_path(part.path)):
                    with contextlib.suppress(OSError):
                        path.unlink()
        self.ring.close()
        self._dek = b""
        self._recipients = []

    @property
    def statistics(self) -> RingStatistics:
        """The ring's cursors; zeros before it has its memory."""
        try:
            return self.ring.statistics()
        except WrongState:
            return NO_RING

    def result(self) -> dict[str, Any]:
        """The balance sheet, as `record` prints it (README)."""
        balance = self.ledger.balance()
        ring = self.statistics
        problem = self.concluded.problem if self.concluded is not None else None
        lost = {name: n for name, n in balance.totals.items() if n and name != "written"}
        states = {part.state for part in self.parts}
        result = {
            "parts": [str(_existing(part.path)) for part in self.parts],
            "recording_id": self.recording_id.hex(),
            "frames_offered": ring.offered,
            "frames_written": balance.totals["written"],
            "lost": lost,
            "gaps": self.ledger.gaps,
            "balanced": balance.balanced and balance.offered == ring.offered,
            "duration_s": round(max((p.end_pts for p in self.parts), default=0) / 90_000, 6),
            "size_bytes": sum(part.file_bytes for part in self.parts),
            "state": _worst(states),
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


def _existing(path: Path) -> Path:
    return path if path.exists() else names.open_path(path)


def _commitment(path: Path) -> bytes:
    """The key commitment in a part's preamble.

    Raises:
        DiskError: the part ends before its preamble does.
    """
    found = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(PAYLOAD_OFFSET)
        found = file.read(PREAMBLE)
    if len(found) < PREAMBLE:
        raise DiskError(f"{path} holds no recording yet.")
    return found[COMMITMENT]


def _recipients(config: RecordingConfig) -> list[Recipient]:
    given: list[Recipient] = [
        keys.password_recipient(k.value, label=k.label) for k in config.keys if k.kind == "password"
    ]
    paths = {
        kind: [k.value for k in config.keys if k.kind == kind]
        for kind in ("key_file", "password_file", "public_key")
    }
    if any(paths.values()) or not given:
        given += keys.recipients_from(
            key_files=paths["key_file"],
            password_files=paths["password_file"],
            public_keys=paths["public_key"],
        )
    return given


def _claim(config: RecordingConfig) -> Path:
    """Find the recording's name and make its directory; writes no file.

    Raises:
        ConfigError: the name is taken, or the directory cannot be made or written.
    """
    base = Path(config.output).absolute()
    if config.next_free_name:
        base = names.next_free(base)
    else:
        names.check_free(base)
    try:
        base.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        probe = base.parent / f".{base.name}.{secrets.token_hex(4)}"
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{base.parent} cannot be written: {error.strerror}.",
            hint="Nothing was started; choose another directory or its permissions.",
        ) from error
    return base
