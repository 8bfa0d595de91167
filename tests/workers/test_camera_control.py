"""Exposure, gain, rate, automatics and binning: what was set is what is told, while frames come."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from typing import Any

import msgspec
import pytest

from ipc.camera_control import CameraChanges
from ipc.errors import ConfigError, WrongState
from ipc.frame import FrameFlags, PixelFormat
from ipc.ring import RingReader, RingWriter
from tests.gentl.fixture import gentl_producer, simulated_cameras
from tests.gentl.simulator import SimulatedCameras
from tests.ipc.ring_kit import SHAPE, small_ring
from tests.workers.memory_sink import MemorySink
from workers.ring_sink import RingSink
from workers.silence import Silence
from workers.sources.source import AdjustableSource, SourceInfo, SourceSpec, open_source
from workers.sources.synthetic import SyntheticSource

__all__ = ["gentl_producer", "simulated_cameras"]

SMALL = {"width": 256, "height": 64, "pixel_format": PixelFormat.MONO8}


@pytest.fixture(scope="module")
def vimba(
    gentl_producer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """What a simulated camera said behind the real VmbC (tests/workers/adjusting.py)."""
    directory = tmp_path_factory.mktemp("cameras")
    SimulatedCameras(directory, gentl_producer)
    done = subprocess.run(
        [sys.executable, "-m", "tests.workers.adjusting", str(directory), str(gentl_producer)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_camera_is_changed_while_it_streams(vimba: dict[str, dict[str, Any]]) -> None:
    """Exposure and gain as asked, each with its range, which depends on nothing else here."""
    found = vimba["streaming"]
    assert found["opened"]["exposure_range_us"] == [20, 10_000_000]
    assert found["opened"]["gain_range_db"] == [0, 24]
    assert found["exposure"]["exposure_us"] == 2500
    assert (found["gain"]["exposure_us"], found["gain"]["gain_db"]) == (2500, 6)


def test_a_number_out_of_range_is_moved_into_it_and_told(vimba: dict[str, dict[str, Any]]) -> None:
    """The answer says what is set, not what was asked for."""
    beyond = vimba["streaming"]["beyond"]
    assert (beyond["gain_db"], beyond["exposure_us"]) == (24, 20)


def test_a_value_ends_its_automatic(vimba: dict[str, dict[str, Any]]) -> None:
    """Which would lock it; the white balance goes on by itself."""
    found = vimba["streaming"]
    automatics = ("auto_exposure", "auto_gain", "auto_white_balance")
    assert [found["automatic"][name] for name in automatics] == [True, True, True]
    by_hand = found["by hand again"]
    assert [by_hand[name] for name in automatics] == [False, False, True]
    assert (by_hand["exposure_us"], by_hand["gain_db"]) == (4000, 3)


def test_a_slower_camera_is_not_taken_for_a_silent_one(vimba: dict[str, dict[str, Any]]) -> None:
    """The rate that frames are expected at follows rate and exposure."""
    found = vimba["streaming"]
    assert found["rate"]["frame_rate_hz"] == pytest.approx(50)
    assert found["long"]["rate_hz"] == pytest.approx(2, rel=0.01)
    assert found["long"]["frame_rate_range_hz"][1] == pytest.approx(2, rel=0.01)
    assert found["silence"]["rate_hz"] == pytest.approx(1, rel=0.01)


def test_binning_halves_the_frames_and_comes_back(vimba: dict[str, dict[str, Any]]) -> None:
    """At an opening, together with other changes; width and height are read again."""
    whole = vimba["streaming"]["size"]
    half = [size // 2 for size in whole]
    assert vimba["binned"]["info"] == vimba["binned"]["frame"] == half
    assert (vimba["binned"]["binning"], vimba["binned"]["exposure_us"]) == (2, 3000)
    assert vimba["unbinned"]["info"] == vimba["unbinned"]["frame"] == whole
    assert "does not join 7" in vimba["too much"]["refused"]


def test_the_synthetic_camera_keeps_numbers_and_its_rate_is_real() -> None:
    """Times go on from where they were at the old rate: no step, no lost frame."""
    source = SyntheticSource(SourceSpec("synthetic", rate_hz=100.0, realtime=False, **SMALL))  # type: ignore[arg-type]
    with pytest.raises(WrongState, match="not open"):
        source.camera_state()
    source.open()
    stop = threading.Event()

    def change(frame_id: int) -> None:
        if frame_id == 4:
            source.adjust(CameraChanges(frame_rate_hz=50.0, exposure_us=1.0, gain_db=7.0))
        if frame_id == 9:
            stop.set()

    sink = MemorySink(on_acquire=change)
    source.run(sink, stop)
    times = [frame.camera_ns for frame in sink.frames]
    steps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert steps[:5] == [10_000_000] * 5
    assert set(steps[5:]) == {20_000_000}
    state = source.camera_state()
    assert (state.exposure_us, state.gain_db, state.frame_rate_hz) == (20, 7, 50)
    assert source.info is not None
    assert source.info.rate_hz == 50
    assert isinstance(source, AdjustableSource)
    source.close()


def test_a_file_has_no_settings() -> None:
    """So nothing is asked of it."""
    assert not isinstance(open_source(SourceSpec("file:x.mp4")), AdjustableSource)


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({"gain_db": 1.0}, {"gain_db": 2.0}, {"gain_db": 2.0}),
        ({"gain_db": 1.0}, {"auto_gain": True}, {"auto_gain": True}),
        ({"auto_exposure": True}, {"exposure_us": 9.0}, {"exposure_us": 9.0}),
        ({"binning": 2}, {"frame_rate_hz": 9.0}, {"binning": 2, "frame_rate_hz": 9.0}),
        ({"auto_gain": True}, {"auto_gain": False}, {"auto_gain": False}),
    ],
)
def test_changes_add_up(first: Any, second: Any, both: Any) -> None:
    """A camera that is opened again gets all of them, the later ones holding."""
    assert CameraChanges(**first).then(CameraChanges(**second)) == CameraChanges(**both)


@pytest.mark.parametrize(
    "wrong", [{"binning": 0}, {"exposure_us": 0}, {"focus": 1}, {"gain_db": "x"}]
)
def test_impossible_changes_are_refused(wrong: Any) -> None:
    """Before they reach a camera."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, CameraChanges)


