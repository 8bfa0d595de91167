"""Names of parts: no two recordings ever share one, and any part leads to all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.container.header import new_core
from engine.container.names import (
    MAX_PARTS,
    base_of,
    check_free,
    final_path,
    index_of,
    next_free,
    open_path,
    part_path,
    parts_of,
    reserve_path,
)
from ipc.errors import ConfigError


def core(index: int) -> bytes:
    return new_core(
        recording_id=bytes(16),
        part_index=index,
        created_unix_ms=0,
        previous_part=bytes([index > 0]) * 32,
    )


@pytest.mark.parametrize(
    ("base", "index", "name"),
    [
        ("op.mp4.enc", 0, "op.mp4.enc"),
        ("op.mp4.enc", 1, "op.001.mp4.enc"),
        ("op.mp4.enc", 999, "op.999.mp4.enc"),
        ("a.b.mp4.enc", 12, "a.b.012.mp4.enc"),
        ("video.bin", 3, "video.bin.003"),
        ("plain", 3, "plain.003"),
        (".mp4.enc", 1, ".mp4.enc.001"),
    ],
)
def test_part_names_are_those_of_the_format(base: str, index: int, name: str) -> None:
    """Part n > 0 of stem.mp4.enc is stem.NNN.mp4.enc, of any other name name.NNN."""
    assert part_path(Path("dir") / base, index) == Path("dir") / name
    assert base_of(Path("dir") / name) == Path("dir") / base
    assert index_of(open_path(Path("dir") / name)) == index


@settings(deadline=None)
@given(
    st.text("ab.0-", min_size=1, max_size=8).filter(lambda s: s.strip(".")),
    st.sampled_from(["", ".mp4.enc", ".mp4"]),
    st.integers(1, MAX_PARTS - 1),
)
def test_a_part_leads_back_to_its_base(stem: str, suffix: str, index: int) -> None:
    """The base and the number can be read off any part's name."""
    base = Path("no-such-directory") / (stem + suffix)
    part = part_path(base, index)
    assert (base_of(part), index_of(part)) == (base, index)
    assert (base_of(open_path(part)), index_of(open_path(part))) == (base, index)


def test_companions_of_a_part() -> None:
    """While written a part is called .open, with a .reserve beside it."""
    path = Path("x/op.001.mp4.enc")
    assert open_path(path) == Path("x/op.001.mp4.enc.open")
    assert reserve_path(path) == Path("x/op.001.mp4.enc.reserve")
    assert final_path(open_path(path)) == final_path(path) == path


@pytest.mark.parametrize("index", [-1, MAX_PARTS])
def test_a_part_number_that_no_name_has_is_refused(index: int) -> None:
    """Three digits are all there are."""
    with pytest.raises(ConfigError):
        part_path(Path("op.mp4.enc"), index)


def test_parts_are_found_in_order_from_any_of_them(tmp_path: Path) -> None:
    """Sealed and open parts, with a gap, and nothing that only looks similar."""
    base = tmp_path / "op.mp4.enc"
    parts = [base, part_path(base, 2), open_path(part_path(base, 10))]
    others = [
        "op.mp4.enc.reserve",
        "op.1.mp4.enc",
        "op2.001.mp4.enc",
        "op.mp4.enc.002",
        "op.000.mp4.enc",
    ]
    for path in [*parts, *(tmp_path / name for name in others)]:
        path.touch()
    for path in [*parts, part_path(base, 7)]:
        assert parts_of(path) == parts
    assert parts_of(tmp_path / "none.mp4.enc") == []
    assert parts_of(tmp_path / "no-directory" / "op.mp4.enc") == []


def test_a_part_under_both_names_is_listed_once(tmp_path: Path) -> None:
    """A rename that was killed half-way leaves two names of one file."""
    base = tmp_path / "op.mp4.enc"
    base.touch()
    open_path(base).touch()
    assert parts_of(base) == [base]


@pytest.mark.parametrize(
    "taken",
    ["op.mp4.enc", "op.mp4.enc.open", "op.001.mp4.enc", "op.007.mp4.enc.open"],
)
def test_a_taken_name_is_refused_and_the_next_is_free(tmp_path: Path, taken: str) -> None:
    """The name, its .open and every part name count; the next free name is another stem."""
    base = tmp_path / "op.mp4.enc"
    check_free(base)
    assert next_free(base) == base
    (tmp_path / taken).write_bytes(b"somebody's")
    with pytest.raises(ConfigError, match="exists already"):
        check_free(base)
    assert next_free(base) == tmp_path / "op-2.mp4.enc"
    (tmp_path / "op-2.mp4.enc.open").touch()
    assert next_free(base) == tmp_path / "op-3.mp4.enc"


def test_a_dangling_link_is_a_taken_name(tmp_path: Path) -> None:
    """What would be written through a link is not where the name says."""
    (tmp_path / "op.mp4.enc").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError):
        check_free(tmp_path / "op.mp4.enc")


def test_a_recording_may_have_a_numbered_name(tmp_path: Path) -> None:
    """Its header says that it is part 0, so it is its own base and has no neighbours."""
    first, second = tmp_path / "day.001.mp4.enc", tmp_path / "day.002.mp4.enc"
    first.write_bytes(core(0))
    check_free(second)
    open_path(second).write_bytes(core(0))
    assert base_of(first) == first
    assert parts_of(second) == [open_path(second)]
    assert index_of(second) == 0
    with pytest.raises(ConfigError):
        check_free(tmp_path / "day.mp4.enc")


def test_a_part_name_of_an_existing_recording_is_taken(tmp_path: Path) -> None:
    """Otherwise a later part of that recording would find its name gone."""
    (tmp_path / "day.mp4.enc").write_bytes(core(0))
    with pytest.raises(ConfigError):
        check_free(tmp_path / "day.001.mp4.enc")


def test_a_later_part_without_its_first_still_leads_to_the_base(tmp_path: Path) -> None:
    """When part 0 is lost, the others are known as parts by their header."""
    part = tmp_path / "day.001.mp4.enc"
    part.write_bytes(core(1))
    assert base_of(part) == tmp_path / "day.mp4.enc"
    assert parts_of(part) == [part]
