"""Hands events to subscribers, on one thread of the client's own.

The thread that reads the engine only puts into mailboxes, so a subscriber that takes long, waits
for a person or raises holds up no call and no status: at most the other subscribers.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from engine.client.events import Event
from engine.client.mailbox import Mailbox

__all__ = ["Delivery"]

TICK_S = 0.5

Subscriber = Callable[[Any], object]


class Delivery:
    """Subscribers and their thread.

    Args:
        tick: Called about twice a second while no event comes, on that thread.
    """

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._lock = threading.Lock()
        self._subscribers: list[tuple[Subscriber, tuple[type[Event], ...]]] = []
        self._inbox = Mailbox()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start delivering."""
        self._inbox = Mailbox()
        self._thread = threading.Thread(
            target=self._run, args=(self._inbox,), name="sealrec-events", daemon=True
        )
        self._thread.start()

    def subscribe(self, callback: Subscriber, kinds: tuple[type[Event], ...]) -> Callable[[], None]:
        """Call back for each event of some types; returns what ends that."""
        entry = (callback, kinds or (Event,))
        with self._lock:
            self._subscribers.append(entry)

        def unsubscribe() -> None:
            with self._lock:
                # By identity: the same callback may be subscribed twice.
                self._subscribers = [one for one in self._subscribers if one is not entry]

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Pass an event on; returns at once."""
        self._inbox.put(event)

    def close(self, timeout_s: float) -> None:
        """Deliver what waits, for at most so long, and end; also from a subscriber."""
        self._inbox.close()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def _run(self, inbox: Mailbox) -> None:
        while not inbox.ended:
            before = time.monotonic()
            event = inbox.get(TICK_S)
            if event is not None:
                self._deliver(event)
            elif time.monotonic() - before < 2 * TICK_S:
                # Otherwise this very process was held up, and what came meanwhile is not read yet.
                self._tick()

    def _deliver(self, event: Event) -> None:
        with self._lock:
            subscribers = list(self._subscribers)
        for callback, kinds in subscribers:
            if not isinstance(event, kinds):
                continue
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - a controller's mistake must not cost it the next event
                _report(callback)


def _report(callback: Subscriber) -> None:
    import logging

    name = getattr(callback, "__qualname__", type(callback).__name__)
    logging.getLogger("sealrec.client").exception("The subscriber %s raised.", name)
