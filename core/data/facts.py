"""Facts about the images themselves, whatever their labels: dark, light, blurry, near-uniform, of odd size or shape.

They come from cleanvision (Apache-2.0), an extra: `pip install gradsift[facts]`. Nothing else of GradSift needs it. A
fact is no verdict: a night scene is dark and may be exactly what a network has to learn.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from core.data.manifest import Manifest
from core.data.sources.base import ROOTS, is_outside
from core.errors import InputError
from core.progress import Progress

FACTS: Mapping[str, str] = {  # cleanvision's name to ours
    "dark": "dark",
    "light": "bright",
    "blurry": "blurry",
    "low_information": "near-uniform",
    "odd_size": "odd size",
    "odd_aspect_ratio": "odd shape",
    "grayscale": "grey",
}
FEW = 2_000  # images below which starting processes costs more than it saves


def image_facts(manifest: Manifest, progress: Progress) -> pd.DataFrame:
    """Look at every image of a manifest.

    Args:
        manifest: the rows; an image that is gone or has changed is left out.
        progress: who is told.

    Returns:
        One line per image: sample_id, and for each of `FACTS` "is_<fact>" and "score_<fact>" (cleanvision's, 0 to 1,
        low where the fact is true).

    Raises:
        InputError: cleanvision is not installed, or no image can be read.
    """
    lab = _imagelab()
    with TemporaryDirectory(prefix="gradsift-facts-") as folder:
        names = _laid_out(manifest, Path(folder), progress)
        if not names:
            raise InputError("None of the images can be read now, so there are no facts of them. Bring them back.")
        progress.report("image facts", 0, len(names), "images")
        with contextlib.redirect_stderr(io.StringIO()):  # its own progress bar
            found = lab(filepaths=list(names))
            found.find_issues({name: {} for name in FACTS}, n_jobs=1 if len(names) < FEW else None, verbose=False)
        progress.report("image facts", len(names), len(names), "images")
        issues: pd.DataFrame = found.issues.reindex(list(names))
    columns = {f"is_{name}": issues[f"is_{name}_issue"].fillna(False).to_numpy(bool) for name in FACTS}
    scores = {f"score_{name}": issues[f"{name}_score"].to_numpy(float) for name in FACTS}
    return pd.DataFrame({"sample_id": list(names.values()), **columns, **scores})


def _imagelab() -> Any:
    try:
        return importlib.import_module("cleanvision").Imagelab
    except ImportError as error:
        raise InputError(
            f"Image facts need cleanvision, which is not installed ({error}). Install it: pip install gradsift[facts]."
        ) from error


def _laid_out(manifest: Manifest, folder: Path, progress: Progress) -> dict[str, str]:
    """Lay the images out under plain names and return name to id: links to files, the others written down.

    Plain, because cleanvision reads more into a path than a file's name (`a::b`, `s3://`).
    """
    known = manifest.rows[["sample_id", "filepath", "sha256"]].astype(object).itertuples(index=False, name=None)
    files = {str(sample): (str(path or ""), digest) for sample, path, digest in known}
    names: dict[str, str] = {}
    ids, roots = [str(sample) for sample in manifest.ids], os.environ.get(ROOTS, "")
    for done, (sample, data) in enumerate(manifest.source.read(ids), 1):
        path, digest = files.get(sample, ("", None))
        if isinstance(data, bytes) and hashlib.sha256(data).hexdigest() == digest:
            place = folder / f"{len(names):08d}"
            if path and not is_outside(path, roots):
                place.symlink_to(path)
            else:
                place.write_bytes(data)
            names[str(place)] = sample
        if done % 512 == 0:
            progress.report("reading images", done, len(ids), "images")
    in_order = {sample: name for name, sample in names.items()}
    return {in_order[sample]: sample for sample in ids if sample in in_order}
