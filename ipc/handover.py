"""A frame ring's memory for an observer in another program: read-only, and only when asked for.

Linux: a socket that the engine inherits from who starts it; each answer to `observe` (PROTOCOL.md)
comes after one datagram there, the call's number with the memory's descriptor beside it. Windows:
the answer names a handle of the engine's, and the observer duplicates that; never run.

The engine never waits here, and nothing is pushed: a descriptor that nobody takes would keep the
memory of a ring that is long closed.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from ipc.errors import ConfigError, ProtocolError, WrongState

if sys.platform == "win32":
    from ipc import winapi

__all__ = ["Offerable", "OfferedRings", "RingOffers"]

CALL = struct.Struct(">Q")
RECEIVED_AT_MOST = 4  # descriptors of one datagram; one is expected
# The smallest that the system knows: a few answers that nobody has read yet.
SEND_BUFFER_BYTES = 1


class Offerable(Protocol):
    """What can be handed out: a ring."""

    def read_only_handle(self) -> int:
        """A new handle of its memory, for reading only; the caller's."""


if sys.platform == "win32":

    class RingOffers:
        """The engine's end: answers each `observe` with what the observer needs to attach."""

        def __init__(self, descriptor: int | None) -> None:
            self._offered: tuple[Offerable, int] | None = None

        def offer(self, call: int, ring: Offerable) -> dict[str, int]:
            """Hand a ring out; the fields to put into the answer of ``call``.

            Raises:
                WrongState: the ring has no memory, or it cannot be handed out here.
            """
            if self._offered is None or self._offered[0] is not ring:
                self.withdraw()
                self._offered = (ring, ring.read_only_handle())
            return {"pid": os.getpid(), "handle": self._offered[1]}

        def withdraw(self) -> None:
            """The ring that was offered is about to be closed; may be called again."""
            offered, self._offered = self._offered, None
            if offered is not None:
                winapi.close_handle(offered[1])

        def close(self) -> None:
            """Hand nothing out any more; never fails, may be called again."""
            self.withdraw()

    class OfferedRings:
        """The observer's end."""

        def __init__(self) -> None:
            self.engines_end: int | None = None

        def engine_started(self) -> None:
            """The engine has inherited its end, or will not."""

        def take(self, call: int, answer: Mapping[str, Any]) -> int:
            """The memory's handle that belongs to an answer; the caller's from now on.

            Raises:
                ProtocolError: none came with it.
            """
            try:
                return winapi.duplicate_handle(int(answer["handle"]), int(answer["pid"]))
            except (KeyError, TypeError, ValueError, OSError) as error:
                raise ProtocolError(f"The engine handed over no frame ring: {error}.") from error

        def close(self) -> None:
            """Take nothing any more; never fails, may be called again."""

else:

    class RingOffers:
        """The engine's end: answers each `observe` with what the observer needs to attach.

        Args:
            descriptor: Of the inherited socket, this object's from now on; None without one.

        Raises:
            ConfigError: it is no such socket.
        """

        def __init__(self, descriptor: int | None) -> None:
            self._socket = None if descriptor is None else _inherited(descriptor)

        def offer(self, call: int, ring: Offerable) -> dict[str, int]:
            """Hand a ring out; the fields to put into the answer of ``call``.

            Raises:
                WrongState: the ring has no memory, or it cannot be handed out here.
            """
            if self._socket is None:
                raise WrongState(
                    "This engine has no way to hand out its frames.",
                    hint="Start it with --observer-fd (PROTOCOL.md, observe).",
                )
            handle = ring.read_only_handle()
            try:
                socket.send_fds(self._socket, [CALL.pack(call)], [handle])
            except OSError as error:
                raise WrongState(
                    f"The frames cannot be handed out: {error.strerror or error}.",
                    hint="Read what was handed out before.",
                ) from error
            finally:
                os.close(handle)
            return {}

        def withdraw(self) -> None:
            """The ring that was offered is about to be closed; may be called again."""

        def close(self) -> None:
            """Hand nothing out any more; never fails, may be called again."""
            if self._socket is not None:
                self._socket.close()

    class OfferedRings:
        """The observer's end.

        Attributes:
            engines_end: Descriptor that the engine has to inherit; None: it needs none.
        """

        def __init__(self) -> None:
            self._socket, engines = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.engines_end: int | None = engines.detach()

        def engine_started(self) -> None:
            """The engine has inherited its end, or will not."""
            descriptor, self.engines_end = self.engines_end, None
            if descriptor is not None:
                os.close(descriptor)

        def take(self, call: int, answer: Mapping[str, Any]) -> int:
            """The memory's handle that belongs to an answer; the caller's from now on.

            Answers have to be taken in the order in which they come; what belongs to another call
            was given up by its caller, and is closed.

            Raises:
                ProtocolError: none came with it.
            """
            while (found := _receive(self._socket)) is not None:
                number, descriptors = found
                if number == call and len(descriptors) == 1:
                    return descriptors[0]
                for descriptor in descriptors:
                    os.close(descriptor)
            raise ProtocolError("The engine handed over no frame ring.")

        def close(self) -> None:
            """Take nothing any more; never fails, may be called again."""
            self.engine_started()
            self._socket.close()

    def _inherited(descriptor: int) -> socket.socket:
        try:
            # Not for the workers.
            os.set_inheritable(descriptor, False)
            found = socket.socket(fileno=descriptor)
            if (found.family, found.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
                found.detach()
                raise OSError("it is another kind of socket")
            found.setblocking(False)
            found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"Descriptor {descriptor} is no socket to hand frames out on: {error}.",
                hint="--observer-fd takes one end of a Unix socket pair of kind SEQPACKET.",
            ) from error
        return found

    def _receive(end: socket.socket) -> tuple[int, list[int]] | None:
        """The next datagram; None when there is none."""
        # Not socket.recv_fds: CPython drops its flags, so it would wait and hand down to children.
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        descriptors = array.array("i")
        room = socket.CMSG_SPACE(RECEIVED_AT_MOST * descriptors.itemsize)
        try:
            data, beside, _, _ = end.recvmsg(CALL.size, room, flags)
        except OSError:
            return None
        for level, kind, content in beside:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(content[: len(content) // 4 * 4])
        if not data and not descriptors:
            return None
        number = CALL.unpack(data)[0] if len(data) == CALL.size else -1
        return number, list(descriptors)
