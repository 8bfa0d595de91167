"""The reading commands: JSON alone on stdout, one line for an error, the documented exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor

from engine.cli.app import run
from engine.container.names import open_path
from engine.container.payload import PAYLOAD_OFFSET, offset_of_chunk
from engine.container.writer import PartWriter
from tests.engine import media
from tests.engine.recordings import GOP, Studio, flip

READING = ["info", "verify", "export", "cat", "recover", "keys rotate"]


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    studio = Studio(tmp_path / "day.mp4.enc")
    studio.part(0, range(16), last=False)
    studio.part(1, range(16, 40))
    return studio


def _key(studio: Studio) -> list[str]:
    return ["--key-file", str(studio.key_file())]


def _json(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, Any]:
    code = run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def _command(command: str, path: Path, key: list[str]) -> list[str]:
    """A whole command line of a reading command."""
    words = [*command.split(), str(path)]
    if command == "export":
        words.append(str(path.parent / "out.mp4"))
    if command == "keys rotate":
        words += ["--new-key-file", key[1]]
    return words if command == "info" else [*words, *key]


# --- what every command does --------------------------------------------------------------------


@pytest.mark.parametrize("command", READING)
@pytest.mark.parametrize(
    ("name", "code"),
    [("none.mp4.enc", 2), ("folder", 2), ("empty", 4), ("garbage", 4), ("empty/x", 2), ("pipe", 2)],
)
def test_bad_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str, code: int
) -> None:
    """A file that is no recording ends in one line on stderr and its exit code, never a trace."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "garbage").write_bytes(os.urandom(20_000))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
    arguments = _command(command, tmp_path / name, _key(Studio(tmp_path / "x")))
    if (command, name) == ("recover", "folder"):
        code = 0  # a directory without open parts has nothing to recover
    assert run(arguments) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    if command == "verify" and code == 4:
        assert shown.err.startswith("corrupt:")
    elif code:
        assert shown.err.startswith("sealrec: ")
        assert shown.err.count("\n") == 1


@pytest.mark.parametrize("command", [c for c in READING if c != "info"])
@pytest.mark.parametrize("given", [0, 2])
def test_exactly_one_key(
    studio: Studio,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    given: int,
) -> None:
    """Without a terminal, no key and two keys are usage errors, and nothing is written."""
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    key = _key(studio)
    arguments = _command(command, studio.base, key)
    arguments = arguments[:-2] if given == 0 else [*arguments, "--private-key", key[1]]
    before = sorted(studio.base.parent.iterdir())
    assert run(arguments) == 2
    assert f"{given} were given" in capsys.readouterr().err
    assert sorted(studio.base.parent.iterdir()) == before


def test_errors_are_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is JSON on stdout, beside its line on stderr."""
    key = _key(Studio(tmp_path / "x"))
    code, shown = _json(capsys, ["verify", str(tmp_path / "none.mp4.enc"), *key])
    assert code == 2
    assert shown["error"]["code"] == "config"
    assert "none.mp4.enc" in shown["error"]["message"]


# --- info ---------------------------------------------------------------------------------------


def test_info_needs_no_key(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Info lists all parts of a recording with their states and keys, from any part's name."""
    code, shown = _json(capsys, ["info", str(studio.base.with_name("day.001.mp4.enc"))])
    assert code == 0
    assert shown["recording_id"] == studio.recording_id.hex()
    assert [(p["index"], p["state"]) for p in shown["parts"]] == [(0, "sealed"), (1, "sealed")]
    assert [k["label"] for k in shown["parts"][0]["keys"]] == ["test"]
    assert shown["parts"][0]["created"] == "2023-11-14T22:13:20.000+00:00"
    assert run(["info", str(studio.base), "--part", "1"]) == 0
    text = capsys.readouterr().err
    assert "part 1: sealed" in text
    assert "part 0" not in text


