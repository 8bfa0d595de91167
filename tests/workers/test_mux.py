"""One muxer per fragment: exact times over any gap, and boxes that anyone can append."""

from __future__ import annotations

import io
from collections.abc import Iterator

import av
import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import EncoderError
from workers.codecs import mux
from workers.codecs.encoders import VideoEncoder, open_encoder
from workers.codecs.spec import EncoderSpec, Sample

RATE_HZ = 30
PERIOD = 3000
CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"mvex", b"moof", b"traf", b"edts"}


@pytest.fixture(scope="module")
def encoder() -> Iterator[VideoEncoder]:
    """A small H.264 encoder whose stream every fragment here uses."""
    opened = open_encoder(EncoderSpec("h264", 64, 48, RATE_HZ, hardware="off"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def coded(encoder: VideoEncoder) -> tuple[bytes, bytes]:
    """A key picture and another one; a demuxer does not mind seeing them often."""
    picture = av.VideoFrame.from_ndarray(np.full((72, 64), 90, np.uint8), "yuv420p")
    (first,) = encoder.encode(picture, 0, key=True)
    (second,) = encoder.encode(picture, 1, key=False)
    return first.data, second.data


def walk(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every box of an MP4 as (type, content), depth first."""
    for kind, start, end in mux.boxes(data):
        yield kind, data[start + 8 : end]
        if kind in CONTAINERS:
            yield from walk(data[start + 8 : end])


def all_of(data: bytes, kind: bytes) -> list[bytes]:
    return [content for found, content in walk(data) if found == kind]


def samples_at(times: list[int], coded: tuple[bytes, bytes]) -> list[Sample]:
    return [Sample(pts, coded[number > 0], number == 0) for number, pts in enumerate(times)]


def demuxed(data: bytes) -> list[tuple[int | None, int | None, bool]]:
    with av.open(io.BytesIO(data)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        assert {packet.time_base for packet in packets} <= {mux.TIME_BASE}
        return [(packet.pts, packet.duration, packet.is_keyframe) for packet in packets]


@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_times_are_exact(
    encoder: VideoEncoder, coded: tuple[bytes, bytes], data: st.DataObject
) -> None:
    """Any growing pts over any gaps come back to the tick, with durations that meet."""
    step = st.integers(1, 9000) | st.just(5 * 60 * 90_000)
    start = data.draw(st.integers(0, 20 * 3600 * 90_000), label="start")
    steps = data.draw(st.lists(st.lists(step, min_size=1, max_size=5), min_size=1, max_size=5))
    out, wanted, pts = [encoder.init_segment()], [], start
    for number, fragment in enumerate(steps, start=1):
        times = []
        for length in fragment:
            times.append(pts)
            pts += length
        fragment_samples = samples_at(times, coded)
        out.append(encoder.fragment(fragment_samples, number, end_pts=pts))
        wanted += [(t, d, t == times[0]) for t, d in zip(times, fragment, strict=True)]
    assert demuxed(b"".join(out)) == wanted


def test_a_gap_of_five_minutes_stays_a_gap(
    encoder: VideoEncoder, coded: tuple[bytes, bytes]
) -> None:
    """The sample before a gap lasts one nominal period; the one after it keeps its own time."""
    late = 5 * 60 * 90_000 + 1
    first = encoder.fragment(samples_at([7, 3010], coded), 1)
    second = encoder.fragment(samples_at([late, late + 2999], coded), 2)
    assert demuxed(encoder.init_segment() + first + second) == [
        (7, 3003, True),
        (3010, PERIOD, False),
        (late, 2999, True),
        (late + 2999, PERIOD, False),
    ]


def test_a_fragment_is_one_moof_and_one_mdat(
    encoder: VideoEncoder, coded: tuple[bytes, bytes]
) -> None:
    """It names its number, its first sample's pts as tfdt, and offsets from its own moof."""
    for number, pts in ((1, 0), (2, 4321), (70_000, 2**33)):
        fragment = encoder.fragment(samples_at([pts, pts + 10], coded), number)
        assert [kind for kind, _, _ in mux.boxes(fragment)] == [b"moof", b"mdat"]
        (mfhd,) = all_of(fragment, b"mfhd")
        assert int.from_bytes(mfhd[4:8], "big") == number
        (tfdt,) = all_of(fragment, b"tfdt")
        assert int.from_bytes(tfdt[4:], "big") == pts
        (tfhd,) = all_of(fragment, b"tfhd")
        flags = int.from_bytes(tfhd[1:4], "big")
        assert flags & 0x020000, "default-base-is-moof"
        assert not flags & 0x000001, "no absolute base-data-offset"


def test_the_init_segment_has_no_edit_list_and_counts_in_90_khz(encoder: VideoEncoder) -> None:
    """Ftyp and moov alone; players show pts as they are."""
    init = encoder.init_segment()
    assert [kind for kind, _, _ in mux.boxes(init)] == [b"ftyp", b"moov"]
    kinds = {kind for kind, _ in walk(init)}
    assert b"mvex" in kinds
    assert not kinds & {b"edts", b"elst", b"mfra"}
    (mdhd,) = all_of(init, b"mdhd")
    timescale = mdhd[20:24] if mdhd[0] else mdhd[12:16]
    assert int.from_bytes(timescale, "big") == 90_000


def test_muxers_leave_nothing_open(encoder: VideoEncoder, coded: tuple[bytes, bytes]) -> None:
    """A recording opens thousands of muxers; none keeps a thread, a descriptor or its memory."""
    process = psutil.Process()
    large = coded[0] + b"\0" * 400_000

    def cut(count: int) -> int:
        for number in range(1, count + 1):
            encoder.fragment([Sample(number * PERIOD, large, True)], number)
        return process.memory_info().rss

    before = cut(20), process.num_threads()
    after = cut(300), process.num_threads()
    assert after[1] == before[1]
    assert after[0] - before[0] < 40e6, "300 fragments of 400 kB would be 120 MB"


def test_an_empty_fragment_is_refused(encoder: VideoEncoder) -> None:
    """A fragment without samples has no time; it is written without a muxer."""
    with pytest.raises(EncoderError, match="table-only"):
        encoder.fragment([], 1)


def test_unfinished_boxes_are_refused() -> None:
    """What a muxer did not finish never reaches a recording."""
    whole = (16).to_bytes(4, "big") + b"free" + bytes(8)
    assert list(mux.boxes(whole + whole)) == [(b"free", 0, 16), (b"free", 16, 32)]
    for cut in (whole[:-1], whole + b"\0", bytes(8)):
        with pytest.raises(EncoderError):
            list(mux.boxes(cut))
