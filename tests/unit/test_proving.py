"""What `verify` and `reproduce` answer: verdicts in words and numbers, costs beforehand, a run that can be watched."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from core import proving
from core.errors import InputError, Stopped
from core.jobs import state
from core.progress import Event, Progress
from core.project import Project
from core.proving import COLUMNS, reproduce, verify
from core.retrain.run import VerifyOptions
from core.verify.compare import HELPS, RULE, UNCLEAR
from core.verify.record import Verification, place
from tests.fake_verification import fake_verification
from tests.helpers import gradsift
from tests.unit.test_retrain import FULL, corrected, made, project, table  # noqa: F401 (fixtures)


@pytest.fixture
def planted(project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:  # noqa: F811
    """A verification whose effect is known, in place of one that was run."""

    def run(found: Verification) -> Any:
        def kept(_project: Project, _options: VerifyOptions, _progress: Progress) -> Verification:
            found.save(place(project.verify, found))
            return found

        monkeypatch.setattr(proving, "compare_arms", kept)
        return verify(project, VerifyOptions(), Progress())

    return run


def test_the_answer_says_the_word_the_figures_and_the_rule(planted: Any) -> None:
    answer = planted(fake_verification(k=20, m=600, effect=0.15, form="quick"))
    arm = answer.data["arms"][0]
    assert (arm["name"], arm["word"], arm["against_random"]) == ("decided", HELPS, "better")
    gain = arm["given"]["accuracy"]
    assert gain["low"] < gain["value"] < gain["high"]
    assert gain["value"] == pytest.approx(arm["accuracy"] - answer.data["given"]["accuracy"])
    assert {"class", "group", "cluster"} <= set(arm["given"]["per"])
    assert json.loads(json.dumps(answer.data)) == answer.data
    lines = answer.text.splitlines()
    assert lines[0].split() == " ".join(COLUMNS.values()).split()
    assert re.search(rf"^with the decisions .* \+15.0 \[.*\] .* {HELPS}$", lines[2])
    assert lines[3].startswith("  as many removed at random")
    assert f"rule: {RULE}" in lines
    assert str(answer.data["folder"]) in lines[-1]


def test_no_effect_is_said_so(planted: Any) -> None:
    assert planted(fake_verification(k=20, m=300, effect=0.0, form="quick")).data["arms"][0]["word"] == UNCLEAR


def test_one_seed_gives_no_word(planted: Any) -> None:
    answer = planted(fake_verification(k=1, m=300, effect=0.3))
    assert answer.data["arms"][0]["word"] == UNCLEAR
    assert "one seed does not show" in answer.text


def test_without_a_control_there_is_nothing_beside_it(planted: Any) -> None:
    arm = planted(fake_verification(k=3, m=300, effect=0.3, controls=False)).data["arms"][0]
    assert arm["random"] is None
    assert arm["against_random"] == ""


def test_a_quick_run_is_a_job_that_is_seen(project: Project) -> None:  # noqa: F811
    corrected(project)
    heard: list[Event] = []
    answer = verify(project, VerifyOptions(draws=3), Progress(heard.append))
    now = state(project)
    assert (now.phase, now.kind, now.stages, now.message) == ("finished", "verify", (), "")
    assert [(event.stage, event.done, event.total) for event in heard] == [("quick", n, 5) for n in range(1, 6)]
    assert [arm["name"] for arm in answer.data["arms"]] == ["decided"]
    assert answer.data["decisions"]["changed"] > 0


def test_a_full_run_shows_every_training_and_the_curve_of_the_latest(project: Project) -> None:  # noqa: F811
    answer = verify(project, FULL, Progress())
    now = state(project)
    assert (now.phase, now.kind, now.device) == ("finished", "verify", "cpu")
    assert [name for name, _, _ in now.stages] == [
        "as given, seed 0", "17 most suspicious removed, seed 0",
        "as many removed at random (remove:suspicion:10%), seed 0",
        "as given, seed 1", "17 most suspicious removed, seed 1",
        "as many removed at random (remove:suspicion:10%), seed 1",
    ]  # fmt: skip
    assert all(status == "done" for _, status, _ in now.stages)
    assert now.stages[0][2] == 0
    assert [entry["epoch"] for entry in now.curve] == [1, 2, 3]
    assert "6 trainings, 1 of them there already" in now.notes
    assert answer.data["form"] == "full"


def test_a_stopped_run_says_so_and_goes_on(project: Project) -> None:  # noqa: F811
    heard: list[Event] = []
    with pytest.raises(Stopped):
        verify(project, FULL, Progress(heard.append, lambda: len(heard) > 20))
    now = state(project)
    assert (now.phase, now.kind) == ("stopped", "verify")
    done = [name for name, status, _ in now.stages if status == "done"]
    assert 0 < len(done) < 6
    verify(project, FULL, Progress())
    assert state(project).phase == "finished"


def test_the_cost_is_told_and_nothing_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("core.retrain.full.PROBE_SECONDS", 0.2)
    answer = verify(project, FULL, Progress(), dry_run=True)
    assert answer.data["units"] == 6
    assert answer.data["arms"] == ["as given", "17 most suspicious removed"]
    assert re.search(r"^6 trainings, 1 of them there already; about [\d.]+ (s|min)", answer.text.splitlines()[-1])
    assert not project.verify.exists()
    assert state(project).phase == "none"


def test_the_command_line_runs_both_forms(project: Project, tmp_path: Path) -> None:  # noqa: F811
    corrected(project)
    quick = gradsift("verify", project.folder, "--json", cwd=tmp_path)
    assert quick.returncode == 0, quick.stderr
    assert json.loads(quick.stdout)["arms"][0]["name"] == "decided"
    full = gradsift(
        "verify", project.folder, "--full", "--seeds", "1", "--arm", "remove:suspicion:5", "--groups", "none",
        "--no-controls", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert full.returncode == 0, full.stderr
    assert [arm["name"] for arm in json.loads(full.stdout)["arms"]] == ["decided", "remove:suspicion:5"]
    bad = gradsift("verify", project.folder, "--arm", "burn:all", cwd=tmp_path)
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert "is not understood" in bad.stderr


def test_reproduce_shows_measured_beside_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def run(name: str, data: Path, **told: Any) -> Any:
        asked.update(told, name=name, data=data)
        return SimpleNamespace(
            rows=lambda: [{"labels": "worse", "arm": "OGA"}], sentences=lambda: ["It differs."], seconds=61.0,
            as_data=lambda: {"lines": []}, write=lambda file: file.write_text("labels\n"),
        )  # fmt: skip

    monkeypatch.setattr("core.retrain.reproduce.reproduce", run)
    monkeypatch.setattr("core.retrain.reproduce.COLUMNS", {"labels": "labels", "arm": "arm"})
    told: dict[str, Any] = {
        "labels": ["worse"],
        "rows": 100,
        "seeds": 2,
        "network": "reference",
        "progress": Progress(),
    }
    answer = reproduce("oga-cifar10n", tmp_path, out=tmp_path / "o.csv", keep=tmp_path / "k", **told)
    assert answer.text.splitlines() == ["labels  arm", "worse   OGA", "", "It differs.", "", "took 1 min 01 s"]
    assert answer.data == {"lines": []}
    assert (tmp_path / "o.csv").read_text() == "labels\n"
    assert (asked["name"], asked["labels"], asked["rows"], asked["seeds"]) == ("oga-cifar10n", ("worse",), 100, 2)
    assert asked["stages"].folder == tmp_path / "k"
    with pytest.raises(InputError, match="does not exist"):
        reproduce("oga-cifar10n", tmp_path, out=tmp_path / "no" / "o.csv", keep=None, **told)


def test_many_warnings_are_cut_short(planted: Any) -> None:
    """Every class loses far more than its share of accuracy: a person reads a few, JSON holds all."""
    drop = dict.fromkeys(("cat", "dog", "fox"), -0.5)
    answer = planted(fake_verification(k=20, m=600, effect=0.0, form="quick", classes_effect=drop))
    told = answer.data["arms"][0]["warnings"]
    assert len(told) > proving.MOST_WARNINGS
    shown = [line for line in answer.text.splitlines() if line in told]
    assert len(shown) == proving.MOST_WARNINGS
    assert f"{len(told) - len(shown):,} more such warnings" in answer.text
    assert np.isfinite(answer.data["given"]["accuracy"])
