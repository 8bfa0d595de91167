"""Which frames are paused, and which marks and events go into the next table."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.container.tables import Note
from ipc.messages import NoteEvent
from workers.notes import Notes, Pauses


def test_a_pause_covers_what_arrives_in_it() -> None:
    """From its time to the time of its end, that one not included."""
    pauses = Pauses()
    pauses.set(100, paused=True, since_seq=0)
    pauses.set(200, paused=False, since_seq=0)
    covered = [pauses.cover(host_ns, 5) for host_ns in (99, 100, 199, 200)]
    assert covered == [False, True, True, False]


def test_what_was_given_out_before_is_not_taken_back() -> None:
    """Frames that were read before the order came stay what they are, whenever they arrived."""
    pauses = Pauses([(100, True, 7)])
    assert [pauses.cover(150, seq) for seq in (6, 7)] == [False, True]
    pauses.set(200, paused=False, since_seq=9)
    assert [pauses.cover(250, seq) for seq in (8, 9)] == [True, False]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 3)), max_size=6), st.data())
def test_a_successor_decides_as_its_predecessor(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """The edges that were told, in one list, say of each frame what they said one by one."""
    edges: list[tuple[int, bool, int]] = []
    host_ns = seq = 0
    one_by_one = Pauses()
    for after_ns, frames in steps:
        host_ns, seq = host_ns + after_ns, seq + frames
        paused = len(edges) % 2 == 0
        one_by_one.set(host_ns, paused=paused, since_seq=seq)
        edges.append((host_ns, paused, seq))
    at = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 20))
    assert Pauses(edges).cover(*at) == one_by_one.cover(*at)


def test_notes_are_given_once_and_count_their_serials() -> None:
    """Marks apart from events; the serial is the supervisor's, the encoder's own have none."""
    notes = Notes()
    notes.take(NoteEvent(host_ns=1, kind="laser_on", text="x", serial=4, mark=True))
    notes.add_event(2, "overload", "y")
    assert notes.give() == ((Note(1, "laser_on", "x"),), (Note(2, "overload", "y"),))
    assert notes.give() == ((), ())
    assert notes.serial == 4
