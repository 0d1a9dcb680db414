"""What the features say about a label when that label is left out: an exact leave-one-out ridge head, and neighbours.

The head is ridge regression from standardised features to one-hot labels. Leaving row i out of a ridge regression
needs no second fit: with hat matrix H, the left-out residual is `(y_i - f_i) / (1 - H_ii)` (Allen's PRESS). So all n
heads that each never saw one label come out of one eigendecomposition, in a fraction of a second, with the ridge
strength that minimises the leave-one-out squared error.

Everything is read in blocks of rows, in float64: features may be a mapped file in half precision. Where the outputs are
too many to hold they are worked out again for the rows that are asked for, and strength and temperature are chosen on
a part of the rows; the leave-one-out outputs are exact all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from core.axes import Array, Bool, Float, Integer
from core.gradients.rows import LazyRows, blocks, by_blocks
from core.scores.difficulty import margin

STRENGTHS = np.logspace(-6, 1, 29)  # ridge strengths tried, as multiples of the number of rows
TEMPERATURES = np.logspace(-1, 2.5, 71)
CHOSEN_ON = 2**22  # outputs (rows x classes) that strength and temperature are chosen on, at most: 4 million
HELD = 2**26  # outputs that are held, half a gigabyte; more are worked out when asked for


@dataclass(frozen=True)
class RidgeHead:
    """Outputs of a head that never saw the label it speaks about.

    Attributes:
        outputs: `n c`; leave-one-out outputs for rows fitted on, plain outputs for the others. An array, or beyond
            `HELD` numbers `LazyRows`: read those in blocks (`core.gradients.rows.by_blocks`).
        probabilities: `n c`, softmax of `temperature * outputs`, the temperature with the least leave-one-out log-loss;
            kept as `outputs` are.
        strength: the ridge strength chosen, as a multiple of the number of rows fitted on.
        accuracy: share of fitted rows whose left-out label comes out on top.
        margin: output of the given label minus the largest other one.
        suggested: class with the largest output.
    """

    outputs: Float[Any, "n c"]
    probabilities: Float[Any, "n c"]
    strength: float
    temperature: float
    accuracy: float
    margin: Float[Array, " n"]
    suggested: Integer[Array, " n"]


def ridge_head(
    features: Float[Array, "n d"], labels: Integer[Array, " n"], classes: int, train: Bool[Array, " n"]
) -> RidgeHead:
    """Fit on the rows of `train`, speak about all rows."""
    chosen = _chosen(train, classes)
    speak, strength = _fit(features, labels, classes, train, chosen)
    outputs = _held(LazyRows((len(labels), classes), np.float64, speak))
    temperature = _temperature(outputs[chosen], labels[chosen])
    probabilities = LazyRows(outputs.shape, np.float64, lambda rows: softmax(temperature * outputs[rows]))
    found = by_blocks(lambda some, given: np.column_stack((margin(some, given), some.argmax(1))), outputs, labels)
    suggested = found[:, 1].astype(np.int64)
    accuracy = float((suggested == labels)[train].mean())
    return RidgeHead(outputs, _held(probabilities), strength, temperature, accuracy, found[:, 0].copy(), suggested)


def _held(rows: LazyRows) -> Any:
    """The matrix itself where it is small enough to hold."""
    return np.asarray(rows) if rows.shape[0] * rows.shape[1] <= HELD else rows


def _chosen(train: Bool[Array, " n"], classes: int) -> Integer[Array, " m"]:
    """Positions of the training rows that strength and temperature are chosen on: all, or as many drawn by a seed."""
    rows, most = np.flatnonzero(train), max(CHOSEN_ON // classes, 1)
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, most, replace=False))


class _Problem(NamedTuple):
    """The regression in orthogonal columns, where a ridge only divides."""

    mean: Float[Array, " d"]
    turn: Float[Array, "d d"]  # from centred features to those columns
    values: Float[Array, " d"]  # their squared lengths
    answers: Float[Array, "d c"]  # their products with the centred one-hot labels
    share: Float[Array, " c"]  # of each class; the offset is a column of its own, never penalised
    fitted: int  # rows

    def columns(self, features: Array) -> Float[Array, "m d"]:
        return np.asarray((np.asarray(features, dtype=np.float64) - self.mean) @ self.turn)

    def shrink(self, strength: Any) -> Array:
        return np.asarray(1 / (self.values + strength * self.fitted))


def _fit(features: Array, labels: Array, classes: int, train: Array, chosen: Array) -> tuple[Any, float]:
    """Return what says the outputs of the rows it is asked for, without their own labels, and the ridge's strength."""
    problem = _problem(features, labels, classes, train)
    strength = _strength(problem, features, labels, chosen)
    shrink = problem.shrink(strength)
    weights = problem.turn @ (shrink[:, None] * problem.answers)
    offset = problem.share - problem.mean @ weights
    leverage = by_blocks(lambda some: problem.columns(some) ** 2 @ shrink + 1 / problem.fitted, features)
    others = np.where(train, np.maximum(1 - leverage, 1e-9), 1.0)  # what the other rows weigh in a row's output

    def speak(rows: Any) -> Float[Array, "m c"]:
        found = np.asarray(features[rows], dtype=np.float64) @ weights + offset
        found[np.arange(len(found)), labels[rows]] -= 1 - others[rows]
        return np.asarray(found / others[rows][:, None])  # y - (y - f) / (1 - H) = (f - H y) / (1 - H)

    return speak, strength


