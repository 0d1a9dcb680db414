"""Which network a training trains: the reference network, or any torchvision network in its place.

What a training needs is a network with two outputs, logits and the last layer's inputs (`Network`), and how to make it
anew (`Architecture`). `any_architecture` brings any network with a linear head to that form; `architecture_of` reads a
spec.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.axes import Array, Float
from core.errors import ModelError
from core.models.device import seeded
from core.models.head import find_head
from core.models.load import load
from core.models.network import Network, reference_network
from core.models.specs import ModelSpec, Permissions
from core.models.zoo import classifier_of
from core.progress import Progress

# Digits with 10 % planted errors, 540 training rows, 32 pixels, 12 epochs, one seed; average precision of
# `weighted_aum`, gradients cut / not cut, at this share, a fifth of it and a twenty-fifth. ResNet-18: .987 / .916,
# .996 / .988, .638 / .986. MobileNetV3-small: .920 / .986, .743 / .880, .269 / .484. Starting from pretrained weights
# was not measured.
SCRATCH_RATE = 0.5  # share of the setting's peak for a network without weights
TUNED_RATE = 0.1  # and for one that starts from somebody's
CLIP = 1.0  # length to which a step's gradient is cut: networks without normalisation train too
QUICK = 0.1  # torch's default momentum of batch statistics

# What torchvision must be told when it makes a network: no heads beside the last one, and to draw first weights.
_MADE_WITH: Mapping[str, Mapping[str, Any]] = MappingProxyType({
    "googlenet": {"aux_logits": False, "init_weights": True},
    "inception_v3": {"aux_logits": False, "init_weights": True},
})  # fmt: skip


class Tapped(Network):
    """Any network with a linear head, its head's inputs read off the forward pass by a hook.

    The hook is there during that pass only: whoever runs `plain` by itself meets no trace of it.
    """

    def __init__(self, network: nn.Module, head: str) -> None:
        super().__init__()
        self.network, self.path = network, head

    def forward(self, images: Tensor) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n d"]]:
        """Return logits and the head's inputs, both in float32, for normalised images `n x 3 x side x side`."""
        taken: list[Tensor] = []
        head = self.network.get_submodule(self.path)
        hook = head.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        try:
            logits = self.network(images)
        finally:
            hook.remove()
        return logits.float(), taken[-1].float()

    @property
    def plain(self) -> nn.Module:
        """The network as it was handed over, but for its head."""
        return self.network

    @property
    def stored(self) -> nn.Module:
        """The same: its weights are written as torchvision names them."""
        return self.network


@dataclass(frozen=True)
class Architecture:
    """Which network a training trains, and where its recipe differs from the reference network's.

    Attributes:
        build: class count to a new network, its first weights drawn from torch's current generator.
        rate: the peak learning rate, as a share of the setting's.
        clip: length to which a step's gradient is cut, None to leave it.
        statistics: mean and standard deviation per channel, in 0..255, that the weights were trained with; None: the
            training images' own.
    """

    name: str
    build: Callable[[int], Network]
    rate: float = 1.0
    clip: float | None = None
    statistics: tuple[Array, Array] | None = None


REFERENCE = Architecture("reference", reference_network)


