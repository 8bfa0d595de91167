"""What every source promises, whatever it is: one body, run on synthetic and file sources."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ipc.errors import ConfigError, WrongState
from ipc.frame import PixelFormat
from tests.workers.memory_sink import MemorySink, StopWhileWaiting, play
from workers.sources.source import Source, SourceSpec, open_source

CLIP = Path(__file__).parents[1] / "data" / "bigbuckbunny.mp4"
SOURCES = {
    "synthetic": SourceSpec("synthetic", width=256, height=160, rate_hz=500.0, frames=40),
    "synthetic-chart": SourceSpec("synthetic:chart", width=256, height=160, frames=40),
    "file": SourceSpec(f"file:{CLIP}", width=256, height=144, frames=40),
}
UNLIMITED = 10**9


@pytest.fixture(params=SOURCES)
def spec(request: pytest.FixtureRequest) -> SourceSpec:
    """One source of each kind, 40 frames, as fast as the sink takes them."""
    return replace(SOURCES[request.param], realtime=False)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_frames_are_what_was_promised(spec: SourceSpec, pixel_format: PixelFormat) -> None:
    """Size and format of the SourceInfo are those asked for and those of every frame."""
    source = open_source(replace(spec, pixel_format=pixel_format, frames=5))
    info = source.open()
    sink = MemorySink()
    assert source.run(sink, threading.Event()) == "limit"
    source.close()
    assert (info.width_px, info.height_px) == (spec.width, spec.height)
    assert info.pixel_format is pixel_format
    assert info.rate_hz > 0
    assert info.clock
    assert info.camera["model"]
    for frame in sink.frames:
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.shape == pixel_format.shape(info.width_px, info.height_px)
        assert frame.pixels.std() > 1  # filled, not the slot's old bytes


@pytest.mark.parametrize("frames", [1, 2, 40])
def test_the_limit_is_exact(spec: SourceSpec, frames: int) -> None:
    """As many ids as asked for, then the reason ``limit``."""
    sink, reason, source = play(replace(spec, frames=frames))
    assert reason == "limit"
    assert sink.ids == list(range(frames))
    assert source.statistics().published == frames


def test_ids_and_times_grow_strictly(spec: SourceSpec) -> None:
    """Neither an id nor a camera time is ever repeated or turned back, in real time too."""
    for realtime in (False, True):
        frames = 40 if not realtime else 10
        sink, _, _ = play(replace(spec, realtime=realtime, frames=frames))
        for before, after in pairwise(sink.frames):
            assert after.frame_id > before.frame_id
            assert after.camera_ns > before.camera_ns
        assert sink.frames[0].camera_ns >= 0
        assert sink.offered_ids == list(range(frames))


def test_a_refused_frame_is_not_the_end(spec: SourceSpec) -> None:
    """The sink has no room for some: the others come, each id once, none is offered again."""
    refused = frozenset({0, 7, 8, 39})
    sink, reason, source = play(spec, MemorySink(refuse=refused))
    assert reason == "limit"
    assert sink.refused == sorted(refused)
    assert sink.ids == [n for n in range(40) if n not in refused]
    assert source.statistics().refused == 4
    assert source.statistics().published == 36


def stopped_by(source: Source, sink: MemorySink, stop: threading.Event) -> str:
    """Reason of a run that must end by the stop, in a thread so that a hang is seen."""
    reasons: list[str] = []
    runner = threading.Thread(target=lambda: reasons.append(source.run(sink, stop)), daemon=True)
    runner.start()
    runner.join(30)
    assert reasons, "the source did not stop"
    return reasons[0]


@pytest.mark.parametrize("realtime", [False, True])
def test_a_stop_ends_the_run(spec: SourceSpec, realtime: bool) -> None:
    """No id is begun after the stop; the reason is ``stopped``."""
    stop = threading.Event()
    last: list[int] = []

    def stop_at_five(frame_id: int) -> None:
        if frame_id >= 5:  # a busy machine may skip the fifth itself
            last.append(frame_id)
            stop.set()

    source = open_source(replace(spec, frames=UNLIMITED, realtime=realtime))
    source.open()
    sink = MemorySink(on_acquire=stop_at_five)
    assert stopped_by(source, sink, stop) == "stopped"
    source.close()
    assert len(last) == 1
    assert sink.offered_ids == list(range(last[0] + 1))


def test_a_stop_before_the_start_delivers_nothing(spec: SourceSpec) -> None:
    """The run ends at once."""
    stop = threading.Event()
    stop.set()
    source = open_source(spec)
    source.open()
    sink = MemorySink()
    assert stopped_by(source, sink, stop) == "stopped"
    source.close()
    assert sink.offered_ids == []


def test_a_slow_source_wakes_up_for_the_stop() -> None:
    """A rate of one frame in 100 s does not hold up a stop that comes from outside."""
    source = open_source(replace(SOURCES["synthetic"], rate_hz=0.01, frames=UNLIMITED))
    source.open()
    sink = MemorySink()
    assert stopped_by(source, sink, StopWhileWaiting()) == "stopped"
    source.close()
    assert sink.ids == [0]


def test_close_may_be_called_at_any_time(spec: SourceSpec) -> None:
    """Before open, twice, and after a run: nothing happens."""
    source = open_source(spec)
    source.close()
    source.open()
    source.run(MemorySink(), threading.Event())
    source.close()
    source.close()


def test_a_source_that_is_not_open_does_not_run(spec: SourceSpec) -> None:
    """Neither before open nor after close."""
    source = open_source(spec)
    with pytest.raises(WrongState, match="not open"):
        source.run(MemorySink(), threading.Event())
    source.open()
    source.close()
    with pytest.raises(WrongState, match="not open"):
        source.run(MemorySink(), threading.Event())


def test_it_can_be_opened_again(spec: SourceSpec) -> None:
    """Opened anew it begins at its first frame, with counts of its own."""
    source = open_source(spec)
    first = MemorySink()
    second = MemorySink()
    for sink in (first, second):
        source.open()
        source.run(sink, threading.Event())
        assert source.statistics().published == 40
        source.close()
    assert second.ids == first.ids
    assert all(
        (a.pixels == b.pixels).all() for a, b in zip(first.frames, second.frames, strict=True)
    )


@pytest.mark.parametrize(
    "refuse", [{"width": 0}, {"height": -4}, {"rate_hz": 0.0}, {"frames": 0}, {"frames": -1}]
)
def test_impossible_wishes_are_refused_before_opening(
    spec: SourceSpec, refuse: dict[str, int]
) -> None:
    """Sizes, rates and limits that are not positive never reach a source."""
    wish: Callable[..., SourceSpec] = replace
    with pytest.raises(ConfigError, match="greater than zero"):
        open_source(wish(spec, **refuse))
