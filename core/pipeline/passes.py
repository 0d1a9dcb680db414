"""The stages that a finished network fills: one pass over the images, or a file of what it said elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.axes import Array
from core.data.manifest import Manifest
from core.data.pixels import median_side
from core.errors import InputError, ModelError
from core.gradients.rows import blocks
from core.models.files import read_dynamics, read_features
from core.models.fit import check_fit
from core.models.load import Loaded, load
from core.models.passes import run_over
from core.models.recorder import ALIKE, History, are_probabilities, recorded
from core.models.series import history_of_series
from core.models.specs import ModelSpec

if TYPE_CHECKING:
    from core.pipeline.run import Run

ALL_ONE = 1e-6  # of the largest value, up to which features that differ do so by rounding
LEAST = 1e-12  # the least probability whose logarithm is taken


def network(run: Run, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    """Fill `folder` with logits (where their classes are the data's), inputs, and a history where there is one."""
    if spec.kind == "features":
        return _of_features(run, spec, folder)
    if spec.kind in ("dynamics", "recorded"):
        return _of_training(run, spec, folder)
    loaded = loaded_for(run, spec)
    passed = run_over(
        loaded, run.manifest, run.compute, run.progress, _layer(run, spec), stage=_stage(run, spec), folder=folder
    )
    _check_differ(np.load(folder / "inputs.npy", mmap_mode="r"), run.manifest, ModelError, f"The network {spec} gives",
                  "Check its weights and its transform (--transform).")  # fmt: skip
    if passed.logits.shape[1] != len(run.manifest.classes):
        (folder / "logits.npy").unlink(missing_ok=True)
    elif spec is run.plan.model:
        _check_order(passed.logits, run.manifest)
    return {**passed.facts, "model": str(spec), "bias": passed.bias, "notes": list(loaded.notes)}


def series(run: Run, folder: Path) -> dict[str, Any]:
    """Fill `folder` with the history that the saved checkpoints make."""
    history, notes = history_of_series(
        run.plan.model, run.settings.checkpoints, run.manifest, run.compute, run.progress,
        transform=run.settings.transform, layer=run.settings.layer, permissions=run.means.permissions, folder=folder,
    )  # fmt: skip
    save_history(history, folder)
    return {"checkpoints": list(run.settings.checkpoints), "notes": list(notes)}


def loaded_for(run: Run, spec: ModelSpec) -> Loaded:
    """Load a network; the transform and the layer of the settings are the model's, not the backbone's."""
    transform = run.settings.transform if spec is run.plan.model else None
    side, permissions = median_side(run.manifest), run.means.permissions
    return load(spec, run.manifest.classes, transform, permissions, side, progress=run.progress)


def save_history(history: History, folder: Path) -> None:
    """Write a record into an existing folder, an array a file."""
    for name, array in history.arrays().items():
        np.save(folder / f"history_{name}.npy", array)


def _of_features(run: Run, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    assert spec.file is not None
    run.means.permissions.check(spec)
    features, logits = read_features(spec.file, list(run.manifest.ids))
    _check_differ(features, run.manifest, InputError, f"The file {spec.file} holds", "Write a row for each image.")
    np.save(folder / "inputs.npy", features)
    notes = []
    if logits is not None and spec is run.plan.model:
        if logits.shape[1] == len(run.manifest.classes):
            if len(logits) >= ALIKE and are_probabilities(logits):
                logits = np.log(np.maximum(logits.astype(np.float32), np.float32(LEAST)))
                notes = [f"The logits in {spec.file.name} are probabilities. Their logarithms are taken, which give "
                         "the same probabilities."]  # fmt: skip
            np.save(folder / "logits.npy", logits)
            _check_order(logits, run.manifest)
        else:
            notes = [f"{spec.file.name} holds logits of {logits.shape[1]} classes, the data has "
                     f"{len(run.manifest.classes)}: the left-out head on its features stands in for them."]  # fmt: skip
    return {"model": str(spec), "notes": notes}


def _check_order(logits: Array, manifest: Manifest) -> None:
    """Refuse classes in another order now, before anything is trained."""
    check_fit(logits[manifest.train], manifest.labels[manifest.train], manifest.classes)


def _of_training(run: Run, spec: ModelSpec, folder: Path) -> dict[str, Any]:
    manifest, inputs = run.manifest, None
    if spec.kind == "dynamics":
        assert spec.file is not None
        run.means.permissions.check(spec)
        history, logits = read_dynamics(spec.file, list(manifest.ids), manifest.labels)
        _check_dynamics(spec.file, history, logits, manifest)
    else:
        assert run.means.project is not None
        found = recorded(run.means.project)
        history, logits, inputs = found.history, found.logits, found.inputs
    save_history(history, folder)
    known = np.ones(len(manifest), bool)
    for name, array in (("logits", logits), ("inputs", inputs)):
        if array is not None:
            known &= np.asarray(np.isfinite(array).all(1))
            np.save(folder / f"{name}.npy", _filled(array))
    if inputs is not None:
        if len(lacking := np.flatnonzero(manifest.train & ~known)):
            raise InputError(
                f"{len(lacking):,} training rows were logged without inputs, others with them (the first without: "
                f"{manifest.ids[lacking[0]]!r}). Log inputs with every batch, or never."
            )
        told = "The recorded training has"
        _check_differ(inputs, manifest, InputError, told, "Log the last layer's inputs, or leave them out.")
    np.save(folder / "logged.npy", known)
    return {"model": str(spec), "epochs": len(history.learning_rate), "notes": _unlogged(known, spec.kind)}


def _check_differ(
    features: Array, manifest: Manifest, error: type[InputError] | type[ModelError], whose: str, advice: str
) -> None:
    """Raise `error` where all training rows have the same features: nothing can be told by them."""
    rows = np.flatnonzero(manifest.train)
    first = np.asarray(features[rows[:1]], dtype=np.float64)
    for some in blocks(len(rows)):
        values = np.asarray(features[rows[some]], dtype=np.float64)
        if (np.abs(values - first) > ALL_ONE * np.maximum(np.abs(first), np.abs(values).max(initial=0))).any():
            return
    if len(rows) > 1:
        raise error(f"{whose} the same features for every training image, which say nothing of any label. {advice}")


def _check_dynamics(path: Path, history: History, logits: Array, manifest: Manifest) -> None:
    """Raise InputError where the file is of other classes, or lacks rows that are trained on."""
    if logits.shape[1] != len(manifest.classes):
        raise InputError(
            f"{path} holds logits of {logits.shape[1]} classes, the data has {len(manifest.classes)}. "
            "Write one per class."
        )
    seen = (history.other_class >= 0).any(0) & np.asarray(np.isfinite(logits).all(1))
    if len(unseen := np.flatnonzero(manifest.train & ~seen)):
        raise InputError(
            f"{len(unseen):,} of {int(manifest.train.sum()):,} training rows lack logits of the last epoch in {path}, "
            f"the first: {manifest.ids[unseen[0]]}. Write all of them."
        )


def _filled(array: Array) -> Array:
    """Give rows of which nothing is known the mean of the others, which says nothing of them."""
    unknown = ~np.asarray(np.isfinite(array).all(1))
    return np.where(unknown[:, None], array[~unknown].mean(0), array).astype(np.float32) if unknown.any() else array


def _unlogged(known: Array, kind: str) -> list[str]:
    count = int((~known).sum())
    told = (
        f"{count:,} held-out images were never logged: their scores, taken from averages, say nothing of them, and "
        "nothing is weighed by them. "
    )
    advice = "Log them after each epoch in evaluation mode, without training on them."
    return [told + (advice if kind == "recorded" else f"{advice} Write them into the file as well.")] if count else []


def _layer(run: Run, spec: ModelSpec) -> str | None:
    return run.settings.layer if spec is run.plan.model else None


def _stage(run: Run, spec: ModelSpec) -> str:
    return "network" if spec is run.plan.model else "backbone"
