"""Structured logs on stderr that never hold a process up.

One JSON line an entry. A thread writes them; when nobody reads stderr the queue fills and further
lines are dropped and counted, and a closed stderr ends the writing, never the process. Secrets and
pictures do not come here: callers log names, counts and codes.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

__all__ = ["configure", "flush", "logger", "secure_standard_streams"]

QUEUE_LINES = 1000
STDERR = 2


class _LossyLines:
    """A write-only sink with a bounded queue and a thread of its own."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str | threading.Event] = queue.Queue(QUEUE_LINES)
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Queue a line, or drop it."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def flush(self, timeout_s: float) -> bool:
        """Wait until the lines so far are written."""
        written = threading.Event()
        try:
            self._lines.put(written, timeout=timeout_s)
        except queue.Full:
            return False
        return self._thread.is_alive() and written.wait(timeout_s)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if isinstance(line, threading.Event):
                line.set()
                continue
            if self._dropped:
                line = f'{{"event":"log lines dropped","count":{self._dropped}}}\n{line}'
                self._dropped = 0
            try:
                os.write(STDERR, line.encode(errors="replace") + b"\n")
            except OSError:
                return  # stderr is closed: the recording goes on without a log


class _Logger:
    """What happened, and fields that JSON has a form for; nothing until `configure`.

    Its own few lines, because a logging library costs every process of a recording a tenth of a
    second and several megabytes at its start.
    """

    def __init__(self) -> None:
        self.sink: _LossyLines | None = None
        self.origin: dict[str, Any] = {}
        self.quiet = False

    def info(self, event: str, **fields: Any) -> None:
        """What is good to know afterwards."""
        self._entry("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """What somebody should look at."""
        self._entry("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """What went wrong."""
        self._entry("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        """What went wrong, with the traceback of the exception that is handled."""
        self._entry("error", event, {**fields, "exception": traceback.format_exc().rstrip()})

    def _entry(self, level: str, event: str, fields: dict[str, Any]) -> None:
        if self.sink is None or (self.quiet and level != "error"):
            return
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        entry = {**self.origin, **fields, "event": event, "level": level, "timestamp": now}
        self.sink.put(json.dumps(entry, default=_name_only))


logger = _Logger()


def configure(process: str, *, quiet: bool = False) -> None:
    """Send this process's logs to stderr as JSON lines marked with its name.

    Args:
        process: capture, encoder or engine.
        quiet: Errors only, for a command that shows the rest to a person itself.
    """
    logger.sink = _LossyLines()
    logger.origin = {"process": process, "pid": os.getpid()}
    logger.quiet = quiet


def flush(timeout_s: float) -> bool:
    """Wait until the lines so far are written; False if nobody reads them.

    For the end of a process: what it logged last says why it ended.
    """
    return logger.sink is None or logger.sink.flush(timeout_s)


def secure_standard_streams() -> None:
    """Make descriptors 0 to 2 exist and point stdout at stderr.

    A library that prints must not write into the protocol, and a pipe opened later must not get
    a standard number that somebody prints to.
    """
    while True:
        fd = os.open(os.devnull, os.O_RDWR)
        if fd > STDERR:
            os.close(fd)
            break
    # First: a stream that could seek asks where it is, and a pipe in its place cannot say.
    for stream in (sys.stdout, sys.stderr):
        _line_buffered(stream)
    os.dup2(STDERR, 1)


def _line_buffered(stream: TextIO | None) -> None:
    if stream is not None and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _name_only(value: Any) -> str:
    # repr() of an unknown object could show what it holds; its type cannot.
    return f"<{type(value).__name__}>"