def test_the_next_frame_in_the_ring_says_that_settings_changed() -> None:
    """Once, on the first frame that gets there; a refused one passes it on."""
    with small_ring(2) as ring:
        reader, writer = RingReader.attach(ring.handles), RingWriter.attach(ring.handles)
        reader.resume()
        info = SourceInfo(16, 4, PixelFormat.MONO8, 100.0)
        sink = RingSink(writer, info, policy="drop", stop=threading.Event())
        flags = {}

        def offer(frame_id: int) -> None:
            view = sink.acquire(frame_id, frame_id * 10_000_000, **SHAPE)
            if view is not None:
                sink.publish()

        def read() -> None:
            while (frame := reader.read()) is not None:
                flags[frame.stamp.frame_id] = frame.stamp.flags
                reader.release(frame.seq)

        offer(0)
        offer(1)
        sink.settings_changed(info)
        offer(2)  # no room: refused
        read()
        offer(3)
        offer(4)
        read()
        assert flags == {0: 0, 1: 0, 3: FrameFlags.SETTINGS_CHANGED, 4: 0}
        writer.close()
        reader.close()


def test_a_silence_is_judged_by_the_new_rate() -> None:
    """A camera that was made slow is given its time from then on."""
    silence = Silence(1.0, 0.0)
    assert silence.look(0.1, 1) == "heard"
    silence.expect(10.0)
    assert [silence.look(0.1 + step, 1) for step in range(1, 9)] == [""] * 8
    silence.expect(1.0)
    assert silence.look(8.9, 1) == ""
    assert silence.look(9.5, 1) == "silent"


def test_the_synthetic_camera_bins_too() -> None:
    """At an opening, as a real one; what it cannot it refuses."""
    for binning, size in ((1, (1920, 1200)), (2, (960, 600))):
        changes = CameraChanges(binning=binning)
        source = SyntheticSource(SourceSpec("synthetic", changes=changes), pattern="chart")
        info = source.open()
        assert (info.width_px, info.height_px) == size
        source.close()
    with pytest.raises(ConfigError, match="does not join 9"):
        SyntheticSource(SourceSpec("synthetic", changes=CameraChanges(binning=9))).open()
