"""The command line: every command, every mistake in one line, names shown as what they are."""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from core import __version__, cli, commands
from core.findings import EVIDENCE
from core.jobs import JobState
from core.project import Project
from core.scores import SCORES
from tests.helpers import QUICK_FLAGS, command, drawn_folder, environment, gradsift, interrupted

COMMANDS = [
    "demo", "app", "new", "sift", "show", "copies", "groups", "facts", "scores", "problems", "decide", "undo", "redo",
    "export", "report", "status", "verify", "reproduce",
]  # fmt: skip
HOSTILE = ("=cmd()", "<img src=x onerror=1>")


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Run one command here and now."""

    def run(*arguments: object) -> Said:
        capsys.readouterr()
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        return Said(status, *capsys.readouterr())

    return run


def children() -> dict[str, argparse.ArgumentParser]:
    (entries,) = (a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(entries.choices)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sifted project of hostile names, made by the command line itself."""
    root = tmp_path_factory.mktemp("made")
    drawn_folder(root / "images", 60, HOSTILE)
    (root / "images" / HOSTILE[0] / "000.png").rename(root / "images" / HOSTILE[0] / "two\nlines.png")
    (root / "images" / HOSTILE[1] / "broken.png").write_bytes(b"hello")
    assert cli.main(["new", str(root / "pets"), "--source", f"folder:{root / 'images'}"]) == 0
    assert cli.main(["sift", str(root / "pets"), *QUICK_FLAGS, "--budget", "10%"]) == 0
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of it to decide in."""
    return Path(shutil.copytree(made / "pets", tmp_path / "pets"))


def test_the_commands_there_are() -> None:
    assert list(children()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example_that_parses(name: str, say: Callable[..., Said]) -> None:
    told = say(name, "--help")
    assert told.status == 0
    assert "example: gradsift" in told.out
    example = shlex.split(str(children()[name].epilog).removeprefix("example: "))
    assert example[:2] == ["gradsift", name]
    assert cli.parser().parse_args(example[1:]).run
    assert cli.parser().parse_args([*example[1:], "--json"]).json is True


def test_version_and_help(say: Callable[..., Said]) -> None:
    assert say("--version").out == f"gradsift {__version__}\n"
    told = say("--help").out
    assert all(name in told for name in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["paint"], "invalid choice: 'paint'"),
        ([], "required: COMMAND"),
        (["new", "{tmp}/x"], "required: --source"),
        (["show", "{tmp}/nowhere"], "nowhere is no project"),
        (["show", "{project}", "--score", "magic"], "There is no score 'magic' in this run. Choose from suspicion, "),
        (["show", "{project}", "--budget", "some"], "A budget of 'some' cannot be read"),
        (["show", "{project}", "--budget", "101%"], "A budget of 101% cannot be met"),
        (["sift", "{project}", "--classes", "c"], "unrecognized arguments: --classes c. See: gradsift sift --help"),
        (["--colour", "status", "{project}"], "unrecognized arguments: --colour. See: gradsift --help"),
        (["show", "{project}", "--top", "many"], "invalid int value: 'many'"),
        (["sift", "{project}", "--budget", "-5"], "budget"),
        (["sift", "{project}", "--epochs", "0"], "epochs is 0; give a whole number from 1 to 10000"),
        (["sift", "{project}", "--device", "tpu"], "invalid choice: 'tpu'"),
        (["verify", "{project}"], "Nothing to compare: no decision changes the training set yet"),
        (["verify", "{project}", "--arm", "remove:magic:5"], "There is no score 'magic' in this run"),
        (["verify", "{project}", "--arm", "burn:suspicion:5"], "The arm 'burn:suspicion:5' is not understood"),
        (["verify", "{project}", "--arm", "file:{tmp}/none.csv"], "none.csv cannot be read"),
        (["verify", "{project}", "--full", "--seeds", "0"], "seeds is 0; give a number from 1 to 100"),
        (["verify", "{project}", "--arm", "remove:suspicion:5", "--test", "moon"], "There is no split 'moon'"),
        (["reproduce", "magic", "--data", "{tmp}"], "magic"),
        (["reproduce", "oga-cifar10n", "--data", "{tmp}", "--out", "{tmp}/no/o.csv"], "does not exist"),
        (["decide", "{project}"], "Nothing to decide"),
        (["decide", "{project}", "--sample", "x"], "Nothing to decide"),
        (["decide", "{project}", "--sample", "moon/1.png", "--action", "keep"], "'moon/1.png': unknown sample"),
        (["decide", "{project}", "--sample", "{id}", "--action", "burn"], "unknown action 'burn'"),
        (["decide", "{project}", "--sample", "{id}", "--action", "relabel"], "needs a class as label, got None"),
        (["decide", "{project}", "--sample", "{id}", "--action", "relabel", "--label", "cat"], "got 'cat'"),
        (["decide", "{project}", "--sample", "{id}", "--action", "keep", "--label", "cat"], "goes with relabel only"),
        (["decide", "{project}", "--sample", "{held}", "--action", "keep"], "held-out rows are not reviewed"),
        (["decide", "{project}", "--sample", "{id}", "--action", "keep", "--reviewer", " "], "name is empty"),
        (["decide", "{project}", "--from", "{tmp}/none.csv"], "none.csv cannot be read"),
        (["undo", "{project}", "--reviewer", "nobody"], "nobody"),
        (["redo", "{project}", "--reviewer", "nobody"], "nobody"),
        (["scores", "{project}", "--out", "{tmp}/x.xlsx"], "There is no format 'xlsx'. Choose from csv"),
        (["scores", "{project}", "--out", "{tmp}/none/x.csv"], "none does not exist"),
        (["scores", "{project}", "--out", "{tmp}/folder.csv"], "folder.csv"),
        (["export", "{project}", "--to", "{tmp}/full"], "full exists and is not an empty folder"),
        (["export", "{project}", "--to", "{tmp}/x", "--format", "pdf"], "There is no format 'pdf'"),
        (["new", "{project}", "--source", "digits"], "exists and is not empty"),
        (["new", "{tmp}/x", "--source", "moon:cheese"], "moon"),
        (["new", "{tmp}/x", "--source", "folder:{tmp}/none"], "none does not exist"),
        (["new", "{tmp}/x", "--source", "table:{tmp}/none.csv"], "none.csv cannot be read"),
        (["new", "{tmp}/x", "--source", "digits", "--model", "resnet"], "Unknown model 'resnet'"),
        (["new", "{tmp}/x", "--source", "digits", "--val-fraction", "2"], "held-out share is 2.0"),
        (["new", "{tmp}/x", "--source", "digits", "--limit", "1"], "The limit is 1 rows"),
        (["new", "{tmp}/x", "--source", "digits", "--seed", "-1", "--limit", "40"], "seed is -1"),
        (["new", "{tmp}/x", "--source", "digits", "--labels", "{tmp}/none.csv"], "none.csv"),
        (["new", "{tmp}/x", "--source", "digits", "--classes", "{tmp}/none.txt"], "none.txt"),
        (["demo", "{project}", "--headless"], "holds another project"),
        (["new", "{tmp}/x", "--source", "digits", "--model", "torchvision:resnet18"], "names no weights"),
        (["new", "{tmp}/x", "--source", "digits", "--model", "torchvision:resnet18@{tmp}/no.pt"], "no.pt cannot be re"),
        (["new", "{tmp}/x", "--source", "digits", "--backbone", "timm:vit@{tmp}/no.pt"], "no.pt cannot be read: no"),
        (["new", "{tmp}/x", "--source", "digits", "--grand", "first"], "grand is 'first'; give 'last' or an epoch"),
        (["new", "{tmp}/x", "--source", "digits", "--models", "0"], "models is 0; give a whole number from 1 to 100"),
        (["new", "{tmp}/x", "--source", "digits", "--meta-columns", "annotator"], "'annotator' cannot travel along"),
        (["new", "{tmp}/x", "--source", "folder:none", "--model", "resnet", "--dry-run"], "Unknown model 'resnet'"),
        (["sift", "{project}", "--model", "resnet"], "Unknown model 'resnet'"),
        (["sift", "{project}", "--backbone", "moon:1"], "Unknown model 'moon:1'"),
        (["sift", "{project}", "--model", "torchvision:resnet18@x.pt", "--checkpoints", "a.pt"], "x.pt cannot be read"),
        (["sift", "{project}", "--layer", ""], "layer is ''; give a text, or leave it open"),
        (["groups", "{project}", "--by", "camera"], "no column 'camera' to group by, only class"),
        (["groups", "{project}", "--score", "magic"], "There is no score 'magic' in this run"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_and_exit_1(
    arguments: list[str], message: str, say: Callable[..., Said], project: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    rows = Project.open(project).manifest().rows.groupby("split")["sample_id"].first()
    values = {"tmp": tmp_path, "project": project, "id": rows["train"], "held": rows["val"]}
    before = sorted(str(path) for path in tmp_path.rglob("*") if "sqlite" not in path.name and path.name != ".lock")
    told = say(*(argument.format(**values) for argument in arguments))
    assert told.status == 1
    assert told.out == ""
    assert told.err.startswith("gradsift: ")
    assert message in told.err.splitlines()[-1]
    assert len([line for line in told.err.splitlines() if line.startswith("gradsift: ")]) == 1
    assert "Traceback" not in told.err
    after = sorted(str(path) for path in tmp_path.rglob("*") if "sqlite" not in path.name and path.name != ".lock")
    assert after == before


@pytest.mark.parametrize("name", ["show", "scores", "decide"])
def test_before_a_run(name: str, say: Callable[..., Said], tmp_path: Path) -> None:
    drawn_folder(tmp_path / "images", 8)
    assert say("new", tmp_path / "p", "--source", f"folder:{tmp_path / 'images'}", "--json").data["images"] == 8
    if name == "decide":  # a decision needs no scores
        assert say("decide", tmp_path / "p", "--sample", "left/000.png", "--action", "keep").status == 0
        return
    told = say(name, tmp_path / "p", *(["--out", tmp_path / "x.csv"] if name == "scores" else []))
    assert told.status == 1
    assert "has no scores yet. Run `gradsift sift" in told.err
    assert not (tmp_path / "x.csv").exists()


def test_the_whole_loop(say: Callable[..., Said], tmp_path: Path) -> None:
    images, folder = drawn_folder(tmp_path / "images"), tmp_path / "shapes"
    told = say("new", folder, "--source", f"folder:{images}", "--json")
    assert told.status == 0
    assert told.data == {
        "project": str(folder), "images": 60, "problems": 0, "classes": {"left": 30, "top": 30},
        "splits": {"train": 54, "val": 6}, "alike": [],
    }  # fmt: skip
    told = say("sift", folder, "--epochs", 2, "--trees", 50, "--no-maps", "--image-size", 8, "--budget", "4", "--json")
    assert told.status == 0
    assert told.data["images"] == 60
    assert told.data["flagged"] == 4
    assert "training" in told.err
    assert "\x1b" not in told.err
    assert Project.open(folder).config.settings.trees == 50

    rows = say("show", folder, "--top", 7, "--json").data
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["flagged"] for row in rows] == [True] * 4 + [False] * 3
    assert {"sample_id", "given_label", "suspicion", "reason", "action"} <= set(rows[0])
    assert [row["suspicion"] for row in rows] == sorted((row["suspicion"] for row in rows), reverse=True)
    by_aum = say("show", folder, "--score", "aum", "--json").data
    assert [row["score"] for row in by_aum] == sorted((row["score"] for row in by_aum), reverse=True)
    assert len(by_aum) == 50
    assert len(say("show", folder, "--top", 7).out.splitlines()) == 8

    assert say("scores", folder, "--out", tmp_path / "x.parquet", "--json").data["rows"] == 60
    frame = pd.read_parquet(tmp_path / "x.parquet")
    there = Project.open(folder).findings().score_names
    assert set(there) <= set(SCORES)
    assert {"weighted_aum", "loo_ridge_margin", "oga_forest"} <= set(there)
    names = [f"score_{name}" for name in there] + [f"raw_{name}" for name in there]
    assert frame.columns.tolist() == ["sample_id", *EVIDENCE, *names]
    assert frame["sample_id"].tolist() == Project.open(folder).manifest().ids.tolist()

    first, second, third = (row["sample_id"] for row in rows[:3])
    other = "top" if rows[0]["given_label"] == "left" else "left"
    told = say(
        "decide", folder, "--sample", first, "--action", "relabel", "--label", other, "--reviewer", "ann", "--json"
    )
    assert told.data["decided"] == 1
    assert say("decide", folder, "--sample", second, third, "--action", "exclude", "--reviewer", "ann").status == 0
    assert say("status", folder, "--json").data["decisions"] == {"exclude": 2, "relabel": 1}
    assert say("undo", folder, "--reviewer", "ann").status == 0
    assert say("status", folder, "--json").data["decisions"] == {"relabel": 1}
    assert say("redo", folder, "--reviewer", "ann").status == 0
    shown = {row["sample_id"]: row["action"] for row in say("show", folder, "--json").data}
    assert (shown[first], shown[second], shown[third]) == ("relabel", "exclude", "exclude")

    told = say("export", folder, "--to", tmp_path / "out", "--format", "csv", "parquet", "--json")
    assert (told.data["counts"]["before"], told.data["counts"]["after"]) == (60, 58)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cleaned.csv", "cleaned.parquet", "decisions.jsonl", "manifest.csv", "manifest.parquet", "run.json",
    ]  # fmt: skip
    clean = pd.read_csv(tmp_path / "out" / "cleaned.csv").set_index("sample_id")
    assert second not in clean.index
    assert clean.loc[first, "label"] == other
    assert (
        say("new", tmp_path / "again", "--source", f"table:{tmp_path / 'out' / 'manifest.csv'}", "--json").status == 0
    )
    again, before = Project.open(tmp_path / "again").manifest().rows, Project.open(folder).manifest().rows
    expected = before[~before["sample_id"].isin([second, third])].reset_index(drop=True)
    expected.loc[expected["sample_id"] == first, "given_label"] = other
    columns = ["sample_id", "given_label", "split", "sha256"]
    pd.testing.assert_frame_equal(again[columns], expected[columns])

    status = say("status", folder, "--json").data
    assert status["sifted"] is True
    assert status["running"] is False
    assert status["images"] == 60
    assert "next: gradsift show" in say("status", folder).out


def test_problems(say: Callable[..., Said], made: Path, project: Path) -> None:
    (row,) = say("problems", project, "--json").data
    assert row == {
        "sample_id": f"{HOSTILE[1]}/broken.png", "filepath": str(made / "images" / HOSTILE[1] / "broken.png"),
        "reason": "text, not an image",
    }  # fmt: skip
    assert "broken.png" in say("problems", project).out


def test_hostile_names_are_shown_as_text(say: Callable[..., Said], project: Path) -> None:
    told = say("show", project, "--top", 60)
    assert told.status == 0
    assert r"=cmd()/two\nlines.png" in told.out
    assert "two\nlines" not in told.out
    assert "<img src=x onerror=1>" in told.out
    assert len([line for line in told.out.splitlines() if ".png" in line]) == 54
    assert "=cmd()/two\nlines.png" in {row["sample_id"] for row in say("show", project, "--top", 60, "--json").data}


def test_hostile_class_names_are_shown_when_a_project_is_made(say: Callable[..., Said], tmp_path: Path) -> None:
    drawn_folder(tmp_path / "images", 8, ("red\x1b[31m", "new\nline"))
    told = say("new", tmp_path / "p", "--source", f"folder:{tmp_path / 'images'}")
    assert told.status == 0
    assert "\x1b" not in told.out
    assert "new\nline" not in told.out
    assert r"new\nline 4" in told.out


def test_a_csv_of_scores_runs_nothing_in_a_spreadsheet(say: Callable[..., Said], project: Path, tmp_path: Path) -> None:
    assert say("scores", project, "--out", tmp_path / "x.csv").status == 0
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 61
    assert {row[0] for row in rows if "two" in row[0]} == {"'=cmd()/two\nlines.png"}
    numbers = [name.startswith(("score_", "raw_", "predicted_prob", "suggested_prob", "suspicion")) for name in rows[0]]
    texts = [cell for row in rows[1:] for cell, number in zip(row, numbers, strict=True) if not number]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in texts)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_hostile_names_survive_export_and_reopening(
    ending: str, say: Callable[..., Said], project: Path, tmp_path: Path
) -> None:
    assert say("export", project, "--to", tmp_path / "out", "--format", ending).status == 0
    source = f"table:{tmp_path / 'out' / f'manifest.{ending}'}"
    assert say("new", tmp_path / "again", "--source", source).status == 0
    again, before = Project.open(tmp_path / "again").manifest().rows, Project.open(project).manifest().rows
    columns = ["sample_id", "filepath", "given_label", "split", "sha256"]
    pd.testing.assert_frame_equal(again[columns], before[columns])


def test_decisions_from_a_file(say: Callable[..., Said], project: Path, tmp_path: Path) -> None:
    ids = Project.open(project).manifest().rows.query("split == 'train'")["sample_id"].tolist()
    other = HOSTILE[1] if ids[0].startswith(HOSTILE[0]) else HOSTILE[0]
    frame = pd.DataFrame({
        "sample_id": ids[:3], "action": ["relabel", "keep", "exclude"], "label": [other, "", ""],
        "note": ["", "sure", ""],
    })  # fmt: skip
    frame.to_csv(tmp_path / "d.csv", index=False)
    told = say("decide", project, "--from", tmp_path / "d.csv", "--reviewer", "ann", "--note", "first look", "--json")
    assert told.data["decided"] == 3
    rows = {row["sample_id"]: row for row in say("show", project, "--top", 60, "--json").data}
    assert [rows[each]["action"] for each in ids[:3]] == ["relabel", "keep", "exclude"]
    assert rows[ids[0]]["final_label"] == other
    assert say("undo", project, "--reviewer", "ann").status == 0  # one file is one batch
    assert say("status", project, "--json").data["decisions"] == {}


def test_an_edited_export_is_a_file_of_decisions(say: Callable[..., Said], project: Path, tmp_path: Path) -> None:
    """The exported manifest, its action column filled in by hand, guarded names and all."""
    assert say("export", project, "--to", tmp_path / "out").status == 0
    with (tmp_path / "out" / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (line,) = (row for row in rows if "two" in row["sample_id"])
    assert line["sample_id"].startswith("'=")
    line["action"], line["final_label"] = "relabel", HOSTILE[1]
    with (tmp_path / "d.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([row for row in rows if row["split"] == "train"])
    told = say("decide", project, "--from", tmp_path / "d.csv")
    assert told.err == ""
    assert say("status", project, "--json").data["decisions"] == {"relabel": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,action\n", "has no column 'sample_id', only: sample, action"),
        ("", "has no column 'action', only: none"),
        ("sample_id,action\n,keep\n", "row 1"),
        ("sample_id,action\nx,\n", "row 1"),
        ("sample_id,action\nmoon,keep\n", "'moon': unknown sample"),
        ("sample_id,action\nx" + "y" * 200_000 + ",keep\n", "field larger"),
        ("sample_id,action\n\xff", None),
    ],
)  # fmt: skip
def test_a_file_of_decisions_with_mistakes(
    text: str, message: str | None, say: Callable[..., Said], project: Path, tmp_path: Path
) -> None:
    (tmp_path / "d.csv").write_bytes(text.encode("utf-8" if message else "latin-1"))
    told = say("decide", project, "--from", tmp_path / "d.csv")
    assert told.status == 1
    assert (message or "cannot be read") in told.err
    assert len(told.err.splitlines()) == 1
    assert say("status", project, "--json").data["decisions"] == {}


def test_a_file_that_is_in_the_way_is_replaced_whole(say: Callable[..., Said], project: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("old")
    assert say("scores", project, "--out", tmp_path / "x.jsonl").status == 0
    assert len((tmp_path / "x.jsonl").read_text("utf-8").splitlines()) == 60
    assert not list(tmp_path.glob(".*"))


def test_a_refused_budget_changes_nothing(say: Callable[..., Said], project: Path) -> None:
    before = (project / "project.toml").read_bytes()
    assert say("sift", project, "--epochs", "9", "--budget", "lots").status == 1
    assert say("sift", project, "--epochs", "0", "--budget", "9").status == 1
    assert (project / "project.toml").read_bytes() == before


def test_a_new_budget_computes_nothing(say: Callable[..., Said], project: Path) -> None:
    told = say("sift", project, "--budget", "7", "--json")
    assert told.data["flagged"] == 7
    assert told.err == ""
    assert sum(row["flagged"] for row in say("show", project, "--json").data) == 7


def test_a_new_budget_needs_no_images(say: Callable[..., Said], project: Path, made: Path) -> None:
    away = (made / "images").rename(made / "away")
    shutil.rmtree(project / "thumbs")
    try:
        told = say("sift", project, "--budget", "8", "--json")
    finally:
        away.rename(made / "images")
    assert told.data["flagged"] == 8
    assert "\nNo thumbnails were made. The folder " in told.err
    run = say("status", project, "--json").data["run"]
    assert run["phase"] == "finished"
    assert {stage["status"] for stage in run["stages"]} == {"done"}


RUNNING = JobState(
    "running", stage="training", done=300, total=900, unit="images", rate=12.5, seconds_left=48.0, message="Quiet.",
    stages=(("thumbs", "done", 1.5), ("pixels", "running", 2.0)), curve=({"epoch": 1, "loss": 1.0, "accuracy": 0.5},),
)  # fmt: skip


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (JobState(), "no run is working on it"),
        (JobState("finished"), "no run is working on it"),
        (JobState("stopped", message="Stopped."), "no run is working on it; the last one was stopped"),
        (JobState("failed", message="Why."), "no run is working on it; the last one failed: Why."),
        (JobState("died", message="Words."), "no run is working on it; the last one ended without a word. Words."),
        (JobState("starting"), "a run is starting"),
        (JobState("stopping", stage="map", done=1, total=200, unit="epochs"),
         "a run is stopping · map 1 of 200 epochs"),
        (RUNNING, "a run is working on it now · training 300 of 900 images · 12/s · 48 s left in this stage · Quiet."),
    ],
)  # fmt: skip
def test_status_says_where_a_run_stands(
    now: JobState, line: str, say: Callable[..., Said], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "state", lambda _project: now)
    assert line in say("status", project).out.splitlines()
    data = say("status", project, "--json").data
    assert data["running"] is now.running
    assert (data["run"]["phase"], data["run"]["rate"], data["run"]["total"]) == (now.phase, now.rate, now.total)
    assert [stage["name"] for stage in data["run"]["stages"]] == [name for name, _, _ in now.stages]
    assert data["run"]["curve"] == [dict(entry) for entry in now.curve]


@pytest.fixture
def waiting(tmp_path: Path) -> Path:
    """A project whose training takes long enough to be interrupted."""
    drawn_folder(tmp_path / "images")
    assert cli.main(["new", str(tmp_path / "p"), "--source", f"folder:{tmp_path / 'images'}"]) == 0
    return tmp_path / "p"


def test_ctrl_c_ends_with_130_and_the_same_command_goes_on(
    waiting: Path, tmp_path: Path, say: Callable[..., Said]
) -> None:
    flags = ["--epochs", "25", "--trees", "20", "--image-size", "8", "--no-maps", "--device", "cpu"]
    begun = lambda: bool(list(waiting.glob("stages/.features-*.part/epoch-*.npz")))  # noqa: E731
    status, errors = interrupted(command("sift", waiting, *flags), tmp_path, begun, signal.SIGINT)
    assert status == 130, errors
    assert errors.splitlines()[-1].startswith("gradsift: Stopped")
    assert "Traceback" not in errors
    done = len(list(waiting.glob("stages/.features-*.part/epoch-*.npz")))
    assert 0 < done < 25
    told = say("sift", waiting, *flags)
    assert told.status == 0
    assert Project.open(waiting).findings().curves.shape == (25, 60)
    assert not list(waiting.glob("stages/.*.part"))


CALLED = "RUN = open({path!r}, 'a')\nRUN.write('x')\n\ndef make():\n    raise SystemExit\n"


def test_networks_are_kept_with_whole_paths_and_permissions_are_not(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_folder(tmp_path / "images", 8)
    (tmp_path / "w").mkdir()
    for name in ("w/a.pt", "b.pt", "c.pt"):
        (tmp_path / name).write_bytes(b"not read yet")
    monkeypatch.chdir(tmp_path)
    told = say(
        "new", "p", "--source", "folder:images", "--model", "torchvision:resnet18@w/a.pt", "--backbone",
        "timm:vit_tiny@b.pt", "--checkpoints", "b.pt", "w/../c.pt", "--layer", "fc", "--transform", "resize=32",
        "--no-reference", "--models", "3", "--grand", "last", "2", "--download",
    )  # fmt: skip
    assert told.status == 0, told.err
    config = Project.open("p").config
    assert config.model == f"torchvision:resnet18@{tmp_path}/w/a.pt"
    chosen = config.settings
    assert chosen.backbone == f"timm:vit_tiny@{tmp_path}/b.pt"
    assert [os.path.normpath(path) for path in chosen.checkpoints] == [f"{tmp_path}/b.pt", f"{tmp_path}/c.pt"]
    assert (chosen.layer, chosen.transform, chosen.reference, chosen.models) == ("fc", "resize=32", False, 3)
    assert tuple(chosen.grand) == ("last", "2")
    assert "download" not in (tmp_path / "p" / "project.toml").read_text()


def test_a_run_gets_what_was_said_and_auto_takes_it_back(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import core.pipeline
    from core.errors import ModelError
    from core.models.specs import Permissions

    drawn_folder(tmp_path / "images", 8)
    (tmp_path / "a.pt").write_bytes(b"not read")
    seen: list[tuple[Any, Permissions]] = []

    def run(project: Project, model: str, *, progress: object, permissions: Permissions) -> None:
        seen.append((project.config, permissions))
        raise ModelError("That is enough.")

    monkeypatch.setattr(core.pipeline, "sift", run)
    monkeypatch.setattr(commands, "_say_needs", lambda *_: None)
    assert say("new", tmp_path / "p", "--source", f"folder:{tmp_path / 'images'}").status == 0
    weights = tmp_path / "a.pt"
    flags = ["--backbone", f"torchvision:resnet18@{weights}", "--grand", "last", "--models", "2", "--download"]
    assert "That is enough." in say("sift", tmp_path / "p", *flags).err
    config, permissions = seen[-1]
    assert (config.settings.backbone, tuple(config.settings.grand)) == (f"torchvision:resnet18@{weights}", ("last",))
    assert permissions == Permissions(code=True, download=True)
    say("sift", tmp_path / "p", "--backbone", "auto", "--grand", "auto", "--model", f"torchvision:resnet18@{weights}")
    config, permissions = seen[-1]
    assert (config.settings.backbone, tuple(config.settings.grand), config.settings.models) == (None, (), 2)
    assert config.model == f"torchvision:resnet18@{weights}"
    assert not permissions.download


def test_code_of_ones_own_is_announced_and_not_run_before_a_run(
    say: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_folder(tmp_path / "images", 8)
    (tmp_path / "net.py").write_text(CALLED.format(path=str(tmp_path / "ran")))
    monkeypatch.chdir(tmp_path)
    told = say("new", "p", "--source", "folder:images", "--model", "code:net.py:make")
    assert told.status == 0, told.err
    assert "is your own code: a run imports it and calls make." in told.err
    assert Project.open("p").config.model == f"code:{tmp_path}/net.py:make"
    monkeypatch.setenv("GRADSIFT_ROOTS", json.dumps([str(tmp_path)]))  # as in a run that the app started
    monkeypatch.delenv("GRADSIFT_ALLOW_CODE", raising=False)
    told = say("sift", "p")
    assert told.status == 1
    assert "Start it with --allow-code" in told.err.splitlines()[-1]
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sifted project of a table with annotators, one file twice under two labels."""
    root = tmp_path_factory.mktemp("copied")
    drawn_folder(root / "images", 60)
    shutil.copy(root / "images" / "left" / "000.png", root / "images" / "top" / "copy.png")
    files = sorted((root / "images").rglob("*.png"))
    lines = [
        {"path": f"images/{p.parent.name}/{p.name}", "label": p.parent.name, "who": "=bob" if n % 3 else "ann\x1b[31m"}
        for n, p in enumerate(files)
    ]
    pd.DataFrame(lines).to_csv(root / "rows.csv", index=False)
    told = ["new", str(root / "p"), "--source", f"table:{root / 'rows.csv'}", "--meta-columns", " who ,"]
    assert cli.main([*told, "--id-column", "path"]) == 0
    assert cli.main(["sift", str(root / "p"), *QUICK_FLAGS, "--budget", "20%"]) == 0
    return root


