"""The command's frame: its families of commands, and how errors become one line and an exit code.

Exit codes: 0 good, 2 usage, 3 incomplete, 4 corrupt, 5 wrong key, 6 unbalanced or a part missing,
7 recording ended early by disk or camera; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys

import typer

from engine.cli import (
    audit,
    cameras,
    catalog,
    doctor,
    evidence,
    keys,
    read,
    record,
    review,
    sessions,
)
from engine.cli.output import fail
from ipc import osdep
from ipc.errors import ConfigError, SealrecError

__all__ = ["app", "main"]

INTERRUPTED = 130

app = typer.Typer(
    name="sealrec",
    help="Records a camera to an encrypted MP4 and accounts for every frame.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
record.register(app)
read.register(app)
evidence.register(app)
doctor.register(app)
cameras.register(app)
sessions.register(app)
audit.register(app)
review.register(app)
app.add_typer(keys.app, name="keys")
app.add_typer(catalog.app, name="catalog")


def main() -> None:
    """Run the command line and leave with its exit code."""
    os.umask(0o077)  # what a treatment is about concerns its owner alone
    osdep.forbid_core_dumps()  # commands that read hold keys and pictures just as the engine does
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code, and never a traceback for an expected error."""
    as_json = "--json" in arguments
    try:
        code = app(arguments, standalone_mode=False)
    except SealrecError as error:
        return fail(error, as_json=as_json)
    except typer.TyperException as error:  # the command line itself is not one
        text = error.format_message().strip()
        text = f"{text.rstrip('.')}." if text else ""
        usage = ConfigError(text, hint="Add --help to see what the command takes.")
        # Without a text the help was shown already, because nothing was given.
        return fail(usage, as_json=as_json) if text else ConfigError.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output left, as `| head` does. Nothing more can be said to it.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return code if isinstance(code, int) else 0
