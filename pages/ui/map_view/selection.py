"""What an address selects on the map: the images within its outline, of the classes that stand out.

The outline is asked about in the space it was drawn in, so that the same images stay selected when the map shows the
other space, and on other pages (`ids_of_query`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from core.axes import Array, Bool
from core.findings import SPACES, Findings
from core.review.flags import SUSPICION, TRAIN, rank, score_column
from core.review.points import ALL, inside
from pages.ui.map_view import polygon
from pages.ui.map_view.view import View


def selected(findings: Findings, view: View, lasso: str) -> Bool[Array, " n"] | None:
    """Return which rows of the findings an address selects, or None where it selects nothing or cannot be read."""
    found = polygon.read(lasso) if lasso else None
    if found is None or found[0] not in findings.maps:
        return None
    within = inside(np.asarray(findings.maps[found[0]], dtype=np.float32), found[1])
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


def ids_of_query(findings: Findings, classes: Sequence[str], query: Mapping[str, str]) -> tuple[str, ...] | None:
    """Return the training images that an address selects (`lasso`, `stand`, `colour`), or None if it selects none."""
    view, _ = View.from_query(query, classes, findings.score_names, SPACES, "5%")
    rows = selected(findings, view, query.get("lasso", ""))
    return None if rows is None else tuple(ordered(findings, rows, view.ranking))


def thinned(points: Any, most: int) -> list[list[float]]:
    """Return at most `most` points, evenly taken, as plain numbers."""
    step = max(1, -(-len(points) // most))
    return [[float(x), float(y)] for x, y in points[::step]]
