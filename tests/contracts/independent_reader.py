"""A second reader of sealed recordings, written from FORMAT.md alone, as an outsider would.

It shares no line with the project's own reader and must never import ``engine``: what the two
agree on is the format, what they do not is a defect of one of them or of the text. It reads whole
parts into memory and explains itself; it is made for checking, not for speed.
"""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from struct import Struct, unpack_from
from typing import Any, NamedTuple

import av
import msgpack
import numpy as np
import numpy.typing as npt
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

__all__ = ["Header", "Key", "Part", "Refused", "decoded_pictures", "open_part", "read_part"]

MAGIC = bytes.fromhex("89535256 0D0A1A0A")
CORE = Struct(">8sHHI16sIHHQQII32s32s")
COUNTS = Struct(">HHIQQ32s")  # at 4040: state, reserved, seal_chunk, counts, MAC
PAYLOAD, PREAMBLE, CHUNK, SEALED_CHUNK = 8192, 56, 16384, 16400
STATES = ("open", "sealed", "recovered")
SCHEMES = {f"urn:sealrec:{name}:1": name for name in ("session", "fragment", "seal")}
CONTAINERS = {"moov", "trak", "edts", "mdia", "minf", "stbl", "mvex", "moof", "traf"}


class Refused(Exception):
    """The file must not be read; ``args[0]`` is Corrupt or WrongKey, ``args[1]`` says where."""


class Key(NamedTuple):
    """What opens a slot: kind 1 a password in UTF-8, 2 a key file's bytes, 3 an X25519 key."""

    kind: int
    material: bytes

    def key_id(self) -> bytes | None:
        """The id that a slot of this key carries; None for a password."""
        if self.kind == 1:
            return None
        if self.kind == 2:
            return hashlib.sha256(b"SRV1 key id\0" + self.material).digest()[:16]
        public = X25519PrivateKey.from_private_bytes(self.material).public_key()
        return hashlib.sha256(public.public_bytes_raw()).digest()[:16]


class Header(NamedTuple):
    """One header copy."""

    core: bytes
    generation: int
    slots: tuple[bytes, ...]
    state: str
    seal_chunk: int
    chunk_count: int
    payload_bytes: int
    signed: bytes
    mac: bytes

    @property
    def recording_id(self) -> bytes:
        """Of the core; so are the next two."""
        return self.core[16:32]

    @property
    def part_index(self) -> int:
        """Which part of the recording this says it is."""
        return int.from_bytes(self.core[32:36], "big")

    @property
    def previous_part(self) -> bytes:
        """Key commitment of the part before."""
        return self.core[64:96]

    def said(self) -> tuple[Any, ...]:
        """What both copies of a closed part agree on: all but generation and MAC."""
        return (self.core, *self[2:7])


class Box(NamedTuple):
    """An MP4 box: where it starts and ends in the plaintext, and what is inside."""

    kind: str
    start: int
    end: int
    body: bytes


class Row(NamedTuple):
    """One frame's row of a fragment table."""

    seq: int
    epoch: int
    frame_id: int
    camera_ns: int
    host_ns: int
    pts: int
    flags: int

    def identity(self) -> tuple[int, ...]:
        """What two rows of one frame have in common."""
        return self[:6]


class Sample(NamedTuple):
    """One sample as the moof describes it; times in the track's timescale."""

    time: int
    duration: int
    size: int
    sync: bool


class Event(NamedTuple):
    """An ``emsg`` box with its table."""

    scheme: str
    timescale: int
    time: int
    duration: int
    number: int
    table: dict[str, Any]
    box: Box

    def numbers(self) -> tuple[int, int, int, int]:
        """Timescale, presentation_time, event_duration, id."""
        return self[1:5]


@dataclass
class Fragment:
    """A fragment's table and the samples that its moof describes."""

    event: Event
    rows: list[Row]
    moof: Box | None = None
    samples: tuple[Sample, ...] = ()


