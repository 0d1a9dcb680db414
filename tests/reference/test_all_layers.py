"""Norms and sketches over all parameters against `torch.func.vmap(grad)`, in float64: layers and whole networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision.models as zoo
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.resnet import Bottleneck
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

from core.gradients.all_layers import gradient_norms, gradient_sketches
from core.gradients.layer_rules import _by_patches, _ghost, _ghost_is_cheaper, _one_by_one, _window

SLOW = "There is a performance drop"  # torch.func's own word on operations that it maps one sample at a time


def slow_gradients(network, images, labels):
    """The whole matrix of gradients, "n parameters": a copy of every parameter per sample."""
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def loss(chosen, image, label):
        return F.cross_entropy(functional_call(network, chosen, (image[None],)), label[None])

    with sdpa_kernel(SDPBackend.MATH):
        found = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)
    return torch.cat([found[name].flatten(1) for name in parameters], 1).numpy()


class Through(nn.Module):
    """Some layers, whatever comes out of them averaged over all positions, and a head."""

    def __init__(self, *layers):
        super().__init__()
        self.layers, self.head = nn.Sequential(*layers), nn.LazyLinear(3)

    def forward(self, x):
        return self.head(self.layers(x).flatten(2).tanh().mean(2))


class Tokens(nn.Module):
    """Positions, a class token and attention over the pixels of an image."""

    def __init__(self, attention=None, cross=False):
        super().__init__()
        self.embed, self.cross = nn.Conv2d(2, 8, 2, 2), cross
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, 8)), nn.Parameter(torch.randn(1, 17, 8))
        self.attention, self.head = attention or nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        x = self.embed(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        if isinstance(self.attention, nn.MultiheadAttention):
            query = x.flip(1) * 2 if self.cross else x
            x = x + self.attention(query, x, x.sin() if self.cross else x, need_weights=False)[0]
        else:
            x = self.attention(x)
        return self.head(x[:, 0])


class SequenceFirst(nn.Module):
    """A transformer whose second axis holds the samples: the rules cannot know, the check finds it."""

    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.layer(x.flatten(2)[:, :, :12].reshape(len(x), -1, 6).transpose(0, 1)).mean(0))


class Shared(nn.Module):
    """A convolution used twice, and a matrix that is a layer's weight here and a table of vectors there."""

    def __init__(self):
        super().__init__()
        self.conv, self.down = nn.Conv2d(2, 2, 3, padding=1), nn.Linear(2, 5)
        self.table, self.head = nn.Embedding(5, 2), nn.Linear(2, 3)
        self.table.weight = self.down.weight

    def forward(self, x):
        x = self.conv(self.conv(x).tanh()).mean((2, 3))
        return self.head(self.table(self.down(x).argmax(1)) + x) + self.down(x)[:, :3]


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(6, 4, padding_idx=2), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.table((x.flatten(1)[:, :20] * 3).long().abs() % 6).tanh().mean(1))


