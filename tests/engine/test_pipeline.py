"""Camera and recordings as the supervisor runs them: a real ring, and workers that only listen."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from engine import pipeline as module
from engine import recording as recording_module
from engine.config import parse_config
from engine.container.names import open_path
from engine.container.tables import SessionTable
from engine.container.writer import PartWriter
from engine.keys import new_key_file
from engine.lifecycle import DRAIN_S, STOP_S, Phase
from engine.pipeline import SILENT_AT_START_S, SILENT_S, Pipeline
from engine.processes import WorkerExit, WorkerMessage
from engine.recording import Recording
from ipc import messages
from ipc.frame import Loss, LossClass
from ipc.messages import LossRow, Message
from ipc.ring import RingHandles, RingReader, RingWriter
from tests.engine import media
from tests.engine.media import FRAMES
from tests.ipc.ring_kit import HEIGHT_PX, SHAPE, WIDTH_PX, stamp_of

AWAIT_S = 20
KILLED = -9
OPENED = messages.SourceOpened(
    width_px=WIDTH_PX, height_px=HEIGHT_PX, pixel_format="mono8", rate_hz=30.0
)


class Listener:
    """A worker process that does nothing but remember what it was told."""

    pid = 1

    def __init__(self, role: str, ring: RingHandles, deliver: object) -> None:
        self.role, self.ring = role, ring
        self.sent: list[Message] = []
        self.killed = False

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def kill(self) -> None:
        self.killed = True

    def last(self, kind: type[Message]) -> Any:
        """The last message of a kind."""
        return [message for message in self.sent if isinstance(message, kind)][-1]

    def got(self, kind: type[Message]) -> int:
        """How many of a kind it was sent."""
        return sum(isinstance(message, kind) for message in self.sent)


class Stage:
    """A recording, its clock, and what its workers say."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.posted: queue.Queue[object] = queue.Queue()
        self.told: list[tuple[str, str, dict[str, Any]]] = []
        monkeypatch.setattr(module, "WorkerProcess", Listener)
        clock = SimpleNamespace(monotonic=lambda: self.now, perf_counter_ns=lambda: 5)
        monkeypatch.setattr(module, "time", clock)
        monkeypatch.setattr(
            recording_module, "time", SimpleNamespace(**vars(clock), time_ns=lambda: 9)
        )
        key = folder / "a.key"
        new_key_file(key)
        keys = [{"kind": "key_file", "value": str(key)}]
        config = parse_config({"output": str(folder / "x.mp4.enc"), "keys": keys})
        self.recording = Recording(config, self.tell)
        self.pipeline = Pipeline(config, self.posted.put, self.tell, self.recording)
        self.writer: RingWriter | None = None
        self.published = 0

    def tell(self, *said: Any) -> None:
        """What a controller is told."""
        self.told.append(said)

    # --- what happens -------------------------------------------------------------------------

    def worker(self, role: str) -> Listener:
        """The running worker of a role."""
        worker: Any = self.pipeline.workers[role]
        assert isinstance(worker, Listener)
        return worker

    def says(self, role: str, *said: Message) -> None:
        """A worker says something."""
        for message in said:
            self.pipeline.take(WorkerMessage(self.worker(role), message))  # type: ignore[arg-type]

    def exits(self, role: str, code: int = KILLED) -> None:
        """A worker ends."""
        self.pipeline.take(WorkerExit(self.worker(role), code))  # type: ignore[arg-type]

    def begin(self) -> None:
        """Everything opens: it records."""
        self.pipeline.start()
        self.says("capture", OPENED)
        self.writer = RingWriter.attach(self.pipeline.ring.handles)
        self.writer.begin_epoch()
        self.part_opens()
        assert self.pipeline.lifecycle.phase is Phase.RECORDING

    def part_opens(self) -> None:
        """The encoder has opened the part that it was told to."""
        order = self.worker("encoder").last(messages.OpenPart)
        opened = messages.PartOpened(
            index=order.index, path=order.path, encoder="made up", hardware=False
        )
        self.says("encoder", opened)

    def publish(self, count: int) -> None:
        """Capture publishes frames."""
        assert self.writer is not None
        for _ in range(count):
            assert self.writer.acquire(stamp_of(self.published), **SHAPE) is not None
            self.writer.publish()
            self.published += 1

    def stop(self) -> None:
        """The stop is asked for, and the source ends."""
        self.pipeline.stop()
        self.says("capture", messages.StreamEnded(reason="stopped"))
        self.exits("capture", 0)

    def posts(self) -> None:
        """What was posted meanwhile comes in."""
        while not self.posted.empty():
            self.pipeline.take(self.posted.get())

    def wait_post(self) -> None:
        """The next thing that a thread posts comes in."""
        self.pipeline.take(self.posted.get(timeout=AWAIT_S))

    def tick(self, *, stalled: bool = False) -> None:
        """The supervisor's loop turns."""
        self.pipeline.tick(stalled=stalled)

    def kinds(self) -> list[str]:
        """Kinds of all events told."""
        return [kind for kind, _, _ in self.told]

    def close(self) -> None:
        """Give everything back."""
        if self.writer is not None:
            self.writer.close()
        self.pipeline.ring.close()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """A recording that was not started yet."""
    with closing(Stage(tmp_path, monkeypatch)) as made:
        yield made


