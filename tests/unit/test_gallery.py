from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, SettingsError
from core.findings import Findings
from core.reasons import KINDS
from core.review.decisions import CURRENT
from core.review.gallery import (
    Filters,
    cards,
    gallery,
    pace_of,
    page_asked,
    page_of,
    pairs,
    progress,
    ranked,
    sentence,
)

CLASSES = ("cat", "fox", "dog")
SAYS = "Labelled {}, {} {}: the out-of-sample head prefers {}."
SHOWN = Filters(flagged=False)


def made(rows: list[tuple[str, str, str, float]], **columns: Any) -> pd.DataFrame:
    """A table of (id, given, suggested, suspicion)."""
    table = pd.DataFrame(rows, columns=["sample_id", "given_label", "suggested_label", "suspicion"]).set_index(
        "sample_id"
    )
    said = [
        f"Labelled {g}, and the head agrees; nothing speaks against the label."
        if g == s
        else SAYS.format(g, "probably", s, s)
        for g, s in zip(table["given_label"], table["suggested_label"], strict=True)
    ]
    return table.assign(**({"split": "train", "reason": said, "score_loss": 100 - table["suspicion"]} | columns))


def decided(**actions: str) -> pd.DataFrame:
    """Decisions in the order given; relabelling is to fox."""
    rows = [
        (action, "fox" if action == "relabel" else None, "ann", f"2026-01-01T00:00:{i:02d}+00:00", None)
        for i, action in enumerate(actions.values())
    ]
    index = pd.Index(list(actions), dtype="str", name="sample_id")
    return pd.DataFrame(rows, columns=list(CURRENT), index=index).astype("str")


@pytest.fixture
def table() -> pd.DataFrame:
    return made(
        [
            ("a", "cat", "dog", 50.0), ("b", "cat", "cat", 90.0), ("c", "dog", "cat", 70.0),
            ("D/d", "cat", "dog", 90.0), ("e", "fox", "dog", 10.0), ("held", "cat", "dog", 100.0),
        ],
        split=["train"] * 5 + ["val"],
    )  # fmt: skip


def test_the_gallery_is_ranked_and_says_what_is_flagged_and_decided(table: pd.DataFrame) -> None:
    shown = gallery(table, decided(c="relabel", b="keep", nowhere="keep"), Filters(flagged=False, budget="2"))
    assert list(shown.index) == ["D/d", "b", "c", "a", "e"]
    assert list(shown["rank"]) == [1, 2, 3, 4, 5]
    assert list(shown["flagged"]) == [True, True, False, False, False]
    assert list(shown["score"]) == [90.0, 90.0, 70.0, 50.0, 10.0]
    assert list(shown["action"]) == ["undecided", "keep", "relabel", "undecided", "undecided"]
    assert shown["final_label"].tolist()[2] == "fox"
    assert list(shown["kind"])[:2] == ["probably wrong", "nothing against the label"]
    assert set(table.columns) <= set(shown.columns)
    assert "rank" not in table


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        (Filters(budget="2"), ["D/d", "b"]),
        (Filters(budget="40%"), ["D/d", "b"]),
        (Filters(budget="1", score="loss"), ["e"]),
        (Filters(flagged=False, given="cat"), ["D/d", "b", "a"]),
        (Filters(flagged=False, suggested="cat"), ["b", "c"]),
        (Filters(flagged=False, given="cat", suggested="dog"), ["D/d", "a"]),
        (Filters(flagged=False, given="dog", suggested="dog"), []),
        (Filters(flagged=False, kind="nothing against the label"), ["b"]),
        (Filters(flagged=False, kind="no label"), []),
        (Filters(flagged=False, low=50), ["D/d", "b", "c", "a"]),
        (Filters(flagged=False, low=50, high=70), ["c", "a"]),
        (Filters(flagged=False, score="loss", high=30), ["c", "D/d", "b"]),
        (Filters(flagged=False, decision="open"), ["D/d", "a", "e"]),
        (Filters(flagged=False, decision="done"), ["b", "c"]),
        (Filters(flagged=False, decision="keep"), ["b"]),
        (Filters(flagged=False, decision="exclude"), []),
        (Filters(flagged=False, split="val"), ["held"]),
        (Filters(split="val", budget="100%"), ["held"]),
        (Filters(flagged=False, split="test"), []),
        (Filters(flagged=False, text="d/"), ["D/d"]),
        (Filters(flagged=False, text=".*"), []),
        (Filters(flagged=False, ids=("e", "a", "nope", "held")), ["a", "e"]),
        (Filters(flagged=False, ids=()), []),
        (Filters(budget="3", given="cat", decision="open"), ["D/d"]),
    ],
)
def test_filters_choose_rows(table: pd.DataFrame, filters: Filters, ids: list[str]) -> None:
    assert list(gallery(table, decided(c="relabel", b="keep"), filters).index) == ids


