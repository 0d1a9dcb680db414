"""Arms against one another: differences with intervals, changed predictions, and the verdict by a stated rule.

`compare` measures, `judge` applies the rule to what was measured, `verdict` does both, `changed` names the test images.
How an interval comes about is told in `core.verify.intervals`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from core.axes import Array, Float, Int
from core.errors import InputError
from core.review.groups import CLASS
from core.verify.arms import GIVEN
from core.verify.intervals import (
    LEVEL,
    Difference,
    Draws,
    Noise,
    corrected,
    interval,
    paired_noise,
    resampled,
    summed_noise,
    sums,
)
from core.verify.record import FULL, Outcome, Verification

HELPS, UNCLEAR, HURTS = "helps", "no clear effect", "hurts"
BETTER, EVEN, WORSE = "better", "no clear difference", "worse"
CORRECTED = "interval"  # in words, where it is one of many that hold together
FINEST = 3  # digits at most
LEAST_PROBABILITY = 1e-7  # of a test row's label: one row costs at most 16 nats
FEWEST = 10  # test rows of a value that can be called the worst, where there are such values
RULE = (
    "Helps: the 95 % interval of the difference in accuracy lies above 0, against the data as given and against as "
    "many rows removed at random. Hurts: it lies below 0 against the data as given; or it does not lie above 0 there, "
    "and the interval of some class or group, corrected for their number, lies below 0. Otherwise: no clear effect. "
    "With one seed, or in the quick form without a control, chance is unknown and no word is given."
)
ONE_SEED = "one seed does not show how much a training varies"
NO_CONTROL = "there is no random control, so chance is not told from effect"
Measure: TypeAlias = Callable[[Outcome], Float[Array, "k g"]]
Rows: TypeAlias = Mapping[str, Int[Array, " _"]]  # value to its test rows


@dataclass(frozen=True)
class Comparison:
    """What one arm measures beside another, each as arm minus other.

    Attributes:
        arm: its name; title: its title; against: the other's name.
        accuracy: share of right predictions; log_loss: nats, below 0 is better.
        worst_class: accuracy of each training's worst class.
        worst: the same per grouping, of values with at least `FEWEST` test rows where there are any.
        per: accuracy per grouping and value; these intervals hold together within a grouping (Bonferroni).
        sizes: test rows per grouping and value.
    """

    arm: str
    title: str
    against: str
    accuracy: Difference
    log_loss: Difference
    worst_class: Difference
    worst: Mapping[str, Difference]
    per: Mapping[str, Mapping[str, Difference]]
    sizes: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Change:
    """A test image whose predicted class changed to or from its label.

    Attributes:
        id: of the image; label: its test label; before, after: predicted by most trainings of each arm.
        seeds: trainings in which the change was seen, of how many.
        prob_before, prob_after: mean probability of the label.
    """

    id: str
    label: str
    before: str
    after: str
    seeds: int
    of: int
    prob_before: float
    prob_after: float


@dataclass(frozen=True)
class Changes:
    """Test images that became right and that became wrong: all counted, the first of each named."""

    fixed: tuple[Change, ...]
    broken: tuple[Change, ...]
    fixed_count: int
    broken_count: int


@dataclass(frozen=True)
class Verdict:
    """What is to be said of an arm.

    Attributes:
        word: "helps", "no clear effect" or "hurts".
        against_random: "better", "no clear difference", "worse", or "" without a control.
        sentence: the figures behind the word, and what it does not cover.
        rule: the rule that gave the word.
        pays: (grouping, value, difference) of the classes and groups that lose accuracy against as given.
    """

    word: str
    against_random: str
    sentence: str
    rule: str
    pays: tuple[tuple[str, str, Difference], ...]


@lru_cache(maxsize=32)  # the verdict, the losses and the table of arms ask for the same few
def compare(v: Verification, arm: str, against: str = GIVEN, level: float = LEVEL) -> Comparison:
    """Measure one arm beside another on the same test rows.

    Args:
        v: the verification.
        arm: name of an arm; against: name of another.
        level: of the intervals.

    Raises:
        InputError: there is no such arm, or both are the same.
    """
    one, other = v.outcome(arm), v.outcome(against)
    if arm == against:
        raise InputError(f"The arm {arm!r} cannot be compared with itself. Name two arms.")
    draws = resampled(len(v.test.ids))
    whole = _overall(v, one, other, draws, level)
    per, worst, sizes = {}, {}, {}
    for grouping, values in v.groups.items():
        rows = _rows_of(values)
        per[grouping], worst[grouping] = _by_value(v, one, other, rows, draws, level)
        sizes[grouping] = {value: len(each) for value, each in rows.items()}
    return Comparison(arm, one.title, against, *whole, worst[CLASS], worst, per, sizes)


def changed(v: Verification, arm: str, top: int | None = None) -> Changes:
    """The test images that most trainings got wrong as given and right with the arm, and the other way round.

    Args:
        v: the verification.
        arm: name of an arm.
        top: how many of each to name; seen in most trainings first, then by how far the label's probability moved.
    """
    before, after, labels = v.outcomes[0], v.outcome(arm), np.asarray(v.test.labels)
    was, now = (_majority(each.predicted, len(v.classes)) for each in (before, after))
    right_before, right_after = (_right(each, labels) for each in (before, after))
    sides = ((right_after > right_before), (right_before > right_after))
    rows = (np.flatnonzero((was != labels) & (now == labels)), np.flatnonzero((was == labels) & (now != labels)))
    named = [
        tuple(_change(v, row, was, now, side, before, after) for row in _most_seen(each, side, before, after)[:top])
        for each, side in zip(rows, sides, strict=True)
    ]
    return Changes(named[0], named[1], len(rows[0]), len(rows[1]))


def verdict(v: Verification, arm: str) -> Verdict:
    """Judge an arm by the rule, against the data as given and against its control."""
    control = v.control(arm)
    random = compare(v, arm, control.name) if control else None
    return judge(compare(v, arm), random, reason=unknown_chance(v, arm))


def unknown_chance(v: Verification, arm: str) -> str:
    """Why this verification cannot show how far chance alone moves the arm; "" where it can."""
    control = v.control(arm)
    if v.form != FULL and control is None and not v.outcome(arm).control_of:
        return NO_CONTROL
    trainings = len((v.outcome(arm) if v.form == FULL or control is None else control).predicted)
    return "" if trainings > 1 else ONE_SEED


def judge(given: Comparison, random: Comparison | None, reason: str = "") -> Verdict:
    """The rule itself.

    Args:
        given: the arm against the data as given.
        random: the arm against its control, where there is one.
        reason: why chance is unknown, where it is: then the word is always "no clear effect".
    """
    everywhere = ((name, value, each) for name, values in given.per.items() for value, each in values.items())
    pays = () if reason else tuple(found for found in everywhere if found[2].below)
    word = UNCLEAR if reason else _word(given.accuracy, random.accuracy if random else None, bool(pays))
    against = "" if random is None else EVEN if reason else _standing(random.accuracy)
    return Verdict(word, against, _sentence(given, random, word, pays, reason), RULE, pays)


def points(difference: Difference, interval: str = "95 % interval") -> str:
    """`+2.1 points (95 % interval 0.9 to 3.3)` of a difference of shares."""
    value, low, high = (signed(100 * each) for each in (difference.value, difference.low, difference.high))
    sign = "" if value.startswith("−") or float(value) == 0 else "+"
    return f"{sign}{value} points ({interval} {low} to {high})"


def _word(given: Difference, random: Difference | None, pays: bool) -> str:
    if given.below or (not given.above and pays):
        return HURTS
    return HELPS if given.above and random is not None and random.above else UNCLEAR


def _standing(difference: Difference) -> str:
    return BETTER if difference.above else WORSE if difference.below else EVEN


def _sentence(
    given: Comparison, random: Comparison | None, word: str, pays: Sequence[tuple[str, str, Difference]], reason: str
) -> str:
    told = f"{given.title[:1].upper()}{given.title[1:]}: accuracy {points(given.accuracy)} against the data as given"
    told += f", {points(random.accuracy)} against as many rows taken at random." if random else "."
    if reason:
        told += f" No word can be given: {reason}."
    elif given.accuracy.above and word == UNCLEAR:
        told += " As many removed at random may do as well." if random else f" It is not called a help: {NO_CONTROL}."
    if pays:
        named = [f"{value} ({grouping}) {points(each, CORRECTED)}" for grouping, value, each in pays[:3]]
        more = f" and {len(pays) - 3} more" if len(pays) > 3 else ""
        told += f" {'Paid for by' if word == HELPS else 'Accuracy lost in'}: {'; '.join(named)}{more}."
    return told


def signed(value: float, digits: int = 1) -> str:
    """A figure with a true minus. What is not 0 is not written as 0: a verdict hangs on the sign of an end."""
    written = f"{value:.{digits}f}"
    if float(written) == 0 and value and digits < FINEST:
        return signed(value, digits + 1)
    return written.removeprefix("-") if float(written) == 0 else written.replace("-", "−")


def _right(outcome: Outcome, labels: Int[Array, " m"]) -> Float[Array, "k m"]:
    return np.asarray(outcome.predicted == labels, dtype=np.float64)


def _loss(outcome: Outcome) -> Float[Array, "k m"]:
    return np.asarray(-np.log(np.maximum(outcome.given_prob, LEAST_PROBABILITY)), dtype=np.float64)


def _overall(
    v: Verification, one: Outcome, other: Outcome, draws: Draws, level: float
) -> tuple[Difference, Difference]:
    """Accuracy and log-loss over all test rows."""
    labels = np.asarray(v.test.labels)
    columns = [
        _right(one, labels).mean(axis=0) - _right(other, labels).mean(axis=0),
        _loss(one).mean(axis=0) - _loss(other).mean(axis=0),
    ]
    drawn = sums(np.array(columns), np.arange(len(labels)), draws) / len(labels)
    noise = _noise(v, one, other, lambda each: np.column_stack([_right(each, labels).mean(1), _loss(each).mean(1)]))
    first, second = (interval(float(column.mean()), drawn[at], noise[at], level) for at, column in enumerate(columns))
    return first, second


def _by_value(
    v: Verification, one: Outcome, other: Outcome, rows: Rows, draws: Draws, level: float
) -> tuple[dict[str, Difference], Difference]:
    """Accuracy within each value of a grouping, and that of each training's worst value."""
    labels = np.asarray(v.test.labels)
    right = [_right(each, labels) for each in (one, other)]
    columns = np.vstack([*right, np.ones((1, len(labels)))])
    drawn = {value: sums(columns, each, draws) for value, each in rows.items()}
    per = _per_value(v, one, other, rows, drawn, draws, corrected(level, len(rows)))
    enough = [value for value, each in rows.items() if len(each) >= FEWEST] or list(rows)
    worst = _shares(labels, [rows[value] for value in enough])

    def measure(outcome: Outcome) -> Float[Array, "k g"]:
        return np.asarray(worst(outcome).min(axis=1, keepdims=True))

    least = np.fmin.reduce([_of_draws(drawn[value]) for value in enough])
    lowest = float(measure(one).mean() - measure(other).mean())
    return per, interval(lowest, _apart(least, len(right[0])), _noise(v, one, other, measure)[0], level)


