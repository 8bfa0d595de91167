"""The `sealrec` command as a user runs it: a process of its own, for the tests beside this file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Ran", "command_line", "sealrec"]

TIMEOUT_S = 180


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


def command_line(*arguments: str | Path) -> list[str]:
    """The command line of one `sealrec` command."""
    return [sys.executable, "-P", "-m", "engine", *map(str, arguments)]


def sealrec(
    *arguments: str | Path,
    prefix: list[str] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Ran:
    """Run one command to its end."""
    done = subprocess.run(
        [*(prefix or []), *command_line(*arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **env} if env else None,
        cwd=cwd,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
