"""The pictures of an open recording, fragment by fragment, decrypted when they are asked for.

One timeline over all parts: where a successor's part begins with frames that the dead part holds
as well, the later part is shown, as ``export`` does. Every answer is one fragment at most, so a
request is bounded by what the writer could make.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Final

import msgspec

from engine.container.part import PartReader
from engine.container.reader import RecordingReader
from engine.container.tables import ClockPair
from engine.review.codec_names import VideoType, video_type
from ipc.errors import ConfigError, WrongState

__all__ = ["Fragments", "FrameRows", "Locked", "PlayedPart", "ShownFrame"]

_NS_PER_MS: Final = 1_000_000


class Locked(WrongState):
    """The recording is not open (any more): its key must be given again."""

    code = "locked"

    def __init__(self) -> None:
        super().__init__("This recording is locked.", hint="Give its key again.")


class ShownFrame(msgspec.Struct, frozen=True, array_like=True):
    """One picture.

    Attributes:
        pts: 90 kHz.
        frame_id: The camera's own id.
        epoch: See ``FrameRow``.
        camera_ns: As text: it exceeds what a script counts exactly.
        utc_ms: Time of day at its arrival; None if the file has no clock for it.
        flags: ``ipc.frame.FrameFlags``.
    """

    pts: int
    frame_id: int
    epoch: int
    camera_ns: str
    utc_ms: float | None
    flags: int


class FrameRows(msgspec.Struct, frozen=True):
    """The pictures of one fragment.

    Attributes:
        frames: In order.
        end_pts: Where the last one ends.
    """

    frames: tuple[ShownFrame, ...]
    end_pts: int


class PlayedPart(msgspec.Struct, frozen=True):
    """One part with pictures.

    Attributes:
        index: Of the part.
        state: Of the part.
        codec: For the browser.
        width_px: Of the picture.
        height_px: Of the picture.
        until_pts: From here on the next part is shown; None for the last.
        fragments: (number, pts) of each that is played, in order.
    """

    index: int
    state: str
    codec: str
    width_px: int
    height_px: int
    until_pts: int | None
    fragments: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Played:
    reader: PartReader
    init_segment: bytes
    type: VideoType
    until_pts: int | None
    rows: dict[int, int]  # pts by number


class Fragments:
    """The playable fragments of a recording. May be used from any thread.

    Args:
        recording: Belongs to this object from now on.

    Raises:
        Corrupt: the place of the fragments, or what is in them, cannot be read.
    """

    def __init__(self, recording: RecordingReader) -> None:
        self._recording = recording
        self._lock = threading.Lock()
        self._closed = False
        self._played = _play_order(recording)
        self.end_pts = recording.end_pts
        session = next((p.session for p in recording.parts if p.session is not None), None)
        self.session = session
        self._clock: ClockPair | None = None if session is None else session.clock

    @property
    def states(self) -> dict[int, str]:
        """Of every part, by index."""
        return {part.part_index: part.state for part in self._recording.parts}

    def parts(self) -> list[PlayedPart]:
        """What is played, in order."""
        return [
            PlayedPart(
                index,
                played.reader.state,
                played.type.codec,
                played.type.width_px,
                played.type.height_px,
                played.until_pts,
                tuple(played.rows.items()),
            )
            for index, played in self._played.items()
        ]

    def init_segment(self, part: int) -> bytes:
        """``ftyp`` and ``moov`` of a part.

        Raises:
            ConfigError: there is no such part.
            Locked: it was closed.
        """
        return self._part(part).init_segment

    def media(self, part: int, number: int) -> bytes:
        """``moof`` and ``mdat`` of a fragment.

        Raises:
            ConfigError: there is no such fragment.
            Corrupt: it is not what was written.
            Locked: it was closed.
        """
        with self._lock:
            played = self._fragment(part, number)
            found = played.reader.fragment(number)
            return played.reader.read_at(found.media_size, found.media_offset)

    def frames(self, part: int, number: int) -> FrameRows:
        """The pictures of a fragment.

        Raises:
            ConfigError: there is no such fragment.
            Corrupt: it is not what was written.
            Locked: it was closed.
        """
        with self._lock:
            played = self._fragment(part, number)
            found = played.reader.fragment(number)
        end_pts = found.pts + found.duration
        if played.until_pts is not None:
            end_pts = min(end_pts, played.until_pts)
        clock = found.table.clock or self._clock
        return FrameRows(
            tuple(
                ShownFrame(
                    row.pts,
                    row.frame_id,
                    row.epoch,
                    str(row.camera_ns),
                    utc_ms(row.host_ns, clock),
                    row.flags,
                )
                for row in found.table.frames
                if played.until_pts is None or row.pts < played.until_pts
            ),
            end_pts,
        )

    def close(self) -> None:
        """Close the files and let go of what was decrypted; safe to call twice."""
        with self._lock:
            self._recording.close()
            self._closed = True
            self._played = {}

    def _part(self, part: int) -> _Played:
        if self._closed:
            raise Locked
        if part not in self._played:
            raise ConfigError("There is no such part.")
        return self._played[part]

    def _fragment(self, part: int, number: int) -> _Played:
        played = self._part(part)
        if number not in played.rows:
            raise ConfigError("There is no such fragment.")
        return played


def utc_ms(host_ns: int, clock: ClockPair | None) -> float | None:
    """Time of day of a moment on the host clock, Unix milliseconds."""
    if clock is None:
        return None
    return round((clock.utc_ns + host_ns - clock.host_ns) / _NS_PER_MS, 3)


def _play_order(recording: RecordingReader) -> dict[int, _Played]:
    played: dict[int, _Played] = {}
    until: int | None = None
    for part in reversed(recording.parts):
        rows = {
            number: row.pts
            for number, row in enumerate(part.index)
            if row.samples and (until is None or row.pts < until)
        }
        if not rows:
            continue
        init_segment = part.init_segment
        kind = video_type(init_segment)
        played[part.part_index] = _Played(part, init_segment, kind, until, rows)
        until = min(rows.values())
    return dict(reversed(played.items()))
