"""The source of a pipeline as it is asked for and as it is: its specification, ring and settings.

Values and arithmetic only: `pipeline` sends what is made here, and hears what the source says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from engine.config import Limits, SourceConfig
from ipc.camera_control import CameraChanges
from ipc.frame import PixelFormat
from ipc.messages import SourceOpened, StandBy

__all__ = ["OpenedSource"]

# A camera that is opened again may be missing for a while; then another process tries.
REOPEN_WAIT_S = 10.0


@dataclass(slots=True)
class OpenedSource:
    """What was asked for, and what the source said of itself, also over its restarts.

    Attributes:
        config: As asked for.
        limits: Of the one recording that it is opened for.
        said: What it delivers; None before it was open.
        frame: Size, format and rate of the frames to come, for the encoder.
        changes: All that was changed while it was open, for when it is opened again.
    """

    config: SourceConfig
    limits: Limits = field(default_factory=Limits)
    said: SourceOpened | None = None
    frame: dict[str, Any] = field(default_factory=dict)
    changes: CameraChanges = field(default_factory=CameraChanges)
    _settings: str = ""

    def opened(self, said: SourceOpened) -> None:
        """It is open, for the first time or again."""
        self.said = said
        self._settings = self._settings or said.settings
        if not self.frame:
            self.frame = {
                "width_px": said.width_px,
                "height_px": said.height_px,
                "pixel_format": said.pixel_format,
                "rate_hz": said.rate_hz,
            }

    def changed(self, changes: CameraChanges, rate_hz: float) -> None:
        """Its settings are other ones now, and perhaps its rate."""
        self.changes = self.changes.then(changes)
        if self.said is not None:
            self.said = msgspec.structs.replace(self.said, rate_hz=rate_hz)

    @property
    def rate_hz(self) -> float:
        """Nominal frame rate; 30 before it is known."""
        return self.said.rate_hz if self.said else 30.0

    def spec(self, offered: int) -> dict[str, Any]:
        """The specification for the capture worker (workers/sources/source.py).

        A camera is opened again as itself, with the settings that it had: one that was unplugged
        has forgotten them.

        Args:
            offered: Frames delivered so far: after a restart, the rest is still to come.
        """
        spec = self.config.source_spec(self.limits)
        if self.config.source_kind == "vimba" and self.said is not None:
            spec["url"] = f"vimba:{self.said.camera.get('id', '')}"
            spec["restore"] = self._settings
            spec["wait_s"] = REOPEN_WAIT_S
        spec["changes"] = msgspec.to_builtins(self.changes)
        if spec["frames"] is not None and self.said is not None:
            spec["frames"] = max(1, spec["frames"] - offered)
        return spec

    def frames_left(self, offered: int) -> int | None:
        """Limit for sources that do not keep one themselves."""
        if self.config.source_kind == "synthetic" or self.said is None:
            return None
        seconds, limit = self.limits.seconds, self.limits.frames
        if seconds is not None and not self.said.triggered:
            by_time = max(1, round(seconds * self.said.rate_hz))
            limit = by_time if limit is None else min(limit, by_time)
        return None if limit is None else max(1, limit - offered)

    def ring_size(self) -> tuple[int, int]:
        """Slots of the ring, and bytes of each.

        Raises:
            ValueError: the source speaks of a pixel format that does not exist.
        """
        assert self.said is not None
        pixel_format = PixelFormat(self.said.pixel_format)
        slot_bytes = pixel_format.size_bytes(self.said.width_px, self.said.height_px)
        return self.config.ring_slots(slot_bytes, self.said.rate_hz), slot_bytes

    def stand_by(self, slots: int) -> StandBy:
        """How an encoder waits for the next recording."""
        hold_s, frames = self.config.hold(self.rate_hz, slots)
        return StandBy(hold_s=hold_s, hold_frames=frames)

    def details(self) -> dict[str, Any]:
        """For a controller (PROTOCOL.md, "Balance sheet"); empty before it is open."""
        if self.said is None:
            return {}
        return {
            "width_px": self.said.width_px,
            "height_px": self.said.height_px,
            "pixel_format": self.said.pixel_format,
            "rate_hz": self.said.rate_hz,
            "triggered": self.said.triggered,
            "camera": self.said.camera,
        }
