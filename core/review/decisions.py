"""What a person decided: the rules of a decision, on top of the log that keeps it.

    review = Review(project, reviewer="ann")
    review.decide(["cats/7.png"], "relabel", label="dog", note="floppy ears")
    review.undo()
    review.current()            # one row per sample with a decision in effect

One call of `decide` or `decide_many` is one batch, recorded whole or not at all, and one step of `undo`. The state of
a sample is its latest decision, by whomever, whose batch is not undone. A person undoes their own batches only, to
any depth, also after the program was closed. `core.review.log.DecisionLog` is the file below; use it alone where
there is no project.
"""

from __future__ import annotations

import getpass
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from core.errors import DecisionError
from core.review.log import DecisionLog, Row
from core.review.schema import FIELDS

if TYPE_CHECKING:
    from core.data.manifest import Manifest
    from core.project import Project
else:  # importing the classes costs more than it gives
    Project: TypeAlias = Any  # whatever has `manifest()` and `review_path`
    Manifest: TypeAlias = Any  # whatever has `rows` and `classes`

ACTIONS = {
    "undecided": "no decision: a former one is cleared",
    "keep": "the given label stays",
    "relabel": "another class, given as label",
    "exclude": "left out of the cleaned set",
    "unsure": "looked at; stays in with its given label and is counted",
}
UNDECIDED, KEEP, RELABEL, EXCLUDE, UNSURE = ACTIONS
CURRENT = ("action", "final_label", "reviewer", "decided_at", "note")


def snapshot(log: DecisionLog) -> tuple[pd.DataFrame, list[str]]:
    """`Review.current()` and `Review.to_jsonl()` of a log as of the same instant, whatever others do meanwhile."""
    current, events = log.snapshot()
    return _state(current), _lines(events)


def facts(manifest: Manifest) -> tuple[tuple[str, ...], dict[str, str], frozenset[str]]:
    """What `Review.of` needs of a manifest: classes, the given label of every id, and the ids that are held out."""
    rows = manifest.rows
    ids = rows["sample_id"].astype(str)
    given = dict(zip(ids, rows["given_label"].astype(str), strict=True))
    held_out = frozenset(ids[(rows["split"] != "train").to_numpy(bool)])
    return tuple(str(name) for name in manifest.classes), given, held_out


