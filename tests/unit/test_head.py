import numpy as np
import pytest
import torch
from torch import nn

from core.errors import ModelError
from core.gradients.last_layer import LastLayerGradients
from core.models.head import find_head, layer_name, read_head


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


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_output_that_is_not_finite_is_no_matter_of_the_layer(value: float) -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x).abs() * value

    with pytest.raises(ModelError, match=r"output for two images of noise is not finite \(NaN or infinite\)") as told:
        find_head(Broken(), torch.randn(2, 5))
    assert "--layer" not in str(told.value)


class Tempered(nn.Module):
    """Logits by a temperature; a layer beside that no pass uses, and one that gives a row per token."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.body, self.fc, self.unused = (
            nn.Linear(2, 2),
            nn.Linear(5, 7),
            nn.Linear(7, 3),
            nn.Linear(7, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.tokens(torch.zeros(len(x), 4, 2))
        return self.fc(self.body(x)) / 0.5


def test_the_refusal_offers_the_layers_that_could_be_named() -> None:
    with pytest.raises(ModelError, match=r"with --layer: fc \(7 → 3\), body \(5 → 7\)\.$"):
        find_head(Tempered(), torch.randn(2, 5))


def test_a_named_layer_gives_the_logits() -> None:
    net, x = Tempered(), torch.randn(6, 5)
    assert find_head(net, x, "fc") is net.fc
    assert layer_name(net, net.fc) == "fc"
    logits, inputs, bias = read_head(net, x.split(4), "fc")
    np.testing.assert_allclose(logits, net.fc(net.body(x)).detach(), atol=1e-6)
    np.testing.assert_allclose(inputs, net.body(x).detach(), atol=1e-6)
    assert bias


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ("head", "has no linear layer 'head'. Name the one .*: fc"),
        ("unused", "'unused' took no part in the pass"),
        ("tokens", r"'tokens' gives \(2, 4, 2\) for 2 inputs, not a row of logits for each"),
    ],
)
def test_a_name_that_fits_no_head_is_refused(layer: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        find_head(Tempered(), torch.randn(2, 5), layer)


def test_parts_that_were_in_evaluation_mode_stay_there() -> None:
    net = network().train()
    net[2].eval()
    read_head(net, [torch.randn(4, 5).double()])
    assert net.training
    assert not net[2].training


def test_an_output_that_is_no_matrix_is_refused() -> None:
    net = nn.Conv2d(3, 4, 1)
    with pytest.raises(ModelError, match=r"returns \(2, 4, 5, 5\), not logits"):
        find_head(net, torch.randn(2, 3, 5, 5))


def test_no_batch_is_refused() -> None:
    with pytest.raises(ModelError, match="no batch"):
        read_head(network(), [])
