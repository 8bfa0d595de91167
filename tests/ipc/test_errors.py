"""The error vocabulary: stable codes, documented, and the same on both ends of a pipe."""

from __future__ import annotations

import re

import pytest

from ipc import errors
from ipc.errors import SealrecError, from_code
from tests.ipc.specification import section


def every_class() -> list[type[SealrecError]]:
    """The root and all below it."""
    found, pending = [], [SealrecError]
    while pending:
        kind = pending.pop()
        found.append(kind)
        pending += kind.__subclasses__()
    return found


ALL = every_class()


def test_codes_are_unique() -> None:
    """A code names one class, so a caller may branch on either."""
    assert len({kind.code for kind in ALL}) == len(ALL)


def test_every_class_is_public() -> None:
    """What can be raised can be imported and named."""
    assert {kind.__name__ for kind in ALL} <= set(errors.__all__)


def test_the_page_lists_every_code() -> None:
    """PROTOCOL.md has each code with its class and exit code, and no others."""
    listed = {(row[0], row[1], int(row[2])) for row in section("Error codes").rows}
    assert listed == {(kind.code, kind.__name__, kind.exit_code) for kind in ALL}


def test_exit_codes_are_those_of_the_command_line() -> None:
    """Errors use the documented exit codes only: 0 is success, 1 is Python's own."""
    assert {kind.exit_code for kind in ALL} <= {2, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("kind", ALL)
def test_an_error_survives_the_pipe(kind: type[SealrecError]) -> None:
    """Code, message and hint give the same error on the other side."""
    sent = kind("It did not work.", hint="Try again.")
    found = from_code(sent.code, sent.message, sent.hint)
    assert type(found) is kind
    assert (found.message, found.hint) == (sent.message, sent.hint)


def test_an_unknown_code_is_still_an_error() -> None:
    """A code of a later version gives the root class, with its words."""
    found = from_code("from-the-future", "Something new.", "Update.")
    assert type(found) is SealrecError
    assert str(found) == "Something new. Update."


def test_an_error_without_a_hint_reads_well() -> None:
    """No blank is left where the hint would stand."""
    assert str(SealrecError("It did not work.")) == "It did not work."


def test_every_class_says_what_it_is() -> None:
    """The docstring is one sentence that the page's table may differ from, but never misses."""
    for kind in ALL:
        assert re.match(r"[A-Z].*[.:;,]", kind.__doc__ or ""), kind