@dataclass
class Part:
    """One part, opened: its headers, plaintext and everything in it."""

    headers: tuple[Header | None, Header | None]  # a copy whose MAC does not hold is None
    header: Header
    dek: bytes
    state: str  # sealed, recovered or incomplete
    commitment: bytes
    plaintext: bytes
    boxes: list[Box]
    fragments: list[Fragment]
    session: Event | None = None
    seal: Event | None = None
    timescale: int = 0

    def rows(self) -> list[Row]:
        """The rows of all frames in this part."""
        return [row for fragment in self.fragments for row in fragment.rows]

    def end_pts(self) -> int:
        """Where the part's last fragment ends on the timeline."""
        return max((f.event.time + f.event.duration for f in self.fragments), default=0)

    def lost(self) -> list[list[Any]]:
        """The rows of frames that this part says are lost, the seal's pending ones included."""
        tables = [fragment.event.table for fragment in self.fragments]
        tables += [self.seal.table] if self.seal else []
        return [row for table in tables for row in table.get("lost", [])]


def read_part(data: bytes, key: Key) -> Part:
    """Open one part (its file's bytes) and find everything in it."""
    part = open_part(data, key)
    _walk(part)
    return part


def open_part(data: bytes, key: Key) -> Part:
    """Open one part with a key, by the rules of reading, in their order; no box is looked at."""
    copies = [_parse_header(data[at : at + 4096]) for at in (0, 4096)]
    dek = _open_any_slot([copy for copy in copies if copy], key)
    valid = tuple(copy if copy and _mac_holds(copy, dek) else None for copy in copies)
    header = max(filter(None, valid), key=lambda copy: copy.generation, default=None)
    if header is None:
        raise Refused("Corrupt", "no header MAC holds")
    if _open_any_slot([header], key) != dek:
        raise Refused("Corrupt", "the slots hold different keys")
    state, plaintext = _read_payload(data, header, dek)
    commitment = data[PAYLOAD + 24 : PAYLOAD + PREAMBLE]
    return Part((valid[0], valid[1]), header, dek, state, commitment, plaintext, [], [])


def _parse_header(raw: bytes) -> Header | None:
    """One header copy; None if it is not well formed (FORMAT.md, "Header writes")."""
    if len(raw) != 4096:
        return None
    (
        magic,
        version,
        size,
        flags,
        _,
        part,
        suite,
        media,
        _,
        offset,
        chunk,
        reserved,
        previous,
        rest,
    ) = CORE.unpack_from(raw)
    generation, slot_count, slot_size = unpack_from(">IHH", raw, 128)
    state, zero, seal_chunk, chunk_count, payload_bytes, mac = COUNTS.unpack_from(raw, 4040)
    slots_end = 136 + 192 * slot_count
    fixed = (magic, version, size, flags, suite, media, offset, chunk, reserved, rest, slot_size)
    if (*fixed, zero) != (MAGIC, 1, 4096, 0, 1, 1, PAYLOAD, CHUNK, 0, bytes(32), 192, 0):
        return None
    if not 1 <= slot_count <= 16 or state >= len(STATES) or any(raw[slots_end:4040]):
        return None
    slots = tuple(raw[at : at + 192] for at in range(136, slots_end, 192))
    if not all(map(_slot_is_well_formed, slots)) or (part == 0 and any(previous)):
        return None
    counts = (STATES[state], seal_chunk, chunk_count, payload_bytes)
    return Header(raw[:128], generation, slots, *counts, raw[:4064], mac)


def _slot_is_well_formed(slot: bytes) -> bool:
    kind, wrap, flags, iterations = unpack_from(">BBHI", slot)
    if kind not in (1, 2, 3) or (wrap, flags) != (1, 0):
        return False
    if kind == 1 and not 100_000 <= iterations <= 10_000_000:
        return False
    if (kind == 2 and any(slot[24:56])) or (kind == 3 and any(slot[56:68])):
        return False
    label = slot[116:].rstrip(b"\0")
    try:
        return "\0" not in label.decode()
    except UnicodeDecodeError:
        return False


def _open_any_slot(copies: Sequence[Header], key: Key) -> bytes:
    if not copies:
        raise Refused("Corrupt", "no well-formed header")
    derived: dict[tuple[bytes, int], bytes] = {}
    for copy in copies:
        for slot in copy.slots:
            dek = _open_slot(copy.core, slot, key, derived)
            if dek is not None:
                return dek
    if key.kind != 1 and any(slot[8:24] == key.key_id() for c in copies for slot in c.slots):
        raise Refused("Corrupt", "a slot of this key does not open")
    raise Refused("WrongKey", "no slot opens")


