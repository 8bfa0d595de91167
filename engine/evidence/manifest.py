"""The signed list of a package's files: as JSON that has one spelling, and its Ed25519 signature.

Source: EVIDENCE.md, "The manifest".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine.evidence.archive import MANIFEST, NAMES, SIGNATURE, Digest
from ipc.errors import Corrupt

__all__ = [
    "FORMAT",
    "LISTED",
    "MANIFEST_BYTES",
    "SIGNATURE_BYTES",
    "VERSION",
    "Listed",
    "Manifest",
    "as_pem",
    "fingerprint",
    "is_signed_by",
    "listed",
    "parse",
    "render",
]

FORMAT: Final = "sealrec evidence"
VERSION: Final = 1
LISTED: Final = tuple(name for name in NAMES if name not in (MANIFEST, SIGNATURE))
"""The files that a manifest lists, in order: all but itself and its signature."""
SIGNATURE_BYTES: Final = 64
MANIFEST_BYTES: Final = 65_536
"""A longer one is none."""


class Listed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file as the manifest has it."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is signed.

    Attributes:
        format: ``FORMAT``.
        version: ``VERSION``.
        created: When, UTC, ISO 8601.
        recording_id: 32 hex digits.
        signer: Fingerprint of the signer's public key.
        files: All of ``LISTED``, in order.
    """

    format: str
    version: int
    created: str
    recording_id: str
    signer: str
    files: tuple[Listed, ...]


def listed(digests: Sequence[Digest]) -> tuple[Listed, ...]:
    """The files of a manifest, from their digests in the order of ``LISTED``."""
    return tuple(
        Listed(name, digest.size_bytes, digest.sha256)
        for name, digest in zip(LISTED, digests, strict=True)
    )


def render(manifest: Manifest) -> bytes:
    """The manifest's bytes: one line a file, so that `sed` and `sha256sum` can read it."""
    fields = ("format", "version", "created", "recording_id", "signer")
    head = [f" {_text(name)}: {_text(getattr(manifest, name))}," for name in fields]
    rows = [
        f'  {{"sha256": {_text(f.sha256)}, "size": {f.size}, "name": {_text(f.name)}}}'
        for f in manifest.files
    ]
    return "\n".join(["{", *head, ' "files": [', ",\n".join(rows), " ]", "}", ""]).encode("utf-8")


def parse(data: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        Corrupt: not one of this version, in its one spelling, of all files.
    """
    if len(data) > MANIFEST_BYTES:
        raise Corrupt(f"{MANIFEST} is too long to be one.")
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise Corrupt(f"{MANIFEST} cannot be read.") from error
    if (manifest.format, manifest.version) != (FORMAT, VERSION):
        raise Corrupt(
            f"{MANIFEST} is of another format or version.",
            hint="Check the package with the sealrec that wrote it, or a newer one.",
        )
    if tuple(file.name for file in manifest.files) != LISTED or render(manifest) != data:
        raise Corrupt(f"{MANIFEST} does not list the files of a package as version 1 has them.")
    return manifest


def is_signed_by(key: Ed25519PublicKey, signature: bytes, data: bytes) -> bool:
    """Whether this key signed these bytes."""
    try:
        key.verify(signature, data)
    except InvalidSignature:
        return False
    return True


def fingerprint(key: Ed25519PublicKey) -> str:
    """What names a signer: SHA-256 of the key's SubjectPublicKeyInfo in DER, in hex."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return sha256(der).hexdigest()


def as_pem(key: Ed25519PublicKey) -> bytes:
    """The key as the package carries it."""
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=True)
