"""The header of a part: 4096 bytes, two copies, and the rules by which a reader trusts one.

Layout, MAC and reading rules 1 to 3 of FORMAT.md; slots are ``slots``, the payload is ``payload``.
No file is read or written here.

A copy is well formed when it is 4096 bytes long and every field that FORMAT.md fixes has that
value: magic, version, header_size, flags, suite, media, payload_offset, chunk_size, slot_size, all
reserved bytes and the padding behind the last slot; ``slot_count`` is 1..16, every slot is well
formed (``slots``), ``state`` is 0..2, and ``previous_part`` is zeros in part 0. Generation, counts
and seal_chunk are any value here: the MAC covers them, and rules 4 to 7 compare them with the file.
"""

from __future__ import annotations

import hmac
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from engine.container.core import CORE_BYTES, HEADER_BYTES, MAGIC, VERSION, Core, new_core
from engine.container.recipients import KEY_BYTES, DataKeySecret, Recipient, Secret
from engine.container.slots import (
    ITERATIONS_PER_FILE,
    SLOT_BYTES,
    Slot,
    SlotKind,
    SlotOpener,
    wrap_slot,
)
from ipc.errors import ConfigError, Corrupt, WrongKey, WrongState

__all__ = [
    "CORE_BYTES",
    "HEADER_BYTES",
    "MAGIC",
    "MAX_SLOTS",
    "VERSION",
    "Core",
    "Header",
    "OpenedHeader",
    "State",
    "new_core",
    "new_header",
    "open_header",
    "updated",
]

MAX_SLOTS: Final = 16

_SLOTS_AT: Final = 136
_TAIL_AT: Final = 4040
_MAC_AT: Final = 4064
_MAX_U32: Final = 2**32 - 1
_SLOT_TABLE: Final = struct.Struct(">IHH")  # generation, slot_count, slot_size
_TAIL: Final = struct.Struct(">HHIQQ")  # state, reserved, seal_chunk, chunk_count, payload_bytes


class State(IntEnum):
    """How far a part has come."""

    OPEN = 0
    SEALED = 1
    RECOVERED = 2


@dataclass(frozen=True, slots=True)
class Header:
    """One header copy; all of it is public. Parsed is not authenticated: see ``open_header``.

    Attributes:
        core: The immutable part.
        generation: +1 at every header write.
        slots: 1..16 key slots.
        state: Open, sealed or recovered.
        seal_chunk: Chunk in which the seal ``emsg`` starts; 0 until sealed.
        chunk_count: Chunks known durable at this generation.
        payload_bytes: Plaintext bytes in them.
        mac: 32 bytes, the header MAC as stored.
    """

    core: Core
    generation: int
    slots: tuple[Slot, ...]
    state: State = State.OPEN
    seal_chunk: int = 0
    chunk_count: int = 0
    payload_bytes: int = 0
    mac: bytes = bytes(32)

    def pack(self, dek: bytes) -> bytes:
        """The 4096 bytes of FORMAT.md, with a fresh MAC under ``dek`` (``mac`` is ignored)."""
        slots = b"".join(slot.pack() for slot in self.slots)
        body = b"".join(
            (
                self.core.pack(),
                _SLOT_TABLE.pack(self.generation, len(self.slots), SLOT_BYTES),
                slots.ljust(_TAIL_AT - _SLOTS_AT, b"\0"),
                _TAIL.pack(self.state, 0, self.seal_chunk, self.chunk_count, self.payload_bytes),
            )
        )
        return body + _mac(dek, body)

    @classmethod
    def parse(cls, raw: bytes) -> Header:
        """Read one 4096-byte copy without a key.

        Raises:
            Corrupt: not a well-formed copy (module docstring).

        Source: FORMAT.md, "Header".
        """
        if len(raw) != HEADER_BYTES:
            raise Corrupt("The file ends within its header.")
        core = Core.parse(raw[:CORE_BYTES])
        generation, slot_count, slot_size = _SLOT_TABLE.unpack_from(raw, CORE_BYTES)
        if not 1 <= slot_count <= MAX_SLOTS or slot_size != SLOT_BYTES:
            raise Corrupt("The header's slot table is not one of format version 1.")
        slots_end = _SLOTS_AT + slot_count * SLOT_BYTES
        state, reserved, seal_chunk, chunk_count, payload_bytes = _TAIL.unpack_from(raw, _TAIL_AT)
        if any(raw[slots_end:_TAIL_AT]) or reserved or state not in iter(State):
            raise Corrupt("The header has a state or padding that format version 1 lacks.")
        starts = range(_SLOTS_AT, slots_end, SLOT_BYTES)
        return cls(
            core=core,
            generation=generation,
            slots=tuple(Slot.parse(raw[at : at + SLOT_BYTES]) for at in starts),
            state=State(state),
            seal_chunk=seal_chunk,
            chunk_count=chunk_count,
            payload_bytes=payload_bytes,
            mac=raw[_MAC_AT:],
        )


