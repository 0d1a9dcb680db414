from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.catalogue import SCORE_INFO
from core.errors import InputError
from core.findings import Findings, Neighbours
from core.review.decisions import CURRENT, Review
from core.review.detail import detail, history_rows
from tests.fake_project import FakeProject, manifest_rows

IDS = ["a", "b", "c", "d", "e", "f"]
GIVEN = ["cat", "cat", "dog", "dog", "cat", "dog"]
HEAD = np.array(  # of cat, dog, fox
    [[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.05, 0.9, 0.05], [0.9, 0.1, 0.0], [0.01, 0.99, 0.0]]
)
WRONG = "Labelled cat, very probably dog: the out-of-sample head gives dog 80 % and cat 10 %."
FINE = "Labelled cat, and the out-of-sample head agrees (70 %); nothing speaks against the label."


def decided(**actions: str) -> pd.DataFrame:
    columns: dict[str, list[Any]] = {name: [None] * len(actions) for name in CURRENT}
    columns |= {"action": list(actions.values()), "reviewer": ["ann"] * len(actions)}
    columns["decided_at"] = ["2026-03-01T12:30:05.250+01:00"] * len(actions)
    return pd.DataFrame(columns, index=pd.Index(list(actions), dtype="str", name="sample_id"), dtype="str")


@pytest.fixture
def rows() -> pd.DataFrame:
    return manifest_rows(IDS, GIVEN, ["train"] * 5 + ["val"]).assign(group=["x", None, "x", "x", "x", "x"])


@pytest.fixture
def findings(rows: pd.DataFrame) -> Findings:
    table = rows[["sample_id", "filepath", "split", "given_label"]].assign(
        predicted_label="dog",
        predicted_prob=np.float32(0.5),
        suggested_label=["dog", "cat", "dog", "dog", "cat", "dog"],
        suggested_prob=HEAD.max(1),
        suspicion=[100.0, 20.0, 40.0, 90.0, 10.0, 50.0],
        reason=[WRONG, *[FINE] * 5],
        score_loss=[90.0, 10.0, np.nan, 30.0, 20.0, 50.0],
        raw_loss=[3.0, 0.1, np.nan, 0.3, 0.2, 0.5],
        score_margin=[60.0] * 6,
        raw_margin=[-0.5] * 6,
        score_el2n=[95.0] * 6,
        raw_el2n=[1.2] * 6,
        score_home_made=[99.0] * 6,
        raw_home_made=[7.0] * 6,
    )
    near = Neighbours(np.array([[2, 1, 4], *[[0, 2, 3]] * 5]), np.array([[0.9, 0.8, 0.7]] * 6, dtype=np.float32))
    return Findings(
        table.set_index("sample_id"), ("cat", "dog", "fox"), {"suspicion": {"scores": ["margin"], "memorised": False}},
        HEAD, np.array([[0.1] * 6, [np.nan, *[0.4] * 5]]), {"features": near},
    )  # fmt: skip


def test_one_sample_in_full(findings: Findings, rows: pd.DataFrame) -> None:
    found = detail(findings, rows, decided(a="exclude"), "a", k=2)
    scores = found.pop("scores")
    assert found == {
        "id": "a",
        "path": "/images/a",
        "split": "train",
        "given": "cat",
        "suggested": "dog",
        "suggested_prob": 0.8,
        "suggested_by": "the out-of-sample head",
        "predicted": "dog",
        "predicted_prob": 0.5,
        "suspicion": 100.0,
        "reason": WRONG,
        "kind": "very probably wrong",
        "decision": {
            "action": "exclude", "label": None, "reviewer": "ann", "when": "2026-03-01 11:30:05 UTC", "note": None,
        },
        "probabilities": [{"label": "dog", "p": 0.8}, {"label": "cat", "p": 0.1}, {"label": "fox", "p": 0.1}],
        "neighbours": {
            "features": [
                {"id": "c", "label": "dog", "similarity": pytest.approx(0.9)},
                {"id": "b", "label": "cat", "similarity": pytest.approx(0.8)},
            ],
            "gradients": [],
        },
        "examples": {"given": "e", "suggested": "c"},
        "curve": [0.1, None],
        "size": [8, 8],
        "sha256": rows["sha256"][0],
        "group": "x",
        "spread": None,
        "copies": [],
        "meta": {},
        "facts": [],
    }  # fmt: skip
    assert [(each["name"], each["part"]) for each in scores] == [
        ("margin", True), ("home_made", False), ("el2n", False), ("loss", False),
    ]  # fmt: skip
    assert scores[0] == {
        "name": "margin", "title": "Probability margin", "meaning": SCORE_INFO["margin"].meaning, "percentile": 60.0,
        "raw": -0.5, "spread": None, "suspicious_end": "low", "acted_on": "removes the bottom", "part": True,
    }  # fmt: skip
    assert scores[1]["title"] == "home_made"
    assert scores[1]["suspicious_end"] is None


