"""Fixtures for every test that needs a camera: ``pytest_plugins`` or an import makes them known."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gentl.build import build_producer, find_compiler
from tests.gentl.simulator import SimulatedCameras

__all__ = ["gentl_producer", "simulated_cameras"]


@pytest.fixture(scope="session")
def gentl_producer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled producer, built once; skips where that or vmbpy cannot be had."""
    if sys.platform != "linux":
        pytest.skip("the simulated camera is written for Linux")
    if find_compiler() is None:
        pytest.skip("no C compiler to build the simulated camera with")
    if importlib.util.find_spec("vmbpy") is None:
        pytest.skip("vmbpy is not installed: the simulated camera needs its VmbC")
    return build_producer(tmp_path_factory.mktemp("gentl"))


@pytest.fixture
def simulated_cameras(gentl_producer: Path, tmp_path: Path) -> Iterator[SimulatedCameras]:
    """Two cameras, DEV_SIM000 (1456x1088) and DEV_SIM001 (1920x1200), with no faults yet.

    Fails the test that wrote a command the producer did not understand.
    """
    directory = tmp_path / "cameras"
    directory.mkdir()
    cameras = SimulatedCameras(directory, gentl_producer)
    yield cameras
    assert not cameras.ledger("bad_command")
