"""The map as plain arrays: which points are drawn, in which colour, which are flagged, and what a lasso encloses.

`map_data` gives the points of one map, `inside` the points within a drawn line, `selection_summary` what they are,
`overlap` how far rankings agree on whom they flag, `headline` the sentence above the map. Only what was counted is
said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from core.axes import Array, Bool, Float, Integer
from core.catalogue import SCORE_INFO
from core.errors import InputError
from core.findings import SPACES, Findings
from core.review.decisions import UNDECIDED
from core.review.flags import SUSPICION, TRAIN, Budget, flag, score_column

GIVEN, SUGGESTED = "given", "suggested"
COLOURS = (SUSPICION, GIVEN, SUGGESTED, *SCORE_INFO)
RANKINGS = (SUSPICION, "oga_forest", "oga_l1", "oga_l2")
ALL = "all"  # every split
MOST_COLOURS = 10  # classes that can be told apart by colour
MOST_CHOSEN = 5  # classes that may stand out of grey where there are more
REST = "other classes"
CORNERS = (3, 2000)  # of a lasso: fewest and most
_LARGEST = 1e100  # a coordinate beyond it is no place on a map, and its products would overflow


@dataclass(frozen=True, eq=False)
class MapData:
    """The points of one map, row by row in the order of the findings.

    Attributes:
        ids: sample ids, an object array of text.
        xy: coordinates; distances on a map mean nothing, neighbourhoods do.
        value: percentile 0-100 of the score that colours the points (high = suspicious), or the position in
            `categories` where a label does; -1 where the label is none of them.
        flagged: whether the ranking flags it; a held-out image never is.
        action: the decision in effect, "undecided" where there is none; an object array of text.
        hidden: images that are not drawn.
        note: what is drawn and what is not, in words.
        categories: what the codes of `value` stand for; empty where a score colours the points.
    """

    ids: Array
    xy: Float[Array, "n 2"]
    value: Float[Array, " n"] | Integer[Array, " n"]
    flagged: Bool[Array, " n"]
    action: Array
    hidden: int
    note: str
    categories: tuple[str, ...]


def map_data(
    findings: Findings,
    decisions: pd.DataFrame,
    space: str,
    colour: str,
    ranking: str = SUSPICION,
    budget: str = "5%",
    split: str = TRAIN,
    chosen: tuple[str, ...] = (),
) -> MapData:
    """The points of the map of `space`.

    Args:
        findings: of the run.
        decisions: `Review.current()`.
        space: "features" or "gradients".
        colour: one of `COLOURS`.
        ranking: whose flags are marked: "suspicion" or the name of a score.
        budget: how many it flags, as `Budget.parse` reads it.
        split: one split, or "all".
        chosen: classes to stand out, at most `MOST_CHOSEN`; the others share one category. Without any, up to
            `MOST_COLOURS` classes have a category each, and of more classes those with the most flagged images do.

    Raises:
        InputError: an unknown space, score or class, or a run that was told to draw no maps.
        SettingsError: the budget cannot be read.
    """
    table, xy = findings.samples, _coordinates(findings, space)
    flags = _among(table.index, flagged_ids(table, ranking, budget))
    if colour in (GIVEN, SUGGESTED):
        label = table[f"{colour}_label"]
        categories, note = _categories(findings.classes, table.loc[flags, "given_label"], chosen)
        value = _codes(label, categories)
    else:
        value, categories, note = table[score_column(table, colour)].to_numpy(np.float32), (), ""
    wanted = np.ones(len(table), bool) if split == ALL else (table["split"] == split).to_numpy(bool)
    drawn = wanted & np.isfinite(xy).all(1)
    notes = (_drawn_note(int(drawn.sum()), int(wanted.sum()), split), _hidden_note(table["split"], wanted), note)
    return MapData(
        ids=table.index.to_numpy(object)[drawn],
        xy=xy[drawn],
        value=value[drawn],
        flagged=flags[drawn],
        action=_actions(table.index, decisions)[drawn],
        hidden=int((~drawn).sum()),
        note=" ".join(text for text in notes if text),
        categories=categories,
    )


def flagged_ids(table: pd.DataFrame, ranking: str = SUSPICION, budget: str = "5%") -> pd.Index[str]:
    """The ids that `ranking` flags among the training images, most suspicious first.

    Raises:
        InputError: there is no such score.
        SettingsError: the budget cannot be read.
    """
    narrow = table[["split", "given_label", score_column(table, ranking)]]  # ranking copies what it is given
    ranked = flag(narrow, ranking, Budget.parse(budget))
    return ranked.index[ranked["flagged"].to_numpy(bool)]


def inside(xy: Float[Array, "n 2"], polygon: object) -> Bool[Array, " n"]:
    """Which points lie within a closed polygon, by the even-odd rule: what is enclosed twice is outside.

    A point on an edge counts as inside where the inside lies to its right or, on a level edge, above it; so of two
    polygons that share an edge exactly one holds a point on it. Of the square from (0, 0) to (1, 1) only the corner
    (0, 0) is inside. A point that is not finite is outside.

    The points within the box around the polygon are put in the order of their heights; each edge then looks only at
    those between its two ends. Memory is a few numbers per point, whatever the number of corners.

    Args:
        xy: the points.
        polygon: `[[x, y], …]`, 3 to 2,000 corners, as it came from a browser.

    Raises:
        InputError: anything else.
    """
    corners = _corners(polygon)
    low, high = corners.min(0), corners.max(0)
    found = np.zeros(len(xy), bool)
    candidates = np.flatnonzero(((xy >= low) & (xy <= high)).all(1))
    points = xy[candidates].astype(np.float64)
    order = np.argsort(points[:, 1], kind="stable")
    x, y = points[order].T
    within = np.zeros(len(x), bool)
    for (x1, y1), (x2, y2) in _rising(corners):
        start, stop = np.searchsorted(y, (y1, y2), side="left")
        if start < stop:
            within[start:stop] ^= x[start:stop] < x1 + (y[start:stop] - y1) / (y2 - y1) * (x2 - x1)
    found[candidates[order]] = within
    return found


def overlap(table: pd.DataFrame, rankings: tuple[str, ...] = RANKINGS, budget: str = "5%") -> dict[str, Any]:
    """How far rankings agree on whom they flag.

    Returns:
        "sets": how many each flags, by name; "pairs": {a, b, both, jaccard (0-1)} for any two; "all": how many all
        of them flag; "sentence": the same in words.

    Raises:
        InputError: there is no such score.
        SettingsError: the budget cannot be read.
    """
    sets = {name: set(flagged_ids(table, name, budget)) for name in rankings}
    pairs = []
    for a, b in combinations(sets, 2):
        both, either = len(sets[a] & sets[b]), len(sets[a] | sets[b])
        pairs.append({"a": a, "b": b, "both": both, "jaccard": both / either if either else 0.0})
    every = len(set.intersection(*sets.values())) if sets else 0
    counts = {name: len(ids) for name, ids in sets.items()}
    return {"sets": counts, "pairs": pairs, "all": every, "sentence": _agreement(counts, pairs, every)}


def selection_summary(
    table: pd.DataFrame, decisions: pd.DataFrame, ids: Collection[str], flagged: Collection[str]
) -> dict[str, Any]:
    """What a selection holds: {count, flagged, decided, classes, text}.

    Args:
        table: `Findings.samples`.
        decisions: `Review.current()`.
        ids: the selected samples; one named twice counts once, an unknown one not at all.
        flagged: the ids that are flagged (`flagged_ids`).

    Returns:
        "classes" is (given label, count), the most frequent first; "text" is such as
        "214 images, 61 flagged: cat 118, dog 74, other 22".
    """
    chosen = _among(table.index, ids)
    sizes = table["given_label"][chosen].value_counts(sort=False)
    classes = sorted(((str(name), int(count)) for name, count in sizes.items()), key=lambda each: (-each[1], each[0]))
    count, marked = int(chosen.sum()), int((chosen & _among(table.index, flagged)).sum())
    decided = int((chosen & _among(table.index, decisions.index)).sum())
    text = f"{_images(count)}, {marked:,} flagged: {_named(classes)}" if count else "No image is selected."
    return {"count": count, "flagged": marked, "decided": decided, "classes": classes, "text": text}


def headline(table: pd.DataFrame, flagged: Collection[str]) -> str:
    """How many training images are flagged, and what holds most of them: a class pair (given → suggested) or a class.

    Args:
        table: `Findings.samples`.
        flagged: the ids that are flagged (`flagged_ids`); held-out ones are passed over.
    """
    train = (table["split"] == TRAIN).to_numpy(bool)
    marked = table[["given_label", "suggested_label"]][train & _among(table.index, flagged)]
    count = int(train.sum())
    if not len(marked):
        return f"None of {count:,} training images is flagged."
    verb = "is" if len(marked) == 1 else "are"
    return f"{len(marked):,} of {count:,} training images {verb} flagged{_most_often(marked)}."


def _most_often(marked: pd.DataFrame) -> str:
    """The class pair that leads alone, else the class that does, else for how many another label is suggested."""
    doubted = marked[(marked["suggested_label"] != marked["given_label"]) & marked["suggested_label"].notna()]
    if doubted.empty:
        return "; another label is suggested for none of them"
    pair = _leader(doubted.groupby(["given_label", "suggested_label"]).size())
    if pair:
        return f", most often {' → '.join(map(str, pair[0]))}: {pair[1]:,}"
    label = _leader(marked.groupby("given_label").size())
    if label:
        return f", most often images labelled {label[0]}: {label[1]:,}"
    return f"; another label is suggested for {len(doubted):,} of them"


def _leader(sizes: pd.Series[int]) -> tuple[Any, int] | None:
    """The entry that is larger than every other one and more than a single image."""
    first, *rest = sizes.sort_values(ascending=False, kind="stable").items()
    return (first[0], int(first[1])) if first[1] > 1 and all(first[1] > size for _, size in rest[:1]) else None


def _coordinates(findings: Findings, space: str) -> Float[Array, "n 2"]:
    if space not in SPACES:
        raise InputError(f"There is no map of {space!r}. Choose from {', '.join(SPACES)}.")
    if space not in findings.maps:
        raise InputError(f"This run holds no map of the {space}. Score the images again with maps drawn.")
    return np.asarray(findings.maps[space], dtype=np.float32)


def _categories(
    classes: tuple[str, ...], flagged: pd.Series[str], chosen: tuple[str, ...]
) -> tuple[tuple[str, ...], str]:
    """The classes that have a colour of their own (then one for the rest), and a word on those that have none."""
    unknown = [name for name in chosen if name not in classes]
    if unknown:
        raise InputError(f"There is no class {unknown[0]!r} in this project. Choose another to stand out.")
    if len(chosen) > MOST_CHOSEN:
        raise InputError(f"{len(chosen)} classes were chosen to stand out. Choose at most {MOST_CHOSEN}.")
    if not chosen and len(classes) <= MOST_COLOURS:
        return classes, ""
    counts = flagged.value_counts()
    most = sorted(classes, key=lambda name: -int(counts.get(name, 0)))[:MOST_CHOSEN]  # equal ones in their order
    shown = tuple(dict.fromkeys(chosen)) or tuple(most)
    left = len(classes) - len(shown)
    note = (
        ""
        if chosen
        else f"The {len(shown)} classes with most flagged images have a colour, the other {left} share one."
    )
    return ((*shown, REST) if left else shown), note


def _codes(label: pd.Series[str], categories: tuple[str, ...]) -> Integer[Array, " n"]:
    """Each label's position in `categories`; what is none of them is the last where that stands for the rest."""
    names, rest = (categories[:-1], len(categories) - 1) if categories[-1:] == (REST,) else (categories, -1)
    codes = pd.Index(names, dtype=object).get_indexer(pd.Index(label.to_numpy(object)))
    return np.where(codes < 0, rest, codes).astype(np.int16)


