"""What holds of every split and of every limit, whatever the labels."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from core.data.manifest import choose, hold_out

LABELS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)
SEEDS = st.integers(0, 2**32)


def named(labels: list[str]) -> list[str]:
    return [f"{row}.png" for row in range(len(labels))]


@given(LABELS, st.floats(0, 0.89), SEEDS)
def test_each_class_is_held_out_in_proportion_and_never_whole(labels: list[str], fraction: float, seed: int) -> None:
    held_out = hold_out(named(labels), labels, fraction, seed)
    for label in set(labels):
        of_class = np.array([each == label for each in labels])
        size, out = of_class.sum(), (held_out & of_class).sum()
        assert out < size
        assert abs(out - fraction * size) <= 0.5 + 1e-9 or out == size - 1


@given(LABELS, st.floats(0, 0.89), SEEDS, st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_rows(labels: list[str], fraction: float, seed: int, random) -> None:
    ids = named(labels)
    held_out = hold_out(ids, labels, fraction, seed)
    order = list(range(len(labels)))
    random.shuffle(order)
    again = hold_out([ids[row] for row in order], [labels[row] for row in order], fraction, seed)
    assert again.tolist() == held_out[order].tolist()


@given(LABELS, st.floats(0, 0.89), SEEDS)
def test_a_larger_share_holds_out_the_same_and_more(labels: list[str], fraction: float, seed: int) -> None:
    less, more = (hold_out(named(labels), labels, share, seed) for share in (fraction / 2, fraction))
    assert not (less & ~more).any()


@given(LABELS, st.integers(2, 70), SEEDS)
def test_a_limit_is_met_exactly_and_by_class(labels: list[str], limit: int, seed: int) -> None:
    frame = pd.DataFrame({"sample_id": named(labels), "given_label": labels, "split": None})
    chosen = choose(frame, limit, seed)
    assert chosen.sum() == min(limit, len(labels))
    sizes = frame["given_label"].value_counts()
    kept = frame.loc[chosen, "given_label"].value_counts().reindex(sizes.index, fill_value=0)
    if limit >= len(sizes):
        assert (kept >= 1).all()
    exact = sizes * min(1.0, limit / len(labels))
    assert ((kept - exact).abs() < len(sizes)).all()
