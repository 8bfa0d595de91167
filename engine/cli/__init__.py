"""The `sealrec` command: what a person types, and what a script reads back as JSON.

`main` is the entry point; `app` holds the commands' frame; each module beside it holds a family of
commands. Nothing is decided here: commands call the engine and show what it says.
"""

from engine.cli.app import main

__all__ = ["main"]
