"""A short random projection of last-layer gradients, made from the factors: a few numbers a sample instead of c d.

`sketch(g, columns, seed)`: each factor is projected by random signs and the two projections are multiplied entry by
entry. Inner products of sketches are unbiased estimates of inner products of gradients; their error falls with the root
of `columns`. Use it where vectors are needed (the start of a map, clustering); exact norms and dot products come
cheaper from `LastLayerGradients` itself.
Source: Kar and Karnick, "Random feature maps for dot product kernels", AISTATS 2012 (products of sign projections);
signs as in Achlioptas, "Database-friendly random projections", JCSS 2003.
"""

from __future__ import annotations

import numpy as np

from core.axes import Array, Float
from core.errors import SettingsError
from core.gradients.last_layer import LastLayerGradients

_BLOCK = 16_384  # rows at a time: the projected inputs of a block are the only temporary


def sketch(g: LastLayerGradients, columns: int, seed: int) -> Float[Array, "n p"]:
    """`p = columns` numbers per gradient, in the type of the factors; the same seed gives the same projection.

    Raises SettingsError for fewer than one column.
    """
    if columns < 1:
        raise SettingsError(f"A sketch of {columns} columns holds nothing. Ask for one or more.")
    plain = g.numpy()
    dtype = np.result_type(plain.errors, plain.inputs)
    chance = np.random.default_rng([seed, columns])
    of_errors = _signs(chance, plain.errors.shape[1], columns).astype(dtype) / np.sqrt(dtype.type(columns))
    of_inputs = _signs(chance, plain.inputs.shape[1], columns).astype(dtype)
    out = np.empty((len(g), columns), dtype)
    for start in range(0, len(g), _BLOCK):
        rows = slice(start, start + _BLOCK)
        np.matmul(plain.errors[rows], of_errors, out=out[rows])
        out[rows] *= plain.inputs[rows] @ of_inputs
    return out


def _signs(chance: np.random.Generator, rows: int, columns: int) -> Float[Array, "_ p"]:
    return chance.integers(2, size=(rows, columns)) * 2.0 - 1.0
