"""How each encoder is opened: nothing held back, key frames only where forced, a capped bit rate.

One function per encoder family; encoders.py opens what they return. Figures and reasons are in the
comments; measured on a two-core x86-64 machine at 1920x1200 with noisy moving pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ipc.errors import EncoderError
from workers.codecs.spec import TIMESCALE_HZ, EncoderSpec, h264_level

__all__ = ["KNOWN_CODECS", "Tuning", "candidates"]

# No more: every slice of the sliced threads costs bits (measured: 0.02 dB for two).
_THREADS_MAX = 4

# Scene-cut detection of FFmpeg's own encoders is off at a threshold nothing reaches.
_NEVER = "1000000000"

_GENEROUS_BITS_PER_PIXEL = 0.15

# How much of the rate buffer the first pictures may spend; with the default of 0.9 a recording of
# 10 s comes out 9 % over the cap, with less than this its first second looks worse.
_BUFFER_AT_START = 0.4

# Fastest first. Slower than "medium" a recorder has no use for.
_X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium")
_SVT_PRESETS = tuple(str(preset) for preset in range(13, 4, -1))


@dataclass(frozen=True, slots=True)
class Tuning:
    """One encoder with everything it is opened with.

    Attributes:
        encoder: FFmpeg's name of it.
        options: Private options and FFmpeg's generic ones.
        pixel_format: What it is fed; nv12 is made from yuv420p by swscale.
        clock_hz: Its time base; pts outside stay in 90 kHz.
        bit_rate: Target in bit/s for encoders without constant quality, else 0.
        threads: FFmpeg's thread count; 1 for encoders that are told in their own options.
        device: Kind of hardware device to upload pictures to, if it needs that.
        hardware: It is no software encoder.
        tag: MP4 sample entry, where FFmpeg's default is not what players want.
        speeds: Presets that can follow each other in one MP4, slowest first.
    """

    encoder: str
    options: dict[str, str]
    pixel_format: str = "yuv420p"
    clock_hz: int = TIMESCALE_HZ
    bit_rate: int = 0
    threads: int = 1
    device: str | None = None
    hardware: bool = False
    tag: str | None = None
    speeds: tuple[str, ...] = ()


def candidates(spec: EncoderSpec) -> list[Tuning]:
    """The encoders to try for `spec`, in order.

    Raises:
        EncoderError: unknown codec, or one that the wish for hardware excludes.
    """
    if spec.codec in _SOFTWARE:
        names = [f"{spec.codec}_{kind}" for kind in _HARDWARE] if spec.codec != "mpeg4" else []
        names.append(_SOFTWARE[spec.codec])
    else:
        names = [spec.codec]
    unknown = [name for name in names if name not in _TUNERS]
    if unknown:
        raise EncoderError(f"Unknown codec {spec.codec!r}.", hint=f"Known: {_known()}.")
    tunings = [_TUNERS[name](name, spec) for name in names]
    if spec.hardware != "auto":
        tunings = [t for t in tunings if t.hardware == (spec.hardware == "only")]
    if not tunings:
        raise EncoderError(
            f"Codec {spec.codec!r} cannot be had with hardware={spec.hardware!r}.",
            hint="Use hardware='auto'.",
        )
    return tunings


def _known() -> str:
    return f"{', '.join(KNOWN_CODECS)}; or an encoder: {', '.join(_TUNERS)}"


def _threads(spec: EncoderSpec) -> int:
    return spec.threads or min(_THREADS_MAX, os.cpu_count() or 1)


def _capped(spec: EncoderSpec, *, buffer_s: float = 1.0) -> dict[str, str]:
    """A hard cap of the rate over `buffer_s`."""
    cap = spec.cap_bits_per_s
    return {"maxrate": str(cap), "bufsize": str(round(cap * buffer_s))}


def _crf(spec: EncoderSpec) -> str:
    # Where the cap leaves bits to spare, use them (1280x720 at 25 Hz: +1 dB). At 1920x1200 a lower
    # crf only empties the buffer earlier and makes the quality swing: 22 measured 0.2 dB worse.
    return "21" if spec.cap_bits_per_pixel > _GENEROUS_BITS_PER_PIXEL else "23"


def _preset(spec: EncoderSpec, default: str, allowed: Sequence[str]) -> str:
    # Checked here because the encoders complain to stderr.
    preset = spec.preset or default
    if preset not in allowed:
        raise EncoderError(f"Unknown preset {preset!r}.", hint=f"Known: {', '.join(allowed)}.")
    return preset


def _x264(name: str, spec: EncoderSpec) -> Tuning:
    # superfast: 16 ms a picture with two threads, 21 with one; veryfast: 26, too slow for 45 fps.
    # The x264-params fix what presets would change in SPS and PPS, so that the speed can step.
    # sliced-threads comes with zerolatency: frame threads would hold pictures back.
    options = {
        "preset": _preset(spec, "superfast", _X26X_PRESETS),
        "tune": "zerolatency",
        "profile": "high",
        "level": h264_level(*spec.coded_px, spec.rate_hz),
        "crf": _crf(spec),
        **_capped(spec),
        "sc_threshold": "0",
        "forced-idr": "1",
        "x264-params": f"ref=1:bframes=0:cabac=1:8x8dct=1:weightp=0:vbv-init={_BUFFER_AT_START}",
    }
    speeds = ("faster", "veryfast", "superfast", "ultrafast")
    return Tuning(name, options, threads=_threads(spec), speeds=speeds)


def _x265(name: str, spec: EncoderSpec) -> Tuning:
    # frame-threads=1: two hold a picture back. info=0: no settings text in the header.
    cap = spec.cap_bits_per_s // 1000
    params = {
        "bframes": 0,
        "rc-lookahead": 0,
        "scenecut": 0,
        "open-gop": 0,
        "repeat-headers": 0,
        "info": 0,
        "log-level": "none",
        "frame-threads": 1,
        "pools": _threads(spec),
        "vbv-maxrate": cap,
        "vbv-bufsize": cap,
        "vbv-init": _BUFFER_AT_START,
    }
    options = {
        "preset": _preset(spec, "ultrafast", _X26X_PRESETS),
        "crf": _crf(spec),
        "forced-idr": "1",
        "x265-params": _joined(params),
    }
    return Tuning(name, options, tag="hvc1")


def _svt_av1(name: str, spec: EncoderSpec) -> Tuning:
    # Constant bit rate: with crf and no lookahead the cap is ignored (measured: 37 Mbit/s of 6).
    params = {
        "pred-struct": 1,
        "lookahead": 0,
        "scd": 0,
        "enable-tf": 0,
        "rtc": 1,
        "rc": 2,
        "lp": _threads(spec),
    }
    options = {"preset": _preset(spec, "12", _SVT_PRESETS), "svtav1-params": _joined(params)}
    return Tuning(name, options, bit_rate=round(spec.cap_bits_per_s * 0.97))


def _mpeg4(name: str, spec: EncoderSpec) -> Tuning:
    if spec.preset is not None:
        raise EncoderError("mpeg4 has no presets.", hint="Leave the preset out.")
    # Its clock has 16 bits: 90000 is refused. Half a second of buffer and 10 % of distance keep
    # its loose rate control under the cap. One thread: a second one costs a fifth more CPU, and the
    # core that it would take is the one that converts the next picture (benchmarks.compare).
    options = {"sc_threshold": _NEVER, "qmin": "3", **_capped(spec, buffer_s=0.5)}
    target = round(spec.cap_bits_per_s * 0.9)
    return Tuning(name, options, clock_hz=45_000, bit_rate=target, threads=spec.threads or 1)


def _nvenc(name: str, spec: EncoderSpec) -> Tuning:
    options = {
        "preset": spec.preset or "p4",
        "tune": "ull",
        "zerolatency": "1",
        "delay": "0",
        "rc-lookahead": "0",
        "no-scenecut": "1",
        "forced-idr": "1",
        "rc": "vbr",
        "cq": "30" if name.startswith("av1") else "23",
        **_capped(spec),
    }
    return _hardware(name, spec, options)


def _qsv(name: str, spec: EncoderSpec) -> Tuning:
    options = {
        "preset": spec.preset or "veryfast",
        "async_depth": "1",
        "look_ahead_depth": "0",
        "adaptive_i": "0",
        "adaptive_b": "0",
        "low_delay_brc": "1",
        "forced_idr": "1",
        **_capped(spec),
    }
    return _hardware(name, spec, options, pixel_format="nv12")


def _amf(name: str, spec: EncoderSpec) -> Tuning:
    options = {
        "usage": "lowlatency",
        "quality": spec.preset or "speed",
        "rc": "vbr_peak",
        "preanalysis": "0",
        "forced_idr": "1",
        **_capped(spec),
    }
    return _hardware(name, spec, options)


def _videotoolbox(name: str, spec: EncoderSpec) -> Tuning:
    options = {"realtime": "1", "allow_sw": "0", **_capped(spec)}
    return _hardware(name, spec, options)


def _vaapi(name: str, spec: EncoderSpec) -> Tuning:
    options = {"async_depth": "1", "rc_mode": "VBR", **_capped(spec)}
    return _hardware(name, spec, options, pixel_format="nv12", device="vaapi")


def _hardware(
    name: str,
    spec: EncoderSpec,
    options: dict[str, str],
    *,
    pixel_format: str = "yuv420p",
    device: str | None = None,
) -> Tuning:
    return Tuning(
        name,
        options,
        pixel_format=pixel_format,
        bit_rate=round(spec.cap_bits_per_s * 0.9),
        device=device,
        hardware=True,
        tag="hvc1" if name.startswith("hevc") else None,
    )


def _joined(params: Mapping[str, object]) -> str:
    return ":".join(f"{key}={value}" for key, value in params.items())


_SOFTWARE = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1", "mpeg4": "mpeg4"}

KNOWN_CODECS = tuple(_SOFTWARE)

# In the order they are tried.
_HARDWARE: dict[str, Callable[[str, EncoderSpec], Tuning]] = {
    "nvenc": _nvenc,
    "qsv": _qsv,
    "amf": _amf,
    "videotoolbox": _videotoolbox,
    "vaapi": _vaapi,
}

_TUNERS: dict[str, Callable[[str, EncoderSpec], Tuning]] = {
    "libx264": _x264,
    "libx265": _x265,
    "libsvtav1": _svt_av1,
    "mpeg4": _mpeg4,
} | {
    f"{codec}_{kind}": tune for codec in ("h264", "hevc", "av1") for kind, tune in _HARDWARE.items()
}
