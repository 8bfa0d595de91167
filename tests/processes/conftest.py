"""A key file for the recordings of real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.keys import new_key_file
from tests.gentl.fixture import gentl_producer, simulated_cameras

__all__ = ["gentl_producer", "key_file", "simulated_cameras"]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key file, readable by its owner alone."""
    path = tmp_path / "treatment.key"
    new_key_file(path)
    return path
