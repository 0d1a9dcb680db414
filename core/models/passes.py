"""One evaluation pass of a network over every image: its logits, and what its last linear layer takes.

Images are decoded in threads while the network computes; they stay bytes until a whole batch is on the device, so that
the network, not the decoding, sets the pace.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.axes import Array, Float, Integer
from core.data.images import read_decoded
from core.data.manifest import Manifest
from core.errors import InputError, ModelError
from core.models.device import Compute
from core.models.head import evaluating, find_head, layer_name, through_head
from core.models.load import Loaded
from core.models.transform import Transform
from core.progress import Progress

# Numbers in the largest output of any layer for one batch. On a processor 4 million (16 MB) were fastest: ResNet-18
# with the CIFAR stem takes 5.2 to 5.9 ms an image of 32 pixels in batches of 32 and 64, 6.9 ms in batches of 256.
BATCH_NUMBERS = {"cpu": 2**22, "mps": 2**25, "cuda": 2**28}
SMALLEST_BATCH, LARGEST_BATCH = 4, 1024


@dataclass(frozen=True)
class Pass:
    """What one pass gives, in the manifest's order.

    Attributes:
        logits: float32, `n c` (of the head's own class count); no column where the network has no head.
        inputs: float32, what the head takes, without the bias's constant 1.
        bias: whether the head has a bias.
        layer: the head's name in the network; "" where there is none and its output are the features.
        facts: transform, layer, batch, device: for the run's record.
    """

    logits: Float[Array, "n c"]
    inputs: Float[Array, "n d"]
    bias: bool
    layer: str
    facts: Mapping[str, Any]


def run_over(
    loaded: Loaded,
    manifest: Manifest,
    compute: Compute,
    progress: Progress,
    layer: str | None = None,
    *,
    stage: str = "features",
    folder: Path | None = None,
) -> Pass:
    """Run a network over every image of a manifest, in float32 and evaluation mode.

    Args:
        loaded: the network and its transform; the network is left on the device.
        manifest: the rows; images are read from its source.
        compute: the device; its number type is not used.
        progress: told `stage` with each batch of images.
        layer: the name of the linear layer that gives the logits; None to find it by running the network once.
        stage: the name under which progress is reported.
        folder: where `logits.npy` and `inputs.npy` are written and mapped from; None to hold both in memory.

    Raises:
        InputError: images that could be read when the project was made are gone, or are others now.
        ModelError: the logits are no linear layer's output, are not finite, or a single image does not fit in memory.
    """
    network = loaded.network.to(compute.device).to(memory_format=torch.channels_last)
    written: dict[str, Array] = {}
    with evaluating(network), torch.inference_mode(), full_precision():
        example = _example(loaded.transform, compute.device)
        runner = _Runner(network, batch_size(network, example), progress)
        runner.find(example, loaded.classes, len(manifest.classes), layer)
        for rows, images in batches(loaded, manifest, compute.device, runner.size, progress, stage):
            logits, inputs = runner.run(images)
            for name, values in (("logits", logits), ("inputs", inputs)):
                if name not in written:
                    written[name] = _room(folder, name, len(manifest), values.shape[1])
                written[name][rows] = values
            _check_finite(logits, inputs, rows, manifest)
    head = runner.head
    facts = {
        "transform": str(loaded.transform), "layer": runner.layer, "batch": runner.size, "model": loaded.digest,
        **Compute(compute.device, torch.float32).describe(),
    }  # fmt: skip
    has_bias = head is not None and head.bias is not None
    return Pass(written["logits"], written["inputs"], has_bias, runner.layer, facts)


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute convolutions and products on an NVIDIA device in float32 inside the block, not in TF32's 10 bits."""
    switches: tuple[Any, ...] = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = False
        yield
    finally:
        for switch, was in zip(switches, before, strict=True):
            switch.allow_tf32 = was


def _example(transform: Transform, device: torch.device) -> Tensor:
    """Return two images of noise as a network takes them: on noise no two layers give the same."""
    shape = (2, transform.side, transform.side, transform.channels)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return transform.normalise(torch.from_numpy(noise).to(device))


def batch_size(network: nn.Module, example: Tensor) -> int:
    """Return how many images to run at once, from the largest output of any layer for an example."""
    largest = [example.numel()]

    def note(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            largest.append(output.numel())

    hooks = [module.register_forward_hook(note) for module in network.modules()]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    fitting = BATCH_NUMBERS[example.device.type] * len(example) // max(largest)
    return int(2 ** (min(max(fitting, SMALLEST_BATCH), LARGEST_BATCH).bit_length() - 1))


def batches(
    loaded: Loaded, manifest: Manifest, device: torch.device, size: int, progress: Progress, stage: str
) -> Iterator[tuple[Integer[Array, " n"], Tensor]]:
    """Yield (rows, images) of a manifest as the network takes them, in the source's order of storage.

    Raises:
        InputError: at the end, where images are gone or have changed.
    """
    transform, ids = loaded.transform, manifest.ids
    row_of, digests = {sample: row for row, sample in enumerate(ids)}, list(manifest.rows["sha256"])
    rows = np.empty(size, np.int64)
    pixels = np.empty((size, transform.side, transform.side, transform.channels), np.uint8)
    filled, count, reason = 0, 0, ""

    def read(data: bytes) -> tuple[str, Array]:
        return hashlib.sha256(data).hexdigest(), transform.pixels(data)

    def ready() -> tuple[Integer[Array, " n"], Tensor]:
        return rows[:filled].copy(), transform.normalise(torch.from_numpy(pixels[:filled]).to(device))

    for sample, found in read_decoded(manifest.source, list(ids), read, stage, progress):
        if isinstance(found, InputError) or found[0] != digests[row_of[sample]]:
            why = found if isinstance(found, InputError) else "not the image it was"
            reason = reason or f" (the first, {sample}: {why})"
            continue
        rows[filled], pixels[filled] = row_of[sample], found[1]
        filled, count = filled + 1, count + 1
        if filled == size:
            yield ready()
            filled = 0
    if filled:
        yield ready()
    if missing := len(manifest) - count:
        raise InputError(
            f"{missing:,} of {len(manifest):,} images are gone or have changed since the project was made{reason}. "
            "Bring them back, or make the project anew."
        )


class _Runner:
    """A network with its head, and the batch that fits into memory."""

    def __init__(self, network: nn.Module, size: int, progress: Progress) -> None:
        self.network, self.size, self.progress = network, size, progress
        self.head: nn.Linear | None = None
        self.layer = ""

    def find(self, example: Tensor, own_classes: int | None, classes: int, layer: str | None) -> None:
        """Find the head; a network whose class count is not the data's may be without one, and gives features."""
        if own_classes is None and layer is None:
            return
        try:
            self.head = find_head(self.network, example, layer)
        except ModelError:
            if layer is not None or own_classes == classes:
                raise
            return
        self.layer = layer_name(self.network, self.head)

    def run(self, images: Tensor) -> tuple[Array, Array]:
        """Return logits and inputs of a batch; one that does not fit into memory is halved until it does."""
        parts = []
        begin = 0
        while begin < len(images):
            try:
                parts.append(self._forward(images[begin : begin + self.size]))
                begin += self.size
            except (RuntimeError, MemoryError) as error:  # torch's own is a RuntimeError
                if not _out_of_memory(error):
                    raise
                self._halve(images, error)
        logits, inputs = zip(*parts, strict=True)
        return np.concatenate(logits), np.concatenate(inputs)

    def _halve(self, images: Tensor, error: Exception) -> None:
        if self.size == 1:
            raise ModelError(
                f"Not even one image of {images.shape[-1]} × {images.shape[-1]} pixels fits into memory with this "
                "network. Set a smaller --transform, or another --device."
            ) from error
        self.size = min(self.size, len(images)) // 2 or 1
        if images.device.type == "cuda":
            torch.cuda.empty_cache()
        self.progress.note(f"The memory is too small for that many images at once; goes on with {self.size}.")

    def _forward(self, images: Tensor) -> tuple[Array, Array]:
        if self.head is None:
            features = _pooled(self.network(images)).float().cpu().numpy()
            return np.empty((len(features), 0), np.float32), features
        logits, inputs = through_head(self.network, self.head, images)
        return logits.float().cpu().numpy(), inputs.float().cpu().numpy()


def _out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text


def _pooled(features: Tensor) -> Tensor:
    """Return a row per image: maps are averaged over their pixels, tokens over their sequence."""
    if features.ndim == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.ndim == 3 else features


def _room(folder: Path | None, name: str, rows: int, columns: int) -> Array:
    if folder is None or not columns:
        return np.empty((rows, columns), np.float32)
    array: Array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=np.float32, shape=(rows, columns))
    return array


def _check_finite(logits: Array, inputs: Array, rows: Array, manifest: Manifest) -> None:
    good = np.isfinite(logits).all(1) & np.isfinite(inputs).all(1)
    if not good.all():
        first = manifest.ids[rows[int(np.argmin(good))]]
        raise ModelError(
            f"The network gives values that are not finite ({first} is the first image). "
            "Its weights are damaged, or --transform is not what it was trained with."
        )
