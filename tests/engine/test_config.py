"""A recording's configuration: what is refused before anything starts, and what follows from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import KeySource, RecordingConfig, parse_config
from ipc.errors import ConfigError
from workers.codecs.spec import EncoderSpec
from workers.sources.source import SourceSpec

KEY = {"kind": "key_file", "value": "/a.key"}


def parsed(**fields: Any) -> RecordingConfig:
    """A configuration with a key."""
    return parse_config({"output": "x.mp4.enc", "keys": [KEY], **fields})


def test_the_least_that_is_needed() -> None:
    """One key; all else has a default."""
    config = parse_config({"keys": [KEY]})
    assert config.source_kind == "synthetic"
    assert config.policy == "drop"
    assert config.keys == [KeySource("key_file", "/a.key")]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"colour": "red"}, "colour"),
        ({"keys": []}, "key"),
        ({"keys": [{"kind": "key_file"}]}, "value"),
        ({"keys": [{"kind": "magic", "value": "x"}]}, "magic"),
        ({"keys": [{**KEY, "colour": "red"}]}, "colour"),
        ({"width": 0}, "width"),
        ({"height": 100_000}, "height"),
        ({"width": "320"}, "width"),
        ({"fps": 0}, "fps"),
        ({"fps": float("nan")}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"seconds": 0}, "seconds"),
        ({"frames": 0}, "frames"),
        ({"frames": 1.5}, "frames"),
        ({"threads": 65}, "threads"),
        ({"ring_seconds": 0}, "ring_seconds"),
        ({"camera_return_s": -1}, "camera_return_s"),
        ({"pixel_format": "rgb48"}, "pixel_format"),
        ({"policy": "perhaps"}, "policy"),
        ({"hardware": True}, "hardware"),
        ({"session": {"a": 1}}, "session"),
        ({"source": "webcam"}, "webcam"),
        ({"source": "file:/nonexistent.mp4"}, "nonexistent"),
        ({"source": "file:"}, "file"),
        ({"source": ""}, "source"),
        ({"output": "a\0b"}, "path"),
        ({"session": {"subject": "\ud800"}}, "text"),
        ({"camera_settings": "/nonexistent"}, "nonexistent"),
        ({"trigger": "perhaps"}, "trigger"),
        ({"output": "caf\udce9.mp4.enc"}, "path"),
        ({"output": 7}, "output"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], word: str) -> None:
    """Unknown, missing, of the wrong kind or out of range: the message names it."""
    with pytest.raises(ConfigError) as caught:
        parsed(**fields)
    assert word in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([field.name for field in msgspec.structs.fields(RecordingConfig)])


@settings(deadline=None)
@given(st.dictionaries(NAMES | st.text(max_size=5), JSON | st.binary(), max_size=5), st.booleans())
def test_anything_is_a_configuration_or_refused(fields: dict[str, Any], keyed: bool) -> None:
    """Whatever a controller sends, nothing but a ConfigError comes of it."""
    if keyed:
        fields = {**fields, "keys": [KEY]}
    try:
        config = parse_config(fields)
    except ConfigError:
        return
    assert config.keys
    assert config.base().is_absolute()


def test_a_password_is_not_shown() -> None:
    """Neither by the key's repr nor by the configuration's; a path may be."""
    password = {"kind": "password", "value": "a-password"}
    config = parsed(keys=[password, KEY])
    assert "a-password" not in f"{config!r} {config} {config.keys}"
    assert "/a.key" in repr(config)


def test_a_refusal_does_not_quote_the_password() -> None:
    """An error in another field of a key with a password shows nothing of it."""
    for key in (
        {"kind": "password", "value": "a-password", "colour": 1},
        {"kind": "password", "value": ["a-password"]},
        {"kind": "password", "value": "a-password", "label": 3},
    ):
        with pytest.raises(ConfigError) as caught:
            parsed(keys=[key])
        assert "a-password" not in str(caught.value)


# --- where it goes ----------------------------------------------------------------------------


def test_the_default_output_follows_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a path: data/sessions/<session_id>/recording.mp4.enc below the working directory."""
    monkeypatch.chdir(tmp_path)
    config = parsed(output="", session={"session_id": "S-17"})
    assert config.base() == tmp_path / "data" / "sessions" / "S-17" / "recording.mp4.enc"


@settings(deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_a_session_id_never_leaves_its_folder(session_id: str) -> None:
    """Whatever the id is, the file lies two levels below data/sessions."""
    base = parsed(output="", session={"session_id": session_id}).base()
    assert base.parent.parent == Path("data", "sessions").absolute()
    assert base.parent.name not in ("", ".", "..")
    assert not set(base.parent.name) & set('/\\:*?"<>|\0')


# --- what follows -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "frames"),
    [
        ({}, None),
        ({"frames": 7}, 7),
        ({"seconds": 2.0}, 60),
        ({"seconds": 2.0, "fps": 25.0}, 50),
        ({"seconds": 2.0, "frames": 7}, 7),
        ({"seconds": 0.001}, 1),
    ],
)
def test_a_synthetic_duration_is_a_number_of_frames(
    fields: dict[str, Any], frames: int | None
) -> None:
    """So that two seconds at 30 fps are 60 frames, late or not."""
    config = parsed(**fields)
    assert config.source_spec(config.limits)["frames"] == frames


def test_the_workers_understand_what_they_are_sent() -> None:
    """The specifications convert to the types that source and encoder are opened with."""
    config = parsed(width=320, height=240, fps=25.0, pixel_format="bayer_rg8", max_mbit_s=2.5)
    source = msgspec.convert(config.source_spec(config.limits), SourceSpec)
    assert (source.width, source.rate_hz, source.pixel_format) == (320, 25.0, "bayer_rg8")
    size = {"width_px": 320, "height_px": 240, "rate_hz": 25.0}
    video = msgspec.convert({**config.video(), **size}, EncoderSpec)
    assert video.max_bits_per_s == 2_500_000


@pytest.mark.parametrize(
    ("ring_seconds", "rate_hz", "slot_bytes", "slots"),
    [
        (None, 30.0, 1 << 20, 90),
        (None, 30.0, 100 << 20, 10),  # no more than 1 GiB unasked
        (None, 0.2, 1 << 20, 4),
        (10.0, 30.0, 100 << 20, 300),  # asked for
        (0.01, 30.0, 1 << 20, 4),
        (None, 30.0, 2 << 30, 4),
    ],
)
def test_the_rings_depth(
    ring_seconds: float | None, rate_hz: float, slot_bytes: int, slots: int
) -> None:
    """Three seconds unless asked for, within bounds, and never fewer than four slots."""
    assert parsed(ring_seconds=ring_seconds).ring_slots(slot_bytes, rate_hz) == slots
