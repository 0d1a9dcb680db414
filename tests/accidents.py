"""Accidents that several tests and `tests/bench/accidents.py` share: a small disk, a memory limit, what was said."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from core import cli
from core.project import Project, Stages
from tests.helpers import ROOT

SMALL = ("--epochs", "2", "--trees", "20", "--image-size", "16", "--device", "cpu")
LARGER = ("--epochs", "1", "--trees", "20", "--image-size", "64", "--no-maps", "--device", "cpu")
PAGE = resource.getpagesize()


@dataclass(frozen=True)
class Told:
    """What a command left: its exit status, and the last line of standard error."""

    status: int
    said: str


def told(*arguments: object) -> Told:
    """Run a command in this process; an error that the command line does not know comes out of here."""
    errors = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        status = cli.main([str(argument) for argument in arguments])
    return Told(status, (errors.getvalue().splitlines() or [""])[-1])


@dataclass(frozen=True)
class SmallDisk:
    """A disk of a few megabytes; `leave` fills it up."""

    folder: Path

    def leave(self, room: int) -> None:
        """Fill the disk up to so many bytes."""
        self.clear()
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(self.folder).free - room))

    def clear(self) -> None:
        """Make room again."""
        (self.folder / "filler").unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk | None]:
    """Mount a disk in memory; None where this user may not."""
    folder = Path(tempfile.mkdtemp(prefix="gradsift-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield SmallDisk(folder) if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextlib.contextmanager
def on_entering(stage: str, happens: Callable[[Path], None]) -> Iterator[None]:
    """Let something happen when a run begins to write a stage; it is given the folder that the stage writes into."""
    honest = Stages.write

    @contextlib.contextmanager
    def write(stages: Stages, name: str, key: str, *, resume: bool = False) -> Iterator[Path]:
        with honest(stages, name, key, resume=resume) as folder:
            if name == stage:
                happens(folder)
            yield folder

    Stages.write = write  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Stages.write = honest  # type: ignore[method-assign]


def unfinished(folder: Path) -> list[str]:
    """Names of half-written files and folders; a training that goes on later keeps its own folder."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith((".part", ".tmp")))
    return sorted(name for name in names if not name.startswith("stages/.features-"))


def starved(project: Path, megabytes: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Sift in a process of its own that gets only so much more memory when it enters a stage; (stage, status, said).

    A process with one thread per library: OpenMP ends the process where a thread finds no room.
    """
    code = "import sys; from tests import accidents; accidents.starve(*sys.argv[1:])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(project), json.dumps(dict(megabytes))],
        cwd=project, env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if done.returncode:
        raise AssertionError(f"the process ended with {done.returncode}: {done.stderr[-2000:]}")
    return [tuple(line) for line in json.loads(done.stdout)]


def starve(project: str, megabytes: str) -> None:
    """What `starved` runs: one command per stage, under a limit that is set when the stage begins."""
    import sklearn.linear_model  # noqa: F401 (what is loaded later would fail to load, which is no matter of ours)

    import core.estimate
    import core.pipeline
    import core.scores.table  # noqa: F401

    results = []
    for stage, room in json.loads(megabytes).items():
        with on_entering(stage, lambda _, room=room: _limit_memory(room)):
            found = told("sift", project, *LARGER)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        results.append((stage, found.status, found.said))
    print(json.dumps(results))


def _limit_memory(megabytes: int) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE
    resource.setrlimit(resource.RLIMIT_AS, (held + megabytes * 2**20, resource.RLIM_INFINITY))


def scores_of(project: Path) -> dict[str, bytes]:
    """The bytes of the scores: equal bytes, equal run."""
    folder = next(Project.open(project).stages.folder.glob("scores-*"))
    return {name: (folder / name).read_bytes() for name in ("samples.parquet", "head_probabilities.npy", "curves.npy")}
