"""Architectures by name, and the weights that their libraries offer of them: torchvision, and timm where installed.

`LIBRARIES` is the whole table. A library's own weights are read by the same careful reader as anyone's; they are
fetched only where that is permitted, and otherwise the message says what to fetch and where to put it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import ModelError
from core.models.device import seeded
from core.models.specs import DEFAULT, ModelSpec, Permissions
from core.models.transform import Transform, for_classifier, for_timm
from core.models.weights import COUNTER, Misfit, Weights, fit_weights, named_for
from core.progress import Progress

HASH = re.compile(r"-([0-9a-f]{8,})\.")  # in a file's name: how its SHA-256 begins
DENSE = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")  # as torchvision's own weights have it
# Two networks change their input where they were pretrained, and have heads beside the last one.
WITH_SIDE_HEADS = ("googlenet", "inception_v3")


@dataclass(frozen=True)
class Standard:
    """The weights that a library offers.

    Attributes:
        url: where they are fetched from.
        file: where they are looked for and put.
        sha256: how their digest begins, or "" where that is not known.
        class_names: what the logits stand for.
    """

    url: str
    file: Path
    sha256: str = ""
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Library:
    """Where architectures come from.

    Attributes:
        build: name to a new network, its first weights drawn from torch's current generator.
        names: every name.
        transform: the standard transform of a name.
        standard: the library's own weights of a name, or None.
    """

    build: Callable[[str, bool], nn.Module]
    names: Callable[[], list[str]]
    transform: Callable[[str], Transform]
    standard: Callable[[str], Standard | None]


def architecture(spec: ModelSpec, *, pretrained: bool = False) -> nn.Module:
    """Return a new network of a spec's architecture (with the library's class count, usually 1,000).

    Args:
        spec: of a kind in `LIBRARIES`.
        pretrained: whether the library's own weights follow (GoogLeNet and Inception then change their input).

    Raises:
        ModelError: the library is not installed, or has no such architecture.
    """
    check_name(spec)
    with seeded(0):  # the first weights are replaced; the global generator stays as it was
        return LIBRARIES[spec.kind].build(spec.name, pretrained)


def check_name(spec: ModelSpec) -> None:
    """Raise ModelError unless the library is installed and has an architecture of the spec's name."""
    names = LIBRARIES[spec.kind].names()
    if spec.name.split(".")[0] not in names:
        near = get_close_matches(spec.name, names, 3)
        meant = f"Did you mean {' or '.join(near)}?" if near else f"It has {len(names):,}, for example resnet18."
        raise ModelError(f"{spec.kind} has no architecture {spec.name!r}. {meant}")


def classifier_of(network: nn.Module) -> str | None:
    """Return the name of the linear layer that gives the classes: the last one of the library's class count."""
    count = getattr(network, "num_classes", 1000)
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    fitting = [name for name in layers if network.get_submodule(name).out_features == count]
    return fitting[-1] if fitting else None


def with_head_of(network: nn.Module, weights: Weights) -> tuple[Weights, int | None]:
    """Give a network the head that the weights were trained with.

    A head of another class count is put in place; one that was replaced by dropout and a linear layer is recognised;
    where the weights have none, the network ends in what the head would take.

    Returns:
        The weights under the network's own names, and the class count, None where there is no head.
    """
    head = classifier_of(network)
    weights = named_for(network.state_dict(), weights)
    if head is None:
        return weights, getattr(network, "num_classes", None) or None
    weights = _with_plain_head(network, head, weights)
    layer = network.get_submodule(head)
    kernel = weights.tensors.get(f"{head}.weight")
    if kernel is None:
        if not any(name.startswith(f"{head}.") for name in weights.tensors):
            network.set_submodule(head, nn.Identity())
            return weights, None
    elif kernel.ndim == 2 and kernel.shape[1] == layer.in_features and len(kernel) != layer.out_features:
        has_bias = f"{head}.bias" in weights.tensors
        with seeded(0):
            network.set_submodule(head, nn.Linear(kernel.shape[1], len(kernel), bias=has_bias))
    replaced = network.get_submodule(head)
    return weights, int(replaced.out_features) if isinstance(replaced, nn.Linear) else None