def test_a_narrowed_gallery_keeps_the_ranks_of_the_whole(table: pd.DataFrame) -> None:
    assert list(gallery(table, decided(), Filters(flagged=False, given="cat"))["rank"]) == [1, 2, 4]


def test_rows_without_the_score_come_last_and_fall_out_of_a_range(table: pd.DataFrame) -> None:
    table.loc["b", "suspicion"] = math.nan
    assert list(gallery(table, decided(), SHOWN).index) == ["D/d", "c", "a", "e", "b"]
    assert "b" not in gallery(table, decided(), Filters(flagged=False, low=1)).index
    assert "b" not in gallery(table, decided(), Filters(budget="100%")).index


def test_of_equal_rows_at_the_cut_the_name_decides_who_is_flagged(table: pd.DataFrame) -> None:
    first = Filters(budget="1")
    assert list(gallery(table, decided(), first).index) == ["D/d"]
    assert progress(table, decided(b="keep"), first)["reviewed"] == 0
    assert progress(table, decided(**{"D/d": "keep"}), first)["reviewed"] == 1


def test_what_is_not_there_is_said(table: pd.DataFrame) -> None:
    for call in (gallery, progress):
        with pytest.raises(InputError, match="Choose from suspicion, loss"):
            call(table, decided(), Filters(score="forest"))
        with pytest.raises(SettingsError, match="budget of 'many'"):
            call(table, decided(), Filters(budget="many"))


def test_ranked_gives_known_rows_in_their_order_whatever_is_filtered(table: pd.DataFrame) -> None:
    decisions = decided(b="keep")
    rows = ranked(table, decisions, Filters(budget="1", given="fox"), ["e", "b", "nope", "held", "a"])
    assert list(rows.index) == ["e", "b", "a"]
    whole = gallery(table, decisions, Filters(budget="1", flagged=False))
    pd.testing.assert_frame_equal(rows, whole.loc[["e", "b", "a"]])


@pytest.mark.parametrize(
    ("page", "rows", "where"),
    [
        (1, ["D/d", "b"], (1, 3, 1, 2, 5)),
        (3, ["e"], (3, 3, 5, 5, 5)),
        (0, ["D/d", "b"], (1, 3, 1, 2, 5)),
        (-7, ["D/d", "b"], (1, 3, 1, 2, 5)),
        (99, ["e"], (3, 3, 5, 5, 5)),
    ],
)
def test_pages(table: pd.DataFrame, page: int, rows: list[str], where: tuple[int, ...]) -> None:
    found = page_of(list(gallery(table, decided(), SHOWN).index), page, 2)
    assert found.ids == rows
    assert tuple(found[1:]) == where


@pytest.mark.parametrize(
    ("page", "sample", "number"),
    [("", "", 1), ("2", "", 2), ("9", "", 9), ("1", "d", 2), ("2", "nobody", 2), ("-1", "", 1), ("x", "", 1),
     ("²", "", 1), ("٣", "", 1), ("9" * 5000, "", 1)],
)  # fmt: skip
def test_the_page_that_an_address_asks_for(page: str, sample: str, number: int) -> None:
    assert page_asked(["a", "b", "c", "d"], page, sample, size=2) == number


