"""Planted label errors: exact counts, other classes only, and nothing that depends on the order of rows."""

import numpy as np
import pytest

from core.chance import sample_keys, uniform
from core.data.noise import plant_confusion, plant_uniform
from core.errors import SettingsError

N = 3_000
IDS = [f"s{row}" for row in range(N)]
TRUTH = np.arange(N) % 5


def test_uniform_moves_exactly_the_share_and_always_to_another_class() -> None:
    planted = plant_uniform(TRUTH, IDS, 5, 0.2, seed=3)
    moved = planted != TRUTH
    assert moved.sum() == 600
    assert set(planted.tolist()) == {0, 1, 2, 3, 4}
    steps = np.bincount((planted - TRUTH)[moved] % 5, minlength=5)
    assert steps[0] == 0
    # 600 draws over 4 classes: 150 expected, standard deviation 10.6.
    assert steps[1:].min() > 110
    assert steps[1:].max() < 190


def test_uniform_is_a_function_of_seed_and_sample() -> None:
    planted = plant_uniform(TRUTH, IDS, 5, 0.2, seed=3)
    order = np.random.default_rng(0).permutation(N)
    shuffled = plant_uniform(TRUTH[order], [IDS[row] for row in order], 5, 0.2, seed=3)
    np.testing.assert_array_equal(shuffled, planted[order])
    assert (plant_uniform(TRUTH, IDS, 5, 0.2, seed=4) != planted).any()


def test_confusion_follows_the_matrix() -> None:
    matrix = np.array([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.25, 0.75]])
    truth = np.arange(N) % 3
    planted = plant_confusion(truth, IDS, matrix, seed=1)
    counts = np.stack([np.bincount(planted[truth == row], minlength=3) for row in range(3)])
    assert (counts[matrix == 0] == 0).all()
    np.testing.assert_allclose(counts / 1_000, matrix, atol=0.06)  # 4 standard deviations of 1,000 fair draws


def test_the_identity_matrix_changes_nothing() -> None:
    np.testing.assert_array_equal(plant_confusion(TRUTH, IDS, np.eye(5), seed=1), TRUTH)


def test_uniforms_are_uniform_and_differ_by_purpose() -> None:
    draws = uniform(sample_keys(IDS), 0, "a")
    assert draws.min() >= 0
    assert draws.max() < 1
    assert abs(np.histogram(draws, 10, (0, 1))[0] - 300).max() < 70
    assert abs(np.corrcoef(draws, uniform(sample_keys(IDS), 0, "b"))[0, 1]) < 0.08


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plant_uniform(TRUTH, IDS, 5, 1.5, 0), "share of planted errors is 1.5"),
        (lambda: plant_uniform(TRUTH, IDS, 1, 0.1, 0), "at least 2 classes, not 1"),
        (lambda: plant_confusion(TRUTH, IDS, np.ones((5, 5)), 0), "sum to 1"),
    ],
)
def test_settings_are_checked(call, message) -> None:
    with pytest.raises(SettingsError, match=message):
        call()
