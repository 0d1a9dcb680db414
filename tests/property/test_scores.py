"""The table of scores, entry by entry, and the percentile that every score is shown as."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalogue import NEEDS
from core.gradients.last_layer import LastLayerGradients
from core.models.recorder import History
from core.scores import SCORES, Evidence, available, percentile, table_of
from core.scores.dynamics import Window
from core.scores.out_of_sample import ridge_head
from tests.helpers import history_of

N, C, K, T = 18, 3, 4, 6
OF_THE_ISSUE = [
    "oga_forest",
    "oga_l1",
    "oga_l2",
    "el2n",
    "loss",
    "margin",
    "self_confidence",
    "entropy",
    "aum",
    "mean_el2n",
    "mean_loss",
    "confidence",
    "variability",
    "correctness",
    "forgetting",
    "first_learned",
    "self_influence",
    "loo_ridge_margin",
    "knn_disagreement",
]
every_score = pytest.mark.parametrize("name", SCORES)


def made(order: np.ndarray | None = None) -> Evidence:
    """Evidence of 18 samples (in this order), the same network, forest and head whatever the order."""
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, C, N), rng.normal(0, 2, (N, C))
    inputs, forest = rng.normal(0, 1, (N, 5)), rng.uniform(0.4, 0.8, N)
    near = np.stack([rng.choice(np.delete(np.arange(N), row), K, replace=False) for row in range(N)])
    history = history_of(rng.normal(0, 2, (T, N, C)), labels, rng.uniform(1, 3, (T, N)))
    order = np.arange(N) if order is None else order
    moved_to = np.argsort(order)
    further = {origin: rng.normal(0, 1, (N, 4)) for origin in ("model", "reference")}
    grand = rng.uniform(1, 2, N)
    labels, logits, inputs = labels[order], logits[order], inputs[order]
    features = {"backbone": inputs, **{origin: array[order] for origin, array in further.items()}}
    return Evidence(
        labels, logits, LastLayerGradients.from_logits(logits, labels, inputs), forest[order],
        {origin: ridge_head(array, labels, C, np.ones(N, bool)) for origin, array in features.items()},
        moved_to[near][order],
        History(**{k: a[:, order] if a.ndim == 2 else a for k, a in history.arrays().items()}),
        Window(3, "made"), np.arange(1.0, T + 1), {"grand": grand[order]},
    )  # fmt: skip


def test_the_table_holds_the_scores_of_the_issue_and_the_early_ones() -> None:
    assert set(OF_THE_ISSUE) <= set(SCORES)
    assert {name for name in SCORES if name.endswith("_early")} == {
        f"{name}_early"
        for name, score in SCORES.items()
        if score.needs in ("history", "steps") and not name.endswith("_early")
        if name != "weighted_aum"  # its weights say already what the window says
    }


@every_score
def test_every_entry_says_what_it_is(name: str) -> None:
    score = SCORES[name]
    assert score.name == name
    assert name.isidentifier()
    assert name == name.lower()
    assert score.title[0].isupper()
    assert score.meaning.endswith(".")
    assert score.sign in (-1, 1)
    assert score.needs in NEEDS
    assert score.acted_on
    assert score.source


def test_titles_differ() -> None:
    assert len({score.title for score in SCORES.values()}) == len(SCORES)


def test_a_repeated_name_names_both() -> None:
    loss = SCORES["loss"]
    with pytest.raises(ValueError, match="'loss': 'Loss' and 'Another'"):
        table_of([loss, SCORES["aum"], dataclasses.replace(loss, title="Another")])


@every_score
def test_every_score_is_a_finite_number_per_sample(name: str) -> None:
    found = SCORES[name].compute(made())
    assert found.shape == (N,)
    assert np.isfinite(found).all()
    assert len(np.unique(found)) > 1


@every_score
@given(order=st.permutations(range(N)))
@settings(max_examples=8, deadline=None)
def test_permuting_samples_permutes_the_values_and_nothing_else(name: str, order: list[int]) -> None:
    moved = SCORES[name].compute(made(np.array(order)))
    np.testing.assert_allclose(moved, SCORES[name].compute(made())[order], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in SCORES if name.endswith("_early")])
def test_early_scores_see_the_window_only(name: str) -> None:
    evidence = made()
    late = {key: array.copy() for key, array in evidence.history.arrays().items()}
    for array in late.values():
        array[3:] = 0
    changed = dataclasses.replace(evidence, history=History(**late))
    whole = name.removesuffix("_early")
    np.testing.assert_array_equal(SCORES[name].compute(changed), SCORES[name].compute(evidence))
    assert (SCORES[whole].compute(changed) != SCORES[whole].compute(evidence)).any()
    first = dataclasses.replace(evidence, history=evidence.history.first(3))
    np.testing.assert_array_equal(SCORES[name].compute(evidence), SCORES[whole].compute(first))


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"entropy", "oga_forest", "variability", "variability_early"}))
def test_a_plainly_wrong_label_stands_on_the_suspicious_end(name: str) -> None:
    """Ten samples of either class, all learned from the start; sample 0 carries the other class's label."""
    truth = np.arange(20) % 2
    labels = truth.copy()
    labels[0] = 1 - truth[0]
    rng = np.random.default_rng(1)
    logits = np.where(np.arange(2) == truth[:, None], 3.0, 0.0) + rng.normal(0, 0.1, (20, 2))
    inputs = np.where(np.arange(2) == truth[:, None], 1.0, 0.0) + rng.normal(0, 0.05, (20, 2))
    near = np.stack([np.setdiff1d(np.flatnonzero(truth == truth[row]), [row, 0])[:K] for row in range(20)])
    evidence = Evidence(
        labels, logits, LastLayerGradients.from_logits(logits, labels, inputs), np.zeros(20),
        {origin: ridge_head(inputs, labels, 2, np.ones(20, bool)) for origin in ("backbone", "model", "reference")},
        near, history_of(np.tile(logits, (4, 1, 1)), labels, np.ones((4, 20))), Window(2, "made"), np.ones(4),
        {"grand": -logits[np.arange(20), labels]},
    )  # fmt: skip
    suspicious = SCORES[name].sign * SCORES[name].compute(evidence)
    assert suspicious.argmax() == 0
    assert suspicious[0] > suspicious[1:].max()


