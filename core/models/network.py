"""The reference network: small, residual, batch-normalised, at home at 28 to 64 pixels, about 0.49 M parameters.

It exists to read label evidence off its own training, not to win a benchmark: 10,000 CIFAR images x 20 epochs take
about 80 seconds on two cores. The last layer is linear, so its gradient is `errors x inputs` (see
`core.gradients.last_layer`). Other networks are trained in its place by `core.models.architecture`.
"""

from __future__ import annotations

from abc import abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.axes import Float

STEM = 16
WIDTHS = (48, 96, 144)


class Network(nn.Module):
    """A network whose forward pass returns logits and the last layer's inputs, both in float32."""

    @property
    @abstractmethod
    def plain(self) -> nn.Module:
        """The same network, weights shared, as one that returns logits alone."""

    @property
    def stored(self) -> nn.Module:
        """The module whose weights are written down, under their own names."""
        return self


class Block(nn.Module):
    """Two 3 x 3 convolutions that halve the resolution, and a 1 x 1 shortcut around them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output at half the resolution."""
        inner = functional.relu(self.norm1(self.conv1(x)))
        out: Tensor = functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))
        return out


class ReferenceNetwork(Network):
    """`features` ends in the input of the last layer, `head` is that layer."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        stem = [nn.Conv2d(3, STEM, 3, padding=1, bias=False), nn.BatchNorm2d(STEM), nn.ReLU()]
        widths = (STEM, *WIDTHS)
        blocks = [Block(a, b) for a, b in pairwise(widths)]
        self.features = nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(WIDTHS[-1], classes)

    def forward(self, images: Tensor) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n d"]]:
        """Return logits and the head's inputs, both in float32, for normalised images `n x 3 x side x side`."""
        inputs = self.features(images)
        logits = self.head(inputs)
        return logits.float(), inputs.float()

    @property
    def plain(self) -> nn.Sequential:
        """The same network, weights shared, as one that returns logits alone."""
        return nn.Sequential(self.features, self.head)


def reference_network(classes: int) -> ReferenceNetwork:
    """Return a new network, its weights drawn from torch's current generator, laid out for fast convolutions."""
    return ReferenceNetwork(classes).to(memory_format=torch.channels_last)
