"""Parts that an earlier run left open, at a power cut say: closed when a recording starts.

Looked for where the new recording lies; of the usual layout (data/sessions/<id>/) in all sessions.
Only parts that one of the new recording's own keys opens and nobody writes are touched. It works
beside the recording, in a thread of its own, and delays nothing; killed in the middle it is done
by the next start. Not here: how a part is closed (container/recovery.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine import keys
from engine.config import RecordingConfig
from engine.container import names, recovery
from engine.container.core import MAGIC
from engine.container.header import HEADER_BYTES
from engine.container.recipients import PasswordSecret, Secret
from ipc import logs
from ipc.errors import InUse, SealrecError, WrongKey

__all__ = ["EarlierClosed", "EarlierParts", "find_open_parts"]

SESSIONS = "sessions"
TICKS_PER_S = 90_000


@dataclass(frozen=True, slots=True)
class EarlierClosed:
    """One part of an earlier run.

    Attributes:
        path: Its name now.
        report: What was kept and lost; None if it could not be closed.
        error: Why; empty if it was closed.
    """

    path: Path
    report: recovery.PartReport | None
    error: str = ""

    @property
    def text(self) -> str:
        """For a person."""
        if self.report is None:
            return self.error
        kept_s, lost_s = self.report.kept_pts / TICKS_PER_S, self.report.lost_pts / TICKS_PER_S
        kept = f"{self.report.frames} frames kept to {kept_s:.1f} s"
        return f"of an earlier run: {kept}, lost {lost_s:.1f} s"


class EarlierParts:
    """What earlier runs left where one recording begins.

    Args:
        config: Its keys are tried, as far as they open anything (a public key does not).
        base: The recording's own name; its parts are left alone.
    """

    def __init__(self, config: RecordingConfig, base: Path) -> None:
        self._base = base
        self._secrets = list(_secrets(config))

    def close_all(self, post: Callable[[EarlierClosed], None]) -> None:
        """Close them in the background.

        Args:
            post: Gets each outcome, from another thread.
        """
        if self._secrets:
            threading.Thread(target=self._run, args=(post,), name="earlier", daemon=True).start()

    def _run(self, post: Callable[[EarlierClosed], None]) -> None:
        try:
            for path in find_open_parts(self._base):
                outcome = _close(path, self._secrets)
                if outcome is not None:
                    post(outcome)
        except OSError as error:
            logs.logger.warning("earlier parts not looked for", error=str(error))


def find_open_parts(base: Path) -> list[Path]:
    """Open parts beside a recording, or in all sessions beside its own; never its own."""
    folders = [base.parent]
    if base.parent.parent.name == SESSIONS:
        folders = sorted(path for path in base.parent.parent.iterdir() if path.is_dir())
    found = [path for folder in folders for path in sorted(folder.glob("*.open"))]
    return [path for path in found if _is_part(path) and names.base_of(path) != base]


def _is_part(path: Path) -> bool:
    """Whether a file begins as a recording does; others of that name are somebody else's."""
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        copies = file.read(2 * HEADER_BYTES)
    return any(copies[at : at + len(MAGIC)] == MAGIC for at in (0, HEADER_BYTES))


def _close(path: Path, secrets: Sequence[Secret]) -> EarlierClosed | None:
    """Close a part with the first key that opens it; None if none does, or somebody writes it."""
    for secret in secrets:
        try:
            report = recovery.recover_part(path, secret)
        except WrongKey:
            continue
        except (InUse, FileNotFoundError):
            return None
        except (SealrecError, OSError) as error:
            return EarlierClosed(path, None, str(error))
        if report.error is not None:
            return EarlierClosed(report.path, None, str(report.error))
        return EarlierClosed(report.path, report)
    logs.logger.info("an earlier part waits for its key", path=str(path))
    return None


def _secrets(config: RecordingConfig) -> Iterator[Secret]:
    for key in config.keys:
        try:
            if key.kind == "password":
                yield PasswordSecret(key.value)
            elif not Path(key.value).is_file():
                continue  # a pipe is read once: a second time would wait for ever
            elif key.kind == "key_file":
                yield keys.secret_from(key_file=key.value)
            elif key.kind == "password_file":
                yield keys.secret_from(password_file=key.value)
        except (SealrecError, OSError) as error:
            logs.logger.warning("key not usable for earlier parts", error=str(error))
