"""What a recording of simulated cameras holds, beside what the cameras themselves logged.

Not a test. The file is read by the project's reader; the cameras' log is the producer's own
(tests/gentl).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from engine.container.reader import RecordingReader
from engine.container.tables import FrameRow, Note
from engine.keys import secret_from
from engine.reading.pictures import decode
from ipc.frame import Loss, LossClass
from tests.gentl.simulator import LedgerRow, SimulatedCameras

__all__ = ["Recorded", "assert_as_produced", "produced", "read_recording"]

FRAMES = ("delivered", "incomplete", "skipped", "no_buffer")


@dataclass(slots=True)
class Recorded:
    """The tables of all parts, in order.

    Attributes:
        frames: Rows of written frames.
        lost: Rows of losses.
        events: What the engine noted.
        camera: The session table's camera map, of the first part.
        barcodes: Number in each picture, None if it has none; empty unless asked for.
        parts: How many there are.
    """

    frames: list[FrameRow] = field(default_factory=list)
    lost: list[Loss] = field(default_factory=list)
    events: list[Note] = field(default_factory=list)
    camera: dict[str, str] = field(default_factory=dict)
    barcodes: list[int | None] = field(default_factory=list)
    parts: int = 0

    @property
    def gaps(self) -> list[Loss]:
        """Gaps whose ids nobody knows."""
        return [loss for loss in self.lost if loss.first_id is None]

    @property
    def epochs(self) -> list[int]:
        """Epochs of the frames, in order, each once."""
        return [epoch for epoch, _ in groupby(row.epoch for row in self.frames)]

    def lost_ids(self, loss_class: LossClass) -> list[int]:
        """Ids of the frames lost in a class."""
        rows = [loss for loss in self.lost if loss.loss_class is loss_class]
        return [id_ for loss in rows for id_ in _ids(loss)]

    def kinds(self, *among: str) -> list[str]:
        """Kinds of the events, in order; of these alone if any are given."""
        return [note.kind for note in self.events if not among or note.kind in among]


def _ids(loss: Loss) -> range:
    if loss.first_id is None or loss.last_id is None:
        return range(0)
    return range(loss.first_id, loss.last_id + 1)


def read_recording(path: Path, key_file: Path, *, barcodes: bool = False) -> Recorded:
    """Read everything that a recording says of its frames."""
    recorded = Recorded()
    with RecordingReader.open(path, secret_from(key_file=key_file)) as reader:
        session = reader.parts[0].session
        assert session is not None
        recorded.camera, recorded.parts = session.camera, len(reader.parts)
        for part in reader.parts:
            tables = [fragment.table for fragment in part.fragments()]
            assert part.seal is not None
            for table in (*tables, part.seal):
                recorded.lost += table.lost
                recorded.events += table.events
            recorded.frames += [row for table in tables for row in table.frames]
            if barcodes:
                recorded.barcodes += [picture.number for picture in decode(part, barcodes=True)]
    return recorded


def produced(cameras: SimulatedCameras, camera: int = 0) -> list[list[LedgerRow]]:
    """What the camera did with each frame, one list for each acquisition."""
    rows = cameras.ledger(*FRAMES, camera=camera)
    return [list(group) for _, group in groupby(rows, lambda row: (row.pid, row.acquisition))]


def assert_as_produced(
    recorded: Recorded, cameras: SimulatedCameras, camera: int = 0
) -> list[list[LedgerRow]]:
    """Every frame that the camera delivered is written once, in order, with its id and time.

    Every other one is lost in the class that the camera's log gives it. What an acquisition did
    after its last frame in the file was done while it was being stopped or had lost its camera.

    Returns:
        Those ends, one for each acquisition.
    """
    written = iter((row.frame_id, row.camera_ns) for row in recorded.frames)
    gaps = iter(recorded.lost_ids(LossClass.CAMERA_GAP))
    damaged = iter(recorded.lost_ids(LossClass.INCOMPLETE))
    ends, next_written = [], next(written, None)
    for acquisition in produced(cameras, camera):
        matched: list[LedgerRow] = []
        for row in acquisition:
            if row.what == "delivered" and (row.frame_id, row.timestamp_ns) == next_written:
                matched.append(row)
                next_written = next(written, None)
        place = acquisition.index(matched[-1]) + 1 if matched else 0
        accounted, end = acquisition[:place], acquisition[place:]
        assert [row for row in accounted if row.what == "delivered"] == matched
        for row in accounted:
            if row.what == "incomplete":
                assert next(damaged, None) == row.frame_id
            elif row.what != "delivered":
                assert next(gaps, None) == row.frame_id
        ends.append(end)
    assert next_written is None, f"frame {next_written} was never delivered"
    assert (next(gaps, None), next(damaged, None)) == (None, None), recorded.lost
    return ends
