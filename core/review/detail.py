"""One sample in full: everything a large view says of it, as plain values ready for JSON.

`detail` gathers the evidence of one sample, `history_rows` words what was decided about it. Both only look up what the
findings, the manifest and the log hold; nothing is computed anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from core.catalogue import SCORE_INFO
from core.errors import InputError
from core.findings import SPACES, Findings
from core.reasons import HEAD, WHILE_LEARNING, kind
from core.review.copies import copies_of
from core.review.decisions import ACTIONS, EXCLUDE, KEEP, RELABEL, UNDECIDED, UNSURE
from core.review.flags import TRAIN
from core.review.marks import FACTS, meta_of

MOST_PROBABILITIES = 9
UNSUSPICIOUS = 50.0  # an example of a class stands in the calmer half of the ranking
_NO_EXAMPLE = (RELABEL, EXCLUDE, UNSURE)  # a person doubted its label
_WORDS = {KEEP: "keep the label", EXCLUDE: "exclude", UNSURE: "unsure", UNDECIDED: "decision cleared"}


def detail(
    findings: Findings, table_rows: pd.DataFrame, decisions: pd.DataFrame, sample_id: str, k: int = 6,
    copies: pd.DataFrame | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything a large view shows of one sample.

    Args:
        findings: of the run.
        table_rows: `Manifest.rows`.
        decisions: `Review.current()`.
        sample_id: the sample.
        k: how many neighbours in each space.
        copies: `core.extras.known_copies`, None where they were not looked for.

    Returns:
        id, path ("" where the image is no file of its own), split, given, suggested, suggested_prob, suggested_by,
        predicted, predicted_prob, suspicion, reason and kind as in the findings;
        "decision": what is in effect (action, label, reviewer, when, note), or None;
        "scores": name, title, meaning, percentile (0-100, high = suspicious), raw, suspicious_end of the raw value
        (high or low), acted_on, spread of the percentile over trainings (None where there was one), and part: whether
        `suspicion` is made of it. Its parts come first, then the others by percentile;
        "probabilities": label and p of the out-of-sample head, the likeliest first;
        "neighbours": per space, id, label and similarity of the nearest training images;
        "examples": the surest training image of the given class and of the suggested one, see `_example`; None where
        there is none, or where the suggested class is the given one;
        "curve": probability of the given label at every epoch; size in pixels, sha256, group;
        "spread" of the suspicion over trainings; "copies": the other images that show the same picture (id, label,
        split, kind, difference); "meta": values of the columns that travel along; "facts" about the picture in words.
        A value that is unknown is None.

    Raises:
        InputError: the findings hold no such sample.
    """
    table = findings.samples
    if sample_id not in table.index:
        raise InputError(f"There is no sample {sample_id!r} in this run. Choose one from the review.")
    at = int(table.index.get_indexer(pd.Index([sample_id]))[0])
    row, known = table.iloc[at], _manifest_row(table_rows, sample_id, at)
    given, suggested = _text(row["given_label"]), _text(row["suggested_label"])
    memorised = bool(findings.run.get("suspicion", {}).get("memorised", False))
    return {
        "id": sample_id,
        "path": _text(row["filepath"]) or "",
        "split": str(row["split"]),
        "given": given,
        "suggested": suggested,
        "suggested_prob": _number(row["suggested_prob"]),
        "suggested_by": (WHILE_LEARNING if memorised else HEAD).rstrip(","),
        "predicted": _text(row["predicted_label"]),
        "predicted_prob": _number(row["predicted_prob"]),
        "suspicion": _number(row["suspicion"]),
        "reason": str(row["reason"]),
        "kind": kind(str(row["reason"]), given),
        "decision": _decision(decisions, sample_id),
        "scores": _scores(findings, row),
        "probabilities": _probabilities(findings, at),
        "neighbours": {space: _neighbours(findings, space, at, k) for space in SPACES},
        "examples": {
            "given": _example(findings, decisions, given, at),
            "suggested": _example(findings, decisions, suggested, at) if suggested != given else None,
        },
        "curve": [_number(value) for value in findings.curves[:, at]],
        "size": [int(known["width"]), int(known["height"])] if known else None,
        "sha256": _text(known.get("sha256")),
        "group": _text(known.get("group")),
        "spread": _number(row.get("spread_suspicion")),
        "copies": copies_of(copies, table, sample_id),
        "meta": meta_of(known),
        "facts": [fact for fact in (_text(row.get(FACTS)) or "").split(", ") if fact],
    }


