"""The gallery of suspects: which rows, in which order, and what a card of them says.

`Filters` is what a person chose, to and from the address bar. `gallery` gives the rows it leaves, `page_of` a page of
them, `cards` what the grid draws, `pairs` the same rows by class pair, `progress` and `sentence` how far the review is.
Every filter only narrows; rank and flag are those of the whole ranking, as `core.review.flags.flag` gives them, worked
out here on arrays because a page asks for them at every key.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from core.axes import Array, Bool, Int
from core.errors import SettingsError
from core.findings import Findings
from core.reasons import KINDS, kind
from core.review.copies import STANDINGS
from core.review.decisions import ACTIONS, EXCLUDE, RELABEL, UNDECIDED
from core.review.flags import SUSPICION, TRAIN, Budget, score_column
from core.review.marks import COPIES, GROUPED
from core.review.present import with_decisions

PAGE_SIZE = 60
TOP = 9  # keys 1 to 9
DEFAULT_BUDGET = "5%"
ANY, OPEN, DONE = "any", "open", "done"
ALL_COPIES = (ANY, "copies", *STANDINGS)
DECISIONS = (ANY, OPEN, DONE, *(name for name in ACTIONS if name != UNDECIDED))
SPLITS = (TRAIN, "val", "test")
LAST = 20  # decisions that the yield looks back on
PAUSE = 120.0  # seconds; a longer gap between two key presses is a break, not a decision
LONGEST_TEXT = 200
LONGEST_BUDGET = 20
WRONG = (RELABEL, EXCLUDE)


@dataclass(frozen=True)
class Filters:
    """What the gallery shows.

    Attributes:
        score: "suspicion" or the name of a score: it ranks, is cut by the budget, and has its range.
        budget: how many are flagged, as `Budget.parse` reads it.
        flagged: only the flagged ones.
        given: only this given label.
        suggested: only this suggested label.
        kind: only this one of `core.reasons.KINDS`.
        low, high: only this range of the score's percentile, both ends in; 0 to 100 holds rows without the score too.
        decision: "any", "open" (not decided), "done", or an action.
        split: the split that is ranked.
        text: only ids that hold it, in any case.
        copies: "any", "copies" (those that have one), or one of `core.review.copies.STANDINGS`.
        by, value: only images with this value in this column to group by (`core.review.marks`).
        ids: only these, a lasso's; not part of an address.
    """

    score: str = SUSPICION
    budget: str = DEFAULT_BUDGET
    flagged: bool = True
    given: str | None = None
    suggested: str | None = None
    kind: str | None = None
    low: float | int = 0.0
    high: float | int = 100.0
    decision: str = ANY
    split: str = TRAIN
    text: str = ""
    copies: str = ANY
    by: str | None = None
    value: str | None = None
    ids: tuple[str, ...] | None = None

    @classmethod
    def from_query(
        cls, query: Mapping[str, str], classes: Collection[str], scores: Collection[str],
        default_budget: str = DEFAULT_BUDGET, splits: Collection[str] = SPLITS,
        groups: Mapping[str, Collection[str]] | None = None,
    ) -> tuple[Filters, list[str]]:  # fmt: skip
        """Read an address; returns the filters, and what it asks for that there is not, in words.

        Args:
            query: the address's values; keys that are no filter are passed over.
            classes: the project's.
            scores: `Findings.score_names`.
            default_budget: the project's.
            splits: the project's.
            groups: the values of each column to group by, see `core.review.marks.choices`.
        """
        said: list[str] = []
        found: dict[str, Any] = {"budget": default_budget}
        ranks, labels = (SUSPICION, *scores), tuple(classes)
        for key, name, known, what, instead in (
            ("score", "score", ranks, "score", "The ranking is by suspicion."),
            ("class", "given", labels, "class", "All classes are shown."),
            ("to", "suggested", labels, "suggested class", "All classes are shown."),
            ("reason", "kind", KINDS, "reason", "All reasons are shown."),
            ("decision", "decision", DECISIONS, "decision", "Decided and open images are shown."),
            ("copies", "copies", ALL_COPIES, "kind of copies", "Images with and without copies are shown."),
            ("split", "split", tuple(splits), "split", "The training images are shown."),
        ):
            asked = query.get(key)
            if asked in known:
                found[name] = asked
            elif asked:
                said.append(f"The link asks for {what} {_quoted(asked)}, which this project does not have. {instead}")
        if query.get("flagged"):
            found["flagged"] = query["flagged"] != "0"
        found["text"] = _clean(query.get("q", ""))[:LONGEST_TEXT]
        found |= _range(query, said) | _budget(query, default_budget, said) | _value(query, groups or {}, said)
        return cls(**found), said

    def to_query(self, default_budget: str = DEFAULT_BUDGET) -> dict[str, str]:
        """The address of these filters; what is as by default is left out. Give the budget that `from_query` gets."""
        default = Filters(budget=default_budget)
        changed = {
            key: getattr(self, name) for key, name in QUERY.items() if getattr(self, name) != getattr(default, name)
        }
        return {key: _written(value) for key, value in changed.items()}


QUERY = {
    "score": "score", "class": "given", "to": "suggested", "reason": "kind", "low": "low", "high": "high",
    "decision": "decision", "split": "split", "q": "text", "flagged": "flagged", "budget": "budget",
    "copies": "copies", "by": "by", "value": "value",
}  # fmt: skip


class Page(NamedTuple):
    """Some images of a gallery, and where they stand in it: `first` to `last` of `total`, counted from 1."""

    ids: list[str]
    page: int
    pages: int
    first: int
    last: int
    total: int


def gallery(table: pd.DataFrame, decisions: pd.DataFrame, filters: Filters) -> pd.DataFrame:
    """The rows that `filters` leave, most suspicious first.

    Args:
        table: `Findings.samples`, not changed; to filter by copies or groups, `core.review.marks.marked` of it.
        decisions: `Review.current()`.
        filters: what to show.

    Returns:
        The columns of `table`, then rank (from 1), flagged, flagged_per_class, score (the chosen one's percentile),
        kind, and the columns of `decisions`; no decision: action "undecided".

    Raises:
        InputError: there is no such score.
        SettingsError: the budget cannot be read.
    """
    cut = _cut(table, filters)
    keep = cut.flagged.copy() if filters.flagged else np.ones(len(cut.rows), bool)
    for holds in (
        _in_ids, _in_labels, _in_copies, _in_group, _in_range, _in_decision, _in_text, _in_kind,  # the dearest last
    ):  # fmt: skip
        left = np.flatnonzero(keep)
        keep[left] = holds(table, cut.rows[left], decisions, filters)
    return _framed(table, decisions, filters, cut, np.flatnonzero(keep))


def ranked(table: pd.DataFrame, decisions: pd.DataFrame, filters: Filters, ids: Sequence[str]) -> pd.DataFrame:
    """The rows `ids`, in that order, as `gallery` gives them; the filters say score, budget and split, and drop none.

    An id that is not of the split is left out.
    """
    cut = _cut(table, filters)
    place = np.full(len(table), -1)
    place[cut.rows] = np.arange(len(cut.rows))
    rows = table.index.get_indexer(pd.Index(list(ids), dtype=table.index.dtype))
    found = place[rows[rows >= 0]]
    return _framed(table, decisions, filters, cut, found[found >= 0])


def page_of(ids: Sequence[str], page: int, size: int = PAGE_SIZE) -> Page:
    """Page `page` of a gallery, counted from 1; one that there is not becomes the nearest that there is."""
    total = len(ids)
    pages = max(1, -(-total // size))
    page = min(max(page, 1), pages)
    shown = list(ids[(page - 1) * size : page * size])
    return Page(shown, page, pages, (page - 1) * size + 1 if total else 0, (page - 1) * size + len(shown), total)


def page_asked(ids: Sequence[str], page: str, sample: str, size: int = PAGE_SIZE) -> int:
    """The number of the page that an address asks for: that of its image, else the one it names, else the first."""
    if sample in ids:
        return ids.index(sample) // size + 1
    return int(page) if page.isdecimal() and page.isascii() and len(page) < 9 else 1


def cards(rows: pd.DataFrame, findings: Findings, blind: bool = False) -> list[dict[str, Any]]:
    """What the grid draws of each of `rows` (of `gallery`): Python values only.

    Args:
        rows: a page.
        findings: of the same run; gives the probabilities.
        blind: leave out what leans to a label: suggestion, reason, kind and probabilities; the classes go by name.

    Returns:
        id, given, suggested (None where it is the given one), suspicion (0-100), rank, flagged, reason, kind, top
        (up to 9 [label, probability], likeliest first, without the given label), given_prob, alt.
    """
    place = findings.samples.index.get_indexer(rows.index)
    probabilities = np.asarray(findings.head_probabilities[place], float)
    names = [*rows.index.names, "given_label", "suggested_label", "suspicion", "rank", "flagged", "reason", "kind"]
    columns = [rows.index.tolist(), *(rows[name].tolist() for name in names[1:])]
    order = sorted(range(len(findings.classes)), key=lambda code: findings.classes[code])
    return [
        _card(row, likely, findings.classes, order if blind else None)
        for likely, row in zip(probabilities, zip(*columns, strict=True), strict=True)
    ]


def pairs(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a gallery by class pair, the largest first: given, suggested, count, open, wrong.

    Only where another class than the given one is suggested. open: not decided; wrong: relabelled or excluded.
    """
    given, suggested = frame["given_label"], frame["suggested_label"]
    frame = frame[(given.notna() & suggested.notna() & (given != suggested)).to_numpy(bool)]
    action = frame["action"]
    counted = frame.assign(open=action == UNDECIDED, wrong=action.isin(WRONG)).groupby(
        ["given_label", "suggested_label"], sort=True
    )
    counts = counted.agg(count=("open", "size"), open=("open", "sum"), wrong=("wrong", "sum")).reset_index()
    counts = counts.sort_values("count", ascending=False, kind="stable")
    return [
        {"given": str(g), "suggested": str(s), "count": int(count), "open": int(left), "wrong": int(wrong)}
        for g, s, count, left, wrong in counts.itertuples(index=False, name=None)
    ]


def progress(
    table: pd.DataFrame, decisions: pd.DataFrame, filters: Filters, history: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """How far the review of the flagged rows is; the filters say score, budget and split, and narrow nothing.

    Args:
        table: `Findings.samples`.
        decisions: `Review.current()`.
        filters: what is ranked and cut.
        history: decisions with batch, reviewer and decided_at, oldest first: `DecisionLog.recent` of one reviewer, or
            `Review.history()`; without them there is no pace.

    Returns:
        flagged; reviewed, those with any decision; left; yield_last: (wrong, of) among the `LAST` flagged rows decided
        last, wrong being relabelled or excluded, None where none is; pace_seconds: median seconds that one image took,
        None before the second key press; minutes_left: None without a pace.
    """
    flagged = _flagged(table, filters)
    rows = table.index.get_indexer(decisions.index)
    done = np.zeros(len(rows), bool)
    done[rows >= 0] = flagged[rows[rows >= 0]]
    last = decisions["action"].iloc[np.flatnonzero(done)[-LAST:]]
    reviewed, count = int(done.sum()), int(flagged.sum())
    pace = pace_of(history)
    return {
        "flagged": count,
        "reviewed": reviewed,
        "left": count - reviewed,
        "yield_last": (int(last.isin(WRONG).sum()), len(last)) if len(last) else None,
        "pace_seconds": pace,
        "minutes_left": None if pace is None else pace * (count - reviewed) / 60,
    }


def pace_of(history: Sequence[Mapping[str, Any]]) -> float | None:
    """Median seconds that one image took: the gap before each key press, shared among the images it decided.

    Gaps of more than `PAUSE` seconds, and those between two reviewers, are none. None without a gap.
    """
    presses: dict[str, dict[str, Any]] = {}
    for row in history:
        if row["kind"] == "decide":
            press = presses.setdefault(row["batch"], {"who": row["reviewer"], "at": row["decided_at"], "images": 0})
            press["images"] += 1
    by_person: dict[str, list[tuple[float, int]]] = {}
    for press in presses.values():
        at = datetime.fromisoformat(press["at"]).timestamp()
        by_person.setdefault(press["who"], []).append((at, press["images"]))
    gaps = [
        (late[0] - soon[0]) / late[1]
        for times in by_person.values()
        for soon, late in pairwise(times)
        if 0 < late[0] - soon[0] <= PAUSE
    ]
    return median(gaps) if gaps else None


def sentence(progress: Mapping[str, Any]) -> str:
    """`progress` in words: "120 of 500 reviewed; 14 of the last 20 were real; about 40 min left"."""
    if not progress["flagged"]:
        return "No image is flagged."
    parts = [f"{progress['reviewed']:,} of {progress['flagged']:,} reviewed"]
    if progress["yield_last"]:
        wrong, of = progress["yield_last"]
        parts.append(
            f"{wrong} of the last {of} were real" if of > 1 else f"the last one was {'' if wrong else 'not '}real"
        )
    if not progress["left"]:
        parts.append("none left")
    elif progress["minutes_left"] is not None:
        parts.append(_left(progress["minutes_left"]))
    return "; ".join(parts)


class _Cut(NamedTuple):
    """The ranking of one split, as positions in the table, and who is flagged in it."""

    rows: Int[Array, " n"]
    flagged: Bool[Array, " n"]
    per_class: Bool[Array, " n"]


def _cut(table: pd.DataFrame, filters: Filters) -> _Cut:
    """`core.review.flags.flag` on arrays: one sort of numbers, names compared only where numbers are equal."""
    values = table[score_column(table, filters.score)].to_numpy(float)
    split = np.flatnonzero((table["split"] == filters.split).to_numpy(bool))
    rows = split[np.argsort(-values[split], kind="stable")]  # NaN last
    rows = _by_name_where_equal(table.index, values, rows)
    scored = ~np.isnan(values[rows])
    count = min(Budget.parse(filters.budget).count(len(rows)), int(scored.sum()))
    codes = pd.factorize(table["given_label"].iloc[rows], use_na_sentinel=False)[0]
    by_class = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes, minlength=1)
    within = np.empty(len(rows), int)
    within[by_class] = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    quota = np.lexsort((np.arange(len(rows)), (within + 0.5) / sizes[codes], ~scored))
    per_class = np.zeros(len(rows), bool)
    per_class[quota[:count]] = True
    return _Cut(rows, np.arange(len(rows)) < count, per_class)


def _by_name_where_equal(names: pd.Index[Any], values: Any, rows: Int[Array, " n"]) -> Int[Array, " n"]:
    """`rows`, sorted by value, with those of equal value (NaN too) in the order of their names."""
    sorted_values = values[rows]
    same = (sorted_values[1:] == sorted_values[:-1]) | (np.isnan(sorted_values[1:]) & np.isnan(sorted_values[:-1]))
    tied = np.flatnonzero(np.append(same, False) | np.insert(same, 0, False)) if len(rows) else rows
    group = np.cumsum(np.insert(~same, 0, False))[tied] if len(tied) else tied
    by_name = np.argsort(names[rows[tied]].to_numpy(object), kind="stable")
    moved = rows.copy()
    moved[tied] = rows[tied][by_name[np.argsort(group[by_name], kind="stable")]]
    return moved


def _flagged(table: pd.DataFrame, filters: Filters) -> Bool[Array, " n"]:
    """Which rows of the table the budget flags, without sorting them all."""
    values = table[score_column(table, filters.score)].to_numpy(float)
    split = (table["split"] == filters.split).to_numpy(bool)
    scored = np.flatnonzero(split & ~np.isnan(values))
    count = min(Budget.parse(filters.budget).count(int(split.sum())), len(scored))
    flagged = np.zeros(len(table), bool)
    if count:
        edge = np.partition(values[scored], len(scored) - count)[len(scored) - count]
        flagged[scored[values[scored] > edge]] = True
        tied = scored[values[scored] == edge]
        by_name = tied[np.argsort(table.index[tied].to_numpy(object), kind="stable")]
        flagged[by_name[: count - int(flagged.sum())]] = True
    return flagged


def _framed(
    table: pd.DataFrame, decisions: pd.DataFrame, filters: Filters, cut: _Cut, chosen: Int[Array, " n"]
) -> pd.DataFrame:
    """The places `chosen` of the ranking as a frame."""
    frame = table.iloc[cut.rows[chosen]]
    frame = frame.assign(
        rank=chosen + 1, flagged=cut.flagged[chosen], flagged_per_class=cut.per_class[chosen],
        score=frame[score_column(table, filters.score)],
        kind=pd.array(_kinds(frame), dtype="str"),
    )  # fmt: skip
    return with_decisions(frame, decisions)


def _kinds(frame: pd.DataFrame) -> list[str]:
    rows = zip(frame["reason"].tolist(), frame["given_label"].tolist(), strict=True)
    return [kind(_text(said) or "", _text(given)) for said, given in rows]


def _in_ids(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    if filters.ids is None:
        return True
    chosen = np.zeros(len(table), bool)
    places = table.index.get_indexer(pd.Index(list(filters.ids), dtype=table.index.dtype))
    chosen[places[places >= 0]] = True
    return chosen[rows]


def _in_labels(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    keep = np.ones(len(rows), bool)
    for column, label in (("given_label", filters.given), ("suggested_label", filters.suggested)):
        if label is not None:
            keep &= (table[column].iloc[rows] == label).to_numpy(bool)
    return keep


def _in_copies(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    if filters.copies == ANY or COPIES not in table:
        return filters.copies == ANY
    found = table[COPIES].iloc[rows]
    return ((found != "") if filters.copies == "copies" else (found == filters.copies)).to_numpy(bool)


def _in_group(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    if filters.by is None or filters.value is None:
        return True
    column = f"{GROUPED}{filters.by}"
    return (table[column].iloc[rows] == filters.value).to_numpy(bool) if column in table else False


def _in_range(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    if (filters.low, filters.high) == (0.0, 100.0):
        return True
    values = table[score_column(table, filters.score)].to_numpy(float)[rows]
    return (values >= filters.low) & (values <= filters.high)


def _in_decision(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    if filters.decision == ANY:
        return True
    wanted = decisions if filters.decision in (OPEN, DONE) else decisions[decisions["action"] == filters.decision]
    decided = np.zeros(len(table), bool)
    places = table.index.get_indexer(wanted.index)
    decided[places[places >= 0]] = True
    return ~decided[rows] if filters.decision == OPEN else decided[rows]


def _in_text(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    wanted = filters.text.casefold()
    return [wanted in str(name).casefold() for name in table.index[rows]] if wanted else True


def _in_kind(table: pd.DataFrame, rows: Any, decisions: pd.DataFrame, filters: Filters) -> Any:
    if filters.kind is None:
        return True
    return np.array([each == filters.kind for each in _kinds(table[["reason", "given_label"]].iloc[rows])], bool)


def _card(
    row: tuple[Any, ...], probabilities: Any, classes: Sequence[str], by_name: Sequence[int] | None
) -> dict[str, Any]:
    """One card; `by_name` is the order of the classes where the reviewer is not to see what leans to a label."""
    sample, given, suggested, suspicion, rank, flagged, reason, kind_, *_ = row
    given, suggested, blind = _text(given), _text(suggested), by_name is not None
    other = None if blind or suggested == given else suggested
    likely = by_name if by_name is not None else [int(code) for code in np.argsort(-probabilities, kind="stable")]
    codes = [code for code in likely if classes[code] != given][:TOP]
    alt = f"{sample}, labelled {given}" if given is not None else f"{sample}, not labelled"
    return {
        "id": str(sample),
        "given": given or "",
        "suggested": other,
        "suspicion": _rounded(suspicion),
        "rank": int(rank),
        "flagged": bool(flagged),
        "reason": "" if blind else _text(reason) or "",
        "kind": "" if blind else str(kind_),
        "top": [[classes[code], None if blind else _finite(probabilities[code])] for code in codes],
        "given_prob": None if blind or given not in classes else _finite(probabilities[classes.index(given)]),
        "alt": alt if other is None else f"{alt}, suggested {other}",
    }


def _rounded(value: Any) -> float | None:
    known = _finite(value)
    return None if known is None else round(known, 1)


def _finite(value: Any) -> float | None:
    return round(float(value), 4) if value is not None and math.isfinite(value) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _range(query: Mapping[str, str], said: list[str]) -> dict[str, float]:
    low, high = query.get("low") or "0", query.get("high") or "100"
    try:
        found = float(low), float(high)
    except ValueError:
        found = (math.nan, math.nan)
    if 0 <= found[0] <= found[1] <= 100:
        return {"low": found[0], "high": found[1]}
    said.append(
        f"The link asks for percentiles from {_quoted(low)} to {_quoted(high)}, which is no range. All are shown."
    )
    return {}


def _budget(query: Mapping[str, str], default: str, said: list[str]) -> dict[str, str]:
    asked = query.get("budget")
    if not asked:
        return {}
    try:
        Budget.parse(asked if len(asked) <= LONGEST_BUDGET else "")
    except SettingsError:
        said.append(f"The link asks for a budget of {_quoted(asked)}, which cannot be read. It is {default}.")
        return {}
    return {"budget": asked}


def _value(query: Mapping[str, str], groups: Mapping[str, Collection[str]], said: list[str]) -> dict[str, str]:
    by, value = query.get("by"), query.get("value")
    if not by or value is None:
        return {}
    if value in groups.get(by, ()):
        return {"by": by, "value": value}
    said.append(f"The link asks for {_quoted(by)} {_quoted(value)}, which this project does not have. All are shown.")
    return {}


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:.17g}" if isinstance(value, float) else "" if value is None else str(value)


def _clean(text: str) -> str:
    return text.encode(errors="replace").decode()


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:59]}…")


def _left(minutes: float) -> str:
    if minutes < 1:
        return "less than a minute left"
    return f"about {minutes:.0f} min left" if minutes < 100 else f"about {minutes / 60:.0f} h left"
