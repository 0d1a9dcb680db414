"""`kill -9` at random moments of a run, then the same command: the same bits, no half file."""

import random
import signal
from pathlib import Path

import pandas as pd
import pytest

from core.data.manifest import Manifest
from core.project import Project
from tests.helpers import command, drawn_folder, gradsift, interrupted

FLAGS = ("--epochs", "8", "--trees", "20", "--image-size", "8", "--no-maps", "--device", "cpu")


def scores(project: Project) -> dict[str, bytes]:
    (folder,) = project.stages.folder.glob("scores-*")
    return {name: (folder / name).read_bytes() for name in ("samples.parquet", "head_probabilities.npy", "curves.npy")}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes], pd.DataFrame]:
    root = tmp_path_factory.mktemp("undisturbed")
    project = Project.create(root / "p", Manifest.read(f"folder:{drawn_folder(root / 'images', 40)}"))
    told = gradsift("sift", project.folder, *FLAGS, cwd=root)
    assert told.returncode == 0, told.stderr
    return root / "images", scores(project), project.findings().table()


@pytest.mark.parametrize("seed", [0])
def test_killed_three_times_the_run_ends_in_the_same_bits(
    seed: int, undisturbed: tuple[Path, dict[str, bytes], pd.DataFrame], tmp_path: Path
) -> None:
    images, expected, table = undisturbed
    project = Project.create(tmp_path / "p", Manifest.read(f"folder:{images}"))
    chance = random.Random(seed)
    moments = ["pixels-*", f".features-*.part/epoch-{chance.randrange(1, 4):04d}.npz",
               f".features-*.part/epoch-{chance.randrange(4, 8):04d}.npz"]  # fmt: skip
    for moment in moments:

        def reached(pattern: str = moment) -> bool:
            return any(project.stages.folder.glob(pattern))

        arguments = command("sift", project.folder, *FLAGS)
        status, errors = interrupted(arguments, tmp_path, reached, signal.SIGKILL, chance.uniform(0, 0.05))
        assert status == -signal.SIGKILL, f"the run ended before it could be killed at {moment}: {errors}"
        assert not project.busy  # the kernel gave the lock back
        for whole in project.stages.folder.glob("[!.]*-*"):
            assert (whole / "run.json").exists()
    told = gradsift("sift", project.folder, *FLAGS, cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    pd.testing.assert_frame_equal(project.findings().table(), table, check_exact=True)
    assert scores(project) == expected
    assert not list(project.stages.folder.rglob("*.part"))