def test_nothing_is_one_empty_page(table: pd.DataFrame) -> None:
    assert tuple(page_of(list(gallery(table, decided(), Filters(text="zzz")).index), 4)[1:]) == (1, 1, 0, 0, 0)
    empty = table.head(0)
    assert len(gallery(empty, decided(), SHOWN)) == 0
    assert progress(empty, decided(a="keep"), SHOWN)["flagged"] == 0
    assert pairs(gallery(empty, decided(), SHOWN)) == []


def findings(table: pd.DataFrame, probabilities: list[list[float]], classes: tuple[str, ...] = CLASSES) -> Findings:
    head = np.array(probabilities, np.float32)
    return Findings(table, classes, {}, head, np.zeros((1, len(table)), np.float32))


def test_cards_hold_what_the_grid_draws_and_nothing_but_json() -> None:
    table = made([("a", "cat", "dog", 99.96), ("b<i>", "cat", "cat", 12.34)])
    found = findings(table, [[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]])
    shown = cards(gallery(table, decided(), Filters(flagged=False, budget="1")), found)
    assert shown[0] == {
        "id": "a", "given": "cat", "suggested": "dog", "suspicion": 100.0, "rank": 1, "flagged": True,
        "reason": "Labelled cat, probably dog: the out-of-sample head prefers dog.", "kind": "probably wrong",
        "top": [["dog", 0.7], ["fox", 0.2]], "given_prob": 0.1, "alt": "a, labelled cat, suggested dog",
    }  # fmt: skip
    assert (shown[1]["suggested"], shown[1]["alt"]) == (None, "b<i>, labelled cat")
    assert (shown[1]["suspicion"], shown[1]["flagged"]) == (12.3, False)
    json.dumps(shown, allow_nan=False)
    assert [type(shown[0][name]) for name in ("rank", "flagged", "suspicion")] == [int, bool, float]


def test_blind_cards_lean_to_no_label() -> None:
    table = made([("a", "cat", "dog", 99.0)])
    card = cards(gallery(table, decided(), SHOWN), findings(table, [[0.1, 0.2, 0.7]]), blind=True)[0]
    assert card["top"] == [["dog", None], ["fox", None]]
    assert (card["suggested"], card["reason"], card["kind"], card["given_prob"]) == (None, "", "", None)
    assert card["alt"] == "a, labelled cat"
    assert "dog" not in json.dumps({name: value for name, value in card.items() if name != "top"})


def test_cards_of_many_classes_name_nine_and_survive_what_is_missing() -> None:
    classes = tuple(f"c{i:02d}" for i in range(12))
    table = made([("a", "c00", "c11", 5.0)])
    table = table.assign(suspicion=math.nan, reason=pd.array([None], dtype="str"))
    card = cards(
        gallery(table, decided(), SHOWN), findings(table, [[math.nan, *(i / 100 for i in range(11))]], classes)
    )[0]
    assert [name for name, _ in card["top"]] == [f"c{i:02d}" for i in range(11, 2, -1)]
    assert (card["suspicion"], card["reason"], card["kind"], card["given_prob"]) == (None, "", "hard to tell", None)
    none = table.assign(given_label=pd.array([None], dtype="str"), suggested_label=pd.array([None], dtype="str"))
    card = cards(gallery(none, decided(), SHOWN), findings(none, [[0.1] * 12], classes))[0]
    assert (card["given"], card["suggested"], card["alt"]) == ("", None, "a, not labelled")


