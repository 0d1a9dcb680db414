"""Scores of a recorded training against traces worked by hand (METHODS: hand traces)."""

import math

import numpy as np
import pytest

from core.models.recorder import History
from core.scores import dynamics
from tests.helpers import history_of


def of_correct(*traces: str) -> History:
    """A record in which sample i was right where its trace has a 1."""
    right = np.array([[sign == "1" for sign in trace] for trace in traces]).T
    logits = np.where(right[:, :, None], [[[1.0, 0.0]]], [[[0.0, 1.0]]])
    return history_of(logits, np.zeros(len(traces), np.int64))


def of_probabilities(values: list[list[float]]) -> History:
    """A record of two classes in which sample i's given label had `values[i]`."""
    p = np.array(values).T
    return history_of(np.stack([np.log(p), np.log(1 - p)], axis=2), np.zeros(len(values), np.int64))


@pytest.mark.parametrize(
    ("trace", "events", "first", "correct"),
    [("1010", 2, 1, 2), ("000", 3, 4, 0), ("111", 0, 1, 3), ("011", 0, 2, 2), ("0010", 1, 3, 1), ("1", 0, 1, 1),
     ("0", 1, 2, 0)],
)  # fmt: skip
def test_traces_by_hand(trace: str, events: int, first: int, correct: int) -> None:
    history = of_correct(trace)
    assert dynamics.forgetting(history).tolist() == [events]
    assert dynamics.first_learned(history).tolist() == [first]
    assert dynamics.correctness(history).tolist() == [correct]


def test_never_learned_counts_more_than_any_that_was_learned() -> None:
    history = of_correct("10101", "01010", "00000", "11111")
    assert dynamics.forgetting(history).tolist() == [2, 2, 5, 0]
    assert dynamics.first_learned(history).tolist() == [1, 2, 6, 1]


def test_a_tie_for_the_first_place_is_not_learned() -> None:
    assert dynamics.correctness(history_of(np.zeros((1, 1, 2)), np.array([0]))).tolist() == [0]


def test_area_under_a_constant_margin() -> None:
    constant = history_of(np.tile([[[2.0, 1.0, 0.0]]], (5, 1, 1)), np.array([0]))
    assert dynamics.aum(constant).tolist() == [1]
    changing = history_of(np.array([[[2.0, 1.0, 0.0]], [[0.0, 3.0, 5.0]]]), np.array([0]))
    assert dynamics.aum(changing).tolist() == [(1 - 5) / 2]


def test_confidence_variability_and_mean_loss() -> None:
    history = of_probabilities([[0.2, 0.8], [0.5, 0.5]])
    assert dynamics.confidence(history) == pytest.approx([0.5, 0.5])
    assert dynamics.variability(history) == pytest.approx([0.3, 0], abs=1e-7)  # population, not sample
    assert dynamics.mean_loss(history) == pytest.approx([-(math.log(0.2) + math.log(0.8)) / 2, math.log(2)])


def test_mean_el2n_by_hand() -> None:
    history = of_probabilities([[0.2, 0.8]])
    assert dynamics.mean_el2n(history) == pytest.approx([math.sqrt(2) * (0.8 + 0.2) / 2])


def test_self_influence_by_hand() -> None:
    history = History.empty(2, 1)
    history.error_norm[:, 0], history.input_norm[:, 0], history.learning_rate[:] = [0.5, 1.0], [2.0, 3.0], [0.25, 0.5]
    assert dynamics.self_influence(history) == pytest.approx([0.25 * (0.5 * 2) ** 2 + 0.5 * (1 * 3) ** 2])


def test_a_vanished_probability_gives_a_finite_loss() -> None:
    history = history_of(np.array([[[0.0, 500.0]]]), np.array([0]))
    assert 80 < dynamics.mean_loss(history)[0] < 100


def test_epochs_that_were_not_logged_are_left_out_of_means() -> None:
    whole, gaps = of_probabilities([[0.2, 0.8]]), of_probabilities([[0.2, 0.5, 0.8]])
    for array in (gaps.given_prob, gaps.error_norm, gaps.given_logit, gaps.other_logit):
        array[1] = np.nan
    for score in (dynamics.aum, dynamics.mean_el2n, dynamics.mean_loss, dynamics.confidence, dynamics.variability):
        assert score(gaps) == pytest.approx(score(whole))


def test_tracked_probabilities_by_hand() -> None:
    logits = np.log([[[0.6, 0.3, 0.1]], [[0.2, 0.3, 0.5]]])
    found = dynamics.tracked_probabilities(history_of(logits, np.array([0])), np.array([0]), 3)
    # given: (.6 + .2) / 2; class 1 was the best other in epoch 0 only, class 2 in epoch 1 only
    assert found == pytest.approx(np.array([[0.4, 0.15, 0.25]]))


