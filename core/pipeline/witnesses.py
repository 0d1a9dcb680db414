"""From the folders of a run's stages to one `Witness`: who says what about the samples.

| witness | from |
|---|---|
| history | the saved checkpoints, else what was recorded elsewhere, else the training here |
| logits and inputs, so the gradients | the person's finished network, else the training here |
| features | the backbone, the person's network, the training here: all that there are, in this order |

Where a network does not tell the data's classes apart (another class count), the left-out head on its features stands
in: its probabilities never saw the label that they speak about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.axes import Array, Float
from core.data.manifest import Manifest
from core.gradients.last_layer import LastLayerGradients
from core.gradients.rows import LazyRows
from core.models.fit import check_fit
from core.models.recorder import History
from core.pipeline.planning import WITH_HISTORY, Plan
from core.scores import dynamics
from core.scores.out_of_sample import ridge_head
from core.scores.witness import Witness

_SMALLEST = 1e-12
HELD = 2**28  # numbers of the factors up to which they are held in memory: 1 GB


class Seen(NamedTuple):
    """The rows, the plan, and the folder of every stage."""

    manifest: Manifest
    plan: Plan
    folders: Mapping[str, Path]


def witness_of(seen: Seen) -> Witness:
    """Gather what the stages left.

    Raises:
        ModelError: the person's network fits the labels better with its classes in another order.
    """
    manifest = seen.manifest
    features, notes = _features(seen), _notes(seen)
    logits, inputs, bias, in_sample = _factors(seen, features)
    if in_sample and "network" in seen.folders and seen.plan.model.kind not in WITH_HISTORY:
        fit = check_fit(logits[manifest.train], manifest.labels[manifest.train], manifest.classes)
        notes += [fit.said] if fit.said else []
    recorded = seen.plan.model.kind in WITH_HISTORY
    history = _history(seen)
    return Witness(
        labels=manifest.labels,
        train=manifest.train,
        classes=manifest.classes,
        history=history,
        gradients=_gradients(logits, manifest, inputs, bias),
        logits=logits,
        features=features or {"model": logits},
        extra=_extra(seen),
        notes=tuple(notes),
        in_sample_logits=in_sample,
        recorded=recorded,
        logged=_logged(seen.folders["network"], history) if recorded else None,
        beside=history_in(seen.folders["features"]) if recorded and "features" in seen.folders else None,
        validation=manifest.judging,
    )


def _logged(folder: Path, history: History | None) -> Array:
    """Of which rows a training that was recorded elsewhere said something; the others hold averages."""
    if (folder / "logged.npy").exists():
        return np.asarray(np.load(folder / "logged.npy"))
    assert history is not None  # a stage written before `logged.npy` was
    return dynamics.seen(history)


def _history(seen: Seen) -> History | None:
    for stage in ("series", "network", "features"):
        if stage in seen.folders and (found := history_in(seen.folders[stage])) is not None:
            return found
    return None


def _features(seen: Seen) -> dict[str, Float[Array, "n d"]]:
    trained = "model" if seen.plan.model.kind == "train" else "reference"
    places = {"backbone": ("backbone", "inputs"), "model": ("network", "inputs"), trained: ("features", "features")}
    paths = {
        origin: seen.folders[stage] / f"{name}.npy" for origin, (stage, name) in places.items() if stage in seen.folders
    }
    return {origin: np.load(path, mmap_mode="r") for origin, path in paths.items() if path.exists()}


def _factors(seen: Seen, features: Mapping[str, Array]) -> tuple[Any, Array, bool, bool]:
    """Logits, the last layer's inputs, whether it has a bias, and whether the network was trained on these labels."""
    folder = seen.folders.get("network", seen.folders.get("features"))
    assert folder is not None
    facts = _facts(folder)
    if (folder / "logits.npy").exists():
        logits: Array = np.load(folder / "logits.npy", mmap_mode="r")
        if (folder / "inputs.npy").exists():
            return logits, np.load(folder / "inputs.npy", mmap_mode="r"), bool(facts.get("bias", True)), True
        return logits, np.zeros((len(logits), 0), np.float32), True, True  # only the bias's gradient is known
    first = next(iter(features.values())) if "model" not in features else features["model"]
    manifest = seen.manifest
    head = ridge_head(first, manifest.labels, len(manifest.classes), manifest.train)
    rows = LazyRows(head.probabilities.shape, np.float32, lambda some: np.log(_above_zero(head.probabilities[some])))
    return np.asarray(rows) if rows.size <= HELD else rows, first, True, False


def _above_zero(probabilities: Array) -> Array:
    return np.maximum(probabilities, _SMALLEST).astype(np.float32)


def _gradients(logits: Any, manifest: Manifest, inputs: Any, bias: bool) -> LastLayerGradients:
    """Hold the factors, or work out their rows when they are asked for where they are too large to be held."""
    make = LastLayerGradients.from_logits if logits.size + inputs.size <= HELD else LastLayerGradients.lazily
    return make(logits, manifest.labels, inputs, bias=bias)


def _extra(seen: Seen) -> dict[str, Float[Array, " n"]]:
    folder = seen.folders.get("grand")
    return {path.stem: np.load(path) for path in sorted(folder.glob("grand*.npy"))} if folder else {}


def _notes(seen: Seen) -> list[str]:
    stages = [stage for stage in ("network", "series", "backbone", "grand") if stage in seen.folders]
    return list(dict.fromkeys(note for stage in stages for note in notes_of(seen.folders[stage])))


def notes_of(folder: Path) -> list[str]:
    """What a finished stage has to say to a person."""
    return list(_facts(folder).get("notes", []))


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return facts


def history_in(folder: Path) -> History | None:
    """The record of a training that a stage's folder holds, if it holds one."""
    if not (folder / "history_given_logit.npy").exists():
        return None
    return History(**{name: np.load(folder / f"history_{name}.npy") for name in History.__dataclass_fields__})
