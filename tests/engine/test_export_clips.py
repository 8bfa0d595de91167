"""Clips that begin with exactly the picture asked for, and marks beside and in the video."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import barcode
from engine.cli.read import clip_of
from engine.container import recovery
from engine.container.boxes import TIMESCALE_HZ, iterate_boxes
from engine.container.tables import FragmentTable, Note
from engine.reading.export import Clip, export
from engine.reading.marks import Mark, as_chapters, as_json, as_webvtt
from ipc.errors import ConfigError
from tests.engine.recordings import FIRST_ID, PERIOD, Studio

HOST_PERIOD = 34  # ns between frames on the host's clock, as the studio has it


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "day.mp4.enc")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "clip.mp4"


def shown(path: Path) -> list[tuple[int | None, int]]:
    """Time and number of each picture that a player shows."""
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            number = barcode.read(frame.to_ndarray()[: frame.height])
            assert number is not None
            found.append((frame.pts, number - FIRST_ID))
        return found


@pytest.mark.parametrize(
    ("first", "last"), [(0, 40), (0, 7), (5, 17), (8, 16), (9, 10), (19, 31), (23, 40), (39, 40)]
)
def test_a_clip_shows_exactly_what_was_asked_for(
    studio: Studio, out: Path, first: int, last: int
) -> None:
    """Wherever the key frames are, and over the joint of two parts that overlap."""
    studio.part(0, range(24), sealed=False)
    recovery.recover(studio.base, studio.secret)
    studio.part(1, range(13, 40))
    report = export(studio.base, out, studio.secret, clip=Clip(first * PERIOD, last * PERIOD))
    wanted = range(first, min(last, 40))
    assert shown(out) == [((n - first) * PERIOD, n) for n in wanted]
    assert (report.frames, report.first_pts) == (len(wanted), first * PERIOD)
    assert report.duration_s == pytest.approx(len(wanted) / 30, abs=1e-6)
    with av.open(str(out)) as container:
        assert container.duration == pytest.approx(len(wanted) / 30 * 1e6, abs=2)


def test_a_clip_in_a_gap_begins_with_the_next_picture(studio: Studio, out: Path) -> None:
    """And one in which there is no picture is refused, with nothing left behind."""
    studio.part(0, [*range(10), *range(100, 117)])
    report = export(studio.base, out, studio.secret, clip=Clip(50 * PERIOD, 103 * PERIOD))
    assert shown(out) == [(n * PERIOD, 100 + n) for n in range(3)]
    assert report.first_pts == 100 * PERIOD
    out.unlink()
    with pytest.raises(ConfigError, match="no picture between"):
        export(studio.base, out, studio.secret, clip=Clip(20 * PERIOD, 90 * PERIOD))
    with pytest.raises(ConfigError, match="no picture between"):
        export(studio.base, out, studio.secret, clip=Clip(117 * PERIOD))
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("begin", "end", "clip"),
    [
        ("", "", None),
        ("12.3", "", Clip(1_107_000, None)),
        ("1:23.4", "0:01:24", Clip(7_506_000, 7_560_000)),
        ("", "0.0333334", Clip(0, 3000)),
    ],
)
def test_times_on_the_command_line(begin: str, end: str, clip: Clip | None) -> None:
    """Seconds, minutes and hours."""
    assert clip_of(begin, end) == clip


@pytest.mark.parametrize(
    "times", [("x", ""), ("1:2:3:4", ""), ("-1", ""), ("5", "5"), ("1:60:0", "")]
)
def test_times_that_are_none_are_refused(times: tuple[str, str]) -> None:
    """Before anything is opened."""
    with pytest.raises(ConfigError):
        clip_of(*times)


# --- marks ------------------------------------------------------------------------------------


def with_marks(table: FragmentTable) -> FragmentTable:
    """Marks at frames 3 and 12, each in the fragment that holds the frame; told twice."""
    rows = table.frames
    marks = [
        Note(n * HOST_PERIOD, kind, text)
        for n, kind, text in ((3, "laser_on", "5 W <tip> & more"), (12, "step", ""))
        if rows and rows[0].host_ns <= n * HOST_PERIOD <= rows[-1].host_ns
    ]
    return FragmentTable(frames=rows, lost=table.lost, marks=tuple(marks * 2))


def test_marks_are_chapters_and_files_beside(studio: Studio, out: Path) -> None:
    """At their pictures' times, each once, also where two parts hold it."""
    studio.part(0, range(24), sealed=False, table=with_marks)
    recovery.recover(studio.base, studio.secret)
    studio.part(1, range(8, 40), table=with_marks)
    report = export(studio.base, out, studio.secret)
    assert report.marks == 2
    assert report.beside == (out.with_suffix(".vtt"), out.with_suffix(".json"))
    with av.open(str(out)) as container:
        chapters = [
            (one["start"] * one["time_base"], one["metadata"]["title"])
            for one in container.chapters()
            if one["metadata"].get("title")
        ]
    assert [title for _, title in chapters] == ["Start", "laser_on: 5 W <tip> & more", "step"]
    assert [float(start) for start, _ in chapters] == pytest.approx([0, 0.1, 0.4], abs=1e-4)
    rows = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert [(row["time_s"], row["kind"], row["text"]) for row in rows] == [
        (0.1, "laser_on", "5 W <tip> & more"),
        (0.4, "step", ""),
    ]
    text = out.with_suffix(".vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\n1\n00:00:00.100 --> 00:00:00.400\nlaser_on: 5 W &lt;tip&gt;")
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (out, *report.beside))
    assert [n for _, n in shown(out)] == list(range(40))


