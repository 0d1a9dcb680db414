"""Which images show the same picture twice: byte for byte, or moved a little, lighter, darker, stored anew.

- `shrunk`: pixels to the small pictures that are compared.
- `find_copies`: exact copies by digest, near ones among feature neighbours, gathered in groups. What a command uses.
- `difference`: how much of one picture the other does not explain; the measure behind `near`.

A network that looks for classes puts two different red cars side by side, so a feature neighbour is only a candidate.
Small pictures decide: each is fitted by the other, by its two slopes (a first-order shift, so half a pixel counts too)
and by a constant (Lucas and Kanade 1981, with a gain); what the fit leaves over, as a share of the picture's contrast,
is the difference, and the larger of both directions counts.

On 1,800 pictograms (94 planted copies, shifted by up to 2 of 64 pixels, lightened, with noise) all 94 are found, and 6
other pairs pass, 3 of them bare grounds. Of pairs of CIFAR-10 that people judged one photograph (Barz and Denzler
2020, a sample of 54) 72 % pass, of those they judged two similar ones (22) 14 %. Where pictures are simple, neighbours
are alike without being copies (two noughts of 8 x 8 pixels differ by .1): the limit falls with what is usual between
neighbours of the data. Of 1,797 digits 21 are then left instead of 1,131, and the other figures stay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from core.axes import Array, Float, Integer, UInt8
from core.progress import Progress

SIDE = 16  # pixels of the small pictures
ALIKE = 0.2  # share of the contrast that may be left over
OF_USUAL = 0.3  # the same, as a share of what is left over between neighbours of these data as a rule
ENOUGH = 100  # pairs that tell what is usual
PLAIN = 8.0  # grey levels of contrast below which a picture is a bare ground, like which there are many
MOVED = 1.25  # pixels of the small picture, beyond which a first-order shift says nothing
GAIN = 1.5  # largest change of contrast between copies
BLOCK = 2_000  # pairs at a time: 60 MB
CORRELATED = 0.85  # below it no fit is tried; the lowest of a copy that passed was 0.93, planted or photographed
EXACT, NEAR = "exact", "near"
COLUMNS = ("row", "group", "other", "kind", "difference")


class Small(NamedTuple):
    """Small pictures made ready to be compared: values and slopes, each without its mean."""

    values: Float[Array, "n q"]
    slopes: Float[Array, "n 2 q"]
    contrast: Float[Array, " n"]


def shrunk(pixels: UInt8[Array, "h w 3"]) -> UInt8[Array, "16 16 3"]:
    """One image as a small picture; squashed to a square, as the reference network sees it."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    way = Image.Resampling.BOX if min(image.size) >= SIDE else Image.Resampling.BILINEAR
    return np.asarray(image.resize((SIDE, SIDE), way))


def find_copies(
    digests: Array,
    small: UInt8[Array, "n s s 3"],
    near: Integer[Array, "n k"] | None,
    progress: Progress = Progress(),  # noqa: B008 (frozen)
) -> pd.DataFrame:
    """The images of which there is a copy, gathered in groups: whoever is a copy of a copy belongs to them too.

    Args:
        digests: `n` texts, SHA-256 of the encoded images; "" where there is no image.
        small: `shrunk` of each image.
        near: positions of the nearest images of each, the candidates of near copies; None looks for exact ones only.
        progress: who is told.

    Returns:
        One line per such image: row, group (counted from 0, in the order of the rows), other (the row of its likest
        copy), kind ("exact" or "near") and difference (0 for exact copies, see `difference`).
    """
    exact = _exact_pairs(digests)
    close, left_over = _near_pairs(small, near, progress) if near is not None else (exact[:0], np.zeros(0))
    pairs = np.concatenate([exact, close])
    apart = np.concatenate([np.zeros(len(exact)), left_over])
    kinds = np.repeat(np.array([EXACT, NEAR], object), [len(exact), len(close)])
    return _gathered(pairs, apart, kinds, len(digests))


def _exact_pairs(digests: Array) -> Integer[Array, "m 2"]:
    """Each image of a repeated digest with the first of it: as many pairs as images, however often one is repeated."""
    codes = pd.factorize(digests)[0]
    _, first = np.unique(codes, return_index=True)
    rows = np.arange(len(codes))
    again = rows[(first[codes] != rows) & (digests != "")]
    return np.stack([first[codes[again]], again], axis=1).astype(np.int64)


def _near_pairs(
    small: UInt8[Array, "n s s 3"], near: Integer[Array, "n k"], progress: Progress
) -> tuple[Integer[Array, "m 2"], Float[Array, " m"]]:
    """The pairs of neighbours whose small pictures are alike, each once."""
    ready, pairs = prepared(small), _pairs_of(near)
    found = np.full(len(pairs), np.inf)
    for start in range(0, len(pairs), BLOCK):
        at = start + np.flatnonzero(_correlated(ready, *pairs[start : start + BLOCK].T))
        found[at] = difference(ready, pairs[at, 0], pairs[at, 1])
        progress.report("copies", min(start + BLOCK, len(pairs)), len(pairs), "pairs")
    usual = float(np.median(np.minimum(found, 1.0))) if len(pairs) >= ENOUGH else 1.0
    alike = found < min(ALIKE, OF_USUAL * usual)
    return pairs[alike], found[alike]


