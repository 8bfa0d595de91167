"""The arithmetic of the profile: which step is whose, and the clocks' own bookkeeping."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from benchmarks.probes import PROBES, Probes
from benchmarks.profile_frame import grouped, rest_share


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now_ns = 0

    def perf_counter_ns(self) -> int:
        return 2 * self.now_ns

    def thread_time_ns(self) -> int:
        return self.now_ns


class Work:
    """A step of 1 ms inside one that takes 2 ms more."""

    clock = Clock()

    def inner(self) -> None:
        self.clock.now_ns += 1_000_000

    def outer(self) -> None:
        self.clock.now_ns += 1_000_000
        self.inner()
        self.clock.now_ns += 1_000_000


def test_every_thread_s_time_belongs_to_a_step() -> None:
    """The codec's own threads encode, and what no clock stood around is supervision."""
    own = {"camera": (0.2, 32.0), "clocks": (0.01, 0.01)}  # the benchmark's, not the engine's
    capture = {"source": {"copy": (0.5, 0.6), "ring": (0.1, 0.1), "rest": (0.05, 0.1), **own}}
    encoder = {
        "MainThread": {"convert": (1.5, 1.5), "encode": (2.0, 15.0), "wait": (0.1, 14.0)},
        "native": {"rest": (12.0, 33.0)},
        "disk": {"seal": (0.05, 0.05), "sync": (0.02, 2.0), "write": (0.03, 0.03)},
    }
    steps = grouped(capture, encoder, supervisor_ms=0.3)
    assert steps == pytest.approx(
        {
            "copy": 0.5,
            "ring": 0.2,
            "convert": 1.5,
            "encode": 14.0,
            "mux": 0.0,
            "seal": 0.05,
            "write": 0.05,
            "supervise": 0.35,
        }
    )
    assert rest_share(steps) == pytest.approx(1.15 / 16.65)


def test_a_step_inside_a_step_is_not_counted_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's time is its own: milliseconds a frame, of the processor and by the clock."""
    order = {"folder": str(tmp_path), "first": 1, "last": 30}
    monkeypatch.setenv(PROBES, json.dumps(order))
    monkeypatch.setattr("benchmarks.probes.time", Work.clock)
    probes = Probes("work")

    class Probed(Work):
        pass

    probes.around(Probed, "inner", "inside")
    probes.around(Probed, "outer", "outside", frame=True)
    work = Probed()
    thread = threading.Thread(target=lambda: [work.outer() for _ in range(30)], name="worker")
    thread.start()
    thread.join()
    probes.save()
    found = json.loads((tmp_path / "work.json").read_text())
    steps = found["worker"]
    assert steps["inside"] == [pytest.approx(1), pytest.approx(2)]
    assert steps["outside"] == [pytest.approx(2), pytest.approx(4)]


def test_a_run_that_was_too_short_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a profile would look like a whole one."""
    order = {"folder": str(tmp_path), "first": 1, "last": 30}
    monkeypatch.setenv(PROBES, json.dumps(order))
    probes = Probes("work")

    class Probed(Work):
        pass

    probes.around(Probed, "inner", "inside", frame=True)
    Probed().inner()
    probes.save()
    assert not list(tmp_path.iterdir())


def test_the_clocks_own_time_is_in_no_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a clock costs is a step as well, so neither the steps nor the rest carry it."""
    order = {"folder": str(tmp_path), "first": 1, "last": 2001}
    monkeypatch.setenv(PROBES, json.dumps(order))
    probes = Probes("work")

    class Empty:
        def inner(self) -> None:
            pass

        def outer(self) -> None:
            for _ in range(10):
                self.inner()

    probes.around(Empty, "inner", "inside")
    probes.around(Empty, "outer", "outside", frame=True)
    work = Empty()
    for _ in range(2001):
        work.outer()
    probes.save()
    steps = json.loads((tmp_path / "work.json").read_text())["MainThread"]
    assert steps["clocks"][0] > 0.001  # 11 clocks a frame
    assert steps["outside"][0] < steps["clocks"][0] / 2
