"""Small real recordings for the reading half: barcoded pictures, H.264, real tables and seals.

Frame n has seq n, id 1000 + n and pts 3000 n unless a test changes that. Parts are written as the
encoder worker writes them, without its processes.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine import barcode
from engine.container.header import new_core, new_header
from engine.container.names import part_path
from engine.container.recipients import KeyFileRecipient, KeyFileSecret, Recipient
from engine.container.tables import FragmentTable, FrameRow, SealTable, SessionTable
from engine.container.writer import PartWriter
from engine.ledger import Ledger, written_runs
from ipc.frame import FrameFlags, Loss, LossClass, PixelFormat
from workers.codecs.convert import Converter
from workers.codecs.encoders import VideoEncoder, open_encoder
from workers.codecs.spec import EncoderSpec, Sample

__all__ = ["FIRST_ID", "GOP", "NOISY", "PERIOD", "Studio", "flip", "gap", "picture"]

FIRST_ID = 1000
GOP = 8
PERIOD = 3000
SIZE = (128, 64)
NOISY = (320, 240)

Change = Callable[[FragmentTable], FragmentTable]


@dataclass
class Studio:
    """Makes one recording in a directory, part by part.

    Attributes:
        base: Name of part 0.
    """

    base: Path
    kek: bytes = field(default_factory=lambda: os.urandom(32))
    dek: bytes = field(default_factory=lambda: os.urandom(32))
    recording_id: bytes = field(default_factory=lambda: os.urandom(16))
    recipients: Sequence[Recipient] = ()
    source: str = "synthetic"
    codec: str = "libx264"
    ledger: Ledger = field(default_factory=Ledger)
    commitment: bytes = bytes(32)

    @property
    def secret(self) -> KeyFileSecret:
        return KeyFileSecret(self.kek)

    def key_file(self) -> Path:
        """The key in a file beside the recording."""
        path = self.base.parent / "the.key"
        if not path.exists():
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(fd, self.kek.hex().encode() + b"\n")
            os.close(fd)
        return path

    def part(
        self,
        index: int,
        frames: Iterable[int],
        *,
        lost: Sequence[Loss] = (),
        last: bool = True,
        sealed: bool = True,
        size: tuple[int, int] = SIZE,
        table: Change = lambda table: table,
        seal: Callable[[SealTable], SealTable] = lambda seal: seal,
        init: Callable[[bytes], bytes] = lambda init: init,
        media: Callable[[bytes], bytes] = lambda media: media,
        late: int = 0,
        idle: Sequence[FragmentTable] = (),
    ) -> Path:
        """Write one part; ``table``, ``seal``, ``init`` and ``media`` may change what is written.

        ``late`` moves the time of the fragments' tables. ``idle`` are table-only fragments, one
        after the first fragment with pictures and the others at the end.

        Returns:
            Its name; ``.open`` is added where it is not sealed.
        """
        core = new_core(
            recording_id=self.recording_id,
            part_index=index,
            created_unix_ms=1_700_000_000_000,
            previous_part=self.commitment,
        )
        recipients = [KeyFileRecipient(self.kek, "test"), *self.recipients]
        header = new_header(core, self.dek, recipients)
        path = part_path(self.base, index)
        own = Ledger()
        with PartWriter.create(path, dek=self.dek, header=header, reserve=False) as writer:
            init_segment, fragments = _encode(tuple(frames), size, self.codec)
            writer.write_init(init(init_segment), self._session())
            for number, (rows, boxes, duration) in enumerate(fragments):
                piece = FragmentTable(frames=rows, lost=tuple(lost) if number == 0 else ())
                for ledger in (own, self.ledger):
                    _count(ledger, piece)
                pts = rows[0].pts + late
                writer.append(table(piece), media(boxes), pts=pts, duration=duration)
                for empty in idle[:1] if number == 0 else ():
                    self._idle(writer, own, empty, rows[-1].pts + PERIOD)
            for empty in idle[1:]:
                self._idle(writer, own, empty, rows[-1].pts + PERIOD)
            if sealed:
                totals = {"part": own.totals(), "recording": self.ledger.totals()}
                writer.seal(seal(SealTable(parts=index + 1, last=last, **totals)))
            self.commitment = writer.commitment
        return path

    def _idle(self, writer: PartWriter, own: Ledger, table: FragmentTable, pts: int) -> None:
        for ledger in (own, self.ledger):
            _count(ledger, table)
        writer.append(table, b"", pts=pts, duration=0)

    def _session(self) -> SessionTable:
        return SessionTable(camera={"source": self.source}, software="test")


def picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """What frame ``number`` shows: its barcode over a gray that changes slowly.

    At the size ``NOISY`` it is noise instead, so that a fragment has many chunks.
    """
    width, height = size
    pixels = np.full((height, width), 40 + number % 100, np.uint8)
    if size == NOISY:
        pixels = np.random.default_rng(number).integers(16, 235, (height, width), np.uint8)
    barcode.stamp(pixels, FIRST_ID + number, PixelFormat.MONO8)
    return pixels


def gap(first: int, last: int, loss_class: LossClass = LossClass.CAMERA_GAP) -> Loss:
    """Frames ``first`` to ``last`` that are in no file."""
    return Loss(loss_class, 0, FIRST_ID + first, FIRST_ID + last, first * 34, last * 34)


def flip(path: Path, offset: int) -> None:
    """Change one bit of a file, counted from its end if negative."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def _count(ledger: Ledger, table: FragmentTable) -> None:
    for run in written_runs(table.frames):
        ledger.add_written(run)
    for loss in table.lost:
        ledger.add_lost(loss)


@functools.cache
def _encode(
    numbers: tuple[int, ...], size: tuple[int, int], codec: str
) -> tuple[bytes, list[tuple[tuple[FrameRow, ...], bytes, int]]]:
    spec = EncoderSpec(codec=codec, width_px=size[0], height_px=size[1], rate_hz=30.0, threads=1)
    encoder = open_encoder(dataclasses.replace(spec, hardware="off"))
    converter = Converter(*size, PixelFormat.MONO8)
    groups = [numbers[i : i + GOP] for i in range(0, len(numbers), GOP)]
    try:
        fragments = [
            _fragment(encoder, converter, group, number, size)
            for number, group in enumerate(groups, 1)
        ]
        return encoder.init_segment(), fragments
    finally:
        encoder.close()


def _fragment(
    encoder: VideoEncoder,
    converter: Converter,
    numbers: tuple[int, ...],
    number: int,
    size: tuple[int, int],
) -> tuple[tuple[FrameRow, ...], bytes, int]:
    samples: list[Sample] = []
    for n in numbers:
        frame = converter.convert(picture(n, size))
        samples += encoder.encode(frame, n * PERIOD, key=n == numbers[0])
    rows = tuple(
        FrameRow(
            seq=n,
            epoch=0,
            frame_id=FIRST_ID + n,
            camera_ns=n * 33,
            host_ns=n * 34,
            pts=n * PERIOD,
            flags=int(FrameFlags.KEY_FRAME if sample.key else FrameFlags.NONE),
        )
        for n, sample in zip(numbers, samples, strict=True)
    )
    return rows, encoder.fragment(samples, number), samples[-1].pts - samples[0].pts + PERIOD
