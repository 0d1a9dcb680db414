from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from core.errors import ExportError
from core.export import folder as folder_module
from core.export import formats as formats_module
from core.export.formats import FORMATS, Format, by_name, guarded
from core.export.manifest import COLUMNS, export_manifest
from core.review.decisions import Review
from tests.fake_project import FakeProject, findings_table, manifest_rows

IDS = ["a/0.png", "a/1.png", "b/2.png", "b/3.png", "c/4.png"]  # cat dog fox cat dog
SPLITS = ["train", "train", "train", "train", "val"]


@pytest.fixture
def project(tmp_path: Path) -> FakeProject:
    (tmp_path / "project").mkdir()
    rows = manifest_rows(IDS, splits=SPLITS)
    return FakeProject(tmp_path / "project", rows, findings_table(rows))


def read(path: Path) -> pd.DataFrame:
    readers = {
        ".csv": lambda: pd.read_csv(path, keep_default_na=False, na_values=[""]),
        ".parquet": lambda: pd.read_parquet(path),
        ".jsonl": lambda: pd.DataFrame([json.loads(line) for line in path.read_text("utf-8").split("\n") if line]),
    }
    return readers[path.suffix]()


def reviewed(project: FakeProject) -> Review:
    review = Review(project, reviewer="ann")
    review.decide("a/0.png", "exclude", note="blurred")
    review.decide("a/1.png", "relabel", label="fox")
    review.decide("b/2.png", "keep")
    review.decide("b/3.png", "exclude")
    review.undo()
    review.decide("b/3.png", "unsure")
    return review


@pytest.mark.parametrize("name", [each.name for each in FORMATS])
def test_every_format_holds_every_sample_with_its_decision(project: FakeProject, tmp_path: Path, name: str) -> None:
    reviewed(project)
    result = export_manifest(project, tmp_path / "out", formats=[name])
    table = read(result.folder / f"manifest.{name}").set_index("sample_id")
    assert list(table.index) == IDS
    assert list(table["action"]) == ["exclude", "relabel", "keep", "unsure", "undecided"]
    assert list(table["weight"]) == [0, 1, 1, 1, 1]
    issues = [None if pd.isna(value) else bool(value) for value in table["is_label_issue"]]
    assert issues == [True, True, False, None, None]
    assert table["final_label"].fillna("").tolist() == ["", "fox", "", "", ""]
    assert table["note"].fillna("").tolist() == ["blurred", "", "", "", ""]
    assert table["reviewer"].fillna("").tolist() == ["ann", "ann", "ann", "ann", ""]
    clean = read(result.folder / f"cleaned.{name}")
    assert list(clean.columns) == ["sample_id", "filepath", "split", "label"]
    assert list(clean["sample_id"]) == IDS[1:]
    assert list(clean["label"]) == ["fox", "fox", "cat", "dog"]


def test_columns_stand_in_the_stated_order_and_are_explained(project: FakeProject, tmp_path: Path) -> None:
    result = export_manifest(project, tmp_path / "out")
    columns = list(read(result.folder / "manifest.csv").columns)
    expected = [
        "sample_id", "filepath", "split", "given_label", "predicted_label", "predicted_prob", "suggested_label",
        "suggested_prob", "final_label", "action", "is_label_issue", "suspicion", "reason", "score_loss", "raw_loss",
        "weight", "reviewer", "decided_at", "note", "sha256",
    ]  # fmt: skip
    assert columns == expected
    run = json.loads((result.folder / "run.json").read_text())
    assert list(run["columns"]) == expected
    assert run["columns"]["score_loss"] == COLUMNS["score_*"]
    assert "high = suspicious" in run["polarity"]


def test_run_json_says_where_it_came_from_and_what_changed(project: FakeProject, tmp_path: Path) -> None:
    reviewed(project)
    result = export_manifest(project, tmp_path / "out", formats=["csv", "jsonl", "csv"])
    run = json.loads((result.folder / "run.json").read_text())
    assert run["source"] == {"spec": "digits", "options": {"seed": 0}}
    assert run["classes"] == ["cat", "dog", "fox"]
    assert run["run"] == {"seed": 0}
    assert run["counts"] == result.counts == {
        "before": 5, "after": 4, "undecided": 1, "keep": 1, "relabel": 1, "exclude": 1, "unsure": 1,
        "decisions_not_applied": 0,
    }  # fmt: skip
    assert run["per_class"] == {
        "cat": {"before": 2, "after": 1}, "dog": {"before": 2, "after": 1}, "fox": {"before": 1, "after": 2},
    }  # fmt: skip
    log = [json.loads(line) for line in (result.folder / "decisions.jsonl").read_text("utf-8").splitlines()]
    assert [row["kind"] for row in log] == ["decide", "decide", "decide", "decide", "undo", "decide"]


