from __future__ import annotations

import math
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.review.decisions import Review, facts
from core.review.inbox import LONGEST_REASON, MOST, Receipt, accept, history, state_of
from tests.fake_project import FakeProject, manifest_rows

IDS = ["a.png", "b.png", "c.png", "held.png"]  # given cat, dog, fox, cat


@pytest.fixture
def project(tmp_path: Path) -> FakeProject:
    return FakeProject(tmp_path, manifest_rows(IDS, splits=["train", "train", "train", "val"]))


@pytest.fixture
def review(project: FakeProject) -> Review:
    return Review(project, reviewer="ann")


def decide(event_id: str, sample: str, action: str = "keep", batch: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "event_id": event_id, "kind": "decide", "batch": batch or f"batch-{event_id}", "sample_id": sample,
        "action": action, "label": None, **more,
    }  # fmt: skip


def turn(event_id: str, kind: str, batch: str | None = None) -> dict[str, Any]:
    return {"event_id": event_id, "kind": kind, "batch": batch}


def actions(review: Review) -> dict[str, str]:
    return dict(review.current()["action"])


def test_key_presses_are_recorded_in_order_under_their_own_batch_with_what_was_seen(review: Review) -> None:
    seen = pd.Series([99.5, math.nan, 3.0], index=IDS[:3])
    outbox = [
        decide("1", "a.png", "exclude", "p"),
        decide("2", "b.png", "relabel", "p", label="fox", colour="red"),
        decide("3", "a.png", "unsure", "q"),
    ]
    assert accept(review, outbox, seen) == Receipt(("1", "2", "3"))
    told = [(r["event_id"], r["batch"], r["reviewer"], r["label"], r["suspicion"]) for r in review.history()]
    assert told == [("1", "p", "ann", None, 99.5), ("2", "p", "ann", "fox", None), ("3", "q", "ann", None, 99.5)]
    assert actions(review) == {"a.png": "unsure", "b.png": "relabel"}


@pytest.mark.parametrize("kind", [np.float32, float, int])
def test_any_kind_of_number_was_seen(review: Review, kind: type) -> None:
    accept(review, [decide("1", "a.png"), decide("2", "b.png")], pd.Series([kind(7)], index=["a.png"]))
    assert [row["suspicion"] for row in review.history()] == [7.0, None]


def test_the_same_outbox_again_is_answered_and_changes_nothing(review: Review) -> None:
    outbox = [
        decide("1", "a.png"), turn("2", "undo"), turn("3", "redo"), decide("4", "a.png", "exclude"), turn("5", "undo"),
    ]  # fmt: skip
    first = accept(review, outbox)
    lines = review.to_jsonl()
    assert first.stored == ("1", "2", "3", "4", "5")
    assert accept(review, outbox) == first
    assert review.to_jsonl() == lines
    assert actions(review) == {"a.png": "keep"}


def test_an_outbox_of_which_a_part_is_stored_is_completed(review: Review) -> None:
    outbox = [decide("1", "a.png", "exclude", "p"), decide("2", "b.png", "exclude", "p"), turn("3", "undo", "p")]
    accept(review, outbox[:1])
    assert accept(review, outbox).stored == ("1", "2", "3")
    assert [(row["batch"], row["decisions"]) for row in review.batches()] == [("p", 2)]
    assert actions(review) == {}


def test_an_event_twice_in_one_outbox_counts_once(review: Review) -> None:
    assert accept(review, [decide("1", "a.png"), decide("1", "a.png"), decide("1", "b.png")]).stored == ("1",)
    assert actions(review) == {"a.png": "keep"}


