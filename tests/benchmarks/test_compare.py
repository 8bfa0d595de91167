"""The arithmetic of the comparison: rates, costs, ratios, the table. Nothing here is timed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.budgets import judge, load
from benchmarks.compare_report import figures, outcomes, ratios, table
from benchmarks.contenders import CELLS, Row
from benchmarks.feed import Feed, Player, build, frames_path
from benchmarks.peers import Encoding, ffmpeg_command, record_feed
from benchmarks.quality import luma, overhead, ssim
from benchmarks.watch import Look, RunFailed, cpu_s, pace, pss_bytes

SECOND = 1_000_000_000


def row(contender: str, round_: int, rate_hz: float, *, cpu_ms: float = 10.0, **more: int) -> Row:
    size = more.get("size_bytes", 1000)
    return Row("clip bgr8 h264", contender, round_, rate_hz, {"python": cpu_ms}, {}, size)


def test_pace_leaves_out_what_went_into_buffers() -> None:
    """Frames that were taken at once, into an empty ring, count neither as speed nor as cost."""
    times = np.array([1, 2, 3, *range(4, 4 + 20 * 10, 10)], np.int64) * (SECOND // 100)
    looks = [
        Look(int(times[0]), {"encoder": 0.0}),
        Look(int(times[5]), {"encoder": 2.0}),
        Look(int(times[15]), {"encoder": 2.5, "disk": 0.1}),
        Look(int(times[-1]) + SECOND, {"encoder": 9.0}),
    ]
    went = pace(times, looks, warm_up=3)
    assert went.rate_hz == pytest.approx(10)
    assert went.cpu_ms == pytest.approx({"encoder": 50.0, "disk": 10.0})


def test_pace_refuses_a_run_that_left_frames_out() -> None:
    """A contender that stopped early has no rate."""
    times = np.array([1, 2, 3, 0, 0], np.int64)
    with pytest.raises(RunFailed, match="3 of 5 frames"):
        pace(times, [], warm_up=1)


def test_pace_refuses_a_run_that_nobody_looked_at() -> None:
    """Two looks are the least that tell a cost."""
    with pytest.raises(RunFailed, match="too short"):
        pace(np.arange(1, 9, dtype=np.int64), [Look(5, {})], warm_up=1)


def test_ratios_are_taken_round_by_round() -> None:
    """A machine that is half as fast in one round changes no ratio."""
    rows = [
        row("sealrec", 0, 60),
        row("ffmpeg", 0, 40),
        row("sealrec", 1, 30),
        row("ffmpeg", 1, 20),
    ]
    found = outcomes(rows)
    assert found["clip bgr8 h264", "ffmpeg"].rate_ratio == pytest.approx(1.5)
    assert ratios(found)["clip bgr8 h264: rate over ffmpeg"] == pytest.approx(1.5)
    assert figures(found)["engine"] == {"h264_time_over_pipe": pytest.approx(1 / 1.5)}


def test_a_round_that_failed_is_left_out_of_the_ratio() -> None:
    """A contender's second round is compared with the engine's second, whoever missed the first."""
    rows = [row("ffmpeg", 0, 1), row("sealrec", 1, 60), row("ffmpeg", 1, 40), row("sealrec", 2, 9)]
    assert outcomes(rows)["clip bgr8 h264", "ffmpeg"].rate_ratio == pytest.approx(1.5)
    alone = outcomes([row("sealrec", 0, 60), row("ffmpeg", 1, 40)])
    assert alone["clip bgr8 h264", "ffmpeg"].rate_ratio is None
    assert ratios(alone) == {}


def test_a_file_of_another_size_is_marked() -> None:
    """Six per cent more bytes are another job, and the table says so."""
    rows = [row("sealrec", 0, 60), row("pyav", 0, 60, size_bytes=1060)]
    found = outcomes(rows)
    assert found["clip bgr8 h264", "pyav"].size_ratio == pytest.approx(1.06)
    cells = list(table(found).columns[6].cells)
    assert cells == ["0.00", "0.00 (106%)"]


def test_every_budget_is_a_figure_of_the_default_run() -> None:
    """A budget that nothing measures guards nothing."""
    rows = [
        Row(cell.name, contender, 0, 60.0, {"python": 9.0}, {"python": 90.0}, 1000, 0.01, 0.98)
        for cell in CELLS
        for contender in cell.contenders
    ]
    measured = figures(outcomes(rows))
    assert measured["engine"].keys() == load("compare")["engine"].keys()
    assert {finding.verdict for finding in judge(measured, load("compare"))} <= {"good", "over"}


def test_ssim_knows_equal_and_unlike_pictures() -> None:
    """One for the same picture, less with noise, little for another one."""
    chance = np.random.default_rng(1)
    picture = luma(chance.integers(0, 256, (64, 96, 3)).astype(np.uint8))
    noisy = picture + chance.normal(0, 20, picture.shape).astype(np.float32)
    assert ssim(picture, picture) == pytest.approx(1)
    assert 0.5 < ssim(picture, noisy) < 0.99
    assert ssim(picture, picture[::-1].copy()) < 0.2


def test_luma_is_limited_range() -> None:
    """Black is 16 and white 235."""
    assert luma(np.zeros((1, 1, 3), np.uint8)) == pytest.approx(16)
    assert luma(np.full((1, 1, 3), 255, np.uint8)) == pytest.approx(235, abs=0.01)


def test_a_feed_repeats_and_notes_when_frames_were_taken(tmp_path: Path) -> None:
    """The same pictures for everybody, and one time for each frame."""
    assert build(tmp_path, "synthetic", {"mono8"}, (320, 200), 3) == 3
    frames = str(frames_path(tmp_path, "synthetic", "mono8"))
    feed = Feed(frames, str(tmp_path / "clock"), 320, 200, "mono8", 3, 5)
    assert Feed.load(feed.save(tmp_path / "feed.json")) == feed
    player = Player(feed)
    assert not feed.times().any()
    assert np.array_equal(player.frame(4), player.frame(1))
    assert not np.array_equal(player.frame(0), player.frame(1))
    player.mark(0)
    player.mark_through(1, 4, since_ns=int(feed.times()[0]))
    assert (np.diff(feed.times()) >= 0).all()
    assert feed.times().all()


def test_overhead_is_what_is_no_picture(tmp_path: Path) -> None:
    """A peer's file of a feed is nearly all pictures; with as many bytes again it is half that."""
    build(tmp_path, "synthetic", set(), (320, 200), 3)
    frames = str(frames_path(tmp_path, "synthetic", "bgr8"))
    feed = Feed(frames, str(tmp_path / "clock"), 320, 200, "bgr8", 3, 24)
    feed.save(tmp_path / "feed.json")
    path = tmp_path / "peer.mp4"
    assert record_feed("pyav", path, Encoding.of("h264", (320, 200), 30.0, "bgr8"), feed) == 24
    pictures = 1 - overhead(path, None)
    assert 0.9 < pictures < 1
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(size.to_bytes(4, "big") + b"free" + bytes(size - 8))
    assert 1 - overhead(path, None) == pytest.approx(pictures / 2)


def test_ffmpeg_gets_the_engine_s_settings() -> None:
    """Whatever the engine opens libx264 with, ffmpeg is told."""
    made = Encoding.of("h264", (1920, 1200), 30.0, "bgr8")
    command = ffmpeg_command(made, ["-i", "-"], Path("out.mp4"))
    for name, value in made.tuning.options.items():
        place = command.index(f"-{name}" if name != "profile" else "-profile:v")
        assert command[place + 1] == value
    assert command[command.index("-g") + 1] == "24"
    assert command[command.index("-threads") + 1] == str(made.tuning.threads)


def test_memory_without_a_mapping(tmp_path: Path) -> None:
    """What is mapped from a named file can be left out; the rest is counted."""
    path = tmp_path / "pictures"
    np.ones(32 << 20, np.uint8).tofile(path)
    mapped = np.memmap(path, np.uint8, "r")
    assert mapped.max() == 1
    whole, without = pss_bytes(os.getpid(), ()), pss_bytes(os.getpid(), (str(path),))
    assert whole - without == pytest.approx(32 << 20, rel=0.1)
    assert cpu_s(os.getpid()) > 0
