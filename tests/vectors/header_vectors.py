"""What a reader must refuse in a header, one named mutation each (FORMAT.md, last section).

A vector changes the 8192 header bytes of a part; ``mutate`` applies it to both copies. It expects a
part with index 0 and at least one password, one key-file and one public-key slot, in any order; the
copies may differ in generation. ``expected`` says with which error each kind of secret is refused.

The rule behind ``expected``: what the format fixes is Corrupt for everyone; a slot that no longer
opens is WrongKey for a password, and Corrupt for a key whose id it still carries; everything else
is left to the header MAC and so is Corrupt.

``TRANSPLANTS`` need a donor as well: the header bytes of another recording for the same three keys.
Every vector of both kinds, applied to one copy alone, leaves a part that still opens; the two of
``SPLICED_COPIES`` are the exception, because the foreign copy is itself authentic.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.container.slots import SlotKind
from ipc.errors import Corrupt, SealrecError, WrongKey

__all__ = ["HEADER_VECTORS", "SPLICED_COPIES", "TRANSPLANTS", "HeaderVector", "Transplant"]

COPY = 4096
SLOTS_AT = 136
SLOT = 192
MAC_AT = 4064

Mutation = Callable[[bytearray], None]
Expected = Mapping[SlotKind, type[SealrecError]]

FOR_ALL: Expected = dict.fromkeys(SlotKind, Corrupt)
BY_KEY_ID: Expected = {**FOR_ALL, SlotKind.PASSWORD: WrongKey}


@dataclass(frozen=True)
class HeaderVector:
    """One mutation of a header copy and how it must be refused.

    Attributes:
        change: Changes one 4096-byte copy in place.
        expected: Error class by the kind of secret that reads.
        malformed: Whether a reader without a key refuses it too: a field that the format fixes.
    """

    change: Mutation
    expected: Expected
    malformed: bool

    def mutate(self, headers: bytes, copies: tuple[int, ...] = (0, 1)) -> bytes:
        """Apply the change to the given copies of 8192 header bytes."""
        changed = bytearray(headers)
        for copy in copies:
            part = changed[copy * COPY : (copy + 1) * COPY]
            self.change(part)
            changed[copy * COPY : (copy + 1) * COPY] = part
        return bytes(changed)


@dataclass(frozen=True)
class Transplant:
    """Like ``HeaderVector``, with bytes taken from the same copy of a donor's header."""

    change: Callable[[bytearray, bytes], None]
    expected: Expected

    def mutate(self, headers: bytes, donor: bytes, copies: tuple[int, ...] = (0, 1)) -> bytes:
        """Apply the change to the given copies of 8192 header bytes."""
        changed = bytearray(headers)
        for copy in copies:
            place = slice(copy * COPY, (copy + 1) * COPY)
            part = changed[place]
            self.change(part, donor[place])
            changed[place] = part
        return bytes(changed)


def _own_slot(kind: SlotKind, own: type[SealrecError]) -> Expected:
    """Only the owner of a changed slot sees ``own``; the others open theirs and the MAC fails."""
    return {**FOR_ALL, kind: own}


def _flip(offset: int) -> Mutation:
    def change(copy: bytearray) -> None:
        copy[offset] ^= 1

    return change


def _set(layout: str, offset: int, value: int) -> Mutation:
    def change(copy: bytearray) -> None:
        struct.pack_into(layout, copy, offset, value)

    return change


def _slot_at(copy: bytes | bytearray, kind: SlotKind) -> int:
    (count,) = struct.unpack_from(">H", copy, 132)
    starts = range(SLOTS_AT, SLOTS_AT + count * SLOT, SLOT)
    return next(at for at in starts if copy[at] == kind)


def _in_slot(kind: SlotKind, change_at: Callable[[int], Mutation]) -> Mutation:
    def change(copy: bytearray) -> None:
        change_at(_slot_at(copy, kind))(copy)

    return change


