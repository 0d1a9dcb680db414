"""The two models of the small worlds, trained in a few hundredths of a second: a straight border, and one that bends.

- *straight*: logistic regression with an intercept, by Newton's method.
- *bent*: one hidden layer of rectified units under the same logistic head. The whole net takes 600 full steps of Adam;
  then the head alone goes to its minimum, so that the equations for a head at its minimum (`core.scores.influence`)
  hold to rounding.

Several trainings run at once, one for each row of `weights`: as given, trimmed, trimmed at random. They begin with the
same numbers and differ in nothing but who takes part, at which weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from core.axes import Array, Float, Int
from core.errors import SettingsError

WIDTHS = (2, 4, 8, 16, 32)  # of the hidden layer; 0 is the straight border
WIDTH = 16  # two units are what the papers' figure used; one in ten of such nets dies in training
DECAY = 1e-3  # weight decay on the mean loss, of all parameters
_STEPS, _RATE = 600, 0.03
_NEWTON, _ARRIVED = 50, 1e-9


@dataclass(frozen=True, eq=False)
class Model:
    """A trained model: `hidden "3 w"` (None: straight), `head "d"` with the intercept last, `penalty` of the head."""

    hidden: Float[Array, "3 w"] | None
    head: Float[Array, " d"]
    penalty: float

    def inputs(self, xy: Float[Array, "n 2"]) -> Float[Array, "n d"]:
        """What the head sees of each point, the constant 1 last."""
        return _with_one(xy if self.hidden is None else np.maximum(_with_one(xy) @ self.hidden, 0))

    def logits(self, xy: Float[Array, "n 2"]) -> Float[Array, " n"]:
        """How strongly each point is held to be of class 1; the border lies at 0."""
        return np.asarray(self.inputs(xy) @ self.head)

    def slopes(self, xy: Float[Array, "n 2"]) -> Float[Array, "n 2"]:
        """How the logit changes with the place, at each point."""
        if self.hidden is None:
            return np.broadcast_to(self.head[:2], xy.shape)
        active = _with_one(xy) @ self.hidden > 0
        return np.asarray((active * self.head[:-1]) @ self.hidden[:2].T)


def fit(
    xy: Float[Array, "n 2"], labels: Int[Array, " n"], weights: Float[Array, "a n"], width: int, seed: int = 0
) -> list[Model]:
    """One model for each row of `weights`.

    Args:
        xy: the points.
        labels: 0 or 1.
        weights: how much each point counts in each training; 0 leaves it out.
        width: of the hidden layer; 0 for a straight border.
        seed: of the first numbers of the hidden layer.

    Raises:
        SettingsError: a width that is not offered, or a training without points.
    """
    if width not in (0, *WIDTHS):
        raise SettingsError(f"A hidden layer of {width} is not offered. Choose 0 or one of {WIDTHS}.")
    if not (weights.sum(axis=1) > 0).all():
        raise SettingsError("A training has no points left. Take fewer away.")
    if not width:
        start = np.zeros((len(weights), 3))
        return [
            Model(None, head, penalty)
            for head, penalty in _heads(
                np.broadcast_to(_with_one(xy), (len(weights), len(xy), 3)), labels, weights, start
            )
        ]
    hidden, head = _adam(xy, labels, weights, width, seed)
    inputs = _with_one(np.maximum(_with_one(xy) @ hidden, 0))
    return [
        Model(hidden[a], found, penalty) for a, (found, penalty) in enumerate(_heads(inputs, labels, weights, head))
    ]


def left_out(model: Model, xy: Float[Array, "n 2"], labels: Int[Array, " n"]) -> Float[Array, "n d"]:
    """The head after leaving each point out in turn and fitting it again, what lies below held: the slow truth.

    The penalty stays that of all points, as it does in the equations.
    """
    inputs, n = model.inputs(xy), len(xy)
    every = np.broadcast_to(inputs, (n, *inputs.shape))
    start = np.broadcast_to(model.head, (n, len(model.head)))
    return _newton(every, labels, 1 - np.eye(n), start, np.full(n, model.penalty))


def _heads(
    inputs: Float[Array, "a n d"], labels: Int[Array, " n"], weights: Float[Array, "a n"], start: Float[Array, "a d"]
) -> list[tuple[Float[Array, " d"], float]]:
    penalty = DECAY * weights.sum(axis=1)
    found = _newton(inputs, labels, weights, start, penalty)
    return [(found[a], float(penalty[a])) for a in range(len(found))]


def _newton(
    inputs: Float[Array, "a n d"], labels: Int[Array, " n"], weights: Float[Array, "a n"], start: Float[Array, "a d"],
    penalty: Float[Array, " a"],
) -> Float[Array, "a d"]:  # fmt: skip
    """The heads that minimise the penalised sums, all at once: Newton's steps, halved where one goes too far."""
    head, sign = start.copy(), 2.0 * labels - 1

    def objective(each: Float[Array, "a d"]) -> Float[Array, " a"]:
        loss = (weights * np.logaddexp(0, -sign * (inputs @ each[:, :, None])[:, :, 0])).sum(axis=1)
        return np.asarray(loss + penalty / 2 * (each**2).sum(axis=1))

    ridge = penalty[:, None, None] * np.eye(inputs.shape[2])
    now = objective(head)
    for _ in range(_NEWTON):
        p = expit((inputs @ head[:, :, None])[:, :, 0])
        gradient = ((weights * (p - labels))[:, None, :] @ inputs)[:, 0] + penalty[:, None] * head
        if np.abs(gradient).max() < _ARRIVED:
            break
        curved = (weights * p * (1 - p))[:, :, None] * inputs
        step = np.linalg.solve(inputs.transpose(0, 2, 1) @ curved + ridge, gradient[:, :, None])[:, :, 0]
        share = np.ones(len(head))
        for _ in range(20):
            then = objective(head - share[:, None] * step)
            if not (worse := then > now + 1e-12).any():
                break
            share[worse] /= 2
        head, now = head - share[:, None] * step, then
    return head


