"""The encoder process on a real ring: sizes that change, ends of every kind, disks that fail."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.container.header import new_core, new_header
from engine.container.names import open_path, part_path
from engine.container.part import PartReader
from engine.container.recipients import DataKeySecret, KeyFileRecipient
from engine.ledger import CLASSES, Balance, Ledger, WrittenRun
from engine.processes import WorkerExit, WorkerMessage, WorkerProcess
from ipc.frame import FrameStamp, Loss, LossClass, PixelFormat
from ipc.messages import (
    EncoderStatus,
    Failure,
    FinishRecording,
    FragmentDurable,
    FramesLost,
    Message,
    OpenPart,
    PartFailed,
    PartNeeded,
    PartOpened,
    PartSealed,
    RecordingEnded,
    Shutdown,
)
from ipc.ring import Ring, RingWriter

AWAIT_S = 30.0
RATE_HZ = 30.0
PERIOD_NS = 33_333_333
SMALL, LARGE = (64, 48), (96, 64)
NONE = dict.fromkeys(CLASSES, 0)


class Studio:
    """A ring with a writer in this process, and an encoder process that drains it."""

    def __init__(self, folder: Path, slots: int = 40) -> None:
        self.base = folder / "x.mp4.enc"
        self.ring = Ring.reserve()
        self.inbox: queue.SimpleQueue[WorkerMessage | WorkerExit] = queue.SimpleQueue()
        self.encoder = WorkerProcess("encoder", self.ring.handles, self.inbox.put)
        self.ring.allocate(slots=slots, slot_bytes=LARGE[0] * LARGE[1])
        self.writer = RingWriter.attach(self.ring.handles)
        self.writer.begin_epoch()
        self.dek, self.recording_id = secrets.token_bytes(32), secrets.token_bytes(16)
        self.published = self.skipped = 0
        self.told: list[Message] = []
        self.exit_code: int | None = None

    # --- what the supervisor and capture do -----------------------------------------------------

    def open_part(self, index: int = 0, size: tuple[int, int] = SMALL, **changes: Any) -> None:
        """Order a part."""
        core = new_core(
            recording_id=self.recording_id,
            part_index=index,
            created_unix_ms=1,
            previous_part=bytes([min(index, 1)]) * 32,
        )
        fields: dict[str, Any] = {
            "index": index,
            "path": str(part_path(self.base, index)),
            "header": new_header(core, self.dek, [KeyFileRecipient(secrets.token_bytes(32), "")]),
            "dek": self.dek,
            "video": {"codec": "libx264", "threads": 1},
            "frame": {
                "width_px": size[0],
                "height_px": size[1],
                "pixel_format": "mono8",
                "rate_hz": RATE_HZ,
            },
            "session": {},
        }
        self.encoder.send(OpenPart(**{**fields, **changes}))

    def publish(self, count: int, size: tuple[int, int] = SMALL) -> None:
        """Capture publishes frames; ids and clock go on whatever the size."""
        for _ in range(count):
            seq = self.published
            frame_id = seq + self.skipped
            stamp = FrameStamp(1, frame_id, frame_id * PERIOD_NS, time.perf_counter_ns())
            view = self.writer.acquire(
                stamp,
                width_px=size[0],
                height_px=size[1],
                pixel_format=PixelFormat.MONO8,
                timeout_s=AWAIT_S,
            )
            assert view is not None
            view[:] = seq % 200
            self.writer.publish()
            self.published += 1

    def skip(self, count: int = 1) -> None:
        """Capture finds ids skipped before the frame that arrives now."""
        first, now_ns = self.published + self.skipped, time.perf_counter_ns()
        gap = Loss(LossClass.CAMERA_GAP, 1, first, first + count - 1, now_ns, now_ns)
        self.writer.record_loss(gap)
        self.skipped += count

    def finish(self, previous: Ledger | None = None, **place: int) -> None:
        """Order the end, after all that was published or at a given place."""
        snapshot = previous.snapshot() if previous is not None else {}
        order = {"through": self.published, **place}
        self.encoder.send(FinishRecording(previous=snapshot, **order))

    # --- what is heard --------------------------------------------------------------------------

    def hear(self) -> None:
        """Take the next message or the exit."""
        item = self.inbox.get(timeout=AWAIT_S)
        if isinstance(item, WorkerExit):
            self.exit_code = item.exit_code
        else:
            self.told.append(item.message)

    def wait(self, kind: type[Message], count: int = 1) -> Any:
        """Wait for the count-th message of a kind."""
        deadline = time.monotonic() + AWAIT_S  # heartbeats would keep a loop without one alive
        while len(self.all(kind)) < count:
            assert self.exit_code is None, f"left with {self.exit_code} after {self.told}"
            assert time.monotonic() < deadline, f"no {kind.__name__}"
            self.hear()
        return self.all(kind)[count - 1]

    def wait_exit(self) -> int:
        """Wait for its end; all it said comes before."""
        deadline = time.monotonic() + AWAIT_S
        while self.exit_code is None:
            assert time.monotonic() < deadline, "it does not leave"
            self.hear()
        return self.exit_code

    def all(self, kind: type[Message]) -> list[Any]:
        """Messages of a kind so far."""
        return [message for message in self.told if isinstance(message, kind)]

    def account(self) -> Ledger:
        """The ledger as the supervisor would have it."""
        ledger = Ledger()
        for message in self.told:
            if isinstance(message, FragmentDurable):
                for run in message.rows:
                    ledger.add_written(WrittenRun(*run))
            if isinstance(message, FragmentDurable | FramesLost | PartSealed):
                for row in message.lost:
                    ledger.add_lost(row.loss())
        return ledger

    def frames(self, index: int = 0) -> list[int]:
        """Ids in a part, from its own tables."""
        with PartReader.open(part_path(self.base, index), DataKeySecret(self.dek)) as reader:
            assert reader.state == "sealed"
            reader.check_all()
            return [row.frame_id for f in reader.fragments() for row in f.table.frames]

    def close(self) -> None:
        """End what is left."""
        self.encoder.send(Shutdown())
        if not self.encoder.wait(AWAIT_S):
            self.encoder.kill()
            self.encoder.wait(AWAIT_S)
        self.writer.close()
        self.ring.close()


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    """An encoder process and its ring."""
    made = Studio(tmp_path)
    yield made
    made.close()


def wait_encoded(studio: Studio, count: int) -> None:
    """Wait until the encoder has taken so many frames."""
    heard = 0
    while not any(status.encoded >= count for status in studio.all(EncoderStatus)):
        heard += 1
        studio.wait(EncoderStatus, heard)


def test_a_size_that_changes_while_draining(studio: Studio) -> None:
    """The end was ordered before the change was found: it holds for the next part all the same."""
    studio.open_part()
    studio.publish(10, SMALL)
    studio.publish(10, LARGE)
    studio.finish()
    needed = studio.wait(PartNeeded)
    assert (needed.width_px, needed.height_px, needed.pixel_format) == (*LARGE, "mono8")
    first = studio.wait(PartSealed)
    assert not first.last
    assert studio.told.index(needed) < studio.told.index(first)
    studio.open_part(1, LARGE)
    assert studio.wait(PartSealed, 2).last
    assert studio.frames(0) == list(range(10))
    assert studio.frames(1) == list(range(10, 20))
    assert studio.account().totals()["written"] == 20
    assert studio.ring.statistics().committed == 20


def test_the_seal_counts_what_recovery_found_meanwhile(studio: Studio) -> None:
    """Totals of the recording take the newest account of the parts before."""
    before = Ledger()
    before.add_written(WrittenRun(100, 106, 0, 0))
    studio.open_part()
    studio.wait(PartOpened)
    studio.publish(5)
    studio.finish(before)
    assert studio.wait(PartSealed).totals["written"] == 12
    with PartReader.open(studio.base, DataKeySecret(studio.dek)) as reader:
        assert reader.seal is not None
        assert (reader.seal.part["written"], reader.seal.recording["written"]) == (5, 12)


def test_losses_logged_by_capture_are_in_the_file(studio: Studio) -> None:
    """With frames around them, without any, and at the very end."""
    rows = [Loss(LossClass.CAMERA_GAP, 2, n, n + 1, 1, 2) for n in (0, 10, 20)]
    studio.open_part()
    studio.publish(3)
    studio.writer.record_loss(rows[0])
    studio.wait(FragmentDurable)  # a fragment without a frame for a quarter of a second closes
    studio.writer.record_loss(rows[1])
    fragments = len(studio.all(FragmentDurable))
    studio.wait(FragmentDurable, fragments + 1)  # one without frames, after a second
    assert studio.account().totals()["camera_gap"] == 4
    studio.writer.record_loss(rows[2])
    studio.finish()
    studio.wait(PartSealed)
    assert studio.account().totals()["camera_gap"] == 6
    assert studio.ring.statistics().losses_waiting == 0


def test_an_end_that_is_heard_late_takes_the_losses_of_the_frames_that_were_taken(
    studio: Studio,
) -> None:
    """The end moves on to the last frame taken; a skipped id before that one moves with it."""
    studio.open_part()
    studio.publish(4)
    studio.skip()
    studio.publish(2)
    wait_encoded(studio, 6)
    studio.finish(through=4, losses_through=0)
    ended = studio.wait(RecordingEnded)
    assert (ended.through, ended.lost, ended.losses_through) == (6, 1, 1)
    studio.wait(PartSealed)
    assert studio.frames() == [0, 1, 2, 3, 5, 6]
    assert studio.account().totals()["camera_gap"] == 1
    assert studio.account().balance().problems == ()


def test_an_end_before_frames_that_were_published_leaves_their_losses_alone(
    studio: Studio,
) -> None:
    """A loss behind a frame of no recording, or of the next one, is not this one's."""
    studio.publish(3)
    studio.skip()
    studio.publish(3)
    studio.skip()
    studio.publish(1)
    studio.open_part()
    studio.finish(through=4, losses_through=2)
    ended = studio.wait(RecordingEnded)
    assert (ended.through, ended.lost, ended.losses_through) == (4, 1, 1)
    studio.wait(PartSealed)
    assert studio.frames() == [0, 1, 2, 4]
    assert studio.account().balance().problems == ()


