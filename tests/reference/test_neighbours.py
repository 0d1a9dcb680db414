"""Neighbours against every pair in float64, approximate ones against exact, sketches against dot products."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import core.atlas.approximate as approximate_module
import core.atlas.neighbours as neighbours_module
from core.atlas.neighbours import feature_neighbours, gradient_neighbours, search_features, search_gradients
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


def clustered(n, d, c, seed=0):
    """Features that lie near a surface, as a network's do, and logits that follow them."""
    chance = np.random.default_rng(seed)
    labels, centres = chance.integers(c, size=n), chance.normal(size=(c, d))
    inputs = 2 * centres[labels] + chance.normal(size=(n, 8)) @ chance.normal(size=(8, d))
    inputs = np.maximum(inputs + 0.3 * chance.normal(size=(n, d)), 0).astype(np.float16)
    logits = (inputs @ centres.T / np.sqrt(d)).astype(np.float16)
    return LastLayerGradients.lazily(logits, (labels + (chance.random(n) < 0.1)) % c, inputs)


SEARCHES = {
    "features": lambda g, *rest, **named: search_features(g.inputs[:], *rest, **named),
    "gradients": lambda g, *rest, **named: search_gradients(g, *rest, **named),
}


@pytest.fixture(scope="module")
def large():
    """Both spaces searched as beyond the limit, which is lowered, and as below it."""
    g, chance = clustered(3000, 24, 5), np.random.default_rng(1)
    train, flagged = chance.random(3000) < 0.8, chance.random(3000) < 0.05
    exact = {space: search(g, 10, train) for space, search in SEARCHES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours_module, "EXACT_UP_TO", 1000)
        patch.setattr(neighbours_module, "_ROWS_AT_ONCE", 300)
        patch.setattr(neighbours_module, "_OTHERS_AT_ONCE", 170)
        again = [
            {space: search(g, 10, train, flagged=flagged, seed=3) for space, search in SEARCHES.items()}
            for _ in range(2)
        ]
    return exact, *again, train, flagged


@pytest.mark.parametrize("space", SEARCHES)
def test_beyond_the_limit_flagged_rows_are_exact_and_most_of_the_rest(space, large):
    exact, found, _, train, flagged = (some[space] if isinstance(some, dict) else some for some in large)
    assert exact.exact.all()
    assert exact.said() == ""
    assert (found.exact >= flagged).all()
    assert flagged.sum() < found.exact.sum() <= flagged.sum() + neighbours_module.MEASURED_ON
    true, near = exact.neighbours, found.neighbours
    np.testing.assert_array_equal(near.rows[found.exact], true.rows[found.exact])
    for rows in (~found.exact & train, ~found.exact & ~train):
        shared = [
            len(set(a) & set(b)) / 10 for a, b in zip(near.rows[rows].tolist(), true.rows[rows].tolist(), strict=True)
        ]
        assert np.mean(shared) >= 0.95
        assert found.recall == pytest.approx(np.mean(shared), abs=0.03)
    assert train[near.rows].all()
    assert (near.rows != np.arange(3000)[:, None]).all()
    assert all(len(set(row)) == 10 for row in near.rows.tolist())
    assert (np.diff(near.similarity, axis=1) <= 0).all()


@pytest.mark.parametrize("space", SEARCHES)
def test_what_is_approximate_is_still_the_true_similarity(space, large):
    g, near = clustered(3000, 24, 5), large[1][space].neighbours
    rows = np.arange(0, 3000, 100)
    vectors = g.take(slice(None)).inputs if space == "features" else g.dense()
    cosines = slow_cosines(vectors)[rows]
    np.testing.assert_allclose(near.similarity[rows], np.take_along_axis(cosines, near.rows[rows], axis=1), atol=3e-6)


@pytest.mark.parametrize("space", SEARCHES)
def test_the_same_seed_finds_the_same(space, large):
    one, two = large[1][space], large[2][space]
    np.testing.assert_array_equal(one.neighbours.rows, two.neighbours.rows)
    np.testing.assert_array_equal(one.neighbours.similarity, two.neighbours.similarity)
    assert one.recall == two.recall


def test_what_was_found_how_is_said(large):
    found = large[1]["features"]
    assert found.facts() == {"exact_rows": int(found.exact.sum()), "rows": 3000, "recall": found.recall}
    assert f"exact for {found.exact.sum()} of 3,000 images" in found.said()
    assert f"{found.recall:.1%} of the true ones" in found.said()


def test_wide_factors_are_searched_by_their_principal_components(monkeypatch):
    """Of 40 columns a factor may keep 12; candidates are then ranked by all 40."""
    g = clustered(2000, 40, 5)
    true = search_features(g.inputs[:], 10).neighbours
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 1000)
    monkeypatch.setattr(approximate_module, "WIDEST", 12)
    found = search_features(g.inputs[:], 10)
    assert found.recall > 0.95
    rows = ~found.exact
    assert (found.neighbours.rows[rows] == true.rows[rows]).mean() > 0.9


def test_a_row_that_is_not_finite_is_named_beyond_the_limit(monkeypatch):
    monkeypatch.setattr(neighbours_module, "EXACT_UP_TO", 100)
    monkeypatch.setattr(neighbours_module, "_OTHERS_AT_ONCE", 50)
    features = np.ones((300, 3), np.float32)
    features[217, 1] = np.inf
    with pytest.raises(InputError, match="features of row 217 are not finite"):
        search_features(features, 2)