def _among(index: pd.Index[str], names: Collection[str]) -> Bool[Array, " n"]:
    """Which rows are named. The index looks names up in a table that it keeps, which `isin` would build each time."""
    found = np.zeros(len(index), bool)
    at = index.get_indexer(pd.Index(names if isinstance(names, pd.Index) else list(names), dtype=object))
    found[at[at >= 0]] = True
    return found


def _actions(index: pd.Index[str], decisions: pd.DataFrame) -> Array:
    """The action in effect of each sample."""
    actions = np.full(len(index), UNDECIDED, dtype=object)
    at = index.get_indexer(decisions.index)
    actions[at[at >= 0]] = decisions["action"].to_numpy(object)[at >= 0]
    return actions


def _drawn_note(drawn: int, wanted: int, split: str) -> str:
    points = {TRAIN: "training points", ALL: "points"}.get(split, f"{split} points")
    if drawn == wanted:
        return f"All {wanted:,} {points} drawn."
    return f"{drawn:,} of {wanted:,} {points} drawn, the others have no place on the map."


def _hidden_note(splits: pd.Series[str], wanted: Bool[Array, " n"]) -> str:
    """How many images lie in other splits, in words."""
    left = splits[~wanted]
    train = int((left == TRAIN).sum())
    kinds = [(train, "training"), (len(left) - train, "held-out")]
    return " ".join(f"{_images(n, kind)} {'is' if n == 1 else 'are'} not drawn." for n, kind in kinds if n)


