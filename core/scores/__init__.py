"""The table of scores: each entry of `core.catalogue` with the function that computes it.

A new score is one more entry there and one function here. `raw_<name>` is what `compute` returns (textbook value,
textbook sign); `score_<name>` is its percentile after the entry's sign, so that high always means suspicious
(`percentile`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from core.axes import Array, Bool, Float, Integer
from core.catalogue import SCORE_INFO, ScoreInfo
from core.catalogue import table_of as table_of
from core.gradients.last_layer import LastLayerGradients
from core.models.recorder import History
from core.scores import difficulty, dynamics, out_of_sample
from core.scores.out_of_sample import RidgeHead


@dataclass(frozen=True)
class Evidence:
    """What scores are computed from; rows are samples throughout."""

    labels: Integer[Array, " n"]
    logits: Float[Array, "n c"]
    gradients: LastLayerGradients
    forest: Float[Array, " n"]
    head: RidgeHead
    neighbours: Integer[Array, "n k"]
    history: History
    window: dynamics.Window
    weights: Float[Array, " t"]

    @property
    def probabilities(self) -> Float[Array, "n c"]:
        """Softmax of the last checkpoint's logits."""
        return difficulty.probabilities(self.logits)

    @property
    def early(self) -> History:
        """The record up to where memorisation sets in."""
        return self.history.first(self.window.epochs)


_Compute = Callable[[Evidence], Float[Array, " n"]]


@dataclass(frozen=True)
class Score(ScoreInfo):
    """One entry of the catalogue with the function that computes its raw value."""

    compute: _Compute


COMPUTE: dict[str, _Compute] = {
    # the last layer
    "oga_forest": lambda e: e.forest,
    "oga_l1": lambda e: np.asarray(e.gradients.l1()),
    "oga_l2": lambda e: np.asarray(e.gradients.l2()),
    "el2n": lambda e: np.sqrt((np.asarray(e.gradients.errors, dtype=np.float64) ** 2).sum(1)),
    "loss": lambda e: difficulty.loss(e.logits, e.labels),
    "margin": lambda e: difficulty.margin(e.probabilities, e.labels),
    "self_confidence": lambda e: difficulty.self_confidence(e.probabilities, e.labels),
    "entropy": lambda e: difficulty.entropy(e.probabilities),
    # the recorded training
    "aum": lambda e: dynamics.aum(e.history),
    "weighted_aum": lambda e: dynamics.weighted_aum(e.history, e.weights),
    "mean_el2n": lambda e: dynamics.mean_el2n(e.history),
    "mean_loss": lambda e: dynamics.mean_loss(e.history),
    "confidence": lambda e: dynamics.confidence(e.history),
    "variability": lambda e: dynamics.variability(e.history),
    "correctness": lambda e: dynamics.correctness(e.history),
    "forgetting": lambda e: dynamics.forgetting(e.history),
    "first_learned": lambda e: dynamics.first_learned(e.history),
    "self_influence": lambda e: dynamics.self_influence(e.history),
    # its epochs before memorisation
    "aum_early": lambda e: dynamics.aum(e.early),
    "mean_el2n_early": lambda e: dynamics.mean_el2n(e.early),
    "mean_loss_early": lambda e: dynamics.mean_loss(e.early),
    "confidence_early": lambda e: dynamics.confidence(e.early),
    "variability_early": lambda e: dynamics.variability(e.early),
    "correctness_early": lambda e: dynamics.correctness(e.early),
    "forgetting_early": lambda e: dynamics.forgetting(e.early),
    "first_learned_early": lambda e: dynamics.first_learned(e.early),
    "self_influence_early": lambda e: dynamics.self_influence(e.early),
    # the features
    "loo_ridge_margin": lambda e: difficulty.margin(e.head.outputs, e.labels),
    "knn_disagreement": lambda e: out_of_sample.disagreement(e.neighbours, e.labels),
}

SCORES = table_of(Score(**vars(info), compute=COMPUTE[name]) for name, info in SCORE_INFO.items())


def percentile(suspicious: Float[Array, " n"], train: Bool[Array, " n"]) -> Float[Array, " n"]:
    """Return 0-100 among rows of the same kind (trained on, held out); ties share the mean percentile, one row gets 50.

    Trained and held-out rows are ranked apart, because a network is never as surprised by what it was trained on.
    """
    shares = np.empty(len(suspicious))
    for kind in (train, ~train):
        ranks = rankdata(suspicious[kind])
        shares[kind] = 100 * (ranks - 1) / (len(ranks) - 1) if len(ranks) > 1 else 50.0
    return shares
