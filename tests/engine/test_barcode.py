"""The synthetic barcode: what is stamped is read, also after a lossy encoder; nothing else is."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import barcode
from ipc.errors import ConfigError
from ipc.frame import PixelFormat


def luma_of(picture: Any, pixel_format: PixelFormat) -> Any:
    """Luma plane of a picture as a decoder would show it, full range."""
    if pixel_format is PixelFormat.BGR8:
        return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    if pixel_format is PixelFormat.RGB8:
        return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return picture[..., 1] if pixel_format is PixelFormat.YUV422 else picture


@settings(deadline=None, max_examples=150)
@given(
    frame_id=st.integers(0, 2**64),
    width_px=st.integers(128, 2100),
    pixel_format=st.sampled_from(PixelFormat),
)
def test_reads_what_was_stamped(frame_id: int, width_px: int, pixel_format: PixelFormat) -> None:
    """Every id, modulo 2^32, comes back from every size and pixel format."""
    picture = np.full(pixel_format.shape(width_px, 40), 99, np.uint8)
    barcode.stamp(picture, frame_id, pixel_format)
    assert barcode.read(luma_of(picture, pixel_format)) == frame_id % 2**32


def test_layout_is_the_documented_one() -> None:
    """64 cells in one row, 235 and 16, most significant bit first, then the complement."""
    picture = np.full((30, 1920), 99, np.uint8)
    barcode.stamp(picture, 0x8000_0001, PixelFormat.MONO8)
    cells = picture[0, :1024:16].tolist()
    one, zero = 235, 16
    assert cells == [one, *[zero] * 30, one, zero, *[one] * 30, zero]
    assert (picture[:16, :1024] == picture[0, :1024]).all()
    assert (picture[16:] == 99).all()
    assert (picture[:, 1024:] == 99).all()


@pytest.mark.parametrize(
    ("width_px", "side_px"),
    [(128, 2), (191, 2), (192, 3), (640, 10), (1023, 15), (1024, 16), (1920, 16), (4096, 16)],
)
def test_cell_side_follows_the_width(width_px: int, side_px: int) -> None:
    """A cell's side is max(2, min(16, width // 64)) px."""
    assert barcode.cell_side_px(width_px) == side_px


def test_colour_pictures_get_gray_and_uyvy_gets_neutral_chroma() -> None:
    """The code carries no colour that a conversion could smear into its luma."""
    for pixel_format in (PixelFormat.BGR8, PixelFormat.RGB8):
        picture = np.full(pixel_format.shape(256, 16), 99, np.uint8)
        barcode.stamp(picture, 7, pixel_format)
        strip = picture[:4, :256]
        assert (strip == strip[..., :1]).all()
    uyvy = np.full(PixelFormat.YUV422.shape(256, 16), 99, np.uint8)
    barcode.stamp(uyvy, 7, PixelFormat.YUV422)
    assert (uyvy[:4, :256, 0] == 128).all()
    assert set(np.unique(uyvy[:4, :256, 1])) == {16, 235}


def test_stamps_into_a_window_of_a_larger_picture() -> None:
    """Rows need not lie beside each other in memory, and nothing outside is touched."""
    whole = np.full((64, 400, 3), 99, np.uint8)
    barcode.stamp(whole[10:50, 20:340], 123_456, PixelFormat.BGR8)
    assert barcode.read(whole[10:50, 20:340, 0]) == 123_456
    whole[10:15, 20:340] = 99
    assert (whole == 99).all()


@pytest.mark.parametrize(
    "codec",
    [
        ("libx264", {"preset": "ultrafast", "tune": "zerolatency", "qp": "44"}),
        ("mpeg4", {"qmin": "24", "qmax": "31"}),
    ],
    ids=lambda codec: codec[0],
)
@pytest.mark.parametrize("width_px", [128, 191, 640, 1457])
def test_survives_a_lossy_encoder(codec: tuple[str, dict[str, str]], width_px: int) -> None:
    """Ids are read from coarsely coded pictures, odd widths padded to even ones too."""
    name, options = codec
    noise = np.random.default_rng(3)
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width_px + width_px % 2, 96, "yuv420p"
    context.time_base, context.options, context.bit_rate = Fraction(1, 30), options, 50_000
    decoder: Any = None
    read = []
    packets = []
    stamped = [0, 1, 2, 0x5555_5555, 0xFFFF_FFFE, 12_345_678]
    for number, frame_id in enumerate(stamped):
        bgr = noise.integers(0, 256, (96, width_px, 3), np.uint8)
        barcode.stamp(bgr, frame_id, PixelFormat.BGR8)
        bgr = cv2.copyMakeBorder(bgr, 0, 0, 0, width_px % 2, cv2.BORDER_REPLICATE)
        planes = cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts = number
        packets += context.encode(frame)
    packets += context.encode(None)
    decoder = av.CodecContext.create("h264" if name == "libx264" else name, "r")
    decoder.extradata = context.extradata
    for packet in [*packets, None]:
        for frame in decoder.decode(packet):
            luma = frame.to_ndarray(format="yuv420p")[: frame.height, : frame.width]
            read.append(barcode.read(luma))
    assert read == stamped


@settings(deadline=None, max_examples=60)
@given(frame_id=st.integers(0, 2**32 - 1), cells=st.sets(st.integers(0, 63), min_size=1))
def test_refuses_a_damaged_code(frame_id: int, cells: set[int]) -> None:
    """A code with any cells flipped is no code, unless a bit and its complement both flipped."""
    picture = np.full((20, 640), 99, np.uint8)
    barcode.stamp(picture, frame_id, PixelFormat.MONO8)
    for cell in cells:
        picture[:10, cell * 10 : cell * 10 + 10] ^= 235 ^ 16
    pairs = {cell % 32 for cell in cells}
    whole = cells == pairs | {cell + 32 for cell in pairs}
    assert (barcode.read(picture) is not None) is whole


def test_finds_no_code_where_none_is() -> None:
    """Plain, noisy, narrow and low pictures give None."""
    noise = np.random.default_rng(5)
    assert barcode.read(np.zeros((48, 640), np.uint8)) is None
    assert barcode.read(np.full((48, 640), 255, np.uint8)) is None
    assert barcode.read(noise.integers(0, 256, (48, 640), np.uint8)) is None
    assert barcode.read(np.zeros((48, 100), np.uint8)) is None
    assert barcode.read(np.zeros((1, 640), np.uint8)) is None


@pytest.mark.parametrize(("width_px", "height_px"), [(127, 96), (1920, 15), (16, 16)])
def test_refuses_a_picture_that_cannot_hold_it(width_px: int, height_px: int) -> None:
    """The error names the size that would do."""
    picture = np.zeros((height_px, width_px), np.uint8)
    with pytest.raises(ConfigError, match=r"cannot hold the frame barcode.*at least 128 px"):
        barcode.stamp(picture, 1, PixelFormat.MONO8)


def test_only_the_middle_of_a_cell_counts() -> None:
    """Borders smeared to the opposite colour, as coarse blocks smear them, do no harm."""
    picture = np.zeros((16, 1920), np.uint8)
    barcode.stamp(picture, 0x1234_5678, PixelFormat.MONO8)
    cells = picture[:, :1024].reshape(16, 64, 16)
    smeared = cells ^ np.uint8(235 ^ 16)
    smeared[3:13, :, 3:13] = cells[3:13, :, 3:13]
    picture[:, :1024] = smeared.reshape(16, 1024)
    assert barcode.read(picture) == 0x1234_5678
