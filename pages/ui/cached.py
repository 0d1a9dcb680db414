"""The only door to Streamlit's caches: what reruns and tabs share, each entry under a key of what it is made of.

Nothing here outlives what it was read from: findings are keyed by the file that names the latest run, rows by the
manifest's time stamp.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pandas as pd
import streamlit as st

from core import library
from core.data.manifest import Manifest
from core.data.thumbs import THUMB_SIDE
from core.errors import InputError, ProjectError
from core.export.markup import Images
from core.export.slides import Slide, slides
from core.export.story import tell
from core.extras import VERSIONS, known_copies, known_facts
from core.findings import Findings
from core.jobs import Asking, JobState, ask, state
from core.lesson import Lesson, lesson
from core.library import ProjectCard
from core.pictures import Pictures, data_url
from core.preview import Preview, preview, sample_images
from core.project import Project
from core.review.decisions import Review
from core.review.marks import marked
from core.roots import Roots
from core.serve import AppOptions
from core.verify.arms import decisions_mark
from core.verify.record import Verification, stored
from core.verify.shown import Shown, show

SLIDE_SIDE = 512  # pixels of an image on a slide


@st.cache_resource(show_spinner=False)
def options() -> AppOptions:
    """Return what the app was told when it was started; the runs that it starts are held to the same."""
    told = AppOptions.from_environment()
    os.environ.update(told.environment())  # else they would take themselves for a person's own command line
    return told


@st.cache_resource(show_spinner=False)
def roots() -> Roots:
    """Return the folders that the app may read."""
    told = options()
    beside = (told.project,) if told.project else ()
    return Roots.parse([str(folder) for folder in (*told.roots, *beside)])


Stamp = tuple[int, int]  # changes when a file is written again


def stamp(path: Path) -> Stamp:
    """Return what changes when a file is written again."""
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


@st.cache_resource(show_spinner=False, max_entries=4)
def _findings(folder: str, latest: tuple[int, int], config: tuple[int, int], beside: tuple[str, ...]) -> Findings:
    project = Project.open(folder)
    found, known = project.findings(), manifest(project)
    marks = marked(found.samples, known.rows, _copies(folder, latest, beside), _facts(folder, beside))
    return replace(found, samples=marks)


def findings(project: Project) -> Findings:
    """Return the findings of the latest run with the marks of `core.review.marks`; do not change them."""
    stamps = (run_stamp(project), stamp(project.folder / "project.toml"))
    return _findings(str(project.folder), *stamps, _beside(project))


def _beside(project: Project) -> tuple[str, ...]:
    """Return what changes when copies or facts were worked out."""
    return tuple(sorted(path.name for name in VERSIONS for path in project.stages.folder.glob(f"{name}-*")))


@st.cache_resource(show_spinner=False, max_entries=4)
def _copies(folder: str, latest: tuple[int, int], beside: tuple[str, ...]) -> pd.DataFrame | None:
    with suppress(ProjectError):  # damaged: the review goes on without
        return known_copies(Project.open(folder))
    return None


@st.cache_resource(show_spinner=False, max_entries=4)
def _facts(folder: str, beside: tuple[str, ...]) -> pd.DataFrame | None:
    with suppress(ProjectError):
        return known_facts(Project.open(folder)) if beside else None
    return None


def copies(project: Project) -> pd.DataFrame | None:
    """Return the copies among the project's images, None where they were not looked for; do not change them."""
    return _copies(str(project.folder), run_stamp(project), _beside(project))


def run_stamp(project: Project) -> tuple[int, int]:
    """Return what changes when a run adds to the findings."""
    return stamp(project.folder / "stages" / "latest.json")


@st.cache_resource(show_spinner=False, max_entries=4)
def _manifest(folder: str, rows: tuple[int, int]) -> Manifest:
    return Project.open(folder).manifest()


def manifest(project: Project) -> Manifest:
    """Return the project's rows; do not change them."""
    return _manifest(str(project.folder), stamp(project.folder / "manifest.parquet"))


@st.cache_resource(show_spinner=False, max_entries=4)
def _indexed(folder: str, rows: tuple[int, int]) -> pd.DataFrame:
    return _manifest(folder, rows).rows.set_index("sample_id", drop=False)


def rows(project: Project) -> pd.DataFrame:
    """Return the manifest's rows indexed by sample_id; do not change them."""
    return _indexed(str(project.folder), stamp(project.folder / "manifest.parquet"))


def image_count(project: Project) -> int:
    """Return how many images the project has."""
    return len(manifest(project))


