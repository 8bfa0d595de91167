"""Warnings that a status justifies: overload, and a disk that will be full soon.

Each is given once, and again only after the figure had been good in between.
"""

from __future__ import annotations

from engine.client.events import DiskLow, Event, Overload
from engine.client.values import Status

__all__ = ["Warnings"]

OVERLOAD_FILL, OVERLOAD_OVER = 0.5, 0.25
DISK_LOW_MINUTES, DISK_GOOD_MINUTES = 15.0, 20.0


class Warnings:
    """What one engine's statuses have warned of already."""

    def __init__(self) -> None:
        self._overload = False
        self._disk_low = False

    def look(self, status: Status) -> list[Event]:
        """Warnings that this status is the first to justify."""
        found: list[Event] = []
        ring = status.ring
        fill = ring.fill / ring.slots if ring.slots else 0.0
        if fill >= OVERLOAD_FILL and not self._overload:
            text = f"{ring.fill} of {ring.slots} frames wait for the encoder"
            found.append(Overload(kind="overload", text=text))
        self._overload = fill >= (OVERLOAD_OVER if self._overload else OVERLOAD_FILL)
        minutes = status.disk.minutes_left
        if minutes is not None:
            if minutes <= DISK_LOW_MINUTES and not self._disk_low:
                text = f"the disk is full in {minutes:.0f} minutes"
                found.append(DiskLow(kind="disk_low", text=text))
            self._disk_low = minutes <= (DISK_GOOD_MINUTES if self._disk_low else DISK_LOW_MINUTES)
        return found