def twin(values: np.ndarray, train: np.ndarray) -> list[float]:
    """Of the others of one's own kind: the share that is lower, equal ones counted half."""
    found = []
    for row in range(len(values)):
        others = [values[k] for k in range(len(values)) if k != row and train[k] == train[row]]
        lower = sum(other < values[row] for other in others) + sum(other == values[row] for other in others) / 2
        found.append(100 * lower / len(others) if others else 50.0)
    return found


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=100, deadline=None)
def test_percentile_equals_its_twin(rows: list[tuple[int, bool]]) -> None:
    values, train = np.array([float(value) for value, _ in rows]), np.array([kind for _, kind in rows])
    found = percentile(values, train)
    assert found == pytest.approx(twin(values, train))
    assert found.min() >= 0
    assert found.max() <= 100


def test_percentile_by_hand() -> None:
    train = np.array([True, True, True, True, True, False])
    found = percentile(np.array([1.0, 2.0, 2.0, 3.0, 9.0, -7.0]), train)
    assert found.tolist() == [0, 37.5, 37.5, 75, 100, 50]


def test_percentile_of_no_row() -> None:
    assert percentile(np.empty(0), np.empty(0, bool)).shape == (0,)


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ({}, set(SCORES)),
        ({"extra": {}}, set(SCORES) - {"grand"}),
        ({"gradients": None}, {name for name, score in SCORES.items() if score.needs != "last layer"}),
        ({"history": None}, {name for name, score in SCORES.items() if score.needs not in ("history", "steps")}),
        ({"heads": {}, "neighbours": None}, {n for n, score in SCORES.items() if "features" not in score.needs}),
        (
            {"logits": None, "gradients": None},
            {n for n, s in SCORES.items() if s.needs not in ("logits", "last layer")},
        ),
    ],
)
def test_a_score_whose_need_is_not_there_is_absent(gone: dict[str, Any], left: set[str]) -> None:
    evidence = dataclasses.replace(made(), **gone)
    assert set(available(evidence)) == left
    for score in available(evidence).values():
        assert np.isfinite(score.compute(evidence)).all()


def test_the_head_on_further_features_only_beside_others() -> None:
    evidence = made()
    only = dataclasses.replace(evidence, heads={"reference": evidence.heads["reference"]})
    assert not {"loo_ridge_margin_model", "loo_ridge_margin_reference"} & set(available(only))
    np.testing.assert_array_equal(
        SCORES["loo_ridge_margin"].compute(only), SCORES["loo_ridge_margin_reference"].compute(evidence)
    )


def test_self_influence_needs_rates_and_norms() -> None:
    evidence = made()
    assert evidence.history is not None
    rates = np.full(T, np.nan, np.float32)
    bare = dataclasses.replace(evidence, history=dataclasses.replace(evidence.history, learning_rate=rates))
    assert set(available(evidence)) - set(available(bare)) == {"self_influence", "self_influence_early"}


def test_error_norms_without_gradients_are_those_with() -> None:
    evidence = made()
    bare = dataclasses.replace(evidence, gradients=None)
    np.testing.assert_allclose(SCORES["el2n"].compute(bare), SCORES["el2n"].compute(evidence), rtol=1e-12)


def test_what_is_not_known_stands_in_the_middle_and_moves_nobody() -> None:
    shares = percentile(np.array([3.0, np.nan, 1.0, 2.0]), np.ones(4, bool))
    assert shares[1] == 50
    assert shares[[0, 2, 3]].tolist() == [100, 0, 50]
