"""A project's folder: whole or not at all, read back as written, damage told in one line."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from core.data.manifest import Manifest
from core.data.sources import SourceOptions
from core.errors import InputError, ProjectError
from core.export.manifest import export_manifest
from core.project import Project, ProjectConfig, Stages, exclusive, stage_key
from core.review.decisions import Review
from core.settings import SiftSettings
from tests.helpers import drawn_folder, tree_digest

NAMES = ("=cmd()", 'größe "x"\n<img src=x onerror=1>')


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return Manifest.read(f"folder:{drawn_folder(tmp_path_factory.mktemp('images'), 12, NAMES)}", val_fraction=0.2)


@pytest.fixture
def project(manifest: Manifest, tmp_path: Path) -> Project:
    return Project.create(tmp_path / "pets", manifest)


def test_what_was_chosen_is_read_back(manifest: Manifest, tmp_path: Path) -> None:
    settings = SiftSettings(seed=4, epochs=None, flip=None, image_size=None, learning_rate=0.1, maps=False)
    config = ProjectConfig("ignored", budget="12.5 %", labels="labels.csv:größe", settings=settings)
    made = Project.create(tmp_path / "pets", manifest, config)
    opened = Project.open(tmp_path / "pets")
    assert opened == made
    assert opened.config == dataclasses.replace(
        config, source_spec=manifest.source.spec, source_options={"seed": 0}, classes=manifest.classes
    )
    assert opened.classes == tuple(sorted(NAMES))
    pd.testing.assert_frame_equal(opened.manifest().rows, manifest.rows)
    assert opened.manifest().digest() == manifest.digest()
    assert opened.manifest().source.spec == manifest.source.spec


@pytest.mark.parametrize(
    "settings",
    [SiftSettings(), SiftSettings(epochs=7, flip=False, image_size=40), SiftSettings(flip=True, seed=2**63 - 1)],
)
def test_settings_survive_none_included(settings: SiftSettings, project: Project) -> None:
    project.with_config(settings=settings, budget="400")
    opened = Project.open(project.folder)
    assert opened.config.settings == settings
    assert opened.config.budget == "400"
    assert opened.with_config(settings=SiftSettings()).config.settings == SiftSettings()
    assert Project.open(project.folder).config.settings == SiftSettings()


def test_source_options_survive(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    images = drawn_folder(tmp_path / "images", 8)
    paths = sorted(images.rglob("*.png"))
    pd.DataFrame({"p": paths, "y": [path.parent.name for path in paths]}).to_csv(file, index=False)
    options = SourceOptions(path_column="p", label_column="y", seed=5)
    made = Project.create(tmp_path / "pets", Manifest.read(f"table:{file}", options=options))
    opened = Project.open(made.folder)
    assert opened.manifest().source.options == options
    assert len(opened.manifest()) == 8


def test_a_folder_in_use_is_refused_and_left_alone(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = tree_digest(tmp_path)
    for name in ("full", "file"):
        with pytest.raises(ProjectError, match=f"{name} exists and is not empty. Choose another folder"):
            Project.create(tmp_path / name, manifest)
    assert tree_digest(tmp_path) == before


def test_an_empty_folder_will_do(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    assert Project.create(tmp_path / "pets", manifest).config == Project.open(tmp_path / "pets").config


@pytest.mark.parametrize("target", ["core.project._write_config", "core.project._flush", "core.data.manifest._write"])
def test_a_disk_that_refuses_leaves_nothing(
    target: str, manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(target, full)
    with pytest.raises(ProjectError, match="cannot be written: .*No space left on device.*Nothing was left behind"):
        Project.create(tmp_path / "pets", manifest)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_attempt_left_is_cleared(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / ".pets.part" / "stages").mkdir(parents=True)
    (tmp_path / ".pets.part" / "half").write_text("x")
    Project.create(tmp_path / "pets", manifest)
    assert [path.name for path in tmp_path.iterdir()] == ["pets"]
    assert not (tmp_path / "pets" / "half").exists()


def edited(change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "project.toml"
        path.write_text(change(path.read_text("utf-8")), "utf-8")

    return edit


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "project.toml").unlink(), "is no project: it has no project.toml. Make one with"),
        (edited(lambda text: text + "\n]]"), "cannot be read: .*Mend it or make a new project"),
        (lambda folder: (folder / "project.toml").write_bytes(b"a = '\xff'"), "cannot be read"),
        (edited(lambda text: text.replace("format = 1", "format = 2")), "of format 2, this version reads 1. Update"),
        (edited(lambda text: text.replace("format = 1", "")), "of format None"),
        (edited(lambda text: text.replace("budget = ", "Budget = ")), "is damaged: 'budget'"),
        (edited(lambda text: text.replace("trees = 1000", "trees = 0")), "is damaged: trees is 0"),
        (edited(lambda text: text.replace("trees = 1000", "leaves = 3")), "is damaged: Unknown setting 'leaves'"),
        (edited(lambda text: text.replace("[source]", "source = 3\n[other]")), "is damaged|cannot be read"),
    ],
)  # fmt: skip
def test_damage_is_told_in_one_line(damage: Callable[[Path], Any], message: str, project: Project) -> None:
    damage(project.folder)
    with pytest.raises(ProjectError, match=message) as told:
        Project.open(project.folder)
    assert str(project.folder) in str(told.value)


def test_a_budget_written_as_a_number_is_a_budget(project: Project) -> None:
    edited(lambda text: text.replace('budget = "5%"', "budget = 400"))(project.folder)
    assert Project.open(project.folder).config.budget == "400"


def test_an_unknown_source_option_is_told(project: Project) -> None:
    edited(lambda text: text.replace("seed = 0", "seed = 0\nmoon = 1", 1))(project.folder)
    text = (project.folder / "project.toml").read_text()
    assert "moon" in text
    with pytest.raises(ProjectError, match="is damaged: .*moon"):
        Project.open(project.folder)


@pytest.mark.parametrize("content", [None, b"", b"hello"])
def test_a_damaged_manifest_is_told(content: bytes | None, project: Project) -> None:
    path = project.folder / "manifest.parquet"
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises((ProjectError, InputError), match=r"manifest.parquet .*(cannot be read|is damaged)"):
        project.manifest()


def test_images_that_moved_away_leave_the_rows_usable_and_are_told_when_asked_for(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 8)
    made = Project.create(tmp_path / "pets", Manifest.read(f"folder:{images}"))
    images.rename(tmp_path / "elsewhere")
    manifest = made.manifest()
    first = manifest.ids[manifest.train][0]
    Review(made, reviewer="ann").decide([first], "exclude")
    assert export_manifest(made, tmp_path / "out").counts["exclude"] == 1
    with pytest.raises(InputError, match="images does not exist"):
        list(manifest.source.read([first]))


def test_before_a_run_there_are_no_findings(project: Project) -> None:
    assert not project.sifted
    assert project.run == {}
    with pytest.raises(ProjectError, match="pets has no scores yet. Run `gradsift sift"):
        project.findings()


def test_scores_that_were_deleted_are_told(project: Project) -> None:
    project.remember({"scores": project.folder / "stages" / "scores-gone"})
    with pytest.raises(ProjectError, match="run `gradsift sift` again"):
        project.findings()


@pytest.mark.parametrize("content", ["", "{", "{}", "[]"])
def test_a_damaged_note_of_the_last_run_is_told(content: str, project: Project) -> None:
    (project.folder / "stages" / "latest.json").write_text(content)
    with pytest.raises(ProjectError, match="gradsift sift"):
        project.findings()


def test_a_stage_appears_when_it_is_whole(tmp_path: Path) -> None:
    stages = Stages(tmp_path / "stages")
    assert stages.find("pixels", "k1") is None
    with stages.write("pixels", "k1") as work:
        (work / "a.npy").write_bytes(b"1")
        assert stages.find("pixels", "k1") is None
    found = stages.find("pixels", "k1")
    assert found is not None
    assert (found / "a.npy").read_bytes() == b"1"
    assert [path.name for path in stages.folder.iterdir()] == ["pixels-k1"]


@pytest.mark.parametrize("resume", [True, False])
def test_a_stage_that_failed_is_not_there_and_may_be_resumed(resume: bool, tmp_path: Path) -> None:
    stages = Stages(tmp_path)

    def fail() -> None:
        with stages.write("features", "k", resume=resume) as work:
            (work / "half").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert stages.find("features", "k") is None
    with stages.write("features", "k", resume=resume) as work:
        assert (work / "half").exists() is resume
    assert stages.find("features", "k") is not None


def test_every_part_of_a_key_counts() -> None:
    key = stage_key("scores", 1, {"trees": 10, "seed": 0})
    assert key == stage_key("scores", 1, {"seed": 0, "trees": 10})
    others = [
        stage_key("map", 1, {"trees": 10, "seed": 0}), stage_key("scores", 2, {"trees": 10, "seed": 0}),
        stage_key("scores", 1, {"trees": 11, "seed": 0}), stage_key("scores", 1, {"trees": 10}),
    ]  # fmt: skip
    assert len({key, *others}) == 5


def test_one_run_at_a_time(project: Project) -> None:
    assert not project.busy
    with project.lock():
        assert project.busy
        with pytest.raises(ProjectError, match="Another run is working on .*Wait for it, or stop it first"):
            project.lock().__enter__()
    assert not project.busy


def test_a_look_at_the_lock_is_waited_for(project: Project) -> None:
    lock = project.folder / ".lock"
    lock.touch()
    with lock.open("rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)  # what `busy` holds for an instant
        threading.Timer(0.1, lambda: fcntl.flock(looker, fcntl.LOCK_UN)).start()
        with project.lock():
            assert project.busy


def test_looks_do_not_take_each_other_for_a_run(project: Project) -> None:
    lock = project.folder / ".lock"
    lock.touch()
    with lock.open("rb") as looker:
        fcntl.flock(looker, fcntl.LOCK_SH)
        assert not project.busy


def test_a_run_that_writes_down_how_it_goes_holds_the_project_too(project: Project) -> None:
    project.job.mkdir()
    with exclusive(project.job / ".lock", project.folder):
        assert project.busy
    assert not project.busy


def test_a_lock_goes_with_an_error(project: Project) -> None:
    with pytest.raises(ZeroDivisionError), project.lock():
        raise ZeroDivisionError
    assert not project.busy


def test_the_note_of_the_last_run_is_replaced_whole(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.remember({"scores": Path("scores-1")})
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        project.remember({"scores": Path("scores-2")})
    assert json.loads((project.folder / "stages" / "latest.json").read_text()) == {"scores": "scores-1"}


def test_a_stage_that_is_gone_on_with_outlives_another_of_its_name(tmp_path: Path) -> None:
    """Two verifications, or a stopped one and another: none loses the epochs of the other."""
    stages = Stages(tmp_path)
    with stages.write("retrain", "one", resume=True) as first:
        (first / "epoch").write_text("1")
        with stages.write("retrain", "other", resume=True) as second:
            (second / "epoch").write_text("2")
        assert (first / "epoch").read_text() == "1"
    forgotten = tmp_path / ".retrain-old.part"
    forgotten.mkdir()
    os.utime(forgotten, (0, 0))
    with stages.write("retrain", "third", resume=True):
        pass
    assert not forgotten.exists()