def test_a_key_press_is_recorded_whole_or_not_at_all(review: Review) -> None:
    outbox = [
        decide("1", "a.png", "exclude", "p"), decide("2", "nope", "exclude", "p"), decide("3", "b.png"),
        decide("4", "c.png", "exclude", "p"),
    ]  # fmt: skip
    receipt = accept(review, outbox)
    assert receipt.stored == ("3",)
    assert receipt.refused == {
        "1": "Another image of the same key press cannot be recorded: unknown sample. Give a sample_id of this "
        "project's manifest.",
        "2": "unknown sample. Give a sample_id of this project's manifest.",
        "4": "Another image of the same key press cannot be recorded: unknown sample. Give a sample_id of this "
        "project's manifest.",
    }
    assert actions(review) == {"b.png": "keep"}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_event_that_cannot_be_read_refuses_its_key_press(review: Review, place: int) -> None:
    outbox = [decide(f"{i}", sample, "keep", "p") for i, sample in enumerate(IDS[:3])]
    outbox[place]["label"] = 7
    receipt = accept(review, [*outbox, decide("3", "a.png", "exclude", "q")])
    assert receipt.stored == ("3",)
    assert set(receipt.refused) == {"0", "1", "2"}
    assert actions(review) == {"a.png": "exclude"}


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (decide("1", "nope"), "unknown sample"),
        (decide("1", "held.png"), "held-out rows"),
        (decide("1", "a.png", "delete"), "The action is not known. Choose from undecided, keep"),
        (decide("1", "a.png", "relabel", label="dgo"), "relabel needs a class as label, got 'dgo'"),
        (decide("1", "a.png", "relabel", label="cat"), "is the given label"),
        (decide("1", "a.png", "keep", label="dog"), "goes with relabel only"),
        (decide("1", "a.png", "relabel", label="x" * 4000), "relabel needs a class"),
        ({**decide("1", "a.png"), "kind": "erase"}, "no decision, undo or redo"),
        ({**decide("1", "a.png"), "kind": ["decide"]}, "no decision, undo or redo"),
        ({"event_id": "1"}, "no decision, undo or redo"),
        ({**decide("1", "a.png"), "batch": None}, "batch of a decide has to be a text"),
        ({**decide("1", "a.png"), "batch": 7}, "batch of a decide has to be a text"),
        ({**decide("1", "a.png"), "batch": "b" * 201}, "batch of a decide has to be a text"),
        ({**turn("1", "undo"), "batch": {}}, "batch of a undo has to be a text"),
        ({**decide("1", "a.png"), "sample_id": math.nan}, "sample_id has to be a text"),
        ({**decide("1", "a.png"), "sample_id": "x" * 10_000_000}, "sample_id has to be a text"),
        ({**decide("1", "a.png"), "sample_id": "a\ud800"}, "sample_id has to be a text"),
        ({**decide("1", "a.png"), "sample_id": ["a.png"]}, "sample_id has to be a text"),
        ({**decide("1", "a.png"), "action": {"a": 1}}, "action is not known"),
        ({**decide("1", "a.png"), "action": math.nan}, "action is not known"),
        (decide("1", "a.png", "relabel", label=3), "label has to be a text"),
        (decide("1", "a.png", "relabel", label=math.nan), "label has to be a text"),
        (decide("1", "a.png", "relabel", label="x" * 10_000_000), "label has to be a text"),
        (decide("1", "a.png", "relabel", label="\udfff"), "label has to be a text"),
        (turn("1", "undo"), "nothing to undo for 'ann'"),
        (turn("1", "redo"), "nothing to redo for 'ann'"),
        (turn("1", "undo", "b0"), "no batch 'b0' to undo: it was not recorded"),
    ],
)
def test_what_can_never_be_recorded_is_refused_and_the_rest_goes_on(
    review: Review, event: dict[str, Any], reason: str
) -> None:
    receipt = accept(review, [event, decide("2", "b.png")])
    assert receipt.stored == ("2",)
    assert list(receipt.refused) == ["1"]
    assert reason in receipt.refused["1"]
    assert len(receipt.refused["1"]) <= LONGEST_REASON
    assert receipt.failed is None
    assert [row["event_id"] for row in review.history()] == ["2"]


