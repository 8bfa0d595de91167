"""The kill rounds: their plans, their judgement with known numbers, and five real rounds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.fault_evidence import Evidence
from benchmarks.fault_plan import KINDS, MANNERS, PHASES, Plan, plan, seeds
from benchmarks.fault_round import FPS, Course
from benchmarks.fault_table import Row, describe, markdown, record, summary
from benchmarks.fault_verdict import judge
from benchmarks.measure import RESULTS, ROOT
from benchmarks.processes import Victim, end_all, family, wait_gone
from engine.reading.verify import VerifyReport

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfds and SIGSTOP")

S = 10**9
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


# --- plans ------------------------------------------------------------------------------------


def test_a_seed_makes_the_same_round_again() -> None:
    """Also when it is asked for alone, or among rounds of its kind only."""
    chosen = seeds(4711, 50)
    assert chosen == list(range(4711, 4761))
    for seed in chosen:
        assert plan(seed) == plan(seed)
    encoder = seeds(4711, 5, ["encoder"])
    assert [plan(seed).kind for seed in encoder] == ["encoder"] * 5


def test_rounds_cover_everything() -> None:
    """Every kind, manner and phase, also a pair hit one after the other."""
    plans = [plan(seed) for seed in range(2000)]
    assert {p.kind for p in plans} == set(KINDS)
    assert {(p.manner, p.phase) for p in plans} == {(m, p) for m in MANNERS for p in PHASES}
    assert any(p.stagger_s for p in plans)
    assert all(len(p.victims) == 2 for p in plans if p.stagger_s)
    assert all((p.hold_s > 0) == (p.manner == "stop+kill") for p in plans)
    assert {p.victims for p in plans if p.kind == "all"} == {
        ("capture", "encoder", "supervisor", "controller")
    }


@pytest.mark.parametrize("kinds", [["camera"], []])
def test_an_unknown_kind_is_refused(kinds: list[str]) -> None:
    """Instead of searching for ever."""
    with pytest.raises(ValueError, match="unknown kinds"):
        seeds(1, 1, kinds)


# --- judgement --------------------------------------------------------------------------------


def round_of(kind: str, phase: str = "recording") -> Plan:
    """A plan of one kind."""
    return replace(plan(1), kind=kind, phase=phase, manner="kill")


def status(written: int = 100, fill: int = 0, fragments: int = 0, waiting: int = 20) -> Any:
    """What of a status is looked at."""
    return {
        "frames": {"written": written, "offered": written + waiting},
        "ring": {"fill": fill, "slots": 180, "not_durable": waiting},
        "write_queue": {"fragments": fragments},
    }


def course(plan_: Plan, *, hit_s: float = 10.0, shown: Any = None, **changes: Any) -> Course:
    """Recording from second 1; everybody in the plan is hit at ``hit_s``; stopped in second 14."""
    at = dict.fromkeys(plan_.victims, int(hit_s * S))
    lines = [{"type": "status", "at": int((hit_s - 0.1) * S), "status": shown or status()}]
    alive = not plan_.hits("supervisor") and not plan_.hits("controller")
    stopped_at = 14 * S if alive else None
    result = {"frames_written": 360, "lost": {}, "gaps": plan_.hits("capture"), "balanced": True}
    if alive:
        lines.append({**lines[0], "at": int(13.9 * S)})
        event = {"type": "event", "kind": "recording_stopped", "at": 15 * S, "details": result}
        lines.append(event)
    fields = {"started_at": 1 * S, "stopped_at": stopped_at, "lines": lines, **changes}
    return Course(hit_at=at, killed_at=dict(at), **fields)


def evidence(last_s: float, **changes: Any) -> Evidence:
    """A good file whose last frame came then."""
    report = VerifyReport(
        state="sealed",
        frames=changes.pop("frames", 360),
        duration_s=12.0,
        lost=changes.pop("lost", {}),
        balanced=changes.pop("balanced", True),
        complete=True,
        parts=(),
    )
    return Evidence(report=report, first_host_ns=S, last_host_ns=int(last_s * S), **changes)


def test_everything_killed_may_cost_a_second_and_the_backlog() -> None:
    """0.9 s are within the promise, 1.5 s are not, unless the status showed that much waiting."""
    wish = round_of("all")
    good = judge(wish, course(wish), evidence(10 - 0.9))
    assert good.problems == ()
    assert good.loss_s == pytest.approx(0.9 - 1 / FPS, abs=0.001)
    assert good.loss_frames == 26
    assert judge(wish, course(wish), evidence(10 - 1.5)).over_bound
    waiting = course(wish, shown=status(fill=20))
    assert judge(wish, waiting, evidence(10 - 1.5)).problems == ()
    assert judge(wish, waiting, evidence(10 - 2.5)).over_bound
    queued = course(wish, shown=status(fragments=2))
    assert judge(wish, queued, evidence(10 - 2.5)).problems == ()


def test_without_a_frame_in_the_file_the_loss_counts_from_the_start() -> None:
    """A recording killed at once may be empty, one of three seconds may not."""
    wish = round_of("all")
    empty = Evidence()
    assert judge(wish, course(wish, hit_s=1.8, lines=[]), empty).problems == ()
    assert judge(wish, course(wish, hit_s=4.0, lines=[]), empty).over_bound
    assert judge(wish, course(wish, lines=[], started_at=None), empty).problems == ()


def test_a_dead_encoder_may_cost_nothing_that_fits_the_ring() -> None:
    """Neither named frames nor the end, except what no ring of that size could keep."""
    wish = round_of("encoder")
    assert judge(wish, course(wish), evidence(14)).problems == ()
    lost = {"encoder_lost": 3}
    done = course(wish)
    done.lines[-1]["details"]["lost"] = lost
    found = judge(wish, done, evidence(14, lost=dict(lost)))
    assert found.over_bound
    assert found.loss_frames == 3
    assert judge(wish, course(wish), evidence(13)).over_bound
    full = course(wish, shown=status(waiting=180))
    full.lines[-1]["details"]["lost"] = lost
    excused = judge(wish, full, evidence(14, lost=dict(lost)))
    assert excused.problems == ()
    assert (excused.excused_frames, excused.charged_s, excused.loss_frames) == (3, 0, 3)


def test_what_a_busy_camera_missed_is_not_a_loss_by_the_fault() -> None:
    """The synthetic camera's own gaps have ids and are told apart."""
    wish = round_of("encoder")
    done = course(wish)
    done.lines[-1]["details"]["lost"] = {"camera_gap": 7}
    found = judge(wish, done, evidence(14, lost={"camera_gap": 7}))
    assert found.problems == ()
    assert (found.late_frames, found.loss_frames) == (7, 0)


