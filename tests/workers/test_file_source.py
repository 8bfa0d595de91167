"""The file source: every frame of the clip once, with its own time and its right colours."""

from __future__ import annotations

import itertools
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from ipc.errors import ConfigError
from ipc.frame import PixelFormat
from tests.workers.memory_sink import MemorySink, StopWhileWaiting, play
from workers.sources import picture
from workers.sources.source import SourceSpec, open_source

CLIP = Path(__file__).parents[1] / "data" / "bigbuckbunny.mp4"
CLIP_FRAMES = 132
SIZE = (128, 96)
UNSPECIFIED, BT709, SMPTE170M = 2, 1, 6
LIMITED, FULL = 1, 2


def spec_of(path: Path, **wishes: Any) -> SourceSpec:
    """An as-fast-as-possible spec of a clip."""
    return SourceSpec(f"file:{path}", **{"realtime": False, **wishes})


def remux(path: Path, container: str, options: dict[str, str] | None = None) -> Path:
    """The real clip, its packets unchanged, in another container."""
    with (
        av.open(str(CLIP)) as source,
        av.open(str(path), "w", format=container, options=options or {}) as copy,
    ):
        stream = copy.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    return path


def write_clip(
    path: Path, frames: list[av.VideoFrame], *, space: int, span: int, codec: str = "libx264"
) -> Path:
    """A lossless clip of these frames with the given tags, in a 1/1000 s time base."""
    options = {"qp": "0"} if codec == "libx264" else {"lossless": "1", "cpu-used": "8"}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        context = stream.codec_context
        context.colorspace, context.color_range = space, span
        for frame in frames:
            frame.colorspace, frame.color_range = space, span
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def gray_frames(times_ms: list[int]) -> list[av.VideoFrame]:
    """Gray frames, one level lighter each, at these times."""
    frames = []
    for level, time_ms in enumerate(times_ms):
        planes = np.full((SIZE[1] * 3 // 2, SIZE[0]), 128, np.uint8)
        planes[: SIZE[1]] = 50 + level
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = time_ms, Fraction(1, 1000)
        frames.append(frame)
    return frames


def chart_frame(matrix: tuple[float, float], *, full: bool) -> av.VideoFrame:
    """The colour chart as yuv420p, computed here from the matrix' (Kr, Kb)."""
    bgr = picture.render_chart(*SIZE, PixelFormat.BGR8).astype(float) / 255
    blue, green, red = bgr[..., 0], bgr[..., 1], bgr[..., 2]
    kr, kb = matrix
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    planes = [luma, (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)]
    scales = ((255, 0), (255, 128), (255, 128)) if full else ((219, 16), (224, 128), (224, 128))
    coded = [
        np.rint(plane * scale + zero).clip(0, 255).astype(np.uint8)
        for plane, (scale, zero) in zip(planes, scales, strict=True)
    ]
    halves = [cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) for p in coded[1:]]
    stack = np.concatenate([coded[0].reshape(-1), *(half.reshape(-1) for half in halves)])
    frame = av.VideoFrame.from_ndarray(stack.reshape(-1, SIZE[0]), format="yuv420p")
    frame.pts, frame.time_base = 0, Fraction(1, 1000)
    return frame


# --- frames and times


def test_every_frame_of_the_clip_with_its_own_time() -> None:
    """The real clip: 132 frames, ids from 0, 40 ms apart to the nanosecond, then the end."""
    sink, reason, source = play(spec_of(CLIP), MemorySink(keep=False))
    assert reason == "end"
    assert sink.ids == list(range(CLIP_FRAMES))
    assert [frame.camera_ns for frame in sink.frames] == [
        n * 40_000_000 for n in range(CLIP_FRAMES)
    ]
    assert source.statistics().published == CLIP_FRAMES


def test_times_of_a_variable_rate_clip_are_exact(tmp_path: Path) -> None:
    """Irregular times, a gap of seconds among them, come through unchanged, from the first on."""
    times_ms = [500, 533, 567, 600, 4600, 4601, 4700]
    clip = write_clip(tmp_path / "a.mkv", gray_frames(times_ms), space=SMPTE170M, span=LIMITED)
    sink, reason, _ = play(spec_of(clip))
    assert reason == "end"
    assert [frame.camera_ns for frame in sink.frames] == [(t - 500) * 1_000_000 for t in times_ms]


def test_thirtieths_are_rounded_not_added_up(tmp_path: Path) -> None:
    """Times that are no whole nanoseconds are each rounded from the exact fraction."""
    frames = gray_frames(list(range(40)))
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number * 512, Fraction(1, 15360)
    clip = tmp_path / "b.mp4"
    with av.open(str(clip), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    sink, _, _ = play(spec_of(clip))
    assert [f.camera_ns for f in sink.frames] == [round(n * Fraction(10**9, 30)) for n in range(40)]


def test_a_raw_stream_gets_nominal_times(tmp_path: Path) -> None:
    """H.264 without a container has no times; its nominal rate stands in."""
    sink, reason, _ = play(
        spec_of(remux(tmp_path / "a.h264", "h264"), frames=20), MemorySink(keep=False)
    )
    assert reason == "limit"
    steps = {b.camera_ns - a.camera_ns for a, b in itertools.pairwise(sink.frames)}
    assert steps == {40_000_000}


def test_real_time_is_the_clips_own(tmp_path: Path) -> None:
    """No frame is offered before its time, counted from the start of the run."""
    times_ms = [0, 10, 20, 90, 100]
    clip = write_clip(tmp_path / "c.mkv", gray_frames(times_ms), space=SMPTE170M, span=LIMITED)
    before_ns = time.perf_counter_ns()
    sink, reason, _ = play(spec_of(clip, realtime=True))
    assert reason == "end"
    for frame, time_ms in zip(sink.frames, times_ms, strict=True):
        assert frame.host_ns >= before_ns + time_ms * 1_000_000


# --- colour


def psnr_db(first: Any, second: Any) -> float:
    """Peak signal to noise ratio of two 8-bit pictures."""
    error = np.mean((np.asarray(first, float) - np.asarray(second, float)) ** 2)
    return 99.0 if error == 0 else float(10 * np.log10(255**2 / error))


def test_an_untagged_clip_comes_through_unchanged() -> None:
    """BGR and back, as the encoder converts, gives the clip's samples; RGB is that of FFmpeg."""
    sink, _, _ = play(spec_of(CLIP, frames=100))
    with av.open(str(CLIP)) as container:
        for frame, decoded in zip(sink.frames, container.decode(video=0), strict=False):
            if frame.frame_id % 33:
                continue
            assert decoded.colorspace == UNSPECIFIED
            clip = decoded.to_ndarray(format="yuv420p")
            again = cv2.cvtColor(frame.pixels, cv2.COLOR_BGR2YUV_I420)
            assert psnr_db(clip[:720], again[:720]) > 60
            assert psnr_db(clip[720:], again[720:]) > 60
            assert psnr_db(decoded.to_ndarray(format="bgr24"), frame.pixels) > 35


@pytest.mark.parametrize(
    ("space", "span", "matrix"),
    [
        (UNSPECIFIED, LIMITED, (0.299, 0.114)),
        (SMPTE170M, LIMITED, (0.299, 0.114)),
        (SMPTE170M, FULL, (0.299, 0.114)),
        (SMPTE170M, "vp9-full", (0.299, 0.114)),  # decodes to yuv420p where H.264 says yuvj420p
        (BT709, LIMITED, (0.2126, 0.0722)),
        (BT709, FULL, (0.2126, 0.0722)),
    ],
)
def test_colours_follow_the_tags(
    tmp_path: Path, space: int, span: int | str, matrix: tuple[float, float]
) -> None:
    """A chart coded with any matrix and range, and tagged so, has its colours again."""
    codec = "libvpx-vp9" if span == "vp9-full" else "libx264"
    span = FULL if isinstance(span, str) else span
    chart = chart_frame(matrix, full=span == FULL)
    clip = write_clip(tmp_path / "c.mkv", [chart], space=space, span=span, codec=codec)
    sink, _, _ = play(spec_of(clip))
    bgr = sink.frames[0].pixels.astype(int)
    errors = [bgr[p.rows, p.columns] - p.bgr for p in picture.chart_patches(*SIZE)]
    assert max(np.abs(error).max() for error in errors) <= 2
    # swscale without its accurate flags is about a level too dark everywhere
    assert abs(np.mean([error.mean() for error in errors])) < 0.5


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_delivers_every_pixel_format(tmp_path: Path, pixel_format: PixelFormat) -> None:
    """The same colours in the format asked for, as the chart rendered in that format."""
    chart = chart_frame((0.299, 0.114), full=False)
    clip = write_clip(tmp_path / "c.mkv", [chart], space=SMPTE170M, span=LIMITED)
    sink, _, _ = play(spec_of(clip, pixel_format=pixel_format))
    expected = picture.render_chart(*SIZE, pixel_format).astype(int)
    for patch in picture.chart_patches(*SIZE):
        seen = sink.frames[0].pixels[patch.rows, patch.columns]
        assert np.abs(seen - expected[patch.rows, patch.columns]).max() <= 4


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ({}, (1280, 720)),
        ({"width": 640}, (640, 360)),
        ({"height": 1080}, (1920, 1080)),
        ({"width": 457, "height": 333}, (457, 333)),
    ],
)
def test_scales_when_asked(asked: dict[str, int], given: tuple[int, int]) -> None:
    """The clip's own size, or the one asked for; one side alone keeps the aspect."""
    sink, _, _ = play(spec_of(CLIP, frames=10, **asked))
    first, last = sink.frames[0].pixels, sink.frames[9].pixels
    assert first.shape == (given[1], given[0], 3)
    with av.open(str(CLIP)) as container:
        decoded = next(itertools.islice(container.decode(video=0), 9, None))
    bgr = decoded.to_ndarray(format="bgr24")
    expected = cv2.resize(bgr, given, interpolation=cv2.INTER_AREA)
    assert psnr_db(expected, last) > 25


