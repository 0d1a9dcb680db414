"""The two-dimensional map: UMAP on neighbours that are already known, from a start that is always the same.

`umap_map(points, neighbours, seed)`: the neighbours (`core/atlas/neighbours.py`) decide what lies close; the points
only give the start, their first two principal components. The same seed gives the same bits on the same machine.
Positions mean nothing by themselves: compare maps by the neighbours they keep.
Source: McInnes, Healy, Melville, "UMAP", arXiv 1802.03426; the start: Kobak and Linderman, Nature Biotechnology 2021.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from core.atlas.threads import threads_as_found
from core.axes import Array, Float, Float32, Int
from core.errors import InputError
from core.gradients.rows import blocks
from core.progress import Progress

EPOCHS = 200  # UMAP's own choice above 10,000 points; more moves nothing that can be seen
_FEWEST = 10  # UMAP needs a neighbourhood; below this the principal components are the map


def umap_map(
    points: Float[Array, "n p"],
    neighbours: tuple[Int[Array, "_ k"], Float[Array, "_ k"]],
    seed: int,
    min_dist: float = 0.5,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
) -> Float32[Array, "n 2"]:
    """A position for every row of `points`, in UMAP's own units (about -20 to 20).

    `neighbours` are the row positions and cosines that `core/atlas/neighbours.py` gives; `min_dist` is how close UMAP
    lets points lie. Fewer than 10 points, or points without neighbours, are placed by their principal components alone.
    Reports epochs as they pass. Raises InputError where points and neighbours are not of the same rows.
    """
    rows, similarity = neighbours
    if not len(points) == len(rows) == len(similarity):
        raise InputError(f"Got {len(points):,} points and the neighbours of {len(rows):,}. Pass the same rows of both.")
    start = _start(points, seed)
    if len(points) < _FEWEST or rows.shape[1] == 0:
        return start
    return _umap(start, *_with_self(rows, similarity), seed, min_dist, progress)


def _umap(start: Array, rows: Array, distance: Array, seed: int, min_dist: float, progress: Progress) -> Array:
    with threads_as_found(), warnings.catch_warnings():
        # Each said by umap about a choice made here on purpose.
        warnings.filterwarnings("ignore", message=r"precomputed_knn\[2\] .*", category=UserWarning)
        warnings.filterwarnings("ignore", message="n_jobs value .*", category=UserWarning)
        warnings.filterwarnings("ignore", message="Tensorflow not installed.*", category=ImportWarning)
        from umap import UMAP  # slow to import

        place = UMAP(
            n_neighbors=rows.shape[1],
            precomputed_knn=(rows, distance),
            metric="euclidean",  # never computed; of all metrics the one for which no distance counts as unconnected
            init=start,
            min_dist=min_dist,
            n_epochs=EPOCHS,
            random_state=seed % 2**32,
            n_jobs=1,
            tqdm_kwds={"disable": False, "file": _Epochs(progress), "bar_format": "{n_fmt}", "leave": False},
        )
        # The points are not read once the neighbours are given; the start stands in, so that umap copies two columns.
        return np.asarray(place.fit_transform(start), dtype=np.float32)


def _with_self(rows: Array, similarity: Array) -> tuple[Array, Array]:
    """Neighbours as umap wants them: the point itself at distance 0, then `1 - cosine`, never all of the points."""
    own = np.arange(len(rows))[:, None]
    rows, distance = rows[:, : len(rows) - 2], np.maximum(1 - similarity[:, : len(rows) - 2], 0)
    return np.hstack((own, rows)), np.hstack((np.zeros(own.shape), distance)).astype(np.float32)


def _start(points: Float[Array, "n p"], seed: int) -> Float32[Array, "n 2"]:
    """First two principal components, the largest value 10, each with the sign that makes its largest weight positive.

    A tiny seeded jitter, as umap gives its own starts, parts equal points: nothing else would.
    """
    start = np.random.default_rng(seed).normal(scale=1e-4, size=(len(points), 2))
    if points.size:
        mean = sum(points[rows].sum(axis=0, dtype=np.float64) for rows in blocks(len(points))) / len(points)
        axes = _principal_axes(points, mean)
        placed = np.concatenate([(points[rows] - mean) @ axes for rows in blocks(len(points))])
        largest = np.abs(placed).max()
        start[:, : axes.shape[1]] += 10 * np.divide(placed, largest, out=placed, where=largest > 0)
    return start.astype(np.float32)


def _principal_axes(points: Float[Array, "n p"], mean: Any) -> Float[Array, "p _"]:
    """The two directions of largest spread, in float64, from blocks of rows: points may be a mapped file."""
    spread = np.zeros((points.shape[1],) * 2)
    for rows in blocks(len(points)):
        centred = points[rows] - mean
        spread += centred.T @ centred
    axes = np.linalg.eigh(spread)[1][:, ::-1][:, :2]
    return np.asarray(axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]))


class _Epochs:
    """The stream umap's progress bar writes to: each number of epochs becomes a report."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def write(self, text: str) -> None:
        done = text.strip()
        if done.isdecimal():
            self._progress.report("map", int(done), EPOCHS, "epochs")

    def flush(self) -> None:
        """Nothing is held back."""