def test_pairs_are_counted_the_largest_first(table: pd.DataFrame) -> None:
    found = pairs(gallery(table, decided(a="exclude", c="unsure"), SHOWN))
    assert found == [
        {"given": "cat", "suggested": "dog", "count": 2, "open": 1, "wrong": 1},
        {"given": "dog", "suggested": "cat", "count": 1, "open": 0, "wrong": 0},
        {"given": "fox", "suggested": "dog", "count": 1, "open": 1, "wrong": 0},
    ]
    assert [type(value) for value in found[0].values()] == [str, str, int, int, int]


def press(batch: str, second: float, images: int = 1, who: str = "ann", kind: str = "decide") -> list[dict[str, Any]]:
    at = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).isoformat(timespec="milliseconds")
    return [{"kind": kind, "batch": batch, "reviewer": who, "decided_at": at}] * images


def test_progress_counts_the_flagged_and_looks_back_on_the_last_twenty() -> None:
    table = made([(f"{i:02d}", "cat", "dog", 100.0 - i) for i in range(40)])
    actions = ["exclude"] * 5 + ["relabel", "keep", "unsure"] * 6 + ["keep"] * 2
    decisions = decided(**{f"{i:02d}": action for i, action in enumerate(actions)}, **{"39": "exclude"})
    found = progress(table, decisions, Filters(budget="30", given="nobody", flagged=False))
    assert found == {
        "flagged": 30, "reviewed": 25, "left": 5, "yield_last": (6, 20), "pace_seconds": None, "minutes_left": None,
    }  # fmt: skip
    assert progress(table, decided(), Filters())["yield_last"] is None


def test_the_pace_is_the_median_gap_without_breaks_shared_by_the_images_of_one_press() -> None:
    history = [
        *press("p", 0), *press("q", 4), *press("b1", 5, who="bob"), *press("u", 6, kind="undo"), *press("r", 10),
        *press("s", 10 + 121), *press("t", 131 + 120, images=60), *press("b2", 300, who="bob"),
    ]  # fmt: skip
    assert pace_of(history) == 4.0  # 4, 6 and 120 / 60; bob's gap and the one of 121 are breaks
    assert pace_of(history[:1]) is None
    assert pace_of([]) is None
    table = made([(f"{i}", "cat", "dog", float(i)) for i in range(8)])
    assert progress(table, decided(**{"7": "keep"}), Filters(budget="7"), history)["minutes_left"] == 4.0 * 6 / 60


@pytest.mark.parametrize(
    ("flagged", "reviewed", "last", "minutes", "words"),
    [
        (500, 120, (14, 20), 40.2, "120 of 500 reviewed; 14 of the last 20 were real; about 40 min left"),
        (1500, 0, None, None, "0 of 1,500 reviewed"),
        (9, 1, (1, 1), 0.5, "1 of 9 reviewed; the last one was real; less than a minute left"),
        (9, 1, (0, 1), 130.0, "1 of 9 reviewed; the last one was not real; about 2 h left"),
        (2, 2, (2, 2), 0.0, "2 of 2 reviewed; 2 of the last 2 were real; none left"),
        (0, 0, None, None, "No image is flagged."),
    ],
)
def test_progress_in_words(flagged: int, reviewed: int, last: Any, minutes: float | None, words: str) -> None:
    told = {"flagged": flagged, "reviewed": reviewed, "left": flagged - reviewed, "yield_last": last}
    assert sentence(told | {"pace_seconds": 1.0, "minutes_left": minutes}) == words


def test_an_address_is_read() -> None:
    query = {
        "score": "loss", "class": "cat", "to": "dog", "reason": KINDS[0], "low": "2.5", "high": "99",
        "decision": "open", "split": "val", "q": "7.png", "flagged": "0", "budget": "400",
        "copies": "other label", "by": "who", "value": "ann", "page": "3", "project": "/x", "id": "a",
    }  # fmt: skip
    filters, said = Filters.from_query(query, CLASSES, ["loss"], "5%", groups={"who": ("bob", "ann")})
    assert said == []
    assert filters == Filters(
        "loss", "400", False, "cat", "dog", KINDS[0], 2.5, 99.0, "open", "val", "7.png", "other label", "who", "ann",
    )  # fmt: skip
    assert filters.to_query() == {name: query[name] for name in list(query)[:14]}


