"""Verifies an open recording in the background, and says in plain words what it found."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import msgspec

from engine.container.recipients import Secret
from engine.reading.verify import verify
from engine.reading.words import BAD, in_words
from engine.review.library import Sessions, Witnessed
from ipc.errors import SealrecError

__all__ = ["Verdict", "Verification"]


class Verdict(msgspec.Struct, frozen=True):
    """What is known so far.

    Attributes:
        done: Share that was checked, 0 to 1.
        level: ``checking``, ``good``, ``limited`` (authentic, and something is missing) or ``bad``.
        headline: In a few words.
        sentences: What was found.
    """

    done: float
    level: str
    headline: str
    sentences: tuple[str, ...] = ()


class _Stopped(Exception):
    """Nobody wants to know any more."""


class Verification:
    """One verification in a thread of its own.

    Args:
        base: Name of part 0.
        secret: What opens it.
        sessions: A catalog that is asked as well.
    """

    def __init__(self, base: Path, secret: Secret, sessions: Sessions | None = None) -> None:
        self._base, self._secret, self._sessions = base, secret, sessions
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._verdict = Verdict(0.0, "checking", "Not checked yet")

    def start(self) -> None:
        """Begin, unless it was stopped already or runs."""
        with self._lock:
            if self._thread is not None or self._stopped.is_set():
                return
            self._thread = threading.Thread(target=self._run, name="verification")
            self._thread.start()

    def stop(self) -> None:
        """End it, finished or not, and let go of the secret."""
        with self._lock:
            self._stopped.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with suppress(AttributeError):
            del self._secret

    def verdict(self) -> Verdict:
        """What is known so far."""
        return self._verdict

    def _run(self) -> None:
        try:
            report = verify(self._base, self._secret, progress=self._tell)
        except _Stopped:
            return
        except SealrecError as error:
            self._verdict = Verdict(1.0, BAD, "Cannot be checked", (str(error),))
            return
        words = in_words(report)
        found = Verdict(1.0, words.level, words.headline, words.sentences)
        if self._sessions is not None:
            found = _with_catalog(found, self._sessions.witnessed(report))
        self._verdict = found

    def _tell(self, done: float) -> None:
        if self._stopped.is_set():
            raise _Stopped
        self._verdict = Verdict(round(min(done, 0.999), 3), "checking", "Checking every byte")


def _with_catalog(found: Verdict, said: Witnessed) -> Verdict:
    if said.differs:
        return Verdict(1.0, BAD, "Not what was sealed", (*said.sentences, *found.sentences))
    return Verdict(1.0, found.level, found.headline, (*found.sentences, *said.sentences))
