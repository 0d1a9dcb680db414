"""The installed launcher `gradsift.py`: it finds our `core`, and says whose it found otherwise. CI tests the wheel."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from core import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """The launcher as it is installed: under its own name, outside of `core`."""
    place = tmp_path / "installed"
    place.mkdir()
    return Path(shutil.copy(ROOT / "core" / "launch.py", place / "gradsift.py"))


def launch(launcher: Path, *flags: str, path: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    command = [sys.executable, *flags, str(launcher), "--version"]
    return subprocess.run(
        command, env=environment, cwd=launcher.parent, capture_output=True, text=True, check=False
    )  # fmt: skip


def test_our_core_runs(launcher: Path) -> None:
    done = launch(launcher, path=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"gradsift {__version__}\n", "")


@pytest.mark.parametrize("files", [["__init__.py"], ["other.py"]], ids=["package", "folder"])
def test_a_foreign_core_is_named_in_one_line(launcher: Path, tmp_path: Path, files: list[str]) -> None:
    foreign = tmp_path / "foreign" / "core"
    foreign.mkdir(parents=True)
    for name in files:
        (foreign / name).write_text("")
    done = launch(launcher, "-S", path=foreign.parent)  # -S: a mere folder gives way to any installed package
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "`core` leads to another package" in done.stderr
    assert str(foreign) in done.stderr
    assert "PYTHONPATH" in done.stderr


def test_no_core_at_all_is_one_line(launcher: Path, tmp_path: Path) -> None:
    done = launch(launcher, "-S", path=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "Install gradsift again" in done.stderr


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert f"### {__version__}" in (ROOT / "README.md").read_text("utf-8")
    assert project["scripts"] == {"gradsift": "gradsift:main"}
