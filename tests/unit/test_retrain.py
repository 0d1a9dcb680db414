"""Verifications as they run: which arms, on which rows, with how many steps; stopped, killed and gone on with."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.data.manifest import Manifest
from core.errors import InputError, ProjectError, SettingsError, Stopped
from core.models.specs import Permissions, parse_model
from core.pipeline import sift
from core.progress import Event, Progress
from core.project import Project, ProjectConfig
from core.retrain import full
from core.retrain.full import Course, Unit
from core.retrain.ground import NOTHING
from core.retrain.groups import clusters, groupings
from core.retrain.recorded import recorded_features
from core.retrain.run import Planned, VerifyOptions, planned, to_do, verify
from core.retrain.tables import decisions_from
from core.retrain.test_set import held, split_for_tests
from core.review.decisions import Review
from core.scores.out_of_sample import ridge_head
from core.settings import SiftSettings
from core.shortage import ShortageError
from core.verify.arms import Arm, control, given
from core.verify.record import UNCHANGED, Verification, latest, stored

SETTINGS = SiftSettings(
    epochs=3, trees=20, image_size=16, neighbours=5, maps=False, device="cpu", precision="float32", batch_size=32
)
FULL = VerifyOptions("full", ("remove:suspicion:10%",), seeds=2, groups=("none",))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 digits with planted errors, 72 of them held out, scored."""
    folder = tmp_path_factory.mktemp("retrain") / "digits"
    manifest = Manifest.read("digits", limit=240, val_fraction=0.3)
    sift(Project.create(folder, manifest, ProjectConfig("digits", settings=SETTINGS)))
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Project:
    return Project.open(shutil.copytree(made, tmp_path / "digits"))


def wrong(project: Project) -> pd.DataFrame:
    """The training rows whose label is not the true one."""
    rows = project.manifest().rows
    return rows[(rows["split"] == "train") & (rows["given_label"] != rows["true_label"])]


def corrected(project: Project) -> None:
    review = Review(project, reviewer="ann")
    rows = wrong(project)
    review.decide_many(
        [
            {"sample_id": s, "action": "relabel", "label": t}
            for s, t in zip(rows.sample_id, rows.true_label, strict=True)
        ]
    )


def table(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("sample_id", "action", "label")) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def same(one: Verification, other: Verification) -> None:
    assert one.names == other.names
    for name in one.names:
        np.testing.assert_array_equal(one.outcome(name).predicted, other.outcome(name).predicted, err_msg=name)
        np.testing.assert_array_equal(one.outcome(name).given_prob, other.outcome(name).given_prob, err_msg=name)
        for curve, values in one.outcome(name).curves.items():
            np.testing.assert_array_equal(values, other.outcome(name).curves[curve], err_msg=f"{name} {curve}")


def units_of(project: Project) -> list[str]:
    return sorted(path.name for path in (project.folder / "stages").glob("retrain-*"))


# --- the quick form ---------------------------------------------------------------------------------------------------


def test_the_quick_form_compares_decisions_requests_and_controls(project: Project) -> None:
    corrected(project)
    found = verify(project, VerifyOptions(arms=("remove:oga_l2:10", "upweight:suspicion:10:2"), draws=4))
    assert found.names == (
        "given", "decided", "random for decided", "remove:oga_l2:10", "random for remove:oga_l2:10",
        "upweight:suspicion:10:2", "random for upweight:suspicion:10:2",
    )  # fmt: skip
    count = len(wrong(project))
    assert found.outcome("decided").counts == {"kept": 168, "removed": 0, "relabelled": count, "weighted": 0}
    assert found.outcome("random for decided").counts["removed"] == count
    assert found.outcome("upweight:suspicion:10:2").counts["weighted"] == 10
    assert [len(each.predicted) for each in found.outcomes] == [1, 1, 4, 1, 4, 1, 4]
    assert (found.form, found.test.name, len(found.test.ids)) == ("quick", "val", 72)
    assert found.decisions["changed"] == count
    assert found.test.known_noise == pytest.approx(known_noise(project))
    assert found.test.noise is not None
    assert 0 <= found.test.noise < 0.5
    assert [path.name.split("-")[-1] for path in stored(project.verify)] == ["quick"]
    kept = latest(project.verify)
    assert kept is not None
    assert kept.names == found.names
    for name in found.names:
        np.testing.assert_array_equal(kept.outcome(name).predicted, found.outcome(name).predicted)


