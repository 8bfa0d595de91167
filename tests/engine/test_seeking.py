"""Pictures at any time in a recording: the one that is shown then, whatever part holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import barcode
from engine.container import recovery
from engine.container.payload import offset_of_chunk
from engine.container.reader import RecordingReader
from engine.reading.seeking import PictureFinder
from ipc.errors import ConfigError, Corrupt
from tests.engine.recordings import FIRST_ID, PERIOD, Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "day.mp4.enc")


def found(finder: PictureFinder, pts: int) -> tuple[int | None, int]:
    """Time and number of the picture at a time."""
    picture = finder.picture_at(pts)
    number = barcode.read(picture.to_ndarray()[: picture.height])
    assert number is not None
    return picture.pts, number - FIRST_ID


def test_each_picture_at_its_time_and_until_the_next(studio: Studio) -> None:
    """Backwards, within and between fragments, over the joint of two parts that overlap."""
    studio.part(0, range(24), sealed=False)
    recovery.recover(studio.base, studio.secret)
    studio.part(1, range(13, 40))
    with RecordingReader.open(studio.base, studio.secret) as recording:
        with PictureFinder(recording) as finder:
            for number in reversed(range(40)):
                first = number * PERIOD
                assert found(finder, first) == (first, number)
                assert found(finder, first + PERIOD - 1) == (first, number)
            assert found(finder, 1000 * PERIOD) == (39 * PERIOD, 39)
            assert found(finder, -1) == (0, 0)
        assert recording.parts[0].init_segment  # it is the caller's to close


def test_a_gap_shows_the_picture_before_it(studio: Studio) -> None:
    """As a player does, also where the recording begins late."""
    studio.part(0, [3, 4, 5, 30, 31])
    with (
        RecordingReader.open(studio.base, studio.secret) as recording,
        PictureFinder(recording) as finder,
    ):
        assert found(finder, 0)[1] == 3
        assert found(finder, 20 * PERIOD)[1] == 5
        assert found(finder, 30 * PERIOD)[1] == 30


def test_what_was_changed_is_not_shown(studio: Studio) -> None:
    """A picture in a damaged fragment is refused, one in another is not."""
    studio.part(0, range(40))
    with RecordingReader.open(studio.base, studio.secret) as recording:
        chunk = recording.parts[0].index[2].first_chunk
        begin = recording.parts[0].index[2].pts
    with studio.base.open("r+b") as file:
        file.seek(offset_of_chunk(chunk) + 100)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    with (
        RecordingReader.open(studio.base, studio.secret) as recording,
        PictureFinder(recording) as finder,
    ):
        assert found(finder, 0) == (0, 0)
        with pytest.raises(Corrupt):
            finder.picture_at(begin)


def test_a_recording_without_pictures(studio: Studio) -> None:
    """There is nothing to find."""
    studio.part(0, [])
    with (
        RecordingReader.open(studio.base, studio.secret) as recording,
        pytest.raises(ConfigError),
    ):
        PictureFinder(recording)
