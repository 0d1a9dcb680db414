"""Trim and retrain beside the published table: which rows, which are removed, what is trained, what is said of it."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import InputError, SettingsError, Stopped
from core.models.architecture import REFERENCE
from core.models.device import seeded
from core.progress import Event, Progress
from core.project import Stages
from core.retrain import chain
from core.retrain.chain import Chain, Means, folds, top
from core.retrain.cifar10n import chosen, read_cifar10n
from core.retrain.reproduce import OGA, reproduce, resnet34, trainings
from core.retrain.reproduction import COLUMNS, DIFFERENCES, RECIPES, Reproduction
from core.settings import SiftSettings
from core.verify.published import BUDGETS, LABELS, TABLE_2, TABLE_5, published
from tests.helpers import drawn

SETTINGS = SiftSettings(epochs=1, batch_size=8, learning_rate=0.05, trees=5, device="cpu", precision="float32")
EACH, TESTED = 4, 2  # images of each class
DEAF = Progress()


def images(count: int, first: int) -> pa.Array:
    return pa.array([{"bytes": drawn(row % 2, first + row, 32), "path": f"{first + row}.png"} for row in range(count)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten classes of drawn images in the shape of CIFAR-10, a quarter of the labels `worse` wrong."""
    folder, rng = tmp_path_factory.mktemp("cifar"), np.random.default_rng(0)
    clean, tested = rng.permutation(np.repeat(np.arange(10), EACH)), np.repeat(np.arange(10), TESTED)
    worse = np.where(np.arange(len(clean)) % 4 == 0, (clean + 1) % 10, clean)
    for name, labels, first in (("train", clean, 0), ("test", tested, 1000)):
        columns = {"image": images(len(labels), first), "label": pa.array(labels)}
        pq.write_table(pa.table(columns), folder / f"cifar10_{name}.parquet")
    np.savez(folder / "cifar10n_labels.npz", clean=clean, worse=worse.astype(np.uint8), aggre=clean)
    return folder


@pytest.fixture(scope="module")
def found(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, Path]:
    stages = tmp_path_factory.mktemp("kept")
    return once(data, stages), stages


def once(data: Path, stages: Path, **changes: object) -> Reproduction:
    told = {"labels": ("worse",), "rows": 30, "seeds": 2, "fraction": 0.1, "network": "reference", **changes}
    return reproduce(OGA, data, settings=SETTINGS, stages=Stages(stages), **told)  # type: ignore[arg-type]


def test_every_arm_has_its_line_and_removes_as_many(found: tuple[Reproduction, Path]) -> None:
    lines = {line.arm: line for line in found[0].lines}
    assert list(lines) == [recipe.name for recipe in RECIPES]
    assert lines["given"].removed == 0
    assert lines["given"].gain is None
    assert {line.removed for name, line in lines.items() if name != "given"} == {3}
    assert all(line.gain is not None for name, line in lines.items() if name != "given")
    assert {name for name, line in lines.items() if line.over_random is None} == {"given", "random"}


def test_accuracy_is_the_mean_over_seeds_and_a_gain_the_difference(found: tuple[Reproduction, Path]) -> None:
    record, lines = found[0].verifications["worse"], {line.arm: line for line in found[0].lines}
    right = {name: (record.outcome(name).predicted == record.test.labels).mean(1) for name in record.names}
    for name, line in lines.items():
        assert line.accuracy == pytest.approx(100 * right[name].mean())
        assert line.deviation == pytest.approx(100 * np.std(right[name], ddof=1))
        if line.gain is not None:
            assert line.gain.value == pytest.approx((right[name] - right["given"]).mean())
            assert line.gain.low <= line.gain.value <= line.gain.high
        if line.over_random is not None:
            assert line.over_random.value == pytest.approx((right[name] - right["random"]).mean())


def test_the_record_holds_the_test_images_with_their_true_labels(found: tuple[Reproduction, Path]) -> None:
    record = found[0].verifications["worse"]
    assert record.test.labels.tolist() == np.repeat(np.arange(10), TESTED).tolist()
    assert record.test.known_noise == 0
    assert record.seeds == (0, 1)
    assert sum(record.outcome("oga_l2").changed_per["class"].values()) == pytest.approx(3, abs=2)  # means, rounded


