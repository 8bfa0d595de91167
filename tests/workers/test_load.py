"""The rule that makes an encoder faster before a frame is lost, and slower when there is room."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.load import MOST_PATIENCE_S, PATIENCE_S, TRIAL_S, LoadControl

SPEEDS = ("faster", "veryfast", "superfast", "ultrafast")
RATE_HZ = 30.0
SLOTS = 90
FRAGMENT_S = 0.8

homes = st.sampled_from(SPEEDS)
rings = st.integers(4, 2000)
rates = st.floats(1, 500)


def control(
    speed: str = "superfast", *, slots: int = SLOTS, rate_hz: float = RATE_HZ
) -> LoadControl:
    """The load of a usual recording."""
    return LoadControl(slots=slots, rate_hz=rate_hz, speeds=SPEEDS, speed=speed)


@settings(deadline=None)
@given(
    homes, rings, rates, st.lists(st.tuples(st.integers(0, 2000), st.floats(0, 20)), max_size=60)
)
def test_one_step_at_a_time_and_never_slower_than_asked(
    home: str, slots: int, rate_hz: float, course: list[tuple[int, float]]
) -> None:
    """Whatever the ring does: neighbouring speeds, none below home, and each one told."""
    load, now, at = control(home, slots=slots, rate_hz=rate_hz), 0.0, SPEEDS.index(home)
    for waiting, later_s in course:
        now += later_s
        wanted = load.observe(waiting, now)
        before, at = at, SPEEDS.index(load.speed)
        assert (wanted is None) == (at == before)
        assert wanted in (None, load.speed)
        assert abs(at - before) <= 1
        assert at >= SPEEDS.index(home)


@settings(deadline=None)
@given(homes, st.lists(st.integers(0, SLOTS), min_size=2, max_size=40))
def test_faster_only_while_the_ring_fills(home: str, course: list[int]) -> None:
    """A ring that drains, or has little in it, never makes the encoder faster."""
    load = control(home)
    for number, (before, waiting) in enumerate(pairwise([course[0], *course])):
        at = SPEEDS.index(load.speed)
        load.observe(waiting, number * FRAGMENT_S)
        if SPEEDS.index(load.speed) > at:
            assert load.overloaded
            assert waiting >= before
            assert waiting > load.high_frames


@settings(deadline=None)
@given(
    slots=st.integers(30, 500),
    rate_hz=st.floats(10, 120),
    start_share=st.floats(0.3, 0.95),
    gain=st.floats(1.15, 1.6),
)
def test_the_first_step_comes_before_the_ring_is_full(
    slots: int, rate_hz: float, start_share: float, gain: float
) -> None:
    """Of a queue whose encoder does too little: overload and step come before a loss."""
    load = control("faster", slots=slots, rate_hz=rate_hz)
    fill = now = 0.0
    while fill < slots:
        capacity = start_share * gain ** SPEEDS.index(load.speed)
        growth = rate_hz * FRAGMENT_S * (1 - capacity)
        if load.observe(int(fill), now) is not None or growth <= 0:
            break
        # The rule sees the ring at fragment starts only: one in which the rest fills is too late.
        if growth > slots - load.high_frames - 1:
            return
        fill, now = max(0.0, fill + growth), now + FRAGMENT_S
    assert fill < slots
    assert load.speed != "faster"
    assert load.overloaded


@settings(deadline=None)
@given(rings, rates)
def test_room_is_less_than_overload(slots: int, rate_hz: float) -> None:
    """Between the two lies a band in which nothing changes, however deep the ring is."""
    load = control(slots=slots, rate_hz=rate_hz)
    assert 1 <= load.low_frames < load.high_frames
    assert load.high_frames <= max(2, 0.5 * rate_hz)


def test_an_overload_steps_up_to_the_fastest_and_stays_told() -> None:
    """One step per fragment; at the fastest it is an overload still."""
    load = control("faster")
    load.observe(0, 0.0)
    steps = [load.observe(20 + 5 * n, n * FRAGMENT_S) for n in range(1, 6)]
    assert steps == ["veryfast", "superfast", "ultrafast", None, None]
    assert load.overloaded


def test_back_after_five_seconds_of_room() -> None:
    """Not before, and home in the end; the overload is over with the first empty ring."""
    load = control("superfast")
    load.observe(0, 0.0)
    assert load.observe(30, 1.0) == "ultrafast"
    assert load.observe(1, 2.0) is None
    assert not load.overloaded
    assert load.observe(1, 2.0 + PATIENCE_S - 0.1) is None
    assert load.observe(14, 2.0 + PATIENCE_S) is None
    assert load.observe(1, 10.0) is None  # the wait begins anew
    assert load.observe(1, 10.0 + PATIENCE_S) == "superfast"
    assert load.observe(0, 1000.0) is None


def test_a_step_back_that_fails_is_tried_later_each_time() -> None:
    """A machine that is just too slow does not swing between two speeds."""
    load = control("superfast")
    now, waits = 0.0, []
    load.observe(0, now)
    for _ in range(9):
        now += 1
        assert load.observe(40, now) == "ultrafast"
        now += 1
        began = now
        while load.observe(0, now) is None:
            now += 0.5
        waits.append(now - began)
    assert waits[:3] == [PATIENCE_S, 2 * PATIENCE_S, 4 * PATIENCE_S]
    assert waits[-1] == MOST_PATIENCE_S
    now += TRIAL_S + 1
    load.observe(0, now)
    assert load.observe(40, now + 1) == "ultrafast"
    load.observe(0, now + 2)
    assert load.observe(0, now + 2 + PATIENCE_S) == "superfast"


def test_frames_that_the_disk_held_up_are_no_overload() -> None:
    """After a stall the ring is full and drains: that needs no other speed."""
    load = control()
    load.observe(0, 0.0)
    load.held_up()
    assert load.observe(80, 20.0) is None
    assert load.observe(60, 20.8) is None
    assert load.observe(61, 21.6) == "ultrafast"  # and yet it fills


def test_an_encoder_without_steps_is_overloaded_all_the_same() -> None:
    """No preset to step to, one slower than all steps, or a step that was refused."""
    for speeds, speed in (((), ""), (SPEEDS, "medium")):
        load = LoadControl(slots=SLOTS, rate_hz=RATE_HZ, speeds=speeds, speed=speed)
        load.observe(0, 0.0)
        assert load.observe(50, 1.0) is None
        assert (load.speed, load.overloaded) == (speed, True)
    load = control()
    load.observe(0, 0.0)
    assert load.observe(50, 1.0) == "ultrafast"
    load.refused("superfast")
    assert load.observe(60, 2.0) is None
    assert (load.speed, load.overloaded) == ("superfast", True)
