"""The full form: every arm is trained anew, with several seeds, and judged after its last epoch, never the best.

A unit is one arm with one seed: a stage of the project, which is found again whoever asks for it, and goes on where it
was stopped. Within a seed every arm starts from the same weights and shows a sample in the same pass with the same
shift and mirror; all arms take as many steps as the training set as given would (METHODS 3.2: at equal epochs fewer
images would also mean fewer steps), normalise by its statistics, and none ever sees a test row.

The training as given may be there already: that of the project's own run is one, bit for bit.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch

from core import __version__
from core.axes import Array, Float, Int, Integer
from core.data.manifest import Manifest
from core.errors import InputError, ProjectError, Stopped
from core.models import device
from core.models.architecture import Architecture, architecture_of
from core.models.recorder import History
from core.models.specs import ModelSpec, Permissions
from core.models.train import Task, Trained, tidy, train
from core.models.train import replace as write_whole
from core.pipeline.planning import Plan, flips, plan
from core.pipeline.run import Means, Run
from core.pipeline.witnesses import history_in
from core.progress import Event, Progress
from core.project import Stages, stage_key
from core.settings import SiftSettings
from core.verify.arms import GIVEN, Arm

STAGE, VERSION = "retrain", 1
RESULT = "result.npz"
CURVES = ("accuracy", "log_loss", "train_loss")
LEAST = 1e-12  # probability
PROBE_SECONDS = 3.0
PROBE_IMAGES = 256
PASS = 1 / 3  # of a training step: what an evaluation of an image takes


class Unit(NamedTuple):
    """One training: an arm with a seed, and the key of its stage."""

    arm: Arm
    seed: int
    key: str

    @property
    def title(self) -> str:
        """What a person reads, told from every other unit of a verification."""
        of = f" ({self.arm.control_of})" if self.arm.control_of else ""
        return f"{self.arm.title}{of}, seed {self.seed}"


class Result(NamedTuple):
    """What one training says of the test rows.

    Attributes:
        predicted: class codes after the last epoch; given_prob: the probability of the row's own label then.
        curves: per epoch: "accuracy" and "log_loss" (nats) on the test rows, "train_loss" on the arm's own rows and
            labels as they were shown.
        seconds: that the training took, 0 for one that was there.
    """

    predicted: Int[Array, " m"]
    given_prob: Float[Array, " m"]
    curves: Mapping[str, Float[Array, " t"]]
    seconds: float


@dataclass(frozen=True)
class Course:
    """What all units of a verification share.

    Attributes:
        manifest: the rows.
        settings: of the trainings; the seed is each unit's own.
        network: `reference`, or `train:ARCH[@WEIGHTS]`.
        test: positions of the test rows, none of them trained on.
        stages: where units and pixels are kept.
        permissions: whether weights may be fetched, and where they may lie.
    """

    manifest: Manifest
    settings: SiftSettings
    network: ModelSpec
    test: Integer[Array, " m"]
    stages: Stages
    permissions: Permissions

    @cached_property
    def train(self) -> Integer[Array, " r"]:
        """Positions of the training rows."""
        return np.flatnonzero(self.manifest.train)

    def plan(self, seed: int) -> Plan:
        """The run that a training as given with this seed would be."""
        if seed not in self._plans:
            alone = replace(
                self.settings, seed=seed, models=1, backbone=None, checkpoints=(), grand=(), reference=True, maps=False
            )
            self._plans[seed] = plan(self.manifest, alone, str(self.network))
        return self._plans[seed]

    @cached_property
    def _plans(self) -> dict[int, Plan]:
        return {}

    @cached_property
    def planned(self) -> Plan:
        """The same with the settings' own seed: side, epochs and pixels are those of every unit."""
        return self.plan(self.settings.seed)

    @cached_property
    def compute(self) -> device.Compute:
        """Device and number type."""
        return device.choose(self.settings.device, self.settings.precision)

    @cached_property
    def pixels(self) -> Array:
        """Every image, as `prepare` left it on disk."""
        found = self.stages.find("pixels", self.planned.keys["pixels"])
        if found is None:
            raise ProjectError("The images were not read yet. Prepare the course first.")
        pixels: Array = np.load(found / "pixels.npy", mmap_mode="r")
        return pixels

    def prepare(self, progress: Progress) -> None:
        """Read every image at the trainings' size, where no run has done so."""
        only = replace(self.planned, keys={"pixels": self.planned.keys["pixels"]}, seeds=())
        Run(self.manifest, self.settings, only, Means(self.stages, progress, self.permissions)).all()

    def architecture(self, progress: Progress) -> Architecture:
        """How the network is made; what it takes is normalised as the training set as given would be."""
        settings = self.settings if self.network.kind == "train" else SiftSettings()
        made = architecture_of(
            self.network, self.planned.side, self.permissions, transform=settings.transform, layer=settings.layer,
            progress=progress,
        )  # fmt: skip
        return replace(made, statistics=made.statistics or self._as_given.statistics)

    @property
    def _as_given(self) -> Task:
        manifest, flip = self.manifest, flips(self.manifest, self.settings)
        return Task(tuple(manifest.ids), self.pixels, manifest.labels, manifest.train, len(manifest.classes), flip)

    def task(self, arm: Arm) -> Task:
        """What an arm is trained on: as many images an epoch as there are as given."""
        count = len(self.manifest)
        kept, held_out, weights = np.zeros(count, bool), np.zeros(count, bool), np.ones(count)
        labels = self.manifest.labels.copy()
        kept[self.train], labels[self.train], weights[self.train] = arm.kept, arm.labels, arm.weights
        held_out[self.test] = True
        even = bool((arm.weights[arm.kept] == 1).all())
        return replace(
            self._as_given, train=kept, labels=labels, held_out=held_out, weights=None if even else weights,
            images_per_epoch=len(self.train),
        )  # fmt: skip

    def unit(self, arm: Arm, seed: int) -> Unit:
        """Name a training by everything that goes into it, whatever its arm is called."""
        parts = {
            "training": self.plan(seed).keys["features"], "test": _digest(self.manifest.ids[self.test].tolist()),
            "kept": _digest(arm.kept.tolist()), "labels": _digest(arm.labels[arm.kept].tolist()),
            "weights": _digest(arm.weights[arm.kept].tolist()), "images": len(self.train),
        }  # fmt: skip
        return Unit(arm, seed, stage_key(STAGE, VERSION, parts))

    def there(self, unit: Unit) -> bool:
        """Whether a unit need not be trained."""
        return self.stages.find(STAGE, unit.key) is not None or self._recorded(unit) is not None

    def _recorded(self, unit: Unit) -> History | None:
        """The record of the project's own run, where that is this unit."""
        if unit.arm.name != GIVEN:
            return None
        folder = self.stages.find("features", self.plan(unit.seed).keys["features"])
        return history_in(folder) if folder else None

    def result(self, unit: Unit, progress: Progress) -> Result:
        """Take a unit's result from disk, or train it, or go on with its training.

        Raises:
            ModelError: the training diverges, or the network cannot be made.
            ProjectError: a result that is there is damaged.
            Stopped: the person asked for it; the same call goes on after the last finished epoch.
        """
        found = self.stages.find(STAGE, unit.key)
        if found is None and (history := self._recorded(unit)) is not None:
            return self._result(unit.arm, history)
        if found is None:
            with self.stages.write(STAGE, unit.key, resume=True) as folder:
                self._fill(unit, folder, _under(progress, unit.title))
            found = self.stages.find(STAGE, unit.key)
        assert found is not None
        return _read(found)

    def _fill(self, unit: Unit, folder: Path, progress: Progress) -> None:
        begin = time.perf_counter()
        if not (folder / RESULT).exists():  # written when all is computed: from then on only tidying is left
            trained = self.train_unit(unit.arm, unit.seed, folder, progress)
            made = self._result(unit.arm, trained.history)._replace(seconds=time.perf_counter() - begin)
            write_whole(folder / RESULT, lambda path: _write(path, made))
            facts = {
                "stage": STAGE, "key": unit.key, "format": VERSION, "tool": __version__, "torch": torch.__version__,
                "seconds": round(made.seconds, 3), "arm": unit.arm.name, "seed": unit.seed,
                "network": str(self.network), "epochs": self.planned.epochs, **self.compute.describe(),
            }  # fmt: skip
            (folder / "run.json").write_text(json.dumps(facts, indent=1))
        tidy(folder, self.planned.epochs)

    def train_unit(self, arm: Arm, seed: int, folder: Path, progress: Progress) -> Trained:
        """Train an arm with a seed, or go on with it, in `folder`."""
        return train(
            self.task(arm), replace(self.settings, seed=seed), self.compute, folder, progress,
            self.architecture(progress), snapshots=False,
        )  # fmt: skip

    def _result(self, arm: Arm, history: History) -> Result:
        """What the record of a training says of the test rows, epoch by epoch."""
        labels = self.manifest.labels[self.test]
        seen, shown = (slice(None), self.test), (slice(None), self.train[arm.kept])
        right, prob = history.correct[seen], np.maximum(history.given_prob[seen].astype(float), LEAST)
        train_loss = -np.log(np.maximum(history.given_prob[shown].astype(float), LEAST))
        curves = {
            "accuracy": right.mean(1), "log_loss": -np.log(prob).mean(1), "train_loss": np.nanmean(train_loss, axis=1)
        }  # fmt: skip
        predicted = np.where(right[-1], labels, history.other_class[-1, self.test]).astype(np.int64)
        return Result(predicted, prob[-1], curves, 0.0)

    def seconds_per_unit(self, progress: Progress) -> float:
        """Train for a few seconds on made-up images of the trainings' size; return what a unit would take.

        Raises:
            ModelError: the network cannot be made, or takes no images of this size.
        """
        rng, side, classes = np.random.default_rng(0), self.planned.side, len(self.manifest.classes)
        pixels = rng.integers(0, 256, (PROBE_IMAGES, side, side, 3)).astype(np.uint8)
        ids, labels = tuple(str(row) for row in range(PROBE_IMAGES)), np.arange(PROBE_IMAGES) % classes
        task = Task(ids, pixels, labels, np.ones(PROBE_IMAGES, bool), classes, flip=True)
        settings = replace(self.settings, epochs=10_000)
        seen: list[tuple[float, int]] = []

        def enough() -> bool:
            warm = _warm(seen)
            return progress.should_stop() or (len(warm) > 1 and warm[-1][0] - warm[0][0] > PROBE_SECONDS)

        heard = Progress(lambda event: seen.append((time.perf_counter(), event.done)), enough)
        layer = self.settings.layer if self.network.kind == "train" else None
        architecture = architecture_of(self.network, side, self.permissions, layer=layer, progress=progress)
        with TemporaryDirectory(prefix="gradsift-probe-") as folder, suppress(Stopped):
            train(task, settings, self.compute, Path(folder), heard, architecture, snapshots=False)
        warm = _warm(seen)
        if len(warm) < 2:
            raise Stopped("Stopped while the training was tried out. Nothing was kept.")
        rate = (warm[-1][1] - warm[0][1]) / (warm[-1][0] - warm[0][0])
        return self.planned.epochs * (len(self.train) + PASS * len(self.test)) / rate


