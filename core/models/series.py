"""A history from saved checkpoints: what each of them says of every sample, one evaluation pass each.

A poorer record than the training's own passes: without augmentation, after the epoch's updates, and only as dense as
checkpoints were saved (on human label noise the training's own passes ranked wrong labels higher). It is what there is
when a training is over and nobody logged it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from core.axes import Array, Integer
from core.data.manifest import Manifest
from core.data.pixels import median_side
from core.errors import ModelError
from core.models.device import Compute
from core.models.load import load
from core.models.passes import Pass, run_over
from core.models.record import read_row, write_whole
from core.models.recorder import History, Recorder
from core.models.specs import ModelSpec, Permissions
from core.progress import Progress

FEW = 3  # an average over fewer checkpoints says little more than the last one
BLOCK = 10_000  # rows taken at once out of a mapped pass


class Series(NamedTuple):
    """What a series of checkpoints gave: one row of the history each (the learning rate is NaN), and notes on it."""

    history: History
    notes: tuple[str, ...]


def history_of_series(
    spec: ModelSpec,
    checkpoints: Sequence[str],
    manifest: Manifest,
    compute: Compute,
    progress: Progress,
    *,
    transform: str | None = None,
    layer: str | None = None,
    permissions: Permissions | None = None,
    folder: Path | None = None,
) -> Series:
    """Run every checkpoint over every image, from the first to the last.

    Args:
        spec: whose checkpoints they are; its own weights play no part.
        checkpoints: weight files, in the order in which they were saved.
        manifest: the rows.
        compute: the device.
        progress: told of the images, each checkpoint anew.
        transform: as in `load`.
        layer: as in `run_over`.
        permissions: what may be done; None: what this process may do.
        folder: where each finished pass leaves its row, so that a second call does not run it again.

    Raises:
        ModelError: a checkpoint cannot be loaded, gives logits of another class count, or logits that are not finite.
        InputError: images are gone or have changed.
    """
    permissions = permissions or Permissions.from_environment()
    rows, notes = [], []
    for number, weights in enumerate(checkpoints):
        path = folder / f"checkpoint-{number:04d}.npz" if folder else None
        if path and path.exists():
            rows.append(read_row(path))
            notes += [note for note in _kept_notes(path) if note not in notes]
            continue
        network = replace(spec, weights=weights)
        loaded = load(network, manifest.classes, transform, permissions, median_side(manifest), progress=progress)
        progress.note(f"Checkpoint {number + 1} of {len(checkpoints)}: {weights}")
        rows.append(row_of(run_over(loaded, manifest, compute, progress, layer), manifest, weights))
        notes += [note for note in loaded.notes if note not in notes]
        if path:
            path.with_suffix(".json").write_text(json.dumps(loaded.notes))  # before the row that makes it count
            write_whole(path, rows[-1])
    history = History(**{name: np.stack([row[name] for row in rows]) for name in History.__dataclass_fields__})
    return Series(history, (*notes, *notes_on(checkpoints, history)))


def _kept_notes(path: Path) -> list[str]:
    """What loading a finished checkpoint had to say."""
    beside = path.with_suffix(".json")
    return list(json.loads(beside.read_text())) if beside.exists() else []


def row_of(found: Pass, manifest: Manifest, weights: str) -> dict[str, Array]:
    """Return one row of a history (see `core.models.recorder.History`) from a pass.

    Raises:
        ModelError: the logits are of another class count, or not finite.
    """
    labels: Integer[Array, " n"] = manifest.labels
    if found.logits.shape[1] != len(manifest.classes):
        raise ModelError(
            f"{weights} gives {found.logits.shape[1]} logits and the data has {len(manifest.classes)} classes. "
            "A series of checkpoints stands for a training on these labels; give checkpoints of that training."
        )
    recorder = Recorder(manifest.ids)
    for begin in range(0, len(labels), BLOCK):
        rows = np.arange(begin, min(begin + BLOCK, len(labels)))
        logits, inputs = np.asarray(found.logits[rows]), np.asarray(found.inputs[rows])
        if not np.isfinite(logits).all():
            raise ModelError(f"{weights} gives logits that are not finite. Leave this checkpoint out.")
        recorder.log_rows(rows, logits, labels[rows], 0, inputs)
    return {name: array[0] for name, array in recorder.history().arrays().items()}


def notes_on(checkpoints: Sequence[str], history: History) -> list[str]:
    """Say what makes a series a poor witness: too short, or perhaps in another order."""
    notes, right = [], history.correct.mean(1)
    if len(checkpoints) < FEW:
        notes.append(f"A history of {len(checkpoints)} checkpoints is short: its scores are averages over them.")
    counted = sorted(checkpoints, key=_natural)
    if list(checkpoints) == sorted(checkpoints) != counted:  # as a shell lists them
        one, other = next((a, b) for a, b in zip(checkpoints, counted, strict=True) if a != b)
        notes.append(
            f"Checkpoints were read in the order given, {Path(one).name} before {Path(other).name}. "
            "If the numbers count epochs, give them in that order."
        )
    elif len(right) > 1 and right[-1] < right[0]:
        notes.append(
            f"The first checkpoint fits {right[0]:.0%} of the given labels and the last {right[-1]:.0%}. "
            "Give them from first to last."
        )
    return notes


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which epoch_9 comes before epoch_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
