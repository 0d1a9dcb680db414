"""Matrices too large to hold: rows are worked out when they are asked for, and read a block at a time.

- `LazyRows(shape, dtype, work)`: looks like an array as far as its rows go; nothing is kept.
- `by_blocks(function, *arrays)`: a number per row, from arrays, mapped files or `LazyRows`, without a second copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from core.axes import Array

BLOCK = 16_384  # rows at a time: of 1,000 float32 columns 64 MB


class LazyRows:
    """An `n x m` matrix whose rows are computed anew by `work(rows)` for each request.

    `rows` is whatever picks rows of an array: a slice, positions or a mask. `np.asarray` computes the whole.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], dtype: Any, work: Callable[[Any], Array]) -> None:
        self.shape, self.dtype, self._work = shape, np.dtype(dtype), work

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """How many numbers the whole matrix has."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, rows: Any) -> Array:
        if isinstance(rows, int | np.integer):
            return np.asarray(self[np.array([rows])][0])
        if isinstance(rows, tuple):
            raise TypeError("Only rows can be asked for. Take the rows first, then their columns.")
        return self._work(rows)

    def astype(self, dtype: Any) -> LazyRows:
        """The same numbers in another type, still worked out when asked for."""
        return LazyRows(self.shape, dtype, lambda rows: self._work(rows).astype(dtype))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Work out the whole matrix."""
        if copy is False:
            raise ValueError("These rows are worked out when asked for; there is nothing to share without a copy.")
        whole = np.empty(self.shape, dtype or self.dtype)
        for rows in blocks(len(self)):
            whole[rows] = self[rows]
        return whole


def blocks(n: int, size: int = BLOCK) -> Iterator[slice]:
    """The rows of `n` in slices of `size`; at least one, so that no rows give an empty result of the right type."""
    for start in range(0, max(n, 1), size):
        yield slice(start, min(start + size, n))


def by_blocks(function: Callable[..., Array], *arrays: Any, size: int = BLOCK) -> Array:
    """`function(*arrays)` for a function of single rows, called with `size` rows of each array at a time."""
    return np.concatenate([function(*(array[rows] for array in arrays)) for rows in blocks(len(arrays[0]), size)])
