"""Encrypting the payload, putting it on disk, and the cost of a key.

The limits beside it: the cipher alone, called once a chunk without the format around it, and a
plain write and sync of as many bytes.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from functools import partial

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.parts.rounds import Contest, interleave, rate_mb_s
from engine.container.core import CORE_BYTES
from engine.container.payload import CHUNK, PayloadOpener, PayloadWriter
from engine.container.recipients import derive_kek
from engine.keys import ITERATIONS_WRITTEN

__all__ = ["measure"]

BLOCK_BYTES = 64 * CHUNK
SALT = bytes(32)
PASSWORD = "correct horse battery staple"


def measure(megabytes: int, rounds: int) -> list[Contest]:
    """Sealing in MB/s, the key of a password and that of a payload in milliseconds."""
    key, blocks = os.urandom(32), max(1, megabytes * 1_000_000 // BLOCK_BYTES)
    seal = {
        "sealrec": partial(_seal, key, blocks),
        "AES-256-GCM alone": partial(_cipher, key, blocks),
    }
    words = PASSWORD.encode()
    password = {
        "sealrec": partial(derive_kek, PASSWORD, SALT, ITERATIONS_WRITTEN),
        "hashlib": partial(hashlib.pbkdf2_hmac, "sha256", words, SALT, ITERATIONS_WRITTEN),
    }
    core = os.urandom(CORE_BYTES)
    preamble = PayloadWriter(key, core).preamble
    payload = {"sealrec": partial(PayloadOpener, key, core, preamble)}
    iterations = f"password, {ITERATIONS_WRITTEN:,} iterations"
    return [
        Contest("seal", "encrypt in chunks", "MB/s", interleave(seal, rounds)),
        Contest("key", iterations, "ms", interleave(_timed(password), rounds)),
        Contest("key", "payload key", "ms", interleave(_timed(payload), rounds)),
    ]


def _seal(key: bytes, blocks: int) -> float:
    writer, data = PayloadWriter(key, bytes(CORE_BYTES)), os.urandom(BLOCK_BYTES)
    began = time.perf_counter()
    for _ in range(blocks):
        writer.update(data)
    return rate_mb_s(blocks * BLOCK_BYTES, time.perf_counter() - began)


def _cipher(key: bytes, blocks: int) -> float:
    cipher, view = AESGCM(key), memoryview(os.urandom(BLOCK_BYTES))
    chunks = [view[at : at + CHUNK] for at in range(0, BLOCK_BYTES, CHUNK)]
    began = time.perf_counter()
    for block in range(blocks):
        for place, chunk in enumerate(chunks):
            cipher.encrypt((block * len(chunks) + place).to_bytes(12, "big"), chunk, None)
    return rate_mb_s(blocks * BLOCK_BYTES, time.perf_counter() - began)


def _timed(works: Mapping[str, Callable[[], object]]) -> dict[str, Callable[[], float]]:
    """The same contenders, measured in milliseconds."""

    def time_ms(work: Callable[[], object]) -> float:
        began = time.perf_counter()
        work()
        return 1e3 * (time.perf_counter() - began)

    return {name: partial(time_ms, work) for name, work in works.items()}
