"""Other networks in the reference network's place: the same bits after any stop, their own names, a new head."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from core.errors import ModelError, Stopped
from core.models import device
from core.models.architecture import REFERENCE, any_architecture, architecture_of, torchvision_network
from core.models.network import reference_network
from core.models.specs import Permissions, parse_model
from core.models.train import Task, Trained, evaluation_batch, network_after, train
from core.progress import Progress
from tests.unit.test_train import CPU, SETTINGS, made, same_bits, stopping


class Small(nn.Module):
    """What a network of somebody's can hold: normalisation, dropout, a parameter no loss depends on, a nested head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4, momentum=0.01), nn.ReLU(), nn.Flatten(), nn.Dropout(0.5)
        )
        self.unused = nn.Parameter(torch.ones(3))
        self.top = nn.ModuleDict({"head": nn.Linear(36, 7)})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.top["head"](self.body(images))


SMALL = any_architecture("small", Small, 8)


def run_small(task: Task, folder: Path, progress: Progress | None = None) -> Trained:
    folder.mkdir(exist_ok=True)
    return train(task, SETTINGS, CPU, folder, progress or Progress(), SMALL)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    folder = tmp_path_factory.mktemp("small")
    return run_small(made(), folder), folder


@pytest.mark.parametrize("reports", [1, 3, 4])
def test_another_network_stopped_anywhere_gives_the_same_bits(
    reports: int, small: tuple[Trained, Path], tmp_path: Path
) -> None:
    """Dropout too: what it draws depends on the step, not on what was drawn before."""
    with pytest.raises(Stopped):
        run_small(made(), tmp_path, stopping(lambda event: event.done >= 8 * reports))
    torch.rand(5)
    same_bits(run_small(made(), tmp_path), small[0])