def test_info_names_damaged_parts(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """A part without a readable header is listed with its error; the others are shown."""
    studio.base.with_name("day.001.mp4.enc").write_bytes(bytes(9000))
    code, shown = _json(capsys, ["info", str(studio.base)])
    assert code == 4
    assert "error" in shown["parts"][1]
    assert shown["parts"][0]["state"] == "sealed"


def test_labels_cannot_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A label is shown as it is: no escape sequence and no markup takes effect."""
    keys = media.Keys()
    from engine.container.header import new_core, new_header
    from engine.container.recipients import KeyFileRecipient

    core = new_core(recording_id=bytes(16), part_index=0, created_unix_ms=2**63)
    header = new_header(core, keys.dek, [KeyFileRecipient(keys.kek, "\x1b[2J[red]x")])
    PartWriter.create(tmp_path / "a", dek=keys.dek, header=header).abandon()
    assert run(["info", str(tmp_path / "a")]) == 0
    text = capsys.readouterr().err
    assert "\x1b" not in text
    assert "[red]x" in text


def test_info_imports_no_codec(studio: Studio) -> None:
    """Info works without PyAV, numpy and OpenCV being loaded."""
    script = (
        "import sys; from engine.cli.app import run; code = run(sys.argv[1:]);"
        "heavy = {'av', 'numpy', 'cv2'} & set(sys.modules); assert not heavy, heavy; sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "info", str(studio.base)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


# --- verify -------------------------------------------------------------------------------------


def test_verify(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Verify prints the documented JSON, and a line for a person without --json."""
    code, shown = _json(capsys, ["verify", str(studio.base), *_key(studio), "--decode"])
    assert code == 0
    assert (shown["state"], shown["frames"], shown["decoded"]) == ("sealed", 40, 40)
    assert shown["barcodes"] == {"checked": 40, "right": 40}
    assert run(["verify", str(studio.base), *_key(studio)]) == 0
    shown_text = capsys.readouterr()
    assert shown_text.out == ""
    assert "sealed: 40 frames, 0 lost, 0:00:01.3, every frame accounted for" in shown_text.err


def test_verify_exit_codes(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong key 5, a part missing 6, corrupt 4, incomplete 3, in JSON and as exit code."""
    key = _key(studio)
    second = studio.base.with_name("day.001.mp4.enc")
    other = Studio(studio.base.parent / "sub" / "other.mp4.enc")
    other.base.parent.mkdir()
    expected = {"wrong-key": 5, "sealed": 6, "corrupt": 4, "incomplete": 3}
    found = {}
    code, shown = _json(capsys, ["verify", str(second), *_key(other)])
    found[shown["state"]] = code
    flip(second, offset_of_chunk(1))
    code, shown = _json(capsys, ["verify", str(second), *key])
    found[shown["state"]] = code
    second.unlink()
    code, shown = _json(capsys, ["verify", str(studio.base), *key])
    found[shown["state"]] = code
    other.part(0, range(GOP), sealed=False)
    code, shown = _json(capsys, ["verify", str(other.base), *_key(other)])
    found[shown["state"]] = code
    assert found == expected


def test_password_opens_by_file_and_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A password opens from a file, from an inherited descriptor, and at a terminal by prompt."""
    from engine.keys import password_recipient

    studio = Studio(tmp_path / "day.mp4.enc", recipients=[password_recipient("säge")])
    studio.part(0, range(GOP))
    secret = tmp_path / "password"
    secret.touch(mode=0o600)
    secret.write_text("säge\n", encoding="utf-8")
    arguments = ["verify", str(studio.base)]
    assert run([*arguments, "--password-file", str(secret)]) == 0
    read, write = os.pipe()
    os.write(write, "säge\n".encode())
    os.close(write)
    assert run([*arguments, "--password-file", f"fd:{read}"]) == 0
    os.close(read)
    monkeypatch.setattr("getpass.getpass", lambda _prompt="": "säge")
    monkeypatch.setattr(sys, "stdin", _Terminal())
    assert run(arguments) == 0
    monkeypatch.setattr("getpass.getpass", lambda _prompt="": "sage")
    assert run(arguments) == 5
    capsys.readouterr()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- export and cat -----------------------------------------------------------------------------


def test_export(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Export writes a playable file and says that it is not encrypted; --help says so as well."""
    out = studio.base.parent / "day.mp4"
    arguments = ["export", str(studio.base), str(out), *_key(studio)]
    code, shown = _json(capsys, arguments)
    assert (code, shown["frames"], shown["first_pts"]) == (0, 40, 0)
    with av.open(str(out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 40
    assert run(arguments) == 2
    assert "exists already" in capsys.readouterr().err
    assert run([*arguments, "--force"]) == 0
    assert "NOT ENCRYPTED" in capsys.readouterr().err
    assert run(["export", "--help"]) == 0
    assert "NOT ENCRYPTED" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_terminated_export_leaves_nothing(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM during an export ends it as Ctrl-C does: no plaintext stays behind."""
    import signal

    from engine.reading import copying

    def terminate(*_arguments: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(copying, "_check_whole", terminate)
    out = studio.base.parent / "day.mp4"
    before = signal.getsignal(signal.SIGTERM)
    assert run(["export", str(studio.base), str(out), *_key(studio)]) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    assert [p.name for p in studio.base.parent.glob("*.mp4")] == []
    assert [p.name for p in studio.base.parent.glob(".*")] == []


def test_cat_is_what_the_library_decrypts(studio: Studio) -> None:
    """Cat's stdout is byte for byte what Cobblestone256Decryptor makes of the part."""
    second = studio.base.with_name("day.001.mp4.enc")
    data = second.read_bytes()
    decryptor = Cobblestone256Decryptor(studio.dek, data[:128])
    plaintext = decryptor.update(data[PAYLOAD_OFFSET:]) + decryptor.finalize()
    script = "import sys; from engine.cli.app import run; sys.exit(run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "cat", str(second), *_key(studio), "--json"],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout == plaintext
    assert json.loads(done.stderr)["size_bytes"] == len(plaintext)


def test_cat_of_damaged_and_incomplete_parts(
    studio: Studio, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A stream that ends early says so by its exit code; stdout holds nothing but the stream."""
    assert run(["cat", str(studio.base), "--part", "0", *_key(studio)]) == 0
    whole = capsysbinary.readouterr().out
    flip(studio.base, offset_of_chunk(2))
    assert run(["cat", str(studio.base), *_key(studio), "--json"]) == 4
    damaged = capsysbinary.readouterr()
    assert whole.startswith(damaged.out)
    assert json.loads(damaged.err)["error"]["code"] == "corrupt"
    other = Studio(studio.base.with_name("other.mp4.enc"), kek=studio.kek)
    other.part(0, range(GOP), sealed=False)
    assert run(["cat", str(other.base), *_key(other)]) == 3
    with av.open(io.BytesIO(capsysbinary.readouterr().out)) as container:
        assert sum(1 for _ in container.decode(video=0)) == GOP


def test_cat_refuses_a_terminal(
    studio: Studio, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cat writes no video to a terminal."""
    monkeypatch.setattr(sys, "stdout", _Terminal())
    assert run(["cat", str(studio.base), *_key(studio)]) == 2
    assert "terminal" in capsys.readouterr().err


# --- recover ------------------------------------------------------------------------------------


def test_recover_one_recording(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """Recover closes an open part and says how far it reaches; again, it has nothing to do."""
    other = Studio(studio.base.with_name("other.mp4.enc"), kek=studio.kek)
    path = other.part(0, range(24), sealed=False)
    with open_path(path).open("ab") as file:
        file.write(os.urandom(20_000))  # a fragment that was on its way
    assert run(["recover", str(path), *_key(other)]) == 0
    text = capsys.readouterr().err
    assert "24 frames kept to 0:00:00.8, lost 20.0 kB" in text
    assert run(["verify", str(path), *_key(other)]) == 0
    assert capsys.readouterr().err.startswith("recovered: 24 frames")
    code, shown = _json(capsys, ["recover", str(path), *_key(other)])
    assert (code, shown) == (0, [])


def test_recover_leaves_a_part_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A part in use is not touched: an error if asked for, a line among others in a directory."""
    keys = media.Keys()
    studio = Studio(tmp_path / "dead.mp4.enc", kek=keys.kek)
    studio.part(0, range(GOP), sealed=False)
    busy = tmp_path / "busy.mp4.enc"
    with PartWriter.create(busy, dek=keys.dek, header=keys.header(), reserve=False):
        before = open_path(busy).read_bytes()
        assert run(["recover", str(busy), *_key(studio)]) == 2
        assert "in use" in capsys.readouterr().err
        code, shown = _json(capsys, ["recover", str(tmp_path), *_key(studio)])
        assert open_path(busy).read_bytes() == before
    assert code == 0
    by_name = {Path(part["path"]).name: part for part in shown}
    assert by_name["busy.mp4.enc.open"]["error"]["code"] == "in-use"
    assert by_name["dead.mp4.enc"]["state"] == "recovered"
    assert by_name["dead.mp4.enc"]["frames"] == GOP


def test_recover_with_a_wrong_key(studio: Studio, capsys: pytest.CaptureFixture[str]) -> None:
    """In a directory of several keys, what the given one does not open is named: exit code 5."""
    mine = Studio(studio.base.with_name("mine.mp4.enc"), kek=studio.kek)
    mine.part(0, range(GOP), sealed=False)
    other = Studio(studio.base.with_name("other.mp4.enc"))
    other.part(0, range(GOP), sealed=False)
    code, shown = _json(capsys, ["recover", str(studio.base.parent), *_key(studio)])
    assert code == 5
    assert sorted(part["state"] for part in shown) == ["failed", "recovered"]
    assert open_path(other.base).exists()
