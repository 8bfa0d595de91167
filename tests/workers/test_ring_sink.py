"""What the capture process makes of a source's ids and times: epochs, gaps and losses, by name."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from ipc.frame import Loss, LossClass, PixelFormat
from ipc.ring import Ring, RingReader, RingWriter
from workers.ring_sink import RingSink
from workers.sources.source import SourceInfo

PERIOD_NS = 10_000_000
SIZE = (8, 4)
FREE = SourceInfo(*SIZE, PixelFormat.MONO8, 1e9 / PERIOD_NS, silence_limit_s=1.0)
TRIGGERED = SourceInfo(*SIZE, PixelFormat.MONO8, 1e9 / PERIOD_NS, triggered=True)


class Tape:
    """A ring with its reader, and the sinks of one capture process after another."""

    def __init__(self, ring: Ring) -> None:
        self._ring = ring
        self.reader = RingReader.attach(ring.handles)
        self.reader.resume()
        self.writer = RingWriter.attach(ring.handles)
        self.sink = self.new_sink()

    def new_sink(self, info: SourceInfo = FREE, limit: int | None = None) -> RingSink:
        """The sink of a new stream."""
        stop = threading.Event()
        self.sink = RingSink(self.writer, info, policy="drop", stop=stop, max_frames=limit)
        return self.sink

    def restart(self) -> None:
        """A new capture process takes over."""
        self.writer.close()
        self.writer = RingWriter.attach(self._ring.handles)
        self.new_sink()

    def put(self, frame_id: int, camera_ns: int) -> bool:
        """One frame; False if there was no room."""
        view = self.sink.acquire(
            frame_id, camera_ns, width_px=8, height_px=4, pixel_format=PixelFormat.MONO8
        )
        if view is None:
            return False
        view[:] = frame_id % 256
        self.sink.publish()
        return True

    def frames(self) -> list[tuple[int, int]]:
        """Epoch and id of each frame since the last call."""
        found = []
        while (frame := self.reader.read()) is not None:
            found.append((frame.stamp.epoch, frame.stamp.frame_id))
            self.reader.release(frame.seq)
        return found

    def losses(self) -> list[Loss]:
        """Losses since the last call."""
        return self.reader.read_losses()

    def close(self) -> None:
        self.writer.close()
        self.reader.close()


@pytest.fixture
def tape() -> Iterator[Tape]:
    ring = Ring.reserve()
    ring.allocate(slots=16, slot_bytes=32)
    made = Tape(ring)
    yield made
    made.close()
    ring.close()


def named(losses: list[Loss]) -> list[tuple[str, int, int | None, int | None]]:
    return [(loss.loss_class.label, loss.epoch, loss.first_id, loss.last_id) for loss in losses]


def test_ids_that_were_skipped_are_named_with_the_times_around_them(tape: Tape) -> None:
    """The range is exact, the times are those of its neighbours."""
    tape.put(5, PERIOD_NS)
    tape.put(9, 5 * PERIOD_NS)
    before, after = tape.reader.read(), tape.reader.read()
    [loss] = tape.losses()
    assert named([loss]) == [("camera_gap", 1, 6, 8)]
    assert before is not None
    assert after is not None
    assert (loss.first_host_ns, loss.last_host_ns) == (before.stamp.host_ns, after.stamp.host_ns)


def test_a_silence_by_the_cameras_clock_is_a_gap_of_its_own(tape: Tape) -> None:
    """The ids go on, a second and more is missing: a gap without ids, in the same epoch."""
    tape.put(0, 0)
    tape.put(1, 1_000_000_000)
    assert tape.losses() == []
    tape.put(2, 2_000_000_001)
    assert named(tape.losses()) == [("camera_gap", 1, None, None)]
    assert tape.frames() == [(1, 0), (1, 1), (1, 2)]


def test_skipped_ids_tell_of_their_time_by_themselves(tape: Tape) -> None:
    """No second gap for the same silence."""
    tape.put(0, 0)
    tape.put(500, 500 * PERIOD_NS)
    assert named(tape.losses()) == [("camera_gap", 1, 1, 499)]


def test_a_camera_that_waits_for_triggers_has_no_silences(tape: Tape) -> None:
    """An hour between two pulses is an hour between two pulses."""
    tape.new_sink(TRIGGERED)
    tape.put(0, 0)
    tape.put(1, 3600 * 10**9)
    assert tape.losses() == []


def test_ids_that_begin_again_are_a_new_epoch(tape: Tape) -> None:
    """With a clock that goes on nothing is missing, however late the frame arrives."""
    for n in range(3):
        tape.put(n, n * PERIOD_NS)
    tape.put(0, 3 * PERIOD_NS)
    assert tape.frames() == [(1, 0), (1, 1), (1, 2), (2, 0)]
    assert tape.losses() == []


def test_ids_that_begin_again_after_a_while_leave_a_gap(tape: Tape) -> None:
    """The camera's clock says that frames are missing; nobody knows their ids."""
    tape.put(0, 0)
    tape.put(0, 3 * PERIOD_NS)
    assert named(tape.losses()) == [("camera_gap", 2, None, None)]


