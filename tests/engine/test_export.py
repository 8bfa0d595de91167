"""Export: the same pictures at the same times in an ordinary MP4, and nothing else left behind."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from engine import barcode
from engine.container import recovery
from engine.container.payload import offset_of_chunk
from engine.container.reader import RecordingReader
from engine.container.recipients import KeyFileSecret
from engine.container.tables import FragmentTable
from engine.reading import copying, outputs
from engine.reading.export import export
from ipc.errors import ConfigError, Corrupt, DiskError, WrongKey
from tests.engine.recordings import FIRST_ID, NOISY, PERIOD, Studio, flip, gap, picture


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path / "day.mp4.enc")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where to export to, in a directory of its own."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "day.mp4"


def _decoded(source: Any) -> list[tuple[int | None, Fraction, bytes]]:
    with av.open(source, "r", format="mp4") as container:
        return [
            (frame.pts, frame.time_base, frame.to_ndarray().tobytes())
            for frame in container.decode(video=0)
        ]


def _only_named_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system whose files all have names."""
    monkeypatch.setattr(outputs, "_without_name", lambda _folder: -1)


def _boxes(path: Path) -> list[bytes]:
    data, at, kinds = path.read_bytes(), 0, []
    while at < len(data):
        kinds.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return kinds


def test_same_pictures_same_times(studio: Studio, out: Path) -> None:
    """Every picture of the recording is in the export, bit for bit at its tick, gaps included."""
    studio.part(0, [*range(10), *range(100, 117)], lost=[gap(10, 99)])
    report = export(studio.base, out, studio.secret)
    with RecordingReader.open(studio.base, studio.secret) as recording:
        sealed = _decoded(recording)
    exported = _decoded(str(out))
    assert exported == sealed
    assert [pts for pts, _, _ in exported] == [n * PERIOD for n in [*range(10), *range(100, 117)]]
    assert {base for _, base, _ in exported} == {Fraction(1, 90_000)}
    assert (report.frames, report.repeated, report.problems, report.exit_code) == (27, 0, (), 0)
    assert report.duration_s == pytest.approx(117 / 30)
    assert report.size_bytes == out.stat().st_size


