"""Sync: rows follow the files, twice changes nothing, and the audit is never overruled."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import audit
from engine.catalog.facts import Began, Fact, FramesLost, PartClosed, Stopped
from engine.catalog.rows import MAX_LOSSES, store
from engine.catalog.store import Catalog
from engine.catalog.sync import SyncReport, sync
from engine.catalog.witness import witness
from engine.cli.app import run
from engine.container.names import open_path
from engine.container.part import PartReader
from engine.container.partfile import PartFile
from engine.container.recipients import KeyFileSecret
from engine.container.recovery import recover
from engine.container.tables import ClockPair, FragmentTable, Note, SealTable
from engine.reading.verify import verify
from ipc.frame import Loss, LossClass
from tests.engine.catalog.conftest import Site
from tests.engine.recordings import Studio, flip, gap

UTC_NS = 1_764_000_000_000_000_000
EVERYTHING = ("sessions", "recordings", "parts", "losses", "marks", "audit", "audit_head")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sessions").mkdir()
    return tmp_path / "sessions"


@pytest.fixture
def studio(folder: Path) -> Studio:
    return Studio(folder / "day.mp4.enc")


def marked(table: FragmentTable) -> FragmentTable:
    """A clock, and a mark one second before it."""
    at = table.frames[0].host_ns if table.frames else 0
    mark = Note(at, "laser_on", "50 W")
    return replace(table, marks=(mark,), clock=ClockPair(at + 10**9, UTC_NS + 10**9))


def everything(site: Site) -> dict[str, list[Any]]:
    return {name: sorted(map(str, site.ask(f"SELECT * FROM {name}"))) for name in EVERYTHING}


def run_sync(site: Site, folder: Path, studio: Studio) -> SyncReport:
    return sync(site.place, folder, studio.secret)


def again_changes_nothing(site: Site, folder: Path, studio: Studio) -> None:
    before = everything(site)
    report = run_sync(site, folder, studio)
    assert report.changed == []
    assert everything(site) == before


def quiet(path: Path) -> None:
    """As if nobody had written to it for a minute."""
    os.utime(path, (time.time() - 60, time.time() - 60))


def test_a_sealed_recording_is_found(site: Site, folder: Path, studio: Studio) -> None:
    """All of its rows come from the files alone."""
    studio.part(0, [*range(8), *range(11, 19)], lost=[gap(8, 9), gap(10, 10)], table=marked)
    report = run_sync(site, folder, studio)
    assert (report.recordings, report.changed) == (1, [str(studio.base)])
    assert report.problems == report.missing == []
    (row,) = site.ask(
        "SELECT status, state, frames_offered, frames_written, gaps, balanced, duration_s,"
        " size_bytes, path, losses_left_out FROM recordings"
    )
    size = studio.base.stat().st_size
    assert [row[0], row[1], int(row[2]), int(row[3]), *row[4:]] == [
        "completed", "sealed", 19, 16, 0, 1, 0.633333, size, str(studio.base), 0
    ]  # fmt: skip
    losses = site.ask('SELECT "class", first_id, last_id FROM losses')
    assert [(one, int(first), int(last)) for one, first, last in losses] == [
        ("camera_gap", 1008, 1010)
    ]
    marks = site.ask("SELECT kind, text, at FROM marks ORDER BY number")
    assert marks == [("laser_on", "50 W", audit.utc_text(UTC_NS))] * 2
    assert site.ask("SELECT kind, part FROM audit WHERE seq > 1") == [("found", 0)]
    assert site.ask("SELECT session_id, status FROM sessions") == [
        (studio.recording_id.hex(), "completed")
    ]
    again_changes_nothing(site, folder, studio)
    assert witness(site.place, verify(studio.base, studio.secret)).verdict == "found"


def test_what_two_parts_hold_is_there_once(site: Site, folder: Path, studio: Studio) -> None:
    """A dead encoder's successor wrote the same loss, gap and mark again."""
    lost = [gap(8, 9), Loss(LossClass.CAMERA_GAP, 1, None, None, 5, 9)]

    def change(table: FragmentTable) -> FragmentTable:
        return replace(table, marks=(Note(7, "laser_on", "50 W"),))

    studio.part(0, range(8), lost=lost, last=False, table=change)
    studio.part(1, range(10, 18), lost=lost, table=change)
    run_sync(site, folder, studio)
    losses = site.ask("SELECT first_id FROM losses")
    assert len(losses) == 2
    assert site.ask("SELECT number, kind FROM marks") == [(0, "laser_on")]
    assert site.ask("SELECT gaps FROM recordings") == [(1,)]
    again_changes_nothing(site, folder, studio)