@dataclass(frozen=True, slots=True)
class OpenedHeader:
    """An authenticated header and the data key.

    Attributes:
        dek: The recording's data key, 32 bytes.
        header: The copy to believe: the highest generation whose MAC holds.
        copy: Which copy that is: 0 is A, 1 is B.
        valid: Whether (A, B) are well formed and authentic.
    """

    dek: bytes = field(repr=False)
    header: Header
    copy: int
    valid: tuple[bool, bool]

    @property
    def write_order(self) -> tuple[int, int]:
        """Copies in the order rule 4 allows: the older or invalid one first, then ``copy``."""
        return (1 - self.copy, self.copy)


def new_header(core: bytes, dek: bytes, recipients: Sequence[Recipient]) -> bytes:
    """The first header of a part: state 0, generation 1, nothing durable.

    Args:
        core: 128 bytes from ``new_core``.
        dek: The recording's data key, 32 bytes.
        recipients: 1..16 who may open it, one slot each.

    Returns:
        4096 bytes, for both copies.

    Raises:
        ConfigError: no recipient, more than 16, or a label that does not fit.
        KeyFileError: an unusable public key.
    """
    if len(dek) != KEY_BYTES:
        raise ConfigError("A data key has 32 bytes.")
    slots = tuple(wrap_slot(recipient, dek, core) for recipient in recipients)
    _check_slots(slots)
    return Header(Core.parse(core), generation=1, slots=slots).pack(dek)


def updated(  # noqa: PLR0913 - one keyword per mutable field of the table
    header: Header,
    dek: bytes,
    *,
    state: State | int | None = None,
    chunk_count: int | None = None,
    payload_bytes: int | None = None,
    seal_chunk: int | None = None,
    slots: Sequence[Slot] | None = None,
) -> bytes:
    """The next generation of a header, with its new MAC.

    Args:
        header: The present, authenticated header.
        dek: The recording's data key.
        state: New state; None leaves a field as it is, here and below.
        chunk_count: Chunks now known durable.
        payload_bytes: Plaintext bytes in them.
        seal_chunk: Chunk in which the seal table starts.
        slots: New key slots, 1..16.

    Returns:
        4096 bytes.

    Raises:
        ConfigError: no slot is left, or more than 16.
        WrongState: the generation counter is used up.
    """
    if header.generation >= _MAX_U32:
        raise WrongState("The header's generation counter is used up.")
    new_slots = header.slots if slots is None else tuple(slots)
    _check_slots(new_slots)
    return replace(
        header,
        generation=header.generation + 1,
        state=header.state if state is None else State(state),
        chunk_count=header.chunk_count if chunk_count is None else chunk_count,
        payload_bytes=header.payload_bytes if payload_bytes is None else payload_bytes,
        seal_chunk=header.seal_chunk if seal_chunk is None else seal_chunk,
        slots=new_slots,
    ).pack(dek)


