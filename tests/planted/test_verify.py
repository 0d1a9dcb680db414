"""Changes whose effect is known beforehand, on real digits: the verdict is the right one, and no other.

The held-out labels are the true ones here, so that what is measured is what is true.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.data.manifest import Manifest
from core.pipeline import sift
from core.project import Project, ProjectConfig
from core.retrain.run import VerifyOptions, verify
from core.settings import SiftSettings
from core.verify.compare import HELPS, HURTS, UNCLEAR, compare, verdict
from core.verify.losses import warnings

SETTINGS = SiftSettings(
    epochs=6, trees=20, image_size=16, neighbours=5, maps=False, device="cpu", precision="float32"
)  # fmt: skip


def made(folder: Path, *, clean: bool) -> Project:
    """1,200 digits, half of them held out with their true labels; of the others 40 % bear the next digit, or none."""
    read = Manifest.read("digits", limit=1200, val_fraction=0.5, seed=1)
    true = read.rows["true_label"].astype(int)
    wrong = (np.random.default_rng(0).random(len(read)) < 0.4) & read.train & (not clean)
    labels = true.where(~wrong, (true + 1) % 10).astype(str).astype(object)
    manifest = replace(read, rows=read.rows.assign(given_label=labels))
    project = Project.create(folder, manifest, ProjectConfig("digits", settings=SETTINGS))
    sift(project)
    return project


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return made(tmp_path_factory.mktemp("noisy") / "p", clean=False)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return made(tmp_path_factory.mktemp("clean") / "p", clean=True)


@pytest.fixture
def arm(tmp_path: Path) -> Callable[..., str]:
    """An arm from a table that is written for it."""

    def write(name: str, rows: list[tuple[str, str, str]]) -> str:
        path = tmp_path / f"{name}.csv"
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("sample_id", "action", "label"), *rows])
        return f"file:{path}"

    return write


def oracle(project: Project) -> list[tuple[str, str, str]]:
    """Every wrong label put right."""
    rows = project.manifest().rows
    wrong = rows[(rows["split"] == "train") & (rows["given_label"] != rows["true_label"])]
    return [(sample, "relabel", label) for sample, label in zip(wrong["sample_id"], wrong["true_label"], strict=True)]


def excluded(ids: object) -> list[tuple[str, str, str]]:
    return [(str(sample), "exclude", "") for sample in list(ids)]  # type: ignore[call-overload]


def test_putting_every_wrong_label_right_helps_and_as_many_removed_at_random_does_not(
    noisy: Project, arm: Callable[..., str]
) -> None:
    found = verify(noisy, VerifyOptions(arms=(arm("oracle", oracle(noisy)), "remove:suspicion:20%")))
    said = verdict(found, "file:oracle.csv")
    assert (said.word, said.against_random) == (HELPS, "better"), said.sentence
    assert not compare(found, "random for file:oracle.csv").accuracy.above
    assert verdict(found, "remove:suspicion:20%").against_random == "better"
    assert found.test.known_noise == 0


def test_the_full_form_says_the_same(noisy: Project, arm: Callable[..., str]) -> None:
    found = verify(noisy, VerifyOptions("full", (arm("oracle", oracle(noisy)),), groups=("none",)))
    said = verdict(found, "file:oracle.csv")
    assert compare(found, "file:oracle.csv").accuracy.value > 0
    assert (said.word, said.against_random) == (HELPS, "better"), said.sentence


@pytest.mark.parametrize("form", ["quick", "full"])
def test_removing_a_class_hurts_and_the_class_is_named(form: str, clean: Project, arm: Callable[..., str]) -> None:
    rows = clean.manifest().rows
    most = rows[(rows["split"] == "train") & (rows["given_label"] == "4")]["sample_id"]
    found = verify(clean, VerifyOptions(form, (arm("no4", excluded(most)),), groups=("none",)))
    said = verdict(found, "file:no4.csv")
    assert said.word == HURTS, said.sentence
    assert [value for _, value, _ in said.pays] == ["4"]
    assert any(text.startswith("4 gives up") for text in warnings(found, "file:no4.csv"))


def test_removing_the_clearest_images_of_a_rare_class_hurts_that_class(clean: Project, arm: Callable[..., str]) -> None:
    rows = clean.manifest().rows
    train = rows[(rows["split"] == "train") & rows["given_label"].isin(["1", "8"])]["sample_id"]
    table = clean.findings().table().loc[train].sort_values("suspicion", kind="stable")
    least = table.groupby("given_label").head(50).index
    found = verify(clean, VerifyOptions(arms=(arm("best", excluded(least)),), groups=("none",)))
    per = compare(found, "file:best.csv").per["class"]
    assert min(per[name].value for name in ("1", "8")) < 0
    assert verdict(found, "file:best.csv").word != HELPS


def test_removing_at_random_from_clean_data_has_no_clear_effect(clean: Project, arm: Callable[..., str]) -> None:
    train = clean.manifest().ids[clean.manifest().train]
    arms = tuple(
        arm(f"r{seed}", excluded(np.random.default_rng(seed).choice(train, 60, replace=False))) for seed in range(12)
    )
    found = verify(clean, VerifyOptions(arms=arms))
    words = [verdict(found, name).word for name in found.arms]
    assert len(words) == 12
    assert words.count(HELPS) <= 1
    assert words.count(UNCLEAR) >= 9


def test_so_says_the_full_form(clean: Project, arm: Callable[..., str]) -> None:
    train = clean.manifest().ids[clean.manifest().train]
    removed = arm("r0", excluded(np.random.default_rng(0).choice(train, 60, replace=False)))
    found = verify(clean, VerifyOptions("full", (removed,), seeds=3, groups=("none",)))
    assert verdict(found, "file:r0.csv").word == UNCLEAR
