"""What a browser calls the codec of an init segment: the ``codecs`` parameter of RFC 6381.

Reads the one sample entry of the one video track. Source: ISO/IEC 14496-15 (avcC, hvcC), RFC 6381,
AV1 in ISOBMFF 5 (av1C).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from engine.container.boxes import iterate_boxes
from ipc.errors import Corrupt

__all__ = ["VideoType", "video_type"]

_PATH: Final = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
_ENTRY_BYTES: Final = 78  # fields of a VisualSampleEntry behind its box header
_SIZE_AT: Final = 24


@dataclass(frozen=True, slots=True)
class VideoType:
    """What a player must know before the first byte.

    Attributes:
        codec: For example ``avc1.640032``.
        width_px: Of the picture.
        height_px: Of the picture.
    """

    codec: str
    width_px: int
    height_px: int


def video_type(init_segment: bytes) -> VideoType:
    """Read it from ``ftyp`` and ``moov``.

    Raises:
        Corrupt: there is no such entry.
    """
    content = init_segment
    try:
        for kind in _PATH:
            content = _child(content, kind)
        entry = next(iterate_boxes(content[8:]))
        fields = content[8 + entry.header_bytes : 8 + entry.end]
        width, height = struct.unpack_from(">HH", fields, _SIZE_AT)
        name = entry.kind.decode("ascii")
        codec = name + _parameters(name, fields[_ENTRY_BYTES:])
    except (struct.error, IndexError, StopIteration, UnicodeDecodeError):
        raise Corrupt("The init segment names no video that can be played.") from None
    return VideoType(codec, width, height)


def _parameters(name: str, boxes: bytes) -> str:
    if name in ("avc1", "avc3"):
        record = _child(boxes, b"avcC")
        return f".{record[1]:02x}{record[2]:02x}{record[3]:02x}"
    if name in ("hvc1", "hev1"):
        return _hevc(_child(boxes, b"hvcC"))
    if name == "av01":
        record = _child(boxes, b"av1C")
        tier = "H" if record[2] & 0x80 else "M"
        deep = 10 if record[2] & 0x40 else 8
        return f".{record[1] >> 5}.{record[1] & 0x1F:02d}{tier}.{deep:02d}"
    return ".20" if name == "mp4v" else ""


def _hevc(record: bytes) -> str:
    space = ("", "A", "B", "C")[record[1] >> 6]
    tier = "H" if record[1] & 0x20 else "L"
    (compatible,) = struct.unpack_from(">I", record, 2)
    reverse = int(f"{compatible:032b}"[::-1], 2)
    constraints = record[6:12].rstrip(b"\0")
    tail = "".join(f".{byte:X}" for byte in constraints)
    return f".{space}{record[1] & 0x1F}.{reverse:X}.{tier}{record[12]}{tail}"


def _child(data: bytes, kind: bytes) -> bytes:
    box = next(box for box in iterate_boxes(data) if box.kind == kind)
    return data[box.offset + box.header_bytes : box.end]