@st.cache_resource(show_spinner=False, max_entries=4)
def _pictures(folder: str, rows: tuple[int, int]) -> Pictures:
    project = Project.open(folder)
    found = Pictures(project, roots())
    if found.ready < 1 and options().read_only:
        name = blake2b(f"{folder}\0{rows}".encode(), digest_size=8).hexdigest()
        return Pictures(project, roots(), _aside() / name, found.manifest)
    return found


@st.cache_resource(show_spinner=False)
def _aside() -> Path:
    """Return a folder for what does not belong into a project; it ends with the app."""
    folder = Path(tempfile.mkdtemp(prefix="gradsift-app-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def pictures(project: Project) -> Pictures:
    """Return the door to the project's images; missing thumbnails are made in the background from now on."""
    found = _pictures(str(project.folder), stamp(project.folder / "manifest.parquet"))
    found.ensure(background=True)
    return found


def thumb_urls(project: Project, ids: list[str]) -> dict[str, str | None]:
    """Return a data URL for each id, None where there is no thumbnail (yet)."""
    found = pictures(project).thumbs(ids)
    return {sample: data_url(data) if data else None for sample, data in found.items()}


@st.cache_data(show_spinner=False, max_entries=64)
def _original(folder: str, sample: str, digest: str, longest: int) -> bytes:
    return _pictures(folder, stamp(Path(folder) / "manifest.parquet")).original(sample, longest)


def original_url(project: Project, sample: str, longest: int = 1024) -> str:
    """Return the image itself as a data URL.

    Raises:
        InputError: it cannot be shown; the message says why.
    """
    digest = str(rows(project)["sha256"].get(sample, ""))
    return data_url(_original(str(project.folder), sample, digest, longest))


def set_aside(content: bytes) -> Path:
    """Write something for a download into a folder that ends with the app; return where it lies."""
    path = _aside() / f"{blake2b(content, digest_size=16).hexdigest()}.html"
    path.write_bytes(content)
    return path


def larger(project: Project) -> Images:
    """Return what gives images for a screen that is seen from afar; the thumbnail where the original cannot be had."""
    door, known = pictures(project), rows(project)

    def images(ids: list[str]) -> Mapping[str, bytes | None]:
        found = dict(door.thumbs(ids))
        sides = known.loc[ids, ["width", "height"]].max(axis=1)
        for sample in ids:
            if found[sample] is None or sides[sample] > THUMB_SIDE:  # a small image is its own thumbnail
                with suppress(InputError):
                    found[sample] = door.original(sample, SLIDE_SIDE)
        return found

    return images


@st.cache_resource(show_spinner=False, max_entries=2)
def _deck(folder: str, run: tuple[int, int], log: tuple[tuple[int, int], ...]) -> list[Slide]:
    project = Project.open(folder)
    return slides(tell(project), larger(project))


def deck(project: Project) -> list[Slide]:
    """Return the slides of a project as it stands."""
    return _deck(str(project.folder), run_stamp(project), log_stamp(project))


def log_stamp(project: Project) -> tuple[tuple[int, int], ...]:
    """Return what changes with every decision."""
    log = project.review_path
    return (stamp(log), stamp(log.with_name(f"{log.name}-wal")))


@st.cache_resource(show_spinner=False, max_entries=8)
def _review(folder: str, rows: tuple[int, int], reviewer: str, read_only: bool) -> Review:
    return Review(Project.open(folder), reviewer=reviewer, read_only=read_only)


def review(project: Project, reviewer: str, read_only: bool) -> Review:
    """Return the project's decisions, to be read and added to by `reviewer`."""
    return _review(str(project.folder), stamp(project.folder / "manifest.parquet"), reviewer, read_only)


@st.cache_data(show_spinner=False, ttl=5)
def projects() -> list[ProjectCard]:
    """Return the projects below the roots, newest first."""
    return library.projects(roots())


def verifications(project: Project) -> dict[str, Path]:
    """Return the folder of the newest verification of each form, the newest first."""
    found: dict[str, Path] = {}
    for folder in stored(project.verify):
        found.setdefault(folder.name.rpartition("-")[2], folder)
    return found


@st.cache_resource(show_spinner=False, max_entries=8)
def _verification(folder: str, made: Stamp) -> Verification:
    return Verification.load(Path(folder))


def verification(folder: Path) -> Verification:
    """Return a stored verification; do not change it.

    Raises:
        ProjectError: it is damaged; the message says which folder to delete.
    """
    return _verification(str(folder), stamp(folder / "verification.json"))


@st.cache_resource(show_spinner=False, max_entries=32)
def _shown(folder: str, made: Stamp, arm: str) -> Shown:
    return show(_verification(folder, made), arm)


def shown_of(folder: Path, arm: str) -> Shown:
    """Return what a screen says of one arm of a stored verification; do not change it."""
    return _shown(str(folder), stamp(folder / "verification.json"), arm)


@st.cache_data(show_spinner=False, max_entries=8)
def _mark(folder: str, rows: Stamp, log: tuple[Stamp, ...], reviewer: str, read_only: bool) -> dict[str, int | str]:
    table = _manifest(folder, rows).rows
    train = table.loc[(table["split"] == "train").to_numpy(bool), "sample_id"]
    return decisions_mark(_review(folder, rows, reviewer, read_only).current(), map(str, train))


def mark(project: Project, reviewer: str, read_only: bool) -> dict[str, int | str]:
    """Return how many training rows the decisions change now, and a digest of what they say."""
    rows = stamp(project.folder / "manifest.parquet")
    return _mark(str(project.folder), rows, log_stamp(project), reviewer, read_only)


def scores_key(project: Project) -> str:
    """Return the key of the scores that the project has now; "" before the first run."""
    return str(findings(project).run.get("stages", {}).get("scores", "")) if project.sifted else ""


def job(project: Project) -> JobState:
    """Return where the project's run stands, read afresh."""
    return state(project)


def cost(project: Project, arguments: tuple[str, ...]) -> Asking:
    """Return the measuring of what a run with these settings would take; it goes on in the background."""
    return _measured(("sift", str(project.folder), *arguments, "--dry-run", "--json"), run_stamp(project))


def cost_of_check(project: Project, arguments: tuple[str, ...]) -> Asking:
    """Return the measuring of what a verification with these options would take; it goes on in the background."""
    told = ("verify", str(project.folder), *arguments, "--dry-run", "--json")
    return _measured(told, (run_stamp(project), log_stamp(project)))


MEASURED = 60.0  # seconds that a refusal is believed
_measuring: dict[tuple[object, ...], tuple[float, Asking]] = {}


def _measured(arguments: tuple[str, ...], stamp: object = None) -> Asking:
    """Return the answer to a measuring, asked once; one at a time, as a person waits for the last one only."""
    key, now = (arguments, stamp), time.monotonic()
    if key in _measuring:
        begun, asking = _measuring[key]
        if not isinstance(asking.poll(), str) or now - begun < MEASURED:
            return asking
    for _, other in _measuring.values():
        if other.poll() is None:
            other.cancel()
    for old in [each for each, (_, asking) in _measuring.items() if asking.poll() is None] + list(_measuring)[:-15]:
        _measuring.pop(old, None)
    _measuring[key] = (now, ask(list(arguments)))
    return _measuring[key][1]


Filled = tuple[tuple[str, str], ...]  # what a form holds besides the source itself: (field, text)


def flags(filled: Filled) -> list[str]:
    """Return what was filled in as arguments of the command line."""
    return [part for key, text in filled for part in (f"--{key.replace('_', '-')}", text)]


@st.cache_resource(show_spinner=False, ttl=60, max_entries=32)
def preview_of(spec: str, filled: Filled) -> Preview:
    """Return what a source holds, as far as its rows tell.

    Raises:
        GradSiftError: it cannot be opened, or lies outside the roots.
    """
    told = dict(filled)
    return preview(spec, roots(), told, told.get("labels"), told.get("classes"))


@st.cache_data(show_spinner=False, ttl=60, max_entries=32)
def samples_of(spec: str, filled: Filled, per_class: int) -> dict[str, bytes]:
    """Return a few small images of each class of a source."""
    return sample_images(preview_of(spec, filled), per_class)


def cost_of_source(spec: str, filled: Filled, model: str = "reference") -> Asking:
    """Return the measuring of what a run of a model on a source would take; it goes on in the background."""
    named = () if model == "reference" else ("--model", model)
    return _measured(("new", "unused", "--source", spec, *named, *flags(filled), "--dry-run", "--json"))


def asked(arguments: tuple[str, ...]) -> Asking:
    """Start a command of `gradsift` whose answer is JSON."""
    return ask(list(arguments), timeout=3600)


@st.cache_resource(show_spinner=False, max_entries=16)
def _lesson(folder: str, run: Stamp, rows: Stamp, log: tuple[Stamp, ...], reviewer: str, sample: str) -> Lesson:
    project = Project.open(folder)
    decisions = _review(folder, rows, reviewer, True).current()
    return lesson(project, findings(project), decisions, sample)


def lesson_on(project: Project, reviewer: str, sample: str) -> Lesson:
    """Return what the learn page shows of one training image.

    Raises:
        GradSiftError: there is no such image, or the last run kept nothing to take apart.
    """
    stamps = (run_stamp(project), stamp(project.folder / "manifest.parquet"), log_stamp(project))
    return _lesson(str(project.folder), *stamps, reviewer, sample)
