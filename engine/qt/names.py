"""Names of a controller that wrote plain video files, in the engine's words. No Qt here."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

__all__ = ["engine_codec", "png_path", "recording_path", "still_path"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".wmv")
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
SEALED_SUFFIX = ".mp4.enc"
ENGINE_CODECS = ("h264", "hevc", "av1", "mpeg4")
HEVC_FOURCCS = ("hvc1", "hev1", "h265", "x265")


def recording_path(asked: str | os.PathLike[str], folder: str | os.PathLike[str] = "") -> Path:
    """Where a recording goes that was asked for as a video: ``x.mp4`` or ``x`` to ``x.mp4.enc``.

    Args:
        asked: A path, or a base name.
        folder: What a relative one counts from.
    """
    path = Path(folder, asked)
    if path.name.endswith(SEALED_SUFFIX):
        return path
    stem = path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name
    return path.with_name(stem + SEALED_SUFFIX)


def still_path(
    base: str | os.PathLike[str], folder: str | os.PathLike[str] | None, now: datetime
) -> Path:
    """Where a sealed still goes: the base name, the time, ``.mp4.enc``."""
    return _picture_path(base, folder, now, SEALED_SUFFIX)


def png_path(
    base: str | os.PathLike[str], folder: str | os.PathLike[str] | None, now: datetime
) -> Path:
    """Where a plain picture goes: the base name, the time, ``.png``."""
    return _picture_path(base, folder, now, ".png")


def engine_codec(asked: str | None) -> str:
    """The engine's name for a codec, which may be an OpenCV FourCC; h264 for all old ones.

    A name that is neither is passed on: the engine knows FFmpeg's encoders, and says so if not.
    """
    name = (asked or "").lower()
    if name in ENGINE_CODECS or len(name) > 4:
        return name
    if name in HEVC_FOURCCS:
        return "hevc"
    return "av1" if name == "av01" else "h264"


def _picture_path(
    base: str | os.PathLike[str], folder: str | os.PathLike[str] | None, now: datetime, suffix: str
) -> Path:
    path = Path(folder or "", base)
    stem = path.stem if path.suffix.lower() in PICTURE_SUFFIXES else path.name
    return path.with_name(f"{stem}_{now:%Y%m%d_%H%M%S}_{now.microsecond // 1000:03}{suffix}")
