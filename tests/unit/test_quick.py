"""The quick form: heads from sums equal heads from rows, left-out outputs equal fits without the row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from core.retrain.quick import Heads, Sums, solve, sums_of, temperature
from core.scores.out_of_sample import ridge_head, softmax
from core.verify.arms import Arm, control, given

CLASSES = 3


def made(n: int = 120, d: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of three overlapping classes, of different scales and far from 0, and labels, some of them wrong."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    features = rng.normal(0, 1, (n, d)) + 1.5 * np.eye(CLASSES, d)[labels]
    wrong = rng.random(n) < 0.1
    return features * np.arange(1, d + 1) + 50, np.where(wrong, (labels + 1) % CLASSES, labels)


def heads(features: np.ndarray, labels: np.ndarray, test: np.ndarray, train: np.ndarray, **more: float) -> Heads:
    return Heads(features, train, labels[train], CLASSES, test, labels[test], **more)


def fitted(x: np.ndarray, y: np.ndarray, w: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """The slow twin: weighted ridge by least squares on rows added to the data, as a reader believes at sight."""
    mean = np.average(x, axis=0, weights=w)
    scale = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w))
    scale = np.where(scale > 1e-6, scale, np.inf)
    standard, hot = (x - mean) / scale, np.eye(CLASSES)[y]
    share = np.average(hot, axis=0, weights=w)
    d, root = x.shape[1], np.sqrt(w)[:, None]
    left = np.vstack([root * standard, np.sqrt(strength * w.sum()) * np.eye(d)])
    weights = np.linalg.lstsq(left, np.vstack([root * (hot - share), np.zeros((d, CLASSES))]), rcond=None)[0]
    weights = weights / scale[:, None]
    return weights, share - mean @ weights


def an_arm(labels: np.ndarray, seed: int, kind: str) -> Arm:
    rng, base = np.random.default_rng(seed), given(labels)
    some = rng.random(len(labels)) < (0.7 if kind == "most" else 0.15)
    kept = ~some if kind in ("removed", "most") else base.kept
    codes = np.where(some, (labels + 1) % CLASSES, labels) if kind == "relabelled" else labels
    weights = np.where(some, 4.0, 1.0) if kind == "weighted" else base.weights
    return Arm(kind, kind, kept, codes, weights / weights.mean())


@pytest.mark.parametrize("kind", ["given", "removed", "relabelled", "weighted", "most"])
def test_a_head_from_sums_is_the_head_of_its_rows(kind: str) -> None:
    features, labels = made()
    train, test = np.arange(20, 120), np.arange(20)
    arm = an_arm(labels[train], 1, kind)
    found = heads(features, labels, test, train, strength=0.01)
    weights, offset = fitted(features[train][arm.kept], arm.labels[arm.kept], arm.weights[arm.kept], 0.01)
    expected = features[test] @ weights + offset
    np.testing.assert_allclose(found.head(arm).outputs(found._seen), expected, atol=1e-9)
    assert (found.say(arm).predicted == expected.argmax(1)).all()


def test_other_arms_leave_the_sums_as_they_were() -> None:
    features, labels = made()
    train, test = np.arange(20, 120), np.arange(20)
    found = heads(features, labels, test, train, strength=0.01)
    before = found.say(given(labels[train]))
    for kind in ("removed", "relabelled", "weighted", "most"):
        found.say(an_arm(labels[train], 2, kind))
    after = found.say(given(labels[train]))
    np.testing.assert_array_equal(before.given_prob, after.given_prob)


@pytest.mark.parametrize("kind", ["given", "removed", "relabelled", "weighted"])
def test_left_out_outputs_are_those_of_a_fit_without_the_row(kind: str) -> None:
    """Exact at a fixed scale: so the twin keeps the arm's scale and total weight, and refits without one row."""
    features, labels = made(60)
    arm = an_arm(labels, 3, kind)
    kept = np.flatnonzero(arm.kept)
    x, y, w = features[kept], arm.labels[kept], arm.weights[kept]
    head = solve(sums_of(x, y, w, CLASSES), 0.05)
    found = head.left_out(x, y, w)
    extended = np.column_stack([(x - head.mean) / head.scale, np.ones(len(x))])
    ridge = np.diag([0.05 * w.sum()] * x.shape[1] + [0.0])
    for row in range(0, len(x), 7):
        rest = np.arange(len(x)) != row
        products = extended[rest].T * w[rest] @ extended[rest] + ridge
        theirs = np.linalg.solve(products, extended[rest].T * w[rest] @ np.eye(CLASSES)[y[rest]])
        np.testing.assert_allclose(found[row], extended[row] @ theirs, atol=1e-9)


def test_a_row_of_weight_0_was_never_in() -> None:
    features, labels = made(60)
    head = solve(sums_of(features, labels, np.ones(60), CLASSES), 0.05)
    new = features[:5] + 1.0
    np.testing.assert_allclose(head.left_out(new, labels[:5], np.zeros(5)), head.outputs(new), atol=1e-12)


def test_the_strength_is_the_one_that_the_ranking_uses_and_the_outputs_are_its_own() -> None:
    features, labels = made(150)
    train = np.arange(150) >= 30
    theirs = ridge_head(features, labels, CLASSES, train)
    found = heads(features, labels, np.flatnonzero(~train), np.flatnonzero(train))
    assert found.strength == theirs.strength
    said = found.head(given(labels[train])).outputs(found._seen)
    np.testing.assert_allclose(said, theirs.outputs[~train], atol=1e-9)


