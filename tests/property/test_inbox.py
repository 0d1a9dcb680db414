"""Whatever a browser sends, as often as it sends it: the log ends where one careful reader of the events ends."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.review.decisions import Review
from core.review.inbox import accept, history, state_of
from tests.fake_project import FakeProject, manifest_rows

IDS = ["a", "b", "c", "d"]
DECISION = st.dictionaries(
    st.sampled_from(IDS), st.sampled_from(["keep", "exclude", "undecided"]), min_size=1, max_size=3
)
PRESS = st.one_of(DECISION, st.sampled_from(["undo", "redo"]))
PRESSES = st.lists(st.tuples(st.sampled_from(["ann", "bob"]), PRESS), max_size=12)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4) | st.sampled_from(["decide", "undo"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["event_id", "kind", "batch", "sample_id", "action", "label"]), inner)
    ),
    max_leaves=12,
)


def outbox_of(number: int, press: Any) -> list[dict[str, Any]]:
    if isinstance(press, str):
        return [{"event_id": f"{number}", "kind": press, "batch": None}]
    return [
        {
            "event_id": f"{number}-{sample}",
            "kind": "decide",
            "batch": f"b{number}",
            "sample_id": sample,
            "action": action,
        }
        for sample, action in press.items()
    ]


def state(review: Review) -> dict[str, str]:
    return dict(review.current()["action"])


@given(PRESSES, st.data())
@settings(deadline=None, max_examples=20)
def test_sent_again_and_in_parts_leads_to_the_same_log(presses: list[tuple[str, Any]], data: st.DataObject) -> None:
    """One log takes each key press alone and once; the other gets outboxes that grow and are sent again at will."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        projects = [FakeProject(Path(folder), manifest_rows(IDS)) for folder in (one, other)]
        kept: dict[str, list[dict[str, Any]]] = {"ann": [], "bob": []}
        for number, (who, press) in enumerate(presses):
            events = outbox_of(number, press)
            once = accept(Review(projects[0], reviewer=who), events)
            kept[who] += events
            box = kept[who]
            again = accept(Review(projects[1], reviewer=who), box)
            assert set(once.stored) <= set(again.stored)
            assert set(once.refused) <= set(again.refused)
            gone = set(again.refused)  # the browser drops these; of the stored ones it may not have heard
            heard = data.draw(st.sets(st.sampled_from(again.stored))) if again.stored else set()
            kept[who] = [event for event in box if event["event_id"] not in gone | heard]
        reviews = [Review(project, reviewer="eve") for project in projects]
        assert state(reviews[0]) == state(reviews[1])
        told = [[(r["event_id"], r["kind"], r["in_effect"]) for r in review.history()] for review in reviews]
        assert told[0] == told[1]


@given(PRESSES, st.sampled_from(["ann", "bob"]))
@settings(deadline=None, max_examples=20)
def test_undoing_and_redoing_leads_where_history_says(presses: list[tuple[str, Any]], who: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        project = FakeProject(Path(folder), manifest_rows(IDS))
        for number, (whose, press) in enumerate(presses):
            accept(Review(project, reviewer=whose), outbox_of(number, press))
        review = Review(project, reviewer=who)
        start = history(review, IDS)

        def walk(kind: str, change: str) -> None:
            for step, entry in enumerate(start[kind]):
                was = state(review)
                event = {"event_id": f"{kind}{step}", "kind": kind, "batch": entry["batch"]}
                assert accept(review, [event]).stored == (f"{kind}{step}",)
                held = {sample: action for sample, (action, _) in entry[change].items()}
                told = {s: a for s, a in (was | held).items() if a != "undecided"}
                assert state(review) == told
                assert {s: v["action"] for s, v in state_of(review.current(), IDS).items()} == told

        walk("redo", "after")
        start["undo"] = history(review, IDS)["undo"]
        walk("undo", "before")
        assert history(review, IDS)["undo"] == []


@given(ANYTHING)
@settings(deadline=None, max_examples=60)
def test_nothing_that_comes_in_breaks_it(payload: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        review = Review(FakeProject(Path(folder), manifest_rows(IDS)), reviewer="ann")
        for outbox in (payload, [payload], [{"event_id": "1", "kind": "decide", "batch": "b", "sample_id": payload}]):
            receipt = accept(review, outbox)
            assert receipt.failed is None
            assert not set(receipt.stored) & set(receipt.refused)
        assert {row["sample_id"] for row in review.history()} <= set(IDS)
