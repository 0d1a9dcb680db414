"""One row of evidence per image, from whatever was seen of the images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.axes import Array
from core.errors import ModelError
from core.findings import EVIDENCE, Findings
from core.gradients.last_layer import LastLayerGradients
from core.progress import Progress
from core.scores import SCORES
from core.scores import table as table_module
from core.scores.table import evidence_table
from core.scores.witness import Witness
from core.settings import SiftSettings
from tests.helpers import history_of

N, C, T, D = 90, 3, 5, 6
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, C, N)
TRAIN = np.arange(N) % 4 > 0
LOGITS = 2 * np.eye(C)[LABELS] + RNG.normal(size=(N, C))
INPUTS = np.hstack([np.eye(C)[LABELS], np.zeros((N, D - C))]) + RNG.normal(size=(N, D))
HISTORY = history_of(2 * np.eye(C)[LABELS] + RNG.normal(size=(T, N, C)), LABELS, RNG.uniform(1, 2, (T, N)))
NEAR = np.stack([np.setdiff1d(np.flatnonzero(TRAIN), [row])[row % 40 : row % 40 + 5] for row in range(N)])
WHOLE: dict[str, Any] = {
    "history": HISTORY, "gradients": LastLayerGradients.from_logits(LOGITS, LABELS, INPUTS), "logits": LOGITS,
    "features": {"backbone": INPUTS, "reference": INPUTS[:, :4]}, "extra": {"grand": RNG.uniform(size=N)},
}  # fmt: skip


def found(neighbours: Array | None = NEAR, **parts: Any) -> Findings:
    manifest: Any = SimpleNamespace(
        ids=pd.Index([f"{row:03d}" for row in range(N)]),
        rows=pd.DataFrame({"filepath": [None] * N, "split": np.where(TRAIN, "train", "val")}),
    )
    seen = Witness(LABELS, TRAIN, ("a", "b", "c"), **parts)
    # jaxtyping sees a stand-in, not a manifest
    unchecked = getattr(evidence_table, "__wrapped__", evidence_table)
    return unchecked(seen, manifest, neighbours, SiftSettings(trees=20), Progress())  # type: ignore[no-any-return]


def scores(findings: Findings) -> set[str]:
    return set(findings.score_names)


def test_everything_is_there() -> None:
    findings = found(**WHOLE)
    assert scores(findings) == set(SCORES) - {"loo_ridge_margin_model"}
    assert set(EVIDENCE) <= set(findings.samples)
    assert findings.samples.drop(columns="filepath").notna().all().all()
    assert findings.curves.shape == (T, N)
    assert findings.head_probabilities.sum(1) == pytest.approx(np.ones(N), abs=1e-5)
    assert set(findings.run["heads"]) == {"backbone", "reference"}
    assert findings.run["suspicion"]["held_out_images"] == (~TRAIN).sum()


def test_a_recorded_training_alone() -> None:
    findings = found(None, history=HISTORY, notes=("no features are known",))
    assert scores(findings) == {n for n, s in SCORES.items() if s.needs in ("history", "steps")}
    assert findings.run["suspicion"]["scores"] == ["weighted_aum"]
    assert findings.run["suspicion"]["memorised"]  # nobody but the training suggests labels
    assert findings.run["notes"] == ["no features are known"]
    assert "head" not in findings.run
    assert "fitted" not in findings.run


def test_features_alone() -> None:
    findings = found(features={"backbone": INPUTS})
    assert scores(findings) == {"loo_ridge_margin", "knn_disagreement"}
    assert findings.curves.shape == (0, N)
    assert (findings.samples["predicted_label"] == findings.samples["suggested_label"]).all()
    assert not findings.samples["reason"].str.contains("the network").any()


def test_a_finished_network_alone_says_so_where_it_memorised() -> None:
    logits = 30 * np.eye(C)[LABELS]
    gradients = LastLayerGradients.from_logits(logits, LABELS, INPUTS)
    findings = found(logits=logits, gradients=gradients, features={"model": INPUTS})
    assert findings.run["fitted"] == findings.run["held_out_accuracy"] == 1
    assert "such a network alone ranks human errors badly" in findings.run["suspicion"]["why"]
    assert {"oga_forest", "loss", "loo_ridge_margin"} <= scores(findings)


def test_logits_of_the_left_out_head_are_not_called_a_network() -> None:
    findings = found(logits=LOGITS, features={"model": INPUTS}, in_sample_logits=False)
    assert not findings.samples["reason"].str.contains("the network predicts").any()
    assert "fitted" not in findings.run


def test_nothing_seen() -> None:
    with pytest.raises(ModelError, match="Nothing was seen"):
        found(None)


def test_the_label_that_most_neighbours_carry() -> None:
    rng = np.random.default_rng(2)
    near = rng.integers(0, 4, (50, 7))
    slow = [int(np.bincount(row, minlength=4).argmax()) for row in near]
    assert table_module._most_frequent(near, 4).tolist() == slow
