"""The synthetic picture: pre-rendered canvases with sensor noise, a window that moves, a chart.

Rendering happens once, when the source opens; a frame then costs a strided copy of a window into
the caller's memory. The canvases show the same scene, each with noise of its own, and are used in
turn, so that the noise of a frame tells an encoder nothing about the next one's.
Colour values are BT.601; UYVY is limited range (16..235), as everywhere in sealrec.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ipc.frame import PixelFormat
from workers.sources.source import Pixels

__all__ = ["Patch", "Scenery", "chart_patches", "from_bgr", "render_chart", "render_scenery"]

Light = npt.NDArray[np.float32]

CANVASES = 8
MIN_CANVASES = 4
CANVAS_BYTES = 96 * 2**20  # all canvases together, as long as MIN_CANVASES fit
MARGIN_PX = 64
WINDOW_PERIOD = 251  # frames; both prime, so that the path repeats after an hour at 30 Hz
WINDOW_PERIOD_Y = 433
OBJECT_PERIOD = 397
OBJECT_PERIOD_Y = 541

# Variance of the sensor in squared levels: read noise, and shot noise per level of light.
READ_VARIANCE = 1.0
SHOT_VARIANCE = 0.045
# Interpolating the missing colours averages neighbours; a colour picture gets this much more.
COLOUR_NOISE_GAIN = 1.6

# Positions of R, G, G, B in the 2x2 mosaic as (row, column, BGR channel).
MOSAIC: dict[PixelFormat, str] = {
    PixelFormat.BAYER_RG8: "RGGB",
    PixelFormat.BAYER_GR8: "GRBG",
    PixelFormat.BAYER_GB8: "GBRG",
    PixelFormat.BAYER_BG8: "BGGR",
}

CHART_COLUMNS = 6
CHART_ROWS = 4
# BGR; no two neighbours alike in brightness, no channel at its very end except in the primaries.
CHART_BGR: tuple[tuple[int, int, int], ...] = (
    (0, 0, 255), (255, 255, 0), (0, 255, 0), (255, 0, 255), (255, 0, 0), (0, 255, 255),
    (64, 80, 115), (130, 150, 195), (157, 122, 98), (67, 108, 87), (177, 128, 133), (170, 189, 103),
    (40, 110, 220), (170, 90, 80), (99, 84, 193), (108, 60, 94), (64, 188, 157), (46, 163, 224),
    (240, 240, 240), (200, 200, 200), (160, 160, 160), (120, 120, 120), (80, 80, 80), (40, 40, 40),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Patch:
    """One colour of the chart.

    Attributes:
        bgr: Its colour, 0..255 each.
        rows: Rows of its inner part, away from its borders and from the barcode.
        columns: Columns of its inner part.
    """

    bgr: tuple[int, int, int]
    rows: slice
    columns: slice


@dataclass(frozen=True, slots=True)
class Scenery:
    """Everything needed to draw any frame of the moving scene.

    Attributes:
        canvases: Same scene, different noise; larger than the frame by the margin.
        objects: What moves over the scene, one for each canvas.
        step_px: Offsets are multiples of this (2 keeps the phase of a mosaic or of UYVY).
    """

    canvases: tuple[Pixels, ...]
    objects: tuple[Pixels, ...]
    step_px: int

    @property
    def size_bytes(self) -> int:
        """Memory held."""
        return sum(picture.nbytes for picture in (*self.canvases, *self.objects))

    def draw(self, frame: Pixels, number: int) -> None:
        """Draw frame ``number``: one copy of a window and one of the object.

        Args:
            frame: Writable, C-contiguous, of the size and format that was rendered.
            number: Any frame number; the same one gives the same picture.
        """
        turn = number % len(self.canvases)
        height_px, width_px = frame.shape[:2]
        top = self._swing(number, WINDOW_PERIOD_Y, MARGIN_PX)
        left = self._swing(number, WINDOW_PERIOD, MARGIN_PX)
        window = self.canvases[turn][top : top + height_px, left : left + width_px]
        # Row by row; OpenCV takes 1.05 times a memcpy where numpy takes 1.35 (1920x1200 mono).
        cv2.copyTo(window, None, frame)
        thing = self.objects[turn]
        top = self._swing(number, OBJECT_PERIOD_Y, height_px - thing.shape[0])
        left = self._swing(number, OBJECT_PERIOD, width_px - thing.shape[1])
        frame[top : top + thing.shape[0], left : left + thing.shape[1]] = thing

    def _swing(self, number: int, period: int, reach_px: int) -> int:
        position = (1 + math.sin(2 * math.pi * number / period)) / 2 * reach_px
        return int(position) // self.step_px * self.step_px


def render_scenery(width_px: int, height_px: int, pixel_format: PixelFormat, seed: int) -> Scenery:
    """Render the canvases for frames of this size; the same seed gives the same bytes.

    Memory: 8 canvases of (width + 64) x (height + 64) pixels, 60 MB for 1920x1200 BGR8 and 20 MB
    for Bayer or mono; fewer, but at least 4, where 8 would need more than 96 MB.
    """
    chance = np.random.default_rng(seed)
    width, height = _even(width_px + MARGIN_PX), _even(height_px + MARGIN_PX)
    room = CANVAS_BYTES // pixel_format.size_bytes(width, height)
    turns = range(max(MIN_CANVASES, min(CANVASES, room)))
    scene = _seen_by_sensor(_render_scene(height, width, chance), pixel_format)
    thing = _render_object(_even(height_px // 5), _even(width_px // 8), chance)
    thing = _seen_by_sensor(thing, pixel_format)
    return Scenery(
        canvases=tuple(_expose(scene, pixel_format, chance) for _ in turns),
        objects=tuple(_expose(thing, pixel_format, chance) for _ in turns),
        step_px=1 if pixel_format in _ANY_OFFSET else 2,
    )


def chart_patches(width_px: int, height_px: int) -> tuple[Patch, ...]:
    """The patches of the chart: their colours, and where each can be measured."""
    patches = []
    for place, bgr in enumerate(CHART_BGR):
        row, column = divmod(place, CHART_COLUMNS)
        rows = _inner(row, CHART_ROWS, height_px)
        columns = _inner(column, CHART_COLUMNS, width_px)
        patches.append(Patch(bgr=bgr, rows=rows, columns=columns))
    return tuple(patches)


def render_chart(width_px: int, height_px: int, pixel_format: PixelFormat) -> Pixels:
    """Render the chart without noise: every patch has exactly its colour."""
    chart = np.empty((height_px, width_px, 3), np.uint8)
    for place, bgr in enumerate(CHART_BGR):
        row, column = divmod(place, CHART_COLUMNS)
        rows = slice(row * height_px // CHART_ROWS, (row + 1) * height_px // CHART_ROWS)
        columns = slice(
            column * width_px // CHART_COLUMNS, (column + 1) * width_px // CHART_COLUMNS
        )
        chart[rows, columns] = bgr
    picture = np.empty(pixel_format.shape(width_px, height_px), np.uint8)
    from_bgr(chart, pixel_format, picture)
    return picture


def from_bgr(bgr: Pixels, pixel_format: PixelFormat, picture: Pixels) -> None:
    """Convert a BGR picture into any pixel format of a camera.

    Args:
        bgr: (height, width, 3) uint8.
        pixel_format: A mosaic takes one colour a site, mono8 the luma (BT.601, full range),
            yuv422 is BT.601 limited range and needs an even width.
        picture: Written; C-contiguous, of shape ``pixel_format.shape(width, height)``.
    """
    code = _CONVERSIONS.get(pixel_format)
    if code is not None:
        cv2.cvtColor(bgr, code, dst=picture)
    elif pixel_format is PixelFormat.BGR8:
        picture[:] = bgr
    else:
        _take_sites(bgr, pixel_format, picture)


_COLOUR = (PixelFormat.BGR8, PixelFormat.RGB8, PixelFormat.YUV422)
_ANY_OFFSET = (PixelFormat.BGR8, PixelFormat.RGB8, PixelFormat.MONO8)
_CONVERSIONS = {
    PixelFormat.MONO8: cv2.COLOR_BGR2GRAY,
    PixelFormat.RGB8: cv2.COLOR_BGR2RGB,
    PixelFormat.YUV422: cv2.COLOR_BGR2YUV_UYVY,
}


def _even(length: int) -> int:
    return max(2, length + length % 2)


def _inner(place: int, places: int, length_px: int) -> slice:
    """The middle half of a patch; of the top row only its lower part is free of the barcode."""
    first, last = place * length_px // places, (place + 1) * length_px // places
    quarter = (last - first) // 4
    return slice(first + quarter, last - quarter)


def _render_scene(height: int, width: int, chance: np.random.Generator) -> Light:
    """Soft light, a textured region, a few sharp shapes: (height, width, 3) BGR light, 0..255."""
    scene = np.full((height, width, 3), (95, 110, 150), np.float32)
    scene += _clouds(height, width, chance, cells=5, contrast=28.0)
    grain = sum(
        _clouds(height, width, chance, cells=max(height, width) // size, contrast=contrast)
        for size, contrast in ((24, 9.0), (6, 7.0), (3, 5.0))
    )
    where = np.clip(_clouds(height, width, chance, cells=3, contrast=1.2), 0, 1)
    scene += grain * where
    for _ in range(12):
        centre = (int(chance.integers(width)), int(chance.integers(height)))
        axes = tuple(int(chance.integers(2, max(3, size // 6))) for size in (width, height))
        colour = tuple(float(level) for level in chance.integers(25, 230, 3))
        thick = int(chance.choice([-1, 1, 2, 4]))
        angle = float(chance.integers(180))
        cv2.ellipse(scene, centre, axes, angle, 0, 360, colour, thick)
    for _ in range(16):
        ends = [(int(chance.integers(width)), int(chance.integers(height))) for _ in range(2)]
        level = float(chance.integers(20, 235))
        cv2.line(scene, ends[0], ends[1], (level, level, level), int(chance.integers(1, 4)))
    scene = cv2.GaussianBlur(scene, (0, 0), 0.8)  # no lens is sharper than its sensor
    return np.asarray(np.clip(scene, 8, 247), np.float32)


def _render_object(height: int, width: int, chance: np.random.Generator) -> Light:
    """A bright instrument with marks across it."""
    thing = np.full((height, width, 3), (175, 180, 185), np.float32)
    thing += _clouds(height, width, chance, cells=8, contrast=12.0)
    for left in range(0, width, 12):
        thing[height // 4 : height // 2, left : left + 3] *= 0.35
    return np.asarray(np.clip(cv2.GaussianBlur(thing, (0, 0), 0.8), 8, 247), np.float32)


def _clouds(
    height: int, width: int, chance: np.random.Generator, *, cells: int, contrast: float
) -> Light:
    """Smooth random light with about ``cells`` bumps along the longer side: (height, width, 1)."""
    longest = max(height, width)
    rows, columns = (max(2, cells * side // longest) for side in (height, width))
    bumps = chance.standard_normal((rows, columns), np.float32) * np.float32(contrast)
    smooth = cv2.resize(bumps, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(smooth, np.float32)[:, :, None]


def _take_sites(bgr: Any, pixel_format: PixelFormat, sites: Any) -> None:
    """Copy one colour of each pixel, as the mosaic's filters would."""
    for place, colour in enumerate(MOSAIC[pixel_format]):
        row, column = divmod(place, 2)
        sites[row::2, column::2] = bgr[row::2, column::2, "BGR".index(colour)]


