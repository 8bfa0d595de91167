"""`sealrec review`: a page in the browser that plays sealed recordings."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from engine.cli.catalog_options import (
    AuditKey,
    CatalogFile,
    CatalogName,
    Operator,
    ready_catalog,
)
from engine.cli.output import AsJson, console
from ipc.errors import ConfigError

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(review)


def review(  # noqa: PLR0913, PLR0917 - one parameter per option
    place: Annotated[
        Path | None,
        typer.Argument(
            help="A recording, or a folder for all below it. Default: data, or the catalog's.",
            metavar="[FILE|DIR]",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 for one that is free.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    idle_minutes: Annotated[
        float, typer.Option(min=0.05, help="Keys are forgotten after so long without use.")
    ] = 15.0,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: AsJson = False,
) -> int:
    """Watch recordings in the browser: decrypted in memory, piece by piece, never on the disk.

    Serves this machine alone, with a link that works once, until Ctrl-C. Keys are typed or chosen
    in the page. With a catalog the list has its sessions, each recording is compared with what was
    sealed, and stills are put on record before they leave.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise ConfigError(
            "The review page's libraries are not installed.", hint="pip install 'sealrec[review]'."
        )
    from engine.review.library import Library, Sessions
    from engine.review.serving import Serving, serve

    def announce(url: str) -> None:
        if as_json:
            sys.stdout.write(json.dumps({"url": url}) + "\n")
            sys.stdout.flush()
        else:
            console.print(f"The review page, a link that works once: {url}", soft_wrap=True)
            console.print("Ctrl-C ends it and forgets every key.")
        if browser:
            import threading
            import webbrowser

            # Some browsers return only when they are closed.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    sessions: Sessions | None = None
    known = ready_catalog(catalog, catalog_file, audit_key)
    if known is not None:
        from engine.review.catalogued import CataloguedSessions

        sessions = CataloguedSessions(known, operator)
    elif place is None:
        place = Path("data")
    library = Library(place, sessions)
    with contextlib.suppress(KeyboardInterrupt):
        serve(Serving(library, port, idle_minutes * 60), announce)
    return 0
