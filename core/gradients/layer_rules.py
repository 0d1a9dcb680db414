"""How each kind of layer gives its per-sample gradients from what went in and the gradient of what came out.

`RULES` is the table: an operation of torch, the names of its arguments, which of them may be parameters, and the
function that makes one `Given` per parameter (`per_sample.py`), which computes nothing until asked. For a layer with
inputs a_t and output gradients g_t at T positions the gradient is G = sum_t g_t a_tᵀ, and there are two exact ways to
its squared norm:

- *ghost*: `|G|² = sum_tt' (a_t . a_t') (g_t . g_t')`, of two small Gram matrices, where T is small;
- *explicit*: form G sample by sample, where T is large.

A convolution's a_t are overlapping patches; their Gram matrix is the sum over kernel offsets of shifted pieces of the
Gram matrix of the plain pixels, so no patch is ever copied and the kernel's size costs additions, not products.
Source: Goodfellow, arXiv 1510.01799 (linear); Rochette et al., arXiv 1912.06015, and Bu et al., arXiv 2205.10683
(convolution, choice by cost).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from core.gradients.per_sample import Given

Call: TypeAlias = Mapping[str, Any]

_ADDING = 32  # what adding one shifted number costs, in products of a matrix product (measured, one core)
_WRITING = 100  # the same for one number of an explicit gradient of a convolution


@dataclass(frozen=True)
class Rule:
    """An operation's `arguments` in order (the data first), its `parameters`, and their gradients."""

    arguments: tuple[str, ...]
    parameters: tuple[str, ...]
    gradients: Callable[[Call, Tensor, Tensor], dict[str, Given]]  # call, given "n r ...", back "n r ..."
    covers: Callable[[Call], bool] = lambda call: True  # whether this call is one of those that the rule describes


def gram_product(a: Tensor, b: Tensor) -> Tensor:
    """Return `sum_tt' (a_t . a_t') (b_t . b_t')`, "n", of `a "n t _"` and `b "n t _"`: the ghost form."""
    if a.shape[1] == 1:
        return a.square().sum((1, 2)) * b.square().sum((1, 2))
    return _dot(a @ a.mT, b @ b.mT)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    product: Tensor = torch.linalg.vecdot(a.flatten(1), b.flatten(1))
    return product


# --- linear, embedding ------------------------------------------------------------------------------------------------


def linear(call: Call, given: Tensor, back: Tensor) -> dict[str, Given]:
    """`y = x Wᵀ + b` at any number of positions per sample."""
    a, g = given.flatten(1, -2), back.flatten(1, -2)
    t, d, m = a.shape[1], a.shape[2], g.shape[2]
    ghost = t * (d + m) <= d * m
    weight = Given(a, g, d * m, lambda a, g: g.mT @ a, gram_product if ghost else None, 2 * t * t)
    return {"weight": weight, "bias": _summed(g, 1)}


def embedding(call: Call, given: Tensor, back: Tensor) -> dict[str, Given]:
    """Rows looked up in a table; two positions have a dot product where they looked up the same row."""
    index, g = given.flatten(1), back.flatten(1, -2)
    if call.get("padding_idx") is not None:
        g = g * (index != call["padding_idx"])[..., None]
    rows, d = call["weight"].shape

    def each(index: Tensor, g: Tensor) -> Tensor:
        return g.new_zeros(len(g), rows, d).scatter_add_(1, index[..., None].expand_as(g), g)

    def squares(index: Tensor, g: Tensor) -> Tensor:
        return ((index[:, :, None] == index[:, None]) * (g @ g.mT)).sum((1, 2))

    return {"weight": Given(index, g, rows * d, each, squares, 2 * g.shape[1] ** 2)}


def _plain_embedding(call: Call) -> bool:
    return call.get("max_norm") is None and not call.get("scale_grad_by_freq") and not call.get("sparse")


# --- scale and shift after a normalisation ----------------------------------------------------------------------------


def normalised(operation: Callable[..., Tensor], last: bool) -> Callable[[Call, Tensor, Tensor], dict[str, Given]]:
    """A rule for `y = x̂ w + b`: x̂ is the operation without its parameters, made again from what went in.

    `last`: the parameters lie along the last axes (layer norm); else along the channels, the axis after the samples.
    """

    def rule(call: Call, given: Tensor, back: Tensor) -> dict[str, Given]:
        plain = {name: value for name, value in call.items() if name not in ("input", "weight", "bias")}
        shape = call["weight"].shape if call.get("weight") is not None else call["bias"].shape

        def weight(x: Tensor, g: Tensor) -> Tensor:
            return bias(x, operation(x.flatten(0, 1), **plain).view_as(g) * g)

        def bias(_: Tensor, g: Tensor) -> Tensor:
            if last:
                return g.reshape(len(g), -1, *shape).sum(1)
            return g.flatten(3).sum((1, 3)) if g.ndim > 3 else g.sum(1)

        size = max(1, back[0].numel())
        return {"weight": Given(given, back, size, weight), "bias": Given(back, back, size, bias)}

    return rule


