"""Video encoders through PyAV that hold no frame back, and their fragments of MP4."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from fractions import Fraction

import av
from av.video.frame import PictureType
from av.video.stream import VideoStream

from ipc.errors import EncoderError, FormatChanged
from workers.codecs import mux
from workers.codecs.spec import (
    TIMESCALE_HZ,
    EncoderSpec,
    Sample,
    even,
    h264_level,
    rate_cap,
)

__all__ = ["VideoEncoder", "open_encoder"]

_SMPTE170M, _LIMITED = 6, 1


def open_encoder(spec: EncoderSpec) -> VideoEncoder:
    """Open the encoder that `spec` asks for.

    Raises:
        EncoderError: none opens on this machine, or the codec is unknown.
    """
    if spec.codec not in ("h264", "libx264"):
        raise EncoderError(f"Unknown codec {spec.codec!r}.", hint="Known: h264.")
    cap = spec.max_bits_per_s or rate_cap(spec.width_px, spec.height_px, spec.rate_hz)
    options = {
        "preset": spec.preset or "superfast",
        "tune": "zerolatency",
        "profile": "high",
        "level": h264_level(spec.width_px, spec.height_px, spec.rate_hz),
        "crf": "23",
        "maxrate": str(cap),
        "bufsize": str(cap),
        "sc_threshold": "0",
        "forced-idr": "1",
        "x264-params": "ref=1:bframes=0:cabac=1:8x8dct=1:weightp=0",
    }
    return VideoEncoder("libx264", spec, options)


class VideoEncoder:
    """One open encoder and the MP4 its samples go into.

    Attributes:
        name: The encoder's own name, e.g. "libx264".
        hardware: It is not a software encoder.
        settings: Everything it was opened with, for the session table.
        delay_frames: Frames it holds back; 0 or 1.
    """

    def __init__(self, name: str, spec: EncoderSpec, options: dict[str, str]) -> None:
        self.name = name
        self.hardware = False
        self.settings = {"encoder": name, **options}
        self.delay_frames = 0
        self._size = (even(spec.width_px), even(spec.height_px))
        self._period = round(TIMESCALE_HZ / spec.rate_hz)
        self._last_pts: int | None = None
        self._pending: deque[int] = deque()
        self._container, memory = mux.open_container(1)
        try:
            stream = self._container.add_stream(
                name,
                rate=Fraction(spec.rate_hz).limit_denominator(1001),
                options=options,
                width=self._size[0],
                height=self._size[1],
                time_base=mux.TIME_BASE,
                pix_fmt="yuv420p",
            )
            if not isinstance(stream, VideoStream):
                raise ValueError("not a video encoder")
            self._stream = stream
            context = stream.codec_context
            context.gop_size = spec.gop_frames or max(2, round(3.2 * spec.rate_hz))
            context.max_b_frames = 0
            context.thread_count = spec.threads
            context.colorspace = context.color_primaries = context.color_trc = _SMPTE170M
            context.color_range = _LIMITED
            self._container.start_encoding()
        except (av.FFmpegError, ValueError) as error:
            self._container.close()
            raise EncoderError(f"{name} does not open: {error}.") from error
        self._init = mux.init_segment(memory)

    def encode(self, picture: av.VideoFrame, pts_90k: int, *, key: bool) -> list[Sample]:
        """Encode one picture.

        Args:
            picture: yuv420p of the coded size.
            pts_90k: Grows strictly.
            key: Force a key frame (an IDR).

        Raises:
            FormatChanged: the picture has another size or format.
            EncoderError: pts does not grow, or the encoder failed; the picture is not encoded.
        """
        if (picture.width, picture.height) != self._size or picture.format.name != "yuv420p":
            raise FormatChanged(f"A picture {picture} came to a {self._size} encoder.")
        if self._last_pts is not None and pts_90k <= self._last_pts:
            raise EncoderError(f"pts {pts_90k} does not follow {self._last_pts}.")
        picture.pts = pts_90k
        picture.time_base = mux.TIME_BASE
        picture.pict_type = PictureType.I if key else PictureType.NONE
        self._pending.append(pts_90k)
        self._last_pts = pts_90k
        return self._encode(picture)

    def flush(self) -> list[Sample]:
        """What the encoder still holds; afterwards it takes no more pictures."""
        return self._encode(None)

    def _encode(self, picture: av.VideoFrame | None) -> list[Sample]:
        try:
            packets = self._stream.codec_context.encode(picture)
        except av.FFmpegError as error:
            raise EncoderError(f"{self.name} failed: {error}.") from error
        return [Sample(self._pending.popleft(), bytes(p), p.is_keyframe) for p in packets]

    def init_segment(self) -> bytes:
        """Ftyp and moov, complete before the first picture."""
        return self._init

    def fragment(
        self, samples: Sequence[Sample], number: int, *, end_pts: int | None = None
    ) -> bytes:
        """Moof and mdat of one fragment; tfdt is the first sample's pts.

        Args:
            samples: At least one, in order.
            number: Fragment number, from 1.
            end_pts: Where the last sample ends (the next one's pts); None: one nominal period on.
        """
        end = end_pts if end_pts is not None else samples[-1].pts + self._period
        return mux.mux_fragment(self._stream, samples, number=number, end_pts=end)

    def close(self) -> None:
        """Release the encoder; safe to call twice."""
        self._container.close()
