"""Watch a network while it runs: which operation meets which parameter, and what goes in and comes out there.

`Trace.forward` runs the network with every call of torch going through `__torch_function__`, so it does not matter
which module, or none, makes a call: what counts is that an operation of the table `layer_rules.RULES` takes a
parameter. The parameter is taken out of the graph there, and a hook on the output waits for its gradient: the backward
pass computes the gradients of activations only, and a rule turns them into each parameter's as they fall due.

What a parameter can meet: an operation of the table; data in a sum or product (positions, layer scales) or glued to it
(class tokens); only other parameters and buffers, and what comes out is watched in its place (a standardised weight, a
table of biases); attention, which is opened so that its linear maps are seen. Anything else is noted in `unknown`, and
the parameter is left to others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from core.errors import ModelError
from core.gradients.layer_rules import RULES, Rule
from core.gradients.per_sample import Added, PerSample, Pulled, Take, each_row_its_own, rows_added, widened

_JOINING = frozenset(
    form.format(verb)
    for verb in ("add", "sub", "mul", "div", "true_divide")
    for form in ("{}", "{}_", "__{}__", "__i{}__", "__r{}__")
)
_GLUING = frozenset({"cat", "concat", "concatenate"})
# Torch's own attention, but without its question whether anybody watches, which would hide what it does.
_ATTENTION = FunctionType(
    F.multi_head_attention_forward.__code__,
    {**vars(F), "has_torch_function": lambda _: False},
    "attention",
    F.multi_head_attention_forward.__defaults__,
)


def logits_of(answer: Any) -> Tensor:
    """Return the logits "n c": the network's answer, or the first part of it."""
    first = answer[0] if isinstance(answer, tuple | list) else answer
    if not isinstance(first, Tensor) or first.ndim != 2:
        got = tuple(first.shape) if isinstance(first, Tensor) else type(first).__name__
        raise ModelError(f"The network returns {got}, not logits of shape (n, classes). Wrap it so that it does.")
    return first


