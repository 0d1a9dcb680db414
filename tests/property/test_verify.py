"""What holds of arms and comparisons, whatever the data."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given as over
from hypothesis import settings
from hypothesis import strategies as st

from core.verify.arms import Arm, control, decided, given, requested
from core.verify.compare import changed, compare
from core.verify.record import Outcome, TestSet, Verification

CLASSES = ("cat", "dog", "fox")
SEEDS = st.integers(0, 2**32 - 1)


def table_of(rng: np.random.Generator, n: int) -> tuple[pd.DataFrame, np.ndarray]:
    labels = rng.integers(0, 3, n)
    names = np.array(CLASSES)
    frame = pd.DataFrame(
        {
            "split": "train",
            "given_label": names[labels],
            "suggested_label": names[rng.integers(0, 3, n)],
            "suspicion": np.round(rng.random(n) * 100, -1),  # with ties
            "score_loss": np.where(rng.random(n) < 0.2, np.nan, rng.random(n) * 100),
        },
        index=pd.Index([f"s{each:03d}" for each in rng.permutation(n)], name="sample_id"),
    )
    return frame, labels


def arm_of(rng: np.random.Generator, labels: np.ndarray) -> Arm:
    codes = np.where(rng.random(len(labels)) < 0.3, rng.integers(0, 3, len(labels)), labels)
    return Arm("x", "x", rng.random(len(labels)) < 0.7, codes, np.ones(len(labels)))


def verification_of(seed: int, rows: int, k: int) -> Verification:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rows)
    outcomes = tuple(
        Outcome(name, name, {"kept": 1, "removed": 0, "relabelled": 0, "weighted": 0}, {},
                rng.integers(0, 3, (k, rows)), rng.random((k, rows)))
        for name in ("given", "x")
    )  # fmt: skip
    groups = {"class": tuple(CLASSES[code] for code in labels), "group": tuple(rng.choice(["a", "b"], rows).tolist())}
    test = TestSet("test", tuple(f"t{row}" for row in range(rows)), labels)
    return Verification("full", "2026-01-01T00:00:00", "t", "p", CLASSES, test, outcomes, groups, {})


def turned(v: Verification, order: np.ndarray) -> Verification:
    """The same with its test rows in another order."""
    test = TestSet("test", tuple(v.test.ids[row] for row in order), v.test.labels[order])
    outcomes = tuple(
        replace(each, predicted=each.predicted[:, order], given_prob=each.given_prob[:, order]) for each in v.outcomes
    )
    groups = {name: tuple(values[row] for row in order) for name, values in v.groups.items()}
    return replace(v, test=test, outcomes=outcomes, groups=groups)


@settings(deadline=None)
@over(SEEDS, st.integers(1, 40))
def test_kept_and_removed_are_all_and_disjoint_and_controls_match_by_class(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    arm = arm_of(rng, labels)
    assert (arm.kept ^ arm.removed()).all()
    assert not (arm.removed() & arm.relabelled(labels)).any()
    counts = arm.counts(labels)
    assert counts["kept"] + counts["removed"] == n
    assert counts["removed"] + counts["relabelled"] == int(arm.changed(labels).sum())
    drawn = control(arm, labels, seed)
    for code in range(3):
        mine = labels == code
        assert int((~drawn.kept & mine).sum()) == int((arm.changed(labels) & mine).sum())
    assert not drawn.relabelled(labels).any()


@settings(deadline=None, max_examples=25)
@over(SEEDS, st.integers(4, 24), st.sampled_from(["", ":per-class"]), st.sampled_from(["suspicion", "loss"]))
def test_a_larger_amount_changes_more_and_never_less(seed: int, n: int, end: str, score: str) -> None:
    frame, labels = table_of(np.random.default_rng(seed), n)
    before = np.zeros(n, bool)
    for amount in range(1, n // 2):
        removed = requested(f"remove:{score}:{amount}{end}", frame, labels, CLASSES).removed()
        assert (removed | ~before).all()
        assert int(removed.sum()) == min(
            amount, int(frame[frame.columns[3 if score == "suspicion" else 4]].notna().sum())
        )
        before = removed


@settings(deadline=None, max_examples=25)
@over(SEEDS, st.integers(4, 30))
def test_the_order_of_the_rows_permutes_an_arm_and_nothing_else(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    frame, labels = table_of(rng, n)
    order = rng.permutation(n)
    for text in ("remove:suspicion:2", "upweight:suspicion:2:3", "remove:suspicion:40%:per-class"):
        one = requested(text, frame, labels, CLASSES)
        other = requested(text, frame.iloc[order], labels[order], CLASSES)
        np.testing.assert_array_equal(one.kept[order], other.kept)
        np.testing.assert_allclose(one.weights[order], other.weights)
        assert one.weights[one.kept].mean() == pytest.approx(1)


@settings(deadline=None)
@over(SEEDS, st.integers(1, 30))
def test_an_arm_of_no_decisions_is_the_data_as_given(seed: int, n: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, n)
    ids = [f"s{row}" for row in range(n)]
    nothing = pd.DataFrame({"action": ["keep"] * n, "final_label": [None] * n}, pd.Index(ids, name="sample_id"))
    for said in (nothing, nothing.iloc[:0]):
        arm = decided(ids, labels, CLASSES, said)
        assert arm.counts(labels) == given(labels).counts(labels)


@settings(deadline=None, max_examples=25)
@over(SEEDS, st.integers(3, 60), st.integers(1, 4))
def test_intervals_hold_their_value_and_turn_with_the_arms(seed: int, rows: int, k: int) -> None:
    v = verification_of(seed, rows, k)
    found = compare(v, "x")
    parts = [found.accuracy, found.log_loss, found.worst_class, *found.worst.values()]
    parts += [each for values in found.per.values() for each in values.values()]
    assert all(each.low <= each.value <= each.high for each in parts)
    back = compare(v, "given", "x").accuracy
    assert (-back.value, -back.high, -back.low) == pytest.approx(
        (found.accuracy.value, found.accuracy.low, found.accuracy.high), abs=1e-5
    )
    whole = sum(each.value * found.sizes["class"][name] for name, each in found.per["class"].items())
    assert whole == pytest.approx(found.accuracy.value * rows)


@settings(deadline=None, max_examples=25)
@over(SEEDS, st.integers(3, 60), st.integers(1, 4))
def test_the_order_of_the_test_rows_changes_no_value(seed: int, rows: int, k: int) -> None:
    v = verification_of(seed, rows, k)
    other = turned(v, np.random.default_rng(seed).permutation(rows))
    one, two = compare(v, "x"), compare(other, "x")
    for part in ("accuracy", "log_loss", "worst_class"):
        assert getattr(one, part).value == pytest.approx(getattr(two, part).value)
    ids = [{each.id for each in changed(which, "x").fixed} for which in (v, other)]
    assert ids[0] == ids[1]


@settings(deadline=None, max_examples=25)
@over(SEEDS, st.integers(3, 60))
def test_changed_predictions_add_up_to_the_difference_of_one_training(seed: int, rows: int) -> None:
    v = verification_of(seed, rows, 1)
    found = changed(v, "x", top=0)
    assert found.fixed == ()
    assert (found.fixed_count - found.broken_count) / rows == pytest.approx(compare(v, "x").accuracy.value)


@settings(deadline=None, max_examples=15)
@over(SEEDS, st.integers(3, 20), st.integers(1, 3), st.text(min_size=1, max_size=8))
def test_what_is_saved_comes_back_whatever_its_names(seed: int, rows: int, k: int, name: str) -> None:
    v = verification_of(seed, rows, k)
    v = replace(v, groups={"class": v.groups["class"], f"meta_{name}": (name,) * rows}, notes=(name,))
    with tempfile.TemporaryDirectory() as folder:
        v.save(Path(folder) / "x")
        back = Verification.load(Path(folder) / "x")
    assert (back.groups, back.notes, back.test.ids) == (v.groups, v.notes, v.test.ids)
    np.testing.assert_array_equal(back.outcomes[1].predicted, v.outcomes[1].predicted)
