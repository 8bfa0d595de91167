"""Files that hold keys and passwords: reading them, and creating them once.

Key files (64 hex digits), passwords (first line of a file, an inherited descriptor or a prompt),
X25519 pairs and Ed25519 signing pairs as PEM. A secret is read only from what its owner alone can
open, and never taken from argv or the environment. What becomes of the bytes is ``keys``.

No secret is ever part of an exception of this module.
"""

from __future__ import annotations

import getpass
import os
import re
import secrets
import stat
import unicodedata
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from engine.container.recipients import KEY_BYTES, key_file_id, public_key_id
from ipc.errors import KeyFileError
from ipc.osdep import create_private, is_private, lock_in_memory, sync_directory

__all__ = [
    "Source",
    "checked_password",
    "key_of_line",
    "new_key_file",
    "new_key_pair",
    "new_sign_key",
    "private_key_of_pem",
    "read_key_file",
    "read_line",
    "read_password",
    "read_private_key",
    "read_public_key",
    "read_sign_key",
    "read_verify_key",
    "verify_key_of_pem",
]

PROMPT: Final = "prompt"
_DESCRIPTOR: Final = re.compile(r"fd:(\d{1,9})")
_KEY_LINE: Final = re.compile(rb"[0-9a-fA-F]{64}")
_LINE_BYTES: Final = 1024
_PEM_BYTES: Final = 16_384
_READ_FLAGS: Final = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NONBLOCK", 0)  # a FIFO given by mistake must be refused, not waited for
)

Source = str | os.PathLike[str]
"""A path, or ``fd:N`` for a descriptor that was inherited open."""


def read_key_file(source: Source) -> bytes:
    """Read the 32 bytes of a key file.

    Args:
        source: A file readable by its owner alone, or ``fd:N``.

    Raises:
        KeyFileError: missing, readable by others, or not 64 hex digits and a newline.

    Source: FORMAT.md, "A key file".
    """
    return key_of_line(read_line(source), source)


def key_of_line(line: bytes, source: Source) -> bytes:
    """The 32 bytes of a key from the first line of its file.

    Args:
        line: Without its line end.
        source: How a message names it.

    Raises:
        KeyFileError: not 64 hex digits.
    """
    if not _KEY_LINE.fullmatch(line):
        raise KeyFileError(
            f"{source} is not a key file: 64 hex digits and a newline.",
            hint="Make one with `sealrec keys new FILE`; PEM files go with --public-key or "
            "--private-key.",
        )
    kek = bytes.fromhex(line.decode("ascii"))
    lock_in_memory(kek)
    return kek


def read_password(source: Source) -> str:
    """Read a password: the first line, in NFKC.

    Args:
        source: A file readable by its owner alone, ``fd:N`` (an inherited descriptor, read up to
            the first newline and left open, so that two passwords may follow each other), or
            ``prompt``. On Windows N is a descriptor of the C runtime, such as 0.

    Returns:
        The normalised password, never empty.

    Raises:
        KeyFileError: missing, readable by others, empty, too long or not UTF-8.
    """
    if source == PROMPT:
        return checked_password(getpass.getpass("Password: "), "The password")
    text = _decoded(read_line(source))
    if text is None:
        raise KeyFileError(
            f"The password in {source} is not UTF-8.", hint="Save the file as UTF-8."
        )
    return checked_password(text, f"The password in {source}")


def read_public_key(source: Source) -> bytes:
    """Read an X25519 public key from PEM (SubjectPublicKeyInfo): 32 raw bytes.

    Anyone may read such a file, so its mode is not looked at.

    Raises:
        KeyFileError: missing, not such a PEM, or a key that X25519 cannot use.
    """
    pem = _read_all(source, owner_only=False)
    try:
        key = serialization.load_pem_public_key(pem)
        if not isinstance(key, X25519PublicKey):
            raise ValueError
        X25519PrivateKey.generate().exchange(key)  # refuses the points of small order
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{source} is not an X25519 public key in PEM.",
            hint="Make a pair with `sealrec keys pair`.",
        ) from None
    return key.public_bytes_raw()