def begin_part(stage: Stage, *, fragments: int) -> PartWriter:
    """What an encoder does with its order: the part's file, and some fragments in it."""
    order = stage.worker("encoder").last(messages.OpenPart)
    writer = PartWriter.create(Path(order.path), dek=order.dek, header=order.header)
    writer.write_init(media.made_up_init(), SessionTable())
    for number in range(fragments):
        made = media.made_up(number)
        writer.append(made.table, made.media, pts=made.pts, duration=made.duration)
    return writer


def durable(first: int, count: int, *, part: int = 0) -> messages.FragmentDurable:
    """The report of a durable fragment of frames of epoch 1."""
    return messages.FragmentDurable(
        part=part,
        committed=first + count,
        rows=[(first, first + count - 1, 1, 1000 + first)],
        lost=[],
        pts_end=(first + count) * 3000,
        file_bytes=1000,
        write_s=0.001,
        sync_s=0.001,
    )


def replace_lost(report: messages.FragmentDurable, *losses: Loss) -> messages.FragmentDurable:
    """The same report, naming losses."""
    return msgspec.structs.replace(report, lost=[LossRow.of(loss) for loss in losses])


def sealed(stage: Stage, *, last: bool = True, lost: list[LossRow] | None = None) -> Message:
    """The report of a sealed part."""
    part = stage.recording.parts.current
    assert part is not None
    return messages.PartSealed(
        index=part.index,
        path=str(part.path),
        size_bytes=2000,
        chunk_count=1,
        generation=2,
        header_mac=bytes(32),
        end_pts=3000,
        last=last,
        lost=lost or [],
    )


def drain_ring(stage: Stage) -> None:
    """Commit everything in the ring, as an encoder does that made it durable."""
    with closing(RingReader.attach(stage.pipeline.ring.handles)) as reader:
        reader.resume()
        while (frame := reader.read()) is not None:
            reader.release(frame.seq)
            reader.commit(frame.seq)
        reader.read_losses()
        reader.commit_losses(reader.loss_cursor)


# --- the usual path ---------------------------------------------------------------------------


def test_orders_of_a_whole_recording(stage: Stage) -> None:
    """Each worker is told what it needs, in order, and the balance sheet is whole."""
    stage.begin()
    capture, encoder = stage.worker("capture"), stage.worker("encoder")
    stage.publish(30)
    stage.says("encoder", durable(0, 24), durable(24, 6))
    drain_ring(stage)
    stage.stop()
    assert encoder.last(messages.FinishRecording).through == 30
    stage.says("encoder", sealed(stage))
    assert encoder.got(messages.Shutdown) == 1
    assert not stage.pipeline.finished
    stage.exits("encoder", 0)
    assert stage.pipeline.finished
    kinds = [messages.OpenSource, messages.BeginStream, messages.EndStream]
    assert [type(message) for message in capture.sent] == kinds
    result = stage.pipeline.settle_recording()
    assert (result["frames_offered"], result["frames_written"], result["lost"]) == (30, 30, {})
    assert result["balanced"]
    assert stage.kinds() == ["recording_started", "part_sealed"]


