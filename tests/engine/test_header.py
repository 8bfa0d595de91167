"""Header copies and the reading rules 1 to 3 of FORMAT.md."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container import slots as slots_module
from engine.container.core import Core, new_core
from engine.container.header import Header, OpenedHeader, State, new_header, open_header, updated
from engine.container.recipients import (
    DataKeySecret,
    KeyFileRecipient,
    KeyFileSecret,
    PasswordRecipient,
    PasswordSecret,
    PrivateKeySecret,
    PublicKeyRecipient,
    Recipient,
    Secret,
    derive_kek,
)
from engine.container.slots import ITERATIONS_PER_FILE, SlotKind, wrap_slot
from ipc.errors import ConfigError, Corrupt, SealrecError, WrongKey, WrongState
from tests.vectors.header_vectors import HEADER_VECTORS, SPLICED_COPIES, TRANSPLANTS

CHEAP = 100_000  # iterations: the least a reader accepts
GOLDEN = Path(__file__).parent.parent / "vectors" / "header_v1.json"


@dataclass(frozen=True)
class Keys:
    """One of each kind, as recipient and as secret, in the order of SlotKind."""

    recipients: tuple[PasswordRecipient, KeyFileRecipient, PublicKeyRecipient]
    secrets: dict[SlotKind, Secret]


def password_pair(password: str, label: str = "") -> tuple[PasswordRecipient, PasswordSecret]:
    salt = os.urandom(32)
    kek = derive_kek(password, salt, CHEAP)
    recipient = PasswordRecipient(kek, salt, CHEAP, os.urandom(16), label)
    return recipient, PasswordSecret(password)


def core_bytes(part_index: int = 0, recording_id: bytes = b"R" * 16) -> bytes:
    return new_core(
        recording_id=recording_id,
        part_index=part_index,
        created_unix_ms=1_700_000_000_000,
        previous_part=b"\x01" * 32 if part_index else bytes(32),
    )


@pytest.fixture(scope="module")
def keys() -> Keys:
    kek, private = os.urandom(32), X25519PrivateKey.generate()
    recipient, secret = password_pair("correct horse", "spare")
    public = private.public_key().public_bytes_raw()
    return Keys(
        (recipient, KeyFileRecipient(kek, "room 2"), PublicKeyRecipient(public, "archive")),
        {
            SlotKind.PASSWORD: secret,
            SlotKind.KEY_FILE: KeyFileSecret(kek),
            SlotKind.PUBLIC_KEY: PrivateKeySecret(private.private_bytes_raw()),
        },
    )


@pytest.fixture(scope="module")
def dek() -> bytes:
    return os.urandom(32)


@pytest.fixture(scope="module")
def header(keys: Keys, dek: bytes) -> bytes:
    """The two copies of a part 0 at its second checkpoint: generations 3 and 2."""
    first = new_header(core_bytes(), dek, keys.recipients)
    second = updated(Header.parse(first), dek, chunk_count=4, payload_bytes=4 * 16384)
    third = updated(Header.parse(second), dek, chunk_count=9, payload_bytes=9 * 16384)
    return third + second


@pytest.fixture(scope="module")
def donor(keys: Keys) -> bytes:
    """Both copies of another recording for the same keys."""
    return new_header(core_bytes(recording_id=b"S" * 16), os.urandom(32), keys.recipients) * 2


def open_both(headers: bytes, secret: Secret) -> OpenedHeader:
    return open_header(headers[:4096], headers[4096:8192], secret)


# What is written


def test_every_field_stands_at_the_offset_of_the_format(dek: bytes, keys: Keys) -> None:
    """A header has each field of FORMAT.md's table at its offset, in big-endian."""
    core = new_core(
        recording_id=bytes(range(16)),
        part_index=7,
        created_unix_ms=0x0102030405060708,
        previous_part=b"\xaa" * 32,
    )
    raw = updated(
        Header.parse(new_header(core, dek, keys.recipients)),
        dek,
        state=State.SEALED,
        chunk_count=0x1112131415161718,
        payload_bytes=0x2122232425262728,
        seal_chunk=0x31323334,
    )
    assert len(raw) == 4096
    assert raw[:16].hex() == "895352560d0a1a0a00011000" + "00000000"
    assert raw[16:64].hex() == (
        "000102030405060708090a0b0c0d0e0f 00000007 0001 0001 0102030405060708"
        "0000000000002000 00004000 00000000"
    ).replace(" ", "")
    assert raw[64:128] == b"\xaa" * 32 + bytes(32)
    assert raw[128:136].hex() == "00000002000300c0"
    assert not any(raw[136 + 3 * 192 : 4040])
    assert raw[4040:4064].hex() == "0001 0000 31323334 1112131415161718 2122232425262728".replace(
        " ", ""
    )


