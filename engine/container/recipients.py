"""Who may open a recording, and what opens it: recipients while recording, secrets while reading.

Values only; a slot of the header (``slots``) connects a recipient with a secret, and
``engine.keys`` makes both from files. None of them shows anything in its repr.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC

from ipc.errors import ConfigError, Corrupt

__all__ = [
    "ITERATIONS_ACCEPTED",
    "KEY_BYTES",
    "DataKeySecret",
    "KeyFileRecipient",
    "KeyFileSecret",
    "PasswordRecipient",
    "PasswordSecret",
    "PrivateKeySecret",
    "PublicKeyRecipient",
    "Recipient",
    "Secret",
    "derive_kek",
    "key_file_id",
    "public_key_id",
    "recipient_id",
]

KEY_BYTES: Final = 32
ITERATIONS_ACCEPTED: Final = range(100_000, 10_000_001)
"""PBKDF2 iterations a reader spends on one password; checked before deriving."""

_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, eq=False)
class PasswordRecipient:
    """A password, already derived: the engine keeps the KEK, never the password.

    Attributes:
        kek: 32 bytes, PBKDF2 of the password under ``salt`` and ``iterations``.
        salt: 32 bytes, drawn once per password entry.
        iterations: PBKDF2 iterations, within ``ITERATIONS_ACCEPTED``.
        key_id: 16 random bytes per password change.
        label: What ``info`` shows, at most 76 bytes of UTF-8. Public.
    """

    kek: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    iterations: int = field(repr=False)
    key_id: bytes = field(repr=False)
    label: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_size(self.kek)
        _check_size(self.salt)
        if len(self.key_id) != _ID_BYTES:
            raise ConfigError(f"A key id has {_ID_BYTES} bytes, not {len(self.key_id)}.")


@dataclass(frozen=True, slots=True, eq=False)
class KeyFileRecipient:
    """The 32 bytes of a key file, with a public label."""

    kek: bytes = field(repr=False)
    label: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_size(self.kek)


@dataclass(frozen=True, slots=True, eq=False)
class PublicKeyRecipient:
    """A raw X25519 public key (32 bytes), with a public label."""

    public_key: bytes = field(repr=False)
    label: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        _check_size(self.public_key)


@dataclass(frozen=True, slots=True, eq=False)
class PasswordSecret:
    """A password as typed; NFKC is applied when a key is derived from it.

    Derived keys are remembered, so that the parts of a recording that share a salt cost one
    derivation together.
    """

    password: str = field(repr=False)
    derived: dict[tuple[bytes, int], bytes] = field(default_factory=dict, init=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class KeyFileSecret:
    """The 32 bytes of a key file."""

    kek: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_size(self.kek)


@dataclass(frozen=True, slots=True, eq=False)
class PrivateKeySecret:
    """A raw X25519 private key (32 bytes)."""

    private_key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_size(self.private_key)


@dataclass(frozen=True, slots=True, eq=False)
class DataKeySecret:
    """The data key itself (32 bytes): opens by the header's MAC alone, without a slot."""

    dek: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_size(self.dek)


Recipient = PasswordRecipient | KeyFileRecipient | PublicKeyRecipient
Secret = PasswordSecret | KeyFileSecret | PrivateKeySecret | DataKeySecret


def derive_kek(password: str, salt: bytes, iterations: int) -> bytes:
    """PBKDF2-HMAC-SHA256 of the NFKC form of a password: 32 bytes.

    Raises:
        Corrupt: ``iterations`` outside ``ITERATIONS_ACCEPTED``; nothing was derived.

    Source: FORMAT.md, slot kind 1.
    """
    if iterations not in ITERATIONS_ACCEPTED:
        raise Corrupt("A password slot asks for an iteration count outside the bounds.")
    typed = unicodedata.normalize("NFKC", password).encode()
    return PBKDF2HMAC(hashes.SHA256(), KEY_BYTES, salt, iterations).derive(typed)


def key_file_id(kek: bytes) -> bytes:
    """The 16-byte key id of a key file."""
    return _sha256(b"SRV1 key id\0" + kek)[:_ID_BYTES]


def public_key_id(public_key: bytes) -> bytes:
    """The 16-byte key id of a raw X25519 public key."""
    return _sha256(public_key)[:_ID_BYTES]


def recipient_id(recipient: Recipient) -> bytes:
    """The 16-byte key id that the recipient's slot carries."""
    match recipient:
        case PasswordRecipient(key_id=key_id):
            return key_id
        case KeyFileRecipient(kek=kek):
            return key_file_id(kek)
        case PublicKeyRecipient(public_key=public_key):
            return public_key_id(public_key)


def _check_size(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise ConfigError(f"A key has {KEY_BYTES} bytes, not {len(key)}.")


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