def _images(count: int, kind: str = "") -> str:
    return f"{count:,} {kind} {'image' if count == 1 else 'images'}".replace("  ", " ")


def _named(classes: list[tuple[str, int]]) -> str:
    """The classes with their counts: three at most, else two and the rest together."""
    shown = classes if len(classes) <= 3 else [*classes[:2], ("other", sum(count for _, count in classes[2:]))]
    digits = any(name[-1:].isdigit() for name, _ in shown)  # "5 6" would be read as one number
    return ", ".join(f"{name} ({count:,})" if digits else f"{name} {count:,}" for name, count in shown)


def _title(name: str) -> str:
    return SCORE_INFO[name].title if name in SCORE_INFO else name.capitalize()


def _agreement(counts: Mapping[str, int], pairs: list[dict[str, Any]], every: int) -> str:
    """The first ranking against each of the others, and all of them together."""
    if len(counts) < 2 or not any(counts.values()):
        return ""
    first = next(iter(counts))
    shared = [f"{each['both']:,} with {_title(each['b'])}" for each in pairs if each["a"] == first]
    together = f" All {len(counts)} flag {every:,} of the same images." if len(counts) > 2 else ""
    return f"{_title(first)} shares, of its {counts[first]:,} flagged images, {', '.join(shared)}.{together}"