def test_losses_that_only_the_seal_holds_count(stage: Stage) -> None:
    """They came after the last fragment; the balance would miss them otherwise."""
    stage.begin()
    stage.publish(8)
    assert stage.writer is not None
    gap = Loss(LossClass.CAMERA_GAP, 1, 1008, 1010, 1, 2)
    stage.writer.record_loss(gap)
    stage.says("encoder", durable(0, 8))
    drain_ring(stage)
    stage.stop()
    stage.says("encoder", sealed(stage, lost=[LossRow.of(gap)]))
    stage.exits("encoder", 0)
    result = stage.pipeline.settle_recording()
    assert (result["frames_offered"], result["lost"]) == (11, {"camera_gap": 3})
    assert result["balanced"]


def test_a_change_of_size_opens_a_part_of_that_size(stage: Stage) -> None:
    """The answer to the seal is an order for the frames that wait."""
    stage.begin()
    encoder = stage.worker("encoder")
    needed = messages.PartNeeded(width_px=8, height_px=2, pixel_format="bgr8")
    begin_part(stage, fragments=0).abandon()
    stage.part_opens()
    stage.says("encoder", needed, sealed(stage, last=False))
    order = encoder.last(messages.OpenPart)
    assert order.index == 1
    frame = {"width_px": 8, "height_px": 2, "pixel_format": "bgr8", "rate_hz": 30.0}
    assert order.frame == frame


# --- the encoder dies -------------------------------------------------------------------------


def test_a_dead_encoders_part_is_counted_from_its_file(stage: Stage) -> None:
    """What it had made durable and not said, the file says; finishing waits for that."""
    stage.begin()
    begin_part(stage, fragments=2).abandon()
    stage.exits("encoder")
    assert stage.recording.parts.recovering == 1
    successor = stage.worker("encoder")
    assert successor.last(messages.OpenPart).index == 1
    stage.part_opens()
    stage.stop()
    assert successor.got(messages.FinishRecording) == 0
    stage.wait_post()
    order = successor.last(messages.FinishRecording)
    assert order.previous["seqs"] == [[0, 2 * FRAMES - 1]]
    assert "part_recovered" in stage.kinds()
    assert stage.recording.ledger.totals()["written"] == 2 * FRAMES


def test_losses_that_a_dead_encoder_did_not_tell_are_told_from_its_file(stage: Stage) -> None:
    """Durable, and dead before it said so: the controller hears of them, and of none twice."""
    stage.begin()
    writer = begin_part(stage, fragments=1)
    told = Loss(LossClass.CAMERA_GAP, 0, 1500, 1501, 1, 2)
    untold = Loss(LossClass.RING_FULL, 0, 1502, 1503, 3, 4)
    made = media.made_up(1)
    table = replace(made.table, lost=(told, untold))
    writer.append(table, made.media, pts=made.pts, duration=made.duration)
    writer.abandon()
    stage.says("encoder", replace_lost(durable(0, FRAMES), told))
    stage.exits("encoder")
    stage.wait_post()
    lost = [details for kind, _, details in stage.told if kind == "frames_lost"]
    assert [(one["class"], one["frames"], one["ids"]) for one in lost] == [
        ("camera_gap", 2, [(1500, 1501)]),
        ("ring_full", 2, [(1502, 1503)]),
    ]


def test_a_second_death_while_the_first_part_is_recovered(stage: Stage) -> None:
    """Finishing waits for both recoveries and is said to the encoder that runs then."""
    stage.begin()
    begin_part(stage, fragments=1).abandon()
    stage.exits("encoder")
    stage.part_opens()
    stage.stop()
    begin_part(stage, fragments=0).abandon()
    stage.exits("encoder")
    third = stage.worker("encoder")
    stage.wait_post()
    assert third.got(messages.FinishRecording) == 0
    stage.wait_post()
    assert third.got(messages.FinishRecording) == 1
    assert [part.state for part in stage.recording.parts] == ["recovered", "recovered", "open"]


