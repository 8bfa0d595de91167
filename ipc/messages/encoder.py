"""Between the engine and the encoder process (workers/encoder.py)."""

from __future__ import annotations

from typing import Any, ClassVar

from ipc.messages.common import (
    Count,
    Delivery,
    Event,
    Failure,
    Hello,
    LossRow,
    Message,
    Shutdown,
    Text,
    WorkerStatus,
)

__all__ = [
    "EncoderStatus",
    "EpochMapped",
    "FinishRecording",
    "FragmentDurable",
    "FramesLost",
    "FromEncoder",
    "NoteEvent",
    "OpenPart",
    "PartFailed",
    "PartNeeded",
    "PartOpened",
    "PartSealed",
    "PausePlaced",
    "RecordingBegan",
    "RecordingEnded",
    "SetPaused",
    "StandBy",
    "StandingBy",
    "ToEncoder",
]


class StandBy(Message, frozen=True, tag="stand_by"):
    """Read the ring and record nothing, but keep the newest frames in it.

    Attributes:
        hold_s: How long a frame is kept from its arrival on.
        hold_frames: At most so many are kept.
    """

    hold_s: float
    hold_frames: Count


class OpenPart(Message, frozen=True, tag="open_part"):
    """Open the next part of a recording with a header that the engine has built.

    Attributes:
        path: Final name of the part.
        header: 4096 bytes, state open (FORMAT.md).
        dek: The data key; exists on this pipe and in locked memory only.
        video: Encoder settings (workers/codecs/spec.py).
        frame: Width, height, pixel format and rate expected of the ring.
        session: The session table's content.
        host_origin_ns: Host time of the recording's first frame, None if none was written yet.
        epoch_offsets: ``[epoch, offset_ns]``: media time = camera time + offset.
        previous: Ledger snapshot of the parts before this one.
        may_lighten: Whether the encoder may go faster, at the cost of quality, when the ring fills.
        stand_by: What to do once the recording is over; None: leave.
        since_ns: The recording begins with the first frame that arrived at this time or later;
            None: with the next one, or it has begun.
        live_ns: Frames that arrived before are its pre-roll.
        pauses: ``[host_ns, paused, since_seq]``: each pause and each end of one, for frames that
            arrived then or later, but none before ``since_seq``.
    """

    index: Count
    path: str
    header: bytes
    dek: bytes
    video: dict[str, Any]
    frame: dict[str, Any]
    session: dict[str, Any]
    host_origin_ns: int | None = None
    epoch_offsets: list[tuple[int, int]] = []
    previous: dict[str, Any] = {}
    may_lighten: bool = True
    stand_by: StandBy | None = None
    since_ns: int | None = None
    live_ns: int = 0
    pauses: list[tuple[int, bool, int]] = []

    def __repr__(self) -> str:
        # The data key must not reach a log by way of a message's repr.
        return f"OpenPart(index={self.index}, path={self.path!r})"


class FinishRecording(Message, frozen=True, tag="finish_recording"):
    """Drain the ring up to ``through`` (a cursor), seal the last part, and say so.

    ``losses_through`` is the same for the loss log. ``gap`` is the time from the last frame to the
    end, of a camera that did not come back. ``audit_head`` is where the catalog's audit ends, as
    far as that is known; the seal keeps it.
    """

    through: Count
    previous: dict[str, Any] = {}
    gap: LossRow | None = None
    losses_through: Count | None = None
    audit_head: Text = ""


class NoteEvent(Message, frozen=True, tag="note_event"):
    """Something to be written into the next fragment's ``events`` or ``marks`` (FORMAT.md).

    ``serial`` grows from note to note of a recording. What is durable comes back as the ``notes``
    of a fragment or a seal; what is not is sent again to a successor.
    """

    host_ns: Count
    kind: Text
    text: Text = ""
    serial: Count = 0
    mark: bool = False


class SetPaused(Message, frozen=True, tag="set_paused"):
    """Frames that arrive from ``host_ns`` on are named as ``paused``, or written again."""

    host_ns: Count
    paused: bool


class StandingBy(Message, frozen=True, tag="standing_by"):
    """The encoder reads the ring and records nothing."""


