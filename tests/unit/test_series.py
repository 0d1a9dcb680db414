"""A history from saved checkpoints: equal to the slow twin's, taken up where it stopped, and frank about its limits."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from core.data.manifest import Manifest
from core.errors import ModelError
from core.models import device, series
from core.models.architecture import torchvision_network
from core.models.load import load
from core.models.passes import Pass, run_over
from core.models.series import Series, history_of_series, notes_on
from core.models.specs import Permissions, parse_model
from core.progress import Progress
from tests.helpers import drawn_folder, history_of, made_history

CPU = device.choose("cpu", "float32")
TRANSFORM = "resize=32"
ARCHITECTURE = "shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.read(f"folder:{drawn_folder(tmp_path_factory.mktemp('images'), 20)}")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three checkpoints of two classes."""
    folder, files = tmp_path_factory.mktemp("weights"), []
    for epoch in range(3):
        with device.seeded(epoch):
            network = torchvision_network(ARCHITECTURE, 32)
            network.fc = nn.Linear(1024, 2)
            nn.init.normal_(network.fc.weight, std=0.2)
        path = folder / f"epoch_{epoch}.safetensors"
        save_file(network.state_dict(), path)
        files.append(str(path))
    return files


SPEC = parse_model(f"torchvision:{ARCHITECTURE}@none.pt")


def run(manifest: Manifest, files: Sequence[str], folder: Path | None = None) -> Series:
    return history_of_series(
        SPEC, files, manifest, CPU, Progress(), transform=TRANSFORM, permissions=Permissions(), folder=folder
    )


def passed(manifest: Manifest, weights: str) -> Pass:
    spec = parse_model(f"torchvision:{ARCHITECTURE}@{weights}")
    return run_over(load(spec, manifest.classes, TRANSFORM, Permissions(), 12), manifest, CPU, Progress())


def test_each_row_is_what_that_checkpoint_says(manifest: Manifest, saved: list[str]) -> None:
    history, _ = run(manifest, saved)
    passes = [passed(manifest, weights) for weights in saved]
    norms = np.stack([np.sqrt((each.inputs.astype(np.float64) ** 2).sum(1) + 1) for each in passes])
    expected = history_of(np.stack([each.logits for each in passes]), manifest.labels, norms)
    for name, array in history.arrays().items():
        if name == "learning_rate":
            assert np.isnan(array).all()
        else:
            np.testing.assert_allclose(array, expected.arrays()[name], rtol=1e-4, atol=1e-4, err_msg=name)
    assert len({round(float(each.logits[0, 0]), 4) for each in passes}) == 3  # or the order of rows says nothing


def test_finished_passes_are_not_run_again(
    monkeypatch: pytest.MonkeyPatch, manifest: Manifest, saved: list[str], tmp_path: Path
) -> None:
    whole, looked = run(manifest, saved, tmp_path), []

    def counting(*arguments: object, **named: object) -> Pass:
        looked.append(1)
        return run_over(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(series, "run_over", counting)
    (tmp_path / "checkpoint-0002.npz").unlink()
    (tmp_path / ".checkpoint-0002.npz.part").write_bytes(b"half")
    again = run(manifest, saved, tmp_path)
    assert len(looked) == 1
    for name, array in whole.history.arrays().items():
        np.testing.assert_array_equal(array, again.history.arrays()[name], err_msg=name)


def test_what_a_finished_checkpoint_had_to_say_is_said_again(
    manifest: Manifest, saved: list[str], tmp_path: Path
) -> None:
    def notes() -> tuple[str, ...]:
        return history_of_series(
            SPEC, saved, manifest, CPU, Progress(), permissions=Permissions(), folder=tmp_path
        ).notes

    first = notes()
    assert any("transform" in note for note in first)  # nobody gave one
    assert notes() == first


def test_a_checkpoint_of_other_classes_is_told_by_its_name(
    manifest: Manifest, saved: list[str], tmp_path: Path
) -> None:
    with device.seeded(0):
        save_file(torchvision_network(ARCHITECTURE, 32).state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ModelError, match="other.safetensors gives 1000 logits and the data has 2 classes"):
        run(manifest, [saved[0], str(tmp_path / "other.safetensors")])


def test_a_missing_checkpoint_is_told_and_what_was_run_stays(
    manifest: Manifest, saved: list[str], tmp_path: Path
) -> None:
    shutil.copy(saved[1], tmp_path / "one.safetensors")
    files = [saved[0], str(tmp_path / "gone.safetensors")]
    with pytest.raises(ModelError, match="gone.safetensors"):
        run(manifest, files, tmp_path)
    assert (tmp_path / "checkpoint-0000.npz").exists()
    assert not (tmp_path / "checkpoint-0001.npz").exists()


def test_logits_that_are_not_finite_are_told(manifest: Manifest) -> None:
    broken = Pass(np.full((20, 2), np.inf, np.float32), np.zeros((20, 3), np.float32), True, "fc", {})
    with pytest.raises(ModelError, match="w.pt gives logits that are not finite. Leave this checkpoint out"):
        series.row_of(broken, manifest, "w.pt")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["w1.pt"], "1 checkpoints is short"),
        (["e/epoch_1.pt", "e/epoch_10.pt", "e/epoch_2.pt"], "epoch_10.pt before epoch_2.pt"),
    ],
)
def test_a_poor_series_is_called_one(files: list[str], message: str) -> None:
    assert [message in note for note in notes_on(files, made_history(epochs=len(files)))] == [True]


@pytest.mark.parametrize("files", [["a1", "a2", "a10"], ["z", "b", "c"], ["10.pt", "9.pt", "8.pt"]])
def test_an_order_that_a_person_chose_is_left_alone(files: list[str]) -> None:
    labels = np.zeros(4, np.int64)
    logits = np.zeros((3, 4, 2))
    logits[1:, :, 0] = 1
    assert notes_on(files, history_of(logits, labels)) == []


def test_a_series_that_unlearns_is_asked_about() -> None:
    logits = np.zeros((3, 4, 2))
    logits[:2, :, 0], logits[2, :, 1] = 1, 1
    (note,) = notes_on(["a", "b", "c"], history_of(logits, np.zeros(4, np.int64)))
    assert note.startswith("The first checkpoint fits 100% of the given labels and the last 0%.")


def test_the_global_generator_is_left_alone(manifest: Manifest, saved: list[str]) -> None:
    before = torch.get_rng_state()
    run(manifest, saved[:1])
    assert torch.equal(torch.get_rng_state(), before)
