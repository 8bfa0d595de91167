"""The status: green only while frames come and become durable, and plain values throughout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import status as module
from engine.config import parse_config
from engine.keys import new_key_file
from engine.ledger import WrittenRun
from engine.lifecycle import Phase
from engine.pipeline import Pipeline
from engine.recording import Recording
from engine.status import StatusBoard
from ipc.channel import decode, encode
from ipc.frame import Loss, LossClass
from ipc.messages import EncoderStatus, SourceOpened, Status, WorkerStatus
from ipc.ring import RingWriter
from tests.ipc.ring_kit import FRAME_BYTES, SHAPE, stamp_of
from tests.ipc.specification import section

RATE_HZ = 30.0
START_S = 1000.0
ENCODER = EncoderStatus(
    fps=30.0,
    encoded=1,
    queue_bytes=5,
    queue_items=1,
    stall_s=0.0,
    encode_ms=3.0,
    convert_ms=0.5,
)


@dataclass
class Clock:
    """The board's clock, set by hand."""

    now: float = START_S

    def monotonic(self) -> float:
        return self.now


class Scene:
    """A real recording without processes: its ring is written and its workers' words are set."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        key = folder / "a.key"
        new_key_file(key)
        keys = [{"kind": "key_file", "value": str(key)}]
        fields = {"output": str(folder / "x.mp4.enc"), "keys": keys}
        self.clock = clock
        self.told: list[str] = []
        config = parse_config(fields)

        def tell(kind: str, *_: Any) -> None:
            self.told.append(kind)

        self.recording = Recording(config, tell)
        self.pipeline = Pipeline(config, lambda _: None, tell, self.recording)
        self.pipeline.ring.allocate(slots=40, slot_bytes=FRAME_BYTES)
        self.writer = RingWriter.attach(self.pipeline.ring.handles)
        self.writer.begin_epoch()
        self.board = StatusBoard()
        self.recording.began_at = self.pipeline.opened_at = clock.now
        self.board.begin(self.pipeline)
        self.source(triggered=False)
        self.pipeline.lifecycle.phase = Phase.RECORDING
        self.published = 0

    def source(self, *, triggered: bool, rate_hz: float = RATE_HZ) -> None:
        """What the source said."""
        self.pipeline.source.said = SourceOpened(
            width_px=16, height_px=4, pixel_format="mono8", rate_hz=rate_hz, triggered=triggered
        )

    def publish(self, count: int = 1) -> None:
        """Frames come."""
        for _ in range(count):
            slot = self.writer.acquire(stamp_of(self.published), **SHAPE)
            assert slot is not None
            self.writer.publish()
            self.published += 1

    def heard(self, *roles: str) -> None:
        """Workers are heard now."""
        for role in roles or ("capture", "encoder"):
            self.pipeline.seen.heard[role] = self.clock.now
            self.pipeline.seen.status[role] = WorkerStatus(
                cpu_s=self.clock.now - START_S,
                pss_bytes=3,
                private_bytes=2,
                descriptors=9,
                threads=4,
            )

    def durable(self) -> None:
        """Something becomes durable now."""
        self.recording.durable.at = self.clock.now

    def all_well(self) -> None:
        """Frames come, workers are heard, bytes become durable."""
        self.pipeline.seen.encoder = ENCODER
        self.publish()
        self.heard()
        self.durable()

    def compose(self) -> dict[str, Any]:
        """The status now."""
        return self.board.compose(self.pipeline)

    @property
    def state(self) -> str:
        """The state now."""
        return str(self.compose()["state"])

    def close(self) -> None:
        """Give everything back."""
        self.writer.close()
        self.pipeline.ring.close()


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """A recording in which all is well."""
    clock = Clock()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    with closing(Scene(tmp_path, clock)) as made:
        made.all_well()
        assert made.state == "recording"
        yield made


# --- the light --------------------------------------------------------------------------------


def test_nothing_to_record_is_idle() -> None:
    """Before the first recording and after each."""
    assert StatusBoard().compose(None) == {"state": "idle", "phase": "idle"}


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.RECORDING])
def test_every_other_phase_is_its_own_state(scene: Scene, phase: Phase) -> None:
    """Also while bytes still become durable: that is not what the light is for."""
    scene.pipeline.lifecycle.phase = phase
    assert scene.state == ("starting" if phase is Phase.OPENING else phase.value)


def test_a_pause_is_not_recording(scene: Scene) -> None:
    """Frames come and tables become durable, but no picture is kept."""
    scene.recording.pause(paused=True)
    assert scene.state == "paused"
    scene.recording.pause(paused=False)
    assert scene.state == "recording"


def test_an_open_camera_without_a_recording_is_ready(scene: Scene) -> None:
    """With the ring's figures and none of a recording; what is wrong with the camera shows."""
    scene.pipeline.recording, scene.pipeline.lifecycle.phase = None, Phase.READY
    found = scene.compose()
    assert found["state"] == "ready"
    assert set(found) == {"state", "phase", "fps_in", "ring", "workers"}
    scene.clock.now += 1.1
    scene.heard()
    assert scene.state == "no_frames"
    scene.pipeline.lifecycle.camera_away = True
    assert scene.state == "camera_lost"


