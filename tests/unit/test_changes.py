from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.data.manifest import Manifest
from core.errors import InputError
from core.export.formats import FORMATS
from core.export.manifest import counted, export_manifest, manifest_table
from core.project import Project
from core.review.changes import LOSS_SHARE, SHOWN, changes, load_code
from core.review.decisions import CURRENT, Review
from tests.fake_project import manifest_rows
from tests.helpers import ROOT, drawn_folder, environment


def decided(actions: dict[str, str]) -> pd.DataFrame:
    """Decisions in order; "relabel:dog" relabels to dog."""
    split = [text.partition(":") for text in actions.values()]
    columns: dict[str, list[Any]] = {name: [None] * len(actions) for name in CURRENT}
    columns |= {"action": [action for action, _, _ in split], "final_label": [label or None for _, _, label in split]}
    return pd.DataFrame(columns, index=pd.Index(list(actions), dtype="str", name="sample_id"), dtype="str")


def images(**sizes: int) -> pd.DataFrame:
    """Training images named after their class: cat0, cat1, …"""
    labels = [name for name, size in sizes.items() for _ in range(size)]
    return manifest_rows([f"{name}{i}" for name, size in sizes.items() for i in range(size)], labels)


def test_what_decisions_change() -> None:
    rows = images(cat=5, dog=4, fox=2)
    rows.loc[rows["sample_id"] == "fox1", "split"] = "val"
    found = changes(rows, decided({
        "dog1": "relabel:cat", "cat3": "exclude", "cat0": "exclude", "cat1": "relabel:dog", "cat2": "keep",
        "dog0": "unsure", "cat4": "relabel:dog", "gone": "exclude",
    }))  # fmt: skip
    assert (found.before, found.after) == (11, 9)
    assert (found.excluded, found.relabelled, found.kept, found.unsure, found.untouched) == (2, 3, 1, 1, 4)
    assert found.not_applied == 1
    assert not found.nothing
    assert found.per_class == [
        {"name": "cat", "before": 5, "excluded": 2, "moved_out": 2, "moved_in": 1, "after": 2, "lost": 0.8},
        {"name": "dog", "before": 4, "excluded": 0, "moved_out": 1, "moved_in": 2, "after": 5, "lost": 0.25},
        {"name": "fox", "before": 1, "excluded": 0, "moved_out": 0, "moved_in": 0, "after": 1, "lost": 0.0},
    ]
    assert found.moves == [{"from": "cat", "to": "dog", "count": 2}, {"from": "dog", "to": "cat", "count": 1}]
    assert found.warnings == [
        "cat loses 4 of 5 training images (80 %), more than the stated 20 %. 1 other is relabelled to it.",
        "dog loses 1 of 4 training images (25 %), more than the stated 20 %. 2 others are relabelled to it.",
    ]
    assert found.samples == {"excluded": ["cat3", "cat0"], "relabelled": ["dog1", "cat1", "cat4"]}


def test_no_decision_changes_nothing() -> None:
    found = changes(images(cat=3, dog=2), decided({}))
    assert found.nothing
    assert (found.before, found.after, found.untouched, found.not_applied) == (5, 5, 5, 0)
    assert [row["after"] for row in found.per_class] == [3, 2]
    assert (found.moves, found.warnings, found.samples) == ([], [], {"excluded": [], "relabelled": []})


@pytest.mark.parametrize(
    ("size", "excluded", "warning"),
    [
        (120, 31, "cat loses 31 of 120 training images (26 %), more than the stated 20 %."),
        (1200, 245, "cat loses 245 of 1,200 training images (20.4 %), more than the stated 20 %."),
        (10_000, 2002, "cat loses 2,002 of 10,000 training images (20.02 %), more than the stated 20 %."),
        (15, 3, None),  # exactly the stated share
        (12, 12, "cat loses all 12 of its training images: none of this class is left to train on."),
    ],
)
def test_a_class_that_loses_much_is_warned_of(size: int, excluded: int, warning: str | None) -> None:
    found = changes(images(cat=size, dog=10), decided({f"cat{i}": "exclude" for i in range(excluded)}))
    assert found.warnings == ([warning] if warning else [])
    assert found.per_class[0]["lost"] == excluded / size
    assert LOSS_SHARE == 0.2


