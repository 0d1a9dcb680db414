"""One question to a small world, one answer: train, measure, take some points away, train again, count errors.

What is taken away is compared with as many taken at random, on points that nothing else may see. The same question has
the same answer; the last few are kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from core.axes import Array, Bool, Float
from core.errors import SettingsError
from core.toys.borders import Line, border
from core.toys.measures import MEASURES, Measured, agreement, measure
from core.toys.models import WIDTH, Model, fit
from core.toys.worlds import Edit, World, draw, edited

MOST = 60  # points that may be taken away
RANDOM = 8  # draws of as many at random


@dataclass(frozen=True)
class Ask:
    """What is asked.

    Attributes:
        kind, seed: of the world.
        width: of the hidden layer; has no effect where the border is straight.
        edits: what a person moved and flipped.
        measure, count: what is taken away: so many points that this measure puts first.
        forest: whether the isolation forest is asked; its code may still be loading.
        quick: leave out what a moving hand does not wait for: the random draws and the check of the influence.

    Raises:
        SettingsError: an unknown measure, or more points than may be taken.
    """

    kind: str = "moons"
    seed: int = 0
    width: int = WIDTH
    edits: tuple[Edit, ...] = ()
    measure: str = "push"
    count: int = 0
    forest: bool = True
    quick: bool = False

    def __post_init__(self) -> None:
        """Check what no world checks."""
        if self.measure not in MEASURES:
            raise SettingsError(f"There is no measure {self.measure!r}. Choose from {', '.join(MEASURES)}.")
        if not 0 <= self.count <= MOST:
            raise SettingsError(f"{self.count} points are to be taken away. Take 0 to {MOST}.")


@dataclass(frozen=True)
class Errors:
    """How a model does on fresh points: the share it gets wrong, and its mean surprise (log-loss, in nats)."""

    wrong: float
    surprise: float


@dataclass(frozen=True, eq=False)
class Trimmed:
    """What came of taking points away: who was taken, how many of them were wrong, the new border, and the errors.

    `random` are the means over `RANDOM` draws of as many points, None where the question was a quick one.
    """

    measure: str
    taken: Bool[Array, " n"]
    hits: int
    border: list[Line]
    errors: Errors
    random: Errors | None


@dataclass(frozen=True, eq=False)
class Answer:
    """What the pictures show.

    Attributes:
        agreement: correlation of the estimated influence with leaving out and fitting again; None where not worked out
            (a bent border, or a quick question).
    """

    world: World
    measured: Measured
    border: list[Line]
    errors: Errors
    agreement: float | None
    trimmed: Trimmed | None


@lru_cache(maxsize=32)
def play(ask: Ask) -> Answer:
    """Answer a question; do not change the arrays.

    Raises:
        InputError: a world, a seed or a row that there is not.
        SettingsError: a width that is not offered, or a trimming that leaves nothing.
    """
    world = edited(draw(ask.kind, ask.seed), ask.edits)
    width = ask.width if world.kind.hidden else 0
    model = fit(world.xy, world.labels, np.ones((1, len(world.xy))), width)[0]
    measured = measure(world, model, ask.forest)
    checked = None if ask.quick or world.kind.hidden else agreement(world, model, measured.values["harm"])
    trimmed = _trim(ask, world, measured, width) if ask.count and ask.measure in measured.values else None
    return Answer(world, measured, border(model), _errors(world, model), checked, trimmed)


def _trim(ask: Ask, world: World, measured: Measured, width: int) -> Trimmed:
    taken = np.zeros(len(world.xy), bool)
    taken[measured.order(ask.measure)[: ask.count]] = True
    draws = 0 if ask.quick else RANDOM
    models = fit(world.xy, world.labels, np.vstack([~taken, _at_random(len(taken), ask.count, draws)]), width)
    random = [_errors(world, model) for model in models[1:]]
    return Trimmed(
        ask.measure, taken, int(world.wrong[taken].sum()), border(models[0]), _errors(world, models[0]), _mean(random)
    )


def _at_random(points: int, count: int, draws: int) -> Float[Array, "_ n"]:
    kept = np.ones((draws, points))
    for row in range(draws):
        kept[row, np.random.default_rng([points, count, row]).choice(points, count, replace=False)] = 0
    return kept


def _errors(world: World, model: Model) -> Errors:
    signed = (2 * world.fresh_labels - 1) * model.logits(world.fresh)
    return Errors(float((signed <= 0).mean()), float(np.logaddexp(0, -signed).mean()))


def _mean(each: list[Errors]) -> Errors | None:
    if not each:
        return None
    return Errors(float(np.mean([one.wrong for one in each])), float(np.mean([one.surprise for one in each])))
