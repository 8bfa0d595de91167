"""Hostile recordings: damaged files, and whole ones whose content the holder of a key made up.

Strategies for hypothesis and the builders under them. Boxes and tables are put together here by
hand, so that they can be what the project's own writer refuses to make.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgpack
from cryptography.cobblestone import Cobblestone256Encryptor
from hypothesis import strategies as st

from engine.container.header import Header, new_core, new_header, updated
from engine.container.recipients import KeyFileRecipient

__all__ = [
    "CHUNK",
    "FRAGMENT",
    "SEAL",
    "SESSION",
    "Forger",
    "box",
    "damaged",
    "emsg",
    "forged_payloads",
    "padded",
    "payload_of",
]

CHUNK, SEALED_CHUNK, FIRST = 16_384, 16_400, 8_248
SESSION, FRAGMENT, SEAL = (f"urn:sealrec:{name}:1" for name in ("session", "fragment", "seal"))

# --- damage -----------------------------------------------------------------------------------

# Where fields of a header copy begin; damage there is likelier to get past the first check.
_FIELDS = (0, 8, 16, 32, 36, 64, 96, 128, 132, 136, 140, 160, 192, 204, 252, 4040, 4044, 4048, 4064)
_SIZES = (1, 8, 16, 56, 192, 4096, SEALED_CHUNK)


@st.composite
def _edits(draw: st.DrawFn, raw: bytes) -> bytes:
    """One change of a file: a flip, a cut, a splice, garbage, zeros, or something appended."""
    size = len(raw)
    fields = [copy + field for copy in (0, 4096) for field in _FIELDS]
    edges = range(FIRST, max(FIRST + 1, size), SEALED_CHUNK)
    places = st.sampled_from([*fields, *edges]) | st.integers(0, size) | st.integers(0, FIRST)
    at, other = min(draw(places), size), min(draw(places), size)
    length = draw(st.sampled_from(_SIZES))
    flipped = (raw[at : at + 1] or b"\0")[0] ^ (1 << draw(st.integers(0, 7)))
    changes = {
        "flip": raw[:at] + bytes([flipped]) + raw[at + 1 :],
        "cut": raw[:at],
        "insert": raw[:at] + draw(st.binary(max_size=64)) + raw[at:],
        "delete": raw[:at] + raw[at + length :],
        "splice": raw[:at] + raw[other : other + length] + raw[at + length :],
        "zero": raw[:at] + bytes(length) + raw[at + length :],
        "fill": raw[:at] + b"\xff" * 8 + raw[at + 8 :],
        "append": raw + (raw[other:] or b"\0"),
    }
    return changes[draw(st.sampled_from(sorted(changes)))]


@st.composite
def damaged(draw: st.DrawFn, files: dict[str, bytes]) -> tuple[str, bytes]:
    """The name of one of the files, and its bytes after one to three changes."""
    name = draw(st.sampled_from(sorted(files)))
    raw = files[name]
    for _ in range(draw(st.integers(1, 3))):
        raw = draw(_edits(raw))
    return name, raw


# --- content made up by somebody who holds the key --------------------------------------------


@dataclass(frozen=True)
class Forger:
    """Somebody who can encrypt for a key: who holds it, or just the public one.

    Attributes:
        kek: The key file's bytes.
        dek: The data key of what is forged.
    """

    kek: bytes
    dek: bytes = bytes(range(32))

    def file(
        self,
        payload: bytes,
        *,
        state: int = 1,
        seal_chunk: int = 0,
        counts: tuple[int, int] | None = None,
    ) -> bytes:
        """A part in which everything but the content is as it should be.

        Args:
            payload: The plaintext.
            state: 0, 1 or 2; without a final chunk unless 1.
            seal_chunk: Where the header says the seal is.
            counts: Chunks and bytes to claim instead of the true ones.
        """
        core = new_core(recording_id=bytes(16), part_index=0, created_unix_ms=1)
        header = Header.parse(new_header(core, self.dek, [KeyFileRecipient(self.kek)]))
        encryptor = Cobblestone256Encryptor(self.dek, core)
        stored = encryptor.update(payload)
        chunks, size = divmod(len(payload), CHUNK)[0], len(payload) // CHUNK * CHUNK
        if state == 1:
            stored += encryptor.finalize()
            chunks, size = chunks + 1, len(payload)
        chunks, size = counts or (chunks, size)
        copy = updated(
            header,
            self.dek,
            state=state,
            chunk_count=chunks,
            payload_bytes=size,
            seal_chunk=seal_chunk,
        )
        return copy + copy + stored


def box(kind: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    """A box, if need be one that lies about its size."""
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def emsg(scheme: str, message: bytes, *, time: int = 0, size: int | None = None) -> bytes:
    """An ``emsg`` box around any message."""
    head = struct.pack(">IIQII", 1 << 24, 90_000, time, 0, 0)
    return box(b"emsg", head + scheme.encode() + b"\0\0" + message, size)


def padded(unit: bytes) -> bytes:
    """A unit up to a chunk edge."""
    missing = -len(unit) % CHUNK
    if missing == 0:
        return unit
    missing += CHUNK if missing < 8 else 0
    return unit + box(b"free", bytes(missing - 8))


def payload_of(
    fragments: list[bytes], *, init: bytes | None = None, seal: bytes | None = None
) -> tuple[bytes, int]:
    """A payload of these fragments with a true index, and the chunk of its seal."""
    start = box(b"ftyp", bytes(8)) + box(b"moov") if init is None else init
    payload = padded(start + emsg(SESSION, msgpack.packb({})))
    index = []
    for fragment in fragments:
        index.append([len(payload) // CHUNK, 0, _rows_in(fragment)])
        payload += padded(fragment)
    table = {"parts": 1, "last": True, "index": index}
    message = msgpack.packb(table) if seal is None else seal
    return payload + emsg(SEAL, message), len(payload) // CHUNK


def _rows_in(fragment: bytes) -> int:
    """Rows of frames in a fragment's table, 0 if that is none."""
    message = fragment[28:].partition(b"\0\0")[2]
    unpacker = msgpack.Unpacker(strict_map_key=False, unicode_errors="replace")
    unpacker.feed(message)
    try:
        table = unpacker.unpack()
    except (ValueError, TypeError, RecursionError, msgpack.OutOfData):
        return 0
    rows = table.get("frames") if isinstance(table, dict) else None
    return len(rows) if isinstance(rows, list) else 0


