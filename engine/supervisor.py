"""The supervisor's loop: one inbox, one thread, one recording at a time.

Requests, workers' messages, exits and timers come through one queue and are handled in order; five
times a second a status goes out. What is decided is in `lifecycle`, what is done in `recording`,
what it looks like to a controller in `server` and to a person in `cli`.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.config import parse_config
from engine.earlier import EarlierClosed, EarlierParts
from engine.lifecycle import Phase
from engine.recording import Recording
from engine.status import StatusBoard
from ipc import logs
from ipc.errors import SealrecError, WrongState
from ipc.messages import (
    Event,
    GetStatus,
    Reply,
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

Outgoing = Reply | Status | Event


@dataclass(frozen=True, slots=True)
class ControllerGone:
    """Nobody commands any more: stop, seal, leave."""


class Supervisor:
    """Runs recordings until it is shut down.

    Args:
        listener: Gets every reply, event and status, on the supervisor's thread; must not block.
    """

    def __init__(self, listener: Callable[[Outgoing], object]) -> None:
        self._listener = listener
        # Reentrant, unlike Queue: a signal handler may put while this thread is in get.
        self._inbox: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._recording: Recording | None = None
        self._board = StatusBoard()
        self._earlier: EarlierParts | None = None
        self._start_call: int | None = None
        self._stop_calls: list[int] = []
        self._leaving = False
        self.last_result: dict[str, Any] | None = None

    def submit(self, request: object) -> None:
        """Hand in a request; from any thread, also from a signal handler."""
        self._inbox.put(request)

    def run(self) -> None:
        """Serve until shut down and everything is sealed."""
        next_status = last_turn = time.monotonic()
        while not (self._leaving and self._recording is None):
            item = self._next(next_status)
            if item is not None:
                self._take(item)
            now = time.monotonic()
            if self._recording is not None:
                self._recording.tick(stalled=now - last_turn > STALLED_S)
                self._finish_if_done()
            last_turn = now
            if now >= next_status:
                next_status = now + STATUS_S
                self._listener(Status(status=self._board.compose(self._recording)))

    def _next(self, next_status: float) -> object | None:
        until = next_status
        if self._recording is not None:
            until = min(until, self._recording.next_timer or until)
        with contextlib.suppress(queue.Empty):
            return self._inbox.get(timeout=max(0.001, until - time.monotonic()))
        return None

    def _take(self, item: object) -> None:
        try:
            match item:
                case StartRecording():
                    self._start(item)
                case StopRecording(call):
                    self._stop(call)
                case GetStatus(call):
                    self._reply(call, self._board.compose(self._recording))
                case Trigger(call):
                    self._trigger(call)
                case Shutdown() | ControllerGone():
                    self._leaving = True
                    if self._recording is not None:
                        self._recording.stop()
                case EarlierClosed():
                    self._tell_earlier(item)
                case _:
                    if self._recording is not None:
                        self._recording.take(item)
        except SealrecError as error:
            asked: int | None = getattr(item, "call", None)
            if asked is None:
                raise
            self._refuse(asked, error.code, error.message, error.hint)

    def _start(self, request: StartRecording) -> None:
        if self._recording is not None:
            raise WrongState(
                "A recording is running already; it goes on.", hint="Stop it before starting one."
            )
        config = parse_config(request.config)
        self._recording = Recording(config, self._inbox.put, self._announce)
        self._earlier = EarlierParts(config, self._recording.parts.base)
        self._board.begin(self._recording)
        self._start_call = request.call
        self._recording.start()

    def _stop(self, call: int) -> None:
        if self._recording is None:
            if self.last_result is None:
                raise WrongState("Nothing is being recorded.", hint="Start a recording first.")
            self._reply(call, self.last_result)  # it ended by itself just before
            return
        self._stop_calls.append(call)
        self._recording.stop()

    def _trigger(self, call: int) -> None:
        if self._recording is None or not self._recording.trigger():
            raise WrongState("No camera that waits for triggers is being recorded.")
        self._reply(call, {})

    def _announce(self, kind: str, text: str, details: dict[str, Any]) -> None:
        log = logs.logger.warning if kind in ("error", "disk_failed") else logs.logger.info
        log(kind, text=text)
        self._listener(Event(kind=kind, host_ns=time.perf_counter_ns(), text=text, details=details))
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

    def _finish_if_done(self) -> None:
        recording = self._recording
        if recording is None or not recording.finished:
            return
        conclusion = recording.concluded
        assert conclusion is not None
        result = self.last_result = recording.settle()
        self._recording = self._earlier = None
        problem = conclusion.problem
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

    @property
    def phase(self) -> Phase:
        """Phase of the running recording, idle if there is none."""
        return self._recording.lifecycle.phase if self._recording else Phase.IDLE

    def _reply(self, call: int, result: dict[str, Any]) -> None:
        self._listener(Reply(call=call, ok=True, result=result))

    def _refuse(self, call: int, code: str, message: str, hint: str) -> None:
        # A path that was asked for may be as long as a message; the refusal quotes it.
        error = {"code": code, "message": message[:MAX_REFUSAL], "hint": hint[:MAX_REFUSAL]}
        self._listener(Reply(call=call, ok=False, error=error))
