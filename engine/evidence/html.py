"""Draws the report as one HTML file: nothing is loaded, nothing runs, it prints, light and dark."""

from __future__ import annotations

from html import escape
from typing import Final

from engine.evidence.drawing import WIDTH, Drawing, Label, Rectangle
from engine.evidence.report import Block, Headline, Report, Table, Text

__all__ = ["render"]

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2024; --soft: #5b636b; --line: #d5dade;
  --good: #2f7d5b; --bad: #b3372f; --limited: #8a6100; --mark: #2f62b5; --plot: #7a6aa8; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8ea; --soft: #a0a8b0; --line: #3a4046;
  --good: #5fc498; --bad: #f0847b; --limited: #e0b04a; --mark: #86aef0; --plot: #b4a6e0; }
  body { background: #15181b; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin-top: 2rem; border-bottom: 1px solid var(--line); }
.headline { font-size: 1.25rem; font-weight: 600; }
.good { color: var(--good); } .limited { color: var(--limited); } .bad { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.75rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.2rem 1rem 0.2rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; min-width: 4rem; }
th { color: var(--soft); font-weight: 500; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); }
svg { width: 100%; height: auto; } svg text { font: 9px system-ui, sans-serif; fill: var(--soft); }
svg .good { fill: var(--good); } svg .bad { fill: var(--bad); } svg .mark { fill: var(--mark); }
svg .plot { fill: var(--plot); } svg .axis { fill: var(--line); }
@media print { body { margin: 0; max-width: none; } h2 { break-after: avoid; }
  tr, figure { break-inside: avoid; } }
"""

_HEAD: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
"""


def render(report: Report) -> bytes:
    """The HTML file."""
    parts = [_HEAD.format(title=escape(report.title), style=_STYLE)]
    for section in report.sections:
        parts.append(f"<section>\n<h2>{escape(section.heading)}</h2>\n")
        parts += [_block(block) for block in section.blocks]
        parts.append("</section>\n")
    parts.append("</body>\n</html>\n")
    return "".join(parts).encode("utf-8", "replace")


def _block(block: Block) -> str:
    if isinstance(block, Headline):
        return f'<p class="headline {block.level}">{escape(block.text)}</p>\n'
    if isinstance(block, Text):
        return f"<p>{escape(block.text)}</p>\n"
    return _table(block) if isinstance(block, Table) else _figure(block)


def _table(table: Table) -> str:
    rows = [_row(table.columns, "th", "th")] if table.columns else []
    first = "td" if table.columns else "th"
    rows += [_row(row, first, "td") for row in table.rows]
    return f'<div class="scroll"><table>\n{"".join(rows)}</table></div>\n'


def _row(cells: tuple[str, ...], first: str, other: str) -> str:
    tags = [first, *[other] * (len(cells) - 1)]
    inner = (f"<{tag}>{escape(cell)}</{tag}>" for tag, cell in zip(tags, cells, strict=True))
    return f"<tr>{''.join(inner)}</tr>\n"


def _figure(drawing: Drawing) -> str:
    title = escape(drawing.title)
    shapes = "".join(
        _rectangle(shape) if isinstance(shape, Rectangle) else _label(shape)
        for shape in drawing.shapes
    )
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {drawing.height:g}" role="img" aria-label="{title}">'
        f"{shapes}</svg><figcaption>{title}</figcaption></figure>\n"
    )


def _rectangle(shape: Rectangle) -> str:
    size = f'width="{shape.width:.2f}" height="{shape.height:.2f}"'
    return f'<rect class="{shape.tone}" x="{shape.x:.2f}" y="{shape.y:.2f}" {size}/>'


def _label(shape: Label) -> str:
    at = f'x="{shape.x:.2f}" y="{shape.y:.2f}" text-anchor="{shape.anchor}"'
    return f"<text {at}>{escape(shape.text)}</text>"
