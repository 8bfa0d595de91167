"""Checks an evidence package: every byte of it, and who signed it. Believes nothing it reads.

Where each header lies follows from the size of the package and of its members, and every header is
built again from the member's own bytes; so whatever was changed is found, and named by where it is.
Sizes are bounded by the file's before anything is read by them, and memory stays small.

Source: EVIDENCE.md, "Checking".
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from engine.evidence import archive, manifest
from engine.evidence.archive import MANIFEST, NAMES, PUBLIC_KEY, SIGNATURE, Digest, Layout
from engine.evidence.manifest import LISTED, MANIFEST_BYTES, SIGNATURE_BYTES, Manifest
from engine.key_files import verify_key_of_pem
from ipc.errors import ConfigError, Corrupt, KeyFileError, WrongKey

__all__ = ["Changed", "CheckReport", "check"]

_PEM_BYTES: Final = 1_024

Progress = Callable[[float], None]
"""Takes the done share, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Something that is not as it was signed.

    Attributes:
        where: A file of the package, or ``the header of NAME``, ``the directory entry of NAME``,
            ``the end record``, ``the package``.
        what: In a sentence.
    """

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What checking found.

    Attributes:
        path: The package.
        changed: What is not as it was signed; empty if every byte is.
        signer: Fingerprint of the key that signed it; empty if none did.
        expected: Fingerprint of the key given by hand; empty if none was.
        manifest: None if it cannot be read.
    """

    path: Path
    changed: tuple[Changed, ...]
    signer: str
    expected: str
    manifest: Manifest | None

    @property
    def whole(self) -> bool:
        """Every byte is what the one who signed it signed, whoever that is."""
        return not self.changed and bool(self.signer)

    @property
    def stranger(self) -> bool:
        """It is whole, and signed by another key than the one given."""
        return self.whole and bool(self.expected) and self.signer != self.expected

    @property
    def exit_code(self) -> int:
        """0 as signed, 4 changed, 5 signed by another key."""
        if not self.whole:
            return Corrupt.exit_code
        return WrongKey.exit_code if self.stranger else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        found = self.manifest
        return {
            "path": str(self.path),
            "whole": self.whole,
            "signer": self.signer,
            "signed_by_given_key": None if not self.expected else self.signer == self.expected,
            "created": None if found is None else found.created,
            "recording_id": None if found is None else found.recording_id,
            "files": [] if found is None else [f.name for f in found.files],
            "changed": [{"where": c.where, "what": c.what} for c in self.changed],
        }


