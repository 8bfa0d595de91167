"""`sealrec info`, `verify`, `export`, `cat` and `recover`: the commands that read recordings."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import signal
import sys
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.cli.catalog_options import (
    AuditKey,
    CatalogFile,
    CatalogName,
    Operator,
    read_catalog,
    ready_catalog,
)
from engine.cli.key_options import (
    KeyFile,
    PartNumber,
    PasswordFile,
    PrivateKey,
    Recording,
    read_secret,
)
from engine.cli.output import AsJson, console, human_bytes, human_time, print_json, progress
from engine.container.boxes import TIMESCALE_HZ
from engine.reading.selection import named_part, reading, select_parts
from ipc.errors import ConfigError, Corrupt, InUse, SealrecError, Truncated

if TYPE_CHECKING:
    from engine.catalog.place import CatalogPlace
    from engine.catalog.witness import CatalogVerdict
    from engine.container.part import PartReader
    from engine.container.reader import PublicInfo
    from engine.container.recovery import PartReport
    from engine.reading.export import Clip
    from engine.reading.verify import VerifyReport

__all__ = ["ClipFrom", "ClipTo", "clip_of", "register", "show_line", "termination_interrupts"]

CAT_BYTES = 1 << 20

ClipFrom = Annotated[
    str,
    typer.Option("--from", help="Begin with the first picture at 12.3, 1:23.4 or 0:01:23.4."),
]
ClipTo = Annotated[str, typer.Option("--to", help="Leave out pictures from this time on.")]
Salvage = Annotated[
    bool, typer.Option("--salvage", help="Take what is intact of damaged parts, and say so.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command()(info)
    app.command()(verify)
    app.command()(export)
    app.command()(cat)
    app.command()(recover)


# --- info -------------------------------------------------------------------------------------


def info(recording: Recording, part: PartNumber = None, as_json: AsJson = False) -> int:
    """Show what a recording tells without a key: parts, states, and whose keys open it.

    Nothing of it is proven: only a key can do that (`sealrec verify`).
    """
    from engine.container.names import index_of
    from engine.container.reader import read_public_header

    parts: list[dict[str, Any]] = []
    recording_id = None
    damage: list[Corrupt] = []
    for path in select_parts(recording, part):
        try:
            found = read_public_header(path)
        except Corrupt as error:
            damage.append(error)
            parts.append({"path": str(path), "index": index_of(path), "error": error.message})
            continue
        recording_id = recording_id or found.header.core.recording_id.hex()
        parts.append(_public_part(found))
    if recording_id is None:
        raise damage[0]
    if as_json:
        print_json({"recording_id": recording_id, "parts": parts})
    else:
        show_line(f"recording {recording_id}")
        for shown in parts:
            _show_part(shown)
    return Corrupt.exit_code if damage else 0


def _public_part(found: PublicInfo) -> dict[str, Any]:
    header = found.header
    return {
        "path": str(found.path),
        "index": header.core.part_index,
        "state": header.state.name.lower(),
        "created": _utc(header.core.created_unix_ms),
        "size_bytes": found.size_bytes,
        "chunks": header.chunk_count,
        "payload_bytes": header.payload_bytes,
        "generation": header.generation,
        "headers_well_formed": list(found.well_formed),
        "keys": [
            {
                "kind": slot.kind.name.lower(),
                "label": slot.label,
                "key_id": slot.key_id.hex(),
                "iterations": slot.iterations,
            }
            for slot in header.slots
        ],
    }


def _utc(unix_ms: int) -> str | None:
    """ISO 8601, or None for a time that no calendar has."""
    try:
        moment = datetime.datetime.fromtimestamp(unix_ms / 1000, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return moment.isoformat(timespec="milliseconds")


def _show_part(part: dict[str, Any]) -> None:
    if "error" in part:
        show_line(f"part {part['index']}: {part['error']}")
        return
    show_line(
        f"part {part['index']}: {part['state']}, {human_bytes(part['size_bytes'])}, "
        f"{part['chunks']} chunks, generation {part['generation']}, created {part['created']}"
    )
    show_line(f"  {part['path']}")
    for key in part["keys"]:
        show_line(f"  {key['kind']} {key['key_id']} {key['label']}")


# --- verify -----------------------------------------------------------------------------------


def verify(  # noqa: PLR0913, PLR0917 - one parameter per option
    recording: Recording,
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    decode: Annotated[
        bool,
        typer.Option(
            "--decode", help="Decode every picture; compare barcodes of the synthetic source."
        ),
    ] = False,
    part: PartNumber = None,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: AsJson = False,
) -> int:
    """Check every byte and every table of a recording, and that each frame is accounted for.

    With a catalog also that it is the one that was sealed, the newest state of it, and all of it.
    """
    from engine.reading.verify import verify as run

    place = read_catalog(catalog, catalog_file, audit_key)
    secret = read_secret(key_file, password_file, private_key)
    with progress("verifying", shown=not as_json) as tell:
        report = run(recording, secret, decode=decode, progress=tell, part=part)
    verdict = _witness(place, report, operator) if place is not None else None
    if as_json:
        said = {} if verdict is None else {"catalog": verdict.as_dict()}
        print_json(report.as_dict() | said)
    else:
        _show_report(report, verdict)
    return report.exit_code if verdict is None else verdict.exit_code(report.exit_code)


def _witness(place: CatalogPlace, report: VerifyReport, operator: str) -> CatalogVerdict:
    from engine.catalog.witness import witness

    return witness(place, report, operator=operator)


def _show_report(report: VerifyReport, verdict: CatalogVerdict | None) -> None:
    account = "every frame accounted for" if report.balanced else "NOT BALANCED"
    whole = "" if report.complete else ", NOT COMPLETE"
    show_line(
        f"{report.state}: {report.frames} frames, {sum(report.lost.values())} lost, "
        f"{human_time(report.duration_s)}, {account}{whole}"
    )
    for name, count in report.lost.items():
        show_line(f"  {name}: {count}")
    for part in report.parts:
        show_line(f"  part {part.index}: {part.state}, {part.frames} frames, {part.path}")
    if report.decoded is not None:
        show_line(f"  {report.decoded} frames decoded")
    if report.barcodes is not None:
        show_line(f"  {report.barcodes.right} of {report.barcodes.checked} barcodes are right")
    for sentence in (*report.problems, *report.notes):
        show_line(f"  {sentence}")
    if verdict is not None:
        show_line(f"  by the catalog: {verdict.verdict}")
        for sentence in verdict.problems:
            show_line(f"  {sentence}")


# --- export -----------------------------------------------------------------------------------


def export(  # noqa: PLR0913, PLR0917 - one parameter per option
    recording: Recording,
    out: Annotated[
        Path, typer.Argument(help="The MP4 to write.", metavar="OUT.mp4", show_default=False)
    ],
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    part: PartNumber = None,
    begin: ClipFrom = "",
    end: ClipTo = "",
    no_marks: Annotated[
        bool, typer.Option("--no-marks", help="No chapters, and no OUT.vtt and OUT.json beside.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT.mp4 if it exists.")] = False,
    salvage: Salvage = False,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: AsJson = False,
) -> int:
    """Write a recording as an ordinary MP4. THE RESULT IS NOT ENCRYPTED.

    Pictures and times are copied exactly; all parts go onto one timeline. A clip (--from, --to)
    begins with exactly the picture asked for. Marks become chapters, and OUT.vtt and OUT.json
    beside the video. The file is readable by its owner alone; whoever copies it copies it open.
    With a catalog it is put on record first.
    """
    from engine.reading.export import export as run

    clip = clip_of(begin, end)

    place = read_catalog(catalog, catalog_file, audit_key)
    secret = read_secret(key_file, password_file, private_key)
    if place is not None:
        _put_on_record(place, select_parts(recording, part)[0], str(out.absolute()), operator)
    with progress("exporting", shown=not as_json) as tell, termination_interrupts():
        report = run(
            recording,
            out,
            secret,
            part=part,
            force=force,
            salvage=salvage,
            clip=clip,
            marks=not no_marks,
            progress=tell,
        )
    if as_json:
        print_json(report.as_dict())
    else:
        show_line(
            f"{report.path}: {report.frames} frames, {human_time(report.duration_s)}, "
            f"{human_bytes(report.size_bytes)}, NOT ENCRYPTED"
        )
        for path in report.beside:
            show_line(f"{path}: {report.marks} marks")
        for sentence in report.problems:
            show_line(f"  {sentence}")
    return report.exit_code


def clip_of(begin: str, end: str) -> Clip | None:
    """The stretch that two times name; None for the whole recording.

    Raises:
        ConfigError: no times, or in the wrong order.
    """
    from engine.reading.export import Clip

    if not begin and not end:
        return None
    clip = Clip(_pts(begin) if begin else 0, _pts(end) if end else None)
    if clip.to_pts is not None and clip.to_pts <= clip.from_pts:
        raise ConfigError(f"--to {end} is not after --from {begin or 0}.")
    return clip


def _pts(text: str) -> int:
    """A time as seconds, m:s or h:m:s, in 90 kHz, rounded down."""
    found = re.fullmatch(r"(?:(?:(\d{1,4}):)?([0-5]?\d):)?(\d{1,6}(?:\.\d{1,9})?)", text)
    if not found:
        raise ConfigError(f"{text!r} is no time.", hint="Write 12.3, 1:23.4 or 0:01:23.4.")
    hours, minutes, seconds = (Fraction(part or 0) for part in found.groups())
    return int((hours * 3600 + minutes * 60 + seconds) * 90_000)


def _put_on_record(place: CatalogPlace, source: Path, to: str, operator: str) -> None:
    """Put on record that a recording leaves its sealed file; if that fails, it does not."""
    from engine.catalog.commands import exported

    exported(place, source, to, operator=operator)


@contextlib.contextmanager
def termination_interrupts() -> Iterator[None]:
    """Let SIGTERM end the export as Ctrl-C does, so that no half a plaintext file stays behind."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: whoever runs this ends it by other means
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


