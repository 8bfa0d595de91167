"""Keys and passwords of a recording: who may open it, and what opens it.

The one place the rest of the program asks: the files themselves are ``key_files``, changing the
keys of finished recordings is ``container.rewrap``, slots are ``container.slots``; what a caller
needs of the first two is exported here as well.

No secret is ever part of an exception, a repr or a log line of this module.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Final

from engine.container.recipients import (
    ITERATIONS_ACCEPTED,
    KeyFileRecipient,
    KeyFileSecret,
    PasswordRecipient,
    PasswordSecret,
    PrivateKeySecret,
    PublicKeyRecipient,
    Recipient,
    Secret,
    derive_kek,
    recipient_id,
)
from engine.container.rewrap import RewrappedPart, add_slot, remove_slot, rotate
from engine.container.slots import Slot
from engine.key_files import (
    Source,
    checked_password,
    new_key_file,
    new_key_pair,
    new_sign_key,
    read_key_file,
    read_password,
    read_private_key,
    read_public_key,
)
from ipc.errors import ConfigError
from ipc.osdep import lock_in_memory

__all__ = [
    "ITERATIONS_WRITTEN",
    "RewrappedPart",
    "add_slot",
    "find_key_id",
    "new_key_file",
    "new_key_pair",
    "new_sign_key",
    "password_recipient",
    "read_key_file",
    "read_password",
    "read_private_key",
    "read_public_key",
    "recipients_from",
    "remove_slot",
    "rotate",
    "secret_from",
]

ITERATIONS_WRITTEN: Final = 600_000
"""PBKDF2 iterations of a new password, and the least that is written."""


def password_recipient(
    password: str, *, iterations: int = ITERATIONS_WRITTEN, label: str = ""
) -> PasswordRecipient:
    """Derive a password once, under a fresh salt and key id (about 70 ms).

    Args:
        password: As typed; NFKC is applied.
        iterations: 600,000 to 10,000,000.
        label: Shown by ``info`` without a key, at most 76 bytes.

    Raises:
        ConfigError: too few or too many iterations.
        KeyFileError: an empty password.
    """
    if not ITERATIONS_WRITTEN <= iterations < ITERATIONS_ACCEPTED.stop:
        raise ConfigError(f"{iterations} iterations are outside 600,000..10,000,000.")
    checked = checked_password(password, "The password")
    salt = secrets.token_bytes(32)
    kek = derive_kek(checked, salt, iterations)
    lock_in_memory(kek)
    return PasswordRecipient(kek, salt, iterations, secrets.token_bytes(16), label)


def recipients_from(
    *,
    key_files: Sequence[Source] = (),
    password_files: Sequence[Source] = (),
    public_keys: Sequence[Source] = (),
) -> list[Recipient]:
    """Who may open a recording, from the options of the command line.

    Args:
        key_files: Key files, or ``fd:N``.
        password_files: Sources for ``read_password``.
        public_keys: PEM files.

    Returns:
        One recipient each, in this order, at least one.

    Raises:
        ConfigError: none was given, or the same key twice.
        KeyFileError: one of them cannot be used.
    """
    files: list[Recipient] = [KeyFileRecipient(read_key_file(s)) for s in key_files]
    publics: list[Recipient] = [PublicKeyRecipient(read_public_key(s)) for s in public_keys]
    passwords: list[Recipient] = [password_recipient(read_password(s)) for s in password_files]
    recipients = [*files, *passwords, *publics]
    if not recipients:
        raise ConfigError(
            "A recording needs a key: without one nobody could open it.",
            hint="Give --key-file, --password-file or --public-key.",
        )
    if len({recipient_id(r) for r in (*files, *publics)}) < len(files) + len(publics):
        raise ConfigError("The same key is given twice.")
    return recipients


def secret_from(
    *,
    key_file: Source | None = None,
    password_file: Source | None = None,
    private_key: Source | None = None,
) -> Secret:
    """What opens a recording, from the options of the command line.

    Raises:
        ConfigError: not exactly one was given.
        KeyFileError: it cannot be used.
    """
    given = [s for s in (key_file, password_file, private_key) if s is not None]
    if len(given) != 1:
        raise ConfigError(
            f"One key opens a recording; {len(given)} were given.",
            hint="Give one of --key-file, --password-file and --private-key.",
        )
    if key_file is not None:
        return KeyFileSecret(read_key_file(key_file))
    if password_file is not None:
        return PasswordSecret(read_password(password_file))
    return PrivateKeySecret(read_private_key(given[0]))


def find_key_id(slots: Iterable[Slot], text: str) -> bytes:
    """The key id that a person means by a label or by the first digits of an id.

    Args:
        slots: The slots of one header.
        text: A whole label, or 4 or more hex digits that begin an id.

    Raises:
        ConfigError: no slot fits, or several different ones.
    """
    wanted = text.lower()
    fits = {
        slot.key_id
        for slot in slots
        if slot.label == text or (len(wanted) >= 4 and slot.key_id.hex().startswith(wanted))
    }
    if len(fits) != 1:
        raise ConfigError(
            f"{len(fits)} keys of this recording fit {text!r}.",
            hint="`sealrec info FILE` lists ids and labels.",
        )
    return fits.pop()
