"""Scores of one checkpoint's probabilities."""

import math
from fractions import Fraction

import numpy as np
import pytest

from core.scores import difficulty


def test_loss_by_hand_and_for_logits_of_ten_thousand() -> None:
    logits = np.array([[0.0, 0.0], [1e4, 0.0], [1e4, 0.0], [1e4, 1e4], [-1e4, -1e4 + 1]])
    found = difficulty.loss(logits, np.array([0, 0, 1, 1, 0]))
    assert found == pytest.approx([math.log(2), 0, 1e4, math.log(2), math.log(1 + math.e)], abs=1e-9)


def test_loss_of_float32_logits_is_that_of_a_float64_twin() -> None:
    logits = np.random.default_rng(0).normal(0, 30, (50, 6)).astype(np.float32)
    labels = np.arange(50) % 6
    for row, found in enumerate(difficulty.loss(logits, labels)):
        z = [float(value) for value in logits[row]]
        exact = math.log(math.fsum(math.exp(value - max(z)) for value in z)) + max(z) - z[labels[row]]
        assert found == pytest.approx(exact, abs=1e-10)


def test_probabilities_add_up_to_one_whatever_the_scale() -> None:
    logits = np.random.default_rng(1).normal(0, 1, (20, 5)) * np.logspace(-3, 4, 20)[:, None]
    found = difficulty.probabilities(logits)
    assert found.sum(1) == pytest.approx(np.ones(20))
    assert found.min() >= 0
    assert (found.argmax(1) == logits.argmax(1)).all()


def test_entropy_bounds_and_known_values() -> None:
    certain, even = np.array([[1.0, 0, 0, 0]]), np.full((1, 4), 0.25)
    assert difficulty.entropy(certain).tolist() == [0]
    assert difficulty.entropy(even) == pytest.approx([math.log(4)])
    assert difficulty.entropy(np.array([[0.5, 0.25, 0.25, 0]])) == pytest.approx([1.5 * math.log(2)])
    found = difficulty.entropy(np.random.default_rng(2).dirichlet(np.ones(4) * 0.1, 500))
    assert found.min() >= 0
    assert found.max() <= math.log(4)


def test_margin_and_confidence_by_hand() -> None:
    values = np.array([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]])
    assert difficulty.margin(values, np.array([0, 2])) == pytest.approx([0.2, -0.3])
    assert difficulty.self_confidence(values, np.array([0, 2])).tolist() == [0.5, 0.2]
    exact = Fraction(values[0, 0]) - Fraction(values[0, 1])
    assert difficulty.margin(values, np.array([0, 0]))[0] == float(exact)


def test_margin_leaves_its_input_alone() -> None:
    values = np.eye(3)
    difficulty.margin(values, np.arange(3))
    assert values.tolist() == np.eye(3).tolist()
