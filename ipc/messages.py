"""Every message between the processes, as typed structs (PROTOCOL.md).

The same framing carries all of them, over the controller's stdin/stdout and over the workers'
pipes. Unknown fields are ignored, unknown types are a ``ProtocolError``; versions are agreed in
``Hello``. Nothing here reads or writes a pipe: that is ``channel``.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from ipc.camera_control import CameraChanges, CameraState
from ipc.frame import Loss, LossClass

__all__ = [
    "PROTOCOL_MAJOR",
    "PROTOCOL_MINOR",
    "AskCamera",
    "BeginStream",
    "CameraRefused",
    "CameraRow",
    "CameraTold",
    "CamerasListed",
    "CloseCamera",
    "Control",
    "Delivery",
    "EncoderStatus",
    "EndStream",
    "EpochMapped",
    "Event",
    "Failure",
    "FinishRecording",
    "FireTrigger",
    "FragmentDurable",
    "FramesLost",
    "FromCameras",
    "FromCapture",
    "FromController",
    "FromEncoder",
    "FromStill",
    "GetCamera",
    "GetStatus",
    "Hello",
    "ListCameras",
    "LossRow",
    "Mark",
    "Message",
    "NoteEvent",
    "ObserveRing",
    "OpenCamera",
    "OpenPart",
    "OpenSource",
    "PartFailed",
    "PartNeeded",
    "PartOpened",
    "PartSealed",
    "Pause",
    "PausePlaced",
    "RecordingBegan",
    "RecordingEnded",
    "Reply",
    "Resume",
    "SaveStill",
    "SealStill",
    "SetCamera",
    "SetPaused",
    "Shutdown",
    "SourceHeard",
    "SourceOpened",
    "SourceSilent",
    "StandBy",
    "StandingBy",
    "StartRecording",
    "Status",
    "StillRefused",
    "StillSealed",
    "StopRecording",
    "StreamEnded",
    "ToCameras",
    "ToCapture",
    "ToController",
    "ToEncoder",
    "ToStill",
    "Trigger",
    "WorkerStatus",
]

PROTOCOL_MAJOR = 1
PROTOCOL_MINOR = 0

Delivery = Literal["newest", "event", "must"]

Count = Annotated[int, msgspec.Meta(ge=0)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]


class Message(msgspec.Struct, frozen=True, tag_field="type"):
    """Root of all messages; ``type`` on the wire is the class name in snake case.

    ``delivery`` says what the sender's outbox does when the peer does not read: ``newest`` keeps
    only the last one, ``event`` queues up to 1,024 and then collapses, ``must`` is never dropped.
    """

    delivery: ClassVar[Delivery] = "must"


class LossRow(msgspec.Struct, frozen=True, array_like=True):
    """A loss as FORMAT.md writes it: class, epoch, first and last id, first and last host time."""

    label: Text
    epoch: Count
    first_id: Count | None
    last_id: Count | None
    first_host_ns: int
    last_host_ns: int

    @classmethod
    def of(cls, loss: Loss) -> LossRow:
        """The row of a loss."""
        return cls(
            loss.loss_class.label,
            loss.epoch,
            loss.first_id,
            loss.last_id,
            loss.first_host_ns,
            loss.last_host_ns,
        )

    def loss(self) -> Loss:
        """The loss of a row.

        Raises:
            KeyError: no such class.
        """
        return Loss(
            LossClass[self.label.upper()],
            self.epoch,
            self.first_id,
            self.last_id,
            self.first_host_ns,
            self.last_host_ns,
        )


# --- both directions -------------------------------------------------------------------------


class Hello(Message, frozen=True, tag="hello"):
    """First message of either side; another major version is refused."""

    major: Count
    minor: Count = 0
    role: Text = ""
    software: Text = ""


class Failure(Message, frozen=True, tag="failure"):
    """Something that went wrong, with its stable code (PROTOCOL.md, "Error codes")."""

    code: Text
    message: Text
    hint: Text = ""


# --- controller -> engine --------------------------------------------------------------------


class StartRecording(Message, frozen=True, tag="start"):
    """Start a recording; answered when frames can be recorded."""

    call: Count
    config: dict[str, Any]

    def __repr__(self) -> str:
        # The configuration may carry a password.
        return f"StartRecording(call={self.call})"


class StopRecording(Message, frozen=True, tag="stop"):
    """Stop and seal; answered with the balance sheet when the file is sealed."""

    call: Count


class OpenCamera(Message, frozen=True, tag="open"):
    """Open the camera and stream, without recording; answered when frames can be recorded."""

    call: Count
    config: dict[str, Any] = {}


class CloseCamera(Message, frozen=True, tag="close"):
    """Seal what is being recorded and close the camera; answered when its process has left."""

    call: Count


class Pause(Message, frozen=True, tag="pause"):
    """Write no frames until ``resume``; each is named as ``paused``."""

    call: Count


class Resume(Message, frozen=True, tag="resume"):
    """Write frames again."""

    call: Count


class Mark(Message, frozen=True, tag="mark"):
    """Write something that happened (laser on, a protocol's step) into the file, with its time."""

    call: Count
    kind: Text
    text: Text = ""


class Trigger(Message, frozen=True, tag="trigger"):
    """Let a camera that waits for software triggers take one frame; answered when it was asked."""

    call: Count


class GetCamera(Message, frozen=True, tag="get_camera"):
    """Ask for the settings of the open camera, as read back."""

    call: Count


class SetCamera(Message, frozen=True, tag="set_camera"):
    """Change settings of the open camera (camera_control.py); answered with what is set then."""

    call: Count
    changes: dict[str, Any]


class ObserveRing(Message, frozen=True, tag="observe"):
    """Ask for the frame ring's memory, to look at (handover.py)."""

    call: Count


class SaveStill(Message, frozen=True, tag="save_still"):
    """Seal the newest frame as a recording of its own; answered when it is durable."""

    call: Count
    config: dict[str, Any]

    def __repr__(self) -> str:
        # The configuration may carry a password.
        return f"SaveStill(call={self.call})"


class GetStatus(Message, frozen=True, tag="get_status"):
    """Ask for the present status."""

    call: Count


class Shutdown(Message, frozen=True, tag="shutdown"):
    """Stop a running recording, seal it, and leave."""

    call: Count = 0


# --- engine -> controller --------------------------------------------------------------------


class Reply(Message, frozen=True, tag="reply"):
    """The answer to one call: a result, or an error."""

    call: Count
    ok: bool
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None


class Status(Message, frozen=True, tag="status"):
    """The engine's state, five times a second; only the newest is kept for a slow reader."""

    delivery: ClassVar[Delivery] = "newest"
    status: dict[str, Any]


class Event(Message, frozen=True, tag="event"):
    """Something that happened, once."""

    delivery: ClassVar[Delivery] = "event"
    kind: Text
    host_ns: Count
    text: Text = ""
    details: dict[str, Any] = {}


# --- engine -> capture -----------------------------------------------------------------------


class OpenSource(Message, frozen=True, tag="open_source"):
    """Open the source named in ``spec`` (workers/sources/source.py)."""

    spec: dict[str, Any]
    policy: Literal["drop", "block"]


class BeginStream(Message, frozen=True, tag="begin_stream"):
    """The ring is allocated and the file is open: deliver frames from now on."""

    max_frames: Count | None = None


class EndStream(Message, frozen=True, tag="end_stream"):
    """Stop the source; everything published stays in the ring."""


class FireTrigger(Message, frozen=True, tag="fire_trigger"):
    """Give the source one software trigger; nothing happens if it takes none."""


class AskCamera(Message, frozen=True, tag="ask_camera"):
    """Change the camera's settings, if any are given, and tell what they are."""

    call: Count
    changes: CameraChanges | None = None


# --- capture -> engine -----------------------------------------------------------------------


class SourceOpened(Message, frozen=True, tag="source_opened"):
    """The source is open and says what it will deliver.

    Attributes:
        width_px: Frame width.
        height_px: Frame height.
        pixel_format: `ipc.frame.PixelFormat`.
        rate_hz: Nominal frame rate.
        camera: Model, serial number and settings as read back.
        triggered: Frames come when something outside says so: their absence is no fault.
        settings: All of the camera's settings as text, to be given back when it is opened again.
    """

    width_px: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    height_px: Annotated[int, msgspec.Meta(ge=1, le=65536)]
    pixel_format: Text
    rate_hz: Annotated[float, msgspec.Meta(gt=0, le=100_000)]
    camera: dict[str, str] = {}
    triggered: bool = False
    settings: str = ""


class SourceSilent(Message, frozen=True, tag="source_silent"):
    """The source should deliver frames and does not; ``SourceHeard`` or ``StreamEnded`` follows."""

    reason: Text


class SourceHeard(Message, frozen=True, tag="source_heard"):
    """Frames come: the first of a stream, or the first after a silence."""


class CameraTold(Message, frozen=True, tag="camera_told"):
    """What is set now; ``rate_hz`` is the rate at which frames are to be expected."""

    call: Count
    state: CameraState
    rate_hz: Annotated[float, msgspec.Meta(gt=0, le=100_000)]


class CameraRefused(Message, frozen=True, tag="camera_refused"):
    """The camera cannot do what was asked."""

    call: Count
    code: Text
    message: Text
    hint: Text = ""


class StreamEnded(Message, frozen=True, tag="stream_ended"):
    """No more frames from this source; the ring's cursors say how many there were."""

    reason: Text


class WorkerStatus(Message, frozen=True, tag="worker_status"):
    """A worker's own measure of itself; also its heartbeat."""

    delivery: ClassVar[Delivery] = "newest"
    cpu_s: float
    pss_bytes: Count
    private_bytes: Count
    descriptors: Count
    threads: Count
    detail: dict[str, Any] = {}
    shared_bytes: Count = 0


# --- engine -> encoder -----------------------------------------------------------------------


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


# --- encoder -> engine -----------------------------------------------------------------------


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


# --- engine <-> still (workers/still.py) -------------------------------------------------------


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


# --- engine <-> cameras (workers/cameras.py) --------------------------------------------------


class ListCameras(Message, frozen=True, tag="list_cameras"):
    """Look for cameras and answer with ``CamerasListed`` or ``Failure``.

    Attributes:
        sdk_settings: File with which the camera SDK starts; empty: its own.
    """

    sdk_settings: str = ""


class CameraRow(msgspec.Struct, frozen=True):
    """One camera that was found.

    Attributes:
        id: What ``vimba:ID`` takes.
        model: Model name.
        serial: Serial number.
        access: Permitted ways to open it; empty while another program has it.
        formats: Pixel formats it offers, in its own spelling; empty if it cannot be opened.
        rate_range_hz: Slowest and fastest frame rate at its present settings, if it tells.
    """

    id: Text
    model: Text
    serial: Text
    access: list[str] = []
    formats: list[str] = []
    rate_range_hz: tuple[float, float] | None = None


class CamerasListed(Message, frozen=True, tag="cameras_listed"):
    """All cameras that the SDK finds."""

    cameras: list[CameraRow]


Control = Hello | Failure
FromController = (
    Hello
    | OpenCamera
    | CloseCamera
    | StartRecording
    | StopRecording
    | Pause
    | Resume
    | Mark
    | GetStatus
    | Trigger
    | GetCamera
    | SetCamera
    | ObserveRing
    | SaveStill
    | Shutdown
)
ToController = Hello | Failure | Reply | Status | Event
ToCapture = Hello | OpenSource | BeginStream | FireTrigger | AskCamera | EndStream | Shutdown
FromCapture = (
    Hello
    | Failure
    | SourceOpened
    | SourceSilent
    | SourceHeard
    | CameraTold
    | CameraRefused
    | StreamEnded
    | WorkerStatus
    | Event
)
ToCameras = Hello | ListCameras | Shutdown
FromCameras = Hello | Failure | CamerasListed
ToStill = Hello | SealStill | Shutdown
FromStill = Hello | Failure | StillSealed | StillRefused | WorkerStatus
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