class Standardised(nn.Conv2d):
    """A convolution whose weight is worked out from the parameter."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt(), self.bias, padding=1)


class Scaled(nn.Linear):
    """A linear layer that does something else with its weight than its kind says."""

    def forward(self, x):
        return x @ self.weight.mT + super().forward(x)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.GRU(8, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.rnn(x[:, 0])[0][:, -1])


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.idle, self.head = nn.Linear(3, 3), nn.Linear(2, 3)

    def forward(self, x):
        return self.head(x.mean((2, 3)))


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x):
        x = self.conv(x).add_(1).relu_()
        return self.head((self.norm(x).mul_(2).add_(x).relu_()).mean((2, 3)))


LAYERS = {
    "linear": lambda: Through(nn.Flatten(2), nn.Linear(64, 5)),
    "linear at many positions": lambda: Through(nn.Linear(8, 2, bias=False)),
    "convolution": lambda: Through(nn.Conv2d(2, 4, 3, padding=1)),
    "strided": lambda: Through(nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(4, 6, 3, 3, bias=False)),
    "dilated": lambda: Through(nn.Conv2d(2, 4, 3, dilation=2, padding=2)),
    "grouped": lambda: Through(nn.Conv2d(2, 8, 3), nn.Tanh(), nn.Conv2d(8, 12, 3, groups=4)),
    "depthwise": lambda: Through(nn.Conv2d(2, 4, 5, groups=2, padding=2)),
    "one by one": lambda: Through(nn.Conv2d(2, 4, 1, stride=3)),
    "uneven": lambda: Through(nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(2, 0), dilation=(2, 1))),
    "padding same": lambda: Through(nn.Conv2d(2, 4, (4, 3), padding="same")),
    "padding valid": lambda: Through(nn.Conv2d(2, 4, 3, padding="valid")),
    "padding reflected": lambda: Through(nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect")),
    "one position": lambda: Through(nn.AdaptiveAvgPool2d(1), nn.Conv2d(2, 40, 3, padding=1)),
    "convolution 1d": lambda: Through(nn.Flatten(2), nn.Conv1d(2, 4, 5, stride=2, padding=2)),
    "convolution 3d": lambda: Through(nn.Unflatten(1, (2, 1)), nn.Conv3d(2, 4, (1, 3, 3), padding=(0, 1, 1))),
    "batch norm": lambda: Through(nn.BatchNorm2d(2)),
    "group norm": lambda: Through(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)),
    "instance norm": lambda: Through(nn.InstanceNorm2d(2, affine=True)),
    "layer norm": lambda: Through(nn.LayerNorm((8, 8))),
    "rms norm": lambda: Through(nn.RMSNorm(8)),
    "prelu": lambda: Through(nn.PReLU(), nn.PReLU(2)),
    "embedding": Words,
    "attention": Tokens,
    "attention with other keys": lambda: Tokens(cross=True),
    "attention, sequence first": lambda: Tokens(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
    "transformer encoder": lambda: Tokens(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    ),
    "shared": Shared,
    "standardised weight": lambda: Through(Standardised(2, 4, 3)),
    "weight norm": lambda: Through(nn.utils.parametrizations.weight_norm(nn.Conv2d(2, 4, 3))),
    "unused": Unused,
    "in place": InPlace,
}
FALLING_BACK = {
    "samples on the second axis": (SequenceFirst, "by_func"),
    "layer of its own kind": (lambda: Through(Scaled(8, 8)), "by_func"),
    "recurrent": (Recurrent, None),
    "transposed": (lambda: Through(nn.ConvTranspose2d(2, 3, 3)), "by_func"),
    "bilinear": (lambda: Through(nn.Flatten(2), Squared(64, 4)), "by_func"),
}
SWIN = {"patch_size": [2, 2], "embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "window_size": [2, 2]}
STAGES = [CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 1)]
NETWORKS = {
    "resnet18": (lambda: zoo.resnet18(num_classes=3), 32),
    "resnext": (lambda: zoo.ResNet(Bottleneck, [1, 1, 1, 1], 3, groups=4, width_per_group=4), 32),
    "densenet": (lambda: zoo.DenseNet(4, (2, 2), 8, num_classes=3), 32),
    "mobilenet_v3_small": (lambda: zoo.mobilenet_v3_small(num_classes=3), 32),
    "shufflenet_v2_x0_5": (lambda: zoo.shufflenet_v2_x0_5(num_classes=3), 32),
    "convnext": (lambda: zoo.ConvNeXt(STAGES, num_classes=3), 16),
    "swin": (lambda: zoo.SwinTransformer(**SWIN, num_classes=3), 16),
    "swin_v2": (
        lambda: zoo.SwinTransformer(
            **SWIN, num_classes=3, block=SwinTransformerBlockV2, downsample_layer=PatchMergingV2
        ),
        16,
    ),
    "vit": (lambda: zoo.VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=3), 16),
}


class Squared(nn.Module):
    def __init__(self, d, m):
        super().__init__()
        self.bilinear = nn.Bilinear(d, d, m)

    def forward(self, x):
        return self.bilinear(x, x)


def made(build, side=8, n=7, channels=2):
    torch.manual_seed(3)
    network = build().double()
    images, labels = torch.randn(n, channels, side, side, dtype=torch.float64), torch.arange(n) % 3
    network(images)
    for module in network.modules():  # running statistics and scales that are not those of the start
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1), module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight), nn.init.uniform_(module.bias)
    return network.eval(), images, labels


def split(images, labels, size=4):
    return zip(images.split(size), labels.split(size), strict=True)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_norms_of_every_layer_agree_and_by_its_rule(name):
    network, images, labels = made(LAYERS[name])
    result = gradient_norms(network, split(images, labels))
    expected = np.linalg.norm(slow_gradients(network, images, labels), axis=1)
    np.testing.assert_allclose(result.norms, expected, rtol=1e-9)
    assert result.coverage.notes == ()


@pytest.mark.filterwarnings("ignore:RNN module weights", f"ignore:{SLOW}")
@pytest.mark.parametrize("name", FALLING_BACK)
def test_what_no_rule_covers_is_as_exact_and_said(name):
    build, way = FALLING_BACK[name]
    network, images, labels = made(build)
    result = gradient_norms(network, split(images, labels))
    plain = []
    for image, label in zip(images, labels, strict=True):
        network.zero_grad()
        F.cross_entropy(network(image[None]), label[None]).backward()
        plain.append(torch.cat([value.grad.flatten() for value in network.parameters()]).norm().item())
    np.testing.assert_allclose(result.norms, plain, rtol=1e-9)
    assert result.coverage.notes
    if way:
        assert getattr(result.coverage, way)


@pytest.mark.filterwarnings(f"ignore:{SLOW}")
@pytest.mark.parametrize("name", NETWORKS)
def test_norms_of_whole_networks_agree_by_rules_alone(name):
    network, images, labels = made(*NETWORKS[name], 4, 3)
    result = gradient_norms(network, split(images, labels))
    expected = np.linalg.norm(slow_gradients(network, images, labels), axis=1)
    np.testing.assert_allclose(result.norms, expected, rtol=1e-9)
    assert result.coverage.notes == ()


def test_float32_is_as_good_as_its_digits():
    network, images, labels = made(lambda: zoo.resnet18(num_classes=3), 32, 8, 3)
    exact = np.linalg.norm(slow_gradients(network, images, labels), axis=1)
    got = gradient_norms(network.float(), split(images.float(), labels)).norms
    np.testing.assert_allclose(got, exact, rtol=2e-5)


CONVOLUTIONS = [
    {"kernel": (3, 3), "padding": 1},
    {"kernel": (3, 3), "stride": 2, "padding": 1},
    {"kernel": (2, 3), "stride": (2, 1), "padding": (0, 2), "dilation": (3, 1)},
    {"kernel": (5, 5), "padding": 7, "dilation": 3},
    {"kernel": (3, 3), "groups": 2, "padding": 1},
    {"kernel": (1, 1), "stride": 2},
    {"kernel": (3, 3), "padding": "same"},
]


@pytest.mark.parametrize("case", CONVOLUTIONS)
@pytest.mark.parametrize("side", [1, 4, 9])
def test_the_forms_of_a_convolution_agree(case, side):
    """One image after another, patches, and Gram matrices: whichever a layer's size or the device makes it take."""
    options = {name: value for name, value in case.items() if name != "kernel"}
    torch.manual_seed(0)
    weight = torch.randn(6, 4 // case.get("groups", 1), *case["kernel"], dtype=torch.float64)
    x = torch.randn(3, 4, side, side, dtype=torch.float64)
    try:
        g = torch.randn_like(F.conv2d(x, weight, **options))
    except RuntimeError:
        pytest.skip("the kernel does not fit into the image")
    x, window = _window({"weight": weight, **options}, x)
    each = _one_by_one(x, g, window)
    torch.testing.assert_close(_by_patches(x, g, window), each)
    torch.testing.assert_close(_ghost(x, g, window), each.flatten(1).square().sum(1))
    assert isinstance(_ghost_is_cheaper(window, side**2, g[0, 0].numel()), bool)


def test_sketches_estimate_inner_products_without_bias():
    network, images, labels = made(lambda: Through(nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4)))
    matrix = slow_gradients(network, images, labels)
    exact = matrix @ matrix.T
    found = [gradient_sketches(network, [(images, labels)], 16, seed).sketches.astype(float) for seed in range(150)]
    products = np.stack([sketch @ sketch.T for sketch in found])
    error = products.std(0) / np.sqrt(len(found))
    assert (np.abs(products.mean(0) - exact) < 4.5 * error + 1e-9).all()
    scale = np.sqrt(np.outer(exact.diagonal(), exact.diagonal()))
    assert (products.std(0) < 1.6 * scale / np.sqrt(16)).all()


def test_wide_sketches_keep_distances():
    network, images, labels = made(LAYERS["shared"], n=20)
    matrix = slow_gradients(network, images, labels)
    sketch = gradient_sketches(network, split(images, labels, 6), 512, 0).sketches
    np.testing.assert_allclose(np.linalg.norm(sketch, axis=1), np.linalg.norm(matrix, axis=1), rtol=0.2)
