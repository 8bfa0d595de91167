"""Options of the commands that read: what opens a recording, which part, who else may open it.

Secrets come from files, inherited descriptors or a prompt, never from the command line itself.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ipc.errors import ConfigError, KeyFileError

if TYPE_CHECKING:
    from engine.container.recipients import Recipient, Secret

__all__ = [
    "KeyFile",
    "Label",
    "NewKeyFile",
    "NewPasswordFile",
    "NewPublicKey",
    "NewSignPassword",
    "PartNumber",
    "PasswordFile",
    "PrivateKey",
    "Recording",
    "read_new_password",
    "read_recipient",
    "read_secret",
]

PROMPT = "prompt"

Recording = Annotated[
    Path,
    typer.Argument(help="The recording: any of its parts.", metavar="FILE", show_default=False),
]
KeyFile = Annotated[
    str | None, typer.Option("--key-file", help="Key file that opens it, or fd:N.", metavar="F")
]
PasswordFile = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        help="Password that opens it: the first line of a file, fd:N, or 'prompt'.",
        metavar="F",
    ),
]
PrivateKey = Annotated[
    str | None,
    typer.Option("--private-key", help="Private key (PEM) that opens it, or fd:N.", metavar="F"),
]
PartNumber = Annotated[
    int | None, typer.Option("--part", min=0, help="This part only, counted from 0.", metavar="N")
]
NewKeyFile = Annotated[
    str | None, typer.Option("--new-key-file", help="Key file to let in.", metavar="F")
]
NewPasswordFile = Annotated[
    str | None,
    typer.Option(
        "--new-password-file", help="Password to let in: a file, fd:N, or 'prompt'.", metavar="F"
    ),
]
NewPublicKey = Annotated[
    str | None, typer.Option("--new-public-key", help="Public key (PEM) to let in.", metavar="F")
]
NewSignPassword = Annotated[
    str | None,
    typer.Option(
        "--password-file",
        help="Encrypt the private key: the first line of a file, fd:N, or 'prompt'.",
        metavar="F",
    ),
]
Label = Annotated[
    str,
    typer.Option("--label", help="Shown by `sealrec info` without a key; at most 76 bytes."),
]


def read_secret(key_file: str | None, password_file: str | None, private_key: str | None) -> Secret:
    """What opens a recording, from the three options; at a terminal without any, a password.

    Raises:
        ConfigError: not exactly one was given.
        KeyFileError: it cannot be used.
    """
    from engine import keys

    given = [option for option in (key_file, password_file, private_key) if option is not None]
    if not given and sys.stdin is not None and sys.stdin.isatty():
        password_file = PROMPT
    return keys.secret_from(key_file=key_file, password_file=password_file, private_key=private_key)


def read_recipient(
    key_file: str | None, password_file: str | None, public_key: str | None, label: str
) -> Recipient:
    """Who may open a recording from now on, from the three ``--new-`` options.

    Raises:
        ConfigError: not exactly one was given.
        KeyFileError: it cannot be used, or a typed password was not typed twice alike.
    """
    from engine import keys
    from engine.container.recipients import KeyFileRecipient, PublicKeyRecipient

    given = [option for option in (key_file, password_file, public_key) if option is not None]
    if len(given) != 1:
        raise ConfigError(
            f"One new key is needed; {len(given)} were given.",
            hint="Give one of --new-key-file, --new-password-file and --new-public-key.",
        )
    if key_file is not None:
        return KeyFileRecipient(keys.read_key_file(key_file), label)
    if public_key is not None:
        return PublicKeyRecipient(keys.read_public_key(public_key), label)
    return keys.password_recipient(read_new_password(given[0]), label=label)


def read_new_password(source: str) -> str:
    """A password that is set: read from its file or descriptor, or typed twice.

    Raises:
        KeyFileError: it cannot be used, or was not typed twice alike.
    """
    from engine import keys

    return _typed_twice() if source == PROMPT else keys.read_password(source)


def _typed_twice() -> str:
    password = getpass.getpass("New password: ")
    if getpass.getpass("Once more: ") != password:
        raise KeyFileError("The two passwords are not the same; nothing was changed.")
    return password
