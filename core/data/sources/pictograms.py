"""`pictograms`: 1,800 drawn pictures of ten things, in which everything a reviewer meets is planted, its truth kept.

Beside them 600 to test on, whose labels are all right: what cleaning did to the others can be measured on them.

A person sees at a glance what each picture shows, so nobody has to believe a ranking: the boat is labelled fish. What
was done to a picture stands in the column `planted`:

| planted | pictures | what it is | its true label |
|---|---|---|---|
| (empty) | 1,374 | an ordinary picture | as given |
| `wrong label` | 100 | the label of any other class | the thing's |
| `look-alike label` | 100 | the label of the class that looks most like it (`PAIRS`) | the thing's |
| `hard` | 44 | two things at half each, the label of one of them | as given |
| `rare` | 44 | chalk on a board, trees and clocks only | as given |
| `junk` | 44 | noise, a bare ground, a scribble, a corner of a thing | as given: there is no thing to name |
| `near copy` | 64 | an ordinary picture once more, shifted by a pixel or two | as given |
| `copy, other label` | 30 | the same, under another label | the thing's |

Half of the classes stand on blue grounds and half on warm ones, 95 % of their pictures: the column `group` says
`usual ground` or `other ground`, `board` for chalk, and nothing for junk. A network may lean on the ground, and a
person who looks for that can find it. Drawn errors are easier to find than those of real data.

The split `test` holds 60 ordinary pictures of each class, chalk for 20 of the trees and of the clocks, and the other
ground for 10 of each class: more of both than there is to learn from, so that what happens to them can be told.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pandas as pd
from PIL import Image

from core.axes import Array, Int
from core.chance import sample_keys, uniform
from core.data.noise import plant_uniform
from core.data.sources.base import SourceOptions, SourceRows, problems_frame
from core.data.sources.pictogram_art import FORMS, JUNK, chalk, junk, mixture, near_copy, pictogram
from core.errors import InputError

CLASSES = tuple(FORMS)
PICTURES = 1800
PAIRS = (("boat", "fish"), ("tree", "umbrella"), ("flower", "star"), ("house", "cup"), ("key", "clock"))
ON_BLUE = frozenset({"boat", "fish", "umbrella", "key", "clock"})
IN_CHALK = frozenset({"tree", "clock"})
TEST_PICTURES = 600
IDS = tuple(f"pictograms/{row:05d}.png" for row in range(PICTURES))
TEST_IDS = tuple(f"pictograms/test/{row:05d}.png" for row in range(TEST_PICTURES))
ALL_IDS = IDS + TEST_IDS
OTHER_GROUND = 0.05
TEST_OTHER, TEST_CHALK = 10, 20  # pictures of each class, and of each that is drawn in chalk

ORDINARY, WRONG, LOOKALIKE, HARD, RARE = "", "wrong label", "look-alike label", "hard", "rare"
IS_JUNK, COPY, OTHER_COPY = "junk", "near copy", "copy, other label"
PLANTED = {WRONG: 100, LOOKALIKE: 100, HARD: 44, RARE: 44, IS_JUNK: 44, COPY: 64, OTHER_COPY: 30}
USUAL, OTHER, BOARD = "usual ground", "other ground", "board"

LIKE = {one: other for pair in PAIRS for one, other in (pair, pair[::-1])}
LIKE_CODES = np.array([CLASSES.index(LIKE[name]) for name in CLASSES])


@cache
def _plan(seed: int) -> pd.DataFrame:
    """One line per picture to train on.

    Its columns: `given_label`, `true_label`, `planted`, `group`, `thing`, `second`, `ground`, `original`.
    `second` is the other thing of a mixture, or the kind of a junk picture. `original` is the row that a copy shows,
    its own row for all others.
    """
    keys = sample_keys(IDS)
    truth = np.arange(PICTURES) % len(CLASSES)
    planted = _parts(truth, np.argsort(uniform(keys, seed, "pictograms: planted"), kind="stable"))
    original = _originals(truth, planted, np.argsort(uniform(keys, seed, "pictograms: copied"), kind="stable"))
    anywhere = plant_uniform(truth, IDS, len(CLASSES), 1.0, seed)
    given = np.where(np.isin(planted, [WRONG, OTHER_COPY]), anywhere, truth)
    given = np.where(planted == LOOKALIKE, LIKE_CODES[truth], given)
    draws = uniform(keys, seed, "pictograms: second thing")
    second = np.where(draws < 0.5, LIKE_CODES[truth], anywhere)
    names = np.array(CLASSES, dtype=object)
    kinds = np.array(JUNK, dtype=object)[(draws * len(JUNK)).astype(np.int64)]
    other = _other_ground(truth, uniform(keys, seed, "pictograms: ground"))[original]
    blue = np.isin(names[truth], list(ON_BLUE)) ^ other
    group = np.where(other, OTHER, USUAL).astype(object)
    group[planted == RARE], group[planted == IS_JUNK] = BOARD, None
    return pd.DataFrame(
        {
            "given_label": names[given],
            "true_label": np.where(planted == IS_JUNK, names[given], names[truth]),
            "planted": planted,
            "group": group,
            "thing": names[truth],
            "second": np.where(planted == IS_JUNK, kinds, names[second]),
            "ground": np.where(blue, "blue", "warm").astype(object),
            "original": original,
        }
    )


@cache
def _test_plan() -> pd.DataFrame:
    """The same lines for the pictures to test on. The seed says how they are drawn, not what they show."""
    truth, turn = np.arange(TEST_PICTURES) % len(CLASSES), np.arange(TEST_PICTURES) // len(CLASSES)
    names = np.array(CLASSES, dtype=object)[truth]
    board = np.isin(names, list(IN_CHALK)) & (turn >= TEST_PICTURES // len(CLASSES) - TEST_CHALK)
    other = turn < TEST_OTHER
    return pd.DataFrame(
        {
            "given_label": names,
            "true_label": names,
            "planted": np.where(board, RARE, ORDINARY).astype(object),
            "group": np.where(board, BOARD, np.where(other, OTHER, USUAL)).astype(object),
            "thing": names,
            "second": names,
            "ground": np.where(np.isin(names, list(ON_BLUE)) ^ other, "blue", "warm").astype(object),
            "original": PICTURES + np.arange(TEST_PICTURES),
        }
    )


@cache
def _whole_plan(seed: int) -> pd.DataFrame:
    """The lines of `ALL_IDS`: the pictures to train on, then those to test on."""
    return pd.concat([_plan(seed), _test_plan()], ignore_index=True)


def _parts(truth: Int[Array, " n"], order: Int[Array, " n"]) -> Array:
    """Say for every picture what is planted in it: the first in `order` that may have it, as many as stated."""
    planted = np.full(len(truth), ORDINARY, dtype=object)
    in_chalk = np.isin(truth, [CLASSES.index(name) for name in IN_CHALK])
    for part in (RARE, *(name for name in PLANTED if name != RARE)):
        free = (planted == ORDINARY) & (in_chalk if part == RARE else True)
        planted[order[free[order]][: PLANTED[part]]] = part
    return planted


def _originals(truth: Int[Array, " n"], planted: Array, order: Int[Array, " n"]) -> Int[Array, " n"]:
    """Give each copy the row of an ordinary picture of its class, no picture twice."""
    original = np.arange(len(truth))
    for code in range(len(CLASSES)):
        copies = np.flatnonzero((truth == code) & np.isin(planted, [COPY, OTHER_COPY]))
        ordinary = order[((truth == code) & (planted == ORDINARY))[order]]
        original[copies] = ordinary[: len(copies)]
    return original


def _other_ground(truth: Int[Array, " n"], draws: Array) -> Array:
    """Choose the pictures of each class that do not stand on its usual ground."""
    other = np.zeros(len(truth), dtype=bool)
    for code in range(len(CLASSES)):
        rows = np.flatnonzero(truth == code)
        other[rows[np.argsort(draws[rows], kind="stable")][: round(OTHER_GROUND * len(rows))]] = True
    return other


def _drawn(seed: int, row: int) -> Image.Image:
    """Draw the picture of a row, a function of the seed and the row's id."""
    line = _whole_plan(seed).iloc[row]
    rng = np.random.default_rng([seed, int(sample_keys([ALL_IDS[row]])[0])])
    match line["planted"]:
        case "hard":
            return mixture(line["thing"], line["second"], line["ground"], rng)
        case "rare":
            return chalk(line["thing"], rng)
        case "junk":
            return junk(line["second"], line["thing"], line["ground"], rng)
        case "near copy" | "copy, other label":
            return near_copy(_drawn(seed, int(line["original"])), rng)
        case _:
            return pictogram(line["thing"], line["ground"], rng)


