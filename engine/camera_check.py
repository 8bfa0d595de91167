"""Judges a camera by a short recording of it: rate, gaps, damaged frames, temperature. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["CameraVerdict", "judge_camera"]

Verdict = Literal["ok", "warn", "fail"]

RATE_SHARE = 0.98  # of the wanted rate; a camera's clock and the ends of a second are within that
WARM_C, HOT_C = 70.0, 85.0  # of a camera's board; its housing may have 65


@dataclass(frozen=True, slots=True)
class CameraVerdict:
    """What was found.

    Attributes:
        verdict: The worst of what was looked at.
        text: For a person, with what to do.
        figures: For a program.
    """

    verdict: Verdict
    text: str
    figures: dict[str, Any]


def judge_camera(result: Mapping[str, Any], wanted_fps: float | None) -> CameraVerdict:
    """Judge by the balance sheet of a recording.

    Args:
        result: As `record` prints it.
        wanted_fps: None: what the camera says it does.
    """
    source, lost = result["source"], result["lost"]
    camera = source["camera"]
    duration_s, frames = result["duration_s"], result["frames_offered"]
    rate = frames / duration_s if duration_s else 0.0
    wanted = wanted_fps or source["rate_hz"]
    gaps, damaged = lost.get("camera_gap", 0) + result["gaps"], lost.get("incomplete", 0)
    celsius = _number(camera.get("DeviceTemperature"))
    figures = {
        "id": camera.get("id", ""),
        "model": camera.get("model", ""),
        "serial": camera.get("serial", ""),
        "size": camera.get("size", ""),
        "pixel_format": source["pixel_format"],
        "frames": frames,
        "rate_hz": round(rate, 3),
        "gaps": gaps,
        "incomplete": damaged,
        "temperature_c": celsius,
        "triggered": source["triggered"],
    }
    findings = [
        _problem(result),
        _rate(rate, wanted, triggered=source["triggered"]),
        _whole(gaps, "frames that never came", "is its USB port or cable shared or too slow?"),
        _whole(damaged, "damaged frames", "look at its cable."),
        _temperature(celsius),
        _as_asked(camera.get("not_as_asked")),
    ]
    told = [finding for finding in findings if finding is not None]
    worst: Verdict = "ok"
    for verdict, _ in told:
        if verdict == "fail" or worst == "ok":
            worst = verdict
    name = f"{figures['model']} {figures['serial']}, {figures['size']} {figures['pixel_format']}"
    measured = f"{name}: {frames} frames, {rate:.1f} fps, {gaps} gaps, {damaged} damaged"
    if celsius is not None:
        measured += f", {celsius:.0f} °C"
    return CameraVerdict(worst, "; ".join([measured, *(text for _, text in told)]), figures)


Finding = tuple[Verdict, str]


def _problem(result: Mapping[str, Any]) -> Finding | None:
    problem = result.get("problem")
    return None if problem is None else ("fail", problem["message"])


def _rate(rate: float, wanted: float, *, triggered: bool) -> Finding | None:
    if triggered:
        return "warn", "it waits for triggers: its rate was not judged"
    if rate >= RATE_SHARE * wanted:
        return None
    return "fail", f"{wanted:g} fps are wanted: shorten its exposure, or lower --fps"


def _whole(count: int, what: str, hint: str) -> Finding | None:
    return ("fail", f"{count} {what}: {hint}") if count else None


def _temperature(celsius: float | None) -> Finding | None:
    if celsius is None or celsius < WARM_C:
        return None
    return "fail" if celsius >= HOT_C else "warn", "it is hot: let air to it"


def _as_asked(moved: str | None) -> Finding | None:
    return None if moved is None else ("warn", f"it does {moved}")


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
