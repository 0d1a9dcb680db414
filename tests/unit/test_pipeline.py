"""The stages in their order: nothing twice, nothing half, nothing left behind."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.data.manifest import Manifest
from core.errors import InputError, ModelError, ProjectError, Stopped
from core.findings import EVIDENCE, Findings
from core.pipeline import plan, sift
from core.progress import Event, Progress
from core.project import Project, ProjectConfig, Stages
from core.scores import SCORES
from tests.helpers import QUICK, drawn_folder

# What a run with the reference network alone has: scores of a second network and of all layers have to be asked for.
AVAILABLE = [name for name, score in SCORES.items() if score.needs not in ("further features", "all layers")]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_folder(tmp_path_factory.mktemp("images"))


def fresh(images: Path, folder: Path, **changes: object) -> Project:
    settings = dataclasses.replace(QUICK, **changes)  # type: ignore[arg-type]
    return Project.create(folder, Manifest.read(f"folder:{images}"), ProjectConfig("", settings=settings))


@pytest.fixture(scope="module")
def sifted(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, Findings]:
    project = fresh(images, tmp_path_factory.mktemp("projects") / "shapes")
    return project, sift(project)


def times(folder: Path) -> dict[str, int]:
    """When each stage, and each file in it, was last written."""
    whole = [*folder.glob("[!.]*-*"), *folder.glob("[!.]*-*/**/*")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in whole}


def test_the_table_of_findings(sifted: tuple[Project, Findings]) -> None:
    project, findings = sifted
    table, manifest = findings.table(), project.manifest()
    assert table.index.name == "sample_id"
    assert table.index.tolist() == manifest.ids.tolist()
    names = AVAILABLE
    assert table.columns.tolist() == [*EVIDENCE, *(f"score_{n}" for n in names), *(f"raw_{n}" for n in names)]
    for column in ("filepath", "split", "given_label"):
        assert table[column].tolist() == manifest.rows[column].tolist()
    assert not table.isna().any(axis=None)
    assert set(table["predicted_label"]) | set(table["suggested_label"]) <= set(manifest.classes)
    assert table[["predicted_prob", "suggested_prob"]].min(axis=None) >= 0
    assert table[["predicted_prob", "suggested_prob"]].max(axis=None) <= 1
    assert table["reason"].str.len().min() > 20


def test_scores_are_percentiles_within_train_and_within_held_out(sifted: tuple[Project, Findings]) -> None:
    table = sifted[1].table()
    assert table["split"].value_counts().to_dict() == {"train": 54, "val": 6}
    for _, kind in table.groupby("split"):
        for name in ["suspicion", *(f"score_{name}" for name in AVAILABLE)]:
            assert kind[name].mean() == pytest.approx(50)  # ties share the mean, so the mean is always 50
            assert kind[name].between(0, 100).all()


@pytest.mark.parametrize("name", AVAILABLE)
def test_high_is_suspicious_in_every_score(name: str, sifted: tuple[Project, Findings]) -> None:
    for _, kind in sifted[1].table().groupby("split"):
        signed = SCORES[name].sign * kind[f"raw_{name}"]
        pd.testing.assert_series_equal(
            signed.rank(), kind[f"score_{name}"].rank(), check_names=False, check_exact=False, atol=1e-9
        )


def test_arrays_belong_to_the_rows(sifted: tuple[Project, Findings]) -> None:
    project, findings = sifted
    manifest = project.manifest()
    assert findings.curves.shape == (2, 60)
    assert findings.head_probabilities.shape == (60, 2)
    assert findings.head_probabilities.sum(1) == pytest.approx(np.ones(60), abs=1e-5)
    np.testing.assert_allclose(np.asarray(findings.curves).mean(0), findings.samples["raw_confidence"], atol=1e-6)
    for near in findings.neighbours.values():
        assert near.rows.shape == (60, 5)
        assert manifest.train[near.rows].all()  # only training images serve as neighbours
        assert (near.rows != np.arange(60)[:, None]).all()
    labels = manifest.labels
    other = (labels[findings.neighbours["features"].rows] != labels[:, None]).mean(1)
    np.testing.assert_allclose(findings.samples["raw_knn_disagreement"], other)


def test_opened_again_it_is_the_same(sifted: tuple[Project, Findings]) -> None:
    project, findings = sifted
    opened = Project.open(project.folder).findings()
    pd.testing.assert_frame_equal(opened.table(), findings.table())
    assert project.run["stages"] == dict(plan(project.manifest(), QUICK).keys)
    assert not list(project.stages.folder.glob(".*.part"))


def test_the_record_of_a_stage_says_with_what_it_was_made(sifted: tuple[Project, Findings]) -> None:
    project = sifted[0]
    for name, key in plan(project.manifest(), QUICK).keys.items():
        run = json.loads((project.stages.folder / f"{name}-{key}" / "run.json").read_text())
        assert {"stage", "key", "tool", "torch", "seconds", "settings", "manifest"} <= set(run)
        assert run["manifest"] == project.manifest().digest()
        assert run["settings"] == QUICK.as_dict()


def test_equal_inputs_are_never_computed_twice(sifted: tuple[Project, Findings]) -> None:
    project, findings = sifted
    before, heard = times(project.stages.folder), list[Event]()
    again = sift(Project.open(project.folder), progress=Progress(heard.append))
    assert times(project.stages.folder) == before
    assert len(before) > 10
    assert heard == []
    pd.testing.assert_frame_equal(again.table(), findings.table())


def test_each_setting_reaches_the_stages_it_should_and_no_other(images: Path) -> None:
    manifest = Manifest.read(f"folder:{images}")
    base = plan(manifest, dataclasses.replace(QUICK, maps=True)).keys

    def changed(**changes: object) -> set[str]:
        keys = plan(manifest, dataclasses.replace(QUICK, maps=True, **changes)).keys  # type: ignore[arg-type]
        return {name for name in keys if keys[name] != base[name]}

    after_features = {"features", "neighbours", "scores", "map"}
    assert changed(trees=21) == {"scores"}
    assert changed(neighbours=6) == {"neighbours", "scores", "map"}
    assert changed(image_size=12) == {"pixels", *after_features}
    for name, value in [("seed", 1), ("epochs", 3), ("batch_size", 32), ("learning_rate", 0.1), ("weight_decay", 0.0),
                        ("augment", False), ("flip", False), ("precision", "bfloat16")]:  # fmt: skip
        assert changed(**{name: value}) == after_features, name
    assert set(plan(manifest, QUICK).keys) == set(base) - {"map"}


def test_the_manifest_reaches_the_stages_it_should(images: Path) -> None:
    manifest = Manifest.read(f"folder:{images}")
    base = plan(manifest, QUICK).keys

    def changed(**columns: object) -> set[str]:
        keys = plan(dataclasses.replace(manifest, rows=manifest.rows.assign(**columns)), QUICK).keys
        return {name for name in keys if keys[name] != base[name]}

    assert changed(given_label=manifest.rows["given_label"].to_numpy()[::-1]) == {"features", "neighbours", "scores"}
    assert changed(split="train") == {"features", "neighbours", "scores"}
    assert changed(sha256=manifest.rows["sha256"].to_numpy()[::-1]) == set(base)
    assert changed(filepath="elsewhere") == set()


def test_other_trees_do_not_train_again(images: Path, tmp_path: Path) -> None:
    project = fresh(images, tmp_path / "shapes")
    first = sift(project)
    before = times(project.stages.folder)
    second = sift(project.with_config(settings=dataclasses.replace(QUICK, trees=7), budget="9"))
    after = times(project.stages.folder)
    assert {name: after[name] for name in before} == before
    assert {Path(name).parts[0].split("-")[0] for name in set(after) - set(before)} == {"scores"}
    assert (first.samples["raw_oga_forest"] != second.samples["raw_oga_forest"]).any()
    np.testing.assert_array_equal(first.samples["raw_aum"], second.samples["raw_aum"])
    assert dict(Project.open(project.folder).run) == dict(second.run)


def test_a_training_of_an_earlier_version_is_taken_over(images: Path, tmp_path: Path) -> None:
    project = fresh(images, tmp_path / "shapes")
    first = sift(project)
    (trained,) = project.stages.folder.glob("features-*")
    (trained / "trained.json").unlink()  # earlier versions wrote none
    second = sift(project.with_config(settings=dataclasses.replace(QUICK, trees=7)))
    told = ("epochs", "features_of_epoch", "flip", "device", "weights_sha256", "manifest")
    assert {name: first.run[name] for name in told} == {name: second.run[name] for name in told}
    assert second.run["settings"]["trees"] == 7


def test_two_sifts_at_once_are_refused(images: Path, tmp_path: Path) -> None:
    project, told = fresh(images, tmp_path / "shapes"), list[str]()

    def meddle(event: Event) -> None:
        if not told:
            with pytest.raises(ProjectError) as refused:
                sift(Project.open(project.folder))
            told.append(str(refused.value))

    findings = sift(project, progress=Progress(meddle))
    assert "Another run is working on" in told[0]
    assert len(findings) == 60


def test_a_stop_keeps_what_is_whole_and_the_same_call_goes_on(
    images: Path, sifted: tuple[Project, Findings], tmp_path: Path
) -> None:
    project, heard = fresh(images, tmp_path / "shapes"), list[Event]()
    second_epoch = Progress(heard.append, lambda: heard[-1].stage == "training" and heard[-1].done > 54)
    with pytest.raises(Stopped, match="Stopped during training"):
        sift(project, progress=second_epoch)
    assert not project.sifted
    assert [path.name.split("-")[0] for path in project.stages.folder.glob("[!.]*")] == ["pixels"]
    assert not project.busy
    resumed = list[Event]()
    findings = sift(project, progress=Progress(resumed.append))
    assert min(event.done for event in resumed if event.stage == "training") > 54
    pd.testing.assert_frame_equal(findings.table(), sifted[1].table(), check_exact=True)
    assert not list(project.stages.folder.glob(".*.part"))


def test_a_gallery_opens_before_the_map_is_there(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, found = fresh(images, tmp_path / "shapes", maps=True), list[Findings]()

    def line(points: np.ndarray, *_: object, **_named: object) -> np.ndarray:
        found.append(project.findings())
        return np.stack([np.arange(len(points))] * 2, 1).astype(np.float32)

    monkeypatch.setattr("core.pipeline.run.umap_map", line)
    sift(project)
    assert dict(found[0].maps) == {}
    assert set(project.findings().maps) == {"features", "gradients"}
    pd.testing.assert_frame_equal(found[0].table(), project.findings().table())
    told = list[set[str]]()
    monkeypatch.setattr(Project, "remember", lambda _self, stages: told.append(set(stages)))
    sift(project)  # nothing to compute: the map is never forgotten on the way
    assert told == [{"pixels", "features", "neighbours", "scores", "map"}] * 2


def test_without_stages_nothing_stays_on_disk(
    images: Path, sifted: tuple[Project, Findings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: set[str] = set()
    progress = Progress(lambda _: seen.update(path.name for path in tmp_path.iterdir()))
    findings = sift(Manifest.read(f"folder:{images}"), settings=QUICK, progress=progress)
    assert seen  # while it runs it does use a folder
    assert list(tmp_path.iterdir()) == []
    pd.testing.assert_frame_equal(findings.table(), sifted[1].table())
    assert type(findings.curves) is np.ndarray
    assert np.isfinite(findings.neighbours["gradients"].similarity).all()


def test_a_stop_without_stages_leaves_nothing_either(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(Stopped):
        sift(Manifest.read(f"folder:{images}"), settings=QUICK, progress=Progress(should_stop=lambda: True))
    assert list(tmp_path.iterdir()) == []


def test_stages_of_ones_own_are_kept(images: Path, tmp_path: Path) -> None:
    stages, heard = Stages(tmp_path / "kept"), list[Event]()
    manifest = Manifest.read(f"folder:{images}")
    first = sift(manifest, settings=QUICK, stages=stages)
    second = sift(manifest, settings=QUICK, stages=stages, progress=Progress(heard.append))
    assert heard == []
    pd.testing.assert_frame_equal(first.table(), second.table())


def test_a_class_that_is_held_out_only_gets_scores(tmp_path: Path) -> None:
    drawn_folder(tmp_path / "images" / "train", 24)
    drawn_folder(tmp_path / "images" / "val", 6, ("left", "fox"))
    manifest = Manifest.read(f"folder:{tmp_path / 'images'}")
    assert set(manifest.classes) == {"fox", "left", "top"}
    findings = sift(manifest, settings=dataclasses.replace(QUICK, epochs=1))
    foxes = findings.table().query("given_label == 'fox'")
    assert len(foxes) == 3
    assert not foxes.isna().any(axis=None)
    assert (foxes["raw_knn_disagreement"] == 1).all()  # no training image is a fox


def in_three(images: Path, *, turned: str) -> Manifest:
    """60 rows in train, val and test; the labels of one split are turned round."""
    manifest = Manifest.read(f"folder:{images}", val_fraction=0)
    rows, place = manifest.rows.copy(), np.arange(60) % 5
    rows["split"] = np.select([place == 0, place == 1], ["val", "test"], "train")
    other = rows["given_label"].map({"left": "top", "top": "left"})
    rows["given_label"] = rows["given_label"].where(rows["split"] != turned, other)
    return dataclasses.replace(manifest, rows=rows)


def test_beside_a_split_val_the_test_images_have_no_say(images: Path) -> None:
    settings = dataclasses.replace(QUICK, epochs=8, augment=False)
    found = {turned: sift(in_three(images, turned=turned), settings=settings) for turned in ("", "test", "val")}
    train = {turned: each.table().query("split == 'train'") for turned, each in found.items()}
    pd.testing.assert_frame_equal(train["test"], train[""])  # the same network, epoch, window and weights
    assert found["test"].run["suspicion"] == found[""].run["suspicion"]
    assert found["val"].run["suspicion"]["weights"] != found[""].run["suspicion"]["weights"]  # those do have one
    assert found[""].run["suspicion"]["held_out_images"] == 12


def test_where_all_that_is_held_out_is_one_split_it_judges(images: Path) -> None:
    manifest = in_three(images, turned="")
    both = plan(manifest, QUICK).keys
    one = dataclasses.replace(manifest, rows=manifest.rows.assign(split=manifest.rows["split"].replace("val", "test")))
    assert (one.judging == ~one.train).all()
    assert manifest.judging.sum() == 12
    assert {name for name, key in plan(one, QUICK).keys.items() if key != both[name]} >= {"features", "scores"}


def test_no_held_out_row_at_all(images: Path) -> None:
    findings = sift(Manifest.read(f"folder:{images}", val_fraction=0), settings=QUICK)
    assert findings.run["held_out_accuracy"] is None
    assert not findings.table().isna().any(axis=None)
    assert findings.samples["suspicion"].mean() == pytest.approx(50)


def test_nothing_to_train_on(images: Path) -> None:
    manifest = Manifest.read(f"folder:{images}")
    held_out = dataclasses.replace(manifest, rows=manifest.rows.assign(split="test"))
    with pytest.raises(InputError, match="No row is in the split 'train'"):
        sift(held_out, settings=QUICK)


def test_an_unknown_model(images: Path) -> None:
    with pytest.raises(ModelError, match="Unknown model 'resnet'"):
        sift(Manifest.read(f"folder:{images}"), "resnet")


def test_threads_and_generators_are_left_as_found(images: Path) -> None:
    manifest, threads = Manifest.read(f"folder:{images}"), torch.get_num_threads()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    torch.set_num_threads(1)
    try:
        sift(manifest, settings=dataclasses.replace(QUICK, epochs=1))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_an_image_that_went_after_the_project_was_made(damage: str, tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 12)
    project = fresh(images, tmp_path / "shapes")
    lost = images / "left" / "002.png"
    content = lost.read_bytes()
    lost.unlink() if damage == "gone" else lost.write_bytes(content[:50])
    with pytest.raises(InputError, match=r"1 of 12 images are gone or have changed.*left/002.png.*Bring them back"):
        sift(Project.open(project.folder))
    assert not list(project.stages.folder.glob("[!.]*"))
    assert not project.sifted
    lost.write_bytes(content)
    assert len(sift(Project.open(project.folder))) == 12
    assert not list(project.stages.folder.glob(".*.part"))


def test_an_image_that_was_exchanged_is_told_not_taken(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 12)
    project = fresh(images, tmp_path / "shapes")
    (images / "left" / "002.png").write_bytes((images / "top" / "001.png").read_bytes())
    with pytest.raises(InputError, match=r"the first, left/002.png: not the image it was"):
        sift(Project.open(project.folder))
