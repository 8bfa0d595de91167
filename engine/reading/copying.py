"""Copies the pictures of a recording into an ordinary MP4: not encrypted, its index first.

Encoded pictures are copied, not decoded; their times stay what they were to the tick, and a gap
stays a gap. A clip begins with exactly the picture asked for: the pictures from the key frame
before it go along, for decoders need them, and an edit list keeps them from being shown.

Source: ISO/IEC 14496-12, 8.6.6 (edit lists).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av

from engine.container.boxes import TIMESCALE_HZ
from engine.container.part import PartReader
from engine.container.recipients import Secret
from engine.reading.marks import Mark, as_chapters, read_marks
from engine.reading.selection import select_parts
from engine.reading.tracks import (
    Clip,
    Copied,
    Picture,
    Progress,
    Shown,
    Told,
    Track,
    check_joinable,
    damage,
    most_samples,
    open_recording,
    place,
    samples,
    track_of,
    way_out,
)
from ipc.errors import Corrupt, DiskError, Truncated, Unbalanced

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.container.core import Chapter
    from av.video.stream import VideoStream

__all__ = ["Copy", "ExportReport", "opened_copy"]

_TIME_BASE: Final = Fraction(1, TIMESCALE_HZ)
_OPTIONS: Final = {
    "movie_timescale": str(TIMESCALE_HZ),
    "video_track_timescale": str(TIMESCALE_HZ),
}
_BOX_HEADER_BYTES: Final = 16
_BUFFER_BYTES: Final = 1 << 18

# The most that an index needs: for a sample in each of its tables (stts 8, stsz 4, stsc 12, co64 8,
# stss 4), for a chapter in those of its own track and by name, for what is there once.
_SAMPLE_INDEX_BYTES: Final = 36
_CHAPTER_INDEX_BYTES: Final = 512
_INDEX_BYTES: Final = 8192


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: The MP4.
        parts: The parts it was made of.
        state: ``sealed``, ``recovered``, ``incomplete`` or ``corrupt``: the worst of them.
        frames: Pictures that it shows.
        repeated: Pictures left out because the next part holds the same frames.
        first_pts: Time of its first picture in the recording, 90 kHz; 0 unless the beginning is
            left out or missing.
        duration_s: From the recording's first frame, or the clip's, to the end of the last picture.
        size_bytes: Of the MP4.
        marks: How many are in it, as chapters.
        beside: Files with the marks.
        problems: What is missing of the recording.
    """

    path: Path
    parts: tuple[Path, ...]
    state: str
    frames: int
    repeated: int
    first_pts: int
    duration_s: float
    size_bytes: int
    marks: int = 0
    beside: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 if it is everything; 3, 4 or 6 if something is missing, as ``verify`` has them."""
        if self.state == "incomplete":
            return Truncated.exit_code
        if self.state == "corrupt":
            return Corrupt.exit_code
        return Unbalanced.exit_code if self.problems else 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "path": str(self.path),
            "parts": [str(path) for path in self.parts],
            "state": self.state,
            "frames": self.frames,
            "repeated": self.repeated,
            "first_pts": self.first_pts,
            "duration_s": self.duration_s,
            "size_bytes": self.size_bytes,
            "marks": self.marks,
            "beside": [str(path) for path in self.beside],
            "problems": list(self.problems),
        }


@contextmanager
def opened_copy(
    path: Path,
    secret: Secret,
    *,
    part: int | None = None,
    salvage: bool = False,
    clip: Clip | None = None,
) -> Iterator[Copy]:
    """What ``export`` writes, for whoever writes it elsewhere; nothing is written by itself.

    Args:
        path: Any part.
        secret: What opens the recording.
        part: Only this part.
        salvage: Take what is intact of damaged parts.
        clip: Only this stretch.

    Raises:
        ConfigError, WrongKey, Corrupt: see ``export``.
    """
    paths = select_parts(path, part)
    with ExitStack() as held:
        recording = held.enter_context(
            open_recording(paths, secret, whole=part is None, salvage=salvage)
        )
        tracks = [track for p in recording.parts if (track := track_of(p, held)) is not None]
        check_joinable(tracks, path)
        with way_out():
            copied, shown = place(tracks, clip)
        problems = [*recording.problems, *damage(recording.parts)]
        yield Copy(recording.parts, tuple(problems), tracks, shown, copied)


class Copy:
    """A recording, or a stretch of it, that can be written once as an MP4.

    Attributes:
        parts: The parts it is made of.
        problems: What is missing of the recording.
    """

    def __init__(
        self,
        parts: tuple[PartReader, ...],
        problems: tuple[str, ...],
        tracks: list[Track],
        shown: Clip,
        copied: Copied,
    ) -> None:
        """Use ``opened_copy``."""
        self.parts, self.problems = parts, problems
        self._tracks, self._shown, self._copied = tracks, shown, copied
        self._end_pts = max(track.part.end_pts for track in tracks)
        self._first_pts = copied.begin_pts or tracks[0].first_pts

    def marks(self) -> list[Mark]:
        """The marks of what is shown, at their times in the output.

        Raises:
            Corrupt: a fragment that the index names cannot be read.
        """
        with way_out():
            return _marks_in(self.parts, self._copied.begin_pts, self._shown, self._end_pts)

    def write(
        self,
        to: Path,
        *,
        marks: Sequence[Mark] = (),
        progress: Progress | None = None,
        told: Told | None = None,
    ) -> ExportReport:
        """Write the MP4 and make sure that it is whole.

        Args:
            to: An existing, empty file.
            marks: Become chapters.
            progress: Told the share that is done.
            told: Told each picture as it is written.

        Raises:
            Corrupt, DiskError, OSError, av.FFmpegError: nothing of the file is of any use.
        """
        copied, end_pts = self._copied, min(self._shown.to_pts or self._end_pts, self._end_pts)
        copied.told = told
        chapters = as_chapters(marks, end_pts - copied.begin_pts)
        pictures = samples(self._tracks, self._shown, copied, progress or _quiet)
        self._write(to, pictures, chapters)
        _check_whole(to)
        states = [p.state for p in self.parts]
        order = ("sealed", "recovered", "incomplete", "corrupt")
        return ExportReport(
            path=to,
            parts=tuple(p.path for p in self.parts),
            state=max(states, key=order.index, default=order[0]),
            frames=copied.frames,
            repeated=copied.repeated,
            first_pts=self._first_pts,
            duration_s=round(copied.end_pts / TIMESCALE_HZ, 6),
            size_bytes=to.stat().st_size,
            marks=len(marks),
            problems=self.problems,
        )

    def _write(self, to: Path, pictures: Iterator[Picture], chapters: list[Chapter]) -> None:
        template, copied = self._tracks[0].stream, self._copied
        with way_out():
            first = next(pictures)
            options = _OPTIONS | {
                # Room for the index before the pictures: moving them afterwards writes all twice.
                "moov_size": str(self._index_bytes(len(chapters))),
                # Written only where the first picture is not at zero: one that comes later keeps
                # its time, one that only decoders need is not shown.
                "use_editlist": str(int(first.sample.pts != copied.begin_pts)),
            }
            with (
                # Python's own file: PyAV leaves its own open where the header cannot be written.
                to.open("r+b") as file,
                av.open(
                    file, "w", format="mp4", options=options, buffer_size=_BUFFER_BYTES
                ) as container,
            ):
                # Opaque: parameters are copied as they are, without looking for an encoder.
                stream = container.add_stream_from_template(template, opaque=True)
                stream.time_base = _TIME_BASE
                if chapters:
                    container.set_chapters(chapters)
                for picture in chain([first], pictures):
                    _copy(container, stream, picture, copied)

    def _index_bytes(self, chapters: int) -> int:
        """The most that the index can take; FFmpeg refuses to write one that does not fit."""
        extradata = self._tracks[0].stream.codec_context.extradata or b""
        pictures = most_samples(self._tracks, self._shown)
        return (
            _INDEX_BYTES
            + 2 * len(extradata)  # some codecs' parameters are stored in another, longer form
            + _CHAPTER_INDEX_BYTES * chapters
            + _SAMPLE_INDEX_BYTES * pictures
        )


def _quiet(_share: float) -> None:
    """Tell nobody."""


def _marks_in(parts: Sequence[PartReader], begin_pts: int, shown: Clip, end_pts: int) -> list[Mark]:
    """The marks of what is shown, at their times in the output."""
    until = end_pts if shown.to_pts is None else shown.to_pts
    return [
        replace(mark, pts=mark.pts - begin_pts)
        for mark in read_marks(parts)
        if begin_pts <= mark.pts <= until
    ]


def _copy(container: OutputContainer, stream: VideoStream, picture: Picture, to: Copied) -> None:
    sample = picture.sample
    pts = sample.pts - to.begin_pts
    if to.last_pts is not None and pts <= to.last_pts:
        raise Corrupt(f"The picture at {pts} does not come after that at {to.last_pts}.")
    packet = av.Packet(picture.data)
    packet.stream = stream
    packet.time_base = _TIME_BASE
    packet.pts = packet.dts = pts
    packet.duration = sample.duration
    packet.is_keyframe = sample.key
    container.mux_one(packet)
    to.frames += pts >= 0
    to.unshown += pts < 0
    if to.told is not None and pts >= 0:
        to.told(Shown(picture.part, picture.row, pts))
    to.last_pts, to.end_pts = pts, pts + sample.duration


def _check_whole(path: Path) -> None:
    """Whether the index comes first and all pictures reached the disk.

    FFmpeg does not report every write that fails while it closes a file.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        kinds: list[bytes] = []
        position = 0
        while position < size:
            file.seek(position)
            header = file.read(_BOX_HEADER_BYTES)
            length = int.from_bytes(header[:4], "big")
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            kinds.append(header[4:8])
            position += max(length, 8)
        if position != size or kinds[:2] != [b"ftyp", b"moov"] or kinds[-1] != b"mdat":
            raise DiskError("The MP4 is not whole.", hint="Check the free space and try again.")
