"""The gradient of each sample with respect to a linear last layer, as the two short vectors it is made of.

For softmax cross-entropy on a linear layer the gradient of sample i is the outer product of its error
`e_i = softmax(z_i) - onehot(y_i)` (c numbers) and the layer's input `h_i` (d numbers, a 1 appended for the bias).
Everything asked of a gradient is answered from these factors; the n x (c d) matrix is never made:

| asked for | answered by | from |
|---|---|---|
| norms | `l1()`, `l2()` | `|e|_1 |h|_1` = `2 (1 - p_y) |h|_1`, and `|e|_2 |h|_2` = EL2N `|h|_2` |
| norms of the errors | `el2n()` | `|e|_2` |
| dot products | `dot(other)` | `(e_i . e_k)(h_i . h_k)` |
| one coordinate of every sample | `column(c, j)` | `e_ic h_ij` |
| the whole matrix, class-major | `dense()` | for tests and small n only: n c d numbers |

Works on numpy arrays and torch tensors alike: what goes in comes out. This module does not import torch.
`from_logits` holds the factors in memory; `lazily` leaves logits and inputs where they are (files in half precision,
say) and works the factors out for the rows that are asked for: read it by `take`, a block at a time.
Source: Chhabra et al., "Outlier Gradient Analysis", arXiv 2405.03869, section 3; Paul et al., arXiv 2107.07075 (EL2N).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.axes import Float, Int
from core.errors import InputError
from core.gradients.rows import LazyRows, blocks


@dataclass(frozen=True, eq=False)
class LastLayerGradients:
    """The factors of n gradients; make them with `from_logits`, or with `lazily` where they are too large to hold.

    `errors "n c"` and `inputs "n d"` (bias column included) are float32 or float64, of numpy or torch, or rows that are
    worked out when asked for. Only `with_labels` needs `labels "n"` and `own_probability "n"` (that of the given
    label); they may be None.
    """

    errors: Float[Any, "n c"]
    inputs: Float[Any, "n d"]
    labels: Int[Any, " n"] | None = None
    own_probability: Float[Any, " n"] | None = None

    @classmethod
    def from_logits(cls, logits: Any, labels: Any, inputs: Any, bias: bool = True) -> LastLayerGradients:
        """Factors from `logits "n c"`, integer `labels "n"` in 0..c-1 and the layer's `inputs "n d"` (without the 1).

        Half precision is promoted to float32, float64 stays. Tensors are detached from their graph. With one class
        every error is 0; with no rows everything is empty. Raises InputError for other shapes, a label outside the
        classes and a value that is not finite, naming the row.
        """
        xp = _namespace(logits)
        if _namespace(inputs) is not xp:
            raise InputError("Logits and inputs are of two kinds, numpy and torch. Convert one of them.")
        scores, features = _matrix(xp, logits, "logits"), _matrix(xp, inputs, "inputs")
        if scores.shape[1] == 0:
            raise InputError("The logits have no column; a classifier has at least one class.")
        if len(scores) != len(features):
            raise InputError(_UNEVEN.format(len(scores), len(features)))
        dtype = xp.promote_types(scores.dtype, features.dtype)
        given = _labels(xp, labels, scores)
        probabilities = _softmax(xp, xp.asarray(scores, dtype=dtype))
        return cls._from_probabilities(
            xp, probabilities, given, _with_bias(xp, xp.asarray(features, dtype=dtype), bias)
        )

    @classmethod
    def lazily(cls, logits: Any, labels: Any, inputs: Any, bias: bool = True) -> LastLayerGradients:
        """The same from numpy arrays or mapped files, to the bit, worked out for the rows that are asked for.

        Nothing of n x c or n x d is held. All values are read once, to raise what `from_logits` raises.
        """
        none = cls.from_logits(logits[:0], np.zeros(0, np.int64), inputs[:0], bias)  # shapes and type
        if len(logits) != len(inputs):
            raise InputError(_UNEVEN.format(len(logits), len(inputs)))
        given = _labels(np, labels, logits)
        for rows in blocks(len(logits)):
            _matrix(np, logits[rows], "logits", rows.start)
            _matrix(np, inputs[rows], "inputs", rows.start)

        def with_bias(rows: Any) -> Any:
            return _with_bias(np, np.asarray(inputs[rows], dtype=none.inputs.dtype), bias)

        errors = _Errors(logits, given, none.errors.dtype)
        return cls(errors, LazyRows((len(inputs), none.inputs.shape[1]), none.inputs.dtype, with_bias), given)

    @classmethod
    def _from_probabilities(cls, xp: Any, errors: Any, labels: Any, inputs: Any) -> LastLayerGradients:
        """Turn probabilities into errors in place: the array given is the array kept."""
        own = _become_errors(xp, errors, labels)
        return cls(errors, inputs, labels, own)

    def __len__(self) -> int:
        return int(self.errors.shape[0])

    @property
    def n_columns(self) -> int:
        """Length of one gradient, c d."""
        return int(self.errors.shape[1] * self.inputs.shape[1])

    def l1(self) -> Float[Any, " n"]:
        """L1 norm of each gradient."""
        xp = _namespace(self.errors)
        return self._in_blocks(lambda e, h: xp.abs(e).sum(axis=1) * xp.abs(h).sum(axis=1))

    def l2(self) -> Float[Any, " n"]:
        """L2 (Frobenius) norm of each gradient."""
        xp = _namespace(self.errors)
        return self._in_blocks(lambda e, h: xp.sqrt((e * e).sum(axis=1)) * xp.sqrt((h * h).sum(axis=1)))

    def el2n(self) -> Float[Any, " n"]:
        """L2 norm of each error, in float64."""
        xp = _namespace(self.errors)
        squares = [(xp.asarray(self.errors[rows], dtype=xp.float64) ** 2).sum(axis=1) for rows in blocks(len(self))]
        return xp.sqrt(xp.concatenate(squares))

    def dot(self, other: LastLayerGradients) -> Float[Any, "n _"]:
        """Dot product of each gradient here with each of those there (TracIn at one checkpoint, kernels)."""
        if self.errors.shape[1] != other.errors.shape[1] or self.inputs.shape[1] != other.inputs.shape[1]:
            raise InputError(
                f"Gradients of {_shape(self)} and {_shape(other)} have no dot product. Take both from the same layer."
            )
        one, two = self._held(), other._held()
        return (one.errors @ two.errors.T) * (one.inputs @ two.inputs.T)

    def column(self, c: int, j: int) -> Float[Any, " n"]:
        """Coordinate of every gradient that belongs to class `c` and input `j`."""
        if not (0 <= c < self.errors.shape[1] and 0 <= j < self.inputs.shape[1]):
            raise InputError(f"There is no column ({c}, {j}) in gradients of {_shape(self)}. Count both from 0.")
        return self._in_blocks(lambda e, h: e[:, c] * h[:, j])

    def dense(self) -> Float[Any, "n _"]:
        """The matrix itself, one flattened gradient per row: `e_ic h_ij` stands at column `c d + j`."""
        one = self._held()
        return (one.errors[:, :, None] * one.inputs[:, None, :]).reshape(len(self), self.n_columns)

    def with_labels(self, labels: Any) -> LastLayerGradients:
        """The same samples and network under other `labels "n"`: equal, to the bit, to `from_logits` with these labels.

        Raises InputError as `from_logits` does, and where the factors were made without labels.
        """
        if isinstance(self.errors, _Errors):
            changed = _Errors(self.errors.logits, _labels(np, labels, self.errors.logits), self.errors.dtype)
            return LastLayerGradients(changed, self.inputs, changed.labels)
        if self.labels is None or self.own_probability is None:
            raise InputError("These gradients were made without labels. Make them with LastLayerGradients.from_logits.")
        xp = _namespace(self.errors)
        probabilities = xp.asarray(self.errors, copy=True)
        probabilities[xp.arange(len(self), device=probabilities.device), self.labels] = self.own_probability
        return self._from_probabilities(xp, probabilities, _labels(xp, labels, self.errors), self.inputs)

    def take(self, rows: Any) -> LastLayerGradients:
        """The gradients of `rows` only, in memory: positions, a mask or a slice."""
        if isinstance(self.errors, _Errors):
            kept = self.errors.probabilities(rows), self.errors.labels[rows], self.inputs[rows]
            return self._from_probabilities(np, *kept)
        labels = None if self.labels is None else self.labels[rows]
        own = None if self.own_probability is None else self.own_probability[rows]
        return LastLayerGradients(self.errors[rows], self.inputs[rows], labels, own)

    def numpy(self) -> LastLayerGradients:
        """The same as numpy arrays, sharing memory where it can."""
        labels = None if self.labels is None else _to_numpy(self.labels)
        own = None if self.own_probability is None else _to_numpy(self.own_probability)
        return LastLayerGradients(_to_numpy(self.errors), _to_numpy(self.inputs), labels, own)

    def _held(self) -> LastLayerGradients:
        """The same in memory."""
        return self.take(slice(None)) if isinstance(self.errors, _Errors) else self

    def _in_blocks(self, norm: Callable[[Any, Any], Any]) -> Any:
        parts = [norm(self.errors[rows], self.inputs[rows]) for rows in blocks(len(self))]
        return _namespace(self.errors).concatenate(parts)


class _Errors(LazyRows):
    """Errors worked out from the logits of the rows that are asked for."""

    def __init__(self, logits: Any, labels: Any, dtype: Any) -> None:
        super().__init__(logits.shape, dtype, self._errors)
        self.logits, self.labels = logits, labels

    def probabilities(self, rows: Any) -> Any:
        return _softmax(np, np.asarray(self.logits[rows], dtype=self.dtype))

    def _errors(self, rows: Any) -> Any:
        errors = self.probabilities(rows)
        _become_errors(np, errors, self.labels[rows])
        return errors


_UNEVEN = "Got {:,} rows of logits and {:,} of inputs. Pass one of each per sample."


def _namespace(array: Any) -> Any:
    """`torch` for a tensor, `numpy` for anything else; both know the function and keyword names used here."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else np


