"""The factors against what they stand for: autograd, the dense matrix, and the closed forms of the norms."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InputError
from core.gradients.last_layer import LastLayerGradients


def parts(n=7, c=4, d=5, seed=0):
    chance = np.random.default_rng(seed)
    return chance.normal(size=(n, c)) * 3, chance.integers(c, size=n), chance.normal(size=(n, d))


def probabilities(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_a_case_worked_by_hand():
    g = LastLayerGradients.from_logits(np.log([[1.0, 3.0]]), np.array([0]), np.array([[2.0, -1.0]]))
    np.testing.assert_allclose(g.errors, [[-0.75, 0.75]])
    np.testing.assert_allclose(g.inputs, [[2, -1, 1]])
    np.testing.assert_allclose(g.l1(), [1.5 * 4])
    np.testing.assert_allclose(g.l2(), [np.sqrt(2 * 0.75**2) * np.sqrt(6)])
    np.testing.assert_allclose(g.dense(), [[-1.5, 0.75, -0.75, 1.5, -0.75, 0.75]])


@pytest.mark.parametrize("bias", [True, False])
def test_equals_autograd(bias):
    _, labels, inputs = parts()
    layer = torch.nn.Linear(5, 4, bias=bias, dtype=torch.float64)
    h = torch.from_numpy(inputs)
    g = LastLayerGradients.from_logits(layer(h), torch.from_numpy(labels), h, bias=bias)
    assert not g.errors.requires_grad
    for row in range(len(g)):
        loss = torch.nn.functional.cross_entropy(layer(h[row : row + 1]), torch.tensor([int(labels[row])]))
        whole = [p.reshape(4, -1) for p in torch.autograd.grad(loss, list(layer.parameters()))]
        torch.testing.assert_close(g.dense()[row], torch.cat(whole, dim=1).flatten())


@given(st.integers(0, 10_000), st.integers(0, 6), st.integers(1, 5), st.integers(1, 4), st.booleans())
def test_every_answer_equals_the_dense_one(seed, n, c, d, bias):
    g = LastLayerGradients.from_logits(*parts(n, c, d, seed), bias=bias)
    other = LastLayerGradients.from_logits(*parts(3, c, d, seed + 1), bias=bias)
    dense = g.dense()
    assert dense.shape == (n, g.n_columns) == (n, c * (d + bias))
    np.testing.assert_allclose(g.l1(), np.abs(dense).sum(axis=1), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(g.l2(), np.linalg.norm(dense, axis=1), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(g.dot(other), dense @ other.dense().T, atol=1e-10)
    for at in range(g.n_columns):
        np.testing.assert_array_equal(g.column(*divmod(at, d + bias)), dense[:, at])


def test_the_closed_forms_of_the_norms():
    logits, labels, inputs = parts(n=50)
    p = probabilities(logits)
    own = p[np.arange(50), labels]
    bare = LastLayerGradients.from_logits(logits, labels, inputs, bias=False)
    el2n = np.linalg.norm(p - np.eye(4)[labels], axis=1)
    np.testing.assert_allclose(bare.l1(), 2 * (1 - own) * np.abs(inputs).sum(axis=1))
    np.testing.assert_allclose(bare.l2(), el2n * np.linalg.norm(inputs, axis=1))
    with_bias = LastLayerGradients.from_logits(logits, labels, inputs)
    np.testing.assert_allclose(with_bias.l2(), el2n * np.sqrt(1 + (inputs**2).sum(axis=1)))


@given(st.permutations(range(7)))
def test_permuting_rows_permutes_answers_and_nothing_else(order):
    g = LastLayerGradients.from_logits(*parts())
    moved = g.take(np.array(order))
    np.testing.assert_array_equal(moved.l1(), g.l1()[order])
    np.testing.assert_array_equal(moved.l2(), g.l2()[order])
    np.testing.assert_allclose(moved.dot(moved), g.dot(g)[np.ix_(order, order)], rtol=1e-12)


def test_norms_of_many_rows_equal_norms_of_few():
    logits, labels, inputs = parts(n=40_000, c=2, d=2)
    g = LastLayerGradients.from_logits(logits, labels, inputs)
    np.testing.assert_array_equal(g.l1()[-5:], g.take(slice(-5, None)).l1())


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_new_labels_give_the_bits_of_a_fresh_start(kind):
    logits, labels, inputs = parts(n=200)
    logits, inputs = kind(logits.astype(np.float32)), kind(inputs.astype(np.float32))
    changed = LastLayerGradients.from_logits(logits, kind(labels), inputs).with_labels(kind((labels + 1) % 4))
    fresh = LastLayerGradients.from_logits(logits, kind((labels + 1) % 4), inputs)
    assert (changed.errors == fresh.errors).all()
    assert (changed.with_labels(labels).errors != changed.errors).any()


@pytest.mark.parametrize(
    ("given_type", "kept"),
    [("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")],
)
def test_what_goes_in_comes_out(given_type, kept):
    logits, labels, inputs = parts()
    as_torch = [torch.from_numpy(a).to(getattr(torch, given_type)) for a in (logits, inputs)]
    g = LastLayerGradients.from_logits(as_torch[0], labels, as_torch[1])
    for answer in (g.errors, g.inputs, g.l1(), g.l2(), g.dot(g), g.column(0, 0), g.dense()):
        assert answer.dtype == getattr(torch, kept)
    assert isinstance(g.numpy().errors, np.ndarray)
    if given_type != "bfloat16":
        same = LastLayerGradients.from_logits(logits.astype(given_type), labels, inputs.astype(given_type))
        assert same.errors.dtype == same.l2().dtype == kept
        np.testing.assert_allclose(same.l2(), g.l2().numpy(), rtol=1e-5)


def test_a_confident_sample_keeps_its_small_error():
    logits = np.array([[30.0, 0.0]], np.float32)
    g = LastLayerGradients.from_logits(logits, np.array([0]), np.ones((1, 1), np.float32))
    np.testing.assert_allclose(g.errors, [[-np.exp(-30.0), np.exp(-30.0)]], rtol=1e-6)


def test_large_logits_are_no_overflow():
    g = LastLayerGradients.from_logits(
        np.array([[3e38, -3e38]], np.float32), np.array([1]), np.ones((1, 1), np.float32)
    )
    np.testing.assert_array_equal(g.errors, [[1, -1]])


def test_one_class_has_no_error_and_no_rows_no_answers():
    assert not LastLayerGradients.from_logits(np.ones((3, 1)), np.zeros(3, int), np.ones((3, 2))).l1().any()
    empty = LastLayerGradients.from_logits(np.ones((0, 3)), [], np.ones((0, 2)))
    assert len(empty) == 0
    assert empty.l1().shape == empty.l2().shape == (0,)
    assert empty.dense().shape == (0, 9)


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": np.array([0, 4, 1])}, r"Label 4 \(row 1\) is not among the 4 classes"),
        ({"labels": np.array([0, 1, -1])}, r"Label -1 \(row 2\)"),
        ({"labels": np.array([0.0, 1.0, 2.0])}, "not whole numbers"),
        ({"labels": np.array([0, 1])}, r"labels of shape \(2,\) for 3 rows"),
        ({"logits": np.array([[0, 0, 0, 0], [0, np.nan, 0, 0], [0, 0, 0, 0]])}, r"nan \(row 1, column 1\)"),
        ({"inputs": np.array([[1.0], [2.0], [np.inf]])}, r"inputs hold inf \(row 2, column 0\)"),
        ({"inputs": np.ones((2, 5))}, "3 rows of logits and 2 of inputs"),
        ({"logits": np.zeros(3)}, r"logits have shape \(3,\)"),
        ({"logits": np.zeros((3, 0))}, "at least one class"),
    ],
)
def test_what_cannot_be_used_is_named(kind, change, words):
    logits, labels, inputs = parts(n=3)
    given_parts = {"logits": logits, "labels": labels, "inputs": inputs} | change
    with pytest.raises(InputError, match=words):
        LastLayerGradients.from_logits(**{name: kind(value) for name, value in given_parts.items()})


def test_more_that_cannot_be_used():
    logits, labels, inputs = parts()
    g = LastLayerGradients.from_logits(logits, labels, inputs)
    with pytest.raises(InputError, match="no column"):
        g.column(4, 0)
    with pytest.raises(InputError, match="no dot product"):
        g.dot(LastLayerGradients.from_logits(logits, labels, inputs, bias=False))
    with pytest.raises(InputError, match="made without labels"):
        LastLayerGradients(g.errors, g.inputs).with_labels(labels)
    with pytest.raises(InputError, match="two kinds"):
        LastLayerGradients.from_logits(torch.from_numpy(logits), labels, inputs)


def test_no_torch_is_loaded_for_arrays():
    code = (
        "import sys, numpy as np; from core.gradients.last_layer import LastLayerGradients as L;"
        "L.from_logits(np.ones((2, 2)), [0, 1], np.ones((2, 1))).l2(); sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def both_ways(n, c, d, seed, kind, bias=True, folder=None):
    """The same gradients held and worked out on demand, the latter from arrays or mapped files."""
    logits, labels, inputs = parts(n, c, d, seed)
    logits, inputs = logits.astype(kind), inputs.astype(kind)
    held = LastLayerGradients.from_logits(logits, labels, inputs, bias)
    if folder is not None:
        np.save(folder / "logits.npy", logits)
        np.save(folder / "inputs.npy", inputs)
        logits, inputs = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("logits", "inputs"))
    return held, LastLayerGradients.lazily(logits, labels, inputs, bias)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [slice(None), slice(3, 9), np.array([5, 0, 5]), np.arange(20) % 3 == 0, slice(0, 0)])
def test_rows_on_demand_are_the_held_ones_to_the_bit(kind, bias, rows, tmp_path):
    held, lazy = both_ways(20, 4, 5, 1, kind, bias, tmp_path)
    assert (len(lazy), lazy.n_columns) == (20, held.n_columns)
    one, two = held.take(rows), lazy.take(rows)
    for name in ("errors", "inputs", "labels", "own_probability"):
        expected, found = getattr(one, name), getattr(two, name)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@given(st.integers(0, 30), st.integers(1, 5), st.integers(1, 4), st.integers(0, 100))
def test_every_answer_on_demand_is_the_held_one(n, c, d, seed):
    held, lazy = both_ways(n, c, d, seed, np.float16)
    for name in ("l1", "l2", "el2n", "dense"):
        np.testing.assert_array_equal(getattr(lazy, name)(), getattr(held, name)())
    np.testing.assert_array_equal(lazy.column(c - 1, d), held.column(c - 1, d))
    np.testing.assert_allclose(lazy.dot(lazy), held.dot(held), rtol=1e-6)
    turned = (held.labels + 1) % c
    np.testing.assert_array_equal(lazy.with_labels(turned).dense(), held.with_labels(turned).dense())


def test_what_is_wrong_is_said_before_anything_is_asked_for():
    logits, labels, inputs = parts(n=40_000, c=2, d=2)
    inputs[30_000, 1] = np.nan
    with pytest.raises(InputError, match="inputs hold nan .row 30000, column 1."):
        LastLayerGradients.lazily(logits, labels, inputs)
    with pytest.raises(InputError, match="40,000 rows of logits and 39,999 of inputs"):
        LastLayerGradients.lazily(logits, labels, inputs[1:])
    with pytest.raises(InputError, match="Label 2 .row 0. is not among the 2 classes"):
        LastLayerGradients.lazily(logits, np.full(40_000, 2), inputs * 0)
    with pytest.raises(InputError, match="have shape"):
        LastLayerGradients.lazily(logits[0], labels, inputs)


def test_the_norm_of_the_errors_by_hand_and_in_both_kinds():
    g = LastLayerGradients.from_logits(np.log([[1.0, 3.0]]), np.array([0]), np.array([[2.0, -1.0]]))
    np.testing.assert_allclose(g.el2n(), [np.sqrt(2) * 0.75])
    logits, labels, inputs = parts(n=30)
    torch_g = LastLayerGradients.from_logits(torch.from_numpy(logits).float(), labels, torch.from_numpy(inputs).float())
    assert torch_g.el2n().dtype == torch.float64
    np.testing.assert_allclose(torch_g.el2n(), LastLayerGradients.from_logits(logits, labels, inputs).el2n(), rtol=1e-5)
