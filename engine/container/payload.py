"""The encrypted payload: chunk arithmetic, the sequential writer, random-access opening.

The writer is the library's Cobblestone-256 encryptor; opening one chunk anywhere is ours, from the
same key schedule. Where the bytes go on disk is ``writer`` and ``reader``. FORMAT.md, "Why this
payload", and C2SP chunked-encryption, https://c2sp.org/chunked-encryption.
"""

from __future__ import annotations

import hmac
from typing import Final

from cryptography.cobblestone import Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from ipc.errors import ConfigError, Corrupt, WrongState

__all__ = [
    "CHUNK",
    "MAX_CHUNKS",
    "PAYLOAD_OFFSET",
    "PREAMBLE",
    "STORED_CHUNK",
    "TAG",
    "PayloadOpener",
    "PayloadWriter",
    "chunks_in_file",
    "commitment_of",
    "offset_of_chunk",
]

CHUNK: Final = 16_384
"""Plaintext bytes of a full chunk."""
TAG: Final = 16
STORED_CHUNK: Final = CHUNK + TAG
"""Bytes of a full chunk on disk."""
PREAMBLE: Final = 56
"""Salt (24) and key commitment (32), before chunk 0."""
PAYLOAD_OFFSET: Final = 8_192
MAX_CHUNKS: Final = 2**32
"""Chunks of one part, the final short one included."""

_SALT: Final = 24
_NONCE: Final = 12
_CONTEXT: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


def offset_of_chunk(k: int) -> int:
    """Where chunk ``k`` (from 0) starts in the file, in bytes."""
    return PAYLOAD_OFFSET + PREAMBLE + k * STORED_CHUNK


def chunks_in_file(size_bytes: int) -> tuple[int, int]:
    """Split a file's size.

    Args:
        size_bytes: Size of the whole part file.

    Returns:
        (number of full chunks that fit, bytes behind them). In a sealed part the second number is
        the size of the final chunk, 16..16399; both are 0 for a file that ends before chunk 0.
    """
    payload = size_bytes - offset_of_chunk(0)
    return divmod(payload, STORED_CHUNK) if payload > 0 else (0, 0)


def commitment_of(preamble: bytes) -> bytes:
    """The 32-byte key commitment within a payload's 56-byte preamble."""
    return preamble[_SALT:PREAMBLE]


class PayloadWriter:
    """Encrypts one payload from front to end; a full chunk comes out the moment it is full.

    Not thread-safe. What was encrypted is never encrypted again: after a write error the caller
    keeps the bytes it was given here and writes those (FORMAT.md, rule 6).

    Args:
        dek: The recording's data key, 32 bytes.
        core: The 128 bytes of the part's core.
        max_chunks: At most this many chunks, the final one included.

    Attributes:
        preamble: 56 bytes, to be written before any chunk.
        commitment: 32 bytes: what the next part's core names as ``previous_part``.
    """

    def __init__(self, dek: bytes, core: bytes, *, max_chunks: int = MAX_CHUNKS) -> None:
        self._encryptor = Cobblestone256Encryptor(dek, core)
        self._max_chunks = max_chunks
        self._accepted_bytes = 0
        self._finalized = False
        self.preamble: bytes = self._encryptor.update(b"")
        self.commitment: bytes = commitment_of(self.preamble)

    @property
    def chunk_count(self) -> int:
        """Chunks given out: the full ones, and the final one once finalized."""
        return self._accepted_bytes // CHUNK + self._finalized

    @property
    def payload_bytes(self) -> int:
        """Plaintext bytes within the chunks given out."""
        return self._accepted_bytes - (0 if self._finalized else self.pending_bytes)

    @property
    def pending_bytes(self) -> int:
        """Plaintext bytes held back for a chunk that is not full yet, 0..16383."""
        return self._accepted_bytes % CHUNK

    @property
    def accepted_bytes(self) -> int:
        """Plaintext bytes taken so far: the plaintext offset of the next byte."""
        return self._accepted_bytes

    def update(self, data: bytes | bytearray | memoryview) -> bytes:
        """Encrypt more bytes.

        Args:
            data: Any number of bytes, also none.

        Returns:
            The stored form of every chunk that these bytes filled: a multiple of 16,400 bytes.

        Raises:
            WrongState: the payload is finalized, or would exceed 2^32 chunks. Nothing was taken.
        """
        self._check_open()
        view = memoryview(data).cast("B")
        if (self._accepted_bytes + len(view)) // CHUNK >= self._max_chunks:
            raise WrongState(
                f"A part holds at most {self._max_chunks} chunks.", hint="Begin a new part."
            )
        stored = self._encryptor.update(view)
        self._accepted_bytes += len(view)
        return stored

    def finalize(self) -> bytes:
        """Encrypt what is pending as the final chunk, 16..16399 stored bytes.

        Raises:
            WrongState: the payload is finalized already.
        """
        self._check_open()
        self._finalized = True
        return self._encryptor.finalize()

    def _check_open(self) -> None:
        if self._finalized:
            raise WrongState("The payload has its final chunk already.")


class PayloadOpener:
    """Opens single chunks of one payload, in any order. Safe to share between threads.

    Args:
        dek: The recording's data key, 32 bytes.
        core: The 128 bytes of the part's core.
        preamble: The payload's first 56 bytes.
        hash_algorithm: Hash of the key schedule; another one only for outside vectors.

    Raises:
        Corrupt: the preamble is short, or commits to another key, core or salt.

    Source: FORMAT.md, "Random access is ours".
    """

    def __init__(
        self,
        dek: bytes,
        core: bytes,
        preamble: bytes,
        hash_algorithm: HashAlgorithm | None = None,
    ) -> None:
        if len(dek) != 32:
            raise ConfigError("A data key has 32 bytes.")
        if len(preamble) != PREAMBLE:
            raise Corrupt("The payload ends within its preamble.")
        info = _CONTEXT + preamble[:_SALT] + core
        schedule = HKDFExpand(hash_algorithm or SHA512(), 76, info).derive(dek)
        if not hmac.compare_digest(schedule[44:], commitment_of(preamble)):
            raise Corrupt("The payload does not belong to this header and key.")
        self._aead = AESGCM(schedule[:32])
        self._base_nonce = int.from_bytes(schedule[32:44], "big")

    def open_chunk(self, k: int, stored: bytes | memoryview, *, final: bool) -> bytes:
        """Decrypt and check one chunk.

        Args:
            k: Index of the chunk, from 0.
            stored: Its bytes on disk: 16,400 of a full chunk, 16..16,399 of the final one.
            final: Whether this must be the final, short chunk.

        Returns:
            The plaintext: 16,384 bytes, or 0..16,383 of the final chunk.

        Raises:
            Corrupt: wrong size for its kind, or bytes that are not what was written there.
        """
        size_fits = TAG <= len(stored) < STORED_CHUNK if final else len(stored) == STORED_CHUNK
        if not size_fits or not 0 <= k < MAX_CHUNKS:
            raise Corrupt(_place("is not whole", k))
        nonce = (self._base_nonce ^ k).to_bytes(_NONCE, "big")
        try:
            return self._aead.decrypt(nonce, stored, None)
        except InvalidTag:
            raise Corrupt(_place("is not what was written", k)) from None


def _place(what: str, k: int) -> str:
    return f"Chunk {k} (file offset {offset_of_chunk(k)}) {what}."
