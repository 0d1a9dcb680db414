"""Neighbours in blocks against every pair in float64, and sketches against the dot products they estimate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.atlas.neighbours as neighbours_module
from core.atlas.neighbours import feature_neighbours, gradient_neighbours
from core.errors import InputError, SettingsError, Stopped
from core.gradients.last_layer import LastLayerGradients
from core.gradients.sketch import sketch
from core.progress import Progress


def gradients(n=200, c=5, d=8, seed=0, dtype=np.float32):
    chance = np.random.default_rng(seed)
    logits, inputs = chance.normal(size=(n, c)) * 2, np.maximum(chance.normal(size=(n, d)), 0)
    return LastLayerGradients.from_logits(logits.astype(dtype), chance.integers(c, size=n), inputs.astype(dtype))


def slow_cosines(vectors):
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1)
    scale = np.outer(length, length)
    return np.divide(vectors @ vectors.T, scale, out=np.zeros_like(scale), where=scale > 0)


def slow_neighbours(cosines, k, candidates):
    """Row by row: everyone allowed but itself, nearest first, equal ones by row."""
    rows = []
    for own, row in enumerate(cosines):
        others = [other for other in np.flatnonzero(candidates) if other != own]
        rows.append(sorted(others, key=lambda other: (-row[other], other))[:k])
    return np.array(rows)


def check(found, cosines, k, candidates):
    expected = slow_neighbours(cosines, k, candidates)
    width = min(k, max(int(candidates.sum()) - 1, 0))
    assert found.rows.shape == found.similarity.shape == (len(cosines), width)
    np.testing.assert_allclose(found.similarity, np.take_along_axis(cosines, expected[:, :width], axis=1), atol=2e-6)
    np.testing.assert_allclose(np.take_along_axis(cosines, found.rows, axis=1), found.similarity, atol=2e-6)
    assert candidates[found.rows].all()
    assert (found.rows != np.arange(len(cosines))[:, None]).all()
    assert all(len(set(row)) == width for row in found.rows.tolist())
    equal = found.similarity[:, 1:] == found.similarity[:, :-1]
    assert (found.rows[:, 1:] > found.rows[:, :-1])[equal].all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("block_bytes", [4_000, 64 * 2**20])
@pytest.mark.parametrize("share", [None, 0.3])
def test_both_spaces_equal_their_slow_twins(dtype, block_bytes, share, monkeypatch):
    monkeypatch.setattr(neighbours_module, "_BLOCK_BYTES", block_bytes)
    g = gradients(dtype=dtype)
    mask = None if share is None else np.random.default_rng(0).random(200) < share
    everyone = np.ones(200, bool) if mask is None else mask
    check(feature_neighbours(g.inputs, 7, mask), slow_cosines(g.inputs), 7, everyone)
    check(gradient_neighbours(g, 7, mask), slow_cosines(g.dense()), 7, everyone)
    if dtype is np.float64:
        np.testing.assert_array_equal(
            gradient_neighbours(g, 7, mask).rows, slow_neighbours(slow_cosines(g.dense()), 7, everyone)
        )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 40), st.integers(1, 45))
def test_ties_come_in_the_order_of_rows(seed, n, k):
    """Unit vectors along the axes and zeros: every cosine is exactly 0 or 1, so nearly everything is a tie."""
    vectors = np.vstack((np.eye(4), np.zeros((1, 4))))[np.random.default_rng(seed).integers(5, size=n)]
    found = feature_neighbours(vectors.astype(np.float32), k)
    np.testing.assert_array_equal(found.rows, slow_neighbours(vectors @ vectors.T, k, np.ones(n, bool)))


def test_zero_gradients_have_neighbours_at_similarity_zero():
    g = gradients(n=30)
    found = gradient_neighbours(LastLayerGradients(g.errors * 0, g.inputs), 3)
    assert not found.similarity.any()
    np.testing.assert_array_equal(found.rows[:4], [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


@pytest.mark.parametrize("n", [0, 1, 2, 4])
def test_few_rows_give_few_columns(n):
    g = gradients(n=4).take(slice(0, n))
    assert gradient_neighbours(g, 5).rows.shape == (n, max(n - 1, 0))
    assert feature_neighbours(g.inputs, 5, np.zeros(n, bool)).rows.shape == (n, 0)


def test_the_size_of_a_vector_plays_no_part():
    g = gradients(dtype=np.float64)
    for scale in (1e-30, 1e30):
        scaled = (g.inputs * scale).astype(np.float32)
        np.testing.assert_allclose(
            feature_neighbours(scaled, 5).similarity, feature_neighbours(g.inputs, 5).similarity, atol=1e-5
        )


def test_what_cannot_be_used_is_named():
    features = np.ones((5, 2))
    features[3, 1] = np.nan
    with pytest.raises(InputError, match="features of row 3 are not finite"):
        feature_neighbours(features, 2)
    with pytest.raises(SettingsError, match="k is 0"):
        gradient_neighbours(gradients(), 0)


def test_progress_is_told_per_block_and_can_stop(monkeypatch):
    monkeypatch.setattr(neighbours_module, "_BLOCK_BYTES", 200 * 4 * 64)
    seen = []
    feature_neighbours(gradients().inputs, 3, progress=Progress(seen.append))
    assert [(e.stage, e.done, e.total, e.unit) for e in seen] == [
        ("neighbours", done, 200, "images") for done in (64, 128, 192, 200)
    ]
    with pytest.raises(Stopped):
        feature_neighbours(gradients().inputs, 3, progress=Progress(should_stop=lambda: True))


def test_sketches_estimate_dot_products_without_bias():
    g = gradients(n=20, dtype=np.float64)
    true = g.dot(g)
    estimates = np.array([(s := sketch(g, 16, seed)) @ s.T for seed in range(800)])
    error_of_the_mean = estimates.std(axis=0) / np.sqrt(len(estimates))
    assert (np.abs(estimates.mean(axis=0) - true) < 4.5 * error_of_the_mean + 1e-9).all()
    wide = sketch(g, 20_000, 0)
    np.testing.assert_allclose(wide @ wide.T, true, atol=0.06 * true.diagonal().max())


def test_the_same_seed_gives_the_same_sketch_in_any_company():
    g = gradients(n=40_000, c=2, d=2)
    np.testing.assert_array_equal(sketch(g, 3, 1), sketch(g, 3, 1))
    np.testing.assert_allclose(sketch(g, 3, 1)[-7:], sketch(g.take(slice(-7, None)), 3, 1), rtol=1e-5, atol=1e-6)
    assert (sketch(g, 3, 1) != sketch(g, 3, 2)).any()


@given(st.integers(0, 4), st.integers(0, 8))
def test_every_coordinate_matters(c, j):
    errors, inputs = np.zeros((1, 5)), np.zeros((1, 9))
    errors[0, c] = inputs[0, j] = 1
    np.testing.assert_allclose(np.abs(sketch(LastLayerGradients(errors, inputs), 4, 0)), 0.5)


def test_a_sketch_keeps_the_type_and_needs_a_column():
    assert sketch(gradients(dtype=np.float32), 4, 0).dtype == np.float32
    assert sketch(gradients(n=0), 4, 0).shape == (0, 4)
    with pytest.raises(SettingsError, match="0 columns"):
        sketch(gradients(), 0, 0)
