"""The stages that a finished network fills: one pass over the images, or a file of what it said elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from core.axes import Array
from core.data.manifest import Manifest
from core.data.pixels import median_side
from core.errors import InputError
from core.models.files import read_dynamics, read_features
from core.models.fit import check_fit
from core.models.load import Loaded, load
from core.models.passes import run_over
from core.models.recorder import History, recorded
from core.models.series import history_of_series
from core.models.specs import ModelSpec

if TYPE_CHECKING:
    from core.pipeline.run import Run


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
    np.save(folder / "inputs.npy", features)
    notes = []
    if logits is not None and spec is run.plan.model:
        if logits.shape[1] == len(run.manifest.classes):
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
    for name, array in (("logits", logits), ("inputs", inputs)):
        if array is not None:
            np.save(folder / f"{name}.npy", _filled(array))
    return {"model": str(spec), "epochs": len(history.learning_rate), "notes": _unlogged(np.asarray(logits))}


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


def _unlogged(logits: Array) -> list[str]:
    count = int((~np.isfinite(logits).all(1)).sum())
    told = f"{count:,} held-out images were never logged: their scores, taken from averages, say nothing of them."
    return [told] if count else []


def _layer(run: Run, spec: ModelSpec) -> str | None:
    return run.settings.layer if spec is run.plan.model else None


def _stage(run: Run, spec: ModelSpec) -> str:
    return "network" if spec is run.plan.model else "backbone"
