"""The frame ring when its processes are interleaved, killed and restarted at any instruction.

One thread runs all parts, so that every order can be chosen and repeated: an action runs before a
chosen bytecode instruction of the other part, or ends it there. What differs between processors
(RING.md, "Order") is not covered here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ipc.frame import FrameStamp, Loss, LossClass
from ipc.ring import Ring, RingFrame, RingObserver, RingReader, RingWriter
from tests.ipc.ring_kit import (
    SHAPE,
    Killed,
    check_frame,
    drain,
    interleave,
    kill_at,
    on_instruction,
    publish,
    seqs_of,
    shade,
    small_ring,
    stamp_of,
)

SLOTS = 4


def writer_steps(writer: RingWriter) -> Iterator[None]:
    """Publish frames for ever, stopping after each half-filled slot and each attempt."""
    seq = writer.statistics().published
    while True:
        slot = writer.acquire(stamp_of(seq), **SHAPE)
        if slot is not None:
            yield
            slot[:2] = shade(seq)
            yield
            slot[2:] = shade(seq)
            yield
            assert writer.publish() == seq
            seq += 1
        yield


def advance(steps: Iterator[None], count: int) -> None:
    for _ in range(count):
        next(steps)


def run_predecessor(ring: Ring, writer: RingWriter, frames: int, committed: int) -> None:
    """An encoder that read and released all frames, made some durable and was killed."""
    with closing(RingReader.attach(ring.handles)) as reader:
        reader.resume()
        for seq in range(frames):
            assert publish(writer, seq)
            drain(reader)
        reader.commit(committed - 1)


def check_exactly_once(reported: list[int], first: int, published: int) -> None:
    assert sorted(reported) == list(range(first, published))


def read_all_held(reader: RingReader) -> list[RingFrame]:
    frames = []
    while (frame := reader.read()) is not None:
        check_frame(frame)
        frames.append(frame)
    return frames


def resume_among(
    ring: Ring, writer: RingWriter, committed: int, moments: dict[int, int], already: int = 0
) -> int:
    """Start a successor while the writer moves at chosen instructions of it; check the account.

    Args:
        ring: Holds what the predecessor left.
        writer: Moves.
        committed: First sequence number that must be reported.
        moments: Writer's steps before the instruction with this number.
        already: Steps the writer has made before the successor starts.

    Returns:
        Instructions that the successor needed.
    """
    steps = writer_steps(writer)
    advance(steps, already)
    executed = 0

    def action(count: int) -> None:
        nonlocal executed
        executed = count
        advance(steps, moments.get(count, 0))

    with closing(RingReader.attach(ring.handles)) as reader:
        with on_instruction(action):
            reported = seqs_of(reader.resume())
            held = read_all_held(reader)
        advance(steps, 5 * SLOTS)
        for frame in held:
            check_frame(frame)  # what was read stays whole until released
            reader.release(frame.seq)
        reported += [frame.seq for frame in held]
        for _ in range(3):
            reported += drain(reader)
            advance(steps, 7)
        reported += drain(reader)
        reported += seqs_of(reader.read_losses())
        check_exactly_once(reported, committed, reader.published)
        assert reader.published > SLOTS, "the writer went on"
    return executed


@pytest.mark.parametrize(
    ("committed", "already", "count"), [(1, 0, 25), (1, 2, 1), (3, 3, 2), (2, 3, 6)]
)
def test_a_writer_moving_at_any_instruction_of_a_start(
    committed: int, already: int, count: int
) -> None:
    """Each frame is read whole or named lost, once, wherever the writer goes on meanwhile."""
    for moment in itertools.count(1):
        with small_ring(SLOTS) as ring, closing(RingWriter.attach(ring.handles)) as writer:
            run_predecessor(ring, writer, 6, committed)
            executed = resume_among(ring, writer, committed, {moment: count}, already)
        if moment > executed:
            break
    assert moment > 50, "the start was not stepped through"


@settings(deadline=None, max_examples=50)
@given(
    frames=st.integers(0, 11),
    durable=st.integers(0, 11),
    already=st.integers(0, 9),
    moments=st.dictionaries(st.integers(1, 150), st.integers(1, 24), max_size=8),
)
def test_a_writer_moving_now_and_then_during_a_start(
    frames: int, durable: int, already: int, moments: dict[int, int]
) -> None:
    """The same with any history and any pattern of moves."""
    committed = min(frames, durable)
    with small_ring(SLOTS) as ring, closing(RingWriter.attach(ring.handles)) as writer:
        run_predecessor(ring, writer, frames, committed)
        resume_among(ring, writer, committed, moments, already)


def start_while_writing(ring: Ring, writer: RingWriter, committed: int, turns: list[int]) -> None:
    """Publish two frames and start a successor, switching as told; check the account."""
    base = writer.statistics().published
    taken: list[bool] = []
    reported: list[int] = []
    held: list[RingFrame] = []

    def write() -> None:
        for _ in range(2):
            taken.append(publish(writer, base + sum(taken)))

    with closing(RingReader.attach(ring.handles)) as reader:

        def read() -> None:
            reported.extend(seqs_of(reader.resume()))
            held.extend(read_all_held(reader))

        interleave(write, read, turns)
        for frame in held:
            check_frame(frame)
            reader.release(frame.seq)
        reported += [frame.seq for frame in held] + drain(reader)
        reported += seqs_of(reader.read_losses())
        published = reader.published
        assert published == base + sum(taken)
        check_exactly_once(reported, committed, published)
        reader.commit(published - 1)


def test_a_start_at_any_instruction_of_the_writer() -> None:
    """A successor stops anywhere in its start while the writer stops anywhere in acquire."""
    to_the_end = 10**6
    in_first_acquire = itertools.product(range(14), [*range(8, 26), *range(26, 80, 9), to_the_end])
    # The successor has just begun when the writer publishes and goes on to its next acquire.
    in_second_acquire = itertools.product([0], range(1, 8), range(20, 48), [to_the_end])
    with small_ring(SLOTS) as ring, closing(RingWriter.attach(ring.handles)) as writer:
        for turns in itertools.chain(in_first_acquire, in_second_acquire):
            base = writer.statistics().published
            durable = 1 if len(turns) == 4 else 0
            with closing(RingReader.attach(ring.handles)) as predecessor:
                predecessor.resume()
                for seq in range(base, base + SLOTS):
                    assert publish(writer, seq)
                drain(predecessor)
                predecessor.commit(base + durable - 1)
            start_while_writing(ring, writer, base + durable, list(turns))


@settings(deadline=None, max_examples=50)
@given(
    frames=st.integers(0, 9),
    durable=st.integers(0, 9),
    turns=st.lists(st.integers(0, 40), max_size=10),
)
def test_a_start_and_a_writer_in_any_order(frames: int, durable: int, turns: list[int]) -> None:
    """The same with any history and any pattern of switches."""
    committed = min(frames, durable)
    with small_ring(SLOTS) as ring, closing(RingWriter.attach(ring.handles)) as writer:
        run_predecessor(ring, writer, frames, committed)
        start_while_writing(ring, writer, committed, turns)


def writer_life(writer: RingWriter, done: list[str], losses: list[Loss]) -> None:
    """Everything a writer does; ``done`` tells how far it came."""
    writer.begin_epoch()
    writer.record_loss(losses[0])
    done.append("logged")
    assert publish(writer, SLOTS)
    done.append("published")
    writer.record_loss(losses[1])
    done.append("logged")
    writer.end_stream("limit")
    done.append("ended")


def test_a_writer_killed_at_any_instruction_leaves_a_consistent_ring() -> None:
    """What it finished is there, what it had begun is not, and its successor goes on."""
    losses = [
        Loss(LossClass.CAMERA_GAP, 1, 1, 7, 2, 3),
        Loss(LossClass.RING_FULL, 1, 8, 9, 3, 4),
    ]
    for moment in itertools.count(1):
        with small_ring(SLOTS) as ring, closing(RingReader.attach(ring.handles)) as reader:
            reader.resume()
            writer = RingWriter.attach(ring.handles)
            for seq in range(SLOTS):
                assert publish(writer, seq)
            seqs = drain(reader)
            done: list[str] = []
            try:
                with on_instruction(kill_at(moment)):
                    writer_life(writer, done, losses)
            except Killed:
                pass
            writer.close()
            seqs += drain(reader)
            found = reader.read_losses()
            assert done.count("published") <= len(seqs) - SLOTS <= done.count("published") + 1
            assert done.count("logged") <= len(found) <= done.count("logged") + 1
            assert found == losses[: len(found)]
            assert ("ended" in done) <= (reader.ended == "limit")
            statistics = ring.statistics()
            assert statistics.published == len(seqs)
            assert statistics.offered == len(seqs) + sum(loss.frames for loss in found)
            with closing(RingWriter.attach(ring.handles)) as successor:
                assert successor.last_stamp == stamp_of(len(seqs) - 1)
                assert successor.begin_epoch() == statistics.epoch + 1
                successor.record_loss(losses[0])
                for seq in range(len(seqs), len(seqs) + SLOTS):
                    assert publish(successor, seq)
            seqs += drain(reader)
            assert seqs == list(range(len(seqs)))
            assert reader.read_losses() == losses[:1]
            assert ring.statistics().offered == (
                len(seqs) + sum(loss.frames for loss in found) + losses[0].frames
            )
        if "ended" in done:
            break
    assert moment > 70, "the writer was not stepped through"


def reader_life(reader: RingReader, reported: list[int]) -> None:
    """Everything a reader does; ``reported`` is what a file would hold."""
    reported += seqs_of(reader.resume())
    reader.read_losses()
    while (frame := reader.read()) is not None:
        check_frame(frame)
        reported.append(frame.seq)
        reader.release(frame.seq)
        if frame.seq % 2:
            reader.commit(frame.seq)
            reader.commit_losses(reader.loss_cursor)


def test_a_reader_killed_at_any_instruction_loses_no_frame() -> None:
    """Its successor reports exactly what was not committed, and the writer is never blocked."""
    loss = Loss(LossClass.CAMERA_GAP, 1, 1, 7, 2, 3)
    for moment in itertools.count(1):
        with small_ring(SLOTS) as ring, closing(RingWriter.attach(ring.handles)) as writer:
            run_predecessor(ring, writer, 7, 1)
            writer.record_loss(loss)
            reader = RingReader.attach(ring.handles)
            reported: list[int] = []
            killed = False
            try:
                with on_instruction(kill_at(moment)):
                    reader_life(reader, reported)
            except Killed:
                killed = True
            reader.close()
            statistics = ring.statistics()
            assert set(range(1, statistics.committed)) <= set(reported)
            for seq in itertools.count(7):
                if not publish(writer, seq):
                    break
            with closing(RingReader.attach(ring.handles)) as successor:
                again = seqs_of(successor.resume()) + drain(successor)
                found = successor.read_losses()
                again += seqs_of(found)
                check_exactly_once(again, statistics.committed, successor.published)
                assert found.count(loss) == statistics.losses_waiting
            assert publish(writer, seq)
        if not killed:
            break
    assert moment > 100, "the reader was not stepped through"


class RingMachine(RuleBasedStateMachine):
    """One ring, its model, and processes that come and go between any two calls."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[FrameStamp] = []
        self.logged: list[Loss] = []
        self.durable: dict[int, str] = {}  # sequence number -> "read" or "lost"
        self.durable_losses: list[Loss] = []
        self.reported: dict[int, str] = {}  # by the present reader, not durable yet
        self.seen_losses: list[Loss] = []
        self.held: list[RingFrame] = []
        self.acquired = False
        self.next_id = 0
        self.epoch = 0
        self.released = 0

    @initialize(slots=st.integers(2, 5), table=st.sampled_from([8, 16]), losses=st.integers(1, 4))
    def start(self, slots: int, table: int, losses: int) -> None:
        self.context = small_ring(slots, table=table, losses=losses)
        self.ring = self.context.__enter__()
        self.slots = slots
        self.writer = RingWriter.attach(self.ring.handles)
        self.observer = RingObserver.attach(self.ring.handles)
        self.reader = RingReader.attach(self.ring.handles)
        self.begin_epoch()
        assert self.reader.resume() == []

    def teardown(self) -> None:
        if not hasattr(self, "ring"):
            return
        while self.writer.pending_losses:
            self.read_losses()
            self.commit(0)
            self.writer.flush_losses()
        self.restart_reader()
        # Not until all are reported: one that was being overwritten is named by the losses only.
        while self.reader.position < self.reader.published:
            self.read()
            self.release(0)
        self.read_losses()
        self.release(0)
        self.commit(0)
        assert sorted(self.durable) == list(range(len(self.published)))
        assert sum(loss.frames for loss in self.durable_losses) == sum(
            loss.frames for loss in self.logged
        )
        statistics = self.ring.statistics()
        assert statistics.offered == len(self.published) + sum(loss.frames for loss in self.logged)
        assert statistics.crash_cover_frames == self.slots
        self.held = []
        for end in (self.writer, self.reader, self.observer):
            end.close()
        self.context.__exit__(None, None, None)

    # --- the capture process ---

    @rule()
    def begin_epoch(self) -> None:
        self.epoch += 1
        assert self.writer.begin_epoch() == self.epoch

    @rule(dropped=st.booleans())
    def acquire(self, dropped: bool) -> None:
        seq = len(self.published)
        stamp = FrameStamp(self.epoch, self.next_id, seq, seq)
        slot = self.writer.acquire(stamp, **SHAPE)
        self.acquired = slot is not None
        if slot is None:
            statistics = self.ring.statistics()
            assert (
                statistics.published - statistics.released >= self.slots
                or statistics.published - statistics.committed >= 8
            ), "refused although there was room"
            self.next_id += 1
            self.lose(LossClass.RING_FULL, 1)
            return
        slot[: 2 if dropped else None] = shade(seq)
        self.filled = not dropped
        self.stamp = stamp

    @precondition(lambda self: self.acquired)
    @rule()
    def publish(self) -> None:
        seq = len(self.published)
        if not self.filled:
            self.acquired = False
            self.next_id += 1
            self.lose(LossClass.INCOMPLETE, 1)
            return
        assert self.writer.publish() == seq
        self.published.append(self.stamp)
        self.next_id += 1
        self.acquired = False

    @rule(frames=st.integers(1, 5))
    def gap(self, frames: int) -> None:
        self.acquired = False
        self.next_id += frames
        self.lose(LossClass.CAMERA_GAP, frames)

    def lose(self, loss_class: LossClass, frames: int) -> None:
        loss = Loss(loss_class, self.epoch, self.next_id - frames, self.next_id - 1, 1, 2)
        self.writer.record_loss(loss)
        self.logged.append(loss)

    @precondition(lambda self: not self.writer.pending_losses)
    @rule()
    def restart_writer(self) -> None:
        self.writer.close()
        self.writer = RingWriter.attach(self.ring.handles)
        self.acquired = False
        last = self.published[-1] if self.published else None
        assert self.writer.last_stamp == last

    # --- the encoder process ---

    def report(self, seq: int, how: str) -> None:
        assert seq not in self.reported
        assert seq not in self.durable
        self.reported[seq] = how

    def report_lapped(self, losses: list[Loss]) -> None:
        known = {(stamp.epoch, stamp.frame_id): seq for seq, stamp in enumerate(self.published)}
        for loss in losses:
            assert loss.first_id is not None
            assert loss.last_id is not None
            for frame_id in range(loss.first_id, loss.last_id + 1):
                self.report(known[loss.epoch, frame_id], "lost")

    @rule()
    def read(self) -> None:
        frame = self.reader.read()
        if frame is not None:
            self.report(frame.seq, "read")
            assert frame.stamp == self.published[frame.seq]
            self.held.append(frame)

    @rule(kept=st.integers(0, 2))
    def release(self, kept: int) -> None:
        if len(self.held) > kept:
            self.reader.release(self.held[-1 - kept].seq)
            del self.held[: len(self.held) - kept]

    @rule(kept=st.integers(0, 2))
    def commit(self, kept: int) -> None:
        through = self.ring.statistics().released - 1 - kept
        self.read_losses()
        self.reader.commit(through)
        for seq in [seq for seq in self.reported if seq <= through]:
            self.durable[seq] = self.reported.pop(seq)
        assert sorted(self.durable) == list(range(len(self.durable)))
        self.reader.commit_losses(self.reader.loss_cursor)
        self.durable_losses += self.seen_losses
        self.seen_losses = []

    @rule()
    def read_losses(self) -> None:
        found = self.reader.read_losses()
        lapped = [loss for loss in found if loss.loss_class is LossClass.ENCODER_LOST]
        self.report_lapped(lapped)
        self.seen_losses += found[len(lapped) :]

    @rule()
    def restart_reader(self) -> None:
        self.held = []
        self.reported = {}
        self.seen_losses = []
        self.reader.close()
        self.reader = RingReader.attach(self.ring.handles)
        self.report_lapped(self.reader.resume())

    @rule()
    def end_and_go_on(self) -> None:
        self.writer.end_stream("stopped")
        assert self.reader.ended == "stopped"
        self.begin_epoch()

    # --- always ---

    @invariant()
    def held_frames_are_whole(self) -> None:
        for frame in self.held:
            assert (frame.pixels == shade(frame.seq)).all()

    @invariant()
    def the_observer_sees_the_last_frame(self) -> None:
        if not hasattr(self, "ring"):
            return
        seen = self.observer.latest()
        if not self.published:
            assert seen is None
        else:
            assert seen is not None
            assert seen.stamp == self.published[-1]
            assert (seen.pixels == shade(seen.seq)).all()

    @invariant()
    def figures_agree(self) -> None:
        if not hasattr(self, "ring"):
            return
        statistics = self.ring.statistics()
        assert statistics.committed <= statistics.released <= statistics.published
        assert statistics.published == len(self.published)
        assert statistics.committed == len(self.durable)
        assert statistics.high_water <= self.slots
        assert statistics.crash_cover_frames == max(
            0, self.slots - len(self.published) + len(self.durable)
        )


def test_every_frame_is_read_or_named_once_whatever_restarts() -> None:
    """Random lives of writers and readers against a model of what is durable."""
    run_state_machine_as_test(
        RingMachine, settings=settings(deadline=None, max_examples=40, stateful_step_count=40)
    )
