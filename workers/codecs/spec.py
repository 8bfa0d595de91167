"""What an encoder is asked for, what it returns, and the limits that follow from a picture size.

No codec library is imported here. Times are pts of the recording, 90 kHz (FORMAT.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ipc.errors import ConfigError

__all__ = ["TIMESCALE_HZ", "EncoderSpec", "Hardware", "Sample", "even", "h264_level", "rate_cap"]

TIMESCALE_HZ = 90_000

Hardware = Literal["auto", "off", "only"]

# 500 MB per 10 minutes are 6.67 Mbit/s at 1920x1200 and 30 Hz; 5 % of it is left for tables and
# the padding of fragments to chunk edges.
_CAP_BITS_PER_S = 6_330_000
_CAP_PIXELS_PER_S = 1920 * 1200 * 30
# Small pictures cost more bits per pixel; 1280x720 at 25 Hz needs 3 Mbit/s for 40 dB.
_CAP_FLOOR_BITS_PER_S = 5_000_000

# (level, macroblocks per second, macroblocks per picture), ITU-T H.264 table A-1. Lower levels
# are left out: their bit rate limits are below our cap.
_H264_LEVELS = (
    ("3.1", 108_000, 3_600),
    ("3.2", 216_000, 5_120),
    ("4.0", 245_760, 8_192),
    ("4.2", 522_240, 8_704),
    ("5.0", 589_824, 22_080),
    ("5.1", 983_040, 36_864),
    ("5.2", 2_073_600, 36_864),
    ("6.0", 4_177_920, 139_264),
    ("6.1", 8_355_840, 139_264),
    ("6.2", 16_711_680, 139_264),
)


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """What to encode, and with what.

    Attributes:
        codec: "h264", "hevc", "av1", "mpeg4", or an encoder's own name such as "libx264".
        width_px: Width of the camera's picture; an odd one is coded one pixel wider.
        height_px: Height of the camera's picture; an odd one is coded one pixel higher.
        rate_hz: Nominal frame rate; only rate control and the last sample's duration use it.
        gop_frames: Longest run without a key frame when nobody forces one: a safety net, as key
            frames are forced at fragment starts. 0: `longest_gop`.
        max_bits_per_s: Cap of the bit rate; 0: `rate_cap`.
        threads: Encoder threads; 0: one per core, four at most.
        preset: The encoder's own speed name; None: the default of the encoder.
        hardware: Try hardware encoders first ("auto"), never ("off"), or accept no other ("only").

    Raises:
        ConfigError: a size or rate that is not positive.
    """

    codec: str
    width_px: int
    height_px: int
    rate_hz: float
    gop_frames: int = 0
    max_bits_per_s: int = 0
    threads: int = 0
    preset: str | None = None
    hardware: Hardware = "auto"

    def __post_init__(self) -> None:
        if min(self.width_px, self.height_px) < 1 or not self.rate_hz > 0:
            size = f"{self.width_px}x{self.height_px} at {self.rate_hz} Hz"
            raise ConfigError(f"No encoder takes pictures of {size}.", hint="Give positive sizes.")

    @property
    def coded_px(self) -> tuple[int, int]:
        """Width and height as coded: even."""
        return even(self.width_px), even(self.height_px)

    @property
    def longest_gop(self) -> int:
        """The safety net that applies: by default four fragments of 0.8 s, 30 pictures at least."""
        return self.gop_frames or max(30, round(4 * 0.8 * self.rate_hz))

    @property
    def cap_bits_per_s(self) -> int:
        """The cap of the bit rate that applies."""
        return self.max_bits_per_s or rate_cap(self.width_px, self.height_px, self.rate_hz)

    @property
    def cap_bits_per_pixel(self) -> float:
        """The cap spread over all pixels of a second; 0.09 at 1920x1200."""
        return self.cap_bits_per_s / (self.width_px * self.height_px * self.rate_hz)


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded picture. Decoding order is display order; nothing is reordered.

    Attributes:
        pts: 90 kHz, as given to `VideoEncoder.encode`.
        data: The encoder's bytes.
        key: Decodable without any earlier sample.
    """

    pts: int
    data: bytes
    key: bool


def even(size_px: int) -> int:
    """The coded size of a picture side: 4:2:0 chroma needs an even one."""
    return size_px + size_px % 2


def rate_cap(width_px: int, height_px: int, rate_hz: float) -> int:
    """Default cap of the bit rate in bit/s, in proportion to pixels per second, with a floor."""
    share = width_px * height_px * rate_hz / _CAP_PIXELS_PER_S
    return max(_CAP_FLOOR_BITS_PER_S, round(_CAP_BITS_PER_S * share))


def h264_level(width_px: int, height_px: int, rate_hz: float) -> str:
    """Lowest H.264 level for a picture size and rate; 1920x1200 needs 5.0."""
    wide, high = -(-width_px // 16), -(-height_px // 16)
    for level, per_s, per_picture in _H264_LEVELS:
        fits = wide * high <= per_picture and max(wide, high) ** 2 <= 8 * per_picture
        if fits and wide * high * rate_hz <= per_s:
            return level
    return _H264_LEVELS[-1][0]
