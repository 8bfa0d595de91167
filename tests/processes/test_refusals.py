"""Bad input: one clear line, the right exit code, no traceback, nothing half-written left."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.keys import new_key_file
from tests.processes.commands import Ran, command_line, sealrec

USAGE, WRONG_KEY = 2, 5


def _is_one_clear_line(ran: Ran, code: int) -> None:
    assert ran.code == code, (ran.out, ran.err)
    lines = ran.err.strip().splitlines()
    assert len(lines) == 1, ran.err
    assert lines[0].startswith("sealrec: ")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--codec", "nonsense"), "codec"),
        (("--seconds", "0"), "zero"),
        (("--seconds", "-3"), "zero"),
        (("--frames", "0"), "frames"),
        (("--fps", "0"), "fps"),
        (("--size", "0x0"), "size"),
        (("--size", "nonsense"), "size"),
        (("--size", "1921x7", "--pixel-format", "yuv422"), "width"),
        (("--pixel-format", "rgb48"), "pixel_format"),
        (("--policy", "perhaps"), "policy"),
        (("--source", "webcam"), "webcam"),
        (("--source", "file:/nonexistent.mp4"), "nonexistent"),
        (("--session", "novalue"), "NAME=VALUE"),
        (("--ring-seconds", "3000", "--size", "1920x1200", "--fps", "20"), "memory"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_record_refuses(
    tmp_path: Path, key_file: Path, options: tuple[str, ...], word: str
) -> None:
    """Every option that cannot be met is refused before anything is written."""
    ran = sealrec("record", tmp_path / "x.mp4.enc", "--key-file", key_file, *options)
    _is_one_clear_line(ran, USAGE)
    assert word in ran.err
    assert [path.name for path in tmp_path.iterdir()] == [key_file.name]


def test_odd_sizes_are_recorded(tmp_path: Path, key_file: Path) -> None:
    """An odd width and height is no error: it is padded to even ones in the file."""
    out = tmp_path / "odd.mp4.enc"
    size = ("--size", "1457x1089", "--frames", "10", "--policy", "block")
    ran = sealrec("record", out, *size, "--key-file", key_file, "--json")
    assert ran.code == 0, ran.err
    verified = sealrec("verify", out, "--key-file", key_file, "--decode", "--json")
    assert verified.json["barcodes"] == {"checked": 10, "right": 10}


def test_missing_key(tmp_path: Path) -> None:
    """Without a key nothing is recorded, and the line says how to get one."""
    ran = sealrec("record", tmp_path / "x.mp4.enc")
    _is_one_clear_line(ran, USAGE)
    assert "keys new" in ran.err
    _is_one_clear_line(
        sealrec("record", tmp_path / "x.mp4.enc", "--key-file", tmp_path / "no.key"), USAGE
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="modes are ACLs there")
def test_looser_key_file(tmp_path: Path, key_file: Path) -> None:
    """A key file that others can read is refused, and the line says what to do."""
    key_file.chmod(0o640)
    ran = sealrec("record", tmp_path / "x.mp4.enc", "--key-file", key_file)
    _is_one_clear_line(ran, USAGE)
    assert f"chmod 600 {key_file}" in ran.err


def test_existing_output(tmp_path: Path, key_file: Path) -> None:
    """A name that is taken is refused, and what is there stays as it is."""
    out = tmp_path / "x.mp4.enc"
    out.write_bytes(b"something")
    _is_one_clear_line(sealrec("record", out, "--key-file", key_file), USAGE)
    assert out.read_bytes() == b"something"
    assert len(list(tmp_path.iterdir())) == 2


def test_unwritable_directory(tmp_path: Path, key_file: Path) -> None:
    """A directory that this user cannot write is refused."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o500)
    prefix = None
    if os.geteuid() == 0:  # root may write anywhere unless it gives that right up
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv (Debian: util-linux) when run as root")
        prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
    ran = sealrec("record", folder / "x.mp4.enc", "--key-file", key_file, prefix=prefix)
    _is_one_clear_line(ran, USAGE)
    assert "cannot be written" in ran.err
    assert list(folder.iterdir()) == []


def test_corrupt_clip(tmp_path: Path, key_file: Path) -> None:
    """A file that is no video is refused before anything is written."""
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"not a video at all" * 100)
    ran = sealrec(
        "record", tmp_path / "x.mp4.enc", "--source", f"file:{clip}", "--key-file", key_file
    )
    _is_one_clear_line(ran, USAGE)
    assert "clip.mp4" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", key_file.name]


@pytest.mark.parametrize("command", ["verify", "export", "cat", "recover"])
def test_wrong_key(tmp_path: Path, key_file: Path, command: str) -> None:
    """Another key, or another password, opens nothing and says no more than that."""
    out = tmp_path / "x.mp4.enc"
    options = ("--frames", "3", "--size", "320x240", "--key-file", str(key_file))
    assert sealrec("record", out, *options).code == 0
    other = tmp_path / "other.key"
    new_key_file(other)
    password = tmp_path / "password"
    password.write_text("wrong\n")
    password.chmod(0o600)
    if command == "recover":
        out.rename(f"{out}.open")
        out = Path(f"{out}.open")
    target = (tmp_path / "plain.mp4",) if command == "export" else ()
    before = {path: path.stat().st_size for path in tmp_path.iterdir()}
    for secret in (("--key-file", other), ("--password-file", password)):
        ran = sealrec(command, out, *target, *secret)
        assert ran.code == WRONG_KEY, (ran.out, ran.err)
        assert "Traceback" not in ran.err
        assert b"ftyp" not in ran.out.encode()
    assert {path: path.stat().st_size for path in tmp_path.iterdir()} == before


def test_recover_leaves_a_running_recording_alone(tmp_path: Path, key_file: Path) -> None:
    """`recover` during a recording says "in use" and touches nothing; the recording goes on."""
    out = tmp_path / "x.mp4.enc"
    size = ("--size", "320x240", "--key-file", key_file, "--json")
    running = subprocess.Popen(
        command_line("record", out, *size), stdout=subprocess.PIPE, text=True
    )
    open_file = Path(f"{out}.open")
    try:
        deadline = time.monotonic() + 60
        while not open_file.exists() or open_file.stat().st_size < 60_000:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        ran = sealrec("recover", open_file, "--key-file", key_file)
        assert ran.code == USAGE
        assert "in use" in ran.err
        assert open_file.exists()
    finally:
        running.send_signal(signal.SIGINT)
        printed, _ = running.communicate(timeout=60)
    assert running.returncode == 0
    assert '"sealed"' in printed
    assert sealrec("verify", out, "--key-file", key_file).code == 0
