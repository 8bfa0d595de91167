"""What a user gets: whole recordings by real processes, read back by other commands."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from engine import barcode
from engine.container.reader import RecordingReader
from engine.keys import secret_from
from ipc.frame import PixelFormat
from tests.processes.commands import sealrec
from workers.sources.picture import chart_patches

CLIP = Path(__file__).parents[1] / "data" / "bigbuckbunny.mp4"
CLIP_FRAMES = 132
CLIP_FPS = 25
PSNR_FLOOR_DB = 38.0
COLOUR_TOLERANCE = 14  # levels; chroma subsampling and compression of saturated colours


def test_demo_loses_nothing(tmp_path: Path) -> None:
    """The demo offers 300 frames in ten seconds, writes 300, and their barcodes are in order."""
    ran = sealrec("demo", "--seconds", "10", "--size", "640x400", "--out", tmp_path / "d", "--json")
    assert ran.code == 0, ran.err
    result = ran.json
    assert (result["frames_offered"], result["frames_written"]) == (300, 300)
    assert result["balanced"]
    assert result["state"] == "sealed"
    key = ("--key-file", result["key_file"])
    verified = sealrec("verify", result["parts"][0], *key, "--decode", "--json")
    assert verified.code == 0, verified.out
    assert verified.json["frames"] == 300
    assert verified.json["barcodes"] == {"checked": 300, "right": 300}


def test_clip_survives(tmp_path: Path, key_file: Path) -> None:
    """A clip recorded with the blocking policy keeps every frame, its duration and its picture."""
    out, plain = tmp_path / "clip.mp4.enc", tmp_path / "clip.mp4"
    options = ("--source", f"file:{CLIP}", "--policy", "block", "--key-file", key_file, "--json")
    ran = sealrec("record", out, *options)
    assert ran.code == 0, ran.err
    assert ran.json["frames_written"] == ran.json["frames_offered"] == CLIP_FRAMES
    assert abs(ran.json["duration_s"] - CLIP_FRAMES / CLIP_FPS) <= 1 / CLIP_FPS
    exported = sealrec("export", out, plain, "--key-file", key_file)
    assert exported.code == 0, exported.err
    assert _psnr(CLIP, plain) > PSNR_FLOOR_DB


def _psnr(expected: Path, found: Path) -> float:
    """Peak signal-to-noise ratio over all frames and all three colours, in dB."""
    total, samples, frames = 0.0, 0, 0
    with av.open(str(expected)) as a, av.open(str(found)) as b:
        for x, y in zip(a.decode(video=0), b.decode(video=0), strict=True):
            left = x.to_ndarray(format="rgb24").astype(np.int32)
            right = y.to_ndarray(format="rgb24").astype(np.int32)
            total += float(((left - right) ** 2).sum())
            samples += left.size
            frames += 1
    assert frames == CLIP_FRAMES
    return float(10 * np.log10(255**2 / (total / samples)))


def test_too_fast_for_the_machine(tmp_path: Path, key_file: Path) -> None:
    """At 240 fps every lost frame is named, and the decoded barcodes are the table's ids."""
    out = tmp_path / "fast.mp4.enc"
    options = ("--fps", "240", "--seconds", "3", "--size", "1920x1200", "--ring-seconds", "0.2")
    ran = sealrec("record", out, *options, "--key-file", key_file, "--json")
    assert ran.code == 0, ran.err
    result = ran.json
    assert result["frames_offered"] == 720
    assert sum(result["lost"].values()) > 0, "this machine is faster than the test"
    assert result["frames_written"] + sum(result["lost"].values()) == 720
    assert result["balanced"]
    verified = sealrec("verify", out, "--key-file", key_file, "--decode", "--json")
    assert verified.code == 0, verified.out
    assert verified.json["lost"] == result["lost"]
    written = result["frames_written"]
    assert verified.json["barcodes"] == {"checked": written, "right": written}
    # The same once more without our verify: decode, read, compare with the tables.
    with RecordingReader.open(out, secret_from(key_file=key_file)) as reader:
        ids = [row.frame_id for fragment in reader.fragments() for row in fragment.table.frames]
        pictures = av.open(reader).decode(video=0)
        assert [barcode.read(p.to_ndarray(format="gray")) for p in pictures] == ids