def test_rows_that_say_something_else_are_put_right(
    site: Site, folder: Path, studio: Studio
) -> None:
    """Whatever was changed in the catalog, the files are the truth."""
    studio.part(0, range(16), lost=[gap(16, 16)], table=marked)
    run_sync(site, folder, studio)
    right = everything(site)
    site.sql(
        "UPDATE recordings SET frames_written = '3', synced = NULL",
        "UPDATE parts SET header_mac = 'x'",
        "DELETE FROM marks",
        "DELETE FROM losses",
    )
    assert run_sync(site, folder, studio).changed == [str(studio.base)]
    assert everything(site) == right


def facts(studio: Studio) -> list[Fact]:
    """What the engine would have said of the recording."""
    rid = studio.recording_id
    with PartReader.open(studio.base, studio.secret) as part:
        header, commitment = part.header, part.commitment
    session = {"session_id": "s1", "subject": "A", "operator": "B"}
    return [
        Began(recording_id=rid, path=studio.base, source="synthetic", session=session),
        FramesLost(recording_id=rid, losses=(gap(16, 16),)),
        PartClosed(
            recording_id=rid, part=0, path=studio.base, state="sealed",
            generation=header.generation, chunk_count=header.chunk_count, header_mac=header.mac,
            commitment=commitment, size_bytes=studio.base.stat().st_size,
            payload_bytes=header.payload_bytes,
        ),
        Stopped(
            recording_id=rid, state="sealed", frames_offered=17, frames_written=16, gaps=0,
            balanced=True, duration_s=0.533333, size_bytes=studio.base.stat().st_size, parts=1,
        ),
    ]  # fmt: skip


def write(site: Site, *told: Fact) -> None:
    with Catalog(site.place).writing() as connection:
        store(connection, audit.read_key(site.place), told)


def test_what_the_engine_told_agrees_with_the_files(
    site: Site, folder: Path, studio: Studio
) -> None:
    """A whole feed leaves a sync nothing to do but to say that it looked."""
    studio.part(0, range(16), lost=[gap(16, 16)])
    write(site, *facts(studio))
    before = everything(site)
    run_sync(site, folder, studio)
    after = everything(site)
    for name in ("parts", "losses", "marks", "audit", "sessions"):
        if name != "sessions":  # whose id is the recording's own, since this file names none
            assert after[name] == before[name], name
    again_changes_nothing(site, folder, studio)


@pytest.mark.parametrize("told", range(5))
def test_whatever_the_engine_could_still_tell(
    site: Site, folder: Path, studio: Studio, told: int
) -> None:
    """Killed after any fact, the rest comes from the files; a status that ran is ended."""
    studio.part(0, range(16), lost=[gap(16, 16)])
    write(site, *facts(studio)[:told])
    run_sync(site, folder, studio)
    assert site.ask("SELECT status, state, balanced FROM recordings") == [
        ("completed", "sealed", 1)
    ]
    assert site.ask("SELECT count(*) FROM losses") == [(1,)]
    again_changes_nothing(site, folder, studio)
    verdict = witness(site.place, verify(studio.base, studio.secret)).verdict
    assert verdict == ("as-sealed" if told >= 3 else "found")


def test_how_a_recording_ended_is_the_engines_word(
    site: Site, folder: Path, studio: Studio
) -> None:
    """A sealed file does not tell that the camera had gone; a row that says so stays."""
    studio.part(0, range(16), lost=[gap(16, 16)])
    told = facts(studio)
    assert isinstance(told[-1], Stopped)
    write(site, *told[:-1], replace(told[-1], problem="camera"))
    run_sync(site, folder, studio)
    assert site.ask("SELECT status, problem FROM recordings") == [("aborted", "camera")]


def test_an_open_part_and_its_recovery(site: Site, folder: Path, studio: Studio) -> None:
    """Incomplete while it is open, recovered afterwards; only then it goes on record."""
    studio.part(0, range(16), sealed=False)
    quiet(open_path(studio.base))
    run_sync(site, folder, studio)
    query = "SELECT status, state FROM recordings"
    assert site.ask(query) == [("aborted", "incomplete")]
    assert site.ask("SELECT kind FROM audit") == [("init",)]
    again_changes_nothing(site, folder, studio)
    recover(studio.base, studio.secret)
    run_sync(site, folder, studio)
    assert site.ask(query) == [("aborted", "recovered")]
    assert site.ask("SELECT kind FROM audit WHERE seq = 2") == [("found",)]
    again_changes_nothing(site, folder, studio)


