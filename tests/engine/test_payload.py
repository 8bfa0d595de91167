"""The payload: the sequential writer, random-access opening, and outside vectors for both."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest
from cryptography.cobblestone import Cobblestone256Decryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.container.core import new_core
from engine.container.payload import (
    CHUNK,
    PREAMBLE,
    STORED_CHUNK,
    PayloadOpener,
    PayloadWriter,
    chunks_in_file,
    commitment_of,
    offset_of_chunk,
)
from ipc.errors import ConfigError, Corrupt, WrongState

VECTORS = Path(cryptography_vectors.__file__).parent
DEK = bytes(range(32))
CORE = new_core(recording_id=b"r" * 16, part_index=0, created_unix_ms=1)
EDGES = [k * CHUNK + d for k in (0, 1, 2, 3) for d in (-1, 0, 1) if k * CHUNK + d >= 0]


def seal(plaintext: bytes, dek: bytes = DEK, core: bytes = CORE) -> tuple[bytes, bytes]:
    """(preamble, chunks) of a whole payload."""
    writer = PayloadWriter(dek, core)
    return writer.preamble, writer.update(plaintext) + writer.finalize()


def stored_chunks(chunks: bytes) -> list[bytes]:
    """The stored chunks; the last one is the short one."""
    full, rest = divmod(len(chunks), STORED_CHUNK)
    assert rest > 0
    return [chunks[k * STORED_CHUNK : (k + 1) * STORED_CHUNK] for k in range(full + 1)]


def open_all(opener: PayloadOpener, chunks: bytes) -> bytes:
    stored = stored_chunks(chunks)
    last = len(stored) - 1
    return b"".join(opener.open_chunk(k, c, final=k == last) for k, c in enumerate(stored))


# Round trips


@pytest.mark.parametrize("size_bytes", EDGES)
def test_every_length_around_a_chunk_edge_comes_back(size_bytes: int) -> None:
    """Lengths k*16384 - 1, 0, + 1 open chunk by chunk and with the library's own decryptor."""
    plaintext = os.urandom(size_bytes)
    preamble, chunks = seal(plaintext)
    assert open_all(PayloadOpener(DEK, CORE, preamble), chunks) == plaintext
    decryptor = Cobblestone256Decryptor(DEK, CORE)
    assert decryptor.update(preamble + chunks) + decryptor.finalize() == plaintext
    full, rest = divmod(size_bytes, CHUNK)
    assert len(chunks) == full * STORED_CHUNK + rest + 16


@settings(deadline=None, max_examples=60)
@given(
    pieces=st.lists(
        st.one_of(
            st.integers(0, 100),
            st.integers(0, 3 * CHUNK),
            st.sampled_from([CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK]),
        ),
        max_size=6,
    )
)
@example(pieces=[])
@example(pieces=[0, 0])
@example(pieces=[1, CHUNK - 1, CHUNK])
def test_a_full_chunk_comes_out_the_moment_it_is_full(pieces: list[int]) -> None:
    """Whatever the sizes of the updates, no full chunk is held back and the counts are exact."""
    writer, taken, given_out, stored = PayloadWriter(DEK, CORE), 0, 0, b""
    plaintext = bytes(i % 251 for i in range(sum(pieces)))
    for size_bytes in pieces:
        out = writer.update(plaintext[taken : taken + size_bytes])
        taken, stored = taken + size_bytes, stored + out
        given_out += len(out)
        assert given_out == taken // CHUNK * STORED_CHUNK
        assert writer.chunk_count == taken // CHUNK
        assert writer.payload_bytes == taken // CHUNK * CHUNK
        assert writer.pending_bytes == taken % CHUNK
        assert writer.accepted_bytes == taken
    stored += writer.finalize()
    assert writer.chunk_count == taken // CHUNK + 1
    assert writer.payload_bytes == writer.accepted_bytes == taken
    assert open_all(PayloadOpener(DEK, CORE, writer.preamble), stored) == plaintext


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(5)), size_bytes=st.integers(4 * CHUNK, 5 * CHUNK - 1))
def test_chunks_open_in_any_order(order: list[int], size_bytes: int) -> None:
    """Each chunk opens by itself, whatever was opened before."""
    plaintext = bytes(i % 253 for i in range(size_bytes))
    preamble, chunks = seal(plaintext)
    opener, stored = PayloadOpener(DEK, CORE, preamble), stored_chunks(chunks)
    for k in order:
        opened = opener.open_chunk(k, stored[k], final=k == 4)
        assert opened == plaintext[k * CHUNK : (k + 1) * CHUNK]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_written(kind: type) -> None:
    """bytes, bytearray and memoryview are taken alike, also a view of wider items."""
    writer = PayloadWriter(DEK, CORE)
    stored = writer.update(kind(b"ab" * 10_000))
    wide = memoryview(bytearray(2 * CHUNK)).cast("I")
    stored += writer.update(wide)
    assert writer.accepted_bytes == 20_000 + 2 * CHUNK
    preamble = writer.preamble
    opened = open_all(PayloadOpener(DEK, CORE, preamble), stored + writer.finalize())
    assert opened == b"ab" * 10_000 + bytes(2 * CHUNK)


