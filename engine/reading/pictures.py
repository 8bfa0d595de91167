"""Decodes a part as a player would, and reads what number each picture shows.

Used by ``verify --decode``: integrity says that the bytes are those that were written, this says
that they are the pictures that the frame table names. The decoder reads the part through the
ordinary MP4 demuxer, as any other program reads the decrypted stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

from engine import barcode
from engine.container.boxes import TIMESCALE_HZ
from engine.container.part import PartReader
from engine.container.tables import FrameRow
from engine.ledger import Runs
from ipc.errors import Corrupt

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["Picture", "PictureCheck", "decode"]

_TIME_BASE = Fraction(1, TIMESCALE_HZ)
_SYNTHETIC = "synthetic"
_SENTENCES = 100


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture.

    Attributes:
        pts: 90 kHz from the recording's first frame; None if the decoder lost it.
        number: What its barcode says; None if none was looked for or none is whole.
        damaged: The decoder says that it had to guess.
    """

    pts: int | None
    number: int | None
    damaged: bool


class PictureCheck:
    """Compares the pictures of all parts with the rows of their tables.

    Attributes:
        decoded: Frames that decoded, each counted once however many parts hold it.
        checked: Those of them whose barcode was looked at.
        right: Those of them whose barcode is the table's frame id.
        has_barcodes: A part comes from the synthetic source.
        problems: A sentence for each kind of thing that does not fit.
    """

    def __init__(self) -> None:
        self.checked = self.right = 0
        self.has_barcodes = False
        self.problems: list[str] = []
        self._seqs = Runs()

    @property
    def decoded(self) -> int:
        """See above."""
        return self._seqs.count

    def check(self, part: PartReader, progress: Callable[[float], None]) -> None:
        """Decode one part.

        Args:
            part: Its bytes are known to be what was written.
            progress: Told the share that is done.

        Raises:
            Corrupt: a table cannot be read.
        """
        total = sum(row.samples for row in part.index)
        session = part.session
        if not total or session is None:
            return
        barcodes = session.camera.get("source", "").startswith(_SYNTHETIC)
        self.has_barcodes |= barcodes
        pictures = self._pictures(part, barcodes=barcodes)
        rows = (row for fragment in part.fragments() for row in fragment.table.frames)
        missing: list[int] = []
        picture = next(pictures, None)
        for number, row in enumerate(rows):
            while picture is not None and (picture.pts is None or picture.pts < row.pts):
                self._say(part, f"the picture at {picture.pts} is no frame of the table.")
                picture = next(pictures, None)
            if picture is None or picture.pts != row.pts:
                missing.append(row.frame_id)
                continue
            self._compare(part, row, picture, barcodes=barcodes)
            picture = next(pictures, None)
            progress(number / total)
        if picture is not None:
            self._say(part, f"the picture at {picture.pts} is no frame of the table.")
        if missing:
            self._say(part, f"{len(missing)} frames do not decode, the first is {missing[0]}.")

    def _pictures(self, part: PartReader, *, barcodes: bool) -> Iterator[Picture]:
        try:
            yield from decode(part, barcodes=barcodes)
        except Corrupt as error:
            self._say(part, error.message)

    def _compare(
        self, part: PartReader, row: FrameRow, picture: Picture, *, barcodes: bool
    ) -> None:
        is_right = picture.number == row.frame_id & barcode.ID_MASK
        is_new = self._seqs.add(row.seq, row.seq)
        if barcodes:
            self.checked += is_new
            self.right += is_new and is_right
            if not is_right:
                shown = "no frame id" if picture.number is None else f"frame {picture.number}"
                self._say(part, f"the picture of frame {row.frame_id} shows {shown}.")
        if picture.damaged:
            self._say(part, f"the picture of frame {row.frame_id} is damaged.")

    def _say(self, part: PartReader, problem: str) -> None:
        if len(self.problems) < _SENTENCES:
            self.problems.append(f"{part.path.name}: {problem}")


def decode(part: PartReader, *, barcodes: bool) -> Iterator[Picture]:
    """All pictures of a part, in order, one at a time.

    Args:
        part: With at least one fragment that has pictures.
        barcodes: Read the synthetic source's barcode.

    Raises:
        Corrupt: the demuxer or the decoder gives up.
    """
    part.seek(0)
    try:
        with av.open(part, "r", format="mp4") as container:
            stream = container.streams.video[0]
            if stream.time_base != _TIME_BASE:
                raise Corrupt(f"The stream counts time in units of {stream.time_base} s.")
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                number = barcode.read(_luma(frame)) if barcodes else None
                yield Picture(frame.pts, number, frame.is_corrupt)
    except (av.FFmpegError, IndexError) as error:
        raise Corrupt(f"The decoder gave up: {error}.") from error


def _luma(frame: VideoFrame) -> npt.NDArray[Any]:
    """The luma of a decoded frame, (height, width) uint8; without a copy where it is a plane."""
    if frame.format.is_planar and frame.format.components[0].bits == 8:
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        return rows[: frame.height, : frame.width]
    gray: npt.NDArray[Any] = frame.to_ndarray(format="gray")
    return gray
