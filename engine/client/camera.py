"""A camera's settings as a controller sees them (PROTOCOL.md, "Camera")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

__all__ = ["Camera", "CameraSettings"]


class CameraSettings(TypedDict, total=False):
    """Keyword options of ``set_camera``; what is left out stays as it is."""

    exposure_us: float
    gain_db: float
    frame_rate_hz: float
    auto_exposure: bool
    auto_gain: bool
    auto_white_balance: bool
    binning: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
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

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Camera:
        """From the result of ``get_camera`` or ``set_camera``."""
        known: dict[str, Any] = {one.name: raw.get(one.name) for one in fields(cls)}
        ranges = {name: tuple(v) for name, v in known.items() if isinstance(v, list)}
        return cls(**known | ranges)
