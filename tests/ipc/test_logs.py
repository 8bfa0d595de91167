"""Logs never hold a process up, never hide which process spoke, and never show a secret."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

AWAIT_S = 60
PREAMBLE = "import os, sys, threading\nfrom ipc import logs\n"


def run(code: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a few lines in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", PREAMBLE + code],
        timeout=AWAIT_S,
        check=False,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def lines(stderr: bytes) -> list[dict[str, Any]]:
    """Log entries."""
    return [json.loads(line) for line in stderr.decode().splitlines()]


def test_an_entry_is_one_json_line_with_its_process() -> None:
    """From any thread: what happened, when, and in which process."""
    done = run(
        "logs.configure('capture')\n"
        "logs.logger.info('frame\\nlost', frame_id=7)\n"
        "thread = threading.Thread(target=lambda: logs.logger.warning('from a thread'))\n"
        "thread.start(); thread.join()\n"
        "assert logs.flush(10)\n"
        "os._exit(os.getpid() % 100)\n"
    )
    first, second = lines(done.stderr)
    assert (first["event"], first["frame_id"], first["level"]) == ("frame\nlost", 7, "info")
    assert "timestamp" in first
    assert second["event"] == "from a thread"
    for entry in (first, second):
        assert entry["process"] == "capture"
        assert entry["pid"] % 100 == done.returncode


def test_the_last_words_before_an_exit_are_written() -> None:
    """A crash that is logged and followed by os._exit can be read."""
    done = run(
        "logs.configure('encoder')\n"
        "try:\n    1 / 0\n"
        "except ZeroDivisionError:\n    logs.logger.exception('encoder crashed')\n"
        "logs.flush(10)\n"
        "os._exit(70)\n"
    )
    [entry] = lines(done.stderr)
    assert entry["event"] == "encoder crashed"
    assert "ZeroDivisionError" in entry["exception"]


def test_quiet_shows_errors_only() -> None:
    """A command that shows the rest to a person itself logs errors alone."""
    done = run(
        "logs.configure('engine', quiet=True)\n"
        "logs.logger.warning('no'); logs.logger.error('yes'); logs.flush(10)\n"
    )
    assert [entry["event"] for entry in lines(done.stderr)] == ["yes"]


def test_objects_show_their_type_alone() -> None:
    """repr() of what was logged by mistake could hold a key or a password."""
    done = run(
        "class Key:\n    def __repr__(self): return 'secret-key'\n"
        "logs.configure('engine')\n"
        "logs.logger.info('opened', key=Key(), inside=[Key()], raw=b'secret-key')\n"
        "logs.flush(10)\n"
    )
    assert b"secret-key" not in done.stderr
    assert b"<Key>" in done.stderr


def test_nobody_reads_the_log() -> None:
    """A full pipe stops the log, never the process; what was dropped is counted."""
    read, write = os.pipe()
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PREAMBLE + "logs.configure('capture')\n"
            "for number in range(20_000): logs.logger.info('x' * 100, number=number)\n"
            "os.write(1, b'done\\n')\n"
            "sys.stdin.read()\n"
            "logs.flush(10)\n"
            "logs.logger.info('after')\n"
            "logs.flush(10)\n",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=write,
    )
    os.close(write)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"done\n"  # with 2 MB logged and nothing read
    process.stdin.close()
    with open(read, "rb") as log:
        written = log.read()
    assert process.wait(AWAIT_S) == 0
    process.stdout.close()
    entries = lines(written)
    dropped = sum(e["count"] for e in entries if e["event"] == "log lines dropped")
    kept = [e["number"] for e in entries if "number" in e]
    assert dropped > 0
    assert dropped + len(kept) == 20_000
    assert kept == sorted(kept)
    assert entries[-1]["event"] == "after"


def test_a_closed_stderr_ends_the_log_and_nothing_else() -> None:
    """The recording goes on when nobody listens."""
    read, write = os.pipe()
    os.close(read)
    done = run(
        "logs.configure('capture')\n"
        "for number in range(5_000): logs.logger.info('x' * 100)\n"
        "logs.flush(0.2)\n"
        "logs.logger.info('still alive')\n"
        "os.write(1, b'done')\n",
        stderr=write,
    )
    os.close(write)
    assert (done.returncode, done.stdout) == (0, b"done")


def test_what_prints_does_not_reach_stdout() -> None:
    """Fd 1 becomes stderr, for Python and for libraries below it."""
    done = run(
        "logs.secure_standard_streams()\n"
        "print('from python', flush=True)\n"
        "os.write(1, b'from below\\n')\n"
    )
    assert done.stdout == b""
    assert done.stderr == b"from python\nfrom below\n"


def test_standard_descriptors_exist_afterwards() -> None:
    """With 0 to 2 closed at the start, a later pipe must not become somebody's stdout."""
    done = run(
        "os.closerange(0, 3)\n"
        "logs.secure_standard_streams()\n"
        "pipe = os.pipe()\n"
        "os._exit(0 if min(pipe) > 2 else 1)\n"
    )
    assert done.returncode == 0


def test_flush_without_a_log_is_no_error() -> None:
    """A process that never configured its log has nothing to wait for."""
    assert run("sys.exit(0 if logs.flush(0) else 1)\n").returncode == 0