def test_what_is_finished_is_not_trained_again(
    found: tuple[Reproduction, Path], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "train", lambda *_, **__: pytest.fail("trained again"))
    again = once(data, found[1])
    assert again.lines == found[0].lines
    monkeypatch.undo()
    monkeypatch.setattr(chain, "train", lambda *_, **__: (_ for _ in ()).throw(Stopped("as asked")))
    with pytest.raises(Stopped):
        once(data, found[1], seeds=3)
    assert len(list(found[1].glob("reproduce-*"))) == 2 * (1 + chain.FOLDS) + units(found[1])


def units(stages: Path) -> int:
    return len(list(stages.glob("reproduce-unit-*")))


def test_a_stopped_call_goes_on_to_the_same_figures(
    found: tuple[Reproduction, Path], data: Path, tmp_path: Path
) -> None:
    seen: list[Event] = []
    stop = Progress(seen.append, lambda: sum("seed" in event.stage for event in seen) > 12)
    with pytest.raises(Stopped):
        once(data, tmp_path, progress=stop)
    assert list(tmp_path.glob(".reproduce-*.part"))
    assert once(data, tmp_path).lines == found[0].lines


def test_without_a_folder_nothing_is_kept_and_one_seed_is_said_to_be_one(data: Path) -> None:
    told = {"labels": ("worse",), "rows": 20, "seeds": 1, "network": "reference"}
    alone = reproduce(OGA, data, settings=SETTINGS, **told)  # type: ignore[arg-type]
    assert alone.lines[0].deviation is None
    said = " ".join(alone.sentences())
    assert "one seed does not show" in said
    assert "rankings gain" not in said


