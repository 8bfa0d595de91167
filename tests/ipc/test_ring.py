"""The frame ring, one behaviour at a time (RING.md)."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from ipc.errors import ConfigError, MemoryRefused, ProtocolError, UnknownVersion, WrongState
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat
from ipc.ring import Ring, RingHandles, RingObserver, RingReader, RingWriter
from ipc.ring_layout import COMMITTED, PUBLISHED, RELEASED, Geometry
from ipc.shared_memory import SharedMemory
from tests.ipc.ring_kit import (
    FRAME_BYTES,
    SHAPE,
    check_frame,
    drain,
    publish,
    seqs_of,
    shade,
    small_ring,
    stamp_of,
)

SLOTS = 4


@pytest.fixture
def ring() -> Iterator[Ring]:
    with small_ring(SLOTS) as made:
        yield made


@pytest.fixture
def writer(ring: Ring) -> Iterator[RingWriter]:
    end = RingWriter.attach(ring.handles)
    yield end
    end.close()


@pytest.fixture
def reader(ring: Ring) -> Iterator[RingReader]:
    end = RingReader.attach(ring.handles)
    assert end.resume() == []
    yield end
    end.close()


def gap(first: int, last: int, loss_class: LossClass = LossClass.CAMERA_GAP) -> Loss:
    return Loss(loss_class, 1, first, last, 10, 20)


def test_a_frame_arrives_with_its_stamp_and_pixels(writer: RingWriter, reader: RingReader) -> None:
    """What was published is read: sequence number, stamp, shape, format and every byte."""
    stamp = FrameStamp(3, 1000, 2, 4, 5)
    slot = writer.acquire(stamp, width_px=4, height_px=3, pixel_format=PixelFormat.BGR8)
    assert slot is not None
    slot[:] = picture = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert reader.read() is None, "an acquired slot is not visible"
    assert writer.publish() == 0
    frame = reader.read()
    assert frame is not None
    assert (frame.seq, frame.stamp, frame.pixel_format) == (0, stamp, PixelFormat.BGR8)
    assert np.array_equal(frame.pixels, picture)
    assert reader.read() is None


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_every_pixel_format_travels(
    writer: RingWriter, reader: RingReader, pixel_format: PixelFormat
) -> None:
    """Each format keeps its name and its array shape."""
    slot = writer.acquire(stamp_of(0), width_px=8, height_px=2, pixel_format=pixel_format)
    assert slot is not None
    writer.publish()
    frame = reader.read()
    assert frame is not None
    assert frame.pixel_format is pixel_format
    assert frame.pixels.shape == slot.shape == pixel_format.shape(8, 2)


def test_pixels_are_a_read_only_view_of_the_slot(writer: RingWriter, reader: RingReader) -> None:
    """The reader copies nothing and cannot store into the writer's picture."""
    assert publish(writer, 0)
    frame = reader.read()
    assert frame is not None
    assert not frame.pixels.flags.writeable
    assert not frame.pixels.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        frame.pixels[:] = 0


def test_pixels_begin_on_a_page(writer: RingWriter) -> None:
    """Slots are page-aligned, whatever the size of a frame."""
    for seq in range(3):
        slot = writer.acquire(stamp_of(seq), **SHAPE)
        assert slot is not None
        assert slot.ctypes.data % 4096 == 0
        writer.publish()


def test_a_full_ring_refuses_until_a_slot_is_released(
    writer: RingWriter, reader: RingReader
) -> None:
    """The writer stops at `released`, and only there: reading or committing frees nothing."""
    assert [publish(writer, seq) for seq in range(SLOTS + 1)] == [True] * SLOTS + [False]
    frame = reader.read()
    assert frame is not None
    assert not publish(writer, SLOTS)
    reader.release(0)
    assert publish(writer, SLOTS)
    assert not publish(writer, SLOTS + 1)