def test_a_part_in_use_is_left_alone(site: Site, folder: Path, studio: Studio) -> None:
    """Young or locked: neither read nor written, and its row stays as it is."""
    studio.part(0, range(16), sealed=False)
    path = open_path(studio.base)
    assert run_sync(site, folder, studio).in_use == [str(studio.base)]  # just written to
    quiet(path)
    held = PartFile.take(path)
    try:
        assert run_sync(site, folder, studio).in_use == [str(studio.base)]
    finally:
        held.close()
    assert site.ask("SELECT count(*) FROM recordings") == [(0,)]
    assert run_sync(site, folder, studio).in_use == []


def test_missing_files(site: Site, folder: Path, studio: Studio, tmp_path: Path) -> None:
    """A part or a whole recording that is gone is said to be missing until it is back."""
    studio.part(0, range(16), last=False)
    last = studio.part(1, range(16, 32))
    other = Studio(folder / "other.mp4.enc", kek=studio.kek)
    other.part(0, range(8))
    run_sync(site, folder, studio)
    last.rename(tmp_path / "kept")
    other.base.rename(tmp_path / "other")
    report = run_sync(site, folder, studio)
    assert sorted(report.missing) == sorted([str(last), str(other.base)])
    states = "SELECT path, state FROM recordings ORDER BY path"
    assert site.ask(states) == [(str(studio.base), "missing"), (str(other.base), "missing")]
    again_changes_nothing(site, folder, studio)
    (tmp_path / "kept").rename(last)
    (tmp_path / "other").rename(other.base)
    assert run_sync(site, folder, studio).missing == []
    assert {state for _, state in site.ask(states)} == {"sealed"}
    assert site.ask("SELECT count(*) FROM parts WHERE state = 'missing'") == [(0,)]
    again_changes_nothing(site, folder, studio)


def test_files_elsewhere_are_not_missed(
    site: Site, folder: Path, studio: Studio, tmp_path: Path
) -> None:
    """Only what belongs below the directory can be missing there."""
    studio.part(0, range(8))
    run_sync(site, folder, studio)
    (tmp_path / "sessions-2").mkdir()
    shutil.move(studio.base, tmp_path / "x")
    assert run_sync(site, tmp_path / "sessions-2", studio).missing == []
    assert run_sync(site, folder, studio).missing == [str(studio.base)]


def test_a_moved_recording_and_a_copy(site: Site, folder: Path, studio: Studio) -> None:
    """Rows follow a file that was moved; of two copies the first counts and the other is named."""
    studio.part(0, range(8))
    run_sync(site, folder, studio)
    moved = folder / "archive" / "a.mp4.enc"
    moved.parent.mkdir()
    studio.base.rename(moved)
    assert run_sync(site, folder, studio).missing == []
    assert site.ask("SELECT path FROM recordings") == [(str(moved),)]
    assert site.ask("SELECT path FROM parts") == [(str(moved),)]
    shutil.copy(moved, moved.with_name("b.mp4.enc"))
    assert "copy" in run_sync(site, folder, studio).problems[0]
    assert site.ask("SELECT path FROM recordings") == [(str(moved),)]


def test_what_cannot_be_read_is_named(site: Site, folder: Path, studio: Studio) -> None:
    """A damaged file and a foreign key end nothing; other recordings are read."""
    studio.part(0, range(8))
    bad = Studio(folder / "bad.mp4.enc", kek=studio.kek)
    flip(bad.part(0, range(8)), -1)
    foreign = Studio(folder / "foreign.mp4.enc")
    foreign.part(0, range(8))
    (folder / "notes.mp4.enc").write_bytes(b"no recording")
    (folder / "link.mp4.enc").symlink_to(studio.base)
    report = run_sync(site, folder, studio)
    assert report.recordings == 1
    assert report.unopened == [str(foreign.base)]
    assert len(report.problems) == 1
    assert "bad.mp4.enc" in report.problems[0]
    again_changes_nothing(site, folder, studio)


def test_the_audit_is_not_overruled(site: Site, folder: Path, studio: Studio) -> None:
    """A file that is not what was sealed is a problem, however often it is looked at."""
    studio.part(0, range(16), lost=[gap(16, 16)])
    write(site, *facts(studio))
    forged = Studio(folder / "f.mp4.enc", kek=studio.kek, recording_id=studio.recording_id)
    os.replace(forged.part(0, range(16)), studio.base)
    for _ in range(2):
        (problem,) = run_sync(site, folder, studio).problems
        assert "another payload" in problem
    assert site.ask("SELECT count(*) FROM audit WHERE kind = 'found'") == [(0,)]
    assert witness(site.place, verify(studio.base, studio.secret)).verdict == "differs"