@pytest.mark.parametrize(
    "outbox",
    [
        None, "text", b"bytes", 7, math.nan, {}, {"event_id": "1"}, [], [None, 1, "x", [], {}], [{"event_id": None}],
        [{"event_id": 5}], [{"event_id": ""}], [{"event_id": "x" * 201}], [{"event_id": "\ud800"}],
        [{"event_id": ["1"]}],
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_passed_over(review: Review, project: FakeProject, outbox: object) -> None:
    assert accept(review, outbox) == Receipt()
    assert not project.review_path.exists()


def test_strange_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    ids = ["<img src=x onerror=alert(1)>", "a'; DROP TABLE log;--", "nul\0.png", "ünï\u202e.png", "=1+1"]
    review = Review(FakeProject(tmp_path, manifest_rows(ids)), reviewer="<b>")
    outbox = [decide(f"e{name}", name, "exclude", f"b{name}") for name in ids]
    assert accept(review, outbox).stored == tuple(f"e{name}" for name in ids)
    assert list(state_of(review.current(), ids)) == ids
    assert [entry["batch"] for entry in history(review, ids)["undo"]] == [f"b{name}" for name in reversed(ids)]


def test_undo_names_its_batch_also_one_partly_decided_again(review: Review) -> None:
    accept(review, [decide("1", "a.png", "exclude", "p"), decide("2", "b.png", "exclude", "p")])
    accept(review, [decide("3", "a.png", "keep", "q"), turn("4", "undo", "p")])
    assert actions(review) == {"a.png": "keep"}
    accept(review, [turn("5", "undo", "q")])
    assert actions(review) == {}


def test_an_undo_in_the_same_outbox_as_its_decision_finds_it(review: Review) -> None:
    outbox = [decide("1", "a.png", "exclude", "p"), turn("2", "undo", "p"), decide("3", "b.png", "keep", "q")]
    assert accept(review, outbox).stored == ("1", "2", "3")
    assert actions(review) == {"b.png": "keep"}


def test_an_undo_before_its_decision_is_refused(review: Review) -> None:
    receipt = accept(review, [turn("2", "undo", "p"), decide("1", "a.png", "exclude", "p")])
    assert (receipt.stored, list(receipt.refused)) == (("1",), ["2"])


def test_the_same_undo_in_two_tabs_undoes_once_also_when_it_is_sent_again_after_a_redo(review: Review) -> None:
    accept(review, [decide("1", "a.png", "exclude", "p"), decide("2", "b.png", "keep", "q")])
    for event_id in ("tab 1", "tab 2"):
        assert accept(review, [turn(event_id, "undo", "q")]).stored == (event_id,)
    assert actions(review) == {"a.png": "exclude"}
    for event_id in ("redo 1", "redo 2"):
        assert accept(review, [turn(event_id, "redo", "q")]).stored == (event_id,)
    accept(review, [turn("tab 1", "undo", "q"), turn("tab 2", "undo", "q")])
    assert actions(review) == {"a.png": "exclude", "b.png": "keep"}


def test_redo_after_a_new_decision_is_refused(review: Review) -> None:
    receipt = accept(
        review,
        [decide("1", "a.png", "exclude", "p"), turn("2", "undo", "p"), decide("3", "b.png"), turn("4", "redo", "p")],
    )
    assert receipt.stored == ("1", "2", "3")
    assert "a newer one came since" in receipt.refused["4"]


def test_the_batches_of_another_reviewer_are_theirs(review: Review, project: FakeProject) -> None:
    bob = Review(project, reviewer="bob")
    accept(review, [decide("1", "a.png", "exclude", "p")])
    receipt = accept(bob, [decide("2", "b.png", "keep", "p"), turn("3", "undo", "p"), turn("4", "redo", "p")])
    assert receipt.stored == ()
    assert receipt.refused["2"] == "Batch 'p' is taken by 'ann'. Give the batch an id of its own."
    assert receipt.refused["3"] == "Batch 'p' is 'ann''s. Each person can undo their own only."
    assert "can redo their own only" in receipt.refused["4"]
    assert actions(bob) == {"a.png": "exclude"}


def test_an_event_id_of_another_reviewer_or_of_another_kind_is_refused(review: Review, project: FakeProject) -> None:
    accept(review, [decide("1", "a.png"), turn("2", "undo")])
    bob = accept(Review(project, reviewer="bob"), [decide("1", "a.png", batch="other")])
    assert "already recorded as keep of 'a.png' by 'ann'" in bob.refused["1"]
    ann = accept(review, [turn("1", "undo"), decide("2", "a.png")])
    assert "'1' is already recorded as keep of 'a.png'. Give the undo its own id" in ann.refused["1"]
    assert "'2' is already recorded as undo, now it says keep of 'a.png'" in ann.refused["2"]


def test_two_reviewers_on_one_sample_the_later_holds_and_each_undoes_their_own(
    review: Review, project: FakeProject
) -> None:
    bob = Review(project, reviewer="bob")
    accept(review, [decide("1", "a.png", "exclude", "p")])
    accept(bob, [decide("2", "a.png", "keep", "q")])
    accept(review, [turn("3", "undo")])
    assert state_of(review.current(), IDS) == {"a.png": {"action": "keep", "label": None, "reviewer": "bob"}}
    accept(review, [turn("4", "redo")])
    assert history(review, IDS)["undo"][0]["before"] == {"a.png": ["keep", None]}
    assert history(bob, IDS)["undo"][0]["before"] == {"a.png": ["exclude", None]}


def test_only_so_many_events_at_once_the_rest_waits_and_whole_key_presses_stay_whole(tmp_path: Path) -> None:
    ids = [f"{i}" for i in range(MOST + 10)]
    review = Review(FakeProject(tmp_path, manifest_rows(ids)), reviewer="ann")
    outbox = [decide("first", "0"), *(decide(f"e{i}", each, "keep", f"b{i // 8}") for i, each in enumerate(ids))]
    receipt = accept(review, outbox)
    assert (len(receipt.stored), dict(receipt.refused), receipt.failed) == (1 + MOST // 8 * 8 - 8, {}, None)
    rest = accept(review, [event for event in outbox if event["event_id"] not in set(receipt.stored)])
    assert len(receipt.stored) + len(rest.stored) == len(outbox)
    assert set(pd.Series([row["decisions"] for row in review.batches(9999)]).unique()) == {8, 2, 1}


def test_a_key_press_beyond_the_limit_is_refused_whole(tmp_path: Path) -> None:
    ids = [f"{i}" for i in range(MOST + 1)]
    review = Review(FakeProject(tmp_path, manifest_rows(ids)), reviewer="ann")
    receipt = accept(review, [*(decide(f"e{i}", each, "keep", "p") for i, each in enumerate(ids)), decide("last", "0")])
    assert receipt.stored == ("last",)
    assert set(receipt.refused.values()) == {
        "More than 5,000 images in one key press cannot be recorded. Choose fewer."
    }


def test_a_locked_log_fails_and_nothing_is_acknowledged(
    review: Review, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.review.inbox.WAIT", 0.05)
    accept(review, [decide("1", "a.png")])
    db = sqlite3.connect(project.review_path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    outbox = [decide("1", "a.png"), decide("2", "b.png"), decide("3", "nope")]
    receipt = accept(review, outbox)
    assert (receipt.stored, dict(receipt.refused)) == ((), {})
    assert "locked" in str(receipt.failed)
    db.close()
    again = accept(review, outbox)
    assert (again.stored, list(again.refused), again.failed) == (("1", "2"), ["3"], None)


def test_a_disk_that_fills_up_half_way_leaves_nothing_and_acknowledges_nothing(
    review: Review, project: FakeProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept(review, [decide("1", "a.png")])
    with closing(sqlite3.connect(project.review_path)) as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
    real = sqlite3.connect

    def full(*args: Any, **named: Any) -> sqlite3.Connection:
        db = real(*args, **named)
        db.execute(f"PRAGMA max_page_count = {pages}")
        return db

    outbox = [decide(f"e{i}", "b.png", "keep", f"b{i}-{'x' * 180}") for i in range(200)]
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        receipt = accept(review, outbox)
    assert (receipt.stored, dict(receipt.refused)) == ((), {})
    assert "full" in str(receipt.failed)
    assert "nothing was recorded" in str(receipt.failed)
    assert len(review.history()) == 1
    assert len(accept(review, outbox).stored) == 200


def test_a_damaged_log_fails_in_plain_words(review: Review, project: FakeProject) -> None:
    project.review_path.write_text("not a database at all, but long enough to look like one " * 9)
    receipt = accept(review, [decide("1", "a.png")])
    assert receipt.stored == ()
    assert "damaged" in str(receipt.failed)


def test_reading_only_refuses_all_but_what_is_stored_already(review: Review, project: FakeProject) -> None:
    accept(review, [decide("1", "a.png")])
    reader = Review(project, reviewer="ann", read_only=True)
    receipt = accept(reader, [decide("1", "a.png"), decide("2", "b.png"), turn("3", "undo"), {"event_id": "4"}])
    assert receipt.stored == ("1",)
    assert set(receipt.refused) == {"2", "3", "4"}
    assert receipt.refused["2"].startswith("The project is open for reading only")
    assert actions(review) == {"a.png": "keep"}


def test_reading_only_makes_no_file(project: FakeProject) -> None:
    receipt = accept(Review(project, reviewer="eve", read_only=True), [decide("1", "a.png")])
    assert list(receipt.refused) == ["1"]
    assert list(project.folder.iterdir()) == []


def test_the_receipt_is_plain_for_the_browser() -> None:
    assert Receipt(("1",), {"2": "why"}, None).plain() == {"stored": ["1"], "refused": {"2": "why"}, "failed": None}


def test_history_says_what_undo_and_redo_lead_to(review: Review) -> None:
    assert history(review, IDS) == {"undo": [], "redo": []}
    accept(
        review,
        [
            decide("1", "a.png", "exclude", "p"), decide("2", "b.png", "exclude", "p"),
            decide("3", "a.png", "relabel", "q", label="fox"), decide("4", "c.png", "undecided", "r"),
            decide("5", "a.png", "keep", "s"), decide("6", "b.png", "unsure", "s"),
            turn("7", "undo"), turn("8", "undo"),
        ],
    )  # fmt: skip
    assert history(review, ["a.png", "c.png"]) == {
        "undo": [
            {"batch": "q", "count": 1, "before": {"a.png": ["exclude", None]}},
            {"batch": "p", "count": 2, "before": {"a.png": ["undecided", None]}},
        ],
        "redo": [
            {"batch": "r", "count": 1, "after": {"c.png": ["undecided", None]}},
            {"batch": "s", "count": 2, "after": {"a.png": ["keep", None]}},
        ],
    }
    assert [entry["batch"] for entry in history(review, IDS, depth=1)["undo"]] == ["q"]
    accept(review, [decide("9", "c.png")])
    assert history(review, IDS)["redo"] == []


def test_state_holds_the_decided_of_the_page_only(review: Review) -> None:
    accept(
        review, [decide("1", "a.png", "relabel", label="dog"), decide("2", "b.png"), decide("3", "c.png", "undecided")]
    )
    assert state_of(review.current(), ["c.png", "a.png", "unknown"]) == {
        "a.png": {"action": "relabel", "label": "dog", "reviewer": "ann"}
    }
    assert state_of(review.current(), []) == {}


def test_a_review_made_of_known_facts_is_the_same(project: FakeProject) -> None:
    classes, given, held_out = facts(project.manifest())
    review = Review.of(classes, given, held_out, project.review_path, reviewer=" ann ")
    assert review.reviewer == "ann"
    receipt = accept(review, [decide("1", "a.png"), decide("2", "held.png"), decide("3", "x", "relabel", label="dog")])
    assert receipt == accept(
        Review(project, reviewer="ann"),
        [decide("1", "a.png"), decide("2", "held.png"), decide("3", "x", "relabel", label="dog")],
    )
    assert receipt.stored == ("1",)


def test_tabs_that_send_at_once_lose_nothing(project: FakeProject) -> None:
    def tab(name: str) -> None:
        review, outbox, known = Review(project, reviewer="ann"), [], set()
        for i in range(12):
            outbox.append(decide(f"{name}{i}", IDS[i % 3], "keep"))
            known |= set(accept(review, outbox).stored)
        left.extend(event["event_id"] for event in outbox if event["event_id"] not in known)

    left: list[str] = []
    tabs = [threading.Thread(target=tab, args=(name,)) for name in "xyz"]
    for each in tabs:
        each.start()
    for each in tabs:
        each.join()
    stored = [row["event_id"] for row in Review(project, reviewer="ann").history()]
    assert left == []
    assert sorted(stored) == sorted(f"{name}{i}" for name in "xyz" for i in range(12))


def test_what_comes_in_is_not_changed(review: Review) -> None:
    outbox: list[Mapping[str, Any]] = [decide("1", "a.png", "exclude", "p"), decide("2", "nope", "exclude", "p")]
    copies = [dict(event) for event in outbox]
    accept(review, outbox)
    assert outbox == copies
