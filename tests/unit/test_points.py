from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.catalogue import SCORE_INFO
from core.errors import InputError, SettingsError
from core.findings import Findings
from core.review.decisions import CURRENT
from core.review.flags import Budget, flag
from core.review.points import (
    COLOURS,
    REST,
    flagged_ids,
    headline,
    inside,
    map_data,
    overlap,
    selection_summary,
)
from tests.helpers import unchecked

IDS = [f"i{row}" for row in range(8)]
GIVEN = ["cat", "cat", "cat", "dog", "dog", "fox", "fox", "cat"]
SUGGESTED = ["dog", "dog", "cat", "cat", "dog", "fox", "cat", "dog"]
SUSPICION = [100.0, 80.0, 0.0, 60.0, 20.0, 10.0, 50.0, 90.0]  # the last one is held out


def decisions(**actions: str) -> pd.DataFrame:
    columns = {name: ["" for _ in actions] for name in CURRENT} | {"action": list(actions.values())}
    return pd.DataFrame(columns, index=pd.Index(list(actions), dtype="str", name="sample_id"), dtype="str")


@pytest.fixture
def findings() -> Findings:
    table = pd.DataFrame(
        {
            "sample_id": IDS,
            "split": ["train"] * 7 + ["val"],
            "given_label": GIVEN,
            "suggested_label": SUGGESTED,
            "suspicion": SUSPICION,
            "score_oga_l1": [0.0, 100.0, 90.0, 10.0, 20.0, 30.0, 40.0, 50.0],
            "score_oga_l2": [100.0, 90.0, 0.0, 10.0, 20.0, 30.0, 40.0, 50.0],
        }
    ).set_index("sample_id")
    xy = np.arange(16, dtype=np.float32).reshape(8, 2)
    maps = {"features": xy, "gradients": -xy}
    return Findings(table, ("cat", "dog", "fox"), {}, np.zeros((8, 3)), np.zeros((2, 8)), maps=maps)


def test_the_points_of_the_training_images(findings: Findings) -> None:
    data = map_data(findings, decisions(i3="keep", gone="exclude"), "gradients", "suspicion", budget="2")
    assert data.ids.tolist() == IDS[:7]
    np.testing.assert_array_equal(data.xy, -np.arange(14, dtype=np.float32).reshape(7, 2))
    assert data.value.tolist() == SUSPICION[:7]
    assert data.flagged.tolist() == [True, True, False, False, False, False, False]
    assert data.action.tolist() == ["undecided"] * 3 + ["keep"] + ["undecided"] * 3
    assert (data.hidden, data.categories) == (1, ())
    assert data.note == "All 7 training points drawn. 1 held-out image is not drawn."


@pytest.mark.parametrize(
    ("split", "count", "note"),
    [("all", 8, "All 8 points drawn."), ("val", 1, "All 1 val points drawn. 7 training images are not drawn.")],
)
def test_other_splits(findings: Findings, split: str, count: int, note: str) -> None:
    data = map_data(findings, decisions(), "features", "suspicion", budget="100%", split=split)
    assert (len(data.ids), data.hidden, data.note) == (count, 8 - count, note)
    assert bool(data.flagged[data.ids == "i7"][0]) is False  # held out: never flagged, whatever the budget


def test_a_point_without_a_place_is_not_drawn_and_said_so(findings: Findings) -> None:
    xy = np.array(findings.maps["features"])
    xy[2, 1] = np.nan
    data = map_data(replace(findings, maps={"features": xy}), decisions(), "features", "suspicion")
    assert (len(data.ids), data.hidden) == (6, 2)
    assert data.note.startswith("6 of 7 training points drawn, the others have no place on the map.")


@pytest.mark.parametrize(("colour", "labels"), [("given", GIVEN), ("suggested", SUGGESTED)])
def test_coloured_by_a_label(findings: Findings, colour: str, labels: list[str]) -> None:
    data = map_data(findings, decisions(), "features", colour, split="all")
    assert data.categories == ("cat", "dog", "fox")
    assert [data.categories[int(code)] for code in data.value] == labels


def test_chosen_classes_stand_out_of_the_rest(findings: Findings) -> None:
    data = map_data(findings, decisions(), "features", "given", split="all", chosen=("fox",))
    assert data.categories == ("fox", REST)
    assert data.value.tolist() == [1, 1, 1, 1, 1, 0, 0, 1]


def test_of_many_classes_those_with_most_flagged_have_a_colour(findings: Findings) -> None:
    many = replace(findings, classes=("cat", "dog", "fox", *(f"k{i}" for i in range(8))))
    data = map_data(many, decisions(), "features", "given", budget="3")  # flagged: cat, cat, dog
    assert data.categories == ("cat", "dog", "fox", "k0", "k1", REST)
    assert data.note.endswith("The 5 classes with most flagged images have a colour, the other 6 share one.")


@pytest.mark.parametrize("name", ["oga_l1", "oga_l2"])
def test_coloured_by_a_score_and_flagged_by_another(findings: Findings, name: str) -> None:
    data = map_data(findings, decisions(), "features", name, ranking="oga_l1", budget="2")
    assert data.value.tolist() == findings.samples[f"score_{name}"].tolist()[:7]
    assert data.ids[data.flagged].tolist() == ["i1", "i2"]


