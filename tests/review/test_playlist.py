"""For players without Media Source: an HLS playlist, and what a browser calls the codecs."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest

from engine.container.reader import RecordingReader
from engine.review.codec_names import video_type
from tests.engine.recordings import Studio
from tests.review.client import Client
from tests.review.conftest import Server, Shelf
from tests.review.treatment import FRAMES, GAP


def test_the_playlist_is_the_whole_recording(server: Server, shelf: Shelf) -> None:
    """What it lists decodes part by part to every frame, and its lengths add up to the whole."""
    client = Client(server)
    client.launch()
    assert client.unlock("good.mp4.enc", "key_file", shelf.key_file.read_text()).status == 200
    at = f"recordings/{client.id_of('good.mp4.enc')}/"
    lines = client.ask(at + "playlist.m3u8").body.decode().splitlines()
    assert lines[0] == "#EXTM3U"
    assert lines[-1] == "#EXT-X-ENDLIST"
    lengths = [float(line[8:-1]) for line in lines if line.startswith("#EXTINF:")]
    assert sum(lengths) == pytest.approx(FRAMES / 30, abs=1e-3)
    assert max(lengths) <= next(int(x[22:]) for x in lines if x.startswith("#EXT-X-TARGETDURATION"))
    parts: list[list[str]] = []
    for line in lines:
        if line.startswith("#EXT-X-MAP:URI="):
            parts.append([line[16:-1]])
        elif not line.startswith("#"):
            parts[-1].append(line)
    times = set()
    for names in parts:
        stream = b"".join(client.ask(at + name).body for name in names)
        with av.open(io.BytesIO(stream)) as video:
            times |= {frame.pts for frame in video.decode(video=0)}
    assert len(parts) == 2
    assert len(times) == FRAMES - len(GAP)


@pytest.mark.parametrize(
    ("codec", "begins"),
    [
        ("libx264", "avc1.64"),
        ("libx265", "hvc1.1."),
        ("libsvtav1", "av01.0."),
        ("mpeg4", "mp4v.20"),
    ],
)
def test_codecs_have_the_names_that_browsers_know(tmp_path: Path, codec: str, begins: str) -> None:
    """Of every codec that is recorded."""
    studio = Studio(tmp_path / "x.mp4.enc", codec=codec)
    studio.part(0, range(8), size=(128, 64))
    with RecordingReader.open(studio.base, studio.secret) as video:
        found = video_type(video.parts[0].init_segment)
    assert found.codec.startswith(begins), found.codec
    assert (found.width_px, found.height_px) == (128, 64)
