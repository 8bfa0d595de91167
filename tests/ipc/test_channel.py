"""The message channel: framing, back-pressure, and what a bad or absent peer cannot do to it."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.channel import MAX_MESSAGE_BYTES, MAX_MUST, Channel, decode, encode
from ipc.errors import (
    ChannelClosed,
    FrameTooLarge,
    PeerDied,
    ProtocolError,
    UnknownVersion,
)
from ipc.messages import (
    PROTOCOL_MAJOR,
    Event,
    Failure,
    FromController,
    GetStatus,
    Hello,
    Message,
    Reply,
    StartRecording,
    Status,
    StopRecording,
    ToController,
)

AWAIT_S = 20.0
LONGER_THAN_A_PIPE = 1_000_000  # 64 KiB on Linux
# More messages than a pipe holds, and more than a channel keeps for a slow reader.
# But fewer than it keeps of those that must arrive.
BEYOND_ALL_BUFFERS = 20_000


class Pipes:
    """Two pipes, and which of their ends this test still has to close."""

    def __init__(self) -> None:
        self.near_read, self.far_write = os.pipe()
        self.far_read, self.near_write = os.pipe()
        self._open = {self.near_read, self.far_write, self.far_read, self.near_write}

    def channel(self, accepts: Any, **options: Any) -> Channel[Any]:
        """The near side as a channel, which closes its write end by itself."""
        self._open.discard(self.near_write)
        return Channel(self.near_read, self.near_write, accepts, **options)

    def other(self, accepts: Any) -> Channel[Any]:
        """The far side as a channel."""
        self._open.discard(self.far_write)
        return Channel(self.far_read, self.far_write, accepts)

    def close(self, *ends: int) -> None:
        """Close some ends, or all that are left."""
        for end in ends or tuple(self._open):
            self._open.discard(end)
            os.close(end)

    def feed(self, data: bytes) -> None:
        """Write to the near side's input from a thread, and end it."""

        def write() -> None:
            view = memoryview(data)
            while view:
                view = view[os.write(self.far_write, view) :]
            self.close(self.far_write)

        threading.Thread(target=write, daemon=True).start()


@pytest.fixture
def pipes() -> Iterator[Pipes]:
    """Two pipes, closed at the end."""
    made = Pipes()
    yield made
    made.close()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fails if it never comes."""
    deadline = time.monotonic() + AWAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.001)


def framed(body: bytes) -> bytes:
    """A frame around any body."""
    return struct.pack(">I", len(body)) + body


def receive_all(channel: Channel[Any]) -> list[Any]:
    """Everything until the peer's end."""
    found = []
    while True:
        try:
            found.append(channel.receive())
        except PeerDied:
            return found


def status(number: int) -> Status:
    """A status that can be told from others."""
    return Status(status={"number": number})


def event(number: int) -> Event:
    """An event that can be told from others."""
    return Event(kind="test", host_ns=number)


# --- framing ----------------------------------------------------------------------------------


def test_a_frame_is_a_big_endian_length_and_a_map_with_a_type() -> None:
    """The framing is what PROTOCOL.md says, to the byte."""
    body = b"\x82" + b"\xa4type" + b"\xa4stop" + b"\xa4call" + b"\x07"
    assert encode(StopRecording(call=7)) == b"\x00\x00\x00\x11" + body


