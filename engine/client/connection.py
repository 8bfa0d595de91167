"""One engine and what it said: calls and their replies, status, events, its end.

A thread reads the engine's pipe and does nothing else, so it never waits for anybody. Every call
and every wait ends: with its outcome, at the caller's deadline, or with the engine. Not imported
before an engine is started, since the wire's libraries are most of the client's weight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from engine.client.events import (
    EngineGone,
    Event,
    FailureReported,
    RecordingStarted,
    RecordingStopped,
    StatusReceived,
    read_event,
)
from engine.client.mailbox import Mailbox, Mailboxes
from engine.client.pending import Pending
from engine.client.process import EngineProcess, ending
from engine.client.values import Result, Started, Status
from ipc import messages
from ipc.channel import Channel, encode
from ipc.errors import (
    ChannelClosed,
    ChannelError,
    ConfigError,
    EngineDied,
    EngineTimeout,
    FrameTooLarge,
    PeerDied,
    ProtocolError,
    SealrecError,
    UnknownVersion,
    from_code,
)

__all__ = ["Connection"]

SILENT_S = 2.0
EXIT_S = 5.0
SETTLE_S = 0.3
GRACE_S = 2.0

T = TypeVar("T")
MALFORMED = (KeyError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class _Gone:
    """The engine's end."""

    exit_code: int | None
    expected: bool
    last_lines: tuple[str, ...]


@dataclass(slots=True)
class _Said:
    """The newest of everything the engine said."""

    heard_at: float = field(default_factory=time.monotonic)
    status: Status | None = None
    started: Started | None = None
    stopped: Result | None = None


