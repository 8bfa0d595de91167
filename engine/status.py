"""The status as the controller sees it: composed five times a second from what is measured.

"recording" is said only while bytes of this recording became durable within the last two seconds
and frames keep coming; otherwise the state names what is wrong. It is never derived from a process
being alive (design: Durability).
"""

from __future__ import annotations

import os
import time
from typing import Any

from engine.disk_room import DiskRoom
from engine.lifecycle import Phase
from engine.recording import Recording
from ipc.frame import LossClass
from ipc.lifeline import SelfMeasure
from ipc.messages import WorkerStatus

__all__ = ["StatusBoard"]

DURABLE_WITHIN_S = 2.0
STALL_S = 1.0
FULL_FOR_S = 2.0
WINDOW_S = 1.0


class StatusBoard:
    """Keeps what rates need from one status to the next."""

    def __init__(self) -> None:
        self._window: tuple[float, int, dict[str, float]] = (0.0, 0, {})
        self._fps = 0.0
        self._cpu: dict[str, float] = {}
        self._room: DiskRoom | None = None
        self._published = -1
        self._published_at = 0.0
        self._refused, self._refused_at = 0, -FULL_FOR_S
        self._own = SelfMeasure()

    def begin(self, recording: Recording) -> None:
        """Forget the recording before."""
        self.__init__()  # type: ignore[misc]
        self._published_at = time.monotonic()
        limits = recording.config.disk_low_minutes
        self._room = DiskRoom(recording.parts.base.parent, limits)

    def compose(self, recording: Recording | None) -> dict[str, Any]:
        """The status now; plain values only."""
        if recording is None:
            return {"state": "idle", "phase": Phase.IDLE.value}
        now = time.monotonic()
        ring = recording.statistics
        processes = {"supervisor": self._own.status({}), **recording.seen.status}
        self._measure(processes, ring.published, now)
        self._note_refused(ring.lost.get(LossClass.RING_FULL, 0), now)
        totals = recording.ledger.totals()
        counted = sum(totals.values())
        seen, encoder = recording.seen, recording.seen.encoder
        durable_age = None if seen.durable_at is None else now - seen.durable_at
        size = recording.parts.size_bytes
        room = self._look_at_disk(recording, now)
        elapsed = now - recording.began_at
        part = recording.parts.current
        return {
            "state": self._state(recording, now),
            "phase": recording.lifecycle.phase.value,
            "recording_id": recording.parts.recording_id.hex(),
            "path": str(recording.parts.base),
            "part": part.index if part else 0,
            "elapsed_s": round(elapsed, 3),
            "frames": {
                "offered": ring.offered,
                **totals,
                "in_flight": max(0, ring.offered - counted),
            },
            "fps_in": round(self._fps, 2),
            "fps_encoded": round(encoder.fps, 2) if encoder else 0.0,
            "encode_ms": round(encoder.encode_ms, 3) if encoder else 0.0,
            "convert_ms": round(encoder.convert_ms, 3) if encoder else 0.0,
            "speed": encoder.speed if encoder else "",
            "overload": encoder.overload if encoder else False,
            "encoder": part.encoder if part else "",
            "hardware": part.hardware if part else False,
            "ring": {
                "slots": ring.slots,
                "fill": ring.published - ring.released,
                "high_water": ring.high_water,
                "not_durable": ring.published - ring.committed,
                "crash_cover_s": round(self._cover_s(recording, ring.crash_cover_frames), 3),
            },
            "write_queue": {
                "bytes": encoder.queue_bytes if encoder else 0,
                "fragments": encoder.queue_items if encoder else 0,
                "stall_s": round(encoder.stall_s, 3) if encoder else 0.0,
                "write_s": round(seen.write_s, 6),
                "sync_s": round(seen.sync_s, 6),
            },
            "durable_bytes": size,
            "durable_age_s": None if durable_age is None else round(durable_age, 3),
            "latency_s": seen.latencies.newest(),
            "disk": {
                "free_bytes": room.free_bytes,
                "minutes_left": room.minutes,
            },
            "workers": self._workers(recording, processes),
        }

    def _state(self, recording: Recording, now: float) -> str:  # noqa: PLR0911 - one return per state
        phase, seen = recording.lifecycle.phase, recording.seen
        if phase is not Phase.RECORDING:
            return phase.value
        if recording.lifecycle.camera_away:
            return "camera_lost"
        if seen.encoder is not None and seen.encoder.stall_s > STALL_S:
            return "disk_stalled"
        for role in ("encoder", "capture"):
            if now - seen.heard.get(role, 0.0) > STALL_S:
                return f"{role}_silent"
        if now - self._refused_at < FULL_FOR_S:
            return "ring_full"
        rate_hz = recording.source.rate_hz if recording.source else 30.0
        if now - max(self._published_at, recording.began_at) > max(1.0, 5 / rate_hz):
            waiting = recording.source is not None and recording.source.triggered
            return "waiting" if waiting else "no_frames"
        if seen.durable_at is None:
            return "starting" if now - recording.began_at < DURABLE_WITHIN_S else "not_durable"
        if now - seen.durable_at > DURABLE_WITHIN_S:
            return "not_durable"
        return "recording"

    def _note_refused(self, refused: int, now: float) -> None:
        if refused != self._refused:
            self._refused, self._refused_at = refused, now

    def _measure(self, processes: dict[str, WorkerStatus], published: int, now: float) -> None:
        if published != self._published:
            self._published, self._published_at = published, now
        began, frames, cpu = self._window
        if now - began < WINDOW_S:
            return
        if began:
            self._fps = (published - frames) / (now - began)
            self._cpu = {
                role: max(0.0, process.cpu_s - cpu.get(role, process.cpu_s)) / (now - began)
                for role, process in processes.items()
            }
        self._window = (now, published, {role: p.cpu_s for role, p in processes.items()})

    def _workers(self, recording: Recording, processes: dict[str, WorkerStatus]) -> dict[str, Any]:
        pids: dict[str, int] = {role: worker.pid for role, worker in recording.workers.items()}
        pids["supervisor"] = os.getpid()
        return {
            role: {
                "pid": pids.get(role),
                "cpu": round(self._cpu.get(role, 0.0), 3),
                "pss_bytes": status.pss_bytes,
                "private_bytes": status.private_bytes,
                "shared_bytes": status.shared_bytes,
                "descriptors": status.descriptors,
                "threads": status.threads,
            }
            for role, status in processes.items()
        }

    def _look_at_disk(self, recording: Recording, now: float) -> DiskRoom:
        """Look at the disk; a limit that its room has fallen below is told once."""
        room, parts = self._room, recording.parts
        assert room is not None
        room.look(size_bytes=parts.size_bytes, recorded_pts=parts.end_pts, now_s=now)
        limit = room.take_warning()
        if limit is not None and recording.lifecycle.phase is Phase.RECORDING:
            details = {"minutes_left": room.minutes, "free_bytes": room.free_bytes}
            text = f"the disk is full in {room.minutes:g} minutes: less than {limit:g} are left"
            recording.announce("disk_low", text, details)
        return room

    @staticmethod
    def _cover_s(recording: Recording, frames: int) -> float:
        return frames / recording.source.rate_hz if recording.source else 0.0
