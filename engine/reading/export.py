"""Exports a recording to an ordinary MP4: not encrypted, its index first, one timeline.

Encoded pictures are copied, not decoded; their times stay what they were to the tick, and a gap
stays a gap. A frame that two parts hold (a dead encoder's successor begins with what was not yet
certain to be durable) is taken from the later one. No plaintext is written but to a temporary file
beside the output, which gets the output's name when it is whole.
"""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import av

from engine.container.boxes import TIMESCALE_HZ
from engine.container.header import MAGIC
from engine.container.part import Fragment, PartReader
from engine.container.reader import RecordingReader
from engine.container.recipients import Secret
from engine.reading.samples import StoredSample, TrackDefaults, read_samples, track_defaults
from engine.reading.selection import reading, select_parts
from ipc.errors import ConfigError, Corrupt, DiskError, SealrecError, Truncated, Unbalanced
from ipc.osdep import create_private, rename_new, sync_directory

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

__all__ = ["ExportReport", "export"]

_TIME_BASE: Final = Fraction(1, TIMESCALE_HZ)
_OPTIONS: Final = {
    "movflags": "faststart",
    "movie_timescale": str(TIMESCALE_HZ),
    "video_track_timescale": str(TIMESCALE_HZ),
}
_BOX_HEADER_BYTES: Final = 16

Progress = Callable[[float], None]
"""Takes the done share, 0 to 1."""


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        path: The MP4.
        parts: The parts it was made of.
        state: ``sealed``, ``recovered``, ``incomplete`` or ``corrupt``: the worst of them.
        frames: Pictures in it.
        repeated: Pictures left out because the next part holds the same frames.
        first_pts: Time of its first picture, 90 kHz; 0 unless the recording's beginning is left
            out or missing.
        duration_s: From the recording's first frame to the end of the last picture.
        size_bytes: Of the MP4.
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
            "problems": list(self.problems),
        }


@dataclass(frozen=True, slots=True)
class _Settings:
    """What must be the same in all parts of one video track."""

    codec: str
    size_px: tuple[int, int]
    pixel_format: str | None
    colour: tuple[int, int, int, int]
    extradata: bytes | None


@dataclass(frozen=True, slots=True)
class _Track:
    """The pictures of one part."""

    part: PartReader
    defaults: TrackDefaults
    stream: VideoStream
    settings: _Settings
    first_pts: int


@dataclass(slots=True)
class _Copied:
    """What went into the output so far."""

    frames: int = 0
    repeated: int = 0
    last_pts: int = -1
    end_pts: int = 0


def export(  # noqa: PLR0913 - one keyword per option
    path: Path,
    out: Path,
    secret: Secret,
    *,
    part: int | None = None,
    force: bool = False,
    salvage: bool = False,
    progress: Progress | None = None,
) -> ExportReport:
    """Write a recording, or one part of it, as an ordinary MP4 that is not encrypted.

    Args:
        path: Any part.
        out: The MP4, readable by its owner alone.
        secret: What opens the recording.
        part: Only this part. Its times still count from the recording's first frame.
        force: Replace ``out`` if it exists. A sealed recording is never replaced.
        salvage: Take what is intact of damaged parts, and leave out those that do not open.
        progress: Told the share that is done.

    Raises:
        ConfigError: no such recording or part, ``out`` cannot be used, nothing to export, or parts
            with different settings, which no single track can hold.
        WrongKey, Corrupt: of any part.
        DiskError: ``out`` cannot be written. Whatever fails, nothing is left behind.
    """
    paths = select_parts(path, part)
    _check_target(out, force=force)
    with ExitStack() as held:
        recording = held.enter_context(_open(paths, secret, whole=part is None, salvage=salvage))
        parts = recording.parts
        problems = [*recording.problems, *_damage(parts)]
        tracks = [track for p in parts if (track := _track(p, held)) is not None]
        _check_joinable(tracks, path)
        temporary = held.enter_context(_temporary_beside(out))
        with _writing(out):
            copied = _write(temporary, tracks, progress or (lambda _share: None))
            _check_whole(temporary)
            size_bytes = temporary.stat().st_size
            _publish(temporary, out, force=force)
        states = [p.state for p in parts]
    order = ("sealed", "recovered", "incomplete", "corrupt")
    return ExportReport(
        path=out,
        parts=tuple(p.path for p in parts),
        state=max(states, key=order.index, default=order[0]),
        frames=copied.frames,
        repeated=copied.repeated,
        first_pts=tracks[0].first_pts,
        duration_s=round(copied.end_pts / TIMESCALE_HZ, 6),
        size_bytes=size_bytes,
        problems=tuple(problems),
    )


# --- what goes in -----------------------------------------------------------------------------


def _open(paths: Sequence[Path], secret: Secret, *, whole: bool, salvage: bool) -> RecordingReader:
    try:
        if whole:
            found = RecordingReader.open(paths[0], secret, salvage=salvage)
            # With nothing to salvage the first part's own error says more than an empty result.
            return found if found.parts else RecordingReader.open(paths[0], secret)
        return RecordingReader([PartReader.open(paths[0], secret, salvage=salvage)], ())
    except Corrupt as error:
        raise _with_way_out(error) from error


