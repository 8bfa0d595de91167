"""The review page beside a catalog: its sessions in the list, its audit asked and written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from engine import barcode
from tests.engine.recordings import FIRST_ID, Studio
from tests.processes.commands import sealrec
from tests.processes.serving import wait_until
from tests.review.client import Client
from tests.review.conftest import serving
from tests.review.treatment import FRAMES, GAP, record


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Studio]:
    """A catalog that came to know one recording."""
    folder = tmp_path_factory.mktemp("catalogued")
    (folder / "data").mkdir()
    studio = record(folder / "data" / "x.mp4.enc")
    catalog = folder / "catalog.sqlite"
    assert sealrec("catalog", "init", "--catalog", catalog).code == 0
    known = sealrec(
        *("catalog", "sync", folder / "data", "--catalog", catalog),
        *("--key-file", studio.key_file()),
    )
    assert known.code == 0, known.err
    return catalog, studio


@pytest.fixture(scope="module")
def client(catalog: tuple[Path, Studio]) -> Iterator[Client]:
    """The browser of a server that was given the catalog alone."""
    path, studio = catalog
    with serving(None, "--catalog", str(path), "--operator", "M. Curie") as server:
        client = Client(server)
        client.launch()
        key = studio.key_file().read_text()
        assert client.unlock("x.mp4.enc", "key_file", key).status == 200
        yield client


def audited(catalog: Path, kind: str) -> list[tuple[str, Any]]:
    """Operator and detail of the audit's rows of a kind."""
    connection = sqlite3.connect(catalog)
    try:
        query = "SELECT operator, detail FROM audit WHERE kind = ? ORDER BY seq"
        return [(who, json.loads(detail)) for who, detail in connection.execute(query, (kind,))]
    finally:
        connection.close()


def test_the_list_has_what_the_catalog_knows(client: Client) -> None:
    """Length and losses of a recording, before anybody gives its key."""
    [row] = client.ask("library").json["recordings"]
    assert row["facts"]["duration_s"] == FRAMES / 30
    assert (row["facts"]["frames"], row["facts"]["lost"]) == (FRAMES - len(GAP), len(GAP))


def test_the_badge_asks_the_audit(client: Client, catalog: tuple[Path, Studio]) -> None:
    """And the verification is put on record."""
    verdict = f"recordings/{client.id_of('x.mp4.enc')}/verdict"
    wait_until(lambda: client.ask(verdict).json["done"] == 1.0, "the verdict")
    found = client.ask(verdict).json
    assert found["level"] == "good"
    assert "cannot vouch for its origin" in found["sentences"][-1]
    [(operator, detail)] = audited(catalog[0], "verify")
    assert (operator, detail["is"]) == ("M. Curie", "found")


def test_a_still_is_on_record_before_it_leaves(
    client: Client, catalog: tuple[Path, Studio]
) -> None:
    """Its frame and its time; what cannot be put on record does not leave."""
    still = f"recordings/{client.id_of('x.mp4.enc')}/still"
    asked = {"pts": 90_000, "frame_id": FIRST_ID + 30}
    assert client.post(still, asked).status == 204
    [(operator, detail)] = audited(catalog[0], "export")
    assert operator == "M. Curie"
    assert detail["to"] == f"browser: still of frame {FIRST_ID + 30} at 1.000 s"
    moved = catalog[0].with_name("moved")
    catalog[0].rename(moved)
    refused = client.post(still, asked)
    moved.rename(catalog[0])
    assert refused.status == 400
    assert refused.json["code"] == "catalog"


def test_a_clip_is_on_record_and_shows_what_was_asked_for(
    client: Client, catalog: tuple[Path, Studio]
) -> None:
    """Written beside the recording for its owner alone, or not at all."""
    clip = f"recordings/{client.id_of('x.mp4.enc')}/clip"
    asked = {"from_pts": 15_000, "to_pts": 45_000}
    done = client.post(clip, asked)
    assert done.status == 200, done.json
    path = Path(done.json["path"])
    assert path.stat().st_mode & 0o777 == 0o600
    with av.open(str(path)) as container:
        pictures = [frame.to_ndarray()[: frame.height] for frame in container.decode(video=0)]
    assert [barcode.read(luma) for luma in pictures] == [FIRST_ID + n for n in range(5, 15)]
    assert done.json["frames"] == len(pictures)
    *_, (_, detail) = audited(catalog[0], "export")
    assert detail["to"] == str(path)
    assert client.post(clip, asked).json["code"] == "config"  # it is there already
    path.unlink()
    for wrong in ({"from_pts": -1, "to_pts": 5}, {"from_pts": 5}, {"from_pts": 5, "to_pts": 5}):
        assert client.post(clip, wrong).status in (400, 404)
    assert not list(path.parent.glob("*.mp4"))
