"""The closed-form leave-one-out head against n refits, and against scikit-learn's ridge regression."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

import core.gradients.rows as rows_module
from core.gradients.rows import LazyRows
from core.scores import out_of_sample
from core.scores.difficulty import margin
from core.scores.out_of_sample import STRENGTHS, TEMPERATURES, disagreement, ridge_head, softmax


def made(seed: int, n: int = 40, d: int = 6, c: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features that say something about the label, labels with some noise, and a quarter of held-out rows."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, c, n)
    features = rng.normal(0, 1, (n, d)) * rng.uniform(0.1, 10, d) + rng.normal(0, 3, d)
    features[:, : min(c, d)] += 2 * np.eye(c)[labels][:, : min(c, d)]
    labels[::11] = rng.integers(0, c, len(labels[::11]))
    return features, labels, np.arange(n) % 4 != 3


def standardised(features: np.ndarray, train: np.ndarray) -> np.ndarray:
    scale = features[train].std(0)
    return (features - features[train].mean(0)) / np.where(scale > 1e-8, scale, 1)


def refits(features: np.ndarray, labels: np.ndarray, c: int, train: np.ndarray, strength: float) -> np.ndarray:
    """What n heads say, each fitted without the row it speaks about; held-out rows: one plain fit."""
    scaled, one_hot, rows = standardised(features, train), np.eye(c)[labels], np.flatnonzero(train)
    penalty = strength * len(rows)
    found = Ridge(alpha=penalty, solver="svd").fit(scaled[rows], one_hot[rows]).predict(scaled)
    for row in rows:
        others = rows[rows != row]
        left_out = Ridge(alpha=penalty, solver="svd").fit(scaled[others], one_hot[others])
        found[row] = left_out.predict(scaled[row : row + 1])[0]
    return found


@pytest.mark.parametrize(("n", "d", "c"), [(40, 6, 3), (25, 5, 2), (20, 60, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_left_out_outputs_equal_refits_without_the_row(seed: int, n: int, d: int, c: int) -> None:
    features, labels, train = made(seed, n, d, c)
    head = ridge_head(features, labels, c, train)
    np.testing.assert_allclose(head.outputs, refits(features, labels, c, train, head.strength), atol=1e-8)
    own = head.outputs[train].argmax(1) == labels[train]
    assert head.accuracy == pytest.approx(own.mean())


@pytest.mark.parametrize("strength", STRENGTHS[::7])
def test_the_closed_form_holds_at_every_strength(strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_sample, "STRENGTHS", np.array([strength]))
    features, labels, train = made(2)
    head = ridge_head(features, labels, 3, train)
    assert head.strength == strength
    np.testing.assert_allclose(head.outputs, refits(features, labels, 3, train, strength), atol=1e-8)


def test_a_row_never_hears_its_own_label() -> None:
    features, labels, train = made(3)
    before = ridge_head(features, labels, 3, train)
    changed = labels.copy()
    changed[0] = (labels[0] + 1) % 3
    after = refits(features, changed, 3, train, before.strength)
    np.testing.assert_allclose(after[0], before.outputs[0], atol=1e-8)
    assert abs(after[1] - before.outputs[1]).max() > 1e-4  # the others do hear it


def test_the_strength_has_the_least_left_out_error_of_all_tried() -> None:
    features, labels, train = made(4)
    truth, rows = np.eye(3)[labels], np.flatnonzero(train)
    errors = [((refits(features, labels, 3, train, s) - truth)[rows] ** 2).mean() for s in STRENGTHS]
    assert ridge_head(features, labels, 3, train).strength == STRENGTHS[int(np.argmin(errors))]
    assert 0 < int(np.argmin(errors)) < len(STRENGTHS) - 1  # or the check says little


def test_the_temperature_has_the_least_left_out_log_loss_of_all_tried() -> None:
    features, labels, train = made(5)
    head = ridge_head(features, labels, 3, train)
    own = [softmax(t * head.outputs)[np.flatnonzero(train), labels[train]] for t in TEMPERATURES]
    assert head.temperature == TEMPERATURES[int(np.argmin([-np.log(p).mean() for p in own]))]
    np.testing.assert_allclose(head.probabilities, softmax(head.temperature * head.outputs))
    np.testing.assert_allclose(head.probabilities.sum(1), 1)


def test_constant_and_copied_features_do_no_harm() -> None:
    features, labels, train = made(6)
    plain = ridge_head(features, labels, 3, train)
    padded = np.column_stack([features, np.full(len(labels), 7.0), np.zeros(len(labels))])
    np.testing.assert_allclose(ridge_head(padded, labels, 3, train).outputs, plain.outputs, atol=1e-8)
    doubled = ridge_head(np.column_stack([features, features]), labels, 3, train)
    assert np.isfinite(doubled.outputs).all()


def test_a_scale_and_a_shift_of_the_features_change_nothing() -> None:
    features, labels, train = made(7)
    one, other = (ridge_head(f, labels, 3, train).outputs for f in (features, features * 1000 - 5))
    np.testing.assert_allclose(one, other, atol=1e-8)


def test_single_precision_features_agree_to_single_precision() -> None:
    features, labels, train = made(8)
    single = ridge_head(features.astype(np.float32), labels, 3, train)
    assert single.outputs.dtype == np.float64
    np.testing.assert_allclose(single.outputs, ridge_head(features, labels, 3, train).outputs, atol=1e-4)


def test_a_class_that_is_not_trained_on_and_no_held_out_rows() -> None:
    features, labels, train = made(9)
    head = ridge_head(features, labels, 4, train)
    assert head.outputs[:, 3] == pytest.approx(np.zeros(len(labels)), abs=1e-12)
    everything = ridge_head(features, labels, 3, np.ones(len(labels), bool))
    assert np.isfinite(everything.outputs).all()


def test_two_rows_are_enough() -> None:
    head = ridge_head(np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1]), 2, np.ones(2, bool))
    assert head.outputs == pytest.approx(
        np.array([[0.0, 1.0], [1.0, 0.0]]), abs=1e-8
    )  # all that is left says the other label


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_permuting_rows_permutes_outputs(seed: int) -> None:
    features, labels, train = made(10)
    order = np.random.default_rng(seed).permutation(len(labels))
    whole, moved = ridge_head(features, labels, 3, train), ridge_head(features[order], labels[order], 3, train[order])
    assert moved.strength == whole.strength
    np.testing.assert_allclose(moved.outputs, whole.outputs[order], atol=1e-9)


@pytest.mark.parametrize("kind", [np.float64, np.float16])
def test_outputs_worked_out_on_demand_equal_refits(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Features in a mapped file, blocks of 7 rows, nothing held: still n heads that never saw the label."""
    features, labels, train = made(12)
    np.save(tmp_path / "features.npy", features.astype(kind))
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    monkeypatch.setattr(out_of_sample, "HELD", 0)
    monkeypatch.setattr(rows_module.blocks, "__defaults__", (7,))
    monkeypatch.setattr(rows_module.by_blocks, "__kwdefaults__", {"size": 7})
    head = ridge_head(mapped, labels, 3, train)
    assert isinstance(head.outputs, LazyRows)
    expected = refits(mapped.astype(np.float64), labels, 3, train, head.strength)
    np.testing.assert_allclose(np.asarray(head.outputs), expected, atol=1e-8)
    np.testing.assert_allclose(np.asarray(head.probabilities), softmax(head.temperature * expected), atol=1e-6)
    np.testing.assert_array_equal(head.suggested, expected.argmax(1))
    np.testing.assert_allclose(head.margin, margin(expected, labels), atol=1e-8)
    assert head.accuracy == pytest.approx((expected.argmax(1) == labels)[train].mean())


