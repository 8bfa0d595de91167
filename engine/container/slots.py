"""Header slots: the data key of a recording, wrapped once for each who may open it.

One slot of 192 bytes connects a recipient with the secret that opens it (both are values of
``recipients``). FORMAT.md, "Slot", has the layout and the three kinds.

A slot is well formed when every field the table of FORMAT.md fixes has that value: kind 1, 2 or 3
(another kind would be another format version), wrap 1, flags 0, iterations within the accepted
bounds for a password, salt zeros for a key file, iv zeros for a public key, label UTF-8 followed by
zeros alone. What FORMAT.md leaves open (iterations of kinds 2 and 3) is written as 0 and read as
any, since the slot's own authentication covers it.
"""

from __future__ import annotations

import hmac
import os
import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from engine.container.recipients import (
    ITERATIONS_ACCEPTED,
    KEY_BYTES,
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
    recipient_id,
)
from ipc.errors import ConfigError, Corrupt, KeyFileError

__all__ = [
    "ITERATIONS_PER_FILE",
    "LABEL_BYTES",
    "SLOT_BYTES",
    "Slot",
    "SlotKind",
    "SlotOpener",
    "wrap_slot",
]

SLOT_BYTES: Final = 192
LABEL_BYTES: Final = 76
ITERATIONS_PER_FILE: Final = 32_000_000

_WRAP_DIRECT: Final = 1
_ENC_BYTES: Final = 32
_SALT_BYTES: Final = 32
_IV_BYTES: Final = 12
_WRAPPED_BYTES: Final = 48
_IDENTITY: Final = slice(16, 36)  # recording_id and part_index within the core
_DERIVED_KEPT: Final = 16
_LAYOUT: Final = struct.Struct(">BBHI16s32s12s48s76s")
_SUITE: Final = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)


