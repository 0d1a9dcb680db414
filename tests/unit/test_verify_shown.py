"""What a screen says of a verification: figures by hand, words, and what an address may ask for."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, SettingsError
from core.verify import shown
from core.verify.arms import requested
from core.verify.compare import compare
from core.verify.record import Outcome, TestSet, Verification
from core.verify.shown import (
    AGAINST_GIVEN,
    AGAINST_RANDOM,
    NATS,
    POINTS,
    arm_spec,
    arms_in,
    cost,
    drawn,
    first_of,
    group_title,
    held_out,
    limits,
    measured_on,
    pick,
    show,
    spoken,
    stale,
    told,
)
from tests.fake_verification import fake_quick, fake_verification

COUNTS = {"kept": 9, "removed": 1, "relabelled": 0, "weighted": 0}


def outcome(name: str, predicted: list[list[int]], of: str = "", **more: Any) -> Outcome:
    rows = np.array(predicted)
    given = {"name": name, "title": name.upper(), "counts": COUNTS, "changed_per": {"class": {"cat": 1}}}
    return Outcome(**{**given, "predicted": rows, "given_prob": np.full(rows.shape, 0.5), "control_of": of, **more})


def by_hand(**more: Any) -> Verification:
    """Four test rows, two of each class; half of them right as given, three of four with the decisions."""
    labels = np.array([0, 0, 1, 1])
    given, arm, random = [[0, 1, 1, 0]] * 2, [[0, 0, 1, 0]] * 2, [[0, 1, 1, 0], [0, 1, 0, 0]]
    parts = {
        "form": "full", "made_at": "2026-01-02T03:04:05+00:00", "tool": "gradsift 0", "project": "pets",
        "classes": ("cat", "dog"), "test": TestSet("val", ("a", "b", "c", "d"), labels),
        "outcomes": (
            outcome("given", given), outcome("decided", arm), outcome("random for decided", random, "decided"),
        ),
        "groups": {"class": ("cat", "cat", "dog", "dog")}, "group_sizes": {"class": {"cat": 6, "dog": 3, "fox": 1}},
        "seeds": (0, 1), "decisions": {"changed": 1, "digest": "x"},
    }  # fmt: skip
    return Verification(**{**parts, **more})


def test_the_accuracies_stand_side_by_side() -> None:
    assert show(by_hand(), "decided").figures == [
        ("Accuracy as given", "50.0 %", ""), ("Accuracy with the decisions", "75.0 %", ""),
        ("Accuracy, as many at random", "37.5 %", ""), ("Training images", "9", "1 left out"),
    ]  # fmt: skip


def test_every_difference_is_that_of_the_comparison_in_points() -> None:
    v = fake_verification()
    rows = {(row["name"], row["against"]): row for row in show(v, "decided").differences}
    for against, other in ((AGAINST_GIVEN, "given"), (AGAINST_RANDOM, "random for decided")):
        found = compare(v, "decided", other)
        row = rows["Accuracy", against]
        assert [row["value"], row["low"], row["high"]] == pytest.approx(
            [100 * found.accuracy.value, 100 * found.accuracy.low, 100 * found.accuracy.high]
        )
        assert row["unit"] == POINTS
        loss = rows["Log-loss", against]
        assert (loss["unit"], loss["value"]) == (NATS, pytest.approx(found.log_loss.value))
        assert rows["Worst group", against]["value"] == pytest.approx(100 * found.worst["group"].value)
    names = ["Accuracy", "Worst class", "Worst group", "Worst cluster", "Log-loss"]
    assert [name for name, against in rows if against == AGAINST_GIVEN] == names


def test_without_a_control_nothing_is_said_of_chance() -> None:
    found = show(fake_verification(controls=False), "decided")
    assert {row["against"] for row in found.differences} == {AGAINST_GIVEN}
    assert len(found.figures) == 3


def test_a_class_is_a_row_with_what_it_gave_and_got() -> None:
    rows = {row["name"]: row for row in show(by_hand(), "decided").groupings["class"]}
    cat = rows["cat"]
    assert (cat["images"], cat["share"], cat["changed"], cat["changed_share"]) == (6, 0.6, 1, 1.0)
    assert (cat["before"], cat["after"], cat["test_images"]) == (0.5, 1.0, 2)
    assert cat["value"] == pytest.approx(50.0)
    assert (rows["fox"]["told"], rows["fox"]["value"]) == ("no test image", None)
    assert [row["name"] for row in drawn(list(rows.values()))] == ["dog", "cat"], "the larger loss first, no fox"


def test_a_picture_holds_so_many_rows_and_the_table_all() -> None:
    assert len(drawn([{"test_images": 1}] * 100)) == shown.MOST_VALUES


def test_images_whose_prediction_changed_are_named_both_ways() -> None:
    found = show(by_hand(), "decided")
    assert found.fixed == [{"id": "b", "label": "cat", "before": "dog", "after": "cat", "seen": "in 2 of 2 trainings"}]
    assert (found.broken, found.fixed_count, found.broken_count) == ([], 1, 0)


def test_the_table_holds_every_arm_and_says_a_control_no_verdict() -> None:
    rows = {row["arm"]: row for row in show(fake_verification(scored=True), "decided").arms}
    random = "as many removed at random"
    scored = "30 most suspicious by oga_l2 removed"
    assert list(rows) == ["as given", "with the decisions", f"{random} (with the decisions)", scored,
                          f"{random} ({scored})"]  # fmt: skip
    assert rows["as given"]["given"] == rows["as given"]["verdict"] == ""
    assert rows["with the decisions"]["verdict"] == "helps"
    assert rows[f"{random} (with the decisions)"]["verdict"] == ""
    assert rows[f"{random} (with the decisions)"]["given"].endswith("]")


def test_curves_are_the_mean_and_range_of_the_seeds() -> None:
    curve = {"accuracy": np.array([[0.1, 0.5], [0.3, 0.7]]), "log_loss": np.ones((2, 2)), "train_loss": np.ones((2, 2))}
    v = by_hand()
    curves = show(replace(v, outcomes=tuple(replace(each, curves=curve) for each in v.outcomes)), "decided").curves
    assert list(curves) == ["Accuracy, %", "Log-loss", "Loss in training"]
    line = curves["Accuracy, %"][2]
    assert (line["name"], line["random"]) == ("RANDOM FOR DECIDED", True)
    assert line["mean"] == pytest.approx([20, 60])
    assert (line["low"], line["high"]) == (pytest.approx([10, 50]), pytest.approx([30, 70]))
    assert show(fake_quick(), "decided").curves == {}


@pytest.mark.parametrize(
    ("effect", "headline"),
    [(0.3, "The cleaning helps"), (0.0, "The cleaning has no clear effect"), (-0.3, "The cleaning hurts")],
)
def test_the_headline_is_the_verdict(effect: float, headline: str) -> None:
    found = show(fake_verification(m=300, effect=effect), "decided")
    assert found.headline == headline
    assert found.headline.endswith(found.word)


def test_another_arm_is_not_called_the_cleaning() -> None:
    assert show(fake_verification(m=300, effect=0.3, scored=True), "remove:oga_l2:30").headline == "This arm helps"


@pytest.mark.parametrize(
    ("value", "ends", "text"),
    [
        (2.06, (-0.3, 4.449), "+2.1 [−0.3, 4.4]"),
        (-1.0, (-2.0, -0.04), "−1.0 [−2.0, −0.04]"),  # below 0, as the verdict says, and not "0.0"
        (0.04, (-0.0004, 0.0), "+0.04 [0.000, 0.0]"),
    ],
)
def test_a_difference_in_figures(value: float, ends: tuple[float, float], text: str) -> None:
    assert told(value, *ends) == text


def test_digits_of_a_log_loss() -> None:
    assert told(0.0126, -0.0004, 0.2, 3) == "+0.013 [0.000, 0.200]"


def test_the_arm_asked_for_else_the_decisions_else_the_first() -> None:
    v = fake_verification(scored=True)
    assert [pick(v, name) for name in ("remove:oga_l2:30", "", "no such", "given", "random for decided")] == [
        "remove:oga_l2:30", *["decided"] * 4
    ]  # fmt: skip
    alone = replace(v, outcomes=(v.outcomes[0], *v.outcomes[3:]))
    assert pick(alone, "decided") == "remove:oga_l2:30"
    with pytest.raises(InputError, match="compares nothing"):
        pick(replace(v, outcomes=v.outcomes[:1]))


@pytest.mark.parametrize(
    ("then", "now", "said"),
    [
        ((3, "a"), (3, "a"), ""),
        ((3, "a"), (4, "b"), "they change 4 training images now, 3 then."),
        ((3, "a"), (3, "b"), "they change 3 training images now, 3 then."),
        ((0, "a"), (0, "b"), ""),
        ((1200, "a"), (0, ""), "they change 0 training images now, 1,200 then."),
    ],
)  # fmt: skip
def test_a_check_that_decisions_have_overtaken_says_so(then: tuple[int, str], now: tuple[int, str], said: str) -> None:
    marks: list[dict[str, int | str]] = [{"changed": count, "digest": digest} for count, digest in (then, now)]
    whole = f"Decisions have changed since: {said} Check again." if said else ""
    assert stale(by_hand(decisions=marks[0]), marks[1]) == whole


@pytest.mark.parametrize(
    ("test", "said"),
    [
        (
            {"noise": 0.034},
            "images of the split val. A head that never saw their labels firmly contradicts 3 % of them: wrong labels "
            "and its own mistakes together.",
        ),
        ({"known_noise": 0.025, "noise": 0.1}, "images of the split val. 2.5 % of their labels are known to be wrong."),
        ({"name": shown.UNCHANGED, "note": "Easier."}, "training rows that no arm changes. Easier."),
    ],
)  # fmt: skip
def test_the_test_set_is_named_with_its_noise(test: dict[str, Any], said: str) -> None:
    v = by_hand()
    assert measured_on(replace(v, test=replace(v.test, **test))) == f"Measured on 4 {said}"


def test_limits_of_each_form() -> None:
    assert "3 trainings of each arm" in limits(fake_verification(k=3))[0]
    assert limits(fake_verification(k=1))[0] == shown.ONE_SEED
    assert limits(by_hand(form="quick", notes=("A note.",)))[::2] == [shown.QUICK_LIMIT, "A note."]


def test_what_a_person_puts_together_is_an_arm_that_is_understood() -> None:
    rows = pd.DataFrame({"split": "train", "given_label": "cat", "suggested_label": "dog", "suspicion": range(40),
                         "score_loss": range(40)}, index=[f"{row:02d}" for row in range(40)])  # fmt: skip
    for action in shown.WHAT:
        for spec in (arm_spec(action, "loss", "5%", True, 3.0), arm_spec(action, "suspicion", " 2 ")):
            arm = requested(spec, rows, np.zeros(40, np.int64), ("cat", "dog"))
            assert arm.name == spec
            counts = arm.counts(np.zeros(40, np.int64))
            assert counts[{"remove": "removed", "relabel": "relabelled", "upweight": "weighted"}[action]] == 2
            assert arms_in(spec) == ([spec], [])
            assert spoken(spec, {"loss": "Loss"}).startswith(shown.WHAT[action])


@pytest.mark.parametrize("amount", ["", "many", "0", "0%", "101%", "-3"])
def test_an_amount_that_is_none(amount: str) -> None:
    with pytest.raises(SettingsError, match=r"5%"):
        arm_spec("remove", "suspicion", amount)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("remove:suspicion:5%", "Leave out 5%, the most suspicious"),
        ("relabel:oga_l2:500:per-class", "Relabel as suggested 500, by Gradient size, the same share of each class"),
        ("upweight:odd:5%:2.5", "Count more often 5%, by odd, 2.5 times"),
    ],
)
def test_an_arm_in_words(spec: str, words: str) -> None:
    assert spoken(spec, {"oga_l2": "Gradient size"}) == words


@pytest.mark.parametrize(
    "text",
    ["--full", "file:/etc/passwd", "remove", "remove:loss", "remove:loss:5%:x", "a b", "remove:lo ss:5%", "given"],
)
def test_an_address_may_ask_for_nothing_but_what_a_score_would_do(text: str) -> None:
    assert arms_in(f"remove:loss:5%,{text}") == (["remove:loss:5%"], [text])


def test_an_address_asks_for_so_many_arms() -> None:
    many = [f"remove:loss:{count}" for count in range(1, 12)]
    arms, left = arms_in(",".join(many))
    assert (arms, left) == (many[: shown.MOST_ARMS], many[shown.MOST_ARMS :])
    assert arms_in("") == ([], [])
    assert arms_in("remove:loss:1,remove:loss:1") == (["remove:loss:1"], [])


def test_splits_that_are_held_out() -> None:
    assert held_out(["train", "val", "test", "train", "clean"]) == ["test", "val", "clean"]
    assert held_out(["train"]) == []


@pytest.mark.parametrize(
    ("units", "there", "seeds", "words", "beside"),
    [
        (9, 0, 3, "Retrain 3 seeds × 3 arms", "To train: 9, one after another. A stopped check goes on where it was."),
        (5, 1, 1, "Retrain 1 seed × 5 arms",
         "1 of 5 trainings are there already. To train: 4, one after another. A stopped check goes on where it was."),
        (9, 9, 3, "Retrain 3 seeds × 3 arms", "All 9 trainings are there already: only the comparison is made."),
    ],
)  # fmt: skip
def test_what_a_check_takes(units: int, there: int, seeds: int, words: str, beside: str) -> None:
    assert cost({"units": units, "there": there, "seconds": 1.0}, seeds) == (words, beside)


def test_few_warnings_are_told_whole() -> None:
    assert first_of(["A.", "B."]) == "A. B."
    assert first_of(["A.", "B.", "C.", "D."]) == "A. B. C. 1 more class or group loses so: see the tables."
    assert first_of(["A."] * 5).endswith("2 more classes or groups lose so: see the tables.")


def test_a_grouping_in_words() -> None:
    assert [group_title(name) for name in ("class", "group", "meta_camera_type")] == ["class", "group", "camera type"]


def test_all_of_it_is_plain() -> None:
    for v in (fake_verification(scored=True), fake_quick()):
        json.dumps(vars(show(v, "decided")))


def test_a_later_run_makes_a_check_stale() -> None:
    v = fake_verification()
    assert stale(v, v.decisions, "another") == ""  # an earlier version noted no run
    noted = replace(v, settings={**v.settings, "scores": "one"})
    assert stale(noted, v.decisions, "one") == stale(noted, v.decisions) == ""
    assert "scored anew" in stale(noted, v.decisions, "another")
    unscored = replace(v, settings={**v.settings, "scores": ""})
    assert stale(unscored, v.decisions, "first") == ""  # scored for the first time since, not anew


def test_where_chance_is_unknown_the_headline_gives_no_word() -> None:
    told = show(fake_verification(k=1, m=300, effect=0.5), "decided")
    assert told.headline == "Whether the cleaning helps cannot be told yet"
    assert "chance is unknown and no word is given" in told.rule
