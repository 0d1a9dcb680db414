"""A user's ResNet-18 on 50,000 images of 32 pixels, from the file to ranking and map, through the command line.

    python tests/bench/resnet18.py IMAGES.parquet FOLDER [--stem imagenet cifar] [--images 50000] [--side 32]
        [--reference] [--device auto]

IMAGES.parquet holds the columns `image` (encoded, as Hugging Face writes them) and `label`, CIFAR-10 for instance. The
network's convolutions are random; its head is fitted by least squares on the first 5,000 images, so that it tells
classes. With the ImageNet stem it is a `torchvision:` model, with the CIFAR stem (3 x 3, no pooling) one of a person's
own code. `--reference` also trains the reference network beside it, which is the command's default. Seconds are those
of each stage's record; then the three functions that took most, found by Python's own profiler during the run.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import pstats
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import nn
from torchvision.models import resnet18

ROOT = Path(__file__).parents[2]
CLASSES, FITTED_ON = 10, 5000
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CODE = """
from torch import nn
from torchvision.models import resnet18


def cifar_resnet18():
    network = resnet18(num_classes=10)
    network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    return network
"""


def network_of(stem: str) -> nn.Module:
    if stem == "imagenet":
        return resnet18(num_classes=CLASSES)
    made: dict[str, object] = {}
    exec(CODE, made)
    return made["cifar_resnet18"]()


def images_of(file: Path, count: int, side: int) -> tuple[torch.Tensor, np.ndarray]:
    """The first images as a network takes them, and their labels."""
    rows = pq.ParquetFile(file).read_row_group(0).slice(0, count).to_pydict()
    pictures = [Image.open(io.BytesIO(cell["bytes"])).convert("RGB").resize((side, side)) for cell in rows["image"]]
    pixels = torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None], np.array(rows["label"])


def write_weights(stem: str, images: torch.Tensor, labels: np.ndarray, file: Path) -> None:
    """Random convolutions whose running statistics fit the images, and a head that tells the labels it saw."""
    torch.manual_seed(0)
    network = network_of(stem)
    head, network.fc = network.fc, nn.Identity()
    with torch.inference_mode():
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = None  # the mean over all batches
        for some in images[:512].split(128):
            network(some)
        features = torch.cat([network.eval()(some) for some in images.split(128)])
        columns = torch.cat((features, torch.ones(len(features), 1)), 1)
        wanted = 10 * torch.eye(CLASSES)[torch.from_numpy(labels)]
        penalty = 0.1 * len(columns) * torch.eye(columns.shape[1]) * columns.var()
        found = torch.linalg.solve(columns.T @ columns + penalty, columns.T @ wanted)
        head.weight.copy_(found[:-1].T)
        head.bias.copy_(found[-1])
    network.fc = head
    torch.save(network.state_dict(), file)


def gradsift(*arguments: object, profile: Path | None = None) -> None:
    measured = ["-m", "cProfile", "-o", str(profile)] if profile else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-P", *measured, "-m", "core.cli", *map(str, arguments)]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)


def measure(stem: str, options: argparse.Namespace) -> None:
    folder: Path = options.folder / stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "stem.py").write_text(CODE)
    write_weights(stem, *images_of(options.parquet, FITTED_ON, options.side), folder / "weights.pt")
    named = "torchvision:resnet18" if stem == "imagenet" else f"code:{folder / 'stem.py'}:cifar_resnet18"
    transform = f"resize={options.side},mean={'/'.join(map(str, MEAN))},std={'/'.join(map(str, STD))}"
    project, profile, begin = folder / "project", folder / "profile", time.time()
    gradsift(
        "new", project, "--source", f"table:{options.parquet}", "--limit", options.images, "--transform", transform,
        "--model", f"{named}@{folder / 'weights.pt'}", "--reference" if options.reference else "--no-reference",
    )  # fmt: skip
    read = time.time() - begin
    gradsift("sift", project, "--device", options.device, profile=profile)
    print(f"\nResNet-18, {stem} stem, {options.images:,} images of {options.side} px")
    show_stages(project, begin, read)
    show_profile(profile)


def show_stages(project: Path, begin: float, read: float) -> None:
    """Print what each stage took, and when the ranking and the map were there, counted from the first command."""
    print(f"{'read and checked (gradsift new)':<34}{read:>8.1f} s")
    written = {}
    for file in sorted(project.glob("stages/*/run.json"), key=lambda path: path.stat().st_mtime):
        fact = json.loads(file.read_text())
        written[fact["stage"]] = file.stat().st_mtime - begin
        print(f"{fact['stage']:<34}{fact['seconds']:>8.1f} s{fact['peak_memory_mb']:>8,} MB")
    print(f"{'to the ranking':<34}{written['scores']:>8.1f} s\n{'to the map':<34}{written['map']:>8.1f} s")


def show_profile(file: Path, most: int = 3) -> None:
    held = io.StringIO()
    spent = pstats.Stats(str(file), stream=held)
    table = sorted(spent.stats.items(), key=lambda entry: -entry[1][2])  # type: ignore[attr-defined]
    for (path, line, name), (calls, _, own, *_) in table[:most]:
        where = name if path == "~" else f"{Path(path).name}:{line} {name}"
        print(f"{own:>8.1f} s{own / spent.total_tt:>6.0%}  {where} ({calls:,} calls)")  # type: ignore[attr-defined]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parquet", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stem", nargs="+", choices=["imagenet", "cifar"], default=["imagenet", "cifar"])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.folder, options.parquet = options.folder.absolute(), options.parquet.absolute()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for stem in options.stem:
        measure(stem, options)


if __name__ == "__main__":
    main()
