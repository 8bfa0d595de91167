"""What every codec promises: one body, run on each encoder that opens on this machine."""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from ipc.errors import EncoderError, FormatChanged
from ipc.frame import PixelFormat
from tests.workers.charts import (
    Pixels,
    as_format,
    bar_centres,
    chart,
    moving_noise,
    psnr_db,
)
from workers.codecs import mux
from workers.codecs.convert import Converter
from workers.codecs.encoders import VideoEncoder, open_encoder
from workers.codecs.spec import EncoderSpec, Hardware, Sample
from workers.codecs.tuning import KNOWN_CODECS, candidates

# Odd on purpose: the coded size is 322x242, whose height is no multiple of four.
WIDTH_PX, HEIGHT_PX = 321, 241
PERIOD = 3000
CLIP = Path(__file__).parents[1] / "data" / "bigbuckbunny.mp4"


def opens(codec: str, hardware: Hardware) -> bool:
    """Whether this machine has such an encoder (software: always, a failure is one)."""
    try:
        open_encoder(EncoderSpec(codec, WIDTH_PX, HEIGHT_PX, 30, hardware=hardware)).close()
    except EncoderError:
        return hardware == "off"
    return True


# Hardware encoders are run where they are; on a machine without, there is no case for them.
CHOICES = [(codec, "off") for codec in KNOWN_CODECS]
CHOICES += [(codec, "only") for codec in KNOWN_CODECS if opens(codec, "only")]


@pytest.fixture(params=CHOICES, ids=lambda choice: f"{choice[0]}-hardware-{choice[1]}")
def spec(request: pytest.FixtureRequest) -> EncoderSpec:
    """A specification per codec, in software and in hardware."""
    codec, hardware = request.param
    return EncoderSpec(codec, WIDTH_PX, HEIGHT_PX, 30, hardware=hardware)


@pytest.fixture
def encoder(spec: EncoderSpec) -> Iterator[VideoEncoder]:
    """The open encoder of the codec."""
    opened = open_encoder(spec)
    yield opened
    opened.close()


@dataclass
class Recording:
    """Pictures through converter, encoder and muxer; a fragment ends where a key frame begins."""

    encoder: VideoEncoder
    converter: Converter
    out: list[bytes] = field(default_factory=list)
    fragment: list[Sample] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)

    def add(self, pixels: Pixels, pts: int, *, key: bool) -> list[Sample]:
        new = self.encoder.encode(self.converter.convert(pixels), pts, key=key)
        self._take(new)
        return new

    def finish(self) -> bytes:
        self._take(self.encoder.flush())
        self._cut(None)
        return self.encoder.init_segment() + b"".join(self.out)

    def _take(self, new: list[Sample]) -> None:
        for sample in new:
            if sample.key and self.fragment:
                self._cut(sample.pts)
            self.fragment.append(sample)
            self.samples.append(sample)

    def _cut(self, end_pts: int | None) -> None:
        number = len(self.out) + 1
        self.out.append(self.encoder.fragment(self.fragment, number, end_pts=end_pts))
        self.fragment = []


def record(
    encoder: VideoEncoder, pictures: list[Pixels], times: list[int], keys: set[int]
) -> bytes:
    """Record BGR pictures and return the whole MP4."""
    height_px, width_px = pictures[0].shape[:2]
    recording = Recording(encoder, Converter(width_px, height_px, PixelFormat.BGR8))
    for number, (pixels, pts) in enumerate(zip(pictures, times, strict=True)):
        recording.add(pixels, pts, key=number in keys)
    return recording.finish()


def decoded(data: bytes) -> list[av.VideoFrame]:
    with av.open(io.BytesIO(data)) as container:
        return list(container.decode(video=0))


