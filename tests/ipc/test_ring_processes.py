"""The frame ring between real processes that are killed and stopped for real."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from ipc.frame import LossClass
from ipc.ring import Ring, RingHandles, RingObserver, RingReader, RingWriter
from ipc.shared_memory import SharedMemory
from tests.ipc.ring_kit import shade, stamp_of
from tests.ipc.ring_process import GAP_EVERY, put, start

if sys.platform != "linux":
    pytest.skip("signals and inherited descriptors of Linux", allow_module_level=True)

FRAME = 1 << 16
WAIT_S = 60.0


@contextmanager
def frame_ring(slots: int, slot_bytes: int = FRAME) -> Iterator[Ring]:
    ring = Ring.reserve()
    try:
        ring.allocate(slots=slots, slot_bytes=slot_bytes)
        yield ring
    finally:
        ring.close()


@contextmanager
def process(mode: str, handles: RingHandles, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    child = start(mode, handles, *arguments)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def read_until(reader: RingReader, seqs: list[int], count: int) -> None:
    """Read and check frames until so many are there, or the stream has ended."""
    while len(seqs) < count:
        if reader.ended is not None and reader.published == len(seqs):
            return
        reader.wait(WAIT_S)
        while len(seqs) < count and (frame := reader.read()) is not None:
            assert np.all(frame.pixels == shade(frame.seq)), f"frame {frame.seq} is torn"
            assert frame.stamp == stamp_of(frame.seq)
            seqs.append(frame.seq)
            reader.release(frame.seq)
            reader.commit(frame.seq)


def test_a_killed_writers_successors_lose_and_repeat_nothing() -> None:
    """SIGKILL at full speed, three times: every published frame is whole and comes once."""
    total = 400
    with frame_ring(4) as ring, closing(RingReader.attach(ring.handles)) as reader:
        reader.resume()
        seqs: list[int] = []
        for further in (30, 70, 110):
            target = ring.statistics().published + further
            with process("write", ring.handles, total):
                read_until(reader, seqs, target)
        with process("write", ring.handles, total) as last:
            read_until(reader, seqs, total)
            assert last.wait(WAIT_S) == 0
        assert seqs == list(range(total))
        losses = reader.read_losses()
        found = [loss.first_id for loss in losses]
        expected = list(range(GAP_EVERY, total + 1, GAP_EVERY))
        assert set(found) <= set(expected)
        assert len(set(found)) == len(found) >= len(expected) - 3, "each kill may cost one row"
        statistics = ring.statistics()
        assert statistics.offered == total + len(losses)
        assert statistics.lost[LossClass.CAMERA_GAP] == len(losses)
        assert (statistics.epoch, statistics.ended) == (4, True)


def test_writers_killed_all_through_their_lives_leave_a_consistent_ring() -> None:
    """A row of writers, each killed by SIGKILL three instructions later than the one before."""
    with frame_ring(256, 4096) as ring, closing(RingReader.attach(ring.handles)) as reader:
        reader.resume()
        with process("die_everywhere", ring.handles) as child:
            assert child.stdout is not None
            deaths = int(child.stdout.readline())
        assert deaths > 20, "the kills did not fall inside the writers' lives"
        assert reader.ended == "limit"
        found = ring.statistics()
        seqs: list[int] = []
        read_until(reader, seqs, found.published)
        losses = reader.read_losses()
        assert seqs == list(range(found.published))
        assert 1 < found.published < deaths
        assert 1 < len(losses) < deaths
        assert found.offered == found.published + sum(loss.frames for loss in losses)


def test_a_killed_readers_successors_report_every_frame(tmp_path: Path) -> None:
    """SIGKILL of the encoder, three times: each frame is in the file, read whole or named lost."""
    report = tmp_path / "report"
    with frame_ring(6) as ring, closing(RingWriter.attach(ring.handles)) as writer:
        seq = 0
        for target in (40, 120, 210):
            with process("read", ring.handles, report):
                while seq < target:
                    seq += put(writer, seq, timeout_s=0.1)
            while put(writer, seq):  # nobody reads: the ring fills, the writer is not blocked
                seq += 1
        with process("read", ring.handles, report) as last:
            while seq < 300:
                seq += put(writer, seq, timeout_s=0.1)
            writer.end_stream("limit")
            assert last.wait(WAIT_S) == 0
    lines = [line.split() for line in report.read_text(encoding="ascii").splitlines()]
    reported: dict[int, set[str]] = {}
    committed = 0
    for kind, number in lines:
        if kind == "start":
            committed = int(number)
        else:
            assert int(number) >= committed, "a durable frame was reported again"
            reported.setdefault(int(number), set()).add(kind)
    assert sorted(reported) == list(range(seq))
    assert not any("torn" in kinds for kinds in reported.values())
    assert sum(kind == "start" for kind, _ in lines) >= 3


def test_a_stopped_reader_never_blocks_the_writer(tmp_path: Path) -> None:
    """An encoder under SIGSTOP costs refused frames, not the capture process; it goes on later."""
    with frame_ring(4) as ring, closing(RingWriter.attach(ring.handles)) as writer:
        with process("read", ring.handles, tmp_path / "report") as reader:
            seq = 0
            while seq < 20:
                seq += put(writer, seq, timeout_s=0.1)
            reader.send_signal(signal.SIGSTOP)
            os.waitpid(reader.pid, os.WUNTRACED)
            while put(writer, seq):
                seq += 1
            assert not put(writer, seq, timeout_s=0.05)
            reader.send_signal(signal.SIGCONT)
            while seq < 40:
                seq += put(writer, seq, timeout_s=0.1)
            writer.end_stream("limit")
            assert reader.wait(WAIT_S) == 0
        assert ring.statistics().released == seq


def test_an_observer_never_shows_a_torn_frame() -> None:
    """While the writer laps the observer at full speed, each shown frame is whole and newer."""
    with frame_ring(2, 1 << 20) as ring:
        with (
            process("churn", ring.handles),
            closing(RingObserver.attach(ring.handles)) as observer,
        ):
            out = np.zeros((1, 1 << 20), np.uint8)
            last, shown, overtaken = -1, 0, 0
            while shown < 150:
                seen = observer.latest(out, after_seq=last)
                if seen is None:
                    overtaken += observer.statistics().published - 1 > last
                    continue
                assert seen.seq > last
                assert seen.stamp == stamp_of(seen.seq)
                assert np.all(seen.pixels == shade(seen.seq)), f"frame {seen.seq} is torn"
                last, shown = seen.seq, shown + 1
        assert ring.statistics().published > shown


def test_a_word_is_never_seen_half_written() -> None:
    """Aligned 8-byte stores of one process are atomic to another (RING.md, "Order")."""
    spare = 60  # a word of the header page that nothing uses
    with frame_ring(2) as ring, process("flip", ring.handles, spare) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "flipping\n"
        header = SharedMemory.attach(ring.handles.memory).map(0, 4096, writable=False)
        words = header.view().cast("q")
        seen = {words[spare] for _ in range(300_000)}
        words.release()
        header.close()
        assert seen == {0, -1}


def test_nothing_is_left_when_all_processes_are_killed(tmp_path: Path) -> None:
    """The ring has no name: with owner, writer and reader killed, no file of it is anywhere."""
    before = set(os.listdir("/dev/shm"))
    with process("own", RingHandles(0, 1, 2), tmp_path / "report") as owner:
        assert owner.stdout is not None
        pids = json.loads(owner.stdout.readline())
        while not (tmp_path / "report").exists() or "read" not in (tmp_path / "report").read_text():
            assert owner.poll() is None
        for pid in pids:
            maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8")
            assert "/memfd:sealrec-ring (deleted)" in maps
            assert "/dev/shm" not in maps
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        owner.wait(WAIT_S)
        for pid in pids[1:]:
            os.waitpid(pid, 0)  # orphans come to the test's process
    named = {name for name in set(os.listdir("/dev/shm")) - before if "sealrec" in name}
    assert not named
