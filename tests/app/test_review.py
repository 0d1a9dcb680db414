"""Review: the address says which images are shown, in which order and by whom they are decided."""

from __future__ import annotations

import getpass
from typing import Any

import pandas as pd
import pytest

from core import extras
from core.catalogue import SCORE_INFO
from core.project import Project
from core.review.decisions import Review
from core.review.gallery import Filters, gallery
from pages.ui import filters, grid, large, session
from tests.app.conftest import CLASSES, IMG, MARK, World, button, says, sound, words

QUERIES: list[tuple[dict[str, str], Filters]] = [
    ({}, Filters()),
    ({"flagged": "0"}, Filters(flagged=False)),
    ({"budget": "20"}, Filters(budget="20")),
    ({"budget": "40%"}, Filters(budget="40%")),
    ({"score": "oga_l1"}, Filters(score="oga_l1")),
    ({"flagged": "0", "class": IMG}, Filters(flagged=False, given=IMG)),
    ({"flagged": "0", "to": "cat"}, Filters(flagged=False, suggested="cat")),
    ({"flagged": "0", "class": IMG, "to": "cat"}, Filters(flagged=False, given=IMG, suggested="cat")),
    ({"flagged": "0", "reason": "perhaps wrong"}, Filters(flagged=False, kind="perhaps wrong")),
    (
        {"flagged": "0", "reason": "nothing against the label"},
        Filters(flagged=False, kind="nothing against the label"),
    ),
    ({"flagged": "0", "low": "50"}, Filters(flagged=False, low=50.0)),
    (
        {"flagged": "0", "score": "loss", "low": "20", "high": "30.5"},
        Filters("loss", flagged=False, low=20.0, high=30.5),
    ),
    ({"decision": "open"}, Filters(decision="open")),
    ({"decision": "done", "flagged": "0"}, Filters(flagged=False, decision="done")),
    ({"decision": "relabel", "flagged": "0"}, Filters(flagged=False, decision="relabel")),
    ({"split": "val", "flagged": "0"}, Filters(flagged=False, split="val")),
    ({"q": "1-0", "flagged": "0"}, Filters(flagged=False, text="1-0")),
]  # fmt: skip


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the grid was given: one entry per drawing."""
    drawn: list[dict[str, Any]] = []
    draw = large.draw

    def spy(*told: Any, **more: Any) -> None:
        _key, _project, _findings, review, _decisions, rows, _receipt = told
        drawn.append({"ids": [row["id"] for row in rows], "rows": rows, "reviewer": review.reviewer, **more})
        draw(*told, **more)

    monkeypatch.setattr(large, "draw", spy)
    return drawn


def decided(project: Project) -> Review:
    """One relabelled, one kept, one excluded of the flagged."""
    review = Review(project, reviewer="ann")
    first = [str(each) for each in gallery(project.findings().samples, review.current(), Filters()).index]
    given = str(project.findings().samples["given_label"][first[0]])
    review.decide([first[0]], "relabel", label=next(label for label in CLASSES if label != given))
    review.decide([first[1]], "keep")
    review.decide([first[3]], "exclude")
    return review


@pytest.mark.parametrize(("query", "expected"), QUERIES, ids=[str(query) for query, _ in QUERIES])
def test_the_address_chooses_the_images(
    world: World, scored: Project, shown: list[dict[str, Any]], query: dict[str, str], expected: Filters
) -> None:
    review = decided(scored)
    ids = [str(each) for each in gallery(scored.findings().samples, review.current(), expected).index]
    assert ids, "a filter that leaves nothing shows nothing here"
    at = world.page("review", scored, **query)
    assert not at.warning
    assert shown[-1]["ids"] == ids[:60]
    assert says(at, f"1 to {min(60, len(ids))} of {len(ids)}")
    assert {key: at.query_params[key] for key in query} == query


@pytest.mark.parametrize(
    ("key", "value", "name", "text"),
    [
        ("f-score", "oga_l1", "score", "oga_l1"),
        ("f-class", IMG, "class", IMG),
        ("f-to", MARK, "to", MARK),
        ("f-decision", "open", "decision", "open"),
        ("f-reason", "perhaps wrong", "reason", "perhaps wrong"),
        ("f-split", "val", "split", "val"),
    ],
)
def test_a_choice_goes_into_the_address_and_back(
    world: World, scored: Project, shown: list[dict[str, Any]], key: str, value: str, name: str, text: str
) -> None:
    at = world.page("review", scored, page=2, flagged=0, id="1-01.png")
    default = at.selectbox(key=key).value
    at = sound(at.selectbox(key=key).set_value(value).run())
    assert at.query_params[name] == text
    assert "page" not in at.query_params
    wanted = Filters.from_query({name: text, "flagged": "0"}, CLASSES, scored.findings().score_names)[0]
    empty = Review(scored, reviewer="ann").current()
    assert shown[-1]["ids"] == [str(i) for i in gallery(scored.findings().samples, empty, wanted).index[:60]]
    at = sound(at.selectbox(key=key).set_value(default).run())
    assert name not in at.query_params


def test_text_budget_range_and_switches_go_into_the_address(world: World, scored: Project) -> None:
    at = world.page("review", scored)
    at = sound(at.text_input(key="f-q").set_value("1-0").run())
    at = sound(at.text_input(key="f-budget").set_value("30").run())
    at = sound(at.slider(key="f-range").set_value((10.0, 90.5)).run())
    at = sound(at.toggle(key="f-flagged").set_value(False).run())
    at = sound(at.toggle(key="f-blind").set_value(True).run())
    at = sound(at.toggle(key="f-group").set_value(True).run())
    found = {name: at.query_params[name] for name in ("q", "budget", "low", "high", "flagged", "blind", "group")}
    assert found == {
        "q": "1-0", "budget": "30", "low": "10", "high": "90.5", "flagged": "0", "blind": "1", "group": "1",
    }  # fmt: skip
    at = sound(button(at, "Reset all filters").click().run())
    assert dict(at.query_params) == {"project": str(scored.folder)}


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ({"class": "dgo"}, "The link asks for class 'dgo', which this project does not have. All classes are shown."),
        ({"to": "**x**"}, "The link asks for suggested class '**x**', which this project does not have."),
        ({"score": "forest"}, "The link asks for score 'forest', which this project does not have."),
        ({"reason": "none"}, "The link asks for reason 'none', which this project does not have."),
        ({"decision": "maybe"}, "The link asks for decision 'maybe', which this project does not have."),
        ({"split": "half"}, "The link asks for split 'half', which this project does not have."),
        ({"low": "x"}, "'x'"),
        ({"budget": "many"}, "'many'"),
        ({"budget": "-5%"}, "'-5%'"),
    ],
)
def test_an_unknown_value_is_said_and_falls_back(
    world: World, scored: Project, shown: list[dict[str, Any]], query: dict[str, str], text: str
) -> None:
    at = world.page("review", scored, **query)
    assert len(at.warning) == 1
    assert says(at, text), words(at)
    assert len(shown[-1]["ids"]) == 7


@pytest.mark.parametrize("query", [{"page": "x"}, {"page": "-1"}, {"page": "0"}, {"page": "9" * 30}, {"id": "<b>"}])
def test_a_page_or_image_that_there_is_not_falls_back(
    world: World, scored: Project, shown: list[dict[str, Any]], query: dict[str, str]
) -> None:
    at = world.page("review", scored, **query)
    assert not at.error
    assert says(at, "1 to 7 of 7")
    assert shown[-1]["focus"] == shown[-1]["ids"][0]


def test_pages_go_on_and_back(world: World, scored: Project, shown: list[dict[str, Any]]) -> None:
    at = world.page("review", scored, flagged=0)
    first = shown[-1]["ids"]
    assert at.button(key="page-back").disabled
    seen = list(first)
    for number, text in ((2, "61 to 120 of 135"), (3, "121 to 135 of 135")):
        at = sound(at.button(key="page-on").click().run())
        assert says(at, text)
        assert at.query_params["page"] == str(number)
        seen += shown[-1]["ids"]
    assert at.button(key="page-on").disabled
    assert len(set(seen)) == 135
    for _ in range(2):
        at = sound(at.button(key="page-back").click().run())
    assert shown[-1]["ids"] == first
    assert "page" not in at.query_params


def test_an_image_of_the_address_is_in_focus(world: World, scored: Project, shown: list[dict[str, Any]]) -> None:
    world.page("review", scored)
    third = shown[-1]["ids"][2]
    at = world.page("review", scored, id=third)
    assert shown[-1]["focus"] == third
    assert at.query_params["id"] == third


def test_a_decided_image_stays_where_it_is(world: World, scored: Project, shown: list[dict[str, Any]]) -> None:
    at = world.page("review", scored, decision="open")
    before = shown[-1]["ids"]
    Review(scored, reviewer="ann").decide([before[0]], "keep")
    at = sound(at.run())
    assert shown[-1]["ids"] == before
    assert says(at, "1 of 7 reviewed")


def test_no_image_matches(world: World, scored: Project, shown: list[dict[str, Any]]) -> None:
    at = world.page("review", scored, q="no such file")
    assert says(at, "No image matches these filters.")
    assert not shown
    at = sound(button(at, "Show all flagged images").click().run())
    assert says(at, "1 to 7 of 7")


def test_blind_shows_no_suggestion(world: World, scored: Project, shown: list[dict[str, Any]]) -> None:
    world.page("review", scored, blind=1)
    assert shown[-1]["blind"]
    for row in shown[-1]["rows"]:
        assert (row["suggested"], row["reason"], row["given_prob"]) == (None, "", None)


def test_class_pairs_are_counted(world: World, scored: Project) -> None:
    at = world.page("review", scored, group=1, flagged=0)
    table = at.dataframe[0].value
    assert sorted(zip(table["given"], table["suggested"], strict=True)) == sorted(
        zip(CLASSES, (*CLASSES[1:], CLASSES[0]), strict=True)
    )
    at = world.page("review", scored, group=1, q="no such file")
    assert says(at, "No image in this selection has a suggested label")


def test_the_reviewer_is_the_user_unless_named(
    world: World, scored: Project, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    at = world.page("review", scored)
    assert shown[-1]["reviewer"] == "someone"
    assert at.text_input(key="f-reviewer").value == "someone"
    at = sound(at.text_input(key="f-reviewer").set_value("  ann **b**  ").run())
    assert shown[-1]["reviewer"] == "ann **b**"
    assert "reviewer" not in at.query_params
    at = sound(at.text_input(key="f-reviewer").set_value("").run())
    assert shown[-1]["reviewer"] == "someone"


def test_a_link_makes_nobody_decide_as_somebody_else(
    world: World, scored: Project, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    world.page("review", scored, reviewer="bo")
    assert shown[-1]["reviewer"] == "someone"


@pytest.mark.parametrize(
    ("cookie", "name"),
    [("bo%20b", "bo b"), ("x" * 500, "x" * 80), ("%20", "me"), ("a%0Ab%E2%80%AE", "ab"), ("%FF", "\ufffd")],
)
def test_the_browser_remembers_the_reviewer(
    world: World, scored: Project, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, cookie: str, name: str
) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "me")
    world.cookies[session.COOKIE] = cookie
    assert not world.page("review", scored).error
    assert shown[-1]["reviewer"] == name


def test_a_machine_without_user_names_still_decides(
    world: World, scored: Project, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody() -> str:
        raise OSError("no name")

    monkeypatch.setattr(getpass, "getuser", nobody)
    world.page("review", scored)
    assert shown[-1]["reviewer"] == "unknown"


def test_what_the_browser_sends_is_written(world: World, scored: Project, shown: list[dict[str, Any]]) -> None:
    world.cookies[session.COOKIE] = "ann"
    at = world.page("review", scored)
    first = shown[-1]["ids"][0]
    event = {
        "event_id": "e1", "kind": "decide", "batch": "b1", "sample_id": first, "action": "relabel", "label": IMG,
    }  # fmt: skip
    hostile = {**event, "event_id": "e2", "batch": "b2", "action": "drop table", "label": None}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "sent", lambda _key: grid.Sent((event, hostile), owner=large.owner(scored, "bo")))
        at = sound(at.run())  # of another name's outbox: not for this log
        assert not scored.review_path.exists()
        patch.setattr(grid, "sent", lambda _key: grid.Sent((event, hostile), owner=large.owner(scored, "ann")))
        at = sound(at.run())
        at = sound(at.run())  # sent again: stored once
    current = Review(scored, reviewer="bo").current()
    assert current["action"].to_dict() == {first: "relabel"}
    assert current["final_label"][first] == IMG
    assert current["reviewer"][first] == "ann"
    assert len(Review(scored, reviewer="bo").history()) == 1
    assert says(at, "1 of 7 reviewed; the last one was real")


def test_a_read_only_app_takes_nothing(world: World, scored: Project, made: Project) -> None:
    world.told(world.root, made.folder.parent / "data", read_only=True)
    event = {
        "event_id": "e", "kind": "decide", "batch": "b", "sample_id": "1-01.png", "action": "exclude", "label": None,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "sent", lambda _key: grid.Sent((event,), owner=large.owner(scored, getpass.getuser())))
        for name in ("review", "export", "map"):
            world.page(name, scored)
    assert not scored.review_path.exists()


def test_scores_have_titles() -> None:
    assert filters.score_title("suspicion") == "Suspicion"
    assert all(filters.score_title(name) == info.title for name, info in SCORE_INFO.items())
    assert filters.score_title("another") == "another"


@pytest.fixture
def copied(scored: Project) -> Project:
    """Copies were looked for, facts too, and a column travels along."""
    rows = scored.manifest().rows
    ids = rows["sample_id"].tolist()
    found, stages = scored.findings(), scored.stages
    copies = [(ids[0], 0, ids[60], "exact", 0.0), (ids[60], 0, ids[0], "exact", 0.0)]
    table = pd.DataFrame(copies, columns=list(extras.COPY_COLUMNS))
    facts = pd.DataFrame({"sample_id": ids, "is_dark": [at == 0 for at in range(len(ids))]})
    for name, key, content in (
        ("copies", extras._copies_key(found), table), ("facts", extras._facts_key(scored.manifest()), facts),
    ):  # fmt: skip
        with stages.write(name, key) as folder:
            content.to_parquet(folder / "table.parquet")
    rows["meta_who"] = [IMG if at % 2 else "ann" for at in range(len(ids))]
    rows.to_parquet(scored.folder / "manifest.parquet", index=False)
    return scored


def test_copies_and_values_are_filters(world: World, copied: Project, shown: list[dict[str, Any]]) -> None:
    ids = copied.manifest().rows["sample_id"].tolist()
    at = world.page("review", copied, flagged=0)
    at = sound(at.selectbox(key="f-copies").set_value("other label").run())
    assert at.query_params["copies"] == "other label"
    assert set(shown[-1]["ids"]) <= {ids[0], ids[60]}
    at = sound(at.selectbox(key="f-copies").set_value("any").run())
    at = sound(at.selectbox(key="f-by").set_value("who").run())
    assert len(shown[-1]["ids"]) == 60
    at = sound(at.selectbox(key="f-value").set_value(IMG).run())
    assert (at.query_params["by"], at.query_params["value"]) == ("who", IMG)
    assert all(ids.index(each) % 2 for each in shown[-1]["ids"])
    at = sound(at.selectbox(key="f-by").set_value("").run())
    assert "value" not in at.query_params
    assert "by" not in at.query_params


def test_the_large_view_holds_copies_facts_and_meta_values(
    world: World, copied: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    detail = large._detail
    monkeypatch.setattr(large, "_detail", lambda *all_: told.append(detail(*all_)) or told[-1])
    ids = copied.manifest().rows["sample_id"].tolist()
    sample = next(each for each in (ids[0], ids[60]) if each in copied.findings().samples.query("split=='train'").index)
    other = ids[60] if sample == ids[0] else ids[0]
    world.page("review", copied, flagged=0, id=sample, q=sample)
    assert [each["id"] for each in told[-1]["copies"]] == [other]
    assert told[-1]["images"][other].startswith("data:image/webp")
    assert told[-1]["meta"] == {"who": "ann"}
    assert told[-1]["facts"] == (["dark"] if sample == ids[0] else [])
    world.page("review", copied, flagged=0, id=sample, q=sample, blind=1)
    assert told[-1]["copies"] == []


def test_a_damaged_table_of_copies_does_not_close_the_review(
    world: World, copied: Project, shown: list[dict[str, Any]]
) -> None:
    for path in copied.folder.glob("stages/copies-*/table.parquet"):
        path.write_bytes(b"no")
    at = world.page("review", copied)
    assert shown[-1]["ids"]
    assert not [each for each in at.selectbox if each.key == "f-copies"]