def _corners(polygon: object) -> Float[Array, "corners 2"]:
    """The polygon as numbers, if it is one."""
    fewest, most = CORNERS
    given = polygon.tolist() if isinstance(polygon, np.ndarray) else polygon
    if not isinstance(given, list | tuple) or not fewest <= len(given) <= most:
        got = f"{len(given):,} corners" if isinstance(given, list | tuple) else type(given).__name__
        raise InputError(f"A selection needs {fewest} to {most:,} corners, got {got}. Draw it again.")
    if not all(_is_corner(corner) for corner in given):
        raise InputError("A selection's corners are pairs of finite numbers, and one of these is not. Draw it again.")
    return np.array(given, dtype=np.float64)


def _is_corner(corner: object) -> bool:
    if not isinstance(corner, list | tuple) or len(corner) != 2:
        return False
    numbers = (isinstance(value, int | float) and not isinstance(value, bool) for value in corner)
    return all(numbers) and all(abs(value) <= _LARGEST for value in corner)


def _rising(corners: Float[Array, "corners 2"]) -> list[tuple[list[float], list[float]]]:
    """Every edge that is not level, its lower end first, so that both ways along an edge give the same crossing."""
    points = corners.tolist()
    edges = zip(points, [*points[1:], points[0]], strict=True)
    return [(one, other) if one[1] < other[1] else (other, one) for one, other in edges if one[1] != other[1]]
