"""Key slots: wrapping and unwrapping, checked against the text of FORMAT.md with other code."""

from __future__ import annotations

import hashlib
import hmac
import os
import unicodedata

import pytest
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container.core import new_core
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
    key_file_id,
    public_key_id,
)
from engine.container.slots import Slot, SlotKind, SlotOpener, wrap_slot
from ipc.errors import ConfigError, Corrupt, KeyFileError

CHEAP = 100_000
KEK = bytes(range(32))
DEK = bytes(range(100, 132))
PRIVATE = X25519PrivateKey.from_private_bytes(b"\x42" * 32)
PUBLIC = PRIVATE.public_key().public_bytes_raw()


def core(part_index: int = 0) -> bytes:
    return new_core(
        recording_id=b"recording-id-16b",
        part_index=part_index,
        created_unix_ms=1,
        previous_part=b"\x05" * 32 if part_index else bytes(32),
    )


def expand_sha512(key: bytes, info: bytes, size_bytes: int) -> bytes:
    """HKDF-Expand of RFC 5869, for at most one block."""
    return hmac.new(key, info + b"\x01", hashlib.sha512).digest()[:size_bytes]


def password_recipient(password: str) -> PasswordRecipient:
    salt = os.urandom(32)
    return PasswordRecipient(derive_kek(password, salt, CHEAP), salt, CHEAP, os.urandom(16))


PASSWORD = password_recipient("Grüße")
RECIPIENTS: dict[SlotKind, Recipient] = {
    SlotKind.PASSWORD: PASSWORD,
    SlotKind.KEY_FILE: KeyFileRecipient(KEK, "Saal 2"),
    SlotKind.PUBLIC_KEY: PublicKeyRecipient(PUBLIC),
}
SECRETS: dict[SlotKind, Secret] = {
    SlotKind.PASSWORD: PasswordSecret("Grüße"),
    SlotKind.KEY_FILE: KeyFileSecret(KEK),
    SlotKind.PUBLIC_KEY: PrivateKeySecret(PRIVATE.private_bytes_raw()),
}


# Against the text


def test_a_key_file_slot_is_what_the_text_says() -> None:
    """Layout, key id, wrap key and AAD of kind 2, unwrapped by offsets alone."""
    raw = wrap_slot(RECIPIENTS[SlotKind.KEY_FILE], DEK, core()).pack()
    assert len(raw) == 192
    assert raw[:8] == bytes([2, 1, 0, 0, 0, 0, 0, 0])
    assert raw[8:24] == hashlib.sha256(b"SRV1 key id\0" + KEK).digest()[:16]
    assert raw[24:56] == bytes(32)
    assert raw[116:] == b"Saal 2".ljust(76, b"\0")
    wrap_key = expand_sha512(KEK, b"SRV1 wrap\0" + core()[16:36], 32)
    aad = b"SRV1 slot\0" + core() + raw[0:56] + raw[116:192]
    assert AESGCM(wrap_key).decrypt(raw[56:68], raw[68:116], aad) == DEK


def test_a_password_slot_is_what_the_text_says() -> None:
    """Kind 1: PBKDF2-HMAC-SHA256 of the NFKC form, with the salt and iterations it carries."""
    raw = wrap_slot(PASSWORD, DEK, core()).pack()
    assert raw[:4] == bytes([1, 1, 0, 0])
    iterations = int.from_bytes(raw[4:8], "big")
    assert iterations == CHEAP
    assert raw[8:24] == PASSWORD.key_id
    typed = unicodedata.normalize("NFKC", "Grüße").encode()
    kek = hashlib.pbkdf2_hmac("sha256", typed, raw[24:56], iterations, 32)
    wrap_key = expand_sha512(kek, b"SRV1 wrap\0" + core()[16:36], 32)
    aad = b"SRV1 slot\0" + core() + raw[0:56] + raw[116:192]
    assert AESGCM(wrap_key).decrypt(raw[56:68], raw[68:116], aad) == DEK


