"""Camera settings changed by a controller: told, noted in the file, kept when it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.client import AsyncRecorder, Camera, CameraBack, CameraChanged, Recorder
from ipc.errors import ConfigError, WrongState
from ipc.frame import FrameFlags
from tests.gentl.simulator import SimulatedCameras
from tests.processes.camera_recordings import Recorded, read_recording
from tests.processes.serving import wait_until

AWAIT_S = 60.0
SYNTHETIC = {"source": "synthetic", "width": 320, "height": 200, "fps": 30.0}


@pytest.fixture
def engine() -> Iterator[Recorder]:
    """A running engine."""
    with Recorder() as found:
        yield found


@pytest.fixture
def cameras(
    simulated_cameras: SimulatedCameras, monkeypatch: pytest.MonkeyPatch
) -> SimulatedCameras:
    """Two cameras that every process started from here finds."""
    for name, value in simulated_cameras.environment.items():
        monkeypatch.setenv(name, value)
    return simulated_cameras


@pytest.fixture
def camera_engine(cameras: SimulatedCameras) -> Iterator[Recorder]:
    """A running engine that finds the cameras."""
    with Recorder() as found:
        yield found


def simulated(cameras: SimulatedCameras) -> dict[str, Any]:
    """The first camera, slow enough for any machine."""
    return {
        "source": "vimba:DEV_SIM000",
        "camera_sdk_settings": str(cameras.settings_path),
        "fps": 50.0,
        "pixel_format": "bayer_rg8",
    }


def flagged(recorded: Recorded) -> list[int]:
    """Ids of the frames that say that settings changed before them."""
    return [r.frame_id for r in recorded.frames if r.flags & FrameFlags.SETTINGS_CHANGED]


def test_a_change_while_recording_is_in_the_file(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """The next frame is flagged, an event says what is set now, and the controller hears it."""
    started = engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file, **SYNTHETIC)
    engine.wait_written(10, AWAIT_S)
    with engine.events(CameraChanged) as events:
        camera = engine.set_camera(exposure_us=2000.0, gain_db=3.0)
        event = events.read(AWAIT_S)
    assert (camera.exposure_us, camera.gain_db) == (2000, 3)
    assert event.text == "exposure_us 2000.0, gain_db 3.0"
    assert event.camera == camera
    written = engine.status.frames.written
    engine.wait_written(written + 30, AWAIT_S)
    assert engine.camera() == camera
    assert engine.stop().balanced
    recorded = read_recording(started.path, key_file)
    assert len(flagged(recorded)) == 1
    notes = [note for note in recorded.events if note.kind == "camera_changed"]
    assert [note.text for note in notes] == [event.text]
    host_ns = next(r.host_ns for r in recorded.frames if r.frame_id == flagged(recorded)[0])
    assert abs(host_ns - notes[0].host_ns) < 1_000_000_000


def test_only_looking_is_no_change(engine: Recorder, tmp_path: Path, key_file: Path) -> None:
    """However often a widget asks."""
    started = engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file, **SYNTHETIC)
    engine.wait_written(10, AWAIT_S)
    for _ in range(20):
        assert engine.camera().exposure_range_us == (20.0, 1e7)
    engine.stop()
    recorded = read_recording(started.path, key_file)
    assert not flagged(recorded)
    assert "camera_changed" not in recorded.kinds()


def test_nonsense_is_refused_and_changes_nothing(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """An unknown name, a value that no camera takes, no camera at all, a file."""
    with pytest.raises(WrongState):
        engine.camera()
    with pytest.raises(WrongState):
        engine.set_camera(gain_db=1.0)
    engine.open_camera(**SYNTHETIC)
    for wrong in ({"focus": 3}, {"exposure_us": -1.0}, {"binning": "2"}, {"gain_db": float("nan")}):
        with pytest.raises(ConfigError):
            engine.set_camera(**wrong)  # type: ignore[arg-type]
    assert engine.camera().gain_db == 0


def test_asyncio_has_the_same_calls() -> None:
    """With the same values."""

    async def look() -> tuple[Camera, Camera]:
        async with AsyncRecorder() as engine:
            await engine.open_camera(**SYNTHETIC)
            return await engine.set_camera(gain_db=99.0), await engine.camera()

    changed, seen = asyncio.run(look())
    assert changed == seen
    assert changed.gain_db == 24


def test_binning_opens_the_camera_again(engine: Recorder, tmp_path: Path, key_file: Path) -> None:
    """With smaller frames and a ring to fit, and what was set before; not while it is recorded."""
    engine.open_camera(**SYNTHETIC)
    engine.set_camera(exposure_us=777.0)
    with engine.live_view() as view:
        frame = view.wait_frame(AWAIT_S)
        assert frame is not None
        assert frame.pixels.shape == (200, 320, 3)
        camera = engine.set_camera(binning=2)
        assert (camera.binning, camera.exposure_us) == (2, 777)
        wait_until(lambda: (f := view.latest()) is not None and f.pixels.shape == (100, 160, 3))
    started = engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file)
    assert started.source is not None
    assert (started.source.width_px, started.source.height_px) == (160, 100)
    with pytest.raises(WrongState, match="record"):
        engine.set_camera(binning=1)
    assert engine.set_camera(binning=2).binning == 2, "what it has already changes nothing"
    engine.wait_written(10, AWAIT_S)
    assert engine.stop().balanced
    assert engine.set_camera(binning=1).binning == 1


def test_a_binning_that_no_camera_has_is_refused(engine: Recorder) -> None:
    """And the camera is there again as it was."""
    engine.open_camera(**SYNTHETIC)
    with pytest.raises(ConfigError):
        engine.set_camera(binning=9)
    assert engine.camera().binning == 1
    with engine.live_view() as view:
        assert view.wait_frame(AWAIT_S) is not None


def test_a_real_sdks_camera_is_changed_while_it_is_recorded(
    camera_engine: Recorder, cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """What the camera made of it is told; the recording goes on without a lost frame of ours."""
    engine = camera_engine
    started = engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file, **simulated(cameras))
    engine.wait_written(20, AWAIT_S)
    camera = engine.set_camera(exposure_us=3000.0, gain_db=100.0)
    assert (camera.exposure_us, camera.gain_db) == (3000, 24)
    engine.wait_written(engine.status.frames.written + 40, AWAIT_S)  # two at once are one flag
    assert engine.set_camera(frame_rate_hz=25.0).frame_rate_hz == pytest.approx(25)
    engine.wait_written(engine.status.frames.written + 30, AWAIT_S)
    result = engine.stop()
    assert result.balanced
    assert "ring_full" not in result.lost
    recorded = read_recording(started.path, key_file)
    assert len(flagged(recorded)) == 2
    assert recorded.kinds("camera_changed") == ["camera_changed"] * 2


def test_a_slowed_camera_is_not_lost(
    camera_engine: Recorder, cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """A long exposure makes a frame a second: that is the camera's new pace, and no silence."""
    engine = camera_engine
    started = engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file, **simulated(cameras))
    engine.wait_written(20, AWAIT_S)
    engine.set_camera(exposure_us=1_500_000.0)
    engine.wait_written(engine.status.frames.written + 5, AWAIT_S)
    engine.stop()
    assert not read_recording(started.path, key_file).kinds("camera_lost")


def test_a_camera_that_comes_back_has_what_was_set(
    camera_engine: Recorder, cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """Unplugged, it has forgotten everything; it is given what it had, the change included."""
    engine = camera_engine
    engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file, **simulated(cameras))
    engine.wait_written(20, AWAIT_S)
    engine.set_camera(exposure_us=3000.0)
    with engine.events(CameraBack) as events:
        cameras.remove(0, for_s=0.3)
        events.read(AWAIT_S)
    assert engine.camera().exposure_us == 3000
    assert engine.stop().balanced


def test_binning_of_a_real_sdks_camera(
    camera_engine: Recorder, cameras: SimulatedCameras, tmp_path: Path, key_file: Path
) -> None:
    """Width, height and payload are read again, and recorded so."""
    engine = camera_engine
    engine.open_camera(**simulated(cameras))
    assert engine.set_camera(binning=2).binning == 2
    started = engine.start(output=tmp_path / "x.mp4.enc", key_file=key_file)
    assert started.source is not None
    assert (started.source.width_px, started.source.height_px) == (728, 544)
    engine.wait_written(10, AWAIT_S)
    assert engine.stop().balanced
