"""A good backbone is believed, a bad one does not hurt, whatever the noise: planted errors on real digits.

The training is a linear softmax classifier, written out here, so that a run takes a second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score

from core.models.recorder import History
from core.scores import Evidence, dynamics, percentile
from core.scores.out_of_sample import ridge_head, softmax
from core.scores.suspicion import choose_rule
from core.scores.witness import Witness
from tests.helpers import history_of

EPOCHS, C, N = 6, 10, 900
BACKBONES = ("knows", "knows half", "random", "wide and random", "none")


class Run(NamedTuple):
    truth: np.ndarray
    given: np.ndarray
    train: np.ndarray
    history: History
    pixels: np.ndarray


def trained(pixels: np.ndarray, given: np.ndarray, train: np.ndarray, seed: int) -> History:
    """Record a linear classifier on dim, noisy images: every row before each epoch's steps."""
    rng, weights = np.random.default_rng(seed), np.zeros((pixels.shape[1], C))
    one_hot, recorded = np.eye(C)[given], []
    for _ in range(EPOCHS):
        recorded.append(pixels @ weights)
        for rows in np.array_split(rng.permutation(np.flatnonzero(train)), 20):
            error = softmax(pixels[rows] @ weights) - one_hot[rows]
            weights -= 0.05 * pixels[rows].T @ error / len(rows)
    return history_of(np.stack(recorded), given)


@pytest.fixture(scope="module", params=["uniform", "to the next class"])
def run(request: pytest.FixtureRequest) -> Run:
    rng = np.random.default_rng(7)
    digits = load_digits()
    rows = rng.permutation(len(digits.target))[:N]
    truth = digits.target[rows]
    pixels = digits.images[rows].reshape(N, -1) / 8 - 1 + rng.normal(0, 0.8, (N, 64))
    moved = rng.uniform(size=N) < 0.2
    step = rng.integers(1, C, N) if request.param == "uniform" else 1
    given, train = np.where(moved, (truth + step) % C, truth), np.arange(N) % 5 > 0
    return Run(truth, given, train, trained(pixels, given, train, 0), pixels)


def backbone(kind: str, truth: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    told = 4 * np.eye(C)[truth] * ((truth < C // 2)[:, None] if kind == "knows half" else kind == "knows")
    return (
        told + rng.normal(size=(N, C))
        if kind.startswith("knows")
        else rng.normal(size=(N, 300 if "wide" in kind else 40))
    )


@pytest.mark.parametrize("kind", BACKBONES)
def test_suspicion_keeps_up_with_the_best_a_person_could_choose(run: Run, kind: str) -> None:
    features = {} if kind == "none" else {"backbone": backbone(kind, run.truth)}
    features["reference"] = run.pixels
    seen = Witness(run.given, run.train, tuple("0123456789"), run.history, features=features)
    heads = {origin: ridge_head(array, run.given, C, run.train) for origin, array in features.items()}
    weights = dynamics.epoch_weights(run.history, run.train)
    rule = choose_rule(
        seen, Evidence(run.given, heads=heads, history=run.history, window=dynamics.window(run.history, run.train),
                       weights=weights),
    )  # fmt: skip

    def precision(suspicious: np.ndarray) -> float:
        return float(average_precision_score((run.given != run.truth)[run.train], suspicious[run.train]))

    shares = {
        name: percentile(-margin, run.train)
        for name, margin in {
            "training": dynamics.weighted_aum(run.history, weights),
            **{origin: head.margin for origin, head in heads.items()},
        }.items()
    }
    without = precision(shares["training"] + shares["reference"])
    best = max(without, precision(sum(shares.values())), precision(shares.get("backbone", shares["reference"])))
    assert precision(-rule.margins) > best - 0.02
    if "random" in kind:
        assert rule.shares["loo_ridge_margin"] < 0.15
        assert precision(sum(shares.values())) < without - 0.05  # what a fixed share would have cost
    if kind == "knows":
        assert rule.scores[0] == "loo_ridge_margin"
        assert precision(-rule.margins) > without + 0.05
