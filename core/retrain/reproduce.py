"""`gradsift reproduce`: remove the most suspicious 5 %, train again, and put the outcome beside the published table.

One run is the whole chain of the first paper: train on everything, rank by the last layer's gradients of that network,
remove, train anew. Each seed is a chain of its own, so the spread over seeds holds the luck of the ranking too. Beside
the paper's arms stand the control that it lacks (as many removed at random), the default ranking, and its three label
baselines on given labels with probabilities of networks that never saw the image.

`core.retrain.reproduction` has the arms and what is answered, `core.retrain.chain` the trainings. Source: Chhabra et
al., "Outlier Gradient Analysis", ICML 2025, arXiv 2405.03869, section 5 and tables 2 and 5.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from core import __version__
from core.axes import Array, Bool
from core.errors import SettingsError
from core.models import device
from core.models.architecture import REFERENCE, Architecture, tapped, torchvision_network
from core.models.network import Network
from core.models.train import planned_epochs
from core.progress import Progress
from core.project import Stages
from core.retrain.chain import FOLDS, Chain, Means, Unit
from core.retrain.cifar10n import CLASSES, SIDE, TRUTH, Cifar10N, read_cifar10n
from core.retrain.reproduction import COLUMNS as COLUMNS
from core.retrain.reproduction import GIVEN, RANDOM, RECIPES, Line, Recipe, Reproduction
from core.settings import SiftSettings
from core.verify.compare import compare
from core.verify.published import RUNS, UNTOUCHED, published
from core.verify.record import FULL, Outcome, TestSet, Verification

OGA = "oga-cifar10n"
NAMES = (OGA,)
NETWORKS = ("auto", "reference", "resnet34")
CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def reproduce(
    name: str,
    data: Path,
    *,
    labels: Sequence[str] = ("worse", "aggre"),
    rows: int = 10_000,
    seeds: int = 3,
    fraction: float = 0.05,
    network: str = "auto",
    settings: SiftSettings | None = None,
    stages: Stages | None = None,
    progress: Progress | None = None,
) -> Reproduction:
    """Run the chains and compare them.

    Args:
        name: one of `NAMES`.
        data: a folder with CIFAR-10 and its human labels (`core.retrain.cifar10n`).
        labels: kinds of labels.
        rows: to train on, up to 50,000.
        seeds: how many, from 0 on; an interval needs two.
        fraction: share removed.
        network: "reference", "resnet34" (with the stem for small images), or "auto": the latter where there is a GPU.
        settings: of the trainings; None: the defaults of the network.
        stages: where trainings are kept, so that a stopped call goes on; None: nowhere.
        progress: who is told.

    Raises:
        SettingsError: an unknown name or network, or a number outside its range.
        InputError: a file of the data is missing or damaged; the message says where it comes from.
        Stopped: the person asked for it.
    """
    _check(name, network, labels, seeds, fraction)
    begin, told = time.perf_counter(), progress or Progress()
    architecture, chosen = _network(network, settings)
    images = read_cifar10n(data, tuple(labels), rows, told)
    holder: AbstractContextManager[Any] = nullcontext() if stages else TemporaryDirectory(prefix="gradsift-")
    epochs = planned_epochs(chosen, images.trained)
    told.note(
        f"At most {trainings(len(labels), seeds):,} trainings of {epochs} epochs on {images.trained:,} images; "
        "finished ones are found again" + ("." if stages else " only in a folder that keeps them.")
    )
    with holder as temporary:
        means = Means(chosen, architecture, stages or Stages(Path(temporary)), told)
        found = {kind: _arms(images, kind, seeds, fraction, means) for kind in labels}
    described = _described(images, means, seeds, fraction)
    made = {kind: _verification(images, kind, arms, described) for kind, arms in found.items()}
    lines = [line for kind, arms in found.items() for line in _lines(images, kind, arms, made[kind], fraction)]
    return Reproduction(tuple(lines), described, time.perf_counter() - begin, verifications=made)


def trainings(labels: int, seeds: int) -> int:
    """Return how many trainings a call consists of; those of the folds count as the two that they amount to."""
    return labels * seeds * (len(RECIPES) + FOLDS - 1)


@dataclass(frozen=True)
class _Made:
    """One arm over the seeds."""

    recipe: Recipe
    removed: list[Bool[Array, " n"]]
    units: list[Unit]
    seconds: float


def _arms(images: Cifar10N, kind: str, seeds: int, fraction: float, means: Means) -> list[_Made]:
    """Train every arm with every seed; arms come in the order of `RECIPES`."""
    found = [_Made(recipe, [], [], 0.0) for recipe in RECIPES]
    for seed in range(seeds):
        chain = Chain(images, kind, seed, means)
        removed = {GIVEN: np.zeros(images.trained, bool), **chain.removed(fraction)}
        for place, made in enumerate(found):
            name = made.recipe.name
            begin = time.perf_counter()
            made.units.append(chain.unit(removed[name], f"arm {place + 1} of {len(found)}"))
            made.removed.append(removed[name])
            found[place] = replace(made, seconds=made.seconds + time.perf_counter() - begin)
    return found


def _verification(images: Cifar10N, kind: str, arms: Sequence[_Made], described: Mapping[str, Any]) -> Verification:
    """Put the trainings into the record that differences and intervals are worked out from."""
    given, labels = images.given[kind][: images.trained], images.truth[images.test]
    names = np.asarray(CLASS_NAMES, dtype=object)
    sizes = {str(name): int(count) for name, count in zip(names, np.bincount(given, minlength=CLASSES), strict=True)}
    test = TestSet(
        "test", tuple(images.ids[row] for row in images.test), labels, known_noise=0.0,
        note="The test images of CIFAR-10 with their true labels.",
    )  # fmt: skip
    return Verification(
        FULL, datetime.now(UTC).isoformat(timespec="seconds"), __version__, f"{OGA} {kind}", CLASS_NAMES, test,
        tuple(_outcome(made, given) for made in arms), {"class": tuple(names[labels])}, {"class": sizes},
        network=described["network"], settings=described, seeds=tuple(range(described["seeds"])),
    )  # fmt: skip


def _outcome(made: _Made, given: Array) -> Outcome:
    gone = int(made.removed[0].sum())
    per_class = np.mean([np.bincount(given[rows], minlength=CLASSES) for rows in made.removed], axis=0)
    return Outcome(
        made.recipe.name, made.recipe.title,
        {"kept": len(given) - gone, "removed": gone, "relabelled": 0, "weighted": 0},
        {"class": {name: round(count) for name, count in zip(CLASS_NAMES, per_class, strict=True)}},
        np.stack([unit.predicted for unit in made.units]), np.stack([unit.given_prob for unit in made.units]),
        seconds=made.seconds,
    )  # fmt: skip


def _lines(images: Cifar10N, kind: str, arms: Sequence[_Made], record: Verification, fraction: float) -> Iterator[Line]:
    wrong = (images.given[kind] != images.truth)[: images.trained]
    untouched = published(UNTOUCHED, kind, fraction)
    for made in arms:
        name = made.recipe.name
        right = (record.outcome(name).predicted == record.test.labels).mean(1) * 100
        shares = [float(wrong[rows].mean()) for rows in made.removed if rows.any()]
        there = published(made.recipe.row, kind, fraction) if made.recipe.row else None
        yield Line(
            kind, name, made.recipe.title, int(made.removed[0].sum()), float(np.mean(shares)) if shares else None,
            float(right.mean()), float(right.std(ddof=1)) if len(right) > 1 else None,
            None if name == GIVEN else compare(record, name, GIVEN).accuracy,
            None if name in (GIVEN, RANDOM) else compare(record, name, RANDOM).accuracy,
            there, None if there is None or untouched is None or name == GIVEN else there.accuracy - untouched.accuracy,
        )  # fmt: skip


def _network(name: str, settings: SiftSettings | None) -> tuple[Architecture, SiftSettings]:
    """What is trained, and how; the paper's batch, rate and number of epochs for its own network."""
    where = settings or SiftSettings()
    gpu = device.choose(where.device, where.precision).device.type == "cuda"
    if name == "reference" or (name == "auto" and not gpu):
        return REFERENCE, where
    paper = SiftSettings(batch_size=128, learning_rate=0.1, epochs=100)
    return Architecture("ResNet-34 with the stem for small images", resnet34), settings or paper


