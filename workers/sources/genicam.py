"""Features of a GenICam camera: read, written where possible, moved into their ranges.

It works on the SDK's camera object, imports no SDK and keeps nothing. Names are those of the
GenICam Standard Features Naming Convention, pixel formats those of its PFNC.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from ipc.errors import ConfigError
from ipc.frame import PixelFormat

__all__ = ["CAMERA_FORMATS", "RATE_FEATURES", "Features"]

RATE_FEATURES = ("AcquisitionFrameRate", "AcquisitionFrameRateAbs")

# Names in the camera's PixelFormat feature, in order of preference if none was asked for.
CAMERA_FORMATS: dict[PixelFormat, tuple[str, ...]] = {
    PixelFormat.BAYER_RG8: ("BayerRG8",),
    PixelFormat.BAYER_GR8: ("BayerGR8",),
    PixelFormat.BAYER_GB8: ("BayerGB8",),
    PixelFormat.BAYER_BG8: ("BayerBG8",),
    PixelFormat.MONO8: ("Mono8",),
    PixelFormat.BGR8: ("BGR8", "BGR8Packed"),
    PixelFormat.RGB8: ("RGB8", "RGB8Packed"),
    PixelFormat.YUV422: ("YUV422_8_UYVY", "YUV422Packed", "YCbCr422_8_CbYCrY"),
}


class Features:
    """A camera's features by name; one that is missing or locked is not an error.

    Args:
        camera: An open camera with ``get_feature_by_name``.
        errors: What the SDK raises when a feature cannot be had.
    """

    def __init__(self, camera: Any, errors: tuple[type[Exception], ...]) -> None:
        self._camera = camera
        self._errors = errors

    def read(self, name: str) -> Any:
        """Value of a feature, None if there is none to be read; enumerations as their name."""
        try:
            value = self._camera.get_feature_by_name(name).get()
        except self._errors:
            return None
        return value if isinstance(value, bool | int | float | str) else str(value)

    def read_first(self, names: Sequence[str]) -> Any:
        """Value of the first of these features that can be read."""
        return next((value for name in names if (value := self.read(name)) is not None), None)

    def setting(self, name: str) -> Any:
        """Value of a feature that can be written now; None of one that cannot, else ``missing``."""
        try:
            feature = self._camera.get_feature_by_name(name)
        except self._errors:
            return "missing"
        with suppress(*self._errors):
            return self.read(name) if feature.is_writeable() else None
        return None

    def write(self, name: str, value: float | str | bool) -> bool:
        """Write a feature where possible, numbers moved into its range and onto its steps."""
        try:
            feature = self._camera.get_feature_by_name(name)
            if not feature.is_writeable():
                return False
            if isinstance(value, bool | str):
                feature.set(value)
                return True
            low, high = feature.get_range()
            value = min(max(value, low), high)
            if isinstance(low, int):
                step = feature.get_increment() or 1
                value = low + (int(value) - low) // step * step
            feature.set(type(low)(value))
        except self._errors:
            return False
        return True

    def write_first(self, names: Sequence[str], value: float) -> None:
        """Write the first of these features that can be written."""
        for name in names:
            if self.write(name, value):
                return

    def range_of(self, names: Sequence[str]) -> tuple[float, float] | None:
        """Range of the first of these features that has one."""
        for name in names:
            with suppress(*self._errors):
                low, high = self._camera.get_feature_by_name(name).get_range()
                return float(low), float(high)
        return None

    def offered_formats(self) -> tuple[str, ...]:
        """The camera's pixel formats in its own spelling."""
        with suppress(*self._errors):
            entries = self._camera.get_feature_by_name("PixelFormat").get_available_entries()
            return tuple(str(entry) for entry in entries)
        return ()

    def choose_format(self, wish: PixelFormat | None) -> PixelFormat:
        """Set the wished format, else keep the present one, else set one that can be recorded."""
        offered = self.offered_formats()
        present = str(self.read("PixelFormat"))
        if wish is None:
            for pixel_format, names in CAMERA_FORMATS.items():
                if present in names:
                    return pixel_format
        for pixel_format in CAMERA_FORMATS if wish is None else (wish,):
            for name in CAMERA_FORMATS[pixel_format]:
                if name == present or (name in offered and self.write("PixelFormat", name)):
                    return pixel_format
        raise ConfigError(
            f"The camera does not deliver {wish or 'any pixel format that can be recorded'}.",
            hint=f"It offers {', '.join(offered) or present}.",
        )

    def choose_trigger(self, wish: Literal["off", "software", "hardware"] | None) -> bool:
        """Set what the camera waits for before each frame; whether it now waits for anything.

        Raises:
            ConfigError: It takes no such trigger.
        """
        if wish == "off":
            self.write("TriggerMode", "Off")
        elif wish is not None:
            self.write("TriggerSelector", "FrameStart")
            source = self._trigger_source(wish)
            if not (self.write("TriggerSource", source) and self.write("TriggerMode", "On")):
                raise ConfigError(f"The camera takes no {wish} trigger.")
        return str(self.read("TriggerMode")) == "On"

    def _trigger_source(self, wish: str) -> str:
        """``Software``, or the line that is chosen already, or the first one."""
        if wish == "software":
            return "Software"
        present = str(self.read("TriggerSource"))
        if present.startswith("Line"):
            return present
        with suppress(*self._errors):
            entries = self._camera.get_feature_by_name("TriggerSource").get_available_entries()
            return next((str(e) for e in entries if str(e).startswith("Line")), "Line0")
        return "Line0"

    def run(self, name: str) -> bool:
        """Run a command feature; False if the camera does not take it."""
        try:
            self._camera.get_feature_by_name(name).run()
        except self._errors:
            return False
        return True

    def answers(self) -> bool:
        """Whether the camera still answers."""
        return self.read("PayloadSize") is not None or self.read("Width") is not None
