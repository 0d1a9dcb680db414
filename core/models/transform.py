"""How an encoded image becomes a network's input, as one line of text.

    resize=256,crop=224,mean=0.485/0.456/0.406,std=0.229/0.224/0.225,interpolation=bilinear

`resize` with `crop`: the shorter side to `resize`, then the middle `crop` x `crop`, as torchvision does it. `resize`
alone: squashed to a square of that side. Values are divided by 255, then `(value - mean) / std` per channel; one mean
and one deviation make the image grey, one beside three stands for all three. Pixels stay bytes until a whole batch is
on its device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.axes import Array, UInt8
from core.data.images import decode
from core.errors import SettingsError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LARGEST = 2048  # pixels along one side: a batch of one is then 50 MB
LONGEST = 16  # longer side over shorter side; what reaches beyond is cut off, it would not be seen anyway
INTERPOLATIONS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


@dataclass(frozen=True)
class Transform:
    """`str(transform)` and `Transform.parse(text)` are each other's inverse.

    Attributes:
        resize: pixels of the shorter side, or of both where there is no crop.
        crop: pixels of the square cut out of the middle, or None.
        mean: per channel, of values in 0..1; three for RGB, one for grey.
        std: per channel, likewise.
        interpolation: `nearest`, `bilinear`, `bicubic` or `lanczos`, each smoothed where the image shrinks.

    Raises:
        SettingsError: a value is out of its range.
    """

    resize: int
    crop: int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name, side in (("resize", self.resize), ("crop", self.crop)):
            if side is not None and not 1 <= side <= LARGEST:
                raise SettingsError(f"{name} of the transform is {side}; give 1 to {LARGEST} pixels.")
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            raise SettingsError(
                f"The transform has {len(self.mean)} means and {len(self.std)} deviations; give three of each, for "
                "example mean=0.5/0.5/0.5,std=0.5/0.5/0.5, or one."
            )
        if not all(map(math.isfinite, self.mean)) or not all(0 < value < math.inf for value in self.std):
            raise SettingsError("Means of the transform must be finite and deviations above 0.")
        if self.interpolation not in INTERPOLATIONS:
            raise SettingsError(f"interpolation is {self.interpolation!r}; choose one of {', '.join(INTERPOLATIONS)}.")

    def __str__(self) -> str:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ",".join(f"{name}={_text(value)}" for name, value in values if value is not None)

    @classmethod
    def parse(cls, text: str, base: Transform | None = None) -> Transform:
        """Read the text form; what it leaves out is as in `base`, and the crop goes where only `resize` is given.

        One mean beside three deviations stands for each channel, and the other way round.

        Raises:
            SettingsError: a part is unknown or is no number.
        """
        known = {field.name for field in fields(cls)}
        values: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or name not in known or name in values:
                raise SettingsError(f"The transform holds {part!r}. Write it like this: {cls(256, 224)}")
            values[name] = _value(name, value)
        before = {} if base is None else {field.name: getattr(base, field.name) for field in fields(cls)}
        if "resize" in values:
            before.pop("crop", None)
        if "resize" not in values and not before:
            raise SettingsError(f"The transform {text!r} has no resize. Write it like this: {cls(256, 224)}")
        parts = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, **before, **values}
        channels = max(len(parts["mean"]), len(parts["std"]))
        return cls(**{**parts, **{name: _for_each(parts[name], channels) for name in ("mean", "std")}})

    def in_colour(self) -> Transform:
        """Return the transform for RGB, where it is for grey with the same mean and deviation in each channel."""
        return replace(self, mean=_for_each(self.mean, 3), std=_for_each(self.std, 3))

    @property
    def side(self) -> int:
        """Pixels along each side of the network's input."""
        return self.crop or self.resize

    @property
    def channels(self) -> int:
        """3 for RGB, 1 for grey."""
        return len(self.mean)

    def pixels(self, data: bytes) -> UInt8[Array, "side side channels"]:
        """Return an encoded image as the bytes that the network's input is made of.

        Raises:
            InputError: the bytes are no image that can be read.
        """
        image = Image.fromarray(decode(data))
        if self.crop is not None:
            image = _not_endless(image)
        size = self._resized(*image.size)
        if size != image.size:
            image = image.resize(size, INTERPOLATIONS[self.interpolation])
        if self.crop is not None and image.size != (self.crop, self.crop):
            left, top = (_before(length, self.crop) for length in image.size)
            image = image.crop((left, top, left + self.crop, top + self.crop))  # black where it reaches over the edge
        values = np.asarray(image if self.channels == 3 else image.convert("L"))
        return values.reshape(self.side, self.side, self.channels)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        if self.crop is None:
            return self.resize, self.resize
        short, long = sorted((width, height))
        longer = max(1, int(self.resize * long / short))
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def normalise(self, pixels: Tensor) -> Tensor:
        """Turn bytes `n side side channels` into `n channels side side`, float32, channels last in memory."""
        mean, std = (torch.tensor(values, device=pixels.device) for values in (self.mean, self.std))
        return pixels.float().div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


def _not_endless(image: Image.Image) -> Image.Image:
    """Cut the middle out of a strip: its longer side would grow beyond all memory with the shorter one."""
    limit = LONGEST * min(image.size)
    if max(image.size) <= limit:
        return image
    width, height = (min(length, limit) for length in image.size)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _before(length: int, crop: int) -> int:
    """Return where the middle `crop` of `length` pixels begins, to the pixel as torchvision has it."""
    if length < crop:
        return -((crop - length) // 2)
    return round((length - crop) / 2.0)


def _text(value: object) -> str:
    return "/".join(map(repr, value)) if isinstance(value, tuple) else str(value)


def _value(name: str, text: str) -> object:
    readers: Mapping[str, Callable[[str], object]] = {
        "interpolation": str,
        "mean": _numbers,
        "std": _numbers,
    }
    try:
        return readers.get(name, int)(text)
    except ValueError as error:
        raise SettingsError(f"{name} of the transform is {text!r}, which is no number.") from error


def _for_each(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    return values * channels if len(values) == 1 else values


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split("/"))


def for_classifier(preset: Any) -> Transform:
    """Return what torchvision's preset of a classifier's weights does."""
    return Transform(
        int(preset.resize_size[0]),
        int(preset.crop_size[0]),
        tuple(map(float, preset.mean)),
        tuple(map(float, preset.std)),
        str(preset.interpolation.value),
    )


def for_timm(config: Mapping[str, Any]) -> Transform:
    """Return what timm's data configuration says (`timm.data.resolve_data_config`)."""
    side = int(config["input_size"][-1])
    middle = config.get("crop_mode", "center") != "squash"
    interpolation = config["interpolation"] if config["interpolation"] in INTERPOLATIONS else "bicubic"
    return Transform(
        math.floor(side / config["crop_pct"]) if middle else side,
        side if middle else None,
        tuple(map(float, config["mean"])),
        tuple(map(float, config["std"])),
        interpolation,
    )


def at_own_size(transform: Transform, side: int) -> Transform:
    """Return the transform for images fed at their own size: squashed to `side`, nothing cut off."""
    return Transform(side, None, transform.mean, transform.std, transform.interpolation)
