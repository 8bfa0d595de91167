"""`sealrec doctor`: go or no-go before a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from engine.cli.options import (
    CameraSdkSettings,
    CameraSettings,
    KeyFiles,
    PasswordFiles,
    PublicKeys,
    parse_size,
)
from engine.cli.output import AsJson, console, print_json

__all__ = ["register"]

EXIT_NO_GO = 1
MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[bold red]FAIL[/]"}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(doctor)


def doctor(  # noqa: PLR0913, PLR0917 - one parameter per option
    directory: Annotated[Path, typer.Argument(help="Where recordings will lie.")] = Path("data"),
    source: Annotated[str, typer.Option(help="synthetic or vimba[:ID].")] = "synthetic",
    size: Annotated[
        str | None,
        typer.Option(help="Default: what the camera does, or 1920x1200.", metavar="1920x1200"),
    ] = None,
    fps: Annotated[
        float | None, typer.Option(help="To keep. Default: what the camera does, or 30.")
    ] = None,
    pixel_format: Annotated[
        str | None, typer.Option(help="Default: what the camera does, or bgr8.")
    ] = None,
    codec: Annotated[str, typer.Option(help="As for record.")] = "h264",
    minutes: Annotated[float, typer.Option(help="Length of the recording to come.")] = 60.0,
    ring_seconds: Annotated[float, typer.Option(help="Depth of the frame ring.")] = 3.0,
    allow_swap: Annotated[bool, typer.Option(help="Unencrypted swap is only a warning.")] = False,
    camera_settings: CameraSettings = None,
    camera_sdk_settings: CameraSdkSettings = None,
    key_file: KeyFiles = None,
    password_file: PasswordFiles = None,
    public_key: PublicKeys = None,
    as_json: AsJson = False,
) -> int:
    """Say go or no-go: camera, encoder speed, disk, memory, space, clock, keys.

    Exit code 0 is go, 1 is no-go.
    """
    from engine.doctor import Wish, examine
    from ipc import logs

    logs.configure("engine", quiet=True)
    width, height = parse_size(size)
    wish = Wish(
        directory=directory,
        source=source,
        width=width,
        height=height,
        fps=fps,
        pixel_format=pixel_format,
        codec=codec,
        ring_seconds=ring_seconds,
        minutes=minutes,
        key_files=tuple(key_file or ()),
        password_files=tuple(password_file or ()),
        public_keys=tuple(public_key or ()),
        allow_swap=allow_swap,
        camera={"camera_settings": camera_settings, "camera_sdk_settings": camera_sdk_settings},
    )
    with console.status("checking", spinner="line"):
        checks = list(examine(wish))
    go = all(check.verdict != "fail" for check in checks)
    if as_json:
        found = {
            check.name: {"verdict": check.verdict, "text": check.text, **check.figures}
            for check in checks
        }
        print_json({"go": go, "checks": found})
    else:
        table = Table(show_header=False, box=None)
        for check in checks:
            table.add_row(MARKS[check.verdict], check.name, check.text)
        console.print(table)
        console.print("[bold green]GO[/]" if go else "[bold red]NO-GO[/]")
    return 0 if go else EXIT_NO_GO
