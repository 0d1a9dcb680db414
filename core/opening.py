"""What opens the app: `gradsift app` on your projects, `gradsift demo` on built-in data with planted errors.

`demo(…, headless=True)` ends with the figures instead: how many of the planted errors stand among the first.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from core import commands, jobs
from core.commands import Answer
from core.data.manifest import Manifest
from core.data.sources import split_spec
from core.data.thumbs import make_thumbs
from core.errors import GradSiftError, ProjectError
from core.findings import Findings
from core.jobs import THUMBS
from core.progress import Progress
from core.project import Project
from core.review.flags import rank
from core.serve import LOCAL, AppOptions, Server, greet
from core.terminal import duration

# Drawn at 64 pixels, scored at 24 in 14 epochs: a gallery within seconds. Of as many first of the ranking as labels are
# wrong, 90 % are (data seed 0); 28 pixels and 12 epochs give 86 %.
DEMO_SETTINGS: Mapping[str, Mapping[str, Any]] = {"pictograms": {"image_size": 24, "epochs": 14}, "digits": {}}


def app(
    project: Path | None,
    roots: Sequence[Path],
    *,
    read_only: bool,
    projects: Path | None = None,
    host: str = LOCAL,
    port: int | None = None,
    browser: bool = True,
    allow_code: bool = False,
    progress: Progress,
) -> Answer:
    """Run the app until it is ended.

    Args:
        project: the project to open with; its folder and its images' folder may then be read.
        roots: the folders that may be read besides; without any, the current one.
        read_only: show everything, change nothing.
        projects: where new projects are made; by default `gradsift` in the home directory.
        host: the address to listen on; the default is reached from this machine only.
        port: the port; None for the first free one from 8501 on.
        browser: open the person's browser.
        allow_code: let runs that the app starts call code of a person's own (models of the kind `code:`).
        progress: who is told where the app is.
    """
    options = replace(allowed(project, roots, read_only, projects or Path.home() / "gradsift"), allow_code=allow_code)
    server = Server(options, host, port)
    try:
        server.wait_until_up()
        greet(server, options, progress)
        where = {"project": str(options.project)} if options.project else {}
        if browser:
            server.open_browser("review" if where and Project.open(options.project or "").sifted else "load", **where)
        server.wait()
    finally:
        server.end()
    return Answer({"url": server.url()}, "The app has ended. Runs that it started go on; gradsift status tells.")


def allowed(project: Path | None, roots: Sequence[Path], read_only: bool, projects: Path | None = None) -> AppOptions:
    """Work out what the app may read: the folders named, else the current one, and what the project named needs.

    The place of new projects belongs to it too. It is made when the first of them is.

    Raises:
        GradSiftError: a folder named is none, or the project cannot be opened.
    """
    named = [root.expanduser().absolute() for root in roots] or [Path.cwd()]
    for root in named:
        if not root.is_dir():
            raise ProjectError(f"--root {root} is no folder. Name a folder that exists.")
    place = projects.expanduser().absolute() if projects else None
    named += [place] if place else []
    if project is None:
        return AppOptions(tuple(named), read_only, None, place)
    found = Project.open(project)
    _, images = split_spec(found.config.source_spec)
    source = [Path(images) if Path(images).is_dir() else Path(images).parent] if images else []
    return AppOptions((*named, found.folder, *source), read_only, found.folder, place)


def demo(
    folder: Path,
    data: str,
    *,
    headless: bool,
    host: str = LOCAL,
    port: int | None = None,
    browser: bool = True,
    progress: Progress,
) -> Answer:
    """Make or reuse the demo project and sift it; then open the app, or count the planted errors that were found.

    Raises:
        ProjectError: the folder holds another project.
    """
    if headless:
        return counted(folder, data, progress)
    target, place = folder.absolute(), Path.home() / "gradsift"
    options = AppOptions((Path.cwd(), target, place), project=target, projects=place)
    server = Server(options, host, port)
    try:
        project = demo_project(folder, data, progress)
        if not project.sifted and not jobs.state(project).running:
            jobs.start(project, [])
        server.wait_until_up()
        greet(server, options, progress)
        if browser:
            server.open_browser("review", project=str(project.folder))
        server.wait()
    finally:
        server.end()
    return Answer({"url": server.url(), "project": str(project.folder)}, f"next: gradsift show {folder}")


def free_folder(root: Path, spec: str) -> Path:
    """Return a folder below `root` for a project of a source that is not there yet, named after the source."""
    head, place = split_spec(spec)
    name = Path(place).absolute().stem if place else head.partition(":")[0]
    folder, number = root / name, 1
    while folder.exists():
        number += 1
        folder = folder.with_name(f"{name}-{number}")
    return folder


def demo_project(folder: Path, data: str, progress: Progress) -> Project:
    """Make the project of a built-in source, or open it where it is there."""
    if not (folder / "project.toml").exists():
        commands.new(folder, data, progress=progress)
        made = Project.open(folder)
        make_thumbs(made.manifest(), made.folder / THUMBS)  # something to look at while it is scored
        return made.with_config(settings=replace(made.config.settings, **DEMO_SETTINGS.get(data, {})))
    project = Project.open(folder)
    if project.config.source_spec.partition(":")[0] != data:
        raise ProjectError(f"{folder} holds another project ({project.config.source_spec}). Name an empty folder.")
    return project


def counted(folder: Path, data: str, progress: Progress) -> Answer:
    """Sift a built-in source and count the planted errors among the first of the ranking."""
    begin = time.perf_counter()
    project = demo_project(folder, data, progress)
    commands.sift(project, {}, None, progress)
    found = planted_found(project.manifest(), project.findings())
    result = {**found, "seconds": round(time.perf_counter() - begin, 2)}
    text = (
        f"{found['planted']:,} label errors were planted in the training images of {data}.\n"
        f"Among the first {found['reviewed']:,} of the ranking stand {found['found']:,} of them "
        f"({found['found'] / max(found['planted'], 1):.0%}); a random order shows {found['found_at_random']:.0f}.\n"
        f"It took {duration(result['seconds'])}.\nnext: gradsift app {folder}"
    )
    return Answer(result, text)


def planted_found(manifest: Manifest, findings: Findings) -> dict[str, int | float]:
    """Count the planted errors among as many of the ranking's first as were planted, and how many chance would show."""
    if "true_label" not in manifest.rows:
        raise GradSiftError("This source has no planted errors whose truth is known; use pictograms or digits.")
    rows = manifest.rows
    wrong = pd.Series((rows["given_label"] != rows["true_label"]).to_numpy(), index=rows["sample_id"])
    order = rank(findings.samples).index
    planted = int(wrong.loc[order].sum())
    return {
        "planted": planted,
        "reviewed": planted,
        "found": int(wrong.loc[order[:planted]].sum()),
        "found_at_random": round(planted * planted / max(len(order), 1), 1),
    }
