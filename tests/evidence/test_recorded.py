"""A recording by the engine itself, with its catalog, handed over."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engine.cli.app import run
from tests.processes.commands import sealrec


def test_recorded_by_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Record, hand over, check: it is the one that was sealed, and the audit tells its story."""

    def told(*words: object) -> Any:
        assert run([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    key, catalog = tmp_path / "treatment.key", ("--catalog", tmp_path / "catalog.sqlite")
    told("keys", "new", key)
    told("keys", "sign-key", tmp_path / "sign.pem")
    told("catalog", "init", *catalog)
    words = ("--session", "subject=P-17", "--session", "operator=M. Curie")
    recorded = sealrec(
        *("record", tmp_path / "day.mp4.enc", "--source", "synthetic", "--size", "320x240"),
        *("--frames", "45", "--policy", "block", "--key-file", key, *catalog, *words, "--json"),
    )
    assert recorded.code == 0, recorded.err
    made = told(
        *("evidence", tmp_path / "day.mp4.enc", tmp_path / "out.zip", "--key-file", key),
        *("--sign-key", tmp_path / "sign.pem", *catalog, "--operator", "E. Noether"),
    )
    assert made["frames"] == recorded.json["frames_written"]
    public = ("--public-key", tmp_path / "sign.pem.pub")
    assert told("evidence", "--check", tmp_path / "out.zip", *public)["signed_by_given_key"]
    with zipfile.ZipFile(tmp_path / "out.zip") as found:
        audit = json.loads(found.read("audit.json"))
        html = found.read("report.html").decode()
    assert audit["verdict"] == "as-sealed"
    assert [row["kind"] for row in audit["rows"]] == ["start", "seal", "stop", "verify", "export"]
    assert audit["rows"][-1]["operator"] == "E. Noether"
    assert "Intact and complete" in html
    assert "P-17" in html
