"""Arms: the ways to make a training set that are compared, each as kept rows, labels and weights.

- `given`: everything as it came.
- `decided`: what a person (or another tool's table) decided: rows left out, rows relabelled.
- `requested`: what a score alone would do, from a text such as `remove:oga_l2:500`.
- `control`: as many as another arm changes, per given class, removed at random (for an up-weighting arm: counted more
  often at random). A removing arm that is no better than its control owes its effect to the number of rows, not to
  which rows they are. A relabelling arm keeps the rows that its control loses, so it may be better by that alone.

Rows are the training rows of the manifest in its order. Nothing here knows how anything is trained.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from core.axes import Array, Bool, Float, Int, Integer
from core.errors import InputError, SettingsError
from core.review.decisions import EXCLUDE, RELABEL
from core.review.flags import SUSPICION, TRAIN, Budget, flag, score_column

GIVEN, DECIDED, CONTROL = "given", "decided", "random for "
REMOVE, RELABEL_ARM, UPWEIGHT = "remove", "relabel", "upweight"
PER_CLASS = "per-class"
FACTOR = 4.0  # how many times an up-weighted row counts, unless the request says otherwise
REQUESTS = (
    f"{REMOVE}:SCORE:K, {RELABEL_ARM}:SCORE:K or {UPWEIGHT}:SCORE:K[:FACTOR] with K such as 500 or 5%, "
    f"and :{PER_CLASS} at the end for the same share of each class"
)


@dataclass(frozen=True)
class Arm:
    """One way to make the training set.

    Attributes:
        name: the key, unique among the arms of a verification; a control's is "random for <name>".
        title: what a person reads.
        kept: rows that are trained on, `n`.
        labels: class codes to train with, `n`.
        weights: of each row in the loss, `n`; their mean over the kept rows is 1.
        control_of: the name of the arm whose control this is.
    """

    name: str
    title: str
    kept: Bool[Array, " n"]
    labels: Integer[Array, " n"]
    weights: Float[Array, " n"]
    control_of: str = ""

    def removed(self) -> Bool[Array, " n"]:
        """The rows that are left out."""
        return np.asarray(~self.kept)

    def relabelled(self, given: Integer[Array, " n"]) -> Bool[Array, " n"]:
        """The rows that are trained on with another label than the given one."""
        return np.asarray(self.kept & (self.labels != given))

    def weighted(self) -> Bool[Array, " n"]:
        """The rows that are trained on and count more than others."""
        least = self.weights[self.kept].min(initial=np.inf)
        return np.asarray(self.kept & (self.weights > least))

    def changed(self, given: Integer[Array, " n"]) -> Bool[Array, " n"]:
        """The rows that are left out or relabelled."""
        return np.asarray(~self.kept | (self.labels != given))

    def counts(self, given: Integer[Array, " n"]) -> dict[str, int]:
        """How many rows are "kept", "removed", "relabelled" and "weighted", against the given labels."""
        parts = {
            "kept": self.kept, "removed": self.removed(), "relabelled": self.relabelled(given),
            "weighted": self.weighted(),
        }  # fmt: skip
        return {name: int(rows.sum()) for name, rows in parts.items()}

    def changed_per(
        self, given: Integer[Array, " n"], groups: Mapping[str, Sequence[str]]
    ) -> dict[str, dict[str, int]]:
        """How many of the training rows of each value are left out or relabelled.

        Args:
            given: class codes as given.
            groups: grouping to the value of each training row.

        Returns:
            Per grouping and value (all values, also those that lose none) a number of rows.
        """
        changed = self.changed(given)
        return {
            grouping: {
                **dict.fromkeys(sorted(set(values)), 0),
                **Counter(value for value, gone in zip(values, changed, strict=True) if gone),
            }
            for grouping, values in groups.items()
        }


def given(labels: Integer[Array, " n"]) -> Arm:
    """The training set as it came."""
    return Arm(GIVEN, "as given", np.ones(len(labels), bool), np.asarray(labels), np.ones(len(labels)))


def decided(
    ids: Sequence[str],
    labels: Integer[Array, " n"],
    classes: Sequence[str],
    decisions: pd.DataFrame,
    name: str = DECIDED,
    title: str = "with the decisions",
) -> Arm:
    """The training set as decided: excluded rows left out, relabelled rows with their new label.

    Args:
        ids: of the training rows; a decision on any other id changes nothing.
        labels: class codes as given, in the order of `ids`.
        classes: class names; a code is a position here.
        decisions: `Review.current()`.
        name: of the arm.
        title: of the arm.

    Raises:
        InputError: a relabelling to a class that there is not, or no row is left to train on.
    """
    made = given(labels)
    rows = decisions.reindex(list(ids))
    action = rows["action"].to_numpy(object)
    moved = action == RELABEL
    new = _codes(rows["final_label"].to_numpy(object)[moved], classes)
    codes = made.labels.copy()
    codes[moved] = new
    return _with_rows(Arm(name, title, action != EXCLUDE, codes, made.weights))


def requested(text: str, table: pd.DataFrame, labels: Integer[Array, " n"], classes: Sequence[str]) -> Arm:
    """The training set as a score alone would change it.

    `remove:SCORE:K` leaves the K most suspicious out. `relabel:SCORE:K` gives the K most suspicious of the rows whose
    suggested label is another than the given one that label. `upweight:SCORE:K:FACTOR` lets the K most suspicious count
    FACTOR times as much. K is a number of rows or a share of the training rows. SCORE is `suspicion` or the name of a
    score; equal values go by sample_id, as in `core.review.flags`. `:per-class` takes the same share of each class.

    Args:
        text: the request.
        table: `Findings.table()`; held-out rows are passed over.
        labels: class codes as given, of the training rows in the order of `table`.
        classes: class names.

    Raises:
        InputError: an unknown form or score, or an arm that changes nothing or leaves nothing.
        SettingsError: an amount or a factor that cannot be read or is outside its range.
    """
    action, score, budget, factor, per_class = _parsed(text)
    rows = table[(table["split"] == TRAIN).to_numpy(bool)]
    if len(rows) != len(labels):
        raise InputError(f"{len(labels)} labels were given for {len(rows)} training rows. Give one for each.")
    suggested = _suggested(rows, labels, classes) if action == RELABEL_ARM else None
    chosen = _chosen(rows, score, budget, per_class, None if suggested is None else suggested != labels)
    if not chosen.any():
        raise InputError(f"The arm {text!r} changes no row. Give a larger amount, or another score.")
    made = given(labels)
    kept = ~chosen if action == REMOVE else made.kept
    codes = made.labels if suggested is None else np.where(chosen, suggested, made.labels)
    if action == UPWEIGHT and chosen.all():
        raise InputError(f"The arm {text!r} counts every row alike, which changes nothing. Give a smaller amount.")
    weights = _weights(chosen, factor) if action == UPWEIGHT else made.weights
    title = _title(action, score, int(chosen.sum()), factor, per_class)
    return _with_rows(Arm(":".join(_fields(text)), title, kept, codes, weights))


def control(arm: Arm, labels: Integer[Array, " n"], seed: int) -> Arm:
    """As many rows left out at random, of each given class, as `arm` leaves out or relabels there.

    For an arm that up-weights: the same weights on as many random rows of each given class.

    Args:
        arm: the arm to control.
        labels: class codes as given.
        seed: another seed draws other rows.
    """
    rng = np.random.default_rng(seed)
    changed, kept, weights = arm.changed(labels), np.ones(len(labels), bool), np.ones(len(labels))
    for code in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == code))
        kept[rows[: int(changed[rows].sum())]] = False
        weights[rows] = arm.weights[np.sort(rows)]
    what = "up-weighted" if arm.weighted().any() else "removed"
    return Arm(f"{CONTROL}{arm.name}", f"as many {what} at random", kept, np.asarray(labels), weights, arm.name)


def decisions_mark(decisions: pd.DataFrame, ids: Iterable[str]) -> dict[str, int | str]:
    """What a verification notes of the decisions it was made with: "changed" rows, and a "digest" of what they say.

    Args:
        decisions: `Review.current()`.
        ids: of the training rows; other decisions do not count.
    """
    changing = decisions[decisions["action"].isin([RELABEL, EXCLUDE]).to_numpy(bool)]
    changing = changing[changing.index.isin(list(ids))].sort_index()
    rows = zip(changing.index, changing["action"], changing["final_label"], strict=True)
    said = [[str(sample), str(action), str(label) if action == RELABEL else ""] for sample, action, label in rows]
    return {"changed": len(said), "digest": hashlib.sha256(json.dumps(said).encode()).hexdigest()}


def _fields(text: str) -> list[str]:
    return [part.strip() for part in text.split(":")]


def _parsed(text: str) -> tuple[str, str, Budget, float, bool]:
    """Action, score, amount, factor, and whether the amount is a share of each class."""
    parts = _fields(text)
    per_class = parts[-1] == PER_CLASS
    parts = parts[:-1] if per_class else parts
    most = 4 if parts[0] == UPWEIGHT else 3
    if parts[0] not in (REMOVE, RELABEL_ARM, UPWEIGHT) or not 3 <= len(parts) <= most:
        raise InputError(f"The arm {text!r} is not understood. Write {REQUESTS}.")
    return parts[0], parts[1], Budget.parse(parts[2]), _factor(parts[3]) if len(parts) == 4 else FACTOR, per_class


def _factor(text: str) -> float:
    try:
        factor = float(text)
    except ValueError:
        factor = np.nan
    if not 1.0 < factor <= 1000.0:
        raise SettingsError(f"A row cannot be made to count {text!r} times. Give a factor above 1, at most 1000.")
    return factor


def _chosen(
    rows: pd.DataFrame, score: str, budget: Budget, per_class: bool, eligible: Bool[Array, " n"] | None
) -> Bool[Array, " n"]:
    """The most suspicious rows; one that is not eligible is ranked as a row without the score."""
    column = score_column(rows, score)
    kept = rows[["split", "given_label", column]]
    if eligible is not None:
        kept = kept.assign(**{column: kept[column].where(eligible)})
    found = flag(kept, score, budget)["flagged_per_class" if per_class else "flagged"]
    return np.asarray(found.reindex(rows.index).to_numpy(bool))


def _suggested(rows: pd.DataFrame, labels: Integer[Array, " n"], classes: Sequence[str]) -> Int[Array, " n"]:
    """The code of each row's suggested label; the given one where none is suggested."""
    codes = pd.Index(list(classes)).get_indexer(pd.Index(rows["suggested_label"].astype(object)))
    return np.where(codes >= 0, codes, labels).astype(np.int64)


