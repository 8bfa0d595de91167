"""`sealrec keys`: make keys, and change who can open a finished recording.

`sealrec info FILE` lists the keys of a recording with the ids by which `remove` knows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.key_options import (
    KeyFile,
    Label,
    NewKeyFile,
    NewPasswordFile,
    NewPublicKey,
    PasswordFile,
    PrivateKey,
    Recording,
    read_recipient,
    read_secret,
)
from engine.cli.output import AsJson, print_json
from engine.cli.read import show_line
from engine.reading.selection import select_parts

if TYPE_CHECKING:
    from engine.container.rewrap import RewrappedPart

__all__ = ["app"]

NOT_REVOKED = (
    "Whoever kept an older copy of the file or its header, or the data key itself, can still open "
    "the recording with the old key: removing a key revokes nothing."
)

app = typer.Typer(help="Make keys, and change who can open a recording.", no_args_is_help=True)


@app.command("new")
def new(
    path: Annotated[Path, typer.Argument(help="The key file to make.", metavar="FILE")],
    as_json: AsJson = False,
) -> int:
    """Make a key file: 32 random bytes, readable by its owner alone. Keep a copy of it."""
    from engine.keys import new_key_file

    key_id = new_key_file(path).hex()
    if as_json:
        print_json({"path": str(path), "key_id": key_id})
    else:
        show_line(f"{path}: key {key_id}. Without it, what it seals is lost: keep a copy.")
    return 0


@app.command("pair")
def pair(
    private: Annotated[Path, typer.Argument(help="The private key to make.", metavar="PRIVATE")],
    public: Annotated[Path, typer.Argument(help="The public key to make.", metavar="PUBLIC")],
    as_json: AsJson = False,
) -> int:
    """Make an X25519 pair: the public key records, the private key opens.

    With the public key alone the recording machine cannot read back what it recorded.
    """
    from engine.keys import new_key_pair

    key_id = new_key_pair(private, public).hex()
    if as_json:
        print_json({"private": str(private), "public": str(public), "key_id": key_id})
    else:
        show_line(f"{public}: key {key_id}. {private} opens what it seals: keep a copy, elsewhere.")
    return 0


@app.command("add")
def add(  # noqa: PLR0913, PLR0917 - one parameter per option
    recording: Recording,
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    new_key_file: NewKeyFile = None,
    new_password_file: NewPasswordFile = None,
    new_public_key: NewPublicKey = None,
    label: Label = "",
    as_json: AsJson = False,
) -> int:
    """Let one more key or password open a recording, all of its parts."""
    from engine.keys import add_slot

    parts = select_parts(recording)
    secret = read_secret(key_file, password_file, private_key)
    recipient = read_recipient(new_key_file, new_password_file, new_public_key, label)
    return _report(add_slot(parts, secret, recipient), as_json=as_json)


@app.command("remove")
def remove(  # noqa: PLR0913, PLR0917 - one parameter per option
    recording: Recording,
    key_id: Annotated[
        str,
        typer.Argument(help="Its label, or the first digits of its id.", metavar="KEY_ID"),
    ],
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    as_json: AsJson = False,
) -> int:
    """Take a key or password off a recording, all of its parts.

    This does not revoke: whoever kept an older copy of the file or its header, or the data key,
    can still open the recording.
    """
    from engine.container.reader import read_public_header
    from engine.keys import find_key_id, remove_slot

    parts = select_parts(recording)
    slots = [slot for path in parts for slot in read_public_header(path).header.slots]
    wanted = find_key_id(slots, key_id)
    secret = read_secret(key_file, password_file, private_key)
    return _report(remove_slot(parts, secret, wanted), as_json=as_json, warning=NOT_REVOKED)


@app.command("rotate")
def rotate(  # noqa: PLR0913, PLR0917 - one parameter per option
    recording: Recording,
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    new_key_file: NewKeyFile = None,
    new_password_file: NewPasswordFile = None,
    new_public_key: NewPublicKey = None,
    label: Label = "",
    as_json: AsJson = False,
) -> int:
    """Replace the key or password that opens a recording by another, in all of its parts.

    This does not revoke: whoever kept an older copy of the file or its header, or the data key,
    can still open the recording with the old key.
    """
    from engine.keys import rotate as run

    parts = select_parts(recording)
    secret = read_secret(key_file, password_file, private_key)
    recipient = read_recipient(new_key_file, new_password_file, new_public_key, label)
    return _report(run(parts, secret, recipient), as_json=as_json, warning=NOT_REVOKED)


def _report(parts: list[RewrappedPart], *, as_json: bool, warning: str = "") -> int:
    if as_json:
        result: dict[str, Any] = {"parts": [_as_dict(part) for part in parts]}
        if warning:
            result["warning"] = warning
        print_json(result)
        return 0
    for part in parts:
        show_line(f"{part.path}: {'changed' if part.changed else 'as it was'}")
    for slot in parts[0].header.slots:
        show_line(f"  {slot.kind.name.lower()} {slot.key_id.hex()} {slot.label}")
    if warning:
        show_line(warning)
    return 0


def _as_dict(part: RewrappedPart) -> dict[str, Any]:
    return {
        "path": str(part.path),
        "index": part.header.core.part_index,
        "changed": part.changed,
        "generation": part.header.generation,
        "keys": [
            {"kind": slot.kind.name.lower(), "label": slot.label, "key_id": slot.key_id.hex()}
            for slot in part.header.slots
        ],
    }
