"""Whatever comes from outside is read, or refused with an error of ipc/errors.py; nothing else.

Damaged recordings, recordings forged by somebody who holds a key, tables, messages, settings and
key files. A damaged recording yields a prefix of what was recorded, never other bytes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.config import Limits, parse_config, parse_next, parse_source
from engine.container import boxes, tables
from engine.container.header import open_header, updated
from engine.container.part import PartReader
from engine.container.reader import RecordingReader, read_public_header
from engine.container.recipients import DataKeySecret, KeyFileSecret
from engine.container.recovery import recover
from engine.key_files import read_key_file, read_password, read_private_key, read_public_key
from engine.ledger import Ledger
from engine.reading.samples import track_defaults
from engine.reading.verify import verify
from ipc.channel import Channel, decode
from ipc.errors import (
    ConfigError,
    Corrupt,
    FrameTooLarge,
    KeyFileError,
    PeerDied,
    ProtocolError,
    SealrecError,
)
from ipc.frame import Loss, LossClass
from ipc.messages import FromCapture, FromController, FromEncoder
from tests.contracts.forgery import (
    CHUNK,
    FRAGMENT,
    Forger,
    box,
    damaged,
    emsg,
    forged_payloads,
    payload_of,
)
from tests.contracts.independent_reader import Key, Refused, open_part
from tests.processes.commands import sealrec

KEK = bytes(range(100, 132))
SECRET = KeyFileSecret(KEK)
FORGER = Forger(KEK)
HEAVY_BYTES = 48 << 20
READ_BYTES = 50_000

hostile = functools.partial(
    settings,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@dataclass(frozen=True)
class Real:
    """A real recording in several states, and what is in it.

    Attributes:
        files: By name: sealed, recovered, still open with some or no chunks counted.
        plaintext: What every one of them holds, or begins with.
        init: Its ``ftyp`` and ``moov``.
    """

    files: dict[str, bytes]
    plaintext: bytes
    init: bytes


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Real:
    """A small real recording."""
    folder = tmp_path_factory.mktemp("real")
    path, key = folder / "x.mp4.enc", folder / "key"
    key.write_text(KEK.hex() + "\n")
    key.chmod(0o600)
    size = ("--size", "130x64", "--fps", "30", "--frames", "40", "--policy", "block")
    done = sealrec("record", path, "--json", "--hardware", "off", "--key-file", key, *size)
    assert done.code == 0, done.err
    raw = path.read_bytes()
    part = open_part(raw, Key(2, KEK))
    with PartReader.open(path, SECRET) as reader:
        init = reader.init_segment
    files = {"sealed": raw}
    opened = open_header(raw[:4096], raw[4096:8192], DataKeySecret(part.dek))
    full = part.header.chunk_count - 1
    for name, state, chunks in (("open", 0, 0), ("counted", 0, full - 1), ("recovered", 2, full)):
        copy = updated(
            opened.header, part.dek, state=state, chunk_count=chunks,
            payload_bytes=chunks * CHUNK, seal_chunk=0,
        )  # fmt: skip
        end = 8248 + 16_400 * full if state == 2 else len(raw)
        files[name] = copy + copy + raw[8192:end]
    return Real(files, part.plaintext, init)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For one hostile file at a time."""
    return tmp_path_factory.mktemp("hostile")


def placed(folder: Path, raw: bytes, *, is_open: bool = False) -> Path:
    """The file alone in the folder."""
    for old in folder.iterdir():
        old.unlink()
    path = folder / ("x.mp4.enc.open" if is_open else "x.mp4.enc")
    path.write_bytes(raw)
    return path


@contextlib.contextmanager
def only_ours() -> Iterator[None]:
    """Whatever goes wrong in here goes wrong with an error of ours."""
    with contextlib.suppress(SealrecError):
        yield


def bytes_of(part: PartReader) -> bytes:
    """All that a reader gives out before it ends or refuses."""
    found = b""
    with only_ours():
        while data := part.read(READ_BYTES):
            found += data
    return found


def read_everything(path: Path, *, salvage: bool) -> bytes:
    """Use a part in every way there is; returns the plaintext that it gave."""
    found = b""
    with only_ours(), PartReader.open(path, SECRET, salvage=salvage) as part:
        found = bytes_of(part)
        for use in (
            lambda: part.session,
            lambda: part.init_segment,
            lambda: part.end_pts,
            lambda: [part.fragment_bytes(fragment.number) for fragment in part.fragments()],
            lambda: part.fragment_at(0),
            part.check_all,
        ):
            with only_ours():
                use()
    with only_ours(), RecordingReader.open(path, SECRET, salvage=salvage) as recording:
        recording.read()
        list(recording.fragments())
    return found