def torchvision_network(name: str, side: int) -> nn.Module:
    """Return a new torchvision classifier for images of `side` pixels, without weights of anyone's.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        near = ", ".join(difflib.get_close_matches(name, known, 3)) or f"{known[0]} … {known[-1]}"
        raise ModelError(f"torchvision has no classifier {name!r}. Near to it: {near}.")
    patches = {"image_size": side} if name.startswith("vit_") else {}  # a transformer's positions are made for one size
    network: nn.Module = models.get_model(name, weights=None, **{**_MADE_WITH.get(name, {}), **patches})
    return network


def any_architecture(
    name: str,
    make: Callable[[], nn.Module],
    side: int,
    *,
    rate: float = SCRATCH_RATE,
    statistics: tuple[Array, Array] | None = None,
    layer: str | None = None,
) -> Architecture:
    """Return how to train the network that `make` gives, with a new head, at images of `side` pixels.

    Args:
        name: what messages and records call it.
        make: gives the network, with any head; its weights are where the training starts from.
        side: pixels.
        rate: as in `Architecture`.
        statistics: as in `Architecture`.
        layer: name of the head, where it cannot be found.
    """

    def build(classes: int) -> Network:
        return tapped(name, make, classes, side, layer)

    return Architecture(name, build, rate, CLIP, statistics)


def architecture_of(
    spec: ModelSpec,
    side: int,
    permissions: Permissions,
    *,
    transform: str | None = None,
    layer: str | None = None,
    progress: Progress | None = None,
) -> Architecture:
    """Return how to train what a spec names: `reference`, or `train:ARCH` and `train:ARCH@WEIGHTS`.

    Args:
        spec: the spec; WEIGHTS are the first weights of all but the head.
        side: pixels of the images.
        permissions: whether weights may be fetched, and where they may lie.
        transform: the text form of one; of it, and of the weights' own, only mean and deviation are used.
        layer: name of the head, where it cannot be found.
        progress: is told before anything is fetched.

    Raises:
        ModelError: the weights cannot be loaded, or the spec is of another kind.
    """
    if spec.kind == REFERENCE.name:
        return REFERENCE
    if spec.kind != "train":
        raise ModelError(f"{spec} is not trained here. What is: reference, train:ARCH and train:ARCH@WEIGHTS.")
    if spec.weights is None:
        return any_architecture(str(spec), lambda: torchvision_network(spec.name, side), side, layer=layer)
    with seeded(0):  # making a network draws first weights; the global generator stays as it was
        loaded = load(replace(spec, kind="torchvision"), (), transform, permissions, side, progress=progress)
        if loaded.classes is None:  # the weights have no head: put one in its place, which the new one replaces
            path = classifier_of(fresh := torchvision_network(spec.name, side)) or ""
            loaded.network.set_submodule(path, fresh.get_submodule(path))
    mean, deviation = (255.0 * np.asarray(value) for value in (loaded.transform.mean, loaded.transform.std))
    make = partial(copy.deepcopy, loaded.network)  # a network is made more than once, each with the first weights
    return any_architecture(str(spec), make, side, rate=TUNED_RATE, statistics=(mean, deviation), layer=layer)


def tapped(name: str, make: Callable[[], nn.Module], classes: int, side: int, layer: str | None = None) -> Tapped:
    """Put a new head on a network, also where the old one has as many classes, and read its inputs off.

    A head that knows its classes already would say in the first epoch what a record is there to watch being learned.

    Raises:
        ModelError: the network takes no images of this side, or has no linear head.
    """
    example = torch.zeros(2, 3, side, side)
    try:
        network = _with_quick_statistics(_without_side_heads(make())).requires_grad_(True)
        old = find_head(network, example, layer)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            f"{name} takes no images of {side} x {side} pixels ({' '.join(str(error).split())[:200]}). "
            "Set another image side (`--image-size`), for most networks 224."
        ) from error
    path = next(path for path, module in network.named_modules() if module is old)
    network.set_submodule(path, nn.Linear(old.in_features, classes))
    return Tapped(network, path).to(memory_format=torch.channels_last)


def _with_quick_statistics(network: nn.Module) -> nn.Module:
    """Let every batch normalisation follow its batches at torch's default pace.

    Some networks are made for a million images an epoch and average over a hundred batches; a few hundred steps in,
    what they say in evaluation mode would still be chance, and so would the record of the held-out rows.
    """
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.momentum is not None:
            module.momentum = max(module.momentum, QUICK)
    return network


def _without_side_heads(network: nn.Module) -> nn.Module:
    """Take off the heads that two torchvision networks train beside their last one."""
    for name, nothing in (("aux_logits", False), ("aux1", None), ("aux2", None), ("AuxLogits", None)):
        if hasattr(network, name):
            setattr(network, name, nothing)
    return network
