"""`sealrec serve` as a controller meets it, that knows PROTOCOL.md and nothing else."""

from __future__ import annotations

import random
import select
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from engine.keys import new_key_file, secret_from
from engine.reading.verify import verify
from tests.ipc.specification import code_block

SERVE = [sys.executable, "-P", "-m", "engine", "serve"]
AWAIT_S = 60
HELLO = {"type": "hello", "major": 1, "role": "controller"}


def framed(message: dict[str, Any]) -> bytes:
    """A message as bytes."""
    body = msgpack.packb(message)
    return struct.pack(">I", len(body)) + body


def unframed(data: bytes) -> list[dict[str, Any]]:
    """All messages in some bytes; they must end where the last one ends."""
    found = []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        assert len(data) >= 4 + size, "cut off"
        found.append(msgpack.unpackb(data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def talk(data: bytes) -> list[dict[str, Any]]:
    """Send bytes to a new engine, close, and read all it says; it must leave with exit code 0."""
    done = subprocess.run(SERVE, input=data, capture_output=True, timeout=AWAIT_S, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return unframed(done.stdout)


def failures(said: list[dict[str, Any]]) -> list[str]:
    """Codes of the failures among what was said."""
    return [message["code"] for message in said if message["type"] == "failure"]


# --- what a controller may get wrong ----------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "too-large"),
        (framed({**HELLO, "major": 2, "later": True}) + framed(HELLO), "version"),
        (framed({"type": "start", "call": 1, "config": {}}) + framed(HELLO), "protocol"),
        (struct.pack(">I", 1000) + b"\x91" * 1000, "protocol"),
    ],
    ids=["oversized", "version", "first", "garbage"],
)
def test_a_peer_that_is_no_controller_gets_one_answer(data: bytes, code: str) -> None:
    """Whatever comes first and is no hello of ours: a coded failure, and the engine leaves."""
    said = talk(data)
    assert failures(said) == [code]
    assert not [message for message in said if message["type"] == "hello"]


def test_a_peer_that_says_nothing_whole_is_just_gone() -> None:
    """The end of the pipe, also in the middle of a message, is no error."""
    assert failures(talk(framed(HELLO)[:-1])) == []


def test_twenty_megabytes_of_junk() -> None:
    """All of it is read and thrown away, and the answer still arrives."""
    junk = random.Random(1).randbytes(20 << 20)
    said = talk(framed(HELLO) + b"\xff" + junk)
    assert failures(said) == ["too-large"]
    assert [message["major"] for message in said if message["type"] == "hello"] == [1]


@pytest.mark.skipif(sys.platform == "win32", reason="a pipe cannot be polled there")
def test_the_engine_says_nothing_before_its_hello() -> None:
    """A controller that takes its time to greet is not told a status first."""
    with subprocess.Popen(SERVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said, _, _ = select.select([process.stdout], [], [], 2.0)
        assert not said, "it spoke before it was greeted"
        process.stdin.write(framed(HELLO))
        process.stdin.close()
        assert unframed(process.stdout.read())[0]["type"] == "hello"


# --- a session --------------------------------------------------------------------------------


class Session:
    """One engine and a controller that speaks bytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = (folder / "serve.log").open("wb")
        self.process = subprocess.Popen(
            SERVE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log
        )
        self.events: list[dict[str, Any]] = []
        self.send(HELLO)
        assert self.receive("hello")["major"] == 1

    def send(self, *messages: dict[str, Any]) -> None:
        """Send messages in one write."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"".join(map(framed, messages)))
        self.process.stdin.flush()

    def receive(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; events on the way are kept."""
        assert self.process.stdout is not None
        while True:
            (size,) = struct.unpack(">I", self.process.stdout.read(4))
            message: dict[str, Any] = msgpack.unpackb(self.process.stdout.read(size))
            if message["type"] == "event":
                self.events.append(message)
            if message["type"] == kind:
                return message

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a call; returns its reply."""
        self.send(message)
        while (reply := self.receive("reply"))["call"] != message["call"]:
            pass
        return reply

    def leave(self) -> int:
        """Close the pipe; returns the exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        code = self.process.wait(AWAIT_S)
        self._log.close()
        return code


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session that is left in order."""
    opened = Session(tmp_path)
    yield opened
    assert opened.leave() == 0


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """A new key file."""
    path = tmp_path / "treatment.key"
    new_key_file(path)
    return path


def config(folder: Path, key_file: Path, **changes: Any) -> dict[str, Any]:
    """A small recording."""
    keys = [{"kind": "key_file", "value": str(key_file)}]
    size = {"width": 320, "height": 240, "codec": "libx264"}
    return {
        "output": str(folder / "x.mp4.enc"),
        "source": "synthetic",
        "keys": keys,
        **size,
    } | changes


def test_calls_that_cannot_be_met_are_answered_and_cost_nothing(
    session: Session, key_file: Path
) -> None:
    """Every refusal has a code; the engine goes on, and no file is left."""
    folder = session.folder
    before = sorted(path.name for path in folder.iterdir())
    (folder / "public").write_text("x")
    (folder / "public").chmod(0o644)
    refused = [
        ({"colour": "red"}, "config"),
        ({"keys": []}, "config"),
        ({"keys": [{"kind": "key_file", "value": "/nonexistent"}]}, "key-file"),
        ({"keys": [{"kind": "key_file", "value": str(folder / "public")}]}, "key-file"),
        ({"keys": [{"kind": "password", "value": ""}]}, "key-file"),
        ({"width": -1}, "config"),
        ({"source": "webcam"}, "config"),
        ({"source": "file:/nonexistent.mp4"}, "config"),
        ({"output": "/dev/null/x.mp4.enc"}, "config"),
        ({"output": str(key_file / "x.mp4.enc")}, "config"),
        ({"output": str(folder / ("y" * 300))}, "config"),
        ({"output": "x\0y"}, "config"),
        ({"session": {"a": {"b": "c"}}}, "config"),
    ]
    for number, (changes, code) in enumerate(refused, start=1):
        start = {"type": "start", "call": number, "config": config(folder, key_file, **changes)}
        reply = session.answer(start)
        assert not reply["ok"], changes
        assert reply["error"]["code"] == code, (changes, reply["error"])
        assert reply["error"]["message"]
    (folder / "public").unlink()
    assert sorted(path.name for path in folder.iterdir()) == before
    stopped = session.answer({"type": "stop", "call": 100})
    assert stopped["error"]["code"] == "wrong-state"
    status = session.answer({"type": "get_status", "call": 101})
    assert status["result"] == {"state": "idle", "phase": "idle"}


def test_malformed_messages_cost_only_themselves(session: Session) -> None:
    """Each gets a failure; calls before and behind it are answered."""
    bad: list[dict[str, Any]] = [
        {"type": "reboot"},
        {"type": "get_status"},
        {"type": "get_status", "call": "1"},
        {"type": "start", "call": 1},
        {"call": 1},
        {"type": "reply", "call": 1, "ok": True},
    ]
    for message in bad:
        session.send(message, {"type": "get_status", "call": 7, "later": [1, 2]})
        assert session.receive("failure")["code"] == "protocol"
        assert session.receive("reply")["call"] == 7


def test_a_recording_goes_on_whatever_else_is_asked(session: Session, key_file: Path) -> None:
    """A second start is refused, junk that can be framed is refused, and not a frame is lost."""
    wanted = config(session.folder, key_file, session={"session_id": "s1"})
    started = session.answer({"type": "start", "call": 1, "config": wanted})
    assert started["ok"], started
    again = session.answer({"type": "start", "call": 2, "config": wanted})
    assert again["error"]["code"] == "wrong-state"
    session.send({"type": "nonsense"})
    assert session.receive("failure")["code"] == "protocol"
    while session.receive("status")["status"]["frames"]["written"] < 15:
        pass
    session.send({"type": "stop", "call": 3}, {"type": "stop", "call": 4})
    first, second = session.receive("reply"), session.receive("reply")
    assert (first["call"], second["call"]) == (3, 4)
    assert first["result"] == second["result"]
    assert first["result"]["balanced"]
    assert session.answer({"type": "stop", "call": 5})["result"] == first["result"]
    kinds = [event["kind"] for event in session.events]
    assert kinds.count("recording_started") == kinds.count("recording_stopped") == 1
    path = Path(started["result"]["path"])
    assert first["result"]["parts"] == [str(path)]
    assert verify(path, secret_from(key_file=key_file)).frames == first["result"]["frames_written"]


def test_a_taken_name_is_no_error_for_serve(session: Session, key_file: Path) -> None:
    """The next free name is taken and reported, unless the controller forbids it."""
    taken = session.folder / "x.mp4.enc"
    taken.write_bytes(b"somebody's")
    wanted = config(session.folder, key_file, frames=5)
    strict = {**wanted, "next_free_name": False}
    refused = session.answer({"type": "start", "call": 1, "config": strict})
    assert refused["error"]["code"] == "config"
    started = session.answer({"type": "start", "call": 2, "config": wanted})
    assert started["result"]["path"] == str(session.folder / "x-2.mp4.enc")
    assert session.answer({"type": "stop", "call": 3})["result"]["parts"] == [
        str(session.folder / "x-2.mp4.enc")
    ]
    assert taken.read_bytes() == b"somebody's"


def test_a_controller_that_does_not_read_costs_nothing(session: Session, key_file: Path) -> None:
    """While nobody reads, statuses are replaced and the recording goes on; then all is answered."""
    wanted = config(session.folder, key_file)
    assert session.answer({"type": "start", "call": 1, "config": wanted})["ok"]
    for number in range(2, 3000):  # more answers than the pipe holds, and nobody reads them
        session.send({"type": "get_status", "call": number})
    session.send({"type": "stop", "call": 3000})
    calls = []
    while (reply := session.receive("reply"))["call"] != 3000:
        calls.append(reply["call"])
    assert calls == list(range(2, 3000))
    assert reply["result"]["balanced"]
    assert reply["result"]["state"] == "sealed"


# --- the page's own controller ----------------------------------------------------------------


@pytest.fixture
def script(tmp_path: Path) -> list[str]:
    """Command line of PROTOCOL.md's script in a Python that has msgpack and nothing else."""
    alone = tmp_path / "alone"
    alone.mkdir()
    package = Path(msgpack.__file__).parent
    (alone / "msgpack").symlink_to(package, target_is_directory=True)
    path = tmp_path / "controller.py"
    start = f"import sys\nsys.path.append({str(alone)!r})\n"
    path.write_text(start + code_block("A controller in one page", "python"), encoding="utf-8")
    return [sys.executable, "-I", "-S", str(path)]


def test_the_pages_script_records(script: list[str], key_file: Path, tmp_path: Path) -> None:
    """The script on the page drives the engine through start, status and stop to a sealed file."""
    path = tmp_path / "x.mp4.enc"
    ran = subprocess.run(
        [*script, str(path), str(key_file), *SERVE],
        capture_output=True,
        text=True,
        timeout=AWAIT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    first, *_, last = ran.stdout.splitlines()
    assert first == f"recording {path}"
    assert last.startswith(f"sealed {path} ")
    assert any(line.startswith("recording {") for line in ran.stdout.splitlines())
    report = verify(path, secret_from(key_file=key_file))
    assert (report.state, report.balanced) == ("sealed", True)
    assert str(report.frames) == last.split()[2]


def test_a_killed_controller_leaves_a_sealed_file(
    script: list[str], key_file: Path, tmp_path: Path
) -> None:
    """SIGKILL of the script in mid recording: the engine seals and leaves, its workers too."""
    path = tmp_path / "x.mp4.enc"
    running = subprocess.Popen(
        [*script, str(path), str(key_file), *SERVE], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith("recording {"):
            break
    running.kill()
    running.stdout.close()
    running.wait()
    deadline = time.monotonic() + AWAIT_S
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not path.with_name(path.name + ".open").exists()
    report = verify(path, secret_from(key_file=key_file))
    assert (report.state, report.balanced, report.complete) == ("sealed", True, True)
    # That no process is left is checked after every test (tests/conftest.py).
