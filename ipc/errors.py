"""The error vocabulary of every process: one root, a stable code and an exit code each.

A caller may branch on the class or, across a pipe, on ``code``; the message is for the person who
reads it and says what happened, what is safe and what to do. Codes are listed in PROTOCOL.md.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "CameraError",
    "CatalogError",
    "ChannelClosed",
    "ChannelError",
    "ConfigError",
    "Corrupt",
    "DiskError",
    "EncoderError",
    "EndedEarly",
    "EngineDied",
    "EngineTimeout",
    "FormatChanged",
    "FrameTooLarge",
    "InUse",
    "KeyFileError",
    "MemoryRefused",
    "PeerDied",
    "ProtocolError",
    "SealrecError",
    "Truncated",
    "Unbalanced",
    "UnknownVersion",
    "WorkerFailed",
    "WrongKey",
    "WrongState",
    "from_code",
]


class SealrecError(Exception):
    """Root of all errors raised on purpose.

    Args:
        message: What happened, and what of the recording is safe.
        hint: What the reader can do next.
    """

    code: ClassVar[str] = "sealrec"
    exit_code: ClassVar[int] = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class ConfigError(SealrecError):
    """An option, a setting or a path that cannot be used as given."""

    code = "config"


class KeyFileError(SealrecError):
    """A key, password or public-key file that is missing, malformed or readable by others."""

    code = "key-file"


class InUse(SealrecError):
    """The recording is being written by a running engine; nothing was touched."""

    code = "in-use"


class MemoryRefused(SealrecError):
    """The ring's memory cannot be had; the message names the size needed."""

    code = "memory"


class WrongState(SealrecError):
    """The command does not fit the engine's present state; nothing was changed."""

    code = "wrong-state"


class WorkerFailed(SealrecError):
    """A worker process could not be started or gave up too often."""

    code = "worker"
    exit_code = 7


class CameraError(SealrecError):
    """The source cannot be opened or has gone for good."""

    code = "camera"
    exit_code = 7


class EncoderError(SealrecError):
    """No encoder for the asked codec, size or format opens on this machine."""

    code = "encoder"


class DiskError(SealrecError):
    """The disk takes no more: full, failing or read-only. What was durable stays durable.

    Args:
        message: See ``SealrecError``.
        hint: See ``SealrecError``.
        can_seal: The part has room for its seal, and takes nothing else.
        kept: The fragment in hand is durable nevertheless.
    """

    code = "disk"
    exit_code = 7

    def __init__(
        self, message: str, *, hint: str = "", can_seal: bool = False, kept: bool = False
    ) -> None:
        super().__init__(message, hint=hint)
        self.can_seal = can_seal
        self.kept = kept


class EndedEarly(SealrecError):
    """The recording ended before it was asked to, by disk or camera; what exists is sealed."""

    code = "ended-early"
    exit_code = 7


class ChannelError(SealrecError):
    """Root of what can go wrong on a message channel."""

    code = "channel"


class ChannelClosed(ChannelError):
    """This side closed the channel already."""

    code = "channel-closed"


class PeerDied(ChannelError):
    """The other side of the channel is gone."""

    code = "peer-died"
    exit_code = 7


class EngineDied(PeerDied):
    """The engine's process is gone, or could not be started; what was durable stays durable.

    Args:
        message: See ``SealrecError``.
        hint: See ``SealrecError``.
        pid: Of the engine; None if it never was one.
        returned: Its exit code, negative for a signal; None if it is not known.
        last_lines: What it wrote to stderr last.
    """

    code = "engine-died"

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        pid: int | None = None,
        returned: int | None = None,
        last_lines: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid
        self.returned = returned
        self.last_lines = last_lines


class EngineTimeout(SealrecError):
    """The engine did not do in time what was asked; it may do so yet.

    Args:
        message: See ``SealrecError``.
        hint: See ``SealrecError``.
        pid: Of an engine that was told to leave and has not.
    """

    code = "engine-timeout"
    exit_code = 7

    def __init__(self, message: str, *, hint: str = "", pid: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class ProtocolError(ChannelError):
    """Bytes that are no valid message: not msgpack, no known type, or fields of a wrong kind."""

    code = "protocol"


class FrameTooLarge(ProtocolError):
    """A message longer than the protocol allows; it was not read into memory."""

    code = "too-large"


class UnknownVersion(ProtocolError):
    """The peer speaks another major version of the protocol."""

    code = "version"


class FormatChanged(SealrecError):
    """A frame whose size or pixel format differs from the open part's; the part must be closed."""

    code = "format-changed"


class Truncated(SealrecError):
    """A recording part without its end: still open, or cut; the intact prefix is readable."""

    code = "incomplete"
    exit_code = 3


class Corrupt(SealrecError):
    """Bytes of a recording that are not what was written."""

    code = "corrupt"
    exit_code = 4


class WrongKey(SealrecError):
    """The given key or password does not open this recording."""

    code = "wrong-key"
    exit_code = 5


class Unbalanced(SealrecError):
    """A frame without a class, or a part that is missing."""

    code = "unbalanced"
    exit_code = 6


class CatalogError(SealrecError):
    """The catalog cannot be read or written; recordings are not affected."""

    code = "catalog"


def from_code(code: str, message: str, hint: str = "") -> SealrecError:
    """The error of a code that came over a pipe; an unknown code gives the root class."""
    pending = [SealrecError]
    while pending:
        found = pending.pop()
        if found.code == code:
            return found(message, hint=hint)
        pending += found.__subclasses__()
    return SealrecError(message, hint=hint)
