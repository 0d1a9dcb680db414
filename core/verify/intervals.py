"""The interval of a difference: which test rows there happened to be, and how a training happened to go.

- Test rows: a paired percentile bootstrap. The same resampled rows count in both arms, so that what is hard for every
  arm cancels.
- Trainings: Student's t on what the seeds (or the draws of a control) show.

Both half-widths are squared and added, on each side of its own (MOVER: Zou and Donner, Statistics in Medicine 2008). A
bootstrap to whose every draw Student noise is added has the same interval to 3 % at 95 % and a narrower one further
out; but 2,000 draws do not hold the small shares that a correction for many values asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri, stdtrit  # scipy.stats would take half a second at every command's start

from core.axes import Array, Float, Float32, Int, Integer

LEVEL = 0.95
DRAWS = 2_000
SEED = 0
RESOLVED = 5 / DRAWS  # share of the draws below which a quantile of them says little: beyond, a normal's tail goes on
BLOCK = 4_096  # test rows held as numbers of 4 bytes at a time


@dataclass(frozen=True)
class Difference:
    """An arm minus another: shares of 1 (nats for log-loss), with the ends of the interval."""

    value: float
    low: float
    high: float

    @property
    def above(self) -> bool:
        """Whether the whole interval lies above 0."""
        return self.low > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval lies below 0."""
        return self.high < 0


class Noise(NamedTuple):
    """What trainings vary by: a standard error and its degrees of freedom; none where nothing shows it."""

    scale: float = 0.0
    freedom: int = 0


class Draws(NamedTuple):
    """Resampled test rows: how often each row counts, `m b`, and two rows more that are added to every small set."""

    counts: Integer[Array, "m b"]
    added: Integer[Array, "two b"]


@lru_cache(maxsize=2)
def resampled(rows: int) -> Draws:
    """`DRAWS` samples with replacement of `rows` test rows; the same for every arm, measure and call."""
    rng = np.random.default_rng(SEED)
    counts = np.empty((DRAWS, rows), np.uint8)
    for draw in counts:
        draw[:] = np.bincount(rng.integers(0, rows, rows), minlength=rows)
    added = rng.binomial(rows, 1 / rows, (2, DRAWS))
    return Draws(np.ascontiguousarray(counts.T), added)


def sums(columns: Float[Array, "q m"], rows: Int[Array, " _"], draws: Draws) -> Float32[Array, "q b"]:
    """The sum of each column over the resampled `rows`, for every draw."""
    total = np.zeros((len(columns), draws.counts.shape[1]), np.float32)
    for begin in range(0, len(rows), BLOCK):
        block = rows[begin : begin + BLOCK]
        total += columns[:, block].astype(np.float32) @ draws.counts[block].astype(np.float32)
    return total


def interval(value: float, draws: Float[Array, " b"], noise: Noise, level: float = LEVEL) -> Difference:
    """The interval around `value`, from the draws of the test rows and the noise of the trainings.

    Args:
        value: the difference that was measured.
        draws: the same difference on each draw of the test rows.
        noise: of the trainings.
        level: share of such intervals that hold the true difference.
    """
    tail = (1 - level) / 2
    held = max(tail, RESOLVED)
    stretch = ndtri(tail) / ndtri(held)
    low, high = np.quantile(draws, [held, 1 - held])
    below, above = max(value - low, 0.0) * stretch, max(high - value, 0.0) * stretch
    chance = noise.scale * -stdtrit(noise.freedom, tail) if noise.freedom else 0.0
    return Difference(value, value - float(np.hypot(below, chance)), value + float(np.hypot(above, chance)))


def corrected(level: float, values: int) -> float:
    """The level of each of `values` intervals, of which all hold their difference together at `level` (Bonferroni)."""
    return 1 - (1 - level) / max(values, 1)


def paired_noise(first: Float[Array, "k g"], second: Float[Array, "k g"]) -> list[Noise]:
    """The noise of the mean difference over seeds that both arms share, one per column; none from a single seed."""
    seeds = len(first)
    if seeds < 2:
        return [Noise()] * first.shape[1]
    spread = (first - second).std(axis=0, ddof=1) / seeds**0.5
    return [Noise(float(each), seeds - 1) for each in spread]


def summed_noise(parts: Mapping[str, tuple[Float[Array, "k g"], float]], columns: int) -> list[Noise]:
    """The noise of independent parts together: each the draws of a control, and the variance's factor to count it with.

    Args:
        parts: per part its draws of each measure, and the factor (1 for one draw, 1/k for the mean of k).
        columns: number of measures.
    """
    shown = [(draws.var(axis=0, ddof=1) * factor, len(draws) - 1) for draws, factor in parts.values() if len(draws) > 1]
    if not shown:
        return [Noise()] * columns
    freedom = min(each for _, each in shown)
    return [Noise(float(each) ** 0.5, freedom) for each in np.sum([variance for variance, _ in shown], axis=0)]
