"""One pass over the stages: each maker reads what the stages before it wrote and fills a folder."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core import __version__
from core.atlas.neighbours import EXACT_UP_TO, search_features, search_gradients
from core.atlas.projection import umap_map
from core.axes import Array
from core.data.manifest import Manifest
from core.data.pixels import decode_all
from core.errors import InputError
from core.findings import Findings, load_neighbours, save_neighbours
from core.gradients.sketch import sketch
from core.models import device
from core.models.specs import Permissions
from core.models.train import Task, tidy
from core.models.train import replace as write_whole
from core.pipeline import passes, training
from core.pipeline.planning import VERSIONS, Plan, flips
from core.pipeline.witnesses import Seen, notes_of, witness_of
from core.progress import Progress
from core.project import Project, Stages
from core.scores.ensemble import average
from core.scores.table import evidence_table, most_suspicious
from core.scores.witness import Witness
from core.settings import SiftSettings

SKETCH_COLUMNS = 64
FLAGGED = 0.05  # of the training rows: their neighbours are exact, however many rows there are
OF_THE_STAGE = ("stage", "key", "format", "tool", "seconds", "peak_memory_mb", "settings", "manifest")  # in its record
RESUMED = ("features", "series")  # their makers go on from what is in the folder


@dataclass(frozen=True)
class Means:
    """What a run computes with, whatever it computes."""

    stages: Stages
    progress: Progress
    permissions: Permissions
    project: Project | None = None  # whose recorder kept a training of its own
    remember: Callable[[Mapping[str, Path]], None] | None = None


class Run:
    """A run in progress: the rows, the settings, and the folder of every stage so far."""

    def __init__(self, manifest: Manifest, settings: SiftSettings, plan: Plan, means: Means) -> None:
        if not manifest.train.any():
            raise InputError("No row is in the split 'train', so there is nothing to train on. Name other splits.")
        self.manifest, self.settings, self.plan, self.means = manifest, settings, plan, means
        self.progress, self.stages = means.progress, means.stages
        self.folders: dict[str, Path] = {}

    def all(self) -> dict[str, Path]:
        """Compute what is not there yet; return the folder of every stage."""
        makers: dict[str, Callable[[Path], dict[str, Any]]] = {
            "pixels": self._pixels,
            "features": self._features,
            "network": self._network,
            "series": self._series,
            "backbone": self._backbone,
            "grand": self._grand,
            "neighbours": self._neighbours,
            "scores": self._mean_scores if self.plan.seeds else self._scores,
            "map": self._map,
        }
        for name, key in self.plan.keys.items():
            if name == "scores" and self.stages.find(name, key) is None:
                self._each_seed()
            self.folders[name] = self.stages.find(name, key) or self._make(name, key, makers[name])
            if self.means.remember and name in ("scores", "map"):  # a gallery opens before the map is there
                there = {stage: self.stages.find(stage, key) for stage, key in self.plan.keys.items()}
                self.means.remember({stage: path for stage, path in there.items() if path})
        return self.folders

    def _make(self, name: str, key: str, make: Callable[[Path], dict[str, Any]]) -> Path:
        begin = time.perf_counter()
        with self.stages.write(name, key, resume=name in RESUMED) as folder:
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

    @cached_property
    def compute(self) -> device.Compute:
        """The device and number type of this run."""
        return device.choose(self.settings.device, self.settings.precision)

    @cached_property
    def task(self) -> Task:
        """What a training here is trained on."""
        manifest = self.manifest
        pixels = np.load(self.folders["pixels"] / "pixels.npy", mmap_mode="r")
        flip = flips(manifest, self.settings)
        return Task(tuple(manifest.ids), pixels, manifest.labels, manifest.train, len(manifest.classes), flip)

    @cached_property
    def witness(self) -> Witness:
        """Everything that was seen of the samples."""
        return witness_of(Seen(self.manifest, self.plan, self.folders))

    def _pixels(self, folder: Path) -> dict[str, Any]:
        decode_all(self.manifest, self.plan.side, folder / "pixels.npy", self.progress)
        return {"side": self.plan.side}

    def _features(self, folder: Path) -> dict[str, Any]:
        facts = folder / "trained.json"  # written when all is computed: from then on only tidying is left
        if not facts.exists():
            made = training.train_and_record(self, folder)
            write_whole(facts, lambda path: path.write_text(json.dumps(made)))
        tidy(folder, self.plan.epochs)
        known: dict[str, Any] = json.loads(facts.read_text())
        return known

    def _network(self, folder: Path) -> dict[str, Any]:
        return passes.network(self, self.plan.model, folder)

    def _series(self, folder: Path) -> dict[str, Any]:
        return passes.series(self, folder)

    def _backbone(self, folder: Path) -> dict[str, Any]:
        assert self.plan.backbone is not None
        return passes.network(self, self.plan.backbone, folder)

    def _grand(self, folder: Path) -> dict[str, Any]:
        return training.grand(self, folder)

    def _neighbours(self, folder: Path) -> dict[str, Any]:
        train_rows, k, witness = self.manifest.train, self.settings.neighbours, self.witness
        origin, features = next(iter(witness.features.items()))
        flagged = most_suspicious(witness, FLAGGED) if len(self.manifest) > EXACT_UP_TO else None
        found = {"features": search_features(features, k, train_rows, self.progress, flagged=flagged)}
        if witness.gradients is not None:
            found["gradients"] = search_gradients(witness.gradients, k, train_rows, self.progress, flagged=flagged)
        for space, search in found.items():
            save_neighbours(folder, space, search.neighbours)
        notes = dict.fromkeys(search.said() for search in found.values() if search.said())
        return {"k": k, "origin": origin, **{s: f.facts() for s, f in found.items()}, "notes": list(notes)}

    def _scores(self, folder: Path) -> dict[str, Any]:
        near = dict(load_neighbours(self.folders["neighbours"]))
        witness = replace(self.witness, notes=(*self.witness.notes, *notes_of(self.folders["neighbours"])))
        rows = np.asarray(near["features"].rows)
        findings = evidence_table(witness, self.manifest, rows, self.settings, self.progress)
        self._save(findings, folder)
        return dict(findings.run)

    def _each_seed(self) -> None:
        """Run what each seed asks for, one by one; each is kept as a run of its own would be."""
        for seed, each in self._seeds():
            settings = replace(self.settings, models=1, maps=False, seed=seed)
            Run(self.manifest, settings, each, replace(self.means, remember=None)).all()

    def _mean_scores(self, folder: Path) -> dict[str, Any]:
        found = [self.stages.find("scores", each.keys["scores"]) for _, each in self._seeds()]
        self._save(average([Findings.load(scores) for scores in found if scores]), folder)
        return {"seeds": [seed for seed, _ in self._seeds()]}

    def _seeds(self) -> list[tuple[int, Plan]]:
        return [(self.settings.seed + other, each) for other, each in enumerate(self.plan.seeds)]

    def _save(self, findings: Findings, folder: Path) -> None:
        trained = self.folders.get("features")
        recorded = json.loads((trained / "run.json").read_text()) if trained else {}
        facts = {name: value for name, value in recorded.items() if name not in OF_THE_STAGE}
        inputs = {**facts, "manifest": self.manifest.digest(), "tool": __version__}
        run = {**findings.run, **inputs, "stages": dict(self.plan.keys), "settings": self.settings.as_dict()}
        replace(findings, run=run).save_scores(folder)

    def _map(self, folder: Path) -> dict[str, Any]:
        near, seed, witness = dict(load_neighbours(self.folders["neighbours"])), self.settings.seed, self.witness
        points: dict[str, Array] = {"features": next(iter(witness.features.values()))}
        if witness.gradients is not None:
            points["gradients"] = sketch(witness.gradients, SKETCH_COLUMNS, seed)
        for space, array in points.items():
            np.save(folder / f"{space}.npy", umap_map(array, near[space], seed, progress=self.progress))
        return {"sketch_columns": SKETCH_COLUMNS}


def _peak_memory() -> int:
    """Peak resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024))