class Connection:
    """A running engine.

    Args:
        process: Just started.
        publish: Gets every event, on the reading thread; must not block.

    Attributes:
        pid: The engine's.
        ready: Settled when the engine has greeted.
    """

    def __init__(self, process: EngineProcess, publish: Callable[[Event], None]) -> None:
        self.pid = process.pid
        self.ready: Pending[bool] = Pending("come up", "It is ended; nothing was recorded.")
        self._process, self._publish_on = process, publish
        self._streams = Mailboxes()
        self._lock = threading.Lock()
        self._calls = 0
        self._replies: dict[int, Callable[[messages.Reply], None]] = {}
        self._unsettled: set[Pending[Any]] = set()
        self._conditions: list[tuple[Callable[[], Any], Pending[Any]]] = []
        self._said = _Said()
        self._silence_told = False
        self._leaving = False
        self._death_told = False
        self._gone: _Gone | None = None
        self._ended = threading.Event()
        self._channel: Channel[Any] = Channel(*process.take_pipes(), messages.ToController)
        self._channel.greet("controller", "sealrec client")
        threading.Thread(target=self._read, name="engine-reader", daemon=True).start()

    # --- what it said -------------------------------------------------------------------------

    @property
    def gone(self) -> bool:
        """The engine has ended."""
        return self._gone is not None

    @property
    def started(self) -> Started | None:
        """The newest recording that began."""
        return self._said.started

    @property
    def stopped(self) -> Result | None:
        """Its balance sheet, once it is over."""
        return self._said.stopped

    @property
    def heard(self) -> Status | None:
        """The newest status as it came."""
        return self._said.status

    @property
    def status(self) -> Status:
        """The newest status, or the client's own state if it says nothing of now."""
        said = self._said
        status = said.status or Status()
        if self._gone is not None:
            return replace(status, state="no_engine")
        if said.status is None:
            return replace(status, state="launching")
        if time.monotonic() - said.heard_at > SILENT_S:
            return replace(status, state="engine_silent")
        return status

    def tell_silence(self) -> None:
        """Publish a status if none has come for 2 s; once each time."""
        status = self.status
        if status.state == "engine_silent" and not self._silence_told:
            self._silence_told = True
            self._publish(StatusReceived(kind="status", status=status))

    def _publish(self, event: Event) -> None:
        self._streams.put(event)
        self._publish_on(event)

    def follow(self, mailbox: Mailbox) -> None:
        """Put all events into a mailbox too, and close it after the last one.

        Raises:
            EngineDied, ChannelClosed: there will be none.
        """
        self._streams.add(mailbox)
        if self._gone is not None:
            raise self.died()

    def take_ring(self, call: int, answer: Mapping[str, Any]) -> int:
        """The handle that an answer to `observe` brings; only while that is being read.

        Raises:
            ProtocolError: it brings none.
        """
        return self._process.rings.take(call, answer)

    # --- calls and conditions -----------------------------------------------------------------

    def call(
        self,
        build: Callable[[int], messages.Message],
        read: Callable[[Mapping[str, Any]], T],
        pending: Pending[T],
    ) -> Pending[T]:
        """Send a call; its reply settles ``pending``.

        Raises:
            ConfigError: it holds what cannot be sent; nothing was.
        """

        def replied(reply: messages.Reply) -> None:
            if not reply.ok:
                pending.fail(_error(reply.error or {}))
                return
            try:
                pending.settle(read(reply.result or {}))
            except MALFORMED:
                pending.fail(ProtocolError("The engine's answer cannot be understood."))
            except ProtocolError as error:
                pending.fail(error)

        with self._lock:
            self._calls += 1
            number = self._calls
        message = build(number)
        _require_sendable(message)
        if not self._expect(pending):
            return pending
        self._replies[number] = replied
        pending.when_done(lambda: self._replies.pop(number, None))
        # To a dead engine nothing can be sent; the reader is about to notice.
        self._channel.send_quietly(message)
        return pending

    def when(self, condition: Callable[[], T | None], pending: Pending[T]) -> Pending[T]:
        """Settle ``pending`` with what ``condition`` returns once that is not None.

        It is asked now and after each message, on the reading thread; what it raises fails it.
        """
        if self._expect(pending):
            with self._lock:
                self._conditions.append((condition, pending))
            self._check()
        return pending

    def _expect(self, pending: Pending[Any]) -> bool:
        with self._lock:
            if self._gone is None:
                self._unsettled.add(pending)
        if self._gone is not None:
            pending.fail(self.died())
            return False
        pending.when_done(lambda: self._forget(pending))
        return True

    def _forget(self, pending: Pending[Any]) -> None:
        with self._lock:
            self._unsettled.discard(pending)

    def _check(self) -> None:
        with self._lock:
            self._conditions = [one for one in self._conditions if not one[1].done]
            conditions = list(self._conditions)
        for condition, pending in conditions:
            try:
                value = condition()
            except Exception as error:  # noqa: BLE001 - it is the waiting caller's, and goes there
                pending.fail(error)
                continue
            if value is not None:
                pending.settle(value)

    def died(self) -> SealrecError:
        """The error of whoever still wanted something."""
        gone = self._gone
        if gone is None or gone.expected:
            return ChannelClosed("The recorder was closed.")
        self._death_told = True
        said = f"It last said: {gone.last_lines[-1]}" if gone.last_lines else ""
        return EngineDied(
            f"The engine (pid {self.pid}) {ending(gone.exit_code)}. What was durable stays "
            "durable, and its workers seal what they hold.",
            hint=said,
            pid=self.pid,
            returned=gone.exit_code,
            last_lines=gone.last_lines,
        )

    # --- reading ------------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            while True:
                try:
                    self._take(self._channel.receive())
                except (PeerDied, FrameTooLarge, UnknownVersion):
                    raise
                except ProtocolError as error:
                    self._failed(error.code, error.message)
                self._check()
        except ChannelError as error:
            if not isinstance(error, PeerDied):
                self.ready.fail(error)
                self._failed(error.code, error.message)
        finally:
            self._end()

    def _take(self, message: object) -> None:
        match message:
            case messages.Hello(major=major):
                if major != messages.PROTOCOL_MAJOR:
                    raise UnknownVersion(f"The engine speaks protocol {major}.")
                self.ready.settle(True)
            case messages.Reply(call=call):
                replied = self._replies.pop(call, None)
                if replied is not None:  # otherwise its caller waits no more
                    replied(message)
            case messages.Status(status=raw):
                self._take_status(raw)
            case messages.Event():
                self._take_event(message)
            case messages.Failure(code=code, message=text, hint=hint):
                self.ready.fail(from_code(code, text, hint))
                self._failed(code, f"{text} {hint}".rstrip())

    def _take_status(self, raw: dict[str, Any]) -> None:
        try:
            status = Status.read(raw)
        except MALFORMED as error:
            raise ProtocolError("A status cannot be understood.") from error
        self._said.status, self._said.heard_at = status, time.monotonic()
        self._silence_told = False
        self._publish(StatusReceived(kind="status", status=status))

    def _take_event(self, message: messages.Event) -> None:
        event = read_event(message.kind, message.text, message.host_ns, message.details)
        try:
            if isinstance(event, RecordingStarted):
                self.has_begun(Started(event.path, event.recording_id, event.source))
            elif isinstance(event, RecordingStopped):
                self.has_stopped(event.result)
        except MALFORMED as error:
            raise ProtocolError("An event cannot be understood.") from error
        self._publish(event)

    def has_begun(self, started: Started) -> Started:
        """A recording began, said the event or the reply, whichever came first."""
        known = self._said.started
        if known is None or known.recording_id != started.recording_id:
            self._said.started, self._said.stopped = started, None
        return started

    def has_stopped(self, result: Result) -> Result:
        """A recording is over, said the event or the reply; not that of a refused start."""
        said = self._said
        if said.started is not None and said.started.recording_id == result.recording_id:
            said.stopped = result
            if said.status is not None and said.status.recording_id == result.recording_id:
                said.status = replace(said.status, state="done", phase="done")
        return result

    def _failed(self, code: str, text: str) -> None:
        self._publish(FailureReported(kind="failure", text=text, details={"code": code}))

    # --- the end ------------------------------------------------------------------------------

    def _end(self) -> None:
        self._channel.close(0)
        self._channel.close_read()
        self._process.rings.close()
        code = self._process.wait(EXIT_S)
        lines = self._process.last_lines(SETTLE_S)
        gone = _Gone(code, self._leaving and code == 0, lines)
        with self._lock:
            self._gone = gone
            unsettled, self._conditions = list(self._unsettled), []
        if not self.ready.done:
            unsettled.append(self.ready)
        for pending in unsettled:
            pending.fail(self.died())
        ended = EngineGone(
            kind="engine_gone",
            text="" if gone.expected else f"the engine {ending(code)}",
            pid=self.pid,
            exit_code=code,
            expected=gone.expected,
            last_lines=lines,
        )
        self._publish(ended)
        self._streams.close()
        self._ended.set()
        if code is None:
            self._process.wait(None)

    def leave(self, timeout_s: float) -> None:
        """Have it stop, seal and leave; after the deadline hang up, and it does so by itself.

        Raises:
            EngineTimeout: it is still there a moment after that too; it is named by its pid.
            EngineDied: it did not leave in order, and no call has said so yet.
        """
        self._leaving = True
        self._channel.send_quietly(messages.Shutdown())
        if not self._ended.wait(timeout_s):
            self._channel.close(0)
        if not self._ended.wait(GRACE_S):
            self._streams.close()
            raise EngineTimeout(
                f"The engine (pid {self.pid}) has not left within {timeout_s:g} s.",
                hint="Its pipe is closed: it seals what it has and leaves by itself.",
                pid=self.pid,
            )
        if self._gone is not None and not self._gone.expected and not self._death_told:
            raise self.died()

    def abandon(self) -> None:
        """End it at once; for an engine that was asked for nothing yet."""
        self._leaving = True
        self._death_told = True
        self._process.kill()
        self._ended.wait(EXIT_S)


def _error(error: Mapping[str, str]) -> SealrecError:
    return from_code(
        error.get("code", ""), error.get("message", "It was refused."), error.get("hint", "")
    )


def _require_sendable(message: messages.Message) -> None:
    problem = None
    try:
        encode(message)
    except ProtocolError as error:
        problem = error.message
    # Not from within: the cause may hold a password, and an error is shown to people.
    if problem is not None:
        raise ConfigError(f"The engine cannot be told that. {problem}")
