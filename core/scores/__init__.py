"""The table of scores: every score there is, what it means, which end is suspicious, and where it comes from.

A new score is one more entry. `raw_<name>` is what `compute` returns (textbook value, textbook sign); `score_<name>`
is its percentile after the sign of this table, so that high always means suspicious (`percentile`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from core.axes import Array, Bool, Float, Integer
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


@dataclass(frozen=True)
class Score:
    """One entry of the table.

    Attributes:
        sign: +1 where a high raw value is suspicious, -1 where a low one is.
        acted_on: which end the source acts on, and how; sources disagree, so no score is shown without it.
        needs: what has to be there: `last layer`, `history` or `features`.
    """

    name: str
    title: str
    meaning: str
    sign: int
    acted_on: str
    source: str
    needs: str
    compute: Callable[[Evidence], Float[Array, " n"]]


_OGA = "Chhabra et al. 2025 (Outlier Gradient Analysis)"
_DIET = "Paul et al. 2021 (Deep Learning on a Data Diet)"
_LEARNING = "Northcutt et al. 2021 (Confident Learning)"
_MAPS = "Swayamdipta et al. 2020 (Dataset Cartography)"

_LAST_LAYER = (
    Score("oga_forest", "Gradient outlier (isolation forest)",
          "How easily random cuts isolate the sample's last-layer gradient.", +1,
          "removes the top 5 %", f"{_OGA}, algorithm 1; forest: Liu et al. 2008, eq. 2", "last layer",
          lambda e: e.forest),
    Score("oga_l1", "Gradient size (L1)",
          "Sum of absolute gradient entries: 2 (1 - p_y) times the feature L1 norm.", +1,
          "removes the top 5 %", f"{_OGA}, section 4", "last layer", lambda e: np.asarray(e.gradients.l1())),
    Score("oga_l2", "Gradient size (L2)",
          "Length of the last-layer gradient: EL2N times the feature norm.", +1,
          "removes the top 5 %", f"{_OGA}, section 4", "last layer", lambda e: np.asarray(e.gradients.l2())),
    Score("el2n", "Error norm",
          "Distance of the predicted probabilities from the given label, now.", +1,
          "keeps the top, removes the bottom", f"{_DIET}, definition 2.3", "last layer",
          lambda e: np.sqrt((np.asarray(e.gradients.errors, dtype=np.float64) ** 2).sum(1))),
    Score("loss", "Loss", "Cross-entropy of the given label, now.", +1,
          "small-loss methods remove the top", "classical", "last layer",
          lambda e: difficulty.loss(e.logits, e.labels)),
    Score("margin", "Probability margin", "Probability of the given label minus that of the likeliest other.", -1,
          "removes the bottom", _LEARNING, "last layer", lambda e: difficulty.margin(e.probabilities, e.labels)),
    Score("self_confidence", "Self-confidence", "Probability of the given label, now.", -1,
          "removes the bottom", _LEARNING, "last layer",
          lambda e: difficulty.self_confidence(e.probabilities, e.labels)),
    Score("entropy", "Entropy", "How unsure the network is, whatever the label.", +1,
          "active learning labels the top", "Shannon 1948", "last layer",
          lambda e: difficulty.entropy(e.probabilities)),
)  # fmt: skip

_RECORDED = (
    Score("aum", "Area under the margin", "Mean logit margin of the given label while training.", -1,
          "removes the bottom", "Pleiss et al. 2020, eq. 1", "history", lambda e: dynamics.aum(e.history)),
    Score("weighted_aum", "Weighted area under the margin",
          "Mean logit margin while training; later epochs count more, memorising ones less.", -1,
          "checks the bottom", "Pleiss et al. 2020, eq. 1, with the weights of `dynamics.epoch_weights`", "history",
          lambda e: dynamics.weighted_aum(e.history, e.weights)),
    Score("mean_el2n", "Mean error norm", "Error norm averaged over the training's own passes.", +1,
          "keeps the top, removes the bottom", f"{_DIET}, definition 2.3, averaged over epochs", "history",
          lambda e: dynamics.mean_el2n(e.history)),
    Score("mean_loss", "Mean loss", "Cross-entropy averaged over the training's own passes.", +1,
          "small-loss methods remove the top", "classical", "history", lambda e: dynamics.mean_loss(e.history)),
    Score("confidence", "Confidence", "Mean probability of the given label while training.", -1,
          "low with low variability: checks the label", f"{_MAPS}, section 2", "history",
          lambda e: dynamics.confidence(e.history)),
    Score("variability", "Variability",
          "Spread of the given label's probability over epochs: ambiguous, not wrong; its sign for wrong labels "
          "changes with the amount of memorisation.", +1,
          "trains on the top", f"{_MAPS}, section 2", "history", lambda e: dynamics.variability(e.history)),
    Score("correctness", "Correctness", "Number of epochs in which the given label was predicted.", -1,
          "low: checks the label", f"{_MAPS}, section 2", "history", lambda e: dynamics.correctness(e.history)),
    Score("forgetting", "Forgetting events", "How often the label was learned and lost; never learned counts most.",
          +1, "removes the bottom", "Toneva et al. 2019, definition 2.1", "history",
          lambda e: dynamics.forgetting(e.history)),
    Score("first_learned", "First learned", "First epoch in which the given label was predicted.", +1,
          "Just Train Twice up-weights what is still wrong early", "Liu et al. 2021 (error set); Toneva et al. 2019",
          "history", lambda e: dynamics.first_learned(e.history)),
    Score("self_influence", "Self-influence", "How much training on the sample lowers its own loss (last layer).", +1,
          "checks the top", "Pruthi et al. 2020 (TracIn), eq. 4", "history",
          lambda e: dynamics.self_influence(e.history)),
)  # fmt: skip


def _in_window(score: Score) -> Score:
    """Return the same score over the epochs before memorisation."""
    whole = getattr(dynamics, score.name)
    return Score(
        f"{score.name}_early",
        f"{score.title}, early",
        f"{score.meaning} Only epochs before memorisation sets in.",
        score.sign,
        score.acted_on,
        score.source,
        score.needs,
        lambda e: whole(e.early),
    )


_FEATURES = (
    Score("loo_ridge_margin", "Left-out margin",
          "Margin of the given label in a ridge head that never saw this label.", -1,
          "checks the bottom", "Allen 1974 (PRESS) on the network's features", "features",
          lambda e: difficulty.margin(e.head.outputs, e.labels)),
    Score("knn_disagreement", "Neighbour disagreement",
          "Share of the nearest training images that carry another label.", +1,
          "checks the top", "Bahri et al. 2020 (Deep k-NN); Zhu et al. 2022 (SimiFeat)", "features",
          lambda e: out_of_sample.disagreement(e.neighbours, e.labels)),
)  # fmt: skip


def table_of(scores: Iterable[Score]) -> dict[str, Score]:
    """Index scores by name; a repeated name is an error that names both."""
    table: dict[str, Score] = {}
    for score in scores:
        if score.name in table:
            raise ValueError(f"Two scores are named {score.name!r}: {table[score.name].title!r} and {score.title!r}.")
        table[score.name] = score
    return table


SCORES = table_of(
    (*_LAST_LAYER, *_RECORDED, *map(_in_window, (s for s in _RECORDED if s.name != "weighted_aum")), *_FEATURES)
)


def percentile(suspicious: Float[Array, " n"], train: Bool[Array, " n"]) -> Float[Array, " n"]:
    """Return 0-100 among rows of the same kind (trained on, held out); ties share the mean percentile, one row gets 50.

    Trained and held-out rows are ranked apart, because a network is never as surprised by what it was trained on.
    """
    shares = np.empty(len(suspicious))
    for kind in (train, ~train):
        ranks = rankdata(suspicious[kind])
        shares[kind] = 100 * (ranks - 1) / (len(ranks) - 1) if len(ranks) > 1 else 50.0
    return shares
