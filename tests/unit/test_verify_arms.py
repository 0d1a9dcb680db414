"""Arms: what is left out, relabelled and weighted, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, SettingsError
from core.verify.arms import control, decided, decisions_mark, given, requested

CLASSES = ("cat", "dog", "fox")
IDS = ("a", "b", "c", "d", "e", "f")
LABELS = np.array([0, 0, 0, 1, 1, 2])


def table() -> pd.DataFrame:
    """Six training rows in the manifest's order, and a held-out one that is more suspicious than all."""
    return pd.DataFrame(
        {
            "split": ["train"] * 6 + ["test"],
            "given_label": [CLASSES[code] for code in LABELS] + ["cat"],
            "suggested_label": ["cat", "dog", "fox", "dog", "cat", None, "dog"],
            "suspicion": [10.0, 50.0, 50.0, 90.0, 40.0, 20.0, 99.0],
            "score_loss": [1.0, 2.0, 3.0, 4.0, 5.0, np.nan, 99.0],
        },
        index=pd.Index([*IDS, "held"], name="sample_id"),
    )


def decisions(**said: tuple[str, str | None]) -> pd.DataFrame:
    index = pd.Index(list(said), dtype="str", name="sample_id")
    return pd.DataFrame({"action": [a for a, _ in said.values()], "final_label": [b for _, b in said.values()]}, index)


def test_as_given() -> None:
    arm = given(LABELS)
    assert (arm.name, arm.title, arm.control_of) == ("given", "as given", "")
    assert arm.counts(LABELS) == {"kept": 6, "removed": 0, "relabelled": 0, "weighted": 0}
    assert arm.weights.tolist() == [1.0] * 6


def test_decisions_remove_and_relabel_and_nothing_else() -> None:
    said = decisions(
        a=("exclude", None), b=("relabel", "fox"), c=("keep", None), d=("unsure", None), held=("exclude", None)
    )
    arm = decided(IDS, LABELS, CLASSES, said)
    assert arm.kept.tolist() == [False, True, True, True, True, True]
    assert arm.labels.tolist() == [0, 2, 0, 1, 1, 2]
    assert arm.counts(LABELS) == {"kept": 5, "removed": 1, "relabelled": 1, "weighted": 0}
    groups = {"class": [CLASSES[code] for code in LABELS], "group": ["x", "y", "x", "y", "x", "y"]}
    assert arm.changed_per(LABELS, groups) == {
        "class": {"cat": 2, "dog": 0, "fox": 0},
        "group": {"x": 1, "y": 1},
    }


def test_another_persons_table_goes_by_its_own_name() -> None:
    arm = decided(IDS, LABELS, CLASSES, decisions(a=("exclude", None)), name="file:theirs.csv", title="by their list")
    assert (arm.name, arm.title) == ("file:theirs.csv", "by their list")


def test_a_relabelling_to_no_class_is_told() -> None:
    with pytest.raises(InputError, match=r"'owl' is not among the 3 classes.*or leave the row out"):
        decided(IDS, LABELS, CLASSES, decisions(a=("relabel", "owl")))


def test_decisions_that_leave_nothing_are_told() -> None:
    with pytest.raises(InputError, match="leaves no row to train on"):
        decided(IDS, LABELS, CLASSES, decisions(**dict.fromkeys(IDS, ("exclude", None))))


def test_remove_takes_the_most_suspicious_and_of_equal_ones_the_first_name() -> None:
    arm = requested("remove:suspicion:2", table(), LABELS, CLASSES)
    assert [IDS[row] for row in np.flatnonzero(~arm.kept)] == ["b", "d"]  # c is as suspicious as b
    assert (arm.name, arm.title) == ("remove:suspicion:2", "2 most suspicious removed")


def test_a_share_is_of_the_training_rows() -> None:
    arm = requested(" remove : loss : 50% ", table(), LABELS, CLASSES)
    assert [IDS[row] for row in np.flatnonzero(~arm.kept)] == ["c", "d", "e"]
    assert (arm.name, arm.title) == ("remove:loss:50%", "3 most suspicious by loss removed")


def test_a_row_without_the_score_is_never_taken() -> None:
    assert requested("remove:loss:6", table(), LABELS, CLASSES).kept.tolist() == [False] * 5 + [True]


def test_per_class_takes_the_same_share_of_each() -> None:
    """2 of 6 rows: a third of 3 cats is 1; of the dogs and the one fox the half row goes to the larger class."""
    arm = requested("remove:suspicion:2:per-class", table(), LABELS, CLASSES)
    assert [IDS[row] for row in np.flatnonzero(~arm.kept)] == ["b", "d"]
    assert arm.title == "2 most suspicious, the same share of each class, removed"


