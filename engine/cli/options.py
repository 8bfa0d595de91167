"""Options that several commands take, in one place so that they are the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from ipc.errors import ConfigError

__all__ = [
    "CameraSdkSettings",
    "CameraSettings",
    "KeyFiles",
    "PasswordFiles",
    "PublicKeys",
    "parse_size",
]

CameraSettings = Annotated[
    str | None,
    typer.Option(help="A camera's settings (XML of Vimba X Viewer or vmbpy).", metavar="FILE"),
]
CameraSdkSettings = Annotated[
    str | None,
    typer.Option(
        help="VmbC.xml that the camera SDK starts with. Default: its own.", metavar="FILE"
    ),
]

KeyFiles = Annotated[
    list[str] | None, typer.Option("--key-file", help="Key file; may repeat.", metavar="FILE")
]
PasswordFiles = Annotated[
    list[str] | None,
    typer.Option("--password-file", help="File, fd:N or 'prompt'; may repeat.", metavar="FILE"),
]
PublicKeys = Annotated[
    list[str] | None, typer.Option("--public-key", help="PEM file; may repeat.", metavar="FILE")
]


def parse_size(size: str | None) -> tuple[int | None, int | None]:
    """Width and height of ``1920x1200``.

    Raises:
        ConfigError: something else.
    """
    if size is None:
        return None, None
    width, cross, height = size.lower().partition("x")
    if not (cross and width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ConfigError(f"--size is WIDTHxHEIGHT in pixels, such as 1920x1200, not {size!r}.")
    return int(width), int(height)
