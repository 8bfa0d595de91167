"""Events between the thread that reads the engine and those that take their time.

A mailbox is bounded as the engine's own outbox is (PROTOCOL.md, "Back-pressure"): of statuses the
newest waits, further events than `MAX_EVENTS` are counted and told in one `EventsDropped`. What
ends a recording or the engine is never dropped.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType

from engine.client.events import (
    EngineGone,
    Event,
    EventsDropped,
    RecordingStopped,
    StatusReceived,
)
from ipc.errors import ChannelClosed, EngineTimeout

__all__ = ["EventStream", "Mailbox", "Mailboxes"]

MAX_EVENTS = 4096
KEPT = (RecordingStopped, EngineGone)
SLICE_S = 0.5  # Ctrl-C on Windows, see pending.py


class Mailbox:
    """Events that wait for one reader.

    Args:
        kinds: Types of events to take; none: all.
        on_arrival: Called after each event and at the end, on the thread that brings it.
    """

    def __init__(
        self, kinds: tuple[type[Event], ...] = (), on_arrival: Callable[[], None] | None = None
    ) -> None:
        self._kinds = kinds or (Event,)
        self._on_arrival = on_arrival
        self._waiting: deque[Event] = deque()
        self._dropped = 0
        self._closed = False
        self._state = threading.Condition()

    def put(self, event: Event) -> None:
        """Add an event; returns at once."""
        if not isinstance(event, self._kinds):
            return
        with self._state:
            if self._closed:
                return
            self._add(event)
            self._state.notify_all()
        if self._on_arrival is not None:
            self._on_arrival()

    def _add(self, event: Event) -> None:
        if isinstance(event, StatusReceived):
            for at, waiting in enumerate(self._waiting):
                if isinstance(waiting, StatusReceived):
                    self._waiting[at] = event
                    return
        elif len(self._waiting) >= MAX_EVENTS and not isinstance(event, KEPT):
            self._dropped += 1
            return
        self._waiting.append(event)

    def take(self) -> Event | None:
        """The next event, or None if none waits."""
        with self._state:
            return self._next()

    def get(self, timeout_s: float) -> Event | None:
        """Wait for the next event; None if none came in time, or none will."""
        with self._state:
            self._state.wait_for(lambda: self._waiting or self._dropped or self._closed, timeout_s)
            return self._next()

    def _next(self) -> Event | None:
        if self._waiting:
            return self._waiting.popleft()
        if not self._dropped:
            return None
        count, self._dropped = self._dropped, 0
        text = f"{count} events were not read in time"
        return EventsDropped(kind="events_dropped", text=text, details={"count": count})

    def close(self) -> None:
        """Take no more; what waits can still be read."""
        with self._state:
            self._closed = True
            self._state.notify_all()
        if self._on_arrival is not None:
            self._on_arrival()

    @property
    def ended(self) -> bool:
        """Closed, and all is read."""
        with self._state:
            return self._closed and not self._waiting and not self._dropped


class Mailboxes:
    """All mailboxes of one engine's events; one that nobody holds any more is forgotten."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: weakref.WeakSet[Mailbox] = weakref.WeakSet()
        self._closed = False

    def add(self, mailbox: Mailbox) -> None:
        """Put events into this one too, until they end."""
        with self._lock:
            self._open.add(mailbox)
            closed = self._closed
        if closed:
            mailbox.close()

    def put(self, event: Event) -> None:
        """Add an event to all; returns at once."""
        for mailbox in self._snapshot():
            mailbox.put(event)

    def close(self) -> None:
        """There are no more events."""
        self._closed = True
        for mailbox in self._snapshot():
            mailbox.close()

    def _snapshot(self) -> list[Mailbox]:
        with self._lock:
            return list(self._open)


class EventStream:
    """Events of one engine as an iterator, from the moment it is made until the engine is gone.

    Close it, or use it in a ``with``, when it is not read any more.
    """

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while (event := self._mailbox.get(SLICE_S)) is None:
            if self._mailbox.ended:
                raise StopIteration
        return event

    def read(self, timeout_s: float) -> Event:
        """Wait for the next event.

        Raises:
            EngineTimeout: none came in time.
            ChannelClosed: none will come: the engine is gone, or the stream was closed.
        """
        until = time.monotonic() + timeout_s
        while (event := self._mailbox.get(min(SLICE_S, until - time.monotonic()))) is None:
            if self._mailbox.ended:
                raise ChannelClosed("No more events will come.", hint="Its engine is gone.")
            if time.monotonic() >= until:
                raise EngineTimeout(f"No such event came within {timeout_s:g} s.")
        return event

    def read_nowait(self) -> Event | None:
        """The next event, or None if none waits."""
        return self._mailbox.take()

    def close(self) -> None:
        """Take no more events; ends an iteration that waits in another thread."""
        self._mailbox.close()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