def known_noise(project: Project) -> float:
    rows = project.manifest().rows
    rows = rows[rows["split"] == "val"]
    return float((rows["given_label"] != rows["true_label"]).mean())


def test_the_same_verification_twice_says_the_same(project: Project) -> None:
    options = VerifyOptions(arms=("remove:suspicion:10%",), draws=3)
    same(verify(project, options), verify(project, options))


def test_what_is_removed_is_counted_per_class_and_the_control_removes_as_many_of_each(project: Project) -> None:
    found = verify(project, VerifyOptions(arms=("remove:suspicion:20%",), draws=2))
    manifest = project.manifest()
    top = project.findings().table()
    top = top[top["split"] == "train"].sort_index().sort_values("suspicion", ascending=False, kind="stable").head(34)
    ours = found.outcome("remove:suspicion:20%").changed_per["class"]
    assert {name: count for name, count in ours.items() if count} == top["given_label"].value_counts().to_dict()
    assert found.outcome("random for remove:suspicion:20%").changed_per["class"] == ours
    sizes = manifest.rows[manifest.train]["given_label"].value_counts().to_dict()
    assert found.group_sizes["class"] == sizes


def test_without_controls_there_are_none(project: Project) -> None:
    found = verify(project, VerifyOptions(arms=("remove:suspicion:5",), controls=False))
    assert found.names == ("given", "remove:suspicion:5")
    assert any("these test images among them" in note for note in found.notes)


def test_a_test_set_beside_val_was_seen_by_nothing(tmp_path: Path) -> None:
    manifest = Manifest.read("digits", limit=240, val_fraction=0.3)
    split = manifest.rows["split"].where(np.arange(240) % 2 == 0, manifest.rows["split"].replace("val", "test"))
    rows = manifest.rows.assign(split=split)
    project = Project.create(
        tmp_path / "digits", dataclasses.replace(manifest, rows=rows), ProjectConfig("digits", settings=SETTINGS)
    )
    sift(project)
    options = VerifyOptions(arms=("remove:suspicion:10%",), draws=2)
    assert not any("these test images among them" in note for note in verify(project, options).notes)
    on_val = verify(project, dataclasses.replace(options, test="val"))
    assert any("these test images among them" in note for note in on_val.notes)


def test_an_arm_that_is_named_twice_runs_once(project: Project) -> None:
    found = verify(project, VerifyOptions(arms=("remove:suspicion:5", "remove:suspicion:5"), controls=False))
    assert found.names == ("given", "remove:suspicion:5")


def test_a_class_that_an_arm_empties_is_told(project: Project, tmp_path: Path) -> None:
    rows = project.manifest().rows
    threes = rows[(rows["split"] == "train") & (rows["given_label"] == "3")]["sample_id"]
    path = table(tmp_path / "no3.csv", [(sample, "exclude", "") for sample in threes])
    heard: list[str] = []
    found = verify(project, VerifyOptions(arms=(f"file:{path}",), draws=2), Progress(note=heard.append))
    assert found.names[1] == "file:no3.csv"
    assert "3" not in {found.classes[code] for code in np.unique(found.outcome("file:no3.csv").predicted)}
    told = [note for note in found.notes if "leaves no training image of '3'" in note]
    assert told
    assert heard == told


def test_where_nothing_is_held_out_unchanged_training_rows_stand_in(made: Path, tmp_path: Path) -> None:
    manifest = Manifest.read("digits", limit=150, val_fraction=0.0)
    project = Project.create(tmp_path / "p", manifest, ProjectConfig("digits", settings=SETTINGS))
    sift(project)
    found = verify(project, VerifyOptions(arms=("remove:suspicion:10",), draws=3))
    assert found.test.name == UNCHANGED
    top = project.findings().table().sort_index().sort_values("suspicion", ascending=False, kind="stable").head(10)
    assert set(found.test.ids) == set(manifest.ids) - set(top.index)
    assert "easier" in found.test.note
    with pytest.raises(SettingsError, match="compares on held-out images"):
        verify(project, FULL)


