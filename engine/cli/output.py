"""What all commands share in showing: JSON on stdout alone, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ipc.errors import SealrecError

__all__ = ["AsJson", "console", "fail", "human_bytes", "human_time", "print_json", "progress"]

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]

console = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON value on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, default=str) + "\n")
    sys.stdout.flush()


def fail(error: SealrecError, *, as_json: bool) -> int:
    """Show an error in one line; returns its exit code."""
    if as_json:
        print_json({"error": {"code": error.code, "message": error.message, "hint": error.hint}})
    sys.stderr.write(f"sealrec: {str(error).replace(chr(10), ' ')}\n")
    return error.exit_code


@contextmanager
def progress(label: str, *, shown: bool = True) -> Iterator[Callable[[float], None]]:
    """A progress bar on stderr; yields a function that takes the done share, 0 to 1."""
    if not (shown and console.is_terminal):
        yield lambda _share: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=1.0)
        yield lambda share: bar.update(task, completed=min(1.0, share))


def human_bytes(size: float) -> str:
    """Bytes as a person reads them, decimal units."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_time(seconds: float) -> str:
    """Seconds as h:mm:ss.t."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}"