def _open_slot(
    core: bytes, slot: bytes, key: Key, derived: dict[tuple[bytes, int], bytes]
) -> bytes | None:
    kind, _, _, iterations = unpack_from(">BBHI", slot)
    salt, iv, wrapped, label = slot[24:56], slot[56:68], slot[68:116], slot[116:192]
    if kind != key.kind:
        return None
    try:
        if kind == 3:
            suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
            private = X25519PrivateKey.from_private_bytes(key.material)
            info = b"SRV1 hpke\0" + core + slot[:24] + label
            return suite.decrypt(salt + wrapped, private, info=info)
        kek = key.material if kind == 2 else _derive(key, salt, iterations, derived)
        if kek is None:
            return None
        wrap_key = _expand(kek, b"SRV1 wrap\0" + core[16:36], 32)
        return AESGCM(wrap_key).decrypt(iv, wrapped, b"SRV1 slot\0" + core + slot[:56] + label)
    except InvalidTag:
        return None


def _derive(
    key: Key, salt: bytes, iterations: int, derived: dict[tuple[bytes, int], bytes]
) -> bytes | None:
    if (salt, iterations) not in derived:
        if sum(spent for _, spent in derived) + iterations > 32_000_000:
            return None
        password = unicodedata.normalize("NFKC", key.material.decode()).encode()
        kek = hashlib.pbkdf2_hmac("sha256", password, salt, iterations, 32)
        derived[salt, iterations] = kek
    return derived[salt, iterations]


def _expand(key: bytes, info: bytes, size: int) -> bytes:
    return HKDFExpand(hashes.SHA512(), size, info).derive(key)


def _mac_holds(header: Header, dek: bytes) -> bool:
    expected = hmac.digest(_expand(dek, b"SRV1 header mac", 32), header.signed, "sha256")
    return hmac.compare_digest(expected, header.mac)


def _read_payload(data: bytes, header: Header, dek: bytes) -> tuple[str, bytes]:
    payload, promised = data[PAYLOAD:], header.chunk_count
    chunks, whole = _open_chunks(payload, header, dek)
    if len(chunks) < promised:
        raise Refused("Corrupt", f"chunk {len(chunks)} of {promised} is bad or missing")
    plaintext = b"".join(chunks)
    if header.state == "open":
        if header.payload_bytes > len(plaintext):
            raise Refused("Corrupt", "fewer bytes than the header counts")
        return "incomplete", plaintext
    if not whole or len(chunks) != promised or len(plaintext) != header.payload_bytes:
        raise Refused("Corrupt", "the payload is not as long as the header says")
    ends = bool(chunks) and len(chunks[-1]) < CHUNK
    if ends != (header.state == "sealed"):
        raise Refused("Corrupt", "a final chunk is missing, or there is one too many")
    decryptor = Cobblestone256Decryptor(dek, header.core)
    streamed = decryptor.update(payload)
    streamed += decryptor.finalize() if ends else b""
    if streamed != plaintext:
        raise Refused("Corrupt", "the stream and random access read different bytes")
    return header.state, plaintext


def _open_chunks(payload: bytes, header: Header, dek: bytes) -> tuple[list[bytes], bool]:
    """The chunks up to the first bad one by random access, and whether that was the file's end."""
    preamble = payload[:PREAMBLE]
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + preamble[:24] + header.core
    okm = _expand(dek, info, 76)
    if len(preamble) < PREAMBLE:
        return [], False
    if okm[44:] != preamble[24:]:
        raise Refused("Corrupt", "the preamble commits to something else")
    cipher, base = AESGCM(okm[:32]), int.from_bytes(okm[32:44], "big")
    chunks: list[bytes] = []
    for at in range(PREAMBLE, len(payload), SEALED_CHUNK):
        nonce = (base ^ len(chunks)).to_bytes(12, "big")
        try:
            chunks.append(cipher.decrypt(nonce, payload[at : at + SEALED_CHUNK], None))
        except (InvalidTag, ValueError):
            return chunks, False
    return chunks, True


