"""Real recordings, held against FORMAT.md by a reader that shares no line with the project's own.

The recordings are made once, through the command line. That the checks would see a departure is
tested as well: on recordings with one thing wrong, and on every file that a reader must refuse.
"""

from __future__ import annotations

import ast
import copy
import json
import os
import secrets
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from engine.container.slots import SlotKind
from tests.contracts import independent_checks, independent_reader
from tests.contracts.independent_checks import deviations
from tests.contracts.independent_reader import (
    Key,
    Part,
    Refused,
    decoded_pictures,
    open_part,
    read_part,
)
from tests.processes.commands import command_line, sealrec
from tests.vectors.file_vectors import FILE_VECTORS, RECOVERED_VECTORS, load_golden
from tests.vectors.header_vectors import HEADER_VECTORS

CLIP = Path(__file__).parents[1] / "data" / "bigbuckbunny.mp4"
PASSWORD = "Ångström ﬁts 1½ ℌ"  # changes under NFKC
CHECKPOINTS_AT = (4048, 4096 + 4048)  # chunk_count in each header copy
POLL_S = 0.02
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Keys:
    """One key of each kind: the files that record, and what opens."""

    options: dict[int, list[str]]
    opening: dict[int, Key]


@dataclass(frozen=True)
class Recording:
    """A finished recording: what the command said, and its parts' bytes."""

    said: dict[str, Any]
    parts: list[bytes]

    def opened(self, key: Key) -> list[Part]:
        """All parts through the independent reader."""
        return [read_part(part, key) for part in self.parts]


# One recording each: with those below, every codec and every pixel format; odd sizes, odd rates.
VARIETY = {
    "hevc-mono8": "--codec hevc --pixel-format mono8 --size 321x241 --fps 29.97",
    "av1-rgb8": "--codec av1 --pixel-format rgb8 --size 322x200 --fps 24",
    "mpeg4-yuv422": "--codec mpeg4 --pixel-format yuv422 --size 162x99 --fps 50",
    "h264-bayer_rg8": "--codec h264 --pixel-format bayer_rg8 --size 163x97 --fps 59.94",
    "mpeg4-bayer_gb8": "--codec mpeg4 --pixel-format bayer_gb8 --size 129x97 --fps 23.976",
}
THREE_KEYS = "--codec h264 --pixel-format bgr8 --size 320x240 --fps 30 --frames 50 --policy block"
KILLED = "--codec h264 --pixel-format bayer_bg8 --size 320x240 --fps 60 --frames 240"
LOSSY = "--pixel-format bayer_gr8 --size 1280x960 --fps 240 --frames 240 --ring-seconds 0.05"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A password, a key file and a key pair, made without the project."""
    directory = tmp_path_factory.mktemp("keys")
    private, kek = X25519PrivateKey.generate(), secrets.token_bytes(32)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    files = {
        "password": f"{PASSWORD}\n".encode(),
        "key": f"{kek.hex()}\n".encode(),
        "public.pem": public,
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    names = {1: ("--password-file", "password"), 2: ("--key-file", "key")}
    names[3] = ("--public-key", "public.pem")
    raw = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    return Keys(
        {kind: [option, str(directory / name)] for kind, (option, name) in names.items()},
        {1: Key(1, PASSWORD.encode()), 2: Key(2, kek), 3: Key(3, raw)},
    )


Record = Callable[..., Recording]


@pytest.fixture(scope="module")
def record(keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Records through the command line; with ``kill`` the encoder dies once on the way."""

    def run(options: str, *, kinds: tuple[int, ...] = (2,), kill: bool = False) -> Recording:
        path = tmp_path_factory.mktemp("recording") / "take.mp4.enc"
        arguments = ["record", str(path), "--json", "--hardware", "off", *options.split()]
        arguments += [option for kind in kinds for option in keys.options[kind]]
        if kill:
            said = _record_and_kill(arguments, path)
        else:
            done = sealrec(*arguments)
            assert done.code == 0, done.err
            said = done.json
        return Recording(said, [Path(part).read_bytes() for part in said["parts"]])

    return run