def _problem(features: Array, labels: Array, classes: int, train: Array) -> _Problem:
    count, width = int(train.sum()), features.shape[1]
    mean = sum((block.sum(0) for block, _ in _fitted(features, labels, train)), np.zeros(width)) / count
    products, sums = np.zeros((width, width)), np.zeros((classes, width))
    for block, given in _fitted(features, labels, train):
        block -= mean
        products += block.T @ block
        sums += sparse.csr_array((np.ones(len(given)), (given, np.arange(len(given)))), (classes, len(given))) @ block
    scale = np.sqrt(np.diag(products) / count)
    scale = np.where(scale > 1e-8, scale, 1.0)
    values, vectors = np.linalg.eigh(products / np.outer(scale, scale))
    turn, share = vectors / scale[:, None], np.bincount(labels[train], minlength=classes) / count
    return _Problem(mean, turn, np.maximum(values, 0.0), turn.T @ (sums.T - np.outer(sums.sum(0), share)), share, count)


def _fitted(features: Array, labels: Array, train: Array) -> Iterator[tuple[Array, Array]]:
    """Features, in float64, and labels of the rows fitted on, block by block."""
    for rows in blocks(len(labels)):
        if train[rows].any():
            yield features[rows][train[rows]].astype(np.float64), labels[rows][train[rows]]


def _strength(problem: _Problem, features: Array, labels: Array, chosen: Array) -> float:
    """Return the strength with the least left-out squared error over the chosen rows."""
    errors, shrinks = np.zeros(len(STRENGTHS)), problem.shrink(STRENGTHS[:, None])
    for block in blocks(len(chosen), 2048):
        columns, given = problem.columns(features[chosen[block]]), labels[chosen[block]]
        others = np.maximum(1 - (columns**2 @ shrinks.T + 1 / problem.fitted), 1e-9)
        for at, shrink in enumerate(shrinks):
            residual = columns @ (shrink[:, None] * problem.answers) + problem.share
            residual[np.arange(len(given)), given] -= 1
            errors[at] += (np.einsum("mc,mc->m", residual, residual) / others[:, at] ** 2).sum()
    return float(STRENGTHS[int(np.argmin(errors))])


def _temperature(outputs: Array, labels: Array) -> float:
    """Return the temperature whose softmax has the least log-loss."""
    rows = np.arange(len(labels))
    losses = [-np.log(np.maximum(softmax(t * outputs)[rows, labels], 1e-12)).mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def softmax(values: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Softmax over classes."""
    shifted = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def log_softmax(values: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Logarithm of the softmax over classes."""
    shifted = values - values.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def disagreement(neighbours: Integer[Array, "n k"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Share of the nearest training images that carry another label. High: suspicious."""
    return np.asarray((labels[neighbours] != labels[:, None]).mean(1))
