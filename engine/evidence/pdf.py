r"""Draws the report as a PDF, with ReportLab.

The font is one that is here: matplotlib's DejaVu Sans (most European scripts), or else ReportLab's
Vera (Latin). A character that it lacks is written out as ``\u{...}``: never left out, never a box.
The same report is the same bytes.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine.evidence.drawing import WIDTH, Drawing, Label, Rectangle
from engine.evidence.report import Block, Headline, Report, Table, Text
from ipc.errors import ConfigError

if TYPE_CHECKING:
    from reportlab.graphics.shapes import Drawing as PdfDrawing
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import Flowable

__all__ = ["check_available", "render"]

_REGULAR, _BOLD = "SealrecReport", "SealrecReport-Bold"
_TONES: Final = {
    "good": 0x2F7D5B,
    "limited": 0x8A6100,
    "bad": 0xB3372F,
    "mark": 0x2F62B5,
    "plot": 0x7A6AA8,
    "axis": 0xC0C6CC,
}
_INK, _SOFT, _LINE = 0x1C2024, 0x5B636B, 0xD5DADE
_MARGIN: Final = 47
_LONGEST: Final = 600
_TOGETHER: Final = 90
"""A heading stands no lower than so many points above the end of its page."""


def check_available() -> None:
    """Make sure that there is a library to draw with, before anything is done.

    Raises:
        ConfigError: there is none.
    """
    if find_spec("reportlab") is None:
        raise ConfigError(
            "The report needs ReportLab, which is not installed.",
            hint="pip install 'sealrec[evidence]'",
        )


def render(report: Report) -> bytes:
    """The PDF file."""
    from reportlab.lib.pagesizes import A4
    from reportlab.platypus import SimpleDocTemplate

    pages = _Pages()
    to = io.BytesIO()
    document = SimpleDocTemplate(
        to,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=pages.written(report.title),
        author="sealrec",
        invariant=1,
    )
    document.build(list(pages.flow(report)), onFirstPage=pages.number, onLaterPages=pages.number)
    return to.getvalue()


@cache
def _fonts() -> frozenset[int]:
    """Register the two fonts; returns the characters that both have."""
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    known: set[int] | None = None
    for name, path in zip((_REGULAR, _BOLD), _font_files(), strict=True):
        font = TTFont(name, os.fspath(path))
        pdfmetrics.registerFont(font)
        has = set(font.face.charToGlyph)
        known = has if known is None else known & has
    return frozenset(known or ())


def _font_files() -> tuple[Path, Path]:
    matplotlib = find_spec("matplotlib")
    if matplotlib is not None and matplotlib.origin:
        folder = Path(matplotlib.origin).parent / "mpl-data" / "fonts" / "ttf"
        found = (folder / "DejaVuSans.ttf", folder / "DejaVuSans-Bold.ttf")
        if all(path.is_file() for path in found):
            return found
    import reportlab

    folder = Path(reportlab.__file__).parent / "fonts"
    return folder / "Vera.ttf", folder / "VeraBd.ttf"


class _Pages:
    """One document's styles."""

    def __init__(self) -> None:
        self._known = _fonts()
        self._title = _style(15, bold=True, after=8)
        self._heading = _style(11.5, bold=True, before=12, after=4)
        self._text = _style(9, after=4)
        self._cell = _style(7.5)
        self._name = _style(7.5, colour=_SOFT)

    def written(self, text: str) -> str:
        """A text in characters that the fonts have, of a length that a page has room for."""
        shown = "".join(c if ord(c) in self._known else f"\\u{{{ord(c):x}}}" for c in text)
        return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "..."

    def flow(self, report: Report) -> Iterator[Flowable]:
        """The report from top to bottom."""
        from reportlab.platypus import CondPageBreak

        yield self._paragraph(report.title, self._title)
        for section in report.sections:
            yield CondPageBreak(_TOGETHER)
            yield self._paragraph(section.heading, self._heading)
            for block in section.blocks:
                yield from self._block(block)

    def number(self, canvas: Any, document: Any) -> None:
        """Write the number of a page under it."""
        canvas.setFont(_REGULAR, 7)
        canvas.setFillColor(_colour(_SOFT))
        canvas.drawRightString(document.pagesize[0] - _MARGIN, 28, f"page {document.page}")

    def _paragraph(self, text: str, style: ParagraphStyle) -> Flowable:
        from reportlab.platypus import Paragraph

        return Paragraph(escape(self.written(text), quote=False), style)

    def _block(self, block: Block) -> Iterator[Flowable]:
        from reportlab.platypus import KeepTogether

        if isinstance(block, Headline):
            style = _style(13, bold=True, after=6, colour=_TONES[block.level])
            yield self._paragraph(block.text, style)
        elif isinstance(block, Text):
            yield self._paragraph(block.text, self._text)
        elif isinstance(block, Table):
            if block.rows:
                yield self._table(block)
        else:
            yield KeepTogether([self._drawing(block), self._paragraph(block.title, self._text)])

    def _table(self, table: Table) -> Flowable:
        from reportlab.platypus import Table as PdfTable

        heads = [[self._paragraph(text, self._name) for text in table.columns]]
        first = self._cell if table.columns else self._name
        rows = [
            [self._paragraph(text, self._cell if at else first) for at, text in enumerate(row)]
            for row in table.rows
        ]
        made = PdfTable(
            [*(heads if table.columns else []), *rows],
            colWidths=_widths(table),
            repeatRows=1 if table.columns else 0,
            hAlign="LEFT",
            spaceAfter=6,
        )
        made.setStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
                ("LINEBELOW", (0, 0), (-1, -1), 0.4, _colour(_LINE)),
            ]
        )
        return made

    def _drawing(self, drawing: Drawing) -> PdfDrawing:
        from reportlab.graphics.shapes import Drawing as PdfDrawing
        from reportlab.graphics.shapes import Rect, String

        made = PdfDrawing(WIDTH, drawing.height)
        for shape in drawing.shapes:
            if isinstance(shape, Rectangle):
                y = drawing.height - shape.y - shape.height
                colour = _colour(_TONES[shape.tone])
                box = (shape.x, y, shape.width, shape.height)
                made.add(Rect(*box, fillColor=colour, strokeColor=None))
            else:
                made.add(_string(String, shape, drawing.height))
        return made


