"""`sealrec keys`: every change concerns all parts at once, and says what it cannot do."""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.cli.app import run
from engine.container.names import open_path
from engine.container.reader import read_public_header
from engine.container.writer import PartWriter
from engine.key_files import read_key_file
from tests.engine import media
from tests.engine.recordings import GOP, Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    """A recording of two parts."""
    studio = Studio(tmp_path / "day.mp4.enc")
    studio.part(0, range(GOP), last=False)
    studio.part(1, range(GOP, 2 * GOP))
    return studio


def _json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def _opens(studio: Studio, option: str, path: Path) -> bool:
    """Whether a key opens all parts; any other outcome than a wrong key is a failure."""
    code = run(["verify", str(studio.base), option, str(path)])
    assert code in (0, 5)
    return code == 0


def test_new_key_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A new key file is the owner's alone, and never replaces another one."""
    path = tmp_path / "new.key"
    code, shown = _json(capsys, "keys", "new", path)
    assert code == 0
    assert len(shown["key_id"]) == 32
    before = read_key_file(path)
    assert before.hex() not in json.dumps(shown)
    assert sys.platform == "win32" or stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run(["keys", "new", str(path)]) == 2
    assert read_key_file(path) == before


def test_pair_and_public_key(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pair's public key is let in, and its private key opens."""
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    code, made = _json(capsys, "keys", "pair", private, public)
    assert code == 0
    code, shown = _json(
        capsys, "keys", "add", studio.base, "--key-file", studio.key_file(),
        "--new-public-key", public, "--label", "archive",
    )  # fmt: skip
    assert code == 0
    for part in shown["parts"]:
        assert part["changed"]
        assert part["keys"][1] == {
            "kind": "public_key",
            "label": "archive",
            "key_id": made["key_id"],
        }
    assert _opens(studio, "--private-key", private)
    assert run(["keys", "pair", str(private), str(tmp_path / "p2.pem")]) == 2
    assert not (tmp_path / "p2.pem").exists()


def test_add_then_remove(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key that was added opens all parts; removed by its label it opens none, with a warning."""
    new, old = tmp_path / "new.key", studio.key_file()
    assert run(["keys", "new", str(new)]) == 0
    assert not _opens(studio, "--key-file", new)
    base = str(studio.base.with_name("day.001.mp4.enc"))  # any part names the recording
    add = ["keys", "add", base, "--key-file", str(old), "--new-key-file", str(new)]
    assert run([*add, "--label", "second"]) == 0
    assert _opens(studio, "--key-file", new)
    assert _opens(studio, "--key-file", old)
    capsys.readouterr()
    code, shown = _json(capsys, "keys", "remove", base, "second", "--key-file", old)
    assert code == 0
    assert "revokes nothing" in shown["warning"]
    assert not _opens(studio, "--key-file", new)
    assert _opens(studio, "--key-file", old)


def test_remove_by_id(studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first digits of an id name a key; the last key is never removed."""
    old = studio.key_file()
    key_id = read_public_header(studio.base).header.slots[0].key_id.hex()
    remove = ["keys", "remove", str(studio.base)]
    assert run([*remove, key_id[:8], "--key-file", str(old)]) == 2
    assert "last key" in capsys.readouterr().err
    assert run([*remove, "ffffffff", "--key-file", str(old)]) == 2
    assert _opens(studio, "--key-file", old)
    new = tmp_path / "new.key"
    assert run(["keys", "new", str(new)]) == 0
    add = ["keys", "add", str(studio.base), "--key-file", str(old), "--new-key-file", str(new)]
    assert run(add) == 0
    capsys.readouterr()
    assert run([*remove, key_id[:8], "--key-file", str(new)]) == 0
    assert "revokes nothing" in capsys.readouterr().err
    assert not _opens(studio, "--key-file", old)


def test_rotate_to_a_password(
    studio: Studio,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rotation replaces the key that was given, in all parts; a typed password is asked twice."""
    old, password = studio.key_file(), tmp_path / "password"
    password.touch(mode=0o600)
    password.write_text("long enough\n", encoding="utf-8")
    rotate = ["keys", "rotate", str(studio.base)]
    new = ["--new-password-file", str(password)]
    assert run([*rotate, "--key-file", str(old), *new]) == 0
    assert "revokes nothing" in capsys.readouterr().err
    assert not _opens(studio, "--key-file", old)
    assert _opens(studio, "--password-file", password)
    for path in (studio.base, studio.base.with_name("day.001.mp4.enc")):
        assert len(read_public_header(path).header.slots) == 1

    typed = iter(["one", "another", "third", "third"])
    monkeypatch.setattr("getpass.getpass", lambda _prompt="": next(typed))
    by_prompt = [*rotate, "--password-file", str(password), "--new-password-file", "prompt"]
    assert run(by_prompt) == 2
    assert "not the same" in capsys.readouterr().err
    assert _opens(studio, "--password-file", password)
    assert run(by_prompt) == 0
    password.write_text("third\n", encoding="utf-8")
    assert _opens(studio, "--password-file", password)


@pytest.mark.parametrize("command", ["add", "rotate"])
def test_exactly_one_new_key(
    studio: Studio, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """None or two new keys are usage errors."""
    key = str(studio.key_file())
    arguments = ["keys", command, str(studio.base), "--key-file", key]
    assert run(arguments) == 2
    assert "0 were given" in capsys.readouterr().err
    assert run([*arguments, "--new-key-file", key, "--new-public-key", key]) == 2
    assert "2 were given" in capsys.readouterr().err


def test_part_in_use_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A recording with a part that is being written is left alone as a whole."""
    keys = media.Keys()
    studio = Studio(tmp_path / "day.mp4.enc", keys.kek, keys.dek, keys.recording_id)
    studio.part(0, range(GOP), last=False)
    new = tmp_path / "new.key"
    assert run(["keys", "new", str(new)]) == 0
    header = keys.header(1, studio.commitment)
    path = tmp_path / "day.001.mp4.enc"
    with PartWriter.create(path, dek=keys.dek, header=header, reserve=False):
        before = studio.base.read_bytes(), open_path(path).read_bytes()
        old = str(studio.key_file())
        add = ["keys", "add", str(studio.base), "--key-file", old, "--new-key-file", str(new)]
        assert run(add) == 2
        assert (studio.base.read_bytes(), open_path(path).read_bytes()) == before
    assert "in use" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["remove", "rotate"])
def test_help_says_that_nothing_is_revoked(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The help of commands that take a key away says what that does not do."""
    assert run(["keys", command, "--help"]) == 0
    assert "does not revoke" in " ".join(capsys.readouterr().out.split())