def _per_value(
    v: Verification, one: Outcome, other: Outcome, rows: Rows, drawn: Mapping[str, Float[Array, "q b"]], draws: Draws,
    level: float,
) -> dict[str, Difference]:  # fmt: skip
    """The difference in accuracy within each value.

    To the rows of each value two are added, one that got better and one that got worse (after Agresti and Min,
    Statistics in Medicine 2005): else three test rows that all got worse would have an interval without width.
    """
    measure = _shares(np.asarray(v.test.labels), list(rows.values()))
    values = measure(one).mean(axis=0) - measure(other).mean(axis=0)
    noise = _noise(v, one, other, measure)
    better, worse = draws.added
    return {
        value: interval(
            float(values[at]),
            (_apart(hits[:-1], len(one.predicted)) + better - worse) / np.maximum(hits[-1] + better + worse, 1),
            noise[at],
            level,
        )
        for at, (value, hits) in enumerate(drawn.items())
    }


def _of_draws(hits: Float[Array, "q b"]) -> Float[Array, "r b"]:
    """The share of right predictions in each draw; NaN where a draw holds no row."""
    nothing = np.full_like(hits[:-1], np.nan)
    return np.asarray(np.divide(hits[:-1], hits[-1], out=nothing, where=hits[-1] > 0))


