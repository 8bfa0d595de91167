"""Structured logs on stderr that never hold a process up.

One JSON line an entry. A thread writes them; when nobody reads stderr the queue fills and further
lines are dropped and counted, and a closed stderr ends the writing, never the process. Secrets and
pictures do not come here: callers log names, counts and codes.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any, TextIO

import structlog

__all__ = ["configure", "logger", "secure_standard_streams"]

QUEUE_LINES = 1000
STDERR = 2

logger: structlog.stdlib.BoundLogger = structlog.get_logger()


class _LossyLines:
    """A write-only sink with a bounded queue and a thread of its own."""

    def __init__(self) -> None:
        self._lines: queue.Queue[str] = queue.Queue(QUEUE_LINES)
        self._dropped = 0
        threading.Thread(target=self._run, name="logs", daemon=True).start()

    def _put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    msg = debug = info = warning = error = critical = exception = log = fatal = _put

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            if self._dropped:
                line = f'{{"event":"log lines dropped","count":{self._dropped}}}\n{line}'
                self._dropped = 0
            try:
                os.write(STDERR, line.encode(errors="replace") + b"\n")
            except OSError:
                return  # stderr is closed: the recording goes on without a log


def configure(process: str, *, quiet: bool = False) -> None:
    """Send this process's logs to stderr as JSON lines marked with its name.

    Args:
        process: capture, encoder or engine.
        quiet: Errors only, for a command that shows the rest to a person itself.
    """
    sink = _LossyLines()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(default=_name_only),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(40 if quiet else 20),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(process=process, pid=os.getpid())


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
    os.dup2(STDERR, 1)
    for stream in (sys.stdout, sys.stderr):
        _line_buffered(stream)


def _line_buffered(stream: TextIO | None) -> None:
    if stream is not None and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _name_only(value: Any) -> str:
    # repr() of an unknown object could show what it holds; its type cannot.
    return f"<{type(value).__name__}>"
