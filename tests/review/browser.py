"""A real Chromium for the review page's tests, and what a test asks it.

Debian: `apt-get install chromium chromium-driver`. Elsewhere any Chrome or Chromium with its driver
on the path. Without them the tests skip, but never where CI=true.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from engine import barcode

__all__ = ["Page", "chromium", "find_chromium"]

AWAIT_S = 30.0
POLL_S = 0.02
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# None of these changes how a page is handled; they keep the browser's own business out of the way.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--autoplay-policy=no-user-gesture-required",
    "--force-color-profile=srgb",
    "--window-size=1280,800",
)

_SHOWN = """
const video = document.getElementById("video");
const canvas = document.createElement("canvas");
canvas.width = video.videoWidth; canvas.height = 16;
const pen = canvas.getContext("2d", {willReadFrequently: true});
pen.drawImage(video, 0, 0);
const data = pen.getImageData(0, 0, canvas.width, 16).data;
const gray = [];
for (let i = 1; i < data.length; i += 4) gray.push(data[i]);
const {pts, frameId} = document.body.dataset;
return [canvas.width, gray, Number(pts), Number(frameId)];
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows.

    Attributes:
        pts: Time of the frame, as the page says.
        frame_id: Its id, as the page says.
        number: What the barcode in the picture says; None if none is whole.
    """

    pts: int
    frame_id: int
    number: int | None


class Page:
    """The review page in a running browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def find(self, selector: str) -> WebElement:
        """One element."""
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, element_id: str) -> str:
        """Text of an element, also of one that is hidden."""
        found = self.script("return document.getElementById(arguments[0]).textContent", element_id)
        return str(found)

    def script(self, code: str, *arguments: Any) -> Any:
        """Run something in the page."""
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait until a condition holds, and return what it returned."""
        deadline = time.monotonic() + AWAIT_S
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"no {what}: {self.state()}")
            time.sleep(POLL_S)
        return found

    def state(self) -> dict[str, Any]:
        """Where the page is, for a message."""
        data = dict(self.script("return {...document.body.dataset}"))
        return data | {"notice": self.text("notice"), "error": self.text("unlock-error")}

    def click(self, element_id: str) -> None:
        """Press a button."""
        self.find(f"#{element_id}").click()

    def choose(self, name: str) -> None:
        """Choose a recording in the list, from wherever the page is."""
        self.wait(lambda: self.script("return document.body.dataset.page"), "page")
        if self.script("return document.body.dataset.page") != "list":
            self.click("home")
        self.wait(lambda: self.click_on("button.open", name), f"recording {name}")

    def click_on(self, selector: str, words: str) -> bool:
        """Click the first element of a selector that holds some words, if there is one."""
        found = self.script(
            """
            const [selector, words] = arguments;
            const all = [...document.querySelectorAll(selector)];
            const found = all.find((e) => e.textContent.includes(words) && e.offsetParent);
            found?.click();
            return Boolean(found);
            """,
            selector,
            words,
        )
        return bool(found)

    def open(self, name: str, key_file: Path) -> None:
        """Choose a recording, give its key, wait for its first picture or for its damage."""
        self.choose(name)
        self.wait(lambda: self.find("#unlock").is_displayed(), "form")
        self.find("input[value=key_file]").click()
        self.find("#key-file").send_keys(str(key_file))
        self.click("unlock-button")

    def wait_ready(self) -> None:
        """Until the first frame is shown."""
        self.wait(lambda: self.script("return document.body.dataset.frameId"), "first frame")

    def shown(self) -> Shown:
        """The frame that is shown, once the page has come to rest."""
        self.wait(lambda: not self.busy(), "rest")
        width, gray, pts, frame_id = self.script(_SHOWN)
        luma = np.array(gray, np.uint8).reshape(-1, width)
        return Shown(pts, frame_id, barcode.read(luma))

    def busy(self) -> bool:
        """A frame is being sought."""
        busy = self.script("return document.getElementById('stage').getAttribute('aria-busy')")
        return bool(busy == "true")

    def frame(self) -> int:
        """Id of the frame that is shown at this moment, as the page says."""
        return int(self.script("return Number(document.body.dataset.frameId ?? -1)"))

    def play_until(self, frame_id: int) -> list[int]:
        """Play, pause at a frame, and return the ids that the page showed on the way."""
        found = self.driver.execute_async_script(
            """
            const [last, done] = arguments;
            const seen = [];
            const watch = new MutationObserver(() => {
              const id = Number(document.body.dataset.frameId);
              if (seen.at(-1) !== id) seen.push(id);
              if (id < last) return;
              watch.disconnect();
              document.getElementById("play").click();
              done(seen);
            });
            watch.observe(document.body, {attributeFilter: ["data-frame-id"]});
            document.getElementById("play").click();
            """,
            frame_id,
        )
        return [int(number) for number in found]

    def seek(self, pts: int) -> Shown:
        """Click on the timeline at a time."""
        self.script(
            """
            const lanes = document.getElementById("lanes");
            const end = Number(lanes.dataset.end);
            const box = lanes.getBoundingClientRect();
            const x = box.left + 74 + (box.width - 74) * arguments[0] / end;
            lanes.dispatchEvent(new PointerEvent("pointerdown",
              {clientX: x, clientY: box.top + 25, pointerId: 1, bubbles: true}));
            lanes.dispatchEvent(new PointerEvent("pointerup", {pointerId: 1, bubbles: true}));
            """,
            pts,
        )
        return self.shown()

    def press(self, key: str) -> None:
        """Press a key on the page."""
        self.script("document.activeElement.blur()")
        self.find("body").send_keys(key)


def find_chromium() -> tuple[str, str] | None:
    """A browser and its driver, if both are here."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    if os.environ.get("CI") == "true":
        pytest.fail("CI has no Chromium: apt-get install chromium chromium-driver")
    return None


@contextmanager
def chromium(folder: Path, *more: str) -> Iterator[Page]:
    """A fresh Chromium whose profile and network log are in a folder."""
    found = find_chromium()
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, *more):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={folder / 'profile'}")
    options.add_argument(f"--log-net-log={folder / 'network.json'}")
    downloads = {"download.default_directory": str(folder / "downloads")}
    options.add_experimental_option("prefs", downloads)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(found[1]))
    try:
        metrics = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        yield Page(driver)
    finally:
        driver.quit()


def connections(folder: Path) -> set[str]:
    """Addresses that the browser connected to, from its network log; read after its end."""
    log = json.loads((folder / "network.json").read_text())
    names = {number: name for name, number in log["constants"]["logEventTypes"].items()}
    found = set()
    for event in log["events"]:
        if names[event["type"]] in ("TCP_CONNECT_ATTEMPT", "UDP_BYTES_SENT"):
            found.add(str(event.get("params", {}).get("address", "")))
    return found - {""}