def test_rows_without_images_have_the_quick_form_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.arange(120) % 2
    features = rng.normal(0, 1, (120, 5)).astype(np.float32) + 2 * truth[:, None]
    ids = [f"s{row}" for row in range(120)]
    np.savez(tmp_path / "f.npz", sample_id=np.array(ids), features=features)
    splits = np.where(np.arange(120) % 3 == 0, "test", "train")
    table(tmp_path / "t.csv", list(zip(ids, truth.astype(str), splits, strict=True)), ("sample_id", "label", "split"))
    manifest = Manifest.read(f"table:{tmp_path / 't.csv'}")
    config = ProjectConfig(
        manifest.source.spec,
        model=f"features:{tmp_path / 'f.npz'}",
        settings=dataclasses.replace(SETTINGS, image_size=None),
    )
    project = Project.create(tmp_path / "p", manifest, config)
    sift(project)
    options = VerifyOptions(arms=("remove:suspicion:5",), draws=2)
    found = verify(project, options)
    assert (found.test.name, found.settings["features"]) == ("test", "model")
    with pytest.raises(InputError, match="have no images.*quick form"):
        verify(project, dataclasses.replace(options, form="full"))


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (VerifyOptions(), InputError, "no decision changes the training set yet"),
        (VerifyOptions(arms=("decided",)), InputError, "No decision changes"),
        (VerifyOptions(arms=("remove:magic:5",)), InputError, "no score 'magic'"),
        (VerifyOptions(arms=("burn:suspicion:5",)), InputError, "not understood"),
        (VerifyOptions(arms=("file:none.csv",)), InputError, "none.csv"),
        (VerifyOptions(arms=("remove:suspicion:5",), test="moon"), InputError, "Choose from val, training"),
        (VerifyOptions(arms=("remove:suspicion:5",), groups=("camera",)), InputError, "no column 'camera'"),
        (VerifyOptions(arms=("remove:suspicion:100%",)), InputError, "leaves no row"),
        (VerifyOptions("full", ("remove:suspicion:5",), network="timm:vgg11@w.pt"), SettingsError, "not trained"),
        (VerifyOptions("full", ("remove:suspicion:5",), test="training"), SettingsError, "held-out images"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_told_and_leaves_nothing(
    options: VerifyOptions, kind: type[Exception], message: str, project: Project
) -> None:
    with pytest.raises(kind, match=message):
        verify(project, options)
    assert not project.verify.exists()
    assert units_of(project) == []


@pytest.mark.parametrize(
    "wrong_value", [{"form": "slow"}, {"seeds": 0}, {"seeds": 101}, {"draws": 0}], ids=lambda value: str(value)
)
def test_options_out_of_range(wrong_value: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=str(next(iter(wrong_value.values())))):
        VerifyOptions(**wrong_value)  # type: ignore[arg-type]


def test_a_project_without_scores_has_no_quick_form_but_decisions_can_be_retrained(tmp_path: Path) -> None:
    manifest = Manifest.read("digits", limit=120, val_fraction=0.3)
    project = Project.create(tmp_path / "p", manifest, ProjectConfig("digits", settings=SETTINGS))
    with pytest.raises(ProjectError, match="no scores yet"):
        verify(project)
    some = [str(manifest.ids[row]) for row in np.flatnonzero(manifest.train)[:5]]
    Review(project, reviewer="ann").decide(some, "exclude")
    found = verify(project, dataclasses.replace(FULL, arms=(), seeds=1))
    assert found.names == ("given", "decided", "random for decided")
    assert found.test.noise is None


def test_decisions_that_change_nothing_are_no_arm(project: Project) -> None:
    rows = project.manifest().rows
    train = rows[rows["split"] == "train"]["sample_id"]
    Review(project, reviewer="ann").decide(list(train[:5]), "keep")
    with pytest.raises(InputError, match="Nothing to compare") as told:
        verify(project)
    assert str(told.value) == NOTHING


def test_two_at_once_are_refused(project: Project) -> None:
    with project.lock(), pytest.raises(ProjectError, match="Another run is working"):
        verify(project, VerifyOptions(arms=("remove:suspicion:5",)))


def test_features_that_are_gone_are_told(project: Project) -> None:
    shutil.rmtree(next((project.folder / "stages").glob("features-*")))
    with pytest.raises(ProjectError, match="features of the last run .* are gone"):
        verify(project, VerifyOptions(arms=("remove:suspicion:5",)))


def test_the_strength_that_the_run_chose_is_the_one_that_a_head_would_choose(project: Project) -> None:
    found, manifest = recorded_features(project), project.manifest()
    assert found.trained  # here, whatever its origin is called: held-out labels chose the epoch
    assert found.origin == "reference"
    assert found.strength == ridge_head(found.rows, manifest.labels, 10, manifest.train).strength


def test_damaged_features_are_told(project: Project) -> None:
    next((project.folder / "stages").glob("features-*/features.npy")).write_bytes(b"hello")
    with pytest.raises(ProjectError, match="features.npy cannot be read"):
        recorded_features(project)


# --- tables of decisions ----------------------------------------------------------------------------------------------


def test_a_table_of_decisions_is_read_as_decide_reads_it(project: Project, tmp_path: Path) -> None:
    manifest = project.manifest()
    train, other = (manifest.ids[manifest.train == part].tolist() for part in (True, False))
    new = "1" if manifest.labels[manifest.train][0] != 1 else "2"
    path = table(
        tmp_path / "t.csv",
        [(train[0], "relabel", new), (train[1], "exclude", "anything"), (other[0], "exclude", ""),
         (train[2], "exclude", ""), (train[2], "keep", "")],
    )  # fmt: skip
    found = decisions_from(path, manifest)
    assert found.index.tolist() == [train[0], train[1], train[2]]
    assert found["action"].tolist() == ["relabel", "exclude", "keep"]
    assert found["final_label"].tolist() == [new, None, None]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("nobody", "exclude", ""), "Row 1 of .*'nobody': unknown sample"),
        (("{id}", "burn", ""), "unknown action 'burn'"),
        (("{id}", "relabel", "cat"), "got 'cat'"),
        (("{id}", "relabel", ""), "needs a class as label"),
        (("{id}", "exclude"), "line 2 has 2 fields"),
    ],
)
def test_a_row_that_cannot_be_decided_is_named(
    row: tuple[str, ...], message: str, project: Project, tmp_path: Path
) -> None:
    manifest = project.manifest()
    sample = str(manifest.ids[manifest.train][0])
    path = table(tmp_path / "t.csv", [tuple(cell.format(id=sample) for cell in row)])
    with pytest.raises(InputError, match=message):
        decisions_from(path, manifest)


