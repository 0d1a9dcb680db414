"""Find the last linear layer of any network and read its gradients' factors off plain forward passes.

The layer is found by running the network once, not by its name: it is the linear layer whose output is the network's
output. Where something comes after it (a softmax, a temperature), the layer can be named: then its output are the
logits. From then on a forward pass costs what it always cost; the factors are its logits and the layer's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from core.axes import Array, Float
from core.errors import ModelError


class HeadPass(NamedTuple):
    """What `LastLayerGradients.from_logits(logits, labels, inputs, bias)` asks for, in the order of the batches."""

    logits: Float[Array, "n c"]
    inputs: Float[Array, "n d"]
    bias: bool


def find_head(network: nn.Module, example: Tensor, layer: str | None = None) -> nn.Linear:
    """Return the linear layer that gives the logits.

    Args:
        network: left in the mode it was in.
        example: a batch of inputs on the network's device.
        layer: its name; None for the linear layer whose output is the network's output for `example`.

    Raises:
        ModelError: no linear layer's output is the network's output, that output is not finite, or the named one does
            not give a row of logits for each input; the message says what was found.
    """
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}
    seen: list[tuple[nn.Linear, Tensor]] = []
    hooks = [
        each.register_forward_hook(lambda module, _, output: seen.append((module, output))) for each in layers.values()
    ]
    try:
        with evaluating(network), torch.no_grad():
            answer = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    ran = {name: output for name, module in layers.items() for which, output in seen if which is module}
    if layer is not None:
        return _named_head(layers, ran, layer, len(example))
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ModelError(f"The network returns {shape}, not logits of shape (n, classes). Wrap it so that it does.")
    for module, output in reversed(seen):
        if output.shape == answer.shape and torch.equal(output.nan_to_num(), answer.nan_to_num()):
            return module
    if not answer.isfinite().all():
        raise ModelError(
            "The network's output for two images of noise is not finite (NaN or infinite), so it says nothing of any "
            "label. Its weights are damaged or were not loaded, or its code divides by zero; mend it there."
        )
    raise ModelError(
        f"None of the {len(layers)} linear layers gives the network's output as it is. Gradients of the last layer "
        f"need logits that come straight out of a linear layer, before any softmax. {_offer(layers, ran)}"
    )


def _named_head(layers: Mapping[str, nn.Linear], ran: Mapping[str, Tensor], layer: str, count: int) -> nn.Linear:
    if layer not in layers:
        raise ModelError(f"The network has no linear layer {layer!r}. {_offer(layers, ran)}")
    if layer not in ran:
        raise ModelError(f"The linear layer {layer!r} took no part in the pass. {_offer(layers, ran)}")
    if ran[layer].ndim != 2 or len(ran[layer]) != count:
        raise ModelError(
            f"The linear layer {layer!r} gives {tuple(ran[layer].shape)} for {count} inputs, not a row of logits "
            f"for each. {_offer(layers, ran)}"
        )
    return layers[layer]


def _offer(layers: Mapping[str, nn.Linear], ran: Mapping[str, Tensor]) -> str:
    """Return which layers could be named, the last ones first."""
    fitting = [name for name in list(layers)[::-1] if name in ran and ran[name].ndim == 2]
    if not fitting:
        return "Wrap the network so that it ends in a linear layer."
    shown = ", ".join(f"{name} ({layers[name].in_features} → {layers[name].out_features})" for name in fitting[:4])
    return f"Name the one that gives the logits with --layer: {shown}."


def layer_name(network: nn.Module, layer: nn.Module) -> str:
    """Return the name of a layer in its network."""
    names: dict[nn.Module, str] = {module: name for name, module in network.named_modules()}
    return names[layer]


def read_head(network: nn.Module, batches: Iterable[Tensor], layer: str | None = None) -> HeadPass:
    """Run a network in evaluation mode and keep what its last linear layer took and gave.

    Args:
        network: any network whose output is a linear layer's; left in the mode it was in.
        batches: inputs on the network's device.
        layer: the name of that layer, where something comes after it.

    Raises:
        ModelError: the network has no such layer, or there is no batch.
    """
    logits: list[Array] = []
    inputs: list[Array] = []
    head: nn.Linear | None = None
    with evaluating(network), torch.inference_mode():
        for batch in batches:
            if head is None:
                head = find_head(network, batch[:2], layer)
            given, taken = through_head(network, head, batch)
            logits.append(given.float().cpu().numpy())
            inputs.append(taken.float().cpu().numpy())
    if head is None:
        raise ModelError("There is no batch to run the network on. Give at least one.")
    return HeadPass(np.concatenate(logits), np.concatenate(inputs), head.bias is not None)


def through_head(network: nn.Module, head: nn.Linear, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Run one batch; return what the head gave and what it took (of its last call), on the network's device."""
    seen: list[tuple[Tensor, Tensor]] = []
    hook = head.register_forward_hook(lambda _, given, output: seen.append((output, given[0])))
    try:
        network(batch)
    finally:
        hook.remove()
    return seen[-1]


class ToLayer(nn.Module):
    """A network whose answer is that of one of its linear layers, where more follows it (a softmax, say)."""

    def __init__(self, network: nn.Module, layer: str) -> None:
        super().__init__()
        self.network, self._layer = network, network.get_submodule(layer)

    def forward(self, images: Tensor) -> Tensor:
        """Return what the layer gave."""
        seen: list[Tensor] = []
        hook = self._layer.register_forward_hook(lambda _, __, output: seen.append(output))
        try:
            self.network(images)
        finally:
            hook.remove()
        return seen[-1]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode inside the block; each of its parts is left in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training
