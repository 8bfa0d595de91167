"""The ledger: every frame in exactly one class, whatever order and however often rows come."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.ledger import Ledger, Runs, WrittenRun
from ipc.frame import Loss, LossClass


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12))))
def test_runs_are_a_set(pairs: list[tuple[int, int]]) -> None:
    """Runs behave as a set of integers and count what was new at each addition."""
    runs, model = Runs(), set()
    for first, length in pairs:
        new = set(range(first, first + length + 1))
        assert runs.add(first, first + length) == len(new - model)
        model |= new
    assert runs.count == len(model)
    assert {i for a, b in runs for i in range(a, b + 1)} == model
    assert all(b + 1 < c for (_, b), (c, _) in zip(runs, list(runs)[1:], strict=False))
    assert all((value in runs) == (value in model) for value in range(80))


def _loss(loss_class: LossClass, first: int, last: int, epoch: int = 0) -> Loss:
    return Loss(loss_class, epoch, first, last, 0, 0)


def test_balanced_recording_with_losses() -> None:
    """Written and lost rows that cover every id once balance, and offered is their sum."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 9, 0, 100))
    ledger.add_lost(_loss(LossClass.CAMERA_GAP, 110, 114))
    ledger.add_written(WrittenRun(10, 12, 0, 115))
    balance = ledger.balance()
    assert balance.balanced
    assert balance.offered == 18
    assert balance.totals["written"] == 13
    assert balance.totals["camera_gap"] == 5


def test_missing_id_is_a_problem() -> None:
    """An id that is in no class unbalances the ledger and is named."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 4, 0, 0))
    ledger.add_written(WrittenRun(5, 9, 0, 6))
    balance = ledger.balance()
    assert not balance.balanced
    assert "ids 5 to 5 are in no class" in balance.problems[0]


def test_id_in_two_classes_is_a_problem() -> None:
    """A written id that is also named lost unbalances the ledger."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 4, 0, 0))
    ledger.add_lost(_loss(LossClass.RING_FULL, 4, 6))
    assert not ledger.balance().balanced


def test_frame_in_two_parts_counts_once() -> None:
    """A frame that a dead encoder and its successor both wrote counts once, by its number."""
    ledger = Ledger()
    assert ledger.add_written(WrittenRun(0, 9, 0, 0)) == 10
    assert ledger.add_written(WrittenRun(5, 14, 0, 5)) == 5
    assert ledger.balance().balanced
    assert ledger.written == 15


def test_durable_frame_named_encoder_lost_counts_as_written() -> None:
    """A successor may name a frame lost that was durable uncommitted: written wins."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 9, 0, 0))
    ledger.add_lost(_loss(LossClass.ENCODER_LOST, 8, 11))
    balance = ledger.balance()
    assert balance.balanced
    assert balance.totals["written"] == 10
    assert balance.totals["encoder_lost"] == 2
    assert balance.offered == 12


def test_same_id_under_two_sequence_numbers_is_a_problem() -> None:
    """One id written twice under different sequence numbers is not accounted for."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 0, 0, 7))
    ledger.add_written(WrittenRun(1, 1, 0, 7))
    assert not ledger.balance().balanced


def test_gap_without_ids_counts_no_frames() -> None:
    """An unplugged camera's gap is one gap of unknown ids and balances."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 4, 0, 0))
    ledger.add_lost(Loss(LossClass.CAMERA_GAP, 1, None, None, 10, 20))
    ledger.add_written(WrittenRun(5, 9, 1, 0))
    assert ledger.gaps == 1
    assert ledger.balance().balanced
    assert ledger.balance().offered == 10


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_order_and_repetition_do_not_matter(random, count: int) -> None:
    """Any order of rows, each at least once, gives the same balanced totals."""
    rows: list[WrittenRun | Loss] = []
    seq = 0
    for frame_id in range(count):
        kind = random.choice([None, *LossClass])
        if kind is None:
            rows.append(WrittenRun(seq, seq, 0, frame_id))
            seq += 1
        else:
            rows.append(_loss(kind, frame_id, frame_id))
    shuffled = rows + [random.choice(rows) for _ in range(5)]
    random.shuffle(shuffled)
    ledger = Ledger()
    for row in shuffled:
        if isinstance(row, Loss):
            ledger.add_lost(row)
        else:
            ledger.add_written(row)
    balance = ledger.balance()
    assert balance.balanced
    assert balance.offered == count
    copy = Ledger()
    copy.add_snapshot(ledger.snapshot())
    assert copy.balance() == balance


@settings(deadline=None)
@given(
    st.sets(st.integers(0, 30)),
    st.lists(
        st.tuples(
            st.sampled_from(
                [
                    LossClass.PAUSED,
                    LossClass.ENCODE_ERROR,
                    LossClass.WRITE_ERROR,
                    LossClass.ENCODER_LOST,
                ]
            ),
            st.integers(0, 30),
            st.integers(0, 5),
        )
    ),
)
def test_an_encoders_word_is_overtaken_by_a_file(
    written: set[int], said: list[tuple[LossClass, int, int]]
) -> None:
    """However often dying encoders gave a frame up, it counts once, and as written if it is."""
    ledger, lost = Ledger(), set()
    for seq in written:
        ledger.add_written(WrittenRun(seq, seq, 0, seq))
    for loss_class, first, length in said:
        ledger.add_lost(_loss(loss_class, first, first + length))
        lost |= set(range(first, first + length + 1))
    totals = ledger.totals()
    assert totals["written"] == len(written)
    assert sum(totals.values()) == len(written | lost)
    assert not any("two classes" in problem for problem in ledger.balance().problems)


def test_a_class_of_captures_is_never_overtaken() -> None:
    """A frame that is written and said to have found the ring full is a contradiction."""
    ledger = Ledger()
    ledger.add_written(WrittenRun(0, 3, 0, 0))
    ledger.add_lost(_loss(LossClass.RING_FULL, 2, 2))
    assert not ledger.balance().balanced