def check_images(manifest: Manifest) -> None:
    """Raise InputError where there are no images to train on."""
    if not manifest.has_images:
        raise InputError("The rows have no images, and the full form trains on them. Use the quick form.")


def _warm(seen: list[tuple[float, int]]) -> list[tuple[float, int]]:
    """The reports after the first pass, which pays for kernel selection."""
    return [entry for entry in seen if entry[1] >= PROBE_IMAGES]


def _under(progress: Progress, title: str) -> Progress:
    """Report a training under the unit's title."""

    def listen(event: Event) -> None:
        progress.listen(replace(event, stage=title) if event.stage == "training" else event)

    return replace(progress, listen=listen)


def _write(path: Path, result: Result) -> None:
    arrays: dict[str, Any] = {
        "predicted": result.predicted.astype(np.int32), "given_prob": result.given_prob.astype(np.float32),
        "seconds": result.seconds, **{name: result.curves[name] for name in CURVES},
    }  # fmt: skip
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _read(folder: Path) -> Result:
    try:
        with np.load(folder / RESULT, allow_pickle=False) as stored:
            curves = {name: stored[name].astype(float) for name in CURVES}
            probability = stored["given_prob"].astype(float)
            return Result(stored["predicted"].astype(np.int64), probability, curves, float(stored["seconds"]))
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ProjectError(
            f"The training in {folder} cannot be read ({error}). Delete that folder and verify again."
        ) from error


def _digest(values: list[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
