"""The border of a small model as lines that can be drawn: where its logit is 0, by marching squares."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from core.axes import Array, Float
from core.toys.models import Model
from core.toys.worlds import FRAME

CELLS = (72, 54)  # of the frame, across and down: squares of it
Line = list[tuple[float, float]]
_Edge = tuple[int, int, int]  # of the grid: the corner it begins at, and 0 across or 1 up


def border(model: Model) -> list[Line]:
    """The border within the frame as one line or more, to three digits; empty where the model knows one class only."""
    left, right, bottom, top = FRAME
    x, y = np.linspace(left, right, CELLS[0] + 1), np.linspace(bottom, top, CELLS[1] + 1)
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    return contour(model.logits(grid.reshape(-1, 2)).reshape(grid.shape[:2]), x, y)


def contour(value: Float[Array, "_ _"], x: Float[Array, " _"], y: Float[Array, " _"]) -> list[Line]:
    """Where a function of a grid is 0, its values at `(x, y)` joined by straight lines."""
    above = value > 0
    links: dict[_Edge, list[_Edge]] = defaultdict(list)
    corners = above[:-1, :-1].astype(int) + above[1:, :-1] + above[1:, 1:] + above[:-1, 1:]
    for i, j in np.argwhere((corners > 0) & (corners < 4)).tolist():
        crossed = _crossed(above, i, j)
        for one, two in zip(crossed[::2], crossed[1::2], strict=True):
            links[one].append(two)
            links[two].append(one)
    return [[_place(edge, value, x, y) for edge in chain] for chain in _chains(links)]


def _crossed(above: Array, i: int, j: int) -> list[_Edge]:
    """The edges of a cell between whose ends the sign changes, around it; of two lines through it, side by side."""
    around: list[tuple[_Edge, bool]] = [
        ((i, j, 0), above[i, j] != above[i + 1, j]),
        ((i + 1, j, 1), above[i + 1, j] != above[i + 1, j + 1]),
        ((i, j + 1, 0), above[i, j + 1] != above[i + 1, j + 1]),
        ((i, j, 1), above[i, j] != above[i, j + 1]),
    ]
    return [edge for edge, changes in around if changes]


def _chains(links: dict[_Edge, list[_Edge]]) -> list[list[_Edge]]:
    """Edges joined to lines: first those with a free end, then the closed ones."""
    seen: set[_Edge] = set()
    chains = []
    for start in sorted(links, key=lambda edge: (len(links[edge]), edge)):
        if start in seen:
            continue
        chain, at = [start], start
        seen.add(start)
        while onward := [edge for edge in links[at] if edge not in seen]:
            at = onward[0]
            seen.add(at)
            chain.append(at)
        if len(chain) > 2 and start in links[at]:
            chain.append(start)
        chains.append(chain)
    return chains


def _place(edge: _Edge, value: Array, x: Array, y: Array) -> tuple[float, float]:
    i, j, up = edge
    one, two = value[i, j], value[i + (1 - up), j + up]
    share = float(one / (one - two))
    across, high = x[i] + (1 - up) * share * (x[1] - x[0]), y[j] + up * share * (y[1] - y[0])
    return round(float(across), 3), round(float(high), 3)