def open_header(copy_a: bytes, copy_b: bytes, secret: Secret) -> OpenedHeader:
    """Find the data key and the header to believe.

    Args:
        copy_a: The file's bytes 0..4095, fewer if it ends there.
        copy_b: The file's bytes 4096..8191, likewise.
        secret: What the reader holds.

    Returns:
        The authenticated header of the highest generation; copy A when both are equal.

    Raises:
        Corrupt: no well-formed copy; a slot carries this key's id and does not open; no MAC
            holds; or two authentic copies belong to different recordings or parts.
        WrongKey: no slot opens, or only one of a stale copy.

    Source: FORMAT.md, "Rules of reading" 1 to 3.
    """
    raws = (copy_a, copy_b)
    parsed = {i: header for i, raw in enumerate(raws) if (header := _parse_or_none(raw))}
    if not parsed:
        raise Corrupt("Neither header copy is that of a sealed recording, format version 1.")
    unwrapped = _unwrapped_keys(parsed, secret)
    candidates = [secret.dek] if isinstance(secret, DataKeySecret) else list(unwrapped.values())
    if not candidates:
        raise _refusal(parsed, secret)
    proven = {i: dek for i in parsed if (dek := _proven_key(raws[i], candidates))}
    if not proven:
        raise Corrupt("No header copy is what was written.")
    if len({(parsed[i].core, dek) for i, dek in proven.items()}) > 1:
        raise Corrupt("The two header copies belong to different recordings or parts.")
    best = max(proven, key=lambda i: (parsed[i].generation, -i))
    if not isinstance(secret, DataKeySecret) and unwrapped.get(best) != proven[best]:
        raise _wrong_key()  # only a stale copy still knows this key
    return OpenedHeader(proven[best], parsed[best], best, (0 in proven, 1 in proven))


def _parse_or_none(raw: bytes) -> Header | None:
    try:
        return Header.parse(raw)
    except Corrupt:
        return None


def _unwrapped_keys(parsed: Mapping[int, Header], secret: Secret) -> dict[int, bytes]:
    """Data key by copy, of the first slot there that opens.

    The newer copy comes first, so that its passwords have the first claim on the iteration limit.
    """
    opener = SlotOpener(secret)
    found = {}
    for i in sorted(parsed, key=lambda i: -parsed[i].generation):
        core = parsed[i].core.pack()
        keys = (opener.open_slot(slot, core) for slot in parsed[i].slots)
        dek = next((key for key in keys if key is not None), None)
        if dek is not None:
            found[i] = dek
    return found


def _proven_key(raw: bytes, candidates: Sequence[bytes]) -> bytes | None:
    """The candidate under which a copy's MAC holds."""
    for dek in candidates:
        if hmac.compare_digest(_mac(dek, raw[:_MAC_AT]), raw[_MAC_AT:]):
            return dek
    return None


def _refusal(parsed: Mapping[int, Header], secret: Secret) -> Corrupt | WrongKey:
    opener = SlotOpener(secret)
    if any(opener.is_named_by(slot) for header in parsed.values() for slot in header.slots):
        return Corrupt("The key slot made for this key is not what was written.")
    return _wrong_key()


def _wrong_key() -> WrongKey:
    return WrongKey(
        "This key or password does not open the recording.",
        hint="`sealrec info FILE` lists the keys it was made for.",
    )


def _check_slots(slots: Sequence[Slot]) -> None:
    if not 1 <= len(slots) <= MAX_SLOTS:
        raise ConfigError(
            f"A recording has 1 to {MAX_SLOTS} keys, not {len(slots)}.",
            hint="Give at least one --key-file, --password-file or --public-key.",
        )
    work = {(s.salt, s.iterations) for s in slots if s.kind is SlotKind.PASSWORD}
    if sum(iterations for _, iterations in work) > ITERATIONS_PER_FILE:
        raise ConfigError("These passwords together cost more iterations than a reader spends.")


def _mac(dek: bytes, body: bytes) -> bytes:
    key = HKDFExpand(SHA512(), 32, b"SRV1 header mac").derive(dek)
    return hmac.digest(key, body, "sha256")
