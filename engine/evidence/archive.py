"""The package's zip, canonical: for given contents there is one sequence of bytes, and no other.

Members are stored, in a fixed order, under fixed names, times and attributes. So the place of every
header follows from the sizes alone, the checker can build each of them again, and a byte that is
not the one expected is a byte that was changed. Pure, but for ``write``.

Source: EVIDENCE.md, "The zip"; APPNOTE.TXT 6.3.10, 4.3 and 4.5.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO, Final

from ipc.errors import DiskError

__all__ = [
    "MANIFEST",
    "NAMES",
    "PUBLIC_KEY",
    "SIGNATURE",
    "VIDEO",
    "Digest",
    "Layout",
    "Member",
    "digest_of",
    "directory",
    "entry_size",
    "header",
    "header_size",
    "layout_in",
    "layout_of",
    "size_in_entry",
    "size_in_header",
    "tail",
    "write",
]

VIDEO: Final = "video.mp4"
PUBLIC_KEY: Final = "public.pem"
MANIFEST: Final = "manifest.json"
SIGNATURE: Final = "manifest.sig"

NAMES: Final = (
    *("VERIFY.txt", "report.html", "report.pdf", "frames.csv", "losses.csv", "ledger.json"),
    *("marks.json", "marks.vtt", "events.json", "audit.json", "recording.json"),
    *("verification.json", "software.json", PUBLIC_KEY, MANIFEST, SIGNATURE, VIDEO),
)
"""The members, in order. The video is the last, so that it alone can need zip64."""

LARGE: Final = 0xFFFF_FFFF
"""Where zip64 begins: a central directory at this offset or behind."""

_LOCAL: Final = struct.Struct("<IHHHHHIIIHH")
_ENTRY: Final = struct.Struct("<IHHHHHHIIIHHHHHII")
_END64: Final = struct.Struct("<IQHHIIQQQQ")
_LOCATOR: Final = struct.Struct("<IIQI")
_END: Final = struct.Struct("<IHHHHIIH")
_EXTRA64: Final = struct.Struct("<HHQQ")
_LOCAL_SIGNATURE, _ENTRY_SIGNATURE = 0x0403_4B50, 0x0201_4B50
_END64_SIGNATURE, _LOCATOR_SIGNATURE, _END_SIGNATURE = 0x0606_4B50, 0x0706_4B50, 0x0605_4B50
_VERSION, _VERSION64, _UNIX = 20, 45, 3
_DATE: Final = 0x0021  # 1980-01-01, the first day that there is; its time is midnight
_MODE: Final = 0o100600 << 16  # whoever unpacks it has files of the owner's alone
_COPY_BYTES: Final = 1 << 20

Progress = Callable[[float], None]
"""Takes the done share, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Digest:
    """What a member's bytes are.

    Attributes:
        size_bytes: How many.
        crc: CRC-32, for the zip's own headers.
        sha256: In hex, for the manifest.
    """

    size_bytes: int
    crc: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Member:
    """A file of the package, before it is written.

    Attributes:
        name: One of ``NAMES``.
        content: From its first byte on; it is read twice.
        digest: Of it.
    """

    name: str
    content: BinaryIO = field(repr=False)
    digest: Digest


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is.

    Attributes:
        offsets: Of each member's local header.
        directory: Offset of the central directory.
        large: Whether the package needs zip64.
    """

    offsets: tuple[int, ...]
    directory: int
    large: bool


def digest_of(content: BinaryIO, size_bytes: int | None = None) -> Digest:
    """Read a file from where it stands on, in pieces.

    Args:
        content: The file.
        size_bytes: Only so many bytes; fewer if it ends before.
    """
    crc, hashed, size = 0, sha256(), 0
    while size_bytes is None or size < size_bytes:
        wanted = _COPY_BYTES if size_bytes is None else min(_COPY_BYTES, size_bytes - size)
        data = content.read(wanted)
        if not data:
            break
        crc = zlib.crc32(data, crc)
        hashed.update(data)
        size += len(data)
    return Digest(size, crc, hashed.hexdigest())


def layout_of(sizes: Sequence[int]) -> Layout:
    """Where everything is.

    Args:
        sizes: Of the members in order, in bytes.
    """
    plain = _layout(sizes, large=False)
    return plain if plain.directory < LARGE else _layout(sizes, large=True)


def layout_in(size_bytes: int) -> tuple[int, bool]:
    """Where the central directory is in a package of this size, and whether it needs zip64.

    Both follow from the size, because the names are known. Negative if no package is so small.
    """
    plain = size_bytes - _tail_size(large=False)
    return (plain, False) if plain < LARGE else (size_bytes - _tail_size(large=True), True)


def header(name: str, digest: Digest, *, large: bool) -> bytes:
    """The local header of a member."""
    extra = _extra(name, digest, large=large)
    version, *sizes = _version_and_sizes(digest, extra)
    fixed = (_LOCAL_SIGNATURE, version, 0, 0, 0, _DATE, digest.crc, *sizes, len(name), len(extra))
    return _LOCAL.pack(*fixed) + name.encode("ascii") + extra


def directory(digests: Sequence[Digest], layout: Layout) -> list[bytes]:
    """The entries of the central directory."""
    return [
        _entry(name, digest, offset, large=layout.large)
        for name, digest, offset in zip(NAMES, digests, layout.offsets, strict=True)
    ]


def tail(layout: Layout) -> bytes:
    """What follows the central directory: its end record, and before that the one of zip64."""
    size = _directory_size(large=layout.large)
    count, start = len(NAMES), layout.directory
    if not layout.large:
        return _END.pack(_END_SIGNATURE, 0, 0, count, count, size, start, 0)
    version, end = _UNIX << 8 | _VERSION64, start + size
    end64 = (_END64.size - 12, version, _VERSION64, 0, 0, count, count, size, start)
    return (
        _END64.pack(_END64_SIGNATURE, *end64)
        + _LOCATOR.pack(_LOCATOR_SIGNATURE, 0, end, 1)
        + _END.pack(_END_SIGNATURE, 0, 0, count, count, size, LARGE, 0)
    )


def header_size(name: str, *, large: bool) -> int:
    """Bytes of a member's local header."""
    return _LOCAL.size + len(name) + (_EXTRA64.size if large and name == VIDEO else 0)


