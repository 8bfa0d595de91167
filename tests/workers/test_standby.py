"""Standing by between recordings: which frames and which losses a recording begins with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

from ipc.frame import Loss, LossClass
from ipc.messages import StandBy
from ipc.ring import RingReader, RingWriter
from tests.ipc.ring_kit import publish, small_ring, stamp_of
from workers.standby import Standby


@contextmanager
def ring_ends() -> Iterator[tuple[RingWriter, RingReader]]:
    """Writer and reader of a ring of eight slots."""
    with (
        small_ring(slots=8) as ring,
        closing(RingWriter.attach(ring.handles)) as writer,
        closing(RingReader.attach(ring.handles)) as reader,
    ):
        reader.resume()
        yield writer, reader


def lose_before(writer: RingWriter, seq: int) -> None:
    """Log a frame that the full ring refused just before another arrived."""
    at_ns = stamp_of(seq).host_ns
    writer.record_loss(Loss(LossClass.RING_FULL, 1, 2000 + seq, 2000 + seq, at_ns, at_ns))


def test_losses_before_a_frame_that_is_let_go_go_with_it() -> None:
    """Also where frames are let go for want of slots: their time alone would let them stay."""
    with ring_ends() as (writer, reader):
        # A host clock of the year one: nothing is ever too old to be held.
        standby = Standby(reader, StandBy(hold_s=1e9, hold_frames=3))
        for seq in range(6):
            lose_before(writer, seq)
            assert publish(writer, seq)
        standby.turn(may_let_go=True)
        begun = standby.begin(since_ns=0)
        assert [frame.seq for frame in begun.frames] == [3, 4, 5]
        assert [loss.first_id for loss in begun.losses] == [2003, 2004, 2005]
        assert (begun.first_seq, begun.lost_before) == (3, 3)


def test_a_loss_beyond_the_frames_read_is_left_for_later() -> None:
    """A frame that arrives between the two looks at the ring is not passed over."""
    with ring_ends() as (writer, reader):
        standby = Standby(reader, StandBy(hold_s=1e9, hold_frames=8))
        assert publish(writer, 0)
        standby.turn(may_let_go=True)
        assert publish(writer, 1)
        lose_before(writer, 2)
        assert publish(writer, 2)
        read_frames = reader.read
        reader.read = lambda: None  # type: ignore[method-assign]  # as if it had looked before
        begun = standby.begin(since_ns=0)
        assert [frame.seq for frame in begun.frames] == [0]
        assert begun.losses == []
        reader.read = read_frames  # type: ignore[method-assign]
        assert reader.losses_before(3) == 1
