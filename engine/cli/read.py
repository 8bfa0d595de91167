"""`sealrec info`, `verify`, `export`, `cat` and `recover`: the commands that read recordings."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
