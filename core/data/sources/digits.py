"""`digits`: scikit-learn's 1,797 handwritten digits with 10 % planted label errors, the truth beside them.

Real images that need no network: the demo, and the tests of everything. The 8 x 8 grey values 0 to 16 become lossless
PNGs (value · 255 / 16) when they are read.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from PIL import Image

from core.axes import Array, Int, UInt8
from core.data.noise import plant_uniform
from core.data.sources.base import SourceOptions, SourceRows, problems_frame
from core.errors import InputError

PLANTED = 0.10


@cache
def _digits() -> tuple[UInt8[Array, "n 8 8"], Int[Array, " n"]]:
    from sklearn.datasets import load_digits  # half a second that only this source needs

    bunch = load_digits()
    return np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)


def _ids(n: int) -> list[str]:
    return [f"digits/{row:05d}.png" for row in range(n)]


def _png(pixels: UInt8[Array, "8 8"]) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, format="PNG")
    return target.getvalue()


@dataclass(frozen=True)
class DigitsSource:
    """The digits with planted errors; `options.seed` says which labels are wrong. A mirror would change the label."""

    options: SourceOptions
    spec: str = "digits"
    flip: bool = False

    def rows(self) -> SourceRows:
        """Return the 1,797 rows, `given_label` with 180 planted errors, `true_label` as the data set has it."""
        _, truth = _digits()
        ids = _ids(len(truth))
        given = plant_uniform(truth, ids, 10, PLANTED, self.options.seed)
        frame = pd.DataFrame(
            {
                "row": np.arange(len(ids)),
                "sample_id": ids,
                "filepath": "",
                "given_label": given.astype(str).astype(object),
                "split": None,
                "group": None,
                "true_label": truth.astype(str).astype(object),
            }
        )
        return SourceRows(frame, problems_frame(), len(ids), tuple("0123456789"))

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the PNG of each id, in the data set's order."""
        images, _ = _digits()
        position = {sample_id: row for row, sample_id in enumerate(_ids(len(images)))}
        for sample_id in sorted(set(ids), key=lambda name: position.get(name, -1)):
            row = position.get(sample_id)
            yield sample_id, InputError("no such digit") if row is None else _png(images[row])


def open_digits(rest: str, options: SourceOptions) -> DigitsSource:
    """Open `digits`; it takes nothing after a colon."""
    if rest:
        raise InputError(f"The source digits takes nothing after it, but got {rest!r}. Write digits.")
    return DigitsSource(options)
