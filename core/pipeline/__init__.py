"""`sift(manifest, model, settings) -> Findings`: the only room that knows the order of the stages.

| file | holds |
|---|---|
| `planning.py` | which stages a run consists of, and their keys |
| `run.py` | one pass over them |
| `training.py` | the stages that a training here fills |
| `passes.py` | the stages that a finished network fills |
| `witnesses.py` | from their folders to what was seen of the samples |

Each stage has a key made of its inputs and settings and of its format's version, and is written whole or not at all: a
finished stage is never computed twice, a stopped training goes on where it was, and a new budget asks for nothing.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from core.data.manifest import Manifest
from core.findings import Findings
from core.models.specs import Permissions
from core.pipeline.planning import Kept, Plan, kept_in, plan, plan_of
from core.pipeline.run import Means, Run
from core.progress import Progress
from core.project import Project, Stages
from core.settings import SiftSettings

__all__ = ["Plan", "plan", "plan_of", "sift"]


def sift(
    manifest: Manifest | Project,
    model: str | None = None,
    settings: SiftSettings | None = None,
    *,
    stages: Stages | None = None,
    progress: Progress | None = None,
    permissions: Permissions | None = None,
) -> Findings:
    """Score every image of a manifest.

    Args:
        manifest: the rows, or a project: then its manifest and settings, and its folder keeps what was computed.
        model: a model spec (`core.models.specs`): `reference` trains the reference network on the given labels, others
            bring a network, or what one said, from elsewhere. None: the project's own, else `reference`.
        settings: how; the defaults are stated beside them (a project's own, for a project).
        stages: where finished stages are kept and looked for; without one nothing is kept.
        progress: who is told, and who may ask for a stop.
        permissions: whether a person's code may be run and weights be fetched; None: as the environment says.

    Returns:
        Findings, one row per image of the manifest, held-out rows included.

    Raises:
        InputError: the manifest has nothing to train on, or lacks the images that the model needs.
        ModelError: the model is unknown, cannot be loaded, does not fit the classes, or does not train.
        SettingsError: the settings and the model do not go together.
        Stopped: the person asked for it; with `stages` the same call goes on from there.
    """
    project = manifest if isinstance(manifest, Project) else None
    rows = project.manifest() if project else manifest
    assert isinstance(rows, Manifest)
    settings = settings or (project.config.settings if project else SiftSettings())
    model = model or (project.config.model if project else "reference")
    stages = stages or (project.stages if project else None)
    holder: AbstractContextManager[Any] = nullcontext() if stages else TemporaryDirectory(prefix="gradsift-")
    with project.lock() if project else nullcontext(), holder as temporary:
        means = Means(
            stages or Stages(Path(temporary)), progress or Progress(), permissions or Permissions.from_environment(),
            project, project.remember if project else None,
        )  # fmt: skip
        planned = plan(rows, settings, model, kept_in(project) if project else Kept())
        folders = Run(rows, settings, planned, means).all()
        findings = Findings.load(folders["scores"], folders["neighbours"], folders.get("map"))
        return findings if stages else findings.in_memory()