def _boxes_in(data: bytes) -> Iterator[Box]:
    at = 0
    while at < len(data):
        size, kind, head = *unpack_from(">I4s", data, at), 8
        if size == 1:
            size, head = unpack_from(">Q", data, at + 8)[0], 16
        if size < head or at + size > len(data):
            raise Refused("Corrupt", f"box {kind!r} at {at} has {size} bytes")
        yield Box(kind.decode("latin-1"), at, at + size, data[at + head : at + size])
        at += size


def find(body: bytes, *path: str) -> Box:
    """The first box at a path of kinds."""
    for box in _boxes_in(body):
        if box.kind == path[0]:
            return box if len(path) == 1 else find(box.body, *path[1:])
    raise Refused("Corrupt", f"no {path[0]} box")


def kinds_within(data: bytes) -> Iterator[str]:
    """The kinds of all boxes in ``data``, nested ones of the usual containers included."""
    for box in _boxes_in(data):
        yield box.kind
        if box.kind in CONTAINERS:
            yield from kinds_within(box.body)


def _walk(part: Part) -> None:
    """Fill in a part's boxes, session, fragments and seal; an incomplete tail is left out."""
    try:
        for box in _boxes_in(part.plaintext):
            part.boxes.append(box)
    except Exception:
        if part.state != "incomplete":
            raise
    for box in part.boxes:
        if box.kind == "emsg":
            event = _event(box)
            if SCHEMES.get(event.scheme) == "session":
                part.session = event
            elif SCHEMES.get(event.scheme) == "seal":
                part.seal = event
            elif SCHEMES.get(event.scheme) == "fragment":
                rows = [Row(*row) for row in event.table.get("frames", [])]
                part.fragments.append(Fragment(event, rows))
        elif box.kind == "moov":
            mdhd = find(box.body, "trak", "mdia", "mdhd").body
            part.timescale = unpack_from(">I", mdhd, 20 if mdhd[0] else 12)[0]
        elif box.kind == "moof":
            part.fragments[-1].moof = box
            part.fragments[-1].samples = tuple(_samples(box.body))


def _event(box: Box) -> Event:
    if box.body[:4] != b"\1\0\0\0":
        raise Refused("Corrupt", "an emsg that is not version 1")
    timescale, time, duration, number = unpack_from(">IQII", box.body, 4)
    scheme, _, message = box.body[24:].split(b"\0", 2)
    table = msgpack.unpackb(message, strict_map_key=False)
    return Event(scheme.decode(), timescale, time, duration, number, table, box)


def _samples(moof: bytes) -> Iterator[Sample]:
    traf = find(moof, "traf").body
    tfhd, tfdt, trun = (find(traf, kind).body for kind in ("tfhd", "tfdt", "trun"))
    time = unpack_from(">Q" if tfdt[0] else ">I", tfdt, 4)[0]
    tfhd_flags = int.from_bytes(tfhd[1:4], "big")
    at, default = 8, {}
    for bit, width in ((0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4), (0x20, 4)):
        if tfhd_flags & bit:
            default[bit], at = int.from_bytes(tfhd[at : at + width], "big"), at + width
    flags, count, at = int.from_bytes(trun[1:4], "big"), unpack_from(">I", trun, 4)[0], 8
    at += 4 if flags & 0x1 else 0
    first_flags = unpack_from(">I", trun, at)[0] if flags & 0x4 else None
    at += 4 if flags & 0x4 else 0
    for index in range(count):
        values = {0x100: default.get(0x8, 0), 0x200: default.get(0x10, 0)}
        values[0x400] = default.get(0x20, 0)
        if index == 0 and first_flags is not None:
            values[0x400] = first_flags
        for bit in (0x100, 0x200, 0x400, 0x800):
            if flags & bit:
                values[bit], at = unpack_from(">I", trun, at)[0], at + 4
        if values.get(0x800):
            raise Refused("Corrupt", "a composition offset: a codec held frames back")
        yield Sample(time, values[0x100], values[0x200], not values[0x400] & 0x10000)
        time += values[0x100]


def decoded_pictures(part: Part) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Decode a part: for each picture its time in 90 kHz and its luma, (height, width) uint8."""
    with av.open(BytesIO(part.plaintext), "r", format="mp4") as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            luma = np.frombuffer(bytes(frame.planes[0]), np.uint8)
            luma = luma.reshape(frame.height, frame.planes[0].line_size)[:, : frame.width]
            yield round(frame.pts * frame.time_base * 90_000), luma