def test_a_first_header_is_open_and_empty(dek: bytes, keys: Keys) -> None:
    """new_header gives generation 1, state open, nothing durable and one slot a recipient."""
    parsed = Header.parse(new_header(core_bytes(), dek, keys.recipients))
    assert (parsed.generation, parsed.state, parsed.chunk_count, parsed.payload_bytes) == (
        1,
        State.OPEN,
        0,
        0,
    )
    assert [slot.kind for slot in parsed.slots] == list(SlotKind)
    assert [slot.label for slot in parsed.slots] == ["spare", "room 2", "archive"]


def test_an_update_keeps_what_it_is_not_told(dek: bytes, header: bytes) -> None:
    """An update adds one generation and changes only the named fields."""
    before = Header.parse(header[:4096])
    after = Header.parse(updated(before, dek, seal_chunk=8))
    assert after.generation == before.generation + 1
    assert after.seal_chunk == 8
    assert (after.core, after.slots, after.state) == (before.core, before.slots, before.state)
    assert (after.chunk_count, after.payload_bytes) == (9, 9 * 16384)
    assert after.mac != before.mac


def test_the_golden_header_opens_with_every_kind_of_key() -> None:
    """A header written when format version 1 was fixed still opens, and packs to its own bytes."""
    golden = json.loads(GOLDEN.read_text(encoding="ascii"))
    raw = bytes.fromhex(golden["header"])
    dek = bytes.fromhex(golden["dek"])
    secrets: list[Secret] = [
        PasswordSecret(golden["password"]),
        KeyFileSecret(bytes.fromhex(golden["key_file"])),
        PrivateKeySecret(bytes.fromhex(golden["private_key"])),
        DataKeySecret(dek),
    ]
    for secret in secrets:
        assert open_header(raw, raw, secret).dek == dek
    assert Header.parse(raw).pack(dek) == raw


@pytest.mark.parametrize("count", [0, 17])
def test_a_header_has_1_to_16_slots(count: int, dek: bytes) -> None:
    """No recipient and a seventeenth are refused when a header is made."""
    with pytest.raises(ConfigError):
        new_header(core_bytes(), dek, [KeyFileRecipient(os.urandom(32))] * count)


def test_16_slots_fill_the_table_and_all_open(dek: bytes) -> None:
    """The sixteenth slot lies within the header and opens like the first."""
    keks = [os.urandom(32) for _ in range(16)]
    raw = new_header(core_bytes(), dek, [KeyFileRecipient(kek) for kek in keks])
    assert all(open_header(raw, raw, KeyFileSecret(kek)).dek == dek for kek in keks)


def test_a_generation_never_wraps_around(dek: bytes, header: bytes) -> None:
    """The last generation cannot be followed: 0 would be older than all."""
    parsed = Header.parse(header[:4096])
    last = Header(parsed.core, 2**32 - 1, parsed.slots)
    with pytest.raises(WrongState):
        updated(last, dek)


