"""The forest on the factors against scikit-learn's on the matrix: its trees exactly, own trees in distribution."""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from sklearn.ensemble import IsolationForest

from core.errors import InputError
from core.gradients.last_layer import LastLayerGradients
from core.scores.forest import GradientForest


def gradients(n=400, c=4, d=6, seed=0, dtype=np.float64, bias=True):
    chance = np.random.default_rng(seed)
    inputs = np.maximum(chance.normal(size=(n, d)), 0).astype(dtype)
    return LastLayerGradients.from_logits(
        chance.normal(size=(n, c)).astype(dtype) * 2, chance.integers(c, size=n), inputs, bias
    )


def remade(g, errors=None, inputs=None):
    return LastLayerGradients(g.errors if errors is None else errors, g.inputs if inputs is None else inputs)


def with_duplicates():
    return gradients().take(np.random.default_rng(1).integers(20, size=400))


def with_constant_columns():
    g = gradients()
    inputs = g.inputs.copy()
    inputs[:, 1:5] = 0
    return remade(g, inputs=inputs)


def with_zero_gradients():
    g = gradients()
    errors = g.errors.copy()
    errors[:390] = 0
    return remade(g, errors=errors)


def with_barely_any_difference():
    """Products of about 1e-7: which column counts as constant is decided in the last digits."""
    g = gradients()
    return remade(g, errors=g.errors * np.geomspace(1e-9, 1e-6, 400)[:, None])


CASES = {
    "float32": lambda: gradients(dtype=np.float32),
    "float64": gradients,
    "without bias": lambda: gradients(bias=False),
    "one class": lambda: gradients(c=1),
    "one input": lambda: gradients(d=1, bias=False),
    "fewer rows than the sub-sample": lambda: gradients(n=37),
    "two rows": lambda: gradients(n=2),
    "duplicates": with_duplicates,
    "constant columns": with_constant_columns,
    "zero gradients": with_zero_gradients,
    "barely any difference": with_barely_any_difference,
    "large values": lambda: remade(gradients(), errors=gradients().errors * 1e12),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_trees_give_the_same_scores(case):
    g = CASES[case]()
    forest = IsolationForest(n_estimators=50, random_state=0).fit(g.dense())
    np.testing.assert_allclose(
        GradientForest.from_sklearn(forest).score(g), -forest.score_samples(g.dense()), atol=1e-10
    )


def test_trees_of_any_size_can_be_taken_over():
    g = gradients()
    for rows in (1, 3, 100, 400):
        forest = IsolationForest(n_estimators=20, max_samples=rows, random_state=0).fit(g.dense())
        expected = -forest.score_samples(g.dense())
        np.testing.assert_allclose(GradientForest.from_sklearn(forest).score(g), expected, atol=1e-10)


def test_more_rows_than_one_task_holds():
    g = gradients(n=9_001, c=3, d=4)
    forest = IsolationForest(n_estimators=10, random_state=0).fit(g.dense())
    np.testing.assert_allclose(
        GradientForest.from_sklearn(forest).score(g), -forest.score_samples(g.dense()), atol=1e-10
    )


def difference(one, other):
    return float(np.sqrt(np.mean((one - other) ** 2)))


@pytest.mark.parametrize("case", CASES)
def test_own_trees_are_distributed_as_scikit_learns(case):
    """Forests of ours and of theirs differ as much as two of theirs do under another seed, and not more."""
    g, seeds = CASES[case](), range(3)
    fitted = [IsolationForest(n_estimators=400, random_state=seed).fit(g.dense()) for seed in seeds]
    theirs = [-forest.score_samples(g.dense()) for forest in fitted]
    ours = [GradientForest(400, seed=seed).fit(g).score(g) for seed in seeds]
    usual = np.mean([difference(a, b) for a, b in combinations(theirs, 2)])
    assert np.mean([difference(a, b) for a, b in product(ours, theirs)]) < 1.25 * usual + 1e-9
    assert abs(np.mean(ours) - np.mean(theirs)) < 0.003
    assert np.std(theirs) < 1e-9 or np.corrcoef(np.mean(ours, axis=0), np.mean(theirs, axis=0))[0, 1] > 0.99


def test_a_column_that_varies_is_found_among_thousands_that_do_not():
    """Both factors dense, one entry in 4,000 columns that tells one row apart: it must be cut off at the root."""
    errors = np.ones((50, 20))
    inputs = np.zeros((50, 200))
    inputs[:, 7] = np.linspace(1, 2, 50)
    inputs[0, 7] = 1e6
    score = GradientForest().fit(LastLayerGradients(errors, inputs)).score(LastLayerGradients(errors, inputs))
    theirs = -IsolationForest(n_estimators=1000, random_state=0).fit(inputs[:, 7:8]).score_samples(inputs[:, 7:8])
    assert score.argmax() == 0
    assert np.abs(score - theirs).max() < 0.03


@pytest.mark.parametrize("rows", [1, 30])
def test_no_difference_no_anomaly(rows):
    same = gradients().take(np.zeros(rows, int))
    expected = -IsolationForest(n_estimators=10, random_state=0).fit(same.dense()).score_samples(same.dense())
    np.testing.assert_allclose(GradientForest().fit(same).score(same), expected, rtol=1e-12)
    np.testing.assert_allclose(expected, 0.5)


def test_torch_factors_give_the_scores_of_numpy_factors():
    g = gradients(dtype=np.float32)
    tensors = LastLayerGradients(torch.from_numpy(g.errors), torch.from_numpy(g.inputs))
    np.testing.assert_array_equal(GradientForest(20).fit(tensors).score(tensors), GradientForest(20).fit(g).score(g))


def test_what_cannot_be_taken_over_is_named():
    g = gradients()
    with pytest.raises(InputError, match="has no trees"):
        GradientForest.from_sklearn(IsolationForest())
    with pytest.raises(InputError, match="part of the columns"):
        GradientForest.from_sklearn(IsolationForest(n_estimators=5, max_features=0.5).fit(g.dense()))
    narrow = GradientForest.from_sklearn(IsolationForest(n_estimators=5).fit(g.dense()[:, 1:]))
    with pytest.raises(InputError, match="grown on 27 columns and these gradients have 28"):
        narrow.score(g)
