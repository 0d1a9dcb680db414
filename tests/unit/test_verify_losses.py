"""Who pays: shares of rows given up and accuracies before and after, by hand."""

from dataclasses import replace

import pytest

from core.errors import InputError
from core.verify.compare import compare
from core.verify.losses import per, warnings
from core.verify.record import Verification
from tests.fake_verification import fake_quick, fake_verification


def uneven(cat: int = 25, dog: int = 5, fox: int = 0, *, effect: float = 0.0, lost: float = 0.0) -> Verification:
    """100 training rows of each class, of which so many are changed; `lost` of the foxes are taken for others."""
    v = fake_verification(m=3000, effect=effect, classes_effect={"fox": -lost})
    changed = {"class": {"cat": cat, "dog": dog, "fox": fox}, "group": {"day": 0, "night": 0}, "cluster": {}}
    return replace(v, outcomes=(v.outcomes[0], replace(v.outcomes[1], changed_per=changed), *v.outcomes[2:]))


def test_rows_by_hand() -> None:
    v = uneven(fox=0, effect=0.1)
    rows = {row.value: row for row in per(v, "decided", "class")}
    cat = rows["cat"]
    assert (cat.images, cat.share, cat.changed, cat.lost) == (100, pytest.approx(1 / 3), 25, 0.25)
    assert cat.changed_share == pytest.approx(25 / 30)
    assert cat.test_images == 1000
    labels, outcomes = v.test.labels, v.outcomes
    assert cat.before == pytest.approx((outcomes[0].predicted == labels)[:, labels == 0].mean())
    assert cat.after == pytest.approx((outcomes[1].predicted == labels)[:, labels == 0].mean())
    assert cat.difference == compare(v, "decided").per["class"]["cat"]
    assert cat.after - cat.before == pytest.approx(cat.difference.value)


def test_giving_up_far_more_than_a_share_pays() -> None:
    """More than twice a third of the data: over 20 of 100 rows, and over two thirds of all that change."""
    for cat, dog, pays in ((25, 5, True), (20, 2, False), (21, 2, True), (24, 12, False), (25, 12, True)):
        rows = {row.value: row for row in per(uneven(cat, dog), "decided", "class")}
        assert rows["cat"].heavy == pays, (cat, dog)
        assert not rows["dog"].pays


def test_a_fall_of_accuracy_pays() -> None:
    v = uneven(5, 5, 5, effect=0.1, lost=0.4)
    rows = per(v, "decided", "class")
    assert rows[0].value == "fox"  # the largest fall first
    assert (rows[0].fell, rows[0].heavy, rows[0].pays) == (True, False, True)
    assert not rows[1].pays


def test_warnings_name_who_pays() -> None:
    told = warnings(uneven(25, 5, 0), "decided")
    assert told == (
        "cat gives up 25 of its 100 training images (25 %), 83 % of all that change, and is 33 % of the data.",
    )
    lost = warnings(uneven(5, 5, 5, effect=0.1, lost=0.4), "decided")
    assert lost[0].startswith("fox loses accuracy on 1,000 test images: −")
    assert {each.split(" (cluster)")[0] for each in lost[1:]} == {"fox 1", "fox 2"}


def test_nothing_is_said_of_a_fall_where_chance_is_unknown() -> None:
    v = fake_quick(m=600, controls=False, classes_effect={"fox": -0.5})
    assert not any(row.fell for row in per(v, "decided", "class"))


def test_a_class_without_test_rows_has_its_share_all_the_same() -> None:
    v = uneven()
    more = replace(v, group_sizes={**v.group_sizes, "class": {**v.group_sizes["class"], "owl": 8}})
    owl = next(row for row in per(more, "decided", "class") if row.value == "owl")
    assert (owl.images, owl.before, owl.difference, owl.test_images, owl.pays) == (8, None, None, 0, False)


def test_an_unknown_grouping_is_told() -> None:
    with pytest.raises(InputError, match="no grouping 'weather'. Choose from class, group, cluster"):
        per(uneven(), "decided", "weather")