def _seen_by_sensor(bgr: Light, pixel_format: PixelFormat) -> Light:
    """Luma for mono, one colour a site for a mosaic; a colour camera has a mosaic as well."""
    if pixel_format is PixelFormat.MONO8:
        return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), np.float32)
    sites = np.empty(bgr.shape[:2], np.float32)
    _take_sites(bgr, pixel_format if pixel_format in MOSAIC else PixelFormat.BAYER_RG8, sites)
    return sites


def _expose(light: Light, pixel_format: PixelFormat, chance: np.random.Generator) -> Pixels:
    """One exposure: shot and read noise, 8 bits; colour formats are interpolated from it."""
    noise = chance.standard_normal(light.shape, np.float32)
    noise *= np.sqrt(READ_VARIANCE + SHOT_VARIANCE * light)
    if pixel_format in _COLOUR:
        noise *= COLOUR_NOISE_GAIN
    noise += light
    sites = np.rint(np.clip(noise, 0, 255, out=noise), out=noise).astype(np.uint8)
    if pixel_format not in _COLOUR:
        return sites
    bgr = np.asarray(cv2.cvtColor(sites, cv2.COLOR_BayerRGGB2BGR), np.uint8)
    picture = np.empty(pixel_format.shape(sites.shape[1], sites.shape[0]), np.uint8)
    from_bgr(bgr, pixel_format, picture)
    return picture
