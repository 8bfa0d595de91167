"""Slows down who guesses keys: one attempt at a time, and after each wrong one a longer wait.

Global rather than per recording or per browser: whoever got in has one row of guesses for all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from ipc.errors import SealrecError, WrongKey

__all__ = ["Attempts", "TooManyAttempts"]

FREE: Final = 2
"""Wrong keys that cost no wait: everybody mistypes."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 60.0


class TooManyAttempts(SealrecError):
    """A key was tried too soon after wrong ones; it was not looked at.

    Attributes:
        wait_s: When to try again.
    """

    code = "too-many-attempts"

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"Too many wrong keys. Try again in {max(1, round(wait_s))} s.")
        self.wait_s = wait_s


class Attempts:
    """Counts wrong keys.

    Args:
        clock: Seconds that grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._wrong = 0
        self._until = 0.0

    @contextmanager
    def one(self) -> Iterator[None]:
        """One attempt; a ``WrongKey`` in it counts as wrong, an end without any as right.

        Raises:
            TooManyAttempts: another attempt is under way, or the wait is not over.
        """
        if not self._lock.acquire(blocking=False):
            raise TooManyAttempts(FIRST_WAIT_S)
        try:
            left_s = self._until - self._clock()
            if left_s > 0:
                raise TooManyAttempts(left_s)
            try:
                yield
            except WrongKey:
                self._wrong += 1
                self._until = self._clock() + self._wait_s()
                raise
            self._wrong = 0
        finally:
            self._lock.release()

    def _wait_s(self) -> float:
        beyond = self._wrong - FREE
        return 0.0 if beyond <= 0 else min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(beyond, 10))
