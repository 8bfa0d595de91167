"""A recording that is handed over, and one package of it for all who only read it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.evidence.kit import Desk, Treatment


def _desk(folder: Path) -> Desk:
    (folder / "out").mkdir()
    return Desk(Treatment(folder / "day.mp4.enc"), folder / "out" / "evidence.zip")


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A desk of the test's own, with a recording of two parts."""
    desk = _desk(tmp_path)
    desk.studio.record()
    return desk


@pytest.fixture
def empty_desk(tmp_path: Path) -> Desk:
    """A desk without a recording yet."""
    return _desk(tmp_path)


@pytest.fixture(scope="session")
def handed_over(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """A package that nobody changes, made with a catalog."""
    from engine.catalog.place import place_of
    from engine.catalog.schema import initialize
    from engine.catalog.sync import sync

    desk = _desk(tmp_path_factory.mktemp("handed_over"))
    desk.studio.record()
    place = place_of(str(desk.studio.base.parent / "catalog.sqlite"))
    assert place is not None
    initialize(place)
    sync(place, desk.studio.base.parent, desk.studio.secret)
    desk.hand_over(place=place, operator="M. Curie")
    return desk


@pytest.fixture
def unzip() -> str:
    """A zip program that is not Python's."""
    return _program("unzip")


@pytest.fixture
def openssl() -> str:
    """What VERIFY.txt asks for."""
    return _program("openssl")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing = f"needs {name}: apt install {name}"
        pytest.fail(missing) if os.environ.get("CI") == "true" else pytest.skip(missing)
    return found
