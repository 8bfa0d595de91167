"""Drives the producer's C functions without VmbC, in a process of its own: any call in any order.

Run as ``python -m tests.gentl.direct NAME PRODUCER``, like scenarios.py; a crash is the finding.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from ctypes import byref, c_int32, c_size_t, c_uint64, c_void_p, create_string_buffer
from typing import Any

NEW_BUFFER, EXCLUSIVE, NUM_ANNOUNCED = 1, 4, 3
START, STOP, FRAME_RATE_ENABLE, FRAME_RATE, WIDTH, HEIGHT = (
    0x1080,
    0x1088,
    0x1090,
    0x2000,
    0x1020,
    0x1028,
)
MEMORY_BYTES = 4 << 20
HANDLE_SLOTS = 8192  # handles.c

# One letter per argument. Handles: T system, F interface, D device, S stream, B buffer, E event,
# P port, A any of them; o receives a handle, of the kind behind the arrow. Others: b bytes with
# size z, i small number, n number out, u count, t id, m frame memory with its size, s size to
# allocate, w time-out, a register address.
SIGNATURES = {
    "GCInitLib": "", "GCCloseLib": "", "GCGetInfo": "inbz", "GCGetLastError": "nbz",
    "TLOpen": "o>T", "TLClose": "T", "TLGetInfo": "Tinbz", "TLUpdateInterfaceList": "Tnw",
    "TLGetNumInterfaces": "Tn", "TLGetInterfaceID": "Tubz", "TLGetInterfaceInfo": "Ttinbz",
    "TLOpenInterface": "Tto>F", "IFClose": "F", "IFGetInfo": "Finbz", "IFGetParentTL": "Fo>T",
    "IFUpdateDeviceList": "Fnw", "IFGetNumDevices": "Fn", "IFGetDeviceID": "Fubz",
    "IFGetDeviceInfo": "Ftinbz", "IFOpenDevice": "Ftio>D", "DevClose": "D", "DevGetInfo": "Dinbz",
    "DevGetParentIF": "Do>F", "DevGetPort": "Do>P", "DevGetNumDataStreams": "Dn",
    "DevGetDataStreamID": "Dubz", "DevOpenDataStream": "Dto>S", "DSClose": "S",
    "DSGetInfo": "Sinbz", "DSGetParentDev": "So>D", "DSAnnounceBuffer": "SmAo>B",
    "DSAllocAndAnnounceBuffer": "SsAo>B", "DSRevokeBuffer": "SBoo", "DSQueueBuffer": "SB",
    "DSFlushQueue": "Si", "DSStartAcquisition": "Siu", "DSStopAcquisition": "Si",
    "DSGetBufferID": "Suo>B", "DSGetBufferInfo": "SBinbz", "GCRegisterEvent": "Aio>E",
    "GCUnregisterEvent": "Ai", "EventGetData": "Ebzw", "EventGetInfo": "Einbz",
    "EventFlush": "E", "EventKill": "E", "GCReadPort": "Pabz", "GCWritePort": "Pabz",
    "GCGetPortInfo": "Ainbz", "GCGetPortURL": "Abz", "GCGetNumPortURLs": "An",
    "GCGetPortURLInfo": "Auinbz",
}  # fmt: skip
IDS = (*[b"DEV_SIM000", b"SimulatedUSB", b"Stream0"] * 4, b"DEV_SIM001", b"nobody", None)
# What opens is tried often and what closes seldom, or the calls would never get down to frames.
WEIGHTS = {
    **dict.fromkeys(("GCInitLib", "TLOpen", "TLOpenInterface", "IFOpenDevice"), 2.0),
    **dict.fromkeys(("DevOpenDataStream", "DSAllocAndAnnounceBuffer", "DSQueueBuffer"), 3.0),
    **dict.fromkeys(("GCRegisterEvent", "EventGetData", "GCWritePort"), 3.0),
    **dict.fromkeys(("DevClose", "DSClose", "GCUnregisterEvent", "DSStopAcquisition"), 0.05),
    **dict.fromkeys(("GCCloseLib", "TLClose", "IFClose"), 0.01),
    **dict.fromkeys(("EventKill", "DSRevokeBuffer", "DSFlushQueue"), 0.2),
}


class Producer:
    """The .cti, with its functions as attributes."""

    def __init__(self, path: str) -> None:
        self.library = ctypes.CDLL(path)

    def call(self, name: str, *arguments: Any) -> int:
        """Call a function and return its GC_ERROR."""
        function = getattr(self.library, name)
        function.restype = c_int32
        return int(function(*arguments))

    def must(self, name: str, *arguments: Any) -> None:
        """Call a function that has to succeed."""
        error = self.call(name, *arguments)
        assert error == 0, f"{name}: {error}"

    def write(self, port: c_void_p, address: int, value: float) -> None:
        """Write one register of the remote device."""
        register = ctypes.c_double(value) if address >= 0x2000 else ctypes.c_int64(int(value))
        self.must("GCWritePort", port, c_uint64(address), byref(register), byref(c_size_t(8)))

    def open_camera(self) -> tuple[c_void_p, c_void_p, c_void_p, c_void_p]:
        """Initialise the library; returns system, device, remote port and stream handles."""
        system, interface, device, port, stream = (c_void_p() for _ in range(5))
        self.must("GCInitLib")
        self.must("TLOpen", byref(system))
        self.must("TLOpenInterface", system, b"SimulatedUSB", byref(interface))
        self.must("IFUpdateDeviceList", interface, None, c_uint64(100))
        self.must("IFOpenDevice", interface, b"DEV_SIM000", EXCLUSIVE, byref(device))
        self.must("DevGetPort", device, byref(port))
        self.must("DevOpenDataStream", device, b"Stream0", byref(stream))
        for address, value in ((WIDTH, 320), (HEIGHT, 200), (FRAME_RATE_ENABLE, 1)):
            self.write(port, address, value)
        self.write(port, FRAME_RATE, 150)
        return system, device, port, stream


def start(producer: Producer, port: c_void_p, stream: c_void_p) -> c_void_p:
    """Announce and queue four buffers, start everything; returns the new-buffer event."""
    event, buffer = c_void_p(), c_void_p()
    producer.must("GCRegisterEvent", stream, NEW_BUFFER, byref(event))
    for _ in range(4):
        producer.must("DSAllocAndAnnounceBuffer", stream, c_size_t(64000), None, byref(buffer))
        producer.must("DSQueueBuffer", stream, buffer)
    producer.must("DSStartAcquisition", stream, 0, c_uint64(2**64 - 1))
    producer.write(port, START, 1)
    return event


def get_frame(producer: Producer, event: c_void_p, timeout_ms: int = 10_000) -> tuple[int, int]:
    """EventGetData: its error and the buffer's handle."""
    data = (c_void_p * 2)()
    size = c_size_t(16)
    error = producer.call("EventGetData", event, data, byref(size), c_uint64(timeout_ms))
    return error, data[0] or 0