class Trace(TorchFunctionMode):
    """One forward and one backward pass of a batch of n samples.

    `take(name, gradients)` is called at most once for each parameter, and not for those in `leave` and `unknown`.
    """

    def __init__(self, network: nn.Module, n: int, take: Take, leave: Iterable[str] = ()) -> None:
        super().__init__()
        self.unknown: dict[str, str] = {}  # parameter and why
        self._network, self._n, self._take, self._leave = network, n, take, frozenset(leave)
        self._held = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
        self._fixed: dict[int, Tensor] = {id(value): value for value in (*self._held.values(), *network.buffers())}
        self._names: dict[int, tuple[str, ...]] = {id(value): (name,) for name, value in self._held.items()}
        self._uses: Counter[str] = Counter()
        self._waiting: dict[str, list[PerSample]] = defaultdict(list)
        self._sequences: int | None = None  # inside attention: how many, and they are the second axis
        self._logits: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits "n c"."""
        with torch.enable_grad(), self:
            answer = functional_call(self._network, self._held, (images,))
        self._logits = logits_of(answer)
        if len(self._logits) != self._n:
            raise ModelError(
                f"The network returns {len(self._logits)} rows for {self._n} images. Wrap it so that it gives one each."
            )
        return self._logits.detach()

    def backward(self, errors: Tensor) -> None:
        """Carry `errors "n c"`, the loss's gradient at the logits, back; gradients are handed out on the way."""
        logits, self._logits = self._logits, None
        if logits is not None and logits.requires_grad:
            torch.autograd.backward(logits, errors)
        for name, uses in self._waiting.items():
            self._hand_out(name, uses[0] if len(uses) == 1 else Added(uses))
        self._waiting.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """See one call of torch: let it pass, or watch what it does with a parameter."""
        kwargs = kwargs or {}
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._attention(args, kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        met = [tensor for tensor in tensors if id(tensor) in self._names]
        if tensors and all(id(tensor) in self._fixed for tensor in tensors):
            return self._worked_out(func(*args, **kwargs), met)
        if not met:
            return func(*args, **kwargs)
        rule = RULES.get(func)
        watched = self._by_rule(func, rule, args, kwargs, met) if rule else self._joined(func, args, kwargs, tensors)
        return self._unknown(func, args, kwargs, met) if watched is None else watched

    # --- what a parameter can meet; None where it is something else

    def _worked_out(self, result: Any, met: list[Tensor]) -> Any:
        names = tuple(dict.fromkeys(name for tensor in met for name in self._names[id(tensor)]))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and id(tensor) not in self._fixed:
                self._fixed[id(tensor)] = tensor
                if tensor.requires_grad:
                    self._names[id(tensor)] = names
        return result

    def _by_rule(self, func: Any, rule: Rule, args: Any, kwargs: Any, met: list[Tensor]) -> Any:
        call = {**dict(zip(rule.arguments, args, strict=False)), **kwargs}
        owners = {slot: call[slot] for slot in rule.parameters if id(call.get(slot)) in self._names}
        data, sequences = call[rule.arguments[0]], self._sequences
        if len(owners) < len(met) or not rule.covers(call) or not self._per_sample(data):
            return None
        call = self._out_of_graph(call)
        result, version = func(*self._out_of_graph(args), **self._out_of_graph(kwargs)), data._version

        def arrived(back: Tensor) -> None:
            if data._version != version:
                raise ModelError(f"What {func.__name__} took was overwritten in place. Change the layer after it.")
            gradients = rule.gradients(call, self._rows(data.detach(), sequences), self._rows(back, sequences))
            for slot, owner in owners.items():
                self._arrived(owner, gradients[slot])

        if not result.requires_grad:
            result = _Rooted.apply(result, torch.ones((), requires_grad=True))
        _hook(result, arrived)
        self._count(owners.values())
        return result

    def _joined(self, func: Any, args: Any, kwargs: Any, tensors: list[Tensor]) -> Any:
        """Data and a parameter added, multiplied or glued: the parameter gets a row for every row of the data."""
        data = max((tensor for tensor in tensors if id(tensor) not in self._fixed), key=lambda tensor: tensor.ndim)
        met = [tensor for tensor in tensors if id(tensor) in self._names]
        glued = func.__name__ in _GLUING and (args[1:] or (kwargs.get("dim", 0),))[0] not in (0, -data.ndim)
        if not (glued or func.__name__ in _JOINING) or self._sequences is not None or not self._per_sample(data):
            return None
        if any(tensor.ndim > data.ndim or _leading(tensor, data) not in (1, len(data)) for tensor in met):
            return None
        own = {id(tensor): self._row_each(tensor, data) for tensor in met}
        args, kwargs = tree_map_only(Tensor, lambda tensor: own.get(id(tensor), tensor), (args, kwargs))
        self._count(met)
        return func(*args, **kwargs)

    def _row_each(self, owner: Tensor, data: Tensor) -> Tensor:
        value = owner.detach().reshape((1,) * (data.ndim - owner.ndim) + owner.shape)
        form = rows_added if len(value) == 1 else each_row_its_own
        rows = value.expand(len(data), *value.shape[1:]).requires_grad_()
        _hook(rows, lambda back: self._arrived(owner, form(self._rows(back), owner.shape)))
        return rows

    def _attention(self, args: Any, kwargs: Any) -> Any:
        query = args[0] if args else kwargs["query"]
        before, self._sequences = self._sequences, query.shape[1] if query.ndim == 3 else None
        try:
            with self:
                return _ATTENTION(*args, **kwargs)
        finally:
            self._sequences = before

    def _unknown(self, func: Any, args: Any, kwargs: Any, met: list[Tensor]) -> Any:
        for name in (name for tensor in met for name in self._names[id(tensor)]):
            self.unknown.setdefault(name, f"meets {func.__name__} in a way for which there is no rule")
        return func(*self._out_of_graph(args), **self._out_of_graph(kwargs))

    # --- rows

    def _per_sample(self, data: Tensor) -> bool:
        rows = self._sequences or (len(data) if data.ndim else 0)
        return rows > 0 and rows % self._n == 0

    def _rows(self, tensor: Tensor, sequences: int | None = None) -> Tensor:
        """Return "n r ...": the r rows of each sample together, in float32 at least."""
        if sequences is not None:
            tensor = tensor.reshape(-1, sequences, tensor.shape[-1]).transpose(0, 1)
        return widened(tensor).reshape(self._n, len(tensor) // self._n, *tensor.shape[1:])

    def _out_of_graph(self, value: Any) -> Any:
        return tree_map_only(Tensor, lambda tensor: tensor.detach() if id(tensor) in self._names else tensor, value)

    # --- gradients as they arrive

    def _count(self, owners: Iterable[Tensor]) -> None:
        self._uses.update(name for owner in owners for name in self._names[id(owner)])

    def _arrived(self, owner: Tensor, gradient: PerSample) -> None:
        """A parameter used once is handed out now; another waits for the end of the pass, and its uses are added."""
        for name in self._names[id(owner)]:
            if self._held[name] is not owner:
                self._waiting[name].append(Pulled(gradient, owner, self._held[name]))
            elif self._uses[name] > 1:
                self._waiting[name].append(gradient)
            else:
                self._hand_out(name, gradient)

    def _hand_out(self, name: str, gradient: PerSample) -> None:
        if name not in self._leave and name not in self.unknown:
            self._take(name, gradient)


def _hook(tensor: Tensor, arrived: Callable[[Tensor], None]) -> None:
    tensor.register_hook(arrived)  # type: ignore[no-untyped-call]


def _leading(tensor: Tensor, data: Tensor) -> int:
    return len(tensor) if tensor.ndim == data.ndim else 1


class _Rooted(torch.autograd.Function):
    """Make a tensor without history the start of a graph, in place: hooks and in-place operations may follow."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, anchor: Tensor) -> Tensor:
        ctx.mark_dirty(tensor)
        return tensor

    @staticmethod
    def backward(ctx: Any, *backs: Tensor) -> tuple[None, None]:
        return None, None
