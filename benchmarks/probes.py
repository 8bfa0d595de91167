"""Clocks around the steps of a worker, in the worker itself. Linux; for a benchmark's child alone.

A step's time is its own: what a step inside it takes is that one's. Of every thread the time of the
processor is read at two moments, so that whatever no clock stands around shows as the rest. What
the clocks themselves take, some twenty of them a frame, is measured at the start and is a step as
well, so that it is in no other.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["CAMERA", "CLOCKS", "NATIVE", "PROBES", "Probes"]

PROBES = "SEALREC_BENCHMARK_PROBES"
NATIVE = "native"  # threads of libraries: the encoder's
REST = "rest"
CLOCKS = "clocks"
CAMERA = "camera"  # what stands in for the camera and its SDK
TRIALS = 5000

Times = dict[str, list[float]]


class Probes:
    """Steps of one process between two counts of frames.

    Its orders, where to write and between which frames, are in the environment.

    Args:
        role: Name of the file that `save` writes.

    Attributes:
        fine: Every step is asked for, not only what is encoded and what is the benchmark's own.
    """

    def __init__(self, role: str) -> None:
        order = json.loads(os.environ[PROBES])
        self._path = Path(order["folder"]) / f"{role}.json"
        self._first, self._last = (order["first"], order["last"])
        self.fine = bool(order.get("fine", True))
        self._steps: dict[str, Times] = {}
        self._open = threading.local()
        self._frames = 0
        self._begin: dict[str, Any] | None = None
        self._end: dict[str, Any] | None = None
        self._clock_ns = 0
        self._clock_ns = self._cost_ns()

    def around(self, owner: Any, name: str, step: str, *, frame: bool = False) -> None:
        """Put a clock around a function or method of a module or class.

        Args:
            owner: The module or class.
            name: Of the function there.
            step: What it is counted as.
            frame: Each call is a frame.
        """
        setattr(owner, name, self._timed(getattr(owner, name), step, frame=frame))

    def _timed(
        self, inner: Callable[..., Any], step: str, *, frame: bool = False
    ) -> Callable[..., Any]:
        @functools.wraps(inner)
        def timed(*arguments: Any, **named: Any) -> Any:
            if frame:
                self._count()
            outer = getattr(self._open, "inside", None)
            self._open.inside = inside = [0, 0]
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            try:
                return inner(*arguments, **named)
            finally:
                wall = time.perf_counter_ns() - wall
                cpu = time.thread_time_ns() - cpu
                self._open.inside = outer
                self._add(step, wall - inside[0], cpu - inside[1])
                self._add(CLOCKS, self._clock_ns, self._clock_ns)
                if outer is not None:
                    outer[0] += wall + self._clock_ns
                    outer[1] += cpu + self._clock_ns

        return timed

    def _cost_ns(self) -> int:
        """What a clock takes outside of what it measures; a warm one, so rather too little."""
        timed = self._timed(lambda: None, REST)
        began = time.thread_time_ns()
        for _ in range(TRIALS):
            timed()
        whole = time.thread_time_ns() - began
        _, inside = self._steps.pop(threading.current_thread().name)[REST]
        return (whole - round(inside)) // TRIALS

    def save(self) -> None:
        """Write milliseconds a frame by thread and step: of the processor, and by the clock.

        Nothing is written of a run that was too short.
        """
        if self._begin is None or self._end is None:
            return
        frames = self._last - self._first
        steps: dict[str, Times] = {}
        for thread, used_ns in self._end["threads"].items():
            rest_cpu = used_ns - self._begin["threads"].get(thread, 0)
            rest_wall = self._end["at"] - self._begin["at"]
            steps[thread] = found = {}
            for step, (wall, cpu) in self._end["steps"].get(thread, {}).items():
                before = self._begin["steps"].get(thread, {}).get(step, (0, 0))
                own_wall, own_cpu = wall - before[0], cpu - before[1]
                rest_wall, rest_cpu = rest_wall - own_wall, rest_cpu - own_cpu
                found[step] = [own_cpu / frames / 1e6, own_wall / frames / 1e6]
            found[REST] = [max(0, rest_cpu) / frames / 1e6, max(0, rest_wall) / frames / 1e6]
        self._path.write_text(json.dumps(steps))

    def _count(self) -> None:
        self._frames += 1
        if self._frames == self._first:
            self._begin = self._snapshot()
        elif self._frames == self._last:
            self._end = self._snapshot()

    def _add(self, step: str, wall_ns: int, cpu_ns: int) -> None:
        name = threading.current_thread().name
        times = self._steps.setdefault(name, {}).setdefault(step, [0, 0])
        times[0] += wall_ns
        times[1] += cpu_ns

    def _snapshot(self) -> dict[str, Any]:
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        threads: dict[str, int] = {}
        for task in Path("/proc/self/task").iterdir():
            name = names.get(int(task.name), NATIVE)
            used_ns = int((task / "schedstat").read_text().split()[0])
            threads[name] = threads.get(name, 0) + used_ns
        steps = {
            thread: {step: tuple(times) for step, times in found.items()}
            for thread, found in self._steps.items()
        }
        return {"at": time.perf_counter_ns(), "threads": threads, "steps": steps}