def _record_and_kill(arguments: list[str], path: Path) -> dict[str, Any]:
    """Record, and kill the encoder once its first fragment is durable."""
    process = subprocess.Popen(command_line(*arguments), stdout=subprocess.PIPE)
    open_part = path.with_name(path.name + ".open")
    condition = psutil.Process(process.pid)
    try:
        while _durable_chunks(open_part) < 2:
            assert process.poll() is None, "it ended before its first fragment"
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(POLL_S)
        for child in condition.children(recursive=True):
            if "workers.encoder" in child.cmdline():
                child.kill()
        out, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0
    said: dict[str, Any] = json.loads(out)
    return said


def _durable_chunks(path: Path) -> int:
    raw = path.read_bytes()[:8192] if path.exists() else b""
    return max((int.from_bytes(raw[at : at + 8], "big") for at in CHECKPOINTS_AT), default=0)


@pytest.fixture(scope="module")
def three_keys(record: Record) -> Recording:
    """A recording for three keys at once."""
    return record(THREE_KEYS, kinds=(1, 2, 3))


@pytest.fixture(scope="module")
def killed(record: Record) -> Recording:
    """A recording whose encoder was killed on the way, so that it has two parts."""
    return record(KILLED, kill=True)


def barcode(luma: np.ndarray) -> int | None:
    """The frame id in a synthetic picture: 64 cells, 32 bits and their complement."""
    side = max(2, min(16, luma.shape[1] // 64))
    cells = [luma[:side, side * i : side * (i + 1)].mean() > 125 for i in range(64)]
    bits = "".join("01"[int(cell)] for cell in cells)
    value = int(bits[:32], 2)
    return value if int(bits[32:], 2) == value ^ 0xFFFFFFFF else None


def assert_keeps_the_format(recording: Recording, key: Key, *, synthetic: bool = True) -> None:
    """No deviation; the command's figures are the file's; every row has its picture, in time."""
    parts = recording.opened(key)
    assert list(deviations(parts)) == []
    seqs = {row.seq for part in parts for row in part.rows()}
    assert recording.said["frames_written"] == len(seqs) > 0
    for part in parts:
        rows = part.rows()
        pictures = list(decoded_pictures(part)) if rows else []
        assert [pts for pts, _ in pictures] == [row.pts for row in rows]
        if synthetic:
            assert [barcode(luma) for _, luma in pictures] == [row.frame_id for row in rows]


def test_the_reader_shares_nothing_with_the_project() -> None:
    """Neither the reader nor its checks import anything of the project."""
    for module in (independent_reader, independent_checks):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        found = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        found |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert {name.split(".")[0] for name in found}.isdisjoint({"engine", "workers", "ipc"})


@pytest.mark.parametrize("kind", [1, 2, 3])
def test_each_kind_of_key_opens_what_was_recorded(
    three_keys: Recording, keys: Keys, kind: int
) -> None:
    """A password, a key file and a private key open the same recording, which keeps the format."""
    assert_keeps_the_format(three_keys, keys.opening[kind])


def test_another_key_of_each_kind_is_a_wrong_key(three_keys: Recording) -> None:
    """A password, key or private key of somebody else opens nothing."""
    for key in (Key(1, b"other"), Key(2, bytes(32)), Key(3, bytes(range(32)))):
        with pytest.raises(Refused, match="WrongKey"):
            open_part(three_keys.parts[0], key)


@pytest.mark.parametrize("name", VARIETY)
def test_every_codec_and_pixel_format_keeps_the_format(
    record: Record, keys: Keys, name: str
) -> None:
    """Whatever the codec, the pixel format, an odd size or a fractional rate: no deviation."""
    recording = record(f"{VARIETY[name]} --frames 30 --policy block --no-realtime")
    assert recording.said["frames_written"] == 30
    assert_keeps_the_format(recording, keys.opening[2])


def test_a_recorded_file_keeps_the_format(record: Record, keys: Keys) -> None:
    """A file as the source keeps the format, and none of its frames is missing."""
    with av.open(str(CLIP)) as container:
        frames = sum(1 for _ in container.decode(video=0))
    recording = record(f"--source file:{CLIP} --policy block --codec mpeg4")
    assert recording.said["frames_written"] == frames
    assert_keeps_the_format(recording, keys.opening[2], synthetic=False)


def test_a_recording_with_losses_names_each_lost_frame_once(record: Record, keys: Keys) -> None:
    """A camera that is too fast for the ring: each frame is a picture or a named loss."""
    recording = record(LOSSY)
    assert sum(recording.said["lost"].values()) > 0
    assert_keeps_the_format(recording, keys.opening[2])


def test_a_killed_encoder_leaves_two_parts_that_keep_the_format(
    killed: Recording, keys: Keys
) -> None:
    """Two parts, chained, with one timeline and one balance; the first one is recovered."""
    parts = killed.opened(keys.opening[2])
    assert [part.state for part in parts] == ["recovered", "sealed"]
    assert all(part.rows() for part in parts)
    assert_keeps_the_format(killed, keys.opening[2])


Change = Callable[[list[Part]], object]


def _row(parts: list[Part], **fields: int) -> None:
    rows = parts[0].fragments[-1].rows
    rows[1] = rows[1]._replace(**fields)


def _header(parts: list[Part], **fields: Any) -> None:
    a, b = parts[0].headers
    assert a is not None
    assert b is not None
    parts[0].headers = (a._replace(**fields), b._replace(**fields))
    parts[0].header = parts[0].header._replace(**fields)


def _lose(parts: list[Part], frame_id: int) -> None:
    lost = parts[0].fragments[0].event.table.setdefault("lost", [])
    lost.append(["ring_full", parts[0].rows()[0].epoch, frame_id, frame_id, 1, 2])


def _seal(parts: list[Part], key: str, value: Any) -> None:
    assert parts[0].seal is not None
    parts[0].seal.table[key] = value


def _moof(parts: list[Part], kind: bytes, at: int, mask: int) -> None:
    """Flip bits of a byte in a box of the last moof."""
    part, fragment = parts[0], parts[0].fragments[-1]
    assert fragment.moof is not None
    body = bytearray(fragment.moof.body)
    body[body.index(kind) + 4 + at] ^= mask
    index = part.boxes.index(fragment.moof)
    fragment.moof = part.boxes[index] = fragment.moof._replace(body=bytes(body))


def _padding(parts: list[Part]) -> None:
    at, box = next((i, b) for i, b in enumerate(parts[0].boxes) if b.kind == "free")
    parts[0].boxes[at] = box._replace(end=box.end - 8, body=box.body[:-9] + b"\1")


DEPARTURES: dict[str, tuple[Change, str]] = {
    "a frame without a row": (lambda p: p[0].fragments[-1].rows.pop(1), "sample times"),
    "an id that is in no row": (lambda p: _lose(p, 99), "in no class"),
    "an id that is in two": (lambda p: _lose(p, p[0].rows()[3].frame_id), "in two"),
    "two ids under one seq": (lambda p: _row(p, seq=p[0].rows()[0].seq), "is two frames"),
    "one id under two seq": (lambda p: _row(p, frame_id=p[0].rows()[0].frame_id), "has two seq"),
    "a pts that steps back": (lambda p: _row(p, pts=0), "after"),
    "a key flag too many": (lambda p: _row(p, flags=1), "sync flags"),
    "a seal elsewhere": (lambda p: _header(p, seal_chunk=1), "seal_chunk"),
    "a foreign predecessor": (lambda p: _header(p, core=bytes(64) + b"\1" * 64), "previous_part"),
    "a generation skipped": (lambda p: _header(p, generation=7), "generations"),
    "an index that leaves one out": (lambda p: _seal(p, "index", [[1, 0, 9]]), "index"),
    "totals of the part": (lambda p: _seal(p, "part", {"written": 1}), "part says"),
    "totals of the recording": (lambda p: _seal(p, "recording", {"written": 1}), "recording says"),
    "a wrong number of parts": (lambda p: _seal(p, "parts", 2), "parts is 2"),
    "not the last part": (lambda p: _seal(p, "last", False), "last is False"),
    "padding that is no padding": (_padding, "free box"),
    "no default-base-moof": (lambda p: _moof(p, b"tfhd", 1, 2), "default-base-moof"),
    "a data offset": (lambda p: _moof(p, b"trun", 11, 1), "trun data offset"),
    "an unknown box": (
        lambda p: p[0].boxes.insert(3, p[0].boxes[3]._replace(kind="mfra")),
        "unexpected boxes",
    ),
}


@pytest.mark.parametrize("name", DEPARTURES)
def test_the_checks_see_a_departure(three_keys: Recording, keys: Keys, name: str) -> None:
    """A recording with one thing wrong is not taken for a good one, and the thing is named."""
    parts = copy.deepcopy(three_keys.opened(keys.opening[2]))
    change, sentence = DEPARTURES[name]
    change(parts)
    found = "\n".join(deviations(parts))
    assert sentence in found


def test_the_checks_see_a_part_out_of_place(killed: Recording, keys: Keys) -> None:
    """A missing part and parts in another order are no whole recording."""
    first, second = killed.opened(keys.opening[2])
    for parts in ([second], [second, first], [first, first]):
        assert list(deviations(parts)) != []


GOLDEN = load_golden()
GOLDEN_KEYS = {
    SlotKind.PASSWORD: Key(1, GOLDEN.facts["password"].encode()),
    SlotKind.KEY_FILE: Key(2, bytes.fromhex(GOLDEN.facts["key_file"])),
    SlotKind.PUBLIC_KEY: Key(3, bytes.fromhex(GOLDEN.facts["private_key"])),
}
REFUSED = FILE_VECTORS | RECOVERED_VECTORS


@pytest.mark.parametrize("name", ["first", "second", "recovered", "other"])
def test_a_golden_file_opens(name: str) -> None:
    """The files that every version must read keep the format's rules of reading."""
    part = open_part(getattr(GOLDEN, name), GOLDEN_KEYS[SlotKind.KEY_FILE])
    assert part.dek.hex() == GOLDEN.facts[f"{name}_data_key"]
    assert part.state == ("recovered" if name == "recovered" else "sealed")


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_must_be_refused_is_refused(name: str) -> None:
    """An outsider's reader refuses as Corrupt each file that the project's own must refuse."""
    with pytest.raises(Refused, match="Corrupt"):
        open_part(REFUSED[name](GOLDEN), GOLDEN_KEYS[SlotKind.KEY_FILE])


@pytest.mark.parametrize("name", HEADER_VECTORS)
def test_a_header_that_must_be_refused_is_refused(name: str) -> None:
    """For every kind of key, the reason is the one that the project's own reader must give."""
    vector = HEADER_VECTORS[name]
    raw = vector.mutate(GOLDEN.first[:8192]) + GOLDEN.first[8192:]
    for kind, key in GOLDEN_KEYS.items():
        with pytest.raises(Refused, match=vector.expected[kind].__name__):
            open_part(raw, key)


def test_files_are_readable_by_their_owner_alone(killed: Recording) -> None:
    """Each part has mode 0600, and nothing else is left beside the parts."""
    paths = [Path(part) for part in killed.said["parts"]]
    assert sorted(os.listdir(paths[0].parent)) == sorted(path.name for path in paths)
    if os.name == "posix":
        assert {path.stat().st_mode & 0o777 for path in paths} == {0o600}
