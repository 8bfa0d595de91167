"""Nothing in the clear: what a recording's processes write, show and could leave in a core dump."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.processes.commands import command_line

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

PASSWORD = "a-password-nobody-else-uses"
# What a plain MP4 of ours would hold, long enough not to turn up in ciphertext by chance.
PLAINTEXT = re.compile(rb"ftypiso|moof....mfhd|moov....mvhd|avcC\x01|urn:sealrec:", re.DOTALL)


class Watch:
    """Reads every file below a directory again and again and remembers what it saw."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.seen: set[str] = set()
        self.plain: set[str] = set()

    def look(self) -> None:
        """Read everything once."""
        for path in self._folder.rglob("*"):
            try:
                data = path.read_bytes() if path.is_file() else b""
            except OSError:
                continue  # renamed or removed in this moment
            if data:
                self.seen.add(path.name)
                if PLAINTEXT.search(data):
                    self.plain.add(path.name)


def test_nothing_in_the_clear(tmp_path: Path, key_file: Path) -> None:
    """No file ever holds plaintext video; no key or password shows in argv, environment or log."""
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o600)
    out = tmp_path / "out" / "x.mp4.enc"
    secrets = (key_file.read_text().strip().encode(), PASSWORD.encode())
    places = {name: str(tmp_path) for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME")}
    keys = ("--key-file", key_file, "--password-file", password)
    with (tmp_path / "stderr").open("wb") as log:
        running = subprocess.Popen(
            command_line("record", out, "--seconds", "4", "--size", "640x400", *keys, "--json"),
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **places},
            cwd=tmp_path,
        )
    watch, shown, workers = Watch(tmp_path), b"", 0
    while running.poll() is None:
        watch.look()
        processes = _family(running.pid)
        workers = max(workers, len(processes))
        shown += b"".join(_visible(pid) for pid in processes)
        time.sleep(0.02)
    printed = running.stdout.read() if running.stdout else b""
    running.stdout.close()
    watch.look()
    assert running.returncode == 0
    assert workers >= 3, "supervisor and two workers were looked at"
    assert {"x.mp4.enc", "x.mp4.enc.open"} <= watch.seen
    assert watch.plain == set()
    created = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert created == {"x.mp4.enc", "treatment.key", "password", "stderr"}
    for secret in secrets:
        assert secret not in shown
        assert secret not in printed
        assert secret not in (tmp_path / "stderr").read_bytes()
        assert secret not in out.read_bytes()


def test_the_watch_would_see_plaintext(tmp_path: Path) -> None:
    """The watch of the test above does find a plain MP4."""
    clip = Path(__file__).parents[1] / "data" / "bigbuckbunny.mp4"
    (tmp_path / "plain").write_bytes(clip.read_bytes())
    watch = Watch(tmp_path)
    watch.look()
    assert watch.plain == {"plain"}


def test_no_core_dumps(tmp_path: Path, key_file: Path) -> None:
    """No process of a recording may dump core, whatever the shell's limit."""
    out = tmp_path / "x.mp4.enc"
    size = ("--seconds", "3", "--size", "320x240")
    command = command_line("record", out, *size, "--key-file", key_file)
    running = subprocess.Popen(
        ["bash", "-c", 'ulimit -c unlimited; exec "$@"', "-", *command],
        stderr=subprocess.DEVNULL,
    )
    limits: dict[int, str] = {}
    while running.poll() is None:
        for pid in _family(running.pid):
            if (tmp_path / "x.mp4.enc.open").exists():
                limits[pid] = _core_limit(pid)
        time.sleep(0.05)
    assert running.returncode == 0
    assert len(limits) >= 3
    assert set(limits.values()) <= {"0", ""}


def _family(pid: int) -> list[int]:
    try:
        parent = psutil.Process(pid)
        return [pid, *(child.pid for child in parent.children(recursive=True))]
    except psutil.Error:
        return []


def _visible(pid: int) -> bytes:
    """What other users of the machine might see of a process."""
    shown = b""
    for name in ("cmdline", "environ"):
        try:
            shown += Path(f"/proc/{pid}/{name}").read_bytes()
        except OSError:
            continue
    return shown


def _core_limit(pid: int) -> str:
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return ""
    return next(line.split()[4] for line in lines if line.startswith("Max core file size"))