def test_held_and_on_demand_say_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, train = made(13, n=300)
    held = ridge_head(features, labels, 3, train)
    assert isinstance(held.outputs, np.ndarray)
    np.testing.assert_array_equal(held.margin, margin(held.outputs, labels))
    monkeypatch.setattr(out_of_sample, "HELD", 0)
    lazy = ridge_head(features, labels, 3, train)
    assert (lazy.strength, lazy.temperature, lazy.accuracy) == (held.strength, held.temperature, held.accuracy)
    np.testing.assert_allclose(lazy.margin, held.margin, atol=1e-12)


def test_chosen_on_a_part_of_the_rows_the_outputs_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    features, labels, train = made(14, n=400)
    whole = ridge_head(features, labels, 3, train)
    monkeypatch.setattr(out_of_sample, "CHOSEN_ON", 3 * 100)
    part = ridge_head(features, labels, 3, train)
    monkeypatch.setattr(out_of_sample, "STRENGTHS", np.array([part.strength]))
    np.testing.assert_allclose(part.outputs, ridge_head(features, labels, 3, train).outputs, atol=1e-9)
    assert abs(np.log10(part.strength / whole.strength)) < 1
    assert abs(np.log10(part.temperature / whole.temperature)) < 0.3


def test_neighbour_disagreement_by_hand() -> None:
    near = np.array([[1, 2], [0, 2], [0, 1]])
    assert disagreement(near, np.array([0, 0, 1])).tolist() == [0.5, 0.5, 1]
