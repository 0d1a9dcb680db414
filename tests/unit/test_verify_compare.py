"""Differences, their intervals and the verdict: by hand, against slow twins, and over many planted worlds."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from core.errors import InputError
from core.verify.compare import Comparison, changed, compare, judge, points, verdict
from core.verify.intervals import DRAWS, Difference, Noise, corrected, interval, resampled
from core.verify.record import FULL, QUICK, Outcome, TestSet, Verification
from tests.fake_verification import fake_quick, fake_verification

CLASSES = ("cat", "dog", "fox")
NOTHING = {"kept": 4, "removed": 0, "relabelled": 0, "weighted": 0}


def outcome(name: str, right: np.ndarray, labels: np.ndarray, of: str = "") -> Outcome:
    """One that predicts the label where `right`, else the next class; sure of what it predicts to 80 %."""
    return Outcome(
        name, name, NOTHING, {}, np.where(right, labels, (labels + 1) % 3), np.where(right, 0.8, 0.1), control_of=of
    )


def made(
    arms: Mapping[str, object], form: str = FULL, labels: object = None, controls: Mapping[str, str] | None = None,
    groups: Mapping[str, tuple[str, ...]] | None = None,
) -> Verification:  # fmt: skip
    """A verification of arms given as tables of right and wrong, one row per training."""
    tables = {name: np.array(rows, bool) for name, rows in arms.items()}
    rows = tables["given"].shape[1]
    codes = np.arange(rows) % 3 if labels is None else np.array(labels)
    test = TestSet("test", tuple(f"t{row}" for row in range(rows)), codes)
    outcomes = tuple(outcome(n, right, codes, (controls or {}).get(n, "")) for n, right in tables.items())
    every = {"class": tuple(CLASSES[code] for code in codes), **(groups or {})}
    return Verification(form, "2026-01-01T00:00:00", "t", "p", CLASSES, test, outcomes, every, {})


# By hand


def test_values_by_hand() -> None:
    """Four rows (cat dog fox cat): given gets 2 and 1 of them right, the arm 3 and 3."""
    v = made({"given": [[1, 1, 0, 0], [1, 0, 0, 0]], "x": [[1, 1, 1, 0], [1, 1, 1, 0]]})
    found = compare(v, "x")
    assert found.accuracy.value == pytest.approx(3 / 4 - 3 / 8)
    right, wrong = -np.log(0.8), -np.log(0.1)
    assert found.log_loss.value == pytest.approx((3 * right + wrong) / 4 - (3 * right + 5 * wrong) / 8)
    assert found.per["class"]["cat"].value == pytest.approx(0)
    assert found.per["class"]["dog"].value == pytest.approx(0.5)
    assert found.per["class"]["fox"].value == pytest.approx(1)
    assert found.worst_class.value == pytest.approx(0.5)  # fox never right, then cat at a half
    assert found.sizes == {"class": {"cat": 2, "dog": 1, "fox": 1}}
    assert found.worst_class == found.worst["class"]


def test_the_worst_of_each_training_counts_not_the_worst_of_their_mean() -> None:
    """Given: cat 0 then dog 0; their mean has no class at 0, each training has."""
    v = made({"given": [[0, 1, 1], [1, 0, 1]], "x": [[1, 1, 1], [1, 1, 1]]})
    assert compare(v, "x").worst_class.value == pytest.approx(1)


def test_noise_of_seeds_by_hand() -> None:
    """All rows alike, so that only the seeds vary: 0, 1 and 0 better, mean 1/3, standard error 1/3, t(2) = 4.303."""
    v = made({"given": np.zeros((3, 9)), "x": [[0] * 9, [1] * 9, [0] * 9]})
    found = compare(v, "x").accuracy
    assert found.value == pytest.approx(1 / 3)
    assert (found.low, found.high) == (
        pytest.approx(1 / 3 - 4.3027 / 3, abs=1e-4),
        pytest.approx(1 / 3 + 4.3027 / 3, abs=1e-4),
    )


def test_noise_of_draws_by_hand() -> None:
    """Quick form: the control's draws get 0, 1, 0, 1 (s = .577, t(3) = 3.182); the arm is one draw more."""
    arms = {"given": np.zeros((1, 6)), "x": np.ones((1, 6)), "r": [[0] * 6, [1] * 6, [0] * 6, [1] * 6]}
    v = made(arms, QUICK, controls={"r": "x"})
    against_given, against_random, control = compare(v, "x"), compare(v, "x", "r"), compare(v, "r")
    s, width = 3**-0.5, 3.18245
    assert against_given.accuracy.value - against_given.accuracy.low == pytest.approx(s * width, abs=1e-4)
    assert against_random.accuracy.value == pytest.approx(0.5)
    assert against_random.accuracy.high - 0.5 == pytest.approx(s * (1 + 1 / 4) ** 0.5 * width, abs=1e-4)
    assert control.accuracy.high - 0.5 == pytest.approx(s / 2 * width, abs=1e-4)


