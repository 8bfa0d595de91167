"""The supervisor's loop: one inbox, one thread, one camera and one recording at a time.

Requests, workers' messages, exits and timers come through one queue and are handled in order; five
times a second a status goes out. What is decided is in `lifecycle`, what is done in `pipeline`,
what it looks like to a controller in `server` and to a person in `cli`.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from engine import chronicle
from engine.camera_desk import CameraDesk
from engine.catalog.feed import CatalogFeed, CatalogNews
from engine.catalog.place import CatalogPlace
from engine.config import RecordingConfig, SourceConfig, parse_config, parse_next, parse_source
from engine.earlier import EarlierClosed, EarlierParts
from engine.lifecycle import Phase
from engine.pipeline import Pipeline
from engine.recording import Recording
from engine.status import StatusBoard
from engine.steps import Problem
from ipc import logs
from ipc.camera_control import CameraChanges
from ipc.errors import SealrecError, WrongState
from ipc.handover import RingOffers
from ipc.messages import (
    CloseCamera,
    Event,
    GetStatus,
    Mark,
    OpenCamera,
    Pause,
    Reply,
    Resume,
    Shutdown,
    StartRecording,
    Status,
    StopRecording,
    Trigger,
)

__all__ = ["ControllerGone", "Outgoing", "Supervisor"]

STATUS_S = 0.2
STALLED_S = 1.0
MAX_REFUSAL = 4096
# A catalog that is slow or down at the end is not waited for; a sync brings it up to date.
CATALOG_CLOSE_S = 2.0
WARNINGS = ("error", "disk_failed", "catalog_behind")

Outgoing = Reply | Status | Event


@dataclass(frozen=True, slots=True)
class ControllerGone:
    """Nobody commands any more: stop, seal, leave."""


@dataclass(slots=True)
class _Reopening:
    """A camera that is closed and opened again for a call."""

    call: int
    config: SourceConfig
    changes: CameraChanges
    closed: bool = False


class Supervisor:
    """Runs recordings until it is shut down.

    Args:
        listener: Gets every reply, event and status, on the supervisor's thread; must not block.
        catalog: Told what happens; no recording ever waits for it.
        offers: Where the ring is handed out to be looked at; None: nowhere.
    """

    def __init__(
        self,
        listener: Callable[[Outgoing], object],
        catalog: CatalogPlace | None = None,
        offers: RingOffers | None = None,
    ) -> None:
        self._listener = listener
        # Reentrant, unlike Queue: a signal handler may put while this thread is in get.
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._pipeline: Pipeline | None = None
        self._board = StatusBoard()
        self._earlier: EarlierParts | None = None
        self._open_call: int | None = None
        self._start_call: int | None = None
        self._stop_calls: list[int] = []
        self._close_calls: list[int] = []
        self._reopening: _Reopening | None = None
        self._feed = None if catalog is None else CatalogFeed(catalog, self._inbox.put)
        self._put = chronicle.nobody if self._feed is None else self._feed.put
        self._desk = CameraDesk(
            self._inbox.put, self._answer, self._reopen, offers or RingOffers(None), self._put
        )
        self._rings = 0
        self._leaving = False
        self.last_result: dict[str, Any] | None = None

    def submit(self, request: object) -> None:
        """Hand in a request; from any thread, also from a signal handler."""
        self._inbox.put(request)

    def run(self) -> None:
        """Serve until shut down and everything is sealed."""
        next_status = last_turn = time.monotonic()
        while not (self._leaving and self._pipeline is None):
            item = self._next(next_status)
            if item is not None:
                self._take(item)
            now = time.monotonic()
            if self._pipeline is not None:
                self._pipeline.tick(stalled=now - last_turn > STALLED_S)
                self._finish_if_done(self._pipeline)
            last_turn = now
            if now >= next_status:
                next_status = now + STATUS_S
                self._listener(Status(status=self._board.compose(self._pipeline)))
                if self._feed is not None:
                    self._feed.look()
        if self._feed is not None:
            self._feed.close(CATALOG_CLOSE_S)
            self._take_last_news()

    def _take_last_news(self) -> None:
        """Tell what the catalog's feed said while it was closed."""
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if isinstance(item, CatalogNews):
                    self._take(item)

    def _next(self, next_status: float) -> object | None:
        until = next_status
        if self._pipeline is not None:
            until = min(until, self._pipeline.next_timer or until)
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(timeout=max(0.001, until - time.monotonic()))
        return None

    def _take(self, item: object) -> None:
        try:
            self._handle(item)
        except SealrecError as error:
            asked: int | None = getattr(item, "call", None)
            if asked is None:
                raise
            self._refuse(asked, error.code, error.message, error.hint)

    def _handle(self, item: object) -> None:  # noqa: PLR0912 - one case per request
        match item:
            case OpenCamera():
                self._open(item)
            case CloseCamera(call):
                self._close(call)
            case StartRecording():
                self._start(item)
            case StopRecording(call):
                self._stop(call)
            case Pause(call) | Resume(call):
                at_ns = self._opened().pause(paused=isinstance(item, Pause))
                self._reply(call, {"host_ns": at_ns})
            case Mark(call, kind, text):
                self._reply(call, {"host_ns": self._opened().mark(kind, text)})
            case GetStatus(call):
                self._reply(call, self._board.compose(self._pipeline))
            case Trigger(call):
                self._trigger(call)
            case Shutdown() | ControllerGone():
                self._leaving = True
                if self._pipeline is not None:
                    self._pipeline.close()
            case EarlierClosed():
                self._tell_earlier(item)
            case CatalogNews(kind, text, details):
                self._announce(kind, text, details)
            case _:
                if not self._desk.handle(item, self._pipeline) and self._pipeline is not None:
                    self._pipeline.take(item)

    # --- requests -----------------------------------------------------------------------------

    def _opened(self) -> Pipeline:
        if self._pipeline is None:
            raise WrongState("Nothing is being recorded.", hint="Start a recording first.")
        return self._pipeline

    def _open(self, request: OpenCamera) -> None:
        if self._pipeline is not None:
            raise WrongState(
                "A camera is open already; it stays so.", hint="Close it before opening one."
            )
        pipeline = self._begin_pipeline(parse_source(request.config))
        self._open_call = request.call
        pipeline.start()

    def _begin_pipeline(self, config: SourceConfig, recording: Recording | None = None) -> Pipeline:
        pipeline = Pipeline(config, self._inbox.put, self._announce, recording)
        self._rings += 1
        pipeline.serial = self._rings
        self._pipeline = pipeline
        self._board.begin(pipeline)
        return pipeline

    def _reopen(self, call: int, changes: CameraChanges, binning: int) -> None:
        """Close the open camera and open it with other changes; then answer the call."""
        pipeline = self._opened()
        if pipeline.lifecycle.phase is not Phase.READY or self._reopening is not None:
            raise WrongState("The camera is being opened or closed.", hint="Wait for its reply.")
        config, wanted = pipeline.source.config, changes.binning or 1
        size = {
            side: None if asked is None else max(1, asked * binning // wanted)
            for side, asked in (("width", config.width), ("height", config.height))
        }
        config = msgspec.structs.replace(config, **size)
        self._reopening = _Reopening(call, config, pipeline.source.changes.then(changes))
        pipeline.close()

    def _close(self, call: int) -> None:
        if self._pipeline is None:
            self._reply(call, {})
            return
        self._close_calls.append(call)
        self._pipeline.close()

    def _start(self, request: StartRecording) -> None:
        pipeline = self._pipeline
        if pipeline is not None and pipeline.recording is not None:
            raise WrongState(
                "A recording is running already; it goes on.", hint="Stop it before starting one."
            )
        if pipeline is None:
            config = parse_config(request.config)
            recording = self._recording(config)
            self._begin_pipeline(config, recording)
        elif pipeline.lifecycle.phase is Phase.READY:
            config = parse_next(request.config, pipeline.source.config)
            recording = self._recording(config)
        else:
            raise WrongState("The camera is being opened or closed.", hint="Wait for its reply.")
        self._start_call = request.call
        self._earlier = EarlierParts(config, recording.parts.base)
        if pipeline is None:
            self._opened().start()
            return
        try:
            pipeline.begin(recording)
        except SealrecError:
            recording.settle()
            self._start_call = self._earlier = None
            raise
        self._board.begin_recording(recording)

    def _recording(self, config: RecordingConfig) -> Recording:
        recording = Recording(config, self._announce, self._put)
        if self._feed is not None:
            recording.audit_head = self._feed.audit_head
        return recording

    def _stop(self, call: int) -> None:
        if self._pipeline is None or self._pipeline.recording is None:
            if self.last_result is None:
                raise WrongState("Nothing is being recorded.", hint="Start a recording first.")
            self._reply(call, self.last_result)  # it ended by itself just before
            return
        self._stop_calls.append(call)
        self._pipeline.stop()

    def _trigger(self, call: int) -> None:
        if self._pipeline is None or not self._pipeline.trigger():
            raise WrongState("No camera that waits for triggers is open.")
        self._reply(call, {})

    # --- what happens -------------------------------------------------------------------------

    def _announce(self, kind: str, text: str, details: dict[str, Any]) -> None:
        log = logs.logger.warning if kind in WARNINGS else logs.logger.info
        log(kind, text=text)
        self._listener(Event(kind=kind, host_ns=time.perf_counter_ns(), text=text, details=details))
        if kind == "camera_opened" and self._open_call is not None:
            self._reply(self._open_call, details)
            self._open_call = None
        if kind == "camera_opened" and self._reopening is not None:
            call, self._reopening = self._reopening.call, None
            self._opened().ask_camera(call, None)
        if kind == "recording_started" and self._start_call is not None:
            self._reply(self._start_call, details)
            self._start_call = None
        if kind == "recording_started" and self._earlier is not None:
            self._earlier.close_all(self._inbox.put)
            self._earlier = None

    def _tell_earlier(self, item: EarlierClosed) -> None:
        details: dict[str, Any] = {"path": str(item.path)}
        if item.report is None:
            self._announce("recovery_failed", item.text, details)
            return
        report = item.report
        details |= {"state": report.state, "frames": report.frames, "lost_bytes": report.lost_bytes}
        self._announce("part_recovered", item.text, details)
        fact = chronicle.earlier_part(item.path, report.header, report.commitment, report.state)
        if fact is not None:
            self._put(fact)

    def _finish_if_done(self, pipeline: Pipeline) -> None:
        recording = pipeline.recording
        # Of an open camera as soon as its books are closed, else once the workers are gone.
        ready = pipeline.finished or pipeline.lifecycle.phase is not Phase.DONE
        if recording is not None and recording.over and ready:
            self._finish_recording(pipeline, recording)
        if pipeline.finished and pipeline.recording is None:
            self._finish_pipeline(pipeline)

    def _finish_recording(self, pipeline: Pipeline, recording: Recording) -> None:
        assert recording.concluded is not None
        result = self.last_result = pipeline.settle_recording()
        self._earlier = None
        problem = recording.concluded.problem
        if self._start_call is not None:
            call, self._start_call = self._start_call, None
            if problem is not None:
                self._refuse(call, problem.code, problem.message, problem.hint)
            else:
                self._refuse(call, "wrong-state", "The recording was stopped before it began.", "")
        self._announce("recording_stopped", "", result)
        for call in self._stop_calls:
            self._reply(call, result)
        self._stop_calls = []

    def _finish_pipeline(self, pipeline: Pipeline) -> None:
        self._desk.release()
        pipeline.release()
        self._pipeline = None
        problem = pipeline.left_because
        if self._open_call is not None:
            call, self._open_call = self._open_call, None
            if problem is not None:
                self._refuse(call, problem.code, problem.message, problem.hint)
            else:
                self._refuse(call, "wrong-state", "The camera was closed before it was open.", "")
        if pipeline.lifecycle.keep_open:
            details = {"code": problem.code, "hint": problem.hint} if problem else {}
            self._announce("camera_closed", problem.message if problem else "", details)
        self._go_on_reopening(problem)
        for call in self._close_calls:
            self._reply(call, {})
        self._close_calls = []

    def _go_on_reopening(self, problem: Problem | None) -> None:
        """The camera is closed: open it again, if that is what it was closed for."""
        again = self._reopening
        if again is None:
            return
        wanted = not self._leaving and not self._close_calls
        if problem is None and wanted and not again.closed:
            again.closed = True
            pipeline = self._begin_pipeline(again.config)
            pipeline.source.changes = again.changes
            pipeline.start()
            return
        self._reopening = None
        why = problem or Problem("wrong-state", "The camera was closed meanwhile.", "")
        self._refuse(again.call, why.code, why.message, why.hint)

    @property
    def phase(self) -> Phase:
        """Phase of the open camera or the running recording, idle without one."""
        return self._pipeline.lifecycle.phase if self._pipeline else Phase.IDLE

    def _answer(self, call: int, answer: dict[str, Any] | SealrecError) -> None:
        if isinstance(answer, SealrecError):
            self._refuse(call, answer.code, answer.message, answer.hint)
        else:
            self._reply(call, answer)

    def _reply(self, call: int, result: dict[str, Any]) -> None:
        self._listener(Reply(call=call, ok=True, result=result))

    def _refuse(self, call: int, code: str, message: str, hint: str) -> None:
        # A path that was asked for may be as long as a message; the refusal quotes it.
        error = {"code": code, "message": message[:MAX_REFUSAL], "hint": hint[:MAX_REFUSAL]}
        self._listener(Reply(call=call, ok=False, error=error))