def _with_plain_head(network: nn.Module, head: str, weights: Weights) -> Weights:
    """Rename the head's tensors where it was replaced by one linear layer (and dropout) elsewhere in its place."""
    tensors = dict(weights.tensors)
    parent = head.rpartition(".")[0]
    alone = parent and all(
        name.startswith(f"{head}.") for name in network.state_dict() if name.startswith(f"{parent}.")
    )
    for place in (head, parent) if alone else (head,):
        inside = [name for name in tensors if name.startswith(f"{place}.")]
        matrices = [name for name in inside if tensors[name].ndim == 2 and name.endswith(".weight")]
        if f"{head}.weight" in tensors or len(matrices) != 1 or len(inside) > 2:
            continue
        renamed = {name: f"{head}.{name.rpartition('.')[2]}" for name in inside}
        tensors = {renamed.get(name, name): tensor for name, tensor in tensors.items()}
    return Weights(weights.name, tensors, weights.notes)


def put_in(network: nn.Module, weights: Weights, spec: ModelSpec) -> tuple[int | None, tuple[str, ...]]:
    """Give a network its weights and the head that they were trained with.

    Returns:
        The class count, None where there is no head, and what must be said.

    Raises:
        ModelError: they do not fit; the message says which keys and shapes differ, and which architecture they fit.
    """
    given = weights
    weights, count = with_head_of(network, weights)
    try:
        return count, fit_weights(network, weights, spec.name)
    except Misfit as error:
        others = fitting(spec, given)
        advice = f"They fit {' and '.join(others)}." if others else (
            "Name the architecture that they were trained in; for one that was changed (another first layer, another "
            "head), give the code that makes it: code:FILE.py:CALLABLE@WEIGHTS"
        )  # fmt: skip
        raise ModelError(f"{error} {advice}") from error


def fitting(spec: ModelSpec, weights: Weights) -> list[str]:
    """Return the torchvision architectures of the same family that the weights fit, the head aside."""
    family = re.match("[a-z]*", spec.name)
    if spec.kind != "torchvision" or family is None or not family[0]:
        return []
    return [name for name in LIBRARIES[spec.kind].names() if name.startswith(family[0]) and _fits(name, weights)]


def _fits(name: str, weights: Weights) -> bool:
    try:
        with torch.device("meta"):  # shapes alone: no memory, hardly any time
            network = _torchvision_build(name, False)
        head = classifier_of(network)
        targets = {key: value.shape for key, value in network.state_dict().items()}
        held = named_for(targets, weights).tensors
    except (ModelError, RuntimeError, NotImplementedError):
        return False
    apart = () if head is None else (f"{head}.weight", f"{head}.bias")
    told = {key: shape for key, shape in targets.items() if key not in apart and not key.endswith(COUNTER)}
    return not set(held) - set(targets) and all(key in held and held[key].shape == told[key] for key in told)


def standard_file(spec: ModelSpec, permissions: Permissions, progress: Progress) -> Path:
    """Return the file of a library's own weights, fetched where that is permitted and needed.

    Raises:
        ModelError: there are none, they are not here and may not be fetched, or fetching failed.
    """
    standard = LIBRARIES[spec.kind].standard(spec.name)
    if standard is None:
        raise ModelError(f"{spec.kind} offers no weights of {spec.name}. Name a file: {spec.kind}:{spec.name}@FILE")
    if standard.file.is_file():
        return standard.file
    by_hand = (
        f"Fetch {standard.url} and put it into {standard.file.parent} as {standard.file.name}, "
        f"or name your copy: {spec.kind}:{spec.name}@FILE"
    )
    if not permissions.download:
        raise ModelError(f"The weights of {spec} are not on this machine. Allow it with --download. Or: {by_hand}")
    progress.note(f"Fetching {standard.url}")
    try:
        standard.file.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(standard.url, str(standard.file), standard.sha256 or None, progress=False)
    except (OSError, RuntimeError, ValueError) as error:  # urllib's errors are OSErrors, a wrong digest a RuntimeError
        why = " ".join(str(error).split())
        raise ModelError(f"The weights of {spec} could not be fetched ({why}). {by_hand}") from error
    return standard.file


