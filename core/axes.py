"""The alphabet of axes: one letter has one meaning in every annotation of this package.

| letter | runs over | letter | runs over |
|---|---|---|---|
| `n` | samples | `k` | nearest neighbours of a sample |
| `d` | inputs of the last layer (with the bias's constant 1) | `p` | columns of a random projection |
| `c` | classes | `t` | epochs of a recorded training |

In `core.verify` and `core.retrain`: `m` test rows, `k` trainings (seeds, or draws of a control), `r` training rows, `b`
bootstrap draws, `g` classes or groups, `q` columns; in `core.toys` `q` points of a drawing.

`Float[Array, "n d"]` reads: a numpy array of floating point numbers, one row per sample, one column per input. While
the tests run, jaxtyping checks every such annotation on every call; in normal use they cost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Integer, UInt8

if TYPE_CHECKING:
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[Any]
else:
    Array = np.ndarray

__all__ = ["Array", "Bool", "Float", "Float32", "Int", "Integer", "UInt8"]