def test_pictures_are_those_that_were_recorded(studio: Studio, out: Path) -> None:
    """The export shows what the camera gave: high PSNR, and each frame's own barcode."""
    studio.part(0, range(24))
    export(studio.base, out, studio.secret)
    with av.open(str(out)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            luma = frame.to_ndarray()[: frame.height]
            assert barcode.read(luma) == FIRST_ID + n
            # Mono8 is full range, the file's luma limited: 16..235.
            wanted = 16 + picture(n).astype(float) * 219 / 255
            error = float(np.mean((luma[16:] - wanted[16:]) ** 2))
            assert 10 * np.log10(255**2 / max(error, 1e-9)) > 35


def test_index_first_no_edit_list_true_duration(studio: Studio, out: Path) -> None:
    """The index comes before the pictures, nothing shifts the time, and the duration is true."""
    studio.part(0, range(24))
    export(studio.base, out, studio.secret)
    kinds = _boxes(out)
    assert kinds.index(b"moov") < kinds.index(b"mdat")
    assert b"elst" not in out.read_bytes()
    with av.open(str(out)) as container:
        assert container.duration == 800_000
        assert container.streams.video[0].start_time == 0


def test_overlapping_parts_become_one_timeline(studio: Studio, out: Path) -> None:
    """A frame that two parts hold is exported once, and times grow strictly over the joint."""
    studio.part(0, range(20), sealed=False)
    recovery.recover(studio.base, studio.secret)
    studio.part(1, range(13, 40))
    report = export(studio.base, out, studio.secret)
    assert [pts for pts, _, _ in _decoded(str(out))] == [n * PERIOD for n in range(40)]
    assert (report.frames, report.repeated, report.state) == (40, 7, "recovered")
    assert report.exit_code == 0
    with av.open(str(out)) as container:
        for n, frame in enumerate(container.decode(video=0)):
            assert barcode.read(frame.to_ndarray()[: frame.height]) == FIRST_ID + n


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1", "mpeg4"])
def test_other_codecs(studio: Studio, out: Path, codec: str) -> None:
    """What other encoders made is copied as exactly, at zero and behind a missing beginning."""
    studio.codec = codec
    studio.part(0, range(8), last=False, size=NOISY)
    studio.part(1, range(9, 25), size=NOISY, lost=[gap(8, 8)])
    with RecordingReader.open(studio.base, studio.secret) as recording:
        sealed = _decoded(recording)
    export(studio.base, out, studio.secret)
    assert _decoded(str(out)) == sealed
    assert len(sealed) == 24
    export(studio.base, out, studio.secret, part=1, force=True)
    assert [pts for pts, _, _ in _decoded(str(out))] == [n * PERIOD for n in range(9, 25)]


def test_fragments_without_frames(studio: Studio, out: Path) -> None:
    """Table-only fragments are no pictures, and what is between them stays in place."""
    studio.part(0, range(16), idle=[FragmentTable()] * 3)
    assert export(studio.base, out, studio.secret).frames == 16
    assert [pts for pts, _, _ in _decoded(str(out))] == [n * PERIOD for n in range(16)]


def test_one_part_keeps_its_times(studio: Studio, out: Path) -> None:
    """A part alone keeps the times of the recording, to the tick."""
    studio.part(0, range(8), last=False)
    studio.part(1, range(11, 30), lost=[gap(8, 10)])
    report = export(studio.base, out, studio.secret, part=1)
    assert report.first_pts == 11 * PERIOD
    assert report.duration_s == pytest.approx(1.0)
    assert [pts for pts, _, _ in _decoded(str(out))] == [n * PERIOD for n in range(11, 30)]
    with av.open(str(out)) as container:
        assert container.streams.video[0].start_time == 11 * PERIOD


def test_parts_of_different_size_are_not_joined(studio: Studio, out: Path) -> None:
    """Parts with another picture size are refused, and the message says how to go on."""
    studio.part(0, range(8), last=False)
    studio.part(1, range(8, 16), size=(160, 96))
    with pytest.raises(ConfigError) as caught:
        export(studio.base, out, studio.secret)
    assert "--part 1" in str(caught.value)
    assert list(out.parent.iterdir()) == []
    for part, width in ((0, 128), (1, 160)):
        export(studio.base, out, studio.secret, part=part, force=True)
        with av.open(str(out)) as container:
            assert container.streams.video[0].width == width


@pytest.mark.parametrize("is_named", [False, True])
def test_owner_alone_and_nothing_else(
    studio: Studio, out: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """Only the owner may read the export, and it has no name, or a hidden one, while it grows."""
    studio.part(0, range(24))
    if is_named:
        _only_named_files(monkeypatch)
    elif sys.platform != "linux":
        pytest.skip("files without a name are Linux's")
    seen: list[tuple[str, int]] = []

    def look(_share: float) -> None:
        seen.extend((p.name, stat.S_IMODE(p.stat().st_mode)) for p in out.parent.iterdir())

    previous = os.umask(0o022)
    try:
        export(studio.base, out, studio.secret, progress=look)
    finally:
        os.umask(previous)
    assert {mode for _, mode in seen} == ({0o600} if is_named else set())
    assert len({name for name, _ in seen}) == is_named
    assert out.name not in {name for name, _ in seen}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert [p.name for p in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize("is_named", [False, True])
def test_existing_output_is_refused(
    studio: Studio, out: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """An existing file is not touched without force, and replaced with it."""
    studio.part(0, range(8))
    if is_named:
        _only_named_files(monkeypatch)
    out.write_bytes(b"precious")
    with pytest.raises(ConfigError) as caught:
        export(studio.base, out, studio.secret)
    assert "--force" in caught.value.hint
    assert out.read_bytes() == b"precious"
    export(studio.base, out, studio.secret, force=True)
    assert len(_decoded(str(out))) == 8
    assert list(out.parent.iterdir()) == [out]


def test_output_that_appears_meanwhile_is_not_replaced(studio: Studio, out: Path) -> None:
    """A file that takes the name while the export runs stays what it is."""
    studio.part(0, range(8))
    with pytest.raises(ConfigError):
        export(studio.base, out, studio.secret, progress=lambda _: out.write_bytes(b"other"))
    assert out.read_bytes() == b"other"
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_a_sealed_recording_is_never_replaced(studio: Studio) -> None:
    """Not even force exports a recording over itself."""
    studio.part(0, range(8))
    before = studio.base.read_bytes()
    with pytest.raises(ConfigError):
        export(studio.base, studio.base, studio.secret, force=True)
    assert studio.base.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes among files")
@pytest.mark.parametrize("where", ["no/such/day.mp4", "", "pipe", "x" * 300])
def test_output_that_cannot_be(studio: Studio, out: Path, where: str) -> None:
    """No directory, a directory, a pipe and an impossible name are refused in one line."""
    studio.part(0, range(8))
    os.mkfifo(out.parent / "pipe")
    with pytest.raises((ConfigError, DiskError)):
        export(studio.base, out.parent / where, studio.secret, force=True)
    assert [p.name for p in out.parent.iterdir()] == ["pipe"]


def test_damage_leaves_nothing_and_can_be_salvaged(studio: Studio, out: Path) -> None:
    """A damaged recording is not exported; on request its intact beginning is."""
    studio.part(0, range(40))
    flip(studio.base, offset_of_chunk(5))
    with pytest.raises(Corrupt) as caught:
        export(studio.base, out, studio.secret)
    assert "--salvage" in caught.value.hint
    assert list(out.parent.iterdir()) == []
    report = export(studio.base, out, studio.secret, salvage=True)
    assert (report.state, report.exit_code) == ("corrupt", 4)
    pts = [pts for pts, _, _ in _decoded(str(out))]
    assert pts == [n * PERIOD for n in range(report.frames)]
    assert 0 < report.frames < 40


def test_missing_part_is_said(studio: Studio, out: Path) -> None:
    """What is there of a recording with a missing part is exported, and exit code 6 says so."""
    parts = [studio.part(i, range(i * 8, i * 8 + 8), last=i == 2) for i in range(3)]
    parts[1].unlink()
    report = export(studio.base, out, studio.secret)
    assert (report.frames, report.exit_code) == (16, 6)
    assert any("Part 1 is missing" in problem for problem in report.problems)


def test_incomplete_part_gives_its_whole_fragments(studio: Studio, out: Path) -> None:
    """A part without its end is exported as far as it goes, with exit code 3."""
    studio.part(0, range(20), sealed=False)
    report = export(studio.base, out, studio.secret)
    assert (report.frames, report.state, report.exit_code) == (20, "incomplete", 3)


@pytest.mark.parametrize("salvage", [False, True])
def test_wrong_key(studio: Studio, out: Path, salvage: bool) -> None:
    """Another key exports nothing."""
    studio.part(0, range(8))
    with pytest.raises(WrongKey):
        export(studio.base, out, KeyFileSecret(bytes(32)), salvage=salvage)
    assert list(out.parent.iterdir()) == []


def test_nothing_to_export(studio: Studio, out: Path) -> None:
    """A recording without a picture is refused."""
    studio.part(0, [])
    with pytest.raises(ConfigError):
        export(studio.base, out, studio.secret)
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize("is_named", [False, True])
def test_interruption_leaves_nothing(
    studio: Studio, out: Path, monkeypatch: pytest.MonkeyPatch, is_named: bool
) -> None:
    """Ctrl-C during an export leaves no plaintext behind."""
    studio.part(0, range(24))
    if is_named:
        _only_named_files(monkeypatch)

    def interrupt(_share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(studio.base, out, studio.secret, progress=interrupt)
    assert list(out.parent.iterdir()) == []


def test_output_that_lost_its_end_is_refused(
    studio: Studio, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that failed unseen while FFmpeg closed the file is found before the name is given."""
    studio.part(0, range(8))
    write = copying.Copy._write

    def write_and_lose(copy: copying.Copy, path: Path, *rest: Any) -> None:
        write(copy, path, *rest)
        os.truncate(path, path.stat().st_size - 1)

    monkeypatch.setattr(copying.Copy, "_write", write_and_lose)
    with pytest.raises(DiskError):
        export(studio.base, out, studio.secret)
    assert list(out.parent.iterdir()) == []


@contextmanager
def _files_of_at_most(size_bytes: int) -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no file's size")
@pytest.mark.parametrize("missing_bytes", [1, 100, 1000, 5000])
def test_full_disk_leaves_nothing(studio: Studio, out: Path, missing_bytes: int) -> None:
    """An output that does not fit, and be it by one byte, is an error and leaves nothing."""
    studio.part(0, range(40))
    size_bytes = export(studio.base, out, studio.secret).size_bytes
    out.unlink()
    with _files_of_at_most(size_bytes - missing_bytes), pytest.raises(DiskError):
        export(studio.base, out, studio.secret)
    assert list(out.parent.iterdir()) == []