def _string(string: Any, label: Label, height: float) -> Any:
    return string(
        label.x,
        height - label.y,
        label.text,
        fontName=_REGULAR,
        fontSize=7,
        fillColor=_colour(_SOFT),
        textAnchor=label.anchor,
    )


def _widths(table: Table) -> list[float]:
    """Column widths by what stands in them: a short column gets what it needs, others share."""
    columns = list(zip(*((table.columns,) if table.columns else ()), *table.rows, strict=True))
    longest = [min(60, max(len(text) for text in column)) for column in columns]
    wanted = [max(26.0, 4.6 * count + 10) for count in longest]
    if sum(wanted) <= WIDTH:
        return wanted
    narrow = [width for width in wanted if width <= WIDTH / len(wanted)]
    share = (WIDTH - sum(narrow)) / sum(w for w in wanted if w > WIDTH / len(wanted))
    return [width if width <= WIDTH / len(wanted) else width * share for width in wanted]


def _style(
    size: float, *, bold: bool = False, before: float = 0, after: float = 0, colour: int = _INK
) -> ParagraphStyle:
    from reportlab.lib.styles import ParagraphStyle

    return ParagraphStyle(
        "",
        fontName=_BOLD if bold else _REGULAR,
        fontSize=size,
        leading=size * 1.35,
        spaceBefore=before,
        spaceAfter=after,
        textColor=_colour(colour),
        splitLongWords=True,
    )


def _colour(rgb: int) -> Any:
    from reportlab.lib.colors import HexColor

    return HexColor(rgb)