# --- cat --------------------------------------------------------------------------------------


def cat(  # noqa: PLR0913, PLR0917 - one parameter per option
    recording: Annotated[
        Path, typer.Argument(help="One part.", metavar="FILE", show_default=False)
    ],
    key_file: KeyFile = None,
    password_file: PasswordFile = None,
    private_key: PrivateKey = None,
    part: PartNumber = None,
    salvage: Salvage = False,
    catalog: CatalogName = None,
    catalog_file: CatalogFile = None,
    audit_key: AuditKey = None,
    operator: Operator = "",
    as_json: Annotated[
        bool, typer.Option("--json", help="Say on stderr what was written, as JSON.")
    ] = False,
) -> int:
    """Write the decrypted stream of one part to stdout: a fragmented MP4, NOT ENCRYPTED.

    For programs that read a pipe; `sealrec export` makes a file for people.
    """
    try:
        source = named_part(recording, part)
        place = read_catalog(catalog, catalog_file, audit_key)
        if place is not None:
            _put_on_record(place, source, "stdout", operator)
        code, result = _cat(source, (key_file, password_file, private_key), salvage=salvage)
    except SealrecError as error:  # stdout is the stream, so nothing else may go there
        code = error.exit_code
        result = {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        if not as_json:
            sys.stderr.write(f"sealrec: {error}\n")
    if as_json:
        _json_on_stderr(result)
    return code


def _cat(
    path: Path, key: tuple[str | None, str | None, str | None], *, salvage: bool
) -> tuple[int, dict[str, Any]]:
    from engine.container.part import PartReader

    if sys.stdout.isatty():
        raise ConfigError(
            "A terminal cannot show a video.", hint="Send the output to a program or a file."
        )
    out = sys.stdout.buffer
    with contextlib.closing(PartReader.open(path, read_secret(*key), salvage=salvage)) as part:
        while data := _read(part):
            out.write(data)
        out.flush()
        result = {"path": str(path), "state": part.state, "size_bytes": part.size}
        codes = {"incomplete": Truncated.exit_code, "corrupt": Corrupt.exit_code}
        return codes.get(part.state, 0), result


def _read(part: PartReader) -> bytes:
    with reading(part.path):
        return part.read(CAT_BYTES) or b""


# --- recover ----------------------------------------------------------------------------------


def recover(  # noqa: PLR0913, PLR0917 - one parameter per option
    path: Annotated[
        Path,
        typer.Argument(
            help="A recording, or a directory for all below it.",
            metavar="FILE|DIR",
            show_default=False,
        ),
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
    """Close the `.open` parts that a power cut or a crash left, keeping every whole fragment.

    A part that is being written is left alone. Running it again changes nothing.
    """
    from engine.container.reader import read_public_header
    from engine.container.recovery import recover as run

    place = ready_catalog(catalog, catalog_file, audit_key)
    secret = read_secret(key_file, password_file, private_key)
    is_folder = os.path.isdir(path)
    if not is_folder:
        first = select_parts(path)[0]
    reports = run(path, secret)
    if place is not None:
        from engine.catalog.commands import recovered

        recovered(place, reports, operator=operator)
    if not reports and not is_folder:
        read_public_header(first)  # is it a recording at all?
    if as_json:
        print_json([_recovered(report) for report in reports])
    else:
        for report in reports:
            show_line(_recovery_line(report))
        if not reports:
            show_line(f"{path}: nothing to recover")
    # In a directory a part in use is no reason to fail: its engine will close it.
    errors = [report.error for report in reports if report.error is not None]
    return max((e.exit_code for e in errors if not (is_folder and isinstance(e, InUse))), default=0)


def _recovered(report: PartReport) -> dict[str, Any]:
    result: dict[str, Any] = {
        "path": str(report.path),
        "index": report.part_index,
        "state": report.state,
        "frames": report.frames,
        "kept_s": round(report.kept_pts / TIMESCALE_HZ, 6),
        "lost_s": round(report.lost_pts / TIMESCALE_HZ, 6),
        "lost_bytes": report.lost_bytes,
    }
    if report.error is not None:
        error = report.error
        result["error"] = {"code": error.code, "message": error.message, "hint": error.hint}
    return result


def _recovery_line(report: PartReport) -> str:
    if isinstance(report.error, InUse):
        return f"{report.path}: in use; nothing was touched"
    if report.error is not None:
        return f"{report.path}: {report.error}"
    if report.state == "deleted":
        return f"{report.path}: deleted, it held no recording yet"
    lost = f"{report.lost_pts / TIMESCALE_HZ:.1f} s"
    if report.lost_bytes and not report.lost_pts:
        lost = f"{human_bytes(report.lost_bytes)} of an unfinished fragment"
    elif not report.lost_bytes:
        lost = "nothing"
    kept = human_time(report.kept_pts / TIMESCALE_HZ)
    return f"{report.path}: {report.state}, {report.frames} frames kept to {kept}, lost {lost}"


# --- showing ----------------------------------------------------------------------------------


def show_line(text: str) -> None:
    """One line for a person; what a file says of itself cannot steer the terminal."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    console.print(printable, markup=False, soft_wrap=True)


def _json_on_stderr(value: Any) -> None:
    import json

    sys.stderr.write(json.dumps(value) + "\n")
