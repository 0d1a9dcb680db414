"""One image taken apart: the two factors worked by hand, who is chosen, and what cannot be shown."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, ProjectError
from core.findings import Findings, Neighbours
from core.lesson import CHOICE, MOST_CLASSES, MOST_DOTS, SIGNALS, factors, lesson, suspects
from core.project import Stages
from core.review.decisions import CURRENT
from tests.fake_project import CLASSES, manifest_rows

IDS = ["a", "b", "c", "d", "e"]
GIVEN = ["cat", "cat", "dog", "fox", "cat"]
LOGITS = np.log(np.array([[1, 8, 1], [8, 1, 1], [1, 8, 1], [2, 2, 6], [9, 0.5, 0.5]]) / 10)
INPUTS = np.array([[3.0, 0.0, -4.0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])


def decided(**actions):
    columns = {name: [None] * len(actions) for name in CURRENT} | {"action": list(actions.values())}
    return pd.DataFrame(columns, index=pd.Index(list(actions), dtype="str", name="sample_id"), dtype="str")


def stage(folder, name="features", logits=LOGITS, inputs=INPUTS, **facts):
    there = folder / "stages" / f"{name}-0"
    there.mkdir(parents=True)
    np.save(there / "logits.npy", logits.astype(np.float32))
    if inputs is not None:
        np.save(there / "inputs.npy", inputs.astype(np.float32))
    (there / "run.json").write_text(json.dumps(facts))
    return there


def project_of(folder, rows):
    return SimpleNamespace(stages=Stages(folder / "stages"), manifest=lambda: SimpleNamespace(rows=rows))


@pytest.fixture
def rows():
    return manifest_rows(IDS, GIVEN, ["train"] * 4 + ["val"])


@pytest.fixture
def findings(rows):
    table = rows[["sample_id", "filepath", "split", "given_label"]].assign(
        predicted_label="dog", predicted_prob=0.5, suggested_label=["dog", "cat", "dog", "dog", "cat"],
        suggested_prob=0.8, suspicion=[100.0, 10.0, 20.0, 90.0, 50.0], reason="Labelled.",
    )  # fmt: skip
    near = Neighbours(np.array([[2, 1]] * 5), np.full((5, 2), 0.9, np.float32))
    maps = {"features": np.array([[0.0, 1], [2, 3], [4, 5], [np.nan, 0], [8, 9]])}
    run = {"stages": {"features": "0", "scores": "0"}, "suspicion": {"scores": [], "memorised": False}}
    head = np.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]])
    return Findings(table.set_index("sample_id"), CLASSES, run, head, np.zeros((0, 5)), {"features": near}, maps)


def test_the_two_factors_worked_by_hand(tmp_path, rows, findings):
    stage(tmp_path)
    told = lesson(project_of(tmp_path, rows), findings, decided(), "a")
    suspect = told.suspect
    assert [name for name, _ in suspect.wants] == ["cat", "dog", "fox"]
    assert [value for _, value in suspect.wants] == pytest.approx([-0.9, 0.8, 0.1], abs=1e-6)
    assert suspect.saw == (3.0, 0.0, -4.0)
    assert (suspect.inputs, suspect.others) == (3, 0)
    assert suspect.error_norm == pytest.approx(np.sqrt(0.81 + 0.64 + 0.01))
    assert suspect.input_norm == pytest.approx(np.sqrt(9 + 16 + 1))  # the bias's 1 among them
    assert suspect.length == pytest.approx(suspect.error_norm * suspect.input_norm)
    assert suspect.percentile == 100  # of four training images the longest
    assert [each["id"] for each in suspect.near] == ["c", "b"]
    assert suspect.at == (0.0, 1.0)
    assert told.ordinary is not None
    assert (told.ordinary.id, told.ordinary.given, told.ordinary.saw) == ("b", "cat", (1.0, 0.0, 0.0))
    assert told.ordinary.percentile == 0
    assert told.decided == ""
    assert told.space == "features"
    assert set(told.dots) == {(0.0, 1.0, 1), (2.0, 3.0, 1), (4.0, 5.0, 2)}  # d has no place, e is held out


def test_the_persons_network_comes_before_the_reference(tmp_path, rows, findings):
    stage(tmp_path)
    stage(tmp_path, "network", logits=-LOGITS, inputs=None, bias=False)
    run = {**findings.run, "stages": {"features": "0", "network": "0"}}
    found = factors(project_of(tmp_path, rows), Findings(findings.samples, CLASSES, run, LOGITS, np.zeros((0, 5))))
    expected = np.exp(-LOGITS[0]) / np.exp(-LOGITS[0]).sum() - [1, 0, 0]
    np.testing.assert_allclose(found.take(np.array([0])).errors[0], expected, atol=1e-6)
    assert found.inputs.shape == (5, 0)


def test_what_a_person_found_wrong_comes_first(findings):
    assert suspects(findings, decided()) == ["a", "d"]
    assert suspects(findings, decided(d="relabel")) == ["d", "a"]
    assert suspects(findings, decided(d="exclude", a="keep")) == ["d"]
    assert suspects(findings, decided(d="unsure", a="keep")) == ["d"]


def test_many_classes_signals_and_dots_are_cut(tmp_path):
    n, c, d = MOST_DOTS + 50, 30, 100
    names = tuple(f"class{code:02d}" for code in range(c))
    chance = np.random.default_rng(0)
    rows = manifest_rows([f"{row:05d}" for row in range(n)], [names[row % c] for row in range(n)])
    table = rows[["sample_id", "filepath", "split", "given_label"]].assign(
        predicted_label=names[0], predicted_prob=0.5, suggested_label=names[1], suggested_prob=0.8,
        suspicion=np.arange(n) * 100.0 / (n - 1), reason="Labelled.",
    )  # fmt: skip
    maps = {"gradients": chance.normal(size=(n, 2))}
    run = {"stages": {"features": "0"}, "suspicion": {"scores": [], "memorised": False}}
    found = Findings(table.set_index("sample_id"), names, run, chance.random((n, c)), np.zeros((0, n)), {}, maps)
    stage(tmp_path, logits=chance.normal(size=(n, c)), inputs=chance.normal(size=(n, d)))
    told = lesson(project_of(tmp_path, rows), found, decided(), "00007")
    assert len(told.suspect.wants) == MOST_CLASSES
    assert told.suspect.wants[0][0] == "class07"
    others = [value for _, value in told.suspect.wants[1:]]
    assert others == sorted(others, reverse=True)
    assert told.suspect.others == c - MOST_CLASSES
    assert len(told.suspect.saw) == len(told.ordinary.saw) == SIGNALS
    assert min(map(abs, told.suspect.saw)) > np.median(np.abs(np.load(tmp_path / "stages/features-0/inputs.npy")[7]))
    assert len(told.dots) == MOST_DOTS
    assert told.space == "gradients"
    assert told.suspect.near == ()
    assert len(suspects(found, decided())) == CHOICE


@pytest.mark.parametrize("sample", ["nobody", "e"])
def test_an_image_that_is_not_learned_from(tmp_path, rows, findings, sample):
    stage(tmp_path)
    with pytest.raises(InputError, match=f"no labelled training image '{sample}'"):
        lesson(project_of(tmp_path, rows), findings, decided(), sample)


def test_a_run_that_kept_nothing_to_take_apart(tmp_path, rows, findings):
    project = project_of(tmp_path, rows)
    with pytest.raises(InputError, match="kept no outputs of a network"):
        factors(project, findings)
    there = stage(tmp_path, logits=LOGITS[:, :2])
    with pytest.raises(InputError, match="knows other classes than the labels"):
        factors(project, findings)
    (there / "logits.npy").write_bytes(b"")
    with pytest.raises(ProjectError, match="cannot be read .* Delete it and run `gradsift sift` again"):
        factors(project, findings)
    shutil.rmtree(there)
    with pytest.raises(InputError, match="kept no outputs"):
        factors(project, findings)


def test_without_a_map_there_is_no_place(tmp_path, rows, findings):
    stage(tmp_path)
    bare = Findings(findings.samples, CLASSES, findings.run, findings.head_probabilities, findings.curves)
    told = lesson(project_of(tmp_path, rows), bare, decided(a="relabel"), "a")
    assert (told.space, told.dots, told.suspect.at) == ("", (), None)
    assert told.decided == "relabel"
    assert isinstance(tmp_path, Path)