def test_two_quick_arms_have_the_noise_of_both() -> None:
    same = [[0] * 6, [1] * 6, [0] * 6, [1] * 6]
    arms = {"given": np.zeros((1, 6)), "x": np.ones((1, 6)), "r": same, "y": np.zeros((1, 6)), "q": same}
    v = made(arms, QUICK, controls={"r": "x", "q": "y"})
    found = compare(v, "x", "y").accuracy
    assert found.high - 1 == pytest.approx((2 / 3) ** 0.5 * 3.18245, abs=1e-4)


def test_one_training_shows_no_noise() -> None:
    v = made({"given": np.zeros((1, 6)), "x": np.ones((1, 6))})
    assert compare(v, "x").accuracy == Difference(1.0, 1.0, 1.0)


def test_the_bootstrap_is_that_of_a_slow_twin() -> None:
    """Draw rows one draw at a time, in both arms the same."""
    rng = np.random.default_rng(1)
    given, arm = rng.random((1, 40)) < 0.6, rng.random((1, 40)) < 0.8
    found = compare(made({"given": given, "x": arm}), "x").accuracy
    twin, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = twin.integers(0, 40, 40)
        drawn.append(arm[0, rows].mean() - given[0, rows].mean())
    low, high = np.percentile(drawn, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_the_worst_class_on_the_draws_is_that_of_a_slow_twin() -> None:
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1, 2], [12, 14, 30])
    given, arm = rng.random((2, 2, 56)) < np.array([0.5, 0.8])[:, None, None]
    v = made({"given": given, "x": arm}, labels=labels)
    twin, drawn = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = twin.integers(0, 56, 56)
        lowest = [
            min(right[seed, rows][labels[rows] == code].mean() for code in range(3))
            for right in (arm, given) for seed in range(2)
        ]  # fmt: skip
        drawn.append(np.mean(lowest[:2]) - np.mean(lowest[2:]))
    found = compare(replace(v, form=FULL), "x").worst_class
    low, _ = np.percentile(drawn, [2.5, 97.5])
    lowest = [[right[seed][labels == code].mean() for code in range(3)] for right in (arm, given) for seed in range(2)]
    apart = np.min(lowest, axis=1)[:2] - np.min(lowest, axis=1)[2:]
    chance = apart.std(ddof=1) / 2**0.5 * t.isf(0.025, 1)
    assert found.value == pytest.approx(apart.mean())
    assert found.low == pytest.approx(found.value - np.hypot(found.value - low, chance))


def test_square_and_add_is_what_adding_noise_to_the_draws_gives() -> None:
    rng = np.random.default_rng(0)
    for freedom in (2, 4, 19):
        for scale in (0.1, 0.3, 1.0, 3.0):
            rows = rng.normal(size=DRAWS)
            found = interval(0.0, rows - rows.mean(), Noise(scale, freedom))
            both = rng.normal(size=400_000) + scale * rng.standard_t(freedom, size=400_000)
            low, high = np.quantile(both, [0.025, 0.975])
            assert found.high - found.low == pytest.approx(high - low, rel=0.07)


def test_beyond_what_the_draws_hold_a_normals_tail_goes_on() -> None:
    rows = np.random.default_rng(0).normal(size=DRAWS)
    found = interval(0.0, rows, Noise(), corrected(0.95, 1000))
    assert found.high == pytest.approx(4.06, abs=0.5)
    assert corrected(0.95, 1) == pytest.approx(0.95)
    assert corrected(0.95, 10) == pytest.approx(0.995)


def test_few_rows_of_a_value_have_an_interval_with_width() -> None:
    """Three foxes that all got worse are no proof; thirty are."""
    for foxes, below in ((3, False), (30, True)):
        labels = np.repeat([0, 1, 2], [60, 60, foxes])
        given = np.ones((2, len(labels)))
        v = made({"given": given, "x": np.tile(labels < 2, (2, 1))}, labels=labels)
        found = compare(v, "x").per["class"]["fox"]
        assert found.value == -1
        assert found.below == below


def test_values_with_few_test_rows_are_not_the_worst_where_others_are_there() -> None:
    labels = np.repeat([0, 1, 2], [20, 20, 2])
    v = made({"given": np.ones((2, 42)), "x": np.tile(labels < 2, (2, 1))}, labels=labels)
    assert compare(v, "x").worst_class.value == 0
    few = made({"given": np.ones((2, 6)), "x": np.tile([1, 0, 1, 1, 0, 1], (2, 1))})
    assert compare(few, "x").worst_class.value == -1


