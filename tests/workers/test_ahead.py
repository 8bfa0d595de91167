"""Converting ahead changes no picture, whatever was begun and not asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from ipc.errors import FormatChanged
from ipc.frame import PixelFormat
from workers.codecs.ahead import AheadConverter
from workers.codecs.convert import Converter

SIZE = (64, 48)


def new_converter() -> Converter:
    return Converter(*SIZE, PixelFormat.BGR8)


@pytest.fixture
def ahead() -> Iterator[AheadConverter]:
    made = AheadConverter(new_converter())
    yield made
    made.close()


@pytest.fixture
def frames() -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    return [rng.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(5)]


def expected(pixels: NDArray[np.uint8]) -> bytes:
    return b"".join(bytes(plane) for plane in new_converter().convert(pixels).planes)


def test_pictures_are_those_of_the_converter(
    ahead: AheadConverter, frames: list[NDArray[np.uint8]]
) -> None:
    """Begun ahead, begun and dropped, begun twice, or not begun: the picture asked for comes."""
    for number, pixels in enumerate(frames):
        picture = ahead.convert(pixels)
        following = frames[(number + 1) % len(frames)]
        if number % 2:
            ahead.begin(following)
            ahead.begin(following)
        if number == 2:
            ahead.begin(frames[0])
        assert b"".join(bytes(plane) for plane in picture.planes) == expected(pixels)
        assert ahead.convert_s > 0


def test_the_picture_in_the_encoders_hands_and_the_one_before_stay(
    ahead: AheadConverter, frames: list[NDArray[np.uint8]]
) -> None:
    """An encoder may hold one back while the next but one is being converted."""
    before = ahead.convert(frames[0])
    ahead.begin(frames[1])
    now = ahead.convert(frames[1])
    ahead.begin(frames[2])
    ahead.begin(frames[2])
    ahead.close()  # waits for it
    assert b"".join(bytes(plane) for plane in before.planes) == expected(frames[0])
    assert b"".join(bytes(plane) for plane in now.planes) == expected(frames[1])


def test_what_cannot_be_converted_is_told_when_it_is_asked_for(
    ahead: AheadConverter, frames: list[NDArray[np.uint8]]
) -> None:
    """Begun and dropped it disturbs nobody."""
    wrong = np.zeros((3, 3, 3), np.uint8)
    ahead.begin(wrong)
    ahead.convert(frames[0])
    ahead.begin(wrong)
    with pytest.raises(FormatChanged):
        ahead.convert(wrong)