def history_rows(events: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What was decided, undone and redone, newest first, in plain words: when, who, what, note, in_effect.

    Args:
        events: `Review.history(…)`, oldest first.

    Returns:
        "in_effect" is true for the decision that holds now: of each sample the last one that is not undone.
    """
    listed = list(events)
    holds = {event["sample_id"]: event["event_id"] for event in listed if event["in_effect"]}
    said: dict[str, list[str]] = {}  # what each batch decided
    for event in listed:
        if event["kind"] == "decide" and _said(event) not in said.setdefault(event["batch"], []):
            said[event["batch"]].append(_said(event))
    rows = [
        {
            "when": _when(event["decided_at"]),
            "who": str(event["reviewer"]),
            "what": _said(event) if event["kind"] == "decide" else f"{event['kind']}: {_joined(said, event)}",
            "note": event.get("note") or "",
            "in_effect": event["kind"] == "decide" and holds.get(event["sample_id"]) == event["event_id"],
        }
        for event in listed
    ]
    return rows[::-1]


def _scores(findings: Findings, row: pd.Series[Any]) -> list[dict[str, Any]]:
    parts = tuple(findings.run.get("suspicion", {}).get("scores", ()))
    rows = [_score(name, row, name in parts) for name in findings.score_names]
    return sorted(rows, key=lambda each: (not each["part"], math.inf if (p := each["percentile"]) is None else -p))


def _score(name: str, row: pd.Series[Any], part: bool) -> dict[str, Any]:
    info = SCORE_INFO.get(name)  # a run of another version may hold scores that this one does not know
    return {
        "name": name,
        "title": info.title if info else name,
        "meaning": info.meaning if info else "",
        "percentile": _number(row[f"score_{name}"]),
        "raw": _number(row.get(f"raw_{name}")),
        "spread": _number(row.get(f"spread_{name}")),
        "suspicious_end": info.suspicious_end if info else None,
        "acted_on": info.acted_on if info else "",
        "part": part,
    }


def _probabilities(findings: Findings, at: int) -> list[dict[str, Any]]:
    shares = np.asarray(findings.head_probabilities[at])
    best = np.argsort(-shares, kind="stable")[:MOST_PROBABILITIES]
    return [{"label": findings.classes[code], "p": _number(shares[code])} for code in best]


def _neighbours(findings: Findings, space: str, at: int, k: int) -> list[dict[str, Any]]:
    """The nearest training images with the labels they carry; none where the run keeps no such neighbours."""
    if space not in findings.neighbours:
        return []
    near = findings.neighbours[space]
    rows, similarity = np.asarray(near.rows[at, :k]), np.asarray(near.similarity[at, :k])
    ids, labels = findings.samples.index[rows], findings.samples["given_label"].iloc[rows]
    return [
        {"id": str(each), "label": str(label), "similarity": _number(share)}
        for each, label, share in zip(ids, labels, similarity, strict=True)
    ]


def _example(findings: Findings, decisions: pd.DataFrame, label: str | None, at: int) -> str | None:
    """The id of the surest training image of a class: the highest head probability of its own given label.

    Asked are those of at most `UNSUSPICIOUS`, and the others only where none of them will do; never one whose label a
    person doubted, nor the sample at row `at` itself.
    """
    if label is None or label not in findings.classes:
        return None
    table = findings.samples
    rows = np.flatnonzero(((table["given_label"] == label) & (table["split"] == TRAIN)).to_numpy(bool))
    sure = np.asarray(findings.head_probabilities[rows, findings.classes.index(label)])
    suspicious = table["suspicion"].to_numpy(float)[rows] > UNSUSPICIOUS
    passed_over = {*decisions.index[decisions["action"].isin(_NO_EXAMPLE).to_numpy(bool)], table.index[at]}
    ordered = (str(table.index[row]) for row in rows[np.lexsort((-sure, suspicious))])
    return next((each for each in ordered if each not in passed_over), None)


def _decision(decisions: pd.DataFrame, sample_id: str) -> dict[str, Any] | None:
    if sample_id not in decisions.index:
        return None
    row = decisions.loc[sample_id]
    names = {"action": "action", "label": "final_label", "reviewer": "reviewer", "when": "decided_at", "note": "note"}
    told = {key: _text(row[name]) for key, name in names.items()}
    return told | {"when": _when(told["when"])}


def _manifest_row(rows: pd.DataFrame, sample_id: str, at: int) -> dict[str, Any]:
    """The manifest's row of a sample: at the same place as in the findings, unless the manifest was read anew."""
    ids = rows["sample_id"]
    if at >= len(rows) or ids.iat[at] != sample_id:
        places = np.flatnonzero((ids == sample_id).to_numpy(bool))
        if not len(places):
            return {}
        at = int(places[0])
    return {str(name): value for name, value in rows.iloc[at].items()}


def _said(event: Mapping[str, Any]) -> str:
    """A decision in words."""
    action = str(event["action"])
    return f"relabel to {event['label']}" if action == RELABEL else _WORDS[action] if action in ACTIONS else action


def _joined(said: Mapping[str, list[str]], event: Mapping[str, Any]) -> str:
    return ", ".join(said.get(str(event["target"]), ["a decision"]))


def _when(stamp: str | None) -> str:
    """A time of the log to the second, in UTC; a text that is no time as it is."""
    try:
        return f"{datetime.fromisoformat(str(stamp)).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError):
        return str(stamp or "")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float | np.number) and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return None if value is None or value is pd.NA or value != value else str(value)
