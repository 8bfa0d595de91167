"""iceoryx2 as another way of a frame from one process to another (see ``transports``).

Publish and subscribe in shared memory, and an event to wake the subscriber: as its own examples do
it. Imported only where the package is; it is no dependency of anything.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from typing import Any

import iceoryx2
import numpy as np

from benchmarks.parts.transports import SLOTS, TIMEOUT_S, Bytes, Receiver

__all__ = ["IceoryxSender"]

_numbers = itertools.count()


class IceoryxSender:
    """Waits for room as the ring does: a frame is neither dropped nor overwritten."""

    def __init__(self, size_bytes: int) -> None:
        self._name = f"sealrec-benchmark-{os.getpid()}-{next(_numbers)}"
        self._node, frames, event = _services(self._name)
        builder = frames.publisher_builder().initial_max_slice_len(size_bytes)
        wait = iceoryx2.BackpressureStrategy.RetryUntilDelivered
        self._publisher: Any = builder.backpressure_strategy(wait).create()
        self._notifier: Any = event.notifier_builder().create()
        self._services = frames, event

    def receiver(self) -> Receiver:
        """See `Sender`."""
        return IceoryxReceiver(self._name)

    def send(self, frame: Bytes) -> None:
        """See `Sender`."""
        sample = self._publisher.loan_slice_uninit(len(frame))
        np.frombuffer(sample.payload().as_memory_view(), np.uint8)[:] = frame
        sample.assume_init().send()
        self._notifier.notify()

    def close(self) -> None:
        """See `Sender`."""
        self._publisher.delete()
        self._notifier.delete()
        del self._services, self._node


class IceoryxReceiver:
    """Reads in place; a sample goes back when the next one is asked for."""

    def __init__(self, name: str) -> None:
        self._name = name

    def open(self) -> None:
        """See `Receiver`."""
        self._node, frames, event = _services(self._name)
        self._subscriber: Any = frames.subscriber_builder().buffer_size(SLOTS).create()
        self._listener: Any = event.listener_builder().create()
        self._services = frames, event
        self._sample: Any = None

    def receive(self) -> Any:
        """See `Receiver`."""
        self._sample = None
        deadline = time.monotonic() + TIMEOUT_S
        while (sample := self._subscriber.receive()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError("No sample came.")
            self._listener.timed_wait(iceoryx2.Duration.from_secs(1))  # or nothing, now and then
        self._sample = sample
        return sample.payload().as_memory_view()

    def close(self) -> None:
        """See `Receiver`."""
        self._sample = None
        self._subscriber.delete()
        self._listener.delete()
        del self._services, self._node


def _services(name: str) -> tuple[Any, Any, Any]:
    """This process's node, and its handles of the frames' and the wake-up's service."""
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    node = iceoryx2.NodeBuilder.new().create(iceoryx2.ServiceType.Ipc)
    frames = (
        node.service_builder(iceoryx2.ServiceName.new(f"{name}/frames"))
        .publish_subscribe(iceoryx2.Slice[ctypes.c_uint8])
        .enable_safe_overflow(False)
        .subscriber_max_buffer_size(SLOTS)
        .open_or_create()
    )
    event = node.service_builder(iceoryx2.ServiceName.new(f"{name}/event")).event()
    return node, frames, event.open_or_create()
