"""What does a frame cost the camera SDK's thread, from the callback's entry to the buffer's return?

A simulated camera behind the real VmbC delivers 1920x1200 BGR8 (6.9 MB) at 30 frames a second into
the capture process's own sink and ring; a reader gives the slots back, as the encoder would. Once
alone, once with a recording of the same size beside it, whose encoder wants the processor too.

Before that the same bytes are only copied at that rate: where this takes long now and then, the
machine is too busy for the clock to say anything, and the processor's time is judged alone.

    python -m benchmarks.camera_callback --seconds 20
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.budgets import judge, load
from benchmarks.measure import machine, python, run, write_json
from ipc.ring import Ring, RingReader, RingWriter
from tests.gentl.build import build_producer
from tests.gentl.simulator import SimulatedCameras
from workers.capture import SWITCH_S
from workers.ring_sink import RingSink
from workers.sources import vimba
from workers.sources.delivery import FrameHandler
from workers.sources.source import PixelFormat, SourceSpec

RATE_HZ = 30.0
SLOTS = 30
CAMERA = "DEV_SIM001"
SIZE = (1920, 1200)
QUIET_MS = 1.5
WARM_UP = SLOTS  # the first round faults the ring's pages in


@dataclass(frozen=True, slots=True)
class Row:
    """Callback times of one run, in milliseconds: by the clock, and of the processor."""

    run: str
    frames: int
    lost: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_p50_ms: float
    cpu_p99_ms: float


class TimedHandler(FrameHandler):
    """The frame handler of `vimba`, with a clock around each call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.times_ns: list[int] = []
        self.cpu_ns: list[int] = []
        TimedHandler.newest = self

    newest: TimedHandler

    def on_frame(self, camera: Any, stream: Any, frame: Any) -> None:
        """See `FrameHandler.on_frame`: it ends with the buffer's return."""
        entered, used = time.perf_counter_ns(), time.thread_time_ns()
        super().on_frame(camera, stream, frame)
        self.times_ns.append(time.perf_counter_ns() - entered)
        self.cpu_ns.append(time.thread_time_ns() - used)


@contextmanager
def draining(ring: Ring, stop: threading.Event) -> Iterator[None]:
    """Give every slot back as soon as it is filled."""
    reader = RingReader.attach(ring.handles)
    reader.resume()

    def drain() -> None:
        while not stop.is_set():
            while (frame := reader.read()) is not None:
                reader.release(frame.seq)
                reader.commit(frame.seq)
            reader.wait(0.05)

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        reader.close()


def copy(seconds: float) -> Row:
    """Copy a frame's bytes at its rate and do nothing else: how quiet the machine is."""
    source = np.ones(PixelFormat.BGR8.size_bytes(*SIZE), np.uint8)
    target = np.ones_like(source)
    wall_ms, cpu_ms = [], []
    for _ in range(round(seconds * RATE_HZ)):
        time.sleep(1 / RATE_HZ)
        entered, used = time.perf_counter_ns(), time.thread_time_ns()
        target[:] = source
        wall_ms.append((time.perf_counter_ns() - entered) / 1e6)
        cpu_ms.append((time.thread_time_ns() - used) / 1e6)
    longest = round(max(wall_ms), 3)
    return Row(
        "a copy alone", len(wall_ms), 0, *percentiles(wall_ms), longest, *percentiles(cpu_ms)
    )


def measure(name: str, cameras: SimulatedCameras, seconds: float) -> Row:
    """Stream for so long."""
    spec = SourceSpec(
        f"vimba:{CAMERA}",
        *SIZE,
        RATE_HZ,
        PixelFormat.BGR8,
        frames=WARM_UP + round(seconds * RATE_HZ),
        sdk_settings=str(cameras.settings_path),
    )
    source = vimba.VimbaSource(spec)
    info = source.open()
    stop, drained = threading.Event(), threading.Event()
    ring = Ring.reserve()
    try:
        ring.allocate(slots=SLOTS, slot_bytes=info.pixel_format.size_bytes(*SIZE))
        with draining(ring, drained):
            writer = RingWriter.attach(ring.handles)
            reason = source.run(RingSink(writer, info, policy="drop", stop=stop), stop)
            writer.close()
        lost = ring.statistics().offered - ring.statistics().published
    finally:
        source.close()
        ring.close()
    if reason != "limit":
        raise SystemExit(f"The stream ended with {reason}.")
    handler = TimedHandler.newest
    times = [ns / 1e6 for ns in handler.times_ns[WARM_UP:]]
    wall, cpu = percentiles(times), percentiles([ns / 1e6 for ns in handler.cpu_ns[WARM_UP:]])
    return Row(name, len(times), lost, *wall, round(max(times), 3), *cpu)


def percentiles(values: list[float]) -> tuple[float, float]:
    """The 50th and the 99th."""
    cuts = quantiles(values, n=100, method="inclusive")
    return round(cuts[49], 3), round(cuts[98], 3)


@contextmanager
def recording(seconds: float) -> Iterator[None]:
    """A recording of the synthetic camera of the same size in processes of its own."""
    with tempfile.TemporaryDirectory() as folder:
        key, out = Path(folder) / "key", Path(folder) / "beside.mp4.enc"
        if run(python("engine", "keys", "new", str(key))).exit_code:
            raise SystemExit("The key could not be made.")
        size = ["--size", "x".join(map(str, SIZE)), "--fps", str(RATE_HZ)]
        options = ["--key-file", str(key), "--seconds", str(seconds), "--json"]
        beside = subprocess.Popen(
            python("engine", "record", str(out), *size, *options), stdout=subprocess.DEVNULL
        )
        try:
            while not out.with_name(f"{out.name}.open").exists() and beside.poll() is None:
                time.sleep(0.05)
            yield
        finally:
            beside.terminate()  # it seals and leaves
            beside.wait()


def main() -> int:
    """Measure, show, judge; exit code 1 if it is over its budget."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, help="folder for the result; default: results")
    asked = parser.parse_args()
    vimba.FrameHandler = TimedHandler  # type: ignore[misc, attr-defined]
    sys.setswitchinterval(SWITCH_S)
    with tempfile.TemporaryDirectory() as folder:
        cameras = SimulatedCameras(Path(folder), build_producer(Path(folder)))
        os.environ.update(cameras.environment)
        rows = [copy(asked.seconds / 2), measure("alone", cameras, asked.seconds)]
        with recording(asked.seconds + 30):
            rows.append(measure("beside a recording", cameras, asked.seconds))
    table = Table("run", "frames", "lost", "p50 ms", "p99 ms", "max ms", "CPU p50", "CPU p99")
    for row in rows:
        table.add_row(*(str(value) for value in asdict(row).values()))
    Console().print(table)
    value = {"machine": machine(), "rows": [asdict(row) for row in rows]}
    write_json("camera_callback", value, asked.out)
    control, alone, _ = rows
    figures = {
        "capture": {"callback_p99_ms": alone.p99_ms, "callback_cpu_p99_ms": alone.cpu_p99_ms}
    }
    busy = control.p99_ms > QUIET_MS
    if busy:
        print(f"This machine is busy: 1 of 100 copies alone takes {control.p99_ms} ms and more.")
    not_judged = ("callback_p99_ms",) if busy else ()
    findings = judge(figures, load("camera_callback"), not_judged=not_judged)
    for finding in findings:
        print(f"{finding}: {finding.verdict}")
    return int(any(finding.failed for finding in findings))


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # VmbC's threads do not end with the interpreter
