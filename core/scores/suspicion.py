"""The default ranking, `suspicion`: which evidence it rests on, how much each part of it counts, and why.

Parts are witnesses that err differently: the network while it learned (`weighted_aum`), and one left-out head for each
network whose features are known (`loo_ridge_margin`). Each says how probable every label of an image is. They are
pooled as a weighted sum of log-probabilities, with the weights under which the pool best predicts the given labels of
the held-out images, from which nobody has learned (`opinion_weights`). The ranking is the same weighted sum of the
parts' margins. So a backbone that knows the domain takes over, and one that knows nothing gets no weight. With few
held-out images, or none that a recorded training logged, the margins are added with equal weights: the surer part,
by its calibrated probabilities, moves the ranking more.

Features of a network that has memorised its labels carry the wrong labels too, which held-out images cannot show: its
head is not heard (`_doubt`). Neighbours are no part: they say what the head on the same features says, less well.

Measured on human label errors (`tests/bench/backbone.py`, one call): average precision on 10,000 CIFAR-10N images,
labels `worse` (40 % wrong) / `aggre` (9 % wrong), one training seed. The backbones are stand-ins trained on the true
labels of other images; "by hand" is the mean percentile of `weighted_aum` and every head, "best other" the best of all
parts, neighbours and mean percentiles of two or all of them.

| backbone | its head | by hand | best other | suspicion |
|---|---|---|---|---|
| knows all ten classes | .955 / .704 | .917 / .673 | .955 / .704 | .949 / .712 |
| never saw four of them | .899 / .535 | .902 / .636 | .902 / .636 | .907 / .644 |
| random numbers | .369 / .070 | .764 / .263 | .865 / .607 | .868 / .619 |
| coarse pixels | .580 / .144 | .830 / .449 | .865 / .607 | .867 / .614 |
| none: weighted_aum .851 / .607 and the head | .865 / .566 | .870 / .618 | .870 / .618 | .871 / .621 |

cleanlab's best ranking of a 5-fold logistic head on the reference's features stands at .861 / .594, mean error norm at
.835 / .566. With 100 held-out images instead of 1,000 `suspicion` loses up to .02. Weighted percentiles instead of
margins lose up to .14 where the backbone is bad. Planted errors (digits and
pictograms, 100 held-out images; real trainings, once): equal to the mean percentile or better, and a random backbone
changes it by .004 at most; `tests/planted/test_backbone.py` has a small stand-in.

Where the reference memorised (30 epochs, no augmentation, `worse`): weighted_aum and so `suspicion` .785, its head
.755; with the second backbone .900. A person's finished network that memorised: its head .467, `suspicion` with the
reference network beside it .869.

These figures flatter the choice: network, batch, rate, epoch weights and parts were picked among some dozens of
variants by their average precision on these very rows and true labels; the form of the pool among a few, its prior on
digits and pictograms as well. Other seeds are new trainings, not new images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize

from core.axes import Array, Bool, Float, Integer
from core.catalogue import LEFT_OUT, WEIGHTED
from core.errors import ModelError
from core.gradients.rows import LazyRows
from core.scores import Evidence, dynamics, there
from core.scores.out_of_sample import RidgeHead, log_softmax, softmax
from core.scores.witness import Witness

MEMORISED_GAP = 0.2  # fitted share minus held-out accuracy from which features carry the labels
FITTED = 0.98  # a network that fits so many labels is not believed where no row shows that it understands them
PRIOR = 0.15  # standard deviation of a weight around an equal share, before any held-out image was seen
JUDGES = 10_000  # held-out images asked at most, evenly spread; more would not move the weights
SAYS_NOTHING = 0.01  # a part with a smaller share of the ranking's spread is not named


class Part(NamedTuple):
    """One witness.

    Attributes:
        score: the score that it is shown as.
        called: what a sentence calls it.
        margins: of the given label, in differences of log-probability; NaN where it says nothing of a sample.
        log_probs: of some rows, `m c`.
    """

    score: str
    called: str
    margins: Float[Array, " n"]
    log_probs: Callable[[Integer[Array, " m"]], Float[Array, "m c"]]


@dataclass(frozen=True)
class Rule:
    """What `suspicion` rests on.

    Attributes:
        weights: by score, what its margins are multiplied by.
        shares: by score, how much of the ranking's spread is its own; they sum to 1.
        left_out: by score, why a part is not heard.
        memorised: no head is heard, so the recorded training suggests the labels.
        judges: held-out images that the weights rest on.
        why: all this in words.
        margins: the weighted sum; low is suspicious.
        probabilities: `n c`, of whoever suggests labels; an array, or `LazyRows` where a head's are.
    """

    weights: Mapping[str, float]
    shares: Mapping[str, float]
    left_out: Mapping[str, str]
    memorised: bool
    judges: int
    why: str
    margins: Float[Array, " n"]
    probabilities: Float[Any, "n c"]

    @property
    def scores(self) -> tuple[str, ...]:
        """The scores that count, the heaviest first."""
        return tuple(name for name, share in self.shares.items() if share >= SAYS_NOTHING)

    def describe(self) -> dict[str, object]:
        """Return what is kept of the rule in the record of a run."""
        rounded = {name: round(weight, 4) for name, weight in self.weights.items()}
        shares = {name: round(share, 4) for name, share in self.shares.items()}
        return {
            "scores": list(self.scores), "weights": rounded, "shares": shares, "left_out": dict(self.left_out),
            "memorised": self.memorised, "held_out_images": self.judges, "why": self.why,
        }  # fmt: skip


def choose_rule(witness: Witness, evidence: Evidence) -> Rule:
    """Decide which parts are heard, and weigh them by the held-out images.

    Raises:
        ModelError: there is neither a recorded training nor any features.
    """
    doubts = {origin: doubt for origin in evidence.heads if (doubt := _doubt(origin, witness, evidence))}
    alone = witness.history is None and len(doubts) == len(evidence.heads)
    heard = {origin: head for origin, head in evidence.heads.items() if alone or origin not in doubts}
    parts = _parts(witness, evidence, heard)
    if not parts:
        raise ModelError(
            "Nothing was seen from which labels could be judged: no recorded training and no features. "
            "Train the reference network beside the model, or give features."
        )
    judges = _judges(parts, witness, known="model" in heard)
    weights = _weigh(parts, witness.labels, judges)
    shares = _shares(parts, weights, witness.train)
    left_out = {_name(origin, evidence): doubt for origin, doubt in doubts.items()}
    return Rule(
        {part.score: float(weight) for part, weight in zip(parts, weights, strict=True)},
        dict(sorted(shares.items(), key=lambda entry: -entry[1])),
        {} if alone else left_out,
        memorised=not heard,
        judges=len(judges),
        why=_why(parts, shares, doubts, _weighed(len(judges), int(witness.judging.sum())), alone=alone),
        margins=pooled([part.margins for part in parts], weights),
        probabilities=_suggestion(witness, evidence, heard, judges),
    )


def opinion_weights(
    log_probs: Sequence[Float[Array, "m c"]], labels: Integer[Array, " m"], prior: float = PRIOR
) -> Float[Array, " _"]:
    """Return the weights, none below 0, under which pooled opinions best predict `labels`.

    The pool is the logarithmic one, `softmax(sum_j w_j log p_j)` (Genest and Zidek 1986); the weights maximise its
    likelihood times a normal prior of deviation `prior` around equal shares, which decides where there are few rows.
    This is a convex problem in as many numbers as there are opinions.
    """
    opinions, rows = np.stack(log_probs), np.arange(len(labels))
    equal = np.full(len(opinions), 1 / len(opinions))

    def cost(weights: Array) -> tuple[float, Array]:
        pool = np.tensordot(weights, opinions, 1)
        probabilities = softmax(pool) if len(rows) else pool
        losses = -np.log(np.maximum(probabilities[rows, labels], np.finfo(float).tiny))
        slope = [float((probabilities * each).sum() - each[rows, labels].sum()) for each in opinions]
        away = (weights - equal) / prior**2
        return float(losses.sum() + (away * (weights - equal)).sum() / 2), np.array(slope) + away

    found = minimize(cost, equal, jac=True, bounds=[(0, None)] * len(opinions), method="L-BFGS-B")
    return np.asarray(found.x)


def pooled(margins: Sequence[Float[Array, " n"]], weights: Float[Array, " _"]) -> Float[Array, " n"]:
    """Return the weighted sum of margins; where a part says nothing of a sample, the others speak for it."""
    values = np.stack(margins)
    known = np.isfinite(values)
    total, heard = (weights[:, None] * np.where(known, values, 0)).sum(0), (weights[:, None] * known).sum(0)
    return np.where(heard > 0, total * weights.sum() / np.maximum(heard, 1e-300), np.nan)


def accuracy(right: Bool[Array, " n"], rows: Bool[Array, " n"]) -> float | None:
    """Return the share of `rows` that are right, None where there are none."""
    return float(right[rows].mean()) if rows.any() else None


def memorised(
    what: str, fitted: float, outside: float | None, held_out: int, *, seen: bool = False, logged: bool = True
) -> str | None:
    """Say why a network that was trained on these labels is not believed, None where it is.

    Args:
        what: what a sentence calls it.
        fitted: share of the training labels that it predicts, in evaluation mode.
        outside: share of held-out given labels that it predicts; None where of no such row it is known.
        held_out: how many rows are held out; the gap must exceed twice the standard error that they leave.
        seen: whether it may have been trained on the held-out rows too.
        logged: False where rows are held out, and it is `outside` that was not recorded.
    """
    if outside is None:
        lack = "no row is held out" if logged else "no held-out row was logged"
        told = f"{what} fits {fitted:.0%} of its labels and {lack} to show that it understands them"
        return told if fitted >= FITTED else None
    figures = f"{what} fits {fitted:.0%} of its labels and {outside:.0%} of the held-out ones"
    if _apart(fitted, outside, held_out):
        return f"{figures}: it has memorised labels"
    return f"{figures}, and may have been trained on all of them" if seen and min(fitted, outside) >= FITTED else None


def _apart(fitted: float, outside: float, held_out: int) -> bool:
    doubt = 2 * np.sqrt(max(outside * (1 - outside), 1e-4) / max(held_out, 1))
    return bool(fitted - outside > max(MEMORISED_GAP, doubt))


def _doubt(origin: str, witness: Witness, evidence: Evidence) -> str | None:
    """Say why the head on the features of one origin is not heard; measured in the head and in the network itself."""
    train, called, head = witness.train, witness.called(origin), evidence.heads[origin]
    rows = witness.held_out & witness.judging if origin == "model" else witness.judging
    outside, held_out = accuracy(head.suggested == witness.labels, rows), int(rows.sum())
    if outside is not None and _apart(head.accuracy, outside, held_out):
        return (
            f"the features of {called} tell {head.accuracy:.0%} of the labels that it was trained on and {outside:.0%} "
            "of the held-out ones: it has memorised labels"
        )
    if witness.logits is not None and witness.in_sample_logits and origin == witness.owner:
        right = witness.logits.argmax(1) == witness.labels
        finished = origin == "model" and (witness.history is None or "reference" in witness.features)
        fitted, outside = accuracy(right, train) or 0.0, accuracy(right, rows)
        return memorised(called, fitted, outside, held_out, seen=finished, logged=bool(train.all()))
    history = witness.beside if witness.recorded else witness.history
    if origin == "reference" and history is not None:
        fitted = float(history.correct[-1, train].mean())
        found = dynamics.agreement(history, train, witness.judging)
        return memorised(called, fitted, None if found is None else float(found.outside[-1]), held_out)
    return None


def _parts(witness: Witness, evidence: Evidence, heard: Mapping[str, RidgeHead]) -> list[Part]:
    """Return the recorded training and the heads that are heard."""
    parts = [_head_part(_name(origin, evidence), witness.called(origin), head) for origin, head in heard.items()]
    if witness.history is None:
        return parts
    history, weights, labels = witness.history, there(evidence.weights), witness.labels

    def told(rows: Integer[Array, " m"]) -> Float[Array, "m c"]:
        some = np.isin(np.arange(len(labels)), rows)  # rows are in order
        return dynamics.recorded_log_probs(history.columns(some), weights, labels[some], len(witness.classes))

    return [Part(WEIGHTED, "the network while it learned", dynamics.weighted_aum(history, weights), told), *parts]


def _head_part(score: str, called: str, head: RidgeHead) -> Part:
    def told(rows: Integer[Array, " m"]) -> Float[Array, "m c"]:
        return log_softmax(head.temperature * head.outputs[rows])

    return Part(score, f"the head on the features of {called}", head.temperature * head.margin, told)


def _name(origin: str, evidence: Evidence) -> str:
    return LEFT_OUT if origin == next(iter(evidence.heads)) else f"{LEFT_OUT}_{origin}"


def _judges(parts: Sequence[Part], witness: Witness, *, known: bool) -> Integer[Array, " m"]:
    """Return the judging rows of which every part says something, `JUDGES` of them at most.

    `known`: the model's own features are among what is heard, so its word is needed.
    """
    told = np.logical_and.reduce([np.isfinite(part.margins) for part in parts])
    rows = np.flatnonzero((witness.held_out & witness.judging if known else witness.judging) & told)
    return rows[:: max(1, -(-len(rows) // JUDGES))]


def _weigh(parts: Sequence[Part], labels: Integer[Array, " n"], judges: Integer[Array, " m"]) -> Float[Array, " _"]:
    """Return the weights of `parts`; one alone needs no judge, and if nothing predicts labels all count alike."""
    if len(parts) == 1:
        return np.ones(1)
    weights = opinion_weights([part.log_probs(judges) for part in parts], labels[judges])
    return weights if weights.any() else np.full(len(parts), 1 / len(parts))


def _shares(parts: Sequence[Part], weights: Float[Array, " _"], train: Bool[Array, " n"]) -> dict[str, float]:
    """How much of the ranking's spread is each part's own: a weight says little where all margins are alike."""
    spread = np.array([np.nanstd(part.margins[train]) for part in parts]) * weights
    spread = spread if spread.any() else weights
    return {part.score: float(share) for part, share in zip(parts, spread / spread.sum(), strict=True)}


def _suggestion(
    witness: Witness, evidence: Evidence, heard: Mapping[str, RidgeHead], judges: Integer[Array, " m"]
) -> Float[Any, "n c"]:
    """Return label probabilities: of the heads that are heard, pooled in their turn, else of the early training."""
    if not heard:
        return dynamics.tracked_probabilities(evidence.early, witness.labels, len(witness.classes))
    heads = list(heard.values())
    if len(heads) == 1:
        return heads[0].probabilities
    parts = [_head_part("", "", head) for head in heads]
    weights = _weigh(parts, witness.labels, judges)

    def pool(rows: Any) -> Float[Array, "m c"]:
        opinions = [w * head.temperature * head.outputs[rows] for w, head in zip(weights, heads, strict=True)]
        return softmax(np.sum(opinions, axis=0))

    return LazyRows(heads[0].outputs.shape, np.float64, pool)


def _weighed(judges: int, held_out: int) -> str:
    """Say how the weights came about."""
    if judges:
        return f"so weighed, they best predict the labels of {judges:,} held-out images"
    lack = f"none of the {held_out:,} held-out images was logged" if held_out else "no image is held out"
    return f"{lack} to weigh them by, so their margins are added with equal weights, and the surer one moves more"


def _why(
    parts: Sequence[Part], shares: Mapping[str, float], doubts: Mapping[str, str], weighed: str, *, alone: bool
) -> str:
    """Say in words what counts how much."""
    ordered = [(shares[part.score], part.called) for part in sorted(parts, key=lambda part: -shares[part.score])]
    counts = [
        f"{called} counts {share:.0%}" if share >= SAYS_NOTHING else f"{called} adds nothing"
        for share, called in ordered
    ]
    told = [", ".join(counts) if len(parts) > 1 else f"{parts[0].called} is the only witness"]
    if len(parts) > 1:
        told.append(weighed)
    if alone and doubts:
        told += [*doubts.values(), "such a network alone ranks human errors badly, train the reference beside it"]
    else:
        told += [f"{doubt}, so the head on its features is left out" for doubt in doubts.values()]
    return "; ".join(told)
