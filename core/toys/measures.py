"""What is read off a trained small model about each of its points: four measures, high = suspicious in each.

| name | what it is | what it may see |
|---|---|---|
| loss | how surprised the model is by the label | the point |
| push | length of the gradient of the head, and the way in which it moves the border | the point |
| harm | minus the influence: how much lower the loss on check points is estimated to be without it | check points |
| unlike | how easily an isolation forest tells the gradient from the others | all gradients |

The gradients and their length, the influence and the forest are those that projects are scored with: `core.gradients`
and `core.scores`. The forest is compiled code: `warm` loads it in the background, `ready` says whether that is done.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from core.axes import Array, Bool, Float, Int
from core.errors import InputError
from core.gradients.last_layer import LastLayerGradients
from core.scores.influence import influence, logistic
from core.toys.models import Model, left_out
from core.toys.worlds import World

TREES = 100  # as in the paper


@dataclass(frozen=True)
class Measure:
    """One measure: its name, the question it answers, how "the most …" of it reads, and what the papers call it."""

    name: str
    title: str
    most: str
    term: str


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("loss", "How surprised is the model?", "surprise", "loss"),
        Measure("push", "Which way does each point push?", "push", "gradient and its length"),
        Measure("harm", "What if it were not there?", "harm", "influence"),
        Measure("unlike", "Whose push is unlike the others?", "unlike pushes", "gradient outlier (isolation forest)"),
    )
}


@dataclass(frozen=True, eq=False)
class Measured:
    """The measures of every point, and the way each point pushes the border (length 1, or 0 where it does not)."""

    values: dict[str, Float[Array, " n"]]
    direction: Float[Array, "n 2"]

    def order(self, name: str) -> Int[Array, " n"]:
        """Rows, the most suspicious first; of equal ones the first.

        Raises:
            InputError: the measure is unknown, or not worked out yet.
        """
        if name not in self.values:
            raise InputError(f"There is no measure {name!r}. Choose from {', '.join(self.values)}.")
        return np.argsort(-self.values[name], kind="stable")

    def heat(self, name: str) -> Float[Array, " n"]:
        """How strongly a picture marks each point: 0 to 1, for "harm" from -1 (missed most) on.

        Linear in the measure, from 0 (of "unlike", which has no 0, from the median) to what 2 % of the points exceed.
        """
        value = self.values[name]
        if name == "unlike":
            value = np.maximum(value - np.median(value), 0)
        high = float(np.quantile(np.abs(value), 0.98))
        return np.asarray(np.clip(value / high, -1, 1)) if high > 0 else np.zeros(len(value))

    def hits(self, name: str, wrong: Bool[Array, " n"]) -> int:
        """How many of the wrong labels are among as many points that the measure puts first."""
        return int(wrong[self.order(name)[: int(wrong.sum())]].sum())


def measure(world: World, model: Model, forest: bool = True) -> Measured:
    """Read every measure off a model; without `forest` there is no "unlike"."""
    gradients = of_head(model, world.xy, world.labels)
    values = {
        "loss": np.asarray(np.logaddexp(0, -(2.0 * world.labels - 1) * model.logits(world.xy))),
        "push": np.asarray(gradients.l2()),
        "harm": -influence(gradients, of_head(model, world.check, world.check_labels), model.penalty),
    }
    if forest:
        values["unlike"] = outlying(gradients)
    return Measured(values, _direction(model, world))


def of_head(model: Model, xy: Float[Array, "n 2"], labels: Int[Array, " n"]) -> LastLayerGradients:
    """The gradients of the model's last layer at these points."""
    return logistic(model.logits(xy), labels, model.inputs(xy))


def outlying(gradients: LastLayerGradients) -> Float[Array, " n"]:
    """How easily the isolation forest tells each gradient from the others."""
    from core.scores.forest import GradientForest  # compiled code: half a second to load, and once to compile

    return GradientForest(n_trees=TREES, seed=0).fit(gradients).score(gradients)


def agreement(world: World, model: Model, harm: Float[Array, " n"]) -> float:
    """Pearson correlation of the estimate with really leaving each point out and fitting the head again (0 if flat)."""
    heads = left_out(model, world.xy, world.labels)
    sign, inputs = 2.0 * world.check_labels - 1, model.inputs(world.check)
    truth = -np.logaddexp(0, -sign * (heads @ inputs.T)).mean(axis=1)
    if np.ptp(truth) == 0 or np.ptp(harm) == 0:
        return 0.0
    return float(np.corrcoef(truth, harm)[0, 1])


_warming: list[threading.Thread] = []


def warm() -> threading.Thread:
    """Load the forest's code in the background, once; join the thread to wait for it."""
    if not _warming:
        tiny = logistic(np.array([0.0, 1.0, -1.0]), np.array([0, 1, 0]), np.eye(3))
        _warming.append(threading.Thread(target=outlying, args=(tiny,), daemon=True))
        _warming[0].start()
    return _warming[0]


def ready() -> bool:
    """Whether the forest's code is loaded."""
    return bool(_warming) and not _warming[0].is_alive()


def _direction(model: Model, world: World) -> Float[Array, "n 2"]:
    """A point that is to count as class 1 draws the border towards class 0, so that it takes the point in."""
    slopes = model.slopes(world.xy) * (1 - 2.0 * world.labels)[:, None]
    length = np.linalg.norm(slopes, axis=1, keepdims=True)
    return np.asarray(np.divide(slopes, length, out=np.zeros_like(slopes), where=length > 0))