def test_tracked_probabilities_of_a_label_given_up_entirely() -> None:
    logits = np.tile([[[-200.0, 0.0, -200.0]]], (2, 1, 1))
    found = dynamics.tracked_probabilities(history_of(logits, np.array([0])), np.array([0]), 3)
    assert found == pytest.approx(np.array([[0.0, 1.0, 0.0]]), abs=1e-6)


def running(fitted: list[float], held_out: list[float]) -> tuple[History, np.ndarray]:
    """A record of 100 training and 100 held-out rows with these accuracies per epoch."""
    rank = np.tile((np.arange(100) + 0.5) / 100, 2)
    share = np.concatenate([np.tile(np.array(part)[:, None], 100) for part in (fitted, held_out)], axis=1)
    logits = np.where((rank < share)[:, :, None], [[[1.0, 0.0]]], [[[0.0, 1.0]]])
    return history_of(logits, np.zeros(200, np.int64)), np.arange(200) < 100


def test_the_window_ends_where_memorisation_sets_in() -> None:
    history, train = running([0.5, 0.6, 0.7, 0.9, 0.95], [0.5, 0.6, 0.65, 0.65, 0.66])
    found = dynamics.window(history, train)
    assert found.epochs == 3
    assert "from epoch 4 on" in found.why


def test_a_gap_that_closes_again_does_not_end_the_window() -> None:
    history, train = running([0.5, 0.9, 0.7, 0.7, 0.95], [0.5, 0.5, 0.7, 0.7, 0.6])
    assert dynamics.window(history, train).epochs == 4


def test_memorised_from_the_start_leaves_a_tenth() -> None:
    history, train = running([0.9] * 20, [0.3] * 20)
    assert dynamics.window(history, train).epochs == 2


@pytest.mark.parametrize("closing", [0.9, 0.45])
def test_where_memorisation_does_not_set_in_the_window_is_the_whole_run(closing: float) -> None:
    history, train = running([0.5, 0.6, 0.9], [0.5, 0.3, closing - 0.0 if closing > 0.5 else 0.85])
    found = dynamics.window(history, train)
    assert found.epochs == 3
    assert "did not set in" in found.why


def test_without_held_out_rows_the_window_is_the_whole_run() -> None:
    history, _ = running([0.5, 0.9], [0.5, 0.5])
    found = dynamics.window(history, np.ones(200, bool))
    assert found.epochs == 2
    assert "no held-out rows" in found.why


def test_held_out_rows_that_were_never_logged_are_not_called_missing() -> None:
    history, train = running([0.5, 0.9], [0.5, 0.5])
    gaps = {name: array.copy() for name, array in history.arrays().items()}
    gaps["given_logit"][:, ~train] = np.nan
    found = dynamics.window(History(**gaps), train)
    assert found.epochs == 2
    assert found.why.startswith("no held-out row was logged to compare with")


def test_few_held_out_rows_need_a_larger_gap() -> None:
    history, train = running([0.5, 0.8], [0.5, 0.65])
    few = np.concatenate([np.arange(100), 100 + np.array([10, 50, 60, 70, 90])])  # 3 of 5 right in the last epoch
    assert dynamics.window(history, train).epochs == 1
    assert dynamics.window(history.columns(np.isin(np.arange(200), few)), train[few]).epochs == 2


def test_weighted_margins_by_hand() -> None:
    history = history_of(np.array([[[2.0, 1.0, 0.0]], [[0.0, 3.0, 5.0]]]), np.array([0]))
    assert dynamics.weighted_aum(history, np.array([3.0, 1.0])).tolist() == [(3 * 1 - 5) / 4]
    assert dynamics.weighted_aum(history, np.ones(2)).tolist() == dynamics.aum(history).tolist()


def test_epochs_weigh_more_the_later_and_less_the_more_is_known_by_heart() -> None:
    assert dynamics.MEMORISED_GAP == 0.3  # the traces below are made for it
    history, train = running([0.5, 0.6, 0.8, 0.95], [0.6, 0.6, 0.65, 0.6])
    assert dynamics.epoch_weights(history, train) == pytest.approx([1, 2, 3 * 0.5, 0], abs=1e-6)


def test_epochs_weigh_alike_where_nothing_can_be_told() -> None:
    history, train = running([0.9, 0.9], [0.2, 0.2])  # known by heart from the start
    assert dynamics.epoch_weights(history, train).tolist() == [1, 1]
    assert dynamics.epoch_weights(history, np.ones(200, bool)).tolist() == [1, 1]


def test_the_clearest_epoch_is_the_last_unless_labels_were_memorised() -> None:
    history, train = running([0.5, 0.6, 0.7, 0.9, 0.99], [0.5, 0.6, 0.65, 0.6, 0.5])
    assert dynamics.clearest_epoch(history, train) == 2  # from 0: the end of the window
    assert dynamics.clearest_epoch(history, np.ones(200, bool)) == 4
    history, train = running([0.5, 0.6, 0.7], [0.5, 0.6, 0.65])
    assert dynamics.clearest_epoch(history, train) == 2
