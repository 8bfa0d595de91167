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
    gaps=st.integers(0, 4),
)
def test_every_frame_is_durable_or_named(
    slots: int, read: int, more: int, committed_share: float, gaps: int
) -> None:
    """Read or not, lapped or not: with what is durable, the account of the ring is whole."""
    committed, gaps_committed = int(read * committed_share), int(gaps * committed_share)
    durable = Ledger()
    with small_ring(slots) as ring, closing(RingWriter.attach(ring.handles)) as writer:
        writer.begin_epoch()
        for number in range(gaps):
            writer.record_loss(Loss(LossClass.CAMERA_GAP, 2, number, number, 1, 2))
        with closing(RingReader.attach(ring.handles)) as reader:
            reader.resume()
            for seq in range(read):
                assert publish(writer, seq)
                assert reader.read() is not None
                reader.release(seq)
            if committed:
                reader.commit(committed - 1)
                durable.add_written(WrittenRun(0, committed - 1, 1, 1000))
            for loss in reader.read_losses()[:gaps_committed]:
                durable.add_lost(loss)
            reader.commit_losses(gaps_committed)
        while more and publish(writer, ring.statistics().published):
            more -= 1
        for loss in leftovers(ring.handles):
            durable.add_lost(loss)
        totals, found = durable.totals(), ring.statistics()
        assert totals["written"] == committed
        assert totals["written"] + totals["encoder_lost"] == found.published
        assert totals["camera_gap"] == gaps
        assert sum(totals.values()) == found.offered
