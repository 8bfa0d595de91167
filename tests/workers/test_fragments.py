"""Fragments: every frame comes out once and in order, and each fragment begins with a key frame."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from engine.container.tables import FrameRow
from ipc.errors import EncoderError
from ipc.frame import FrameFlags, FrameStamp
from workers.codecs.spec import Sample
from workers.fragments import FRAGMENT_NS, FRAGMENT_TICKS, Assembly, FragmentAssembler

GOP = 5


def stamp_of(seq: int, flags: int = 0) -> FrameStamp:
    """A stamp that can be told from others."""
    return FrameStamp(3, 100 + seq, 7_000 + seq, 9_000 + seq, flags)


class Encoding(RuleBasedStateMachine):
    """An encoder that holds back up to one frame, fed through an assembler in any rhythm."""

    def __init__(self) -> None:
        super().__init__()
        self.assembler = FragmentAssembler(GOP)
        self.held: deque[Sample] = deque()
        self.delay = 0
        self.seq = self.pts = self.now_ns = 0
        self.added: list[int] = []
        self.given_up: list[int] = []
        self.out: list[Assembly] = []

    @rule(delay=st.integers(0, 1))
    def set_delay(self, delay: int) -> None:
        """The encoder holds back so many frames from now on."""
        self.delay = delay

    @rule(step=st.integers(1, FRAGMENT_TICKS), wait=st.integers(0, FRAGMENT_NS))
    def frame(self, step: int, wait: int) -> None:
        """A frame comes."""
        self.pts += step
        self.now_ns += wait
        key = self.assembler.wants_key()
        self.assembler.add(self.seq, stamp_of(self.seq), self.pts, self.now_ns)
        self.added.append(self.seq)
        self.held.append(Sample(self.pts, b"x", key))
        self.seq += 1
        self.take(self.delay)
        if self.assembler.complete(self.pts, self.now_ns):
            self.assembler.close()
        self.collect()

    @rule()
    def refused_frame(self) -> None:
        """A frame that the encoder refuses leaves no trace."""
        self.pts += 1
        self.assembler.add(self.seq, stamp_of(self.seq), self.pts, self.now_ns)
        self.assembler.drop_last()
        self.seq += 1

    @rule()
    def idle(self) -> None:
        """No frame came for a while."""
        self.assembler.close()
        self.collect()

    @rule()
    def flush(self) -> None:
        """The encoder gives all it holds; the part is about to be sealed."""
        self.take(0)
        self.assembler.close()
        self.collect()
        assert self.assembler.empty

    @rule()
    def lose_the_held(self) -> None:
        """The encoder fails to flush: the frames it holds are named."""
        self.held.clear()
        self.given_up += [stamp.frame_id - 100 for stamp in self.assembler.give_up_waiting()]
        self.assembler.close()
        self.collect()
        assert self.assembler.empty

    @rule()
    def disk_fails(self) -> None:
        """Everything not handed out is given up, and named."""
        self.held.clear()
        self.given_up += [stamp.frame_id - 100 for stamp in self.assembler.abandon()]
        assert self.assembler.empty

    def take(self, keep: int) -> None:
        """Samples come out of the encoder."""
        samples = [self.held.popleft() for _ in range(len(self.held) - keep)]
        self.assembler.take(samples)

    def collect(self) -> None:
        """Closed fragments go to the disk."""
        while (closed := self.assembler.next_closed()) is not None:
            self.out.append(closed)

    def written(self) -> list[int]:
        """Sequence numbers that came out."""
        return [row.seq for assembly in self.out for row in assembly.rows]

    @invariant()
    def every_frame_is_out_once_or_inside(self) -> None:
        """Nothing is lost, doubled or reordered."""
        done = sorted([*self.written(), *self.given_up])
        assert done == self.added[: len(done)]
        assert len(self.added) - len(done) == self.assembler.frames
        assert self.written() == sorted(self.written())

    @invariant()
    def every_fragment_is_sound(self) -> None:
        """It begins with a key frame, rows and samples belong together, and it is not too long."""
        for assembly in self.out:
            assert assembly.samples[0].key
            assert 1 <= len(assembly.rows) <= GOP
            for row, sample in zip(assembly.rows, assembly.samples, strict=True):
                assert row.pts == sample.pts
                assert bool(row.flags & FrameFlags.KEY_FRAME) == sample.key
                expected = stamp_of(row.seq)
                assert (row.epoch, row.frame_id) == (expected.epoch, expected.frame_id)
                assert (row.camera_ns, row.host_ns) == (expected.camera_ns, expected.host_ns)


TestEncoding = Encoding.TestCase
TestEncoding.settings = settings(deadline=None, max_examples=80, stateful_step_count=40)


@pytest.mark.parametrize(
    ("count", "step_ticks", "step_ns", "closes_after"),
    [
        (20, 100, 0, GOP),
        (20, FRAGMENT_TICKS, 0, 2),
        (20, 100, FRAGMENT_NS // 2, 3),
    ],
)
def test_a_fragment_closes_by_count_by_media_time_and_by_age(
    count: int, step_ticks: int, step_ns: int, closes_after: int
) -> None:
    """Whichever of a whole GOP, 0.8 s of media and 0.8 s of age comes first."""
    assembler = FragmentAssembler(GOP)
    lengths = []
    for seq in range(count):
        pts, now_ns = seq * step_ticks, seq * step_ns
        key = assembler.wants_key()
        assembler.add(seq, stamp_of(seq), pts, now_ns)
        assembler.take([Sample(pts, b"x", key)])
        if assembler.complete(pts, now_ns):
            assembler.close()
        while (closed := assembler.next_closed()) is not None:
            lengths.append(len(closed.rows))
    assert set(lengths) == {closes_after}


def test_flags_of_the_stamp_are_kept() -> None:
    """What capture said of a frame stands in its row, beside the key frame's flag."""
    assembler = FragmentAssembler(GOP)
    assembler.add(0, stamp_of(0, FrameFlags.SETTINGS_CHANGED), 0, 0)
    assembler.take([Sample(0, b"x", True)])
    assembler.close()
    closed = assembler.next_closed()
    assert closed is not None
    flags = FrameFlags.SETTINGS_CHANGED | FrameFlags.KEY_FRAME
    assert closed.rows == (FrameRow(0, 3, 100, 7_000, 9_000, 0, int(flags)),)