def _adam(
    xy: Float[Array, "n 2"], labels: Int[Array, " n"], weights: Float[Array, "a n"], width: int, seed: int
) -> tuple[Float[Array, "a 3 w"], Float[Array, "a d"]]:
    """Full steps of Adam on hidden layer and head (Kingma and Ba, arXiv 1412.6980), all trainings from one start."""
    chance, many = np.random.default_rng(seed), len(weights)
    points, share = _with_one(xy), weights / weights.sum(axis=1, keepdims=True)
    values = [
        np.repeat(chance.normal(size=(1, 3, width)), many, axis=0),
        np.repeat(chance.normal(size=(1, width + 1)) / np.sqrt(width), many, axis=0),
    ]
    first, second = ([np.zeros_like(each) for each in values] for _ in range(2))
    for step in range(1, _STEPS + 1):
        hidden, head = values
        sums = points @ hidden
        inputs = _with_one(np.maximum(sums, 0))
        errors = share * (expit((inputs @ head[:, :, None])[:, :, 0]) - labels)
        below = errors[:, :, None] * head[:, None, :-1] * (sums > 0)
        gradients = points.T @ below + DECAY * hidden, (errors[:, None, :] @ inputs)[:, 0] + DECAY * head
        for each, gradient in enumerate(gradients):
            first[each] += 0.1 * (gradient - first[each])
            second[each] += 0.001 * (gradient**2 - second[each])
            scale = np.sqrt(second[each] / (1 - 0.999**step)) + 1e-8
            values[each] = values[each] - _RATE * first[each] / (1 - 0.9**step) / scale
    return values[0], values[1]


def _with_one(values: Array) -> Array:
    return np.concatenate([values, np.ones((*values.shape[:-1], 1))], axis=-1)
