"""The live view over a ring: the newest frame, whole or not at all, at any rate."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

from engine import barcode
from engine.preview import LiveFrame, LiveView, OneRing
from ipc.errors import ConfigError, WrongState
from ipc.frame import PixelFormat
from ipc.ring import Ring, RingObserver, RingReader, RingWriter
from tests.engine.ring_camera import publish, shade
from tests.engine.ring_camera import start as start_camera

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are Linux's")

SIZE = (256, 64)


@contextmanager
def ring_of(
    slots: int, pixel_format: PixelFormat = PixelFormat.MONO8, size: tuple[int, int] = SIZE
) -> Iterator[Ring]:
    """A ring for frames of one kind."""
    ring = Ring.reserve()
    try:
        ring.allocate(
            slots=slots,
            slot_bytes=pixel_format.size_bytes(*size),
            table_entries=1024,
            loss_entries=64,
        )
        yield ring
    finally:
        ring.close()


@contextmanager
def view_of(ring: Ring) -> Iterator[LiveView]:
    """A view that has nothing but a read-only handle of the memory."""
    handle = ring.read_only_handle()
    try:
        rings = OneRing(handle)
    finally:
        os.close(handle)
    with LiveView(rings) as view:
        yield view


@contextmanager
def running_camera(
    ring: Ring, pixel_format: PixelFormat, size: tuple[int, int]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that publishes as fast as it can."""
    camera = start_camera(ring.handles, pixel_format, size)
    try:
        yield camera
    finally:
        camera.kill()
        camera.wait()


def check(frame: LiveFrame) -> None:
    """Assert that picture and stamp are of one frame, from the barcode to the last row."""
    luma = frame.pixels if frame.pixels.ndim == 2 else frame.pixels[..., 1]
    assert barcode.read(np.ascontiguousarray(luma)) == frame.frame_id
    below = luma[barcode.cell_side_px(luma.shape[1]) :]
    assert np.all(below == shade(frame.frame_id)), f"frame {frame.frame_id} is torn"
    assert frame.camera_ns == 1000 * frame.frame_id


def test_the_newest_frame_is_given_and_none_twice_by_waiting() -> None:
    """`latest` repeats itself, `wait_frame` gives newer ones only; both leave older ones out."""
    with ring_of(4) as ring, view_of(ring) as view, closing(RingWriter.attach(ring.handles)) as w:
        assert view.latest() is None
        assert view.wait_frame(0.01) is None
        w.begin_epoch()
        for frame_id in range(3):
            assert publish(w, frame_id, PixelFormat.MONO8, SIZE)
        first = view.wait_frame(5.0)
        again = view.latest()
        assert first is not None
        assert again is not None
        assert first.frame_id == again.frame_id == first.seq == 2
        assert first.age_s >= 0
        assert view.wait_frame(0.01) is None
        assert publish(w, 3, PixelFormat.MONO8, SIZE)
        newer = view.wait_frame(5.0)
        assert newer is not None
        assert newer.frame_id == 3
        found = view.statistics()
        assert (found.frames_seen, found.frames_passed, found.rings) == (2, 0, 1)
        assert found.fps == 2.0


def test_waiting_ends_with_the_frame() -> None:
    """It does not wait for its deadline."""
    with ring_of(4) as ring, view_of(ring) as view, closing(RingWriter.attach(ring.handles)) as w:
        w.begin_epoch()
        found: list[LiveFrame | None] = []
        waiting = threading.Thread(target=lambda: found.append(view.wait_frame(60.0)))
        waiting.start()
        assert publish(w, 0, PixelFormat.MONO8, SIZE)
        waiting.join(50.0)
        assert not waiting.is_alive()
        assert found[0] is not None


def test_pictures_are_rgb_and_smaller_on_request() -> None:
    """Or the camera's own; into an array of the caller's if that fits."""
    with (
        ring_of(4, PixelFormat.BAYER_RG8) as ring,
        view_of(ring) as view,
        closing(RingWriter.attach(ring.handles)) as writer,
    ):
        writer.begin_epoch()
        assert publish(writer, 5, PixelFormat.BAYER_RG8, SIZE)
        whole, half = view.latest(), view.latest(scale=0.5)
        assert whole is not None
        assert half is not None
        assert whole.pixels.shape == (64, 256, 3)
        assert half.pixels.shape == (32, 128, 3)
        assert whole.pixel_format is half.pixel_format is PixelFormat.RGB8
        own = view.latest(rgb=False)
        assert own is not None
        assert own.pixels.shape == (64, 256)
        assert own.pixel_format is PixelFormat.BAYER_RG8
        check(own)
        out = np.zeros((32, 128, 3), np.uint8)
        given = view.latest(out, scale=0.5)
        assert given is not None
        assert given.pixels is out
        assert np.array_equal(out, half.pixels)
        with pytest.raises(ConfigError, match="scale"):
            view.latest(scale=2.0)


