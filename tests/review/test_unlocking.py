"""Keys of open recordings: forgotten when they are to be, and used by nothing afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.container.recipients import KeyFileSecret
from engine.review.attempts import Attempts, TooManyAttempts
from engine.review.fragments import Locked
from engine.review.unlocked import LEAVE_S, Unlocked, Vault
from ipc.errors import WrongKey
from tests.engine.recordings import Studio
from tests.processes.serving import wait_until

IDLE_S = 600.0


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands."""
    return Clock()


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """A small recording."""
    studio = Studio(tmp_path / "x.mp4.enc")
    studio.part(0, range(16))
    return studio


@pytest.fixture
def vault(clock: Clock) -> Iterator[Vault]:
    """A vault that is emptied at the end."""
    vault = Vault(IDLE_S, clock)
    yield vault
    vault.forget_all()


def test_an_idle_recording_is_forgotten(vault: Vault, clock: Clock, studio: Studio) -> None:
    """Each request begins its idle time anew; what a page asks by itself does not."""
    unlocked = Unlocked(studio.base, studio.secret)
    vault.put("a", unlocked)
    clock.now += IDLE_S - 1
    vault.use("a")
    clock.now += IDLE_S - 1
    assert vault.forget_idle() == []
    vault.use("a", active=False)
    clock.now += 1
    assert vault.forget_idle() == ["a"]
    with pytest.raises(Locked):
        vault.use("a")
    assert not hasattr(unlocked, "key")
    with pytest.raises(Locked):
        unlocked.fragments.media(0, 0)


def test_a_page_that_left_is_forgotten(vault: Vault, clock: Clock, studio: Studio) -> None:
    """Soon, unless it was reloaded only."""
    vault.put("a", Unlocked(studio.base, studio.secret))
    vault.leave("a")
    clock.now += LEAVE_S / 2
    vault.use("a")  # it is back
    clock.now += LEAVE_S
    assert vault.forget_idle() == []
    vault.leave("a")
    clock.now += LEAVE_S
    assert vault.forget_idle() == ["a"]


def test_forgetting_ends_the_background_work(vault: Vault, studio: Studio) -> None:
    """Whether it has begun or not; no thread is left, and no file is open (see conftest)."""
    for _ in range(5):
        vault.put("a", Unlocked(studio.base, studio.secret))
    vault.forget("a")
    vault.forget("a")


def test_background_work_comes_to_its_end(vault: Vault, studio: Studio) -> None:
    """All tables are read, and every byte is verified."""
    unlocked = Unlocked(studio.base, studio.secret)
    vault.put("a", unlocked)
    wait_until(lambda: unlocked.verification.verdict().done == 1.0, "the verdict")
    assert unlocked.verification.verdict().headline == "Intact and complete"
    assert unlocked.timeline.view().frames == 16


def test_a_wrong_key_opens_nothing(studio: Studio) -> None:
    """Nothing stays open behind it (see conftest)."""
    with pytest.raises(WrongKey):
        Unlocked(studio.base, KeyFileSecret(bytes(32)))


def test_waits_grow_and_end(clock: Clock) -> None:
    """Two mistakes are free; a right key begins anew; a long wait is a minute."""
    attempts = Attempts(clock)
    waits = []
    for _ in range(12):
        with pytest.raises(WrongKey), attempts.one():
            raise WrongKey("no")
        before = clock.now
        while True:
            try:
                with attempts.one():
                    raise KeyError  # neither wrong nor right
            except TooManyAttempts as error:
                clock.now += error.wait_s
            except KeyError:
                break
        waits.append(clock.now - before)
    assert waits == [0, 0, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]
    with attempts.one():
        pass
    for _ in range(2):
        with pytest.raises(WrongKey), attempts.one():
            raise WrongKey("no")
    with attempts.one():
        pass


def test_one_attempt_at_a_time(clock: Clock) -> None:
    """Guesses in parallel are refused, not queued."""
    attempts = Attempts(clock)
    with attempts.one(), pytest.raises(TooManyAttempts), attempts.one():
        pass