def test_both_directions(pipes: Pipes) -> None:
    """What one side sends the other receives, in order."""
    engine, controller = pipes.channel(FromController), pipes.other(ToController)
    controller.greet("controller", "test")
    controller.send(GetStatus(call=1))
    engine.send(Reply(call=1, ok=True, result={"state": "idle"}))
    assert engine.receive_hello().role == "controller"
    assert engine.receive() == GetStatus(call=1)
    assert controller.receive() == Reply(call=1, ok=True, result={"state": "idle"})
    engine.close()
    controller.close()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8),
    st.lists(st.integers(1, 30), max_size=20),
)
def test_messages_survive_any_splitting(calls: list[int], cuts: list[int]) -> None:
    """However the bytes are cut on the way, the messages are the same."""
    pipes = Pipes()
    data = b"".join(encode(GetStatus(call=call)) for call in calls)
    channel = pipes.channel(FromController)
    for cut in cuts:
        os.write(pipes.far_write, data[:cut])
        data = data[cut:]
    os.write(pipes.far_write, data)
    pipes.close(pipes.far_write)
    assert receive_all(channel) == [GetStatus(call=call) for call in calls]
    channel.close()
    pipes.close()


def test_unknown_fields_are_ignored(pipes: Pipes) -> None:
    """A field of a later minor version changes nothing."""
    body = msgpack.packb({"type": "stop", "call": 3, "later": {"deep": [1, None]}})
    pipes.feed(framed(body))
    channel = pipes.channel(FromController)
    assert channel.receive() == StopRecording(call=3)
    channel.close()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02\x03",
        b"\x01",
        msgpack.packb({"call": 1}),
        msgpack.packb({"type": "reboot"}),
        msgpack.packb({"type": 5}),
        msgpack.packb({"type": "stop"}),
        msgpack.packb({"type": "stop", "call": -1}),
        msgpack.packb({"type": "stop", "call": "1"}),
        msgpack.packb({"type": "start", "call": 1, "config": {3: 4}}),
        msgpack.packb({"type": "start", "call": 1, "config": []}),
        msgpack.packb({"type": "stop", "call": 1}) + b"\x00",
        msgpack.packb({"type": "stop", "call": 1})[:-1],
        b"\x91" * 100_000 + b"\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\x91\x01\x01",
        b"\x82\xa4type\xa4stop\xa4call\xc7\x03\xff\x01\x02\x03",
    ],
)
def test_a_malformed_message_costs_only_itself(pipes: Pipes, body: bytes) -> None:
    """One bad body is a ProtocolError; the next message is received as if nothing had been."""
    pipes.feed(framed(body) + encode(StopRecording(call=9)))
    channel = pipes.channel(FromController)
    with pytest.raises(ProtocolError) as caught:
        channel.receive()
    assert not isinstance(caught.value, FrameTooLarge | UnknownVersion)
    assert channel.receive() == StopRecording(call=9)
    channel.close()


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(["hello", "start", "stop", "get_status", "shutdown"]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(["type", "call", "config", "major", "minor", "role"]) | st.text(), inner
        )
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.binary() | ANYTHING.map(msgpack.packb))
def test_any_bytes_are_a_message_or_a_protocol_error(body: bytes) -> None:
    """No body at all makes decoding fail in any other way."""
    try:
        message = decode(body, FromController)
    except ProtocolError:
        return
    assert isinstance(message, Message)


def test_an_oversized_announcement_is_not_read(pipes: Pipes) -> None:
    """Four bytes that announce too much are refused at once, whatever follows."""
    pipes.feed(struct.pack(">I", MAX_MESSAGE_BYTES + 1))
    channel = pipes.channel(FromController)
    with pytest.raises(FrameTooLarge):
        channel.receive()
    channel.close()


def test_the_longest_message_passes(pipes: Pipes) -> None:
    """A body of exactly the limit is taken."""
    wrapped = len(msgpack.packb({"type": "start", "call": 1, "config": {"x": "y" * 70_000}}))
    text = "y" * (70_000 + MAX_MESSAGE_BYTES - wrapped)
    body = msgpack.packb({"type": "start", "call": 1, "config": {"x": text}})
    assert len(body) == MAX_MESSAGE_BYTES
    pipes.feed(framed(body))
    channel = pipes.channel(FromController)
    assert channel.receive() == StartRecording(call=1, config={"x": text})
    channel.close()


# --- hello ------------------------------------------------------------------------------------


