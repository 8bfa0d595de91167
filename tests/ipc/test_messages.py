"""The messages: what they carry, what they show, and that PROTOCOL.md says the same."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import engine
import ipc
import workers
from engine.config import RecordingConfig
from engine.lifecycle import Phase
from ipc import messages
from ipc.camera_control import CameraChanges, CameraState
from ipc.channel import decode, encode
from ipc.errors import ProtocolError
from ipc.frame import Loss, LossClass
from ipc.messages import (
    CameraRow,
    Failure,
    LossRow,
    Message,
    OpenPart,
    StandBy,
    StartRecording,
    common,
)
from tests.ipc.specification import section, sections

ALL: list[type[Message]] = Message.__subclasses__()
COUNTS = st.integers(0, 2**64 - 1)
NUMBERS = st.integers(-(2**63), 2**64 - 1)
TEXTS = st.text(max_size=20)
PLAIN = st.dictionaries(TEXTS, NUMBERS | TEXTS | st.booleans() | st.none(), max_size=3)


def name_of(kind: type[Message]) -> str:
    """The type as it is on the wire."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


def values(kind: Any, constraint: msgspec.Meta | None = None) -> st.SearchStrategy[Any]:  # noqa: PLR0911
    """Values that a field of some type may have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values(arguments[0], arguments[1])
    if origin is typing.Union or origin is types.UnionType:
        return st.one_of(*(values(argument) for argument in arguments))
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin is list:
        return st.lists(values(arguments[0]), max_size=3)
    if origin is tuple:
        return st.tuples(*(values(argument) for argument in arguments))
    if origin is dict:
        return PLAIN if arguments[1] is Any else st.dictionaries(TEXTS, values(arguments[1]))
    if kind is CameraRow:
        return st.builds(CameraRow, id=TEXTS, model=TEXTS, serial=TEXTS, access=st.lists(TEXTS))
    if kind is LossRow:
        return LOSSES.map(LossRow.of)
    if kind in (CameraChanges, CameraState):
        hints = typing.get_type_hints(kind, include_extras=True)
        return st.builds(kind, **{name: values(hint) for name, hint in hints.items()})
    if kind is StandBy:
        return st.builds(StandBy, hold_s=st.floats(0, 9), hold_frames=COUNTS)
    if kind is int and constraint is not None:
        return st.integers(constraint.ge or 0, constraint.le or 2**64 - 1)  # type: ignore[type-var]
    if kind is float and constraint is not None:
        return st.floats(0.01, 1000)
    return {
        int: NUMBERS,
        float: st.floats(allow_nan=False),
        str: TEXTS,
        bool: st.booleans(),
        bytes: st.binary(max_size=50),
        type(None): st.none(),
    }[kind]


@st.composite
def any_loss(draw: st.DrawFn) -> Loss:
    """Any loss."""
    known = draw(st.booleans())
    ids = (draw(COUNTS), draw(COUNTS)) if known else (None, None)
    times = (draw(st.integers(0, 2**63)), draw(st.integers(0, 2**63)))
    return Loss(draw(st.sampled_from(LossClass)), draw(COUNTS), *ids, *times)


LOSSES = any_loss()


@st.composite
def any_message(draw: st.DrawFn) -> Message:
    """Any message."""
    kind = draw(st.sampled_from(ALL))
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = {field.name: draw(values(hints[field.name])) for field in msgspec.structs.fields(kind)}
    return kind(**fields)


# --- on the wire ------------------------------------------------------------------------------


@settings(deadline=None)
@given(any_message())
def test_every_message_survives_the_wire(message: Message) -> None:
    """What is encoded is decoded to an equal message, whatever its fields hold."""
    assert decode(encode(message, 1 << 24)[4:], type(message)) == message


@given(LOSSES)
def test_losses_survive_as_rows(loss: Loss) -> None:
    """A loss row gives back the loss it was made of."""
    assert LossRow.of(loss).loss() == loss


def test_types_are_unique() -> None:
    """No two messages share a name."""
    assert len({name_of(kind) for kind in ALL}) == len(ALL)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (messages.StopRecording, {"call": -1}),
        (messages.StopRecording, {"call": 1.0}),
        (messages.StopRecording, {"call": True}),
        (messages.StopRecording, {"call": None}),
        (messages.Failure, {"code": "x", "message": "y" * 4097}),
        (messages.Failure, {"code": b"x", "message": "y"}),
        (messages.SourceOpened, {"width_px": 0, "height_px": 1, "pixel_format": "", "rate_hz": 1}),
        (messages.SourceOpened, {"width_px": 1, "height_px": 1, "pixel_format": "", "rate_hz": 0}),
        (messages.OpenSource, {"spec": {}, "policy": "perhaps"}),
    ],
)
def test_fields_of_a_wrong_kind_are_refused(kind: type[Message], fields: dict[str, Any]) -> None:
    """Nothing is converted and nothing out of range is taken."""
    with pytest.raises(ProtocolError):
        decode(msgpack.packb({"type": name_of(kind), **fields}), kind)


def test_what_carries_a_secret_does_not_show_it() -> None:
    """Neither repr nor str nor an error that quotes a message holds a key or a password."""
    password, dek, header = "a-password", b"\x17" * 32, b"\x42" * 4096
    key = {"kind": "password", "value": password}
    start = StartRecording(call=1, config={"keys": [key]})
    order = OpenPart(
        index=0, path="/x", header=header, dek=dek, video={}, frame={}, session={"a": "b"}
    )
    save = messages.SaveStill(call=1, config={"keys": [key]})
    still = messages.SealStill(call=1, path="/x", header=header, dek=dek, seq=0, rate_hz=1.0)
    shown = f"{start!r} {start} {order!r} {order} {[start, order, save, still]!r} {save} {still}"
    for secret in (password, repr(dek)[2:-1], repr(header)[2:-1][:40], dek.hex()):
        assert secret not in shown
    bad = msgpack.packb({"type": "start", "call": "x", "config": {"keys": [key]}})
    with pytest.raises(ProtocolError) as caught:
        decode(bad, StartRecording)
    assert password not in str(caught.value)


# --- PROTOCOL.md ------------------------------------------------------------------------------


def documented(title: str) -> dict[str, tuple[str, str]]:
    """Type and default of each field in a section's table."""
    return {row[0]: (row[1], row[2]) for row in section(title).rows}