def test_relabel_counts_only_rows_whose_suggestion_is_another_class() -> None:
    """d is the most suspicious but is suggested its own label, f has no suggestion."""
    arm = requested("relabel:suspicion:2", table(), LABELS, CLASSES)
    assert arm.kept.all()
    assert arm.labels.tolist() == [0, 1, 2, 1, 1, 2]
    assert arm.counts(LABELS)["relabelled"] == 2
    assert arm.title == "2 most suspicious relabelled as suggested"
    assert requested("relabel:suspicion:100%", table(), LABELS, CLASSES).counts(LABELS)["relabelled"] == 3


def test_counting_every_row_more_changes_nothing() -> None:
    with pytest.raises(InputError, match="counts every row alike"):
        requested("upweight:suspicion:100%", table(), LABELS, CLASSES)


def test_upweight_counts_rows_more_and_the_mean_stays_1() -> None:
    arm = requested("upweight:suspicion:1:5", table(), LABELS, CLASSES)
    np.testing.assert_allclose(arm.weights, np.array([1, 1, 1, 5, 1, 1]) * 6 / 10)
    assert arm.counts(LABELS) == {"kept": 6, "removed": 0, "relabelled": 0, "weighted": 1}
    assert arm.title == "1 most suspicious counted 5 times"
    plain = requested("upweight:suspicion:1", table(), LABELS, CLASSES)
    np.testing.assert_allclose(plain.weights[3] / plain.weights[0], 4.0)


@pytest.mark.parametrize(
    ("text", "kind", "told"),
    [
        ("drop:loss:2", InputError, r"'drop:loss:2' is not understood. Write remove:SCORE:K"),
        ("remove:loss", InputError, "is not understood"),
        ("remove:loss:2:3", InputError, "is not understood"),
        ("remove:none:2", InputError, "There is no score 'none'.*suspicion, loss"),
        ("remove:loss:0", InputError, "changes no row"),
        ("remove:suspicion:100%", InputError, "leaves no row to train on"),
        ("remove:loss:many", SettingsError, "A budget of 'many' cannot be read"),
        ("upweight:loss:2:half", SettingsError, "count 'half' times. Give a factor above 1"),
        ("upweight:loss:2:1", SettingsError, "Give a factor above 1"),
        ("upweight:loss:2:inf", SettingsError, "at most 1000"),
    ],
)
def test_requests_that_cannot_be_met(text: str, kind: type[Exception], told: str) -> None:
    with pytest.raises(kind, match=told):
        requested(text, table(), LABELS, CLASSES)


def test_rows_and_labels_have_to_match() -> None:
    with pytest.raises(InputError, match="5 labels were given for 6 training rows"):
        requested("remove:loss:1", table(), LABELS[:5], CLASSES)


def test_the_control_takes_as_many_of_each_given_class() -> None:
    said = decisions(a=("exclude", None), b=("relabel", "fox"), d=("exclude", None))
    arm = decided(IDS, LABELS, CLASSES, said)
    found = control(arm, LABELS, seed=0)
    assert (found.name, found.title) == ("random for decided", "as many removed at random")
    assert found.control_of == "decided"
    assert np.bincount(LABELS[~found.kept], minlength=3).tolist() == [2, 1, 0]
    assert found.labels.tolist() == LABELS.tolist()
    np.testing.assert_array_equal(found.kept, control(arm, LABELS, seed=0).kept)


def test_every_row_of_a_class_is_equally_likely_in_a_control() -> None:
    arm = decided(IDS, LABELS, CLASSES, decisions(a=("exclude", None)))
    taken = np.array([~control(arm, LABELS, seed).kept for seed in range(600)]).mean(axis=0)
    np.testing.assert_allclose(taken[:3], 1 / 3, atol=0.06)
    assert taken[3:].tolist() == [0, 0, 0]


def test_the_control_of_weights_weighs_as_many_others() -> None:
    arm = requested("upweight:suspicion:1", table(), LABELS, CLASSES)
    drawn = [control(arm, LABELS, seed) for seed in range(40)]
    assert {tuple(sorted(each.weights[3:5])) for each in drawn} == {tuple(sorted(arm.weights[3:5]))}
    assert {int(each.weights.argmax()) for each in drawn} == {3, 4}
    assert drawn[0].kept.all()
    assert drawn[0].title == "as many up-weighted at random"


def test_the_mark_of_decisions_is_of_what_they_change() -> None:
    said = decisions(b=("relabel", "fox"), a=("exclude", None), c=("keep", None), held=("exclude", None))
    mark = decisions_mark(said, IDS)
    assert mark["changed"] == 2
    assert mark == decisions_mark(said.iloc[::-1], IDS)
    assert mark == decisions_mark(said.drop(index=["c", "held"]), IDS)
    other = decisions(b=("relabel", "dog"), a=("exclude", None))
    assert mark["digest"] != decisions_mark(other, IDS)["digest"]