def test_a_clock_that_begins_again_is_a_new_epoch_with_ids_that_go_on(tape: Tape) -> None:
    """A gap in the ids is still known."""
    tape.put(0, 5 * PERIOD_NS)
    tape.put(1, 0)
    tape.put(2, PERIOD_NS)
    tape.put(5, 0)
    assert tape.frames() == [(1, 0), (2, 1), (2, 2), (3, 5)]
    assert named(tape.losses()) == [("camera_gap", 3, 3, 4)]


def test_damaged_frames_are_named_and_break_no_row_of_ids(tape: Tape) -> None:
    """They are lost in a class of their own."""
    tape.put(0, 0)
    tape.sink.incomplete(1, 1)
    tape.put(2, 2 * PERIOD_NS)
    assert named(tape.losses()) == [("incomplete", 1, 1, 1)]


def test_a_full_ring_refuses_and_names(tape: Tape) -> None:
    """With the policy drop the newest frames are lost, each by its id."""
    taken = [tape.put(n, n * PERIOD_NS) for n in range(18)]
    assert taken == [True] * 16 + [False] * 2
    assert named(tape.losses()) == [("ring_full", 1, 16, 16), ("ring_full", 1, 17, 17)]


def test_a_successor_begins_an_epoch_and_leaves_one_gap(tape: Tape) -> None:
    """From the last frame of the dead one to its own first, whatever ids come."""
    tape.put(7, 7 * PERIOD_NS)
    threading.Event().wait(3 * PERIOD_NS / 1e9)  # as long as a process takes to come, and more
    tape.restart()
    tape.put(0, 100 * PERIOD_NS)
    tape.put(1, 101 * PERIOD_NS)
    assert tape.frames() == [(1, 7), (2, 0), (2, 1)]
    [gap] = tape.losses()
    assert (gap.loss_class, gap.epoch, gap.frames) == (LossClass.CAMERA_GAP, 2, 0)
    assert gap.last_host_ns - gap.first_host_ns > 2 * PERIOD_NS


def test_the_limit_counts_lost_frames(tape: Tape) -> None:
    """Ten are offered: written, skipped and damaged ones."""
    sink = tape.new_sink(limit=10)
    for frame_id in (0, 1, 4, 5):
        tape.put(frame_id, frame_id * PERIOD_NS)
    tape.sink.incomplete(6, 6 * PERIOD_NS)
    for frame_id in (7, 8, 9, 10, 11):
        tape.put(frame_id, frame_id * PERIOD_NS)
    assert sink.limit_reached
    assert [id_ for _, id_ in tape.frames()] == [0, 1, 4, 5, 7, 8, 9]


def test_each_frame_is_a_sign_of_life(tape: Tape) -> None:
    """Also a damaged one, and one for which there is no room."""
    signs = [tape.sink.signs]
    for n in range(17):
        tape.put(n, n * PERIOD_NS)
        signs.append(tape.sink.signs)
    tape.sink.incomplete(17, 17 * PERIOD_NS)
    signs.append(tape.sink.signs)
    assert signs == sorted(set(signs))
