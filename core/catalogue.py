"""The catalogue of scores: what each one is called, what it means, which end is suspicious, and where it comes from.

`SCORE_INFO` is the whole list, without the functions: a screen reads it and loads no torch and no scipy. `core.scores`
adds to each entry the function that computes it. A new score is one entry here and one function there; the entries
that end in `_early` are made from those of the recorded training.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar


@dataclass(frozen=True)
class ScoreInfo:
    """What is said of one score.

    Attributes:
        sign: +1 where a high raw value is suspicious, -1 where a low one is.
        acted_on: which end the source acts on, and how; sources disagree, so no score is shown without it.
        needs: what has to be there, a key of `NEEDS`; where it is not, there is no such column.
    """

    name: str
    title: str
    meaning: str
    sign: int
    acted_on: str
    source: str
    needs: str

    @property
    def suspicious_end(self) -> str:
        """Which end of the raw value is suspicious: "high" or "low"."""
        return "high" if self.sign > 0 else "low"


Entry = TypeVar("Entry", bound=ScoreInfo)

EARLY = "_early"  # what the name of a score over the epochs before memorisation ends in
FURTHER = {
    "model": "On your model's features, where the backbone's come first.",
    "reference": "On the reference network's features, where another network's come first.",
}  # by origin of the features (`core.scores.witness`)
LEFT_OUT = "loo_ridge_margin"
WEIGHTED = "weighted_aum"  # its weights say already what the early window says, so it has no early form

NEEDS = {
    "last layer": "the factors of the last layer's gradients",
    "logits": "the logits of a finished network",
    "history": "the record of a training",
    "steps": "the record of a training with learning rates and the norms of the last layer's inputs",
    "features": "features of any network",
    "further features": "features of a second network",
    "all layers": "gradients over all parameters, which the setting `grand` asks for",
}

_OGA = "Chhabra et al. 2025 (Outlier Gradient Analysis)"
_DIET = "Paul et al. 2021 (Deep Learning on a Data Diet)"
_LEARNING = "Northcutt et al. 2021 (Confident Learning)"
_MAPS = "Swayamdipta et al. 2020 (Dataset Cartography)"

_LAST_LAYER = (
    ScoreInfo("oga_forest", "Gradient outlier (isolation forest)",
              "How easily random cuts isolate the sample's last-layer gradient.", +1,
              "removes the top 5 %", f"{_OGA}, algorithm 1; forest: Liu et al. 2008, eq. 2", "last layer"),
    ScoreInfo("oga_l1", "Gradient size (L1)",
              "Sum of absolute gradient entries: 2 (1 - p_y) times the feature L1 norm.", +1,
              "removes the top 5 %", f"{_OGA}, section 4", "last layer"),
    ScoreInfo("oga_l2", "Gradient size (L2)",
              "Length of the last-layer gradient: EL2N times the feature norm.", +1,
              "removes the top 5 %", f"{_OGA}, section 4", "last layer"),
    ScoreInfo("el2n", "Error norm",
              "Distance of the predicted probabilities from the given label, now.", +1,
              "keeps the top, removes the bottom", f"{_DIET}, definition 2.3", "logits"),
    ScoreInfo("loss", "Loss", "Cross-entropy of the given label, now.", +1,
              "small-loss methods remove the top", "classical", "logits"),
    ScoreInfo("margin", "Probability margin", "Probability of the given label minus that of the likeliest other.", -1,
              "removes the bottom", _LEARNING, "logits"),
    ScoreInfo("self_confidence", "Self-confidence", "Probability of the given label, now.", -1,
              "removes the bottom", _LEARNING, "logits"),
    ScoreInfo("entropy", "Entropy", "How unsure the network is, whatever the label.", +1,
              "active learning labels the top", "Shannon 1948", "logits"),
)  # fmt: skip

_RECORDED = (
    ScoreInfo("aum", "Area under the margin", "Mean logit margin of the given label while training.", -1,
              "removes the bottom", "Pleiss et al. 2020, eq. 1", "history"),
    ScoreInfo(WEIGHTED, "Weighted area under the margin",
              "Mean logit margin while training; later epochs count more, memorising ones less.", -1,
              "checks the bottom", "Pleiss et al. 2020, eq. 1, with the weights of `dynamics.epoch_weights`",
              "history"),
    ScoreInfo("mean_el2n", "Mean error norm", "Error norm averaged over the training's own passes.", +1,
              "keeps the top, removes the bottom", f"{_DIET}, definition 2.3, averaged over epochs", "history"),
    ScoreInfo("mean_loss", "Mean loss", "Cross-entropy averaged over the training's own passes.", +1,
              "small-loss methods remove the top", "classical", "history"),
    ScoreInfo("confidence", "Confidence", "Mean probability of the given label while training.", -1,
              "low with low variability: checks the label", f"{_MAPS}, section 2", "history"),
    ScoreInfo("variability", "Variability",
              "Spread of the given label's probability over epochs: ambiguous, not wrong; its sign for wrong labels "
              "changes with the amount of memorisation.", +1,
              "trains on the top", f"{_MAPS}, section 2", "history"),
    ScoreInfo("correctness", "Correctness", "Number of epochs in which the given label was predicted.", -1,
              "low: checks the label", f"{_MAPS}, section 2", "history"),
    ScoreInfo("forgetting", "Forgetting events",
              "How often the label was learned and lost; never learned counts most.", +1,
              "removes the bottom", "Toneva et al. 2019, definition 2.1", "history"),
    ScoreInfo("first_learned", "First learned", "First epoch in which the given label was predicted.", +1,
              "Just Train Twice up-weights what is still wrong early",
              "Liu et al. 2021 (error set); Toneva et al. 2019", "history"),
    ScoreInfo("self_influence", "Self-influence",
              "How much training on the sample lowers its own loss (last layer).", +1,
              "checks the top", "Pruthi et al. 2020 (TracIn), eq. 4", "steps"),
)  # fmt: skip

_FEATURES = (
    ScoreInfo(LEFT_OUT, "Left-out margin",
              "Margin of the given label in a ridge head that never saw this label.", -1,
              "checks the bottom", "Allen 1974 (PRESS) on the network's features", "features"),
    ScoreInfo("knn_disagreement", "Neighbour disagreement",
              "Share of the nearest training images that carry another label.", +1,
              "checks the top", "Bahri et al. 2020 (Deep k-NN); Zhu et al. 2022 (SimiFeat)", "features"),
)  # fmt: skip

_ALL_LAYERS = (
    ScoreInfo("grand", "Gradient size (all layers)",
              "Length of the gradient over all parameters, at the epochs asked for.", +1,
              "keeps the top, removes the bottom", f"{_DIET}, definition 2.1", "all layers"),
)  # fmt: skip


def table_of(scores: Iterable[Entry]) -> dict[str, Entry]:
    """Index scores by name; a repeated name is an error that names both."""
    table: dict[str, Entry] = {}
    for score in scores:
        if score.name in table:
            raise ValueError(f"Two scores are named {score.name!r}: {table[score.name].title!r} and {score.title!r}.")
        table[score.name] = score
    return table


def _of_origin(score: ScoreInfo, origin: str) -> ScoreInfo:
    """The same score on the features of a network that is not the first."""
    return replace(
        score,
        name=f"{score.name}_{origin}",
        title=f"{score.title}, {origin}",
        meaning=f"{score.meaning} {FURTHER[origin]}",
        needs="further features",
    )


def _in_window(score: ScoreInfo) -> ScoreInfo:
    """The same score over the epochs before memorisation."""
    return replace(
        score,
        name=f"{score.name}{EARLY}",
        title=f"{score.title}, early",
        meaning=f"{score.meaning} Only epochs before memorisation sets in.",
    )


SCORE_INFO = table_of(
    (
        *_LAST_LAYER,
        *_RECORDED,
        *map(_in_window, (s for s in _RECORDED if s.name != WEIGHTED)),
        *_FEATURES,
        *(_of_origin(_FEATURES[0], origin) for origin in FURTHER),
        *_ALL_LAYERS,
    )
)
