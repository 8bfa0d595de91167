"""What the lifecycle hears and what it wants done: its events and its actions.

Values only. Events are in the past tense or name what is the case, actions are imperative; the
machine between them is `lifecycle`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Action",
    "AllocateRing",
    "Announce",
    "BeginStream",
    "CancelTimer",
    "CloseRequested",
    "Conclude",
    "EncoderReady",
    "EndStream",
    "Event",
    "FinishRecording",
    "Kill",
    "Leave",
    "OpenPart",
    "OpenSource",
    "PartEnded",
    "PartGone",
    "PartReady",
    "Problem",
    "RecordingRequested",
    "RetirePart",
    "RingReady",
    "RingRefused",
    "Role",
    "SetTimer",
    "SourceHeard",
    "SourceReady",
    "SourceSilent",
    "StandBy",
    "StartRequested",
    "StartWorker",
    "StopRequested",
    "StreamOver",
    "TimerFired",
    "WorkerGone",
    "WorkerRefused",
    "WorkerSilent",
]

Role = Literal["capture", "encoder"]


@dataclass(frozen=True, slots=True)
class Problem:
    """An error as it crosses a pipe: code, message and hint (ipc/errors.py)."""

    code: str
    message: str
    hint: str = ""


# --- events -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartRequested:
    """The controller wants a recording, or a camera that stays open."""


@dataclass(frozen=True, slots=True)
class RecordingRequested:
    """The controller wants a recording of the camera that is open."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """The controller, a signal or the set duration ends it."""


@dataclass(frozen=True, slots=True)
class CloseRequested:
    """The controller wants the camera closed; what is being recorded is sealed before."""


@dataclass(frozen=True, slots=True)
class SourceReady:
    """The source is open."""


@dataclass(frozen=True, slots=True)
class RingReady:
    """The ring's memory is had."""


@dataclass(frozen=True, slots=True)
class RingRefused:
    """The ring's memory cannot be had."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class EncoderReady:
    """The encoder reads the ring and records nothing."""


@dataclass(frozen=True, slots=True)
class PartReady:
    """A part is open on the disk and its encoder too."""


@dataclass(frozen=True, slots=True)
class PartEnded:
    """A part is sealed."""

    last: bool


@dataclass(frozen=True, slots=True)
class PartGone:
    """The disk takes no more of the open part."""

    problem: Problem


@dataclass(frozen=True, slots=True)
class SourceSilent:
    """The source should deliver frames and does not; its stream is still there."""

    reason: str


@dataclass(frozen=True, slots=True)
class SourceHeard:
    """Frames come: the first of a stream, or the first after a silence."""


@dataclass(frozen=True, slots=True)
class StreamOver:
    """The source delivers no more; ``reason`` as in `workers.sources.source.Source.run`."""

    reason: str


@dataclass(frozen=True, slots=True)
class WorkerRefused:
    """A worker says why it cannot work; its exit follows."""

    role: Role
    problem: Problem


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker process ended; ``sealed`` says that its part was sealed before."""

    role: Role
    exit_code: int
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class WorkerSilent:
    """A worker sent no heartbeat in time."""

    role: Role


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer set earlier is due."""

    name: str


Event = (
    StartRequested
    | RecordingRequested
    | StopRequested
    | CloseRequested
    | SourceReady
    | RingReady
    | RingRefused
    | EncoderReady
    | PartReady
    | PartEnded
    | PartGone
    | SourceSilent
    | SourceHeard
    | StreamOver
    | WorkerRefused
    | WorkerGone
    | WorkerSilent
    | TimerFired
)

# --- actions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker process."""

    role: Role


@dataclass(frozen=True, slots=True)
class OpenSource:
    """Tell the capture worker to open the source."""


@dataclass(frozen=True, slots=True)
class AllocateRing:
    """Get the ring's memory for what the source delivers."""


@dataclass(frozen=True, slots=True)
class StandBy:
    """Tell the encoder to read the ring, keep the newest frames, and record nothing."""


@dataclass(frozen=True, slots=True)
class OpenPart:
    """Tell the encoder to open the next part."""


@dataclass(frozen=True, slots=True)
class RetirePart:
    """The open part's encoder is dead: delete it if it holds nothing, else recover it."""


@dataclass(frozen=True, slots=True)
class BeginStream:
    """Tell the capture worker to deliver frames."""


@dataclass(frozen=True, slots=True)
class EndStream:
    """Tell the capture worker to stop its source."""


@dataclass(frozen=True, slots=True)
class FinishRecording:
    """Tell the encoder to drain the ring and seal."""


@dataclass(frozen=True, slots=True)
class Kill:
    """End a worker process at once."""

    role: Role


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Fire ``name`` after ``seconds``, replacing one of that name."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Forget a timer."""

    name: str


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell the controller of something that happened."""

    kind: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Conclude:
    """The recording is over; ``problem`` says why if it ended before it was asked to."""

    started: bool
    problem: Problem | None


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing is recorded, and the workers go; ``problem`` says why if nobody asked for it."""

    problem: Problem | None


Action = (
    StartWorker
    | OpenSource
    | AllocateRing
    | StandBy
    | OpenPart
    | RetirePart
    | BeginStream
    | EndStream
    | FinishRecording
    | Kill
    | SetTimer
    | CancelTimer
    | Announce
    | Conclude
    | Leave
)