def test_a_table_names_no_loss_beyond_the_frames_that_were_taken(studio: Studio) -> None:
    """The encoder may die, and the frames between with it: its file still balances."""
    studio.publish(3)
    studio.skip()
    studio.publish(30)
    studio.skip()
    studio.publish(1)
    studio.open_part()
    first = studio.wait(FragmentDurable)
    taken = sum(last - begin + 1 for begin, last, _, _ in first.rows)
    assert [(row.first_id, row.last_id) for row in first.lost] == [(3, 3)]
    assert 3 < taken < 33
    studio.finish()
    studio.wait(PartSealed)
    assert studio.account().balance() == Balance(36, {**NONE, "written": 34, "camera_gap": 2}, ())


def test_a_supervisor_that_dies_leaves_a_sealed_part(studio: Studio) -> None:
    """The encoder drains what capture still publishes, up to its end mark, and leaves."""
    studio.open_part()
    studio.wait(PartOpened)
    studio.publish(30)
    studio.encoder.channel.close()
    studio.publish(30)
    studio.writer.end_stream("stopped")
    assert studio.wait_exit() == 0
    assert studio.frames() == list(range(60))


def test_supervisor_and_capture_that_die_leave_a_sealed_part(studio: Studio) -> None:
    """Nobody marks the stream's end: after two quiet seconds it is one."""
    studio.open_part()
    studio.wait(PartOpened)
    studio.publish(10)
    studio.encoder.channel.close()
    assert studio.wait_exit() == 0
    assert studio.frames() == list(range(10))


