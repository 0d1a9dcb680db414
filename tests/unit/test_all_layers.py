"""Gradients over all parameters: known answers, what is refused and said, and that the network is left as it was."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from core.errors import InputError, ModelError, SettingsError
from core.gradients import all_layers
from core.gradients.all_layers import gradient_norms, gradient_sketches


def batch(n=5, d=4, seed=0):
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=chance, dtype=torch.float64), torch.arange(n) % 3


def mlp(seed=0, sizes=(4, 6, 3)):
    torch.manual_seed(seed)
    layers = [layer for d, m in pairwise(sizes) for layer in (nn.Linear(d, m), nn.ReLU())]
    return nn.Sequential(*layers[:-1]).double()


class Two(nn.Module):
    """Logits and features, as the reference network gives them."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        features = self.first(x).relu()
        return self.head(features), features


class Reversed(nn.Module):
    """Scores with an operation that nobody has a rule for, and that torch.func cannot go through."""

    def __init__(self):
        super().__init__()
        self.head, self.turn = nn.Linear(4, 3), nn.Parameter(torch.eye(3))

    def forward(self, x):
        z = self.head(x)
        return z @ self.turn if float(z.sum().detach()) < 1e9 else z


def test_a_linear_classifier_by_hand():
    """One layer: the gradient is the outer product of error and input, so its norm is EL2N times |(h, 1)|."""
    network = nn.Linear(2, 2).double()
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
        network.bias.zero_()
    images = torch.tensor([[3.0, 3.0], [0.0, 0.0]], dtype=torch.float64)
    found = gradient_norms(network, [(images, torch.tensor([0, 1]))]).norms
    np.testing.assert_allclose(found, [np.sqrt(0.5) * np.sqrt(19), np.sqrt(0.5)])


def test_batches_do_not_matter():
    images, labels = batch(12)
    whole = gradient_norms(mlp(), [(images, labels)]).norms
    for size in (1, 5):
        parts = gradient_norms(mlp(), zip(images.split(size), labels.split(size), strict=True)).norms
        np.testing.assert_allclose(parts, whole, rtol=1e-12)


def test_no_batches_give_no_norms():
    assert gradient_norms(mlp(), []).norms.shape == (0,)
    assert gradient_sketches(mlp(), [], 8, 0).sketches.shape == (0, 8)


def test_the_first_of_several_outputs_is_the_logits():
    torch.manual_seed(0)
    network = Two().double()
    images, labels = batch()
    plain = nn.Sequential(network.first, nn.ReLU(), network.head)
    np.testing.assert_allclose(
        gradient_norms(network, [(images, labels)]).norms, gradient_norms(plain, [(images, labels)]).norms
    )


def test_the_network_is_left_as_it_was():
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3)).double().train()
    network[1].eval()
    network[3].weight.requires_grad_(False)
    network[0].weight.grad = torch.ones_like(network[0].weight)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    gradient_norms(network, [batch()])
    assert [module.training for module in network] == [True, False, True, True]
    assert not network[3].weight.requires_grad
    assert network[0].weight.requires_grad
    assert bool((network[0].weight.grad == 1).all())
    assert network[3].bias.grad is None
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_frozen_parameters_count_like_the_others():
    network = mlp()
    free = gradient_norms(network, [batch()]).norms
    network.requires_grad_(False)
    np.testing.assert_array_equal(gradient_norms(network, [batch()]).norms, free)


def test_evaluation_mode_whatever_the_network_was_in():
    network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(), nn.Linear(6, 3)).double()
    found = [gradient_norms(network.train(mode), [batch()]).norms for mode in (True, False)]
    np.testing.assert_array_equal(*found)


class AlwaysDropped(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


@pytest.mark.parametrize("mixing", [nn.BatchNorm1d(4, track_running_stats=False), AlwaysDropped()])
def test_a_network_that_mixes_its_batch_is_refused(mixing):
    with pytest.raises(ModelError, match=r"Look for batch\s+normalisation without running statistics"):
        gradient_norms(nn.Sequential(mixing, nn.Linear(4, 3)).double(), [batch(12)])


def test_a_gradient_that_is_not_finite_is_refused():
    network = mlp()
    with torch.no_grad():
        network[0].weight.fill_(1e200)
        network[2].weight.fill_(1e120)
    images, labels = batch()
    with pytest.raises((ModelError, InputError), match="not finite|hold"):
        gradient_norms(network, [(images * 1e100, labels)])


@pytest.mark.parametrize("label", [3, -1])
def test_a_label_outside_the_classes_is_refused(label):
    images, labels = batch()
    labels[2] = label
    with pytest.raises(InputError, match=rf"Label {label} \(row 2\) is not among the 3 classes"):
        gradient_norms(mlp(), [(images, labels)])


def test_a_network_without_logits_is_refused():
    with pytest.raises(ModelError, match=r"returns \(3, 2, 2\), not logits of shape"):
        gradient_norms(nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2))).double(), [batch()])