def test_a_certain_mistake_costs_a_known_amount() -> None:
    v = made({"given": np.ones((1, 3)), "x": np.ones((1, 3))})
    zero = replace(v.outcomes[1], given_prob=np.zeros((1, 3)))
    found = compare(replace(v, outcomes=(v.outcomes[0], zero)), "x")
    assert found.log_loss.value == pytest.approx(np.log(1e7) + np.log(0.8))


def test_the_same_arm_twice_is_told() -> None:
    with pytest.raises(InputError, match="cannot be compared with itself"):
        compare(fake_verification(), "given")


def test_draws_are_made_once_and_for_all() -> None:
    assert resampled(50) is resampled(50)
    assert (resampled(50).counts.sum(axis=0, dtype=int) == 50).all()


# The rule


def found(low: float, high: float, fox: tuple[float, float] = (-0.1, 0.1)) -> Comparison:
    nothing = Difference(0.0, -0.1, 0.1)
    per = {"class": {"cat": nothing, "fox": Difference(sum(fox) / 2, *fox)}}
    middle = Difference((low + high) / 2, low, high)
    return Comparison("x", "with x", "given", middle, nothing, nothing, {}, per, {})


@pytest.mark.parametrize(
    ("given", "random", "word", "standing", "pays"),
    [
        (found(0.01, 0.03), found(0.01, 0.02), "helps", "better", 0),
        (found(0.01, 0.03), found(-0.01, 0.02), "no clear effect", "no clear difference", 0),
        (found(0.01, 0.03), found(-0.03, -0.02), "no clear effect", "worse", 0),
        (found(0.01, 0.03), None, "no clear effect", "", 0),
        (found(0.01, 0.03, (-0.3, -0.1)), found(0.01, 0.02), "helps", "better", 1),
        (found(0.01, 0.03, (-0.3, -0.1)), found(-0.01, 0.02), "no clear effect", "no clear difference", 1),
        (found(-0.01, 0.03), found(0.01, 0.02), "no clear effect", "better", 0),
        (found(-0.01, 0.03, (-0.3, -0.1)), found(0.01, 0.02), "hurts", "better", 1),
        (found(-0.03, -0.01), found(0.01, 0.02), "hurts", "better", 0),
        (found(-0.03, -0.01), None, "hurts", "", 0),
        (found(-0.03, 0.0), None, "no clear effect", "", 0),
        (found(0.0, 0.03), found(0.01, 0.02), "no clear effect", "better", 0),
    ],
)
def test_the_rule(given: Comparison, random: Comparison | None, word: str, standing: str, pays: int) -> None:
    said = judge(given, random)
    assert (said.word, said.against_random, len(said.pays)) == (word, standing, pays)
    assert said.rule.startswith("Helps: the 95 % interval")


def test_without_knowing_chance_there_is_no_word() -> None:
    said = judge(found(-0.03, -0.01, (-0.3, -0.1)), found(0.01, 0.02), reason="nobody knows")
    assert (said.word, said.against_random, said.pays) == ("no clear effect", "no clear difference", ())
    assert said.sentence.endswith("No word can be given: nobody knows.")


def test_sentences() -> None:
    helps = judge(found(0.01, 0.03, (-0.3, -0.1)), found(0.01, 0.02)).sentence
    assert helps == (
        "With x: accuracy +2.0 points (95 % interval 1.0 to 3.0) against the data as given, +1.5 points (95 % interval "
        "1.0 to 2.0) against as many rows taken at random. Paid for by: fox (class) −20.0 points (interval −30.0 to "
        "−10.0)."
    )
    may = judge(found(0.01, 0.03), found(-0.01, 0.02)).sentence
    assert may.endswith("As many removed at random may do as well.")
    alone = judge(found(0.01, 0.03), None).sentence
    assert alone.endswith("It is not called a help: there is no random control, so chance is not told from effect.")
    lost = judge(found(-0.01, 0.03, (-0.3, -0.1)), None).sentence
    assert "Accuracy lost in: fox (class)" in lost


def test_points() -> None:
    assert points(Difference(0.021, 0.009, 0.033)) == "+2.1 points (95 % interval 0.9 to 3.3)"
    assert points(Difference(-0.0001, -0.05, 0.0499)) == "−0.01 points (95 % interval −5.0 to 5.0)"
    assert points(Difference(-0.007, -0.016, -0.0002)) == "−0.7 points (95 % interval −1.6 to −0.02)"
    assert points(Difference(0.0, -0.01, 0.01)) == "0.0 points (95 % interval −1.0 to 1.0)"


