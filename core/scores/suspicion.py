"""The default ranking, `suspicion`: which evidence it rests on, and when part of it must be left out.

Mean percentile of two witnesses that err differently: `weighted_aum` (what the network said while it learned, in the
training's own passes) and `loo_ridge_margin` (what the features say about a label that was left out). Once a network
has memorised its labels its features carry the wrong labels too, and the head drags the ranking down: it is left out.

Measured on human label errors (`tests/bench/label_errors.py`; the rows of two witnesses that are not this choice come
from one-off comparisons on the same trainings): average precision on 10,000 CIFAR-10N images, mean of
three training seeds, labels `worse` (40 % wrong) / `aggre` (9 % wrong):

| ranking | worse | aggre |
|---|---|---|
| weighted_aum + loo_ridge_margin (this choice) | .873 | .617 |
| the same with knn_disagreement | .872 | .620 |
| mean_el2n + loo_ridge_margin, one seed | .863 | .596 |
| loo_ridge_margin alone | .870 | .562 |
| weighted_aum alone | .853 | .608 |
| mean_el2n alone | .835 | .566 |
| cleanlab's best ranking of a 5-fold logistic head on the same features | .861 | .594 |

Where labels were memorised (30 epochs, no augmentation; seed 0): weighted_aum .789 / .456, mean_el2n .765 / .443, the
head .465 on `worse`, and the two together less than weighted_aum alone. Neighbours add too little for a third witness.

These figures flatter the choice: network, batch, rate, epoch weights and witnesses were picked among some dozens of
variants by their average precision on these very rows and true labels (seed 0). Seeds 1 and 2 are new trainings, not
new images. How much of the lead holds on other data has not been measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.axes import Array, Bool, Float

MEMORISED_GAP = 0.2
FITTED = 0.98


class Rule(NamedTuple):
    """Which scores `suspicion` averages, and why."""

    scores: tuple[str, ...]
    memorised: bool
    why: str


def choose_rule(fitted: float, held_out_accuracy: float | None, held_out: int = 10**9) -> Rule:
    """Decide whether the head may speak.

    Args:
        fitted: share of training labels that the final network predicts, in evaluation mode.
        held_out_accuracy: share of held-out given labels that it predicts; None where no row is held out.
        held_out: how many rows are held out; the gap must exceed twice the standard error that they leave.
    """
    both, alone = ("weighted_aum", "loo_ridge_margin"), ("weighted_aum",)
    if held_out_accuracy is None:
        if fitted < FITTED:
            return Rule(both, False, f"the network fits {fitted:.0%} of its labels, so it has not memorised them")
        return Rule(alone, True, f"the network fits {fitted:.0%} of its labels and no row is held out to show that it "
                                 "understands them, so the head on its features is left out")  # fmt: skip
    figures = f"the network fits {fitted:.0%} of its labels and {held_out_accuracy:.0%} of the held-out ones"
    doubt = 2 * np.sqrt(max(held_out_accuracy * (1 - held_out_accuracy), 1e-4) / held_out)
    if fitted - held_out_accuracy > max(MEMORISED_GAP, doubt):
        return Rule(alone, True, f"{figures}: it has memorised labels, so the head on its features is left out")
    return Rule(both, False, f"{figures}: it has not memorised labels, so the head on its features counts")


def combine(percentiles: dict[str, Float[Array, " n"]], rule: Rule) -> Float[Array, " n"]:
    """Return the mean percentile of the rule's scores (not yet a percentile itself)."""
    return np.asarray(np.mean([percentiles[name] for name in rule.scores], axis=0))


def accuracy(right: Bool[Array, " n"], rows: Bool[Array, " n"]) -> float | None:
    """Return the share of `rows` that are right, None where there are none."""
    return float(right[rows].mean()) if rows.any() else None
