"""The core of a part: the first 128 bytes of its file, which never change.

Every slot and every payload chunk is bound to these bytes. The mutable rest is ``header``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from engine.container.payload import CHUNK, PAYLOAD_OFFSET
from ipc.errors import ConfigError, Corrupt

__all__ = ["CORE_BYTES", "HEADER_BYTES", "MAGIC", "VERSION", "Core", "new_core"]

MAGIC: Final = b"\x89SRV\r\n\x1a\n"
VERSION: Final = 1
HEADER_BYTES: Final = 4096
CORE_BYTES: Final = 128

_FLAGS: Final = 0
_SUITE: Final = 1
_MEDIA: Final = 1
_MAX_U32: Final = 2**32 - 1
# magic, version, header_size, flags, recording_id, part_index, suite, media, created_unix_ms,
# payload_offset, chunk_size, reserved, previous_part, reserved
_CORE: Final = struct.Struct(">8sHHI16sIHHQQII32s32s")


@dataclass(frozen=True, slots=True)
class Core:
    """The first 128 bytes of a part; they never change.

    Attributes:
        recording_id: 16 random bytes, the same in every part.
        part_index: 0, 1, ...
        created_unix_ms: UTC, milliseconds.
        previous_part: 32 bytes, key commitment of the part before; zeros for part 0.
    """

    recording_id: bytes
    part_index: int
    created_unix_ms: int
    previous_part: bytes

    def pack(self) -> bytes:
        """The 128 bytes of FORMAT.md."""
        return _CORE.pack(
            MAGIC,
            VERSION,
            HEADER_BYTES,
            _FLAGS,
            self.recording_id,
            self.part_index,
            _SUITE,
            _MEDIA,
            self.created_unix_ms,
            PAYLOAD_OFFSET,
            CHUNK,
            0,
            self.previous_part,
            bytes(32),
        )

    @classmethod
    def parse(cls, raw: bytes) -> Core:
        """Read the first 128 bytes of a header copy.

        Raises:
            Corrupt: not the core of a format version 1 file.

        Source: FORMAT.md, "Core".
        """
        if len(raw) != CORE_BYTES:
            raise Corrupt("The file ends within its header.")
        fields = _CORE.unpack(raw)
        core = cls(fields[4], fields[5], fields[8], fields[12])
        # Every other field is fixed: packing must give the same bytes again.
        if core.pack() != raw or (core.part_index == 0 and any(core.previous_part)):
            raise Corrupt("This is not the header of a sealed recording, format version 1.")
        return core


def new_core(
    *,
    recording_id: bytes,
    part_index: int,
    created_unix_ms: int,
    previous_part: bytes = bytes(32),
) -> bytes:
    """The 128-byte core of a new part.

    Args:
        recording_id: 16 random bytes, the same for every part of a recording.
        part_index: 0, 1, ...
        created_unix_ms: UTC, milliseconds.
        previous_part: 32-byte key commitment of part ``part_index - 1``; zeros for part 0 only.

    Raises:
        ConfigError: a field of the wrong size, or a part without its predecessor's commitment.
    """
    if len(recording_id) != 16 or len(previous_part) != 32:
        raise ConfigError("A recording id has 16 bytes and a commitment 32.")
    if not 0 <= part_index <= _MAX_U32 or any(previous_part) != (part_index > 0):
        raise ConfigError("Part 0 has no previous part, and every other part has one.")
    return Core(recording_id, part_index, created_unix_ms, previous_part).pack()
