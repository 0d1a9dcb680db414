"""Approximate nearest neighbours of very many samples, by nearest-neighbour descent (pynndescent).

`approximate(units, k, served, seed, progress)`: a graph of neighbours is improved until neighbours of neighbours bring
nothing new; more neighbours than asked for are kept and their similarities worked out anew, so what is returned is
right about everything but who may be missing. The same seed gives the same bits on the same number of threads.
Factors wider than `WIDEST` columns in all are searched by their largest principal components.
Source: Dong, Moses, Li, "Efficient k-nearest neighbor graph construction for generic similarity measures", WWW 2011.
"""

from __future__ import annotations

import typing
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from core.atlas.threads import threads_as_found
from core.axes import Array, Float32, Int
from core.findings import Neighbours
from core.gradients.rows import LazyRows, blocks
from core.progress import Progress

WIDEST = 512  # columns that are held for the search; at a million rows 2 GB
SPARE = 10  # neighbours kept beyond those asked for, so that fewer are missed
_RANKED_BYTES = 128 * 2**20


def approximate(
    units: Sequence[LazyRows], k: int, served: Int[Array, " s"], seed: int, progress: Progress
) -> Neighbours:
    """The nearest `k` of each row among the rows `served`, by the product of the factors' cosines.

    `units` are rows of length 1 (or 0). Reports before and after the descent, which cannot be stopped itself.
    """
    n, width = len(units[0]), min(k, len(served) - 1)
    progress.report("neighbours", 0, n, "images")
    held, split = _held(units)
    near = _descent(held, split, min(width + 1 + SPARE, len(served)), served, seed)
    found = Neighbours(np.zeros((n, width), np.int64), np.zeros((n, width), np.float32))
    step = max(1, _RANKED_BYTES // (near.shape[1] * 4 * sum(factor.shape[1] for factor in units)))
    for rows in blocks(n, step):
        found.rows[rows], found.similarity[rows] = _ranked(units, np.arange(n)[rows], near[rows], width)
        progress.report("neighbours", rows.stop, n, "images")
    return found


def _held(units: Sequence[LazyRows]) -> tuple[Float32[Array, "n p"], int]:
    """The factors side by side in memory, each cut to its share of `WIDEST`, and where the second begins."""
    each = max(1, WIDEST // len(units))
    axes = [_principal_axes(factor, each) if factor.shape[1] > each else np.eye(factor.shape[1]) for factor in units]
    held = np.empty((len(units[0]), sum(some.shape[1] for some in axes)), np.float32)
    for rows in blocks(len(held)):
        held[rows] = np.hstack([factor[rows] @ some for factor, some in zip(units, axes, strict=True)])
    return held, axes[0].shape[1]


def _principal_axes(units: LazyRows, count: int) -> Array:
    """The directions, through 0, that hold most of the vectors' squared length."""
    products = np.zeros((units.shape[1],) * 2)
    for rows in blocks(len(units)):
        some = units[rows].astype(np.float64)
        products += some.T @ some
    return np.asarray(np.linalg.eigh(products)[1][:, ::-1][:, :count])


def _descent(held: Array, split: int, width: int, served: Array, seed: int) -> Int[Array, "n w"]:
    """Candidates for every row, as row positions, most of them near; a row may be among its own."""
    with threads_as_found(), warnings.catch_warnings():
        # Said where some rows have many equals; they get fewer candidates, and the search asks again for them.
        warnings.filterwarnings("ignore", message="Failed to correctly find n_neighbors", category=UserWarning)
        from pynndescent import NNDescent

        metric: Any = "cosine" if split == held.shape[1] else _product(split)
        index = NNDescent(held[served], metric, n_neighbors=width, random_state=seed % 2**32, angular_trees=True)
        near = np.empty((len(held), width), np.int64)
        near[served] = _positions(index.neighbor_graph[0], served)
        others = np.setdiff1d(np.arange(len(held)), served, assume_unique=True)
        if len(others):
            near[others] = _positions(index.query(held[others], k=width, epsilon=0.2)[0], served)
    return near


def _positions(found: Array, served: Int[Array, " s"]) -> Int[Array, "m w"]:
    return np.where(found < 0, -1, served[np.maximum(found, 0)])


@cache  # compiled once for each split, not once for each search
def _product(split: int) -> Any:
    """One minus the product of two cosines, of the columns up to `split` and of those after it."""
    import numba

    @numba.njit(fastmath=True)
    @typing.no_type_check
    def distance(x, y):
        first, second = np.float32(0), np.float32(0)
        for at in range(split):
            first += x[at] * y[at]
        for at in range(split, x.shape[0]):
            second += x[at] * y[at]
        return np.float32(1) - first * second

    return distance


def _ranked(units: Sequence[LazyRows], rows: Array, near: Array, width: int) -> tuple[Array, Array]:
    """The best `width` of each row's candidates by their true similarity; equal ones in the order of rows."""
    near = np.sort(near, axis=1)
    similarity = np.ones(near.shape, np.float32)
    for factor in units:
        theirs = factor[near.ravel()].reshape(*near.shape, factor.shape[1])
        similarity *= np.einsum("mwd,md->mw", theirs, factor[rows])
    similarity[(near < 0) | (near == rows[:, None])] = -np.inf
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :width]
    best = np.take_along_axis(similarity, order, axis=1)
    found = np.where(np.isneginf(best), -1, np.take_along_axis(near, order, axis=1))
    return found, np.clip(best, -1, 1)
