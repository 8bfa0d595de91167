"""What a ring still holds at the end, when no encoder is left: all of it is named, once."""

from __future__ import annotations

from contextlib import closing

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import Ledger, WrittenRun
from engine.leftovers import leftovers
from ipc.frame import Loss, LossClass
from ipc.ring import RingReader, RingWriter
from tests.ipc.ring_kit import publish, small_ring


@settings(deadline=None, max_examples=50)
@given(
    slots=st.integers(2, 6),
    read=st.integers(0, 12),
    more=st.integers(0, 6),
    committed_share=st.floats(0, 1),
    losses=st.lists(st.integers(0, 50), max_size=4, unique=True),
    losses_committed=st.integers(0, 4),
)
def test_every_frame_is_durable_or_named(
    slots: int,
    read: int,
    more: int,
    committed_share: float,
    losses: list[int],
    losses_committed: int,
) -> None:
    """Read or not, lapped or not: with what is durable, the account of the ring is whole."""
    with small_ring(slots) as ring:
        durable, published = Ledger(), 0
        with closing(RingWriter.attach(ring.handles)) as writer:
            writer.begin_epoch()
            for number in losses:
                gap = Loss(LossClass.CAMERA_GAP, 2, number * 10, number * 10, 1, 2)
                writer.record_loss(gap)
            with closing(RingReader.attach(ring.handles)) as reader:
                reader.resume()
                for _ in range(read):
                    assert publish(writer, published)
                    published += 1
                    frame = reader.read()
                    assert frame is not None
                    reader.release(frame.seq)
                committed = int(read * committed_share)
                if committed:
                    reader.commit(committed - 1)
                    durable.add_written(WrittenRun(0, committed - 1, 1, 1000))
                for loss in reader.read_losses()[:losses_committed]:
                    durable.add_lost(loss)
                reader.commit_losses(min(losses_committed, len(losses)))
            for _ in range(more):
                published += publish(writer, published)
        for loss in leftovers(ring.handles):
            durable.add_lost(loss)
        totals = durable.totals()
        assert totals["written"] == committed
        assert totals["written"] + totals["encoder_lost"] == published
        assert totals["camera_gap"] == len(losses)
        assert sum(totals.values()) == ring.statistics().offered