def _not_over_the_batch(call: Call) -> bool:
    return not call.get("training", False)


def prelu(call: Call, given: Tensor, back: Tensor) -> dict[str, Given]:
    """`y = x` where positive, `w x` elsewhere; one w, or one per channel."""
    shared = call["weight"].numel() == 1

    def each(x: Tensor, g: Tensor) -> Tensor:
        at = (x.clamp(max=0) * g).flatten(2)
        at = at.sum((1, 2)) if shared else at.view(len(x), x.shape[1], x.shape[2], -1).sum((1, 3))
        return at.reshape(len(x), *call["weight"].shape)

    return {"weight": Given(given, back, max(1, back[0].numel()), each)}


# --- convolution ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Window:
    """A convolution's geometry, an entry per axis of the image; the padding is the same on both sides."""

    weight: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's sides."""
        return tuple(self.weight.shape[2:])

    def pieces(self, size: tuple[int, ...], out: tuple[int, ...]) -> Iterator[tuple[list[slice], list[slice]]]:
        """For each kernel offset: the outputs that it reaches without leaving the image, and the pixels they read."""
        axes = zip(self.kernel, self.stride, self.padding, self.dilation, size, out, strict=True)
        for pairs in product(*(list(_reached(*axis)) for axis in axes)):
            yield [outputs for outputs, _ in pairs], [pixels for _, pixels in pairs]


