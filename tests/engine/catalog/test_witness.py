"""Verify with a catalog: forgeries that a file alone cannot show, by who holds no key.

Each forgery is first verified without the catalog: where that is good, only the audit can tell.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.catalog import audit
from engine.catalog.audit import Entry, note
from engine.catalog.witness import CatalogVerdict, witness
from engine.cli.app import run
from engine.container.header import HEADER_BYTES, Header
from engine.container.names import open_path
from engine.container.part import PartReader
from engine.container.payload import offset_of_chunk
from engine.container.recovery import recover
from engine.keys import add_slot, password_recipient, remove_slot
from engine.reading.verify import Fingerprint, VerifyReport, verify
from tests.engine.catalog.conftest import Site
from tests.engine.recordings import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "rec" / "day.mp4.enc")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path) -> None:
    (tmp_path / "rec").mkdir()


def on_record(site: Site, studio: Studio, path: Path, kind: str = "seal") -> None:
    """The row that the engine writes when it has closed a part, or a key was changed."""
    with PartReader.open(path, studio.secret) as part:
        found = Fingerprint.of(part)
        index = part.part_index
    row = Entry(
        kind=kind,
        recording_id=studio.recording_id,
        part=index,
        generation=found.generation,
        chunk_count=found.chunk_count,
        commitment=found.commitment,
        header_mac=found.header_mac,
    )
    note(site.place, row)


def look(
    site: Site, studio: Studio, part: int | None = None
) -> tuple[VerifyReport, CatalogVerdict]:
    report = verify(studio.base, studio.secret, part=part)
    return report, witness(site.place, report)


def checkpoint(path: Path, keep: dict[int, tuple[bytes, int]]) -> None:
    """Keep the header copies of this moment, as somebody does who copies the file."""
    raw = path.read_bytes()
    for at in (0, HEADER_BYTES):
        header = Header.parse(raw[at : at + HEADER_BYTES])
        keep[header.generation] = (raw[at : at + HEADER_BYTES], header.chunk_count)


def test_what_was_sealed_is_recognised(site: Site, studio: Studio) -> None:
    """A sealed part and its row agree; the verify itself is put on record."""
    on_record(site, studio, studio.part(0, range(16)))
    report, verdict = look(site, studio)
    assert (report.exit_code, verdict.verdict, verdict.problems) == (0, "as-sealed", ())
    assert verdict.exit_code(report.exit_code) == 0
    ((kind, recording_id, detail),) = site.ask(
        "SELECT kind, recording_id, detail FROM audit WHERE seq = 3"
    )
    assert (kind, recording_id) == ("verify", studio.recording_id.hex())
    assert json.loads(detail)["is"] == "as-sealed"


def test_an_old_header_with_a_payload_cut_to_match(site: Site, studio: Studio) -> None:
    """Cut back to a checkpoint and recovered, a file is good by itself; the audit has the seal."""
    keep: dict[int, tuple[bytes, int]] = {}

    def copy(table: Any) -> Any:
        checkpoint(open_path(studio.base), keep)
        return table

    path = studio.part(0, range(24), table=copy)
    on_record(site, studio, path)
    header, chunks = keep[max(keep)]
    raw = path.read_bytes()
    forged = 2 * header + raw[2 * HEADER_BYTES : offset_of_chunk(chunks)]
    path.unlink()
    open_path(path).write_bytes(forged)
    (report,) = recover(path, studio.secret)
    assert report.state == "recovered"
    alone, verdict = look(site, studio)
    assert alone.exit_code == 0  # the file alone cannot show it
    assert alone.frames < 24
    assert verdict.verdict == "differs"
    assert verdict.exit_code(alone.exit_code) == 4
    on_record(site, studio, path, "recovery")  # even a recovery put on record does not bless it
    assert look(site, studio)[1].verdict == "differs"


def test_a_missing_last_part(site: Site, studio: Studio) -> None:
    """Behind a recovered part nothing in the files says that another one was there."""
    studio.part(0, range(16), last=False, sealed=False)
    recover(studio.base, studio.secret)
    on_record(site, studio, studio.base, "recovery")
    last = studio.part(1, range(16, 32))
    on_record(site, studio, last)
    assert look(site, studio)[1].verdict == "as-sealed"
    last.unlink()
    alone, verdict = look(site, studio)
    assert alone.exit_code == 0
    assert alone.complete
    assert (verdict.verdict, verdict.exit_code(0)) == ("missing", 6)
    assert verdict.parts == {0: "as-sealed", 1: "missing"}
    assert look(site, studio, part=0)[1].verdict == "as-sealed"  # the other was not asked for


def test_a_missing_last_part_that_was_never_closed(site: Site, studio: Studio) -> None:
    """A part that no seal is on record of is still counted by the stop."""
    studio.part(0, range(16), last=False, sealed=False)
    recover(studio.base, studio.secret)
    on_record(site, studio, studio.base, "recovery")
    note(site.place, Entry(kind="stop", recording_id=studio.recording_id, detail={"parts": 2}))
    assert look(site, studio)[1].parts == {0: "as-sealed", 1: "missing"}


def test_an_earlier_state_of_the_keys(site: Site, studio: Studio) -> None:
    """The file from before a key was taken off brings that key back; its generation tells."""
    path = studio.part(0, range(8))
    on_record(site, studio, path)
    before = path.read_bytes()
    add_slot([path], studio.secret, password_recipient("leaked"))
    on_record(site, studio, path, "key_change")
    with_leak = path.read_bytes()
    key_id = next(s.key_id for s in Header.parse(with_leak[:4096]).slots if s.kind == 1)
    remove_slot([path], studio.secret, key_id)
    on_record(site, studio, path, "key_change")
    assert look(site, studio)[1].verdict == "as-sealed"
    for earlier in (with_leak, before):
        path.write_bytes(earlier)
        alone, verdict = look(site, studio)
        assert alone.exit_code == 0
        assert (verdict.verdict, verdict.exit_code(0)) == ("differs", 4)
        assert "earlier state" in verdict.problems[0]


def test_keys_changed_behind_the_audit(site: Site, studio: Studio) -> None:
    """A header newer than the audit knows is said to be so; the payload is the same."""
    path = studio.part(0, range(8))
    on_record(site, studio, path)
    add_slot([path], studio.secret, password_recipient("guest"))
    _, verdict = look(site, studio)
    assert (verdict.verdict, verdict.exit_code(0)) == ("changed", 6)


def test_another_recording_in_its_place(site: Site, studio: Studio, tmp_path: Path) -> None:
    """Who holds the public key can seal another video for it; the audit never heard of it."""
    on_record(site, studio, studio.part(0, range(8)))
    forged = Studio(tmp_path / "forged.mp4.enc", kek=studio.kek)
    os.replace(forged.part(0, range(8)), studio.base)
    alone, verdict = look(site, studio)
    assert alone.exit_code == 0
    assert (verdict.verdict, verdict.exit_code(0)) == ("unknown", 6)
    posing = Studio(tmp_path / "p.mp4.enc", kek=studio.kek, recording_id=studio.recording_id)
    os.replace(posing.part(0, range(8)), studio.base)
    _, verdict = look(site, studio)
    assert (verdict.verdict, verdict.exit_code(0)) == ("differs", 4)
    assert "another payload" in verdict.problems[0]


def test_a_part_that_the_audit_lacks(site: Site, studio: Studio) -> None:
    """One part as sealed and one that nobody saw is not as sealed."""
    on_record(site, studio, studio.part(0, range(16), last=False))
    studio.part(1, range(16, 32))
    assert look(site, studio)[1].parts == {0: "as-sealed", 1: "unknown"}


def test_found_by_a_sync_is_told_from_sealed(site: Site, studio: Studio) -> None:
    """What a sync found first is no witness of the seal, and does not overrule one."""
    path = studio.part(0, range(8))
    on_record(site, studio, path, "found")
    assert look(site, studio)[1].verdict == "found"
    on_record(site, studio, path)
    assert look(site, studio)[1].verdict == "as-sealed"
    add_slot([path], studio.secret, password_recipient("x"))
    on_record(site, studio, path, "found")
    assert look(site, studio)[1].verdict == "changed"


def test_a_row_that_contradicts_the_seal(site: Site, studio: Studio) -> None:
    """Neither a second seal nor a key change with another payload moves the first."""
    path = studio.part(0, range(8))
    on_record(site, studio, path)
    other = Studio(path.parent / "o.mp4.enc", kek=studio.kek, recording_id=studio.recording_id)
    forged = other.part(0, range(8))
    on_record(site, other, forged, "key_change")
    os.replace(forged, path)
    _, verdict = look(site, studio)
    assert verdict.verdict == "differs"
    assert any("contradicts" in problem for problem in verdict.problems)


def test_a_changed_audit_is_no_witness(site: Site, studio: Studio) -> None:
    """A row about the file counts only while the chain up to it holds."""
    on_record(site, studio, studio.part(0, range(8)))
    site.sql("UPDATE audit SET generation = generation + 2 WHERE seq = 2")
    alone, verdict = look(site, studio)
    assert (verdict.verdict, verdict.exit_code(alone.exit_code)) == ("differs", 4)
    assert "The audit was changed" in verdict.problems[-1]


def test_an_older_copy_of_the_catalog(site: Site, studio: Studio, tmp_path: Path) -> None:
    """Put back as it was, audit and head agree; a newer file's seal does not go with them."""
    head = audit_head(site)
    earlier = site.ask("SELECT seq, mac, head_mac FROM audit_head")[0]
    note(site.place, Entry(kind="export"))
    newer = audit_head(site)
    path = studio.part(0, range(8), seal=lambda seal: replace(seal, audit_head=newer))
    on_record(site, studio, path)
    assert look(site, studio)[1].verdict == "as-sealed"
    put_back(site, earlier)
    on_record(site, studio, path)  # even sealed into it anew
    report, verdict = look(site, studio)
    assert report.parts[0].audit_head == newer
    assert report.exit_code == 0
    assert (verdict.verdict, verdict.exit_code(0)) == ("other-audit", 6)
    assert "older copy" in verdict.problems[-1]
    other = Studio(tmp_path / "rec" / "b.mp4.enc", kek=studio.kek)
    path = other.part(0, range(8), seal=lambda seal: replace(seal, audit_head=head))
    on_record(site, other, path)
    assert look(site, other)[1].verdict == "as-sealed"


