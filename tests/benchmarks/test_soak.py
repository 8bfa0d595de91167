"""The soak: its arithmetic with known numbers, and a minute of real work."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measure import ROOT
from benchmarks.soak import Watch, Wish, evaluate, exit_code, unsound, write
from benchmarks.soak_figures import (
    Sample,
    condense,
    figures,
    light_off_s,
    sample,
    series,
    slope_per_hour,
    slopes_count,
    warm_up_s,
)
from ipc.messages import Event, Reply

HOUR_S = 3600
PROCESSES = ("supervisor", "capture", "encoder")
RESULT = {
    "frames_offered": 100,
    "frames_written": 98,
    "lost": {"ring_full": 2},
    "balanced": True,
}
VERIFIED = {"exit_code": 0, "state": "sealed", "frames": 98, "lost": {"ring_full": 2}}


def status(**changes: Any) -> dict[str, Any]:
    """A status as the engine gives it."""
    process = {
        "pid": 1,
        "cpu": 0.5,
        "pss_bytes": 240e6,
        "shared_bytes": 200e6,
        "private_bytes": 30e6,
        "descriptors": 12,
        "threads": 4,
    }
    return {
        "state": "recording",
        "frames": {"offered": 30, "written": 20, "ring_full": 1, "paused": 0, "in_flight": 9},
        "fps_in": 30.0,
        "fps_encoded": 29.0,
        "encode_ms": 9.0,
        "convert_ms": 1.0,
        "ring": {"slots": 90, "fill": 2, "high_water": 5, "not_durable": 20},
        "write_queue": {"bytes": 10, "fragments": 1, "stall_s": 0, "write_s": 0.001, "sync_s": 0.1},
        "durable_bytes": 1000,
        "durable_age_s": 0.4,
        "latency_s": {"p50": 0.4, "p99": 0.9},
        "workers": dict.fromkeys(PROCESSES, process),
        **changes,
    }


def hour(leak_mb: float = 0.0, cpu: float = 0.5) -> list[Sample]:
    """An hour of samples whose private memory grows by so much."""
    found = []
    for second in range(HOUR_S):
        one = sample([(float(second), status())], second - 1.0)
        assert one is not None
        for process in PROCESSES:
            one[f"private_mb.{process}"] = 80 + leak_mb * second / HOUR_S
            one[f"cpu.{process}"] = cpu
        found.append({**one, "t_s": float(second)})
    return found


# --- arithmetic -------------------------------------------------------------------------------


def test_slopes_of_known_lines() -> None:
    """Two units in half an hour are four an hour; a constant and a single point have none."""
    times = [float(t) for t in range(0, 1801, 10)]
    assert slope_per_hour(times, [7 + 2 * t / 1800 for t in times]) == pytest.approx(4)
    assert slope_per_hour(times, [5.0] * len(times)) == pytest.approx(0, abs=1e-9)
    assert slope_per_hour([1.0], [5.0]) == 0
    noisy = [t / 3600 + (0.5 if t % 20 else -0.5) for t in times]
    assert slope_per_hour(times, noisy) == pytest.approx(1, abs=0.05)


def test_a_leak_shows_in_the_figures() -> None:
    """1.5 MB an hour is found as such, whatever the allocators did in the first five minutes."""
    samples = hour(leak_mb=1.5)
    for one in samples[:299]:
        one["private_mb.encoder"] = 500.0
    found = figures(samples, warm_up_s(HOUR_S))
    assert found["encoder"]["private_mb_per_hour"] == pytest.approx(1.5, abs=0.01)
    assert found["encoder"]["cpu"] == 0.5
    assert found["encoder"]["pss_mb"] == 40
    assert found["encoder"]["descriptors_per_hour"] == pytest.approx(0, abs=1e-6)


def test_short_runs_have_a_shorter_warm_up_and_no_judged_slopes() -> None:
    """Five minutes of an hour; a third of a short run and of one that is not in real time."""
    assert warm_up_s(HOUR_S) == 300
    assert warm_up_s(60) == 20
    assert warm_up_s(HOUR_S, fast=True) == 1200
    assert slopes_count(HOUR_S)
    assert slopes_count(900)
    assert not slopes_count(600)
    assert slopes_count(HOUR_S, fast=True)
    assert not slopes_count(1800, fast=True)


def test_a_second_keeps_the_worst_of_its_statuses() -> None:
    """A stall between two looks is not lost, and nor is a light that was off for a moment."""
    slow = status(state="disk_stalled", durable_age_s=3.0)
    slow["write_queue"] = {**slow["write_queue"], "sync_s": 2.0}
    one = sample([(10.2, slow), (10.4, status()), (11.0, status())], 10.0)
    assert one is not None
    assert (one["sync_s"], one["durable_age_s"], one["light"]) == (2.0, 3.0, 0.0)
    assert one["status_gap_s"] == pytest.approx(0.6)
    assert (one["lost"], one["lost.ring_full"], one["written"]) == (1, 1, 20)
    assert (one["pss_mb.capture"], one["private_mb.capture"]) == (40, 30)
    assert sample([(1.0, {"state": "idle"})], 0.0) is None


def test_an_hour_is_condensed_without_hiding_its_worst_second() -> None:
    """Means are means, peaks stay, counters end where they ended."""
    samples = hour()
    samples[1234]["sync_s"] = 9.0
    samples[1235]["light"] = 0.0
    samples[-1]["written"] = 108_000
    short = condense(samples)
    assert len(short) <= 240
    columns = series(short)
    assert max(v for v in columns["sync_s"] if v is not None) == 9.0
    assert columns["light"].count(0.0) == 1
    assert columns["written"][-1] == 108_000
    assert set(columns["fps_in"]) == {30.0}


def test_the_light_counts_once_it_was_on() -> None:
    """Before the first durable fragment it is off by right."""
    lights = [0, 0, 1, 1, 0, 1]
    assert light_off_s([{"light": float(light)} for light in lights]) == 1
    assert light_off_s([{"light": 0.0}] * 3) == 3


# --- judgement --------------------------------------------------------------------------------


def heard(samples: list[Sample], wish: Wish) -> Watch:
    """A watch that saw these seconds and a good end."""
    watch = Watch(wish)
    watch.samples = samples
    watch.hear(Event(kind="recording_stopped", host_ns=1, details=RESULT))
    return watch


WISH = Wish(minutes=60, size="1920x1200", fps=30, codec="h264", decode=False, fast=False)


def test_an_hour_in_budget_is_good_and_short(tmp_path: Path) -> None:
    """Exit code 0, and a record of an hour below 300 kB."""
    found = evaluate(WISH, heard(hour(cpu=0.01), WISH), VERIFIED, 80.0)
    assert exit_code(found) == 0, [f["text"] for f in found["findings"]]
    path = write(found, tmp_path)
    assert path.stat().st_size < 300_000
    assert json.loads(path.read_text()) == json.loads(json.dumps(found))


@pytest.mark.parametrize("fault", [{"leak_mb": 1.2}, {"cpu": 5.0}])
def test_over_budget_fails(fault: dict[str, float]) -> None:
    """A leak of little more than a megabyte an hour fails, and so does a hot processor."""
    found = evaluate(WISH, heard(hour(**{"cpu": 0.01, **fault}), WISH), VERIFIED, 80.0)
    assert exit_code(found) == 1


def test_a_process_that_did_not_report_fails() -> None:
    """Without the supervisor's figures nobody knows what it leaks."""
    samples = [
        {k: v for k, v in one.items() if not k.endswith(".supervisor")} for one in hour(cpu=0.01)
    ]
    assert exit_code(evaluate(WISH, heard(samples, WISH), VERIFIED, 80.0)) == 1


