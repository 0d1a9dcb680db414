"""What holds for every forest: bounds, seeds, threads, and what stability measures."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError, SettingsError, Stopped
from core.gradients.last_layer import LastLayerGradients
from core.progress import Progress
from core.scores.forest import GradientForest, forest_stability


def gradients(n=60, c=3, d=4, seed=0):
    chance = np.random.default_rng(seed)
    return LastLayerGradients.from_logits(
        chance.normal(size=(n, c)), chance.integers(c, size=n), chance.normal(size=(n, d))
    )


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 80), st.integers(1, 4), st.integers(1, 4), st.integers(1, 100), st.integers(0, 2**40))
def test_scores_lie_in_their_range_and_repeat(n, c, d, subsample, seed):
    g = gradients(n, c, d, seed)
    score = GradientForest(7, subsample, seed).fit(g).score(g)
    assert score.dtype == np.float64
    assert score.shape == (n,)
    assert ((score > 0) & (score <= 1)).all()
    np.testing.assert_array_equal(score, GradientForest(7, subsample, seed).fit(g).score(g))


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(60)))
def test_a_score_belongs_to_the_row_and_not_to_its_place(order):
    g = gradients()
    forest = GradientForest(20).fit(g)
    np.testing.assert_array_equal(forest.score(g.take(np.array(order))), forest.score(g)[order])


def test_the_number_of_threads_changes_no_bit():
    g = gradients(n=10_000)
    before = numba.get_num_threads()
    try:
        scores = []
        for threads in {1, before}:
            numba.set_num_threads(threads)
            scores.append(GradientForest(30).fit(g).score(g))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(scores[0], scores[-1])


def test_a_tree_is_a_function_of_its_seed_and_number():
    g = gradients(n=300)
    few, many = GradientForest(3, seed=5).fit(g), GradientForest(9, seed=5).fit(g)
    np.testing.assert_array_equal(few._trees.column, many._trees.column[:3])
    np.testing.assert_array_equal(few._trees.threshold, many._trees.threshold[:3])
    assert (GradientForest(9, seed=6).fit(g).score(g) != many.score(g)).any()


def test_an_outlier_is_isolated_first():
    g = gradients()
    inputs = g.inputs.copy()
    inputs[11] *= 50
    far = LastLayerGradients(g.errors, inputs)
    assert GradientForest().fit(far).score(far).argmax() == 11


def test_progress_is_told_and_can_stop():
    g, seen = gradients(), []
    GradientForest(5).fit(g, Progress(seen.append)).score(g, Progress(seen.append))
    assert [(event.done, event.unit) for event in seen] == [(i, "trees") for i in range(1, 6)] + [(60, "images")]
    with pytest.raises(Stopped):
        GradientForest(5).fit(g, Progress(should_stop=lambda: True))


def test_nothing_to_score_and_nothing_to_grow_on():
    g = gradients()
    assert GradientForest(3).fit(g).score(g.take(slice(0, 0))).shape == (0,)
    with pytest.raises(InputError, match="no gradient to grow"):
        GradientForest().fit(g.take(slice(0, 0)))
    with pytest.raises(InputError, match="no trees yet"):
        GradientForest().score(g)


@pytest.mark.parametrize("wrong", [{"n_trees": 0}, {"subsample": 0}, {"seed": -1}])
def test_settings_are_checked(wrong):
    with pytest.raises(SettingsError, match=f"{next(iter(wrong))} is"):
        GradientForest(**wrong)


def test_stability_by_hand():
    one, two = np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 2.0, 3.0, 1.0])
    assert forest_stability([one, one], 0.5) == forest_stability([one, one, one], 0.5)
    assert forest_stability([one, one], 0.5).jaccard == forest_stability([one, one], 0.5).spearman == 1
    moved = forest_stability([one, two], 0.5)
    assert moved.jaccard == pytest.approx(1 / 3)
    assert moved.spearman == pytest.approx(0.8)
    mixed = forest_stability([one, one, two], 0.5)
    assert mixed.jaccard == pytest.approx((1 + 1 / 3 + 1 / 3) / 3)
    assert forest_stability([one, -one], 0.25).spearman == pytest.approx(-1)


def test_stability_of_ties_is_defined():
    flat = np.ones(4)
    assert forest_stability([flat, flat], 0.5).spearman == 1
    assert forest_stability([flat, np.arange(4.0)], 0.5).spearman == 0
    with pytest.raises(InputError, match="Got 1 rankings of 4 rows"):
        forest_stability([flat], 0.5)
    with pytest.raises(SettingsError, match="share is 0"):
        forest_stability([flat, flat], 0.0)


def test_more_trees_agree_more():
    g = gradients(n=500)
    few, many = ([GradientForest(t, seed=s).fit(g).score(g) for s in range(3)] for t in (10, 500))
    assert forest_stability(many, 0.05).jaccard > forest_stability(few, 0.05).jaccard
    assert forest_stability(many, 0.05).spearman > forest_stability(few, 0.05).spearman


@pytest.mark.parametrize("folder", ["fresh", "refused"])
def test_compiled_code_is_kept_in_the_given_folder_only(folder, tmp_path):
    """A refused folder (here: a file stands in its place) means no cache, neither one elsewhere nor a failure."""
    cache = tmp_path / "user" / "gradsift"
    if folder == "refused":
        cache.parent.mkdir()
        cache.write_text("")
    code = (
        "import numba, numpy as np; from core.scores import forest as f;"
        "from core.gradients.last_layer import LastLayerGradients as L; assert not numba.config.CACHE_DIR;"
        "g = L(np.random.default_rng(0).random((9, 2)), np.random.default_rng(1).random((9, 2)));"
        "f.GradientForest(2).fit(g).score(g); print(f._walk._cache.cache_path)"
    )
    env = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    env["XDG_CACHE_HOME"] = str(tmp_path / "user")
    run = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    kept = list(tmp_path.rglob("*.nbi"))
    assert len(kept) == (2 if folder == "fresh" else 0)
    assert (run.stdout.strip() == "None") == (folder == "refused")


def test_gradients_on_demand_and_a_part_of_the_rows_give_the_same_bits():
    chance = np.random.default_rng(4)
    logits, labels = chance.normal(size=(5000, 3)).astype(np.float16), chance.integers(3, size=5000)
    inputs, rows = chance.normal(size=(5000, 4)).astype(np.float16), np.flatnonzero(chance.random(5000) < 0.3)
    held = LastLayerGradients.from_logits(logits, labels, inputs)
    lazy = LastLayerGradients.lazily(logits, labels, inputs)
    expected = GradientForest(20).fit(held.take(rows)).score(held)
    np.testing.assert_array_equal(GradientForest(20).fit(lazy, rows=rows).score(lazy), expected)
    np.testing.assert_array_equal(GradientForest(20).fit(held, rows=rows).score(held), expected)
    assert (GradientForest(20).fit(lazy).score(lazy) != expected).any()
