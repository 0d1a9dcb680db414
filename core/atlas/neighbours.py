"""The nearest neighbours of every sample, exact, in two spaces.

- `feature_neighbours(features, k)`: by the cosine of the inputs of the last layer. What looks alike to the network.
- `gradient_neighbours(g, k)`: by the cosine of the last-layer gradients, from their factors:
  `(e_i . e_k)(h_i . h_k) / (|g_i| |g_k|)`. What pulls the network the same way: it looks alike *and* is mistaken alike.

Every pair is compared, in blocks of rows, so memory is bounded by the block. A sample is never its own neighbour;
equally near ones come in the order of their rows; a zero vector has similarity 0 to everything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from core.axes import Array, Bool, Float, Int
from core.errors import InputError, SettingsError
from core.findings import Neighbours
from core.gradients.last_layer import LastLayerGradients
from core.progress import Progress

_BLOCK_BYTES = 64 * 2**20  # of similarities at a time


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
    return _nearest([_units(features, "features")], k, candidates, progress)


def gradient_neighbours(
    g: LastLayerGradients,
    k: int,
    candidates: Bool[Array, " n"] | None = None,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
) -> Neighbours:
    """The `k` nearest of each gradient, otherwise as `feature_neighbours`."""
    plain = g.numpy()
    return _nearest([_units(plain.errors, "errors"), _units(plain.inputs, "inputs")], k, candidates, progress)


def _nearest(factors: Sequence[Tensor], k: int, candidates: Array | None, progress: Progress) -> Neighbours:
    """The nearest by the product of the factors' dot products."""
    if k < 1:
        raise SettingsError(f"k is {k}; ask for one neighbour or more.")
    n = len(factors[0])
    served = np.arange(n) if candidates is None else np.flatnonzero(candidates)
    width = min(k, max(len(served) - 1, 0))
    rows, similarity = np.zeros((n, width), np.int64), np.zeros((n, width), np.float32)
    others = factors if len(served) == n else [factor[torch.from_numpy(served)] for factor in factors]
    step = max(1, _BLOCK_BYTES // (max(len(served), 1) * factors[0].element_size() * len(factors)))
    for start in range(0, n if width else 0, step):
        block = slice(start, min(start + step, n))
        table = _similarities([factor[block] for factor in factors], others)
        _forget_self(table, served, start)
        best, at = _top(table, width)
        rows[block], similarity[block] = served[at.numpy()], best.numpy()
        progress.report("neighbours", block.stop, n, "images")
    return Neighbours(rows, similarity)


def _similarities(block: Sequence[Tensor], others: Sequence[Tensor]) -> Tensor:
    table = block[0] @ others[0].T
    for mine, theirs in zip(block[1:], others[1:], strict=True):
        table *= mine @ theirs.T
    return table


def _forget_self(table: Tensor, served: Int[Array, " m"], start: int) -> None:
    """Put a sample's similarity to itself below any other."""
    mine = np.flatnonzero((served >= start) & (served < start + len(table)))
    table[torch.from_numpy(served[mine] - start), torch.from_numpy(mine)] = -torch.inf


def _top(table: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` largest of each row and where they stand; of equal ones the first, which `topk` does not promise."""
    best, at = table.topk(width + 1, dim=1)
    for row in torch.nonzero(best[:, width] == best[:, width - 1])[:, 0].tolist():
        last = best[row, width - 1]
        above = int((best[row] > last).sum())
        at[row, above:width] = torch.nonzero(table[row] == last)[: width - above, 0]
    at, _ = at[:, :width].sort(dim=1)
    best, order = table.gather(1, at).clamp_(-1, 1).sort(dim=1, descending=True, stable=True)
    return best, at.gather(1, order)


def _units(vectors: Float[Array, "n d"], what: str) -> Tensor:
    """Each row divided by its length (a zero row stays zero), scaled first so that no square overflows or vanishes."""
    unit = np.array(vectors, dtype=np.float64 if vectors.dtype == np.float64 else np.float32)
    broken = np.flatnonzero(~np.isfinite(unit).all(axis=1))
    if len(broken):
        raise InputError(
            f"The {what} of row {broken[0]} are not finite. Leave the row out, or look for a diverged training."
        )
    largest = np.abs(unit).max(axis=1, keepdims=True, initial=0)
    np.divide(unit, largest, out=unit, where=largest > 0)
    length = np.linalg.norm(unit, axis=1, keepdims=True)
    np.divide(unit, length, out=unit, where=length > 0)
    return torch.from_numpy(unit)
