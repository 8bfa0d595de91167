"""Column types that hold the same values on both databases, whatever a file or a person says.

``WideInteger`` takes every integer of a recording, -2^63 to 2^64-1, which no BIGINT does. ``Words``
takes every text: what PostgreSQL refuses (zero characters) or UTF-8 cannot say (names of files with
other bytes) is written another way, and what is longer than a person reads is cut.

Source: CATALOG.md, "Values".
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Dialect, Integer, Numeric, Text, TypeDecorator
from sqlalchemy.types import BigInteger, TypeEngine

__all__ = ["MAX_WORDS", "BigKey", "WideInteger", "Words", "storable"]

MAX_WORDS: Final = 4096

BigKey = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits on both; a real integer on SQLite, where BIGINT would take texts as well."""


def storable(text: str) -> str:
    r"""The text as both databases keep it.

    At most 4,096 characters. A zero character becomes U+2400, the picture of one; what is no UTF-8
    becomes an escape such as ``\udcff``.
    """
    # Cut before too: what a forged file holds may be millions of characters.
    text = text[: MAX_WORDS + 1].replace("\0", "␀").encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= MAX_WORDS else text[: MAX_WORDS - 1] + "…"


class Words(TypeDecorator[str]):
    """Any text; see ``storable``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """To the database."""
        return None if value is None else storable(value)


class WideInteger(TypeDecorator[int]):
    """-2^63 to 2^64-1: NUMERIC(20) on PostgreSQL, decimal text on SQLite."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The database's own type."""
        wide: TypeEngine[Any] = Text() if dialect.name == "sqlite" else Numeric(20, 0)
        return dialect.type_descriptor(wide)

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        """To the database."""
        if value is None or dialect.name != "sqlite":
            return value
        return str(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """From the database; what somebody has put there that is no integer comes as it is."""
        try:
            return None if value is None else int(value)
        except (ValueError, ArithmeticError):
            return value  # type: ignore[no-any-return]
