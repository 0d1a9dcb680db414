"""Scores of a recorded training: what the network said about a sample while it learned.

Each takes a `History` (`t n`) and returns one number per sample in its textbook sign; `core.scores` holds the sign that
means suspicious. The same functions serve the whole run and a window that ends where memorisation sets in (`window`):
averages over the whole run hold in every regime, a window helps only where labels were memorised.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from core.axes import Array, Bool, Float, Integer
from core.models.recorder import History

_UNLIKELY = 1e-12  # the least probability that an opinion may give
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
    mean = _mean(history.given_prob)
    return np.sqrt(_mean((history.given_prob - mean) ** 2))


def correctness(history: History) -> Float[Array, " n"]:
    """Number of epochs in which the given label was predicted (Swayamdipta et al. 2020). Low: suspicious."""
    return _where_seen(history, history.correct.sum(0))


def forgetting(history: History) -> Float[Array, " n"]:
    """Forgetting events: right at one presentation, wrong at the next (Toneva et al. 2019, definition 2.1).

    A sample that was never right gets the number of epochs, more than any that was learned can have.
    """
    correct = _as_last_seen(history)
    events = (correct[:-1] & ~correct[1:]).sum(0).astype(np.float64)
    return _where_seen(history, np.where(correct.any(0), events, float(len(correct))))


def first_learned(history: History) -> Float[Array, " n"]:
    """First epoch (from 1) in which the given label was predicted; one more than the epochs where it never was."""
    correct = history.correct
    return _where_seen(history, np.where(correct.any(0), correct.argmax(0) + 1.0, len(correct) + 1.0))


def self_influence(history: History) -> Float[Array, " n"]:
    """TracIn of a sample on itself: sum over epochs of rate x |error|^2 |input|^2 (Pruthi et al. 2020, eq. 4)."""
    squared = (history.error_norm.astype(np.float64) * history.input_norm) ** 2
    total = np.nansum(history.learning_rate[:, None] * squared, axis=0)
    return np.where(np.isfinite(squared).any(0), total, np.nan)


def has_steps(history: History) -> bool:
    """Whether learning rates and input norms were recorded, without which self-influence cannot be told."""
    return bool(np.isfinite(history.learning_rate).any() and np.isfinite(history.input_norm).any())


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


class Agreement(NamedTuple):
    """How many given labels were predicted at each epoch: of the rows trained on, and of the held-out ones."""

    fitted: Float[Array, " t"]
    outside: Float[Array, " t"]
    held_out: int

    @property
    def doubt(self) -> Float[Array, " t"]:
        """Twice the standard error of `outside`."""
        return np.asarray(2 * np.sqrt(np.maximum(self.outside * (1 - self.outside), 1e-4) / self.held_out))


def agreement(history: History, train: Bool[Array, " n"], judging: Bool[Array, " n"] | None = None) -> Agreement | None:
    """Return the agreement with given labels, None where it cannot be compared: no such held-out row was ever logged.

    An epoch in which rows of one kind were not logged takes the share from the epochs around it.

    Args:
        history: the record.
        train: which rows were trained on.
        judging: the held-out rows to compare with; None: all. So in every function here that takes it.
    """
    outside = ~train if judging is None else judging
    if not (seen(history) & outside).any() or not (seen(history) & train).any():
        return None
    return Agreement(_share(history, train), _share(history, outside), int((seen(history) & outside).sum()))


def _share(history: History, rows: Bool[Array, " n"]) -> Float[Array, " t"]:
    logged = np.isfinite(history.given_logit[:, rows]).sum(1)
    epochs, known = np.arange(len(logged)), logged > 0
    shares = history.correct[:, rows].sum(1) / np.maximum(logged, 1)
    return np.asarray(np.interp(epochs, epochs[known], shares[known]))


def clearest_epoch(history: History, train: Bool[Array, " n"], judging: Bool[Array, " n"] | None = None) -> int:
    """Return the epoch (from 0) after which to read features: the last, or the window's where labels were memorised.

    Average precision of the left-out head on CIFAR-10N `worse`, 30 epochs without augmentation, one seed: .465 on the
    last epoch's features, .756 on those of the window's end (.865 on a regularised network's).
    """
    last, found = len(history.learning_rate) - 1, agreement(history, train, judging)
    if found is None:
        return last
    gap = float(found.fitted[-1] - found.outside[-1])
    return window(history, train, judging).epochs - 1 if gap > max(FEATURES_GAP, float(found.doubt[-1])) else last


def epoch_weights(
    history: History, train: Bool[Array, " n"], judging: Bool[Array, " n"] | None = None
) -> Float[Array, " t"]:
    """Return how much each epoch's word counts: more the later it is, less the more is known by heart.

    `t * max(0, 1 - gap / MEMORISED_GAP)` with the gap between accuracy on given labels and held-out accuracy; all alike
    without held-out rows, where the gap cannot be told. Measured on human label noise: `core.scores.suspicion`.
    """
    epochs, found = len(history.learning_rate), agreement(history, train, judging)
    if found is None:
        return np.ones(epochs)
    gap = np.maximum(found.fitted - found.outside, 0)
    weights = np.arange(1, epochs + 1) * np.clip(1 - gap / MEMORISED_GAP, 0, 1)
    return np.asarray(weights if weights.any() else np.ones(epochs))


def recorded_log_probs(
    history: History, weights: Float[Array, " t"], labels: Integer[Array, " n"], classes: int
) -> Float[Array, "n c"]:
    """Log-probability of each class, averaged over the epochs as `weighted_aum` averages margins.

    Of each epoch the given label's and the strongest other's are on record; the rest is spread evenly over the others,
    none of them above the strongest. The rows sum to 1 after the average too.
    """
    total, counted, rows = np.zeros((len(labels), classes)), np.zeros(len(labels)), np.arange(len(labels))
    for epoch in np.flatnonzero(weights):
        logged = np.isfinite(history.given_logit[epoch])
        given = np.maximum(history.given_prob[epoch].astype(np.float64), _UNLIKELY)
        odds = history.other_logit[epoch].astype(np.float64) - history.given_logit[epoch]
        other = np.maximum(np.minimum(given * np.exp(np.clip(odds, -60, 60)), 1 - given), _UNLIKELY)
        rest = np.clip((1 - given - other) / max(classes - 2, 1), _UNLIKELY, other)
        said = np.repeat(np.log(rest)[:, None], classes, axis=1)
        said[rows, history.other_class[epoch]] = np.log(other)
        said[rows, labels] = np.log(given)
        total += np.where(logged[:, None], weights[epoch] * said, 0)
        counted += weights[epoch] * logged
    total /= np.maximum(counted, 1e-300)[:, None]
    return np.asarray(total - np.log(np.exp(total).sum(1, keepdims=True)))


def weighted_aum(history: History, weights: Float[Array, " t"]) -> Float[Array, " n"]:
    """Area under the margin with weighted epochs. Low: suspicious."""
    margins = (history.given_logit - history.other_logit).astype(np.float64)
    counted = weights[:, None] * np.isfinite(margins)  # an epoch in which a sample was not logged says nothing of it
    counts = counted.sum(0)
    return np.where(counts > 0, (counted * np.nan_to_num(margins)).sum(0) / np.maximum(counts, 1e-12), np.nan)


def window(history: History, train: Bool[Array, " n"], judging: Bool[Array, " n"] | None = None) -> Window:
    """Find the epoch from which the training learns labels by heart.

    That is the first epoch whose running accuracy on given labels exceeds the held-out accuracy by more than
    `MEMORISING_GAP` and by more than twice the held-out accuracy's standard error, and stays so. Without held-out
    rows it cannot be told, and the window is the whole run.
    """
    epochs, found = len(history.learning_rate), agreement(history, train, judging)
    if found is None:
        why = "no held-out rows to compare with" if train.all() else "no held-out row was logged to compare with"
        return Window(epochs, f"{why}, so the window is the whole run")
    apart = found.fitted - found.outside > np.maximum(MEMORISING_GAP, found.doubt)
    if not apart[-1]:
        return Window(epochs, "memorisation did not set in, so the window is the whole run")
    first = int(epochs - np.argmin(apart[::-1])) if not apart.all() else 0
    end = max(first, math.ceil(epochs / 10))
    return Window(end, f"from epoch {end + 1} on, labels are learned faster than held-out images are understood")


def seen(history: History) -> Bool[Array, " n"]:
    """Which samples were logged at all."""
    return np.asarray(np.isfinite(history.given_logit).any(0))


def _where_seen(history: History, values: Array) -> Float[Array, " n"]:
    return np.where(seen(history), values, np.nan)


def _as_last_seen(history: History) -> Bool[Array, "t n"]:
    """`correct`, with an epoch in which a sample was not logged standing as the one before."""
    epochs = np.arange(len(history.given_logit))[:, None]
    last = np.maximum.accumulate(np.where(np.isfinite(history.given_logit), epochs, 0), axis=0)
    return np.take_along_axis(history.correct, last, axis=0)


def _mean(values: Float[Array, "t n"]) -> Float[Array, " n"]:
    """Mean over the epochs in which a sample was logged; NaN where there is none."""
    logged = ~np.isnan(values)
    total = np.where(logged, values, 0).sum(0, dtype=np.float64)
    return np.where(logged.any(0), total / np.maximum(logged.sum(0), 1), np.nan)
