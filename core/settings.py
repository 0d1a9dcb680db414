"""What a run may be told, checked when it is made. Every default has its reason beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from core.errors import SettingsError

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")

# Title and reason of every setting, for people: what a screen shows beside each default.
EXPLAINED: Mapping[str, tuple[str, str]] = {
    "seed": ("Seed", "Every random choice follows from it: the same seed gives the same scores on the same machine."),
    "epochs": (
        "Epochs",
        "Left open: 20, and up to 60 for a small set, so that the training takes at least 500 steps where it can.",
    ),
    "batch_size": (
        "Batch size",
        "Images per step. On human label noise 64 ranked wrong labels higher than 128 did.",
    ),
    "learning_rate": (
        "Learning rate",
        "Its peak. On human label noise 0.2 ranked wrong labels higher than 0.1 did, at this batch size.",
    ),
    "weight_decay": ("Weight decay", "With the augmentation it keeps wrong labels from being learnt by heart."),
    "augment": (
        "Shifted and mirrored copies",
        "The network sees each image moved by up to an eighth, so it learns fewer wrong labels by heart.",
    ),
    "flip": ("Mirror images", "Left open: as the source says. Digits and letters must not be mirrored."),
    "image_size": (
        "Image side",
        "Pixels at which the network sees images. Left open: the images' median side, within 28 to 64.",
    ),
    "trees": (
        "Trees of the forest",
        "Two forests of 1,000 trees agree on three quarters of the worst 5 %, two of 100 on half of them.",
    ),
    "neighbours": ("Neighbours", "How many are kept per image. All measurements were made with 20."),
    "maps": ("Maps", "Two maps of the images, by gradients and by features. The ranking does not need them."),
    "device": ("Device", "Where it computes. Automatic: an accelerator where there is one, else the processor."),
    "precision": ("Precision", "Automatic: bfloat16 where the hardware computes in it, else float32."),
    "backbone": (
        "Backbone",
        "A pretrained network whose features judge labels beside the training. Good features are the largest lever.",
    ),
    "checkpoints": ("Checkpoints", "Weights saved while the model was trained, in order: they stand for its history."),
    "layer": ("Layer", "The layer that gives the logits. Left open: found by running the network once."),
    "transform": ("Transform", "How images become the model's input. Left open: as its weights say."),
    "reference": (
        "Reference network beside it",
        "A finished model alone has usually learnt its wrong labels by heart. This one is watched while it learns.",
    ),
    "models": ("Trainings", "With several seeds every score is a mean and has a spread, at as many times the cost."),
    "grand": ("GraNd at epochs", "Length of the gradient over all parameters. One more pass over the images each."),
}


@dataclass(frozen=True)
class SiftSettings:
    """Settings of `sift`. The budget is not among them: another budget asks for no new computation.

    Raises:
        SettingsError: a value is outside its range; the message names the setting, the value and the range.
    """

    seed: int = 0  # every random choice is a function of (seed, epoch, sample)
    epochs: int | None = None  # None: 20, more for a small set (see `core.models.train.planned_epochs`)
    # Batch 64, rate 0.2: average precision of mean_el2n + head, CIFAR-10N `worse` / `aggre`, one seed, .862 / .616;
    # 64 and 0.1 .855 / .604; 128 and 0.1 .841 / .565.
    batch_size: int = 64
    learning_rate: float = 0.2  # peak of the one-cycle schedule
    weight_decay: float = 5e-4  # with the augmentation it keeps wrong labels from being memorised
    augment: bool = True  # shift by up to an eighth and, where `flip`, mirror
    flip: bool | None = None  # None: as the source says (digits must not be mirrored)
    image_size: int | None = None  # None: the images' own median side, kept within 28 to 64 pixels
    trees: int = 1000  # 100 trees agree with themselves on half of the top 5 % only, 1,000 on three quarters
    neighbours: int = 20  # as in all measurements on human label noise; others were not compared
    maps: bool = True  # both UMAPs; the ranking does not need them
    device: str = "auto"
    precision: str = "auto"  # bfloat16 where the processor computes in it, else float32
    backbone: str | None = None  # a model spec; pretrained weights are not at hand everywhere, so none by default
    checkpoints: tuple[str, ...] = ()  # weight files of the person's own model, first to last
    layer: str | None = None  # None: the linear layer whose output is the network's output
    transform: str | None = None  # None: as the weights say (see `core.models.transform`)
    reference: bool = True  # a finished checkpoint without a history ranks human label errors badly
    models: int = 1  # trainings with the seeds seed, seed + 1, ...; one is enough for a ranking
    grand: tuple[str, ...] = ()  # "last" or an epoch from 1 on; costs a pass each, and mean_el2n says much the same

    def __post_init__(self) -> None:
        """Check every value."""
        self._within("seed", 0, 2**63 - 1)
        self._within("batch_size", 2, 65_536)
        self._within("learning_rate", 1e-6, 10.0)
        self._within("weight_decay", 0.0, 1.0)
        self._within("trees", 1, 100_000)
        self._within("neighbours", 1, 1_000)
        if self.epochs is not None:
            self._within("epochs", 1, 10_000)
        if self.image_size is not None:
            self._within("image_size", 8, 512)
        self._within("models", 1, 100)
        for name in ("backbone", "layer", "transform"):
            if not isinstance(getattr(self, name), str | None) or getattr(self, name) == "":
                raise SettingsError(f"{name} is {getattr(self, name)!r}; give a text, or leave it open.")
        for name in ("checkpoints", "grand"):
            object.__setattr__(self, name, self._texts(name))
        for switch in ("augment", "maps", "reference"):
            self._among(switch, (True, False))
        self._among("flip", (True, False, None))
        self._among("device", DEVICES)
        self._among("precision", PRECISIONS)

    def _texts(self, name: str) -> tuple[str, ...]:
        values = getattr(self, name)
        if isinstance(values, str) or not all(isinstance(value, str) and value for value in values):
            raise SettingsError(f"{name} is {values!r}; give a list of texts.")
        for value in values if name == "grand" else ():
            if value != "last" and not (value.isascii() and value.isdecimal() and int(value) >= 1):
                raise SettingsError(f"grand is {value!r}; give 'last' or an epoch, counted from 1.")
        return tuple(values)

    def _within(self, name: str, low: float | int, high: float | int) -> None:
        value, whole = getattr(self, name), isinstance(low, int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value <= high:
            number = f"whole number from {low} to {high}" if whole else f"number from {low:g} to {high:g}"
            raise SettingsError(f"{name} is {value!r}; give a {number}.")

    def _among(self, name: str, known: tuple[object, ...]) -> None:
        value = getattr(self, name)
        if value not in known:
            raise SettingsError(f"{name} is {value!r}; choose one of {', '.join(map(str, known))}.")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values, in the order of their definition."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SiftSettings:
        """Make settings from plain values; an unknown name is an error, not a guess."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise SettingsError(f"Unknown setting {unknown[0]!r}; the settings are {', '.join(sorted(known))}.")
        given: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**given)