def test_not_durable_for_two_seconds_is_not_recording(scene: Scene) -> None:
    """Both processes alive, frames coming: the light goes out all the same."""
    for _ in range(19):
        scene.clock.now += 0.1
        scene.publish()
        scene.heard()
        assert scene.state == "recording"
    scene.clock.now += 0.2
    scene.publish()
    scene.heard()
    assert scene.state == "not_durable"


def test_nothing_durable_yet_is_starting_and_then_a_fault(scene: Scene) -> None:
    """The first fragment takes a moment; more than two seconds it must not."""
    scene.recording.durable.at = None
    assert scene.state == "starting"
    scene.clock.now += 2.1
    scene.publish()
    scene.heard()
    assert scene.state == "not_durable"


@pytest.mark.parametrize(
    ("triggered", "rate_hz", "quiet_s", "state"),
    [
        (False, 30.0, 0.9, "recording"),
        (False, 30.0, 1.1, "no_frames"),
        (True, 30.0, 1.1, "waiting"),
        (False, 2.0, 2.4, "recording"),
        (False, 2.0, 2.6, "no_frames"),
    ],
)
def test_no_frames_is_a_fault_unless_something_else_gives_the_beat(
    scene: Scene, triggered: bool, rate_hz: float, quiet_s: float, state: str
) -> None:
    """After a second, or five periods of a slow camera."""
    scene.source(triggered=triggered, rate_hz=rate_hz)
    scene.clock.now += quiet_s
    scene.heard()
    scene.durable()
    assert scene.state == state


@pytest.mark.parametrize("role", ["capture", "encoder"])
def test_a_silent_worker_shows_within_a_second(scene: Scene, role: str) -> None:
    """Named, while the other one goes on."""
    scene.clock.now += 1.1
    scene.publish()
    scene.durable()
    scene.heard("capture" if role == "encoder" else "encoder")
    assert scene.state == f"{role}_silent"


def test_a_stalled_disk_shows(scene: Scene) -> None:
    """A write that takes longer than a second is said to be one."""
    scene.pipeline.seen.encoder = EncoderStatus(
        fps=30, encoded=1, queue_bytes=5, queue_items=1, stall_s=1.2, encode_ms=1, convert_ms=1
    )
    assert scene.state == "disk_stalled"


def test_a_camera_that_is_away_shows(scene: Scene) -> None:
    """Whatever else is true."""
    scene.pipeline.lifecycle.camera_away = True
    scene.clock.now += 5
    assert scene.state == "camera_lost"


@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.floats(0, 3), min_size=5, max_size=5), st.booleans())
def test_recording_is_never_said_without_reason(
    scene: Scene, ages_s: list[float], away: bool
) -> None:
    """Whatever the ages are: green only if none of them is too great."""
    durable_s, frames_s, capture_s, encoder_s, stall_s = ages_s
    recording, pipeline, now = scene.recording, scene.pipeline, scene.clock.now
    recording.began_at = now - 10
    recording.durable.at = now - durable_s
    pipeline.seen.heard = {"capture": now - capture_s, "encoder": now - encoder_s}
    pipeline.seen.encoder = EncoderStatus(
        fps=1, encoded=1, queue_bytes=0, queue_items=0, stall_s=stall_s, encode_ms=0, convert_ms=0
    )
    pipeline.lifecycle.camera_away = away
    scene.board._published_at = now - frames_s
    ages_and_limits = [(durable_s, 2.0), *((age_s, 1.0) for age_s in ages_s[1:])]
    well = all(age_s <= limit_s for age_s, limit_s in ages_and_limits) and not away
    if not any(abs(age_s - limit_s) < 1e-6 for age_s, limit_s in ages_and_limits):
        assert (scene.state == "recording") == well


