"""What is known of the images beside their scores: copies of each other, and facts about the pictures themselves.

Both are worked out once, kept among the project's stages, and found again by the key of what they were made of:

    make_copies(project)  make_facts(project)     work it out, or read what is there
    known_copies(project) known_facts(project)    read what is there, else None

Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from core.axes import Array
from core.data.copies import SIDE, find_copies, shrunk
from core.data.facts import image_facts
from core.data.images import decode, read_decoded
from core.data.manifest import Manifest
from core.data.pixels import image_digest
from core.errors import InputError, ProjectError
from core.findings import Findings
from core.progress import Progress
from core.project import Project, stage_key

VERSIONS = {"copies": 1, "facts": 1}
FILE = "table.parquet"
COPY_COLUMNS = ("sample_id", "group", "copy_of", "kind", "difference")


def known_copies(project: Project, findings: Findings | None = None) -> pd.DataFrame | None:
    """The copies that were worked out for the latest run: `COPY_COLUMNS`, one line per image that has a copy."""
    return _read(project, "copies", _copies_key(findings or project.findings()))


def make_copies(project: Project, progress: Progress = Progress()) -> pd.DataFrame:  # noqa: B008 (frozen)
    """The copies among a project's images, worked out now unless they are there; see `core.data.copies`.

    Raises:
        ProjectError: the project has no scores yet, or another run holds it.
    """
    findings = project.findings()

    def make() -> pd.DataFrame:
        manifest = project.manifest()
        near = findings.neighbours.get("features")
        small = _small(project, manifest, findings, progress)
        found = find_copies(_digests(manifest), small, None if near is None else np.asarray(near.rows), progress)
        ids = manifest.ids
        named = {"sample_id": ids[found["row"].to_numpy(int)], "copy_of": ids[found["other"].to_numpy(int)]}
        return found.assign(**named)[list(COPY_COLUMNS)]

    return _made(project, "copies", _copies_key(findings), make)


def known_facts(project: Project, manifest: Manifest | None = None) -> pd.DataFrame | None:
    """The facts that were worked out for a project's images, as `core.data.facts.image_facts` gives them."""
    return _read(project, "facts", _facts_key(manifest or project.manifest()))


def make_facts(project: Project, progress: Progress = Progress()) -> pd.DataFrame:  # noqa: B008 (frozen)
    """The facts about a project's images, worked out now unless they are there.

    Raises:
        InputError: cleanvision is not installed, or no image can be read.
        ProjectError: another run holds the project.
    """
    manifest = project.manifest()
    return _made(project, "facts", _facts_key(manifest), lambda: image_facts(manifest, progress))


def _copies_key(findings: Findings) -> str:
    run = findings.run
    made_of = {"manifest": run.get("manifest"), "neighbours": dict(run.get("stages", {})).get("neighbours")}
    return stage_key("copies", VERSIONS["copies"], made_of)


def _facts_key(manifest: Manifest) -> str:
    return stage_key("facts", VERSIONS["facts"], {"images": image_digest(manifest)})


def _digests(manifest: Manifest) -> Array:
    return manifest.rows["sha256"].fillna("").to_numpy(object)


def _small(project: Project, manifest: Manifest, findings: Findings, progress: Progress) -> Array:
    """Small pictures of all images: from the pixels that a training read, else from the images themselves.

    An image that cannot be read stays black, which is a copy of nothing.
    """
    small = np.zeros((len(manifest), SIDE, SIDE, 3), np.uint8)
    stage = project.stages.find("pixels", str(dict(findings.run.get("stages", {})).get("pixels")))
    if stage is not None:
        for row, pixels in enumerate(np.load(stage / "pixels.npy", mmap_mode="r")):
            small[row] = shrunk(pixels)
        return small
    present = [str(sample) for sample, digest in zip(manifest.ids, _digests(manifest), strict=True) if digest]
    place = {sample: row for row, sample in enumerate(manifest.ids)}
    if present:
        for sample, found in read_decoded(
            manifest.source, present, lambda data: shrunk(decode(data)), "copies", progress
        ):
            if not isinstance(found, InputError):
                small[place[sample]] = found
    return small


def _made(project: Project, name: str, key: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    if (found := _read(project, name, key)) is not None:
        return found
    with project.lock(), project.stages.write(name, key) as folder:
        table = make()
        table.to_parquet(folder / FILE, index=False)
    return table


def _read(project: Project, name: str, key: str) -> pd.DataFrame | None:
    folder = project.stages.find(name, key)
    if folder is None:
        return None
    path: Path = folder / FILE
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ProjectError(f"{path} is damaged ({error}). Delete its folder; it is worked out anew.") from error