def test_an_encoder_that_dies_between_seal_and_word(stage: Stage) -> None:
    """Nobody is started again; the sealed file is counted before the balance is drawn."""
    stage.begin()
    stage.publish(FRAMES)
    writer = begin_part(stage, fragments=1)
    drain_ring(stage)
    stage.stop()
    late = Loss(LossClass.CAMERA_GAP, 0, 1000 + FRAMES, 1000 + FRAMES, 1, 2)
    writer.seal(replace(media.seal_table(), lost=(late,)))
    stage.exits("encoder")
    assert "encoder" not in stage.pipeline.workers
    assert stage.recording.concluded is not None
    assert not stage.recording.over  # its tables are being read
    stage.wait_post()
    assert stage.recording.over
    result = stage.pipeline.settle_recording()
    assert (result["frames_written"], result["lost"]) == (FRAMES, {"camera_gap": 1})
    assert result["state"] == "sealed"
    assert "problem" not in result


def test_a_sealed_part_is_not_the_end_while_the_ring_holds_more(stage: Stage) -> None:
    """The seal was that of a size change: a successor takes the rest."""
    stage.begin()
    stage.publish(FRAMES)
    writer = begin_part(stage, fragments=1)
    stage.stop()
    writer.seal(media.seal_table(last=False))
    stage.exits("encoder")
    successor = stage.worker("encoder")
    assert successor.last(messages.OpenPart).index == 1
    stage.wait_post()
    assert successor.last(messages.FinishRecording).through == FRAMES


def test_frames_that_no_encoder_came_to_write_are_named(stage: Stage) -> None:
    """When encoders keep dying, what the ring still holds is a loss with a name, not a hole."""
    stage.begin()
    stage.publish(20)
    assert stage.writer is not None
    stage.writer.record_loss(Loss(LossClass.CAMERA_GAP, 1, 1020, 1024, 1, 2))
    for _ in range(6):
        stage.exits("encoder")
    assert stage.recording.concluded is not None
    stage.exits("capture", 0)
    stage.posts()
    assert stage.pipeline.finished
    result = stage.pipeline.settle_recording()
    assert result["lost"] == {"encoder_lost": 20, "camera_gap": 5}
    assert result["frames_offered"] == 25
    assert result["balanced"]
    assert result["problem"]["code"] == "worker"


def test_a_dead_encoders_last_stall_is_not_its_successors(stage: Stage) -> None:
    """The status would blame the disk for ever."""
    stage.begin()
    stalled = messages.EncoderStatus(
        fps=1, encoded=1, queue_bytes=0, queue_items=0, stall_s=9, encode_ms=1, convert_ms=1
    )
    stage.says("encoder", stalled)
    stage.exits("encoder")
    assert stage.pipeline.seen.encoder is None


def test_a_part_that_cannot_be_begun_ends_the_recording(stage: Stage) -> None:
    """Told as a problem; the engine goes on."""
    stage.begin()
    begin_part(stage, fragments=1).abandon()
    part = stage.recording.parts.current
    assert part is not None
    part.index = 999
    stage.exits("encoder")
    assert "disk_failed" in stage.kinds()
    assert stage.pipeline.lifecycle.phase is Phase.STOPPING
    stage.wait_post()


# --- a full disk ------------------------------------------------------------------------------


def test_a_part_sealed_early_tells_why(stage: Stage) -> None:
    """The encoder goes on naming what is lost; then the balance has it all, and the reason."""
    stage.begin()
    stage.publish(16)
    failed = messages.PartFailed(index=0, code="disk", message="The disk is full.", sealed=True)
    rest = Loss(LossClass.WRITE_ERROR, 1, 1008, 1015, 1, 2)
    stage.says("encoder", durable(0, 8), failed, sealed(stage))
    assert stage.worker("capture").got(messages.EndStream) == 1
    stage.says("capture", messages.StreamEnded(reason="stopped"))
    stage.exits("capture", 0)
    assert stage.worker("encoder").got(messages.FinishRecording) == 1
    stage.says("encoder", messages.FramesLost(part=0, lost=[LossRow.of(rest)]))
    drain_ring(stage)
    stage.exits("encoder", 0)
    result = stage.pipeline.settle_recording()
    assert (result["frames_written"], result["lost"]) == (8, {"write_error": 8})
    assert result["balanced"]
    assert result["state"] == "sealed"
    assert result["problem"]["message"] == "The disk is full."


# --- silence and time -------------------------------------------------------------------------


def test_a_silent_worker_is_killed_after_five_seconds(stage: Stage) -> None:
    """The other one, which is heard, is not."""
    stage.begin()
    stage.now += SILENT_S - 0.1
    stage.says("capture", messages.SourceHeard())
    stage.tick()
    assert not stage.worker("encoder").killed
    stage.now += 0.2
    stage.tick()
    assert stage.worker("encoder").killed
    assert not stage.worker("capture").killed


