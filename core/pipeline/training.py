"""The stages that a training here fills: its record, its last layer's factors, and GraNd over all layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from core.axes import Array
from core.errors import SettingsError
from core.gradients.all_layers import GradientNorms, gradient_norms
from core.models import device
from core.models.architecture import Architecture, architecture_of
from core.models.head import ToLayer
from core.models.network import Network
from core.models.passes import batches, full_precision
from core.models.specs import TRAINED_HERE, ModelSpec, Permissions
from core.models.train import (
    Task,
    Trained,
    evaluate,
    network_after,
    normalise,
    train,
    weights_digest,
)
from core.pipeline.passes import loaded_for, save_history
from core.pipeline.planning import Plan
from core.progress import Progress
from core.scores import dynamics
from core.settings import SiftSettings

if TYPE_CHECKING:
    from core.pipeline.run import Run

GRAND_BATCH = 64


def train_and_record(run: Run, folder: Path) -> dict[str, Any]:
    """Train what the plan says, or go on with it, and write the record, the factors and the features."""
    task, architecture = run.task, _architecture(run)
    trained = train(task, run.settings, run.compute, folder, run.progress, architecture)
    save_history(trained.history, folder)
    epoch = dynamics.clearest_epoch(trained.history, run.manifest.train, run.manifest.judging)
    clearest = network_after(folder, epoch, task.classes, run.compute, architecture)
    for name, array in _final_pass(task, trained, clearest, run.progress).items():
        np.save(folder / f"{name}.npy", array)
    return {
        "epochs": run.plan.epochs, "features_of_epoch": epoch + 1, "flip": task.flip, **run.compute.describe(),
        "torch": torch.__version__, "weights_sha256": weights_digest(folder, run.plan.epochs),
        "network": architecture.name,
    }  # fmt: skip


def trained_architecture(
    plan: Plan, settings: SiftSettings, permissions: Permissions, progress: Progress
) -> Architecture:
    """How the network that is trained here is made: the model's own, or the reference network beside it."""
    if plan.model.kind != "train":
        return architecture_of(ModelSpec("reference"), plan.side, permissions)
    return architecture_of(
        plan.model, plan.side, permissions, transform=settings.transform, layer=settings.layer, progress=progress
    )


def _architecture(run: Run) -> Architecture:
    return trained_architecture(run.plan, run.settings, run.means.permissions, run.progress)


def grand(run: Run, folder: Path) -> dict[str, Any]:
    """Write the gradient norm over all parameters of every row: the mean over the epochs that were asked for.

    Source: Paul et al. 2021, definition 2.1, in evaluation mode; `epoch_<k>.npy` are the terms of the mean.

    Raises:
        SettingsError: the network does not tell the data's classes apart.
    """
    run.progress.note(f"GraNd over all parameters, after epoch {', '.join(run.settings.grand)}")
    with full_precision():
        found = [_norms_after(run, when) for when in run.settings.grand]
    for when, each in zip(run.settings.grand, found, strict=True):
        np.save(folder / f"epoch_{when}.npy", each.norms)
    np.save(folder / "grand.npy", np.mean([each.norms for each in found], axis=0))
    notes = dict.fromkeys(note for each in found for note in each.coverage.notes)
    return {"epochs": list(run.settings.grand), "notes": list(notes)}


def _norms_after(run: Run, when: str) -> GradientNorms:
    """The norms with the weights after one epoch, of the person's own network where there is one."""
    if run.plan.model.kind not in TRAINED_HERE:
        return _norms_of_finished(run)
    epoch = run.plan.epochs if when == "last" else int(when)
    architecture = _architecture(run)
    network = network_after(run.folders["features"], epoch - 1, run.task.classes, run.compute, architecture)
    statistics = architecture.statistics or run.task.statistics

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for begin in range(0, len(run.manifest), GRAND_BATCH):
            rows = slice(begin, begin + GRAND_BATCH)
            run.progress.report("grand", min(begin + GRAND_BATCH, len(run.manifest)), len(run.manifest), "images")
            yield normalise(np.array(run.task.pixels[rows]), statistics, run.compute.device), _labels(run, rows)

    return gradient_norms(network.plain, blocks())


def _norms_of_finished(run: Run) -> GradientNorms:
    loaded = loaded_for(run, run.plan.model)
    if loaded.classes != len(run.manifest.classes):
        raise SettingsError(
            f"GraNd needs logits of the data's {len(run.manifest.classes)} classes; {run.plan.model} tells "
            f"{loaded.classes} apart. Leave it out, or fine-tune the network: train:{run.plan.model.name}."
        )
    order: list[Array] = []

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for rows, images in batches(loaded, run.manifest, run.compute.device, GRAND_BATCH, run.progress, "grand"):
            order.append(rows)
            yield images, _labels(run, rows)

    network = loaded.network.to(run.compute.device)
    found = gradient_norms(ToLayer(network, run.settings.layer) if run.settings.layer else network, blocks())
    norms = np.empty_like(found.norms)
    norms[np.concatenate(order)] = found.norms
    return replace(found, norms=norms)


def _labels(run: Run, rows: Any) -> Tensor:
    return torch.from_numpy(run.manifest.labels[rows].astype(np.int64)).to(run.compute.device)


def _final_pass(task: Task, trained: Trained, clearest: Network, progress: Progress) -> dict[str, Array]:
    """Return what evaluation passes in float32 give for every row.

    `logits` and `inputs` are the last layer's, after the last epoch: the factors of the gradients. `features` are label
    evidence: the inputs of the clearest epoch's network, averaged over the image and its mirror where that is allowed.
    """
    rows, compute = np.arange(len(task.labels)), device.choose(next(clearest.parameters()).device.type, "float32")

    def passes(network: Network, *, mirror: bool = False) -> tuple[Array, Array]:
        found = []
        for some, logits, inputs in evaluate(network, task, trained.statistics, compute, rows, mirror=mirror):
            found.append((logits, inputs))
            progress.report("features", int(some[-1]) + 1, len(rows), "images")
        logits, inputs = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return logits, inputs

    logits, inputs = passes(trained.network)
    views = [passes(clearest, mirror=mirror)[1] for mirror in ((False, True) if task.flip else (False,))]
    return {"logits": logits, "inputs": inputs, "features": np.mean(views, axis=0)}
