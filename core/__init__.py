"""GradSift: find the training images that hurt a classifier from the model's own gradients.

The public names are loaded on first use, so `import core` loads no torch:

    from core import Project, Manifest, SiftSettings, sift, Findings, Review, Recorder, export_manifest
    from core import LastLayerGradients, GradientForest
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__gradsift__ = "0.1.0"
__version__ = __gradsift__

_WHERE = {
    "Project": "core.project",
    "Manifest": "core.data.manifest",
    "SiftSettings": "core.settings",
    "sift": "core.pipeline",
    "Findings": "core.findings",
    "LastLayerGradients": "core.gradients.last_layer",
    "GradientForest": "core.scores.forest",
    "Review": "core.review.decisions",
    "Recorder": "core.models.recorder",
    "export_manifest": "core.export.manifest",
}
__all__ = sorted(_WHERE)

if TYPE_CHECKING:
    from core.data.manifest import Manifest as Manifest
    from core.export.manifest import export_manifest as export_manifest
    from core.findings import Findings as Findings
    from core.gradients.last_layer import LastLayerGradients as LastLayerGradients
    from core.models.recorder import Recorder as Recorder
    from core.pipeline import sift as sift
    from core.project import Project as Project
    from core.review.decisions import Review as Review
    from core.scores.forest import GradientForest as GradientForest
    from core.settings import SiftSettings as SiftSettings


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'core' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