def test_frames_that_a_machine_at_a_standstill_never_made_are_not_lost() -> None:
    """Half a second without a frame is a loss while statuses come, and none when they do not."""
    wish = round_of("capture+supervisor")
    heard = course(wish)
    assert judge(wish, heard, evidence(9.4)).over_bound
    heard.lines[0]["at"] = int(9.5 * S)
    found = judge(wish, heard, evidence(9.4))
    assert (found.problems, found.loss_frames, found.late_frames) == ((), 0, 17)
    assert judge(wish, heard, evidence(9.2)).over_bound


def test_a_dead_capture_costs_one_gap() -> None:
    """Its length is the loss; a second gap is one too many."""
    wish = round_of("capture")
    gap = (10 * S, 12 * S)
    found = judge(wish, course(wish), evidence(14, gaps_ns=[gap]))
    assert found.problems == ()
    assert found.loss_s == pytest.approx(2 - 1 / FPS, abs=0.001)
    assert found.bound_s is None
    twice = evidence(14, gaps_ns=[gap, (13 * S, 14 * S)])
    assert judge(wish, course(wish), twice).over_bound
    other = round_of("encoder")
    assert judge(other, course(other), evidence(14, gaps_ns=[gap])).over_bound


@pytest.mark.parametrize("kind", ["supervisor", "controller", "supervisor+controller"])
def test_who_only_commands_costs_nothing(kind: str) -> None:
    """Workers drain and seal what there was up to the last moment."""
    wish = round_of(kind)
    assert judge(wish, course(wish), evidence(9.9)).problems == ()
    assert judge(wish, course(wish), evidence(9.4)).over_bound
    assert judge(wish, course(wish), evidence(9.9, not_closed=["x.mp4.enc"])).other


def test_what_was_called_durable_must_be_there() -> None:
    """The last status said 100 frames; 99 are not enough."""
    wish = round_of("all")
    assert judge(wish, course(wish), evidence(9.9, frames=100)).problems == ()
    assert judge(wish, course(wish), evidence(9.9, frames=99)).unreadable


def test_what_was_offered_must_be_in_a_class() -> None:
    """The last status said 380 offered; with 360 written, 20 must be named, if somebody lives."""
    wish = round_of("controller")
    shown = status(written=300, waiting=80)
    short = judge(wish, course(wish, shown=shown), evidence(9.9))
    assert short.unbalanced == ("20 of 380 frames that were offered are in no class",)
    named = evidence(9.9, lost={"camera_gap": 20})
    assert judge(wish, course(wish, shown=shown), named).problems == ()
    dead = round_of("encoder+supervisor")
    assert judge(dead, course(dead, shown=shown), evidence(9.9)).problems == ()


def test_every_other_broken_promise_fails_the_round() -> None:
    """Unreadable, unbalanced, disagreeing, orphaned, left over, refused: each is a problem."""
    wish = round_of("encoder")
    fine = course(wish)
    assert judge(wish, fine, evidence(14, balanced=False)).unbalanced
    assert judge(wish, fine, evidence(14, frames=361)).unbalanced
    assert judge(wish, fine, evidence(14, unreadable=["x is corrupt"])).unreadable
    assert judge(wish, fine, evidence(14, leftovers=["x.reserve"])).other
    assert judge(wish, fine, evidence(14, not_closed=["x"])).other
    assert judge(wish, course(wish, left_over=["1 S engine"]), evidence(14)).orphans
    assert judge(wish, course(wish, trouble=["waited"]), evidence(14)).other
    assert judge(wish, course(wish, lines=[]), evidence(14)).other
    refused = course(wish)
    refused.lines.append({"type": "reply", "ok": False, "error": {"code": "worker"}})
    assert judge(wish, refused, evidence(14)).other


