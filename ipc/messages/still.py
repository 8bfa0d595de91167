"""Between the engine and the process that seals a still (workers/still.py)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ipc.messages.common import Count, Failure, Hello, Message, Shutdown, Text, WorkerStatus

__all__ = ["FromStill", "SealStill", "StillRefused", "StillSealed", "ToStill"]


class SealStill(Message, frozen=True, tag="seal_still"):
    """Seal one frame as a part of its own.

    Attributes:
        path: Final name.
        header: 4096 bytes, state open (FORMAT.md).
        dek: The data key; exists on this pipe and in locked memory only.
        seq: The frame; the newest one where that is gone.
        rate_hz: Nominal frame rate: the frame lasts one period.
        session, camera, software: The session table's content.
    """

    call: Count
    path: str
    header: bytes
    dek: bytes
    seq: Count
    rate_hz: Annotated[float, msgspec.Meta(gt=0, le=100_000)]
    session: dict[str, str] = {}
    camera: dict[str, str] = {}
    software: str = ""

    def __repr__(self) -> str:
        # The data key must not reach a log by way of a message's repr.
        return f"SealStill(call={self.call}, path={self.path!r})"


class StillSealed(Message, frozen=True, tag="still_sealed"):
    """It is durable, under its final name; what tells its part from any other, for the audit."""

    call: Count
    path: str
    size_bytes: Count
    frame_id: int
    camera_ns: int
    chunk_count: Count
    generation: Count
    header_mac: bytes
    commitment: bytes
    end_pts: int


class StillRefused(Message, frozen=True, tag="still_refused"):
    """It could not be made."""

    call: Count
    code: Text
    message: Text
    hint: Text = ""


ToStill = Hello | SealStill | Shutdown
FromStill = Hello | Failure | StillSealed | StillRefused | WorkerStatus
