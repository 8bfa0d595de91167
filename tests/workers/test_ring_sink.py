"""The sink between source and ring: epochs, gaps, refusals and limits, against a real ring."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import Ledger, WrittenRun
from ipc.errors import ConfigError
from ipc.frame import Loss, LossClass, PixelFormat
from ipc.ring import Ring, RingReader, RingWriter
from tests.ipc.ring_kit import HEIGHT_PX, SHAPE, WIDTH_PX, small_ring
from workers.ring_sink import RingSink
from workers.sources.source import SourceInfo

RATE_HZ = 100.0
PERIOD_NS = 10_000_000
AWAIT_S = 20


def info(**changes: Any) -> SourceInfo:
    """What a small camera says of itself."""
    size = {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "pixel_format": PixelFormat.MONO8}
    return SourceInfo(**{**size, "rate_hz": RATE_HZ, **changes})


class Bench:
    """A ring, a sink on one side of it and a reader on the other."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.stop = threading.Event()
        self.writer = RingWriter.attach(ring.handles)
        self.reader = RingReader.attach(ring.handles)
        self.reader.resume()
        self.sink = self.new_sink()

    def new_sink(self, **options: Any) -> RingSink:
        """A sink as a new capture process would have it."""
        found = options.pop("info", info())
        return RingSink(self.writer, found, **{"policy": "drop", "stop": self.stop, **options})

    def offer(self, frame_id: int, camera_ns: int | None = None) -> bool:
        """One frame; whether it was taken."""
        camera_ns = frame_id * PERIOD_NS if camera_ns is None else camera_ns
        view = self.sink.acquire(frame_id, camera_ns, **SHAPE)
        if view is None:
            return False
        view[:] = frame_id % 256
        self.sink.publish()
        return True

    def frames(self) -> list[tuple[int, int]]:
        """Epoch and id of all frames in the ring; they are released."""
        found = []
        while (frame := self.reader.read()) is not None:
            assert (frame.pixels == frame.stamp.frame_id % 256).all()
            found.append((frame.stamp.epoch, frame.stamp.frame_id))
            self.reader.release(frame.seq)
        return found

    def losses(self) -> list[tuple[LossClass, int, int | None, int | None]]:
        """Losses logged since the last call, without their times."""
        return [(x.loss_class, x.epoch, x.first_id, x.last_id) for x in self.reader.read_losses()]


@contextmanager
def benched(slots: int = 60) -> Iterator[Bench]:
    """A bench that is cleared up."""
    with small_ring(slots) as ring:
        bench = Bench(ring)
        try:
            yield bench
        finally:
            bench.writer.close()
            bench.reader.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench with a ring of 60 slots."""
    with benched() as made:
        yield made


def restart(bench: Bench) -> None:
    """Kill capture and start another: a writer and a sink that know nothing but the ring."""
    bench.writer.close()
    bench.writer = RingWriter.attach(bench.ring.handles)
    bench.sink = bench.new_sink()


def pause(periods: float) -> None:
    """Let so many frame periods pass on the host's clock."""
    until = time.perf_counter() + periods / RATE_HZ
    while time.perf_counter() < until:
        time.sleep(0.001)


# --- ids and epochs ---------------------------------------------------------------------------


def test_frames_in_order_are_one_epoch_without_losses(bench: Bench) -> None:
    """The camera's first id, whatever it is, begins the count."""
    for frame_id in range(1000, 1010):
        assert bench.offer(frame_id)
    assert bench.frames() == [(1, frame_id) for frame_id in range(1000, 1010)]
    assert bench.losses() == []


def test_skipped_ids_are_a_named_gap(bench: Bench) -> None:
    """Each gap is one row with the ids inclusive, in the epoch of the frames around it."""
    for frame_id in (5, 6, 9, 10, 12):
        bench.offer(frame_id)
    assert bench.losses() == [
        (LossClass.CAMERA_GAP, 1, 7, 8),
        (LossClass.CAMERA_GAP, 1, 11, 11),
    ]
    assert bench.ring.statistics().offered == 8


def test_a_damaged_frame_is_named_and_not_published(bench: Bench) -> None:
    """It takes its place among the ids, so it is no gap as well."""
    bench.offer(0)
    bench.sink.incomplete(1, PERIOD_NS)
    bench.offer(2)
    bench.sink.incomplete(5, 5 * PERIOD_NS)
    assert bench.frames() == [(1, 0), (1, 2)]
    assert bench.losses() == [
        (LossClass.INCOMPLETE, 1, 1, 1),
        (LossClass.CAMERA_GAP, 1, 3, 4),
        (LossClass.INCOMPLETE, 1, 5, 5),
    ]