def test_another_major_version_is_refused(pipes: Pipes) -> None:
    """Versions are agreed before anything else is said."""
    pipes.feed(encode(Hello(major=PROTOCOL_MAJOR + 1)))
    channel = pipes.channel(FromController)
    with pytest.raises(UnknownVersion):
        channel.receive_hello()
    channel.close()


def test_another_minor_version_is_accepted(pipes: Pipes) -> None:
    """A later minor version only adds fields."""
    pipes.feed(encode(Hello(major=PROTOCOL_MAJOR, minor=99)))
    channel = pipes.channel(FromController)
    assert channel.receive_hello().minor == 99
    channel.close()


def test_hello_comes_first(pipes: Pipes) -> None:
    """Any other first message is refused."""
    pipes.feed(encode(StopRecording(call=1)))
    channel = pipes.channel(FromController)
    with pytest.raises(ProtocolError):
        channel.receive_hello()
    channel.close()


# --- back-pressure ----------------------------------------------------------------------------


def test_send_never_waits_for_the_reader(pipes: Pipes) -> None:
    """A peer that reads nothing holds nobody up; of its statuses it later gets the newest."""
    near = pipes.channel(FromController)
    for number in range(BEYOND_ALL_BUFFERS):
        near.send(status(number))
    reader = Channel[Any](pipes.far_read, os.dup(2), ToController)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(receive_all(reader)))
    thread.start()
    near.close(AWAIT_S)
    thread.join()
    numbers = [message.status["number"] for message in found]
    assert numbers == sorted(numbers)
    assert numbers[-1] == BEYOND_ALL_BUFFERS - 1
    assert len(numbers) < BEYOND_ALL_BUFFERS / 2
    reader.close()


def test_events_queue_and_then_collapse_into_a_count(pipes: Pipes) -> None:
    """Every event is either received or counted in ``events_dropped``, in order."""
    near = pipes.channel(ToController)
    for number in range(BEYOND_ALL_BUFFERS):
        near.send(event(number))
    reader = Channel[Any](pipes.far_read, os.dup(2), ToController)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(receive_all(reader)))
    thread.start()
    assert near.flush(AWAIT_S)
    near.send(event(BEYOND_ALL_BUFFERS))
    near.close(AWAIT_S)
    thread.join()
    dropped = [e for e in found if e.kind == "events_dropped"]
    numbers = [e.host_ns for e in found if e.kind == "test"]
    assert numbers == sorted(numbers)
    # One, or a few where the channel's thread came to send one before the last was dropped.
    assert 1 <= len(dropped) < 10
    assert sum(e.details["count"] for e in dropped) + len(numbers) == BEYOND_ALL_BUFFERS + 1
    assert numbers[-1] == BEYOND_ALL_BUFFERS
    reader.close()


def test_replies_are_never_dropped(pipes: Pipes) -> None:
    """What must arrive arrives, in order, among statuses and events that need not."""
    near = pipes.channel(ToController)
    for number in range(BEYOND_ALL_BUFFERS):
        near.send(Reply(call=number, ok=True))
        near.send(status(number))
        near.send(event(number))
    reader = Channel[Any](pipes.far_read, os.dup(2), ToController)
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(receive_all(reader)))
    thread.start()
    near.close(AWAIT_S)
    thread.join()
    calls = [message.call for message in found if isinstance(message, Reply)]
    assert calls == list(range(BEYOND_ALL_BUFFERS))
    reader.close()


def test_a_peer_that_never_reads_is_taken_for_dead(pipes: Pipes) -> None:
    """The outbox is bounded: after 65,536 messages nobody takes, sending fails."""
    near = pipes.channel(ToController)
    near.send(Reply(call=1, ok=True, result={"longer": "x" * LONGER_THAN_A_PIPE}))
    os.read(pipes.far_read, 1)  # its thread is writing that one now, and gets no further
    replies = (Reply(call=number, ok=True) for number in range(MAX_MUST + 10))
    assert sum(1 for reply in replies if near.send_quietly(reply)) == MAX_MUST
    with pytest.raises(PeerDied):
        near.send(Reply(call=2, ok=True))
    assert not near.send_quietly(status(0))
    pipes.close(pipes.far_read)
    near.close()