@pytest.mark.parametrize(
    ("recording_id", "part_index", "previous"),
    [
        (b"x" * 15, 0, bytes(32)),
        (b"x" * 16, 0, b"\x01" * 32),
        (b"x" * 16, 1, bytes(32)),
        (b"x" * 16, 2**32, b"\x01" * 32),
        (b"x" * 16, -1, b"\x01" * 32),
        (b"x" * 16, 1, b"\x01" * 31),
    ],
)
def test_a_core_that_no_reader_accepts_is_not_made(
    recording_id: bytes, part_index: int, previous: bytes
) -> None:
    """Part 0 has no predecessor, every other part has one, and sizes are exact."""
    with pytest.raises(ConfigError):
        new_core(
            recording_id=recording_id,
            part_index=part_index,
            created_unix_ms=0,
            previous_part=previous,
        )


def test_a_short_data_key_is_refused(keys: Keys) -> None:
    """A data key of another size than 32 bytes never wraps."""
    with pytest.raises(ConfigError):
        new_header(core_bytes(), b"k" * 31, keys.recipients)


# What is refused


@pytest.mark.parametrize("kind", list(SlotKind))
@pytest.mark.parametrize("name", sorted(HEADER_VECTORS))
def test_every_mutation_of_both_copies_is_refused(
    name: str, kind: SlotKind, header: bytes, keys: Keys
) -> None:
    """A changed header is refused with the class that the vector names for this kind of key."""
    vector = HEADER_VECTORS[name]
    mutated = vector.mutate(header)
    assert mutated != header
    with pytest.raises(SealrecError) as refusal:
        open_both(mutated, keys.secrets[kind])
    assert type(refusal.value) is vector.expected[kind]


@pytest.mark.parametrize("name", sorted(HEADER_VECTORS))
def test_what_the_format_fixes_is_refused_without_a_key(name: str, header: bytes) -> None:
    """A copy with a wrong fixed field is not well formed; any other change is left to the MAC."""
    vector = HEADER_VECTORS[name]
    mutated = vector.mutate(header)[:4096]
    if vector.malformed:
        with pytest.raises(Corrupt):
            Header.parse(mutated)
    else:
        assert Header.parse(mutated) != Header.parse(header[:4096])


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("name", sorted(HEADER_VECTORS))
def test_a_single_damaged_copy_still_opens(
    name: str, copy: int, header: bytes, dek: bytes, keys: Keys
) -> None:
    """With one copy changed, every key opens the part by the other copy."""
    mutated = HEADER_VECTORS[name].mutate(header, copies=(copy,))
    for secret in keys.secrets.values():
        opened = open_both(mutated, secret)
        assert (opened.dek, opened.copy) == (dek, 1 - copy)
        assert opened.valid == (copy == 1, copy == 0)
        assert opened.write_order == (copy, 1 - copy)


@pytest.mark.parametrize("kind", list(SlotKind))
@pytest.mark.parametrize("name", sorted(TRANSPLANTS))
def test_pieces_of_another_recording_are_refused(
    name: str, kind: SlotKind, header: bytes, donor: bytes, keys: Keys
) -> None:
    """Core, slots or MAC of another recording for the same keys fit into no header."""
    vector = TRANSPLANTS[name]
    with pytest.raises(SealrecError) as refusal:
        open_both(vector.mutate(header, donor), keys.secrets[kind])
    assert type(refusal.value) is vector.expected[kind]
    opened = open_both(vector.mutate(header, donor, copies=(0,)), keys.secrets[kind])
    assert opened.valid == (False, True)


@pytest.mark.parametrize("copy", [0, 1])
@pytest.mark.parametrize("name", sorted(SPLICED_COPIES))
def test_two_authentic_copies_must_belong_together(
    name: str, copy: int, header: bytes, donor: bytes, keys: Keys
) -> None:
    """One whole copy of another recording is refused: nobody could say which of them is meant."""
    vector = SPLICED_COPIES[name]
    for kind, secret in keys.secrets.items():
        with pytest.raises(SealrecError) as refusal:
            open_both(vector.mutate(header, donor, copies=(copy,)), secret)
        assert type(refusal.value) is vector.expected[kind]


