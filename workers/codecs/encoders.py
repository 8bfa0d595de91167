"""Video encoders through PyAV that hold no frame back, and their MP4 (design: Encoder).

What each is opened with stands in tuning.py. One thread at a time may use an encoder; `encode`
releases the GIL while FFmpeg works.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.codec.codec import UnknownCodecError
from av.codec.hwaccel import HWAccel
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorRange, ColorTrc
from av.video.stream import VideoStream

from ipc import osdep
from ipc.errors import EncoderError, FormatChanged
from workers.codecs import mux
from workers.codecs.spec import TIMESCALE_HZ, EncoderSpec, Sample
from workers.codecs.tuning import Tuning, candidates

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.codeccontext import VideoCodecContext

__all__ = ["VideoEncoder", "open_encoder"]

# SVT-AV1 writes its settings to stderr unless this says otherwise; 0: fatal errors alone.
_SVT_LOG = "0"

# AVCOL_SPC_SMPTE170M of FFmpeg; PyAV names only those of swscale.
_MATRIX_SMPTE170M = 6

# One GOP as a recording has it, two pictures of the next: enough to see delay and key frames.
_PROBE_KEYS = (True, False, False, True, False)


def open_encoder(spec: EncoderSpec) -> VideoEncoder:
    """Open the first encoder for `spec` that works: hardware, if wished, then software.

    Raises:
        EncoderError: unknown codec, or none opens; the message names each one's reason.
    """
    reasons = []
    for tuning in candidates(spec):
        try:
            return VideoEncoder(spec, tuning)
        except EncoderError as error:
            reasons.append(f"{tuning.encoder}: {error.message}")
    raise EncoderError(
        f"No {spec.codec} encoder opens here for {spec.width_px}x{spec.height_px}"
        f" at {spec.rate_hz:g} Hz ({'; '.join(reasons)}).",
        hint="Software H.264 opens everywhere: codec h264, hardware auto.",
    )


class VideoEncoder:
    """One open encoder and the MP4 its samples go into.

    Attributes:
        name: FFmpeg's name of the encoder, e.g. "libx264".
        hardware: It is no software encoder.
        settings: Everything it was opened with, for the session table.
        delay_frames: Pictures it holds back, measured at opening: 0 or 1.
        speeds: Presets `change_speed` takes, slowest first; empty: it has one speed only.
    """

    def __init__(self, spec: EncoderSpec, tuning: Tuning) -> None:
        """Open and prove the encoder.

        Raises:
            EncoderError: it does not open, holds back more than one picture, or makes other key
                frames than it was told to.
        """
        self.name = tuning.encoder
        self.hardware = tuning.hardware
        self.speeds = tuning.speeds
        self._spec = spec
        self._tuning = tuning
        self.delay_frames = _measure_delay(spec, tuning)
        self._session: _Session | None = _open_session(spec, tuning)
        self._init = self._session.init
        self.settings = _describe(spec, tuning) | {"delay_frames": str(self.delay_frames)}
        self._period = max(1, round(TIMESCALE_HZ / spec.rate_hz))
        self._last_pts: int | None = None

    def encode(self, picture: av.VideoFrame, pts_90k: int, *, key: bool) -> list[Sample]:
        """Encode one picture.

        Args:
            picture: yuv420p of the coded size (even); the encoder may read it until the next call.
            pts_90k: Grows strictly.
            key: Force a key frame (an IDR).

        Returns:
            The samples that became ready: this picture's, or the one before with delay_frames 1.

        Raises:
            FormatChanged: the picture has another size or format (PyAV would rescale it).
            EncoderError: pts does not grow, or the encoder failed; the picture is not encoded.
        """
        session = self._opened()
        self._check(picture, pts_90k)
        samples = session.encode(picture, pts_90k, key=key)
        self._last_pts = pts_90k
        if len(session.pending) > self.delay_frames:
            raise EncoderError(f"{self.name} holds back more pictures than it did at its opening.")
        return samples

    def flush(self) -> list[Sample]:
        """What the encoder still holds; afterwards it takes no more pictures."""
        return self._opened().flush()

    def change_speed(self, speed: str) -> list[Sample]:
        """Go on with another preset in the same MP4; the next picture is a key frame in any case.

        Args:
            speed: One of `speeds`.

        Returns:
            What the encoder still held.

        Raises:
            EncoderError: not one of them, or its headers differ; the encoder goes on as it was.
        """
        if speed not in self.speeds:
            raise EncoderError(f"{self.name} cannot step to {speed!r}.", hint=str(self.speeds))
        spec = replace(self._spec, preset=speed)
        tuning = replace(self._tuning, options=self._tuning.options | {"preset": speed})
        session = _open_session(spec, tuning)
        if session.init != self._init:
            session.close()
            raise EncoderError(f"{self.name} has other headers at speed {speed!r}.")
        samples = self.flush()
        self.close()
        self._session, self._spec, self._tuning = session, spec, tuning
        # Two encoders at once leave a heap with holes: 50 MB after ten steps at 1920x1200.
        osdep.trim_heap()
        return samples

    def init_segment(self) -> bytes:
        """Ftyp and moov, complete before the first picture and the same at every speed."""
        return self._init

    def fragment(
        self, samples: Sequence[Sample], number: int, *, end_pts: int | None = None
    ) -> bytes:
        """Moof and mdat of one fragment; tfdt is the first sample's pts.

        Args:
            samples: At least one, in order.
            number: Fragment number, from 1.
            end_pts: Where the last sample ends (the next one's pts); None: one nominal period on.

        Raises:
            EncoderError: no samples, or the muxer failed.
        """
        if not samples:
            raise EncoderError("A fragment needs a sample; a table-only one needs no muxer.")
        end = end_pts if end_pts is not None else samples[-1].pts + self._period
        return mux.mux_fragment(self._opened().stream, samples, number=number, end_pts=end)

    def close(self) -> None:
        """Release the encoder and its threads; safe to call twice."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _opened(self) -> _Session:
        if self._session is None:
            raise EncoderError(f"{self.name} is closed.")
        return self._session

    def _check(self, picture: av.VideoFrame, pts_90k: int) -> None:
        size = (picture.width, picture.height)
        if size != self._spec.coded_px or picture.format.name != "yuv420p":
            wanted = "x".join(map(str, self._spec.coded_px))
            raise FormatChanged(
                f"A {picture.format.name} picture of {size[0]}x{size[1]} came to an encoder of"
                f" yuv420p {wanted}; it was not encoded.",
                hint="Close this part and open the next.",
            )
        if self._last_pts is not None and pts_90k <= self._last_pts:
            raise EncoderError(
                f"pts {pts_90k} does not follow {self._last_pts}; the picture was not encoded."
            )


@dataclass(slots=True)
class _Session:
    """One opening of one encoder: a speed step makes a new one.

    Attributes:
        pending: (own clock's pts, 90 kHz pts, forced key) of the pictures not yet out.
    """

    container: OutputContainer
    stream: VideoStream
    context: VideoCodecContext
    tuning: Tuning
    init: bytes
    pending: deque[tuple[int, int, bool]]
    last_tick: int | None = None

    def encode(self, picture: av.VideoFrame, pts_90k: int, *, key: bool) -> list[Sample]:
        tick = pts_90k * self.tuning.clock_hz // TIMESCALE_HZ
        if self.last_tick is not None:
            tick = max(tick, self.last_tick + 1)
        picture.pts = tick
        picture.time_base = Fraction(1, self.tuning.clock_hz)
        picture.pict_type = PictureType.I if key else PictureType.NONE
        self.pending.append((tick, pts_90k, key))
        self.last_tick = tick
        try:
            return self._receive(picture)
        except av.FFmpegError as error:
            self.pending.pop()
            raise EncoderError(
                f"{self.tuning.encoder} failed: {error.strerror}; the picture was not encoded."
            ) from error

    def flush(self) -> list[Sample]:
        try:
            return self._receive(None)
        except av.FFmpegError as error:
            raise EncoderError(f"{self.tuning.encoder} failed: {error.strerror}.") from error

    def _receive(self, picture: av.VideoFrame | None) -> list[Sample]:
        samples = []
        for packet in self.context.encode(picture):
            tick, pts, key = self.pending.popleft()
            if packet.pts != tick:
                raise EncoderError(f"it reorders pictures (pts {packet.pts} came before {tick})")
            if key and not packet.is_keyframe:
                raise EncoderError(f"it made no key frame at pts {pts}, where one was forced")
            samples.append(Sample(pts, bytes(packet), packet.is_keyframe))
        return samples

    def close(self) -> None:
        self.container.close()


def _open_session(spec: EncoderSpec, tuning: Tuning) -> _Session:
    os.environ.setdefault("SVT_LOG", _SVT_LOG)
    container, memory = mux.open_container(1)
    try:
        stream = _add_stream(container, spec, tuning)
        context = stream.codec_context
        container.start_encoding()
        refused = sorted(tuning.options.keys() & context.options.keys())
        if refused:
            raise EncoderError(f"it does not know the options {', '.join(refused)}")
        if not context.extradata:
            raise EncoderError("it gives no header before the first picture")
        return _Session(container, stream, context, tuning, mux.init_segment(memory), deque())
    except EncoderError:
        container.close()
        raise
    except UnknownCodecError as error:
        container.close()
        raise EncoderError("it is not in this build of FFmpeg") from error
    except (av.FFmpegError, ValueError, RuntimeError) as error:
        container.close()
        reason = error.strerror if isinstance(error, av.FFmpegError) else str(error)
        raise EncoderError(f"it does not open ({reason})") from error


def _add_stream(container: OutputContainer, spec: EncoderSpec, tuning: Tuning) -> VideoStream:
    width_px, height_px = spec.coded_px
    stream = container.add_stream(
        tuning.encoder,
        rate=Fraction(spec.rate_hz).limit_denominator(1001),
        options=tuning.options,
        hwaccel=HWAccel(tuning.device) if tuning.device else None,
        width=width_px,
        height=height_px,
        time_base=Fraction(1, tuning.clock_hz),
        pix_fmt=tuning.pixel_format,
        bit_rate=tuning.bit_rate,
    )
    if not isinstance(stream, VideoStream):
        raise EncoderError("it is no video encoder")
    context = stream.codec_context
    context.gop_size = spec.longest_gop
    context.max_b_frames = 0
    context.thread_count = tuning.threads
    # The conversion changes matrix and range only; the camera's RGB is what a screen shows.
    context.colorspace = _MATRIX_SMPTE170M
    context.color_range = ColorRange.MPEG
    context.color_primaries = ColorPrimaries.BT709
    context.color_trc = ColorTrc.BT709
    if tuning.tag is not None:
        context.codec_tag = tuning.tag
    return stream


def _measure_delay(spec: EncoderSpec, tuning: Tuning) -> int:
    """Encode a few grey pictures with an encoder opened the same way; the only honest proof."""
    width_px, height_px = spec.coded_px
    picture = av.VideoFrame(width_px, height_px, "yuv420p")
    for plane in picture.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    period = max(1, round(TIMESCALE_HZ / spec.rate_hz))
    # Its safety net must not show among so few pictures.
    gop_frames = max(spec.longest_gop, 2 * len(_PROBE_KEYS))
    session = _open_session(replace(spec, gop_frames=gop_frames), tuning)
    samples, delay = [], 0
    try:
        for number, key in enumerate(_PROBE_KEYS):
            samples += session.encode(picture, number * period, key=key)
            delay = max(delay, len(session.pending))
        samples += session.flush()
    finally:
        session.close()
    if delay > 1:
        raise EncoderError(f"it holds back {delay} pictures; one is the most that is safe")
    if tuple(sample.key for sample in samples) != _PROBE_KEYS:
        raise EncoderError("it makes other key frames than it was told to")
    return delay


def _describe(spec: EncoderSpec, tuning: Tuning) -> dict[str, str]:
    width_px, height_px = spec.coded_px
    return {
        "encoder": tuning.encoder,
        "hardware": "yes" if tuning.hardware else "no",
        "coded_size": f"{width_px}x{height_px}",
        "rate_hz": f"{spec.rate_hz:g}",
        "time_base": f"1/{tuning.clock_hz}",
        "cap_bits_per_s": str(spec.cap_bits_per_s),
        "bit_rate": str(tuning.bit_rate),
        "threads": str(tuning.threads),
        "colour": "matrix smpte170m, limited range, primaries bt709, transfer bt709",
        "pyav": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        **tuning.options,
    }