# --- the record -------------------------------------------------------------------------------


def test_the_table_counts_what_failed_and_says_how_to_repeat_it() -> None:
    """One line per kind and a total; a broken round is one that failed."""
    wish = round_of("encoder")
    good = judge(wish, course(wish), evidence(14))
    rows = [Row(wish, good, ()), Row(replace(wish, seed=99), None, ("the round broke down",))]
    table = summary(rows)
    assert table["encoder"] == table["total"]
    assert (table["total"]["rounds"], table["total"]["failed"], table["total"]["hit"]) == (2, 1, 1)
    assert "--rounds 1 --seed 99" in describe(rows[1])
    written = record(rows, 1)
    assert [failure["seed"] for failure in written["failures"]] == [99]
    assert len(written["rounds"]) == 2
    shown = markdown(json.loads(json.dumps(written)))
    assert "| encoder | 2 | 1 | 0 | 0 | 0 | 0 | 0 (0.00 s) | 0 (0.00 s) |" in shown
    assert shown.splitlines()[-1].startswith("| **total** | 2 | 1 |")


def test_the_share_of_the_bound_is_told() -> None:
    """How near the worst round came to what was promised: 0.87 of 1 s."""
    wish = round_of("all")
    rows = [Row(wish, judge(wish, course(wish), evidence(10 - s)), ()) for s in (0.9, 0.4)]
    assert summary(rows)["all"]["bound_used_max"] == 0.87
    assert summary(rows)["all"]["loss_s_max"] == 0.87


def test_the_readme_shows_the_record() -> None:
    """The table there is the one that `--table` makes of the committed record."""
    path = RESULTS / "faults.json"
    if not path.exists():
        pytest.skip("no record yet: python -m benchmarks.faults --rounds 500")
    assert markdown(json.loads(path.read_text())) in (ROOT / "README.md").read_text()


# --- processes --------------------------------------------------------------------------------


def test_an_orphan_is_seen_and_ended() -> None:
    """What outlives its round is described, and does not outlive the benchmark."""
    left = subprocess.Popen(SLEEP)
    [description] = wait_gone(left, 0.05)
    assert description.startswith(f"{left.pid} ")
    assert "time.sleep" in description
    end_all(left)
    assert left.wait() == -signal.SIGKILL
    assert wait_gone(left, 0.05) == []


def test_a_victim_that_is_gone_is_not_hit() -> None:
    """Whether a signal hit is known, so a round that came too late is not counted as survived."""
    process = subprocess.Popen(SLEEP)
    victim = Victim("encoder", process.pid)
    assert victim.hit(signal.SIGKILL)
    process.wait()
    assert not victim.hit(signal.SIGKILL)
    victim.close()


def test_the_worker_that_the_engine_named_is_hit(tmp_path: Path) -> None:
    """Not one that waits beside it; without a name, or with that of a dead one, the newest."""
    stand_in = tmp_path / "stand_in.py"
    stand_in.write_text(
        "import subprocess, sys, time\n"
        "if sys.argv[1:] == ['engine', 'serve']:\n"
        "    for _ in range(2):\n"
        "        subprocess.Popen([sys.executable, __file__, 'workers.encoder'])\n"
        "elif sys.argv[1:] == []:\n"
        "    subprocess.Popen([sys.executable, __file__, 'engine', 'serve'])\n"
        "print(flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, str(stand_in)]
    controller = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert controller.stdout is not None
        for _ in range(4):
            controller.stdout.readline()
        newest = family(controller.pid)["encoder"]
        engine = psutil.Process(controller.pid).children()[0]
        [other] = [child.pid for child in engine.children() if child.pid != newest]
        assert family(controller.pid, {"encoder": other})["encoder"] == other
        assert family(controller.pid, {"encoder": 1})["encoder"] == newest
        assert family(controller.pid)["supervisor"] == engine.pid
    finally:
        end_all(controller)
        controller.wait()
        assert controller.stdout is not None
        controller.stdout.close()


# --- the real thing ---------------------------------------------------------------------------


def test_five_real_rounds(tmp_path: Path) -> None:
    """Real processes are killed: nothing is left, lost beyond the promise, or unaccounted for."""
    options = ["--rounds", "5", "--seed", str(FIVE), "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "benchmarks.faults", *options, "--work", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "out" / "faults.json").read_text())
    assert found["failures"] == []
    assert found["table"]["total"]["rounds"] == 5
    assert found["table"]["total"]["hit"] >= 4
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# Five kinds, all phases and manners.
FIVE = 79852
