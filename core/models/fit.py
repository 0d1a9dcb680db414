"""Do a network's logits mean the data's classes? Class order and transform, checked before anything is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linear_sum_assignment

from core.axes import Array, Float, Integer
from core.errors import ModelError

LISTED = 40  # names in a message

BEATS = 0.10  # by how much the best renaming must beat the stated order: more than noise in labels does
BEATS_UNSEEN = 0.05  # and on samples that it was not chosen on: a renaming always fits its own samples better,
SURELY = 3.0  # by at least so many standard errors


@dataclass(frozen=True)
class Fit:
    """How well the logits fit the given labels.

    Attributes:
        accuracy: share of samples whose largest logit is the given label's.
        best_accuracy: the same after the best one-to-one renaming of the outputs.
        renaming: output's class name to the class that it fits, where they differ.
        said: a sentence for the person: the accuracy, and what to check where it is hardly better than chance; ""
            where there is nothing to compare.
    """

    accuracy: float
    best_accuracy: float
    renaming: Mapping[str, str] = field(default_factory=dict)
    said: str = ""


def check_fit(logits: Float[Array, "n c"], labels: Integer[Array, " n"], classes: Sequence[str]) -> Fit:
    """Compare the stated order of the classes with the best one.

    Args:
        logits: of the finished network, a column per class; rows with NaN do not count.
        labels: the given labels, as codes.
        classes: their names in order.

    Raises:
        ModelError: the best one-to-one renaming beats the stated order by 10 points; the message prints it.
    """
    known = np.isfinite(logits).all(1)
    guesses, labels, count = logits[known].argmax(1), labels[known], len(classes)
    if not len(labels):
        return Fit(float("nan"), float("nan"))
    best = _best_order(guesses, labels, count)
    accuracy, best_accuracy = float((guesses == labels).mean()), float((best[guesses] == labels).mean())
    seen = np.bincount(guesses, minlength=count) > 0
    renaming = {classes[old]: classes[new] for old, new in enumerate(best) if old != new and seen[old]}
    if best_accuracy - accuracy >= BEATS and _beats_unseen(guesses, labels, count):
        raise ModelError(_other_order(accuracy, best_accuracy, renaming, [classes[new] for new in best]))
    return Fit(accuracy, best_accuracy, renaming, _said(accuracy, count))


def _best_order(guesses: Integer[Array, " n"], labels: Integer[Array, " n"], count: int) -> Integer[Array, " c"]:
    """Return the class of each output under the one-to-one renaming with most agreement; ties keep the stated order."""
    counts = np.bincount(guesses * count + labels, minlength=count * count).reshape(count, count).astype(np.float64)
    counts += 0.5 / count * np.eye(count)  # all halves together are less than one sample
    order: Integer[Array, " c"] = linear_sum_assignment(counts, maximize=True)[1]
    return order


def _beats_unseen(guesses: Integer[Array, " n"], labels: Integer[Array, " n"], count: int) -> bool:
    """Whether renamings chosen on one half of the samples are surely better on the other, both ways round."""
    halves = np.arange(len(labels)) % 2 == 0
    gains = []
    for chosen_on in (halves, ~halves):
        order, unseen = _best_order(guesses[chosen_on], labels[chosen_on], count), ~chosen_on
        renamed = (order[guesses[unseen]] == labels[unseen]).astype(np.float64)
        gains.append(renamed - (guesses[unseen] == labels[unseen]))
    gain = np.concatenate(gains)
    return bool(gain.mean() >= max(BEATS_UNSEEN, SURELY * gain.std() / np.sqrt(len(gain))))


def _other_order(accuracy: float, best_accuracy: float, renaming: Mapping[str, str], order: Sequence[str]) -> str:
    """Say which order it is and how to get a project of it: codes are the order, so a project keeps the one it has."""
    lines = ", ".join(f"{old} is {new}" for old, new in list(renaming.items())[:LISTED])
    more = f" and {len(renaming) - LISTED:,} more" if len(renaming) > LISTED else ""
    return (
        f"The model's classes are in another order than the data's: its largest logit is the given label of "
        f"{accuracy:.0%} of the images, and of {best_accuracy:.0%} when its outputs are renamed: {lines}{more}. "
        f"Write the class names into FILE in the order of the model's outputs, one per line{_listed(order)}. Then make "
        "a new project with it: gradsift new NEW --source … --model … --classes FILE. Decisions come along: gradsift "
        "export OLD --to DIR, then gradsift decide NEW --from DIR/manifest.csv."
    )


def _listed(order: Sequence[str]) -> str:
    """Return the whole order where it is short; of a long one the renaming says enough."""
    return "" if len(order) > LISTED else f" ({', '.join(order)})"


def _said(accuracy: float, count: int) -> str:
    """Say the accuracy, and what to check below twice chance (for few classes: below half the way to perfect)."""
    if accuracy >= min(2 / count, (1 + 1 / count) / 2):
        return (
            f"The model's largest logit is the given label of {accuracy:.1%} of the images (chance: {1 / count:.1%})."
        )
    return (
        f"The model's largest logit is the given label of only {accuracy:.1%} of the images (chance: {1 / count:.1%}). "
        "Check that its transform is the one it was trained with (--transform), and the order of its classes."
    )