def test_a_key_frame_that_nobody_asked_for_begins_a_fragment() -> None:
    """An encoder's own key frame cuts there: what came before closes."""
    assembler = FragmentAssembler(GOP)
    for seq in range(3):
        assembler.add(seq, stamp_of(seq), seq, 0)
        assembler.take([Sample(seq, b"x", seq in (0, 2))])
    closed = assembler.next_closed()
    assert closed is not None
    assert [row.seq for row in closed.rows] == [0, 1]


@pytest.mark.parametrize(
    "samples",
    [[Sample(5, b"x", True)], [Sample(0, b"x", False)], [Sample(0, b"x", True)] * 2],
)
def test_samples_that_fit_no_frame_are_refused(samples: list[Sample]) -> None:
    """An unknown time, no key frame at the beginning, one sample too many: an EncoderError."""
    assembler = FragmentAssembler(GOP)
    assembler.add(0, stamp_of(0), 0, 0)
    with pytest.raises(EncoderError):
        assembler.take(samples)


@settings(deadline=None)
@given(st.integers(1, 30))
def test_nothing_to_close_gives_nothing(closes: int) -> None:
    """Closing an empty fragment makes none."""
    assembler = FragmentAssembler(GOP)
    for _ in range(closes):
        assembler.close()
    assert assembler.next_closed() is None
    assert assembler.empty
    assert not assembler.complete(10**9, 10**12)
