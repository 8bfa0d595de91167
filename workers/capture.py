"""The capture process: one source, one ring, and the account of what never reached the ring.

    opening -> open -> streaming <-> silent -> ended
         `-- any --> ended on EndStream, on the source's own end, or when the lifeline is lost

The source works in a thread of its own, so that the main thread can tell the supervisor of one that
is silent or hangs inside its SDK: then this process leaves, and another one tries. What becomes of
the frames is in `ring_sink`.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from ipc import logs
from ipc.camera_control import CameraChanges, CameraState
from ipc.errors import CameraError, SealrecError, WrongState
from ipc.lifeline import LIFELINE_LOST, Lifeline, SelfMeasure, WorkerArguments
from ipc.messages import (
    AskCamera,
    BeginStream,
    CameraRefused,
    CameraTold,
    EndStream,
    FireTrigger,
    OpenSource,
    Shutdown,
    SourceHeard,
    SourceOpened,
    SourceSilent,
    StreamEnded,
    ToCapture,
)
from ipc.ring import RingWriter
from ipc.worker import leave, run
from workers.ring_sink import RingSink
from workers.silence import Silence
from workers.sources.source import (
    AdjustableSource,
    SourceInfo,
    SourceSpec,
    TriggeredSource,
    open_source,
)

__all__ = ["main"]

HEARTBEAT_S = 0.2
POLL_S = 0.05  # while the source has to be watched: not yet, or no more, heard
STOP_WAIT_S = 3.0
CLOSE_WAIT_S = 2.0
# How long a source may take to open, beyond what its specification lets it wait.
OPEN_LIMIT_S = 20.0
OPEN_QUIET_S = 2.0  # waiting longer than this is told
# A camera's thread that wants the interpreter gets it from another one within this time.
SWITCH_S = 0.0005


class _Source:
    """The source in a thread of its own: opened, streamed when told to, closed.

    Args:
        spec: What to open.
        stop: Set to end it.
        changed: Called from its thread when it is open and when it is over.

    Attributes:
        info: Once it is open.
        failure: Why it could not be opened.
        reason: Why its stream ended; empty before.
    """

    def __init__(
        self, spec: SourceSpec, stop: threading.Event, changed: Callable[[], object]
    ) -> None:
        self.info: SourceInfo | None = None
        self.failure: Exception | None = None
        self.reason = ""
        self.over = False
        self.sink: RingSink | None = None
        self._source = open_source(spec)
        self._stop = stop
        self._changed = changed
        self._begin = threading.Event()
        self._thread = threading.Thread(target=self._work, name="source", daemon=True)
        self._thread.start()

    def begin(self, sink: RingSink) -> None:
        """Stream into the sink."""
        self.sink = sink
        self._begin.set()

    def trigger(self) -> None:
        """Give a software trigger to a source that takes one."""
        if isinstance(self._source, TriggeredSource):
            self._source.trigger()

    def ask(self, call: int, changes: CameraChanges | None) -> CameraTold | CameraRefused:
        """Change settings, if any are given, and read them back; may hang with the camera's SDK."""
        try:
            state, rate_hz = self._adjusted(changes)
        except SealrecError as error:
            return CameraRefused(call, error.code, error.message, error.hint)
        return CameraTold(call, state, rate_hz)

    def _adjusted(self, changes: CameraChanges | None) -> tuple[CameraState, float]:
        source = self._source
        if not isinstance(source, AdjustableSource):
            raise WrongState("This source has no settings that can be changed.")
        state = source.camera_state() if changes is None else source.adjust(changes)
        info = source.info
        if info is None:
            raise WrongState("The camera is not open.")
        if changes is not None:
            self.info = info
            if self.sink is not None:
                self.sink.settings_changed(info)
        return state, info.rate_hz

    def statistics(self) -> dict[str, Any]:
        """Counts so far."""
        found: dict[str, Any] = msgspec.to_builtins(self._source.statistics())
        return found

    def stop(self, timeout_s: float) -> bool:
        """End it; False if its stream has not ended in time."""
        self._stop.set()
        self._begin.set()
        deadline = time.monotonic() + timeout_s
        while not self.over and time.monotonic() < deadline:
            self._thread.join(0.01)
        return self.over

    def wait_closed(self, timeout_s: float) -> None:
        """Wait for the source to be closed; one that hangs is left to the end of the process."""
        self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            self.info = self._source.open()
            self._changed()
            self._begin.wait()
            if self.sink is not None:
                self._stream(self.sink)
        except Exception as error:  # noqa: BLE001 - of a thread: the main one raises it
            self.failure = error
        self.over = True
        self._changed()
        self._source.close()

    def _stream(self, sink: RingSink) -> None:
        try:
            reason = self._source.run(sink, self._stop)
            self.reason = "limit" if sink.limit_reached else reason
        except SealrecError as error:
            self.reason = f"source_error: {error}"
        except Exception:  # noqa: BLE001 - of a thread: its end is reported, not lost
            logs.logger.exception("source failed")
            self.reason = "source_error: the source failed; see the log"


