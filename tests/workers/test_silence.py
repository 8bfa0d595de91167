"""When a source that should deliver frames does not."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from workers.silence import FIRST_FRAME_S, PATIENCE_S, SETTLED_S, Silence

STEP_S = 0.1


def looked_at(silence: Silence, signs: Iterable[int], *, since: float = 0.0) -> list[str]:
    """What is new at each look, one every 0.1 s, without the empty ones."""
    looks = (silence.look(since + n * STEP_S, sign) for n, sign in enumerate(signs, 1))
    return [news for news in looks if news]


def test_frames_that_come_are_heard_once() -> None:
    """The first of a stream is news, the others are not."""
    assert looked_at(Silence(1.0, 0.0), range(1, 50)) == ["heard"]


def test_a_silence_is_told_once_and_so_is_its_end() -> None:
    """After the limit it is told, at the next sign it is over."""
    silence = Silence(1.0, 0.0)
    assert looked_at(silence, [1] * 15) == ["heard", "silent"]
    assert silence.text == "no frame for 1.4 s"
    assert looked_at(silence, [2, 3, 4], since=1.5) == ["heard"]


def test_a_sign_is_awaited_before_the_first_and_in_a_silence() -> None:
    """Only then a look has to come soon."""
    silence = Silence(1.0, 0.0)
    assert silence.expected
    assert looked_at(silence, [1]) == ["heard"]
    assert not silence.expected
    assert looked_at(silence, [1] * 15, since=0.1) == ["silent"]
    assert silence.expected
    assert looked_at(silence, [2], since=1.6) == ["heard"]
    assert not silence.expected


def test_a_pause_within_the_limit_is_none() -> None:
    """As long as the limit is not passed nothing is said."""
    assert looked_at(Silence(1.0, 0.0), [1] * 10 + [2] * 10 + [3] * 10) == ["heard"]


def test_a_silence_that_lasts_is_given_up() -> None:
    """Told first, given up once patience is at an end."""
    silence = Silence(1.0, 0.0)
    count = round((1.0 + PATIENCE_S) / STEP_S)
    assert looked_at(silence, [1] * count) == ["heard", "silent"]
    assert looked_at(silence, [1] * 5, since=count * STEP_S)[-1] == "given up"


def test_the_first_frame_has_more_time() -> None:
    """A camera that starts is not silent yet."""
    count = round((1.0 + FIRST_FRAME_S) / STEP_S)
    silence = Silence(1.0, 0.0)
    assert looked_at(silence, [0] * count) == []
    assert looked_at(silence, [0] * 2, since=count * STEP_S) == ["silent"]


def test_a_process_that_was_held_up_blames_nobody() -> None:
    """After a suspension the frames wait in the buffers: the time away does not count."""
    silence = Silence(1.0, 0.0)
    assert looked_at(silence, [1, 2, 3]) == ["heard"]
    assert silence.look(3600.0, 3) == ""
    assert silence.look(3600.5, 3) == ""
    assert silence.look(3601.4, 3) == "silent"


@pytest.mark.parametrize("signs", [[0] * 30, [0] * 5 + [1] * 25])
def test_without_a_limit_the_stream_itself_is_heard(signs: list[int]) -> None:
    """A camera that waits for triggers is there as soon as its stream has settled."""
    silence = Silence(None, 0.0)
    assert looked_at(silence, signs) == ["heard"]
    assert looked_at(silence, [signs[-1]] * 1000, since=SETTLED_S + 3) == []
