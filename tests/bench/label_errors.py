"""How well every score ranks human label errors: CIFAR-10N `worse` and `aggre`, beside cleanlab on the same features.

    python tests/bench/label_errors.py DATA --keep FOLDER [--labels worse aggre] [--seeds 3] [--cross]

DATA holds cifar10_train.parquet and cifar10n_labels.npz. 10,000 rows are chosen, 1,000 of each true class, seed 0;
1,000 others, 100 of each, are held out with their given labels. `regularised` is the default run, `memorised` trains
30 epochs without augmentation. FOLDER keeps trainings, so a second call only scores. Planted noise plays no part
here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from cleanlab.rank import get_label_quality_scores
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from core.data.manifest import Manifest
from core.data.sources import SourceOptions
from core.pipeline import plan, sift
from core.progress import Progress
from core.project import Stages
from core.settings import SiftSettings
from core.terminal import Narrator

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
REGIMES = {"regularised": {}, "memorised": {"epochs": 30, "augment": False}}
STRENGTHS = (0.001, 0.01, 0.1, 1.0)
METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")


def chosen(clean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1,000 training and 100 held-out rows of each true class, seed 0."""
    generator = np.random.default_rng(0)
    drawn = [generator.choice(np.flatnonzero(clean == c), 1100, replace=False) for c in range(10)]
    return np.sort(np.concatenate([d[:1000] for d in drawn])), np.sort(np.concatenate([d[1000:] for d in drawn]))


def manifest_of(data: Path, keep: Path, kind: str) -> tuple[Manifest, np.ndarray]:
    """The chosen rows with one kind of human labels, and which of them are wrong."""
    labels = np.load(data / "cifar10n_labels.npz")
    train, held_out = chosen(labels["clean"])
    rows = np.sort(np.concatenate([train, held_out]))
    path = keep / f"cifar10n_{kind}.parquet"
    if not path.exists():
        images = pq.read_table(data / "cifar10_train.parquet", columns=["image"]).take(rows)
        columns = {
            "sample_id": [f"{row:08d}" for row in rows],
            "label": [NAMES[c] for c in labels[kind][rows]],
            "split": np.where(np.isin(rows, train), "train", "val"),
        }
        pq.write_table(pa.table({**columns, "image": images["image"]}), path)
    manifest = Manifest.read(f"table:{path}", options=SourceOptions(), classes=NAMES)
    return manifest, (labels[kind] != labels["clean"])[rows]


def figures(wrong: np.ndarray, suspicious: np.ndarray) -> dict[str, float]:
    """ROC AUC, average precision, and precision among as many as are wrong."""
    first = np.argsort(-suspicious, kind="stable")[: wrong.sum()]
    return {
        "auc": float(roc_auc_score(wrong, suspicious)),
        "ap": float(average_precision_score(wrong, suspicious)),
        "precision": float(wrong[first].mean()),
    }