def test_a_supervisor_that_was_held_up_blames_nobody(stage: Stage) -> None:
    """Heartbeats wait in the pipe while this process does not run."""
    stage.begin()
    stage.now += 100
    stage.tick(stalled=True)
    stage.now += 1
    stage.tick()
    assert not stage.worker("encoder").killed
    assert not stage.worker("capture").killed


@pytest.mark.parametrize("role", ["capture", "encoder"])
def test_a_restarted_worker_has_time_to_open(stage: Stage, role: str) -> None:
    """Imports, a camera and an encoder may take longer than a heartbeat, also in mid recording."""
    stage.begin()
    begin_part(stage, fragments=0).abandon()
    stage.exits(role)
    stage.now += SILENT_AT_START_S - 1
    stage.says("encoder" if role == "capture" else "capture", messages.SourceHeard())
    stage.tick()
    assert not stage.worker(role).killed
    if role == "capture":
        stage.says("capture", OPENED)
    else:
        stage.part_opens()
    stage.now += SILENT_S + 1
    stage.tick()
    assert stage.worker(role).killed
    while stage.recording.parts.recovering:
        stage.wait_post()


def test_a_slow_drain_is_not_a_hung_one(stage: Stage) -> None:
    """As long as something becomes durable, the encoder is given time."""
    stage.begin()
    stage.publish(30)
    stage.stop()
    for number in range(5):
        stage.now += DRAIN_S - 1
        stage.says("encoder", durable(number, 1))
        stage.tick()
        assert not stage.worker("encoder").killed
    stage.now += DRAIN_S + 1
    stage.says("encoder", messages.EncoderStatus(**dict.fromkeys(_STATUS, 0)))
    stage.tick()
    assert stage.worker("encoder").killed


_STATUS = ("fps", "encoded", "queue_bytes", "queue_items", "stall_s", "encode_ms", "convert_ms")


def test_timers_fire_once_and_are_known_to_the_loop(stage: Stage) -> None:
    """The loop sleeps until the next one."""
    stage.begin()
    stage.pipeline.stop()
    assert stage.pipeline.next_timer == stage.now + STOP_S
    stage.now += STOP_S
    stage.tick()
    assert stage.worker("capture").killed
    assert stage.pipeline.next_timer is None


# --- processes that cannot be had -------------------------------------------------------------


def test_a_system_without_processes_is_a_refused_start(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told with a reason; what did start is told to leave, and the engine goes on."""

    def start(role: str, ring: RingHandles, deliver: object) -> Listener:
        if role == "capture":
            raise OSError(11, "Resource temporarily unavailable")
        return Listener(role, ring, deliver)

    monkeypatch.setattr(module, "WorkerProcess", start)
    stage.pipeline.start()
    while stage.recording.concluded is None:
        stage.posts()
    assert stage.worker("encoder").got(messages.Shutdown) == 1
    stage.exits("encoder", 0)
    assert stage.pipeline.finished
    assert not stage.recording.concluded.started
    assert stage.recording.concluded.problem is not None
    assert stage.pipeline.settle_recording()["parts"] == []
    assert "error" in stage.kinds()


def test_what_a_dead_instance_said_does_not_count_for_the_new_one(stage: Stage) -> None:
    """Its exit is its own, too."""
    stage.begin()
    dead = stage.worker("capture")
    stage.exits("capture")
    successor = stage.worker("capture")
    stage.pipeline.take(WorkerExit(dead, KILLED))  # type: ignore[arg-type]
    assert stage.worker("capture") is successor


def test_a_password_does_not_stay(tmp_path: Path) -> None:
    """Keys are derived at once; nothing in the recording holds the password as long as it runs."""
    password = "a-password-nobody-else-uses"
    keys = [{"kind": "password", "value": password}]
    config = parse_config({"output": str(tmp_path / "x.mp4.enc"), "keys": keys})
    made = Recording(config, print)
    del config
    assert password not in repr(vars(made)) + repr(vars(made.parts))
    assert made.config.keys == []
    assert not open_path(tmp_path / "x.mp4.enc").exists()
