"""The rings of an engine, one after another, for a live view that follows them.

Each opening of a camera has a ring of its own. The status says which one there is; its memory is
asked for when that is new, and let go of at once when it is gone, whether or not anybody looks: a
ring is large, and the next one needs the room.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.client.events import EngineGone, Event, StatusReceived
from ipc.errors import ChannelClosed, SealrecError
from ipc.ring_observer import RingObserver

if sys.platform == "win32":
    from ipc import winapi

if TYPE_CHECKING:
    from engine.client.connection import Connection
    from engine.client.core import Core, HandedRing
    from engine.client.pending import Pending

__all__ = ["EngineRings"]


class EngineRings:
    """Where a `LiveView` gets its ring from.

    Args:
        core: The client's engine of the moment; it may be closed, and opened again.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._observer: RingObserver | None = None
        self._of: tuple[Connection, int] | None = None
        self._closed = False
        self._unsubscribe = core.delivery.subscribe(self._told, (StatusReceived, EngineGone))
        self._look()

    @contextmanager
    def using(self) -> Iterator[RingObserver | None]:
        """The ring of now, which stays open within; None when there is none."""
        with self._lock:
            yield self._observer

    @property
    def state(self) -> str:
        """``live``, ``no_camera`` or ``no_engine``."""
        if self._core.pid is None:
            return "no_engine"
        return "no_camera" if self._observer is None else "live"

    def raise_if_over(self) -> None:
        """Raise if the engine is gone.

        Raises:
            EngineDied, ChannelClosed: it is.
        """
        connection = self._core.connection
        if connection is None:
            raise ChannelClosed("The recorder was closed.", hint="Open it to see its camera.")
        if connection.gone:
            raise connection.died()

    def close(self) -> None:
        """Let go; never fails, may be called again."""
        self._unsubscribe()
        with self._lock:
            self._closed = True
            self._drop()

    def _told(self, _: Event) -> None:
        self._look()

    def _look(self) -> None:
        """Compare the ring that is looked at with the one that the status names."""
        connection = self._core.connection
        status = connection.heard if connection is not None and not connection.gone else None
        with self._lock:
            if self._closed:
                return
            serial = status.ring.serial if status is not None else 0
            wanted = (connection, serial) if connection is not None and serial else None
            if wanted == self._of:
                return
            self._drop()
            self._of = wanted
        if wanted is not None:
            self._ask(wanted)

    def _ask(self, wanted: tuple[Connection, int]) -> None:
        try:
            pending = self._core.observe()
        except SealrecError:
            self._forget(wanted)
            return
        pending.when_done(lambda: self._handed(pending, wanted))

    def _handed(self, pending: Pending[HandedRing], wanted: tuple[Connection, int]) -> None:
        """A ring was handed over, on the thread that reads the engine: map it, which is quick."""
        try:
            handed = pending.outcome()
        except SealrecError:
            self._forget(wanted)  # the next status asks again
            return
        try:
            observer = RingObserver.of_memory(handed.handle)
        except SealrecError:
            self._forget(wanted)
            return
        finally:
            _close_handle(handed.handle)
        with self._lock:
            if self._closed or self._of != wanted:
                observer.close()
                return
            self._of = (wanted[0], handed.serial)
            self._observer = observer

    def _forget(self, wanted: tuple[Connection, int]) -> None:
        with self._lock:
            if self._of == wanted:
                self._of = None

    def _drop(self) -> None:
        observer, self._observer, self._of = self._observer, None, None
        if observer is not None:
            observer.close()


def _close_handle(handle: int) -> None:
    if sys.platform == "win32":
        winapi.close_handle(handle)
    else:
        os.close(handle)