def _flip_in_slot(kind: SlotKind, offset: int) -> Mutation:
    return _in_slot(kind, lambda at: _flip(at + offset))


def _set_in_slot(kind: SlotKind, layout: str, offset: int, value: int) -> Mutation:
    return _in_slot(kind, lambda at: _set(layout, at + offset, value))


def _past_last_slot(copy: bytearray) -> None:
    (count,) = struct.unpack_from(">H", copy, 132)
    copy[SLOTS_AT + count * SLOT] = 1


def _remove(kind: SlotKind) -> Mutation:
    def change(copy: bytearray) -> None:
        at = _slot_at(copy, kind)
        (count,) = struct.unpack_from(">H", copy, 132)
        struct.pack_into(">H", copy, 132, count - 1)
        copy[SLOTS_AT:4040] = copy[SLOTS_AT:at] + copy[at + SLOT : 4040] + bytes(SLOT)

    return change


def _swap(copy: bytearray) -> None:
    first, second = SLOTS_AT, SLOTS_AT + SLOT
    copy[first:second], copy[second : second + SLOT] = (
        copy[second : second + SLOT],
        copy[first:second],
    )


def _no_slots(copy: bytearray) -> None:
    struct.pack_into(">H", copy, 132, 0)
    copy[SLOTS_AT:4040] = bytes(4040 - SLOTS_AT)


def _grow_generation(copy: bytearray) -> None:
    (generation,) = struct.unpack_from(">I", copy, 128)
    struct.pack_into(">I", copy, 128, generation + 1)


def _erase(copy: bytearray) -> None:
    copy[:] = bytes(len(copy))


def _take_slot(kind: SlotKind) -> Callable[[bytearray, bytes], None]:
    def change(copy: bytearray, donor: bytes) -> None:
        at, source = _slot_at(copy, kind), _slot_at(donor, kind)
        copy[at : at + SLOT] = donor[source : source + SLOT]

    return change


def _take(start: int, end: int) -> Callable[[bytearray, bytes], None]:
    def change(copy: bytearray, donor: bytes) -> None:
        copy[start:end] = donor[start:end]

    return change


_CORE_FIXED = {
    "core-magic": _flip(0),
    "core-version": _set(">H", 8, 2),
    "core-header-size": _set(">H", 10, 8192),
    "core-flags": _set(">I", 12, 1),
    "core-suite": _set(">H", 36, 2),
    "core-media": _set(">H", 38, 2),
    "core-payload-offset": _set(">Q", 48, 4096),
    "core-chunk-size": _set(">I", 56, 65536),
    "core-reserved-60": _set(">I", 60, 1),
    "core-previous-part-of-part-0": _flip(64),
    "core-reserved-96": _flip(127),
}
_CORE_FREE = {
    "core-recording-id": _flip(16),
    "core-part-index": _set(">I", 32, 1),
    "core-created": _flip(47),
}
_MUTABLE_FIXED = {
    "slot-count-0": _set(">H", 132, 0),
    "slot-count-0-and-no-slots": _no_slots,
    "slot-count-1": _set(">H", 132, 1),
    "slot-count-17": _set(">H", 132, 17),
    "slot-count-65535": _set(">H", 132, 65535),
    "slot-size": _set(">H", 134, 191),
    "slot-padding": _past_last_slot,
    "slot-padding-last-byte": _flip(4039),
    "state-unknown": _set(">H", 4040, 3),
    "reserved-4042": _flip(4043),
    "erased": _erase,
}
_MUTABLE_FREE = {
    "generation": _grow_generation,
    "state": _flip(4041),
    "seal-chunk": _flip(4047),
    "chunk-count": _flip(4055),
    "payload-bytes": _flip(4063),
    "mac-first-byte": _flip(MAC_AT),
    "mac-last-byte": _flip(COPY - 1),
    "slots-swapped": _swap,
}


