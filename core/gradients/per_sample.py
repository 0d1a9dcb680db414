"""Per-sample gradients of one parameter that are not computed until asked for.

`each(rows)` gives the gradients themselves, `squares()` their squared norms. `Given` holds what a layer's rule needs,
`Held` gradients that were computed already, `Added` several uses of one parameter, `Pulled` those of a tensor that
was worked out from the parameter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

_BLOCK = 1 << 22  # numbers held at a time by a form that needs temporaries: 16 MiB in float32


def blocks(n: int, width: int) -> Iterator[slice]:
    """Cut n samples into slices that hold at most `_BLOCK` numbers at `width` per sample, or one sample."""
    step = max(1, _BLOCK // max(width, 1))
    return (slice(start, start + step) for start in range(0, n, step))


def widened(tensor: Tensor) -> Tensor:
    """Return half-precision numbers in float32, in which squares neither overflow nor vanish; others as they are."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype.itemsize < 4 else tensor


class PerSample(ABC):
    """The gradients of one parameter, a row for each of `n` samples; one takes `size` numbers while it is made."""

    n: int
    size: int

    @abstractmethod
    def each(self, rows: slice = slice(None)) -> Tensor:
        """Return the gradients of some samples, "n *shape"."""

    def squares(self) -> Tensor:
        """Return the squared L2 norm of every gradient, "n", in blocks of bounded memory."""
        return torch.cat([self.each(rows).flatten(1).square().sum(1) for rows in blocks(self.n, self.size)])


@runtime_checkable
class Take(Protocol):
    """Receives the gradients of a parameter, of all samples or of some rows of the batch."""

    def __call__(self, name: str, gradients: PerSample, rows: slice = ...) -> None:
        """Take them."""


class Given(PerSample):
    """Gradients that `each_of(given, back)` makes of two tensors "n ...": a layer's input and its output's gradient.

    `squares_of(given, back)`, where there is one, makes the squared norms with less work; it holds `width` numbers per
    sample meanwhile.
    """

    def __init__(
        self,
        given: Tensor,
        back: Tensor,
        size: int,
        each_of: Callable[[Tensor, Tensor], Tensor],
        squares_of: Callable[[Tensor, Tensor], Tensor] | None = None,
        width: int = 1,
    ) -> None:
        self.n, self.size, self._given, self._back, self._width = len(back), size, given, back, width
        self._each_of, self._squares_of = each_of, squares_of

    def each(self, rows: slice = slice(None)) -> Tensor:
        """Return the gradients of some samples."""
        return self._each_of(self._given[rows], self._back[rows])

    def squares(self) -> Tensor:
        """Return the squared norms, by the cheaper way."""
        if self._squares_of is None:
            return super().squares()
        parts = [self._squares_of(self._given[rows], self._back[rows]) for rows in blocks(self.n, self._width)]
        return torch.cat(parts).clamp(min=0)  # a sum of products that cancel may end a rounding below zero


class Held(PerSample):
    """Gradients "n *shape" that were computed already."""

    def __init__(self, gradients: Tensor) -> None:
        self.n, self.size, self._gradients = len(gradients), gradients[0].numel(), widened(gradients)

    def each(self, rows: slice = slice(None)) -> Tensor:
        """Return the gradients of some samples."""
        return self._gradients[rows]


class Added(PerSample):
    """Several uses of one parameter: its gradient is the sum of theirs, and no norm may be taken before."""

    def __init__(self, parts: list[PerSample]) -> None:
        self.n, self.size, self._parts = parts[0].n, max(part.size for part in parts), parts

    def each(self, rows: slice = slice(None)) -> Tensor:
        """Return the gradients of some samples."""
        total = self._parts[0].each(rows)
        for part in self._parts[1:]:
            total = total + part.each(rows)
        return total


class Pulled(PerSample):
    """Gradients of `source`, which was worked out from the parameter `leaf`, pulled back to that parameter."""

    def __init__(self, gradients: PerSample, source: Tensor, leaf: Tensor) -> None:
        self.n, self.size = gradients.n, max(gradients.size, leaf.numel())
        self._gradients, self._source, self._leaf = gradients, source, leaf

    def each(self, rows: slice = slice(None)) -> Tensor:
        """Return the gradients of some samples."""
        return widened(torch.stack([self._pull(back) for back in self._gradients.each(rows).to(self._source.dtype)]))

    def _pull(self, back: Tensor) -> Tensor:
        kept = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
        return torch.autograd.grad(self._source, self._leaf, back, **kept)[0]


def rows_added(back: Tensor, shape: torch.Size) -> Given:
    """A parameter of `shape` that met every row alike: add the gradients `back "n r ..."` over a sample's r rows."""
    return Given(back, back, max(1, back[0].numel()), lambda _, g: g.sum(1).reshape(len(g), *shape))


def each_row_its_own(back: Tensor, shape: torch.Size) -> Given:
    """A parameter of `shape` whose i-th row met the i-th row of the data: zero but for the sample's own rows."""

    def each(index: Tensor, g: Tensor) -> Tensor:
        whole = g.new_zeros(len(index), *back.shape)
        whole[torch.arange(len(index), device=index.device), index] = g
        return whole.reshape(len(index), *shape)

    return Given(torch.arange(len(back), device=back.device), back, back.numel(), each)
