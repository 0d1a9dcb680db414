"""Accidents at the worst moment: killed between two writes, a full disk, a missing device, a careless target."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from core import cli
from core.data.images import decode
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
from core.scores.suspicion import memorised
from core.settings import SiftSettings
from tests.accidents import SMALL, on_entering, scores_of, small_disk, starved, told, unfinished
from tests.helpers import QUICK_FLAGS, drawn_folder

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

    monkeypatch.setattr("core.pipeline.run.tidy", half_tidied)
    with pytest.raises(Killed):
        sift(project, settings=QUICK)
    monkeypatch.setattr("core.pipeline.run.tidy", tidy)
    monkeypatch.setattr("core.pipeline.training.train", lambda *_: pytest.fail("trained again"))
    assert len(sift(project, settings=QUICK)) == 40
    assert not list(project.stages.folder.rglob("epoch-*"))


STAGES = ("pixels", "features", "neighbours", "scores", "map")


def fails_at(stage: str, error: Exception, project: Project) -> str:
    """Sift, with an error when a stage begins to write; return what is said of it."""

    def fail(_: Path) -> None:
        raise error

    with on_entering(stage, fail):
        found = told("sift", project.folder, *QUICK_FLAGS, "--maps")
    assert found.status == 1
    assert not unfinished(project.folder)
    return found.said


@pytest.mark.parametrize(
    ("error", "begins"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "gradsift: The disk is full ("),
        (OSError("4000 requested and 992 written"), "gradsift: The disk is full ("),
        (
            MemoryError("Unable to allocate 9 GiB"),
            "gradsift: Memory ran out in the stage {} (Unable to allocate 9 GiB)",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "gradsift: Memory ran out in the stage {} (Def"),
    ],
)
def test_what_runs_out_at_any_stage_is_said_and_costs_only_that_stage(
    error: Exception, begins: str, project: Project
) -> None:
    for at, stage in enumerate(STAGES):
        said = fails_at(stage, error, project)
        assert said.startswith(begins.format(stage))
        assert f"the stage {stage}" in said
        assert said.endswith(("the same command goes on.", "Smaller images (--image-size) need less."))
        whole = {path.name.split("-")[0] for path in project.stages.folder.glob("[!.]*-*")}
        assert whole == set(STAGES[:at])
    assert told("sift", project.folder, *QUICK_FLAGS, "--maps").status == 0


def test_a_real_full_disk_at_each_stage(tmp_path: Path) -> None:
    """One run through a disk that is full at every stage, with no room and with half of what the stage takes."""
    images = drawn_folder(tmp_path / "images", 120)
    Project.create(tmp_path / "whole", Manifest.read(f"folder:{images}"))
    assert told("sift", tmp_path / "whole", *SMALL).status == 0
    sizes = {
        path.name.split("-")[0]: sum(file.stat().st_size for file in path.iterdir())
        for path in (tmp_path / "whole" / "stages").glob("*-*")
    }
    with small_disk(64) as disk:
        if disk is None:
            pytest.skip("a small disk can be mounted by root only")
        project = Project.create(disk.folder / "p", Manifest.read(f"folder:{images}"))
        for stage, room in [(name, size) for name in STAGES for size in (0, sizes[name] // 2)]:
            with on_entering(stage, lambda _, room=room: disk.leave(room)):
                found = told("sift", project.folder, *SMALL)
            assert found.status == 1, (stage, room)
            assert found.said.startswith("gradsift: The disk is full (0 MB free in "), found.said
            assert f"the stage {stage} could not be written" in found.said
            assert told("status", project.folder).status == 0
            disk.clear()
            assert not unfinished(project.folder)
        assert told("sift", project.folder, *SMALL).status == 0
        assert scores_of(project.folder) == scores_of(tmp_path / "whole")


def test_a_real_full_disk_for_everything_else_that_is_written(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 40)
    with small_disk(16) as disk:
        if disk is None:
            pytest.skip("a small disk can be mounted by root only")
        root, project = disk.folder, disk.folder / "p"
        assert told("new", project, "--source", f"folder:{images}").status == 0
        disk.leave(64 * 1024)
        found = told("sift", project, *QUICK_FLAGS)
        assert found.said.startswith(
            f"gradsift: The run needs about 10 MB of disk and {project} has 0 MB free. Make ro"
        )
        disk.clear()
        assert told("sift", project, *QUICK_FLAGS).status == 0
        sample = next(iter(Project.open(project).findings().samples.query("split == 'train'").index))
        commands: dict[str, tuple[list[object], str]] = {
            "decide": (["decide", project, "--sample", sample, "--action", "exclude"], "nothing was recorded"),
            "export": (["export", project, "--to", root / "out"], "nothing was left there"),
            "report": (["report", project, "--to", root / "r.html"], "nothing was left there"),
            "scores": (["scores", project, "--out", root / "s.csv"], "The disk is full"),
            "manifest": (["new", root / "q", "--source", f"folder:{images}"], "Nothing was left behind"),
            "thumbs": (["sift", project, *QUICK_FLAGS], "cannot be written: No space left on device"),
        }
        for name, (words, expected) in commands.items():
            if name == "thumbs":
                next((project / "thumbs").glob("*.pack")).unlink()
            disk.leave(4096)
            before = sorted(path.name for path in root.iterdir())
            found = told(*words)
            assert (found.status, expected in found.said) == (1, True), (name, found.said)
            assert sorted(path.name for path in root.iterdir()) == before
            assert told("status", project).status == 0
            disk.clear()
            assert not unfinished(root)
            assert told(*words).status == 0, name
        assert list((project / "thumbs").glob("*.pack"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much address space is held")
def test_a_memory_limit_ends_a_run_in_one_line_and_the_same_command_goes_on(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 200)
    project = Project.create(tmp_path / "p", Manifest.read(f"folder:{images}"))
    results = starved(project.folder, {"pixels": 1, "features": 2, "none": 0})
    for stage, status, said in results[:2]:
        assert (status, said.startswith(f"gradsift: Memory ran out in the stage {stage}")) == (1, True), said
    assert results[2][:2] == ("none", 0)
    assert Project.open(project.folder).sifted
    assert not unfinished(project.folder)


def test_an_image_that_finds_no_memory_is_not_taken_for_a_bad_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = drawn_folder(tmp_path / "images", 12)
    honest = Image.Image.convert

    def starving(*_: object, **__: object) -> Image.Image:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "convert", starving)
    found = told("new", tmp_path / "p", "--source", f"folder:{images}")
    assert found.said.startswith("gradsift: Memory ran out (decoding left/000.png). What is on disk is whole")
    assert not (tmp_path / "p").exists()
    with pytest.raises(InputError, match="the image does not fit into memory"):  # one that is only looked at
        decode((images / "left" / "000.png").read_bytes())
    monkeypatch.setattr(Image.Image, "convert", honest)
    assert told("new", tmp_path / "p", "--source", f"folder:{images}").status == 0


def test_an_image_that_vanishes_while_the_source_is_read_is_set_aside(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path / "images", 12)
    lost = images / "left" / "004.png"
    manifest = Manifest.read(f"folder:{images}", progress=Progress(lambda _: lost.unlink(missing_ok=True)))
    assert manifest.problems[["sample_id", "reason"]].values.tolist() == [["left/004.png", "no such file"]]
    assert len(manifest) == 11


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (lambda path: path.unlink(), "no such image in the folder"),
        (lambda path: path.write_bytes(b""), "the file is empty"),
        (lambda path: path.write_bytes(path.with_name("002.png").read_bytes()), "not the image it was"),
        (lambda path: (path.unlink(), path.mkdir()), "no such image in the folder"),
    ],
    ids=["gone", "emptied", "another image", "a folder"],
)
def test_an_image_that_vanishes_during_the_run_is_named_and_the_run_goes_on_when_it_is_back(
    happens: Callable[[Path], object], why: str, tmp_path: Path, project: Project
) -> None:
    lost = tmp_path / "images" / "left" / "004.png"
    kept = lost.read_bytes()
    with on_entering("pixels", lambda _: happens(lost)):
        found = told("sift", project.folder, *QUICK_FLAGS)
    assert found.said == (
        "gradsift: 1 of 40 images are gone or have changed since the project was made (the first, left/004.png: "
        f"{why}). Bring them back, or make the project anew."
    )
    assert not unfinished(project.folder)
    lost.rmdir() if lost.is_dir() else lost.unlink(missing_ok=True)
    lost.write_bytes(kept)
    assert told("sift", project.folder, *QUICK_FLAGS).status == 0


def test_images_may_vanish_once_they_are_decoded(tmp_path: Path, project: Project) -> None:
    """From the second stage on nothing reads them: scores, report and export are made; only pictures are missing."""
    with on_entering("features", lambda _: shutil.rmtree(tmp_path / "images")):
        assert told("sift", project.folder, *QUICK_FLAGS).status == 0
    for words in (["show"], ["export", "--to", tmp_path / "out"], ["report", "--to", tmp_path / "r.html"]):
        assert told(words[0], project.folder, *words[1:]).status == 0


def test_statistics_in_blocks_equal_those_of_all_pixels_at_once() -> None:
    mean, deviation = task().statistics
    trained = task().pixels[task().train].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, trained.mean(0))
    np.testing.assert_allclose(deviation, trained.std(0))


@pytest.mark.skipif(device.torch.cuda.is_available(), reason="this machine has the device that must be missing")
def test_a_device_that_is_not_there_is_not_remembered(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    before = Project.open(project.folder).config
    assert cli.main(["sift", str(project.folder), "--device", "cuda", "--seed", "7"]) == 1
    assert "torch finds only: cpu" in capsys.readouterr().err
    assert Project.open(project.folder).config == before


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
    assert memorised("it", 1.0, 0.5, 2) is None
    assert memorised("it", 1.0, 0.5, 2000)


def test_a_sample_that_was_never_logged_has_no_weighted_margin() -> None:
    history = History.empty(2, 2)
    history.given_logit[:, 0], history.other_logit[:, 0] = [3.0, 5.0], [1.0, 1.0]
    np.testing.assert_array_equal(dynamics.weighted_aum(history, np.array([1.0, 3.0])), [(2 + 3 * 4) / 4, np.nan])


def test_images_that_cannot_be_read_again_are_named(tmp_path: Path, project: Project) -> None:
    lost = next((tmp_path / "images").rglob("*.png"))
    lost.unlink()
    with pytest.raises(InputError, match=lost.name):
        sift(project, settings=QUICK)