@pytest.mark.parametrize(
    ("result", "verified"),
    [
        (None, {"exit_code": 2}),
        ({**RESULT, "balanced": False}, VERIFIED),
        ({**RESULT, "frames_offered": 101}, VERIFIED),
        (RESULT, {**VERIFIED, "exit_code": 6}),
        (RESULT, {**VERIFIED, "frames": 97}),
        (RESULT, {**VERIFIED, "lost": {}}),
    ],
)
def test_an_account_that_does_not_add_up(
    result: dict[str, Any] | None, verified: dict[str, Any]
) -> None:
    """The engine, the file and the sum must say the same."""
    assert unsound(result, verified)
    assert not unsound(RESULT, VERIFIED)


def test_what_ends_the_wait() -> None:
    """A refusal and a vanished engine end it as well as a result."""
    refused, gone = Watch(WISH), Watch(WISH)
    refused.hear(Reply(call=1, ok=False, error={"code": "disk", "message": "full"}))
    gone.hear(None)
    for watch in (refused, gone, heard([], WISH)):
        assert watch.over.is_set()
    assert "disk" in refused.error
    assert gone.error


# --- the real thing ---------------------------------------------------------------------------


def test_some_real_work(tmp_path: Path) -> None:
    """A real engine is watched second by second; the account, the record and the page are there."""
    options = ["--minutes", "0.4", "--size", "640x400", "--decode", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "benchmarks.soak", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "soak.json").read_text())
    result = found["result"]
    assert result["frames_offered"] == 24 * 30
    assert result["balanced"]
    assert found["verify"]["state"] == "sealed"
    assert found["verify"]["decoded"] == result["frames_written"]
    assert found["unsound"] == []
    assert set(found["processes"]) == set(PROCESSES)
    assert {f["verdict"] for f in found["findings"]} == {"good", "not judged"}
    columns = found["series"]
    assert len(columns["t_s"]) >= 12
    for process in PROCESSES:
        assert min(v for v in columns[f"private_mb.{process}"] if v is not None) > 1
        assert min(v for v in columns[f"descriptors.{process}"] if v is not None) >= 3
    assert columns["latency_p99_s"][-1] > 0
    assert (tmp_path / "soak.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["soak.json", "soak.png"]
