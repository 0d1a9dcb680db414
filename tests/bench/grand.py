"""Gradient norms over all parameters of a ResNet-18 against one forward and backward pass, and against other ways.

    python tests/bench/grand.py [--stem imagenet cifar] [--side 32] [--images 256] [--rounds 5] [--device cuda]

The yardstick is what a training step computes: forward, and backward to the gradients of all parameters, at the batch
size that is best for it. Each way runs at the batch size that is best for it, found beforehand; then they take turns,
and the median over the rounds of each way's time divided by the yardstick's in the same round is printed. Opacus (ghost
norms, which leave batch normalisation out) and captum are measured where they are installed. One CPU thread.
The last column is the largest relative difference to the norms of a loop of backward passes.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torchvision.models import resnet18

from core.gradients.all_layers import Plan, _norms, gradient_norms

Way = Callable[[Tensor, Tensor], object]
BATCHES = {"forward and backward": (16, 64, 256), "gradsift": (16, 64, 256)}
SMALL = (8, 16, 32)  # ways that copy every parameter per sample
MANY = 3  # slow ways see a third of the images


def network_of(stem: str) -> nn.Module:
    torch.manual_seed(0)
    network = resnet18(num_classes=10)
    if stem == "cifar":
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return network.eval()


def plain(network: nn.Module, device: torch.device) -> Way:
    network = copy.deepcopy(network).to(device)

    def step(images: Tensor, labels: Tensor) -> None:
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()

    return step


def ours(network: nn.Module, device: torch.device) -> Way:
    network = copy.deepcopy(network).to(device)
    plan = Plan.checked(network, torch.randn(4, 3, 32, 32, device=device))  # once a run, and not per batch
    return lambda images, labels: _norms(network, plan, images, labels)


def by_vmap(network: nn.Module, device: torch.device) -> Way:
    network = copy.deepcopy(network).to(device)
    parameters = {name: value.detach() for name, value in network.named_parameters()}

    def loss(chosen: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, chosen, (image[None],)), label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    return lambda images, labels: norm_of(each(parameters, images, labels).values())


def by_loop(network: nn.Module, device: torch.device) -> Way:
    network = copy.deepcopy(network).to(device)

    def norms(images: Tensor, labels: Tensor) -> Tensor:
        found = []
        for image, label in zip(images, labels, strict=True):
            loss = F.cross_entropy(network(image[None]), label[None])
            found.append(norm_of([part[None] for part in torch.autograd.grad(loss, list(network.parameters()))]))
        return torch.cat(found)

    return norms


def by_opacus(network: nn.Module, device: torch.device) -> Way:
    from opacus.grad_sample.grad_sample_module_fast_gradient_clipping import GradSampleModuleFastGradientClipping

    network = copy.deepcopy(network).to(device).train()  # it watches in training mode only
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
        if isinstance(module, nn.ReLU):
            module.inplace = False
    watched = GradSampleModuleFastGradientClipping(network, strict=False, loss_reduction="sum")

    def norms(images: Tensor, labels: Tensor) -> Tensor:
        watched.zero_grad()
        F.cross_entropy(watched(images), labels, reduction="sum").backward()
        return watched.get_norm_sample()

    return norms


def by_captum(network: nn.Module, device: torch.device) -> Way:
    from captum._utils.gradient import _compute_jacobian_wrt_params_with_sample_wise_trick as jacobian

    network = copy.deepcopy(network).to(device)
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    loss = nn.CrossEntropyLoss(reduction="sum")
    return lambda images, labels: norm_of(jacobian(network, (images,), labels, loss, "sum"))


def norm_of(parts) -> Tensor:
    return sum(part.flatten(1).square().sum(1) for part in parts).sqrt()


WAYS = {
    "forward and backward": plain,
    "gradsift": ours,
    "torch.func vmap(grad)": by_vmap,
    "a loop of backward passes": by_loop,
    "Opacus, ghost norms": by_opacus,
    "captum, sample-wise trick": by_captum,
}


def seconds(way: Way, images: Tensor, labels: Tensor, batch: int) -> float:
    """Seconds per image."""
    some = len(images)
    begin = time.perf_counter()
    for rows in torch.arange(some, device=images.device).split(batch):
        way(images[rows], labels[rows])
    if images.device.type == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - begin) / some


def made(network: nn.Module, device: torch.device) -> dict[str, Way]:
    ways = {}
    for name, make in WAYS.items():
        try:
            ways[name] = make(network, device)
        except ImportError as error:
            print(f"{name}: not measured ({error})")
    return ways


def compare(stem: str, side: int, n: int, rounds: int, device: torch.device) -> None:
    network = network_of(stem)
    torch.manual_seed(1)
    images, labels = torch.randn(n, 3, side, side, device=device), (torch.arange(n) % 10).to(device)
    ways = made(network, device)
    some = {name: n if name in BATCHES else max(1, n // MANY) for name in ways}
    best = {}
    for name, way in ways.items():
        way(images[:8], labels[:8])
        sizes = [size for size in BATCHES.get(name, SMALL) if size <= some[name]] or [some[name]]
        times = {size: seconds(way, images[: some[name]], labels[: some[name]], size) for size in sizes}
        best[name] = min(times, key=times.get)
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            spent[name].append(seconds(way, images[: some[name]], labels[: some[name]], best[name]))
    exact = by_loop(network, device)(images[:8], labels[:8]).double()
    print(f"\nResNet-18, {stem} stem, {side} px, {device}, {torch.get_num_threads()} thread(s), {n} images")
    print(f"{'way':28}{'batch':>6}{'images/s':>10}{'of one pass':>13}{'difference':>12}")
    for name, way in ways.items():
        ratio = statistics.median(a / b for a, b in zip(spent[name], spent["forward and backward"], strict=True))
        norms = None if name == "forward and backward" else torch.as_tensor(way(images[:8], labels[:8])).to(exact)
        gap = "" if norms is None else f"{float((norms / exact - 1).abs().max()):.1e}"
        print(f"{name:28}{best[name]:>6}{1 / min(spent[name]):>10.1f}{ratio:>13.2f}{gap:>12}", flush=True)
    if device.type != "cpu":
        agreement(network, images, labels)


def agreement(network: nn.Module, images: Tensor, labels: Tensor) -> None:
    """The same weights on the device and on the CPU, with TF32 off."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    here = gradient_norms(network.to(images.device), [(images[:32], labels[:32])]).norms
    there = gradient_norms(network.cpu(), [(images[:32].cpu(), labels[:32].cpu())]).norms
    print(f"largest relative difference to the CPU, TF32 off: {abs(here / there - 1).max():.1e} (aim: below 1e-4)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stem", nargs="*", default=["imagenet", "cifar"], choices=["imagenet", "cifar"])
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")  # the other libraries'
    for stem in args.stem:
        compare(stem, args.side, args.images, args.rounds, torch.device(args.device))


if __name__ == "__main__":
    main()
