"""A GenICam camera's exposure, gain, rate, automatics and binning: read, changed while it streams.

On the camera's features alone (genicam.py), so no SDK is imported here. Numbers are moved into
the camera's ranges; what came of a change is what is read back afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from ipc.camera_control import CameraChanges, CameraState
from ipc.errors import ConfigError
from workers.sources.genicam import RATE_FEATURES, Features

__all__ = ["CameraControls"]

EXPOSURE = ("ExposureTime", "ExposureTimeAbs")
GAIN = ("Gain",)
BINNING = ("BinningHorizontal", "BinningVertical")
ON, OFF = "Continuous", "Off"


class CameraControls:
    """The settings of one open camera.

    Args:
        features: Its features.
    """

    def __init__(self, features: Features) -> None:
        self._features = features

    def state(self) -> CameraState:
        """Read everything back."""
        features = self._features
        binning = features.read(BINNING[0])
        range_of_binning = features.range_of(BINNING[:1])
        return CameraState(
            exposure_us=self._number(EXPOSURE),
            gain_db=self._number(GAIN),
            frame_rate_hz=self._number(RATE_FEATURES),
            auto_exposure=self._automatic("ExposureAuto"),
            auto_gain=self._automatic("GainAuto"),
            auto_white_balance=self._automatic("BalanceWhiteAuto"),
            binning=None if binning is None else int(binning),
            exposure_range_us=features.range_of(EXPOSURE),
            gain_range_db=features.range_of(GAIN),
            frame_rate_range_hz=features.range_of(RATE_FEATURES),
            binning_range=None
            if range_of_binning is None
            else (int(range_of_binning[0]), int(range_of_binning[1])),
        )

    def apply(self, changes: CameraChanges) -> None:
        """Make changes, in an order in which one does not lock the next; but no binning.

        Raises:
            ConfigError: the camera has no such setting, or does not let it be changed now. What
                was named before it is changed.
        """
        for value, auto, number, names in (
            (changes.exposure_us, changes.auto_exposure, "ExposureAuto", EXPOSURE),
            (changes.gain_db, changes.auto_gain, "GainAuto", GAIN),
        ):
            if auto is not None:
                self._switch(number, on=auto)
            if value is not None and not auto:
                if self._automatic(number):
                    self._switch(number, on=False)
                self._write(names, value)
        if changes.auto_white_balance is not None:
            self._switch("BalanceWhiteAuto", on=changes.auto_white_balance)
        if changes.frame_rate_hz is not None:
            self._features.write("AcquisitionFrameRateEnable", True)
            self._write(RATE_FEATURES, changes.frame_rate_hz)

    def bin(self, pixels: int) -> None:
        """Join so many pixels in each direction; only while the camera does not stream.

        The frame is the largest then, since the camera cuts it and does not give back what it cut.

        Raises:
            ConfigError: the camera cannot.
        """
        features = self._features
        if not features.write(BINNING[0], pixels) or features.read(BINNING[0]) != pixels:
            known = features.range_of(BINNING[:1])
            offered = f"It offers {known[0]:g} to {known[1]:g}." if known else ""
            raise ConfigError(f"The camera does not join {pixels} pixels.", hint=offered)
        features.write(BINNING[1], pixels)
        for offset, name, most in (
            ("OffsetX", "Width", "WidthMax"),
            ("OffsetY", "Height", "HeightMax"),
        ):
            features.write(offset, 0)
            largest = features.read(most)
            if largest is not None:
                features.write(name, largest)

    def _number(self, names: Sequence[str]) -> float | None:
        value = self._features.read_first(names)
        return None if value is None else float(value)

    def _automatic(self, name: str) -> bool | None:
        value = self._features.read(name)
        return None if value is None else str(value) != OFF

    def _switch(self, name: str, *, on: bool) -> None:
        if not self._features.write(name, ON if on else OFF):
            raise ConfigError(f"The camera does not let {name} be changed.")

    def _write(self, names: Sequence[str], value: float) -> None:
        if not any(self._features.write(name, value) for name in names):
            raise ConfigError(f"The camera does not let {names[0]} be changed.")
