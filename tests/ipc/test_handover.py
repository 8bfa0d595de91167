"""A ring's memory handed to another program: read-only, and nothing the other side does matters."""

from __future__ import annotations

import fcntl
import mmap
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from ipc.errors import ConfigError, ProtocolError, WrongState
from ipc.handover import OfferedRings, RingOffers
from ipc.ring import Ring, RingObserver, RingWriter
from tests.ipc.ring_kit import publish, shade, small_ring

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="never run on Windows")

NOBODY = 65534


@pytest.fixture
def ring() -> Iterator[Ring]:
    """A small ring."""
    with small_ring() as found:
        yield found


@pytest.fixture
def ends() -> Iterator[tuple[RingOffers, OfferedRings]]:
    """Both ends, as if the engine were this process."""
    with closing(OfferedRings()) as taking:
        assert taking.engines_end is not None
        with closing(RingOffers(os.dup(taking.engines_end))) as giving:
            taking.engine_started()
            yield giving, taking


def test_what_is_handed_over_shows_the_frames(
    ring: Ring, ends: tuple[RingOffers, OfferedRings]
) -> None:
    """The observer sees what the writer publishes, also what it publishes afterwards."""
    giving, taking = ends
    handle = taking.take(7, giving.offer(7, ring))
    observer = RingObserver.of_memory(handle)
    os.close(handle)
    with closing(observer), closing(RingWriter.attach(ring.handles)) as writer:
        assert observer.latest() is None
        writer.begin_epoch()
        assert publish(writer, 0)
        frame = observer.latest()
        assert frame is not None
        assert np.all(frame.pixels == shade(0))


def test_it_cannot_be_written_through(ring: Ring, ends: tuple[RingOffers, OfferedRings]) -> None:
    """No mapping, no write, no new size and no seal by way of it; nor is it inherited."""
    giving, taking = ends
    handle = taking.take(1, giving.offer(1, ring))
    try:
        with pytest.raises(PermissionError):
            mmap.mmap(handle, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(handle, b"x", 0)
        with pytest.raises(OSError, match=r"Invalid argument|Bad file descriptor|not permitted"):
            os.ftruncate(handle, 0)
        with pytest.raises(OSError, match="not permitted"):
            fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        view = mmap.mmap(handle, 4096, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        with pytest.raises(TypeError):
            view[0] = 1
        view.close()
        assert not os.get_inheritable(handle)
    finally:
        os.close(handle)


REOPEN = """
import os
import encodings.ascii  # the library may be closed to this user
from ipc import osdep
from ipc.shared_memory import SharedMemory
if os.geteuid() == 0:
    os.setgid({nobody})
    os.setuid({nobody})
osdep.forbid_core_dumps()
memory = SharedMemory.create()
memory.allocate(1 << 16)
handle = memory.read_only_handle()
memory.map(0, 1 << 16, writable=True).view()[0] = 7
assert os.pread(handle, 1, 0) == bytes([7])
try:
    os.open(f"/proc/self/fd/{{handle}}", os.O_RDWR)
except PermissionError:
    print("refused")
"""


def test_it_cannot_be_opened_again_for_writing() -> None:
    """Not through /proc either, by a usual user; the engine itself, which nobody may trace, can."""
    done = subprocess.run(
        [sys.executable, "-c", REOPEN.format(nobody=NOBODY)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "refused\n", done.stderr


def test_an_answer_that_nobody_waited_for_is_thrown_away(
    ring: Ring, ends: tuple[RingOffers, OfferedRings]
) -> None:
    """The next one is found behind it, and its descriptor is not kept."""
    giving, taking = ends
    giving.offer(1, ring)
    giving.offer(2, ring)
    answer = giving.offer(3, ring)
    handle = taking.take(3, answer)
    os.close(handle)
    with pytest.raises(ProtocolError, match="no frame ring"):
        taking.take(4, {})


def test_a_controller_that_takes_nothing_is_refused_soon(
    ring: Ring, ends: tuple[RingOffers, OfferedRings]
) -> None:
    """The engine neither waits nor keeps more than a few memories alive; later it goes on."""
    giving, taking = ends
    given = 0
    with pytest.raises(WrongState, match="handed out"):  # noqa: PT012 - how many is the system's
        while given < 64:
            giving.offer(given, ring)
            given += 1
    assert 1 <= given <= 8
    os.close(taking.take(given - 1, {}))
    os.close(taking.take(100, giving.offer(100, ring)))


def test_a_controller_that_is_gone_is_refused(
    ring: Ring, ends: tuple[RingOffers, OfferedRings]
) -> None:
    """It is an error of that call, and of nothing else."""
    giving, taking = ends
    taking.close()
    with pytest.raises(WrongState, match="handed out"):
        giving.offer(1, ring)


def test_an_engine_without_a_socket_says_what_is_missing(ring: Ring) -> None:
    """A controller that wants no live view passes none."""
    with closing(RingOffers(None)) as giving, pytest.raises(WrongState, match="hand out"):
        giving.offer(1, ring)


def test_a_ring_without_its_memory_is_not_handed_out(
    ends: tuple[RingOffers, OfferedRings],
) -> None:
    """There is nothing to see before the camera's size is known."""
    giving, taking = ends
    with closing(Ring.reserve()) as bare, pytest.raises(WrongState, match="no memory"):
        giving.offer(1, bare)
    with pytest.raises(ProtocolError):
        taking.take(1, {})


@pytest.mark.parametrize("kind", ["pipe", "stream", "closed"])
def test_another_descriptor_is_refused(kind: str) -> None:
    """What is no socket of that kind is an error of who started the engine; it stays open."""
    one, other = socket.socketpair() if kind == "stream" else os.pipe()
    number = one if isinstance(one, int) else one.fileno()
    if kind == "closed":
        number = 999_999
    try:
        with pytest.raises(ConfigError, match="observer-fd"):
            RingOffers(number)
    finally:
        for end in (one, other):
            if isinstance(end, int):
                os.close(end)
            else:
                end.close()


def test_garbage_on_the_socket_harms_neither_side(
    ring: Ring, ends: tuple[RingOffers, OfferedRings]
) -> None:
    """The engine reads nothing there; a datagram of another kind is passed over."""
    giving, taking = ends
    taking._socket.send(b"x" * 1000)
    assert giving._socket is not None
    giving._socket.send(b"short")
    os.close(taking.take(5, giving.offer(5, ring)))
