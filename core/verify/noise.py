"""How many labels of a test set are wrong, by estimate: a comparison is no sharper than the labels it is measured on.

`confident_joint_noise` is confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research
70, 2021, section 3): each row is counted under its given label and under the class that is confident about it, a class
being confident about a row that it gives at least its mean probability among the rows of its own label. What lies off
the diagonal, as a share, is the estimate. It needs probabilities of a network that did not train on these rows.

It is an estimate, and a rough one: rows that look like another class count as wrong labels, and errors that the network
has learned do not count at all.
"""

from __future__ import annotations

import numpy as np

from core.axes import Array, Float, Int, Integer
from core.errors import InputError

SLACK = 1e-6  # below a threshold, so that rounding does not decide
LEAST_THRESHOLD = 2e-6  # of a class whose every probability is 0


def confident_joint_noise(probabilities: Float[Array, "m c"], labels: Integer[Array, " m"]) -> float:
    """The estimated share of wrong labels (0-1).

    Args:
        probabilities: of every class, out of sample.
        labels: class codes as given.

    Raises:
        InputError: there is no row.
    """
    if not len(labels):
        raise InputError("No test row was given, so the noise of none can be estimated. Give at least one.")
    joint = confident_joint(probabilities, labels)
    held = np.bincount(labels, minlength=len(joint))
    wrong = 1 - joint.diagonal() / joint.sum(axis=1)
    return float(wrong @ held / held.sum())


def confident_joint(probabilities: Float[Array, "m c"], labels: Integer[Array, " m"]) -> Int[Array, "c c"]:
    """Rows counted by given label and by the class that is confident about them; one at least of each right.

    Of several confident classes the most probable counts, a row about which none is confident is left out.
    """
    classes = probabilities.shape[1]
    thresholds = np.array([_threshold(probabilities[labels == code, code]) for code in range(classes)])
    confident = probabilities >= thresholds - SLACK
    counted = confident.any(axis=1)
    best = np.where(confident, probabilities, -1.0).argmax(axis=1)
    joint = np.zeros((classes, classes), np.int64)
    np.add.at(joint, (labels[counted], best[counted]), 1)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    return joint


def _threshold(own: Float[Array, " r"]) -> float:
    """The mean probability of a class among rows of its label; out of reach where there are none."""
    return max(float(own.mean()), LEAST_THRESHOLD) if len(own) else np.inf
