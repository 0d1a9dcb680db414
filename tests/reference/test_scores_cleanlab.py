"""Scores of probabilities against cleanlab's (a development dependency only)."""

import numpy as np
import pytest
from cleanlab.rank import get_label_quality_scores

from core.scores import difficulty


def made(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(classes, 0.5), 300), np.concatenate(
        [np.arange(classes), rng.integers(0, classes, 300 - classes)]
    )


@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_self_confidence(seed: int, classes: int) -> None:
    probabilities, labels = made(seed, classes)
    theirs = get_label_quality_scores(labels, probabilities, method="self_confidence", adjust_pred_probs=False)
    np.testing.assert_allclose(difficulty.self_confidence(probabilities, labels), theirs, atol=1e-8)


@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("seed", [0, 1])
def test_normalised_margin(seed: int, classes: int) -> None:
    probabilities, labels = made(seed, classes)
    theirs = get_label_quality_scores(labels, probabilities, method="normalized_margin", adjust_pred_probs=False)
    np.testing.assert_allclose((difficulty.margin(probabilities, labels) + 1) / 2, theirs, atol=1e-8)


def test_entropy_within_confidence_weighted_entropy() -> None:
    """cleanlab's third method is log2(1 + H / ((ln c) p_y)), rescaled: ours is recovered from it."""
    probabilities, labels = made(2, 4)
    theirs = get_label_quality_scores(
        labels, probabilities, method="confidence_weighted_entropy", adjust_pred_probs=False
    )
    own = np.maximum(difficulty.self_confidence(probabilities, labels), 1e-6)
    x = difficulty.entropy(probabilities) / np.log(4) / own
    np.testing.assert_allclose(np.log(x + 1) / x, theirs, atol=1e-6)
