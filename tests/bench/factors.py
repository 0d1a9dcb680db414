"""Last-layer gradients of a ResNet-18 against its bare forward pass, and end to end from files.

    python tests/bench/factors.py [--images 512] [--side 64] [--rounds 5]

The yardstick is the forward pass alone: inference mode, decoded tensors in memory, the best of batch 16, 64 and 256.
The two take turns within each round; the ratio is taken round by round and its median is printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models import resnet18

from core.data.images import read_pixels
from core.data.sources import open_source
from core.gradients.last_layer import LastLayerGradients
from core.models.head import read_head

BATCHES = (16, 64, 256)


def seconds(work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def forward(network: torch.nn.Module, images: torch.Tensor, batch: int) -> None:
    with torch.inference_mode():
        for some in images.split(batch):
            network(some)


def factors(network: torch.nn.Module, batches, labels: np.ndarray) -> LastLayerGradients:
    passed = read_head(network, batches)
    return LastLayerGradients.from_logits(passed.logits, labels, passed.inputs, passed.bias)


def tensors_of(folder: Path, side: int, batch: int) -> Iterator[torch.Tensor]:
    """Decode a folder of images in threads and give them out as normalised batches."""
    source = open_source(f"folder:{folder}")
    held: list[np.ndarray] = []
    for _, image in read_pixels(source, list(source.rows().frame["sample_id"]), side):
        held.append(image)
        if len(held) == batch:
            yield as_tensor(held)
            held = []
    if held:
        yield as_tensor(held)


def as_tensor(images: list[np.ndarray]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    return stacked.div_(255).sub_(0.45).div_(0.25).contiguous(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    network = resnet18().eval().to(memory_format=torch.channels_last)
    pixels = generator.integers(0, 256, (options.images, options.side, options.side, 3), dtype=np.uint8)
    images, labels = as_tensor(list(pixels)), generator.integers(0, 1000, options.images)
    forward(network, images[:64], 64)  # kernel selection
    batch = min(BATCHES, key=lambda size: min(seconds(lambda: forward(network, images, size)) for _ in range(2)))
    with tempfile.TemporaryDirectory() as name:
        for row, image in enumerate(pixels):
            path = Path(name) / f"class{row % 2}" / f"{row:05d}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(image).save(path)
        work = {
            "forward": lambda: forward(network, images, batch),
            "factors": lambda: factors(network, images.split(batch), labels),
            "files": lambda: factors(network, tensors_of(Path(name), options.side, batch), labels),
        }
        rounds = [{what: seconds(call) for what, call in work.items()} for _ in range(options.rounds)]
    print(f"ResNet-18, {options.images} images of {options.side} px, batch {batch}, {torch.get_num_threads()} threads")
    for what in work:
        took = statistics.median(entry[what] for entry in rounds)
        ratio = [entry[what] / entry["forward"] for entry in rounds]
        spread = f"{min(ratio):.2f} to {max(ratio):.2f}"
        print(f"{what:<8} {options.images / took:8.1f} images/s   {statistics.median(ratio):.2f} x forward ({spread})")


if __name__ == "__main__":
    main()
