"""A finished network from its spec: architecture, weights, and how images become its input.

`load` gives a `Loaded`, ready for `core.models.passes.run_over`. Nothing of the person's is unpickled; code of theirs
runs only for `code:` specs, where it is permitted, and after it was said (`core.models.own_code`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor, nn

from core.data.sources.base import file_error
from core.errors import ModelError
from core.models.device import seeded
from core.models.own_code import code_digest, network_from_code
from core.models.specs import DEFAULT, ModelSpec, Permissions
from core.models.transform import Transform, at_own_size
from core.models.weights import Misfit, fit_weights, read_weights
from core.models.zoo import LIBRARIES, architecture, check_name, is_standard, put_in, renamed_for, standard_file
from core.progress import Progress

SMALL = 64  # pixels: images up to this side are fed at their own size where nothing says otherwise
PHOTOGRAPHS = Transform(256, 224)  # what nearly every network for photographs takes


@dataclass(frozen=True)
class Loaded:
    """A network ready for evaluation passes.

    Attributes:
        network: on the CPU, float32, in evaluation mode; `images (n channels side side) -> logits (n c)`.
        transform: how an image becomes its input.
        digest: SHA-256 (hex) of the spec's parts and the bytes of its files (`model_digest`).
        classes: how many logits it gives; None where the weights have no head: then its output is features.
        class_names: what its logits stand for, where the weights say so.
        notes: what a person must know, as sentences.
    """

    network: nn.Module
    transform: Transform
    digest: str
    classes: int | None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Made:
    """A network with its weights, before its transform is chosen."""

    network: nn.Module
    classes: int | None
    base: Transform
    stated: bool  # whether `base` is known to be the transform of these weights
    class_names: tuple[str, ...] | None
    notes: tuple[str, ...]


def load(
    spec: ModelSpec,
    classes: tuple[str, ...],
    settings_transform: str | None,
    permissions: Permissions,
    image_side: int,
    *,
    progress: Progress | None = None,
) -> Loaded:
    """Load a finished network (`torchvision`, `timm` or `code`).

    Args:
        spec: of one of these kinds.
        classes: the data's class names; a network of another class count serves as a feature extractor, and a note says
            so. Empty: nothing is said of that.
        settings_transform: the text form of a transform, or None; parts left out are as they would be without it.
        permissions: whether code may be run and weights fetched, and where files may lie.
        image_side: the median of the images' longer sides, in pixels.
        progress: is told by a note before code is run or anything is fetched.

    Raises:
        ModelError: it cannot be loaded; the message says why and what to do.
        SettingsError: the transform is none.
    """
    permissions.check(spec)
    progress = progress or Progress()
    if spec.kind != "code" and spec.kind not in LIBRARIES:
        raise ModelError(f"{spec} is no finished network. Finished networks are torchvision:, timm: and code:.")
    with seeded(0):  # making a network draws first weights; the global generator stays as it was
        own = spec.kind == "code"
        made = (
            _from_code(spec, len(classes), permissions, progress) if own else _from_library(spec, permissions, progress)
        )
    network = _Plain(made.network.float().cpu().eval())
    transform, said = _choose_transform(spec, network, made, settings_transform, image_side)
    width = _check_answer(spec, network, transform)
    count = width if spec.kind == "code" else made.classes
    notes = (*made.notes, said, *_said_of_classes(spec, count, len(classes)))
    plain = network if network.unwraps else network.network
    return Loaded(plain, transform, model_digest(spec), count, made.class_names, notes)


def _from_code(spec: ModelSpec, classes: int, permissions: Permissions, progress: Progress) -> _Made:
    network, note = network_from_code(spec, classes, permissions, progress)
    notes: tuple[str, ...] = (note,)
    if spec.file is not None:
        try:
            notes += fit_weights(network, read_weights(spec.file), spec.callable[1])
        except Misfit as error:
            raise ModelError(f"{error} Name the callable that makes the network they were trained in.") from error
    base = PHOTOGRAPHS if _channels(network) == 3 else _grey(PHOTOGRAPHS)
    return _Made(network, None, base, False, None, notes)


def _from_library(spec: ModelSpec, permissions: Permissions, progress: Progress) -> _Made:
    library = LIBRARIES[spec.kind]
    check_name(spec)  # told before anything is fetched or read
    path = spec.file or standard_file(spec, permissions, progress)
    weights = renamed_for(spec, read_weights(path))
    stated = is_standard(spec, file_digest(path))
    network = architecture(spec, pretrained=stated)
    if not any(part in name for name in weights.tensors for part in ("aux1.", "AuxLogits.")):
        _take_off_side_heads(network)
    count, notes = put_in(network, weights, spec)
    standard = library.standard(spec.name) if stated else None
    names = standard.class_names if standard and standard.class_names and len(standard.class_names) == count else None
    return _Made(network, count, library.transform(spec.name), stated, names, notes)


def _take_off_side_heads(network: nn.Module) -> None:
    for name in ("aux1", "aux2", "AuxLogits"):
        if isinstance(getattr(network, name, None), nn.Module):
            setattr(network, name, None)
            network.aux_logits = False  # type: ignore[assignment]


class _Plain(nn.Module):
    """Takes the logits out of what a network returns: the first of several outputs, or the one called logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.unwraps = False

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits."""
        answer = self.network(images)
        if isinstance(answer, Tensor):
            return answer
        self.unwraps = True
        found = answer.get("logits") if isinstance(answer, Mapping) else getattr(answer, "logits", None)
        if found is None and isinstance(answer, tuple | list) and answer:
            found = answer[0]
        if not isinstance(found, Tensor):
            raise ModelError(f"The network returns a {type(answer).__name__} without logits. Wrap it so that it does.")
        return found


def _choose_transform(
    spec: ModelSpec, network: nn.Module, made: _Made, text: str | None, image_side: int
) -> tuple[Transform, str]:
    """Return the transform, and a sentence that says which it is and who says so."""
    automatic = _automatic(network, made, image_side)
    if text is not None:
        chosen = _told(network, text, automatic)
        return chosen, f"Images become the input of {spec.kind}:{spec.name} by {chosen} (asked for: {text})."
    if made.stated:
        return automatic, f"Images become the input of {spec.kind}:{spec.name} by {automatic}, as its weights say."
    return automatic, (
        f"The weights do not say how images become their input. Taken for granted: {automatic}. "
        "Set --transform where the training had another."
    )


def _automatic(network: nn.Module, made: _Made, image_side: int) -> Transform:
    """Return the transform that is taken where nobody names one."""
    own = at_own_size(made.base, image_side)
    small = not made.stated and image_side <= SMALL
    return own if small and _refusal(network, own) is None else made.base


def _told(network: nn.Module, text: str, automatic: Transform) -> Transform:
    """Return the transform of a text; its one mean stands for three where the network takes colour only."""
    told = Transform.parse(text, automatic)
    if told.channels == automatic.channels or told.channels == 3 or _refusal(network, told) is None:
        return told
    return told.in_colour() if _refusal(network, told.in_colour()) is None else told


def _refusal(network: nn.Module, transform: Transform) -> Exception | None:
    """Return what a network raises for images of a transform's size, or None."""
    try:
        _answer(network, transform)
    except MemoryError:
        raise
    except Exception as error:  # code of torchvision, timm or the person's own
        return error
    return None


