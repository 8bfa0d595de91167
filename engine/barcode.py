"""The synthetic barcode: a frame's id written into its picture, and read back after decoding.

One row of 64 square cells at the top left, side = max(2, min(16, width // 64)) px, 235 = one,
16 = zero, most significant bit first: the low 32 bits of the frame id, then their complement.
It proves that the picture behind a row of the frame table is that frame; it corrects no error.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ipc.errors import ConfigError
from ipc.frame import PixelFormat

__all__ = ["CELLS", "ID_MASK", "MIN_WIDTH_PX", "cell_side_px", "read", "stamp"]

CELLS = 64
ID_MASK = 0xFFFF_FFFF
MIN_WIDTH_PX = 128
ONE = 235
ZERO = 16
NEUTRAL_CHROMA = 128
# Between 16 and 235, and also between 30 and 218, where BGR -> YUV (BT.601, limited) moves them.
THRESHOLD = 125


def cell_side_px(width_px: int, height_px: int | None = None) -> int:
    """Side of one cell for a picture of this width.

    Raises:
        ConfigError: The picture is too narrow (under 128 px) or too low for the row of cells.
    """
    side = max(2, min(16, width_px // CELLS))
    if width_px < MIN_WIDTH_PX or (height_px is not None and height_px < side):
        raise ConfigError(
            f"A picture of {width_px}x{height_px or '?'} px cannot hold the frame barcode.",
            hint=f"Use a width of at least {MIN_WIDTH_PX} px and a height of at least {side} px.",
        )
    return side


def stamp(picture: npt.NDArray[Any], frame_id: int, pixel_format: PixelFormat) -> None:
    """Write the barcode of ``frame_id`` into the picture, in place.

    Args:
        picture: uint8 of shape ``pixel_format.shape(width, height)``; rows need not be adjacent.
        frame_id: Its low 32 bits are written.
        pixel_format: BGR and RGB get gray, Bayer every site, UYVY luma with neutral chroma.

    Raises:
        ConfigError: The picture cannot hold the barcode.
    """
    height_px, width_px = picture.shape[:2]
    side = cell_side_px(width_px, height_px)
    number = frame_id & ID_MASK
    code = (number << 32 | number ^ ID_MASK).to_bytes(8, "big")
    row = _cells_of_byte(side, pixel_format)[list(code)]
    strip = picture[:side, : CELLS * side]
    strip[:] = row.reshape(strip.shape[1:])


def read(luma: npt.NDArray[Any]) -> int | None:
    """Read the barcode from a decoded picture's luma plane.

    Args:
        luma: (height, width) uint8, of the stamped size or with an odd width padded to even.

    Returns:
        The low 32 bits of the frame id, or None if there is no whole barcode (its second half is
        not the complement of its first, or the picture cannot hold one).
    """
    height_px, width_px = luma.shape
    # 191 px have cells of 2 px, but an encoder pads them to 192 px, which would have cells of 3.
    sides = {max(2, min(16, width // CELLS)) for width in (width_px, width_px - 1)}
    for side in sorted(sides, reverse=True):
        if CELLS * side <= width_px and side <= height_px:
            number = _read_cells(luma, side)
            if number is not None:
                return number
    return None


def _read_cells(luma: npt.NDArray[Any], side: int) -> int | None:
    cells = luma[:side, : CELLS * side].reshape(side, CELLS, side)
    edge = side // 4  # a lossy encoder smears the cells' borders first
    level = cells[edge : side - edge, :, edge : side - edge].mean(axis=(0, 2))
    code = int.from_bytes(np.packbits(level > THRESHOLD).tobytes(), "big")
    number = code >> 32
    return number if number ^ ID_MASK == code & ID_MASK else None


@lru_cache(maxsize=8)
def _cells_of_byte(side: int, pixel_format: PixelFormat) -> npt.NDArray[np.uint8]:
    """One row of the eight cells of every byte value: (256, 8 * side * channels) uint8."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)
    levels = np.where(bits == 1, ONE, ZERO).astype(np.uint8).repeat(side, axis=1)
    if pixel_format is PixelFormat.YUV422:
        return np.stack([np.full_like(levels, NEUTRAL_CHROMA), levels], axis=2).reshape(256, -1)
    return levels.repeat(pixel_format.channels, axis=1)
