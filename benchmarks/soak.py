"""Does an hour of work lose a frame, leak memory, or slow down?

A synthetic camera in real time, recorded by the real engine behind a real controller's pipe. Every
second: frames and losses, each process's memory, CPU and descriptors, ring, latency, disk. At the
end the file is verified and every process judged by budgets.toml.

    python -m benchmarks.soak --minutes 60
    python -m benchmarks.soak --minutes 1 --size 640x400
    python -m benchmarks.soak --minutes 60 --size 160x120 --fast    # leaks alone, in two minutes

``--fast`` records as fast as the machine can: as many frames, fragments and checkpoints as in so
many minutes, whose slopes are then per hour of video. Speed is not judged there.

Exit code 0: balanced and within budget; 1: over budget; 6: not balanced, or the file is not good.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmarks import budgets
from benchmarks.controller import Engine
from benchmarks.measure import RESULTS, machine, python, run
from benchmarks.soak_figures import (
    Sample,
    condense,
    figures,
    light_off_s,
    processes_of,
    sample,
    series,
    slopes_count,
    warm_up_s,
)
from benchmarks.soak_report import draw
from engine.container.reader import RecordingReader
from engine.keys import new_key_file, secret_from
from ipc.messages import Event, Message, Reply, Status

RECORDED, KEY = "soak.mp4.enc", "key"
GRACE_S = 120.0
SLOPES = ["private_mb_per_hour", "descriptors_per_hour"]
UNBALANCED = 6


@dataclass(frozen=True, slots=True)
class Wish:
    """What to record."""

    minutes: float
    size: str
    fps: float
    codec: str
    decode: bool
    fast: bool

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return 60 * self.minutes

    def config(self, output: Path, key_file: Path) -> dict[str, Any]:
        """The recording's configuration."""
        width, height = (int(side) for side in self.size.split("x"))
        return {
            "output": str(output),
            "source": "synthetic",
            "keys": [{"kind": "key_file", "value": str(key_file)}],
            "width": width,
            "height": height,
            "fps": self.fps,
            "codec": self.codec,
            "seconds": self.seconds,
            "policy": "block" if self.fast else "drop",
            "realtime": not self.fast,
        }

    def time_s(self, elapsed_s: float, written: float) -> float:
        """Where a recording is: on the clock, or in the video if that runs ahead of it."""
        return round(written / self.fps if self.fast else elapsed_s, 2)


class Watch:
    """What the controller heard, second by second.

    Attributes:
        samples: One per second.
        result: The balance sheet, once there.
        error: Why the recording could not begin, or that the engine is gone.
        sealed_ns: When the file had its seal and its final name, host clock; 0 before.
        over: Set when there is a result or an error.
    """

    def __init__(self, wish: Wish) -> None:
        self._wish = wish
        self.samples: list[Sample] = []
        self.events: list[dict[str, Any]] = []
        self.result: dict[str, Any] | None = None
        self.error = ""
        self.sealed_ns = 0
        self.over = threading.Event()
        self._lock = threading.Lock()
        self._heard: list[tuple[float, dict[str, Any]]] = []
        self._began = self._last = time.monotonic()

    def hear(self, message: Message | None) -> None:
        """Take one message of the engine; None: it is gone."""
        match message:
            case Status(status=status):
                with self._lock:
                    self._heard.append((time.monotonic(), status))
            case Event(kind="recording_started"):
                self._began = time.monotonic()
            case Event(kind="recording_stopped", host_ns=host_ns, details=details):
                self.result, self.sealed_ns = details, host_ns
                self.over.set()
            case Reply(ok=False, error=error):
                self.error = f"{error}"
                self.over.set()
            case None if self.result is None:
                self.error = self.error or "the engine is gone"
                self.over.set()
        if isinstance(message, Event):
            self.events.append({"kind": message.kind, "text": message.text})

    def take_second(self) -> None:
        """Make a sample of what was heard since the last one."""
        with self._lock:
            heard, self._heard = self._heard, []
        if heard and "latency_s" in heard[-1][1]:
            found = sample(heard, self._last)
            if found is not None and found["offered"]:
                elapsed_s = time.monotonic() - self._began
                found["t_s"] = self._wish.time_s(elapsed_s, found["written"])
                self.samples.append(found)
        if heard:
            self._last = heard[-1][0]