def test_the_ring_stops_before_the_table_forgets_a_frame_that_is_not_durable() -> None:
    """Released but never committed frames stay nameable: the table is a second limit."""
    with small_ring(SLOTS, table=8) as ring:
        writer, reader = RingWriter.attach(ring.handles), RingReader.attach(ring.handles)
        reader.resume()
        taken = []
        for seq in range(12):
            taken.append(publish(writer, seq))
            drain(reader)
        assert taken == [True] * 8 + [False] * 4
        reader.commit(0)
        assert publish(writer, 8)
        writer.close()
        reader.close()


def test_acquire_waits_for_the_encoder(writer: RingWriter, reader: RingReader) -> None:
    """With a time-out the writer is woken by a release (policy block)."""
    for seq in range(SLOTS):
        assert publish(writer, seq)
    reader.read()
    thread = threading.Thread(target=lambda: reader.release(0))
    thread.start()
    slot = writer.acquire(stamp_of(SLOTS), **SHAPE, timeout_s=30)
    thread.join()
    assert slot is not None


def test_acquire_gives_up_when_the_time_is_over(writer: RingWriter) -> None:
    """A dead encoder never blocks the capture process longer than it asked for."""
    for seq in range(SLOTS):
        assert publish(writer, seq)
    assert writer.acquire(stamp_of(SLOTS), **SHAPE, timeout_s=0.02) is None


def test_wait_is_woken_by_a_frame(writer: RingWriter, reader: RingReader) -> None:
    """A waiting encoder goes on as soon as a frame is published."""
    assert not reader.wait(0)
    thread = threading.Thread(target=lambda: publish(writer, 0))
    thread.start()
    assert reader.wait(30)
    thread.join()
    assert reader.wait(0), "the frame is still to be read"
    drain(reader)
    assert not reader.wait(0.01)


def test_wait_is_woken_by_the_end_once(writer: RingWriter, reader: RingReader) -> None:
    """The end of the stream wakes a waiting encoder; later waits last as long as they are asked."""
    thread = threading.Thread(target=lambda: writer.end_stream("limit"))
    thread.start()
    while reader.ended is None:
        assert not reader.wait(30)
    thread.join()
    assert reader.ended == "limit"
    assert not reader.wait(0.01)


def test_wait_is_ended_for_something_else(writer: RingWriter, reader: RingReader) -> None:
    """An order ends a wait, also one that has not begun; once, and no frame is passed over."""
    thread = threading.Thread(target=reader.wake)
    began = time.monotonic()
    thread.start()
    assert not reader.wait(30)
    thread.join()
    reader.wake()
    assert not reader.wait(30)
    assert time.monotonic() - began < 20
    began = time.monotonic()
    assert not reader.wait(0.05)
    assert time.monotonic() - began >= 0.05
    reader.wake()
    assert publish(writer, 0)
    assert reader.wait(30)
    assert drain(reader) == [0]
    reader.close()
    reader.wake()  # of a closed ring nobody waits


def test_the_reason_of_the_end_is_cut_to_whole_characters(
    writer: RingWriter, reader: RingReader
) -> None:
    """A long reason is shortened, never refused and never broken inside a character."""
    writer.end_stream("ä" * 1000)
    assert reader.ended == "ä" * 128
    writer.end_stream("")
    assert reader.ended == ""


def test_a_new_epoch_takes_back_the_end(writer: RingWriter, reader: RingReader) -> None:
    """A camera that came back goes on in the same ring."""
    writer.end_stream("camera_lost")
    assert writer.begin_epoch() == 1
    assert reader.ended is None


def test_epochs_are_counted_over_all_writers(ring: Ring, writer: RingWriter) -> None:
    """A restarted capture process never uses an epoch again."""
    assert [writer.begin_epoch(), writer.begin_epoch()] == [1, 2]
    successor = RingWriter.attach(ring.handles)
    assert successor.begin_epoch() == 3
    successor.close()


