"""Per-sample gradients over *all* parameters of a network: their L2 norms (GraNd) and short sketches of them.

`gradient_norms(network, batches)` and `gradient_sketches(network, batches, columns, seed)` cost about one forward and
one backward pass, whatever the network: no copy of the parameters is made per sample. While the network runs, each
operation that meets a parameter is watched (`trace.py`); in the backward pass the rule of that operation
(`layer_rules.py`) turns what went in and the gradient of what came out into the norm. A parameter that no rule covers
is given to `torch.func` (`vmap(grad)`), and where that cannot go, to a loop of backward passes; the result says which.

Before anything is trusted, the first samples are compared, parameter by parameter, with a plain backward pass of each.
A network whose answer for one image depends on the others in its batch has no per-sample gradients, and is refused.
Source: GraNd, Paul et al., arXiv 2107.07075, equation 1, here for one network; CountSketch, Charikar et al., 2002.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.axes import Array, Float
from core.errors import ModelError, SettingsError
from core.gradients.last_layer import LastLayerGradients
from core.gradients.per_sample import Held, PerSample, Take, blocks
from core.gradients.trace import Trace, logits_of

_MIXES = (
    "The network gives an image another answer in a batch than alone, in evaluation mode. Look for batch "
    "normalisation without running statistics, or for random numbers (dropout that is always on)."
)
_AT_ONCE = 16  # of the blocks that rules work in, for what torch.func holds: 256 MiB in float32
_CHECKED = 3  # samples compared with plain backward passes; an odd number shows a wrong axis


@dataclass(frozen=True)
class Coverage:
    """Which way each parameter's gradients were had. The names are those of `network.named_parameters()`."""

    parameters: Mapping[str, int]  # every parameter and its count of numbers
    by_func: Mapping[str, str] = field(default_factory=dict)  # taken by torch.func, and why
    by_loop: Mapping[str, str] = field(default_factory=dict)  # taken by a backward pass per sample, and why

    @property
    def notes(self) -> tuple[str, ...]:
        """Say what did not go by the rules, a sentence for each way; nothing where all did."""
        ways = (("torch.func", self.by_func), ("a backward pass per sample", self.by_loop))
        return tuple(self._note(way, taken) for way, taken in ways if taken)

    def _note(self, way: str, taken: Mapping[str, str]) -> str:
        share = 100 * sum(self.parameters[name] for name in taken) / max(1, sum(self.parameters.values()))
        first, why = next(iter(taken.items()))
        more = f" and {len(taken) - 1:,} more" if len(taken) > 1 else ""
        return (
            f"{share:.2g} % of the parameters ({first}{more}) went by {way}, which is slower and as exact: "
            f"{first} {why}."
        )


@dataclass(frozen=True, eq=False)
class GradientNorms:
    """`norms`: the L2 norm of the loss's gradient over all parameters, float64, in the order of the batches."""

    norms: Float[Array, " n"]
    coverage: Coverage


@dataclass(frozen=True, eq=False)
class GradientSketches:
    """`sketches`: `p` numbers per gradient, float32, whose inner products estimate those of the gradients, unbiased."""

    sketches: Float[Array, "n p"]
    coverage: Coverage


def gradient_norms(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> GradientNorms:
    """Return every sample's gradient norm (GraNd with one network) of the cross-entropy loss, in evaluation mode.

    Args:
        network: returns logits "n c" (or a tuple that begins with them); left as it was, its gradients too. Frozen
            parameters count like the others. It computes where its parameters are, in their number type.
        batches: `(images, labels "n")`; the best batch is the one that is best for training (64 to 256).

    Raises:
        ModelError: answers depend on the rest of the batch, or a gradient is not finite.
        InputError: a label outside the classes, or a logit that is not finite; the row is counted within its batch.
    """
    found, coverage = _run(network, batches, _norms)
    norms = torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)
    if not bool(norms.isfinite().all()):
        row = int((~norms.isfinite()).nonzero()[0])
        raise ModelError(f"The gradient of sample {row} is not finite. Look for a diverged training or huge weights.")
    return GradientNorms(norms.numpy(), coverage)


def gradient_sketches(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], columns: int, seed: int
) -> GradientSketches:
    """Return `columns` numbers per sample from the gradient over all parameters; arguments and errors as above.

    A CountSketch with equal buckets: every coordinate gets a random sign and one of the columns, drawn from `seed` and
    the parameter's name, so that networks of one architecture (epochs, seeds) have comparable sketches.
    Raises SettingsError for fewer than one column.
    """
    if columns < 1:
        raise SettingsError(f"A sketch of {columns} columns holds nothing. Ask for one or more.")
    found, coverage = _run(network, batches, partial(_sketches, columns=columns, seed=seed))
    sketches = torch.cat(found) if found else torch.zeros(0, columns)
    return GradientSketches(sketches.numpy(), coverage)


# --- one batch --------------------------------------------------------------------------------------------------------