def is_standard(spec: ModelSpec, digest: str) -> bool:
    """Whether a file of this SHA-256 (hex) is the library's own weights."""
    if spec.weights == DEFAULT:
        return True
    standard = LIBRARIES[spec.kind].standard(spec.name)
    return standard is not None and standard.sha256 != "" and digest.startswith(standard.sha256)


def renamed_for(spec: ModelSpec, weights: Weights) -> Weights:
    """Return weights of an old naming under today's names (torchvision's DenseNets)."""
    if spec.kind == "timm" or not spec.name.startswith("densenet"):
        return weights
    tensors: dict[str, Tensor] = {DENSE.sub(r"\1\2", name): tensor for name, tensor in weights.tensors.items()}
    return Weights(weights.name, tensors, weights.notes)


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _torchvision_build(name: str, pretrained: bool) -> nn.Module:
    from torchvision import models

    extra: Mapping[str, Any] = {}
    if name in WITH_SIDE_HEADS:
        extra = {"init_weights": False, "transform_input": pretrained}
    network: nn.Module = models.get_model(name, weights=None, **extra)
    return network


def _torchvision_names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def _torchvision_weights(name: str) -> Any:
    from torchvision import models

    return getattr(models.get_model_weights(name), DEFAULT, None)


def _torchvision_transform(name: str) -> Transform:
    weights = _torchvision_weights(name)
    return Transform(256, 224) if weights is None else for_classifier(weights.transforms())


def _torchvision_standard(name: str) -> Standard | None:
    weights = _torchvision_weights(name)
    if weights is None:
        return None
    file = _checkpoints() / PurePosixPath(weights.url).name
    begins = HASH.search(file.name)
    return Standard(weights.url, file, begins[1] if begins else "", tuple(weights.meta["categories"]))


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise ModelError("timm is not installed. Install the extra: pip install 'gradsift[models]'") from error
    return timm


def _timm_build(name: str, _: bool) -> nn.Module:
    network: nn.Module = _timm().create_model(name, pretrained=False)
    return network


def _timm_names() -> list[str]:
    return list(_timm().list_models())


def _timm_config(name: str) -> Any:
    try:
        return _timm().models.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ModelError(f"timm has no weights called {name!r}: {error}. Leave out what follows the dot.") from error


def _timm_transform(name: str) -> Transform:
    config = _timm_config(name)
    known = config.to_dict() if config is not None else {}
    return for_timm(_timm().data.resolve_data_config(pretrained_cfg=known or None, args={"in_chans": 3}))


def _timm_standard(name: str) -> Standard | None:
    config = _timm_config(name)
    if config is None or not config.has_weights:
        return None
    if not config.hf_hub_id:
        return Standard(config.url, _checkpoints() / PurePosixPath(config.url).name) if config.url else None
    from huggingface_hub import hf_hub_url, try_to_load_from_cache

    held = "model.safetensors"
    kept = try_to_load_from_cache(config.hf_hub_id, held)
    file = (
        Path(kept) if isinstance(kept, str) else _checkpoints() / f"{config.hf_hub_id.replace('/', '--')}.safetensors"
    )
    return Standard(hf_hub_url(config.hf_hub_id, held), file)


LIBRARIES: Mapping[str, Library] = {
    "torchvision": Library(_torchvision_build, _torchvision_names, _torchvision_transform, _torchvision_standard),
    "timm": Library(_timm_build, _timm_names, _timm_transform, _timm_standard),
}