def test_many_losses(site: Site, folder: Path, studio: Studio) -> None:
    """More than a catalog lists: as many as it takes, and a count of the rest."""
    lost = [Loss(LossClass.RING_FULL, 9, n, n, n, n) for n in range(0, 2 * MAX_LOSSES + 6, 2)]
    studio.part(0, range(8), lost=lost)
    run_sync(site, folder, studio)
    assert site.ask("SELECT count(*) FROM losses") == [(MAX_LOSSES,)]
    assert site.ask("SELECT losses_left_out FROM recordings") == [(3,)]
    again_changes_nothing(site, folder, studio)


@pytest.mark.parametrize("text", ["a\0b", "🙂\u202e" * 3000, "'; DELETE FROM audit; --"])
def test_hostile_tables(site: Site, folder: Path, studio: Studio, text: str) -> None:
    """Texts and numbers of a file, as far as its format goes, are stored and stay the same."""
    top = 2**64 - 1

    def change(table: FragmentTable) -> FragmentTable:
        odd = Loss(LossClass.RING_FULL, top, top, top, -(2**63), top)
        marks = (Note(top, text, text), Note(-(2**63), "", ""))
        return replace(table, marks=marks, lost=(odd,), clock=ClockPair(-(2**63), top))

    studio.part(0, range(8), table=change)
    run_sync(site, folder, studio)
    assert site.ask("SELECT count(*) FROM marks") == [(2,)]
    assert int(site.ask("SELECT first_id FROM losses")[0][0]) == top
    again_changes_nothing(site, folder, studio)


def test_totals_of_a_forged_seal_do_not_count(site: Site, folder: Path, studio: Studio) -> None:
    """Frames are counted from the tables; what a seal claims is not believed."""

    def lie(seal: SealTable) -> SealTable:
        return replace(seal, recording={"written": 10**6})

    studio.part(0, range(8), seal=lie)
    run_sync(site, folder, studio)
    assert int(site.ask("SELECT frames_written FROM recordings")[0][0]) == 8


def test_the_command(
    site: Site, folder: Path, studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    """`catalog sync`, `sessions` and `audit --verify` on what it found."""
    studio.part(0, range(8))
    key = studio.key_file().rename(folder.parent / "k")
    command = ["catalog", "sync", str(folder), "--key-file", str(key), *site.options, "--json"]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["recordings"] == 1
    assert run(["sessions", *site.options, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["video_path"], row["status"]) == (str(studio.base), "completed")
    for options, count in [
        (["--status", "completed"], 1), (["--status", "aborted"], 0), (["--subject", "x"], 0),
        (["--since", "2023-11-14"], 1), (["--since", "2023-11-15"], 0),
        (["--until", "2023-11-14"], 1), (["--until", "2023-11-13"], 0),
        (["--until", "2023-11-14T22:13"], 0), (["--since", "2023-11-15T01:13:20+03:00"], 1),
    ]:  # fmt: skip
        assert run(["sessions", *site.options, "--json", *options]) == 0
        assert len(json.loads(capsys.readouterr().out)) == count, options
    assert run(["sessions", *site.options, "--status", "done"]) == 2
    assert run(["sessions", *site.options, "--since", "yesterday"]) == 2
    studio.base.unlink()
    capsys.readouterr()
    assert run(command) == 6
    assert json.loads(capsys.readouterr().out)["missing"] == [str(studio.base)]
    assert run(["audit", *site.options, "--verify"]) == 0
    said = capsys.readouterr().err
    head = said.rpartition("head ")[2].strip().replace("\n", "")
    assert run(["audit", *site.options, "--head", head]) == 0
    site.sql("UPDATE audit SET detail = '{}' WHERE seq = 2")
    assert run(["audit", *site.options, "--verify", "--json"]) == 4
    capsys.readouterr()
    assert run(["audit", *site.options, "--verify", "--json"]) == 4
    assert json.loads(capsys.readouterr().out)["verified"]["first_bad"] == 2


def test_a_foreign_secret_opens_nothing(site: Site, folder: Path, studio: Studio) -> None:
    """With the wrong key there is nothing to say, and nothing is said to be missing."""
    studio.part(0, range(8))
    run_sync(site, folder, studio)
    report = sync(site.place, folder, KeyFileSecret(bytes(32)))
    assert (report.unopened, report.missing, report.changed) == ([str(studio.base)], [], [])