# --- recordings -------------------------------------------------------------------------------


def test_a_damaged_recording_yields_a_prefix_or_an_error(real: Real, folder: Path) -> None:
    """No damage makes other bytes; both readers call it the same; recovery keeps a prefix."""

    @hostile(max_examples=150)
    @given(damaged(real.files), st.booleans())
    def check(sample: tuple[str, bytes], is_open: bool) -> None:
        path = placed(folder, sample[1], is_open=is_open)
        for salvage in (False, True):
            assert real.plaintext.startswith(read_everything(path, salvage=salvage))
        report = verify(path, SECRET)
        assert report.state == _independent_verdict(sample[1])
        with only_ours():
            read_public_header(path)
        for part in recover(folder, SECRET):
            if part.state in ("sealed", "recovered"):
                assert real.plaintext.startswith(read_everything(part.path, salvage=False))

    check()


def _independent_verdict(raw: bytes) -> str:
    try:
        return open_part(raw, Key(2, KEK)).state
    except Refused as refusal:
        return {"Corrupt": "corrupt", "WrongKey": "wrong-key"}[refusal.args[0]]


def test_undamaged_files_are_what_the_test_above_damages(real: Real, folder: Path) -> None:
    """Each of them reads, whole or up to its last fragment, and is called what it is."""
    states = {"sealed": "sealed", "open": "incomplete", "counted": "incomplete"}
    for name, raw in real.files.items():
        path = placed(folder, raw)
        assert verify(path, SECRET).state == states.get(name, "recovered")
        assert len(read_everything(path, salvage=False)) > 2 * CHUNK


def test_forged_content_is_read_or_refused(real: Real, folder: Path) -> None:
    """Who holds the key can encrypt anything; no reader falls over it."""
    state = st.sampled_from([1, 1, 1, 0, 2])
    claims = st.none() | st.sampled_from([(0, 0), (2**64 - 1, 2**64 - 1), (2**32, 2**46)])

    @hostile(max_examples=150)
    @given(forged_payloads(real.init), state, claims, st.booleans())
    def check(
        forged: tuple[bytes, int], state: int, claims: tuple[int, int] | None, is_open: bool
    ) -> None:
        payload, seal_chunk = forged
        seal = seal_chunk if state == 1 else 0
        raw = FORGER.file(payload, state=state, seal_chunk=seal, counts=claims)
        path = placed(folder, raw, is_open=is_open)
        for salvage in (False, True):
            assert payload.startswith(read_everything(path, salvage=salvage))
        report = verify(path, SECRET)
        if _independent_verdict(raw) == "corrupt":
            assert report.state == "corrupt"
        assert report.exit_code in range(7)
        assert report.as_dict()["state"] == report.state
        recover(folder, SECRET)

    check()


def _frames(count: int) -> bytes:
    return emsg(FRAGMENT, msgpack.packb({"frames": [[0] * 7] * count}))


def _lost(first: int, last: int) -> bytes:
    return emsg(FRAGMENT, msgpack.packb({"lost": [["ring_full", 0, first, last, 0, 0]]}))