class SlotKind(IntEnum):
    """What opens a slot."""

    PASSWORD = 1
    KEY_FILE = 2
    PUBLIC_KEY = 3


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot as stored; all of it is public.

    Attributes:
        kind: What opens it.
        iterations: PBKDF2 iterations; 0 for kinds 2 and 3.
        key_id: 16 bytes naming the key.
        salt: 32 bytes: PBKDF2 salt, zeros, or the HPKE ``enc``.
        iv: 12 bytes; zeros for kind 3.
        wrapped_dek: 48 bytes.
        label: At most 76 bytes of UTF-8.
    """

    kind: SlotKind
    iterations: int
    key_id: bytes
    salt: bytes
    iv: bytes
    wrapped_dek: bytes
    label: str

    def pack(self) -> bytes:
        """The 192 bytes of FORMAT.md."""
        return _LAYOUT.pack(
            self.kind,
            _WRAP_DIRECT,
            0,
            self.iterations,
            self.key_id,
            self.salt,
            self.iv,
            self.wrapped_dek,
            self.label.encode(),
        )

    @classmethod
    def parse(cls, raw: bytes) -> Slot:
        """Read 192 bytes.

        Raises:
            Corrupt: not a well-formed slot (module docstring).

        Source: FORMAT.md, "Slot".
        """
        kind, wrap, flags, iterations, key_id, salt, iv, wrapped, padded = _LAYOUT.unpack(raw)
        if kind not in iter(SlotKind) or wrap != _WRAP_DIRECT or flags != 0:
            raise Corrupt("A key slot has a kind, wrap or flags that format version 1 lacks.")
        if kind == SlotKind.PASSWORD and iterations not in ITERATIONS_ACCEPTED:
            raise Corrupt("A password slot asks for an iteration count outside the bounds.")
        if kind == SlotKind.KEY_FILE and any(salt):
            raise Corrupt("A key-file slot has a salt.")
        if kind == SlotKind.PUBLIC_KEY and any(iv):
            raise Corrupt("A public-key slot has an iv.")
        label = _parse_label(padded)
        return cls(SlotKind(kind), iterations, key_id, salt, iv, wrapped, label)


class SlotOpener:
    """Tries one secret on the slots of one file, within the file's limit of PBKDF2 work.

    Args:
        secret: What the reader holds. A ``DataKeySecret`` opens no slot and names none.

    Source: FORMAT.md, "iterations" and "Rules of reading".
    """

    def __init__(self, secret: Secret) -> None:
        self._secret = secret
        self._iterations_left = ITERATIONS_PER_FILE

    def open_slot(self, slot: Slot, core: bytes) -> bytes | None:
        """Unwrap the data key.

        Args:
            slot: A well-formed slot.
            core: The 128 bytes of the header copy that holds the slot.

        Returns:
            The 32-byte data key, or None when this secret does not open the slot.
        """
        secret = self._secret
        if isinstance(secret, PasswordSecret) and slot.kind is SlotKind.PASSWORD:
            kek = self._derived_kek(secret, slot)
            return None if kek is None else _open_direct(slot, kek, core)
        if isinstance(secret, KeyFileSecret) and slot.kind is SlotKind.KEY_FILE:
            return _open_direct(slot, secret.kek, core)
        if isinstance(secret, PrivateKeySecret) and slot.kind is SlotKind.PUBLIC_KEY:
            return _open_hpke(slot, secret.private_key, core)
        return None

    def is_named_by(self, slot: Slot) -> bool:
        """Whether a kind 2 or 3 slot carries this secret's key id.

        Such a slot that does not open is damage, not a wrong key. A password has no id.
        """
        match self._secret:
            case KeyFileSecret(kek=kek):
                own = key_file_id(kek)
            case PrivateKeySecret(private_key=raw):
                public = X25519PrivateKey.from_private_bytes(raw).public_key()
                own = public_key_id(public.public_bytes_raw())
            case _:
                return False
        return slot.kind != SlotKind.PASSWORD and hmac.compare_digest(own, slot.key_id)

    def _derived_kek(self, secret: PasswordSecret, slot: Slot) -> bytes | None:
        known = (slot.salt, slot.iterations)
        if known in secret.derived:
            return secret.derived[known]
        if slot.iterations > self._iterations_left:
            # Stop for good: a cheaper slot behind this one must not be tried either.
            self._iterations_left = 0
            return None
        self._iterations_left -= slot.iterations
        kek = derive_kek(secret.password, slot.salt, slot.iterations)
        while len(secret.derived) >= _DERIVED_KEPT:
            del secret.derived[next(iter(secret.derived))]
        secret.derived[known] = kek
        return kek


def wrap_slot(recipient: Recipient, dek: bytes, core: bytes) -> Slot:
    """Wrap a data key for one recipient.

    Args:
        recipient: Who may open the recording.
        dek: 32 bytes.
        core: The 128 bytes of the part's core; the slot opens in no other part.

    Raises:
        ConfigError: a label longer than 76 bytes, or iterations outside the bounds.
        KeyFileError: a public key that no key agreement accepts.

    Source: FORMAT.md, "Slot" and the paragraphs under it.
    """
    _check_label(recipient.label)
    kind, iterations, salt = SlotKind.KEY_FILE, 0, bytes(_SALT_BYTES)
    if isinstance(recipient, PublicKeyRecipient):
        kind = SlotKind.PUBLIC_KEY
    elif isinstance(recipient, PasswordRecipient):
        kind, iterations, salt = SlotKind.PASSWORD, recipient.iterations, recipient.salt
        if iterations not in ITERATIONS_ACCEPTED:
            raise ConfigError(f"{iterations} iterations are outside 100,000..10,000,000.")
    blank = Slot(
        kind=kind,
        iterations=iterations,
        key_id=recipient_id(recipient),
        salt=salt,
        iv=bytes(_IV_BYTES),
        wrapped_dek=bytes(_WRAPPED_BYTES),
        label=recipient.label,
    )
    if isinstance(recipient, PublicKeyRecipient):
        return _fill_hpke(blank, recipient.public_key, dek, core)
    return _fill_direct(blank, recipient.kek, dek, core)


def _fill_direct(blank: Slot, kek: bytes, dek: bytes, core: bytes) -> Slot:
    iv = os.urandom(_IV_BYTES)
    wrapped = AESGCM(_wrap_key(kek, core)).encrypt(iv, dek, _direct_aad(blank, core))
    return replace(blank, iv=iv, wrapped_dek=wrapped)


def _fill_hpke(blank: Slot, public_key: bytes, dek: bytes, core: bytes) -> Slot:
    try:
        key = X25519PublicKey.from_public_bytes(public_key)
        sealed = _SUITE.encrypt(dek, key, _hpke_info(blank, core))
    except ValueError:
        raise KeyFileError(
            "A public key is not usable for X25519.", hint="Make a new pair: sealrec keys pair."
        ) from None
    return replace(blank, salt=sealed[:_ENC_BYTES], wrapped_dek=sealed[_ENC_BYTES:])


def _open_direct(slot: Slot, kek: bytes, core: bytes) -> bytes | None:
    try:
        aead = AESGCM(_wrap_key(kek, core))
        return aead.decrypt(slot.iv, slot.wrapped_dek, _direct_aad(slot, core))
    except InvalidTag:
        return None


def _open_hpke(slot: Slot, private_key: bytes, core: bytes) -> bytes | None:
    key = X25519PrivateKey.from_private_bytes(private_key)
    try:
        return _SUITE.decrypt(slot.salt + slot.wrapped_dek, key, _hpke_info(slot, core))
    except (InvalidTag, ValueError):
        return None


def _wrap_key(kek: bytes, core: bytes) -> bytes:
    info = b"SRV1 wrap\0" + core[_IDENTITY]
    return HKDFExpand(hashes.SHA512(), KEY_BYTES, info).derive(kek)


def _direct_aad(slot: Slot, core: bytes) -> bytes:
    raw = slot.pack()
    return b"SRV1 slot\0" + core + raw[:56] + raw[116:]


def _hpke_info(slot: Slot, core: bytes) -> bytes:
    raw = slot.pack()
    return b"SRV1 hpke\0" + core + raw[:24] + raw[116:]


def _check_label(label: str) -> None:
    # A name given in another encoding has characters that UTF-8 has not; "?" stands for them here.
    size = len(label.encode(errors="replace"))
    if size > LABEL_BYTES or "\0" in label or label.encode(errors="ignore").decode() != label:
        raise ConfigError(
            f"A key label of {size} bytes does not fit.",
            hint=f"Use at most {LABEL_BYTES} bytes of UTF-8 without NUL.",
        )


def _parse_label(padded: bytes) -> str:
    label = padded.rstrip(b"\0")
    try:
        text = label.decode()
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise Corrupt("A key slot has a label that is not zero-padded UTF-8.")
    return text
