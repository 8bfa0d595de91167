"""The recording that a package is made from: its parts as files, and everything found in them."""

from __future__ import annotations

import os
import platform
import ssl
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Any

from engine.container.header import Header
from engine.container.part import PartReader
from engine.container.tables import SessionTable
from engine.evidence.audit import AuditExtract
from engine.evidence.facts import Facts
from engine.reading.copying import ExportReport
from engine.reading.marks import Mark
from engine.reading.tracks import Clip
from engine.reading.verify import VerifyReport
from engine.software import VERSION
from ipc.errors import InUse

__all__ = ["Evidence", "SealedPart", "Stamps", "read_part", "software", "unread_part"]


@dataclass(frozen=True, slots=True)
class SealedPart:
    """A part as a file.

    Attributes:
        name: Of the file.
        index: Which part it is.
        size_bytes: Of the file.
        sha256: Of the file as it lies, sealed.
        state: As verified.
        frames: In it, as verified.
        header: None if it does not open.
        commitment: In hex; empty if there is none.
        session: What was recorded with what; None if it holds nothing.
    """

    name: str
    index: int
    size_bytes: int
    sha256: str
    state: str
    frames: int
    header: Header | None = None
    commitment: str = ""
    session: SessionTable | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that a report is about.

    Attributes:
        name: Of the recording.
        created: When the package is made, UTC, ISO 8601.
        signer: Fingerprint of the key that signs it.
        parts: In order.
        verified: What verifying it found.
        audit: None without a catalog.
        facts: What the tables say.
        marks: At their times in the video.
        video: What the video is.
        clip: What it shows of the recording; None if all.
        software: Names and versions.
    """

    name: str
    created: str
    signer: str
    parts: tuple[SealedPart, ...]
    verified: VerifyReport
    audit: AuditExtract | None
    facts: Facts
    marks: tuple[Mark, ...]
    video: ExportReport
    clip: Clip | None
    software: dict[str, str]

    @property
    def recording_id(self) -> str:
        """32 hex digits."""
        return (self.verified.recording_id or b"").hex()

    @property
    def session(self) -> SessionTable:
        """What the first part that tells says."""
        return next((p.session for p in self.parts if p.session is not None), SessionTable())


class Stamps:
    """Whether files are still what they were: a recording that grows is no evidence yet.

    Args:
        paths: The files.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._before = self._now()

    def _now(self) -> list[tuple[int, int, int]]:
        try:
            found = [os.stat(path) for path in self._paths]
        except OSError:  # renamed in this moment
            return []
        return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]

    def check(self) -> None:
        """Compare.

        Raises:
            InUse: a file has changed.
        """
        if self._now() != self._before or not self._before:
            raise InUse(
                "The recording changed while it was read; nothing was handed over.",
                hint="Wait until it is sealed, then try again.",
            )


def read_part(part: PartReader, *, state: str, frames: int) -> SealedPart:
    """An opened part as a file; reads all of it.

    Args:
        part: The part.
        state: As verified.
        frames: As verified.
    """
    size, digest = _hashed(part.path)
    return SealedPart(
        name=shown_name(part.path),
        index=part.part_index,
        size_bytes=size,
        sha256=digest,
        state=state,
        frames=frames,
        header=part.header,
        commitment=part.commitment.hex(),
        session=part.session,
    )


def unread_part(path: Path, index: int, *, state: str) -> SealedPart:
    """A part that does not open, as a file."""
    size, digest = _hashed(path)
    return SealedPart(shown_name(path), index, size, digest, state, 0)


def shown_name(path: Path) -> str:
    """A file's name as text, whatever bytes it is of."""
    return os.fsencode(path.name).decode("utf-8", "replace")


def _hashed(path: Path) -> tuple[int, str]:
    with path.open("rb") as file:
        digest = file_digest(file, "sha256").hexdigest()
        return file.tell(), digest


def software() -> dict[str, str]:
    """Names and versions of what made the package."""
    import av
    import cryptography
    import reportlab
    from cryptography.hazmat.backends.openssl import backend

    libraries: dict[str, Any] = dict(av.library_versions)
    versions = [f"{name} {'.'.join(map(str, v))}" for name, v in sorted(libraries.items())]
    return {
        "sealrec": VERSION,
        "Python": platform.python_version(),
        "platform": platform.platform(),
        "PyAV": av.__version__,
        "FFmpeg": f"{av.ffmpeg_version_info} ({', '.join(versions)})",
        "cryptography": cryptography.__version__,
        "OpenSSL of cryptography": backend.openssl_version_text(),
        "OpenSSL of Python": ssl.OPENSSL_VERSION,
        "ReportLab": reportlab.Version,
    }
