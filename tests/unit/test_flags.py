from __future__ import annotations

import math

import pandas as pd
import pytest

from core.errors import InputError, SettingsError
from core.review.flags import Budget, flag, rank, share_flagged


def table(**columns: list[object]) -> pd.DataFrame:
    frame = pd.DataFrame(columns)
    frame.index = pd.Index(frame.pop("sample_id"), name="sample_id")
    return frame if "split" in frame else frame.assign(split="train")


@pytest.mark.parametrize(
    ("text", "n", "count"),
    [
        ("5%", 1000, 50), ("5 %", 1000, 50), ("0.5%", 1000, 5), ("5%", 30, 2), ("5%", 29, 1), ("5%", 3, 1),
        ("5%", 0, 0), ("0%", 1000, 0), ("0", 1000, 0), ("400", 1000, 400), ("400", 100, 100), ("100%", 7, 7),
        ("0.1%", 500, 1),
        ("1", 9, 1),
    ],
)  # fmt: skip
def test_a_budget_counts_rows_half_up_and_at_least_one(text: str, n: int, count: int) -> None:
    assert Budget.parse(text).count(n) == count


@pytest.mark.parametrize("text", ["", "five", "-5%", "101%", "0.05", "5%%", "1e3", "nan", "inf%", "1_000", "٥%"])
def test_nonsense_is_no_budget_and_the_message_says_what_to_write(text: str) -> None:
    with pytest.raises(SettingsError, match=r"5% or 0\.5%, or a whole number"):
        Budget.parse(text)


def test_a_budget_reads_back_from_its_own_text() -> None:
    assert [str(Budget.parse(text)) for text in ("5%", "0.5 %", "400")] == ["5%", "0.5%", "400"]


def test_ranks_train_only_and_orders_equal_rows_by_id() -> None:
    rows = table(
        sample_id=["b", "a", "held", "c", "none"],
        split=["train", "train", "val", "train", "train"],
        suspicion=[50.0, 50.0, 99.0, 80.0, math.nan],
        score_loss=[1.0, 2.0, 3.0, 0.5, 9.0],
    )
    assert list(rank(rows).index) == ["c", "a", "b", "none"]
    assert list(rank(rows, "loss").index) == ["none", "a", "b", "c"]
    assert list(rank(rows, split="val").index) == ["held"]


def test_an_unknown_score_is_refused_by_listing_the_known() -> None:
    rows = table(sample_id=["a"], suspicion=[1.0], score_loss=[1.0], score_oga_l1=[1.0])
    with pytest.raises(InputError, match=r"no score 'los'.*suspicion, loss, oga_l1"):
        rank(rows, "los")


def imbalanced() -> pd.DataFrame:
    """Eight common rows and two rare ones, the rare ones most suspicious."""
    labels = ["rare", "rare", *["common"] * 8]
    return table(
        sample_id=[f"{i}" for i in range(10)], given_label=labels, suspicion=[float(100 - i) for i in range(10)]
    )


def test_the_global_cut_takes_a_rare_class_whole_and_the_class_cut_its_share() -> None:
    flagged = flag(imbalanced(), "suspicion", Budget.parse("20%"))
    assert list(flagged.index[flagged["flagged"]]) == ["0", "1"]
    assert list(flagged.index[flagged["flagged_per_class"]]) == ["2", "3"]  # (r - 1/2) / m: 1/16, 3/16 before 1/4
    assert list(flagged["rank"]) == list(range(1, 11))
    shares = share_flagged(flagged)
    assert shares.loc["rare"].to_dict() == {"rows": 2, "flagged": 2, "share": 1.0, "flagged_per_class": 0}
    assert shares.loc["common", "share"] == 0


def test_half_of_each_class() -> None:
    flagged = flag(imbalanced(), "suspicion", Budget.parse("50%"))
    assert share_flagged(flagged)["flagged_per_class"].to_dict() == {"common": 4, "rare": 1}


def test_rows_without_the_score_are_never_flagged() -> None:
    rows = table(sample_id=["a", "b"], given_label=["x", "y"], suspicion=[math.nan, 1.0])
    flagged = flag(rows, "suspicion", Budget.parse("100%"))
    assert flagged["flagged"].to_dict() == {"b": True, "a": False}
    assert flagged["flagged_per_class"].to_dict() == {"b": True, "a": False}


def test_an_empty_split_flags_nothing() -> None:
    rows = table(sample_id=["a"], given_label=["x"], suspicion=[1.0], split=["val"])
    assert len(flag(rows, "suspicion", Budget.parse("5%"))) == 0
