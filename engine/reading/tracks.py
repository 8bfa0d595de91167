"""What of a recording goes into a copy of its video: parts, tracks, and pictures in order of time.

A frame that two parts hold (a dead encoder's successor begins with what was not yet certain to be
durable) is taken from the later one. Nothing is decoded, and nothing written: that is ``copying``.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import av

from engine.container.part import Fragment, PartReader
from engine.container.reader import RecordingReader
from engine.container.recipients import Secret
from engine.container.tables import FrameRow
from engine.reading.samples import StoredSample, TrackDefaults, read_samples, track_defaults
from engine.reading.selection import reading
from ipc.errors import ConfigError, Corrupt

if TYPE_CHECKING:
    from av.video.stream import VideoStream

__all__ = [
    "Clip",
    "Copied",
    "Picture",
    "Progress",
    "Shown",
    "Told",
    "Track",
    "check_joinable",
    "damage",
    "fragments_from",
    "most_samples",
    "open_recording",
    "place",
    "samples",
    "track_of",
    "way_out",
]

Progress = Callable[[float], None]
"""Takes the done share, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture of the output.

    Attributes:
        part: Index of the part it was copied from.
        row: What its part says of it.
        pts: When in the output, 90 kHz.
    """

    part: int
    row: FrameRow
    pts: int


Told = Callable[[Shown], None]
"""Takes each picture that is shown, in order."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A stretch of the recording, 90 kHz from its first frame.

    Attributes:
        from_pts: The first picture shown is the first at this time or later.
        to_pts: Pictures at this time or later are left out; None: none are.
    """

    from_pts: int = 0
    to_pts: int | None = None


@dataclass(frozen=True, slots=True)
class _Settings:
    """What must be the same in all parts of one video track."""

    codec: str
    size_px: tuple[int, int]
    pixel_format: str | None
    colour: tuple[int, int, int, int]
    extradata: bytes | None


@dataclass(frozen=True, slots=True)
class Track:
    """The pictures of one part."""

    part: PartReader
    defaults: TrackDefaults
    stream: VideoStream
    settings: _Settings
    first_pts: int


@dataclass(frozen=True, slots=True)
class Picture:
    """A sample to be copied, and its bytes."""

    part: int
    row: FrameRow
    sample: StoredSample
    data: bytes


@dataclass(slots=True)
class Copied:
    """What went into the output so far.

    Attributes:
        begin_pts: Time in the recording that is zero in the output.
        unshown: Pictures that only decoders see.
        told: Told each picture that is shown.
    """

    begin_pts: int = 0
    frames: int = 0
    unshown: int = 0
    repeated: int = 0
    last_pts: int | None = None
    end_pts: int = 0
    told: Told | None = None


def open_recording(
    paths: Sequence[Path], secret: Secret, *, whole: bool, salvage: bool
) -> RecordingReader:
    """Open all parts of a recording, or one of them as if it were all.

    Args:
        paths: Its parts.
        secret: What opens them.
        whole: All parts; else the first of ``paths`` alone.
        salvage: Take what is intact of damaged parts, and leave out those that do not open.

    Raises:
        ConfigError, WrongKey, Corrupt: of any part.
    """
    with way_out():
        if whole:
            found = RecordingReader.open(paths[0], secret, salvage=salvage)
            # With nothing to salvage the first part's own error says more than an empty result.
            return found if found.parts else RecordingReader.open(paths[0], secret)
        return RecordingReader([PartReader.open(paths[0], secret, salvage=salvage)], ())


def damage(parts: Sequence[PartReader]) -> list[str]:
    """A sentence for each part of which only a beginning is intact."""
    return [f"{p.path.name}: {p.error.message}" for p in parts if p.error is not None]


@contextmanager
def way_out() -> Iterator[None]:
    """Say of damage what can be done."""
    try:
        yield
    except Corrupt as error:
        hint = error.hint or "`sealrec export --salvage` exports what is intact."
        raise Corrupt(f"{error.message} Nothing was exported.", hint=hint) from error


def track_of(part: PartReader, held: ExitStack) -> Track | None:
    """A part's track; None if there is no picture in it."""
    number = part.fragment_at(0)
    if number is None:
        return None
    try:
        container = held.enter_context(av.open(io.BytesIO(part.fragment_stream(number)), "r"))
        stream = container.streams.video[0]
    except (av.FFmpegError, IndexError) as error:
        raise Corrupt(f"{part.path.name} holds no video that can be read: {error}.") from error
    context = stream.codec_context
    settings = _Settings(
        codec=context.name,
        size_px=(context.width, context.height),
        pixel_format=context.pix_fmt,
        colour=(
            context.colorspace,
            context.color_range,
            context.color_primaries,
            context.color_trc,
        ),
        extradata=context.extradata,
    )
    defaults = track_defaults(part.init_segment)
    return Track(part, defaults, stream, settings, part.index[number].pts)