def test_verdicts_of_whole_verifications() -> None:
    assert verdict(fake_verification(m=600), "decided").word == "helps"
    assert verdict(fake_verification(m=600, effect=-0.15), "decided").word == "hurts"
    assert verdict(fake_verification(m=600, effect=0.0), "decided").word == "no clear effect"
    assert verdict(fake_quick(m=600), "decided").word == "helps"
    as_good = verdict(fake_quick(m=600, random_effect=0.15), "decided")
    assert (as_good.word, as_good.against_random) == ("no clear effect", "no clear difference")
    assert "may do as well" in as_good.sentence


def test_a_class_that_pays_makes_it_hurt_or_is_said_with_the_help() -> None:
    lost = verdict(fake_verification(m=3000, effect=0.1, classes_effect={"fox": -0.4}), "decided")
    assert lost.word == "hurts"
    assert {grouping for grouping, value, _ in lost.pays if value.startswith("fox")} == {"class", "cluster"}
    paid = verdict(fake_verification(m=3000, effect=0.3, classes_effect={"fox": -0.5}), "decided")
    assert (paid.word, bool(paid.pays)) == ("helps", True)
    assert "Paid for by: fox (class)" in paid.sentence


def test_one_seed_and_no_control_give_no_word() -> None:
    for v, reason in (
        (fake_verification(k=1, effect=0.4), "one seed does not show how much a training varies"),
        (fake_quick(k=1, effect=0.4), "one seed does not show"),
        (fake_quick(controls=False, effect=0.4), "there is no random control"),
    ):
        said = verdict(v, "decided")
        assert said.word == "no clear effect"
        assert reason in said.sentence
    assert verdict(fake_verification(m=600, controls=False, effect=-0.3), "decided").word == "hurts"


# The rule over many worlds: rows of their own difficulty, trainings that move every row and every class a little


def world(rng: np.random.Generator, form: str, effect: float, rows: int = 200, classes: int = 3) -> Verification:
    labels = np.arange(rows) % classes
    margin = rng.normal(1.0, 1.2, rows)

    def drawn(k: int) -> np.ndarray:
        return rng.normal(0, 0.1, (k, classes))[:, labels] + rng.normal(0, 0.2, (k, rows))

    if form == FULL:
        arms = {"given": margin + drawn(3), "x": margin + effect + drawn(3), "r": margin + drawn(3)}
    else:
        arms = {"given": margin[None], "x": margin + effect + drawn(1), "r": margin + drawn(20)}
    return made({name: table > 0 for name, table in arms.items()}, form, labels, {"r": "x"})


@pytest.mark.parametrize("form", [QUICK, FULL])
def test_chance_alone_seldom_gives_a_word(form: str) -> None:
    rng = np.random.default_rng(5)
    words = Counter(verdict(world(rng, form, 0.0), "x").word for _ in range(100))
    assert words["helps"] <= 5
    assert words["hurts"] <= 5


@pytest.mark.parametrize(("form", "least"), [(QUICK, 18), (FULL, 15)])
def test_an_effect_is_found(form: str, least: int) -> None:
    rng = np.random.default_rng(6)
    assert Counter(verdict(world(rng, form, 0.8), "x").word for _ in range(20))["helps"] >= least
    assert Counter(verdict(world(rng, form, -0.8), "x").word for _ in range(20))["hurts"] >= least


# Changed predictions


def test_changed_predictions_by_hand() -> None:
    """Rows: fixed in all, fixed in two of three, broken in all, right all along, wrong all along."""
    given = [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 1, 1, 1, 0]]
    arm = [[1, 1, 0, 1, 0], [1, 1, 0, 1, 0], [1, 0, 0, 1, 0]]
    found = changed(made({"given": given, "x": arm}), "x")
    assert [(each.id, each.label, each.before, each.after, each.seeds, each.of) for each in found.fixed] == [
        ("t0", "cat", "dog", "cat", 3, 3), ("t1", "dog", "fox", "dog", 2, 3),
    ]  # fmt: skip
    assert [(each.id, each.before, each.after, each.seeds) for each in found.broken] == [("t2", "fox", "cat", 3)]
    assert found.fixed[0].prob_before == pytest.approx(0.1)
    assert found.fixed[0].prob_after == pytest.approx(0.8)
    assert (found.fixed_count, found.broken_count) == (2, 1)
    first = changed(made({"given": given, "x": arm}), "x", top=1)
    assert ([each.id for each in first.fixed], first.fixed_count) == (["t0"], 2)


def test_draws_of_a_control_are_compared_with_the_one_training_of_the_data_as_given() -> None:
    arms = {"given": [[0, 1]], "x": [[0, 1]], "r": [[1, 1], [1, 0], [1, 1]]}
    found = changed(made(arms, QUICK, controls={"r": "x"}), "r")
    assert [(each.id, each.seeds, each.of) for each in found.fixed] == [("t0", 3, 3)]
    assert found.broken == ()
