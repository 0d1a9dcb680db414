"""How many labels of a test set are wrong, by estimate: a comparison is no sharper than the labels it is measured on.

`confident_joint_noise` is confident learning (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research
70, 2021, section 3): each row is counted under its given label and under the class that is confident about it, a class
being confident about a row that it gives at least its mean probability among the rows of its own label. What lies off
the diagonal, as a share, is the estimate. It needs probabilities of a network that did not train on these rows.

It is no share of wrong labels unless the probabilities are good: what a weak head mistakes counts as well, so on clean
labels a head that is right on 70 % of the rows is told 17 %, one that is right on 94 % less than 1 %. Errors that the
network has learned do not count at all. `said` puts it as what it is.
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


def said(known: float | None, estimated: float | None) -> str:
    """What is to be said of the test set's labels, in one sentence; "" where nothing is known.

    Args:
        known: share of wrong labels, where the source tells the truth.
        estimated: by `confident_joint_noise`.
    """
    if known == 0:
        return "All of their labels are known to be right."
    if known is not None:
        return f"{100 * known:.1f} % of their labels are known to be wrong."
    if estimated is None:
        return ""
    return (
        f"A head that never saw their labels firmly contradicts {100 * estimated:.0f} % of them: wrong labels and its "
        "own mistakes together."
    )


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
