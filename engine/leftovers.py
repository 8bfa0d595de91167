"""What a recording's ring still holds when no encoder is left to write it: named, never silent.

Only for the end of a recording whose encoders kept dying; otherwise the encoder drains the ring
itself. Not the ledger: it returns rows and counts nothing.
"""

from __future__ import annotations

from contextlib import closing

from ipc.frame import Loss, LossClass
from ipc.ring import RingHandles, RingReader

__all__ = ["leftovers"]


def leftovers(handles: RingHandles) -> list[Loss]:
    """Name every frame and every logged loss that no encoder made durable.

    Args:
        handles: A ring whose writer and reader are gone.

    Returns:
        Rows of class ``encoder_lost``, and the losses that capture had logged.

    Raises:
        ProtocolError: the ring is damaged.
        MemoryRefused: it cannot be mapped.
    """
    with closing(RingReader.attach(handles)) as reader:
        lost = reader.resume()
        while (frame := reader.read()) is not None:
            lost.append(Loss.of(frame.stamp, LossClass.ENCODER_LOST))
        return [*lost, *reader.read_losses()]
