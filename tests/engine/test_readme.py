"""The README's Python runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.keys import new_key_file, secret_from
from engine.reading.verify import verify

README = Path(__file__).parents[2] / "README.md"
AWAIT_S = 60
MARKED = r"^<!-- runs as a test: tests/engine/test_readme\.py -->\n```python\n(.*?)^```"
SNIPPETS = re.findall(MARKED, README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A controller's folder: nothing but its key."""
    new_key_file(tmp_path / "treatment.key")
    return tmp_path


def run(snippet: str, folder: Path) -> list[str]:
    """Run a snippet as a user would who has `sealrec` on the path; returns what it printed."""
    (folder / "controller.py").write_text(snippet, encoding="utf-8")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [sys.executable, "controller.py"],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=AWAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_every_python_of_the_readme_runs() -> None:
    """None is without its mark."""
    assert len(SNIPPETS) == README.read_text(encoding="utf-8").count("```python") == 5


def test_the_client_in_ten_lines_and_the_reader(folder: Path) -> None:
    """It records, sees the light, seals and says so; the file opens for reading as shown."""
    client, *_, reader = SNIPPETS
    assert len([line for line in client.splitlines() if line]) <= 10
    written, *_, balance = run(client, folder)
    path = folder / "session.mp4.enc"
    report = verify(path, secret_from(key_file=folder / "treatment.key"))
    assert int(written) > 0
    assert balance.startswith(f"{path} {report.frames} of ")
    assert (report.state, report.balanced) == ("sealed", True)
    assert len(run(reader, folder)) == report.frames


def test_a_camera_that_stays_open(folder: Path) -> None:
    """Two recordings of it, sealed one after the other."""
    opened = SNIPPETS[1]
    paths = run(opened, folder)
    assert paths == [str(folder / f"{name}.mp4.enc") for name in ("first", "second")]
    for path in paths:
        report = verify(Path(path), secret_from(key_file=folder / "treatment.key"))
        assert (report.state, report.balanced) == ("sealed", True)
        assert report.frames > 0


def test_the_open_cameras_picture_settings_and_still(folder: Path) -> None:
    """Half a picture, the values that were set, and a still that verifies."""
    shown, settings, still = run(SNIPPETS[2], folder)
    assert shown.startswith("(200, 320, 3) ")
    assert settings == "8000.0 (20.0, 10000000.0)"
    assert still == str(folder / "still.mp4.enc")
    report = verify(Path(still), secret_from(key_file=folder / "treatment.key"))
    assert (report.state, report.frames, report.exit_code) == ("sealed", 1, 0)


def test_the_bare_wire(folder: Path) -> None:
    """Msgpack over two pipes is enough to record."""
    wire = SNIPPETS[3]
    path, state, balance = run(wire, folder)
    assert path == str(folder / "session.mp4.enc")
    assert state
    assert "'state': 'sealed'" in balance
    report = verify(Path(path), secret_from(key_file=folder / "treatment.key"))
    assert (report.state, report.balanced) == ("sealed", True)