def test_what_cannot_be_packed_is_replaced_by_a_failure(pipes: Pipes) -> None:
    """A message that is too long, or holds what msgpack has no form for, spoils no other."""
    near = pipes.channel(ToController)
    near.send(Reply(call=1, ok=True, result={"path": "caf\udce9"}))
    near.send(Reply(call=2, ok=True, result={"number": 2**70}))
    near.send(Reply(call=3, ok=True, result={"object": object()}))
    near.send(Reply(call=4, ok=True, result={"long": "x" * MAX_MESSAGE_BYTES}))
    near.send(Reply(call=5, ok=True))
    reader = Channel[Any](pipes.far_read, os.dup(2), ToController)
    near.close()
    *failures, last = receive_all(reader)
    assert last == Reply(call=5, ok=True)
    assert all(isinstance(failure, Failure) for failure in failures)
    assert [failure.code for failure in failures] == ["protocol"] * 3 + ["too-large"]
    assert not any("caf" in failure.message for failure in failures)
    reader.close()


# --- ends -------------------------------------------------------------------------------------


def test_the_peers_end_and_ones_own_are_different_errors(pipes: Pipes) -> None:
    """`PeerDied` says that the other side left, `ChannelClosed` that this side did."""
    near = pipes.channel(ToController)
    pipes.close(pipes.far_read, pipes.far_write)
    with pytest.raises(PeerDied):
        near.receive()
    near.send_quietly(status(0))
    wait_until(lambda: not near.send_quietly(status(1)))
    with pytest.raises(PeerDied):
        near.send(status(2))
    near.close()
    with pytest.raises(ChannelClosed):
        near.send(status(3))
    near.close()  # a second time changes nothing


def test_a_message_cut_off_is_a_dead_peer(pipes: Pipes) -> None:
    """A peer that dies in mid message left; half a message is never delivered."""
    pipes.feed(encode(StopRecording(call=1))[:-1])
    channel = pipes.channel(FromController)
    with pytest.raises(PeerDied):
        channel.receive()
    channel.close()


def test_close_writes_what_is_queued(pipes: Pipes) -> None:
    """A reply sent just before the end is not lost."""
    near = pipes.channel(ToController)
    near.send(Reply(call=1, ok=True))
    near.close()
    reader = Channel[Any](pipes.far_read, os.dup(2), ToController)
    assert receive_all(reader) == [Reply(call=1, ok=True)]
    reader.close()


def test_close_does_not_wait_for_a_peer_that_does_not_read(pipes: Pipes) -> None:
    """The channel closes with its peer asleep; the descriptor goes once the peer is gone."""
    near = pipes.channel(ToController)
    target = os.readlink(f"/proc/self/fd/{pipes.near_write}")
    for number in range(BEYOND_ALL_BUFFERS):
        near.send(Reply(call=number, ok=True))
    near.close(0.05)
    assert not near.flush(0)
    pipes.close(pipes.far_read)
    number = near._write_fd

    def is_gone() -> bool:
        try:
            return os.readlink(f"/proc/self/fd/{number}") != target
        except FileNotFoundError:
            return True

    wait_until(is_gone)


def test_a_closed_channel_gives_its_descriptor_back_at_once(pipes: Pipes) -> None:
    """Even a close that waits for nothing leaves no open descriptor."""
    near = pipes.channel(ToController)
    near.close(0)
    pipes.close(pipes.far_write)
    wait_until(lambda: os.read(pipes.far_read, 1) == b"")
    near.close_read()
    pipes._open.discard(pipes.near_read)