def test_a_successor_goes_on_where_the_writer_died(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """The slot being filled was not published; the successor uses its number."""
    assert writer.last_stamp is None
    assert publish(writer, 0)
    slot = writer.acquire(stamp_of(1), **SHAPE)
    assert slot is not None
    slot[:2] = 255
    successor = RingWriter.attach(ring.handles)
    assert successor.last_stamp == stamp_of(0)
    assert publish(successor, 1)
    assert drain(reader) == [0, 1]
    successor.close()


def test_an_acquired_slot_may_be_dropped(writer: RingWriter, reader: RingReader) -> None:
    """A frame that turns out incomplete is replaced by the next one, under the same number."""
    assert writer.acquire(stamp_of(99), **SHAPE) is not None
    assert publish(writer, 0)
    assert drain(reader) == [0]


def test_publish_needs_an_acquired_slot(writer: RingWriter) -> None:
    """Publishing twice, or after a refusal, is an error of the caller."""
    with pytest.raises(WrongState):
        writer.publish()
    for seq in range(SLOTS):
        assert publish(writer, seq)
    assert writer.acquire(stamp_of(SLOTS), **SHAPE) is None
    with pytest.raises(WrongState):
        writer.publish()


@pytest.mark.parametrize(("width", "height"), [(FRAME_BYTES + 1, 1), (0, 4), (4, 0), (-4, -4)])
def test_a_frame_that_does_not_fit_is_refused(writer: RingWriter, width: int, height: int) -> None:
    """Sizes beyond the slot, and none at all, are configuration errors."""
    with pytest.raises(ConfigError):
        writer.acquire(
            stamp_of(0), width_px=width, height_px=height, pixel_format=PixelFormat.MONO8
        )


def test_a_stamp_beyond_64_bits_is_refused(writer: RingWriter, reader: RingReader) -> None:
    """An impossible id is an error of its own and leaves the ring usable."""
    with pytest.raises(ConfigError):
        writer.acquire(FrameStamp(1, 2**63, 0, 0), **SHAPE)
    with pytest.raises(WrongState):
        writer.publish()
    assert publish(writer, 0)
    assert drain(reader) == [0]


def test_a_change_of_size_takes_effect_with_its_frame(
    writer: RingWriter, reader: RingReader
) -> None:
    """Frames of different shapes follow each other without losing one."""
    assert publish(writer, 0)
    other = writer.acquire(stamp_of(1), width_px=3, height_px=5, pixel_format=PixelFormat.YUV422)
    assert other is not None
    writer.publish()
    assert publish(writer, 2)
    frames = [reader.read() for _ in range(3)]
    assert [frame.pixels.shape for frame in frames if frame] == [(4, 16), (5, 3, 2), (4, 16)]


def test_the_reader_must_resume_first(ring: Ring) -> None:
    """Reading without resume(), or resuming twice, could skip or repeat frames."""
    reader = RingReader.attach(ring.handles)
    with pytest.raises(WrongState):
        reader.read()
    with pytest.raises(WrongState):
        reader.wait(0)
    reader.resume()
    with pytest.raises(WrongState):
        reader.resume()
    reader.close()


def test_only_read_frames_are_released_and_only_released_ones_committed(
    writer: RingWriter, reader: RingReader
) -> None:
    """The cursors keep their order; going back changes nothing."""
    assert publish(writer, 0)
    with pytest.raises(WrongState):
        reader.release(0)
    reader.read()
    with pytest.raises(WrongState):
        reader.commit(0)
    reader.release(0)
    reader.commit(0)
    reader.release(-1)
    reader.commit(-1)
    statistics = reader.statistics()
    assert (statistics.released, statistics.committed) == (1, 1)


def test_a_restarted_encoder_reads_again_what_was_not_durable(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """Released frames stay in their slots until reused; a successor finds them."""
    for seq in range(3):
        assert publish(writer, seq)
    assert drain(reader) == [0, 1, 2]
    reader.commit(0)
    successor = RingReader.attach(ring.handles)
    assert successor.resume() == []
    assert successor.statistics().released == 1
    assert drain(successor) == [1, 2]
    successor.close()


def test_frames_lapped_before_a_restart_are_named(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """What the writer reused before the successor came is encoder_lost, with ids and times."""
    for seq in range(10):
        assert publish(writer, seq)
        drain(reader)
    reader.commit(1)
    successor = RingReader.attach(ring.handles)
    first, last = stamp_of(2), stamp_of(5)
    assert successor.resume() == [
        Loss(LossClass.ENCODER_LOST, 1, 1002, 1005, first.host_ns, last.host_ns)
    ]
    assert drain(successor) == [6, 7, 8, 9]
    successor.close()


def test_lapped_frames_are_named_again_until_committed(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """A second death before the rows are durable loses no row; after the commit none comes back."""
    for seq in range(9):
        assert publish(writer, seq)
        drain(reader)
    rows = []
    for _ in range(2):
        successor = RingReader.attach(ring.handles)
        rows.append(successor.resume())
        successor.close()
    assert seqs_of(rows[0]) == seqs_of(rows[1]) == [0, 1, 2, 3, 4]
    last = RingReader.attach(ring.handles)
    last.resume()
    last.commit(4)
    last.close()
    after = RingReader.attach(ring.handles)
    assert after.resume() == []
    after.close()


def test_rows_of_lapped_frames_break_at_epochs_and_missing_ids(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """A row names only frames that were in the ring: ids skipped by the camera are not in it."""
    ids = [(1, 10), (1, 11), (1, 13), (2, 14), (2, 15), (2, 16), (2, 17), (2, 18), (2, 19)]
    for epoch, frame_id in ids:
        slot = writer.acquire(FrameStamp(epoch, frame_id, 0, frame_id), **SHAPE)
        assert slot is not None
        writer.publish()
        frame = reader.read()
        assert frame is not None
        reader.release(frame.seq)
    successor = RingReader.attach(ring.handles)
    rows = [(loss.epoch, loss.first_id, loss.last_id) for loss in successor.resume()]
    assert rows == [(1, 10, 11), (1, 13, 13), (2, 14, 15)]
    successor.close()


def test_the_slot_being_overwritten_at_a_restart_is_reported_lost(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """The oldest frame, half overwritten when the successor starts, is lost and not shown."""
    for seq in range(SLOTS):
        assert publish(writer, seq)
    drain(reader)
    slot = writer.acquire(stamp_of(SLOTS), **SHAPE)
    assert slot is not None
    slot[:2] = shade(SLOTS)
    successor = RingReader.attach(ring.handles)
    assert successor.resume() == []
    assert drain(successor) == [1, 2, 3]
    assert seqs_of(successor.read_losses()) == [0]
    assert successor.loss_cursor == 0
    slot[:] = shade(SLOTS)
    writer.publish()
    assert drain(successor) == [SLOTS]
    successor.close()


def test_the_oldest_frame_after_a_restart_is_a_copy(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """The one slot that the writer may have in hand is copied and checked, so it cannot change."""
    for seq in range(SLOTS):
        assert publish(writer, seq)
    drain(reader)
    successor = RingReader.attach(ring.handles)
    successor.resume()
    frames = [successor.read() for _ in range(SLOTS)]
    assert [frame.pixels.flags.owndata for frame in frames if frame] == [True, False, False, False]
    assert not frames[0].pixels.flags.writeable if frames[0] else False
    for frame in frames:
        assert frame is not None
        check_frame(frame)
    successor.close()


def test_losses_are_read_once_and_again_by_a_successor_until_committed(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """The log's cursor moves with commit_losses only; a reader gets each entry once."""
    losses = [gap(1, 3), gap(7, 7, LossClass.RING_FULL), gap(9, 9, LossClass.INCOMPLETE)]
    writer.record_loss(losses[0])
    assert reader.read_losses() == losses[:1]
    cursor = reader.loss_cursor
    writer.record_loss(losses[1])
    writer.record_loss(losses[2])
    assert reader.read_losses() == losses[1:]
    assert reader.read_losses() == []
    reader.commit_losses(cursor)
    successor = RingReader.attach(ring.handles)
    assert successor.read_losses() == losses[1:]
    successor.close()


def test_losses_go_with_the_frames_before_them(writer: RingWriter, reader: RingReader) -> None:
    """Up to the next frame, which a gap ends with; behind the last one, all that are logged."""
    arrived = [stamp_of(seq).host_ns for seq in range(4)]
    losses = [
        Loss(LossClass.CAMERA_GAP, 1, 1, 1, arrived[0], arrived[1]),
        Loss(LossClass.RING_FULL, 1, 2, 2, arrived[2], arrived[2]),
        Loss(LossClass.CAMERA_GAP, 1, 3, 3, arrived[2], arrived[3]),
    ]
    assert publish(writer, 0)
    writer.record_loss(losses[0])
    assert [reader.losses_before(seq) for seq in (0, 1)] == [0, 1]
    assert publish(writer, 1)
    writer.record_loss(losses[1])
    assert publish(writer, 2)
    writer.record_loss(losses[2])
    assert [reader.losses_before(seq) for seq in range(4)] == [0, 1, 2, 3]
    assert reader.read_losses(reader.losses_before(2)) == losses[:2]
    assert reader.losses_before(0) == 2, "what was read is not given back"


def test_a_loss_without_ids_counts_no_frames(writer: RingWriter, reader: RingReader) -> None:
    """An unplugged camera's gap is logged with its times and keeps the balance."""
    unknown = Loss(LossClass.CAMERA_GAP, 2, None, None, 5, 9)
    writer.record_loss(unknown)
    assert reader.read_losses() == [unknown]
    assert reader.statistics().offered == 0


def test_only_losses_before_the_ring_are_logged(writer: RingWriter) -> None:
    """A class of frames that entered the ring would be counted twice."""
    for loss_class in set(LossClass) - {
        LossClass.CAMERA_GAP,
        LossClass.INCOMPLETE,
        LossClass.RING_FULL,
    }:
        with pytest.raises(ConfigError, match=loss_class.label):
            writer.record_loss(gap(1, 1, loss_class))


@pytest.mark.parametrize(
    "loss",
    [gap(5, 3), dataclasses.replace(gap(1, 1), last_id=None), gap(1, 2**63)],
    ids=["reversed", "half known", "beyond 64 bits"],
)
def test_a_malformed_loss_is_refused_and_not_logged(
    writer: RingWriter, reader: RingReader, loss: Loss
) -> None:
    """What cannot be written down is the caller's error and blocks no later loss."""
    with pytest.raises(ConfigError):
        writer.record_loss(loss)
    writer.record_loss(gap(1, 1))
    assert reader.read_losses() == [gap(1, 1)]


def test_a_full_loss_log_keeps_losses_until_there_is_room() -> None:
    """Nothing is forgotten and nothing overwritten while the encoder commits no losses."""
    with small_ring(losses=2) as ring:
        writer, reader = RingWriter.attach(ring.handles), RingReader.attach(ring.handles)
        reader.resume()
        for first in (1, 11, 21, 22, 31):
            writer.record_loss(gap(first, first))
        assert writer.pending_losses == 2
        assert reader.read_losses() == [gap(1, 1), gap(11, 11)]
        assert reader.statistics().offered == 2
        reader.commit_losses(reader.loss_cursor)
        assert publish(writer, 0)
        assert writer.pending_losses == 0
        assert reader.read_losses() == [gap(21, 22), gap(31, 31)]
        assert reader.statistics().offered == 1 + 5
        writer.close()
        reader.close()


def test_uncommitted_losses_cannot_be_committed_unread(
    writer: RingWriter, reader: RingReader
) -> None:
    """A cursor beyond what was read would drop entries nobody has written down."""
    writer.record_loss(gap(1, 1))
    with pytest.raises(WrongState):
        reader.commit_losses(1)


def test_statistics_are_the_same_for_all_and_survive_the_writer(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """Every figure holds: offered = published + logged losses, from shared memory alone."""
    writer.begin_epoch()
    for seq in range(3):
        assert publish(writer, seq)
    writer.record_loss(gap(50, 59))
    writer.record_loss(gap(60, 60, LossClass.RING_FULL))
    reader.read()
    reader.release(0)
    reader.commit(0)
    successor = RingWriter.attach(ring.handles)
    successor.record_loss(gap(61, 62, LossClass.RING_FULL))
    observer = RingObserver.attach(ring.handles)
    found = ring.statistics()
    assert found == reader.statistics() == writer.statistics() == observer.statistics()
    assert (found.published, found.released, found.committed) == (3, 1, 1)
    assert found.lost == {
        LossClass.CAMERA_GAP: 10,
        LossClass.INCOMPLETE: 0,
        LossClass.RING_FULL: 3,
    }
    assert found.offered == 3 + 13
    assert (found.high_water, found.slots, found.epoch, found.ended) == (3, SLOTS, 1, False)
    assert found.last_host_ns == stamp_of(2).host_ns
    assert found.losses_waiting == 3
    assert found.crash_cover_frames == SLOTS - 2
    successor.close()
    observer.close()


def test_crash_cover_shrinks_to_nothing_but_not_below(
    writer: RingWriter, reader: RingReader
) -> None:
    """The cover counts what is not durable, released or not."""
    assert reader.statistics().crash_cover_frames == SLOTS
    covers = []
    for seq in range(SLOTS + 2):
        assert publish(writer, seq)
        drain(reader)
        covers.append(reader.statistics().crash_cover_frames)
    assert covers == [3, 2, 1, 0, 0, 0]


def test_high_water_is_the_deepest_backlog(writer: RingWriter, reader: RingReader) -> None:
    """It stays after the ring has drained."""
    assert publish(writer, 0)
    drain(reader)
    for seq in range(1, 4):
        assert publish(writer, seq)
    drain(reader)
    assert publish(writer, 4)
    assert reader.statistics().high_water == 3


def test_an_observer_sees_the_newest_frame_and_changes_nothing(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """A preview copies the last frame, again if asked, and leaves no trace."""
    observer = RingObserver.attach(ring.handles)
    assert observer.latest() is None
    for seq in range(3):
        assert publish(writer, seq)
    before = ring.statistics()
    for _ in range(2):
        seen = observer.latest()
        assert seen is not None
        assert seen.seq == 2
        assert seen.stamp == stamp_of(2)
        assert np.all(seen.pixels == shade(2))
    assert observer.latest(after_seq=2) is None
    assert ring.statistics() == before
    observer.close()
    assert drain(reader) == [0, 1, 2]


def test_an_observer_copies_into_the_given_array_if_it_fits(ring: Ring, writer: RingWriter) -> None:
    """A preview can reuse one array; a change of shape gets a new one."""
    observer = RingObserver.attach(ring.handles)
    assert publish(writer, 0)
    out = np.zeros((4, 16), np.uint8)
    seen = observer.latest(out)
    assert seen is not None
    assert seen.pixels is out
    assert np.all(out == shade(0))
    other = observer.latest(np.zeros((4, 15), np.uint8))
    assert other is not None
    assert other.pixels.shape == (4, 16)
    observer.close()


def test_an_observer_never_shows_a_slot_in_the_writers_hand(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """The numbers around the pixels tell a lapped copy, even if the cursor stood still."""
    assert publish(writer, 0)
    drain(reader)
    observer = RingObserver.attach(ring.handles)
    header = SharedMemory.attach(ring.handles.memory).map(0, 4096, writable=True)
    words = header.view().cast("q")
    for seq in range(1, SLOTS):
        assert publish(writer, seq)
        drain(reader)
    slot = writer.acquire(stamp_of(SLOTS), **SHAPE)  # the slot that holds frame 0
    assert slot is not None
    slot[:2] = 255
    words[COMMITTED] = words[RELEASED] = 0
    words[PUBLISHED] = 1  # as if the observer had looked a lap ago
    assert observer.latest() is None
    words.release()
    header.close()
    observer.close()


def test_attach_before_the_memory_is_there_is_an_error() -> None:
    """A worker started too early is told so."""
    ring = Ring.reserve()
    for end in (RingWriter, RingReader, RingObserver):
        with pytest.raises(ProtocolError, match="no memory yet"):
            end.attach(ring.handles)
    with pytest.raises(WrongState):
        ring.statistics()
    ring.close()


def test_handles_that_are_no_ring_are_refused(ring: Ring) -> None:
    """Wrong, closed and swapped handles give an error that names them, and leak nothing."""
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    good = ring.handles
    pipe = os.pipe()
    null = os.open(os.devnull, os.O_RDWR)
    for bad in (
        dataclasses.replace(good, memory=null),
        dataclasses.replace(good, memory=pipe[0]),
        dataclasses.replace(good, memory=999_999),
        dataclasses.replace(good, data_ready=null),
        dataclasses.replace(good, space_ready=good.memory),
    ):
        with pytest.raises(ProtocolError):
            RingWriter.attach(bad)
        with pytest.raises(ProtocolError):
            RingReader.attach(bad)
    for fd in (*pipe, null):
        os.close(fd)
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) == before


def test_handles_travel_as_json(ring: Ring) -> None:
    """The supervisor hands them to workers as plain numbers."""
    text = json.dumps(dataclasses.asdict(ring.handles))
    assert RingHandles(**json.loads(text)) == ring.handles


@pytest.mark.parametrize(("slots", "slot_bytes"), [(1, 64), (64, 64), (4, 0), (4, 2**32)])
def test_sizes_that_no_ring_has_are_refused(slots: int, slot_bytes: int) -> None:
    """One slot cannot be written and read; the table must be longer than the ring."""
    ring = Ring.reserve()
    with pytest.raises(ConfigError):
        ring.allocate(slots=slots, slot_bytes=slot_bytes, table_entries=64)
    ring.close()


def test_memory_that_is_not_there_is_refused_with_what_to_change() -> None:
    """The refusal names the bytes needed, those to be had, and the option to change."""
    ring = Ring.reserve()
    needed = Geometry(60_000, 1 << 30).total_bytes
    with pytest.raises(MemoryRefused, match=rf"needs {needed} bytes .* can be had") as caught:
        ring.allocate(slots=60_000, slot_bytes=1 << 30)
    assert "--ring-seconds" in caught.value.hint
    ring.allocate(slots=2, slot_bytes=64)
    with pytest.raises(WrongState):
        ring.allocate(slots=2, slot_bytes=64)
    ring.close()


def test_all_pages_are_reserved_at_once(ring: Ring) -> None:
    """No later touch can end in SIGBUS: the system counts the pages before the first frame."""
    if sys.platform != "linux":
        pytest.skip("blocks of a memory file are a Linux figure")
    status = os.fstat(ring.handles.memory)
    assert status.st_size > SLOTS * FRAME_BYTES
    assert status.st_blocks * 512 >= status.st_size


def test_nobody_can_cut_the_memory(ring: Ring) -> None:
    """The size is sealed, so a mapped page never goes away under a reader."""
    if sys.platform != "linux":
        pytest.skip("sections of Windows have a fixed size")
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(ring.handles.memory, size)


def words_of(ring: Ring) -> memoryview:
    return SharedMemory.attach(ring.handles.memory).map(0, 4096, writable=True).view().cast("q")


@pytest.mark.parametrize("word", range(10))
@pytest.mark.parametrize("value", [-1, 0, 3, 2**40, 2**63 - 1])
def test_a_damaged_header_is_refused_at_attach(ring: Ring, word: int, value: int) -> None:
    """Magic, version and every size are checked against each other and the memory."""
    words = words_of(ring)
    words[word] = value
    for end in (RingWriter, RingReader, RingObserver):
        with pytest.raises((ProtocolError, UnknownVersion)):
            end.attach(ring.handles)


def test_another_version_is_named(ring: Ring) -> None:
    """A worker of another installation gets an error of its own."""
    words_of(ring)[1] = 2
    with pytest.raises(UnknownVersion, match="version 2"):
        RingReader.attach(ring.handles)


@pytest.mark.parametrize("word", [PUBLISHED, RELEASED, COMMITTED])
@pytest.mark.parametrize("value", [-1, 2**62])
def test_damaged_cursors_are_an_error_not_a_flood(
    ring: Ring, writer: RingWriter, reader: RingReader, word: int, value: int
) -> None:
    """A wild number ends in an error at once, never in a long loop or a wild access."""
    assert publish(writer, 0)
    words_of(ring)[word] = value
    with pytest.raises(ProtocolError):
        reader.read()
    if (word, value) != (PUBLISHED, 2**62):
        with pytest.raises(ProtocolError):
            writer.acquire(stamp_of(1), **SHAPE)
        with pytest.raises(ProtocolError):
            ring.statistics()
    with pytest.raises(ProtocolError), closing(RingReader.attach(ring.handles)) as successor:
        successor.resume()


def test_a_damaged_slot_record_is_an_error(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """A size that does not fit the slot is never turned into a view."""
    assert publish(writer, 0)
    geometry = Geometry(SLOTS, FRAME_BYTES, 64, 64)
    slots = SharedMemory.attach(ring.handles.memory).map(
        geometry.data_offset, geometry.data_bytes, writable=True
    )
    data = slots.view().cast("q")
    observer = RingObserver.attach(ring.handles)
    for field, value in ((6, 2**40), (6, 0), (7, -5), (8, 99)):
        good, data[field] = data[field], value
        with pytest.raises(ProtocolError):
            reader.read()
        assert observer.latest() is None
        data[field] = good
    observer.close()
    assert drain(reader) == [0]


def test_a_slot_without_its_end_number_is_never_shown(
    ring: Ring, writer: RingWriter, reader: RingReader
) -> None:
    """The number after the pixels is the writer's word that they are whole."""
    assert publish(writer, 0)
    geometry = Geometry(SLOTS, FRAME_BYTES, 64, 64)
    slots = SharedMemory.attach(ring.handles.memory).map(
        geometry.data_offset, geometry.data_bytes, writable=True
    )
    slots.view().cast("q")[geometry.end_word(0)] = 0
    with closing(RingObserver.attach(ring.handles)) as observer:
        assert observer.latest() is None
    assert reader.read() is None
    assert seqs_of(reader.read_losses()) == [0]


def test_closing_never_fails_and_keeps_views_valid(ring: Ring, writer: RingWriter) -> None:
    """A picture somebody still holds stays readable; the memory goes with it."""
    assert publish(writer, 0)
    reader = RingReader.attach(ring.handles)
    reader.resume()
    frame = reader.read()
    assert frame is not None
    pixels = frame.pixels
    del frame
    reader.close()
    reader.close()
    assert np.all(pixels == shade(0))


def mapped_rings() -> int:
    with open("/proc/self/maps", encoding="utf-8") as lines:
        return sum("memfd:sealrec-ring" in line for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_closing_unmaps_at_once_or_with_the_last_view() -> None:
    """No mapping and no descriptor is left, and no collector is needed for it."""
    maps, descriptors = mapped_rings(), len(os.listdir("/proc/self/fd"))
    with small_ring() as ring:
        writer, reader = RingWriter.attach(ring.handles), RingReader.attach(ring.handles)
        observer = RingObserver.attach(ring.handles)
        reader.resume()
        assert publish(writer, 0)
        frame, seen = reader.read(), observer.latest()
        assert frame is not None
        assert seen is not None
        pixels = frame.pixels
        for end in (writer, reader, observer):
            end.close()
        del frame
    assert mapped_rings() == maps + 1, "the view keeps the slots, and nothing else"
    del pixels
    assert mapped_rings() == maps
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_closed_end_says_so(ring: Ring) -> None:
    """Use after close is an error of its own, not a crash."""
    writer, reader = RingWriter.attach(ring.handles), RingReader.attach(ring.handles)
    observer = RingObserver.attach(ring.handles)
    reader.resume()
    for end in (writer, reader, observer):
        end.close()
        end.close()
    for call in (
        lambda: writer.acquire(stamp_of(0), **SHAPE),
        lambda: writer.record_loss(gap(1, 1)),
        reader.read,
        reader.statistics,
        observer.latest,
    ):
        with pytest.raises(WrongState, match="closed"):
            call()


def test_the_supervisor_needs_no_numpy() -> None:
    """Importing and owning a ring loads no array library."""
    code = (
        "import sys; from ipc.ring import Ring; r = Ring.reserve(); "
        "r.allocate(slots=2, slot_bytes=64); r.statistics(); r.close(); "
        "sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
