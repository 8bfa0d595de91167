"""Names of plain video files in the engine's words."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from engine.qt.names import engine_codec, png_path, recording_path, still_path

NOW = datetime(2026, 11, 26, 17, 5, 9, 42_000)


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("a.mp4", "a.mp4.enc"),
        ("a.AVI", "a.mp4.enc"),
        ("a", "a.mp4.enc"),
        ("a.mp4.enc", "a.mp4.enc"),
        ("patient 3.2", "patient 3.2.mp4.enc"),
        ("sub/a.mov", "sub/a.mp4.enc"),
    ],
)
def test_a_recording_never_has_the_name_of_a_plain_video(asked: str, name: str) -> None:
    """A relative name counts from the folder, an absolute one from nowhere."""
    assert recording_path(asked, "/data") == Path("/data", name)
    assert recording_path(Path("/else", asked), "/data") == Path("/else", name)


def test_a_still_has_its_time_in_its_name() -> None:
    """To the millisecond, so that the next one has another."""
    assert still_path("eye.png", "/data", NOW) == Path("/data/eye_20261126_170509_042.mp4.enc")
    assert png_path("eye", None, NOW) == Path("eye_20261126_170509_042.png")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (None, "h264"),
        ("mp4v", "h264"),
        ("XVID", "h264"),
        ("avc1", "h264"),
        ("h264", "h264"),
        ("HEVC", "hevc"),
        ("hvc1", "hevc"),
        ("av01", "av1"),
        ("mpeg4", "mpeg4"),
        ("libx265", "libx265"),
    ],
)
def test_fourccs_become_codecs(asked: str | None, name: str) -> None:
    """Old ones become what plays everywhere; an encoder's own name is passed on."""
    assert engine_codec(asked) == name
