"""Single pictures of a recording, decoded, at any time in it and in any order.

The decoder is fed from the fragment that holds the picture, which begins with a key frame. Opening
that fragment as a file for each picture would take as long again: a demuxer decodes the first
pictures to find out what the recording's own boxes say.
"""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import av

from engine.container.boxes import TIMESCALE_HZ
from engine.container.reader import RecordingReader
from engine.reading.tracks import Track, fragments_from, track_of
from ipc.errors import ConfigError, Corrupt

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.codeccontext import VideoCodecContext
    from av.video.frame import VideoFrame

    from engine.reading.samples import StoredSample

__all__ = ["PictureFinder"]

_TIME_BASE = Fraction(1, TIMESCALE_HZ)


class PictureFinder:
    """Finds and decodes pictures; not thread-safe.

    Args:
        recording: Must stay open meanwhile.

    Raises:
        ConfigError: there is no picture in it.
        Corrupt: a part holds no video that can be read.
    """

    def __init__(self, recording: RecordingReader) -> None:
        with ExitStack() as held:
            found = [track_of(part, held) for part in recording.parts]
            self._tracks = [track for track in found if track is not None]
            if not self._tracks:
                raise ConfigError("The recording holds no pictures yet.")
            self._held = held.pop_all()

    def picture_at(self, pts: int) -> VideoFrame:
        """Decode what is shown at a time: the last picture that begins then or before.

        Args:
            pts: 90 kHz from the recording's first frame; before its first picture, that one.

        Returns:
            The picture, with its own ``pts`` in 90 kHz.

        Raises:
            Corrupt: it is not what was written, or does not decode.
        """
        shown = [track for track in self._tracks if track.first_pts <= pts]
        track = shown[-1] if shown else self._tracks[0]
        _, samples, media = next(fragments_from(track, pts))
        last = max(sum(sample.pts <= pts for sample in samples), 1)
        decoder = _decoder(track)
        packets = [_packet(sample, media) for sample in samples[:last]]
        picture = None
        try:
            for packet in (*packets, None):  # None: no more will come
                picture = next(reversed(decoder.decode(packet)), picture)
        except av.FFmpegError as error:
            raise Corrupt(f"The decoder gave up at {pts}: {error}.") from error
        if picture is None or picture.pts != samples[last - 1].pts:
            raise Corrupt(f"The picture at {samples[last - 1].pts} does not decode.")
        return picture

    def close(self) -> None:
        """Let go of the decoders; safe to call twice. The recording stays open."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _decoder(track: Track) -> VideoCodecContext:
    known = track.stream.codec_context
    decoder = av.CodecContext.create(known.name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata = known.extradata
    decoder.thread_type = "AUTO"
    return decoder


def _packet(sample: StoredSample, media: memoryview) -> Packet[Any]:
    packet: Packet[Any] = av.Packet(bytes(media[sample.offset : sample.offset + sample.size_bytes]))
    packet.time_base = _TIME_BASE
    packet.pts = packet.dts = sample.pts
    packet.is_keyframe = sample.key
    return packet
