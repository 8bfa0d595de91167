"""What one recording tells the catalog, said where it happens in a line each.

It turns the engine's own values into facts (catalog/facts.py) and hands them to whoever takes them:
the catalog's feed, or nobody. Nothing is told before the recording has begun, so one that never
does leaves no trace in the catalog either.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.catalog.facts import (
    Began,
    Fact,
    FramesLost,
    Marked,
    PartClosed,
    PartOpened,
    Paused,
    Resumed,
    Stopped,
)
from ipc.frame import Loss
from ipc.messages import NoteEvent, PartSealed, StillSealed

if TYPE_CHECKING:
    from engine.config import RecordingConfig
    from engine.container.header import Header
    from engine.parts import Part, PartRecovered

__all__ = ["Chronicle", "Put", "earlier_part", "nobody", "still_sealed"]

Put = Callable[[Fact], object]


def nobody(fact: Fact) -> None:
    """Takes facts where there is no catalog."""


class Chronicle:
    """One recording's facts, in order.

    Args:
        put: Takes each fact; never waits.
        recording_id: 16 bytes.
    """

    def __init__(self, put: Put, recording_id: bytes) -> None:
        self._put, self._id = put, recording_id
        self._before: list[Fact] | None = []

    def _tell(self, fact: Fact) -> None:
        if self._before is None:
            self._put(fact)
        else:
            self._before.append(fact)

    def began(self, base: Path, config: RecordingConfig) -> None:
        """Frames are recorded from now on."""
        before, self._before = self._before, None
        self._tell(
            Began(recording_id=self._id, path=base, source=config.source, session=config.session)
        )
        for fact in before or ():
            self._tell(fact)

    def part_opened(self, part: Part) -> None:
        """A part is open; the first one goes without saying."""
        if part.index:
            self._tell(PartOpened(recording_id=self._id, part=part.index, path=part.path))

    def part_sealed(self, part: Part, message: PartSealed) -> None:
        """Its encoder has sealed a part."""
        self._tell(
            PartClosed(
                recording_id=self._id,
                part=part.index,
                path=part.path,
                state="sealed",
                generation=message.generation,
                chunk_count=message.chunk_count,
                header_mac=message.header_mac,
                commitment=part.commitment,
                size_bytes=message.size_bytes,
            )
        )

    def part_recovered(self, item: PartRecovered) -> None:
        """A part whose encoder had died was closed, or is found to be."""
        part, header = item.part, item.header
        if header is not None:
            self._tell(_closed(header, part.path, item.state, part.commitment, part.file_bytes))

    def lost(self, losses: list[Loss]) -> None:
        """Frames that are in no file, and gaps."""
        if losses:
            self._tell(FramesLost(recording_id=self._id, losses=tuple(losses)))

    def marked(self, note: NoteEvent) -> None:
        """A mark of the controller's."""
        self._tell(
            Marked(recording_id=self._id, host_ns=note.host_ns, kind=note.kind, text=note.text)
        )

    def paused(self, *, paused: bool) -> None:
        """A pause begins or ends."""
        self._tell(Paused(recording_id=self._id) if paused else Resumed(recording_id=self._id))

    def stopped(self, result: Mapping[str, Any]) -> None:
        """It is over.

        Args:
            result: The balance sheet.
        """
        self._tell(
            Stopped(
                recording_id=self._id,
                state=result["state"],
                frames_offered=result["frames_offered"],
                frames_written=result["frames_written"],
                gaps=result["gaps"],
                balanced=result["balanced"],
                duration_s=result["duration_s"],
                size_bytes=result["size_bytes"],
                parts=len(result["parts"]),
                problem=result.get("problem", {}).get("code", ""),
            )
        )


def still_sealed(
    put: Put, recording_id: bytes, message: StillSealed, session: Mapping[str, str], source: str
) -> None:
    """A still is a recording that has begun, is sealed and over at once."""
    path = Path(message.path)
    put(Began(recording_id=recording_id, path=path, source=source, session=session, still=True))
    put(
        PartClosed(
            recording_id=recording_id,
            part=0,
            path=path,
            state="sealed",
            generation=message.generation,
            chunk_count=message.chunk_count,
            header_mac=message.header_mac,
            commitment=message.commitment,
            size_bytes=message.size_bytes,
        )
    )
    put(
        Stopped(
            recording_id=recording_id,
            state="sealed",
            frames_offered=1,
            frames_written=1,
            gaps=0,
            balanced=True,
            duration_s=round(message.end_pts / 90_000, 6),
            size_bytes=message.size_bytes,
            parts=1,
        )
    )


def earlier_part(path: Path, header: Header | None, commitment: bytes, state: str) -> Fact | None:
    """The fact that a part of an earlier run was closed; None if it held nothing."""
    if header is None or state not in ("sealed", "recovered"):
        return None
    return _closed(header, path, state, commitment, None, earlier=True)


def _closed(  # noqa: PLR0913 - one argument for each thing that is known
    header: Header,
    path: Path,
    state: str,
    commitment: bytes,
    size_bytes: int | None,
    *,
    earlier: bool = False,
) -> PartClosed:
    return PartClosed(
        recording_id=header.core.recording_id,
        part=header.core.part_index,
        path=path,
        state=state,
        generation=header.generation,
        chunk_count=header.chunk_count,
        header_mac=header.mac,
        commitment=commitment,
        size_bytes=size_bytes,
        payload_bytes=header.payload_bytes,
        earlier=earlier,
    )