def _run(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    work: Callable[[nn.Module, Plan, Tensor, Tensor], Tensor],
) -> tuple[list[Tensor], Coverage]:
    """Do the work on every batch, after the check on the first; return its results and what went which way."""
    plan = Plan(_sizes(network))
    found: list[Tensor] = []
    with _evaluating(network):
        for images, labels in _on_device(network, batches):
            plan = plan if found else Plan.checked(network, images)
            found += _in_pieces(partial(work, network, plan), images, labels)
    return found, plan.coverage()


def _norms(network: nn.Module, plan: Plan, images: Tensor, labels: Tensor) -> Tensor:
    exact = torch.float32 if images.device.type == "mps" else torch.float64  # that device has nothing longer
    total = torch.zeros(len(images), dtype=exact, device=images.device)

    def add(name: str, gradients: PerSample, rows: slice = slice(None)) -> None:
        total[rows] += gradients.squares()

    _gradients(network, plan, images, labels, add)
    return total.cpu().double().sqrt()


def _sketches(network: nn.Module, plan: Plan, images: Tensor, labels: Tensor, columns: int, seed: int) -> Tensor:
    total = torch.zeros(len(images), columns, device=images.device)

    def add(name: str, gradients: PerSample, rows: slice = slice(None)) -> None:
        order, sign = _hash(name, plan.sizes[name], columns, seed, images.device)
        for some in blocks(gradients.n, gradients.size):
            total[rows][some] += _fold(gradients.each(some).flatten(1).float(), order, sign, columns)

    _gradients(network, plan, images, labels, add)
    return total.cpu()


def _hash(name: str, size: int, columns: int, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw the order in which coordinates are dealt to the columns, "size", and their signs, "size"; on the CPU."""
    key = hashlib.blake2b(f"{seed}/{columns}/{name}".encode(), digest_size=7).digest()
    chance = torch.Generator().manual_seed(int.from_bytes(key, "little"))
    order = torch.randperm(size + -size % columns, generator=chance)
    sign = torch.randint(2, (len(order),), generator=chance, dtype=torch.float32) * 2 - 1
    return order.to(device), sign.to(device)


def _fold(gradients: Tensor, order: Tensor, sign: Tensor, columns: int) -> Tensor:
    padded = F.pad(gradients, (0, len(order) - gradients.shape[1]))
    return (padded[:, order] * sign).view(len(gradients), -1, columns).sum(1)


def _gradients(network: nn.Module, plan: Plan, images: Tensor, labels: Tensor, take: Take) -> None:
    """Hand the gradients of each parameter to `take`, each row once; what no rule covers is noted in the plan."""
    trace = Trace(network, len(images), take, leave=plan.left)
    logits = trace.forward(images)
    plan.by_func.update({name: why for name, why in trace.unknown.items() if name not in plan.left})
    trace.backward(_errors(logits, labels))
    del trace
    width = sum(plan.sizes[name] for name in plan.left) // _AT_ONCE
    for rows in blocks(len(images), width) if plan.left else ():
        for name, gradients in _left_over(network, plan, images[rows], labels[rows]).items():
            take(name, Held(gradients), rows)


def _left_over(network: nn.Module, plan: Plan, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per-sample gradients "n *shape" of the parameters that no rule covers."""
    found: dict[str, Tensor] = {}
    try:
        found = _by_func(network, list(plan.by_func), images, labels)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError):  # in these torch.func says that it cannot go through an operation
        plan.give_up_func()
    return {**found, **_by_loop(network, list(plan.by_loop), images, labels)}


def _errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Return `softmax(z) - onehot(y)`, the loss's gradient at the logits, precise where a probability is near 1."""
    errors: Tensor = LastLayerGradients.from_logits(logits, labels, logits, bias=False).errors
    return errors.to(logits.dtype)


# --- what no rule covers ----------------------------------------------------------------------------------------------