def _correlated(small: Small, rows: Integer[Array, " m"], others: Integer[Array, " m"]) -> Array:
    """Whether a fit is worth trying: few pairs of neighbours are, and the fit costs ten times as much."""
    product = np.einsum("mq,mq->m", small.values[rows], small.values[others]) / small.values.shape[1]
    alike: Array = product >= CORRELATED * small.contrast[rows] * small.contrast[others]
    return alike


def _pairs_of(near: Integer[Array, "n k"]) -> Integer[Array, "m 2"]:
    n = len(near)
    rows, others = np.repeat(np.arange(n, dtype=np.int64), near.shape[1]), np.asarray(near, np.int64).ravel()
    both = np.unique(np.minimum(rows, others) * n + np.maximum(rows, others))
    both = both[both // max(n, 1) != both % max(n, 1)]
    return np.stack([both // max(n, 1), both % max(n, 1)], axis=1)


def prepared(small: UInt8[Array, "n s s 3"]) -> Small:
    """Smooth the pictures twice and take their slopes, in grey levels per pixel; the border is left out."""
    smooth = _smooth(_smooth(small.astype(np.float32)))
    across, down = (smooth[:, 1:-1, 2:] - smooth[:, 1:-1, :-2]) / 2, (smooth[:, 2:, 1:-1] - smooth[:, :-2, 1:-1]) / 2
    values, *slopes = (_flat(part) for part in (smooth[:, 1:-1, 1:-1], across, down))
    return Small(values, np.stack(slopes, axis=1), np.sqrt(np.mean(values**2, axis=1)))


def _smooth(pictures: Array) -> Array:
    """Each pixel with its neighbours, 1 : 2 : 1 across and down."""
    for axis in (1, 2):
        first, last = (np.take(pictures, [at], axis) for at in (0, -1))
        wide = np.concatenate([first, pictures, last], axis)
        low, middle, high = (np.moveaxis(wide, axis, 0)[at : at + pictures.shape[axis]] for at in (0, 1, 2))
        pictures = np.moveaxis((low + 2 * middle + high) / 4, 0, axis)
    return np.asarray(pictures)


def _flat(part: Array) -> Array:
    flat = np.ascontiguousarray(part).reshape(len(part), -1)
    centred: Array = flat - flat.mean(axis=1, keepdims=True)
    return centred


def difference(small: Small, rows: Integer[Array, " m"], others: Integer[Array, " m"]) -> Float[Array, " m"]:
    """How much of each picture the other one does not explain, as a share of its contrast; the worse direction counts.

    Infinite where a picture is plain, or where the fit asks for a larger shift or another contrast than a copy has.
    """
    there, back = _left_over(small, rows, others), _left_over(small, others, rows)
    plain = np.minimum(small.contrast[rows], small.contrast[others]) < PLAIN
    return np.where(plain, np.inf, np.maximum(there, back))


def _left_over(small: Small, rows: Integer[Array, " m"], others: Integer[Array, " m"]) -> Float[Array, " m"]:
    """What is left of `others` after the fit by `rows`: least squares on the values and both slopes."""
    design = np.concatenate([small.values[rows][:, None], small.slopes[rows]], axis=1)  # m 3 q
    target, q = small.values[others], design.shape[2]
    products = np.einsum("mpq,mrq->mpr", design, design) / q + np.eye(3, dtype=np.float32)  # 1: no slope, no shift
    weights = np.linalg.solve(products, (np.einsum("mpq,mq->mp", design, target) / q)[..., None])[..., 0]
    left = np.sqrt(np.mean((target - np.einsum("mp,mpq->mq", weights, design)) ** 2, axis=1))
    gain = np.maximum(weights[:, 0], 1e-6)
    odd = (np.abs(weights[:, 1:] / gain[:, None]).max(axis=1) > MOVED) | (gain > GAIN) | (gain < 1 / GAIN)
    return np.where(odd, np.inf, left / np.maximum(small.contrast[others], PLAIN))


def _gathered(pairs: Integer[Array, "m 2"], apart: Float[Array, " m"], kinds: Array, n: int) -> pd.DataFrame:
    """The groups that pairs make, with the likest copy of each image; of equally like ones the first in the rows."""
    ends, links = np.concatenate([pairs, pairs[:, ::-1]]), np.concatenate([apart, apart])
    order = np.lexsort((ends[:, 1], links, ends[:, 0]))
    rows, first = np.unique(ends[order, 0], return_index=True)
    chosen = order[first]
    shape = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    group = pd.factorize(connected_components(shape, directed=False)[1][rows])[0]
    columns = (rows, group, ends[chosen, 1], np.concatenate([kinds, kinds])[chosen], links[chosen])
    return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))
