"""`sealrec cameras`: which cameras there are."""

from __future__ import annotations

import msgspec
import typer
from rich.table import Table

from engine.cli.options import CameraSdkSettings
from engine.cli.output import AsJson, console, print_json
from ipc.messages import CameraRow

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(cameras)


def cameras(camera_sdk_settings: CameraSdkSettings = None, as_json: AsJson = False) -> int:
    """List the cameras: id, model, serial number, access, pixel formats, frame rates.

    `--source vimba:ID` takes one of them.
    """
    from engine.cameras import list_cameras
    from ipc import logs

    logs.configure("engine", quiet=True)
    found = list_cameras(camera_sdk_settings or "")
    if as_json:
        print_json(msgspec.to_builtins(found))
    elif found:
        console.print(_table(found))
    else:
        console.print("No camera is connected. Check its cable and power.")
    return 0


def _table(found: list[CameraRow]) -> Table:
    table = Table("id", "model", "serial", "access", "formats", "frames/s", box=None)
    for camera in found:
        rates = camera.rate_range_hz
        table.add_row(
            camera.id,
            camera.model,
            camera.serial,
            ", ".join(camera.access) or "in use",
            ", ".join(camera.formats) or "-",
            f"{rates[0]:g} to {rates[1]:.1f}" if rates else "-",
        )
    return table