def test_flags_are_those_of_the_ranking(findings: Findings) -> None:
    ranked = flag(findings.samples, "oga_l2", Budget.parse("3"))
    assert flagged_ids(findings.samples, "oga_l2", "3").tolist() == ranked.index[ranked["flagged"]].tolist()


def test_every_colour_is_a_label_or_a_score() -> None:
    assert ("suspicion", "given", "suggested", *SCORE_INFO) == COLOURS


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"space": "pixels"}, "There is no map of 'pixels'. Choose from features, gradients."),
        ({"colour": "taste"}, "There is no score 'taste' in this run"),
        ({"ranking": "taste"}, "There is no score 'taste' in this run"),
        ({"chosen": ("dgo",), "colour": "given"}, "There is no class 'dgo' in this project"),
        ({"chosen": ("cat",) * 6, "colour": "given"}, "6 classes were chosen to stand out. Choose at most 5."),
    ],
)
def test_what_cannot_be_drawn(findings: Findings, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        map_data(findings, decisions(), **{"space": "features", "colour": "suspicion", **changed})


def test_a_run_without_maps_says_so(findings: Findings) -> None:
    with pytest.raises(InputError, match="This run holds no map of the gradients"):
        map_data(replace(findings, maps={}), decisions(), "gradients", "suspicion")
    with pytest.raises(SettingsError, match="lots"):
        map_data(findings, decisions(), "gradients", "suspicion", budget="lots")


SQUARE = [[0, 0], [1, 0], [1, 1], [0, 1]]
STAR = [  # five points, drawn in one line that crosses itself: its middle is enclosed twice
    [math.cos(math.pi / 2 + 4 * math.pi * k / 5), math.sin(math.pi / 2 + 4 * math.pi * k / 5)] for k in range(5)
]
CONCAVE = [[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]]  # a notch from the top
BOW = [[0, 0], [2, 2], [2, 0], [0, 2]]  # crosses itself in (1, 1)


@pytest.mark.parametrize(
    ("polygon", "point", "expected"),
    [
        (SQUARE, (0.5, 0.5), True),
        (SQUARE, (1.5, 0.5), False),
        (SQUARE, (0.5, -0.5), False),
        (SQUARE, (0.0, 0.0), True),  # of its corners only the first
        (SQUARE, (1.0, 0.0), False),
        (SQUARE, (1.0, 1.0), False),
        (SQUARE, (0.0, 1.0), False),
        (SQUARE, (0.0, 0.5), True),  # the left edge, not the right one
        (SQUARE, (1.0, 0.5), False),
        (SQUARE, (0.5, 0.0), True),  # the lower edge, not the upper one
        (SQUARE, (0.5, 1.0), False),
        (SQUARE, (math.nan, 0.5), False),
        (SQUARE, (math.inf, 0.5), False),
        ([*SQUARE, [0, 0]], (0.5, 0.5), True),  # closed by hand
        (STAR, (0.0, 0.0), False),
        (STAR, (0.0, 0.6), True),
        (STAR, (0.0, -0.6), False),
        (CONCAVE, (2.0, 0.5), True),
        (CONCAVE, (2.0, 2.0), False),
        (CONCAVE, (0.5, 2.0), True),
        (CONCAVE, (3.5, 2.0), True),
        (BOW, (0.25, 1.0), True),
        (BOW, (1.75, 1.0), True),
        (BOW, (1.0, 0.25), False),
        (BOW, (1.0, 1.75), False),
        ([[9, 9], [10, 9], [10, 10]], (0.5, 0.5), False),
        ([[0, 0], [1, 1], [2, 2]], (1.0, 1.0), False),  # encloses nothing
        ([[0, 1], [1, 1], [2, 1]], (1.0, 1.0), False),
    ],
)
def test_what_a_lasso_encloses(polygon: list[list[float]], point: tuple[float, float], expected: bool) -> None:
    assert inside(np.array([point]), polygon).tolist() == [expected]
    assert inside(np.array([point], dtype=np.float32), tuple(map(tuple, polygon))).tolist() == [expected]


def test_the_area_of_a_circle() -> None:
    angles = np.linspace(0, 2 * np.pi, 2000, endpoint=False)
    side = (np.arange(400) + 0.5) / 200 - 1
    points = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    found = inside(points, np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert found.mean() * 4 == pytest.approx(math.pi, abs=0.002)
    assert (found == (np.hypot(*points.T) < 1)).mean() > 0.999


def test_no_points() -> None:
    assert inside(np.zeros((0, 2)), SQUARE).tolist() == []


@pytest.mark.parametrize(
    "polygon",
    [
        None,
        "[[0, 0], [1, 0], [1, 1]]",
        {},
        [],
        SQUARE[:2],
        [[0, 0]] * 2001,
        [[0, 0], [1, 0], [1]],
        [[0, 0], [1, 0], [1, 1, 1]],
        [[0, 0], [1, 0], None],
        [[0, 0], [1, 0], "11"],
        [[0, 0], [1, 0], ["1", "1"]],
        [[0, 0], [1, 0], [True, False]],
        [[0, 0], [1, 0], [1, None]],
        [[0, 0], [1, 0], [1, math.nan]],
        [[0, 0], [1, 0], [1, math.inf]],
        [[0, 0], [1, 0], [1, 10**400]],
        [[0, 0], [1, 0], [1, 1e300]],
        np.zeros(3),
    ],
)
def test_what_is_no_lasso(polygon: object) -> None:
    with unchecked(), pytest.raises(InputError, match="Draw it again."):
        inside(np.zeros((3, 2)), polygon)


def test_the_agreement_of_rankings(findings: Findings) -> None:
    # the three highest: i0 i1 i3 of suspicion, i1 i2 i6 of L1, i0 i1 i6 of L2
    found = overlap(findings.samples, ("suspicion", "oga_l1", "oga_l2"), budget="3")
    assert found["sets"] == {"suspicion": 3, "oga_l1": 3, "oga_l2": 3}
    assert [(each["a"], each["b"], each["both"], each["jaccard"]) for each in found["pairs"]] == [
        ("suspicion", "oga_l1", 1, 1 / 5),
        ("suspicion", "oga_l2", 2, 1 / 2),
        ("oga_l1", "oga_l2", 2, 1 / 2),
    ]
    assert found["all"] == 1
    assert found["sentence"] == (
        "Suspicion shares, of its 3 flagged images, 1 with Gradient size (L1), 2 with Gradient size (L2). "
        "All 3 flag 1 of the same images."
    )


def test_nothing_flagged_agrees_on_nothing(findings: Findings) -> None:
    found = overlap(findings.samples, ("suspicion", "oga_l1"), budget="0")
    assert found == {
        "sets": {"suspicion": 0, "oga_l1": 0},
        "pairs": [{"a": "suspicion", "b": "oga_l1", "both": 0, "jaccard": 0.0}],
        "all": 0,
        "sentence": "",
    }


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        (IDS, "8 images, 2 flagged: cat 4, dog 2, fox 2"),
        (["i0", "i0", "nobody"], "1 image, 1 flagged: cat 1"),
        (["i4"], "1 image, 0 flagged: dog 1"),
        ([], "No image is selected."),
    ],
)
def test_what_a_selection_holds(findings: Findings, ids: list[str], text: str) -> None:
    found = selection_summary(findings.samples, decisions(i0="exclude"), ids, {"i0", "i1"})
    assert found["text"] == text
    assert found["count"] == len(set(ids) & set(IDS)) == sum(count for _, count in found["classes"])
    assert found["decided"] == ("i0" in ids)


