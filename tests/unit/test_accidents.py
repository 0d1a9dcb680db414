"""Accidents at the worst moment: killed between two writes, a full disk, a missing device, a careless target."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core import cli, pipeline
from core.data.manifest import Manifest
from core.errors import InputError
from core.models import device
from core.models import train as training
from core.models.recorder import History
from core.models.train import Task, tidy
from core.pipeline import sift
from core.progress import Progress
from core.project import Project
from core.scores import dynamics
from core.scores.suspicion import choose_rule
from core.settings import SiftSettings
from tests.helpers import drawn_folder

QUICK = SiftSettings(epochs=2, trees=20, image_size=8, maps=False, device="cpu", precision="float32", batch_size=16)
FLAGS = ["--epochs", "2", "--trees", "20", "--image-size", "8", "--no-maps", "--device", "cpu"]


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and go on."""


def task() -> Task:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3)).astype(np.uint8)
    ids = tuple(f"s{row}" for row in range(20))
    return Task(ids, pixels, np.arange(20) % 2, np.arange(20) % 5 != 0, 2, False)


def weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("write", range(6))  # two epochs of three files
@pytest.mark.parametrize("when", ["before", "half", "after"])
def test_a_kill_at_any_write_of_a_training_leaves_the_same_files_in_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write: int, when: str
) -> None:
    compute = device.choose("cpu", "float32")
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    training.train(task(), QUICK, compute, tmp_path / "whole", Progress())
    tidy(tmp_path / "whole", 2)
    honest, count = training.replace, iter(range(100))

    def killing(path: Path, produce) -> None:
        now = next(count) == write
        if now and when == "half":
            path.with_name(f".{path.name}.part").write_bytes(b"half")
        if now and when != "after":
            raise Killed
        honest(path, produce)
        if now:
            raise Killed

    monkeypatch.setattr(training, "replace", killing)
    with pytest.raises(Killed):
        training.train(task(), QUICK, compute, tmp_path / "killed", Progress())
    monkeypatch.setattr(training, "replace", honest)
    training.train(task(), QUICK, compute, tmp_path / "killed", Progress())
    tidy(tmp_path / "killed", 2)
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.create(tmp_path / "pets", Manifest.read(f"folder:{drawn_folder(tmp_path / 'images', 40)}"))


def test_a_kill_while_tidying_costs_no_second_training(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    def half_tidied(folder: Path, epochs: int) -> None:
        (folder / "epoch-0000.npz").unlink()
        raise Killed

    monkeypatch.setattr(pipeline, "tidy", half_tidied)
    with pytest.raises(Killed):
        sift(project, settings=QUICK)
    monkeypatch.setattr(pipeline, "tidy", tidy)
    monkeypatch.setattr(pipeline, "train", lambda *_: pytest.fail("trained again"))
    assert len(sift(project, settings=QUICK)) == 40
    assert not list(project.stages.folder.rglob("epoch-*"))


def test_a_full_disk_is_an_error_and_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, project: Project) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        sift(project, settings=QUICK)
    assert [path.name for path in project.stages.folder.iterdir()] == []


def test_statistics_in_blocks_equal_those_of_all_pixels_at_once() -> None:
    mean, deviation = task().statistics
    trained = task().pixels[task().train].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, trained.mean(0))
    np.testing.assert_allclose(deviation, trained.std(0))


@pytest.mark.skipif(device.torch.cuda.is_available(), reason="this machine has the device that must be missing")
def test_a_device_that_is_not_there_is_not_remembered(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["sift", str(project.folder), "--device", "cuda", "--seed", "7"]) == 1
    assert "torch finds only: cpu" in capsys.readouterr().err
    assert Project.open(project.folder).config == project.config


def test_switches_can_be_put_back(project: Project) -> None:
    assert cli.main(["sift", str(project.folder), *FLAGS, "--no-augment"]) == 0
    assert Project.open(project.folder).config.settings.augment is False
    assert cli.main(["sift", str(project.folder), *FLAGS, "--augment"]) == 0
    assert Project.open(project.folder).config.settings.augment is True


def test_a_source_is_never_written_to(tmp_path: Path, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    sift(project, settings=QUICK)
    assert cli.main(["scores", str(project.folder), "--out", str(tmp_path / "images" / "scores.csv")]) == 1
    assert cli.main(["new", str(tmp_path / "images" / "p"), "--source", f"folder:{tmp_path / 'images'}"]) == 1
    said = capsys.readouterr().err
    assert "only read" in said
    assert said.count("\n") == len(said.splitlines())
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"left", "top"}


def test_an_exported_manifest_can_be_handed_back_as_decisions(
    tmp_path: Path, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = project.manifest().ids[project.manifest().train][:2]
    assert cli.main(["decide", str(project.folder), "--sample", first, "--action", "exclude"]) == 0
    assert cli.main(["export", str(project.folder), "--to", str(tmp_path / "out")]) == 0
    table = pd.read_csv(tmp_path / "out" / "manifest.csv", dtype=str, keep_default_na=False)
    table.loc[table["sample_id"] == second, "action"] = "unsure"
    table.assign(suspicion="high").to_csv(tmp_path / "edited.csv", index=False)
    capsys.readouterr()
    assert cli.main(["decide", str(project.folder), "--from", str(tmp_path / "edited.csv"), "--json"]) == 0
    assert '"decided": 2' in capsys.readouterr().out  # untouched rows are no decisions, held-out ones no obstacle
    words = ["--from", str(tmp_path / "edited.csv"), "--action", "keep"]
    assert cli.main(["decide", str(project.folder), *words]) == 1
    assert "Use one or the other" in capsys.readouterr().err


def test_a_dry_run_without_images_says_so(tmp_path: Path, project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path / "images").rglob("*.png"):
        path.unlink()
    assert cli.main(["sift", str(project.folder), "--dry-run"]) == 1
    assert "Bring them back" in capsys.readouterr().err


def test_a_few_held_out_images_cannot_prove_memorisation() -> None:
    assert not choose_rule(1.0, 0.5, held_out=2).memorised
    assert choose_rule(1.0, 0.5, held_out=2000).memorised


def test_a_sample_that_was_never_logged_has_no_weighted_margin() -> None:
    history = History.empty(2, 2)
    history.given_logit[:, 0], history.other_logit[:, 0] = [3.0, 5.0], [1.0, 1.0]
    np.testing.assert_array_equal(dynamics.weighted_aum(history, np.array([1.0, 3.0])), [(2 + 3 * 4) / 4, np.nan])


def test_images_that_cannot_be_read_again_are_named(tmp_path: Path, project: Project) -> None:
    lost = next((tmp_path / "images").rglob("*.png"))
    lost.unlink()
    with pytest.raises(InputError, match=lost.name):
        sift(project, settings=QUICK)
