"""The outcome of something that was asked for and has not come yet.

Settled once, by the thread that reads the engine; waited for by any thread, or told to a callback
(the asyncio face). It has no deadline of its own: whoever waits brings one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from ipc.errors import EngineTimeout

__all__ = ["Pending"]

T = TypeVar("T")

# On Windows a waiting main thread does not hear Ctrl-C before its wait ends.
SLICE_S = 0.5


class Pending(Generic[T]):
    """One outcome.

    Args:
        what: For the message of a deadline: "The engine did not ... in time".
        consequence: What may be the case then, and what can be done.
    """

    def __init__(self, what: str, consequence: str = "") -> None:
        self._what, self._consequence = what, consequence
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._value: T | None = None
        self._error: Exception | None = None
        self._callbacks: list[Callable[[], object]] = []

    def settle(self, value: T) -> None:
        """It came; ignored if it was settled before."""
        self._end(value, None)

    def fail(self, error: Exception) -> None:
        """It will not come; ignored if it was settled before."""
        self._end(None, error)

    def _end(self, value: T | None, error: Exception | None) -> None:
        with self._lock:
            if self._done.is_set():
                return
            self._value, self._error = value, error
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @property
    def done(self) -> bool:
        """Whether it was settled."""
        return self._done.is_set()

    def when_done(self, callback: Callable[[], object]) -> None:
        """Call back once it is settled, on the thread that settles it; at once if it was."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def result(self, timeout_s: float) -> T:
        """Wait for the outcome.

        Raises:
            EngineTimeout: it did not come in time; it is not waited for any more.
            SealrecError: what it failed with.
        """
        until = time.monotonic() + timeout_s
        while not self._done.wait(min(SLICE_S, max(0.0, until - time.monotonic()))):
            if time.monotonic() >= until:
                self.fail(self.overdue(timeout_s))
        return self.outcome()

    def outcome(self) -> T:
        """The outcome, once settled.

        Raises:
            SealrecError: what it failed with.
        """
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]

    def overdue(self, timeout_s: float) -> EngineTimeout:
        """The error of a deadline that has passed."""
        return EngineTimeout(
            f"The engine did not {self._what} within {timeout_s:g} s.", hint=self._consequence
        )
