"""Forest, norms and suspicion for a data set of ImageNet's shape, drawn at random: seconds and memory.

    python tests/bench/imagenet_shape.py [--rows 1280000] [--classes 1000] [--features 512] [--folder FOLDER]
        [--trees 1000] [--epochs 20] [--table] [--neighbours]

Logits and features lie in half precision in FOLDER (a temporary one by default; 3.9 GB at full size) and are mapped.
One row in fifty is held out; one training label in twenty is drawn anew, so that the ranking has something to find.
Each piece runs in this one process, one after another. "held" is the most memory that was the process's own so far;
"peak" counts pages of the mapped files as well, which the system takes back when it needs them.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from core.atlas.neighbours import search_features, search_gradients
from core.gradients.last_layer import LastLayerGradients
from core.models.recorder import History
from core.progress import Progress
from core.scores import Evidence, dynamics, percentile
from core.scores.forest import GradientForest
from core.scores.out_of_sample import ridge_head
from core.scores.suspicion import choose_rule
from core.scores.table import evidence_table
from core.scores.witness import Witness
from core.settings import SiftSettings

WRONG = 0.05


class Held(threading.Thread):
    """Watches the memory that is the process's own, ten times a second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0.0

    def run(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text().splitlines()
            (kilobytes,) = (int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.most = max(self.most, kilobytes / 1024**2)
            time.sleep(0.1)


def draw(folder: Path, rows: int, classes: int, features: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write features around a centre per class and logits that follow the true class; labels, train rows, truth."""
    chance = np.random.default_rng(0)
    truth = chance.integers(classes, size=rows)
    labels = np.where(chance.random(rows) < WRONG, chance.integers(classes, size=rows), truth)
    centres = chance.standard_normal((classes, features), dtype=np.float32)
    shapes = {"logits": (rows, classes), "features": (rows, features)}
    files = {name: (folder / f"{name}.npy").open("wb") for name in shapes}
    for name, shape in shapes.items():
        np.lib.format.write_array_header_1_0(files[name], {"descr": "<f2", "fortran_order": False, "shape": shape})
    for start in range(0, rows, 16_384):
        some = truth[start : start + 16_384]
        logits = chance.standard_normal((len(some), classes), dtype=np.float32)
        logits[np.arange(len(some)), some] += 6
        inputs = np.maximum(centres[some] + 8 * chance.standard_normal((len(some), features), dtype=np.float32), 0)
        files["logits"].write(logits.astype(np.float16).tobytes())
        files["features"].write(inputs.astype(np.float16).tobytes())
    for file in files.values():
        file.close()
    return labels, chance.random(rows) >= 0.02, truth


def drawn_history(labels: np.ndarray, truth: np.ndarray, epochs: int) -> History:
    """A record in which wrong labels have lower margins, on the whole."""
    chance, history = np.random.default_rng(1), History.empty(epochs, len(labels))
    own = chance.standard_normal(len(labels), dtype=np.float32) + np.where(labels == truth, 1, -1)
    for epoch in range(epochs):
        history.learning_rate[epoch] = 0.1
        gap = own + 0.05 * epoch + chance.standard_normal(len(labels), dtype=np.float32)
        history.given_logit[epoch], history.other_logit[epoch] = gap, 0
        history.given_prob[epoch] = 1 / (1 + np.exp(-gap))
        history.error_norm[epoch], history.input_norm[epoch] = 1 - history.given_prob[epoch], 10
        history.other_class[epoch] = (labels + 1) % (labels.max() + 1)
    return history


def average_precision(score: np.ndarray, wrong: np.ndarray) -> float:
    hits = wrong[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_280_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--features", type=int, default=512)
    parser.add_argument("--trees", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--table", action="store_true", help="instead the whole table of evidence, as a run makes it")
    parser.add_argument("--neighbours", action="store_true", help="also both kinds of neighbours (hours at full size)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        run(Path(name), options)


def run(folder: Path, options: argparse.Namespace) -> None:
    held = Held()
    held.start()

    def timed(what: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = work()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        print(f"{what:<34}{time.perf_counter() - begin:>9.1f}{held.most:>10.2f}{peak:>10.2f}", flush=True)
        return found

    shape = options.rows, options.classes, options.features
    print("{:,} rows x {:,} classes x {} features, half precision on disk".format(*shape))
    print(f"{'':<34}{'seconds':>9}{'held GB':>10}{'peak GB':>10}")
    labels, train, truth = timed("drawn and written", lambda: draw(folder, *shape))
    logits, features = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("logits", "features"))
    history = timed(f"a record of {options.epochs} epochs", lambda: drawn_history(labels, truth, options.epochs))
    g = timed("factors checked", lambda: LastLayerGradients.lazily(logits, labels, features))
    names = tuple(map(str, range(options.classes)))
    witness = Witness(labels, train, names, history, g, logits, {"model": features})
    if options.table:
        manifest: Any = SimpleNamespace(ids=[str(row) for row in range(len(labels))], rows=rows_of(train))
        settings = SiftSettings(trees=options.trees)
        found = timed("table", lambda: evidence_table(witness, manifest, near_of(labels), settings, Progress()))
        ranked = {"suspicion": found.samples["suspicion"].to_numpy()}
    else:
        ranked = pieces(timed, witness, options.trees)
    if options.neighbours:
        neighbours(timed, witness, ranked["suspicion"] > 95)
    wrong = (labels != truth)[train]
    for what, score in ranked.items():
        print(
            f"average precision of {what}: {average_precision(score[train], wrong):.3f} ({wrong.mean():.3f} at random)"
        )
    print(f"{torch.get_num_threads()} threads")


def pieces(timed: Callable[..., Any], witness: Witness, trees: int) -> dict[str, np.ndarray]:
    """Forest, norms and suspicion, each by itself; return what ranks high."""
    labels, train, g, history = witness.labels, witness.train, witness.gradients, witness.history
    assert g is not None
    assert history is not None
    timed("norms: L1, L2, EL2N", lambda: (g.l1(), g.l2(), g.el2n()))
    grown = timed(f"forest grown, {trees:,} trees", lambda: GradientForest(trees).fit(g, rows=np.flatnonzero(train)))
    outliers = timed("forest scored", lambda: grown.score(g))
    head = timed("left-out head", lambda: ridge_head(witness.features["model"], labels, len(witness.classes), train))
    window, weights = dynamics.window(history, train), dynamics.epoch_weights(history, train)
    evidence = Evidence(labels, witness.logits, g, outliers, {"model": head}, None, history, window, weights)
    rule = timed("suspicion", lambda: choose_rule(witness, evidence))
    print(f"suspicion: {rule.why}")
    return {"suspicion": percentile(-rule.margins, train), "left-out head": -head.margin, "forest": outliers}


def rows_of(train: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"filepath": "image.png", "split": np.where(train, "train", "test")}, index=range(len(train)))


def near_of(labels: np.ndarray, k: int = 20) -> np.ndarray:
    """Neighbours drawn at random: what is measured with them is memory."""
    return np.random.default_rng(2).integers(len(labels), size=(len(labels), k), dtype=np.int32)


def neighbours(timed: Callable[..., Any], witness: Witness, flagged: np.ndarray) -> None:
    features, g, train = witness.features["model"], witness.gradients, witness.train
    assert g is not None
    for what, search in (
        ("features", lambda: search_features(features, 20, train, flagged=flagged)),
        ("gradients", lambda: search_gradients(g, 20, train, flagged=flagged)),
    ):
        print(timed(f"neighbours by {what}", search).said())


if __name__ == "__main__":
    main()
