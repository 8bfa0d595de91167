"""What a reader must refuse in a whole file, one named change each (FORMAT.md, last section).

Every vector makes a file from the golden ones (golden/, see ``make_golden.py``); a reader that is
given the right key must call it Corrupt when it opens it or, at the latest, when it has read all of
it. Headers alone are ``header_vectors.py``. ``FILE_VECTORS`` change a sealed part,
``RECOVERED_VECTORS`` a recovered one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FILE_VECTORS", "GOLDEN", "RECOVERED_VECTORS", "Golden", "load_golden"]

GOLDEN = Path(__file__).parent / "golden"

HEADERS = 8192
PREAMBLE = 56
CHUNK = 16400
FIRST = HEADERS + PREAMBLE


@dataclass(frozen=True)
class Golden:
    """Files that this version of the format must read for ever, and their keys.

    Attributes:
        first: Part 0 of a recording, sealed: three full chunks and a final one.
        second: Part 1 of the same recording, sealed.
        recovered: Part 2 of the same recording, recovered: two full chunks.
        other: Part 0 of another recording for the same keys, sealed.
        facts: Keys and content, see golden.json.
    """

    first: bytes
    second: bytes
    recovered: bytes
    other: bytes
    facts: dict[str, str]


def load_golden() -> Golden:
    """Read the golden files."""
    names = ("first", "second", "recovered", "other")
    files = {name: (GOLDEN / f"{name}.srv1").read_bytes() for name in names}
    return Golden(**files, facts=json.loads((GOLDEN / "golden.json").read_text()))


Change = Callable[[Golden], bytes]


def chunk(raw: bytes, k: int) -> bytes:
    """Stored bytes of chunk k; the final one is shorter."""
    return raw[FIRST + k * CHUNK : FIRST + (k + 1) * CHUNK]


def _with_chunks(raw: bytes, *order: int) -> bytes:
    return raw[:FIRST] + b"".join(chunk(raw, k) for k in order)


def _flip(raw: bytes, at: int) -> bytes:
    at %= len(raw)
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def _zero_tail(raw: bytes, size: int) -> bytes:
    return raw[:-size] + bytes(size)


def _splices(name: str, donor: Callable[[Golden], bytes]) -> dict[str, Change]:
    return {
        f"splice-chunk-of-{name}": lambda g: (
            g.first[: FIRST + CHUNK] + chunk(donor(g), 1) + g.first[FIRST + 2 * CHUNK :]
        ),
        f"splice-final-chunk-of-{name}": lambda g: (
            g.first[: FIRST + 3 * CHUNK] + donor(g)[FIRST + 3 * CHUNK :]
        ),
        f"splice-payload-of-{name}": lambda g: g.first[:HEADERS] + donor(g)[HEADERS:],
        f"splice-preamble-of-{name}": lambda g: (
            g.first[:HEADERS] + donor(g)[HEADERS:FIRST] + g.first[FIRST:]
        ),
        f"splice-chunks-of-{name}": lambda g: g.first[:FIRST] + donor(g)[FIRST:],
        f"splice-header-of-{name}": lambda g: donor(g)[:HEADERS] + g.first[HEADERS:],
    }


FILE_VECTORS: dict[str, Change] = {
    "truncated-final-chunk": lambda g: g.first[: FIRST + 3 * CHUNK],
    "truncated-final-chunk-to-its-tag": lambda g: g.first[: FIRST + 3 * CHUNK + 16],
    "truncated-mid-chunk": lambda g: g.first[: FIRST + CHUNK + 5000],
    "truncated-full-chunks": lambda g: g.first[: FIRST + 2 * CHUNK],
    "truncated-one-byte": lambda g: g.first[:-1],
    "truncated-to-the-preamble": lambda g: g.first[:FIRST],
    "truncated-inside-the-preamble": lambda g: g.first[: HEADERS + 30],
    "truncated-to-the-headers": lambda g: g.first[:HEADERS],
    "truncated-inside-header-b": lambda g: g.first[:5000],
    "truncated-to-header-a": lambda g: g.first[:4096],
    "truncated-inside-header-a": lambda g: g.first[:2000],
    "empty-file": lambda g: b"",
    "order-two-chunks-swapped": lambda g: _with_chunks(g.first, 0, 2, 1, 3),
    "order-one-chunk-duplicated": lambda g: _with_chunks(g.first, 0, 1, 1, 2, 3),
    "order-one-chunk-in-place-of-another": lambda g: _with_chunks(g.first, 0, 1, 1, 3),
    "order-one-chunk-deleted": lambda g: _with_chunks(g.first, 0, 2, 3),
    "order-first-chunk-deleted": lambda g: _with_chunks(g.first, 1, 2, 3),
    "order-final-chunk-moved-forward": lambda g: _with_chunks(g.first, 0, 1, 3, 2),
    "order-final-chunk-moved-to-the-front": lambda g: _with_chunks(g.first, 3, 0, 1, 2),
    **_splices("another-recording", lambda g: g.other),
    **_splices("another-part", lambda g: g.second),
    "flip-ciphertext": lambda g: _flip(g.first, FIRST + CHUNK + 100),
    "flip-tag": lambda g: _flip(g.first, FIRST + 2 * CHUNK - 1),
    "flip-last-ciphertext": lambda g: _flip(g.first, -17),
    "flip-last-tag": lambda g: _flip(g.first, -1),
    "flip-salt": lambda g: _flip(g.first, HEADERS),
    "flip-commitment": lambda g: _flip(g.first, HEADERS + 24),
    "flip-commitment-last-byte": lambda g: _flip(g.first, FIRST - 1),
    "appended-byte": lambda g: g.first + b"\0",
    "appended-chunk": lambda g: g.first + chunk(g.first, 2),
    "appended-chunk-of-zeros": lambda g: g.first + bytes(CHUNK),
    "appended-final-chunk": lambda g: g.first + chunk(g.first, 3),
    "appended-second-file": lambda g: g.first + g.other,
    "appended-itself": lambda g: g.first + g.first,
    "zero-filled-tail": lambda g: _zero_tail(g.first, 20_000),
    "zero-filled-final-chunk": lambda g: _zero_tail(g.first, len(chunk(g.first, 3))),
    "zero-filled-last-page": lambda g: _zero_tail(g.first, len(g.first) % 4096 or 4096),
    "zero-filled-payload": lambda g: _zero_tail(g.first, len(g.first) - HEADERS),
    "zero-filled-file": lambda g: bytes(len(g.first)),
    "both-headers-swapped-with-payload": lambda g: g.first[HEADERS:] + g.first[:HEADERS],
}

RECOVERED_VECTORS: dict[str, Change] = {
    "recovered-truncated-one-byte": lambda g: g.recovered[:-1],
    "recovered-truncated-one-chunk": lambda g: g.recovered[:-CHUNK],
    "recovered-truncated-to-the-preamble": lambda g: g.recovered[:FIRST],
    "recovered-truncated-to-the-headers": lambda g: g.recovered[:HEADERS],
    "recovered-appended-byte": lambda g: g.recovered + b"\0",
    "recovered-appended-chunk": lambda g: g.recovered + chunk(g.recovered, 1),
    "recovered-appended-final-chunk": lambda g: g.recovered + g.first[FIRST + 3 * CHUNK :],
    "recovered-appended-tag": lambda g: g.recovered + bytes(16),
    "recovered-chunks-swapped": lambda g: _with_chunks(g.recovered, 1, 0),
    "recovered-flip-tag": lambda g: _flip(g.recovered, -1),
    "recovered-zero-filled-tail": lambda g: _zero_tail(g.recovered, 4096),
    "recovered-header-on-a-sealed-payload": lambda g: g.recovered[:HEADERS] + g.first[HEADERS:],
}
