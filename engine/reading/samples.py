"""What the media boxes of a fragment say of its samples: time, size, place, key or not.

The tables of a recording are its own account; these are the boxes that players read. ``verify``
compares the two, ``export`` copies the samples. Nothing is decoded here.

Source: ISO/IEC 14496-12, 8.8 (movie fragments); FORMAT.md, "Inside the payload".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import islice
from typing import Final

from engine.container.boxes import BOX_HEADER_BYTES, TIMESCALE_HZ, iterate_boxes, parse_box
from engine.container.part import Fragment, PartReader
from ipc.errors import Corrupt

__all__ = ["StoredSample", "TrackDefaults", "read_samples", "track_defaults"]

_FULL_BOX_BYTES: Final = 4
_U32: Final = struct.Struct(">I")
_U64: Final = struct.Struct(">Q")

# tfhd
_BASE_OFFSET: Final = 0x1
_DESCRIPTION: Final = 0x2
_DEFAULTS: Final = (0x8, 0x10, 0x20)  # duration, size, flags, in the order of the fields
_BASE_IS_MOOF: Final = 0x20000
# trun
_DATA_OFFSET: Final = 0x1
_FIRST_FLAGS: Final = 0x4
_PER_SAMPLE: Final = (0x100, 0x200, 0x400, 0x800)  # duration, size, flags, composition offset
_NOT_SYNC: Final = 0x10000


@dataclass(frozen=True, slots=True)
class StoredSample:
    """One encoded picture as the boxes have it.

    Attributes:
        pts: 90 kHz from the recording's first frame.
        duration: 90 kHz.
        offset: First byte, from the start of the fragment's ``moof``.
        size_bytes: Its length.
        key: A sync sample: decodable without any earlier one.
    """

    pts: int
    duration: int
    offset: int
    size_bytes: int
    key: bool


@dataclass(frozen=True, slots=True)
class TrackDefaults:
    """What a ``moov`` says of every sample that does not say it itself (``trex``)."""

    duration: int = 0
    size_bytes: int = 0
    flags: int = 0


@dataclass(slots=True)
class _Track:
    """Where the next run of samples starts, while a fragment is read."""

    defaults: TrackDefaults
    time: int
    offset: int


def track_defaults(init_segment: bytes) -> TrackDefaults:
    """Read the defaults of the one track of a part.

    Args:
        init_segment: ``ftyp`` and ``moov``.

    Raises:
        Corrupt: not one track that counts in 90 kHz and comes in fragments.
    """
    try:
        moov = _only(init_segment, b"moov")
        mdhd = _only(_only(_only(moov, b"trak"), b"mdia"), b"mdhd")
        (timescale,) = _U32.unpack_from(mdhd, 20 if mdhd[0] == 1 else 12)
        trex = _only(_only(moov, b"mvex"), b"trex")
        duration, size_bytes, flags = struct.unpack_from(">III", trex, 12)
    except (struct.error, IndexError):
        raise Corrupt("The init segment cannot be read.") from None
    if timescale != TIMESCALE_HZ:
        raise Corrupt(f"The track counts time in {timescale} Hz, not {TIMESCALE_HZ}.")
    return TrackDefaults(duration, size_bytes, flags)


def read_samples(
    part: PartReader, fragment: Fragment, defaults: TrackDefaults
) -> list[StoredSample]:
    """The samples of one fragment, in order.

    Args:
        part: Where it is.
        fragment: One with media, or without: then there are no samples.
        defaults: Of its part.

    Raises:
        Corrupt: the boxes cannot be read, point outside the fragment, or hold another number of
            samples than the table has rows.
    """
    if not fragment.media_size:
        return []
    head = part.read_at(min(BOX_HEADER_BYTES, fragment.media_size), fragment.media_offset)
    moof = parse_box(head, fragment.media_offset)
    content = part.read_at(moof.size_bytes, fragment.media_offset)[moof.header_bytes :]
    try:
        samples = _parse_moof(content, defaults, limit=len(fragment.table.frames))
    except (struct.error, IndexError):
        raise _unreadable(fragment) from None
    if len(samples) != len(fragment.table.frames):
        raise Corrupt(
            f"Fragment {fragment.number} has {len(samples)} samples and "
            f"{len(fragment.table.frames)} rows in its table."
        )
    first = moof.size_bytes + 8  # behind the header of mdat
    if any(s.offset < first or s.offset + s.size_bytes > fragment.media_size for s in samples):
        raise _unreadable(fragment)
    return samples


def _parse_moof(content: bytes, defaults: TrackDefaults, *, limit: int) -> list[StoredSample]:
    traf = _only(content, b"traf")
    tfhd = _only(traf, b"tfhd")
    tfdt = _only(traf, b"tfdt")
    layout = _U64 if tfdt[0] == 1 else _U32
    track = _Track(
        defaults=_fragment_defaults(tfhd, defaults),
        time=layout.unpack_from(tfdt, _FULL_BOX_BYTES)[0],
        offset=0,
    )
    samples: list[StoredSample] = []
    for box in iterate_boxes(traf):
        if box.kind == b"trun":
            run = traf[box.offset + box.header_bytes : box.end]
            samples += _parse_run(run, track, limit=limit - len(samples))
    return samples


def _fragment_defaults(tfhd: bytes, defaults: TrackDefaults) -> TrackDefaults:
    flags = _flags(tfhd)
    if flags & _BASE_OFFSET or not flags & _BASE_IS_MOOF:
        raise Corrupt("A fragment's offsets do not count from its moof.")
    at = _FULL_BOX_BYTES + 4 + (4 if flags & _DESCRIPTION else 0)
    values = [defaults.duration, defaults.size_bytes, defaults.flags]
    for i, bit in enumerate(_DEFAULTS):
        if flags & bit:
            (values[i],) = _U32.unpack_from(tfhd, at)
            at += 4
    return TrackDefaults(*values)


def _parse_run(run: bytes, track: _Track, *, limit: int) -> list[StoredSample]:
    flags = _flags(run)
    (count,) = _U32.unpack_from(run, _FULL_BOX_BYTES)
    if count > limit:  # before anything of that length is made
        raise Corrupt(f"A fragment has {count} samples or more, and its table {limit} rows.")
    at = _FULL_BOX_BYTES + 4
    if flags & _DATA_OFFSET:
        (track.offset,) = _U32.unpack_from(run, at)
        at += 4
    first_flags = None
    if flags & _FIRST_FLAGS:
        (first_flags,) = _U32.unpack_from(run, at)
        at += 4
    samples = []
    for i in range(count):
        values = [track.defaults.duration, track.defaults.size_bytes, track.defaults.flags, 0]
        if i == 0 and first_flags is not None:
            values[2] = first_flags
        for field, bit in enumerate(_PER_SAMPLE):
            if flags & bit:
                (values[field],) = _U32.unpack_from(run, at)
                at += 4
        duration, size_bytes, sample_flags, shift = values
        key = not sample_flags & _NOT_SYNC
        samples.append(StoredSample(track.time + shift, duration, track.offset, size_bytes, key))
        track.time += duration
        track.offset += size_bytes
    return samples


def _flags(full_box: bytes) -> int:
    return int.from_bytes(full_box[1:_FULL_BOX_BYTES], "big")


def _only(data: bytes, kind: bytes) -> bytes:
    """The content of the one box of a kind.

    Raises:
        Corrupt: there is none, or more than one.
    """
    # No list of all boxes: whoever holds the key may have put millions there.
    found = list(islice((box for box in iterate_boxes(data) if box.kind == kind), 2))
    if len(found) != 1:
        many = "more than one" if found else "no"
        raise Corrupt(f"There is {many} {kind.decode()} box where one belongs.")
    return data[found[0].offset + found[0].header_bytes : found[0].end]


def _unreadable(fragment: Fragment) -> Corrupt:
    return Corrupt(f"The media boxes of fragment {fragment.number} cannot be read.")