def check_joinable(tracks: Sequence[Track], path: Path) -> None:
    """Refuse tracks that cannot be one.

    Raises:
        ConfigError: there is none, or their settings differ.
    """
    if not tracks:
        raise ConfigError(f"{path} holds no pictures yet; there is nothing to export.")
    for track in tracks[1:]:
        if track.settings != tracks[0].settings:
            first, other = tracks[0].part.part_index, track.part.part_index
            raise ConfigError(
                f"Parts {first} and {other} have another picture size or codec settings, which one "
                "MP4 track cannot hold.",
                hint=f"Export them one by one: --part {first}, --part {other}.",
            )


def place(tracks: Sequence[Track], clip: Clip | None) -> tuple[Copied, Clip]:
    """Where the output begins in the recording, and what of it is shown.

    Raises:
        ConfigError: no picture lies in the clip.
    """
    shown = clip or Clip()
    if clip is None:
        return Copied(), shown
    times = (
        row.pts
        for track in tracks
        for number in _from_fragment(track, shown.from_pts)
        for row in _fragment(track.part, number).table.frames
        if row.pts >= shown.from_pts
    )
    first = next(times, None)
    if first is None or (shown.to_pts is not None and first >= shown.to_pts):
        raise ConfigError("There is no picture between these times.", hint="See `sealrec verify`.")
    return Copied(begin_pts=first), Clip(first, shown.to_pts)


def _from_fragment(track: Track, pts: int) -> range:
    """The fragments of a part from the one on that shows a time."""
    return range(track.part.fragment_at(pts) or 0, len(track.part.index))


def most_samples(tracks: Sequence[Track], shown: Clip) -> int:
    """No fewer than ``samples`` gives, by the index alone."""
    rows = (row for t in tracks for row in t.part.index[_from_fragment(t, shown.from_pts).start :])
    return sum(row.samples for row in rows if shown.to_pts is None or row.pts < shown.to_pts)


def samples(
    tracks: Sequence[Track], shown: Clip, copied: Copied, progress: Progress
) -> Iterator[Picture]:
    """The samples of all parts in order of time, each frame once, from a key frame on."""
    total, before = max(1, sum(track.part.size for track in tracks)), 0
    for i, track in enumerate(tracks):
        end = min((later.first_pts for later in tracks[i + 1 :]), default=None)
        if end is None or end > shown.from_pts:
            for fragment, samples, media in fragments_from(track, shown.from_pts):
                for sample, row in zip(samples, fragment.table.frames, strict=True):
                    if end is not None and sample.pts >= end:
                        copied.repeated += 1
                        continue
                    if shown.to_pts is not None and sample.pts >= shown.to_pts:
                        return
                    data = bytes(media[sample.offset : sample.offset + sample.size_bytes])
                    yield Picture(track.part.part_index, row, sample, data)
                progress((before + fragment.offset + fragment.size) / total)
        before += track.part.size


def _fragment(part: PartReader, number: int) -> Fragment:
    with reading(part.path):
        return part.fragment(number)


def fragments_from(
    track: Track, from_pts: int
) -> Iterator[tuple[Fragment, list[StoredSample], memoryview]]:
    """The fragments of a part with their samples and media boxes; each begins with a key frame."""
    part = track.part
    for number in _from_fragment(track, from_pts):
        fragment = _fragment(part, number)
        with reading(part.path):
            samples = read_samples(part, fragment, track.defaults)
            media = memoryview(bytearray(fragment.media_size))
            part.read_into(media, fragment.media_offset)
        yield fragment, samples, media