class RecordingBegan(Message, frozen=True, tag="recording_began"):
    """Where in the ring the recording begins.

    Attributes:
        first_seq: Sequence number of its first frame.
        lost_before: Frames lost in the ring's loss log before it.
    """

    first_seq: Count
    lost_before: Count


class PausePlaced(Message, frozen=True, tag="pause_placed"):
    """Where in the ring a pause, or its end, took effect: a successor must use the same place.

    Attributes:
        host_ns: Of the order.
        since_seq: No frame before this one heeds it: those were given out already.
    """

    host_ns: Count
    since_seq: Count


class RecordingEnded(Message, frozen=True, tag="recording_ended"):
    """Where in the ring the recording ends: ``through`` and ``lost`` count up to there.

    ``losses_through`` is the same place in the loss log.
    """

    through: Count
    lost: Count
    losses_through: Count


class PartOpened(Message, frozen=True, tag="part_opened"):
    """The part's header and preamble are durable and its encoder is open."""

    index: Count
    path: str
    encoder: Text
    hardware: bool
    settings: dict[str, str] = {}


class EpochMapped(Message, frozen=True, tag="epoch_mapped"):
    """An epoch's place on the recording's time line; a successor must use the same."""

    epoch: Count
    offset_ns: int
    host_origin_ns: int


class FragmentDurable(Message, frozen=True, tag="fragment_durable"):
    """One fragment lies on the disk, and its header checkpoint too.

    Attributes:
        rows: ``[first_seq, last_seq, epoch, first_id]``: runs of written frames.
        lost: Loss rows as in FORMAT.md.
        committed: The ring's committed cursor after it.
        pts_end: Where the fragment ends, 90 kHz.
        file_bytes: Size of the part's file now.
        write_s: Time spent in write.
        sync_s: Time spent in fdatasync, the header's included.
        first_host_ns: Arrival of its first frame; None without frames.
        last_host_ns: Arrival of its last frame.
        durable_ns: When it was durable, on the same clock.
        notes: Highest serial of the notes it holds; 0: none.
    """

    part: Count
    committed: Count
    rows: list[tuple[int, int, int, int]]
    lost: list[LossRow]
    pts_end: int
    file_bytes: Count
    write_s: float
    sync_s: float
    first_host_ns: int | None = None
    last_host_ns: int | None = None
    durable_ns: int = 0
    notes: Count = 0


class FramesLost(Message, frozen=True, tag="frames_lost"):
    """Losses that no file can hold any more (the disk takes nothing); rows as in FORMAT.md."""

    part: Count
    lost: list[LossRow]


class PartNeeded(Message, frozen=True, tag="part_needed"):
    """The frames changed in size or format; the part was sealed and the next one is wanted."""

    width_px: Count
    height_px: Count
    pixel_format: Text


class PartSealed(Message, frozen=True, tag="part_sealed"):
    """A part is sealed under its final name."""

    index: Count
    path: str
    size_bytes: Count
    chunk_count: Count
    generation: Count
    header_mac: bytes
    end_pts: int
    last: bool
    lost: list[LossRow] = []
    totals: dict[str, int] = {}
    notes: Count = 0


class PartFailed(Message, frozen=True, tag="part_failed"):
    """A part cannot go on; ``resolved`` says whether it was sealed all the same."""

    index: Count
    code: Text
    message: Text
    hint: Text = ""
    sealed: bool = False


class EncoderStatus(Message, frozen=True, tag="encoder_status"):
    """The encoder's live figures, with its heartbeat."""

    delivery: ClassVar[Delivery] = "newest"
    fps: float
    encoded: Count
    queue_bytes: Count
    queue_items: Count
    stall_s: float
    encode_ms: float
    convert_ms: float
    speed: Text = ""
    overload: bool = False


ToEncoder = Hello | StandBy | OpenPart | SetPaused | FinishRecording | NoteEvent | Shutdown
FromEncoder = (
    Hello
    | Failure
    | StandingBy
    | RecordingBegan
    | PausePlaced
    | RecordingEnded
    | PartOpened
    | EpochMapped
    | FragmentDurable
    | FramesLost
    | PartNeeded
    | PartSealed
    | PartFailed
    | EncoderStatus
    | WorkerStatus
    | Event
)
