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
from engine.pipeline import Pipeline
from engine.recording import Recording
from ipc.frame import LossClass
from ipc.lifeline import SelfMeasure
from ipc.messages import EncoderStatus, WorkerStatus
from ipc.ring import RingStatistics

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

    def begin(self, pipeline: Pipeline) -> None:
        """Forget the camera and the recording before."""
        self.__init__()  # type: ignore[misc]
        self._published_at = time.monotonic()
        if pipeline.recording is not None:
            self.begin_recording(pipeline.recording)

    def begin_recording(self, recording: Recording) -> None:
        """Look at another recording's disk."""
        limits = recording.config.disk_low_minutes
        self._room = DiskRoom(recording.parts.base.parent, limits)

    def compose(self, pipeline: Pipeline | None) -> dict[str, Any]:
        """The status now; plain values only."""
        if pipeline is None:
            return {"state": "idle", "phase": Phase.IDLE.value}
        now = time.monotonic()
        ring, encoder = pipeline.statistics, pipeline.seen.encoder
        processes = {"supervisor": self._own.status({}), **pipeline.seen.status}
        self._measure(processes, ring.published, now)
        self._note_refused(ring.lost.get(LossClass.RING_FULL, 0), now)
        status = {
            "state": self._state(pipeline, now),
            "phase": pipeline.lifecycle.phase.value,
            "fps_in": round(self._fps, 2),
            "ring": {
                "serial": pipeline.serial if ring.slots else 0,
                "slots": ring.slots,
                "fill": ring.published - ring.released,
                "high_water": ring.high_water,
                "not_durable": ring.published - ring.committed,
                "crash_cover_s": round(self._cover_s(pipeline, ring.crash_cover_frames), 3),
            },
            "workers": self._workers(pipeline, processes),
        }
        if pipeline.recording is None:
            return status
        return status | self._of_recording(pipeline, pipeline.recording, ring, encoder)

    def _of_recording(
        self,
        pipeline: Pipeline,
        recording: Recording,
        ring: RingStatistics,
        encoder: EncoderStatus | None,
    ) -> dict[str, Any]:
        now = time.monotonic()
        totals = recording.ledger.totals()
        offered = recording.offered(ring)
        durable, part = recording.durable, recording.parts.current
        durable_age = None if durable.at is None else now - durable.at
        room = self._look_at_disk(pipeline, recording, now)
        return {
            "recording_id": recording.parts.recording_id.hex(),
            "path": str(recording.parts.base),
            "part": part.index if part else 0,
            "elapsed_s": round(now - recording.began_at, 3),
            "frames": {
                "offered": offered,
                **totals,
                "in_flight": max(0, offered - sum(totals.values())),
            },
            "paused": recording.paused,
            "fps_encoded": round(encoder.fps, 2) if encoder else 0.0,
            "encode_ms": round(encoder.encode_ms, 3) if encoder else 0.0,
            "convert_ms": round(encoder.convert_ms, 3) if encoder else 0.0,
            "speed": encoder.speed if encoder else "",
            "overload": encoder.overload if encoder else False,
            "encoder": part.encoder if part else "",
            "hardware": part.hardware if part else False,
            "write_queue": {
                "bytes": encoder.queue_bytes if encoder else 0,
                "fragments": encoder.queue_items if encoder else 0,
                "stall_s": round(encoder.stall_s, 3) if encoder else 0.0,
                "write_s": round(durable.write_s, 6),
                "sync_s": round(durable.sync_s, 6),
            },
            "durable_bytes": recording.parts.size_bytes,
            "durable_age_s": None if durable_age is None else round(durable_age, 3),
            "latency_s": durable.latencies.newest(),
            "disk": {
                "free_bytes": room.free_bytes,
                "minutes_left": room.minutes,
            },
        }

    def _state(self, pipeline: Pipeline, now: float) -> str:  # noqa: PLR0911 - one return per state
        phase, recording = pipeline.lifecycle.phase, pipeline.recording
        if phase is Phase.READY:
            return (
                self._trouble_before_ring(pipeline, now)
                or self._no_frames(pipeline, now, pipeline.opened_at)
                or phase.value
            )
        if phase is not Phase.RECORDING or recording is None:
            return Phase.STARTING.value if phase is Phase.OPENING else phase.value
        trouble = self._trouble_before_ring(pipeline, now)
        if trouble:
            return trouble
        if now - self._refused_at < FULL_FOR_S:
            return "ring_full"
        silent = self._no_frames(pipeline, now, recording.began_at)
        if silent:
            return silent
        durable_at = recording.durable.at
        if durable_at is None:
            return "starting" if now - recording.began_at < DURABLE_WITHIN_S else "not_durable"
        if now - durable_at > DURABLE_WITHIN_S:
            return "not_durable"
        return "paused" if recording.paused else "recording"

    @staticmethod
    def _trouble_before_ring(pipeline: Pipeline, now: float) -> str:
        """What is wrong with the camera or a worker; empty if nothing is."""
        seen = pipeline.seen
        if pipeline.lifecycle.camera_away:
            return "camera_lost"
        if seen.encoder is not None and seen.encoder.stall_s > STALL_S:
            return "disk_stalled"
        for role in ("encoder", "capture"):
            if now - seen.heard.get(role, 0.0) > STALL_S:
                return f"{role}_silent"
        return ""

    def _no_frames(self, pipeline: Pipeline, now: float, since: float) -> str:
        """Whether no frame came for too long, and why; empty if they come."""
        source = pipeline.source.said
        if now - max(self._published_at, since) <= max(1.0, 5 / pipeline.source.rate_hz):
            return ""
        return "waiting" if source is not None and source.triggered else "no_frames"

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

    def _workers(self, pipeline: Pipeline, processes: dict[str, WorkerStatus]) -> dict[str, Any]:
        pids: dict[str, int] = {role: worker.pid for role, worker in pipeline.workers.items()}
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

    def _look_at_disk(self, pipeline: Pipeline, recording: Recording, now: float) -> DiskRoom:
        """Look at the disk; a limit that its room has fallen below is told once."""
        room, parts = self._room, recording.parts
        assert room is not None
        room.look(size_bytes=parts.size_bytes, recorded_pts=parts.end_pts, now_s=now)
        limit = room.take_warning()
        if limit is not None and pipeline.lifecycle.phase is Phase.RECORDING:
            details = {"minutes_left": room.minutes, "free_bytes": room.free_bytes}
            text = f"the disk is full in {room.minutes:g} minutes: less than {limit:g} are left"
            pipeline.announce("disk_low", text, details)
        return room

    @staticmethod
    def _cover_s(pipeline: Pipeline, frames: int) -> float:
        return frames / pipeline.source.rate_hz
