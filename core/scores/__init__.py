"""The table of scores: each entry of `core.catalogue` with the function that computes it.

A new score is one more entry there and one function here. `raw_<name>` is what `compute` returns (textbook value,
textbook sign); `score_<name>` is its percentile after the entry's sign, so that high always means suspicious
(`percentile`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from scipy.stats import rankdata

from core.axes import Array, Bool, Float, Integer
from core.catalogue import SCORE_INFO, ScoreInfo
from core.catalogue import table_of as table_of
from core.gradients.last_layer import LastLayerGradients
from core.gradients.rows import by_blocks
from core.models.recorder import History
from core.scores import difficulty, dynamics, out_of_sample
from core.scores.out_of_sample import RidgeHead


@dataclass(frozen=True)
class Evidence:
    """What scores are computed from, None or empty where it is not known; rows are samples throughout.

    Attributes:
        heads: the left-out head on the features of each origin, the preferred first.
        neighbours: positions of the nearest training images.
        window: the epochs of the history before memorisation.
        weights: how much each epoch of the history counts.
        extra: raw values that somebody else computed, by score.
    """

    labels: Integer[Array, " n"]
    logits: Float[Any, "n c"] | None = None
    gradients: LastLayerGradients | None = None
    forest: Float[Array, " n"] | None = None
    heads: Mapping[str, RidgeHead] = field(default_factory=dict)
    neighbours: Integer[Array, "n k"] | None = None
    history: History | None = None
    window: dynamics.Window | None = None
    weights: Float[Array, " t"] | None = None
    extra: Mapping[str, Float[Array, " n"]] = field(default_factory=dict)

    def of_probabilities(self, function: Callable[[Array, Array], Array]) -> Float[Array, " n"]:
        """`function(softmax of the last checkpoint's logits, labels)`, a block of rows at a time."""
        return by_blocks(lambda z, y: function(difficulty.probabilities(z), y), there(self.logits), self.labels)

    @property
    def error_norms(self) -> Float[Array, " n"]:
        """EL2N of the last checkpoint; of logits alone where no gradient is known."""
        if self.gradients is not None:
            return np.asarray(self.gradients.el2n())
        nothing = np.empty((len(self.labels), 0))
        return np.asarray(LastLayerGradients.from_logits(there(self.logits), self.labels, nothing).el2n())

    @property
    def record(self) -> History:
        """The history, which has to be there."""
        return there(self.history)

    @property
    def early(self) -> History:
        """The record up to where memorisation sets in."""
        return self.record.first(there(self.window).epochs)

    def left_out_margin(self, origin: str | None = None) -> Float[Array, " n"]:
        """Margin of the given label in the head on the features of one origin, by default the preferred one."""
        return (self.heads[origin] if origin else next(iter(self.heads.values()))).margin


T = TypeVar("T")


def there(value: T | None) -> T:
    """Return what a score was found to have (`available`)."""
    if value is None:
        raise LookupError("A score was computed without what it needs.")
    return value


_Compute = Callable[[Evidence], Float[Array, " n"]]


@dataclass(frozen=True)
class Score(ScoreInfo):
    """One entry of the catalogue with the function that computes its raw value."""

    compute: _Compute


COMPUTE: dict[str, _Compute] = {
    # the last layer
    "oga_forest": lambda e: there(e.forest),
    "oga_l1": lambda e: np.asarray(there(e.gradients).l1()),
    "oga_l2": lambda e: np.asarray(there(e.gradients).l2()),
    "el2n": lambda e: e.error_norms,
    "loss": lambda e: by_blocks(difficulty.loss, there(e.logits), e.labels),
    "margin": lambda e: e.of_probabilities(difficulty.margin),
    "self_confidence": lambda e: e.of_probabilities(difficulty.self_confidence),
    "entropy": lambda e: e.of_probabilities(lambda p, _: difficulty.entropy(p)),
    # the recorded training
    "aum": lambda e: dynamics.aum(e.record),
    "weighted_aum": lambda e: dynamics.weighted_aum(e.record, there(e.weights)),
    "mean_el2n": lambda e: dynamics.mean_el2n(e.record),
    "mean_loss": lambda e: dynamics.mean_loss(e.record),
    "confidence": lambda e: dynamics.confidence(e.record),
    "variability": lambda e: dynamics.variability(e.record),
    "correctness": lambda e: dynamics.correctness(e.record),
    "forgetting": lambda e: dynamics.forgetting(e.record),
    "first_learned": lambda e: dynamics.first_learned(e.record),
    "self_influence": lambda e: dynamics.self_influence(e.record),
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
    "loo_ridge_margin": lambda e: e.left_out_margin(),
    "knn_disagreement": lambda e: out_of_sample.disagreement(there(e.neighbours), e.labels),
    "loo_ridge_margin_model": lambda e: e.left_out_margin("model"),
    "loo_ridge_margin_reference": lambda e: e.left_out_margin("reference"),
    # all layers
    "grand": lambda e: e.extra["grand"],
}

SCORES = table_of(Score(**vars(info), compute=COMPUTE[name]) for name, info in SCORE_INFO.items())


_PRESENT: dict[str, Callable[[Evidence, str], bool]] = {
    "last layer": lambda e, _: e.gradients is not None,
    "logits": lambda e, _: e.logits is not None,
    "history": lambda e, _: e.history is not None,
    "steps": lambda e, _: e.history is not None and dynamics.has_steps(e.history),
    "features": lambda e, name: bool(e.heads) if name != "knn_disagreement" else e.neighbours is not None,
    "further features": lambda e, name: name.rpartition("_")[2] in list(e.heads)[1:],
    "all layers": lambda e, name: name in e.extra,
}


def available(evidence: Evidence) -> dict[str, Score]:
    """Return the scores that the evidence allows; the others have no column."""
    return {name: score for name, score in SCORES.items() if _PRESENT[score.needs](evidence, name)}


def percentile(suspicious: Float[Array, " n"], train: Bool[Array, " n"]) -> Float[Array, " n"]:
    """Return 0-100 among rows of the same kind (trained on, held out); ties share the mean percentile, one row gets 50.

    Trained and held-out rows are ranked apart, because a network is never as surprised by what it was trained on. What
    is not known (NaN, a sample that a training never logged) gets 50 and moves nobody; its raw value stays NaN.
    """
    shares = np.full(len(suspicious), 50.0)
    for kind in (train, ~train):
        known = kind & ~np.isnan(suspicious)
        ranks = rankdata(suspicious[known])
        shares[known] = 100 * (ranks - 1) / (len(ranks) - 1) if len(ranks) > 1 else 50.0
    return shares