def _weights(chosen: Bool[Array, " n"], factor: float) -> Float[Array, " n"]:
    weights = np.where(chosen, factor, 1.0)
    return np.asarray(weights / weights.mean())


def _codes(names: Array, classes: Sequence[str]) -> Int[Array, " r"]:
    codes = pd.Index(list(classes)).get_indexer(pd.Index(names, dtype=object)).astype(np.int64)
    if (codes < 0).any():
        unknown = Counter(str(name) for name in names[codes < 0])
        raise InputError(
            f"{', '.join(map(repr, list(unknown)[:3]))} is not among the {len(classes)} classes. "
            "Relabel to one of them, or leave the row out."
        )
    return np.asarray(codes)


def _with_rows(arm: Arm) -> Arm:
    if not arm.kept.any():
        raise InputError(f"The arm {arm.title!r} leaves no row to train on. Change fewer.")
    return arm


def _title(action: str, score: str, count: int, factor: float, per_class: bool) -> str:
    by = "" if score == SUSPICION else f" by {score}"
    share = ", the same share of each class," if per_class else ""
    done = {REMOVE: "removed", RELABEL_ARM: "relabelled as suggested", UPWEIGHT: f"counted {factor:g} times"}
    return f"{count:,} most suspicious{by}{share} {done[action]}"