@pytest.mark.parametrize("pixel_format", ["bgr8", "rgb8", "bayer_rg8", "mono8", "yuv422"])
def test_colours_are_right(tmp_path: Path, key_file: Path, pixel_format: str) -> None:
    """A chart of known colours comes back in them, in every pixel format of the ring."""
    out = tmp_path / "chart.mp4.enc"
    options = ("--source", "synthetic:chart", "--size", "640x480", "--frames", "4", "--policy")
    options += ("block", "--pixel-format", pixel_format, "--key-file", str(key_file), "--json")
    ran = sealrec("record", out, *options)
    assert ran.code == 0, ran.err
    with RecordingReader.open(out, secret_from(key_file=key_file)) as reader:
        frame = next(av.open(reader).decode(video=0))
        picture = frame.to_ndarray(format="bgr24").astype(int)
    for patch in chart_patches(640, 480):
        expected = np.array(patch.bgr)
        if pixel_format == PixelFormat.MONO8:
            expected = np.full(3, round(float(expected @ (0.114, 0.587, 0.299))))
        found = picture[patch.rows, patch.columns].reshape(-1, 3).mean(axis=0)
        assert np.abs(found - expected).max() < COLOUR_TOLERANCE, (patch.bgr, found)


@pytest.mark.parametrize("codec", ["hevc", "av1", "mpeg4"])
def test_other_codecs(tmp_path: Path, key_file: Path, codec: str) -> None:
    """Every codec records, balances and decodes to the frames that went in."""
    out = tmp_path / "codec.mp4.enc"
    options = ("--codec", codec, "--hardware", "off", "--size", "640x400", "--frames", "45")
    ran = sealrec("record", out, *options, "--policy", "block", "--key-file", key_file, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["frames_written"] == 45
    verified = sealrec("verify", out, "--key-file", key_file, "--decode", "--json")
    assert verified.code == 0, verified.out
    assert verified.json["barcodes"] == {"checked": 45, "right": 45}


def test_several_keys_open_one_recording(tmp_path: Path, key_file: Path) -> None:
    """A key file, a password and a private key each open what was recorded for all three."""
    password = tmp_path / "password"
    password.write_text("correct horse\n")
    password.chmod(0o600)
    private, public = tmp_path / "p.pem", tmp_path / "p.pub"
    assert sealrec("keys", "pair", private, public).code == 0
    out = tmp_path / "keys.mp4.enc"
    recipients = ("--key-file", key_file, "--password-file", password, "--public-key", public)
    ran = sealrec("record", out, "--frames", "5", "--size", "320x240", *recipients, "--json")
    assert ran.code == 0, ran.err
    for secret in (
        ("--key-file", key_file),
        ("--password-file", password),
        ("--private-key", private),
    ):
        assert sealrec("verify", out, *secret).code == 0


def test_doctor_judges(tmp_path: Path, key_file: Path) -> None:
    """Doctor says go for what this machine can do and no-go for what no machine can."""
    small = ("--size", "320x240", "--fps", "10", "--minutes", "1", "--allow-swap")
    ran = sealrec("doctor", tmp_path, *small, "--key-file", key_file, "--json")
    assert ran.code == 0, ran.out
    assert ran.json["go"]
    assert ran.json["checks"]["recording"]["encoder"] == "libx264"
    impossible = ("--size", "1920x1200", "--fps", "2000", "--ring-seconds", "600")
    ran = sealrec("doctor", tmp_path, *impossible, "--allow-swap", "--json")
    assert ran.code == 1
    assert ran.json["checks"]["memory"]["verdict"] == "fail"
    assert ran.json["checks"]["recording"]["verdict"] == "fail"
    assert [path.name for path in tmp_path.iterdir()] == [key_file.name]


def test_playback_needs_no_plain_file(tmp_path: Path, key_file: Path) -> None:
    """A decoder reads the sealed file through the reader; nothing else is written."""
    out = tmp_path / "cat.mp4.enc"
    ran = sealrec("record", out, "--frames", "30", "--size", "320x240", "--key-file", key_file)
    assert ran.code == 0, ran.err
    before = set(tmp_path.iterdir())
    with RecordingReader.open(out, secret_from(key_file=key_file)) as reader, av.open(reader) as v:
        assert len(list(v.decode(video=0))) == 30
    assert set(tmp_path.iterdir()) == before