def test_a_public_key_slot_is_what_the_text_says() -> None:
    """Kind 3: HPKE base mode with enc in the salt, its info bound to core, id and label."""
    raw = wrap_slot(RECIPIENTS[SlotKind.PUBLIC_KEY], DEK, core()).pack()
    assert raw[:8] == bytes([3, 1, 0, 0, 0, 0, 0, 0])
    assert raw[8:24] == hashlib.sha256(PUBLIC).digest()[:16]
    assert raw[56:68] == bytes(12)
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    info = b"SRV1 hpke\0" + core() + raw[0:24] + raw[116:192]
    assert suite.decrypt(raw[24:56] + raw[68:116], PRIVATE, info) == DEK


# Opening


@pytest.mark.parametrize("recipient", list(SlotKind))
@pytest.mark.parametrize("secret", list(SlotKind))
def test_each_slot_opens_with_its_own_secret_alone(recipient: SlotKind, secret: SlotKind) -> None:
    """A slot gives the data key to the secret of its recipient and None to every other."""
    slot = wrap_slot(RECIPIENTS[recipient], DEK, core())
    opened = SlotOpener(SECRETS[secret]).open_slot(slot, core())
    assert opened == (DEK if recipient is secret else None)


@pytest.mark.parametrize("kind", list(SlotKind))
def test_a_slot_opens_in_no_other_part(kind: SlotKind) -> None:
    """A slot moved to another part of the same recording does not open there."""
    slot = wrap_slot(RECIPIENTS[kind], DEK, core(0))
    assert SlotOpener(SECRETS[kind]).open_slot(slot, core(1)) is None


@pytest.mark.parametrize("kind", list(SlotKind))
def test_wrapping_twice_gives_other_bytes(kind: SlotKind) -> None:
    """Each slot has its own randomness, also for the same key, data key and core."""
    first, second = (wrap_slot(RECIPIENTS[kind], DEK, core()) for _ in range(2))
    assert first.wrapped_dek != second.wrapped_dek
    assert (first.iv, first.salt) != (second.iv, second.salt)


@pytest.mark.parametrize("kind", list(SlotKind))
def test_only_key_files_and_public_keys_have_an_id(kind: SlotKind) -> None:
    """is_named_by holds for the own slot of kinds 2 and 3, and for no other."""
    opener = SlotOpener(SECRETS[kind])
    named = {
        other for other in SlotKind if opener.is_named_by(wrap_slot(RECIPIENTS[other], DEK, core()))
    }
    assert named == ({kind} if kind is not SlotKind.PASSWORD else set())


def test_a_data_key_opens_and_names_no_slot() -> None:
    """DataKeySecret goes by the header's MAC, not by slots."""
    opener = SlotOpener(DataKeySecret(DEK))
    slot = wrap_slot(RECIPIENTS[SlotKind.KEY_FILE], DEK, core())
    assert opener.open_slot(slot, core()) is None
    assert not opener.is_named_by(slot)


@pytest.mark.parametrize(
    ("typed_then", "typed_now"),
    [
        ("Grüße", "Gru\u0308ße"),  # composed, decomposed
        ("\u2460 Å", "1 A\u030a"),  # compatibility forms
        ("ﬁn", "fin"),
    ],
)
def test_a_password_is_the_same_however_it_is_typed(typed_then: str, typed_now: str) -> None:
    """NFKC makes composed and decomposed input the same password, both ways."""
    assert typed_then != typed_now
    for one, other in ((typed_then, typed_now), (typed_now, typed_then)):
        slot = wrap_slot(password_recipient(one), DEK, core())
        assert SlotOpener(PasswordSecret(other)).open_slot(slot, core()) == DEK


def test_letter_case_and_spaces_of_a_password_count() -> None:
    """Nothing but NFKC is forgiven."""
    slot = wrap_slot(PASSWORD, DEK, core())
    for other in ("grüße", "Grüße ", "Grüsse", ""):
        assert SlotOpener(PasswordSecret(other)).open_slot(slot, core()) is None


@pytest.mark.parametrize("iterations", [0, 1, 99_999, 10_000_001, 2**32 - 1])
def test_iterations_are_checked_before_deriving(iterations: int) -> None:
    """Counts outside the bounds are refused without work; 2^32-1 would take ten minutes."""
    with pytest.raises(Corrupt):
        derive_kek("x", bytes(32), iterations)
    with pytest.raises(ConfigError):
        wrap_slot(PasswordRecipient(KEK, bytes(32), iterations, bytes(16)), DEK, core())


