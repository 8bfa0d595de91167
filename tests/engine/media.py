"""Material for container tests: keys, headers, real fragments from libx264, cheap made-up ones."""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from engine.container.boxes import iterate_boxes
from engine.container.header import new_core, new_header
from engine.container.names import part_path
from engine.container.recipients import KeyFileRecipient, KeyFileSecret
from engine.container.tables import FragmentTable, FrameRow, SealTable, SessionTable
from engine.container.writer import PartWriter

__all__ = [
    "FRAMES",
    "PERIOD",
    "WIDTH",
    "Keys",
    "Piece",
    "box",
    "made_up",
    "made_up_init",
    "real",
    "real_init",
    "seal_table",
    "write_part",
]

WIDTH, HEIGHT = 64, 48
FRAMES = 8
"""Frames of a fragment."""
PERIOD = 3000
"""One frame at 30 Hz, 90 kHz."""

_TIME_BASE = Fraction(1, 90_000)
_MUXER = {
    "movflags": "frag_custom+empty_moov+default_base_moof+frag_discont+skip_trailer",
    "avoid_negative_ts": "disabled",
    "use_editlist": "0",
}


@dataclass(frozen=True)
class Keys:
    """One recording: its data key, its id, and a key file that opens it."""

    dek: bytes = field(default_factory=lambda: os.urandom(32))
    kek: bytes = field(default_factory=lambda: os.urandom(32))
    recording_id: bytes = field(default_factory=lambda: os.urandom(16))

    @property
    def secret(self) -> KeyFileSecret:
        return KeyFileSecret(self.kek)

    def header(self, index: int = 0, previous: bytes = bytes(32)) -> bytes:
        core = new_core(
            recording_id=self.recording_id,
            part_index=index,
            created_unix_ms=1_700_000_000_000,
            previous_part=previous,
        )
        return new_header(core, self.dek, [KeyFileRecipient(self.kek, "test")])


@dataclass(frozen=True)
class Piece:
    """A fragment ready to be appended."""

    table: FragmentTable
    media: bytes
    pts: int
    duration: int


def box(kind: bytes, size_bytes: int) -> bytes:
    """A box of random content, ``size_bytes`` long in all."""
    return struct.pack(">I4s", size_bytes, kind) + os.urandom(size_bytes - 8)


def made_up_init(size_bytes: int = 200) -> bytes:
    """An init segment that no player takes."""
    return box(b"ftyp", 24) + box(b"moov", size_bytes)


def made_up(number: int, size_bytes: int = 400, *, frames: int = FRAMES) -> Piece:
    """A fragment that no player takes; without frames it is table-only."""
    pts = number * FRAMES * PERIOD
    media = box(b"moof", 100) + box(b"mdat", size_bytes) if frames else b""
    return Piece(FragmentTable(frames=_rows(number * FRAMES, frames)), media, pts, frames * PERIOD)


def write_part(
    base: Path,
    keys: Keys,
    pieces: Sequence[Piece],
    *,
    index: int = 0,
    previous: bytes = bytes(32),
    init: bytes | None = None,
    seal: SealTable | None = None,
) -> bytes:
    """Write a whole part; without a seal it is left ``.open``. Returns its commitment."""
    header = keys.header(index, previous)
    with PartWriter.create(part_path(base, index), dek=keys.dek, header=header) as writer:
        writer.write_init(made_up_init() if init is None else init, SessionTable(software="test"))
        for piece in pieces:
            writer.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)
        if seal is not None:
            writer.seal(seal)
        return writer.commitment


def seal_table(parts: int = 1, *, last: bool = True) -> SealTable:
    return SealTable(parts=parts, last=last)


def real_init() -> bytes:
    """Ftyp and moov of the real fragments."""
    return _encode()[0]


def real(first: int, count: int) -> list[Piece]:
    """Real fragments by number; frame i of the recording has luma ``16 + 5 * (i % 40)``."""
    return list(_encode()[1][first : first + count])


def _rows(first_seq: int, count: int) -> tuple[FrameRow, ...]:
    numbers = range(first_seq, first_seq + count)
    return tuple(
        FrameRow(i, 0, 1000 + i, i * 33, i * 34, i * PERIOD, int(i % FRAMES == 0)) for i in numbers
    )


@functools.cache
def _encode() -> tuple[bytes, list[Piece]]:
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4", options=_MUXER) as container:
        stream = container.add_stream(
            "libx264", rate=30, options={"tune": "zerolatency", "preset": "ultrafast"}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        container.start_encoding()
        init = memory.getvalue()
        pieces = [_fragment(stream, number) for number in range(8)]
    return _only(init, b"ftyp", b"moov"), pieces


def _fragment(stream: av.VideoStream, number: int) -> Piece:
    memory = io.BytesIO()
    options = {**_MUXER, "fragment_index": str(number + 1)}
    with av.open(memory, "w", format="mp4", options=options) as container:
        output = container.add_stream_from_template(stream)
        for i in range(number * FRAMES, (number + 1) * FRAMES):
            picture = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
            for plane, value in zip(picture.planes, (16 + 5 * (i % 40), 128, 128), strict=True):
                plane.update(np.full(plane.buffer_size, value, np.uint8))
            picture.pts, picture.time_base = i * PERIOD, _TIME_BASE
            key = i % FRAMES == 0
            picture.pict_type = av.video.frame.PictureType.I if key else 0
            for packet in stream.codec_context.encode(picture):
                packet.stream = output
                packet.duration = PERIOD
                container.mux_one(packet)
    media = _only(memory.getvalue(), b"moof", b"mdat")
    pts = number * FRAMES * PERIOD
    return Piece(FragmentTable(frames=_rows(number * FRAMES, FRAMES)), media, pts, FRAMES * PERIOD)


def _only(data: bytes, *kinds: bytes) -> bytes:
    return b"".join(data[b.offset : b.end] for b in iterate_boxes(data) if b.kind in kinds)
