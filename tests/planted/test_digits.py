"""Planted label errors on real digits: the ranking finds them, and a random order sits at the base rate."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from core.data.manifest import Manifest
from core.findings import Findings
from core.opening import planted_found
from core.pipeline import sift
from core.settings import SiftSettings


@pytest.fixture(scope="module", params=[0, 1])
def run(request: pytest.FixtureRequest) -> tuple[Manifest, Findings]:
    manifest = Manifest.read("digits", limit=700, seed=request.param)
    settings = SiftSettings(
        seed=request.param, epochs=12, trees=100, image_size=16, maps=False, device="cpu", precision="float32"
    )
    return manifest, sift(manifest, settings=settings)


def test_planted_errors_stand_at_the_top(run: tuple[Manifest, Findings]) -> None:
    manifest, findings = run
    rows = manifest.rows[manifest.train]
    wrong = (rows["given_label"] != rows["true_label"]).to_numpy()
    assert 0.05 < wrong.mean() < 0.15
    suspicion = findings.samples["suspicion"].to_numpy()[manifest.train]
    assert average_precision_score(wrong, suspicion) > 0.8
    at_random = [average_precision_score(wrong, np.random.default_rng(s).random(len(wrong))) for s in range(20)]
    assert np.mean(at_random) == pytest.approx(wrong.mean(), abs=0.05)


def test_the_count_that_the_demo_prints(run: tuple[Manifest, Findings]) -> None:
    manifest, findings = run
    rows = manifest.rows.set_index("sample_id")
    wrong = rows["given_label"] != rows["true_label"]
    counts = planted_found(manifest, findings)
    train = findings.samples[findings.samples["split"] == "train"]
    planted = int(wrong[train.index].sum())
    order = sorted(train.index, key=lambda sample: (-train.loc[sample, "suspicion"], sample))
    assert counts["planted"] == counts["reviewed"] == planted
    assert counts["found"] == sum(wrong[sample] for sample in order[:planted])
    assert counts["found"] > 0.7 * planted
    assert counts["found_at_random"] == pytest.approx(planted * planted / len(train), abs=0.05)


def test_a_wrong_label_gets_the_true_one_suggested(run: tuple[Manifest, Findings]) -> None:
    manifest, findings = run
    rows = manifest.rows[manifest.train].set_index("sample_id")
    wrong = rows[rows["given_label"] != rows["true_label"]]
    suggested = findings.samples.loc[wrong.index, "suggested_label"]
    assert (suggested == wrong["true_label"]).mean() > 0.7
