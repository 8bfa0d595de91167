"""The commands that read hold keys and pictures too: no core dump, and no password in any word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.commands import Ran, command_line, sealrec
from tests.processes.serving import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="core dumps and terminals of Linux")

PASSWORD = "a-password-nobody-else-uses"
PIPE_BYTES = 1 << 16
AWAIT_S = 60


@pytest.fixture(scope="module")
def password_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the password."""
    path = tmp_path_factory.mktemp("keys") / "password"
    path.write_text(PASSWORD + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, password_file: Path) -> Path:
    """A recording of more than a pipe holds."""
    path = tmp_path_factory.mktemp("recording") / "x.mp4.enc"
    size = ("--size", "640x400", "--frames", "40", "--policy", "block", "--hardware", "off")
    done = sealrec("record", path, *size, "--password-file", password_file, "--json")
    assert done.code == 0, done.err
    assert path.stat().st_size > 2 * PIPE_BYTES
    return path


def test_a_reading_command_that_crashes_dumps_no_core(
    tmp_path: Path, recording: Path, password_file: Path
) -> None:
    """Also with unlimited cores, nothing of the memory of a killed ``cat`` reaches a file."""
    command = command_line("cat", recording, "--password-file", password_file)
    process = subprocess.Popen(
        ["bash", "-c", 'ulimit -c unlimited; exec "$@"', "-", *command],
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.read(8)[4:] == b"ftyp"  # it is in the middle of it
        process.send_signal(signal.SIGSEGV)
        assert process.wait(AWAIT_S) == -signal.SIGSEGV
    assert list(tmp_path.iterdir()) == []


def typed(recording: Path, line: bytes) -> Ran:
    """Type a password at a terminal for ``verify``; ``out`` is all that the terminal showed."""
    master, slave = os.openpty()
    process = subprocess.Popen(
        command_line("verify", recording),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,  # not the terminal of whoever runs this test
    )
    os.close(slave)
    shown = b""
    try:
        while b"Password: " not in shown:
            shown += os.read(master, 1024)
        os.write(master, line + b"\n")
        wait_until(lambda: process.poll() is not None, "its end")
        shown += os.read(master, 1 << 16)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    return Ran(process.returncode, shown.decode(errors="replace"), "")


def test_a_typed_password_is_not_shown(recording: Path) -> None:
    """It opens the recording, and the terminal does not echo it."""
    ran = typed(recording, PASSWORD.encode())
    assert ran.code == 0, ran.out
    assert PASSWORD not in ran.out


@pytest.mark.parametrize(
    ("line", "code"), [(b"wrong-" + PASSWORD.encode(), 5), (PASSWORD.encode() + b"\xff", 2)]
)
def test_a_refused_password_is_not_shown(recording: Path, line: bytes, code: int) -> None:
    """Neither a wrong one nor one in another encoding, which some errors would quote."""
    ran = typed(recording, line)
    assert ran.code == code, ran.out
    assert PASSWORD not in ran.out
    assert "Traceback" not in ran.out


@pytest.mark.parametrize("content", [b"wrong-" + PASSWORD.encode(), PASSWORD.encode() + b"\xff"])
def test_a_refused_password_file_is_not_quoted(
    tmp_path: Path, recording: Path, content: bytes
) -> None:
    """The message names the file and not what is in it."""
    path = tmp_path / "password"
    path.write_bytes(content)
    path.chmod(0o600)
    ran = sealrec("verify", recording, "--password-file", path)
    assert ran.code in (2, 5)
    assert PASSWORD not in ran.out + ran.err
    assert "Traceback" not in ran.err