def test_a_copy_of_another_part_is_refused(header: bytes, dek: bytes, keys: Keys) -> None:
    """Two parts share a data key, and still their header copies do not mix."""
    other = new_header(core_bytes(part_index=1), dek, keys.recipients)
    for secret in (*keys.secrets.values(), DataKeySecret(dek)):
        with pytest.raises(Corrupt):
            open_header(header[:4096], other, secret)


def test_every_byte_is_covered(header: bytes, dek: bytes) -> None:
    """No byte of a header can change in both copies without being noticed."""
    secret = DataKeySecret(dek)
    for offset in range(4096):
        mutated = bytearray(header)
        mutated[offset] ^= 0x40
        mutated[4096 + offset] ^= 0x40
        with pytest.raises(Corrupt):
            open_both(bytes(mutated), secret)


@pytest.mark.parametrize("size_bytes", [0, 1, 127, 128, 4064, 4095])
def test_a_file_that_ends_within_copy_a_is_refused(
    size_bytes: int, header: bytes, keys: Keys
) -> None:
    """Without one whole copy there is no header."""
    with pytest.raises(Corrupt):
        open_header(header[:size_bytes], b"", keys.secrets[SlotKind.KEY_FILE])


def test_a_file_that_ends_within_copy_b_opens_by_copy_a(header: bytes, keys: Keys) -> None:
    """A cut copy B is a damaged copy; that the payload is gone is seen where it is read."""
    opened = open_header(header[:4096], header[4096:8000], keys.secrets[SlotKind.KEY_FILE])
    assert opened.valid == (True, False)


@settings(deadline=None, max_examples=200)
@given(raw=st.binary(min_size=0, max_size=64), at=st.integers(0, 4095))
def test_arbitrary_bytes_never_surprise(raw: bytes, at: int) -> None:
    """Whatever stands in a file, opening raises Corrupt or WrongKey and nothing else."""
    golden = bytes.fromhex(json.loads(GOLDEN.read_text(encoding="ascii"))["header"])
    mutated = (golden[:at] + raw + golden[at + len(raw) :])[:4096]
    for secret in (KeyFileSecret(bytes(32)), PrivateKeySecret(b"\x11" * 32)):
        with pytest.raises((Corrupt, WrongKey)):
            open_header(mutated, mutated, secret)


# Which copy, which key


@pytest.mark.parametrize("swapped", [False, True])
def test_the_highest_authentic_generation_is_believed(
    swapped: bool, header: bytes, keys: Keys
) -> None:
    """The newer copy wins wherever it stands, and the other is the next to be written."""
    a, b = header[:4096], header[4096:]
    opened = open_header(*((b, a) if swapped else (a, b)), keys.secrets[SlotKind.KEY_FILE])
    assert opened.header.generation == 3
    assert opened.header.chunk_count == 9
    assert opened.copy == (1 if swapped else 0)
    assert opened.valid == (True, True)
    assert opened.write_order == ((0, 1) if swapped else (1, 0))


def test_a_higher_generation_without_its_mac_is_not_believed(header: bytes, keys: Keys) -> None:
    """A forged generation number does not make a copy newer."""
    forged = HEADER_VECTORS["generation"].mutate(header, copies=(1,))
    forged = HEADER_VECTORS["generation"].mutate(forged, copies=(1,))
    opened = open_both(forged, keys.secrets[SlotKind.PUBLIC_KEY])
    assert (opened.copy, opened.header.generation) == (0, 3)


def test_equal_copies_are_told_as_copy_a(dek: bytes, keys: Keys) -> None:
    """Both copies of a new part are the same bytes, and B is then written first."""
    raw = new_header(core_bytes(), dek, keys.recipients)
    opened = open_header(raw, raw, keys.secrets[SlotKind.PASSWORD])
    assert (opened.copy, opened.write_order) == (0, (1, 0))