def test_a_table_of_held_out_rows_alone_changes_nothing(project: Project, tmp_path: Path) -> None:
    manifest = project.manifest()
    path = table(tmp_path / "t.csv", [(sample, "exclude", "") for sample in manifest.ids[~manifest.train]])
    with pytest.raises(InputError, match="changes no training row"):
        verify(project, VerifyOptions(arms=(f"file:{path}",)))


def test_two_tables_of_one_name_are_two_arms(project: Project, tmp_path: Path) -> None:
    train = project.manifest().ids[project.manifest().train]
    paths = []
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        paths.append(table(tmp_path / str(number) / "t.csv", [(train[number], "exclude", "")]))
    asked = tuple(f"file:{path}" for path in (*paths, paths[0]))
    found = verify(project, VerifyOptions(arms=asked, controls=False))
    assert found.names == ("given", "file:t.csv", "file:t.csv (2)")
    assert str(tmp_path) not in json.dumps([found.notes, [each.title for each in found.outcomes]])


# --- test rows and groups ---------------------------------------------------------------------------------------------


def test_the_split_that_is_compared_on(project: Project) -> None:
    manifest = project.manifest()
    named = dataclasses.replace(manifest, rows=manifest.rows.copy())
    assert split_for_tests(manifest) == "val"
    named.rows.loc[named.rows["split"] == "val", "split"] = ["extra"] * 30 + ["val"] * 30 + ["test"] * 12
    assert split_for_tests(named) == "test"
    assert split_for_tests(named, "extra") == "extra"
    with pytest.raises(InputError, match="Choose from test, val, extra, training"):
        split_for_tests(named, "moon")
    assert len(held(named, [], "test").rows) == 12
    named.rows.loc[named.rows["split"] == "test", "split"] = ["test"] + ["val"] * 11
    with pytest.raises(InputError, match="1 rows are left to compare on"):
        held(named, [], "test")


