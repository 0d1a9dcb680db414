"""A project's folder: the only module that knows what lies where on disk.

    project.toml          what was chosen: source, classes, settings, budget
    manifest.parquet      the rows as read; problems.parquet the rows set aside, each with its reason
    stages/<name>-<key>/  what was computed; the key is made of everything that went in, so equal inputs never run twice
    recorded/             what `Recorder(project)` kept of a training loop of one's own
    review.sqlite         decisions, append-only
    job/                  what a run says while it works, see `core.jobs`
    verify/<time>-<form>/ what came of a verification, see `core.verify.record`
    exports/<time>/       what left

A stage's folder is written under a temporary name and renamed when it is whole. Nothing here is ever unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w
from filelock import FileLock, Timeout

from core.data.manifest import Manifest
from core.data.sources import SourceOptions, open_or_missing
from core.errors import ProjectError, SettingsError
from core.findings import Findings
from core.settings import SiftSettings
from core.shortage import shortages

FORMAT = 1
ABANDONED = 7 * 24 * 3600.0  # seconds after which nobody goes on with half a stage
LOCK_WAIT = 2.0  # seconds: a look at the lock takes it for an instant


@dataclass(frozen=True)
class Stages:
    """A folder of finished stages, each under its name and the key of its inputs."""

    folder: Path

    def find(self, name: str, key: str) -> Path | None:
        """Return the folder of a finished stage, or None."""
        path = self.folder / f"{name}-{key}"
        return path if path.is_dir() else None

    @contextmanager
    def write(self, name: str, key: str, *, resume: bool = False) -> Iterator[Path]:
        """Yield a working folder that becomes the stage's when the block ends without an error.

        With `resume` an interrupted earlier attempt is found again, otherwise it is cleared away first.
        """
        work = self.folder / f".{name}-{key}.part"
        if not resume and work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True, exist_ok=True)
        try:
            with shortages(f"the stage {name}", self.folder):
                yield work
                _flush(work)
        except BaseException:
            if not resume:
                shutil.rmtree(work, ignore_errors=True)
            raise
        work.rename(self.folder / f"{name}-{key}")
        for abandoned in self.folder.glob(f".{name}-*.part"):
            if not resume or _age(abandoned) > ABANDONED:  # a younger one may be at work, or be gone on with
                shutil.rmtree(abandoned, ignore_errors=True)
        _flush_folder(self.folder)


@dataclass(frozen=True)
class ProjectConfig:
    """What `project.toml` holds."""

    source_spec: str
    source_options: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    model: str = "reference"
    budget: str = "5%"
    labels: str = ""
    settings: SiftSettings = field(default_factory=SiftSettings)


@dataclass(frozen=True)
class Project:
    """A data set under review: open one with `Project.open`, start one with `Project.create`."""

    folder: Path
    config: ProjectConfig

    @classmethod
    def create(cls, folder: str | Path, manifest: Manifest, config: ProjectConfig | None = None) -> Project:
        """Write a new project, whole or not at all.

        Raises:
            ProjectError: the folder exists and is not empty, or cannot be written.
        """
        target = Path(folder).absolute()
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ProjectError(f"{target} exists and is not empty. Choose another folder, or delete it first.")
        options = {name: value for name, value in asdict(manifest.source.options).items() if value not in (None, ())}
        base = config or ProjectConfig(manifest.source.spec)
        config = replace(base, source_spec=manifest.source.spec, source_options=options, classes=manifest.classes)
        work = target.with_name(f".{target.name}.part")
        try:
            shutil.rmtree(work, ignore_errors=True)
            (work / "stages").mkdir(parents=True)
            (work / "exports").mkdir()
            manifest.save(work / "manifest.parquet")
            manifest.problems.to_parquet(work / "problems.parquet", index=False)
            _write_config(work / "project.toml", config)
            _flush(work)
            work.replace(target)
            _flush_folder(target.parent)
        except OSError as error:
            shutil.rmtree(work, ignore_errors=True)
            raise ProjectError(f"The project {target} cannot be written: {error}. Nothing was left behind.") from error
        return cls(target, config)

    @classmethod
    def open(cls, folder: str | Path) -> Project:
        """Open an existing project.

        Raises:
            ProjectError: there is none, it is damaged, or a newer version of this tool made it.
        """
        path = Path(folder).absolute()
        try:
            stored = tomllib.loads((path / "project.toml").read_text("utf-8"))
        except FileNotFoundError as error:
            raise ProjectError(
                f"{path} is no project: it has no project.toml. Make one with `gradsift new`."
            ) from error
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ProjectError(
                f"{path / 'project.toml'} cannot be read: {error}. Mend it or make a new project."
            ) from error
        return cls(path, _read_config(path, stored))

    def with_config(self, **changes: Any) -> Project:
        """Return the project with other choices, written down."""
        config = replace(self.config, **changes)
        _write_config(self.folder / "project.toml", config)
        return Project(self.folder, config)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in the order of the label codes."""
        return self.config.classes

    @property
    def stages(self) -> Stages:
        """Where finished stages lie."""
        return Stages(self.folder / "stages")

    @property
    def review_path(self) -> Path:
        """The log of decisions."""
        return self.folder / "review.sqlite"

    @property
    def exports(self) -> Path:
        """Where exports go unless told otherwise."""
        return self.folder / "exports"

    @property
    def job(self) -> Path:
        """Where a run writes down how it goes."""
        return self.folder / "job"

    @property
    def verify(self) -> Path:
        """Where verifications are kept."""
        return self.folder / "verify"

    @property
    def recorded(self) -> Path:
        """Where `Recorder(project)` keeps what it logs."""
        return self.folder / "recorded"

    def manifest(self) -> Manifest:
        """Read the rows, with the source that gives their images."""
        try:
            source = open_or_missing(self.config.source_spec, SourceOptions(**self.config.source_options))
            return Manifest.load(
                self.folder / "manifest.parquet", self.folder / "problems.parquet", source, self.config.classes
            )
        except OSError as error:
            raise ProjectError(
                f"The manifest of {self.folder} cannot be read: {error}. Make the project anew."
            ) from error

    @property
    def sifted(self) -> bool:
        """Whether scores of this project are on disk."""
        return self._latest.exists()

    def findings(self) -> Findings:
        """Open the findings of the last run.

        Raises:
            ProjectError: the project has not been sifted, or the findings are damaged.
        """
        if not self.sifted:
            raise ProjectError(f"{self.folder.name} has no scores yet. Run `gradsift sift {self.folder}` first.")
        try:
            names = dict(json.loads(self._latest.read_text()))
            paths = {stage: self.folder / "stages" / name for stage, name in names.items()}
            scores = paths["scores"]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ProjectError(
                f"{self._latest} is damaged. Run `gradsift sift {self.folder}` to write it anew."
            ) from error
        return Findings.load(scores, paths.get("neighbours"), paths.get("map"))

    @property
    def run(self) -> Mapping[str, Any]:
        """What the last run was made of (empty before the first)."""
        return self.findings().run if self.sifted else {}

    def remember(self, stages: Mapping[str, Path]) -> None:
        """Note which finished stages make up the run that screens and exports show."""
        _write_text(self._latest, json.dumps({stage: path.name for stage, path in stages.items()}, indent=1))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project for a run. The kernel frees it when the process dies.

        Raises:
            ProjectError: another process holds it.
        """
        with exclusive(self.folder / ".lock", self.folder):
            yield

    @property
    def busy(self) -> bool:
        """Whether a run holds the project now."""
        return held(self.job / ".lock") or held(self.folder / ".lock")

    @property
    def _latest(self) -> Path:
        return self.folder / "stages" / "latest.json"


@contextmanager
def exclusive(lock: Path, folder: Path) -> Iterator[None]:
    """Hold a lock file; a look at it (`held`) that is going on just then is waited for.

    Raises:
        ProjectError: another process holds it.
    """
    holder = FileLock(lock, timeout=LOCK_WAIT)
    try:
        holder.acquire()
    except Timeout as error:
        raise ProjectError(f"Another run is working on {folder}. Wait for it, or stop it first.") from error
    try:
        yield
    finally:
        holder.release()


def held(lock: Path) -> bool:
    """Whether a process holds a lock file. Looks do not hinder each other and need no right to write."""
    try:
        with lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or one that cannot be read
        return False
    return False


def stage_key(stage: str, version: int, inputs: Mapping[str, Any]) -> str:
    """Return the key of a stage: a digest of its name, the version of its format, and everything that goes in."""
    text = json.dumps({"stage": stage, "version": version, "inputs": inputs}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _read_config(path: Path, stored: Mapping[str, Any]) -> ProjectConfig:
    version = stored.get("format")
    if version != FORMAT:
        raise ProjectError(f"{path} is of format {version!r}, this version reads {FORMAT}. Update GradSift.")
    try:
        options = stored["source"].get("options", {})
        SourceOptions(**options)  # an unknown name is told now, not when the images are read
        return ProjectConfig(
            source_spec=stored["source"]["spec"],
            source_options=options,
            classes=tuple(stored["classes"]),
            model=stored["model"],
            budget=str(stored["budget"]),
            labels=stored["source"].get("labels", ""),
            settings=SiftSettings.from_dict(stored.get("settings", {})),
        )
    except (KeyError, TypeError, SettingsError) as error:
        raise ProjectError(f"{path / 'project.toml'} is damaged: {error}. Mend it or make a new project.") from error


def _write_config(path: Path, config: ProjectConfig) -> None:
    settings = {name: value for name, value in config.settings.as_dict().items() if value not in (None, [])}
    source = {"spec": config.source_spec, "options": dict(config.source_options), "labels": config.labels}
    document = {
        "format": FORMAT, "model": config.model, "budget": config.budget, "classes": list(config.classes),
        "source": source, "settings": settings,
    }  # fmt: skip
    _write_text(path, tomli_w.dumps(document))


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _age(folder: Path) -> float:
    """Seconds since something was last written into a folder; 0 where it is gone."""
    try:
        return time.time() - folder.stat().st_mtime
    except OSError:
        return 0.0


def _flush(folder: Path) -> None:
    """Bring every file of a folder to disk before the folder gets its final name."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as handle:
                os.fsync(handle.fileno())
    _flush_folder(folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