def audit_head(site: Site) -> str:
    with audit.Catalog(site.place).reading() as connection:
        return str(audit.check(connection, audit.read_key(site.place)).head)


def put_back(site: Site, head: tuple[Any, ...]) -> None:
    """Let the audit be what it was when it ended so."""
    site.sql(
        f"DELETE FROM audit WHERE seq > {head[0]}",
        f"UPDATE audit_head SET seq = {head[0]}, mac = '{head[1]}', head_mac = '{head[2]}'",
    )
    assert audit_head(site) == f"{head[0]}:{head[1]}"


@pytest.mark.parametrize("text", ["", "x", "1:zz", "-1:" + "0" * 64, "9" * 30 + ":" + "0" * 64])
def test_a_head_that_is_none(site: Site, studio: Studio, text: str) -> None:
    """A seal may say anything there; what is no head is none."""
    path = studio.part(0, range(8), seal=lambda seal: replace(seal, audit_head=text))
    on_record(site, studio, path)
    assert look(site, studio)[1].verdict == "as-sealed"


def test_the_command_says_it(
    site: Site, studio: Studio, capsys: pytest.CaptureFixture[str]
) -> None:
    """`verify --catalog` has the verdict in its JSON and in its exit code."""
    path = studio.part(0, range(8))
    command = ["verify", str(path), "--key-file", str(studio.key_file()), "--json", *site.options]
    assert run(command) == 6
    assert json.loads(capsys.readouterr().out)["catalog"]["verdict"] == "unknown"
    on_record(site, studio, path)
    assert run(command) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["catalog"] == {
        "verdict": "as-sealed",
        "parts": [{"index": 0, "verdict": "as-sealed"}],
        "problems": [],
    }
    with audit.Catalog(site.place).reading() as connection:
        assert [row.kind for row in audit.rows(connection)][-1] == "verify"


def test_a_catalog_that_is_not_there_does_not_hide_the_file(
    studio: Studio, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file's own result is shown all the same; the exit code says that something is missing."""
    path = studio.part(0, range(8))
    place = ["--catalog", str(tmp_path / "none.sqlite")]
    command = ["verify", str(path), "--key-file", str(studio.key_file()), "--json", *place]
    assert run(command) == 2
    said = json.loads(capsys.readouterr().out)
    assert (said["state"], said["catalog"]["verdict"]) == ("sealed", "unavailable")
