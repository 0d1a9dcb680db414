"""Find the last linear layer of any network and read its gradients' factors off plain forward passes.

The layer is found by running the network once, not by its name: it is the linear layer whose output is the network's
output. From then on a forward pass costs what it always cost; the factors are its logits and the layer's input.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
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


def find_head(network: nn.Module, example: Tensor) -> nn.Linear:
    """Return the linear layer whose output is the network's output for `example` (a batch of inputs).

    Raises:
        ModelError: no linear layer's output is the network's output; the message says what was found.
    """
    seen: list[tuple[nn.Linear, Tensor]] = []
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    hooks = [layer.register_forward_hook(lambda module, _, output: seen.append((module, output))) for layer in layers]
    try:
        with _evaluating(network), torch.no_grad():
            answer = network(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(answer, Tensor) or answer.ndim != 2:
        shape = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ModelError(f"The network returns {shape}, not logits of shape (n, classes). Wrap it so that it does.")
    for layer, output in reversed(seen):
        if output.shape == answer.shape and torch.equal(output, answer):
            return layer
    raise ModelError(
        f"None of the {len(layers)} linear layers gives the network's output as it is. "
        "Gradients of the last layer need logits that come straight out of a linear layer, before any softmax."
    )


def read_head(network: nn.Module, batches: Iterable[Tensor]) -> HeadPass:
    """Run a network in evaluation mode and keep what its last linear layer took and gave.

    Args:
        network: any network whose output is a linear layer's; left in the mode it was in.
        batches: inputs on the network's device.

    Raises:
        ModelError: the network has no such layer, or there is no batch.
    """
    logits: list[Array] = []
    inputs: list[Array] = []
    head: nn.Linear | None = None
    with _evaluating(network), torch.inference_mode(), ExitStack() as hooked:
        for batch in batches:
            if head is None:
                head = find_head(network, batch[:2])
                hook = head.register_forward_pre_hook(lambda _, given: inputs.append(given[0].float().cpu().numpy()))
                hooked.callback(hook.remove)
            logits.append(network(batch).float().cpu().numpy())
    if head is None:
        raise ModelError("There is no batch to run the network on. Give at least one.")
    return HeadPass(np.concatenate(logits), np.concatenate(inputs), head.bias is not None)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    was_training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(was_training)