@pytest.mark.parametrize("sample_id", IDS)
def test_every_sample_is_plain(findings: Findings, rows: pd.DataFrame, sample_id: str) -> None:
    found = detail(findings, rows, decided(), sample_id)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["decision"] is None
    assert sample_id not in found["examples"].values()


def test_an_unknown_value_is_none_and_its_score_last(findings: Findings, rows: pd.DataFrame) -> None:
    found = detail(findings, rows, decided(), "c")
    assert [each["name"] for each in found["scores"]] == ["margin", "home_made", "el2n", "loss"]
    assert (found["scores"][-1]["percentile"], found["scores"][-1]["raw"]) == (None, None)
    assert detail(findings, rows, decided(), "b")["group"] is None


@pytest.mark.parametrize(
    ("sample_id", "decisions", "expected"),
    [
        ("a", {}, {"given": "e", "suggested": "c"}),  # d is surer than c, but suspicious; f is held out
        ("a", {"e": "relabel"}, {"given": "b", "suggested": "c"}),
        ("a", {"e": "keep", "b": "exclude"}, {"given": "e", "suggested": "c"}),
        ("a", {"c": "unsure"}, {"given": "e", "suggested": "d"}),  # no calm one is left
        ("a", {"c": "unsure", "d": "exclude"}, {"given": "e", "suggested": None}),
        ("e", {}, {"given": "b", "suggested": None}),  # the given label is suggested
    ],
)
def test_examples_are_the_surest_of_their_class(
    findings: Findings, rows: pd.DataFrame, sample_id: str, decisions: dict[str, str], expected: dict[str, str | None]
) -> None:
    assert detail(findings, rows, decided(**decisions), sample_id)["examples"] == expected


def test_an_early_network_suggests_where_labels_were_memorised(findings: Findings, rows: pd.DataFrame) -> None:
    run = {"suspicion": {"scores": ["margin"], "memorised": True}}
    found = detail(replace(findings, run=run), rows, decided(), "a")
    assert found["suggested_by"] == "the network, before it had memorised"


def test_the_manifest_may_stand_in_another_order(findings: Findings, rows: pd.DataFrame) -> None:
    turned = rows[::-1].reset_index(drop=True)
    turned.loc[turned["sample_id"] == "a", "width"] = 99
    assert detail(findings, turned, decided(), "a")["size"] == [99, 8]
    assert detail(findings, rows[1:], decided(), "a")["size"] is None


def test_of_many_classes_nine_are_told(findings: Findings, rows: pd.DataFrame) -> None:
    head = np.tile(np.linspace(0, 1, 20), (6, 1))
    many = replace(findings, classes=("cat", "dog", *(f"k{i}" for i in range(18))), head_probabilities=head)
    told = detail(many, rows, decided(), "a")["probabilities"]
    assert [each["label"] for each in told] == [f"k{i}" for i in range(17, 8, -1)]


@pytest.mark.parametrize("sample_id", ["", "z", "A", "../a"])
def test_an_unknown_id_is_named(findings: Findings, rows: pd.DataFrame, sample_id: str) -> None:
    with pytest.raises(InputError, match=f"There is no sample {sample_id!r} in this run."):
        detail(findings, rows, decided(), sample_id)


