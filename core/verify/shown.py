"""What a screen shows of a verification, as plain rows and sentences: a page draws them and works nothing out.

`show` gives everything about one arm. `pick` says which of the arms is looked at, `stale` whether the decisions have
moved on, `arm_spec` and `spoken` turn a person's choice into the name of an arm
and back into words, `held_out` and `cost` say what a check can be made on and what it takes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.axes import Array, Float
from core.errors import InputError, SettingsError
from core.review.flags import SUSPICION, TRAIN, Budget
from core.review.groups import CLASS
from core.verify.arms import DECIDED, FACTOR, GIVEN, PER_CLASS, RELABEL_ARM, REMOVE, UPWEIGHT
from core.verify.compare import (
    HELPS,
    HURTS,
    UNCLEAR,
    Change,
    Comparison,
    changed,
    compare,
    signed,
    unknown_chance,
    verdict,
)
from core.verify.intervals import Difference
from core.verify.losses import Loss, per, warnings
from core.verify.noise import said
from core.verify.record import FULL, SPLITS, UNCHANGED, Outcome, Verification

AGAINST_GIVEN, AGAINST_RANDOM = "against the data as given", "against as many at random"
POINTS, NATS = "percentage points, right is better", "nats, left is better"
MOST_PICTURES = 24  # of each kind
MEASURES = {"accuracy": "Accuracy, %", "log_loss": "Log-loss", "train_loss": "Loss in training"}
CHANGES = {"removed": "left out", "relabelled": "relabelled", "weighted": "counted more often"}
WHAT = {REMOVE: "Leave out", RELABEL_ARM: "Relabel as suggested", UPWEIGHT: "Count more often"}
HEADLINES = {HELPS: "helps", UNCLEAR: "has no clear effect", HURTS: "hurts"}
MOST_ARMS, LONGEST = 8, 1_000  # arms, and characters, of an address
_REQUEST = re.compile(rf"({'|'.join(WHAT)}):\w{{1,60}}:[0-9.]{{1,12}}%?(:[0-9.]{{1,6}})?(:{PER_CLASS})?")
MOST_WARNINGS = 3  # told whole
MOST_VALUES = 25  # classes or groups in a picture; the table beside it holds all
QUICK_LIMIT = (
    "The quick form trains a new last layer on features that the last run recorded. In every arm these features were "
    "learned with the labels as given, so it shows less than retraining would: on CIFAR-10N 0.6 points of 5.9. The "
    "full form retrains the whole network."
)
SEEDS_LIMIT = "Training varies by chance. The intervals hold as much of that as {k} trainings of each arm show."
ONE_SEED = "One training of each arm does not show how much training varies by chance: the intervals leave that out."
SCOPE = "The verdict is about this network, these settings and this test set. Another network may gain more, or less."


@dataclass(frozen=True)
class Shown:
    """Everything a screen says about one arm of a verification.

    Attributes:
        arm: its name; title: what a person calls it.
        headline, word, sentence, rule: the verdict.
        test: one sentence on the test set.
        figures: label, value and change of what stands out, as texts.
        differences: rows of a picture: name, unit, against, value, low, high (points or nats), told.
        groupings: grouping to rows, those that lose most first: name, images, share, changed, changed_share (0-1),
            test_images, before, after (0-1), value, low, high (points), told, pays.
        warnings: sentences on classes and groups that pay.
        arms: a row for each arm of the verification, as texts and numbers of a table.
        curves: title of a measure to lines: name, random, mean, low, high (per epoch); {} in the quick form.
        fixed, broken: the first test images that became right and wrong: id, label, before, after, seen; with the
            number of all.
        limits: sentences.
    """

    arm: str
    title: str
    headline: str
    word: str
    sentence: str
    rule: str
    test: str
    figures: list[tuple[str, str, str]]
    differences: list[dict[str, Any]]
    groupings: dict[str, list[dict[str, Any]]]
    warnings: list[str]
    arms: list[dict[str, Any]]
    curves: dict[str, list[dict[str, Any]]]
    fixed: list[dict[str, Any]]
    broken: list[dict[str, Any]]
    fixed_count: int
    broken_count: int
    limits: list[str]


def show(v: Verification, name: str) -> Shown:
    """Work out what a screen says of one arm.

    Raises:
        InputError: there is no such arm.
    """
    outcome, control = v.outcome(name), v.control(name)
    given = compare(v, name)
    random = compare(v, name, control.name) if control else None
    found, moved = verdict(v, name), changed(v, name, MOST_PICTURES)
    return Shown(
        arm=name,
        title=outcome.title,
        headline=headline(name, found.word, not unknown_chance(v, name)),
        word=found.word,
        sentence=found.sentence,
        rule=found.rule,
        test=measured_on(v),
        figures=_figures(v, outcome, control),
        differences=_differences(given, random),
        groupings={grouping: [_loss(row) for row in per(v, name, grouping, given)] for grouping in v.groups},
        warnings=list(warnings(v, name, given)),
        arms=[_row(v, each) for each in v.outcomes],
        curves=_curves(v, [v.outcomes[0], outcome, *([control] if control else [])]),
        fixed=[_card(each) for each in moved.fixed],
        broken=[_card(each) for each in moved.broken],
        fixed_count=moved.fixed_count,
        broken_count=moved.broken_count,
        limits=limits(v),
    )


def pick(v: Verification, asked: str = "") -> str:
    """The arm to look at: the one asked for, else the person's decisions, else the first.

    Raises:
        InputError: the verification compares nothing with the data as given.
    """
    if not v.arms:
        raise InputError("This check compares nothing with the data as given. Check again.")
    return next((name for name in (asked, DECIDED) if name in v.arms), v.arms[0])


def stale(v: Verification, now: Mapping[str, int | str], run: str = "") -> str:
    """What to say where decisions or scores have changed since a verification was made; "" where they have not.

    Args:
        v: the verification.
        now: `decisions_mark` of the decisions in effect.
        run: the key of the scores that the project has now, as `settings["scores"]` holds those of then.
    """
    then = v.settings.get("scores")
    if run and then and then != run:
        return "The images were scored anew since, so rankings and features are others now. Check again."
    if v.decisions["digest"] == now["digest"] or not (v.decisions["changed"] or now["changed"]):
        return ""
    then, today = (f"{int(each['changed']):,}" for each in (v.decisions, now))
    return f"Decisions have changed since: they change {today} training images now, {then} then. Check again."


def measured_on(v: Verification) -> str:
    """The test set, in one sentence or two."""
    test = v.test
    count = f"{len(test.ids):,}"
    named = f"{count} {test.name}" if test.name == UNCHANGED else f"{count} images of the split {test.name}"
    parts = [f"Measured on {named}.", test.note, said(test.known_noise, test.noise)]
    return " ".join(filter(None, parts))


def headline(name: str, word: str, known: bool = True) -> str:
    """The verdict as the title of a page; not `known` where chance is not told from effect: then there is no word."""
    subject = "The cleaning" if name == DECIDED else "This arm"
    return f"{subject} {HEADLINES[word]}" if known else f"Whether {subject.lower()} helps cannot be told yet"


def first_of(sentences: Sequence[str], most: int = MOST_WARNINGS) -> str:
    """Sentences as one text: the first ones whole, the others as their number."""
    more = len(sentences) - most
    left = [f"{more} more {'class or group loses' if more == 1 else 'classes or groups lose'} so: see the tables."]
    return " ".join([*sentences[:most], *(left if more > 0 else [])])


def limits(v: Verification) -> list[str]:
    """What a verdict does not say, a sentence each."""
    k = len(v.seeds)
    own = QUICK_LIMIT if v.form != FULL else SEEDS_LIMIT.format(k=k) if k > 1 else ONE_SEED
    return [own, SCOPE, *v.notes]


def arm_spec(action: str, score: str, amount: str, per_class: bool = False, factor: float = FACTOR) -> str:
    """The name of the arm that a person put together, as `core.verify.arms.requested` reads it.

    Raises:
        SettingsError: the amount cannot be read, or is nothing.
    """
    budget = Budget.parse(amount)
    if not budget.amount:
        raise SettingsError("An arm that changes no image compares nothing. Write a share such as 5%, or a number.")
    times = [f"{factor:g}"] if action == UPWEIGHT and factor != FACTOR else []
    return ":".join([action, score, str(budget), *times, *([PER_CLASS] if per_class else [])])


def held_out(splits: Iterable[str]) -> list[str]:
    """The splits of a project that are held out, in the order in which they are taken for a test set."""
    found = set(splits) - {TRAIN}
    return [*(name for name in SPLITS if name in found), *sorted(found.difference(SPLITS))]


def cost(answer: Mapping[str, Any], seeds: int) -> tuple[str, str]:
    """What a check takes, as the words of its button and a sentence beside it.

    Args:
        answer: of `gradsift verify --dry-run --json`.
        seeds: trainings of each arm.
    """
    arms, there, units = answer["units"] // seeds, answer["there"], answer["units"]
    words = f"Retrain {seeds} {'seed' if seeds == 1 else 'seeds'} × {arms} arms"
    if there >= units:
        return words, f"All {units} trainings are there already: only the comparison is made."
    kept = f"{there} of {units} trainings are there already. " if there else ""
    return words, f"{kept}To train: {units - there}, one after another. A stopped check goes on where it was."


def arms_in(text: str) -> tuple[list[str], list[str]]:
    """The arms that a text lists, with commas between, and what of it is none.

    Only what a score would do is an arm here: the text comes from an address, and a table is a path.
    """
    parts = list(dict.fromkeys(filter(None, text[:LONGEST].split(","))))
    arms = [part for part in parts if _REQUEST.fullmatch(part)][:MOST_ARMS]
    return arms, [part for part in parts if part not in arms]


def spoken(spec: str, titles: Mapping[str, str]) -> str:
    """An arm's name in words: `remove:oga_l2:5%` becomes "Leave out 5%, by Gradient size (L2)".

    Args:
        spec: one of `arms_in`.
        titles: of the scores, by name.
    """
    action, score, amount, *more = spec.split(":")
    by = f", by {titles.get(score, score)}" if score != SUSPICION else ", the most suspicious"
    times = "".join(f", {each} times" for each in more if each != PER_CLASS)
    return f"{WHAT[action]} {amount}{by}{times}{', the same share of each class' if PER_CLASS in more else ''}"


def _figures(v: Verification, outcome: Outcome, control: Outcome | None) -> list[tuple[str, str, str]]:
    """The accuracy of the three arms side by side, and what became of the training images."""
    named = " with the decisions" if outcome.name == DECIDED else " of this arm"
    arms = [(" as given", v.outcomes[0]), (named, outcome), *([(", as many at random", control)] if control else [])]
    shares = [(f"Accuracy{title}", f"{_accuracy(v, each):.1f} %", "") for title, each in arms]
    counts = outcome.counts
    changes = [f"{counts[name]:,} {word}" for name, word in CHANGES.items() if counts[name]]
    return [*shares, ("Training images", f"{counts['kept']:,}", ", ".join(changes) or "none changed")]


def _accuracy(v: Verification, outcome: Outcome) -> float:
    """Per cent of the test rows that are right, mean of the trainings."""
    return float(100 * (outcome.predicted == v.test.labels).mean())


def _differences(given: Comparison, random: Comparison | None) -> list[dict[str, Any]]:
    """Accuracy, the worst class and group, and log-loss, each against the data as given and against the control."""
    rows = []
    pairs = [(AGAINST_GIVEN, given), *([(AGAINST_RANDOM, random)] if random else [])]
    for against, found in pairs:
        shares = {"Accuracy": found.accuracy, "Worst class": found.worst_class}
        shares |= {f"Worst {group_title(name)}": each for name, each in found.worst.items() if name != CLASS}
        rows += [_difference(name, POINTS, against, each, 100.0) for name, each in shares.items()]
        rows.append(_difference("Log-loss", NATS, against, found.log_loss, 1.0))
    return rows


def _difference(name: str, unit: str, against: str, found: Difference, factor: float) -> dict[str, Any]:
    value, low, high = (factor * each for each in (found.value, found.low, found.high))
    words = told(value, low, high, 1 if factor > 1 else 3)
    return {"name": name, "unit": unit, "against": against, "value": value, "low": low, "high": high, "told": words}


def told(value: float, low: float, high: float, digits: int = 1) -> str:
    """A difference in figures: `+2.1 [−0.3, 4.5]`."""
    ends = [signed(each, digits) for each in (value, low, high)]
    plus = "+" if value > 0 and float(ends[0]) else ""
    return f"{plus}{ends[0]} [{ends[1]}, {ends[2]}]"


def drawn(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a grouping that a picture shows: those with test images, the largest losses first."""
    return [row for row in rows if row["test_images"]][:MOST_VALUES]


