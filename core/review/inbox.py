"""What a browser sends: key presses in, and the answers from which it draws.

`accept` takes a browser's outbox, as often as it is sent: every event is written once, by its id, and is answered as
stored or refused. `history` is what the person can undo and redo, `state_of` what holds for the images of a page.
What comes in is input from outside: any value of any type is answered, none is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import pandas as pd

from core.errors import DecisionError, ProjectError
from core.review.decisions import ACTIONS, UNDECIDED, Review
from core.review.log import Row, Writing

MOST = 5_000  # events looked at in one call; the browser sends the rest again
LONGEST = 4_096  # characters of a sample id or a label
LONGEST_ID = 200  # characters of an event's or a batch's id
LONGEST_REASON = 300  # characters of a refusal
WAIT = 5.0  # seconds for another process that writes; then the browser is told to send again
DECIDE, UNDO, REDO = "decide", "undo", "redo"


@dataclass(frozen=True)
class Receipt:
    """What became of an outbox.

    Attributes:
        stored: event ids that are on disk, also from an earlier call: the browser may forget them.
        refused: event id to the reason why it can never be stored: the browser takes it back and shows the reason.
        failed: why nothing can be written now; the browser keeps what is neither stored nor refused and sends it again.
    """

    stored: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    failed: str | None = None

    def plain(self) -> dict[str, Any]:
        """The receipt as the browser reads it."""
        return {"stored": list(self.stored), "refused": dict(self.refused), "failed": self.failed}


@dataclass(frozen=True)
class _Step:
    """One key press: the events of one decision, or one undo or redo."""

    kind: str
    batch: str | None
    events: list[Mapping[str, Any]]

    @property
    def ids(self) -> list[str]:
        return [event["event_id"] for event in self.events]


def accept(review: Review, outbox: object, suspicion: pd.Series[Any] | None = None) -> Receipt:
    """Record what a browser sent, in its order; each key press whole or not at all, each event once.

    Args:
        review: in whose name.
        outbox: a list of events. {"event_id", "kind": "decide", "batch", "sample_id", "action", "label"}, one for each
            sample, those of one key press sharing `batch`; or {"event_id", "kind": "undo" | "redo", "batch"}, where
            batch is the decision's, or None for the reviewer's last. Other keys are passed over. What has no usable
            event id cannot be answered and is passed over. Of two events of one id the first counts.
        suspicion: by sample id, what the person saw beside the image; kept with the decision.
    """
    steps, refused = _steps(_usable(outbox))
    if not steps:
        return Receipt(refused=refused)
    if review.log.read_only:
        return _read_only(review, steps, refused)
    stored: list[str] = []
    try:
        with review.log.writing(WAIT) as writing:
            for step in steps:
                reasons = _record(review, writing, step, suspicion)
                refused |= reasons
                stored += [] if reasons else step.ids
    except (DecisionError, ProjectError) as error:  # of the log itself: no event is on disk, none is answered
        return Receipt(failed=str(error))
    review.log.stay_open()
    return Receipt(tuple(stored), refused)


def history(review: Review, ids: Sequence[str], depth: int = 50) -> dict[str, list[dict[str, Any]]]:
    """What the reviewer can undo and redo, newest first, for a page that shows the images `ids`.

    Returns:
        {"undo": [{"batch", "count", "before"}, …], "redo": [{"batch", "count", "after"}, …]}: at most `depth` each;
        count is the samples of the whole batch; before and after hold [action, label] by sample id, for those of `ids`
        in the batch: what holds after it, and all above it in its list, are undone or redone.
    """
    piles = review.log.piles(review.reviewer, list(ids), depth)
    told: dict[str, list[Row]] = {}
    touched: dict[str, list[str]] = {}
    for row in piles.decisions:
        told.setdefault(row["sample_id"], []).append(row)
        touched.setdefault(row["batch"], []).append(row["sample_id"])
    holds = {row["batch"] for row in piles.decisions if row["in_effect"]}

    def states(batch: str) -> dict[str, list[str | None]]:
        return {sample: _latest(told[sample], holds) for sample in touched.get(batch, ())}

    undo, redo, now = [], [], set(holds)
    for batch, count in piles.done:
        holds.discard(batch)
        undo.append({"batch": batch, "count": count, "before": states(batch)})
    holds = now
    for batch, count in piles.undone:
        holds.add(batch)
        redo.append({"batch": batch, "count": count, "after": states(batch)})
    return {"undo": undo, "redo": redo}


def state_of(decisions: pd.DataFrame, ids: Sequence[str]) -> dict[str, dict[str, str | None]]:
    """What holds for those of `ids` that are decided: {sample_id: {"action", "label", "reviewer"}}.

    Args:
        decisions: `Review.current()`.
        ids: sample ids.
    """
    place = decisions.index.get_indexer(pd.Index(list(ids), dtype="str"))
    found = decisions.iloc[place[place >= 0]]
    columns = (found["action"], found["final_label"], found["reviewer"])
    return {
        str(sample): {"action": str(action), "label": label if isinstance(label, str) else None, "reviewer": str(who)}
        for sample, action, label, who in zip(found.index, *columns, strict=True)
    }


def _latest(rows: Sequence[Row], holds: set[str]) -> list[str | None]:
    """What the last of a sample's decisions says whose batch is in `holds`."""
    for row in reversed(rows):
        if row["batch"] in holds:
            return [row["action"], row["label"]]
    return [UNDECIDED, None]