class Mallinfo2(ctypes.Structure):
    """What glibc says about the calling thread's heap, in bytes."""

    _fields_ = [(name, c_size_t) for name in ["arena", "ordblks", "smblks", "hblks", "hblkhd"]] + [
        (name, c_size_t) for name in ["usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]
    ]


def allocated_bytes() -> int:
    """Bytes that malloc() has given out and not got back."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
    heap = mallinfo2()
    return int(heap.hblkhd + heap.uordblks)


def cycles(producer: Producer) -> Any:
    """20 times: open, stream three frames, close with everything still running."""
    counts = []
    for _ in range(20):
        _, _, port, stream = producer.open_camera()
        event = start(producer, port, stream)
        errors = [get_frame(producer, event)[0] for _ in range(3)]
        producer.must("GCCloseLib")
        counts.append(
            {
                "threads": len(os.listdir("/proc/self/task")),
                "descriptors": len(os.listdir("/proc/self/fd")),
                "bytes": allocated_bytes(),
                "errors": errors,
            }
        )
    return counts


def close_revokes(producer: Producer) -> Any:
    """Close the stream under a waiting EventGetData; then use every stale handle."""
    _, device, port, stream = producer.open_camera()
    event = start(producer, port, stream)
    held = c_void_p(get_frame(producer, event)[1])
    while get_frame(producer, event, 200)[0] == 0:  # take all four: the queue runs dry
        pass
    waiting = []
    waiter = threading.Thread(target=lambda: waiting.append(get_frame(producer, event)[0]))
    waiter.start()
    time.sleep(0.05)  # either order of the two is right; this makes the interesting one likely
    producer.must("DSClose", stream)
    # At once, so that a waiter which had not left would find itself waiting for the new event.
    again, new_event = c_void_p(), c_void_p()
    producer.must("DevOpenDataStream", device, b"Stream0", byref(again))
    producer.must("GCRegisterEvent", again, NEW_BUFFER, byref(new_event))
    waiter.join()
    count, size, kind = c_size_t(99), c_size_t(8), c_int32()
    producer.must("DSGetInfo", again, NUM_ANNOUNCED, byref(kind), byref(count), byref(size))
    twin = _same_slot(producer, again, held)
    stale = [
        producer.call("DSQueueBuffer", stream, held),
        producer.call("DSQueueBuffer", again, held),
        producer.call("DSRevokeBuffer", again, held, None, None),
        get_frame(producer, event)[0],
        producer.call("DSClose", stream),
    ]
    producer.must("DSQueueBuffer", again, twin)
    producer.must("GCCloseLib")
    late = producer.call("DSQueueBuffer", again, twin)
    return {"waiting": waiting, "stale": stale, "announced": count.value, "late": late}


def _same_slot(producer: Producer, stream: c_void_p, old: c_void_p) -> c_void_p:
    """Announce until a new buffer takes the old one's place in the producer's handle table."""
    buffer = c_void_p()
    for _ in range(2 * HANDLE_SLOTS):
        producer.must("DSAllocAndAnnounceBuffer", stream, c_size_t(64), None, byref(buffer))
        if (buffer.value or 0) % HANDLE_SLOTS == (old.value or 0) % HANDLE_SLOTS:
            return buffer
        producer.must("DSRevokeBuffer", stream, buffer, None, None)
    raise AssertionError("no handle took that place")


class Fuzzer:
    """Calls functions at random with handles that are live, stale or invented."""

    def __init__(self, producer: Producer, seed: int, handles: dict[str, list[int]]) -> None:
        self.producer = producer
        self.handles = handles
        self.random = random.Random(seed)
        self.memory = create_string_buffer(MEMORY_BYTES)
        self.bytes = create_string_buffer(4096)
        self.succeeded: Counter[str] = Counter()

    def _handle(self, kind: str) -> c_void_p:
        """Mostly a recent one of its kind, sometimes any other, sometimes a number nobody gave."""
        rare = self.random.random()
        if rare < 0.03:
            return c_void_p(self.random.getrandbits(40))
        if kind == "A" or rare < 0.1:
            kind = self.random.choice("TFDSBEP")
        return c_void_p(self.random.choice(self.handles[kind][-8:] or [0]))

    def _argument(self, letter: str, out: list[c_void_p]) -> list[Any]:
        """What one letter stands for; a c_void_p that may receive a handle goes to ``out``."""
        choice = self.random.choice
        if letter == "o":
            out.append(c_void_p())
        values: dict[str, Callable[[], list[Any]]] = {
            "o": lambda: [self._or_null(byref(out[-1]))],
            "b": lambda: [self._or_null(self.bytes)],
            "n": lambda: [self._or_null(byref(c_uint64()))],
            "z": lambda: [byref(c_size_t(choice((0, 1, 8, 8, 8, 16, 16, 4096))))],
            "m": lambda: [self.memory, c_size_t(choice((64000, MEMORY_BYTES)))],
            "s": lambda: [c_size_t(choice((0, 1, 64000, MEMORY_BYTES)))],
            "t": lambda: [choice(IDS)],
            "w": lambda: [c_uint64(choice((0, 1, 5)))],
            "a": lambda: [c_uint64(self._address())],
            "u": lambda: [c_uint64(choice((0, 0, 1, 3, 2**64 - 1)))],
            "i": lambda: [c_int32(choice((*range(-1, 32), *[0, 1, 2, 3, 4] * 4)))],
        }
        return values[letter]() if letter in values else [self._handle(letter)]

    def _or_null(self, value: Any) -> Any:
        return value if self.random.random() < 0.92 else None

    def _address(self) -> int:
        """A register, more often than not a command; and something to write into it."""
        value = self.random.choice((0, 1, 2, 320, 200, 0x0210001F))
        ctypes.memmove(self.bytes, value.to_bytes(8, "little"), 8)
        any_register = 0x1000 + 8 * self.random.randint(-2, 40)
        return self.random.choice((*[START] * 6, STOP, *[any_register] * 6, 0x3140, 2**31, 2**63))

    def run(self, calls: int) -> None:
        """Make this many calls."""
        weights = [WEIGHTS.get(name, 1.0) for name in SIGNATURES]
        for name in self.random.choices(list(SIGNATURES), weights, k=calls):
            if self.random.random() < 0.003:
                self.stream()
            letters, _, kind = SIGNATURES[name].partition(">")
            out: list[c_void_p] = []
            given = [value for letter in letters for value in self._argument(letter, out)]
            self.succeeded[name] += self.producer.call(name, *given) == 0
            if kind:
                self.handles[kind] += [handle.value for handle in out if handle.value]

    def stream(self) -> None:
        """The way to frames, walked on purpose while the other threads pull at it."""
        call = self.producer.call
        found = {kind: c_void_p() for kind in "TFDPSEB"}
        call("GCInitLib")
        call("TLOpen", byref(found["T"]))
        call("TLOpenInterface", found["T"], b"SimulatedUSB", byref(found["F"]))
        call("IFOpenDevice", found["F"], b"DEV_SIM000", EXCLUSIVE, byref(found["D"]))
        call("DevGetPort", found["D"], byref(found["P"]))
        call("DevOpenDataStream", found["D"], b"Stream0", byref(found["S"]))
        call("GCRegisterEvent", found["S"], NEW_BUFFER, byref(found["E"]))
        for kind, handle in found.items():
            self.handles[kind] += [handle.value] if handle.value else []
        port, stream, event = (self._handle(kind) for kind in "PSE")
        for _ in range(3):
            call("DSAllocAndAnnounceBuffer", stream, c_size_t(64000), None, byref(found["B"]))
            call("DSQueueBuffer", stream, found["B"])
        call("DSStartAcquisition", stream, 0, c_uint64(2**64 - 1))
        call("GCWritePort", port, c_uint64(START), byref(c_uint64(1)), byref(c_size_t(8)))
        self.succeeded["frames"] += get_frame(self.producer, event, 30)[0] == 0


def fuzz(producer: Producer) -> Any:
    """Four threads, each with its own seed, on one library: how often each function succeeded."""
    producer.must("GCInitLib")
    handles: dict[str, list[int]] = {kind: [] for kind in "TFDSBEP"}  # each may use another's
    # They own the memory that frames are put into: they have to outlive the library.
    fuzzers = [Fuzzer(producer, seed, handles) for seed in range(4)]
    threads = [threading.Thread(target=fuzzer.run, args=(12_000,)) for fuzzer in fuzzers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    producer.call("GCCloseLib")
    return sum((fuzzer.succeeded for fuzzer in fuzzers), Counter())


def main() -> None:
    """Run one of the functions above and print its answer."""
    name, path = sys.argv[1:3]
    sys.stdout.write(json.dumps(globals()[name](Producer(path))) + "\n")


if __name__ == "__main__":
    main()