def test_classes_are_counted_on_training_images() -> None:
    rows = images(cat=5, dog=4)
    rows.loc[rows["sample_id"] == "cat0", "split"] = "val"
    found = changes(rows, decided({"cat0": "exclude"}))  # decided before it was held out; the export leaves it out too
    assert (found.excluded, found.after) == (1, 8)
    assert [(row["before"], row["after"]) for row in found.per_class] == [(4, 4), (4, 4)]


def test_a_class_that_nobody_held_may_be_made() -> None:
    found = changes(images(cat=10, dog=10), decided({"cat0": "relabel:fox"}))
    made = {"name": "fox", "before": 0, "excluded": 0, "moved_out": 0, "moved_in": 1, "after": 1, "lost": 0.0}
    assert found.per_class[-1] == made
    assert found.warnings == []


def test_a_dozen_samples_are_named() -> None:
    found = changes(images(cat=40, dog=40), decided({f"cat{i}": "exclude" for i in range(30, 0, -1)}))
    assert found.samples["excluded"] == [f"cat{i}" for i in range(30, 30 - SHOWN, -1)]


def test_the_counts_are_those_of_the_export() -> None:
    rows = images(cat=6, dog=6)
    decisions = decided({"cat0": "exclude", "cat1": "relabel:dog", "dog0": "keep", "dog1": "unsure", "gone": "keep"})
    found, told = changes(rows, decisions), counted(manifest_table(rows, None, decisions), decisions)
    mine = (found.before, found.after, found.excluded, found.relabelled, found.kept, found.unsure, found.untouched)
    names = ("before", "after", "exclude", "relabel", "keep", "unsure", "undecided")
    assert mine == tuple(told[name] for name in names)
    assert found.not_applied == told["decisions_not_applied"]


@pytest.fixture(scope="module")
def drawn_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Twenty drawn images of the classes `=left` and `01`, one excluded and one relabelled."""
    folder = tmp_path_factory.mktemp("load 'code' {x}")
    manifest = Manifest.read(f"folder:{drawn_folder(folder / 'images', 20, ('=left', '01'))}")
    project = Project.create(folder / "project", manifest)
    train = manifest.rows.loc[manifest.rows["split"] == "train"]
    left = train.loc[train["given_label"] == "=left", "sample_id"].tolist()
    review = Review(project, reviewer="ann")
    review.decide(left[0], "exclude")
    review.decide(left[1], "relabel", label="01")
    return project


@pytest.fixture(scope="module")
def digits_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Sixty digits, which have no files, one excluded."""
    manifest = Manifest.read("digits", limit=60)
    project = Project.create(tmp_path_factory.mktemp("digits") / "project", manifest)
    train = manifest.rows.loc[manifest.rows["split"] == "train", "sample_id"].tolist()
    Review(project, reviewer="ann").decide(train[0], "exclude")
    return project


def run(code: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(code, "load_code", "exec"), names)
    return names


every_format = pytest.mark.parametrize("name", [each.name for each in FORMATS])


@every_format
def test_the_pandas_lines_give_the_cleaned_table_back(drawn_project: Project, tmp_path: Path, name: str) -> None:
    export_manifest(drawn_project, tmp_path / "out", formats=(name,))
    code = load_code(tmp_path / "out", (name,))
    rows = drawn_project.manifest().rows.set_index("sample_id")
    decisions = Review(drawn_project, reviewer="ann").current()
    (gone,), (moved,) = (decisions.index[decisions["action"] == each] for each in ("exclude", "relabel"))
    cleaned = run(code["pandas"])["cleaned"].set_index("sample_id")
    assert cleaned.index.tolist() == rows.index.drop(gone).tolist()
    expected = rows["given_label"].drop(gone)
    expected[moved] = "01"
    assert cleaned["label"].tolist() == expected.tolist()
    assert cleaned["filepath"].tolist() == rows["filepath"].drop(gone).tolist()
    assert cleaned["split"].tolist() == rows["split"].drop(gone).tolist()


