"""Recordings that are open for review: readers and data keys, in memory, until they are forgotten.

A password or key file is used once and not kept; what stays is the recording's data key, which
background work needs to open the files again. It is forgotten when the reviewer closes the
recording or leaves the page, when nobody has asked for anything for a while, and when the server
ends. Forgotten means that nothing refers to it any more and its readers are closed; Python cannot
promise that the bytes are overwritten, so the process is also forbidden to dump core.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from engine.container.reader import RecordingReader, read_public_header
from engine.container.recipients import DataKeySecret, Secret
from engine.review.fragments import Fragments, Locked
from engine.review.library import Sessions, size_problem
from engine.review.timeline import Timeline
from engine.review.verification import Verification
from ipc.errors import Corrupt
from ipc.osdep import lock_in_memory

__all__ = ["Unlocked", "Vault"]

LEAVE_S: Final = 15.0
"""A reloaded page is back within this time; after it, one that left is gone."""


class Unlocked:
    """One recording that is open.

    Args:
        base: Name of part 0.
        secret: What opens it; not kept.
        sessions: A catalog that is asked whether it is what was sealed.

    Attributes:
        damage: Sentences about what is wrong, of a recording that opened only in part.
        key: Its data key, for background work.
        fragments: Its pictures.
        timeline: What happened when, read in the background.
        verification: Whether it is what was written, checked in the background.

    Raises:
        WrongKey, Corrupt, ConfigError, DiskError: see ``RecordingReader.open``. A damaged
            recording opens as far as it is intact.
    """

    def __init__(self, base: Path, secret: Secret, sessions: Sessions | None = None) -> None:
        self.fragments, self.key, self.damage = _open(base, secret)
        self.base = base
        lock_in_memory(self.key.dek)
        self.timeline = Timeline(base, self.key, salvage=bool(self.damage))
        self.verification = Verification(base, self.key, sessions)

    def start(self) -> None:
        """Begin the background work: first what happened when, then whether it is intact."""
        self.timeline.start(then=self.verification.start)

    def close(self) -> None:
        """End the background work, close the files, let go of the key."""
        self.timeline.stop()
        self.verification.stop()
        self.fragments.close()
        with suppress(AttributeError):
            del self.key


class Vault:
    """All recordings that are open. May be used from any thread.

    Args:
        idle_s: Without a request for so long, a recording is forgotten.
        clock: Seconds that grow.
    """

    def __init__(self, idle_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.idle_s = idle_s
        self._clock = clock
        self._lock = threading.Lock()
        self._open: dict[str, Unlocked] = {}
        self._until: dict[str, float] = {}

    def put(self, recording: str, unlocked: Unlocked) -> None:
        """Keep an opened recording, in place of an earlier opening of it."""
        self.forget(recording)
        with self._lock:
            self._open[recording] = unlocked
            self._until[recording] = self._clock() + self.idle_s
        unlocked.start()

    def use(self, recording: str, *, active: bool = True) -> Unlocked:
        """An open recording; asking for it starts its idle time anew.

        Args:
            recording: Its id in the library.
            active: A person does something with it; False for what a page asks by itself.

        Raises:
            Locked: it is not open.
        """
        with self._lock:
            found = self._open.get(recording)
            if found is None:
                raise Locked
            if active:
                self._until[recording] = self._clock() + self.idle_s
            return found

    def is_open(self, recording: str) -> bool:
        """Whether it is."""
        with self._lock:
            return recording in self._open

    def leave(self, recording: str) -> None:
        """The page that showed it is gone; it is forgotten unless it comes back at once."""
        with self._lock:
            if recording in self._open:
                self._until[recording] = self._clock() + min(LEAVE_S, self.idle_s)

    def forget(self, recording: str) -> None:
        """Close a recording, if it is open."""
        with self._lock:
            found = self._open.pop(recording, None)
            self._until.pop(recording, None)
        if found is not None:
            found.close()

    def forget_idle(self) -> list[str]:
        """Close what nobody has used for too long; returns which."""
        now = self._clock()
        with self._lock:
            idle = [recording for recording, until in self._until.items() if until <= now]
        for recording in idle:
            self.forget(recording)
        return idle

    def forget_all(self) -> None:
        """Close everything."""
        with self._lock:
            everything = list(self._open)
        for recording in everything:
            self.forget(recording)


def _open(base: Path, secret: Secret) -> tuple[Fragments, DataKeySecret, tuple[str, ...]]:
    """Open a recording whole, or else what is intact of it and what is wrong."""
    try:
        recording = RecordingReader.open(base, secret)
        return _played(recording, ())
    except Corrupt as error:
        recording = RecordingReader.open(base, secret, salvage=True)
        if not recording.parts:
            recording.close()
            raise
        damage = [
            size_problem(read_public_header(p.path)) or f"{p.path.name}: {p.error.message}"
            for p in recording.parts
            if p.error
        ]
        return _played(recording, damage or [error.message])


def _played(
    recording: RecordingReader, damage: Sequence[str]
) -> tuple[Fragments, DataKeySecret, tuple[str, ...]]:
    try:
        key = recording.parts[0].data_key()
        return Fragments(recording), key, (*damage, *recording.problems)
    except BaseException:
        recording.close()
        raise
