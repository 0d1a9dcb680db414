from __future__ import annotations

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from core.review.flags import Budget, flag, rank, share_flagged

ROWS = st.lists(
    st.tuples(st.text(max_size=3), st.sampled_from("abc"), st.sampled_from(["train", "val"]), st.integers(0, 4)),
    unique_by=lambda row: row[0],
    min_size=1,
    max_size=25,
)
BUDGETS = st.one_of(
    st.integers(0, 30).map(str), st.decimals(0, 100, places=1, allow_nan=False).map(lambda d: f"{d}%")
).map(Budget.parse)


def table(rows: list[tuple[str, str, str, int]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["sample_id", "given_label", "split", "suspicion"]).set_index("sample_id")
    return frame.assign(suspicion=frame["suspicion"] * 25.0)


@given(ROWS, st.randoms())
def test_permuting_rows_changes_nothing(rows: list[tuple[str, str, str, int]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    budget = Budget.parse("30%")
    pd.testing.assert_frame_equal(flag(table(rows), "suspicion", budget), flag(table(shuffled), "suspicion", budget))


@given(ROWS)
def test_the_ranking_is_the_sorted_list(rows: list[tuple[str, str, str, int]]) -> None:
    slow = sorted(((-score, name) for name, _, split, score in rows if split == "train"))
    assert list(rank(table(rows)).index) == [name for _, name in slow]


@given(ROWS, BUDGETS, BUDGETS)
def test_raising_the_budget_never_removes_a_flag(
    rows: list[tuple[str, str, str, int]], one: Budget, other: Budget
) -> None:
    n = sum(row[2] == "train" for row in rows)
    small, large = sorted((one, other), key=lambda budget: budget.count(n))
    less, more = (flag(table(rows), "suspicion", budget) for budget in (small, large))
    for cut in ("flagged", "flagged_per_class"):
        assert less[cut].sum() == small.count(n)
        assert set(less.index[less[cut]]) <= set(more.index[more[cut]])


@given(ROWS, BUDGETS)
def test_each_class_gives_its_share_to_the_nearest_row_or_two(
    rows: list[tuple[str, str, str, int]], budget: Budget
) -> None:
    """Webster's rule: a common quota, rounded within each class; and within a class the most suspicious go first."""
    flagged = flag(table(rows), "suspicion", budget)
    for _, members in flagged.groupby("given_label"):
        assert list(members["flagged_per_class"]) == sorted(members["flagged_per_class"], reverse=True)
    shares = share_flagged(flagged)
    low = ((shares["flagged_per_class"] - 0.5) / shares["rows"]).max()
    high = ((shares["flagged_per_class"] + 0.5) / shares["rows"]).min()
    assert len(shares) == 0 or low <= high