# --- clips that cannot be read, or not to their end


def test_a_missing_file_is_one_clear_line(tmp_path: Path) -> None:
    """The path is in the message, also for a directory."""
    for path in (tmp_path / "none.mp4", tmp_path):
        with pytest.raises(ConfigError, match="There is no video file"):
            open_source(spec_of(path)).open()


@pytest.mark.parametrize("content", [b"", b"no video at all\n" * 50, bytes(5000)])
def test_a_file_that_is_no_video_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    """ConfigError with the file's name, without a line break, and nothing stays open."""
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    source = open_source(spec_of(path))
    with pytest.raises(ConfigError, match=r"bad\.mp4 is no video that can be read") as caught:
        source.open()
    assert "\n" not in str(caught.value)
    path.unlink()  # Windows refuses this while a handle is open


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    """A file whose only stream is sound has no frames to give."""
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ConfigError, match="no video stream"):
        open_source(spec_of(path)).open()


@pytest.mark.parametrize(
    ("container", "options"),
    [("mp4", {"movflags": "faststart"}), ("matroska", {})],
)
def test_a_clip_that_breaks_off_keeps_what_it_had(
    tmp_path: Path, container: str, options: dict[str, str]
) -> None:
    """Cut in the middle: the frames up to there, then a reason that says where it broke."""
    clip = remux(tmp_path / "cut", container, options)
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    sink, reason, _ = play(spec_of(clip), MemorySink(keep=False))
    assert reason.startswith("source_error: cut ")
    assert "\n" not in reason
    assert 30 < len(sink.frames) < CLIP_FRAMES
    assert sink.ids == list(range(len(sink.frames)))


