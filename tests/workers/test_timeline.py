"""The timeline: distances as the camera's clock says, growing strictly, same after a restart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.frame import FrameStamp
from workers.timeline import TICKS_PER_S, Timeline, ticks

NS = 1_000_000_000
TICK_NS = NS / TICKS_PER_S
# One tick is 11.1 us; a camera of 10,000 Hz has a period of nine.
STEPS_NS = st.integers(100_000, 400 * NS)


@st.composite
def recordings(draw: st.DrawFn) -> list[FrameStamp]:
    """Frames of a few epochs: each with a clock of its own, drifting, jittering on arrival."""
    stamps: list[FrameStamp] = []
    host_ns = draw(st.integers(0, 2**62))
    for epoch in range(1, draw(st.integers(1, 4)) + 1):
        camera_ns = draw(st.integers(0, 2**62))
        host_ns += draw(st.integers(0, 100 * NS))
        for frame_id in range(draw(st.integers(1, 8))):
            step = draw(STEPS_NS)
            camera_ns += step
            # The camera's clock may run at another pace, and a frame may arrive late.
            host_ns += draw(st.integers(step // 2, 2 * step))
            stamps.append(FrameStamp(epoch, frame_id, camera_ns, host_ns))
    return stamps


@settings(deadline=None)
@given(recordings())
def test_pts_grows_strictly_from_zero(stamps: list[FrameStamp]) -> None:
    """The first frame is at zero; every further one is later, over all epochs."""
    timeline = Timeline()
    found = [timeline.pts(stamp) for stamp in stamps]
    assert found[0] == 0
    assert all(a < b for a, b in pairwise(found))
    assert timeline.last_pts == found[-1]


@settings(deadline=None)
@given(recordings())
def test_distances_within_an_epoch_are_the_cameras(stamps: list[FrameStamp]) -> None:
    """Within an epoch any two frames are as far apart as the camera says, to one tick."""
    timeline = Timeline()
    firsts: dict[int, tuple[FrameStamp, int]] = {}
    for stamp in stamps:
        pts = timeline.pts(stamp)
        first, first_pts = firsts.setdefault(stamp.epoch, (stamp, pts))
        expected = (stamp.camera_ns - first.camera_ns) / TICK_NS
        assert abs(pts - first_pts - expected) <= 1.0 + 1e-6 * expected


@settings(deadline=None)
@given(recordings(), st.data())
def test_a_successor_gives_the_same_pts(stamps: list[FrameStamp], data: st.DataObject) -> None:
    """From the announced origin and offsets, every frame gets the time it had before."""
    timeline = Timeline()
    before = [timeline.pts(stamp) for stamp in stamps]
    offsets = [(stamp.epoch, timeline.offset_ns(stamp.epoch) or 0) for stamp in stamps]
    start = data.draw(st.integers(0, len(stamps) - 1))
    successor = Timeline(timeline.host_origin_ns, offsets)
    assert [successor.pts(stamp) for stamp in stamps[start:]] == before[start:]


@settings(deadline=None)
@given(recordings())
def test_a_new_epoch_is_where_the_host_clock_puts_it(stamps: list[FrameStamp]) -> None:
    """A gap is a gap: an epoch begins as long after the first frame as it arrived, or later."""
    timeline = Timeline()
    seen: set[int] = set()
    last_pts = -1
    for stamp in stamps:
        pts = timeline.pts(stamp)
        if stamp.epoch not in seen:
            seen.add(stamp.epoch)
            assert timeline.host_origin_ns is not None
            arrived = ticks(stamp.host_ns - timeline.host_origin_ns)
            assert arrived <= pts <= max(arrived, last_pts + 2)
        last_pts = pts


def test_frames_within_one_tick_still_follow_each_other() -> None:
    """90 kHz cannot tell two such frames apart, so the later one is moved on."""
    timeline = Timeline()
    found = [timeline.pts(FrameStamp(1, n, n, 1000 + n)) for n in range(3)]
    assert found == [0, 1, 2]


def test_a_clock_that_runs_ahead_does_not_fold_the_timeline() -> None:
    """A camera's clock may have run ahead of the host's; the next epoch still comes after it."""
    timeline = Timeline()
    timeline.pts(FrameStamp(1, 0, 0, 0))
    ahead = timeline.pts(FrameStamp(1, 1, 20 * NS, 10 * NS))
    assert timeline.pts(FrameStamp(2, 0, 5, 11 * NS)) == ahead + 1
    assert timeline.pts(FrameStamp(2, 1, 5 + NS, 12 * NS)) == ahead + 1 + TICKS_PER_S


@given(st.integers(-(2**70), 2**70))
def test_ticks_round_to_the_nearest(nanoseconds: int) -> None:
    """90 kHz ticks of any time are off by half a tick at most."""
    assert abs(ticks(nanoseconds) * 100_000 - nanoseconds * 9) <= 50_000
