"""Small worlds of points with a planted share of wrong labels: two clouds, and two half-moons.

`draw(name, seed)` makes a world, `edited(world, edits)` applies what a person dragged and flipped, `written` and `read`
turn edits into the text of an address and back. The same name and seed give the same points everywhere.
Source: the protocols of Chhabra et al., arXiv 2405.03869, figure 1: 150 points with 10 flips, 250 points with 20. Their
own points are not public; these are drawn anew from distributions of the same centres and spreads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from core.axes import Array, Bool, Float, Int
from core.errors import InputError

CHECK, FRESH = 100, 2_000  # points with right labels: for the estimate of influence, and to count errors on
FRAME = (-2.8, 2.8, -2.1, 2.1)  # what a picture shows: left, right, bottom, top; points stay inside
SEEDS = 1_000  # worlds to choose from


@dataclass(frozen=True)
class Kind:
    """One kind of world: its title for a person, its points, how many labels of each class are flipped, its draw."""

    name: str
    title: str
    points: int
    flips: int
    hidden: bool  # whether its border bends, so that the width of a hidden layer can be chosen
    draw: Callable[[np.random.Generator, Array], Float[Array, "n 2"]]


def _clouds(chance: np.random.Generator, labels: Int[Array, " n"]) -> Float[Array, "n 2"]:
    centre = np.array([(3.0, -3.0), (1.0, 1.9)])[labels]
    points = chance.normal(centre, np.array([(1.5, 1.3), (1.35, 1.65)])[labels])
    return (points - (2.0, -0.5)) / (1.75, 2.85)  # the mean and the spread of both together


def _moons(chance: np.random.Generator, labels: Int[Array, " n"]) -> Float[Array, "n 2"]:
    angle = chance.uniform(0, np.pi, len(labels))
    upper, lower = np.stack([np.cos(angle), np.sin(angle)], 1), np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], 1)
    points = np.where(labels[:, None] == 0, upper, lower) + chance.normal(0, 0.2, (len(labels), 2))
    return (points - (0.5, 0.25)) * (1.25, 1.5)  # to fill the frame


KINDS = {
    kind.name: kind
    for kind in (
        Kind("line", "Two clouds", 150, 5, False, _clouds),
        Kind("moons", "Half-moons", 250, 10, True, _moons),
    )
}


@dataclass(frozen=True, eq=False)
class World:
    """The points of a world.

    Attributes:
        labels: as given, 0 or 1; `truth` as drawn.
        check, check_labels: points whose labels are right, which the estimate of influence may see.
        fresh, fresh_labels: more of them, which nothing may see: errors are counted on them.
    """

    kind: Kind
    xy: Float[Array, "n 2"]
    labels: Int[Array, " n"]
    truth: Int[Array, " n"]
    check: Float[Array, "_ 2"]
    check_labels: Int[Array, " _"]
    fresh: Float[Array, "_ 2"]
    fresh_labels: Int[Array, " _"]

    @property
    def wrong(self) -> Bool[Array, " n"]:
        """Which points carry another label than they were drawn with."""
        return np.asarray(self.labels != self.truth)


@dataclass(frozen=True)
class Edit:
    """What a person did to one point: its row, whether its label is turned over, and where it lies now (or None)."""

    row: int
    flipped: bool = False
    at: tuple[float, float] | None = None


@lru_cache(maxsize=16)
def draw(name: str, seed: int = 0) -> World:
    """The world of this kind and seed; do not change its arrays.

    Raises:
        InputError: there is no such kind, or the seed is not in 0..999.
    """
    if name not in KINDS:
        raise InputError(f"There is no world {name!r}. Choose from {', '.join(KINDS)}.")
    if not 0 <= seed < SEEDS:
        raise InputError(f"The world's number is {seed}. Choose one from 0 to {SEEDS - 1}.")
    kind = KINDS[name]
    chance = np.random.default_rng([list(KINDS).index(name), seed])
    parts = []
    for points in (kind.points, CHECK, FRESH):
        labels = chance.permutation(np.arange(points) % 2)
        parts += [_inside(kind.draw(chance, labels)), labels]
    given = parts[1].copy()
    for label in (0, 1):
        given[chance.choice(np.flatnonzero(parts[1] == label), kind.flips, replace=False)] = 1 - label
    return World(kind, parts[0], given, *parts[1:])


def edited(world: World, edits: Iterable[Edit]) -> World:
    """The world with the edits applied; the points that are not named stay.

    Raises:
        InputError: a row that the world does not have, or a place that is no number.
    """
    xy, labels = world.xy.copy(), world.labels.copy()
    for edit in edits:
        if not 0 <= edit.row < len(xy):
            raise InputError(f"There is no point {edit.row}; this world has {len(xy)}. Start again.")
        if edit.flipped:
            labels[edit.row] = 1 - world.labels[edit.row]
        if edit.at is not None:
            if not all(map(math.isfinite, edit.at)):
                raise InputError(f"Point {edit.row} cannot lie at {edit.at}. Start again.")
            xy[edit.row] = edit.at
    return replace(world, xy=_inside(xy), labels=labels)


def written(edits: Iterable[Edit]) -> str:
    """Edits as short text: row, an f where flipped, the place in thousandths: `12f~30_1234_-500`."""
    return "~".join(
        f"{edit.row}{'f' if edit.flipped else ''}"
        + ("" if edit.at is None else f"_{round(edit.at[0] * 1000)}_{round(edit.at[1] * 1000)}")
        for edit in edits
    )


def read(text: str) -> tuple[Edit, ...]:
    """What `written` wrote; a part that cannot be read is left out, of two edits of one row the later one counts."""
    found = {}
    for part in text.split("~")[:1_000]:
        row, *at = part.split("_")
        number = row.removesuffix("f")
        if _whole(number) and (not at or (len(at) == 2 and all(map(_whole, at)))):
            place = (int(at[0]) / 1000, int(at[1]) / 1000) if at else None
            found[int(number)] = Edit(int(number), row.endswith("f"), place)
    return tuple(found.values())


def _whole(text: str) -> bool:
    return text.removeprefix("-").isascii() and text.removeprefix("-").isdecimal() and len(text) < 8


def _inside(xy: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
    left, right, bottom, top = FRAME
    return np.clip(xy, (left + 0.05, bottom + 0.05), (right - 0.05, top - 0.05))
