"""What a run will take, said before it starts: seconds per stage, memory and disk, from a probe of a few seconds.

Decoding and training are measured here and now on the person's own images and machine. The other stages are scaled from
what `tests/bench/whole_run.py` measured on two cores (50,000 images), corrected by how fast this machine multiplies
matrices.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from core.data.images import read_pixels
from core.data.manifest import Manifest
from core.data.pixels import median_side
from core.errors import InputError, Stopped
from core.models import device
from core.models.load import load
from core.models.network import STEM, WIDTHS
from core.models.passes import run_over
from core.models.specs import ModelSpec, Permissions
from core.models.train import EVALUATION_BATCH, Task, planned_epochs, train
from core.pipeline.planning import OF_FILES, Kept, Plan, plan
from core.pipeline.training import trained_architecture
from core.progress import Event, Progress
from core.project import Stages
from core.settings import SiftSettings

PROBE_IMAGES = 256
PROBE_SECONDS = 3.0
WARM_UP_IMAGES = 256  # the first batches pay for kernel selection
PRODUCT_SECONDS = 0.011  # of the 1024 x 1024 x 1024 float32 product on the machine the figures below were taken on
PER_PAIR = 3.8e-9  # seconds per pair of images and space, neighbours: 17.2 s
PER_ROW_AND_TREE = 3.5e-8  # all scores, counted by their largest part, the three forests: 5.3 s
PER_POINT = 3.3e-4  # one UMAP of 200 epochs: 38.2 s for two
FIXED_MAP = 2.5  # its import and compilation: 5.0 s for the two of the digits
BASE_MEMORY_MB = 1300  # the process with its libraries, UMAP included, before any data
WEIGHTS_MB = 2  # of one epoch of the reference network, kept until the training is whole
PASSED_IMAGES = 64  # run through a finished network, and as many before them
WIDEST = 2048  # features of a network that has not been looked at
GRAND_PASSES = 4  # forward passes that one of GraNd takes


@dataclass(frozen=True)
class Estimate:
    """What a run would take; a stage that is there already takes 0 seconds."""

    seconds: Mapping[str, float]
    memory_mb: int
    disk_mb: int
    device: str


def estimate(
    manifest: Manifest,
    settings: SiftSettings,
    stages: Stages,
    progress: Progress,
    rows: int | None = None,
    *,
    model: str = "reference",
    kept: Kept = Kept(),  # noqa: B008 (frozen)
    permissions: Permissions | None = None,
) -> Estimate:
    """Probe and scale; nothing is written that stays.

    Args:
        manifest: the rows, or some of them.
        settings: of the run.
        stages: where finished stages lie.
        progress: who is told.
        rows: how many there are in all, where `manifest` holds some of them.
        model: the model's spec; `kept` and `permissions` as in a run.

    Raises:
        InputError: no image can be read.
        ModelError: the model cannot be loaded or does not fit.
    """
    planned, compute = plan(manifest, settings, model, kept), device.choose(settings.device, settings.precision)
    rows = rows or len(manifest)
    trained = round(int(manifest.train.sum()) * rows / len(manifest))
    planned = replace(planned, epochs=planned_epochs(settings, trained))
    plans = [planned, *planned.seeds[1:]]
    waiting = {(name, key) for each in plans for name, key in each.keys.items() if stages.find(name, key) is None}
    missing = {name for name, _ in waiting}
    asked = _Asked(manifest, settings, compute, permissions or Permissions.from_environment(), progress)
    slower = _product_seconds() / PRODUCT_SECONDS
    seconds = {
        **_training_seconds(asked, planned, missing, rows, trained),
        **_passing_seconds(asked, planned, missing, rows),
        "neighbours": 2 * PER_PAIR * rows * trained * slower,
        "scores": 3 * PER_ROW_AND_TREE * settings.trees * rows * slower,
        "map": 2 * (PER_POINT * rows + FIXED_MAP) * slower,
    }
    times = Counter(name for name, _ in waiting)  # of several seeds each has stages of its own
    left = {name: round(seconds[name] * times[name], 2) for name in planned.keys}
    return Estimate(left, *space(manifest, planned, rows), str(compute.describe()["device"]))


@dataclass(frozen=True)
class _Asked:
    """What a run was asked for, and with what it would compute."""

    manifest: Manifest
    settings: SiftSettings
    compute: device.Compute
    permissions: Permissions
    progress: Progress


def _training_seconds(asked: _Asked, planned: Plan, missing: set[str], rows: int, trained: int) -> dict[str, float]:
    """Seconds of the stages of a training here, from the person's own images."""
    if not planned.trains:
        return {}
    pixels, decoding = _probe_decoding(asked.manifest, planned.side, asked.progress)
    found = {"pixels": rows * decoding, "features": 0.0, "grand": 0.0}
    if missing & {"features", "grand"}:
        rate = _training_rate(asked, pixels, planned)
        found["features"] = (planned.epochs * (trained + (rows - trained) / 3) + 2 * rows / 3) / rate
        found["grand"] = len(asked.settings.grand) * rows * GRAND_PASSES / 3 / rate
    return found


