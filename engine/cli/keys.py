"""`sealrec keys`: make keys, and change who can open a finished recording.

`sealrec info FILE` lists the keys of a recording with the ids by which `remove` knows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.catalog_options import (
    AuditKey,
    CatalogFile,
    CatalogName,
    Operator,
    ready_catalog,
)
from engine.cli.key_options import (
    KeyFile,
    Label,
    NewKeyFile,
    NewPasswordFile,
    NewPublicKey,
    NewSignPassword,
    PasswordFile,
    PrivateKey,
    Recording,
    read_new_password,
    read_recipient,
    read_secret,
)
from engine.cli.output import AsJson, print_json
from engine.cli.read import show_line
from engine.reading.selection import select_parts

if TYPE_CHECKING:
    from engine.catalog.place import CatalogPlace
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


@app.command("sign-key")
def sign_key(
    private: Annotated[Path, typer.Argument(help="The private key to make.", metavar="PRIVATE")],
    public: Annotated[
        Path | None,
        typer.Argument(help="The public key to make; PRIVATE.pub if left out.", metavar="PUBLIC"),
    ] = None,
    password_file: NewSignPassword = None,
    as_json: AsJson = False,
) -> int:
    """Make an Ed25519 pair: the private key signs evidence packages, the public key checks them.

    Give the public key, or its fingerprint, to whoever will check, by a way that nobody can change.
    """
    from engine.evidence.manifest import fingerprint
    from engine.keys import new_sign_key

    beside = private.with_name(private.name + ".pub") if public is None else public
    password = "" if password_file is None else read_new_password(password_file)
    signer = fingerprint(new_sign_key(private, beside, password))
    if as_json:
        print_json({"private": str(private), "public": str(beside), "fingerprint": signer})
    else:
        show_line(f"{beside}: fingerprint {signer}")
        show_line(f"{private} signs: keep it to yourself. {beside} checks: hand it out.")
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
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: AsJson = False,
) -> int:
    """Let one more key or password open a recording, all of its parts."""
    from engine.container.recipients import recipient_id
    from engine.keys import add_slot

    parts = select_parts(recording)
    place = ready_catalog(catalog, catalog_file, audit_key)
    secret = read_secret(key_file, password_file, private_key)
    recipient = read_recipient(new_key_file, new_password_file, new_public_key, label)
    changed = add_slot(parts, secret, recipient)
    _put_on_record(place, changed, f"add {recipient_id(recipient).hex()}", operator)
    return _report(changed, as_json=as_json)


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
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
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
    place = ready_catalog(catalog, catalog_file, audit_key)
    secret = read_secret(key_file, password_file, private_key)
    changed = remove_slot(parts, secret, wanted)
    _put_on_record(place, changed, f"remove {wanted.hex()}", operator)
    return _report(changed, as_json=as_json, warning=NOT_REVOKED)


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
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: AsJson = False,
) -> int:
    """Replace the key or password that opens a recording by another, in all of its parts.

    This does not revoke: whoever kept an older copy of the file or its header, or the data key,
    can still open the recording with the old key.
    """
    from engine.container.recipients import recipient_id
    from engine.keys import rotate as run

    parts = select_parts(recording)
    place = ready_catalog(catalog, catalog_file, audit_key)
    secret = read_secret(key_file, password_file, private_key)
    recipient = read_recipient(new_key_file, new_password_file, new_public_key, label)
    changed = run(parts, secret, recipient)
    _put_on_record(place, changed, f"rotate to {recipient_id(recipient).hex()}", operator)
    return _report(changed, as_json=as_json, warning=NOT_REVOKED)


def _put_on_record(
    place: CatalogPlace | None, parts: list[RewrappedPart], what: str, operator: str
) -> None:
    """Write the audit's rows of a change; parts that were as asked already are none."""
    if place is None:
        return
    from engine.catalog.commands import keys_changed

    keys_changed(place, parts, what, operator=operator)


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