def record(wish: Wish, folder: Path, console: Console) -> tuple[Watch, int]:
    """Record once; returns what was heard and the engine's exit code."""
    key_file = folder / KEY
    new_key_file(key_file)
    watch = Watch(wish)
    engine = Engine(watch.hear, log=folder / "engine.log")
    engine.start(wish.config(folder / RECORDED, key_file))
    deadline = time.monotonic() + wish.seconds + GRACE_S
    told = 0
    with Live(console=console, refresh_per_second=1, transient=True) as live:
        try:
            while not watch.over.wait(1.0) and time.monotonic() < deadline:
                watch.take_second()
                live.update(display(wish, watch.samples))
                if not console.is_terminal and len(watch.samples) >= told + 60:
                    told = len(watch.samples)
                    console.print(in_a_line(watch.samples[-1]), highlight=False)
        except KeyboardInterrupt:
            console.print("stopped early; what was recorded is verified and judged")
        if not watch.over.is_set():
            engine.stop()
            watch.over.wait(GRACE_S)
    engine.shut_down()
    return watch, engine.leave()


def in_a_line(newest: Sample) -> str:
    """The newest second, for a log."""
    return (
        f"{newest['t_s'] / 60:6.1f} min  {newest['written']:.0f} of {newest['offered']:.0f} "
        f"written, {newest['lost']:.0f} lost, {newest['fps_in']:.1f} fps, "
        f"ring {newest['ring_fill']:.0f}"
    )


def display(wish: Wish, samples: list[Sample]) -> Table:
    """The newest second, for a terminal."""
    table = Table("process", "CPU", "PSS without ring", "private", "descriptors", "threads")
    if not samples:
        table.title = "starting"
        return table
    newest = samples[-1]
    done = min(1.0, newest["t_s"] / wish.seconds)
    bar = ("━" * round(40 * done)).ljust(40, "╌")
    table.title = f"{bar} {newest['t_s'] / 60:.1f} of {wish.minutes:g} min"
    table.caption = (
        f"{newest['written']:.0f} of {newest['offered']:.0f} written, {newest['lost']:.0f} lost | "
        f"{newest['fps_in']:.1f} fps in, {newest['fps_encoded']:.1f} encoded | "
        f"ring {newest['ring_fill']:.0f}, high water {newest['ring_high_water']:.0f} | "
        f"durable after {newest.get('latency_p99_s', 0):.2f} s (p99) | "
        f"sync {1e3 * newest['sync_s']:.1f} ms"
    )
    for process in processes_of([newest]):
        table.add_row(
            process,
            f"{newest[f'cpu.{process}']:.1%}",
            f"{newest[f'pss_mb.{process}']:.1f} MB",
            f"{newest[f'private_mb.{process}']:.1f} MB",
            f"{newest[f'descriptors.{process}']:.0f}",
            f"{newest[f'threads.{process}']:.0f}",
        )
    return table


def last_arrival_ns(folder: Path) -> int:
    """When the last frame of the recording arrived, host clock."""
    with RecordingReader.open(folder / RECORDED, secret_from(key_file=folder / KEY)) as reader:
        for part in reversed(reader.parts):
            for fragment in reversed(list(part.fragments())):
                if fragment.table.frames:
                    return fragment.table.frames[-1].host_ns
    raise ValueError("no frame is in the recording")


def verify(folder: Path, *, decode: bool) -> dict[str, Any]:
    """`sealrec verify` on what was recorded."""
    options = ["--key-file", str(folder / KEY), "--json", *(["--decode"] if decode else [])]
    cost = run(python("engine", "verify", str(folder / RECORDED), *options))
    report: dict[str, Any] = json.loads(cost.stdout) if cost.stdout else {}
    kept = ("state", "frames", "duration_s", "lost", "balanced", "complete", "problems", "decoded")
    found = {name: report[name] for name in kept if name in report}
    return {**found, "exit_code": cost.exit_code, "took_s": round(cost.wall_s, 1)}


def unsound(result: dict[str, Any] | None, verified: dict[str, Any]) -> list[str]:
    """What is wrong with the account; empty if every frame is in the file or named."""
    if result is None:
        return ["there is no balance sheet"]
    lost = sum(result["lost"].values())
    found = []
    if not result["balanced"] or result["frames_written"] + lost != result["frames_offered"]:
        found.append("the engine's account does not balance")
    if verified["exit_code"]:
        found.append(f"verify ended with {verified['exit_code']}: {verified.get('problems')}")
    if verified.get("frames") != result["frames_written"]:
        found.append("verify counts other frames than the engine")
    if verified.get("lost") != result["lost"]:
        found.append("verify counts other losses than the engine")
    return found


