"""What is known beside the scores: copies and facts are worked out once, kept, and read without being asked twice."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core import extras
from core.commands import new
from core.data import facts
from core.data.facts import FACTS, image_facts
from core.errors import InputError, ProjectError
from core.findings import Findings, Neighbours
from core.progress import Progress
from core.project import Project
from core.review.marks import COPIES, FACT_WORDS, choices, facts_of, marked, meta_of
from tests.unit.test_copies import scene


def png(pixels: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(target, format="PNG")
    return target.getvalue()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """Ten pictures of two classes, 0.png and 1.png one file, 2.png and 3.png one picture; with findings by hand."""
    images = [scene(0), scene(0), scene(2), np.roll(scene(2), 1, axis=0), *(scene(row) for row in range(4, 10))]
    lines = []
    for row, pixels in enumerate(images):
        (tmp_path / f"{row}.png").write_bytes(png(pixels))
        lines.append({"path": f"{row}.png", "label": "cat" if row % 2 else "dog", "who": f"ann {row % 3}"})
    pd.DataFrame(lines).to_csv(tmp_path / "rows.csv", index=False)
    new(tmp_path / "p", f"table:{tmp_path / 'rows.csv'}", val_fraction=0.0, meta_columns=["who"])
    made = Project.open(tmp_path / "p")
    rows = made.manifest().rows
    samples = rows[["sample_id", "filepath", "split", "given_label"]].assign(
        predicted_label="cat", predicted_prob=0.5, suggested_label="cat", suggested_prob=0.5,
        suspicion=np.arange(10.0), reason="",
    )  # fmt: skip
    near = Neighbours(np.array([[o for o in range(10) if o != r] for r in range(10)]), np.zeros((10, 9), np.float32))
    run = {"manifest": made.manifest().digest(), "stages": {"neighbours": "0", "pixels": "none"}}
    found = Findings(samples.set_index("sample_id"), made.classes, run, np.zeros((10, 2)), np.zeros((1, 10)))
    stage = made.folder / "stages" / "scores-0"
    stage.mkdir()
    found.save_scores(stage)
    beside = made.folder / "stages" / "neighbours-0"
    beside.mkdir()
    np.save(beside / "features_rows.npy", near.rows)
    np.save(beside / "features_similarity.npy", near.similarity)
    made.remember({"scores": stage, "neighbours": beside})
    return made


def test_copies_are_worked_out_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert extras.known_copies(project) is None
    found = extras.make_copies(project)
    assert found[["sample_id", "copy_of", "kind"]].to_numpy().tolist() == [
        ["0.png", "1.png", "exact"], ["1.png", "0.png", "exact"],
        ["2.png", "3.png", "near"], ["3.png", "2.png", "near"],
    ]  # fmt: skip
    monkeypatch.setattr(extras, "find_copies", None)
    pd.testing.assert_frame_equal(extras.make_copies(project), found)
    known = extras.known_copies(project)
    assert known is not None
    pd.testing.assert_frame_equal(known, found)


def test_pixels_that_a_training_read_are_taken(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = project.folder / "stages" / "pixels-none"
    stage.mkdir()
    np.save(stage / "pixels.npy", np.stack([scene(row // 2, 24) for row in range(10)]))
    monkeypatch.setattr(extras, "read_decoded", None)
    assert len(extras.make_copies(project)) == 10


def test_images_that_are_gone_are_copies_of_nothing(project: Project, tmp_path: Path) -> None:
    (tmp_path / "2.png").unlink()
    assert extras.make_copies(project)["sample_id"].tolist() == ["0.png", "1.png"]


def test_a_damaged_table_is_told(project: Project) -> None:
    extras.make_copies(project)
    (table,) = project.folder.glob("stages/copies-*/table.parquet")
    table.write_bytes(b"PAR1")
    with pytest.raises(ProjectError, match=r"table.parquet is damaged .*Delete its folder"):
        extras.known_copies(project)


def test_another_run_holds_the_project(project: Project) -> None:
    with project.lock(), pytest.raises(ProjectError, match="Another run is working on"):
        extras.make_copies(project)
    assert not list(project.folder.glob("stages/*copies*"))


def test_marks_are_columns_and_words(project: Project) -> None:
    rows, samples = project.manifest().rows, project.findings().samples
    told = pd.DataFrame({"sample_id": ["0.png", "1.png"], "is_dark": [True, False], "is_blurry": [True, False]})
    table = marked(samples, rows, extras.make_copies(project), told)
    assert table.loc[["0.png", "2.png", "9.png"], COPIES].tolist() == ["other label", "other label", ""]
    assert table.loc[["0.png", "1.png", "9.png"], "facts"].tolist() == ["dark, blurry", "", ""]
    assert choices(table) == {"who": ("ann 0", "ann 1", "ann 2")}
    assert meta_of(rows.iloc[0].to_dict()) == {"who": "ann 0"}
    assert COPIES not in samples
    assert set(marked(samples, rows)[COPIES]) == {""}


def test_every_fact_has_its_words() -> None:
    assert {f"is_{name}": words for name, words in FACTS.items()} == dict(FACT_WORDS)
    table = pd.DataFrame({"sample_id": ["a"], **{name: [True] for name in FACT_WORDS}})
    assert facts_of(table)["a"] == ", ".join(FACT_WORDS.values())


def test_facts_without_cleanvision_say_what_to_install(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanvision", None)
    with pytest.raises(InputError, match=r"Image facts need cleanvision.*pip install gradsift\[facts\]"):
        extras.make_facts(project)
    assert extras.known_facts(project) is None
    assert not list(project.folder.glob("stages/*facts*"))


class Lab:
    """cleanvision as it is called here: what it is given, and an answer in another order."""

    def __init__(self, filepaths: list[str]) -> None:
        self.given = filepaths

    def find_issues(self, issue_types: Any, n_jobs: int | None, verbose: bool) -> None:
        assert list(issue_types) == list(FACTS)
        assert not verbose
        dark = [Path(name).stat().st_size > 0 and Image.open(name).getpixel((0, 0))[0] < 60 for name in self.given]  # type: ignore[index]
        columns = {f"is_{name}_issue": False for name in FACTS} | {f"{name}_score": 1.0 for name in FACTS}
        self.issues = pd.DataFrame(columns, index=self.given).assign(is_dark_issue=dark)[::-1]


def test_facts_are_joined_by_id(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(facts, "_imagelab", lambda: Lab)
    (tmp_path / "4.png").write_bytes(png(scene(40)))  # not the image it was
    (tmp_path / "5.png").unlink()
    found = image_facts(project.manifest(), Progress()).set_index("sample_id")
    assert found.index.tolist() == [f"{row}.png" for row in (0, 1, 2, 3, 6, 7, 8, 9)]
    expected = [bool(scene(row)[0, 0, 0] < 60) for row in (6, 7, 8, 9)]
    assert found.loc[["6.png", "7.png", "8.png", "9.png"], "is_dark"].tolist() == expected
    for row in range(10):
        (tmp_path / f"{row}.png").unlink(missing_ok=True)
    with pytest.raises(InputError, match="None of the images can be read now"):
        image_facts(project.manifest(), Progress())


@pytest.mark.filterwarnings("ignore")  # of matplotlib and cleanvision themselves
def test_cleanvision_finds_what_is_dark_and_near_uniform(project: Project, tmp_path: Path) -> None:
    pytest.importorskip("cleanvision", reason="the extra 'facts' (cleanvision) is not installed")
    (tmp_path / "class").mkdir()
    for kind in ("a", "b"):
        (tmp_path / "class" / kind).mkdir()
        for row in range(4):
            (tmp_path / "class" / kind / f"{row}::x.png").write_bytes(png(scene(row + 10 * (kind == "b"))))
    (tmp_path / "class/a/night.png").write_bytes(png(scene(1) * 0.03))
    (tmp_path / "class/b/wall.png").write_bytes(png(np.full((64, 64, 3), 128)))
    new(tmp_path / "q", f"folder:{tmp_path / 'class'}")
    found = extras.make_facts(Project.open(tmp_path / "q"))
    told = facts_of(found)
    assert len(told) == 10
    assert "dark" in told["a/night.png"].split(", ")
    assert "near-uniform" in told["b/wall.png"].split(", ")
    assert "dark" not in told["a/1::x.png"]
    pd.testing.assert_frame_equal(extras.known_facts(Project.open(tmp_path / "q")), found)  # type: ignore[arg-type]
