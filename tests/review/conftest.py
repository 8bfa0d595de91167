"""Recordings, servers and a browser for the review page, shared by the tests of a file."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.container.payload import offset_of_chunk
from tests.engine.recordings import Studio, flip
from tests.processes.commands import command_line
from tests.review.browser import Page, chromium
from tests.review.treatment import record

PASSWORD = "correct horse battery staple"
AWAIT_S = 30


@dataclass(frozen=True, slots=True)
class Shelf:
    """A folder of recordings that one key file opens.

    Attributes:
        folder: Where.
        studio: Of the good one.
        key_file: Opens them.
        wrong_key: Opens none.
    """

    folder: Path
    studio: Studio
    key_file: Path
    wrong_key: Path


@dataclass(frozen=True, slots=True)
class Server:
    """A running `sealrec review`."""

    url: str
    process: subprocess.Popen[str]

    @property
    def base(self) -> str:
        """Address of the page."""
        return self.url.rpartition("/")[0] + "/"

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return "/".join(self.url.split("/")[:3])

    @property
    def port(self) -> int:
        """On 127.0.0.1."""
        return int(self.origin.rpartition(":")[2])


@contextmanager
def serving(place: Path | None, *options: str, err: Path | None = None) -> Iterator[Server]:
    """Run `sealrec review` on a folder."""
    where = [] if place is None else [place]
    command = command_line("review", *where, "--no-browser", "--json", *options)
    with open(err or os.devnull, "w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert process.stdout is not None
    try:
        yield Server(json.loads(process.stdout.readline())["url"], process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(AWAIT_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    """A good recording, a changed one, a cut one and one in a folder below."""
    folder = tmp_path_factory.mktemp("shelf")
    keys = tmp_path_factory.mktemp("keys")
    studio = record(folder / "good.mp4.enc", password=PASSWORD)
    key_file = Path(shutil.move(studio.key_file(), keys / "the.key"))
    wrong_key = keys / "wrong.key"
    wrong_key.touch(0o600)
    wrong_key.write_text(os.urandom(32).hex() + "\n")
    for name, part in (("changed", "001."), ("cut", "001."), ("below/other", "001.")):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(folder / "good.mp4.enc", folder / f"{name}.mp4.enc")
        shutil.copy(folder / f"good.{part}mp4.enc", folder / f"{name}.{part}mp4.enc")
    flip(folder / "changed.mp4.enc", offset_of_chunk(4) + 100)
    cut = folder / "cut.001.mp4.enc"
    os.truncate(cut, cut.stat().st_size // 2)
    return Shelf(folder, studio, key_file, wrong_key)


@pytest.fixture(scope="module")
def browser_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser keeps what it keeps."""
    return tmp_path_factory.mktemp("browser")


@pytest.fixture(scope="module")
def page(browser_folder: Path) -> Iterator[Page]:
    """A browser."""
    with chromium(browser_folder) as page:
        yield page


@pytest.fixture(scope="module")
def server(shelf: Shelf, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the tests of one file."""
    with serving(shelf.folder, err=tmp_path_factory.mktemp("server") / "stderr") as running:
        yield running