# Limits of the fields


@pytest.mark.parametrize("label", ["", "a" * 76, "ä" * 38, "患者記録" * 6])
def test_a_label_of_76_bytes_fits(label: str) -> None:
    """Labels up to 76 bytes of UTF-8 come back as written, without a terminating zero."""
    slot = wrap_slot(KeyFileRecipient(KEK, label), DEK, core())
    assert Slot.parse(slot.pack()).label == label


@pytest.mark.parametrize("label", ["a" * 77, "ä" * 39, "a\0b", "\0"])
def test_a_label_that_does_not_fit_is_refused(label: str) -> None:
    """Longer labels and NUL are refused, not cut."""
    with pytest.raises(ConfigError):
        wrap_slot(KeyFileRecipient(KEK, label), DEK, core())


@pytest.mark.parametrize("public_key", [bytes(32), b"\x01" + bytes(31)])
def test_a_public_key_that_agrees_on_nothing_is_refused(public_key: bytes) -> None:
    """Points of small order would wrap the data key for everyone; they are refused."""
    with pytest.raises(KeyFileError):
        wrap_slot(PublicKeyRecipient(public_key), DEK, core())


def test_an_enc_of_small_order_opens_nothing() -> None:
    """A slot whose enc is such a point is one that does not open, not an error of another kind."""
    slot = wrap_slot(RECIPIENTS[SlotKind.PUBLIC_KEY], DEK, core())
    forged = Slot.parse(slot.pack()[:24] + bytes(32) + slot.pack()[56:])
    assert SlotOpener(SECRETS[SlotKind.PUBLIC_KEY]).open_slot(forged, core()) is None


@settings(deadline=None)
@given(
    kind=st.sampled_from(list(SlotKind)),
    offset=st.integers(0, 191),
    bit=st.integers(0, 7),
)
def test_no_bit_of_a_slot_is_free(kind: SlotKind, offset: int, bit: int) -> None:
    """A slot with one bit changed is malformed or does not open; MAC and copies come on top."""
    raw = bytearray(wrap_slot(RECIPIENTS[kind], DEK, core()).pack())
    raw[offset] ^= 1 << bit
    if kind is SlotKind.PASSWORD and 4 <= offset < 56:
        return  # would derive; covered by the header vectors
    try:
        slot = Slot.parse(bytes(raw))
    except Corrupt:
        return
    assert SlotOpener(SECRETS[kind]).open_slot(slot, core()) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: KeyFileRecipient(b"k" * 31),
        lambda: KeyFileSecret(b"k" * 33),
        lambda: PrivateKeySecret(b""),
        lambda: PublicKeyRecipient(b"k" * 31),
        lambda: DataKeySecret(b"k" * 16),
        lambda: PasswordRecipient(KEK, b"s" * 16, CHEAP, bytes(16)),
        lambda: PasswordRecipient(KEK, b"s" * 32, CHEAP, bytes(15)),
        lambda: PasswordRecipient(b"k", b"s" * 32, CHEAP, bytes(16)),
    ],
)
def test_keys_of_another_size_are_refused(make: object) -> None:
    """A short key would be padded or stretched silently further down; it is refused here."""
    with pytest.raises(ConfigError):
        make()  # type: ignore[operator]


@pytest.mark.parametrize(
    "value",
    [
        PASSWORD,
        KeyFileRecipient(KEK),
        PublicKeyRecipient(PUBLIC),
        PasswordSecret("Grüße"),
        KeyFileSecret(KEK),
        PrivateKeySecret(PRIVATE.private_bytes_raw()),
        DataKeySecret(DEK),
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_show_nothing(value: Recipient | Secret) -> None:
    """repr, str and format of a key are its class name and nothing else."""
    if isinstance(value, PasswordSecret):
        SlotOpener(value).open_slot(wrap_slot(PASSWORD, DEK, core()), core())
        assert value.derived
    assert repr(value) == str(value) == f"{value}" == f"{type(value).__name__}()"


def test_key_ids_differ_between_kinds() -> None:
    """The same 32 bytes as key file and as public key have two ids."""
    assert key_file_id(PUBLIC) != public_key_id(PUBLIC)
