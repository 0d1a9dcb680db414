"""What an address selects on the map: the images within its outline, of the classes that stand out.

The outline is asked about in the space it was drawn in, so that the same images stay selected when the map shows the
other space, and on other pages (`ids_of_query`). It names the map it was drawn on: on another run's map, where the
points lie elsewhere, it would enclose any images, so there it selects none and that is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd

from core.axes import Array, Bool
from core.findings import SPACES, Findings
from core.review.flags import SUSPICION, TRAIN, rank, score_column
from core.review.points import ALL, inside, selection_summary
from pages.ui.map_view import polygon
from pages.ui.map_view.polygon import Lasso, Outline
from pages.ui.map_view.view import View

UNREADABLE = "The selection of the link cannot be read."
EARLIER = "The selection was drawn on an earlier map. Draw it again."


@dataclass(frozen=True, eq=False)
class Chosen:
    """What an address selects.

    Attributes:
        rows: which rows of the findings; None where it selects nothing.
        ids: the training images among them, most suspicious first; the flagged ones where it selects nothing.
        text: what they are, in words.
        lasso: what was drawn around them.
        message: why nothing is selected although the address asks for it, or None.
    """

    rows: Bool[Array, " n"] | None
    ids: tuple[str, ...]
    text: str = ""
    lasso: Lasso | None = None
    message: str | None = None


def chosen(findings: Findings, view: View, text: str, flagged: Sequence[str]) -> Chosen:
    """Return what an address selects whose lasso is `text`; `flagged` are the ids that the view flags, in order."""
    lasso, message = lasso_of(findings, text)
    if lasso is None:
        return Chosen(None, tuple(flagged), message=message)
    rows, table = selected(findings, view, lasso), findings.samples
    held = selection_summary(table, table.iloc[:0], table.index[rows], flagged)
    return Chosen(rows, tuple(ordered(findings, rows, view.ranking)), str(held["text"]), lasso)


def drawn_on(findings: Findings, space: str, outline: Outline) -> Lasso:
    """Return an outline with the map of `space`, on which it was drawn."""
    return Lasso(space, _map_key(findings, space), outline)


def lasso_of(findings: Findings, text: str) -> tuple[Lasso | None, str | None]:
    """Return the lasso of an address, or why there is none although the address asks for it."""
    if not text:
        return None, None
    lasso = polygon.read(text)
    if lasso is None:
        return None, UNREADABLE
    if lasso.space not in findings.maps or lasso.map != _map_key(findings, lasso.space):
        return None, EARLIER
    return lasso, None


def _map_key(findings: Findings, space: str) -> str:
    """Six digits that tell a map by where its points lie: a stage's key may be another and the map the same."""
    places = np.ascontiguousarray(findings.maps[space], dtype=np.float32)
    return blake2b(places.tobytes(), digest_size=3).hexdigest()


def selected(findings: Findings, view: View, lasso: Lasso) -> Bool[Array, " n"]:
    """Return which rows of the findings a lasso selects."""
    within = inside(np.asarray(findings.maps[lasso.space], dtype=np.float32), lasso.outline)
    return within & drawn(findings, view) & standing(findings, view)


def drawn(findings: Findings, view: View) -> Bool[Array, " n"]:
    """Return which rows the map draws."""
    if view.split == ALL:
        return np.ones(len(findings), dtype=bool)
    return np.asarray(findings.samples["split"] == view.split, dtype=bool)


def standing(findings: Findings, view: View) -> Bool[Array, " n"]:
    """Return which rows are of the classes that stand out: all where none was chosen."""
    if not view.classes:
        return np.ones(len(findings), dtype=bool)
    return np.asarray(findings.samples[view.label].isin(list(view.classes)), dtype=bool)


def ordered(findings: Findings, rows: Bool[Array, " n"], score: str = SUSPICION) -> list[str]:
    """Return the ids of the training images among `rows`, most suspicious first."""
    narrow = findings.samples.loc[rows, ["split", score_column(findings.samples, score)]]
    return [str(sample) for sample in rank(narrow, score, split=TRAIN).index]


def ids_of_query(
    findings: Findings, classes: Sequence[str], query: Mapping[str, str]
) -> tuple[tuple[str, ...] | None, str | None]:
    """Return the training images that an address selects (`lasso`, `stand`, `colour`), and why it selects none.

    Both are None where it does not ask for a selection.
    """
    lasso, message = lasso_of(findings, query.get("lasso", ""))
    if lasso is None:
        return None, message
    view, _ = View.from_query(query, classes, findings.score_names, SPACES, "5%")
    return tuple(ordered(findings, selected(findings, view, lasso), view.ranking)), None


def actions(decisions: pd.DataFrame) -> dict[str, str]:
    """Return the action in effect of each sample with a decision."""
    return dict(zip(decisions.index.tolist(), decisions["action"].tolist(), strict=True))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the samples whose action is another one than before, or that have none any more."""
    gone = [name for name in before if name not in now]
    return gone + [name for name, action in now.items() if before.get(name) != action]


def thinned(points: Any, most: int) -> list[list[float]]:
    """Return at most `most` points, evenly taken, as plain numbers."""
    step = max(1, -(-len(points) // most))
    return [[float(x), float(y)] for x, y in points[::step]]
