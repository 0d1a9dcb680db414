"""The features that the last run recorded of every row: what the quick form fits its heads on, and groups are made of.

| origin | from |
|---|---|
| backbone | the pretrained network |
| model | the person's own network, or the one that was trained here from theirs |
| reference | the reference network trained here |
| logits | what a network said, where no features were kept |

The first that is there is taken, as a run does (`core.pipeline.witnesses`), which is also why it is read from disk
and not computed: nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.axes import Array, Float
from core.errors import ProjectError
from core.project import Project

TRAINED = "features"  # the stage of a training here


class Recorded(NamedTuple):
    """Features of every row of the manifest, in its order.

    Attributes:
        origin: where they come from.
        rows: the features, as a mapped file.
        strength: of the ridge head that the run fitted on them, None where its record does not say.
        trained: whether a training here gave them, whose held-out images had a say in the epoch.
    """

    origin: str
    rows: Float[Array, "n d"]
    strength: float | None = None
    trained: bool = False


def recorded_features(project: Project) -> Recorded:
    """Open the features of the last run, as a mapped file.

    Raises:
        ProjectError: the project was never sifted, or what the run kept is gone or of other rows.
    """
    run = project.findings().run
    folders = {name: folder for name, key in stages_of(run).items() if (folder := project.stages.find(name, str(key)))}
    trained = "model" if project.config.model.startswith("train:") else "reference"
    places = (
        ("backbone", "backbone", "inputs"), ("model", "network", "inputs"), (trained, TRAINED, "features"),
        ("logits", "network", "logits"),
    )  # fmt: skip
    for origin, stage, name in places:
        if stage in folders and (path := folders[stage] / f"{name}.npy").exists():
            rows = _opened(path, len(project.manifest()), project)
            return Recorded(origin, rows, _strength(run, origin), trained=stage == TRAINED)
    raise ProjectError(
        f"The features of the last run of {project.folder} are gone. Run `gradsift sift {project.folder}` again."
    )


def stages_of(run: Mapping[str, object]) -> Mapping[str, object]:
    """The stages that a run was made of, by name; none where its record does not say."""
    stages = run.get("stages", {})
    return stages if isinstance(stages, Mapping) else {}


def _strength(run: Mapping[str, Any], origin: str) -> float | None:
    heads = run.get("heads", {})
    found = heads.get("model" if origin == "logits" else origin, {}).get("strength")
    return None if found is None else float(found)


def _opened(path: Path, rows: int, project: Project) -> Float[Array, "n d"]:
    try:
        features: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ProjectError(
            f"{path} cannot be read ({error}). Delete its folder and run `gradsift sift {project.folder}` again."
        ) from error
    if features.ndim != 2 or len(features) != rows:
        raise ProjectError(
            f"{path} holds features of {len(features):,} rows, the project has {rows:,}. "
            f"Run `gradsift sift {project.folder}` again."
        )
    return features