def test_two_payloads_of_the_same_bytes_share_nothing() -> None:
    """Every payload has its own salt, so no key and nonce is ever used twice."""
    (preamble, chunks), (other_preamble, other_chunks) = seal(b"x" * CHUNK), seal(b"x" * CHUNK)
    assert preamble != other_preamble
    assert chunks[:64] != other_chunks[:64]


def test_the_commitment_follows_the_salt() -> None:
    """The preamble is salt(24) and commitment(32); the writer names the latter."""
    writer = PayloadWriter(DEK, CORE)
    assert len(writer.preamble) == PREAMBLE
    assert writer.commitment == writer.preamble[24:] == commitment_of(writer.preamble)


# Limits of the writer


def test_a_finalized_payload_takes_no_more() -> None:
    """Neither bytes nor a second final chunk come after the final one."""
    writer = PayloadWriter(DEK, CORE)
    writer.finalize()
    with pytest.raises(WrongState):
        writer.update(b"")
    with pytest.raises(WrongState):
        writer.finalize()


def test_a_part_never_exceeds_its_chunks() -> None:
    """The last allowed chunk is the short one: what would fill it is refused and not taken."""
    writer = PayloadWriter(DEK, CORE, max_chunks=3)
    stored = writer.update(bytes(3 * CHUNK - 1))
    with pytest.raises(WrongState):
        writer.update(b"x")
    assert writer.accepted_bytes == 3 * CHUNK - 1
    stored += writer.finalize()
    assert writer.chunk_count == 3
    plaintext = open_all(PayloadOpener(DEK, CORE, writer.preamble), stored)
    assert plaintext == bytes(3 * CHUNK - 1)


# What is refused


@pytest.fixture(scope="module")
def payload() -> tuple[PayloadOpener, list[bytes]]:
    """An opener and the stored chunks of three full ones and a final one."""
    preamble, chunks = seal(os.urandom(3 * CHUNK + 500))
    return PayloadOpener(DEK, CORE, preamble), stored_chunks(chunks)


@pytest.mark.parametrize("k", [0, 1, 2, 3])
@pytest.mark.parametrize("at", [0, 1, 255, -17, -16, -1])
def test_a_changed_chunk_is_refused_with_its_place(
    k: int, at: int, payload: tuple[PayloadOpener, list[bytes]]
) -> None:
    """A flipped bit of ciphertext or tag is Corrupt, and the message names chunk and offset."""
    opener, stored = payload
    changed = bytearray(stored[k])
    changed[at] ^= 0x80
    with pytest.raises(Corrupt, match=rf"Chunk {k} \(file offset {8248 + k * 16400}\)"):
        opener.open_chunk(k, bytes(changed), final=k == 3)