def test_ids_that_step_back_begin_an_epoch(bench: Bench) -> None:
    """A camera that counts anew is not compared with what it counted before."""
    for camera_ns, frame_id in enumerate((7, 8, 0, 1, 1)):
        bench.offer(frame_id, camera_ns)
    assert bench.frames() == [(1, 7), (1, 8), (2, 0), (2, 1), (3, 1)]
    assert bench.losses() == []


def test_a_clock_that_steps_back_begins_an_epoch_and_keeps_the_ids(bench: Bench) -> None:
    """The offset to the host clock is another one, but a skipped id is still known."""
    bench.offer(1, 500)
    bench.offer(2, 400)
    bench.offer(5, 300)
    assert bench.frames() == [(1, 1), (2, 2), (3, 5)]
    assert bench.losses() == [(LossClass.CAMERA_GAP, 3, 3, 4)]


def test_a_new_capture_begins_an_epoch_and_names_the_time_between(bench: Bench) -> None:
    """Nobody knows the ids of what was missed: one gap without ids, between the two frames."""
    bench.offer(10)
    pause(3)
    restart(bench)
    bench.offer(0)
    assert bench.frames() == [(1, 10), (2, 0)]
    [gap] = bench.reader.read_losses()
    assert (gap.loss_class, gap.epoch, gap.first_id, gap.last_id) == (
        LossClass.CAMERA_GAP,
        2,
        None,
        None,
    )
    assert gap.last_host_ns - gap.first_host_ns >= 3 * PERIOD_NS
    assert gap.frames == 0


def test_a_new_capture_that_misses_nothing_names_nothing(bench: Bench) -> None:
    """Within two frame periods there is no gap."""
    bench.sink = bench.new_sink(info=info(rate_hz=0.01))
    bench.offer(10)
    restart(bench)
    bench.sink = bench.new_sink(info=info(rate_hz=0.01))
    bench.offer(0)
    assert bench.frames() == [(1, 10), (2, 0)]
    assert bench.losses() == []


def test_the_first_capture_of_a_ring_has_no_gap(bench: Bench) -> None:
    """Before the first frame nothing can be missing."""
    pause(3)
    bench.offer(4)
    assert bench.losses() == []


def test_a_silence_of_the_camera_is_a_gap_of_time(bench: Bench) -> None:
    """Ids that go on after a silence say nothing of it: its clock does."""
    bench.sink = bench.new_sink(info=info(silence_limit_s=0.5))
    bench.offer(0, 0)
    bench.offer(1, 400_000_000)
    bench.offer(2, 1_000_000_000)
    assert bench.losses() == [(LossClass.CAMERA_GAP, 1, None, None)]
    bench.offer(5, 2_000_000_000)  # skipped ids tell it by themselves
    assert bench.losses() == [(LossClass.CAMERA_GAP, 1, 3, 4)]


def test_a_camera_that_waits_for_triggers_has_no_silences(bench: Bench) -> None:
    """An hour between two pulses is an hour between two pulses."""
    bench.sink = bench.new_sink(info=info(triggered=True))
    bench.offer(0, 0)
    bench.offer(1, 3600 * 10**9)
    assert bench.losses() == []


def test_ids_that_step_back_leave_a_gap_if_the_cameras_clock_says_so(bench: Bench) -> None:
    """Not if their frame only arrives late: that clock went on by one period."""
    bench.offer(7, 0)
    pause(3)
    bench.offer(0, PERIOD_NS)
    assert bench.losses() == []
    bench.offer(0, 5 * PERIOD_NS)
    assert bench.losses() == [(LossClass.CAMERA_GAP, 3, None, None)]


def test_a_gap_has_the_times_of_the_frames_around_it(bench: Bench) -> None:
    """By the host's clock, as these frames carry it themselves."""
    bench.offer(5)
    bench.offer(9)
    before, after = bench.reader.read(), bench.reader.read()
    [gap] = bench.reader.read_losses()
    assert before is not None
    assert after is not None
    assert (gap.first_host_ns, gap.last_host_ns) == (before.stamp.host_ns, after.stamp.host_ns)


def test_missed_ids_are_named(bench: Bench) -> None:
    """What the source says will not come any more, with or without a frame before it."""
    bench.sink.missed(0, 2)
    bench.offer(3)
    bench.sink.missed(4, 9)
    bench.offer(10)
    assert bench.frames() == [(1, 3), (1, 10)]
    assert bench.losses() == [
        (LossClass.CAMERA_GAP, 1, 0, 2),
        (LossClass.CAMERA_GAP, 1, 4, 9),
    ]


# --- a full ring ------------------------------------------------------------------------------


def test_a_full_ring_refuses_and_names_under_drop() -> None:
    """Each refused frame is one id of class ring_full, and the ids after it are no gap."""
    with benched(slots=4) as bench:
        assert [bench.offer(frame_id) for frame_id in range(7)] == [True] * 4 + [False] * 3
        assert bench.frames() == [(1, n) for n in range(4)]
        assert bench.offer(7)
        named = [n for loss in bench.reader.read_losses() for n in _ids(loss)]
        assert named == [4, 5, 6]
        assert bench.ring.statistics().lost[LossClass.RING_FULL] == 3
        assert bench.ring.statistics().lost[LossClass.CAMERA_GAP] == 0


