"""Scores of a recorded training: what the network said about a sample while it learned.

Each takes a `History` (`t n`) and returns one number per sample in its textbook sign; `core.scores` holds the sign that
means suspicious. The same functions serve the whole run and a window that ends where memorisation sets in (`window`):
averages over the whole run hold in every regime, a window helps only where labels were memorised.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from core.axes import Array, Bool, Float
from core.models.recorder import History

_SMALLEST = np.finfo(np.float32).tiny
MEMORISED_GAP = 0.3  # fitted share minus held-out accuracy at which an epoch no longer counts
FEATURES_GAP = 0.2  # the same difference, from which features are read before memorisation
MEMORISING_GAP = 0.1  # fitted share minus held-out accuracy from which labels are being learned by heart


class Window(NamedTuple):
    """The first epochs of a run, before memorisation, and why they end there."""

    epochs: int
    why: str


def aum(history: History) -> Float[Array, " n"]:
    """Area under the margin: mean logit margin of the given label (Pleiss et al. 2020, eq. 1). Low: suspicious."""
    return _mean(history.given_logit - history.other_logit)


def mean_el2n(history: History) -> Float[Array, " n"]:
    """Mean L2 norm of the error vector (Paul et al. 2021, definition 2.3, averaged over epochs). High: suspicious."""
    return _mean(history.error_norm)


def mean_loss(history: History) -> Float[Array, " n"]:
    """Mean cross-entropy of the given label. High: suspicious."""
    return _mean(-np.log(np.maximum(history.given_prob, _SMALLEST)))


def confidence(history: History) -> Float[Array, " n"]:
    """Mean probability of the given label (Swayamdipta et al. 2020, section 2). Low: suspicious."""
    return _mean(history.given_prob)


def variability(history: History) -> Float[Array, " n"]:
    """Population standard deviation of the given label's probability (Swayamdipta et al. 2020, section 2)."""
    return np.asarray(np.nanstd(history.given_prob, axis=0, dtype=np.float64))


def correctness(history: History) -> Float[Array, " n"]:
    """Number of epochs in which the given label was predicted (Swayamdipta et al. 2020). Low: suspicious."""
    return np.asarray(history.correct.sum(0), dtype=np.float64)


def forgetting(history: History) -> Float[Array, " n"]:
    """Forgetting events: right at one presentation, wrong at the next (Toneva et al. 2019, definition 2.1).

    A sample that was never right gets the number of epochs, more than any that was learned can have.
    """
    correct = history.correct
    events = (correct[:-1] & ~correct[1:]).sum(0).astype(np.float64)
    return np.where(correct.any(0), events, float(len(correct)))


def first_learned(history: History) -> Float[Array, " n"]:
    """First epoch (from 1) in which the given label was predicted; one more than the epochs where it never was."""
    correct = history.correct
    return np.where(correct.any(0), correct.argmax(0) + 1.0, len(correct) + 1.0)


def self_influence(history: History) -> Float[Array, " n"]:
    """TracIn of a sample on itself: sum over epochs of rate x |error|^2 |input|^2 (Pruthi et al. 2020, eq. 4)."""
    squared = (history.error_norm.astype(np.float64) * history.input_norm) ** 2
    return np.asarray(np.nansum(history.learning_rate[:, None] * squared, axis=0))


def tracked_probabilities(history: History, given: Array, classes: int) -> Float[Array, "n c"]:
    """Mean probability of each class over the run, from the two recorded per epoch (a lower bound of the rest)."""
    samples = np.arange(given.shape[0])
    total = np.zeros((len(samples), classes))
    total[samples, given] = _mean(history.given_prob)
    gap = history.other_logit.astype(np.float64) - history.given_logit
    by_odds = history.given_prob * np.exp(np.minimum(gap, 80.0))
    by_error = history.error_norm.astype(np.float64) ** 2 - 1  # where the given probability has underflowed
    other = np.clip(np.where(gap < 80, by_odds, by_error), 0.0, 1.0) / len(history.given_prob)
    for classes_then, probabilities in zip(history.other_class, other, strict=True):
        logged = classes_then >= 0
        np.add.at(total, (samples[logged], classes_then[logged]), probabilities[logged])
    return np.asarray(total)


def clearest_epoch(history: History, train: Bool[Array, " n"]) -> int:
    """Return the epoch (from 0) after which to read features: the last, or the window's where labels were memorised.

    Average precision of the left-out head on CIFAR-10N `worse`, 30 epochs without augmentation, one seed: .465 on the
    last epoch's features, .756 on those of the window's end (.865 on a regularised network's).
    """
    last = len(history.learning_rate) - 1
    if train.all():
        return last
    outside = float(history.correct[-1, ~train].mean())
    doubt = 2 * math.sqrt(max(outside * (1 - outside), 1e-4) / int((~train).sum()))
    gap = float(history.correct[-1, train].mean()) - outside
    return window(history, train).epochs - 1 if gap > max(FEATURES_GAP, doubt) else last


def epoch_weights(history: History, train: Bool[Array, " n"]) -> Float[Array, " t"]:
    """Return how much each epoch's word counts: more the later it is, less the more is known by heart.

    `t * max(0, 1 - gap / MEMORISED_GAP)` with the gap between accuracy on given labels and held-out accuracy; all alike
    without held-out rows, where the gap cannot be told. Measured on human label noise: `core.scores.suspicion`.
    """
    epochs = len(history.learning_rate)
    if train.all():
        return np.ones(epochs)
    gap = history.correct[:, train].mean(1) - history.correct[:, ~train].mean(1)
    weights = np.arange(1, epochs + 1) * np.clip(1 - np.maximum(gap, 0) / MEMORISED_GAP, 0, 1)
    return np.asarray(weights if weights.any() else np.ones(epochs))


def weighted_aum(history: History, weights: Float[Array, " t"]) -> Float[Array, " n"]:
    """Area under the margin with weighted epochs. Low: suspicious."""
    margins = (history.given_logit - history.other_logit).astype(np.float64)
    counted = weights[:, None] * np.isfinite(margins)  # an epoch in which a sample was not logged says nothing of it
    counts = counted.sum(0)
    return np.where(counts > 0, (counted * np.nan_to_num(margins)).sum(0) / np.maximum(counts, 1e-12), np.nan)


def window(history: History, train: Bool[Array, " n"]) -> Window:
    """Find the epoch from which the training learns labels by heart.

    That is the first epoch whose running accuracy on given labels exceeds the held-out accuracy by more than
    `MEMORISING_GAP` and by more than twice the held-out accuracy's standard error, and stays so. Without held-out
    rows it cannot be told, and the window is the whole run.
    """
    epochs, held_out = len(history.learning_rate), ~train
    if not held_out.any():
        return Window(epochs, "no held-out rows to compare with, so the window is the whole run")
    fitted, outside = history.correct[:, train].mean(1), history.correct[:, held_out].mean(1)
    doubt = 2 * np.sqrt(np.maximum(outside * (1 - outside), 1e-4) / held_out.sum())
    apart = fitted - outside > np.maximum(MEMORISING_GAP, doubt)
    if not apart[-1]:
        return Window(epochs, "memorisation did not set in, so the window is the whole run")
    first = int(epochs - np.argmin(apart[::-1])) if not apart.all() else 0
    end = max(first, math.ceil(epochs / 10))
    return Window(end, f"from epoch {end + 1} on, labels are learned faster than held-out images are understood")


def _mean(values: Float[Array, "t n"]) -> Float[Array, " n"]:
    return np.asarray(np.nanmean(values, axis=0, dtype=np.float64))
