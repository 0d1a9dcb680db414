"""The quick form: a linear head on recorded features instead of a training, exact and in seconds.

A head is a ridge regression from standardised features to one-hot labels, as in `core.scores.out_of_sample`. It is
solved from a few sums over its rows (`Sums`), and sums add up: those of an arm are those as given, minus the rows that
the arm changes, plus the same rows as the arm has them. So an arm costs what it changes, not what it keeps, and gives
the very head that a fit on its rows alone would give (`tests/unit/test_quick.py` compares the two).

What is fixed over the arms and what is not: the features, their first scale and the strength of the ridge are those
as given; the scale, the offset, the weights and the temperature are each arm's own. The temperature is the one with
the least log-loss over the arm's own rows, each left out of its head (Allen's PRESS): a head's outputs are no
probabilities before that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from scipy import linalg, optimize, sparse

from core.axes import Array, Float, Int, Integer
from core.gradients.rows import blocks
from core.scores.out_of_sample import TEMPERATURES, ridge_head, softmax
from core.verify.arms import Arm, given

CALIBRATED_ON = 4_000  # rows that a temperature is chosen on, at most
CALIBRATED_OUTPUTS = 2**20  # and outputs, where there are many classes
FLAT = 1e-6  # of a feature's first scale: what varies less is a constant, and what is left of it is rounding
LEAST = 1e-12  # probability


@dataclass(frozen=True)
class Sums:
    """Sums over weighted rows, from which their ridge head is solved; sums of disjoint rows add up.

    Attributes:
        weight: of all rows together; `per_class` and `features` are sums of one-hot labels and of features.
        products: of features with features, `d d`; `answers`: of features with one-hot labels, `d c`.
    """

    weight: float
    per_class: Float[Array, " c"]
    features: Float[Array, " d"]
    products: Float[Array, "d d"]
    answers: Float[Array, "d c"]

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(mine + theirs for mine, theirs in zip(self._parts(), other._parts(), strict=True)))

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*(mine - theirs for mine, theirs in zip(self._parts(), other._parts(), strict=True)))

    def _parts(self) -> tuple[Any, ...]:
        return self.weight, self.per_class, self.features, self.products, self.answers


@dataclass(frozen=True)
class Head:
    """A solved head: `outputs = offset + features @ weights` in the features' first scale."""

    mean: Float[Array, " d"]
    scale: Float[Array, " d"]
    weights: Float[Array, "d c"]
    offset: Float[Array, " c"]
    factor: Float[Array, "d d"]  # Cholesky, lower: of the Gram matrix of standardised features, ridge included
    total: float  # weight of the rows fitted on

    def outputs(self, features: Float[Array, "m d"]) -> Float[Array, "m c"]:
        """What the head says, rows fitted on included."""
        return np.asarray(features @ self.weights + self.offset)

    def left_out(
        self, features: Float[Array, "m d"], labels: Integer[Array, " m"], weights: Float[Array, " m"]
    ) -> Float[Array, "m c"]:
        """What the head says of each row when that row is left out of it; weight 0: it was never in.

        With hat value h, the left-out output is `(f - h y) / (1 - h)` (Allen 1974).
        """
        standard = (features - self.mean) / self.scale
        turned = linalg.solve_triangular(self.factor, standard.T, lower=True, check_finite=False)
        hat = weights * (np.einsum("dm,dm->m", turned, turned) + 1 / self.total)
        others = np.maximum(1 - hat, 1e-9)
        found = self.outputs(features)
        found[np.arange(len(found)), labels] -= 1 - others
        return np.asarray(found / others[:, None])


def sums_of(
    features: Float[Array, "n d"], labels: Integer[Array, " n"], weights: Float[Array, " n"], classes: int
) -> Sums:
    """Sum up weighted rows."""
    weighted = features * weights[:, None]
    hot = sparse.csr_array((np.ones(len(labels)), (labels, np.arange(len(labels)))), (classes, len(labels)))
    per_class = np.bincount(labels, weights, minlength=classes).astype(float)
    return Sums(float(weights.sum()), per_class, weighted.sum(0), features.T @ weighted, (hot @ weighted).T)


def solve(sums: Sums, strength: float) -> Head:
    """Solve the ridge regression of standardised features to one-hot labels, the offset never penalised.

    Args:
        sums: over the rows.
        strength: of the ridge, as a multiple of the rows' weight.
    """
    mean, share = sums.features / sums.weight, sums.per_class / sums.weight
    spread = sums.products - np.outer(sums.features, mean)
    scale = np.sqrt(np.maximum(np.diag(spread), 0.0) / sums.weight)
    scale = np.where(scale > FLAT, scale, np.inf)  # a constant column leaves the regression
    gram = spread / np.outer(scale, scale)
    gram[np.diag_indices_from(gram)] += strength * sums.weight
    factor = linalg.cholesky(gram, lower=True, check_finite=False)
    answers = (sums.answers - np.outer(sums.features, share)) / scale[:, None]
    weights = linalg.cho_solve((factor, True), answers, check_finite=False) / scale[:, None]
    return Head(mean, scale, weights, share - mean @ weights, factor, sums.weight)


class Said(NamedTuple):
    """What an arm's head says of the test rows: the class on top, and the probability of the row's own label."""

    predicted: Int[Array, " m"]
    given_prob: Float[Array, " m"]


