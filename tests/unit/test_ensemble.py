"""Several seeds, one table: known means and spreads, and whose word counts where the seeds differ."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import InputError
from core.findings import Findings, Neighbours
from core.scores.ensemble import average

CLASSES = ("cat", "dog", "fox")
N = 8


def findings(seed: int, **changes: Sequence[object]) -> Findings:
    """Random findings of eight rows, the last two held out."""
    rng = np.random.default_rng(seed)
    head = rng.dirichlet(np.ones(3), N).astype(np.float32)
    columns: dict[str, object] = {
        "filepath": "", "split": ["train"] * 6 + ["val"] * 2, "given_label": "cat",
        "predicted_label": rng.choice(CLASSES, N), "predicted_prob": rng.uniform(0.4, 1, N),
        "suggested_label": np.array(CLASSES, object)[head.argmax(1)], "suggested_prob": head.max(1),
        "suspicion": places(rng), "reason": [f"seed {seed} row {row}" for row in range(N)], "meta_batch": "b",
        "score_aum": places(rng), "score_loss": places(rng),
        "raw_aum": rng.normal(0, 1, N), "raw_loss": rng.normal(0, 1, N),
    }  # fmt: skip
    table = pd.DataFrame({**columns, **changes}, index=pd.Index([f"s{row}" for row in range(N)], name="sample_id"))
    near = Neighbours(rng.integers(0, 6, (N, 2)), rng.random((N, 2)).astype(np.float32))
    run = {"settings": {"seed": seed}, "suspicion": {"why": f"because {seed}"}, "tool": "x"}
    return Findings(table, CLASSES, run, head, rng.random((3, N)).astype(np.float32), {"features": near})


def places(rng: np.random.Generator) -> np.ndarray:
    """Percentiles as a run has them: six training rows, two held-out ones."""
    return np.concatenate([rng.permutation(6) * 20.0, rng.permutation(2) * 100.0])


def test_a_known_mean_and_a_known_spread() -> None:
    one = [0.0, 20, 40, 60, 80, 100, 0, 100]
    other = [20.0, 0, 100, 60, 40, 80, 100, 0]
    found = average([findings(0, suspicion=one), findings(1, suspicion=other)])
    # means of the training rows: 10 10 70 60 60 90, ranked again: ties share; of the held-out: 50 50
    assert found.samples["suspicion"].tolist() == [10, 10, 80, 50, 50, 100, 50, 50]
    assert found.samples["spread_suspicion"].tolist() == [10, 10, 30, 0, 20, 10, 50, 50]


def test_three_seeds_are_averaged_column_by_column() -> None:
    parts = [findings(seed) for seed in range(3)]
    found = average(parts)
    for name in ("aum", "loss"):
        shares = np.stack([part.samples[f"score_{name}"] for part in parts])
        np.testing.assert_allclose(found.samples[f"spread_{name}"], np.std(shares, axis=0))
        raw = np.mean([part.samples[f"raw_{name}"] for part in parts], axis=0)
        np.testing.assert_allclose(found.samples[f"raw_{name}"], raw)
        order = found.samples[f"score_{name}"].to_numpy()[:6].argsort(kind="stable")
        assert (np.diff(shares.mean(0)[:6][order]) >= 0).all()
    np.testing.assert_allclose(found.head_probabilities, np.mean([p.head_probabilities for p in parts], axis=0), 1e-6)
    np.testing.assert_allclose(found.curves, np.mean([p.curves for p in parts], axis=0), rtol=1e-6)
    assert found.score_names == ("aum", "loss")
    assert found.samples["meta_batch"].eq("b").all()
    assert list(found.samples.columns).count("suspicion") == 1
    assert found.neighbours is parts[0].neighbours


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(max_examples=20)
def test_the_order_of_the_seeds_plays_no_part_in_the_numbers(seed: int, count: int) -> None:
    parts = [findings(seed + other) for other in range(count)]
    one, other = average(parts), average(parts[::-1])
    numbers = one.samples.select_dtypes("number").columns
    pd.testing.assert_frame_equal(one.samples[numbers], other.samples[numbers])
    assert one.samples[["spread_suspicion", "spread_aum"]].to_numpy().max() <= 50
    if count == 1:
        same = ["suspicion", "score_aum", "raw_aum", "predicted_label", "suggested_label", "reason"]
        pd.testing.assert_frame_equal(one.samples[same], parts[0].samples[same])
        assert (one.samples["spread_aum"] == 0).all()


def test_labels_follow_the_probabilities_of_all() -> None:
    parts = [
        findings(0, predicted_label=["dog"] * N, predicted_prob=[0.9] * N),
        findings(1, predicted_label=["cat"] * N, predicted_prob=[0.5] * N),
        findings(2, predicted_label=["cat"] * N, predicted_prob=[0.6] * N),
    ]
    found = average(parts)
    assert found.samples["predicted_label"].eq("cat").all()
    assert found.samples["predicted_prob"].tolist() == pytest.approx([1.1 / 3] * N)
    head = np.mean([part.head_probabilities for part in parts], axis=0)
    assert found.samples["suggested_label"].tolist() == [CLASSES[c] for c in head.argmax(1)]
    assert found.samples["suggested_prob"].tolist() == pytest.approx(head.max(1).tolist())


def test_the_sentence_is_of_a_training_that_suggests_the_same_label() -> None:
    parts = [findings(seed) for seed in range(4)]
    found = average(parts)
    for row, (sentence, suggested) in enumerate(
        zip(found.samples["reason"], found.samples["suggested_label"], strict=True)
    ):
        agreeing = [part for part in parts if part.samples["suggested_label"].iloc[row] == suggested]
        assert not agreeing or sentence in {part.samples["reason"].iloc[row] for part in agreeing}
        mean = np.mean([part.samples["suspicion"].iloc[row] for part in parts])
        best = min((agreeing or parts), key=lambda part: abs(part.samples["suspicion"].iloc[row] - mean))
        chosen = parts[int(sentence.split()[1])]
        assert abs(chosen.samples["suspicion"].iloc[row] - mean) == abs(best.samples["suspicion"].iloc[row] - mean)


def test_the_record_says_of_which_trainings() -> None:
    parts = [findings(4), findings(5)]
    models = average(parts).run["models"]
    assert models["count"] == 2
    assert models["seeds"] == [4, 5]
    assert [each["why"] for each in models["suspicion"]] == ["because 4", "because 5"]
    assert set(models["spread"]) == {"suspicion", "aum", "loss"}
    assert models["left_out"] == []
    assert average(parts).run["tool"] == "x"


def test_a_score_that_one_training_lacks_is_left_out_and_named() -> None:
    lacking = findings(1)
    lacking = Findings(**{**vars(lacking), "samples": lacking.samples.drop(columns=["score_loss", "raw_loss"])})
    found = average([findings(0), lacking])
    assert found.score_names == ("aum",)
    assert not [name for name in found.samples if "loss" in name]
    assert found.run["models"]["left_out"] == ["loss"]


def test_curves_of_different_length_are_not_mixed() -> None:
    short = findings(1)
    short = Findings(**{**vars(short), "curves": short.curves[:2]})
    first = findings(0)
    np.testing.assert_array_equal(average([first, short]).curves, first.curves)


def test_it_can_be_written_and_read_back(tmp_path) -> None:
    found = average([findings(0), findings(1)])
    found.save_scores(tmp_path)
    pd.testing.assert_frame_equal(Findings.load(tmp_path).samples, found.samples)


def test_what_cannot_be_averaged_is_told() -> None:
    with pytest.raises(InputError, match="no findings to average"):
        average([])
    moved = findings(1)
    moved = Findings(**{**vars(moved), "samples": moved.samples[::-1]})
    with pytest.raises(InputError, match="Findings 1 and 2 are of different rows"):
        average([findings(0), moved])