def _usable(outbox: object) -> list[Mapping[str, Any]]:
    """The events that can be answered, each id once."""
    if not isinstance(outbox, list | tuple):
        return []
    found: dict[str, Mapping[str, Any]] = {}
    for event in outbox:
        if isinstance(event, Mapping) and _is_text(event.get("event_id"), LONGEST_ID):
            found.setdefault(event["event_id"], event)
    return list(found.values())


def _steps(events: Sequence[Mapping[str, Any]]) -> tuple[list[_Step], dict[str, str]]:
    """The key presses of the first `MOST` events, and why others are none.

    Events of one batch belong together wherever they stand, and a batch that goes beyond the limit waits for the next
    call. One that is larger than the limit is refused.
    """
    steps: dict[str, _Step] = {}
    wrong: dict[str, str] = {}
    refused: dict[str, str] = {}
    for event in events:
        key = f"b:{event['batch']}" if _is_decision(event) else f"e:{event['event_id']}"
        if problem := _malformed(event):
            refused[event["event_id"]] = problem
            wrong.setdefault(key, problem)
        elif key in steps:
            steps[key].events.append(event)
        else:
            steps[key] = _Step(event["kind"], event.get("batch"), [event])
    for key in [key for key in steps if key in wrong]:
        refused |= dict.fromkeys(steps.pop(key).ids, _with_it(wrong[key]))
    for key in [key for key, step in steps.items() if len(step.events) > MOST]:
        problem = f"More than {MOST:,} images in one key press cannot be recorded. Choose fewer."
        refused |= dict.fromkeys(steps.pop(key).ids, problem)
    return list(_first(steps.values())), refused


def _first(steps: Iterable[_Step]) -> Iterator[_Step]:
    """The steps up to the limit."""
    left = MOST
    for step in steps:
        left -= len(step.events)
        if left < 0:
            return
        yield step


def _is_decision(event: Mapping[str, Any]) -> bool:
    return event.get("kind") == DECIDE and _is_text(event.get("batch"), LONGEST_ID)


def _malformed(event: Mapping[str, Any]) -> str | None:
    """What is wrong with the shape of an event."""
    kind, batch = event.get("kind"), event.get("batch")
    if kind not in (DECIDE, UNDO, REDO):
        return "This is no decision, undo or redo. Load the page again."
    if not (_is_text(batch, LONGEST_ID) or (batch is None and kind != DECIDE)):
        return f"The batch of a {kind} has to be a text of 1 to {LONGEST_ID} characters. Load the page again."
    if kind != DECIDE:
        return None
    if not _is_text(event.get("sample_id"), LONGEST):
        return f"The sample_id has to be a text of 1 to {LONGEST:,} characters. Load the page again."
    if event.get("action") not in tuple(ACTIONS):
        return f"The action is not known. Choose from {', '.join(ACTIONS)}."
    label = event.get("label")
    return None if label is None or _is_text(label, LONGEST) else "The label has to be a text. Choose a class."


def _is_text(value: object, longest: int) -> bool:
    """Whether it is a text that can be stored: not empty, not too long, no half characters."""
    return isinstance(value, str) and 0 < len(value) <= longest and value.encode(errors="replace").decode() == value


def _record(
    review: Review, writing: Writing, step: _Step, suspicion: pd.Series[Any] | None
) -> dict[str, str]:  # fmt: skip
    """Record one key press; returns why not, by event id."""
    try:
        if step.kind == DECIDE:
            reasons = _against(review, step)
            if not reasons:
                rows = [_row(event, suspicion) for event in step.events]
                writing.append(rows, reviewer=review.reviewer, batch=step.batch)
            return reasons
        turn = writing.undo if step.kind == UNDO else writing.redo
        turn(reviewer=review.reviewer, event_id=step.ids[0], target=step.batch)
    except DecisionError as error:
        return dict.fromkeys(step.ids, _cut(str(error)))
    return {}


def _against(review: Review, step: _Step) -> dict[str, str]:
    """Why a decision cannot be recorded, by event id: all of its events, where one has something against it."""
    wrong = {
        event["event_id"]: _cut(problem) for event in step.events if (problem := review.problem(_row(event, None)))
    }
    return {event_id: wrong.get(event_id) or _with_it(next(iter(wrong.values()))) for event_id in step.ids if wrong}


def _row(event: Mapping[str, Any], suspicion: pd.Series[Any] | None) -> Row:
    row = {name: event.get(name) for name in ("event_id", "sample_id", "action", "label")}
    seen = None if suspicion is None else suspicion.get(event["sample_id"])
    return row | {"suspicion": float(seen) if isinstance(seen, Real) and seen == seen else None}


def _read_only(review: Review, steps: Sequence[_Step], refused: Mapping[str, str]) -> Receipt:
    """Nothing is written; what is in the log already is not called refused."""
    reason = "The project is open for reading only, so nothing is recorded. Open it for writing to decide."
    ids = [event_id for step in steps for event_id in step.ids]
    try:
        known = review.log.stored(ids)
    except (DecisionError, ProjectError):
        known = set()
    stored = tuple(event_id for event_id in ids if event_id in known)
    return Receipt(stored, {**refused, **{event_id: reason for event_id in ids if event_id not in known}})


def _with_it(problem: str) -> str:
    return _cut(f"Another image of the same key press cannot be recorded: {problem}")


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 1]}…"