@pytest.mark.parametrize("other", list(SlotKind))
def test_a_foreign_key_is_a_wrong_key(other: SlotKind, header: bytes) -> None:
    """A key or password that no slot was made for gives WrongKey, also with a copy damaged."""
    foreign: dict[SlotKind, Secret] = {
        SlotKind.PASSWORD: PasswordSecret("correct horsf"),
        SlotKind.KEY_FILE: KeyFileSecret(os.urandom(32)),
        SlotKind.PUBLIC_KEY: PrivateKeySecret(os.urandom(32)),
    }
    damaged = HEADER_VECTORS["mac-first-byte"].mutate(header, copies=(0,))
    for headers in (header, damaged, HEADER_VECTORS["mac-first-byte"].mutate(header)):
        with pytest.raises(WrongKey):
            open_both(headers, foreign[other])


def test_a_data_key_opens_by_the_mac_alone(header: bytes, dek: bytes) -> None:
    """The supervisor's own key needs no slot; another data key finds no MAC that holds."""
    assert open_both(header, DataKeySecret(dek)).header.generation == 3
    with pytest.raises(Corrupt):
        open_both(header, DataKeySecret(os.urandom(32)))


def rotated(keys: Keys, dek: bytes, kind: SlotKind) -> tuple[bytes, bytes]:
    """A header before and after the slot of one kind was replaced."""
    before = new_header(core_bytes(), dek, keys.recipients)
    parsed = Header.parse(before)
    replacement: Recipient = KeyFileRecipient(b"n" * 32)
    new_slot = wrap_slot(replacement, dek, core_bytes())
    slots = [new_slot if slot.kind is kind else slot for slot in parsed.slots]
    return before, updated(parsed, dek, slots=slots)


@pytest.mark.parametrize("kind", list(SlotKind))
@pytest.mark.parametrize("stale_copy", [0, 1, None])
def test_a_key_from_before_a_rotation_is_refused(
    kind: SlotKind, stale_copy: int | None, keys: Keys, dek: bytes
) -> None:
    """A removed key does not open, not even while one stale copy still has its slot."""
    before, after = rotated(keys, dek, kind)
    copies = [after, after]
    if stale_copy is not None:
        copies[stale_copy] = before
    with pytest.raises(WrongKey):
        open_header(copies[0], copies[1], keys.secrets[kind])
    assert open_header(copies[0], copies[1], KeyFileSecret(b"n" * 32)).dek == dek


def test_a_new_key_is_enough_when_only_one_copy_has_it(keys: Keys, dek: bytes) -> None:
    """A crash between the two writes of a rotation leaves a part that the new key opens."""
    before, after = rotated(keys, dek, SlotKind.KEY_FILE)
    opened = open_header(before, after, KeyFileSecret(b"n" * 32))
    assert (opened.copy, opened.valid, opened.write_order) == (1, (True, True), (0, 1))