def group_title(grouping: str) -> str:
    """A grouping in words: `meta_camera` becomes "camera"."""
    return grouping.removeprefix("meta_").replace("_", " ")


def _loss(row: Loss) -> dict[str, Any]:
    """A class or group as a row of a picture and of a table; points None where no test row is of it."""
    found = row.difference
    ends = {name: 100 * getattr(found, name) if found else None for name in ("value", "low", "high")}
    return {
        "name": row.value, "images": row.images, "share": row.share, "changed": row.changed,
        "changed_share": row.changed_share, "test_images": row.test_images, "before": row.before, "after": row.after,
        **ends, "told": _points(found) if found else "no test image", "pays": row.pays,
    }  # fmt: skip


def _row(v: Verification, outcome: Outcome) -> dict[str, Any]:
    """An arm as a row of a table: what it changes, what it reaches, and how it stands against the two others."""
    counts, name = outcome.counts, outcome.name
    control = v.control(name)
    of = f" ({v.outcome(outcome.control_of).title})" if outcome.control_of else ""
    row = {
        "arm": f"{outcome.title}{of}", **{each: counts[each] for each in ("kept", *CHANGES)},
        "accuracy": _accuracy(v, outcome), "given": "", "random": "", "log_loss": "", "worst_class": "", "verdict": "",
    }  # fmt: skip
    if name == GIVEN:
        return row
    found = compare(v, name)
    row |= {"given": _points(found.accuracy), "worst_class": _points(found.worst_class)}
    row["log_loss"] = told(found.log_loss.value, found.log_loss.low, found.log_loss.high, 3)
    if control:
        row["random"] = _points(compare(v, name, control.name).accuracy)
    return row if outcome.control_of else {**row, "verdict": verdict(v, name).word}


def _points(found: Difference) -> str:
    return told(100 * found.value, 100 * found.low, 100 * found.high)


def _curves(v: Verification, outcomes: Sequence[Outcome]) -> dict[str, list[dict[str, Any]]]:
    """A line for each arm and measure: mean, lowest and highest of the seeds, per epoch."""
    return {
        title: [
            {"name": each.title, "random": bool(each.control_of), **_line(each.curves[measure], measure)}
            for each in outcomes
            if measure in each.curves
        ]
        for measure, title in MEASURES.items()
        if measure in v.outcomes[0].curves
    }


def _line(curve: Float[Array, "k t"], measure: str) -> dict[str, list[float]]:
    values = np.asarray(curve, float) * (100.0 if measure == "accuracy" else 1.0)
    ends = {"mean": values.mean(axis=0), "low": values.min(axis=0), "high": values.max(axis=0)}
    return {name: [float(each) for each in line] for name, line in ends.items()}


def _card(change: Change) -> dict[str, Any]:
    """A test image whose prediction changed: its label, the prediction before and after, in how many trainings."""
    seen = f"in {change.seeds} of {change.of} trainings" if change.of > 1 else ""
    return {"id": change.id, "label": change.label, "before": change.before, "after": change.after, "seen": seen}
