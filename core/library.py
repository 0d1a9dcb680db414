"""The projects that lie in the roots: what a start screen lists, and the way one of them is opened.

`projects` looks at the roots and two levels below; `open_project` opens one by its path. Both read nothing outside.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from core.data.sources.base import OUTSIDE
from core.errors import GradSiftError, InputError
from core.project import Project
from core.roots import Roots

LEVELS = 2  # below a root
MAX_FOLDERS = 2_000
MAX_ENTRIES = 20_000  # of one folder: a folder of images is not read to its end
MAX_FILES = 20_000  # of one project
MAX_TOML = 2**20  # bytes
COUNT_SECONDS = 0.3  # a log that takes longer to count is busy or no log
BUILT_IN = ("digits", "pictograms")
DECIDED = """
SELECT COUNT(*) FROM (
  SELECT action, MAX(seq) FROM log WHERE kind = 'decide' AND batch NOT IN (SELECT batch FROM undone) GROUP BY sample_id
) WHERE action != 'undecided'
"""


@dataclass(frozen=True)
class ProjectCard:
    """What a list of projects shows of one.

    Attributes:
        folder: where it lies, links followed.
        name: the folder's name.
        images: usable images; classes: how many; decided: samples with a decision in effect.
        sifted: whether scores are there; running: whether a run holds it now.
        changed_at: when a decision, a run or a choice was last written.
        source: the spec of its source; demo: whether that is built in.
        error: why it cannot be opened, or None; the figures are then 0.
    """

    folder: Path
    name: str
    changed_at: datetime
    images: int = 0
    classes: int = 0
    sifted: bool = False
    decided: int = 0
    running: bool = False
    source: str = ""
    demo: bool = False
    error: str | None = None


def projects(roots: Roots) -> list[ProjectCard]:
    """Return the projects in the roots, the last changed first. What is wrong with one stands on its card."""
    found = {folder: card(folder, roots) for folder in _folders(roots)}
    return sorted(found.values(), key=lambda each: (-each.changed_at.timestamp(), str(each.folder)))


def card(folder: Path, roots: Roots) -> ProjectCard:
    """Return what a list shows of the project in a folder."""
    changed = _changed(folder)
    try:
        project = _opened(folder, roots)
        return ProjectCard(
            folder, folder.name, changed,
            images=_images(folder), classes=len(project.classes), sifted=project.sifted, decided=_decided(project),
            running=_running(project), source=project.config.source_spec,
            demo=project.config.source_spec.partition(":")[0] in BUILT_IN,
        )  # fmt: skip
    except (GradSiftError, OSError, ValueError, RecursionError) as error:
        return ProjectCard(folder, folder.name, changed, error=str(error))


def open_project(text: str, roots: Roots) -> Project:
    """Open the project at a path that a person or a browser names.

    Raises:
        InputError: the path leads out of the roots, or a link in the project does.
        ProjectError: there is no project, or it is damaged.
    """
    folder = roots.resolve(text)
    project = _opened(folder, roots)
    for path in _links(folder):
        if not roots.holds(path):
            raise InputError(f"The link {path.relative_to(folder)} of the project {folder} is {OUTSIDE}.")
    return project


def _opened(folder: Path, roots: Roots) -> Project:
    """Open a project whose own files are files inside the roots: no pipe is waited for, no link followed out."""
    for name, most in (("project.toml", MAX_TOML), ("manifest.parquet", None), ("problems.parquet", None)):
        path = folder / name
        if not os.path.lexists(path):
            continue
        try:
            with roots.opened(path) as handle:
                size = os.fstat(handle).st_size
        except InputError as error:
            raise InputError(f"{name} of the project {folder} cannot be read: {error}.") from error
        if most is not None and size > most:
            raise InputError(f"{name} of the project {folder} holds {size:,} bytes; {most:,} is the limit.")
    return Project.open(folder)


def _folders(roots: Roots) -> Iterator[Path]:
    """Yield the folders with a project.toml, each once; hidden folders and links are passed over."""
    level, seen = list(roots.folders), 0
    for depth in range(LEVELS + 1):
        deeper: list[Path] = []
        for folder in level:
            seen += 1
            if seen > MAX_FOLDERS:
                return
            if os.path.lexists(folder / "project.toml"):
                yield folder
            elif depth < LEVELS:
                deeper += _below(folder)
        level = deeper


def _below(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            inside = [each.name for each in islice(entries, MAX_ENTRIES) if _is_open_folder(each)]
    except OSError:
        return []
    return [folder / name for name in sorted(inside)]


def _is_open_folder(entry: os.DirEntry[str]) -> bool:
    return not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False)


def _links(folder: Path) -> Iterator[Path]:
    """Yield the links in a project's folder, as long as it holds no more files than a project does."""
    left = MAX_FILES
    for base, folders, files in os.walk(folder):
        left -= len(folders) + len(files)
        if left < 0:
            raise InputError(f"The project {folder} holds more than {MAX_FILES:,} files. Take out what is not its own.")
        for name in (*folders, *files):
            path = Path(base) / name
            if path.is_symlink():
                yield path


def _changed(folder: Path) -> datetime:
    names = ("project.toml", "review.sqlite", "review.sqlite-wal", "stages/latest.json")
    latest = 0.0
    for name in names:
        try:
            latest = max(latest, (folder / name).lstat().st_mtime)
        except OSError:
            continue
    return datetime.fromtimestamp(min(latest, time.time() + 86_400), UTC)


def _images(folder: Path) -> int:
    try:
        return int(pq.read_metadata(folder / "manifest.parquet").num_rows)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"The manifest of {folder} is missing or damaged. Make the project anew.") from error


def _decided(project: Project) -> int:
    """Count the decisions in effect; nothing is written beside the log. 0 where it is not there."""
    path = project.review_path
    if not _is_file(path):
        return 0
    at_rest = not any(os.path.lexists(f"{path}{end}") for end in ("-wal", "-journal"))
    uri = f"file:{quote(str(path))}?mode=ro" + ("&immutable=1" if at_rest else "")
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=COUNT_SECONDS)) as db:
            limit = time.monotonic() + COUNT_SECONDS
            db.set_progress_handler(lambda: time.monotonic() > limit, 10_000)
            if not db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()[0]:
                return 0
            return int(db.execute(DECIDED).fetchone()[0])
    except sqlite3.DatabaseError as error:
        raise InputError(f"The decisions of {project.folder} cannot be counted now ({error}).") from error


def _running(project: Project) -> bool:
    return _is_file(project.folder / ".lock") and project.busy


def _is_file(path: Path) -> bool:
    """Whether there is a regular file, not a link to one."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
