"""Real engines with a catalog: rows equal files, and no catalog costs a recording a frame."""

from __future__ import annotations

import os
import queue
import resource
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from engine.catalog import audit
from engine.catalog.store import Catalog
from engine.catalog.sync import SyncReport, sync
from engine.catalog.witness import witness
from engine.client import (
    CatalogBack,
    CatalogBehind,
    EngineDied,
    Options,
    PartOpened,
    Recorder,
    Result,
)
from engine.client.options import CatalogOptions, catalog_arguments
from engine.container.part import PartReader
from engine.keys import new_key_file, secret_from
from engine.reading.verify import verify
from ipc.errors import ConfigError
from tests.engine.catalog import postgres
from tests.engine.catalog.conftest import Site, postgresql_site
from tests.engine.catalog.test_feed import LONG_S, locked, wait_for
from tests.engine.catalog.test_sync import quiet
from tests.processes.commands import command_line

CAMERA = {"source": "synthetic", "width": 320, "height": 240, "fps": 30.0}
PASSWORD = "geheim-4711"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "treatment.key"
    new_key_file(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sessions").mkdir()
    return tmp_path / "sessions"


def named(site: Site) -> CatalogOptions:
    """A recorder's options for a catalog."""
    options: CatalogOptions = {"catalog": site.options[1]}
    if site.kind == "postgresql":
        options["audit_key"] = site.place.audit_key
    return options


def options_of(folder: Path, key_file: Path, name: str = "x.mp4.enc") -> Options:
    session = {"session_id": "s1", "subject": "A. Muster", "operator": "M. Curie"}
    return {
        "output": folder / name, "codec": "libx264", "key_file": key_file, "session": session
    }  # fmt: skip


def kinds_of(site: Site) -> list[str]:
    return [row[0] for row in site.ask("SELECT kind FROM audit ORDER BY seq")]


def synced(site: Site, folder: Path, key_file: Path) -> SyncReport:
    """The report of a sync, which had nothing to put right but `synced` itself, twice."""
    for path in folder.glob("*.open"):
        quiet(path)
    return sync(site.place, folder, secret_from(key_file=key_file))


def as_sealed(site: Site, key_file: Path, path: Path) -> bool:
    report = verify(path, secret_from(key_file=key_file))
    assert report.exit_code == 0
    return witness(site.place, report).verdict == "as-sealed"


def chain_holds(site: Site) -> bool:
    with Catalog(site.place).reading() as connection:
        return audit.check(connection, audit.read_key(site.place)).holds


def rows(site: Site) -> dict[str, list[Any]]:
    """Everything that a sync could put right."""
    columns = {
        "sessions": "*",
        "recordings": "recording_id, session_id, path, source, status, state, frames_offered,"
        " frames_written, gaps, balanced, duration_s, size_bytes, started, ended, losses_left_out",
        "parts": "*",
        "losses": 'recording_id, "class", epoch, first_id, last_id',
        "marks": "recording_id, number, host_ns, kind, text",
    }
    return {
        table: sorted(map(str, site.ask(f"SELECT {names} FROM {table}")))
        for table, names in columns.items()
    }


def test_a_day(site: Site, folder: Path, key_file: Path) -> None:
    """Two recordings of one open camera, marks, a pause, an encoder's death: rows equal files."""
    with Recorder(**named(site)) as recorder:
        recorder.open_camera(CAMERA)
        recorder.start(**options_of(folder, key_file))
        recorder.wait_written(10, LONG_S)
        recorder.mark("laser_on", "50 W")
        recorder.pause()
        recorder.resume()
        with recorder.events(PartOpened) as opened:
            os.kill(encoder_of(recorder), signal.SIGKILL)
            opened.read(LONG_S)
        wait_for(lambda: "start" in kinds_of(site))
        recorder.mark("laser_off")
        recorder.wait_recording(LONG_S)
        first = recorder.stop()
        recorder.start(**options_of(folder, key_file, "y.mp4.enc"))
        recorder.wait_written(5, LONG_S)
        second = recorder.stop()
    assert first.balanced
    assert second.balanced
    told = rows(site)
    assert [row.count("completed") for row in told["sessions"]] == [1]
    assert len(told["parts"]) == len(first.parts) + len(second.parts) == 3
    assert [("laser_on" in row, "laser_off" in row) for row in told["marks"]] == [
        (True, False),
        (False, True),
    ]
    kinds = kinds_of(site)
    assert kinds == [
        "init", "start", "pause", "resume", "recovery", "seal", "stop", "start", "seal", "stop"
    ]  # fmt: skip
    report = synced(site, folder, key_file)
    assert report.problems == report.missing == []
    assert rows(site) == told  # the files had nothing to add
    assert synced(site, folder, key_file).changed == []
    assert kinds_of(site) == kinds
    for result in (first, second):
        assert as_sealed(site, key_file, result.parts[0])
        with PartReader.open(result.parts[-1], secret_from(key_file=key_file)) as part:
            assert part.seal is not None
            head = audit.Head.read(part.seal.audit_head)
        assert head is not None
        assert head.seq > 1
        assert site.ask(f"SELECT mac FROM audit WHERE seq = {head.seq}") == [(head.mac,)]
    assert chain_holds(site)


def test_stills_are_on_record_and_no_video(site: Site, folder: Path, key_file: Path) -> None:
    """Before, in and without a recording: rows of their own, sealed; the session's video stays."""
    alone: dict[str, str] = {"session_id": "s2"}
    with Recorder(**named(site)) as recorder:
        recorder.open_camera(CAMERA)
        recorder.wait_status(lambda status: status.fps_in > 0, LONG_S)
        options = options_of(folder, key_file)
        recorder.save_still(folder / "a.mp4.enc", key_file=key_file, session=options["session"])
        recorder.start(**options)
        recorder.wait_written(5, LONG_S)
        recorder.save_still(folder / "b.mp4.enc", key_file=key_file, session=options["session"])
        result = recorder.stop()
        recorder.save_still(folder / "c.mp4.enc", key_file=key_file, session=alone)
    told = rows(site)
    query = "SELECT session_id, video_path, video_size_bytes, status FROM sessions ORDER BY 1"
    assert site.ask(query) == [
        ("s1", str(result.parts[0]), result.size_bytes, "completed"),
        ("s2", "", None, "completed"),
    ]
    assert site.ask("SELECT count(*) FROM recordings WHERE still") == [(3,)]
    assert synced(site, folder, key_file).problems == []
    assert rows(site) == told
    for path in folder.iterdir():
        assert as_sealed(site, key_file, path), path


def encoder_of(recorder: Recorder) -> int:
    assert recorder.pid is not None
    children = psutil.Process(recorder.pid).children(recursive=True)
    [encoder] = [child.pid for child in children if "workers.encoder" in " ".join(child.cmdline())]
    return encoder


def lost_nothing(result: Result) -> bool:
    """On a busy machine the synthetic camera may itself be late."""
    return result.balanced and result.state == "sealed" and set(result.lost) <= {"camera_gap"}


def test_a_catalog_that_is_locked_all_the_time(site: Site, folder: Path, key_file: Path) -> None:
    """From before the start until after the stop: no frame, no call waits; then all comes in."""
    with Recorder(**named(site)) as recorder:
        with locked(site), recorder.events(CatalogBehind) as behind:
            recorder.start(CAMERA, **options_of(folder, key_file))
            recorder.wait_recording(LONG_S)
            event = behind.read(LONG_S)
            assert isinstance(event, CatalogBehind)
            assert event.waiting >= 1
            assert recorder.status.is_recording
            result = recorder.stop()
            assert lost_nothing(result)
            back = recorder.events(CatalogBack)
        with back:
            assert back.read(LONG_S).details["missed"] == 0
    assert kinds_of(site) == ["init", "start", "seal", "stop"]
    assert as_sealed(site, key_file, result.parts[0])


def test_a_catalog_that_is_locked_when_the_engine_leaves(
    site: Site, folder: Path, key_file: Path
) -> None:
    """The engine does not wait for it; a sync brings the rows in from the files."""
    with locked(site), Recorder(**named(site)) as recorder:
        recorder.start(CAMERA, **options_of(folder, key_file))
        recorder.wait_written(5, LONG_S)
        result = recorder.stop()
    assert lost_nothing(result)
    assert kinds_of(site) == ["init"]
    assert synced(site, folder, key_file).changed == [str(result.parts[0])]
    assert site.ask("SELECT status, subject FROM sessions") == [("completed", "A. Muster")]
    assert synced(site, folder, key_file).changed == []
    report = verify(result.parts[0], secret_from(key_file=key_file))
    assert witness(site.place, report).verdict == "found"


def test_a_server_that_is_stopped_during_a_recording(
    postgresql: postgres.Server, tmp_path: Path, folder: Path, key_file: Path
) -> None:
    """PostgreSQL goes down and comes back in the middle: the recording notices nothing."""
    assert postgresql  # otherwise this is skipped
    programs = postgres.programs()
    assert programs is not None
    server = postgres.Server(programs)
    try:
        server.start()
        site = postgresql_site(server, tmp_path / "audit.key")
        from engine.catalog.schema import initialize

        initialize(site.place)
        with Recorder(**named(site)) as recorder:
            recorder.start(CAMERA, **options_of(folder, key_file))
            wait_for(lambda: "start" in kinds_of(site))
            with recorder.events(CatalogBehind) as behind:
                server.stop()
                recorder.mark("while", "it is down")
                behind.read(LONG_S)
            recorder.wait_recording(LONG_S)
            with recorder.events(CatalogBack) as back:
                server.start()
                back.read(LONG_S)
            result = recorder.stop()
        assert lost_nothing(result)
        assert kinds_of(site) == ["init", "start", "seal", "stop"]
        assert site.ask("SELECT text FROM marks") == [("it is down",)]
    finally:
        server.remove()


def test_a_server_that_hangs(
    postgresql: postgres.Server, tmp_path: Path, folder: Path, key_file: Path
) -> None:
    """It takes connections and never answers: start, stop and the engine's end wait for nothing."""
    site = postgresql_site(postgresql, tmp_path / "audit.key")
    from engine.catalog.schema import initialize

    initialize(site.place)
    with Recorder(**named(site)) as recorder:
        recorder.start(CAMERA, **options_of(folder, key_file))
        wait_for(lambda: "start" in kinds_of(site))
        with postgresql.frozen(), recorder.events(CatalogBehind) as behind:
            recorder.mark("x")
            behind.read(LONG_S)
            recorder.wait_recording(LONG_S)
            result = recorder.stop()
            recorder.close()
    assert lost_nothing(result)
    assert kinds_of(site) == ["init", "start"]
    synced(site, folder, key_file)
    assert site.ask("SELECT status FROM sessions") == [("completed",)]


def test_an_engine_that_is_killed(site: Site, folder: Path, key_file: Path) -> None:
    """Its row says that it runs; the workers have sealed the file, and a sync says so."""
    recorder = Recorder(**named(site))
    recorder.open()
    recorder.start(CAMERA, **options_of(folder, key_file))
    recorder.wait_written(5, LONG_S)
    wait_for(lambda: "start" in kinds_of(site))
    assert recorder.pid is not None
    os.kill(recorder.pid, signal.SIGKILL)
    with pytest.raises(EngineDied):
        recorder.stop()
    recorder.close()
    path = folder / "x.mp4.enc"
    wait_for(path.exists)
    assert site.ask("SELECT status FROM sessions") == [("in_progress",)]
    synced(site, folder, key_file)
    assert site.ask("SELECT status, state FROM recordings") == [("completed", "sealed")]
    assert synced(site, folder, key_file).changed == []


def test_a_recording_that_ends_early_is_aborted(site: Site, folder: Path, key_file: Path) -> None:
    """A disk that takes no more ends it: the session says so, and what is left open is found."""
    with Recorder(**named(site)) as recorder:
        recorder.start(CAMERA, **options_of(folder, key_file))
        recorder.wait_written(5, LONG_S)
        resource.prlimit(encoder_of(recorder), resource.RLIMIT_FSIZE, (100_000, 100_000))
        result = recorder.wait_stopped(LONG_S)
    assert result.problem is not None
    assert site.ask("SELECT status FROM sessions") == [("aborted",)]
    before = kinds_of(site)
    synced(site, folder, key_file)
    query = "SELECT status, state, problem FROM recordings"
    assert site.ask(query) == [("aborted", result.state, result.problem.code)]
    assert kinds_of(site) == before


def test_a_start_that_is_refused_leaves_no_row(site: Site, folder: Path, key_file: Path) -> None:
    """What never began is in no catalog."""
    with Recorder(**named(site)) as recorder:
        with pytest.raises(ConfigError):
            recorder.start(CAMERA, **options_of(folder, key_file) | {"codec": "h264"}, frames=-1)
        (folder / "x.mp4.enc").write_bytes(b"taken")
        with pytest.raises(ConfigError):
            recorder.start(CAMERA, **options_of(folder, key_file), next_free_name=False)
    assert site.ask("SELECT count(*) FROM recordings") == [(0,)]


def test_record_without_a_catalog_there(folder: Path, key_file: Path, tmp_path: Path) -> None:
    """`record --catalog` of a file that is not there records all the same, and says so.

    However short the recording is.
    """
    command = command_line("record", str(folder / "r.mp4.enc"), "--size", "320x240")
    more = ["--frames", "1", "--key-file", str(key_file), "--catalog", str(tmp_path / "none")]
    done = subprocess.run([*command, *more], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert "catalog init" in done.stderr
    assert verify(folder / "r.mp4.enc", secret_from(key_file=key_file)).exit_code == 0
    assert not (tmp_path / "none").exists()


def test_a_password_of_the_database_is_seen_nowhere(
    postgresql: postgres.Server, tmp_path: Path, folder: Path, key_file: Path
) -> None:
    """It comes from a file of mode 0600; argv, environment and logs have none of it."""
    site = postgresql_site(postgresql, tmp_path / "audit.key")
    from engine.catalog.schema import initialize

    initialize(site.place)
    role = f"CREATE ROLE {postgres.WITH_PASSWORD} LOGIN SUPERUSER PASSWORD '{PASSWORD}'"
    postgresql.run_sql("postgres", f"DROP ROLE IF EXISTS {postgres.WITH_PASSWORD}", role)
    catalog_file = tmp_path / "catalog.url"
    os.close(os.open(catalog_file, os.O_CREAT, 0o600))
    user = f"{postgres.WITH_PASSWORD}:{PASSWORD}"
    catalog_file.write_text(site.options[1].replace("tests@", f"{user}@") + "\n")
    with Recorder(catalog_file=catalog_file, audit_key=tmp_path / "audit.key") as recorder:
        recorder.start(CAMERA, **options_of(folder, key_file))
        assert recorder.pid is not None
        family = [psutil.Process(recorder.pid)]
        family += family[0].children(recursive=True)
        shown = [" ".join(process.cmdline()) for process in family]
        for process in family:
            try:
                shown.append(" ".join(process.environ().values()))
            except psutil.AccessDenied:
                shown.append("")
        recorder.stop()
    assert len(family) >= 3
    assert PASSWORD not in " ".join(shown)
    assert kinds_of(site)[-1] == "stop"
    catalog_file.write_text(catalog_file.read_text().replace(PASSWORD, "x" + PASSWORD))
    said: queue.SimpleQueue[CatalogBehind] = queue.SimpleQueue()
    recorder = Recorder(catalog_file=catalog_file, audit_key=tmp_path / "audit.key")
    recorder.subscribe(said.put, CatalogBehind)
    with recorder:
        event = said.get(timeout=LONG_S)
    assert "authentication failed" in event.text
    assert PASSWORD not in event.text


def test_a_password_does_not_reach_the_engines_command_line() -> None:
    """The client refuses it before there is a process whose arguments others can read."""
    for url in (
        f"postgresql://u:{PASSWORD}@h/d",
        f"postgresql://u:a/b{PASSWORD}@h/d",
        f"postgresql://h/d?password={PASSWORD}",
    ):
        with pytest.raises(ConfigError, match="pgpass") as error:
            Recorder(catalog=url, audit_key="k")
        assert PASSWORD not in str(error.value)
    assert catalog_arguments({"catalog": "postgresql://u@h/d"}) == [
        "--catalog", "postgresql://u@h/d"
    ]  # fmt: skip
    assert catalog_arguments({"catalog": "c.sqlite"}) == ["--catalog", os.path.abspath("c.sqlite")]
