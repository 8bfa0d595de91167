"""One round of the fault benchmark: records, hits what the plan says, and notes what happened when.

It judges nothing (`fault_verdict`) and looks into no file (`fault_evidence`).
"""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.fault_plan import Plan
from benchmarks.measure import ROOT, python
from benchmarks.processes import Victim, end_all, family, wait_gone

__all__ = ["FPS", "Course", "run_round"]

FPS = 30.0
START_S = 90.0
BACK_S = 60.0
END_S = 120.0
GONE_S = 30.0
POLL_S = 0.005
WRITTEN_AFTER = 30
"""Frames written beyond those known before the hit: more than come between two statuses."""

Line = dict[str, Any]


@dataclass(slots=True)
class Course:
    """What happened in a round; times are ``time.perf_counter_ns()``.

    Attributes:
        hit_at: First signal, by role; only of processes that were alive.
        killed_at: Last signal, by role.
        started_at: The engine began to record; None: it never did.
        stopped_at: The stop was ordered; None: it never was.
        lines: Everything that the controller heard (benchmarks/controller.py).
        left_over: Processes that did not leave.
        trouble: What kept the round from going on as planned.
    """

    hit_at: dict[str, int] = field(default_factory=dict)
    killed_at: dict[str, int] = field(default_factory=dict)
    started_at: int | None = None
    stopped_at: int | None = None
    lines: list[Line] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    @property
    def statuses(self) -> list[tuple[int, dict[str, Any]]]:
        """All statuses of the recording with the times at which the controller had them."""
        found = [(x["at"], x["status"]) for x in self.lines if x["type"] == "status"]
        return [(at, status) for at, status in found if "frames" in status]

    def status_before(self, at: int) -> dict[str, Any] | None:
        """The last status heard by then."""
        return next((s for heard_at, s in reversed(self.statuses) if heard_at <= at), None)

    @property
    def result(self) -> dict[str, Any] | None:
        """The balance sheet that the engine gave, if it came to that."""
        for line in self.lines:
            if line["type"] == "event" and line["kind"] == "recording_stopped":
                return dict(line["details"])
        return None

    def write(self, path: Path) -> None:
        """Keep it beside a failed round's files."""
        path.write_text(json.dumps(asdict(self), indent=1))


