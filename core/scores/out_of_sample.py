"""What the features say about a label when that label is left out: an exact leave-one-out ridge head, and neighbours.

The head is ridge regression from standardised features to one-hot labels. Leaving row i out of a ridge regression
needs no second fit: with hat matrix H, the left-out residual is `(y_i - f_i) / (1 - H_ii)` (Allen's PRESS). So all n
heads that each never saw one label come out of one eigendecomposition, in a fraction of a second, with the ridge
strength that minimises the leave-one-out squared error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.axes import Array, Bool, Float, Integer

STRENGTHS = np.logspace(-6, 1, 29)  # ridge strengths tried, as multiples of the number of rows
TEMPERATURES = np.logspace(-1, 2.5, 71)


@dataclass(frozen=True)
class RidgeHead:
    """Outputs of a head that never saw the label it speaks about.

    Attributes:
        outputs: `n c`; leave-one-out outputs for rows fitted on, plain outputs for the others.
        probabilities: `n c`, softmax of `temperature * outputs`, the temperature with the least leave-one-out log-loss.
        strength: the ridge strength chosen, as a multiple of the number of rows fitted on.
        accuracy: share of fitted rows whose left-out label comes out on top.
    """

    outputs: Float[Array, "n c"]
    probabilities: Float[Array, "n c"]
    strength: float
    temperature: float
    accuracy: float


def ridge_head(
    features: Float[Array, "n d"], labels: Integer[Array, " n"], classes: int, train: Bool[Array, " n"]
) -> RidgeHead:
    """Fit on the rows of `train`, speak about all rows."""
    mean, scale = features[train].mean(0, dtype=np.float64), features[train].std(0, dtype=np.float64)
    scaled = (features - mean) / np.where(scale > 1e-8, scale, 1.0)
    one_hot = np.eye(classes)[labels[train]]
    outputs = np.empty((len(labels), classes))
    outputs[train], weights, offset, strength = _leave_one_out(scaled[train], one_hot)
    outputs[~train] = scaled[~train] @ weights + offset
    temperature = _temperature(outputs[train], labels[train])
    accuracy = float((outputs[train].argmax(1) == labels[train]).mean())
    return RidgeHead(outputs, softmax(temperature * outputs), strength, temperature, accuracy)


def _leave_one_out(inputs: Array, targets: Array) -> tuple[Array, Array, Array, float]:
    """Return left-out outputs, weights, offset and strength of the ridge with the least left-out squared error."""
    centre, offset = inputs.mean(0), targets.mean(0)
    inputs, targets = inputs - centre, targets - offset
    values, vectors = np.linalg.eigh(inputs.T @ inputs)
    values = np.maximum(values, 0.0)
    rotated = inputs @ vectors  # n x d, orthogonal columns
    answers = rotated.T @ targets
    best: tuple[float, Array, float] | None = None
    for strength in STRENGTHS:
        shrink = 1 / (values + strength * len(inputs))
        leverage = (rotated**2) @ shrink + 1 / len(inputs)  # the offset is a column of its own, never penalised
        residual = (targets - rotated @ (shrink[:, None] * answers)) / np.maximum(1 - leverage, 1e-9)[:, None]
        error = float((residual**2).mean())
        if best is None or error < best[0]:
            best = (error, targets - residual + offset, float(strength))
    assert best is not None
    weights = vectors @ (answers / (values + best[2] * len(inputs))[:, None])
    return best[1], weights, offset - centre @ weights, best[2]


def _temperature(outputs: Array, labels: Array) -> float:
    """Return the temperature whose softmax has the least log-loss."""
    rows = np.arange(len(labels))
    losses = [-np.log(np.maximum(softmax(t * outputs)[rows, labels], 1e-12)).mean() for t in TEMPERATURES]
    return float(TEMPERATURES[int(np.argmin(losses))])


def softmax(values: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Softmax over classes."""
    shifted = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def disagreement(neighbours: Integer[Array, "n k"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Share of the nearest training images that carry another label. High: suspicious."""
    return np.asarray((labels[neighbours] != labels[:, None]).mean(1))