MEDIA = box(b"moof") + box(b"mdat")
MANY = 150_000
BOMBS: dict[str, Callable[[], bytes]] = {
    "a range of all numbers": lambda: _lost(0, 2**64 - 1),
    "a range that would fill the memory": lambda: _lost(0, 2**40),
    "arrays within arrays": lambda: emsg(FRAGMENT, b"\x81\xa1x" + b"\x91" * MANY + b"\xc0"),
    "maps within maps": lambda: emsg(FRAGMENT, b"\x81\xa1x" + b"\x81\xa1a" * MANY + b"\xc0"),
    "an array that says it is long": lambda: emsg(FRAGMENT, b"\x81\xa6frames\xdd\xff\xff\xff\xff"),
    "bytes that say they are long": lambda: emsg(FRAGMENT, b"\x81\xa1x\xc6\xff\xff\xff\xff"),
    "an emsg that says it is long": lambda: emsg(FRAGMENT, b"\x80", size=2**32 - 1),
    "a box that says it is long": lambda: _frames(1) + box(b"moof", b"", 2**32 - 1),
    "a box of 64-bit length": lambda: _frames(1) + box(b"moof", b"\xff" * 8, 1),
    "a fragment of many boxes": lambda: (
        _frames(1) + box(b"moof", box(b"free") * MANY) + box(b"mdat")
    ),
    "many runs": lambda: (
        _frames(1) + box(b"moof", box(b"traf", box(b"trun") * MANY)) + box(b"mdat")
    ),
    "many rows": lambda: _frames(20_000) + MEDIA,
    "many fragments in one": lambda: emsg(FRAGMENT, b"\x80") * 2000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_costs_little_memory(real: Real, folder: Path, name: str) -> None:
    """Claimed sizes, counts, ranges and nesting cost neither memory nor a crash."""
    payload, seal_chunk = payload_of([BOMBS[name]()], init=real.init)
    path = placed(folder, FORGER.file(payload, seal_chunk=seal_chunk))
    tracemalloc.start()
    try:
        report = verify(path, SECRET)
        read_everything(path, salvage=True)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert report.exit_code in {0, 4, 6}
    assert peak < HEAVY_BYTES


def test_a_long_range_is_counted_like_a_short_one() -> None:
    """A ledger with a range that no list could hold counts it exactly."""
    ledger = Ledger()
    ledger.add_lost(Loss(LossClass.RING_FULL, 0, 0, 2**64 - 1, 0, 0))
    balance = ledger.balance()
    assert balance.totals["ring_full"] == balance.offered == 2**64


# --- parsers ----------------------------------------------------------------------------------

PARSERS: dict[str, Callable[[bytes], object]] = {
    "session": tables.parse_session,
    "fragment": tables.parse_fragment,
    "seal": tables.parse_seal,
    "emsg": boxes.parse_event,
    "boxes": lambda data: list(boxes.iterate_boxes(data)),
    "moov": track_defaults,
}


SIZES = st.sampled_from([0, 1, 7, 8, 15, 16, 17, 2**28 + 1, 2**32 - 1])


@pytest.mark.parametrize("name", PARSERS)
def test_a_parser_takes_arbitrary_bytes(name: str) -> None:
    """Bytes that are no table or box are Corrupt."""

    @hostile(max_examples=80)
    @given(
        st.binary(max_size=200)
        | st.binary(max_size=80).map(lambda data: emsg(FRAGMENT, data))
        | st.binary(max_size=80).map(lambda data: box(b"moov", box(b"trak", data)))
        | st.lists(SIZES.map(lambda size: box(b"moov", bytes(8), size)), max_size=3).map(b"".join)
        | st.dictionaries(
            st.sampled_from(["frames", "lost", "index", "parts", "last", "session"]),
            st.recursive(st.integers(-(2**63), 2**64 - 1) | st.text(), st.lists, max_leaves=6),
        ).map(msgpack.packb)
    )
    def check(data: bytes) -> None:
        with contextlib.suppress(Corrupt):
            PARSERS[name](data)

    check()


# --- messages ---------------------------------------------------------------------------------

KINDS = (FromController, FromEncoder, FromCapture)
SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text()
TREES = st.recursive(
    SCALARS | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=10,
)
TYPES = ["hello", "start", "stop", "failure", "open_part", "fragment_durable", "part_sealed", "nil"]
NAMES = ("call", "config", "major", "code", "message", "rows", "lost", "index", "dek")
MESSAGES = st.fixed_dictionaries(
    {"type": st.sampled_from(TYPES) | TREES}, optional=dict.fromkeys(NAMES, TREES)
)
NESTED = st.sampled_from([b"\x91" * 5000, b"\x81\xa1a" * 5000, b"\xdf\xff\xff\xff\xff"])
BODIES = st.binary(max_size=60) | MESSAGES.map(msgpack.packb) | NESTED


@hostile(max_examples=150)
@given(BODIES, st.sampled_from(KINDS))
def test_a_message_is_decoded_or_refused(body: bytes, kind: object) -> None:
    """Any bytes are a message or a ProtocolError."""
    with contextlib.suppress(ProtocolError):
        decode(body, kind)


def test_a_refusal_does_not_grow_with_what_it_refuses() -> None:
    """A type name as long as a message is quoted in part, so that the answer can be sent."""
    with pytest.raises(ProtocolError) as caught:
        decode(msgpack.packb({"type": "x" * 1_000_000}), FromController)
    assert len(str(caught.value)) < 1000


def framed(body: bytes) -> bytes:
    """A body with its length before it."""
    return len(body).to_bytes(4, "big") + body


@hostile(max_examples=100)
@given(st.lists(st.binary(max_size=40) | BODIES.map(framed), max_size=6), st.integers(1, 50))
def test_a_stream_ends_in_a_channel_error(pieces: list[bytes], step: int) -> None:
    """Any byte stream, in any pieces: messages and channel errors, and the end of it."""
    stream = b"".join(pieces)[:60_000]
    read, write = os.pipe()
    back_read, back_write = os.pipe()
    channel: Channel[object] = Channel(read, back_write, FromController, limit_bytes=4096)

    def feed() -> None:
        with contextlib.suppress(OSError):
            for at in range(0, len(stream), step * 997):
                os.write(write, stream[at : at + step * 997])
        os.close(write)

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        assert _messages_until_the_end(channel) <= len(stream)
    finally:
        channel.close_read()
        feeder.join()
        channel.close()
        os.close(back_read)


def _messages_until_the_end(channel: Channel[object]) -> int:
    """Receive until nothing more can come; how often something did."""
    taken = 0
    while True:
        try:
            channel.receive()
        except (PeerDied, FrameTooLarge):
            return taken
        except ProtocolError:
            pass  # one bad message: the next one can still be received
        taken += 1


# --- settings and keys ------------------------------------------------------------------------

FIELDS = st.sampled_from(
    ["output", "source", "keys", "width", "fps", "seconds", "frames", "policy", "session", "x"]
)


@hostile(max_examples=100)
@given(
    st.dictionaries(FIELDS, TREES | st.sampled_from(["synthetic", "file:" + "x" * 5000, "a\0b"])),
    st.sampled_from([[], [{"kind": "password", "value": "hunter2"}]]),
)
def test_settings_are_taken_or_refused(fields: dict[str, object], keys: list[object]) -> None:
    """Any settings give a configuration that can be used, or a ConfigError."""
    with contextlib.suppress(ConfigError):
        config = parse_config({"keys": keys, **fields})
        config.source_spec(config.limits)
        config.video()
        config.base()
        config.ring_slots(1, config.fps or 30.0)
        assert "hunter2" not in repr(config)
    with contextlib.suppress(ConfigError):
        parse_source(dict(fields)).source_spec(Limits())
    with contextlib.suppress(ConfigError):
        config = parse_next({"keys": keys, **fields}, parse_source({"source": "synthetic"}))
        config.base()
        assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "file:" + "x" * 5000},
        {"source": "file:/dev/null/x"},
        {"source": "file:a\0b"},
        {"camera_settings": "x" * 5000},
        {"seconds": float("inf")},
        {"seconds": 1e300},
        {"frames": 2**64},
        {"keys": [{"kind": "key_file", "value": "a\0b"}]},
        {"keys": [{"kind": "password_file", "value": "a\0b"}]},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_settings_that_no_recording_can_have_are_refused(fields: dict[str, object]) -> None:
    """Names no file can have, times no clock can hold: refused at once, with a reason."""
    with pytest.raises(ConfigError):
        parse_config({"keys": [{"kind": "password", "value": "hunter2"}], **fields})


READERS = {
    "key file": (read_key_file, "12" * 32 + "\n"),
    "password": (read_password, "a fine password\n"),
    "public key": (read_public_key, "-----BEGIN PUBLIC KEY-----\n"),
    "private key": (read_private_key, "-----BEGIN PRIVATE KEY-----\n"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_key_file_is_taken_or_refused(folder: Path, name: str) -> None:
    """Any file is a key, or a KeyFileError that quotes nothing of it."""
    reader, start = READERS[name]
    path = folder / "secret"
    path.touch(mode=0o600)

    @hostile(max_examples=60)
    @given(st.binary(max_size=200), st.booleans())
    def check(content: bytes, begins_well: bool) -> None:
        data = start.encode() * begins_well + content
        path.write_bytes(data)
        try:
            reader(path)
        except KeyFileError as error:
            shown = f"{error} {error.__context__} {error.__cause__}"
            words = [word for word in data.decode("latin-1").split() if len(word) > 12]
            assert not any(word in shown for word in words)

    check()
