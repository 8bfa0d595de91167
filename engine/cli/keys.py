"""`sealrec keys`: make keys, and change who can open a finished recording."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(help="Make keys, and change who can open a recording.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Make keys, and change who can open a recording."""
