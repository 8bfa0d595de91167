"""When the encoder goes faster and when it goes back: a rule, without clock and I/O.

Asked once at each fragment's start, because a speed steps at a key frame only:

    waiting > min(35 % of the ring, 0.5 s of frames), and not falling -> overload: one step faster
    waiting <= min(5 % of the ring, 0.15 s)                           -> no overload (any more)
    waiting <= min(5 % of the ring, 0.15 s) for 5 s                   -> one step back

A step back that leads into overload again within 30 s doubles those 5 s, up to 320 s, so a machine
that is just too slow changes its speed seldom. Never slower than what was asked for. It changes no
encoder: that is the encoder process's.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["LoadControl"]

HIGH_SHARE = 0.35
HIGH_S = 0.5
LOW_SHARE = 0.05
LOW_S = 0.15
PATIENCE_S = 5.0
MOST_PATIENCE_S = 320.0
TRIAL_S = 30.0


class LoadControl:
    """The load of one part's encoder.

    Args:
        slots: Frames the ring holds.
        rate_hz: Nominal frame rate.
        speeds: What the encoder can step through within one file, slowest first.
        speed: What it was opened with; if it is none of them, there are no steps.
        behind: Frames that waited before it began, its pre-roll: no overload, and never more of
            them than there still are.

    Attributes:
        speed: In force, or wanted by the last `observe`.
        overloaded: The ring fills, whether or not a faster speed is left.
        high_frames: More waiting frames than this are an overload.
        low_frames: This many or fewer leave room.
    """

    def __init__(
        self, *, slots: int, rate_hz: float, speeds: Sequence[str], speed: str, behind: int = 0
    ) -> None:
        self._behind = behind
        self.speed = speed
        self.overloaded = False
        self.low_frames = max(1, int(min(LOW_SHARE * slots, LOW_S * rate_hz)))
        high = int(min(HIGH_SHARE * slots, HIGH_S * rate_hz))
        self.high_frames = max(self.low_frames + 1, high)
        at = speeds.index(speed) if speed in speeds else len(speeds)
        self._steps = [speed, *speeds[at + 1 :]]
        self._at = 0
        self._before: int | None = None
        self._low_since: float | None = None
        self._back_at: float | None = None
        self._patience_s = PATIENCE_S

    def observe(self, waiting: int, now_s: float) -> str | None:
        """Look at the ring as a fragment begins.

        Args:
            waiting: Frames in the ring behind the one that begins the fragment.
            now_s: Any clock that only goes forward.

        Returns:
            The speed to go on with, if it is another one.
        """
        self._behind = min(self._behind, waiting)
        waiting -= self._behind
        # Frames that another cause has piled up are no overload while they become fewer.
        falling = self._before is None or waiting < self._before
        self._before = waiting
        if waiting > self.low_frames:
            self._low_since = None
        if waiting > self.high_frames and not falling:
            self.overloaded = True
            return self._faster(now_s)
        if waiting <= self.low_frames:
            self.overloaded = False
            return self._maybe_back(now_s)
        return None

    def held_up(self) -> None:
        """The frames that wait now were held up by something else, such as the disk."""
        self._before = None
        self._low_since = None

    def refused(self, speed: str) -> None:
        """The encoder could not take the speed wanted last; it goes on with ``speed`` for good."""
        self.speed, self._steps, self._at = speed, [speed], 0

    def _faster(self, now_s: float) -> str | None:
        if self._at + 1 >= len(self._steps):
            return None
        if self._back_at is not None and now_s - self._back_at < TRIAL_S:
            self._patience_s = min(2 * self._patience_s, MOST_PATIENCE_S)
        else:
            self._patience_s = PATIENCE_S
        self._back_at = None
        return self._go(self._at + 1)

    def _maybe_back(self, now_s: float) -> str | None:
        if self._low_since is None:
            self._low_since = now_s
        if self._at == 0 or now_s - self._low_since < self._patience_s:
            return None
        self._low_since = self._back_at = now_s
        return self._go(self._at - 1)

    def _go(self, at: int) -> str:
        self._at = at
        self.speed = self._steps[at]
        return self.speed
