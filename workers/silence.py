"""When a source that should deliver frames does not: told once, and in the end given up. Pure."""

from __future__ import annotations

from typing import Literal

__all__ = ["Silence"]

FIRST_FRAME_S = 3.0  # a camera's first frame may take so much longer than the next ones
PATIENCE_S = 3.0  # then opening the camera anew may help where waiting does not
HELD_UP_S = 1.0  # a process that was held up itself finds its frames in the buffers
SETTLED_S = 1.0

News = Literal["", "heard", "silent", "given up"]


class Silence:
    """Watches the signs of one stream.

    Args:
        limit_s: No sign for longer is a silence; None: the source may be quiet for ever, and is
            taken as heard once its stream has lasted a second.
        began: When the stream began; any clock in seconds, the same for `look`.

    Attributes:
        text: How long it has been silent, for a person.
    """

    def __init__(self, limit_s: float | None, began: float) -> None:
        self.text = ""
        self._limit_s = limit_s
        self._began = self._looked = self._since = began
        self._signs = 0
        self._heard = self._told = False

    def expect(self, limit_s: float | None) -> None:
        """Another limit, from now on; the same again changes nothing."""
        if limit_s != self._limit_s:
            self._limit_s, self._since = limit_s, self._looked

    @property
    def expected(self) -> bool:
        """The next sign of life would be news."""
        return self._told or not self._heard

    def look(self, now: float, signs: int) -> News:
        """What is new.

        Args:
            now: The time.
            signs: A number that has grown if there was a sign of life since the last look.

        Returns:
            ``heard`` at the first sign and at the first after a silence, ``silent`` once when one
            begins, ``given up`` when it has lasted too long, else nothing.
        """
        if now - self._looked > HELD_UP_S:
            self._since += now - self._looked
        self._looked = now
        if signs != self._signs:
            self._signs, self._since = signs, now
            return self._hear()
        if self._limit_s is None:
            settled = not self._heard and now - self._began > SETTLED_S
            return self._hear() if settled else ""
        quiet_s = now - self._since
        limit_s = self._limit_s + (0.0 if self._heard else FIRST_FRAME_S)
        self.text = f"no frame for {quiet_s:.1f} s"
        if quiet_s > limit_s + PATIENCE_S:
            return "given up"
        if quiet_s > limit_s and not self._told:
            self._told = True
            return "silent"
        return ""

    def _hear(self) -> News:
        is_new = self.expected
        self._heard, self._told = True, False
        return "heard" if is_new else ""