def test_sixty_irregular_frames_come_back(encoder: VideoEncoder) -> None:
    """Every frame is there at its exact pts, key where forced and nowhere else, and looks right."""
    pictures = moving_noise(60, WIDTH_PX, HEIGHT_PX, sigma=2)
    random = np.random.default_rng(11)
    steps = random.integers(1000, 9000, 59)
    steps[30] = 5 * 60 * 90_000
    times = list(accumulate(map(int, steps), initial=12_345))
    keys = {0, 1, 20, 31, 50, 59}
    data = record(encoder, pictures, times, keys)
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [packet.pts for packet in packets] == times
    assert [packet.dts for packet in packets] == times
    assert {n for n, packet in enumerate(packets) if packet.is_keyframe} == keys
    ends = [*times[1:], times[-1] + PERIOD]
    assert [packet.duration for packet in packets] == [
        end - pts for pts, end in zip(times, ends, strict=True)
    ]
    frames = decoded(data)
    assert [frame.pts for frame in frames] == times
    assert {n for n, frame in enumerate(frames) if frame.key_frame} == keys
    assert {(frame.width, frame.height) for frame in frames} == {(WIDTH_PX + 1, HEIGHT_PX + 1)}
    for frame, wanted in zip(frames, pictures, strict=True):
        got = frame.to_ndarray(format="bgr24")[:HEIGHT_PX, :WIDTH_PX]
        assert psnr_db(got, wanted) > 26
        luma = got.astype(float).mean(axis=2), wanted.astype(float).mean(axis=2)
        assert psnr_db(*luma) > 32


def test_a_picture_comes_out_at_once(encoder: VideoEncoder) -> None:
    """After n pictures at least n - delay_frames samples are there, and delay is one at most."""
    assert encoder.delay_frames in (0, 1)
    pictures = moving_noise(12, WIDTH_PX, HEIGHT_PX, sigma=5)
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    for number, pixels in enumerate(pictures):
        recording.add(pixels, number * PERIOD, key=number == 0)
        assert len(recording.samples) == number + 1 - encoder.delay_frames
    recording.finish()
    assert [sample.pts for sample in recording.samples] == [n * PERIOD for n in range(12)]


def test_each_fragment_starts_decoding_by_itself(encoder: VideoEncoder) -> None:
    """Init segment and any one fragment are enough to decode that fragment."""
    pictures = moving_noise(9, WIDTH_PX, HEIGHT_PX, sigma=2)
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    for number, pixels in enumerate(pictures):
        recording.add(pixels, number * PERIOD, key=number % 3 == 0)
    recording.finish()
    assert len(recording.out) == 3
    for number, fragment in enumerate(recording.out):
        frames = decoded(encoder.init_segment() + fragment)
        assert [frame.pts for frame in frames] == [(3 * number + n) * PERIOD for n in range(3)]
        for frame, wanted in zip(frames, pictures[3 * number :], strict=False):
            got = frame.to_ndarray(format="bgr24")[:HEIGHT_PX, :WIDTH_PX]
            assert psnr_db(got, wanted) > 26


def test_a_cut_in_the_picture_makes_no_key_frame(encoder: VideoEncoder) -> None:
    """Light on, light off: only forced key frames start fragments, whatever the picture does."""
    random = np.random.default_rng(2)
    shape = (HEIGHT_PX, WIDTH_PX, 3)
    dark, noise = np.full(shape, 12, np.uint8), random.integers(0, 256, shape, np.uint8)
    flat = np.full(shape, 230, np.uint8)
    pictures = [dark, dark, noise, noise, flat, noise, dark, 255 - noise, flat, flat]
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    for number, pixels in enumerate(pictures):
        recording.add(pixels, number * PERIOD, key=number in (0, 9))
    recording.finish()
    assert [n for n, sample in enumerate(recording.samples) if sample.key] == [0, 9]


