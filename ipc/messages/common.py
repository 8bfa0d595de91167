"""What the messages of all processes share: their root, their limits, and those many send."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from ipc.frame import Loss, LossClass

__all__ = [
    "PROTOCOL_MAJOR",
    "PROTOCOL_MINOR",
    "Count",
    "Delivery",
    "Event",
    "Failure",
    "Hello",
    "LossRow",
    "Message",
    "Shutdown",
    "Text",
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


class Shutdown(Message, frozen=True, tag="shutdown"):
    """Stop a running recording, seal it, and leave."""

    call: Count = 0


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


class Event(Message, frozen=True, tag="event"):
    """Something that happened, once."""

    delivery: ClassVar[Delivery] = "event"
    kind: Text
    host_ns: Count
    text: Text = ""
    details: dict[str, Any] = {}
