"""How long until an hour-long recording is on the screen, and how long does a seek take?

A real Chromium opens the review page, unlocks a recording and seeks to random times. Measured in
the page: from its first byte to the list, from the key to the first picture, from a click to the
picture of that time. The server's memory is measured before and after the seeks, while it also
reads all tables and verifies every byte.

    python -m benchmarks.review
    python -m benchmarks.review --size 160x120 --minutes 60 --keep DIR
    python -m benchmarks.review --hls                # the browser's own HLS instead of Media Source

Exit code 1: over its budget. Needs Chromium and chromedriver.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.budgets import judge, load
from benchmarks.long_recording import KEY, make_long
from benchmarks.measure import machine, python, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium import webdriver

AWAIT_S = 60.0
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,800",
)
OPEN = """
const [done] = [arguments[0]];
const start = performance.now();
new MutationObserver((_, watch) => {
  watch.disconnect();
  done(performance.now() - start);
}).observe(document.body, {attributeFilter: ["data-frame-id"]});
document.getElementById("unlock-button").click();
"""
SEEK = """
const [pts, done] = arguments;
const stage = document.getElementById("stage");
const start = performance.now();
const watch = new MutationObserver(() => {
  if (stage.getAttribute("aria-busy") !== "false") return;
  watch.disconnect();
  done([performance.now() - start, Number(document.body.dataset.pts)]);
});
watch.observe(stage, {attributeFilter: ["aria-busy"]});
window.sealrec.seek(pts);
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds and megabytes.

    Attributes:
        list_ms: From the page's first byte to the list.
        open_ms: From the key to the first picture.
        seeks_ms: One per seek.
        wrong: Seeks after which another frame was shown than that of the time.
        before_mb: The server's memory once the first picture was there.
        after_mb: The same at the end.
        background_s: Until all tables were read and every byte was verified.
    """

    list_ms: float
    open_ms: float
    seeks_ms: list[float]
    wrong: int
    before_mb: float
    after_mb: float
    background_s: float

    @property
    def p95_ms(self) -> float:
        """Of the seeks."""
        return statistics.quantiles(self.seeks_ms, n=20)[-1]


@contextmanager
def chromium(folder: Path) -> Iterator[webdriver.Chrome]:
    """A fresh browser."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome") or ""
    for flag in (*FLAGS, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    driver.set_script_timeout(AWAIT_S)
    try:
        yield driver
    finally:
        driver.quit()


def pss_mb(pid: int) -> float:
    """Resident memory with its share of shared pages."""
    return float(psutil.Process(pid).memory_full_info().pss) / 1e6


def wait(driver: webdriver.Chrome, script: str) -> Any:
    """Wait until a script returns something."""
    deadline = time.monotonic() + AWAIT_S
    while not (found := driver.execute_script(script)):
        if time.monotonic() > deadline:
            raise TimeoutError(script)
        time.sleep(0.02)
    return found


def measure(recording: Path, seeks: int, *, hls: bool) -> Measured:
    """One session in the browser."""
    command = python("engine", "review", str(recording), "--no-browser", "--json")
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        url = json.loads(server.stdout.readline())["url"]
        with tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as driver:
            driver.get(url)
            wait(driver, "return document.body.dataset.page === 'unlock'")
            if hls:
                driver.get(url.rpartition("/")[0] + "/?hls")
                wait(driver, "return document.body.dataset.page === 'unlock'")
            list_ms = driver.execute_script(
                "return performance.getEntriesByName('list')[0].startTime"
            )
            driver.find_element("id", "key-file").send_keys(str(recording.parent / KEY))
            open_ms = driver.execute_async_script(OPEN)
            begun = time.monotonic()
            before_mb = pss_mb(server.pid)
            seeks_ms, wrong = seek(driver, seeks)
            level = "return document.getElementById('badge').dataset.level"
            wait(driver, f"{level} !== 'checking'")
            assert driver.execute_script(level) == "good"
            background_s = time.monotonic() - begun
            after_mb = pss_mb(server.pid)
            return Measured(list_ms, open_ms, seeks_ms, wrong, before_mb, after_mb, background_s)
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def seek(driver: webdriver.Chrome, seeks: int) -> tuple[list[float], int]:
    """Seek to random times; returns how long each took and how many ended elsewhere."""
    end = driver.execute_script("return Number(document.getElementById('lanes').dataset.end)")
    chance, times, wrong = random.Random(6), [], 0
    for _ in range(seeks):
        pts = chance.randrange(end - 6000)
        took_ms, shown = driver.execute_async_script(SEEK, pts)
        times.append(took_ms)
        wrong += not 0 <= pts - shown < 3001
    return times, wrong


def main() -> int:
    """Measure, show, judge."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", default="1920x1200")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seeks", type=int, default=200)
    parser.add_argument("--keep", type=Path, help="folder that keeps the recording for next time")
    parser.add_argument("--hls", action="store_true", help="the browser's own HLS player")
    parser.add_argument("--out", type=Path, help="folder for the result; default: results")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.keep or Path(name)
        folder.mkdir(exist_ok=True)
        recording = make_long(folder, options.size, options.minutes)
        size_mb = recording.stat().st_size / 1e6
        found = measure(recording, options.seeks, hls=options.hls)
    print(
        f"{options.size}, {options.minutes:g} min, {size_mb:.0f} MB: list {found.list_ms:.0f} ms, "
        f"first picture {found.open_ms:.0f} ms, {len(found.seeks_ms)} seeks median "
        f"{statistics.median(found.seeks_ms):.0f} ms, p95 {found.p95_ms:.0f} ms, "
        f"{found.wrong} elsewhere; server {found.before_mb:.0f} MB, then {found.after_mb:.0f} MB; "
        f"tables and bytes checked in {found.background_s:.0f} s"
    )
    figures = {
        "list_ms": found.list_ms,
        "open_ms": found.open_ms,
        "seek_p95_ms": found.p95_ms,
        "server_mb": found.after_mb,
        "growth_mb": found.after_mb - found.before_mb,
    }
    findings = judge({"page": figures}, load("review"))
    for finding in findings:
        print(f"{finding}: {finding.verdict}")
    write_json("review", {"machine": machine(), "size": options.size} | asdict(found), options.out)
    return int(any(finding.failed for finding in findings) or found.wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