def _to_numpy(array: Any) -> Any:
    return array if _namespace(array) is np else array.detach().cpu().numpy()


def _matrix(xp: Any, value: Any, what: str, first_row: int = 0) -> Any:
    array = xp.asarray(value if xp is np else value.detach())
    if array.ndim != 2:
        raise InputError(f"The {what} have shape {tuple(array.shape)}. Pass a matrix with one row per sample.")
    if array.dtype not in (xp.float32, xp.float64):
        half = array.dtype in (xp.float16, getattr(xp, "bfloat16", xp.float16))
        array = xp.asarray(array, dtype=xp.float32 if half else xp.float64)
    if not bool(xp.isfinite(array).all()):
        row, column = (int(position[0]) for position in np.nonzero(~np.isfinite(_to_numpy(array))))
        raise InputError(
            f"The {what} hold {float(array[row, column])} (row {first_row + row}, column {column}). Leave such rows "
            "out, or look for a diverged training or a broken image."
        )
    return array


def _labels(xp: Any, labels: Any, like: Any) -> Any:
    """Labels as int64 beside `like "n c"`, checked against its rows and classes."""
    given = np.asarray(_to_numpy(labels))
    n, c = like.shape
    if given.shape != (n,):
        raise InputError(f"Got labels of shape {given.shape} for {n:,} rows. Pass one label per row.")
    if n and given.dtype.kind not in "iu":
        raise InputError(
            f"The labels are {given.dtype}, not whole numbers. Pass the position of each class, 0 to {c - 1}."
        )
    outside = np.flatnonzero((given < 0) | (given >= c))
    if len(outside):
        raise InputError(
            f"Label {given[outside[0]]} (row {outside[0]}) is not among the {c} classes, 0 to {c - 1}. Fix the row, or "
            "pass logits with a column per class."
        )
    return xp.asarray(given.astype(np.int64), device=getattr(like, "device", "cpu"))  # `LazyRows` are nowhere