def _apart(columns: Float[Array, "q b"], first: int) -> Float[Array, " b"]:
    """The mean of the first columns minus that of the others."""
    return np.asarray(columns[:first].mean(axis=0) - columns[first:].mean(axis=0), dtype=np.float64)


def _shares(labels: Int[Array, " m"], rows: Sequence[Int[Array, " _"]]) -> Measure:
    """The measure "share of right predictions within each set of rows"."""

    def measure(outcome: Outcome) -> Float[Array, "k g"]:
        right = outcome.predicted == labels
        return np.column_stack([right[:, each].mean(axis=1) for each in rows])

    return measure


def _noise(v: Verification, one: Outcome, other: Outcome, measure: Measure) -> list[Noise]:
    """How far chance in the trainings moves each column of `measure` between two arms.

    Full form: seeds are shared, so their differences show it. Quick form: an arm is worked out without chance, and what
    chance there is lies in which rows were changed: the draws of its control show it.
    """
    if v.form == FULL:
        return paired_noise(measure(one), measure(other))
    columns, parts = measure(one).shape[1], {}
    for side, each in (("one", one), ("other", other)):
        shown = each if each.control_of else v.control(each.name)
        if shown is not None:
            draws = measure(shown)
            parts[side] = draws, 1 / len(draws) if each.control_of else 1.0
    return summed_noise(parts, columns)