def test_every_row_that_an_arm_touches_is_no_test_row(project: Project) -> None:
    manifest = project.manifest()
    labels = manifest.labels[manifest.train]
    count = len(labels)
    removed = dataclasses.replace(given(labels), kept=np.arange(count) != 0)
    moved = dataclasses.replace(given(labels), labels=np.where(np.arange(count) == 1, (labels + 1) % 10, labels))
    heavy = dataclasses.replace(given(labels), weights=np.where(np.arange(count) == 2, 4.0, 1.0))
    found = held(manifest, [removed, moved, heavy], "training")
    assert found.rows.tolist() == np.flatnonzero(manifest.train)[3:].tolist()


def with_columns(project: Project) -> Manifest:
    manifest = project.manifest()
    count = len(manifest)
    return dataclasses.replace(
        manifest,
        rows=manifest.rows.assign(
            meta_camera=[["a", "b", None][row % 3] for row in range(count)], meta_id=[str(row) for row in range(count)],
            meta_one="x",
        ),
    )  # fmt: skip


def test_groups_are_columns_with_few_values(project: Project) -> None:
    manifest = with_columns(project)
    found = groupings(manifest, None)
    assert list(found) == ["class", "camera"]
    assert found["camera"].tolist()[:4] == ["a", "b", "(none)", "a"]
    assert list(groupings(manifest, None, ["none"])) == ["class"]
    assert list(groupings(manifest, None, ["one"])) == ["class", "one"]
    with pytest.raises(InputError, match="'id' has 240 values"):
        groupings(manifest, None, ["id"])
    with pytest.raises(InputError, match="Clusters are proposed from recorded features"):
        groupings(manifest, None, ["cluster"])


def test_planted_clusters_are_found_and_named_by_size() -> None:
    """Two kinds of cats, 80 and 40 of them trained on, and one kind of dogs; a test row goes to the nearer kind."""
    rng = np.random.default_rng(0)
    centre = np.repeat([[0.0, 0], [20, 0], [0, 20]], [90, 50, 100], axis=0)
    features = (centre + rng.normal(0, 0.5, centre.shape)).astype(np.float32)
    labels = np.repeat([0, 0, 1], [90, 50, 100])
    train = ~np.isin(np.arange(240), [*range(10), *range(90, 100)])
    names = clusters(features, labels, train, ("cat", "dog"))
    cats = {tuple(sorted(set(names[rows]))) for rows in (slice(0, 90), slice(90, 140))}
    parts = {name: set(centre[:, 0][names == name]) for name in set(names)}
    assert all(len(kinds) == 1 for kinds in parts.values())
    assert len(cats) == 2
    sizes = [int((names[train] == f"cat {number}").sum()) for number in range(1, 5)]
    assert sizes == sorted(sizes, reverse=True)


def test_classes_of_few_rows_are_one_cluster_each_and_then_there_is_no_such_grouping(project: Project) -> None:
    features = recorded_features(project).rows
    assert "cluster" not in groupings(project.manifest(), features)
    assert "cluster" in groupings(project.manifest(), features, ["cluster"])


# --- the full form ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def undisturbed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Verification, list[str]]:
    project = Project.open(shutil.copytree(made, tmp_path_factory.mktemp("undisturbed") / "digits"))
    return verify(project, FULL), units_of(project)


def test_the_full_form_trains_every_arm_with_every_seed(undisturbed: tuple[Verification, list[str]]) -> None:
    found, units = undisturbed
    assert found.names == ("given", "remove:suspicion:10%", "random for remove:suspicion:10%")
    assert found.seeds == (0, 1)
    for each in found.outcomes:
        assert each.predicted.shape == (2, 72)
        assert {name: curve.shape for name, curve in each.curves.items()} == {
            "accuracy": (2, 3), "log_loss": (2, 3), "train_loss": (2, 3)
        }  # fmt: skip
        np.testing.assert_allclose(each.curves["accuracy"][:, -1], (each.predicted == found.test.labels).mean(1))
        np.testing.assert_allclose(each.curves["log_loss"][:, -1], -np.log(each.given_prob).mean(1), rtol=1e-5)
        assert np.isfinite(each.curves["train_loss"]).all()
    assert len(units) == 5  # the sixth, as given with seed 0, is the project's own run


