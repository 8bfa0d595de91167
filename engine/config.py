"""What a recording is asked to be, checked before anything is started.

The wire ignores unknown fields; a configuration refuses them, because a misspelt option that is
silently ignored would be a recording made otherwise than asked.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from ipc.errors import ConfigError
from ipc.frame import PixelFormat

__all__ = [
    "KeySource",
    "Limits",
    "RecordingConfig",
    "SourceConfig",
    "parse_config",
    "parse_next",
    "parse_source",
    "parse_still",
]

MAX_SIDE_PX = 16_384
MAX_RATE_HZ = 10_000
# Far beyond any treatment, and still numbers that every message and clock can hold.
MAX_SECONDS = 10**9
MAX_FRAMES = 2**40
CODECS = ("h264", "hevc", "av1", "mpeg4")
HARDWARE = ("nvenc", "qsv", "amf", "vaapi", "videotoolbox")

RING_S = 3.0
# Enough for 3 s of 1920x1200 BGR at 50 fps. More must be asked for: to get and map several GB takes
# seconds, in which nothing is recorded.
RING_BYTES = 1 << 30
MIN_SLOTS = 4
MAX_PRE_ROLL_S = 600
START_HOLD_S = 0.5
STILL_FIELDS = {"output", "keys", "session", "next_free_name"}

C = TypeVar("C", bound="SourceConfig")
Side = Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE_PX)]


@dataclass(frozen=True, slots=True)
class Limits:
    """After how much a source that is opened for one recording ends; None: when it is stopped."""

    seconds: float | None = None
    frames: int | None = None


class KeySource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where one key comes from; a recording has one slot for each.

    Attributes:
        kind: ``key_file``, ``password_file``, ``public_key`` (paths) or ``password`` (the password
            itself; only over the controller's pipe).
        value: The path, or the password.
        label: Shown by ``sealrec info``.
    """

    kind: Literal["key_file", "password_file", "public_key", "password"]
    value: str
    label: str = ""

    def __repr__(self) -> str:
        shown = "..." if self.kind == "password" else self.value
        return f"KeySource({self.kind}: {shown})"


class SourceConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A source and its ring, as asked for.

    Attributes:
        source: ``synthetic``, ``file:PATH`` or ``vimba[:ID]``.
        width, height: Pixels; None leaves the choice to the source.
        fps: Frames per second; None leaves the choice to the source.
        pixel_format: The ring's and the camera's pixel format.
        policy: ``drop`` loses and counts frames when the ring is full, ``block`` makes the source
            wait (files, benchmarks).
        realtime: Pace file and synthetic sources as a camera would.
        ring_seconds: Depth of the ring, without the pre-roll; None: 3 s, but no more than 1 GiB.
        pre_roll_s: Seconds before its start that a recording keeps, of a camera that is open; for
            the camera the most that any recording may ask for.
        camera_settings: File of the camera's settings as vmbpy or Vimba X Viewer save them, loaded
            before size, rate, format and trigger are set.
        camera_sdk_settings: VmbC.xml with which the camera SDK starts; None takes its own.
        trigger: What a camera waits for before each frame; None leaves it as it is.
    """

    source: str = "synthetic"
    width: Side | None = None
    height: Side | None = None
    fps: Annotated[float, msgspec.Meta(gt=0, le=MAX_RATE_HZ)] | None = None
    pixel_format: PixelFormat | None = None
    policy: Literal["drop", "block"] = "drop"
    realtime: bool = True
    ring_seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)] | None = None
    pre_roll_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_PRE_ROLL_S)] | None = None
    camera_settings: str | None = None
    camera_sdk_settings: str | None = None
    trigger: Literal["off", "software", "hardware"] | None = None

    @property
    def source_kind(self) -> str:
        """``synthetic``, ``file`` or ``vimba``."""
        return self.source.partition(":")[0]

    def source_spec(self, limits: Limits) -> dict[str, Any]:
        """The source's specification for the capture worker (workers/sources/source.py)."""
        frames = limits.frames
        if limits.seconds is not None and self.source_kind == "synthetic":
            by_time = max(1, round(limits.seconds * (self.fps or 30.0)))
            frames = by_time if frames is None else min(frames, by_time)
        return {
            "url": self.source,
            "width": self.width,
            "height": self.height,
            "rate_hz": self.fps,
            "pixel_format": self.pixel_format.value if self.pixel_format else None,
            "frames": frames,
            "realtime": self.realtime,
            "trigger": self.trigger,
            "settings_file": _absolute(self.camera_settings),
            "sdk_settings": _absolute(self.camera_sdk_settings),
        }

    def ring_slots(self, slot_bytes: int, rate_hz: float) -> int:
        """Frames that the ring shall hold."""
        slots = round((self.ring_seconds or RING_S) * rate_hz)
        if self.ring_seconds is None:
            slots = min(slots, RING_BYTES // slot_bytes)
        return max(MIN_SLOTS, slots) + round((self.pre_roll_s or 0) * rate_hz)

    def hold(self, rate_hz: float, slots: int) -> tuple[float, int]:
        """What an encoder that stands by keeps in the ring: seconds, and at most so many frames.

        Longer than the pre-roll, so that frames that arrive while a start is being carried out
        are still there.
        """
        hold_s = (self.pre_roll_s or 0) + START_HOLD_S
        free = max(2, min(slots // 2, round(rate_hz)))
        return hold_s, max(1, min(round(hold_s * rate_hz) + 1, slots - free))


class RecordingConfig(SourceConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One recording, as asked for; with a source that is opened for it, or as it is open.

    Attributes:
        output: Final path of part 0; empty: data/sessions/<session_id>/recording.mp4.enc.
        keys: At least one.
        codec: ``h264``, ``hevc``, ``av1``, ``mpeg4`` or an encoder's own name.
        hardware: ``auto`` tries hardware encoders first, ``off`` never, ``only`` refuses software.
        preset: The encoder's speed preset; None takes the default.
        max_mbit_s: Cap of the bit rate in Mbit/s; None scales with size and rate.
        threads: Encoder threads; 0 lets it choose.
        seconds, frames: End after so much; None runs until stopped.
        next_free_name: Take the next free name where ``output`` exists, instead of refusing.
        camera_return_s: How long a camera may be away, or silent, before the file is sealed.
        disk_low_minutes: Warn (event ``disk_low``) when the disk has room for no more than so long.
        session: Free text fields for the session table (session_id, subject, operator, ...).
    """

    output: str = ""
    keys: list[KeySource] = []
    codec: str = "h264"
    hardware: Literal["auto", "off", "only"] = "auto"
    preset: str | None = None
    max_mbit_s: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    threads: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    seconds: Annotated[float, msgspec.Meta(gt=0, le=MAX_SECONDS)] | None = None
    frames: Annotated[int, msgspec.Meta(ge=1, le=MAX_FRAMES)] | None = None
    next_free_name: bool = False
    camera_return_s: Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)] = 30.0
    disk_low_minutes: tuple[Annotated[float, msgspec.Meta(gt=0, le=1e6)], ...] = (5.0, 1.0)
    session: dict[str, str] = {}

    @property
    def limits(self) -> Limits:
        """After how much it ends."""
        return Limits(self.seconds, self.frames)

    def base(self) -> Path:
        """Where part 0 will lie, absolute."""
        if self.output:
            return Path(self.output).absolute()
        session = self.session.get("session_id") or secrets.token_hex(6)
        folder = "".join(c if c.isalnum() or c in "-_." else "_" for c in session)
        return Path("data", "sessions", folder.lstrip(".") or "_", "recording.mp4.enc").absolute()

    def video(self) -> dict[str, Any]:
        """The encoder's specification for the encoder worker (workers/codecs/spec.py)."""
        return {
            "codec": self.codec,
            "hardware": self.hardware,
            "preset": self.preset,
            "threads": self.threads,
            "max_bits_per_s": round((self.max_mbit_s or 0) * 1e6),
        }


def parse_config(fields: dict[str, Any]) -> RecordingConfig:
    """Check the configuration of a recording for which its source is opened.

    Raises:
        ConfigError: an unknown field, a value of the wrong kind or out of range, no key, or a
            file source that is not there.
    """
    config = _checked(fields)
    if config.pre_roll_s:
        raise ConfigError(
            "There are no frames before the start of a recording that opens its own camera.",
            hint="Open the camera first, with the pre-roll; or leave pre_roll_s out.",
        )
    return config


def parse_source(fields: dict[str, Any]) -> SourceConfig:
    """Check the configuration of a source that stays open between recordings.

    Raises:
        ConfigError: see `parse_config`; also policy ``block``, whose source waits for nobody here.
    """
    config = _convert(fields, SourceConfig)
    _check_source(config)
    if config.policy == "block":
        raise ConfigError(
            "A camera that stays open cannot wait for the encoder.", hint="Leave policy out."
        )
    return config


def parse_next(fields: dict[str, Any], source: SourceConfig) -> RecordingConfig:
    """Check the configuration of a recording of a source that is open.

    Raises:
        ConfigError: see `parse_config`; also fields that contradict the open source.
    """
    config = _checked(fields)
    opened = {name: getattr(source, name) for name in SourceConfig.__struct_fields__}
    pre_roll_s = opened.pop("pre_roll_s") or 0.0
    other = [n for n, v in opened.items() if n in fields and getattr(config, n) != v]
    if other:
        raise ConfigError(
            f"The camera is open with another {', '.join(other)}.",
            hint="Close it to change that, or leave it out.",
        )
    if (config.pre_roll_s or 0) > pre_roll_s:
        raise ConfigError(
            f"The open camera keeps {pre_roll_s:g} s for a pre-roll, not {config.pre_roll_s:g}.",
            hint="Open it with a longer pre_roll_s.",
        )
    if config.frames is not None:
        raise ConfigError(
            "A recording of an open camera ends by time or by stop, not by a number of frames.",
            hint="Give seconds instead of frames.",
        )
    asked = pre_roll_s if config.pre_roll_s is None else config.pre_roll_s
    return msgspec.structs.replace(config, **opened, pre_roll_s=asked)


def parse_still(fields: dict[str, Any]) -> RecordingConfig:
    """Check where a still goes and who may open it.

    Raises:
        ConfigError: see `parse_config`; also fields that say nothing of a still.
    """
    other = sorted(fields.keys() - STILL_FIELDS)
    if other:
        raise ConfigError(f"A still has no {', '.join(map(str, other))[:200]}.")
    return _checked(fields)


def _checked(fields: dict[str, Any]) -> RecordingConfig:
    config = _convert(fields, RecordingConfig)
    if not config.keys:
        raise ConfigError(
            "A recording needs at least one key.",
            hint="Give --key-file, --password-file or --public-key; `sealrec keys new FILE` "
            "makes a key file.",
        )
    _check_source(config)
    return config


def _convert(fields: dict[str, Any], kind: type[C]) -> C:
    try:
        config = msgspec.convert(fields, kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The recording's settings are not valid: {error}.") from error
    if any("\0" in path for path in _paths(config)) or not _is_utf8(config):
        raise ConfigError(
            "A path or text of the recording's settings is not one that can be used.",
            hint="Use names in UTF-8, without zero characters.",
        )
    return config


def _check_source(config: SourceConfig) -> None:
    kind, _, target = config.source.partition(":")
    if kind == "file" and not _is_file(target):
        raise ConfigError(f"There is no video file {target!r}.", hint="Check --source file:PATH.")
    for path in (config.camera_settings, config.camera_sdk_settings):
        if path is not None and not _is_file(path):
            raise ConfigError(f"There is no settings file {path!r}.")
    if kind not in ("synthetic", "file", "vimba"):
        raise ConfigError(
            f"There is no source {config.source!r}.",
            hint="Use synthetic, file:PATH or vimba[:ID].",
        )


def _paths(config: SourceConfig) -> list[str]:
    """All texts that name a file."""
    named = [config.source, config.camera_settings, config.camera_sdk_settings]
    if isinstance(config, RecordingConfig):
        named += [config.output, *(k.value for k in config.keys if k.kind != "password")]
    return [path for path in named if path is not None]


def _is_file(path: str) -> bool:
    """Whether there is such a file; False also for a name that none can have."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def _is_utf8(config: SourceConfig) -> bool:
    """Whether all texts can be sent to a worker; names of files may hold any bytes on Linux."""
    try:
        msgspec.msgpack.encode(config)
    except UnicodeEncodeError:
        return False
    return True


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())
