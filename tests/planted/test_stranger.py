"""A training loop that knows nothing of this package but `Recorder`: its record ranks as the reference run's does.

The spread of seeds is the measure: two reference trainings that differ in their seed agree only so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn.functional import cross_entropy, pad

from core import Manifest, Project, Recorder
from core.data.pixels import decode_all
from core.models import device
from core.models.network import reference_network
from core.models.recorder import History, recorded
from core.models.train import Task, train
from core.progress import Progress
from core.scores import dynamics
from core.settings import SiftSettings

SIDE, EPOCHS, BATCH = 16, 12, 64


@dataclass(frozen=True)
class Data:
    """The digits as a stranger has them: tensors, and the ids that the project knows."""

    manifest: Manifest
    pixels: np.ndarray
    wrong: np.ndarray  # of the training rows

    @property
    def images(self) -> torch.Tensor:
        pixels = torch.from_numpy(self.pixels).permute(0, 3, 1, 2).float()
        return (pixels - pixels.mean()) / pixels.std()

    def suspicious(self, history: History) -> np.ndarray:
        """The history's part of `suspicion`, for training rows."""
        weights = dynamics.epoch_weights(history, self.manifest.train)
        return -dynamics.weighted_aum(history, weights)[self.manifest.train]

    def agreement(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Rank correlation, and how many of the worst (as many as are wrong) two rankings have in common."""
        first, second = (set(np.argsort(-each, kind="stable")[: self.wrong.sum()]) for each in (one, other))
        return np.array([spearmanr(one, other)[0], len(first & second)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    manifest = Manifest.read("digits", limit=500)
    path = tmp_path_factory.mktemp("pixels") / "pixels.npy"
    decode_all(manifest, SIDE, path, Progress())
    wrong = (manifest.rows["given_label"] != manifest.rows["true_label"]).to_numpy()
    return Data(manifest, np.load(path), wrong[manifest.train])


@pytest.fixture(scope="module")
def references(data: Data, tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    """The ranking of three reference trainings."""
    manifest, found = data.manifest, []
    task = Task(tuple(manifest.ids), data.pixels, manifest.labels, manifest.train, 10, False)
    for seed in range(3):
        settings = SiftSettings(seed=seed, epochs=EPOCHS, device="cpu", precision="float32")
        trained = train(task, settings, device.choose("cpu", "float32"), tmp_path_factory.mktemp("run"), Progress())
        found.append(data.suspicious(trained.history))
    return found


def shifted(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    down, right = torch.randint(0, 5, (2, len(images)), generator=generator).tolist()
    padded = pad(images, (2, 2, 2, 2))
    return torch.stack([p[:, y : y + SIDE, x : x + SIDE] for p, y, x in zip(padded, down, right, strict=True)])


def strange_loop(
    data: Data, folder: Path, model: nn.Module, seed: int, move: Callable = shifted, turn: int = 0
) -> np.ndarray:
    """Plain torch, its own order and its own draws; `turn` logs every row under the id so many places further on."""
    project = Project.create(folder, data.manifest)
    generator, images = torch.Generator().manual_seed(seed), data.images
    ids, labels = np.roll(project.manifest().ids, turn), torch.from_numpy(project.manifest().labels)
    logged = np.roll(project.manifest().labels, turn)
    fitted, held_out = (torch.from_numpy(np.flatnonzero(rows)) for rows in (data.manifest.train, ~data.manifest.train))
    batches = round(len(fitted) / BATCH)  # of even size: two images left over are too few to normalise over
    optimiser = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 0.2, EPOCHS * batches, pct_start=0.2)

    with Recorder(project) as recorder:
        for epoch in range(EPOCHS):
            model.train()
            for batch in fitted[torch.randperm(len(fitted), generator=generator)].tensor_split(batches):
                logits = model(move(images[batch], generator))
                loss = cross_entropy(logits, labels[batch])
                optimiser.zero_grad()
                torch.autograd.backward(loss)
                optimiser.step()
                schedule.step()
                recorder.log(ids[batch], logits, logged[batch], epoch)
            model.eval()
            with torch.no_grad():
                recorder.log(ids[held_out], model(images[held_out]), logged[held_out], epoch)

    return data.suspicious(recorded(project).history)


def same_network(seed: int) -> nn.Module:
    with device.seeded(seed + 100):
        return reference_network(10).plain


def test_the_reference_network_in_a_strangers_loop_ranks_within_the_spread_of_seeds(
    data: Data, references: list[np.ndarray], tmp_path: Path
) -> None:
    between = np.array([data.agreement(*pair) for pair in combinations(references, 2)])
    for seed in range(2):
        strange = strange_loop(data, tmp_path / str(seed), same_network(seed), seed)
        found = np.array([data.agreement(strange, each) for each in references])
        print(f"seed {seed}: {found.mean(0).round(3)}, between reference seeds {between.round(3).tolist()}")
        assert found.mean(0)[0] > between.min(0)[0] - 0.03
        assert found.mean(0)[1] >= between.min(0)[1] - 2
        assert average_precision_score(data.wrong, strange) > 0.97
        assert found.mean(0)[0] > 0.7  # or the spread says nothing


def test_a_network_of_the_strangers_own_finds_the_planted_errors(
    data: Data, references: list[np.ndarray], tmp_path: Path
) -> None:
    with device.seeded(1):
        network = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32),
            nn.ReLU(), nn.Flatten(), nn.Linear(512, 10),
        )  # fmt: skip
    strange = strange_loop(data, tmp_path / "own", network, 5, lambda images, _: images)
    assert average_precision_score(data.wrong, strange) > 0.9
    assert data.agreement(strange, references[0])[1] > 0.75 * data.wrong.sum()


def test_logging_under_the_ids_of_other_samples_ruins_the_ranking(
    data: Data, references: list[np.ndarray], tmp_path: Path
) -> None:
    """The control: what holds above does not hold for any record of a training."""
    turned = strange_loop(data, tmp_path / "turned", same_network(0), 0, turn=1)
    assert data.agreement(turned, references[0])[0] < 0.3
    assert average_precision_score(data.wrong, turned) < 0.5
