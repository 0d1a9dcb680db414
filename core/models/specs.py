"""What a network is called: `KIND:NAME@WEIGHTS`, read without loading torch.

    reference                              trained here, on the given labels
    train:resnet18  train:resnet18@FILE    a torchvision network, trained here from scratch or from weights
    torchvision:resnet18@FILE              a finished network of torchvision's, its weights in a file
    torchvision:resnet18@DEFAULT           the same with torchvision's own weights (`timm:` likewise)
    code:MODULE:CALLABLE@FILE              a network that a person's own code makes
    features:FILE.npz  dynamics:FILE       what was computed elsewhere
    recorded                               what `Recorder(project)` kept

`Permissions` says what a run may do for a spec: run a person's code, download, and (inside the app) read which folders.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from core.data.sources.base import ROOTS, expanded, is_outside
from core.errors import ModelError

ALLOW_CODE = "GRADSIFT_ALLOW_CODE"  # "1" where the app was started with --allow-code
DEFAULT = "DEFAULT"  # in place of a file: the weights that the library itself offers
CODE_FORM = re.compile(r"(?P<name>.+?:[A-Za-z_][\w.]*)(?:@(?P<weights>.+))?", re.DOTALL)
PLAIN_FORM = re.compile(r"(?P<name>[^@]+?)(?:@(?P<weights>.+))?", re.DOTALL)
WEIGHT_FILES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".tar")

Weights = Literal["none", "may", "must"]
TRAINED_HERE = ("reference", "train")  # kinds that are trained on the given labels


@dataclass(frozen=True)
class ModelKind:
    """One kind of network: what stands before the colon, what it means and gives, and which parts follow.

    Attributes:
        gives: of "history", "logits" and "features", what a run has of it.
        named: whether a name follows the kind.
        weights: whether weights follow the name (for `features` and `dynamics`: whether a file follows the kind).
        default: whether `DEFAULT` may stand in place of a file.
    """

    name: str
    title: str
    meaning: str
    example: str
    gives: frozenset[str]
    named: bool = False
    weights: Weights = "none"
    default: bool = False


EVERYTHING, FINISHED = frozenset({"history", "logits", "features"}), frozenset({"logits", "features"})

MODELS: Mapping[str, ModelKind] = {
    kind.name: kind
    for kind in (
        ModelKind("reference", "Reference network", "A small network, trained here on the given labels.",
                  "reference", EVERYTHING),
        ModelKind("train", "Train a torchvision network", "Trained here on the given labels, from weights where given.",
                  "train:resnet18@weights.pt", EVERYTHING, named=True, weights="may", default=True),
        ModelKind("torchvision", "torchvision network", "A finished network: an architecture and its weights.",
                  "torchvision:resnet18@weights.pt", FINISHED, named=True, weights="must", default=True),
        ModelKind("timm", "timm network", "A finished network of the timm library (an extra: gradsift[models]).",
                  "timm:resnet18@weights.safetensors", FINISHED, named=True, weights="must", default=True),
        ModelKind("code", "Network from code", "A callable of your own returns the network. Your code is run.",
                  "code:model.py:make@weights.pt", FINISHED, named=True, weights="may"),
        ModelKind("features", "Features from a file", "Arrays sample_id, features and perhaps logits. Needs no images.",
                  "features:features.npz", FINISHED, weights="must"),
        ModelKind("dynamics", "Training dynamics from a file", "Logits of every epoch: guid, logits_epoch_X, gold.",
                  "dynamics:training_dynamics", frozenset({"history", "logits"}), weights="must"),
        ModelKind("recorded", "Recorded training", "What Recorder(project) kept of a training loop of your own.",
                  "recorded", EVERYTHING),
    )
}  # fmt: skip


@dataclass(frozen=True)
class ModelSpec:
    """A spec taken apart.

    Attributes:
        kind: a key of `MODELS`.
        name: the architecture, or MODULE:CALLABLE for `code`; "" for the kinds that have none.
        weights: the file that is read (for `features` and `dynamics` too), `DEFAULT`, or None.
    """

    kind: str
    name: str = ""
    weights: str | None = None

    def __str__(self) -> str:
        """Return the text that parses to this spec."""
        if not self.name:
            return self.kind if self.weights is None else f"{self.kind}:{self.weights}"
        return f"{self.kind}:{self.name}" + ("" if self.weights is None else f"@{self.weights}")

    @property
    def gives(self) -> frozenset[str]:
        """What a run has of it: "history", "logits", "features"."""
        return MODELS[self.kind].gives

    @property
    def file(self) -> Path | None:
        """The weights' or features' file, where one is named."""
        return None if self.weights is None or self.weights == DEFAULT else expanded(self.weights)

    @property
    def callable(self) -> tuple[str, str]:
        """Module (dotted, or the path of a .py file) and callable of a `code` spec."""
        module, _, name = self.name.rpartition(":")
        return module, name


@dataclass(frozen=True)
class Permissions:
    """What may be done for a spec.

    Attributes:
        code: run a person's own code (`code:`).
        download: fetch weights over the network (`@DEFAULT`).
        roots: the folders that files must lie in, as `GRADSIFT_ROOTS` holds them; empty for all.
    """

    code: bool = True
    download: bool = False
    roots: str = field(default="", repr=False)

    @classmethod
    def from_environment(cls, *, download: bool = False) -> Permissions:
        """Return what this process may do: everything at the command line, only what the app was told in its runs."""
        roots = os.environ.get(ROOTS, "")
        code = ROOTS not in os.environ or os.environ.get(ALLOW_CODE) == "1"
        return cls(code, download, roots)

    def check(self, spec: ModelSpec) -> None:
        """Raise ModelError where the spec asks for more than is permitted; nothing is opened."""
        if spec.kind == "code" and not self.code:
            raise ModelError(
                f"{spec} would run the code of {spec.callable[0]}, which this app was not allowed to. "
                "Start it with --allow-code, or run `gradsift sift` at the command line."
            )
        own_file = spec.kind == "code" and spec.callable[0].endswith(".py")
        for path in (spec.file, expanded(spec.callable[0]) if own_file else None):
            if path is not None and is_outside(str(path), self.roots):
                raise ModelError(f"{path} lies outside the folders this app may read. Start it with --root.")


def parse_model(text: str) -> ModelSpec:
    """Take a spec apart.

    Raises:
        ModelError: the kind is unknown, or a part is missing or too many; the message shows the right form.
    """
    kind_name, colon, rest = text.strip().partition(":")
    kind = MODELS.get(kind_name)
    if kind is None:
        raise ModelError(_unknown(text, kind_name))
    if not kind.named:
        if (kind.weights == "must") != bool(rest):
            raise _form(text, kind)
        return ModelSpec(kind_name, weights=rest or None)
    form = (CODE_FORM if kind_name == "code" else PLAIN_FORM).fullmatch(rest)
    if not colon or form is None:
        raise _form(text, kind)
    spec = ModelSpec(kind_name, form["name"], form["weights"])
    if spec.weights is None and kind.weights == "must":
        raise ModelError(
            f"{text} names no weights, and an untrained network says nothing of the labels. Write {text}@FILE"
            + (f", or {text}@{DEFAULT} for the library's own." if kind.default else ".")
        )
    if spec.weights == DEFAULT and not kind.default:
        raise ModelError(f"{text}: a network from code has no default weights. Name a file, or let the code load them.")
    return spec


def absolute_model(text: str) -> str:
    """Return the spec with every path in it absolute, so that it means the same from any folder.

    Raises:
        ModelError: as `parse_model` does.
    """
    spec = parse_model(text)
    name, weights = spec.name, spec.weights
    if spec.file is not None:
        weights = str(_absolute(spec.file))
    if spec.kind == "code" and (path := module_file(spec.callable[0])) is not None and path.is_relative_to(Path.cwd()):
        name = f"{path}:{spec.callable[1]}"
    return str(ModelSpec(spec.kind, name, weights))


def module_file(module: str) -> Path | None:
    """Return the file of a module (dotted, or a path that ends in .py), looked for from here; nothing is imported."""
    if module.endswith(".py") or os.sep in module:
        path = _absolute(expanded(module))
        return path if path.is_file() else None
    for folder in dict.fromkeys([str(Path.cwd()), *sys.path]):
        base = _absolute(Path(folder or ".")).joinpath(*module.split("."))
        for path in (base.with_name(base.name + ".py"), base / "__init__.py"):
            if path.is_file():
                return path
    return None


def _absolute(path: Path) -> Path:
    """Return an absolute path without following links (`..` is worked out as the shell does)."""
    return Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute keeps `..`, Path.resolve follows links)


def _unknown(text: str, kind: str) -> str:
    forms = ", ".join(each.example for each in MODELS.values())
    if Path(text).suffix in WEIGHT_FILES and (":" not in text or os.sep in kind):
        name, at, _ = text.partition("@")
        if at and name and os.sep not in name:
            return f"{text} names no kind of network. Say whose {name} it is: torchvision:{text}, for example."
        return f"{text} is a file of weights. Say whose they are: torchvision:resnet18@{text}, for example."
    near = get_close_matches(kind, MODELS, 1)
    meant = f" Did you mean {near[0]}?" if near else ""
    return f"Unknown model {text!r}.{meant} The forms are: {forms}."


def _form(text: str, kind: ModelKind) -> ModelError:
    return ModelError(f"{text!r} is not of the form of {kind.title.lower()}. Write it like this: {kind.example}")
