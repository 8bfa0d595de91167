"""Commands that change or copy a recording put that on record, if a catalog is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.catalog.commands import exported
from engine.catalog.witness import witness
from engine.cli.app import run
from engine.keys import new_key_file
from engine.reading.verify import verify
from ipc.errors import CatalogError, Corrupt
from tests.engine.catalog.conftest import Site
from tests.engine.recordings import Studio


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    (tmp_path / "rec").mkdir()
    return Studio(tmp_path / "rec" / "day.mp4.enc")


def last(site: Site, count: int = 1) -> Sequence[tuple[object, ...]]:
    query = "SELECT kind, part, operator, detail FROM audit ORDER BY seq DESC"
    return site.ask(query)[:count][::-1]


def test_recovery_is_on_record(site: Site, studio: Studio) -> None:
    """Every part that was closed has its row, and verify knows it again."""
    studio.part(0, range(16), last=False, sealed=False)
    studio.part(1, range(16, 32), sealed=False)
    key = str(studio.key_file())
    command = ["recover", str(studio.base), "--key-file", key, *site.options, "--operator", "MC"]
    assert run(command) == 0
    assert [row[:3] for row in last(site, 2)] == [("recovery", 0, "MC"), ("recovery", 1, "MC")]
    verdict = witness(site.place, verify(studio.base, studio.secret))
    assert verdict.parts == {0: "as-sealed", 1: "as-sealed"}
    before = len(site.ask("SELECT seq FROM audit"))
    assert run(command) == 0
    assert len(site.ask("SELECT seq FROM audit")) == before


def test_key_changes_are_on_record(site: Site, studio: Studio, tmp_path: Path) -> None:
    """Added, rotated, removed: after each the file is the one on record."""
    studio.part(0, range(16), last=False)
    studio.part(1, range(16, 32))
    key, new = studio.key_file(), tmp_path / "new.key"
    new_key_file(new)
    sync = ["catalog", "sync", str(studio.base.parent), "--key-file", str(key), *site.options]
    assert run(sync) == 0
    opened = ["--key-file", str(key), *site.options]
    first = [str(studio.base), *opened, "--new-key-file", str(new)]
    assert run(["keys", "add", *first]) == 0
    assert [row[:2] for row in last(site, 2)] == [("key_change", 0), ("key_change", 1)]
    assert "add " in str(last(site)[0][3])
    assert witness(site.place, verify(studio.base, studio.secret)).verdict == "as-sealed"
    count = len(site.ask("SELECT seq FROM audit"))
    assert run(["keys", "add", *first]) == 0  # changes nothing
    assert len(site.ask("SELECT seq FROM audit")) == count
    listed = verify(studio.base, studio.secret)
    assert listed.exit_code == 0
    assert run(["keys", "remove", str(studio.base), "test", *opened]) == 0
    assert "remove " in str(last(site)[0][3])
    command = ["verify", str(studio.base), "--key-file", str(new), *site.options]
    assert run(command) == 0
    again = tmp_path / "again.key"
    new_key_file(again)
    rotate = ["keys", "rotate", str(studio.base), "--key-file", str(new), *site.options]
    assert run([*rotate, "--new-key-file", str(again)]) == 0
    assert run(["verify", str(studio.base), "--key-file", str(again), *site.options]) == 0


def test_nothing_is_changed_that_cannot_be_put_on_record(
    site: Site, studio: Studio, tmp_path: Path
) -> None:
    """A catalog that takes no row stops the command before it has touched the file."""
    studio.part(0, range(8))
    open_part = Studio(studio.base.with_name("open.mp4.enc"), kek=studio.kek)
    open_part.part(0, range(8), sealed=False)
    before = {path: path.read_bytes() for path in studio.base.parent.iterdir()}
    key, new = str(studio.key_file().rename(tmp_path / "k")), tmp_path / "new.key"
    new_key_file(new)
    site.sql("UPDATE audit_head SET head_mac = '00'")
    opened = ["--key-file", key, *site.options]
    for command in (
        ["keys", "add", str(studio.base), *opened, "--new-key-file", str(new)],
        ["keys", "rotate", str(studio.base), *opened, "--new-key-file", str(new)],
        ["keys", "remove", str(studio.base), "test", *opened],
        ["recover", str(studio.base.parent), *opened],
    ):
        assert run(command) == CatalogError.exit_code
    assert {path: path.read_bytes() for path in studio.base.parent.iterdir()} == before


def test_an_export_is_on_record_before_it_is_made(
    site: Site, studio: Studio, tmp_path: Path
) -> None:
    """Who, from where and to where; a pipe as well as a file."""
    studio.part(0, range(8))
    out = tmp_path / "out.mp4"
    key = ["--key-file", str(studio.key_file()), *site.options, "--operator", "MC"]
    assert run(["export", str(studio.base), str(out), *key]) == 0
    ((kind, _, operator, detail),) = last(site)
    assert (kind, operator) == ("export", "MC")
    assert json.loads(str(detail)) == {"path": str(studio.base), "to": str(out)}
    script = "import sys; from engine.cli.app import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", script, "cat", str(studio.base), *key]
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0
    assert done.stdout[4:8] == b"ftyp"
    assert json.loads(str(last(site)[0][3]))["to"] == "stdout"


def test_what_is_not_on_record_is_not_exported(site: Site, studio: Studio, tmp_path: Path) -> None:
    """A catalog that takes no row, or a file that is no recording: no picture leaves."""
    studio.part(0, range(8))
    out = tmp_path / "out.mp4"
    site.sql("UPDATE audit_head SET head_mac = '00'")
    command = ["--key-file", str(studio.key_file()), *site.options]
    assert run(["export", str(studio.base), str(out), *command]) == CatalogError.exit_code
    assert not out.exists()
    with pytest.raises(Corrupt):
        exported(site.place, Path(sys.executable), "out.mp4")


def test_no_command_needs_a_catalog(studio: Studio) -> None:
    """Without the option nothing of a database is loaded."""
    path = studio.part(0, range(8))
    script = (
        "import sys; from engine.cli.app import run; code = run(sys.argv[1:]);"
        "sys.exit(code or ('sqlalchemy' in sys.modules))"
    )
    command = [sys.executable, "-c", script, "verify", str(path), "--key-file"]
    assert subprocess.run([*command, str(studio.key_file())], check=False).returncode == 0
    assert os.environ.get("PGPASSWORD") is None