def test_rows_columns_and_files_of_the_result(found: tuple[Reproduction, Path], tmp_path: Path) -> None:
    result = found[0]
    assert set(COLUMNS) <= set(result.rows()[0])
    result.write(tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [recipe.name for recipe in RECIPES]
    assert list(tmp_path.iterdir()) == [tmp_path / "table.csv"]
    told = json.loads(json.dumps(result.as_data()))
    assert told["settings"]["rows"] == 30
    assert len(told["lines"]) == len(RECIPES)
    assert sum("loader" in sentence for sentence in result.sentences()) == 1
    assert any("of 10 rankings gain over nothing removed" in sentence for sentence in result.sentences())
    assert any("at random change accuracy by" in sentence for sentence in result.sentences())
    assert len(result.sentences()) >= len(DIFFERENCES) + 3


def test_published_stands_beside_measured_at_the_paper_s_budget_only(data: Path, tmp_path: Path) -> None:
    result = once(data, tmp_path, rows=20, seeds=1, fraction=0.05)
    lines = {line.arm: line for line in result.lines}
    assert (lines["given"].published or pytest.fail("none")).accuracy == 82.27
    assert lines["oga_l1"].published_gain == pytest.approx(84.20 - 82.27)
    assert lines["self_confidence:script"].published_gain == pytest.approx(83.65 - 82.27)
    assert {name for name, line in lines.items() if line.published is None} == {
        "random", "suspicion", "self_confidence", "normalised_margin", "confidence_weighted_entropy",
    }  # fmt: skip


def test_published_tables_agree_with_each_other() -> None:
    at_five = BUDGETS.index(0.05)
    for row, kinds in TABLE_5.items():
        for kind, means in kinds.items():
            assert len(means) == len(BUDGETS)
            assert TABLE_2[row][kind].accuracy == means[at_five], (row, kind)
    assert {kind for kinds in TABLE_2.values() for kind in kinds} == set(LABELS)
    best = {kind: max(TABLE_2, key=lambda row, kind=kind: TABLE_2[row][kind].accuracy) for kind in LABELS}
    assert best == {"aggre": "OGA L2", "random1": "OGA L1", "worse": "OGA L1"}


def test_published_by_budget_and_by_row() -> None:
    assert (published("OGA L1", "worse", 0.1) or pytest.fail("none")).accuracy == 84.32
    assert (published("cross entropy", "aggre", 0.3) or pytest.fail("none")).accuracy == 90.87
    assert published("OGA L1", "worse", 0.06) is None
    assert published("self-confidence", "worse", 0.1) is None, "table 5 leaves the label baselines out"
    assert published("suspicion", "worse", 0.05) is None


@pytest.fixture(scope="module")
def one(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    stages = Stages(tmp_path_factory.mktemp("chain"))
    return Chain(read_cifar10n(data, ("worse",), 30, DEAF), "worse", 0, Means(SETTINGS, REFERENCE, stages, DEAF))


def test_a_ranking_removes_its_largest_values(one: Chain) -> None:
    scores, removed = one.scores(), one.removed(0.2)
    assert {name for name in removed if name != "suspicion"} == set(scores)
    for name, values in scores.items():
        assert np.isfinite(values).all()
        assert values[removed[name]].min() >= values[~removed[name]].max(), name
    assert {int(rows.sum()) for rows in removed.values()} == {6}


def test_top_takes_ties_in_order() -> None:
    assert np.flatnonzero(top(np.array([1.0, 3.0, 1.0, 3.0, 1.0]), 3)).tolist() == [0, 1, 3]


def test_no_network_judges_an_image_that_it_was_trained_on(one: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probabilities of a fold's images do not change when their labels do."""
    part = folds(one.given[:30], 0)
    before = one.out_of_sample()
    labels = dict(one.images.given)
    labels["worse"] = one.given.copy()
    labels["worse"][:30][part == 1] = (one.given[:30][part == 1] + 3) % 10
    monkeypatch.setattr(chain, "folds", lambda *_: part)
    other = Chain(replace(one.images, given=labels), "worse", 0, one.means)
    after = other.out_of_sample()
    np.testing.assert_array_equal(after[part == 1], before[part == 1])
    assert (after[part != 1] != before[part != 1]).any()
    np.testing.assert_allclose(after.sum(1), 1)


def test_folds_deal_out_every_class_evenly() -> None:
    labels = np.repeat(np.arange(4), [9, 10, 11, 30])
    part = folds(labels, 3)
    counts = np.array([np.bincount(part[labels == c], minlength=3) for c in range(4)])
    assert (counts.max(1) - counts.min(1) <= 1).all()
    assert (part != folds(labels, 4)).any()
    assert (part == folds(labels, 3)).all()


def test_removed_rows_and_test_labels_change_no_training(one: Chain) -> None:
    """Labels of what is left out, of held-out rows and of the test images have no part in a unit's predictions."""
    removed = one.removed(0.1)["oga_l2"]
    before = one.unit(removed)
    labels = one.given.copy()
    labels[:30][removed] = (labels[:30][removed] + 5) % 10
    labels[30:] = (labels[30:] + 1) % 10
    other = Chain(replace(one.images, given={"worse": labels}), "worse", 0, one.means)
    np.testing.assert_array_equal(other.unit(removed).predicted, before.predicted)
    np.testing.assert_array_equal(other.unit(removed).given_prob, before.given_prob)


def test_the_untouched_arm_is_the_training_that_ranks(one: Chain, tmp_path: Path) -> None:
    """To the bit: trained as any arm is, it would say the same."""
    said, apart = one.unit(np.zeros(30, bool)), one._unit(np.ones(30, bool), "apart", tmp_path)
    np.testing.assert_array_equal(apart["predicted"], said.predicted)
    np.testing.assert_array_equal(apart["given_prob"], said.given_prob)


def test_every_arm_takes_as_many_steps(one: Chain) -> None:
    def steps(removed: np.ndarray, stages: Path) -> int:
        seen: list[Event] = []
        means = replace(one.means, stages=Stages(stages), progress=Progress(seen.append))
        Chain(one.images, "worse", 0, means).unit(removed)
        assert {event.stage for event in seen} == {"worse, seed 0: retraining"}
        return len(seen)

    folder = one.means.stages.folder
    half = np.arange(30) % 2 == 0
    almost = np.arange(30) == 0
    assert steps(almost, folder / "almost") == steps(half, folder / "half") > 1


def test_nothing_but_what_was_said_is_kept(one: Chain) -> None:
    one.removed(0.1)
    kept = [path for path in one.means.stages.folder.glob("reproduce-*/*") if path.is_file()]
    assert {path.name for path in kept} == {"said.npz"}


def test_rows_are_drawn_evenly_from_true_classes_and_held_out_ones_are_others() -> None:
    clean = np.random.default_rng(1).permutation(np.repeat(np.arange(10), 500))
    train, held_out = chosen(clean, 2000)
    assert np.bincount(clean[train]).tolist() == [200] * 10
    assert np.bincount(clean[held_out]).tolist() == [20] * 10
    assert not set(train) & set(held_out)
    assert (np.diff(train) > 0).all()
    everything, few = chosen(clean, 5000)
    assert len(everything) + len(few) == 5000
    assert np.bincount(clean[few]).tolist() == [50] * 10


@pytest.mark.parametrize("rows", [0, 19, 50_010])
def test_a_number_of_rows_that_cannot_be(rows: int) -> None:
    with pytest.raises(InputError, match=f"{rows:,} rows were asked for; give 20 to 5,000"):
        chosen(np.repeat(np.arange(10), 500), rows)


def test_pixels_stand_at_their_rows(data: Path) -> None:
    found = read_cifar10n(data, ("worse", "aggre"), 30, DEAF)
    assert found.pixels.shape == (30 + 10 + 20, 32, 32, 3)
    labels = np.load(data / "cifar10n_labels.npz")
    for place in (0, 17, 35):
        row = int(found.ids[place])
        assert found.given["worse"][place] == labels["worse"][row]
        assert found.truth[place] == labels["clean"][row]
        bright = found.pixels[place][:, :16].mean() > found.pixels[place][:16].mean()
        assert bright == (row % 2 == 0), "the left half of even rows is bright, the top of odd ones"
    assert [found.ids[row] for row in found.test[:2]] == ["test-00000000", "test-00000001"]


def test_messages_say_where_the_data_comes_from(tmp_path: Path, data: Path) -> None:
    with pytest.raises(InputError, match=r"has no cifar10n_labels.npz.*noisylabels.com.*cifar10_train.parquet"):
        read_cifar10n(tmp_path, ("worse",), 20, DEAF)
    labels = dict(np.load(data / "cifar10n_labels.npz"))
    np.savez(tmp_path / "cifar10n_labels.npz", **labels)
    with pytest.raises(InputError, match=r"neither cifar10_train.parquet nor cifar-10-batches-py"):
        read_cifar10n(tmp_path, ("worse",), 20, DEAF)
    for name in ("train", "test"):
        (tmp_path / f"cifar10_{name}.parquet").symlink_to(data / f"cifar10_{name}.parquet")
    with pytest.raises(InputError, match="has no labels 'random1', only clean, worse, aggre"):
        read_cifar10n(tmp_path, ("random1",), 20, DEAF)
    np.savez(tmp_path / "cifar10n_labels.npz", **{**labels, "clean": labels["clean"][::-1]})
    with pytest.raises(InputError, match="does not hold the labels of the training images"):
        read_cifar10n(tmp_path, ("worse",), 20, DEAF)
    np.savez(tmp_path / "cifar10n_labels.npz", **{**labels, "worse": labels["worse"].astype(float)})
    with pytest.raises(InputError, match="are not whole numbers from 0 to 9"):
        read_cifar10n(tmp_path, ("worse",), 20, DEAF)
    (tmp_path / "cifar10n_labels.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="cannot be read"):
        read_cifar10n(tmp_path, ("worse",), 20, DEAF)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "oga"}, "'oga' cannot be reproduced here. Choose from oga-cifar10n"),
        ({"network": "vgg"}, "Network 'vgg' is unknown here. Choose from auto, reference, resnet34"),
        ({"labels": ()}, "Labels of no kind were asked for"),
        ({"labels": ("worse", "worse")}, "name each kind once"),
        ({"labels": ("clean",)}, "not clean"),
        ({"seeds": 0}, "0 seeds were asked for; give 1 to 100"),
        ({"fraction": 0.6}, "The share to remove is 0.6; give a number above 0, at most 0.5"),
    ],
)
def test_what_cannot_be_asked_for(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        reproduce(**{"name": OGA, "data": tmp_path, **changes})  # type: ignore[arg-type]


def test_resnet34_keeps_small_images_large_and_is_trained(one: Chain, tmp_path: Path) -> None:
    with seeded(0):
        network = resnet34(10)
    assert network.plain.conv1.stride == (1, 1)
    assert sum(p.numel() for p in network.parameters()) == 21_282_122  # as the paper's script has it
    from core.retrain.reproduce import _network

    architecture, settings = _network("resnet34", None)
    assert (settings.batch_size, settings.learning_rate, settings.epochs) == (128, 0.1, 100)
    assert _network("auto", SETTINGS)[0] is REFERENCE, "no GPU asked for"
    means = Means(SETTINGS, architecture, Stages(tmp_path), DEAF)
    said = Chain(one.images, "worse", 0, means).unit(np.arange(30) >= 10)
    assert said.predicted.shape == (20,)


def test_trainings_are_counted() -> None:
    assert trainings(2, 3) == 6 * (12 + 2)
