"""The outline that a person drew on a map: checked, made short, and written into the address bar and read from it.

What the browser or a link sends is input: `checked` takes nothing but a list of finite pairs. `shortened` keeps at
most `CORNERS` of them, and that short outline is what is drawn, kept and asked about, so that a link selects the same
images.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

Outline: TypeAlias = list[list[float]]

MOST = 2_000  # corners that are taken from a browser
CORNERS = 60  # corners that are kept
FARTHEST = 1e6  # no map reaches as far
_SPACES = {"g": "gradients", "f": "features"}
_HEAD = re.compile(r"([gf])-([0-9a-f]{6})")


class Lasso(NamedTuple):
    """An outline with the map it was drawn on: its space, and six hexadecimal digits that tell its coordinates."""

    space: str
    map: str
    outline: Outline


def checked(value: Any) -> Outline | None:
    """Return what the browser sent as an outline, or None if it is not one: 3 to `MOST` pairs of finite numbers."""
    if not isinstance(value, list | tuple) or not 3 <= len(value) <= MOST:
        return None
    found = [[float(x) for x in each] for each in value if _pair(each)]
    return found if len(found) == len(value) else None


def _pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(_number(x) for x in value)


def _number(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and math.isfinite(value) and abs(value) <= FARTHEST


def shortened(outline: Sequence[Sequence[float]], most: int = CORNERS) -> Outline:
    """Return the outline with at most `most` corners, each rounded to five digits.

    Corners are dropped by Ramer, Douglas and Peucker's rule, by a tolerance that grows from a thousandth of the
    outline's size until few enough are left: a box and a hand-drawn polygon of few corners stay what they are.
    """
    points = np.asarray(outline, dtype=np.float64)
    size = float(np.hypot(*(points.max(axis=0) - points.min(axis=0)))) or 1.0
    tolerance, kept = 1e-3 * size, points
    while len(kept := points[_corners(points, tolerance)]) > most:
        tolerance *= 1.25
    return [[_rounded(x), _rounded(y)] for x, y in (kept if len(kept) >= 3 else points[:most])]


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _corners(points: Any, tolerance: float) -> list[int]:
    """Rows to keep, in order, of a closed outline that is parted at its first corner and the one farthest from it."""
    far = int(np.hypot(*(points - points[0]).T).argmax())
    closed = np.vstack([points, points[:1]])
    keep = {0, far}
    spans = [(0, far), (far, len(points))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        away = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(away.argmax())
        if away[worst] > tolerance:
            middle = first + 1 + worst
            keep.add(middle)
            spans += [(first, middle), (middle, last)]
    return sorted(keep)


def _distances(points: Any, start: Any, end: Any) -> Any:
    """How far points lie from the line between two others."""
    along = end - start
    length = float(np.hypot(*along))
    if not length:
        return np.hypot(*(points - start).T)
    return np.abs(along[0] * (points[:, 1] - start[1]) - along[1] * (points[:, 0] - start[0])) / length


def written(lasso: Lasso) -> str:
    """Return a lasso as text for the address bar: the letter of its space and its map, then the corners."""
    letter = next(letter for letter, name in _SPACES.items() if name == lasso.space)
    return "_".join([f"{letter}-{lasso.map}", *(f"{x:.5g},{y:.5g}" for x, y in lasso.outline)])


def read(text: str) -> Lasso | None:
    """Return the lasso that a link asks for, or None if it cannot be read."""
    first, *corners = text[: 40 * MOST].split("_")
    head = _HEAD.fullmatch(first)
    if head is None:
        return None
    try:
        pairs = [[float(number) for number in corner.split(",")] for corner in corners]
    except ValueError:
        return None
    outline = checked(pairs)
    return None if outline is None else Lasso(_SPACES[head[1]], head[2], outline)
