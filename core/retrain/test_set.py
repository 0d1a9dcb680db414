"""The rows on which arms are compared, named, with what is known of their own labels.

A split that is held out is never trained on and never reviewed, so no decision can touch it: `test` where there is
one, else `val`, else another. Where nothing is held out, the training rows that no arm changes stand in for it, each
judged by a head that left it out; they are the easier rows, and only the quick form can leave rows out like that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from core.axes import Array, Bool, Float, Integer
from core.data.manifest import Manifest
from core.errors import InputError
from core.review.flags import TRAIN
from core.verify.arms import Arm
from core.verify.noise import confident_joint_noise
from core.verify.record import SPLITS, TRAINING, UNCHANGED, TestSet

FEW = 200  # test rows below which it is said that they are few


class Held(NamedTuple):
    """A test set, and where its rows stand in the manifest."""

    test: TestSet
    rows: Integer[Array, " m"]

    @property
    def trained(self) -> bool:
        """Whether its rows are training rows."""
        return self.test.name == UNCHANGED


def split_for_tests(manifest: Manifest, asked: str | None = None) -> str:
    """Return the split that arms are compared on, or `TRAINING`.

    Raises:
        InputError: a split was asked for that there is not.
    """
    found = dict.fromkeys(str(name) for name in manifest.rows["split"])
    held_out = [name for name in (*SPLITS, *sorted(found)) if name in found and name != TRAIN]
    if asked in (TRAINING, TRAIN):
        return TRAINING
    if asked is None:
        return held_out[0] if held_out else TRAINING
    if asked not in held_out:
        there = ", ".join([*dict.fromkeys(held_out), TRAINING])
        raise InputError(f"There is no split {asked!r} to compare on. Choose from {there}.")
    return asked


def held(
    manifest: Manifest, arms: Sequence[Arm], asked: str | None = None, probabilities: Float[Array, "n c"] | None = None
) -> Held:
    """Choose the test rows and say what is known of their labels.

    Args:
        manifest: the rows.
        arms: those that are compared, controls left out: what they change is no test row.
        asked: a split, `TRAINING`, or None for the first there is.
        probabilities: out of sample, of every row of the manifest, where there are any: they tell the labels' noise.

    Raises:
        InputError: there is no such split, or nothing is left to compare on.
    """
    split = split_for_tests(manifest, asked)
    rows = _unchanged(manifest, arms) if split == TRAINING else _of_split(manifest, split)
    if len(rows) < 2:
        raise InputError(
            f"{len(rows)} rows are left to compare on, two are the least. Hold out more, or let the arms change fewer."
        )
    labels = manifest.labels[rows]
    noise = None
    if probabilities is not None:
        noise = float(confident_joint_noise(np.asarray(probabilities[rows], dtype=np.float64), labels))
    name = UNCHANGED if split == TRAINING else split
    ids = tuple(str(sample) for sample in manifest.ids[rows])
    return Held(TestSet(name, ids, labels, noise, _known_noise(manifest, rows), _note(split, len(rows))), rows)


def _of_split(manifest: Manifest, split: str) -> Integer[Array, " m"]:
    return np.flatnonzero((manifest.rows["split"] == split).to_numpy(bool))


def _unchanged(manifest: Manifest, arms: Sequence[Arm]) -> Integer[Array, " m"]:
    rows = np.flatnonzero(manifest.train)
    given = manifest.labels[rows]
    touched: Bool[Array, " r"] = np.zeros(len(rows), bool)
    for arm in arms:
        touched |= arm.changed(given) | arm.weighted()
    return rows[~touched]


def _known_noise(manifest: Manifest, rows: Integer[Array, " m"]) -> float | None:
    """Share of wrong labels among the rows whose truth the source tells."""
    if "true_label" not in manifest.rows:
        return None
    some = manifest.rows.iloc[rows]
    known = some["true_label"].notna().to_numpy(bool)
    wrong = (some["given_label"] != some["true_label"]).to_numpy(bool)
    return float(wrong[known].mean()) if known.any() else None


def _note(split: str, count: int) -> str:
    few = f" With {count:,} of them only a large difference can be told from luck." if count < FEW else ""
    if split == TRAINING:
        return (
            "Each is judged by a head that left it out, on features that were learned with it and its label. They are "
            f"the easier images: what an arm does to the others is not seen.{few}"
        )
    return f"No arm trains on them and no decision changes them.{few}"
