"""Latency from arrival to durable: known numbers, and memory that does not grow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.latency import NEWEST_FRAGMENTS, Latencies

S = 10**9


def test_no_fragment_has_no_latency() -> None:
    """Before the first frame is durable there is nothing to say."""
    latencies = Latencies()
    latencies.add(0, first_host_ns=0, last_host_ns=0, durable_ns=S)
    assert latencies.percentiles() is None
    assert latencies.newest() is None


def test_frames_of_a_fragment_are_evenly_spaced() -> None:
    """The first frame of a fragment waits for the last: half of them wait for half of it."""
    latencies = Latencies()
    latencies.add(101, first_host_ns=5 * S, last_host_ns=6 * S, durable_ns=7 * S)
    found = latencies.percentiles()
    assert found is not None
    assert found["p50"] == pytest.approx(1.5, rel=0.005)
    assert found["p99"] == pytest.approx(1.99, rel=0.01)


def test_one_frame() -> None:
    """A fragment of one frame has one latency, also one below the scale."""
    latencies = Latencies()
    latencies.add(1, first_host_ns=S, last_host_ns=S, durable_ns=S)
    assert latencies.percentiles() == {"p50": 0.0001, "p99": 0.0001}


def test_the_newest_forget_what_is_over() -> None:
    """A slow minute shows for as long as it lasts, and in the whole recording for ever."""
    latencies = Latencies()
    for _ in range(NEWEST_FRAGMENTS):
        latencies.add(10, first_host_ns=0, last_host_ns=0, durable_ns=30 * S)
    for _ in range(NEWEST_FRAGMENTS):
        latencies.add(10, first_host_ns=0, last_host_ns=0, durable_ns=S)
    newest, whole = latencies.newest(), latencies.percentiles()
    assert newest is not None
    assert whole is not None
    assert newest["p99"] == pytest.approx(1, rel=0.005)
    assert whole["p99"] == pytest.approx(30, rel=0.005)


@settings(deadline=None)
@given(st.lists(st.integers(min_value=1, max_value=100_000), min_size=1, max_size=60))
def test_percentiles_are_those_of_the_sorted_values(milliseconds: list[int]) -> None:
    """Within the width of a bin, whatever was counted."""
    latencies = Latencies()
    for value in milliseconds:
        latencies.add(1, first_host_ns=0, last_host_ns=0, durable_ns=value * 1_000_000)
    found = latencies.percentiles()
    assert found is not None
    order = sorted(milliseconds)
    for name, share in (("p50", 0.5), ("p99", 0.99)):
        exact = order[-(-int(share * 100) * len(order) // 100) - 1] / 1e3
        assert found[name] == pytest.approx(exact, rel=0.005, abs=1e-4)


def test_a_day_takes_no_more_memory_than_a_minute() -> None:
    """There are as many bins as there are different latencies, and no more."""
    latencies = Latencies()
    for number in range(20_000):
        latencies.add(2, first_host_ns=0, last_host_ns=0, durable_ns=S // 10 + number * 50_000)
    assert len(latencies._whole) < 1000
    assert len(latencies._newest) == NEWEST_FRAGMENTS
