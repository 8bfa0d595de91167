"""What the encoder keeps for the next fragment: marks, events, which frames are paused. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.container.tables import Note
from ipc.messages import NoteEvent

__all__ = ["Notes", "Pauses"]


class Notes:
    """Marks and events that no fragment holds yet.

    Attributes:
        serial: Of the newest one taken in: what is durable need not be sent again.
    """

    def __init__(self) -> None:
        self.serial = 0
        self._marks: list[Note] = []
        self._events: list[Note] = []

    def take(self, note: NoteEvent) -> None:
        """Take one of the supervisor's in."""
        self.serial = max(self.serial, note.serial)
        kept = self._marks if note.mark else self._events
        kept.append(Note(note.host_ns, note.kind, note.text))

    def add_event(self, host_ns: int, kind: str, text: str) -> None:
        """Add an event of the encoder's own."""
        self._events.append(Note(host_ns, kind, text))

    def give(self) -> tuple[tuple[Note, ...], tuple[Note, ...]]:
        """Marks and events for a table, once."""
        marks, events = tuple(self._marks), tuple(self._events)
        self._marks, self._events = [], []
        return marks, events


class Pauses:
    """Which frames are named as paused: by their arrival, and never one that was given out before.

    Args:
        edges: ``(host_ns, paused, since_seq)``: each pause and each end of one, in order.
    """

    def __init__(self, edges: Iterable[tuple[int, bool, int]] = ()) -> None:
        self._edges = list(edges)

    def set(self, host_ns: int, *, paused: bool, since_seq: int) -> None:
        """Begin a pause, or end it, for frames from ``since_seq`` on."""
        self._edges.append((host_ns, paused, since_seq))

    def cover(self, host_ns: int, seq: int) -> bool:
        """Whether a frame that arrived then is paused."""
        covered = False
        for at_ns, paused, since_seq in self._edges:
            if at_ns > host_ns or seq < since_seq:
                break
            covered = paused
        return covered
