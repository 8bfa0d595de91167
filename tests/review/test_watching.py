"""The review page in a real Chromium: what it shows is what the frame tables say."""

from __future__ import annotations

import datetime
import random
import struct
from collections.abc import Iterator

import pytest

from tests.engine.recordings import FIRST_ID, PERIOD
from tests.review.browser import Page
from tests.review.conftest import PASSWORD, Server, Shelf
from tests.review.treatment import FRAMES, GAP, MARKS, OVERLAP, START_NS, UTC_NS, host_ns


@pytest.fixture(scope="module")
def opened(page: Page, server: Server, shelf: Shelf) -> Page:
    """The good recording, open."""
    page.driver.get(server.url)
    page.open("good.mp4.enc", shelf.key_file)
    page.wait_ready()
    return page


@pytest.fixture
def watching(opened: Page) -> Iterator[Page]:
    """The same; at the end it pauses."""
    yield opened
    opened.script("document.getElementById('video').pause()")


def expected(pts: int) -> int:
    """Number of the frame that is to be seen at a time; in the gap the first one behind it."""
    number = pts // PERIOD
    return GAP.stop if number in GAP else min(number, FRAMES - 1)


def test_random_seeks_show_the_frame_of_that_time(watching: Page) -> None:
    """Ten of them: the picture's barcode is the frame table's id for that time."""
    chance = random.Random(6)
    for _ in range(10):
        wanted = chance.randrange(FRAMES * PERIOD)
        shown = watching.seek(wanted)
        number = shown.pts // PERIOD
        assert shown.frame_id == FIRST_ID + number
        assert shown.number == shown.frame_id
        # The timeline has a thousand pixels or so for the whole recording.
        assert abs(number - expected(wanted)) <= 1, wanted


def test_a_mark_is_shown_at_its_frame(watching: Page) -> None:
    """From the table beside the picture, and by key from one to the next."""
    for at, kind, _ in MARKS:
        words = kind.replace("_", " ")
        watching.wait(lambda words=words: watching.click_on("#rows tr", words), kind)
        shown = watching.shown()
        assert (shown.frame_id, shown.number) == (FIRST_ID + at, FIRST_ID + at)
    for at, _, _ in reversed(MARKS[:-1]):
        watching.press("M")
        assert watching.shown().number == FIRST_ID + at


def test_it_plays_over_a_gap_and_into_the_next_part(watching: Page) -> None:
    """The gap is said and stepped over; frames that both parts hold are shown once."""
    watching.seek((GAP.start - 12) * PERIOD)
    watching.press(" ")
    watching.wait(lambda: "No picture for 1.9 s" in watching.text("notice"), "word about the gap")
    watching.wait(lambda: watching.frame() > FIRST_ID + GAP.stop + 3, "frame behind the gap")
    watching.press(" ")
    shown = watching.shown()
    assert shown.number == shown.frame_id == FIRST_ID + shown.pts // PERIOD
    watching.seek((OVERLAP.start - 6) * PERIOD)
    seen = watching.play_until(FIRST_ID + OVERLAP.stop + 4)
    assert seen == sorted(set(seen))
    shown = watching.shown()
    assert shown.number == shown.frame_id


def test_single_frames(watching: Page) -> None:
    """One by one, over the gap and from part to part, there and back."""
    for first, second in (
        (20, 21),
        (23, 24),  # fragments have 8 frames
        (GAP.start - 1, GAP.stop),
        (OVERLAP.start - 1, OVERLAP.start),
        (OVERLAP.start, OVERLAP.start + 1),
    ):
        row = first * PERIOD
        watching.script("return window.sealrec.seek(arguments[0])", row)
        assert watching.shown().number == FIRST_ID + first
        watching.press(".")
        assert watching.shown().number == FIRST_ID + second
        watching.press(",")
        assert watching.shown().number == FIRST_ID + first


def test_a_part_does_not_reach_into_the_next(watching: Page) -> None:
    """Fetched after it, the fragment before a part leaves that part's pictures as they are."""
    watching.choose("good.mp4.enc")  # anew, so that nothing near is fetched yet
    watching.wait_ready()
    for number in (OVERLAP.stop + 2, OVERLAP.start - 2):
        watching.script("return window.sealrec.seek(arguments[0])", number * PERIOD)
        assert watching.shown().number == FIRST_ID + number
    for number in range(OVERLAP.start - 1, OVERLAP.stop + 6):
        watching.press(".")
        assert watching.shown().number == FIRST_ID + number


def test_times_are_those_of_the_frame(watching: Page) -> None:
    """Time of day, time in the recording and on the camera's clock."""
    number = 331
    watching.script("return window.sealrec.seek(arguments[0])", number * PERIOD)
    assert watching.shown().number == FIRST_ID + number
    ns = host_ns(number)
    at = datetime.datetime.fromtimestamp((UTC_NS + ns - START_NS) / 1e9)
    assert watching.text("clock")[:12] == at.isoformat(timespec="milliseconds")[11:]
    assert watching.text("frame").replace(",", "") == str(FIRST_ID + number)
    assert watching.text("position") == "0:00:11.033"
    assert watching.text("camera") == f"{2 * ns / 1e9:.9f}"[:-3] + " s"


