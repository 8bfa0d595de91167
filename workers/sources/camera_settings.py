"""A camera's settings as its SDK saves them: read, and compared with what the camera made of them.

The SDK loads such a file without a word about what did not fit, neither another model nor a value
out of range. It keeps nothing and imports no SDK; the file's format is that of VmbC's
``VmbSettingsSave``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ipc.errors import ConfigError

__all__ = ["MAX_SETTINGS_BYTES", "SavedSettings", "parse_settings", "read_settings"]

# A camera has some hundred features, each a line. A longer file is none of a camera's settings.
MAX_SETTINGS_BYTES = 1 << 18
RELATIVE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class SavedSettings:
    """What a settings file holds.

    Attributes:
        model: The camera model that it was saved from.
        features: Name, type (``Int``, ``Float``, ``Bool``, ``Enum``, ``String``) and value.
    """

    model: str
    features: tuple[tuple[str, str, str], ...]

    def differences(self, read: Callable[[str], Any]) -> list[str]:
        """What the camera does otherwise than the file says, a few words each.

        Args:
            read: Gives the camera's value of a feature; None if that is not a setting at present.
        """
        found = []
        for name, kind, saved in self.features:
            value = read(name)
            if value is not None and not _same(kind, saved, value):
                found.append(f"{name} {value} instead of {saved}")
        return found


def read_settings(path: str) -> SavedSettings:
    """Read a settings file.

    Raises:
        ConfigError: There is none, or it is none of a camera's settings.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_SETTINGS_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"The camera settings {path!r} cannot be read: {error.strerror}."
        ) from error
    if len(data) > MAX_SETTINGS_BYTES:
        raise ConfigError(f"{path!r} is longer than a camera's settings can be.")
    return parse_settings(data, path)


def parse_settings(data: bytes, name: str) -> SavedSettings:
    """Read settings from memory.

    Args:
        data: The XML as the SDK saved it.
        name: What to call it in an error.

    Raises:
        ConfigError: It is none of a camera's settings.
    """
    refused = ConfigError(
        f"{name!r} holds no camera settings.",
        hint="Save them with Vimba X Viewer or vmbpy's Camera.save_settings().",
    )
    # Such a file is UTF-8 and declares no entities, with which a short one grows without bound.
    if b"\0" in data or b"<!" in data.replace(b"<!--", b""):
        raise refused
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise refused from error
    camera = root.find("CameraInfo")
    if camera is None:
        raise refused
    features = [
        (feature.get("Name", ""), feature.get("Type", ""), feature.get("Value", ""))
        for feature in camera.iterfind("RemoteDevice/Feature")
    ]
    if not features:
        raise refused
    return SavedSettings(camera.get("Model", ""), tuple(features))


def _same(kind: str, saved: str, value: Any) -> bool:
    try:
        if kind == "Float":
            wish = float(saved)
            return abs(wish - float(value)) <= RELATIVE_TOLERANCE * max(abs(wish), 1e-9)
        if kind in ("Int", "Bool"):
            return int(saved) == int(value)
    except ValueError:
        return False
    return saved == str(value)
