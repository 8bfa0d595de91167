"""A camera's settings that a controller may change while it streams, as they travel (PROTOCOL.md).

Values and ranges only; how they are had from a camera stands in workers/sources/controls.py.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = ["CameraChanges", "CameraState"]

Positive = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
Decibels = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
Binning = Annotated[int, msgspec.Meta(ge=1, le=64)]


class CameraChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be set; None is left as it is.

    Attributes:
        exposure_us: Exposure time; ends automatic exposure.
        gain_db: Gain; ends automatic gain.
        frame_rate_hz: Frame rate; what is possible depends on the exposure.
        auto_exposure: The camera chooses the exposure, all the time.
        auto_gain: The camera chooses the gain, all the time.
        auto_white_balance: The camera balances its colours, all the time.
        binning: Pixels joined in each direction; changes the size of the frames.
    """

    exposure_us: Positive | None = None
    gain_db: Decibels | None = None
    frame_rate_hz: Positive | None = None
    auto_exposure: bool | None = None
    auto_gain: bool | None = None
    auto_white_balance: bool | None = None
    binning: Binning | None = None

    def as_set(self, state: CameraState) -> str:
        """What was asked for, by name, with what the camera has now."""
        asked = [name for name, v in msgspec.structs.asdict(self).items() if v is not None]
        return ", ".join(f"{name} {getattr(state, name)}" for name in asked)

    def then(self, later: CameraChanges) -> CameraChanges:
        """Both, one after the other, as one."""
        given = msgspec.structs.asdict(later)
        changed: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        # A value and its automatic end each other; the later one holds.
        for value, auto in (("exposure_us", "auto_exposure"), ("gain_db", "auto_gain")):
            if changed.get(auto):
                changed.setdefault(value, None)
            elif value in changed:
                changed.setdefault(auto, None)
        return msgspec.structs.replace(self, **changed)


class CameraState(msgspec.Struct, frozen=True):
    """What a camera does now, as read back, and what it can do; None is what it has not.

    Attributes:
        exposure_us: Exposure time.
        gain_db: Gain.
        frame_rate_hz: Frame rate.
        auto_exposure: Whether the camera chooses the exposure.
        auto_gain: Whether the camera chooses the gain.
        auto_white_balance: Whether the camera balances its colours.
        binning: Pixels joined in each direction.
        exposure_range_us: Shortest and longest.
        gain_range_db: Least and most.
        frame_rate_range_hz: Slowest and fastest at the present exposure and size.
        binning_range: Least and most.
    """

    exposure_us: float | None = None
    gain_db: float | None = None
    frame_rate_hz: float | None = None
    auto_exposure: bool | None = None
    auto_gain: bool | None = None
    auto_white_balance: bool | None = None
    binning: int | None = None
    exposure_range_us: tuple[float, float] | None = None
    gain_range_db: tuple[float, float] | None = None
    frame_rate_range_hz: tuple[float, float] | None = None
    binning_range: tuple[int, int] | None = None