def test_defaults_are_left_out_of_an_address() -> None:
    assert Filters().to_query() == {}
    assert Filters.from_query({}, CLASSES, [], "400") == (Filters(budget="400"), [])
    assert Filters(budget="400").to_query("400") == {}
    assert Filters().to_query("400") == {"budget": "5%"}
    assert Filters(ids=("a",)).to_query() == {}


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (
            {"class": "dgo"},
            "The link asks for class 'dgo', which this project does not have. All classes are shown.",
        ),
        (
            {"to": "x"},
            "The link asks for suggested class 'x', which this project does not have. All classes are shown.",
        ),
        ({"score": "x"}, "The link asks for score 'x', which this project does not have. The ranking is by suspicion."),
        ({"reason": "x"}, "The link asks for reason 'x', which this project does not have. All reasons are shown."),
        (
            {"decision": "undecided"},
            "The link asks for decision 'undecided', which this project does not have. "
            "Decided and open images are shown.",
        ),
        (
            {"split": "x"},
            "The link asks for split 'x', which this project does not have. The training images are shown.",
        ),
        (
            {"low": "60", "high": "40"},
            "The link asks for percentiles from '60' to '40', which is no range. All are shown.",
        ),
        ({"low": "nan"}, "The link asks for percentiles from 'nan' to '100', which is no range. All are shown."),
        ({"high": "many"}, "The link asks for percentiles from '0' to 'many', which is no range. All are shown."),
        ({"high": "1e999"}, "The link asks for percentiles from '0' to '1e999', which is no range. All are shown."),
        (
            {"copies": "x"},
            "The link asks for kind of copies 'x', which this project does not have. "
            "Images with and without copies are shown.",
        ),
        ({"by": "who", "value": "x"}, "The link asks for 'who' 'x', which this project does not have. All are shown."),
        (
            {"by": "camera", "value": ""},
            "The link asks for 'camera' '', which this project does not have. All are shown.",
        ),
        ({"budget": "lots"}, "The link asks for a budget of 'lots', which cannot be read. It is 7%."),
    ],
)
def test_what_an_address_asks_for_in_vain_is_said(query: dict[str, str], words: str) -> None:
    assert Filters.from_query(query, CLASSES, ["loss"], "7%") == (Filters(budget="7%"), [words])


def test_a_hostile_address_stays_short_text() -> None:
    query = {
        "class": "<img src=x onerror=1>" * 999,
        "q": "\ud800" + "x" * 9999,
        "budget": "9" * 9999,
        "low": "1" * 9999,
    }
    filters, said = Filters.from_query(query, CLASSES, [], "5%")
    assert all(len(each) < 250 for each in said)
    assert len(filters.text) == 200
    filters.text.encode()


def test_copies_and_values_narrow() -> None:
    table = made([(name, "cat", "dog", float(at)) for at, name in enumerate("abcd")]).assign(
        copies=["", "other label", "same label", "other split"], by_who=["ann", "bob", "ann", "ann"]
    )

    def ids(**chosen: Any) -> list[str]:
        return gallery(table, decided(), Filters(flagged=False, **chosen)).index.tolist()

    assert ids(copies="copies") == ["d", "c", "b"]
    assert ids(copies="other label") == ["b"]
    assert ids(by="who", value="ann") == ["d", "c", "a"]
    assert ids(by="who", value="ann", copies="same label") == ["c"]
    assert ids(by="who") == ["d", "c", "b", "a"]  # no value chosen yet
    assert ids(by="camera", value="1") == []
    bare = table.drop(columns=["copies", "by_who"])
    assert gallery(bare, decided(), Filters(flagged=False, copies="copies")).empty
    assert Filters.from_query({"by": "who"}, CLASSES, [], "5%", groups={"who": ("ann",)}) == (Filters(), [])