def _ids(loss: Loss) -> range:
    assert loss.first_id is not None
    assert loss.last_id is not None
    return range(loss.first_id, loss.last_id + 1)


def test_a_full_ring_makes_the_source_wait_under_block() -> None:
    """Nothing is refused: the frame is taken once there is room."""
    with benched(slots=4) as bench:
        bench.sink = bench.new_sink(policy="block")
        source = threading.Thread(target=lambda: [bench.offer(n) for n in range(50)])
        source.start()
        found: list[tuple[int, int]] = []
        deadline = time.monotonic() + AWAIT_S
        while len(found) < 50:
            assert time.monotonic() < deadline
            found += bench.frames()
        source.join()
        assert found == [(1, n) for n in range(50)]
        assert bench.losses() == []


def test_a_wait_for_room_ends_at_stop() -> None:
    """The frame in hand is then named, not forgotten."""
    with benched(slots=4) as bench:
        bench.sink = bench.new_sink(policy="block")
        taken: list[bool] = []
        source = threading.Thread(target=lambda: taken.extend(bench.offer(n) for n in range(5)))
        source.start()
        deadline = time.monotonic() + AWAIT_S
        signs = bench.sink.signs
        while len(taken) < 4 or bench.sink.signs < signs + 2:  # it waits, and shows that it lives
            assert time.monotonic() < deadline
            time.sleep(0.001)
        bench.stop.set()
        source.join()
        assert taken == [True] * 4 + [False]
        assert bench.losses() == [(LossClass.RING_FULL, 1, 4, 4)]


def test_a_frame_too_large_for_the_ring_is_an_error(bench: Bench) -> None:
    """A source that sends other frames than it announced must not write beyond its slot."""
    with pytest.raises(ConfigError):
        bench.sink.acquire(
            0, 0, width_px=WIDTH_PX * 2, height_px=HEIGHT_PX, pixel_format=PixelFormat.MONO8
        )


# --- limits -----------------------------------------------------------------------------------


def test_a_limit_counts_lost_frames_too(bench: Bench) -> None:
    """It ends the source by its stop event; nothing is taken or named after it."""
    bench.sink = bench.new_sink(max_frames=5)
    for frame_id in (0, 1, 4):
        assert bench.offer(frame_id)
    assert bench.sink.limit_reached
    assert bench.stop.is_set()
    assert not bench.offer(5)
    bench.sink.incomplete(6, 6 * PERIOD_NS)
    assert bench.ring.statistics().offered == 5
    assert bench.frames() == [(1, 0), (1, 1), (1, 4)]


def test_no_limit_is_none(bench: Bench) -> None:
    """Without one the source is never stopped from here."""
    for frame_id in range(50):
        bench.offer(frame_id)
    assert not bench.stop.is_set()


# --- the account ------------------------------------------------------------------------------

HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["frame", "frame", "frame", "skip", "damaged", "missed", "back", "clock"]),
        st.integers(1, 4),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(HAPPENINGS, st.integers(2, 8), st.data())
def test_whatever_a_camera_does_the_account_balances(
    happenings: list[tuple[str, int]], slots: int, data: st.DataObject
) -> None:
    """Every id between the first and the last of an epoch is written or lost, exactly once."""
    with benched(slots) as bench:
        ledger = Ledger()
        frame_id, clock_ns = 100, 10**9
        for what, count in happenings:
            clock_ns += PERIOD_NS
            if what == "skip":
                frame_id += count
            elif what == "missed":
                bench.sink.missed(frame_id, frame_id + count - 1)
                frame_id += count
            elif what == "back":
                frame_id = max(0, frame_id - 10 * count)
            elif what == "clock":
                clock_ns -= 50 * count * PERIOD_NS
            if what == "damaged":
                bench.sink.incomplete(frame_id, clock_ns)
            elif what != "missed":
                bench.offer(frame_id, clock_ns)
            frame_id += what != "missed"
            if data.draw(st.booleans()):
                _account(bench, ledger)
        _account(bench, ledger)
        balance = ledger.balance()
        assert balance.balanced, balance.problems
        assert balance.offered == bench.ring.statistics().offered


def _account(bench: Bench, ledger: Ledger) -> None:
    while (frame := bench.reader.read()) is not None:
        stamp = frame.stamp
        ledger.add_written(WrittenRun(frame.seq, frame.seq, stamp.epoch, stamp.frame_id))
        bench.reader.release(frame.seq)
    for loss in bench.reader.read_losses():
        ledger.add_lost(loss)
    bench.reader.commit_losses(bench.reader.loss_cursor)
