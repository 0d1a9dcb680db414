"""Scores of the last checkpoint's probabilities: how wrong and how unsure the network is about a sample now.

All of them go blind once a network has memorised its labels (every gradient vanishes): then look at
`core.scores.dynamics`.
"""

from __future__ import annotations

import numpy as np

from core.axes import Array, Float, Integer


def probabilities(logits: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """Softmax in float64."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))


def loss(logits: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Cross-entropy of the given label, -log p_y, exact also where p_y underflows. High: suspicious."""
    wide = logits.astype(np.float64)
    top = wide.max(1)
    log_sum = top + np.log(np.exp(wide - top[:, None]).sum(1))
    return np.asarray(log_sum - wide[np.arange(len(labels)), labels])


def self_confidence(probs: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Probability of the given label (Northcutt et al. 2021). Low: suspicious."""
    return np.asarray(probs[np.arange(len(labels)), labels])


def margin(values: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Value of the given label minus the largest other value. Low: suspicious."""
    rows = np.arange(len(labels))
    others = values.astype(np.float64, copy=True)
    others[rows, labels] = -np.inf
    return np.asarray(values[rows, labels] - others.max(1))


def entropy(probs: Float[Array, "n c"]) -> Float[Array, " n"]:
    """Shannon entropy of the prediction in nats, whatever the label. High: the network is unsure."""
    return np.asarray(-(probs * np.log(np.maximum(probs, 1e-300))).sum(1))