def test_test_rows_that_are_trained_on_are_left_out_of_their_own_head() -> None:
    features, labels = made(90)
    everything = np.arange(90)
    found = heads(features, labels, everything[::2], everything)
    theirs = ridge_head(features, labels, CLASSES, np.ones(90, bool))
    assert (found.say(given(labels)).predicted == theirs.outputs[::2].argmax(1)).all()


def test_probabilities_use_the_temperature_of_the_arms_own_left_out_rows() -> None:
    features, labels = made(200)
    train, test = np.arange(50, 200), np.arange(50)
    found = heads(features, labels, test, train, strength=0.01)
    arm = an_arm(labels[train], 4, "removed")
    head, x = found.head(arm), found._standard(train[arm.kept])
    own = temperature(head.left_out(x, arm.labels[arm.kept], arm.weights[arm.kept]), arm.labels[arm.kept])
    shown = softmax(own * head.outputs(found._seen))[np.arange(50), labels[test]]
    np.testing.assert_allclose(found.say(arm).given_prob, shown, rtol=1e-9)


def test_temperature_is_the_best_of_a_fine_grid() -> None:
    features, labels = made(200)
    outputs = ridge_head(features, labels, CLASSES, np.ones(200, bool)).outputs
    grid = np.exp(np.linspace(np.log(0.1), np.log(300), 4001))
    losses = [-np.log(softmax(t * outputs)[np.arange(200), labels]).mean() for t in grid]
    assert temperature(outputs, labels) == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)


def test_a_class_of_which_nothing_is_left_is_never_said() -> None:
    features, labels = made(120)
    train, test = np.arange(30, 120), np.arange(30)
    arm = Arm("emptied", "emptied", labels[train] != 2, labels[train], np.ones(90))
    said = heads(features, labels, test, train).say(arm)
    assert 2 not in said.predicted
    assert np.isfinite(said.given_prob).all()
    assert (said.given_prob > 0).all()


def test_a_feature_that_only_removed_rows_have_drops_out() -> None:
    """Its sums are differences of equal numbers: what rounding leaves of them must not be blown up."""
    features, labels = made(120)
    lit = np.where(labels == 2, np.random.default_rng(0).random(120) * 1e3, 0.0)
    features = np.column_stack([features, lit])
    train, test = np.arange(30, 120), np.arange(30)
    arm = Arm("emptied", "emptied", labels[train] != 2, labels[train], np.ones(90))
    with_it = heads(features, labels, test, train, strength=0.01)
    without = heads(features[:, :-1], labels, test, train, strength=0.01)
    rows = labels[test] != 2
    np.testing.assert_allclose(
        with_it.head(arm).outputs(with_it._seen)[rows], without.head(arm).outputs(without._seen)[rows], atol=1e-6
    )


def test_features_of_half_precision_from_a_file_are_read_as_they_are(tmp_path) -> None:  # type: ignore[no-untyped-def]
    features, labels = made(90)
    np.save(tmp_path / "f.npy", features.astype(np.float16))
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    train, test = np.arange(30, 90), np.arange(30)
    one = heads(mapped, labels, test, train).say(given(labels[train]))
    other = heads(features.astype(np.float16).astype(np.float64), labels, test, train).say(given(labels[train]))
    np.testing.assert_array_equal(one.given_prob, other.given_prob)


@settings(max_examples=30)
@drawn(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_sums_of_parts_add_up(seed: int, share: float) -> None:
    features, labels = made(40, seed=seed % 50)
    weights = np.random.default_rng(seed).random(40)
    part = np.random.default_rng(seed + 1).random(40) < share
    whole = sums_of(features, labels, weights, CLASSES)
    parts = [sums_of(features[rows], labels[rows], weights[rows], CLASSES) for rows in (part, ~part)]
    for name in Sums.__dataclass_fields__:
        np.testing.assert_allclose(getattr(parts[0] + parts[1], name), getattr(whole, name), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(getattr(whole - parts[0], name), getattr(parts[1], name), rtol=1e-6, atol=1e-6)


def test_removing_planted_errors_raises_accuracy_and_as_many_at_random_do_not() -> None:
    """The check that the whole can fail: 30 % of one class's labels are another's."""
    rng = np.random.default_rng(0)
    truth = np.arange(1200) % CLASSES
    features = rng.normal(0, 1.0, (1200, 8)) + 2.0 * np.eye(CLASSES, 8)[truth]
    train, test = np.arange(600), np.arange(600, 1200)
    labels = truth.copy()
    wrong = np.flatnonzero((truth == 0) & (np.arange(1200) < 600))
    wrong = wrong[rng.random(len(wrong)) < 0.4]
    labels[wrong] = 1
    found = heads(features, labels, test, train)
    cleaned = Arm("cleaned", "cleaned", ~np.isin(train, wrong), labels[train], np.ones(600))
    right = {
        name: float((found.say(arm).predicted == truth[test]).mean())
        for name, arm in {"given": given(labels[train]), "cleaned": cleaned}.items()
    }
    random = [
        float((found.say(control(cleaned, labels[train], seed)).predicted == truth[test]).mean()) for seed in range(5)
    ]
    assert right["cleaned"] > right["given"] + 0.02
    assert right["cleaned"] > max(random) + 0.02