def entry_size(name: str, *, large: bool) -> int:
    """Bytes of a member's entry in the central directory."""
    return _ENTRY.size + len(name) + (_EXTRA64.size if large and name == VIDEO else 0)


def size_in_header(data: bytes, *, large: bool) -> int:
    """The size that a local header tells, to be believed by nobody."""
    at = _LOCAL.size + len(VIDEO) + 4 if large else 22
    layout = "<Q" if large else "<I"
    return int(struct.unpack_from(layout, data, at)[0])


def size_in_entry(data: bytes, *, large: bool) -> int:
    """The size that an entry of the directory tells, to be believed by nobody."""
    at = _ENTRY.size + len(VIDEO) + 4 if large else 24
    layout = "<Q" if large else "<I"
    return int(struct.unpack_from(layout, data, at)[0])


def write(members: Sequence[Member], to: BinaryIO, progress: Progress) -> int:
    """Write a package, from its first byte to its last; returns how many there are.

    Args:
        members: All of ``NAMES``, in order.
        to: An empty file.
        progress: Told the share that is done.

    Raises:
        DiskError: a member is no longer what it was when its digest was taken.
        OSError: it cannot be written.
    """
    digests = [member.digest for member in members]
    layout = layout_of([digest.size_bytes for digest in digests])
    total = max(1, layout.directory)
    for member in members:
        to.write(header(member.name, member.digest, large=layout.large))
        _copy(member, to)
        progress(to.tell() / total)
    to.write(b"".join(directory(digests, layout)))
    to.write(tail(layout))
    return to.tell()


def _copy(member: Member, to: BinaryIO) -> None:
    crc, size = 0, 0
    member.content.seek(0)
    while data := member.content.read(_COPY_BYTES):
        to.write(data)
        crc, size = zlib.crc32(data, crc), size + len(data)
    if (crc, size) != (member.digest.crc, member.digest.size_bytes):
        raise DiskError(f"{member.name} changed while it was written.", hint="Try again.")


def _layout(sizes: Sequence[int], *, large: bool) -> Layout:
    offsets, at = [], 0
    for name, size in zip(NAMES, sizes, strict=True):
        offsets.append(at)
        at += header_size(name, large=large) + size
    return Layout(tuple(offsets), at, large)


def _entry(name: str, digest: Digest, offset: int, *, large: bool) -> bytes:
    extra = _extra(name, digest, large=large)
    version, *sizes = _version_and_sizes(digest, extra)
    fixed = (_ENTRY_SIGNATURE, _UNIX << 8 | version, version, 0, 0, 0, _DATE, digest.crc, *sizes)
    rest = (len(name), len(extra), 0, 0, 0, _MODE, offset)
    return _ENTRY.pack(*fixed, *rest) + name.encode("ascii") + extra


def _extra(name: str, digest: Digest, *, large: bool) -> bytes:
    if not large or name != VIDEO:
        return b""
    return _EXTRA64.pack(1, 16, digest.size_bytes, digest.size_bytes)


def _version_and_sizes(digest: Digest, extra: bytes) -> tuple[int, int, int]:
    if extra:
        return _VERSION64, LARGE, LARGE
    return _VERSION, digest.size_bytes, digest.size_bytes


def _directory_size(*, large: bool) -> int:
    return sum(entry_size(name, large=large) for name in NAMES)


def _tail_size(*, large: bool) -> int:
    end = _END.size + (_END64.size + _LOCATOR.size if large else 0)
    return _directory_size(large=large) + end
