"""Makes an evidence package: verify, put on record, copy the video, tell the report, sign, write.

Nothing unencrypted gets a name before the whole package is there: video and tables grow in files
without one beside the output, and whatever fails, nothing is left behind.

Source: EVIDENCE.md.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import av
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine.container.part import PartReader
from engine.container.recipients import Secret
from engine.evidence import archive, html, manifest, pdf, tables
from engine.evidence.archive import MANIFEST, NAMES, PUBLIC_KEY, SIGNATURE, VIDEO, Member, digest_of
from engine.evidence.audit import AuditExtract, as_dict, put_on_record
from engine.evidence.facts import Facts, read_facts
from engine.evidence.instructions import verify_text
from engine.evidence.manifest import LISTED, Manifest
from engine.evidence.report import tell
from engine.evidence.source import (
    Evidence,
    SealedPart,
    Stamps,
    read_part,
    shown_name,
    software,
    unread_part,
)
from engine.reading.copying import Copy, ExportReport, opened_copy
from engine.reading.marks import Mark, as_webvtt
from engine.reading.marks import as_json as marks_as_json
from engine.reading.outputs import check_target, new_output, unnamed_file, writing
from engine.reading.selection import reading, select_parts
from engine.reading.tracks import Clip
from engine.reading.verify import VerifyReport, verify
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from engine.catalog.place import CatalogPlace

__all__ = ["Order", "PackageReport", "make"]

_DAMAGED: Final = ("corrupt", "wrong-key")

Progress = Callable[[float], None]
"""Takes the done share, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a package shall hold, and who is to know.

    Attributes:
        key: Signs the package.
        part: Only this part.
        clip: Only this stretch of the video.
        force: Replace the output if it exists.
        place: The catalog that puts it on record.
        operator: Who is named there.
    """

    key: Ed25519PrivateKey = field(repr=False)
    part: int | None = None
    clip: Clip | None = None
    force: bool = False
    place: CatalogPlace | None = None
    operator: str = ""


@dataclass(frozen=True, slots=True)
class PackageReport:
    """What was handed over.

    Attributes:
        path: The package.
        size_bytes: Of it.
        frames: Pictures of the video.
        duration_s: Of the video.
        signer: Fingerprint of the key that signed it.
        verified: What verifying the recording found.
        problems: What is missing or wrong.
        exit_code: As ``verify`` has them, with the catalog's word.
    """

    path: Path
    size_bytes: int
    frames: int
    duration_s: float
    signer: str
    verified: VerifyReport
    problems: tuple[str, ...]
    exit_code: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "size_bytes": self.size_bytes,
            "frames": self.frames,
            "duration_s": self.duration_s,
            "signer": self.signer,
            "state": self.verified.state,
            "balanced": self.verified.balanced,
            "complete": self.verified.complete,
            "problems": list(self.problems),
        }


def make(
    path: Path,
    out: Path,
    secret: Secret,
    order: Order,
    progress: Progress | None = None,
) -> PackageReport:
    """Make a package of a recording. ITS CONTENT IS NOT ENCRYPTED.

    Args:
        path: Any part of the recording.
        out: The package, readable by its owner alone.
        secret: What opens the recording.
        order: What it shall hold, and the key that signs it.
        progress: Told the share that is done.

    Raises:
        ConfigError: no such recording or part, ``out`` cannot be used, no picture to show, parts
            of different settings, or more than a package can hold.
        WrongKey, Corrupt: no part opens.
        InUse: the recording is being written.
        CatalogError, KeyFileError: it could not be put on record.
        DiskError: ``out`` cannot be written. Whatever fails, nothing is left behind.
    """
    pdf.check_available()
    check_target(out, force=order.force)
    paths = select_parts(path, order.part)
    share = progress or _quiet
    stamps = Stamps(paths)
    report = verify(path, secret, part=order.part, progress=lambda done: share(0.3 * done))
    if report.recording_id is None:
        PartReader.open(paths[0], secret).close()  # says why no part opens
        raise ConfigError(f"{path} cannot be read.")
    code, audit = report.exit_code, None
    if order.place is not None:
        verdict, audit = put_on_record(order.place, report, str(out.absolute()), order.operator)
        code = verdict.exit_code(code)
    with ExitStack() as held:
        made = _Making(path, out, secret, order, held)
        evidence = made.evidence(report, audit, lambda done: share(0.3 + 0.5 * done))
        stamps.check()
        members = made.members(evidence)
        with new_output(out, force=order.force) as output, writing(out):
            with output.path.open("wb") as file:
                size = archive.write(members, file, lambda done: share(0.8 + 0.2 * done))
            output.publish()
    problems = (*report.problems, *evidence.video.problems, *(audit.problems if audit else ()))
    return PackageReport(
        path=out,
        size_bytes=size,
        frames=evidence.video.frames,
        duration_s=evidence.video.duration_s,
        signer=evidence.signer,
        verified=report,
        problems=tuple(dict.fromkeys(problems)),
        exit_code=code,
    )


def _quiet(_share: float) -> None:
    """Tell nobody."""


class _Making:
    """One package while it is made; its files without a name live as long as ``held``."""

    def __init__(
        self, path: Path, out: Path, secret: Secret, order: Order, held: ExitStack
    ) -> None:
        self._path, self._out, self._secret, self._order = path, out, secret, order
        self._held = held
        self._files: dict[str, BinaryIO] = {}

    def evidence(
        self, report: VerifyReport, audit: AuditExtract | None, progress: Progress
    ) -> Evidence:
        """Read the recording once more, and write its video and tables."""
        order = self._order
        damaged = any(part.state in _DAMAGED for part in report.parts)
        with opened_copy(
            self._path, self._secret, part=order.part, salvage=damaged, clip=order.clip
        ) as copy:
            facts, marks = read_facts(copy.parts), copy.marks()
            video = self._video(copy, facts, marks, progress)
            self._losses(facts)
            return Evidence(
                name=shown_name(self._path),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                signer=manifest.fingerprint(order.key.public_key()),
                parts=tuple(_parts(report, copy.parts)),
                verified=report,
                audit=audit,
                facts=facts,
                marks=tuple(marks),
                video=video,
                clip=order.clip,
                software=software(),
            )

    def _video(
        self, copy: Copy, facts: Facts, marks: list[Mark], progress: Progress
    ) -> ExportReport:
        video, frames = self._file(), self._file()
        with writing(self._out, av.FFmpegError):
            with frames.open("w", encoding="utf-8", newline="") as text:
                table = tables.FrameTable(text, facts.clocks)
                report = copy.write(video, marks=marks, progress=progress, told=table.add)
            self._files[VIDEO] = self._held.enter_context(video.open("rb"))
            self._files["frames.csv"] = self._held.enter_context(frames.open("rb"))
        return report

    def _losses(self, facts: Facts) -> None:
        path = self._file()
        with writing(self._out):
            with path.open("w", encoding="utf-8", newline="") as text:
                tables.write_losses(text, facts.lost)
            self._files["losses.csv"] = self._held.enter_context(path.open("rb"))

    def _file(self) -> Path:
        path, _ = self._held.enter_context(unnamed_file(self._out))
        return path

    def members(self, evidence: Evidence) -> list[Member]:
        """All files of the package, the signed list among them."""
        key = self._order.key
        told = tell(evidence)
        texts = {
            "VERIFY.txt": verify_text(evidence.signer, len(LISTED)),
            "report.html": html.render(told),
            "report.pdf": pdf.render(told),
            "ledger.json": tables.as_json(tables.ledger(evidence.facts)),
            "marks.json": marks_as_json(evidence.marks).encode("utf-8", "replace"),
            "marks.vtt": as_webvtt(evidence.marks).encode("utf-8", "replace"),
            "events.json": tables.as_json(tables.events(evidence.facts)),
            "audit.json": tables.as_json(as_dict(evidence.audit)),
            "recording.json": tables.as_json(tables.recording(evidence)),
            "verification.json": tables.as_json(_verification(evidence)),
            "software.json": tables.as_json(evidence.software),
            PUBLIC_KEY: manifest.as_pem(key.public_key()),
        }
        contents = {name: io.BytesIO(text) for name, text in texts.items()} | self._files
        with writing(self._out):
            members = {name: _member(name, contents[name]) for name in LISTED}
        listed = Manifest(
            format=manifest.FORMAT,
            version=manifest.VERSION,
            created=evidence.created,
            recording_id=evidence.recording_id,
            signer=evidence.signer,
            files=manifest.listed([members[name].digest for name in LISTED]),
        )
        text = manifest.render(listed)
        members[MANIFEST] = _member(MANIFEST, io.BytesIO(text))
        members[SIGNATURE] = _member(SIGNATURE, io.BytesIO(key.sign(text)))
        ordered = [members[name] for name in NAMES]
        _check_size(ordered)
        return ordered


def _member(name: str, content: BinaryIO) -> Member:
    content.seek(0)
    return Member(name, content, digest_of(content))


def _check_size(members: Sequence[Member]) -> None:
    """Whether the files before the video leave it in its place."""
    layout = archive.layout_of([member.digest.size_bytes for member in members])
    if layout.offsets[-1] >= archive.LARGE:
        raise ConfigError(
            "The tables of this recording are larger than a package can hold (4 GiB).",
            hint="Hand it over in clips: --from, --to.",
        )


def _parts(report: VerifyReport, opened: Sequence[PartReader]) -> Iterator[SealedPart]:
    """All parts as files, those that do not open as well."""
    readers = {part.path: part for part in opened}
    for found in report.parts:
        with reading(found.path):
            reader = readers.get(found.path)
            if reader is None:
                yield unread_part(found.path, found.index, state=found.state)
            else:
                yield read_part(reader, state=found.state, frames=found.frames)


def _verification(evidence: Evidence) -> dict[str, Any]:
    """``verification.json``: what ``sealrec verify --json`` says, without paths of the machine."""
    found = evidence.verified.as_dict()
    for part, shown in zip(found["parts"], evidence.parts, strict=True):
        part["path"] = shown.name
    return found