def test_a_clip_that_cannot_be_decoded_further_says_so(tmp_path: Path) -> None:
    """Zeros where pictures should be: what the decoder says becomes the reason, in one line."""
    clip = remux(tmp_path / "zero.mp4", "mp4", {"movflags": "faststart"})
    content = bytearray(clip.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60_000] = bytes(60_000)
    clip.write_bytes(content)
    sink, reason, _ = play(spec_of(clip), MemorySink(keep=False))
    assert reason.startswith("source_error: zero.mp4 breaks off after ")
    assert "\n" not in reason
    assert 30 < len(sink.frames) < CLIP_FRAMES


def test_damaged_frames_are_reported_and_not_delivered(tmp_path: Path) -> None:
    """A frame that the decoder had to patch up is incomplete; every id has one place."""
    clip = remux(tmp_path / "flip.mp4", "mp4", {"movflags": "faststart"})
    content = bytearray(clip.read_bytes())
    for place in range(len(content) // 2, len(content) // 2 + 4000, 97):
        content[place] ^= 0xFF
    clip.write_bytes(content)
    sink, reason, source = play(spec_of(clip), MemorySink(keep=False))
    assert reason == "end"
    assert sink.damaged
    assert sorted([*sink.ids, *sink.damaged]) == list(range(CLIP_FRAMES))
    assert source.statistics().incomplete == len(sink.damaged)


def test_a_wide_odd_clip_cannot_be_uyvy(tmp_path: Path) -> None:
    """UYVY of an odd width is refused at open, not at the first frame."""
    with pytest.raises(ConfigError, match="even width"):
        open_source(spec_of(CLIP, width=641, pixel_format=PixelFormat.YUV422)).open()


def test_stopping_while_it_waits_for_a_far_frame(tmp_path: Path) -> None:
    """A clip whose next frame is minutes away still stops when told to."""
    clip = write_clip(
        tmp_path / "gap.mkv", gray_frames([0, 600_000]), space=SMPTE170M, span=LIMITED
    )
    source = open_source(spec_of(clip, realtime=True))
    source.open()
    stop, sink, reasons = StopWhileWaiting(), MemorySink(), []
    runner = threading.Thread(target=lambda: reasons.append(source.run(sink, stop)), daemon=True)
    runner.start()
    runner.join(30)
    assert reasons == ["stopped"]
    source.close()
    assert sink.ids == [0]