_NUMBERS = st.sampled_from(
    [0, 1, -1, 2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1, 2**63, 2**64 - 1, -(2**63)]
) | st.integers(0, 50)
_VALUES = st.recursive(
    _NUMBERS
    | st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["frames", "lost", "index", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)
_CLASSES = st.sampled_from(["ring_full", "camera_gap", "encoder_lost", "paused", "unheard of"])
_FRAME_ROWS = st.lists(_NUMBERS, min_size=7, max_size=7)
_LOSS_ROWS = st.tuples(
    _CLASSES, _NUMBERS, _NUMBERS | st.none(), _NUMBERS | st.none(), _NUMBERS, _NUMBERS
)
_TABLES = st.fixed_dictionaries(
    {},
    optional={
        "frames": st.lists(_FRAME_ROWS, max_size=4) | _VALUES,
        "lost": st.lists(_LOSS_ROWS, max_size=4) | _VALUES,
        "marks": st.lists(st.tuples(_NUMBERS, st.text(), st.text()), max_size=2) | _VALUES,
        "clock": st.tuples(_NUMBERS, _NUMBERS) | _VALUES,
        "later": _VALUES,
    },
)
_BOMBS = st.sampled_from(
    [
        b"\x91" * 3000,
        b"\x81\xa1x" * 3000,
        b"\x81\xa6frames\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa4lost\xc6\xff\xff\xff\xff",
        b"\x81\xa6frames\x91\x97" + b"\xcf" + b"\xff" * 8,
    ]
)
_MESSAGES = (
    _TABLES.map(msgpack.packb) | _VALUES.map(msgpack.packb) | _BOMBS | st.binary(max_size=80)
)
_BOX_SIZES = st.none() | st.sampled_from([0, 1, 7, 8, 2**28 + 1, 2**31, 2**32 - 1])


@st.composite
def _moofs(draw: st.DrawFn) -> bytes:
    """A ``moof`` whose fields say anything, and an ``mdat``."""
    words = st.lists(_NUMBERS.map(lambda n: struct.pack(">I", n % 2**32)), max_size=12)
    run_flags = draw(st.sampled_from([0x205, 0x301, 0x701, 0xF01, 0]))
    count = draw(st.sampled_from([0, 1, 2, 2**32 - 1]))
    run = box(b"trun", struct.pack(">II", run_flags, count) + b"".join(draw(words)))
    track = box(b"tfhd", struct.pack(">II", draw(st.sampled_from([0x20000, 0x20038, 0, 1])), 1))
    decode_time = box(b"tfdt", struct.pack(">IQ", 1 << 24, draw(_NUMBERS) % 2**64))
    parts = draw(st.lists(st.sampled_from([track, decode_time, run, run]), max_size=5))
    traf = box(b"traf", b"".join(parts) or track + decode_time + run, draw(_BOX_SIZES))
    return box(b"moof", box(b"mfhd", bytes(8)) + traf) + box(b"mdat", draw(st.binary(max_size=40)))


@st.composite
def _fragments(draw: st.DrawFn) -> bytes:
    message = draw(_MESSAGES)
    unit = emsg(
        draw(st.sampled_from([FRAGMENT] * 8 + [SESSION, SEAL, "urn:other"])),
        message,
        time=draw(_NUMBERS) % 2**64,
        size=draw(st.none() | _BOX_SIZES),
    )
    if _rows_in(unit) or draw(st.booleans()):
        unit += draw(_moofs())
    return unit


@st.composite
def forged_payloads(draw: st.DrawFn, init: bytes) -> tuple[bytes, int]:
    """A payload with anything in its tables, boxes and index, and the chunk of its seal."""
    seal = draw(
        st.none()
        | _MESSAGES
        | st.fixed_dictionaries(
            {"parts": _NUMBERS, "last": st.booleans()},
            optional={
                "index": st.lists(st.tuples(_NUMBERS, _NUMBERS, _NUMBERS), max_size=3),
                "part": st.dictionaries(st.just("written"), _NUMBERS),
                "lost": st.lists(_LOSS_ROWS, max_size=2),
            },
        ).map(msgpack.packb)
    )
    fragments = draw(st.lists(_fragments(), max_size=3))
    return payload_of(fragments, init=draw(st.sampled_from([init, None])), seal=seal)