def test_a_peeked_frame_says_when_it_is_not_there_any_more() -> None:
    """It cannot be written to, shows the ring itself, and outlives the view that gave it."""
    with ring_of(2) as ring, view_of(ring) as view, closing(RingWriter.attach(ring.handles)) as w:
        with view.peek() as nothing:
            assert nothing is None
        with closing(RingReader.attach(ring.handles)) as reader:
            reader.resume()
            w.begin_epoch()
            assert publish(w, 0, PixelFormat.MONO8, SIZE)
            with view.peek() as frame:
                assert frame is not None
                assert frame.valid
                assert frame.pixels[-1, -1] == shade(0)
                with pytest.raises(ValueError, match="read-only"):
                    frame.pixels[0, 0] = 1
                for frame_id in (1, 2):
                    assert reader.read() is not None
                    reader.release(frame_id - 1)
                    assert publish(w, frame_id, PixelFormat.MONO8, SIZE)
                assert not frame.valid
        view.close()
        assert frame.pixels[-1, -1] == shade(2)
        assert not frame.valid
        with pytest.raises(WrongState, match="closed"):
            view.latest()
        assert view.state == "closed"


@pytest.mark.parametrize(
    ("pixel_format", "scale", "slots"),
    [
        (PixelFormat.MONO8, None, 2),
        (PixelFormat.MONO8, 1.0, 3),
        (PixelFormat.BGR8, 1.0, 2),
        (PixelFormat.BGR8, 0.5, 2),
        (PixelFormat.BAYER_GB8, 0.5, 5),
    ],
)
def test_no_frame_is_ever_torn(pixel_format: PixelFormat, scale: float | None, slots: int) -> None:
    """Thousands of reads from a ring of a few slots that a camera overwrites all the time."""
    size, wanted = (640, 200), 1500
    with (
        ring_of(slots, pixel_format, size) as ring,
        running_camera(ring, pixel_format, size),
        view_of(ring) as view,
    ):
        while view.statistics().frames_seen < wanted:
            frame = view.wait_frame(30.0, rgb=scale is not None, scale=scale or 1.0)
            if frame is None:  # each of several copies was overtaken, for 30 s
                pytest.fail("no whole frame was ever read")
            check(frame)
        assert view.statistics().lapped > 0, "the camera never came round: nothing was shown"


def test_three_views_see_the_same_and_none_disturbs() -> None:
    """Each copies for itself; the ring's cursors are the writer's and the encoder's alone."""
    with (
        ring_of(4) as ring,
        view_of(ring) as one,
        view_of(ring) as two,
        view_of(ring) as three,
        closing(RingWriter.attach(ring.handles)) as writer,
    ):
        writer.begin_epoch()
        assert publish(writer, 0, PixelFormat.MONO8, SIZE)
        before = ring.statistics()
        for view in (one, two, three):
            frame = view.wait_frame(5.0, rgb=False)
            assert frame is not None
            check(frame)
        assert ring.statistics() == before


def test_the_memory_stays_while_it_is_looked_at() -> None:
    """Owner and camera are gone, killed at any moment: no bus error, and no torn frame."""
    size = (640, 200)
    with ring_of(4, PixelFormat.BGR8, size) as ring, view_of(ring) as view:
        with running_camera(ring, PixelFormat.BGR8, size) as camera:
            assert view.wait_frame(30.0) is not None
            camera.send_signal(signal.SIGKILL)
            camera.wait()
        ring.close()
        with view.peek() as last:
            assert last is not None
            check(LiveFrame(last.seq, last.stamp, last.pixels.copy(), last.pixel_format))
        frame = view.latest()
        assert frame is not None
        check(frame)


def test_an_observer_costs_the_writer_no_wake_up() -> None:
    """The encoder's wake-up is still there after all looks: an observer takes none."""
    with (
        ring_of(4) as ring,
        view_of(ring) as view,
        closing(RingWriter.attach(ring.handles)) as writer,
        closing(RingReader.attach(ring.handles)) as reader,
    ):
        reader.resume()
        writer.begin_epoch()
        assert publish(writer, 0, PixelFormat.MONO8, SIZE)
        assert view.wait_frame(5.0) is not None
        assert select.select([ring.handles.data_ready], [], [], 0)[0]
        assert reader.read() is not None


def test_views_come_and_go_without_a_trace() -> None:
    """A closed view lets go of memory and descriptors."""
    with ring_of(4) as ring:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            with view_of(ring) as view:
                assert view.latest() is None
        assert len(os.listdir("/proc/self/fd")) == before
        handle = ring.read_only_handle()
        observer = RingObserver.of_memory(handle)
        os.close(handle)
        observer.close()
        observer.close()