def _rows_of(values: Sequence[str]) -> Rows:
    """The test rows of each value, by name."""
    names, codes = np.unique(np.array(values, dtype=object), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    return {str(name): rows for name, rows in zip(names, parts, strict=True)}


def _majority(predicted: Int[Array, "k m"], classes: int) -> Int[Array, " m"]:
    """The class that most trainings predict; of two with equal votes the first."""
    votes = np.zeros((classes, predicted.shape[1]), np.int64)
    for row in predicted:
        votes[row, np.arange(len(row))] += 1
    return np.asarray(votes.argmax(axis=0))


def _most_seen(rows: Int[Array, " r"], side: Array, before: Outcome, after: Outcome) -> list[int]:
    moved = np.abs(after.given_prob.mean(axis=0) - before.given_prob.mean(axis=0))[rows]
    return [int(row) for row in rows[np.lexsort((-moved, -side.sum(axis=0)[rows]))]]


def _change(
    v: Verification,
    row: int,
    was: Int[Array, " m"],
    now: Int[Array, " m"],
    side: Array,
    before: Outcome,
    after: Outcome,
) -> Change:
    named = [v.classes[int(code)] for code in (v.test.labels[row], was[row], now[row])]
    probs = [float(each.given_prob[:, row].mean()) for each in (before, after)]
    return Change(v.test.ids[row], named[0], named[1], named[2], int(side[:, row].sum()), len(side), probs[0], probs[1])
