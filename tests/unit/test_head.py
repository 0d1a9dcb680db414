import numpy as np
import pytest
import torch
from torch import nn

from core.errors import ModelError
from core.gradients.last_layer import LastLayerGradients
from core.models.head import find_head, read_head


def network(bias: bool = True) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.BatchNorm1d(7), nn.Linear(7, 3, bias=bias)).double()


def loop_of_backward(net: nn.Sequential, x: torch.Tensor, y: torch.Tensor) -> np.ndarray:
    """Each sample's last-layer gradient by autograd, weight (with the bias as a last column) flattened class-major."""
    rows = []
    for one, label in zip(x, y, strict=True):
        net.zero_grad()
        nn.functional.cross_entropy(net(one[None]), label[None]).backward()
        weight, bias = net[-1].weight.grad, net[-1].bias
        parts = [weight] if bias is None else [weight, bias.grad[:, None]]
        rows.append(torch.cat(parts, dim=1).flatten().numpy().copy())
    return np.stack(rows)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 4, 11])
def test_factors_equal_a_loop_of_backward_passes_whatever_the_batch(bias: bool, batch: int) -> None:
    net = network(bias).eval()
    x, y = torch.randn(11, 5, dtype=torch.float64), torch.arange(11) % 3
    logits, inputs, has_bias = read_head(net, x.split(batch))
    found = LastLayerGradients.from_logits(logits, y.numpy(), inputs, has_bias)
    np.testing.assert_allclose(found.dense(), loop_of_backward(net, x, y), atol=1e-6)  # logits travel as float32


def test_the_network_is_left_as_it_was() -> None:
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    read_head(net, [torch.randn(4, 5).double()])
    assert net.training
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_the_head_is_the_layer_whose_output_leaves() -> None:
    net = network()
    assert find_head(net, torch.randn(2, 5).double()) is net[-1]


def test_a_softmax_behind_the_layer_is_refused() -> None:
    net = nn.Sequential(nn.Linear(5, 3), nn.Softmax(1))
    with pytest.raises(ModelError, match=r"None of the 1 linear layers .* before any softmax"):
        find_head(net, torch.randn(2, 5))


def test_an_output_that_is_no_matrix_is_refused() -> None:
    net = nn.Conv2d(3, 4, 1)
    with pytest.raises(ModelError, match=r"returns \(2, 4, 5, 5\), not logits"):
        find_head(net, torch.randn(2, 3, 5, 5))


def test_no_batch_is_refused() -> None:
    with pytest.raises(ModelError, match="no batch"):
        read_head(network(), [])
