"""A CUDA device gives what the CPU gives: relative differences below 1e-4, from the same weights and images."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn
from torchvision.models import mobilenet_v3_small, resnet18, vit_b_16

from core import sift
from core.data.manifest import Manifest
from core.gradients.all_layers import gradient_norms, gradient_sketches
from core.gradients.last_layer import LastLayerGradients
from core.models.device import choose
from core.models.load import Loaded
from core.models.passes import full_precision, run_over
from core.models.transform import Transform
from core.progress import Progress
from core.scores.forest import GradientForest
from tests.helpers import QUICK, drawn_folder

pytestmark = pytest.mark.gpu

CLOSE = 1e-4
NETWORKS = {
    "resnet18": (lambda: resnet18(num_classes=2), 32),
    "mobilenet": (lambda: mobilenet_v3_small(num_classes=2), 64),
    "vit": (lambda: vit_b_16(num_classes=2, image_size=32), 32),
}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest.read(f"folder:{drawn_folder(tmp_path / 'data', 60)}")


def network_of(name: str) -> tuple[nn.Module, int]:
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    network = make().eval()
    for parameter in network.parameters():
        if not parameter.any():  # a head of zeros, as vision transformers begin with, agrees with everything
            nn.init.normal_(parameter, std=0.02)
    return network, side


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pass_gives_the_same_logits_and_inputs(name: str, manifest: Manifest, device: torch.device) -> None:
    network, side = network_of(name)
    passed = {}
    for kind in ("cpu", device.type):
        loaded = Loaded(copy.deepcopy(network), Transform(side), "digest", 2)
        passed[kind] = run_over(loaded, manifest, choose(kind, "float32"), Progress())
    here, there = passed["cpu"], passed[device.type]
    assert apart(there.logits, here.logits) < CLOSE
    assert apart(there.inputs, here.inputs) < CLOSE
    assert (there.layer, there.bias) == (here.layer, here.bias)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_over_all_parameters_are_the_same(name: str, device: torch.device) -> None:
    network, side = network_of(name)
    chance = torch.Generator().manual_seed(1)
    images, labels = torch.randn(12, 3, side, side, generator=chance), torch.arange(12) % 2
    with full_precision():
        here = gradient_norms(copy.deepcopy(network), [(images, labels)])
        sketch = gradient_sketches(copy.deepcopy(network), [(images, labels)], 512, 3).sketches
        network.to(device)
        there = gradient_norms(network, [(images.to(device), labels.to(device))])
        other = gradient_sketches(network, [(images.to(device), labels.to(device))], 512, 3).sketches
    np.testing.assert_allclose(there.norms, here.norms, rtol=CLOSE)
    assert apart(other, sketch) < CLOSE


def test_factors_norms_and_dot_products_are_the_same(device: torch.device) -> None:
    chance = torch.Generator().manual_seed(2)
    logits, inputs = 4 * torch.randn(500, 10, generator=chance), torch.randn(500, 64, generator=chance).relu()
    labels = torch.arange(500) % 10
    here = LastLayerGradients.from_logits(logits, labels, inputs)
    there = LastLayerGradients.from_logits(logits.to(device), labels.to(device), inputs.to(device))
    assert there.errors.device.type == device.type
    for name in ("l1", "l2", "el2n"):
        torch.testing.assert_close(getattr(there, name)().cpu(), getattr(here, name)(), rtol=CLOSE, atol=0)
    with full_precision():
        assert apart(there.dot(there).cpu().numpy(), here.dot(here).numpy()) < CLOSE
    forest = GradientForest(50).fit(here)
    assert apart(forest.score(there), forest.score(here)) < CLOSE


def test_a_whole_run_ranks_like_the_cpu(manifest: Manifest, device: torch.device) -> None:
    """Trainings differ in the last bits and then in more; what they rank does not turn around."""
    settings = replace(QUICK, epochs=12)
    here = sift(manifest, settings=settings)
    there = sift(manifest, settings=replace(settings, device=device.type))
    assert there.run["device"] != here.run["device"]
    assert there.run["precision"] == "float32"
    assert there.samples.index.equals(here.samples.index)
    assert np.isfinite(there.samples["suspicion"]).all()
    assert spearmanr(there.samples["suspicion"], here.samples["suspicion"]).statistic > 0.5


def test_one_device_gives_the_same_twice(manifest: Manifest, device: torch.device) -> None:
    settings = replace(QUICK, device=device.type)
    one, two = (sift(manifest, settings=settings).samples["suspicion"] for _ in range(2))
    assert spearmanr(one, two).statistic > 0.9


def test_the_short_type_and_the_switches_are_left_as_found(manifest: Manifest, device: torch.device) -> None:
    network, side = network_of("resnet18")
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    run_over(Loaded(network, Transform(side), "digest", 2), manifest, choose(device.type, "float32"), Progress())
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