def test_a_network_without_a_graph_is_refused():
    class Detached(nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    with pytest.raises(ModelError, match="has no gradient. Look for torch.no_grad"):
        gradient_norms(Detached(4, 3).double(), [batch()])


def test_a_network_without_parameters_has_gradients_of_length_zero():
    assert gradient_norms(nn.Identity(), [batch(d=3)]).norms.tolist() == [0] * 5


def test_what_went_another_way_is_said_with_its_share_and_reason():
    torch.manual_seed(0)
    network = Reversed().double()
    coverage = gradient_norms(network, [batch()]).coverage
    assert coverage.by_loop == {"turn": "meets matmul in a way for which there is no rule"}
    assert coverage.notes == (
        "38 % of the parameters (turn) went by a backward pass per sample, which is slower and as exact: "
        "turn meets matmul in a way for which there is no rule.",
    )


def test_halves_where_the_memory_does_not_hold_a_batch(monkeypatch):
    images, labels = batch(11)
    whole = gradient_norms(mlp(), [(images, labels)]).norms
    norms = all_layers._norms

    def small(network, plan, images, labels):
        if len(images) > 3:
            raise torch.OutOfMemoryError
        return norms(network, plan, images, labels)

    monkeypatch.setattr(all_layers, "_norms", small)
    np.testing.assert_allclose(gradient_norms(mlp(), [(images, labels)]).norms, whole, rtol=1e-12)


def test_sketches_are_functions_of_the_seed_and_not_of_the_batches():
    images, labels = batch(9)
    first = gradient_sketches(mlp(), [(images, labels)], 7, 1).sketches
    again = gradient_sketches(mlp(), zip(images.split(2), labels.split(2), strict=True), 7, 1).sketches
    np.testing.assert_allclose(again, first, rtol=1e-6, atol=1e-7)
    assert not np.allclose(gradient_sketches(mlp(), [(images, labels)], 7, 2).sketches, first)
    assert first.dtype == np.float32


def test_every_coordinate_matters_to_a_sketch():
    """Each number of a gradient lands in one column with weight one."""
    order, sign = all_layers._hash("layer", 10, 4, 0, torch.device("cpu"))
    folded = all_layers._fold(torch.eye(10), order, sign, 4)
    assert folded.abs().sum(1).tolist() == [1] * 10
    assert folded.abs().sum(0).max() <= 3


def test_a_sketch_without_columns_is_refused():
    with pytest.raises(SettingsError, match="A sketch of 0 columns holds nothing"):
        gradient_sketches(mlp(), [batch()], 0, 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    images, labels = batch()
    network = mlp().to(dtype)
    found = gradient_norms(network, [(images.to(dtype) * 50, labels)]).norms
    exact = gradient_norms(network.double(), [(images * 50, labels)]).norms
    np.testing.assert_allclose(found, exact, rtol=0.05, atol=0.02 * exact.max())


def test_grand_at_the_start_is_the_brightness_of_the_picture():
    """METHODS 8.1: on digits the mean over 20 untrained networks follows the input's norm, a single one does not."""
    digits = load_digits()
    images, labels = torch.from_numpy(digits.data / 16), torch.from_numpy(digits.target)
    single = [gradient_norms(mlp(seed, (64, 128, 64, 10)), [(images, labels)]).norms for seed in range(20)]
    brightness = np.linalg.norm(digits.data, axis=1)
    assert spearmanr(np.mean(single, axis=0), brightness).statistic > 0.93
    assert np.mean([spearmanr(one, brightness).statistic for one in single]) < 0.75


@pytest.mark.parametrize("way", ["by_func", "by_loop"])
def test_what_no_rule_covers_is_taken_in_pieces_of_bounded_memory(monkeypatch, way):
    class Turned(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.turn = nn.Linear(4, 3), nn.Parameter(torch.eye(3) + 0.1)

        def forward(self, x):
            z = self.head(x)
            return z @ self.turn if way == "by_func" or float(z.sum().detach()) < 1e9 else z

    torch.manual_seed(0)
    network, (images, labels) = Turned().double(), batch(11)
    whole = [gradient_norms(network, [(images, labels)]).norms, gradient_sketches(network, [(images, labels)], 8, 0)]
    monkeypatch.setattr("core.gradients.per_sample._BLOCK", 2)
    monkeypatch.setattr(all_layers, "_AT_ONCE", 1)
    result = gradient_norms(network, [(images, labels)])
    assert list(getattr(result.coverage, way)) == ["turn"]
    np.testing.assert_allclose(result.norms, whole[0], rtol=1e-12)
    sketches = gradient_sketches(network, [(images, labels)], 8, 0).sketches
    np.testing.assert_allclose(sketches, whole[1].sketches, rtol=1e-5, atol=1e-6)
