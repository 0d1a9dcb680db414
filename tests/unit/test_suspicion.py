"""Which evidence the default ranking rests on, and how it is combined."""

import numpy as np
import pytest

from core.scores import SCORES, suspicion
from core.scores.suspicion import Rule, accuracy, choose_rule, combine


@pytest.mark.parametrize(
    ("fitted", "held_out", "memorised"),
    [(0.7, 0.65, False), (0.99, 0.5, True), (0.3, 0.6, False), (1.0, 1.0, False), (0.97, None, False),
     (0.99, None, True)],
)  # fmt: skip
def test_the_head_speaks_unless_labels_were_memorised(fitted: float, held_out: float | None, memorised: bool) -> None:
    rule = choose_rule(fitted, held_out)
    assert rule.memorised is memorised
    assert ("loo_ridge_margin" in rule.scores) is not memorised
    assert {SCORES[name].needs for name in rule.scores} == ({"history"} if memorised else {"history", "features"})
    assert f"fits {fitted:.0%} of its labels" in rule.why
    assert ("left out" in rule.why) is memorised


def test_the_gap_that_counts_as_memorised() -> None:
    gap = suspicion.MEMORISED_GAP
    assert not choose_rule(0.5 + gap - 0.01, 0.5).memorised
    assert choose_rule(0.5 + gap + 0.01, 0.5).memorised


def test_accuracy_of_some_rows_and_of_none() -> None:
    right, rows = np.array([True, False, True, True]), np.array([True, True, False, False])
    assert accuracy(right, rows) == 0.5
    assert accuracy(right, ~rows) == 1
    assert accuracy(right, np.zeros(4, bool)) is None


def test_combining_is_the_mean_of_the_rules_scores_only() -> None:
    shares = {"aum": np.array([0.0, 100.0]), "margin": np.array([50.0, 60.0]), "loss": np.array([9.0, 9.0])}
    assert combine(shares, Rule(("aum", "margin"), False, "")).tolist() == [25, 80]
    assert combine(shares, Rule(("aum",), True, "")).tolist() == [0, 100]
