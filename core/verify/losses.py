"""Who pays: what a class or a group loses of its training rows, and what becomes of its accuracy.

A cut over all rows falls hardest on what is rare or hard, whether its labels are wrong or not. So what each class and
group gives up is told beside its share of the data, and what it gets is told as accuracy before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.errors import InputError
from core.review.changes import LOSS_SHARE
from core.verify.compare import CORRECTED, Comparison, compare, points, unknown_chance
from core.verify.intervals import Difference
from core.verify.record import Outcome, Verification

TIMES = 2.0  # beyond so many times its share of the data, and above LOSS_SHARE of its own rows, a value pays
CLUSTER = "cluster"  # a grouping that nobody named: a cluster that goes may be made of wrong labels


@dataclass(frozen=True)
class Loss:
    """What one class or group gives and gets.

    Attributes:
        grouping, value: which one.
        images: its training rows; share: their share of the data (0-1).
        changed: of them left out or relabelled; changed_share: their share of all rows that the arm changes (0-1).
        before, after: accuracy on its test rows (0-1); None where it has no test rows.
        difference: after minus before, with its interval; None where it has no test rows.
        test_images: its test rows.
        fell: its accuracy fell, and the interval says that it was not chance.
        heavy: it gives up more than `TIMES` its share, and over `LOSS_SHARE` of its rows; a cluster never is.
    """

    grouping: str
    value: str
    images: int
    share: float
    changed: int
    changed_share: float
    before: float | None
    after: float | None
    difference: Difference | None
    test_images: int
    fell: bool
    heavy: bool

    @property
    def lost(self) -> float:
        """The share of its training rows that the arm changes (0-1)."""
        return self.changed / self.images if self.images else 0.0

    @property
    def pays(self) -> bool:
        """Whether a person has to know of it."""
        return self.fell or self.heavy


def per(v: Verification, arm: str, grouping: str, comparison: Comparison | None = None) -> tuple[Loss, ...]:
    """One row per value of a grouping, the largest fall of accuracy first.

    Args:
        v: the verification.
        arm: name of an arm.
        grouping: a key of `v.groups`.
        comparison: of the arm with the data as given, where it is known already.

    Raises:
        InputError: there is no such arm or grouping.
    """
    if grouping not in v.groups:
        raise InputError(f"There is no grouping {grouping!r}. Choose from {', '.join(v.groups)}.")
    measured = comparison or compare(v, arm)
    values = sorted({*v.group_sizes.get(grouping, {}), *measured.per[grouping]})
    rows = [_loss(v, v.outcome(arm), grouping, value, measured, bool(unknown_chance(v, arm))) for value in values]
    return tuple(sorted(rows, key=lambda row: (row.difference.value if row.difference else 0.0, row.value)))


def warnings(v: Verification, arm: str, comparison: Comparison | None = None) -> tuple[str, ...]:
    """A sentence for each class or group that pays, over all groupings."""
    measured = comparison or compare(v, arm)
    return tuple(_warning(row) for grouping in v.groups for row in per(v, arm, grouping, measured) if row.pays)


def _loss(v: Verification, arm: Outcome, grouping: str, value: str, measured: Comparison, unknown: bool) -> Loss:
    sizes, counted = v.group_sizes.get(grouping, {}), arm.changed_per.get(grouping, {})
    images, changed = sizes.get(value, 0), counted.get(value, 0)
    share, changed_share = _part(images, sizes), _part(changed, counted)
    difference = measured.per[grouping].get(value)
    before, after = (_accuracy(v, each, grouping, value) for each in (v.outcomes[0], arm))
    return Loss(
        grouping, value, images, share, changed, changed_share, before, after, difference,
        test_images=measured.sizes[grouping].get(value, 0),
        fell=not unknown and difference is not None and difference.below,
        heavy=grouping != CLUSTER and changed_share > TIMES * share and changed > LOSS_SHARE * images,
    )  # fmt: skip


def _part(number: int, among: Mapping[str, int]) -> float:
    everything = sum(among.values())
    return number / everything if everything else 0.0


def _accuracy(v: Verification, arm: Outcome, grouping: str, value: str) -> float | None:
    rows = np.array([each == value for each in v.groups[grouping]])
    return float((arm.predicted == v.test.labels)[:, rows].mean()) if rows.any() else None


def _warning(row: Loss) -> str:
    name = row.value if row.grouping == "class" else f"{row.value} ({row.grouping})"
    told = []
    if row.heavy:
        told.append(
            f"gives up {row.changed:,} of its {row.images:,} training images ({row.lost:.0%}), "
            f"{row.changed_share:.0%} of all that change, and is {row.share:.0%} of the data".replace("%", " %")
        )
    if row.fell and row.difference:
        told.append(f"loses accuracy on {row.test_images:,} test images: {points(row.difference, CORRECTED)}")
    return f"{name} {'; it '.join(told)}."