@every_format
def test_the_torch_lines_give_images_and_labels(drawn_project: Project, tmp_path: Path, name: str) -> None:
    export_manifest(drawn_project, tmp_path / "out", formats=(name,))
    code = load_code(tmp_path / "out", (name,))["torch"]
    assert "core" not in code  # files need no GradSift
    train = run(code)["train"]
    rows = drawn_project.manifest().rows
    assert len(train) == int((rows["split"] == "train").sum()) - 1
    assert train.classes == ["01", "=left"]
    image, label = train[0]
    assert (image.size, image.mode) == ((12, 12), "RGB")
    assert train.classes[label] == train.rows["label"][0]
    train.transform = lambda image: image.size
    assert train[len(train) - 1][0] == (12, 12)


@every_format
def test_the_gradsift_lines_open_the_cleaned_set(drawn_project: Project, tmp_path: Path, name: str) -> None:
    export_manifest(drawn_project, tmp_path / "out", formats=(name,))
    manifest = run(load_code(tmp_path / "out", (name,))["gradsift"])["manifest"]
    assert len(manifest) == 19
    assert set(manifest.classes) == {"=left", "01"}


@every_format
def test_images_without_files_come_from_their_source(digits_project: Project, tmp_path: Path, name: str) -> None:
    export_manifest(digits_project, tmp_path / "out", formats=(name,))
    code = load_code(tmp_path / "out", (name,))
    train = run(code["torch"])["train"]
    assert len(train) == int((digits_project.manifest().rows["split"] == "train").sum()) - 1
    image, label = train[5]
    assert (image.size, train.classes[label]) == ((8, 8), train.rows["given_label"][5])
    cleaned, rows = run(code["pandas"])["cleaned"], digits_project.manifest().rows.set_index("sample_id")
    assert len(cleaned) == 59
    assert cleaned["label"].tolist() == rows.loc[cleaned["sample_id"], "given_label"].tolist()  # texts, not numbers
    assert set(cleaned["filepath"]) == {""}


def test_the_lines_run_on_their_own(drawn_project: Project, tmp_path: Path) -> None:
    export_manifest(drawn_project, tmp_path / "out", formats=("csv",))
    code = load_code(tmp_path / "out", ("csv",))["torch"]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{int((drawn_project.manifest().rows['split'] == 'train').sum()) - 1} images, 2 classes\n"


def test_of_several_formats_the_one_that_keeps_most_is_read(drawn_project: Project, tmp_path: Path) -> None:
    export_manifest(drawn_project, tmp_path / "out", formats=("csv", "jsonl", "parquet"))
    code = load_code(str(tmp_path / "out"), ["csv", "jsonl", "parquet"])
    assert "read_parquet" in code["pandas"]
    assert "read_json" in load_code(tmp_path / "out", ["csv", "jsonl"])["pandas"]


@pytest.mark.parametrize(
    ("formats", "spoil", "message"),
    [
        ((), lambda path: None, "No code is known that loads no format."),
        (("xlsx",), lambda path: None, "No code is known that loads xlsx."),
        (("csv",), lambda path: None, "cannot be read"),
        (("parquet",), lambda path: path.joinpath("cleaned.parquet").write_bytes(b"PAR1"), "cannot be read"),
        (("jsonl",), lambda path: path.joinpath("cleaned.jsonl").write_text("{"), "cannot be read"),
    ],
)
def test_what_cannot_be_loaded(
    tmp_path: Path, formats: tuple[str, ...], spoil: Callable[[Path], None], message: str
) -> None:
    spoil(tmp_path)
    with pytest.raises(InputError, match=message):
        load_code(tmp_path, formats)
