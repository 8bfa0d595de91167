"""Sealed stills: one frame without loss, under a key, while the recording goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from engine import barcode
from engine.client import Recorder, SealrecError
from engine.container.reader import RecordingReader
from engine.container.tables import FrameRow
from engine.keys import new_key_pair, secret_from
from engine.reading.verify import verify
from engine.rendering import render
from ipc.errors import ConfigError, WorkerFailed, WrongState
from ipc.ring import ObservedFrame, RingObserver

AWAIT_S = 60.0
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Still:
    """What a sealed still holds."""

    row: FrameRow
    png: bytes
    pixels: np.ndarray[Any, Any]
    session: dict[str, str]
    camera: dict[str, str]


def read_still(path: Path, key_file: Path) -> Still:
    """Open one as any recording is opened."""
    with RecordingReader.open(path, secret_from(key_file=key_file)) as reader:
        (row,) = [row for fragment in reader.fragments() for row in fragment.table.frames]
        table = reader.parts[0].session
        assert table is not None
        with av.open(reader) as container:
            (packet,) = [packet for packet in container.demux(video=0) if packet.size]
            (frame,) = packet.decode()
        return Still(
            row, bytes(packet), frame.to_ndarray(format="rgb24"), table.session, table.camera
        )


@pytest.fixture
def engine() -> Iterator[Recorder]:
    """A running engine."""
    with Recorder() as found:
        yield found


def start(engine: Recorder, folder: Path, key_file: Path, **changes: Any) -> None:
    """Start a recording whose ring holds ten seconds."""
    options: dict[str, Any] = {
        "output": folder / "x.mp4.enc",
        "source": "synthetic",
        "width": 320,
        "height": 200,
        "fps": 30.0,
        "ring_seconds": 10.0,
        "key_file": key_file,
    }
    engine.start(**{**options, **changes})
    engine.wait_recording(AWAIT_S)


def in_the_ring(engine: Recorder, seq: int) -> ObservedFrame:
    """A frame as the camera put it into the ring."""
    handle = engine._core.observe().result(AWAIT_S).handle
    observer = RingObserver.of_memory(handle)
    os.close(handle)
    frame = observer.copy(seq)
    observer.close()
    assert frame is not None
    return frame


def still_process(engine: Recorder) -> int:
    """Its process id."""
    assert engine.pid is not None
    children = psutil.Process(engine.pid).children()
    (found,) = [child.pid for child in children if "workers.still" in child.cmdline()]
    return found


@pytest.mark.parametrize("pixel_format", ["bgr8", "mono8", "bayer_rg8", "yuv422"])
def test_a_still_is_the_newest_frame_without_loss(
    engine: Recorder, tmp_path: Path, key_file: Path, pixel_format: str
) -> None:
    """Pixel by pixel as the camera gave it, with its id and times; the sample is a PNG file."""
    start(engine, tmp_path, key_file, pixel_format=pixel_format)
    path = engine.save_still(
        tmp_path / "still.mp4.enc", key_file=key_file, session={"session_id": "s1"}
    )
    still = read_still(path, key_file)
    frame = in_the_ring(engine, still.row.seq)
    assert still.png.startswith(PNG_MAGIC)
    assert np.array_equal(still.pixels, render(frame.pixels, frame.pixel_format))
    assert barcode.read(np.ascontiguousarray(still.pixels[..., 1])) == still.row.frame_id
    assert (still.row.frame_id, still.row.camera_ns) == (
        frame.stamp.frame_id,
        frame.stamp.camera_ns,
    )
    assert still.session == {"session_id": "s1"}
    assert still.camera["source"] == "synthetic"
    result = engine.stop()
    assert (result.balanced, dict(result.lost)) == (True, {})


def test_a_still_verifies_like_any_recording(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """Sealed, balanced, complete, its picture that of its row; a taken name is not taken again."""
    start(engine, tmp_path, key_file)
    paths = [engine.save_still(tmp_path / "s.mp4.enc", key_file=key_file) for _ in range(3)]
    assert [path.name for path in paths] == ["s.mp4.enc", "s-2.mp4.enc", "s-3.mp4.enc"]
    for path in paths:
        report = verify(path, secret_from(key_file=key_file), decode=True)
        assert (report.exit_code, report.state, report.frames) == (0, "sealed", 1)
        assert report.barcodes is not None
        assert report.barcodes.right == 1
    assert sorted(p.name for p in tmp_path.glob("s*")) == sorted(path.name for path in paths)
    engine.stop()


def test_nothing_of_a_still_is_in_the_clear(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """Not the PNG, nor anything of the MP4 around it; readable by its owner alone."""
    start(engine, tmp_path, key_file)
    path = engine.save_still(tmp_path / "s.mp4.enc", key_file=key_file)
    data = path.read_bytes()
    assert PNG_MAGIC[1:4] not in data
    for word in (b"IHDR", b"IDAT", b"ftyp", b"moov", b"mdat"):
        assert word not in data
    if sys.platform != "win32":
        assert path.stat().st_mode & 0o077 == 0
    engine.stop()


def test_a_password_or_a_public_key_will_do(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """As for a recording; whatever was given opens it, and nothing else does."""
    private, public = tmp_path / "a.private", tmp_path / "a.public"
    new_key_pair(private, public)
    start(engine, tmp_path, key_file)
    path = engine.save_still(tmp_path / "s.mp4.enc", password="secret", public_key=public)
    assert verify(path, secret_from(private_key=private)).exit_code == 0
    assert verify(path, secret_from(key_file=key_file)).state == "wrong-key"
    engine.stop()


def test_without_a_key_or_a_camera_there_is_no_still(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """It is refused and leaves nothing behind."""
    with pytest.raises(WrongState):
        engine.save_still(tmp_path / "s.mp4.enc", key_file=key_file)
    start(engine, tmp_path, key_file)
    with pytest.raises(ConfigError, match="key"):
        engine.save_still(tmp_path / "s.mp4.enc")
    with pytest.raises(SealrecError):
        engine.save_still(tmp_path / "s.mp4.enc", key_file=tmp_path / "none.key")
    engine.stop()
    assert not list(tmp_path.glob("s*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_still_process_costs_nothing_but_its_still(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """The call says so, the recording goes on, and the next still finds a new process."""
    start(engine, tmp_path, key_file)
    engine.save_still(tmp_path / "a.mp4.enc", key_file=key_file)
    pid = still_process(engine)
    os.kill(pid, signal.SIGSTOP)
    pending = engine._core.save_still(tmp_path / "b.mp4.enc", {"key_file": key_file})
    engine.get_status(AWAIT_S)  # by then the order is on its way
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerFailed):
        pending.result(AWAIT_S)
    path = engine.save_still(tmp_path / "c.mp4.enc", key_file=key_file)
    assert verify(path, secret_from(key_file=key_file)).exit_code == 0
    result = engine.stop()
    assert (result.balanced, dict(result.lost)) == (True, {})


def test_the_still_process_leaves_with_the_camera(
    engine: Recorder, tmp_path: Path, key_file: Path
) -> None:
    """It holds a ring's memory, so it may not stay."""
    start(engine, tmp_path, key_file)
    engine.save_still(tmp_path / "a.mp4.enc", key_file=key_file)
    process = psutil.Process(still_process(engine))
    engine.stop()
    process.wait(AWAIT_S)
