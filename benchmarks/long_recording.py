"""An hour of recording in a minute: a short one whose fragments are written again and again.

Times, sequence numbers and ids go on, the pictures repeat (so their barcodes do not fit their ids).
It is a sealed file like any other, only that no power cut may come before its seal: only the
benchmarks of reading and of sealing use it.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import msgspec

from benchmarks.measure import python
from engine.container.boxes import TIMESCALE_HZ
from engine.container.header import new_core, new_header
from engine.container.names import open_path
from engine.container.part import PartReader
from engine.container.recipients import KeyFileRecipient, KeyFileSecret
from engine.container.tables import FragmentTable, SealTable
from engine.container.writer import PartWriter
from engine.keys import new_key_file, read_key_file
from engine.ledger import Ledger, written_runs
from ipc import osdep

__all__ = ["KEY", "make_long", "make_seed", "unsealed", "write_long"]

KEY = "key"
SEED_FRAMES = 600
NS_PER_TICK = 1_000_000_000 // TIMESCALE_HZ
TFDT = b"tfdt\x01\0\0\0"


@dataclass(frozen=True, slots=True)
class Piece:
    """One fragment of the short recording."""

    table: FragmentTable
    media: bytes
    pts: int
    duration: int


def make_seed(folder: Path, size: str, frames: int = SEED_FRAMES) -> Path:
    """A short recording of the synthetic camera, and in ``KEY`` its key; made once per folder."""
    seed, key = folder / f"seed-{size}.mp4.enc", folder / KEY
    if not key.exists():
        new_key_file(key)
    if not seed.exists():
        record = ["record", str(seed), "--size", size, "--frames", str(frames)]
        options = ["--policy", "block", "--key-file", str(key), "--json"]
        subprocess.run(python("engine", *record, *options), check=True, stdout=subprocess.DEVNULL)
    return seed


def make_long(folder: Path, size: str, minutes: float) -> Path:
    """A long recording under the key in ``KEY``; made once per folder."""
    out = folder / f"long-{size}-{minutes:g}.mp4.enc"
    if not out.exists():
        seed = make_seed(folder, size)
        write_long(seed, out, read_key_file(folder / KEY), minutes * 60)
    return out


def write_long(seed: Path, out: Path, kek: bytes, seconds: float) -> None:
    """Write a recording of a length from the pictures of a short one.

    Args:
        seed: One sealed part.
        out: The file to make.
        kek: Key file that opens the seed and will open the result.
        seconds: At least so long.
    """
    with unsealed(seed, out, kek, seconds) as (writer, table):
        writer.seal(table)


@contextmanager
def unsealed(
    seed: Path, out: Path, kek: bytes, seconds: float
) -> Iterator[tuple[PartWriter, SealTable]]:
    """The same, all of it on disk but the seal; without a seal it stays ``.open``.

    Yields:
        The writer, and the table to seal with.
    """
    with PartReader.open(seed, KeyFileSecret(kek)) as part:
        dek, core = part.data_key().dek, part.header.core
        new = new_core(
            recording_id=core.recording_id, part_index=0, created_unix_ms=core.created_unix_ms
        )
        header = new_header(new, dek, [KeyFileRecipient(kek, "benchmark")])
        session = part.session
        assert session is not None
        pieces = list(_pieces(part))
        ledger = Ledger()
        with PartWriter.create(out, dek=dek, header=header, reserve=False) as writer:
            with patch.object(osdep, "sync_data"):  # one sync at the end instead of thousands
                writer.write_init(part.init_segment, session)
                for piece in _repeated(pieces, seconds):
                    for run in written_runs(piece.table.frames):
                        ledger.add_written(run)
                    writer.append(piece.table, piece.media, pts=piece.pts, duration=piece.duration)
            fd = os.open(open_path(out), os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            totals = ledger.totals()
            yield writer, SealTable(part=totals, recording=totals, parts=1, last=True)


def _pieces(part: PartReader) -> Iterator[Piece]:
    for fragment in part.fragments():
        if fragment.table.frames:
            media = part.read_at(fragment.media_size, fragment.media_offset)
            yield Piece(fragment.table, media, fragment.pts, fragment.duration)


def _repeated(pieces: list[Piece], seconds: float) -> Iterator[Piece]:
    frames = [row for piece in pieces for row in piece.table.frames]
    period = min(b.pts - a.pts for a, b in pairwise(frames))
    length_pts = frames[-1].pts + period - frames[0].pts
    turns = -(-int(seconds * TIMESCALE_HZ) // length_pts)
    for turn in range(turns):
        for piece in pieces:
            yield _later(piece, turn * length_pts, turn * len(frames))


def _later(piece: Piece, pts: int, frames: int) -> Piece:
    rows = tuple(
        msgspec.structs.replace(
            row,
            seq=row.seq + frames,
            frame_id=row.frame_id + frames,
            camera_ns=row.camera_ns + pts * NS_PER_TICK,
            host_ns=row.host_ns + pts * NS_PER_TICK,
            pts=row.pts + pts,
        )
        for row in piece.table.frames
    )
    table = FragmentTable(frames=rows, clock=piece.table.clock)
    at = piece.media.index(TFDT) + len(TFDT)
    (time,) = struct.unpack_from(">Q", piece.media, at)
    media = piece.media[:at] + struct.pack(">Q", time + pts) + piece.media[at + 8 :]
    return replace(piece, table=table, media=media, pts=piece.pts + pts)
