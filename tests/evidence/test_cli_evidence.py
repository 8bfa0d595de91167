"""`sealrec evidence` and `sealrec keys sign-key` as a person and a script use them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine.cli.app import run
from engine.evidence import pdf
from engine.key_files import new_sign_key, read_sign_key, read_verify_key
from ipc.errors import KeyFileError
from tests.engine.recordings import NOISY, flip
from tests.evidence.kit import Desk
from tests.processes.commands import command_line

AWAIT_S = 60


def _json(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any]:
    code = run([*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def _line(desk: Desk, *more: object) -> list[str]:
    """The command that makes a package."""
    line = ["evidence", desk.studio.base, desk.out, "--key-file", desk.studio.key_file()]
    return [str(word) for word in (*line, "--sign-key", desk.sign_key, *more)]


def test_from_key_to_check(desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Make the key, hand over, check: with the key, without, with another, and changed."""
    private, public = tmp_path / "my.pem", tmp_path / "my.pem.pub"
    code, made = _json(capsys, "keys", "sign-key", private)
    assert (code, made["public"]) == (0, str(public))
    assert sys.platform == "win32" or stat.S_IMODE(private.stat().st_mode) == 0o600
    line = ["evidence", desk.studio.base, desk.out, "--key-file", desk.studio.key_file()]
    code, report = _json(capsys, *line, "--sign-key", private, "--from", "0.1", "--to", "1")
    assert (code, report["signer"], report["state"]) == (0, made["fingerprint"], "recovered")
    check = ("evidence", "--check", desk.out)
    code, found = _json(capsys, *check, "--public-key", public)
    assert (code, found["whole"], found["signed_by_given_key"]) == (0, True, True)
    code, found = _json(capsys, *check)
    assert (code, found["whole"], found["signed_by_given_key"]) == (0, True, None)
    assert run([str(word) for word in check]) == 0
    said = capsys.readouterr()
    assert "not who signed it" in said.out + said.err
    new_sign_key(tmp_path / "other.pem", tmp_path / "other.pub")
    code, found = _json(capsys, *check, "--public-key", tmp_path / "other.pub")
    assert (code, found["whole"], found["signed_by_given_key"]) == (5, True, False)
    flip(desk.out, 50)
    code, found = _json(capsys, *check, "--public-key", public)
    assert (code, found["changed"][0]["where"]) == (4, "VERIFY.txt")
    assert run([str(word) for word in check]) == 4
    said = capsys.readouterr()
    assert "NOT WHAT WAS SIGNED" in said.out + said.err
    assert "VERIFY.txt" in said.out + said.err


def test_a_signing_key_with_a_password(
    desk: Desk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is encrypted, and needs its password from a file."""
    private, words = tmp_path / "my.pem", tmp_path / "words"
    words.touch(mode=0o600)
    words.write_text("correct horse\n")
    assert run(["keys", "sign-key", str(private), "--password-file", str(words)]) == 0
    assert b"ENCRYPTED" in private.read_bytes()
    line = ["evidence", str(desk.studio.base), str(desk.out)]
    line += ["--key-file", str(desk.studio.key_file()), "--sign-key", str(private)]
    assert run(line) == 2
    assert run([*line, "--sign-password-file", str(words)]) == 0
    words.write_text("another\n")
    assert run([*line, "--force", "--sign-password-file", str(words)]) == 2
    assert "correct horse" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("OUT",),
        ("--sign-key", "KEY"),
        ("OUT", "--sign-key", "KEY", "--public-key", "PUB"),
        ("OUT", "--check"),
        ("--check", "--sign-key", "KEY"),
        ("--check", "--public-key", "KEY"),
        ("OUT", "--sign-key", "PUB"),
        ("OUT", "--sign-key", "KEY", "--from", "x"),
        ("OUT", "--sign-key", "KEY", "--from", "2", "--to", "1"),
    ],
)
def test_usage(desk: Desk, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]) -> None:
    """What makes no sense is one line and exit code 2, and nothing is written."""
    names = {"OUT": desk.out, "KEY": desk.sign_key, "PUB": desk.public_key}
    words = [str(names.get(word, word)) for word in more]
    code = run(
        ["evidence", str(desk.studio.base), *words, "--key-file", str(desk.studio.key_file())]
    )
    assert code == 2
    assert capsys.readouterr().err.startswith("sealrec: ")
    assert list(desk.folder.iterdir()) == []


def test_without_the_library(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing is said before anything is opened."""
    monkeypatch.setattr(pdf, "find_spec", lambda _name: None)
    assert run(_line(desk)) == 2
    assert "sealrec[evidence]" in capsys.readouterr().err


def test_keys_that_are_none(desk: Desk, tmp_path: Path) -> None:
    """Keys of another kind are refused on both sides, and a readable private key as well."""
    assert run(["keys", "pair", str(tmp_path / "x.pem"), str(tmp_path / "x.pub")]) == 0
    with pytest.raises(KeyFileError, match="Ed25519 private key"):
        read_sign_key(tmp_path / "x.pem")
    with pytest.raises(KeyFileError, match="Ed25519 public key"):
        read_verify_key(tmp_path / "x.pub")
    assert run(["keys", "sign-key", str(desk.sign_key)]) == 2  # never overwritten
    if sys.platform != "win32":
        desk.sign_key.chmod(0o644)
        with pytest.raises(KeyFileError, match="by others"):
            read_sign_key(desk.sign_key)


@pytest.mark.skipif(sys.platform != "linux", reason="files without a name are Linux's")
def test_killed_it_leaves_nothing(empty_desk: Desk) -> None:
    """Not even SIGKILL, in the middle of it, leaves anything that was decrypted."""
    empty_desk.studio.part(0, range(120), size=NOISY)
    process = subprocess.Popen(
        command_line(*_line(empty_desk)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + AWAIT_S
        while not _unnamed(process.pid, empty_desk.folder):
            assert process.poll() is None, "it was over before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(empty_desk.folder.iterdir()) == []


def _unnamed(pid: int, folder: Path) -> list[str]:
    """Files of a process in a folder that have no name and some content."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(link)
            if target.startswith(f"{folder}/") and link.stat().st_size:
                found.append(target)
        except OSError:
            continue  # closed in this moment
    return found