def test_a_supervisor_that_dies_before_the_first_part(studio: Studio) -> None:
    """There is nothing to seal: it just leaves."""
    studio.encoder.channel.close()
    assert studio.wait_exit() == 0
    assert not open_path(studio.base).exists()


def test_an_encoder_that_cannot_open_says_so(studio: Studio) -> None:
    """One coded failure, an exit code, and no file."""
    studio.open_part(video={"codec": "nonsense"})
    failure = studio.wait(Failure)
    assert failure.code in ("encoder", "config")
    assert studio.wait_exit() == 2
    assert list(studio.base.parent.iterdir()) == []


def test_a_taken_name_is_a_failed_part(studio: Studio) -> None:
    """Somebody made a file of that name just now: nothing is replaced, every frame is named."""
    studio.base.write_bytes(b"somebody's")
    studio.open_part()
    failed = studio.wait(PartFailed)
    assert not failed.sealed
    studio.publish(10)
    studio.finish()
    assert studio.wait_exit() == 0
    assert studio.account().totals()["write_error"] == 10
    assert studio.base.read_bytes() == b"somebody's"
    assert studio.ring.statistics().committed == 10


@pytest.mark.skipif(sys.platform == "win32", reason="resource limits")
def test_a_disk_that_fails_in_mid_part(studio: Studio) -> None:
    """Written or named, each frame once, whether it was durable, queued, encoded or in the ring."""
    import resource

    studio.open_part()
    studio.publish(60)
    studio.wait(FragmentDurable)
    size = open_path(studio.base).stat().st_size
    resource.prlimit(studio.encoder.pid, resource.RLIMIT_FSIZE, (size, size))
    studio.publish(120)
    studio.wait(PartFailed)
    studio.finish()
    assert studio.wait_exit() == 0
    totals = studio.account().totals()
    assert totals["written"] + totals["write_error"] == 180
    assert totals["write_error"] > 0
    assert not any("two classes" in text for text in studio.account().balance().problems)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_encoders_part_is_free_at_once(studio: Studio) -> None:
    """Its lock dies with it, and with all its threads."""
    studio.open_part()
    studio.publish(40)
    studio.wait(FragmentDurable)
    os.kill(studio.encoder.pid, signal.SIGKILL)
    assert studio.wait_exit() == -signal.SIGKILL
    from engine.container.recovery import recover_part

    report = recover_part(open_path(studio.base), DataKeySecret(studio.dek))
    assert report.frames >= studio.account().totals()["written"]


def test_it_says_that_it_lives(studio: Studio) -> None:
    """While it waits for its first part, and while no frame comes."""
    studio.open_part()
    studio.wait(EncoderStatus, 3)
    assert studio.all(EncoderStatus)[-1].encoded == 0