class Review:
    """The decisions of a project, read and added to in the name of one reviewer.

    Args:
        project: the project; its manifest says which ids, classes and labels there are, its folder holds the log.
        reviewer: in whose name to decide and undo; by default the name of the user that is logged in.
        read_only: refuse to write, and leave no trace while reading.

    Raises:
        DecisionError: an empty reviewer; a log that is busy, or cannot be written.
        ProjectError: a log that is damaged or of a newer version.
    """

    def __init__(self, project: Project, *, reviewer: str | None = None, read_only: bool = False) -> None:
        self._hold(*facts(project.manifest()), project.review_path, reviewer, read_only)

    @classmethod
    def of(
        cls, classes: Sequence[str], given: Mapping[str, str], held_out: Collection[str], path: Path, *,
        reviewer: str | None = None, read_only: bool = False,
    ) -> Review:  # fmt: skip
        """Return the review of a log at `path` whose project's `facts` are already known; costs next to nothing.

        Args:
            classes: class names.
            given: the given label of every sample id; held, not copied.
            held_out: the ids that are not for training; a frozenset is held, not copied.
            path: the log, `Project.review_path`.
            reviewer: as for the class.
            read_only: as for the class.

        Raises:
            DecisionError: an empty reviewer.
        """
        review = cls.__new__(cls)
        review._hold(classes, given, held_out, path, reviewer, read_only)
        return review

    def _hold(
        self, classes: Sequence[str], given: Mapping[str, str], held_out: Collection[str], path: Path,
        reviewer: str | None, read_only: bool,
    ) -> None:  # fmt: skip
        self.reviewer = _user() if reviewer is None else reviewer.strip()
        if not self.reviewer:
            raise DecisionError("The reviewer's name is empty. Give the name under which to record decisions.")
        self.log = DecisionLog(path, read_only=read_only)
        self._known: tuple[tuple[int, int], pd.DataFrame] | None = None  # the last answer of `current`
        self._classes, self._given, self._held_out = tuple(classes), given, frozenset(held_out)

    def decide(
        self,
        ids: str | Collection[str],
        action: str,
        label: str | None = None,
        note: str | None = None,
        events: Sequence[str] | None = None,
    ) -> str:
        """Record one decision for every sample of `ids` as one batch; returns the batch's id.

        Args:
            ids: sample ids (or one); an id named twice counts once.
            action: one of `ACTIONS`; "undecided" clears an earlier decision.
            label: the class to relabel to; only with "relabel".
            note: free text kept with each decision.
            events: an id for each event, in the order of `ids`: sending the same set again then changes nothing.

        Raises:
            DecisionError: an unknown id, action or class, a held-out sample, or a reused event id; nothing was
            recorded.
        """
        named = [ids] if isinstance(ids, str) else list(ids)
        event_ids: list[str | None] = [None] * len(named) if events is None else list(events)
        if len(event_ids) != len(named):
            raise DecisionError(f"{len(event_ids)} event ids were given for {len(named)} samples. Give one for each.")
        told = {"action": action, "label": label, "note": note}
        by_id: dict[str, dict[str, Any]] = {}
        for sample, event in zip(named, event_ids, strict=True):
            by_id.setdefault(sample, {"sample_id": sample, "event_id": event, **told})
        return self.decide_many(list(by_id.values()))

    def decide_many(self, events: Iterable[Mapping[str, Any]]) -> str:
        """Record different decisions as one batch; returns its id.

        Each event has sample_id and action, and optionally label, note, event_id and suspicion (the score the person
        saw); other keys are passed over, empty text and NaN count as not given. Of two events for one sample the
        later one holds.

        Raises:
            DecisionError: as `decide`; the message counts and names what cannot be recorded. Nothing was recorded.
        """
        rows = [_cleaned(event) for event in events]
        self._check(rows)
        return self.log.append(rows, reviewer=self.reviewer)

    def undo(self, event_id: str | None = None) -> str:
        """Take back this reviewer's last batch that is in effect; returns its id.

        Raises:
            DecisionError: there is none.
        """
        return self.log.undo(reviewer=self.reviewer, event_id=event_id)

    def redo(self, event_id: str | None = None) -> str:
        """Bring back the batch this reviewer undid last; returns its id.

        Raises:
            DecisionError: nothing was undone, or this reviewer has decided something since.
        """
        return self.log.redo(reviewer=self.reviewer, event_id=event_id)

    def current(self) -> pd.DataFrame:
        """The decisions in effect, indexed by sample_id in the order they were made: action, final_label, reviewer, …

        final_label is set by "relabel" only. Samples without a decision, or with a cleared one, have no row.
        """
        mark, known = self.log.mark(), self._known  # another thread may change `_known` meanwhile
        if known is None or known[0] != mark:
            fresh = None if known is None else self._grown(mark, *known)
            self._known = known = mark, _state(self.log.current()) if fresh is None else fresh
        return known[1].copy(deep=False)

    def _grown(self, mark: tuple[int, int], before: tuple[int, int], state: pd.DataFrame) -> pd.DataFrame | None:
        """The state as of `mark` out of an earlier one, where only decisions came in between; else None.

        The earlier state may hold some of them already: to add them again, in order, changes nothing.
        """
        if mark[0] != before[0] or mark[1] < before[1]:  # another file
            return None
        rows = self.log.since(before[1])
        if rows is None:
            return None
        latest: dict[str, Row] = {}
        for row in rows:
            latest.pop(row["sample_id"], None)  # so that the order is that of the last decisions
            latest[row["sample_id"]] = row
        places = state.index.get_indexer(pd.Index(list(latest), dtype="str"))
        stays = np.ones(len(state), bool)
        stays[places[places >= 0]] = False
        return pd.concat([state[stays], _state(list(latest.values()))])

    def history(self, sample_id: str | None = None) -> list[Row]:
        """Every event, oldest first, or those that touched one sample; `in_effect` tells what still holds."""
        return self.log.events(sample_id)

    def batches(self, last: int = 50) -> list[Row]:
        """The last batches of all reviewers, newest first: who, when, how many, which actions, `in_effect`."""
        return [row | {"actions": str(row["actions"]).split(",")} for row in self.log.batches(last)]

    def to_jsonl(self) -> list[str]:
        """The whole log, one JSON object per line without the line end, oldest first."""
        return _lines(self.log.events())

    def _check(self, rows: Sequence[Row]) -> None:
        wrong = [(row["sample_id"], problem) for row in rows if (problem := self.problem(row))]
        if not wrong:
            return
        kinds = Counter(problem for _, problem in wrong)
        told = "; ".join(f"{_some([s for s, p in wrong if p == problem])}: {problem}" for problem in list(kinds)[:3])
        raise DecisionError(f"{len(wrong)} of {len(rows)} decisions cannot be recorded, so none was. {told}")

    def problem(self, row: Mapping[str, Any]) -> str | None:
        """Why the decision `row` (sample_id, action, label) cannot be recorded, and what to do; None if it can."""
        sample, action, label = row["sample_id"], row["action"], row["label"]
        if sample not in self._given:
            return "unknown sample. Give a sample_id of this project's manifest."
        if sample in self._held_out:
            return "held-out rows are not reviewed here; make a project of their own."
        if action not in ACTIONS:
            return f"unknown action {action!r}. Choose from {', '.join(ACTIONS)}."
        if action != RELABEL:
            return f"a label ({label!r}) goes with relabel only, not with {action}. Leave it out." if label else None
        if label not in self._classes:
            return f"relabel needs a class as label, got {label!r}. Choose from {_some(self._classes, 12)}."
        if label == self._given[sample]:
            return f"{label!r} is the given label. Use keep to confirm it."
        return None


def _cleaned(event: Mapping[str, Any]) -> Row:
    row: Row = {name: _text(event.get(name)) for name in ("event_id", "sample_id", "action", "label", "note")}
    seen = event.get("suspicion")
    return row | {"suspicion": None if seen is None or pd.isna(seen) else float(seen)}


def _text(value: Any) -> str | None:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DecisionError(f"{text!r} holds half a character, which cannot be stored. Write it again.") from error
    return text or None


def _state(rows: Sequence[Row]) -> pd.DataFrame:
    held = [row for row in rows if row["action"] != UNDECIDED]
    columns = {
        name: pd.array([row["label" if name == "final_label" else name] for row in held], dtype="str")
        for name in CURRENT
    }
    index = pd.Index([row["sample_id"] for row in held], dtype="str", name="sample_id")
    return pd.DataFrame(columns, index=index)


def _lines(events: Sequence[Row]) -> list[str]:
    names = ("seq", *FIELDS)
    return [json.dumps({name: row[name] for name in names}, ensure_ascii=False) for row in events]


def _some(names: Collection[Any], most: int = 3) -> str:
    """The first few of `names` and how many more there are."""
    shown = ", ".join(repr(name) for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user in the password file, as in some containers
        return "unknown"
