"""A controller's day: an open camera, ten recordings, an unplugged cable, a killed engine.

The camera is the simulated one behind the real VmbC; the same day without faults runs in the Qt
adapter's tests.
"""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import audit
from engine.catalog.place import CatalogPlace, place_of
from engine.catalog.schema import initialize
from engine.catalog.store import Catalog
from engine.catalog.sync import sync
from engine.catalog.witness import witness
from engine.client import CameraBack, CameraLost, EngineDied, Recorder
from engine.keys import secret_from
from engine.reading.verify import verify
from tests.gentl.simulator import SimulatedCameras
from tests.processes.commands import sealrec
from tests.processes.serving import wait_until

AWAIT_S = 60.0
RECORDINGS = 10
UNPLUGGED, KILLED = 3, 6
FPS = 60.0


@pytest.fixture
def cameras(
    simulated_cameras: SimulatedCameras, monkeypatch: pytest.MonkeyPatch
) -> SimulatedCameras:
    """Cameras that every process started from here finds."""
    for name, value in simulated_cameras.environment.items():
        monkeypatch.setenv(name, value)
    return simulated_cameras


@pytest.fixture
def place(tmp_path: Path) -> CatalogPlace:
    """A catalog that was just made."""
    made = place_of(str(tmp_path / "catalog" / "catalog.sqlite"))
    assert made is not None
    initialize(made)
    return made


@contextmanager
def at_work(cameras: SimulatedCameras, place: CatalogPlace) -> Iterator[Recorder]:
    """A controller that has opened the camera."""
    with Recorder(catalog=place.shown) as recorder:
        recorder.open_camera(
            source="vimba:DEV_SIM000",
            width=320,
            height=200,
            fps=FPS,
            pixel_format="bgr8",
            pre_roll_s=0.5,
            camera_sdk_settings=cameras.settings_path,
        )
        recorder.wait_status(lambda s: s.state == "ready" and s.fps_in > 1, AWAIT_S)
        yield recorder


def record(recorder: Recorder, folder: Path, key_file: Path, number: int) -> Path:
    """Begin the recording of one treatment, with a mark and a pause."""
    started = recorder.start(
        output=folder / f"s{number}" / "recording.mp4.enc",
        key_file=key_file,
        codec="libx264",
        session={"session_id": f"s{number}", "subject": "A. Muster", "operator": "M. Curie"},
    )
    recorder.wait_written(10, AWAIT_S)
    recorder.mark("laser_on", f"treatment {number}")
    recorder.pause()
    recorder.wait_status(lambda s: s.state == "paused", AWAIT_S)
    recorder.resume()
    recorder.wait_recording(AWAIT_S)
    return started.path


def unplug(recorder: Recorder, cameras: SimulatedCameras) -> None:
    """Pull the cable in the middle of a recording, and put it back."""
    with recorder.events(CameraLost, CameraBack) as told:
        cameras.remove(0)
        assert isinstance(told.read(AWAIT_S), CameraLost)
        cameras.end(0, "remove")
        assert isinstance(told.read(AWAIT_S), CameraBack)
    recorder.wait_recording(AWAIT_S)


def rows(place: CatalogPlace, query: str) -> list[tuple[Any, ...]]:
    """What stands in the catalog."""
    assert place.path is not None
    with closing(sqlite3.connect(place.path)) as connection:
        return connection.execute(query).fetchall()


def chain(place: CatalogPlace) -> audit.ChainReport:
    """What the audit says of itself."""
    with Catalog(place).reading() as connection:
        return audit.check(connection, audit.read_key(place))


def test_a_day(
    cameras: SimulatedCameras, place: CatalogPlace, tmp_path: Path, key_file: Path
) -> None:
    """Every file is whole, rows are those of the files, the audit holds, a change is found."""
    folder = tmp_path / "sessions"
    files: list[Path] = []
    with at_work(cameras, place) as recorder:
        for number in range(KILLED):
            files.append(record(recorder, folder, key_file, number))
            if number == UNPLUGGED:
                unplug(recorder, cameras)
            result = recorder.stop()
            assert (result.state, result.balanced) == ("sealed", True), result
            assert result.gaps == (number == UNPLUGGED)
    with at_work(cameras, place) as recorder:
        files.append(record(recorder, folder, key_file, KILLED))
        assert recorder.pid is not None
        os.kill(recorder.pid, signal.SIGKILL)
        with pytest.raises(EngineDied):
            recorder.wait_stopped(AWAIT_S)
    wait_until(files[-1].exists, "the seal of workers whose engine was killed")
    with at_work(cameras, place) as recorder:
        for number in range(KILLED + 1, RECORDINGS):
            files.append(record(recorder, folder, key_file, number))
            recorder.stop()
    secret = secret_from(key_file=key_file)
    sync(place, folder, secret)
    again = sync(place, folder, secret)
    assert not again.changed
    assert not again.missing
    seen = {}
    for path in files:
        report = verify(path, secret)
        assert (report.state, report.exit_code) == ("sealed", 0), report
        verdict = witness(place, report).verdict
        if path.parent.name != f"s{KILLED}":
            assert verdict == "as-sealed"
        else:  # nobody saw its seal
            assert verdict == "found"
        seen[path.parent.name] = (report.frames, sum(report.lost.values()))
    table = "SELECT session_id, frames_written, frames_offered - frames_written FROM recordings"
    found = {name: (int(written), int(lost)) for name, written, lost in rows(place, table)}
    assert found == seen
    states = dict(rows(place, "SELECT session_id, status FROM sessions"))
    assert {states.pop(f"s{KILLED}")} <= {"aborted", "completed"}
    assert set(states.values()) == {"completed"}
    assert rows(place, "SELECT count(*) FROM marks WHERE kind = 'laser_on'") == [(RECORDINGS,)]
    assert chain(place).holds
    assert sealrec("audit", "--verify", "--catalog", place.shown).code == 0
    assert place.path is not None
    with closing(sqlite3.connect(place.path)) as connection:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        for (name,) in connection.execute(triggers).fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE audit SET chunk_count = 1 WHERE seq = 5")
        connection.commit()
    assert not chain(place).holds
    assert sealrec("audit", "--verify", "--catalog", place.shown).code == 4
