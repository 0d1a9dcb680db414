from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, SettingsError
from core.review.decisions import Review
from core.review.present import caution, plain, ranking_rows
from tests.fake_project import FakeProject, findings_table, manifest_rows

IDS = [f"{i}.png" for i in range(10)]


@pytest.fixture
def project(tmp_path: Path) -> FakeProject:
    rows = manifest_rows(IDS, splits=["train"] * 8 + ["val"] * 2)
    return FakeProject(tmp_path, rows, findings_table(rows))


def test_rows_hold_what_a_screen_shows_and_nothing_but_json(project: FakeProject) -> None:
    assert project.samples is not None
    project.samples.loc["0.png", "suggested_prob"] = math.nan
    review = Review(project, reviewer="ann")
    rows = ranking_rows(project.samples, review.current(), "suspicion", "25%", 3)
    assert list(rows[0]) == [
        "rank", "sample_id", "filepath", "given_label", "suggested_label", "suggested_prob", "suspicion", "score",
        "reason", "flagged", "flagged_per_class", "action", "final_label",
    ]  # fmt: skip
    everything = ranking_rows(project.samples, review.current(), top=None)
    json.dumps(everything, allow_nan=False)
    assert len(everything) == 8
    assert next(row for row in everything if row["sample_id"] == "0.png")["suggested_prob"] is None
    assert {(row["action"], row["final_label"]) for row in everything} == {("undecided", None)}
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["flagged"] for row in rows] == [True, True, False]
    assert all(type(row["flagged"]) is bool and type(row["score"]) is float for row in rows)


def test_another_score_ranks_and_decisions_show(project: FakeProject) -> None:
    assert project.samples is not None
    first = project.samples.query("split == 'train'")["score_loss"].idxmax()
    review = Review(project, reviewer="ann")
    label = "fox" if project.samples.loc[first, "given_label"] != "fox" else "cat"
    review.decide(first, "relabel", label=label)
    row = ranking_rows(project.samples, review.current(), "loss", "1", 1)[0]
    assert (row["sample_id"], row["action"], row["final_label"]) == (first, "relabel", label)
    assert row["score"] == project.samples.loc[first, "score_loss"]
    assert row["suspicion"] == project.samples.loc[first, "suspicion"]


def test_mistakes_are_said(project: FakeProject) -> None:
    assert project.samples is not None
    decisions = Review(project, reviewer="ann").current()
    with pytest.raises(InputError, match="Choose from suspicion, loss"):
        ranking_rows(project.samples, decisions, "forest")
    with pytest.raises(SettingsError, match="budget of 'many'"):
        ranking_rows(project.samples, decisions, budget="many")


def test_plain_knows_every_kind_of_missing() -> None:
    table = pd.DataFrame(
        {
            "text": pd.array(["a", None], dtype="str"),
            "number": np.array([0.5, math.inf], np.float32),
            "flag": pd.array([True, None], dtype="boolean"),
            "count": [1, 2],
            "thing": pd.Series([pd.NA, "x"], dtype=object),
        }
    )
    assert plain(table) == [
        {"text": "a", "number": 0.5, "flag": True, "count": 1, "thing": None},
        {"text": None, "number": None, "flag": None, "count": 2, "thing": "x"},
    ]
    assert plain(table.head(0)) == []


@pytest.mark.parametrize(
    ("held_out", "left_out", "said"),
    [(0.25, 0.31, "only 31%"), (None, 0.2, "only 20%"), (0.44, None, "only 44%"), (0.45, 0.1, None), (0.3, 0.6, None),
     (None, None, None)],
)  # fmt: skip
def test_a_network_that_learned_little_is_said(
    held_out: float | None, left_out: float | None, said: str | None
) -> None:
    told = caution({"held_out_accuracy": held_out, "head": {"left_out_accuracy": left_out}})
    assert (told is None) if said is None else said in str(told)
    assert caution({}) is None


def test_more_epochs_are_not_advised_where_nothing_is_learned_in_epochs() -> None:
    weak = {"held_out_accuracy": 0.2}
    trained = caution({**weak, "stages": {"pixels": "a", "features": "b"}})
    assert str(trained).endswith("More images or more epochs may help.")
    for stages in ({"network": "a"}, {"network": "a", "features": "b"}):
        told = str(caution({**weak, "stages": stages}))
        assert told.endswith("More images, or a network that knows such images better, may help.")
