"""`sift(manifest, model, settings) -> Findings`: the only file that knows the order of the stages.

    pixels      every image decoded to one size           (images, size)
    features    the reference training, its record, and one evaluation pass of the last layer's factors
    neighbours  nearest training images in feature space and in gradient space
    scores      the table of evidence: every score, `suspicion`, the sentence
    map         two UMAPs (left out where the settings say so)

Each stage has a key made of its inputs and settings and of its format's version, and is written whole or not at all: a
finished stage is never computed twice, a stopped training goes on where it was, and a new budget asks for nothing.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from core import __version__
from core.atlas.neighbours import feature_neighbours, gradient_neighbours
from core.atlas.projection import umap_map
from core.axes import Array
from core.data.manifest import Manifest
from core.data.pixels import decode_all, image_digest, image_side
from core.errors import InputError, ModelError
from core.findings import Findings, load_neighbours, save_neighbours
from core.gradients.last_layer import LastLayerGradients
from core.gradients.sketch import sketch
from core.models import device
from core.models.network import ReferenceNetwork
from core.models.recorder import History
from core.models.train import Task, Trained, evaluate, network_after, planned_epochs, tidy, train, weights_digest
from core.models.train import replace as write_whole
from core.progress import Progress
from core.project import Project, Stages, stage_key
from core.scores import dynamics
from core.scores.table import evidence_table
from core.settings import SiftSettings

VERSIONS = {"pixels": 1, "features": 1, "neighbours": 1, "scores": 2, "map": 1}
TRAINING_SETTINGS = (
    "seed", "epochs", "batch_size", "learning_rate", "weight_decay", "augment", "device", "precision",
)  # fmt: skip
SKETCH_COLUMNS = 64


def sift(
    manifest: Manifest | Project,
    model: str = "reference",
    settings: SiftSettings | None = None,
    *,
    stages: Stages | None = None,
    progress: Progress | None = None,
) -> Findings:
    """Score every image of a manifest.

    Args:
        manifest: the rows, or a project: then its manifest and settings, and its folder keeps what was computed.
        model: `reference` trains the reference network on the given labels.
        settings: how; the defaults are stated beside them (a project's own, for a project).
        stages: where finished stages are kept and looked for; without one nothing is kept.
        progress: who is told, and who may ask for a stop.

    Returns:
        Findings, one row per image of the manifest, held-out rows included.

    Raises:
        InputError: the manifest has nothing to train on.
        ModelError: the model is unknown or does not train.
        Stopped: the person asked for it; with `stages` the same call goes on from there.
    """
    if model != "reference":
        raise ModelError(f"Unknown model {model!r}. This version trains its own: 'reference'.")
    project = manifest if isinstance(manifest, Project) else None
    rows = project.manifest() if project else manifest
    assert isinstance(rows, Manifest)
    settings = settings or (project.config.settings if project else SiftSettings())
    stages = stages or (project.stages if project else None)
    holder: AbstractContextManager[Any] = nullcontext() if stages else TemporaryDirectory(prefix="gradsift-")
    with project.lock() if project else nullcontext(), holder as temporary:
        remember = project.remember if project else None
        run = _Run(rows, settings, stages or Stages(Path(temporary)), progress or Progress(), remember)
        folders = run.all()
        findings = Findings.load(folders["scores"], folders["neighbours"], folders.get("map"))
        return findings if stages else findings.in_memory()


@dataclass(frozen=True)
class Plan:
    """The keys of a run's stages: what would be computed, and what is there already."""

    side: int
    epochs: int
    keys: Mapping[str, str]


def plan(manifest: Manifest, settings: SiftSettings) -> Plan:
    """Work out, without computing anything, which stages a run consists of."""
    chosen = settings.as_dict()
    side = settings.image_size or image_side(manifest)
    pixels = stage_key("pixels", VERSIONS["pixels"], {"images": image_digest(manifest), "side": side})
    epochs = planned_epochs(settings, int(manifest.train.sum()))
    training = {name: chosen[name] for name in TRAINING_SETTINGS}
    features = stage_key("features", VERSIONS["features"], {
        "pixels": pixels, "rows": manifest.digest(), "flip": _flip(manifest, settings), **training, "epochs": epochs,
    })  # fmt: skip
    neighbours = stage_key("neighbours", VERSIONS["neighbours"], {"features": features, "k": settings.neighbours})
    scores = stage_key("scores", VERSIONS["scores"], {
        "neighbours": neighbours, "trees": settings.trees, "seed": settings.seed,
    })  # fmt: skip
    maps = stage_key("map", VERSIONS["map"], {"neighbours": neighbours, "seed": settings.seed})
    keys = {"pixels": pixels, "features": features, "neighbours": neighbours, "scores": scores, "map": maps}
    return Plan(side, epochs, keys if settings.maps else {k: v for k, v in keys.items() if k != "map"})


class _Run:
    """One pass over the stages; each stage reads what the stages before it wrote."""

    def __init__(
        self,
        manifest: Manifest,
        settings: SiftSettings,
        stages: Stages,
        progress: Progress,
        remember: Callable[[Mapping[str, Path]], None] | None = None,
    ) -> None:
        if not manifest.train.any():
            raise InputError("No row is in the split 'train', so there is nothing to train on. Name other splits.")
        self.manifest, self.settings, self.stages, self.progress = manifest, settings, stages, progress
        self.plan, self.remember = plan(manifest, settings), remember
        self.folders: dict[str, Path] = {}

    def all(self) -> dict[str, Path]:
        """Compute what is not there yet; return the folder of every stage."""
        makers: dict[str, Callable[[Path], dict[str, Any]]] = {
            "pixels": self._pixels,
            "features": self._features,
            "neighbours": self._neighbours,
            "scores": self._scores,
            "map": self._map,
        }
        for name, key in self.plan.keys.items():
            self.folders[name] = self.stages.find(name, key) or self._make(name, key, makers[name])
            if self.remember and name in ("scores", "map"):  # a gallery opens before the map is there
                there = {stage: self.stages.find(stage, key) for stage, key in self.plan.keys.items()}
                self.remember({stage: path for stage, path in there.items() if path})
        return self.folders

    def _make(self, name: str, key: str, make: Callable[[Path], dict[str, Any]]) -> Path:
        begin = time.perf_counter()
        with self.stages.write(name, key, resume=name == "features") as folder:
            facts = make(folder)
            record = {
                "stage": name, "key": key, "format": VERSIONS[name], "tool": __version__, "torch": torch.__version__,
                "seconds": round(time.perf_counter() - begin, 3), "peak_memory_mb": _peak_memory(),
                "settings": self.settings.as_dict(), "manifest": self.manifest.digest(), **facts,
            }  # fmt: skip
            (folder / "run.json").write_text(json.dumps(record, indent=1))
        found = self.stages.find(name, key)
        assert found is not None
        return found

    def _pixels(self, folder: Path) -> dict[str, Any]:
        decode_all(self.manifest, self.plan.side, folder / "pixels.npy", self.progress)
        return {"side": self.plan.side}

    @cached_property
    def compute(self) -> device.Compute:
        """The device and number type of this run."""
        return device.choose(self.settings.device, self.settings.precision)

    def _features(self, folder: Path) -> dict[str, Any]:
        facts = folder / "trained.json"  # written when all is computed: from then on only tidying is left
        if not facts.exists():
            write_whole(facts, lambda path: path.write_text(json.dumps(self._train(folder))))
        tidy(folder, self.plan.epochs)
        known: dict[str, Any] = json.loads(facts.read_text())
        return known

    def _train(self, folder: Path) -> dict[str, Any]:
        manifest, flip = self.manifest, _flip(self.manifest, self.settings)
        pixels = np.load(self.folders["pixels"] / "pixels.npy", mmap_mode="r")
        task = Task(tuple(manifest.ids), pixels, manifest.labels, manifest.train, len(manifest.classes), flip)
        trained = train(task, self.settings, self.compute, folder, self.progress)
        for name, array in trained.history.arrays().items():
            np.save(folder / f"history_{name}.npy", array)
        epoch = dynamics.clearest_epoch(trained.history, manifest.train)
        clearest = network_after(folder, epoch, task.classes, self.compute)
        for name, array in _final_pass(task, trained, clearest, self.progress).items():
            np.save(folder / f"{name}.npy", array)
        return {
            "epochs": self.plan.epochs, "features_of_epoch": epoch + 1, "flip": flip, **self.compute.describe(),
            "torch": torch.__version__, "weights_sha256": weights_digest(folder, self.plan.epochs),
        }  # fmt: skip

    @cached_property
    def history(self) -> History:
        """The record of the training."""
        folder = self.folders["features"]
        return History(**{name: np.load(folder / f"history_{name}.npy") for name in History.__dataclass_fields__})

    def _array(self, stage: str, name: str) -> Array:
        array: Array = np.load(self.folders[stage] / f"{name}.npy")
        return array

    @cached_property
    def gradients(self) -> LastLayerGradients:
        """The factors of every sample's last-layer gradient."""
        logits, inputs = self._array("features", "logits"), self._array("features", "inputs")
        return LastLayerGradients.from_logits(logits, self.manifest.labels, inputs)

    def _neighbours(self, folder: Path) -> dict[str, Any]:
        train_rows, k = self.manifest.train, self.settings.neighbours
        near = feature_neighbours(self._array("features", "features"), k, train_rows, self.progress)
        save_neighbours(folder, "features", near)
        near = gradient_neighbours(self.gradients, k, train_rows, self.progress)
        save_neighbours(folder, "gradients", near)
        return {"k": k}

    def _scores(self, folder: Path) -> dict[str, Any]:
        near = dict(load_neighbours(self.folders["neighbours"]))
        findings = evidence_table(
            self.manifest, self.history, self._array("features", "logits"), self._array("features", "features"),
            self.gradients, np.asarray(near["features"].rows), self.settings, self.progress,
        )  # fmt: skip
        trained = json.loads((self.folders["features"] / "trained.json").read_text())
        inputs = {"manifest": self.manifest.digest(), "tool": __version__, **trained}
        run = {"stages": dict(self.plan.keys), "settings": self.settings.as_dict(), **inputs, **findings.run}
        Findings(**{**vars(findings), "run": run}).save_scores(folder)
        return dict(findings.run)

    def _map(self, folder: Path) -> dict[str, Any]:
        near, seed = dict(load_neighbours(self.folders["neighbours"])), self.settings.seed
        points = {
            "features": self._array("features", "features"),
            "gradients": sketch(self.gradients, SKETCH_COLUMNS, seed),
        }
        for space, array in points.items():
            np.save(folder / f"{space}.npy", umap_map(array, near[space], seed, progress=self.progress))
        return {"sketch_columns": SKETCH_COLUMNS}


def _flip(manifest: Manifest, settings: SiftSettings) -> bool:
    return settings.augment and (manifest.source.flip if settings.flip is None else settings.flip)


def _final_pass(task: Task, trained: Trained, clearest: ReferenceNetwork, progress: Progress) -> dict[str, Array]:
    """Return what evaluation passes in float32 give for every row.

    `logits` and `inputs` are the last layer's, after the last epoch: the factors of the gradients. `features` are label
    evidence: the inputs of the clearest epoch's network, averaged over the image and its mirror where that is allowed.
    """
    rows, compute = np.arange(len(task.labels)), device.choose(next(clearest.parameters()).device.type, "float32")

    def passes(network: ReferenceNetwork, *, mirror: bool = False) -> tuple[Array, Array]:
        found = []
        for some, logits, inputs in evaluate(network, task, trained.statistics, compute, rows, mirror=mirror):
            found.append((logits, inputs))
            progress.report("features", int(some[-1]) + 1, len(rows), "images")
        logits, inputs = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return logits, inputs

    logits, inputs = passes(trained.network)
    views = [passes(clearest, mirror=mirror)[1] for mirror in ((False, True) if task.flip else (False,))]
    return {"logits": logits, "inputs": inputs, "features": np.mean(views, axis=0)}


def _peak_memory() -> int:
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024))