def test_what_happened_is_listed(watching: Page) -> None:
    """Marks, the loss with its ids, the gap and its reason, events; filtered at will."""
    watching.wait(lambda: watching.text("badge-text") == "Intact and complete", "verdict")
    told = watching.text("rows")
    assert f"frames {FIRST_ID + GAP.start} to {FIRST_ID + GAP.stop - 1}" in told
    assert "56 lost" in told
    assert "no picturecamera gap · 1.9 s" in told
    assert "overload2 steps faster" in told
    assert "12 mJ" in told
    watching.find("#filter").send_keys("laser")
    kinds = watching.script(
        "return [...document.querySelectorAll('#rows b')].map(e => e.textContent)"
    )
    assert kinds == ["laser on", "laser off"]
    watching.find("#filter").clear()
    watching.find("#filter").send_keys("x\b")
    for box in watching.driver.find_elements("css selector", "input.sort"):
        if box.get_attribute("value") != "gap":
            box.click()
    kinds = watching.script(
        "return [...document.querySelectorAll('#rows b')].map(e => e.textContent)"
    )
    assert kinds == ["no picture"]
    assert f"{FRAMES - len(GAP)} frames are recorded" in watching.text("verdict-text")


def test_a_still_is_saved(watching: Page, browser_folder: Page) -> None:
    """As PNG in the picture's own size, named after its frame."""
    watching.script("return window.sealrec.seek(arguments[0])", 50 * PERIOD)
    assert watching.shown().number == FIRST_ID + 50
    watching.press("s")
    wanted = browser_folder / "downloads" / f"good_0-00-01.666_frame-{FIRST_ID + 50}.png"
    watching.wait(wanted.exists, "still")
    data = wanted.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (256, 160)


def test_locked_is_locked(watching: Page, shelf: Shelf) -> None:
    """Nothing is shown any more, and a password opens it again."""
    watching.click("lock")
    watching.wait(lambda: watching.find("#unlock").is_displayed(), "form")
    assert watching.text("unlock-error") == "Locked. The key is forgotten."
    assert watching.script("return document.getElementById('video').videoWidth") == 0
    watching.find("input[value=password]").click()
    watching.find("#password").send_keys("no " + PASSWORD)
    watching.click("unlock-button")
    watching.wait(lambda: "does not open" in watching.text("unlock-error"), "refusal")
    watching.find("#password").clear()
    watching.find("#password").send_keys(PASSWORD)
    watching.click("unlock-button")
    watching.wait_ready()
    assert watching.script("return document.getElementById('password').value") == ""


def test_a_changed_recording_says_so(watching: Page, shelf: Shelf) -> None:
    """In the badge and at the place; everything else of it plays."""
    watching.open("changed.mp4.enc", shelf.key_file)
    watching.wait(lambda: watching.text("badge-text") == "Changed or damaged", "verdict")
    assert "is not what was written" in watching.text("verdict-text")
    assert watching.script("return document.getElementById('badge').dataset.level") == "bad"
    watching.script("return window.sealrec.seek(arguments[0])", 300 * PERIOD)
    watching.wait(lambda: watching.frame() == FIRST_ID + 300, "frame 300")
    assert watching.shown().number == FIRST_ID + 300
    watching.script("return window.sealrec.seek(0)")
    watching.press(" ")
    watching.wait(
        lambda: "cannot be shown: the file was changed or damaged there" in watching.text("notice"),
        "word about the damage",
    )
    watching.wait(lambda: watching.frame() < FIRST_ID + 100, "way back")


def test_a_cut_recording_plays_as_far_as_it_is_intact(watching: Page, shelf: Shelf) -> None:
    """And says up to when, in the list, at the top and in the badge."""
    watching.click("home")
    watching.wait(lambda: "cut.001.mp4.enc ends too early" in watching.text("recordings"), "list")
    watching.open("cut.mp4.enc", shelf.key_file)
    watching.wait_ready()
    damage = watching.text("damage")
    assert "This recording is damaged or not complete" in damage
    assert "cut.001.mp4.enc ends too early" in damage
    assert "can be watched, up to 0:00:1" in damage
    end = watching.script("return Number(document.getElementById('lanes').dataset.end)")
    assert OVERLAP.stop * PERIOD < end < FRAMES * PERIOD
    watching.press("\ue010")  # End
    shown = watching.shown()
    assert shown.number == shown.frame_id == FIRST_ID + end // PERIOD - 1
    watching.wait(lambda: watching.text("badge-text") == "Changed or damaged", "verdict")


def test_a_wrong_key_says_so(watching: Page, shelf: Shelf) -> None:
    """And opens nothing."""
    watching.open("below/other.mp4.enc", shelf.wrong_key)
    watching.wait(lambda: watching.text("unlock-error"), "refusal")
    assert "This key or password does not open the recording" in watching.text("unlock-error")
    assert watching.find("#unlock").is_displayed()


def test_no_script_failed(watching: Page) -> None:
    """What the browser's console has is what the server refused on purpose; asked last."""
    said = [entry["message"] for entry in watching.driver.get_log("browser")]
    assert not [line for line in said if "status of 4" not in line]