def evaluate(
    wish: Wish, watch: Watch, verified: dict[str, Any], sealed_after_ms: float
) -> dict[str, Any]:
    """The whole record; `sealed_after_ms` is from the last frame's arrival to the sealed file."""
    samples = watch.samples
    duration_s = samples[-1]["t_s"] if samples else 0.0
    warm_up = warm_up_s(duration_s, fast=wish.fast)
    measured = figures(samples, warm_up)
    not_judged = [] if slopes_count(duration_s, fast=wish.fast) else [*SLOPES]
    not_judged += ["cpu"] if wish.fast else []
    findings = budgets.judge(measured, budgets.load("soak"), not_judged=not_judged)
    kinds = ("recording_started", "recording_stopped", "part_opened", "part_sealed")
    return {
        "machine": machine(),
        "wish": asdict(wish),
        "result": watch.result,
        "verify": verified,
        "sealed_after_ms": sealed_after_ms,
        "unsound": unsound(watch.result, verified),
        "measured_s": duration_s,
        "warm_up_s": warm_up,
        "light_off_s": light_off_s(samples),
        "status_gap_s": max((one["status_gap_s"] for one in samples), default=0.0),
        "events": [event for event in watch.events if event["kind"] not in kinds][:100],
        "processes": measured,
        "findings": [{**asdict(finding), "text": str(finding)} for finding in findings],
        "series": series(condense(samples)),
    }


def show(found: dict[str, Any], console: Console) -> None:
    """Balance sheet and judgement."""
    result = found["result"]
    if result is not None:
        lost = ", ".join(f"{name} {count}" for name, count in result["lost"].items())
        console.print(
            f"{result['frames_written']} of {result['frames_offered']} frames written, "
            f"lost: {lost or 'none'}; {result['state']}, verify: {found['verify'].get('state')}, "
            f"sealed {found['sealed_after_ms']:.0f} ms after the last frame arrived"
        )
    table = Table("process", "figure", "measured", "allowed", "")
    for finding in found["findings"]:
        cells = (finding["measured"], finding["limit"])
        shown = ["-" if cell is None else f"{cell:.3f}" for cell in cells]
        name = finding["figure"] or "no table in budgets.toml"
        table.add_row(finding["process"], name, *shown, finding["verdict"])
    console.print(table)
    for text in found["unsound"]:
        console.print(text)


def exit_code(found: dict[str, Any]) -> int:
    """0 good, 1 over budget, 6 unsound."""
    if found["unsound"]:
        return UNBALANCED
    return int(any(f["verdict"] in ("over", "missing") for f in found["findings"]))


def write(found: dict[str, Any], folder: Path) -> Path:
    """One line per column, so that a record of an hour is short and can be compared."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "soak.json"
    rest = {name: value for name, value in found.items() if name != "series"}
    columns = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in found["series"].items())
    head = json.dumps(rest, indent=1).rstrip("\n}")
    path.write_text(f'{head},\n "series": {{\n  {columns}\n }}\n}}\n')
    return path


def main() -> int:
    """Record, verify, judge, report."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--codec", default="h264")
    parser.add_argument("--decode", action="store_true", help="verify decodes every frame as well")
    parser.add_argument("--fast", action="store_true", help="not in real time: for leaks alone")
    parser.add_argument("--out", type=Path, default=RESULTS, help="for soak.json and soak.png")
    parser.add_argument("--work", type=Path, help="where to record: 3 GB an hour")
    options = parser.parse_args()
    names = ("minutes", "size", "fps", "codec", "decode", "fast")
    wish = Wish(**{name: getattr(options, name) for name in names})
    console = Console()
    folder = Path(tempfile.mkdtemp(prefix="soak-", dir=options.work))
    try:
        watch, code = record(wish, folder, console)
        if watch.error or code:
            console.print(f"the engine ended with {code}: {watch.error}", markup=False)
            console.print((folder / "engine.log").read_text()[-2000:], markup=False)
        verified, sealed_after_ms = {"exit_code": 2}, 0.0
        if watch.result:
            verified = verify(folder, decode=wish.decode)
        if not verified["exit_code"] and verified["frames"]:  # else the record says what is wrong
            sealed_after_ms = round((watch.sealed_ns - last_arrival_ns(folder)) / 1e6, 1)
    finally:
        shutil.rmtree(folder)
    found = evaluate(wish, watch, verified, sealed_after_ms)
    show(found, console)
    path = write(found, options.out)
    draw(found, path.with_suffix(".png"))
    console.print(f"{path}\n{path.with_suffix('.png')}", soft_wrap=True)
    return exit_code(found)


if __name__ == "__main__":
    sys.exit(main())