@pytest.mark.parametrize("rate_hz", [0.2, 29.97, 240.0])
def test_any_rate_records(spec: EncoderSpec, rate_hz: float) -> None:
    """A triggered, a broadcast and a fast camera: times stay exact, nothing is held back."""
    encoder = open_encoder(replace(spec, rate_hz=rate_hz))
    times = [round(number * 90_000 / rate_hz) for number in range(5)]
    data = record(encoder, moving_noise(5, WIDTH_PX, HEIGHT_PX, sigma=2), times, {0})
    encoder.close()
    frames = decoded(data)
    assert [frame.pts for frame in frames] == times
    assert [frame.key_frame for frame in frames] == [True, False, False, False, False]


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_colours_survive(spec: EncoderSpec, pixel_format: PixelFormat) -> None:
    """A chart in every pixel format decodes to its colours, by the stream's own tags."""
    width_px, height_px = 320, 242
    encoder = open_encoder(replace(spec, width_px=width_px, height_px=height_px))
    bars = chart(width_px, height_px)
    pixels = as_format(bars, pixel_format)
    recording = Recording(encoder, Converter(width_px, height_px, pixel_format))
    for number in range(3):
        recording.add(pixels, number * PERIOD, key=number == 0)
    frame = decoded(recording.finish())[-1]
    encoder.close()
    assert frame.colorspace == 6, "matrix smpte170m"
    assert frame.color_range == 1, "limited"
    wanted = bars if pixel_format is not PixelFormat.MONO8 else np.repeat(pixels[..., None], 3, -1)
    got = frame.to_ndarray(format="bgr24")
    for column in bar_centres(width_px):
        for row in (20, height_px // 2, height_px - 20):
            error = np.abs(got[row, column].astype(int) - wanted[row, column]).max()
            assert error <= 8, (row, column, got[row, column], wanted[row, column])


def test_the_init_segment_is_there_before_the_first_picture(encoder: VideoEncoder) -> None:
    """It is complete at opening and does not change with what is recorded."""
    before = encoder.init_segment()
    assert [kind for kind, _, _ in mux.boxes(before)] == [b"ftyp", b"moov"]
    record(encoder, moving_noise(3, WIDTH_PX, HEIGHT_PX, sigma=2), [0, PERIOD, 2 * PERIOD], {0})
    assert encoder.init_segment() == before


def test_a_wrong_picture_is_refused_and_nothing_else_changes(encoder: VideoEncoder) -> None:
    """Another size or format, or a pts that does not grow, is an error; the recording goes on."""
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    pictures = moving_noise(4, WIDTH_PX, HEIGHT_PX, sigma=2)
    recording.add(pictures[0], 0, key=True)
    recording.add(pictures[1], PERIOD, key=False)
    for wrong in (av.VideoFrame(320, 240, "yuv420p"), av.VideoFrame(322, 242, "nv12")):
        with pytest.raises(FormatChanged):
            encoder.encode(wrong, 2 * PERIOD, key=False)
    for pts in (PERIOD, PERIOD - 1, 0):
        with pytest.raises(EncoderError, match="does not follow"):
            recording.add(pictures[2], pts, key=False)
    recording.add(pictures[2], PERIOD + 1, key=False)
    recording.add(pictures[3], PERIOD + 2, key=True)
    frames = decoded(recording.finish())
    assert [frame.pts for frame in frames] == [0, PERIOD, PERIOD + 1, PERIOD + 2]


def test_the_cap_holds_for_noise(spec: EncoderSpec) -> None:
    """Pictures of hard noise stay under the cap, allowing one second of buffer."""
    cap, seconds = 1_500_000, 3
    encoder = open_encoder(replace(spec, max_bits_per_s=cap))
    pictures = moving_noise(15, WIDTH_PX, HEIGHT_PX, sigma=12)
    pictures = (pictures + pictures[::-1]) * seconds
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    for number, pixels in enumerate(pictures):
        recording.add(pixels, number * PERIOD, key=number % 24 == 0)
    data = recording.finish()
    encoder.close()
    bits = 8 * len(data)
    assert bits < cap * (seconds + 1), bits / cap
    assert bits > cap * seconds / 3, "the cap, not the picture, should be the limit here"


def test_settings_are_text_for_the_session_table(encoder: VideoEncoder) -> None:
    """The choice and everything it was opened with can be read from the recording later."""
    settings = encoder.settings
    assert settings["encoder"] == encoder.name
    assert settings["coded_size"] == "322x242"
    assert settings["delay_frames"] == str(encoder.delay_frames)
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in settings.items())


