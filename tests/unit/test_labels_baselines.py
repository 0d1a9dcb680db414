"""The three label baselines: known answers, the twin in other people's code, and what predicted labels can see."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from core.scores.labels import BASELINES, confidence_weighted_entropy, most_likely, normalised_margin, self_confidence

THEIRS = {
    "self_confidence": "self_confidence",
    "normalised_margin": "normalized_margin",
    "confidence_weighted_entropy": "confidence_weighted_entropy",
}


def test_known_answers() -> None:
    probs, labels = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2], [0.25, 0.5, 0.25]]), np.array([0, 2, 1])
    assert self_confidence(probs, labels).tolist() == [0.5, 0.2, 0.5]
    assert normalised_margin(probs, labels) == pytest.approx([0.6, 0.35, 0.625])
    x = 1.5 * math.log(2) / math.log(3) / 0.5  # entropy of (1/4, 1/2, 1/4) is 1.5 bits
    assert confidence_weighted_entropy(probs, labels)[2] == pytest.approx(math.log(1 + x) / x)


def test_the_table_names_three_each_under_its_own_name() -> None:
    assert list(BASELINES) == list(THEIRS)
    assert all(name == each.name for name, each in BASELINES.items())


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_agrees_with_cleanlab(name: str, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.5), 300)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, 300 - classes)])
    theirs = get_label_quality_scores(labels, probs, method=THEIRS[name], adjust_pred_probs=False)
    np.testing.assert_allclose(BASELINES[name].compute(probs, labels), theirs, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 6))
def test_bounds_and_the_order_of_a_label_that_is_worse_borne_out(seed: int, classes: int) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), 1)
    order = np.argsort(probs[0])
    for each in BASELINES.values():
        values = [float(each.compute(probs, np.array([label]))[0]) for label in order]
        assert all(0 <= value <= 1 for value in values)
        assert values == sorted(values), "the likelier the label, the less suspicious"


def test_a_certain_network_is_the_least_suspicious_and_a_confident_contradiction_the_most() -> None:
    sure = np.array([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0]])
    assert confidence_weighted_entropy(sure, np.array([0, 0]))[0] == 1.0
    assert confidence_weighted_entropy(np.array([[1.0, 0.0]]), np.array([1])).tolist() == [1.0], "no entropy: the limit"
    assert self_confidence(np.array([[1.0, 0.0]]), np.array([1])).tolist() == [0.0]


def test_float32_goes_in_and_the_input_is_left_alone() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(4), 20).astype(np.float32)
    before, labels = probs.copy(), np.arange(20) % 4
    for each in BASELINES.values():
        assert each.compute(probs, labels).dtype == np.float64
    assert (probs == before).all()


def test_predicted_labels_cannot_see_a_label_that_is_confidently_contradicted() -> None:
    """Ten images that the network is sure of, half of them labelled as something else; ten that it is unsure of."""
    probs = np.concatenate([np.tile([0.98, 0.01, 0.01], (10, 1)), np.tile([0.4, 0.35, 0.25], (10, 1))])
    given_labels = np.zeros(20, np.int64)
    given_labels[:5] = 1  # wrong, and the network says so
    for each in BASELINES.values():
        by_given = np.argsort(each.compute(probs, given_labels), kind="stable")[:5]
        by_predicted = np.argsort(each.compute(probs, most_likely(probs)), kind="stable")[:5]
        assert set(by_given) == set(range(5)), each.title
        assert not set(by_predicted) & set(range(5)), each.title