class _Heard:
    """The controller's lines as they come."""

    def __init__(self, controller: subprocess.Popen[bytes], course: Course) -> None:
        self._controller, self._course = controller, course
        self._thread = threading.Thread(target=self._read, name="lines", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._controller.stdout is not None
        for raw in self._controller.stdout:
            with suppress(ValueError):  # the last line of a killed controller may be cut
                line = json.loads(raw)
                if line["type"] == "event" and line["kind"] == "recording_started":
                    self._course.started_at = line["host_ns"]
                elif line["type"] == "stopping":
                    self._course.stopped_at = line["at"]
                self._course.lines.append(line)

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition holds; False if time is up or nothing more will come."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline or not self._thread.is_alive():
                return condition()
            time.sleep(POLL_S)
        return True

    def join(self) -> None:
        """Wait for the last line."""
        self._thread.join(END_S)


class _Round:
    """One round as it runs."""

    def __init__(self, plan: Plan, folder: Path, config: dict[str, Any]) -> None:
        self._plan = plan
        self.course = Course()
        path = folder / "config.json"
        path.write_text(json.dumps(config))
        with (folder / "engine.log").open("wb") as log:
            self.controller = subprocess.Popen(
                python("benchmarks.controller", "--config", str(path)),
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._heard = _Heard(self.controller, self.course)

    def run(self) -> None:
        """Record, hit, go on if there is anybody to go on with, and wait for the end."""
        plan = self._plan
        if plan.phase == "start":
            self._wait_for(self._all_exist, START_S, "the victims")
        else:
            self._wait_for(self._written, START_S, "a recording")
        if plan.phase == "stop":
            time.sleep(plan.before_s)
            self._stop()
        self._strike()
        if plan.phase != "stop" and not plan.hits("supervisor") and not plan.hits("controller"):
            self._go_on()
            self._stop()
        self._heard.wait_for(self._ended, END_S)
        self.course.left_over = wait_gone(self.controller, GONE_S)

    def close(self) -> None:
        """Leave nothing behind, whatever happened."""
        end_all(self.controller)
        self._heard.join()
        for pipe in (self.controller.stdin, self.controller.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.controller.wait()

    # --- hitting ------------------------------------------------------------------------------

    def _strike(self) -> None:
        plan = self._plan
        victims = self._victims()
        try:
            time.sleep(plan.moment_s)
            if plan.manner == "stop+kill":
                for victim in victims:
                    self._hit(victim, signal.SIGSTOP)
                time.sleep(plan.hold_s)
            last = signal.SIGSEGV if plan.manner == "segfault" else signal.SIGKILL
            for count, victim in enumerate(victims):
                if count:
                    time.sleep(plan.stagger_s)
                self._hit(victim, last)
        finally:
            for victim in victims:
                victim.close()

    def _hit(self, victim: Victim, number: signal.Signals) -> None:
        at = time.perf_counter_ns()
        if victim.hit(number):
            self.course.hit_at.setdefault(victim.role, at)
            self.course.killed_at[victim.role] = at

    def _victims(self) -> list[Victim]:
        found, victims = family(self.controller.pid, self._at_work()), []
        for role in self._plan.victims:
            if role in found:
                with suppress(ProcessLookupError):
                    victims.append(Victim(role, found[role]))
        return victims

    def _at_work(self) -> dict[str, int]:
        """Workers of the newest status."""
        statuses = [line["status"] for line in self.course.lines if line["type"] == "status"]
        workers = statuses[-1].get("workers", {}) if statuses else {}
        return {role: worker["pid"] for role, worker in workers.items() if worker["pid"]}

    # --- going on -----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """The engine is alive: it must record again, whatever was hit."""
        hit_at = max(self.course.killed_at.values(), default=time.perf_counter_ns())
        before = self.course.status_before(hit_at)
        known = before["frames"]["offered"] if before else 0

        def back() -> bool:
            at, status = self.course.statuses[-1] if self.course.statuses else (0, None)
            if status is None or at < max(self.course.killed_at.values(), default=0):
                return False
            enough = status["frames"]["written"] >= known + WRITTEN_AFTER
            return enough and status["state"] == "recording"

        self._wait_for(lambda: back() or self._ended(), BACK_S, "recording again")
        time.sleep(self._plan.after_s)

    def _stop(self) -> None:
        assert self.controller.stdin is not None
        with suppress(OSError):  # it may be a victim
            self.controller.stdin.write(b"stop\n")
            self.controller.stdin.flush()
        self._heard.wait_for(lambda: self.course.stopped_at is not None, 5.0)

    def _wait_for(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        began = time.monotonic()
        if not self._heard.wait_for(condition, timeout_s):
            waited = f"{time.monotonic() - began:.1f} s in vain for {what}"
            self.course.trouble.append(f"waited {waited}; the engine's log may say why")

    def _all_exist(self) -> bool:
        return set(self._plan.victims) <= set(family(self.controller.pid))

    def _written(self) -> bool:
        statuses = self.course.statuses
        return bool(statuses) and statuses[-1][1]["frames"]["offered"] > 0

    def _ended(self) -> bool:
        return any(line["type"] in ("gone", "left") for line in self.course.lines[-5:])


def run_round(plan: Plan, folder: Path, key_file: Path) -> Course:
    """Run one round.

    Args:
        plan: What to do.
        folder: Empty; gets the recording ``x.mp4.enc``, the engine's log and its configuration.
        key_file: What the recording is sealed for.
    """
    config = {
        "output": str(folder / "x.mp4.enc"),
        "source": "synthetic",
        "keys": [{"kind": "key_file", "value": str(key_file)}],
        "width": 640,
        "height": 400,
        "fps": FPS,
        "hardware": "off",
        # Room for what comes while a successor starts, on a machine that does other things too.
        "ring_seconds": 6.0,
    }
    current = _Round(plan, folder, config)
    try:
        current.run()
    finally:
        current.close()
    return current.course