def test_copies_with_other_labels_come_first(say: Callable[..., Said], copied: Path) -> None:
    told = say("copies", copied / "p", "--top", 1, "--json").data
    assert told["shown"][0]["labels_differ"]
    copies = {each["id"]: each["copy_of"] for each in told["shown"][0]["samples"] if each["kind"] == "exact"}
    assert copies == {"images/left/000.png": "images/top/copy.png", "images/top/copy.png": "images/left/000.png"}
    text = say("copies", copied / "p").out
    assert "groups of copies" in text.splitlines()[0]
    assert text.splitlines()[1].split() == ["group", "sample", "label", "split", "copy", "difference", "decision"]


def test_groups_of_a_column_that_travels_along(say: Callable[..., Said], copied: Path) -> None:
    told = say("groups", copied / "p", "--json").data
    assert list(told) == ["who", "class"]
    assert sum(line["images"] for line in told["who"]["values"]) == 55
    text = say("groups", copied / "p", "--by", "who").out
    assert "\x1b" not in text
    assert r"ann\x1b[31m" in text
    assert "95 % between" in text


def test_facts_need_an_extra(say: Callable[..., Said], copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanvision", None)
    told = say("facts", copied / "p")
    assert told.status == 1
    assert "pip install gradsift[facts]" in told.err


def test_a_reader_that_has_seen_enough(made: Path, tmp_path: Path) -> None:
    """`gradsift show … --json | head -1`: no complaint, no traceback."""
    process = subprocess.Popen(
        command("show", made / "pets", "--json"), cwd=tmp_path, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # before a byte is written
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0
    assert errors == b""


def test_the_command_runs_from_a_folder_with_a_core_of_its_own(made: Path, tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    (tmp_path / "core" / "__init__.py").write_text("raise SystemExit('the wrong core')")
    told = gradsift("status", made / "pets", "--json", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout)["images"] == 60


def test_a_terminal_that_knows_ascii_only(made: Path, tmp_path: Path) -> None:
    told = subprocess.run(
        command("status", made / "pets"), cwd=tmp_path, env={**environment(), "PYTHONIOENCODING": "ascii"},
        capture_output=True, check=False,
    )  # fmt: skip
    assert told.returncode == 0
    assert b"Traceback" not in told.stderr


def test_commands_that_do_not_compute_load_no_torch(made: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from core.cli import main; main(sys.argv[1:]);"
        "sys.exit(any(n in sys.modules for n in ('torch', 'umap', 'numba', 'sklearn')))"
    )
    told = subprocess.run(
        [command()[0], "-P", "-c", program, "show", made / "pets", "--json"],
        cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    assert told.returncode == 0
    assert os.environ.get("PYTHONPATH") != str(tmp_path)


def test_what_does_not_go_together_is_not_written_down(say: Callable[..., Said], tmp_path: Path) -> None:
    folder = tmp_path / "p"
    say("new", folder, "--source", f"folder:{drawn_folder(tmp_path / 'images', 12)}")
    (tmp_path / "w.pt").write_bytes(b"")
    before = (folder / "project.toml").read_text()
    told = say("sift", folder, "--model", "reference", "--checkpoints", tmp_path / "w.pt")
    assert told.status == 1
    assert "--checkpoints auto" in told.err
    assert (folder / "project.toml").read_text() == before
    assert say("status", folder).status == 0


def test_a_project_whose_model_is_gone_can_be_looked_at(say: Callable[..., Said], tmp_path: Path) -> None:
    folder, weights = tmp_path / "p", tmp_path / "f.npz"
    ids = [f"{name}/{row:03d}.png" for row in range(12) for name in [("left", "top")[row % 2]]]
    np.savez(weights, sample_id=np.array(ids), features=np.eye(12, dtype=np.float32))
    say("new", folder, "--source", f"folder:{drawn_folder(tmp_path / 'images', 12)}", "--model", f"features:{weights}")
    weights.unlink()
    told = say("status", folder)
    assert told.status == 0
    assert "mend this first" in told.out
    assert "f.npz" in told.out


NETWORK = """
from torch import nn

def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(432, 2))

def turned():
    import torch
    network = make()
    for layer, sign in ((network[1], -1.0),):
        weight = torch.zeros(2, 12, 12)
        weight[0, :, :6], weight[1, :6] = 1.0, 1.0
        layer.weight.data = sign * weight.repeat(1, 3, 1).reshape(2, 432)
        layer.bias.data.zero_()
    return network
"""


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """A folder with a scored project `p` of the reference network, and a file of networks."""
    (tmp_path / "net.py").write_text(NETWORK)
    assert cli.main(["new", str(tmp_path / "p"), "--source", f"folder:{drawn_folder(tmp_path / 'images', 40)}"]) == 0
    assert cli.main(["sift", str(tmp_path / "p"), *QUICK_FLAGS]) == 0
    return tmp_path


def test_what_was_asked_for_and_not_scored_is_said_with_the_way_back(say: Callable[..., Said], scored: Path) -> None:
    folder, model = scored / "p", f"code:{scored}/net.py:make"
    before = (folder / "project.toml").read_text()
    assert "asked for since" not in say("status", folder).out
    assert say("sift", folder, "--model", model, "--layer", "nope", "--no-augment", "--grand", "last").status == 1
    asked = f"--model {model} --layer nope --grand last --no-augment"
    back = f"gradsift sift {folder} --model reference --layer auto --grand auto --augment"
    lines = say("status", folder).out.splitlines()
    assert f"asked for since, and not scored: {asked}; to take it back: {back}" in lines
    assert [line for line in lines if line.startswith("to go on with it: ")]
    assert say("status", folder, "--json").data["not_scored"] == {"asked": asked, "take_back": back}
    assert say(*shlex.split(back)[1:]).status == 0
    assert (folder / "project.toml").read_text() == before
    assert "to go on" not in say("status", folder).out


def test_the_way_back_leads_to_a_finished_network_too(say: Callable[..., Said], scored: Path) -> None:
    folder, model = scored / "p", f"code:{scored}/net.py:make"
    assert say("sift", folder, "--model", model).status == 0
    assert say("sift", folder, "--layer", "nope").status == 1
    assert say("status", folder, "--json").data["not_scored"] == {
        "asked": "--layer nope", "take_back": f"gradsift sift {folder} --layer auto",
    }  # fmt: skip
    assert say("sift", folder, "--layer", "auto", "--flip", "--epochs", "0").status == 1  # refused, and not kept
    assert say("sift", folder, "--layer", "auto").status == 0
    other = Project.open(folder).with_config(model="reference")
    assert commands._not_scored(other)["take_back"].endswith(f"--model {model}")
    assert commands._flag("flip", None) == ["--flip-as-source"]
    assert commands._flag("image_size", 8) == ["--image-size", "8"]


def test_the_transform_and_the_accuracy_of_a_finished_network_are_always_said(
    say: Callable[..., Said], scored: Path
) -> None:
    folder, model = scored / "p", f"code:{scored}/net.py:make"
    told = say("sift", folder, "--model", model, "--transform", "mean=0.5,std=0.5", "--json")
    assert told.status == 0, told.err
    by = "resize=12,mean=0.5/0.5/0.5,std=0.5/0.5/0.5,interpolation=bilinear (asked for: mean=0.5,std=0.5)."
    assert f"Images become the input of code:{scored}/net.py:make by {by}" in told.data["notes"]
    assert any("largest logit is the given label of" in note for note in told.data["notes"])


def test_classes_in_another_order_are_mended_as_the_message_says(say: Callable[..., Said], scored: Path) -> None:
    old, new, model = scored / "p", scored / "new", f"code:{scored}/net.py:turned"
    told = say("sift", old, "--model", model, "--transform", "mean=0/0/0,std=1/1/1")
    assert told.status == 1
    assert "one per line (top, left). Then make a new project with it: gradsift new NEW" in told.err
    ids = [f"left/{row:03d}.png" for row in (0, 2, 4)]
    say("decide", old, "--sample", ids[0], "--action", "keep", "--note", "sharp")
    say("decide", old, "--sample", ids[2], "--action", "relabel", "--label", "top")
    (scored / "classes.txt").write_text("top\nleft\n")
    made = say("new", new, "--source", f"folder:{scored / 'images'}", "--model", model, "--classes",
               scored / "classes.txt", "--transform", "mean=0/0/0,std=1/1/1")  # fmt: skip
    assert made.status == 0, made.err
    assert say("export", old, "--to", scored / "out").status == 0
    assert say("decide", new, "--from", scored / "out" / "manifest.csv").status == 0
    assert say("status", new, "--json").data["decisions"] == {"keep": 1, "relabel": 1}
    assert say("sift", new, *QUICK_FLAGS).status == 0


def test_scores_of_several_trainings_have_their_spread(say: Callable[..., Said], scored: Path) -> None:
    assert say("sift", scored / "p", "--models", "2").status == 0
    assert say("scores", scored / "p", "--out", scored / "s.csv").status == 0
    names = list(pd.read_csv(scored / "s.csv"))
    assert {"spread_suspicion", "spread_weighted_aum"} <= set(names)


def test_several_trainings_where_nothing_is_trained_are_refused(say: Callable[..., Said], scored: Path) -> None:
    folder, model = scored / "p", f"code:{scored}/net.py:make"
    before = (folder / "project.toml").read_text()
    for more in ([], ["--dry-run"]):
        told = say("sift", folder, "--model", model, "--no-reference", "--models", "2", *more)
        assert told.status == 1
        assert "2 trainings were asked for" in told.err
        assert "Take it back with --models 1, or let the reference network be trained beside it" in told.err
    assert (folder / "project.toml").read_text() == before
    asked = ["--source", f"folder:{scored / 'images'}", "--model", model, "--no-reference", "--models", "2"]
    assert say("new", scored / "q", *asked).status == 0
    assert "2 trainings were asked for" in say("sift", scored / "q").err
    assert say("sift", scored / "q", "--models", "1", "--no-maps", "--trees", "20").status == 0


def test_ids_of_a_manifest_make_features_that_are_read(say: Callable[..., Said], scored: Path) -> None:
    """As the README shows it."""
    manifest = Project.open(scored / "p").manifest()
    features = np.random.default_rng(0).normal(size=(len(manifest), 8))
    np.savez(scored / "f.npz", sample_id=manifest.ids.astype(str), features=features)
    assert say("sift", scored / "p", "--model", f"features:{scored / 'f.npz'}").status == 0