def _by_func(network: nn.Module, names: list[str], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Per-sample gradients of some parameters by `torch.func.vmap(grad)`, "n *shape" each."""
    if not names:
        return {}
    held = {name: value.detach() for name, value in network.named_parameters()}

    def loss(chosen: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = logits_of(functional_call(network, {**held, **chosen}, (image[None],)))
        return F.cross_entropy(logits, label[None])

    chosen = {name: held[name] for name in names}
    with sdpa_kernel(SDPBackend.MATH):  # the other kernels of attention cannot be mapped over samples
        found: dict[str, Tensor] = vmap(grad(loss), in_dims=(None, 0, 0))(chosen, images, labels)
    return {name: value.detach() for name, value in found.items()}


def _by_loop(network: nn.Module, names: list[str], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The same by one backward pass after another: the plain way, which covers everything that can be trained."""
    if not names:
        return {}
    columns = zip(*_one_by_one(network, names, images, labels), strict=True)
    return {name: torch.stack(parts) for name, parts in zip(names, columns, strict=True)}


def _one_by_one(network: nn.Module, names: list[str], images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the gradients of each sample, a tensor per name."""
    parameters = dict(network.named_parameters())
    for i in range(len(images)):
        with _all_trainable(network), torch.enable_grad():
            loss = F.cross_entropy(logits_of(network(images[i : i + 1])), labels[i : i + 1])
            if not loss.requires_grad:
                raise ModelError("The network's answer has no gradient. Look for torch.no_grad or detach inside it.")
            chosen = [parameters[name] for name in names]
            yield torch.autograd.grad(loss, chosen, allow_unused=True, materialize_grads=True)


# --- the check before the first batch ---------------------------------------------------------------------------------


@dataclass(eq=False)
class Plan:
    """Which parameters no rule covers, found on the first samples and kept for the run."""

    sizes: Mapping[str, int]
    by_func: dict[str, str] = field(default_factory=dict)
    by_loop: dict[str, str] = field(default_factory=dict)

    @property
    def left(self) -> set[str]:
        """The parameters that the trace leaves alone."""
        return {*self.by_func, *self.by_loop}

    def give_up_func(self) -> None:
        """Hand everything that torch.func was to take to the loop."""
        self.by_loop.update(self.by_func)
        self.by_func.clear()

    def coverage(self) -> Coverage:
        """Return what is reported."""
        return Coverage(dict(self.sizes), dict(self.by_func), dict(self.by_loop))

    @classmethod
    def checked(cls, network: nn.Module, images: Tensor) -> Plan:
        """Compare rules, then torch.func, with plain backward passes of the first samples.

        The labels are each sample's least likely class, where the gradients are largest.
        """
        plan = cls(_sizes(network))
        if not plan.sizes:
            return plan
        images = images[torch.arange(_CHECKED, device=images.device) % len(images)]
        alone = _refuse_mixing(network, images)
        labels = alone.argmin(1)
        expected = {
            name: Held(part).squares() for name, part in _by_loop(network, [*plan.sizes], images, labels).items()
        }
        plan._compare(network, images, labels, expected)
        if plan.by_func:
            plan._compare(network, images, labels, expected)
        return plan

    def _compare(self, network: nn.Module, images: Tensor, labels: Tensor, expected: Mapping[str, Tensor]) -> None:
        """Move what disagrees one way down: from the rules to torch.func, from torch.func to the loop."""
        got = {name: torch.zeros_like(value) for name, value in expected.items()}
        before = dict(self.by_func)

        def take(name: str, gradients: PerSample, rows: slice = slice(None)) -> None:
            got[name][rows] = gradients.squares().to(got[name])

        _gradients(network, self, images, labels, take)
        total = sum(expected.values())
        for name, value in expected.items():
            if _agree(got[name], value, total):
                continue
            if name in before:
                self.by_loop[name] = self.by_func.pop(name)
            elif name not in self.left:
                self.by_func[name] = "is used in a way that its layer's rule does not describe"


def _agree(got: Tensor, expected: Tensor, total: Any) -> bool:
    """Whether squared norms agree, relative to themselves or negligible beside the whole gradient's."""
    near = 2e-3 if got.device.type == "cpu" else 4e-2  # convolutions on a GPU may round to TF32
    return bool(((got - expected).abs() <= near * expected + 1e-9 * total).all())


def _refuse_mixing(network: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of each image alone, "n c"; raise ModelError where they differ from those of the batch."""
    with torch.no_grad():
        together = logits_of(network(images))
        try:
            alone = torch.cat([logits_of(network(images[i : i + 1])) for i in range(len(images))])
        except ValueError as error:  # torch's batch normalisation over a batch of one
            raise ModelError(f"{_MIXES} (It cannot take one image alone: {error})") from error
    near = 1e-3 if alone.device.type == "cpu" and alone.dtype.itemsize >= 4 else 5e-2
    close = together.shape == alone.shape and torch.allclose(
        together, alone, rtol=near, atol=near * float(alone.abs().max()), equal_nan=True
    )
    if not close:
        raise ModelError(_MIXES)
    return alone


# --- the network, as it was found -------------------------------------------------------------------------------------


def _sizes(network: nn.Module) -> dict[str, int]:
    return {name: value.numel() for name, value in network.named_parameters()}


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _all_trainable(network: nn.Module) -> Iterator[None]:
    frozen = [value for value in network.parameters() if not value.requires_grad]
    for value in frozen:
        value.requires_grad_(True)
    try:
        yield
    finally:
        for value in frozen:
            value.requires_grad_(False)


def _on_device(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    device = next((value.device for value in network.parameters()), torch.device("cpu"))
    for images, labels in batches:
        if len(images):
            yield images.to(device), torch.as_tensor(labels).to(device)


def _in_pieces(work: Callable[[Tensor, Tensor], Tensor], images: Tensor, labels: Tensor) -> list[Tensor]:
    """Do the work on a batch; where the memory does not hold it, on its halves."""
    try:
        return [work(images, labels)]
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    half = len(images) // 2
    return _in_pieces(work, images[:half], labels[:half]) + _in_pieces(work, images[half:], labels[half:])