def _slot_vectors(kind: SlotKind) -> dict[str, HeaderVector]:
    """The vectors of one slot; those that break a fixed field are Corrupt for everyone."""
    closed = WrongKey if kind is SlotKind.PASSWORD else Corrupt
    fixed: dict[str, Mutation] = {
        "kind-0": _set_in_slot(kind, ">B", 0, 0),
        "kind-4": _set_in_slot(kind, ">B", 0, 4),
        "kind-other": _set_in_slot(kind, ">B", 0, kind % 3 + 1),
        "wrap": _set_in_slot(kind, ">B", 1, 2),
        "flags": _set_in_slot(kind, ">H", 2, 1),
        "label-not-utf8": _set_in_slot(kind, ">B", 116, 0xFF),
        "label-after-its-end": _flip_in_slot(kind, 191),
    }
    free: dict[str, tuple[Mutation, type[SealrecError]]] = {
        "key-id": (_flip_in_slot(kind, 8), WrongKey),
        "iterations-other": (_set_in_slot(kind, ">I", 4, 100_001), closed),
        "wrapped-key": (_flip_in_slot(kind, 68), closed),
        "wrapped-tag": (_flip_in_slot(kind, 115), closed),
        "label": (_set_in_slot(kind, ">B", 116, ord("X")), closed),
        "removed": (_remove(kind), WrongKey),
    }
    bounds = {"lowered": 99_999, "1": 1, "raised": 10_000_001, "2^32-1": 2**32 - 1}
    for what, iterations in bounds.items():
        change = _set_in_slot(kind, ">I", 4, iterations)
        if kind is SlotKind.PASSWORD:
            fixed[f"iterations-{what}"] = change
        else:
            free[f"iterations-{what}"] = (change, closed)
    for what, offset, zeros_in in (
        ("salt", 24, SlotKind.KEY_FILE),
        ("salt-byte-31", 54, SlotKind.KEY_FILE),
        ("iv", 56, SlotKind.PUBLIC_KEY),
        ("iv-last-byte", 67, SlotKind.PUBLIC_KEY),
    ):
        if kind is zeros_in:
            fixed[what] = _flip_in_slot(kind, offset)
        else:
            free[what] = (_flip_in_slot(kind, offset), closed)
    name = kind.name.lower().replace("_", "-")
    return {
        f"{name}-slot-{what}": HeaderVector(change, FOR_ALL, True) for what, change in fixed.items()
    } | {
        f"{name}-slot-{what}": HeaderVector(change, _own_slot(kind, own), False)
        for what, (change, own) in free.items()
    }


HEADER_VECTORS: dict[str, HeaderVector] = {
    **{name: HeaderVector(change, FOR_ALL, True) for name, change in _CORE_FIXED.items()},
    **{name: HeaderVector(change, BY_KEY_ID, False) for name, change in _CORE_FREE.items()},
    **{name: HeaderVector(change, FOR_ALL, True) for name, change in _MUTABLE_FIXED.items()},
    **{name: HeaderVector(change, FOR_ALL, False) for name, change in _MUTABLE_FREE.items()},
    **{name: vector for kind in SlotKind for name, vector in _slot_vectors(kind).items()},
}

TRANSPLANTS: dict[str, Transplant] = {
    "core-of-another-recording": Transplant(_take(0, 128), BY_KEY_ID),
    "all-slots-of-another-recording": Transplant(_take(132, 4040), BY_KEY_ID),
    "mac-of-another-recording": Transplant(_take(MAC_AT, COPY), FOR_ALL),
    "mutable-part-of-another-recording": Transplant(_take(128, COPY), BY_KEY_ID),
    **{
        f"{kind.name.lower().replace('_', '-')}-slot-of-another-recording": Transplant(
            _take_slot(kind),
            _own_slot(kind, WrongKey if kind is SlotKind.PASSWORD else Corrupt),
        )
        for kind in SlotKind
    },
}

SPLICED_COPIES: dict[str, Transplant] = {
    "whole-copy-of-another-recording": Transplant(_take(0, COPY), FOR_ALL),
}