class _Capture:
    """One run of the process: what the supervisor asked for, and what it hears of the source."""

    def __init__(self, lifeline: Lifeline, arguments: WorkerArguments) -> None:
        self._lifeline = lifeline
        self._ring: RingWriter | None = None
        self._arguments = arguments
        self._source: _Source | None = None
        self._opened = False
        self._open_by = self._tell_by = 0.0
        self._policy = "drop"
        self._stop = threading.Event()
        self._silence: Silence | None = None
        self._lost = ""
        self._asked: queue.SimpleQueue[tuple[_Source, AskCamera]] = queue.SimpleQueue()
        self._asking: threading.Thread | None = None
        self._measure = SelfMeasure()
        self._beat_at = 0.0

    def run(self) -> int:
        """Serve the supervisor until the stream has ended or the lifeline is lost."""
        while True:
            item = self._lifeline.next(self._patience_s())
            if isinstance(item, OpenSource):
                self._open(item)
            elif isinstance(item, BeginStream):
                self._begin(item)
            elif isinstance(item, FireTrigger) and self._source is not None:
                self._source.trigger()
            elif isinstance(item, AskCamera):
                self._ask_camera(item)
            elif isinstance(item, CameraTold | CameraRefused):
                self._answer_camera(item)
            elif isinstance(item, EndStream | Shutdown) or item is LIFELINE_LOST:
                return self._end()
            if self._source is not None and self._watch(self._source):
                return self._end()
            self._beat()

    def _open(self, order: OpenSource) -> None:
        spec = msgspec.convert(order.spec, SourceSpec)
        self._policy = order.policy
        now = time.monotonic()
        self._open_by = now + spec.wait_s + OPEN_LIMIT_S
        self._tell_by = now + OPEN_QUIET_S if spec.wait_s else self._open_by
        self._source = _Source(spec, self._stop, self._lifeline.wake)

    def _begin(self, order: BeginStream) -> None:
        assert self._source is not None
        assert self._source.info is not None
        assert self._arguments.ring is not None
        info = self._source.info
        self._ring = RingWriter.attach(self._arguments.ring)
        sink = RingSink(
            self._ring, info, policy=self._policy, stop=self._stop, max_frames=order.max_frames
        )
        self._silence = Silence(info.silence_limit_s, time.monotonic())
        self._source.begin(sink)

    def _ask_camera(self, order: AskCamera) -> None:
        """Ask in the one thread for it, and let the answer come in like a message."""
        source = self._source
        if source is None or source.info is None:
            answer = CameraRefused(order.call, WrongState.code, "The camera is not open yet.")
            self._lifeline.channel.send_quietly(answer)
            return
        self._asked.put((source, order))
        if self._asking is None:
            self._asking = threading.Thread(target=self._ask, name="settings", daemon=True)
            self._asking.start()

    def _ask(self) -> None:
        while True:
            source, order = self._asked.get()
            try:
                answer = source.ask(order.call, order.changes)
            except Exception:  # noqa: BLE001 - of a thread: its end would leave all calls waiting
                logs.logger.exception("settings failed")
                answer = CameraRefused(order.call, CameraError.code, "The camera's driver failed.")
            self._lifeline.inbox.put(answer)

    def _answer_camera(self, answer: CameraTold | CameraRefused) -> None:
        info = self._source.info if self._source is not None else None
        if self._silence is not None and info is not None:
            self._silence.expect(info.silence_limit_s)
        self._lifeline.channel.send_quietly(answer)

    def _watch(self, source: _Source) -> bool:
        """Look at the source and tell what is new; True once it is over.

        Raises:
            SealrecError: It could not be opened.
        """
        if source.failure is not None:
            raise source.failure
        if source.over:
            return True
        if source.info is None:
            self._watch_opening()
        elif not self._opened:
            self._tell_opened(source.info)
        elif source.sink is not None:
            return self._watch_silence(source.sink)
        return False

    def _watch_opening(self) -> None:
        now = time.monotonic()
        if now > self._open_by:
            raise CameraError("The source does not open; its driver or SDK hangs.")
        if now > self._tell_by:
            self._tell_by = self._open_by  # once
            self._lifeline.channel.send_quietly(SourceSilent(reason="it cannot be opened yet"))

    def _tell_opened(self, info: SourceInfo) -> None:
        self._opened = True
        self._lifeline.channel.send(
            SourceOpened(
                width_px=info.width_px,
                height_px=info.height_px,
                pixel_format=info.pixel_format.value,
                rate_hz=info.rate_hz,
                camera={**info.camera, "clock": info.clock},
                triggered=info.triggered,
                settings=info.settings,
            )
        )

    def _watch_silence(self, sink: RingSink) -> bool:
        assert self._silence is not None  # since begin
        news = self._silence.look(time.monotonic(), sink.signs)
        if news == "heard":
            self._lifeline.channel.send_quietly(SourceHeard())
        elif news == "silent":
            self._lifeline.channel.send_quietly(SourceSilent(reason=self._silence.text))
        elif news == "given up":
            self._lost = f"camera_lost: {self._silence.text}"
            return True
        return False

    def _end(self) -> int:
        """Stop the source, mark the stream's end in the ring, and say so."""
        reason = self._lost or "stopped"
        if self._source is not None:
            ended = self._source.stop(STOP_WAIT_S if self._ring is not None else 0)
            if not self._lost:
                reason = (self._source.reason or reason) if ended else "hung: it did not stop"
        if self._ring is not None:
            self._ring.end_stream(reason)
        self._lifeline.channel.send_quietly(StreamEnded(reason=reason))
        self._lifeline.channel.flush(1.0)
        if self._source is not None and self._opened:
            self._source.wait_closed(CLOSE_WAIT_S)
        return 0

    def _patience_s(self) -> float:
        """How long nothing needs to be looked at: what is sudden comes as an item."""
        watched = self._silence is None or self._silence.expected
        return POLL_S if watched else max(0.0, self._beat_at - time.monotonic())

    def _beat(self) -> None:
        now = time.monotonic()
        if now >= self._beat_at:
            self._beat_at = now + HEARTBEAT_S
            detail = {} if self._source is None else self._source.statistics()
            self._lifeline.channel.send_quietly(self._measure.status(detail))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the capture worker; returns its exit code."""
    sys.setswitchinterval(SWITCH_S)
    return run("capture", ToCapture, lambda *given: _Capture(*given).run(), argv)


if __name__ == "__main__":
    leave(main())
