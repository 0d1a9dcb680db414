"""One run of trim and retrain as a chain: train, let that network and three others speak, retrain on what is left.

`Chain` does one seed of one kind of labels; everything it trains is a stage, so a chain that was stopped goes on where
it was. Every training has the same recipe, a loader that shuffles and as many steps as the untouched set takes, and is
judged after its last epoch, the test images unseen until then. `core.retrain.reproduce` has the arms and compares them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from core import chance
from core.axes import Array, Bool, Float, Int, Integer
from core.gradients.last_layer import LastLayerGradients
from core.models import device
from core.models.architecture import Architecture
from core.models.recorder import History
from core.models.train import Task, Trained, evaluate, network_after, normalise, planned_epochs, shifted, train
from core.models.train import replace as write_whole
from core.progress import Event, Progress
from core.project import Stages, stage_key
from core.retrain.cifar10n import CLASSES, Cifar10N
from core.scores import difficulty, dynamics
from core.scores.forest import GradientForest
from core.scores.labels import BASELINES, most_likely
from core.scores.table import most_suspicious
from core.scores.witness import Witness
from core.settings import SiftSettings

STAGE, VERSION = "reproduce", 1
FOLDS = 3  # networks of which each judges the images that it did not see
SCRIPT = ":script"  # how the name of a label baseline ends where it is run as the paper's script ran it
TOLD = ("epochs", "batch_size", "learning_rate", "weight_decay", "augment", "device", "precision")
VIEWED = 512  # images of an augmented pass at once


@dataclass(frozen=True)
class Means:
    """What a chain computes with.

    Attributes:
        settings: their seed is replaced by the chain's.
        architecture: what is trained.
        stages: where trainings are kept.
        progress: who is told.
    """

    settings: SiftSettings
    architecture: Architecture
    stages: Stages
    progress: Progress


@dataclass(frozen=True)
class Unit:
    """What one training said of the test images: class codes, and the probability of the true label."""

    predicted: Int[Array, " m"]
    given_prob: Float[Array, " m"]


class Chain:
    """One seed of one kind of labels.

    Args:
        images: the rows.
        kind: which given labels.
        seed: of all its trainings.
        means: what it computes with.
    """

    def __init__(self, images: Cifar10N, kind: str, seed: int, means: Means) -> None:
        self.images, self.kind, self.seed, self.means = images, kind, seed, means
        settings = replace(means.settings, seed=seed, maps=False)
        self.settings = replace(settings, epochs=planned_epochs(settings, images.trained))
        self.compute = device.choose(settings.device, settings.precision)
        self.given = images.given[kind]
        self.train = np.arange(len(images.ids)) < images.trained

    def scores(self) -> dict[str, Float[Array, " n"]]:
        """Return how suspicious each training row is, by ranking, high first; `suspicion` is in `removed` alone."""
        said, rows = self._said, self.images.trained
        given, labels = self._gradients.take(slice(rows)), self.given[:rows]
        forest = GradientForest(self.settings.trees, seed=self.seed).fit(given).score(given)
        found = {"oga_forest": forest, "oga_l1": given.l1(), "oga_l2": given.l2()}
        outside, inside = self.out_of_sample(), said["view"]
        found |= {name: -each.compute(outside, labels) for name, each in BASELINES.items()}
        found |= {f"{name}{SCRIPT}": -each.compute(inside, most_likely(inside)) for name, each in BASELINES.items()}
        return found | {"random": np.random.default_rng([self.seed, 1]).random(rows)}

    def removed(self, fraction: float) -> dict[str, Bool[Array, " n"]]:
        """Return which training rows each ranking removes, `round(fraction n)` of them; ties by id."""
        rows, count = self.images.trained, round(fraction * self.images.trained)
        found = {name: top(values, count) for name, values in self.scores().items()}
        return found | {"suspicion": most_suspicious(self._witness, fraction)[:rows]}

    def unit(self, removed: Bool[Array, " n"], title: str = "retraining") -> Unit:
        """Train on what is left and return what came of it; a finished training is read from its stage.

        `title` is what progress is reported under.
        """
        if not removed.any():
            return Unit(self._said["predicted"], self._said["given_prob"])
        kept = ~removed
        folder = self._stage("unit", {"kept": _digest(kept)}, partial(self._unit, kept, title))
        return Unit(**_arrays(folder / "said.npz"))

    def out_of_sample(self) -> Float[Array, "n c"]:
        """Return probabilities of the training rows from networks that did not see them, `FOLDS` of them."""
        labels, found = self.given[: self.images.trained], np.zeros((self.images.trained, CLASSES))
        part = folds(labels, self.seed)
        for fold in range(FOLDS):
            out = np.flatnonzero(part == fold)
            folder = self._stage("fold", {"left_out": _digest(part == fold)}, partial(self._fold, fold, out))
            found[out] = difficulty.probabilities(_arrays(folder / "said.npz")["logits"])
        return found

    @cached_property
    def _said(self) -> dict[str, Array]:
        """What the network that was trained on all rows said of training and held-out rows, and its record."""
        return _arrays(self._stage("base", {}, self._base) / "said.npz")

    @cached_property
    def _gradients(self) -> LastLayerGradients:
        said = self._said
        return LastLayerGradients.from_logits(said["logits"], self.given[: len(said["logits"])], said["inputs"])

    @property
    def _witness(self) -> Witness:
        said = self._said
        rows = len(said["logits"])
        history = History(**{name: said[f"history_{name}"] for name in History.__dataclass_fields__})
        return Witness(
            self.given[:rows], self.train[:rows], tuple(str(c) for c in range(CLASSES)), history, self._gradients,
            said["logits"], {"reference": said["features"]},
        )  # fmt: skip

    def _stage(self, what: str, inputs: Mapping[str, Any], make: Callable[[Path], Mapping[str, Array]]) -> Path:
        """Return a finished stage's folder; make it first, or go on with it."""
        told = {name: value for name, value in self.settings.as_dict().items() if name in TOLD}
        key = stage_key(f"{STAGE}-{what}", VERSION, {
            "images": self._digest, "network": self.means.architecture.name, "seed": self.seed, **told, **inputs,
        })  # fmt: skip
        stages = self.means.stages
        if found := stages.find(f"{STAGE}-{what}", key):
            return found
        with stages.write(f"{STAGE}-{what}", key, resume=True) as work:
            if not (work / "said.npz").exists():  # from then on only tidying is left
                said = make(work)
                write_whole(work / "said.npz", lambda path: _save(path, said))
            for path in work.iterdir():
                if path.name != "said.npz":
                    path.unlink()
        return stages.folder / f"{STAGE}-{what}-{key}"

    @cached_property
    def _digest(self) -> str:
        images = self.images
        state = hashlib.blake2b("\n".join(images.ids).encode(), digest_size=16)
        for array in (images.pixels, self.given):
            state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()

    def _task(self, trained: Bool[Array, " n"], rows: Integer[Array, " _"], judged: Bool[Array, " n"] | None) -> Task:
        """A training on some of `rows`, judged on others of them each epoch; None: on those that it leaves out."""
        images = self.images
        nobody = np.zeros(len(rows), bool)
        return Task(
            tuple(images.ids[row] for row in rows), images.pixels[rows], self.given[rows], trained[rows], CLASSES, True,
            held_out=nobody if judged is None else judged[rows],
        )  # fmt: skip

    def _train(self, task: Task, folder: Path, title: str, *, snapshots: bool = False) -> Trained:
        """Train; every training takes its inputs as the untouched one does, by the same mean and deviation."""
        architecture, progress = self.means.architecture, self.means.progress
        architecture = replace(architecture, statistics=architecture.statistics or self._statistics)

        def listen(event: Event) -> None:
            progress.listen(replace(event, stage=f"{self.kind}, seed {self.seed}: {title}"))

        told = replace(progress, listen=listen)
        return train(task, self.settings, self.compute, folder, told, architecture, snapshots=snapshots)

    @cached_property
    def _statistics(self) -> tuple[Array, Array]:
        return self._task(self.train, np.flatnonzero(self.train), None).statistics

    def _unit(self, kept: Bool[Array, " n"], title: str, folder: Path) -> dict[str, Array]:
        """As many steps as the untouched set takes; then the test images, once."""
        images = self.images
        rows = np.concatenate([np.flatnonzero(kept), images.test])
        task = replace(self._task(self.train, rows, None), images_per_epoch=images.trained)
        return self._judged(self._train(task, folder, title), task, np.arange(int(kept.sum()), len(rows)))

    def _judged(self, trained: Trained, task: Task, test: Int[Array, " m"]) -> dict[str, Array]:
        """What `Unit` holds; `test` are the positions of the test images in the task."""
        probs, labels = (
            difficulty.probabilities(self._pass(trained, task, test)[0]),
            self.images.truth[self.images.test],
        )
        return {"predicted": probs.argmax(1), "given_prob": difficulty.self_confidence(probs, labels)}

    def _fold(self, fold: int, out: Int[Array, " _"], folder: Path) -> dict[str, Array]:
        left_out = np.isin(np.arange(len(self.images.ids)), out)
        task = self._task(self.train & ~left_out, np.flatnonzero(self.train), None)
        return {"logits": self._pass(self._train(task, folder, f"without part {fold + 1} of {FOLDS}"), task, out)[0]}

    def _base(self, folder: Path) -> dict[str, Array]:
        """What the untouched training leaves: last layer, record, features of its clearest epoch, an augmented view."""
        images = self.images
        everything, seen = np.arange(len(images.ids)), images.trained + images.held_out
        rows = everything[:seen]
        task = self._task(self.train, everything, ~self.train & (everything < seen))
        trained = self._train(task, folder, "everything", snapshots=True)
        logits, inputs = self._pass(trained, task, rows)
        history = trained.history.columns(everything < seen)
        epoch = dynamics.clearest_epoch(history, self.train[rows])
        clearest = network_after(folder, epoch, CLASSES, self.compute, self.means.architecture)
        views = [
            self._pass(replace(trained, network=clearest), task, rows, mirror=mirror)[1] for mirror in (False, True)
        ]
        record = {f"history_{name}": array for name, array in history.arrays().items()}
        view = np.concatenate(list(self._view(trained, task)))
        return {
            "logits": logits, "inputs": inputs, "features": np.mean(views, axis=0), **record,
            "view": difficulty.probabilities(view), **self._judged(trained, task, images.test),
        }  # fmt: skip

    def _pass(
        self, trained: Trained, task: Task, rows: Integer[Array, " _"], *, mirror: bool = False
    ) -> tuple[Float[Array, "n c"], Float[Array, "n d"]]:
        """Logits and inputs of the last layer in evaluation mode and float32."""
        exact = device.choose(self.compute.device.type, "float32")
        found = list(evaluate(trained.network, task, trained.statistics, exact, rows, mirror=mirror))
        return np.concatenate([logits for _, logits, _ in found]), np.concatenate([inputs for _, _, inputs in found])

    def _view(self, trained: Trained, task: Task) -> Iterator[Float[Array, "n c"]]:
        """Logits of the training rows in evaluation mode, each image moved and mirrored once, as the script does."""
        import torch

        keys, reach, network = chance.sample_keys(task.sample_ids), max(1, task.pixels.shape[1] // 8), trained.network
        network.eval()
        for begin in range(0, self.images.trained, VIEWED):
            rows = np.arange(begin, min(begin + VIEWED, self.images.trained))
            down, right, mirror = (
                chance.uniform(keys[rows], self.seed, f"view: {what}") for what in ("down", "right", "mirror")
            )
            moved = [np.floor(each * (2 * reach + 1)).astype(np.int64) for each in (down, right)]
            pixels = normalise(task.pixels[rows], trained.statistics, self.compute.device)
            with torch.inference_mode():
                yield network(shifted(pixels, reach, moved[0], moved[1], mirror < 0.5))[0].cpu().numpy()


def top(values: Float[Array, " n"], count: int) -> Bool[Array, " n"]:
    """Return the rows with the `count` largest values; of equal ones the first."""
    return np.isin(np.arange(len(values)), np.argsort(-values, kind="stable")[:count])


def folds(labels: Integer[Array, " n"], seed: int) -> Int[Array, " n"]:
    """Return the part of each row, 0 to `FOLDS - 1`: each given class is dealt out evenly, in an order by the seed."""
    order = np.lexsort((np.random.default_rng([seed, 2]).random(len(labels)), labels))
    part = np.empty(len(labels), np.int64)
    part[order] = np.arange(len(labels)) % FOLDS
    return part


def _digest(rows: Bool[Array, " n"]) -> str:
    return hashlib.blake2b(np.packbits(rows).tobytes(), digest_size=16).hexdigest()


def _arrays(path: Path) -> dict[str, Array]:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored}


def _save(path: Path, arrays: Mapping[str, Array]) -> None:
    with path.open("wb") as handle:
        np.savez(handle, **dict[str, Any](arrays))
