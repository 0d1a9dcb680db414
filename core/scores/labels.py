"""The three label baselines that the first paper compares with: how far probabilities bear a label out.

`BASELINES` is the table of them: functions of `probabilities "n c"` and `labels "n"`, float64 in 0..1, low: suspicious.
What they are worth hangs on what goes in:

- given labels, and probabilities of networks that never saw those images: as their authors ask for;
- a network's own most likely class in place of the label, and its probabilities of images that it was trained on
  (`most_likely`): as the paper's script ran them. A label that is confidently contradicted is then no longer seen.

Source: Northcutt et al., "Confident Learning", JAIR 2021, and the definitions in cleanlab's `rank` module, without its
adjustment for classes; Chhabra et al., arXiv 2405.03869, for the second use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from core.axes import Array, Float, Int, Integer
from core.scores import difficulty

SMALLEST = 1e-6  # a probability of the label below it counts as this


def self_confidence(probs: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Return the probability of the label."""
    return difficulty.self_confidence(probs.astype(np.float64), labels)


def normalised_margin(probs: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Return `(p_y - max of the others + 1) / 2`."""
    return (difficulty.margin(probs.astype(np.float64), labels) + 1) / 2


def confidence_weighted_entropy(probs: Float[Array, "n c"], labels: Integer[Array, " n"]) -> Float[Array, " n"]:
    """Return `log(1 + x) / x` with `x = H(p) / (log(c) p_y)`: 1 where the network is certain, 0 where x is endless.

    Where H is 0 this is the limit, 1; cleanlab returns 0 there, its most suspicious value.
    """
    wide = probs.astype(np.float64)
    spread = np.maximum(difficulty.entropy(wide), 0) / np.log(probs.shape[1])
    weighted = spread / np.maximum(difficulty.self_confidence(wide, labels), SMALLEST)
    return np.where(weighted > 0, np.log1p(weighted) / np.where(weighted > 0, weighted, 1), 1.0)


def most_likely(probs: Float[Array, "n c"]) -> Int[Array, " n"]:
    """Return the class with the largest probability, which the paper's script passed as the label."""
    return np.asarray(probs.argmax(1), dtype=np.int64)


@dataclass(frozen=True)
class Baseline:
    """One of the three, with what a person calls it."""

    name: str
    title: str
    compute: Callable[[Array, Array], Array]


BASELINES: Mapping[str, Baseline] = {
    each.name: each
    for each in (
        Baseline("self_confidence", "self-confidence", self_confidence),
        Baseline("normalised_margin", "normalised margin", normalised_margin),
        Baseline("confidence_weighted_entropy", "confidence-weighted entropy", confidence_weighted_entropy),
    )
}