@pytest.fixture
def project(tmp_path: Any) -> FakeProject:
    return FakeProject(tmp_path, manifest_rows(IDS, GIVEN))


def told(events: list[dict[str, Any]]) -> list[tuple[str, str, bool]]:
    return [(row["who"], row["what"], row["in_effect"]) for row in history_rows(events)]


def test_a_history_in_plain_words(project: FakeProject) -> None:
    ann, bob = Review(project, reviewer="ann"), Review(project, reviewer="bob")
    ann.decide("a", "relabel", label="dog", note="floppy ears")
    bob.decide(["a", "b"], "exclude")
    bob.undo()
    assert told(ann.history("a")) == [
        ("bob", "undo: exclude", False), ("bob", "exclude", False), ("ann", "relabel to dog", True),
    ]  # fmt: skip
    bob.redo()
    ann.decide("b", "unsure")
    ann.decide("b", "undecided")
    assert told(ann.history("a"))[:2] == [("bob", "redo: exclude", False), ("bob", "undo: exclude", False)]
    assert told(ann.history("b"))[:2] == [("ann", "decision cleared", True), ("ann", "unsure", False)]
    assert [row["in_effect"] for row in history_rows(ann.history("a"))] == [False, False, True, False]
    assert history_rows(ann.history("a"))[-1]["note"] == "floppy ears"
    assert history_rows(ann.history("a"))[0]["note"] == ""
    assert sum(row["in_effect"] for row in history_rows(ann.history())) == 2  # one per sample


def test_a_batch_that_said_several_things_is_undone_as_one(project: FakeProject) -> None:
    review = Review(project, reviewer="ann")
    review.decide_many([{"sample_id": "a", "action": "keep"}, {"sample_id": "b", "action": "exclude"}])
    review.undo()
    assert told(review.history())[0] == ("ann", "undo: keep the label, exclude", False)


def event(**changes: Any) -> Mapping[str, Any]:
    return {
        "event_id": "1", "batch": "1", "kind": "decide", "target": None, "sample_id": "a", "action": "keep",
        "label": None, "reviewer": "ann", "decided_at": "2026-03-01T12:30:05+00:00", "note": None, "in_effect": True,
    } | changes  # fmt: skip


@pytest.mark.parametrize(
    ("stamp", "when"),
    [
        ("2026-03-01T12:30:05.999+00:00", "2026-03-01 12:30:05 UTC"),
        ("2026-03-01T00:30:05+02:00", "2026-02-28 22:30:05 UTC"),
        ("yesterday", "yesterday"),
    ],
)
def test_when_is_told_in_utc(stamp: str, when: str) -> None:
    assert history_rows([event(decided_at=stamp)])[0]["when"] == when


def test_no_history() -> None:
    assert history_rows([]) == []


def test_spread_copies_meta_and_facts(findings: Findings, rows: pd.DataFrame) -> None:
    table = findings.samples.assign(
        spread_suspicion=[2.5] * 6, spread_loss=[4.0] * 6, facts=["dark, blurry"] + [""] * 5
    )
    copies = pd.DataFrame(
        [("a", 0, "c", "near", 0.1), ("c", 0, "a", "near", 0.1)],
        columns=["sample_id", "group", "copy_of", "kind", "difference"],
    )
    known = rows.assign(meta_who=["ann", None, "bob", "ann", "ann", "ann"])
    found = detail(replace(findings, samples=table), known, decided(), "a", copies=copies)
    assert found["spread"] == 2.5
    assert {each["name"]: each["spread"] for each in found["scores"]}["loss"] == 4.0
    assert found["copies"] == [{"id": "c", "label": "dog", "split": "train", "kind": "near", "difference": 0.1}]
    assert (found["meta"], found["facts"]) == ({"who": "ann"}, ["dark", "blurry"])
    other = detail(replace(findings, samples=table), known, decided(), "b", copies=copies)
    assert (other["copies"], other["meta"], other["facts"]) == ([], {}, [])