@lru_cache(maxsize=PICTURES + TEST_PICTURES)  # of one seed; a picture is read several times by a run and has about 6 kB
def _png(seed: int, row: int) -> bytes:
    target = io.BytesIO()
    _drawn(seed, row).save(target, format="PNG", compress_level=1)
    return target.getvalue()


@dataclass(frozen=True)
class PictogramsSource:
    """The pictograms; `options.seed` says what is drawn and what is planted. A mirror leaves every label true."""

    options: SourceOptions
    spec: str = "pictograms"
    flip: bool = True

    def rows(self) -> SourceRows:
        """Return 1,800 rows without a split and 600 of `test`: `given_label`, `true_label`, `planted`, `group`."""
        plan = _whole_plan(self.options.seed)[["given_label", "true_label", "planted", "group"]].astype(object)
        split = np.array([None] * PICTURES + ["test"] * TEST_PICTURES, dtype=object)
        frame = pd.DataFrame({"row": np.arange(len(plan)), "sample_id": ALL_IDS, "filepath": "", "split": split})
        return SourceRows(frame.join(plan), problems_frame(), len(plan), CLASSES)

    def read(self, ids: Sequence[str]) -> Iterator[tuple[str, bytes | InputError]]:
        """Yield the PNG of each id, in the order of the rows."""
        position = {sample_id: row for row, sample_id in enumerate(ALL_IDS)}
        for sample_id in sorted(set(ids), key=lambda name: position.get(name, -1)):
            row = position.get(sample_id)
            yield sample_id, InputError("no such pictogram") if row is None else _png(self.options.seed, row)


def open_pictograms(rest: str, options: SourceOptions) -> PictogramsSource:
    """Open `pictograms`; it takes nothing after a colon."""
    if rest:
        raise InputError(f"The source pictograms takes nothing after it, but got {rest!r}. Write pictograms.")
    return PictogramsSource(options)
