"""Carries facts to the catalog from a thread of its own, and never holds a recording up.

``put`` takes a lock for an instant and nothing else. What the catalog does not take waits in a
bounded queue, in order, and is written when it is back; when the queue is full, losses and marks
are left out first (files have them, and ``sealrec catalog sync`` brings them in). That the catalog
is behind, and that it is back, is told as news.

Source: CATALOG.md, "The engine's feed".
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from engine.catalog.facts import Fact, FramesLost, Marked
from engine.catalog.place import CatalogPlace
from ipc import logs
from ipc.errors import CatalogError, SealrecError

if TYPE_CHECKING:
    from engine.catalog.store import Catalog

__all__ = ["CatalogFeed", "CatalogNews"]

CAPACITY: Final = 4096
# From here on only what no file can tell is taken.
CROWDED: Final = 3072
BATCH: Final = 64
BEHIND_S: Final = 5.0
PATIENCE_S: Final = 2.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0

_REBUILT_BY_SYNC: Final = (FramesLost, Marked)


@dataclass(frozen=True, slots=True)
class CatalogNews:
    """Something about the catalog that a person should know.

    Attributes:
        kind: ``catalog_behind`` or ``catalog_back``.
        text: For a person.
        details: ``waiting`` facts in the queue; ``missed`` ones that a sync must bring in.
    """

    kind: str
    text: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class _Waiting:
    """A fact, and since when it waits."""

    fact: Fact
    since: float = field(default_factory=time.monotonic)


class CatalogFeed:
    """One catalog's feed; lives as long as the engine.

    Args:
        place: The catalog; nothing of it is opened by this call.
        post: Gets news, from any thread; must not block.
    """

    def __init__(self, place: CatalogPlace, post: Callable[[CatalogNews], object]) -> None:
        self._place, self._post = place, post
        self._facts: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._behind = False
        self._missed = 0
        self._catalog: Catalog | None = None
        self._key = b""
        self._head = ""
        self._thread = threading.Thread(target=self._run, name="catalog", daemon=True)
        self._thread.start()

    def put(self, fact: Fact) -> None:
        """Hand a fact over; never waits."""
        with self._changed:
            waiting = len(self._facts)
            limit = CROWDED if isinstance(fact, _REBUILT_BY_SYNC) else CAPACITY
            if waiting >= limit or self._closing:
                self._missed += 1
                return
            self._facts.append(_Waiting(fact))
            self._changed.notify()

    def look(self) -> None:
        """Notice that the catalog has become slow, even while one call to it hangs; never waits."""
        with self._changed:
            oldest = self._facts[0].since if self._facts else None
        if oldest is not None and time.monotonic() - oldest > BEHIND_S:
            self._fall_behind("it does not answer in time")

    def audit_head(self) -> str:
        """The last row of the audit that this feed has written, ``N:MAC``; empty before."""
        return self._head

    @property
    def waiting(self) -> int:
        """Facts that are not in the catalog yet."""
        with self._changed:
            return len(self._facts)

    def close(self, timeout_s: float) -> int:
        """Write what waits and end the thread.

        Args:
            timeout_s: How long at most; a call that hangs is left to itself.

        Returns:
            How many facts are not in the catalog; `sealrec catalog sync` brings in what files show.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            left = len(self._facts) + self._missed
        if left:
            logs.logger.warning(
                "the catalog lacks what happened last", facts=left, catalog=self._place.shown
            )
        return left

    # --- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        self._probe()
        pause = FIRST_PAUSE_S
        while (batch := self._next()) is not None:
            error = self._write(batch)
            if error is None:
                pause = FIRST_PAUSE_S
                self._written(len(batch))
            elif _is_of_a_fact(error) and len(batch) == 1:
                self._refused(error)
            elif _is_of_a_fact(error):
                self._one_by_one(batch)
            else:
                self._fall_behind(f"{error.message} {error.hint}")
                if self._wait_or_closing(pause):
                    return
                pause = min(2 * pause, LONGEST_PAUSE_S)

    def _probe(self) -> None:
        """Say at once, before the first fact, that the catalog cannot be used."""
        try:
            with self._open().reading():
                pass
            self._read_key()
        except SealrecError as error:
            self._fall_behind(f"{error.message} {error.hint}")
        except ImportError as error:
            self._fall_behind(f"a library of the catalog is missing: {error.name}")

    def _open(self) -> Catalog:
        # Loading a database library takes its time: here, on this thread, not at the top.
        from engine.catalog import store

        if self._catalog is None:
            self._catalog = store.Catalog(self._place, patience_s=PATIENCE_S)
        return self._catalog

    def _read_key(self) -> bytes:
        from engine.catalog import audit

        self._key = self._key or audit.read_key(self._place)
        return self._key

    def _next(self) -> list[Fact] | None:
        """The oldest facts, which stay in the queue until they are written; None at the end."""
        with self._changed:
            while not self._facts:
                if self._closing:
                    return None
                self._changed.wait()
            return [waiting.fact for waiting in list(self._facts)[:BATCH]]

    def _wait_or_closing(self, seconds: float) -> bool:
        """Wait; True if it is time to leave: what is down at the end is not waited for."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closing, seconds)

    def _write(self, facts: list[Fact]) -> SealrecError | None:
        """Write facts in one transaction; the error if none of them was."""
        try:
            from engine.catalog import rows

            with self._open().writing() as connection:
                head = rows.store(connection, self._read_key(), facts)
            self._head = str(head or self._head)
        except SealrecError as error:
            return error
        except ImportError as error:
            return CatalogError(f"A library of the catalog is missing: {error.name}.")
        except (ArithmeticError, ValueError, TypeError) as error:  # a value that no driver sends
            refused = CatalogError(f"A value cannot be stored: {type(error).__name__}.")
            refused.__cause__ = error
            return refused
        return None

    def _one_by_one(self, facts: list[Fact]) -> None:
        """One of them is refused: let the others through."""
        for fact in facts:
            error = self._write([fact])
            if error is None:
                self._written(1)
            elif _is_of_a_fact(error):
                self._refused(error)
            else:
                return  # it is down now; the next turn finds that out

    def _refused(self, error: SealrecError) -> None:
        """Leave out a fact that the database will never take."""
        logs.logger.error("the catalog refused a fact", error=error.message)
        with self._changed:
            self._facts.popleft()
            self._missed += 1

    def _written(self, count: int) -> None:
        with self._changed:
            for _ in range(count):
                self._facts.popleft()
            back = self._behind and not self._facts
            if back:
                self._behind = False
                missed, self._missed = self._missed, 0
        if back:
            self._tell_back(missed)

    def _tell_back(self, missed: int) -> None:
        text = "The catalog has everything again."
        if missed:
            text = (
                f"The catalog is back; {missed} rows could not be kept for it. "
                "`sealrec catalog sync` brings them in from the files."
            )
        self._post(CatalogNews("catalog_back", text, {"missed": missed}))

    def _fall_behind(self, reason: str) -> None:
        with self._changed:
            if self._behind:
                return
            self._behind = True
            waiting = len(self._facts)
        text = f"{reason.rstrip('. ')}. The recording goes on; rows are kept for later."
        self._post(CatalogNews("catalog_behind", text, {"waiting": waiting}))


def _is_of_a_fact(error: SealrecError) -> bool:
    """Whether the database refused what was written, rather than being away."""
    cause = error.__cause__
    if cause is None:
        return False
    from sqlalchemy.exc import DataError, IntegrityError, StatementError

    # A value that cannot even be sent comes as a StatementError itself, or as the driver raises it.
    refused = (DataError, IntegrityError, ArithmeticError, ValueError, TypeError)
    return isinstance(cause, refused) or type(cause) is StatementError
