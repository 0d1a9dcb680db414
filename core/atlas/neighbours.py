"""The nearest neighbours of every sample in two spaces.

- `feature_neighbours(features, k)`: by the cosine of the inputs of the last layer. What looks alike to the network.
- `gradient_neighbours(g, k)`: by the cosine of the last-layer gradients, from their factors:
  `(e_i . e_k)(h_i . h_k) / (|g_i| |g_k|)`. What pulls the network the same way: it looks alike *and* is mistaken alike.
- `search_features`, `search_gradients`: the same with a record of how it was found (`Search`).

Up to `EXACT_UP_TO` rows every pair is compared, in blocks, so memory is bounded by the block. Beyond it the rows named
by `flagged` are compared with all, and the others' neighbours come from `core/atlas/approximate.py`; `Search` says so,
with the share that the approximate search finds of the exact neighbours of some rows drawn for that purpose.
A sample is never its own neighbour; equally near ones come in the order of their rows; a zero vector has similarity 0
to everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from core.axes import Array, Bool, Float, Int
from core.errors import InputError, SettingsError
from core.findings import Neighbours
from core.gradients.last_layer import LastLayerGradients
from core.gradients.rows import LazyRows, blocks
from core.progress import Progress

EXACT_UP_TO = 100_000  # rows; so many take a minute or two in both spaces, ten times as many a hundred times as long
MEASURED_ON = 500  # rows drawn to say how good the approximate search is: its share is known within 1 point or so
_BLOCK_BYTES = 64 * 2**20  # of similarities at a time, where all rows are held
_ROWS_AT_ONCE, _OTHERS_AT_ONCE = 8192, 4096  # where they are not: 128 MB of similarities


@dataclass(frozen=True)
class Search:
    """Neighbours, and how they were found.

    `exact` are the rows that were compared with all; `recall` is the share of the nearest neighbours of rows drawn at
    random that the approximate search finds, None where every row is exact.
    """

    neighbours: Neighbours
    exact: Bool[Array, " n"]
    recall: float | None = None

    def facts(self) -> dict[str, Any]:
        """Plain values for a run's record."""
        return {"exact_rows": int(self.exact.sum()), "rows": len(self.exact), "recall": self.recall}

    def said(self) -> str:
        """One sentence for a person; empty where every row is exact."""
        if self.recall is None:
            return ""
        return (
            f"Neighbours are exact for {int(self.exact.sum()):,} of {len(self.exact):,} images, the flagged ones among "
            f"them, and approximate for the rest: {self.recall:.1%} of the true ones, measured on {MEASURED_ON}."
        )


def feature_neighbours(
    features: Float[Array, "n d"],
    k: int,
    candidates: Bool[Array, " n"] | None = None,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
) -> Neighbours:
    """The `k` nearest of each row of `features`; where `candidates` is given, only its rows serve as neighbours.

    Fewer columns where there are fewer others than `k`. Raises InputError for a value that is not finite, and
    SettingsError for `k` below 1.
    """
    return search_features(features, k, candidates, progress).neighbours


def gradient_neighbours(
    g: LastLayerGradients,
    k: int,
    candidates: Bool[Array, " n"] | None = None,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
) -> Neighbours:
    """The `k` nearest of each gradient, otherwise as `feature_neighbours`."""
    return search_gradients(g, k, candidates, progress).neighbours


def search_features(
    features: Float[Array, "n d"],
    k: int,
    candidates: Bool[Array, " n"] | None = None,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
    *,
    flagged: Bool[Array, " n"] | None = None,
    seed: int = 0,
) -> Search:
    """As `feature_neighbours`; beyond `EXACT_UP_TO` rows exact for `flagged`, approximate by `seed` for the rest."""
    return _search([_Factor(features, "features")], k, candidates, progress, flagged, seed)


def search_gradients(
    g: LastLayerGradients,
    k: int,
    candidates: Bool[Array, " n"] | None = None,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
    *,
    flagged: Bool[Array, " n"] | None = None,
    seed: int = 0,
) -> Search:
    """As `gradient_neighbours`; beyond `EXACT_UP_TO` rows exact for `flagged`, approximate by `seed` for the rest."""
    plain = g.numpy()
    factors = [_Factor(plain.errors, "errors"), _Factor(plain.inputs, "inputs")]
    return _search(factors, k, candidates, progress, flagged, seed)


@dataclass(frozen=True)
class _Factor:
    """One factor of the vectors to compare; what is compared are its rows divided by their lengths."""

    vectors: Any
    what: str

    def __len__(self) -> int:
        return len(self.vectors)

    def held(self) -> Array:
        return _units(np.asarray(self.vectors), self.what)

    def lazy(self) -> LazyRows:
        kind = np.float64 if self.vectors.dtype == np.float64 else np.float32
        return LazyRows(self.vectors.shape, kind, lambda rows: _units(self.vectors[rows], self.what, rows))