def test_frames_that_the_ring_refuses_show_for_two_seconds(scene: Scene) -> None:
    """Bytes become durable and frames come, but not all of them."""
    scene.writer.record_loss(Loss.of(stamp_of(scene.published), LossClass.RING_FULL))
    assert scene.state == "ring_full"
    scene.clock.now += 1.9
    scene.all_well()
    assert scene.state == "ring_full"
    scene.clock.now += 0.2
    scene.all_well()
    assert scene.state == "recording"


# --- the figures ------------------------------------------------------------------------------


def test_offered_is_the_sum_of_all_others(scene: Scene) -> None:
    """Each class has its count, and what is neither written nor lost is in flight."""
    scene.publish(9)
    scene.writer.record_loss(Loss(LossClass.CAMERA_GAP, 1, 50, 52, 1, 2))
    scene.recording.ledger.add_written(WrittenRun(0, 3, 1, 1000))
    scene.recording.ledger.add_lost(Loss(LossClass.CAMERA_GAP, 1, 50, 52, 1, 2))
    frames = dict(scene.compose()["frames"])
    assert (frames["written"], frames["camera_gap"], frames["in_flight"]) == (4, 3, 6)
    assert frames.pop("offered") == sum(frames.values()) == 13


def test_rates_are_those_of_the_last_second(scene: Scene) -> None:
    """Frames per second into the ring, and processor time of each process."""
    scene.clock.now += 1.0
    scene.heard()
    scene.compose()
    scene.clock.now += 2.0
    scene.publish(10)
    scene.heard()
    found = scene.compose()
    assert found["fps_in"] == 5.0
    assert found["workers"]["capture"]["cpu"] == 1.0


def test_the_ring_shows_its_fill_and_its_cover(scene: Scene) -> None:
    """How many frames wait, and how much longer the encoder's death would cost nothing."""
    scene.publish(4)
    ring = scene.compose()["ring"]
    assert (ring["slots"], ring["fill"], ring["not_durable"]) == (40, 5, 5)
    assert ring["crash_cover_s"] == round(35 / RATE_HZ, 3)


def test_a_process_that_is_not_running_has_no_pid(scene: Scene) -> None:
    """The engine's own is always there."""
    workers = scene.compose()["workers"]
    assert workers["capture"]["pid"] is None
    assert workers["supervisor"]["pid"] > 0


def test_a_new_recording_forgets_the_old_figures(scene: Scene) -> None:
    """Rates and ages begin anew."""
    scene.clock.now += 3.0
    scene.compose()
    scene.board.begin(scene.pipeline)
    assert scene.compose()["fps_in"] == 0.0


def test_the_page_names_every_figure(scene: Scene) -> None:
    """PROTOCOL.md lists each key of the status, and of the maps in it, and no others."""
    found = scene.compose()
    rows = [row for row in section("Status").rows if len(row) == 2]
    keys = {name for row in rows for name in row[0].split(", ")}
    states = {row[0] for row in rows}
    assert set(found) <= keys
    listed = {name: set(re.findall(r"`(\w+)`", row[1])) for row in rows for name in [row[0]]}
    for name in ("ring", "write_queue", "disk"):
        assert set(found[name]) == listed[name], name
    assert set(found["workers"]["supervisor"]) <= listed["workers"]
    assert {"offered", "written", "in_flight"} <= set(found["frames"])
    assert {"recording", "not_durable", "disk_stalled"} <= states


def test_the_status_crosses_the_wire(scene: Scene) -> None:
    """It holds plain values only."""
    message = Status(status=scene.compose())
    assert decode(encode(message)[4:], Status) == message