def test_a_chunk_opens_at_its_own_place_only(payload: tuple[PayloadOpener, list[bytes]]) -> None:
    """Swapped, duplicated and moved chunks are refused everywhere but where they belong."""
    opener, stored = payload
    for k in range(4):
        for place in (*range(5), 256 + k, 2**32 - 1):
            if place != k:
                with pytest.raises(Corrupt):
                    opener.open_chunk(place, stored[k], final=k == 3)


@pytest.mark.parametrize("place", [-1, 2**32, 2**96])
def test_a_place_beyond_the_format_is_refused(
    place: int, payload: tuple[PayloadOpener, list[bytes]]
) -> None:
    """Indices outside 0..2^32-1 are refused, not wrapped."""
    opener, stored = payload
    with pytest.raises(Corrupt):
        opener.open_chunk(place, stored[0], final=False)


@pytest.mark.parametrize("size_bytes", [0, 1, 15, 16, STORED_CHUNK - 1, STORED_CHUNK + 1])
def test_a_full_chunk_has_its_full_size(
    size_bytes: int, payload: tuple[PayloadOpener, list[bytes]]
) -> None:
    """A chunk that is cut or too long is refused where a full one must stand."""
    opener, stored = payload
    with pytest.raises(Corrupt):
        opener.open_chunk(0, (stored[0] + b"\0")[:size_bytes], final=False)


@pytest.mark.parametrize("size_bytes", [0, 15, STORED_CHUNK, STORED_CHUNK + 16])
def test_a_final_chunk_is_short(
    size_bytes: int, payload: tuple[PayloadOpener, list[bytes]]
) -> None:
    """A full chunk never passes for the end, so a payload cut at an edge has no end."""
    opener, stored = payload
    with pytest.raises(Corrupt):
        opener.open_chunk(0, (stored[0] + bytes(16))[:size_bytes], final=True)


@pytest.mark.parametrize("at", range(0, PREAMBLE, 5))
def test_a_changed_salt_or_commitment_is_refused(at: int) -> None:
    """One bit of the preamble is enough."""
    preamble = bytearray(PayloadWriter(DEK, CORE).preamble)
    preamble[at] ^= 1
    with pytest.raises(Corrupt):
        PayloadOpener(DEK, CORE, bytes(preamble))


def test_a_preamble_belongs_to_one_key_and_one_part() -> None:
    """Another data key, another core or a cut preamble does not open."""
    preamble = PayloadWriter(DEK, CORE).preamble
    other_part = new_core(
        recording_id=b"r" * 16, part_index=1, created_unix_ms=1, previous_part=b"\x01" * 32
    )
    for dek, core, given_preamble in (
        (b"\x01" * 32, CORE, preamble),
        (DEK, other_part, preamble),
        (DEK, CORE, preamble[:-1]),
        (DEK, CORE, b""),
    ):
        with pytest.raises(Corrupt):
            PayloadOpener(dek, core, given_preamble)
    with pytest.raises(ConfigError):
        PayloadOpener(DEK[:16], CORE, preamble)


# Arithmetic


def test_chunk_k_stands_where_the_format_says() -> None:
    """Chunk k is at 8192 + 56 + k*16400, also beyond 4 GiB."""
    assert [offset_of_chunk(k) for k in (0, 1, 2)] == [8248, 24648, 41048]
    assert offset_of_chunk(2**32 - 1) == 8248 + (2**32 - 1) * 16400


@settings(deadline=None)
@given(chunks=st.integers(0, 2**32), rest=st.integers(0, STORED_CHUNK - 1))
def test_a_file_size_splits_into_chunks(chunks: int, rest: int) -> None:
    """chunks_in_file is the inverse of offset_of_chunk."""
    assert chunks_in_file(offset_of_chunk(chunks) + rest) == (chunks, rest)