def test_the_result_lists_every_file_with_size_and_digest(project: FakeProject, tmp_path: Path) -> None:
    result = export_manifest(project, tmp_path / "deep" / "er" / "out", formats=["csv", "parquet"])
    names = ["cleaned.csv", "cleaned.parquet", "decisions.jsonl", "manifest.csv", "manifest.parquet", "run.json"]
    assert [file.name for file in result.files] == names == sorted(path.name for path in result.folder.iterdir())
    for file in result.files:
        data = (result.folder / file.name).read_bytes()
        assert (file.size, file.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    listed = json.loads((result.folder / "run.json").read_text())["files"]
    assert [file["name"] for file in listed] == names[:-1]


def test_a_project_without_scores_exports_too(project: FakeProject, tmp_path: Path) -> None:
    result = export_manifest(replace(project, samples=None), tmp_path / "out")
    table = read(result.folder / "manifest.csv")
    assert "suspicion" not in table
    assert table["given_label"].tolist() == ["cat", "dog", "fox", "cat", "dog"]
    assert json.loads((result.folder / "run.json").read_text())["run"] is None


def test_group_and_truth_are_kept_where_the_source_has_them(project: FakeProject, tmp_path: Path) -> None:
    rows = project.rows.assign(group=["x", "y", "x", "y", "x"], true_label="cat")
    table = read(export_manifest(replace(project, rows=rows), tmp_path / "out").folder / "manifest.csv")
    assert table["group"].tolist() == ["x", "y", "x", "y", "x"]
    assert set(table["true_label"]) == {"cat"}


def test_decisions_on_samples_that_are_gone_are_kept_but_not_applied(project: FakeProject, tmp_path: Path) -> None:
    reviewed(project)
    fewer = replace(project, rows=project.rows.iloc[1:].reset_index(drop=True))
    result = export_manifest(fewer, tmp_path / "out")
    assert result.counts["decisions_not_applied"] == 1
    assert result.counts["before"] == result.counts["after"] == 4
    assert "a/0.png" in (result.folder / "decisions.jsonl").read_text()


def test_a_folder_in_use_is_refused_and_left_alone(project: FakeProject, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("full", "file"):
        with pytest.raises(ExportError, match="Choose another folder"):
            export_manifest(project, tmp_path / name)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert export_manifest(project, tmp_path / "empty").folder == tmp_path / "empty"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "full", "project"]


@pytest.mark.parametrize("place", ["images", "images/export", "link/export", "images/../images/x"])
def test_an_export_into_the_images_own_folder_is_refused(project: FakeProject, tmp_path: Path, place: str) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    with pytest.raises(ExportError, match="would take the export for data"):
        export_manifest(replace(project, spec=f"folder:{tmp_path / 'images'}"), tmp_path / place)
    assert list((tmp_path / "images").iterdir()) == []
    export_manifest(replace(project, spec=f"folder:{tmp_path / 'images'}"), tmp_path / "images-cleaned")


@pytest.mark.parametrize("names", [["xls"], [], ["csv", "cvs"]])
def test_an_unknown_format_is_refused_by_listing_the_known(
    project: FakeProject, tmp_path: Path, names: list[str]
) -> None:
    with pytest.raises(ExportError, match="Choose from csv, parquet, jsonl"):
        export_manifest(project, tmp_path / "out", formats=names)
    assert not (tmp_path / "out").exists()


def test_two_formats_of_one_name_are_refused_by_naming_both() -> None:
    other = Format("csv", "Comma", "The same name again.", formats_module.write_csv)
    with pytest.raises(ExportError, match="'csv': CSV and Comma"):
        by_name([*FORMATS, other])


def test_a_failing_disk_leaves_nothing(project: FakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_table: pd.DataFrame, path: Path) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    broken = tuple(replace(each, write=full) if each.name == "jsonl" else each for each in FORMATS)
    monkeypatch.setattr(formats_module, "FORMATS", broken)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ExportError, match=r"No space left on device.*nothing was left there"):
        export_manifest(project, tmp_path / "out", formats=["csv", "jsonl"])
    assert sorted(tmp_path.iterdir()) == before


def test_a_place_that_cannot_be_written_is_said(project: FakeProject, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot be written"):
        export_manifest(project, tmp_path / "file" / "out")


def test_what_a_killed_export_left_goes_with_the_next(project: FakeProject, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from core.export.folder import whole_folder\n"
        "with whole_folder(Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE, text=True, env=env
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        with pytest.raises(ExportError, match="Another export to"):
            export_manifest(project, tmp_path / "out")
        writer.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / ".out.part" / "half").exists()
    result = export_manifest(project, tmp_path / "out")
    assert not (result.folder / "half").exists()
    assert not (tmp_path / ".out.part").exists()


def test_a_disk_that_locks_no_folders_still_exports(
    project: FakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int, _how: int) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert folder_module.fcntl is fcntl
    assert export_manifest(project, tmp_path / "out").counts["after"] == 5


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@x", "'@x"), ("\tx", "'\tx"), ("\rx", "'\rx"),
        ("'=x", "''=x"), ("'quoted'", "'quoted'"), ("a=b", "a=b"), ("", ""), (-1.5, -1.5), (None, None),
    ],
)  # fmt: skip
def test_formulas_are_guarded_and_nothing_else(text: object, cell: object) -> None:
    assert guarded(text) == cell


def test_csv_guards_texts_and_leaves_numbers(project: FakeProject, tmp_path: Path) -> None:
    assert project.samples is not None
    samples = project.samples.assign(raw_loss=-1.5)
    Review(project, reviewer="=ann").decide("a/0.png", "keep", note="=HYPERLINK(1)")
    result = export_manifest(replace(project, samples=samples), tmp_path / "out", formats=["csv", "jsonl"])
    first = read(result.folder / "manifest.csv").iloc[0]
    assert (first["reviewer"], first["note"], first["raw_loss"]) == ("'=ann", "'=HYPERLINK(1)", -1.5)
    assert read(result.folder / "manifest.jsonl").iloc[0]["note"] == "=HYPERLINK(1)"
