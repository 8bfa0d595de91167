"""A mad controller: settings that nobody can record with, and 100 MB that are no protocol.

The engine answers with a coded error, its memory stays what it was, and a running recording is
sealed. Small slips of a controller are in tests/engine/test_server.py.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from ipc.messages import GetStatus, StartRecording
from tests.contracts.independent_checks import deviations
from tests.contracts.independent_reader import Key, read_part
from tests.processes.commands import command_line
from tests.processes.serving import serving

KEK = bytes(range(32))
JUNK_BYTES = 100 << 20
PIECE_BYTES = 1 << 20
MORE_BYTES = 32 << 20  # what the engine may take more than it had when it was greeted
LEAVE_S = 60
LENGTH = 4


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A key file whose key is known here."""
    path = tmp_path / "key"
    path.write_text(KEK.hex() + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def noise() -> bytes:
    """A piece of junk; its first four bytes announce far more than a message may have."""
    return b"\xff" + random.Random(1).randbytes(PIECE_BYTES - 1)


def password(**fields: Any) -> dict[str, Any]:
    """A key source."""
    return {"kind": "password", "value": "hunter2", **fields}


UNUSABLE: dict[str, dict[str, Any]] = {
    "a source whose name no file can have": {"source": "file:" + "x" * 5000},
    "a source whose name is as long as a message": {"source": "file:" + "x" * 1_000_000},
    "an output under a device": {"output": "/dev/null/x/y.mp4.enc"},
    "an output with a zero": {"output": "a\0b"},
    "a time without end": {"seconds": float("inf")},
    "more frames than a message can say": {"seconds": 1e300},
    "a key file with a zero in its name": {"keys": [{"kind": "key_file", "value": "a\0b"}]},
    "a key file that is a directory": {"keys": [{"kind": "key_file", "value": "/"}]},
    "a password that somebody must type": {"keys": [{"kind": "password_file", "value": "prompt"}]},
    "a password of spaces": {"keys": [password(value="  ")]},
    "a label that no slot holds": {"keys": [password(label="x" * 77)]},
    "a label with a zero": {"keys": [password(label="a\0b")]},
    "more keys than a header holds": {"keys": [password()] * 17},
    "keys that are none": {"keys": 5},
    "a key that is none": {"keys": [5]},
    "something else": {"colour": "red"},
}


def test_settings_that_nobody_can_record_with(tmp_path: Path, key_file: Path) -> None:
    """Each is refused with a code and a reason, leaves nothing behind, and the engine goes on."""
    with serving(tmp_path, key_file) as engine:
        for name, changes in UNUSABLE.items():
            reply = engine.answer(engine.call(StartRecording, config=engine.config(**changes)))
            assert not reply.ok, name
            assert reply.error is not None
            assert reply.error["code"] in {"config", "key-file"}, f"{name}: {reply.error}"
            assert "hunter2" not in str(reply.error)
        assert engine.answer(engine.call(GetStatus)).ok
        assert engine.leave() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["key", "serve.log"]
    assert "Traceback" not in engine.log.read_text()
    assert "hunter2" not in engine.log.read_text()


class Shouting:
    """A controller that speaks the protocol until it does not."""

    def __init__(self) -> None:
        command = command_line("serve")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.say({"type": "hello", "major": 1})
        self.wait_for(lambda message: message["type"] == "hello")

    def say(self, message: dict[str, Any]) -> None:
        """Send a message."""
        body = msgpack.packb(message)
        self.shout(len(body).to_bytes(LENGTH, "big") + body)

    def shout(self, data: bytes) -> None:
        """Send bytes."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that fulfils a condition."""
        assert self.process.stdout is not None
        while True:
            size = int.from_bytes(self.process.stdout.read(LENGTH), "big")
            assert size, "the engine left without an answer"
            message: dict[str, Any] = msgpack.unpackb(self.process.stdout.read(size))
            if condition(message):
                return message

    def wait_failure(self) -> str:
        """The code of the next failure."""
        return str(self.wait_for(lambda message: message["type"] == "failure")["code"])

    def hang_up(self) -> None:
        """Close the pipe to the engine."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def end(self) -> None:
        """Kill what a failed test has left."""
        self.process.kill()
        self.leave()

    def leave(self) -> int:
        """Close both pipes; returns the engine's exit code."""
        assert self.process.stdout is not None
        self.hang_up()
        if not self.process.stdout.closed:
            self.process.stdout.read()
            self.process.stdout.close()
        return self.process.wait(LEAVE_S)


@pytest.fixture
def mad() -> Iterator[Shouting]:
    """A greeted engine; gone afterwards, whatever happened."""
    controller = Shouting()
    yield controller
    controller.end()


@pytest.mark.skipif(sys.platform == "win32", reason="descriptors are inherited by number")
def test_a_key_through_a_pipe_that_stays_open(tmp_path: Path) -> None:
    """A key is read from its pipe once, up to its newline; nobody waits for the pipe's end."""
    read, write = os.pipe()
    try:
        os.write(write, KEK.hex().encode() + b"\n")
        size = ("--size", "320x240", "--frames", "20", "--policy", "block", "--hardware", "off")
        path = tmp_path / "x.mp4.enc"
        done = subprocess.run(
            command_line("record", path, *size, "--key-file", f"fd:{read}"),
            pass_fds=[read],
            capture_output=True,
            timeout=LEAVE_S,
            check=False,
        )
    finally:
        os.close(read)
        os.close(write)
    assert done.returncode == 0, done.stderr.decode()
    assert read_part(path.read_bytes(), Key(2, KEK)).state == "sealed"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_100_megabytes_of_junk_cost_no_memory(mad: Shouting, noise: bytes) -> None:
    """One coded answer, no memory, and the engine leaves as it does when a controller leaves."""
    peak = before = _peak_bytes(mad.process.pid)
    with contextlib.suppress(BrokenPipeError):
        for _ in range(0, JUNK_BYTES, PIECE_BYTES):
            mad.shout(noise)
            peak = max(peak, _peak_bytes(mad.process.pid))
        mad.hang_up()
    assert mad.wait_failure() == "too-large"
    assert mad.leave() == 0
    assert before > 0
    assert peak - before < MORE_BYTES


def test_junk_in_a_recording_seals_it(
    mad: Shouting, tmp_path: Path, key_file: Path, noise: bytes
) -> None:
    """What was recorded until then is whole and keeps the format."""
    path = tmp_path / "x.mp4.enc"
    keys = [{"kind": "key_file", "value": str(key_file)}]
    size = {"width": 320, "height": 240, "fps": 30.0, "hardware": "off"}
    mad.say({"type": "start", "call": 1, "config": {"output": str(path), "keys": keys, **size}})
    assert mad.wait_for(lambda message: message["type"] == "reply")["ok"]
    mad.wait_for(_thirty_frames_are_written)
    with contextlib.suppress(BrokenPipeError):
        mad.shout(noise)
    assert mad.wait_failure() == "too-large"
    assert mad.leave() == 0
    part = read_part(path.read_bytes(), Key(2, KEK))
    assert part.state == "sealed"
    assert list(deviations([part])) == []
    assert len(part.rows()) >= 30


def _thirty_frames_are_written(message: dict[str, Any]) -> bool:
    frames = message["status"].get("frames") if message["type"] == "status" else None
    return bool(frames) and frames["written"] >= 30


def _peak_bytes(pid: int) -> int:
    """The most memory that a process ever had; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), 0)