def read_private_key(source: Source) -> bytes:
    """Read an X25519 private key from unencrypted PEM (PKCS8): 32 raw bytes.

    Args:
        source: A file readable by its owner alone, or ``fd:N``, read to its end.

    Raises:
        KeyFileError: missing, readable by others, or not such a PEM.
    """
    return private_key_of_pem(_read_all(source, owner_only=True), source)


def private_key_of_pem(pem: bytes, source: Source) -> bytes:
    """The 32 raw bytes of a private key.

    Args:
        pem: PKCS8, not encrypted.
        source: How a message names it.

    Raises:
        KeyFileError: not such a PEM.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
        if not isinstance(key, X25519PrivateKey):
            raise ValueError
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{source} is not an unencrypted X25519 private key in PEM.",
            hint="Make a pair with `sealrec keys pair`.",
        ) from None
    raw = key.private_bytes_raw()
    lock_in_memory(raw)
    return raw


def read_line(source: Source) -> bytes:
    """The first line of a file that its owner alone may read, without its line end.

    Args:
        source: Such a file, or ``fd:N``, read up to the first newline.

    Raises:
        KeyFileError: missing, readable by others, or a line longer than 1024 bytes.
    """
    descriptor = _descriptor_of(source)
    if descriptor is None:
        data = _read_file(Path(source), _LINE_BYTES + 1, owner_only=True)
    else:
        data = _read_descriptor(descriptor, _LINE_BYTES + 1, until_newline=True)
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if len(line) > _LINE_BYTES:
        raise KeyFileError(f"The first line of {source} is longer than {_LINE_BYTES} bytes.")
    return line


def checked_password(text: str, what: str) -> str:
    """The NFKC form of a password.

    Args:
        text: As typed or read.
        what: How a message names it.

    Raises:
        KeyFileError: nothing but spaces, or what is no text (typed in another encoding).
    """
    password = unicodedata.normalize("NFKC", text)
    if not _is_utf8(password):
        raise KeyFileError(f"{what} is not UTF-8.", hint="Set the terminal or the file to UTF-8.")
    if not password.strip():
        raise KeyFileError(f"{what} is empty.", hint="Put it on the first line.")
    return password


def new_key_file(path: Path) -> bytes:
    """Create a key file with 32 random bytes, readable by its owner alone and durable.

    Returns:
        The 16-byte key id by which slots name it.

    Raises:
        KeyFileError: the file exists (it is never overwritten) or cannot be written.
    """
    kek = secrets.token_bytes(KEY_BYTES)
    _create(path, kek.hex().encode() + b"\n", owner_only=True)
    return key_file_id(kek)


def new_key_pair(private_path: Path, public_path: Path) -> bytes:
    """Create an X25519 pair: a private PEM for the owner alone, a public PEM for everyone.

    Returns:
        The 16-byte key id by which slots name the public key.

    Raises:
        KeyFileError: one of the files exists (none is overwritten) or cannot be written. Then
            neither was made.
    """
    key = X25519PrivateKey.generate()
    _create_pair(key, private_path, public_path)
    return public_key_id(key.public_key().public_bytes_raw())


def new_sign_key(private_path: Path, public_path: Path, password: str = "") -> Ed25519PublicKey:
    """Create an Ed25519 pair for signing: files as those of ``new_key_pair``.

    Args:
        private_path: The private key's.
        public_path: The public key's.
        password: Encrypts the private key (PKCS8); empty leaves that to the file's mode.

    Raises:
        KeyFileError: see ``new_key_pair``.
    """
    key = Ed25519PrivateKey.generate()
    _create_pair(key, private_path, public_path, password)
    return key.public_key()


def read_sign_key(source: Source, password: str = "") -> Ed25519PrivateKey:
    """Read an Ed25519 private key from PEM (PKCS8).

    Args:
        source: A file readable by its owner alone, or ``fd:N``, read to its end.
        password: What it is encrypted with; empty if it is not.

    Raises:
        KeyFileError: missing, readable by others, not such a PEM, or another password.
    """
    pem = _read_all(source, owner_only=True)
    try:
        key = serialization.load_pem_private_key(pem, password.encode() or None)
    except TypeError:  # a password is missing, or too many
        needed = "needs its password" if not password else "has no password"
        raise KeyFileError(f"{source} {needed}.", hint="See --sign-password-file.") from None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(
            f"{source} is not an Ed25519 private key in PEM, or has another password.",
            hint="Make one with `sealrec keys sign-key`.",
        )
    return key


def read_verify_key(source: Source) -> Ed25519PublicKey:
    """Read an Ed25519 public key from PEM (SubjectPublicKeyInfo); anyone may read the file.

    Raises:
        KeyFileError: missing, or not such a PEM.
    """
    return verify_key_of_pem(_read_all(source, owner_only=False), source)


def verify_key_of_pem(pem: bytes, source: Source) -> Ed25519PublicKey:
    """The Ed25519 public key in a PEM.

    Args:
        pem: SubjectPublicKeyInfo.
        source: How a message names it.

    Raises:
        KeyFileError: not such a PEM.
    """
    try:
        key = serialization.load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(
            f"{source} is not an Ed25519 public key in PEM.",
            hint="`sealrec keys sign-key` makes it, beside the private key.",
        )
    return key


def _create_pair(
    key: X25519PrivateKey | Ed25519PrivateKey,
    private_path: Path,
    public_path: Path,
    password: str = "",
) -> None:
    """Create the two PEM files of a pair, or neither."""
    locked: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        locked = serialization.BestAvailableEncryption(password.encode())
    private_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked
    )
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _create(private_path, private_pem, owner_only=True)
    try:
        _create(public_path, public_pem, owner_only=False)
    except KeyFileError:
        private_path.unlink()
        raise


def _is_utf8(text: str) -> bool:
    # Not the error itself: it carries the text, here a password.
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decoded(line: bytes) -> str | None:
    # None instead of the error: a UnicodeDecodeError carries the bytes, here a password.
    try:
        return line.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None


def _read_all(source: Source, *, owner_only: bool) -> bytes:
    descriptor = _descriptor_of(source)
    if descriptor is None:
        return _read_file(Path(source), _PEM_BYTES, owner_only=owner_only)
    return _read_descriptor(descriptor, _PEM_BYTES, until_newline=False)


def _descriptor_of(source: Source) -> int | None:
    match = _DESCRIPTOR.fullmatch(os.fspath(source))
    return int(match[1]) if match else None


def _read_descriptor(fd: int, limit: int, *, until_newline: bool) -> bytes:
    data = bytearray()
    try:
        while len(data) < limit and (part := os.read(fd, 1 if until_newline else limit)):
            data += part
            if until_newline and part == b"\n":
                break
    except OSError as error:
        raise KeyFileError(f"fd:{fd} cannot be read: {error.strerror}.") from None
    return bytes(data)


def _read_file(path: Path, limit: int, *, owner_only: bool) -> bytes:
    try:
        fd = os.open(path, _READ_FLAGS)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path} is not a file.", hint="Give a pipe as fd:N.")
        # Looked at while open, so that it cannot be another file than the one that is read.
        if owner_only and not (is_private(path) and os.path.samestat(status, os.stat(path))):
            raise KeyFileError(
                f"{path} can be opened by others than its owner.", hint=f"Run: chmod 600 {path}"
            )
        return os.read(fd, limit)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}.") from None
    finally:
        os.close(fd)


def _create(path: Path, content: bytes, *, owner_only: bool) -> None:
    try:
        if owner_only:
            fd = create_private(path, os.O_WRONLY)
        else:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    except FileExistsError:
        raise KeyFileError(
            f"{path} exists already; a key file is never overwritten.", hint="Give another name."
        ) from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be created: {error.strerror}.") from None
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise KeyFileError(f"{path} cannot be written: {error.strerror}.") from None
