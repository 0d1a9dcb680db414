"""Groups: flagged and confirmed share per value, with an interval that is honest for few images and many values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError
from core.review.decisions import CURRENT
from core.review.groups import NO_VALUE, by_value, columns_of, interval, sentence, wilson


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(10, 100, 0.0552, 0.1744), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 2, 0.0945, 0.9055)],
)
def test_wilson_s_interval_is_the_one_of_the_tables(count: int, of: int, low: float, high: float) -> None:
    assert wilson(count, of) == pytest.approx((low, high), abs=5e-5)


def test_the_interval_holds_the_share_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for share in (0.02, 0.2, 0.5):
        ends = [wilson(int(count), 60) for count in rng.binomial(60, share, 2000)]
        assert 0.92 < np.mean([low <= share <= high for low, high in ends]) < 0.99


@pytest.mark.parametrize(("count", "of"), [(1, 0), (-1, 5), (6, 5)])
def test_what_is_no_share_is_an_error(count: int, of: int) -> None:
    with pytest.raises(ValueError, match="is no share"):
        wilson(count, of)


def made(flagged: dict[str, tuple[int, int]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ranked rows and a manifest in which each value has (flagged, images)."""
    values = [value for value, (_, images) in flagged.items() for _ in range(images)]
    marks = [row < count for count, images in flagged.values() for row in range(images)]
    ids = [f"{row:05d}" for row in range(len(values))]
    ranked = pd.DataFrame({"flagged": marks}, index=pd.Index(ids, name="sample_id"))
    rows = pd.DataFrame({"sample_id": ids, "given_label": "cat", "meta_annotator": values})
    return ranked, rows


def decided(**actions: str) -> pd.DataFrame:
    columns = {name: [None] * len(actions) for name in CURRENT} | {"action": list(actions.values())}
    return pd.DataFrame(columns, index=pd.Index(list(actions), name="sample_id"), dtype="str")


def test_one_line_per_value_the_surely_heaviest_first() -> None:
    ranked, rows = made({"7": (22, 100), "3": (1, 2), "1": (60, 1000)})
    lines = by_value(ranked, decided(**{"00000": "relabel", "00001": "exclude", "00002": "keep"}), rows, "annotator")
    assert [line["value"] for line in lines] == ["7", "3", "1"]  # half of two images is less sure than 22 of 100
    assert lines[0] == {
        "value": "7", "images": 100, "flagged": 22, "reviewed": 3, "wrong": 2,
        "flagged_share": interval(22, 100), "wrong_share": interval(2, 3), "others_share": 0.0609, "stands_out": True,
    }  # fmt: skip
    assert lines[1]["wrong_share"] is None
    assert [line["stands_out"] for line in lines] == [True, False, False]
    assert sentence(lines, "annotator") == "annotator 7: 22% flagged (15 to 31%), the others 6%"


def test_of_many_alike_values_hardly_one_stands_out() -> None:
    """40 annotators with the same share: at 95 % each, luck alone would name two in most draws."""
    rng, named, naive = np.random.default_rng(0), 0, 0
    for _ in range(40):
        counts = {f"{who}": (int(rng.binomial(100, 0.05)), 100) for who in range(40)}
        lines = by_value(*made(counts)[:1], decided(), made(counts)[1], "annotator")
        named += any(line["stands_out"] for line in lines)
        naive += any(line["flagged_share"]["low"] > line["others_share"] for line in lines)
    assert named <= 6
    assert naive >= 20


def test_nothing_stands_out() -> None:
    lines = by_value(*made({"a": (3, 50), "b": (2, 50)})[:1], decided(), made({"a": (3, 50), "b": (2, 50)})[1], "class")
    assert sentence(lines, "class").startswith("No class stands out")
    assert lines[0]["others_share"] is None  # one class: there are no others


def test_a_missing_value_is_a_value_of_its_own() -> None:
    ranked, rows = made({"a": (1, 10), "b": (0, 5)})
    rows.loc[rows["meta_annotator"] == "b", "meta_annotator"] = None
    assert {line["value"]: line["images"] for line in by_value(ranked, decided(), rows, "annotator")} == {
        "a": 10, NO_VALUE: 5,
    }  # fmt: skip


def test_columns_are_meta_columns_the_group_and_always_the_class() -> None:
    _, rows = made({"a": (1, 10)})
    assert columns_of(rows) == ("annotator", "class")
    assert columns_of(rows.assign(group="x")) == ("annotator", "group", "class")
    assert columns_of(rows.assign(group="x", meta_group="y")) == ("annotator", "group", "class")


def test_a_column_that_is_not_there_and_one_that_is_no_group() -> None:
    ranked, rows = made({"a": (1, 10)})
    with pytest.raises(InputError, match=r"no column 'camera' to group by, only annotator, class\. .*--meta-columns"):
        by_value(ranked, decided(), rows, "camera")
    ranked, rows = made({f"{row}": (0, 1) for row in range(1001)})
    with pytest.raises(InputError, match="'annotator' has 1,001 values for 1,001 images"):
        by_value(ranked, decided(), rows, "annotator")
