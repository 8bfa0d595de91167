"""A message channel over two pipe descriptors (PROTOCOL.md, "Framing" and "Back-pressure").

Each message is a big-endian u32 length and that many bytes of msgpack. A channel never blocks its
owner on a peer that does not read: `send` puts into a bounded outbox that a thread of the channel
writes. `receive` blocks, so it is called from a thread of its own. It is not a server: it knows
neither calls nor replies.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time
from collections import deque
from typing import Any, Generic, TypeVar

import msgpack
import msgspec

from ipc import messages
from ipc.errors import (
    ChannelClosed,
    FrameTooLarge,
    PeerDied,
    ProtocolError,
    UnknownVersion,
)
from ipc.messages import Failure, Hello, Message

__all__ = ["MAX_MESSAGE_BYTES", "MAX_WORKER_MESSAGE_BYTES", "Channel", "decode", "encode"]

MAX_MESSAGE_BYTES = 1 << 20
# A successor gets the whole ledger, whose runs grow with every gap of a long recording.
MAX_WORKER_MESSAGE_BYTES = 64 << 20
MAX_EVENTS = 1024
MAX_MUST = 65_536
MAX_QUOTED = 500
READ_BYTES = 1 << 16
HEAD = struct.Struct(">I")

M = TypeVar("M", bound=Message)


def encode(message: Message, limit_bytes: int = MAX_MESSAGE_BYTES) -> bytes:
    """Frame one message for the wire.

    Raises:
        FrameTooLarge: it is longer than ``limit_bytes``.
        ProtocolError: it holds what msgpack has no form for.
    """
    try:
        body: bytes = msgpack.packb(msgspec.to_builtins(message, builtin_types=(bytes,)))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ProtocolError(
            f"A {type(message).__name__} message cannot be sent ({type(error).__name__})."
        ) from error
    if len(body) > limit_bytes:
        raise FrameTooLarge(f"A message of {len(body)} bytes exceeds {limit_bytes}.")
    return HEAD.pack(len(body)) + body


def decode(body: bytes | memoryview, kind: Any) -> Any:
    """Unpack and validate one message body.

    Args:
        body: At most MAX_MESSAGE_BYTES of msgpack.
        kind: The union of message types that may arrive here.

    Raises:
        ProtocolError: not msgpack, no map, an unknown type, or a field of the wrong kind.
    """
    try:
        value = msgpack.unpackb(body, strict_map_key=False)
    except (ValueError, RecursionError, TypeError, UnicodeError) as error:
        raise ProtocolError("The message is no valid msgpack.") from error
    if not isinstance(value, dict):
        raise ProtocolError("A message must be a map with a type.")
    try:
        return msgspec.convert(value, kind, strict=True)
    except (msgspec.ValidationError, TypeError, RecursionError, OverflowError) as error:
        # Quoted is what the peer sent, which may be long; an answer must be shorter than that.
        why = str(error)[:MAX_QUOTED]
        raise ProtocolError(f"The message does not fit its type: {why}") from error


class Channel(Generic[M]):
    """One side of a message channel.

    Args:
        read_fd: Descriptor to read from; owned by the channel from now on.
        write_fd: Descriptor to write to; owned likewise.
        accepts: Union of the message types that may arrive.
        limit_bytes: Longest message in either direction.
    """

    def __init__(
        self, read_fd: int, write_fd: int, accepts: Any, *, limit_bytes: int = MAX_MESSAGE_BYTES
    ) -> None:
        self._read_fd, self._write_fd = read_fd, write_fd
        self._limit = limit_bytes
        self._accepts = accepts
        self._buffer = bytearray()
        self._outbox: deque[Message] = deque()
        self._state = threading.Condition()
        self._events = 0
        self._dropped = 0
        self._writing = False
        self._closed = False
        self._broken = False
        self._writer = threading.Thread(target=self._write_loop, name="channel", daemon=True)
        self._writer.start()

    # --- sending ------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Queue one message; returns at once.

        Raises:
            ChannelClosed: this side closed the channel.
            PeerDied: the peer is gone, or has read nothing for 65,536 messages.
        """
        with self._state:
            if self._closed:
                raise ChannelClosed("The channel is closed.")
            if self._broken or len(self._outbox) >= MAX_MUST:
                raise PeerDied("The other side of the channel does not read any more.")
            self._enqueue(message)
            self._state.notify_all()

    def _enqueue(self, message: Message) -> None:
        if message.delivery == "newest":
            for at, queued in enumerate(self._outbox):
                if type(queued) is type(message):
                    self._outbox[at] = message
                    return
        elif message.delivery == "event":
            if self._events >= MAX_EVENTS:
                self._dropped += 1
                return
            self._events += 1
        self._outbox.append(message)

    def send_quietly(self, message: Message) -> bool:
        """Queue one message, or return False when nobody is there to read it."""
        try:
            self.send(message)
        except (ChannelClosed, PeerDied):
            return False
        return True

    def greet(self, role: str, software: str) -> None:
        """Send this side's Hello."""
        self.send(
            Hello(
                major=messages.PROTOCOL_MAJOR,
                minor=messages.PROTOCOL_MINOR,
                role=role,
                software=software,
            )
        )

    def flush(self, timeout_s: float) -> bool:
        """Wait until everything queued was handed to the pipe; False if it was not in time."""
        deadline = time.monotonic() + timeout_s
        with self._state:
            while (self._outbox or self._writing) and not self._broken:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._state.wait(left)
            return not self._broken

    def _write_loop(self) -> None:
        try:
            while self._write_next():
                pass
        finally:
            # Here and not in close(): under a pending write the number could be reused.
            with contextlib.suppress(OSError):
                os.close(self._write_fd)

    def _write_next(self) -> bool:
        with self._state:
            while not self._outbox and not self._closed:
                self._state.wait()
            if not self._outbox:
                return False
            message = self._next_message()
            self._writing = True
        sent = self._write(message)
        with self._state:
            self._writing = False
            if not sent:
                self._broken = True
                self._outbox.clear()
            self._state.notify_all()
        return sent

    def _next_message(self) -> Message:
        message = self._outbox.popleft()
        if message.delivery == "event":
            self._events -= 1
            if self._dropped and not self._events:
                lost, self._dropped = self._dropped, 0
                self._events += 1
                self._outbox.append(
                    messages.Event(
                        kind="events_dropped",
                        host_ns=time.perf_counter_ns(),
                        text=f"{lost} events were not read in time",
                        details={"count": lost},
                    )
                )
        return message

    def _write(self, message: Message) -> bool:
        try:
            data = encode(message, self._limit)
        except ProtocolError as error:
            # The peer learns that something is missing; all that follows still arrives.
            data = encode(Failure(code=error.code, message=error.message, hint=error.hint))
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._write_fd, view) :]
        except OSError:
            return False
        return True

    # --- receiving ----------------------------------------------------------------------------

    def receive(self) -> M:
        """Wait for the next message.

        Raises:
            PeerDied: the other side closed or died.
            FrameTooLarge: a longer message than allowed was announced; the channel is unusable.
            ProtocolError: one malformed message; the next one can still be received.
        """
        size = int.from_bytes(self._take(HEAD.size), "big")
        if size > self._limit:
            raise FrameTooLarge(
                f"A message of {size} bytes was announced; at most {self._limit} are taken.",
                hint="Each message is a big-endian u32 length and msgpack: see PROTOCOL.md.",
            )
        message: M = decode(self._take(size), self._accepts)
        return message

    def receive_hello(self) -> Hello:
        """Wait for the peer's Hello, which must come first.

        Raises:
            UnknownVersion: another major version.
            ProtocolError: the first message is something else.
        """
        message: object = self.receive()
        if not isinstance(message, Hello):
            raise ProtocolError("The first message must be hello.", hint="See PROTOCOL.md.")
        if message.major != messages.PROTOCOL_MAJOR:
            raise UnknownVersion(
                f"The peer speaks protocol {message.major}, this side {messages.PROTOCOL_MAJOR}.",
                hint="Install the same sealrec version on both sides.",
            )
        return message

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = os.read(self._read_fd, READ_BYTES)
            except OSError as error:
                raise PeerDied("The channel cannot be read any more.") from error
            if not data:
                raise PeerDied("The other side closed the channel.")
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    # --- closing ------------------------------------------------------------------------------

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued, for at most ``timeout_s``, and close; may be called again.

        The read side is closed by the caller's reader having ended: a descriptor that another
        thread still reads is left to that thread's end of file.
        """
        with self._state:
            if self._closed:
                return
        self.flush(timeout_s)
        with self._state:
            self._closed = True
            if self._writing:
                self._broken = True  # the peer does not read; the daemon thread may stay behind
            self._state.notify_all()
        self._writer.join(timeout_s)

    def close_read(self) -> None:
        """Close the read side; only after `receive` has ended for good."""
        with contextlib.suppress(OSError):
            os.close(self._read_fd)
