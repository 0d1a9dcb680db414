from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from core.reasons import KINDS
from core.review.decisions import CURRENT
from core.review.flags import Budget, flag
from core.review.gallery import DECISIONS, SPLITS, Filters, gallery, page_of, pairs, progress, ranked

CLASSES = ("cat", "dog", "fox & co, perhaps")
SCORES = ("loss",)
ROWS = st.lists(
    st.tuples(
        st.text(max_size=3), st.sampled_from(CLASSES), st.sampled_from(CLASSES), st.sampled_from(["train", "val"]),
        st.one_of(st.integers(0, 4), st.just(math.nan)),
        st.sampled_from([None, "keep", "relabel", "exclude", "unsure"]),
    ),
    unique_by=lambda row: row[0],
    max_size=25,
)  # fmt: skip
BUDGETS = st.one_of(st.integers(0, 30).map(str), st.decimals(0, 100, places=1, allow_nan=False).map(lambda d: f"{d}%"))
FILTERS = st.fixed_dictionaries(  # arguments: the type checker of the test run would draw numbers inside a strategy
    {
        "score": st.sampled_from(["suspicion", *SCORES]),
        "budget": BUDGETS,
        "flagged": st.booleans(),
        "given": st.sampled_from([None, *CLASSES]),
        "suggested": st.sampled_from([None, *CLASSES]),
        "kind": st.sampled_from([None, *KINDS]),
        "low": st.floats(0, 60),
        "high": st.floats(60, 100),
        "decision": st.sampled_from(DECISIONS),
        "split": st.sampled_from(SPLITS),
        "text": st.text(st.characters(exclude_categories=["Cs"]), max_size=3),
    }
)
Chosen = dict[str, Any]
Rows = list[tuple[str, str, str, str, float, str | None]]


def made(rows: Rows) -> tuple[pd.DataFrame, pd.DataFrame]:
    columns = ["sample_id", "given_label", "suggested_label", "split", "suspicion", "action"]
    table = pd.DataFrame(rows, columns=columns).astype({"sample_id": "str", "given_label": "str", "suspicion": float})
    table = table.set_index("sample_id")
    said = [
        f"Labelled {row[1][:20]}, probably {row[2][:20]}: it is so."
        if row[1] != row[2]
        else "Not labelled, so there is no label to doubt."
        for row in rows
    ]
    decided = table[table["action"].notna()].assign(**dict.fromkeys(CURRENT[1:], "x"))
    table = table.assign(suspicion=table["suspicion"] * 25, reason=said).drop(columns="action")
    return table.assign(score_loss=(table["suspicion"] * 3) % 100), decided[list(CURRENT)].astype("str")


@given(ROWS, FILTERS)
@settings(deadline=None, max_examples=50)
def test_rank_and_flags_are_those_of_the_slow_twin(rows: Rows, chosen: Chosen) -> None:
    filters = Filters(**chosen)
    table, decisions = made(rows)
    slow = flag(table, filters.score, Budget.parse(filters.budget), split=filters.split)
    fast = gallery(table, decisions, Filters(filters.score, filters.budget, flagged=False, split=filters.split))
    columns = ["rank", "flagged", "flagged_per_class"]
    pd.testing.assert_frame_equal(fast[columns], slow[columns], check_dtype=False)
    assert progress(table, decisions, filters)["flagged"] == int(slow["flagged"].sum())
    done = slow.index[slow["flagged"].to_numpy(bool) & slow.index.isin(decisions.index)]
    assert progress(table, decisions, filters)["reviewed"] == len(done)
    pd.testing.assert_frame_equal(ranked(table, decisions, filters, list(fast.index)), fast)


@given(
    ROWS, FILTERS, st.sampled_from(["flagged", "given", "suggested", "kind", "low", "high", "decision", "text", "ids"])
)
@settings(deadline=None, max_examples=80)
def test_a_filter_only_narrows(rows: Rows, chosen: Chosen, name: str) -> None:
    table, decisions = made(rows)
    filters = Filters(**chosen, ids=tuple(table.index[::2]))
    wide = replace(filters, **{name: False if name == "flagged" else getattr(Filters(), name)})
    narrow, more = gallery(table, decisions, filters), gallery(table, decisions, wide)
    assert set(narrow.index) <= set(more.index)
    pd.testing.assert_frame_equal(narrow, more.loc[narrow.index])
    assert list(narrow["rank"]) == sorted(narrow["rank"])


@given(ROWS, FILTERS, BUDGETS)
@settings(deadline=None, max_examples=50)
def test_raising_the_budget_never_removes_a_flagged_row(rows: Rows, chosen: Chosen, other: str) -> None:
    filters = Filters(**chosen)
    table, decisions = made(rows)
    n = int((table["split"] == filters.split).sum())
    small, large = sorted((filters.budget, other), key=lambda text: Budget.parse(text).count(n))
    less, more = (gallery(table, decisions, replace(filters, flagged=True, budget=each)) for each in (small, large))
    assert list(less.index) == list(more.index[: len(less)])


@given(ROWS, st.integers(1, 7))
@settings(deadline=None, max_examples=30)
def test_pages_cover_every_row_once(rows: Rows, size: int) -> None:
    ids = list(gallery(*made(rows), Filters(flagged=False)).index)
    pages = [page_of(ids, number, size) for number in range(1, page_of(ids, 1, size).pages + 1)]
    assert [name for page in pages for name in page.ids] == ids
    for page in pages:
        assert len(page.ids) <= size
        assert page.last - page.first + 1 == len(page.ids) or page.total == 0


@given(ROWS)
@settings(deadline=None, max_examples=30)
def test_pairs_count_each_differing_row_once(rows: Rows) -> None:
    frame = gallery(*made(rows), Filters(flagged=False))
    found = pairs(frame)
    assert sum(pair["count"] for pair in found) == int((frame["given_label"] != frame["suggested_label"]).sum())
    for pair in found:
        shown = gallery(*made(rows), Filters(flagged=False, given=pair["given"], suggested=pair["suggested"]))
        assert len(shown) == pair["count"]
        assert (shown["action"] == "undecided").sum() == pair["open"]


@given(FILTERS, BUDGETS)
@settings(deadline=None)
def test_an_address_leads_back_to_the_same_filters(chosen: Chosen, budget: str) -> None:
    filters = Filters(**chosen)
    assert Filters.from_query(filters.to_query(budget), CLASSES, SCORES, budget) == (filters, [])


@given(st.dictionaries(st.sampled_from(["score", "class", "to", "reason", "low", "high", "decision", "split", "q",
                                        "flagged", "budget", "x"]), st.text(max_size=8)))  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_address_gives_filters_that_work(query: dict[str, str]) -> None:
    filters, _ = Filters.from_query(query, CLASSES, SCORES, "5%")
    table, decisions = made([("a", "cat", "dog", "train", 3, None)])
    assert set(gallery(table, decisions, filters).index) <= {"a"}
    assert Filters.from_query(filters.to_query(), CLASSES, SCORES, "5%") == (filters, [])