@pytest.mark.parametrize("clip", [None, Clip(3 * PERIOD, 600 * PERIOD)])
def test_the_index_has_room_before_the_pictures(
    studio: Studio, out: Path, clip: Clip | None
) -> None:
    """Also where no two pictures are equally far apart and each has a mark of many words."""

    def marked(table: FragmentTable) -> FragmentTable:
        marks = tuple(Note(row.host_ns, "step", "word " * 200) for row in table.frames)
        return FragmentTable(frames=table.frames, lost=table.lost, marks=marks)

    studio.part(0, [n * (n + 1) // 2 for n in range(40)], table=marked)
    report = export(studio.base, out, studio.secret, clip=clip)
    assert len(shown(out)) == report.frames
    assert report.marks >= report.frames - 1
    kinds = [box.kind for box in iterate_boxes(out.read_bytes())]
    assert kinds[:3] == [b"ftyp", b"moov", b"free"]
    assert kinds[-1] == b"mdat"


def test_a_clips_marks_count_from_its_begin(studio: Studio, out: Path) -> None:
    """Those outside are left out."""
    studio.part(0, range(24), table=with_marks)
    report = export(studio.base, out, studio.secret, clip=Clip(10 * PERIOD, 20 * PERIOD))
    assert report.marks == 1
    [row] = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert row["time_s"] == pytest.approx(2 / 30, abs=1e-4)


def test_files_beside_are_not_replaced_unasked(studio: Studio, out: Path) -> None:
    """Nothing is written then; without marks they are in nobody's way."""
    studio.part(0, range(24), table=with_marks)
    out.with_suffix(".vtt").write_text("mine")
    with pytest.raises(ConfigError, match="exists already"):
        export(studio.base, out, studio.secret)
    assert [path.name for path in out.parent.iterdir()] == ["clip.vtt"]
    report = export(studio.base, out, studio.secret, marks=False)
    assert (report.marks, report.beside) == (0, ())
    export(studio.base, out, studio.secret, force=True)
    assert out.with_suffix(".vtt").read_text().startswith("WEBVTT")


@given(st.lists(st.builds(Mark, st.integers(0, 2**40), st.text(max_size=9), st.text(max_size=9))))
def test_any_marks_make_valid_files(marks: list[Mark]) -> None:
    """No text breaks a cue, ends the file or makes an overlapping chapter."""
    marks = sorted(marks, key=lambda mark: mark.pts)
    cues = as_webvtt(marks).split("\n\n")
    assert len(cues) == len(marks) + 1
    assert all(cue.count("-->") == 1 and len(cue.rstrip("\n").split("\n")) <= 3 for cue in cues[1:])
    assert len(json.loads(as_json(marks))) == len(marks)
    chapters = as_chapters(marks, TIMESCALE_HZ)
    assert all(a["start"] < a["end"] for a in chapters)
    assert all(a["end"] == b["start"] for a, b in pairwise(chapters))
