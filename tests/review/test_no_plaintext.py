"""A whole review leaves no plaintext on any disk, and the browser talks to nobody else."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from engine.container.reader import RecordingReader
from tests.engine.recordings import FIRST_ID, PERIOD
from tests.review.browser import chromium, connections
from tests.review.conftest import Shelf, serving
from tests.review.treatment import FRAMES, OVERLAP

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc and /dev/shm")

NEEDLE = 24
LARGEST = 1 << 28


def needles(shelf: Shelf) -> list[bytes]:
    """Pieces of every third fragment's plaintext: its boxes and its encoded pictures."""
    found = []
    with RecordingReader.open(shelf.folder / "good.mp4.enc", shelf.studio.secret) as video:
        for part in video.parts:
            avcc = part.init_segment.index(b"avcC")
            found.append(part.init_segment[avcc : avcc + NEEDLE])
            for fragment in list(part.fragments())[::3]:
                media = part.read_at(fragment.media_size, fragment.media_offset)
                start = media.index(b"mdat") + 4
                found += [media[4 : 4 + 2 * NEEDLE], media[start + 8 : start + 8 + NEEDLE]]
    return found


def changed_files(places: Iterable[Path], since: float) -> Iterator[Path]:
    """Files below some places that were made or changed since a time."""
    for place in places:
        for folder, _, files in os.walk(place):
            for name in files:
                path = Path(folder, name)
                try:
                    status = path.stat(follow_symlinks=False)
                    if path.is_file() and max(status.st_mtime, status.st_ctime) >= since:
                        yield path
                except OSError:
                    continue  # gone


def unlinked_files(pids: Iterable[int]) -> Iterator[Path]:
    """Files on a disk that processes have open and that have no name any more."""
    for pid in pids:
        try:
            links = list(Path(f"/proc/{pid}/fd").iterdir())
        except OSError:
            continue
        for link in links:
            try:
                target = os.readlink(link)
            except OSError:
                continue
            in_memory = target.startswith(("/dev/shm/", "/memfd:", "/dev/"))
            if target.endswith(" (deleted)") and not in_memory:
                yield link


def holding(files: Iterable[Path], wanted: list[bytes]) -> list[str]:
    """Those of the files that hold any of some bytes."""
    found = []
    for path in files:
        try:
            if path.stat().st_size > LARGEST:
                continue
            data = path.read_bytes()
        except OSError:
            continue
        if any(piece in data for piece in wanted):
            found.append(str(path))
    return found


def test_a_review_leaves_nothing_in_the_clear(shelf: Shelf, tmp_path: Path) -> None:
    """Neither while it plays nor afterwards; and no connection but to the server."""
    wanted = needles(shelf)
    places = [tmp_path, Path(tempfile.gettempdir()), Path("/dev/shm"), Path.home(), shelf.folder]
    since = time.time() - 1
    with serving(shelf.folder) as server:
        with chromium(tmp_path) as page:
            page.driver.get(server.url)
            page.open("good.mp4.enc", shelf.key_file)
            page.wait_ready()
            for number in (400, 20, 200):
                page.seek(number * PERIOD)
            page.seek((OVERLAP.start - 8) * PERIOD)
            page.play_until(FIRST_ID + OVERLAP.stop)
            page.seek((FRAMES - 1) * PERIOD)
            driver = psutil.Process(page.driver.service.process.pid)
            pids = [server.process.pid, *(child.pid for child in driver.children(recursive=True))]
            assert len(pids) > 3
            assert holding(changed_files(places, since), wanted) == []
            assert holding(unlinked_files(pids), wanted) == []
        profile = list(changed_files([tmp_path / "profile"], since))
        assert len(profile) > 10  # it was there that the browser wrote
        assert holding(changed_files(places, since), wanted) == []
        assert connections(tmp_path) == {f"127.0.0.1:{server.port}"}


def test_the_search_finds_what_is_there(shelf: Shelf, tmp_path: Path) -> None:
    """One fragment, anywhere in a file, with a name or without."""
    wanted = needles(shelf)
    with RecordingReader.open(shelf.folder / "good.mp4.enc", shelf.studio.secret) as video:
        fragment = video.parts[0].fragment_bytes(3)
    copy = tmp_path / "deep" / "cache_0"
    copy.parent.mkdir()
    since = time.time() - 1
    copy.write_bytes(os.urandom(5000) + fragment + os.urandom(5000))
    assert holding(changed_files([tmp_path], since), wanted) == [str(copy)]
    with copy.open("rb"):
        copy.unlink()
        assert len(holding(unlinked_files([os.getpid()]), wanted)) == 1