def test_the_training_as_given_is_the_runs_own_bit_for_bit(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    own = verify(project, dataclasses.replace(FULL, seeds=1)).outcomes[0]
    monkeypatch.setattr(Course, "_recorded", lambda self, unit: None)
    trained = verify(project, dataclasses.replace(FULL, seeds=1)).outcomes[0]
    assert own.seconds == 0 < trained.seconds
    np.testing.assert_array_equal(own.predicted, trained.predicted)
    np.testing.assert_allclose(own.given_prob, trained.given_prob, atol=1e-5)  # evaluated in batches of another size
    np.testing.assert_allclose(own.curves["train_loss"], trained.curves["train_loss"], rtol=1e-6)


def test_a_unit_is_never_trained_twice_whatever_its_arm_is_called(
    project: Project, undisturbed: tuple[Verification, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = verify(project, FULL)
    top = project.findings().table()
    top = top[top["split"] == "train"].sort_index().sort_values("suspicion", ascending=False, kind="stable").head(17)
    path = table(tmp_path / "mine.csv", [(sample, "exclude", "") for sample in top.index])
    monkeypatch.setattr(full, "train", lambda *_, **__: pytest.fail("trained again"))
    again = verify(project, dataclasses.replace(FULL, arms=(f"file:{path}",)))
    for one, other in zip(first.outcomes, again.outcomes, strict=True):
        np.testing.assert_array_equal(one.predicted, other.predicted)
    same(first, undisturbed[0])


class Heard:
    """Asks for a stop at the k-th report of training."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0

    def listen(self, event: Event) -> None:
        self.count += "epoch" in event.figures

    @property
    def progress(self) -> Progress:
        return Progress(self.listen, lambda: self.count >= self.at)


def test_a_stop_anywhere_and_going_on_gives_the_same_numbers(
    project: Project, undisturbed: tuple[Verification, list[str]]
) -> None:
    stops = 0
    while True:
        try:
            found = verify(project, FULL, Heard(25).progress)
            break
        except Stopped:
            stops += 1
            assert latest(project.verify) is None
    assert stops > 1
    same(found, undisturbed[0])
    assert not list((project.folder / "stages").glob(".retrain-*"))


def test_progress_names_the_unit(project: Project) -> None:
    heard: list[Event] = []
    verify(project, dataclasses.replace(FULL, seeds=1), Progress(heard.append))
    stages = list(dict.fromkeys(event.stage for event in heard if "epoch" in event.figures))
    told = to_do(project, dataclasses.replace(FULL, seeds=1))
    assert told is not None
    assert (
        stages
        == list(told.keys)[1:]
        == ["17 most suspicious removed, seed 0", "as many removed at random (remove:suspicion:10%), seed 0"]
    )
    assert set(told.there) == set(told.keys)
    assert told.device["device"] == "cpu"


def test_no_unit_keeps_weights(project: Project) -> None:
    verify(project, dataclasses.replace(FULL, seeds=1))
    for unit in units_of(project):
        files = sorted(path.name for path in (project.folder / "stages" / unit).iterdir())
        assert files == ["result.npz", "run.json"]
        assert json.loads((project.folder / "stages" / unit / "run.json").read_text())["stage"] == "retrain"


def test_a_disk_that_is_full_is_told_and_the_next_call_goes_on(
    project: Project, undisturbed: tuple[Verification, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = full._write

    def refuse(path: Path, result: full.Result) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(full, "_write", refuse)
    with pytest.raises(ShortageError, match="disk is full"):
        verify(project, FULL)
    assert latest(project.verify) is None
    monkeypatch.setattr(full, "_write", write)
    same(verify(project, FULL), undisturbed[0])


def test_a_damaged_unit_is_told_with_what_to_do(project: Project) -> None:
    verify(project, dataclasses.replace(FULL, seeds=1))
    folder = project.folder / "stages" / units_of(project)[0]
    (folder / "result.npz").write_bytes(b"hello")
    with pytest.raises(ProjectError, match="Delete that folder and verify again"):
        verify(project, dataclasses.replace(FULL, seeds=1))
    shutil.rmtree(folder)
    verify(project, dataclasses.replace(FULL, seeds=1))


def course(project: Project) -> Course:
    manifest = project.manifest()
    return Course(
        manifest, SETTINGS, parse_model("reference"), np.flatnonzero(~manifest.train), project.stages, Permissions()
    )


def test_an_arm_takes_as_many_steps_as_the_data_as_given_and_never_a_test_row(project: Project) -> None:
    held_out = course(project)
    labels = project.manifest().labels[project.manifest().train]
    arm = Arm("half", "half", np.arange(len(labels)) % 2 == 0, labels, np.ones(len(labels)))
    for each in (given(labels), arm, control(arm, labels, 3)):
        task = held_out.task(each)
        assert task.images_per_epoch == 168
        assert not (task.train & ~project.manifest().train).any()
        assert task.held_out is not None
        assert (task.held_out == ~project.manifest().train).all()
        assert int(task.train.sum()) == int(each.kept.sum())
        assert task.weights is None
    architecture = held_out.architecture(Progress())
    assert architecture.statistics is not None
    np.testing.assert_array_equal(architecture.statistics, held_out.task(given(labels)).statistics)


def test_labels_and_weights_of_an_arm_reach_its_own_rows(project: Project) -> None:
    held_out, manifest = course(project), project.manifest()
    rows = np.flatnonzero(manifest.train)
    labels = manifest.labels[rows]
    new, weights = (labels + 1) % 10, np.linspace(0.5, 1.5, len(rows))
    task = held_out.task(Arm("all", "all", np.ones(len(rows), bool), new, weights))
    assert (task.labels[rows] == new).all()
    assert (task.labels[~manifest.train] == manifest.labels[~manifest.train]).all()
    assert task.weights is not None
    np.testing.assert_array_equal(task.weights[rows], weights)


@pytest.mark.parametrize("part", ["kept", "labels", "weights", "seed", "test", "settings", "network"])
def test_a_unit_is_named_by_everything_that_goes_into_it(part: str, project: Project) -> None:
    one, manifest = course(project), project.manifest()
    labels = manifest.labels[manifest.train]
    count, seed, other = len(labels), 0, one
    arm = changed = dataclasses.replace(given(labels), name="an arm")
    first = np.arange(count) == 0
    if part == "kept":
        changed = dataclasses.replace(arm, kept=~first)
    elif part == "labels":
        changed = dataclasses.replace(arm, labels=np.where(first, (labels + 1) % 10, labels))
    elif part == "weights":
        changed = dataclasses.replace(arm, weights=np.where(first, 2.0, 1.0))
    elif part == "seed":
        seed = 1
    elif part == "test":
        other = dataclasses.replace(one, test=one.test[1:])
    elif part == "settings":
        other = dataclasses.replace(one, settings=dataclasses.replace(SETTINGS, learning_rate=0.1))
    else:
        other = dataclasses.replace(one, network=parse_model("train:resnet18"))
    assert other.unit(changed, seed).key != one.unit(arm, 0).key
    renamed = dataclasses.replace(arm, name="another name", title="another title")
    assert one.unit(renamed, 0).key == one.unit(arm, 0).key


def test_titles_of_units_tell_controls_apart(project: Project) -> None:
    labels = project.manifest().labels[project.manifest().train]
    arms = [dataclasses.replace(given(labels), name=name, title=name) for name in ("a", "b")]
    titles = [Unit(control(arm, labels, 0), 2, "k").title for arm in arms]
    assert titles == ["as many removed at random (a), seed 2", "as many removed at random (b), seed 2"]


def test_another_network_is_trained_when_asked_for(project: Project) -> None:
    found = verify(project, dataclasses.replace(FULL, seeds=1, network="train:shufflenet_v2_x0_5"))
    assert found.network == "train:shufflenet_v2_x0_5"
    assert len(units_of(project)) == 3


# --- what it would take -----------------------------------------------------------------------------------------------


def test_the_plan_counts_trainings_and_keeps_nothing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(full, "PROBE_SECONDS", 0.2)
    found = planned(project, FULL)
    assert isinstance(found, Planned)
    assert (found.units, found.there, found.test) == (6, 1, "val")
    assert found.seconds > 0
    assert found.arms == ("as given", "17 most suspicious removed")
    assert units_of(project) == []
    assert not project.verify.exists()
    quick = planned(project, VerifyOptions(arms=("remove:suspicion:5",)))
    assert (quick.form, quick.units) == ("quick", 22)


def test_a_stop_while_it_is_tried_out(project: Project) -> None:
    with pytest.raises(Stopped):
        planned(project, FULL, Progress(should_stop=lambda: True))