def test_dropout_draws_anew_in_every_step_and_leaves_the_generator_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    masks: list[torch.Tensor] = []
    honest = functional.dropout

    def spied(values: torch.Tensor, share: float, training: bool, inplace: bool) -> torch.Tensor:
        dropped = honest(values, share, training, inplace)
        if training:
            masks.append((dropped != 0)[0])
        return dropped

    monkeypatch.setattr(functional, "dropout", spied)
    torch.manual_seed(7)
    before = torch.get_rng_state()
    run_small(made(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert len(masks) == 6
    assert len({tuple(mask.tolist()) for mask in masks}) == 6


def test_the_inputs_of_the_head_are_read_off_the_pass(small: tuple[Trained, Path]) -> None:
    network = small[0].network.eval()
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, inputs = network(images)
        assert torch.equal(network.plain(images), logits)
        assert torch.equal(network.plain.top["head"](inputs), logits)
    assert not network.plain.top["head"]._forward_pre_hooks
    reference = reference_network(2).eval()
    with torch.no_grad():
        assert torch.equal(reference.plain(images), reference(images)[0])


def test_the_weights_of_another_network_are_written_under_its_own_names(small: tuple[Trained, Path]) -> None:
    stored = load_file(small[1] / "weights-0002.safetensors")
    plain = small[0].network.plain.state_dict()
    assert {name.removeprefix("network.") for name in stored} == set(plain)
    again = network_after(small[1], 2, 2, CPU, SMALL)
    assert all(torch.equal(tensor, plain[name]) for name, tensor in again.plain.state_dict().items())
    assert "unused" in plain
    assert torch.equal(plain["unused"], torch.ones(3))


def test_every_epoch_of_another_network_is_recorded(small: tuple[Trained, Path]) -> None:
    history = small[0].history
    assert all(np.isfinite(array).all() for array in history.arrays().values())
    assert history.learning_rate.max() < 0.5 * SETTINGS.learning_rate


def test_a_head_that_knows_its_classes_is_put_off_all_the_same() -> None:
    trained = Small()
    nn.init.constant_(trained.top["head"].weight, 3.0)
    built = any_architecture("small", lambda: trained, 8).build(7)
    assert built.plain is trained
    assert abs(trained.top["head"].weight).max() < 1
    assert trained.body[1].momentum == 0.1


def test_steps_are_cut_to_the_stated_length(tmp_path: Path) -> None:
    short = dataclasses.replace(SMALL, clip=1e-9)
    still = dataclasses.replace(SETTINGS, weight_decay=0.0, epochs=1)
    trained = train(made(), still, CPU, tmp_path, Progress(), short)
    with device.seeded(0):
        first = SMALL.build(2)
    moved = [
        float((a - b).detach().abs().max())
        for a, b in zip(trained.network.parameters(), first.parameters(), strict=True)
    ]
    assert max(moved) < 1e-8


@pytest.mark.parametrize(("side", "expected"), [(28, 512), (64, 512), (128, 128), (224, 41), (512, 8)])
def test_larger_images_are_evaluated_in_smaller_batches(side: int, expected: int) -> None:
    assert evaluation_batch(side) == expected


@pytest.mark.parametrize(
    ("name", "side", "inputs"),
    [("resnet18", 32, 512), ("mobilenet_v3_small", 32, 1024), ("shufflenet_v2_x0_5", 32, 1024), ("vit_b_16", 32, 768),
     ("googlenet", 32, 1024), ("convnext_tiny", 32, 768)],
)  # fmt: skip
def test_torchvision_networks_get_a_new_head(name: str, side: int, inputs: int) -> None:
    network = any_architecture(name, lambda: torchvision_network(name, side), side).build(3).train()
    with torch.no_grad():
        logits, taken = network(torch.randn(2, 3, side, side))
    assert (tuple(logits.shape), tuple(taken.shape)) == ((2, 3), (2, inputs))


@pytest.mark.parametrize(
    ("name", "side", "message"),
    [
        ("resnet81", 32, "no classifier 'resnet81'. Near to it: resnet18"),
        ("alexnet", 32, "takes no images of 32 x 32 pixels .*--image-size.*224"),
        ("vit_b_16", 30, "takes no images of 30 x 30 pixels"),
        ("squeezenet1_1", 32, "None of the 0 linear layers"),
    ],
)
def test_a_network_that_cannot_be_trained_says_why(name: str, side: int, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        any_architecture(name, lambda: torchvision_network(name, side), side).build(3)


def test_the_architecture_of_a_spec() -> None:
    permissions = Permissions()
    assert architecture_of(parse_model("reference"), 32, permissions) is REFERENCE
    made_new = architecture_of(parse_model("train:resnet18"), 32, permissions)
    assert made_new.name == "train:resnet18"
    assert made_new.statistics is None
    with pytest.raises(ModelError, match="not trained here"):
        architecture_of(parse_model("features:f.npz"), 32, permissions)


def test_weights_of_a_spec_are_where_a_training_starts(tmp_path: Path) -> None:
    """All but the head; inputs are normalised as the weights were trained, and the file is not needed afterwards."""
    with device.seeded(3):
        source = torchvision_network("shufflenet_v2_x0_5", 32)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    made_anew = architecture_of(parse_model("train:shufflenet_v2_x0_5"), 32, Permissions())
    spec = parse_model(f"train:shufflenet_v2_x0_5@{tmp_path / 'w.safetensors'}")
    architecture = architecture_of(spec, 32, Permissions(), transform="resize=32,mean=0.5/0.4/0.3,std=0.2/0.2/0.2")
    first, second = architecture.build(3).plain.state_dict(), architecture.build(3).plain.state_dict()
    for name, tensor in source.state_dict().items():
        if not name.startswith("fc."):
            assert torch.equal(first[name], tensor), name
            assert torch.equal(second[name], tensor), name
    assert first["fc.weight"].shape == (3, 1024)
    assert not torch.equal(first["fc.weight"], second["fc.weight"])
    assert architecture.statistics is not None
    assert architecture.statistics[0] == pytest.approx([127.5, 102, 76.5])
    assert architecture.statistics[1] == pytest.approx([51, 51, 51])
    assert architecture.rate < made_anew.rate


def test_weights_without_a_head_serve_as_well(tmp_path: Path) -> None:
    with device.seeded(3):
        source = torchvision_network("shufflenet_v2_x0_5", 32).state_dict()
    save_file(
        {name: tensor for name, tensor in source.items() if not name.startswith("fc.")}, tmp_path / "w.safetensors"
    )
    spec = parse_model(f"train:shufflenet_v2_x0_5@{tmp_path / 'w.safetensors'}")
    stored = architecture_of(spec, 32, Permissions()).build(3).plain.state_dict()
    assert torch.equal(stored["conv1.0.weight"], source["conv1.0.weight"])
    assert stored["fc.weight"].shape == (3, 1024)
