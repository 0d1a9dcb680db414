"""Which evidence the default ranking rests on, how it is weighed, and what is said of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalogue import SCORE_INFO
from core.errors import InputError, ModelError
from core.models.recorder import History
from core.scores import Evidence, dynamics
from core.scores.out_of_sample import log_softmax, ridge_head, softmax
from core.scores.suspicion import MEMORISED_GAP, PRIOR, Rule, accuracy, choose_rule, memorised, opinion_weights, pooled
from core.scores.witness import Witness
from tests.helpers import history_of

N, C, T = 1200, 4, 3
RNG = np.random.default_rng(5)
TRUTH = RNG.integers(0, C, N)
NOISY = np.where(RNG.uniform(size=N) < 0.15, (TRUTH + RNG.integers(1, C, N)) % C, TRUTH)
TRAIN = np.arange(N) % 3 > 0


def knows(truth: np.ndarray, strength: float, seed: int = 0) -> np.ndarray:
    """Features, or logits, that tell the class as well as `strength` says."""
    return strength * np.eye(C)[truth] + np.random.default_rng(seed).normal(size=(len(truth), C))


def witness(features: dict[str, np.ndarray] | None = None, **parts: Any) -> Witness:
    """Rows of which a network learned something and `features` are known."""
    history = history_of(np.stack([knows(TRUTH, 1.5, seed) for seed in range(T)]), NOISY)
    given = {"labels": NOISY, "train": TRAIN, "classes": tuple("abcd"), "history": history}
    return Witness(features=features or {}, **{**given, **parts})


def rule_of(seen: Witness) -> Rule:
    heads = {o: ridge_head(f, seen.labels, C, seen.train) for o, f in seen.features.items()}
    history = seen.history
    return choose_rule(
        seen,
        Evidence(
            seen.labels, seen.logits, heads=heads, history=history,
            window=None if history is None else dynamics.window(history, seen.train),
            weights=None if history is None else dynamics.epoch_weights(history, seen.train),
        ),
    )  # fmt: skip


def found(rule: Rule) -> float:
    """How much more suspicious the wrong training labels are: area under the curve."""
    wrong, right = rule.margins[TRAIN & (NOISY != TRUTH)], rule.margins[TRAIN & (NOISY == TRUTH)]
    return float((wrong[:, None] < right).mean())


@pytest.mark.parametrize(
    ("fitted", "outside", "said"),
    [(0.7, 0.65, None), (0.99, 0.5, "it has memorised labels"), (0.3, 0.6, None), (1.0, 1.0, None), (0.97, None, None),
     (0.99, None, "no row is held out")],
)  # fmt: skip
def test_a_network_that_memorised_its_labels_is_found_out(
    fitted: float, outside: float | None, said: str | None
) -> None:
    doubt = memorised("it", fitted, outside, 10_000)
    assert (doubt is None) == (said is None)
    if said:
        assert doubt is not None
        assert said in doubt
        assert f"it fits {fitted:.0%} of its labels" in doubt


def test_the_gap_that_counts_as_memorised() -> None:
    assert memorised("it", 0.5 + MEMORISED_GAP - 0.01, 0.5, 10_000) is None
    assert memorised("it", 0.5 + MEMORISED_GAP + 0.01, 0.5, 10_000)
    assert memorised("it", 0.5 + MEMORISED_GAP + 0.01, 0.5, 10) is None  # ten rows leave that much doubt


def test_a_finished_network_may_have_seen_the_held_out_rows_too() -> None:
    assert memorised("it", 1.0, 0.99, 500) is None
    assert "may have been trained on all of them" in str(memorised("it", 1.0, 0.99, 500, seen=True))


def test_accuracy_of_some_rows_and_of_none() -> None:
    right, rows = np.array([True, False, True, True]), np.array([True, True, False, False])
    assert accuracy(right, rows) == 0.5
    assert accuracy(right, ~rows) == 1
    assert accuracy(right, np.zeros(4, bool)) is None


def test_the_weights_of_an_opinion_that_is_calibrated_and_one_that_says_nothing() -> None:
    rng = np.random.default_rng(0)
    opinion = log_softmax(rng.normal(0, 2, (40_000, 3)))
    labels = (np.exp(opinion).cumsum(1) > rng.uniform(size=(40_000, 1))).argmax(1)
    weights = opinion_weights([opinion, log_softmax(rng.normal(0, 2, opinion.shape))], labels)
    assert weights == pytest.approx([1, 0], abs=0.03)
    assert opinion_weights([opinion / 2], labels) == pytest.approx([2], abs=0.05)


def test_without_rows_opinions_count_alike_and_few_rows_move_them_little() -> None:
    some, other = log_softmax(knows(TRUTH, 3, 1)), log_softmax(knows(TRUTH, 0, 2))
    assert opinion_weights([some[:0], other[:0]], TRUTH[:0]) == pytest.approx([0.5, 0.5])
    few, many = (opinion_weights([some[:m], other[:m]], TRUTH[:m]) for m in (3, N))
    assert 0.5 < few[0] < many[0]
    assert many[1] < 0.1


@given(seed=st.integers(0, 10_000), parts=st.integers(1, 3))
@settings(max_examples=20)
def test_no_other_weights_predict_better(seed: int, parts: int) -> None:
    """The slow twin: the cost written out a row at a time, and a walk around the solution."""
    rng = np.random.default_rng(seed)
    opinions, labels = [log_softmax(rng.normal(0, 2, (15, 3))) for _ in range(parts)], rng.integers(0, 3, 15)

    def cost(weights: np.ndarray) -> float:
        pool = sum(w * opinion for w, opinion in zip(weights, opinions, strict=True))
        loss = sum(-np.log(softmax(pool[row : row + 1])[0, label]) for row, label in enumerate(labels))
        return float(loss + ((weights - 1 / parts) ** 2).sum() / (2 * PRIOR**2))

    best = opinion_weights(opinions, labels)
    assert (best >= 0).all()
    for step in rng.normal(0, 0.05, (40, parts)):
        assert cost(np.maximum(best + step, 0)) >= cost(best) - 1e-5


def test_a_part_that_knows_nothing_of_a_sample_leaves_it_to_the_others() -> None:
    margins = [np.array([1.0, np.nan, np.nan]), np.array([2.0, 3.0, np.nan])]
    sums = pooled(margins, np.array([1.0, 0.5]))
    assert sums[:2].tolist() == [1 * 1 + 0.5 * 2, 1.5 * 3]
    assert np.isnan(sums[2])


def test_a_good_backbone_takes_over_and_a_bad_one_is_not_heard() -> None:
    alone = rule_of(witness())
    assert alone.scores == ("weighted_aum",)
    assert alone.why == "the network while it learned is the only witness"
    good = rule_of(witness({"backbone": knows(TRUTH, 6)}))
    assert good.scores[0] == "loo_ridge_margin"
    assert good.shares["loo_ridge_margin"] > 0.8
    assert "the head on the features of the backbone counts" in good.why
    assert found(good) > 0.99 > found(alone)
    bad = rule_of(witness({"backbone": np.random.default_rng(9).normal(size=(N, 20))}))
    assert bad.shares["loo_ridge_margin"] < 0.1
    assert found(bad) > found(alone) - 0.005
    assert "400 held-out images" in good.why
    assert good.judges == 400


def test_each_origin_has_a_score_of_its_own() -> None:
    rule = rule_of(witness({"backbone": knows(TRUTH, 2, 3), "reference": knows(TRUTH, 2, 4)}))
    assert set(rule.scores) == {"weighted_aum", "loo_ridge_margin", "loo_ridge_margin_reference"}
    assert set(rule.scores) <= set(SCORE_INFO)
    assert sum(rule.shares.values()) == pytest.approx(1)
    assert rule.describe()["scores"] == sorted(rule.shares, key=lambda name: -rule.shares[name])
    assert np.asarray(rule.probabilities).sum(1) == pytest.approx(1)


def test_features_that_carry_the_training_labels_are_left_out() -> None:
    carried = np.where(TRAIN, NOISY, RNG.integers(0, C, N))
    rule = rule_of(witness({"backbone": knows(TRUTH, 4, 3), "reference": knows(carried, 9, 4)}))
    assert "loo_ridge_margin_reference" not in rule.weights
    assert "the reference network tell" in rule.left_out["loo_ridge_margin_reference"]
    assert not rule.memorised
    assert "so the head on its features is left out" in rule.why
    only = rule_of(witness({"reference": knows(carried, 9, 4)}))
    assert only.memorised
    assert only.scores == ("weighted_aum",)


def test_a_finished_network_that_fits_every_label_is_heard_only_where_nothing_else_is() -> None:
    logits = 20 * np.eye(C)[NOISY]
    both = rule_of(witness({"model": knows(NOISY, 9), "reference": knows(TRUTH, 2)}, logits=logits))
    assert set(both.weights) == {"weighted_aum", "loo_ridge_margin_reference"}
    assert "your model fits 100% of its labels and 100% of the held-out ones" in both.left_out["loo_ridge_margin"]
    alone = rule_of(witness({"model": knows(NOISY, 9)}, logits=logits, history=None))
    assert alone.scores == ("loo_ridge_margin",)
    assert "such a network alone ranks human errors badly" in alone.why
    trained_here = rule_of(witness({"model": knows(TRUTH, 2)}, logits=logits))
    assert "loo_ridge_margin" in trained_here.weights  # its record shows that it never saw the held-out rows


def test_nothing_held_out() -> None:
    everything = np.ones(N, bool)
    rule = rule_of(witness({"backbone": knows(TRUTH, 3)}, train=everything))
    assert rule.weights == {"weighted_aum": 0.5, "loo_ridge_margin": 0.5}
    assert rule.judges == 0
    assert "no image is held out to weigh them by, so their margins are added with equal weights" in rule.why


def unlogged(history: History, rows: np.ndarray) -> History:
    """The record as if `rows` had never been logged."""
    gaps = {name: array.copy() for name, array in history.arrays().items()}
    for name in ("given_logit", "other_logit", "given_prob", "error_norm", "input_norm"):
        gaps[name][:, rows] = np.nan
    gaps["other_class"][:, rows] = -1
    return History(**gaps)


def recorded(features: dict[str, np.ndarray], logits: np.ndarray, logged: np.ndarray, **parts: Any) -> Witness:
    """A training recorded elsewhere: of rows that it never logged, `logits` and its features are averages."""
    history = witness().history
    assert history is not None
    gaps = unlogged(history, ~logged)
    filled = np.where(logged[:, None], logits, logits[logged].mean(0))
    given = {o: np.where(logged[:, None], f, f[logged].mean(0)) if o == "model" else f for o, f in features.items()}
    return witness(given, history=gaps, logits=filled, recorded=True, logged=logged, **parts)


@pytest.mark.parametrize("origin", ["model", "reference", "backbone"])
def test_no_verdict_rests_on_rows_that_were_never_logged(origin: str) -> None:
    rule = rule_of(recorded({origin: knows(TRUTH, 3)}, knows(NOISY, 3), TRAIN))
    assert rule.left_out == {}
    assert "memorised" not in rule.why
    assert rule.weights == {"weighted_aum": 0.5, "loo_ridge_margin": 0.5}
    assert rule.judges == 0
    assert "none of the 400 held-out images was logged to weigh them by, so their margins are added with" in rule.why
    assert "no image is held out" not in rule.why
    assert ("the features of the recorded training" in rule.why) == (origin == "model")


def test_held_out_rows_that_were_logged_weigh_and_show_memorisation() -> None:
    everything, carried = np.ones(N, bool), np.where(TRAIN, NOISY, RNG.integers(0, C, N))
    rule = rule_of(recorded({"model": knows(TRUTH, 3)}, knows(TRUTH, 4), everything))
    assert rule.judges == (~TRAIN).sum()
    assert "so weighed, they best predict the labels of 400 held-out images" in rule.why
    half = TRAIN | (np.arange(N) % 2 == 0)
    assert rule_of(recorded({"model": knows(TRUTH, 3)}, knows(TRUTH, 4), half)).judges == (half & ~TRAIN).sum()
    by_heart = rule_of(recorded({"model": knows(carried, 9)}, 20 * np.eye(C)[carried], everything))
    assert "the features of the recorded training tell" in by_heart.left_out["loo_ridge_margin"]
    in_its_logits = rule_of(recorded({"model": knows(TRUTH, 3)}, 20 * np.eye(C)[carried], everything))
    assert "the recorded training fits 100% of its labels and" in in_its_logits.left_out["loo_ridge_margin"]
    assert "it has memorised labels" in in_its_logits.why


def test_a_recorded_training_that_fits_every_label_and_logged_nothing_else() -> None:
    rule = rule_of(recorded({"model": knows(TRUTH, 3)}, 20 * np.eye(C)[NOISY], TRAIN))
    assert rule.left_out["loo_ridge_margin"] == (
        "the recorded training fits 100% of its labels and no held-out row was logged to show that it understands them"
    )


def test_the_reference_beside_a_recorded_training_is_judged_by_its_own_record() -> None:
    carried = np.where(TRAIN, NOISY, RNG.integers(0, C, N))
    by_heart = history_of(np.stack([20 * np.eye(C)[carried]] * T), NOISY)
    everything, features = np.ones(N, bool), {"reference": knows(TRUTH, 3)}
    heard = rule_of(recorded(features, 20 * np.eye(C)[carried], everything, beside=witness().history))
    assert heard.left_out == {}
    doubted = rule_of(recorded(features, knows(TRUTH, 4), everything, beside=by_heart))
    assert "the reference network fits 100% of its labels" in doubted.left_out["loo_ridge_margin"]


def test_rows_that_the_training_never_logged() -> None:
    history = witness().history
    assert history is not None
    rule = rule_of(witness({"backbone": knows(TRUTH, 3)}, history=unlogged(history, np.arange(N) % 7 == 0)))
    assert np.isfinite(rule.margins).all()
    assert rule.judges == (~TRAIN & (np.arange(N) % 7 > 0)).sum()


def test_nothing_seen_at_all() -> None:
    with pytest.raises(ModelError, match="Nothing was seen from which labels could be judged"):
        rule_of(witness(history=None))


def test_a_witness_speaks_of_the_same_rows() -> None:
    with pytest.raises(InputError, match="features of 'backbone' have 7 rows and there are 1,200 labels"):
        witness({"backbone": np.zeros((7, 2))})
    with pytest.raises(InputError, match="not from 'somewhere'"):
        witness({"somewhere": np.zeros((N, 2))})