def _reached(kernel: int, stride: int, pad: int, dilation: int, size: int, out: int) -> Iterator[tuple[slice, slice]]:
    for first in range(-pad, dilation * kernel - pad, dilation):  # the pixel that the first output reads
        low, high = max(0, -(first // stride)), min(out - 1, (size - 1 - first) // stride)
        if low <= high:
            yield slice(low, high + 1), slice(first + stride * low, first + stride * high + 1, stride)


def convolution(call: Call, given: Tensor, back: Tensor) -> dict[str, Given]:
    """Grouped, strided, dilated and padded convolution in one to three dimensions."""
    repeats, x, g = given.shape[1], given.flatten(0, 1), back.flatten(0, 1)
    x, window = _window(call, x)
    n, size, shape = len(back), window.weight.numel(), window.weight.shape

    def each(x: Tensor, g: Tensor) -> Tensor:
        form = _one_by_one if x.device.type == "cpu" and math.prod(window.kernel) > 1 else _by_patches
        return form(x.flatten(0, 1), g.flatten(0, 1), window).view(len(x), repeats, *shape).sum(1)

    def squares(x: Tensor, g: Tensor) -> Tensor:
        return _ghost(x.flatten(0, 1), g.flatten(0, 1), window)

    pixels, outputs = math.prod(x.shape[2:]), math.prod(g.shape[2:])
    ghost = repeats == 1 and _ghost_is_cheaper(window, pixels, outputs)
    x, g = x.view(n, repeats, *x.shape[1:]), g.view(n, repeats, *g.shape[1:])
    width = window.groups * (pixels**2 + 2 * outputs**2)
    return {"weight": Given(x, g, size, each, squares if ghost else None, width), "bias": _summed(g, 2)}


def _window(call: Call, x: Tensor) -> tuple[Tensor, Window]:
    """Return the image and the geometry, with uneven padding and the pixels that no output reads worked out."""
    weight, axes = call["weight"], call["weight"].ndim - 2
    stride, dilation = (_tuple(call.get(name, 1), axes) for name in ("stride", "dilation"))
    padding = call.get("padding", 0)
    if padding == "same":
        totals = [step * (side - 1) for step, side in zip(dilation, weight.shape[2:], strict=True)]
        x = F.pad(x, [end for total in reversed(totals) for end in (total // 2, total - total // 2)])
    padding = _tuple(0 if isinstance(padding, str) else padding, axes)
    if math.prod(weight.shape[2:]) == 1 and not any(padding):
        read: Any = (..., *(slice(None, None, step) for step in stride))
        x, stride = x[read], (1,) * axes
    return x, Window(weight, stride, padding, dilation, int(call.get("groups", 1)))


def _tuple(value: Any, axes: int) -> tuple[int, ...]:
    values = (int(value),) if isinstance(value, int) else tuple(int(part) for part in value)
    return values * axes if len(values) == 1 else values


def _ghost_is_cheaper(window: Window, pixels: int, outputs: int) -> bool:
    m, c = window.weight.shape[:2]
    k = c * math.prod(window.kernel)
    ghost = window.groups * (pixels**2 * c + outputs**2 * (m // window.groups + _ADDING * math.prod(window.kernel)))
    return ghost < m * k * (outputs + _WRITING)


def _ghost(x: Tensor, g: Tensor, window: Window) -> Tensor:
    """`sum_tt' (a_t . a_t') (g_t . g_t')`, "n": patches a_t by shifted pieces of the pixels' Gram matrix."""
    size, out = tuple(x.shape[2:]), tuple(g.shape[2:])
    a, b = (part.reshape(len(x), window.groups, part.shape[1] // window.groups, -1) for part in (x, g))
    if math.prod(size) == math.prod(out) == 1:
        reads = len(list(window.pieces(size, out)))
        return (a.square().sum((2, 3)) * b.square().sum((2, 3))).sum(1) * reads
    pixels = (a.mT @ a).view(len(x), window.groups, *size, *size)
    patches = pixels.new_zeros(len(x), window.groups, *out, *out)
    for outputs, read in window.pieces(size, out):
        there: Any = (..., *outputs, *outputs)
        here: Any = (..., *read, *read)
        patches[there] += pixels[here]
    return _dot(patches, b.mT @ b)


def _one_by_one(x: Tensor, g: Tensor, window: Window) -> Tensor:
    """Explicit gradients, "n m c *kernel", by torch's own weight gradient of one image after another."""
    fixed = (None, window.stride, window.padding, window.dilation, False, [0] * len(window.stride), window.groups)
    backward, wanted = torch.ops.aten.convolution_backward, [False, True, False]
    return torch.stack([backward(g[i : i + 1], x[i : i + 1], window.weight, *fixed, wanted)[1] for i in range(len(x))])


def _by_patches(x: Tensor, g: Tensor, window: Window) -> Tensor:
    """The same by copied patches and one batched product, for devices on which many small calls are slow."""
    n, out = len(x), tuple(g.shape[2:])
    x = F.pad(x, [side for pad in reversed(window.padding) for side in (pad, pad)]).contiguous()
    inner = tuple(step * stride for step, stride in zip(x.stride()[2:], window.dilation, strict=True))
    outer = tuple(step * stride for step, stride in zip(x.stride()[2:], window.stride, strict=True))
    patches = x.as_strided((n, x.shape[1], *window.kernel, *out), (*x.stride()[:2], *inner, *outer))
    rows = patches.reshape(n, window.groups, -1, math.prod(out))
    return (g.reshape(n, window.groups, -1, math.prod(out)) @ rows.mT).reshape(n, *window.weight.shape)


def _summed(g: Tensor, axis: int) -> Given:
    """A shift: its gradient is the sum over every axis but the samples and `axis` (counted after positions merge)."""

    def each(_: Tensor, g: Tensor) -> Tensor:
        return g.sum(1) if axis == 1 else g.flatten(3).sum((1, 3))

    return Given(g, g, max(1, g[0].numel()), each)


_CONVOLUTION = Rule(
    ("input", "weight", "bias", "stride", "padding", "dilation", "groups"), ("weight", "bias"), convolution
)
_AFFINE = ("weight", "bias")
RULES: Mapping[Callable[..., Any], Rule] = {
    F.linear: Rule(("input", "weight", "bias"), _AFFINE, linear),
    F.conv1d: _CONVOLUTION,
    F.conv2d: _CONVOLUTION,
    F.conv3d: _CONVOLUTION,
    F.batch_norm: Rule(
        ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
        _AFFINE,
        normalised(F.batch_norm, last=False),
        _not_over_the_batch,
    ),
    F.instance_norm: Rule(
        ("input", "running_mean", "running_var", "weight", "bias", "use_input_stats", "momentum", "eps"),
        _AFFINE,
        normalised(F.instance_norm, last=False),
    ),
    F.group_norm: Rule(("input", "num_groups", "weight", "bias", "eps"), _AFFINE, normalised(F.group_norm, last=False)),
    F.layer_norm: Rule(
        ("input", "normalized_shape", "weight", "bias", "eps"), _AFFINE, normalised(F.layer_norm, last=True)
    ),
    F.rms_norm: Rule(("input", "normalized_shape", "weight", "eps"), ("weight",), normalised(F.rms_norm, last=True)),
    F.embedding: Rule(
        ("input", "weight", "padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
        ("weight",),
        embedding,
        _plain_embedding,
    ),
    F.prelu: Rule(("input", "weight"), ("weight",), prelu),
}
