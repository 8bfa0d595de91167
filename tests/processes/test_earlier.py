"""What earlier runs left open: closed beside the next recording, whole or killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.container.names import open_path
from engine.container.recovery import recover
from engine.earlier import find_open_parts
from engine.keys import new_key_file, secret_from
from engine.reading.verify import verify
from tests.processes.commands import command_line
from tests.processes.serving import alive, serving, wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")

FPS = 30
# Which call of `sealrec recover` is its last: a header copy, its sync, the cut, the rename.
KILLED_AT = (
    ("pwrite64", 1),
    ("pwrite64", 2),
    ("ftruncate", 1),
    ("renameat2", 1),
)


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A recording whose processes were all killed at once: its open part, and its key file."""
    folder = tmp_path_factory.mktemp("cut_off")
    key_file = folder / "treatment.key"
    new_key_file(key_file)
    with serving(folder, key_file) as engine:
        path = engine.start("old.mp4.enc")
        engine.wait_written(2 * FPS)
        engine.wait_status(lambda s: s["frames"]["in_flight"] > FPS // 2)
        pids = [engine.process.pid, *(engine.pid(role) for role in ("capture", "encoder"))]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        engine.process.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids), "their end")
    return open_path(path).read_bytes(), key_file.read_bytes()


@pytest.fixture
def old(tmp_path: Path, key_file: Path, cut_off: tuple[bytes, bytes]) -> Path:
    """The name of that recording, in a folder of its own with its key."""
    part, key = cut_off
    path = tmp_path / "old.mp4.enc"
    open_path(path).write_bytes(part)
    key_file.write_bytes(key)
    return path


def test_the_next_recording_closes_what_was_left(old: Path, tmp_path: Path, key_file: Path) -> None:
    """Only parts of its own keys, each with an event, while frames are recorded; once."""
    foreign = {"notes.open": b"somebody else's", "empty.open": b""}
    for name, content in foreign.items():
        (tmp_path / name).write_bytes(content)
    other_key = tmp_path / "other.key"
    new_key_file(other_key)
    with serving(tmp_path, key_file) as engine:
        engine.start("o.mp4.enc", keys=[{"kind": "key_file", "value": str(other_key)}], frames=5)
        engine.wait_event("recording_stopped")
        assert not engine.events("part_recovered")  # its key does not open it
        assert open_path(old).exists()
        engine.start("new.mp4.enc")
        told = engine.wait_event("part_recovered")
        assert told.details["path"] == str(old)
        assert told.details["state"] == "recovered"
        assert told.details["frames"] >= 2 * FPS
        engine.wait_written(FPS)
        result = engine.stop()
        assert (result["state"], result["balanced"]) == ("sealed", True)
        engine.start("newer.mp4.enc", frames=5)
        engine.wait_event("recording_stopped", 3)
        assert len(engine.events("part_recovered")) == 1
        assert not engine.events("recovery_failed")
    report = verify(old, secret_from(key_file=key_file))
    assert (report.state, report.balanced, report.frames) == (
        "recovered",
        True,
        told.details["frames"],
    )
    assert {name: (tmp_path / name).read_bytes() for name in foreign} == foreign


def test_a_damaged_part_is_told_and_left_alone(old: Path, tmp_path: Path, key_file: Path) -> None:
    """Recovery that finds damage changes nothing, and the new recording does not mind."""
    part = open_path(old)
    with part.open("r+b") as file:
        file.seek(9000)
        file.write(b"damage")
    before = part.read_bytes()
    with serving(tmp_path, key_file) as engine:
        engine.start("new.mp4.enc", frames=FPS)
        told = engine.wait_event("recovery_failed")
        assert told.details["path"] == str(part)
        assert engine.wait_event("recording_stopped").details["state"] == "sealed"
    assert part.read_bytes() == before


def test_the_sessions_beside_ones_own_are_looked_at(tmp_path: Path) -> None:
    """In the usual layout each session has a folder; a recording's own parts are none of them."""
    header = b"\x89SRV\r\n\x1a\n" + bytes(100)
    sessions = tmp_path / "sessions"
    for session in ("a", "b"):
        (sessions / session).mkdir(parents=True)
        for name in ("recording.mp4.enc.open", "recording.001.mp4.enc.open", "text.open"):
            (sessions / session / name).write_bytes(header if name[0] == "r" else b"text")
    (sessions / "b" / "link.open").symlink_to(sessions / "a" / "recording.mp4.enc.open")
    found = find_open_parts(sessions / "b" / "recording.mp4.enc")
    assert sorted(str(path.relative_to(sessions)) for path in found) == [
        "a/recording.001.mp4.enc.open",
        "a/recording.mp4.enc.open",
    ]
    other = tmp_path / "elsewhere"
    shutil.copytree(sessions / "a", other)
    assert [path.parent for path in find_open_parts(other / "new.mp4.enc")] == [other, other]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_recovery_killed_at_any_call_can_be_run_again(
    old: Path, tmp_path: Path, key_file: Path
) -> None:
    """SIGKILL of `sealrec recover` at each write, sync, cut and rename; twice changes nothing."""
    whole = tmp_path / "whole"
    whole.mkdir()
    shutil.copy(open_path(old), whole)
    [expected] = recover(whole, secret_from(key_file=key_file))
    left = open_path(old).read_bytes()
    killed = 0
    for call, number in KILLED_AT:
        open_path(old).write_bytes(left)
        strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
        strace += ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
        command = command_line("recover", old, "--key-file", key_file)
        done = subprocess.run([*strace, *command], capture_output=True, check=False)
        if done.returncode == 0:
            old.unlink()  # it makes fewer of these calls
            continue
        killed += 1
        recover(old, secret_from(key_file=key_file))  # nothing to do after the rename
        report = verify(old, secret_from(key_file=key_file))
        assert (report.state, report.balanced, report.problems) == ("recovered", True, ())
        assert report.frames == expected.frames
        assert old.read_bytes()[8192:] == expected.path.read_bytes()[8192:]
        assert recover(old, secret_from(key_file=key_file)) == []
        old.unlink()
    assert killed >= len(KILLED_AT) - 1
