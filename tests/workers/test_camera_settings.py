"""A camera's settings file: what it holds, and what the camera made otherwise of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipc.errors import ConfigError
from workers.sources.camera_settings import MAX_SETTINGS_BYTES, parse_settings, read_settings

GOOD = """<?xml version="1.0" encoding="UTF-8" standalone="yes" ?>
<ModuleSettings>
    <CameraInfo Id="DEV_1" Model="1800 U-158c">
        <LocalDevice><Feature Name="DeviceID" Value="DEV_1" Type="String" /></LocalDevice>
        <RemoteDevice>
            <!-- a comment -->
            <Feature Name="AcquisitionFrameRate" Value="39.9" Type="Float" />
            <Feature Name="AcquisitionFrameRateEnable" Value="1" Type="Bool" />
            <Feature Name="Width" Value="640" Type="Int" />
            <Feature Name="PixelFormat" Value="BayerRG8" Type="Enum" />
            <Feature Name="DeviceUserID" Value="left" Type="String" />
            <IgnoredFeature Name="AcquisitionStart" Type="Command" />
        </RemoteDevice>
    </CameraInfo>
    <Stream Id="Stream0"><Feature Name="StreamID" Value="Stream0" Type="String" /></Stream>
</ModuleSettings>
"""
AS_SAVED = {
    "AcquisitionFrameRate": 39.9001,
    "AcquisitionFrameRateEnable": True,
    "Width": 640,
    "PixelFormat": "BayerRG8",
    "DeviceUserID": "left",
}


def test_the_cameras_own_features_are_read() -> None:
    """Not those of the host's side, nor what is ignored."""
    settings = parse_settings(GOOD.encode(), "x")
    assert settings.model == "1800 U-158c"
    assert {name for name, _, _ in settings.features} == set(AS_SAVED)


def test_a_camera_that_does_what_the_file_says_has_no_differences() -> None:
    """Numbers within a thousandth are the same."""
    assert parse_settings(GOOD.encode(), "x").differences(AS_SAVED.get) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("AcquisitionFrameRate", 30.0, "AcquisitionFrameRate 30.0 instead of 39.9"),
        ("AcquisitionFrameRateEnable", False, "AcquisitionFrameRateEnable False instead of 1"),
        ("Width", 644, "Width 644 instead of 640"),
        ("Width", "missing", "Width missing instead of 640"),
        ("PixelFormat", "Mono8", "PixelFormat Mono8 instead of BayerRG8"),
        ("DeviceUserID", "right", "DeviceUserID right instead of left"),
    ],
)
def test_what_the_camera_does_otherwise_is_told(name: str, value: object, told: str) -> None:
    """By name, with both values."""
    settings = parse_settings(GOOD.encode(), "x")
    assert settings.differences({**AS_SAVED, name: value}.get) == [told]


def test_what_is_no_setting_at_present_is_not_compared() -> None:
    """A value that the camera chooses itself, such as an automatic exposure."""
    settings = parse_settings(GOOD.encode(), "x")
    assert settings.differences({**AS_SAVED, "Width": None}.get) == []


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>\n'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense",
        b"<ModuleSettings/>",
        b"\xff\xfe\x00\x00",
        GOOD.encode()[:-40],
        GOOD.encode("utf-16"),
        GOOD.replace("<Feature", "<Nothing").encode(),
        GOOD.replace("<ModuleSettings>", BOMB + "<ModuleSettings>", 1).encode(),
        GOOD.replace('encoding="UTF-8"', 'encoding="none"').encode(),
    ],
)
def test_what_is_no_settings_file_is_refused(data: bytes) -> None:
    """One line, whatever is wrong with it."""
    with pytest.raises(ConfigError, match="holds no camera settings"):
        parse_settings(data, "x")


def test_a_missing_or_endless_file_is_refused(tmp_path: Path) -> None:
    """It is read to a bound and no further."""
    with pytest.raises(ConfigError, match="cannot be read"):
        read_settings(str(tmp_path / "none.xml"))
    path = tmp_path / "long.xml"
    path.write_bytes(b" " * (MAX_SETTINGS_BYTES + 1))
    with pytest.raises(ConfigError, match="longer than"):
        read_settings(str(path))
    path.write_text(GOOD)
    assert read_settings(str(path)).model == "1800 U-158c"