def check(
    path: Path, public_key: Ed25519PublicKey | None, progress: Progress | None = None
) -> CheckReport:
    """Check a package.

    Args:
        path: The package.
        public_key: The signer's, from a hand that is trusted. Without it the one in the package is
            taken, which shows that the package is whole, not who signed it.
        progress: Told the share that is done.

    Raises:
        ConfigError: there is no such file, or it cannot be read. Changes are results, not errors.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path} is not a file.", hint="Name an evidence package.")
    try:
        with path.open("rb") as file:
            return _Check(path, file, public_key, progress or _quiet).run()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from error


def _quiet(_share: float) -> None:
    """Tell nobody."""


class _Check:
    """One check of one file."""

    def __init__(
        self, path: Path, file: BinaryIO, key: Ed25519PublicKey | None, progress: Progress
    ) -> None:
        self._path, self._file, self._key, self._progress = path, file, key, progress
        self._size = file.seek(0, io.SEEK_END)
        self._changed: list[Changed] = []

    def run(self) -> CheckReport:
        layout = self._layout()
        if layout is None:
            return self._report("", None)
        digests = self._digests(layout)
        self._compare_headers(layout, digests)
        found, signer = self._manifest(layout)
        if found is not None:
            self._compare_files(found, digests)
        return self._report(signer, found)

    def _report(self, signer: str, found: Manifest | None) -> CheckReport:
        expected = "" if self._key is None else manifest.fingerprint(self._key)
        return CheckReport(self._path, tuple(self._changed), signer, expected, found)

    def _say(self, where: str, what: str) -> None:
        self._changed.append(Changed(where, what))

    def _read(self, offset: int, size_bytes: int) -> bytes:
        self._file.seek(offset)
        # A file that shrinks meanwhile is as wrong as one whose end was overwritten.
        return self._file.read(size_bytes).ljust(size_bytes, b"\0")

    # --- where everything is ------------------------------------------------------------------

    def _layout(self) -> Layout | None:
        """From the sizes in the directory, or else from those in the local headers.

        A changed size in one of them leaves the other, so that what was changed can be named.
        """
        start, large = archive.layout_in(self._size)
        if start < sum(archive.header_size(name, large=large) for name in NAMES):
            self._say("the package", "It is too short to be an evidence package.")
            return None
        for sizes in (self._sizes_in_directory(start, large), self._sizes_in_headers(start, large)):
            if sizes is not None:
                layout = archive.layout_of(sizes)
                if (layout.directory, layout.large) == (start, large):
                    return layout
        self._say(*self._first_break(start, large))
        return None

    def _sizes_in_directory(self, start: int, large: bool) -> list[int] | None:
        sizes = []
        for name in NAMES:
            size = archive.entry_size(name, large=large)
            of_video = large and name == archive.VIDEO
            sizes.append(archive.size_in_entry(self._read(start, size), large=of_video))
            start += size
        return sizes

    def _sizes_in_headers(self, start: int, large: bool) -> list[int] | None:
        sizes, at = [], 0
        for name in NAMES:
            room = archive.header_size(name, large=large)
            if at + room > start:
                return None
            of_video = large and name == archive.VIDEO
            sizes.append(archive.size_in_header(self._read(at, room), large=of_video))
            at += room + sizes[-1]
        return sizes

    def _first_break(self, start: int, large: bool) -> tuple[str, str]:
        """The first local header that is not where the one before says."""
        at = 0
        for before, name in zip(("", *NAMES), NAMES, strict=False):
            room = archive.header_size(name, large=large)
            data = self._read(at, room) if at + room <= start else b""
            if data[:4] != b"PK\3\4" or data[30 : 30 + len(name)] != name.encode():
                if not before:
                    return "the package", "It does not begin as an evidence package does."
                return before, f"It, or its header, is not as it was: {name} does not follow it."
            at += room + archive.size_in_header(data, large=large and name == archive.VIDEO)
        return "the package", f"It is longer or shorter than it was, behind {NAMES[-2]}."

    # --- what is there ------------------------------------------------------------------------

    def _digests(self, layout: Layout) -> list[Digest]:
        digests = []
        ends = (*layout.offsets[1:], layout.directory)
        for name, offset, end in zip(NAMES, layout.offsets, ends, strict=True):
            begin = offset + archive.header_size(name, large=layout.large)
            self._file.seek(begin)
            digests.append(archive.digest_of(self._file, end - begin))
            self._progress(end / self._size)
        return digests

    def _compare_headers(self, layout: Layout, digests: Sequence[Digest]) -> None:
        """Compare all that is not content with what has to be there."""
        at, large = layout.directory, layout.large
        entries = archive.directory(digests, layout)
        for name, digest, offset, entry in zip(
            NAMES, digests, layout.offsets, entries, strict=True
        ):
            local = archive.header(name, digest, large=large)
            is_local = self._read(offset, len(local)) == local
            is_entry = self._read(at, len(entry)) == entry
            if not is_local and not is_entry:
                self._say(name, "Its bytes are not those of its checksum.")
            elif not is_local:
                self._say(f"the header of {name}", "It is not what belongs to the file.")
            elif not is_entry:
                self._say(f"the directory entry of {name}", "It is not what belongs to the file.")
            at += len(entry)
        if self._read(at, self._size - at) != archive.tail(layout):
            self._say("the end record", "It is not what belongs to this package.")

    def _member(self, layout: Layout, name: str, limit: int) -> bytes:
        at = NAMES.index(name)
        begin = layout.offsets[at] + archive.header_size(name, large=layout.large)
        return self._read(begin, min(limit + 1, layout.offsets[at + 1] - begin))

    # --- what was signed ----------------------------------------------------------------------

    def _manifest(self, layout: Layout) -> tuple[Manifest | None, str]:
        """The manifest, if its signature holds, and the fingerprint of who signed it."""
        text = self._member(layout, MANIFEST, MANIFEST_BYTES)
        signature = self._member(layout, SIGNATURE, SIGNATURE_BYTES)
        pem = self._member(layout, PUBLIC_KEY, _PEM_BYTES)
        signer = self._signer(pem, signature, text)
        named = {changed.where for changed in self._changed}
        if signer is None:
            # Unless the checksums know which of the three it is, it may be any of them.
            if not named & {MANIFEST, SIGNATURE, PUBLIC_KEY}:
                self._say(
                    MANIFEST,
                    f"The signature over it does not hold: it, {SIGNATURE} or "
                    f"{PUBLIC_KEY} was changed.",
                )
            return None, ""
        try:
            found = manifest.parse(text)
        except Corrupt as error:
            self._say(MANIFEST, error.message)
            return None, manifest.fingerprint(signer)
        if PUBLIC_KEY not in named and pem != manifest.as_pem(signer):
            self._say(PUBLIC_KEY, "It is not the key of the one who signed the package.")
        if found.signer != manifest.fingerprint(signer):
            self._say(MANIFEST, "It names another signer than the key that it is signed with.")
        return found, manifest.fingerprint(signer)

    def _signer(self, pem: bytes, signature: bytes, text: bytes) -> Ed25519PublicKey | None:
        """The key that signed: the one given, or else the one in the package."""
        return next(
            (
                key
                for key in self._keys(pem)
                if len(signature) == SIGNATURE_BYTES and manifest.is_signed_by(key, signature, text)
            ),
            None,
        )

    def _keys(self, pem: bytes) -> Iterator[Ed25519PublicKey]:
        if self._key is not None:
            yield self._key
        try:
            yield verify_key_of_pem(pem, PUBLIC_KEY)
        except KeyFileError:
            return

    def _compare_files(self, found: Manifest, digests: Sequence[Digest]) -> None:
        """Compare each file with what was signed of it."""
        named = {changed.where for changed in self._changed}
        by_name = dict(zip(NAMES, digests, strict=True))
        for listed in found.files:
            digest = by_name[listed.name]
            same = (digest.size_bytes, digest.sha256) == (listed.size, listed.sha256)
            if not same and listed.name not in named:
                self._say(listed.name, "It is not the file that was signed.")
        assert len(found.files) == len(LISTED)