def _softmax(xp: Any, logits: Any) -> Any:
    with np.errstate(over="ignore"):  # a span beyond the largest number becomes a probability of 0, which is right
        shifted = logits - xp.amax(logits, axis=1, keepdims=True)
    xp.exp(shifted, out=shifted)
    shifted /= shifted.sum(axis=1, keepdims=True)
    return shifted


def _become_errors(xp: Any, probabilities: Any, labels: Any) -> Any:
    """Subtract the one-hot labels in place; return the given labels' probabilities."""
    rows = xp.arange(len(labels), device=probabilities.device)
    own = probabilities[rows, labels]
    probabilities[rows, labels] = 0
    # Near 1, `p_y - 1` keeps no digits; the sum of the others is the same number and keeps them all.
    probabilities[rows, labels] = xp.where(own < 0.5, own - 1, 0 - probabilities.sum(axis=1))
    return own


def _with_bias(xp: Any, inputs: Any, bias: bool) -> Any:
    if not bias:
        return inputs
    return xp.concatenate((inputs, xp.ones((len(inputs), 1), dtype=inputs.dtype, device=inputs.device)), axis=1)


def _shape(gradients: LastLayerGradients) -> str:
    return f"{gradients.errors.shape[1]} classes × {gradients.inputs.shape[1]} inputs"