def cleanlab_rows(features: np.ndarray, labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """cleanlab's three rankings of a 5-fold logistic head, its strength chosen by cross-validated log-loss."""
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    tried = []
    for strength in STRENGTHS:
        head = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        probabilities = cross_val_predict(head, features, labels, cv=folds, method="predict_proba")
        tried.append((log_loss(labels, probabilities), strength, probabilities))
    _, strength, probabilities = min(tried, key=lambda entry: entry[0])
    for method in METHODS:
        yield f"cleanlab {method} (C {strength:g})", -get_label_quality_scores(labels, probabilities, method=method)


def cross_trained(manifest: Manifest, settings: SiftSettings, stages: Stages) -> Iterator[tuple[str, np.ndarray]]:
    """cleanlab's own recipe: the network retrained in 3 folds, each fold judged by the network that never saw it."""
    labels, train = manifest.labels, manifest.train
    rows, logits = np.flatnonzero(train), np.zeros((len(manifest), len(NAMES)))
    for part, (_, out) in enumerate(StratifiedKFold(3, shuffle=True, random_state=0).split(rows, labels[rows])):
        split = np.where(train, "train", "left out").astype(object)
        split[rows[out]] = f"fold {part}"
        fold = Manifest(manifest.rows.assign(split=split), manifest.classes, manifest.source, manifest.problems)
        sift(fold, settings=settings, stages=stages, progress=Progress(Narrator.on(sys.stderr)))
        folder = stages.find("features", plan(fold, settings).keys["features"])
        logits[rows[out]] = np.load(folder / "logits.npy")[rows[out]]
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    for method in METHODS:
        score = -get_label_quality_scores(labels[rows], probabilities[rows], method=method)
        yield f"cleanlab {method}, network in 3 folds", score


def measure(manifest: Manifest, wrong: np.ndarray, settings: SiftSettings, stages: Stages) -> Iterator[dict]:
    """One row of figures per ranking of one training."""
    findings = sift(manifest, settings=settings, stages=stages, progress=Progress(Narrator.on(sys.stderr)))
    train, table = manifest.train, findings.table()
    folder = stages.find("features", plan(manifest, settings).keys["features"])
    features = np.load(folder / "features.npy")[train]
    print(
        json.dumps({k: findings.run[k] for k in ("suspicion", "window", "fitted", "held_out_accuracy")}),
        file=sys.stderr,
    )
    rankings = {name.removeprefix("score_"): table[name].to_numpy() for name in table if name.startswith("score_")}
    rankings = {"suspicion": table["suspicion"].to_numpy(), **rankings}
    for name, values in rankings.items():
        yield {"ranking": name, **figures(wrong[train], values[train])}
    for name, values in cleanlab_rows(features, manifest.labels[train]):
        yield {"ranking": name, **figures(wrong[train], values)}
    suggested = pd.Categorical(table["suggested_label"], categories=NAMES).codes
    truth = np.load(folder.parent.parent / "truth.npy")
    right = (suggested == truth)[train & wrong].mean()
    yield {"ranking": "(wrong labels whose suggestion is the true class)", "ap": float(right)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--labels", nargs="+", default=["worse", "aggre"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--regimes", nargs="+", default=list(REGIMES))
    parser.add_argument("--cross", action="store_true", help="also the network cross-trained in 3 folds (seed 0)")
    options = parser.parse_args()
    options.keep.mkdir(parents=True, exist_ok=True)
    clean = np.load(options.data / "cifar10n_labels.npz")["clean"]
    np.save(options.keep / "truth.npy", clean[np.sort(np.concatenate(chosen(clean)))])
    stages, rows = Stages(options.keep / "stages"), []
    for kind in options.labels:
        manifest, wrong = manifest_of(options.data, options.keep, kind)
        for regime in options.regimes:
            for seed in range(options.seeds):
                settings = SiftSettings(seed=seed, maps=False, **REGIMES[regime])
                for row in measure(manifest, wrong, settings, stages):
                    rows.append({"labels": kind, "regime": regime, "seed": seed, **row})
        if options.cross:
            settings = SiftSettings(seed=0, maps=False)
            for name, score in cross_trained(manifest, settings, stages):
                found = figures(wrong[manifest.train], score)
                rows.append({"labels": kind, "regime": "regularised", "seed": 0, "ranking": name, **found})
        pd.DataFrame(rows).to_csv(options.keep / "figures.csv", index=False)
    frame = pd.DataFrame(rows)
    frame["ranking"] = frame["ranking"].str.replace(r" \(C .*\)", "", regex=True)
    for metric in ("ap", "auc", "precision"):
        print(f"\n{metric}, mean over seeds")
        wide = frame.pivot_table(index="ranking", columns=["regime", "labels"], values=metric, aggfunc="mean")
        print(wide.sort_values(wide.columns[0], ascending=False).round(3).to_string())


if __name__ == "__main__":
    main()
