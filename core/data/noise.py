"""Planted label errors, and the random numbers that belong to a sample.

- `uniforms`: one number per sample, a function of (seed, purpose, sample id) alone. Splits and noise draw from it, so
  the order of the rows, their number and the worker that reads them change nothing.
- `plant_uniform`: a stated share of the labels moves to another class, each other class equally likely.
- `plant_confusion`: labels move as a confusion matrix says, the form to use for noise that follows how classes look.

Planted noise is easier to find than human noise: report both, never one for the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.axes import Array, Float, Int, Integer
from core.chance import sample_keys, uniform
from core.errors import SettingsError


def plant_uniform(
    labels: Integer[Array, " n"], ids: Sequence[str], n_classes: int, fraction: float, seed: int
) -> Int[Array, " n"]:
    """Move round(fraction · n) labels to another class, each of the other classes equally likely.

    Args:
        labels: class codes, 0 to n_classes - 1.
        ids: the samples' ids, in the order of `labels`; the rows with the lowest random numbers are the ones that move.
        n_classes: at least 2.
        fraction: share of wrong labels, 0 to 1.
        seed: another seed moves other rows.

    Raises:
        SettingsError: the fraction or the number of classes is outside its range.
    """
    if not 0.0 <= fraction <= 1.0:
        raise SettingsError(f"The share of planted errors is {fraction!r}; give a number from 0 to 1.")
    if n_classes < 2:
        raise SettingsError(f"Planting errors needs at least 2 classes, not {n_classes}.")
    keys = sample_keys(ids)
    order = np.argsort(uniform(keys, seed, "noise: which"), kind="stable")
    moved = order[: int(fraction * len(ids) + 0.5)]
    steps = 1 + (uniform(keys, seed, "noise: where") * (n_classes - 1)).astype(np.int64)
    planted = labels.astype(np.int64)
    planted[moved] = (planted[moved] + steps[moved]) % n_classes
    return planted


def plant_confusion(
    labels: Integer[Array, " n"], ids: Sequence[str], confusion: Float[Array, "c c"], seed: int
) -> Int[Array, " n"]:
    """Draw each label from the row of the confusion matrix that its true class names.

    Args:
        labels: true class codes, 0 to c - 1.
        ids: the samples' ids, in the order of `labels`.
        confusion: P(given label | true label), one row per true class, each row summing to 1.
        seed: another seed draws other labels.

    Raises:
        SettingsError: the matrix is no confusion matrix.
    """
    if (confusion < 0).any() or not np.allclose(confusion.sum(axis=1), 1.0, atol=1e-6):
        raise SettingsError("Each row of the confusion matrix must hold probabilities that sum to 1.")
    edges = np.cumsum(confusion, axis=1)
    # Rounding may leave the last edge a hair below 1, and a draw must never fall past it into a class without weight.
    edges /= edges[:, -1:]
    draws = uniform(sample_keys(ids), seed, "noise: confusion")
    drawn: Int[Array, " n"] = (edges[labels] <= draws[:, None]).sum(axis=1).astype(np.int64)
    return drawn