@pytest.mark.parametrize("size_bytes", [0, 4096, 8192, 8247, 8248])
def test_a_file_without_chunks_has_none(size_bytes: int) -> None:
    """A file that ends in headers or preamble holds no chunk and no rest."""
    assert chunks_in_file(size_bytes) == (0, 0)


# Outside vectors


def chunked_vectors() -> list[Any]:
    """The AES-256-GCM part of the chunked-encryption vectors: our cipher, with SHA-256."""
    text = (VECTORS / "chunked-encryption" / "vectors.json").read_text(encoding="ascii")
    chosen = [v for v in json.loads(text)["vectors"] if v["aead"] == "AEAD_AES_256_GCM"]
    assert len(chosen) == 34
    return [pytest.param(v, id=v["name"]) for v in chosen]


@pytest.mark.parametrize("vector", chunked_vectors())
def test_chunked_encryption_vectors(vector: dict[str, Any]) -> None:
    """C2SP's own vectors open, or are refused, as they say."""
    message = base64.b64decode(vector["ciphertext"] or "")
    if vector.get("compressed"):
        message = zlib.decompress(message)
    preamble, chunks = message[:PREAMBLE], message[PREAMBLE:]
    key, context = bytes.fromhex(vector["key"]), vector["context"].encode()

    def opened() -> bytes:
        opener = PayloadOpener(key, context, preamble, hashes.SHA256())
        if len(chunks) % STORED_CHUNK == 0:
            raise Corrupt("no final chunk")
        return open_all(opener, chunks)

    if vector["expect"] == "success":
        plaintext = opened()
        assert len(plaintext) == vector["payload_length"]
        assert hashlib.sha256(plaintext).hexdigest() == vector["payload_sha256"]
    else:
        with pytest.raises((Corrupt, ConfigError)):
            opened()


def blocks_of(path: Path, separator: str) -> Iterator[dict[str, str]]:
    """``name = value`` blocks of a NIST or RFC vector file, each from a line with ``separator``."""
    block: dict[str, str] = {}
    for line in path.read_text(encoding="ascii").splitlines():
        name, equals, value = line.partition("=")
        if name.strip() == separator and block:
            yield block
            block = {}
        if line.strip() == "FAIL":
            block["FAIL"] = ""
        elif equals and not line.startswith(("[", "#")):
            block[name.strip()] = value.strip()
    yield block


def test_rfc_5869_expansion() -> None:
    """HKDF-Expand as used for every derived key gives RFC 5869's output keying material."""
    path = VECTORS / "KDF" / "rfc-5869-HKDF-SHA256.txt"
    blocks = [b for b in blocks_of(path, "COUNT") if "OKM" in b]
    assert len(blocks) == 3
    for block in blocks:
        info, size_bytes = bytes.fromhex(block.get("info", "")), int(block["L"])
        expand = HKDFExpand(hashes.SHA256(), size_bytes, info)
        assert expand.derive(bytes.fromhex(block["PRK"])).hex() == block["OKM"]


def test_cavp_gcm_samples() -> None:
    """NIST's AES-256-GCM decryptions with our nonce and tag sizes succeed or fail as they say."""
    path = VECTORS / "ciphers" / "AES" / "GCM" / "gcmDecrypt256.rsp"
    outcomes = {True: 0, False: 0}
    for block in blocks_of(path, "Count"):
        nonce, tag = bytes.fromhex(block["IV"]), bytes.fromhex(block["Tag"])
        if (len(nonce), len(tag)) != (12, 16):
            continue
        stored, aad = bytes.fromhex(block["CT"]) + tag, bytes.fromhex(block["AAD"])
        aead = AESGCM(bytes.fromhex(block["Key"]))
        outcomes["FAIL" in block] += 1
        if "FAIL" in block:
            with pytest.raises(InvalidTag):
                aead.decrypt(nonce, stored, aad)
        else:
            assert aead.decrypt(nonce, stored, aad) == bytes.fromhex(block["PT"])
    assert min(outcomes.values()) > 100