def _passing_seconds(asked: _Asked, planned: Plan, missing: set[str], rows: int) -> dict[str, float]:
    """Seconds of the stages of finished networks, each tried on a few images."""
    found: dict[str, float] = {}
    for stage, spec in (("network", planned.model), ("backbone", planned.backbone)):
        if spec is None or stage not in planned.keys:
            continue
        wanted = {stage, "series", "grand"} if stage == "network" else {stage}
        tried = spec.kind not in OF_FILES and bool(missing & wanted)
        found[stage] = rows * _seconds_a_pass(asked, spec, own=stage == "network") if tried else 0.0
    found["series"] = found.get("network", 0.0) * len(asked.settings.checkpoints)
    if "network" in planned.keys:
        found["grand"] = found["network"] * len(asked.settings.grand) * GRAND_PASSES
    return found


def _seconds_a_pass(asked: _Asked, spec: ModelSpec, *, own: bool) -> float:
    """Run a network over a few images; return the seconds of one, decoding included."""
    manifest = asked.manifest
    transform, layer = (asked.settings.transform, asked.settings.layer) if own else (None, None)
    side, progress = median_side(manifest), asked.progress
    loaded = load(spec, manifest.classes, transform, asked.permissions, side, progress=progress)
    seconds = 0.0
    for part in range(2):  # the first batch pays for kernel selection
        some = replace(manifest, rows=manifest.rows.iloc[part * PASSED_IMAGES :][:PASSED_IMAGES].reset_index(drop=True))
        if not len(some):
            break
        begin, count = time.perf_counter(), len(some)
        run_over(loaded, some, asked.compute, progress, layer, stage="trying the network")
        seconds = (time.perf_counter() - begin) / count
    return seconds


def _probe_decoding(manifest: Manifest, side: int, progress: Progress) -> tuple[np.ndarray, float]:
    """Decode a few images in a row, as the run will read them; return them and the seconds per image."""
    first = max(0, (len(manifest) - PROBE_IMAGES) // 2)
    some = [str(sample) for sample in manifest.ids[first : first + PROBE_IMAGES]]
    begin = time.perf_counter()
    found = [image for _, image in read_pixels(manifest.source, some, side, progress)]
    images = [image for image in found if isinstance(image, np.ndarray)]
    if not images:
        raise InputError(f"None of {len(some)} images tried can be read now (the first: {found[0]}). Bring them back.")
    return np.stack(images), (time.perf_counter() - begin) / len(some)


def _training_rate(asked: _Asked, pixels: np.ndarray, planned: Plan) -> float:
    """Train on the decoded few for some seconds; return images per second after the warm-up."""
    manifest, settings = asked.manifest, asked.settings
    labels = np.arange(len(pixels)) % len(manifest.classes)
    ids = tuple(str(row) for row in range(len(pixels)))
    task = Task(ids, pixels, labels, np.ones(len(pixels), bool), len(manifest.classes), flip=True)
    seen: list[tuple[float, int]] = []

    def note(event: Event) -> None:
        seen.append((time.perf_counter(), event.done))

    def enough() -> bool:
        warm = [entry for entry in seen if entry[1] >= WARM_UP_IMAGES]
        return len(warm) > 1 and warm[-1][0] - warm[0][0] > PROBE_SECONDS

    with TemporaryDirectory(prefix="gradsift-probe-") as folder, suppress(Stopped):
        architecture = trained_architecture(planned, settings, asked.permissions, asked.progress)
        train(task, replace(settings, epochs=10_000), asked.compute, Path(folder), Progress(note, enough), architecture)
    warm = [entry for entry in seen if entry[1] >= WARM_UP_IMAGES]
    return (warm[-1][1] - warm[0][1]) / (warm[-1][0] - warm[0][0])


def _product_seconds() -> float:
    """Return the seconds of a 1024-cubed product, the best of five."""
    left = torch.ones(1024, 1024)
    best = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        left @ left
        best = min(best, time.perf_counter() - begin)
    return best


def space(manifest: Manifest, planned: Plan, rows: int | None = None) -> tuple[int, int]:
    """Return peak memory and disk of a run, in MB: multiples of the factors, never of n x parameters or n x n."""
    rows, classes = rows or len(manifest), len(manifest.classes)
    width = WIDTHS[-1] if set(planned.keys).isdisjoint({"network", "backbone"}) else WIDEST
    factors = 4 * rows * (2 * width + 3 * classes)
    history = 4 * 6 * rows * planned.epochs
    pixels = 3 * rows * planned.side**2
    passing = 4 * EVALUATION_BATCH * planned.side**2 * 3 * STEM  # activations of one batch
    memory = BASE_MEMORY_MB + (2 * factors + 2 * history + pixels + passing) / 1e6
    kept = WEIGHTS_MB * (planned.epochs + 3)
    seeds = max(1, len(planned.seeds))
    return round(memory), round(pixels / 1e6 + seeds * (kept + (factors + history + 8 * 60 * rows) / 1e6))
