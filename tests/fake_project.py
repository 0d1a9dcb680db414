"""A project as the deciding half sees it, without images, networks or a real folder layout."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from core.errors import ProjectError

CLASSES = ("cat", "dog", "fox")


@dataclass
class FakeManifest:
    rows: pd.DataFrame
    classes: tuple[str, ...] = CLASSES

    def digest(self) -> str:
        return hashlib.sha256(self.rows.to_csv().encode()).hexdigest()


@dataclass
class FakeFindings:
    samples: pd.DataFrame
    run: Mapping[str, Any] = field(default_factory=lambda: {"seed": 0})

    def table(self) -> pd.DataFrame:
        return self.samples.copy()


@dataclass
class FakeProject:
    folder: Path
    rows: pd.DataFrame
    samples: pd.DataFrame | None = None
    spec: str = "digits"
    classes: tuple[str, ...] = CLASSES

    @property
    def review_path(self) -> Path:
        return self.folder / "review.sqlite"

    @property
    def config(self) -> Any:
        return SimpleNamespace(source_spec=self.spec, source_options={"seed": 0}, budget="5%")

    @property
    def sifted(self) -> bool:
        return self.samples is not None

    def manifest(self) -> FakeManifest:
        return FakeManifest(self.rows, self.classes)

    def findings(self) -> FakeFindings:
        if self.samples is None:
            raise ProjectError("no scores yet")
        return FakeFindings(self.samples)


def manifest_rows(
    ids: Sequence[str], labels: Sequence[str] | None = None, splits: Sequence[str] | None = None
) -> pd.DataFrame:
    n = len(ids)
    return pd.DataFrame(
        {
            "sample_id": list(ids),
            "filepath": [f"/images/{each}" for each in ids],
            "split": list(splits) if splits is not None else ["train"] * n,
            "given_label": list(labels) if labels is not None else [CLASSES[i % 3] for i in range(n)],
            "sha256": [hashlib.sha256(each.encode()).hexdigest() for each in ids],
            "width": 8,
            "height": 8,
        }
    )


def findings_table(rows: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    rng, n = np.random.default_rng(seed), len(rows)
    table = rows[["sample_id", "filepath", "split", "given_label"]].assign(
        predicted_label="cat",
        predicted_prob=rng.random(n).astype(np.float32),
        suggested_label="dog",
        suggested_prob=rng.random(n).astype(np.float32),
        suspicion=rng.permutation(n) * 100.0 / max(n - 1, 1),
        reason="Labelled cat, probably dog.",
        score_loss=rng.permutation(n) * 100.0 / max(n - 1, 1),
        raw_loss=rng.random(n),
    )
    return table.set_index("sample_id")
