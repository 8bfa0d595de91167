"""Samples into fragments of MP4: one muxer per fragment (design: Encoder; FORMAT.md, "Inside").

FFmpeg's muxer writes a fragment only when the next one starts and PyAV cannot flush it, so every
fragment gets a muxer of its own, whose ftyp and moov are dropped. That costs 0.5-1 ms and keeps
times exact over any gap. The encoder itself lives in a first container of the same kind, because
PyAV hands codec parameters from stream to stream only.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from ipc.errors import EncoderError
from workers.codecs.spec import TIMESCALE_HZ, Sample

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

__all__ = ["TIME_BASE", "boxes", "init_segment", "mux_fragment", "open_container"]

TIME_BASE = Fraction(1, TIMESCALE_HZ)

_OPTIONS = {
    "movflags": "frag_custom+empty_moov+default_base_moof+frag_discont+skip_trailer",
    "avoid_negative_ts": "disabled",
    "use_editlist": "0",
    "video_track_timescale": str(TIMESCALE_HZ),
}


def open_container(number: int) -> tuple[OutputContainer, io.BytesIO]:
    """A muxer into memory whose first fragment carries `number` (from 1)."""
    memory = io.BytesIO()
    options = _OPTIONS | {"fragment_index": str(number)}
    return av.open(memory, "w", format="mp4", options=options), memory


def boxes(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Top-level MP4 boxes of `data` as (type, first byte, byte after the last).

    Raises:
        EncoderError: a box runs past the end, so the muxer did not finish it.
    """
    start = 0
    while start < len(data):
        size = int.from_bytes(data[start : start + 4], "big")
        kind = data[start + 4 : start + 8]
        if size == 1:
            size = int.from_bytes(data[start + 8 : start + 16], "big")
        if size < 8 or start + size > len(data):
            raise EncoderError("The MP4 muxer left an unfinished box; the fragment is not usable.")
        yield kind, start, start + size
        start += size


def init_segment(memory: io.BytesIO) -> bytes:
    """Ftyp and moov out of a started container's memory."""
    data = memory.getvalue()
    return b"".join(data[a:b] for kind, a, b in boxes(data) if kind in (b"ftyp", b"moov"))


def mux_fragment(
    stream: VideoStream, samples: Sequence[Sample], *, number: int, end_pts: int
) -> bytes:
    """One fragment as moof and mdat.

    Args:
        stream: The encoder's stream, the source of the codec parameters.
        samples: In order, pts growing strictly; at least one.
        number: Fragment number (mfhd), from 1.
        end_pts: Where the last sample ends, 90 kHz; the others end where the next one starts.

    Raises:
        EncoderError: the muxer failed or wrote something else than one moof and one mdat.
    """
    container, memory = open_container(number)
    try:
        with container:
            output = container.add_stream_from_template(stream)
            ends = [sample.pts for sample in samples[1:]] + [end_pts]
            for sample, end in zip(samples, ends, strict=True):
                packet = av.Packet(sample.data)
                packet.stream = output
                packet.time_base = TIME_BASE
                packet.pts = packet.dts = sample.pts
                packet.duration = end - sample.pts
                packet.is_keyframe = sample.key
                container.mux_one(packet)
    except av.FFmpegError as error:
        raise EncoderError(f"The MP4 muxer failed on fragment {number}: {error}.") from error
    data = memory.getvalue()
    found = [(kind, a, b) for kind, a, b in boxes(data) if kind not in (b"ftyp", b"moov")]
    if [kind for kind, _, _ in found] != [b"moof", b"mdat"]:
        raise EncoderError(f"The MP4 muxer wrote {[kind for kind, _, _ in found]} as a fragment.")
    return data[found[0][1] : found[1][2]]
