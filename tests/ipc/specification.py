"""Reads PROTOCOL.md as its tests need it: sections, tables, code blocks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import ipc

__all__ = ["Section", "code_block", "section", "sections"]

TEXT = (Path(ipc.__file__).parent / "PROTOCOL.md").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Section:
    """One section: its heading without marks, its text, and the rows of its tables."""

    title: str
    text: str

    @property
    def rows(self) -> list[list[str]]:
        """Cells of all table rows but the headings."""
        tables = re.findall(r"^\|.*\|\n\|[ \-|]+\|\n((?:\|.*\|\n?)*)", self.text, re.MULTILINE)
        lines = [line for table in tables for line in table.splitlines()]
        return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def sections() -> list[Section]:
    """All sections, each without those below it."""
    pieces = re.split(r"^#+ (.*)$", TEXT, flags=re.MULTILINE)[1:]
    return [
        Section(title.strip("`"), text)
        for title, text in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def section(title: str) -> Section:
    """The one section of a title."""
    [found] = [one for one in sections() if one.title == title]
    return found


def code_block(title: str, language: str) -> str:
    """The one code block of a language in a section."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", section(title).text, re.M | re.S)
    return str(found)