# Work a header may ask for


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts derivations instead of doing them: real ones would take minutes here."""
    asked: list[int] = []

    def count(password: str, salt: bytes, iterations: int) -> bytes:
        asked.append(iterations)
        return bytes(32)

    monkeypatch.setattr(slots_module, "derive_kek", count)
    return asked


def with_iterations(counts: list[int], dek: bytes, *, same_salt: bool = False) -> bytes:
    slots = [
        wrap_slot(
            PasswordRecipient(
                b"?" * 32, bytes(32) if same_salt else os.urandom(32), n, os.urandom(16)
            ),
            dek,
            core_bytes(),
        )
        for n in counts
    ]
    return Header(Core.parse(core_bytes()), 1, tuple(slots)).pack(dek)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10_000_000] * 16, [10_000_000] * 3),
        ([10_000_000, 10_000_000, 10_000_000, 2_000_000, 100_000], [10_000_000] * 3 + [2_000_000]),
        ([10_000_000, 10_000_000, 10_000_000, 2_000_001, 100_000], [10_000_000] * 3),
    ],
)
def test_a_file_cannot_ask_for_more_than_its_limit(
    counts: list[int], expected: list[int], derivations: list[int], dek: bytes
) -> None:
    """A reader stops at 32 million iterations, whatever cheaper slots come after."""
    raw = with_iterations(counts, dek)
    with pytest.raises(WrongKey):
        open_header(raw, raw, PasswordSecret("x"))
    assert derivations == expected
    assert sum(derivations) <= ITERATIONS_PER_FILE


def test_slots_that_share_a_salt_cost_one_derivation(derivations: list[int], dek: bytes) -> None:
    """Both copies, all slots of one salt, and the next part of the recording: one derivation."""
    secret = PasswordSecret("x")
    raw = with_iterations([600_000] * 5, dek, same_salt=True)
    for _ in range(2):
        with pytest.raises(WrongKey):
            open_header(raw, raw, secret)
    assert derivations == [600_000]


def test_the_newer_copy_is_tried_first(derivations: list[int], dek: bytes) -> None:
    """A stale copy's passwords cannot use up the limit before the current ones are tried."""
    stale = with_iterations([10_000_000] * 3, dek)
    fresh = Header.parse(with_iterations([5_000_000], dek))
    newer = Header(fresh.core, 2, fresh.slots).pack(dek)
    for copies in ((stale, newer), (newer, stale)):
        derivations.clear()
        with pytest.raises(WrongKey):
            open_header(*copies, PasswordSecret("x"))
        assert derivations[0] == 5_000_000


def test_no_header_is_written_that_a_reader_would_not_finish(dek: bytes) -> None:
    """Passwords that together exceed the reader's limit are refused when the header is made."""
    kek, salts = b"?" * 32, [os.urandom(32) for _ in range(4)]
    recipients = [PasswordRecipient(kek, salt, 10_000_000, os.urandom(16)) for salt in salts]
    new_header(core_bytes(), dek, recipients[:3])
    with pytest.raises(ConfigError):
        new_header(core_bytes(), dek, recipients)


# Values


def test_an_opened_header_shows_no_key(header: bytes, dek: bytes) -> None:
    """The repr of what open_header gives does not hold the data key."""
    shown = repr(open_both(header, DataKeySecret(dek)))
    assert repr(dek) not in shown
    assert dek.hex() not in shown


@settings(deadline=None)
@given(
    generation=st.integers(0, 2**32 - 1),
    state=st.sampled_from(State),
    counts=st.tuples(
        st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
    ),
    labels=st.lists(st.text(st.characters(exclude_characters="\0"), max_size=19), max_size=15),
)
def test_packing_and_parsing_are_inverse(
    generation: int, state: State, counts: tuple[int, int, int], labels: list[str]
) -> None:
    """Any header that can be packed is parsed to the same values and packs to the same bytes."""
    dek, kek = b"d" * 32, b"k" * 32
    slots = tuple(
        wrap_slot(KeyFileRecipient(kek, label.strip("\0")), dek, core_bytes())
        for label in ["", *labels]
    )
    header = Header(Core.parse(core_bytes()), generation, slots, state, *counts)
    raw = header.pack(dek)
    parsed = Header.parse(raw)
    assert parsed.pack(dek) == raw
    assert (parsed.slots, parsed.generation, parsed.state) == (slots, generation, state)
    assert (parsed.seal_chunk, parsed.chunk_count, parsed.payload_bytes) == counts


def test_the_mac_is_that_of_the_text(header: bytes, dek: bytes) -> None:
    """HMAC-SHA256 over bytes 0..4063 under HKDF-Expand-SHA512(dek, "SRV1 header mac", 32)."""
    key = hmac.new(dek, b"SRV1 header mac\x01", hashlib.sha512).digest()[:32]
    assert header[4064:4096] == hmac.new(key, header[:4064], hashlib.sha256).digest()
    assert struct.unpack_from(">I", header, 128) == (3,)
