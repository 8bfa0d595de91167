"""What `sealrec doctor` says of a camera, from the balance sheet of a short recording."""

from __future__ import annotations

from typing import Any

import pytest

from engine.camera_check import judge_camera


def sheet(**changes: Any) -> dict[str, Any]:
    """A camera of 30 fps, recorded for a second without a fault."""
    camera = {
        "id": "DEV_1",
        "model": "1800 U-158c",
        "serial": "00XYZ",
        "size": "1456x1088",
        "DeviceTemperature": "41.5",
    }
    source = {
        "rate_hz": 30.0,
        "pixel_format": "bgr8",
        "triggered": False,
        "camera": {**camera, **changes.pop("camera", {})},
        **changes.pop("source", {}),
    }
    whole = {"lost": {}, "gaps": 0, "duration_s": 1.0, "frames_offered": 30}
    return {**whole, **changes, "source": source}


def test_a_good_camera() -> None:
    """Go, with what was measured in words and figures."""
    found = judge_camera(sheet(), None)
    assert found.verdict == "ok"
    assert found.text == (
        "1800 U-158c 00XYZ, 1456x1088 bgr8: 30 frames, 30.0 fps, 0 gaps, 0 damaged, 42 °C"
    )
    assert found.figures["rate_hz"] == 30.0
    assert found.figures["temperature_c"] == 41.5


@pytest.mark.parametrize(
    ("changes", "wanted", "verdict", "says"),
    [
        ({"frames_offered": 27}, None, "fail", "30 fps are wanted"),
        ({}, 40.0, "fail", "40 fps are wanted"),
        ({}, 25.0, "ok", ""),
        ({"lost": {"camera_gap": 2}}, None, "fail", "2 frames that never came"),
        ({"gaps": 1}, None, "fail", "1 frames that never came"),
        ({"lost": {"incomplete": 3}}, None, "fail", "3 damaged frames"),
        ({"lost": {"ring_full": 3}}, None, "ok", ""),
        ({"camera": {"DeviceTemperature": "72"}}, None, "warn", "it is hot"),
        ({"camera": {"DeviceTemperature": "90"}}, None, "fail", "it is hot"),
        ({"camera": {"DeviceTemperature": "?"}}, None, "ok", ""),
        ({"camera": {"not_as_asked": "width 4 instead of 5"}}, None, "warn", "width 4"),
        (
            {"source": {"triggered": True}, "frames_offered": 0, "duration_s": 0.0},
            None,
            "warn",
            "waits for triggers",
        ),
        ({"frames_offered": 0, "duration_s": 0.0}, None, "fail", "30 fps are wanted"),
        ({"problem": {"message": "It went away."}}, None, "fail", "It went away."),
    ],
)
def test_each_finding(
    changes: dict[str, Any], wanted: float | None, verdict: str, says: str
) -> None:
    """The worst finding is the verdict, and each is told."""
    found = judge_camera(sheet(**changes), wanted)
    assert found.verdict == verdict
    assert says in found.text


def test_all_findings_are_told_and_the_worst_counts() -> None:
    """A warning does not hide a failure, nor the other way round."""
    found = judge_camera(
        sheet(camera={"DeviceTemperature": "72"}, lost={"incomplete": 1}, gaps=1), 60.0
    )
    assert found.verdict == "fail"
    for word in ("60 fps", "never came", "damaged frames", "hot"):
        assert word in found.text
