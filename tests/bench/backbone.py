"""What a backbone is worth, and whether `suspicion` knows it: average precision on 10,000 CIFAR-10N images.

    python tests/bench/backbone.py DATA --keep FOLDER [--labels worse aggre] [--seeds 1] [--epochs 10]

DATA and the rows are those of `label_errors.py`. No pretrained weights are needed: networks trained here on the true
labels of the other 39,000 images stand in for a backbone, one that saw all ten classes and one that never saw cat,
dog, ship and truck; random numbers and coarse pixels stand in for bad ones. Each is given to `sift` as a file of
features. The table holds every ranking that a person could choose instead; `suspicion` should be within .01 of the best
in every row.
FOLDER keeps trainings, so a second call only scores.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from label_errors import NAMES, chosen, manifest_of
from sklearn.metrics import average_precision_score

from core.data.images import decode
from core.data.manifest import Manifest
from core.models import device
from core.models.train import Task, evaluate, train
from core.pipeline import sift
from core.progress import Progress
from core.project import Stages
from core.settings import SiftSettings
from core.terminal import Narrator

UNSEEN = ("cat", "dog", "ship", "truck")
SIDE = 32
Features = Callable[["Images"], np.ndarray]


class Images:
    """All 50,000 images and true labels, the rows that are judged, and where trainings are kept."""

    def __init__(self, data: Path, keep: Path, epochs: int) -> None:
        self.keep, self.epochs = keep, epochs
        self.clean = np.load(data / "cifar10n_labels.npz")["clean"].astype(np.int64)
        path = keep / "pixels.npy"
        if not path.exists():
            images = pq.read_table(data / "cifar10_train.parquet", columns=["image"])["image"]
            np.save(path, np.stack([decode(image["bytes"], SIDE) for image in images.to_pylist()]))
        self.pixels = np.load(path, mmap_mode="r")
        self.rows = np.sort(np.concatenate(chosen(self.clean)))

    def task(self, rows: np.ndarray, labels: np.ndarray, classes: int) -> Task:
        ids = tuple(f"{row:08d}" for row in rows)
        return Task(ids, self.pixels[rows], labels, np.ones(len(rows), bool), classes, flip=True)

    def progress(self) -> Progress:
        return Progress(Narrator.on(sys.stderr))


def stand_in(images: Images, unseen: tuple[str, ...] = ()) -> np.ndarray:
    """Features, averaged over image and mirror, of a network trained on the other images of the classes it may see."""
    known = [place for place, name in enumerate(NAMES) if name not in unseen]
    others = np.setdiff1d(np.arange(len(images.clean)), images.rows)
    others = others[np.isin(images.clean[others], known)]
    folder = images.keep / f"stand-in-{len(known)}-classes-{images.epochs}-epochs"
    folder.mkdir(exist_ok=True)
    task = images.task(others, np.searchsorted(known, images.clean[others]), len(known))
    settings = SiftSettings(epochs=images.epochs)
    trained = train(task, settings, device.choose("auto", "auto"), folder, images.progress())
    judged = images.task(images.rows, np.zeros(len(images.rows), np.int64), len(known))
    places, compute = np.arange(len(images.rows)), device.choose("auto", "float32")
    passes = [evaluate(trained.network, judged, trained.statistics, compute, places, mirror=m) for m in (False, True)]
    return np.mean([np.concatenate([inputs for _, _, inputs in each]) for each in passes], axis=0)


def coarse(images: Images) -> np.ndarray:
    """Mean colours of 4 x 4 fields."""
    fields = images.pixels[images.rows].reshape(-1, 4, SIDE // 4, 4, SIDE // 4, 3)
    return fields.mean((2, 4), dtype=np.float32).reshape(len(images.rows), -1)


BACKBONES: dict[str, Features | None] = {
    "knows all ten classes": stand_in,
    "never saw four of them": lambda images: stand_in(images, UNSEEN),
    "random numbers": lambda images: np.random.default_rng(1).normal(size=(len(images.rows), 128)),
    "coarse pixels": coarse,
    "none, the reference alone": None,
}


def written(images: Images, name: str, make: Features) -> str:
    """The model spec of a backbone's features, computed where they are not kept yet."""
    path = images.keep / f"{name.replace(' ', '-')}-{images.epochs}.npz"
    if not path.exists():
        ids = np.array([f"{row:08d}" for row in images.rows])
        np.savez(path, sample_id=ids, features=make(images).astype(np.float32))
    return f"features:{path}"


def rankings(table: pd.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    """`suspicion`, its parts, neighbours, and the rank means that a person could take by hand."""
    scores = {str(n).removeprefix("score_"): table[n].to_numpy() for n in table if str(n).startswith("score_")}
    heads = [name for name in scores if name.startswith("loo_ridge_margin")]
    yield "suspicion", table["suspicion"].to_numpy()
    for name in ("weighted_aum", "mean_el2n", "knn_disagreement", *heads):
        yield name, scores[name]
    for dynamics in ("weighted_aum", "mean_el2n"):
        yield f"rank mean: {dynamics}, {heads[0]}", scores[dynamics] + scores[heads[0]]
    yield "rank mean: weighted_aum, all heads", np.sum([scores[name] for name in ("weighted_aum", *heads)], axis=0)


def measure(images: Images, manifest: Manifest, wrong: np.ndarray, backbone: str | None, seed: int) -> dict[str, float]:
    """Average precision of every ranking of one run."""
    settings = SiftSettings(seed=seed, maps=False, backbone=backbone)
    found = sift(manifest, settings=settings, stages=Stages(images.keep / "stages"), progress=images.progress())
    print(found.run["suspicion"]["why"], file=sys.stderr)
    table, train_rows = found.table(), manifest.train
    return {
        name: float(average_precision_score(wrong[train_rows], value[train_rows])) for name, value in rankings(table)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--labels", nargs="+", default=["worse", "aggre"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10, help="of the stand-ins")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    images, rows = Images(options.data, options.keep, options.epochs), []
    for kind in options.labels:
        manifest, wrong = manifest_of(options.data, options.keep, kind)
        for name, make in BACKBONES.items():
            backbone = written(images, name, make) if make else None
            for seed in range(options.seeds):
                rows.append({"backbone": name, "labels": kind} | measure(images, manifest, wrong, backbone, seed))
    frame = pd.DataFrame(rows).groupby(["backbone", "labels"], sort=False).mean()
    frame.insert(1, "best other", frame.drop(columns="suspicion").max(axis=1))
    frame.to_csv(options.keep / "backbones.csv")
    print(frame.round(3).T.to_string())
    behind = frame["best other"] - frame["suspicion"]
    print(f"\nsuspicion is behind the best of each row by at most {behind.max():.3f}")


if __name__ == "__main__":
    main()