def _search(
    factors: Sequence[_Factor], k: int, candidates: Array | None, progress: Progress, flagged: Array | None, seed: int
) -> Search:
    if k < 1:
        raise SettingsError(f"k is {k}; ask for one neighbour or more.")
    n = len(factors[0])
    served = np.arange(n) if candidates is None else np.flatnonzero(candidates)
    if n <= EXACT_UP_TO:
        found = _nearest([factor.held() for factor in factors], np.arange(n), served, k, progress)
        return Search(found, np.ones(n, bool))
    drawn = np.sort(np.random.default_rng(seed).choice(n, min(MEASURED_ON, n), replace=False))
    exact = np.zeros(n, bool) if flagged is None else flagged.copy()
    exact[drawn] = True
    units, wanted = [factor.lazy() for factor in factors], np.flatnonzero(exact)
    true = _nearest(units, wanted, served, k, progress)

    from core.atlas.approximate import approximate  # slow to import

    found = approximate(units, k, served, seed, progress)
    recall = _recall(found, true, drawn, np.searchsorted(wanted, drawn))
    found.rows[wanted], found.similarity[wanted] = true.rows, true.similarity
    short = np.flatnonzero((found.rows < 0).any(1))  # it found too few: such rows are compared with all
    if len(short):
        again = _nearest(units, short, served, k, progress)
        found.rows[short], found.similarity[short] = again.rows, again.similarity
        exact[short] = True
    return Search(found, exact, recall)


def _recall(found: Neighbours, true: Neighbours, rows: Int[Array, " m"], at: Int[Array, " m"]) -> float:
    """Share of the neighbours found that are as near as the farthest true one, to rounding: ties count."""
    if true.similarity.shape[1] == 0:
        return 1.0
    return float((found.similarity[rows] >= true.similarity[at, -1:] - 1e-6).mean())


def _nearest(
    factors: Sequence[Any], rows: Int[Array, " m"], served: Int[Array, " s"], k: int, progress: Progress
) -> Neighbours:
    """The nearest of some rows, by the product of the factors' dot products; `factors` are arrays or `LazyRows`."""
    n, width = len(factors[0]), min(k, max(len(served) - 1, 0))
    found = Neighbours(np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.float32))
    step, part = _block_sizes(factors, len(served))
    whole = _tensors(factors, served if len(served) < n else slice(None)) if part == len(served) else None
    for block in blocks(len(rows), step) if width and len(rows) else ():
        mine, best = _tensors(factors, rows[block]), None
        for some in blocks(len(served), part):
            table = _similarities(mine, whole if whole is not None else _tensors(factors, served[some]))
            _forget_self(table, served[some], rows[block])
            best = _better(best, *_top(table, width), some.start)
            if some.stop < len(served):  # a block of very many takes minutes
                progress.report("neighbours", block.start, len(rows), "images")
        assert best is not None
        found.rows[block], found.similarity[block] = served[best[1].numpy()], best[0].clamp_(-1, 1).numpy()
        progress.report("neighbours", block.stop, len(rows), "images")
    return found


def _block_sizes(factors: Sequence[Any], others: int) -> tuple[int, int]:
    """How many rows are compared with how many others at a time."""
    if any(isinstance(factor, LazyRows) for factor in factors):
        return _ROWS_AT_ONCE, _OTHERS_AT_ONCE
    return max(1, _BLOCK_BYTES // (max(others, 1) * factors[0].itemsize * len(factors))), others


def _tensors(factors: Sequence[Any], rows: Any) -> list[Tensor]:
    return [torch.from_numpy(factor[rows]) for factor in factors]


def _similarities(block: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    table = block[0] @ others[0].T
    for mine, theirs in zip(block[1:], others[1:], strict=True):
        table *= mine @ theirs.T
    return table


def _forget_self(table: Tensor, served: Int[Array, " s"], rows: Int[Array, " m"]) -> None:
    """Put a sample's similarity to itself below any other."""
    _, mine, its = np.intersect1d(rows, served, assume_unique=True, return_indices=True)
    table[torch.from_numpy(mine), torch.from_numpy(its)] = -torch.inf


def _top(table: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest of each row and where they stand; of equal ones the first, which `topk` does not promise."""
    if table.shape[1] <= width:
        return table.sort(dim=1, descending=True, stable=True)
    best, at = table.topk(width + 1, dim=1)
    for row in torch.nonzero(best[:, width] == best[:, width - 1])[:, 0].tolist():
        last = best[row, width - 1]
        above = int((best[row] > last).sum())
        at[row, above:width] = torch.nonzero(table[row] == last)[: width - above, 0]
    at, _ = at[:, :width].sort(dim=1)
    best, order = table.gather(1, at).sort(dim=1, descending=True, stable=True)
    return best, at.gather(1, order)


def _better(best: tuple[Tensor, Tensor] | None, near: Tensor, at: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The best so far and those of the next others, which begin at `first`, together."""
    if best is None:
        return near, at
    width = max(best[0].shape[1], near.shape[1])
    both, order = torch.cat((best[0], near), dim=1).sort(dim=1, descending=True, stable=True)
    return both[:, :width], torch.cat((best[1], at + first), dim=1).gather(1, order[:, :width])


def _units(vectors: Float[Array, "n d"], what: str, rows: Any = None) -> Float[Array, "n d"]:
    """Each row divided by its length (a zero row stays zero), scaled first so that no square overflows or vanishes."""
    unit = np.array(vectors, dtype=np.float64 if vectors.dtype == np.float64 else np.float32)
    broken = np.flatnonzero(~np.isfinite(unit).all(axis=1))
    if len(broken):
        row = broken[0] if rows is None else _position(rows, int(broken[0]))
        raise InputError(f"The {what} of row {row} are not finite. Leave the row out, or look for a diverged training.")
    largest = np.abs(unit).max(axis=1, keepdims=True, initial=0)
    np.divide(unit, largest, out=unit, where=largest > 0)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    np.divide(unit, length, out=unit, where=length > 0)
    return unit


def _position(rows: Any, at: int) -> int:
    return int(range(2**62)[rows][at]) if isinstance(rows, slice) else int(rows[at])