class Heads:
    """The heads of all arms, on the same features.

    Args:
        features: of every row of the manifest, `n d`; may be a mapped file of any number type.
        train: positions of the training rows, in the order of the arms' rows.
        labels: class codes as given, of the training rows.
        classes: how many.
        test: positions of the test rows; where they are training rows, each is left out of the head that speaks of it.
        test_labels: their class codes.
        strength: of the ridge; None: the one with the least left-out error as given.
    """

    def __init__(
        self, features: Float[Array, "n d"], train: Integer[Array, " r"], labels: Integer[Array, " r"], classes: int,
        test: Integer[Array, " m"], test_labels: Integer[Array, " m"], strength: float | None = None,
    ) -> None:  # fmt: skip
        self._features, self.train, self.labels, self.classes = features, train, np.asarray(labels), classes
        self._test, self._test_labels = test, test_labels
        self._own = np.searchsorted(train, test) if np.isin(test, train).all() else None
        self._given = given(self.labels)
        self._strength = strength

    @cached_property
    def strength(self) -> float:
        """The strength of the ridge, the same in every arm."""
        if self._strength is not None:
            return self._strength
        fitted, labels = np.zeros(len(self._features), bool), np.zeros(len(self._features), np.int64)
        fitted[self.train], labels[self.train] = True, self.labels
        return ridge_head(self._features, labels, self.classes, fitted).strength

    @cached_property
    def _scale(self) -> tuple[Float[Array, " d"], Float[Array, " d"]]:
        """Mean and deviation of the features as given: sums of numbers near 1 lose no digits when rows leave them."""
        total, squares = np.zeros(self._features.shape[1]), np.zeros(self._features.shape[1])
        for rows in blocks(len(self.train)):
            total += self._raw(self.train[rows]).sum(0)
        mean = total / len(self.train)
        for rows in blocks(len(self.train)):
            squares += ((self._raw(self.train[rows]) - mean) ** 2).sum(0)
        deviation = np.sqrt(squares / len(self.train))
        return mean, np.where(deviation > 1e-8, deviation, 1.0)

    def _raw(self, rows: Integer[Array, " m"]) -> Float[Array, "m d"]:
        return np.asarray(self._features[rows], dtype=np.float64)

    def _standard(self, rows: Integer[Array, " m"]) -> Float[Array, "m d"]:
        mean, deviation = self._scale
        return np.asarray((self._raw(rows) - mean) / deviation)

    @cached_property
    def _as_given(self) -> Sums:
        return self._sums(self._given, np.arange(len(self.train)))

    @cached_property
    def _seen(self) -> Float[Array, "m d"]:
        """The test rows, read once."""
        return self._standard(self._test)

    @cached_property
    def _judged(self) -> Float[Array, "j d"]:
        """The rows that temperatures are chosen on, read once."""
        return self._standard(self.train[self._judges])

    @cached_property
    def _judges(self) -> Integer[Array, " j"]:
        """Training rows that temperatures are chosen on: all, or as many drawn by a seed, the same in every arm."""
        most = max(min(CALIBRATED_ON, CALIBRATED_OUTPUTS // self.classes), 1)
        if len(self.train) <= most:
            return np.arange(len(self.train))
        return np.sort(np.random.default_rng(0).choice(len(self.train), most, replace=False))

    def _sums(self, arm: Arm, rows: Integer[Array, " r"]) -> Sums:
        """Sums over some training rows as an arm has them, block by block."""
        weights = np.where(arm.kept, arm.weights, 0.0)[rows]
        parts = [
            sums_of(self._standard(self.train[rows[some]]), arm.labels[rows[some]], weights[some], self.classes)
            for some in blocks(len(rows))
        ]
        return sum(parts[1:], parts[0])

    def head(self, arm: Arm) -> Head:
        """Solve an arm's head."""
        ours = np.where(arm.kept, arm.weights, 0.0)
        rows = np.flatnonzero((ours != self._given.weights) | (arm.labels != self.labels))
        if 2 * len(rows) > len(self.train):  # nearly all is another: from the start
            return solve(self._sums(arm, np.flatnonzero(arm.kept)), self.strength)
        return solve(self._as_given - self._sums(self._given, rows) + self._sums(arm, rows), self.strength)

    def say(self, arm: Arm) -> Said:
        """Fit an arm's head and let it speak of the test rows."""
        head = self.head(arm)
        weights = np.where(arm.kept, arm.weights, 0.0)
        if self._own is None:
            outputs = head.outputs(self._seen)
        else:
            outputs = head.left_out(self._seen, arm.labels[self._own], weights[self._own])
        chosen = arm.kept[self._judges]
        if not chosen.any():  # an arm of few rows, none of them drawn
            chosen[:] = True
        rows = self._judges[chosen]
        left_out = head.left_out(self._judged[chosen], arm.labels[rows], weights[rows])
        shown = softmax(temperature(left_out, arm.labels[rows]) * outputs)
        given_prob = np.maximum(shown[np.arange(len(shown)), self._test_labels], LEAST)
        return Said(outputs.argmax(1).astype(np.int64), given_prob)


def temperature(outputs: Float[Array, "m c"], labels: Integer[Array, " m"]) -> float:
    """Return the factor whose softmax has the least log-loss; in that factor the loss is convex, so it has one."""
    rows = np.arange(len(outputs))

    def loss(logarithm: float) -> float:
        return float(-np.log(np.maximum(softmax(np.exp(logarithm) * outputs)[rows, labels], LEAST)).mean())

    ends = (float(np.log(TEMPERATURES[0])), float(np.log(TEMPERATURES[-1])))
    return float(np.exp(optimize.minimize_scalar(loss, bounds=ends, method="bounded", options={"xatol": 1e-3}).x))