def fields_of(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """Name and default of each field, the default as the page writes it."""
    for field in msgspec.structs.fields(kind):
        value = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            value = field.default_factory()
        if value is msgspec.NODEFAULT:
            yield field.name, "required"
        else:
            written = {None: "nil", True: "true", False: "false", "": '""'}
            value = list(value) if isinstance(value, tuple) else value
            simple = isinstance(value, str | bool | None)
            yield field.name, written.get(value, f'"{value}"') if simple else str(value)


def kind_of(annotation: Any) -> str:
    """A field's type as the page writes it."""
    named = {
        common.Count: "count",
        common.Text: "text",
        LossRow: "loss row",
        type(None): "nil",
    }
    if annotation in named:
        return named[annotation]
    if annotation in (CameraChanges, CameraState):
        return "map"
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin is typing.Union or origin is types.UnionType:
        return " or ".join(kind_of(argument) for argument in arguments)
    if origin is typing.Literal or (origin is None and issubclass(annotation, str)):
        return "string"
    return {dict: "map", list: "array", tuple: "array"}.get(origin) or str(annotation.__name__)


@pytest.mark.parametrize("kind", [*ALL, RecordingConfig])
def test_the_page_describes_every_field(kind: type[msgspec.Struct]) -> None:
    """PROTOCOL.md names each field of each message with its type and default, and no others."""
    title = "Configuration" if kind is RecordingConfig else name_of(kind)  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind, include_extras=True)
    expected = {name: (kind_of(hints[name]), default) for name, default in fields_of(kind)}
    assert documented(title) == expected


def test_the_page_describes_no_other_message() -> None:
    """Each heading with a message's name is one."""
    names = {one.title for one in sections() if re.fullmatch(r"[a-z_]+", one.title)}
    assert names == {name_of(kind) for kind in ALL}


def test_the_page_says_who_is_never_dropped() -> None:
    """The table of deliveries names all messages that may be replaced or collapsed."""
    rows = {row[0]: set(re.findall(r"`(\w+)`", row[1])) for row in section("Back-pressure").rows}
    for delivery in ("newest", "event"):
        assert rows[delivery] == {name_of(k) for k in ALL if k.delivery == delivery}
    assert rows["must"] == set()


def test_the_page_lists_every_event_and_state() -> None:
    """Each kind of event that the code can announce, and each state of the status, is listed."""
    code = "".join(
        path.read_text(encoding="utf-8")
        for package in (engine, ipc, workers)
        for path in Path(package.__path__[0]).glob("*.py")
    )
    kinds = set(re.findall(r'(?:Announce|announce|_tell)\(\s*"(\w+)"', code))
    kinds |= set(re.findall(r'kind="(\w+)"', code)) | {"part_recovered", "recovery_failed"}
    kinds |= {"catalog_behind", "catalog_back"}  # engine/catalog/feed.py
    assert {row[0] for row in section("Events").rows} == kinds
    states = set(re.findall(r'return "(\w+)"', Path(engine.__path__[0], "status.py").read_text()))
    states |= {phase.value for phase in Phase if phase is not Phase.OPENING}
    states |= {"capture_silent", "encoder_silent"}
    listed = {row[0] for row in section("Status").rows}
    assert states <= listed, states - listed


def test_the_example_in_bytes_is_true() -> None:
    """The bytes on the page are what the code sends."""
    text = section("An example in bytes").text
    found = "".join(re.findall(r"^    ((?:[0-9a-f]{2} +)+)", text, re.MULTILINE))
    assert bytes.fromhex(found) == encode(messages.StopRecording(call=7))


def test_failures_may_come_from_any_worker() -> None:
    """A worker's reason for leaving is a message that the engine accepts."""
    for accepts in (messages.FromCapture, messages.FromEncoder, messages.ToController):
        assert decode(encode(Failure(code="x", message="y"))[4:], accepts)