def resnet34(classes: int) -> Network:
    """Return torchvision's ResNet-34 as it is used on images of 32 pixels: a 3 x 3 convolution first, no pooling."""
    from torch import nn

    def made() -> nn.Module:
        network = torchvision_network("resnet34", SIDE)
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        return network

    return tapped("resnet34", made, classes, SIDE)


def _described(images: Cifar10N, means: Means, seeds: int, fraction: float) -> dict[str, Any]:
    compute = device.choose(means.settings.device, means.settings.precision)
    return {
        "network": means.architecture.name, "rows": images.trained, "held_out": images.held_out,
        "test_images": len(images.test), "seeds": seeds, "fraction": fraction,
        "epochs": planned_epochs(means.settings, images.trained), "published_runs": RUNS,
        "batch_size": means.settings.batch_size, "learning_rate": means.settings.learning_rate,
        "weight_decay": means.settings.weight_decay, "trees": means.settings.trees, **compute.describe(),
    }  # fmt: skip


def _check(name: str, network: str, labels: Sequence[str], seeds: int, fraction: float) -> None:
    if name not in NAMES:
        raise SettingsError(f"{name!r} cannot be reproduced here. Choose from {', '.join(NAMES)}.")
    if network not in NETWORKS:
        raise SettingsError(f"Network {network!r} is unknown here. Choose from {', '.join(NETWORKS)}.")
    if not labels or len(set(labels)) < len(labels) or TRUTH in labels:
        raise SettingsError(
            f"Labels {', '.join(labels) or 'of no kind'} were asked for; name each kind once, not clean."
        )
    if not 1 <= seeds <= 100:
        raise SettingsError(f"{seeds} seeds were asked for; give 1 to 100.")
    if not 0 < fraction <= 0.5:
        raise SettingsError(f"The share to remove is {fraction:g}; give a number above 0, at most 0.5.")