def _damage(parts: Sequence[PartReader]) -> list[str]:
    return [f"{p.path.name}: {p.error.message}" for p in parts if p.error is not None]


def _with_way_out(error: Corrupt) -> Corrupt:
    hint = error.hint or "--salvage exports what is intact."
    return Corrupt(f"{error.message} Nothing was exported.", hint=hint)


def _track(part: PartReader, held: ExitStack) -> _Track | None:
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
    return _Track(part, defaults, stream, settings, part.index[number].pts)


def _check_joinable(tracks: Sequence[_Track], path: Path) -> None:
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


def _samples(
    tracks: Sequence[_Track], copied: _Copied, progress: Progress
) -> Iterator[tuple[StoredSample, bytes]]:
    """The samples of all parts in order of time, each frame once."""
    total, before = max(1, sum(track.part.size for track in tracks)), 0
    for i, track in enumerate(tracks):
        end = min((later.first_pts for later in tracks[i + 1 :]), default=None)
        for fragment, samples, media in _fragments(track):
            for sample in samples:
                if end is not None and sample.pts >= end:
                    copied.repeated += 1
                    continue
                yield sample, media[sample.offset : sample.offset + sample.size_bytes]
            progress((before + fragment.offset + fragment.size) / total)
        before += track.part.size


def _fragments(track: _Track) -> Iterator[tuple[Fragment, list[StoredSample], bytes]]:
    """The fragments of a part with their samples and media boxes."""
    part = track.part
    for number in range(len(part.index)):
        with reading(part.path):
            fragment = part.fragment(number)
            samples = read_samples(part, fragment, track.defaults)
            media = part.read_at(fragment.media_size, fragment.media_offset)
        yield fragment, samples, media


# --- what comes out ---------------------------------------------------------------------------


def _write(path: Path, tracks: Sequence[_Track], progress: Progress) -> _Copied:
    # An edit list is written only where the first picture is not at zero: it keeps that time.
    edit_list = {"use_editlist": str(int(tracks[0].first_pts > 0))}
    copied = _Copied()
    try:
        options = _OPTIONS | edit_list
        with av.open(str(path), "w", format="mp4", options=options) as container:
            # Opaque: parameters are copied as they are, without looking for an encoder.
            stream = container.add_stream_from_template(tracks[0].stream, opaque=True)
            stream.time_base = _TIME_BASE
            for sample, data in _samples(tracks, copied, progress):
                _copy(container, stream, sample, data, copied)
    except Corrupt as error:
        raise _with_way_out(error) from error
    return copied


def _copy(
    container: OutputContainer, stream: VideoStream, sample: StoredSample, data: bytes, to: _Copied
) -> None:
    if sample.pts <= to.last_pts:
        raise Corrupt(f"The picture at {sample.pts} does not come after that at {to.last_pts}.")
    packet = av.Packet(data)
    packet.stream = stream
    packet.time_base = _TIME_BASE
    packet.pts = packet.dts = sample.pts
    packet.duration = sample.duration
    packet.is_keyframe = sample.key
    container.mux_one(packet)
    to.frames += 1
    to.last_pts, to.end_pts = sample.pts, sample.pts + sample.duration


def _check_target(out: Path, *, force: bool) -> None:
    with _writing(out):
        if not out.parent.is_dir():
            raise ConfigError(f"There is no directory {out.parent}.")
        if not os.path.lexists(out):
            return
        if not out.is_file():
            raise ConfigError(f"{out} exists and is not a file.", hint="Choose another name.")
        if not force:
            raise _taken(out)
        with out.open("rb") as file:
            if file.read(len(MAGIC)) == MAGIC:
                raise ConfigError(f"{out} is a sealed recording; it is not replaced.")


@contextmanager
def _temporary_beside(out: Path) -> Iterator[Path]:
    """An empty file of the owner's, gone at the end unless it was renamed."""
    path = out.absolute().with_name(f".sealrec-export-{secrets.token_hex(8)}.mp4")
    with _writing(out):
        os.close(create_private(path))
    try:
        yield path
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def _check_whole(path: Path) -> None:
    """Whether the index comes first and all pictures reached the disk; then make it durable.

    FFmpeg does not report every write that fails while it closes a file.
    """
    with path.open("r+b") as file:
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
        os.fsync(file.fileno())


def _publish(temporary: Path, out: Path, *, force: bool) -> None:
    if force:
        os.replace(temporary, out)
    else:
        try:
            rename_new(temporary, out)
        except FileExistsError:
            raise _taken(out) from None
    sync_directory(out.absolute().parent)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    try:
        yield
    except SealrecError:
        raise
    except (av.FFmpegError, OSError) as error:
        why = error.strerror or str(error)
        raise DiskError(
            f"{out} cannot be written ({why}).", hint="Check the folder, its rights and its space."
        ) from error


def _taken(out: Path) -> ConfigError:
    return ConfigError(
        f"{out} exists already; nothing was written.", hint="Choose another name, or add --force."
    )