def test_opening_and_encoding_say_nothing_on_stderr(
    spec: EncoderSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    """The libraries' chatter never reaches the log streams."""
    encoder = open_encoder(spec)
    record(encoder, moving_noise(3, WIDTH_PX, HEIGHT_PX, sigma=2), [0, PERIOD, 2 * PERIOD], {0})
    encoder.close()
    assert capfd.readouterr() == ("", "")


def test_closing_ends_the_encoders_threads(spec: EncoderSpec) -> None:
    """An encoder that was closed leaves no thread, and refuses further work."""
    process = psutil.Process()
    open_encoder(spec).close()
    gc.collect()
    before = process.num_threads()
    for _ in range(3):
        encoder = open_encoder(spec)
        record(encoder, moving_noise(2, WIDTH_PX, HEIGHT_PX, sigma=2), [0, PERIOD], {0})
        encoder.close()
        encoder.close()
    assert process.num_threads() <= before
    with pytest.raises(EncoderError, match="closed"):
        encoder.flush()


def test_every_speed_has_the_same_headers(encoder: VideoEncoder) -> None:
    """The speed steps at any key frame, in one MP4 whose init segment fits all of it."""
    if not encoder.speeds:
        with pytest.raises(EncoderError):
            encoder.change_speed("ultrafast")
        return
    pictures = moving_noise(4 * len(encoder.speeds), WIDTH_PX, HEIGHT_PX, sigma=2)
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    for number, pixels in enumerate(pictures):
        if number % 4 == 0:
            assert encoder.change_speed(encoder.speeds[number // 4]) == []
        recording.add(pixels, number * PERIOD, key=number % 4 == 0)
    with pytest.raises(EncoderError, match="placebo"):
        encoder.change_speed("placebo")
    frames = decoded(recording.finish())
    assert [frame.pts for frame in frames] == [n * PERIOD for n in range(len(pictures))]
    for frame, wanted in zip(frames, pictures, strict=True):
        assert psnr_db(frame.to_ndarray(format="bgr24")[:HEIGHT_PX, :WIDTH_PX], wanted) > 28


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps what was freed")
def test_speed_steps_leave_no_memory_behind() -> None:
    """Ten steps at full size cost less than one opening does: freed memory goes back."""
    encoder = open_encoder(EncoderSpec("h264", 1920, 1200, 30.0, hardware="off"))
    converter = Converter(1920, 1200, PixelFormat.BGR8)
    recording = Recording(encoder, converter)
    [pixels] = moving_noise(1, 1920, 1200, sigma=2)
    memory = []
    for number in range(55):
        if number % 5 == 0:
            encoder.change_speed(encoder.speeds[-1 - number // 5 % 2])
            memory.append(psutil.Process().memory_full_info().uss)
        recording.add(pixels, number * PERIOD, key=number % 5 == 0)
    encoder.close()
    assert max(memory[2:]) - memory[0] < 12e6, memory


def test_the_safety_net_makes_key_frames_when_nobody_does(spec: EncoderSpec) -> None:
    """Without forced key frames one still comes, and its sample says so."""
    encoder = open_encoder(replace(spec, gop_frames=2))
    recording = Recording(encoder, Converter(WIDTH_PX, HEIGHT_PX, PixelFormat.BGR8))
    for number, pixels in enumerate(moving_noise(12, WIDTH_PX, HEIGHT_PX, sigma=2)):
        recording.add(pixels, number * PERIOD, key=number == 0)
    recording.finish()
    encoder.close()
    assert [n for n, sample in enumerate(recording.samples) if sample.key] == [0, 2, 4, 6, 8, 10]


# Not per codec: what is refused.

SMALL = EncoderSpec("h264", 320, 240, 30, hardware="off")


def test_an_encoder_that_holds_frames_back_is_refused() -> None:
    """With B-frames and lookahead x264 keeps pictures: it must not be used."""
    (tuning,) = candidates(SMALL)
    plain = {k: v for k, v in tuning.options.items() if k != "tune"}
    lookahead = plain | {"x264-params": "bframes=0:rc-lookahead=10"}
    with pytest.raises(EncoderError, match="holds back"):
        VideoEncoder(SMALL, replace(tuning, options=lookahead))
    b_frames = tuning.options | {"x264-params": "bframes=2:rc-lookahead=0:b-adapt=0"}
    with pytest.raises(EncoderError, match="reorders"):
        VideoEncoder(SMALL, replace(tuning, options=b_frames))


def test_an_encoder_that_ignores_forced_key_frames_is_refused() -> None:
    """Without forced-idr x265 answers with a picture that nothing can start from."""
    hevc = replace(SMALL, codec="hevc")
    (tuning,) = candidates(hevc)
    options = tuning.options | {"forced-idr": "0"}
    with pytest.raises(EncoderError, match="no key frame"):
        VideoEncoder(hevc, replace(tuning, options=options))


def test_an_option_the_encoder_does_not_know_is_refused() -> None:
    """A setting in the session table was really applied."""
    (tuning,) = candidates(SMALL)
    with pytest.raises(EncoderError, match="no_such_option"):
        VideoEncoder(SMALL, replace(tuning, options=tuning.options | {"no_such_option": "1"}))


def test_a_speed_with_other_headers_is_refused() -> None:
    """A step that the init segment does not fit is not made, and the encoder goes on."""
    hevc = replace(SMALL, codec="hevc")
    (tuning,) = candidates(hevc)
    encoder = VideoEncoder(hevc, replace(tuning, speeds=("medium", "ultrafast")))
    recording = Recording(encoder, Converter(320, 240, PixelFormat.BGR8))
    pictures = moving_noise(2, 320, 240, sigma=2)
    recording.add(pictures[0], 0, key=True)
    with pytest.raises(EncoderError, match="other headers"):
        encoder.change_speed("medium")
    recording.add(pictures[1], PERIOD, key=False)
    assert [frame.key_frame for frame in decoded(recording.finish())] == [True, False]
    encoder.close()


@pytest.mark.parametrize(
    ("codec", "hardware", "preset", "words"),
    [
        ("vp9", "auto", None, "h264, hevc, av1, mpeg4"),
        ("mpeg4", "only", None, "hardware='auto'"),
        ("libx264", "only", None, "hardware='auto'"),
        ("h264_nvenc", "off", None, "hardware='auto'"),
        ("h264", "off", "placebo", "superfast"),
        ("mpeg4", "off", "fast", "no presets"),
    ],
)
def test_what_cannot_be_had_is_said(
    codec: str, hardware: Hardware, preset: str | None, words: str
) -> None:
    """An unknown codec or an impossible wish is refused with what to write instead."""
    with pytest.raises(EncoderError) as caught:
        open_encoder(EncoderSpec(codec, 320, 240, 30, hardware=hardware, preset=preset))
    assert words in str(caught.value)


def test_auto_falls_back_to_software() -> None:
    """With or without a graphics card, 'auto' gives an encoder; an explicit name is taken as is."""
    encoder = open_encoder(replace(SMALL, hardware="auto"))
    assert encoder.hardware or encoder.name == "libx264"
    encoder.close()
    named = open_encoder(replace(SMALL, codec="libx264"))
    assert named.name == "libx264"
    named.close()


def test_a_real_clip_keeps_its_quality() -> None:
    """Big Buck Bunny through BGR at 1280x720 and 25 Hz stays above 38 dB with default settings."""
    with av.open(str(CLIP)) as clip:
        pictures = [f.to_ndarray(format="bgr24") for f in islice(clip.decode(video=0), 44)]
    encoder = open_encoder(EncoderSpec("h264", 1280, 720, 25, hardware="off"))
    data = record(encoder, pictures, [n * 3600 for n in range(44)], {0, 20, 40})
    encoder.close()
    for number, frame in enumerate(decoded(data)):
        if number % 4 == 0:
            assert psnr_db(frame.to_ndarray(format="bgr24"), pictures[number]) > 38, number