def labelled(*pairs: tuple[str, str, int]) -> pd.DataFrame:
    """Training images: given label, suggested label, how many."""
    rows = [(given, suggested) for given, suggested, count in pairs for _ in range(count)]
    table = pd.DataFrame(rows, columns=["given_label", "suggested_label"]).assign(split="train")
    return table.set_index(pd.Index([f"i{row}" for row in range(len(table))], name="sample_id"))


def test_a_selection_of_many_classes_names_two(findings: Findings) -> None:
    table = labelled(("cat", "cat", 118), ("dog", "dog", 74), ("fox", "fox", 12), ("owl", "owl", 10))
    found = selection_summary(table, decisions(), list(table.index), list(table.index[:61]))
    assert found["text"] == "214 images, 61 flagged: cat 118, dog 74, other 22"
    digits = labelled(("5", "5", 6), ("0", "0", 2))
    assert selection_summary(digits, decisions(), list(digits.index), [])["text"].endswith("flagged: 5 (6), 0 (2)")


@pytest.mark.parametrize(
    ("pairs", "text"),
    [
        ((("cat", "dog", 3), ("dog", "cat", 2), ("fox", "fox", 9)), "14 of 14 {}, most often cat → dog: 3."),
        ((("cat", "dog", 2), ("dog", "cat", 2), ("dog", "dog", 1)), "5 of 5 {}, most often images labelled dog: 3."),
        ((("cat", "dog", 2), ("dog", "cat", 2)), "4 of 4 {}; another label is suggested for 4 of them."),
        ((("cat", "cat", 2), ("dog", "dog", 1)), "3 of 3 {}; another label is suggested for none of them."),
        ((("cat", "dog", 1),), "1 of 1 training images is flagged; another label is suggested for 1 of them."),
    ],
)
def test_the_headline_says_what_was_counted(pairs: tuple[tuple[str, str, int], ...], text: str) -> None:
    table = labelled(*pairs)
    assert headline(table, list(table.index)) == text.format("training images are flagged")


def test_the_headline_counts_flagged_training_images_only(findings: Findings) -> None:
    assert headline(findings.samples, {"i7"}) == "None of 7 training images is flagged."
    assert headline(findings.samples, {"i0", "i1", "i3", "i7"}) == (
        "3 of 7 training images are flagged, most often cat → dog: 2."
    )
    many = labelled(("cat", "dog", 4000))
    assert headline(many, many.index[:400]) == ("400 of 4,000 training images are flagged, most often cat → dog: 400.")
