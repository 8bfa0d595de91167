"""What is in a package, on a machine that has zip, openssl, sha256sum and a browser alone."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import pypdf
import pytest

from engine import barcode
from engine.container.boxes import TIMESCALE_HZ
from engine.container.payload import offset_of_chunk
from engine.container.reader import RecordingReader
from engine.container.tables import Note
from engine.evidence import package, pdf, tables
from engine.evidence.archive import NAMES
from engine.evidence.check import check
from engine.evidence.drawing import Drawing, Rectangle, interval_plot, timeline_plot
from engine.evidence.facts import read_facts
from engine.evidence.report import Report, Section, Table, Text
from engine.key_files import read_verify_key
from engine.ledger import Ledger
from engine.reading import outputs
from engine.reading.export import Clip
from engine.reading.verify import verify
from ipc.errors import CatalogError, ConfigError, DiskError, InUse, KeyFileError, WrongKey
from ipc.frame import LossClass
from tests.engine.recordings import FIRST_ID, NOISY, PERIOD, flip, gap
from tests.evidence.kit import FRAMES, GAP, MARKS, SESSION, UTC_NS, Desk, host_ns

SHOWN = [n for n in range(FRAMES) if n not in GAP]


@pytest.fixture
def unpacked(handed_over: Desk, tmp_path: Path) -> Path:
    """The package as the standard library unpacks it."""
    with zipfile.ZipFile(handed_over.out) as found:
        assert found.testzip() is None
        found.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def text_of(desk: Desk, name: str) -> str:
    with zipfile.ZipFile(desk.out) as found:
        return found.read(name).decode("utf-8")


def data_of(desk: Desk, name: str) -> Any:
    return json.loads(text_of(desk, name))


def rows_of(desk: Desk, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text_of(desk, name))))


def shown(path: Path) -> list[tuple[int | None, int]]:
    """Time and number of each picture that a player shows."""
    with av.open(str(path)) as container:
        found = []
        for frame in container.decode(video=0):
            number = barcode.read(frame.to_ndarray()[: frame.height])
            assert number is not None
            found.append((frame.pts, number - FIRST_ID))
        return found


# --- what is in it ------------------------------------------------------------------------------


def test_all_files_are_there_and_the_owners_alone(unzip: str, handed_over: Desk) -> None:
    """The zip opens with the standard library and with unzip, and has a fixed list of files."""
    assert sys.platform == "win32" or handed_over.out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in handed_over.folder.iterdir()] == [handed_over.out.name]
    with zipfile.ZipFile(handed_over.out) as found:
        infos = found.infolist()
        assert tuple(info.filename for info in infos) == NAMES
        assert {info.compress_type for info in infos} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert (found.comment, {info.external_attr >> 16 for info in infos}) == (b"", {0o100600})
    subprocess.run([unzip, "-tq", handed_over.out], check=True, capture_output=True)


def test_the_video_and_its_frame_table(handed_over: Desk, unpacked: Path) -> None:
    """Each picture has its row: time, id, both clocks, part; a frame of two parts has one."""
    assert shown(unpacked / "video.mp4") == [(n * PERIOD, n) for n in SHOWN]
    rows = rows_of(handed_over, "frames.csv")
    assert [int(row["frame_id"]) - FIRST_ID for row in rows] == SHOWN
    for n, row in zip(SHOWN, rows, strict=True):
        assert float(row["time_in_video_s"]) == pytest.approx(n / 30, abs=1e-6)
        assert row["time_in_recording_s"] == row["time_in_video_s"]
        assert int(row["host_ns"]) == host_ns(n)
        assert int(row["camera_ns"]) == 2 * host_ns(n)
        assert (int(row["seq"]), int(row["pts_90khz"]), row["epoch"]) == (n, n * PERIOD, "0")
        assert row["part"] == ("0" if n < 24 else "1")
    assert rows[0]["utc"] == "2026-11-18T11:06:40.000000+00:00"
    assert UTC_NS // 10**9 == 1795000000


def test_the_balance_and_the_losses(handed_over: Desk) -> None:
    """Every id is in a class; the loss has its ids and its time."""
    balance = data_of(handed_over, "ledger.json")
    assert (balance["offered"], balance["balanced"], balance["problems"]) == (FRAMES, True, [])
    assert balance["totals"]["written"] == len(SHOWN)
    assert balance["totals"]["camera_gap"] == len(GAP)
    named = [
        range(row["first_id"] - FIRST_ID, row["last_id"] - FIRST_ID + 1)
        for row in balance["ranges"]
    ]
    assert sorted(n for ids in named for n in ids) == list(range(FRAMES))
    (row,) = rows_of(handed_over, "losses.csv")
    assert (row["class"], row["frames"]) == ("camera_gap", str(len(GAP)))
    assert (int(row["first_id"]), int(row["last_id"])) == (FIRST_ID + GAP[0], FIRST_ID + GAP[-1])
    assert float(row["from_s"]) == pytest.approx(GAP[0] / 30, abs=1e-3)
    assert float(row["to_s"]) == pytest.approx(GAP[-1] / 30, abs=1e-3)


def test_marks_and_events(handed_over: Desk) -> None:
    """Marks as they were set; what the recorder noted, and where there is no picture."""
    marks = data_of(handed_over, "marks.json")
    assert [(mark["kind"], mark["text"]) for mark in marks] == [mark[1:] for mark in MARKS]
    assert [round(mark["time_s"] * 30) for mark in marks] == [mark[0] for mark in MARKS]
    assert text_of(handed_over, "marks.vtt").count("-->") == 2
    events = {event["kind"]: event for event in data_of(handed_over, "events.json")}
    assert set(events) == {"overload", "no_picture"}
    assert events["overload"]["from_s"] == pytest.approx(32 / 30, abs=1e-3)
    assert events["no_picture"]["from_s"] == pytest.approx((GAP[0] - 1) / 30, abs=1e-5)
    assert events["no_picture"]["to_s"] == pytest.approx((GAP[-1] + 1) / 30, abs=1e-5)


def test_the_sealed_files_and_how_they_were_checked(handed_over: Desk) -> None:
    """Each part's SHA-256 is that of its file; the verification is that of `verify`."""
    studio = handed_over.studio
    found = data_of(handed_over, "recording.json")
    assert found["recording_id"] == studio.recording_id.hex()
    assert [part["state"] for part in found["parts"]] == ["recovered", "sealed"]
    for part in found["parts"]:
        data = (studio.base.parent / part["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == part["sha256"]
        assert (part["size_bytes"], part["session"]) == (len(data), SESSION)
    report = verify(studio.base, studio.secret)
    verified = data_of(handed_over, "verification.json")
    assert {**report.as_dict(), "parts": None} == {**verified, "parts": None}
    assert [part["path"] for part in verified["parts"]] == [p.path.name for p in report.parts]
    assert {"sealrec", "Python", "FFmpeg", "cryptography"} <= set(
        data_of(handed_over, "software.json")
    )


def test_the_audit_has_the_handing_over(handed_over: Desk) -> None:
    """It was put on record before anything left, by the operator's name, and the chain holds."""
    audit = data_of(handed_over, "audit.json")
    assert (audit["chain"]["holds"], audit["verdict"], audit["problems"]) == (True, "found", [])
    last = audit["rows"][-1]
    assert (last["kind"], last["operator"]) == ("export", "M. Curie")
    assert json.loads(last["detail"])["to"] == str(handed_over.out.absolute())
    assert {row["recording_id"] for row in audit["rows"]} == {handed_over.studio.recording_id.hex()}


@pytest.mark.usefixtures("openssl")
def test_the_commands_of_verify_txt(handed_over: Desk, unpacked: Path) -> None:
    """They run as they stand there, and find a changed file and a changed list."""
    text = (unpacked / "VERIFY.txt").read_text().replace("\\\n", " ")
    commands = [line.strip() for line in text.splitlines() if re.match(r"    (openssl|sed) ", line)]
    assert len(commands) == 3

    def run() -> list[str]:
        done = (
            subprocess.run(
                command, shell=True, cwd=unpacked, capture_output=True, text=True, check=False
            )
            for command in commands
        )
        return [ran.stdout + ran.stderr for ran in done]

    key, signature, files = run()
    (signer,) = re.findall(r"^ +([0-9a-f]{64})$", text, re.MULTILINE)
    assert key.split()[0] == signer == check(handed_over.out, None).signer
    assert "Signature Verified Successfully" in signature
    assert files.split("\n")[:-1] == [
        f"{name}: OK" for name in NAMES if not name.startswith("manifest")
    ]
    flip(unpacked / "frames.csv", 100)
    assert "frames.csv: FAILED" in run()[2]
    flip(unpacked / "manifest.json", 100)
    assert "Verified Successfully" not in run()[1]


# --- the report ---------------------------------------------------------------------------------

SAYS = (
    *("Intact, closed by recovery", "2026-11-18 11:06:40.000 UTC", "camera_gap", "1006 to 1015"),
    *("The camera skipped them", "overload", "laser_on", "sealed: closed", "recovered"),
    *("was first found", "M. Curie", "What rests on what", "manifest.sig", "cryptography"),
)


TAGS = {
    *("html", "head", "meta", "title", "style", "body", "section", "h1", "h2", "p", "div"),
    *("table", "tr", "th", "td", "figure", "figcaption", "svg", "rect", "text"),
}
ATTRIBUTES = {
    *("lang", "charset", "name", "content", "http-equiv", "class", "role", "aria-label"),
    *("x", "y", "width", "height", "viewbox", "text-anchor"),
}


class Markup(HTMLParser):
    """Which tags and attributes a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_the_html_report(handed_over: Desk) -> None:
    """It says what is in the files, loads nothing, and nothing that was typed becomes markup."""
    html = text_of(handed_over, "report.html")
    for words in SAYS:
        assert words in html, words
    assert html.count("<svg") == 2
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "2 &lt;b&gt;steps&lt;/b&gt;" in html
    seen = Markup()
    seen.feed(html)
    assert seen.tags <= TAGS
    assert seen.attributes <= ATTRIBUTES
    assert "url(" not in html
    assert "@import" not in html
    assert "\u202e" not in html
    assert "\\u{202e}" in html


def test_the_pdf_report(handed_over: Desk, unpacked: Path) -> None:
    """The same text; what the font lacks is written out."""
    reader = pypdf.PdfReader(unpacked / "report.pdf")
    text = " ".join(" ".join(page.extract_text() for page in reader.pages).split())
    for words in SAYS:
        assert words in text, words
    assert "<script>alert(1)</script>" in text
    assert "Müller \\u{202e}" in text
    assert "\\u{6cd5}" in text
    assert "/JavaScript" not in (unpacked / "report.pdf").read_text("latin-1")


def test_the_plots_show_the_gap_at_its_place(handed_over: Desk) -> None:
    """Pictures on both sides, the loss within, and the gap as a full column, to scale."""
    with RecordingReader.open(handed_over.studio.base, handed_over.studio.secret) as recording:
        facts = read_facts(recording.parts)

    def boxes(drawing: Drawing, tone: str) -> list[tuple[float, float]]:
        """Begin and end in frames."""
        found = [s for s in drawing.shapes if isinstance(s, Rectangle) and s.tone == tone]
        return [((s.x - 62) * FRAMES / 412, (s.x + s.width - 62) * FRAMES / 412) for s in found]

    timeline, intervals = timeline_plot(facts, [20 * PERIOD]), interval_plot(facts)
    one, other = boxes(timeline, "good")
    assert one == pytest.approx((0, GAP[0] - 1), abs=0.2)
    assert other == pytest.approx((GAP[-1] + 1, FRAMES), abs=0.2)
    assert boxes(timeline, "bad") == [pytest.approx((GAP[0], GAP[-1]), abs=0.2)]
    assert boxes(timeline, "mark")[0][0] == pytest.approx(20, abs=0.1)
    assert boxes(timeline, "plot")[0][0] == pytest.approx(32, abs=0.1)
    assert boxes(intervals, "bad") == [pytest.approx((GAP[0] - 1, GAP[-1] + 1), abs=0.2)]


def test_no_cell_is_a_formula(handed_over: Desk) -> None:
    """What was typed stands in no CSV, and if it did, no program would run it."""
    for name in ("frames.csv", "losses.csv"):
        for row in csv.reader(io.StringIO(text_of(handed_over, name))):
            assert not any(cell.startswith(("=", "+", "@", "\t")) for cell in row)
    for text in ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1"):
        assert tables.cell(text) == "'" + text
    assert [tables.cell(value) for value in ("a=1", -5, None, 0.5)] == ["a=1", "-5", "", "0.5"]


@pytest.mark.parametrize(
    "text",
    [
        "\u202e" * 5000,
        "\N{CJK UNIFIED IDEOGRAPH-6CD5}" * 5000,
        "<para>&amp;&#0;</para>" * 100,
        "M" * 5000,
        "\0",
    ],
)
def test_any_words_fit_the_report(empty_desk: Desk, text: str) -> None:
    """However long, in whatever script: both reports are made, and the data has all of it."""
    empty_desk.studio.part(
        0, range(8), table=lambda table: replace(table, marks=[Note(1, text, text)])
    )
    empty_desk.hand_over()
    assert data_of(empty_desk, "marks.json")[0]["text"] == text
    with zipfile.ZipFile(empty_desk.out) as found:
        assert len(pypdf.PdfReader(io.BytesIO(found.read("report.pdf"))).pages) < 8


def test_the_pdf_is_the_same_bytes_and_needs_no_other_font(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For the same report; without matplotlib's fonts Cyrillic is written out."""
    told = Report("Щука", (Section("Über", (Text("Łód, Щ"), Table(("a", "b"), (("1", ""),)))),))
    assert pdf.render(told) == pdf.render(told)
    assert "Щука" in pypdf.PdfReader(io.BytesIO(pdf.render(told))).pages[0].extract_text()
    monkeypatch.setattr(pdf, "find_spec", lambda _name: None)
    pdf._fonts.cache_clear()
    try:
        text = pypdf.PdfReader(io.BytesIO(pdf.render(told))).pages[0].extract_text()
    finally:
        pdf._fonts.cache_clear()
    assert "\\u{429}\\u{443}" in text
    assert "Łód, \\u{429}" in text


# --- other recordings ---------------------------------------------------------------------------


def test_a_clip(desk: Desk) -> None:
    """Its video, frames and marks begin at zero; the balance is the whole recording's."""
    report = desk.hand_over(clip=Clip(18 * PERIOD, 30 * PERIOD))
    assert report.frames == 12
    rows = rows_of(desk, "frames.csv")
    assert [int(row["frame_id"]) - FIRST_ID for row in rows] == list(range(18, 30))
    assert [round(float(row["time_in_video_s"]) * 30) for row in rows] == list(range(12))
    assert [round(float(row["time_in_recording_s"]) * 30) for row in rows] == list(range(18, 30))
    (mark,) = data_of(desk, "marks.json")
    assert mark["time_s"] == pytest.approx(2 / 30, abs=1e-5)
    assert data_of(desk, "ledger.json")["offered"] == FRAMES
    assert data_of(desk, "recording.json")["video"]["clip"] is True
    assert "show a clip, from 0:00:00.600 to 0:00:01.000" in text_of(desk, "report.html")


def test_without_a_catalog_it_says_so(desk: Desk) -> None:
    """And what the signature can carry alone."""
    assert desk.hand_over().exit_code == 0
    assert data_of(desk, "audit.json")["catalog"] is False
    assert "no catalog was given" in text_of(desk, "report.html")
    assert check(desk.out, read_verify_key(desk.public_key)).whole


def test_one_part(desk: Desk) -> None:
    """It is said that this is a part alone; times still count from the recording's beginning."""
    report = desk.hand_over(part=1)
    assert report.frames == FRAMES - 24
    assert [row["part"] for row in rows_of(desk, "frames.csv")] == ["1"] * report.frames
    assert rows_of(desk, "frames.csv")[0]["time_in_video_s"] == "0.8"
    assert "about part 1 of the recording alone" in text_of(desk, "report.html")


def test_not_the_recording_that_was_sealed(desk: Desk) -> None:
    """With a catalog the report says so above all, and so does the exit code."""
    from engine.catalog.place import place_of
    from engine.catalog.schema import initialize
    from engine.catalog.sync import sync

    place = place_of(str(desk.studio.base.parent / "catalog.sqlite"))
    assert place is not None
    initialize(place)
    sync(place, desk.studio.base.parent, desk.studio.secret)
    for path in desk.studio.base.parent.glob("day*.enc"):
        path.unlink()
    desk.studio.commitment = bytes(32)
    desk.studio.ledger = Ledger()
    desk.studio.record()  # the same id and keys, other bytes
    report = desk.hand_over(place=place)
    assert report.exit_code == 4
    html = text_of(desk, "report.html")
    assert '<p class="headline bad">Not what was sealed</p>' in html
    assert "THIS IS NOT WHAT WAS SEALED" in html
    assert data_of(desk, "audit.json")["verdict"] == "differs"


def test_a_damaged_recording(empty_desk: Desk) -> None:
    """The intact beginning goes in; report and exit code say what is missing."""
    empty_desk.studio.part(0, range(40), size=NOISY)
    flip(empty_desk.studio.base, offset_of_chunk(40))
    report = empty_desk.hand_over()
    assert (report.exit_code, 0 < report.frames < 40) == (4, True)
    assert len(rows_of(empty_desk, "frames.csv")) == report.frames
    html = text_of(empty_desk, "report.html")
    assert "Changed or damaged" in html
    assert "corrupt: changed or damaged; what is intact before that is here" in html
    assert "DOES NOT HOLD" in html


def test_a_recording_without_its_end(empty_desk: Desk) -> None:
    """Whole fragments go in, with exit code 3."""
    empty_desk.studio.part(0, range(20), sealed=False)
    report = empty_desk.hand_over()
    assert (report.exit_code, report.frames) == (3, 20)
    html = text_of(empty_desk, "report.html")
    assert "Intact, without its end" in html
    assert "This counts what can be read of the recording" in html
    assert "holds, up to the last whole fragment" in html


def test_a_missing_part(empty_desk: Desk) -> None:
    """It is named, with exit code 6."""
    parts = [empty_desk.studio.part(i, range(i * 8, i * 8 + 8), last=i == 2) for i in range(3)]
    parts[1].unlink()
    report = empty_desk.hand_over()
    assert (report.exit_code, report.frames) == (6, 16)
    assert "Part 1 is missing" in text_of(empty_desk, "report.html")
    assert any("Part 1 is missing" in problem for problem in report.problems)


def test_many_losses(empty_desk: Desk) -> None:
    """All are in the table; the report shows the first ones and says how many more there are."""
    lost = [gap(2 * n + 1, 2 * n + 1, LossClass.RING_FULL) for n in range(260)]
    empty_desk.studio.part(0, range(0, 522, 2), lost=lost)
    empty_desk.hand_over()
    assert len(rows_of(empty_desk, "losses.csv")) == 260
    html = text_of(empty_desk, "report.html")
    assert "60 more rows are in losses.csv." in html
    assert "The encoder was too slow" in html


# --- what is refused, and leaves nothing ----------------------------------------------------------


def nothing_left(desk: Desk) -> bool:
    return list(desk.folder.iterdir()) == []


def test_a_taken_name_is_refused(desk: Desk) -> None:
    """A package is not replaced unasked, and a sealed recording never."""
    desk.out.write_bytes(b"precious")
    with pytest.raises(ConfigError, match="exists already"):
        desk.hand_over()
    assert desk.out.read_bytes() == b"precious"
    desk.hand_over(force=True)
    assert check(desk.out, None).whole
    assert [path.name for path in desk.folder.iterdir()] == [desk.out.name]
    desk.out = desk.studio.base
    with pytest.raises(ConfigError, match="sealed recording"):
        desk.hand_over(force=True)


def test_what_opens_nothing(desk: Desk) -> None:
    """Another key, a recording without pictures, a stretch without any."""
    desk.studio.kek = bytes(32)
    with pytest.raises(WrongKey):
        desk.hand_over()
    assert nothing_left(desk)


def test_nothing_to_show(desk: Desk) -> None:
    """A stretch without a picture is refused."""
    with pytest.raises(ConfigError, match="no picture between"):
        desk.hand_over(clip=Clip(7 * PERIOD, 9 * PERIOD))
    assert nothing_left(desk)


def test_what_cannot_be_put_on_record_does_not_leave(desk: Desk) -> None:
    """Without the catalog, or the key of its audit, nothing is written."""
    from engine.catalog.place import place_of
    from engine.catalog.schema import initialize

    place = place_of(str(desk.studio.base.parent / "catalog.sqlite"))
    assert place is not None
    with pytest.raises((CatalogError, KeyFileError)):
        desk.hand_over(place=place)
    initialize(place)
    place.audit_key.unlink()
    with pytest.raises(KeyFileError):
        desk.hand_over(place=place)
    assert nothing_left(desk)


def test_a_recording_that_grows_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changed while it was read is no evidence."""
    read = package.read_facts

    def read_and_change(parts: Any) -> Any:
        os.utime(desk.studio.base, ns=(1, 1))
        return read(parts)

    monkeypatch.setattr(package, "read_facts", read_and_change)
    with pytest.raises(InUse):
        desk.hand_over()
    assert nothing_left(desk)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.85])
def test_interruption_leaves_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, is_named: bool, at: float
) -> None:
    """Ctrl-C while it verifies, copies the video or writes the zip."""
    if is_named:
        monkeypatch.setattr(outputs, "_without_name", lambda _folder: -1)

    def interrupt(share: float) -> None:
        if share >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        package.make(desk.studio.base, desk.out, desk.studio.secret, desk.order(), interrupt)
    assert nothing_left(desk)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
def test_a_full_disk_leaves_nothing(desk: Desk) -> None:
    """A package that does not fit is an error in one line.

    By some more bytes than one: digests in the PDF compress better or worse.
    """
    import resource

    size = desk.hand_over().size_bytes
    desk.out.unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 2000, hard))
    try:
        with pytest.raises(DiskError, match="cannot be written"):
            desk.hand_over()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert nothing_left(desk)


def test_a_package_of_a_size_that_cannot_be(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that leave the video no place are refused before anything is written."""
    monkeypatch.setattr(package.archive, "LARGE", 10_000)
    with pytest.raises(ConfigError, match="--from"):
        desk.hand_over()
    assert nothing_left(desk)


def test_times_are_shown_in_seconds() -> None:
    """90 kHz to microseconds, and a time that no calendar has."""
    assert tables.seconds(TIMESCALE_HZ * 3 // 2) == 1.5
    assert tables.utc_text(None) == tables.utc_text(1 << 90) == ""