def _answer(network: nn.Module, transform: Transform) -> Tensor:
    with torch.inference_mode():
        found: Tensor = network(torch.zeros(2, transform.channels, transform.side, transform.side))
    return found


def _check_answer(spec: ModelSpec, network: nn.Module, transform: Transform) -> int:
    """Run the network on two black images; return the width of its output.

    Raises:
        ModelError: it fails, or gives something else than a row per image.
    """
    error = _refusal(network, transform)
    if isinstance(error, ModelError):
        raise error
    if error is not None:
        why = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{spec} fails on images of {transform.side} × {transform.side} pixels, {transform.channels} channels "
            f"({type(error).__name__}: {why}). Set --transform to what it was trained with."
        ) from error
    answer = _answer(network, transform)
    if answer.ndim < 2 or len(answer) != 2:
        raise ModelError(
            f"{spec} returns {tuple(answer.shape)} for 2 images, not a row for each. Wrap it so that it does."
        )
    return int(answer.shape[1])


def _channels(network: nn.Module) -> int:
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return 1 if first is not None and first.in_channels == 1 else 3


def _grey(transform: Transform) -> Transform:
    mean, std = sum(transform.mean) / 3, sum(transform.std) / 3
    return Transform(transform.resize, transform.crop, (round(mean, 4),), (round(std, 4),), transform.interpolation)


def _said_of_classes(spec: ModelSpec, count: int | None, classes: int) -> tuple[str, ...]:
    if not classes or count == classes:
        return ()
    what = "has no head" if count is None else f"knows {count:,} classes, the data has {classes:,}"
    return (f"{spec} {what}: it serves as a feature extractor, and a head fitted to its features gives the logits.",)


def model_digest(spec: ModelSpec) -> str:
    """Return the SHA-256 (hex) of a spec's parts and the bytes of its files; nothing is run, loaded or fetched.

    Raises:
        ModelError: a file is missing.
    """
    parts = [spec.kind]
    if spec.kind == "code":
        parts += [spec.callable[1], code_digest(spec)]
    else:
        parts.append(spec.name)
    if spec.weights == DEFAULT:
        parts += [DEFAULT, _installed("torchvision" if spec.kind == "train" else spec.kind)]
    elif spec.file is not None:
        parts.append(_content(spec.file))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 (hex) of a file, worked out anew only where the file has changed.

    Raises:
        ModelError: it cannot be read.
    """
    if reason := file_error(path):
        raise ModelError(f"{path} cannot be read: {reason}. Check the path.")
    status = path.stat()
    return _digest_of(str(path), status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=256)
def _digest_of(path: str, *_: int) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}). Check the file.") from error


def _content(path: Path) -> str:
    """Return the digest of a file, or of the JSON Lines in a folder (training dynamics)."""
    if not path.is_dir():
        return file_digest(path)
    return json.dumps([[each.name, file_digest(each)] for each in sorted(path.glob("*.jsonl"))])


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
