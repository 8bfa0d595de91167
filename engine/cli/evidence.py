"""`sealrec evidence`: hand a recording over with what proves it, and check what was handed over."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engine.cli.catalog_options import (
    AuditKey,
    CatalogFile,
    CatalogName,
    Operator,
    read_catalog,
)
from engine.cli.key_options import KeyFile, PartNumber, PasswordFile, PrivateKey, read_secret
from engine.cli.output import AsJson, human_bytes, human_time, print_json, progress
from engine.cli.read import ClipFrom, ClipTo, clip_of, show_line, termination_interrupts
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from engine.evidence.check import CheckReport
    from engine.evidence.package import PackageReport

__all__ = ["register"]

NOT_PROVEN = (
    "No --public-key was given: this shows that the package is whole, not who signed it. Compare "
    "the fingerprint with the one that the signer gave you."
)


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(evidence)


def evidence(  # noqa: PLR0913, PLR0917 - one parameter per option
    source: Annotated[
        Path,
        typer.Argument(
            help="The recording: any of its parts. With --check: the package.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Argument(help="The package to write.", metavar="OUT.zip", show_default=False),
    ] = None,
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    sign_key: Annotated[
        str | None,
        typer.Option(
            "--sign-key", help="Private key that signs: `sealrec keys sign-key`.", metavar="F"
        ),
    ] = None,
    sign_password_file: Annotated[
        str | None,
        typer.Option(
            "--sign-password-file",
            help="Password of --sign-key: a file, fd:N, or 'prompt'.",
            metavar="F",
        ),
    ] = None,
    part: PartNumber = None,
    begin: ClipFrom = "",
    end: ClipTo = "",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.zip if it exists.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the package FILE instead of making one.")
    ] = False,
    public_key: Annotated[
        str | None,
        typer.Option(
            "--public-key", help="With --check: the signer's public key (PEM).", metavar="F"
        ),
    ] = None,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: AsJson = False,
) -> int:
    """Hand a recording over as one signed file. ITS CONTENT IS NOT ENCRYPTED.

    The zip holds the video (or a clip: --from, --to), the tables of every frame and every loss,
    marks, the catalog's audit, hashes, a report as HTML and PDF, and how to check all that without
    sealrec. With a catalog it is put on record first.

    --check FILE --public-key F says whether every byte is the signer's: exit code 4 if not, 5 if
    another key signed it.
    """
    if check:
        if out is not None or sign_key is not None:
            raise ConfigError("--check takes one package, and makes none.")
        return _check(source, public_key, as_json=as_json)
    if out is None or sign_key is None or public_key is not None:
        raise ConfigError(
            "A package needs a name and a key that signs it.",
            hint="sealrec evidence FILE OUT.zip --sign-key F; the key: `sealrec keys sign-key F`. "
            "--public-key goes with --check.",
        )
    from engine.evidence.package import Order, make
    from engine.key_files import read_password, read_sign_key

    place = read_catalog(catalog, catalog_file, audit_key)
    password = "" if sign_password_file is None else read_password(sign_password_file)
    signer = read_sign_key(sign_key, password)
    secret = read_secret(key_file, password_file, private_key)
    order = Order(
        key=signer,
        part=part,
        clip=clip_of(begin, end),
        force=force,
        place=place,
        operator=operator,
    )
    with progress("collecting", shown=not as_json) as tell, termination_interrupts():
        report = make(source, out, secret, order, tell)
    if as_json:
        print_json(report.as_dict())
    else:
        _show_made(report)
    return report.exit_code


def _show_made(report: PackageReport) -> None:
    show_line(
        f"{report.path}: {report.frames} frames, {human_time(report.duration_s)}, "
        f"{human_bytes(report.size_bytes)}, signed, NOT ENCRYPTED"
    )
    show_line(f"  signed by {report.signer}")
    for sentence in report.problems:
        show_line(f"  {sentence}")


def _check(package: Path, public_key: str | None, *, as_json: bool) -> int:
    from engine.evidence.check import check as run
    from engine.key_files import read_verify_key

    key = None if public_key is None else read_verify_key(public_key)
    with progress("checking", shown=not as_json) as tell:
        report = run(package, key, tell)
    if as_json:
        print_json(report.as_dict())
    else:
        _show_checked(report)
    return report.exit_code


def _show_checked(report: CheckReport) -> None:
    if not report.whole:
        show_line(f"{report.path}: NOT WHAT WAS SIGNED")
    elif report.stranger:
        show_line(f"{report.path}: SIGNED BY ANOTHER KEY than the one given")
        show_line(f"  signed by {report.signer}")
        show_line(f"  given was {report.expected}")
    else:
        show_line(f"{report.path}: every byte is what was signed")
        show_line(f"  signed by {report.signer}")
    for changed in report.changed:
        show_line(f"  {changed.where}: {changed.what}")
    if report.whole and not report.expected:
        show_line(f"  {NOT_PROVEN}")
